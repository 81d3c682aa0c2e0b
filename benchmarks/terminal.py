"""A command on a terminal of its own, and the pictures that its live display draws there."""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

COLUMNS, LINES = 116, 30
# What rich writes before it draws anew: back to the first line, erasing all of them.
_AGAIN = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #292929; width: max-content; }}
h1, pre {{ margin: 0; padding: 14px 20px; color: #c5c8c6; }}
h1 {{ font: 15px "DejaVu Sans", sans-serif; padding-bottom: 0; color: #8a8f98; }}
pre {{ font: 15px/1.3 "DejaVu Sans Mono", monospace; }}
</style><h1>$ {title}</h1><pre>{code}</pre>"""


def frames(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> list[str]:
    """Run the command to its end on a terminal; every picture that it drew, with its colours.

    Args:
        command: Program and arguments.
        folder: Its current folder.
        environment: Of the process, without what describes the terminal.
        log: Gets all that it wrote.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, **terminal},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = bytearray()
    try:
        while chunk := _read(ours):
            written += chunk
        process.wait()
    finally:
        process.terminate()  # a second time does nothing
        os.close(ours)
        log.write_bytes(written)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}, see {log}")
    return _AGAIN.split(written.decode(errors="replace").replace("\r\n", "\n"))


def page(frame: str, *, title: str) -> str:
    """One picture as an HTML page that looks like a terminal."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(frame.strip("\n")))
        code = console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True, code_format="{code}")
    return _PAGE.format(title=html.escape(title), code=code)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # how Linux says that the other end is closed
        return b""
