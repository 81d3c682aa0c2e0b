"""Reading a study file. Each mistake in it becomes a line: FILE: field: found; allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from trialfleet.checking.mistakes import FieldError, dotted, shown, shown_key
from trialfleet.errors import (
    ChangeRefusedError,
    StudyFileError,
    StudyFileSyntaxError,
    StudyFileUnreadableError,
)
from trialfleet.escape import printable, storable
from trialfleet.study.changes import Change, parse_changes
from trialfleet.study.spec import Spec

MAX_BYTES = 100_000
# tomllib takes quadratic time over a dotted key: half a minute for one that fills a file.
MAX_LINE = 10_000
_MOST = 20  # mistakes that are shown


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
        raise _unreadable(source, "no such file") from None
    except IsADirectoryError:
        raise _unreadable(source, "is a directory") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _unreadable(source, f"cannot be read ({reason})") from None
    if len(content) > MAX_BYTES:
        raise _unreadable(source, f"is larger than {MAX_BYTES // 1000} kB; is it a study file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _syntax_error(source, f"line {line}: is not UTF-8; save the file as UTF-8") from None
    spec = parse(text, source=source, changes=changes)
    if not spec.agent.searched() and spec.search.trials > 1:
        table = "agent" if spec.task.objective is None else "parameters"
        raise StudyFileError(
            printable(
                f"{source}: {table}: searches nothing, so all {spec.search.trials} trials would be"
                " one configuration; must have a table such as learning_rate = { low = 1e-4,"
                " high = 1e-2, log = true }, or search.trials = 1"
            )
        )
    return spec


def parse(text: str, *, source: str, changes: Sequence[str] = ()) -> Spec:
    """The study that the text describes; `source` names the text in errors.

    Raises:
        StudyFileError: Something is wrong with it, or with a change to it.
    """
    try:
        parsed = parse_changes(changes)
    except FieldError as problem:
        text = f"{problem.at}: " * bool(problem.at) + problem.text
        raise ChangeRefusedError(printable(f"--set: {text}")) from None
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_LINE:
            text = f"line {number}: is longer than {MAX_LINE} characters; break it"
            raise _syntax_error(source, text)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(source, _syntax(str(error), text)) from None
    except RecursionError:
        raise _unreadable(source, "is nested too deeply; is it a study file?") from None
    except ValueError:
        # tomllib does not translate this one: int() refuses more than 4300 digits.
        raise _syntax_error(source, "holds a number of thousands of digits; shorten it") from None
    try:
        for change in parsed:
            change.apply(tables)
        spec = Spec.read(tables)
        _refuse_nul(tables)
        spec.refuse_judging_the_untrained()
        return spec
    except FieldError as problem:
        raise _refusal(source, parsed, problem.each) from None


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


def _refusal(
    source: str, changes: Sequence[Change], mistakes: Sequence[FieldError]
) -> StudyFileError:
    """All mistakes, each with where the user finds it: in the file, or beside a change to it."""
    lines, of_changes = [], 0
    for each in mistakes[:_MOST]:
        changed = any(change.concerns(each.at) for change in changes)
        of_changes += changed
        lines.append(printable(f"{source}{' with --set' * changed}: {each.at}: {each.text}"))
    if len(mistakes) > _MOST:
        lines.append(printable(f"{source}: and {len(mistakes) - _MOST} more"))
    kind = ChangeRefusedError if of_changes == len(mistakes) else StudyFileError
    return kind(*lines)


def _syntax(message: str, text: str) -> str:
    """Tomllib's message with the place in front."""
    found = re.fullmatch(r"(.*) \((?:at line (\d+), column (\d+)|at end of document)\)", message)
    if found is None:
        return f"is not TOML: {message}"
    what, line, column = found.groups()
    # tomllib shows tables as Python's tuples: Cannot declare ('task', 'env_args') twice.
    what = what.replace("Cannot overwrite a value", "A key is there twice")
    what = re.sub(r"\(('[^()]*'),?\)", lambda name: _table(name[1]), what)
    if line is None:
        line = str(len(text.rstrip().splitlines()) or 1)
        return f"line {line}, the last: {what}"
    return f"line {line}, column {column}: {what}"


def _table(keys: str) -> str:
    names = re.findall(r"'((?:[^'\\]|\\.)*)'", keys)
    return f"[{'.'.join(names)}]"


def _unreadable(source: str, text: str) -> StudyFileError:
    return StudyFileUnreadableError(printable(f"{source}: {text}"))


def _syntax_error(source: str, text: str) -> StudyFileError:
    return StudyFileSyntaxError(printable(f"{source}: {text}"))
