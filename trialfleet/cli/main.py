"""The `trialfleet` command.

Exit codes: 0 done; 1 a replay or an evaluation that disagrees, or an error nobody foresaw; 2 bad
input; 3 the schema is not ready; 4 the study failed; 5 the database stayed away; 130 and 143
stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from trialfleet.cli import logs
from trialfleet.errors import DatabaseUnavailableError, FleetError
from trialfleet.escape import printable
from trialfleet.settings import load_settings

app = typer.Typer(
    name="trialfleet",
    help="Distributed tuning of reinforcement-learning agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog=(
        "The database is the one that TRIALFLEET_DATABASE_URL (or the file that "
        "TRIALFLEET_DATABASE_URL_FILE) names; without one, an embedded PostgreSQL under "
        ".trialfleet/ in the current folder."
    ),
)

StudyFile = Annotated[Path, typer.Argument(help="A study file (TOML).", metavar="STUDY.toml")]
StudyName = Annotated[
    str | None, typer.Argument(help="The study's name; may be left out if there is only one.")
]
out_console = Console(soft_wrap=False)


def _example(*commands: str) -> str:
    return "Example: " + "; ".join(f"`{command}`" for command in commands)


@app.command(epilog=_example("trialfleet check studies/cartpole.toml"))
def check(file: StudyFile) -> None:
    """Parse a study file; print the study, its search space, and what it will cost."""
    from trialfleet.cli.check import load_checked, study_report

    out_console.print(study_report(load_checked(file)))


@app.command(epilog=_example("trialfleet run studies/demo.toml --workers 2"))
def run(
    file: StudyFile,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Worker processes. Default: one per core."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the saved agent.")] = Path("models"),
) -> None:
    """Run a whole study on this machine: database, coordinator and workers.

    Ctrl-C stops cleanly; the same command again goes on where it was.
    """
    from trialfleet.cli.check import load_checked
    from trialfleet.cli.local.pool import default_workers
    from trialfleet.cli.local.run import run_study
    from worker.stop import Stop, StopRequested

    spec = load_checked(file)
    stop = Stop()
    stop.install()
    try:
        run_study(
            spec,
            workers=workers or default_workers(),
            out=out,
            settings=load_settings(),
            console=out_console,
            stop=stop,
        )
    except StopRequested:
        _say("stopped; run the same command again to go on where it was")
        raise typer.Exit(stop.exit_code) from None


@app.command(epilog=_example("trialfleet migrate --wait 60"))
def migrate(
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for a PostgreSQL that is coming up.")
    ] = 0.0,
) -> None:
    """Create or upgrade the database's schema. Needs the database owner's URL."""
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.schema import migrate as bring_up_to_date
    from trialfleet.cli.schema import service_logins
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.tables import REVISION

    settings = load_settings()
    logins = service_logins(settings)
    with database_url(settings, create=True) as url:
        if wait:
            patiently(lambda: bring_up_to_date(url, logins), patience=wait, longest_pause=0.5)
        else:
            bring_up_to_date(url, logins)
    out_console.print(f"the schema is at revision {REVISION}")
    for login in logins:
        out_console.print(f"{login.name} may log in as {login.role}", markup=False)


@app.command(epilog=_example("trialfleet coordinate studies/cartpole.toml"))
def coordinate(
    file: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="Folder to save the best agent in, at the end.")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Wait for SIGTERM after the end, instead of ending.")
    ] = False,
) -> None:
    """Create a study, or join it, and keep it going until it has ended.

    Workers started anywhere with `trialfleet worker` do the training.
    """
    from coordinator.create import create_or_join
    from coordinator.status import snapshot
    from coordinator.watch import watch
    from trialfleet.cli.check import load_checked
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.show.display import result_report, saved, summary
    from trialfleet.cli.show.model import save_model
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database
    from worker.stop import Stop, StopRequested

    spec = load_checked(file)
    settings = load_settings()
    stop = Stop()
    stop.install()
    try:
        with database_url(settings) as url:
            database = Database(url, application="trialfleet-coordinator", pause=stop.wait)
            wait_for_schema(database, settings.migration_patience, pause=stop.wait)
            study = patiently(
                lambda: create_or_join(database, spec, artifacts=settings.artifacts),
                patience=settings.outage_patience,
                pause=stop.wait,
            )
            if study.ended:
                _say(f"study {study.name!r} has ended before; nothing is left to do")
            study = watch(database, study.name, settings=settings, pause=stop.wait)
            out_console.print(summary(snapshot(database, study)), soft_wrap=True)
            if study.result is not None:
                path = save_model(database, study, out) if out is not None else None
                out_console.print(result_report(study))
                if path is not None:
                    out_console.print(saved(path), soft_wrap=True)
            database.close()
            while stay:
                stop.wait(3600.0)
    except StopRequested:
        _say("coordinator stopped; the workers go on with their trials")
        raise typer.Exit(stop.exit_code) from None


@app.command(epilog=_example("trialfleet worker cartpole"))
def worker(
    study: Annotated[
        str | None,
        typer.Argument(help="The study's name, or its file; may be left out if there is only one."),
    ] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when the parent process is gone.")
    ] = False,
) -> None:
    """Pull trials of a study and train them until the study has ended.

    SIGTERM or Ctrl-C gives the trial at hand back at once, for another worker.
    """
    from worker.stop import Stop, StopRequested

    stop = Stop(with_parent=with_parent)
    stop.install()
    from trialfleet.cli.connect import database_url
    from trialfleet.cli.join import study_wanted, wait_for_study
    from trialfleet.postgres.retry import patiently
    from trialfleet.store.schema import wait_for_schema
    from trialfleet.store.storage import Database
    from worker.loop import Worker
    from worker.threads import use_one_thread  # PyTorch takes seconds: after the signal handlers

    use_one_thread()
    settings = load_settings()
    wanted, spec = study_wanted(study)
    try:
        with database_url(settings) as url:
            database = Database(url, application="trialfleet-worker", pause=stop.wait)
            wait_for_schema(database, settings.migration_patience, pause=stop.wait)
            patience = settings.migration_patience

            def join() -> Worker:
                name = wait_for_study(database, wanted, spec, patience, stop.wait)
                return Worker(database, name, settings=settings, stop=stop)

            patiently(join, patience=settings.outage_patience, pause=stop.wait).run()
            database.close()
    except StopRequested:
        raise typer.Exit(stop.exit_code) from None


@app.command(epilog=_example("trialfleet dashboard --port 8080"))
def dashboard(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Serve optuna-dashboard, with the artifacts. It has no authentication.

    It changes nothing unless TRIALFLEET_DASHBOARD_WRITABLE=1.
    """
    import threading

    from coordinator.dashboard import make_dashboard
    from trialfleet.artifacts.blobs import open_store
    from trialfleet.cli.connect import open_database
    from worker.stop import Stop, StopRequested

    settings = load_settings()
    stop = Stop()
    stop.install()
    with open_database(settings, application="trialfleet-dashboard") as database:
        server = make_dashboard(
            database,
            open_store(settings.artifacts, database),
            host=host,
            port=port,
            writable=settings.dashboard_writable,
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _say(f"dashboard: http://{host}:{server.server_port}/")
        try:
            while True:
                stop.wait(3600.0)
        except StopRequested:
            server.shutdown()
    raise typer.Exit(0 if stop.signal == 2 else stop.exit_code)


@app.command(epilog=_example("trialfleet status", "trialfleet status cartpole --json"))
def status(
    study: StudyName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where the studies stand, or one of them in detail."""
    from coordinator.status import as_dict, snapshot
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.display import picture, summary
    from trialfleet.store import studies

    with open_database(load_settings(), application="trialfleet-status") as database:
        chosen = [studies.find(database, study)] if study else studies.every(database)
        shots = [snapshot(database, each) for each in chosen]
    if as_json:
        print(json.dumps([as_dict(shot) for shot in shots], indent=2))
    elif not shots:
        out_console.print("no studies yet; create one with `trialfleet run STUDY.toml`")
    elif len(shots) == 1:
        out_console.print(picture(shots[0]))
    else:
        for shot in shots:
            out_console.print(f"{shot.study.stage:7} {summary(shot)}", soft_wrap=True)


@app.command(epilog=_example("trialfleet best cartpole --out models"))
def best(
    study: StudyName = None,
    out: Annotated[Path | None, typer.Option(help="Folder to save the best agent in.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what the final stage found, and save the best agent."""
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.show.display import result_report, saved
    from trialfleet.cli.show.model import save_model
    from trialfleet.errors import UsageError
    from trialfleet.store import studies

    with open_database(load_settings(), application="trialfleet-best") as database:
        chosen = studies.find(database, study) if study else studies.only(database)
        if chosen.result is None:
            raise UsageError(f"study {chosen.name!r} has no winner (it is at {chosen.stage!r})")
        path = save_model(database, chosen, out) if out else None
    if as_json:
        print(json.dumps(chosen.result, indent=2))
        return
    out_console.print(result_report(chosen))
    if path is not None:
        out_console.print(saved(path), soft_wrap=True)


@app.command(epilog=_example("trialfleet evaluate models/cartpole.safetensors --episodes 200"))
def evaluate(
    model: Annotated[Path, typer.Argument(help="A saved agent.", metavar="MODEL.safetensors")],
    episodes: Annotated[int, typer.Option(min=1, max=10_000, help="Fresh episodes.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Where the episodes start from.")] = 0,
) -> None:
    """Play fresh episodes with a saved agent."""
    from trialfleet.cli.replay import evaluate_model

    out_console.print(evaluate_model(model, episodes=episodes, seed=seed), soft_wrap=True)


@app.command(
    epilog=_example("trialfleet replay cartpole 17", "trialfleet replay cartpole 0 --final")
)
def replay(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    number: Annotated[int, typer.Argument(min=0, help="The trial's number.")],
    final: Annotated[
        bool, typer.Option("--final", help="A trial of the final stage instead of the search.")
    ] = False,
) -> None:
    """Run a finished trial again and compare: equal to the bit, or exit code 1."""
    from trialfleet.cli.connect import open_database
    from trialfleet.cli.replay import replay_trial

    settings = load_settings()
    with open_database(settings, application="trialfleet-replay") as database:
        equal = replay_trial(database, study, number, final=final, console=out_console)
    raise typer.Exit(0 if equal else 1)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Run the command line; every error we know becomes one line and its exit code."""
    try:
        logs.configure(load_settings())
        app()
    except FleetError as exc:
        _give_up(exc)
    except Exception as exc:
        from trialfleet.postgres.driver import is_outage
        from trialfleet.postgres.retry import first_line

        if not is_outage(exc):
            raise
        _give_up(DatabaseUnavailableError(f"PostgreSQL went away: {first_line(exc)}"))


def _give_up(error: FleetError) -> NoReturn:
    message = printable(" ".join(f"{error}".split()))
    _say(f"trialfleet: {message}. {error.remedy}")
    sys.exit(error.exit_code)
