"""Opening a released checkpoint of 1 GB, against a bare torch.load of the same file."""

import tempfile
from pathlib import Path

import torch

from ..core.autoencoders.vqgan import VQGAN, VQGANConfig
from ..core.loading import load
from ..core.priors.transformer import Transformer, TransformerConfig
from .report import Report
from .timing import alternate, in_new_process, peak_memory_of, seconds_of

ABOUT = """\
A checkpoint as Lightning writes it, with random weights: a transformer guided by coordinates and its f16 first stage,
1 GB of tensors, and an optimizer's state beside them. *Ours* is a bundle ready to sample, from the path alone; the
baseline is `torch.load(weights_only=True)`, which gives a dictionary. Each runs in a new process with the file in the
system's cache; memory is how much the process grows at most, divided by the size of the model's tensors."""

FULL = (
    VQGANConfig(codebook_size=1024),
    TransformerConfig(layers=26, width=768, heads=16, codebook_size=1024, vocab_size=1024),
)
QUICK = (
    VQGANConfig(channels=32, channel_mult=(1, 1), blocks_per_level=1, attention_levels=(), codebook_size=64),
    TransformerConfig(layers=1, width=64, heads=16, codebook_size=64, vocab_size=64),
)
YAML = """\
model:
  target: taming.models.cond_transformer.Net2NetTransformer
  params:
    transformer_config: {params: {n_head: 16}}
    cond_stage_config: {target: taming.modules.misc.coord.CoordStage, params: {n_embed: VOCABULARY}}
"""


def write_checkpoint(path: Path, vqgan: VQGANConfig, prior: TransformerConfig) -> int:
    """Both models under the released names; the bytes of their tensors."""
    torch.manual_seed(0)
    stage, transformer = VQGAN(vqgan).state_dict(), Transformer(prior).state_dict()
    state = {f"first_stage_model.{name.replace('codebook', 'quantize')}": tensor for name, tensor in stage.items()}
    for name, tensor in transformer.items():
        if ".attn.qkv." not in name:
            state[f"transformer.{name}"] = tensor
            continue
        for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            state[f"transformer.{name.replace('qkv', part)}"] = third.clone()
    size = sum(tensor.nbytes for tensor in state.values())
    moments = {i: {"exp_avg": torch.zeros(1000), "exp_avg_sq": torch.zeros(1000)} for i in range(100)}
    torch.save({"epoch": 1, "optimizer_states": [{"state": moments}], "state_dict": state}, path)
    path.with_suffix(".yaml").write_text(YAML.replace("VOCABULARY", str(prior.vocab_size)), encoding="utf-8")
    return size


def bare_load(path: Path) -> object:
    """The dictionary that torch makes of it."""
    return torch.load(path, weights_only=True)


LOADERS = {"ours": load, "torch.load": bare_load}


def run_once(name: str, path: Path) -> tuple[float, int]:
    """Seconds, and the bytes by which the process grew at most."""
    seconds = []
    memory = peak_memory_of(lambda: seconds.append(seconds_of(lambda: LOADERS[name](path))))
    return seconds[0], max(1, memory)


def measure(quick: bool) -> Report:
    """Peak memory and time; the checkpoint is written to a temporary folder and removed."""
    memory: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        size = write_checkpoint(path, *(QUICK if quick else FULL))

        def candidate(name: str) -> float:
            seconds, grown = in_new_process(run_once, name, path)
            memory[name] = max(memory.get(name, 0), grown)
            return seconds

        times = alternate({name: lambda name=name: candidate(name) for name in LOADERS}, 1 if quick else 3)
    ratios = {
        "ours, peak memory / size of the tensors": memory["ours"] / size,
        "torch.load, peak memory / size of the tensors": memory["torch.load"] / size,
        "torch.load / ours, time": times["torch.load"] / times["ours"],
    }
    seconds = {f"{name}, time": value for name, value in times.items()}
    used = {f"{name}, memory": value for name, value in memory.items()}
    return Report("load", ABOUT, ratios, seconds, used | {"size of the tensors": size})
