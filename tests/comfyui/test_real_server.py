"""The pack in a real ComfyUI: it loads quietly, its definitions are the committed ones, bad input is answered well."""

import json
import os
from pathlib import Path

import pytest
import torch

from tessera.core.canvas.canvas_file import load_canvas
from tessera.tests.comfyui.conftest import running_server

SNAPSHOT = Path(__file__).parent / "object_info.json"
QUEUED = int(os.environ.get("TESSERA_QUEUED_RUNS", "50"))


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def definitions(server) -> dict:
    """Our nodes as the server describes them, without what differs from machine to machine."""
    found = {name: info for name, info in server.get("/object_info").items() if name.startswith("Tessera")}
    for info in found.values():
        info.pop("python_module")
        for listed in ("file", "encoder", "words_file"):
            info["input"].get("required", {}).get(listed, [None, {}])[1].pop("options", None)
    return found


def kept(found: object, committed: object) -> object:
    """What is found without what newer hosts tell besides."""
    if isinstance(found, dict) and isinstance(committed, dict):
        return {name: kept(found[name], committed[name]) for name in found if name in committed}
    if isinstance(found, list) and isinstance(committed, list) and len(found) == len(committed):
        return [kept(*pair) for pair in zip(found, committed, strict=True)]
    return found


def test_server_starts_without_a_word_about_us(server):
    start = server.log.split("To see the GUI go to")[0]
    about_us = [line for line in start.splitlines() if "any-name" in line or "tessera" in line.lower()]
    assert len(about_us) == 1, about_us  # the list of import times
    assert "IMPORT FAILED" not in about_us[0]


def test_definitions_are_those_that_were_committed(server):
    """Saved workflows depend on them. After a change that keeps old workflows working, write the file anew:
    delete it and run this test once."""
    found = definitions(server)
    if not SNAPSHOT.exists():
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    committed = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert found.keys() == committed.keys()
    assert kept(found, committed) == committed


def test_combos_list_models_and_nothing_else(server):
    for name in ("TesseraLoadBundle", "TesseraLoadVQGAN"):
        options = server.get(f"/object_info/{name}")[name]["input"]["required"]["file"][1]["options"]
        assert "README.md" not in options
        expected = "edges.safetensors" if name == "TesseraLoadBundle" else "codec.safetensors"
        assert expected in options


def sampling(file: str, cells: int, **changes) -> dict:
    return {
        "1": node("TesseraLoadBundle", file=f"{file}.safetensors"),
        "2": node("TesseraEmptyCanvas", vqgan=["1", 1], width=cells * 4, height=cells * 4),
        "3": node(
            "TesseraSampleCodes",
            **{"model": ["1", 0], "canvas": ["2", 0], "seed": 8, "pictures": 1, "preview_every": 4, **changes},
        ),
    }


def test_cancel_stops_within_a_step_and_the_same_run_goes_on_from_there(server):
    prompt = sampling("none", 40)
    prompt["4"] = node("TesseraSaveCanvas", canvas=["3", 1], filename_prefix="whole")
    cut = server.run(prompt, interrupt_after_progress=3)
    done, total = cut.progress[-1]
    assert cut.status == "error"
    assert done < total / 2
    assert total == 1600

    recalled = {
        "1": node("TesseraRecallCanvas"),
        "2": node("TesseraSaveCanvas", canvas=["1", 0], filename_prefix="cut"),
    }
    assert server.run(recalled).status == "success"
    partial = load_canvas(server.folder / "output" / "cut_00001_.canvas.safetensors")
    known = int(partial.known.sum())
    assert done <= known < total

    rest = server.run(prompt)
    assert rest.status == "success"
    assert rest.progress[-1] == (total - known, total - known)
    whole = load_canvas(server.folder / "output" / "whole_00001_.canvas.safetensors")
    assert whole.known.all()
    assert (whole.indices == partial.indices)[partial.known].all()
    assert "nothing to recall" in server.run(recalled).error


def test_same_run_again_comes_from_the_cache(server):
    prompt = sampling("none", 5)
    server.run(prompt)
    assert server.run(prompt).executed == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": -1}, "smaller than min"),
        ({"pictures": 0}, "smaller than min"),
        ({"model": ["2", 0]}, "Return type mismatch"),
    ],
)
def test_bad_widgets_are_refused_before_anything_runs(server, changes, sentence):
    report = server.run(sampling("none", 5, **changes))
    assert report.status == "refused"
    assert sentence in json.dumps(report.refused["node_errors"])


def test_missing_model_is_named_with_the_folder(server):
    report = server.run(sampling("gone", 5))
    assert report.status == "refused"
    assert "'gone.safetensors' is not in models/vq_transformer" in json.dumps(report.refused["node_errors"])


@pytest.mark.parametrize(
    ("model", "cells", "sentence"),
    [
        ("broken", 5, "broken.safetensors is neither a torch checkpoint nor safetensors; choose another file"),
        ("edges", 5, "this model is guided by edges; give it a condition of that kind"),
    ],
)
def test_bad_input_gets_one_sentence(server, model, cells, sentence):
    report = server.run(sampling(model, cells))
    assert report.status == "error"
    assert sentence in report.error
    assert "\n" not in report.error


def test_path_out_of_the_folders_is_refused(server):
    (server.folder / "secret.canvas.safetensors").write_bytes(b"no")
    prompt = {
        "1": node("TesseraLoadCanvas", file="../secret.canvas.safetensors"),
        "2": node("TesseraSaveCanvas", canvas=["1", 0], filename_prefix="x"),
    }
    assert server.run(prompt).status == "refused"
    prompt = {
        "1": node("TesseraLoadBundle", file="none.safetensors"),
        "2": node("TesseraEmptyCanvas", vqgan=["1", 1], width=16, height=16),
        "3": node("TesseraSaveCanvas", canvas=["2", 0], filename_prefix="../../out"),
    }
    assert "not allowed" in server.run(prompt).error


def test_queued_runs_do_not_grow(server):
    """Fifty, or as many as TESSERA_QUEUED_RUNS says. Of the first runs memory pools are filled; the history of a run
    takes some kilobytes, and stays by intention."""
    assert set(server.run_all([sampling("none", 8, seed=seed) for seed in range(10)])) == {"success"}
    before = server.memory()
    assert set(server.run_all([sampling("none", 8, seed=100 + seed) for seed in range(QUEUED)])) == {"success"}
    assert server.memory() - before < 20e6


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="these options are for graphics cards; others run with --cpu")
@pytest.mark.parametrize("option", ["--lowvram", "--novram", "--gpu-only"])
def test_server_that_is_careful_with_memory_paints_too(tmp_path, tiny_models, option):
    with running_server(tmp_path, tiny_models, option) as careful:
        assert careful.run(sampling("none", 5)).status == "success"
