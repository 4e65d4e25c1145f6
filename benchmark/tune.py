"""Tune an architecture's hyperparameters and layer sizes with Optuna: each trial trains real runs of its script.

    python -m benchmark.tune --arch mlp_baseline --trials 40 --max-minutes 5
    python -m benchmark.tune --arch anywhere/ppo_mine.py --max-minutes 5
    python -m benchmark.tune --arch gat --total-timesteps 500000 --space learning_rate=log:1e-4:3e-3 hidden=choice:32,64
    python -m benchmark.tune --arch mlp_baseline --max-minutes 5 --storage postgresql://HOST/DB -- --train-dataset DIR

A trial's value is the success on the validation levels, the mean over the seeds and over the evaluations in the last
fifth of a run, at equal wall-clock time (--max-minutes) or equal steps (--total-timesteps). More levels judge a trial
than the 5% of the training levels that the scripts keep for themselves, by which the best of 40 trials would be the
luckiest. They are played more rarely instead. After each trial the study says how sure its best is, and how many others
cannot be told from it.

Of metrics.jsonl only lines of kind "eval" count: the script plays its test suite at its end, and nothing here looks at
the result. Runs that are behind the median of earlier trials at the same tenth of the budget are ended (pruned). What a
run writes as its configuration must equal the trial's parameters, so that no parameter is silently ignored.

The space is a list of NAME=SPEC, or one .toml or .json file of NAME = "SPEC" (or a list of choices). SPEC is
`log:LOW:HIGH`, `uniform:LOW:HIGH[:STEP]` (whole numbers where the argument is one) or `choice:A,B,C`, where 8x16x32
stands for several numbers and `none` for no value. The default space is in benchmark/tuning/spaces.py.

The same command continues a study; trials that ended with their tuner start anew. With --storage any number of machines
work on one study, each with its own --output-dir. Arguments after `--` go to the script.
"""

import shlex
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.tuning.spaces import default_space, distributions, flags, named_in, read_space, values_of
from npp_rl import scripts
from npp_rl.commands import ArgumentError, StopSignals, command, fail, parse, say
from npp_rl.files import take_lock
from npp_rl.training.arguments import check_args

NEEDS = 'tuning needs Optuna: pip install -e ".[tune]"'
POLL = 0.2  # seconds between looks at the runs
# Share of the training levels that judges a trial. On a CPU core mlp_baseline plays 14 levels a second, graphs 1 or 2.
SHARE, SHARE_OTHERS = {"mlp_baseline": 0.25}, 0.1


@dataclass
class Args:
    """Maximise the success on validation levels. The test suite, which the runs play at their end, is not looked at."""

    arch: str
    """architecture whose script is tuned, or the path of a script of your own"""
    study_name: str | None = None
    """name of the study (default: the architecture)"""
    storage: str | None = None
    """Optuna's storage URL, for several machines (default: the file study.db in the study's folder)"""
    output_dir: str | None = None
    """the study's folder (default: studies/<study_name>)"""
    trials: int = 30
    """trials that the study has in the end, over all machines"""
    jobs: int = 1
    """trials at once; the processors and GPUs are divided among them"""
    seeds: tuple[int, ...] = (1, 2)
    """seeds of a trial's runs"""
    max_minutes: float | None = None
    """minutes of each run"""
    total_timesteps: int | None = None
    """environment steps of each run, instead of minutes"""
    eval_freq: int | None = None
    """steps between evaluations, besides those after each quarter of a run (default: a fifth of --total-timesteps; none
    with --max-minutes)"""
    validation_fraction: float | None = None
    """share of the training levels that judges the trials (default: 0.25, of the 900 built-in levels about 225, for
    mlp_baseline; 0.1 for the others, whose evaluations take longer)"""
    space: tuple[str, ...] = ()
    """NAME=SPEC ..., or one .toml or .json file (default: learning rate, batches, layer sizes and the like)"""
    size: Literal["auto", "small", "full"] = "auto"
    """preset of the sizes that are not tuned (auto: full on a GPU, small without)"""
    prune: bool = True
    """end runs that are behind"""
    prune_after: int = 5
    """trials that must have ended before one is pruned"""
    sampler_seed: int = 0
    """seed of the choice of parameters"""


def main(args: Args, rest: list[str]) -> dict | None:
    """Run a study to its end, or to a signal; what is known of its best trial. Raises ArgumentError, OSError.

    rest: the script's own flags. The process ends with status 1 where no trial succeeded or none is better than others.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ArgumentError(NEEDS) from None
    script, space, chosen, settings = prepare(args, rest)
    folder = Path(args.output_dir or f"studies/{args.study_name}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        if not take_lock(lock):
            raise ArgumentError(f"--output-dir {folder}: another process works in this study's folder")
        return carry_out(args, rest, script, space, chosen, settings, folder)


def prepare(args: Args, rest: list[str]) -> tuple:
    """The script, its space as texts and as Optuna's distributions, and what a study's trials have in common.

    Fills in what `args` leaves open. Raises ArgumentError for what cannot be meant.
    """
    if (args.max_minutes is None) == (args.total_timesteps is None):
        raise ArgumentError("expected either --max-minutes or --total-timesteps, the budget of each run")
    for name, low in (("trials", 1), ("jobs", 1), ("prune_after", 0), ("sampler_seed", 0), ("eval_freq", 1)):
        if (value := getattr(args, name)) is not None and value < low:
            raise ArgumentError(f"--{name.replace('_', '-')} {value}: expected {low} or more")
    check_args(args)
    if args.validation_fraction == 0:
        raise ArgumentError("--validation-fraction 0: expected more, the trials are judged by these levels")
    if not args.seeds or len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        raise ArgumentError(f"--seeds {' '.join(map(str, args.seeds))}: expected different seeds of 0 or more")
    found = scripts.find(args.arch, "--arch")
    args.arch, script = found.word, scripts.load(found, "--arch")
    if args.size == "auto":
        import torch

        args.size = "full" if torch.cuda.is_available() else "small"
    if args.eval_freq is None and "eval_freq" not in named_in(rest):
        args.eval_freq = max(1, args.total_timesteps // 5) if args.total_timesteps else 0
    if args.validation_fraction is None:
        args.validation_fraction = SHARE.get(found.architecture, SHARE_OTHERS)
    args.study_name = args.study_name or found.architecture
    space = read_space(args.space) or default_space(script, args.size)
    chosen = distributions(space, script, args.size)
    ours = {"seed", "run_dir", "resume", "size", "total_timesteps", "max_minutes"}
    ours |= set() if args.eval_freq is None else {"eval_freq"}
    if twice := sorted(named_in(rest) & (ours | set(chosen))):
        raise ArgumentError(f"-- {shlex.join(rest)}: --{twice[0].replace('_', '-')} is set by the tuner")
    own = parse(script.Args, rest)
    check_args(own)
    if "validation_fraction" in named_in(rest):
        args.validation_fraction = own.validation_fraction
    settings = {"arch": found.architecture, "size": args.size, "space": space, "seeds": list(args.seeds)}
    names = ("max_minutes", "total_timesteps", "eval_freq", "validation_fraction")
    settings |= {name: getattr(args, name) for name in names}
    settings["script_arguments"] = rest
    settings |= {} if found.ours else {"script": found.sha256}
    return script, space, chosen, settings


def carry_out(args: Args, rest: list[str], script, space: dict, chosen: dict, settings: dict, folder: Path):
    """The part of `main` that trains and writes."""
    from benchmark.tuning import standing, study, trials

    here = f"{socket.gethostname()}:{folder.resolve()}"
    known = study.open_study(args, folder, settings, here)
    say(f"{folder}: {', '.join(f'{name}={text}' for name, text in space.items())}")
    stop = StopSignals()
    working: list[trials.Trial] = []
    room = True  # there may be room for another trial
    try:
        while True:
            if room:
                states = [trial["state"] for trial in study.trials_of(known)]
                counted = sum(state not in ("waiting", "restarted") for state in states)
                room = False
            while len(working) < args.jobs and counted < args.trials and not stop.number:
                trial = known.ask(chosen)
                trial.set_user_attr("place", here)
                slot = min(set(range(args.jobs)) - {work.slot for work in working})
                working.append(trials.Trial(trial, folder / f"trial_{trial.number:04d}", slot))
                say(f"trial {trial.number}: {shlex.join(flags(values_of(trial.params)))}")
                trials.start_run(working[-1], args, script, rest)
                counted += 1
            if stop.number or not working:
                break
            time.sleep(POLL)
            for work in list(working):
                ended = advance(work, args, script, rest, known)
                if ended:
                    working.remove(work)
                    room = True
                    found = study.write_results(known, folder, args, settings, plots=False)
                    say(f"trial {work.trial.number}: {ended}; {standing.in_words(found) if found else 'no best yet'}")
    finally:
        for work in working:
            if work.process and work.process.poll() is None:
                work.process.terminate()
        for work in working:
            if work.process:
                trials.end_process(work.process)
            study.start_anew(known, work.trial)
        stop.restore()
    found = study.write_results(known, folder, args, settings, plots=True)
    if stop.number:
        say(f"stopped by {stop.name()}; the same command continues the study in {folder}")
        return found
    every = study.trials_of(known)
    if found:
        say(f"{standing.in_words(found)}; {folder / 'best.sh'} trains it")
        return found
    if whole := study.whole(every):
        why = standing.why_none(whole)
        fail(f"{folder}: nothing was learned: {why} (more minutes or another space may tell trials apart)", 1)
    reasons = [trial["reason"] for trial in every if trial["reason"]]
    fail(f"{folder}: no trial succeeded ({reasons[-1] if reasons else 'none was whole'})", 1)


def advance(work, args: Args, script, rest: list[str], known) -> str:
    """Go on with a trial in work. Returns how it has ended, in words; "" where it has not."""
    from optuna.trial import TrialState

    from benchmark.tuning import trials

    try:
        value = trials.step(work, args, script, rest)
    except trials.Ended as ended:
        trials.end_process(work.process)
        if str(ended) == "pruned":
            known.tell(work.trial, state=TrialState.PRUNED)
        else:
            work.trial.set_user_attr("reason", str(ended))
            known.tell(work.trial, state=TrialState.FAIL)
        return str(ended)
    if value is None:
        return ""
    known.tell(work.trial, value)
    return f"success {value:.1%}"


def program(argv: Sequence[str]) -> None:
    """`main` as a program, with these arguments."""
    split = list(argv).index("--") if "--" in argv else len(argv)
    command(lambda args: main(args, list(argv[split + 1 :])), Args, lambda kind: parse(kind, argv[:split]))


if __name__ == "__main__":
    program(sys.argv[1:])
