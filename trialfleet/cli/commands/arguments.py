"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trialfleet.checking.imports import allow
from trialfleet.settings import allow_imports

StudyFile = Annotated[Path, typer.Argument(help="A study file (TOML).", metavar="STUDY.toml")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set a field of the study file, such as search.trials=200; may be given repeatedly.",
    ),
]
StudyName = Annotated[
    str | None, typer.Argument(help="The study's name; may be left out if there is only one.")
]
NamedStudy = Annotated[str, typer.Argument(help="The study's name.", metavar="STUDY")]
Expose = Annotated[
    bool,
    typer.Option(
        "--expose",
        help="Allow an address that other machines reach: the page asks for no password.",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Serve /metrics for Prometheus and /healthz on this port; 0: a free one. Default: "
        "TRIALFLEET_METRICS_PORT, else none.",
    ),
]
MetricsHost = Annotated[
    str | None,
    typer.Option(
        help="Address to serve them on. Default: TRIALFLEET_METRICS_HOST, else 127.0.0.1."
    ),
]
Notify = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Post start, new bests, failed trials and the end to this webhook, as JSON. "
        "Default: TRIALFLEET_NOTIFY, or the file that TRIALFLEET_NOTIFY_FILE names, which keep a "
        "secret off the command line.",
    ),
]


def _allow(packages: list[str] | None) -> list[str] | None:
    if packages:
        allow_imports(packages)
        allow(packages)
    return packages


AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        callback=_allow,
        help="Import only this package or module for a study, and what is below it; may be "
        "repeated. Default: TRIALFLEET_ALLOW_IMPORT, else whatever the study names.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
