"""Contact sheets: labeled rows of images on one page."""

import math

from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between images
LABEL = 24  # pixels of height for a row's label


def contact_sheet(rows: list[tuple[str, list[Image.Image]]], side: int = 192) -> Image.Image:
    """One page with a row for each (label, images), every image scaled to be `side` pixels high."""
    scaled = [[at_height(image, side) for image in images] for _, images in rows]
    column = max(image.width for images in scaled for image in images)
    columns = max(len(images) for images in scaled)
    width, row_height = columns * (column + GAP) + GAP, side + LABEL + GAP
    sheet = Image.new("RGB", (width, len(rows) * row_height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, ((label, _), images) in enumerate(zip(rows, scaled, strict=True)):
        top = i * row_height + GAP
        draw.text((GAP, top), label, fill="black", font=font)
        for j, image in enumerate(images):
            sheet.paste(image, (GAP + j * (column + GAP), top + LABEL))
    return sheet


def labeled_sheet(labels: list[str], images: list[Image.Image], side: int = 256) -> Image.Image:
    """One row for each label, with its equal share of the images."""
    columns = len(images) // len(labels)
    rows = [(label, images[i * columns : (i + 1) * columns]) for i, label in enumerate(labels)]
    return contact_sheet(rows, side)


def labeled_tiles(labels: list[str], images: list[Image.Image], side: int = 192) -> Image.Image:
    """Images of one size in about as many rows as columns, each below its own label."""
    columns = math.ceil(math.sqrt(len(images)))
    tiles = [contact_sheet([(label, [image])], side) for label, image in zip(labels, images, strict=True)]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(tiles) / columns) * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    return sheet


def at_height(image: Image.Image, height: int) -> Image.Image:
    """Scaled in proportion."""
    size = (max(1, round(image.width * height / image.height)), height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
