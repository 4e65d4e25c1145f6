"""Planner: solves levels by search in the simulator, on the agent's grid, and shortens what it has found.

    python -m npp_rl.planning.planner --dataset DIR --out FOLDER --budget 5s
    python -m npp_rl.planning.planner --dataset builtin --split test --out FOLDER --json summary.json

A plan is one of the environment's six actions per step of `frame_skip` frames, so that an agent can do the same; the
last step may end early, with the win. FOLDER gets a replay for each level that was won (compact format, version 1,
PHYSICS.md 9.1) and the index planner.json; `level_generator.par_of` reads par times from it. A run that is stopped is
taken up again by the same command: levels whose replays are there, and win, are not solved again.

search.py has the search itself. A budget in seconds decides how far it goes; where it ends before, since nothing
better was found, the result depends on the level, the frame skip and the seed only.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npp_rl.commands import ArgumentError
from npp_rl.environment.games import ACTION_BYTES
from npp_rl.files import write_atomically
from npp_rl.levels.builtin import PLANNER_INDEX
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.maps import Level, encode_map
from npp_rl.levels.replays import ReplayError, read_replays, write_replay
from npp_rl.planning import search
from npp_rl.planning.search import EXHAUSTED, FOUND, MORE, Pools, Settings
from npp_rl.simulator import DEAD, WON, Bank, build_bank, reset_game, row_bytes, simulate
from npp_rl.simulator.layout import EXIT_DOOR

NODES, MEMORY = 400_000, 700 << 20  # of one search: nodes at most, and bytes
STEPS = 4096  # of the longest plan
CHUNK = 400  # expansions between two looks at the clock
PLAYED = 200_000  # frames of small changes between two looks at the clock
LONGEST_BUDGET = 86_400.0  # seconds

# The first search finds most ways; those after it look at more states (finer cells, mines and moving entities told
# apart), at fewer, or follow the way less.
# fmt: off
SEARCHES = (  # cell, speed_cell, weight, turns, hold, mines, movers
    (8.0, 0.6, 1.0, 3, 6, 0, 0),
    (6.0, 0.4, 0.5, 2, 6, 1, 1),
    (12.0, 1.0, 1.0, 2, 8, 1, 0),
    (4.0, 0.3, 2.0, 3, 4, 1, 1),
    (3.0, 0.2, 1.0, 2, 4, 1, 1),
)
# Searches for shorter ways: cell, speed_cell, slack (frames), expansions.
SHORTENINGS = ((6.0, 0.5, 0.0, 10_000), (8.0, 0.6, 16.0, 20_000), (4.0, 0.3, 4.0, 20_000))
# fmt: on


@dataclass(frozen=True)
class Plan:
    """A way to win."""

    actions: np.ndarray  # uint8 [steps], 0..5 as in games.ACTIONS
    frames: int  # until the win
    inputs: bytes  # one byte per frame, bits as in PHYSICS.md 7


def plan(level: Level, budget: float = 10.0, frame_skip: int = 4, seed: int = 0) -> Plan | None:
    """The fastest way to win a level that was found within `budget` seconds; None if none was.

    The result depends on the budget only where the search was still going on when it ended (module's text).
    Raises ValueError for a map that PHYSICS.md 8.5 rejects, or a number out of its range.
    """
    return _plan_level(level, budget, frame_skip, seed)[0]


def plan_from(
    bank: Bank, row: np.ndarray, budget: float = 0.5, frame_skip: int = 4, seed: int = 0, pools: Pools | None = None
) -> Plan | None:
    """As `plan`, from a running game: the actions that win from there, None if none were found or the game is over.

    bank: levels (`build_bank`). row: uint8 [row_bytes(bank)], a game's row for this bank, such as a row of "rows" in
    NppVectorEnv.get_state(). pools: memory of `make_pools(bank, nodes)` to use again, which saves time where many
    games are planned; one thread at a time may use it. Raises ValueError for a row that does not fit the bank.
    """
    row = np.ascontiguousarray(row)
    if row.dtype != np.uint8 or row.shape != (row_bytes(bank),):
        raise ValueError(f"row of {row.dtype} {list(row.shape)}: expected uint8 [{row_bytes(bank)}] for this bank")
    _check(budget, frame_skip, seed)
    pools = pools or make_pools(bank)
    pools.words[0] = row.view(np.uint64)
    ninja = pools.state.ninja[0]
    if not 0 <= ninja["level"] < len(bank.level):
        raise ValueError(f"row of level {ninja['level']}: expected one of {len(bank.level)} of this bank")
    if ninja["state"] in (DEAD, WON):
        return None
    compile_ahead()
    return _solve(bank, pools, frame_skip, seed, time.perf_counter() + budget)[0]


def make_pools(bank: Bank, nodes: int = NODES) -> Pools:
    """Memory of searches for `plan_from`: `nodes` nodes, fewer where rows are so long that it would be too much."""
    return search.make_pools(bank, min(nodes, MEMORY // search.node_bytes(bank)), STEPS)


@functools.cache
def compile_ahead() -> None:
    """Have everything compiled, or loaded from the cache, before a budget is counted; a minute at the first use."""
    tiles = np.ones((23, 42), np.uint8)
    tiles[11, 4:10] = 0
    corridor = [[0, 22, 50, 0, 0], [3, 38, 50, 0, 0], [4, 30, 50, 0, 0]]
    bank = build_bank([encode_map(tiles, np.array(corridor))])
    pools = search.make_pools(bank, 5000, STEPS)
    reset_game(bank, pools.state, 0, 0)
    _solve(bank, pools, 4, 0, math.inf)


def _check(budget, frame_skip, seed):
    if not 0 < budget <= LONGEST_BUDGET:
        raise ValueError(f"budget {budget}: expected seconds, more than 0 and at most {LONGEST_BUDGET:.0f}")
    if not 1 <= frame_skip <= 60:
        raise ValueError(f"frame_skip {frame_skip}: expected 1 to 60")
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed {seed}: expected 0 to 2**63 - 1")


def _plan_level(level, budget, frame_skip, seed) -> tuple[Plan | None, str]:
    """(plan or None, why there is none)."""
    _check(budget, frame_skip, seed)
    bank = build_bank([level.map_data])
    start = bank.level["type_start"][0]
    if start[EXIT_DOOR] == start[EXIT_DOOR + 1]:
        return None, "unsolvable: the level has no exit"
    pools = make_pools(bank)
    reset_game(bank, pools.state, 0, 0)
    compile_ahead()
    found, reason = _solve(bank, pools, frame_skip, seed, time.perf_counter() + budget)
    if found:
        _, states = simulate(level.map_data, found.inputs)
        if len(states) != found.frames or states[-1] != WON:
            raise AssertionError(f"{level.id}: the plan does not win in the simulator")
    return found, reason


def _solve(bank, pools, frame_skip, seed, deadline) -> tuple[Plan | None, str]:
    """Plan from the game in row 0 of the pools, or None and the reason."""
    pools.counts[search.KNOWN] = 0
    first = int(pools.state.ninja["frame"][0])
    said = []
    for cell, speed_cell, weight, turns, hold, mines, movers in SEARCHES:
        settings = Settings(frame_skip, cell, speed_cell, weight, turns, hold, mines, movers, 0.0)
        status = _run(bank, pools, settings, first + STEPS * frame_skip, deadline)
        if status == FOUND:
            break
        nodes = int(pools.counts[search.COUNT])
        said.append(f"{nodes} states in cells of {cell:g} px and {speed_cell:g} px per frame")
        if status == MORE:
            return None, f"not won within the budget ({said[-1]})"
    else:
        all_seen = status == EXHAUSTED
        return None, f"{'no way left' if all_seen else 'no memory left'} after {'; '.join(said)}"
    actions, steps = np.zeros(STEPS, np.uint8), 0
    found = _path(pools)
    actions[: len(found)], steps = found, len(found)
    steps = _shorten(bank, pools, actions, steps, frame_skip, seed, deadline)
    frames = int(pools.state.ninja["frame"][steps]) - first
    actions = actions[:steps].copy()
    return Plan(actions, frames, np.repeat(ACTION_BYTES[actions], frame_skip)[:frames].tobytes()), ""


def _run(bank, pools, settings, bound, deadline, expansions=1 << 60) -> int:
    """One search for a solution of fewer frames than `bound`."""
    search.begin(bank, pools, settings, bound)
    return _go_on(bank, pools, settings, deadline, expansions)


def _go_on(bank, pools, settings, deadline, expansions=1 << 60) -> int:
    status = MORE
    while status == MORE and pools.counts[search.EXPANDED] < expansions and time.perf_counter() < deadline:
        status = search.search(bank, pools, settings, CHUNK)
    return status


def _path(pools) -> np.ndarray:
    """Actions uint8 [steps] that lead to the node which won."""
    parts, node = [], int(pools.counts[search.BEST])
    while node > 0:
        parts.append(np.full(pools.held[node], pools.action[node], np.uint8))
        node = int(pools.parent[node])
    return np.concatenate(parts[::-1])


def _shorten(bank, pools, actions, steps, frame_skip, seed, deadline) -> int:
    """Make a run that wins faster, in place: `steps` of `actions` count; the new number. Rows 0 to it hold its states.

    Small changes and searches for other ways take turns until neither has led to anything.
    """
    state = (2 * seed + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    k, count = 0, len(pools.parent)
    search.replay(bank, pools, actions[:steps], frame_skip)
    while True:
        idle = 0
        while idle < 2 and time.perf_counter() < deadline:
            steps, kept, state = search.tweak(bank, pools, actions, steps, frame_skip, PLAYED, np.uint64(state))
            idle = 0 if kept else idle + 1
        if k == len(SHORTENINGS) or time.perf_counter() >= deadline:
            return steps
        cell, speed_cell, slack, expansions = SHORTENINGS[k]
        search.calibrate(bank, pools, steps)
        settings = Settings(frame_skip, cell, speed_cell, 0.0, 0, 6, 0, 0, slack)
        found = None
        status = _run(bank, pools, settings, int(pools.state.ninja["frame"][steps]), deadline, expansions)
        while status == FOUND:
            found = _path(pools)
            status = _go_on(bank, pools, settings, deadline, expansions)
        if found is not None and len(found) <= min(STEPS, count - 2):
            actions[: len(found)], steps = found, len(found)
        k = 0 if found is not None else k + 1
        search.replay(bank, pools, actions[:steps], frame_skip)


def replay_name(level: Level) -> str:
    """File name for a level's replay: what is safe of its id, and the beginning of its digest, which keeps it apart."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', level.id)[:80]}__{level.digest[:12]}.replay"


def known_frames(path: Path, level: Level, frame_skip: int) -> int | None:
    """Frames of the win in a replay of this level on the grid of `frame_skip`; None if there is no such file.

    Raises ReplayError (one line) where the file is something else.
    """
    if not path.is_file():
        return None
    replays = read_replays(path)
    replay = replays[0]
    if len(replays) != 1 or replay.problem or replay.map_data != level.map_data:
        raise ReplayError(replay.problem or "of another level")
    _, states = simulate(replay.map_data, replay.inputs)
    if states[-1] != WON or len(states) != len(replay.inputs):
        raise ReplayError("does not win with its last frame")
    keys = np.frombuffer(replay.inputs, np.uint8)
    if not np.array_equal(np.repeat(keys[::frame_skip], frame_skip)[: len(keys)], keys):
        raise ReplayError(f"its actions are not held for {frame_skip} frames")
    return len(states)


def plan_levels(
    levels: list[Level], out: Path, budget: float, frame_skip: int = 4, seed: int = 0, workers: int | None = None
) -> Iterator[dict]:
    """Solve levels on all cores, write their replays and the index into `out`, yield each level's entry as it is known.

    An entry has id, category, digest, file, solved, frames, steps, seconds (None where the replay was there before),
    reason (why it was not solved) and note (what was wrong with a replay that was replaced). Raises OSError.
    """
    out.mkdir(parents=True, exist_ok=True)
    index = out / PLANNER_INDEX
    before = {}
    about = {"budget": budget, "frame_skip": frame_skip, "seed": seed}
    text = json.dumps(about | {"levels": []}).encode()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        read = index.read_bytes()
        before = {entry["digest"]: entry["seconds"] for entry in json.loads(read)["levels"]}
        text = read
    write_atomically(index, text)  # a folder that cannot be written is found out now, not after the first plan
    entries, todo = {}, []
    for at, level in enumerate(levels):
        file = replay_name(level)
        entry = {"id": level.id, "category": level.category, "digest": level.digest, "file": file, "solved": True}
        entry |= {"frames": None, "steps": None, "seconds": None, "reason": "", "note": ""}
        try:
            entry["frames"] = known_frames(out / file, level, frame_skip)
        except ReplayError as error:
            entry["note"] = f"{out / file}: replaced ({str(error).removeprefix(f'{out / file}: ')})"
        if entry["frames"] is None:
            todo.append((at, level, entry))
            continue
        entry["steps"] = -(-entry["frames"] // frame_skip)
        entry["seconds"] = before.get(level.digest)
        entries[at] = entry
        yield entry

    stop = threading.Event()

    def work(at, level, entry):
        if stop.is_set():
            return at, None
        start = time.perf_counter()
        found, entry["reason"] = _plan_level(level, budget, frame_skip, seed)
        entry["seconds"] = round(time.perf_counter() - start, 3)
        entry["solved"] = found is not None
        if found:
            entry["frames"], entry["steps"] = found.frames, len(found.actions)
            write_replay(out / entry["file"], level.map_data, found.inputs, True)
        else:
            (out / entry["file"]).unlink(missing_ok=True)
        return at, entry

    def save():
        listed = [entries[at] for at in sorted(entries)]
        write_atomically(index, json.dumps(about | {"levels": listed}, indent=1).encode() + b"\n")

    if todo:
        compile_ahead()
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        running = {pool.submit(work, *each) for each in todo}
        saved_at = time.monotonic()
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for at, entry in sorted((future.result() for future in done), key=lambda pair: pair[0]):
                    entries[at] = entry
                    yield entry
                if time.monotonic() > saved_at + 5.0:
                    save()
                    saved_at = time.monotonic()
        finally:
            stop.set()
            save()


def parse_budget(text: str) -> float:
    """Seconds in "5s", "0.5s" or "2m"; raises ArgumentError on anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(s|m)", text.strip())
    seconds = float(match[1]) * (60 if match[2] == "m" else 1) if match else 0.0
    if not 0 < seconds <= LONGEST_BUDGET:
        raise ArgumentError(f"--budget {text!r}: expected seconds or minutes for a level, such as 5s, 0.5s or 2m")
    return seconds


def summarise(entries: Iterable[dict]) -> dict[str, dict]:
    """Figures by category and, last, "overall": levels, solved, mean frames and mean seconds (None over nothing)."""
    parts = {}
    for entry in entries:
        for name in (entry["category"], "overall"):
            parts.setdefault(name, []).append(entry)
    rank = {name: k for k, name in enumerate(CATEGORIES)} | {"overall": len(CATEGORIES) + 1}

    def mean(values):
        values = [value for value in values if value is not None]
        return sum(values) / len(values) if values else None

    return {
        name: {
            "levels": len(part),
            "solved": sum(entry["solved"] for entry in part),
            "frames": mean(entry["frames"] for entry in part),
            "seconds": mean(entry["seconds"] for entry in part),
        }
        for name, part in sorted(parts.items(), key=lambda item: (rank.get(item[0], len(CATEGORIES)), item[0]))
    }


def _lines(entries, summary) -> list[str]:
    width = max(map(len, summary))
    lines = [f"{'category':{width}}  levels  solved  mean frames  mean seconds"]
    for name, part in summary.items():
        frames = "-" if part["frames"] is None else f"{part['frames']:.1f}"
        seconds = "-" if part["seconds"] is None else f"{part['seconds']:.2f}"
        lines.append(f"{name:{width}}  {part['levels']:6}  {part['solved']:6}  {frames:>11}  {seconds:>12}")
    unsolved = [entry for entry in entries if not entry["solved"]]
    if unsolved:
        lines += ["", f"not solved ({len(unsolved)}):"]
        lines += [f"  {entry['id']} ({entry['category']}): {entry['reason']}" for entry in unsolved]
    return lines


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when all levels were tried, else 2 after one line on stderr (130 after an interrupt)."""

    def fail(message: str, status: int = 2):
        print("error:", " ".join(message.split()), file=sys.stderr)
        raise SystemExit(status)

    parser = argparse.ArgumentParser(
        prog="python -m npp_rl.planning.planner", description="Solve levels, write replays."
    )
    parser.add_argument("--dataset", required=True, metavar="DIR", help="folder of levels, or builtin")
    parser.add_argument("--split", choices=("train", "test", "all"), default="all", help="part of it (all unless told)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the replays and planner.json")
    parser.add_argument("--budget", default="10s", metavar="TIME", help="for a level, such as 5s, 0.5s or 2m (10s)")
    parser.add_argument("--frame-skip", type=int, default=4, metavar="N", help="frames that an action is held (4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the changes that are tried (0)")
    parser.add_argument("--workers", type=int, metavar="N", help="levels solved at once (as many as cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary to this file too")
    parser.error = fail
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # names of levels may be in any script
    if options.workers is not None and not 1 <= options.workers <= 1024:
        fail(f"--workers {options.workers}: expected 1 to 1024")
    entries = []
    try:
        budget = parse_budget(options.budget)
        _check(budget, options.frame_skip, options.seed)
        levels = load_levels(options.dataset, options.split)
        entries = _with_progress(levels, options, budget)
        summary = summarise(entries)
        print("\n".join(_lines(entries, summary)), flush=True)
        if options.json:
            report = {"dataset": options.dataset, "summary": summary, "levels": entries}
            write_atomically(options.json, json.dumps(report, indent=1).encode() + b"\n")
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on with what is left ({options.out} keeps what was solved)", 130)
    except OSError as error:
        fail(f"{error.filename or options.out}: cannot be written ({error.strerror})")
    except ValueError as error:  # LevelError too
        fail(str(error))
    return 0


def _with_progress(levels, options, budget) -> list[dict]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    entries = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("solving", total=len(levels))
        for entry in plan_levels(levels, options.out, budget, options.frame_skip, options.seed, options.workers):
            entries.append(entry)
            solved = sum(each["solved"] for each in entries)
            progress.update(bar, advance=1, description=f"solved {solved} of {len(entries)}")
            if entry["note"]:
                progress.console.print(entry["note"], markup=False, highlight=False, soft_wrap=True)
    order = {level.digest + level.id: at for at, level in enumerate(levels)}
    return sorted(entries, key=lambda entry: order[entry["digest"] + entry["id"]])


if __name__ == "__main__":
    sys.exit(main())
