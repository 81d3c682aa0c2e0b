"""What a worker tells the `run` that started it."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from trialfleet import parent
from trialfleet.parent import Ear, Message, speak_to, tell


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """What this process tells its parent is heard here."""
    monkeypatch.setattr(parent, "_parent", None)
    ear = Ear()
    with ear.speaking() as descriptor:
        speak_to(descriptor)
        yield ear
    ear.close()


@pytest.mark.parametrize("letter", ["a", "ä", "語", "🎲", "\udc80"])
def test_a_message_goes_through_the_pipe_in_one_piece(ear: Ear, letter: str) -> None:
    """So it is heard whole, or, by whoever does not listen for long, not at all."""
    tell("waits", 2_000 * letter)
    assert parent._parent is not None
    sent = os.read(ear._reading, 65_536)
    assert sent.count(b"\n") == 1
    assert len(sent) <= select.PIPE_BUF
    tell("waits", 10 * letter)
    (message,) = ear.hear()
    assert len(message.text) == 10


def test_what_is_no_message_is_passed_over(ear: Ear) -> None:
    """Code that a worker runs for its user has the pipe open, too."""
    assert parent._parent is not None
    for line in (
        b"\n",
        b"\xff\n",
        b"5\n",
        b'{"kind": "refused"}\n',
        b'{"kind": "x", "text": ""}\n',
    ):
        os.write(parent._parent, line)
    tell("named", "worker-1")
    assert ear.hear() == [Message(kind="named", text="worker-1")]
