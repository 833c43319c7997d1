"""These tests work on tiny tensors: a second thread costs more than it saves, beside another program far more."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Run torch on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
