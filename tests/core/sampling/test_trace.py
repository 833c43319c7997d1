import torch
from safetensors import safe_open

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken
from tessera.core.sampling.logits import draw, warp
from tessera.core.sampling.loop import sample_steps
from tessera.core.sampling.noise import cell_keys, gumbel
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.state import SamplingState
from tessera.core.sampling.trace import GROUPS, TOP_CODES, SamplingTrace


def distribution(codes: int, spread: float) -> torch.Tensor:
    return (spread * torch.randn(codes, generator=torch.Generator().manual_seed(codes))).log_softmax(0)


def test_likeliest_codes_are_kept_as_they_are_and_the_rest_adds_up():
    for codes in (16, 64, 65, 100, 1024, 16384):
        expected = distribution(codes, 2.0)
        trace = SamplingTrace.blank(2, 3, codes)
        noise = gumbel(cell_keys(1, 1, 1, 1), codes).flatten()
        trace.note(torch.tensor([5]), expected[None], noise[None])
        first = min(codes, TOP_CODES)
        kept, order = trace.log_probabilities[1, 2], expected.argsort(descending=True, stable=True)
        assert torch.equal(trace.noise[1, 2, :first], noise[order[:first]])
        if codes > first:
            groups = noise[order[first:]].split(trace.counts[first:].tolist())
            assert torch.equal(trace.noise[1, 2, first:], torch.stack([group.max() for group in groups]))
        assert torch.equal(trace.codes[1, 2].long(), expected.argsort(descending=True, stable=True)[:first])
        assert torch.equal(kept[:first], expected.sort(descending=True).values[:first])
        assert int(trace.counts.sum()) == codes
        assert (trace.counts[:first] == 1).all()
        assert len(trace.counts) <= TOP_CODES + GROUPS
        assert (kept.diff() <= 0).all()
        assert trace.log_probabilities[0].isnan().all()


def test_rest_keeps_its_weight_at_other_temperatures():
    expected = distribution(1024, 2.0)
    trace = SamplingTrace.blank(1, 1, 1024)
    trace.note(torch.tensor([0]), expected[None], torch.zeros(1, 1024))
    for temperature in (0.5, 1.0, 2.0):
        whole = (expected / temperature).exp().sum()
        kept = (trace.counts * (trace.log_probabilities[0, 0] / temperature).exp()).sum()
        assert abs(kept / whole - 1) < 1e-3


def test_run_notes_the_first_picture_where_it_draws(make_bundle):
    prior = make_bundle("none").prior
    known = torch.zeros(2, 5, 6, dtype=torch.bool)
    known[:, 0, :2] = True
    state = SamplingState.start(Canvas(torch.zeros(2, 5, 6, dtype=torch.int64), known), 7)
    trace = SamplingTrace.blank(5, 6, 16)
    settings = SamplingSettings(temperature=0.7, top_k=5)
    for _ in sample_steps(prior, StartToken(token=16), state, settings, trace=trace):
        pass
    assert torch.equal(trace.log_probabilities[..., 0].isnan(), known[0])
    at = trace.codes == state.indices[0].unsqueeze(-1)  # [h, w, N]: all 16 codes are among the likeliest
    drawn = trace.log_probabilities[at].view(-1)
    assert torch.allclose(drawn[~drawn.isnan()], state.log_probability[0][~known[0]])
    warped = warp(trace.log_probabilities, settings, 0.7)  # likeliest first, as the codes
    winners = trace.codes.gather(2, draw(warped, trace.noise).unsqueeze(2)).squeeze(2)
    assert torch.equal(winners[~known[0]], state.indices[0][~known[0]].int())
    entropy = torch.special.entr(trace.log_probabilities.exp()).sum(-1)
    assert torch.allclose(entropy[~known[0]], state.entropy[0][~known[0]], atol=1e-5)


def test_narrow_canvas_keeps_its_own_columns(make_bundle):
    prior = make_bundle("none").prior
    state, trace = SamplingState.start(Canvas.empty(1, 3, 2), 7), SamplingTrace.blank(3, 2, 16)
    for _ in sample_steps(prior, StartToken(token=16), state, SamplingSettings(), trace=trace):
        pass
    assert trace.codes.shape == (3, 2, 16)
    at = trace.codes == state.indices[0].unsqueeze(-1)
    assert torch.allclose(trace.log_probabilities[at].view(3, 2), state.log_probability[0])


def test_file_holds_what_a_page_needs(tmp_path):
    trace = SamplingTrace.blank(2, 3, 100)
    trace.save(tmp_path / "a.safetensors", torch.zeros(100, 3, dtype=torch.uint8), 16)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["stride"] == "16"
        assert torch.equal(file.get_tensor("noise"), trace.noise)
        assert set(file.keys()) == {"codes", "log_probabilities", "noise", "counts", "colours"}
