"""Steps of both stages on a pretended accelerator: nothing is mixed, and they learn what the CPU learns."""

import lpips
import pytest
import torch

from tessera.tests.devices.pretended import Pretended, PretendedTensor, pretended, put
from tessera.training.data.folder import ImageViews, find_images
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.prior import PriorTask, load_codes, load_stages, load_views
from tessera.training.stages.vqgan import VQGANTask

ADVERSARY = {"adversarial_weight": 0.8, "adversarial_start": 0, "adversarial_ramp": 0, "discriminator_channels": 16}


@pytest.fixture(params=["cuda", "mps"])
def device(request, monkeypatch):
    with pretended(monkeypatch, request.param) as (where, _):
        yield where


def move(task, device: torch.device) -> None:
    """What `accelerator.prepare` does: modules, the parameters their optimizers know, averages and counts."""
    for name, module in task.modules.items():
        before = [id(parameter) for parameter in module.parameters()]
        new = dict(zip(before, put(module, device).parameters(), strict=True))
        for group in task.optimizers[name].param_groups:
            group["params"] = [new[id(parameter)] for parameter in group["params"]]
    put(task.averaged.module, device)
    task.extra_state = {name: tensor.to(device) for name, tensor in task.extra_state.items()}


def steps(task, batches: list[dict], accelerator, device: torch.device) -> tuple[list[dict], dict]:
    """Two steps: what they report, and the average of the weights."""
    batches = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
    reports = []
    for step in range(2):
        torch.manual_seed(step)
        reports.append({name: float(value) for name, value in task.step(batches, step, accelerator).items()})
        task.averaged.update_parameters(task.modules["model"])
    weights = task.averaged.module.state_dict()
    on_device = [isinstance(weight, PretendedTensor) for weight in weights.values()]
    assert all(on_device) or device.type == "cpu"
    return reports, {name: weight.cpu() for name, weight in weights.items()}


def compare(make_task, batches, accelerator, device, monkeypatch) -> None:
    torch.manual_seed(0)
    wanted = steps(make_task(), batches, accelerator, torch.device("cpu"))
    torch.manual_seed(0)
    task = make_task()
    move(task, device)
    monkeypatch.setattr(type(accelerator), "device", property(lambda _: device))
    launches = Pretended.on.launches
    found = steps(task, batches, accelerator, device)
    assert Pretended.on.launches > launches
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert wanted[0][1]["made"]


@pytest.mark.parametrize("codebook", ["ema", "nearest", "gumbel"])
def test_steps_of_the_first_stage_with_judge_and_lpips(device, tiny_run, monkeypatch, codebook):
    run = tiny_run(loss=ADVERSARY | {"restart_every": 2}, model={"codebook": codebook}, loop={"batch": 2})
    torch.manual_seed(3)
    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    views = ImageViews(find_images(run.data), run.data, 0, augment=False)
    batches = [{"color": torch.stack([views[0, 2 * i]["color"], views[0, 2 * i + 1]["color"]])} for i in range(2)]

    def make_task():
        task = VQGANTask(run, views)
        put(network, torch.device("cpu"))
        task.perceptual = network
        return task

    compare(make_task, batches, make_accelerator(run.loop), device, monkeypatch)


def test_steps_of_the_second_stage_with_free_images(device, prior_run, prior_tree, monkeypatch):
    run = prior_run(condition=prior_tree()["condition"] | {"dropout": 0.5}, pkeep=0.9)
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    codes = load_codes(run, load_views(run), accelerator, *stages)
    items = [codes[0][0, i] for i in range(4)]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    compare(lambda: PriorTask(run, *codes, *stages), [batch], accelerator, device, monkeypatch)
