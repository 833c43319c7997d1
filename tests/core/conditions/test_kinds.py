import pytest
import torch

from tessera.core.conditions.base import JointCondition, TokenCondition, repeat
from tessera.core.conditions.kinds import KINDS
from tessera.core.conditions.label import ClassCondition
from tessera.core.conditions.layout import Box
from tessera.core.geometry import Window
from tessera.core.prefix import Prefix

WHOLE = Window(0, 0, 4, 4)
INPUTS = {
    "edges": torch.zeros(1, 1, 16, 16),
    "depth": torch.rand(1, 1, 16, 16),
    "segmentation": torch.zeros(1, 16, 16, dtype=torch.int64),
    "low-resolution": torch.zeros(1, 3, 8, 8),
    "class": torch.tensor([3]),
    "layout": [Box(1, 0, 0, 0.5, 0.5)],
}
# a prompt is as long as it is; a sketch may leave out anything, and has tests of its own
OF_TOKENS = [kind for kind in KINDS if kind not in ("text", "words", "sketch")]


@pytest.mark.parametrize("kind", OF_TOKENS)
def test_every_kind_gives_a_prefix_as_long_as_its_row_says(make_bundle, kind):
    bundle = make_bundle(kind)
    assert (kind in INPUTS) == KINDS[kind].takes_input
    condition = bundle.condition(INPUTS.get(kind), (4, 4))
    assert (
        Prefix.of(condition.prefix(WHOLE)).length == KINDS[kind].prefix_length(4) == bundle.prior.config.prefix_length
    )
    assert condition.canvas_size in (None, (4, 4))


@pytest.mark.parametrize("kind", OF_TOKENS)
def test_input_too_many_or_missing_is_refused(make_bundle, kind):
    wrong, words = (None, "give it") if kind in INPUTS else (torch.zeros(1, 1, 16, 16), "leave the input out")
    with pytest.raises(ValueError, match=f"guided by {kind}: {words}"):
        make_bundle(kind).condition(wrong, (4, 4))


def joint() -> JointCondition:
    style = TokenCondition(torch.tensor([[7]]), unconditional=TokenCondition(torch.tensor([[9]])))
    words = TokenCondition(torch.tensor([[1, 2], [3, 4]]), unconditional=TokenCondition(torch.tensor([[0, 0]])))
    return JointCondition((style, words))


def test_conditions_join_part_after_part_and_each_may_be_left_out():
    condition = joint()
    assert condition.prefix(WHOLE).tokens.tolist() == [[7, 1, 2], [7, 3, 4]]
    assert condition.unconditional.prefix(WHOLE).tokens.tolist() == [[9, 0, 0]]
    style, words = condition.parts
    assert JointCondition((style.unconditional, words)).prefix(WHOLE).tokens.tolist() == [[9, 1, 2], [9, 3, 4]]
    assert JointCondition((style, ClassCondition(torch.tensor([1]), 5))).unconditional is None


def test_joined_conditions_repeat_with_their_parts():
    tokens = repeat(joint(), 2).prefix(WHOLE).tokens
    assert tokens.tolist() == [[7, 1, 2], [7, 3, 4], [7, 1, 2], [7, 3, 4]]
