"""Other programs' files: what is found in them, and what broken and lying ones are told."""

import collections
import contextlib
import json
import os
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tessera.core.checkpoints.reader import open_checkpoint
from tessera.core.checkpoints.torch_format import PIECE
from tessera.tests.core.checkpoints.layouts.original_layout import write_lightning

STATE = {
    "encoder.weight": torch.arange(24.0).view(2, 3, 4),
    "half": torch.arange(6).half(),
    "brain": torch.arange(6).bfloat16(),
    "double": torch.arange(6).double(),
    "whole": torch.arange(5),
    "flags": torch.tensor([True, False]),
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 3),
    "turned": torch.arange(24.0).view(4, 6).t(),
    "slice": torch.arange(24.0).view(4, 6)[1:3, 2:5],
}


def write(path: Path, form: str, state: dict = STATE) -> Path:
    """`state` as a file: a plain state dict, or as Lightning has it, as zip or stream, or safetensors."""
    if form == "safetensors":
        save_file({n: t.contiguous() for n, t in state.items()}, path, {"format": "pt"})
    elif form.startswith("lightning"):
        write_lightning(path, state, older_format=form.endswith("stream"))
    else:
        torch.save(collections.OrderedDict(state), path, _use_new_zipfile_serialization=not form.endswith("stream"))
    return path


FORMS = ["plain zip", "plain stream", "lightning zip", "lightning stream", "safetensors"]


@pytest.mark.parametrize("form", FORMS)
def test_tensors_come_back_bit_for_bit(tmp_path, form):
    checkpoint = open_checkpoint(write(tmp_path / "a.ckpt", form))
    assert checkpoint.shapes == {name: tuple(tensor.shape) for name, tensor in STATE.items()}
    for name, tensor in STATE.items():
        found = checkpoint.read(name)
        assert found.dtype == tensor.dtype, name
        assert torch.equal(found, tensor), name
        assert found.is_contiguous(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_numbers_are_converted_as_they_arrive(tmp_path, dtype):
    """In pieces, the last one shorter; of a transposed view too; whole numbers stay what they are."""
    tensor = (torch.arange(2 * PIECE + 10).view(2, -1) % 251).to(dtype)
    torch.save({"a": tensor, "b": tensor.t()}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    wanted = torch.float32 if dtype.is_floating_point else dtype
    assert torch.equal(checkpoint.read_float32("a"), tensor.to(wanted))
    assert checkpoint.read_float32("b").dtype == wanted
    assert torch.equal(checkpoint.read_float32("b"), tensor.t().to(wanted))


@pytest.mark.parametrize("form", ["lightning zip", "lightning stream"])
def test_what_else_lightning_writes_is_named_and_set_aside(tmp_path, form):
    checkpoint = open_checkpoint(write(tmp_path / "a.ckpt", form))
    assert {"callbacks", "optimizer_states", "epoch", "hyper_parameters"} <= set(checkpoint.other_entries)
    assert "state_dict" not in checkpoint.other_entries


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_weights_are_found_where_programs_put_them(tmp_path, key):
    torch.save({key: {"a": torch.ones(2)}, "optimizer": {}}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert list(checkpoint.shapes) == ["a"]
    assert checkpoint.other_entries == ["optimizer"]


def test_parameters_are_tensors_too(tmp_path):
    torch.save({"a": torch.nn.Parameter(torch.ones(2)), "note": "hello"}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert torch.equal(checkpoint.read("a"), torch.ones(2))
    assert checkpoint.other_entries == ["note"]


def read_all(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    for name in checkpoint.shapes:
        checkpoint.read(name)


def refusal(path: Path) -> str:
    """The sentence that opening the file and reading all of it ends with."""
    with pytest.raises(ValueError, match=r"^\S") as caught:
        read_all(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("percent", range(0, 100, 10))
@pytest.mark.parametrize("form", FORMS)
def test_files_cut_short_are_refused(tmp_path, form, percent):
    state = {"a": torch.rand(1000), "b": torch.rand(1000)}
    path = write(tmp_path / "short.ckpt", form, state)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * percent // 100])
    refusal(path)


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path):
    path = write(tmp_path / "a.pt", "plain stream", {"a": torch.rand(1000)})
    checkpoint = open_checkpoint(path)
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(ValueError, match=r"a\.pt ends in the middle of a tensor"):
        checkpoint.read("a")


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x00" * 100, b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_files_of_another_kind_are_refused(tmp_path, content):
    (tmp_path / "odd.ckpt").write_bytes(content)
    refusal(tmp_path / "odd.ckpt")


def test_missing_files_and_folders_are_named(tmp_path):
    for path, reason in ((tmp_path / "none.ckpt", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(FileNotFoundError, match=f"{path.name} {reason}"):
            open_checkpoint(path)


@pytest.mark.parametrize("value", [[torch.ones(2)], torch.ones(2), 5, collections.Counter("a")])
def test_files_that_hold_no_tensors_by_name_are_refused(tmp_path, value):
    torch.save(value, tmp_path / "odd.pt")
    assert "not tensors by name" in refusal(tmp_path / "odd.pt")


# zip files that lie


def rezip(path: Path, change) -> None:
    """Let `change(name, content)` alter each entry's name, content and compression."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry in entries:
            for name, content, *compression in change(*entry):
                archive.writestr(name, content, *compression)


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    path = write(tmp_path / "bomb.pt", "plain zip", {"a": torch.rand(5)})
    rezip(path, lambda name, content: [(name, b"\0" * 10**8 if "/data/" in name else content, zipfile.ZIP_DEFLATED)])
    assert path.stat().st_size < 2**21
    assert "compressed, which torch never does" in refusal(path)


def test_names_that_lead_out_of_the_zip_lead_nowhere(tmp_path):
    path = write(tmp_path / "climbing.pt", "plain zip", {"a": torch.rand(5)})
    rezip(path, lambda name, content: [("../" * 9 + name, content)])
    refusal(path)
    path = write(tmp_path / "climbing.pt", "plain zip", {"a": torch.rand(5)})
    evil = [(f"../../{path.name}/evil", b"evil"), ("/etc/evil", b"evil")]
    rezip(path, lambda name, content: [(name, content), *(evil if "data.pkl" in name else [])])
    assert open_checkpoint(path).read("a").shape == (5,)
    assert [p.name for p in tmp_path.iterdir()] == ["climbing.pt"]


def test_a_zip_without_structure_or_with_two_is_refused(tmp_path):
    for number in (0, 2):
        path = write(tmp_path / "odd.pt", "plain zip", {"a": torch.rand(5)})
        with_pickles = [(f"{i}/data.pkl", b"}.") for i in range(number)]
        rezip(path, lambda name, content, new=with_pickles: new if "data.pkl" in name else [(name, content)])
        assert "no data.pkl" in refusal(path)


def test_a_missing_storage_is_named(tmp_path):
    path = write(tmp_path / "odd.pt", "plain zip", {"a": torch.rand(5)})
    rezip(path, lambda name, content: [] if name.endswith("data/0") else [(name, content)])
    assert "storage '0' is missing" in refusal(path)


def test_a_storage_shorter_than_its_tensor_is_refused(tmp_path):
    path = write(tmp_path / "odd.pt", "plain zip", {"a": torch.rand(500)})
    rezip(path, lambda name, content: [(name, content[:100] if name.endswith("data/0") else content)])
    assert "declares more numbers than its 100 bytes hold" in refusal(path)


@pytest.mark.parametrize("what", ["length", "offset", "directory"])
def test_a_zip_whose_directory_lies_is_refused(tmp_path, what):
    path = write(tmp_path / "odd.pt", "plain zip", {"a": torch.rand(500)})
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", content, end + 16)
    entry = content.index(b"data/0", directory) - len("odd/") - 46
    if what == "length":
        struct.pack_into("<II", content, entry + 20, 2**31, 2**31)
    elif what == "offset":
        struct.pack_into("<I", content, entry + 42, 2**31)
    else:
        struct.pack_into("<Q", content, content.rindex(b"PK\6\6") + 40, 2**31)
    path.write_bytes(content)
    refusal(path)


def sparse(path: Path, start: bytes, end: bytes = b"", size: int = 10 * 2**30) -> Path:
    """A file of 10 GB that takes next to no room."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
        file.seek(size - len(end))
        file.write(end)
    return path


def test_a_zip_with_a_directory_of_gigabytes_is_refused_unread(tmp_path):
    size, length = 10 * 2**30, 8 * 2**30
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**8, 10**8, length, 100)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, size - 22 - 20 - len(record), 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = sparse(tmp_path / "huge.ckpt", b"PK\x03\x04", record + locator + end)
    assert "structure alone claims" in refusal(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write(tmp_path / "secret.pt", "plain zip", {"a": torch.rand(5)})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the first entry, in its own header and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refusal(path)


# structures that lie


def pickled(shape: str, stride: str, *, first: int = 0, numbers: int = 4, name: str = "a") -> bytes:
    """A state dict of one tensor on storage 0, as protocol 0 writes it."""
    return (
        f"}}S'{name}'\nctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n"
        f"I{numbers}\ntQI{first}\n({shape}t({stride}tI00\nNtRs."
    ).encode()


def with_structure(path: Path, structure: bytes, storage: bytes = b"\0" * 16) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", structure)
        archive.writestr("archive/data/0", storage)
    return path


def test_the_structure_that_does_not_lie_is_read(tmp_path):
    path = with_structure(tmp_path / "good.pt", pickled("I2\nI2\n", "I2\nI1\n"))
    assert torch.equal(open_checkpoint(path).read("a"), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"shape": "I5\n", "stride": "I1\n"}, "claims 20 bytes of a storage of 16"),
        ({"shape": "I4\n", "stride": "I1\n", "first": 1}, "claims 20 bytes of a storage of 16"),
        ({"shape": "I2\n", "stride": "I9\n"}, "claims 40 bytes of a storage of 16"),
        ({"shape": "I1000000000\n", "stride": "I0\n"}, "repeats the 16 bytes"),
        ({"shape": "I4\nI4\n", "stride": "I1\nI0\n"}, "repeats the 16 bytes"),
        ({"shape": "I-4\n", "stride": "I1\n"}, "not made of whole numbers"),
        ({"shape": "I4\n", "stride": "I-1\n"}, "not made of whole numbers"),
        ({"shape": "I4\n", "stride": "I1\n", "first": -1}, "not made of whole numbers"),
        ({"shape": "F4\n", "stride": "I1\n"}, "not made of whole numbers"),
        ({"shape": "I01\n", "stride": "I1\n"}, "not made of whole numbers"),
        ({"shape": f"I{2**60}\n", "stride": "I1\n"}, "not made of whole numbers"),
        ({"shape": "I4\n", "stride": ""}, "not made of whole numbers"),
        ({"shape": "I1\n" * 9, "stride": "I1\n" * 9}, "9 dimensions"),
        ({"shape": "I4\n", "stride": "I1\n", "numbers": 10**12}, "declares more numbers"),
        ({"shape": "I4\n", "stride": "I1\n", "name": "a\\nb\\x1b[31m"}, "no program writes"),
        ({"shape": "I4\n", "stride": "I1\n", "name": "a" * 301}, "no program writes"),
    ],
)
def test_structures_that_lie_are_refused(tmp_path, lie, message):
    assert message in refusal(with_structure(tmp_path / "lying.pt", pickled(**lie)))


def test_many_tensors_on_one_storage_are_refused(tmp_path):
    shared = torch.zeros(10_000)
    torch.save({"first": shared, "condition": shared}, tmp_path / "twice.pt")
    assert len(open_checkpoint(tmp_path / "twice.pt").shapes) == 2
    torch.save({f"{i}": shared for i in range(1000)}, tmp_path / "often.pt")
    assert "its tensors claim 40000000 bytes" in refusal(tmp_path / "often.pt")


def test_more_tensors_than_any_model_has_are_refused(tmp_path):
    torch.save({f"{i}": torch.empty(0) for i in range(20_001)}, tmp_path / "many.pt")
    assert "20001 tensors" in refusal(tmp_path / "many.pt")


def test_a_stream_that_lies_about_its_storages_is_refused(tmp_path):
    path = write(tmp_path / "odd.pt", "plain stream", {"a": torch.rand(500)})
    whole = path.read_bytes()
    place = len(whole) - 500 * 4 - 8
    for number in (501, 2**62, -1):
        path.write_bytes(whole[:place] + struct.pack("<q", number) + whole[place + 8 :])
        assert "more than the file has left" in refusal(path)
    path.write_bytes(whole[:place] + struct.pack("<q", 3) + whole[place + 8 :])
    assert "declares more numbers than its 12 bytes hold" in refusal(path)


def test_a_bare_pickle_is_refused(tmp_path):
    (tmp_path / "bare.pkl").write_bytes(b"\x80\x04}.")
    assert "a bare pickle" in refusal(tmp_path / "bare.pkl")


def test_a_stream_of_gigabytes_is_not_read_to_its_end(tmp_path):
    start = b"\x80\x04\x8e" + (9 * 2**30).to_bytes(8, "little")  # one text of 9 GB
    refusal(sparse(tmp_path / "huge.ckpt", start))


# safetensors that lie


def with_header(path: Path, header: object, data: bytes = b"\0" * 16) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(start: int, end: int, shape: tuple[int, ...] = (4,), kind: str = "F32") -> dict:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(0, 16), "b": entry(0, 16)},
        {"a": entry(0, 16), "b": entry(8, 24)},
        {"a": entry(0, 1600, (400,))},
        {"a": entry(16, 0)},
        {"a": entry(0, 16, (5,))},
        {"a": entry(0, 16, (2**62, 4))},
        {"a": entry(-16, 0)},
        {"a": entry(4, 16, (3,))},
        {"a": entry(0, 16, (4,), "F33")},
        {"a": "b"},
        b'{"a":' + b"[" * 100_000,
        b"{" + b" " * 1000,
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}',
    ],
)
def test_safetensors_whose_header_lies_are_refused(tmp_path, header):
    refusal(with_header(tmp_path / "lying.safetensors", header))


@pytest.mark.parametrize("length", [17 * 2**20, 10 * 2**30, 2**63, 2**64 - 1])
def test_a_header_of_gigabytes_is_not_read(tmp_path, length):
    path = sparse(tmp_path / "huge.safetensors", length.to_bytes(8, "little") + b"{")
    assert f"claims {length} bytes" in refusal(path)


def test_a_header_that_says_two_things_reads_nothing_beyond_the_file(tmp_path):
    whole = json.dumps({"a": entry(0, 16)})[:-1]
    twice = f'{whole}, "a": {json.dumps(entry(0, 4 * 10**12, (10**12,)))}}}'.encode()
    reverse = f'{{"a": {json.dumps(entry(0, 4 * 10**12, (10**12,)))}, {whole[1:]}}}'.encode()
    for header in (twice, reverse):
        path = with_header(tmp_path / "twice.safetensors", header)
        with contextlib.suppress(ValueError):
            assert open_checkpoint(path).read("a").shape == (4,)


def test_safetensors_of_a_type_unknown_here_are_set_aside(tmp_path):
    save_file({"a": torch.ones(2), "b": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    assert list(checkpoint.shapes) == ["a"]
    assert checkpoint.other_entries == ["b"]
