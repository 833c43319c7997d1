"""Figures in Inception's features, with random weights in its layout, since the real ones must be fetched."""

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.training.stages.fidelity import MIN_PICTURES, compare_pictures


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """A file of random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, weights):
            """Keep the random ones."""

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Untrained("random", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # or features fade from layer to layer
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path


def pictures(folder, light: int) -> str:
    """So few as can be compared, about as light."""
    folder.mkdir()
    luck = np.random.default_rng(light)
    for number in range(MIN_PICTURES):
        pixels = luck.integers(light, light + 100, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number}.png")
    return str(folder)


@pytest.mark.slow
def test_figures_tell_a_set_from_another_and_precision_is_in_the_same_features(inception, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # torch-fidelity keeps features there
    dark, light = pictures(tmp_path / "dark", 0), pictures(tmp_path / "light", 150)
    figures = compare_pictures(light, dark, 32, MIN_PICTURES, inception)
    assert set(figures) == {"fid", "kid", "kid_deviation", "precision", "recall"}
    assert figures["fid"] > 0.1
    assert figures["kid"] > 0.01
    assert figures["precision"] < 0.5


def test_a_file_that_is_no_set_of_weights_is_refused_unopened(tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").touch, ())

    path = tmp_path / "weights.pth"
    torch.save(Attack(), path)
    with pytest.raises(ValueError, match="holds something else than Inception's weights"):
        compare_pictures(str(tmp_path), str(tmp_path), 32, 1, path)
    assert not (tmp_path / "owned").exists()
