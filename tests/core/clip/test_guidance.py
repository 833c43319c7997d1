import math

import pytest
import torch

from tessera.benchmarks.guide import QUICK, QUICK_CLIP, our_losses, plain_losses, random_models
from tessera.core.autoencoders.vqgan import VQGAN
from tessera.core.clip import objective
from tessera.core.clip.cutouts import CutoutSettings, coverage, draw_views, take_views
from tessera.core.clip.encoder import CLIP, CLIPConfig
from tessera.core.clip.guidance import GuidanceSettings, GuidanceState, averaged, guide_steps, nearest_indices
from tessera.core.clip.model import ClipModel
from tessera.core.clip.objective import add_gradient, encode_prompts, spherical_distance
from tessera.core.clip.prompts import Prompt, parse_prompts

FEW = CutoutSettings(count=6)
CAT = [Prompt(text="a cat")]


@pytest.fixture(scope="module")
def models() -> tuple[VQGAN, ClipModel]:
    return random_models(QUICK, QUICK_CLIP)


def begin(vqgan: VQGAN, seed: int = 0) -> GuidanceState:
    codes = torch.randint(vqgan.config.codebook_size, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    return GuidanceState.begin(vqgan, codes, seed)


def run_steps(models, prompts, state=None, free=None, **settings):
    """The steps of a run."""
    vqgan, clip = models
    settings = GuidanceSettings(**{"steps": 4, "cutouts": FEW, **settings})
    return guide_steps(vqgan, [clip], prompts, state or begin(vqgan), settings, free)


def run(*args, **settings):
    """The events of a whole run."""
    return list(run_steps(*args, **settings))


def test_losses_are_those_of_the_notebook_written_plainly(models):
    settings = GuidanceSettings(steps=20, cutouts=CutoutSettings(count=5))
    codes = torch.randint(1024, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    ours, plain = (losses(*models, codes, settings, 3) for losses in (our_losses, plain_losses))
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=0)


def test_the_picture_comes_nearer_to_what_attracts_and_leaves_what_repels(models):
    settings = {
        "steps": 12,
        "learning_rate": 0.5,
        "cutouts": CutoutSettings(count=1, kind="whole", augment=False, noise=0),
    }
    near, far = (run(models, [Prompt(text="a cat", weight=weight)], **settings) for weight in (1, -1))
    assert near[-1].losses[0] < near[0].losses[0] - 0.1
    assert far[-1].losses[0] < far[0].losses[0] - 0.1
    assert far[0].losses[0] == pytest.approx(-near[0].losses[0])


def test_a_gradient_in_parts_is_the_gradient_of_all_views_at_once(models, monkeypatch):
    ends = []
    for at_once in (6, 1, 4):
        monkeypatch.setattr(objective, "MOST_VIEWS", at_once)
        ends.append(run(models, parse_prompts("a cat | a dog:-0.5"), steps=2)[-1].state.first_moment)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-4, atol=1e-9)


def test_views_of_a_large_clip_are_worked_on_one_by_one(models):
    with torch.device("meta"):
        small = CLIP(CLIPConfig())
        large = CLIP(CLIPConfig(patch_size=14, image_width=1024, image_heads=16, image_layers=24))
    tiny = objective.views_at_once(models[1].clip)
    assert tiny > objective.views_at_once(small) > objective.views_at_once(large) == 1
    for clip in (small, large):
        kept = objective.views_at_once(clip) * objective.view_memory(clip)
        assert kept <= max(objective.VIEWS_MEMORY, objective.view_memory(clip))


def test_a_stopped_run_goes_on_bit_by_bit(models):
    whole = run(models, CAT)
    with torch.inference_mode():  # as inside ComfyUI
        rest = []
        for event in run_steps(models, CAT, state=whole[1].state):
            assert torch.is_inference_mode_enabled()
            rest.append(event)
    assert [event.step for event in rest] == [3, 4]
    assert torch.equal(rest[-1].state.z, whole[-1].state.z)
    assert torch.equal(rest[-1].image, whole[-1].image)
    assert rest[-1].loss == whole[-1].loss
    assert not torch.equal(run(models, CAT, state=begin(models[0], seed=1))[-1].state.z, whole[-1].state.z)


def test_cells_that_are_not_free_keep_their_codes(models):
    free = torch.zeros(8, 8, dtype=torch.bool)
    free[:, 4:] = True
    start = begin(models[0])
    end = run(models, CAT, state=start, free=free, pull=1.0)[-1].state
    assert torch.equal(end.z[:, :, ~free], start.z[:, :, ~free])
    assert not torch.equal(end.z[:, :, free], start.z[:, :, free])
    codes = models[0].codebook.codes
    assert torch.equal(nearest_indices(averaged(end, 0.95), codes)[:, ~free], nearest_indices(start.z, codes)[:, ~free])
    with pytest.raises(ValueError, match="free cells are"):
        run(models, CAT, free=torch.ones(4, 4, dtype=torch.bool))


def test_a_region_prompt_changes_its_region_most(models):
    clip, region, cutouts = models[1], torch.zeros(16, 16), CutoutSettings(count=32, augment=False)
    region[:, :8] = 1
    image = torch.rand(1, 3, 64, 64).requires_grad_()
    views = draw_views(cutouts, 64, 64, 32, torch.Generator().manual_seed(0))
    targets = encode_prompts(clip, [Prompt(text="a cat", region=region)], cutouts, (64, 64))
    add_gradient(clip.clip, image, views, targets, normalize=True)
    change = image.grad.square().sum((0, 1, 2))  # [W]
    assert change[:32].sum() > 1.5 * change[32:].sum()


def test_a_view_past_the_stop_is_left_alone(models):
    end = run(models, [Prompt(text="a cat", stop=5.0)])[-1].state
    assert torch.equal(end.z, begin(models[0]).z)


def test_pulls_lead_back_to_the_start_and_to_the_mean_code(models):
    start = begin(models[0])
    still = Prompt(text="a cat", weight=1e-6)
    for settings, aim in (
        ({"init_weight": 5.0}, torch.zeros_like(start.z)),
        ({"pull": 5.0}, models[0].codebook.codes.mean(0)[:, None, None].expand_as(start.z[0])[None]),
    ):
        away = start.clone()
        away.start = torch.zeros_like(start.z)
        end = run(models, [still], state=away, normalize=False, steps=6, **settings)[-1].state
        assert (end.z - aim).square().mean() < (start.z - aim).square().mean()


def test_two_clips_pull_together(models):
    vqgan, clip = models
    other = random_models(QUICK, QUICK_CLIP)[1]
    other.clip.init_weights()  # draws on
    settings = GuidanceSettings(steps=1, cutouts=FEW, normalize=False)
    one, two, both = (
        next(guide_steps(vqgan, found, CAT, begin(vqgan), settings)) for found in ([clip], [other], [clip, other])
    )
    assert both.losses == one.losses
    assert both.loss > one.loss > 0
    assert two.loss != one.loss


def test_the_distance_has_a_finite_gradient_everywhere():
    v = torch.nn.functional.normalize(torch.randn(1, 8), dim=1)
    for u in (v, -v, torch.nn.functional.normalize(torch.randn(1, 8), dim=1)):
        u = u.clone().requires_grad_()
        distance = spherical_distance(u, v)
        distance.sum().backward()
        assert u.grad.isfinite().all()
        assert distance.item() == pytest.approx(math.acos(max(-1, min(1, (u @ v.t()).item()))) ** 2 / 2, abs=1e-2)


def test_prompts_are_read_from_the_right():
    found = [(p.text, p.weight, p.stop) for p in parse_prompts("at 12:30 in London | a cat:2 | letters:-1:-0.9")]
    assert found == [("at 12:30 in London", 1, -math.inf), ("a cat", 2, -math.inf), ("letters", -1, -0.9)]


@pytest.mark.parametrize(
    ("text", "message"), [("  ", "empty"), ("a || b", "take out"), ("a:0", "weight is 0"), ("a:nan", "weight is nan")]
)
def test_prompts_that_say_nothing_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_prompts(text)


def test_a_picture_too_large_for_the_memory_gets_advice(models):
    hook = models[0].decoder.register_forward_hook(lambda *_: torch.empty(2**60))
    try:
        with pytest.raises(torch.OutOfMemoryError, match=r"a step for 16x16 pixels does not fit .* a smaller picture"):
            run(models, CAT)
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ["mixed", "crop", "whole", "zoom"])
def test_views_follow_their_seed_and_stay_in_range(kind):
    settings, picture = CutoutSettings(count=12, kind=kind), torch.rand(1, 3, 48, 96)
    one, two, other = (
        take_views(picture, draw_views(settings, 48, 96, 32, torch.Generator().manual_seed(s)), 32) for s in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.shape == (12, 3, 32, 32)
    assert one.isfinite().all()
    assert -1 < one.min() < one.max() < 2


def test_a_plain_whole_view_is_the_picture_and_covers_all_of_a_region():
    picture = torch.rand(1, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    views = draw_views(CutoutSettings(count=2, kind="whole", augment=False, noise=0), 64, 64, 32, torch.Generator())
    taken = take_views(picture, views, 32)
    torch.testing.assert_close(taken[1], torch.nn.functional.avg_pool2d(picture, 2)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(coverage(views, torch.ones(64, 64)), torch.ones(2))
    half = torch.zeros(64, 64)
    half[:32] = 1
    torch.testing.assert_close(coverage(views, half), torch.full((2,), 0.5), atol=0.02, rtol=0)
