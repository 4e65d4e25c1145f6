"""The dashboard's web application: who may ask for what, the page's files, errors as JSON, events.

Everything is read-only towards runs, and nothing is asked for by a path: runs have ids, and the page's files are read
once. A request is answered if its `Host` is an address of this server (a page elsewhere whose name was bound to this
address has another one: DNS rebinding), its `Origin`, if it has one, is this server, and it knows the token, if there
is one.
"""

import contextlib
import gzip
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from benchmark.dashboard import editor, episodes, games, views
from benchmark.dashboard.answers import json_answer
from benchmark.dashboard.compare import Comparisons
from benchmark.dashboard.curves import Curves
from benchmark.dashboard.helpers import Helper, helpers
from benchmark.dashboard.runs import Runs
from benchmark.reporting import plots
from npp_rl.commands import UserError

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
POLICY = (  # nothing from elsewhere, nothing inline, no text that becomes markup
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
LONGEST = 1 << 20  # bytes of a request's body
THREADS = 4  # that answer; Python runs one of them at a time


@dataclass
class Dashboard:
    """What all routes share: `request.app.state.dashboard`."""

    runs: Runs
    curves: Curves
    comparisons: Comparisons
    levels: tuple[str, ...] = ("builtin",)  # data sets of episodes and the editor
    save_to: Path | None = None  # the only folder that is written to
    watching: int = 0  # pages that are told of changes
    stopping: Callable[[], bool] = lambda: False  # whether the server ends: what takes long ends too
    replays: tuple[Path, ...] = ()  # of people and of the planner, shown beside agents
    scripts: tuple[str, ...] = ()  # of agents whose architecture is none of the eight
    helpers: dict[str, Helper] = field(default_factory=helpers)


class Guard:
    """Lets in who may ask, limits the size of requests, and adds HEADERS to all answers.

    hosts: what `Host` may be. Any IP address is good too where `host` is not this machine's own: a name can be bound to
    an address of this server by somebody else, an address cannot.
    """

    def __init__(self, app, hosts: frozenset[str], addresses: bool, port: int, token: str | None):
        self.app, self.hosts, self.addresses, self.port, self.token = app, hosts, addresses, port, token
        self.cookie = f"npp_rl_dashboard_{port}"  # cookies do not tell ports apart

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        request = Request(scope)
        answer = self.refusal(request)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                known = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in known]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        read = 0

        async def receive_some():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LONGEST:
                raise HTTPException(413, f"expected at most {LONGEST:,} bytes")
            return message

        await (answer or self.app)(scope, receive_some, send_with_headers)

    def refusal(self, request: Request) -> Response | None:
        """An answer in place of the one that was asked for; None for a good request."""
        host = request.headers.get("host", "")
        if not self.knows(host):
            return refused(421, "expected the address that the dashboard has told, not another name for it")
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return refused(403, "expected a request of the dashboard's own page")
        api = request.url.path.startswith("/api/")
        if api and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return refused(403, "expected a request of the dashboard's own page")
        if self.token is None:
            return None
        bearer = request.headers.get("authorization", "")
        if self.equal(request.cookies.get(self.cookie, "")) or self.equal(bearer.removeprefix("Bearer ")):
            return None
        if request.url.path == "/" and self.equal(request.query_params.get("token", "")):
            rest = [(k, v) for k, v in parse_qsl(request.url.query) if k != "token"]
            answer = Response(status_code=303, headers={"location": f"/?{urlencode(rest)}" if rest else "/"})
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return answer
        return refused(401, "expected the address with the token that the dashboard has told")

    def knows(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "80")
        if port != str(self.port):
            return False
        if name.lower() in self.hosts:
            return True
        try:
            return self.addresses and bool(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
        except ValueError:
            return False

    def equal(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self.token.encode())


def refused(status: int, text: str) -> Response:
    return json_answer({"error": text}, status)


class Files:
    """The page's files, read once: path -> (content, the same by gzip, digest, type)."""

    def __init__(self):
        self.files = {}
        for path in STATIC.rglob("*"):
            if path.is_file() and path.suffix in TYPES:
                self.add(f"/static/{path.relative_to(STATIC).as_posix()}", path.read_bytes(), TYPES[path.suffix])
        self.files["/"] = self.files["/static/index.html"]
        self.add("/static/colours.css", colours().encode(), TYPES[".css"])

    def add(self, name: str, content: bytes, kind: str) -> None:
        digest = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        self.files[name] = (content, gzip.compress(content, 9, mtime=0), digest, kind)

    async def answer(self, request: Request) -> Response:
        found = self.files.get(request.scope["path"])
        if found is None:
            raise HTTPException(404, "there is no such page")
        content, packed, digest, kind = found
        headers = {"etag": digest, "vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == digest:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type=kind, headers=headers | {"content-encoding": "gzip"})
        return Response(content, media_type=kind, headers=headers)


def colours() -> str:
    """The report's colours as a style sheet: light or dark as the system wants, or as the page was told."""
    light, dark = plots.variables(plots.LIGHT), plots.variables(plots.DARK)
    return (
        f":root{{color-scheme:light;{light}}}\n:root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
    )


async def on_http_error(_, error: HTTPException) -> Response:
    return json_answer({"error": str(error.detail)}, error.status_code)


async def on_user_error(_, error: UserError) -> Response:
    return json_answer({"error": str(error)}, 400)


async def on_leaving(*_) -> Response:
    return Response(status_code=499)  # nobody reads it: the client left while it sent its request


async def on_any_error(_, error: Exception) -> Response:
    return json_answer({"error": f"{type(error).__name__}: the dashboard could not answer"}, 500)


def application(
    folders: Sequence[Path],
    host: str,
    port: int,
    token: str | None = None,
    levels: tuple[str, ...] = ("builtin",),
    save_to: Path | None = None,
    replays: Sequence[Path] = (),
    scripts: Sequence[str] = (),
) -> Starlette:
    """The application that listens at host:port. Everything is below `folders`, but for `save_to`, the editor's."""
    own = {"127.0.0.1", "localhost", "[::1]"}
    loopback = host in ("127.0.0.1", "localhost", "::1")
    names = own if loopback else own | {host.lower(), socket.gethostname().lower()}
    guard = Middleware(Guard, hosts=frozenset(names), addresses=not loopback, port=port, token=token)
    files = Files()
    routes = [Route(name, files.answer) for name in files.files]
    routes += [*views.ROUTES, *games.ROUTES, *episodes.ROUTES, *editor.ROUTES]

    @contextlib.asynccontextmanager
    async def lifespan(_):
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[guard, Middleware(GZipMiddleware, minimum_size=2000, compresslevel=4)],
        exception_handlers={
            HTTPException: on_http_error,
            UserError: on_user_error,
            ClientDisconnect: on_leaving,
            Exception: on_any_error,
        },
    )
    runs = Runs([Path(folder).resolve() for folder in folders])
    place = save_to and save_to.resolve()
    app.state.dashboard = Dashboard(runs, Curves(), Comparisons(), tuple(levels), place, replays=tuple(replays))
    app.state.dashboard.scripts = tuple(scripts)
    return app
