"""A wall clock that is wrong, for one process."""

from __future__ import annotations

import datetime
import sys
import time
from typing import Any


def shift_clock(seconds: float) -> None:
    """Let `time.time` and `datetime.now` be `seconds` ahead, wherever they have been imported."""
    real, ahead = datetime.datetime, datetime.timedelta(seconds=seconds)
    now, now_ns = time.time, time.time_ns

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Shifted(real, metaclass=Kind):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return real.now(tz) + ahead

        @classmethod
        def utcnow(cls) -> Any:
            return real.now(datetime.UTC).replace(tzinfo=None) + ahead

    wrong: dict[int, Any] = {
        id(real): Shifted,
        id(now): lambda: now() + seconds,
        id(now_ns): lambda: now_ns() + int(seconds * 1e9),
    }
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if id(value) in wrong and module.__name__ != __name__:
                setattr(module, name, wrong[id(value)])
