"""The machine on which the runner works: which shares of it runs get, and whether there is room for them."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmark.runner.arguments import Args
from benchmark.runner.runs import Run, Slot
from npp_rl.commands import ArgumentError
from npp_rl.training.system import describe_system

DISK_GB = 0.3  # what the checkpoints and logs of a run may take
# Resident memory of a run of small size with its usual number of environments, rounded up. 1 GB of it is always there,
# the rest grows with the environments.
MEMORY_GB, ENVIRONMENTS = {"mlp_baseline": 2.0}, {"mlp_baseline": 512}
MEMORY_GB_OTHERS, ENVIRONMENTS_OTHERS = 1.8, 64
GPU_MEMORY_GB = 6.0  # that a run of full size takes at least


def find_gpus() -> list[tuple[str, float]]:
    """GPUs that CUDA_VISIBLE_DEVICES admits, as (name for that variable, free GiB); none without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        rows = [[word.strip() for word in line.split(",")] for line in lines if line.strip()]
        gpus = [(index, uuid, float(free) / 1024) for index, uuid, free in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [(index, free) for index, _, free in gpus]
    named = [word.strip() for word in visible.split(",") if word.strip()]
    return [(name, free) for name in named for index, uuid, free in gpus if name == index or uuid.startswith(name)]


def slots(args: Args) -> list[Slot]:
    """Shares of this machine: one per GPU or group of them, or `--jobs` shares of the cores. Raises ArgumentError."""
    found = [] if args.num_gpus == 0 else find_gpus()
    names = [name for name, _ in found][: args.num_gpus]
    if args.num_gpus and len(names) < args.num_gpus:
        raise ArgumentError(f"--num-gpus {args.num_gpus}: there are {len(names)}")
    if args.gpus_per_run > 1 and len(names) < args.gpus_per_run:
        raise ArgumentError(f"--gpus-per-run {args.gpus_per_run}: there are {len(names)} GPUs to use")
    if names and args.jobs > 1:
        raise ArgumentError("--jobs: is for machines without GPUs (or --num-gpus 0)")
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    count = len(names) // args.gpus_per_run if names else args.jobs
    share = max(1, len(cpus) // count)
    made = []
    for k in range(count):
        own = tuple(cpus[k * share : (k + 1) * share]) if 1 < count <= len(cpus) else ()
        gpus = tuple(names[k * args.gpus_per_run : (k + 1) * args.gpus_per_run]) if names else None
        threads = args.threads or max(1, share // args.gpus_per_run)
        where = f"GPU {','.join(gpus)}" if gpus else f"processors {','.join(map(str, own or cpus))}"
        made.append(Slot(where, threads, gpus if gpus or args.num_gpus != 0 else (), own))
    return made


def check_room(args: Args, folder: Path, runs: Sequence[Run], at_once: int, gpus: bool) -> list[str]:
    """Raise ArgumentError where disk or memory are too small for the runs left; with --no-checks return the reasons."""
    left = [run for run in runs if run.status != "done"]
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free, needed = shutil.disk_usage(place).free / 1e9, DISK_GB * len(left)
    troubles = []
    if free < needed:
        troubles.append(f"{place}: {free:.1f} GB are free, {len(left)} runs may take {needed:.1f} GB")
    sizes = []
    for run in left:
        usual = ENVIRONMENTS.get(run.architecture, ENVIRONMENTS_OTHERS)
        size = MEMORY_GB.get(run.architecture, MEMORY_GB_OTHERS)
        sizes.append(1.0 + (size - 1.0) * (args.num_envs or usual) / usual)
    needed = sum(sorted(sizes, reverse=True)[:at_once])
    available = available_memory()
    if not gpus and args.launcher == "local" and available is not None and available < needed:
        troubles.append(f"{available:.1f} GB of memory are free, {at_once} runs at a time may take {needed:.1f} GB")
    if gpus and args.launcher == "local":
        import torch

        if not torch.cuda.is_available():
            troubles.append("this torch cannot use the GPUs (--num-gpus 0 trains without)")
        busy = [f"{name}: {free:.1f} GB free" for name, free in find_gpus()[: args.num_gpus] if free < GPU_MEMORY_GB]
        if busy:
            troubles.append(f"GPU {', '.join(busy)}, a run may take {GPU_MEMORY_GB} GB")
    if troubles and args.checks:
        raise ArgumentError(f"{'; '.join(troubles)} (--no-checks starts all the same)")
    return troubles


def available_memory() -> float | None:
    """GB of free memory; None where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        return int(re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024 / 1e9


def describe() -> dict:
    """What an experiment's figures depend on beside its arguments."""
    about = describe_system()
    gpus = []
    if shutil.which("nvidia-smi"):
        words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    about = {name: about[name] for name in ("git_revision", "versions", "machine", "processor")}
    return about | {"cpus": os.cpu_count(), "gpus": gpus}
