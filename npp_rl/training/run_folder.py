"""The folder of a run: its name, the lock that keeps out other processes, and what a killed process left in it."""

import contextlib
import time
from pathlib import Path

from npp_rl.commands import CheckpointError, at_end
from npp_rl.files import LEFTOVER, open_file, remove_leftovers, take_lock
from npp_rl.training import s3


def path_of(args) -> Path:
    """The folder named by a script's arguments, or `runs/<exp_name>__<seed>__<time>`."""
    name = f"{args.exp_name}__{args.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    return Path(args.resume or args.run_dir or f"runs/{name}")


def begin(run_dir: Path, args):
    """Lock the folder and, if the arguments ask for it, start uploading it to S3 -> (lock, s3.Sync or None).

    Only rank 0 calls it, and it holds the lock until the run ends. Raises CheckpointError, ArgumentError.
    """
    lock = claim(run_dir, bool(args.resume))
    sync = None
    if args.s3_bucket:
        sync = s3.start(run_dir, args.s3_bucket, args.s3_prefix, args.s3_endpoint_url, args.s3_dry_run)
    return lock, sync


def claim(run_dir: Path, resumed: bool):
    """Make the run's folder and lock its log.jsonl -> the open file, which holds the lock until it is closed.

    Unfinished files that a killed process left are removed. Raises CheckpointError if the folder is in use, or if a new
    run's folder holds a run or other files. Raises UserError if log.jsonl is no regular file.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise CheckpointError(f"{run_dir}: is a file (expected a folder for the run)")
    if not resumed and (run_dir / "config.json").exists():
        raise CheckpointError(f"{run_dir}: holds a run already (--resume {run_dir} continues it)")
    ours = ("log.jsonl", "checkpoints", "bc")  # from a start that failed, and from pretraining
    there = run_dir.iterdir() if run_dir.exists() else ()
    others = [path for path in there if path.name not in ours and not LEFTOVER.fullmatch(path.name)]
    if not resumed and any(path.suffix != ".log" for path in others):
        raise CheckpointError(f"{run_dir}: is not empty (expected a new folder for the run)")
    if not run_dir.exists():
        at_end(_leave_nothing, run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = open_file(run_dir / "log.jsonl", "a")
    if not take_lock(lock):
        raise CheckpointError(f"{run_dir}: another process works in this run")
    for place in (".", "checkpoints", "source", "videos"):
        remove_leftovers(run_dir / place)
    return lock


def _leave_nothing(run_dir):
    """Remove the folder of a run that failed before it wrote anything, such as for a missing data set."""
    with contextlib.suppress(OSError):
        log = run_dir / "log.jsonl"
        if list(run_dir.iterdir()) == [log] and not log.stat().st_size:
            log.unlink()
        run_dir.rmdir()  # an OSError if anything is in it
