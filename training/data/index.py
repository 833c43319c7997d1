"""What is known of the files of a folder of pictures, so that they are opened the first time only."""

import hashlib
import json
import logging
from pathlib import Path

from ...core.storage.atomic import atomic_write

NAME = "pictures.json"

logger = logging.getLogger("tessera")


class PictureIndex:
    """Of each usable picture its size in bytes, when it was last changed, and, where somebody asked, the SHA-256 of
    what is in it. A file whose size or time is another one is a new file.

    Args:
        folder: where the index is kept; None keeps none.
    """

    def __init__(self, folder: str | Path | None = None):
        self.path = Path(folder) / NAME if folder is not None else None
        self.files: dict[str, list] = {}
        self.changed = False
        try:
            self.files = json.loads(self.path.read_text("utf-8")) if self.path and self.path.is_file() else {}
        except (OSError, ValueError):  # broken: it is made anew
            logger.warning("%s can't be read; all pictures are looked at again", self.path)

    def knows(self, path: Path) -> bool:
        """Whether a file is as it was when it was added."""
        return self.files.get(str(path), [])[:2] == stamp(path)

    def add(self, path: Path) -> None:
        """Note that a file is a usable picture."""
        self.files[str(path)] = [*stamp(path), ""]
        self.changed = True

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file's content; "missing" if it is gone."""
        try:
            if not self.knows(path):
                self.add(path)
            entry = self.files[str(path)]
            if not entry[2]:
                entry[2] = hashlib.sha256(path.read_bytes()).hexdigest()
                self.changed = True
        except OSError:  # whoever reads the picture says so
            return "missing"
        return entry[2]

    def save(self) -> None:
        """Write it if there is news; where it can't be written, the next start takes longer."""
        if not (self.path and self.changed):
            return
        try:
            with atomic_write(self.path) as partial:
                partial.write_text(json.dumps(self.files), encoding="utf-8")
            self.changed = False
        except OSError as error:
            logger.warning("%s can't be written (%s); the next start looks at all pictures again", self.path, error)


def stamp(path: Path) -> list[int]:
    """What tells a changed file from the one before: bytes and time."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]
