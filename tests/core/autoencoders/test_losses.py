import sys
from pathlib import Path

import pytest
import torch

from tessera.core.autoencoders.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    adaptive_weight,
    feature_matching,
    hinge_loss,
)
from tessera.core.images.lpips import PerceptualLossUnavailable, build_lpips

TRUNK = "vgg16-397923af.pth"  # torchvision's name for the VGG16 weights


def discriminator(**changes) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(DiscriminatorConfig(**{"channels": 4, "layers": 2, **changes}))


def pictures(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_hinge_loss_by_hand():
    real = torch.tensor([2.0, 0.5, -1.0])  # relu(1 - x): 0, 0.5, 2
    made = torch.tensor([-3.0, 0.0, 1.0])  # relu(1 + x): 0, 1, 2
    assert hinge_loss(real, made).item() == pytest.approx(0.5 * (2.5 / 3 + 3 / 3))
    assert hinge_loss(torch.ones(3), -torch.ones(3)).item() == 0


def test_released_discriminator_shape_has_the_released_number_of_parameters():
    with torch.device("meta"):
        made = PatchDiscriminator(DiscriminatorConfig())
    assert round(sum(p.numel() for p in made.parameters()) / 1e6, 2) == 2.77
    norms = [name for name, module in made.main.named_children() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms == ["3", "6", "9"]


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_each_logit_judges_a_patch_of_the_known_size(layers, side):
    judge = discriminator(layers=layers).eval()
    x = pictures(1, 3, 128, 128).requires_grad_()
    logits = judge(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == side


def test_discriminator_begins_with_the_original_s_spread():
    judge = discriminator(channels=64)
    assert judge.main[2].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert judge.main[3].weight.mean().item() == pytest.approx(1, abs=0.01)
    assert judge.main[3].bias.abs().max() == 0


def two_losses(weight: torch.Tensor, nll: float, adversarial: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses whose gradients at a weight of four elements are `nll` and `adversarial` everywhere."""
    return nll * weight.sum(), adversarial * weight.sum()


@pytest.mark.parametrize(
    ("nll", "adversarial", "expected"),
    [
        (3.0, 1.5, 0.8 * 6 / (3 + 1e-4)),  # norms of four equal elements are twice the element
        (0.01, 5.0, 0.8 * 0.02 / (10 + 1e-4)),
        (0.0, 1.0, 0.0),
        (-3.0, 1.5, 0.8 * 6 / (3 + 1e-4)),  # only lengths count
        (3.0, 1e-9, 0.8 * 1e4),  # clamped
    ],
)
def test_adaptive_weight_by_hand(nll, adversarial, expected):
    weight = torch.ones(4, requires_grad=True)
    losses = two_losses(weight, nll, adversarial)
    found = adaptive_weight(*losses, weight)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert not found.requires_grad
    assert weight.grad is None
    sum(losses).backward()  # the graph is still there for the step itself


def test_adaptive_weight_scales_with_its_scale():
    weight = torch.ones(4, requires_grad=True)
    losses = two_losses(weight, 1.0, 1.0)
    half, whole = adaptive_weight(*losses, weight, scale=0.5), adaptive_weight(*losses, weight, scale=1.0)
    assert half.item() == pytest.approx(whole.item() / 2)


def test_feature_matching_is_the_mean_difference_after_each_activation():
    judge, a, b = discriminator().eval(), pictures(2, 3, 32, 32), pictures(2, 3, 32, 32, seed=2)
    x, y, differences = a, b, []
    for i, module in enumerate(judge.main):
        x, y = module(x), module(y)
        if i in (1, 4, 7):  # the three LeakyReLUs
            differences.append((x - y).abs().mean())
    torch.testing.assert_close(feature_matching(judge, a, b), sum(differences) / 3)
    assert feature_matching(judge, a, a).item() == 0


def test_feature_matching_pulls_the_reconstruction_towards_the_picture():
    judge, picture = discriminator().eval(), pictures(1, 3, 32, 32)
    made = pictures(1, 3, 32, 32, seed=2).requires_grad_()
    loss = feature_matching(judge, picture, made)
    loss.backward()
    with torch.no_grad():
        nearer = feature_matching(judge, picture, made - 1e-2 * made.grad / made.grad.norm())
    assert nearer < loss


def test_lpips_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(PerceptualLossUnavailable, match=r"LPIPS can't be had here .*VGG16 weights"):
        build_lpips()


def test_lpips_with_broken_trunk_weights_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = tmp_path / "hub" / "checkpoints" / TRUNK
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"not weights")
    with pytest.raises(PerceptualLossUnavailable, match=r"LPIPS can't be had here .*VGG16 weights"):
        build_lpips()


@pytest.mark.skipif(
    not (Path(torch.hub.get_dir()) / "checkpoints" / TRUNK).is_file(), reason="needs the VGG16 weights on this machine"
)
def test_lpips_is_frozen_and_grows_with_the_difference():
    distance, x = build_lpips(), pictures(1, 3, 64, 64)
    noise = pictures(1, 3, 64, 64, seed=2)
    same, near, far = (distance(x, (1 - t) * x + t * noise).item() for t in (0, 0.2, 0.8))
    assert same == pytest.approx(0, abs=1e-6)
    assert same < near < far
    assert not any(p.requires_grad for p in distance.parameters())
    assert not distance.training
