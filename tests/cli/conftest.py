"""Models of a few units, on one thread."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _small(one_thread: None) -> None:
    """All of this folder's models are small."""
