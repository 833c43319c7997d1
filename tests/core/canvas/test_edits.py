import pytest
import torch

from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.edits import blend, keep_side, masked_cells, pad_unknown


def numbered(height: int = 4, width: int = 6) -> Canvas:
    return Canvas.filled(torch.arange(height * width).view(1, height, width))


@pytest.mark.parametrize(
    ("side", "rows", "columns"),
    [("top", slice(0, 2), slice(None)), ("bottom", slice(2, 4), slice(None)),
     ("left", slice(None), slice(0, 3)), ("right", slice(None), slice(3, 6))],
)  # fmt: skip
def test_half_is_kept_and_the_rest_forgotten(side, rows, columns):
    kept = keep_side(numbered(), side, 0.5).known[0]
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[rows, columns] = True
    assert torch.equal(kept, expected)


def test_nothing_or_everything_can_be_kept():
    assert not keep_side(numbered(), "top", 0).known.any()
    assert keep_side(numbered(), "left", 1).known.all()
    with pytest.raises(ValueError, match="choose 0 to 1"):
        keep_side(numbered(), "top", 1.5)


def test_painted_cells_are_those_with_more_than_the_share():
    mask = torch.zeros(1, 64, 96)
    mask[0, 16:32, 32:36] = 1  # a quarter of cell (1, 2)
    assert masked_cells(numbered(), mask, 0).nonzero().tolist() == [[0, 1, 2]]
    assert not masked_cells(numbered(), mask, 0.25).any()
    grown = masked_cells(numbered(), mask, 0, grow=1)[0]
    assert grown[0:3, 1:4].all()
    assert grown.sum() == 9


def test_surrounding_keeps_the_picture_and_adds_unknown_cells():
    canvas = pad_unknown(numbered().with_padding((0.5, 0.25)), 1, 2, 0, 3)
    assert canvas.size == (5, 11)
    assert torch.equal(canvas.indices[:, 1:, 3:9], numbered().indices)
    assert canvas.known.sum() == 24
    assert canvas.padding == (0.5, 0)
    with pytest.raises(ValueError, match="use 0 or more"):
        pad_unknown(numbered(), -1, 0, 0, 0)


def vqgan() -> VQGAN:
    torch.manual_seed(0)
    shape = {"channels": 32, "channel_mult": (1, 1), "blocks_per_level": 1, "attention_levels": ()}
    model = VQGAN(VQGANConfig(**shape, latent_channels=4, code_dim=1, codebook_size=5)).eval()
    model.codebook.embedding.weight.data = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]])
    return model


def test_blend_takes_the_code_nearest_to_the_mix():
    a, b = Canvas.filled(torch.tensor([[[0, 1]]])), Canvas.filled(torch.tensor([[[4, 1]]]))
    amount = torch.tensor([[[0.5, 0.5]]])
    assert blend(vqgan(), a, b, amount).indices.tolist() == [[[2, 1]]]
    assert torch.equal(blend(vqgan(), a, b, amount * 0).indices, a.indices)
    assert torch.equal(blend(vqgan(), a, b, amount * 2).indices, b.indices)


def test_blend_of_a_cell_that_one_canvas_knows_is_that_canvas():
    a = Canvas(torch.tensor([[[0, 1]]]), torch.tensor([[[True, False]]]))
    b = Canvas(torch.tensor([[[4, 3]]]), torch.tensor([[[False, True]]]))
    mixed = blend(vqgan(), a, b, torch.full((1, 1, 2), 0.5))
    assert mixed.indices.tolist() == [[[0, 3]]]
    assert mixed.known.all()
    with pytest.raises(ValueError, match="crop or repeat"):
        blend(vqgan(), a, numbered(), torch.zeros(1, 1, 2))


def test_side_that_grows_no_longer_wraps():
    canvas = Canvas.empty(1, 2, 3).with_wrap("both")
    assert pad_unknown(canvas, 0, 1, 0, 0).wrap == "y"
    assert pad_unknown(canvas, 1, 0, 0, 0).wrap == "x"
    assert pad_unknown(canvas, 0, 0, 0, 0).wrap == "both"
    assert pad_unknown(canvas, 0, 0, 1, 1).wrap == "none"
