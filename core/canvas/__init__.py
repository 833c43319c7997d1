"""The canvas of codes: edits, masks, encoding and decoding."""
