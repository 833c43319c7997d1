"""First stages of other kinds encode, decode and complete in nodes as a VQGAN does."""

import pytest
import torch

from tessera.core.autoencoders.dvae import DVAE, DVAEConfig
from tessera.core.autoencoders.palette import Palette
from tessera.core.autoencoders.two_level import TwoLevel, TwoLevelConfig
from tessera.core.autoencoders.vqgan_file import save_vqgan
from tessera.core.bundle import Bundle
from tessera.core.bundle_file import save_bundle
from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.kinds import ConditionConfig
from tessera.core.priors.snail.pixelsnail import PixelSnail, PixelSnailConfig
from tessera.core.priors.transformer import Transformer, TransformerConfig
from tessera.nodes import canvas as canvases
from tessera.nodes import codes, conditions, loaders
from tessera.nodes import sample as sampling
from tessera.nodes.host import comfy as adapter

GRIDS = TwoLevelConfig(
    channels=8, channel_mult=(1, 1), blocks_per_level=1, latent_channels=8, patch_size=2, grid_codes=8,
    grid_code_dim=4, norm_groups=4,
)  # fmt: skip


@pytest.mark.parametrize(
    "module", [TwoLevel(GRIDS), DVAE(DVAEConfig(hidden=8, blocks_per_group=1, codebook_size=8, code_dim=4))]
)
def test_pictures_of_any_size_are_encoded_and_decoded(host, tmp_path, module):
    adapter.register_model_folders()
    (tmp_path / "models" / "vqgan").mkdir(parents=True, exist_ok=True)
    save_vqgan(tmp_path / "models" / "vqgan" / "other.safetensors", module)
    vqgan = loaders.LoadVQGAN.execute("other.safetensors")[0]
    image = torch.rand(1, 28, 40, 3)
    canvas = codes.EncodeCanvas.execute(vqgan, image)[0]
    assert canvas.size == (4, 5)
    shown = codes.DecodeCanvas.execute(vqgan, canvas)[0]
    assert shown.shape == image.shape
    assert torch.equal(shown, codes.DecodeCanvas.execute(vqgan, canvas)[0])


def test_colors_are_completed_pixel_by_pixel(host, tmp_path):
    colors = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shape = {"layers": 1, "width": 8, "heads": 1, "codebook_size": 6, "vocab_size": 7, "prefix_length": 1, "window": 4}
    prior = Transformer(TransformerConfig(**shape, norm="rms", activation="quick-gelu"))
    bundle = Bundle(Palette.of_colors(colors), prior, ConditionConfig(kind="none", offset=6))
    adapter.register_model_folders()
    (tmp_path / "models" / "vq_transformer").mkdir(parents=True, exist_ok=True)
    save_bundle(tmp_path / "models" / "vq_transformer" / "colors.safetensors", bundle)
    model, palette = loaders.LoadBundle.execute("colors.safetensors").args
    given = colors[torch.randint(6, (1, 4, 4), generator=torch.Generator().manual_seed(1))] / 2 + 0.5  # [1, 4, 4, 3]
    half = canvases.KeepHalf.execute(codes.EncodeCanvas.execute(palette, given)[0], "top", 0.5)[0]
    images, filled = sampling.SampleCodes.execute(model, 0, 3, 0, canvas=half).args[:2]
    assert isinstance(filled, Canvas)
    torch.testing.assert_close(images[:, :2], given[:, :2].expand(3, -1, -1, -1))
    assert images.shape == (3, 4, 4, 3)
    assert filled.known.all()


def test_a_pixelsnail_paints_by_class(host, tmp_path):
    config = PixelSnailConfig(
        blocks=1, layers=1, width=8, kernel=3, codebook_size=6, vocab_size=9, prefix_length=1, window=4
    )
    prior = PixelSnail(config)
    torch.nn.init.normal_(prior.head.weight)
    bundle = Bundle(Palette.of_colors(torch.rand(6, 3)), prior, ConditionConfig(kind="class", offset=6, labels=3))
    adapter.register_model_folders()
    (tmp_path / "models" / "vq_transformer").mkdir(parents=True, exist_ok=True)
    save_bundle(tmp_path / "models" / "vq_transformer" / "snail.safetensors", bundle)
    model = loaders.LoadBundle.execute("snail.safetensors")[0]
    made = [
        sampling.SampleCodes.execute(model, 0, 2, 0, condition=conditions.ClassLabel.execute(model, label)[0])[1]
        for label in (0, 0, 2)
    ]
    assert torch.equal(made[0].indices, made[1].indices)
    assert not torch.equal(made[0].indices, made[2].indices)
