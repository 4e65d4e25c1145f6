"""Write generated levels as a data set.

python -m npp_rl.make_levels --out DIR --split test --preview sheet.png
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from npp_rl.commands import ArgumentError, command
from npp_rl.files import read_json
from npp_rl.levels.builtin import data_set
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.kinds import KINDS
from npp_rl.levels.maps import Level
from npp_rl.training.arguments import check_args

GENERATOR, METADATA = "npp_rl.make_levels", "levels_metadata.json"


@dataclass
class Args:
    """Write generated levels as a data set."""

    out: Path | None = None  # folder for the levels, as raw N++ map files by category
    split: Literal["train", "test", "all"] = "all"  # split of the levels
    categories: tuple[str, ...] = ()  # some of the nine categories (default: all)
    count: int | None = None  # levels per category and split (default: 100 in train, 30 in test)
    seed: int = 0  # seed of the levels; 0 makes the built-in ones
    preview: Path | None = None  # PNG file for a sheet of pictures of all the levels


def write_data_set(folder: Path, levels: list[Level], about: dict) -> None:
    """Write the levels as raw map files FOLDER/<level id>, and METADATA; the folder appears as a whole or not at all.

    A folder that is empty, or holds nothing but a data set of this command, is replaced. Raises ArgumentError for any
    other folder, OSError where it cannot be written.
    """
    _check_replaceable(folder)
    folder = folder.resolve()
    by_category = {}
    for level in levels:
        by_category.setdefault(level.category, []).append(level.id)
    about = about | {"categories": {c: {"count": len(ids), "level_ids": ids} for c, ids in by_category.items()}}
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = beside / "new"
        for category in by_category:
            (new / category).mkdir(parents=True)
        for level in levels:
            (new / level.id).write_bytes(level.map_data)
        (new / METADATA).write_text(json.dumps(about, indent=1) + "\n")
        if folder.is_dir():
            folder.rename(beside / "old")
        try:
            new.rename(folder)
        except OSError:
            if (beside / "old").is_dir():
                (beside / "old").rename(folder)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_replaceable(folder: Path) -> str:
    """What the data set of this command in a folder is, "" where none is. Raises ArgumentError for another content."""
    if not folder.exists() and not folder.is_symlink():
        return ""
    if not folder.is_dir() or folder.is_symlink():
        raise ArgumentError(f"--out {folder}: not a folder, expected a new or empty one")
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if not held:
        return ""
    try:
        about = read_json(folder / METADATA)
        own = {METADATA, *(name for part in about["categories"].values() for name in part["level_ids"])}
        own = own if about["generator"] == GENERATOR else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = set()
    if not held <= own:
        other = min(held - own)
        raise ArgumentError(
            f"--out {folder}: holds other files ({other}), expected an empty folder or a data set of this command"
        )
    return f"{len(held) - 1} levels, split {about.get('split')!a:.9}, seed {about.get('seed')!a:.12}"


def _categories(args: Args) -> list[str]:
    names = " ".join(args.categories).replace(",", " ").split()
    for name in names:
        if name not in KINDS:
            raise ArgumentError(f"--categories: unknown category {name!r}, expected some of {', '.join(CATEGORIES)}")
    return [category for category in CATEGORIES if category in names or not names]


def main(args: Args) -> None:
    """Write levels, or pictures of them, or both. Raises ArgumentError, OSError."""
    categories = _categories(args)
    if not args.out and not args.preview:
        raise ArgumentError("nothing to write: expected --out DIR or --preview PNG")
    check_args(args)
    if args.seed >= 1 << 32:
        raise ArgumentError(f"--seed {args.seed}: expected 0 to {(1 << 32) - 1}")
    if args.out and (old := _check_replaceable(args.out)):
        print(f"{args.out}: replaces the data set of this command that is there, {old}")
    levels = data_set(args.split, categories, args.count, args.seed)
    if args.out:
        about = {"generator": GENERATOR, "split": args.split, "seed": args.seed, "total_levels": len(levels)}
        try:
            write_data_set(args.out, levels, about)
        except OSError as error:  # it names a temporary file
            raise ArgumentError(f"--out {args.out}: cannot be written ({error.strerror})") from None
        print(f"{args.out}: {len(levels)} levels, {len(categories)} categories, seed {args.seed}")
    if args.preview:
        from npp_rl.viewing import render  # here: Pillow is needed for pictures only

        render.contact_sheet(levels, args.preview, labels=[f"{level.id}  {level.title}" for level in levels])
        print(f"{args.preview}: {len(levels)} pictures")


if __name__ == "__main__":
    command(main, Args)
