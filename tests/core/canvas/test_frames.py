"""Pictures in a row: neighbors are alike, and rows that shall repeat do."""

import pytest
import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.canvas.codec import decode_canvas
from tessera.core.canvas.frames import even_steps, roll_frames, travel


def test_there_and_back_repeats_without_a_jump():
    assert even_steps(0.0, 1.0, 4, there_and_back=True) == [0.0, 0.5, 1.0, 0.5]
    assert even_steps(0.5, 1.1, 3) == pytest.approx([0.5, 0.8, 1.1])
    with pytest.raises(ValueError, match="1 frames make no animation"):
        even_steps(0, 1, 1)


def test_travel_begins_with_one_canvas_and_ends_with_the_other(make_bundle):
    vqgan = make_bundle("none").vqgan
    a, b = (Canvas.filled(torch.randint(16, (1, 4, 5), generator=torch.Generator().manual_seed(i))) for i in (0, 1))
    row = travel(vqgan, a, b, 9)
    assert torch.equal(row.indices[:1], a.indices)
    assert torch.equal(row.indices[-1:], b.indices)
    changed = (row.indices[1:] != row.indices[:-1]).float().mean((1, 2))
    apart = float((a.indices != b.indices).float().mean())
    assert float(changed.max()) < apart  # not all at once


def test_rolled_frames_are_the_picture_of_rolled_codes_and_end_where_they_began(make_bundle):
    vqgan = make_bundle("none").vqgan
    canvas = Canvas.filled(torch.arange(16).view(1, 4, 4)).with_wrap("x")
    frames = roll_frames(decode_canvas(vqgan, canvas), 4, right=1, down=0)
    for i in range(4):
        torch.testing.assert_close(frames[i : i + 1], decode_canvas(vqgan, canvas.roll(0, i)), atol=1e-4, rtol=0)
