import dataclasses

import pytest
import torch

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.bundle import Bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken, repeat
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.spatial import SpatialCondition
from tessera.core.geometry import Window
from tessera.core.prepared import (
    PreparedCondition,
    expand_batch,
    prepare_image_condition,
    prepare_label_condition,
    prepare_unconditional,
    show_condition,
)
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings

CODES, SIDE, STRIDE = 8, 3, 4
PREFIX = {"edges": 9, "segmentation": 9, "low-resolution": 9, "coordinates": 9, "class": 1, "none": 1}
CHANNELS = {"edges": 1, "segmentation": 5, "low-resolution": 3}
ALL = Window(0, 0, SIDE, SIDE)


def vqgan(channels: int = 3) -> VQGAN:
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 1, 1), "blocks_per_level": 1, "attention_levels": ()}
    codes = {"latent_channels": 4, "code_dim": 4, "codebook_size": CODES}
    return VQGAN(VQGANConfig(image_channels=channels, **shape, **codes)).eval()


def bundle(kind: str) -> Bundle:
    shape = {"layers": 1, "width": 32, "heads": 4, "codebook_size": CODES, "vocab_size": 40, "window": SIDE}
    config = ConditionConfig(kind=kind, offset=CODES, labels=5, factor=2 if kind == "low-resolution" else 0)
    own = vqgan(CHANNELS[kind]) if kind in CHANNELS else None
    return Bundle(vqgan(), Transformer(TransformerConfig(prefix_length=PREFIX[kind], **shape)).eval(), config, own)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (13, 18), (15, 12)])
def test_picture_of_any_size_guides_a_canvas_that_covers_it(height, width):
    b = bundle("edges")
    guide = prepare_image_condition(b, "edges", torch.rand(2, 1, height, width) * 2 - 1)
    assert guide.canvas.indices.shape == (2, -(-height // STRIDE), -(-width // STRIDE))
    assert not guide.canvas.known.any()
    assert show_condition(b, guide).shape == (2, 1, height, width)
    sample(b.prior, guide.condition, guide.canvas, 0, SamplingSettings())


def test_label_map_of_any_size_guides_too():
    b = bundle("segmentation")
    labels = torch.randint(5, (1, 14, 12))
    guide = prepare_image_condition(b, "segmentation", labels)
    assert guide.canvas.size == (4, 3)
    assert guide.canvas.padding == (0.5, 0.0)
    assert show_condition(b, guide).shape == (1, 3, 14, 12)


def test_small_picture_guides_one_larger_by_the_models_factor():
    guide = prepare_image_condition(bundle("low-resolution"), "low-resolution", torch.rand(1, 3, 7, 6) * 2 - 1)
    assert guide.canvas.size == (4, 3)  # 14 x 12 pixels
    assert guide.canvas.padding == (0.5, 0.0)


def test_picture_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="guided by edges, not by depth; use a condition of kind edges"):
        prepare_image_condition(bundle("edges"), "depth", torch.zeros(1, 1, 12, 12))
    with pytest.raises(ValueError, match="not by class; leave the condition out"):
        prepare_label_condition(bundle("none"), torch.tensor([0]))


def test_model_that_wants_a_guide_says_so():
    with pytest.raises(ValueError, match="guided by edges; give it a condition"):
        prepare_unconditional(bundle("edges"), None)


def test_model_that_has_learned_to_paint_freely_needs_no_guide():
    b = bundle("edges")
    b = dataclasses.replace(b, condition_config=dataclasses.replace(b.condition_config, unconditional=True))
    black = prepare_image_condition(b, "edges", -torch.ones(1, 1, SIDE * STRIDE, SIDE * STRIDE))
    guide = prepare_unconditional(b, None)
    assert torch.equal(guide.condition.prefix(ALL), black.condition.prefix(ALL))
    assert guide.canvas.size == black.canvas.size
    wide = prepare_unconditional(b, Canvas.empty(2, SIDE, 2 * SIDE))
    assert sample(b.prior, wide.condition, wide.canvas, 0, SamplingSettings()).canvas.known.all()
    with pytest.raises(ValueError, match="guidance is 2, but nothing guides the picture"):
        sample(b.prior, guide.condition, guide.canvas, 0, SamplingSettings(guidance_scale=2.0))


@pytest.mark.parametrize("kind", ["none", "coordinates"])
def test_model_without_picture_paints_one_window_or_the_canvas_it_is_given(kind):
    b = bundle(kind)
    assert prepare_unconditional(b, None).canvas.size == (SIDE, SIDE)
    wide = Canvas.empty(1, 4, 7)
    guide = prepare_unconditional(b, wide)
    assert guide.canvas is wide
    sample(b.prior, guide.condition, guide.canvas, 0, SamplingSettings())


def test_each_guided_picture_is_made_several_times():
    labels = torch.tensor([1, 3])
    guide = PreparedCondition(ClassCondition(labels, 5), Canvas.empty(2, 3, 3))
    condition, canvas = expand_batch(guide, None, 2)
    assert condition.prefix(Window(0, 0, 3, 3)).flatten().tolist() == [1, 3, 1, 3]
    assert len(canvas.indices) == 4


def test_one_canvas_serves_all_guided_pictures_and_one_condition_all_canvases():
    one = Canvas.filled(torch.ones(1, 3, 3, dtype=torch.int64))
    _, canvas = expand_batch(PreparedCondition(ClassCondition(torch.tensor([1, 3]), 5), Canvas.empty(2, 3, 3)), one, 1)
    assert canvas.indices.shape == (2, 3, 3)
    _, canvas = expand_batch(PreparedCondition(StartToken(), Canvas.empty(1, 3, 3)), one.repeat(4), 1)
    assert canvas.indices.shape == (4, 3, 3)


def test_numbers_that_do_not_fit_are_refused():
    guide = PreparedCondition(ClassCondition(torch.tensor([1, 3]), 5), Canvas.empty(2, 3, 3))
    with pytest.raises(ValueError, match="for 2 images and the canvas holds 3"):
        expand_batch(guide, Canvas.empty(3, 3, 3), 1)
    with pytest.raises(ValueError, match="ask for at least 1"):
        expand_batch(guide, None, 0)


def test_repeating_leaves_a_condition_of_one_as_it_is():
    one = SpatialCondition(torch.zeros(1, 3, 3, dtype=torch.int64), (3, 3))
    assert repeat(one, 5).indices.shape == (1, 3, 3)
