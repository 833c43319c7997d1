"""Image-GPT as Hugging Face publishes it gives the same logits here, and completes pictures of its palette's colors."""

import pytest
import torch

from tessera.core.bundle_file import load_bundle, save_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import encode_canvas
from tessera.core.inspection import inspect_model
from tessera.core.loading import load
from tessera.tests.core.checkpoints.layouts.imagegpt_layout import random_image_gpt

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A tiny model as `save_pretrained` writes it, and the model."""
    folder = tmp_path_factory.mktemp("imagegpt")
    model, colors = random_image_gpt(folder, 4)
    model.save_pretrained(folder)
    return folder / "model.safetensors", model, colors


def test_its_logits_are_those_of_the_original(published):
    path, original, colors = published
    bundle = load(path)
    cells = torch.randint(12, (2, 16), generator=torch.Generator().manual_seed(1))
    start = torch.full((2, 1), 12)
    with torch.no_grad():
        wanted = original(torch.cat([start, cells[:, :-1]], 1)).logits
    torch.testing.assert_close(bundle.prior(start, cells), wanted, atol=2e-5, rtol=1e-4)
    assert torch.equal(bundle.vqgan.codebook.codes, colors)


def test_halves_are_completed_in_colors_of_the_palette_also_from_a_file_of_ours(published, tmp_path):
    bundle, colors = load(published[0]), published[2]
    save_bundle(tmp_path / "ours.safetensors", bundle)
    image = colors[torch.randint(12, (1, 4, 4), generator=torch.Generator().manual_seed(2))].permute(0, 3, 1, 2)
    canvas = encode_canvas(bundle.vqgan, image)
    canvas = Canvas(canvas.indices, canvas.known & (torch.arange(4) < 2)[:, None])
    results = [model.sample(canvas=canvas, seed=3) for model in (bundle, load_bundle(tmp_path / "ours.safetensors"))]
    assert torch.equal(results[0].images, results[1].images)
    assert torch.equal(results[0].images[..., :2, :], image[..., :2, :])
    below = results[0].images[0, :, 2:].flatten(1).T
    assert torch.cdist(below, colors).amin(1).max() < 1e-6


def test_inspection_tells_what_it_is(published, tmp_path):
    info = inspect_model(published[0])
    assert (info.kind, info.origin) == ("bundle", "Hugging Face's Image-GPT")
    assert info.condition.kind == "none"
    alone = tmp_path / "model.safetensors"
    alone.write_bytes(published[0].read_bytes())
    with pytest.raises(FileNotFoundError, match=r"needs its palette, preprocessor_config\.json"):
        load(alone)
