"""A VQGAN on large images: strip by strip of rows, on the model's own weights."""
