"""Watch runs in a browser: live curves, comparisons, every episode of every evaluation, and a level editor.

    python -m benchmark.dashboard runs experiments
    python -m benchmark.dashboard --levels builtin levels/SI.txt --save-to my_levels

It listens on this machine only, reads the folders that are named and writes nothing but what the editor saves.
"""

import asyncio
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from npp_rl.commands import ArgumentError, LevelError, command, say
from npp_rl.levels.sources import resolved

LEAST_TOKEN = 16  # characters


@dataclass
class Args:
    """Watch runs in a browser: live curves, comparisons, episodes, and a level editor."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER ...")] = ()
    """folders with run directories at any depth (default: runs and experiments, where they are)"""
    host: str = "127.0.0.1"
    """address to listen on; on another than this machine's own a token is needed, which is made if none is given"""
    port: int = 8040
    """port to listen on (0: any that is free)"""
    token: str | None = None
    """what a browser has to know, at least 16 characters"""
    levels: tuple[str, ...] = ("builtin",)
    """data sets for episodes and the editor, as --test-dataset of the scripts"""
    save_to: Path | None = None
    """the folder into which the editor may save levels (default: none, levels can be downloaded)"""
    script: tuple[str, ...] = ()
    """scripts of agents whose architecture is none of the eight, each a path that ends in .py"""
    replays: tuple[Path, ...] = ()
    """files or folders with runs of people or of the planner, to be shown beside those of agents"""


def given(args: Args) -> tuple[list[Path], str | None]:
    """Folders and token of the arguments. Raises ArgumentError for what cannot be meant."""
    folders = list(args.folders) or [path for path in (Path("runs"), Path("experiments")) if path.is_dir()]
    for folder in folders:
        if not folder.is_dir():
            raise ArgumentError(f"{folder}: expected a folder with runs")
    if not 0 <= args.port <= 65535:
        raise ArgumentError(f"--port {args.port}: expected 0 to 65535")
    if args.token is not None and (len(args.token) < LEAST_TOKEN or not args.token.isascii()):
        raise ArgumentError(f"--token: expected at least {LEAST_TOKEN} ASCII characters")
    if args.save_to is not None and not args.save_to.is_dir():
        raise ArgumentError(f"--save-to {args.save_to}: expected a folder")
    for word in args.levels:
        try:
            resolved(word)
        except LevelError as error:
            raise ArgumentError(f"--levels {error}") from None
    for word in args.script:
        if not word.endswith(".py") or not Path(word).is_file():
            raise ArgumentError(f"--script {word}: no such script, expected a path that ends in .py")
    for path in args.replays:
        if not path.exists():
            raise ArgumentError(f"--replays {path}: no such file or folder, expected replays")
    return folders, args.token or (None if is_loopback(args.host) else secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ArgumentError where that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        raise ArgumentError(f"--host {host} --port {port}: {error.strerror}") from None
    return listener


def main(args: Args) -> None:
    """Serve until a signal comes. Raises ArgumentError, and ModuleNotFoundError without the extra `dashboard`."""
    try:
        import uvicorn

        from benchmark.dashboard import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "anyio"):
            raise
        raise ModuleNotFoundError('the dashboard needs starlette: pip install -e ".[dashboard]"') from None
    folders, token = given(args)
    listener = listen(args.host, args.port)
    port = listener.getsockname()[1]
    os.nice(19 - os.nice(0))
    app = server.application(folders, args.host, port, token, args.levels, args.save_to, args.replays, args.script)
    name = f"[{args.host}]" if ":" in args.host else args.host
    say(f"http://{name}:{port}/{f'?token={token}' if token else ''}")
    if not folders:
        say("no folder of runs was named, and there is no ./runs and no ./experiments: only the editor has levels")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=5, server_header=False
    )
    serving = uvicorn.Server(config)
    app.state.dashboard.stopping = lambda: serving.should_exit
    asyncio.run(serving.serve([listener]))


if __name__ == "__main__":
    command(main, Args)
