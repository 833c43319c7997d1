"""Boxes of objects as COCO's JSON has them, and as a view shows them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ....core.conditions.layout import MAX_OBJECTS, Box, overlap
from ..augment import Placement
from .paired_maps import size_of

WHOLE = Box(0, 0.0, 0.0, 1.0, 1.0)
Scene = list[Box]  # of a whole picture, the largest first


def read_scenes(table: str, folder: Path, names: list[str]) -> tuple[dict[str, Scene], tuple[str, ...]]:
    """The boxes of each picture, and the names of the categories; a box's label is its category's place in the order
    of their ids.

    Args:
        table: JSON with `images` (id, file_name), `annotations` (image_id, category_id, bbox: left, top, width and
            height in pixels) and `categories` (id, name).
        folder, names: of the pictures, which `file_name` gives as paths below the folder.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a picture that it does not name, a box without a category, beside its picture or
            of a category that is not there.
    """
    tree = read_coco(Path(table))
    ids = sorted(category["id"] for category in tree["categories"])
    labels = {number: place for place, number in enumerate(ids)}
    titles = {category["id"]: str(category.get("name", category["id"])) for category in tree["categories"]}
    images = {str(image["file_name"]).replace("\\", "/"): image["id"] for image in tree["images"]}
    if missing := [name for name in names if name not in images]:
        raise ValueError(
            f"{table} does not name {len(missing)} of {len(names)} pictures, such as {missing[0]}; add them to its "
            "images, a picture without boxes too"
        )
    boxes = defaultdict(list)
    for annotation in tree["annotations"]:
        boxes[annotation.get("image_id")].append(annotation)
    scenes = {}
    for name in names:
        size = size_of(folder / name)
        found = [box_of(annotation, labels, size, name, table) for annotation in boxes[images[name]]]
        scenes[name] = sorted(found, key=lambda box: -box.width * box.height)
    return scenes, tuple(titles[number] for number in ids)


def read_coco(path: Path) -> dict[str, Any]:
    """The file's three lists; errors as `read_scenes`."""
    if not path.is_file():
        raise FileNotFoundError(f"condition.table {path} does not exist; give the JSON file of the boxes")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"condition.table {path} is not readable JSON ({error}); write it anew") from error
    wanted = {"images": ("id", "file_name"), "annotations": (), "categories": ("id",)}
    for name, keys in wanted.items():
        rows = tree.get(name) if isinstance(tree, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and set(keys) <= set(row) for row in rows):
            raise ValueError(f"condition.table {path} has no usable list {name!r}; write it as COCO does")
        if name != "annotations" and not rows:
            raise ValueError(f"condition.table {path} is empty: its list {name!r} holds nothing")
    return tree


def box_of(annotation: dict, labels: dict[Any, int], size: tuple[int, int], name: str, table: str) -> Box:
    """An annotation of a picture of this many pixels as shares of it, cut off at its border."""
    category, corners = annotation.get("category_id"), annotation.get("bbox")
    if category not in labels:
        what = "has no category_id" if category is None else f"has category {category}, which is not in categories"
        raise ValueError(f"a box of {name} in {table} {what}; give it one of those listed there")
    if not (isinstance(corners, list) and len(corners) == 4 and all(isinstance(c, int | float) for c in corners)):
        raise ValueError(f"a box of {name} in {table} has bbox {corners}; write left, top, width, height in pixels")
    left, top, width, height = corners
    box = cut(Box(labels[category], left / size[0], top / size[1], width / size[0], height / size[1]))
    if box.width <= 0 or box.height <= 0:
        raise ValueError(
            f"a box of {name} in {table} has bbox {corners}, beside the {size[0]}x{size[1]} pixels of the picture or "
            "without an area; remove it"
        )
    return box


def cut(box: Box) -> Box:
    """What of a box lies in 0..1."""
    left, top = max(0.0, box.left), max(0.0, box.top)
    right, bottom = min(1.0, box.left + box.width), min(1.0, box.top + box.height)
    return Box(box.label, left, top, right - left, bottom - top)


def scene_in_view(scene: Scene, placement: Placement) -> tuple[Scene, Box]:
    """The boxes that a view shows, the 30 largest of them, and which part of the picture it is.

    A picture that covers the view is told whole, mirrored if the view is, and the view as a crop of it. Where there is
    background around it, the view is the picture.
    """
    left, top, width, height = rectangle(WHOLE, placement)
    if placement.covers:
        crop = cut(Box(0, -left / width, -top / height, placement.side / width, placement.side / height))
        boxes = [box._replace(left=1 - box.left - box.width) if placement.flip else box for box in scene]
    else:
        crop, side = WHOLE, placement.side
        boxes = [cut(Box(box.label, *(value / side for value in rectangle(box, placement)))) for box in scene]
    return [box for box in boxes if overlap(box, crop)][:MAX_OBJECTS], crop


def rectangle(box: Box, placement: Placement) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box in the pixels of the view."""
    width, height = (side * placement.scale for side in placement.size)
    left = (1 - box.left - box.width) if placement.flip else box.left
    x, y = placement.center[0] - width / 2, placement.center[1] - height / 2
    return x + left * width, y + box.top * height, box.width * width, box.height * height
