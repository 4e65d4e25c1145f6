"""Compares finished runs and writes a report from which a person decides.

    python -m benchmark.report runs/EXPERIMENT
    python -m benchmark.report runs/ONE runs/OTHER --out report --weights success=3,generalisation=1,size=0

Writes report.html (one file that opens without a network), report.md and the folder `figures` beside it into --out (by
default `report` in the experiment's folder). An experiment is a folder in which run directories lie at any depth;
where a run has no metrics.jsonl, its TensorBoard or wandb data are read. Weights: see `benchmark/decision.py`.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import numpy as np

from benchmark.reporting import decision
from benchmark.reporting import details as report_details
from benchmark.reporting import page as report_page
from benchmark.reporting import scores as report_scores
from benchmark.reporting import sections as report_sections
from benchmark.reporting.experiments import read_experiments
from benchmark.reporting.page import Bullets, Heading, Text
from npp_rl.commands import ArgumentError, fail
from npp_rl.files import write_atomically

SEED = 20210830  # of all random choices: the same runs give the same report


def report(folders: list[Path], weights: dict[str, float]) -> tuple[str, list]:
    """Title and blocks of the report on some experiments; ValueError where a folder holds no run."""
    experiments = read_experiments(folders)
    comparisons = [report_sections.compare(experiment) for experiment in experiments]
    title = " and ".join(dict.fromkeys(experiment.name for experiment in experiments))
    blocks = [Heading(title, 1)]
    bodies = []
    for number, comparison in enumerate(comparisons):
        rng = np.random.default_rng([SEED, number])
        conclusion, body = one(comparison, weights, rng)
        several = len(comparisons) > 1
        blocks += [Heading(comparison.experiment.name, 3)] * several + conclusion
        for block in body:  # names of figures stay apart
            _rename(block, several, number)
        bodies += [Heading(comparison.experiment.name)] * several + body
    blocks.append(Heading("", 0))  # the page's list of sections
    for number, (suite, own) in enumerate(suites(comparisons).items()):
        if len(own) > 1:
            rng = np.random.default_rng([SEED, len(comparisons), number])
            between = report_details.across(own, rng)
            for block in between:
                _rename(block, "", number)
            blocks += [Heading(f"Between experiments, tested on {suite}"), *between]
    return title, [*blocks, *bodies, Heading("Method"), *method()]


def one(comparison: report_sections.Comparison, weights: dict[str, float], rng) -> tuple[list, list]:
    """Conclusion and sections of one experiment."""
    able = comparison.able
    matrix = decision.matrix([c.tested for c in able], weights, rng) if len(able) > 1 else None
    conclusion = report_sections.conclusion(comparison, matrix, rng)
    facts, warnings = report_sections.head(comparison)
    missing = sum(not c.tested for c in comparison.contenders)
    if missing:
        names = report_sections.listed([c.name for c in comparison.contenders if not c.tested])
        warnings.append(f"Without any tested run, and so not compared: {names}.")
    if comparison.experiment.problems:
        warnings.append(f"Missing or damaged, {len(comparison.experiment.problems)} in number: see Runs.")
    if warnings:
        conclusion.append(Bullets(warnings, "warn"))
    sections = []
    if able:
        sections.append(("Success", report_scores.success(comparison, rng)))
    sections.append(("Learning curves", report_scores.learning(comparison, rng)))
    if able:
        sections += [
            ("Decision matrix", report_sections.decide(comparison, matrix, weights)),
            ("Profiles", report_scores.profiles(comparison, rng)),
            ("Categories", report_scores.parts(comparison, rng)),
        ]
        if len(comparison.conditions) > 1:
            sections.append(("Pretraining", report_scores.pretraining(comparison, rng)))
        sections += [
            ("Cost", report_details.cost(comparison)),
            ("Failures", report_details.failures(comparison)),
            ("Levels", report_details.levels(comparison)),
        ]
    sections.append(("Runs", report_details.runs(comparison.experiment)))
    return facts[:1] + conclusion + facts[1:], [
        block for name, blocks in sections for block in (Heading(name), *blocks)
    ]


def suites(comparisons: list[report_sections.Comparison]) -> dict[str, list]:
    """Test suite -> the experiments that were tested on it."""
    found: dict[str, list] = {}
    for comparison in comparisons:
        name = str(comparison.experiment.runs[0].args.get("test_dataset", "unknown levels"))
        found.setdefault(Path(name).name, []).append(comparison)
    return found


def _rename(block, deeper, number):
    if isinstance(block, Heading) and deeper:
        block.level += 1
    figures = [block] if isinstance(block, report_page.Figure) else getattr(block, "figures", [])
    for figure in figures if number else []:
        figure.name = f"{figure.name}_{number + 1}"


def method() -> list:
    """How the figures were made."""
    return [
        Bullets(
            [
                "The unit of replication is the seed. One network plays all levels, so a bootstrap draw takes whole "
                "seeds (of each contender on its own); drawing seeds anew for each category, as Agarwal et al. "
                "(2021, section 4.1) do for agents trained on one task each, would make intervals far too narrow "
                "here.",
                "A percentile interval of few seeds is too short. Draws are stretched by sqrt(n / (n - 1)) and "
                "Student's t over the normal quantile. In simulations 95% intervals so made contain the truth in 92 "
                "to 95% of cases from two seeds on; plain ones in about 48% with two seeds, 73% with three, 85% with "
                "five, 91% with ten. The decision matrix's draws are stretched by the former alone, those of speed and "
                "size not at all.",
                "Intervals without width come from seeds that agree in everything. With three seeds of each, "
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
    text, figures = report_page.markdown(blocks, "figures")
    html = report_page.page(title, blocks)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in figures.items():
        write_atomically(folder / "figures" / name, content)
    write_atomically(folder / "report.md", text.encode(errors="backslashreplace"))
    write_atomically(folder / "report.html", html.encode(errors="backslashreplace"))


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.error = fail
    parser.add_argument("experiments", type=Path, nargs="+", metavar="EXPERIMENT", help="folder with run directories")
    parser.add_argument("--out", type=Path, help="folder of the report (default: EXPERIMENT/report)")
    parser.add_argument("--weights", help="of the criteria, as success=3,size=0; others as by default")
    args = parser.parse_args()
    try:
        title, blocks = report(args.experiments, decision.parse_weights(args.weights))
        out = args.out or args.experiments[0] / "report"
        write(out, title, blocks)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ArgumentError, ValueError) as error:
        fail(str(error))
    for block in blocks:
        if isinstance(block, Text) and block.kind == "lead":
            print(block.text.replace("**", ""))
    print(f"written to {out / 'report.html'} and report.md")


if __name__ == "__main__":
    main()
