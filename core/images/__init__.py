"""Images: files, sizes, grids, metrics."""
