"""The doors: every kind of file by its path alone, and what stands in the way of the others."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tessera.benchmarks.timing import peak_memory_of
from tessera.core.bundle import Bundle, ConditionConfig, save_bundle
from tessera.core.model_file import save_vqgan
from tessera.core.opening import open_bundle, open_condition_vqgan, open_vqgan
from tessera.core.transformer import Transformer, TransformerConfig
from tessera.core.vqgan import VQGAN, VQGANConfig
from tessera.core.window import Window
from tessera.tests.core.diffusers_layout import diffusers_shapes
from tessera.tests.core.original_layout import (
    fill,
    loss_shapes,
    prefixed,
    transformer_shapes,
    vqgan_shapes,
    write_lightning,
)

SHAPE = {"channels": 32, "mult": (1, 1), "attention": (1,), "blocks": 1, "codes": 64}
STAGE = fill(vqgan_shapes(**SHAPE))
PICTURE = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
YAML = "model:\n  target: taming.models.vqgan.VQModel\n  params: {embed_dim: 16, n_embed: 64, ddconfig: {ch: 32}}\n"


def transformer(block: int, condition: dict | None = None, unmasked: int = 0, vocabulary: int = 64) -> dict:
    """The state of a Net2NetTransformer; `condition` are the arguments of its condition's VQGAN."""
    shapes = prefixed("transformer", transformer_shapes(vocabulary=vocabulary, block=block, layers=1, width=32))
    shapes |= prefixed("first_stage_model", vqgan_shapes(**SHAPE))
    if condition is not None:
        shapes |= prefixed("cond_stage_model", vqgan_shapes(**{**SHAPE, **condition}))
    return fill(shapes, unmasked)


def write(path: Path, state: dict) -> Path:
    """As the ending of the name says: Lightning, a plain state dict, or safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path, {"format": "pt"})
    elif path.suffix == ".ckpt":
        write_lightning(path, state)
    else:
        torch.save(state, path)
    return path


def yaml_of_transformer(path: Path, *lines: str) -> None:
    """A YAML beside a transformer; `lines` are entries of its params."""
    head = "model:\n  target: taming.models.cond_transformer.Net2NetTransformer\n  params:\n"
    heads = "    transformer_config: {params: {n_head: 4}}\n"
    path.write_text(head + heads + "".join(f"    {line}\n" for line in lines))


def same(model: VQGAN, state: dict, prefix: str = "") -> bool:
    """The model's encoder and codebook are those of the state."""
    names = {"encoder.conv_in.weight": model.encoder.conv_in.weight, "quantize.embedding.weight": model.codebook.codes}
    return all(torch.equal(state[prefix + name], tensor) for name, tensor in names.items())


# VQGANs


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.pth", "a.bin", "a.safetensors"])
@pytest.mark.parametrize("with_yaml", [True, False])
def test_a_released_vqgan_opens_with_and_without_its_yaml(tmp_path, name, with_yaml):
    path = write(tmp_path / name, STAGE)
    if with_yaml:
        path.with_suffix(".yaml").write_text(YAML)
    model = open_vqgan(path)
    assert same(model, STAGE)
    assert (model.config.codebook_size, model.config.code_width, model.config.latent_channels) == (64, 16, 24)
    assert (model.config.channel_mult, model.config.attention_levels) == ((1, 1), (1,))
    assert (model.config.commitment_weight, model.config.codebook_weight) == (1.0, 0.25)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model(PICTURE).image.shape == PICTURE.shape


def test_our_own_files_open_through_the_same_doors(tmp_path):
    released = open_vqgan(write(tmp_path / "a.ckpt", STAGE))
    save_vqgan(tmp_path / "ours.safetensors", released)
    assert same(open_vqgan(tmp_path / "ours.safetensors"), STAGE)
    assert same(open_condition_vqgan(tmp_path / "ours.safetensors"), STAGE)
    prior = Transformer(TransformerConfig(layers=1, width=32, heads=4, codebook_size=64, vocab_size=128))
    bundle = Bundle(released, prior, ConditionConfig(kind="edges", offset=64), open_vqgan(tmp_path / "a.ckpt"))
    save_bundle(tmp_path / "bundle.safetensors", bundle)
    assert open_bundle(tmp_path / "bundle.safetensors").condition_config == bundle.condition_config
    assert same(open_vqgan(tmp_path / "bundle.safetensors"), STAGE)
    assert same(open_condition_vqgan(tmp_path / "bundle.safetensors"), STAGE)


def test_the_stages_of_a_transformer_open_alone(tmp_path):
    state = transformer(512, {"image_channels": 1, "codes": 32})
    path = write(tmp_path / "drin.ckpt", state)
    assert same(open_vqgan(path), state, "first_stage_model.")
    condition = open_condition_vqgan(path)
    assert same(condition, state, "cond_stage_model.")
    assert condition.config.image_channels == 1


def test_a_first_stage_inside_a_latent_diffusion_checkpoint_opens(tmp_path):
    extra = {"model.diffusion_model.out.weight": torch.ones(3), "scale_factor": torch.tensor(1.0)}
    state = {f"first_stage_model.{name}": tensor for name, tensor in STAGE.items()} | extra
    assert same(open_vqgan(write(tmp_path / "model.ckpt", state)), STAGE)


def test_what_training_leaves_in_the_file_is_set_aside(tmp_path):
    left = fill(loss_shapes()) | {"colorize": torch.ones(3, 3, 1, 1), "model_ema.decay": torch.tensor(0.9)}
    left |= {"quantize.embedding.cluster_size": torch.ones(64), "quantize.embedding.embed_avg": torch.ones(64, 16)}
    assert same(open_vqgan(write(tmp_path / "a.ckpt", STAGE | left)), STAGE)


def test_half_precision_becomes_float32(tmp_path):
    model = open_vqgan(write(tmp_path / "a.pt", {n: t.half() for n, t in STAGE.items()}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert same(model, {n: t.half().float() for n, t in STAGE.items()})


def test_a_release_without_attention_in_the_middle_gives_its_pictures(tmp_path):
    state = {n: t for n, t in STAGE.items() if ".mid.attn_1." not in n}
    model = open_vqgan(write(tmp_path / "noattn.ckpt", state))
    x = torch.rand(1, 32, 4, 4)
    assert torch.equal(model.encoder.mid.attn_1(x), x)
    assert torch.equal(model.decoder.mid(x), model.decoder.mid.block_2(model.decoder.mid.block_1(x)))


def test_a_remapped_codebook_keeps_the_codes_in_use(tmp_path):
    used = torch.tensor([5, 60, 7])
    model = open_vqgan(write(tmp_path / "a.ckpt", STAGE | {"quantize.used": used}))
    assert torch.equal(model.codebook.codes, STAGE["quantize.embedding.weight"][used])
    assert model.encode_indices(PICTURE).max() < 3
    gumbel = fill(vqgan_shapes(**{**SHAPE, "latent": 16}, gumbel=True))
    model = open_vqgan(write(tmp_path / "gumbel.ckpt", gumbel | {"quantize.used": used}))
    assert torch.equal(model.codebook.embed.weight, gumbel["quantize.embed.weight"][used])
    assert torch.equal(model.codebook.proj.bias, gumbel["quantize.proj.bias"][used])


@pytest.mark.parametrize(
    "used", [torch.arange(65), torch.tensor([64]), torch.tensor([-1]), torch.ones(3), torch.empty(0)]
)
def test_a_remap_to_codes_that_are_not_there_is_refused(tmp_path, used):
    with pytest.raises(ValueError, match=r"a\.ckpt: quantize\.used"):
        open_vqgan(write(tmp_path / "a.ckpt", STAGE | {"quantize.used": used}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.conv_in.bias"), r"decoder\.conv_in\.bias is missing"),
        (lambda s: s.pop("encoder.conv_out.weight"), r"lacks encoder\.conv_out\.weight"),
        (lambda s: s.pop("quantize.embedding.weight"), r"lacks codebook\.embedding\.weight"),
        (lambda s: s.pop("encoder.mid.attn_1.q.bias"), r"encoder\.mid\.attn_1\.q\.bias is missing"),
        (lambda s: s.update({"encoder.extra": torch.ones(1)}), r"encoder\.extra is unexpected"),
        (lambda s: s.update({"wings.weight": torch.ones(1)}), r"not known here: wings\.weight"),
        (lambda s: s.update({"quant_conv.bias": torch.ones(3)}), r"quant_conv\.bias is \(3,\) instead of \(16,\)"),
        (lambda s: s.update({"encoder.down.3.block.0.norm1.bias": torch.ones(3)}), r"name begins with .*down\.2"),
        (lambda s: s.update({"encoder.down.0.block.9.norm1.bias": torch.ones(3)}), r"begins with .*block\.1"),
        (lambda s: s.update({"encoder.conv_in.weight": torch.empty(0, 3, 3, 3)}), r"lacks encoder\.conv_in\.weight"),
        (lambda s: s.update({"encoder.conv_in.weight": torch.ones(3)}), r"lacks encoder\.conv_in\.weight"),
        (lambda s: s.update({"encoder.conv_out.weight": torch.ones(48, 32, 3, 3)}), "means and variances"),
        (lambda s: s.update({"encoder.conv_in.weight": torch.ones(31, 3, 3, 3)}), "must be multiples of 32"),
        (lambda s: s.clear() or s.update(a=torch.ones(1)), "not known here: a"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    state = dict(STAGE)
    change(state)
    with pytest.raises(ValueError, match=rf"odd\.ckpt.*{message}"):
        open_vqgan(write(tmp_path / "odd.ckpt", state))


def test_a_yaml_of_another_vqgan_is_refused_with_both_values(tmp_path):
    path = write(tmp_path / "a.ckpt", STAGE)
    (tmp_path / "model.yaml").write_text(YAML.replace("n_embed: 64", "n_embed: 1024"))
    with pytest.raises(ValueError, match=r"model\.yaml says n_embed is 1024, a\.ckpt has 64; .* as a\.yaml"):
        open_vqgan(path)
    (tmp_path / "model.yaml").write_text(YAML.replace("ch: 32", "ch: 128"))
    with pytest.raises(ValueError, match=r"model\.yaml says ch is 128, a\.ckpt has 32"):
        open_vqgan(path)
    (tmp_path / "right.yaml").write_text(YAML)
    assert same(open_vqgan(path, tmp_path / "right.yaml"), STAGE)


# diffusers

DIFFUSERS = fill(diffusers_shapes(widths=(32, 64), attentive=(1,), codes=64))
CONFIG = {"_class_name": "VQModel", "norm_num_groups": 32, "act_fn": "silu", "num_vq_embeddings": 64}


def diffusers_folder(folder: Path, weights: str = "diffusion_pytorch_model.safetensors", **config) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    write(folder / weights, DIFFUSERS)
    return folder


@pytest.mark.parametrize("weights", ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
                                     "diffusion_pytorch_model.fp16.safetensors"])  # fmt: skip
def test_a_folder_of_diffusers_opens_by_itself_and_by_its_weights(tmp_path, weights):
    folder = diffusers_folder(tmp_path / "vqvae", weights)
    for path in (folder, folder / weights):
        model = open_vqgan(path)
        assert torch.equal(
            model.decoder.up[0].block[2].conv2.weight, DIFFUSERS["decoder.up_blocks.1.resnets.2.conv2.weight"]
        )
        assert torch.equal(model.encoder.down[1].attn[0].q.weight[..., 0, 0],
                           DIFFUSERS["encoder.down_blocks.1.attentions.0.to_q.weight"])  # fmt: skip
        assert model(PICTURE).image.shape == PICTURE.shape


def test_weights_of_diffusers_open_without_a_folder(tmp_path):
    model = open_vqgan(write(tmp_path / "vqvae.safetensors", DIFFUSERS))
    assert (model.config.channel_mult, model.config.attention_levels) == ((1, 2), (1,))


def test_links_as_a_download_cache_has_them_are_followed(tmp_path):
    real = diffusers_folder(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in real.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert open_vqgan(tmp_path / "snapshot").config.codebook_size == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, r"has _class_name 'AutoencoderKL'; only 'VQModel' is known"),
        ({"norm_type": "spatial"}, "has norm_type 'spatial'"),
        ({"norm_num_groups": 8}, "has norm_num_groups '8'; only 32"),
        ({"act_fn": "gelu"}, "has act_fn 'gelu'"),
    ],
)
def test_models_of_diffusers_that_compute_otherwise_are_refused(tmp_path, change, message):
    folder = diffusers_folder(tmp_path / "vqvae", **change)
    for path in (folder, folder / "diffusion_pytorch_model.safetensors"):
        with pytest.raises(ValueError, match=rf"vqvae/config\.json {message}"):
            open_vqgan(path)


def test_folders_that_are_no_model_are_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"folder is a folder without config\.json"):
        open_vqgan(folder)
    (folder / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"folder is a folder without config\.json"):
        open_vqgan(folder)
    (folder / "config.json").unlink()
    for content in ("{", "[5]", "[" * 60_000, "5", "\xff"):
        (folder / "config.json").write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=r"folder/config\.json is not readable JSON"):
            open_vqgan(folder)
    (folder / "config.json").write_text(" " * 70_000)
    with pytest.raises(ValueError, match=r"folder/config\.json has 70000 bytes"):
        open_vqgan(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ValueError, match=r"folder lacks diffusion_pytorch_model\.safetensors"):
        open_vqgan(folder)
    (folder / "diffusion_pytorch_model.bin").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"folder lacks diffusion_pytorch_model\.safetensors"):
        open_vqgan(folder)
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="choose the one named vqvae"):
        open_vqgan(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="folder does not exist"):
        open_vqgan(folder)


# transformers


def test_a_transformer_opens_by_its_path_alone(tmp_path):
    path = write(tmp_path / "drin" / "checkpoints" / "last.ckpt", transformer(512, {"image_channels": 1}))
    (tmp_path / "drin" / "configs").mkdir()
    yaml = tmp_path / "drin" / "configs" / "2020-11-20T12-54-32-project.yaml"
    yaml_of_transformer(yaml, "cond_stage_key: depth", "cond_stage_config: {target: taming.models.vqgan.VQModel}")
    bundle = open_bundle(path)
    assert bundle.prior.config.heads == 4
    assert (bundle.condition_config.kind, bundle.condition_config.offset) == ("depth", 0)
    prefix = bundle.condition(torch.rand(1, 1, 32, 32)).prefix(Window(0, 0, 16, 16))
    assert prefix.shape == (1, bundle.prior.config.prefix_length)


def test_heads_without_a_yaml_are_those_of_all_releases_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "tessera"):
        bundle = open_bundle(write(tmp_path / "faceshq.ckpt", transformer(512)))
    assert bundle.prior.config.heads == 16
    assert "faceshq.ckpt: no YAML tells its number of attention heads; taking 16" in caplog.text


@pytest.mark.parametrize(
    ("name", "block", "condition", "kind"),
    [
        ("last.ckpt", 512, {"image_channels": 1}, "depth"),
        ("last.ckpt", 512, {"image_channels": 151}, "segmentation"),
        ("last.ckpt", 512, {"image_channels": 182}, "segmentation"),
        ("last.ckpt", 512, None, "coordinates"),
        ("last.ckpt", 348, None, "layout"),
        ("2021-04-03T19-39-50_cin_transformer/checkpoints/last.ckpt", 257, None, "class"),
        ("cin.ckpt", 256, None, "class"),
        ("2021-04-23T18-19-01_ffhq_transformer/checkpoints/last.ckpt", 256, None, "none"),
        ("celebahq.ckpt", 257, None, "none"),
    ],
)
def test_without_a_yaml_shapes_and_names_tell_the_condition(tmp_path, name, block, condition, kind):
    state = transformer(block, condition, vocabulary=1024)
    state["first_stage_model.quantize.embedding.weight"] = torch.rand(1024, 16)
    bundle = open_bundle(write(tmp_path / name, state))
    config = bundle.condition_config
    assert (config.kind, config.offset) == (kind, 0)
    expected = {"class": 1000, "coordinates": 1024}.get(kind, 0)
    assert config.labels == (condition["image_channels"] if kind == "segmentation" else expected)
    assert bundle.prior.config.prefix_length == {"layout": 92, "class": 1, "none": 1}.get(kind, 256)


@pytest.mark.parametrize(("block", "condition"), [(257, None), (512, {})])
def test_a_transformer_that_does_not_tell_its_condition_asks_for_the_yaml(tmp_path, block, condition):
    path = write(tmp_path / "mine.ckpt", transformer(block, condition))
    with pytest.raises(ValueError, match=r"mine\.ckpt does not tell what guides it; put .* beside it as mine\.yaml"):
        open_bundle(path)
    lines = ("cond_stage_key: edge",) if condition == {} else ("unconditional: true", "sos_token: 9")
    yaml_of_transformer(tmp_path / "mine.yaml", *lines)
    config = open_bundle(path).condition_config
    assert (config.kind, config.offset) == (("edges", 0) if condition == {} else ("none", 9))


def test_a_condition_made_by_the_first_stage_is_its_copy(tmp_path):
    state = transformer(512)
    state |= {n.replace("first_stage", "cond_stage"): t for n, t in state.items() if n.startswith("first_stage")}
    path = write(tmp_path / "shared.ckpt", state)  # both names on the same storage, as the original saves it
    yaml_of_transformer(tmp_path / "shared.yaml", "cond_stage_key: edge", "cond_stage_config: __is_first_stage__")
    bundle = open_bundle(path)
    assert same(bundle.condition_vqgan, state, "first_stage_model.")
    save_bundle(tmp_path / "ours.safetensors", bundle)


def test_labels_come_from_the_yaml(tmp_path):
    path = write(tmp_path / "a.ckpt", transformer(257))
    yaml_of_transformer(
        tmp_path / "a.yaml", "cond_stage_config: {target: taming.modules.util.Labelator, params: {n_classes: 10}}"
    )
    assert open_bundle(path).condition_config.labels == 10


def test_unmasked_tokens_are_read_off_the_stored_mask(tmp_path):
    assert open_bundle(write(tmp_path / "a.ckpt", transformer(512, None, 256))).prior.config.unmasked == 256
    assert open_bundle(write(tmp_path / "b.ckpt", transformer(512))).prior.config.unmasked == 0
    without = {n: t for n, t in transformer(512).items() if not n.endswith("mask")}
    assert open_bundle(write(tmp_path / "c.ckpt", without)).prior.config.unmasked == 0
    with pytest.raises(ValueError, match=r"d\.ckpt: unmasked is 300; choose 0 to prefix_length 256"):
        open_bundle(write(tmp_path / "d.ckpt", transformer(512, None, 300)))


def test_queries_keys_and_values_are_joined_in_this_order(tmp_path):
    state = transformer(512)
    prior = open_bundle(write(tmp_path / "a.ckpt", state)).prior
    for kind in ("weight", "bias"):
        parts = [state[f"transformer.blocks.0.attn.{name}.{kind}"] for name in ("query", "key", "value")]
        assert torch.equal(getattr(prior.blocks[0].attn.qkv, kind), torch.cat(parts))


def test_row_by_row_is_the_only_order_known(tmp_path):
    order = torch.arange(256)
    places = {"permuter.forward_shuffle_idx": order, "permuter.backward_shuffle_idx": order}
    assert open_bundle(write(tmp_path / "a.ckpt", transformer(512) | places)).condition_config.kind == "coordinates"
    places["permuter.forward_shuffle_idx"] = order.flip(0)
    with pytest.raises(ValueError, match=r"b\.ckpt makes its cells in an order of its own \(permuter\)"):
        open_bundle(write(tmp_path / "b.ckpt", transformer(512) | places))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["downsample_cond_size: 64"], r"a\.ckpt shrinks its condition pictures to 64 pixels"),
        (["cond_stage_config: {target: my.Stage}"], r"a\.yaml: cond_stage_config has target 'my\.Stage'"),
        (["first_stage_config: {params: {n_embed: 1024}}"], r"a\.yaml says n_embed is 1024, a\.ckpt has 64"),
        (["transformer_config: {params: {n_layer: 24}}"], r"a\.yaml says n_layer is 24, a\.ckpt has 1"),
        (["transformer_config: {params: {n_embd: 1024}}"], r"a\.yaml says n_embd is 1024, a\.ckpt has 32"),
        (["transformer_config: {params: {block_size: 511}}"], r"a\.yaml says block_size is 511, a\.ckpt has 512"),
        (["transformer_config: {params: {n_head: 3}}"], r"a\.ckpt: width 32 does not divide by heads 3"),
        (["cond_stage_config: {target: taming.modules.util.Labelator, params: {n_classes: many}}"], r"a\.ckpt.*VQGAN"),
        (["unconditional: true"], "holds a VQGAN for its condition, but a condition of kind none has none"),
    ],
)
def test_a_yaml_that_asks_for_what_can_not_be_is_refused(tmp_path, lines, message):
    path = write(tmp_path / "a.ckpt", transformer(512, {"image_channels": 1}))
    yaml_of_transformer(tmp_path / "a.yaml", *lines)
    with pytest.raises(ValueError, match=message):
        open_bundle(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("transformer.ln_f.bias"), r"ln_f\.bias is missing"),
        (lambda s: s.pop("transformer.blocks.0.attn.key.bias"), r"blocks\.0\.attn\.qkv\.bias is missing"),
        (lambda s: s.pop("transformer.head.weight"), "holds no transformer, or a broken one"),
        (lambda s: s.update({"transformer.pos_emb": torch.ones(3)}), "does not tell|broken"),
        (lambda s: s.update({"transformer.pos_emb": torch.ones(1, 100, 32)}), "does not tell"),
        (lambda s: s.update({"transformer.wings": torch.ones(1)}), r"not known here: wings"),
        (lambda s: s.update({"wings.weight": torch.ones(1)}), r"not known here: wings\.weight"),
        (lambda s: s.update({"transformer.blocks.999999.ln1.bias": torch.ones(32)}), r"begins with blocks\.1\."),
        (lambda s: s.update({"transformer.tok_emb.weight": torch.empty(64, 0)}), "lacks|width is 0"),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith("first_stage")], "no encoder and decoder"),
    ],
)
def test_a_transformer_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    state = transformer(512)
    change(state)
    with pytest.raises(ValueError, match=rf"odd\.ckpt.*({message})"):
        open_bundle(write(tmp_path / "odd.ckpt", state))


@pytest.mark.parametrize(
    ("params", "message"),
    [("{n_classes: many}", r"a\.ckpt: its config"), ("{n_classes: 0}", r"a\.ckpt: .* how many labels"),
     ("{n_classes: 65}", r"a\.ckpt: the condition has 65 codes, the prior only knows 64")],
)  # fmt: skip
def test_labels_that_can_not_be_are_refused(tmp_path, params, message):
    path = write(tmp_path / "a.ckpt", transformer(257))
    stage = f"{{target: taming.modules.util.Labelator, params: {params}}}"
    yaml_of_transformer(tmp_path / "a.yaml", f"cond_stage_config: {stage}")
    with pytest.raises(ValueError, match=message):
        open_bundle(path)


def test_a_yaml_of_another_kind_of_model_is_refused(tmp_path):
    write(tmp_path / "a.ckpt", transformer(512))
    (tmp_path / "a.yaml").write_text(YAML)
    with pytest.raises(ValueError, match=r"a\.yaml describes a taming.*VQModel, a\.ckpt is a transformer; name them"):
        open_bundle(tmp_path / "a.ckpt")
    write(tmp_path / "b.ckpt", STAGE)
    yaml_of_transformer(tmp_path / "b.yaml")
    with pytest.raises(ValueError, match=r"b\.yaml describes a taming.*Net2NetTransformer, b\.ckpt is a vqgan"):
        open_vqgan(tmp_path / "b.ckpt")


def test_a_bundle_is_not_made_of_a_vqgan(tmp_path):
    with pytest.raises(ValueError, match=r"a\.ckpt holds no transformer; choose another file"):
        open_bundle(write(tmp_path / "a.ckpt", STAGE))


def test_reading_is_told_tensor_by_tensor(tmp_path):
    told = []
    model = open_vqgan(write(tmp_path / "a.ckpt", STAGE), on_read=told.append)
    assert sum(told) == sum(t.nbytes for t in model.state_dict().values())


def test_a_config_of_our_own_file_that_asks_for_millions_is_refused():
    with pytest.raises(ValueError, match="layers is 1000000; choose at most 1000"):
        TransformerConfig(layers=1_000_000)
    with pytest.raises(ValueError, match="too many; choose at most 16 of 64"):
        VQGANConfig(channel_mult=(1,) * 1_000_000)
    with pytest.raises(ValueError, match="too many"):
        VQGANConfig(blocks_per_level=1_000_000)


def test_the_yaml_that_the_documentation_gives_is_enough(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    path = write(tmp_path / "mine.ckpt", transformer(257))
    yaml = text.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(yaml)
    assert open_bundle(path).condition_config.kind == "none"
    assert open_bundle(path).prior.config.heads == 16
    labelled = yaml.replace("unconditional: true", "cond_stage_config: {target: taming.modules.util.Labelator}")
    (tmp_path / "mine.yaml").write_text(labelled)
    state = transformer(257, vocabulary=1024)
    state["first_stage_model.quantize.embedding.weight"] = torch.rand(1024, 16)
    assert open_bundle(write(path, state)).condition_config.kind == "class"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize(("name", "precision"), [("a.ckpt", torch.float32), ("a.safetensors", torch.float16)])
def test_memory_holds_the_tensors_once(tmp_path, name, precision):
    shapes = vqgan_shapes(channels=64, codes=16384, code_width=256, latent=256)
    path = write(tmp_path / name, {n: torch.zeros(shape, dtype=precision) for n, shape in shapes.items()})
    open_vqgan(write(tmp_path / "small.ckpt", STAGE))  # what is imported the first time does not count
    models = []
    grown = peak_memory_of(lambda: models.append(open_vqgan(path)))
    assert grown < 1.2 * sum(tensor.nbytes for tensor in models[0].state_dict().values())
