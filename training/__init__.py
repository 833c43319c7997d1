"""Command-line programs around core: train both stages, evaluate, bundle, demo."""
