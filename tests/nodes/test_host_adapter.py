"""Model folders, progress, cancel and pictures' conventions, against the stand-in."""

import json
import os

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.canvas_file import load_canvas
from tessera.core.provenance import weights_fingerprint
from tessera.core.sampling.loop import sample
from tessera.core.sampling.noise import DRAW, cell_keys, gumbel
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.windows import Sliding
from tessera.nodes import canvas_files, compare, loaders
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host import images as pictures
from tessera.nodes.host import resume as unfinished
from tessera.nodes.host.handles import BundleHandle, handle_of
from tessera.nodes.host.sampling import WindowChoice


def handle(bundle) -> BundleHandle:
    condition = handle_of(bundle.condition_vqgan) if bundle.condition_vqgan is not None else None
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), adapter.patcher_of(bundle.prior), condition)


def test_folders_and_extensions_of_others_stay(host):
    host.folders["vqgan"] = (["/elsewhere"], {".gguf"})
    adapter.register_model_folders()
    adapter.register_model_folders()
    paths, extensions = host.folders["vqgan"]
    assert paths == ["/elsewhere", str(host.base / "models" / "vqgan"), str(adapter.OWN_MODELS)]
    assert extensions == {".gguf", *adapter.EXTENSIONS}


def test_combo_says_where_files_go_when_there_is_none(host, monkeypatch):
    monkeypatch.setattr(adapter, "OWN_MODELS", host.base / "nothing")
    adapter.register_model_folders()
    (host.base / "models" / "vqgan").mkdir()
    (host.base / "models" / "vqgan" / "README.md").touch()
    assert adapter.model_files("vqgan") == ["no file in models/vqgan yet"]
    answer = loaders.LoadVQGAN.validate_inputs("no file in models/vqgan yet")
    assert "is not in models/vqgan; put a model file there" in answer
    with pytest.raises(FileNotFoundError, match="put a model file there"):
        adapter.model_path("vqgan", "gone.safetensors")


def test_models_that_come_with_the_pack_are_offered(host, monkeypatch):
    monkeypatch.setattr(adapter, "OWN_MODELS", host.base / "own")
    (host.base / "own").mkdir()
    for name in ("b-model.safetensors", "a-model.safetensors", "README.md", "curves.png"):
        (host.base / "own" / name).touch()
    adapter.register_model_folders()
    for folder in ("vq_transformer", "vqgan"):
        assert adapter.model_files(folder) == ["a-model.safetensors", "b-model.safetensors"]


def test_loaded_model_is_fit_for_gradients_though_comfyui_runs_in_inference_mode(host, make_bundle):
    adapter.register_model_folders()
    save_bundle(host.base / "models" / "vq_transformer" / "a.safetensors", make_bundle("none"))
    assert loaders.LoadBundle.validate_inputs("a.safetensors") is True
    with torch.inference_mode():
        model, vqgan = loaders.LoadBundle.execute("a.safetensors").args
    assert vqgan is model.vqgan
    assert not any(p.is_inference() for p in model.bundle.prior.parameters())


def test_vqgan_that_is_also_the_conditions_has_one_handle(host, make_bundle):
    adapter.register_model_folders()
    parts = make_bundle("low-resolution")
    folder = host.base / "models" / "vq_transformer"
    folder.mkdir()
    for name, condition_vqgan in (("shared", parts.vqgan), ("two", parts.condition_vqgan)):
        save_bundle(
            folder / f"{name}.safetensors", Bundle(parts.vqgan, parts.prior, parts.condition_config, condition_vqgan)
        )
    shared, two = (loaders.LoadBundle.execute(f"{name}.safetensors")[0] for name in ("shared", "two"))
    assert shared.condition is shared.vqgan
    assert two.condition is not two.vqgan


def test_fingerprint_changes_with_the_file(host, make_bundle):
    adapter.register_model_folders()
    path = host.base / "models" / "vq_transformer" / "a.safetensors"
    save_bundle(path, make_bundle("none"))
    before = loaders.LoadBundle.fingerprint_inputs("a.safetensors")
    assert loaders.LoadBundle.fingerprint_inputs("a.safetensors") == before
    save_bundle(path, make_bundle("class"))
    assert loaders.LoadBundle.fingerprint_inputs("a.safetensors") != before


def test_pictures_go_to_core_and_back():
    image = torch.rand(2, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    inside = pictures.from_image(image)
    assert inside.shape == (2, 3, 5, 7)
    assert inside.min() < -0.9
    assert torch.allclose(pictures.to_image(inside), image, atol=1e-6)
    with_alpha = torch.cat([image, torch.zeros(2, 5, 7, 1)], -1)
    assert torch.equal(pictures.from_image(with_alpha), inside)
    assert pictures.to_image(torch.full((1, 1, 2, 2), 9.0)).eq(1).all()  # clamped, three channels
    assert pictures.to_image(torch.zeros(1, 1, 2, 2)).shape == (1, 2, 2, 3)


def test_masks_of_two_and_three_dimensions_are_taken():
    assert pictures.from_mask(torch.full((4, 5), 2.0)).shape == (1, 4, 5)
    assert pictures.from_mask(torch.full((2, 4, 5), 2.0)).max() == 1


def test_latents_lose_their_overhang_when_another_node_resizes_them():
    latent = pictures.to_latent(torch.zeros(1, 4, 3, 2), (10, 8), 4)
    assert pictures.from_latent(latent)[1] == (0.5, 0.0)
    assert pictures.from_latent({**latent, "samples": torch.zeros(1, 4, 6, 4)})[1] == (0.0, 0.0)
    assert pictures.from_latent({"samples": torch.zeros(1, 4, 6, 4)})[1] == (0.0, 0.0)


def test_sampling_shows_pictures_and_ends_with_the_last(host, make_bundle):
    model = handle(make_bundle("none"))
    out = sampling.SampleCodes.execute(model, 5, 3, 1)
    expected = sample(model.bundle.prior, model.bundle.condition(), model.bundle.empty_canvas(3), 5, SamplingSettings())
    assert torch.equal(out[1].indices, expected.indices)
    assert out[0].shape == (3, 16, 16, 3)
    assert out[2].shape == out[3].shape == (3, 16, 16)
    done, total, preview = host.updates[-1]
    assert (done, total) == (16, 16)
    assert preview[0] == "JPEG"
    assert preview[1].size == (2 * 16 + 4, 2 * 16 + 4)
    modules, memory = host.loaded[0]
    assert set(modules) == {model.bundle.prior, model.bundle.vqgan}
    assert memory > 100_000
    assert host.loaded[-1][0] == [model.bundle.vqgan]


def test_forecast_of_a_run_lies_beside_its_pictures(host, make_bundle):
    model = handle(make_bundle("none"))
    out = sampling.SampleCodes.execute(model, 5, 2, 0)
    (file,) = out.ui["tessera_forecast"]
    assert file["type"] == "temp"
    assert len(out.ui["images"]) == 2
    with safe_open(host.base / "temp" / file["filename"], "pt") as saved:
        assert saved.get_tensor("log_probabilities").isfinite().all()
        noise = gumbel(cell_keys(5, 1, 4, 4), 16)[0].gather(2, saved.get_tensor("codes").long())
        torch.testing.assert_close(saved.get_tensor("noise"), noise)
        assert saved.get_tensor("colours").shape == (16, 3)


def test_no_picture_is_made_when_none_is_wanted(host, make_bundle):
    sampling.SampleCodes.execute(handle(make_bundle("none")), 5, 1, 0)
    assert host.updates
    assert all(preview is None for _, _, preview in host.updates)


def test_cancelled_run_is_recalled_and_goes_on(host, make_bundle):
    unfinished.kept.clear()
    model = handle(make_bundle("none"))
    whole = sampling.SampleCodes.execute(model, 5, 2, 0)[1]
    unfinished.kept.clear()
    host.interrupted_after = 6
    with pytest.raises(adapter.Interrupted):
        sampling.SampleCodes.execute(model, 5, 2, 0)
    before = canvas_files.RecallCanvas.fingerprint_inputs()
    partial = canvas_files.RecallCanvas.execute()[0]
    decided = int(partial.known[0].sum())  # the cell at which the cancel was seen is done, and those of its pass
    assert 7 <= decided < 16
    assert torch.equal(partial.indices[partial.known], whole.indices[partial.known])
    host.updates.clear()
    rest = sampling.SampleCodes.execute(model, 5, 2, 0)
    assert host.updates[-1][:2] == (16 - decided, 16 - decided)
    assert torch.equal(rest[1].indices, whole.indices)
    with safe_open(host.base / "temp" / rest.ui["tessera_forecast"][0]["filename"], "pt") as saved:
        assert saved.get_tensor("log_probabilities").isfinite().all()  # of the cells before the cancel, too
    assert canvas_files.RecallCanvas.fingerprint_inputs() != before
    with pytest.raises(ValueError, match="nothing to recall"):
        canvas_files.RecallCanvas.execute()


def test_other_settings_do_not_go_on_from_a_cancelled_run(host, make_bundle):
    unfinished.kept.clear()
    model = handle(make_bundle("none"))
    host.interrupted_after = 6
    with pytest.raises(adapter.Interrupted):
        sampling.SampleCodes.execute(model, 5, 1, 0)
    host.updates.clear()
    sampling.SampleCodes.execute(model, 5, 1, 0, settings=SamplingSettings(top_k=3))
    assert host.updates[-1][:2] == (16, 16)
    assert 7 <= unfinished.last_change()[1] < 16


def test_only_so_many_cancelled_runs_are_kept(host, make_bundle):
    unfinished.kept.clear()
    model = handle(make_bundle("none"))
    for seed in range(unfinished.MAX_RUNS + 3):
        host.interrupted_after = 1
        with pytest.raises(adapter.Interrupted):
            sampling.SampleCodes.execute(model, seed, 1, 0)
    assert len(unfinished.kept) == unfinished.MAX_RUNS


def test_more_to_keep_than_there_are_is_refused_before_anything_is_made(host, make_bundle):
    with pytest.raises(ValueError, match="choose 1 to 2"):
        compare.BestOf.execute(handle(make_bundle("none")), 0, 2, 3, 0)
    assert not host.updates


def test_inputs_are_never_changed(host, make_bundle):
    model = handle(make_bundle("none"))
    canvas = Canvas.filled(torch.randint(16, (1, 5, 6))).forget(torch.rand(5, 6) < 0.5)
    indices, known = canvas.indices.clone(), canvas.known.clone()
    sampling.SampleCodes.execute(model, 0, 2, 0, canvas=canvas)
    assert torch.equal(canvas.indices, indices)
    assert torch.equal(canvas.known, known)


def test_saved_canvas_is_listed_and_loaded_and_nothing_beside_it(host):
    canvas = Canvas.filled(torch.arange(6).view(1, 2, 3)).with_padding((0.0, 0.5))
    canvas_files.SaveCanvas.execute(canvas, "a/b")
    (host.base / "output" / "other.safetensors").touch()
    name = "a/b_00001_.canvas.safetensors [output]"
    assert adapter.files_between(canvas_files.SUFFIX) == [name]
    assert canvas_files.LoadCanvas.validate_inputs(name) is True
    (host.base / "b.canvas.safetensors").touch()
    for outside in ("../b.canvas.safetensors", "other.safetensors [output]", str(host.base / "b.canvas.safetensors")):
        assert "is neither in the input" in canvas_files.LoadCanvas.validate_inputs(outside)
    assert canvas_files.LoadCanvas.validate_inputs(None) is True
    assert torch.equal(canvas_files.LoadCanvas.execute(name)[0].indices, canvas.indices)
    assert load_canvas(host.base / "output" / "a" / "b_00001_.canvas.safetensors").padding == (0.0, 0.5)
    with pytest.raises(FileNotFoundError, match="choose another"):
        adapter.file_between("../b.canvas.safetensors", canvas_files.SUFFIX)


def test_saved_picture_carries_its_canvas_and_the_workflow(host, make_bundle):
    vqgan = handle_of(make_bundle("none").vqgan)
    canvas = Canvas.filled(torch.arange(8).view(2, 2, 2))
    canvas_files.SavePicture.hidden.prompt = {"1": "a"}
    image = torch.rand(2, 8, 8, 3)
    saved = canvas_files.SavePicture.execute(vqgan, image, canvas, "p/q").ui.results
    assert [result["filename"] for result in saved] == ["q_00001_.png", "q_00002_.png"]
    path = host.base / "output" / "p" / "q_00002_.png"
    assert Image.open(path).info["prompt"] == '{"1": "a"}'
    name = "p/q_00002_.png [output]"
    assert canvas_files.LoadCanvasOfPicture.validate_inputs(name) is True
    assert canvas_files.LoadCanvasOfPicture.execute(name, vqgan)[0].indices.tolist() == [[[4, 5], [6, 7]]]
    with pytest.raises(ValueError, match="1 pictures and a canvas of 2"):
        canvas_files.SavePicture.execute(vqgan, image[:1], canvas, "p/q")


def test_a_saved_picture_can_be_painted_again_from_what_it_tells(host, make_bundle):
    model = handle(make_bundle("none"))
    window = WindowChoice(Sliding(stride=2), "x")
    half = Canvas.empty(1, 5, 6)
    picture, painted = sampling.SampleCodes.execute(
        model, 5, 2, 0, None, half, SamplingSettings(temperature=0.7, top_k=9), window
    ).args[:2]
    canvas_files.SavePicture.execute(model.vqgan, picture, painted, "p/q")
    canvas, text = canvas_files.LoadCanvasOfPicture.execute("p/q_00002_.png [output]", model.vqgan).args
    told = json.loads(text)
    assert told.pop("prior") == weights_fingerprint(model.bundle.prior)
    assert told.pop("draw") == DRAW
    seed, window = told.pop("seed"), WindowChoice(Sliding(stride=told.pop("stride")), told.pop("wrap"))
    assert seed == 6
    settings = SamplingSettings(guidance_scale=told.pop("guidance"), **told)
    again = sampling.SampleCodes.execute(model, seed, 1, 0, None, half, settings, window)[1]
    assert torch.equal(again.indices, canvas.indices)
    finished = sampling.SampleCodes.execute(model, 99, 1, 0, None, canvas, None, window)[1]
    assert finished.provenance == canvas.provenance, "nothing was left to paint"


def test_long_folders_list_the_newest_files_and_still_open_the_others(host, monkeypatch):
    monkeypatch.setattr(adapter, "MAX_LISTED", 3)
    for number in range(5):
        path = host.base / "output" / f"{number}.png"
        path.touch()
        os.utime(path, (number, number))
    assert adapter.files_between(".png") == ["4.png [output]", "3.png [output]", "2.png [output]"]
    assert adapter.file_between("0.png [output]", ".png").name == "0.png"
