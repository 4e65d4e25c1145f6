"""Planner: solves levels by search in the simulator, with held actions as an agent has, and shortens its solutions.

    python -m npp_rl.planning.planner --dataset DIR --out FOLDER --budget 5s
    python -m npp_rl.planning.planner --dataset builtin --split test --out FOLDER --json summary.json

A plan has one of the environment's six actions for each step of `frame_skip` frames, so an agent can do the same. The
last step may end early, with the win. FOLDER gets a replay of each level that was won (compact format, version 1,
PHYSICS.md 9.1) and the index planner.json, from which `builtin.par_of` reads par times. After a stop the same command
goes on: levels whose replays are there, and win, are not solved again.

search.py has the search itself. The budget limits how far it goes. Its seconds are CPU time of the one thread that
searches, so other programs do not change what is found. A search that ends before, because it finds nothing better,
gives a result that depends on the level, the frame skip and the seed only.
"""

import contextlib
import functools
import json
import math
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from npp_rl.commands import ArgumentError, UserError, command, fail
from npp_rl.environment.games import inputs_of
from npp_rl.files import plain_name, read_bytes, write_atomically, write_json
from npp_rl.levels.builtin import PLANNER_INDEX
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.maps import GROUPS, Level, encode_map
from npp_rl.levels.replays import ReplayError, read_replays, write_replay
from npp_rl.planning import search
from npp_rl.planning.search import EXHAUSTED, FOUND, FULL, MORE, STAGE, Pools, Settings
from npp_rl.simulator import DEAD, WON, Bank, build_bank, reset_game, row_bytes, simulate
from npp_rl.simulator.layout import EXIT_DOOR
from npp_rl.training.arguments import check_args

NODES, MEMORY = 8_000_000, 800 << 20  # most nodes and bytes of one search
STEPS = 4096  # most steps of a plan
CHUNK = 400  # expansions between two looks at the clock
PLAYED = 200_000  # frames of small changes between two looks at the clock
LONGEST_BUDGET = 86_400.0  # seconds
SOON = 10.0  # seconds: how many levels are won in that time is reported, whatever the budget is

# The searches, one after the other. The first solves most levels. In the second, cells are small where few states are
# known, and large where many are. Others tell more states apart, or fewer (doors), or follow the way less, or begin
# anew at each switch on the way.
# fmt: off
SEARCHES = (  # nodes, cell, speed_cell, weight, turns, hold, mines, movers, doors, stages, crowded
    (100_000, 8.0, 0.6, 1.0, 3, 6, 0.0, 0.0, 1, 0, 0),
    (200_000, 2.0, 0.15, 1.0, 3, 6, 72.0, 72.0, 1, 0, 200),
    (300_000, 8.0, 0.6, 1.0, 3, 6, 0.0, 0.0, 1, 0, 0),
    (500_000, 2.0, 0.15, 1.0, 3, 6, 72.0, 72.0, 1, 0, 200),
    (700_000, 8.0, 0.6, 1.0, 3, 6, 0.0, 0.0, 1, 0, 0),
    (100_000, 2.0, 0.15, 1.0, 3, 6, 72.0, 72.0, 0, 1, 200),
    (200_000, 2.0, 0.15, 1.0, 3, 6, 0.0, 72.0, 0, 0, 200),
    (300_000, 6.0, 0.4, 0.5, 2, 6, 2000.0, 72.0, 1, 0, 0),
    (200_000, 3.0, 0.2, 1.0, 2, 4, 2000.0, 2000.0, 1, 0, 0),
    (3_000_000, 2.0, 0.15, 1.0, 3, 6, 72.0, 72.0, 1, 0, 200),
    (3_000_000, 8.0, 0.6, 1.0, 3, 6, 0.0, 0.0, 1, 0, 0),
    (500_000, 2.0, 0.15, 1.0, 3, 6, 72.0, 72.0, 0, 1, 200),
    (500_000, 8.0, 0.6, 1.0, 3, 6, 0.0, 0.0, 0, 1, 0),
    (1_500_000, 2.0, 0.15, 1.0, 3, 6, 0.0, 72.0, 0, 0, 200),
    (3_000_000, 4.0, 0.3, 0.5, 2, 6, 2000.0, 2000.0, 1, 0, 400),
    (3_000_000, 3.0, 0.2, 1.0, 2, 4, 2000.0, 2000.0, 1, 0, 0),
    (6_000_000, 2.0, 0.15, 1.0, 3, 6, 72.0, 72.0, 1, 0, 200),
    (6_000_000, 1.0, 0.07, 1.0, 2, 4, 96.0, 96.0, 1, 0, 400),
    (6_000_000, 8.0, 0.6, 1.0, 3, 6, 0.0, 0.0, 1, 0, 0),
    (6_000_000, 1.0, 0.07, 1.0, 2, 4, 96.0, 96.0, 1, 0, 0),
)
PASSED_OVER = (0, 8, 64)  # ends of each stage that are passed over, in turns
# Searches for shorter ways: cell, speed_cell, slack (frames), expansions.
SHORTENINGS = ((6.0, 0.5, 0.0, 10_000), (8.0, 0.6, 16.0, 20_000), (4.0, 0.3, 4.0, 20_000))
SHORTENING_NODES = 400_000
# fmt: on


@dataclass(frozen=True)
class Plan:
    """Actions that win a level."""

    actions: np.ndarray  # uint8 [steps], 0..5 as in games.ACTIONS
    frames: int  # until the win
    inputs: bytes  # one byte per frame, bits as in PHYSICS.md 7
    won_after: float  # seconds of CPU time until the first plan that wins was found, before it was shortened


def plan_from(
    bank: Bank, row: np.ndarray, budget: float = 0.5, frame_skip: int = 4, seed: int = 0, pools: Pools | None = None
) -> Plan | None:
    """As `plan_level`, from a running game: the plan that wins from there, None if none is found or the game is over.

    bank: levels (`build_bank`). row: uint8 [row_bytes(bank)], a game's row for this bank, such as a row of "rows" in
    NppVectorEnv.get_state(). pools: memory of `make_pools(bank, nodes)` to use again, which saves time for many games;
    one thread at a time may use it. Raises ValueError for a row that does not fit the bank.
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
    return _solve(bank, pools, frame_skip, seed, budget)[0]


def make_pools(bank: Bank, nodes: int = NODES) -> Pools:
    """Memory of searches for `plan_from`: `nodes` nodes, or as many as fit into MEMORY."""
    nodes = min(nodes, MEMORY // 2 // search.NODE_MEMORY)
    return search.make_pools(bank, nodes, (MEMORY - nodes * search.NODE_MEMORY) // search.row_memory(bank), STEPS)


@functools.cache
def compile_ahead() -> None:
    """Compile everything, or load it from the cache, so that no budget pays for it; a minute at the first use."""
    tiles = np.ones((23, 42), np.uint8)
    tiles[11, 4:10] = 0
    corridor = [[0, 22, 50, 0, 0], [3, 38, 50, 0, 0], [4, 30, 50, 0, 0]]
    bank = build_bank([encode_map(tiles, np.array(corridor))])
    pools = search.make_pools(bank, 5000, 5000, STEPS)
    reset_game(bank, pools.state, 0, 0)
    _solve(bank, pools, 4, 0, math.inf)


def _check(budget, frame_skip, seed):
    if not 0 < budget <= LONGEST_BUDGET:
        raise ArgumentError(f"--budget {budget}: expected seconds, more than 0 and at most {LONGEST_BUDGET:.0f}")
    if not 1 <= frame_skip <= 60:
        raise ArgumentError(f"--frame-skip {frame_skip}: expected 1 to 60")
    if not 0 <= seed < 1 << 63:
        raise ArgumentError(f"--seed {seed}: expected 0 to 2**63 - 1")


def plan_level(level: Level, budget: float = 10.0, frame_skip: int = 4, seed: int = 0) -> tuple[Plan | None, str]:
    """The fastest plan for a level that is found within `budget` seconds, or None and the reason.

    The result depends on the budget only if the search was still going on when it ended (see the module's docstring).
    Raises ValueError for a map that PHYSICS.md 8.5 rejects, ArgumentError for a number out of its range.
    """
    _check(budget, frame_skip, seed)
    bank = build_bank([level.map_data])
    start = bank.level["type_start"][0]
    if start[EXIT_DOOR] == start[EXIT_DOOR + 1]:
        return None, "unsolvable: the level has no exit"
    pools = make_pools(bank)
    reset_game(bank, pools.state, 0, 0)
    compile_ahead()
    found, reason = _solve(bank, pools, frame_skip, seed, budget)
    if found:
        _, states = simulate(level.map_data, found.inputs)
        if len(states) != found.frames or states[-1] != WON:
            raise AssertionError(f"{level.id}: the plan does not win in the simulator")
    return found, reason


def _solve(bank, pools, frame_skip, seed, budget) -> tuple[Plan | None, str]:
    """Plan from the game in row 0 of the pools -> (plan or None, reason why there is none)."""
    began = time.thread_time()
    deadline = began + budget
    pools.counts[search.KNOWN] = 0
    first = int(pools.state.ninja["frame"][0])
    status, over, said = MORE, {}, ""
    for nodes, cell, speed_cell, *more in SEARCHES:
        of = cell, speed_cell, *more
        nodes = min(nodes, len(pools.parent))
        if over.get(of, 0) >= nodes:
            continue
        settings = Settings(frame_skip, cell, speed_cell, *more[:-3], 0.0, *more[-3:])
        status, found = _find(bank, pools, settings, first + STEPS * frame_skip, deadline, nodes)
        said = f"{pools.counts[search.COUNT]} states in cells of {cell:g} px and {speed_cell:g} px per frame"
        if status in (FOUND, MORE):
            break
        over[of] = len(pools.parent) if status == EXHAUSTED else nodes
    if status == MORE:
        return None, f"not won within the budget ({said})"
    if status != FOUND:
        return None, f"{'no way left' if status == EXHAUSTED else 'no memory left'} after {said}"
    won_after = time.thread_time() - began
    actions, steps = np.zeros(STEPS, np.uint8), 0
    actions[: len(found)], steps = found, len(found)
    steps = _shorten(bank, pools, actions, steps, frame_skip, seed, deadline)
    frames = int(pools.state.ninja["frame"][steps]) - first
    actions = actions[:steps].copy()
    return Plan(actions, frames, inputs_of(actions, frame_skip, frames), won_after), ""


def _find(bank, pools, settings, bound, deadline, nodes) -> tuple[int, np.ndarray | None]:
    """One search from row 0, or one for each stage -> (status of the last one, actions uint8 [steps] that win).

    A stage may end in a state that is lost. The stages are then played again to later ends.
    """
    start = pools.words[0].copy()
    for passed_over in PASSED_OVER if settings.stages else PASSED_OVER[:1]:
        parts = []
        while True:
            status, end, ends = _run(bank, pools, settings, bound, deadline, nodes), None, 0
            while status == STAGE:
                node = int(pools.counts[search.BEST])
                end, ends = (node, pools.words[pools.row[node]].copy()), ends + 1
                if ends > passed_over:
                    break
                status = _go_on(bank, pools, settings, deadline)
            if status in (FOUND, MORE) or end is None:
                break
            pools.counts[search.BEST], pools.words[0] = end
            parts.append(_path(pools))
        if status == FOUND:
            parts.append(_path(pools))
        pools.words[0] = start
        if status in (FOUND, MORE) or not parts:
            break
        status = FULL  # there may be a way from another end of an earlier stage
    return status, np.concatenate(parts) if status == FOUND else None


def _run(bank, pools, settings, bound, deadline, nodes, expansions=1 << 60) -> int:
    """One search of up to `nodes` nodes for a solution of fewer frames than `bound`."""
    search.begin(bank, pools, settings, bound, nodes)
    return _go_on(bank, pools, settings, deadline, expansions)


def _go_on(bank, pools, settings, deadline, expansions=1 << 60) -> int:
    status = MORE
    while status == MORE and pools.counts[search.EXPANDED] < expansions and time.thread_time() < deadline:
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
    """Make a run that wins faster, in place: `steps` of `actions` count -> new number of steps.

    Rows 0 to the number of steps hold the run's states. Small changes and searches for other ways take turns until
    neither finds anything.
    """
    state = (2 * seed + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    k, count = 0, len(pools.free)
    search.replay(bank, pools, actions[:steps], frame_skip)
    while True:
        idle = 0
        while idle < 2 and time.thread_time() < deadline:
            steps, kept, state = search.tweak(bank, pools, actions, steps, frame_skip, PLAYED, np.uint64(state))
            idle = 0 if kept else idle + 1
        if k == len(SHORTENINGS) or time.thread_time() >= deadline:
            return steps
        cell, speed_cell, slack, expansions = SHORTENINGS[k]
        search.calibrate(bank, pools, steps)
        settings = Settings(frame_skip, cell, speed_cell, 0.0, 0, 6, 0.0, 0.0, slack, 1, 0, 0)
        found = None
        frames = int(pools.state.ninja["frame"][steps])
        status = _run(bank, pools, settings, frames, deadline, SHORTENING_NODES, expansions)
        while status == FOUND:
            found = _path(pools)
            status = _go_on(bank, pools, settings, deadline, expansions)
        if found is not None and len(found) <= min(STEPS, count - 2):
            actions[: len(found)], steps = found, len(found)
        k = 0 if found is not None else k + 1
        search.replay(bank, pools, actions[:steps], frame_skip)


def replay_name(level: Level) -> str:
    """File name for a level's replay, from its id and, to tell levels of one id apart, its digest."""
    return f"{plain_name(level.id)[:80]}__{level.digest[:12]}.replay"


def known_frames(path: Path, level: Level, frame_skip: int) -> int | None:
    """Frames of the win in a replay of this level with actions held for `frame_skip` frames; None if there is no file.

    Raises ReplayError (one line) where the file holds anything else.
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
    """Solve levels on all cores, write their replays and the index into `out`, yield the entries as they are known.

    The entry of a level has id, category, group, digest, file, solved, frames, steps, won_after and seconds (CPU time
    until the first win and in all; None if its replay was there before and the index does not say), reason (why it is
    not solved) and note (why a replay was replaced). Raises OSError.
    """
    out.mkdir(parents=True, exist_ok=True)
    index = out / PLANNER_INDEX
    before = {}
    about = {"budget": budget, "frame_skip": frame_skip, "seed": seed}
    text = json.dumps(about | {"levels": []}).encode()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        read = read_bytes(index)
        before = {e["digest"]: (e.get("won_after"), e["seconds"]) for e in json.loads(read)["levels"]}
        text = read
    write_atomically(index, text)  # fails now, not after the first plan, if the folder cannot be written
    entries, todo = {}, []
    for at, level in enumerate(levels):
        file = replay_name(level)
        entry = {"id": level.id, "category": level.category, "group": level.group, "digest": level.digest}
        entry |= {"file": file, "solved": True, "frames": None, "steps": None, "won_after": None, "seconds": None}
        entry |= {"reason": "", "note": ""}
        try:
            entry["frames"] = known_frames(out / file, level, frame_skip)
        except ReplayError as error:
            entry["note"] = f"{out / file}: replaced ({str(error).removeprefix(f'{out / file}: ')})"
        if entry["frames"] is None:
            todo.append((at, level, entry))
            continue
        entry["steps"] = -(-entry["frames"] // frame_skip)
        entry["won_after"], entry["seconds"] = before.get(level.digest, (None, None))
        entries[at] = entry
        yield entry

    stop = threading.Event()

    def work(at, level, entry):
        if stop.is_set():
            return at, None
        start = time.thread_time()
        found, entry["reason"] = plan_level(level, budget, frame_skip, seed)
        entry["seconds"] = round(time.thread_time() - start, 3)
        entry["solved"] = found is not None
        if found:
            entry["frames"], entry["steps"] = found.frames, len(found.actions)
            entry["won_after"] = round(found.won_after, 3)
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
    """Figures by category (and group, such as "SI moving", if there are several groups) and, last, "overall".

    They are the number of levels, of those solved and of those first won within SOON seconds, the mean and median
    frames of wins, and the mean seconds in all (None over nothing).
    """
    entries = list(entries)
    several = len({entry["group"] for entry in entries}) > 1
    parts = {}
    for entry in entries:
        for name in (f"{entry['category']} {entry['group']}" if several else entry["category"], "overall"):
            parts.setdefault(name, []).append(entry)
    rank = {name: k for k, name in enumerate(CATEGORIES)} | {"overall": len(CATEGORIES) + 1}

    def over(part, key, figure):
        values = [entry[key] for entry in part if entry[key] is not None]
        return float(figure(values)) if values else None

    return {
        name: {
            "levels": len(part),
            "solved": sum(entry["solved"] for entry in part),
            "solved_soon": sum(entry["won_after"] is not None and entry["won_after"] <= SOON for entry in part),
            "frames": over(part, "frames", np.mean),
            "median_frames": over(part, "frames", np.median),
            "seconds": over(part, "seconds", np.mean),
        }
        for name, part in sorted(parts.items(), key=lambda item: (rank.get(item[0], len(CATEGORIES)), item[0]))
    }


def _lines(entries, summary) -> list[str]:
    width = max(map(len, summary))
    lines = [f"{'category':{width}}  levels  solved  in {SOON:g} s  mean frames  median  mean seconds"]
    for name, part in summary.items():
        mean, median = ("-" if part[key] is None else f"{part[key]:.1f}" for key in ("frames", "median_frames"))
        seconds = "-" if part["seconds"] is None else f"{part['seconds']:.2f}"
        counts = f"{part['levels']:6}  {part['solved']:6}  {part['solved_soon']:7}"
        lines.append(f"{name:{width}}  {counts}  {mean:>11}  {median:>6}  {seconds:>12}")
    unsolved = [entry for entry in entries if not entry["solved"]]
    if unsolved:
        lines += ["", f"not solved ({len(unsolved)}):"]
        lines += [f"  {entry['id']} ({entry['category']}): {entry['reason']}" for entry in unsolved]
    return lines


@dataclass
class Args:
    """Solve levels by search and write replays of the solutions."""

    dataset: str  # levels to solve: a folder, or builtin
    out: Path  # folder for the replays and planner.json
    split: Literal["train", "test", "all"] = "all"  # split of the data set to solve
    groups: tuple[Literal["static", "moving", "not simulated"], ...] = GROUPS  # levels to solve, by what they hold
    budget: str = "10s"  # CPU time for a level, such as 5s, 0.5s or 2m
    frame_skip: int = 4  # frames that an action is held
    seed: int = 0  # seed of the changes that are tried
    workers: int | None = None  # levels solved at once (default: as many as cores)
    json: Path | None = None  # JSON file that the summary is written to as well


def main(args: Args) -> None:
    """Solve levels and write their replays. Raises ArgumentError, LevelError, OSError."""
    check_args(args)
    if args.workers == 0:
        raise ArgumentError("--workers 0: expected 1 to 1024")
    budget = parse_budget(args.budget)
    _check(budget, args.frame_skip, args.seed)
    levels = [level for level in load_levels(args.dataset, args.split) if level.group in args.groups]
    if not levels:
        raise ArgumentError(f"--groups {' '.join(args.groups)}: {args.dataset} has no such level")
    try:
        args.out.mkdir(parents=True, exist_ok=True)  # fails now, before progress is shown
        entries = _with_progress(levels, args, budget)
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on with what is left ({args.out} keeps what was solved)", 130)
    except OSError as error:
        raise UserError(f"{error.filename or args.out}: cannot be written ({error.strerror})") from None
    summary = summarise(entries)
    print("\n".join(_lines(entries, summary)))
    if args.json:
        write_json(args.json, {"dataset": args.dataset, "summary": summary, "levels": entries})


def _with_progress(levels, args, budget) -> list[dict]:
    """Entries of `plan_levels` in the order of the levels, with a bar on stderr meanwhile."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    entries = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("solving", total=len(levels))
        for entry in plan_levels(levels, args.out, budget, args.frame_skip, args.seed, args.workers):
            entries.append(entry)
            solved = sum(each["solved"] for each in entries)
            progress.update(bar, advance=1, description=f"solved {solved} of {len(entries)}")
            if entry["note"]:
                progress.console.print(entry["note"], markup=False, highlight=False, soft_wrap=True)
    order = {level.digest + level.id: at for at, level in enumerate(levels)}
    return sorted(entries, key=lambda entry: order[entry["digest"] + entry["id"]])


if __name__ == "__main__":
    command(main, Args)
