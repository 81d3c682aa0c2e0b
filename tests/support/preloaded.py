"""What a `trialfleet` process imports sooner or later; the fork server imports this module once."""

from __future__ import annotations

import gc
from importlib import import_module

for _name in (
    "torch",
    "scipy.stats",
    "alembic.command",
    "gymnasium.envs.classic_control",
    "optuna.samplers._tpe.sampler",
    "optuna.storages._rdb.storage",
    "trialfleet.cli.main",
    "trialfleet.cli.check",
    "trialfleet.cli.connect",
    "trialfleet.cli.replay",
    "trialfleet.cli.local.run",
    "coordinator.create",
    "coordinator.status",
    "coordinator.watch",
    "worker.loop",
    "worker.trainers.dqn.trainer",
    "tests.faults.environments",
):
    import_module(_name)

# A fork's garbage collector would look through all of it, and so copy it.
gc.freeze()
