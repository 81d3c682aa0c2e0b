from __future__ import annotations

import pytest

from worker.trainers.threads import use_one_thread


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As in a worker."""
    use_one_thread()
