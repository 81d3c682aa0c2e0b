"""Reading a study file. A mistake in it becomes one line: FILE: field: found; allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from trialfleet.checking.mistakes import FieldError, dotted, shown, shown_key
from trialfleet.errors import StudyFileError
from trialfleet.escape import printable, storable
from trialfleet.study.changes import Change, parse_changes
from trialfleet.study.spec import Spec

MAX_BYTES = 100_000
# tomllib takes quadratic time over a dotted key: half a minute for one that fills a file.
MAX_LINE = 10_000


def load(path: Path, changes: Sequence[str] = ()) -> Spec:
    """The study that the file describes.

    Args:
        path: Of the file.
        changes: To it: `FIELD=VALUE`, as `--set` takes them.

    Raises:
        StudyFileError: There is no such file, or something is wrong with it or a change.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _error(source, "no such file; give the path of a study file") from None
    except IsADirectoryError:
        raise _error(source, "is a directory; give the path of a study file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _error(source, f"cannot be read ({reason})") from None
    if len(content) > MAX_BYTES:
        raise _error(source, f"is larger than {MAX_BYTES // 1000} kB; is it a study file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _error(source, f"line {line}: is not UTF-8; save the file as UTF-8") from None
    return parse(text, source=source, changes=changes)


def parse(text: str, *, source: str, changes: Sequence[str] = ()) -> Spec:
    """The study that the text describes; `source` names the text in errors.

    Raises:
        StudyFileError: Something is wrong with it, or with a change to it.
    """
    try:
        parsed = parse_changes(changes)
    except FieldError as problem:
        raise _error("--set", f"{problem.at}: " * bool(problem.at) + problem.text) from None
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_LINE:
            raise _error(source, f"line {number}: is longer than {MAX_LINE} characters; break it")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _error(source, _syntax(str(error), text)) from None
    except RecursionError:
        raise _error(source, "is nested too deeply; is it a study file?") from None
    except ValueError:
        # tomllib does not translate this one: int() refuses more than 4300 digits.
        raise _error(source, "holds a number of thousands of digits; shorten it") from None
    try:
        for change in parsed:
            change.apply(tables)
        _refuse_nul(tables)
        return Spec.read(tables)
    except FieldError as problem:
        raise _error(_origin(source, parsed, problem), f"{problem.at}: {problem.text}") from None


def _refuse_nul(value: object, at: str = "") -> None:
    """Return if PostgreSQL's JSON can hold every text of the file."""
    match value:
        case str():
            if storable(value) != value:
                raise FieldError(
                    f"{shown(value)} holds a NUL or half a character, which the database cannot"
                    " store; must be without it",
                    at=at,
                )
        case dict():
            for key, each in value.items():
                _refuse_nul(key, at)
                _refuse_nul(each, dotted(at, shown_key(key)))
        case list():
            for each in value:
                _refuse_nul(each, at)


def _origin(source: str, changes: Sequence[Change], problem: FieldError) -> str:
    """Where the user finds what is wrong: in the file, or beside the change that made it so."""
    if any(change.concerns(problem.at) for change in changes):
        return f"{source} with --set"
    return source


def _syntax(message: str, text: str) -> str:
    """Tomllib's message with the place in front."""
    found = re.fullmatch(r"(.*) \((?:at line (\d+), column (\d+)|at end of document)\)", message)
    if found is None:
        return f"is not TOML: {message}"
    what, line, column = found.groups()
    if line is None:
        line = str(len(text.rstrip().splitlines()) or 1)
        return f"line {line}, the last: {what}; correct the TOML"
    return f"line {line}, column {column}: {what}; correct the TOML"


def _error(source: str, text: str) -> StudyFileError:
    return StudyFileError(printable(f"{source}: {text}"))
