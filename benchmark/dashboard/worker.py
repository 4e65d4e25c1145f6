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


def answer(line: bytes) -> dict:
    """{"result"} of a task, or {"error", "status"}."""
    try:
        asked = json.loads(line)
        return {"result": done(asked["task"], asked["arguments"])}
    except Stopped:
        return {"error": "stopped", "status": 499}
    except OSError as error:
        return {"error": f"{error.filename or 'a file'}: {error.strerror}", "status": 400}
    except ValueError as error:  # UserError is one
        status = 404 if type(error).__name__ == "NotThere" else 400
        return {"error": " ".join(str(error).split())[:500], "status": status}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__} in {asked['task']}", "status": 500}


def main() -> None:
    os.nice(19)
    stop_ending()  # a signal is no reason to end
    working = False

    def stop(*_):
        if working:
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
        try:
            working = True
            found = answer(line)
            working = False
        except Stopped:  # between the task and its answer
            found = {"error": "stopped", "status": 499}
        working = False
        out.write(json.dumps(found, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
