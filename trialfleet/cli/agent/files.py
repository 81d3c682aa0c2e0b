"""Files that are there whole or not at all."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from trialfleet.errors import UsageError


def write(path: Path, data: bytes, *, option: str = "--output") -> None:
    """Write a file, and its folder where that is missing; a reader never sees half of it.

    Raises:
        UsageError: The system refuses; the message names the option that named the file.
    """
    # A name of this call's own: two commands may write the same file at once.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UsageError(f"{option}: cannot write to {str(path)!r}: {exc.strerror}") from exc
