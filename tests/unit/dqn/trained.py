"""Say what portable trainings come to on this processor: `python -m tests.unit.dqn.trained`."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import fingerprint, training
from worker.provenance import hardware
from worker.trainers.dqn.compiled import vectors
from worker.trainers.threads import use_one_thread


def main() -> None:
    """Print a line for each training, and two for what there is to train with."""
    use_one_thread()
    print(f"hardware: {hardware('cpu')}")
    print(f"lanes: {vectors.LANES}")
    for env in ("CartPole-v1", "Acrobot-v1", "MountainCar-v0"):
        for net_arch in ((16, 16), (120, 84)):
            params = replace(PARAMS, net_arch=net_arch, batch_size=40, tau=0.3, loss="mse")
            running = training(params=params, env_id=env, compiled=True)
            assert running.portable
            print(f"{env} {net_arch}: {fingerprint(running)}")


if __name__ == "__main__":
    main()
