"""Whole runs equal the original's, from what guides a picture to the picture itself, most likely code by code.

The coordinates' canvas is larger than the window, so it slides; tests/golden/README.md says how made.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.core.bundle import Bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming import released_bundle
from tessera.core.conditions.layout import Box, layout_tokens
from tessera.core.geometry import Window
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState
from tessera.tests.core.checkpoints.layouts.original_layout import label_map, numbers, write_lightning
from tessera.tests.core.checkpoints.layouts.released_shapes import PRIORS, prior_state

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "samples.safetensors")
GREEDY = SamplingSettings(temperature=0)


def guide(kind: str) -> torch.Tensor | None:
    """What the original was given, as `Bundle.condition` takes it."""
    match kind:
        case "depth":  # inverse depth from 3 to 40
            patches = numbers("depth map", (32, 32), 3.0, 40.0).repeat_interleave(8, 0).repeat_interleave(8, 1)
            return (patches + numbers("depth noise", (256, 256)))[None, None]
        case "segmentation":
            return label_map("segmentation", 182, 256, 256)
        case "class":
            return torch.tensor([417])
        case "layout":  # of 100 classes: a thing, a group, something occluded inside something, a thing
            return layout_tokens(
                [
                    Box(3, 0.1, 0.2, 0.5, 0.3),
                    Box(17 + 100, 0.0, 0.0, 1.0, 1.0),
                    Box(99 + 100 * (2 + 8), 0.61, 0.55, 0.33, 0.45),
                    Box(0, 0.25, 0.25, 0.125, 0.5),
                ],
                2048,
            )
    return None


@pytest.fixture(scope="module", params=PRIORS)
def run(request, tmp_path_factory) -> tuple[str, Bundle, torch.Tensor, SamplingState]:
    """Kind, bundle from a file in the original's layout, condition tokens and finished sample."""
    kind = request.param
    path = write_lightning(tmp_path_factory.mktemp("parity") / "last.ckpt", prior_state(kind))
    bundle = released_bundle(open_checkpoint(path), None, kind)
    size = (18, 20) if kind == "coordinates" else (16, 16)
    condition = bundle.condition(guide(kind), size)
    state = sample(bundle.prior, condition, Canvas.empty(1, *size), 0, GREEDY)
    return kind, bundle, condition.prefix(Window(0, 0, *size)), state


def test_condition_tokens_are_the_original_s(run):
    kind, _, prefix, _ = run
    assert torch.equal(prefix.flatten(), GOLDEN[f"{kind}.prefix"].flatten().long())


def test_sampled_codes_are_the_original_s(run):
    kind, _, _, state = run
    assert torch.equal(state.indices.flatten(), GOLDEN[f"{kind}.cells"].flatten().long())


@torch.no_grad()
def test_pictures_of_them_equal_the_original_s(run):
    kind, bundle, _, state = run
    made = bundle.vqgan.decode_indices(state.indices)[:, :, ::8, ::8]
    torch.testing.assert_close(made, GOLDEN[f"{kind}.picture"], atol=1e-5, rtol=0)
