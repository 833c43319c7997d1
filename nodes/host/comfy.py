"""The one file that knows ComfyUI: its node API, model folders, devices, progress and cancel."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.cli_args
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.graph_utils import ExecutionBlocker as Blocked
from comfy_execution.utils import get_executing_context
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from server import PromptServer
from torch import Tensor, bfloat16, device, dtype, float16, float32, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ...core.autoencoders.blocks import AttentionBlock
from ...core.storage.atomic import atomic_write
from ...core.storage.door import brief

logger = logging.getLogger("tessera")

__all__ = ["Blocked", "Cancellable", "ComfyExtension", "Interrupted", "ModelPatcher", "Progress", "Watched", "io", "ui"]

VQGAN_FOLDER, PRIOR_FOLDER, CLIP_FOLDER = "vqgan", "vq_transformer", "tessera_clip"
TEXT_FOLDER = "text_encoders"  # of ComfyUI
CLIP_FOLDERS = ("clip_vision", "text_encoders", "clip")  # of ComfyUI, where files of CLIPs are
PACK = Path(__file__).parent.parent.parent
OWN_MODELS, ASSETS = PACK / "models", PACK / "assets"
EXTENSIONS = {".safetensors", ".ckpt", ".pt", ".pth", ".bin"}
MAX_LISTED = 500  # files of one folder in a combo
PATIENCE = 0.5  # seconds of a decoding before it has a bar
COUNTED = (torch.conv2d, torch.conv_transpose2d, linear)
LAYERS = (*COUNTED, torch.addmm)  # the last one looks for the nearest codes
ATTENTION = 20  # layers for which an attention counts: it takes as long as they do in pictures that need a bar
FRESH = 3.0  # seconds that a list of files is good for
OUTPUT = " [output]"  # marks names of files in the output folder, as ComfyUI does

_listed: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, list[str]]] = {}  # when, and which

Interrupted = comfy.model_management.InterruptProcessingException


def register_model_folders() -> None:
    """Let ComfyUI know models/vqgan and models/vq_transformer, and the models that come with the pack.

    Folders and extensions that extra_model_paths.yaml or another pack brought stay.
    """
    folder_paths.add_model_folder_path(TEXT_FOLDER, os.path.join(folder_paths.models_dir, TEXT_FOLDER))
    for name in (VQGAN_FOLDER, PRIOR_FOLDER):
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        folder_paths.add_model_folder_path(name, str(OWN_MODELS))
        paths, extensions = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, {*extensions, *EXTENSIONS})
    for path in clip_folders():
        folder_paths.add_model_folder_path(CLIP_FOLDER, path)
    paths, extensions = folder_paths.folder_names_and_paths[CLIP_FOLDER]
    folder_paths.folder_names_and_paths[CLIP_FOLDER] = (paths, {*extensions, *EXTENSIONS})


def clip_folders() -> list[str]:
    """Where CLIPs are: with the pack, and wherever ComfyUI looks for the halves of one."""
    known = folder_paths.folder_names_and_paths
    found = [path for name in CLIP_FOLDERS if name in known for path in known[name][0]]
    return [str(OWN_MODELS), *dict.fromkeys(found)]


def model_files(folder: str) -> list[str]:
    """Names for a combo; where there are none, one entry that says where files go."""
    return folder_paths.get_filename_list(folder) or [f"no file in models/{folder} yet"]


def model_path(folder: str, name: str) -> Path:
    """Where a model file is; FileNotFoundError if it is gone."""
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise FileNotFoundError(missing_model(folder, name))
    return Path(path)


def own_model_folder(folder: str) -> Path:
    """Where model files of people go: ComfyUI's own folder of this name."""
    return Path(folder_paths.models_dir) / folder


def missing_model(folder: str, name: str | None) -> str | None:
    """What to say about a file that is not there; None if it is, or if its name comes over a wire."""
    if name is None or folder_paths.get_full_path(folder, name) is not None:
        return None
    return f"{brief(name)!r} is not in models/{folder}; put a model file there, press R, and choose it"


def model_fingerprint(folder: str, name: str) -> str:
    """Changes when the file does."""
    path = folder_paths.get_full_path(folder, name)
    return f"{path} {os.stat(path).st_mtime_ns} {os.stat(path).st_size}" if path else name


def files_between(suffix: str) -> list[str]:
    """Names for a combo: files with this suffix in ComfyUI's input folder, then those in its output folder, so
    marked; of each the newest, newest first. Folders are walked anew after `FRESH` seconds at the earliest."""
    folders = (("", folder_paths.get_input_directory()), (OUTPUT, folder_paths.get_output_directory()))
    then, names = _listed.get((suffix, folders), (-FRESH, []))
    if time.monotonic() - then >= FRESH:
        names = _newest_files(suffix, folders)
        _listed[suffix, folders] = time.monotonic(), names
    return list(names)


def _newest_files(suffix: str, folders: tuple[tuple[str, str], ...]) -> list[str]:
    names = []
    for mark, folder in folders:
        found = [path for path in Path(folder).rglob(f"*{suffix}") if path.is_file()]
        newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:MAX_LISTED]
        names += [path.relative_to(folder).as_posix() + mark for path in newest]
    return names


def file_between(name: str, suffix: str) -> Path:
    """Where a file of `files_between`, listed or older, is; FileNotFoundError if there is none by that name."""
    inside = folder_paths.get_output_directory() if name.endswith(OUTPUT) else folder_paths.get_input_directory()
    folder = Path(inside).resolve()
    try:
        path = (folder / name.removesuffix(OUTPUT)).resolve()
        found = path.is_relative_to(folder) and path.name.endswith(suffix) and path.is_file()
    except (OSError, RuntimeError, ValueError):  # a link to itself, a name that no file can have
        found = False
    if not found:
        raise FileNotFoundError(
            f"{brief(name)!r} is neither in the input nor in the output folder; press R, choose another"
        )
    return path


def missing_file(name: str | None, suffix: str) -> str | None:
    """What to say about a file that is not there; None if it is, or if its name comes over a wire."""
    try:
        if name is not None:
            file_between(name, suffix)
    except FileNotFoundError as error:
        return str(error)
    return None


def output_folder() -> Path:
    """Where results go."""
    return Path(folder_paths.get_output_directory())


def input_folder() -> Path:
    """Where people's files are."""
    return Path(folder_paths.get_input_directory())


def new_output_file(prefix: str, suffix: str) -> Path:
    """A path in the output folder, numbered, that does not exist yet."""
    folder, name, number, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder) / f"{name}_{number:05}_{suffix}"


class _Managed(nn.Module):
    """A model as ComfyUI holds it, which notes on it where it is; our models tell their `device` themselves."""

    device: device | None = None

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module


def patcher_of(module: nn.Module) -> ModelPatcher:
    """Hand a model to ComfyUI's memory management; it is moved to the device by `make_room`."""
    manager = comfy.model_management
    load, offload = manager.get_torch_device(), manager.unet_offload_device()
    return ModelPatcher(_Managed(module), load_device=load, offload_device=offload)


def weights_dtype(parameters: int) -> dtype:
    """What ComfyUI would keep a diffusion model of this size in, by its flags and the device's abilities."""
    manager = comfy.model_management
    return manager.unet_dtype(model_params=parameters, supported_dtypes=[bfloat16, float16, float32])


def make_room(patchers: list[ModelPatcher], memory: int) -> None:
    """Put models on the device, with `memory` bytes free for the work; others make way.

    Our modules are plain torch, which can't run half on one device and half on another: always in full. With --novram
    ComfyUI leaves all that it can't cast piecewise where it is; it is moved here, and goes back as any other model.
    """
    comfy.model_management.load_models_gpu(patchers, memory_required=memory, force_full_load=True)
    for patcher in patchers:
        if any(weight.device.type != patcher.load_device.type for weight in patcher.model.parameters()):
            patcher.model.to(patcher.load_device)


def free_memory() -> None:
    """Let other programs have the device: models that are on it leave it."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def works_on_cpu() -> bool:
    """Whether models run on the processor."""
    return comfy.model_management.get_torch_device().type == "cpu"


def routes() -> Any:
    """To which addresses of our own can be added before the server listens."""
    return PromptServer.instance.routes


def output_device() -> device:
    """Where ComfyUI wants pictures and masks between nodes."""
    return comfy.model_management.intermediate_device()


def say(text: str) -> None:
    """Write a line on the node that is running, in the page that asked for the run; nothing where none is."""
    context, server = get_executing_context(), PromptServer.instance
    if context is not None:
        server.send_progress_text(text, context.node_id, sid=server.client_id)


def new_temporary_file(prefix: str, suffix: str) -> Path:
    """A path in the folder that ComfyUI empties when it starts, that does not exist yet."""
    folder, name, number, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_temp_directory())
    return Path(folder) / f"{name}_{number:05}_{suffix}"


def stop_if_cancelled() -> None:
    """Raise Interrupted where Cancel was pressed."""
    comfy.model_management.throw_exception_if_processing_interrupted()


class Progress:
    """Bar, preview pictures and cancel for a loop: call `step` after each step.

    Pictures take at most a fifth of the time, and come at most four times a second; the last one always comes. Where
    one can't be made, for lack of memory mostly, the loop goes on without them.
    """

    def __init__(self, share: int = 0, shares: int = 1):
        self.share, self.shares = share, shares  # this loop is number `share` of this many on one bar
        self.bar: comfy.utils.ProgressBar | None = None
        self.next_update = self.next_picture = 0.0
        self.shows = True

    def shared(self, loops: int) -> list[Progress]:
        """One for each of several loops of equal length that share the bar."""
        return [Progress(i, loops) for i in range(loops)]

    def step(self, done: int, total: int, picture: Callable[[], Image.Image] | None = None) -> None:
        """Tell how far the loop is; `picture` is called when it is time to show one. Raises Interrupted on cancel."""
        stop_if_cancelled()
        last = done == total
        done, total = self.share * total + done, self.shares * total
        self.bar = self.bar or comfy.utils.ProgressBar(total)
        start = time.monotonic()
        if picture and self.shows and (start >= self.next_picture or last) and (image := self.try_to(picture)):
            self.bar.update_absolute(done, total, ("JPEG", image, None))
            end = time.monotonic()
            self.next_picture = end + max(0.25, 4 * (end - start))
        elif start >= self.next_update or last:
            self.bar.update_absolute(done, total)
        else:
            return
        self.next_update = time.monotonic() + 0.05

    def try_to(self, picture: Callable[[], Image.Image]) -> Image.Image | None:
        """A preview; None, and no other one in this loop, if it fails."""
        try:
            return picture()
        except Interrupted:
            raise
        except Exception as error:
            self.shows = False
            logger.warning("no previews in this run: %s", " ".join(str(error).split())[:200] or type(error).__name__)
            return None


def saved_pictures(images: Tensor, node: type) -> ui.PreviewImage:
    """Pictures [B, H, W, 3] in 0..1 to be shown on the node."""
    return ui.PreviewImage(images, cls=node)


class Cancellable(TorchFunctionMode):
    """Cancel, heard between any two layers of the models that work inside."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in LAYERS:
            stop_if_cancelled()
        return function(*args, **(kwargs or {}))


class Watched(Cancellable):
    """Cancel, and after `PATIENCE` a bar, while a module's layers work through pictures: one after the other or in
    batches, as a whole or strip by strip. `bar` is given where several share one."""

    def __init__(self, module: nn.Module, pictures: int = 1, bar: Progress | None = None):
        super().__init__()
        layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        held = [(part, i) for i, layer in enumerate(layers) for part in (layer.weight, layer.bias) if part is not None]
        self.layers = {part.data_ptr(): i for part, i in held}
        self.attentions = sum(isinstance(part, AttentionBlock) for part in module.modules())
        self.each = len(layers) + ATTENTION * self.attentions  # steps for one picture
        self.pictures, self.finished, self.at_once = pictures, 0, 0
        self.seen, self.attended = set[int](), 0.0  # by those that are at work
        self.bar, self.start = bar or Progress(), time.monotonic()

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        done = super().__torch_function__(function, types, args, kwargs)
        if function in COUNTED:
            own = args[2] if function is torch.conv_transpose2d else args[1]  # its kernel is made for the call
            self.count(self.layers.get(own.data_ptr()), len(args[0]))
        elif function is scaled_dot_product_attention and self.attentions:
            self.attended += args[0].shape[-2] / args[1].shape[-2]  # of all positions, those that looked around now
        return done

    def count(self, layer: int | None, pictures: int) -> None:
        """A layer is at work; the first one comes again with the next pictures."""
        if layer is None:  # a dVAE's have names of their own
            return
        if layer == 0:
            if len(self.seen) > 1:
                self.finished += self.at_once
                self.seen.clear()
                self.attended = 0.0
            self.at_once = pictures
        self.seen.add(layer)
        if time.monotonic() - self.start > PATIENCE:
            done = self.finished * self.each + self.at_once * (len(self.seen) + round(ATTENTION * self.attended))
            self.bar.step(min(done, self.pictures * self.each), self.pictures * self.each)


def finished_pictures(images: Tensor, node: type, **files: Path) -> dict[str, Any]:
    """The same after live previews, which our script in the page takes away, and temporary files for it."""
    temporary = {name: [ui.SavedResult(path.name, "", io.FolderType.temp)] for name, path in files.items()}
    return {**saved_pictures(images, node).as_dict(), "tessera_finished": [True], **temporary}


def save_pictures(
    pictures: list[Image.Image], prefix: str, key: str, notes: list[str], node: type[io.ComfyNode]
) -> ui.SavedImages:
    """Save PNGs to the output folder, each with a note under `key`, and with the workflow as ComfyUI's own nodes do.

    Raises:
        ValueError: another number of notes than pictures.
    """
    if len(pictures) != len(notes):
        raise ValueError(f"{len(pictures)} pictures and a canvas of {len(notes)}; connect those that belong together")
    output = folder_paths.get_output_directory()
    folder, name, number, subfolder, _ = folder_paths.get_save_image_path(prefix, output, *pictures[0].size)
    saved = []
    for picture, note in zip(pictures, notes, strict=True):
        file = f"{name}_{number + len(saved):05}_.png"
        with atomic_write(Path(folder) / file) as partial:
            picture.save(partial, pnginfo=png_info(key, note, node))
        saved.append(ui.SavedResult(file, subfolder, io.FolderType.output))
    return ui.SavedImages(saved)


def keeps_metadata() -> bool:
    """Whether pictures are to tell how they were made."""
    return not comfy.cli_args.args.disable_metadata


def png_info(key: str, note: str, node: type[io.ComfyNode]) -> PngInfo:
    """A note, and the workflow unless ComfyUI was started without metadata."""
    info = PngInfo()
    info.add_text(key, note)
    if keeps_metadata():
        workflow = {"prompt": node.hidden.prompt, **(node.hidden.extra_pnginfo or {})}
        for name, content in workflow.items():
            info.add_text(name, json.dumps(content))
    return info
