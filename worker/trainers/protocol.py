"""What a worker asks of an algorithm, and what it hears from one.

An algorithm is a package with a module `trainer` that offers what `Algorithm` lists;
`worker.trainers.registry` finds it by its name. Nobody outside the package knows more of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from trialfleet.study.returns import Returns
from worker.trainers.environment import EnvLike


class NonFiniteError(Exception):
    """Training has diverged, or its environment gave a number that is infinite or not a number."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train. The same job gives the same bits on one build, in one go or resumed."""

    env: EnvLike  # what the agents act in
    knobs: Mapping[str, Any]  # the algorithm's parameters by name
    seeds: Sequence[int]  # one of each agent; what an agent does depends on its own alone
    train_steps: int  # environment steps of each agent
    eval_every: int  # environment steps in a segment; divides train_steps
    eval_episodes: int  # greedy episodes of each agent at a segment's end
    score_episodes: int  # greedy episodes of each agent that its result is scored on
    keep: Literal["best", "last"] = "best"  # what each agent's result is, of its evaluations
    device: str = "cpu"  # "cpu" or "cuda"
    compiled: bool = False  # whether to train with what is compiled here; it needs Numba
    lanes: int = 1  # trials that a GPU has room for beside each other, this one among them
    objective: str = ""  # the function that trains, where the user's own code does
    final: bool = False  # whether the result is to be kept
    returns: Returns | None = None  # between which each greedy episode's return is, or it fails


class How(TypedDict, total=False):
    """Those fields of a job that say how to compute, and not what."""

    device: str
    compiled: bool
    lanes: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A moment at which the consumer may end the training. It has no effect on the result."""

    step: int  # environment steps that each agent has done


@dataclass(frozen=True, kw_only=True)
class Waiting(Progress):
    """A `Progress` with no sign of life from the trainer; it may be stuck."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The end of a segment; `Trainer.state` is of this end until the next event is asked for.

    `metrics` holds a value of each agent [S] by name; NaN where an agent has none. "return" is
    always there; what an algorithm cannot tell is left out:

    - "return", "length": means over the greedy episodes played now, length in environment steps;
    - "episode_return": mean return of the training episodes that ended in the segment;
    - "loss": mean over the segment's updates; absent before the first;
    - "q_mean": mean value of the greedy action in states that the agent remembers;
    - "epsilon": probability of a random action;
    - "steps_per_second": environment steps of all agents in a second of the segment's training, by
      the wall clock. The only one that is not a function of the job.
    """

    step: int  # environment steps that each agent has done
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The last event: how good the result is, on episodes that nothing was chosen by."""

    step: int  # environment steps that each agent has done
    returns: NDArray[np.float64]  # mean return of each agent's result [S]


Event = Progress | Evaluation | Score
# The name of the thread that a trainer computes in, where it is not the worker's main thread.
TRAINING_THREAD = "training"
# Metrics that differ each time; a replay does not compare them.
WALL_CLOCK = frozenset({"steps_per_second"})


class Trainer(Protocol):
    """S agents in training.

    A trainer that was given the `state` of another one of the same job goes on as that one would
    have, to the bit.
    """

    @property
    def portable(self) -> bool:
        """Whether its bits are the same on processors of every maker; see `worker.provenance`."""

    def run(self) -> Generator[Event, None, None]:
        """Train from where this trainer stands to the end, which is a `Score`.

        An `Evaluation` ends each segment, the last one included. A consumer may close the generator
        at any point; within a segment that leaves the trainer good for `load_state` and `close`.

        Raises:
            NonFiniteError: Found at a segment's end, before its Evaluation.
            OutsideReturnsError: A greedy episode has returned what is outside of `Job.returns`.
        """

    def state(self) -> dict[str, NDArray[Any]] | None:
        """All that a resumed training needs, by name; valid at a segment's end and at the start.

        Training on changes none of the arrays; the next call may. None: it cannot be resumed here.
        """

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue where `state` was taken: all of it, or nothing.

        Raises:
            LookupError, TypeError, ValueError: It is no state of this job. Nothing was loaded.
        """

    def result(self) -> dict[str, NDArray[Any]]:
        """The agents that were scored, by name of the array; the agents are its first axis."""

    def close(self) -> None:
        """Close the environments; nothing can be trained any more. May be called again."""


class Algorithm(Protocol):
    """The module `trainer` of an algorithm's package."""

    @staticmethod
    def make_trainer(job: Job) -> Trainer:
        """Agents that nothing has been learned by."""


class SavedAgent(Protocol):
    """One agent out of `Trainer.result`, which learns no more."""

    def act(self, observations: NDArray[np.floating]) -> NDArray[np.int64]:
        """The actions [N] that it holds for the best, for `observations` [N, O]."""


class SavedAgents(Protocol):
    """The module `saved` of an algorithm's package; importing it loads no PyTorch."""

    @staticmethod
    def load_agent(arrays: Mapping[str, NDArray[Any]], env: EnvLike) -> SavedAgent:
        """The agent.

        Raises:
            ValueError: The arrays are no agent of this algorithm, or none for this environment.
        """

    @staticmethod
    def count_parameters(arrays: Mapping[str, NDArray[Any]]) -> int:
        """The numbers in its networks that were learned.

        Raises:
            ValueError: The arrays are no agent of this algorithm.
        """

    @staticmethod
    def play_saved(
        arrays: Mapping[str, NDArray[Any]], env: EnvLike, *, seed: int, episodes: int
    ) -> NDArray[np.float64]:
        """Returns of greedy episodes [E] with one agent out of `Trainer.result`.

        Raises:
            ValueError: The arrays are no agent of this algorithm, or none for this environment.
        """

    @staticmethod
    def export_onnx(arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> bytes:
        """A graph from "observation" [N, O] to "action" [N], with `notes` as its metadata.

        Raises:
            ValueError: The arrays are no agent of this algorithm.
            ImportError: onnx is not installed.
        """

    @staticmethod
    def export_sb3(
        arrays: Mapping[str, NDArray[Any]], env: EnvLike, knobs: Mapping[str, Any]
    ) -> bytes:
        """What the class of the same name in Stable-Baselines3 loads.

        Args:
            arrays: Of the agent.
            env: Its environment.
            knobs: What it was trained with.

        Raises:
            ValueError: The arrays are no agent of this algorithm, or none for this environment.
            ImportError: Stable-Baselines3 is not installed.
        """
