"""The published models that load as they are: `released_models.yaml` as dataclasses, and which are at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from ..core.inspection import ModelInfo

CATALOGUE = Path(__file__).parent / "released_models.yaml"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a published model; what is not known is 0 or empty."""

    name: str  # below a model folder
    url: str = ""
    mirrors: tuple[str, ...] = ()  # other addresses of the same bytes; only where their hash is known
    bytes: int = 0
    megabytes: int = 0  # a rounded size, 10^6 bytes
    sha256: str = ""
    unpack: str = ""  # the file in a zip behind the url

    def __post_init__(self):
        object.__setattr__(self, "mirrors", tuple(self.mirrors))
        if self.mirrors and not self.sha256:
            raise ValueError(f"{self.name} has mirrors but no hash to check them by; give its sha256")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it can be had, the first one first."""
        return (*filter(None, [self.url]), *self.mirrors)

    @property
    def size(self) -> int:
        """Bytes, exact or rounded; 0 if unknown."""
        return self.bytes or self.megabytes * 10**6


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published model."""

    name: str
    about: str
    page: str
    license: str
    kind: str  # "vqgan", "bundle" or "clip"
    files: tuple[PublishedFile, ...]  # the weights first
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What it is, how large, under which licence, from where, and the hash of its weights, in lines."""
        weights = self.files[0]
        size = f"{weights.size / 1e6:.0f} MB" if weights.size else "size unknown"
        checked = f"SHA-256 {weights.sha256}" if weights.sha256 else "no hash is published, so its layout is checked"
        return f"{self.about}; {size}\nLicence of the weights: {self.license}\nFrom {self.page}\n{checked}"

    def found_in(self, folders: list[Path]) -> Path | None:
        """Its weights in one of the folders or below; None if they are not there."""
        name = self.files[0].name
        for folder in folders:
            if found := sorted(path for path in folder.glob(f"**/{name}") if path.is_file()):
                return found[0]
        return None


def read_catalogue(path: Path = CATALOGUE) -> dict[str, Published]:
    """All published models by name."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Published(name=name, **{**entry, "files": tuple(PublishedFile(**file) for file in entry["files"])})
        for name, entry in tree.items()
    }


def differences(published: Published, contents: ModelInfo) -> list[str]:
    """Where a file differs from what its catalogue entry says about it, in words."""
    network = contents.configs["clip" if contents.kind == "clip" else "vqgan"]
    has = {**vars(network), "kind": contents.kind, "stride": getattr(network, "stride", None)}
    if contents.condition:
        has |= {"condition": contents.condition.kind, "labels": contents.condition.labels}
    wanted = {"kind": published.kind, **published.config}
    return [f"{key} is {has.get(key)}, not {value}" for key, value in wanted.items() if has.get(key) != value]


def license_of(sha256: str) -> str:
    """The license that the catalogue gives for a file of this hash; empty if it knows none."""
    for published in read_catalogue().values():
        if any(file.sha256 == sha256 for file in published.files):
            return published.license
    return ""
