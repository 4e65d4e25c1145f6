"""Names of data sets: `builtin`, a folder or a file, or several of these with commas between them."""

from pathlib import Path

from npp_rl.commands import LevelError


def parts_of(dataset: str | Path) -> list[str]:
    """The parts of a data set. Commas divide its name, unless a folder or file has that name. Raises LevelError."""
    text = str(dataset)
    parts = [text] if "," not in text or Path(text).exists() else text.split(",")
    if not all(parts):
        raise LevelError(f"data set {text!r}: expected `builtin`, a folder or a file, or several with commas between")
    return parts


def absolute(part: str) -> str:
    """A part's name with an absolute path."""
    return part if part == "builtin" else str(Path(part).resolve())


def joined(parts: list[str]) -> str:
    """The name of a data set of some parts, with absolute paths. Raises LevelError for commas in paths of several."""
    paths = [absolute(part) for part in parts]
    if len(paths) > 1 and (divided := [path for path in paths if "," in path]):
        raise LevelError(f"{divided[0]}: has a comma, which divides data sets (expected a path without, or one alone)")
    return ",".join(paths)


def resolved(dataset: str) -> str:
    """A data set's name with absolute paths. Raises LevelError for a part that does not exist."""
    for part in parts_of(dataset):
        if part != "builtin" and not Path(part).exists():
            raise LevelError(f"{part}: no such folder or file, expected a data set of levels or 'builtin'")
    return joined(parts_of(dataset))


def same_dataset(one: str, other: str) -> bool:
    """Whether two data sets are the same one, under whichever path."""
    return [absolute(part) for part in parts_of(one)] == [absolute(part) for part in parts_of(other)]
