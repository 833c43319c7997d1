"""Makes this checkout importable as `tessera`, installed or not, and lets torchvision import beside any torch."""

import importlib.util
import sys
from pathlib import Path

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
