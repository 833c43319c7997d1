import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tessera.benchmarks.timing import peak_memory_of
from tessera.core.autoencoders.strips import layers as strip_layers
from tessera.core.autoencoders.strips import memory as strip_memory
from tessera.core.autoencoders.strips.decoder import decode_in_strips, decode_indices
from tessera.core.autoencoders.strips.layers import GroupMoments
from tessera.core.autoencoders.strips.memory import decode_memory
from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig

ROOT = Path(__file__).resolve().parents[3]
TINY = {
    "channels": 32, "channel_mult": (1, 1, 2), "blocks_per_level": 1, "attention_levels": (2,),
    "latent_channels": 8, "codebook_size": 16, "code_dim": 6,
}  # fmt: skip
SHAPES = [
    {},
    {"channel_mult": (1, 2), "attention_levels": (0, 1), "blocks_per_level": 2},  # attention at the full resolution
    {"channel_mult": (2, 1), "attention_levels": (), "patch_size": 2, "image_channels": 1},
    {"codebook": "gumbel", "channel_mult": (1,)},
]


def tiny(**changes) -> VQGAN:
    torch.manual_seed(0)
    model = VQGAN(VQGANConfig(**{**TINY, "attention_levels": (), **changes})).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name:  # as trained, they differ from channel to channel
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(16, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("strip", [1, 3000])
@pytest.mark.parametrize("changes", SHAPES)
def test_picture_in_strips_is_the_picture(changes, strip, monkeypatch):
    monkeypatch.setattr(strip_layers, "STRIP", strip)
    monkeypatch.setattr(strip_layers, "QUERIES", strip)
    model, indices = tiny(**changes), codes(2, 3, 5)
    found = decode_in_strips(model, model.codebook.lookup(indices))
    torch.testing.assert_close(found, model.decode_indices(indices), atol=1e-4, rtol=1e-4)
    model = model.double()
    found = decode_in_strips(model, model.codebook.lookup(indices))
    torch.testing.assert_close(found, model.decode_indices(indices), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("wrap", "rolls"), [("x", (0, 2)), ("y", (3, 0)), ("both", (1, 4))])
def test_rolling_the_codes_of_a_seamless_picture_rolls_the_picture(wrap, rolls, dtype, most, monkeypatch):
    monkeypatch.setattr(strip_layers, "STRIP", 4000)
    model, indices = tiny(attention_levels=(2,)).to(dtype), codes(1, 4, 5)
    picture = decode_indices(model, indices, wrap)
    rolled = decode_indices(model, indices.roll(rolls, (1, 2)), wrap)
    assert (rolled - picture.roll([4 * r for r in rolls], (2, 3))).abs().max() <= most * max(1, picture.abs().max())
    plain = model.decode_indices(indices)
    assert (
        model.decode_indices(indices.roll(rolls, (1, 2))) - plain.roll([4 * r for r in rolls], (2, 3))
    ).abs().max() > 1e-3


def test_panorama_wraps_left_and_right_only():
    model, indices = tiny(), codes(1, 6, 5)
    across = decode_indices(model, indices, "x")
    rolled = decode_indices(model, indices.roll(1, 1), "x")
    assert (rolled - across.roll(4, 2)).abs().max() > 1e-3


def test_the_model_is_left_as_it_was():
    model, indices = tiny(), codes(1, 4, 4)
    before = model.decode_indices(indices)
    decode_indices(model, indices, "both")
    assert torch.equal(model.decode_indices(indices), before)


def test_moments_merge_to_those_of_the_whole():
    x = torch.randn(32, 11, 5, generator=torch.Generator().manual_seed(0)) * 3 + 100
    moments = GroupMoments()
    for first, last in ((0, 1), (1, 6), (6, 11)):
        moments.add(x[:, first:last])
    flat = x.double().view(32, -1)
    torch.testing.assert_close(moments.mean, flat.mean(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(moments.square / moments.count, flat.var(1, correction=0), atol=1e-3, rtol=1e-4)


def test_moments_of_a_flat_picture_are_finite():
    moments = GroupMoments()
    moments.add(torch.full((32, 2, 2), 3.0))
    assert torch.equal(moments.square, torch.zeros(32, dtype=torch.float64))


def test_way_is_chosen_by_memory():
    model, indices = tiny(), codes(1, 4, 4)
    whole = model.decode_indices(indices)
    assert torch.equal(decode_indices(model, indices), whole)
    assert torch.equal(
        decode_indices(model, indices, memory=0), decode_in_strips(model, model.codebook.lookup(indices))
    )


def test_estimate_grows_with_the_picture_and_strips_need_half_or_less():
    config = VQGANConfig()
    whole, parts = (decode_memory(config, 128, 128, way) for way in (False, True))
    assert decode_memory(config, 64, 128, False) == whole / 2
    assert parts <= whole / 2


def peak_of(way: str, side: int) -> int:
    """What decoding takes beyond the model, bytes; in strips of 1 MB, since this picture is small."""
    torch.set_num_threads(1)
    strip_layers.STRIP = 2**20
    model = tiny()
    given = model.codebook.lookup(codes(1, side, side))
    with torch.inference_mode():
        return peak_memory_of(lambda: model.decode(given) if way == "whole" else decode_in_strips(model, given))


def peak_in_new_process(way: str, side: int, folder: Path) -> int:
    """`peak_of` where nothing has been given back before, which would be used again unseen."""
    (folder / "tessera").symlink_to(ROOT, target_is_directory=True)
    script = f"from tessera.tests.core.autoencoders.test_strip_decoder import peak_of; print(peak_of({way!r}, {side}))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
def test_strips_need_at_most_half_of_the_memory_and_about_what_is_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(strip_memory, "STRIP", 2**20)  # as `peak_of`
    peaks = []
    for way in ("whole", "strips"):
        (tmp_path / way).mkdir()
        peaks.append(peak_in_new_process(way, 128, tmp_path / way))
    whole, parts = peaks
    assert parts <= whole / 2
    assert whole == pytest.approx(decode_memory(tiny().config, 128, 128, False), rel=0.4)
    assert parts == pytest.approx(decode_memory(tiny().config, 128, 128, True), rel=0.4)
