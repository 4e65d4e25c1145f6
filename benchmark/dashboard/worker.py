"""A process that does the dashboard's tasks: a line of JSON in, {"task", "arguments"}, a line out, result or error.

helpers.py starts it. It has the least priority, stops a task at SIGINT, and ends when its input does or when nobody has
asked for IDLE seconds.
"""

import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path

from npp_rl.commands import stop_ending

IDLE = 600.0  # seconds
TASKS = {  # task -> module that has the function of this name
    **dict.fromkeys(("geometry", "tables", "listed", "game", "ghosts", "trace", "film"), "playback"),
    **dict.fromkeys(("document", "check", "encode", "plan", "replay", "begin", "advance"), "editing"),
    **dict.fromkeys(("decisions", "tries"), "agents"),
}


class Stopped(BaseException):
    """Nobody waits for the task any more."""


def done(task: str, arguments: dict) -> dict:
    """A task's result. Raises what its function raises."""
    module = importlib.import_module(f"benchmark.dashboard.{TASKS[task]}")
    return getattr(module, task)(**arguments)


def answer(asked: dict) -> bytes:
    """JSON of {"result"} of a task, or of {"error", "status"}."""
    try:
        return encoded({"result": done(asked["task"], asked["arguments"])})
    except OSError as error:
        text = f"{error.filename or 'a file'}: {error.strerror}"
        return encoded({"error": without_folders(text, asked["arguments"]), "status": 400})
    except ValueError as error:  # UserError is one
        status = 404 if type(error).__name__ == "NotThere" else 400
        text = without_folders(" ".join(str(error).split()), asked["arguments"])
        return encoded({"error": text[:500], "status": status})
    except Exception as error:
        traceback.print_exc()
        return encoded({"error": f"{type(error).__name__} in {asked['task']}", "status": 500})


def without_folders(text: str, arguments: dict) -> str:
    """An error's line without the folders of the files that the arguments name: they are nobody's concern in a page."""
    for value in arguments.values():
        if isinstance(value, str) and value.startswith("/"):
            text = text.replace(f"{Path(value).parent}/", "")
    return text


def encoded(found: dict) -> bytes:
    """JSON on one line. Raises ValueError for NaN, which is none, and which an agent may give."""
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def main() -> None:
    os.nice(19)
    stop_ending()  # a signal is no reason to end
    working = ""  # the task that may be stopped
    known = set()  # tasks that have been done

    def stop(*_):
        # Modules that were half imported would stay so. helpers.py ends the process where it has to wait long.
        if working in known:
            raise Stopped

    signal.signal(signal.SIGINT, stop)
    out = os.fdopen(os.dup(1), "wb")  # what libraries print goes elsewhere
    os.dup2(2, 1)
    source = sys.stdin.buffer.raw
    buffer = b""
    while True:
        while b"\n" not in buffer:
            if not select.select([source], [], [], IDLE)[0]:
                return
            data = os.read(source.fileno(), 1 << 20)
            if not data:
                return
            buffer += data
        line, buffer = buffer.split(b"\n", 1)
        asked = json.loads(line)
        try:
            working = asked["task"]
            found = answer(asked)
            working = ""
        except Stopped:
            found = encoded({"error": "stopped", "status": 499})
        working = ""
        if found.startswith(b'{"result"'):
            known.add(asked["task"])
        out.write(found + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
