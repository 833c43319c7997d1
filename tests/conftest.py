"""Makes this checkout importable as `tessera`, installed or not, and lets torchvision import beside any torch."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def import_checkout() -> None:
    """Import this checkout as `tessera`, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(
        "tessera", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["tessera"] = module
    spec.loader.exec_module(module)


def declare_torchvision_operators() -> torch.library.Library | None:
    """Declare the operators that torchvision's Python half expects, if its compiled half does not fit this torch.

    LPIPS needs torchvision for its VGG network alone, which uses none of them.
    """
    found = importlib.util.find_spec("torchvision")
    for binary in Path(found.origin).parent.glob("_C*") if found else ():
        try:
            torch.ops.load_library(binary)
        except OSError:
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            return library
    return None


import_checkout()
TORCHVISION_OPERATORS = declare_torchvision_operators()  # they last as long as this object


def tiny_bundle(kind: str, **prior_changes):
    """A small random bundle of one kind: 16 codes, cells of 4 pixels, a window of 4 x 4 cells."""
    from tessera.core.autoencoders.vqgan import VQGAN, VQGANConfig
    from tessera.core.bundle import Bundle
    from tessera.core.conditions.config import ConditionConfig
    from tessera.core.conditions.kinds import KINDS
    from tessera.core.priors.transformer import Transformer, TransformerConfig

    def vqgan(**changes) -> VQGAN:
        shape = {"channels": 32, "channel_mult": (1, 1, 2), "blocks_per_level": 1, "attention_levels": ()}
        codes = {"latent_channels": 4, "code_dim": 4, "codebook_size": 16}
        model = VQGAN(VQGANConfig(**{**shape, **codes, **changes}))
        torch.nn.init.normal_(model.codebook.embedding.weight)
        torch.nn.init.normal_(model.encoder.conv_out.weight, std=0.5)  # lively enough that several codes are used
        torch.nn.init.normal_(model.decoder.conv_out.weight, std=0.1)
        return model

    torch.manual_seed(0)
    length = KINDS[kind].prefix_length(4)
    shape = {"layers": 2, "width": 32, "heads": 4, "codebook_size": 16, "vocab_size": 64, "window": 4}
    prior = Transformer(TransformerConfig(**{**shape, "prefix_length": length, **prior_changes}))
    for parameter in prior.parameters():  # as trained models, it has an opinion
        torch.nn.init.normal_(parameter, std=0.3)
    config = ConditionConfig(kind=kind, offset=16, labels=5, factor=2 if kind == "low-resolution" else 0)
    channels = {"segmentation": 5, "low-resolution": 3}.get(kind, 1)
    own = vqgan(image_channels=channels, codebook_size=12).eval() if KINDS[kind].has_vqgan else None
    return Bundle(vqgan().eval(), prior.eval(), config, own)


@pytest.fixture(scope="session")
def make_bundle():
    """`tiny_bundle`, for test folders that can't import it by name."""
    return tiny_bundle
