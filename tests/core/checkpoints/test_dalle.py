"""DALL-E's dVAE loads from its two pickled modules, none of whose code is run, and codes pictures as its layers say."""

import sys
import types

import pytest
import torch
import torch.nn.functional as F

from tessera.core.autoencoders.dvae import DVAE, DVAEConfig
from tessera.core.autoencoders.strips.decoder import decode_codes
from tessera.core.autoencoders.vqgan_file import read_vqgan, save_vqgan
from tessera.core.canvas.codec import decode_canvas, encode_canvas
from tessera.core.inspection import inspect_model
from tessera.core.loading import load_vqgan

TINY = {"hidden": 8, "blocks_per_group": 2, "codebook_size": 24, "code_dim": 6}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The folder of both files, of classes that are gone when they are read, and the weights."""
    folder = tmp_path_factory.mktemp("dalle")
    torch.manual_seed(0)
    model = DVAE(DVAEConfig(**TINY))
    package = types.ModuleType("dall_e")
    kinds = {type(m) for m in model.modules() if type(m).__module__.startswith("tessera.")} - {DVAE}
    for kind in kinds:
        clone = type(kind.__name__, kind.__bases__, dict(kind.__dict__) | {"__module__": "dall_e"})
        setattr(package, kind.__name__, clone)
    for module in model.modules():
        if type(module) in kinds:
            module.__class__ = getattr(package, type(module).__name__)
    sys.modules["dall_e"] = package
    for name in ("encoder", "decoder"):
        torch.save(getattr(model, name), folder / f"{name}.pkl")
    del sys.modules["dall_e"]
    return folder, model.state_dict()


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_either_file_gives_the_whole_model(released):
    folder, weights = released
    for name in ("encoder.pkl", "decoder.pkl"):
        model = load_vqgan(folder / name)
        assert model.config == DVAEConfig(**TINY)
        assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    assert inspect_model(folder / "encoder.pkl").origin == "DALL-E"


def test_codes_and_pixels_are_those_of_the_published_layers(released, picture):
    folder, weights = released
    model = load_vqgan(folder / "encoder.pkl")

    def conv(x, name):
        w = weights[f"{name}.w"]
        return F.conv2d(x, w, weights[f"{name}.b"], padding=w.shape[-1] // 2)

    def block(x, name):
        y = x
        for i in (1, 2, 3, 4):
            y = conv(y.relu(), f"{name}.res_path.conv_{i}")
        return (conv(x, f"{name}.id_path") if f"{name}.id_path.w" in weights else x) + y / 64

    def tower(x, name, resize):
        x = conv(x, f"{name}.blocks.input")
        for group in (1, 2, 3, 4):
            for number in (1, 2):
                x = block(x, f"{name}.blocks.group_{group}.block_{number}")
            x = resize(x) if group < 4 else x
        return conv(x.relu(), f"{name}.blocks.output.conv")

    logits = tower(0.8 * (picture / 2 + 0.5) + 0.1, "encoder", lambda x: F.max_pool2d(x, 2))
    indices = model.encode_indices(picture)
    assert torch.equal(indices, logits.argmax(1))
    one_hot = F.one_hot(indices, 24).permute(0, 3, 1, 2).float()
    out = tower(one_hot, "decoder", lambda x: F.interpolate(x, scale_factor=2.0))
    wanted = ((out[:, :3].sigmoid() - 0.1) / 0.8).clamp(0, 1) * 2 - 1
    torch.testing.assert_close(model.decode_indices(indices), wanted, atol=1e-5, rtol=0)


def test_canvases_of_any_size_and_a_file_of_ours(released, picture, tmp_path):
    model = load_vqgan(released[0] / "encoder.pkl")
    save_vqgan(tmp_path / "dvae.safetensors", model)
    canvas = encode_canvas(model, picture[..., :37])
    assert canvas.indices.shape == (1, 4, 5)
    image = decode_canvas(model, canvas)
    assert image.shape == (1, 3, 32, 37)
    assert torch.equal(decode_canvas(read_vqgan(tmp_path / "dvae.safetensors"), canvas), image)


def test_a_canvas_that_wraps_is_decoded_without_a_seam(released):
    model = load_vqgan(released[0] / "encoder.pkl")
    codes = model.codebook.lookup(torch.randint(24, (1, 4, 6), generator=torch.Generator().manual_seed(2)))
    rolled = decode_codes(model, codes.roll((1, 2), (2, 3)), "both").roll((-8, -16), (2, 3))
    torch.testing.assert_close(decode_codes(model, codes, "both"), rolled, atol=1e-5, rtol=0)


def test_half_of_it_alone_is_refused(released, tmp_path):
    alone = tmp_path / "encoder.pkl"
    alone.write_bytes((released[0] / "encoder.pkl").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"half of a dVAE; put decoder\.pkl beside it"):
        load_vqgan(alone)
