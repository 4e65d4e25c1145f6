"""What else differs between the runs of a comparison: arguments, budgets, steps, machines, revisions, observations.

A verdict on networks is worth little where the networks were trained differently. So whatever differs is said with it.
"""

import ast
import contextlib
import functools
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import npp_rl
from benchmark.reporting import plots
from benchmark.reporting.experiments import CONDITIONS, Run, part, readable
from benchmark.reporting.page import Table, Text
from benchmark.reporting.sections import Comparison, Contender, listed, seeds
from npp_rl import ARCHITECTURES

# Arguments that are not compared, because they do not change what an agent learns in a step.
WHERE = "say where a run is written, watched or copied to"
NOT_COMPARED = {
    "seed": "replications differ in it",
    "label": "names the contender",
    "exp_name": "names the script",
    "pretrained_checkpoint": "each seed has its own; whether there is one is the condition",
    "run_dir": WHERE,
    "resume": WHERE,
    "track": WHERE,
}
PREFIXES = ("wandb_", "s3_")  # the same
# The arguments that a verdict names first. The others follow in the order of config.json.
FIRST = ("max_minutes", "learning_rate", "num_envs", "num_steps", "num_minibatches", "update_epochs", "gamma")
FIRST += ("gae_lambda", "clip_coef", "ent_coef", "train_dataset", "fresh_levels", "size")
NAMED = 4  # differences that the verdict names; the table has all
MISSING = "not recorded"
STEPS = 1.2  # ratio of the contenders' steps from which they count as different
OWN_STEPS = 1.5  # the same among the runs of a contender


@dataclass
class Difference:
    """An argument, or what else is recorded of a run, that is not the same in all runs."""

    name: str
    kind: str  # "argument", or "design" for what each network has of its own
    values: dict[str, Counter]  # contender -> texts of the value, and how many of its runs have it

    @property
    def inside(self) -> list[str]:
        """The contenders whose own runs differ in it."""
        return [name for name, found in self.values.items() if len(found.keys() - {MISSING}) > 1]

    def of(self, name: str) -> str:
        """The value of a contender, of several the most frequent one."""
        return self.values[name].most_common(1)[0][0]

    @property
    def between(self) -> bool:
        """Whether contenders differ in it, beyond what some have not recorded."""
        return len({self.of(name) for name in self.values} - {MISSING}) > 1


def written(value) -> str:
    """A value of config.json as people write it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str):
        return readable(value) if value else '""'
    if isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value):
        return readable("x".join(map(repr, value)))
    try:
        if isinstance(value, float) and float(f"{value:g}") == value:
            return f"{value:g}"
        return readable(repr(value) if isinstance(value, (int, float)) else json.dumps(value))
    except (RecursionError, ValueError):  # nested too deep; an integer of thousands of digits
        return "..."


@functools.cache
def own_names() -> frozenset[str]:
    """The arguments that a network has of its own: the presets of `--size` set them, or not all scripts have them."""
    sizes, arguments = set(), []
    for architecture in ARCHITECTURES:
        with contextlib.suppress(OSError, ValueError, SyntaxError, AttributeError, TypeError):  # a script in the works
            code = (Path(npp_rl.__file__).parent / f"ppo_{architecture}.py").read_text("utf-8")
            for node in ast.parse(code).body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SIZES":
                    sizes |= {name for preset in ast.literal_eval(node.value).values() for name in preset}
                if isinstance(node, ast.ClassDef) and node.name == "Args":
                    arguments.append({field.target.id for field in node.body if isinstance(field, ast.AnnAssign)})
    shared = set.intersection(*arguments) if arguments else set()
    return frozenset(sizes | (set().union(*arguments) - shared))


def recorded(run: Run) -> dict[str, str]:
    """What is compared of a run: name -> text."""
    args = {k: v for k, v in run.args.items() if k not in NOT_COMPARED and not k.startswith(PREFIXES)}
    found = {readable(name, 40): written(value) for name, value in args.items()}
    if run.pretraining_minutes and run.budget is not None:
        found["max_minutes"] = written(round(run.budget, 1))  # the runner takes the pretraining's time off the run's
    levels = part(run.config, "levels")
    found |= {f"levels, {readable(name, 40)}": str(count) for name, count in levels.items()}
    versions = {name: text for name, text in part(run.config, "versions").items() if name not in ("python", "torch")}
    found |= {f"version of {readable(name, 40)}": readable(str(text)) for name, text in versions.items()}
    shapes = part(run.config, "observation_shapes")
    found |= {f"observation {readable(name, 40)}": written(shape) for name, shape in shapes.items()}
    if found:
        found |= {fact: readable(str(value)) for fact, of in FACTS.items() if (value := of(run)) is not None}
    return found


def differences(contenders: list[Contender]) -> list[Difference]:
    """What is not the same in all runs of some contenders, first what a verdict names first."""
    known = {id(run): recorded(run) for c in contenders for run in c.runs}
    names = dict.fromkeys(FIRST)
    names |= dict.fromkeys(name for c in contenders for run in c.runs for name in known[id(run)])
    found = []
    for name in names:
        values = {}
        for c in contenders:
            texts = Counter(known[id(run)].get(name, MISSING) for run in c.runs if known[id(run)])
            if texts:
                values[c.name] = texts
        if len({text for texts in values.values() for text in texts}) > 1:
            found.append(Difference(name, _kind(name, contenders, values), values))
    return found


def _kind(name, contenders, values):
    """Either "argument" or, where only architectures differ, in what each has of its own, "design"."""
    by_architecture: dict[str, set[str]] = {}
    for c in contenders:
        by_architecture.setdefault(c.architecture, set()).update(values.get(c.name, ()))
    if any(len(texts) > 1 for texts in by_architecture.values()):
        return "argument"
    if _is_argument(name):
        return "design" if name in own_names() else "argument"
    same = len({text for texts in by_architecture.values() for text in texts} - {MISSING}) == 1
    return "design" if same and name.startswith("observation ") else "argument"


FACTS = {
    "revision": lambda run: revision(run),
    "device": lambda run: run.config.get("device"),
    "machine": lambda run: run.config.get("machine"),
    "processor": lambda run: run.config.get("processor"),
    "CPU cores": lambda run: run.config.get("cpus"),
    "processes": lambda run: run.config.get("world_size"),
    "Python": lambda run: part(run.config, "versions").get("python"),
    "torch": lambda run: part(run.config, "versions").get("torch"),
    "actions in the test": lambda run: _settings(run),
}


# Rows of the table at the top.
SHOWN = ("max_minutes", "train_dataset", "test_dataset", "size", "frame_skip", "num_envs", *FACTS)


def _is_argument(name: str) -> bool:
    return name not in FACTS and not name.startswith(("levels, ", "observation ", "version of "))


def revision(run: Run) -> str | None:
    """The revision that a run was started from, and which changes the checkout had."""
    found = run.config.get("git_revision")
    if not found:
        return None
    changes = f" with changes {run.changes_digest}" if run.changes else " with changes"
    return found[:10] + (changes if run.changes or run.config.get("git_changed") else "")


def _settings(run):
    settings = part(run.results, "settings")
    if not settings:
        return None
    return "greedy" if settings.get("deterministic") else f"sampled, {settings.get('tries')} tries a level"


def head(comparison: Comparison, found: list[Difference]) -> tuple[list, list[str]]:
    """What was compared -> a line and a table of facts, and warnings where runs differ in what should be equal."""
    runs, lines, able = comparison.experiment.runs, list(comparison.notes), comparison.able
    numbers = sorted({run.seed for run in runs})
    rows = [
        ["contenders", listed([c.name for c in comparison.contenders], 12)],
        [
            "seeds",
            f"{listed(list(map(str, numbers)), 12)} ({len(runs)} runs, tested {sum(len(c.tested) for c in able)})",
        ],
        ["tested on", f"{len(comparison.levels)} levels that all runs played, {len(comparison.tasks)} categories"],
    ]
    equal = {name: {text for run in runs if (text := recorded(run).get(name))} for name in SHOWN}
    rows += [[name, listed(sorted(texts))] for name, texts in equal.items() if texts]
    minutes = [run.minutes for run in runs if math.isfinite(run.minutes)]
    if minutes:
        rows.append(["trained, minutes", f"{min(minutes):.1f} to {max(minutes):.1f}"])
        if max(minutes) > 1.1 * min(minutes) + 0.1:
            lines.append(
                f"Runs ended after {min(minutes):.1f} to {max(minutes):.1f} minutes, evaluations included: "
                "not a comparison at equal time."
            )
    sources = Counter(run.source for run in runs)
    if set(sources) - {"metrics.jsonl"}:
        rows.append(["metrics from", listed([f"{name} ({n} runs)" for name, n in sources.most_common()])])
    architectures = len({c.architecture for c in comparison.contenders})
    steps = [run.steps for run in runs if run.rows]
    words = [
        f"{architectures} architecture{'s' * (architectures > 1)}",
        " and ".join(CONDITIONS[name] for name in comparison.conditions),
        seeds(len(numbers)),
        f"{len(comparison.levels) or 'unnamed'} test levels",
        *([f"{_or(sorted(budgets))} minutes each"] if (budgets := equal["max_minutes"] - {"none"}) else []),
        *([f"{plots.short(min(steps))} to {plots.short(max(steps))} steps"] if steps else []),
        *([f"{_or(sorted(cores))} CPU core{'s' * (cores != {'1'})}"] if (cores := equal["CPU cores"]) else []),
        *sorted(equal["device"] - {"cpu"}),
        *([f"revision {_or(sorted(revisions))}"] if (revisions := equal["revision"]) else []),
    ]
    facts = [Text(" · ".join(words), "note"), Table(["", ""], rows, left=2, folded="What was compared, in full")]
    return facts, lines + _warnings(comparison, found)


def _warnings(comparison, found):
    lines = []
    counts = {len(c.tested) for c in comparison.contenders}
    if len(counts) > 1:
        lines.append(f"Contenders have {min(counts)} to {max(counts)} tested seeds.")
    for c in comparison.contenders:
        inside = [f"`{d.name}` {_counted(d.values[c.name])}" for d in found if c.name in d.inside]
        steps = [run.steps for run in c.runs if run.steps]
        if steps and max(steps) > OWN_STEPS * min(steps):
            inside.append(f"steps {plots.short(min(steps))} to {plots.short(max(steps))}")
        if inside:
            lines.append(f"Runs of {c.name} differ from one another: {'; '.join(inside)}.")
    for difference in found:
        if difference.name in FACTS and difference.between:
            lines.append(f"Runs differ in {difference.name}: {_counted(sum(difference.values.values(), Counter()))}.")
    return lines


def _counted(texts: Counter) -> str:
    return listed([f"{text} ({n} run{'s' * (n > 1)})" for text, n in texts.most_common()])


def _or(texts: list[str], most: int = 3) -> str:
    return " or ".join(texts[:most]) + " or others" * (len(texts) > most)


def reservation(comparison: Comparison, found: list[Difference], leader: Contender) -> str:
    """What a verdict has to add where the runs differ in more than their networks; "" where they do not."""
    able, sentences = comparison.able, []
    others = [c.name for c in able if c is not leader]
    apart = [d for d in found if d.kind == "argument" and d.between and leader.name in d.values]
    arguments = [d for d in apart if _is_argument(d.name)]
    if arguments and others:
        parts = []
        for difference in arguments[:NAMED]:
            theirs = Counter(difference.of(name) for name in others if name in difference.values)
            theirs = [text for text, _ in theirs.most_common() if text != difference.of(leader.name)]
            parts.append(f"`{difference.name}` {difference.of(leader.name)} ({_or(theirs)})")
        parts += [f"{len(arguments) - NAMED} more"] * (len(arguments) > NAMED)
        words = f"{leader.name} had other arguments than {others[0] if len(others) == 1 else 'the others'}"
        if len({c.architecture for c in able}) > 1:
            words = f"But besides its network {words}"
        elif len(comparison.conditions) > 1:
            words = f"But {words}"
        sentences.append(f"{words} (theirs in brackets): {listed(parts, 9)}.")
    parts = []
    steps = [float(np.mean([run.steps for run in c.tested])) for c in able if any(run.steps for run in c.tested)]
    if steps and min(steps) * STEPS < max(steps):
        parts.append(f"steps ({plots.short(min(steps))} to {plots.short(max(steps))})")
    minutes = [float(np.mean([run.minutes for run in c.tested])) for c in able]
    if max(minutes) > 1.1 * min(minutes) and not any(d.name == "max_minutes" for d in arguments):
        parts.append(f"minutes of training ({min(minutes):.1f} to {max(minutes):.1f})")
    for difference in (d for d in found if d.kind == "argument" and not _is_argument(d.name)):
        if difference.between or difference.inside:
            texts = sum(difference.values.values(), Counter())
            parts.append(f"{difference.name} ({_or([text for text, _ in texts.most_common()])})")
    if any(d.kind == "design" and d.name.startswith("observation ") for d in found):
        parts.append("observations")
    if parts:
        sentences.append(f"{'The runs also' if sentences else 'But the runs'} differ in {listed(parts)}.")
    for c in comparison.contenders:
        inside = [f"`{d.name}`" for d in found if c.name in d.inside and _is_argument(d.name)]
        if inside:
            sentences.append(f"The runs of {c.name} do not repeat one another: they differ in {listed(inside)}.")
    return " ".join(sentences)


def tables(comparison: Comparison, found: list[Difference]) -> list:
    """Every argument and every recorded circumstance that differs, and who has which value."""
    blocks, total = [], {c.name: sum(bool(recorded(run)) for run in c.runs) for c in comparison.contenders}
    for kind, folded in (("argument", ""), ("design", "What each network has of its own")):
        rows = [[d.name, text, who] for d in found if d.kind == kind for text, who in _holders(d.values, total)]
        if rows:
            blocks.append(Table(["", "value", "contenders"], rows, left=3, folded=folded))
    if any(d.kind == "argument" for d in found):
        blocks.insert(0, Text("A difference in success may come from any of these."))
    else:
        blocks.insert(0, Text("No argument differs, and no other recorded circumstance."))
    if unknown := sum(not recorded(run) for run in comparison.experiment.runs):
        blocks.append(Text(f"{unknown} runs have recorded no arguments, so theirs are not in the table.", "warn"))
    reasons = "; ".join(f"`{name}` {why}" for name, why in NOT_COMPARED.items() if why != WHERE)
    places = ", ".join(f"`{name}`" for name, why in NOT_COMPARED.items() if why == WHERE)
    return [*blocks, Text(f"Not compared: {reasons}; {places}, `wandb_...`, `s3_...` {WHERE}.", "note")]


def _holders(values, total):
    """(text of a value, which contenders have it), the most frequent first."""
    texts = Counter(text for found in values.values() for text in found.elements())
    for text, _ in texts.most_common():
        have = [n for n, found in values.items() if found[text]]
        lack = [n for n in values if n not in have]
        if len(have) > 3 and len(lack) < 3 and all(values[n][text] == total[n] for n in have):
            yield text, f"all but {listed(lack)}" if lack else "all"
            continue
        counts = [f" ({values[n][text]} of {total[n]} runs)" * (values[n][text] < total[n]) for n in have]
        yield text, listed([n + count for n, count in zip(have, counts, strict=True)], 8)
