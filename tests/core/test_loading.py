"""The doors: VQGANs of every kind of file by its path alone, and what stands in the way of the others."""

import pytest
import torch

from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.loading import load, load_condition_vqgan, load_vqgan
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.tests.core.checkpoints.layouts.original_layout import fill, loss_shapes, vqgan_shapes
from tessera.tests.core.checkpoints.opening_files import PICTURE, SHAPE, STAGE, YAML, same, transformer, write


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.pth", "a.bin", "a.safetensors"])
@pytest.mark.parametrize("with_yaml", [True, False])
def test_a_released_vqgan_opens_with_and_without_its_yaml(tmp_path, name, with_yaml):
    path = write(tmp_path / name, STAGE)
    if with_yaml:
        path.with_suffix(".yaml").write_text(YAML)
    model = load_vqgan(path)
    assert same(model, STAGE)
    assert (model.config.codebook_size, model.config.code_dim, model.config.latent_channels) == (64, 16, 24)
    assert (model.config.channel_mult, model.config.attention_levels) == ((1, 1), (1,))
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model(PICTURE).image.shape == PICTURE.shape


def test_our_own_files_open_through_the_same_doors(tmp_path):
    released = load_vqgan(write(tmp_path / "a.ckpt", STAGE))
    save_vqgan(tmp_path / "ours.safetensors", released)
    assert same(load_vqgan(tmp_path / "ours.safetensors"), STAGE)
    assert same(load_condition_vqgan(tmp_path / "ours.safetensors"), STAGE)
    prior = Transformer(TransformerConfig(layers=1, width=32, heads=4, codebook_size=64, vocab_size=128))
    bundle = Bundle(released, prior, ConditionConfig(kind="edges", offset=64), load_vqgan(tmp_path / "a.ckpt"))
    save_bundle(tmp_path / "bundle.safetensors", bundle)
    assert load(tmp_path / "bundle.safetensors").condition_config == bundle.condition_config
    assert same(load_vqgan(tmp_path / "bundle.safetensors"), STAGE)
    assert same(load_condition_vqgan(tmp_path / "bundle.safetensors"), STAGE)


def test_the_stages_of_a_transformer_open_alone(tmp_path):
    state = transformer(512, {"image_channels": 1, "codes": 32})
    path = write(tmp_path / "drin.ckpt", state)
    assert same(load_vqgan(path), state, "first_stage_model.")
    condition = load_condition_vqgan(path)
    assert same(condition, state, "cond_stage_model.")
    assert condition.config.image_channels == 1


def test_a_first_stage_inside_a_latent_diffusion_checkpoint_opens(tmp_path):
    extra = {"model.diffusion_model.out.weight": torch.ones(3), "scale_factor": torch.tensor(1.0)}
    state = {f"first_stage_model.{name}": tensor for name, tensor in STAGE.items()} | extra
    assert same(load_vqgan(write(tmp_path / "model.ckpt", state)), STAGE)


def test_what_training_leaves_in_the_file_is_set_aside(tmp_path):
    left = fill(loss_shapes()) | {"colorize": torch.ones(3, 3, 1, 1), "model_ema.decay": torch.tensor(0.9)}
    left |= {"quantize.embedding.cluster_size": torch.ones(64), "quantize.embedding.embed_avg": torch.ones(64, 16)}
    assert same(load_vqgan(write(tmp_path / "a.ckpt", STAGE | left)), STAGE)


def test_half_precision_becomes_float32(tmp_path):
    model = load_vqgan(write(tmp_path / "a.pt", {n: t.half() for n, t in STAGE.items()}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert same(model, {n: t.half().float() for n, t in STAGE.items()})


def test_a_release_without_attention_in_the_middle_gives_its_pictures(tmp_path):
    state = {n: t for n, t in STAGE.items() if ".mid.attn_1." not in n}
    model = load_vqgan(write(tmp_path / "noattn.ckpt", state))
    x = torch.rand(1, 32, 4, 4)
    assert torch.equal(model.encoder.mid.attn_1(x), x)
    assert torch.equal(model.decoder.mid(x), model.decoder.mid.block_2(model.decoder.mid.block_1(x)))


def test_a_remapped_codebook_keeps_the_codes_in_use(tmp_path):
    used = torch.tensor([5, 60, 7])
    model = load_vqgan(write(tmp_path / "a.ckpt", STAGE | {"quantize.used": used}))
    assert torch.equal(model.codebook.codes, STAGE["quantize.embedding.weight"][used])
    assert model.encode_indices(PICTURE).max() < 3
    gumbel = fill(vqgan_shapes(**{**SHAPE, "latent": 16}, gumbel=True))
    model = load_vqgan(write(tmp_path / "gumbel.ckpt", gumbel | {"quantize.used": used}))
    assert torch.equal(model.codebook.embed.weight, gumbel["quantize.embed.weight"][used])
    assert torch.equal(model.codebook.proj.bias, gumbel["quantize.proj.bias"][used])


@pytest.mark.parametrize(
    "used", [torch.arange(65), torch.tensor([64]), torch.tensor([-1]), torch.ones(3), torch.empty(0)]
)
def test_a_remap_to_codes_that_are_not_there_is_refused(tmp_path, used):
    with pytest.raises(ValueError, match=r"a\.ckpt: quantize\.used"):
        load_vqgan(write(tmp_path / "a.ckpt", STAGE | {"quantize.used": used}))


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
        load_vqgan(write(tmp_path / "odd.ckpt", state))


def test_a_yaml_of_another_vqgan_is_refused_with_both_values(tmp_path):
    path = write(tmp_path / "a.ckpt", STAGE)
    (tmp_path / "model.yaml").write_text(YAML.replace("n_embed: 64", "n_embed: 1024"))
    with pytest.raises(ValueError, match=r"model\.yaml says n_embed is 1024, a\.ckpt has 64; .* as a\.yaml"):
        load_vqgan(path)
    (tmp_path / "model.yaml").write_text(YAML.replace("ch: 32", "ch: 128"))
    with pytest.raises(ValueError, match=r"model\.yaml says ch is 128, a\.ckpt has 32"):
        load_vqgan(path)
    (tmp_path / "right.yaml").write_text(YAML)
    assert same(load_vqgan(path, tmp_path / "right.yaml"), STAGE)
