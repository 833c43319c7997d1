"""What guides a view: it moves with its picture, and what is missing or wrong is said before work begins."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.core.conditions.layout import layout_tokens
from tessera.core.conditions.spatial import CoordinatesCondition
from tessera.core.geometry import Window
from tessera.training.config.condition import SourceConfig
from tessera.training.config.runs import DataConfig
from tessera.training.data.augment import Placement
from tessera.training.data.conditions.sources import Pictures, open_source, source_of_split
from tessera.training.data.folder import ImageViews

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
PALETTE = tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in COLORS)
WILD = {"zoom": (1.2, 2.5), "shift": 0.5, "flip": True}


def quarters(folder: Path, number: int = 6) -> list[Path]:
    """Pictures of four colors whose border is somewhere else in each; maps of the same in `maps`, gray in `depths`."""
    (folder / "maps").mkdir(parents=True)
    (folder / "depths").mkdir()
    (folder / "pictures").mkdir()
    for i in range(number):
        labels = np.zeros((48, 64), np.uint8)
        labels[10 + 4 * i :] += 2
        labels[:, 20 + 3 * i :] += 1
        pixels = np.array(COLORS, np.uint8)[labels]
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
        Image.fromarray(labels).save(folder / "maps" / f"{i}.png")
        Image.fromarray((labels * 85).astype(np.uint8)).save(folder / "depths" / f"{i}.png")
    return sorted((folder / "pictures").iterdir())


def views_of(folder: Path, config: SourceConfig, augment: bool = True, **data) -> ImageViews:
    settings = DataConfig(folder=str(folder / "pictures"), **{"size": 32, "flip": False, **data})
    paths = sorted((folder / "pictures").iterdir())
    return ImageViews(paths, settings, 0, augment, source_of_split(config, settings, paths[1:], paths[:1]))


def nearest_color(color: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The label whose color each pixel of a view [3, H, W] has, and where it has just that color."""
    pixels = (color + 1) * 127.5
    distance = torch.stack([(pixels - torch.tensor(c)[:, None, None]).abs().amax(0) for c in COLORS])
    return distance.argmin(0), distance.amin(0) < 1


def test_maps_of_labels_and_of_depth_move_with_their_picture(tmp_path):
    quarters(tmp_path)
    segments = views_of(tmp_path, SourceConfig(kind="segmentation", folder=str(tmp_path / "maps"), labels=4), **WILD)
    depths = views_of(tmp_path, SourceConfig(kind="depth", folder=str(tmp_path / "depths")), **WILD)
    seen, mirrored = set(), 0
    for epoch in range(8):
        for index in range(len(segments)):
            shown, deep = segments[epoch, index], depths[epoch, index]
            wanted, pure = nearest_color(shown["color"])
            assert pure.float().mean() > 0.7
            assert torch.equal(shown["condition"].argmax(0)[pure], wanted[pure])
            assert shown["condition"].sum(0).eq(1).all()
            levels = [deep["condition"][0][pure & (wanted == label)] for label in range(4) if (wanted == label).any()]
            levels = [level for level in levels if len(level)]
            assert all(level.max() - level.min() < 0.02 for level in levels)
            assert [level.mean() for level in levels] == sorted(level.mean() for level in levels)
            seen |= set(wanted[pure].tolist())
            mirrored += int(wanted[0, 0] > wanted[0, -1])
    assert seen == {0, 1, 2, 3}
    assert mirrored > 3


def test_a_palette_says_which_color_is_which_label(tmp_path):
    quarters(tmp_path)
    config = SourceConfig(kind="segmentation", folder=str(tmp_path / "pictures"), palette=PALETTE)
    shown = views_of(tmp_path, config, augment=False)[0, 2]
    wanted, pure = nearest_color(shown["color"])
    assert torch.equal(shown["condition"].argmax(0)[pure], wanted[pure])


def test_coordinates_are_those_that_a_canvas_as_large_has_at_the_same_place(tmp_path):
    placement = Placement((64, 48), 32, 1.0, (20.0, 20.0), False, True)  # the view begins at column 12, row 4
    assert (placement.canvas, placement.corner) == ((48, 64), (4, 12))
    from tessera.training.data.conditions.sources import View, coordinates_of_view

    nothing = torch.zeros(1)
    told = coordinates_of_view(100, 4, View("", placement, nothing, nothing))
    sampled = CoordinatesCondition((12, 16), 100, 4).prefix(Window(1, 3, 8, 8))
    assert torch.equal(told, sampled[0])


def coco(folder: Path, **changes) -> str:
    tree = {
        "images": [{"id": 10 + i, "file_name": f"{i}.png"} for i in range(6)],
        "annotations": [
            {"image_id": 12, "category_id": 7, "bbox": [0, 0, 8, 8]},
            {"image_id": 12, "category_id": 3, "bbox": [16, 12, 32, 24]},
        ],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "table"}],
    }
    (folder / "boxes.json").write_text(json.dumps({**tree, **changes}))
    return str(folder / "boxes.json")


def test_boxes_move_with_their_picture_and_the_view_is_told_as_a_crop_of_it(tmp_path):
    quarters(tmp_path)
    source = views_of(tmp_path, SourceConfig(kind="layout", table=coco(tmp_path))).source
    assert source.names == ("table", "cup")
    from tessera.core.conditions.layout import Box
    from tessera.training.data.conditions.sources import View

    nothing, boxes = torch.zeros(1), [Box(0, 0.25, 0.25, 0.5, 0.5), Box(1, 0, 0, 0.125, 1 / 6)]
    whole = source.of(View("2.png", Placement((64, 48), 48, 1.0, (32.0, 24.0), False, True), nothing, nothing))
    assert torch.equal(whole, layout_tokens(boxes, 1024, Box(0, 0, 0, 0.75, 1))[0])
    mirrored = source.of(View("2.png", Placement((64, 48), 32, 1.0, (0.0, 24.0), True, True), nothing, nothing))
    turned = [boxes[0], boxes[1]._replace(left=0.875)]
    assert torch.equal(mirrored, layout_tokens(turned, 1024, Box(0, 0.5, 0, 0.5, 2 / 3))[0])
    fitted = source.of(View("2.png", Placement((64, 48), 64, 1.0, (32.0, 32.0), False, False), nothing, nothing))
    inside = [Box(0, 0.25, 5 / 16, 0.5, 0.375), Box(1, 0, 0.125, 0.125, 0.125)]
    assert torch.equal(fitted, layout_tokens(inside, 1024)[0])


# --- what is missing or wrong


def table(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def broken(folder: Path, what: str) -> SourceConfig:
    """A condition that can't be, of the pictures of `quarters`."""
    maps, files = folder / "maps", [f"{i}.png" for i in range(6)]
    match what:
        case "a map missing":
            (maps / "3.png").unlink()
        case "another size":
            Image.new("L", (32, 48)).save(maps / "3.png")
        case "label 9":
            Image.new("L", (64, 48), 9).save(maps / "3.png")
        case "no folder of a class":
            return SourceConfig(kind="class")
        case "empty table":
            return SourceConfig(kind="class", table=table(folder / "t.csv", [["file", "class"]]))
        case "no class column":
            return SourceConfig(kind="class", table=table(folder / "t.csv", [["file", "kind"], ["0.png", "a"]]))
        case "a class missing":
            rows = [["file", "class"], *([name, "a"] for name in files[:-1])]
            return SourceConfig(kind="class", table=table(folder / "t.csv", rows))
        case "unknown class":
            rows = [["file", "class"], *([name, "3"] for name in files[:-1]), ["5.png", "cat"]]
            return SourceConfig(kind="class", table=table(folder / "t.csv", rows))
        case "box without a category":
            boxes = [{"image_id": 12, "bbox": [0, 0, 8, 8]}]
            return SourceConfig(kind="layout", table=coco(folder, annotations=boxes))
        case "box beside the picture":
            boxes = [{"image_id": 12, "category_id": 3, "bbox": [64, 0, 8, 8]}]
            return SourceConfig(kind="layout", table=coco(folder, annotations=boxes))
        case "no categories":
            return SourceConfig(kind="layout", table=coco(folder, categories=[]))
        case "a picture not in the boxes":
            return SourceConfig(kind="layout", table=coco(folder, images=[{"id": 1, "file_name": "0.png"}]))
    return SourceConfig(kind="segmentation", folder=str(maps), labels=4)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("a map missing", r"1 of 6 pictures have no map, such as 3\.png; put one of the same name into"),
        ("another size", r"3\.png is 32x48 pixels, its picture 3\.png 64x48; scale one of them"),
        ("label 9", r"3\.png holds label 9, condition\.labels is 4: 0 to 3"),
        ("no folder of a class", r"1\.png lies in no folder below data\.folder"),
        ("empty table", r"t\.csv is empty; it needs a line file,class"),
        ("no class column", r"has the columns file, kind; it needs file, class"),
        ("a class missing", r"has no class for 1 of 6 pictures, such as 5\.png"),
        ("unknown class", r"class 'cat' is no number, '3' is one"),
        ("box without a category", r"a box of 2\.png in .*boxes\.json has no category_id"),
        ("box beside the picture", r"beside the 64x48 pixels of the picture"),
        ("no categories", r"is empty: its list 'categories' holds nothing"),
        ("a picture not in the boxes", r"does not name 5 of 6 pictures, such as 1\.png"),
    ],
)
def test_what_does_not_fit_the_pictures_is_said_in_one_sentence(tmp_path, what, sentence):
    names = [path.name for path in quarters(tmp_path)]
    data = DataConfig(folder=str(tmp_path / "pictures"), size=32)
    config = broken(tmp_path, what)
    with pytest.raises(ValueError, match=sentence) as raised:
        open_source(config, Pictures(data, names[1:], names[:1]))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "depth"}, r"condition\.folder is empty; depth needs"),
        ({"kind": "layout"}, r"condition\.table is empty; layout needs"),
        ({"kind": "segmentation", "folder": "x"}, r"condition\.labels is missing"),
        ({"kind": "class", "palette": ("#fff",)}, r"condition\.palette is given, condition\.kind is class"),
        ({"kind": "class", "vqgan": "x"}, r"condition\.vqgan is given, condition\.kind is class, which no VQGAN"),
        ({"kind": "coordinates", "dropout": 0.1}, r"coordinates is nothing that could be left out"),
    ],
)
def test_settings_that_do_not_belong_to_a_kind_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        SourceConfig(**settings)
