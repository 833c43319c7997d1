"""What the nodes need of ComfyUI, without ComfyUI. Installed by conftest.py."""

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch


@dataclass
class State:
    """What tests set and look at."""

    base: Path = Path()
    folders: dict = field(default_factory=dict)
    interrupted_after: int | None = None  # checks for a cancel that pass before one comes
    updates: list = field(default_factory=list)  # (done, total, preview) of progress bars
    loaded: list = field(default_factory=list)  # (modules, memory) that were put on the device
    said: list = field(default_factory=list)  # (text, node, page) of progress texts


state = State()


class InterruptProcessingException(Exception):
    pass


def throw_exception_if_processing_interrupted() -> None:
    if state.interrupted_after is not None:
        if state.interrupted_after == 0:
            state.interrupted_after = None
            raise InterruptProcessingException()
        state.interrupted_after -= 1


def cpu() -> torch.device:
    return torch.device("cpu")


def load_models_gpu(
    models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False
) -> None:
    assert force_full_load
    state.loaded.append(([patcher.model.module for patcher in models], memory_required))


def unload_all_models() -> None:
    state.loaded.clear()


def soft_empty_cache(force=False) -> None:
    pass


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        model.device = offload_device  # as ComfyUI does


class ProgressBar:
    def __init__(self, total, node_id=None):
        self.total = total

    def update_absolute(self, value, total=None, preview=None):
        state.updates.append((value, total, preview))


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    paths, _ = state.folders.setdefault(folder_name, ([], set()))
    if full_folder_path not in paths:
        paths.append(full_folder_path)


def get_filename_list(folder_name: str) -> list[str]:
    paths, extensions = state.folders[folder_name]
    names = {str(file.relative_to(path)) for path in paths for file in Path(path).rglob("*") if file.is_file()}
    return sorted(name for name in names if not extensions or os.path.splitext(name)[1] in extensions)


def get_full_path(folder_name: str, filename: str) -> str | None:
    found = [os.path.join(path, filename) for path in state.folders[folder_name][0]]
    return next((path for path in found if os.path.isfile(path)), None)


def get_input_directory() -> str:
    return str(state.base / "input")


def get_output_directory() -> str:
    return str(state.base / "output")


def get_temp_directory() -> str:
    return str(state.base / "temp")


def get_save_image_path(filename_prefix: str, output_dir: str, image_width=0, image_height=0):
    folder = Path(output_dir) / Path(filename_prefix).parent
    folder.mkdir(parents=True, exist_ok=True)
    name = Path(filename_prefix).name
    number = 1 + len(list(folder.glob(f"{name}_*")))
    return str(folder), name, number, str(Path(filename_prefix).parent), filename_prefix


def get_executing_context() -> SimpleNamespace:
    return SimpleNamespace(prompt_id="a", node_id="1", list_index=None)


class ExecutionBlocker:
    def __init__(self, message):
        self.message = message


class Routes:
    """Keeps what answers which address."""

    def __init__(self):
        self.handlers = {}

    def get(self, path, **kwargs):
        return lambda handler: self.handlers.setdefault(("GET", path), handler)

    def post(self, path, **kwargs):
        return lambda handler: self.handlers.setdefault(("POST", path), handler)


class PromptServer:
    instance: "PromptServer"
    client_id = "the page that asked"
    routes = Routes()

    def send_progress_text(self, text, node_id, sid=None):
        state.said.append((text, node_id, sid))


PromptServer.instance = PromptServer()


class Input:
    def __init__(self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        self.id, self.display_name, self.optional, self.tooltip = id, display_name, optional, tooltip


class Output:
    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id, self.display_name, self.tooltip = id, display_name, tooltip


class Int:
    class Input(Input):
        def __init__(
            self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
            step=None, control_after_generate=None, display_mode=None, socketless=None, force_input=None,
        ):  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy)
            self.default, self.min, self.max, self.step = default, min, max, step

    class Output(Output):
        pass


class Float:
    class Input(Input):
        def __init__(
            self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
            step=None, round=None, display_mode=None, socketless=None, force_input=None,
        ):  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy)
            self.default, self.min, self.max, self.step = default, min, max, step

    class Output(Output):
        pass


class String:
    class Input(Input):
        def __init__(
            self, id, display_name=None, optional=False, tooltip=None, lazy=None, multiline=False, placeholder=None,
            default=None, dynamic_prompts=None, socketless=None, force_input=None,
        ):  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy)
            self.default = default

    class Output(Output):
        pass


class Boolean:
    class Input(Input):
        def __init__(
            self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, label_on=None,
            label_off=None, socketless=None, force_input=None,
        ):  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy)
            self.default = default


class Combo:
    class Input(Input):
        def __init__(
            self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
            control_after_generate=None, upload=None, image_folder=None, remote=None, socketless=None,
        ):  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy)
            self.options, self.default = options, default


def Custom(io_type: str) -> type:
    return type(io_type, (), {"Input": type("Input", (Input,), {}), "Output": type("Output", (Output,), {})})


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


@dataclass
class Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list[Input] = None
    outputs: list[Output] = None
    hidden: list = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False


class ComfyNode:
    hidden = SimpleNamespace(prompt=None, extra_pnginfo=None, unique_id="1")


class NodeOutput:
    def __init__(self, *args: Any, ui=None, expand=None, block_execution=None):
        self.args, self.ui = args, ui

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class ComfyExtension:
    pass


class PreviewImage:
    def __init__(self, image, animated=False, cls=None, **kwargs):
        assert image.ndim == 4
        assert image.shape[-1] == 3
        self.image = image

    def as_dict(self):
        return {"images": self.image, "animated": (False,)}


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class SavedResult(dict):
    def __init__(self, filename: str, subfolder: str, type: FolderType):
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class SavedImages:
    def __init__(self, results, is_animated=False):
        self.results = results


class PreviewText:
    def __init__(self, value: str, **kwargs):
        self.value = value


def here(*names: str) -> dict[str, Any]:
    return {name: globals()[name] for name in names}


IO = SimpleNamespace(
    **here("Schema", "ComfyNode", "NodeOutput", "Input", "Output", "Int", "Float", "String", "Boolean", "Combo"),
    **here("Custom", "NumberDisplay", "FolderType"),
    Image=Custom("IMAGE"),
    Mask=Custom("MASK"),
    Latent=Custom("LATENT"),
    Clip=Custom("CLIP"),
    ClipVision=Custom("CLIP_VISION"),
)
UI = SimpleNamespace(**here("PreviewImage", "PreviewText", "SavedImages", "SavedResult"))
MODULES = {
    "comfy": {},
    "comfy.cli_args": {"args": SimpleNamespace(disable_metadata=False)},
    "comfy.model_management": {
        **here("InterruptProcessingException", "throw_exception_if_processing_interrupted", "load_models_gpu"),
        **here("unload_all_models", "soft_empty_cache"),
        "get_torch_device": cpu,
        "unet_offload_device": cpu,
        "intermediate_device": cpu,
        "unet_dtype": lambda device=None, model_params=0, supported_dtypes=(), weight_dtype=None: torch.float32,
    },
    "comfy.model_patcher": here("ModelPatcher"),
    "comfy.utils": here("ProgressBar"),
    "folder_paths": {
        **here("add_model_folder_path", "get_filename_list", "get_full_path"),
        **here("get_input_directory", "get_output_directory", "get_temp_directory", "get_save_image_path"),
        "models_dir": "",
        "folder_names_and_paths": state.folders,
    },
    "comfy_execution": {},
    "comfy_execution.graph_utils": here("ExecutionBlocker"),
    "comfy_execution.utils": here("get_executing_context"),
    "server": here("PromptServer"),
    "comfy_api": {},
    "comfy_api.latest": {"ComfyExtension": ComfyExtension, "io": IO, "ui": UI},
}
