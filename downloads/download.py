"""Fetch a file over https: resumable, checked, and under its name only when it is whole.

What has arrived lies beside the target as `.NAME.partial`; the same call goes on from there. Redirects may not
leave https. Certificates are checked against the system's, or those that SSL_CERT_FILE names.
"""

import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from .catalogue import PublishedFile

CHUNK = 2**20  # bytes
TIMEOUT = 30  # seconds without a byte
ROUNDING = 0.05  # how far a size may be from a published rounded one
GROWTH = 2  # how much larger a file in a zip may be than the zip: weights hardly shrink

OnBytes = Callable[[int, int], object]  # bytes so far, bytes in all (0 if unknown)


class HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects within https."""

    def redirect_request(self, request, file, code, message, headers, url):
        """The next request; ValueError if it would leave https."""
        check_https(url)
        return super().redirect_request(request, file, code, message, headers, url)


def check_https(url: str) -> None:
    """ValueError unless the address is https."""
    if urlsplit(url).scheme != "https":
        raise ValueError(f"{url} is not an https address, so what it sends could be altered on the way")


def download(file: PublishedFile, target: Path, on_bytes: OnBytes = lambda done, total: None) -> None:
    """Fetch `file` to `target` from the first of its addresses that has it, going on where an earlier one was cut off.

    Raises:
        ValueError: nowhere to be had: unreachable, cut off, of a wrong size or hash, or not enough room; one sentence.
            After a cut what has arrived is kept for the next call; what is wrong is not.
    """
    problems = []
    for url in file.addresses:
        try:
            download_from(replace(file, url=url, mirrors=()), target, on_bytes)
            return
        except ValueError as error:
            problems.append(error)
    others = f" ({len(problems) - 1} other addresses failed before)" if len(problems) > 1 else ""
    raise ValueError(f"{problems[-1]}{others}" if problems else f"{file.name} has no address") from problems[-1]


def download_from(file: PublishedFile, target: Path, on_bytes: OnBytes) -> None:
    """`download` from the one address `file.url`."""
    check_https(file.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        fetch(file, partial, on_bytes)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{place(file)} answers {error.code} {error.reason}; {by_hand(target)}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        kept = partial.stat().st_size if partial.exists() else 0
        rest = f"{kept} bytes are kept, the same command goes on" if kept else by_hand(target)
        raise ValueError(f"{place(file)} can't be reached or broke off ({reason}); {rest}") from error
    if not file.unpack:
        check_hash(file, partial)
        os.replace(partial, target)
        return
    unpacked = target.with_name(f".{target.name}.unpacked.partial")
    try:
        unpack(file, partial, unpacked)
        check_hash(file, unpacked)
        os.replace(unpacked, target)
    finally:
        unpacked.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def fetch(file: PublishedFile, partial: Path, on_bytes: OnBytes) -> None:
    """Make `partial` whole. ValueError for a wrong size; OSError and HTTPException as they come."""
    have = partial.stat().st_size if partial.exists() else 0
    if file.bytes and have > file.bytes:
        partial.unlink()
        have = 0
    if have and have == file.bytes:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "tessera"} | ({"Range": f"bytes={have}-"} if have else {})
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    opener = urllib.request.build_opener(https, HttpsOnly)
    try:
        answer = opener.open(urllib.request.Request(file.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if file.bytes:  # what is here is of another file, or it would have been enough
            partial.unlink()
            fetch(file, partial, on_bytes)
        return  # nothing follows what is here: it is whole
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server begins anew
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else 0
        check_size(file, total, partial)
        with partial.open("r+b" if have else "wb") as out:
            out.seek(have)
            while chunk := answer.read(CHUNK):
                have += len(chunk)
                if file.bytes and have > file.bytes:
                    check_size(file, have, partial)
                out.write(chunk)
                on_bytes(have, total)
        if total and have < total:
            raise ConnectionError(f"after {have} of {total} bytes")
        check_size(file, have, partial)


def check_size(file: PublishedFile, size: int, partial: Path) -> None:
    """ValueError, and nothing kept, if `size` bytes (0: unknown) can't be the file, or the disk lacks the room."""
    wrong = (file.bytes and size != file.bytes) or (
        file.megabytes and not file.unpack and abs(size / file.size - 1) > ROUNDING
    )
    if size and wrong:
        partial.unlink(missing_ok=True)
        raise ValueError(
            f"{place(file)} offers {size} bytes instead of {file.size}, so it is another file or an error page"
        )
    free = shutil.disk_usage(partial.parent).free + (partial.stat().st_size if partial.exists() else 0)
    if size > free:
        raise ValueError(f"{file.name} takes {size} bytes and {partial.parent} has {free} left; make room")


def check_hash(file: PublishedFile, partial: Path) -> None:
    """ValueError, and nothing kept, if the hash is known and another one."""
    if file.sha256 and (found := hash_of(partial)) != file.sha256:
        partial.unlink()
        raise ValueError(
            f"{file.name} arrived with SHA-256 {found} instead of {file.sha256}, so it was altered; removed"
        )


def hash_of(path: Path, on_bytes: OnBytes = lambda done, total: None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            on_bytes(done, total)
    return digest.hexdigest()


def unpack(file: PublishedFile, archive: Path, target: Path) -> None:
    """Take the one file `file.unpack` out of a zip, wherever it lies there; no other name is used.

    Raises:
        ValueError: no zip, no such file in it, or one that would grow beyond what weights can.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entry = next((e for e in zipped.infolist() if e.filename.split("/")[-1] == file.unpack), None)
            if entry is None:
                raise ValueError(f"{place(file)} sent a zip without {file.unpack}")
            if entry.file_size > GROWTH * archive.stat().st_size:
                raise ValueError(f"{file.unpack} in the zip claims {entry.file_size} bytes, too many for its size")
            with zipped.open(entry) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, CHUNK)
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{place(file)} sent no readable zip ({error})") from error


def place(file: PublishedFile) -> str:
    """The server, for messages."""
    return urlsplit(file.url).netloc


def by_hand(target: Path) -> str:
    """The way that always works."""
    return f"check the network, or fetch the file with a browser and save it as {target}"
