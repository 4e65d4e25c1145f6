"""Play levels, watch replays and agents, in a window. Needs pygame (extra `play`).

    python -m npp_rl.play                                     browse the built-in levels and play them
    python -m npp_rl.play --dataset DIR --record DIR          other levels; finished runs are written as replays
    python -m npp_rl.play --replay FILE                       watch a replay
    python -m npp_rl.play --checkpoint RUN_DIR/checkpoints/best.pt [--sampled]    watch an agent
    python -m npp_rl.play --checkpoint A.pt B.pt [--vote]     watch an ensemble

Browser: arrows and Enter, type to filter, Esc leaves. Game: arrows or A and D, jump with Z, space, up or W; R starts
again, N and P go to the next and the previous level, Esc goes back. Replays and agents: space pauses, up and down
change the speed. In a replay, right and left go on and back by a frame, and backspace rewinds. Of an ensemble,
the lines in an action's bar are the agents' own probabilities, and each dot below it is an agent that would take it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npp_rl.commands import ArgumentError, UserError, command, fail
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.maps import Level
from npp_rl.levels.replays import Replay, ReplayError, read_replays
from npp_rl.training.arguments import check_args
from npp_rl.viewing.render import outcome_text
from npp_rl.viewing.shapes import HEIGHT, WIDTH

try:
    import pygame

    from npp_rl.viewing.browser import browse
    from npp_rl.viewing.player import (
        PANEL,
        SPEEDS,
        Game,
        changed_speed,
        play_levels,
        pressed,
        watch_replays,
        with_panel,
    )
    from npp_rl.viewing.window import Closed, Window
except ImportError:
    if __name__ != "__main__":
        raise
    fail('playing needs pygame: pip install "npp-rl[play]"')


@dataclass
class Args:
    """Play levels, watch replays and agents."""

    dataset: str = "builtin"  # levels to play or watch: builtin, or a folder
    level: str | None = None  # id of the level to start with (default: choose in the browser)
    record: Path | None = None  # folder that every finished game is written to as a replay
    record_won_only: bool = False  # with --record: write only games that were won
    replay: Path | None = None  # watch this replay file
    checkpoint: tuple[str, ...] = ()  # watch this agent (checkpoint, exported folder, zoo:NAME), or several together
    script: tuple[str, ...] = ()  # scripts of agents whose architecture is none of the eight: paths that end in .py
    vote: bool = False  # with several checkpoints: the agents vote, instead of the mean of log-probabilities
    sampled: bool = False  # with --checkpoint: sample actions instead of taking the likeliest
    seed: int = 0  # seed of the sampled actions
    scale: int = 1  # pixels of the screen to one px of the level
    frames: int | None = None  # end after this many pictures
    screenshot: Path | None = None  # end after --frames pictures (default: 60) and write the last to this PNG file


def watch_agent(
    window: Window, levels: Sequence[Level], index: int, scale: int, agent, run: dict, sampled: bool, seed: int
) -> int:
    """Show an agent's games from level `index` on -> index of the last level when the user goes back. Raises Closed.

    agent, run: from `agents.load_agent`. sampled: actions are sampled with `seed` instead of taken greedily.
    """
    import torch

    from npp_rl.environment.env import NppVectorEnv  # here: playing and replays need neither this nor torch
    from npp_rl.environment.games import ACTION_BYTES, ACTIONS
    from npp_rl.evaluation.players import Ensemble

    keys = "space: pause   up, down: speed   R: again   N, P: next, previous level   Esc: back"
    random = np.random.default_rng(seed)
    speed, paused = SPEEDS.index(1), False
    game = None
    while True:
        if game is None:
            game = Game(levels[index], scale)
            rules = {"frame_skip": run["frame_skip"], "gamma": run["gamma"], "frame_stack": run.get("frame_stack", 1)}
            envs = NppVectorEnv(1, [levels[index]], agent.observations, **rules, copy=False, autoreset=False)
            obs, _ = envs.reset()
            choice, left, out_of_time, credit = None, 0, False, 0.0
        right = f"{'paused   ' if paused else ''}speed {SPEEDS[speed]:g}   {'sampled' if sampled else 'greedy'}"
        outcome = outcome_text(game.ninja) or ("out of time" if out_of_time else "")
        window.show(with_panel(game, outcome, "", right, keys, choice))
        speed = changed_speed(speed, pressed(window))
        for key in pressed(window):
            if key == pygame.K_ESCAPE:
                return index
            if key == pygame.K_SPACE:
                paused = not paused
            elif key in (pygame.K_r, pygame.K_n, pygame.K_p):
                step = {pygame.K_r: 0, pygame.K_n: 1, pygame.K_p: -1}[key]
                index, game = (index + step) % len(levels), None
                break
        if game is None or paused:
            continue
        credit += SPEEDS[speed]
        while credit >= 1 and not (game.over or out_of_time):
            # The environment is up to a step ahead of the game, which shows the frames one by one.
            if not left:
                with torch.no_grad():
                    x = {name: torch.from_numpy(array) for name, array in obs.items()}
                    members = agent.logprobs(x) if isinstance(agent, Ensemble) else None
                    logits = agent.get_logits(x) if members is None else agent.combined(members)
                    p = torch.softmax(logits[0].double(), 0).numpy()
                    value = float(agent.get_value(x)[0])
                action = int(random.choice(len(p), p=p / p.sum()) if sampled else p.argmax())
                alone = [] if members is None else members[:, 0].exp().tolist()
                choice, left = (ACTIONS, p.tolist(), action, value, alone), run["frame_skip"]
                obs, _, terminated, truncated, _ = envs.step(np.array([action]))
            game.advance(int(ACTION_BYTES[action]))
            credit, left = credit - 1, left - 1
            out_of_time = not left and not game.over and bool(terminated[0] or truncated[0])


def playable(path: Path) -> list[Replay]:
    """The runs of a replay file that can be played, repaired where possible. Raises ReplayError if there are none."""
    replays = read_replays(path)
    good = []
    for replay in replays:
        while replay.problem and replay.repaired:
            replay = replay.repaired
        if not replay.problem:
            good.append(replay)
    if not good:
        raise ReplayError(f"{path}: {replays[0].problem}")
    return good


def main(args: Args) -> None:
    """Open a window until it is closed. Raises ArgumentError, CheckpointError, LevelError, ReplayError, OSError."""
    check_args(args)
    levels, index, agent, run = [], None, None, None
    if args.replay:
        for name in ("checkpoint", "level", "record"):
            if getattr(args, name):
                raise ArgumentError(f"--{name}: not together with --replay")
        replays = playable(args.replay)
    else:
        levels = load_levels(args.dataset)
    if args.level is not None:
        ids = [level.id for level in levels]
        if args.level not in ids:
            raise ArgumentError(f"--level {args.level}: not in {args.dataset}, expected an id such as {ids[0]}")
        index = ids.index(args.level)
    if args.checkpoint:
        from npp_rl.agents import load_agents  # here: they need torch
        from npp_rl.evaluation.players import together

        loaded = load_agents(args.checkpoint, named=args.script)
        agent, run = together(loaded, args.vote) if len(loaded) > 1 else loaded[0][1:]
        print("waiting for the simulator (the first start compiles it, up to a minute)", flush=True)
    if args.record:
        args.record.mkdir(parents=True, exist_ok=True)
    frames = args.frames or (60 if args.screenshot else None)
    try:
        window = Window(WIDTH * args.scale, (HEIGHT + PANEL) * args.scale, "NPP-RL", frames, args.screenshot)
    except pygame.error as error:
        raise UserError(f"no window can be opened ({error})") from None
    try:
        if args.replay:
            watch_replays(window, replays, args.scale)
            return
        at = 0
        while index is not None or (index := browse(window, levels, args.scale, at)) is not None:
            if agent is None:
                at = play_levels(window, levels, index, args.scale, args.record, args.record_won_only)
            else:
                at = watch_agent(window, levels, index, args.scale, agent, run, args.sampled, args.seed)
            index = None
    except Closed:
        pass
    finally:
        window.close()


if __name__ == "__main__":
    command(main, Args)
