"""How training grows with cores and with environments: measured on this machine, and a model for larger ones.

    python -m benchmark.scaling --out FILE.json

A run on N cores has N processes with one thread each (npp_rl/training/ranks.py). What one of them does is measured
here: a training on one core with a N-th of the environments, so that its minibatches are a N-th as large too. What the
meeting of two of them costs is the difference between a training on two cores and that. Each further process adds the
time in which rank 0 hears from it and wakes it, which is measured as well. The model of N cores is the sum:

    seconds of an iteration = those of one process + minibatches * (meeting of two + (N - 2) * hearing and waking)

It knows nothing of shared caches and memory, of processors that slow down with many busy cores, or of cores that are
not equal, so it is an upper bound for machines with more cores than this one.
"""

import os
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from benchmark.throughput import trained
from npp_rl import scripts
from npp_rl.commands import ArgumentError, command, say
from npp_rl.files import write_json
from npp_rl.levels.builtin import data_set
from npp_rl.make_levels import write_data_sets
from npp_rl.training import processes


@dataclass
class Args:
    """Measure how training grows with cores and environments, and model larger machines."""

    scripts: tuple[str, ...] = ("mlp_baseline", "full_hgt")
    """architectures, or paths of scripts"""
    cores: tuple[int, ...] = (1, 2, 4, 8, 16, 64)
    """numbers of cores to model"""
    num_envs: tuple[int, ...] = (64, 256, 512, 1024, 4096, 8192)
    """numbers of environments to measure with all cores, for the first script"""
    minutes: float = 0.4
    """length of each training"""
    out: Path | None = None
    """JSON file to write"""


def of_iteration(rows: list[dict]) -> dict[str, float]:
    """Median seconds of an iteration and of its parts, from lines of metrics.jsonl."""
    steps = rows[0]["global_step"] // 2  # `trained` leaves out the first iteration
    seconds = statistics.median(steps / row["charts/SPS"] for row in rows)
    parts = {part: statistics.median(row[f"time/{part}"] for row in rows) for part in ("env", "inference", "update")}
    return {"steps": steps, "seconds": seconds} | {part: share * seconds for part, share in parts.items()}


def hearing_and_waking(repeats: int = 2000) -> float:
    """Seconds in which rank 0 receives a byte that is there from another rank and sends one: the least of many."""
    own, other = socket.socketpair()
    least = 1.0
    with own, other:
        for _ in range(repeats):
            other.send(b"\0")
            began = time.perf_counter()
            own.recv(1)
            own.send(b"\0")
            least = min(least, time.perf_counter() - began)
            other.recv(1)
    return least


def ranks_on(cores: int, run: dict) -> int:
    """Processes of a run with these arguments on so many cores."""
    names = ("num_envs", "num_steps", "num_minibatches")
    return processes.number_of_ranks(SimpleNamespace(resume=None, threads=cores, **{name: run[name] for name in names}))


def modelled(name: str, path: Path, args: Args, suite: Path) -> list[dict]:
    """Rows of the model of one script: cores, processes, steps per second, and what was measured on this machine."""
    rows, config = trained(path, args.minutes, suite)
    both, world_size, defaults = of_iteration(rows), config["world_size"], config["args"]
    each = {}  # processes -> an iteration of one of them
    for cores in args.cores:
        count = ranks_on(cores, defaults)
        if count not in each:
            flags = ("--threads", "1", "--num-envs", str(defaults["num_envs"] // count))
            each[count] = of_iteration(trained(path, args.minutes, suite, *flags)[0])
            say(f"{name}: one of {count} processes, {each[count]['seconds']:.3f} s an iteration")
    minibatches = defaults["num_minibatches"] * defaults["update_epochs"]
    meeting = (both["seconds"] - each[2]["seconds"]) / minibatches if world_size == 2 and 2 in each else 0.0
    wake, found = hearing_and_waking(), []
    for cores in args.cores:
        count = ranks_on(cores, defaults)
        together = minibatches * (max(meeting, 0.0) + (count - 2) * wake) if count > 1 else 0.0
        steps = each[count]["steps"] * count
        real = both if count == world_size else each[1] if count == 1 else None
        found.append(
            {
                "script": name,
                "cores": cores,
                "processes": count,
                "seconds": each[count],
                "meetings": together,
                "steps_per_second": steps / (each[count]["seconds"] + together),
                "measured": steps / real["seconds"] if real and cores == count else None,
            }
        )
    return found


def environments(name: str, path: Path, args: Args, suite: Path) -> list[dict]:
    """Steps per second of one script with all cores, by the number of environments, at minibatches of equal size."""
    _, config = trained(path, args.minutes, suite)
    own, found = config["args"], []
    rows = own["num_envs"] * own["num_steps"] // own["num_minibatches"]
    for count in args.num_envs:
        minibatches = max(1, count * own["num_steps"] // rows)
        flags = ("--num-envs", str(count), "--num-minibatches", str(minibatches))
        lines, config = trained(path, args.minutes, suite, *flags)
        speeds = [line["charts/SPS"] for line in lines]
        memory = max((line.get("system/memory_mib", 0.0) for line in lines), default=0.0)
        found.append({"script": name, "num_envs": count, "processes": config["world_size"], "minibatches": minibatches})
        found[-1] |= {"steps_per_second": statistics.median(speeds), "memory_mib": memory}
        say(f"{name}: {count} environments, {found[-1]['steps_per_second']:,.0f} steps/s")
    return found


def main(args: Args) -> None:
    """Measure, print the tables and write them. Raises UserError, OSError."""
    found = scripts.find_all(args.scripts, "--scripts")
    for name, values, most in (("cores", args.cores, 1024), ("num-envs", args.num_envs, 10**6)):
        if not values or not all(1 <= value <= most for value in values):
            raise ArgumentError(f"--{name} {' '.join(map(str, values))}: expected numbers from 1 to {most:,}")
    if not 0 < args.minutes <= 600:
        raise ArgumentError(f"--minutes {args.minutes:g}: expected more than 0 and at most 600")
    if args.out and (args.out.is_dir() or not args.out.absolute().parent.is_dir()):
        raise ArgumentError(f"--out {args.out}: expected a file in a folder that is there")
    with tempfile.TemporaryDirectory() as place:
        suite = Path(place) / "suite"
        write_data_sets(suite, {"": data_set("test", count=1)}, {})
        model = [row for name, script in found.items() for row in modelled(name, script.path, args, suite)]
        name, script = next(iter(found.items()))
        sizes = environments(name, script.path, args, suite)
    for row in model:
        real = f", measured {row['measured']:,.0f}" if row["measured"] else ""
        speed = f"{row['steps_per_second']:,.0f} steps/s{real}"
        say(f"{row['script']}, {row['cores']} cores, {row['processes']} processes: {speed}")
    if args.out:
        machine = {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}
        write_json(args.out, {"machine": machine, "load": os.getloadavg()[0], "model": model, "environments": sizes})


if __name__ == "__main__":
    command(main, Args)
