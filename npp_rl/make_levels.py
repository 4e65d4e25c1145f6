"""Write generated levels as data sets.

python -m npp_rl.make_levels --out DIR                                    # DIR/train and DIR/test
python -m npp_rl.make_levels --out DIR --split test --preview sheet.png   # DIR itself
"""

import contextlib
import glob
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from npp_rl.commands import ArgumentError, Progress, command
from npp_rl.files import lives, read_json
from npp_rl.levels.builtin import data_set
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES
from npp_rl.levels.maps import Level
from npp_rl.training.arguments import check_args

GENERATOR, METADATA = "npp_rl.make_levels", "levels_metadata.json"


@dataclass
class Args:
    """Write generated levels as data sets."""

    out: Path | None = None  # folder for the levels, as raw N++ map files by category
    split: Literal["train", "test", "all"] = "all"  # split of the levels; all: data sets OUT/train and OUT/test
    categories: tuple[str, ...] = ()  # some categories, those of drawn levels too (default: the nine)
    count: int | None = None  # levels in each category of each split (default: 100 in train, 30 in test)
    seed: int = 0  # seed of the levels; 0 makes the built-in ones
    preview: Path | None = None  # PNG file for a sheet of pictures of all the levels


def write_data_sets(folder: Path, parts: dict[str, list[Level]], about: dict) -> None:
    """Write data sets into a folder, which appears as a whole or not at all.

    parts: the levels of each part. The part "train" is the data set FOLDER/train, and "" is FOLDER itself: raw map
    files <level id>, and METADATA with the entries of `about`. Nobody takes FOLDER with train and test for one data
    set, because data sets have no levels in folders of folders.

    A folder that is empty, or holds nothing but data sets of this command, is replaced. Raises ArgumentError for any
    other folder, OSError where it cannot be written.
    """
    _check_replaceable(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.{os.getpid()}.", dir=folder.parent))
    try:
        new = beside / "new"
        written, progress = 0, Progress("levels written", sum(map(len, parts.values())))
        for part, levels in parts.items():
            by_category = {}
            for level in levels:
                (new / part / level.category).mkdir(parents=True, exist_ok=True)
                (new / part / level.id).write_bytes(level.map_data)
                by_category.setdefault(level.category, []).append(level.id)
                written += 1
                progress.note(written)
            categories = {name: {"count": len(ids), "level_ids": ids} for name, ids in by_category.items()}
            content = about | ({"split": part} if part else {})
            content |= {"total_levels": len(levels), "categories": categories}
            (new / part / METADATA).write_text(json.dumps(content, indent=1) + "\n")
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


def recover(folder: Path) -> None:
    """Put a data set back whose replacing was killed, and remove what the killed process left. Raises OSError."""
    folder = folder.resolve()
    for left in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.*")):
        match = re.fullmatch(r"(\d{1,9})\.\w+", left.name.removeprefix(f".{folder.name}."))
        if match and left.is_dir() and not left.is_symlink() and not lives(int(match[1])):
            if (left / "old").is_dir() and not folder.exists():
                (left / "old").rename(folder)
                print(f"{folder}: put back, a killed process had begun to replace it", file=sys.stderr)
            shutil.rmtree(left, ignore_errors=True)


def _check_replaceable(folder: Path) -> str:
    """What the data set of this command in a folder is, "" where none is. Raises ArgumentError for another content."""
    if not folder.exists() and not folder.is_symlink():
        return ""
    if not folder.is_dir() or folder.is_symlink():
        raise ArgumentError(f"--out {folder}: not a folder, expected a new or empty one")
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if not held:
        return ""
    own, found = set(), []
    for part in (folder, folder / "train", folder / "test"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            about = read_json(part / METADATA)
            names = [METADATA, *(name for category in about["categories"].values() for name in category["level_ids"])]
            if about["generator"] == GENERATOR:
                own |= {(part / name).relative_to(folder).as_posix() for name in names}
                found.append(about)
    if not held <= own:
        other = min(held - own)
        raise ArgumentError(
            f"--out {folder}: holds other files ({other}), expected an empty folder or a data set of this command"
        )
    splits = " and ".join(f"{about.get('split')!a:.9}" for about in found)
    return f"{len(held) - len(found)} levels, split {splits}, seed {found[0].get('seed')!a:.12}"


def _categories(args: Args) -> list[str]:
    names = " ".join(args.categories).replace(",", " ").split()
    for name in names:
        if name not in (*CATEGORIES, *DRAWN_CATEGORIES):
            known = ", ".join((*CATEGORIES, *DRAWN_CATEGORIES))
            raise ArgumentError(f"--categories: unknown category {name!r}, expected some of {known}")
    return [category for category in (*CATEGORIES, *DRAWN_CATEGORIES) if category in (names or CATEGORIES)]


def main(args: Args) -> None:
    """Write levels, or pictures of them, or both. Raises ArgumentError, OSError."""
    categories = _categories(args)
    if not args.out and not args.preview:
        raise ArgumentError("nothing to write: expected --out DIR or --preview PNG")
    check_args(args)
    if args.seed >= 1 << 32:
        raise ArgumentError(f"--seed {args.seed}: expected 0 to {(1 << 32) - 1}")
    if args.preview and (not args.preview.parent.is_dir() or (args.preview.exists() and not args.preview.is_file())):
        raise ArgumentError(f"--preview {args.preview}: expected a file, new or old, in a folder that exists")
    if args.out:
        recover(args.out)
    if args.out and (old := _check_replaceable(args.out)):
        print(f"{args.out}: replaces the data set of this command that is there, {old}")
    splits = ("train", "test") if args.split == "all" else (args.split,)
    made = {split: data_set(split, categories, args.count, args.seed) for split in splits}
    levels = [level for part in made.values() for level in part]
    if args.out:
        about = {"generator": GENERATOR, "split": args.split, "seed": args.seed}
        try:
            write_data_sets(args.out, made if len(made) > 1 else {"": levels}, about)
        except OSError as error:  # it names a temporary file
            raise ArgumentError(f"--out {args.out}: cannot be written ({error.strerror})") from None
        print(f"{args.out}: {len(levels)} levels, {len(categories)} categories, seed {args.seed}")
        if len(made) > 1:
            print("two data sets: " + ", ".join(f"{args.out / name} ({len(part)})" for name, part in made.items()))
    if args.preview:
        from npp_rl.viewing import render  # here: Pillow is needed for pictures only

        render.contact_sheet(levels, args.preview, labels=[f"{level.id}  {level.title}" for level in levels])
        print(f"{args.preview}: {len(levels)} pictures")


if __name__ == "__main__":
    command(main, Args)
