import torch

from tessera.training.stages.color_figures import cell_color_errors, is_named
from tessera.training.stages.style_classifier import SIDE, styles_of, train_style_classifier


def filled(red, green, blue, side=16):
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1).expand(1, 3, side, side) * 2.0 - 1


def test_errors_of_a_hue_are_those_of_its_cells():
    given, made = torch.cat([filled(1, 0, 0), filled(1, 1, 1)], 3), torch.cat([filled(0.7, 0, 0), filled(0, 0, 0)], 3)
    off, cells = cell_color_errors(given, made, 8).unbind(1)
    assert cells.tolist() == [4, 0, 0, 0]  # white has no hue
    assert torch.isclose(off[0], torch.tensor(4 * 0.1).double(), atol=1e-6)


def test_an_image_has_the_hue_of_its_colored_pixels():
    strawberry, sun = torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    strawberry[..., 8:24, 8:24] = filled(0.9, 0.1, 0.15)
    strawberry[..., 4:8, 12:20] = filled(0.2, 0.7, 0.2, 8)[..., :4, :]
    sun[..., 8:24, 8:24] = filled(1, 0.85, 0.1)
    images = torch.cat([strawberry, sun, torch.ones(1, 3, 32, 32)])
    assert is_named(images, "red").tolist() == [True, False, False]
    assert is_named(images, "yellow").tolist() == [False, True, False]
    assert is_named(filled(0.49, 0.70, 0.26), "green").all(), "a frog's"
    assert not is_named(filled(0.49, 0.70, 0.26), "yellow").any()
    assert is_named(filled(0.9, 0.1, 0.3), "red").all(), "from the other side"


def test_a_classifier_learns_styles_and_the_same_one_from_a_seed():
    torch.manual_seed(0)
    images = torch.rand(16, 3, SIDE, SIDE) * 0.2
    styles = torch.arange(16) % 2
    images[styles == 1] += 0.7
    learned = (images * 255).byte()
    first, second = (train_style_classifier(learned, styles, seed=1) for _ in range(2))
    assert (styles_of(first, images) == styles).float().mean() > 0.95
    assert torch.equal(first[-1].weight, second[-1].weight)
