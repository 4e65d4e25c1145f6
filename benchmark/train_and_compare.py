"""Train architectures, with and without pretraining, over seeds and GPUs, cores or a cluster, and compare them.

    python -m benchmark.train_and_compare --experiment-name first --architectures full_hgt gat --seeds 1 2 3
    python -m benchmark.train_and_compare --experiment-name first ... --dry-run       # only says what it would do
    python -m benchmark.train_and_compare --resume-from experiments/first             # goes on after whatever happened
    python -m benchmark.train_and_compare --experiment-name first ... -- --learning-rate 3e-4   # for the scripts
    python -m benchmark.train_and_compare --experiment-name first --label wide ... -- --hidden 512  # compared with them

benchmark/README.md tells what it does and which files it leaves. Exit status: 0 when all runs are done, 1 when one
failed or was stopped, 2 when nothing was started because of the arguments, 130 after Ctrl-C, 143 after SIGTERM.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.runner import arguments, launch, machine
from benchmark.runner.arguments import Args
from benchmark.runner.board import Board
from benchmark.runner.plan import Experiment, plan, restore, s3_prefix_of, show, url_of, write_all_results
from benchmark.runner.processes import environment
from npp_rl.commands import ArgumentError, CheckpointError, StopSignals, command
from npp_rl.files import read_json, take_lock, write_json
from npp_rl.training import s3

EVALUATION = ("-m", "npp_rl.evaluation")  # Python's arguments


def make_levels(folder: Path) -> None:
    """Make the levels of --debug. Raises CheckpointError."""
    words = [sys.executable, "-m", "npp_rl.make_levels", "--out", str(folder / "levels")]
    words += ["--categories", "simplest", "--split", "train", "--count", "12"]
    done = subprocess.run(words, env=environment(1), capture_output=True, text=True)
    if done.returncode:
        raise CheckpointError(f"{folder / 'levels'}: {(done.stderr.strip().splitlines() or ['no levels'])[-1]}")


def evaluate_fully(experiment: Experiment, gpus: bool, stop: StopSignals, say: Callable[[str], None]) -> bool:
    """Add gap and cost to the results of runs that are done and lack them; False where that fails."""
    fine = True
    for run in (run for run in experiment.runs if run.status == "done"):
        run_dir = experiment.folder / run.path
        if {"generalisation", "cost"} <= read_json(run_dir / "eval_results.json").keys():
            continue
        say(f"{run.path}: training levels are played and its cost is measured")
        words = [sys.executable, *EVALUATION, "--checkpoint", str(run_dir / "checkpoints/best.pt")]
        words += ["--train-levels", "--cost", "--device", "cuda" if gpus else "cpu"]
        with tempfile.TemporaryFile("w+") as console:
            env = environment(os.cpu_count() or 1)
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


def make_report(folder: Path, say: Callable[[str], None]) -> bool:
    """Write the report of all that is in an experiment's folder; False where that fails."""
    say(f"making the report of {folder}")
    words = [sys.executable, "-m", "benchmark.report", str(folder), "--out", str(folder / "report")]
    done = subprocess.run(words, env=environment(os.cpu_count() or 1), capture_output=True, text=True)
    if done.returncode:
        say(f"no report: {(done.stderr.strip().splitlines() or [f'status {done.returncode}'])[-1]}")
        return False
    say(f"report: {folder / 'report' / 'report.html'}")
    return True


def upload(experiment: Experiment, say: Callable[[str], None]) -> None:
    """Send the experiment's own files to S3, and what its runs could not send."""
    args, home = experiment.args, arguments.home(experiment.args, experiment.folder)
    places = {experiment.folder: url_of(experiment)}
    if home != experiment.folder and (home / "report").is_dir():  # of all configurations
        places[home / "report"] = f"s3://{args.s3_bucket}/{s3_prefix_of(args, home)}/report"
    for folder, url in places.items():
        try:
            failures = s3.upload(folder, url, args.s3_endpoint_url, args.s3_dry_run, say)
        except (ArgumentError, ModuleNotFoundError, OSError) as error:
            failures = {"": str(error)}
        if failures:
            say(f"warning: S3: {next(iter(failures.values()))}; not everything is at {url}")


def main(args: Args, extra: list[str], folder: Path) -> int:
    """Carry out an experiment; return the exit status. Raises ArgumentError, CheckpointError, OSError.

    Takes what `arguments.read` returns.
    """
    arguments.check(args, extra)
    cluster = None
    if args.launcher != "local":
        from benchmark.runner import cluster  # needs submitit

        cluster.check(args)
    places = cluster.slots(args) if cluster else machine.slots(args)
    gpus = args.launcher == "slurm" and args.num_gpus != 0 if cluster else bool(places[0].gpus)
    experiment = plan(args, extra, folder, gpus)
    if args.resume_from:
        restore(experiment)
    else:
        arguments.refuse_another(folder, args, extra)
    warnings = machine.check_room(args, folder, experiment.runs, len(places), gpus)
    if args.dry_run:
        show(experiment, places, f"{args.launcher}, " + ("an array of jobs" if cluster else f"{len(places)} at a time"))
        return 0

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "runner.log").open("a") as log:
        if not take_lock(log):
            raise CheckpointError(f"{folder}: another runner works in this experiment")
        board = Board(experiment.settings, experiment.runs, log)
        for text in warnings:
            board.say(f"warning: {text}")
        stop = StopSignals()
        try:
            prepare(experiment, board.say)
            train(experiment, places, board, stop, cluster)
            return finish(experiment, bool(places[0].gpus) and not cluster, board, stop)
        finally:
            stop.restore()


def prepare(experiment: Experiment, say: Callable[[str], None]) -> None:
    """Write config.json, or say what has changed since it was written; make the levels of --debug."""
    path, system = experiment.folder / "config.json", machine.describe()
    if not path.exists():
        write_json(path, {"experiment": experiment.folder.name, **experiment.config(), "system": system})
    else:
        config = read_json(path)
        before, scripts = config.get("system") or {}, config.get("scripts") or {}
        changed = [name for name in system if name in before and before[name] != system[name]]
        changed += [f"the script of {name}" for name, text in experiment.scripts.items() if scripts.get(name) != text]
        if changed:
            say(f"warning: since the experiment began {', '.join(changed)} changed: its runs may not compare")
    home = arguments.home(experiment.args, experiment.folder)
    if experiment.args.debug and not (home / "levels").is_dir():
        say("making twelve easy levels")
        make_levels(home)


def train(experiment: Experiment, places: Sequence, board: Board, stop: StopSignals, cluster) -> None:
    """Carry out the runs that are not done. cluster: the module of that name where runs are jobs, else None."""
    args, settings, runs, say = experiment.args, experiment.settings, experiment.runs, board.say

    def changed():
        write_all_results(experiment, say)

    changed()
    say(f"{experiment.folder}: {len(runs)} runs, {sum(run.status == 'done' for run in runs)} of them done")
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


def finish(experiment: Experiment, gpus: bool, board: Board, stop: StopSignals) -> int:
    """Evaluate, report and upload what the runs have left; return the exit status."""
    args, runs, say = experiment.args, experiment.runs, board.say
    home = arguments.home(args, experiment.folder)
    fine = all(run.status == "done" for run in runs)
    if args.evaluate_fully and not stop.number:
        fine = evaluate_fully(experiment, gpus, stop, say) and fine
    if stop.number:
        say(f"stopped by {stop.name()}: {board.summary()}; --resume-from {experiment.folder} goes on")
    elif args.report and any(run.status == "done" for run in runs):
        fine = make_report(home, say) and fine
    if args.s3_bucket and not stop.number:
        upload(experiment, say)
    for run in runs:
        if run.status in ("failed", "stopped"):
            say(f"{run.path}: {run.status}: {run.reason}")
    say(board.summary())
    return 128 + int(stop.number) if stop.number else int(not fine)


def program(argv: Sequence[str]) -> None:
    """`main` as a program, with these arguments."""
    command(lambda asked: sys.exit(main(*asked)), Args, lambda _: arguments.read(argv))


if __name__ == "__main__":
    program(sys.argv[1:])
