import math
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.core.autoencoders.nearest import CODES_TILE, LATENTS_TILE, as_rows, nearest_code
from tessera.core.autoencoders.precision import EXACT, SWITCHES, exact_float32
from tessera.core.autoencoders.quantizers import (
    GumbelQuantizer,
    QuantizerLosses,
    VectorQuantizer,
    _assign,
    codebook_usage,
)
from tessera.core.autoencoders.vqgan import VQGANConfig, build_quantizer


def split(settings: dict) -> tuple[VQGANConfig, QuantizerLosses]:
    losses = {field.name: settings.pop(field.name) for field in fields(QuantizerLosses) if field.name in settings}
    return VQGANConfig(**settings), QuantizerLosses(**losses)


def codebook(**changes) -> VectorQuantizer:
    torch.manual_seed(0)
    made = build_quantizer(*split({"codebook_size": 10, "code_dim": 4, **changes}))
    torch.nn.init.normal_(made.embedding.weight)  # far enough apart that gradients matter
    made.reset_ema()
    return made


def gumbel(**changes) -> GumbelQuantizer:
    torch.manual_seed(0)
    settings = {"codebook": "gumbel", "latent_channels": 6, "codebook_size": 10, "code_dim": 4, **changes}
    return build_quantizer(*split(settings))


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class LargestOutput(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("many", [1, 3, LATENTS_TILE - 1, LATENTS_TILE, LATENTS_TILE + 1, 1300])
@pytest.mark.parametrize("size", [1, 2, 31, 33, 256, 1000, CODES_TILE, CODES_TILE + 1, CODES_TILE + 5, 5003])
def test_search_equals_brute_force(many, size):
    z, codes = latents(many, 6).double(), torch.randn(size, 6, generator=torch.Generator().manual_seed(2)).double()
    assert torch.equal(nearest_code(z, codes), torch.cdist(z, codes).argmin(1))


def test_search_in_float32_finds_a_code_as_near_as_the_nearest():
    z, codes = latents(700, 16), torch.randn(4100, 16, generator=torch.Generator().manual_seed(2))
    found = nearest_code(z, codes)
    distances = torch.cdist(z.double(), codes.double())
    torch.testing.assert_close(distances.gather(1, found[:, None])[:, 0], distances.amin(1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [40, CODES_TILE, 2 * CODES_TILE + 7])
def test_search_takes_the_first_code_on_ties(size):
    # whole numbers are exact in float32, and only 27 points for so many codes make ties everywhere
    codes = torch.randint(-1, 2, (size, 3), generator=torch.Generator().manual_seed(3)).float()
    z = torch.randint(-2, 3, (600, 3), generator=torch.Generator().manual_seed(4)).float()
    distances = (z[:, None].double() - codes.double()).square().sum(2)
    first = torch.tensor([(row == row.min()).nonzero()[0].item() for row in distances])
    assert torch.equal(nearest_code(z, codes), first)


def close_codes(number: int = 512, width: int = 4) -> torch.Tensor:
    """Codes so close beside their length that bfloat16 confuses most of them."""
    return 10 + 0.1 * latents(number, width)


def test_autocast_changes_no_code():
    codes = close_codes()
    grid = (10 + 0.1 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))).contiguous()
    rows = as_rows(grid)
    book = codebook(codebook_size=len(codes))
    book.embedding.weight.data.copy_(codes)
    wanted, counts = nearest_code(rows, codes), _assign(rows, codes)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_code(rows, codes), wanted)
        assert torch.equal(book(grid).indices.flatten(), wanted)
        assert torch.equal(_assign(rows, codes)[0], counts)


def test_autocast_changes_no_choice_of_the_gumbel_codebook():
    model = gumbel(codebook_size=512).eval()
    z = latents(2, 6, 8, 8)
    wanted = model(z).indices
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(z).indices, wanted)


def test_exact_arithmetic_puts_back_what_it_found():
    def settings() -> list:
        switches = [getattr(owner, name) for owner, name in SWITCHES]
        return [*switches, torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")]

    before = settings()
    with torch.autocast("cpu", torch.bfloat16):
        with exact_float32(torch.device("cpu")):
            assert [getattr(owner, name) for owner, name in SWITCHES] == [EXACT, EXACT]
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")
        with pytest.raises(RuntimeError, match="shapes"), exact_float32(torch.device("cpu")):
            torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert settings() == before


def test_search_never_holds_all_distances():
    z, codes = latents(5000, 8), latents(6000, 8)
    with LargestOutput() as largest:
        nearest_code(z, codes)
    assert 0 < largest.elements <= CODES_TILE * LATENTS_TILE < 5000 * 6000 / 20


def test_quantizing_replaces_each_latent_by_its_nearest_code():
    book, z = codebook(), latents(2, 4, 3, 5)
    quantized = book(z)
    for b, i, j in [(0, 0, 0), (1, 2, 4), (0, 1, 3)]:
        nearest = (book.codes - z[b, :, i, j]).norm(dim=1).argmin()
        assert quantized.indices[b, i, j] == nearest
        torch.testing.assert_close(quantized.codes[b, :, i, j], book.codes[nearest])
    torch.testing.assert_close(book.lookup(quantized.indices), quantized.codes)


def test_gradient_passes_the_quantization_unchanged():
    book, z = codebook(), latents(2, 4, 3, 3).requires_grad_()
    towards = latents(2, 4, 3, 3) + 1
    (book(z).codes * towards).sum().backward()
    torch.testing.assert_close(z.grad, towards)
    assert book.embedding.weight.grad is None


@pytest.mark.parametrize(("commitment", "codes"), [(0.25, 1.0), (1.0, 0.25), (1.0, 1.0)])
def test_loss_is_equation_4_and_each_term_moves_one_side_only(commitment, codes):
    book, z = codebook(commitment_weight=commitment, codebook_weight=codes), latents(2, 4, 3, 5).requires_grad_()
    quantized = book(z)
    nearest = book.codes[quantized.indices].movedim(-1, 1).detach()
    difference = (z - nearest).detach()
    torch.testing.assert_close(quantized.loss, (commitment + codes) * difference.square().mean())

    quantized.loss.backward()
    # |sg(z_q) - z|^2 pulls the latents alone, |z_q - sg(z)|^2 the codes alone
    torch.testing.assert_close(z.grad, commitment * 2 * difference / z.numel())
    pull = torch.zeros(10, 4).index_add_(0, quantized.indices.flatten(), difference.movedim(1, -1).reshape(-1, 4))
    torch.testing.assert_close(book.embedding.weight.grad, -codes * 2 * pull / z.numel())


def test_moving_average_leaves_the_codebook_term_out_of_the_loss():
    book, z = codebook(codebook="ema"), latents(2, 4, 3, 5)
    quantized = book(z)
    torch.testing.assert_close(quantized.loss, 0.25 * (z - quantized.codes).square().mean())
    assert not book.embedding.weight.requires_grad


def test_moving_average_by_hand():
    book = codebook(codebook="ema", codebook_size=2, code_dim=1, ema_decay=0.9)
    book.embedding.weight.copy_(torch.tensor([[0.0], [10.0]]))
    book.reset_ema()
    book.ema_update(torch.tensor([[1.0], [2.0], [12.0]]))
    count = torch.tensor([0.9 * 1 + 0.1 * 2, 0.9 * 1 + 0.1 * 1])  # 1.1 and 1.0
    total = torch.tensor([0.9 * 0 + 0.1 * (1 + 2), 0.9 * 10 + 0.1 * 12])  # 0.3 and 10.2
    smoothed = (count + 1e-5) / (2.1 + 2e-5) * 2.1
    torch.testing.assert_close(book.codes, (total / smoothed)[:, None])
    torch.testing.assert_close(book.ema_count, count)


def test_moving_average_converges_to_the_means_of_the_latents():
    book = codebook(codebook="ema", codebook_size=2, code_dim=1, ema_decay=0.5)
    book.embedding.weight.copy_(torch.tensor([[0.0], [10.0]]))
    book.reset_ema()
    for _ in range(40):
        book.ema_update(torch.tensor([[1.0], [3.0], [12.0], [14.0]]))
    torch.testing.assert_close(book.codes, torch.tensor([[2.0], [13.0]]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["nearest", "ema"])
def test_dead_codes_restart_at_different_latents_and_live_ones_stay(kind):
    book, z = codebook(codebook=kind), latents(20, 4)
    before = book.codes.detach().clone()
    dead = torch.arange(10) % 3 == 0
    if kind == "ema":
        book.ema_count.fill_(7.0)
    book.restart_codes(dead, z, torch.Generator().manual_seed(5))
    after = book.codes.detach()
    assert torch.equal(after[~dead], before[~dead])
    places = [(z == code).all(1).nonzero().item() for code in after[dead]]
    assert len(set(places)) == int(dead.sum())
    if kind == "ema":  # the average goes on from the new place
        torch.testing.assert_close(book.ema_sum[dead], after[dead])
        assert torch.equal(book.ema_count, torch.where(dead, 1.0, 7.0))


def test_more_dead_codes_than_latents_repeat_latents():
    book = codebook()
    book.restart_codes(torch.ones(10, dtype=torch.bool), latents(3, 4), torch.Generator().manual_seed(5))
    assert len(book.codes.detach().unique(dim=0)) == 3


def test_starting_from_latents_finds_their_clusters():
    centers = torch.eye(4) * 20
    z = centers.repeat_interleave(50, 0) + 0.1 * latents(200, 4)
    book = codebook(codebook="ema", codebook_size=32)
    book.init_kmeans(z, torch.Generator().manual_seed(6))
    distances = torch.cdist(z, book.codes).amin(1)
    assert distances.max() < 0.5
    torch.testing.assert_close(book.ema_sum, book.codes)


def test_normalized_codes_compare_directions_only():
    book, z = codebook(normalize_codes=True), latents(2, 4, 3, 3)
    quantized = book(z)
    torch.testing.assert_close(quantized.codes.norm(dim=1), torch.ones(2, 3, 3))
    cosine = torch.einsum("bdhw,kd->bkhw", F.normalize(z, dim=1), F.normalize(book.embedding.weight, dim=1))
    assert torch.equal(quantized.indices, cosine.argmax(1))
    assert torch.equal(book(7 * z).indices, quantized.indices)
    torch.testing.assert_close(book.lookup(quantized.indices), quantized.codes)


def test_gumbel_codebook_takes_the_most_likely_code_when_not_training():
    book, z = gumbel().eval(), latents(2, 6, 3, 3)
    first, second = book(z), book(z)
    assert torch.equal(first.indices, book.proj(z).argmax(1))
    assert torch.equal(first.indices, second.indices)
    torch.testing.assert_close(first.codes, book.codes[first.indices].movedim(-1, 1))


def test_gumbel_codebook_draws_while_training_as_often_as_the_softmax_says():
    book = gumbel(codebook_size=3, latent_channels=2).train()
    torch.nn.init.normal_(book.proj.weight)
    z = latents(1, 2, 1, 1)
    indices = book(z.expand(1, 2, 100, 100)).indices
    expected = book.proj(z).softmax(1).flatten()
    share = torch.bincount(indices.flatten(), minlength=3) / 10_000
    torch.testing.assert_close(share, expected, atol=0.02, rtol=0)


def test_gumbel_codebook_passes_a_gradient_to_latents_projection_and_codes():
    book, z = gumbel().train(), latents(2, 6, 3, 3).requires_grad_()
    quantized = book(z)
    chosen = book.codes[quantized.indices].movedim(-1, 1)
    torch.testing.assert_close(quantized.codes, chosen)  # hard choice on the way forward
    quantized.codes.square().sum().backward()
    for moved in (z.grad, book.proj.weight.grad, book.embed.weight.grad):
        assert moved.abs().sum() > 0


def test_gumbel_loss_is_the_weighted_divergence_from_uniform():
    book = gumbel(codebook_size=2, latent_channels=1, kl_weight=0.5).eval()
    torch.nn.init.zeros_(book.proj.weight)
    book.proj.bias.data = torch.tensor([math.log(3.0), 0.0])  # probabilities 3/4 and 1/4
    expected = 0.75 * math.log(0.75 * 2) + 0.25 * math.log(0.25 * 2)
    assert book(latents(1, 1, 2, 2)).loss.item() == pytest.approx(0.5 * expected, rel=1e-5)
    torch.nn.init.zeros_(book.proj.bias)
    assert book(latents(1, 1, 2, 2)).loss.item() == pytest.approx(0, abs=1e-7)


def test_statistics_of_codes_by_hand():
    usage, perplexity, dead = codebook_usage(torch.tensor([2, 1, 1, 0]))
    assert (usage, dead) == (0.75, 1)
    assert perplexity == pytest.approx(2**1.5)  # entropy of 1/2, 1/4, 1/4 is 1.5 bits
    assert codebook_usage(torch.full((8,), 5)).perplexity == pytest.approx(8)
    assert codebook_usage(torch.tensor([0, 9])).perplexity == pytest.approx(1)
    assert codebook_usage(torch.zeros(4)) == (0.0, 1.0, 4)


@pytest.mark.parametrize("book", [codebook(), gumbel()], ids=["nearest", "gumbel"])
@pytest.mark.parametrize("index", [-1, 10])
def test_index_outside_the_codebook_is_refused_with_its_limits(book, index):
    indices = torch.zeros(1, 2, 2, dtype=torch.int64)
    indices[0, 1, 1] = index
    with pytest.raises(ValueError, match=rf"{index}.*the codebook has 0 to 9"):
        book.lookup(indices)
