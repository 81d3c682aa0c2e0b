"""`trialfleet pause` and `trialfleet resume`."""

from __future__ import annotations

from trialfleet.cli.commands.arguments import NamedStudy
from trialfleet.cli.show import console
from trialfleet.settings import load_settings


def pause(study: NamedStudy) -> None:
    """Let no worker begin a trial of a study until it is resumed.

    Trials under way run to their end. Workers and coordinators stay, and workers of a fleet serve
    other studies meanwhile.
    """
    _set(study, paused=True)
    console.out.print(f"{study}: paused; `trialfleet resume {study}` goes on", soft_wrap=True)


def resume(study: NamedStudy) -> None:
    """Let workers go on with a study that was paused."""
    _set(study, paused=False)
    console.out.print(f"{study}: resumed", soft_wrap=True)


def _set(name: str, *, paused: bool) -> None:
    from trialfleet.cli.connect import open_database
    from trialfleet.store import studies
    from trialfleet.store.steering import course

    with open_database(load_settings(), application="trialfleet-pause") as database:
        steer = course.pause if paused else course.resume
        steer(database, studies.find(database, name))
