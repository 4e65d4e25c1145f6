"""Train architectures, with and without pretraining, over seeds and GPUs, cores or a cluster, and compare them.

    python -m benchmark.train_and_compare --experiment-name first --architectures full_hgt gat --seeds 1 2 3
    python -m benchmark.train_and_compare --experiment-name first ... --dry-run       # only says what it would do
    python -m benchmark.train_and_compare --resume-from experiments/first             # goes on after whatever happened
    python -m benchmark.train_and_compare --experiment-name first ... -- --learning-rate 3e-4   # for the scripts

benchmark/README.md tells what it does and which files it leaves. Exit status: 0 when all runs are done, 1 when one
failed or was stopped, 2 when nothing was started because of the arguments, 130 after Ctrl-C, 143 after SIGTERM.
"""

import contextlib
import dataclasses
import fcntl
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmark.runner import launch
from benchmark.runner.board import Board
from benchmark.runner.launch import Run, Settings, Slot
from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, CheckpointError, StopSignals, fail
from npp_rl.files import write_json
from npp_rl.training import s3
from npp_rl.training.arguments import BOUNDS, args_from, check_args, parse_args

NO_RESULTS = {"overall": None, "by_category": None}
CONDITIONS = ("no_pretrain", "with_pretrain")
DISK_GB = 0.3  # that a run may take: checkpoints and logs
# Resident memory of a run of small size with its usual number of environments, rounded up; 1 GB is there without any.
MEMORY_GB, ENVIRONMENTS = {"mlp_baseline": 2.0}, {"mlp_baseline": 512}
MEMORY_GB_OTHERS, ENVIRONMENTS_OTHERS = 1.8, 64
GPU_MEMORY_GB = 6.0  # of a run of full size, at least
EVALUATION = ("-m", "npp_rl.evaluation")  # what Python is called with
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass
class Args:
    experiment_name: str | None = None  # name of the experiment's folder
    architectures: tuple[str, ...] = ARCHITECTURES  # which scripts, npp_rl/ppo_<architecture>.py
    seeds: tuple[int, ...] = (1, 2, 3)  # a run of each architecture and condition for each
    test_pretraining: Flag = False  # train both without and with pretraining (as with replays, unless told otherwise)
    no_pretraining: Flag = False  # train without pretraining only
    replay_data_dir: tuple[str, ...] = ()  # folders of replays for the pretraining
    bc_epochs: int | None = None  # passes of the pretraining over the replays (default: its script's)
    bc_max_minutes: float | None = None  # longest pretraining, minutes
    require_pretraining: Flag = False  # a run whose pretraining is impossible fails, instead of training without it
    train_dataset: str = "builtin"  # `builtin`, a folder of N++ map files, or a folder of category folders
    test_dataset: str = "builtin"  # the same; one data set for both is divided
    total_timesteps: int | None = None  # environment steps of each run (default: the scripts')
    max_minutes: float | None = None  # minutes of each run, its pretraining included, instead of total_timesteps
    num_envs: int | None = None  # environments of each run (default: the scripts')
    mixed_precision: Flag = False  # bfloat16 in forward passes
    eval_freq: int | None = None  # environment steps between evaluations on the validation levels
    save_freq: int | None = None  # environment steps between checkpoints
    output_dir: str = "experiments"  # where the experiment's folder lies
    resume_from: str | None = None  # go on with the experiment in this folder, with its arguments
    evaluate_fully: Flag = False  # at the end also play training levels (the generalisation gap) and measure costs
    debug: Flag = False  # tiny runs on twelve easy levels, to try the whole chain in a minute or two
    dry_run: Flag = False  # say what would run and where, write nothing

    s3_bucket: str | None = None  # keep the runs and the report in this S3 bucket
    s3_prefix: str = ""  # first part of the keys, before the experiment's name
    s3_endpoint_url: str | None = None  # server other than AWS, such as http://127.0.0.1:9000
    s3_sync_freq: int | None = None  # environment steps between uploads
    s3_dry_run: Flag = False  # say what would be uploaded, send nothing

    num_gpus: int | None = None  # GPUs to use (default: all that are there; 0: none)
    gpus_per_run: int = 1  # GPUs of each run, through torchrun
    jobs: int = 1  # runs at a time where there is no GPU; they divide the cores
    threads: int = 0  # CPU threads of each process (0: its share of the cores)
    retries: int = 2  # new starts of a run that died; it resumes
    report: bool = True  # write the report at the end
    checks: bool = True  # whether too little disk or memory is a reason not to start

    launcher: Literal["local", "slurm", "local-submitit"] = "local"  # this machine, a cluster, or its rehearsal here
    nodes_per_run: int = 1  # machines of each run, through torchrun (Slurm)
    slurm_partition: str | None = None  # partition
    slurm_account: str | None = None  # account
    slurm_minutes: int = 1440  # time limit of a job; a run that takes longer is requeued and resumes
    slurm_cpus: int = 8  # processors of a job on each machine
    slurm_mem_gb: float = 32  # memory of a job on each machine
    slurm_parallel: int = 256  # jobs of the array at a time
    slurm_requeues: int = 100  # time limits that a job may reach
    slurm_signal_seconds: int = 120  # warning before the time limit, long enough to save
    slurm_args: tuple[str, ...] = ()  # further sbatch options, as NAME=VALUE


# Arguments that may change when an experiment goes on: who runs it where, not what is compared.
FREE_ARGUMENTS = ("output_dir", "resume_from", "dry_run", "num_gpus", "jobs", "retries", "report", "checks")
FREE_ARGUMENTS += ("launcher", "evaluate_fully")
FREE_ARGUMENTS += tuple(field.name for field in dataclasses.fields(Args) if field.name.startswith("slurm_"))

# Flags of the scripts that are given through the runner's own.
OWN_FLAGS = ("run_dir", "resume", "seed", "threads", "pretrained_checkpoint", "train_dataset", "test_dataset")
OWN_FLAGS += ("total_timesteps", "max_minutes", "num_envs", "mixed_precision", "eval_freq", "save_freq", "s3_bucket")
OWN_FLAGS += ("s3_prefix", "s3_endpoint_url", "s3_sync_freq", "s3_dry_run")

# Of --debug, where nothing else is said.
DEBUG = {"total_timesteps": 2048, "num_envs": 16, "eval_freq": 1024, "save_freq": 512}
DEBUG_FLAGS = ("--num-steps", "32", "--num-minibatches", "4", "--fresh-levels", "0", "--validation-fraction", "0.1")


def parse(argv: Sequence[str]) -> tuple[Args, list[str], Path]:
    """Arguments, flags for the scripts and the experiment's folder; with --resume-from the experiment's own.

    Raises ArgumentError and CheckpointError.
    """
    argv, extra = list(argv), []
    if "--" in argv:
        at = argv.index("--")
        argv, extra = argv[:at], argv[at + 1 :]
    args = parse_args(Args, argv)
    if not args.resume_from:
        return args, extra, Path(args.output_dir, args.experiment_name or "").resolve()
    folder = Path(args.resume_from).resolve()
    saved, saved_extra = read_config(folder)
    asked = parse_args(Args, argv, default=saved)
    asked.resume_from = args.resume_from
    for name in ("train_dataset", "test_dataset"):
        if getattr(asked, name) != "builtin":
            setattr(asked, name, str(Path(getattr(asked, name)).resolve()))
    asked.replay_data_dir = tuple(str(Path(place).resolve()) for place in asked.replay_data_dir)
    differences = describe_differences(saved, asked)
    if extra and extra != saved_extra:
        differences.append(f"after -- was {shlex.join(saved_extra)!r}, now {shlex.join(extra)!r}")
    if differences:
        raise CheckpointError(f"--resume-from {folder}: the experiment is another: {'; '.join(differences)}")
    return asked, saved_extra, folder


def read_config(folder: Path) -> tuple[Args, list[str]]:
    """Arguments and the scripts' flags of an experiment's config.json. Raises CheckpointError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        extra = [str(word) for word in config["script_args"]]
        return args_from(Args, dict(config["args"]), str(path)), extra
    except OSError as error:
        raise CheckpointError(f"{folder}: no experiment ({path}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not an experiment's configuration") from error


def describe_differences(old: Args, new: Args) -> list[str]:
    names = [field.name for field in dataclasses.fields(Args) if field.name not in FREE_ARGUMENTS]
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return [f"{name} was {before!r}, now {now!r}" for name, before, now in pairs if before != now]


def check(args: Args, extra: Sequence[str]) -> None:
    """Raise ArgumentError for what cannot be meant. Data sets become absolute paths, --debug fills its values in."""
    if not args.experiment_name or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", args.experiment_name):
        name = args.experiment_name or ""
        raise ArgumentError(f"--experiment-name {name!r}: expected letters, digits, '.', '_' and '-'")
    check_args(args)
    for flag, values in (("architectures", args.architectures), ("seeds", args.seeds)):
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice or not values:
            raise ArgumentError(f"--{flag}: {', '.join(twice) + ' is given twice' if twice else 'nothing is given'}")
    for name in args.architectures:
        if name not in ARCHITECTURES:
            raise ArgumentError(f"--architectures {name}: unknown (expected some of {', '.join(ARCHITECTURES)})")
    low, high = BOUNDS["seed"]
    for seed in args.seeds:
        if not low <= seed <= high:
            raise ArgumentError(f"--seeds {seed}: expected {low} to {high}")
    for name, least in (
        ("bc_epochs", 1),
        ("num_gpus", 0),
        ("gpus_per_run", 1),
        ("jobs", 1),
        ("retries", 0),
        ("nodes_per_run", 1),
        ("slurm_minutes", 1),
        ("slurm_cpus", 1),
        ("slurm_parallel", 1),
        ("slurm_requeues", 0),
        ("slurm_signal_seconds", 1),
    ):
        if (value := getattr(args, name)) is not None and value < least:
            raise ArgumentError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    for wrong, message in (
        (
            args.test_pretraining and args.no_pretraining,
            "--test-pretraining and --no-pretraining contradict each other",
        ),
        (args.require_pretraining and args.no_pretraining, "--require-pretraining and --no-pretraining: one of them"),
        (
            (args.test_pretraining or args.require_pretraining) and not args.replay_data_dir,
            f"--{'test' if args.test_pretraining else 'require'}-pretraining: --replay-data-dir is missing (expected "
            "folders of replays)",
        ),
        (
            args.total_timesteps is not None and args.max_minutes is not None,
            "--total-timesteps and --max-minutes: runs end by one of them",
        ),
        (args.nodes_per_run > 1 and args.launcher != "slurm", "--nodes-per-run: expected --launcher slurm"),
        (args.jobs > 1 and args.launcher != "local", "--jobs: is for --launcher local (see --slurm-parallel)"),
        (
            not args.s3_bucket and (args.s3_prefix or args.s3_dry_run),
            "--s3-prefix, --s3-dry-run: --s3-bucket is missing",
        ),
    ):
        if wrong:
            raise ArgumentError(message)
    for option in args.slurm_args:
        if not re.fullmatch(r"[a-z][a-z-]*=.+", option):
            raise ArgumentError(f"--slurm-args {option}: expected NAME=VALUE, such as qos=high")
    for word in extra:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and (name in OWN_FLAGS or name.removeprefix("no_") in OWN_FLAGS):
            raise ArgumentError(f"-- {word}: the runner sets this flag (see its own flags)")
    for name in ("train_dataset", "test_dataset"):
        if getattr(args, name) != "builtin":
            setattr(args, name, existing(f"--{name.replace('_', '-')}", getattr(args, name)))
    args.replay_data_dir = tuple(existing("--replay-data-dir", folder) for folder in args.replay_data_dir)
    if args.debug:
        for name, value in DEBUG.items():
            if getattr(args, name) is None and not (name == "total_timesteps" and args.max_minutes is not None):
                setattr(args, name, value)
        args.bc_epochs = args.bc_epochs or 1


def existing(flag: str, path: str) -> str:
    if not Path(path).exists():
        raise ArgumentError(f"{flag} {path}: no such file or folder")
    return str(Path(path).resolve())


def conditions(args: Args) -> tuple[str, ...]:
    return CONDITIONS if args.replay_data_dir and not args.no_pretraining else CONDITIONS[:1]


def shared_with_pretraining(args: Args, extra: Sequence[str]) -> list[str]:
    """Flags after `--` that the pretraining needs too: of the data that it may see, and the size that weights have.

    Raises ArgumentError for a width of its own, which bc_pretrain.py cannot have.
    """
    if not extra or CONDITIONS[1] not in conditions(args):
        return []
    words = [word for flag in extra for word in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    for name in args.architectures:
        script = importlib.import_module(f"npp_rl.ppo_{name}")
        for width in script.SIZES["small"]:
            if f"--{width.replace('_', '-')}" in words:
                raise ArgumentError(
                    f"-- --{width.replace('_', '-')}: pretrained weights have the sizes of a --size only"
                )
    flags = []
    for flag in ("--size", "--holdout-fraction"):
        if flag in words[:-1]:
            flags += [flag, words[words.index(flag) + 1]]
    return flags


def plan(args: Args, extra: Sequence[str], folder: Path, gpus: bool) -> tuple[Settings, list[Run]]:
    """What all runs have in common, and the runs: one seed of everything first, so that there is early a comparison."""
    pairs = [("train_dataset", args.train_dataset), ("test_dataset", args.test_dataset)]
    if args.debug:
        pairs = [(name, str(folder / "levels") if value == "builtin" else value) for name, value in pairs]
    names = ("total_timesteps", "max_minutes", "num_envs", "eval_freq", "save_freq")
    names += ("s3_bucket", "s3_endpoint_url", "s3_sync_freq") if args.s3_bucket else ()
    data = [word for name, value in pairs for word in (f"--{name.replace('_', '-')}", value)]
    flags = list(data)
    for name in names:
        if (value := getattr(args, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    flags += ["--mixed-precision"] if args.mixed_precision else []
    flags += ["--s3-dry-run"] if args.s3_bucket and args.s3_dry_run else []
    flags += DEBUG_FLAGS if args.debug else ()
    bc_flags = ["--replay-data-dir", *args.replay_data_dir, *data]
    bc_flags += ["--epochs", str(args.bc_epochs)] if args.bc_epochs is not None else []
    bc_flags += ["--mixed-precision"] if args.mixed_precision else []
    bc_flags += shared_with_pretraining(args, extra)
    bc_flags += ["--max-minutes", str(args.bc_max_minutes)] if args.bc_max_minutes is not None else []
    settings = Settings(
        folder=str(folder),
        flags=[*flags, *extra],
        bc_flags=bc_flags,
        s3_prefix="/".join(filter(None, (args.s3_prefix.strip("/"), folder.name))) if args.s3_bucket else None,
        processes=args.gpus_per_run if gpus else 1,
        nodes=args.nodes_per_run,
        retries=args.retries,
        require_pretraining=args.require_pretraining,
        scripts=str(launch.SCRIPTS),
    )
    runs = [
        Run(a, condition, seed) for seed in args.seeds for condition in conditions(args) for a in args.architectures
    ]
    return settings, runs


def find_gpus() -> list[tuple[str, float]]:
    """GPUs as (CUDA_VISIBLE_DEVICES' name, free GiB) that CUDA_VISIBLE_DEVICES admits; none without nvidia-smi."""
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
    """Raise ArgumentError where disk or memory are too small for what is left; return what is worth a warning."""
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
    """GB of memory that can be had; None where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        return int(re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024 / 1e9


def restore(folder: Path, settings: Settings, runs: Sequence[Run]) -> None:
    """What earlier runners noted in all_results.json, where it can be read; what is on disk counts more."""
    noted = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        for entry in json.loads((folder / "all_results.json").read_text())["runs"]:
            noted[entry["architecture"], entry["condition"], entry["seed"]] = entry
    for run in runs:
        entry = noted.get((run.architecture, run.condition, run.seed), {})
        for name in ("attempts", "exit_status", "minutes", "pretraining", "job"):
            if isinstance(value := entry.get(name), (int, float, str)):
                setattr(run, name, value)
        run_dir = folder / run.path
        if run.pretraining.startswith("none") and not (run_dir / "config.json").is_file():
            run.pretraining = ""  # what made it impossible may have been mended
        if run.condition == "with_pretrain" and not run.pretraining and launch.finished(run_dir / "bc"):
            run.pretraining = launch.BC_CHECKPOINT
        run.minutes = launch.progress(settings, run).minutes or run.minutes
        run.status = "done" if launch.finished(run_dir) else "queued"


def write_all_results(args: Args, extra: Sequence[str], folder: Path, settings: Settings, runs: Sequence[Run], say):
    """Write all_results.json and s3_manifest.json anew. A full disk is said, and no reason to end."""
    entries = []
    for run in runs:
        found = launch.finished_results(folder / run.path) if run.status == "done" else None
        entry = {name: getattr(run, name) for name in ("architecture", "condition", "seed", "status", "attempts")}
        entry |= {"exit_status": run.exit_status, "minutes": round(run.minutes, 3), "reason": run.reason}
        pretraining = run.pretraining or ("" if run.condition == "with_pretrain" else "none")
        entries.append(
            {**entry, "pretraining": pretraining, "job": run.job, "run_dir": run.path, **(found or NO_RESULTS)}
        )
    config = {"args": dataclasses.asdict(args), "script_args": list(extra)}
    try:
        write_json(folder / "all_results.json", {"experiment": folder.name, "config": config, "runs": entries})
        if args.s3_bucket and not args.s3_dry_run:
            merge_manifests(args, folder, settings, runs)
    except OSError as error:
        say(f"warning: {error.filename}: {error.strerror}; it is written again after the next run")


def merge_manifests(args: Args, folder: Path, settings: Settings, runs: Sequence[Run]) -> None:
    """Write the experiment's s3_manifest.json: what its runs' own say, and what it says of other files itself."""
    url, files = f"s3://{args.s3_bucket}/{settings.s3_prefix}", {}
    for place in ("", *(run.path for run in runs)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            manifest = json.loads((folder / place / s3.MANIFEST).read_text())
            if manifest["url"] == "/".join(filter(None, (url, place))):
                files |= {f"{place}/{name}" if place else name: entry for name, entry in manifest["files"].items()}
    s3.write_manifest(folder, url, args.s3_endpoint_url, files)


def make_levels(folder: Path) -> None:
    """The levels of --debug. Raises CheckpointError."""
    words = [sys.executable, "-m", "npp_rl.make_levels", "--out", str(folder / "levels")]
    words += ["--categories", "simplest", "--split", "train", "--count", "12"]
    done = subprocess.run(words, env=launch.environment(Slot("", 1)), capture_output=True, text=True)
    if done.returncode:
        raise CheckpointError(f"{folder / 'levels'}: {(done.stderr.strip().splitlines() or ['no levels'])[-1]}")


def show_plan(settings: Settings, runs: Sequence[Run], places: Sequence[Slot], where: str) -> None:
    """Print all that would be started, and where."""
    print(f"experiment {settings.folder}: {len(runs)} runs, {where}")
    for place in places:
        print(f"  {place.name}: {place.threads} threads a process")
    for run in runs:
        print(f"\n{run.path}: {run.status}")
        for stage, words in launch.commands(settings, run, places[0]).items() if run.status != "done" else ():
            print(f"  {'pretraining' if stage == 'bc' else 'training'}: {shlex.join(words)}")
    print("\nnothing was started (--dry-run)")


def evaluate_fully(folder: Path, runs: Sequence[Run], gpus: bool, stop, say) -> bool:
    """Add gap and cost to the results of runs that are done and lack them; False where that fails."""
    fine = True
    for run in runs:
        run_dir = folder / run.path
        if (
            run.status != "done"
            or {"generalisation", "cost"} <= json.loads((run_dir / "eval_results.json").read_text()).keys()
        ):
            continue
        say(f"{run.path}: training levels are played and its cost is measured")
        words = [sys.executable, *EVALUATION, "--checkpoint", str(run_dir / "checkpoints/best.pt")]
        words += ["--train-levels", "--cost", "--device", "cuda" if gpus else "cpu"]
        with tempfile.TemporaryFile("w+") as console:
            env = launch.environment(Slot("", os.cpu_count() or 1))
            process = subprocess.Popen(words, env=env, stdout=console, stderr=subprocess.STDOUT)
            while process.poll() is None:
                time.sleep(launch.POLL)
                if stop.number:
                    process.terminate()
            console.seek(0)
            lines = console.read().strip().splitlines()
        if stop.number:
            return False
        if process.returncode:
            fine = False
            say(f"warning: {run.path}: {(lines or [f'status {process.returncode}'])[-1]}")
    return fine


def make_report(folder: Path, say) -> bool:
    """Write the experiment's report from what is there; False where that fails."""
    if importlib.util.find_spec("benchmark.report") is None:
        say("no report: benchmark.report is not in this version")
        return True
    words = [sys.executable, "-m", "benchmark.report", str(folder), "--out", str(folder / "report")]
    done = subprocess.run(words, env=launch.environment(Slot("", os.cpu_count() or 1)), capture_output=True, text=True)
    if done.returncode:
        say(f"no report: {(done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1]}")
        return False
    say(f"report: {folder / 'report' / 'report.html'}")
    return True


def upload(args: Args, settings: Settings, folder: Path, say) -> None:
    """Bring the experiment's own files to S3 too, and what its runs could not send."""
    url = f"s3://{args.s3_bucket}/{settings.s3_prefix}"
    try:
        failures = s3.upload(folder, url, args.s3_endpoint_url, args.s3_dry_run, say)
    except (ArgumentError, ModuleNotFoundError, OSError) as error:
        failures = {"": str(error)}
    if failures:
        say(f"warning: S3: {next(iter(failures.values()))}; not everything is at {url}")


def main(argv: Sequence[str]) -> int:
    """Carry out an experiment; return the exit status. Raises ArgumentError, CheckpointError, OSError."""
    args, extra, folder = parse(argv)
    check(args, extra)
    cluster = None
    if args.launcher != "local":
        from benchmark.runner import cluster  # needs submitit

        cluster.check(args)
    places = cluster.slots(args) if cluster else slots(args)
    gpus = args.launcher == "slurm" and args.num_gpus != 0 if cluster else bool(places[0].gpus)
    settings, runs = plan(args, extra, folder, gpus)
    if args.resume_from:
        restore(folder, settings, runs)
    elif (folder / "config.json").exists():
        differences = describe_differences(read_config(folder)[0], args)
        differences += ["after --"] if read_config(folder)[1] != extra else []
        about = f"of another configuration: {'; '.join(differences)}" if differences else "with this configuration"
        raise CheckpointError(f"{folder}: holds an experiment already, {about} (--resume-from {folder} goes on)")
    elif (folder / "all_results.json").exists() or folder.is_file():
        raise CheckpointError(f"{folder}: is there already (expected a new folder)")
    warnings = check_room(args, folder, runs, len(places), gpus)
    if args.dry_run:
        where = f"{args.launcher}, " + ("an array of jobs" if cluster else f"{len(places)} at a time")
        show_plan(settings, runs, places, where)
        return 0

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "runner.log").open("a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(f"{folder}: another runner works in this experiment") from None
        except OSError:  # a file system without locks
            pass
        board = Board(settings, runs, log)
        stop = StopSignals()
        try:
            return carry_out(args, extra, folder, settings, runs, places, board, stop, warnings, cluster)
        finally:
            stop.restore()


def carry_out(args, extra, folder, settings, runs, places, board, stop, warnings, cluster) -> int:
    """The part of `main` that writes."""
    say = board.say
    if not (folder / "config.json").exists():
        config = {"experiment": folder.name, "args": dataclasses.asdict(args), "script_args": list(extra)}
        write_json(folder / "config.json", {**config, "system": describe_machine()})
    else:
        before = json.loads((folder / "config.json").read_text()).get("system") or {}
        now = describe_machine()
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            say(f"warning: since the experiment began {', '.join(changed)} changed: its runs may not compare")
    for text in warnings:
        say(f"warning: {text}")
    if args.debug and not (folder / "levels").is_dir():
        say("making twelve easy levels")
        make_levels(folder)

    def changed():
        write_all_results(args, extra, folder, settings, runs, say)

    changed()
    say(f"{folder}: {len(runs)} runs, {sum(run.status == 'done' for run in runs)} of them done")
    with board.live or contextlib.nullcontext():
        try:
            if cluster:
                cluster.work(args, settings, runs, places, stop, say, changed, board.tick)
            else:
                launch.compile_ahead(settings, runs, stop, say)
                launch.work(settings, runs, places, stop, say, changed, board.tick, [])
        finally:
            changed()
            board.tick()
    fine = all(run.status == "done" for run in runs)
    if args.evaluate_fully and not stop.number:
        fine = evaluate_fully(folder, runs, bool(places[0].gpus) and not cluster, stop, say) and fine
    if stop.number:
        say(f"stopped by {stop.name()}: {board.summary()}; --resume-from {folder} goes on")
    elif args.report and any(run.status == "done" for run in runs):
        fine = make_report(folder, say) and fine
    if args.s3_bucket and not stop.number:
        upload(args, settings, folder, say)
    for run in runs:
        if run.status in ("failed", "stopped"):
            say(f"{run.path}: {run.status}: {run.reason}")
    say(board.summary())
    return 128 + int(stop.number) if stop.number else int(not fine)


def describe_machine() -> dict:
    """What an experiment's figures depend on beside its arguments."""
    import torch

    from npp_rl.training.run_log import describe_system

    about = describe_system(torch.device("cpu"))
    gpus = (
        subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True
        ).stdout.splitlines()
        if shutil.which("nvidia-smi")
        else []
    )
    return {
        "git_revision": about["git_revision"],
        "versions": about["versions"],
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "gpus": gpus,
    }


def command(argv: Sequence[str]) -> None:
    """`main` as a program: what a user can cause ends with one line and status 2."""
    try:
        raise SystemExit(main(argv))
    except KeyboardInterrupt:
        fail("interrupted; --resume-from goes on", 130)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except (ArgumentError, CheckpointError, ModuleNotFoundError) as error:
        fail(str(error))


if __name__ == "__main__":
    command(sys.argv[1:])
