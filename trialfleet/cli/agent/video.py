"""A saved agent at play, as a file that people can watch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from trialfleet.cli.agent.files import write
from trialfleet.cli.agent.model import open_agent
from trialfleet.cli.extras import needs
from trialfleet.errors import SystemRefusedError, UsageError
from trialfleet.settings import draw_without_a_window
from trialfleet.study.measures import as_score

ENDINGS = (".gif", ".mp4")
_WIDTHS = {".gif": 360, ".mp4": 640}  # pixels at most


def film_model(
    model: Path, output: Path, *, episodes: int = 1, seed: int = 0, fps: int = 25
) -> str:
    """Play greedy episodes with a saved agent into a GIF or MP4; a line that says how it did.

    The episodes are the first of those that `trialfleet evaluate` plays with the same seed.

    Raises:
        UsageError: The model is no saved agent, its environment cannot be shown, the extra `play`
            is not installed, or the file cannot be written.
    """
    kind = output.suffix.lower()
    if kind not in ENDINGS:
        raise UsageError(f"--output: {str(output)!r}; must end with {' or '.join(ENDINGS)}")
    draw_without_a_window()
    with needs("play"):
        if kind == ".mp4":
            import imageio_ffmpeg  # noqa: F401

        from worker.play.files import as_gif, as_mp4
        from worker.play.film import shoot
    agent, env = open_agent(model)
    starts = np.random.SeedSequence(seed).generate_state(episodes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's, which say nothing of the agent
        film = shoot(agent, env, [int(word) for word in starts], fps=fps, width=_WIDTHS[kind])
    try:
        data = as_gif(film) if kind == ".gif" else as_mp4(film)
    except OSError as exc:
        raise SystemRefusedError.of(exc, "FFmpeg") from exc
    write(output, data)
    total, steps = np.mean(film.returns), sum(film.lengths)
    noun = "episode" if episodes == 1 else "episodes"
    return (
        f"{output}: {env}, {episodes} {noun}, mean return {as_score(float(total))},"
        f" {steps:,} steps, {len(data) / 1e6:.2f} MB"
    )
