"""The environment, read once at the edge: the only place that looks at `os.environ`.

Every setting is `TRIALFLEET_<NAME>`, or `TRIALFLEET_<NAME>_FILE` with the path of a file that
holds the value (the convention for container secrets).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from trialfleet.errors import UsageError

PREFIX = "TRIALFLEET_"


class Settings(BaseSettings):
    """What differs between machines; what belongs to a study is in its file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", str_strip_whitespace=True
    )

    # PostgreSQL's URL. Without one, the embedded server under `.trialfleet/` is used.
    database_url: SecretStr | None = None
    # Seconds that a worker's claim on a trial lasts without being extended.
    lease_seconds: float = Field(default=30.0, ge=1.0, le=86_400.0)
    # Seconds between two looks at the database by a coordinator or an idle worker.
    poll_seconds: float = Field(default=1.0, ge=0.05, le=60.0)
    # Seconds that a worker or coordinator waits for the migrator.
    migration_patience: float = Field(default=60.0, ge=0.0)
    # Seconds that everyone waits for a lost database.
    outage_patience: float = Field(default=600.0, ge=0.0)
    # Seconds between two checkpoints of a trial; one is also written when the worker is stopped.
    checkpoint_every: float = Field(default=60.0, ge=0.0)
    # Where models and checkpoints lie: database, file:///FOLDER or s3://BUCKET/PREFIX.
    artifacts: str = "database"
    # Where a worker trains.
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    # Whether a worker trains with what Numba compiles, where it is installed.
    compiled: bool = True
    # Trials that one worker trains at once, each in a thread of its own.
    lanes: int = Field(default=1, ge=1, le=256)
    # How log lines are written.
    log_format: Literal["console", "json"] = "console"
    # Address at which a coordinator serves /metrics and /healthz.
    metrics_host: str = "127.0.0.1"
    # Port at which it serves them; none: nowhere.
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    # URL to which a coordinator posts what happens to its study. It may hold a secret.
    notify: SecretStr | None = None
    # For the migrator: the coordinator's URL, whose login it makes and grants its rights.
    coordinator_url: SecretStr | None = None
    # For the migrator: the workers' URL, likewise.
    worker_url: SecretStr | None = None
    # For the migrator: the dashboard's URL, likewise.
    dashboard_url: SecretStr | None = None
    # Whether the dashboard may change studies, and delete them.
    dashboard_writable: bool = False
    # Whether `run` ends with a GIF of the winner, beside its saved model.
    winner_gif: bool = True
    # Whether `run` ends with the report, beside the saved model.
    run_report: bool = True
    # Packages and modules that studies may name to be imported, with commas between; unset: any.
    allow_import: str | None = None

    @property
    def allowed_imports(self) -> list[str] | None:
        """Those packages and modules; None: any."""
        if self.allow_import is None:
            return None
        return [name.strip() for name in self.allow_import.split(",") if name.strip()]


def load_settings() -> Settings:
    """Settings from the environment and its `*_FILE` secrets.

    Raises:
        UsageError: A value is not legal, or a secret's file can't be read.
    """
    secrets: dict[str, str] = {}
    for variable, path in os.environ.items():
        if variable.startswith(PREFIX) and variable.endswith("_FILE"):
            try:
                text = Path(path).read_text(encoding="utf-8-sig")  # editors write a BOM
            except (OSError, UnicodeDecodeError, ValueError) as exc:
                reason = getattr(exc, "strerror", None) or "it is not UTF-8 text"
                raise UsageError(f"{variable}: cannot read {path!r}: {reason}") from exc
            secrets[variable.removeprefix(PREFIX).removesuffix("_FILE").lower()] = text.strip()
    try:
        return Settings(**secrets)  # type: ignore[arg-type]  # pydantic parses the strings
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        variable = PREFIX + str(first["loc"][0]).upper()
        raise UsageError(f"{variable}: {first['msg']}") from exc


def allow_imports(packages: Sequence[str]) -> None:
    """Set TRIALFLEET_ALLOW_IMPORT for this process and those that it starts."""
    os.environ[f"{PREFIX}ALLOW_IMPORT"] = ",".join(packages)


def draw_without_a_window() -> None:
    """Tell pygame that there is no screen, no sound and nobody to greet, on whatever machine."""
    os.environ.update(
        SDL_VIDEODRIVER="dummy", SDL_AUDIODRIVER="dummy", PYGAME_HIDE_SUPPORT_PROMPT="1"
    )


def child_environment(**overrides: str) -> dict[str, str]:
    """The environment for a process we start: ours, with `TRIALFLEET_*` overrides."""
    return {**os.environ, **{PREFIX + key.upper(): value for key, value in overrides.items()}}
