"""How fast the simulator, the environment and the training run.

    python -m benchmark.throughput --out FILE.json
    python -m benchmark.throughput --only environment --num-envs 1024      # environment and memory of 1,024 games
    python -m benchmark.throughput --only training --scripts gcn gat --training-minutes 2
    python -m benchmark.throughput --only training --beside 1 2             # and beside busy processes

Prints a table, and writes the same as JSON. Every figure is the median over repeats, with the least and the greatest,
since on a shared machine a single time says little. What runs on one core is timed by the processor time that it took,
which other processes disturb less. The rest is timed by the clock.

- physics: frames per second of recorded games, played to their end by the compiled loop, on one core and on all;
- with `--nclone PATH`, the same on one core by the reference simulator (nclone, pure Python; a checkout at PATH, whose
  code is run), and how many times as fast ours is in the same run;
- resets: new games per second on one core;
- banks: levels per second from map bytes to the simulator's arrays;
- levels: how many of the built-in levels a second are made ready for the environment on one core: distance fields to
  the switch and the exit, reached share, distances to solid ground, the graph's static part;
- rasters: levels per second drawn at both scales, on all cores;
- environment: steps per second by set of observations, with random actions and 4 frames a step, on one core and on all;
- memory: what an environment with all observations adds to its process, once every level has been visited;
- training: each script as a process of its own, `--training-minutes` long, its start included: steps per second, the
  share of the time that goes into environment, inference, update and all else (medians over iterations but the
  first), parameters, and the peak memory of its processes. Without a GPU each is also trained with one thread;
- with `--beside 1 2`, each script beside one and two processes that do nothing but count, as a neighbour on the same
  machine does: steps per second, and the share of the steps that it makes alone.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numba
import numpy as np

from npp_rl import ARCHITECTURES, scripts
from npp_rl.commands import ArgumentError, UserError, command, say
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.goals import level_fields
from npp_rl.environment.graph import GRAPH_OBSERVATIONS, level_graphs
from npp_rl.environment.observations import level_clearances
from npp_rl.environment.pictures import GLOBAL_PIXEL, PLAYER_PIXEL, level_pictures
from npp_rl.files import write_json
from npp_rl.levels.builtin import data_set
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.fields import NODES
from npp_rl.make_levels import write_data_sets
from npp_rl.simulator import DEAD, WON, build_bank, frame, new_state, reset_game
from npp_rl.simulator.compiled import kernel, njit

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 64  # of a row's name in the table
OBSERVATIONS = (
    ("game_state",),
    ("game_state", "reachability", "local_tiles"),
    ("game_state", "reachability", "local_tiles", "arcs"),
    ("game_state", "reachability", "local_tiles", *GRAPH_OBSERVATIONS),
    ("game_state", "reachability", "local_tiles", "player_frames", "global_view"),
    ("game_state", "reachability", "local_tiles", *GRAPH_OBSERVATIONS, "player_frames", "global_view"),
)


@kernel
def _play(bank, state, i, level, inputs):
    """Game i from the start of a level to its end -> frames played."""
    reset_game(bank, state, i, level)
    n = state.ninja[i]
    for t in range(len(inputs)):
        b = inputs[t]
        frame(bank, state, i, -1 if b & 4 else (1 if b & 2 else 0), b & 1)
        if n.state in (DEAD, WON):
            return t + 1
    return len(inputs)


@njit
def play_on_one_core(bank, state, inputs, offsets, order):
    """All cases in `order`, one after the other -> frames played."""
    frames = 0
    for k in range(len(order)):
        c = order[k]
        frames += _play(bank, state, c, c, inputs[offsets[c] : offsets[c + 1]])
    return frames


@njit(parallel=True)
def play_on_all_cores(bank, state, inputs, offsets, order):
    """The same with one game per entry of `order`, spread over the cores."""
    frames = 0
    for index in numba.prange(len(order)):
        k = np.int64(index)
        c = order[k]
        frames += _play(bank, state, k, c, inputs[offsets[c] : offsets[c + 1]])
    return frames


@njit
def reset_all(bank, state, times):
    for _ in range(times):
        for i in range(len(bank.level)):
            reset_game(bank, state, i, i)


def spread(values):
    """Median, least and greatest of some figures."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values), "repeats": len(values)}


def measure(run, repeats, clock=time.process_time):
    """Rates per second of `run`, which returns how much it did. A first run, which compiles, does not count."""
    run()
    rates = []
    for _ in range(repeats):
        start = clock()
        done = run()
        rates.append(done / (clock() - start))
    return spread(rates)


def physics(path, repeats, copies=32):
    """Rows of the table about the simulator, on the cases of a golden file."""
    z = dict(np.load(path))
    offsets, inputs = z["input_offsets"], z["inputs"]
    maps = [z["maps"][a:b].tobytes() for a, b in zip(z["map_offsets"], z["map_offsets"][1:], strict=False)]
    bank = build_bank(maps)
    _, state = new_state(bank, len(maps) * copies)
    # Games of all lengths mixed, so that every core gets an equal share.
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(maps)), copies))
    name = path.stem

    def reset():
        reset_all(bank, state, 10 * copies)
        return 10 * copies * len(maps)

    def build():
        build_bank(maps)
        return len(maps)

    def draw():
        level_pictures(bank, PLAYER_PIXEL)
        level_pictures(bank, GLOBAL_PIXEL)
        return len(maps)

    one = measure(lambda: play_on_one_core(bank, state, inputs, offsets, order), repeats)
    every = measure(lambda: play_on_all_cores(bank, state, inputs, offsets, order), repeats, time.perf_counter)
    yield f"physics, {name}, one core", "frames/s", one
    yield f"physics, {name}, {numba.get_num_threads()} cores", "frames/s", every
    yield f"resets, {name}, one core", "games/s", measure(reset, repeats)
    yield f"banks, {name}", "levels/s", measure(build, repeats)
    yield f"rasters, {name}", "levels/s", measure(draw, repeats, time.perf_counter)


def nclone(path, cases, seconds=20.0):
    """Rows about the reference simulator in the folder `path` on the same cases, one after the other for `seconds`.

    Expects a module `nsim` in `path` or `path`/nclone with `Simulator`, made from a `SimConfig` where there is one,
    `load(list of map bytes)` and `tick(horizontal, jump)`. Raises UserError where it is not so.
    """
    sys.path[:0] = [str(path), str(path / "nclone")]
    try:
        module = importlib.import_module("nsim" if (path / "nsim.py").is_file() else "nclone.nsim")
        configured = next((m for m in (module, sys.modules.get("sim_config")) if hasattr(m, "SimConfig")), None)
        z = dict(np.load(cases))
        rates = []
        started = time.process_time()
        for c in range(len(z["names"])):
            board = module.Simulator(configured.SimConfig()) if configured else module.Simulator()
            board.load(z["maps"][z["map_offsets"][c] : z["map_offsets"][c + 1]].tolist())
            inputs = z["inputs"][z["input_offsets"][c] : z["input_offsets"][c + 1]].tolist()
            inputs = inputs[: int(np.diff(z["trajectory_offsets"])[c])]  # the run ends there
            begun = time.process_time()
            for b in inputs:
                board.tick(-1 if b & 4 else (1 if b & 2 else 0), b & 1)
            rates.append(len(inputs) / (time.process_time() - begun))
            if time.process_time() - started > seconds:
                break
    except Exception as error:  # another version of it may do anything
        raise UserError(f"--nclone {path}: not usable ({type(error).__name__}: {error})") from error
    finally:
        del sys.path[:2]
    return f"nclone, {cases.stem}, one core", "frames/s", spread(rates)


def visited(observations, num_envs):
    """An environment that has begun every level once and so keeps its fields, as in a training after a minute."""
    envs = NppVectorEnv(num_envs=num_envs, observations=observations, seed=0, copy=False)
    envs.reset(seed=0)
    for first in range(0, len(envs.levels), num_envs):
        envs.reset(options={"levels": np.arange(first, first + num_envs) % len(envs.levels)})
    return envs


def names(observations):
    return ", ".join(dict.fromkeys("graph" if name.startswith("graph_") else name for name in observations))


def levels(repeats):
    """Row of the table about what the environment computes when it loads a level."""
    bank = build_bank([level.map_data for level in load_levels("builtin", "train")])
    clearance = np.zeros((len(bank.level), NODES), np.uint8)

    def run():
        level_fields(bank, 1)
        level_clearances(bank, clearance)
        level_graphs(bank)
        return len(bank.level)

    return "levels made ready, one core", "levels/s", measure(run, repeats)


def environment(observations, num_envs, repeats, steps=200):
    """Rows of the table about one set of observations, on one core and on all."""
    envs = visited(observations, num_envs)
    actions = np.random.default_rng(0).integers(0, 6, (steps, num_envs))

    def run():
        for a in actions:
            envs.step(a)
        return steps * num_envs

    every = numba.get_num_threads()
    for cores in sorted({1, every}):
        numba.set_num_threads(cores)
        place = "one core" if cores == 1 else f"{cores} cores"
        yield f"environment, {names(observations)}, {place}", "steps/s", measure(run, repeats, time.perf_counter)
    numba.set_num_threads(every)
    envs.close()


def resident():
    """Memory of this process, MiB; 0 where /proc does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def growth(observations, num_envs):
    """MiB that an environment adds to a process that has already loaded and run the compiled code for one game."""
    visited(observations, 1).close()
    before = resident()
    envs = visited(observations, num_envs)
    for actions in np.random.default_rng(0).integers(0, 6, (200, num_envs)):
        envs.step(actions)
    return resident() - before


def memory(observations, num_envs):
    """Row of the table about the memory of one environment, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        mebibytes = pool.apply(growth, (observations, num_envs))
    return f"memory, {num_envs:,} environments, {names(observations)}", "MiB", spread([mebibytes])


def trained(path, minutes, suite, *flags):
    """Run a script -> (its training rows of metrics.jsonl without the first, its configuration)."""
    with tempfile.TemporaryDirectory() as place:
        run_dir = Path(place) / "run"
        words = [sys.executable, str(path), "--run-dir", str(run_dir), "--max-minutes", str(minutes), *flags]
        words += ["--test-dataset", str(suite), "--evaluations", "0", "--save-freq", "0", "--renew-freq", "0"]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode:
            lines = done.stdout.strip().splitlines() or ["no output"]
            raise UserError(f"{path.name} ended with status {done.returncode}: {lines[-1]}")
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        config = json.loads((run_dir / "config.json").read_text())
    rows = [line for line in lines if line["kind"] == "train"][1:]
    if not rows:
        raise UserError(f"{path.name}: made less than two iterations in {minutes} minutes (--training-minutes)")
    return rows, config


@contextlib.contextmanager
def busy(count):
    """Context in which `count` other processes keep a core busy each, as far as they get one."""
    words = [sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(words, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def training(words, minutes, beside=()):
    """Rows of the table about training at the size that the machine's scripts choose."""
    with tempfile.TemporaryDirectory() as place:
        suite = Path(place) / "suite"
        write_data_sets(suite, {"": data_set("test", count=1)}, {})
        for name, script in scripts.find_all(words, "--scripts").items():
            rows, config = trained(script.path, minutes, suite)
            one = spread([row["charts/SPS"] for row in rows])
            yield f"training, {name}", "steps/s", one
            for part in ("env", "inference", "update", "rest"):
                shares = spread([100 * row[f"time/{part}"] for row in rows])
                yield f"training, {name}, time in {part}", "%", shares
            yield f"training, {name}, parameters", "", spread([config["parameters"]])
            if memory := [row["system/memory_mib"] for row in rows if "system/memory_mib" in row]:
                yield f"training, {name}, peak memory", "MiB", spread([max(memory)])
            if config["world_size"] > 1:
                threads = config["world_size"] * config["threads"]
                alone = spread([row["charts/SPS"] for row in trained(script.path, minutes, suite, "--threads", "1")[0]])
                yield f"training, {name}, one thread", "steps/s", alone
                ratio = spread([one["median"] / alone["median"]])
                yield f"training, {name}, {threads} threads / one", "times", ratio
            for count in beside:
                with busy(count):
                    slow = spread([row["charts/SPS"] for row in trained(script.path, minutes, suite)[0]])
                what = f"training, {name}, beside {count} busy process{'es' * (count > 1)}"
                yield what, "steps/s", slow
                yield f"{what} / alone", "%", spread([100 * slow["median"] / one["median"]])


def default_cases() -> tuple[Path, ...]:
    """Golden files that are there: the shared ones, else the one that the project carries."""
    shared = Path(os.environ.get("NPP_SHARED") or ROOT.parent / "shared")
    files = [shared / "golden" / f"{name}.npz" for name in ("human", "attract", "fuzz")]
    return tuple(file for file in files if file.is_file()) or (ROOT / "tests" / "golden" / "fuzz.npz",)


@dataclass
class Args:
    """Measure how fast the simulator, the environment and the training run."""

    cases: tuple[Path, ...] = ()
    """golden files to play (default: those that are there)"""
    num_envs: int = 256
    """games of an environment"""
    repeats: int = 7
    """how often each figure is taken"""
    nclone: Path | None = None
    """checkout of the reference simulator to measure beside ours"""
    only: Literal["physics", "environment", "training"] | None = None
    """one part of the table"""
    scripts: tuple[str, ...] = ARCHITECTURES
    """architectures whose training is measured, or paths of scripts"""
    training_minutes: float = 1.0
    """length of each training"""
    beside: tuple[int, ...] = ()
    """numbers of busy processes beside which each script is trained too"""
    out: Path | None = None
    """JSON file to write"""


def check(args: Args) -> None:
    """Raise ArgumentError for what cannot be measured. `cases` become the default ones where none are given."""
    scripts.find_all(args.scripts, "--scripts")
    args.cases = args.cases or default_cases()
    for path in args.cases:
        if not path.is_file():
            raise ArgumentError(f"--cases {path}: no such file")
        try:
            with np.load(path) as z:
                missing = {"maps", "map_offsets", "inputs", "input_offsets", "trajectory_offsets", "names"} - set(z)
        except (OSError, ValueError, zipfile.BadZipFile, AttributeError):
            missing = {"its arrays"}
        if missing:
            raise ArgumentError(f"--cases {path}: expected a golden file, {', '.join(sorted(missing))} not in it")
    if args.nclone and not any((args.nclone / name).is_file() for name in ("nsim.py", "nclone/nsim.py")):
        expected = "expected a checkout of nclone, with nsim.py in it or in its folder nclone"
        raise ArgumentError(f"--nclone {args.nclone}: {expected}")
    for name, most in (("repeats", 10**6), ("num_envs", 10**6)):
        if not 1 <= getattr(args, name) <= most:
            flag = f"--{name.replace('_', '-')} {getattr(args, name)}"
            raise ArgumentError(f"{flag}: expected 1 to {most:,}")
    if not all(1 <= count <= 1024 for count in args.beside):
        raise ArgumentError(f"--beside {' '.join(map(str, args.beside))}: expected numbers from 1 to 1,024")
    if not 0 < args.training_minutes <= 600:
        raise ArgumentError(f"--training-minutes {args.training_minutes:g}: expected more than 0 and at most 600")
    if args.out and (args.out.is_dir() or not args.out.absolute().parent.is_dir()):
        raise ArgumentError(f"--out {args.out}: expected a file in a folder that is there")


def measured(args: Args):
    """All rows of the table, (what, unit, rates), as they are measured. Raises UserError."""
    first = None
    if args.only in (None, "physics"):
        for row in (row for path in args.cases for row in physics(path, args.repeats)):
            first = first or row
            yield row
    if args.nclone and first:
        theirs = nclone(args.nclone, args.cases[0])
        ratio = first[2]["median"] / theirs[2]["median"]
        yield from (theirs, ("ours / nclone", "times", dict.fromkeys(("median", "least", "greatest"), ratio)))
    if args.only in (None, "environment"):
        yield levels(args.repeats)
        for keys in OBSERVATIONS:
            yield from environment(keys, args.num_envs, args.repeats)
        yield memory(OBSERVATIONS[-1], args.num_envs)
    if args.only in (None, "training"):
        yield from training(args.scripts, args.training_minutes, args.beside)


def main(args: Args) -> None:
    """Measure, print the table and write it, row by row: an error later on loses none. Raises UserError, OSError."""
    check(args)
    result = {
        "machine": {"cores": numba.get_num_threads(), "processor": platform.processor() or platform.machine()},
        "load": os.getloadavg()[0],
        "num_envs": args.num_envs,
        "rows": [],
    }
    for what, unit, rates in measured(args):
        digits = 2 if unit == "times" else 0
        median, least, greatest = (f"{rates[key]:,.{digits}f}" for key in ("median", "least", "greatest"))
        say(f"{what:{WIDTH}}  {median:>14} {unit:9} ({least} to {greatest})")
        result["rows"].append({"what": what, "unit": unit, **rates})
        if args.out:
            write_json(args.out, result)


if __name__ == "__main__":
    command(main, Args)
