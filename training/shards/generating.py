"""Pictures of a model in any number, as shards that any number of processes write together."""

import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ...core.bundle import Bundle, SampleResult
from ...core.conditions.edges import canny
from ...core.conditions.maps import depth
from ...core.images.io import to_pil, to_tensor, unpack_image
from ...core.images.resize import fit_square
from ...core.provenance import origin, weights_fingerprint
from ...core.sampling.settings import SamplingSettings
from ...core.sampling.windows import EXACT
from ..engine.distributed import rank_and_world
from .manifest import Shard, find_shards, write_manifest
from .reading import picture_of, records
from .writing import PARTS, kept_or_written, shards_done, tidy


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make: picture i has the seed `seed + i`, and of `labels`, or of the pictures in `guides`, number i,
    beginning again where there are no more."""

    number: int
    seed: int = 0
    settings: SamplingSettings
    labels: tuple[int, ...] = ()
    guides: str = ""  # address of shards
    batch: int = 16
    shard_items: int = 1000
    kind: str = "png"  # or "webp", which is lossless, too, and smaller

    def __post_init__(self):
        for name in ("number", "batch", "shard_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.kind not in ("png", "webp"):
            raise ValueError(f"format is {self.kind!r}; choose png or webp")


def generate(bundle: Bundle, order: Order, output: Path) -> list[str]:
    """Make the pictures that are not there yet. Every process makes whole shards, and every shard is made in the same
    batches, so its bytes don't depend on how many processes there are.

    Returns:
        The names of all shards, those of other processes too.
    Raises:
        ValueError: the bundle is not guided by what is given.
    """
    check_guidance(bundle, order)
    rank, world = rank_and_world()
    done, facts = shards_done(output), made_from(bundle, order)
    (output / PARTS).mkdir(parents=True, exist_ok=True)
    spans = spans_of(order)
    with tqdm(total=order.number, desc="generating", unit="picture", disable=None if rank == 0 else True) as bar:
        for name in list(spans)[rank::world]:
            span = spans[name]
            text = hashlib.sha256(f"{facts} {span}".encode()).hexdigest()
            kept_or_written(
                output / name, "train", text, done.get(name), lambda path, s=span: write(path, bundle, order, s, bar)
            )
    return list(spans)


def spans_of(order: Order) -> dict[str, range]:
    """The numbers of the pictures in each shard."""
    starts = range(0, order.number, order.shard_items)
    return {
        f"made-{number:06d}.tar": range(start, min(start + order.shard_items, order.number))
        for number, start in enumerate(starts)
    }


def finish(output: Path, names: list[str]) -> list[Shard]:
    """Write the manifest when all processes are done."""
    done = shards_done(output)
    shards = [done[name] for name in names]
    write_manifest(output, shards)
    tidy(output, set(names))
    return shards


def check_guidance(bundle: Bundle, order: Order) -> None:
    """Raise ValueError unless the order gives what the model is guided by."""
    kind, free = bundle.condition_config.kind, bundle.condition_config.unconditional
    if kind == "class" and not (order.labels or free):
        raise ValueError(f"this model paints classes; give --classes 0-{bundle.condition_config.labels - 1}, or some")
    if kind in ("edges", "depth", "low-resolution") and not (order.guides or (free and kind == "edges")):
        raise ValueError(f"this model is guided by {kind}; give --guides SHARDS, the address of pictures to take it of")
    if kind not in ("class", "edges", "depth", "low-resolution", "none"):
        raise ValueError(
            f"this model is guided by {kind}; only classes, edges, depth and low-resolution can be generated"
        )
    if (order.labels and kind != "class") or (order.guides and kind in ("class", "none")):
        raise ValueError(f"this model is guided by {kind}; leave out {'--classes' if order.labels else '--guides'}")


def made_from(bundle: Bundle, order: Order) -> str:
    """All that decides the pictures but their number."""
    guides = find_shards(order.guides, 0.0).fingerprint if order.guides else ""
    parts = [
        weights_fingerprint(part) for part in (bundle.prior, bundle.vqgan, bundle.condition_vqgan) if part is not None
    ]
    return f"{parts} {order.seed} {order.settings} {order.labels} {guides} {order.batch} {order.kind}"


def write(path: Path, bundle: Bundle, order: Order, span: range, bar: tqdm) -> int:
    """Make the pictures of one shard."""
    from webdataset import TarWriter

    prior, vqgan = (weights_fingerprint(part) for part in (bundle.prior, bundle.vqgan))
    told = guides_of(bundle, order, span)
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
        for first in range(span.start, span.stop, order.batch):
            count = min(order.batch, span.stop - first)
            made = sample(bundle, order, first, count, told)
            codes = made.canvas.indices.numpy()
            for i, image in enumerate(to_pil(made.images)):
                facts = {"vqgan": vqgan, **json.loads(origin(prior, order.seed + first + i, order.settings, EXACT))}
                if order.labels:
                    facts["label"] = order.labels[(first + i) % len(order.labels)]
                record = {order.kind: encoded(image, order.kind), "codes.npy": as_npy(codes[i])}
                tar.write({"__key__": f"{first + i:09d}", **record, "json": json.dumps(facts).encode()})
            bar.update(count)
    return len(span)


@torch.inference_mode()
def sample(bundle: Bundle, order: Order, first: int, count: int, told: Iterator[Tensor]) -> SampleResult:
    """Pictures `first` to `first + count - 1`."""
    settings = {"temperature": order.settings.temperature, "top_k": order.settings.top_k, "top_p": order.settings.top_p}
    settings |= {"min_p": order.settings.min_p, "guidance_scale": order.settings.guidance_scale}
    given = None
    if order.labels:
        given = torch.tensor([order.labels[(first + i) % len(order.labels)] for i in range(count)])
    elif order.guides:
        given = torch.cat(list(itertools.islice(told, count)))
    repeats = count if given is None else 1
    return bundle.sample(given, batch=repeats, seed=order.seed + first, **settings)


def guides_of(bundle: Bundle, order: Order, span: range) -> Iterator[Tensor]:
    """What guides the pictures of a shard, one after another: [1, C, H, W] each."""
    if not order.guides:
        return
    shards = find_shards(order.guides, 0.0)
    addresses, total = list(shards.learned), shards.pictures
    if total is None:
        raise ValueError(f"--guides {order.guides} has no manifest; give the address of a folder with manifest.json")
    source = itertools.chain.from_iterable(records(address) for _ in itertools.count() for address in addresses)
    for record in itertools.islice(source, span.start % total, None):
        yield guide_of(bundle, record)


def guide_of(bundle: Bundle, record: dict) -> Tensor:
    """What a record says to a bundle."""
    kind, factor = bundle.condition_config.kind, bundle.condition_config.factor
    if kind == "depth":
        found = [content for ending, content in record.items() if ending.startswith("depth.")]
        if not found:
            raise ValueError(f"{record['__key__']} of {record['__url__']} has no map of depth")
        return depth(fit_square(to_tensor(unpack_image(io.BytesIO(found[0]), record["__key__"])), bundle.image_size))
    picture = to_tensor(picture_of(record))
    if kind == "low-resolution":
        return fit_square(picture, bundle.image_size // factor)
    return canny(fit_square(picture, bundle.image_size))


def encoded(image: Image.Image, kind: str) -> bytes:
    """A picture file without loss."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"lossless": True} if kind == "webp" else {}))
    return buffer.getvalue()


def as_npy(codes: np.ndarray) -> bytes:
    """Codes [h, w] as a .npy file, of two bytes each where that is enough."""
    buffer = io.BytesIO()
    np.save(buffer, codes.astype(np.uint16 if codes.max() < 2**16 else np.int32))
    return buffer.getvalue()
