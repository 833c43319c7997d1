"""How near made pictures come to real ones: FID, KID, precision and recall in Inception's features, by
torch-fidelity."""

import itertools
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...core.images.io import open_image, to_tensor
from ...core.images.resize import fit_square
from ...core.storage.fingerprint import fingerprint
from ..config.runs import DataConfig
from ..data.folder import find_images
from ..shards.manifest import find_shards, is_sharded
from ..shards.reading import picture_of, records

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
MIN_PICTURES = 20  # precision and recall look at the third nearest neighbor; far more are needed to mean anything
NAMES = {
    "frechet_inception_distance": "fid",
    "kernel_inception_distance_mean": "kid",
    "kernel_inception_distance_std": "kid_deviation",
    "precision": "precision",
    "recall": "recall",
}


class PicturesInOrder(Dataset):
    """The pictures of shards or of a folder as uint8 [3, side, side], asked for one after another."""

    def __init__(self, address: str, side: int):
        self.address, self.side = address, side
        if is_sharded(address):
            shards = find_shards(address, 0.0)
            if shards.pictures is None:
                raise ValueError(f"{address} has no manifest; give the address of a folder with manifest.json")
            self.addresses, self.length, self.made_from = shards.learned, shards.pictures, shards.fingerprint
        else:
            self.paths = find_images(DataConfig(folder=address))
            self.addresses, self.length = (), len(self.paths)
            self.made_from = str([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths])
        if self.length < MIN_PICTURES:
            raise ValueError(f"{address} holds {self.length} pictures; at least {MIN_PICTURES} can be compared")
        self.reading, self.at = self.read(), 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        if index != self.at:  # from the beginning, as for another metric
            self.reading, self.at = itertools.islice(self.read(), index, None), index
        self.at += 1
        return next(self.reading)

    def read(self) -> Iterator[Tensor]:
        """All of them."""
        if self.addresses:
            pictures = (picture_of(record) for address in self.addresses for record in records(address))
        else:
            pictures = map(open_image, self.paths)
        for picture in pictures:
            yield ((fit_square(to_tensor(picture), self.side)[0] + 1) * 127.5).round().clamp(0, 255).byte()


def inception_weights() -> Path:
    """Where torch keeps the network's weights, if they were ever fetched."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def compare_pictures(made: str, reference: str, side: int, batch: int, inception: Path | None) -> dict[str, float]:
    """Figures of made pictures beside real ones; features of the real ones are kept for the next time.

    Args:
        made, reference: addresses of shards, or folders of pictures.
        side: pixels at which they are compared.
        inception: file of the network's weights; None looks where torch keeps such files.
    Raises:
        ValueError: too few pictures, no weights, or a file that holds something else.
    """
    from torch_fidelity import calculate_metrics

    weights = inception or inception_weights()
    identity = check_weights(weights)
    ours, theirs = PicturesInOrder(made, side), PicturesInOrder(reference, side)
    size = min(len(ours), len(theirs))
    figures = calculate_metrics(
        input1=ours, input2=theirs, input2_cache_name=f"tessera-{fingerprint(theirs.made_from, side, identity)[:32]}",
        cuda=torch.cuda.is_available(), batch_size=batch, save_cpu_ram=True, verbose=False,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=os.fspath(weights),
        fid=True, kid=True, prc=True, kid_subset_size=min(1000, size),
    )  # fmt: skip
    return {NAMES[name]: float(value) for name, value in figures.items() if name in NAMES}


def check_weights(path: Path) -> str:
    """What tells the file from others; ValueError unless it is there and holds tensors alone, since torch-fidelity
    unpickles whatever it is given."""
    if not path.is_file():
        raise ValueError(
            f"FID needs the Inception weights of torch-fidelity, {path} does not exist; fetch {WEIGHTS} from its "
            "release v0.2.0 to there, or name the file by --inception"
        )
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return fingerprint(tensors["fc.weight"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
        raise ValueError(
            f"{path} holds something else than Inception's weights; give {WEIGHTS} of torch-fidelity's release v0.2.0"
        ) from error
