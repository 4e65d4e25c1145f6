"""Routes of the views Runs and Compare, and the events that tell of changes."""

import asyncio
import json
import time

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmark.dashboard import compare, curves
from benchmark.dashboard.answers import body_of, json_answer
from benchmark.dashboard.run_files import Run
from benchmark.reporting import differences
from benchmark.reporting.experiments import described
from npp_rl.commands import UserError
from npp_rl.levels.categories import CATEGORIES

EVENT_SECONDS = 1.5  # between looks for changes while somebody watches
ALIVE_SECONDS = 15.0  # between signs of life to a page
WATCHING = 16  # pages that are told of changes at a time
COMPARED = 24  # runs whose configurations are compared at most


def runs_now(request: Request) -> Response:
    """All rows of the table."""
    runs = request.app.state.dashboard.runs
    runs.refresh()
    return json_answer(runs.rows() | {"folders": list(runs.folders)})


async def events(request: Request) -> Response:
    """Rows as they change, as server-sent events. Nothing is looked at while no page listens."""
    dashboard = request.app.state.dashboard
    if dashboard.watching >= WATCHING:
        raise HTTPException(503, "too many pages are open")
    try:
        since = int(request.query_params.get("since", "0"))
    except ValueError:
        since = 0

    async def stream():
        nonlocal since
        dashboard.watching += 1
        try:
            quiet = 0.0
            yield b": here\n\n"
            while True:
                await run_in_threadpool(dashboard.runs.refresh)
                news = dashboard.runs.rows(since)
                if news["version"] > since:
                    since, quiet = news["version"], 0.0
                    yield f"event: runs\ndata: {json.dumps(news, allow_nan=False)}\n\n".encode()
                elif quiet >= ALIVE_SECONDS:
                    quiet = 0.0
                    yield b": here\n\n"
                quiet += EVENT_SECONDS
                until = time.monotonic() + EVENT_SECONDS
                while (left := until - time.monotonic()) > 0:
                    await asyncio.sleep(min(left, 0.2))
                    if dashboard.stopping() or await request.is_disconnected():
                        return
        finally:
            dashboard.watching -= 1

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def chosen(request: Request, most: int = 1000) -> tuple[dict, list[Run]]:
    """The content of a request and the runs that it names. Raises UserError."""
    content = await body_of(request)
    names = content.get("runs", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError("runs: expected a list of ids")
    return content, await run_in_threadpool(request.app.state.dashboard.runs.some, names, most)


async def curves_of(request: Request) -> Response:
    """Curves of some runs. Body: runs, keys, x (steps or minutes), smooth, group, from, to."""
    content, runs = await chosen(request)
    about = curves.checked(content)
    found = await run_in_threadpool(curves.drawn, request.app.state.dashboard.curves, runs, **about)
    return json_answer({"curves": found})


async def keys(request: Request) -> Response:
    """Names of the metrics that some runs have."""
    _, runs = await chosen(request)

    def read():
        names = set()
        for run in runs:
            try:
                names |= curves.keys_of(run)
            except (OSError, ValueError):
                continue
        return sorted(names)

    return json_answer({"keys": await run_in_threadpool(read)})


async def categories(request: Request) -> Response:
    """Success on test levels by category: {"categories": names, "runs": {id: {name: [share, levels]}}}."""
    _, runs = await chosen(request)
    found, names = {}, {}
    for run in runs:
        if run.results is not None:
            pairs = {"overall": run.results.overall, **run.results.by_category}
            own = {}
            for name, figures in list(pairs.items())[:200]:
                share, levels = figures.success_rate, figures.levels
                if type(share) in (int, float) and 0 <= share <= 1:
                    own[name[:80]] = [share, levels if type(levels) is int else None]
            found[run.id] = own
            names |= dict.fromkeys(own)
    known = [name for name in CATEGORIES if name in names]
    others = sorted(name for name in names if name not in (*CATEGORIES, "overall"))
    return json_answer({"categories": ["overall", *known, *others], "runs": found})


async def configurations(request: Request) -> Response:
    """What is not the same in the configurations of some runs: rows of [name, value of each run or null]."""
    _, runs = await chosen(request, COMPARED)

    def read():
        known = [differences.recorded(described(run.folder, run.top, run.config)) if run.config else {} for run in runs]
        names = dict.fromkeys(name for own in known for name in own)
        rows = [[name, *(own.get(name) for own in known)] for name in names]
        differ = [row for row in rows if len(set(row[1:])) > 1]
        return {"runs": [run.id for run in runs], "rows": differ, "same": len(rows) - len(differ)}

    return json_answer(await run_in_threadpool(read))


async def comparison(request: Request) -> Response:
    """Two sides beside each other. Body: a and b, each {name, runs}, and weights of the decision matrix."""
    names, ids, weights = compare.checked(await body_of(request))
    dashboard = request.app.state.dashboard

    def work():
        sides = [(name, dashboard.runs.some(own)) for name, own in zip(names, ids, strict=True)]
        if lacking := [name for name, runs in sides if not runs]:
            raise UserError(f"{' and '.join(lacking)}: none of the runs is there (any more)")
        return compare.compared(dashboard.comparisons.of(sides), names, weights)

    return json_answer(await run_in_threadpool(work))


ROUTES = [
    Route("/api/compare", comparison, methods=["POST"]),
    Route("/api/runs", runs_now),
    Route("/api/events", events),
    Route("/api/curves", curves_of, methods=["POST"]),
    Route("/api/keys", keys, methods=["POST"]),
    Route("/api/categories", categories, methods=["POST"]),
    Route("/api/configurations", configurations, methods=["POST"]),
]
