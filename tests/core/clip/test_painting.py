import pytest
import torch

from tessera.benchmarks.guide import QUICK, QUICK_CLIP, random_models
from tessera.core.canvas.canvas import Canvas
from tessera.core.clip.cutouts import CutoutSettings
from tessera.core.clip.guidance import GuidanceSettings
from tessera.core.clip.painting import (
    Camera,
    begin_painting,
    best_of_free,
    estimate_step,
    from_canvas,
    guidance_memory,
    move_camera,
    painted_canvas,
    restyle,
    story,
)
from tessera.core.clip.prompts import parse_prompts
from tessera.core.clip.scoring import score_texts

SETTINGS = GuidanceSettings(steps=2, learning_rate=5, cutouts=CutoutSettings(count=2))
SCENES = [parse_prompts("a cat"), parse_prompts("a dog")]


@pytest.fixture(scope="module")
def models():
    return random_models(QUICK, QUICK_CLIP)


def test_a_painting_begins_with_noise_where_the_canvas_is_unknown(models):
    vqgan = models[0]
    state = begin_painting(vqgan, 16, 20, seed=1)
    assert state.z.shape[2:] == (8, 10)
    again = painted_canvas(vqgan, state, SETTINGS)
    half = Canvas.empty(1, 8, 10).paste(Canvas.filled(torch.full((1, 8, 5), 7)), 0, 0)
    mixed = painted_canvas(vqgan, from_canvas(vqgan, half, seed=1), SETTINGS)
    assert (mixed.indices[:, :, :5] == 7).all()
    assert (mixed.indices[:, :, 5:] == again.indices[:, :, 5:]).float().mean() > 0.8
    with pytest.raises(ValueError, match="2 pictures"):
        from_canvas(vqgan, Canvas.empty(2, 4, 4), seed=0)


def test_time_and_memory_are_told_before_a_run(models):
    vqgan, clip = models
    state = begin_painting(vqgan, 16, 16, seed=0)
    assert 0 < estimate_step(vqgan, [clip], state, SETTINGS) < 10
    assert guidance_memory(vqgan, [clip], 32, 32) > guidance_memory(vqgan, [clip], 16, 16) > 0


def test_the_camera_goes_in_and_to_the_side():
    image = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)  # brighter to the right
    closer = move_camera(image, Camera(zoom=2))
    assert closer[..., 0].mean() == pytest.approx(-0.5, abs=0.05)
    assert closer[..., -1].mean() == pytest.approx(0.5, abs=0.05)
    aside = move_camera(image, Camera(zoom=1, right=0.25))
    assert aside[..., 0].mean() == pytest.approx(-0.5, abs=0.05)
    turned = move_camera(image, Camera(zoom=1, turn=90))  # what was right is below
    torch.testing.assert_close(turned, image.transpose(2, 3), atol=1e-4, rtol=0)


def test_a_story_tells_its_scenes_one_after_the_other(models):
    vqgan, clip = models
    found = list(story(vqgan, [clip], SCENES, begin_painting(vqgan, 16, 16, 0), SETTINGS, Camera(), frames=4, steps=1))
    frames = [frame for frame in found if frame.image is not None]
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert len(found) == 5  # two steps of the first frame, one of each other
    assert frames[0].image.shape == (1, 3, 16, 16)
    again = list(story(vqgan, [clip], SCENES[:1], begin_painting(vqgan, 16, 16, 0), SETTINGS, Camera(), 4, 1))
    same = [torch.equal(a.image, b.image) for a, b in zip(frames, again[1:], strict=True)]
    assert same[:2] == [True, True]
    assert same != [True] * 4
    with pytest.raises(ValueError, match="1 frames for 2 scenes"):
        next(story(vqgan, [clip], SCENES, begin_painting(vqgan, 16, 16, 0), SETTINGS, Camera(), 1, 1))


def test_a_film_is_restyled_frame_by_frame(models):
    vqgan, clip = models
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    found = [f.image for f in restyle(vqgan, [clip], SCENES[0], images, SETTINGS, 0, carry=0.5) if f.image is not None]
    assert torch.cat(found).shape == images.shape


def test_the_free_picture_that_fits_the_words_best_makes_the_beginning(make_bundle):
    bundle, told = make_bundle("none"), []
    model = random_models(QUICK, QUICK_CLIP)[1]
    prompts = parse_prompts("a cat | a dog:2 | a bird:-1")
    best = best_of_free(bundle, model, prompts, (15, 16), 5, 7, told.append)
    free = bundle.sample(canvas=bundle.empty_canvas(1), batch=5, seed=7)
    scores = score_texts(model, (free.images + 1) / 2, ["a cat", "a dog"]).mean(1)
    assert torch.equal(best.indices, free.canvas.indices[scores.argmax()][None])
    assert told[-1].done == told[-1].total
    with pytest.raises(ValueError, match="guided by edges"):
        best_of_free(make_bundle("edges"), model, prompts, (16, 16), 2, 0, told.append)
