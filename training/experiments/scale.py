"""How large the experiments are: `tiny` to try the commands, `small` for some minutes of a processor a row, `paper` for
those who have the accelerators, with the sizes that the paper gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...core.autoencoders.dvae import DVAEConfig
from ...core.autoencoders.two_level import TwoLevelConfig
from ...core.autoencoders.vqgan import VQGANConfig
from ...core.priors.orders import ORDERS, Order
from ..config.runs import PriorModelConfig


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes that the experiments share. A picture of `pixels` a side has (pixels / 16)^2 cells of the VQGAN."""

    wants: str  # which pictures and models the command is to be given
    pictures: int  # to learn from, at most
    held_out: int  # at most
    pixels: int  # of the pictures whose codes priors learn
    views: int  # of each picture
    batch: int
    steps: int  # of each prior
    conditions: tuple[str, ...] = ("none", "edges")  # under which priors are compared
    seeds: dict[str, int]  # by condition, each another run of every prior
    rates: tuple[float, ...]  # learning rates of priors, of which the better one is taken after `tuning` steps
    tuning: int
    transformer: PriorModelConfig
    control: PriorModelConfig  # edges added cell by cell; of as many parameters as the transformer with edges before
    llama: PriorModelConfig  # of as many parameters in its blocks as the transformer
    pixelsnail: dict[str, PriorModelConfig]  # by condition: of as many parameters as the transformer
    orders: tuple[Order, ...]
    colors: int  # of Image-GPT's palette
    colors_pixels: int  # a side of the pictures that it completes
    palette_pictures: int  # from which the palette is taken
    stage_pixels: int  # of the pictures that first stages learn
    stage_steps: int
    stage_batch: int
    stage_rate: float
    systems: tuple[str, ...] = ()  # first stages that are compared; empty is all
    perceptual: Literal["features", "lpips"]  # of first stages with an adversary
    stage: VQGANConfig  # f16
    many_codes: int  # of a codebook larger than its
    fine_stage: VQGANConfig  # f8, of as many parameters, like the two below
    two_level: TwoLevelConfig  # f8 and f4
    dvae: DVAEConfig  # f8


ALL_ORDERS: tuple[Order, ...] = tuple(ORDERS)

SCALES = {
    "tiny": Scale(
        wants="any pictures",
        pictures=12, held_out=4, pixels=32, views=1, batch=4, steps=10, seeds={"none": 1, "edges": 1},
        rates=(1e-3,), tuning=10,
        transformer=PriorModelConfig(layers=1, width=16, heads=1),
        control=PriorModelConfig(layers=1, width=12, heads=1, control=True),
        llama=PriorModelConfig(kind="llama", layers=1, width=16, heads=1),
        pixelsnail=dict.fromkeys(
            ("none", "edges"), PriorModelConfig(kind="pixelsnail", blocks=1, layers=1, width=8, kernel=3)
        ),
        orders=("row", "spiral-in"), colors=8, colors_pixels=16, palette_pictures=8,
        stage_pixels=32, stage_steps=10, stage_batch=4, stage_rate=1e-3,
        stage=VQGANConfig(channels=8, channel_mult=(1, 1, 1), blocks_per_level=1, attention_levels=(), patch_size=4,
                          latent_channels=16, codebook_size=16, code_dim=4, codebook="ema", norm_groups=4),
        systems=("VQGAN", "VQGAN, Gumbel, f8", "dVAE, f8", "VQVAE-2"), perceptual="features", many_codes=64,
        fine_stage=VQGANConfig(channels=8, channel_mult=(1, 1), blocks_per_level=1, attention_levels=(), patch_size=4,
                               latent_channels=16, codebook_size=16, code_dim=4, codebook="ema", norm_groups=4),
        two_level=TwoLevelConfig(channels=8, channel_mult=(1,), blocks_per_level=1, latent_channels=8, patch_size=4,
                                 grid_codes=16, grid_code_dim=4, norm_groups=4),
        dvae=DVAEConfig(hidden=8, blocks_per_group=1, codebook_size=32, code_dim=4),
    ),
    "small": Scale(
        wants="emoji of several hands with the table that holds some out",
        pictures=3000, held_out=300, pixels=128, views=2, batch=8, steps=1000, seeds={"none": 3, "edges": 3},
        rates=(1e-3, 3e-3, 1e-2, 3e-2), tuning=400,
        transformer=PriorModelConfig(layers=3, width=96, heads=3),
        control=PriorModelConfig(layers=3, width=66, heads=3, control=True),
        llama=PriorModelConfig(kind="llama", layers=3, width=96, heads=3),
        pixelsnail={
            "none": PriorModelConfig(kind="pixelsnail", blocks=2, layers=2, width=68, kernel=3),
            "edges": PriorModelConfig(kind="pixelsnail", blocks=2, layers=2, width=58, kernel=3),
        },
        orders=ALL_ORDERS, colors=512, colors_pixels=16, palette_pictures=500,
        stage_pixels=64, stage_steps=200, stage_batch=8, stage_rate=1e-3,
        stage=VQGANConfig(channels=16, channel_mult=(1, 2, 4), blocks_per_level=1, attention_levels=(), patch_size=4,
                          latent_channels=32, codebook_size=256, code_dim=8, codebook="ema", norm_groups=8),
        perceptual="features", many_codes=1024,
        fine_stage=VQGANConfig(channels=16, channel_mult=(2, 4), blocks_per_level=1, attention_levels=(), patch_size=4,
                               latent_channels=32, codebook_size=256, code_dim=8, codebook="ema", norm_groups=8),
        two_level=TwoLevelConfig(channels=40, channel_mult=(1,), blocks_per_level=1, latent_channels=32, patch_size=4,
                                 grid_codes=256, grid_code_dim=8, norm_groups=8),
        dvae=DVAEConfig(hidden=32, blocks_per_group=1, codebook_size=512, code_dim=16),
    ),
    "paper": Scale(
        wants="ImageNet's 1,281,167 training pictures and 50,000 held-out ones, told apart by captions.tsv; as --vqgan "
        "an f16 bundle of 1,024 codes guided by edges that learned from them; accelerate launch shares the work",
        pictures=1_281_167, held_out=50_000, pixels=256, views=1, batch=64, steps=300_000,
        seeds={"none": 1, "edges": 1}, rates=(4.5e-6 * 64,), tuning=1000,
        transformer=PriorModelConfig(layers=24, width=1024, heads=16),
        control=PriorModelConfig(layers=24, width=1024, heads=16, control=True),
        llama=PriorModelConfig(kind="llama", layers=24, width=1024, heads=16),
        pixelsnail=dict.fromkeys(
            ("none", "edges"), PriorModelConfig(kind="pixelsnail", blocks=12, layers=4, width=768, kernel=5)
        ),
        orders=ALL_ORDERS, colors=512, colors_pixels=32, palette_pictures=20_000,
        stage_pixels=256, stage_steps=300_000, stage_batch=24, stage_rate=4.5e-6 * 24,
        perceptual="lpips", stage=VQGANConfig(), many_codes=16_384,
        fine_stage=VQGANConfig(channel_mult=(1, 1, 2, 4), attention_levels=(3,), codebook_size=8192),
        two_level=TwoLevelConfig(), dvae=DVAEConfig(),
    ),
}  # fmt: skip
