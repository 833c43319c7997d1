import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.training.config.runs import DataConfig
from tessera.training.data.augment import FIRM_WIDTH
from tessera.training.data.folder import ImageViews, find_images, load_split, split_images
from tessera.training.data.views import input_and_target


def config(folder: Path | str = "pictures", **changes) -> DataConfig:
    plain = {"size": 32, "backgrounds": ("#ffffff",), "flip": False}
    return DataConfig(folder=str(folder), **{**plain, **changes})


@pytest.fixture
def view(tmp_path):
    """(picture, epochs) -> its views as [epochs, H, W, 3] uint8; epochs None for the one plain view."""

    def render(picture: Image.Image, epochs: int | None = None, **changes) -> np.ndarray:
        picture.save(tmp_path / "one.png")
        views = ImageViews([tmp_path / "one.png"], config(**changes), seed=0, augment=epochs is not None)
        found = torch.stack([views[epoch, 0]["color"] for epoch in range(epochs or 1)])
        return ((found.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()

    return render


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def drawing(size: tuple[int, int], color: str) -> Image.Image:
    """One color, with a trace of transparency: an opaque picture would cover the view."""
    made = Image.new("RGBA", size, color)
    made.putpixel((0, 0), (*made.getpixel((0, 0))[:3], 254))
    return made


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


# --- finding and splitting


def test_broken_and_tiny_pictures_are_named_and_left_out(tmp_path, caplog):
    noise(16, 16).save(tmp_path / "good.png")
    (tmp_path / "sub").mkdir()
    noise(40, 40).save(tmp_path / "sub" / "below.JPG")
    noise(40, 15).save(tmp_path / "tiny.png")
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    (tmp_path / "notes.txt").write_text("no picture either")
    assert names(find_images(config(tmp_path))) == ["good.png", "below.JPG"]
    assert "tiny.png: 40x15 pixels is too small" in caplog.text
    assert "broken.png: not readable" in caplog.text
    assert "notes.txt" not in caplog.text


def test_a_picture_cut_off_in_the_middle_is_named_and_the_next_one_taken(tmp_path, caplog):
    for name in ("a.png", "b.png"):
        noise(64, 64).save(tmp_path / name)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    views = ImageViews(find_images(config(tmp_path)), config(), seed=0, augment=False)
    assert torch.equal(views[0, 0]["color"], views[0, 1]["color"])
    assert "a.png" in caplog.text


def test_a_folder_of_unreadable_pictures_ends_instead_of_searching_forever(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 pictures can be read"):
        ImageViews([tmp_path / "a.png"], config(), seed=0, augment=False)[0, 0]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.folder .*nowhere is not a folder"):
        find_images(config(tmp_path / "nowhere"))


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no usable picture; PNG"):
        find_images(config(tmp_path))


def test_variants_of_a_drawing_stay_on_one_side_of_the_split():
    drawings = [f"emoji_u{i:x}" for i in range(60)]
    paths = [Path(f"{d}{tone}.png") for d in drawings for tone in ("", "_1f3fb", "_1f3ff")]
    sides = split_images(paths, config(validation=0.3, variants="_1f3f[b-f]"))
    train_set, held_out = ({path.stem[:9].split("_1f3f")[0] for path in side} for side in sides)
    assert all(len(side) % 3 == 0 for side in sides)
    assert not train_set & held_out


def test_adding_pictures_moves_no_old_one_across_the_split():
    paths = [Path(f"{i}.png") for i in range(200)]
    train_set, held_out = split_images(paths[::2], config(validation=0.2))
    more_learned, more_held_out = split_images(paths, config(validation=0.2))
    assert set(train_set) < set(more_learned)
    assert set(held_out) < set(more_held_out)


def test_the_held_out_share_is_about_the_one_asked_for():
    paths = [Path(f"{i}.png") for i in range(2000)]
    assert 0.17 < len(split_images(paths, config(validation=0.2))[1]) / 2000 < 0.23


def test_a_folder_of_plain_files_is_split_as_ever():
    paths = [Path(f"drawing-{i:02d}.png") for i in range(20)]
    _, held_out = split_images(paths, config(validation=0.3))
    assert [int(path.stem[-2:]) for path in held_out] == [2, 5, 6, 7, 13, 15, 16]


def test_a_name_that_is_no_text_has_its_side_too():
    paths = [Path(os.fsdecode(name)) for name in (b"\xff\xfe.png", b"a\nb.png", "ü.png".encode())]
    assert sorted(itertools.chain(*split_images(paths, config()))) == sorted(paths)


def test_a_table_in_the_folder_says_which_pictures_are_held_out(tmp_path):
    paths = [tmp_path / "noto" / f"{name}.png" for name in "abc"]
    table = tmp_path / "captions.tsv"
    table.write_text("file\theld_out\nnoto/a.png\t0\nnoto/b.png\t1\nnoto/c.png\t0\n")
    assert [names(side) for side in split_images(paths, config(tmp_path))] == [["a.png", "c.png"], ["b.png"]]
    table.write_text("file\theld_out\nnoto/a.png\t0\n")
    with pytest.raises(ValueError, match="holds out 0 of 1 pictures"):
        split_images(paths, config(tmp_path))
    table.write_text("file\tname\nnoto/a.png\ta\n")  # says nothing of it
    assert sorted(itertools.chain(*split_images(paths, config(tmp_path)))) == paths


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_pictures_of_one_name_in_folders_of_their_own_are_split_by_the_folders(tmp_path, share):
    paths = [tmp_path / f"item_{i:03d}" / "image.png" for i in range(200)]
    sides = split_images(paths, config(tmp_path, validation=share))
    assert abs(len(sides[1]) / 200 - share) < 0.1
    moved = [Path("elsewhere") / path.relative_to(tmp_path) for path in paths]
    _, held_out = split_images(moved, config("elsewhere", validation=share))
    assert [path.parent.name for path in held_out] == [path.parent.name for path in sides[1]]


@pytest.mark.parametrize(("number", "share"), [(2, 0.01), (3, 0.01), (3, 0.99), (10, 0.001)])
def test_of_few_pictures_one_is_held_out_and_one_learned(number, share):
    paths = [Path(f"{i}.png") for i in range(number)]
    train_set, held_out = split_images(paths, config(validation=share))
    assert sorted(train_set + held_out) == paths
    assert min(len(train_set), len(held_out)) == 1


def test_a_single_drawing_is_learned_and_measured_and_that_is_said(caplog):
    paths = [Path("a_1.png"), Path("a_2.png")]
    assert split_images(paths, config(variants="_.")) == (paths, paths)
    assert "only one drawing" in caplog.text


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    folder, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    for place in (folder / "z", elsewhere / "deeper"):
        place.mkdir(parents=True)
    noise(16, 16).save(folder / "z" / "own.png")
    noise(16, 16).save(elsewhere / "deeper" / "far.png")
    (folder / "far").symlink_to(elsewhere)
    (folder / "a").symlink_to(folder / "z")  # z is read by its own name, whichever comes first
    (folder / "self").symlink_to(folder)
    (elsewhere / "back").symlink_to(folder / "z")
    found = [path.relative_to(folder).as_posix() for path in find_images(config(folder))]
    assert found == ["far/deeper/far.png", "z/own.png"]


def test_jpeg_files_by_any_ending_are_read_and_others_counted(tmp_path, caplog):
    for ending in ("jfif", "jpe", "JPG"):
        noise(16, 16).save(tmp_path / f"{ending}.{ending}", "JPEG")
    for name in ("a.heic", "b.heic", "notes"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level("INFO", "tessera"):
        train_set, held_out = load_split(config(tmp_path, validation=0.5))
    assert len(train_set + held_out) == 3
    assert "passed over files of other kinds: 2 .heic, 1 notes" in caplog.text


def test_a_picture_that_vanishes_is_named_once_and_the_next_one_taken(tmp_path, caplog):
    for name in ("a.png", "b.png"):
        noise(32, 32).save(tmp_path / name)
    views = ImageViews(find_images(config(tmp_path)), config(tmp_path), seed=0, augment=False)
    (tmp_path / "a.png").unlink()
    assert all(torch.equal(views[epoch, 0]["color"], views[epoch, 1]["color"]) for epoch in range(2))
    assert caplog.text.count("a.png") == 1


# --- views


def test_transparency_lies_on_the_chosen_background_to_the_exact_value(view):
    drawing = Image.new("RGBA", (32, 32), (200, 0, 0, 128))
    drawing.paste((9, 9, 9, 0), (0, 0, 32, 8))
    drawing.paste((1, 2, 3, 255), (0, 24, 32, 32))
    (pixels,) = view(drawing, backgrounds=("#0040ff",))
    assert (pixels[:8] == (0, 64, 255)).all()
    assert (pixels[8:24] == (round(200 * 128 / 255), round(64 * 127 / 255), 127)).all()
    assert (pixels[24:] == (1, 2, 3)).all()


def test_hidden_colors_of_transparent_pixels_do_not_bleed_into_the_outline(view):
    drawing = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    drawing.paste((255, 255, 255, 255), (0, 0, 9, 20))
    for zoom in (0.4, 1.7):
        assert (view(drawing, epochs=1, zoom=(zoom, zoom)) == 255).all()


def test_random_backgrounds_differ_from_view_to_view(view):
    corners = view(Image.new("RGBA", (32, 32)), epochs=8, backgrounds=("random",))[:, 0, 0]
    assert len({tuple(corner) for corner in corners}) == 8


def test_flipping_gives_the_picture_or_its_mirror_image(view):
    picture = noise(32, 32)
    plain = np.asarray(picture)
    views = view(picture, epochs=12, flip=True)
    mirrored = [(v == plain[:, ::-1]).all() for v in views]
    assert all(m or (v == plain).all() for v, m in zip(views, mirrored, strict=True))
    assert 0 < sum(mirrored) < 12
    assert (view(picture, epochs=12) == plain).all()


@pytest.mark.parametrize(("zoom", "side"), [(0.5, 16), (0.75, 24), (1.0, 32)])
def test_zoom_sets_how_much_of_the_view_a_drawing_fills(view, zoom, side):
    inside = np.zeros((32, 32), bool)
    edge = (32 - side) // 2
    inside[edge : 32 - edge, edge : 32 - edge] = True
    (pixels,) = view(drawing((50, 50), "black"), epochs=1, zoom=(zoom, zoom))
    assert ((pixels <= 1).all(2) == inside).all()


def test_an_opaque_picture_covers_the_view_at_any_zoom_and_shift(view):
    views = view(Image.new("RGB", (60, 40), "black"), epochs=8, zoom=(0.2, 2.0), shift=0.5)
    assert (views == 0).all()


def test_zoom_shows_the_middle_of_an_opaque_picture(view):
    picture = Image.new("RGB", (32, 32), "white")
    picture.paste("black", (8, 8, 24, 24))
    assert (view(picture, epochs=1, zoom=(2.2, 2.2)) == 0).all()


def test_shift_moves_a_drawing_both_ways_and_at_most_by_its_share(view):
    drawing = Image.new("RGBA", (32, 32))
    drawing.paste("black", (12, 12, 20, 20))
    weights = 255.0 - view(drawing, epochs=30, shift=0.25)[..., 0]
    places = np.arange(32)
    for axis in (1, 2):
        moved = (weights.sum(axis) * places).sum(1) / weights.sum((1, 2)) - 15.5
        assert -8 <= moved.min() < -3
        assert 3 < moved.max() <= 8


def test_shift_moves_an_opaque_picture_only_as_far_as_it_still_covers_the_view(view):
    square, wide = noise(32, 32), noise(64, 32)
    assert (view(square, epochs=5, shift=0.5) == np.asarray(square)).all()
    assert len(np.unique(view(wide, epochs=5, shift=0.2), axis=0)) == 5


def test_hue_changes_colors_and_leaves_gray_alone(view):
    red, gray = (Image.new("RGB", (32, 32), color) for color in ("#ff0000", "#808080"))
    assert len({tuple(pixels[0, 0]) for pixels in view(red, epochs=6, hue=0.2)}) == 6
    assert (view(gray, epochs=6, hue=0.2) == 128).all()


def test_edges_are_white_lines_on_black_along_the_outline(tmp_path):
    picture = Image.new("RGB", (32, 32), "white")
    picture.paste("black", (8, 8, 24, 24))
    picture.save(tmp_path / "square.png")
    lines = ImageViews([tmp_path / "square.png"], config(), seed=0, augment=False)[0, 0]["edges"]
    assert lines.shape == (1, 32, 32)
    assert set(lines.unique().tolist()) == {-1.0, 1.0}
    assert (lines[0, 11:21, 11:21] == -1).all()
    assert (lines[0, 16] == 1).sum() == 2


def test_lines_are_given_as_wide_as_asked_and_learned_at_one_width(tmp_path):
    picture = Image.new("RGB", (32, 32), "white")
    picture.paste("black", (8, 8, 24, 24))
    picture.save(tmp_path / "square.png")

    def crossed(lines: torch.Tensor) -> int:
        return int((lines[0, 16, :16] == 1).sum())  # pixels of the left side of the square

    wide = ImageViews([tmp_path / "square.png"], config(edge_width=(1, 5)), seed=0, augment=True)
    views = [wide[epoch, 0] for epoch in range(60)]
    widths = [crossed(one["edges"]) for one in views]
    assert set(widths) == {1, 2, 3, 4, 5}
    assert widths.count(1) > widths.count(5), "most lines are thin"
    assert {crossed(one["lines"]) for one in views} == {FIRM_WIDTH}
    plain = ImageViews([tmp_path / "square.png"], config(edge_width=(1, 5)), seed=0, augment=False)[0, 0]
    assert (crossed(plain["edges"]), crossed(plain["lines"])) == (1, FIRM_WIDTH)


def test_a_vqgan_of_edges_draws_firm_lines_and_one_of_color_what_it_sees():
    views = {name: torch.rand(1, 1, 2, 2) for name in ("color", "edges", "lines")}
    assert all(a is b for a, b in zip(input_and_target(views, "color"), (views["color"],) * 2, strict=True))
    assert all(a is views[b] for a, b in zip(input_and_target(views, "edges"), ("edges", "lines"), strict=True))


def test_neighbors_lie_side_by_side_as_on_a_larger_canvas(tmp_path):
    colors = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}
    for name in colors:
        drawing((40, 20), name).save(tmp_path / f"{name}.png")
    crowd = ImageViews(find_images(config(tmp_path)), config(neighbors=1.0, zoom=(0.6, 0.8)), seed=0, augment=True)
    views = [((crowd[epoch, 0]["color"] + 1) * 127.5).round().byte() for epoch in range(20)]
    several = 0
    for pixels in views:
        seen = [int((pixels == torch.tensor(c).byte()[:, None, None]).all(0).sum()) for c in colors.values()]
        assert max(seen) <= 4 * 0.8 * 32 * 0.4 * 32, "none covers the view"
        several += sum(area > 0 for area in seen) > 1
    assert several > 15
    assert torch.equal(crowd[3, 0]["color"], crowd[3, 0]["color"])
    alone = ImageViews(crowd.paths, config(zoom=(0.6, 0.8)), seed=0, augment=True)[3, 0]["color"]
    assert not torch.equal(crowd[3, 0]["color"], alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbors": 1.5}, "neighbors is 1.5; choose a share"),
        ({"edge_width": (0, 3)}, r"edge_width is \[0, 3\]"),
        ({"edge_width": (4, 2)}, r"edge_width is \[4, 2\]"),
    ],
)
def test_views_that_can_not_be_made_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config(**change)


def test_a_view_depends_on_nothing_but_seed_epoch_and_picture(pictures):
    rich = config(pictures, zoom=(0.6, 1.2), shift=0.1, hue=0.1, flip=True, backgrounds=("#ffffff", "random"))
    paths = find_images(rich)
    first, again, other_seed = (ImageViews(paths, rich, seed, augment=True) for seed in (3, 3, 4))
    for key in ((0, 0), (5, 1)):
        wanted = first[key]
        first[7, 3]  # what was asked for in between does not matter
        assert all(torch.equal(wanted[name], again[key][name]) for name in ("color", "edges"))
        assert not torch.equal(wanted["color"], other_seed[key]["color"])
        assert not torch.equal(wanted["color"], first[key[0] + 1, key[1]]["color"])


def test_held_out_views_are_the_same_in_every_epoch(pictures):
    rich = config(pictures, zoom=(0.6, 1.2), shift=0.1, hue=0.1, flip=True, backgrounds=("#ffffff", "random"))
    views = ImageViews(find_images(rich), rich, seed=0, augment=False)
    assert torch.equal(views[0, 1]["color"], views[9, 1]["color"])


def test_the_defaults_show_a_picture_as_it_is(pictures):
    default = dataclasses.replace(DataConfig(folder=str(pictures)), size=32, flip=False)
    views = [ImageViews(find_images(default), default, 0, augment)[0, 2]["color"] for augment in (True, False)]
    assert torch.equal(*views)
