"""Pictures in tar files: written, listed, and streamed by any number of processes."""

import hashlib
import io
import itertools
import json
import logging
import tarfile
from collections import Counter
from pathlib import Path

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from tessera.__main__ import main
from tessera.training.config.runs import DataConfig
from tessera.training.data.codes import encode_views
from tessera.training.data.folder import identity, load_split
from tessera.training.engine.loop import make_accelerator
from tessera.training.shards import storage
from tessera.training.shards.manifest import Shard, find_shards, read_manifest, write_manifest
from tessera.training.shards.reading import ShardImages, ShardStream, endless_shards, picture_of, records
from tessera.training.shards.views import ShardViews
from tessera.training.stages.prior import load_codes, load_stages, load_views, train_prior
from tessera.training.stages.vqgan import train_vqgan


def color_of(number: int) -> tuple[int, int, int]:
    """A color that tells one picture from another also after resizing."""
    return (number * 10, 255 - number * 10, 100)


@pytest.fixture
def folder(tmp_path) -> Path:
    """24 pictures of one color each, in two folders, with captions and depth maps."""
    for number in range(24):
        path = tmp_path / "pictures" / f"class-{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), color_of(number)).save(path)
        path.with_suffix(".txt").write_text(f"number {number}", encoding="utf-8")
        depth = tmp_path / "depth" / f"class-{number % 2}" / f"{number:02d}.jpg"
        depth.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), number * 10).save(depth)
    return tmp_path / "pictures"


@pytest.fixture
def sharded(folder, tmp_path) -> Path:
    """`folder` as shards of four pictures."""
    shard(folder, tmp_path / "shards", "--maps", f"depth={tmp_path / 'depth'}")
    return tmp_path / "shards"


def shard(folder: Path, out: Path, *options: str) -> None:
    assert main(["data", "shard", str(folder), str(out), "--pictures", "4", "--validation", "0.2", *options]) == 0


def config(folder: object, **changes) -> DataConfig:
    return DataConfig(**{"folder": str(folder), "size": 16, "flip": False, "buffer": 3, **changes})


def number_of(view: torch.Tensor) -> int:
    return round(float((view[0].mean() + 1) * 127.5) / 10)


def stream(folder: Path, places: torch.Tensor, rank: int = 0, world: int = 1) -> ShardStream:
    return ShardStream(list(find_shards(str(folder), 0.1).learned), config(folder), 5, places, rank, world)


def test_shards_hold_pictures_maps_captions_and_the_split_of_the_folder(folder, sharded):
    shards = read_manifest((sharded / "manifest.json").read_text(), "manifest")
    found = {"train": {}, "held-out": {}}
    for some in shards:
        path = sharded / some.name
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == (some.bytes, some.sha256)
        inside = list(records(str(path)))
        assert len(inside) == some.items
        found[some.split] |= {json.loads(record["json"])["name"]: record for record in inside}
    wanted = load_split(config(folder, validation=0.2))
    for split, paths in zip(("train", "held-out"), wanted, strict=True):
        assert found[split].keys() == {path.relative_to(folder).as_posix() for path in paths}
        for path in paths:
            record = found[split][path.relative_to(folder).as_posix()]
            number = int(path.stem)
            assert record["png"] == path.read_bytes()
            assert record["txt"].decode() == f"number {number}"
            assert abs(Image.open(io.BytesIO(record["depth.jpg"])).getpixel((5, 5)) - number * 10) < 3
            assert json.loads(record["json"])["identity"] == identity(path, config(folder))


def test_workers_write_the_same_bytes_and_a_second_start_only_what_changed(folder, sharded, tmp_path):
    shard(folder, tmp_path / "two", "--maps", f"depth={tmp_path / 'depth'}", "--workers", "1")
    for path in sharded.glob("*.tar"):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()
    times = {path.name: path.stat().st_mtime_ns for path in sharded.glob("*.tar")}
    manifest = (sharded / "manifest.json").read_bytes()
    changed = read_manifest(manifest, "")[0]
    name = json.loads(next(records(str(sharded / changed.name)))["json"])["name"]
    (folder / name).with_suffix(".txt").write_text("another caption", encoding="utf-8")
    shard(folder, sharded, "--maps", f"depth={tmp_path / 'depth'}")
    written = {p.name for p in sharded.glob("*.tar") if p.stat().st_mtime_ns != times[p.name]}
    assert written == {changed.name}
    assert not (sharded / ".parts").exists()


def test_pictures_without_a_map_and_broken_ones_are_named_and_left_out(folder, tmp_path, caplog):
    broken, lonely = folder / "class-0" / "02.png", folder / "class-1" / "05.png"
    broken.write_bytes(broken.read_bytes()[:60])
    (tmp_path / "depth" / "class-1" / "05.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        shard(folder, tmp_path / "shards", "--maps", f"depth={tmp_path / 'depth'}")
    assert "class-0/02.png" in caplog.text
    assert "class-1/05.png: it has no map of depth" in " ".join(caplog.messages).replace(str(folder) + "/", "")
    assert sum(s.items for s in read_manifest((tmp_path / "shards" / "manifest.json").read_text(), "")) == 22
    assert lonely.exists()


def test_an_epoch_shows_every_picture_once_in_a_random_order(sharded):
    shards = find_shards(str(sharded), 0.1)
    places = torch.zeros(len(shards.learned), dtype=torch.int64)
    batches = endless_shards(stream(sharded, places), places, 1, 0)
    epochs = [[number_of(b["color"][0]) for b in itertools.islice(batches, shards.pictures)] for _ in range(2)]
    assert len(set(epochs[0])) == shards.pictures
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1] != sorted(epochs[1])


def test_workers_of_the_loader_read_shards_of_their_own(sharded):
    shards = find_shards(str(sharded), 0.1)
    places = torch.zeros(len(shards.learned), dtype=torch.int64)
    batches = endless_shards(stream(sharded, places), places, 2, 2)
    seen = Counter(number_of(view) for batch in itertools.islice(batches, shards.pictures) for view in batch["color"])
    assert len(seen) == shards.pictures
    assert max(seen.values()) <= 3  # twice, and again those of the worker that has less to read


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_another_number_of_processes_goes_on_with_what_is_unseen(sharded, before, after):
    total = find_shards(str(sharded), 0.1).pictures
    places, seen = torch.zeros(len(find_shards(str(sharded), 0.1).learned), dtype=torch.int64), []
    for world, count in ((before, 2), (after, 100)):
        start = places.clone()
        for rank in range(world):
            for item in itertools.islice(stream(sharded, start, rank, world), count):
                if item["place"][1] >= 2**40:  # the next epoch
                    break
                seen.append(number_of(item["color"]))
                places[item["place"][0]] = torch.maximum(places[item["place"][0]], item["place"][1])
    assert len(seen) == len(set(seen)) == total


def test_a_resumed_stream_goes_on_with_the_very_same_views(sharded):
    places = torch.zeros(len(find_shards(str(sharded), 0.1).learned), dtype=torch.int64)
    whole = list(itertools.islice(endless_shards(stream(sharded, places), places, 4, 0), 12))
    places.zero_()
    list(itertools.islice(endless_shards(stream(sharded, places), places, 4, 0), 7))
    resumed = itertools.islice(endless_shards(stream(sharded, places.clone()), places, 4, 0), 5)
    for wanted, found in zip(whole[7:], resumed, strict=True):
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_broken_records_and_a_cut_off_shard_are_named_and_skipped(sharded, caplog):
    shards = find_shards(str(sharded), 0.1)
    first = Path(shards.learned[0])
    with tarfile.open(first) as tar:
        members = [(m, tar.extractfile(m).read()) for m in tar]
    with tarfile.open(first, "w") as tar:
        for member, content in members:
            content = b"nonsense" if member.name.endswith("0000.png") else content
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    second = Path(shards.learned[1])
    with tarfile.open(second) as tar:
        cut = tar.getmembers()[-3].offset_data + 10
    second.write_bytes(second.read_bytes()[:cut])
    places = torch.zeros(len(shards.learned), dtype=torch.int64)
    epoch = itertools.takewhile(lambda item: item["place"][1] < 2**40, stream(sharded, places))
    seen = [number_of(item["color"]) for item in epoch]
    assert shards.pictures - 4 <= len(set(seen)) == len(seen) < shards.pictures
    assert f"skipped {first.stem}-000000" in caplog.text
    assert f"{second} is broken" in caplog.text


class FailingStorage(MemoryFileSystem):
    """Memory whose files can't be read the first two times after every success."""

    protocol = "failing"
    failures = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("failing://", "memory://"))

    def _open(self, path, *arguments, **options):
        FailingStorage.failures += 1
        if FailingStorage.failures % 3:
            raise TimeoutError("no answer")
        return super()._open(path, *arguments, **options)


def test_a_run_learns_from_storage_that_fails_at_times(sharded, tiny_run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(storage, "FIRST_PAUSE", 0.0)
    fsspec.register_implementation("failing", FailingStorage, clobber=True)
    for path in [*sharded.glob("*.tar"), sharded / "manifest.json"]:
        fsspec.filesystem("memory").pipe(f"/photos/{path.name}", path.read_bytes())
    run = tiny_run(data={"folder": "failing://photos", "size": 16, "buffer": 2}, loop={"steps": 6, "batch": 4})
    assert train_vqgan(run)
    assert "no answer; trying again" in caplog.text
    places = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["extra_state"]["places"]
    shards = read_manifest((sharded / "manifest.json").read_text(), "")
    items = torch.tensor([shard.items for shard in shards if shard.split == "train"])
    assert (places // 2**40 * items + places % 2**40).sum() == 6 * 4
    with pytest.raises(OSError, match=r"none\.tar"):
        list(records("failing://photos/none.tar"))


def test_a_pattern_of_any_tar_files_holds_out_the_last(sharded):
    numbered = sorted(sharded.glob("train-*.tar"))
    found = find_shards(str(sharded / "train-*.tar"), 0.1)
    names = [Path(a).name for a in (*found.learned, *found.held_out)]
    assert names == [path.name for path in numbered]
    assert len(found.held_out) == 1
    views = ShardImages(list(found.held_out), config(sharded, max_validation=2))
    assert len(views) == 2
    wanted = picture_of(next(records(str(numbered[-1])))).getpixel((3, 3))
    assert number_of(views[0, 0]["color"]) == round(wanted[0] / 10)
    with pytest.raises(ValueError, match="1 shards for 2 processes"):
        ShardStream([str(numbered[0])], config(sharded), 0, torch.zeros(1), 0, 2)


def test_a_manifest_that_leads_elsewhere_or_is_none_is_refused(tmp_path):
    row = Shard(name="a.tar", split="train", items=1, bytes=1, sha256="", made_from="")
    write_manifest(tmp_path, [row])
    text = (tmp_path / "manifest.json").read_text()
    assert read_manifest(text, "m") == [row]
    for wrong in (text.replace("a.tar", "../a.tar"), text[:-9], text.replace('"items": 1', '"items": -1'), "[]", "{}"):
        with pytest.raises(ValueError, match="m is no list of shards"):
            read_manifest(wrong, "m")


@pytest.mark.parametrize("kind", ["none", "edges"])
def test_a_prior_is_given_the_codes_of_pictures_in_shards(folder, sharded, prior_run, stages, tmp_path, kind):
    data = {"folder": str(sharded), "size": 32, "max_validation": 3, "neighbors": 0.5}
    condition = {"kind": kind} | ({"vqgan": stages["edges"], "dropout": 0.2} if kind == "edges" else {})
    run = prior_run(data=data, condition=condition, views=2, loop={"steps": 2})
    accelerator = make_accelerator(run.loop)
    opened, views = load_stages(run, accelerator), load_views(run)
    train_set, held_out = load_codes(run, views, accelerator, *opened)
    shards = read_manifest((sharded / "manifest.json").read_text(), "")
    assert len(train_set) == sum(some.items for some in shards if some.split == "train")
    assert len(held_out) == 3
    direct = encode_views(views[0], 2, run, *opened)  # in another order
    assert torch.equal(train_set.cells.int(), direct[0])
    assert torch.equal(train_set.condition.int(), direct[1])
    assert (train_set.unconditional is not None) == (kind == "edges")
    if kind == "none":
        assert train_prior(run)
        assert (tmp_path / "prior" / "bundle.safetensors").exists()


def test_views_of_shards_are_those_of_the_pictures_in_them(sharded):
    shards = find_shards(str(sharded), 0.1)
    views = ShardViews(shards.learned, shards.counts, config(sharded), 0, False)
    wanted = [picture_of(record).getpixel((9, 9)) for shard in shards.learned for record in records(shard)]
    shown = [views[0, i]["color"][:, 8, 8] for i in range(len(views))]
    assert [tuple(((color + 1) * 127.5).round().int().tolist()) for color in shown] == wanted
    assert [index for part in views.parts() for index in part] == list(range(len(views)))


def test_shards_that_a_prior_can_not_be_told_of_are_refused(sharded, prior_run):
    classes = prior_run(data={"folder": str(sharded)}, condition={"kind": "class"})
    with pytest.raises(ValueError, match=r"condition\.kind is class, which is told of single files; give a folder"):
        load_views(classes)
    uncounted = prior_run(data={"folder": f"{sharded}/train-*.tar"}, condition={"kind": "none"})
    with pytest.raises(ValueError, match="has no manifest that says how many pictures there are"):
        load_views(uncounted)
