import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.canvas_file import load_canvas, save_canvas
from tessera.core.storage.tensors import load_tensors, save_tensors


def numbered(batch: int = 2, height: int = 4, width: int = 5) -> Canvas:
    """Every cell another code, about half of them known."""
    indices = torch.arange(batch * height * width).view(batch, height, width)
    return Canvas(indices, indices % 3 != 0)


def test_empty_canvas_knows_nothing_and_a_filled_one_everything():
    empty, filled = Canvas.empty(2, 3, 4), Canvas.filled(torch.arange(12).view(1, 3, 4))
    assert empty.indices.shape == (2, 3, 4)
    assert empty.indices.dtype == torch.int64
    assert not empty.known.any()
    assert filled.known.all()
    assert filled.size == (3, 4)


def test_filled_canvas_is_a_copy():
    indices = torch.zeros(1, 2, 2, dtype=torch.int64)
    canvas = Canvas.filled(indices)
    indices.fill_(7)
    assert not canvas.indices.any()


def test_crop_takes_a_rectangle_of_codes_and_of_what_is_known():
    canvas = numbered()
    part = canvas.crop(1, 2, 3, 2)
    assert part.indices[0].tolist() == [[7, 8], [12, 13], [17, 18]]
    assert torch.equal(part.known, canvas.known[:, 1:4, 2:4])
    part.indices.fill_(0)
    assert torch.equal(canvas.indices, numbered().indices)


def test_paste_lays_known_cells_over_and_leaves_the_rest():
    canvas = Canvas.empty(1, 3, 3)
    canvas = canvas.paste(Canvas.filled(torch.full((1, 3, 3), 1)), 0, 0).forget(torch.eye(3).bool())
    patch = Canvas(torch.tensor([[[5, 6], [7, 8]]]), torch.tensor([[[True, False], [True, True]]]))
    result = canvas.paste(patch, 1, 1)
    assert result.indices.tolist() == [[[1, 1, 1], [1, 5, 1], [1, 7, 8]]]
    # (0, 0) stays forgotten; (1, 1) and (2, 2) become known; (1, 2) stays as it was
    assert result.known.tolist() == [[[False, True, True], [True, True, True], [True, True, True]]]
    assert not canvas.known[0, 1, 1]


def test_crop_and_paste_undo_each_other():
    canvas = numbered()
    part = canvas.crop(1, 0, 2, 3)
    hole = torch.zeros(4, 5, dtype=torch.bool)
    hole[1:3, :3] = True
    back = canvas.forget(hole).paste(part, 1, 0)
    assert torch.equal(back.indices, canvas.indices)
    assert torch.equal(back.known, canvas.known)


def test_roll_lets_cells_enter_on_the_other_side():
    canvas = numbered(1, 3, 3)
    rolled = canvas.roll(1, -1)
    assert rolled.indices[0].tolist() == [[7, 8, 6], [1, 2, 0], [4, 5, 3]]
    assert torch.equal(rolled.known, rolled.indices % 3 != 0)
    back = rolled.roll(-1, 1)
    assert torch.equal(back.indices, canvas.indices)


def test_forget_by_one_mask_for_all_pictures_or_one_for_each():
    canvas = Canvas.filled(torch.ones(2, 2, 2, dtype=torch.int64))
    corner = torch.tensor([[True, False], [False, False]])
    assert canvas.forget(corner).known.sum((1, 2)).tolist() == [3, 3]
    assert canvas.forget(torch.stack([corner, ~corner])).known.sum((1, 2)).tolist() == [3, 1]
    assert canvas.known.all()


def test_repeat_gives_the_same_canvas_again():
    canvas = numbered(1)
    many = canvas.repeat(3)
    for b in range(3):
        assert torch.equal(many.indices[b], canvas.indices[0])
        assert torch.equal(many.known[b], canvas.known[0])


@pytest.mark.parametrize(
    ("indices", "known"),
    [((2, 3), (2, 3)), ((1, 2, 3), (1, 3, 2)), ((1, 0, 3), (1, 0, 3)), ((0, 2, 2), (0, 2, 2)), ((2, 2, 2), (1, 2, 2))],
)
def test_tensors_that_are_no_canvas_are_refused(indices, known):
    with pytest.raises(ValueError, match="a canvas needs indices and known of one shape"):
        Canvas(torch.zeros(indices, dtype=torch.int64), torch.zeros(known, dtype=torch.bool))


@pytest.mark.parametrize("size", [(0, 2, 2), (1, 0, 2), (1, 2, -1)])
def test_empty_canvas_without_cells_is_refused(size):
    with pytest.raises(ValueError, match="use at least 1 x 1 x 1"):
        Canvas.empty(*size)


@pytest.mark.parametrize(
    "rectangle", [(-1, 0, 2, 2), (0, -1, 2, 2), (3, 0, 2, 2), (0, 4, 2, 2), (0, 0, 5, 1), (0, 0, 0, 1), (0, 0, 1, -1)]
)
def test_rectangle_off_the_canvas_is_refused_with_both_sizes(rectangle):
    with pytest.raises(ValueError, match="leave the canvas of 4x5"):
        numbered().crop(*rectangle)


def test_pasting_over_the_border_is_refused():
    with pytest.raises(ValueError, match="3x3 cells at row 2, column 0 leave the canvas of 4x5"):
        numbered().paste(Canvas.empty(2, 3, 3), 2, 0)


def test_pasting_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3 pictures can't be pasted into 2"):
        numbered(2).paste(Canvas.empty(3, 2, 2), 0, 0)


def test_one_canvas_is_pasted_into_every_picture():
    patch = Canvas.filled(torch.tensor([[[90]]]))
    assert numbered(2).paste(patch, 0, 0).indices[:, 0, 0].tolist() == [90, 90]


@pytest.mark.parametrize("mask", [torch.ones(3, 3).bool(), torch.ones(3, 4, 5).bool(), torch.ones(4, 5)])
def test_mask_that_does_not_fit_the_cells_is_refused(mask):
    with pytest.raises(ValueError, match=r"the mask is \(.*the canvas \(2, 4, 5\)"):
        numbered().forget(mask)


def test_origins_stay_with_their_pictures(tmp_path):
    plain = Canvas.filled(torch.arange(8).view(2, 2, 2))
    canvas = plain.with_provenance(("a", "b"))
    assert canvas.pick(torch.tensor([1, 0, 1])).provenance == ("b", "a", "b")
    assert canvas.repeat(2).provenance == ("a", "b", "a", "b")
    assert canvas.join([plain]).provenance == ("a", "b", "", "")
    assert plain.join([canvas]).provenance == ("", "", "a", "b")
    assert plain.join([plain]).provenance == ()
    everything = torch.ones(2, 2, dtype=torch.bool)
    for edited in (canvas.crop(0, 0, 1, 2), canvas.roll(1, 0), canvas.forget(everything), canvas.with_wrap("x")):
        assert edited.provenance == ("a", "b")
    assert canvas.paste(plain, 0, 0).provenance == ("a", "b")
    save_canvas(tmp_path / "a.canvas.safetensors", canvas)
    assert load_canvas(tmp_path / "a.canvas.safetensors").provenance == ("a", "b")
    with pytest.raises(ValueError, match="1 origins are given for 2 pictures"):
        plain.with_provenance(("a",))


def test_saved_canvas_comes_back_equal(tmp_path):
    path, canvas = tmp_path / "new folder" / "mosaic.safetensors", numbered()
    save_canvas(path, canvas)
    loaded = load_canvas(path)
    assert torch.equal(loaded.indices, canvas.indices)
    assert torch.equal(loaded.known, canvas.known)
    assert loaded.known.dtype == torch.bool
    assert [p.name for p in path.parent.iterdir()] == ["mosaic.safetensors"]


def test_views_of_a_larger_tensor_are_saved_as_they_look(tmp_path):
    whole = torch.arange(100).view(1, 10, 10)
    canvas = Canvas(whole[:, 2:5, ::2], whole[:, 2:5, ::2] > 30)
    save_canvas(tmp_path / "c.safetensors", canvas)
    assert torch.equal(load_canvas(tmp_path / "c.safetensors").indices, canvas.indices)


def test_file_cut_short_anywhere_is_refused_in_one_way(tmp_path):
    path = tmp_path / "mosaic.safetensors"
    save_canvas(path, numbered())
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"mosaic.safetensors is truncated or not a safetensors file"):
            load_canvas(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"does not exist|is a folder"):
            load_canvas(path)


def test_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_tensors(path, "sampling state", {"indices": torch.zeros(1, 1, 1), "known": torch.zeros(1, 1, 1)}, {})
    with pytest.raises(ValueError, match=r"other.safetensors is not a saved canvas"):
        load_canvas(path)
    save_tensors(path, "canvas", {"indices": torch.zeros(1, 1, 1)}, {})
    with pytest.raises(ValueError, match=r"other.safetensors is not a saved canvas"):
        load_canvas(path)


def test_metadata_comes_back_with_the_tensors(tmp_path):
    save_tensors(tmp_path / "a.safetensors", "thing", {"x": torch.arange(3)}, {"seed": "5"})
    tensors, metadata = load_tensors(tmp_path / "a.safetensors", "thing", {"x"})
    assert tensors["x"].tolist() == [0, 1, 2]
    assert metadata["seed"] == "5"


def test_failed_writing_leaves_the_old_file_and_no_partial_one(tmp_path):
    path = tmp_path / "mosaic.safetensors"
    save_canvas(path, numbered())
    before = path.read_bytes()
    with pytest.raises(TypeError):  # metadata must be text, which the writer finds out late
        save_tensors(path, "canvas", {"indices": torch.zeros(1)}, {"seed": 5})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mosaic.safetensors"]


def test_target_that_is_a_folder_leaves_no_partial_file(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        save_canvas(tmp_path / "taken", numbered())
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_overhang_stays_with_the_border_it_belongs_to(tmp_path):
    canvas = numbered().with_padding((0.25, 0.5))
    assert canvas.forget(torch.zeros(4, 5, dtype=torch.bool)).padding == (0.25, 0.5)
    assert canvas.paste(Canvas.empty(2, 1, 1), 0, 0).padding == (0.25, 0.5)
    assert canvas.repeat(2).padding == (0.25, 0.5)
    assert canvas.crop(1, 0, 3, 2).padding == (0.25, 0)
    assert canvas.crop(0, 2, 2, 3).padding == (0, 0.5)
    assert canvas.roll(1, 0).padding == (0, 0)
    save_canvas(tmp_path / "canvas.safetensors", canvas)
    assert load_canvas(tmp_path / "canvas.safetensors").padding == (0.25, 0.5)


@pytest.mark.parametrize(
    ("indices", "known", "words"),
    [
        (torch.tensor([[[0, -1]]]), torch.ones(1, 1, 2, dtype=torch.bool), "holds code -1; codes count from 0"),
        (torch.tensor([[[0, -(2**63)]]]), torch.zeros(1, 1, 2, dtype=torch.bool), "holds code -9223372036854775808"),
        (torch.zeros(1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool), "int64 and known of bool, got torch.float32"),
        (torch.zeros(1, 1, 2, dtype=torch.int32), torch.ones(1, 1, 2, dtype=torch.bool), "got torch.int32"),
        (torch.zeros(1, 1, 2, dtype=torch.int64), torch.ones(1, 1, 2), "got torch.int64 and torch.float32"),
        (torch.zeros(1, 0, 2, dtype=torch.int64), torch.ones(1, 0, 2, dtype=torch.bool), "without a zero"),
    ],
)
def test_what_is_no_code_is_refused(indices, known, words):
    with pytest.raises(ValueError, match=words):
        Canvas(indices, known)


def test_overhang_of_a_whole_cell_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        numbered().with_padding((1.0, 0.0))


def test_canvas_with_a_broken_overhang_is_refused(tmp_path):
    path = tmp_path / "canvas.safetensors"
    tensors = {"indices": numbered().indices, "known": numbered().known}
    for broken in ("no", "3", "[1]", "[2, 0]"):
        save_tensors(path, "canvas", tensors, {"overhang": broken})
        with pytest.raises(ValueError, match=r"canvas\.safetensors is not a saved canvas"):
            load_canvas(path)


def test_wrap_stays_where_both_ends_do(tmp_path):
    canvas = numbered().with_wrap("both")
    assert canvas.crop(0, 0, 4, 3).wrap == "y"
    assert canvas.crop(1, 0, 3, 5).wrap == "x"
    assert canvas.crop(1, 1, 2, 2).wrap == "none"
    whole = Canvas.filled(torch.zeros(2, 4, 5, dtype=torch.int64))
    kept = [canvas.roll(1, 2), canvas.forget(torch.ones(4, 5).bool()), canvas.repeat(2), canvas.pick(torch.tensor([1]))]
    kept += [canvas.join([whole]), canvas.paste(whole, 0, 0), canvas.with_padding((0.0, 0.0))]
    assert all(one.wrap == "both" for one in kept)
    assert numbered().wrap == whole.paste(canvas, 0, 0).wrap == "none"
    save_canvas(tmp_path / "a.safetensors", canvas.with_wrap("x"))
    assert load_canvas(tmp_path / "a.safetensors").wrap == "x"


def test_picture_that_ends_within_a_cell_does_not_wrap_there():
    canvas = numbered().with_padding((0.25, 0.0))
    assert canvas.with_wrap("x").wrap == "x"
    for wrap in ("y", "both"):
        with pytest.raises(ValueError, match="make its height a multiple of a cell"):
            canvas.with_wrap(wrap)
    with pytest.raises(ValueError, match="choose none, x, y, both"):
        canvas.with_wrap("z")
    with pytest.raises(ValueError, match="choose none, x, y, both"):
        canvas.with_wrap(["x"])


def test_canvas_saved_before_there_was_wrap_opens(tmp_path):
    tensors = {"indices": numbered().indices, "known": numbered().known}
    save_tensors(tmp_path / "a.safetensors", "canvas", tensors, {"overhang": "[0.5, 0]"})
    assert load_canvas(tmp_path / "a.safetensors").wrap == "none"
