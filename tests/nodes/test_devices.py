"""The nodes on a pretended GPU: with models that ComfyUI has half unloaded, with --novram, and in half precision."""

import dataclasses
import sys

import pytest
import torch

from tessera.core.bundle_file import save_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import decode_canvas, encode_canvas
from tessera.core.canvas.edits import blend
from tessera.core.prepared import prepare_image_condition
from tessera.core.provenance import weights_fingerprint
from tessera.core.sampling.loop import sample
from tessera.core.sampling.settings import SamplingSettings
from tessera.nodes import canvas, codes, conditions, loaders
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host.handles import BundleHandle, handle_of
from tessera.tests.devices.pretended import Pretended, pretended, put, unload_smallest


def free(bundle):
    """A bundle of edges, which may be left out."""
    config = dataclasses.replace(bundle.condition_config, unconditional=True)
    return dataclasses.replace(bundle, condition_config=config)


@pytest.fixture
def gpu(host, monkeypatch):
    """A GPU onto which `load_models_gpu` moves whole models, or with --novram none."""
    manager = sys.modules["comfy.model_management"]
    with pretended(monkeypatch, "cuda") as (device, counted):
        monkeypatch.setattr(manager, "get_torch_device", lambda: device)
        host.novram = False

        def load(patchers, memory_required=0, force_full_load=False):
            for patcher in patchers:
                if not host.novram:
                    put(patcher.model, device)

        monkeypatch.setattr(manager, "load_models_gpu", load)
        yield counted


def handle(bundle) -> BundleHandle:
    patcher = adapter.patcher_of(bundle.prior)
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), patcher, handle_of(bundle.condition_vqgan))


def everything(model: BundleHandle, picture: torch.Tensor) -> list[torch.Tensor]:
    """What the nodes make of a picture."""
    guide = conditions.Edges.execute(model, picture, "photograph", "square", 50, 120, 2.0)[0]
    start = codes.EncodeCanvas.execute(model.vqgan, picture)[0]
    some = canvas.KeepHalf.execute(start, "top", 0.5)[0]
    mixed = canvas.Blend.execute(model.vqgan, start, canvas.Roll.execute(start, 1, 1)[0], 0.5)[0]
    guided = sampling.SampleCodes.execute(
        model, 5, 1, 0, condition=guide, canvas=some, settings=SamplingSettings(guidance_scale=2.0)
    )
    alone = sampling.SampleCodes.execute(model, 5, 1, 0)
    latent = codes.EncodeLatent.execute(model.vqgan, picture)[0]
    return [mixed.indices, guided[1].indices, alone[1].indices, codes.DecodeLatent.execute(model.vqgan, latent)[0]]


@pytest.mark.parametrize("novram", [False, True])
def test_nodes_run_on_a_gpu_with_models_that_are_half_unloaded(gpu, host, make_bundle, novram):
    picture = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    on_cpu = handle(free(make_bundle("edges")))
    for patcher in (on_cpu.prior, on_cpu.vqgan.patcher, on_cpu.condition.patcher):
        patcher.load_device = torch.device("cpu")
    host.novram = True
    wanted = everything(on_cpu, picture)
    model, host.novram = handle(free(make_bundle("edges"))), novram
    for share in (0.01, 0.3):
        for module in (model.bundle.vqgan, model.bundle.condition_vqgan, model.bundle.prior):
            unload_smallest(module, share)
        torch.testing.assert_close(everything(model, picture), wanted)
    assert all(weight.device.type == "cuda" for weight in model.bundle.prior.parameters())
    assert gpu.launches > 0
    assert Pretended.on is gpu


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_everything_runs_in_half_precision(make_bundle, dtype):
    bundle, whole = free(make_bundle("edges")), make_bundle("edges")
    for module in (bundle.vqgan, bundle.prior, bundle.condition_vqgan):
        module.to(dtype)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    guide = prepare_image_condition(bundle, "edges", picture)
    state = sample(bundle.prior, guide.condition, guide.canvas, 3, SamplingSettings(guidance_scale=2.0))
    assert state.entropy.isfinite().all()
    alone = sample(bundle.prior, bundle.unconditional_condition, guide.canvas, 3, SamplingSettings())
    assert alone.known.all()
    start = encode_canvas(bundle.vqgan, picture)
    mixed = blend(bundle.vqgan, start, start.roll(1, 1), torch.full((1, 1, 1), 0.5))
    assert isinstance(mixed, Canvas)
    near = decode_canvas(whole.vqgan, start)
    assert (decode_canvas(bundle.vqgan, start).float() - near).abs().max() < 0.2
    assert len(weights_fingerprint(bundle.prior)) == 64


def test_precision_of_a_prior_can_be_chosen_and_memory_follows(host, make_bundle):
    adapter.register_model_folders()
    save_bundle(host.base / "models" / "vq_transformer" / "a.safetensors", make_bundle("none"))
    opened = {name: loaders.LoadBundle.execute("a.safetensors", name)[0] for name in ("auto", "bf16", "float32")}
    kept = {name: model.bundle.prior.dtype for name, model in opened.items()}
    assert kept == {"auto": torch.float32, "bf16": torch.bfloat16, "float32": torch.float32}
    assert {weight.dtype for weight in opened["bf16"].bundle.vqgan.parameters()} == {torch.float32}
    assert len({model.name for model in opened.values()}) == 2
    start = Canvas.empty(2, 4, 4)
    asked = []
    for name in ("bf16", "float32"):
        for number in (1, 2):
            opened[name].ready_to_sample(start, number)
            asked.append(host.loaded[-1][1])
    room = opened["bf16"].vqgan.decoding_memory(start.size)
    half, half_guided, whole, whole_guided = (memory - room for memory in asked)
    assert (whole, half_guided, whole_guided) == (2 * half, 2 * half, 4 * half)
    painted = sampling.SampleCodes.execute(opened["bf16"], 5, 1, 0)[1]
    assert painted.known.all()
    assert loaders.LoadBundle.fingerprint_inputs("a.safetensors") != loaders.LoadBundle.fingerprint_inputs(
        "a.safetensors", "bf16"
    )
