"""A study: what is known of all its trials, in Optuna's storage and in files that people read."""

import contextlib
import re
import shlex
import zlib
from pathlib import Path

import numpy as np

from benchmark.tuning.plots import draw
from benchmark.tuning.spaces import flags, values_of
from benchmark.tuning.standing import in_words, standing
from npp_rl.commands import ArgumentError
from npp_rl.files import write_atomically, write_json

SPARED = 3  # the check (tenth of the budget) before which no trial is pruned


def open_study(args, folder: Path, settings: dict, here: str):
    """The study, new or continued. Trials that ended with an earlier tuner of this folder will be started anew.

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
            "untrained": trial.user_attrs.get("untrained"),
            "parameters": trial.user_attrs.get("parameters"),
            "validation_levels": trial.user_attrs.get("validation_levels"),
            "intermediate": {str(k): value for k, value in trial.intermediate_values.items()},
            "minutes": None if seconds is None else round(seconds / 60, 3),
            "place": trial.user_attrs.get("place"),
            "reason": trial.user_attrs.get("reason"),
        }
        if trial.number in again:
            entry |= {"reason": f"ended with its tuner; trial {again[trial.number]} is the same", "state": "restarted"}
        result.append(entry)
    return result


def whole(trials: list[dict]) -> list[dict]:
    """The trials whose runs were all trained to their end."""
    return [trial for trial in trials if trial["state"] == "complete"]


def write_results(study, folder: Path, args, settings: dict, plots: bool) -> dict | None:
    """Write study.json, best.json and best.sh, and with `plots` the pictures.

    Returns what `standing` says of the best trial. Where there is none, best.json and best.sh are removed.
    """
    import optuna

    trials = trials_of(study)
    complete = whole(trials)
    found = standing(complete)
    about = {"study": args.study_name, **settings, "best": found and found["best"], "standing": found, "trials": trials}
    importance = {}
    if plots and len({trial["value"] for trial in complete}) > 1:
        with contextlib.suppress(RuntimeError, ValueError):  # too few trials to tell
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    write_json(folder / "study.json", about | ({"importance": importance} if plots else {}))
    if plots and complete:
        draw(about, importance, folder)
    if found:
        best = next(trial for trial in complete if trial["number"] == found["best"])
        write_best(best, found, folder, args, settings)
    else:
        for name in ("best.json", "best.sh"):
            (folder / name).unlink(missing_ok=True)
    return found


def write_best(best: dict, found: dict, folder: Path, args, settings: dict) -> None:
    """Write best.json, and best.sh, which trains the best trial's configuration with other seeds."""
    budget = {name: settings[name] for name in ("max_minutes", "total_timesteps") if settings[name] is not None}
    words = flags(best["params"] | {"size": args.size} | budget)
    content = {"architecture": settings["arch"], "study": args.study_name, "trial": best["number"], "flags": words}
    keys = ("value", "success_by_seed", "validation_levels", "params", "parameters")
    content |= {key: best[key] for key in keys} | {"size": args.size, "standing": found}
    write_json(folder / "best.json", content)
    fresh = range(max(args.seeds) + 1, max(args.seeds) + 1 + max(3, len(args.seeds)))
    levels = best["validation_levels"] or "its"
    started = shlex.quote(args.arch) if args.arch.endswith(".py") else f"-m npp_rl.ppo_{args.arch}"
    lines = [
        "#!/usr/bin/env bash",
        f"# {settings['arch']}, study {args.study_name}. {in_words(found)}.",
        f"# Success on {levels} validation levels, mean over the seeds {' '.join(map(str, args.seeds))}.",
        "# The best of many trials is partly the luckiest: expect less of other seeds.",
        '# Trains it with seeds that the choice has not seen (SEEDS="4 5" sets others). Further arguments go to the',
        "# script; DRY_RUN=1 prints the commands; PYTHON names the interpreter.",
        "set -euo pipefail",
        f"for seed in ${{SEEDS:-{' '.join(map(str, fresh))}}}; do",
        f'  ${{DRY_RUN:+echo}} "${{PYTHON:-python}}" {started} --seed "$seed" \\',
        f'    {shlex.join([*settings["script_arguments"], *words])} "$@"',
        "done",
    ]
    write_atomically(folder / "best.sh", ("\n".join(lines) + "\n").encode())
    (folder / "best.sh").chmod(0o755)
