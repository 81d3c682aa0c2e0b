"""What tells one DQN from another. Names and meanings are those of Stable-Baselines3's DQN.

https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trialfleet.checking.mistakes import FieldError, Gathering
from trialfleet.checking.rules import Flag, OneOf, Real, Whole, Widths, knob
from trialfleet.search.knobs import Choices

if TYPE_CHECKING:
    from trialfleet.search.knobs import SearchSpace
    from trialfleet.study.task import Task

# Observations in a pass through the target network; more of them leave the processor's cache.
_COLUMNS = 512
# Observations without which their mean and deviation say little.
_STEPS_TO_FIX = 100


@dataclass(frozen=True, kw_only=True)
class Params:
    """The hyperparameters of every agent in a trial; agents differ only in their seed.

    Not all defaults are SB3's: these suit short runs on small tasks. docs/reference.md has both.
    """

    # Adam's step size
    learning_rate: float = knob(1e-3, Real(0, 1, exclusive_low=True))
    # discount per environment step
    gamma: float = knob(0.99, Real(0, 1))
    # transitions in a gradient step, sampled with replacement
    batch_size: int = knob(64, Whole(1, 65_536))
    # transitions the replay memory of an agent holds before it forgets
    buffer_size: int = knob(50_000, Whole(1, 10_000_000))
    # environment steps before the first update, with random actions
    learning_starts: int = knob(1_000, Whole(0, 1_000_000_000))
    # environment steps between rounds of updates
    train_freq: int = knob(4, Whole(1, 1_000_000))
    # updates in a round; -1: as many as environment steps since the last round
    gradient_steps: int = knob(1, Whole(1, 1_000_000, extra=(-1,)))
    # environment steps between updates of the target network
    target_update_interval: int = knob(250, Whole(1, 1_000_000_000))
    # share of the online network in an update of the target network; 1 copies it
    tau: float = knob(1.0, Real(0, 1, exclusive_low=True))
    # probability of a random action at the start
    exploration_initial_eps: float = knob(1.0, Real(0, 1))
    # share of training over which that probability falls linearly
    exploration_fraction: float = knob(0.2, Real(0, 1))
    # probability of a random action after that
    exploration_final_eps: float = knob(0.05, Real(0, 1))
    # largest norm of an agent's gradient; longer ones are scaled down
    max_grad_norm: float = knob(10.0, Real(0, 1e9, exclusive_low=True))
    # widths of the hidden layers
    net_arch: tuple[int, ...] = knob((64, 64), Widths())
    # loss of the temporal-difference error; huber's knee is at 1
    loss: Literal["huber", "mse"] = knob("huber", OneOf(("huber", "mse")))
    # Double Q-learning: the online network picks the next action, the target network values it
    double_q: bool = knob(True, Flag())
    # whether observations are shifted and scaled by what each agent has seen: for as long as it
    # trains ("running"), until its first update ("fixed"), or not
    normalize: Literal["none", "running", "fixed"] = knob(
        "none", OneOf(("none", "running", "fixed"))
    )
    # numbers of the matrix products of an update; bf16 is faster where there is hardware for it
    precision: Literal["fp32", "bf16"] = knob("fp32", OneOf(("fp32", "bf16")))

    @staticmethod
    def check(space: SearchSpace, task: Task) -> None:
        """Refuse a space with configurations that could not learn.

        Raises:
            FieldError: At the knob's name.
        """
        with Gathering() as gathering:
            batch, buffer = space.largest("batch_size"), space.smallest("buffer_size")
            if batch > buffer:
                gathering.add(
                    FieldError(
                        f"up to {batch} is more than the smallest buffer_size ({buffer});"
                        " must fit in it",
                        at="batch_size",
                    )
                )
            for name in ("learning_starts", "train_freq"):
                most = space.largest(name)
                if most > task.eval_every:
                    gathering.add(
                        FieldError(
                            f"up to {most} is more than task.eval_every ({task.eval_every}), so a"
                            " segment could pass without learning; must be at most"
                            f" {task.eval_every}",
                            at=name,
                        )
                    )
            normalize, least = space["normalize"], space.smallest("learning_starts")
            ways = normalize.choices if isinstance(normalize, Choices) else (normalize,)
            if "fixed" in ways and least < _STEPS_TO_FIX:
                gathering.add(
                    FieldError(
                        f'"fixed" measures the first learning_starts ({least}) observations; must'
                        f" have at least {_STEPS_TO_FIX}, or be another",
                        at="normalize",
                    )
                )

    @staticmethod
    def learns_by(space: SearchSpace) -> int:
        """The step of the first update, of the configuration that has it last."""
        starts, freq = space.largest("learning_starts"), space["train_freq"]
        rounds = freq.choices if isinstance(freq, Choices) and not freq.when else (freq,)
        if not all(isinstance(each, int) for each in rounds):  # a range, at most so late
            return starts + space.largest("train_freq")
        return max((starts // int(each) + 1) * int(each) for each in rounds)

    @property
    def updates_per_round(self) -> int:
        """Gradient steps in each round."""
        return self.train_freq if self.gradient_steps < 0 else self.gradient_steps

    @property
    def batches_together(self) -> int:
        """How many batches of a round pass through the target network at once.

        They divide the round evenly, so that all passes have one shape.
        """
        most = max(1, _COLUMNS // self.batch_size)
        return max(k for k in range(1, most + 1) if self.updates_per_round % k == 0)
