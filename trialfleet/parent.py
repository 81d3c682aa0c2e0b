"""What a worker tells the `run` that started it, through a pipe that is theirs alone.

An exit code tells nothing of who chose it: code that a worker runs for its user may end the process
with any. So a worker that is not to be started again says so itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["named", "refused", "waits"]
# Characters of a text, of up to four bytes each; a pipe takes a line of 4,096 bytes in one piece.
_LONGEST = 1_000
_parent: int | None = None


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a worker has said."""

    # its name; it would end the same way if it were started again; what it needs is away
    kind: Kind
    text: str


def speak_to(descriptor: int) -> None:
    """Tell the parent from now on through this descriptor, which no program that we start gets."""
    global _parent
    os.set_inheritable(descriptor, False)
    os.set_blocking(descriptor, False)
    _parent = descriptor


def tell(kind: Kind, text: str) -> None:
    """Tell the parent, if there is one that listens."""
    if _parent is not None:
        line = json.dumps({"kind": kind, "text": text[:_LONGEST]}, ensure_ascii=False) + "\n"
        with suppress(OSError):  # it is gone, or does not read
            os.write(_parent, line.encode(errors="replace"))


class Ear:
    """The parent's end."""

    def __init__(self) -> None:
        self._reading, self._speaking = os.pipe()
        os.set_blocking(self._reading, False)
        self._rest = b""

    @contextmanager
    def speaking(self) -> Iterator[int]:
        """The worker's end: inside, for the worker to be started with."""
        try:
            yield self._speaking
        finally:
            os.close(self._speaking)

    def hear(self) -> list[Message]:
        """What has been said since the last call."""
        with suppress(BlockingIOError):
            while data := os.read(self._reading, 65_536):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [message for line in lines if (message := _message(line)) is not None]

    def close(self) -> None:
        """Hear nothing more."""
        os.close(self._reading)


def _message(line: bytes) -> Message | None:
    """What a line says; None if it is no worker's of ours, but its user's code has written it."""
    try:
        said = json.loads(line)
        kind, text = said["kind"], said["text"]
    except (ValueError, TypeError, LookupError):
        return None
    return Message(kind=kind, text=f"{text}") if kind in get_args(Kind) else None
