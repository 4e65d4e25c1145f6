"""List, check and fetch exported agents.

    python -m npp_rl.zoo                                         the agents that zoo:NAME can name here
    python -m npp_rl.zoo --check                                 compare all their files with the hashes
    python -m npp_rl.zoo --source https://HOST/agents            the agents in a folder, at an s3:// or https:// URL
    python -m npp_rl.zoo --source s3://BUCKET/agents --fetch NAME
    python -m npp_rl.zoo --source FOLDER --index                 prepare FOLDER, so that it can be served

A source holds a folder for each agent. One at a URL also has an `index.json`, which `--index` writes, with the sha256
of each agent's config.json. This has the sha256 of all other files. So who trusts the index can trust the agents.
Fetched agents come into the folder that the environment variable NPP_ZOO names (default: `zoo` here).
"""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from npp_rl.commands import ArgumentError, CheckpointError, UserError, command, say
from npp_rl.files import parsed, read_bytes, shown_name, write_json
from npp_rl.training import exported, s3

INDEX = "index.json"
FORMAT = "npp-rl zoo 1"
JSON_BYTES = 8 << 20  # most bytes of a JSON file of a zoo
SECONDS = 30  # that a server may stay silent


@dataclass
class Args:
    """List, check and fetch exported agents."""

    source: str | None = None
    """folder, s3:// or https:// URL with exported agents (default: the carried and the fetched agents)"""
    fetch: tuple[str, ...] = ()
    """names of agents to fetch from --source"""
    check: bool = False
    """compare all files with their hashes; a source's files are read for it, but not kept"""
    index: bool = False
    """write the index.json of the folder --source"""
    endpoint_url: str | None = None
    """S3 server other than AWS, such as http://127.0.0.1:9000"""


def reader_of(source: str, endpoint_url: str | None = None) -> Callable[[str, int], bytes]:
    """Function (relative path, most bytes) -> content of a file in a source, a folder or a URL.

    It raises CheckpointError where that fails. Raises ArgumentError for another kind of URL.
    """
    kind = source.partition("://")[0] if "://" in source else ""
    if kind == "s3":
        bucket, prefix = s3.split_url(source)
        client = s3.connect(endpoint_url, connect_timeout=10, read_timeout=SECONDS, attempts=2)

    def from_folder(relative, most):
        try:
            return read_bytes(Path(source) / relative, most)
        except OSError as error:
            raise CheckpointError(f"{shown_name(str(Path(source) / relative))}: {error.strerror}") from None
        except UserError as error:
            raise CheckpointError(str(error)) from None

    def from_s3(relative, most):
        url = f"s3://{bucket}/{prefix}/{relative}"
        try:
            data = client.get_object(Bucket=bucket, Key=f"{prefix}/{relative}")["Body"].read(most + 1)
        except Exception as error:  # boto3 and its libraries have many
            raise CheckpointError(f"{url}: {s3.describe(error)}") from None
        return whole(data, most, url)

    def from_web(relative, most):
        url = f"{source.rstrip('/')}/{relative}"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                if urlsplit(answer.geturl()).scheme not in (kind, "https"):
                    raise CheckpointError(f"{shown_name(url)}: is sent on to a place without https")
                data = answer.read(most + 1)
                if len(data) <= most and answer.length:
                    raise CheckpointError(f"{shown_name(url)}: the connection ended after {len(data):,} bytes")
        except urllib.error.HTTPError as error:
            raise CheckpointError(f"{shown_name(url)}: the server answers HTTP {error.code}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, UserError):
                raise
            reason = getattr(error, "reason", None)
            reason = getattr(reason, "strerror", None) or type(reason or error).__name__
            raise CheckpointError(f"{shown_name(url)}: no answer ({reason})") from None
        return whole(data, most, shown_name(url))

    def whole(data, most, place):
        if len(data) > most:
            raise CheckpointError(f"{place}: expected at most {most:,} bytes")
        return data

    if kind in ("http", "https"):
        return from_web
    if kind and kind != "s3":
        raise ArgumentError(f"--source {shown_name(source)}: expected a folder, or a URL of s3:// or https://")
    return from_s3 if kind else from_folder


def agents_in(folder: Path) -> list[str]:
    """Names of the exported agents in a folder, in order."""
    names = [path.parent.name for path in folder.glob(f"*/{exported.CONFIG}") if path.is_file()]
    return sorted(name for name in names if re.fullmatch(exported.NAME, name))


def index_of(source: str, read: Callable) -> dict[str, str | None]:
    """Name -> sha256 of the config.json of each agent in a source; None in a folder, which needs no index."""
    if "://" not in source:
        if not Path(source).is_dir():
            raise ArgumentError(f"--source {shown_name(source)}: no such folder")
        return dict.fromkeys(agents_in(Path(source)))
    place = f"{source.rstrip('/')}/{INDEX}"
    index = parsed(read(INDEX, JSON_BYTES).decode(errors="replace"), shown_name(place))
    agents = index.get("agents")
    if index.get("format") != FORMAT or not isinstance(agents, dict):
        raise CheckpointError(f"{shown_name(place)}: not the index of a zoo (expected format {FORMAT!r})")
    for name, sha256 in agents.items():
        if not re.fullmatch(exported.NAME, name) or not re.fullmatch("[0-9a-f]{64}", str(sha256)):
            raise CheckpointError(f"{shown_name(place)}: lists {name!r:.80} without a plain name and a sha256")
    return agents


def config_of(name: str, sha256: str | None, read: Callable) -> tuple[bytes, dict]:
    """The config.json of an agent in a source: its bytes and its content. Raises CheckpointError."""
    data, place = read(f"{name}/{exported.CONFIG}", JSON_BYTES), f"{name}/{exported.CONFIG}"
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{place}: its sha256 is not the one in {INDEX} (expected an unchanged file)")
    config = parsed(data.decode(errors="replace"), place)
    exported.check_config(config, place)
    return data, config


def files_of(name: str, sha256: str | None, read: Callable) -> dict[str, bytes]:
    """All files of an agent in a source, compared with their hashes. Raises CheckpointError."""
    data, config = config_of(name, sha256, read)
    files = {exported.CONFIG: data}
    for file, expected in config["files"].items():
        files[file] = read(f"{name}/{file}", exported.LARGEST)
        exported.check_content(files[file], expected, f"{name}/{file}")
    return files


def line_of(name: str, config: dict) -> str:
    """An agent in a list: name, architecture, parameters, success on test levels."""

    def number(value, form):
        return format(value, form) if isinstance(value, (int, float)) and not isinstance(value, bool) else "-"

    results = config.get("results")
    overall = results.get("overall") if isinstance(results, dict) else None
    overall = overall if isinstance(overall, dict) else {}
    success = f"{number(overall.get('success_rate'), '.1%')} of {number(overall.get('levels'), ',')} test levels"
    architecture = shown_name(str(config.get("architecture")))[:40]
    return f"{name:24} {architecture:20} {number(config.get('parameters'), ','):>12} parameters   {success}"


def sources_of(args: Args) -> list[str]:
    """The sources to look at: the given one, else the carried and the fetched agents."""
    return [args.source] if args.source is not None else [str(exported.CARRIED), str(exported.zoo_folder())]


def main(args: Args) -> None:
    """List, check or fetch agents. Raises ArgumentError, CheckpointError, OSError."""
    if args.fetch or args.index:
        flag = "--fetch" if args.fetch else "--index"
        if not args.source or (args.index and "://" in args.source):
            raise ArgumentError(f"{flag}: needs --source{' FOLDER' if args.index else ''}")
    shown = 0
    for source in sources_of(args):
        if args.source is None and not Path(source).is_dir():
            continue
        read = reader_of(source, args.endpoint_url)
        agents = index_of(source, read)
        if args.index:
            hashes = {}
            for name in agents:
                exported.check(Path(source) / name)
                hashes[name] = hashlib.sha256(read(f"{name}/{exported.CONFIG}", JSON_BYTES)).hexdigest()
            write_json(Path(source) / INDEX, {"format": FORMAT, "agents": hashes})
            say(f"{Path(source) / INDEX}: {len(hashes)} agents")
            return
        for name in args.fetch:
            fetch(name, agents, read, source)
        for name, sha256 in agents.items() if not args.fetch else ():
            shown += 1
            if args.check:
                files = files_of(name, sha256, read)
                say(f"{name}: {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB, as their hashes say")
            else:
                say(line_of(name, config_of(name, sha256, read)[1]))
    if not shown and not args.fetch:
        say("no agents")


def fetch(name: str, agents: dict[str, str | None], read: Callable, source: str) -> None:
    """Fetch an agent into the zoo's folder, where it appears when it is whole."""
    if name not in agents:
        known = ", ".join(agents)[:200] or "none"
        raise ArgumentError(f"--fetch {shown_name(name)}: not in {shown_name(source)} (there: {known})")
    if (exported.CARRIED / name).exists():
        raise ArgumentError(f"--fetch {name}: zoo:{name} is the agent of this name that the package carries")
    folder = exported.zoo_folder() / name
    exported.check_new(folder, "--fetch ")
    exported.write(folder, files_of(name, agents[name], read))
    say(f"{folder}: fetched, as zoo:{name}")


if __name__ == "__main__":
    command(main, Args)
