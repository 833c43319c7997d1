"""Images and codes to train on."""
