"""The winner at play, as a GIF beside its saved model: what `run` ends with."""

from __future__ import annotations

import sys
from pathlib import Path

from trialfleet.errors import UsageError
from trialfleet.escape import printable
from trialfleet.processes import run_program
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
    output.unlink(missing_ok=True)  # of another agent, perhaps
    ended = run_program(
        [
            *(sys.executable, "-P", "-m", "trialfleet.cli"),
            "play",
            str(model),
            "--output",
            str(output),
        ],
        patience=_PATIENCE,
        environment=child_environment(),
        pause=stop.wait,
    )
    if ended.code == 0 and output.exists():
        return f"saved: {printable(str(output))}"
    lines = ended.err.strip().splitlines()
    reason = lines[-1].removeprefix("trialfleet: ") if lines else f"exit code {ended.code}"
    reason = reason.removesuffix(f". {UsageError().remedy}")  # of `play`, which nobody has typed
    if ended.code is None:
        reason = f"it took longer than {_PATIENCE:.0f} seconds"
    return f"no GIF of the agent: {printable(reason)}"
