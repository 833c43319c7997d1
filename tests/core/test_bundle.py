import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.autoencoders.vqgan_file import read_vqgan, save_vqgan
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import load_bundle, load_prior, read_condition_vqgan, save_bundle, save_prior
from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.conditions.layout import Box, layout_tokens
from tessera.core.geometry import Window
from tessera.core.images.io import to_pil, to_tensor
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.storage.model_file import read_model_file

CODES, CONDITION_CODES, LABELS, SIDE, STRIDE = 8, 6, 5, 3, 4
VOCABULARY = 100
ALL = Window(0, 0, SIDE, SIDE)
PREFIX_LENGTH = {
    "edges": 9, "depth": 9, "segmentation": 9, "low-resolution": 9,
    "class": 1, "coordinates": 9, "layout": 92, "none": 1,
}  # fmt: skip
CHANNELS = {"edges": 3, "depth": 1, "segmentation": LABELS, "low-resolution": 3}  # of the condition pictures


def vqgan(**changes) -> VQGAN:
    shape = {"channels": 32, "channel_mult": (1, 1, 1), "blocks_per_level": 1, "attention_levels": ()}
    codes = {"latent_channels": 4, "code_dim": 4, "codebook_size": CODES}
    torch.manual_seed(0)
    model = VQGAN(VQGANConfig(**{**shape, **codes, **changes})).eval()
    torch.nn.init.normal_(model.encoder.conv_out.weight, std=0.5)  # lively enough that several codes are used
    return model


def prior(prefix_length: int, **changes) -> Transformer:
    torch.manual_seed(0)
    shape = {"layers": 2, "width": 32, "heads": 4, "codebook_size": CODES, "vocab_size": VOCABULARY, "window": SIDE}
    model = Transformer(TransformerConfig(**{**shape, "prefix_length": prefix_length, **changes})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def bundle(kind: str) -> Bundle:
    config = ConditionConfig(kind=kind, offset=CODES, labels=LABELS, factor=2)
    own = vqgan(image_channels=CHANNELS[kind], codebook_size=CONDITION_CODES) if kind in CHANNELS else None
    return Bundle(vqgan(), prior(PREFIX_LENGTH[kind]), config, own)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def guidance(kind: str, height: int = SIDE, width: int = SIDE) -> torch.Tensor | None:
    """Something to guide a prior of this kind, for a canvas of so many cells."""
    shape = (1, height * STRIDE, width * STRIDE)
    return {
        "edges": noise(1, 3, *shape[1:]),
        "depth": noise(1, 1, *shape[1:]),
        "segmentation": torch.randint(LABELS, shape, generator=torch.Generator().manual_seed(3)),
        "low-resolution": noise(1, 3, shape[1] // 2, shape[2] // 2),
        "class": torch.tensor([2]),
        "layout": layout_tokens([Box(3, 0.1, 0.2, 0.5, 0.5)], VOCABULARY - CODES),
    }.get(kind)


@pytest.mark.parametrize("kind", PREFIX_LENGTH)
def test_saved_bundle_comes_back_and_makes_the_same_picture(tmp_path, kind):
    made, path = bundle(kind), tmp_path / "bundle.safetensors"
    save_bundle(path, made, license="MIT", trained_on="noise")
    loaded = load_bundle(path)
    assert loaded.condition_config == made.condition_config
    assert (loaded.condition_vqgan is None) == (kind not in CHANNELS)
    pictures = []
    for b in (made, loaded):
        condition = b.condition(guidance(kind, 4, 5), (4, 5))
        canvas = sample(b.prior, condition, Canvas.empty(2, 4, 5), 7, SamplingSettings()).canvas
        pictures.append(b.decode(canvas))
    assert pictures[0].shape == (2, 3, 16, 20)
    assert torch.equal(pictures[0], pictures[1])
    file = read_model_file(path)
    assert (file.kind, file.license, file.trained_on) == ("bundle", "MIT", "noise")


def test_half_precision_bundle_is_half_as_large_and_still_whole(tmp_path):
    made = bundle("edges")
    save_bundle(tmp_path / "whole.safetensors", made)
    save_bundle(tmp_path / "half.safetensors", made, half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_bundle(tmp_path / "half.safetensors")
    for part in ("vqgan", "prior", "condition_vqgan"):
        state = getattr(made, part).state_dict()
        assert all(torch.equal(t, state[n].half().float()) for n, t in getattr(loaded, part).state_dict().items())


def test_each_part_can_be_had_alone_from_a_bundle(tmp_path):
    made, path = bundle("depth"), tmp_path / "bundle.safetensors"
    save_bundle(path, made)
    for found, part in ((read_vqgan(path), "vqgan"), (load_prior(path), "prior"),
                        (read_condition_vqgan(path), "condition_vqgan")):  # fmt: skip
        wanted = getattr(made, part).state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())
        assert found.state_dict().keys() == wanted.keys()
        assert not any(p.requires_grad for p in found.parameters())


def test_prior_alone_and_vqgan_alone_are_files_too(tmp_path):
    save_prior(tmp_path / "prior.safetensors", prior(9), ConditionConfig(kind="edges", offset=CODES))
    loaded = load_prior(tmp_path / "prior.safetensors")
    tokens = torch.arange(9).view(1, 9)
    assert torch.equal(loaded(tokens, tokens % CODES), prior(9)(tokens, tokens % CODES))
    save_vqgan(tmp_path / "edges.safetensors", vqgan(image_channels=1))
    assert read_condition_vqgan(tmp_path / "edges.safetensors").config.image_channels == 1


def test_a_prior_that_can_be_free_of_its_edges_says_so_in_its_file(tmp_path):
    config = ConditionConfig(kind="edges", offset=CODES, unconditional=True)
    made = dataclasses.replace(bundle("edges"), condition_config=config)
    save_bundle(tmp_path / "free.safetensors", made)
    loaded = load_bundle(tmp_path / "free.safetensors")
    lines = torch.ones(1, 1, SIDE * STRIDE, SIDE * STRIDE)
    unconditional = loaded.condition(lines).unconditional
    assert torch.equal(unconditional.prefix(ALL), loaded.condition(-lines).prefix(ALL))
    assert bundle("edges").condition(lines).unconditional is None
    with pytest.raises(ValueError, match="guided by none has no condition to be left out"):
        ConditionConfig(kind="none", unconditional=True)


def test_a_vqgan_that_encodes_its_own_condition_is_written_once(tmp_path):
    shared, path = vqgan(), tmp_path / "bundle.safetensors"
    config = ConditionConfig(kind="low-resolution", offset=CODES, factor=4)
    made = Bundle(shared, bundle("edges").prior, config, shared)
    save_bundle(path, made)
    names = load_file(path)
    assert not any(name.startswith("condition.") for name in names)
    loaded = load_bundle(path)
    assert loaded.condition_vqgan is loaded.vqgan
    small = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(loaded.condition(small).indices, made.condition(small).indices)
    assert read_condition_vqgan(path).state_dict().keys() == shared.state_dict().keys()


def test_file_without_the_part_asked_for_is_refused_with_what_it_holds(tmp_path):
    save_vqgan(tmp_path / "vqgan.safetensors", vqgan())
    save_bundle(tmp_path / "plain.safetensors", bundle("none"))
    with pytest.raises(ValueError, match=r"vqgan\.safetensors holds vqgan, not a prior"):
        load_prior(tmp_path / "vqgan.safetensors")
    with pytest.raises(ValueError, match=r"vqgan\.safetensors holds vqgan, not a condition"):
        load_bundle(tmp_path / "vqgan.safetensors")
    with pytest.raises(ValueError, match=r"plain\.safetensors holds vqgan, prior, condition, not a condition_vqgan"):
        read_condition_vqgan(tmp_path / "plain.safetensors")


@pytest.mark.parametrize("percent", [0, 10, 50, 99])
def test_bundle_cut_short_is_refused(tmp_path, percent):
    path = tmp_path / "short.safetensors"
    save_bundle(path, bundle("edges"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(ValueError, match=r"short\.safetensors is truncated"):
        load_bundle(path)


def rewrite(path, change) -> None:
    """Let `change(tensors, config)` alter a file in place."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    change(tensors, config)
    save_file(tensors, path, {**metadata, "config": json.dumps(config)})


def test_tensor_that_the_prior_lacks_is_named(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_bundle(path, bundle("none"))
    rewrite(path, lambda tensors, config: tensors.pop("prior.ln_f.bias"))
    with pytest.raises(ValueError, match=r"odd\.safetensors.*does not hold.*ln_f\.bias is missing"):
        load_bundle(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("vqgan"), "not a vqgan"),
        (lambda config: config.pop("condition_vqgan"), "not a condition_vqgan"),
        (lambda config: config["condition"].update(kind="smell"), "'smell' is unknown"),
        (lambda config: config["condition"].update(wings=2), "wings.*update Tessera"),
        (lambda config: config.update(condition=5), "ConditionConfig.*update Tessera"),
        (lambda config: config.update(prior=[]), "TransformerConfig.*update Tessera"),
        (lambda config: config["prior"].update(heads=3), "width 32 does not divide by heads 3"),
    ],
)
def test_broken_config_is_refused_with_the_file_s_name(tmp_path, change, message):
    path = tmp_path / "odd.safetensors"
    save_bundle(path, bundle("edges"))
    rewrite(path, lambda tensors, config: change(config))
    with pytest.raises(ValueError, match=rf"odd\.safetensors.*{message}"):
        load_bundle(path)


# conditions


def test_picture_conditions_are_the_codes_of_their_own_vqgan():
    edges, depth, labels, small = (guidance(kind) for kind in ("edges", "depth", "segmentation", "low-resolution"))
    gray = edges.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    stretched = (depth - depth.min()) / (depth.max() - depth.min()) * 2 - 1
    one_hot = torch.stack([(labels == label).float() for label in range(LABELS)], 1)
    pixels = to_pil(small)[0]
    large = to_tensor(pixels.resize((2 * pixels.width, 2 * pixels.height), Image.Resampling.BICUBIC))
    for kind, given, prepared in (
        ("edges", edges, gray),
        ("depth", depth, stretched),
        ("segmentation", labels, one_hot),
        ("low-resolution", small, large),
    ):
        b = bundle(kind)
        expected = b.condition_vqgan.encode_indices(prepared)
        assert len(expected.unique()) > 1
        assert torch.equal(b.condition(given).prefix(ALL), expected.flatten(1) + CODES)


def test_other_conditions_are_their_tokens():
    assert bundle("class").condition(torch.tensor([4, 0])).prefix(ALL).tolist() == [[4 + CODES], [CODES]]
    assert bundle("none").condition().prefix(ALL).tolist() == [[CODES]]
    layout = guidance("layout")
    assert torch.equal(bundle("layout").condition(layout).prefix(ALL), layout + CODES)
    boxes = [Box(3, 0.1, 0.2, 0.5, 0.5)]  # of the same scene
    assert torch.equal(bundle("layout").condition(boxes).prefix(ALL), layout + CODES)
    below = bundle("layout").condition(boxes, (2 * SIDE, SIDE)).prefix(Window(SIDE, 0, SIDE, SIDE))
    assert torch.equal(below, layout_tokens(boxes, VOCABULARY - CODES, Box(0, 0, 0.5, 1, 0.5)) + CODES)
    far = bundle("coordinates").condition(canvas_size=(6, 6)).prefix(Window(3, 3, SIDE, SIDE))
    # the last cell's mean pixel is number (21.5 * 24 + 21.5) of 576, in 5 steps
    assert int(far[0, -1]) - CODES == min(round((21.5 * 24 + 21.5) / 576 * LABELS), LABELS - 1)


@pytest.mark.parametrize("kind", PREFIX_LENGTH)
def test_guidance_missing_or_not_asked_for_is_refused_with_the_kind(kind):
    guided = kind not in ("coordinates", "none")
    with pytest.raises(ValueError, match=f"guided by {kind}: {'give it' if guided else 'leave the input out'}"):
        bundle(kind).condition(None if guided else noise(1, 3, 12, 12), (SIDE, SIDE))


def test_coordinates_without_a_canvas_size_are_refused():
    with pytest.raises(ValueError, match="coordinates need the size of the canvas"):
        bundle("coordinates").condition()


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("edges", noise(1, 3, 14, 12), "12x14 pixels, both sides must be multiples of 4"),
        ("edges", noise(1, 4, 12, 12), r"has shape \(1, 4, 12, 12\)"),
        ("edges", noise(1, 3, 12, 12) / 0, "NaN or infinite"),
        ("depth", noise(3, 12, 12), r"has shape \(3, 12, 12\)"),
        ("depth", torch.full((1, 1, 12, 12), torch.nan), "NaN or infinite"),
        ("segmentation", torch.full((1, 12, 12), LABELS), "this model knows 0 to 4"),
        ("low-resolution", noise(1, 3, 5, 6), "12x10 pixels, both sides must be multiples of 4"),
        ("class", torch.tensor([LABELS]), "class label 5 does not exist; choose 0 to 4"),
    ],
)
def test_guidance_that_can_not_be_used_is_refused(kind, given, message):
    with pytest.raises(ValueError, match=message):
        bundle(kind).condition(given)


def test_condition_picture_off_the_stride_of_the_picture_s_vqgan_is_refused():
    fine = vqgan(image_channels=3, codebook_size=CONDITION_CODES, channel_mult=(1, 1))  # 2 pixels a cell
    b = Bundle(vqgan(), prior(36), ConditionConfig(kind="edges", offset=CODES), fine)
    assert b.condition(noise(1, 3, 12, 12)).prefix(ALL).shape == (1, 36)
    with pytest.raises(ValueError, match="12x14 pixels, both sides must be multiples of 4"):
        b.condition(noise(1, 3, 14, 12))
    with pytest.raises(ValueError, match="14x14 pixels, both sides must be multiples of 4"):
        b.condition(noise(1, 3, 14, 14))


# the bundle itself


def test_empty_canvas_is_one_window():
    canvas = bundle("none").empty_canvas(3)
    assert canvas.indices.shape == (3, SIDE, SIDE)
    assert not canvas.known.any()


def test_decoded_picture_is_the_vqgan_s_clamped():
    b = bundle("none")
    b.vqgan.decoder.conv_out.weight.data *= 20
    indices = torch.randint(CODES, (2, 3, 5), generator=torch.Generator().manual_seed(4))
    raw = torch.cat([b.vqgan.decode_indices(one) for one in indices.split(1)])
    assert raw.abs().max() > 1
    assert torch.equal(b.decode(Canvas.filled(indices)), raw.clamp(-1, 1))


def test_panorama_of_rolled_codes_is_the_rolled_panorama():
    b, indices = bundle("none"), torch.randint(CODES, (1, 3, 5), generator=torch.Generator().manual_seed(4))
    picture, rolled = (b.decode(Canvas.filled(codes).with_wrap("x")) for codes in (indices, indices.roll(2, 2)))
    stride = b.vqgan.config.stride
    torch.testing.assert_close(rolled, picture.roll(2 * stride, 3), atol=1e-5, rtol=1e-5)


def test_canvas_of_another_codebook_is_not_decoded():
    with pytest.raises(ValueError, match="indices run from 0 to 8, the codebook has 0 to 7"):
        bundle("none").decode(Canvas.filled(torch.arange(9).view(1, 3, 3)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"vqgan": {"codebook_size": CODES + 1}}, "on 8 codes, the VQGAN has 9"),
        ({"kind": "edges"}, "of kind edges needs a VQGAN"),
        ({"kind": "class", "own": {"image_channels": 1}}, "of kind class has no VQGAN"),
        ({"kind": "edges", "own": {"codebook_size": 93}}, "93 codes, the prior only knows 92"),
        ({"kind": "class", "labels": 93}, "93.*the prior only knows 92"),
        ({"kind": "coordinates", "labels": 93}, "93.*the prior only knows 92"),
        ({"kind": "none", "offset": 100}, "the prior only knows 0"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(parts, message):
    config = ConditionConfig(
        kind=parts.get("kind", "none"), offset=parts.get("offset", CODES), labels=parts.get("labels", LABELS)
    )
    own = vqgan(**parts["own"]) if "own" in parts else None
    with pytest.raises(ValueError, match=message):
        Bundle(vqgan(**parts.get("vqgan", {})), prior(1), config, own)


def test_condition_that_can_t_be_is_refused():
    with pytest.raises(ValueError, match="offset is -1"):
        ConditionConfig(kind="none", offset=-1)
    with pytest.raises(ValueError, match="'smell' is unknown; use edges, depth"):
        ConditionConfig(kind="smell")
    for kind in ("segmentation", "class", "coordinates"):
        with pytest.raises(ValueError, match=f"of kind {kind} needs to know how many labels"):
            ConditionConfig(kind=kind)
    with pytest.raises(ValueError, match="low-resolution needs a factor"):
        ConditionConfig(kind="low-resolution")
