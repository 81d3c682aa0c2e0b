"""What the containers cost: image sizes, seconds from `up` to the first trial, memory of a worker.

    python -m benchmarks.containers [--starts 3] [--workers 8]

Needs a Docker engine with Compose v2 and Buildx. Builds the images, and runs them under a project
name of its own, which it removes again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = "trialfleet-bench"
TAG = "bench"
BASE = os.environ.get("BASE_IMAGE", "python:3.11-slim-bookworm")
PATIENCE = 300.0  # seconds
IMAGES = ("coordinator", "worker", "dashboard")


def docker(*arguments: str, study: str = "studies/demo.toml", check: bool = True) -> str:
    """Run `docker ARGUMENTS`; what it printed."""
    ports = {"DASHBOARD_PORT": "0", "TENSORBOARD_PORT": "0"}
    settings = {"STUDY": study, "TRIALFLEET_TAG": TAG, **ports}
    done = subprocess.run(
        ["docker", *arguments],  # noqa: S607 - whichever docker is first on the path
        cwd=ROOT,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        sys.exit(f"docker {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


def compose(*arguments: str, study: str = "studies/demo.toml", check: bool = True) -> str:
    """Run `docker compose ARGUMENTS` for our project."""
    return docker("compose", "--project-name", PROJECT, *arguments, study=study, check=check)


@contextmanager
def up(workers: int, study: str = "studies/demo.toml") -> Iterator[float]:
    """Everything started from nothing; yields when that was, in seconds of the machine's clock."""
    started = time.time()
    try:
        compose("up", "--detach", "--scale", f"worker={workers}", study=study)
        yield started
    finally:
        compose("down", "--volumes", "--timeout", "5", check=False)


def sql(statement: str) -> str:
    """What psql prints, in PostgreSQL's own container; nothing while it is not ready."""
    psql = ("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username=postgres")
    options = ("--dbname=trialfleet", f"--command={statement}")
    return compose("exec", "--no-TTY", "postgres", *psql, *options, check=False).strip()


def wait_for(statement: str) -> str:
    """What the statement gives, once it gives something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := sql(statement)):
        if time.monotonic() > deadline:
            sys.exit(f"nothing within {PATIENCE:g} s: {statement}")
        time.sleep(0.5)
    return found


def megabytes(image: str) -> float:
    """An image's size, as `docker images` counts it."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6


def first_claim(workers: int) -> float:
    """Seconds from `up` to the first claimed trial, on fresh volumes."""
    with up(workers) as started:
        claimed = wait_for("SELECT extract(epoch FROM min(claimed_at)) FROM fleet.attempts")
        return float(claimed) - started


def resident(container: str) -> float:
    """Resident memory of the container's process, in MB."""
    status = docker("exec", container, "cat", "/proc/1/status")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, flags=re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def accounted(container: str) -> float:
    """What `docker stats` says of the container, in MB."""
    text = docker("stats", "--no-stream", "--format", "{{json .}}", container)
    number, unit = re.findall(r"([\d.]+)(\w+)", json.loads(text)["MemUsage"])[0]
    return float(number) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit] / 1e6


def memory(study: Path) -> dict[str, list[float]]:
    """Of two workers with one trial between them: the one that trains, and the one that waits."""
    # One trial, whatever the file says; the final stage retrains no more than there are.
    one = re.sub(r"^(trials|top) = .*$", r"\1 = 1", study.read_text("utf-8"), flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.toml"
        path.write_text(one, encoding="utf-8")
        path.chmod(0o644)
        Path(folder).chmod(0o755)
        with up(2, str(path)):
            # Two evaluations: by then it has trained, and allocated what it will.
            wait_for("SELECT 1 FROM fleet.metrics WHERE name = 'return' HAVING count(*) >= 2")
            host = wait_for("SELECT host FROM fleet.workers WHERE trial_number IS NOT NULL LIMIT 1")
            both = compose("ps", "--quiet", "worker", study=str(path)).split()
            measures: tuple[Callable[[str], float], ...] = (accounted, resident)
            return {
                "busy" if container.startswith(host) else "idle": [
                    measure(container) for measure in measures
                ]
                for container in both
            }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--starts", type=int, default=3, help="times that `up` is measured")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--study", type=Path, default=ROOT / "studies" / "cartpole.toml")
    given = parser.parse_args()

    compose("build", *IMAGES)
    compose("down", "--volumes", check=False)
    base = megabytes(BASE)
    print(f"image         size   on top of {BASE} ({base:,.0f} MB)")
    for image in IMAGES:
        size = megabytes(f"trialfleet-{image}:{TAG}")
        print(f"{image:12} {size:5,.0f} MB {size - base:5,.0f} MB")

    seconds = [first_claim(given.workers) for _ in range(given.starts)]
    each = ", ".join(f"{second:.1f}" for second in seconds)
    print(
        f"\nup --scale worker={given.workers} to the first claimed trial, images built: "
        f"{statistics.median(seconds):.1f} s ({each})"
    )

    print(f"\nworker   docker stats   resident   ({given.study.name})")
    for kind, (stats, process) in sorted(memory(given.study).items(), reverse=True):
        print(f"{kind:6} {stats:11,.0f} MB {process:7,.0f} MB")


if __name__ == "__main__":
    main()
