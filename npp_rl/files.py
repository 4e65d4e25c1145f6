"""Atomic writes, locks, and JSON that may be damaged."""

import contextlib
import fcntl
import json
import os
import re
from pathlib import Path

from npp_rl.commands import UserError


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a temporary file and rename it, so that a crash never leaves half a file. Raises OSError with the path."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # the error of a full disk has no path
        raise


def write_json(path: str | Path, content) -> None:
    """Write `content` atomically as indented JSON. Raises ValueError for NaN and infinity, which are not JSON."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def take_lock(stream) -> bool:
    """Lock an open file until it is closed -> False if another process has it. Some file systems cannot lock."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def plain_name(text: str) -> str:
    """`text` as the beginning of a file name: characters but letters, digits, `_`, `-` and inner dots become `_`."""
    return re.sub(r"^\.+|[^A-Za-z0-9_.-]+", "_", text)


def parsed(text: str, place: str) -> dict:
    """The JSON object in `text`. Raises UserError, one line that names `place`, for anything else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{place}: expected a JSON object")
    return content
