"""`trialfleet tensorboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.cli.commands.arguments import Expose
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def tensorboard(
    study: Annotated[
        str | None,
        typer.Argument(help="The study's name, or its file; may be left out if there is only one."),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(
            help="Trials to show: numbers such as 1,5,7, or all. Default: those that run, the "
            "best 20 and the finalists; TensorBoard slows down at some 250."
        ),
    ] = None,
    seeds: Annotated[
        bool, typer.Option("--seeds", help="A run for each seed, instead of their mean and range.")
    ] = False,
    logdir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the event files, for this study alone. "
            "Default: .trialfleet/tensorboard/STUDY."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 6006,
    expose: Expose = False,
    no_serve: Annotated[
        bool,
        typer.Option("--no-serve", help="Only write the event files, until the study has ended."),
    ] = False,
) -> None:
    """Show a study in TensorBoard while it runs, whatever machines train it.

    The curves come from the database. The page has no authentication.
    """
    from trialfleet.errors import UsageError

    try:
        import tensorboard as _  # noqa: F401 - to say which extra is missing
    except ImportError as exc:
        raise UsageError('TensorBoard is missing: pip install "trialfleet[tensorboard]"') from exc
    from coordinator.exposure import refuse_unexpected, warning
    from coordinator.tensorboard.follow import Follower
    from coordinator.tensorboard.runs import Choice
    from coordinator.tensorboard.serve import serve
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.join import study_wanted, wait_for_study
    from trialfleet.postgres.retry import patiently
    from worker.stop import Stop, StopRequested

    what = "sees the study's curves and hyperparameters"
    if not no_serve:
        refuse_unexpected(host, expose=expose, what=what)
    choice = Choice.parse(trials, seeds=seeds)
    wanted, spec = study_wanted(study)
    settings = load_settings()
    stop = Stop()
    stop.install()
    try:
        with open_database(settings, application="trialfleet-tensorboard") as database:
            patience = settings.migration_patience if spec is not None else 0.0
            name = wait_for_study(database, wanted, spec, patience, stop.wait)
            folder = logdir or Path(".trialfleet") / "tensorboard" / name
            follower = Follower(database, name, folder, choice)

            def look() -> bool:
                return patiently(
                    follower.look, patience=settings.outage_patience, pause=stop.wait
                ).ended

            try:
                ended = look()
                if not no_serve:
                    if told := warning(host, port, what):
                        console.say(told)
                    console.say(f"tensorboard: {serve(folder, host=host, port=port, title=name)}")
                while not (ended and no_serve):
                    stop.wait(settings.poll_seconds)
                    ended = look()
            finally:
                follower.close()
    except StopRequested:
        raise typer.Exit(stop.exit_code) from None
