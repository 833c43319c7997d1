import torch

from tessera.core.canvas.canvas import Canvas
from tessera.core.conditions.base import StartToken
from tessera.core.prepared import PreparedCondition
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.storage.fingerprint import fingerprint


def test_equal_content_has_equal_fingerprints():
    def content() -> tuple:
        canvas = Canvas.filled(torch.arange(6).view(1, 2, 3))
        return "name", 7, None, SamplingSettings(temperature=torch.ones(2, 2)), PreparedCondition(StartToken(), canvas)

    assert fingerprint(*content()) == fingerprint(*content())


def test_every_difference_shows():
    zeros, long = torch.zeros(2, 3), torch.zeros(5000)
    changed = long.index_fill(0, torch.tensor([2500]), 1.0)  # where a printed tensor has an ellipsis
    different = [
        (zeros,), (zeros.view(3, 2),), (zeros.long(),), (zeros + 1,), (0,), (0.0,), ("0",), (None,), (), (0, 0),
        ((long,),), ((changed,),),
        (SamplingSettings(),), (SamplingSettings(top_k=1),), (SamplingSettings(temperature=zeros),), (StartToken(),),
    ]  # fmt: skip
    assert len({fingerprint(*values) for values in different}) == len(different)
