"""The YAML beside a checkpoint: found by its usual names, read as plain data, and what it tells."""

import pytest

from tessera.core.checkpoints.taming_yaml import find_yaml, heads_of_yaml, kind_of_yaml, read_yaml, start_token

VQGAN = "model:\n  target: taming.models.vqgan.VQModel\n  params:\n    n_embed: 1024\n"
TRANSFORMER = "model:\n  target: taming.models.cond_transformer.Net2NetTransformer\n  params:\n"


def described(tmp_path, params: str):
    path = tmp_path / "model.yaml"
    path.write_text(TRANSFORMER + "".join(f"    {line}\n" for line in params.splitlines()))
    return read_yaml(path)


@pytest.mark.parametrize(
    "place",
    ["last.yaml", "model.yaml", "config.yaml", "2020-11-20T12-54-32-project.yaml", "configs/model.yaml",
     "configs/2020-11-20T12-54-32-project.yaml"],
)  # fmt: skip
def test_the_yaml_beside_a_checkpoint_is_found_by_its_usual_names(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(VQGAN)
    found = find_yaml(tmp_path / "last.ckpt", "vqgan")
    assert found.file == path.name
    assert found.params == {"n_embed": 1024}
    assert find_yaml(tmp_path / "last.ckpt", "transformer") is None or place == "last.yaml"


@pytest.mark.parametrize("folder", ["checkpoints", "ckpts"])
def test_the_yaml_of_a_training_run_is_found_in_its_folder_of_configs(tmp_path, folder):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "2020-project.yaml").write_text(VQGAN)
    assert find_yaml(tmp_path / folder / "last.ckpt", "vqgan").file == "2020-project.yaml"
    assert find_yaml(tmp_path / "elsewhere" / "last.ckpt", "vqgan") is None


def test_the_yaml_of_the_same_name_comes_first(tmp_path):
    (tmp_path / "model.yaml").write_text(VQGAN)
    (tmp_path / "a.yaml").write_text(VQGAN.replace("1024", "16384"))
    assert find_yaml(tmp_path / "a.ckpt", "vqgan").params["n_embed"] == 16384
    assert find_yaml(tmp_path / "b.ckpt", "vqgan").params["n_embed"] == 1024


def test_a_yaml_of_another_kind_of_model_is_passed_over(tmp_path):
    (tmp_path / "model.yaml").write_text(VQGAN)
    (tmp_path / "2020-project.yaml").write_text(TRANSFORMER + "    sos_token: 3\n")
    assert find_yaml(tmp_path / "last.ckpt", "transformer").params == {"sos_token": 3}


def test_a_yaml_without_the_outer_level_is_read_too(tmp_path):
    (tmp_path / "a.yaml").write_text("target: taming.models.vqgan.GumbelVQ\nparams: {n_embed: 8192}\n")
    assert read_yaml(tmp_path / "a.yaml").params == {"n_embed": 8192}


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ("cond_stage_key: depth\ncond_stage_config: {target: taming.models.vqgan.VQModel}", "depth"),
        ("cond_stage_config: {target: taming.models.vqgan.VQModel}", "depth"),
        ("cond_stage_key: segmentation\ncond_stage_config: {target: taming.models.vqgan.VQModel}", "segmentation"),
        ("cond_stage_config: {target: taming.models.vqgan.VQSegmentationModel}", "segmentation"),
        ("cond_stage_key: edge\ncond_stage_config: {target: taming.models.vqgan.VQModel}", "edges"),
        ("cond_stage_key: coord\ncond_stage_config: {target: taming.modules.misc.coord.CoordStage}", "coordinates"),
        ("cond_stage_key: class_label\ncond_stage_config: {target: taming.modules.util.Labelator}", "class"),
        ("cond_stage_config: {target: taming.modules.util.SOSProvider}", "none"),
        ("cond_stage_config: {target: taming.models.dummy_cond_stage.DummyCondStage}", "layout"),
        ("unconditional: true\ncond_stage_config: {target: taming.models.vqgan.VQModel}", "none"),
        ("cond_stage_config: __is_unconditional__", "none"),
        ("cond_stage_key: segmentation\ncond_stage_config: __is_first_stage__", "segmentation"),
        ("cond_stage_key: smell\ncond_stage_config: {target: taming.models.vqgan.VQModel}", None),
        ("cond_stage_key: [depth]\ncond_stage_config: __is_first_stage__", None),
    ],
)
def test_the_kind_of_condition_is_told(tmp_path, params, kind):
    assert kind_of_yaml(described(tmp_path, params)) == kind


def test_an_unknown_target_is_named(tmp_path):
    for text in ("model: {target: os.system, params: {}}", "model: {target: my.own.Net, params: {a: 1}}"):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"odd.yaml has target '(os.system|my.own.Net)', which is not known here"):
            read_yaml(tmp_path / "odd.yaml")
    with pytest.raises(ValueError, match=r"model.yaml: cond_stage_config has target 'os.system', which is not known"):
        kind_of_yaml(described(tmp_path, "cond_stage_config: {target: os.system}"))


def test_heads_and_start_token_are_told(tmp_path):
    assert heads_of_yaml(described(tmp_path, "transformer_config: {params: {n_head: 12}}")) == 12
    assert heads_of_yaml(described(tmp_path, "transformer_config: {params: {n_layer: 12}}")) == 8  # as the original
    assert heads_of_yaml(described(tmp_path, "pkeep: 0.9")) is None
    assert start_token(described(tmp_path, "sos_token: 5")) == 5
    assert start_token(described(tmp_path, "cond_stage_config: {params: {sos_token: 7}}")) == 7
    assert start_token(described(tmp_path, "pkeep: 0.9")) == 0
    for params in ("transformer_config: {params: {n_head: many}}", "transformer_config: {params: {n_head: -1}}"):
        with pytest.raises(ValueError, match=r"model.yaml: n_head is no number"):
            heads_of_yaml(described(tmp_path, params))
    with pytest.raises(ValueError, match=r"model.yaml: sos_token is no token"):
        start_token(described(tmp_path, "sos_token: [1]"))


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60))
HOSTILE = {
    "a call": "model: !!python/object/apply:os.system ['echo > MARKER']\n",
    "a new object": "model: !!python/object/new:subprocess.Popen [['touch', 'MARKER']]\n",
    "a module": "model: !!python/module:antigravity\n",
    "a name": "model: !!python/name:os.system\n",
    "an unknown tag": "model: !yours {target: x}\n",
    "a billion laughs": LAUGHS,
    "a billion merges": MERGES,
    "a loop": "model: &m {target: *m}\n",
    "lists nested deep": "model: " + "[" * 100_000,
    "dictionaries nested deep": "model: " + "{a: " * 30_000,
    "blocks nested deep": "".join(" " * i + "a:\n" for i in range(600)),
    "a date that is none": "model: 2020-99-99\n",
    "a long number": "model: " + "9" * 100_000 + "\n",
    "a long sexagesimal": "model: 1" + ":59" * 30_000 + "\n",
    "nothing": "",
    "a list": "- 1\n- 2\n",
    "a text": "hello\n",
    "no model": "data: {}\n",
    "no params": "model: {target: taming.models.vqgan.VQModel}\n",
    "a target that is a list": "model: {target: [a], params: {}}\n",
    "open quotes": "model: {target: 'taming\n",
    "tabs": "model:\n\ttarget: x\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_broken_yaml_is_refused_in_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd.yaml"
    path.write_text(HOSTILE[name])
    with pytest.raises(ValueError, match=r"^odd\.yaml ") as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["odd.yaml"]


def test_yaml_that_is_not_text_too_long_or_missing_is_refused(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"odd\.yaml is not plain YAML"):
        read_yaml(path)
    path.write_text("# " + "x" * 300_000)
    with pytest.raises(ValueError, match=r"odd\.yaml has 300002 bytes, too many"):
        read_yaml(path)
    with pytest.raises(FileNotFoundError, match=r"none\.yaml does not exist"):
        read_yaml(tmp_path / "none.yaml")
