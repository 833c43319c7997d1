"""Contact sheets: labelled rows of pictures on one page."""

from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between pictures
LABEL = 24  # pixels of height for a row's label


def contact_sheet(rows: list[tuple[str, list[Image.Image]]], side: int = 192) -> Image.Image:
    """One page with a row for each (label, pictures), every picture scaled to a square of `side` pixels."""
    columns = max(len(pictures) for _, pictures in rows)
    width, row_height = columns * (side + GAP) + GAP, side + LABEL + GAP
    sheet = Image.new("RGB", (width, len(rows) * row_height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (label, pictures) in enumerate(rows):
        top = i * row_height + GAP
        draw.text((GAP, top), label, fill="black", font=font)
        for j, picture in enumerate(pictures):
            scaled = picture.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(scaled, (GAP + j * (side + GAP), top + LABEL))
    return sheet
