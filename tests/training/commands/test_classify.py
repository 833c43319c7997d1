import pytest
from PIL import Image

from tessera import __main__ as command_line
from tessera.benchmarks.guide import QUICK, QUICK_CLIP, random_models
from tessera.core.clip.clip_file import save_clip


def test_folders_of_classes_get_a_line_each_and_a_total(tmp_path, capsys):
    save_clip(tmp_path / "clip.safetensors", random_models(QUICK, QUICK_CLIP)[1])
    for name, color in (("red_thing", "red"), ("blue", "blue"), ("n03", "green")):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30 + number), color).save(tmp_path / "classes" / name / f"{number}.png")
    (tmp_path / "names.tsv").write_text("n03\tgreen thing\n")
    given = ["--clip", str(tmp_path / "clip.safetensors"), "--names", str(tmp_path / "names.tsv"), "--template", "a {}"]
    assert command_line.main(["classify", str(tmp_path / "classes"), *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[-4:-1]] == ["blue", "green thing", "red thing"]
    assert "top-5 100.00% of 6 pictures, 3 classes; chance 33.33%" in lines[-1]


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_a_folder_without_classes_is_refused(tmp_path, capsys, folder):
    (tmp_path / "empty").mkdir()
    assert command_line.main(["classify", str(tmp_path / folder)]) == 2
    assert "give a folder for each class" in capsys.readouterr().err
