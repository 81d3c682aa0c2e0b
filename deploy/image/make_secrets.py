#!/usr/bin/env python
"""Make the passwords and the database URLs of a deployment. What is there already stays.

    make_secrets.py FOLDER [--host HOST] [--port PORT] [--database NAME] [--query QUERY]

FOLDER gets one folder for each role: `password`, and `url`, a whole database URL. To choose a
password, write it (any characters) to FOLDER/ROLE/password first. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path
from urllib.parse import quote

# PostgreSQL's superuser, who works on no trial; the schema's owner, for the migrator; the others.
ROLES = ("postgres", "owner", "coordinator", "worker", "dashboard")


def make(folder: Path, *, host: str, port: int, database: str, query: str) -> list[Path]:
    """Write what is missing; the paths written."""
    written = []
    for role in ROLES:
        home = folder / role
        home.mkdir(parents=True, exist_ok=True)
        password = home / "password"
        if not password.exists():
            _write(password, secrets.token_urlsafe(24))
            written.append(password)
        secret = password.read_text(encoding="utf-8").rstrip("\r\n")
        # Everything is percent-encoded, so a password may hold any character.
        where = f"[{host}]" if ":" in host else host  # an address of IPv6
        login = f"{role}:{quote(secret, safe='')}"
        url = f"postgresql://{login}@{where}:{port}/{database}" + (f"?{query}" if query else "")
        urls = {"url": url}
        if role == "dashboard":
            # For KEDA, which has certificates of its own and no file of ours.
            urls["scaler"] = _without(url, "sslrootcert")
        for name, text in urls.items():
            if not (home / name).exists() or (home / name).read_text(encoding="utf-8") != text:
                _write(home / name, text)
                written.append(home / name)
    return written


def _without(url: str, parameter: str) -> str:
    start, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith(f"{parameter}=")]
    return start + ("?" + "&".join(kept) if kept else "")


def _write(path: Path, text: str) -> None:
    # Readable by other users of a container that is given the file; on a machine, the folder above
    # keeps others out. Whole or not at all: a container that dies here leaves no half password.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o444)
    temporary.replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="postgres", help="PostgreSQL's host, as workers see it")
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--database", default="trialfleet")
    parser.add_argument("--query", default="", help="such as sslmode=verify-full&sslrootcert=…")
    given = parser.parse_args()
    try:
        given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if given.folder.stat().st_mode & 0o077:
            # What is in it can be read by the users of containers, which have the files only.
            given.folder.chmod(0o700)
            print(f"closed {given.folder} to other users")
    except OSError as exc:
        parser.exit(
            2,
            f"{given.folder}: cannot be made a folder of yours alone: {exc.strerror}; give it to"
            " yourself (sudo chown), or name another one\n",
        )
    written = make(
        given.folder,
        host=given.host,
        port=given.port,
        database=given.database,
        query=given.query,
    )
    for path in written:
        print(f"made {path}")
    if not written:
        print("the secrets are there already")


if __name__ == "__main__":
    main()
