"""Requests of the view Episodes: evaluations of runs, their levels, their episodes, and what the agents thought.

An evaluation is an eval_results.json in a run directory, or in a folder `eval_...` in it. Its id is the run's id, then
`//` and that folder's name if there is one. A search_results.json there, with the wins of a search at test time, is an
evaluation of its own, with SEARCH at the end of its name. A checkpoint's id is the run's id, `//` and the name of its
file; agents that come with the package are `zoo:NAME`. Nothing is looked for by a path from a request.
"""

import contextlib
import os
import threading
from collections import OrderedDict
from pathlib import Path

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmark.dashboard.answers import body_of, json_answer
from benchmark.dashboard.games import DIGEST, field, map_of, remembered, texts
from benchmark.dashboard.run_files import Run, inside
from npp_rl.commands import UserError
from npp_rl.files import open_file, shown_name

MOST = 8  # evaluations beside each other
READ = 12  # evaluations that are kept in memory
BYTES = 64 << 20  # of an eval_results.json
SEARCH = "(search)"
ZOO = Path(__file__).parents[2] / "npp_rl/zoo"


class Try(msgspec.Struct):
    success: bool = False
    cause: str = "none"
    frames: int = 0
    failure: str | None = None
    actions: str | None = None
    total: float = msgspec.field(default=0.0, name="return")


class Entry(msgspec.Struct):
    """A level in eval_results.json."""

    id: str
    category: str = "unknown"
    title: str = ""
    digest: str = ""
    par: int | None = None
    success_rate: float = 0.0
    tries: list[Try] = msgspec.field(default_factory=list)
    trained_on: bool = False


class Settings(msgspec.Struct):
    frame_skip: int = 4
    deterministic: bool = True


class Results(msgspec.Struct):
    levels: list[Entry] = msgspec.field(default_factory=list)
    settings: Settings = msgspec.field(default_factory=Settings)


_decoder = msgspec.json.Decoder(Results)
_read: OrderedDict[Path, tuple[tuple, Results]] = OrderedDict()
_lock = threading.Lock()  # of `_read`, which requests in several threads use


def places(run: Run) -> dict[str, Path]:
    """Name ("" for the run's own) -> file, of the evaluations of a run."""
    folders, found = [("", run.folder)], {}
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(run.folder), key=lambda entry: entry.name):
            if entry.name.startswith("eval_") and entry.is_dir(follow_symlinks=False):
                folders.append((shown_name(entry.name), Path(entry.path)))
    for name, folder in folders:
        for path, own in (folder / "eval_results.json", name), (folder / "search_results.json", f"{name} {SEARCH}"):
            if path.is_file():
                found.setdefault(own.strip(), path)
    return found


def place_of(request: Request, name: str) -> tuple[Run, Path]:
    """The run and the file of an evaluation's id. Raises HTTPException (404)."""
    run_id, _, folder = name.partition("//")
    run = request.app.state.dashboard.runs.run(run_id)
    found = places(run).get(folder)
    if found is None:
        raise HTTPException(404, f"{shown_name(name)[:100]}: there is no such evaluation (yet)")
    return run, found


def results_of(request: Request, name: str) -> Results:
    """What an evaluation's file holds. Raises HTTPException (404), UserError for a file that is damaged."""
    run, path = place_of(request, name)
    try:
        inside(path, run.top)
        state = path.stat()
        stamp = (state.st_ino, state.st_mtime_ns, state.st_size)
        with _lock:
            known, found = _read.get(path, (None, None))
        if known != stamp:
            with open_file(path) as stream:
                data = stream.read(BYTES + 1)
            if len(data) > BYTES:
                raise UserError(f"{shown_name(name)[:100]}: expected at most {BYTES:,} bytes")
            found = _decoder.decode(data)
        with _lock:
            _read[path] = stamp, found
            _read.move_to_end(path)
            while len(_read) > READ:
                _read.popitem(last=False)
        return found
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = f"{error}"[:120]
        raise UserError(f"{shown_name(name)[:100]}: {path.name} is damaged or half-written ({reason})") from None
    except OSError as error:
        raise UserError(f"{shown_name(name)[:100]}: {error.strerror}") from None


def named(run: Run, folder: str) -> dict:
    """What people are told of an evaluation."""
    keys = ("architecture", "condition", "seed", "label", "experiment", "place", "test", "success")
    return {"run": run.id, "folder": folder, **{key: run.row[key] for key in keys if key in run.row}}


def evaluations(request: Request) -> Response:
    """All evaluations of all runs: id, and what `named` says."""
    runs = request.app.state.dashboard.runs
    runs.refresh()
    rows = []
    for run in list(runs.runs.values()):
        for folder in places(run):
            rows.append({"id": f"{run.id}//{folder}" if folder else run.id, **named(run, folder)})
    return json_answer({"evaluations": rows})


async def suite(request: Request) -> Response:
    """The levels of some evaluations, and how each of them ended there.

    Answer: `evaluations` (id, name, problem), and `levels`: rows of key (digest, or id without one), id, category,
    title, par, and for each evaluation None or [success rate, end, frames, tries, has actions, trained on]. The end is
    "won", a cause of death, a kind of failure or "out of time".
    """
    chosen = texts(await body_of(request), "evaluations", MOST)
    return json_answer(await run_in_threadpool(_suite, request, list(dict.fromkeys(chosen))))


def _suite(request, chosen):
    about, levels = [], {}
    for at, name in enumerate(chosen):
        entry = {"id": name, "problem": ""}
        try:
            run, _ = place_of(request, name)
            entry |= named(run, name.partition("//")[2])
            results = results_of(request, name)
        except (UserError, HTTPException) as error:
            about.append(entry | {"problem": getattr(error, "detail", None) or str(error)})
            continue
        about.append(entry | {"frame_skip": results.settings.frame_skip})
        for level in results.levels:
            key = level.digest if DIGEST.fullmatch(level.digest) else level.id
            if key not in levels:
                levels[key] = [key, level.id, level.category, level.title, level.par, [None] * len(chosen)]
            levels[key][5][at] = _cell(level)
    return {"evaluations": about, "levels": list(levels.values())}


def _cell(level: Entry):
    first = level.tries[0] if level.tries else Try(success=level.success_rate > 0)
    how = "won" if first.success else first.cause if first.cause != "none" else first.failure or "out of time"
    return [level.success_rate, how, first.frames, len(level.tries), bool(first.actions), level.trained_on]


def _episode(request, found) -> tuple[Results, Entry, Try, int]:
    """The episode that a request names. Raises HTTPException (404)."""
    name, key, number = field(found, "evaluation", str), field(found, "level", str), field(found, "try", int, 0)
    results = results_of(request, name)
    for level in results.levels:
        if key in (level.digest, level.id):
            if not 0 <= number < len(level.tries) or not level.tries[number].actions:
                raise HTTPException(404, "this evaluation keeps no actions, so its episodes cannot be played again")
            return results, level, level.tries[number], number
    raise HTTPException(404, "this evaluation has no such level")


async def episode(request: Request) -> Response:
    """An episode, played again by the simulator (`playback.game`), and what the evaluation says of it."""
    found = await body_of(request)
    results, level, played, number = await run_in_threadpool(_episode, request, found)
    data = await map_of(request, {"level": level.digest})
    skip = results.settings.frame_skip
    arguments = {"map": data, "actions": played.actions, "frame_skip": skip, "frames": played.frames}
    track = await remembered(request, "show", "game", **arguments)
    cause = played.cause if played.cause != "none" else ""
    same = (track["outcome"] == "won") == played.success and track["frames"] == played.frames
    recorded = {"success": played.success, "cause": cause, "failure": played.failure, "frames": played.frames}
    recorded |= {"return": played.total, "frame_skip": skip, "tries": len(level.tries), "try": number}
    return json_answer({**track, "recorded": recorded, "same": same})


def checkpoint_files(run: Run) -> dict[str, Path]:
    """File name -> path of the checkpoints of a run, best.pt first."""
    with contextlib.suppress(OSError, UserError):
        folder = inside(run.folder / "checkpoints", run.top)
        files = [entry.name for entry in os.scandir(folder) if entry.name.endswith(".pt") and entry.is_file()]
        return {shown_name(name): folder / name for name in sorted(files, key=lambda name: (name != "best.pt", name))}
    return {}


def zoo_names() -> list[str]:
    """Agents that come with the package."""
    return sorted(f"zoo:{path.name}" for path in ZOO.iterdir() if (path / "model.safetensors").is_file())


def checkpoint_of(request: Request, name: str) -> tuple[str, tuple]:
    """The path of a checkpoint's id, as `load_agent` takes it, and a stamp. Raises HTTPException (404), UserError."""
    if name in zoo_names():
        return name, ()
    run_id, _, file = name.rpartition("//")
    run = request.app.state.dashboard.runs.run(run_id)
    path = checkpoint_files(run).get(file)
    if path is None:
        raise HTTPException(404, f"{shown_name(file)[:100]}: there is no such checkpoint (any more)")
    state = inside(path, run.top).stat()
    return str(path), (state.st_mtime_ns, state.st_size)


def checkpoints(request: Request) -> Response:
    """All checkpoints: id, name for people, and the run's id."""
    runs = request.app.state.dashboard.runs
    runs.refresh()
    rows = [{"id": name, "name": name, "run": ""} for name in zoo_names()]
    for run in list(runs.runs.values()):
        for file in checkpoint_files(run):
            rows.append({"id": f"{run.id}//{file}", "name": f"{run.id} {file.removesuffix('.pt')}", "run": run.id})
    return json_answer({"checkpoints": rows})


async def decisions(request: Request) -> Response:
    """What the agent of a checkpoint (default: best.pt of the run) thought in an episode."""
    found = await body_of(request)
    results, level, played, _ = await run_in_threadpool(_episode, request, found)
    run_id = field(found, "evaluation", str).partition("//")[0]
    name = field(found, "checkpoint", str, f"{run_id}//best.pt")
    path, stamp = await run_in_threadpool(checkpoint_of, request, name)
    arguments = {"map": await map_of(request, {"level": level.digest}), "actions": played.actions, "checkpoint": path}
    arguments |= {"scripts": list(request.app.state.dashboard.scripts)}
    arguments |= {"frame_skip": results.settings.frame_skip, "frames": played.frames}
    return json_answer(await remembered(request, "agents", "decisions", stamp, **arguments))


ROUTES = [
    Route("/api/evaluations", evaluations),
    Route("/api/suite", suite, methods=["POST"]),
    Route("/api/episode", episode, methods=["POST"]),
    Route("/api/checkpoints", checkpoints),
    Route("/api/decisions", decisions, methods=["POST"]),
]
