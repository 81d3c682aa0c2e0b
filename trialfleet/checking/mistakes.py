"""What is wrong with a study file, in words: where it is, what was found, what may be there.

Each piece of the user's own text is cut short and escaped, so that a message is one line of sane
length whatever the file holds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

_SHOWN = 60  # characters of the user's own text that a message repeats


class FieldError(ValueError):
    """One mistake: where it is, below the field that is being checked, and what is wrong."""

    def __init__(self, text: str, *, at: str = "", unknown_key: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        self.unknown_key = unknown_key

    @property
    def each(self) -> Sequence[FieldError]:
        """All mistakes, this one first."""
        return [self]

    def under(self, field: str) -> FieldError:
        """The same mistake, seen from the table around it."""
        return FieldError(self.text, at=dotted(field, self.at), unknown_key=self.unknown_key)


class SeveralFieldsError(FieldError):
    """Several mistakes; whoever shows one shows the first."""

    def __init__(self, mistakes: Sequence[FieldError]) -> None:
        first = mistakes[0]
        super().__init__(first.text, at=first.at, unknown_key=first.unknown_key)
        self._each = mistakes

    @property
    def each(self) -> Sequence[FieldError]:
        """All of them, the one first that is to be read first."""
        return self._each

    def under(self, field: str) -> FieldError:
        """The same mistakes, seen from the table around them."""
        return SeveralFieldsError([one.under(field) for one in self._each])


class Gathering:
    """A block whose checks go on after a mistake; at its end all of them are raised.

    Each check stands in a `with gathering.under(field):` of its own.
    """

    def __init__(self) -> None:
        self._found: list[FieldError] = []

    def __enter__(self) -> Gathering:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._found:
            raise together(self._found)

    def add(self, mistake: FieldError) -> None:
        """One more."""
        self._found += mistake.each

    @contextmanager
    def under(self, field: str = "") -> Iterator[None]:
        """Whatever mistake is made in this block is one of the field's."""
        try:
            yield
        except FieldError as mistake:
            self.add(mistake.under(field))


def shown(value: object) -> str:
    """The user's value, short and in one line whatever it holds."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to print very long integers, and nobody would read one.
            return str(value) if value.bit_length() <= 128 else "a number of dozens of digits"
        case float():
            return repr(value)
        case str():
            # repr escapes line breaks, control characters and marks that turn the line around.
            return repr(value[:_SHOWN]) + ("…" if len(value) > _SHOWN else "")
        case list() | tuple():
            if len(value) <= 6 and not any(isinstance(item, list | tuple | dict) for item in value):
                text = "[" + ", ".join(map(shown, value)) + "]"
                return text if len(text) <= _SHOWN else "a list"
            return "a list" if len(value) <= 6 else f"a list of {len(value)} values"
        case dict():
            return "a table" if len(value) <= 6 else f"a table of {len(value)} keys"
        case None:
            return "nothing"
    return "a date or time"


def shown_key(key: str) -> str:
    """A key as TOML would write it, short and in one line."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else shown(key)


def nearest(name: object, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """A hint at the known name that the user may have meant, or nothing."""
    if not isinstance(name, str) or len(name) > 200:
        return ""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=likeness)
    return f" (did you mean {close[0]}?)" if close else ""


def dotted(*parts: str) -> str:
    """The dotted path of a field, without its empty parts; a place in a list is "[0]"."""
    return ".".join(part for part in parts if part).replace(".[", "[")


def unknown_key(key: str, known: Iterable[str]) -> FieldError:
    """A key that the table does not have."""
    known = list(known)
    hint = nearest(key, known) or f"; known here: {', '.join(known)}"
    return FieldError(f"unknown key{hint}", at=shown_key(key), unknown_key=True)


def together(mistakes: Sequence[FieldError]) -> FieldError:
    """All of them as one: misspelled keys come first, they explain the others."""
    if len(mistakes) == 1:
        return mistakes[0]
    return SeveralFieldsError(sorted(mistakes, key=lambda each: not each.unknown_key))


@contextmanager
def under(field: str) -> Iterator[None]:
    """A mistake found in this block is one of the field's."""
    try:
        yield
    except FieldError as problem:
        raise problem.under(field) from None
