"""How episodes failed, and pictures of lost levels.

retrace.py plays the actions of every episode again and finds where it ended, how much way was left, and its near
misses. The kind of failure is the first of these that holds:

- `died`: the ninja died of the episode's `cause`;
- `stuck`: it stayed in a box smaller than STUCK_PX during the last WINDOW_SECONDS;
- `timed out near the goal`: at most NEAR_GOAL_PX of way were left;
- `too slow`: it came at least NEARER_PX nearer than ever before within the last WINDOW_SECONDS;
- `wandering`: it moved but came no nearer.
"""

import functools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from npp_rl.commands import say
from npp_rl.environment import ahead
from npp_rl.environment.games import CAUSES, inputs_of
from npp_rl.evaluation.retrace import retrace
from npp_rl.files import plain_name
from npp_rl.levels.maps import Level
from npp_rl.simulator import WON, simulate
from npp_rl.viewing.render import close_up, save_picture

FAILURES = ("died", "stuck", "timed out near the goal", "too slow", "wandering")

WINDOW_SECONDS = 5  # half of the shortest time limit, so that a ninja that has moved recently still counts as moving
STUCK_PX = 24.0  # a tile: trembling at a wall stays below it, a hop (36 px and more) does not
NEAR_GOAL_PX = 100.0  # half a second at full speed, 3.3 px per frame
NEARER_PX = 24.0  # a tile, so that swaying around the nearest place so far is no progress


@functools.cache
def compile_ahead(observations: tuple[str, ...] = ()) -> None:
    """Compile what environments with these observations, generated levels and `examine` need.

    So no clock or evaluation pays for it. On each machine of a torchrun one process compiles, and the others take it
    from the cache. Numba's first parallel call sets torch's number of threads, through OpenMP, which is restored here.
    """
    threads = torch.get_num_threads()
    follows = dist.is_initialized() and os.environ.get("LOCAL_RANK", "0") != "0"
    if follows:
        if not ahead.waited:
            dist.barrier()
        ahead.waited = False
    elif text := ahead.begin():
        say(text)
    ahead.finish(observations, [lambda level: retrace([level] * 2, [(0, "0", 1), (1, "0", 1)], 4, 1)])
    if dist.is_initialized() and not follows:
        dist.barrier()
    torch.set_num_threads(threads)


def examine(levels: Sequence[Level], episodes: Sequence[tuple[int, dict]], frame_skip: int) -> None:
    """Play each episode (index of its level, outcome) again, and add what happened to its outcome.

    An outcome has `actions`, `frames`, `success` and `cause`. It gets `failure` (one of FAILURES, or None if the
    episode was won), `x`, `y` (px, where it ended), `way_left` (px along free space through all goals that were left),
    `closest` (the least `way_left` in the episode) and `near_misses` (see `retrace`). Raises RuntimeError if an episode
    ends differently than before, which the simulator rules out.
    """
    played = [(index, outcome["actions"], outcome["frames"]) for index, outcome in episodes]
    traced = retrace(levels, played, frame_skip, 60 * WINDOW_SECONDS)
    for (index, outcome), trace in zip(episodes, traced, strict=True):
        if outcome["success"] != (trace["state"] == WON):
            raise RuntimeError(f"{levels[index].id}: the actions lead to another end than before")
        outcome["failure"] = _failure(outcome, trace)
        for name in ("x", "y", "way_left", "closest"):
            outcome[name] = round(float(trace[name]), 2)
        outcome["near_misses"] = int(trace["near_misses"])


def _failure(outcome, trace):
    if outcome["success"]:
        return None
    if outcome["cause"] != CAUSES[0]:
        return "died"
    if trace["moved"] < STUCK_PX:
        return "stuck"
    if trace["way_left"] <= NEAR_GOAL_PX:
        return "timed out near the goal"
    return "too slow" if trace["gained"] >= NEARER_PX else "wandering"


def file_name(level: Level, names: set[str]) -> str:
    """The beginning of a file's name for a level: no other level's in `names`, to which it is added."""
    name = plain_name(level.id)[:80]
    name = f"{name}_{level.digest[:8]}" if name in names else name
    names.add(name)
    return name


def draw_failures(
    results: dict, levels: Sequence[Level], folder: str | Path, count: int, most: int | None = None
) -> dict[str, str]:
    """Draw levels that no try won, with the paths of all tries -> {level id: path relative to the parent of `folder`}.

    Each category and kind of failure (the most common one of the level's tries) gets pictures of its first `count`
    levels, FOLDER/<level>__<failure>.png, of what can be reached (`render.close_up`). There are at most `most`
    pictures, the first of each category before others. Levels that the agent was trained on get none, unless it was
    trained on all of them.
    """
    folder = Path(folder)
    frame_skip = results["settings"]["frame_skip"]
    of_kind, of_category, chosen, pictures, names = Counter(), Counter(), [], {}, set()
    all_known = all(entry.get("trained_on") for entry in results["levels"])
    for level, entry in zip(levels, results["levels"], strict=True):
        if entry["success_rate"] > 0 or (entry.get("trained_on") and not all_known):
            continue
        failure = Counter(outcome["failure"] for outcome in entry["tries"]).most_common(1)[0][0]
        if of_kind[level.category, failure] < count:
            chosen.append((of_category[level.category], level, entry, failure))
            of_kind[level.category, failure] += 1
            of_category[level.category] += 1
    for _, level, entry, failure in sorted(chosen, key=lambda one: one[0])[:most]:
        folder.mkdir(parents=True, exist_ok=True)
        ways = [_trajectory(level, outcome, frame_skip) for outcome in entry["tries"]]
        shown = next(outcome for outcome in entry["tries"] if outcome["failure"] == failure)
        path = folder / f"{file_name(level, names)}__{plain_name(failure)}.png"
        save_picture(path, close_up(level, [level.id, describe(shown)], ways))
        pictures[level.id] = f"{folder.name}/{path.name}"
    return pictures


def _trajectory(level, outcome, frame_skip):
    """Positions along an outcome's actions, how it ended and its cause of death, as `draw_level` takes them."""
    places, _ = simulate(level.map_data, inputs_of(outcome["actions"], frame_skip, outcome["frames"]))
    ended = "won" if outcome["success"] else "died" if outcome["failure"] == "died" else "unfinished"
    return np.concatenate([[level.spawn], places[:, :2]]), ended, outcome["cause"] if ended == "died" else ""


def describe(outcome: dict) -> str:
    """One line on how a failed episode ended."""
    seconds, way = f"{outcome['frames'] / 60:.1f} s", f"{outcome['way_left']:.0f} px of way left"
    if outcome["failure"] == "died":
        return f"died ({outcome['cause'].replace('_', ' ')}) after {seconds}, {way}"
    return f"{outcome['failure']}, out of time after {seconds}, {way} ({outcome['closest']:.0f} at best)"
