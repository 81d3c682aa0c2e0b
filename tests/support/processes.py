"""Real `trialfleet` processes: watched, signalled by their id, and never left behind.

They are forked with their imports done (`forking.py`), or started from nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL

from tests.support.forking import Forked, hear_a_closed_terminal
from tests.support.server import plain
from trialfleet.postgres.waiting import wait_until

PATIENCE = 100.0  # seconds until something that must happen counts as never happening


@dataclass(frozen=True, kw_only=True)
class Process:
    """A started command, whose output goes to files: a full pipe would stop it."""

    popen: subprocess.Popen[bytes] | Forked
    out_path: Path
    err_path: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self.out_path.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has logged so far, or complained about."""
        return self.err_path.read_text(encoding="utf-8")

    @property
    def error_line(self) -> str:
        """All it complained about, which must be one line and no traceback."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        return lines[0]

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code; fails the test if it has none in time."""
        try:
            return self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.stdout}\n{self.stderr}") from None

    def wait_until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Return once the condition holds; fails the test if it never does, or the process ends."""
        met = False

        def met_or_ended() -> bool:
            nonlocal met
            met = condition()
            return met or self.popen.poll() is not None

        wait_until(met_or_ended, patience, pause=0.02)
        assert met, f"exit code {self.popen.poll()}:\n{self.stdout}\n{self.stderr}"

    def send(self, number: signal.Signals) -> None:
        """Signal this process, and no other."""
        self.popen.send_signal(number)

    def expect(self, code: int) -> Process:
        """Itself, ended with this exit code."""
        found = self.wait()
        assert found == code, f"exit code {found}:\n{self.stdout}\n{self.stderr}"
        return self


@dataclass
class Commands:
    """Starts `trialfleet` in a folder of its own; whatever still runs at the end is killed.

    Args:
        folder: The commands' current folder; their output is kept beside what they write.
        url: Their TRIALFLEET_DATABASE_URL; None for none.
    """

    folder: Path
    url: URL | None
    started: list[Process] = field(default_factory=list)

    def start(
        self, *arguments: str, env: dict[str, str] | None = None, cold: bool = False
    ) -> Process:
        """Start `trialfleet ARGUMENTS`.

        Args:
            arguments: Of the command.
            env: Adds to the environment, and overrides it. Variables that are not ours may be the
                interpreter's, so with them it is started.
            cold: Start an interpreter instead of forking one.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRIALFLEET_")}
        # Compiled once, as on a user's machine: our modules take a third of a second.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        # Tables as wide as they need, the same on every machine.
        settings = {"TRIALFLEET_POLL_SECONDS": "0.05", "COLUMNS": "160", "NO_COLOR": "1"}
        # Each takes seconds, for one test's sake.
        settings |= {"TRIALFLEET_WINNER_GIF": "0", "TRIALFLEET_RUN_REPORT": "0"}
        if self.url is not None:
            settings["TRIALFLEET_DATABASE_URL"] = plain(self.url)
        number = len(self.started)
        out_path, err_path = (self.folder / f"command-{number}.{end}" for end in ("out", "err"))
        environment = {**kept, **settings, **(env or {})}
        popen: subprocess.Popen[bytes] | Forked
        if cold or not all(name.startswith("TRIALFLEET_") for name in env or {}):
            with out_path.open("wb") as out, err_path.open("wb") as err:
                popen = subprocess.Popen(
                    [sys.executable, "-P", "-m", "trialfleet.cli", *arguments],
                    cwd=self.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    preexec_fn=hear_a_closed_terminal,
                )
        else:
            popen = Forked(
                list(arguments),
                folder=self.folder,
                out=out_path,
                err=err_path,
                environment=environment,
            )
        self.started.append(Process(popen=popen, out_path=out_path, err_path=err_path))
        return self.started[-1]

    def run(
        self,
        *arguments: str,
        code: int = 0,
        env: dict[str, str] | None = None,
        cold: bool = False,
    ) -> Process:
        """Run it to its end, which must be this exit code."""
        return self.start(*arguments, env=env, cold=cold).expect(code)

    def study_file(self, text: str, name: str = "study.toml") -> str:
        """A study file in the folder; its name."""
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.started:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
