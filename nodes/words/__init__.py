"""Nodes that speak of words: prompts, CLIP, pictures and films painted by words, what words choose."""
