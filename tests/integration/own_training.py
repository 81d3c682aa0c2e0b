"""A training of one's own whose every step depends on the one before."""

from __future__ import annotations

import json

from trialfleet.training import Result, Run


def after_report(step: int) -> None:
    """What a test does there."""


def train(run: Run) -> Result:
    """A random walk of each seed."""
    at = json.loads(run.checkpoint) if run.checkpoint else [1.0] * len(run.seeds)
    for step in run.steps:
        for number, seed in enumerate(run.seeds):
            draw = run.segment_seed(seed, step) % 1000
            at[number] = at[number] * run.parameters["rate"] + draw / 1000
        run.report(step, at, checkpoint=lambda: json.dumps(at).encode())
        after_report(step)
    return Result(scores=at, models=[json.dumps(x).encode() for x in at], suffix=".walk")
