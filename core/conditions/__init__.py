"""What an image is made from: the prefix of a prior."""
