"""Settings of every test of models: no deadlines, and no threads for work that is tiny."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("models", deadline=None, max_examples=40)
settings.load_profile("models")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
