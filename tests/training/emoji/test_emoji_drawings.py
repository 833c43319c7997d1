"""The drawings of `data emoji`, from packages made here in the layout of the published ones."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from tessera.downloads.catalogue import PublishedFile
from tessera.training.emoji.build import build_drawings
from tessera.training.emoji.icons import one_tone
from tessera.training.emoji.names import TONES, Names, is_held_out
from tessera.training.emoji.packages import Package, read_packages

SQUARE = '<path fill="{}" d="M0 0h8v8H0z"/>'
WAVING = {
    "hexcode": "1F44B", "label": "waving hand", "tags": ["hand", "wave"], "group": 1,
    "skins": [{"hexcode": f"1F44B-{tone.upper()}", "label": f"waving hand: {word} skin tone"}
              for tone, word in zip(TONES, ("light", "medium-light", "medium", "medium-dark", "dark"), strict=True)],
}  # fmt: skip
ENGLISH = [
    WAVING,
    {"hexcode": "1F43B", "label": "bear", "tags": ["face"], "group": 3},
    {"hexcode": "1F1EA-1F1F8", "label": "flag: Spain", "tags": ["ES"], "group": 9},
    {"hexcode": "1F6A3-200D-2642-FE0F", "label": "man rowing boat", "tags": ["boat"], "group": 1},
    {"hexcode": "1F6A5", "label": "horizontal traffic light", "tags": ["light"], "group": 5},
]
SPANISH = [{"hexcode": "1F44B", "label": "mano saludando", "tags": ["mano"], "group": 1}]
ICONS = {
    "width": 8, "height": 8,
    "icons": {
        "hello": {"body": SQUARE.format("red")},
        "hello-dark": {"body": SQUARE.format("blue"), "width": 16},
        "broken": {"body": "<path"}, "empty": {"body": ""},
    },
    "aliases": {"bye": {"parent": "hello"}},
}  # fmt: skip


def tgz(files: dict[str, bytes]) -> bytes:
    """A package of npm."""
    return tar(files, "w:gz", "package/")


def tar(files: dict[str, bytes], mode: str, folder: str) -> bytes:
    """Files as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, contents in files.items():
            info = tarfile.TarInfo(folder + name)
            info.size = len(contents)
            archive.addfile(info, io.BytesIO(contents))
    return out.getvalue()


def deb(files: dict[str, bytes]) -> bytes:
    """A package of Debian: an `ar` archive of three members, of odd sizes too."""
    archive = b"!<arch>\n"
    for name, contents in (
        ("debian-binary", b"2.0"),
        ("data.tar.xz", tar(files, "w:xz", "./usr/share/openclipart/svg/")),
    ):
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(contents):<10}`\n".encode() + contents
        archive += b"\n" * (len(contents) % 2)
    return archive


def clip(title: str, color: str) -> bytes:
    """A drawing of the library, half of its frame empty."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" viewBox="0 0 16 16"><metadata>'
        f"<dc:title>{title}</dc:title><dc:subject><rdf:Bag><rdf:li>Frog</rdf:li></rdf:Bag></dc:subject></metadata>"
        f"{SQUARE.format(color)}</svg>"
    ).encode()


@pytest.fixture
def packages(tmp_path):
    names = {
        "meta/groups.json": json.dumps({"groups": {"1": "people-body", "3": "animals-nature", "9": "flags"}}).encode(),
        "en/data.json": json.dumps(ENGLISH).encode(),
        "es/data.json": json.dumps(SPANISH).encode(),
    }
    dark = f"1f44b-{TONES[-1]}"
    chars = {"1f44b": "hello", dark: "hello-dark", "1f43b": "bye", "1f6a5": "broken", "1f1ea-1f1f8": "empty"}
    bitmap = io.BytesIO()
    Image.new("RGBA", (300, 300), (0, 200, 0, 255)).save(bitmap, "WEBP", lossless=True)
    contents = {
        "names": ("names", tgz(names)),
        "codes": ("iconify", tgz({"icons.json": json.dumps(ICONS).encode(), "chars.json": json.dumps(chars).encode()})),
        "named": ("iconify", tgz({"icons.json": json.dumps(ICONS).encode(), "chars.json": b"{}"})),
        "solid": ("bitmaps", tgz({"assets/1f43b-fe0f.webp": bitmap.getvalue()})),
        "clips": ("clipart", deb({
            "animals/frog.svg": clip("2 dead frogs", "green"), "animals/again.svg": clip("Frog, again", "green"),
            "plants/red.svg": clip("Rose", "red"), "logos/x.svg": clip("Logo", "red"), "food/bad.svg": b"not svg",
        })),
    }  # fmt: skip
    (tmp_path / ".packages").mkdir()
    packages = {}
    for name, (layout, data) in contents.items():
        file = f"{name}.deb" if layout == "clipart" else f"{name}.tgz"
        (tmp_path / ".packages" / file).write_bytes(data)
        packages[name] = Package(name, layout, "MIT", "nobody", PublishedFile(name=file))
    return packages


def rows(folder) -> dict[str, dict[str, str]]:
    with (folder / "captions.tsv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}


def test_drawings_of_every_layout_are_named_and_drawn(packages, tmp_path, caplog):
    counts = build_drawings(packages, tmp_path, ["codes", "solid", "clips"], 32, 2)
    table = rows(tmp_path)
    assert counts == {"codes": 2 + one_tone("codes", f"1f44b-{TONES[-1]}", [TONES[-1]], TONES), "solid": 1, "clips": 2}
    hand = table["codes/1f44b.webp"]
    assert (hand["concept"], hand["group"], hand["label_en"]) == ("1f44b", "people-body", "waving hand")
    assert (hand["tags_en"], hand["label_es"], hand["tags_es"]) == ("hand|wave", "mano saludando", "mano")
    assert table["solid/1f43b.webp"]["concept"] == table["codes/1f43b.webp"]["concept"] == "1f43b"  # an alias is drawn
    frog = next(row for row in table.values() if row["set"] == "clips" and "frog" in row["label_en"])
    assert (frog["group"], frog["tags_en"]) == ("animals-nature", "frog")
    assert "2 drawings could not be drawn" in caplog.text  # of codes: broken, and empty
    for name in table:
        with Image.open(tmp_path / name) as image:
            assert image.size == (32, 32)
    with Image.open(tmp_path / frog["file"]) as image:
        assert np.asarray(image.convert("RGBA"))[..., 3].min() == 255  # cut to what is painted
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {f.split("/")[1] for f in table if "clips" in f}


def test_what_is_drawn_stays_and_the_table_is_the_same(packages, tmp_path):
    build_drawings(packages, tmp_path, ["codes"], 32, 1)
    first, drawing = rows(tmp_path), tmp_path / "codes" / "1f44b.webp"
    written = drawing.stat().st_mtime_ns
    build_drawings(packages, tmp_path, ["codes"], 32, 1)
    assert rows(tmp_path) == first
    assert drawing.stat().st_mtime_ns == written


def test_names_of_files_find_their_code_points(packages, tmp_path):
    names = Names(tmp_path / ".packages" / "names.tgz")
    for name in ("bear", "bear-face", "bear-2"):
        assert names.of_name(name).concept == "1f43b"
    for name in ("flag-for-spain", "spain", "flag-spain"):
        assert names.of_name(name).concept == "1f1ea-1f1f8"
    assert names.of_name("man-rowing-boat").concept == "1f6a3"  # without gender
    assert names.of_name("waving-hand-medium-dark").label_en == "waving hand"
    assert names.knows_tone("waving-hand-dark")
    assert not names.knows_tone("horizontal-traffic-light")
    assert names.of_name("spare-part-2").concept == "name:spare-part"


def test_one_of_five_tones_is_drawn_and_never_two_at_once():
    chosen = [tone for tone in TONES if one_tone("noto", f"1f44b-{tone}", [tone], TONES)]
    assert len(chosen) == 1
    assert one_tone("noto", "1f44b", [], TONES)
    assert not one_tone("noto", f"1f9d1-{TONES[0]}-{TONES[1]}", [TONES[0], TONES[1]], TONES)


def test_the_split_is_that_of_the_embedded_models():
    assert all(map(is_held_out, ("0030-20e3", "2796", "1f6a3")))
    assert not any(map(is_held_out, ("0023-20e3", "1f43b")))


def test_published_packages_are_pinned():
    packages = read_packages()
    assert len(packages) == 12
    assert all(len(package.file.sha256) == 64 for package in packages.values())
    assert all(url.startswith("https://") for package in packages.values() for url in package.file.addresses)


def test_bad_requests_are_told(packages, tmp_path):
    with pytest.raises(ValueError, match=r"there is no style 'manga'; choose from codes, named"):
        build_drawings(packages, tmp_path, ["manga"], 32, 1)
    (tmp_path / ".packages" / "clips.deb").write_bytes(b"!<arch>\nnothing")
    with pytest.raises(ValueError, match=r"clips.deb is no Debian package"):
        build_drawings(packages, tmp_path, ["clips"], 32, 1)
