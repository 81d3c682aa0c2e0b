"""One PostgreSQL cluster in a folder: made, started and stopped with the programs of a wheel.

The wheel has an interface of its own, which is not used: it fails with locales that are not
installed, passes folder names to a shell, keeps its lock where every user of the machine would need
it, changes the owner of data, and counts users that have died.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import URL

from trialfleet.errors import UsageError

if TYPE_CHECKING:
    import psutil

_PORT = 5432
_START_PATIENCE, _STOP_PATIENCE = 60.0, 60.0  # seconds; a crash is recovered from at the start
_TMP = "/tmp"  # noqa: S108 - a folder of our own is made in it
_LONGEST_FOLDER = 70  # characters; a socket's whole path may have 107, and 103 on macOS


class ServerError(Exception):
    """The server, or one of its programs, does not do what it should."""


class Cluster:
    """A cluster and its server.

    Args:
        data: Its folder; `data`.new is used while it is being made.
        binaries: The folder of initdb and postgres.
    """

    ROOTS_USER: ClassVar[str] = "pgserver"

    def __init__(self, data: Path, binaries: Path) -> None:
        self._data, self._binaries = data, binaries
        self._log = data / "log"
        self._child: subprocess.Popen[bytes] | None = None

    def user(self) -> dict[str, Any]:
        """Arguments for subprocess: none, or as root those of another user, who is made if need be.

        PostgreSQL refuses to run as root.

        Raises:
            UsageError: That user may not reach the folder.
            ServerError: That user cannot be made.
        """
        if os.geteuid() != 0:
            return {}
        try:
            found = pwd.getpwnam(self.ROOTS_USER)
        except KeyError:
            try:
                subprocess.run(  # noqa: S603
                    ["useradd", "--system", "--shell", "/bin/false", self.ROOTS_USER],  # noqa: S607
                    check=True,
                    capture_output=True,
                )
            except (OSError, subprocess.CalledProcessError) as exc:
                raise ServerError(
                    f"root needs a user {self.ROOTS_USER!r} for it, which cannot be made: {exc}"
                ) from exc
            found = pwd.getpwnam(self.ROOTS_USER)
        for path in (self._data, self._binaries):
            _let_through(path)
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}

    def exists(self) -> bool:
        """Whether it has been made: a whole one, or none."""
        return (self._data / "PG_VERSION").exists()

    def create(self, configuration: str) -> None:
        """Make it, with these lines at the end of its configuration.

        Raises:
            ServerError: It cannot be made; the message has initdb's last line.
        """
        user = self.user()
        new = self._data.with_name(self._data.name + ".new")
        shutil.rmtree(new, ignore_errors=True)  # of a process that died while it made one
        new.mkdir(mode=0o700)
        if "user" in user:
            os.chown(new, user["user"], user["group"])
        # Sorting and messages are the same on every machine, whatever its locales.
        options = ["--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres"]
        made = subprocess.run(  # noqa: S603
            [self._binaries / "initdb", *options, "--pgdata", new],
            **user,
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if made.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise ServerError(f"initdb failed: {_telling(made.stdout)}")
        with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(configuration)
        if self._data.exists():
            self._data.rmdir()  # empty, or no cluster and not ours to remove
        new.rename(self._data)

    def running(self) -> bool:
        """Whether its server runs on this machine."""
        return self._server() is not None

    def url(self) -> str:
        """URL of the running server's maintenance database."""
        # The port decides about the socket's name; PGPORT must not.
        url = URL.create("postgresql", "postgres", port=_PORT, database="postgres")
        url = url.set(query={"host": self._postmaster_line(4)})
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start the server, which must not run, and wait until it takes connections.

        Raises:
            ServerError: It does not start; the message has the last line of its log.
        """
        # Of a server that was killed. PostgreSQL would believe it if the number had been reused.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        user = self.user()
        sockets = _socket_folder(user)
        with self._log.open("ab") as log:
            if "user" in user:
                os.chown(self._log, user["user"], user["group"])
            written = log.tell()
            self._child = server = subprocess.Popen(  # noqa: S603
                [
                    self._binaries / "postgres",
                    *("-D", self._data, "-p", str(_PORT), "-k", sockets),
                    *("-c", "listen_addresses="),
                ],
                **user,
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Signals of this terminal are for us; the server ends when its last user leaves.
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_PATIENCE
        while self._postmaster_line(7) != "ready":
            ended = server.poll() is not None
            if ended or time.monotonic() > deadline:
                if not ended:
                    server.kill()
                    server.wait()
                shutil.rmtree(sockets, ignore_errors=True)
                raise ServerError(f"it did not start: {self._told_since(written)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server, if it runs, and wait until it is gone."""
        import psutil

        server = self._server()
        if server is None:
            return
        sockets = self._postmaster_line(4)
        with suppress(psutil.NoSuchProcess):
            server.send_signal(signal.SIGINT)  # "fast": sessions end, everything is written
        deadline = time.monotonic() + _STOP_PATIENCE
        while self.running():
            if time.monotonic() > deadline:
                with suppress(psutil.NoSuchProcess):
                    server.send_signal(signal.SIGQUIT)  # recovery at the next start
                break
            time.sleep(0.02)
        if self._child is not None:
            self._child.poll()
        if sockets and Path(sockets) != self._data:
            shutil.rmtree(sockets, ignore_errors=True)

    def _server(self) -> psutil.Process | None:
        """The process that runs in this folder, wherever the folder has been moved since."""
        import psutil  # of the extra `embedded`, which a service of a fleet does without

        number = self._postmaster_line(0)
        if not number.isdigit():
            return None
        with suppress(psutil.Error, OSError):
            process = psutil.Process(int(number))
            if os.path.samefile(process.cwd(), self._data):
                return process
        return None

    def _postmaster_line(self, number: int) -> str:
        """A line of postmaster.pid: 0 process, 4 folder of the socket, 7 state."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ""
        return lines[number].strip() if number < len(lines) else ""

    def _told_since(self, position: int) -> str:
        with self._log.open("rb") as log:
            log.seek(position)
            return f"{_telling(log.read())} (log: {self._log})"


def _let_through(path: Path) -> None:
    """Let every user pass through root's own folders on the way to `path`, and change no other."""
    closed = [
        folder
        for folder in path.parents
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH
    ]
    for folder in closed:
        if folder.stat().st_uid != 0:
            raise UsageError(
                f"{folder} lets nobody but its owner in, so root cannot run PostgreSQL there: run "
                "Trialfleet as that owner, or set TRIALFLEET_DATABASE_URL"
            )
    for folder in closed:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)


def _socket_folder(user: dict[str, Any]) -> Path:
    """A folder of the server's own, with a short name whatever the data's folder is called.

    Raises:
        UsageError: There is no /tmp, and TMPDIR names nothing that takes its place.
    """
    # TMPDIR may be too long for a socket, in a place that the server's user does not reach, or have
    # a comma in its name, at which both the server and libpq cut a list of folders.
    base = _TMP if os.access(_TMP, os.W_OK | os.X_OK) else tempfile.gettempdir()
    if len(base) > _LONGEST_FOLDER or not base.isascii() or set(base) & set(',"\n'):
        raise UsageError(
            f"TMPDIR: {base!r} can hold no socket of the embedded PostgreSQL, and {_TMP} cannot be "
            "written to; name a folder whose path is short and plain"
        )
    folder = Path(tempfile.mkdtemp(prefix="trialfleet-", dir=base))
    if "user" in user:
        os.chown(folder, user["user"], user["group"])
    return folder


def _environment() -> dict[str, str]:
    """Ours, without what would change the server: its locale and its own variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "TRIALFLEET_")) and name not in ("LANG", "LANGUAGE")
    }
    return {**kept, "LC_ALL": "C"}


def _telling(output: bytes) -> str:
    """The line of a program's output that says what went wrong."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error:" in line]
    return (telling or lines or ["it said nothing"])[-1]
