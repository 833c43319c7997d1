import json

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tessera.core.canvas.canvas import Canvas
from tessera.core.provenance import check_vqgan, origin, read_note, weights_fingerprint, write_note
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.windows import Sliding


def save(path, text: str | None) -> None:
    info = PngInfo()
    if text is not None:
        info.add_text("tessera", text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)


def test_canvas_comes_back_out_of_the_picture(tmp_path, make_bundle):
    vqgan = make_bundle("none").vqgan
    indices = torch.randint(16, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    canvas = Canvas(indices, indices > 3, (0.25, 0.0), "x", ("", "painted"))
    save(tmp_path / "a.png", write_note(canvas, 1, weights_fingerprint(vqgan)))
    note = read_note(tmp_path / "a.png")
    assert torch.equal(note.canvas.indices, indices[1:])
    assert torch.equal(note.canvas.known, canvas.known[1:])
    assert (note.canvas.padding, note.canvas.wrap, note.canvas.provenance) == ((0.25, 0.0), "x", ("painted",))
    check_vqgan(note, weights_fingerprint(vqgan), "a.png")


def test_origin_tells_all_that_paints_the_picture_again():
    settings = SamplingSettings(temperature=0.8, top_k=100, guidance_scale=2.0)
    told = json.loads(origin("ab", 7, settings, Sliding(stride=4), "x"))
    assert (told.pop("prior"), told.pop("seed")) == ("ab", 7)
    assert told.pop("draw") == "gumbel-1"
    assert (told.pop("stride"), told.pop("wrap")) == (4, "x")
    assert SamplingSettings(guidance_scale=told.pop("guidance"), **told) == settings


def test_origin_tells_one_temperature_map_from_another():
    maps = [SamplingSettings(temperature=torch.full((2, 2), heat)) for heat in (0.5, 0.5, 0.6)]
    one, same, other = (origin("ab", 7, settings, Sliding()) for settings in maps)
    assert one == same != other


def test_other_weights_are_noticed(tmp_path, make_bundle):
    vqgan = make_bundle("none").vqgan
    save(tmp_path / "a.png", write_note(Canvas.empty(1, 2, 2), 0, weights_fingerprint(vqgan)))
    with torch.no_grad():
        vqgan.decoder.conv_out.bias[0] += 1e-3
    with pytest.raises(ValueError, match=r"a\.png was decoded by another VQGAN"):
        check_vqgan(read_note(tmp_path / "a.png"), weights_fingerprint(vqgan), "a.png")


@pytest.mark.parametrize(
    "text",
    ["no", "[]", "{}", "null", json.dumps({"format": "tessera/1"}), "[" * 5000]
    + [
        json.dumps({"format": "tessera/1", "vqgan": "", "known": [[1]], "overhang": [0, 0], "indices": bad})
        for bad in ([[-1]], [[1, 2]], [["a"]], [[1], [2, 3]], [], 5, [[2**70]])
    ],
    ids=range(13),
)
def test_text_that_is_no_canvas_is_refused(tmp_path, text):
    save(tmp_path / "a.png", text)
    with pytest.raises(ValueError, match=r"a\.png holds a canvas that can't be read"):
        read_note(tmp_path / "a.png")


def test_picture_without_a_canvas_and_no_picture_are_refused(tmp_path):
    save(tmp_path / "a.png", None)
    with pytest.raises(ValueError, match="holds no canvas"):
        read_note(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="can't be read as a picture"):
        read_note(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError):
        read_note(tmp_path / "c.png")
