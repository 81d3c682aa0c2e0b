"""The winner at play, as a GIF beside its saved model: what `run` ends with."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trialfleet.escape import printable
from trialfleet.settings import child_environment
from worker.stop import Stop

_PATIENCE = 120.0  # seconds; an environment may hang


def picture_winner(model: Path, stop: Stop) -> str:
    """Write MODEL.gif; one line that says where it is, or why there is none.

    A process of its own does it, because drawing runs the environment's code and native libraries:
    whatever happens there, the study has its result.

    Raises:
        StopRequested: A signal asked for it; no picture was made.
    """
    output = model.with_suffix(".gif")
    program = [sys.executable, "-P", "-m", "trialfleet.cli"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            [*program, "play", str(model), "--output", str(output)],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is ours to hear
        )
        deadline = time.monotonic() + _PATIENCE
        try:
            while process.poll() is None and time.monotonic() < deadline:
                stop.wait(0.05)
        finally:
            late = process.poll() is None
            process.kill()
            process.wait()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    if process.returncode == 0:
        return f"saved: {printable(str(output))}"
    reason = lines[-1].removeprefix("trialfleet: ") if lines else f"exit code {process.returncode}"
    if late:
        reason = f"it took longer than {_PATIENCE:.0f} seconds"
    return f"no GIF of the agent: {printable(reason)}"
