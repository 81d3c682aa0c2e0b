"""`trialfleet play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.show import console


def play(
    model: Annotated[Path, typer.Argument(help="A saved agent.", metavar="MODEL.safetensors")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .gif or .mp4 file. Default: MODEL.gif."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=20, help="Episodes to show.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the episodes' starts, as `evaluate` takes it.")
    ] = 0,
    fps: Annotated[int, typer.Option(min=1, max=50, help="The most frames in a second.")] = 25,
) -> None:
    """Show a saved agent at play, as a GIF or MP4 with its score."""
    from trialfleet.cli.agent.video import film_model

    output = output or model.with_suffix(".gif")
    said = film_model(model, output, episodes=episodes, seed=seed, fps=fps)
    console.out.print(said, soft_wrap=True, markup=False, highlight=False)
