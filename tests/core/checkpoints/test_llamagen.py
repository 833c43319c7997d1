"""LlamaGen's, ControlAR's and RandAR's files open, and what they make is the originals'; see tests/golden/README.md."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from tessera.core.bundle_file import save_bundle
from tessera.core.checkpoints.controlar import plan_controlar
from tessera.core.checkpoints.llamagen import plan_any_order, plan_llama, window_of_name
from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.taming import materialize
from tessera.core.checkpoints.tensor_names import Source
from tessera.core.conditions.control import ControlAREncoder
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.conditions.text import TextCondition
from tessera.core.geometry import Window
from tessera.core.inspection import inspect_model
from tessera.core.loading import load, load_vqgan
from tessera.core.prefix import Prefix
from tessera.core.priors.any_order import AnyOrderLlama
from tessera.core.priors.llama import Llama
from tessera.tests.core.checkpoints.layouts.llamagen_layout import (
    CLASSES,
    CODES,
    FEATURES,
    any_order_shapes,
    class_shapes,
    control_shapes,
    fill_llama,
    text_shapes,
    vq_shapes,
)
from tessera.tests.core.checkpoints.layouts.original_layout import numbers, picture

GOLDEN = load_file(Path(__file__).parents[2] / "golden" / "llamagen.safetensors")
SIDE, CELLS = 4, numbers("llama cells", (2, 16), 0, CODES - 0.5).long()
LABELS = torch.tensor([[3], [7]]) + CODES
WINDOW = Window(0, 0, SIDE, SIDE)


def source_of(path: Path) -> Source:
    return Source(open_checkpoint(path), "")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder of files with the originals' names, wrappers and layouts."""
    folder = tmp_path_factory.mktemp("llamagen")
    torch.save({"model": fill_llama(class_shapes())}, folder / "c2i_B_256.pt")
    # saved by FSDP: bare, and its tensors are of a class of their own
    bare = {n: torch.nn.Parameter(t, requires_grad=False) for n, t in fill_llama(class_shapes()).items()}
    torch.save(bare, folder / "c2i_3B_384.pt")
    torch.save({"model": fill_llama(text_shapes()), "freqs_cis": torch.zeros(4)}, folder / "t2i_XL_stage2_512.pt")
    save_file(fill_llama(control_shapes()), folder / "canny_MR.safetensors")
    save_file(fill_llama(any_order_shapes()), folder / "randar_0.3b_llamagen.safetensors")
    torch.save({"model": fill_llama(vq_shapes())}, folder / "vq16.pt")
    torch.save({"model": fill_llama(vq_shapes((1, 2, 2, 4)))}, folder / "vq8.pt")
    return folder


@pytest.fixture(scope="module")
def by_class(files) -> Llama:
    return materialize(plan_llama(source_of(files / "c2i_B_256.pt"), SIDE), "c2i")


@pytest.fixture(scope="module")
def by_text(files) -> Llama:
    return materialize(plan_llama(source_of(files / "t2i_XL_stage2_512.pt"), SIDE), "t2i")


@pytest.fixture(scope="module")
def controlled(files):
    prior, control = plan_controlar(source_of(files / "canny_MR.safetensors"))
    return materialize(prior, "canny"), materialize(control, "canny")


@pytest.fixture(scope="module")
def any_order(files) -> AnyOrderLlama:
    return materialize(plan_any_order(source_of(files / "randar_0.3b_llamagen.safetensors"), SIDE), "randar")


def equal(found: torch.Tensor, name: str, cells: slice = slice(None)) -> None:
    torch.testing.assert_close(found, GOLDEN[name][:, cells], atol=1e-5, rtol=0)


def in_pieces(prior, prefix: Prefix, cells: torch.Tensor) -> torch.Tensor:
    """Logits of all cells [B, n]: a beginning, then several at once, then some taken back, then one by one."""
    logits, cache = prior.start(prefix, cells[:, :3], 4, room=cells.shape[1])
    decode = prior.decoder()
    made = [logits, decode(cells[:, 3:6], cache)]
    decode(cells[:, :4], cache)
    cache.rollback(6)
    made += [decode(cells[:, i : i + 1], cache) for i in range(6, cells.shape[1] - 1)]
    return torch.cat(made, 1)


def most_likely(prior, prefixes: Prefix, cells: int, scale) -> torch.Tensor:
    """The most likely code each time, [B, cells], guided by `scale(cell)`; prefixes with, then without condition."""
    empty = torch.zeros(len(prefixes), 0, dtype=torch.long)
    logits, cache = prior.start(prefixes, empty, room=cells)
    decode, codes = prior.decoder(), []
    for cell in range(cells):
        given, free = logits[:, -1].chunk(2)
        codes.append((free + scale(cell) * (given - free)).argmax(-1))
        if cell < cells - 1:
            logits = decode(codes[-1].repeat(2)[:, None], cache)
    return torch.stack(codes, 1)


def prompts(lengths: list[int]) -> TextCondition:
    features, longest = numbers("llama text", (2, 120, FEATURES)), max(lengths)
    rows = torch.zeros(2, longest, FEATURES)
    for row, (made, length) in enumerate(zip(features, lengths, strict=True)):
        rows[row, longest - length :] = made[:length]
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    return TextCondition(rows, mask, fill_llama(text_shapes())["cls_embedding.uncond_embedding"][None])


@torch.no_grad()
@pytest.mark.parametrize("name", ["vq16", "vq8"])
def test_a_tokenizer_s_codes_and_pictures_are_the_original_s(files, name):
    vqgan = load_vqgan(files / f"{name}.pt")
    shown = picture(name, 1, 3, 48, 64)
    torch.testing.assert_close(vqgan.encode(shown), GOLDEN[f"{name}.latents"], atol=1e-5, rtol=0)
    assert torch.equal(vqgan.encode_indices(shown).int(), GOLDEN[f"{name}.indices"])
    made = vqgan.decode_indices(GOLDEN[f"{name}.indices"].long())
    torch.testing.assert_close(made, GOLDEN[f"{name}.picture"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_class_logits_are_the_original_s_at_once_and_in_pieces(by_class):
    equal(by_class(LABELS, CELLS), "class.logits")
    equal(in_pieces(by_class, Prefix(LABELS), CELLS), "class.logits")


def test_guided_pictures_of_a_class_are_the_original_s(by_class):
    both = Prefix(torch.cat([LABELS, torch.full_like(LABELS, CODES + CLASSES)]))
    assert torch.equal(most_likely(by_class, both, 16, lambda cell: 3).int(), GOLDEN["class.argmax"])


def test_a_bare_file_is_the_same_model(files, by_class):
    bare = materialize(plan_llama(source_of(files / "c2i_3B_384.pt"), SIDE), "bare")
    assert torch.equal(bare(LABELS, CELLS), by_class(LABELS, CELLS))


@torch.no_grad()
@pytest.mark.parametrize(("name", "lengths"), [("text", [1, 120]), ("five", [5, 5])])
def test_prompted_logits_and_pictures_are_the_original_s(by_text, name, lengths):
    condition = prompts(lengths)
    prefix, free = condition.prefix(WINDOW), condition.unconditional.prefix(WINDOW)
    equal(by_text(prefix, CELLS), f"{name}.logits")
    equal(in_pieces(by_text, prefix, CELLS), f"{name}.logits")
    made = most_likely(by_text, Prefix.cat([prefix, free]), 16, lambda cell: 7.5)
    assert torch.equal(made.int(), GOLDEN[f"{name}.argmax"])


@torch.no_grad()
@pytest.mark.parametrize(("kind", "resize"), [("canny", "nearest"), ("depth", "bicubic")])
def test_control_vectors_are_the_original_s(controlled, kind, resize):
    encoder = ControlAREncoder(replace(controlled[1].config, resize=resize))
    encoder.load_state_dict(controlled[1].state_dict())
    made = encoder(picture("control", 1, 3, 64, 80)).flatten(1, 2)  # [1, n, N, C]
    torch.testing.assert_close(made.movedim(2, 1), GOLDEN[f"control.{kind}.control"], atol=1e-5, rtol=0)


def control_prefixes(controlled, strength: float) -> Prefix:
    """Prompted and controlled, then neither, for 4 x 5 cells that the base grid of 6 x 6 counts in running order."""
    prior, encoder = controlled
    control = encoder(picture("control", 1, 3, 64, 80)).flatten(1, 2)
    control = F.pad(control, (0, 0, 0, 0, 0, 36 - 20)) * strength
    null = fill_llama(control_shapes())["cls_embedding.uncond_embedding"][None]
    text = TextCondition(numbers("control text", (1, 7, FEATURES)), torch.ones(1, 7, dtype=torch.bool), null)
    tokens = [condition.prefix(WINDOW).tokens for condition in (text, text.unconditional)]
    prefix = Prefix(torch.cat(tokens), None, torch.cat([control, torch.zeros_like(control)]))
    prior.check_prefix(prefix)
    return prefix


@pytest.mark.parametrize(("name", "window"), [("edge_base", 32), ("depth_MR", 48)])
def test_layers_of_dinov2_are_counted_and_a_grid_left_out_is_told_by_the_name(tmp_path, name, window):
    shapes = control_shapes(dino_layers=3)
    del shapes["condition_mlp.uncond_embedding"], shapes["condition_embeddings.weight"]
    save_file(fill_llama(shapes), tmp_path / f"{name}.safetensors")
    prior, control = plan_controlar(source_of(tmp_path / f"{name}.safetensors"))
    assert control.config.dino_layers == 3
    assert (prior.config.window, prior.config.whole_canvas) == (window, name == "depth_MR")
    materialize(control, name)


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_controlled_logits_are_the_original_s(controlled, strength):
    assert controlled[0].config.window == 6
    assert controlled[0].whole_canvas
    assert controlled[0].config.control_layers == (0, 1, 2)
    cells = numbers("control cells", (1, 20), 0, CODES - 0.5).long().repeat(2, 1)
    prefix = control_prefixes(controlled, strength)
    equal(controlled[0](prefix, cells), f"control.logits.{strength}")
    equal(in_pieces(controlled[0], prefix, cells), f"control.logits.{strength}")


@torch.no_grad()
def test_guided_pictures_under_control_are_the_original_s(controlled):
    made = most_likely(controlled[0], control_prefixes(controlled, 0.6), 20, lambda cell: 4)
    assert torch.equal(made.int(), GOLDEN["control.argmax"])


@torch.no_grad()
def test_logits_in_any_order_are_the_original_s(any_order):
    order = GOLDEN["any-order.order"].long()
    prefix = Prefix(LABELS, None, order.expand(2, -1))
    equal(any_order(prefix, CELLS[:, order]), "any-order.logits")
    equal(in_pieces(any_order, prefix, CELLS[:, order]), "any-order.logits")


@torch.no_grad()
def test_guided_pictures_in_any_order_are_the_original_s(any_order):
    order = GOLDEN["any-order.order"].long()
    both = torch.cat([LABELS, torch.full_like(LABELS, CODES + CLASSES)])
    made = most_likely(any_order, Prefix(both, None, order.expand(4, -1)), 16, lambda cell: 1 + 3 * cell / 16)
    assert torch.equal(made.int(), GOLDEN["any-order.single"][:, order])


@pytest.mark.parametrize(("name", "cells"), [("c2i_B_256.pt", 16), ("c2i_3B_384.pt", 24), ("t2i_XL_stage2_512.pt", 32)])
def test_the_window_is_read_off_a_released_name(name, cells):
    assert window_of_name(name) == cells


def test_a_renamed_file_asks_for_its_window():
    with pytest.raises(ValueError, match="does not tell the size it was trained on; give its window"):
        window_of_name("my-llama.pt")


def test_a_missing_tensor_of_control_is_named(files, tmp_path):
    state = fill_llama(control_shapes())
    del state["adapter.model.encoder.layer.1.attention.output.dense.weight"]
    save_file(state, tmp_path / "depth_MR.safetensors")
    with pytest.raises(ValueError, match=r"adapter.blocks.1.proj.weight is missing"):
        materialize(plan_controlar(source_of(tmp_path / "depth_MR.safetensors"))[1], "depth_MR.safetensors")


@pytest.fixture(scope="module")
def released(files) -> Path:
    """The same files beside their tokenizers, of 48 codes so that they belong together."""
    tokenizer = fill_llama(vq_shapes((1, 1), codes=CODES))
    for name in ("vq_ds16_c2i.pt", "vq_ds16_t2i.pt"):
        torch.save({"model": tokenizer}, files / name)
    return files


def test_a_class_model_and_its_tokenizer_are_one_model(released):
    model = load(released / "c2i_B_256.pt", window=SIDE)
    assert model.condition_config == ConditionConfig(kind="class", offset=CODES, labels=CLASSES, unconditional=True)
    condition = model.condition(torch.tensor([3]))
    assert condition.prefix(WINDOW).tolist() == [[CODES + 3]]
    assert condition.unconditional.prefix(WINDOW).tolist() == [[CODES + CLASSES]]


def test_a_model_without_its_tokenizer_says_which_it_needs(released, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = (released / "c2i_B_256.pt").rename(tmp_path / "a" / "b" / "c2i_B_256.pt")
    with pytest.raises(FileNotFoundError, match=r"c2i_B_256.pt needs its tokenizer, vq_ds16_c2i.pt"):
        load(path)
    assert load(path, vqgan=released / "vq_ds16_c2i.pt").prior.window == 16
    path.rename(released / "c2i_B_256.pt")


def test_a_file_named_as_the_other_tokenizer_is_refused(released, tmp_path):
    own = tmp_path / "mine.pt"
    own.symlink_to(released / "vq_ds16_t2i.pt")
    assert load(released / "c2i_B_256.pt", vqgan=own).prior.window == 16
    for door in (load, inspect_model):
        with pytest.raises(ValueError, match=r"vq_ds16_t2i\.pt is by its name not the tokenizer of c2i_B_256\.pt"):
            door(released / "c2i_B_256.pt", vqgan=released / "vq_ds16_t2i.pt")


def test_converted_models_are_the_same(released, tmp_path):
    model = load(released / "canny_MR.safetensors")
    save_bundle(tmp_path / "model.safetensors", model)
    again, info = load(tmp_path / "model.safetensors"), inspect_model(tmp_path / "model.safetensors")
    assert again.prior.config == model.prior.config == info.configs["prior"]
    assert again.control.config == model.control.config == info.configs["control"]
    for ours, theirs in ((again.prior, model.prior), (again.control, model.control)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_an_any_order_model_opens_and_converts(released, tmp_path):
    model = load(released / "randar_0.3b_llamagen.safetensors", window=SIDE)
    save_bundle(tmp_path / "model.safetensors", model)
    assert isinstance(load(tmp_path / "model.safetensors").prior, AnyOrderLlama)


def test_inspection_names_what_a_file_holds(released):
    info = inspect_model(released / "t2i_XL_stage2_512.pt")
    assert (info.kind, info.origin, info.condition.kind) == ("bundle", "LlamaGen", "text")
    assert info.configs["prior"].window == 32
    assert inspect_model(released / "vq16.pt").origin == "LlamaGen"
