"""The `trialfleet` command: its subcommands, and how every ending becomes an exit code.

`trialfleet.errors.EXIT_CODES` lists the codes. Each subcommand is a module of its own under
`commands/` and imports what is heavy only when it runs.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from trialfleet import __version__
from trialfleet.checking.imports import allow, tell_folders
from trialfleet.cli import imports
from trialfleet.cli.commands.agent.best import best
from trialfleet.cli.commands.agent.evaluate import evaluate
from trialfleet.cli.commands.agent.play import play
from trialfleet.cli.commands.inspect.check import check
from trialfleet.cli.commands.inspect.logs import logs
from trialfleet.cli.commands.inspect.replay import replay
from trialfleet.cli.commands.inspect.status import status
from trialfleet.cli.commands.report.compare import compare
from trialfleet.cli.commands.report.plot import plot
from trialfleet.cli.commands.report.report import report
from trialfleet.cli.commands.serve.coordinate import coordinate
from trialfleet.cli.commands.serve.dashboard import dashboard
from trialfleet.cli.commands.serve.migrate import migrate
from trialfleet.cli.commands.serve.run import run
from trialfleet.cli.commands.serve.tensorboard import tensorboard
from trialfleet.cli.commands.serve.worker import worker
from trialfleet.cli.commands.steer.bring import bring
from trialfleet.cli.commands.steer.delete import delete
from trialfleet.cli.commands.steer.enqueue import enqueue
from trialfleet.cli.commands.steer.extend import extend
from trialfleet.cli.commands.steer.pause import pause, resume
from trialfleet.cli.commands.steer.retry import retry
from trialfleet.cli.commands.steer.stop import stop
from trialfleet.cli.commands.steer.submit import submit
from trialfleet.cli.show import console
from trialfleet.cli.show.logs import configure
from trialfleet.errors import (
    EXIT_CODES,
    HOPELESS,
    FleetError,
    SystemRefusedError,
)
from trialfleet.escape import printable
from trialfleet.parent import tell
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
        "TRIALFLEET_DATABASE_URL_FILE names) gives; without one, an embedded PostgreSQL under "
        ".trialfleet/ in the current folder.\n\nExit codes: "
        + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
        + "."
    ),
)


def _version(asked: bool) -> None:
    if asked:
        print(f"trialfleet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Distributed tuning of reinforcement-learning agents."""


def _example(*commands: str) -> str:
    return "Example: " + "; ".join(f"`{command}`" for command in commands)


app.command(epilog=_example("trialfleet check studies/cartpole.toml"))(check)
app.command(epilog=_example("trialfleet run studies/demo.toml --workers 2"))(run)
app.command(epilog=_example("trialfleet migrate --wait 60"))(migrate)
app.command(
    epilog=_example("trialfleet coordinate studies/cartpole.toml", "trialfleet coordinate --all")
)(coordinate)
app.command(epilog=_example("trialfleet worker cartpole", "trialfleet worker"))(worker)
app.command(
    epilog=_example(
        "trialfleet submit studies/cartpole.toml",
        "trialfleet submit studies/cartpole.toml --priority 3 --set search.trials=200",
    )
)(submit)
app.command(epilog=_example("trialfleet extend cartpole --trials 200"))(extend)
app.command(epilog=_example("trialfleet retry cartpole"))(retry)
app.command(
    epilog=_example(
        "trialfleet enqueue cartpole learning_rate=1e-3 gamma=0.99",
        "trialfleet enqueue cartpole 'net_arch=[64, 64]'",
    )
)(enqueue)
app.command(
    "import",
    epilog=_example(
        "trialfleet import cartpole trials.csv",
        "trialfleet import studies/cartpole.toml optuna.db --study dqn --rename lr=learning_rate",
    ),
)(bring)
app.command(epilog=_example("trialfleet stop cartpole", "trialfleet stop cartpole --now"))(stop)
app.command(epilog=_example("trialfleet pause cartpole"))(pause)
app.command(epilog=_example("trialfleet resume cartpole"))(resume)
app.command(epilog=_example("trialfleet delete cartpole", "trialfleet delete cartpole --yes"))(
    delete
)
app.command(epilog=_example("trialfleet dashboard --port 8080"))(dashboard)
app.command(
    epilog=_example(
        "trialfleet tensorboard cartpole", "trialfleet tensorboard cartpole --trials 1,5,7 --seeds"
    )
)(tensorboard)
app.command(epilog=_example("trialfleet status", "trialfleet status cartpole --watch"))(status)
app.command(epilog=_example("trialfleet logs cartpole 17"))(logs)
app.command(
    epilog=_example("trialfleet best cartpole --out models", "trialfleet best --format hub -o hub")
)(best)
app.command(
    epilog=_example(
        "trialfleet plot cartpole finalists -o finalists.png",
        "trialfleet plot cartpole contour --param gamma --param learning_rate -o contour.html",
    )
)(plot)
app.command(
    epilog=_example(
        "trialfleet report cartpole -o report.html",
        "trialfleet report cartpole --csv trials.csv --json study.json",
    )
)(report)
app.command(epilog=_example("trialfleet compare cartpole cartpole-70"))(compare)
app.command(epilog=_example("trialfleet evaluate models/cartpole.safetensors --episodes 200"))(
    evaluate
)
app.command(
    epilog=_example(
        "trialfleet play models/cartpole.safetensors -o agent.gif",
        "trialfleet play models/cartpole.safetensors -o agent.mp4 --episodes 3",
    )
)(play)
app.command(
    epilog=_example("trialfleet replay cartpole 17", "trialfleet replay cartpole 0 --final")
)(replay)


def main() -> None:
    """Run the command line; every error we know becomes one line and its exit code."""
    imports.search_our_own_first()
    console.tolerate_any_encoding()
    try:
        settings = load_settings()
        configure(settings)
        allow(settings.allowed_imports)
        tell_folders(imports.searched())
        try:
            app()
        finally:
            console.flush()
    except FleetError as exc:
        _give_up(exc)
    except Exception as exc:
        from trialfleet.postgres.outages import is_locked, is_outage
        from trialfleet.postgres.refusals import refused_statement
        from trialfleet.postgres.retry import locked, unavailable

        if refused := refused_statement(exc):
            _give_up(refused)
        if is_locked(exc):
            _give_up(locked(exc))
        if is_outage(exc):
            _give_up(unavailable(exc, "PostgreSQL went away"))
        if isinstance(exc, OSError):
            _give_up(SystemRefusedError.of(exc))
        raise


def _give_up(error: FleetError) -> NoReturn:
    lines = [printable(" ".join(line.split())) for line in error.lines]
    if len(lines) == 1:
        console.say(f"trialfleet: {lines[0]}. {error.remedy}")
    else:
        for line in (*lines, error.remedy):
            console.say(f"trialfleet: {line}")
    if error.exit_code in HOPELESS:
        tell("refused", lines[0])
    sys.exit(error.exit_code)
