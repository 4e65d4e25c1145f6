"""Keep a finished run's small results, and draw learning curves and games.

    python -m benchmark.curves keep RUN_DIR --out benchmark/results/EXPERIMENT/NAME
    python -m benchmark.curves plot benchmark/results/EXPERIMENT/* --out curves.png
    python -m benchmark.curves tries RUN_DIR/checkpoints/best.pt --level exploration/test_0002 --out tries.png
    python -m benchmark.curves strip RUN_DIR --level exploration/test_0002 --out strip.png

`keep` writes config.json, eval_results.json without the actions, and metrics.jsonl thinned to 50 training rows, all
without machine paths. `plot` draws success on training levels over minutes, for all categories and their mean. `tries`
draws an agent's tries on a built-in test level, with sampled actions. `strip` draws moments of the game that an
evaluation played on a level, from the actions in RUN_DIR/eval_results.json.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from npp_rl.commands import ArgumentError, UserError, command
from npp_rl.files import LOG_BYTES, parsed, read_json, read_text, write_atomically
from npp_rl.levels.categories import CATEGORIES

MOST_ROWS = {"train": 50, "eval": 20}  # kept rows of a kind, the last one among them
SMOOTHING = 0.85  # weight of the past in the drawn curves


def read_metrics(run: Path) -> list[dict]:
    """Rows of a run's metrics.jsonl. Raises UserError where it is damaged, OSError where it is missing."""
    rows = []
    for number, line in enumerate(read_text(run / "metrics.jsonl", LOG_BYTES).splitlines(), 1):
        row = parsed(line, f"{run / 'metrics.jsonl'}: line {number}")
        if not isinstance(row.get("kind"), str) or not isinstance(row.get("minutes"), (int, float)):
            raise UserError(f"{run / 'metrics.jsonl'}: line {number} has no kind and minutes")
        rows.append(row)
    if not rows:
        raise UserError(f"{run / 'metrics.jsonl'}: is empty")
    return rows


def without_folders(value):
    """A JSON value in which only the last part of every absolute path is left."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def keep(run: Path, out: Path) -> None:
    """Copy what reports need of a finished run into `out`. Raises UserError, OSError."""
    rows = read_metrics(run)
    for kind, most in MOST_ROWS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        stride = max(-(-len(of_kind) // most), 1)
        kept = {id(row) for row in of_kind[::-1][::stride]}
        rows = [row for row in rows if row["kind"] != kind or id(row) in kept]
    rounded = [{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    names = ("eval_results.json", "config.json")
    results, config = (read_json(run / name) for name in names)
    for entry in results.get("levels", []):
        for episode in entry.get("tries", []):  # kept results have none
            episode.pop("actions", None)  # most of the file; `python -m npp_rl.evaluation` makes them again
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "config.json", json.dumps(without_folders(config), indent=1).encode() + b"\n")
    documents = (without_folders(results), *rounded)
    results, *lines = (json.dumps(document, separators=(",", ":")).encode() + b"\n" for document in documents)
    write_atomically(out / "eval_results.json", results)
    write_atomically(out / "metrics.jsonl", b"".join(lines))


def title_of(run: Path) -> str:
    """What trained: architecture, label and seed, and on what, by the run's config.json. Raises UserError, OSError."""
    config = read_json(run / "config.json")
    args = config["args"] if isinstance(config.get("args"), dict) else {}
    who = [str(config.get("architecture", run.name)), str(args.get("label") or ""), f"seed {args.get('seed', '?')}"]
    device, processes = str(config.get("device", "cpu")), config.get("world_size", 1)
    on = [device if processes == 1 else f"{processes} x {device}"] if device != "cpu" else []
    threads, cores = config.get("threads"), config.get("cpus")
    if device == "cpu" and isinstance(threads, int) and isinstance(cores, int) and isinstance(processes, int):
        threads *= processes
        on = [f"{threads} thread{'s' * (threads != 1)} on {cores} core{'s' * (cores != 1)}"]
    return "\n".join(line[:80] for line in (", ".join(filter(None, who)), *on))


def plot(runs: list[Path], out: Path) -> None:
    """Write a PNG of the runs' learning curves, one panel a run. Raises UserError, OSError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = [title_of(run) for run in runs]
    figure, panels = pyplot.subplots(1, len(runs), figsize=(5.6 * len(runs), 4), sharey=True, squeeze=False)
    for run, title, panel in zip(runs, titles, panels[0], strict=True):
        rows = [row for row in read_metrics(run) if row["kind"] == "train"]
        smooth, curves = {}, {name: ([], []) for name in (*CATEGORIES, "mean")}
        for row in rows:
            for name in CATEGORIES:
                if (value := row.get(f"success/{name}")) is not None:
                    smooth[name] = SMOOTHING * smooth[name] + (1 - SMOOTHING) * value if name in smooth else value
            for name, value in {**smooth, "mean": sum(smooth.values()) / max(len(smooth), 1)}.items():
                curves[name][0].append(row["minutes"])
                curves[name][1].append(100 * value)
        for k, (name, (minutes, success)) in enumerate(curves.items()):
            mean = name == "mean"
            color = "black" if mean else pyplot.get_cmap("tab10")(k)
            panel.plot(minutes, success, label=name, color=color, linewidth=2.5 if mean else 1.2)
        panel.set(xlabel="minutes", ylim=(0, 101), xlim=(0, None))
        panel.set_title(title, fontsize=10, parse_math=False)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("episodes won, % (training levels, sampled actions)")
    panels[0][-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_atomically(out, picture.getvalue())


@dataclass
class Keep:
    """Copy a finished run's small results."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """directory of the run"""
    out: Path
    """new folder for them"""


@dataclass
class Plot:
    """Draw learning curves of kept or whole runs."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN_DIR ...", help_behavior_hint="(at least one)"),
    ]
    """directories of the runs"""
    out: Path
    """PNG file to write"""


@dataclass
class Tries:
    """Draw tries of an agent on a built-in test level."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """checkpoint of the agent"""
    level: str
    """name of the level, such as exploration/test_0002"""
    out: Path
    """PNG file to write"""
    script: str | None = None
    """the agent's script, if its architecture is none of the eight: a path that ends in .py"""


@dataclass
class Strip:
    """Draw moments of the game that an evaluation played on a level."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """directory with its eval_results.json"""
    level: str
    """name of the level, such as exploration/test_0002"""
    out: Path
    """PNG file to write"""
    dataset: str = "builtin"
    """the levels that were played"""


@dataclass
class Args:
    """Keep a finished run's small results, and draw learning curves and games."""

    command: Annotated[Keep | Plot | Tries | Strip, tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes]
    """what to do"""


def main(args: Args) -> None:
    """Carry out a command. Raises UserError, OSError."""
    asked = args.command
    match asked:
        case Keep():
            keep(asked.run, asked.out)
        case Plot():
            if not asked.runs:
                raise ArgumentError("RUN_DIR: expected at least one directory of a run")
            plot(list(asked.runs), asked.out)
        case Tries():
            from benchmark.reporting.games import draw_tries  # needs torch and the simulator

            draw_tries(asked.checkpoint, asked.level, asked.out, named=(asked.script,) if asked.script else ())
        case Strip():
            from benchmark.reporting.games import draw_strip

            draw_strip(asked.run, asked.level, asked.dataset, asked.out)


if __name__ == "__main__":
    command(main, Args)
