"""A small CLIP from named drawings."""

import csv

import pytest
import torch
from PIL import Image, ImageDraw

from tessera.core.clip.clip_file import open_clip
from tessera.core.clip.scoring import score_texts
from tessera.training.config.runs import ClipRun
from tessera.training.config.yaml import build
from tessera.training.data.captions import COLUMNS, Words, learn_vocabulary, read_drawings
from tessera.training.data.drawing_views import draw_drawing_views, palette, tint_images
from tessera.training.engine.log import read_csv
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.clip import ClipTask, contrastive_loss, draw_batch, draw_concepts, train_clip

SHAPES = ("circle", "square", "bar", "ring")
SPANISH = {"circle": "círculo", "square": "cuadrado", "bar": "barra", "ring": "anillo"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four shapes in three sizes, one of each held out by name, in two styles."""
    folder = tmp_path_factory.mktemp("drawings")
    rows = []
    for n in range(24):
        shape, style = SHAPES[n % 4], ("plain", "strange")[n >= 16]
        picture = Image.new("RGBA", (48, 48))
        draw = ImageDraw.Draw(picture)
        a, b = 8 + n // 4, 40 - n // 4
        if shape == "circle":
            draw.ellipse([a, a, b, b], fill="red")
        elif shape == "square":
            draw.rectangle([a, a, b, b], fill="green")
        elif shape == "bar":
            draw.rectangle([a, 20, b, 28], fill="blue")
        else:
            draw.ellipse([a, a, b, b], outline="black", width=3)
        picture.save(folder / f"{n}.png")
        words = [shape, f"shape|{shape}", SPANISH[shape], "forma"]
        rows.append([f"{n}.png", style, f"{shape}{n % 8}", "symbols", *words, str(int(n % 8 == 5))])
    path = folder / "captions.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([COLUMNS, *rows])
    return path


def tree(table, tmp_path, **loop):
    model = {"image_size": 24, "patch_size": 8, "image_width": 32, "image_layers": 1, "text_width": 32, "embed_dim": 16}
    loop = {"steps": 4, "batch": 8, "warmup": 2, "log_every": 1, "validate_every": 2, "ema": 0.5, **loop}
    return {
        "output": str(tmp_path / "run"), "captions": str(table), "image_size": 32, "held_out_styles": ["strange"],
        "merges": 40, "context": 16, "model": {**model, "heads": 2}, "loop": loop,
    }  # fmt: skip


def test_a_run_leaves_weights_logs_and_held_out_retrieval(table, tmp_path):
    assert train_clip(build(ClipRun, tree(table, tmp_path), ""))
    held_out = read_csv(tmp_path / "run" / "validation.csv")
    assert held_out["step"] == [2, 4]
    assert {"top1", "top5", "top1_es", "group", "style_top1"} <= held_out.keys()
    model = open_clip(tmp_path / "run" / "clip.safetensors")
    assert score_texts(model, torch.rand(1, 3, 40, 40), ["a square", "un círculo"]).shape == (1, 2)
    assert model.right_pairs.shape == (101,)
    assert -1 <= model.right_pairs[0] <= model.right_pairs[-1] <= 1
    assert model.like_pairs.shape == (101,)


def test_one_batch_can_be_learned_by_heart(table, tmp_path):
    run = build(ClipRun, tree(table, tmp_path), "")
    task, accelerator = ClipTask(run, read_drawings(table, 32)), make_accelerator(run.loop)
    batch = draw_batch(run, task.drawings, task.words, task.train_set(), torch.Generator().manual_seed(0))
    batch["true"] = torch.eye(len(batch["true"]), dtype=torch.bool)
    batch["tokens"] = task.words.tokenizer(list("abcdefgh")[: len(batch["true"])])
    losses = [task.step([batch], step, accelerator)["loss"] for step in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_batch_follows_its_generator_and_has_pictures_of_nothing(table, tmp_path):
    run, drawings = build(ClipRun, tree(table, tmp_path, batch=16), ""), read_drawings(table, 32)
    words, train_set = Words(drawings, learn_vocabulary(drawings, 40, 16)), drawings.where(held_out=False)
    one, two, other = (
        draw_batch(run, drawings, words, train_set, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["images"], other["images"])
    assert len(one["images"]) == len(one["true"]) + 2


def test_held_out_concepts_and_styles_are_never_learned(table):
    drawings = read_drawings(table, 32)
    train_set = [drawings.rows[i] for i in drawings.where(held_out=False, without=["strange"])]
    assert train_set
    assert not [row for row in train_set if row["held_out"] == "1" or row["set"] == "strange"]


def test_a_caption_is_true_of_all_that_it_is_said_of(table):
    drawings = read_drawings(table, 32)
    words = Words(drawings, learn_vocabulary(drawings, 40, 16))
    generator, drawing = torch.Generator().manual_seed(0), torch.tensor([0, 8, 1, 0])  # circle, circle, square, circle
    color = torch.tensor([-1, -1, 2, 3])
    captions = words.draw(drawing, color, generator)
    true = words.true_pairs(drawing, color, captions)
    assert true.diagonal().all()
    assert (captions.tokens == words.tokenizer.end).sum(1).eq(1).all()
    shape_said = words.truth[words.concept[torch.tensor([1])]][0, captions.phrase[:2]]
    assert torch.equal(true[2, :2], shape_said)


def test_no_concept_comes_twice_in_a_batch():
    concept = torch.tensor([0, 0, 0, 1, 2, 2, 5])
    drawn = draw_concepts(concept, 4, torch.Generator().manual_seed(0))
    assert sorted(concept[drawn].tolist()) == [0, 1, 2, 5]


def test_the_loss_forgives_what_is_true_and_minds_pictures_of_nothing():
    logits = torch.tensor([[9.0, 12.0], [0.0, 12.0]])
    both = torch.tensor([[True, True], [False, True]])
    assert contrastive_loss(logits, both) < contrastive_loss(logits, torch.eye(2, dtype=torch.bool))
    loud, quiet = (torch.cat([logits, torch.full((1, 2), value)]) for value in (12.0, -9.0))
    assert contrastive_loss(loud, both) > contrastive_loss(quiet, both) + 0.2


def test_tinted_drawings_have_the_color_and_views_follow_their_seed(table):
    drawings = read_drawings(table, 32)
    images = drawings.images[:8] / 255
    blue = tint_images(images, torch.full((8,), 5), torch.Generator().manual_seed(0))
    solid = blue[1, :3, 12:20, 12:20].mean((1, 2))
    assert (solid - palette()[5]).abs().max() < 0.3
    assert solid.argmax() == 2
    one, two = (draw_drawing_views(images, torch.full((8,), -1), 24, torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one, two)
    assert one.shape == (8, 3, 24, 24)


def test_tables_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_drawings(tmp_path / "none.tsv", 32)
    (tmp_path / "other.tsv").write_text("a\tb\n")
    with pytest.raises(ValueError, match="has no column file"):
        read_drawings(tmp_path / "other.tsv", 32)
