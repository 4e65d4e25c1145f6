"""Where a run came from: the checkout's revision, and in the run's folder `source/` the scripts and the difference.

`source/<script>.py` is the text that was started. `source/changes.diff` is the difference of the checkout from its
revision; `git apply` makes it again. Untracked files that git does not ignore are in it as new files.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, UserError
from npp_rl.files import read_bytes, write_atomically

PACKAGE = Path(__file__).resolve().parents[1]
SECONDS = 20  # that a call of git may take
LOOK_SECONDS = 5.0  # for the difference as a whole
DIFF_BYTES = 1 << 20  # of changes.diff; files beyond it are only named
SCRIPT_BYTES = 4 << 20  # of a script that is kept
NAME = r"[A-Za-z][A-Za-z0-9_-]{0,39}"  # of an architecture: a folder of an experiment is called so
TAKEN = r"report|levels|slurm|bc|label_.*"  # other folders of an experiment


def git(folder: Path, *words: str) -> str | None:
    """Output of a git command in a folder. None without git, outside a checkout, or if it takes too long."""
    # Variables such as GIT_DIR, which git sets for its hooks, would lead to another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, timeout=SECONDS, env=env, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout.decode(errors="surrogateescape")


def checkout(package: Path = PACKAGE) -> Path | None:
    """The root of the checkout that holds the package. None if the package is installed elsewhere."""
    # An environment for installed packages can lie inside another project's checkout, which does not track them.
    if git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    root = git(package, "rev-parse", "--show-toplevel")
    return root and Path(root.removesuffix("\n"))


def revision(package: Path = PACKAGE) -> dict:
    """`git_revision`, and `git_changed`: whether the checkout differs from it. Untracked files count.

    Both are None outside a checkout; `git_changed` is None if git takes too long.
    """
    root = checkout(package)
    commit = root and git(root, "rev-parse", "HEAD")
    status = git(root, "status", "--porcelain", "--untracked-files=normal") if commit else None
    return {"git_revision": commit.strip() if commit else None, "git_changed": None if status is None else bool(status)}


def changes(root: Path, most: int = DIFF_BYTES) -> str:
    """The difference of a checkout from its revision, at most about `most` bytes; "" if there is none.

    What is left out is named: binary files, files beyond the limit, files that come after LOOK_SECONDS, and untracked
    files with hidden names, which may hold passwords.
    """
    parts, left, omitted = [], most, []
    until = time.monotonic() + LOOK_SECONDS
    options = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
    for name in _names(git(root, "diff", "--name-only", "--no-renames", "-z", "HEAD")):
        part = (
            git(root, "diff", *options, "HEAD", "--", f":(top,literal){name}")
            if left > 0 and time.monotonic() < until
            else None
        )
        if part is None or len(part) > left:
            omitted.append((name, "changed"))
        else:
            parts.append(part)
            left -= len(part)
    for name in _names(git(root, "ls-files", "--others", "--exclude-standard", "-z")):
        text = None
        hidden = any(part.startswith(".") and part != ".gitignore" for part in Path(name).parts)
        if left > 0 and time.monotonic() < until and not hidden and not (root / name).is_symlink():
            with contextlib.suppress(UserError, OSError, UnicodeDecodeError):
                text = read_bytes(root / name, left).decode()
        if text is None or "\0" in text:
            omitted.append((name, "untracked"))
        else:
            parts.append(as_new_file(name, text))
            left -= len(parts[-1])
    # git apply skips lines before the first "diff".
    head = [f"# {kind}, not shown (binary, hidden or too large): {name!r}\n" for name, kind in omitted[:1000]]
    head += [f"# and {len(omitted) - 1000} more\n"] if len(omitted) > 1000 else []
    return "".join((*head, *parts))


def _names(listed: str | None) -> list[str]:
    return [name for name in (listed or "").split("\0") if name]


def as_new_file(name: str, text: str) -> str:
    """A file as a difference from nothing, as git writes it."""
    shown = f"a/{name}", f"b/{name}"
    if any(ord(letter) < 32 or letter in '"\\' or ord(letter) > 126 for letter in name):  # git quotes such names
        octal = "".join(
            chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
            for byte in name.encode(errors="surrogateescape")
        )
        shown = f'"a/{octal}"', f'"b/{octal}"'
    head = f"diff --git {shown[0]} {shown[1]}\nnew file mode 100644\n"
    lines = text.split("\n")
    ended = not lines[-1]  # the last line ends with a newline
    lines = lines[:-1] if ended else lines
    if not text:
        return head
    body = "".join(f"+{line}\n" for line in lines) + ("" if ended else "\\ No newline at end of file\n")
    return f"{head}--- /dev/null\n+++ {shown[1]}\n@@ -0,0 +1{f',{len(lines)}' if len(lines) > 1 else ''} @@\n{body}"


def scripts_of(*things) -> list[Path]:
    """The files in which the classes of some objects are written, such as a script's arguments and agent."""
    files = (getattr(sys.modules.get(type(thing).__module__), "__file__", None) for thing in things)
    return list(dict.fromkeys(Path(file).resolve() for file in files if file))


def describe(path: Path) -> dict[str, str]:
    """Name, SHA-256 (hex) and text of a script, for a checkpoint; {} if it cannot be read."""
    if (data := _text_of(path)) is None:
        return {}
    return {"name": path.name, "sha256": hashlib.sha256(data).hexdigest(), "text": data.decode(errors="replace")}


def check_name(architecture: str, place: str) -> None:
    """Raise ArgumentError for a text that cannot be an architecture's name. place: where it is written."""
    if not re.fullmatch(NAME, architecture) or re.fullmatch(TAKEN, architecture):
        raise ArgumentError(
            f"{place}: ARCHITECTURE is {architecture!r:.60} (expected at most 40 letters, digits, '_' and '-', and "
            "none of report, levels, slurm, bc, label_...)"
        )


def check_architecture(args) -> None:
    """Raise ArgumentError if the script of these arguments has another script's ARCHITECTURE, or no name for one."""
    module = sys.modules.get(type(args).__module__)
    architecture, file = getattr(module, "ARCHITECTURE", None), Path(getattr(module, "__file__", None) or "")
    if architecture is None:  # bc_pretrain.py
        return
    if architecture not in ARCHITECTURES:
        check_name(str(architecture), file.name)
    elif file.name != f"ppo_{architecture}.py":
        raise ArgumentError(
            f"{file.name}: its ARCHITECTURE {architecture!r} belongs to npp_rl/ppo_{architecture}.py "
            "(expected a name of its own)"
        )


def keep(run_dir: Path, scripts: list[Path], package: Path = PACKAGE) -> None:
    """Write `source/` into the folder of a new run. A script that cannot be read is left out. Raises OSError."""
    folder = run_dir / "source"
    folder.mkdir(exist_ok=True)
    for path in scripts:
        if (text := _text_of(path)) is not None:
            write_atomically(folder / path.name, text)
    root = checkout(package)
    difference = changes(root) if root else ""
    if difference:
        write_atomically(folder / "changes.diff", difference.encode(errors="surrogateescape"))
    else:
        (folder / "changes.diff").unlink(missing_ok=True)  # of a start that failed


def others(run_dir: Path, scripts: list[Path]) -> list[str]:
    """Names of scripts whose texts differ from those in a run's `source/`. A run without `source/` has none."""
    pairs = [(path.name, _text_of(path), _text_of(run_dir / "source" / path.name)) for path in scripts]
    return [name for name, now, then in pairs if None not in (now, then) and now != then]


def _text_of(path: Path) -> bytes | None:
    try:
        return read_bytes(path, SCRIPT_BYTES)
    except (UserError, OSError):
        return None
