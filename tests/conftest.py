"""Makes this checkout importable as `tessera`, installed or not, lets torchvision import beside any torch, and says in
how many processes tests run."""

import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests are small: threads, here and in commands they start, only wait

import pytest
import torch
from hypothesis import settings

settings.register_profile("nightly", max_examples=10_000, deadline=None)

ROOT = Path(__file__).resolve().parent.parent
MAX_PROCESSES = 8  # each takes about a gigabyte


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core for the whole suite; none besides this one where files are named."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_PROCESSES) if cores > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that processes end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
    from tessera.core.conditions.kinds import KINDS, ConditionConfig
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
