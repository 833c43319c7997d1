"""Prompts: the features of a T5 encoder as prefix vectors of the prior.

    text --tokens--> T5 encoder --> features [n, F], n up to 120 --> prefix

The encoder is large (FLAN-T5-XL: 2.5 GB in half precision) and needed once a prompt, so its features can be kept in a
small file and used without it. Prompts of several lengths end together: the shorter ones begin with hidden positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..geometry import Window
from ..prefix import Prefix
from ..storage.tensors import load_tensors, save_tensors

MAX_TOKENS = 120  # of a prompt, its end token among them; what is longer is cut off
KIND = "text features"


@dataclass(frozen=True)
class TextFeatures:
    """What a text encoder makes of prompts.

    features: [B, P, F] float, the last ones of each row its prompt's.
    mask: [B, P] bool, False where a row's prompt has not begun.
    prompts: the B texts.
    encoder: the encoder's name.
    """

    features: Tensor
    mask: Tensor
    prompts: tuple[str, ...]
    encoder: str = ""

    def save(self, path: str | Path) -> None:
        """Write to a file, in half precision."""
        texts = {f"prompt {i}": text for i, text in enumerate(self.prompts)}
        tensors = {"features": self.features.to(torch.bfloat16), "mask": self.mask}
        save_tensors(path, KIND, tensors, texts | {"encoder": self.encoder})

    @classmethod
    def load(cls, path: str | Path) -> TextFeatures:
        """Read what `save` wrote; errors as `load_tensors`."""
        tensors, metadata = load_tensors(path, KIND, {"features", "mask"})
        features, mask = tensors["features"].float(), tensors["mask"]
        if features.ndim != 3 or mask.shape != features.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"{Path(path).name} does not hold features of prompts; make them again")
        prompts = tuple(metadata.get(f"prompt {i}", "") for i in range(len(features)))
        return cls(features, mask, prompts, metadata.get("encoder", ""))


@dataclass(frozen=True)
class TextCondition:
    """Prompts as prefix vectors, whatever the window.

    features, mask: as of `TextFeatures`, of B or 1 rows.
    null: [1, P_max, F], what the prior was trained with in place of a text; it stands under the prompt's own mask, so
        that without its text a prompt still has its length.
    """

    features: Tensor
    mask: Tensor
    null: Tensor = field(repr=False)
    canvas_size = None
    canvas_size = None

    def prefix(self, window: Window) -> Prefix:
        """The prompts, the same for all windows."""
        return Prefix(self.features, None if bool(self.mask.all()) else self.mask)

    @property
    def unconditional(self) -> TextCondition:
        """The same without their texts."""
        nothing = self.null[:, self.null.shape[1] - self.features.shape[1] :]
        return replace(self, features=nothing.to(self.features).expand_as(self.features))


class TextEncoder:
    """A T5 encoder and its tokenizer, from a folder as Hugging Face stores them: config.json, tokenizer, weights.

    Raises:
        ValueError: a folder that holds no T5.
        ImportError: transformers can't be imported.
    """

    def __init__(self, folder: str | Path, dtype: torch.dtype = torch.float32):
        from transformers import AutoTokenizer, T5EncoderModel

        self.name = Path(folder).name
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model: Any = T5EncoderModel.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
        except (OSError, ValueError, KeyError) as error:
            problem = str(error).split("\n")[0][:200]
            raise ValueError(
                f"{self.name} can't be opened as a T5 encoder ({problem}); choose another folder"
            ) from error

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> TextFeatures:
        """Features of prompts, which are read in lower case; in float32 on the CPU.

        Raises:
            ValueError: no prompt.
        """
        if not prompts:
            raise ValueError("there is no prompt; give at least one, which may be empty")
        rows = [self._encode_one(clean(prompt)) for prompt in prompts]
        longest = max(len(row) for row in rows)
        features = torch.zeros(len(rows), longest, rows[0].shape[1])
        for row, made in zip(features, rows, strict=True):
            row[longest - len(made) :] = made
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(longest) >= longest - lengths.unsqueeze(1)  # [B, P]
        return TextFeatures(features, mask, tuple(prompts), self.name)

    def _encode_one(self, text: str) -> Tensor:
        """[n, F] of one text, n being its tokens: no padding, so it is the same whatever stands beside it."""
        ids = self.tokenizer(text, max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
        return self.model(input_ids=ids.to(self.model.device)).last_hidden_state[0].float().cpu()


def clean(text: str) -> str:
    """A prompt as the released models learned prompts: in lower case, with single spaces."""
    return " ".join(text.lower().split())
