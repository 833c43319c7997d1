import torch

from tessera.training.stages.color_figures import HUES, cell_color_errors, has_hue
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
    assert has_hue(images, HUES["reds"]).tolist() == [True, False, False]
    assert has_hue(images, HUES["yellows"]).tolist() == [False, True, False]


def test_a_classifier_learns_styles_and_the_same_one_from_a_seed():
    torch.manual_seed(0)
    images = torch.rand(16, 3, SIDE, SIDE) * 0.2
    styles = torch.arange(16) % 2
    images[styles == 1] += 0.7
    first, second = (train_style_classifier(images, styles, seed=1) for _ in range(2))
    assert (styles_of(first, images) == styles).float().mean() > 0.95
    assert torch.equal(first[-1].weight, second[-1].weight)
