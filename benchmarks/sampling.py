"""Sampling 256 cells after a 256-token condition, against three ways to know how fast that is."""

import sys
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.canvas.canvas import Canvas
from ..core.conditions.base import Condition
from ..core.conditions.label import ClassCondition
from ..core.conditions.spatial import SpatialCondition
from ..core.prefix import Prefix
from ..core.priors.base import Prior
from ..core.priors.llama import Llama, LlamaConfig
from ..core.priors.packed_linear import blocked_linear
from ..core.priors.transformer import Transformer, TransformerConfig
from ..core.sampling.loop import sample_steps
from ..core.sampling.settings import SamplingSettings
from ..core.sampling.state import SamplingState
from .report import Report
from .shapes import LLAMAGEN_B, QUICK_LLAMAGEN, QUICK_SHAPES, SHAPES, random_prior
from .timing import alternate, seconds_of

ABOUT = """\
256 image tokens after a 256-token condition, one picture, 1024 codes. *Ours* is the sampling loop with all that
belongs to it: random numbers, warping, statistics. Compared with

- the naive loop: a full forward pass for every token, timed at 8 lengths spread over the sequence and integrated;
- `generate` of the library transformers: its GPT-2 of equal size with its cache and SDPA attention;
- the floor set by reading all weights of the linear layers once a token, at the fastest rate that matrix-vector
  products of these matrices reached here, block by block or by torch.mv. Here, ours is the time of a token after
  the condition is read.

*A pass of 16 rows* evaluates 16 cells of a window at once, as guesses are, against one cell; the best of eight.

*LlamaGen-B* is the shape of that release, 256 cells of 16384 codes after a class, unguided, against its own loop: each
code by one pass through the modules with a cache, the 100 likeliest, softmax and multinomial. The loop restated here
attends to the filled part of its cache alone, the original to all of it."""


class SamplingTime(NamedTuple):
    """Seconds of one run of the sampling loop."""

    total: float
    per_token: float  # after the first cell, which has to wait for the condition


def time_sampling(prior: Transformer, pictures: int = 1) -> SamplingTime:
    """Sample `pictures` of one condition, from the random numbers to the last cell."""
    side = prior.config.window
    condition = SpatialCondition(torch.randint(prior.config.vocab_size, (1, side, side)), (side, side))
    return time_loop(prior, condition, pictures)


def time_loop(prior: Prior, condition: Condition, pictures: int = 1) -> SamplingTime:
    """Fill one window of each of `pictures`."""
    start = time.perf_counter()
    state = SamplingState.start(Canvas.empty(pictures, prior.window, prior.window), seed=0)
    ends = [time.perf_counter() for _ in sample_steps(prior, condition, state, SamplingSettings(top_k=100))]
    return SamplingTime(ends[-1] - start, (ends[-1] - ends[0]) / (len(ends) - 1))


@torch.inference_mode()
def sample_as_llamagen(prior: Llama, label: int) -> Tensor:
    """The cells [1, n] of one window as LlamaGen's own loop draws them, one pass and one multinomial a code."""
    cells = torch.zeros(1, 0, dtype=torch.long)
    prefix = Prefix.of(torch.full((1, 1), label))
    logits, cache = prior.start(prefix, cells, 1, prior.window**2)
    assert cache is not None
    for place in range(prior.window**2):
        kept = logits[:, -1].topk(min(100, prior.codebook_size))
        code = kept.indices.gather(1, kept.values.softmax(-1).multinomial(1))  # [1, 1]
        cells = torch.cat([cells, code], 1)
        logits = prior.evaluate(prior.tok_embeddings(code), cache.prefix, cache.past, place + 1, 1)
    return cells


@torch.inference_mode()
def time_rows(prior: Transformer, repeats: int = 8) -> list[float]:
    """The best of a pass over one cell of a window, and over 16, after its condition and half of its cells."""
    config = prior.config
    half, decoder = config.window**2 // 2, prior.decoder()
    _, cache = prior.start(Prefix.of(torch.zeros(1, config.prefix_length, dtype=torch.long)),
                           torch.zeros(1, half, dtype=torch.long), 1, config.window**2)  # fmt: skip
    assert cache is not None

    def one_pass(count: int) -> None:
        cache.rollback(half)
        decoder(torch.zeros(1, count, dtype=torch.long), cache)

    timed = [[seconds_of(lambda count=count: one_pass(count)) for count in (1, min(16, half))] for _ in range(repeats)]
    return [min(times) for times in zip(*timed, strict=True)]


@torch.inference_mode()
def time_naive(prior: Transformer, lengths: int = 8) -> float:
    """The loop without a cache: every token costs a forward pass over all before it."""
    config = prior.config
    prefix = torch.randint(config.vocab_size, (1, config.prefix_length))
    cells = torch.randint(config.codebook_size, (1, config.window**2))

    def token(done: int) -> None:
        prior(prefix, cells[:, : done + 1])[:, -1].softmax(-1).multinomial(1)

    count = cells.shape[1]
    middles = [int((i + 0.5) * count / lengths) for i in range(lengths)]
    return sum(seconds_of(lambda n=n: token(n)) for n in middles) / lengths * count


def gpt2_like(config: TransformerConfig | LlamaConfig) -> nn.Module:
    """GPT-2 of the same size. It needs no torchvision, and one built for another torch would keep it from loading."""
    hidden = "torchvision" not in sys.modules
    if hidden:
        sys.modules["torchvision"] = None
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    finally:
        if hidden:
            del sys.modules["torchvision"]
    theirs = GPT2Config(
        vocab_size=config.vocab_size, n_positions=config.prefix_length + config.window**2, n_embd=config.width,
        n_layer=config.layers, n_head=config.heads, activation_function="gelu", attn_implementation="sdpa",
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(theirs).eval()


@torch.inference_mode()
def time_generate(theirs: nn.Module, config: TransformerConfig | LlamaConfig) -> float:
    """transformers' own loop with its cache, sampling among the 100 most likely codes."""
    prefix = torch.randint(1, config.vocab_size, (1, config.prefix_length))
    cells = config.window**2
    options = {"do_sample": True, "top_k": 100, "max_new_tokens": cells, "min_new_tokens": cells, "pad_token_id": 0}
    return seconds_of(lambda: theirs.generate(prefix, attention_mask=torch.ones_like(prefix), **options))


def linear_layers(prior: Transformer) -> list[torch.nn.Linear]:
    """In the order that a token meets them."""
    return [module for module in prior.modules() if isinstance(module, torch.nn.Linear)]


@torch.inference_mode()
def time_matrix_vector(prior: Transformer, by_blocks: bool) -> float:
    """One matrix-vector product with every weight matrix; together they are larger than the caches."""
    layers = linear_layers(prior)
    rows = {layer.in_features: torch.randn(1, layer.in_features) for layer in layers}

    def product(layer: torch.nn.Linear) -> Tensor:
        return torch.mv(layer.weight, rows[layer.in_features][0])

    products = [blocked_linear(layer) if by_blocks else lambda x, layer=layer: product(layer) for layer in layers]
    inputs = [rows[layer.in_features] for layer in layers]
    return seconds_of(lambda: [multiply(x) for multiply, x in zip(products, inputs, strict=True)])


def measure(quick: bool) -> Report:
    """Ratios for each shape of prior."""
    ratios, seconds = {}, {}
    for shape, config in (QUICK_SHAPES if quick else SHAPES).items():
        prior, theirs = random_prior(config), gpt2_like(config)
        weights = sum(layer.weight.nbytes for layer in linear_layers(prior))
        time_matrix_vector(prior, True)
        floors = {
            "matrix-vector, block by block": lambda prior=prior: time_matrix_vector(prior, True),
            "matrix-vector, torch.mv": lambda prior=prior: time_matrix_vector(prior, False),
        }
        runs = []
        candidates = {
            "ours": lambda prior=prior, runs=runs: runs.append(time_sampling(prior)) or runs[-1].total,
            "generate": lambda theirs=theirs, config=config: time_generate(theirs, config),
            "naive loop": lambda prior=prior: time_naive(prior),
            **{name: lambda floor=floor: min(floor() for _ in range(5)) for name, floor in floors.items()},
        }
        times = alternate(candidates, 1 if quick else 2)
        times["ours, a token"] = min(run.per_token for run in runs)
        times["a pass of one row"], times["a pass of 16 rows"] = time_rows(prior)
        floor = min(times[name] for name in floors)
        ratios |= {
            f"{shape}: naive loop / ours": times["naive loop"] / times["ours"],
            f"{shape}: generate / ours": times["generate"] / times["ours"],
            f"{shape}: ours / floor, a token": times["ours, a token"] / floor,
            f"{shape}: a pass of 16 rows / one row": times["a pass of 16 rows"] / times["a pass of one row"],
        }
        rates = {name: f"{name} ({weights / times[name] / 1e9:.1f} GB/s)" for name in floors}
        seconds |= {f"{shape}: {rates.get(name, name)}": value for name, value in times.items()}
    name, times = "LlamaGen-B", time_llamagen(QUICK_LLAMAGEN if quick else LLAMAGEN_B)
    ratios[f"{name}: its own loop / ours"] = times["its own loop"] / times["ours"]
    seconds |= {f"{name}: {candidate}": value for candidate, value in times.items()}
    return Report("sampling", ABOUT, ratios, seconds)


def time_llamagen(config: LlamaConfig) -> dict[str, float]:
    """Seconds of our loop and of theirs with a prior of this shape."""
    torch.manual_seed(0)
    prior = Llama(config).eval().requires_grad_(False)
    condition = ClassCondition(torch.tensor([0]), config.prefix_rows, offset=config.codebook_size)
    return alternate(
        {
            "ours": lambda: time_loop(prior, condition).total,
            "its own loop": lambda: seconds_of(lambda: sample_as_llamagen(prior, config.codebook_size)),
        },
        1,
    )
