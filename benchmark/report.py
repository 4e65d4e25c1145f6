"""Compare finished runs and write a report from which a person decides.

    python -m benchmark.report runs/EXPERIMENT
    python -m benchmark.report runs/ONE runs/OTHER --out report --weights success=3,generalisation=1,size=0

The report is report.html (one file that opens without a network), report.md and the folder `figures` beside it. An
experiment is a folder in which run directories lie at any depth. Where a run has no metrics.jsonl, its TensorBoard or
wandb data are read. benchmark/reporting/decision.py says what the weights weigh.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from benchmark.reporting import decision, details, differences, learning, page, scores, sections, sources
from benchmark.reporting.experiments import read_experiments
from benchmark.reporting.page import Bullets, Heading, Text
from benchmark.reporting.significance import SEED
from npp_rl.commands import ArgumentError, command
from npp_rl.files import plain_name, write_atomically
from npp_rl.training.source import git


@dataclass
class Args:
    """Compare finished runs and write a report from which a person decides."""

    experiments: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="EXPERIMENT ...", help_behavior_hint="(at least one)"),
    ]
    """folders with run directories"""
    out: Path | None = None
    """folder of the report (default: `report` in the first experiment's folder, or `reports/NAME` here if git tracks
    files of that folder)"""
    weights: str | None = None
    """weights of the criteria, as success=3,size=0; those not named keep theirs"""
    pars: Path | None = None
    """planner's output folder on the test levels: which of them can be won, as a row beside the agents' success"""


def report(folders: list[Path], weights: dict[str, float], ceiling: dict | None = None) -> tuple[str, list]:
    """Title and blocks of the report on some experiments. Raises UserError where a folder holds no run.

    Experiments on the same test levels are one comparison, with one verdict and the same axes. ceiling: what the
    planner has won (`builtin.planned`).
    """
    comparisons = [sections.compare(experiment) for experiment in read_experiments(folders)]
    title = " and ".join(dict.fromkeys(comparison.experiment.name for comparison in comparisons))
    blocks = [Heading(title, 1)]
    bodies = []
    several = len(comparisons) > 1
    if several:
        names = sections.listed([comparison.experiment.name for comparison in comparisons])
        blocks.append(Text(f"{names} were tested on different levels, and so are not compared with one another."))
    for number, comparison in enumerate(comparisons):
        rng = np.random.default_rng([SEED, number])
        conclusion, body = one(comparison, weights, rng, ceiling or {})
        blocks += [Heading(comparison.experiment.name, 3)] * several + conclusion
        for block in body:
            if isinstance(block, Heading) and several:
                block.level += 1
        bodies += [Heading(comparison.experiment.name)] * several + body
    blocks.append(Heading("", 0))  # the page's list of sections
    return title, [*blocks, *bodies, Heading("Method"), *method()]


def one(comparison: sections.Comparison, weights: dict[str, float], rng, ceiling: dict) -> tuple[list, list]:
    """Conclusion and chapters of one experiment."""
    able = comparison.able
    matrix = decision.matrix([c.tested for c in able], weights, rng) if len(able) > 1 else None
    found = differences.differences(comparison.contenders)
    conclusion = sections.conclusion(comparison, matrix, rng, lambda c: differences.reservation(comparison, found, c))
    facts, warnings = differences.head(comparison, found)
    by_scripts, code = sources.scripts(comparison)
    warnings += by_scripts
    if missing := [c.name for c in comparison.contenders if not c.tested]:
        warnings.append(f"Without any tested run, and so not compared: {sections.listed(missing)}.")
    if comparison.experiment.problems:
        warnings.append(f"{len(comparison.experiment.problems)} things are missing or damaged: see Runs.")
    if warnings:
        conclusion.append(Bullets(warnings, "warn"))
    chapters = []
    if able:
        chapters.append(("Success", scores.success(comparison, rng)))
    chapters.append(("Learning curves", learning.learning(comparison, rng)))
    if able:
        chapters += [
            ("Decision matrix", sections.decide(comparison, matrix, weights)),
            ("Profiles", scores.profiles(comparison, rng)),
            ("Categories", scores.parts(comparison, rng) + scores.holdings(comparison, ceiling, rng)),
        ]
        if comparison.experiment.several:
            chapters.append(("Between experiments", scores.between(comparison, rng)))
        if len(comparison.conditions) > 1:
            chapters.append(("Pretraining", scores.pretraining(comparison, rng)))
        chapters += [
            ("Cost", details.cost(comparison)),
            ("Failures", details.failures(comparison)),
            ("Levels", details.levels(comparison)),
        ]
    if health := learning.health(comparison):
        chapters.append(("Training health", health))
    chapters.append(("What differs", differences.tables(comparison, found)))
    if code:
        chapters.append(("Scripts", code))
    chapters.append(("Runs", details.runs(comparison.experiment)))
    body = [block for name, blocks in chapters for block in (Heading(name), *blocks)]
    return facts[:1] + conclusion + facts[1:], body


def method() -> list:
    """How the figures were made."""
    return [
        Bullets(
            [
                "The unit of replication is the seed. One network plays all levels, so a bootstrap draw takes whole "
                "seeds, for each contender on its own. Agarwal et al. (2021, section 4.1) draw seeds anew for each "
                "category, which suits agents that were trained on one task each. Here it would make intervals far "
                "too narrow.",
                "A percentile interval of few seeds is too short. Draws are stretched by sqrt(n / (n - 1)) and by "
                "Student's t over the normal quantile. In simulations, 95% intervals made so contain the truth in 92 "
                "to 95% of cases from two seeds on. Plain ones do in about 48% with two seeds, 73% with three, 85% "
                "with five, 91% with ten. The decision matrix's draws are stretched by the former alone, those of "
                "speed and size not at all.",
                "What is beyond chance less than the best is decided by 95% intervals that hold together for all "
                "contenders: the wider of Tukey and Kramer's, with the variance of all contenders, and of Games and "
                "Howell's, with the variances of the two. In simulations with three to ten seeds, among them some "
                "with deviations 20 times apart, all of them contain the truth in 95 to 99% of cases (with two "
                "contenders in 94 to 97%).",
                "An interval without width comes from seeds that agree in everything. With three seeds of each, "
                "complete separation happens by chance in one of ten pairs of equal contenders.",
                "Test levels are held out from training. A single seed's interval is Wilson's over its levels and "
                "says nothing about the architecture.",
                "The decision matrix scores from the worst contender (0) to the best (1), but never over less than "
                "the spans that count as noticeable: five points of a share, a factor of two in speed and size.",
            ]
        )
    ]


def write(folder: Path, title: str, blocks: list) -> None:
    """Write report.html, report.md and its figures, each atomically."""
    text, figures = page.markdown(blocks, "figures")
    html = page.page(title, blocks)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in figures.items():
        write_atomically(folder / "figures" / name, content)
    write_atomically(folder / "report.md", text.encode(errors="backslashreplace"))
    write_atomically(folder / "report.html", html.encode(errors="backslashreplace"))


def place_for(experiment: Path) -> Path:
    """The folder of a report if none is named: git has no new files among an experiment's that it tracks.

    Raises ArgumentError where the current folder lies in such an experiment.
    """
    if not git(experiment, "-c", "core.fsmonitor=false", "ls-files", "-z", "--", "."):
        return experiment / "report"
    if Path.cwd().is_relative_to(experiment.resolve()):
        raise ArgumentError(f"--out: expected a folder for the report, since git tracks files of {experiment}")
    return Path("reports") / plain_name(experiment.resolve().name)


def main(args: Args) -> None:
    """Write the report and say its conclusion. Raises UserError, OSError."""
    if not args.experiments:
        raise ArgumentError("EXPERIMENT: expected at least one folder with run directories")
    ceiling = {}
    if args.pars:
        from npp_rl.levels.builtin import planned  # here: it loads the simulator, which reports do without

        ceiling = planned(args.pars)
    title, blocks = report(list(args.experiments), decision.parse_weights(args.weights), ceiling)
    out = args.out or place_for(args.experiments[0])
    write(out, title, blocks)
    for block in blocks:
        if isinstance(block, Text) and block.kind == "lead":
            print(block.text.replace("**", "").replace("`", ""))
    print(f"written to {out / 'report.html'} and report.md")


if __name__ == "__main__":
    command(main, Args)
