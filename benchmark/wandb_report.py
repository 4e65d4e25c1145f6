"""Compare tracked runs by architecture in a report on Weights and Biases.

python -m benchmark.wandb_report --entity TEAM --project npp-rl
python -m benchmark.wandb_report --entity TEAM --project npp-rl --architectures gat gcn --tags night
python -m benchmark.wandb_report --entity TEAM --project npp-rl --dry-run > spec.json    # asks nobody

The runs are those that the scripts tracked (--track); they are grouped by the architecture in their configuration, one
run set each. Without wandb the local report (`python -m benchmark.report`) has the same panels, and intervals besides.
Needs wandb-workspaces, extra `wandb`.
"""

import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, command, say
from npp_rl.levels.categories import CATEGORIES
from npp_rl.training.source import NAME

NEEDS = 'a report on Weights and Biases needs wandb and wandb-workspaces: pip install -e ".[wandb]"'
LOCAL = "python -m benchmark.report makes the same panels without it"
FEW = 5  # seeds; with fewer a mean says little


@dataclass
class Args:
    """Without wandb, the local report (`python -m benchmark.report`) has the same panels."""

    project: str = "npp-rl"
    """project on Weights and Biases that holds the runs, and will hold the report"""
    entity: str | None = None
    """team or user on Weights and Biases (default: that of the login)"""
    architectures: tuple[str, ...] = ()
    """architectures to compare, those of your own scripts too (default: all of the eight that have runs)"""
    tags: tuple[str, ...] = ()
    """compare only runs with one of these tags"""
    title: str = "N++: architectures compared"
    """title of the report"""
    draft: bool = False
    """save it as a draft, which only its author sees"""
    dry_run: bool = False
    """print the report's specification as JSON without asking Weights and Biases: no login, no network, and no table"""


def tracked_runs(
    api, entity: str, project: str, tags: tuple[str, ...], named: tuple[str, ...] = ()
) -> dict[str, list[dict]]:
    """The project's runs by architecture: `name`, `config`, `summary` (the last value of each metric) of each.

    They are of ARCHITECTURES, and of those that are `named`.

    Raises ArgumentError where there is no such project or no run of ours in it.
    """
    filters = {"tags": {"$in": list(tags)}} if tags else {}
    found = defaultdict(list)
    try:
        for run in api.runs(f"{entity}/{project}", filters=filters, lazy=False):
            if (architecture := run.config.get("architecture")) in (*ARCHITECTURES, *named):
                found[architecture].append({"name": run.name, "config": run.config, "summary": dict(run.summary)})
    except ValueError as error:  # how the library says that there is no such project
        raise ArgumentError(f"--project {project}: {' '.join(str(error).split())[:200]} (of {entity})") from None
    if not found:
        wanted = f" with a tag of {', '.join(tags)}" if tags else ""
        raise ArgumentError(f"--project {project}: {entity} has no tracked run in it{wanted} (--track makes them)")
    return {name: found[name] for name in in_order(found)}


def in_order(names) -> list[str]:
    """Architectures in the order of ARCHITECTURES, then those of scripts of one's own by name."""
    return [name for name in ARCHITECTURES if name in names] + sorted(set(names) - set(ARCHITECTURES))


def table(runs: dict[str, list[dict]]) -> str:
    """Markdown: a row for each architecture with means over its tested runs, and the least and the greatest success."""
    lines = ["| architecture | runs | tested | success on test levels | least to greatest | steps/s | parameters |"]
    lines.append("| --- | ---: | ---: | ---: | --- | ---: | ---: |")
    rows, fewest = [], None
    for name, own in runs.items():
        success = [run["summary"]["test/success_rate"] for run in own if "test/success_rate" in run["summary"]]
        speed = [run["summary"]["charts/SPS"] for run in own if "charts/SPS" in run["summary"]]
        sizes = sorted({run["config"]["parameters"] for run in own if "parameters" in run["config"]})
        mean = float(np.mean(success)) if success else None
        least = f"{min(success):.1%} to {max(success):.1%}" if success else "-"
        rate = "-" if mean is None else f"{mean:.1%}"
        steps = f"{np.median(speed):,.0f}" if speed else "-"
        size = " / ".join(f"{count:,}" for count in sizes) or "-"
        row = f"| {name} | {len(own)} | {len(success)} | {rate} | {least} | {steps} | {size} |"
        rows.append((-1.0 if mean is None else mean, row))
        fewest = len(success) if fewest is None else min(fewest, len(success))
    lines += [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
    if fewest < FEW:
        lines += ["", f"An architecture has {fewest} tested runs: too few for a conclusion about which one is best."]
    labels = {str((run["config"].get("args") or {}).get("label") or "none") for own in runs.values() for run in own}
    if len(labels) > 1:
        words = f"Runs of an architecture have several labels ({', '.join(sorted(labels))}), and are one group here."
        lines += ["", f"{words} Labels are tags: `--tags LABEL` compares its runs alone."]
    return "\n".join(lines)


def build(args: Args, entity: str, runs: dict[str, list[dict]]):
    """The report of `runs` by architecture, not yet saved: text, a table, and grids of panels."""
    import wandb_workspaces.reports.v2 as wr

    group = wr.Config("architecture")
    tagged = f" and Tags in [{', '.join(repr(tag) for tag in args.tags)}]" if args.tags else ""
    columns = ["run:displayName", "config:args.value.seed", "summary:test/success_rate", "summary:eval/success_rate"]
    columns += ["summary:charts/SPS", "summary:minutes", "summary:global_step", "config:parameters.value"]
    columns += ["config:args.value.size", "config:device.value", "tags:__ALL__"]

    def run_sets(detailed=False):
        """A set for each architecture, so that a reader can hide it; its runs are one group."""
        return [
            wr.Runset(
                entity=entity,
                project=args.project,
                name=name,
                filters=f"Config('architecture') = '{name}'{tagged}",
                groupby=[] if detailed else ["config.architecture"],
                order=[wr.OrderBy(wr.SummaryMetric("test/success_rate"), ascending=False)],
                **({"visible_columns": columns, "column_order": columns, "lock_columns": True} if detailed else {}),
            )
            for name in runs
        ]

    def lines(title, x, metrics, label, **more):
        axis = {"global_step": "environment steps", "minutes": "minutes"}[x]
        return wr.LinePlot(
            title=title,
            x=x,
            y=metrics,
            title_x=axis,
            title_y=label,
            groupby=group,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=200,
            **more,
        )

    def bars(title, metric, label):
        return wr.BarPlot(
            title=title,
            metrics=[metric],
            title_x=label,
            groupby=group,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )

    def grid(panels, width=12, **more):
        for k, panel in enumerate(panels):
            panel.layout = wr.Layout(x=width * k % 24, y=8 * (width * k // 24), w=width, h=8)
        return wr.PanelGrid(runsets=run_sets(**more), panels=panels)

    rate, smooth = {"range_y": (0, 1)}, {"smoothing_type": "exponentialTimeWeighted", "smoothing_factor": 0.6}
    blocks = [
        wr.TableOfContents(),
        wr.MarkdownBlock(
            "Curves and bars are means over the runs (seeds) of an architecture, bands the least and the greatest. "
            "Compare at equal wall-clock time first. Success on validation levels chooses checkpoints; the test suite "
            "is played once, at the end of a run."
        ),
        wr.H1("Result"),
        wr.MarkdownBlock(table(runs) if any(runs.values()) else "(A dry run reads no runs for the table.)"),
        grid(
            [
                bars("Success on test levels", "test/success_rate", "share of levels won"),
                bars("Safety on test levels", "test/safety", "share of levels without a death"),
                bars("Efficiency on test levels", "test/efficiency", "shortest way / way travelled"),
                bars("Steps to finish", "test/steps", "steps, won levels"),
            ]
        ),
        wr.H1("Learning curves"),
        grid(
            [
                lines("Validation success over time", "minutes", ["eval/success_rate"], "levels won", **rate),
                lines("Validation success over steps", "global_step", ["eval/success_rate"], "levels won", **rate),
                lines("Training success over time", "minutes", ["charts/success_rate"], "won", **rate, **smooth),
                lines("Training success over steps", "global_step", ["charts/success_rate"], "won", **rate, **smooth),
                lines("Episodic return", "global_step", ["charts/episodic_return"], "return", **smooth),
                lines("Episode length", "global_step", ["charts/episodic_length"], "steps", **smooth),
            ]
        ),
        wr.H1("Success per category"),
        grid([bars(f"Test: {name}", f"test/{name}", "share of levels won") for name in CATEGORIES], width=8),
        grid(
            [
                lines(f"Training: {name}", "minutes", [f"success/{name}"], "won", **rate, **smooth)
                for name in CATEGORIES
            ],
            width=8,
        ),
        wr.H1("Speed and cost"),
        grid(
            [
                bars("Training steps per second", "charts/SPS", "steps/s"),
                lines("Training steps per second", "minutes", ["charts/SPS"], "steps/s"),
                lines("Memory of the process", "minutes", ["system/memory_mib"], "MiB"),
                lines("Share of time in the update", "minutes", ["time/update"], "share", **rate),
                wr.ScatterPlot(
                    title="Success against size", x=wr.Config("parameters"), y=wr.SummaryMetric("test/success_rate")
                ),
                wr.ScatterPlot(
                    title="Success against speed",
                    x=wr.SummaryMetric("charts/SPS"),
                    y=wr.SummaryMetric("test/success_rate"),
                ),
            ]
        ),
        wr.H1("Optimisation"),
        grid(
            [
                lines("Value loss", "global_step", ["losses/value_loss"], "loss", **smooth),
                lines("Entropy", "global_step", ["losses/entropy"], "nats", **smooth),
                lines("Approximate KL", "global_step", ["losses/approx_kl"], "nats", **smooth),
                lines("Explained variance", "global_step", ["losses/explained_variance"], "share", **smooth),
            ]
        ),
        wr.H1("Videos"),
        grid(
            [wr.MediaBrowser(title="Test episodes", media_keys=["videos/won", "videos/lost"], num_columns=4)], width=24
        ),
        wr.H1("All runs"),
        grid([wr.RunComparer(diff_only="split")], width=24, detailed=True),
    ]
    description = f"Runs of {args.project} by architecture: {', '.join(runs)}"
    return wr.Report(
        entity=entity, project=args.project, title=args.title, description=description, blocks=blocks, width="fluid"
    )


def main(args: Args) -> str | None:
    """Save the report; its address, or None for a dry run. Raises ArgumentError where it cannot be made or saved."""
    os.environ.setdefault("WANDB_SILENT", "true")  # its own lines; ours say what happened
    try:
        import wandb
        import wandb_workspaces.reports.v2  # noqa: F401
    except ImportError:
        raise ArgumentError(f"{NEEDS}; {LOCAL}") from None
    if not args.title or len(args.title) > 128:
        raise ArgumentError("--title: expected 1 to 128 characters")
    for name in args.architectures:
        if not re.fullmatch(NAME, name):
            raise ArgumentError(f"--architectures {name!r:.60}: expected names such as {ARCHITECTURES[0]}")
    if args.dry_run:
        chosen = in_order(args.architectures or ARCHITECTURES)
        report = build(args, "", {name: [] for name in chosen})  # with a team, the library would ask for its id
        spec = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
        print(json.dumps(json.loads(spec), indent=1))
        return None
    try:
        api = wandb.Api()
        entity = args.entity or api.default_entity
        if not entity:
            raise ArgumentError("--entity: the login has no default team, expected its name")
        runs = tracked_runs(api, entity, args.project, args.tags, args.architectures)
        if missing := [name for name in args.architectures if name not in runs]:
            raise ArgumentError(f"--architectures {missing[0]}: no tracked run (there are {', '.join(runs)})")
        runs = {name: own for name, own in runs.items() if name in (args.architectures or runs)}
        report = build(args, entity, runs)
        report.save(draft=args.draft)
    except ArgumentError:
        raise
    except Exception as error:  # not logged in, no network, no permission: the library raises errors of many kinds
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ArgumentError(f"Weights and Biases: {reason} (`wandb login` logs in; {LOCAL})") from None
    counts = ", ".join(f"{name} {len(own)}" for name, own in runs.items())
    say(f"runs: {counts}")
    say(report.url)
    return report.url


if __name__ == "__main__":
    command(main, Args)
