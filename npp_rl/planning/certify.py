"""Certify the built-in levels: solve each one by the planner and write the table.

Levels of the present table keep their runs; without the table all levels are solved anew.

python -m npp_rl.planning.certify --out REPLAYS
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from npp_rl.commands import command, say
from npp_rl.environment.games import ACTION_BYTES, inputs_of
from npp_rl.files import write_atomically
from npp_rl.levels.builtin import BUILTIN_COUNTS, TABLE, TABLE_COLUMNS, TABLE_FRAME_SKIP, draw_levels, table
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.copies import near_copies
from npp_rl.levels.replays import read_replays, write_replay
from npp_rl.planning import planner


def certify(folder: Path, budget: float) -> Iterator[str]:
    """Solve the built-in levels by the planner and write the table; yields lines that report on it.

    folder: for the planner's replays; a level whose replay is there is not solved again. budget: seconds for a level.
    A level that the planner does not solve is replaced by the next one drawn for its category and split. So is, after
    that, a test level that is a near-copy of a training level (levels/copies.py).
    """
    action_of = {int(byte): str(action) for action, byte in enumerate(ACTION_BYTES)}
    draws = {(c, part): draw_levels(c, part, 0, False) for part in BUILTIN_COUNTS for c in CATEGORIES}
    known = {row["sha256"]: row for row in table()}
    folder.mkdir(parents=True, exist_ok=True)
    rows, accepted = {}, {}
    missing = [(*kind, k) for kind in draws for k in range(BUILTIN_COUNTS[kind[1]])]
    while missing:
        drawn = [next(draws[place[:2]]) for place in missing]
        levels = [
            replace(level, id=f"{category}/{part}_{k:04d}")
            for (category, part, k), (_, level) in zip(missing, drawn, strict=True)
        ]
        for level in levels:
            if level.digest in known and not (folder / planner.replay_name(level)).exists():
                row = known[level.digest]
                inputs = inputs_of(row["actions"], TABLE_FRAME_SKIP, row["par"])
                write_replay(folder / planner.replay_name(level), level.map_data, inputs, True)
        entries = {}
        for entry in planner.plan_levels(levels, folder, budget, TABLE_FRAME_SKIP):
            entries[entry["digest"]] = entry
            if len(entries) % 50 == 0:
                yield f"{len(entries)} of {len(levels)} levels tried"
        places, missing = missing, []
        for place, (seed, level) in zip(places, drawn, strict=True):
            entry = entries[level.digest]
            if not entry["solved"]:
                yield f"{entry['id']} of seed {seed} is replaced: {entry['reason']}"
                missing.append(place)
                continue
            inputs = read_replays(folder / entry["file"])[0].inputs
            actions = "".join(action_of[byte] for byte in inputs[::TABLE_FRAME_SKIP])
            rows[place] = (*place[:2], seed, level.digest, len(inputs), actions)
            accepted[place] = level
        if not missing:
            train, test = ({p: level for p, level in accepted.items() if p[1] == part} for part in BUILTIN_COUNTS)
            near = {level.digest for level in near_copies([*test.values()], [*train.values()])}
            missing = [place for place, level in test.items() if level.digest in near]
            for category, part, k in missing:
                seed = rows[category, part, k][2]
                yield f"{category}/{part}_{k:04d} of seed {seed} is replaced: a near-copy of a training level"
    lines = [",".join(TABLE_COLUMNS)]
    for part in BUILTIN_COUNTS:
        for category in CATEGORIES:
            lines += [",".join(map(str, rows[category, part, k])) for k in range(BUILTIN_COUNTS[part])]
    write_atomically(TABLE, ("\n".join(lines) + "\n").encode())
    yield f"{TABLE}: {len(rows)} levels"


@dataclass
class Args:
    """Solve the built-in levels and write their table."""

    out: str | None = None  # folder that keeps the planner's replays, which are not searched for again
    budget: str = "10s"  # time for a level, such as 5s, 0.5s or 2m


def main(args: Args) -> None:
    """Solve the built-in levels and write their table. Raises ArgumentError, OSError."""
    budget = planner.parse_budget(args.budget)
    with tempfile.TemporaryDirectory() as beside:
        for line in certify(Path(args.out or beside), budget):
            say(line)


if __name__ == "__main__":
    command(main, Args)
