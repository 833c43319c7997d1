"""What guides a prior, as training finds it."""
