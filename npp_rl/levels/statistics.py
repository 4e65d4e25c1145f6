"""What levels are made of: shares of tiles, the room around the way, mines beside it, kinds of entities, symmetry.

python -m npp_rl.levels.statistics builtin levels/SI.txt     # one column for each data set

The way is the shortest free path from the ninja to the switch and on to the exit, with all doors open: around the mines
where that is possible, else through them. Of several exits the first counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from npp_rl.commands import ArgumentError, command
from npp_rl.levels import fields
from npp_rl.levels.copies import playable_part
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.maps import COLUMNS, EXIT_DOOR, EXIT_SWITCH, GROUPS, MAP_UNIT, MIRRORED, ROWS, Level

# Tile numbers of each family (PHYSICS.md 3.2).
TILE_FAMILIES = {
    "half tiles": range(2, 6),
    "slopes 1:1": range(6, 10),
    "curves": range(10, 18),
    "slopes 1:2": range(18, 26),
    "slopes 2:1": range(26, 34),
}
# Record types of each kind of entity (PHYSICS.md 2.1).
ENTITY_KINDS = {
    "mines": (1, 21),
    "gold": (2,),
    "regular doors": (5,),
    "locked doors": (6,),
    "trap doors": (8,),
    "launch pads": (10,),
    "one-ways": (11,),
    "bounce blocks": (17,),
    "boost pads": (24,),
    "drones": (14, 26),
    "floor guards": (16,),
    "thwumps": (20, 28),
    "death balls": (25,),
}
NEAR_MINE = 24.0  # px between a mine and a point of the way
_AROUND = 4  # nodes to each side: the square of 54 px around a point of the way
_POINTS = MAP_UNIT * np.arange(1.0, 4000.0)  # px along the way

_free = np.empty(fields.NODES, np.uint8)
_dist, _ahead = np.empty(fields.NODES, np.uint16), np.empty(fields.NODES, np.uint8)
_queue = np.empty(fields.QUEUE, np.int32)
_points = np.empty((len(_POINTS), 2), np.float32)


def _path(start, goal, touch):
    """(points [p, 2] px every 6 px, length px) of the shortest free path, None where there is none."""
    fields.distances(_free, np.array([goal], np.float64), touch, _dist, _ahead, _queue)
    length = fields.distance_at(_dist, float(start[0]), float(start[1]))
    if length < 0:
        return None
    fields.path_points(_dist, _ahead, float(start[0]), float(start[1]), _POINTS, _points)
    return np.vstack([start, _points[: int(length / MAP_UNIT)]]), length


def way(level: Level) -> tuple[np.ndarray, float]:
    """Points float64 [p, 2] px about every 6 px of the level's way, and its length px; ([0, 2], 0) if there is none."""
    tiles = np.ones((ROWS + 2, COLUMNS + 2), np.uint8)
    tiles[1:-1, 1:-1] = level.tiles
    records = level.entities
    kinds, places = records[:, 0], MAP_UNIT * records[:, 1:3].astype(float)
    if not (kinds == EXIT_DOOR).any() or not (kinds == EXIT_SWITCH).any():
        return np.empty((0, 2)), 0.0
    exit, switch = places[kinds == EXIT_DOOR][0], places[kinds == EXIT_SWITCH][0]
    for mines in (places[kinds == 1], ()):
        fields.level_free(tiles, _free)
        for x, y in mines:
            fields.block_circle(_free, x, y, fields.BLOCK_MINE)
        first = _path(np.array(level.spawn, float), switch, fields.TOUCH_SWITCH)
        second = first and _path(first[0][-1], exit, fields.TOUCH_EXIT)
        if second:
            return np.vstack([first[0], second[0][1:]]), first[1] + second[1]
    return np.empty((0, 2)), 0.0


def _symmetry(tiles, part):
    """Share of the tiles of `part` (bool [23, 42]) that are those of its mirror image, left to right."""
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    tiles = tiles[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    seen = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return (tiles == MIRRORED[tiles[:, ::-1]])[seen].mean()


def _one(level):
    tiles, kinds = level.tiles, level.entities[:, 0]
    part = playable_part(level)
    seen = tiles[part]
    row = {"empty tiles": (seen == 0).mean(), "full tiles": (seen == 1).mean()}
    row |= {name: np.isin(seen, family).mean() for name, family in TILE_FAMILIES.items()}
    row["tile families"] = float(sum(np.isin(seen, family).any() for family in TILE_FAMILIES.values()))
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    row |= {"width (tiles)": np.ptp(columns) - 1.0, "height (tiles)": np.ptp(rows) - 1.0}
    row["symmetry"] = _symmetry(tiles, part)

    points, length = way(level)
    row |= {"has a way": float(len(points) > 0), "way (px)": length}
    mines = MAP_UNIT * level.entities[np.isin(kinds, ENTITY_KINDS["mines"]), 1:3].astype(float)
    row["mines"] = float(len(mines))
    if len(points):
        steps = np.abs(np.diff(points, axis=0)).sum(0)
        row["verticality"] = steps[1] / max(steps.sum(), 1.0)
        away = np.sqrt(((points[:, None] - mines[None]) ** 2).sum(2)) if len(mines) else np.full((len(points), 1), 1e9)
        row["mines beside the way"] = float((away < NEAR_MINE).any(0).sum())
        row["way beside mines"] = (away < NEAR_MINE).any(1).mean()
        # Share of free nodes around the way, by a table of sums.
        sums = np.pad((_free != 0).reshape(fields.ROWS, fields.COLS), _AROUND + 1)[:-1, :-1].cumsum(0).cumsum(1)
        j, i = (points[:, ::-1] / fields.SPACING).astype(int).T
        k = 2 * _AROUND + 1
        open_nodes = sums[j + k, i + k] - sums[j, i + k] - sums[j + k, i] + sums[j, i]
        row["room around the way"] = open_nodes.mean() / k**2
    else:
        row |= dict.fromkeys(("verticality", "way beside mines", "room around the way"), np.nan)
        row["mines beside the way"] = np.nan
    present = [np.isin(kinds, types).any() for types in ENTITY_KINDS.values()]
    row["entity kinds"] = float(sum(present))
    row["gold"] = float((kinds == 2).sum())
    row |= {f"with {name}": float(here) for name, here in zip(ENTITY_KINDS, present, strict=True)}
    return row


def measure(levels: Sequence[Level]) -> dict[str, np.ndarray]:
    """Measures of levels by name, float64 [len(levels)] each; NaN where a level has none, such as without a way.

    Shares of tiles, extent and symmetry (left to right) are of the part of the level that the ninja can get to, mines
    and doors aside, with the tiles around it (copies.playable_part). `way beside mines` is the share of the way
    within NEAR_MINE of one, `room around the way` the free share of a square of 54 px. `with ...` is 1 or 0.
    """
    rows = [_one(level) for level in levels]
    return {name: np.array([row[name] for row in rows], float) for name in (rows[0] if rows else ())}


def means(levels: Sequence[Level]) -> dict[str, float]:
    """Means of `measure` over those levels that have the measure."""
    return {name: float(np.nanmean(values)) for name, values in measure(levels).items()}


def table(columns: dict[str, dict[str, float]]) -> str:
    """A table in Markdown with a row for each measure and a column for each of the `means`."""
    names = list(next(iter(columns.values())))
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in names:
        values = [column[name] for column in columns.values()]
        cells = [f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}" for value in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass
class Args:
    """Print means of what levels are made of, a column for each data set."""

    datasets: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """`builtin`, a text file of the game, a map file, or a folder"""
    groups: bool = False
    """a column for each group of a data set: static, moving, not simulated"""


def main(args: Args) -> None:
    """Print the table. Raises ArgumentError, LevelError."""
    if not args.datasets:
        raise ArgumentError("expected a data set: `builtin`, a folder or a file")
    columns = {}
    for name in args.datasets:
        levels = load_levels(name)
        parts = {f"{name} {group}": [x for x in levels if x.group == group] for group in GROUPS}
        for title, part in (parts if args.groups else {name: levels}).items():
            if part:
                columns[f"{title} ({len(part)})"] = means(part)
    print(table(columns))


if __name__ == "__main__":
    command(main, Args)
