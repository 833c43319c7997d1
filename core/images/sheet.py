"""Contact sheets: labeled rows of pictures on one page."""

import math

from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between pictures
LABEL = 24  # pixels of height for a row's label


def contact_sheet(rows: list[tuple[str, list[Image.Image]]], side: int = 192) -> Image.Image:
    """One page with a row for each (label, pictures), every picture scaled to be `side` pixels high."""
    scaled = [[at_height(picture, side) for picture in pictures] for _, pictures in rows]
    column = max(picture.width for pictures in scaled for picture in pictures)
    columns = max(len(pictures) for pictures in scaled)
    width, row_height = columns * (column + GAP) + GAP, side + LABEL + GAP
    sheet = Image.new("RGB", (width, len(rows) * row_height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, ((label, _), pictures) in enumerate(zip(rows, scaled, strict=True)):
        top = i * row_height + GAP
        draw.text((GAP, top), label, fill="black", font=font)
        for j, picture in enumerate(pictures):
            sheet.paste(picture, (GAP + j * (column + GAP), top + LABEL))
    return sheet


def labeled_sheet(labels: list[str], pictures: list[Image.Image], side: int = 256) -> Image.Image:
    """One row for each label, with its equal share of the pictures."""
    columns = len(pictures) // len(labels)
    rows = [(label, pictures[i * columns : (i + 1) * columns]) for i, label in enumerate(labels)]
    return contact_sheet(rows, side)


def labeled_tiles(labels: list[str], pictures: list[Image.Image], side: int = 192) -> Image.Image:
    """Pictures of one size in about as many rows as columns, each below its own label."""
    columns = math.ceil(math.sqrt(len(pictures)))
    tiles = [contact_sheet([(label, [picture])], side) for label, picture in zip(labels, pictures, strict=True)]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(tiles) / columns) * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    return sheet


def at_height(picture: Image.Image, height: int) -> Image.Image:
    """Scaled in proportion."""
    size = (max(1, round(picture.width * height / picture.height)), height)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
