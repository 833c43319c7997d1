"""Tar files of pictures on any storage: written, listed, streamed, generated."""
