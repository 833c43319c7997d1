"""What nodes say before and after a run, and what is not done twice."""

import dataclasses
import json
import os
import re

import pytest
import torch
from PIL import Image

from tessera.core.autoencoders.strips import memory as strip_memory
from tessera.core.bundle_file import save_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.nodes import canvas_files, codes, conditions, layout
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host import handles
from tessera.nodes.host import resume as unfinished
from tessera.nodes.host.handles import BundleHandle, handle_of


def handle(bundle) -> BundleHandle:
    condition = None if bundle.condition_vqgan is None else handle_of(bundle.condition_vqgan)
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), adapter.patcher_of(bundle.prior), condition)


@pytest.fixture
def model(host, make_bundle):
    unfinished.kept.clear()
    return handle(make_bundle("none"))


def said(host) -> list[str]:
    return [text for text, _, _ in host.said]


def test_another_preview_every_paints_nothing_again_and_there_is_nothing_to_recall(model, host):
    first = sampling.SampleCodes.execute(model, 5, 2, 0)
    host.updates.clear()
    again = sampling.SampleCodes.execute(model, 5, 2, 4)
    assert torch.equal(again[0], first[0])
    assert torch.equal(again[2], first[2])
    assert not host.updates
    assert canvas_files.RecallCanvas.fingerprint_inputs() == ("", 0)


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [(200.0, 120.0, "low below high"), (-1.0, 120.0, "low is -1"), (50.0, 2000.0, "high is 2000")],
)
def test_thresholds_that_can_not_be_are_refused_before_anything_runs(low, high, sentence):
    assert sentence in conditions.Edges.validate_inputs(low, high)


@pytest.mark.parametrize(("low", "high"), [(50.0, 120.0), (None, 120.0), (50.0, None)])
def test_thresholds_over_a_wire_are_left_to_the_run(low, high):
    assert conditions.Edges.validate_inputs(low, high) is True


def test_bar_of_a_condition_goes_on_from_its_encoding_to_its_picture(host, make_bundle, monkeypatch):
    monkeypatch.setattr(adapter, "PATIENCE", -1)
    bundle = make_bundle("edges")
    config = dataclasses.replace(bundle.condition_config, unconditional=True)
    guided = handle(dataclasses.replace(bundle, condition_config=config))
    lines = torch.rand(2, 64, 64, 3)
    conditions.Edges.execute(guided, lines, "lines", "original size", 50, 120, 0)
    steps = [done / total for done, total, _ in host.updates]
    assert steps == sorted(steps)
    assert steps[0] < 0.25
    assert steps[-1] == 1
    host.interrupted_after = int(0.9 * len(steps))  # while its picture is decoded
    with pytest.raises(adapter.Interrupted):
        conditions.Edges.execute(guided, 1 - lines, "lines", "original size", 50, 120, 0)


@pytest.mark.parametrize(
    "kind",
    [conditions.Edges, conditions.Depth, conditions.Segmentation, conditions.LowResolution, layout.SceneLayout],
)
def test_conditions_run_alone_and_show_their_picture(kind):
    assert kind.define_schema().is_output_node


def test_node_texts_go_to_the_page_that_asked(model, host):
    sampling.SampleCodes.execute(model, 5, 1, 0, None, Canvas.empty(1, 5, 6))
    assert {page for _, _, page in host.said} == {"the page that asked"}


def test_without_metadata_a_picture_tells_neither_seed_nor_settings(model, host, monkeypatch):
    picture, canvas = sampling.SampleCodes.execute(model, 5, 1, 0).args[:2]
    monkeypatch.setattr(adapter.comfy.cli_args.args, "disable_metadata", True)
    canvas_files.SavePicture.execute(model.vqgan, picture, canvas, "p")
    info = Image.open(host.base / "output" / "p_00001_.png").info
    assert set(info) == {"tessera"}
    assert json.loads(info["tessera"])["origin"] == ""


def test_two_loaders_of_one_file_share_one_model_until_it_changes(host, make_bundle):
    folder = host.base / "models" / "vq_transformer"
    adapter.register_model_folders()
    save_bundle(folder / "a.safetensors", make_bundle("none"))
    one, other = (handles.open_bundle("a.safetensors") for _ in range(2))
    assert one is other
    save_bundle(folder / "a.safetensors", make_bundle("edges"))
    assert handles.open_bundle("a.safetensors") is not one


def test_folders_are_not_walked_on_every_call_and_new_files_appear(host, monkeypatch):
    walks = []
    real = adapter._newest_files
    monkeypatch.setattr(adapter, "_newest_files", lambda *given: walks.append(given) or real(*given))
    assert adapter.files_between(".png") == []
    (host.base / "output" / "a.png").touch()
    adapter.files_between(".png")
    assert len(walks) == 1
    monkeypatch.setattr(adapter, "FRESH", 0.0)
    assert adapter.files_between(".png") == ["a.png [output]"]


@pytest.mark.parametrize(
    ("canvas", "line"),
    [
        (None, "Nothing guides this picture"),
        (Canvas.filled(torch.zeros(1, 4, 4, dtype=torch.int64)), "Nothing to paint: all cells are known"),
    ],
)
def test_what_may_surprise_is_said(host, make_bundle, canvas, line):
    unfinished.kept.clear()
    bundle = make_bundle("edges")
    free = dataclasses.replace(
        bundle, condition_config=dataclasses.replace(bundle.condition_config, unconditional=True)
    )
    sampling.SampleCodes.execute(handle(free), 5, 1, 0, None, canvas)
    assert any(line in text for text in said(host))


@pytest.mark.parametrize("way", ["whole", "strips"])
def test_cancel_stops_encoding_and_decoding_between_two_layers(model, host, monkeypatch, way):
    monkeypatch.setattr(adapter, "PATIENCE", -1)
    if way == "strips":
        monkeypatch.setattr(strip_memory, "MIN_STRIP_MEMORY", 0)
    pictures = torch.rand(2, 64, 64, 3)
    canvas = codes.EncodeCanvas.execute(model.vqgan, pictures)[0]
    latent = codes.EncodeLatent.execute(model.vqgan, pictures)[0]
    for work in (
        lambda: codes.EncodeCanvas.execute(model.vqgan, pictures),
        lambda: codes.EncodeLatent.execute(model.vqgan, pictures),
        lambda: codes.DecodeCanvas.execute(model.vqgan, canvas),
        lambda: codes.DecodeLatent.execute(model.vqgan, latent),
    ):
        host.interrupted_after = 4
        with pytest.raises(adapter.Interrupted):
            work()
        host.interrupted_after = None
        host.updates.clear()
        work()
        steps = [update[0] for update in host.updates]
        assert steps == sorted(steps)
        assert steps[-1] == host.updates[-1][1]


def test_weights_of_a_file_are_hashed_once(host, make_bundle, monkeypatch):
    hashed = []
    monkeypatch.setattr(handles, "weights_fingerprint", lambda module: hashed.append(module) or str(len(hashed)))
    path = host.base / "models" / "vq_transformer" / "a.safetensors"
    adapter.register_model_folders()
    save_bundle(path, make_bundle("edges"))
    first, again = (opened.vqgan.fingerprint + opened.prior_fingerprint for opened in
                    (handles.open_bundle("a.safetensors") for _ in range(2)))  # fmt: skip
    assert (first, again, len(hashed)) == ("12", "12", 2)
    os.utime(path, (1, 1))
    assert handles.open_bundle("a.safetensors").vqgan.fingerprint == "3"


def test_a_large_condition_says_first_how_many_cells_it_will_be(host, make_bundle):
    conditions.Edges.execute(
        handle(make_bundle("edges")), torch.rand(1, 24, 40, 3), "lines", "original size", 50, 120, 0
    )
    assert said(host)[0].startswith("40x24 pixels will be 60 cells")


def test_time_and_cells_are_said_after_a_run(model, host):
    sampling.SampleCodes.execute(model, 5, 1, 0)
    assert said(host)[0] == "Painting 16 cells"  # before any preview, or the page lays the picture over it
    found = re.fullmatch(r"16 cells in \d+\.\d s · (\d+\.\d) codes a pass", said(host)[-1])
    assert 1 <= float(found[1]) <= 16
