"""Why a trial failed, in a line: what was raised, and where in the user's own code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.loop import _reason

MINE = """
import json


def by_a_library():
    return json.loads("{")


def by_itself():
    raise RuntimeError("broken\\n here")
"""


@pytest.fixture
def mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Callable[[], None]]]:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    import mine  # type: ignore[import-not-found]

    yield vars(mine)
    del sys.modules["mine"]


def reason(call: Callable[[], None]) -> str:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it raises
        call()
    return _reason(raised.value)


def test_what_a_library_raises_names_the_line_that_called_it(
    mine: dict[str, Callable[[], None]],
) -> None:
    found = reason(mine["by_a_library"])
    assert found.startswith("JSONDecodeError: Expecting property name")
    assert "(mine.py:6, in decoder.py:" in found


def test_what_the_user_raises_names_its_line_once(mine: dict[str, Callable[[], None]]) -> None:
    assert reason(mine["by_itself"]) == "RuntimeError: broken here (mine.py:10)"


def test_what_our_own_code_raises_names_its_own_line() -> None:
    from trialfleet.artifacts.stores import open_store

    found = reason(lambda: open_store("nonsense://x", None))  # type: ignore[arg-type]
    assert found.endswith(")")
    assert "stores.py:" in found
