"""A run that fails keeps what it painted, whatever the error; a preview that fails does not end it."""

import pytest
import torch

from tessera.core.sampling.estimate import sampling_memory
from tessera.core.sampling.settings import SamplingSettings
from tessera.nodes import canvas_files, compare
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host import resume as unfinished
from tessera.nodes.host.handles import BundleHandle, handle_of


def handle(bundle) -> BundleHandle:
    condition = None if bundle.condition_vqgan is None else handle_of(bundle.condition_vqgan)
    return BundleHandle("name", bundle, handle_of(bundle.vqgan), adapter.patcher_of(bundle.prior), condition)


@pytest.fixture
def model(host, make_bundle):
    unfinished.kept.clear()
    return handle(make_bundle("none"))


def out_of_memory(module, calls: int = 0):
    """Let a module fail from its call number `calls` on; `remove` mends it."""
    left = [calls]

    def fail(*_):
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 20.00 MiB")

    return module.register_forward_pre_hook(fail)


def test_run_that_ends_in_an_error_is_recalled_and_goes_on(model, host):
    whole = sampling.SampleCodes.execute(model, 5, 1, 0)[1]
    unfinished.kept.clear()
    broken = out_of_memory(model.bundle.prior.ln_f, 2)
    with pytest.raises(torch.OutOfMemoryError):
        sampling.SampleCodes.execute(model, 5, 1, 0)
    partial = canvas_files.RecallCanvas.execute()[0]
    decided = int(partial.known.sum())  # one or more a pass
    assert 2 <= decided < 16
    assert torch.equal(partial.indices[partial.known], whole.indices[partial.known])
    broken.remove()
    host.updates.clear()
    assert torch.equal(sampling.SampleCodes.execute(model, 5, 1, 0)[1].indices, whole.indices)
    assert host.updates[-1][:2] == (16 - decided, 16 - decided)
    assert unfinished.last_change() == ("", 0)


def test_preview_that_fails_is_left_out_and_a_picture_that_fails_is_made_without_painting_again(model, host):
    whole = sampling.SampleCodes.execute(model, 5, 1, 0)[0]
    unfinished.kept.clear()
    broken = out_of_memory(model.bundle.vqgan.decoder)
    host.updates.clear()
    with pytest.raises(torch.OutOfMemoryError):
        sampling.SampleCodes.execute(model, 5, 1, 1)
    assert host.updates[-1] == (16, 16, None)  # painted to the end, without previews
    assert canvas_files.RecallCanvas.execute()[0].known.all()
    broken.remove()
    host.updates.clear()
    assert torch.equal(sampling.SampleCodes.execute(model, 5, 1, 0)[0], whole)
    assert not host.updates


def test_sweep_that_is_cancelled_keeps_its_finished_values(model, host):
    whole = compare.SweepSettings.execute(model, 5, "top_k", "0, 3, 1", 1, 0)[1]
    unfinished.kept.clear()
    host.interrupted_after = 36  # in the third value
    with pytest.raises(adapter.Interrupted):
        compare.SweepSettings.execute(model, 5, "top_k", "0, 3, 1", 1, 0)
    assert 0 < int(canvas_files.RecallCanvas.execute()[0].known.sum()) < 16
    host.updates.clear()
    assert torch.equal(compare.SweepSettings.execute(model, 5, "top_k", "0, 3, 1", 1, 0)[1], whole)
    assert len(host.updates) < 16
    assert unfinished.last_change() == ("", 0)


def test_run_that_fails_before_its_first_cell_leaves_nothing_to_recall(model):
    with pytest.raises(ValueError, match="guidance"):
        sampling.SampleCodes.execute(model, 5, 1, 0, settings=SamplingSettings(guidance_scale=2.0))
    with pytest.raises(ValueError, match="nothing to recall"):
        canvas_files.RecallCanvas.execute()


def test_guidance_asks_for_the_memory_of_two_readings(make_bundle):
    prior = make_bundle("none").prior
    plain = sampling_memory(prior, 3)
    assert sampling_memory(prior, 3, conditions=2) == 2 * plain
    assert sampling_memory(prior.bfloat16(), 3) == plain // 2
