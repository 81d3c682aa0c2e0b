"""PPO of Stable-Baselines3; studies/ppo.toml searches its hyperparameters.

Needs Stable-Baselines3: `pip install "trialfleet[sb3]"`.
"""

from __future__ import annotations

import io

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed

from trialfleet.training import Result, Run

_OWN = ("env", "eval_episodes", "score_episodes", "net_arch")  # ours, the others are PPO's


def train(run: Run) -> Result:
    """An agent for each seed; a step is one of the environment."""
    env_id = run.parameters["env"]
    agents = [_new(run, seed) for seed in run.seeds]
    if run.checkpoint is not None:
        _load(agents, run.checkpoint)
    for step in run.steps:
        returns = []
        for agent, seed in zip(agents, run.seeds, strict=True):
            # Whatever a segment draws comes from its own seed, and it starts on a new episode. So
            # a training that was interrupted is the same as one in one go.
            own = run.segment_seed(seed, step)
            set_random_seed(own)
            env = gymnasium.make(env_id)
            env.reset(seed=own)
            agent.set_env(env)
            agent.learn(run.eval_every, reset_num_timesteps=False)
            episodes = run.parameters["eval_episodes"]
            returns.append(_play(agent, env_id, seed=step, episodes=episodes))
        run.report(step, returns, checkpoint=lambda: _dump(agents))
    episodes = run.parameters["score_episodes"]
    scores = [_play(agent, env_id, seed=0, episodes=episodes) for agent in agents]
    return Result(scores=scores, models=[_file(each) for each in agents], suffix=".zip")


def _new(run: Run, seed: int) -> PPO:
    options = {name: value for name, value in run.parameters.items() if name not in _OWN}
    if run.eval_every % options["n_steps"]:
        raise ValueError(f"n_steps = {options['n_steps']} does not divide task.eval_every")
    return PPO(
        "MlpPolicy",
        gymnasium.make(run.parameters["env"]),
        policy_kwargs={"net_arch": list(run.parameters["net_arch"])},
        seed=seed,
        device=run.device,
        **options,
    )


def _play(agent: PPO, env_id: str, *, seed: int, episodes: int) -> float:
    """Mean return of greedy episodes."""
    env = gymnasium.make(env_id)
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed * 1_000 + episode)
        ended = False
        while not ended:
            action, _ = agent.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            ended = terminated or truncated
    env.close()
    return total / episodes


def _file(agent: PPO) -> bytes:
    """What `PPO.load` takes. It holds pickles, as all of these files do; nobody here loads it."""
    buffer = io.BytesIO()
    agent.save(buffer)
    return buffer.getvalue()


def _dump(agents: list[PPO]) -> bytes:
    """All that learning has changed, as tensors and numbers alone."""
    buffer = io.BytesIO()
    states = [
        (each.policy.state_dict(), each.policy.optimizer.state_dict(), each.num_timesteps)
        for each in agents
    ]
    torch.save(states, buffer)
    return buffer.getvalue()


def _load(agents: list[PPO], checkpoint: bytes) -> None:
    states = torch.load(io.BytesIO(checkpoint), weights_only=True)
    for agent, (policy, optimizer, steps) in zip(agents, states, strict=True):
        agent.policy.load_state_dict(policy)
        agent.policy.optimizer.load_state_dict(optimizer)
        agent.num_timesteps = steps
