"""Fetching over https from a server of our own on 127.0.0.1, whose certificate the environment vouches for.

SSL_CERT_FILE names the certificates to trust in place of the system's, for Python as for many programs; so the
server needs no exception in the code.
"""

import hashlib
import io
import shutil
import socket
import ssl
import subprocess
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tessera.downloads.catalogue import PublishedFile
from tessera.downloads.download import download, hash_of

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the server's certificate")

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; breaks off after `cut` bytes of an answer; notes each request's Range."""

    content, cut, ranges, accepts_ranges, says_length = CONTENT, None, True, True, True
    redirect = ""

    def __init__(self, address, handler):
        super().__init__(address, handler)
        self.asked: list[str] = []

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server
        wanted = self.headers.get("Range", "")
        server.asked.append(wanted)
        if self.path == "/missing":
            return self.send_error(404)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            return self.end_headers()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.accepts_ranges else 0
        if start and start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(body if server.cut is None else body[: server.cut])
        return None

    def log_message(self, format, *args) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate and key for 127.0.0.1 that nobody else knows."""
    folder = tmp_path_factory.mktemp("certificate")
    extensions = ("subjectAltName=IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "certificate.pem"]  # fmt: skip
    for extension in extensions:
        command += ["-addext", extension]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem", folder / "key.pem"


def start(certificate) -> Server:
    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def server(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = start(certificate)
    yield server
    server.shutdown()
    server.server_close()


def published(server: Server, path: str = "/file", **known) -> PublishedFile:
    return PublishedFile(name="a.ckpt", url=f"https://127.0.0.1:{server.server_port}{path}", **known)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "known", [{}, {"sha256": SHA256}, {"bytes": len(CONTENT)}, {"megabytes": 1, "sha256": SHA256},
              {"bytes": len(CONTENT), "sha256": SHA256}],
)  # fmt: skip
def test_a_file_arrives_whole_under_its_name_alone(server, tmp_path, known):
    told = []
    if "megabytes" in known:
        server.content = CONTENT[:990_000]
        known = known | {"sha256": hashlib.sha256(server.content).hexdigest()}
    download(published(server, **known), tmp_path / "new" / "a.ckpt", lambda done, total: told.append((done, total)))
    assert (tmp_path / "new" / "a.ckpt").read_bytes() == server.content
    assert names(tmp_path / "new") == ["a.ckpt"]
    assert told[-1] == (len(server.content), len(server.content))


def test_a_server_that_tells_no_length_is_served_too(server, tmp_path):
    server.says_length = False
    download(published(server, sha256=SHA256), tmp_path / "a.ckpt")
    assert hash_of(tmp_path / "a.ckpt") == SHA256


@pytest.mark.parametrize("known", [{}, {"sha256": SHA256, "bytes": len(CONTENT)}])
def test_after_a_cut_the_same_call_goes_on(server, tmp_path, known):
    file, target = published(server, **known), tmp_path / "a.ckpt"
    server.cut = 500_000
    with pytest.raises(
        ValueError, match=r"broke off \(after 500000 of 1280000 bytes\); 500000 bytes are kept, the same"
    ):
        download(file, target)
    assert names(tmp_path) == [".a.ckpt.partial"]
    with pytest.raises(ValueError, match="1000000 bytes are kept"):
        download(file, target)
    server.cut = None
    download(file, target)
    assert server.asked == ["", "bytes=500000-", "bytes=1000000-"]
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["a.ckpt"]


def test_a_server_that_can_not_go_on_begins_anew(server, tmp_path):
    (tmp_path / ".a.ckpt.partial").write_bytes(b"x" * 1000)
    server.accepts_ranges = False
    download(published(server, sha256=SHA256), tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT


def test_what_was_whole_already_is_not_fetched_again(server, tmp_path):
    for known in ({"bytes": len(CONTENT), "sha256": SHA256}, {"sha256": SHA256}, {}):
        (tmp_path / ".a.ckpt.partial").write_bytes(CONTENT)
        download(published(server, **known), tmp_path / "a.ckpt")
        assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"] * 2


def test_too_much_of_another_file_is_begun_anew(server, tmp_path):
    (tmp_path / ".a.ckpt.partial").write_bytes(CONTENT + b"x")
    download(published(server, bytes=len(CONTENT)), tmp_path / "a.ckpt")
    assert server.asked == [""]


def test_a_wrong_hash_leaves_nothing(server, tmp_path):
    with pytest.raises(ValueError, match=rf"arrived with SHA-256 {SHA256} instead of {'0' * 64}, so it was altered"):
        download(published(server, sha256="0" * 64), tmp_path / "a.ckpt")
    assert names(tmp_path) == []


@pytest.mark.parametrize("known", [{"bytes": 5}, {"bytes": len(CONTENT) + 1}, {"megabytes": 980}])
@pytest.mark.parametrize("says_length", [True, False])
def test_a_wrong_size_leaves_nothing(server, tmp_path, known, says_length):
    server.says_length = says_length
    with pytest.raises(ValueError, match=r"offers \d+ bytes instead of \d+, so it is another file or an error page"):
        download(published(server, **known), tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_an_old_file_stays_until_the_new_one_is_whole(server, tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"old")
    with pytest.raises(ValueError, match="instead of"):
        download(published(server, sha256="0" * 64), tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == b"old"
    download(published(server, sha256=SHA256), tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT


def test_more_than_the_disk_holds_is_refused_before_it_is_fetched(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"takes 1280000 bytes and .* has 1000 left; make room"):
        download(published(server), tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_a_page_that_is_not_there_is_said(server, tmp_path):
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:\d+ answers 404 Not Found; .* with a browser and save it as"):
        download(published(server, "/missing"), tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_a_refused_connection_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        file = PublishedFile(name="a.ckpt", url=f"https://127.0.0.1:{taken.getsockname()[1]}/a")
        with pytest.raises(ValueError, match=r"can't be reached or broke off \(.*refused.*\); check the network"):
            download(file, tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_no_network_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    file = PublishedFile(name="a.ckpt", url="https://nowhere.invalid/a")
    with pytest.raises(ValueError, match=r"nowhere\.invalid can't be reached .*; check the network, or fetch the file"):
        download(file, tmp_path / "a.ckpt")


def test_a_certificate_that_nobody_vouches_for_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ValueError, match=r"can't be reached or broke off \(.*certificate.*\)"):
        download(published(server), tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_only_https_is_spoken(server, tmp_path):
    for url in ("http://127.0.0.1/a", "file:///etc/passwd", "ftp://127.0.0.1/a"):
        with pytest.raises(ValueError, match="is not an https address"):
            download(PublishedFile(name="a.ckpt", url=url), tmp_path / "a.ckpt")
    plain = start(None)
    server.redirect = f"http://127.0.0.1:{plain.server_port}/file"
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:\d+/file is not an https address"):
        download(published(server), tmp_path / "a.ckpt")
    assert plain.asked == []
    plain.shutdown()
    plain.server_close()
    assert names(tmp_path) == []


def test_a_redirect_within_https_is_followed(server, certificate, tmp_path):
    other = start(certificate)
    server.redirect = f"https://127.0.0.1:{other.server_port}/file"
    download(published(server, sha256=SHA256), tmp_path / "a.ckpt")
    assert hash_of(tmp_path / "a.ckpt") == SHA256
    other.shutdown()
    other.server_close()


# zips


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_the_one_file_wanted_is_taken_out_of_a_zip(server, tmp_path):
    server.content = zipped({"../../evil.ckpt": b"evil", "vq-f4/model.ckpt": CONTENT, "/etc/evil": b"evil"})
    download(published(server, unpack="model.ckpt", sha256=SHA256), tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.ckpt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"other.ckpt": b"x"}), r"sent a zip without model\.ckpt"),
        (b"no zip at all", "sent no readable zip"),
        (zipped({"model.ckpt": CONTENT})[:-30], "sent no readable zip"),
        (zipped({"model.ckpt": b"\0" * 10**7}, zipfile.ZIP_DEFLATED), r"claims 10000000 bytes, too many"),
        (zipped({"model.ckpt": b"other"}), "arrived with SHA-256"),
    ],
)
def test_a_zip_that_is_not_what_it_should_be_leaves_nothing(server, tmp_path, content, message):
    server.content = content
    with pytest.raises(ValueError, match=message):
        download(published(server, unpack="model.ckpt", sha256=SHA256), tmp_path / "a.ckpt")
    assert names(tmp_path) == []


def test_addresses_are_tried_in_turn_and_what_they_send_is_checked(server, tmp_path):
    good = published(server)
    broken, cut = f"https://127.0.0.1:{server.server_port}/missing", "https://nowhere.invalid/a"
    content_hash = hashlib.sha256(CONTENT).hexdigest()
    file = replace(good, url=broken, sha256=content_hash, mirrors=(cut, good.url))
    download(file, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    alone = PublishedFile(name="b.ckpt", sha256=content_hash, mirrors=(good.url,))
    download(alone, tmp_path / "b.ckpt")
    assert (tmp_path / "b.ckpt").read_bytes() == CONTENT
    with pytest.raises(ValueError, match=r"SHA-256 .* other addresses failed before"):
        download(replace(file, sha256="0" * 64), tmp_path / "c.ckpt")
    assert names(tmp_path) == ["a.ckpt", "b.ckpt"]


def test_mirrors_without_a_hash_are_refused():
    with pytest.raises(ValueError, match="no hash to check them by"):
        PublishedFile(name="a.ckpt", mirrors=("https://127.0.0.1/a",))
