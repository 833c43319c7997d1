"""Stage 2: which code comes next."""
