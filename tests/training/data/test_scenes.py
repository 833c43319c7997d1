import cv2
import numpy as np
import pytest
import torch

from tessera.training.data.lines import find_lines, varied_lines
from tessera.training.data.scenes import Painter, SceneConfig, on_white, place, turn_hue


@pytest.fixture
def drawings():
    """A red disk and a blue square on nothing, 64 pixels a side."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    shapes = torch.stack([(x - 32) ** 2 + (y - 32) ** 2 < 400, (x - 32).abs().maximum((y - 32).abs()) < 20])
    pixels = torch.zeros(2, 4, 64, 64, dtype=torch.uint8)
    pixels[0, 0], pixels[1, 2] = 255, 255
    pixels[:, 3] = shapes.byte() * 255
    return pixels


def test_the_seed_decides_the_scenes(drawings):
    painter = Painter(drawings, SceneConfig(leaves=0.5, several=0.5))
    scenes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        scenes.append(painter.paint(6).images)
    assert torch.equal(scenes[0], scenes[1])
    assert not torch.equal(scenes[0], scenes[2])
    assert scenes[0].shape == (6, 3, 64, 64)
    assert scenes[0].min() >= 0
    assert scenes[0].max() <= 1


def test_whole_scenes_show_their_drawing_in_its_color_near_the_middle(drawings):
    torch.manual_seed(0)
    scenes = Painter(drawings, SceneConfig(whole=1, several=0, leaves=0, white=1, hue=0)).paint(16)
    middle = scenes.images[:, :, 28:36, 28:36].mean((2, 3))
    assert (scenes.second == -1).all()
    assert set(scenes.first.tolist()) == {0, 1}
    assert torch.equal(middle[:, 0] > middle[:, 2], scenes.first == 0)
    assert (scenes.images[:, :, 0, 0] > 0.99).all()


def test_bare_leaves_name_no_drawing_and_fill_the_image(drawings):
    torch.manual_seed(0)
    scenes = Painter(drawings, SceneConfig(leaves=1, several=0)).paint(5)
    assert scenes.first.tolist()[:3] == [-1, -1, -1]
    assert (scenes.first[3:] >= 0).all()
    assert all(len(image.flatten(1).unique(dim=1)[0]) > 5 for image in scenes.images)


def test_bare_grounds_name_no_drawing_and_are_one_color_where_grounds_are_white(drawings):
    torch.manual_seed(0)
    scenes = Painter(drawings, SceneConfig(leaves=0, bare=0.5, white=1)).paint(6)
    assert scenes.first.tolist()[:3] == [-1, -1, -1]
    assert (scenes.first[3:] >= 0).all()
    assert (scenes.images[:3] == 1).all()


def test_only_the_numbered_drawings_are_drawn(drawings):
    torch.manual_seed(0)
    scenes = Painter(drawings, SceneConfig(leaves=0, several=0.5), torch.tensor([1])).paint(16)
    assert set(scenes.first.tolist()) == {1}
    assert set(scenes.second.tolist()) <= {-1, 1}


def test_a_drawing_placed_as_it_is_is_itself(drawings):
    one, zero = torch.ones(2), torch.zeros(2)
    rgb, alpha = place(drawings, one, zero, torch.zeros(2, 2), one)
    assert torch.allclose(rgb * alpha + 1 - alpha, on_white(drawings), atol=1e-3)


def test_a_shift_moves_right_and_down(drawings):
    one, zero = torch.ones(2), torch.zeros(2)
    _, alpha = place(drawings, one, zero, torch.tensor([[0.25, 0.0], [0.0, 0.25]]), one)  # 8 pixels
    still = drawings[:, 3:].float() / 255
    assert torch.allclose(alpha[0, 0, :, 8:], still[0, 0, :, :-8], atol=1e-3)
    assert torch.allclose(alpha[1, 0, 8:], still[1, 0, :-8], atol=1e-3)


def test_a_third_of_a_turn_makes_red_green_or_blue_and_a_whole_one_nothing():
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    assert torch.allclose(turn_hue(red, torch.tensor([2 * torch.pi])), red, atol=1e-3)
    assert turn_hue(red, torch.tensor([2 * torch.pi / 3])).flatten().argmax() != 0


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"scenes.leaves is 1.5; choose a share from 0 to 1"):
        SceneConfig(leaves=1.5)


def test_lines_are_those_of_opencv(drawings):
    torch.manual_seed(3)
    images = Painter(drawings, SceneConfig(leaves=0)).paint(12).images
    found = find_lines(images)[:, 0].bool().numpy()
    for image, lines in zip(images, found, strict=True):
        gray = cv2.cvtColor((image.permute(1, 2, 0) * 255).round().byte().numpy(), cv2.COLOR_RGB2GRAY)
        wanted = cv2.Canny(cv2.GaussianBlur(gray, (0, 0), 2.0), 50, 120, L2gradient=True) > 0
        near = cv2.dilate(wanted.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert lines.sum() == 0 or (lines & near).sum() / lines.sum() > 0.9
        if wanted.sum() > 20:
            assert 0.7 < lines.sum() / wanted.sum() < 1.3


def test_varied_lines_are_lines_and_vary(drawings):
    torch.manual_seed(0)
    painter = Painter(drawings, SceneConfig())
    images = on_white(drawings[:1]).expand(32, -1, -1, -1)
    lines = varied_lines(images, painter)
    assert set(lines.unique().tolist()) == {0.0, 1.0}
    assert len({one.sum().item() for one in lines}) > 5
