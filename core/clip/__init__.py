"""CLIP: images and words in one space; guided synthesis and scores by it."""
