from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trialfleet.checking import imports
from trialfleet.checking.imports import IMPORTED, load, load_function
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


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "x = 1\nraise RuntimeError('a\\nb')",
            "RuntimeError: a b (broken_on_import.py, line 2, in ",
        ),
        ("import sys; sys.exit('a b')", "it calls sys.exit(a b) (broken_on_import.py, line 1, in "),
        (
            "import json\njson.loads('')",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        ),
        ("import nowhere", "No module named 'nowhere' (broken_on_import.py, line 1, in "),
    ],
)
def test_a_module_that_fails_is_told_with_its_line(
    body: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_on_import.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FieldError) as refused:
        load("broken_on_import:Mine", dict)
    assert f"cannot be imported here: {says}" in refused.value.text
    assert "(broken_on_import.py, line " in refused.value.text


def test_the_form_is_checked_without_an_import() -> None:
    assert IMPORTED.check("nowhere.to_be_found:Class") == "nowhere.to_be_found:Class"
    with pytest.raises(FieldError, match="'worker' is"):
        IMPORTED.check("worker.mine:Class")


def test_a_function_is_found_too() -> None:
    import json

    assert load_function("json:dumps") is json.dumps
    with pytest.raises(FieldError, match="must be a function"):
        load_function("sys:version")


@pytest.mark.parametrize(
    ("allowed", "name", "passes"),
    [
        (None, "json:dumps", True),
        ([], "json:dumps", False),
        (["json"], "json:dumps", True),
        (["json"], "json.decoder:JSONDecoder", True),
        (["json.decoder"], "json:dumps", False),
        (["js", "jso"], "json:dumps", False),
    ],
)
def test_only_what_is_allowed_is_imported(
    allowed: list[str] | None, name: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_allowed", allowed)
    if passes:
        load_function(name)
    else:
        with pytest.raises(FieldError) as refusal:
            load_function(name)
        listed = ", ".join(allowed or []) or "none"
        assert refusal.value.text.endswith(f"--allow-import names: {listed}")


def test_what_is_not_allowed_is_not_even_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "not_allowed.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "_allowed", ["other"])
    with pytest.raises(FieldError, match="may not be imported here"):
        load_function("not_allowed:f")
    assert not (tmp_path / "run").exists()
