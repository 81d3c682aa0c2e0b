"""The real `docker` and `docker compose`, on the project's own files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.processes import Process
from trialfleet.postgres.waiting import wait_until

ROOT = Path(__file__).parents[2]
TAG = "e2e"  # of the images, so that those of the person at this machine stay theirs
BASE = os.environ.get("BASE_IMAGE", "python:3.11-slim-bookworm")
PATIENCE = 120.0  # seconds until something that must happen counts as never happening
OURS = ("STUDY", "SECRETS", "TRIALFLEET_", "POSTGRES_", "DASHBOARD_", "TENSORBOARD_", "COMPOSE_")


def environment(**variables: str) -> dict[str, str]:
    """That of this process without what would steer the compose files, and `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ports = {"DASHBOARD_PORT": "0", "TENSORBOARD_PORT": "0"}
    return {**kept, "TRIALFLEET_TAG": TAG, **ports, **variables}


def docker(*arguments: str, check: bool = True, **variables: str) -> str:
    """Run `docker ARGUMENTS`; what it printed.

    Raises:
        AssertionError: It failed, or took longer than anything here should.
    """
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if check:
        assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout
    return done.stdout + done.stderr


def build(tag: str, folder: str) -> str:
    """Build an image that only the tests need; its name."""
    context = str(ROOT / "tests" / "e2e" / folder)
    docker("build", "--quiet", "--build-arg", f"BASE_IMAGE={BASE}", "--tag", tag, context)
    return tag


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value that the condition gives; fails the test if there is none in time."""
    value: Any = None

    def met() -> bool:
        nonlocal value
        value = condition()
        return bool(value)

    wait_until(met, patience, pause=0.2)
    assert value, f"not within {patience:g} s: {what}"
    return value


class Project:
    """One deployment of the compose files, under a name of its own.

    Args:
        name: Compose's project name.
        folder: Where the output of commands that go on is kept.
        study: The study file.
        files: Compose files; the project's docker-compose.yml by default.
        variables: What the compose files read from the environment.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        study: str = "tests/e2e/small.toml",
        files: tuple[str | Path, ...] = ("docker-compose.yml",),
        **variables: str,
    ) -> None:
        self.name, self.folder = name, folder
        self.variables = {"STUDY": study, **variables}
        self._options = ["compose", "--project-name", name]
        for file in files:
            self._options += ["--file", str(file)]
        # Relative paths are those of the repository, whichever file comes first.
        self._options += ["--project-directory", str((ROOT / files[0]).parent)]
        self._started: list[Process] = []

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run `docker compose ARGUMENTS`; what it printed."""
        return docker(*self._options, *arguments, check=check, **self.variables)

    def start(self, *arguments: str) -> Process:
        """Start `docker compose ARGUMENTS`, in the foreground as a person would."""
        number = len(self._started)
        out_path, err_path = (self.folder / f"compose-{number}.{end}" for end in ("out", "err"))
        with out_path.open("wb") as out, err_path.open("wb") as err:
            popen = subprocess.Popen(
                ["docker", *self._options, *arguments],
                cwd=ROOT,
                env=environment(**self.variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self._started.append(Process(popen=popen, out_path=out_path, err_path=err_path))
        return self._started[-1]

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """`docker inspect` of the containers, running or not."""
        filters = [f"label=com.docker.compose.project={self.name}"]
        if service is not None:
            filters.append(f"label=com.docker.compose.service={service}")
        options = [option for each in filters for option in ("--filter", each)]
        ids = docker("ps", "--all", "--quiet", "--no-trunc", *options).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return found

    def running(self, service: str) -> list[dict[str, Any]]:
        """Those that run."""
        return [each for each in self.containers(service) if each["State"]["Running"]]

    def sql(self, statement: str, *, check: bool = True) -> list[list[str]]:
        """Rows of a statement, by psql inside of PostgreSQL's own container."""
        output = self.compose(
            "exec",
            "--no-TTY",
            "postgres",
            *(
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--field-separator=\t",
            ),
            *("--set=ON_ERROR_STOP=1", "--username=postgres", "--dbname=trialfleet"),
            *("--command", statement),
            check=check,
        )
        return [line.split("\t") for line in output.splitlines() if line]

    def scalar(self, statement: str) -> int:
        """One number; 0 while PostgreSQL is away, or the schema not there yet."""
        rows = self.sql(statement, check=False)
        return int(rows[0][0]) if len(rows) == 1 and rows[0][0].isdigit() else 0

    def down(self) -> None:
        """Leave nothing behind, and the logs in the test's output."""
        for process in self._started:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
        print(self.compose("logs", "--no-color", "--tail=60", check=False)[-20_000:])
        self.compose("down", "--volumes", "--timeout=5", check=False)


def check_in_container(project: Project, study: str = "small") -> None:
    """The invariants A to G of a study that has ended, looked up where the database can be reached.

    Raises:
        AssertionError: Its message lists everything that does not hold.
    """
    check_invariants_from(
        f"{project.name}_default", f"{project.name}_secrets-coordinator:/secrets:ro", study
    )


def check_invariants_from(network: str, secrets: str, study: str) -> None:
    """As above, for any network and any mount that holds `/secrets/url`."""
    program = (
        "import sys; from pathlib import Path; from tests.support.invariants import *; "
        "from trialfleet.postgres.url import parse_url; "
        "url = parse_url(Path('/secrets/url').read_text()); "
        f"check_invariants(Database(url, application='tests'), {study!r}); print('all hold')"
    )
    output = docker(
        *("run", "--rm", "--network", network, "--volume", secrets),
        *("--volume", f"{ROOT / 'tests' / 'support'}:/tests/tests/support:ro"),
        *("--env", "PYTHONPATH=/opt/trialfleet:/tests", "--entrypoint", "python"),
        *(f"trialfleet-coordinator:{TAG}", "-c", program),
    )
    assert output.strip().endswith("all hold"), output
