from pathlib import Path

import pytest

from tessera.training.config.runs import ClipRun, PriorRun, VQGANRun
from tessera.training.config.sketch import SketchRun
from tessera.training.config.yaml import load_config

CONFIGS = sorted((Path(__file__).resolve().parent.parent.parent.parent / "training" / "configs").glob("*.yaml"))
MINIMAL = "output: runs/x\ndata:\n  folder: pictures\n"


@pytest.fixture
def load(tmp_path):
    def load(text: str, *overrides: str, kind: type = VQGANRun):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(kind, path, list(overrides))

    return load


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_as_the_stage_they_train(path):
    kinds = {"clip": ClipRun, "prior": PriorRun, "sketch": SketchRun, "colors": SketchRun}
    run = load_config(kinds.get(path.stem.split("-")[-1], VQGANRun), path, [])
    assert Path(run.output).name == path.stem


def test_defaults_are_those_of_the_dataclass(load):
    assert load(MINIMAL) == VQGANRun(output="runs/x", data=load(MINIMAL).data)


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("outputs: x", "outputs", "output"),
        (MINIMAL + "loop:\n  learning-rate: 1\n", "loop.learning-rate", "learning_rate"),
        (MINIMAL + "model:\n  codebok_size: 1\n", "model.codebok_size", "codebook_size"),
        (MINIMAL + "zzz: 1\n", "zzz", "blend, condition, data, dvae, learn, loop, loss, model, output"),
        (MINIMAL + "7: 1\n", "7", "blend, condition"),
    ],
)
def test_an_unknown_setting_names_the_nearest_known_ones(load, text, wrong, nearest):
    with pytest.raises(ValueError, match=f"^{wrong} is not a setting; did you mean {nearest}"):
        load(text)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loop.steps=many", "loop.steps is 'many'; it must be of type int"),
        ("loop.steps=1.5", "loop.steps is 1.5; it must be of type int"),
        ("loop.steps=true", "loop.steps is True"),
        ("loop.learning_rate=fast", "loop.learning_rate is 'fast'; it must be of type float"),
        ("loop.learning_rate=true", "loop.learning_rate is True"),
        ("data.flip=1", "data.flip is 1; it must be of type bool"),
        ("loop.learning_rate=nan", "loop.learning_rate is nan; it must be a finite number"),
        ("loop.learning_rate=1e999", "loop.learning_rate is inf; it must be a finite number"),
        ("data=[1", "--set data=.* is not readable YAML"),
        ("data.size=30", "data.size 30 is not a multiple of 16, the stride of model; choose 32"),
        (
            "model.image_channels=1",
            "image_channels is 1, views of data.picture color have 3, .* set model.image_channels=3",
        ),
        ("data.size=16", "data.size is 16, the discriminator needs 24 pixels"),
        ("data.zoom=1", "data.zoom is 1; it must be a list"),
        ("data.zoom=[1]", "data.zoom has 1 values; it needs 2"),
        ("data.zoom=[1, x]", "data.zoom is 'x'; it must be of type float"),
        ("data.backgrounds=red", "data.backgrounds is 'red'; it must be a list"),
        ("loop.precision=fp8", "loop.precision is 'fp8'; choose one of no, bf16, fp16"),
        ("model.codebook=vq", "model.codebook is 'vq'; choose one of nearest, ema, gumbel"),
        ("loop=4", "loop must be a group"),
        ("loop.steps.more=4", "steps is not a group of settings"),
        ("loop.steps", "has no '='"),
        ("loop.steps=[1", "--set loop.steps=.* is not readable YAML"),
        ("loop.steps=0", "loop.steps is 0; it must be at least 1"),
        ("loop.ema=1", "loop.ema is 1.0; choose a decay"),
        ("data.validation=0", "data.validation is 0.0; choose a share"),
        ("data.size=8", "data.size is 8; choose 16 to 8192"),
        ("data.size=1000000", "data.size is 1000000; choose 16 to 8192"),
        ("data.backgrounds=[]", "data.backgrounds is empty"),
        ("data.backgrounds=[nocolor]", "data.backgrounds: unknown color specifier: 'nocolor'; write colors"),
        ("data.zoom=[2, 1]", "data.zoom is .2.0, 1.0.; write the lower number first, both from 0.05 to 20"),
        ("data.zoom=[0, 0]", "data.zoom is .0.0, 0.0."),
        ("data.edge_low=[5, 1]", "data.edge_low is .5.0, 1.0."),
        ("data.edge_width=[0, 0]", "data.edge_width is .0, 0.; write the lower number first, both from 1 to 100"),
        ("data.shift=-1", "data.shift is -1.0; choose a share from 0 to 1"),
        ("data.workers=-1", "data.workers is -1; choose 0 to 1024"),
        ("data.folder=", "data.folder is ''; give a path"),
        ("output=", "output is ''; give a path"),
        ('output="a\\0b"', r"output is 'a\\x00b'; give a path"),
        ("loop.learning_rate=-1", "loop.learning_rate is -1.0; it must be above 0"),
        ("loop.clip=0", "loop.clip is 0.0; it must be above 0"),
        ("loop.seed=-1", "loop.seed is -1; choose 0 to 4294967295"),
        ("loop.warmup=-1", "loop.warmup is -1; it must be at least 0"),
        ("loop.minutes=-3", "loop.minutes is -3.0; it must be at least 0"),
        ("loss.l1=-1", "loss.l1 is -1.0; it must be at least 0"),
        ("loss.quantizer.ema_decay=2", "loss.quantizer.ema_decay is 2.0; choose a share"),
        ("model.channel_mult=[]", "channel_mult is empty; name a factor for each level"),
        ("=5", "--set =5 names no setting"),
        ("data.variants=(", "data.variants is '\\('; write a regular expression"),
        ("model.channels=30", "multiples of 32"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(load, override, words):
    with pytest.raises(ValueError, match=words):
        load(MINIMAL + "loop:\n  steps: 5\n", override)


def test_set_overrides_the_file_in_yaml_syntax(load):
    run = load(
        MINIMAL + "loop:\n  steps: 5\n  batch: 3\n",
        "loop.steps=7", "data.zoom=[0.5, 2]", "loop.learning_rate=5e-4", "loss.perceptual=none", "data.folder=a=b",
    )  # fmt: skip
    assert (run.loop.steps, run.loop.batch) == (7, 3)
    assert run.data.zoom == (0.5, 2.0)
    assert run.loop.learning_rate == 5e-4
    assert run.loss.perceptual == "none"
    assert run.data.folder == "a=b"


@pytest.mark.parametrize(
    "text",
    [
        "scans #2",
        "2024-11-26",
        "2024-13-99",
        "007",
        "1e3",
        "no",
        "null",
        "[draft]",
        "a: b",
        "- x",
        "'tis",
        "{",
        "a=b",
    ],
)
def test_a_setting_that_is_text_takes_it_as_it_stands(load, text):
    assert load(MINIMAL, f"data.folder={text}").data.folder == text
    assert load(MINIMAL, f'data.folder="{text}"').data.folder == text
    assert load(MINIMAL, "loop={}", f"data.folder={text}").loop.steps == 10_000


@pytest.mark.parametrize("text", ["2024-11-26", "2024-13-99", "007", "1e3", "no", "12:30:00"])
def test_so_does_a_setting_in_the_file(load, text):
    assert load(f"output: runs/x\ndata:\n  folder: {text}\n  variants: {text}\n").data.folder == text


def test_settings_below_a_group_given_as_a_whole_are_laid_over_it(load):
    text = MINIMAL + "vqgan: a.safetensors\ncondition: {kind: edges, vqgan: b}\n"
    run = load(text, "condition={kind: low-resolution}", "condition.factor=2", kind=PriorRun)
    assert (run.condition.kind, run.condition.factor, run.condition.vqgan) == ("low-resolution", 2, "")


def test_paths_may_begin_at_home(load, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = load("output: ~/runs\nvqgan: ~/a\nstart_from: ~/b\ndata: {folder: ~/photos}\n", "condition.kind=edges",
               "condition.vqgan=~/c", kind=PriorRun)  # fmt: skip
    found = (run.output, run.vqgan, run.start_from, run.data.folder, run.condition.vqgan)
    assert found == tuple(str(tmp_path / name) for name in ("runs", "a", "b", "photos", "c"))
    sketch = load("output: ~/runs\nvqgan: ~/a\ndata: {folder: ~/photos}\n", kind=SketchRun)
    assert (sketch.output, sketch.vqgan, sketch.data.folder) == (found[0], found[1], found[3])


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give the YAML file"):
        load_config(VQGANRun, tmp_path, [])


def test_a_bare_no_is_the_word_and_numbers_may_be_whole(load):
    run = load(MINIMAL + "loop:\n  precision: no\n  learning_rate: 1\n")
    assert run.loop.precision == "no"
    assert isinstance(run.loop.learning_rate, float)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data:\n  folder: x\n", "the file lacks output"),
        ("output: x\n", "the file lacks data"),
        ("", "the file lacks output, data"),
        ("output: x\ndata: {}\n", "data lacks folder"),
        ("- output\n", "the file must be a group"),
    ],
)
def test_missing_settings_are_named(load, text, words):
    with pytest.raises(ValueError, match=words):
        load(text)


def test_a_file_without_groups_is_named_even_when_settings_are_overridden(load):
    with pytest.raises(ValueError, match="the file must be a group"):
        load("- output\n", "output=x")


@pytest.mark.parametrize("text", ["output: [1, 2", "output: 'x\n", "a: b: c"])
def test_broken_yaml_is_one_line_with_the_place(load, text):
    with pytest.raises(ValueError, match=r"run\.yaml is not readable YAML: .*line \d") as error:
        load(text)
    assert "\n" not in str(error.value)


def test_a_binary_file_is_not_yaml(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ValueError, match="not readable YAML"):
        load_config(VQGANRun, path, [])


def test_a_missing_file_points_at_the_examples(tmp_path):
    with pytest.raises(FileNotFoundError, match="training/configs holds examples"):
        load_config(VQGANRun, tmp_path / "none.yaml", [])


def test_the_second_stage_checks_its_own_settings(load):
    text = MINIMAL + "vqgan: a.safetensors\n"
    assert load(text, kind=PriorRun).pkeep == 0.9
    for override, words in (("pkeep=0", "pkeep is 0.0"), ("views=0", "views is 0")):
        with pytest.raises(ValueError, match=words):
            load(text, override, kind=PriorRun)
