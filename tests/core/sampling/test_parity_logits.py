"""What codes are drawn from equals the original's, equal logits included; tests/golden/README.md says how made."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.core.sampling.logits import warp
from tessera.core.sampling.settings import SamplingSettings

GOLDEN = load_file(Path(__file__).parent.parent.parent / "golden" / "warp.safetensors")


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [1, 5, 10, 64])
def test_probabilities_equal_the_original_s(top_k, temperature):
    probabilities = warp(GOLDEN["logits"], SamplingSettings(top_k=top_k), temperature).softmax(-1)
    torch.testing.assert_close(probabilities, GOLDEN[f"{top_k}.{temperature}"], atol=1e-6, rtol=0)


def test_codes_as_likely_as_the_last_one_kept_are_kept_too():
    kept = (GOLDEN["5.1.0"] > 0).sum(-1)
    assert kept.max() > 5  # as the original's sampler does
    assert kept.min() == 5
