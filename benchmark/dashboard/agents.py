"""What agents do on a level and what they think of it; tasks of worker.py, with torch in a process beside the server.

A checkpoint is loaded as everywhere (`agents.load_agent`): tensors only, and nothing from the file is executed.
"""

import functools
import io
import sys
from pathlib import Path

import numpy as np
import torch

from benchmark.dashboard.playback import digits_of, inputs_from, map_of
from npp_rl.agents import load_agent
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import ACTIONS, REWARD_KEYS, inputs_of
from npp_rl.evaluation.players import agent_policy
from npp_rl.evaluation.suite import BATCH, evaluate
from npp_rl.levels.maps import Level
from npp_rl.simulator import DEAD, WON, simulate

MOST_TRIES = 64
CPU = torch.device("cpu")


@functools.lru_cache(4)
def _agent(checkpoint: str, scripts: tuple[str, ...], stamp):
    """An agent, the arguments of its run, and what is said of its script. stamp: changes when the file does."""
    torch.set_num_threads(1)
    before, sys.stderr = sys.stderr, io.StringIO()  # a script that has changed since is said there
    try:
        agent, run = load_agent(checkpoint, CPU, scripts)
        return agent, run, sys.stderr.getvalue().strip()
    finally:
        sys.stderr = before


def _loaded(checkpoint: str, scripts: list[str]):
    path = Path(checkpoint)
    return _agent(checkpoint, tuple(scripts), path.stat().st_mtime_ns if path.exists() else 0)


def _rules(agent, run) -> dict:
    rules = {name: run[name] for name in ("frame_skip", "gamma")}
    return rules | {"observations": agent.observations, "frame_stack": run.get("frame_stack", 1)}


def decisions(checkpoint: str, map: str, actions: str, frame_skip: int, frames: int, scripts: list[str]) -> dict:
    """What an agent thinks in the states of an episode that was played with `actions`.

    Returns `actions` (names), and for each step `probabilities` (of the actions, in hundredths of a percent), `values`
    and `rewards`; `parts` of the return by name; `agrees`, the share of the steps in which the likeliest action is the
    one that was taken.
    """
    inputs_from(actions, frame_skip, frames)
    agent, run, note = _loaded(checkpoint, scripts)
    if run["frame_skip"] != frame_skip:
        raise ValueError(f"this agent holds actions for {run['frame_skip']} frames, the episode for {frame_skip}")
    taken = np.frombuffer(actions.encode(), np.uint8) - ord("0")
    envs = NppVectorEnv(1, [Level(map_of(map), "level", "")], **_rules(agent, run), copy=False, autoreset=False)
    seen, _ = envs.reset()
    rows = {key: np.zeros((BATCH, *value.shape[1:]), value.dtype) for key, value in seen.items()}
    logits, values, rewards = [], [], []

    def look(count):
        with torch.no_grad():
            x = {key: torch.from_numpy(value) for key, value in rows.items()}
            logits.append(agent.get_logits(x)[:count].double())
            values.append(agent.get_value(x)[:count].double().flatten())

    for step, action in enumerate(taken):
        for key, value in seen.items():
            rows[key][step % BATCH] = value[0]
        if step % BATCH == BATCH - 1:
            look(BATCH)
        seen, reward, terminated, truncated, infos = envs.step(np.array([action]))
        rewards.append(float(reward[0]))
        if terminated[0] or truncated[0]:
            break
    if count := len(rewards) % BATCH:
        look(count)
    figures = infos.get("outcome", {})
    parts = {name: round(float(figures[f"r_{name}"][0]), 4) for name in REWARD_KEYS if f"r_{name}" in figures}
    envs.close()
    logits = torch.cat(logits)
    likeliest = logits.argmax(1).numpy()
    return {
        "actions": list(ACTIONS),
        "frame_skip": frame_skip,
        "probabilities": (10_000 * torch.softmax(logits, 1)).round().int().tolist(),
        "values": [round(value, 3) for value in torch.cat(values).tolist()],
        "rewards": [round(reward, 4) for reward in rewards],
        "parts": parts,
        "gamma": run["gamma"],
        "agrees": float((likeliest == taken[: len(likeliest)]).mean()),
        "note": note,
    }


def tries(checkpoint: str, map: str, scripts: list[str], sampled: int = 16, seed: int = 0) -> dict:
    """An agent's game on a level as an evaluation plays it, or `sampled` games with actions drawn from its policy.

    `runs`: rows of kind ("greedy" or "sampled"), outcome ("won", "died" or "unfinished"), frames, input digits, and the
    way: x, y of every second frame and of the last one, px. With sampled 0 the greedy one is played alone, else only
    the sampled ones, as many as BATCH side by side.
    """
    agent, run, note = _loaded(checkpoint, scripts)
    level = Level(map_of(map), "level", "")
    rules = _rules(agent, run)
    policy = agent_policy(agent, CPU)
    games = []
    if sampled < 1:
        results = evaluate(policy, [level], **rules, examined=False)
        one = results["levels"][0]["tries"][0]
        games.append(("greedy", inputs_of(one["actions"], run["frame_skip"], one["frames"])))
    else:
        random = np.random.default_rng(np.random.SeedSequence([seed, int(level.digest[:16], 16)]))
        for first in range(0, min(sampled, MOST_TRIES), BATCH):
            count = min(BATCH, sampled - first)
            games += [("sampled", keys) for keys in _sampled(policy, level, rules, count, random)]
    rows = []
    for kind, keys in games:
        places, states = simulate(level.map_data, keys)
        way = np.concatenate([[level.spawn], places[1:-1:2, :2], places[-1:, :2]]).round(1).ravel().tolist()
        end = int(states[-1]) if len(states) else 0
        outcome = {WON: "won", DEAD: "died"}.get(end, "unfinished")
        rows.append([kind, outcome, len(states), digits_of(keys[: len(states)]), way])
    return {"runs": rows, "note": note, "frame_skip": run["frame_skip"]}


def _sampled(policy, level, rules, count, random) -> list[bytes]:
    """Input bytes of `count` games with sampled actions."""
    envs = NppVectorEnv(count, [level], **rules, copy=False, autoreset=False)
    seen, _ = envs.reset(options={"levels": np.zeros(count, np.int64)})
    rows = {key: np.zeros((BATCH, *value.shape[1:]), value.dtype) for key, value in seen.items()}
    taken, running = [[] for _ in range(count)], np.ones(count, bool)
    while running.any():
        for key, value in seen.items():
            rows[key][:count] = value
        logits = policy(rows)[:count].astype(np.float64)
        weights = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
        actions = (weights < random.random((count, 1)) * weights[:, -1:]).sum(1)
        for game in np.flatnonzero(running):
            taken[game].append(int(actions[game]))
        seen, _, terminated, truncated, _ = envs.step(actions)
        running &= ~(terminated | truncated)
    envs.close()
    return [inputs_of(np.array(own), rules["frame_skip"]) for own in taken]
