"""A small CLIP from named drawings: pictures and their captions become neighbors (arXiv:2103.00020, section 2.3).

A batch holds each concept once, but for an eighth that comes twice, in two colors, so that colors have to be told
apart. What is true of several pictures of a batch is no mistake, and pictures of nothing please no caption.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.clip.clip_file import save_clip
from ...core.clip.encoder import CLIP
from ...core.clip.model import ClipModel
from ...core.clip.scoring import embed_images, embed_texts
from ...core.images.metrics import percentiles
from ..config.runs import ClipRun
from ..data.captions import COLORS, Drawings, Words, group_name, learn_vocabulary, plain_phrase, read_drawings
from ..data.drawing_views import draw_drawing_views, shuffle_tiles
from ..engine.distributed import synchronized_once
from ..engine.ema import make_ema
from ..engine.lock import locked_folder
from ..engine.loop import make_accelerator, train
from ..engine.update import descend

TWICE = 1 / 8  # of a batch comes in a second color
NOTHING = 1 / 8  # of the batch: pictures of nothing that are added to it
TINTED = 0.1  # of the others gets a color
PREVIEW_IMAGES = 8


class ClipTask:
    """Loss and held-out retrieval of a small CLIP; see `loop.Task`."""

    def __init__(self, run: ClipRun, drawings: Drawings):
        self.run, self.drawings = run, drawings
        tokenizer = learn_vocabulary(drawings, run.merges, run.context)
        self.words = Words(drawings, tokenizer)
        model = CLIP(run.model.config(tokenizer.vocab_size, run.context))
        model.init_weights()
        self.modules: dict[str, nn.Module] = {"model": _Pairs(model)}
        matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "positions" not in name]
        others = [p for name, p in model.named_parameters() if p.ndim < 2 or "positions" in name]
        groups = [{"params": matrices, "weight_decay": run.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizers = {"model": torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)}
        self.averaged = make_ema(self.modules["model"], run.loop.ema)
        self.extra_state: dict[str, Tensor] = {}
        self.stages: dict[str, str] = {}
        self.goal = ("top5", 1)

    def step(self, batches: list[dict[str, Tensor]], step: int, accelerator: Accelerator) -> dict[str, Tensor]:
        """One update."""
        model, total = self.modules["model"], 0.0
        for batch in synchronized_once(batches, model):
            loss = contrastive_loss(model(batch["images"], batch["tokens"]), batch["true"])
            accelerator.backward(loss / len(batches))
            total = total + loss.detach() / len(batches)
        norm, made = descend(model, self.optimizers.values(), total, self.run.loop.clip, accelerator)
        return {"loss": total, "gradient_norm": norm, "made": made}

    def statistics(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    def model(self) -> ClipModel:
        """The averaged weights."""
        return ClipModel(self.averaged.module.clip, self.words.tokenizer)

    def validate(self) -> dict[str, float]:
        """Retrieval of held-out concepts, and of known concepts in held-out styles, among their names; groups."""
        report = retrieval(self.model(), self.drawings, self.drawings.where(held_out=True))
        styles = self.run.held_out_styles
        strange = self.drawings.where(held_out=False, only=styles) if styles else torch.empty(0)
        if len(strange):
            found = retrieval(self.model(), self.drawings, strange)
            report |= {f"style_{name}": value for name, value in found.items()}
        return report

    def preview(self) -> dict[str, Tensor]:
        """Some views as they are learned from."""
        batch = draw_batch(self.run, self.drawings, self.words, self.train_set(), torch.Generator().manual_seed(0))
        return {"views": torch.cat(list(batch["images"][:PREVIEW_IMAGES] * 2 - 1), 2)}

    def train_set(self) -> Tensor:
        """Numbers of the drawings to learn from."""
        return self.drawings.where(held_out=False, without=self.run.held_out_styles)

    def health(self, report: dict[str, float]) -> str:
        """Whether anything is learned yet."""
        chance = math.log(self.run.loop.batch)
        return (
            "no better than chance yet" if report["loss"] > 0.97 * chance else "words and pictures are finding together"
        )

    def export(self, folder: Path) -> Path:
        """The averaged weights as `clip.safetensors`, with their figures and what right pairs of held-out drawings
        reach."""
        path, model, held_out = folder / "clip.safetensors", self.model(), self.drawings.where(held_out=True)
        model = model._replace(
            right_pairs=right_pairs(model, self.drawings, held_out),
            like_pairs=like_pairs(model, self.drawings, held_out),
        )
        save_clip(path, model, self.validate(), half=True, trained_on=self.run.captions)
        return path


class _Pairs(nn.Module):
    """Both towers in one call, as several processes need it."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Scaled cosines [n, B] of images [n, 3, S, S] and tokens [B, T]."""
        return self.clip.scale * self.clip.encode_image(images) @ self.clip.encode_text(tokens).t()


def contrastive_loss(logits: Tensor, true: Tensor) -> Tensor:
    """The mean of both cross-entropies, over captions and over images.

    Args:
        logits: [n, B]; the images after the first B show nothing.
        true: [B, B] bool, which caption may be said of which image: they share its probability.
    """
    share, batch = true.float(), len(true)
    to_text = -(logits[:batch].log_softmax(1) * share).sum(1) / share.sum(1)
    to_image = -(logits.log_softmax(0)[:batch] * share).sum(0) / share.sum(0)
    return (to_text.mean() + to_image.mean()) / 2


def draw_batch(
    run: ClipRun, drawings: Drawings, words: Words, train_set: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Images [n, 3, S, S], tokens [B, T] and which are true of which [B, B]."""
    twice = int(run.loop.batch * TWICE)
    drawing = draw_concepts(words.concept[train_set], run.loop.batch - twice, generator)
    drawing = train_set[torch.cat([drawing, drawing[:twice]])]
    tint = torch.randint(len(COLORS), drawing.shape, generator=generator)
    tinted = torch.rand(drawing.shape, generator=generator) < TINTED
    tinted[:twice] = tinted[len(tinted) - twice :] = True
    tint = torch.where(tinted, tint, -1)
    images = draw_drawing_views(drawings.images[drawing] / 255, tint, run.model.image_size, generator)
    captions = words.draw(drawing, tint, generator)
    nothing = shuffle_tiles(images[: int(run.loop.batch * NOTHING)], generator)
    true = words.true_pairs(drawing, tint, captions)
    return {"images": torch.cat([images, nothing]), "tokens": captions.tokens, "true": true}


def draw_concepts(concept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Numbers [count or fewer] of drawings, no concept [N] twice. A concept with four drawings comes twice as often as
    one with a single one."""
    frequency = torch.bincount(concept)
    gumbel = -torch.log(-torch.log(torch.rand(len(frequency), generator=generator)))
    weight = torch.where(frequency > 0, 0.5 * frequency.clamp(min=1).log(), -math.inf) + gumbel
    chosen = weight.topk(min(count, int((frequency > 0).sum()))).indices
    order, first = concept.argsort(stable=True), frequency.cumsum(0) - frequency
    return order[first[chosen] + (torch.rand(len(chosen), generator=generator) * frequency[chosen]).long()]


@torch.no_grad()
def retrieval(model: ClipModel, drawings: Drawings, numbers: Tensor) -> dict[str, float]:
    """How often the right name of a drawing is the first, or among the first five, of the names of all concepts given;
    the same in Spanish; and the right group first. Drawings without a code point have no reliable name."""
    rows = [(int(i), drawings.rows[int(i)]) for i in numbers]
    rows = [(i, row) for i, row in rows if ":" not in row["concept"] and row["label_en"]]
    if not rows:
        return {"top1": 0.0, "top5": 0.0}
    seen = embed_images(model.clip, _on_white(drawings.images[[i for i, _ in rows]]))
    report = {"names": float(len({row["concept"] for _, row in rows}))}
    for key, mark in (("label_en", ""), ("label_es", "_es")):
        names: dict[str, str] = {}  # of a concept the shortest: variants have longer ones
        for _, row in rows:
            name = plain_phrase(row[key])
            if name and len(name) < len(names.get(row["concept"], name + "-")):
                names[row["concept"]] = name
        listed = sorted(set(names.values()))
        right = [listed.index(names[row["concept"]]) if row["concept"] in names else -1 for _, row in rows]
        report |= _ranks(seen @ embed_texts(model, listed).t(), torch.tensor(right), mark)
    groups = sorted({row["group"] for _, row in rows} - {"", "component"})
    right = torch.tensor([groups.index(row["group"]) if row["group"] in groups else -1 for _, row in rows])
    return report | {"group": _ranks(seen @ embed_texts(model, [group_name(g) for g in groups]).t(), right, "")["top1"]}


@torch.no_grad()
def right_pairs(model: ClipModel, drawings: Drawings, numbers: Tensor) -> Tensor | None:
    """The cosines that drawings and their own English names reach: [101], ascending; None where none has a name."""
    rows = [(int(i), drawings.rows[int(i)]) for i in numbers]
    named = [i for i, row in rows if ":" not in row["concept"] and plain_phrase(row["label_en"])]
    if not named:
        return None
    seen = embed_images(model.clip, _on_white(drawings.images[named]))
    names = embed_texts(model, [plain_phrase(drawings.rows[i]["label_en"]) for i in named])
    return percentiles((seen * names).sum(1)).cpu()


@torch.no_grad()
def like_pairs(model: ClipModel, drawings: Drawings, numbers: Tensor) -> Tensor | None:
    """The cosines that two drawings of one concept reach: [101], ascending; None where none has two."""
    concepts = sorted({drawings.rows[int(i)]["concept"] for i in numbers})
    concept = torch.tensor([concepts.index(drawings.rows[int(i)]["concept"]) for i in numbers])
    same = (concept[:, None] == concept).triu(1)
    if not same.any():
        return None
    seen = embed_images(model.clip, _on_white(drawings.images[numbers]))
    return percentiles((seen @ seen.t()).cpu()[same])


def _ranks(scores: Tensor, right: Tensor, mark: str) -> dict[str, float]:
    """Share of rows of scores [n, m] whose right one [n] (-1: left out) is first, and among the first five."""
    scores, right = scores[right >= 0].cpu(), right[right >= 0]
    rank = (scores > scores.gather(1, right[:, None])).sum(1)
    return {f"top1{mark}": (rank < 1).float().mean().item(), f"top5{mark}": (rank < 5).float().mean().item()}


def _on_white(images: Tensor) -> Tensor:
    """[B, 4, R, R] uint8 -> [B, 3, R, R] in 0..1."""
    rgb, alpha = (images / 255).split([3, 1], 1)
    return rgb * alpha + 1 - alpha


def train_clip(run: ClipRun) -> bool:
    """Train or resume a small CLIP; True when finished, False when stopped early."""
    accelerator = make_accelerator(run.loop)
    with locked_folder(run.output) as folder:
        return _train_clip_in(folder, run, accelerator)


def _train_clip_in(folder: Path, run: ClipRun, accelerator: Accelerator) -> bool:
    """`train_clip` where nobody else writes."""
    task = ClipTask(run, read_drawings(Path(run.captions), run.image_size))
    train_set = task.train_set()

    def stream(start: int) -> Iterator[dict[str, Tensor]]:
        position = start + accelerator.process_index
        while True:  # a batch depends on its place in the stream alone
            generator = torch.Generator().manual_seed(run.loop.seed * 1_000_003 + position)
            yield draw_batch(run, task.drawings, task.words, train_set, generator)
            position += run.loop.batch * accelerator.num_processes

    return train(task, stream, run.loop, folder, accelerator)
