"""Atomic writes, locks, and reading of files that somebody else may have made or damaged."""

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
from pathlib import Path
from typing import IO, Literal

from npp_rl.commands import UserError

JSON_BYTES = 64 << 20  # most bytes of a JSON file; the largest results have some 10 MB
LOG_BYTES = 2 << 30  # most bytes of metrics.jsonl
LEFTOVER = re.compile(r"\..+\.(\d+)\.tmp")  # name of a file that `write_atomically` had not finished; its process
FLAGS = {"rb": os.O_RDONLY, "a": os.O_WRONLY | os.O_APPEND | os.O_CREAT}  # of a file's modes


def open_file(path: str | Path, mode: Literal["rb", "a"] = "rb") -> IO:
    """Open a regular file to read or to append. Raises UserError at once for a pipe, a device or a folder; OSError."""
    try:
        # Without O_NONBLOCK, a named pipe would wait for its other end.
        descriptor = os.open(path, FLAGS[mode] | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    except ValueError as error:  # a null character
        raise UserError(f"{str(path)!r}: expected the name of a file") from error
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EISDIR):  # a socket, a pipe that nobody reads, a folder
            raise
        raise UserError(f"{path}: expected a regular file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: expected a regular file")
    return os.fdopen(descriptor, mode)


def read_bytes(path: str | Path, most: int = JSON_BYTES) -> bytes:
    """The content of a regular file. Raises UserError if it is no regular file or has over `most` bytes; OSError."""
    with open_file(path) as stream:
        if os.fstat(stream.fileno()).st_size <= most and len(data := stream.read(most + 1)) <= most:
            return data
    raise UserError(f"{path}: expected at most {most:,} bytes")


def read_text(path: str | Path, most: int = JSON_BYTES) -> str:
    """`read_bytes` as text. Raises UserError, also if the content is not UTF-8; OSError."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected text in UTF-8") from error


def read_json(path: str | Path, most: int = JSON_BYTES) -> dict:
    """The JSON object in a file. Raises UserError, one line that names the file, for any other content; OSError."""
    return parsed(read_text(path, most), str(path))


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a temporary file and rename it, so that a crash never leaves half a file. Raises OSError with the path.

    A device, a pipe or a folder is never replaced.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "expected a regular file", str(path))
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


def remove_leftovers(folder: Path) -> None:
    """Remove files of LEFTOVER's shape whose process has died. What cannot be removed stays."""
    for path in folder.iterdir() if folder.is_dir() else ():
        match = LEFTOVER.fullmatch(path.name)
        with contextlib.suppress(OSError, OverflowError):
            if match and stat.S_ISREG(path.lstat().st_mode) and not lives(int(match[1])):
                path.unlink()


def lives(pid: int) -> bool:
    """Whether a process of this number runs, other than this one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return pid != os.getpid()


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


def shown_name(name: str) -> str:
    r"""A file's name as text that can be written and shown everywhere: what is not printable is escaped, as in `\xff`.

    The file system has bytes. Python passes those that its locale cannot decode on as surrogates; here they are UTF-8.
    """
    try:
        data = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        data = name.encode(errors="backslashreplace")
    text = data.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def parsed(text: str, place: str) -> dict:
    """The JSON object in `text`. Raises UserError, one line that names `place`, for anything else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{place}: expected a JSON object")
    return content
