"""The only modules that import the host."""
