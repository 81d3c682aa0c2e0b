"""The compiled code keeps to the memory that it is given: no language checks that for it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(*args: str) -> None:
    """Run it all between unreadable pages, in a process that may crash."""
    command = [sys.executable, "-m", "tests.unit.dqn.guarded", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = "\n".join(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, f"exit {done.returncode} at: {last}\n{done.stderr}"


@pytest.mark.parametrize("side", ["behind", "before"])
@pytest.mark.parametrize("what", ["train", "multiply"])
def test_nothing_is_read_or_written_beside_an_array(what: str, side: str) -> None:
    run(what, *(["--first"] if side == "before" else []))


@pytest.mark.slow
@pytest.mark.timeout(900)  # all of it is compiled anew
@pytest.mark.parametrize("lanes", ["4", "8", "16"])
@pytest.mark.parametrize("what", ["train", "multiply"])
def test_nor_with_other_vectors(what: str, lanes: str) -> None:
    run(what, "--lanes", lanes)
    run(what, "--lanes", lanes, "--first")
