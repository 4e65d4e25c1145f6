"""Tune an architecture's hyperparameters and layer sizes with Optuna: each trial trains real runs of its script.

python -m benchmark.tune --arch mlp_baseline --trials 40 --max-minutes 5
python -m benchmark.tune --arch gat --total-timesteps 2000000 --space learning_rate=log:1e-4:3e-3 hidden=choice:32,64
python -m benchmark.tune --arch mlp_baseline --max-minutes 5 --storage postgresql://HOST/DB -- --train-dataset DIR

A trial's value is the success on the validation levels at the end of the run, the mean over the seeds, at equal
wall-clock time (--max-minutes) or equal steps (--total-timesteps). Of metrics.jsonl only lines of kind "eval" are read:
the script plays its test suite at its end, and nothing here looks at the result. Runs that are behind the median of
earlier trials at the same tenth of the budget are ended (pruned). What a run writes as its configuration must equal the
trial's parameters, so that no parameter is ever silently ignored.

The space is a list of NAME=SPEC, or one .toml or .json file of NAME = "SPEC" (or a list of choices); SPEC is
`log:LOW:HIGH`, `uniform:LOW:HIGH[:STEP]` (whole numbers where the argument is one) or `choice:A,B,C`, where 8x16x32
stands for several numbers and `none` for no value. Without one it is `default_space`'s.

The same command continues a study: trials that ended with their tuner start anew. With --storage any number of machines
work on one study, each with its own --output-dir. Arguments after `--` go to the script.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import importlib
import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
import typing
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmark.reporting.tune_plots import draw
from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, CheckpointError, StopSignals, command, fail, say
from npp_rl.files import write_atomically, write_json
from npp_rl.training import checkpoints
from npp_rl.training.arguments import FREE_ARGUMENTS, args_from, check_args, parse_args

ROOT = Path(__file__).resolve().parents[1]
NEEDS = 'tuning needs Optuna: pip install -e ".[tune]"'
CHECKS = 10  # of a run: at each tenth of its budget its success so far is compared with earlier trials'
SPARED = 3  # the check before which no trial is pruned
PATIENCE = 60  # seconds that a run has to save and end after SIGTERM
POLL = 0.2  # seconds

# Arguments that would change what is measured, where it is written or who watches it, not how well it is learned.
FIXED = {"exp_name", "seed", "torch_deterministic", "cuda", "threads", "inference_threads", "capture_video", "size"}
FIXED |= {"train_dataset", "test_dataset", "holdout_fraction", "validation_fraction", "eval_freq", "save_freq"}
FIXED |= {"total_timesteps", "max_minutes", *FREE_ARGUMENTS}

# The default space: these, as far as the script has them, and its layer sizes at half, once and twice the preset.
DEFAULT_SPACE = {
    "learning_rate": "log:3e-4:3e-3",
    "num_steps": "choice:32,64,128",
    "num_minibatches": "choice:8,16,32",
    "update_epochs": "uniform:1:4",
    "gamma": "choice:0.98,0.99,0.995",
    "ent_coef": "log:0.001:0.03",
    "clip_coef": "choice:0.1,0.2,0.3",
    "graph_layers": "uniform:1:4",
    "graph_heads": "choice:2,4,8",
}


@dataclass
class Args:
    """Maximise the success on validation levels; the test suite, which the runs play at their end, is not looked at."""

    arch: Literal[ARCHITECTURES]
    """architecture whose script is tuned"""
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
    """steps between validations (default: a tenth of --total-timesteps; with --max-minutes the script's own)"""
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


def default_space(script, size: str) -> dict[str, str]:
    """Specifications by name for a script's Args, its layer sizes around those of the preset `size`."""
    names = {field.name for field in dataclasses.fields(script.Args)}
    space = {name: text for name, text in DEFAULT_SPACE.items() if name in names}
    for name, value in script.SIZES[size].items():
        numbers = value if isinstance(value, tuple) else (value,)
        choices = ["x".join(str(max(1, int(n * scale))) for n in numbers) for scale in (0.5, 1, 2)]
        space[name] = f"choice:{','.join(choices)}"
    return space


def read_space(items: tuple[str, ...]) -> dict[str, str]:
    """Specifications by name, of NAME=SPEC words or of one .toml or .json file. Raises ArgumentError, OSError."""
    if len(items) == 1 and items[0].endswith((".toml", ".json")):
        text = Path(items[0]).read_text()
        try:
            content = tomllib.loads(text) if items[0].endswith(".toml") else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"--space {items[0]}: {' '.join(str(error).split())[:200]}") from None
        if not isinstance(content, dict) or not all(isinstance(value, (str, list)) for value in content.values()):
            raise ArgumentError(f'--space {items[0]}: expected a table of NAME = "SPEC" or NAME = [choices]')
        listed = {name: value for name, value in content.items() if isinstance(value, list)}
        texts = {name: ",".join(map(_text, value)) for name, value in listed.items()}
        return content | {name: f"choice:{text}" for name, text in texts.items()}
    space = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if not equals or name in space:
            raise ArgumentError(f"--space {item}: {'is there twice' if equals else 'expected NAME=SPEC'}")
        space[name] = text
    return space


def _text(value) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value).lower()


def parse(text: str):
    """The value that a choice stands for: none, true, false, a number, several (8x16x32), else the text itself."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    parts = text.split("x")
    return tuple(map(int, parts)) if len(parts) > 1 and all(part.isdecimal() for part in parts) else text


def distributions(space: dict[str, str], script, size: str) -> dict:
    """Optuna's distribution of each parameter; raises ArgumentError for one that the script cannot take.

    Choices are kept as texts (see `parse`), so that several numbers are one choice.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    hints = typing.get_type_hints(script.Args)
    result = {}
    for name, text in space.items():
        flag = f"--space {name}={text}"
        if name not in hints or name in FIXED:
            tunable = ", ".join(sorted(set(hints) - FIXED))
            what = "is not tuned" if name in hints else f"{script.__name__.rpartition('.')[2]} has no such argument"
            raise ArgumentError(f"{flag}: {what} (expected one of {tunable})")
        kind, *parts = text.split(":")
        if kind == "choice" and len(parts) == 1 and all(parts[0].split(",")):
            texts = parts[0].split(",")
            if len(set(texts)) < len(texts):
                raise ArgumentError(f"{flag}: a choice is there twice")
            values = [parse(choice) for choice in texts]
            distribution = CategoricalDistribution(texts)
        elif (kind == "log" and len(parts) == 2) or (kind == "uniform" and len(parts) in (2, 3)):
            values = [parse(part) for part in parts]
            if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values):
                raise ArgumentError(f"{flag}: expected numbers")
            (low, high), step = values[:2], values[2] if len(values) == 3 else None
            if not low < high or (kind == "log" and low <= 0) or (step is not None and not 0 < step <= high - low):
                raise ArgumentError(f"{flag}: expected LOW below HIGH, above 0 for log, and a STEP that fits between")
            whole = float not in (hints[name], *typing.get_args(hints[name]))
            if whole and not all(isinstance(value, int) for value in values):
                raise ArgumentError(f"{flag}: expected whole numbers")
            if whole:
                distribution = IntDistribution(low, high, log=kind == "log", step=step or 1)
            else:
                distribution = FloatDistribution(low, high, log=kind == "log", step=step)
            values = values[:2]
        else:
            raise ArgumentError(f"{flag}: expected log:LOW:HIGH, uniform:LOW:HIGH[:STEP] or choice:A,B,C")
        for value in values:
            try:
                args = args_from(script.Args, {**script.SIZES[size], name: value}, flag)
                check_args(args, tuple(script.SIZES[size]))
            except (ArgumentError, CheckpointError) as error:
                reason = str(error).removeprefix(f"{flag}: ")
                raise ArgumentError(f"{flag}: {reason}") from None
        result[name] = distribution
    return result


def values_of(params: dict) -> dict:
    """The script's values of a trial's parameters."""
    return {name: parse(value) if isinstance(value, str) else value for name, value in params.items()}


def flags(values: dict) -> list[str]:
    """Command-line words of values by name."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return words


def script_path(arch: str) -> Path:
    return ROOT / "npp_rl" / f"ppo_{arch}.py"


def check_config(run_dir: Path, expected: dict, sizes: tuple[str, ...]) -> None:
    """Raise CheckpointError where a run's recorded arguments are not those that it was given.

    A layer size that nobody set (None) is the preset's.
    """
    path = run_dir / "config.json"
    with checkpoints.restoring(path, "a run's configuration"):
        recorded = json.loads(path.read_text())["args"]
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in expected.items()}
        free = [name for name in sizes if expected[name] is None]
        wrong = [f"{name} is {recorded.get(name)!r}, the trial's {value!r}" for name, value in plain.items()
                 if name not in free and (name not in recorded or recorded[name] != value)]  # fmt: skip
    if wrong:
        raise CheckpointError(f"{path}: {'; '.join(wrong)}")


@dataclass
class Trial:
    """A trial in work. Its runs, one a seed, follow one another, so that the first can already end a bad trial."""

    trial: typing.Any  # Optuna's
    folder: Path
    slot: int  # which share of the machine it has
    finals: list[float] = field(default_factory=list)  # success of the runs that ended, in the order of the seeds
    process: subprocess.Popen | None = None
    expected: dict = field(default_factory=dict)  # arguments of the run in work
    offset: int = 0  # bytes of its metrics.jsonl that were read
    success: float | None = None  # at its last validation
    checks: int = 0  # tenths of its budget that were reported
    tested: bool = False  # it has come to its end

    @property
    def run_dir(self) -> Path:
        return self.folder / f"seed_{self.expected['seed']}"


class Ended(Exception):
    """A trial's end other than success; the message is the reason."""


def start_run(work: Trial, args: Args, script, rest: list[str]) -> None:
    """Start the trial's next run as a process of its own."""
    seed = args.seeds[len(work.finals)]
    given = {"seed": seed, "run_dir": str(work.folder / f"seed_{seed}"), "size": args.size}
    budget = {"max_minutes": args.max_minutes, "total_timesteps": args.total_timesteps, "eval_freq": args.eval_freq}
    given |= {name: value for name, value in budget.items() if value is not None}
    if args.jobs > 1 and "threads" not in _names(rest):
        given["threads"] = max(1, (os.cpu_count() or 1) // args.jobs)
    values = values_of(work.trial.params)
    words = [*rest, *flags(given | values)]
    work.expected = dataclasses.asdict(parse_args(script.Args, words)) | values
    work.offset, work.success, work.checks, work.tested = 0, None, 0, False
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    if (gpus := torch.cuda.device_count()) > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        visible = visible if len(visible) == gpus else [str(k) for k in range(gpus)]
        environment["CUDA_VISIBLE_DEVICES"] = visible[work.slot % gpus]
    work.folder.mkdir(parents=True, exist_ok=True)
    with (work.folder / f"seed_{seed}.log").open("wb") as log:
        work.process = subprocess.Popen(
            [sys.executable, str(script_path(args.arch)), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the tuner, which ends its runs itself
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent():
    _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a tuner that is killed takes its runs with it


def _names(words: list[str]) -> set[str]:
    """Names of the arguments that command-line words set."""
    given = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")}
    return given | {name.removeprefix("no_") for name in given}


def follow(work: Trial, args: Args, script) -> None:
    """Read what the run has logged since the last look, report its success at each tenth of the budget.

    Raises Ended where the trial is to be pruned or the run has other arguments than it was given.
    """
    path = work.run_dir / "metrics.jsonl"
    if not path.is_file():
        return
    with path.open("rb") as stream:
        stream.seek(work.offset)
        data = stream.read()
    data = data[: data.rfind(b"\n") + 1]
    if data and not work.offset:
        try:
            check_config(work.run_dir, work.expected, tuple(script.SIZES[args.size]))
        except CheckpointError as error:
            raise Ended(str(error)) from None
    work.offset += len(data)
    for line in data.splitlines():
        row = json.loads(line)
        work.tested |= row["kind"] == "test"
        if row["kind"] == "eval":
            work.success = row["eval/success_rate"]
        used = row["global_step"] / args.total_timesteps if args.total_timesteps else row["minutes"] / args.max_minutes
        while work.success is not None and work.checks < min(CHECKS, int(used * CHECKS + 1e-9)):
            work.checks += 1
            mean = float(np.mean([*work.finals, work.success]))
            work.trial.report(mean, len(work.finals) * CHECKS + work.checks)
            if args.prune and work.checks < CHECKS and work.trial.should_prune():
                raise Ended("pruned")


def end_process(process: subprocess.Popen) -> None:
    """SIGTERM, on which a run saves and ends; SIGKILL where it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_words(log: Path, status: int) -> str:
    """Why a run ended, from its output."""
    lines = [line.strip() for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"{how}: {(errors or lines or ['it said nothing'])[-1][:300]}"


def step(work: Trial, args: Args, script, rest: list[str]) -> float | None:
    """Go on with a trial; its value once all its runs have ended. Raises Ended."""
    status = work.process.poll()  # before reading, so that nothing is missed
    follow(work, args, script)
    if status is None:
        return None
    seed = args.seeds[len(work.finals)]
    if status:
        raise Ended(f"seed {seed}: {last_words(work.folder / f'seed_{seed}.log', status)}")
    if not work.tested:
        raise Ended(f"seed {seed}: ended before its time")
    if work.success is None:
        raise Ended(f"seed {seed}: no validation result (expected --validation-fraction and --eval-freq above 0)")
    work.finals.append(work.success)
    work.trial.set_user_attr("success_by_seed", work.finals)
    work.trial.set_user_attr("parameters", json.loads((work.run_dir / "config.json").read_text()).get("parameters"))
    (work.run_dir / "checkpoints/latest.pt").unlink(missing_ok=True)  # the largest file, for a resume only
    if len(work.finals) < len(args.seeds):
        start_run(work, args, script, rest)
        return None
    return float(np.mean(work.finals))


def open_study(args: Args, folder: Path, settings: dict, here: str):
    """The study, new or continued; trials that ended with an earlier tuner of this folder are to be started anew.

    Raises ArgumentError for a storage that cannot be used and for a study of other settings, with the differences.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=args.prune_after, n_warmup_steps=SPARED)
    try:
        storage = args.storage or f"sqlite:///{folder.resolve() / 'study.db'}"
        study = optuna.create_study(
            storage=storage, study_name=args.study_name, direction="maximize", pruner=pruner, load_if_exists=True
        )
        trials = study.get_trials()
    except Exception as error:  # whatever the database's driver raises
        text = f"--storage {args.storage or folder / 'study.db'}: {' '.join(str(error).split())[:200]}"
        raise ArgumentError(re.sub(r"//[^@/ ]*@", "//...@", text)) from None  # without the password
    # Neither a continued study nor another machine may draw the same random numbers again.
    machine = zlib.crc32(here.encode()) if args.storage else 0
    entropy = np.random.SeedSequence([args.sampler_seed, len(trials), machine])
    study.sampler = optuna.samplers.TPESampler(
        seed=int(entropy.generate_state(1)[0]), multivariate=True, constant_liar=True, n_startup_trials=10
    )
    kept = study.user_attrs.get("settings")
    if kept is None:
        study.set_user_attr("settings", settings)
        kept = settings
    differences = []
    for name in sorted(settings.keys() | kept.keys()):
        before, now = kept.get(name), settings.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            pairs = [(f"{name} {k}", before.get(k), now.get(k)) for k in sorted(before.keys() | now.keys())]
        else:
            pairs = [(name, before, now)]
        differences += [f"{what} was {old!r}, now {new!r}" for what, old, new in pairs if old != new]
    if differences:
        raise ArgumentError(
            f"--study-name {args.study_name}: the study has other settings (another name starts a new one): "
            + "; ".join(differences)
        )
    for trial in trials:
        place = trial.user_attrs.get("place", None if args.storage else here)
        if trial.state == optuna.trial.TrialState.RUNNING and place == here:
            start_anew(study, trial)
    return study


def start_anew(study, trial) -> None:
    """Record a trial that ended with its tuner, and queue its parameters again."""
    import optuna

    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial(trial.params, user_attrs={"again": trial.number})


def trials_of(study) -> list[dict]:
    """All trials as plain dicts, for study.json."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs["again"]: trial.number for trial in trials if "again" in trial.user_attrs}
    result = []
    for trial in trials:
        seconds = trial.duration.total_seconds() if trial.duration else None
        entry = {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value,
            "success_by_seed": trial.user_attrs.get("success_by_seed", []),
            "params": values_of(trial.params),
            "parameters": trial.user_attrs.get("parameters"),
            "intermediate": {str(k): value for k, value in trial.intermediate_values.items()},
            "minutes": None if seconds is None else round(seconds / 60, 3),
            "place": trial.user_attrs.get("place"),
            "reason": trial.user_attrs.get("reason"),
        }
        if trial.number in again:
            entry |= {"reason": f"ended with its tuner; trial {again[trial.number]} is the same", "state": "restarted"}
        result.append(entry)
    return result


def write_results(study, folder: Path, args: Args, settings: dict, plots: bool) -> dict | None:
    """Write study.json, and of the best trial, which is returned, best.json and best.sh; at the end the pictures."""
    import optuna

    trials = trials_of(study)
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["value"], default=None)
    about = {"study": args.study_name, **settings, "best": best and best["number"], "trials": trials}
    importance = {}
    if plots and len({trial["value"] for trial in complete}) > 1:
        with contextlib.suppress(RuntimeError, ValueError):  # too few trials to tell
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    write_json(folder / "study.json", about | ({"importance": importance} if plots else {}))
    if plots and complete:
        draw(about, importance, folder)
    if best:
        budget = {name: settings[name] for name in ("max_minutes", "total_timesteps") if settings[name] is not None}
        words = flags(best["params"] | {"size": args.size} | budget)
        success = f"success {best['value']:.1%} on validation levels, seeds {' '.join(map(str, args.seeds))}"
        fresh = range(max(args.seeds) + 1, max(args.seeds) + 1 + max(3, len(args.seeds)))
        content = {"architecture": args.arch, "study": args.study_name, "trial": best["number"], "flags": words}
        keys = ("value", "success_by_seed", "params", "parameters")
        write_json(folder / "best.json", content | {key: best[key] for key in keys} | {"size": args.size})
        lines = [
            "#!/usr/bin/env bash",
            f"# {args.arch}, best of {len(complete)} whole trials of the study {args.study_name}: trial "
            f"{best['number']}, {success}.",
            '# Trains it with seeds that the choice has not seen (SEEDS="4 5" sets others). Further arguments go to',
            "# the script; DRY_RUN=1 prints the commands; PYTHON names the interpreter.",
            "set -euo pipefail",
            f"for seed in ${{SEEDS:-{' '.join(map(str, fresh))}}}; do",
            f'  ${{DRY_RUN:+echo}} "${{PYTHON:-python}}" -m npp_rl.ppo_{args.arch} --seed "$seed" \\',
            f'    {shlex.join([*settings["script_arguments"], *words])} "$@"',
            "done",
        ]
        write_atomically(folder / "best.sh", ("\n".join(lines) + "\n").encode())
        (folder / "best.sh").chmod(0o755)
    return best


def main(args: Args, rest: list[str]) -> dict | None:
    """Run a study to its end; the best trial, None where no trial succeeded. Raises ArgumentError, OSError."""
    try:
        import matplotlib  # noqa: F401
        import optuna
    except ImportError:
        raise ArgumentError(NEEDS) from None
    if (args.max_minutes is None) == (args.total_timesteps is None):
        raise ArgumentError("expected either --max-minutes or --total-timesteps, the budget of each run")
    for name, low in (("trials", 1), ("jobs", 1), ("prune_after", 0), ("sampler_seed", 0), ("eval_freq", 1)):
        if (value := getattr(args, name)) is not None and value < low:
            raise ArgumentError(f"--{name.replace('_', '-')} {value}: expected {low} or more")
    check_args(args)
    if not args.seeds or len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        raise ArgumentError(f"--seeds {' '.join(map(str, args.seeds))}: expected different seeds of 0 or more")
    if args.size == "auto":
        args.size = "full" if torch.cuda.is_available() else "small"
    if args.total_timesteps and args.eval_freq is None and "eval_freq" not in _names(rest):
        args.eval_freq = max(1, args.total_timesteps // CHECKS)
    args.study_name = args.study_name or args.arch
    script = importlib.import_module(f"npp_rl.ppo_{args.arch}")
    space = read_space(args.space) or default_space(script, args.size)
    chosen = distributions(space, script, args.size)
    ours = {"seed", "run_dir", "resume", "size", "total_timesteps", "max_minutes"}
    ours |= set() if args.eval_freq is None else {"eval_freq"}
    if twice := sorted(_names(rest) & (ours | set(chosen))):
        raise ArgumentError(f"-- {shlex.join(rest)}: --{twice[0].replace('_', '-')} is set by the tuner")
    check_args(parse_args(script.Args, rest))
    settings = {"arch": args.arch, "size": args.size, "space": space, "seeds": list(args.seeds)}
    settings |= {name: getattr(args, name) for name in ("max_minutes", "total_timesteps", "eval_freq")}
    settings["script_arguments"] = rest

    folder = Path(args.output_dir or f"studies/{args.study_name}")
    folder.mkdir(parents=True, exist_ok=True)
    here = f"{socket.gethostname()}:{folder.resolve()}"
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError(f"--output-dir {folder}: another process works in this study's folder") from None
        study = open_study(args, folder, settings, here)
        say(f"{folder}: {', '.join(f'{name}={text}' for name, text in space.items())}")
        stop = StopSignals()
        working: list[Trial] = []
        room = True  # perhaps for another trial
        try:
            while True:
                if room:
                    states = [trial["state"] for trial in trials_of(study)]
                    counted = sum(state not in ("waiting", "restarted") for state in states)
                    room = False
                while len(working) < args.jobs and counted < args.trials and not stop.number:
                    trial = study.ask(chosen)
                    trial.set_user_attr("place", here)
                    slot = min(set(range(args.jobs)) - {work.slot for work in working})
                    working.append(Trial(trial, folder / f"trial_{trial.number:04d}", slot))
                    say(f"trial {trial.number}: {shlex.join(flags(values_of(trial.params)))}")
                    start_run(working[-1], args, script, rest)
                    counted += 1
                if stop.number or not working:
                    break
                time.sleep(POLL)
                for work in list(working):
                    value, state, reason = None, None, None
                    try:
                        value = step(work, args, script, rest)
                    except Ended as ended:
                        reason = str(ended)
                        state = "PRUNED" if reason == "pruned" else "FAIL"
                        end_process(work.process)
                    if value is None and state is None:
                        continue
                    working.remove(work)
                    room = True
                    if state == "FAIL":
                        work.trial.set_user_attr("reason", reason)
                    study.tell(work.trial, value, state=optuna.trial.TrialState[state] if state else None)
                    best = write_results(study, folder, args, settings, plots=False)
                    ending = f"success {value:.1%}" if state is None else reason if state == "FAIL" else "pruned"
                    leader = f"; best: trial {best['number']}, {best['value']:.1%}" if best else ""
                    say(f"trial {work.trial.number}: {ending}{leader}")
        finally:
            for work in working:
                if work.process and work.process.poll() is None:
                    work.process.terminate()
            for work in working:
                if work.process:
                    end_process(work.process)
                start_anew(study, work.trial)
            stop.restore()
        best = write_results(study, folder, args, settings, plots=True)
    if stop.number:
        say(f"stopped by {stop.name()}; the same command continues the study in {folder}")
    elif best:
        say(f"best: trial {best['number']}, {best['value']:.1%}; {folder / 'best.sh'} trains it")
    else:
        reasons = [trial["reason"] for trial in trials_of(study) if trial["reason"]]
        fail(f"{folder}: no trial succeeded ({reasons[-1] if reasons else 'none was whole'})", 1)
    return best


if __name__ == "__main__":
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    sys.argv[1:] = words[:split]
    command(lambda args: main(args, words[split + 1 :]), Args)
