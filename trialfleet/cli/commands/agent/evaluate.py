"""`trialfleet evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.show import console


def evaluate(
    model: Annotated[Path, typer.Argument(help="A saved agent.", metavar="MODEL.safetensors")],
    episodes: Annotated[int, typer.Option(min=1, max=10_000, help="Fresh episodes.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes' starts.")] = 0,
) -> None:
    """Play fresh episodes with a saved agent."""
    from trialfleet.cli.extras import needs

    with needs("worker"):
        from trialfleet.cli.replay import evaluate_model

    console.out.print(evaluate_model(model, episodes=episodes, seed=seed), soft_wrap=True)
