"""Prompts: features of a tiny T5, their file, and the prefix that the prior gets."""

import pytest
import torch

from tessera.core.conditions.text import MAX_TOKENS, TextCondition, TextEncoder, TextFeatures, clean
from tessera.core.geometry import Window
from tessera.tests.core.conditions.tiny_text_encoder import write_text_encoder

WINDOW = Window(0, 0, 4, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny T5 as Hugging Face stores it."""
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("models") / "tiny-t5"
    write_text_encoder(path, 32)
    return path


@pytest.fixture(scope="module")
def features(folder) -> TextFeatures:
    return TextEncoder(folder).encode(["A red fox in the  SNOW", "fox"])


def test_prompts_are_read_in_lower_case_with_single_spaces():
    assert clean("  A Red\n fox ") == "a red fox"


def test_prompts_of_two_lengths_end_together(features):
    assert features.features.shape == (2, 7, 32)  # six words and the end token
    assert features.mask.sum(1).tolist() == [7, 2]
    assert features.mask[1].tolist() == [False] * 5 + [True] * 2
    assert not features.features[1, :5].any()


def test_a_prompt_is_the_same_whatever_stands_beside_it(folder, features):
    alone = TextEncoder(folder).encode(["fox"])
    assert torch.equal(alone.features[0], features.features[1, 5:])


def test_a_long_prompt_is_cut_off(folder):
    assert TextEncoder(folder).encode(["red " * 300]).features.shape[1] == MAX_TOKENS


def test_no_prompt_is_refused(folder):
    with pytest.raises(ValueError, match="no prompt"):
        TextEncoder(folder).encode([])


def test_a_folder_without_t5_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="can't be opened as a T5 encoder"):
        TextEncoder(tmp_path)


def test_features_travel_as_a_file(features, tmp_path):
    features.save(tmp_path / "fox.safetensors")
    again = TextFeatures.load(tmp_path / "fox.safetensors")
    assert again.prompts == features.prompts
    assert again.encoder == "tiny-t5"
    assert torch.equal(again.mask, features.mask)
    torch.testing.assert_close(again.features, features.features, atol=0, rtol=2**-8)  # bfloat16


def test_without_its_text_a_prompt_keeps_its_length_and_mask(features):
    null = torch.randn(1, 120, 32, generator=torch.Generator().manual_seed(1))
    condition = TextCondition(features.features, features.mask, null)
    free = condition.unconditional.prefix(WINDOW)
    assert torch.equal(free.tokens, null[:, -7:].expand(2, -1, -1))
    assert torch.equal(free.mask, condition.prefix(WINDOW).mask)
