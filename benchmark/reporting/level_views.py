"""Every test level with the run of every contender on it, as data that the page draws when a level is opened.

Paths come from the actions in eval_results.json, which the simulator plays again. The data of a level are JSON,
deflated (zlib), in base64:

- `b`: left, top, right and bottom of what the ninja can reach, px;
- `t`: its 23 x 42 tiles, two hexadecimal digits each, top row first;
- `e`: entities at the start as [symbol, x, y], the lowest layer first. A symbol is SVG, relative to (x, y);
- `r`: runs as [contender, seed, outcome, frames, path]. Outcomes are indices of `outcomes`. A path is x, y of the start
  in px, then differences, each `stride` frames after the one before, the last one at the end of the run. It is empty
  where nothing is known of the run but its outcome.
"""

import base64
import json
import math
import os
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from benchmark.reporting.experiments import Run, number, part
from benchmark.reporting.page import LevelViews
from benchmark.reporting.sections import Comparison, listed, seeds
from npp_rl.commands import UserError
from npp_rl.environment.games import CAUSES, inputs_of
from npp_rl.levels import builtin
from npp_rl.levels.datasets import load_suite
from npp_rl.levels.maps import RECORDS_AT, Level
from npp_rl.simulator import DEAD, WON, simulate
from npp_rl.simulator.tiles import SOLID, TILES
from npp_rl.viewing.figure import draw_ninja
from npp_rl.viewing.render import reachable_box
from npp_rl.viewing.shapes import at_start, look, things

STRIDES = (4, 8, 16, 32)  # frames between two points of a path; the least with which the data are small enough
BYTES = 3_500_000  # of all levels' data
MOST_RUNS = 48  # on a level, if a contender's first seed is not too much already
MOST_FILES = 50_000  # in a data set that is still searched for levels
MOST_FRAMES = 100_000  # of an episode


class SvgPen:
    """Takes the calls of `viewing.shapes.Pen` and writes SVG, in px of the field."""

    def __init__(self):
        self.parts = []

    def polygon(self, points, fill):
        self.parts.append(f'<path d="M{_points(points)}Z" {_paint("fill", fill)}/>')

    def disc(self, x, y, radius, fill):
        self.parts.append(f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius:.4g}" {_paint("fill", fill)}/>')

    def ring(self, x, y, radius, width, fill):
        middle = f'cx="{x:.4g}" cy="{y:.4g}" r="{radius - width / 2:.4g}"'
        self.parts.append(f'<circle {middle} fill="none" stroke-width="{width:.4g}" {_paint("stroke", fill)}/>')

    def box(self, x, y, half, fill, corner=0.0):
        size = f'width="{2 * half:.4g}" height="{2 * half:.4g}" rx="{corner:.4g}"'
        self.parts.append(f'<rect x="{x - half:.4g}" y="{y - half:.4g}" {size} {_paint("fill", fill)}/>')

    def line(self, points, width, fill, round_ends=True):
        ends = ' stroke-linecap="round"' if round_ends and len(fill) == 3 else ""
        look = f'fill="none" stroke-linejoin="round" stroke-width="{width:.4g}"{ends}'
        self.parts.append(f'<path d="M{_points(points)}" {look} {_paint("stroke", fill)}/>')


def _points(points):
    return "L".join(f"{x:.4g} {y:.4g}" for x, y in points)


def _paint(what, color):
    clear = f' {what}-opacity="{color[3] / 255:.2f}"' if len(color) == 4 else ""
    return f'{what}="#{color[0]:02x}{color[1]:02x}{color[2]:02x}"{clear}'


def level_views(comparison: Comparison) -> tuple[LevelViews | None, list[str]]:
    """The levels that all tested runs played, as far as they can be found, and what is missing."""
    able, problems = comparison.able, []
    digests = {}
    for c in able:
        for run in c.tested:
            for name, digest in run.digests.items():
                digests.setdefault(name, digest)
    found = find_levels([run for c in able for run in c.tested], set(digests.values()), problems)
    known = {name: found[digests[name]] for name in comparison.levels if digests.get(name) in found}
    if missing := [name for name in comparison.levels if name not in known]:
        problems.append(
            f"{len(missing)} of {len(comparison.levels)} levels are not where the runs found them, and have no "
            f"pictures: {listed(missing, 3)}."
        )
    if not known:
        return None, problems
    most = max(1, MOST_RUNS // len(able))
    entries = [(k, run, {e["id"]: e for e in run.entries}) for k, c in enumerate(able) for run in c.tested[:most]]
    if left := sum(len(c.tested[most:]) for c in able):
        problems.append(f"Levels are opened with the first {seeds(most)} of each contender, without {left} runs.")
    outcomes, counts, runs = ["won", "out of time"], Counter(), {}
    for name, level in known.items():
        runs[name] = [_run(level, k, run, own[name], outcomes, counts) for k, run, own in entries]
    if counts["without"]:
        problems.append(
            f"{counts['without']} of {counts.total()} episodes have no actions in eval_results.json, so their paths "
            "cannot be drawn. `python -m npp_rl.evaluation --checkpoint RUN/checkpoints/best.pt` plays them again."
        )
    if counts["bad"]:
        problems.append(f"{counts['bad']} episodes have actions that cannot be played.")
    if counts["other"]:
        problems.append(
            f"{counts['other']} episodes end differently than recorded when they are played again, so their paths are "
            "left out (another version of the simulator?)."
        )
    symbols: dict[tuple, int] = {}
    drawn = {name: _geometry(level, symbols) for name, level in known.items()}
    stride, packed = STRIDES[0], {}
    for stride in STRIDES:
        packed = {name: pack({**drawn[name], "r": [_thin(run, stride) for run in runs[name]]}) for name in known}
        if sum(map(len, packed.values())) <= BYTES:
            break
    if stride != STRIDES[0]:
        problems.append(f"To keep the page small, paths have a point every {stride} frames only.")
    size, bare = sum(map(len, packed.values())), []
    spread = dict(zip(comparison.levels, np.ptp([c.levels.mean(0) for c in able], axis=0), strict=True))
    for name in sorted(known, key=spread.get):  # levels on which contenders agree are left without paths first
        if size <= BYTES:
            break
        size -= len(packed[name])
        packed[name] = pack({**drawn[name], "r": [[*run[:4], []] for run in runs[name]]})
        size += len(packed[name])
        bare.append(name)
    if bare:
        problems.append(f"To keep the page small, {len(bare)} levels on which contenders differ least have no paths.")
    views = LevelViews(
        contenders=[(c.name, c.colour, c.hollow) for c in able],
        outcomes=outcomes,
        stride=stride,
        tiles=_tile_shapes(),
        symbols=[_symbol(*key) for key in symbols],
        names=list(known),
        data=list(packed.values()),
    )
    return views, problems


def find_levels(runs: list[Run], digests: set[str], problems: list[str]) -> dict[str, Level]:
    """Digest -> level, from the data sets that the runs were tested on."""
    found, tried = {}, set()
    for run in runs:
        share = number(run.args, "holdout_fraction")
        source = str(run.args.get("test_dataset")), str(run.args.get("train_dataset")), share
        if source in tried or not digests - set(found):
            continue
        tried.add(source)
        try:
            if source[0] != "builtin":
                _check_folder(source[0])
            elif not digests & {row["sha256"] for row in builtin.table()}:  # saves making the levels
                continue
            levels = load_suite(source[0], source[1], share if math.isfinite(share) else 0.2)
        except (UserError, OSError, ValueError) as error:
            problems.append(f"No levels from {source[0]}: {str(error)[:160]}")
            continue
        found |= {level.digest: level for level in levels if level.digest in digests}
    return found


def _check_folder(name):
    if not Path(name).is_dir():
        raise UserError("no such folder here")
    count = 0
    for _, _, files in os.walk(name):
        count += len(files)
        if count > MOST_FILES:
            raise UserError(f"more than {MOST_FILES:,} files")


def _run(level, contender, run, entry, outcomes, counts):
    """[contender, seed, outcome, frames, positions int [frames + 1, 2] or None] of a run's first try on a level."""
    first = (entry.get("tries") or [{}])[0]
    won = first.get("success", entry["success_rate"] > 0)
    cause = first.get("cause")
    how = "won" if won else f"died: {cause}".replace("_", " ") if cause in CAUSES[1:] else "out of time"
    how = how if won or first else "lost"
    if how not in outcomes:
        outcomes.append(how)
    frames = first.get("frames", 0)
    shown = frames if frames <= MOST_FRAMES else 0
    row = [contender, str(run.seed), outcomes.index(how), shown, None]
    actions = first.get("actions")
    if actions is None:
        counts["without"] += 1
        return row
    skip = number(part(run.results, "settings"), "frame_skip")
    if not (actions and set(actions) <= set("012345") and shown and 0 < skip <= 60):
        counts["bad"] += 1
        return row
    places, states = simulate(level.map_data, inputs_of(actions, int(skip), shown))
    ended = int(states[-1]) if len(states) else 0
    if (ended == WON) != won or (ended == DEAD) != how.startswith("died") or len(places) != shown:
        counts["other"] += 1
        return row
    counts["played"] += 1
    row[4] = np.rint(np.concatenate([[level.spawn], places[:, :2]])).astype(np.int64)
    return row


def _thin(run, stride):
    *row, places = run
    if places is None:
        return [*row, []]
    some = places[::stride] if (len(places) - 1) % stride == 0 else np.concatenate([places[::stride], places[-1:]])
    return [*row, np.concatenate([some[:1], np.diff(some, axis=0)]).ravel().tolist()]


def pack(content: dict) -> str:
    """JSON, deflated, in base64."""
    return base64.b64encode(zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)).decode()


def _geometry(level, symbols):
    pieces = [piece for thing in things(level.map_data) for piece in look(thing, at_start(thing))]
    pieces.sort(key=lambda piece: piece[0])
    x, y = 6 * level.map_data[RECORDS_AT + 1], 6 * level.map_data[RECORDS_AT + 2]
    placed = [(shape, tuple(arguments), x, y) for _, shape, x, y, *arguments in pieces] + [(draw_ninja, (), x, y)]
    found = []
    for shape, arguments, x, y in placed:
        found += [[symbols.setdefault((shape, arguments), len(symbols)), round(x, 1), round(y, 1)]]
    return {"b": list(reachable_box(level.map_data)), "t": level.tiles.tobytes().hex(), "e": found}


def _symbol(shape, arguments):
    pen = SvgPen()
    shape(pen, 0.0, 0.0, *arguments)
    return "".join(pen.parts)


def _tile_shapes():
    """Path of the solid part of each tile; tiles 34 to 37 are lines that stop the ninja from one side."""
    shapes = [f"M{_points(corners)}Z" if corners else "" for corners in SOLID]
    sides = ("M0 0H24V2H0Z", "M24 0V24H22V0Z", "M0 24H24V22H0Z", "M0 0V24H2V0Z")
    return [*shapes, *sides][: len(TILES)]
