"""The first stage's own training: what it learns, when the adversary is heard, how codes are kept alive."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tessera.core.autoencoders.discriminator import adaptive_weight
from tessera.core.autoencoders.discriminator_file import open_discriminator, score_realism
from tessera.core.autoencoders.vqgan_file import read_vqgan
from tessera.training.config.runs import LoopConfig, VQGANLossConfig
from tessera.training.data.folder import ImageViews, find_images, split_images
from tessera.training.engine.log import read_csv
from tessera.training.engine.loop import advice_if_out_of_memory, make_accelerator
from tessera.training.engine.schedule import learning_rate
from tessera.training.stages.reconstructions import evaluate_vqgan, evenly_spaced
from tessera.training.stages.vqgan import VQGANTask, choose_perceptual, train_vqgan


@pytest.fixture
def start_task():
    """(run) -> its task, its accelerator, and its first batch of pictures."""

    def start(run):
        accelerator = make_accelerator(run.loop)
        train_set, held_out = split_images(find_images(run.data), run.data)
        task = VQGANTask(run, ImageViews(held_out, run.data, 0, augment=False))
        for name, module in task.modules.items():
            task.modules[name] = accelerator.prepare(module)
        for name, optimizer in task.optimizers.items():
            task.optimizers[name] = accelerator.prepare(optimizer)
        views = ImageViews(train_set, run.data, 0, augment=False)
        batch = torch.stack([views[0, i]["color"] for i in range(run.loop.batch)])
        return task, accelerator, {"color": batch}

    return start


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(tiny_run, start_task):
    run = tiny_run(model={"codebook_size": 256, "code_dim": 8}, loop={"batch": 2, "steps": 300})
    task, accelerator, batch = start_task(run)
    reports = []
    for step in range(run.loop.steps):
        task.optimizers["model"].param_groups[0]["lr"] = learning_rate(step, run.loop)
        reports.append(task.step([batch], step, accelerator))
    assert reports[0]["l1"] > 0.3
    assert reports[-1]["l1"] < 0.02


def test_a_run_leaves_weights_logs_pictures_and_curves(tiny_run, tmp_path):
    run = tiny_run(loop={"steps": 4, "validate_every": 2})
    assert train_vqgan(run)
    folder = tmp_path / "run"
    log, held_out = read_csv(folder / "train.csv"), read_csv(folder / "validation.csv")
    assert log["step"] == [1, 2, 3, 4]
    assert {"l1", "codebook", "usage", "perplexity", "dead_codes", "learning_rate", "seconds_per_step"} <= log.keys()
    assert held_out["step"] == [2, 4]
    _, kept_back = split_images(find_images(run.data), run.data)
    strip = Image.open(folder / "pictures" / "reconstruction-0000004.png")
    assert strip.size == (32 * len(kept_back), 64)
    assert Image.open(folder / "curves.png").size[0] > 500
    found = evaluate_vqgan(read_vqgan(folder / "vqgan.safetensors"), ImageViews(kept_back, run.data, 0, False), 2)
    for name, value in found.items():
        assert value == pytest.approx(held_out[name][-1], rel=1e-4), name
    assert not list(folder.rglob("*partial*"))


def test_a_finished_run_of_another_shape_is_not_resumed(tiny_run):
    train_vqgan(tiny_run(loop={"steps": 1}))
    with pytest.raises(ValueError, match=r"state\.pt can't be resumed from .* choose another output folder"):
        train_vqgan(tiny_run(loop={"steps": 2}, model={"codebook_size": 32}))


# --- the adversary


def test_before_it_is_heard_the_adversary_learns_and_the_model_does_not_notice(tiny_run, tmp_path):
    loss = {"adversarial_weight": 0.8, "adversarial_start": 10}
    calm = {"learning_rate": 5e-4}
    train_vqgan(tiny_run(output=str(tmp_path / "alone"), loop=calm))
    train_vqgan(tiny_run(output=str(tmp_path / "watched"), loop=calm, loss=loss))
    alone, watched = (torch.load(tmp_path / n / "state.pt", weights_only=True) for n in ("alone", "watched"))
    for name, weight in alone["modules"]["model"].items():
        assert torch.equal(weight, watched["modules"]["model"][name]), name
    log = read_csv(tmp_path / "watched" / "train.csv")
    assert log["adversarial"] == log["lambda"] == [0, 0, 0, 0]
    assert log["discriminator"][-1] < log["discriminator"][0]


def test_the_adversary_is_kept_as_a_judge_of_realism_with_its_table(tiny_run, tmp_path):
    run = tiny_run(loss={"adversarial_weight": 0.8, "adversarial_start": 2})
    train_vqgan(run)
    realism = open_discriminator(tmp_path / "run" / "discriminator.safetensors")
    _, kept_back = split_images(find_images(run.data), run.data)
    images = torch.stack(
        [view["color"] for view in (ImageViews(kept_back, run.data, 0, False)[0, i] for i in range(len(kept_back)))]
    )
    made = read_vqgan(tmp_path / "run" / "vqgan.safetensors")(images).image
    scores = score_realism(realism.discriminator, made)
    assert realism.reconstructions[[0, -1]].tolist() == pytest.approx(
        [float(scores.min()), float(scores.max())], abs=2e-4
    )
    trained = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["modules"]["discriminator"]
    assert torch.equal(trained["main.0.weight"].cpu(), realism.discriminator.main[0].weight)


def test_a_finished_vqgan_gets_a_judge_and_stays_as_it_is(tiny_run, tmp_path):
    train_vqgan(tiny_run())
    path = tmp_path / "run" / "vqgan.safetensors"
    before = path.read_bytes()
    run = tiny_run(
        output=str(tmp_path / "judge"), start_from=str(path), learn="discriminator",
        loss={"adversarial_weight": 1.0, "discriminator_channels": 8},
        loop={"steps": 30, "validate_every": 15, "ema": 0.0, "learning_rate": 2e-3},
    )  # fmt: skip
    assert train_vqgan(run)
    assert path.read_bytes() == before
    held_out = read_csv(tmp_path / "judge" / "validation.csv")
    assert held_out["told_apart"][-1] == 1
    realism = open_discriminator(tmp_path / "judge" / "discriminator.safetensors")
    assert realism.reconstructions.mean() == pytest.approx(held_out["reconstructions"][-1], abs=0.1)
    with pytest.raises(ValueError, match="teaches a discriminator to judge a finished VQGAN; name that in start_from"):
        tiny_run(learn="discriminator", loss={"adversarial_weight": 1.0})


def test_a_narrower_discriminator_is_a_smaller_one(tiny_run, start_task):
    def parameters(channels: int) -> int:
        run = tiny_run(loss={"adversarial_weight": 0.8, "discriminator_channels": channels})
        return sum(p.numel() for p in start_task(run)[0].modules["discriminator"].parameters())

    assert 15 < parameters(64) / parameters(16) < 16


def test_the_adversary_s_loss_ramps_up_from_its_start(tiny_run, start_task):
    weights = {"l1": 1.0, "l2": 0.5, "adversarial_weight": 0.8, "adversarial_start": 6, "adversarial_ramp": 4}
    task, accelerator, batch = start_task(tiny_run(loss=weights))
    image, model = batch["color"], task.modules["model"]
    reconstruction = model(image).image
    nll = (reconstruction - image).abs().mean() + 0.5 * F.mse_loss(reconstruction, image)
    adversarial = -task.modules["discriminator"](reconstruction).mean()
    weight = adaptive_weight(nll, adversarial, model.decoder.conv_out.weight, 0.8)
    assert float(weight) > 0
    for step, ramp in ((0, 0.0), (5, 0.0), (6, 0.25), (8, 0.75), (9, 1.0), (100, 1.0)):
        # batch statistics of the discriminator move with every use, its output does not
        loss, parts = task.model_loss(image, reconstruction, step, accelerator)
        assert loss.item() == pytest.approx((nll + ramp * weight * adversarial).item(), rel=1e-4), step
        assert parts["lambda"].item() == (pytest.approx(float(weight), rel=1e-4) if ramp else 0)


def test_the_discriminator_takes_no_gradient_from_the_model_s_loss(tiny_run, start_task):
    task, accelerator, batch = start_task(tiny_run(loss={"adversarial_weight": 0.8, "adversarial_start": 0}))
    reconstruction = task.modules["model"](batch["color"]).image
    task.model_loss(batch["color"], reconstruction, 5000, accelerator)[0].backward()
    assert task.modules["model"].decoder.conv_out.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in task.modules["discriminator"].parameters())


# --- codes


def test_with_an_adversary_the_last_weights_are_kept_since_crispness_costs_decibels(tiny_run, tmp_path):
    held_out = {}
    for weight in (0.0, 0.8):
        run = tiny_run(
            output=str(tmp_path / str(weight)), loop={"steps": 6, "validate_every": 1, "learning_rate": 0.5},
            loss={"adversarial_weight": weight, "discriminator_channels": 16},
        )  # fmt: skip
        assert train_vqgan(run)
        _, kept_back = split_images(find_images(run.data), run.data)
        kept = read_vqgan(tmp_path / str(weight) / "vqgan.safetensors")
        found = evaluate_vqgan(kept, ImageViews(kept_back, run.data, 0, False), 4)["psnr"]
        held_out[weight] = found, read_csv(tmp_path / str(weight) / "validation.csv")["psnr"]
    found, psnr = held_out[0.0]
    assert found == pytest.approx(max(psnr), rel=1e-4)
    found, psnr = held_out[0.8]
    assert psnr[-1] < max(psnr), "so large a learning rate makes it worse"
    assert found == pytest.approx(psnr[-1], rel=1e-4)


def test_dead_codes_come_back_to_life(tiny_run, tmp_path):
    def dead_at_the_end(every: int) -> float:
        run = tiny_run(
            output=str(tmp_path / str(every)), model={"codebook_size": 128, "codebook": "nearest"},
            loop={"steps": 40, "batch": 2}, loss={"restart_every": every},
        )  # fmt: skip
        train_vqgan(run)
        return read_csv(tmp_path / str(every) / "validation.csv")["usage"][-1]

    assert dead_at_the_end(2) > dead_at_the_end(0) + 0.1


@pytest.mark.parametrize("options", [{"codebook": "gumbel"}, {"codebook": "nearest", "normalize_codes": True}])
def test_other_codebooks_learn_too(tiny_run, tmp_path, options):
    train_vqgan(tiny_run(model=options, loop={"steps": 60, "learning_rate": 3e-3}))
    l1 = read_csv(tmp_path / "run" / "train.csv")["l1"]
    assert sum(l1[-10:]) / 10 < 0.85 * l1[0]


def test_health_is_told_in_plain_words(tiny_run, start_task):
    task, _, _ = start_task(tiny_run())
    assert task.health({"dead_codes": 16}) == "codes are still being counted"
    task.extra_state["last_counts"][0] = 5
    assert task.health({"dead_codes": 5}) == "31% of codes dead: restart is on"
    assert task.health({"dead_codes": 0}) == "all codes in use"
    assert "wins too easily: lower loss.adversarial_weight" in task.health({"dead_codes": 0, "discriminator": 0.01})
    task, _, _ = start_task(tiny_run(loss={"restart_every": 0}))
    task.extra_state["last_counts"][0] = 5
    assert task.health({"dead_codes": 4}) == "25% of codes dead: set loss.restart_every to revive them"


# --- going on from other weights


@pytest.mark.parametrize("codebook", ["ema", "nearest"])
def test_learning_the_decoder_leaves_the_codes_alone(tiny_run, tmp_path, codebook):
    train_vqgan(tiny_run(model={"codebook": codebook}))
    before = read_vqgan(tmp_path / "run" / "vqgan.safetensors")
    start = {"start_from": str(tmp_path / "run" / "vqgan.safetensors"), "learn": "decoder"}
    train_vqgan(tiny_run(output=str(tmp_path / "polished"), model={"codebook": codebook}, **start))
    after = read_vqgan(tmp_path / "polished" / "vqgan.safetensors").state_dict()
    moved = {name for name, weight in before.state_dict().items() if not torch.equal(weight, after[name])}
    assert moved
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)


def test_a_blend_keeps_weights_on_the_way_from_the_start_to_what_was_learned(tiny_run, tmp_path):
    assert train_vqgan(tiny_run(output=str(tmp_path / "first")))
    first = tmp_path / "first" / "vqgan.safetensors"
    decoders = {}
    for blend in (1.0, 0.25):
        run = tiny_run(output=str(tmp_path / str(blend)), start_from=str(first), learn="decoder", blend=blend)
        assert train_vqgan(run)
        decoders[blend] = read_vqgan(tmp_path / str(blend) / "vqgan.safetensors").decoder.state_dict()
    start = read_vqgan(first).decoder.state_dict()
    assert not all(torch.equal(start[name], decoders[1.0][name]) for name in start)
    for name, tensor in start.items():
        torch.testing.assert_close(decoders[0.25][name], 0.75 * tensor + 0.25 * decoders[1.0][name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blend": 0.0}, "blend is 0.0; choose a share"),
        ({"blend": 0.5}, "needs learn: decoder and start_from"),
        ({"blend": 0.5, "start_from": "a"}, "needs learn: decoder and start_from"),
    ],
)
def test_a_blend_that_can_not_be_is_refused(tiny_run, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_run(**changes)


def test_a_run_goes_on_from_given_weights(tiny_run, tmp_path):
    train_vqgan(tiny_run(loop={"steps": 30}))
    start = str(tmp_path / "run" / "vqgan.safetensors")
    train_vqgan(tiny_run(output=str(tmp_path / "further"), start_from=start, loop={"steps": 1}))
    first, further = (read_csv(tmp_path / name / "train.csv")["l1"] for name in ("run", "further"))
    assert further[0] < 0.8 * first[0]


@pytest.mark.parametrize(
    ("batch", "advice"),
    [(16, "loop.batch 16 does not fit into memory; set loop.batch=8 and loop.accumulate=6, which teaches nearly the"),
     (1, "loop.batch 1 does not fit into memory; choose a smaller model")],
)  # fmt: skip
def test_a_step_too_large_for_the_memory_says_what_to_change(batch, advice):
    loop = LoopConfig(batch=batch, accumulate=3)
    with pytest.raises(ValueError, match=f"step 8 with {advice}"), advice_if_out_of_memory(loop, 7):
        torch.zeros(2**50)
    with pytest.raises(RuntimeError, match="shapes"), advice_if_out_of_memory(loop, 7):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


# --- the perceptual loss


@pytest.fixture
def no_trunk_weights(tmp_path, monkeypatch):
    """A cache in which the VGG weights are broken: LPIPS can't be built, with or without a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    broken = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not weights")


@pytest.mark.usefixtures("no_trunk_weights")
def test_a_perceptual_loss_that_can_not_be_had_is_never_dropped_in_silence(caplog):
    with pytest.raises(ValueError, match=r"LPIPS can't be had here .*lpips-or-features"):
        choose_perceptual(VQGANLossConfig(perceptual="lpips"))
    assert choose_perceptual(VQGANLossConfig(perceptual="lpips-or-features")) == "features"
    assert "using discriminator feature matching instead" in caplog.text
    assert choose_perceptual(VQGANLossConfig(perceptual="none")) is None


def test_features_of_the_discriminator_stand_in_for_lpips(tiny_run, tmp_path):
    train_vqgan(tiny_run(loss={"perceptual": "features"}))  # without an adversary: its features are enough
    log = read_csv(tmp_path / "run" / "train.csv")
    assert all(value > 0 for value in log["perceptual"])
    assert "adversarial" not in log


def test_spread_picks_evenly():
    assert evenly_spaced(10, 5) == [0, 2, 4, 6, 8]
    assert evenly_spaced(3, 12) == [0, 1, 2]
    assert len(evenly_spaced(311, 12)) == 12
