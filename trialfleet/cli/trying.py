"""Whether this machine can train what a study names: tried in a process of its own.

Whatever other people's code does when it is imported and made, hang, exit or print, the command
that asked goes on and loads none of it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from trialfleet.errors import StudyFileError
from trialfleet.escape import printable
from trialfleet.processes import run_program
from trialfleet.study.task import Task

PATIENCE = 120.0  # seconds; importing a large framework on a busy machine takes some of them


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What was found of an environment; nothing of a function but that it is there."""

    observation_size: int = 0
    actions: int = 0
    max_episode_steps: int = 0
    reward_threshold: float | None = None
    warnings: tuple[str, ...] = ()


def try_task(task: Task, *, patience: float = PATIENCE) -> Tried:
    """Import and make what the task names, as a worker on this machine would.

    Raises:
        StudyFileError: It cannot be made, it does not work, or it does not come back in time.
    """
    table = json.dumps(task.model_dump(mode="json", exclude_none=True))
    command = [sys.executable, "-P", "-m", "trialfleet.cli.trying"]
    ended = run_program(command, given=table, patience=patience)
    if ended.code is None:
        raise StudyFileError(
            f"task.{_field(task)}: {task.subject!r} did not come back within {patience:g} s when it"
            " was made and stepped once; correct it, or check the file alone with --file-only"
        )
    answer = ended.out.rpartition(_MARK)[2]
    if ended.code != 0 or not answer.strip():
        said = ended.err.strip().splitlines() or [f"exit code {ended.code}"]
        raise StudyFileError(f"task.{_field(task)}: {task.subject!r}: {printable(said[-1][:300])}")
    found: dict[str, Any] = json.loads(answer)
    if "refused" in found:
        raise StudyFileError(found["refused"])
    return Tried(**{**found, "warnings": tuple(found["warnings"])})


_MARK = "\x1eTRIED\x1e"  # after it comes the answer, whatever others have printed before


def _field(task: Task) -> str:
    return "env" if task.objective is None else "objective"


def _answer() -> dict[str, Any]:
    """The process's own part: try what the standard input describes."""
    from trialfleet.checking.imports import allow, tell_folders
    from trialfleet.cli.imports import searched
    from trialfleet.settings import load_settings
    from worker.trainers.environment import Environment
    from worker.trainers.function.loading import find_function
    from worker.trainers.trial_run import step_once

    task = json.load(sys.stdin)
    allow(load_settings().allowed_imports)
    tell_folders(searched())
    try:
        if "objective" in task:
            find_function(task["objective"])
            return {"warnings": []}
        return step_once(Environment.of_task(task))
    except StudyFileError as refused:
        return {"refused": str(refused)}


if __name__ == "__main__":
    from trialfleet.cli.imports import search_our_own_first

    search_our_own_first()
    answered = _answer()
    print(_MARK, json.dumps(answered), sep="", flush=True)
    os._exit(0)  # without others' exit handlers and threads
