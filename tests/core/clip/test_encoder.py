import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig as ReferenceConfig
from transformers import CLIPModel as Reference

from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.clip.clip_file import open_clip, save_clip
from tessera.core.clip.encoder import CLIP, MEAN, STD, CLIPConfig
from tessera.core.clip.layouts import read_clip, released_tokenizer
from tessera.core.clip.model import ClipModel
from tessera.core.clip.tokenizer import Tokenizer, learn_merges

SHAPES = {  # widths and layers reduced, patches and resolutions as released
    "B/32": ({"hidden_size": 128, "patch_size": 32, "image_size": 224, "num_hidden_layers": 2}, 64, "quick_gelu"),
    "B/16": ({"hidden_size": 128, "patch_size": 16, "image_size": 112, "num_hidden_layers": 2}, 64, "gelu"),
    "L/14": ({"hidden_size": 192, "patch_size": 14, "image_size": 70, "num_hidden_layers": 3}, 128, "quick_gelu"),
}
TEXTS = ["a photo of a cat", "it's 12:30 in London &amp; São Paulo!", "<|endoftext|>", ""]


def reference(name: str) -> Reference:
    """transformers' CLIP of a reduced shape, with lively random weights."""
    torch.manual_seed(0)
    image, text_width, activation = SHAPES[name]
    width = image["hidden_size"]
    tokens = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    model = Reference(
        ReferenceConfig(
            vision_config={
                **image, "num_attention_heads": width // 64, "intermediate_size": 4 * width, "hidden_act": activation,
            },
            text_config={
                **tokens, "hidden_size": text_width, "num_attention_heads": text_width // 64, "num_hidden_layers": 2,
                "intermediate_size": 4 * text_width, "hidden_act": activation,
            },
            projection_dim=96,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.05)
    return model.eval()


def features(found) -> torch.Tensor:
    """Unit vectors of what transformers returns, before version 5 and since."""
    found = getattr(found, "pooler_output", found)
    return found / found.norm(dim=1, keepdim=True)


def openai_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights as OpenAI stores them."""
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("vision_model.encoder.layers", "visual.transformer.resblocks")
        name = name.replace("text_model.encoder.layers", "transformer.resblocks")
        for old, new in (
            ("text_model.final_layer_norm", "ln_final"),
            ("layer_norm", "ln_"), ("self_attn.out_proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"), ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
            ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
            ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
            ("vision_model.pre_layrnorm", "visual.ln_pre"), ("vision_model.post_layernorm", "visual.ln_post"),
            ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
            ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ):  # fmt: skip
            name = name.replace(old, new)
        renamed[name] = tensor
    renamed["visual.proj"] = renamed.pop("visual_projection.weight").t()
    renamed["text_projection"] = renamed.pop("text_projection.weight").t()
    for name in [name for name in renamed if "self_attn.q_proj" in name]:
        three = [renamed.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        renamed[re.sub(r"self_attn\.q_proj\.", "attn.in_proj_", name)] = torch.cat(three)
    return renamed


def write(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, str(path))
    return path


def test_both_towers_give_what_transformers_gives(tmp_path):
    for name, (image, _, activation) in SHAPES.items():
        theirs = reference(name)
        images, tokens = torch.rand(2, 3, *2 * [image["image_size"]]), released_tokenizer()(TEXTS)
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
        with torch.no_grad():
            seen = features(theirs.get_image_features(pixel_values=(images - mean) / std))
            said = features(theirs.get_text_features(input_ids=tokens))
        state = theirs.state_dict()
        torch.save({"state_dict": openai_names(state)}, tmp_path / "openai.pt")
        halves = [{n: t for n, t in state.items() if n.startswith("text") == text} for text in (False, True)]
        layouts = {
            "Hugging Face": [write(tmp_path / "hf.safetensors", state)],
            "OpenAI": [tmp_path / "openai.pt"],
            "halves": [write(tmp_path / f"{i}.safetensors", half) for i, half in enumerate(halves)],
        }
        for layout, paths in layouts.items():
            ours = read_clip([open_checkpoint(path) for path in paths], activation)
            torch.testing.assert_close(ours.encode_image(images), seen, atol=1e-5, rtol=0, msg=f"{name}, {layout}")
            torch.testing.assert_close(ours.encode_text(tokens), said, atol=1e-5, rtol=0, msg=f"{name}, {layout}")


def test_the_activation_goes_by_the_config_beside_the_file_or_its_name(tmp_path):
    state = reference("B/16").state_dict()
    plain, named = (write(tmp_path / f"{name}.safetensors", state) for name in ("clip-b16", "CLIP-B-16-laion2B"))
    assert open_clip(plain).clip.config.activation == "quick_gelu"
    assert open_clip(named).clip.config.activation == "gelu"
    (tmp_path / "config.json").write_text('{"vision_config": {"hidden_act": "gelu"}}')
    assert open_clip(plain).clip.config.activation == "gelu"
    assert open_clip(plain, activation="quick_gelu").clip.config.activation == "quick_gelu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("text_projection.weight"), "lacks the projection of words"),
        (lambda s: s.pop("vision_model.encoder.layers.1.mlp.fc1.bias"), "image.blocks.1.mlp.0.bias is missing"),
        (lambda s: s.update({"visual.layer1.0.conv1.weight": torch.zeros(1)}), "ResNet"),
        (lambda s: s.update({"logit_bias": torch.zeros(1)}), "SigLIP"),
        (lambda s: s.update({"something": torch.zeros(1)}), "something is unexpected"),
        (lambda s: s.update({"logit_scale": torch.zeros(2)}), "logit_scale"),
    ],
)
def test_a_file_that_is_no_whole_vit_clip_is_refused_by_name(tmp_path, change, message):
    state = reference("B/16").state_dict()
    change(state)
    path = write(tmp_path / "clip.safetensors", state)
    with pytest.raises(ValueError, match=message) as error:
        open_clip(path)
    assert "clip.safetensors" in str(error.value)


def test_released_tokens_are_those_of_openai():
    tokens = released_tokenizer()
    assert tokens.vocab_size == 49408
    # made with clip-anytorch 2.6.0's tokenize
    assert tokens(["a photo of a cat"])[0, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 0]
    assert tokens.encode("hello world!") == [3306, 1002, 256]
    assert len(tokens(["word " * 200])[0]) == 77
    assert not tokens.fits("word " * 200)


def test_a_learned_vocabulary_joins_what_is_frequent_and_spells_the_rest():
    merges = learn_merges(["la fresa roja", "fresa fresa limón"] * 3, 20, plain_letters=True)
    tokenizer = Tokenizer(merges, context=16, plain_letters=True)
    assert len(tokenizer.encode("fresa")) == 1
    assert tokenizer.encode("LIMÓN") == tokenizer.encode("limon")
    assert len(tokenizer.encode("xylophone 🎈")) > 10
    assert tokenizer.vocab_size == 512 + len(merges) + 2


def test_a_clip_file_brings_its_vocabulary(tmp_path):
    tokenizer = Tokenizer(learn_merges(["red blue green"] * 3, 8), context=12)
    config = CLIPConfig(
        image_size=16, patch_size=8, image_width=32, image_layers=1, image_heads=2, image_mlp=32, text_width=32,
        text_layers=1, text_heads=2, text_mlp=32, context=12, vocab_size=tokenizer.vocab_size, embed_dim=8,
    )  # fmt: skip
    clip = CLIP(config)
    clip.init_weights()
    save_clip(tmp_path / "own.safetensors", ClipModel(clip.eval(), tokenizer), license="MIT")
    found = open_clip(tmp_path / "own.safetensors")
    assert found.clip.config == config
    words = ["a red one", "blue"]
    torch.testing.assert_close(found.clip.encode_text(found.tokenizer(words)), clip.encode_text(tokenizer(words)))
    with pytest.raises(ValueError, match="takes"):
        found.clip.encode_image(torch.zeros(1, 3, 8, 8))
