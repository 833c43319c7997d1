"""Published models in ComfyUI's model folders: found, fetched with bar and cancel, opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ...downloads.catalogue import Published, PublishedFile
from ...downloads.download import OnBytes
from ...downloads.fetch import fetch_model
from . import comfy
from .handles import BundleHandle, VQGANHandle, open_bundle, open_vqgan

FOLDERS = {"bundle": comfy.PRIOR_FOLDER, "vqgan": comfy.VQGAN_FOLDER, "clip": comfy.CLIP_FOLDER}
CLIP_HOME = "clip_vision"  # of the folders that are looked through for a CLIP, where a fetched one goes


class Opened(NamedTuple):
    """What a node gives of a published model; what it can't give stops the nodes behind with a sentence."""

    model: BundleHandle | comfy.Blocked
    vqgan: VQGANHandle | comfy.Blocked
    state: str  # whether it is here, in a line


def open_published(published: Published, fetch: bool) -> Opened:
    """Open a published model; fetch it first if it is lacking and asked for.

    Raises:
        ValueError: as `fetch_model`, or what the doors say of its files.
    """
    kind = FOLDERS[published.kind]
    name = published.files[0].name
    if comfy.missing_model(kind, name):
        folder = comfy.own_model_folder(CLIP_HOME if published.kind == "clip" else kind)
        if not fetch:
            blocked = comfy.Blocked(_how_to_get(published, folder))
            return Opened(blocked, blocked, _how_to_get(published, folder))
        fetch_model(published, folder, _with_bar)
    if published.kind == "clip":
        blocked = comfy.Blocked(f"{published.name} is a CLIP; press R and choose {name} in Load CLIP")
        return Opened(blocked, blocked, f"{name} is here; press R and choose it in Load CLIP")
    if published.kind == "bundle":
        model = open_bundle(name)
        return Opened(model, model.vqgan, f"{name} is in models/{kind}")
    blocked = comfy.Blocked(f"{published.name} is a VQGAN alone and paints nothing; choose a transformer")
    return Opened(blocked, open_vqgan(name), f"{name} is in models/{kind}")


def _how_to_get(published: Published, folder: Path) -> str:
    if all(file.addresses for file in published.files):
        return f"{published.name} is not here yet; turn on fetch in Download Model and run again"
    names = " and ".join(file.name for file in published.files)
    return f"{published.name} is not here yet; open {published.page} in a browser and save it as {names} in {folder}"


def _with_bar(file: PublishedFile) -> OnBytes:
    bar = comfy.Progress()
    comfy.say(f"Fetching {file.name}")
    return lambda done, total: bar.step(done, max(total or file.size, done))
