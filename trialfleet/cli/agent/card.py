"""The model card: a README.md with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.answer import answer
from coordinator.certainty import Certainty, ends_told
from trialfleet.escape import printable
from trialfleet.store.studies import Study
from trialfleet.study.measures import as_score, decimal


@dataclass(frozen=True, kw_only=True)
class Played:
    """Greedy episodes of the saved agent, on starts that nothing was chosen by."""

    episodes: int
    mean: float  # return
    deviation: float  # of the returns, not of their mean
    certainty: Certainty  # of the mean, over episodes


def model_card(study: Study, played: Played, *, files: Collection[str]) -> str:
    """The card of a study's best agent.

    Args:
        study: One that is done.
        played: What the agent comes to.
        files: Names of the optional files that lie beside the card.
    """
    return "\n".join(
        [
            *_metadata(study, played, files),
            *_answer(study, played, files),
            *_training(study),
            *_loading(study, files),
        ]
    )


def quoted(text: str) -> str:
    """A string for YAML and Python alike, in double quotes; no character of it means anything."""
    plain = json.dumps(printable(text))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shown(text: object) -> str:
    """Text for Markdown, in which nothing is a link, a tag or a table's edge."""
    # quotes stay: as "&#x27;" they would lose the "#" below, and they mean nothing in Markdown
    escaped = html.escape(printable(f"{text}"), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", escaped)


def _metadata(study: Study, played: Played, files: Collection[str]) -> list[str]:
    env = quoted(study.spec.task.env)
    library = ["library_name: stable-baselines3"] if f"{study.name}.zip" in files else []
    return [
        "---",
        *library,
        "tags:",
        *(f"- {tag}" for tag in _tags(study, files)),
        "model-index:",
        f"- name: {quoted(study.name)}",
        "  results:",
        "  - task:",
        "      type: reinforcement-learning",
        "      name: reinforcement-learning",
        "    dataset:",
        f"      name: {env}",
        f"      type: {env}",
        "    metrics:",
        "    - type: mean_reward",
        f'      value: "{decimal(played.mean, 2)} +/- {decimal(played.deviation, 2)}"',
        "      name: mean_reward",
        "      verified: false",
        "---",
        "",
    ]


def _tags(study: Study, files: Collection[str]) -> list[str]:
    tags = [study.spec.task.env, study.spec.task.algorithm, "reinforcement-learning"]
    tags += ["deep-reinforcement-learning", "trialfleet"]
    tags += ["stable-baselines3"] if f"{study.name}.zip" in files else []
    return [quoted(tag) for tag in tags]


def _answer(study: Study, played: Played, files: Collection[str]) -> list[str]:
    result = _result(study)
    found = answer(result)
    algorithm = shown(study.spec.task.algorithm.upper())
    video = ["`replay.mp4` shows it at play.", ""] if "replay.mp4" in files else []
    return [
        f"# {algorithm} on {shown(study.spec.task.env)}: {shown(study.name)}",
        "",
        f"This agent returns **{as_score(played.mean)} ± "
        f"{as_score(played.deviation, like=played.mean)}** on "
        f"{played.episodes} episodes that nothing was chosen by.",
        "",
        *video,
        "| | mean return | 95% interval |",
        "|---|---|---|",
        f"| this agent, {played.episodes} fresh episodes | {as_score(played.mean)} | "
        f"{ends_told(played.certainty.ends, like=played.mean)} (over episodes) |",
        f"| its configuration, {found.seeds_told} | {as_score(found.mean)} | "
        f"{ends_told(found.certainty.ends, like=found.mean)} (over seeds) |",
        f"| its configuration in the search, which it was chosen by | "
        f"{as_score(found.search_score)} | |",
        "",
        f"Over episodes: {shown(played.certainty.told(like=played.mean))}. Over seeds: "
        f"{shown('. '.join(filter(None, (found.interval_told, found.caveat_told))))}.",
        "",
        *([f"{found.until_told[0].upper()}{found.until_told[1:]}.", ""] if found.until else []),
        *([f"{found.solved_told}.", ""] if found.solved else []),
        f"The agent is the best of those {len(found.scores)}; the second row is what to expect of "
        "a training with these hyperparameters"
        + (", on seeds that played no part in choosing them." if found.confirmed else "."),
        "",
    ]


def _training(study: Study) -> list[str]:
    task, search, model = study.spec.task, study.spec.search, _result(study)["model"]
    sampler, pruner = (
        shown(each.model_dump(mode="json").get("name", type(each).__name__.lower()))
        for each in (search.sampler, search.pruner)
    )
    trained_by = [shown(name) for name in _versions(model)]
    return [
        "## How it was trained",
        "",
        f"Trialfleet searched {study.budget:,} trials of {task.seeds} seeds each (sampler "
        f"{sampler}, pruner {pruner}), {_chosen(study)} Every agent was "
        f"trained for {task.train_steps:,} steps, and the networks kept are "
        + ("those of its best evaluation." if task.keep == "best" else "those at the end."),
        "",
        f"Study seed {study.spec.seed}; this agent's seed {model['seed']}; trained on "
        f"{shown(model['device'])} with {', '.join(trained_by)}.",
        "",
        "| hyperparameter | value |",
        "|---|---|",
        *(f"| {shown(name)} | {shown(_value(value))} |" for name, value in _params(model)),
        "",
        "`results.json` has the study file, every finalist's scores and the seeds.",
        "",
    ]


def _chosen(study: Study) -> str:
    """How the winner was found among the finalists."""
    final, race = study.spec.final, _result(study).get("race")
    if race is None:
        return (
            f"trained the best {final.top} again on {final.seeds} fresh seeds, and chose the "
            "winner by those."
        )
    confirmed = f", and trained the winner on {final.confirming_told}" if final.confirm else ""
    return (
        f"let the best {len(_result(study)['finalists'])} race on up to "
        f"{race['block_seeds'] * race['most_blocks']} fresh seeds{confirmed}."
    )


def _loading(study: Study, files: Collection[str]) -> list[str]:
    name = study.name
    lines = [
        "## How to load it",
        "",
        "```console",
        f"$ trialfleet evaluate {name}.safetensors",
        f"$ trialfleet play {name}.safetensors -o agent.gif",
        "```",
        "",
    ]
    if f"{name}.zip" in files:
        lines += [
            "With Stable-Baselines3:",
            "",
            "```python",
            *_environment(study),
            "from stable_baselines3 import DQN",
            "from stable_baselines3.common.evaluation import evaluate_policy",
            "",
            f"model = DQN.load({quoted(f'{name}.zip')})",
            "print(evaluate_policy(model, env, n_eval_episodes=20))",
            "```",
            "",
        ]
    if f"{name}.onnx" in files:
        lines += [
            "With ONNX Runtime, from observations to actions:",
            "",
            "```python",
            *_environment(study),
            "import onnxruntime",
            "",
            f"session = onnxruntime.InferenceSession({quoted(f'{name}.onnx')})",
            "observation, _ = env.reset(seed=0)",
            'feed = {"observation": observation[None].astype("float32")}',
            'action = session.run(["action"], feed)[0][0]',
            "```",
            "",
        ]
    return lines


def _environment(study: Study) -> list[str]:
    """Python that makes the environment as the agent saw it, as `env`."""
    task = study.spec.task
    options = dict(task.env_args)
    if task.max_episode_steps is not None:
        options["max_episode_steps"] = task.max_episode_steps
    classes = [wrapper["name"].partition(":")[::2] for wrapper in task.wrappers]
    lines = [
        "import gymnasium",
        "from gymnasium.wrappers import FlattenObservation",
        *(f"from {module} import {kind}" for module, kind in dict.fromkeys(classes)),
        "",
        f"env = gymnasium.make({quoted(task.env)}{_options(options)})",
    ]
    for wrapper, (_, kind) in zip(task.wrappers, classes, strict=True):
        rest = {name: value for name, value in wrapper.items() if name != "name"}
        lines.append(f"env = {kind}(env{_options(rest)})")
    return [*lines, "env = FlattenObservation(env)", ""]


def _options(options: Mapping[str, Any]) -> str:
    """Keyword arguments, to follow a first one."""
    return "".join(f", {name}={_literal(value)}" for name, value in options.items())


def _literal(value: Any) -> str:
    """A value of a study file in Python; no text in it means anything."""
    match value:
        case str():
            return quoted(value)
        case dict():
            return f"{{{', '.join(f'{quoted(k)}: {_literal(v)}' for k, v in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _result(study: Study) -> Mapping[str, Any]:
    assert study.result is not None
    result: Mapping[str, Any] = study.result
    return result


def _params(model: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(model["params"].items())


def _versions(model: Mapping[str, Any]) -> list[str]:
    return [f"{name} {version}" for name, version in model["versions"].items()]


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{value}"
