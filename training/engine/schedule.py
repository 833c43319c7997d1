"""The learning rate."""

import math

from ..config.runs import LoopConfig


def learning_rate(step: int, loop: LoopConfig) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` of the peak."""
    if step < loop.warmup:
        return loop.learning_rate * (step + 1) / loop.warmup
    done = min(1.0, (step - loop.warmup) / max(1, loop.steps - loop.warmup))
    low = loop.final_learning_rate
    return loop.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))
