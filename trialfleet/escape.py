"""Text that others have made up, before it reaches a terminal or the database."""

from __future__ import annotations

import re


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal would act on or that would turn a line around.

    Line breaks, control characters, marks of writing direction and lone surrogates become what a
    Python string literal would show; everything that can be seen stays.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def markdown(text: str) -> str:
    """`text` as a piece of a line of Markdown that shows it to the letter, and nothing else.

    Every punctuation mark is escaped: those of Markdown and HTML, and those without which no
    program takes a word for an address.
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(text))


def storable(text: str) -> str:
    """`text` to the letter, but for what PostgreSQL's text cannot hold: NUL and lone surrogates."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
