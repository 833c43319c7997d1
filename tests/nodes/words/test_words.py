"""Words to pictures, through the nodes."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tessera.benchmarks.guide import QUICK, QUICK_CLIP, random_models
from tessera.core.autoencoders.discriminator import DiscriminatorConfig, PatchDiscriminator
from tessera.core.autoencoders.discriminator_file import Realism, save_discriminator, score_realism
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.bundle_file import save_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.clip.clip_file import save_clip
from tessera.core.clip.gate import Term
from tessera.core.clip.scoring import score_texts
from tessera.core.images.metrics import percentiles
from tessera.nodes import canvas_files, compare, conditions, loaders, sample
from tessera.nodes.host.comfy import Interrupted, register_model_folders
from tessera.nodes.host.images import from_image
from tessera.nodes.words import clip, films, painting, steering
from tessera.nodes.words.gate import Gate, LoadDiscriminator


@pytest.fixture
def models(host):
    """A VQGAN and a CLIP as the loaders give them."""
    register_model_folders()
    folders = {name: host.base / name for name in ("vqgan", "tessera_clip")}
    for name, folder in folders.items():
        folder.mkdir()
        host.folders[name][0].insert(0, str(folder))
    vqgan, model = random_models(QUICK, QUICK_CLIP)
    save_vqgan(folders["vqgan"] / "tiny.safetensors", vqgan)
    save_clip(folders["tessera_clip"] / "tiny-clip.safetensors", model)
    (loaded,) = loaders.LoadVQGAN.execute("tiny.safetensors").args
    (judge,) = clip.LoadCLIP.execute("tiny-clip.safetensors", clip.SAME_FILE, "auto").args
    return loaded, judge


@pytest.fixture
def settings():
    return painting.PaintSettings.execute(5.0, 2, "mixed", True, 0.0, 0.0, 0.5).args[0]


def paint(models, settings, steps=3, **changes):
    given = {"seed": 1, "text": "a cat", "width": 20, "height": 16, "steps": steps, "preview_every": 1}
    return painting.PaintByWords.execute(*models, **{**given, "settings": settings, **changes}).args


def test_words_become_a_picture_of_whole_cells(models, settings, host):
    picture, canvas = paint(models, settings)
    assert picture.shape == (1, 16, 20, 3)
    assert canvas.size == (8, 10)
    assert canvas.known.all()
    assert host.updates[-1][:2] == (3, 3)
    assert "3 steps, about" in host.said[0][0]
    again, _ = paint(models, settings)
    assert torch.equal(picture, again)
    other, _ = paint(models, settings, text="a dog")
    assert not torch.equal(picture, other)


def test_a_cancelled_picture_goes_on_where_it_was(models, settings, host):
    whole, _ = paint(models, settings)
    looks = itertools.count()

    def cancel(*_):
        host.interrupted_after = 0 if next(looks) == 4 else None

    within = models[1].model.clip.image.register_forward_pre_hook(cancel)  # in the third step, after two to measure
    with pytest.raises(Interrupted):
        paint(models, settings)
    within.remove()
    host.said.clear()
    rest, _ = paint(models, settings)
    assert host.said[0][0].startswith("1 steps")
    assert torch.equal(rest, whole)


def test_prompts_of_nodes_add_up_and_a_mask_keeps_the_rest(models, settings):
    mask = torch.zeros(1, 16, 20)
    mask[..., 10:] = 1
    prompts = clip.WordsPrompt.execute("a cat:2 | a dog:-1", region=mask).args[0]
    prompts = clip.PicturePrompt.execute(torch.rand(2, 24, 24, 3), 0.5, prompts=prompts).args[0]
    assert [p.weight for p in prompts] == [2, -1, 0.5, 0.5]
    _, start = paint(models, settings)
    _, canvas = paint(models, settings, text="", prompts=prompts, canvas=start, mask=mask, second_clip=models[1])
    assert torch.equal(canvas.indices[..., :5], start.indices[..., :5])
    assert not torch.equal(canvas.indices[..., 5:], start.indices[..., 5:])
    with pytest.raises(ValueError, match="the prompt is empty"):
        paint(models, settings, text=" ")


def test_stories_and_films_are_batches_of_frames(models, settings):
    (frames,) = films.PaintStory.execute(
        *models, 0, "a cat\na dog", 3, 20, 16, 2, 1, 1.05, 0.0, 0.0, 5.0, settings
    ).args
    assert frames.shape == (3, 16, 20, 3)
    (restyled,) = films.RestyleFilm.execute(*models, 0, frames, "a cat", 1, 1.0, 0.3, settings=settings).args
    assert restyled.shape == frames.shape


def test_a_story_begins_where_a_canvas_says(models, settings):
    picture, start = paint(models, settings)
    gentle = painting.PaintSettings.execute(0.001, 2, "mixed", True, 0.0, 0.0, 0.5).args[0]
    given = (*models, 0, "a cat", 1, 64, 64, 1, 1, 1.0, 0.0, 0.0, 0.0, gentle)
    (there,) = films.PaintStory.execute(*given, start).args
    assert torch.allclose(there, picture, atol=0.02)
    (from_noise,) = films.PaintStory.execute(*given).args
    assert from_noise.shape == (1, 64, 64, 3)


def test_pictures_are_ranked_by_words_and_by_a_reference(models):
    judge, pictures = models[1], torch.rand(4, 24, 24, 3, generator=torch.Generator().manual_seed(0))
    best, scores = clip.RankByWords.execute(judge, pictures, "", 2, reference=pictures[2:3]).args
    assert torch.equal(best[0], pictures[2])
    assert scores.splitlines()[0] == "3: 1.000"
    assert len(clip.RankByWords.execute(judge, pictures, "a cat", 4).args[1].splitlines()) == 4
    with pytest.raises(ValueError, match="empty"):
        clip.RankByWords.execute(judge, pictures, " ", 1)


def test_pictures_are_classified_by_names(models):
    sheet, lines = clip.Classify.execute(models[1], torch.rand(2, 24, 24, 3), "cat\ndog\ntree", "{}").args
    assert sheet.shape[0] == 1
    assert all(name in lines.splitlines()[0] for name in ("cat", "dog", "tree"))
    with pytest.raises(ValueError, match="at least two"):
        clip.Classify.execute(models[1], torch.rand(1, 24, 24, 3), "cat", "{}")


@pytest.fixture
def painter(host, models, make_bundle):
    """A tiny model that paints freely."""
    folder = host.base / "priors"
    folder.mkdir()
    host.folders["vq_transformer"][0].insert(0, str(folder))
    save_bundle(folder / "tiny.safetensors", make_bundle("none"))
    return loaders.LoadBundle.execute("tiny.safetensors").args[0]


def test_words_steer_what_a_model_paints(painter, models):
    picture, canvas, strip = steering.SteerByWords.execute(painter, models[1], 0, "a cat", 3, 4).args
    assert picture.shape == (1, 16, 16, 3)
    assert canvas.known.all()
    assert strip.shape[0] == 1
    again = steering.SteerByWords.execute(painter, models[1], 0, "a cat", 3, 4).args[1]
    assert torch.equal(again.indices, canvas.indices)


def test_the_gate_tries_seeds_until_one_passes(painter, models):
    reference = torch.rand(1, 16, 16, 3)
    given = {"seed": 5, "tries": 5, "together": 2, "likelihood": 0.5, "preview_every": 0, "reference": reference}
    _, _, _, lines = Gate.execute(painter, models[1], text="a cat", threshold=100.0, **given).args
    assert len(lines.splitlines()) == 7
    assert lines.startswith("seed 5: words")
    assert "none passed; this is the best\n" in lines
    assert lines.endswith("not known for words, reference, likelihood: 100 times the score counts")
    picture, canvas, _, lines = Gate.execute(painter, models[1], text="", threshold=0.0, **given).args
    assert lines.splitlines()[2] == "passed"
    assert len(lines.splitlines()) == 4
    assert (picture.shape, len(canvas.indices)) == ((1, 16, 16, 3), 1)
    with pytest.raises(ValueError, match="nothing to judge"):
        Gate.execute(painter, models[1], text=" ", threshold=0.0, **{**given, "reference": None})


def test_a_discriminator_judges_realism_by_what_reconstructions_reach(painter, models, host):
    torch.manual_seed(0)
    judge = PatchDiscriminator(DiscriminatorConfig(channels=4, layers=1)).eval().requires_grad_(False)
    for weight in judge.parameters():  # as a trained one, it has an opinion
        torch.nn.init.normal_(weight, std=0.5)
    folder = Path(host.folders["vqgan"][0][0])
    given = {"text": "a cat", "threshold": 100.0, "together": 2, "likelihood": 0.0, "preview_every": 0}
    each = [Gate.execute(painter, models[1], seed=seed, tries=1, **given | {"together": 1}) for seed in range(4)]
    scores = score_realism(judge, torch.cat([from_image(one.args[0]) for one in each]))
    table = percentiles(torch.cat([scores, scores.max()[None] + 1]))  # none passes
    save_discriminator(folder / "judge.safetensors", Realism(judge, table))
    (handle,) = LoadDiscriminator.execute("judge.safetensors").args
    alone = given | {"text": "", "seed": 0, "tries": 4, "discriminator": handle}
    picture, _, _, lines = Gate.execute(painter, models[1], **alone).args
    assert torch.equal(picture, each[int(scores.argmax())].args[0])
    found = [float(line.split("realism ")[1].split(",")[0]) for line in lines.splitlines()[:4]]
    assert found == pytest.approx(Term(name="x", quantiles=table).percent(scores).round().tolist(), abs=1)
    both = Gate.execute(painter, models[1], **alone | {"text": "a cat", "realism": 0.5}).args[3].splitlines()[0]
    words, realism, total = (float(part.split()[-1]) for part in both.split(", "))
    assert total == pytest.approx((words + realism / 2) / 1.5, abs=1)
    with pytest.raises(ValueError, match="nothing to judge by"):
        Gate.execute(painter, models[1], **alone | {"realism": 0.0})
    save_discriminator(folder / "bare.safetensors", Realism(judge))
    (bare,) = LoadDiscriminator.execute("bare.safetensors").args
    with pytest.raises(ValueError, match="no table of what real pictures reach in realism"):
        Gate.execute(painter, models[1], **alone | {"discriminator": bare})
    with pytest.raises(ValueError, match=r"tiny\.safetensors holds vqgan, not a discriminator"):
        LoadDiscriminator.execute("tiny.safetensors")


def test_agreement_with_edges_counts_at_the_gate(host, models, make_bundle):
    register_model_folders()
    (host.base / "priors").mkdir()
    host.folders["vq_transformer"][0].insert(0, str(host.base / "priors"))
    save_bundle(host.base / "priors" / "edges.safetensors", make_bundle("edges"))
    model = loaders.LoadBundle.execute("edges.safetensors").args[0]
    guide = conditions.Edges.execute(model, torch.rand(1, 16, 16, 3), "photograph", "square", 50, 120, 0.5).args[0]
    given = {"seed": 0, "threshold": 100.0, "tries": 2, "together": 2, "likelihood": 0.0, "preview_every": 0}
    gate = Gate.execute(model, models[1], text="", condition=guide, agreement=1.0, **given)
    assert [line.split()[2] for line in gate.args[3].splitlines()[:2]] == ["agreement", "agreement"]
    reached = {"agreement": torch.linspace(-1, -0.5, 101), "likelihood": torch.ones(101)}
    known = replace(model, bundle=replace(model.bundle, reached=reached))
    gate = Gate.execute(known, models[1], text="", condition=guide, agreement=1.0, **given | {"likelihood": 1.0})
    assert "agreement 100, likelihood 0, total 50" in gate.args[3].splitlines()[0]
    assert "not known" not in gate.args[3]
    with pytest.raises(ValueError, match="no condition is connected"):
        Gate.execute(model, models[1], text="", agreement=1.0, **given)


def test_the_best_of_many_by_words_is_the_one_that_fits_them_best(painter, models):
    with pytest.raises(ValueError, match="text is empty"):
        compare.BestOf.execute(painter, 0, 3, 1, 0, clip=models[1])
    kept, *_ = compare.BestOf.execute(painter, 0, 3, 3, 0, clip=models[1], text="a cat").args
    scores = score_texts(models[1].model, kept.movedim(3, 1), ["a cat"])[:, 0]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    best = compare.BestOf.execute(painter, 0, 3, 1, 0, clip=models[1], text="a cat").args[0]
    assert torch.equal(best, kept[:1])


def steer(painter, models, **_):
    steering.SteerByWords.execute(painter, models[1], 0, "a cat", 2, 1)


def gate(painter, models, **_):
    Gate.execute(painter, models[1], 0, "a cat", 100.0, 2, 2, 0.0, 0)


def best_of_many(painter, models, **_):
    compare.BestOf.execute(painter, 0, 2, 1, 0, clip=models[1], text="a cat")


def paint_words(painter, models, settings):
    paint(models, settings)


def story(painter, models, settings):
    films.PaintStory.execute(*models, 0, "a cat", 1, 20, 16, 2, 1, 1.0, 0.0, 0.0, 0.0, settings)


def rank(painter, models, **_):
    clip.RankByWords.execute(models[1], torch.rand(2, 24, 24, 3), "a cat", 1)


def classes(painter, models, **_):
    clip.Classify.execute(models[1], torch.rand(2, 24, 24, 3), "cat\ndog", "{}")


def atlas(painter, models, **_):
    compare.CodebookAtlas.execute(models[0], "number")


def show(painter, models, **_):
    canvas_files.ShowCanvas.execute(models[0], Canvas.empty(1, 4, 4))


def previews(painter, models, **_):
    sample.SampleCodes.execute(painter, 0, 1, 1)


@pytest.mark.parametrize("work", [steer, gate, best_of_many, paint_words, story, rank, classes, atlas, show, previews])
def test_cancel_is_heard_within_whatever_model_is_at_work(host, painter, models, settings, work):
    parts = {
        "decoder": models[0].module.decoder,
        "painter": painter.bundle.vqgan.decoder,
        "clip": models[1].model.clip.image,
    }
    names = {atlas: ["decoder"], show: ["decoder"], previews: ["painter"], steer: ["painter", "clip"]}
    names |= {paint_words: ["decoder", "clip"], story: ["decoder", "clip"]}
    for name in names.get(work, ["clip"]):
        finished = []
        hooks = [
            parts[name].register_forward_pre_hook(lambda *_: setattr(host, "interrupted_after", 0)),
            parts[name].register_forward_hook(lambda *_, finished=finished: finished.append(True)),
        ]
        with pytest.raises(Interrupted):
            work(painter=painter, models=models, settings=settings)
        assert not finished
        for hook in hooks:
            hook.remove()
        host.interrupted_after = None
