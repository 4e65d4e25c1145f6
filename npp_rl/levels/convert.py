"""Convert levels between map files and the game's text files.

python -m npp_rl.levels.convert levels/SI.txt --out maps
python -m npp_rl.levels.convert maps --out SI.txt
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from npp_rl.commands import ArgumentError, command
from npp_rl.files import plain_name, write_atomically
from npp_rl.levels import texts
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.maps import Level


@dataclass
class Args:
    """Convert levels between map files and the game's text files."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """a data set: `builtin`, a text file of the game, a map file, a folder, or several with commas between"""
    out: Path | None = None
    """a text file, NAME.txt, or else a new folder for map files by category"""
    reorder: bool = False
    """put records into the order of the text format, where some are in another, and drop what it cannot hold"""


def text_of(levels: list[Level], reorder: bool) -> tuple[bytes, list[tuple[str, str]]]:
    """A text file of levels, and (id, reason) of those that the format cannot hold."""
    lines, bad = [], []
    for level in levels:
        try:
            lines.append(texts.line_from_map(texts.in_order(level.map_data) if reorder else level.map_data))
        except ValueError as error:
            bad.append((level.id, str(error)))
    return b"".join(line + b"\n" for line in lines), bad


def write_maps(folder: Path, levels: list[Level]) -> None:
    """Write levels as FOLDER/<category>/<name>. Raises ArgumentError for a folder that holds something, OSError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"--out {folder}: expected a new or empty folder, or the name of a text file, NAME.txt")
    written = set()
    for level in levels:
        name = plain_name(level.id.removeprefix(f"{level.category}/"))
        path = folder / plain_name(level.category) / name
        if path in written:
            path = path.with_name(f"{name}_{len(written)}")
        written.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, level.map_data)


def main(args: Args) -> None:
    """Convert levels. Raises ArgumentError, LevelError, OSError."""
    if args.out is None:
        raise ArgumentError("--out: expected a text file, NAME.txt, or a folder")
    levels = load_levels(args.source)
    bad = []
    if args.out.suffix.lower() == ".txt":
        if args.out.exists():
            raise ArgumentError(f"--out {args.out}: exists already")
        data, bad = text_of(levels, args.reorder)
        if len(bad) == len(levels):
            raise ArgumentError(f"{args.source}: no level that the text format can hold; {bad[0][0]}: {bad[0][1]}")
        write_atomically(args.out, data)
    else:
        write_maps(args.out, levels)
    for name, reason in bad[:20]:
        print(f"{name}: left out: {reason}", file=sys.stderr)
    more = " (--reorder takes those whose records are in another order)" if bad and not args.reorder else ""
    print(f"{args.out}: {len(levels) - len(bad)} levels, {len(bad)} left out{more}")


if __name__ == "__main__":
    command(main, Args)
