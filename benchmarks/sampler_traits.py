"""What a sampler learns from, found out by searching: for `benchmarks.samplers`.

Nothing is trained here: a trial's values are functions of its knobs. Whether a sampler looks at
something is seen by two searches that are alike but for that: if they ever part, it does.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from trialfleet.errors import StudyFileError
from trialfleet.search.knobs import Choices
from trialfleet.search.samplers import make_sampler
from trialfleet.search.space import distributions, suggest
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

Knobs = Mapping[str, Any]  # a trial's values

# Spaces of one kind each, and how far a trial is from the best of them, 0 to 1.
FLOATS = """
gamma = { low = 0.9, high = 1.0 }
tau = { low = 0.0001, high = 1.0, log = true }
"""
INTEGERS = """
batch_size = { low = 1, high = 512, log = true }
train_freq = { low = 1, high = 64 }
"""
CATEGORICAL = """
batch_size = { choices = [8, 16, 32, 64, 128, 256] }
net_arch = { choices = [[8], [16], [32], [64], [8, 8], [64, 64]] }
"""
CONDITIONAL = """
double_q = { choices = [true, false] }
exploration_final_eps = { low = 0.0, high = 0.1, when = { double_q = true } }
max_grad_norm = { low = 1.0, high = 9.0, when = { double_q = false } }
"""
STEPPED = "gamma = { low = 0.9, high = 0.99, step = 0.01 }\nbatch_size = { choices = [32, 64] }\n"


def _categorical(knobs: Knobs) -> float:
    size = abs([8, 16, 32, 64, 128, 256].index(knobs["batch_size"]) - 4) / 8
    return size + (0.0 if knobs["net_arch"] == (64, 64) else 0.5)


def _conditional(knobs: Knobs) -> float:
    if not knobs["double_q"]:
        return float(0.6 + abs(knobs["max_grad_norm"] - 2.0) / 20)
    return float(abs(knobs["exploration_final_eps"] - 0.02) * 10)


def _float(knobs: Knobs) -> float:
    return float(abs(knobs["gamma"] - 0.98) * 6 + abs(knobs["tau"] - 0.01) * 0.4)


def _integer(knobs: Knobs) -> float:
    return float(abs(knobs["batch_size"] - 64) / 900 + abs(knobs["train_freq"] - 8) / 112)


KINDS: dict[str, tuple[str, Callable[[Knobs], float]]] = {
    "float": (FLOATS, _float),
    "int": (INTEGERS, _integer),
    "categorical": (CATEGORICAL, _categorical),
    "conditional": (CONDITIONAL, _conditional),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """What differs between two searches."""

    value: float = 1.0  # signs of what is told
    second: float = 1.0
    constraint: float = 1.0
    pruned: bool = True  # or failed
    running: float = 0.0  # where the trials under way are, as a share of each range


# What each column asks; the world that it differs in.
TRAITS: dict[str, World] = {
    "its values": World(value=-1.0),
    "pruned trials": World(pruned=False),
    "several objectives": World(second=-1.0),
    "constraints": World(constraint=-1.0),
    "running trials": World(running=1.0),
}


def spec_of(sampler: str, agent: str, *, seed: int = 1, objectives: int = 1) -> Spec:
    """A study of this sampler and space; nothing of it is trained.

    Raises:
        StudyFileError: The sampler refuses it.
    """
    names = '["score", "parameters"]' if objectives == 2 else '["score"]'
    return parse(
        f'name = "x"\nseed = {seed}\n[search]\nsampler = {sampler}\nobjectives = {names}\n'
        f"trials = 1_000_000\n[final]\ntop = 1\n[agent]\n{agent}",
        source="benchmark",
    )


def loss_beside_chance(sampler: str, kind: str, *, trials: int, seeds: int) -> float | None:
    """How far the last quarter of a search's trials is from the best, divided by random ones'.

    The median over study seeds; None if the sampler refuses the space.
    """
    agent, loss = KINDS[kind]
    ratios: list[float] = []
    for seed in range(seeds):
        found: list[float] = []
        chance: list[float] = []
        try:
            for table, losses in ((sampler, found), ('"random"', chance)):
                spec = spec_of(table, agent, seed=seed)
                count = min(trials, spec.budget)
                study = optuna.create_study(direction="maximize")
                for number in range(count):
                    trial = ask(study, spec, number)
                    losses.append(loss(suggest(trial, spec.agent)))
                    study.tell(trial, -losses[-1])
        except StudyFileError:
            return None
        ratios.append(statistics.mean(found[-(len(found) // 4) :]) / statistics.mean(chance))
    return statistics.median(ratios)


def looks_at(sampler: str, trait: str, *, trials: int) -> bool | None:
    """Whether what a sampler suggests depends on it; None if the sampler refuses it."""
    agent = STEPPED if '"brute_force"' in sampler else FLOATS
    try:
        spec = spec_of(sampler, agent, objectives=2 if trait == "several objectives" else 1)
    except StudyFileError:
        return None
    count = min(trials, spec.budget)
    return _searched(spec, World(), trait, count) != _searched(spec, TRAITS[trait], trait, count)


def distinct_of_eight(sampler: str, *, trials: int) -> int:
    """How many points eight workers get that ask at once, after so many trials."""
    spec = spec_of(sampler, STEPPED if '"brute_force"' in sampler else FLOATS)
    study = optuna.create_study(direction="maximize")
    done = min(trials, spec.budget - 8)
    for number in range(done):
        trial = ask(study, spec, number)
        suggest(trial, spec.agent)
        study.tell(trial, trial.params["gamma"])
    asked = [ask(study, spec, done + each) for each in range(8)]
    for trial in asked:
        suggest(trial, spec.agent)
    return len({tuple(sorted(trial.params.items())) for trial in asked})


def ask(study: optuna.Study, spec: Spec, number: int) -> Trial:
    """A trial whose sampler is made for it, as a worker makes one."""
    study.sampler = make_sampler(spec, number)
    return study.ask()


def _searched(spec: Spec, world: World, trait: str, trials: int) -> list[Any]:
    """The points of a search in which every sort of thing happens that this trait needs."""
    several = trait == "several objectives"
    study = optuna.create_study(directions=["maximize"] * (2 if several else 1))
    points = []
    for number in range(trials):
        if trait == "running trials" and number % 3 == 0:
            study.add_trial(_under_way(spec, world.running))
        trial = ask(study, spec, len(study.get_trials(deepcopy=False)))
        suggest(trial, spec.agent)
        points.append(trial.params)
        value = trial.params["gamma"] * world.value
        if trait == "constraints":
            excess = world.constraint * (trial.params["gamma"] - 0.95)
            trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [excess])
        if several:
            study.tell(trial, [value, world.second * _other(trial.params)])
        elif trait == "pruned trials" and number % 3 == 0:
            trial.report(value, 1)
            study.tell(trial, state=TrialState.PRUNED if world.pruned else TrialState.FAIL)
        else:
            study.tell(trial, value)
    return points


def _other(params: Mapping[str, Any]) -> float:
    return float(params.get("tau", params["gamma"]))


def _under_way(spec: Spec, share: float) -> optuna.trial.FrozenTrial:
    """A trial of another worker's, at this share of each range."""
    found = distributions(spec.agent)
    params = {}
    for name, knob in spec.agent.searched().items():
        if isinstance(knob, Choices):
            params[name] = knob.choices[-1 if share else 0]
        else:
            params[name] = knob.high if share else knob.low  # type: ignore[union-attr]
    return optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=found)
