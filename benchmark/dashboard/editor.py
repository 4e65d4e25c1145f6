"""Requests of the level editor: files, validity, the planner, agents' tries, and games that a person plays.

Only `save` writes, into the folder that --save-to names, under a plain name.
"""

import base64
import os

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmark.dashboard.answers import body_of, json_answer
from benchmark.dashboard.episodes import checkpoint_of
from benchmark.dashboard.games import decoded, field, map_of, remembered, texts
from benchmark.dashboard.helpers import ask
from npp_rl.commands import UserError
from npp_rl.files import open_file, plain_name, write_atomically

LARGEST = 200_000  # bytes of a file that is opened
MOST_SAVED = 1000  # files of the folder that are listed
SAMPLED = 16  # tries of an agent that are drawn over each other


def document_in(found: dict) -> dict:
    """The document (see editing.py) in a request. Raises HTTPException (400)."""
    return field(found, "document", dict)


async def levels(request: Request) -> Response:
    """Levels to open: rows of digest, id, category, title, par; and the files in the folder of --save-to."""
    dashboard = request.app.state.dashboard
    found = await ask(request, "show", "listed", datasets=list(dashboard.levels))
    saved = await run_in_threadpool(_saved, dashboard.save_to)
    return json_answer({**found, "saved": saved, "can_save": dashboard.save_to is not None})


def _saved(folder) -> list[str]:
    if folder is None:
        return []
    names = [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    return sorted(name for name in names if not name.startswith(".") and name == plain_name(name))[:MOST_SAVED]


async def opened(request: Request) -> Response:
    """The document of the bytes in the request's body, of a level by `level`, or of a saved file by `saved`."""
    words = request.query_params
    if "level" in words:
        data = await map_of(request, {"level": words["level"]})
    elif "saved" in words:
        data = base64.b64encode(await run_in_threadpool(_read, request, words["saved"])).decode()
    else:
        content = await request.body()
        if len(content) > LARGEST:
            raise HTTPException(413, f"expected at most {LARGEST:,} bytes")
        data = base64.b64encode(content).decode()
    return json_answer(await ask(request, "show", "document", data=data))


def _read(request, name: str) -> bytes:
    folder = request.app.state.dashboard.save_to
    if name not in _saved(folder):
        raise HTTPException(404, "there is no such file in the folder of --save-to")
    with open_file(folder / name) as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise HTTPException(413, f"expected at most {LARGEST:,} bytes")
    return data


async def check(request: Request) -> Response:
    """`editing.check` of a document."""
    return json_answer(await ask(request, "show", "check", document=document_in(await body_of(request))))


async def file(request: Request) -> Response:
    """A document as a file: its bytes, and a note in a header."""
    found = await body_of(request)
    made = await ask(request, "show", "encode", document=document_in(found), format=field(found, "format", str))
    headers = {"content-disposition": "attachment", "x-note": made["note"]}
    return Response(base64.b64decode(made["data"]), media_type="application/octet-stream", headers=headers)


async def save(request: Request) -> Response:
    """Write a document into the folder of --save-to. An existing file is replaced only with `replace`."""
    found = await body_of(request)
    name, form = field(found, "name", str), field(found, "format", str)
    made = await ask(request, "show", "encode", document=document_in(found), format=form)
    saved = await run_in_threadpool(_write, request, name, form, decoded(made["data"]), found.get("replace") is True)
    return json_answer({"saved": saved, "note": made["note"]})


def _write(request, name: str, form: str, data: bytes, replace: bool) -> str:
    folder = request.app.state.dashboard.save_to
    if folder is None:
        raise HTTPException(403, "the dashboard was started without --save-to: download the level instead")
    # Data sets take files without a suffix for maps.
    stem = plain_name(name.strip().removesuffix(".txt").replace(".", "_"))[:80]
    if not stem.strip("_-"):
        raise HTTPException(400, "name: expected letters or digits")
    path = folder / (f"{stem}.txt" if form == "text" else stem)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise HTTPException(400, f"{path.name}: is no plain file, and is not replaced")
    if path.exists() and not replace:
        raise HTTPException(409, f"{path.name} exists already")
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UserError(f"{path.name}: cannot be written ({error.strerror})") from None
    return path.name


async def plan(request: Request) -> Response:
    """The planner's run on a level. It stops when the page leaves."""
    found = await body_of(request)
    data, budget = await map_of(request, found), field(found, "budget", float, 5.0)
    return json_answer(await ask(request, "planner", "plan", map=data, budget=budget))


async def tries(request: Request) -> Response:
    """Games of a checkpoint's agent on a level. They stop when the page leaves."""
    found = await body_of(request)
    path, stamp = await run_in_threadpool(checkpoint_of, request, field(found, "checkpoint", str))
    sampled, seed = field(found, "sampled", int, 0), field(found, "seed", int, 0)
    if not 0 <= sampled <= SAMPLED or not 0 <= seed < 1 << 32:
        raise HTTPException(400, f"sampled: expected 0 to {SAMPLED}; seed: expected 0 to 2**32 - 1")
    arguments = {"map": await map_of(request, found), "checkpoint": path, "sampled": sampled, "seed": seed}
    arguments["scripts"] = list(request.app.state.dashboard.scripts)
    return json_answer(await remembered(request, "agents", "tries", stamp, **arguments))


async def replay(request: Request) -> Response:
    """A run as a replay file."""
    found = await body_of(request)
    runs = texts(found, "runs", 1)
    made = await ask(request, "show", "replay", map=await map_of(request, found), inputs=runs[0] if runs else "")
    headers = {"content-disposition": 'attachment; filename="run.replay"'}
    return Response(base64.b64decode(made["data"]), media_type="application/octet-stream", headers=headers)


async def begin(request: Request) -> Response:
    """Begin a game that a person plays."""
    data = await map_of(request, await body_of(request))
    return json_answer(await ask(request, "play", "begin", map=data))


async def advance(request: Request) -> Response:
    """Play frames of such a game."""
    found = await body_of(request)
    numbers = {name: field(found, name, int) for name in ("game", "frame")}
    return json_answer(await ask(request, "play", "advance", **numbers, inputs=field(found, "inputs", str)))


ROUTES = [
    Route("/api/editor/levels", levels),
    Route("/api/editor/open", opened, methods=["POST"]),
    Route("/api/editor/check", check, methods=["POST"]),
    Route("/api/editor/file", file, methods=["POST"]),
    Route("/api/editor/save", save, methods=["POST"]),
    Route("/api/editor/plan", plan, methods=["POST"]),
    Route("/api/editor/tries", tries, methods=["POST"]),
    Route("/api/editor/replay", replay, methods=["POST"]),
    Route("/api/editor/begin", begin, methods=["POST"]),
    Route("/api/editor/advance", advance, methods=["POST"]),
]
