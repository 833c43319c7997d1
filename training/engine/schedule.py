"""The learning rate."""

import math

from ..config.runs import LoopConfig


def learning_rate(step: int, loop: LoopConfig, seconds: float = 0.0) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` of the peak: at the last step, or when the minutes
    are over of which `seconds` have passed."""
    if step < loop.warmup:
        return loop.learning_rate * (step + 1) / loop.warmup
    done = (step - loop.warmup) / max(1, loop.steps - loop.warmup)
    if loop.minutes:
        done = max(done, seconds / (60 * loop.minutes))
    low = loop.final_learning_rate
    return loop.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
