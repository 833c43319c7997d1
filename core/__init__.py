"""Pure PyTorch models and algorithms: no host application, no network, no printing, no global state.

Shape letters used throughout: B batch, C image channels, H W pixels, h w cells, K codebook size,
D code width, T sequence length, V vocabulary. Images inside the models are float in -1..1.
"""
