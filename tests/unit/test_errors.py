"""Every error names its remedy and its exit code, and the codes are those of the help text."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import trialfleet.cli.local.pool
import trialfleet.cli.main
from trialfleet import errors
from trialfleet.errors import FleetError


def every(base: type[FleetError]) -> list[type[FleetError]]:
    return [base, *(below for each in base.__subclasses__() for below in every(each))]


ERRORS = every(FleetError)[1:]


def test_the_exit_codes_are_what_scripts_rely_on() -> None:
    assert {error.__name__: error.exit_code for error in ERRORS if error.exit_code != 1} == {
        "StudyFileError": 2,
        "StudyFileUnreadableError": 2,
        "StudyFileSyntaxError": 2,
        "ChangeRefusedError": 2,
        "UsageError": 2,
        "SourceError": 2,
        "SteeringError": 2,
        "NothingToShowError": 2,
        "NeverToShowError": 2,
        "SystemRefusedError": 2,
        "PathNotFoundError": 2,
        "DatabaseRefusedError": 2,
        "StudyMismatchError": 2,
        "StudyNotFoundError": 2,
        "StudyDeletedError": 2,
        "VersionMismatchError": 2,
        "SchemaNotReadyError": 3,
        "StudyFailedError": 4,
        "DatabaseUnavailableError": 5,
        "DatabaseLockedError": 5,
        "DatabaseLimitError": 5,
        "ArtifactStoreError": 6,
        "BlobDamagedError": 6,
    }


def test_the_readme_has_the_one_list_of_exit_codes() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", readme, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == errors.EXIT_CODES
    assert {error.exit_code for error in ERRORS} <= set(errors.EXIT_CODES)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_a_remedy_of_one_sentence(error: type[FleetError]) -> None:
    remedy = error("something").remedy
    assert remedy
    assert "\n" not in remedy
    assert remedy.endswith(".")
    assert error.__doc__ != FleetError.__doc__


def test_the_remedy_is_the_first_paragraph() -> None:
    class LongError(FleetError):
        """Do this.

        Not that.
        """

    assert LongError("x").remedy == "Do this."


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_ends_the_command_in_one_line(
    error: type[FleetError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error("two\n  lines") from ValueError("hidden")

    monkeypatch.setattr(trialfleet.cli.main, "app", fail)
    monkeypatch.setattr(sys, "argv", ["trialfleet"])
    with pytest.raises(SystemExit) as ended:
        trialfleet.cli.main.main()
    assert ended.value.code == error.exit_code
    assert capsys.readouterr().err == f"trialfleet: two lines. {error('').remedy}\n"


def test_an_error_that_nobody_foresaw_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(trialfleet.cli.main, "app", fail)
    with pytest.raises(ZeroDivisionError):
        trialfleet.cli.main.main()


def test_all_errors_are_told_apart() -> None:
    assert len({error.__doc__ for error in ERRORS}) == len(ERRORS)
    assert issubclass(errors.LeaseLostError, FleetError)
