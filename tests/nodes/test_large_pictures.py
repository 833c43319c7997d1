"""Sliding windows, panoramas, tiles, plans and decoding in strips, through the nodes against the stand-in."""

import re

import pytest
import torch

from tessera.core.autoencoders.strips import layers as strip_layers
from tessera.core.autoencoders.strips import memory as strip_memory
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import decode_canvas, encode_latents
from tessera.core.sampling import schedule
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.nodes import canvas as canvas_nodes
from tessera.nodes import canvas_files, compare, sliding
from tessera.nodes import codes as codec
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host import images as pictures
from tessera.nodes.host import resume as unfinished
from tessera.nodes.host.handles import BundleHandle, handle_of
from tessera.nodes.host.sampling import WindowChoice

PLAN = r"\d+ cells through \d+ windows: about \d+ s, \d+ MB"


@pytest.fixture
def model(host, make_bundle) -> BundleHandle:
    bundle = make_bundle("none")
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), adapter.patcher_of(bundle.prior), None)


def window(stride: int = 1, wrap: str = "none") -> WindowChoice:
    return sliding.SlidingWindow.execute(str(stride), wrap)[0]


def test_large_canvas_is_filled_as_core_fills_it(model):
    canvas, moves = Canvas.empty(1, 6, 9), window(2, "x")
    out = sampling.SampleCodes.execute(model, 5, 2, 0, canvas=canvas, sliding=moves)
    bundle = model.bundle
    expected = sample(
        bundle.prior, bundle.condition(), canvas.repeat(2).with_wrap("x"), 5, SamplingSettings(), moves.sliding
    )
    assert torch.equal(out[1].indices, expected.indices)
    exact = sampling.SampleCodes.execute(model, 5, 2, 0, canvas=canvas)
    assert not torch.equal(out[1].indices, exact[1].indices)
    assert (out[1].wrap, exact[1].wrap, canvas.wrap) == ("x", "none", "none")


def test_picture_of_a_run_that_wraps_tiles_and_so_does_that_of_its_canvas(model):
    picture, canvas = sampling.SampleCodes.execute(model, 5, 1, 0, sliding=window(wrap="both")).args[:2]
    rolled = canvas_nodes.Roll.execute(canvas, 1, 2)[0]
    shown = codec.DecodeCanvas.execute(model.vqgan, rolled)[0]
    torch.testing.assert_close(shown, picture.roll((8, 4), (1, 2)), atol=1e-5, rtol=0)


def test_canvas_that_wraps_is_painted_on_as_one_without_being_told(model):
    start = Canvas.empty(1, 4, 6).with_wrap("x")
    told = sampling.SampleCodes.execute(model, 5, 1, 0, canvas=start, sliding=window(wrap="x"))[1]
    assert torch.equal(sampling.SampleCodes.execute(model, 5, 1, 0, canvas=start)[1].indices, told.indices)
    other = sampling.SampleCodes.execute(model, 5, 1, 0, canvas=start, sliding=window())[1]
    assert other.wrap == "none"


def test_cancelled_run_goes_on_only_with_the_same_window(model, host):
    unfinished.kept.clear()
    canvas, moves = Canvas.empty(1, 4, 10), window(2, "x")
    whole = sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=moves)[1]
    unfinished.kept.clear()
    host.interrupted_after = 12
    with pytest.raises(adapter.Interrupted):
        sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=moves)
    total = host.updates[-1][1]
    recalled = canvas_files.RecallCanvas.execute()[0]
    assert (recalled.wrap, int(recalled.known.sum())) == ("x", 13)
    for other in (window(1, "x"), window(2)):
        sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=other)
        assert unfinished.last_change()[1] == 13
    rest = sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=moves)[1]
    assert host.updates[-1][1] == total - 13
    assert torch.equal(rest.indices, whole.indices)


def test_sweep_and_best_of_slide_too(model):
    canvas, moves = Canvas.empty(1, 4, 8), window(2, "x")
    single = sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=moves)[0]
    swept = compare.SweepSettings.execute(model, 5, "top_k", "0, 3", 1, 0, canvas=canvas, sliding=moves)[1]
    assert torch.equal(swept[:1], single)
    best = compare.BestOf.execute(model, 5, 1, 1, 0, canvas=canvas, sliding=moves)
    assert torch.equal(best[0], single)
    assert best[1].wrap == "x"


def test_large_run_tells_first_what_it_will_take(model, host):
    unfinished.kept.clear()
    sampling.SampleCodes.execute(model, 5, 1, 0)
    assert [text for text, *_ in host.said if re.fullmatch(PLAN, text)] == []
    host.said.clear()
    sampling.SampleCodes.execute(model, 5, 1, 0, canvas=Canvas.empty(1, 4, 9))
    (text, node, _), _ = host.said
    assert re.fullmatch(PLAN, text)
    assert node == "1"
    host.said.clear()
    sampling.SampleCodes.execute(model, 5, 1, 0, sliding=window(wrap="x"))
    assert re.fullmatch(PLAN, host.said[0][0])  # before the first preview, or the page lays the picture over it


def test_plan_counts_what_the_run_then_does_and_changes_nothing(model, host):
    canvas, moves = Canvas.empty(1, 5, 9), window(2, "both")
    text, cells, windows, seconds, megabytes = (planned := sliding.PlanRun.execute(
        model, 1, canvas=canvas, sliding=moves
    )).args  # fmt: skip
    assert (planned.ui.value, host.said) == (text, [(text, "1", "the page that asked")])
    assert re.fullmatch(PLAN, text)
    assert not canvas.known.any()
    sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=moves)
    assert host.updates[-1][:2] == (cells, cells)
    assert 0 < windows < cells
    assert min(seconds, megabytes) > 0


def test_cancel_is_heard_while_the_order_of_cells_is_worked_out(model, host, monkeypatch):
    monkeypatch.setattr(schedule, "CHECK_EVERY", 4)
    canvas = Canvas.empty(1, 6, 9)
    for work in (
        lambda: sliding.PlanRun.execute(model, 1, canvas=canvas),
        lambda: sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas),
    ):
        host.interrupted_after = 3
        with pytest.raises(adapter.Interrupted):
            work()
        assert host.updates == []
    assert not unfinished.kept


def test_node_says_where_it_decodes_in_strips_and_asks_for_the_room_they_take(model, host, monkeypatch):
    canvas = Canvas.filled(torch.arange(6).view(1, 2, 3))
    whole = codec.DecodeCanvas.execute(model.vqgan, canvas)[0]
    assert not host.said
    monkeypatch.setattr(strip_memory, "MIN_STRIP_MEMORY", 0)
    monkeypatch.setattr(strip_memory, "STRIP", 1)
    monkeypatch.setattr(strip_memory, "WORKSPACE", 1)
    monkeypatch.setattr(strip_layers, "STRIP", 1)
    in_strips = codec.DecodeCanvas.execute(model.vqgan, canvas)[0]
    ((text, *_),) = host.said
    assert text.startswith("Decoding 12x8 pixels in strips, ")
    torch.testing.assert_close(in_strips, whole, atol=1e-4, rtol=0)
    assert host.loaded[-1][1] < host.loaded[0][1]


def test_latents_are_decoded_around_the_borders(model):
    vqgan = model.bundle.vqgan
    latents = encode_latents(vqgan, torch.rand(1, 3, 8, 12) * 2 - 1)
    latent = pictures.to_latent(latents, (8, 12), 4)
    picture = codec.DecodeLatent.execute(model.vqgan, latent, "x")[0]
    rolled = codec.DecodeLatent.execute(model.vqgan, {"samples": latents.roll(1, 3)}, "x")[0]
    torch.testing.assert_close(rolled, picture.roll(4, 2), atol=1e-5, rtol=0)
    latent = pictures.to_latent(latents, (8, 10), 4)
    with pytest.raises(ValueError, match="make its width a multiple of a cell"):
        codec.DecodeLatent.execute(model.vqgan, latent, "x")


def test_picture_that_ends_within_a_cell_is_refused_before_anything_is_painted(model, host):
    canvas = Canvas.empty(1, 4, 9).with_padding((0.0, 0.5))
    with pytest.raises(ValueError, match="make its width a multiple of a cell"):
        sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=window(wrap="x"))
    with pytest.raises(ValueError, match="choose at most 2"):
        sampling.SampleCodes.execute(model, 5, 1, 0, canvas=canvas, sliding=window(8))
    assert not host.updates


def test_saved_files_keep_the_wrap(model, host):
    from tessera.nodes import canvas_files

    picture, canvas = sampling.SampleCodes.execute(model, 5, 1, 0, sliding=window(wrap="x")).args[:2]
    canvas_files.SaveCanvas.execute(canvas, "a")
    assert canvas_files.LoadCanvas.execute("a_00001_.canvas.safetensors [output]")[0].wrap == "x"
    canvas_files.SavePicture.execute(model.vqgan, picture, canvas, "b")
    back = canvas_files.LoadCanvasOfPicture.execute("b_00001_.png [output]", model.vqgan)[0]
    assert back.wrap == "x"
    assert torch.equal(pictures.to_image(decode_canvas(model.bundle.vqgan, back)), picture)


def test_tile_preview_lays_copies_side_by_side(host):
    image = torch.rand(2, 3, 4, 3)
    tiled = compare.TilePreview.execute(image, 3, 2)[0]
    assert tiled.shape == (2, 6, 12, 3)
    torch.testing.assert_close(tiled[:, 3:, 4:8], image)
    with pytest.raises(ValueError, match="more than 64 million"):
        compare.TilePreview.execute(torch.zeros(1, 600, 600, 3), 16, 16)


def test_cancel_is_heard_within_a_layer_of_a_picture_encoded_in_strips(model, host, monkeypatch):
    monkeypatch.setattr(strip_memory, "MIN_STRIP_MEMORY", 0)
    monkeypatch.setattr(strip_layers, "STRIP", 1)
    image = torch.rand(1, 40, 24, 3, generator=torch.Generator().manual_seed(0))
    host.interrupted_after = 20  # rows of the first layer
    with pytest.raises(adapter.Interrupted):
        codec.EncodeCanvas.execute(model.vqgan, image)
    found = codec.EncodeCanvas.execute(model.vqgan, image)[0]
    assert torch.equal(found.indices, model.bundle.vqgan.encode_indices(pictures.from_image(image)))
