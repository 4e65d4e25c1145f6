"""Requests for levels and games on them, which the views Episodes and Level editor share."""

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections import OrderedDict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmark.dashboard.answers import body_of, json_answer
from benchmark.dashboard.helpers import ask

DIGEST = re.compile(r"[0-9a-f]{64}")
MOST_MAPS = 4096  # that the server remembers
REMEMBERED = 16 << 20  # bytes of answers that the server remembers
KINDS = {"png": "image/png", "svg": "image/svg+xml", "gif": "image/gif", "mp4": "video/mp4"}

_maps: OrderedDict[str, str] = OrderedDict()  # digest -> base64 of the map
_answers: OrderedDict[str, bytes] = OrderedDict()  # key of a request -> its answer, deflated


def field(found: dict, name: str, kind: type, default=None):
    """A field of a request of a type. Raises HTTPException (400) where it is missing or is something else."""
    value = found.get(name, default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise HTTPException(400, f"{name}: expected {kind.__name__}")
    return value


async def remembered(request: Request, name: str, task: str, stamp=None, **arguments) -> dict:
    """`ask`, or the answer that was given to the same before. stamp: of files that the answer depends on."""
    key = hashlib.sha256(json.dumps([task, stamp, arguments]).encode()).hexdigest()
    if key not in _answers:
        _answers[key] = zlib.compress(json.dumps(await ask(request, name, task, **arguments)).encode(), 1)
        while sum(map(len, _answers.values())) > REMEMBERED and len(_answers) > 1:
            _answers.popitem(last=False)
    _answers.move_to_end(key)
    return json.loads(zlib.decompress(_answers[key]))


def texts(found: dict, name: str, most: int) -> list[str]:
    """A field that is a list of texts. Raises HTTPException (400)."""
    values = found.get(name, [])
    if not isinstance(values, list) or len(values) > most or not all(isinstance(value, str) for value in values):
        raise HTTPException(400, f"{name}: expected a list of at most {most} texts")
    return values


async def geometry(request: Request, digests: list[str]) -> dict:
    """`playback.geometry` of some levels; their maps are remembered."""
    levels = list(request.app.state.dashboard.levels)
    found = await ask(request, "show", "geometry", digests=digests, datasets=levels)
    for digest, level in found["levels"].items():
        _maps[digest] = level.pop("map")
        _maps.move_to_end(digest)
    while len(_maps) > MOST_MAPS:
        _maps.popitem(last=False)
    return found


async def map_of(request: Request, found: dict) -> str:
    """Base64 of the map that a request is about: its `map`, or the level with its `level`, a digest.

    Raises HTTPException (404) for a level that is in none of the dashboard's data sets.
    """
    if "map" in found:
        return field(found, "map", str)
    digest = field(found, "level", str)
    if not DIGEST.fullmatch(digest):
        raise HTTPException(400, "level: expected the SHA-256 of a map")
    if digest not in _maps:
        await geometry(request, [digest])
    if digest not in _maps:
        raise HTTPException(404, "this level is in none of the data sets that --levels names")
    return _maps[digest]


async def drawing(request: Request) -> Response:
    return json_answer(await remembered(request, "show", "tables"))


async def levels(request: Request) -> Response:
    digests = texts(await body_of(request), "digests", 64)
    return json_answer(await geometry(request, [digest for digest in digests if DIGEST.fullmatch(digest)]))


async def game(request: Request) -> Response:
    """A game by input digits."""
    found = await body_of(request)
    arguments = {"map": await map_of(request, found), "inputs": field(found, "inputs", str, "")}
    return json_answer(await remembered(request, "show", "game", **arguments))


async def ghosts(request: Request) -> Response:
    data = await map_of(request, await body_of(request))
    replays = [str(path) for path in request.app.state.dashboard.replays]
    return json_answer(await ask(request, "show", "ghosts", map=data, replays=replays))


async def picture(request: Request) -> Response:
    """A trace of some runs (PNG, SVG), or a film of one (GIF, MP4)."""
    found = await body_of(request)
    kind, runs = field(found, "kind", str), texts(found, "runs", 64)
    if kind not in KINDS or not runs:
        raise HTTPException(400, f"kind: expected one of {', '.join(KINDS)}, and at least one run")
    data = await map_of(request, found)
    if kind in ("png", "svg"):
        made = await ask(request, "show", "trace", map=data, runs=runs, kind=kind)
    else:
        title = field(found, "title", str, "")[:100]
        made = await ask(request, "show", "film", map=data, inputs=runs[0], title=title, kind=kind)
    headers = {"content-disposition": f'attachment; filename="level.{kind}"'}
    return Response(base64.b64decode(made["data"]), media_type=KINDS[kind], headers=headers)


def decoded(data: str) -> bytes:
    """Bytes of base64. Raises HTTPException (400)."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise HTTPException(400, "expected base64") from None


ROUTES = [
    Route("/api/drawing", drawing),
    Route("/api/levels", levels, methods=["POST"]),
    Route("/api/game", game, methods=["POST"]),
    Route("/api/ghosts", ghosts, methods=["POST"]),
    Route("/api/picture", picture, methods=["POST"]),
]
