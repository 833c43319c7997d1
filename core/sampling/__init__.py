"""Filling the unknown cells of a canvas."""
