from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trialfleet.checking.imports import IMPORTED, load
from trialfleet.checking.mistakes import FieldError


def test_a_class_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vendored").mkdir()
    (tmp_path / "vendored" / "mine.py").write_text("class Mine(dict):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("vendored.mine:Mine", dict).__name__ == "Mine"
    del sys.modules["vendored.mine"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("json", '"module:Class"'),
        ("json:", '"module:Class"'),
        ("json:JSONDecoder.decode", '"module:Class"'),
        ("../json:JSONDecoder", '"module:Class"'),
        ("json:JsonDecoder", "JsonDecoder is not there"),
        ("json:dumps", "must be a subclass of builtins.dict"),
        ("json:JSONDecoder", "must be a subclass of builtins.dict"),
        ("nowhere.to_be_found:Class", "No module named 'nowhere'"),
        ("trialfleet.seeds:Mine", "'trialfleet' is a package of Trialfleet's own"),
        ("worker:Mine", "'worker' is a package of Trialfleet's own"),
        ("coordinator.watch:Mine", "'coordinator' is"),
        ("migrations:Mine", "'migrations' is"),
    ],
)
def test_what_is_refused(name: str, words: str) -> None:
    with pytest.raises(FieldError) as refusal:
        load(name, dict)
    assert words in refusal.value.text


@pytest.mark.parametrize("body", ["raise RuntimeError('a\\nb')", "import sys; sys.exit('a b')"])
def test_a_module_that_fails(body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_on_import.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FieldError, match="cannot be imported here: a b;"):
        load("broken_on_import:Mine", dict)


def test_the_form_is_checked_without_an_import() -> None:
    assert IMPORTED.check("nowhere.to_be_found:Class") == "nowhere.to_be_found:Class"
    with pytest.raises(FieldError, match="'worker' is"):
        IMPORTED.check("worker.mine:Class")
