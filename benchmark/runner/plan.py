"""What an experiment consists of: its runs, the flags that they have in common, and what became of them so far."""

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.runner.arguments import Args, home
from benchmark.runner.runs import (
    BC_CHECKPOINT,
    SCRIPTS,
    Run,
    Settings,
    Slot,
    commands,
    finished,
    finished_results,
    progress,
)
from npp_rl import scripts
from npp_rl.commands import ArgumentError
from npp_rl.files import read_json, write_json
from npp_rl.levels.sources import parts_of
from npp_rl.training import s3

CONDITIONS = ("no_pretrain", "with_pretrain")
NO_RESULTS = {"overall": None, "by_category": None}
DEBUG_FLAGS = ("--num-steps", "32", "--num-minibatches", "4", "--fresh-levels", "0", "--validation-fraction", "0.1")


@dataclass
class Experiment:
    args: Args
    extra: list[str]  # flags for the scripts
    folder: Path
    settings: Settings
    runs: list[Run]
    scripts: dict[str, str]  # SHA-256 of the texts of the user's own scripts, by architecture

    def config(self) -> dict:
        """What config.json and all_results.json say of it."""
        about = {"args": dataclasses.asdict(self.args), "script_args": self.extra}
        return about | ({"scripts": self.scripts} if self.scripts else {})


def conditions(args: Args) -> tuple[str, ...]:
    """Conditions under which each architecture is trained."""
    return CONDITIONS if args.replay_data_dir and not args.no_pretraining else CONDITIONS[:1]


def shared_with_pretraining(args: Args, extra: Sequence[str]) -> list[str]:
    """Flags after `--` that the pretraining needs too: which data it may see, and the size of the network.

    Raises ArgumentError for a width of its own, which bc_pretrain.py cannot have.
    """
    if not extra or CONDITIONS[1] not in conditions(args):
        return []
    words = [word for flag in extra for word in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    for chosen in scripts.find_all(args.architectures, "--architectures").values():
        script = scripts.load(chosen, "--architectures")
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


def plan(args: Args, extra: list[str], folder: Path, gpus: bool) -> Experiment:
    """The experiment that is asked for. Runs are in the order of seeds, so that everything can be compared early.

    gpus: whether its runs have GPUs. Raises ArgumentError.
    """
    chosen = scripts.find_all(args.architectures, "--architectures")
    pairs = [("train_dataset", args.train_dataset), ("test_dataset", args.test_dataset)]
    if args.debug:
        pairs = [(name, str(home(args, folder) / "levels") if value == "builtin" else value) for name, value in pairs]
    names = ("total_timesteps", "max_minutes", "num_envs", "evaluations", "eval_freq", "save_freq")
    names += ("s3_bucket", "s3_endpoint_url", "s3_sync_freq") if args.s3_bucket else ()
    data = [word for name, value in pairs for word in (f"--{name.replace('_', '-')}", value)]
    flags = ["--label", args.label, *data] if args.label else list(data)
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
        s3_prefix=s3_prefix_of(args, folder) if args.s3_bucket else None,
        processes=args.gpus_per_run if gpus else 1,
        nodes=args.nodes_per_run,
        retries=args.retries,
        require_pretraining=args.require_pretraining,
        scripts=str(SCRIPTS),
        own={name: str(script.path) for name, script in chosen.items() if not script.ours},
    )
    runs = [Run(name, condition, seed) for seed in args.seeds for condition in conditions(args) for name in chosen]
    texts = {name: script.sha256 for name, script in chosen.items() if not script.ours}
    return Experiment(args, extra, folder, settings, runs, texts)


def show(experiment: Experiment, places: Sequence[Slot], where: str) -> None:
    """Print all that would be started, and where."""
    print(f"experiment {experiment.folder}: {len(experiment.runs)} runs, {where}")
    for place in places:
        print(f"  {place.name}: {place.threads} threads a process")
    args = experiment.args
    data = (*parts_of(args.train_dataset), *parts_of(args.test_dataset), *args.replay_data_dir)
    for path in dict.fromkeys(data):
        if path != "builtin" and not Path(path).exists():
            print(f"  {path}: is not there yet, and a run will need it")
    for run in experiment.runs:
        print(f"\n{run.path}: {run.status}")
        for stage, words in commands(experiment.settings, run, places[0]).items() if run.status != "done" else ():
            print(f"  {'pretraining' if stage == 'bc' else 'training'}: {shlex.join(words)}")
    print("\nnothing was started (--dry-run)")


def restore(experiment: Experiment) -> None:
    """Take over what earlier runners noted in all_results.json, where it can be read; what is on disk counts more."""
    folder, noted = experiment.folder, {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        for entry in read_json(folder / "all_results.json")["runs"]:
            noted[entry["architecture"], entry["condition"], entry["seed"]] = entry
    for run in experiment.runs:
        entry = noted.get((run.architecture, run.condition, run.seed), {})
        for name in ("attempts", "exit_status", "minutes", "pretraining", "job"):
            if isinstance(value := entry.get(name), (int, float, str)):
                setattr(run, name, value)
        run_dir = folder / run.path
        if run.pretraining.startswith("none") and not (run_dir / "config.json").is_file():
            run.pretraining = ""  # what made it impossible may have been mended
        if run.condition == "with_pretrain" and not run.pretraining and finished(run_dir / "bc"):
            run.pretraining = BC_CHECKPOINT
        run.minutes = progress(experiment.settings, run).minutes or run.minutes
        run.status = "done" if finished(run_dir) else "queued"


def write_all_results(experiment: Experiment, say: Callable[[str], None]) -> None:
    """Write all_results.json and s3_manifest.json anew. A full disk gives a warning and ends nothing."""
    folder, entries = experiment.folder, []
    for run in experiment.runs:
        found = finished_results(folder / run.path) if run.status == "done" else None
        entry = {name: getattr(run, name) for name in ("architecture", "condition", "seed", "status", "attempts")}
        entry |= {"exit_status": run.exit_status, "minutes": round(run.minutes, 3), "reason": run.reason}
        pretraining = run.pretraining or ("" if run.condition == "with_pretrain" else "none")
        entry |= {"pretraining": pretraining, "job": run.job, "run_dir": run.path}
        entries.append(entry | (found or NO_RESULTS))
    content = {"experiment": folder.name, "config": experiment.config(), "runs": entries}
    try:
        write_json(folder / "all_results.json", content)
        if experiment.args.s3_bucket and not experiment.args.s3_dry_run:
            merge_manifests(experiment)
    except OSError as error:
        say(f"warning: {error.filename}: {error.strerror}; it is written again after the next run")


def merge_manifests(experiment: Experiment) -> None:
    """Write the experiment's s3_manifest.json: the entries of its runs' manifests, and its own of other files."""
    url, files = url_of(experiment), {}
    for place in ("", *(run.path for run in experiment.runs)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            manifest = read_json(experiment.folder / place / s3.MANIFEST)
            if manifest["url"] == "/".join(filter(None, (url, place))):
                files |= {f"{place}/{name}" if place else name: entry for name, entry in manifest["files"].items()}
    s3.write_manifest(experiment.folder, url, experiment.args.s3_endpoint_url, files)


def s3_prefix_of(args: Args, folder: Path) -> str:
    """Prefix of the keys of all that lies in an experiment's folder."""
    place = folder.relative_to(home(args, folder).parent).as_posix()
    return "/".join(filter(None, (args.s3_prefix.strip("/"), place)))


def url_of(experiment: Experiment) -> str:
    """Where the experiment lies on S3."""
    return f"s3://{experiment.args.s3_bucket}/{experiment.settings.s3_prefix}"
