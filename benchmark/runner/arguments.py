"""What is asked of the runner: its arguments, whether they can be meant, and those with which an experiment began."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from npp_rl import ARCHITECTURES, scripts
from npp_rl.commands import ArgumentError, CheckpointError, LevelError, parse
from npp_rl.files import read_json, shown_name
from npp_rl.levels.sources import absolute, parts_of, resolved
from npp_rl.training.arguments import BOUNDS, args_from, check_args, differences_of

REQUEUE_SECONDS = 30  # a warned job needs these to go back into the queue; its run has the rest to stop
LABELLED = "label_"  # how the folder of a labelled configuration begins
LEAST_WARNING = 60  # seconds; less leaves runs no time to save
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass
class Args:
    """Train architectures, with and without pretraining, over seeds and GPUs, cores or a cluster, and compare them."""

    experiment_name: str | None = None  # name of the experiment's folder
    label: str = ""  # name of another configuration in the same experiment, which the report tells apart
    architectures: tuple[str, ...] = ARCHITECTURES  # which scripts: npp_rl/ppo_<architecture>.py, or paths of your own
    seeds: tuple[int, ...] = (1, 2, 3)  # each architecture and condition is trained with each seed
    test_pretraining: Flag = False  # train both without and with pretraining (the default where there are replays)
    no_pretraining: Flag = False  # train without pretraining only
    replay_data_dir: tuple[str, ...] = ()  # folders of replays for the pretraining
    bc_epochs: int | None = None  # passes of the pretraining over the replays (default: its script's)
    bc_max_minutes: float | None = None  # longest pretraining, minutes
    require_pretraining: Flag = False  # a run fails where its pretraining is impossible, instead of training without it
    train_dataset: str = "builtin"  # `builtin`, a folder or file of levels, or several with commas between
    test_dataset: str = "builtin"  # the same; one data set for both is divided
    total_timesteps: int | None = None  # environment steps of each run (default: the scripts')
    max_minutes: float | None = None  # minutes of each run, its pretraining included, instead of total_timesteps
    num_envs: int | None = None  # environments of each run (default: the scripts')
    mixed_precision: Flag = False  # bfloat16 in forward passes
    evaluations: int | None = None  # evaluations on validation levels at equal shares of a run (default: the scripts')
    eval_freq: int | None = None  # environment steps between further evaluations on the validation levels
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
    retries: int = 2  # how often a run that died is started again; it resumes
    report: bool = True  # write the report at the end
    checks: bool = True  # do not start with too little disk or memory

    launcher: Literal["local", "slurm", "local-submitit"] = "local"  # this machine, a cluster, or its rehearsal here
    nodes_per_run: int = 1  # machines of each run, through torchrun (Slurm)
    slurm_partition: str | None = None  # partition of the cluster
    slurm_account: str | None = None  # account on the cluster
    slurm_minutes: int = 1440  # time limit of a job; a run that takes longer is requeued and resumes
    slurm_cpus: int = 8  # processors of a job on each machine
    slurm_mem_gb: float = 32  # memory of a job on each machine
    slurm_parallel: int = 256  # jobs of the array at a time
    slurm_requeues: int = 100  # how many time limits a job may reach
    slurm_signal_seconds: int = 120  # how long before its time limit a job is warned, to save
    slurm_args: tuple[str, ...] = ()  # further sbatch options, as NAME=VALUE


# Arguments that may change when an experiment goes on: they say who runs it where, not what is compared.
FREE_ARGUMENTS = ("output_dir", "resume_from", "dry_run", "num_gpus", "jobs", "retries", "report", "checks")
FREE_ARGUMENTS += ("launcher", "evaluate_fully")
FREE_ARGUMENTS += tuple(field.name for field in dataclasses.fields(Args) if field.name.startswith("slurm_"))

# Flags of the scripts that the runner sets; it has flags of its own for most of them.
OWN_FLAGS = ("label", "run_dir", "resume", "seed", "threads", "pretrained_checkpoint", "train_dataset", "test_dataset")
OWN_FLAGS += ("total_timesteps", "max_minutes", "num_envs", "mixed_precision", "evaluations", "eval_freq", "save_freq")
OWN_FLAGS += ("s3_bucket", "s3_prefix", "s3_endpoint_url", "s3_sync_freq", "s3_dry_run")

# Least values of the runner's own counts; other arguments have theirs in BOUNDS.
LEAST = {"bc_epochs": 1, "num_gpus": 0, "gpus_per_run": 1, "jobs": 1, "retries": 0, "nodes_per_run": 1}
LEAST |= {"slurm_minutes": 1, "slurm_cpus": 1, "slurm_parallel": 1, "slurm_requeues": 0}

# What --debug sets where nothing else is said; plan.DEBUG_FLAGS go to the scripts.
DEBUG = {"total_timesteps": 2048, "num_envs": 16, "evaluations": 2, "save_freq": 512}


def read(argv: Sequence[str]) -> tuple[Args, list[str], Path]:
    """Arguments, flags for the scripts (those after `--`), and the experiment's folder.

    With --resume-from the arguments are the experiment's own. Raises CheckpointError where they are asked to change.
    """
    argv, extra = list(argv), []
    if "--" in argv:
        at = argv.index("--")
        argv, extra = argv[:at], argv[at + 1 :]
    args = parse(Args, argv)
    if not args.resume_from:
        part = f"{LABELLED}{args.label}" if args.label else ""
        return args, extra, Path(args.output_dir, args.experiment_name or "", part).resolve()
    folder = Path(args.resume_from).resolve()
    saved, saved_extra = read_config(folder)
    asked = parse(Args, argv, saved)
    asked.resume_from = args.resume_from
    for name in ("train_dataset", "test_dataset"):
        setattr(asked, name, resolved(getattr(asked, name)))
    asked.replay_data_dir = tuple(str(Path(place).resolve()) for place in asked.replay_data_dir)
    if "architectures" in given_in(argv):
        found = scripts.find_all(asked.architectures, "--architectures")
        asked.architectures = tuple(script.word for script in found.values())
    elif own := [word for word in saved.architectures if word not in ARCHITECTURES]:
        raise CheckpointError(
            f"--resume-from {folder}: {shown_name(own[0])} is none of the eight, and is run only if you name it: "
            f"add --architectures {' '.join(map(shown_name, saved.architectures))}"
        )
    differences = differences_of(saved, asked, FREE_ARGUMENTS)
    if extra and extra != saved_extra:
        differences.append(f"after -- was {shlex.join(saved_extra)!r}, now {shlex.join(extra)!r}")
    if differences:
        raise CheckpointError(f"--resume-from {folder}: the experiment is another: {'; '.join(differences)}")
    return asked, saved_extra, folder


def given_in(argv: Sequence[str]) -> set[str]:
    """Names of the flags in a command line, with underscores."""
    return {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}


def home(args: Args, folder: Path) -> Path:
    """The folder of the whole experiment. A labelled configuration has a folder of its own in it."""
    return folder.parent if args.label and folder.name == f"{LABELLED}{args.label}" else folder


def read_config(folder: Path) -> tuple[Args, list[str]]:
    """Arguments and the scripts' flags of an experiment's config.json. Raises CheckpointError."""
    path = folder / "config.json"
    try:
        config = read_json(path)
        extra = [str(word) for word in config["script_args"]]
        return args_from(Args, dict(config["args"]), str(path)), extra
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{folder}: no experiment ({path}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not an experiment's configuration") from error


def refuse_another(folder: Path, args: Args, extra: Sequence[str]) -> None:
    """Raise CheckpointError where something is in the way of a new experiment in `folder`."""
    if (folder / "config.json").exists():
        there, there_extra = read_config(folder)
        differences = differences_of(there, args, FREE_ARGUMENTS) + ["after --"] * (there_extra != list(extra))
        about = f"of another configuration: {'; '.join(differences)}" if differences else "with this configuration"
        raise CheckpointError(f"{folder}: holds an experiment already, {about} (--resume-from {folder} goes on)")
    if (folder / "all_results.json").exists() or folder.is_file():
        raise CheckpointError(f"{folder}: is there already (expected a new folder)")


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
    found = scripts.find_all(args.architectures, "--architectures")
    if len(found) < len(args.architectures):
        raise ArgumentError("--architectures: a script is given twice")
    args.architectures = tuple(script.word for script in found.values())
    low, high = BOUNDS["seed"]
    for seed in args.seeds:
        if not low <= seed <= high:
            raise ArgumentError(f"--seeds {seed}: expected {low} to {high}")
    for name, least in LEAST.items():
        if (value := getattr(args, name)) is not None and value < least:
            raise ArgumentError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    check_together(args)
    for option in args.slurm_args:
        if not re.fullmatch(r"[a-z][a-z-]*=.+", option):
            raise ArgumentError(f"--slurm-args {option}: expected NAME=VALUE, such as qos=high")
    for word in extra:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and (name in OWN_FLAGS or name.removeprefix("no_") in OWN_FLAGS):
            raise ArgumentError(f"-- {word}: the runner sets this flag (see its own flags)")
    for name in ("train_dataset", "test_dataset"):
        try:
            setattr(args, name, resolved(getattr(args, name)))
        except LevelError as error:
            if not args.dry_run:  # of what will be there once it runs; `plan.show` says so
                raise ArgumentError(f"--{name.replace('_', '-')}: {error}") from None
            setattr(args, name, ",".join(absolute(part) for part in parts_of(getattr(args, name))))
    args.replay_data_dir = tuple(existing("--replay-data-dir", place, args.dry_run) for place in args.replay_data_dir)
    if args.debug:
        for name, value in DEBUG.items():
            if getattr(args, name) is None and not (name == "total_timesteps" and args.max_minutes is not None):
                setattr(args, name, value)
        args.bc_epochs = args.bc_epochs or 1


def check_together(args: Args) -> None:
    """Raise ArgumentError for arguments that contradict each other."""
    wants = "test" if args.test_pretraining else "require" if args.require_pretraining else ""
    warning = f"--slurm-signal-seconds {args.slurm_signal_seconds}"
    for wrong, message in (
        (
            args.test_pretraining and args.no_pretraining,
            "--test-pretraining and --no-pretraining contradict each other",
        ),
        (args.require_pretraining and args.no_pretraining, "--require-pretraining and --no-pretraining: one of them"),
        (
            wants and not args.replay_data_dir,
            f"--{wants}-pretraining: --replay-data-dir is missing (expected folders of replays)",
        ),
        (
            args.total_timesteps is not None and args.max_minutes is not None,
            "--total-timesteps and --max-minutes: runs end by one of them",
        ),
        (args.nodes_per_run > 1 and args.launcher != "slurm", "--nodes-per-run: expected --launcher slurm"),
        (args.jobs > 1 and args.launcher != "local", "--jobs: is for --launcher local (see --slurm-parallel)"),
        (
            args.slurm_signal_seconds < LEAST_WARNING,
            f"{warning}: expected at least {LEAST_WARNING}, of which {REQUEUE_SECONDS} are for the queue and the rest "
            "for runs to save",
        ),
        (
            args.slurm_signal_seconds >= 60 * args.slurm_minutes and args.launcher != "local",
            f"{warning}: expected less than a job's time, --slurm-minutes {args.slurm_minutes}",
        ),
        (
            not args.s3_bucket and (args.s3_prefix or args.s3_dry_run),
            "--s3-prefix, --s3-dry-run: --s3-bucket is missing",
        ),
    ):
        if wrong:
            raise ArgumentError(message)


def existing(flag: str, path: str, dry_run: bool) -> str:
    """The absolute path of a file or folder; ArgumentError where there is none. A dry run only says so."""
    if not Path(path).exists() and not dry_run:
        raise ArgumentError(f"{flag} {path}: no such file or folder")
    return str(Path(path).resolve())
