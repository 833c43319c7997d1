"""The doors: released transformers, with and without their YAML."""

import logging
from pathlib import Path

import pytest
import torch

from tessera.benchmarks.timing import peak_memory_of
from tessera.core.autoencoders.vqgan import VQGANConfig
from tessera.core.bundle_file import save_bundle
from tessera.core.geometry import Window
from tessera.core.loading import load, load_vqgan
from tessera.core.priors.orders import cells_in_order
from tessera.core.priors.transformer import TransformerConfig
from tessera.tests.core.checkpoints.layouts.original_layout import vqgan_shapes
from tessera.tests.core.checkpoints.opening_files import STAGE, YAML, same, transformer, write, yaml_of_transformer


def test_a_transformer_opens_by_its_path_alone(tmp_path):
    path = write(tmp_path / "drin" / "checkpoints" / "last.ckpt", transformer(512, {"image_channels": 1}))
    (tmp_path / "drin" / "configs").mkdir()
    yaml = tmp_path / "drin" / "configs" / "2020-11-20T12-54-32-project.yaml"
    yaml_of_transformer(yaml, "cond_stage_key: depth", "cond_stage_config: {target: taming.models.vqgan.VQModel}")
    bundle = load(path)
    assert bundle.prior.config.heads == 4
    assert (bundle.condition_config.kind, bundle.condition_config.offset) == ("depth", 0)
    prefix = bundle.condition(torch.rand(1, 1, 32, 32)).prefix(Window(0, 0, 16, 16))
    assert prefix.shape == (1, bundle.prior.config.prefix_length)


def test_heads_without_a_yaml_are_those_of_all_releases_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "tessera"):
        bundle = load(write(tmp_path / "faceshq.ckpt", transformer(512)))
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
    bundle = load(write(tmp_path / name, state))
    config = bundle.condition_config
    assert (config.kind, config.offset) == (kind, 0)
    expected = {"class": 1000, "coordinates": 1024}.get(kind, 0)
    assert config.labels == (condition["image_channels"] if kind == "segmentation" else expected)
    assert bundle.prior.config.prefix_length == {"layout": 92, "class": 1, "none": 1}.get(kind, 256)


@pytest.mark.parametrize(("block", "condition"), [(257, None), (512, {})])
def test_a_transformer_that_does_not_tell_its_condition_asks_for_the_yaml(tmp_path, block, condition):
    path = write(tmp_path / "mine.ckpt", transformer(block, condition))
    with pytest.raises(ValueError, match=r"mine\.ckpt does not tell what guides it; put .* beside it as mine\.yaml"):
        load(path)
    lines = ("cond_stage_key: edge",) if condition == {} else ("unconditional: true", "sos_token: 9")
    yaml_of_transformer(tmp_path / "mine.yaml", *lines)
    config = load(path).condition_config
    assert (config.kind, config.offset) == (("edges", 0) if condition == {} else ("none", 9))


def test_a_condition_made_by_the_first_stage_is_its_copy(tmp_path):
    state = transformer(512)
    state |= {n.replace("first_stage", "cond_stage"): t for n, t in state.items() if n.startswith("first_stage")}
    path = write(tmp_path / "shared.ckpt", state)  # both names on the same storage, as the original saves it
    yaml_of_transformer(tmp_path / "shared.yaml", "cond_stage_key: edge", "cond_stage_config: __is_first_stage__")
    bundle = load(path)
    assert same(bundle.condition_vqgan, state, "first_stage_model.")
    save_bundle(tmp_path / "ours.safetensors", bundle)


def test_labels_come_from_the_yaml(tmp_path):
    path = write(tmp_path / "a.ckpt", transformer(257))
    yaml_of_transformer(
        tmp_path / "a.yaml", "cond_stage_config: {target: taming.modules.util.Labelator, params: {n_classes: 10}}"
    )
    assert load(path).condition_config.labels == 10


def test_unmasked_tokens_are_read_off_the_stored_mask(tmp_path):
    assert load(write(tmp_path / "a.ckpt", transformer(512, None, 256))).prior.config.unmasked == 256
    assert load(write(tmp_path / "b.ckpt", transformer(512))).prior.config.unmasked == 0
    without = {n: t for n, t in transformer(512).items() if not n.endswith("mask")}
    assert load(write(tmp_path / "c.ckpt", without)).prior.config.unmasked == 0
    with pytest.raises(ValueError, match=r"d\.ckpt: unmasked is 300; choose 0 to prefix_length 256"):
        load(write(tmp_path / "d.ckpt", transformer(512, None, 300)))


def test_queries_keys_and_values_are_joined_in_this_order(tmp_path):
    state = transformer(512)
    prior = load(write(tmp_path / "a.ckpt", state)).prior
    for kind in ("weight", "bias"):
        parts = [state[f"transformer.blocks.0.attn.{name}.{kind}"] for name in ("query", "key", "value")]
        assert torch.equal(getattr(prior.blocks[0].attn.qkv, kind), torch.cat(parts))


def test_the_order_of_cells_is_read_and_one_that_is_none_of_the_originals_refused(tmp_path):
    order = torch.arange(256)
    places = {"permuter.forward_shuffle_idx": order, "permuter.backward_shuffle_idx": order}
    assert load(write(tmp_path / "a.ckpt", transformer(512) | places)).condition_config.kind == "coordinates"
    places["permuter.forward_shuffle_idx"] = torch.tensor(cells_in_order("spiral-in", 16))
    assert load(write(tmp_path / "s.ckpt", transformer(512) | places)).prior.config.order == "spiral-in"
    places["permuter.forward_shuffle_idx"] = order.flip(0)
    with pytest.raises(ValueError, match=r"b\.ckpt makes its cells in an order of its own \(permuter\)"):
        load(write(tmp_path / "b.ckpt", transformer(512) | places))


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
        load(path)


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
        load(write(tmp_path / "odd.ckpt", state))


@pytest.mark.parametrize(
    ("params", "message"),
    [("{n_classes: many}", r"a\.ckpt: labels is 'many'"), ("{n_classes: 0}", r"a\.ckpt: .* how many labels"),
     ("{n_classes: 65}", r"a\.ckpt: the condition has 65 codes, the prior only knows 64")],
)  # fmt: skip
def test_labels_that_can_not_be_are_refused(tmp_path, params, message):
    path = write(tmp_path / "a.ckpt", transformer(257))
    stage = f"{{target: taming.modules.util.Labelator, params: {params}}}"
    yaml_of_transformer(tmp_path / "a.yaml", f"cond_stage_config: {stage}")
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_yaml_of_another_kind_of_model_is_refused(tmp_path):
    write(tmp_path / "a.ckpt", transformer(512))
    (tmp_path / "a.yaml").write_text(YAML)
    with pytest.raises(ValueError, match=r"a\.yaml describes a taming.*VQModel, a\.ckpt is a transformer; name them"):
        load(tmp_path / "a.ckpt")
    write(tmp_path / "b.ckpt", STAGE)
    yaml_of_transformer(tmp_path / "b.yaml")
    with pytest.raises(ValueError, match=r"b\.yaml describes a taming.*Net2NetTransformer, b\.ckpt is a vqgan"):
        load_vqgan(tmp_path / "b.ckpt")


def test_a_bundle_is_not_made_of_a_vqgan(tmp_path):
    with pytest.raises(ValueError, match=r"a\.ckpt holds no transformer; choose another file"):
        load(write(tmp_path / "a.ckpt", STAGE))


def test_reading_is_told_tensor_by_tensor(tmp_path):
    told = []
    model = load_vqgan(write(tmp_path / "a.ckpt", STAGE), on_read=told.append)
    assert sum(told) == sum(t.nbytes for t in model.state_dict().values())


def test_a_config_of_our_own_file_that_asks_for_millions_is_refused():
    with pytest.raises(ValueError, match="layers is 1000000; choose at most 1000"):
        TransformerConfig(layers=1_000_000)
    with pytest.raises(ValueError, match="too many; choose at most 16 of 64"):
        VQGANConfig(channel_mult=(1,) * 1_000_000)
    with pytest.raises(ValueError, match="too many"):
        VQGANConfig(blocks_per_level=1_000_000)


def test_the_yaml_that_the_documentation_gives_is_enough(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    path = write(tmp_path / "mine.ckpt", transformer(257))
    yaml = text.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(yaml)
    assert load(path).condition_config.kind == "none"
    assert load(path).prior.config.heads == 16
    labeled = yaml.replace("unconditional: true", "cond_stage_config: {target: taming.modules.util.Labelator}")
    (tmp_path / "mine.yaml").write_text(labeled)
    state = transformer(257, vocabulary=1024)
    state["first_stage_model.quantize.embedding.weight"] = torch.rand(1024, 16)
    assert load(write(path, state)).condition_config.kind == "class"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize(("name", "precision"), [("a.ckpt", torch.float32), ("a.safetensors", torch.float16)])
def test_memory_holds_the_tensors_once(tmp_path, name, precision):
    shapes = vqgan_shapes(channels=64, codes=16384, code_dim=256, latent=256)
    path = write(tmp_path / name, {n: torch.zeros(shape, dtype=precision) for n, shape in shapes.items()})
    load_vqgan(write(tmp_path / "small.ckpt", STAGE))  # what is imported the first time does not count
    models = []
    grown = peak_memory_of(lambda: models.append(load_vqgan(path)))
    assert grown < 1.2 * sum(tensor.nbytes for tensor in models[0].state_dict().values())


def test_a_transformer_can_be_kept_in_half_precision(tmp_path):
    path = write(tmp_path / "drin.ckpt", transformer(512, {"image_channels": 1}))
    bundle = load(path, prior_dtype=torch.bfloat16)
    assert {weight.dtype for weight in bundle.prior.parameters()} == {torch.bfloat16}
    for stage in (bundle.vqgan, bundle.condition_vqgan):
        assert {weight.dtype for weight in stage.parameters()} == {torch.float32}
