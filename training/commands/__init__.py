"""The commands of `python -m tessera`."""
