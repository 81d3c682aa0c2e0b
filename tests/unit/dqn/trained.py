"""Say what portable trainings come to on this processor: `python -m tests.unit.dqn.trained`."""

from __future__ import annotations

import argparse

from tests.unit.dqn import other_vectors


def main() -> None:
    """Print a line for each training, and three for what there is to train with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lanes", type=int, help="floats in a vector; default: this processor's")
    given = parser.parse_args()
    if given.lanes is not None:
        other_vectors.use(given.lanes)
    report()


def report() -> None:
    """Train, and print."""
    from dataclasses import replace

    from tests.unit.dqn.settings import PARAMS
    from tests.unit.dqn.short import fingerprint, training
    from worker.provenance import hardware, versions
    from worker.trainers.dqn.compiled import vectors
    from worker.trainers.threads import use_one_thread

    use_one_thread()
    print(f"hardware: {hardware('cpu')}")
    print(f"arithmetic: {versions()['arithmetic']}")
    print(f"lanes: {vectors.LANES}")
    for env in ("CartPole-v1", "Acrobot-v1", "MountainCar-v0"):
        for net_arch in ((16, 16), (120, 84), (7,)):
            params = replace(PARAMS, net_arch=net_arch, batch_size=40, tau=0.3, loss="mse")
            running = training(params=params, env_id=env, compiled=True)
            assert running.portable
            print(f"{env} {net_arch}: {fingerprint(running)}")


if __name__ == "__main__":
    main()
