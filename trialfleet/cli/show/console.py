"""Where commands print: results to stdout, everything else to stderr, on any terminal."""

from __future__ import annotations

import codecs
import io
import os
import sys

from rich.console import Console

# Everything a command is asked for. Tables adapt to the terminal's width.
out = Console(soft_wrap=False)

_ASCII = {"×": "x", "…": "...", "–": "-", "±": "+-", "µ": "u", "—": "-"}


def say(text: str) -> None:
    """Print a message to stderr: stdout is for results."""
    print(text, file=sys.stderr)


def flush() -> None:
    """Write what stdout still holds, while a full disk can be told as an error of ours.

    Raises:
        OSError: It cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError:
        # The interpreter would try it again at its end, and complain in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def tolerate_any_encoding() -> None:
    """Make both streams print what their encoding lacks as its nearest ASCII characters.

    A container or a cron job often has an ASCII locale; a result must not end in a traceback there.
    """
    codecs.register_error("trialfleet", _replacement)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="trialfleet")


def _replacement(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in missing), error.end
