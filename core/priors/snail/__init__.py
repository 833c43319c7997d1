"""PixelSNAIL, the rival of the transformer in the paper (section 4.1)."""
