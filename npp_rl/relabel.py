"""Relabelling: what the planner does in the states that an agent comes to (DAgger, Ross et al. 2011, arXiv 1011.0686).

    python -m npp_rl.relabel --checkpoint BC_RUN/checkpoints/best.pt --out FOLDER
    python npp_rl/bc_pretrain.py --replay-data-dir PLANS FOLDER

An agent that imitates comes to states that its demonstrations do not show, and has not learned what to do there. This
command plays the training levels of the agent's run, takes some states of each episode, and lets the planner win from
there. FOLDER gets a replay of each such win, the agent's steps up to the state and the planner's steps after it.
relabelled.json says how many steps are the agent's; planning/demonstrations.py leaves them out of training.
"""

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from npp_rl.agents import load_agents
from npp_rl.commands import ArgumentError, command, say
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import inputs_of
from npp_rl.evaluation import players
from npp_rl.files import write_atomically
from npp_rl.levels import datasets
from npp_rl.levels.maps import Level
from npp_rl.levels.replays import encode_replay
from npp_rl.planning import planner
from npp_rl.planning.runs import RELABELLED
from npp_rl.simulator import WON, build_bank, simulate
from npp_rl.training.arguments import check_args


@dataclass
class Args:
    """Let the planner win from states that an agent comes to."""

    checkpoint: str  # checkpoint of the agent that plays, such as RUN_DIR/checkpoints/best.pt
    out: str  # folder of the replays, new or empty
    script: str | None = None  # the agent's script, if its architecture is none of the eight: a path that ends in .py
    states: int = 2  # states of each episode from which the planner plays on
    sampled: bool = False  # sample the agent's actions instead of taking the likeliest
    budget: float = 0.5  # seconds for each search
    seed: int = 0  # seed of the states and of sampled actions
    workers: int = 0  # searches at once (0: as many as processors)


def play(agent: torch.nn.Module, run: dict, levels: list[Level], sampled: bool, seed: int) -> list[np.ndarray]:
    """Play an episode on each level -> the agent's actions, uint8 [steps]. run: arguments of the agent's run."""
    policy = players.agent_policy(agent, torch.device("cpu"))
    random = np.random.default_rng(seed)
    rules = {"frame_skip": run["frame_skip"], "gamma": run["gamma"], "frame_stack": run.get("frame_stack", 1)}
    envs = NppVectorEnv(len(levels), levels, agent.observations, **rules, autoreset=False, copy=False, seed=0)
    obs, _ = envs.reset(options={"levels": np.arange(len(levels))})
    taken, steps = [], np.zeros(len(levels), np.int64)
    while not steps.all():
        logits = policy(obs)
        if sampled:
            logits = logits + random.gumbel(size=logits.shape)  # the arg max is then a sample of the policy
        actions = logits.argmax(1)
        taken.append(actions.astype(np.uint8))
        obs, _, terminated, truncated, _ = envs.step(actions)
        steps[(terminated | truncated) & (steps == 0)] = len(taken)
    envs.close()
    return [column[:n] for column, n in zip(np.stack(taken, 1), steps, strict=True)]


def rows_at(
    levels: list[Level], episodes: list[np.ndarray], states: list[np.ndarray], frame_skip: int
) -> dict[tuple[int, int], np.ndarray]:
    """Rows of the games for `planner.plan_from`, by (level, step), at the steps in `states` of each level."""
    envs = NppVectorEnv(
        len(levels), levels, ("game_state",), frame_skip=frame_skip, autoreset=False, copy=False, seed=0
    )
    envs.reset(options={"levels": np.arange(len(levels))})
    rows = {}
    for step in range(max(map(max, states)) + 1):
        here = [k for k, chosen in enumerate(states) if step in chosen]
        if here:
            games = envs.get_state()["rows"]
            rows |= {(k, step): games[k].copy() for k in here}
        envs.step(np.array([actions[step] if step < len(actions) else 0 for actions in episodes]))
    envs.close()
    return rows


def relabel(
    levels: list[Level], episodes: list[np.ndarray], args: Args, frame_skip: int
) -> tuple[list[tuple[Level, int, bytes]], int]:
    """Let the planner play on -> (its wins as (level, steps of the agent, inputs), number of states tried)."""
    random = np.random.default_rng((args.seed, 1))
    states = [random.choice(n, min(args.states, n), replace=False) for n in map(len, episodes)]
    rows = rows_at(levels, episodes, states, frame_skip)
    bank = build_bank([level.map_data for level in levels])
    wanted = sorted(rows)

    def some(worker):
        pools, found = planner.make_pools(bank, 100_000), []
        for k, step in wanted[worker::workers]:
            plan = planner.plan_from(bank, rows[k, step], args.budget, frame_skip, args.seed, pools)
            if plan:
                before = inputs_of(episodes[k][:step], frame_skip)
                _, played = simulate(levels[k].map_data, before + plan.inputs)
                assert played[-1] == WON, "the planner's run wins from the state that the agent's steps lead to"
                found.append((k, int(step), before + plan.inputs))
        return found

    workers = args.workers or len(os.sched_getaffinity(0))
    planner.compile_ahead()
    with ThreadPoolExecutor(workers) as pool:
        found = sorted(itertools.chain.from_iterable(pool.map(some, range(workers))))
    return [(levels[k], step, inputs) for k, step, inputs in found], len(wanted)


def main(args: Args) -> None:
    """Relabel states. Raises ArgumentError, CheckpointError, LevelError, OSError."""
    check_args(args)
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArgumentError(f"--out {out}: expected a folder that is new or empty")
    ((_, agent, run),) = load_agents([args.checkpoint], named=[args.script] if args.script else ())
    names = ("train_dataset", "test_dataset", "holdout_fraction", "validation_fraction")
    levels, _, _ = datasets.load_split(*(run[name] for name in names))
    out.mkdir(parents=True, exist_ok=True)  # fails now, not after the search
    episodes = play(agent, run, levels, args.sampled, args.seed)
    say(f"{len(levels)} episodes played; the planner plays on, {args.budget} s for each state at most")
    found, tried = relabel(levels, episodes, args, run["frame_skip"])
    files = {}
    for level, step, inputs in found:
        name = planner.replay_name(level).removesuffix(".replay")
        files[f"{level.category}/{name}_{step}.replay"] = (level, step, inputs)
    index = {"frame_skip": run["frame_skip"], "steps": {name: step for name, (_, step, _) in files.items()}}
    write_atomically(out / RELABELLED, json.dumps(index, indent=1).encode())  # before the replays
    for name, (level, _, inputs) in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        write_atomically(out / name, encode_replay(level.map_data, inputs, True))
    say(f"{out}: {len(files)} of {tried} states relabelled; in the others no way to win was found")


if __name__ == "__main__":
    command(main, Args)
