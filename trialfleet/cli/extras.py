"""What is missing where an extra is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trialfleet.errors import UsageError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Inside, a module that cannot be imported is one of this extra.

    Raises:
        UsageError: It is missing; the message says how to install it.
    """
    try:
        yield
    except ImportError as exc:
        raise UsageError(
            f'{exc.name or "a module"} is not installed: pip install "trialfleet[{extra}]"'
        ) from exc
