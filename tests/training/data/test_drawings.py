import numpy as np
import pytest
import torch
from PIL import Image

from tessera.training.data.drawings import COLUMNS, learn_vocabulary, load_drawings, read_captions, word_table

ROWS = [
    ("a/1.png", "flat", "apple", "red apple", "fruit|food", "manzana", "fruta|comida", "0"),
    ("b/1.png", "noto", "apple", "Red  Apple", "fruit|food", "manzana", "fruta|comida", "0"),
    ("a/2.png", "flat", "pear", "pear", "fruit", "pera", "fruta", "0"),
    ("b/2.png", "noto", "bread", "“bread”", "food", "pan", "comida", "0"),
    ("a/3.png", "flat", "sun", "sun", "sky", "sol", "cielo", "1"),
]


@pytest.fixture
def folder(tmp_path):
    for number, row in enumerate(ROWS):
        path = tmp_path / row[0]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGBA", (20, 20), (number * 40, 0, 0, 255)).save(path)
    lines = ["\t".join(COLUMNS), *("\t".join(row) for row in ROWS), "\t".join(("a/gone.png", *ROWS[0][1:]))]
    (tmp_path / "captions.tsv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_words_are_those_of_several_drawings_and_foreign_ones_mean_them(folder):
    captions = read_captions(folder)
    assert len(captions) == 5  # the one whose file is gone is left out
    vocabulary = learn_vocabulary((c for c in captions if not c.held_out), least=2)
    assert vocabulary.styles == ("flat", "noto")
    assert vocabulary.words == ("food", "fruit", "red apple")  # three, three and two of them: ties by the alphabet
    assert vocabulary.translations == {"manzana": "red apple", "fruta": "fruit", "comida": "food"}


def test_a_row_of_the_table_is_the_name_then_the_keywords(folder):
    captions = read_captions(folder)
    vocabulary = learn_vocabulary(captions, least=2)
    table = word_table(captions, vocabulary, 4)
    named = [[vocabulary.words[n] if n >= 0 else None for n in row] for row in table.tolist()]
    assert named[0] == ["red apple", "fruit", "food", None]
    assert named[2] == [None, "fruit", None, None]


def test_drawings_are_read_once(folder, tmp_path):
    captions, cache = read_captions(folder), tmp_path / "run" / "drawings.npy"
    first = load_drawings(folder, captions, 16, cache)
    assert first.shape == (5, 4, 16, 16)
    assert first[2, 0, 8, 8] == 80
    np.save(cache, np.load(cache) // 2)
    assert torch.equal(load_drawings(folder, captions, 16, cache), first // 2)


def test_a_table_without_a_column_is_named(folder):
    path = folder / "captions.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("concept", "thing", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no column 'concept'"):
        read_captions(folder)
    with pytest.raises(FileNotFoundError, match=r"captions.tsv does not exist"):
        read_captions(folder / "a")
