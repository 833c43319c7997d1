"""Everything that runs on an accelerator, on a pretended one: nothing is mixed, and the results are the CPU's."""

import dataclasses

import pytest
import torch

from tessera.core.autoencoders.strips.decoder import decode_in_strips
from tessera.core.canvas.atlas import codebook_atlas
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import decode_canvas, decode_latents, encode_canvas, encode_latents, quantize_latents
from tessera.core.canvas.edits import blend
from tessera.core.conditions.base import TokenCondition
from tessera.core.conditions.layout import Box
from tessera.core.images import metrics
from tessera.core.prepared import (
    expand_batch,
    prepare_image_condition,
    prepare_label_condition,
    prepare_layout_condition,
    prepare_unconditional,
    show_condition,
)
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.provenance import weights_fingerprint
from tessera.core.sampling.estimate import estimate_run
from tessera.core.sampling.likelihood import canvas_nll
from tessera.core.sampling.loop import sample, sample_steps
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState
from tessera.core.sampling.trace import SamplingTrace
from tessera.core.sampling.windows import Sliding
from tessera.tests.devices.pretended import Pretended, pretended, put


@pytest.fixture(params=["cuda", "mps"])
def device(request, monkeypatch):
    with pretended(monkeypatch, request.param) as (where, _):
        yield where


def moved(bundle, where: torch.device):
    for module in (bundle.vqgan, bundle.prior, bundle.condition_vqgan):
        if module is not None:
            put(module, where)
    return bundle


def free(bundle):
    """A bundle of edges, which may be left out."""
    return dataclasses.replace(
        bundle, condition_config=dataclasses.replace(bundle.condition_config, unconditional=True)
    )


def picture(height: int = 16, width: int = 16, batch: int = 1, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(batch, channels, height, width, generator=generator) * 2 - 1


def guides(tiny_bundle):
    """A bundle of every kind and what guides it."""
    square = picture()
    yield free(tiny_bundle("edges")), lambda b: prepare_image_condition(b, "edges", square)
    yield tiny_bundle("depth"), lambda b: prepare_image_condition(b, "depth", square)
    labels = torch.arange(16 * 16).view(1, 16, 16) % 5
    yield tiny_bundle("segmentation"), lambda b: prepare_image_condition(b, "segmentation", labels)
    yield tiny_bundle("low-resolution"), lambda b: prepare_image_condition(b, "low-resolution", picture(8, 8))
    yield tiny_bundle("class"), lambda b: prepare_label_condition(b, torch.tensor([3]))
    yield tiny_bundle("layout"), lambda b: prepare_layout_condition(b, [Box(1, 0, 0, 0.5, 0.5)], b.empty_canvas(1))
    yield tiny_bundle("coordinates"), lambda b: prepare_unconditional(b, None)
    yield tiny_bundle("none"), lambda b: prepare_unconditional(b, None)


def test_every_condition_guides_the_same_codes_on_a_device(device, make_bundle):
    for bundle, guide in guides(make_bundle):
        results = []
        for model in (bundle, moved(bundle, device)):
            prepared = guide(model)
            if model.condition_vqgan is not None:
                assert show_condition(model, prepared).device.type == "cpu"
            condition, canvas = expand_batch(prepared, None, 2)
            canvas.known[:, :-1] = True  # the last row is enough
            state = sample(model.prior, condition, canvas, 5, SamplingSettings(top_k=7, top_p=0.9, min_p=0.01))
            results.append(state.indices.cpu())
        assert torch.equal(*results), bundle.condition_config.kind


@pytest.mark.parametrize(
    ("size", "sliding", "guidance", "pictures"),
    [
        ((3, 4), Sliding(), 2.0, 2),
        ((5, 6), Sliding(stride=2), 2.0, 2),
        ((5, 4), "both", 1.0, 1),
        ((5, 3), Sliding(), 1.0, 1),
    ],
)
def test_every_way_of_sampling_draws_the_same_codes_on_a_device(device, make_bundle, size, sliding, guidance, pictures):
    bundle = free(make_bundle("edges"))
    sliding, wrap = (Sliding(), sliding) if sliding == "both" else (sliding, "none")
    start = Canvas.empty(1, *size).with_wrap(wrap)
    start.indices[0, 0, 1], start.known[0, 0, 1] = 3, True
    temperature = torch.linspace(0, 1.5, size[0] * size[1]).view(size)
    settings = SamplingSettings(temperature=temperature, guidance_scale=guidance)
    edges = picture(size[0] * 4, size[1] * 4)
    results = []
    for model in (bundle, moved(bundle, device)):
        guide = prepare_image_condition(model, "edges", edges)
        condition, canvas = expand_batch(guide, start, pictures)
        plan = estimate_run(model.prior, condition, canvas, settings, sliding)
        assert plan.cells >= size[0] * size[1] - 1
        state = sample(model.prior, condition, canvas, 11, settings, sliding)
        results.append([value.cpu() for value in (state.indices, state.entropy, state.log_probability)])
        for value in (state.indices, state.known, state.draws):
            assert value.device == model.prior.device
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1:], results[1][1:])


def test_pictures_codes_and_measures_are_the_same_on_a_device(device, make_bundle):
    bundle = free(make_bundle("edges"))
    vqgan, large = bundle.vqgan, picture(30, 42, 2)
    results = []
    for model in (bundle, moved(bundle, device)):
        canvas = encode_canvas(vqgan, large)
        latents = encode_latents(vqgan, large)
        forgotten = canvas.forget(torch.arange(8 * 11).view(8, 11) % 3 == 0)
        mixed = blend(vqgan, canvas, canvas.roll(1, 2).with_padding(canvas.padding), torch.rand(1, 9, 9).round())
        prefix = prepare_image_condition(model, "edges", large[:1])
        results.append(
            [
                canvas.indices,
                quantize_latents(vqgan, latents).indices,
                decode_canvas(vqgan, forgotten),
                decode_latents(vqgan, latents[:1], wrap="both"),
                decode_in_strips(vqgan, latents[:1].to(vqgan.quant_conv.weight.device)).cpu(),
                bundle.decode(canvas).cpu(),
                mixed.indices if results else results,
                codebook_atlas(vqgan, "use", canvas),
                canvas_nll(model.prior, prefix.condition, canvas.pick(torch.tensor([0]))).cpu(),
            ]
        )
        assert weights_fingerprint(vqgan) == weights_fingerprint(make_bundle("edges").vqgan)
    del results[0][6], results[1][6]
    torch.testing.assert_close(*results)
    a, b = large.to(device), large.flip(-1).to(device)
    torch.testing.assert_close(metrics.psnr(a, b).cpu(), metrics.psnr(large, large.flip(-1)))
    torch.testing.assert_close(metrics.ssim(a, b).cpu(), metrics.ssim(large, large.flip(-1)))


def test_forecast_is_kept_where_the_prior_is(device, make_bundle, tmp_path):
    bundle = moved(make_bundle("none"), device)
    guide, trace = prepare_unconditional(bundle, None), SamplingTrace.blank(4, 4, 16, device)
    state = SamplingState.start(guide.canvas, 1)
    for _ in sample_steps(bundle.prior, guide.condition, state, SamplingSettings(), trace=trace):
        pass
    trace.save(tmp_path / "forecast.safetensors", torch.zeros(16, 3, dtype=torch.uint8), 4)
    assert trace.log_probabilities.isfinite().all()


def test_pretended_device_refuses_what_a_real_one_refuses(device):
    here = torch.ones(2, 3, device=device)
    for refused in (
        lambda: here + torch.ones(2, 3),
        lambda: torch.cat([here, torch.ones(1, 3)]),
        lambda: torch.nn.functional.linear(here, torch.ones(4, 3)),
        lambda: torch.ones(2, 3)[here.long()],
        lambda: torch.rand(2, device=device, generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match="device"):
            refused()
    with pytest.raises(TypeError, match="numpy"):
        here.numpy()
    if device.type == "mps":
        for refused in (
            here.double,
            lambda: here.to(torch.float64),
            lambda: torch.ones(2, device=device).sum().double(),
        ):
            with pytest.raises(TypeError, match="float64"):
                refused()
    assert (here * 2 + torch.tensor(1.0)).device == device  # numbers without dimensions may be mixed


def test_pretended_device_counts_copies_and_waits(monkeypatch):
    with pretended(monkeypatch, "cuda") as (device, counted):
        here = torch.ones(4, 4).to(device)
        assert (counted.copies, counted.waits) == (1, 1)
        launches = counted.launches
        here[:, 1:].t()
        assert counted.launches == launches  # views cost nothing
        here.add_(1).relu()
        assert counted.launches == launches + 2
        assert (counted.copies, counted.waits) == (1, 1)
        here[:, [0, 1]]  # a list becomes an index on the device
        assert counted.copies == 2
        assert float(here.sum()) == 32
        here[here > 0]
        assert counted.waits == 4
        here.cpu()
        assert (counted.copies, counted.waits) == (3, 5)
    assert Pretended.on is None


def count_tokens(monkeypatch, layers: int, settings: SamplingSettings, lookahead: int) -> tuple[float, float, float]:
    """Copies, waits and launches a token of a window that stands still, beyond the first ones."""
    torch.manual_seed(0)
    config = TransformerConfig(
        layers=layers, width=16, heads=2, codebook_size=20, vocab_size=40, prefix_length=1, window=6
    )
    with pretended(monkeypatch, "cuda") as (device, counted):
        prior = put(Transformer(config).eval(), device)
        condition = TokenCondition(torch.tensor([[21]]), unconditional=TokenCondition(torch.tensor([[20]])))
        state = SamplingState.start(Canvas.empty(1, 6, 6), 3)
        for progress in sample_steps(prior, condition, state, settings, lookahead=lookahead):
            if progress.done == 10:
                before = counted.copies, counted.waits, counted.launches
            if progress.done == 30:
                after = counted.copies, counted.waits, counted.launches
    return tuple((b - a) / 20 for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "settings",
    [SamplingSettings(), SamplingSettings(temperature=0.8, top_k=7, top_p=0.9, min_p=0.01, guidance_scale=2.0)],
)
def test_a_token_neither_copies_nor_waits(monkeypatch, settings):
    copies, waits, few = count_tokens(monkeypatch, 2, settings, 1)
    assert (copies, waits) == (0, 0)
    _, _, many = count_tokens(monkeypatch, 6, settings, 1)
    assert (many - few) / 4 <= 11  # launches a layer
    copies, waits, _ = count_tokens(monkeypatch, 2, settings, 0)
    assert copies + waits <= 2  # a pass over several cells reads back how many of them are decided
