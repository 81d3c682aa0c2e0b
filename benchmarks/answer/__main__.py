"""How often the declared winner is as good as any, and how much more is printed than is true.

python -m benchmarks.answer synthetic
python -m benchmarks.answer seeds
python -m benchmarks.answer cartpole --study-seeds 1 2 3 4 5 --workers 2 --folder build/answer

`synthetic` makes up tasks whose truth is known; on the same ones `seeds` compares searches that
train each configuration on few seeds, on many, or on more where it looks promising. `cartpole` runs
real searches with the product and trains a pool of seeds for each configuration that any strategy
may retrain, once; then many races and fixed stages are replayed, each from a random order of the
pool. Of one replay all seeds are different ones; the truth is the mean of the whole pool, which is
taken for the population. Everything trained is kept in the folder, and the same command goes on
where it was interrupted.

All strategies see the same searches and the same seeds. A winner is right if its true mean is
within 1% of the best finalist's. Optimism is what is printed less what is true.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.answer import pools, seeds, strategies, synthetic
from benchmarks.answer.strategies import Fresh, Searched, Told
from trialfleet.study.file import load
from trialfleet.study.final import Final

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A final stage's numbers, as a study file has them."""

    top: int
    block: int
    blocks: int
    error: float
    confirm: int

    @property
    def most(self) -> int:
        """Seeds of a finalist in the race."""
        return self.block * self.blocks


def asked(
    searched: Searched, fresh: Mapping[int, Fresh], stage: Stage, equal: int
) -> dict[str, Told]:
    """What each strategy says; `equal` seeds for each finalist cost as much as the race does."""
    told = {
        "best search value": strategies.best_value(searched),
        "fixed, 3 x 10 seeds": strategies.fixed(searched, fresh, top=3, seeds=10),
        f"fixed, {stage.top} x {stage.most} seeds": strategies.fixed(
            searched, fresh, top=stage.top, seeds=stage.most
        ),
        "race, its own mean": raced(searched, fresh, stage, confirm=0),
        "race and confirmation": raced(searched, fresh, stage, confirm=stage.confirm),
    }
    if equal:
        told[f"fixed, {stage.top} x {equal} seeds (cost of the race)"] = strategies.fixed(
            searched, fresh, top=stage.top, seeds=equal
        )
    return told


def raced(searched: Searched, fresh: Mapping[int, Fresh], stage: Stage, *, confirm: int) -> Told:
    """The race with this stage's numbers."""
    return strategies.race(
        searched,
        fresh,
        top=stage.top,
        block=stage.block,
        blocks=stage.blocks,
        error=stage.error,
        confirm=confirm,
    )


def table(found: Mapping[str, list[Told]]) -> str:
    """A line for each strategy."""
    wide = max(map(len, found))
    lines = [
        f"{'strategy':{wide}} {'right':>6} {'lost':>6} {'optimism: median':>17} {'mean':>6} "
        f"{'5%..95%':>15} {'seeds':>6} {'+ confirming':>13}"
    ]
    for name, told in found.items():
        optimism = np.array([each.optimism for each in told])
        low, high = np.quantile(optimism, [0.05, 0.95])
        lines.append(
            f"{name:{wide}} {np.mean([each.right for each in told]):6.1%} "
            f"{np.mean([each.best - each.true for each in told]):6.1f} "
            f"{np.median(optimism):17.1f} {optimism.mean():6.1f} {low:7.1f}..{high:<6.1f} "
            f"{np.mean([each.seeds for each in told]):6.0f} "
            f"{np.mean([each.confirming for each in told]):13.0f}"
        )
    return "\n".join(lines)


def gathered(studies: Sequence[tuple[Searched, Mapping[int, Fresh]]], stage: Stage) -> str:
    """The table over all studies; first the race alone, to know what costs as much."""
    spent = [raced(searched, fresh, stage, confirm=0).seeds for searched, fresh in studies]
    equal = round(float(np.mean(spent)) / stage.top)
    found: defaultdict[str, list[Told]] = defaultdict(list)
    for searched, fresh in studies:
        for name, told in asked(searched, fresh, stage, equal).items():
            found[name].append(told)
    return table(found)


def made_up(kind: str, stage: Stage, options: argparse.Namespace) -> str:
    """The table of a made-up task."""
    studies = []
    for study_seed in range(options.studies):
        task = synthetic.Task(
            kind, trials=options.trials, agents=stage.block, study_seed=study_seed
        )
        searched = task.searched([3, stage.top])
        most = max(10, stage.most) + stage.confirm
        studies.append((searched, task.fresh([*searched.truth], most)))
    return gathered(studies, stage)


def real(options: argparse.Namespace) -> Iterator[str]:
    """The tables of real searches: of each, then of all."""
    spec = load(options.study)
    final, agents = spec.final, spec.task.seeds
    stage = Stage(
        top=final.top,
        block=final.block(agents),
        blocks=final.blocks(agents),
        error=final.error,
        confirm=final.most_confirming,
    )
    if options.pool < stage.most + stage.confirm and not options.winners_only:
        raise SystemExit(f"--pool: a race and its confirmation take {stage.most + stage.confirm}")
    options.folder.mkdir(parents=True, exist_ok=True)
    every: list[tuple[Searched, Mapping[int, Fresh]]] = []
    optimism, gaps = [], []
    for study_seed in options.study_seeds:
        export = pools.search(options.study, study_seed, options.folder, workers=options.workers)
        trials = pools.trials_of(export, spec)
        answer = export["result"]["confirmation"]
        wanted = [answer["trial"]]
        if not options.winners_only:
            search = Searched(trials=trials, truth={})
            wanted = strategies.needed(search, [3, stage.top])
        pool = pools.fill(
            options.study,
            study_seed,
            trials,
            options.folder,
            wanted=wanted,
            seeds=options.pool,
            jobs=options.workers,
        )
        truth = {trial: float(np.mean(fresh.scores)) for trial, fresh in pool.items()}
        optimism.append(answer["mean"] - truth[answer["trial"]])
        gaps.append(answer["gap"])
        solved = answer["solved"]
        printed = (
            f"study seed {study_seed}: the product printed {answer['mean']:.1f} for trial"
            f" {answer['trial']}, {solved['seeds']} of {solved['of']} seeds solved"
            f" ({optimism[-1]:+.1f} of the mean of {options.pool} further seeds; the search had"
            f" promised {gaps[-1]:+.1f})"
        )
        if options.winners_only:
            yield printed
            continue
        searched = Searched(trials=trials, truth=truth)
        rng = np.random.default_rng(study_seed)
        studies = [(searched, _shuffled(pool, rng)) for _ in range(options.replays)]
        every += studies
        yield f"{printed}\n{gathered(studies, stage)}"
    yield (
        f"median of {len(optimism)} studies: printed {np.median(optimism):+.1f} of what is true;"
        f" the search promised {np.median(gaps):+.1f} of what was confirmed"
    )
    if every:
        yield f"all of them\n{gathered(every, stage)}"


def _shuffled(pool: Mapping[int, Fresh], rng: np.random.Generator) -> dict[int, Fresh]:
    found = {}
    for trial, fresh in pool.items():
        order = rng.permutation(len(fresh.scores))
        found[trial] = Fresh(
            scores=[fresh.scores[at] for at in order], areas=[fresh.areas[at] for at in order]
        )
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answer",
        description="Whether the winner is as good as any, what is printed too much, and its cost.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    add = kinds.add_parser("synthetic", help="made-up tasks, in seconds").add_argument
    add("--studies", type=int, default=100, help="(default: %(default)s)")
    add("--trials", type=int, default=100, help="of a search (default: %(default)s)")
    add("--top", type=int, default=10, help="finalists (default: %(default)s)")
    add("--block", type=int, default=4, help="seeds in a block (default: %(default)s)")
    add("--blocks", type=int, default=5, help="at most (default: %(default)s)")
    add("--error", type=float, default=Final().error, help="(default: %(default)s)")
    add("--confirm", type=int, default=30, help="seeds (default: %(default)s)")
    add = kinds.add_parser("seeds", help="made-up tasks: how many seeds a trial gets").add_argument
    add("--studies", type=int, default=300, help="(default: %(default)s)")
    add("--seeds", type=int, default=400, help="that the search may train (default: %(default)s)")
    add("--top", type=int, default=10, help="finalists (default: %(default)s)")
    add = kinds.add_parser("cartpole", help="real searches, trained once and kept").add_argument
    add("--study", type=Path, default=ROOT / "studies" / "cartpole.toml", metavar="STUDY.toml")
    add("--study-seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    add("--pool", type=int, default=64, help="seeds of each finalist (default: %(default)s)")
    add("--winners-only", action="store_true", help="only how true the printed answers are")
    add("--replays", type=int, default=100, help="of each study (default: %(default)s)")
    add("--workers", type=int, default=2, help="processes (default: %(default)s)")
    add("--folder", type=Path, required=True, help="for what was trained")
    options = parser.parse_args()
    if options.kind == "cartpole":
        for text in real(options):
            print(f"{text}\n", flush=True)
        return
    if options.kind == "seeds":
        for kind in synthetic.KINDS:
            print(f"{kind}: {options.studies} studies of {options.seeds} seeds")
            found = seeds.compare(
                kind, seeds=options.seeds, studies=options.studies, top=options.top
            )
            print(f"{found}\n", flush=True)
        return
    stage = Stage(
        top=options.top,
        block=options.block,
        blocks=options.blocks,
        error=options.error,
        confirm=options.confirm,
    )
    for kind in synthetic.KINDS:
        print(f"{kind}: {options.studies} studies of {options.trials} trials")
        print(f"{made_up(kind, stage, options)}\n", flush=True)


if __name__ == "__main__":
    main()
