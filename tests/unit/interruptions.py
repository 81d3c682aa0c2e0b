"""Something that happens in the middle of a call: after each of its lines in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def after_each_line(
    call: Callable[[], object], interruption: Callable[[], object]
) -> Iterator[int]:
    """Call once for each line that runs within `call`, and interrupt it there; the line's number.

    Lines of the standard library count, too. It ends with the call that was over first.
    """
    at = 0
    while True:
        at += 1
        yield at
        if not _interrupted(call, interruption, at):
            return


def _interrupted(call: Callable[[], object], interruption: Callable[[], object], at: int) -> bool:
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == at:
            sys.settrace(None)
            interruption()
            return None
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return lines >= at
