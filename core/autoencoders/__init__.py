"""Stage 1: images to codes and back."""
