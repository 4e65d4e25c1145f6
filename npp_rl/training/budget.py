"""Another budget for a resumed run: other steps, minutes or epochs than it was given before."""

from pathlib import Path
from types import SimpleNamespace

from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.files import read_json, write_json

BUDGET = ("total_timesteps", "max_minutes", "epochs")  # arguments that say when a run ends
RESULTS = ("eval_results.json", "report.md")  # of the end of a run


def changed(old: dict, args) -> dict[str, tuple]:
    """{argument of the budget: (value before, value now)} of those that differ. old: the arguments before."""
    now = {name: getattr(args, name) for name in BUDGET if hasattr(args, name)}
    return {name: (old.get(name), value) for name, value in now.items() if old.get(name) != value}


def share(args, counters) -> float:
    """Share of a run that is over, about, by its budget."""
    if getattr(args, "max_minutes", None) is not None:
        return counters.minutes / args.max_minutes
    if hasattr(args, "epochs"):
        return counters.epoch / args.epochs
    return counters.global_step / args.total_timesteps


def check(old: dict, args, counters) -> None:
    """Raise ArgumentError for a changed budget that is used up or has no effect. counters: of the checkpoint.

    Of a run with a longer budget the counters then say that a smaller share is over.
    """
    done = {"total_timesteps": counters.global_step, "max_minutes": counters.minutes}
    done["epochs"] = getattr(counters, "epoch", 0)
    for name, (_, value) in changed(old, args).items():
        flag = f"--{name.replace('_', '-')} {value}"
        if name == "total_timesteps" and args.max_minutes is not None:
            raise ArgumentError(f"{flag}: this run ends by --max-minutes {args.max_minutes}, expected more minutes")
        if value is not None and value <= done[name]:
            raise ArgumentError(
                f"{flag}: the run has done {done[name]:,.6g} already, expected more (a new run with "
                f"--pretrained-checkpoint {args.resume}/checkpoints/best.pt begins from its weights)"
            )
    if changed(old, args) and hasattr(counters, "evaluated_share"):
        counters.evaluated_share = min(counters.evaluated_share, share(args, counters))


def note(run_dir: Path, old: dict, args, counters: dict) -> str:
    """Write a changed budget into a resumed run's config.json -> a line that says what changed; "" if nothing did.

    config.json then has the new budget in `args`, and the earlier ones with the step and minute of their end in
    `budgets`. Results of the earlier end get names with its step. Raises OSError, UserError.
    """
    differences = changed(old, args)
    if not differences:
        return ""
    place = run_dir / "config.json"
    config = read_json(place)
    if not isinstance(config.get("budgets", []), list):
        raise CheckpointError(f"{place}: budgets is {config['budgets']!r:.40}, expected a list")
    step, minutes = counters["global_step"], counters["minutes"]
    ended = {name: run_dir / f"{name.rpartition('.')[0]}_of_step_{step}.{name.rpartition('.')[2]}" for name in RESULTS}
    for path in ended.values():
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: expected no such folder, the earlier results get this name")
    if changed(config["args"], args):  # else it was written before the process died
        before = {name: value for name, value in config["args"].items() if name in BUDGET}
        before |= {"ended_at_step": step, "ended_at_minute": round(minutes, 3)}
        now = {name: value for name, (_, value) in changed(config["args"], args).items()}
        config |= {"args": config["args"] | now, "budgets": [*config.get("budgets", []), before]}
        try:
            write_json(place, config)
        except ValueError:
            raise CheckpointError(f"{place}: holds NaN or infinity (expected JSON, which has neither)") from None
    for name, path in ended.items():
        if (run_dir / name).is_file():
            (run_dir / name).replace(path)
    words = [f"{name} was {before}, is now {value}" for name, (before, value) in differences.items()]
    over = share(args, SimpleNamespace(**counters))
    return f"{', '.join(words)}: {over:.0%} of the run is over, from where the learning rate and other schedules go on"
