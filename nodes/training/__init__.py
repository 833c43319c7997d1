"""Nodes that train."""
