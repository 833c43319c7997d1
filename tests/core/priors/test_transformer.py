import copy
import math

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from tessera.core.prefix import Prefix
from tessera.core.priors.packed_linear import PackedLinear, blocked_linear, half_linear, is_half, pack_linear
from tessera.core.priors.transformer import Transformer, TransformerConfig, cell_loss, corrupt

TINY = {"layers": 3, "width": 48, "heads": 4, "codebook_size": 40, "vocab_size": 50, "prefix_length": 7, "window": 4}


def tiny(**changes) -> Transformer:
    torch.manual_seed(0)
    prior = Transformer(TransformerConfig(**{**TINY, **changes})).eval()
    for parameter in prior.parameters():  # biases and positions begin at zero and would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return prior


def tokens(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randint(50, (batch, 7)), torch.randint(40, (batch, 16))


def cached_logits(prior: Transformer, prefix: torch.Tensor, cells: torch.Tensor, stretches: list[int]):
    """Logits by cell: of the first from `start`, of the others from the decoder, so many at a time."""
    logits, cache = prior.start(Prefix(prefix), cells[:, :0], room=15)
    decoder, found = prior.decoder(), {0: logits[:, 0]}
    for stretch in stretches:
        done = cache.cells
        logits = decoder(cells[:, done : done + stretch], cache)
        assert logits.shape[1] == stretch
        found |= {done + 1 + i: logits[:, i] for i in range(stretch)}
    return found


@pytest.mark.parametrize("unmasked", [0, 5])
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("stretches", [[1] * 15, [15], [3, 1, 1, 4, 1, 2], [1, 2, 1]])
def test_cached_logits_equal_those_of_the_whole_sequence(unmasked, batch, stretches):
    prior = tiny(unmasked=unmasked)
    prefix, cells = tokens(batch)
    whole = prior(prefix, cells)
    for place, logits in cached_logits(prior, prefix, cells, stretches).items():
        torch.testing.assert_close(logits, whole[:, place], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("unmasked", [0, 5])
@pytest.mark.parametrize("stretches", [[1] * 15, [3, 1, 1, 4, 1, 2]])
@pytest.mark.parametrize("groups", [1, 2])
def test_groups_that_share_a_prefix_each_equal_sequences_that_each_hold_it(unmasked, stretches, groups):
    prior = tiny(unmasked=unmasked)
    prefix, cells = tokens(6)
    prefix = prefix[:groups]  # with two, of cells 0..2 and 3..5
    whole = prior(prefix.repeat_interleave(6 // groups, 0), cells)
    for place, logits in cached_logits(prior, prefix, cells, stretches).items():
        torch.testing.assert_close(logits, whole[:, place], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("last", [1, 2, 7])
@pytest.mark.parametrize("room", [0, 6, 15])
@pytest.mark.parametrize("unmasked", [0, 5])
def test_a_window_starts_with_as_many_of_its_last_predictions_as_are_wanted(rows, last, room, unmasked):
    prior = tiny(unmasked=unmasked)
    prefix, cells = tokens(3)
    prefix = prefix[:rows]
    logits, cache = prior.start(Prefix(prefix), cells[:, :6], last, room)
    whole = prior(prefix.expand(3, -1), cells)
    torch.testing.assert_close(logits, whole[:, 7 - last : 7], atol=1e-5, rtol=1e-5)
    if room == 15:
        after = prior.decoder()(cells[:, 6:9], cache, last=2)
        torch.testing.assert_close(after, whole[:, 8:10], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_cells_rolled_back_leave_no_trace(rows):
    prior = tiny()
    prefix, cells = tokens(3)
    prefix = prefix[:rows]
    whole = prior(prefix.expand(3, -1), cells)
    _, cache = prior.start(Prefix(prefix), cells[:, :3], room=15)
    decoder = prior.decoder()
    decoder((cells[:, 3:11] + 1) % 40, cache)
    cache.rollback(3)
    assert cache.cells == 3
    torch.testing.assert_close(decoder(cells[:, 3:8], cache), whole[:, 4:9], atol=1e-5, rtol=1e-5)


def test_expanding_takes_the_prefix_s_memory_once():
    prior = tiny()
    prefix, cells = tokens(3)
    _, cache = prior.start(Prefix(prefix[:1]), cells[:1, :0], room=15)
    assert cache.expand(1) is cache
    many = cache.expand(3)
    assert (many.own.shape[2], many.length, many.cells) == (3, 7, 0)
    assert many.shared.untyped_storage().data_ptr() == cache.own.untyped_storage().data_ptr()
    alone, shared = (prior.cache_bytes(15, sharing) for sharing in (1, 3))
    assert alone == cache.own.nbytes
    assert 3 * shared == many.own.nbytes + cache.own[:, :, :, :, :7].nbytes


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (Prefix(torch.zeros(1, 6, dtype=torch.long)), "1 prefixes of 6 tokens, the prior takes 7; use the condition"),
        (Prefix(torch.full((1, 7), 50)), "holds token 50, the prior knows 0 to 49"),
        (Prefix(torch.zeros(1, 7, 48)), "takes tokens as its prefix, not vectors"),
        (Prefix(torch.zeros(1, 7, dtype=torch.long), torch.ones(1, 7, dtype=torch.bool)), "not vectors, a mask"),
    ],
)
def test_prefix_of_another_kind_is_refused(prefix, message):
    with pytest.raises(ValueError, match=message):
        tiny().check_prefix(prefix)


def test_equals_gpt2_of_the_transformers_library_with_the_same_weights():
    prior = tiny()
    config = GPT2Config(
        vocab_size=50, n_positions=prior.config.context, n_embd=48, n_layer=3, n_head=4, activation_function="gelu",
        tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    theirs = GPT2LMHeadModel(config).eval()
    weights = {
        "transformer.wte.weight": prior.tok_emb.weight,
        "transformer.wpe.weight": prior.pos_emb[0],
        "transformer.ln_f.weight": prior.ln_f.weight,
        "transformer.ln_f.bias": prior.ln_f.bias,
        "lm_head.weight": F.pad(prior.head.weight, (0, 0, 0, 10)),  # their head speaks all of the vocabulary
    }
    for i, block in enumerate(prior.blocks):
        names = {
            "ln_1": block.ln1, "attn.c_attn": block.attn.qkv, "attn.c_proj": block.attn.proj,
            "ln_2": block.ln2, "mlp.c_fc": block.mlp[0], "mlp.c_proj": block.mlp[2],
        }  # fmt: skip
        for name, layer in names.items():
            weights[f"transformer.h.{i}.{name}.weight"] = layer.weight.t()  # t() of a norm's vector is itself
            weights[f"transformer.h.{i}.{name}.bias"] = layer.bias
    theirs.load_state_dict(weights)
    prefix, cells = tokens(2)
    with torch.no_grad():
        expected = theirs(torch.cat([prefix, cells[:, :-1]], 1)).logits[:, 6:, :40]
        torch.testing.assert_close(prior(prefix, cells), expected, atol=1e-5, rtol=1e-5)


def test_a_cell_sees_the_cells_before_it_and_none_after():
    prior = tiny()
    prefix, cells = tokens(1)
    before = prior(prefix, cells)
    cells[0, 9] = (cells[0, 9] + 1) % 40
    after = prior(prefix, cells)
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).any(-1).all()


def test_unmasked_tokens_see_each_other_both_ways_and_the_rest_stays_causal():
    prior = tiny(unmasked=5)
    allowed = prior.mask(0, 9)
    assert allowed[:5, :5].all()
    assert torch.equal(allowed[5:], torch.ones(9, 9).tril().bool()[5:])
    assert not allowed[:5, 5:].any()
    assert torch.equal(prior.mask(3, 9), allowed[3:])
    assert tiny().mask(0, 9) is None


def test_the_loss_is_the_cross_entropy_of_the_cells_alone():
    prior = tiny()
    prefix, cells = tokens(2)
    log_probabilities = prior(prefix, cells).log_softmax(-1)
    expected = -sum(log_probabilities[b, i, cells[b, i]] for b in range(2) for i in range(16)) / 32
    torch.testing.assert_close(prior.loss(prefix, cells), expected)


def test_the_prefix_is_not_predicted():
    prior = tiny()
    prefix, cells = tokens(2)
    assert prior(prefix, cells).shape == (2, 16, 40)  # from the last token of the prefix on; prefix tokens 40..49
    prior.loss(prefix, cells).backward()
    gradient = prior.pos_emb.grad[0]
    assert gradient[:7].abs().sum(1).all()  # looked at
    assert not gradient[22:].any()  # the last cell is predicted, not looked at


def test_corruption_keeps_its_share_and_draws_from_the_codes():
    torch.manual_seed(0)
    cells = torch.full((50, 200), 7)
    seen = corrupt(cells, 0.7, 40)
    assert float((seen == 7).float().mean()) == pytest.approx(0.7 + 0.3 / 40, abs=0.02)
    assert int(seen.min()) == 0
    assert int(seen.max()) == 39
    assert corrupt(cells, 1.0, 40) is cells
    assert bool((cells == 7).all())


def test_targets_are_never_corrupted():
    prior = tiny()
    prefix, cells = tokens(2)
    torch.manual_seed(3)
    loss = prior.loss(prefix, cells, pkeep=0.5)
    torch.manual_seed(3)
    torch.testing.assert_close(loss, cell_loss(prior(prefix, corrupt(cells, 0.5, 40)), cells))
    assert not torch.allclose(loss, prior.loss(prefix, cells))


def test_weight_decay_is_for_the_weights_of_linear_layers_only():
    prior = tiny()
    decayed, rest = prior.decay_groups(0.01)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)
    names = {id(p): n for n, p in prior.named_parameters()}
    wanted = {n for n in names.values() if n.endswith(("qkv.weight", "proj.weight", "0.weight", "2.weight"))}
    wanted = {n for n in wanted if ".ln" not in n} | {"head.weight"}
    assert {names[id(p)] for p in decayed["params"]} == wanted
    assert len(decayed["params"]) + len(rest["params"]) == len(names)


def test_initial_weights_are_normal_with_deviation_a_fiftieth():
    torch.manual_seed(0)
    prior = Transformer(TransformerConfig(layers=1, width=256, heads=4))
    for weight in (prior.tok_emb.weight, prior.head.weight, prior.blocks[0].mlp[0].weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert abs(float(weight.detach().mean())) < 1e-3
    assert not prior.pos_emb.any()
    assert not prior.blocks[0].attn.qkv.bias.any()


@pytest.mark.parametrize("prefix_length", [16, 1])
def test_positions_on_the_grid_put_cells_where_the_condition_has_them(prefix_length):
    config = TransformerConfig(
        layers=1, width=32, heads=2, codebook_size=8, vocab_size=16, prefix_length=prefix_length, window=4
    )
    prior = Transformer(config)
    prior.init_grid_positions()
    positions = prior.pos_emb[0].detach()
    cells = positions[prefix_length:-1]  # of the tokens that predict cells 1 to 15
    assert float(cells.std()) == pytest.approx(0.04, rel=0.4)
    assert float(torch.pdist(cells).min()) > 0.01  # each place is another
    # the same step along a row or a column is as long everywhere
    right, down = cells[1:3] - cells[0:2], cells[4::4] - cells[0:-4:4]
    torch.testing.assert_close(right.norm(dim=1), right[:1].norm(dim=1).expand(2))
    torch.testing.assert_close(down.norm(dim=1), down[:1].norm(dim=1).expand(len(down)))
    if prefix_length == 16:
        assert torch.equal(positions[1:16], cells)


def test_before_training_on_the_grid_a_cell_looks_most_at_its_own_place_in_the_condition():
    torch.manual_seed(0)
    prior = Transformer(
        TransformerConfig(layers=1, width=64, heads=1, codebook_size=8, vocab_size=16, prefix_length=64, window=8)
    )
    prior.init_grid_positions()
    tokens = torch.randint(16, (1, 127), generator=torch.Generator().manual_seed(1))
    x = prior.blocks[0].ln1(prior.tok_emb(tokens) + prior.pos_emb[:, :127])
    q, k, _ = prior.blocks[0].attn.qkv(x)[0].detach().chunk(3, -1)
    scores = q[64:] @ k[:64].t()  # [cells 1 to 63, condition]
    rank = (scores > scores[range(63), range(1, 64)].unsqueeze(1)).sum(1)
    assert float(rank.float().mean()) < 4  # of 64


def test_a_fresh_model_knows_nothing():
    torch.manual_seed(0)
    prior = Transformer(TransformerConfig(**TINY)).eval()
    assert float(prior.loss(*tokens(8))) == pytest.approx(math.log(40), abs=0.05)


def test_the_released_shape_has_its_number_of_parameters():
    with torch.device("meta"):
        prior = Transformer(TransformerConfig(layers=24, width=1024, heads=16))
    block = 12 * 1024**2 + (3 + 1 + 4 + 1) * 1024 + 4 * 1024  # matrices, their biases, two norms
    expected = 24 * block + 2 * 1024 * 1024 + 512 * 1024 + 2 * 1024  # embedding and head, positions, last norm
    assert prior.config.context == 512
    assert sum(p.numel() for p in prior.parameters()) == expected == 304_932_864


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"width": 50}, "width 50 does not divide by heads 4"),
        ({"vocab_size": 30}, "vocab_size 30 is below codebook_size 40"),
        ({"unmasked": 8}, "unmasked is 8; choose 0 to prefix_length 7"),
        ({"unmasked": -1}, "unmasked is -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_impossible_configs_are_refused_with_the_cure(changes, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**{**TINY, **changes})


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 16, 17, 33, 64, 65])
@pytest.mark.parametrize("shape", [(48, 144), (64, 16), (31, 45), (7, 1), (1, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_laid_out_for_few_rows_equals_the_layer(rows, shape, bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(*shape, bias=bias)
    x = torch.randn(rows, shape[0])
    with torch.no_grad():
        for laid_out in (pack_linear(layer, rows), blocked_linear(layer)):
            torch.testing.assert_close(laid_out(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [4, 7, 40])
def test_a_layer_laid_out_for_several_rows_serves_any_number(rows):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(48, 144), torch.randn(rows, 48)
    with torch.no_grad():
        torch.testing.assert_close(pack_linear(layer, 3)(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(48, 144), (31, 45), (7, 1), (256, 1024)])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_that_half_precision_holds_are_read_so_and_give_the_same(shape, bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(*shape, bias=bias)
    assert not is_half(layer)
    layer.weight.data = layer.weight.data.half().float()
    if not is_half(layer):
        pytest.skip("this machine has no FBGEMM")
    with torch.no_grad():
        for rows in (1, 2, 3, 16, 33):
            x = torch.randn(rows, shape[0])
            exact = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
            for laid_out in (half_linear(layer), PackedLinear(layer)):
                torch.testing.assert_close(laid_out(x).double(), exact, atol=2e-6, rtol=2e-6)
            lower = copy.deepcopy(layer).half()  # rounds its inputs and results, not its sums
            torch.testing.assert_close(PackedLinear(lower)(x.half()).double(), exact, atol=2e-3, rtol=2e-3)
        layer.weight[-1, -1] = 1e5  # more than half precision holds
    assert not is_half(layer)


def test_other_precisions_decode_too():
    prior = tiny().double()
    prefix, cells = tokens(3)
    whole = prior(prefix, cells)
    for place, logits in cached_logits(prior, prefix, cells, [1] * 5).items():
        torch.testing.assert_close(logits, whole[:, place])


@pytest.mark.parametrize("unmasked", [0, 5])
def test_a_prefix_worked_out_once_for_all_gives_the_logits_and_gradients_of_one_for_each(unmasked):
    prior = tiny(unmasked=unmasked)
    prefix, cells = tokens(3)
    logits, gradients = [], []
    for one in (prefix[:1].expand(3, -1), prefix[:1]):
        prior.zero_grad()
        logits.append(prior(one, cells))
        cell_loss(logits[-1], cells).backward()
        gradients.append([p.grad.clone() for p in prior.parameters()])
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_dropout_is_active_in_training_only():
    prior = tiny(dropout=0.5)
    prefix, cells = tokens(1)
    assert torch.equal(prior(prefix, cells), prior(prefix, cells))
    prior.train()
    assert not torch.equal(prior(prefix, cells), prior(prefix, cells))


def test_one_batch_can_be_learned_by_heart():
    torch.manual_seed(0)
    prior = Transformer(TransformerConfig(**TINY))
    prefix, cells = tokens(4)
    optimizer = torch.optim.AdamW(prior.decay_groups(0.01), lr=3e-3, betas=(0.9, 0.95))
    for _ in range(150):
        optimizer.zero_grad()
        loss = prior.loss(prefix, cells)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


def test_checkpointing_keeps_the_gradients_to_the_bits_and_less_in_memory():
    shape = {"codebook_size": 8, "vocab_size": 12, "prefix_length": 4, "window": 4}
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(layers=3, width=32, heads=2, dropout=0.2, **shape))
    prefix, cells = torch.randint(12, (2, 4)), torch.randint(8, (2, 16))
    gradients, kept = [], []
    for model.checkpointing in (False, True):
        torch.manual_seed(1)
        sizes = []

        def note(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model.loss(prefix, cells)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
        kept.append(sum(sizes))
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 2
