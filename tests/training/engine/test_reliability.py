"""What a run survives: a loss that is not finite, a full disk, a second run in its folder, sessions of other sizes."""

import logging
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.core.autoencoders.vqgan_file import read_vqgan
from tessera.training.config.runs import LoopConfig
from tessera.training.data.codes import share_of
from tessera.training.data.folder import ImageViews, find_images, split_images
from tessera.training.engine.distributed import seed_noise, synchronized_once
from tessera.training.engine.ema import make_ema
from tessera.training.engine.lock import locked_folder
from tessera.training.engine.loop import make_accelerator, train
from tessera.training.engine.schedule import learning_rate
from tessera.training.engine.update import MAX_SKIPPED, SkippedSteps, descend
from tessera.training.stages.prior import PriorTask, load_codes, load_stages, load_views, train_prior
from tessera.training.stages.vqgan import VQGANTask, train_vqgan


def state_in(folder) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


def tensors_of(task) -> dict[str, torch.Tensor]:
    """All that a step may change."""
    modules = {f"{m}.{n}": t for m, module in task.modules.items() for n, t in module.state_dict().items()}
    moments = {
        f"{o}.{i}.{n}": t
        for o, optimizer in task.optimizers.items()
        for i, values in optimizer.state_dict()["state"].items()
        for n, t in values.items()
    }
    return {name: tensor.clone() for name, tensor in (modules | moments).items()}


@pytest.fixture
def vqgan_task(tiny_run):
    """(changes) -> a first stage that has made two steps, its accelerator, and a batch."""

    def start(**changes):
        run = tiny_run(**changes)
        accelerator = make_accelerator(run.loop)
        train_set, held_out = split_images(find_images(run.data), run.data)
        task = VQGANTask(run, ImageViews(held_out, run.data, 0, augment=False))
        for parts in (task.modules, task.optimizers):
            parts.update({name: accelerator.prepare(part) for name, part in parts.items()})
        views = ImageViews(train_set, run.data, 0, augment=False)
        batch = {"color": torch.stack([views[0, i]["color"] for i in range(run.loop.batch)])}
        for step in range(2):
            task.step([batch], step, accelerator)
        return task, accelerator, batch

    return start


ADVERSARY = {"adversarial_weight": 0.8, "adversarial_start": 0, "adversarial_ramp": 0, "discriminator_channels": 16}


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e30])
def test_a_step_whose_loss_is_not_finite_changes_nothing(vqgan_task, number):
    task, accelerator, batch = vqgan_task(loss=ADVERSARY | {"restart_every": 3}, model={"codebook": "ema"})
    before = tensors_of(task)
    assert any("running_mean" in name for name in before)
    broken = {"color": batch["color"].clone()}
    broken["color"][0, 0, 0, 0] = number
    broken["color"] *= broken["color"].abs().amax() if number == 1e30 else 1  # 1e60: its squares overflow
    report = task.step([broken], 2, accelerator)
    assert not report["made"]
    after = tensors_of(task)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert task.step([batch], 3, accelerator)["made"]
    assert any(not torch.equal(before[name], tensor) for name, tensor in tensors_of(task).items())


def test_after_a_few_steps_in_a_row_a_run_ends_and_single_ones_are_passed_over():
    skipped = SkippedSteps(torch.device("cpu"))
    for made in [False] * (MAX_SKIPPED - 1) + [True] + [False] * (MAX_SKIPPED - 1):
        skipped.note(torch.tensor(made))
        skipped.check(7)
    assert skipped.total == 2 * (MAX_SKIPPED - 1)
    skipped.note(torch.tensor(False))
    with pytest.raises(ValueError, match=r"not been finite for 5 steps up to step 7: lower loop\.learning_rate"):
        skipped.check(7)


@pytest.mark.slow
def test_a_run_that_diverges_ends_and_keeps_weights_and_states_that_can_be_gone_on_from(tiny_run, tmp_path, caplog):
    loop = {"steps": 4, "save_every": 2, "validate_every": 2}
    loss = ADVERSARY | {"restart_every": 0}
    train_vqgan(tiny_run(loop=loop, loss=loss))
    assert torch.load(tmp_path / "run" / "state.older.pt", weights_only=True)["step"] == 2
    good = load_file(tmp_path / "run" / "vqgan.safetensors")
    wild = {"steps": 60, "save_every": 100, "validate_every": 100, "learning_rate": 1e20, "clip": 1e30, "warmup": 0}
    caplog.set_level("INFO", "tessera")
    with pytest.raises(ValueError, match=r"not (been )?finite .*lower loop\.learning_rate"):
        train_vqgan(tiny_run(loop=loop | wild, loss=loss))
    assert "ended by an error after step" in caplog.text
    assert "state.pt holds step 4" in caplog.text
    kept = load_file(tmp_path / "run" / "vqgan.safetensors")
    assert all(torch.equal(good[name], tensor) for name, tensor in kept.items())
    assert train_vqgan(tiny_run(loop=loop | {"steps": 6}, loss=loss))
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "run" / "vqgan.safetensors").values())


def test_a_broken_state_is_named_with_the_older_one(tiny_run, tmp_path):
    train_vqgan(tiny_run(loop={"steps": 2, "save_every": 1}))
    (tmp_path / "run" / "state.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"state\.pt can't be resumed from .* put state\.older\.pt, which is older"):
        train_vqgan(tiny_run(loop={"steps": 3}))


# --- what the system refuses


@pytest.fixture
def disk():
    """A disk on which files may have so many bytes; `disk()` for as many as they like."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int = before[0]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    limit()


def test_a_full_disk_is_told_and_the_next_save_tries_again(tiny_run, tmp_path, disk, caplog):
    class MakeRoom(logging.Handler):
        def emit(self, record):
            if "the state of step 1 can't be written" in record.getMessage():
                disk()

    caplog.set_level("INFO", "tessera")
    logger, handler = logging.getLogger("tessera"), MakeRoom()
    logger.addHandler(handler)
    disk(100_000)
    try:
        assert train_vqgan(tiny_run(loop={"steps": 3, "save_every": 1, "validate_every": 1}))
    finally:
        logger.removeHandler(handler)
    assert "the weights of step 1 can't be written" in caplog.text
    assert state_in(tmp_path / "run")["step"] == 3
    assert read_vqgan(tmp_path / "run" / "vqgan.safetensors")


def test_a_disk_that_stays_full_ends_a_run_in_one_sentence_at_its_end(tiny_run, tmp_path, disk):
    disk(100_000)
    with pytest.raises(ValueError, match=r"up to step 3 could not be written, .*state\.pt holds nothing; make room"):
        train_vqgan(tiny_run(loop={"steps": 3, "save_every": 1, "validate_every": 1}))
    assert not [p for p in (tmp_path / "run").iterdir() if p.suffix in (".pt", ".safetensors")]


def test_a_folder_belongs_to_one_run(tmp_path):
    with locked_folder(tmp_path / "run"):
        with (
            pytest.raises(ValueError, match=r"another run is writing to .*run; wait for it"),
            locked_folder(tmp_path / "run"),
        ):
            pass
        with locked_folder(tmp_path / "other"):
            pass
    with locked_folder(tmp_path / "run"):
        pass


# --- the same again


def test_the_same_seed_gives_the_same_weights_whether_codes_were_cached_or_not(prior_run, tmp_path):
    for name in ("fresh", "cached"):
        if name == "cached":
            (tmp_path / name).mkdir()
            for path in (tmp_path / "fresh").glob("codes-*"):
                path.rename(tmp_path / name / path.name)
            torch.rand(7)
        train_prior(prior_run(output=str(tmp_path / name), loop={"steps": 2}))
    fresh, cached = (state_in(tmp_path / name)["modules"]["model"] for name in ("fresh", "cached"))
    assert all(torch.equal(tensor, cached[name]) for name, tensor in fresh.items())


def test_noise_is_a_function_of_seed_step_and_rank():
    def noise(*key: int) -> tuple:
        seed_noise(*key)
        return tuple(torch.rand(3).tolist())

    assert noise(1, 2, 3) == noise(1, 2, 3)
    assert len({noise(s, step, rank) for s in range(3) for step in range(4) for rank in range(5)}) == 60


@pytest.mark.slow
def test_a_session_of_another_size_goes_on_with_the_next_item(tiny_run, tmp_path):
    starts = []

    def session(batch: int, steps: int):
        run = tiny_run(loop={"batch": batch, "steps": steps})
        accelerator = make_accelerator(run.loop)
        paths = find_images(run.data)
        task = VQGANTask(run, ImageViews(paths[:4], run.data, 0, augment=False))
        views = ImageViews(paths, run.data, 0, augment=False)

        def stream(start):
            starts.append(start)
            while True:
                yield {"color": torch.stack([views[0, i]["color"] for i in range(batch)])}

        train(task, stream, run.loop, tmp_path / "run", accelerator)

    session(4, 3)
    session(2, 5)
    assert starts == [0, 12]
    assert state_in(tmp_path / "run")["items"] == 4 * 3 + 2 * 2


@pytest.mark.parametrize(("number", "batch", "world"), [(10, 2, 3), (12, 4, 1), (1, 2, 2), (7, 3, 2)])
def test_shares_of_all_processes_make_the_whole_in_its_order(number, batch, world):
    shares = [share_of(list(range(number)), batch, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    rounds = range(-(-len(shares[0]) // batch))
    whole = [key for r in rounds for share in shares for key in share[r * batch : (r + 1) * batch]]
    assert whole[:number] == list(range(number))


# --- time


def test_minutes_end_a_run_as_its_steps_would(tiny_run, tmp_path):
    assert train_vqgan(tiny_run(loop={"steps": 1000, "minutes": 1e-6}))
    assert state_in(tmp_path / "run")["step"] == 1
    assert read_vqgan(tmp_path / "run" / "vqgan.safetensors")
    assert (tmp_path / "run" / "validation.csv").exists()


def test_the_learning_rate_comes_down_with_the_time_where_that_is_shorter():
    loop = LoopConfig(steps=10_000, minutes=10, warmup=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(20, loop, seconds) for seconds in (0, 300, 600, 900)]
    assert rates == pytest.approx([1.0, 0.55, 0.1, 0.1], abs=1e-3)
    assert learning_rate(5005, loop, 0.0) == pytest.approx(0.55)


# --- what a step costs besides


class Waits(TorchDispatchMode):
    """Counts reads of a tensor's value, each of which waits for the device it is on."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_step_of_the_first_stage_waits_for_no_device(vqgan_task):
    task, accelerator, batch = vqgan_task(loss=ADVERSARY | {"restart_every": 100}, model={"codebook": "ema"})
    with Waits() as waits:
        task.step([batch, batch], 2, accelerator)
        task.averaged.update_parameters(task.modules["model"])
    assert waits.number == 1  # of the average, whose count is kept on the CPU


def test_averaged_weights_follow_the_formula():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    averaged = make_ema(model, 0.5)
    wanted = [p.detach().clone() for p in model.parameters()]
    for count in range(6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3))
        averaged.update_parameters(model)
        kept = min(0.5, (1 + count) / (10 + count)) if count else 0.0
        wanted = [kept * w + (1 - kept) * p.detach() for w, p in zip(wanted, model.parameters(), strict=True)]
        for mine, value in zip(averaged.module.parameters(), wanted, strict=True):
            torch.testing.assert_close(mine.data, value)
        assert torch.equal(averaged.module[1].running_mean, model[1].running_mean)
    assert int(averaged.n_averaged) == 6


def test_gradients_are_exchanged_once_a_step(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
        exchanges = []

        def hook(_, bucket):
            exchanges.append(bucket)
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        model.register_comm_hook(None, hook)
        for rows in synchronized_once([torch.ones(1, 2)] * 3, model):
            model(rows).sum().backward()
        assert len(exchanges) == 1
        assert torch.equal(model.module.weight.grad, torch.full((1, 2), 3.0))
    finally:
        torch.distributed.destroy_process_group()


def test_a_prior_learns_nothing_from_a_step_that_is_not_finite(prior_run):
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    task = PriorTask(run, *load_codes(run, load_views(run), accelerator, *stages), *stages)
    model, optimizer = task.modules["model"], task.optimizers["model"]
    before = tensors_of(task)
    model.loss(torch.zeros(1, 64, dtype=torch.long) + 16, torch.zeros(1, 64, dtype=torch.long)).backward()
    _, made = descend(model, [optimizer], torch.tensor(math.nan), 1.0, accelerator)
    assert not made
    after = tensors_of(task)
    assert all(torch.equal(before[name], after[name]) for name in before)
