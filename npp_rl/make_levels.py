"""Write generated levels as a data set.

python -m npp_rl.make_levels --out DIR --split test --preview sheet.png
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from npp_rl.levels.builtin import data_set
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.kinds import KINDS
from npp_rl.levels.maps import Level

MOST_LEVELS = 100_000  # per category and split, for the command
GENERATOR, METADATA = "npp_rl.make_levels", "levels_metadata.json"


def write_data_set(folder: Path, levels: list[Level], about: dict) -> None:
    """Writes the levels as raw map files FOLDER/<level id> and METADATA; the folder appears as a whole or not at all.

    A folder that is empty, or that holds nothing but a data set of this command, is replaced; raises ValueError (one
    line) for another one, OSError where it cannot be written.
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


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ValueError(f"--out {folder}: not a folder, expected a new or empty one")
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if not held:
        return
    try:
        about = json.loads((folder / METADATA).read_bytes())
        own = {METADATA, *(name for part in about["categories"].values() for name in part["level_ids"])}
        own = own if about["generator"] == GENERATOR else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = set()
    if not held <= own:
        other = min(held - own)
        raise ValueError(f"--out {folder}: holds other files ({other}), expected an empty folder or a data set of mine")


def _category_list(text: str) -> list[str]:
    names = [name for name in text.replace(",", " ").split() if name]
    for name in names:
        if name not in KINDS:
            raise ValueError(f"--categories: unknown category {name!r}, expected some of {', '.join(CATEGORIES)}")
    if not names:
        raise ValueError(f"--categories: expected some of {', '.join(CATEGORIES)}")
    return [category for category in CATEGORIES if category in names]


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when all was written, else 2 after one line on stderr."""

    def fail(message: str):
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    parser = argparse.ArgumentParser(prog="python -m npp_rl.make_levels", description="Write a data set of levels.")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the levels, as raw N++ map files by category"
    )
    parser.add_argument("--split", choices=("train", "test", "all"), default="all")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="some of the nine (all unless told)")
    parser.add_argument("--count", type=int, metavar="N", help="levels per category and split (100 train, 30 test)")
    parser.add_argument("--seed", type=int, default=0, help="0 makes the built-in levels")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="a sheet of pictures of all the levels")
    parser.error = fail
    options = parser.parse_args(arguments)
    try:
        categories = _category_list(" ".join(options.categories)) if options.categories else list(CATEGORIES)
        if not options.out and not options.preview:
            raise ValueError("nothing to write: expected --out DIR or --preview PNG")
        if options.count is not None and not 1 <= options.count <= MOST_LEVELS:
            raise ValueError(f"--count {options.count}: expected 1 to {MOST_LEVELS}")
        if not 0 <= options.seed < 1 << 32:
            raise ValueError(f"--seed {options.seed}: expected 0 to {(1 << 32) - 1}")
        target = options.out
        if options.out:
            _check_replaceable(options.out)
        levels = data_set(options.split, categories, options.count, options.seed)
        about = {"generator": GENERATOR, "split": options.split, "seed": options.seed, "total_levels": len(levels)}
        if options.out:
            write_data_set(options.out, levels, about)
            target = "standard output"
            print(f"{options.out}: {len(levels)} levels, {len(categories)} categories, seed {options.seed}")
        if options.preview:
            from npp_rl.viewing import render  # needs Pillow, which training does not

            target = options.preview
            labels = [f"{level.id}  {level.title}" for level in levels]
            render.contact_sheet(levels, options.preview, labels=labels)
            print(f"{options.preview}: {len(levels)} pictures")
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{target}: cannot be written ({error.strerror})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
