"""Two halves of a CLIP that another program holds."""

import pytest
import torch
from transformers import CLIPConfig as ReferenceConfig
from transformers import CLIPModel as Reference

from tessera.core.clip.layouts import released_tokenizer
from tessera.core.clip.pairing import COLORS, Tower, activation_of, pair_towers
from tessera.core.clip.scoring import embed_texts, score_texts

GELU = torch.nn.functional.gelu


def halves(width: int = 32, vision_activation=GELU) -> tuple[Tower, Tower]:
    """Random halves with Hugging Face's names."""
    torch.manual_seed(0)
    model = Reference(
        ReferenceConfig(
            vision_config={"hidden_size": 64, "patch_size": 16, "image_size": 32, "num_hidden_layers": 1,
                           "num_attention_heads": 1, "intermediate_size": 64},
            text_config={"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 64,
                         "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
            projection_dim=width,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.3 if parameter.ndim == 1 else 0.0, 0.1)
    state = model.state_dict()
    words = {n: t for n, t in state.items() if n.startswith("text_")}
    return (
        Tower({n: t for n, t in state.items() if n.startswith("visi") or n.startswith("visual")}, vision_activation),
        Tower(words | {"logit_scale": state["logit_scale"]}, GELU),
    )


def belonging_together() -> tuple[Tower, Tower]:
    """Halves whose projection of words sends the names of colors where their squares are."""
    images, words = halves()
    model = unchecked(images, words)
    squares = torch.tensor(list(COLORS.values())).view(-1, 3, 1, 1).expand(-1, -1, 32, 32)
    wanted = model.clip.encode_image(squares)
    wanted = wanted - wanted.mean(0)  # what tells them apart
    model.clip.text.projection = torch.nn.Identity()
    features = embed_texts(model, [f"a {color} square" for color in COLORS])
    projection = torch.linalg.lstsq(features, wanted).solution.t()
    return images, words._replace(tensors={**words.tensors, "text_projection.weight": projection.contiguous()})


def unchecked(images: Tower, words: Tower):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tessera.core.clip.pairing.check_space", lambda model, name: None)
        return pair_towers(images, [words])


def test_halves_that_share_a_space_become_one_clip_with_its_own_weights():
    images, words = belonging_together()
    other = halves(48)[1]
    model = pair_towers(images, [other, words])
    squares = torch.tensor(list(COLORS.values())).view(-1, 3, 1, 1).expand(-1, -1, 40, 40)
    assert score_texts(model, squares, [f"a {color} square" for color in COLORS]).argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert model.tokenizer.vocab_size == released_tokenizer().vocab_size
    weight = model.clip.image.patches.weight
    assert weight.data_ptr() != images.tensors["vision_model.embeddings.patch_embedding.weight"].data_ptr()


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (halves(), r"of 5 plain squares \d got the name of their color, so words and pictures share no space"),
        ((halves(48)[0], halves()[1]), "pictures have vectors of 48, words of 32; take both halves of one CLIP"),
        ((halves()[0], Tower({}, GELU)), "pictures have vectors of 32, words of none"),
        (halves(vision_activation=lambda x: x * torch.sigmoid(1.702 * x)), "one half has GELU, the other QuickGELU"),
        ((Tower({"visual_projection.weight": torch.ones(2, 2)}, GELU), halves()[1]), "is no plain CLIP"),
    ],
    ids=["strangers", "widths", "no words", "activations", "siglip"],
)
def test_halves_that_do_not_belong_together_are_refused(pair, sentence):
    images, words = pair
    with pytest.raises(ValueError, match=f"^this pair: .*{sentence}"):
        pair_towers(images, [words])


def test_a_projection_of_no_numbers_is_refused():
    images, words = belonging_together()
    broken = {**words.tensors, "text_projection.weight": torch.full((32, 64), torch.nan)}
    with pytest.raises(ValueError, match="share no space"):
        pair_towers(images, [words._replace(tensors=broken)])


def test_the_activation_is_told_by_what_it_does():
    assert activation_of(lambda x: x * torch.sigmoid(1.702 * x)) == "quick_gelu"
    assert activation_of(GELU) == activation_of(lambda x: GELU(x, approximate="tanh")) == "gelu"
