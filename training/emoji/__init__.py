"""The drawings that the embedded models learn from, made from public packages."""
