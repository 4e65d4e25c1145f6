"""Runs on S3 or a compatible server such as MinIO: upload in the background while training, download to resume.

    python -m npp_rl.training.s3 upload RUN_DIR s3://bucket/prefix/run [--dry-run] [--endpoint-url http://host:9000]
    python -m npp_rl.training.s3 download s3://bucket/prefix/run RUN_DIR [--endpoint-url http://host:9000]

The file `a/b` of the folder `run` is the object `prefix/run/a/b`. Its sha256 is in the object's metadata and in the
folder's s3_manifest.json. The manifest is correct even if the process dies: an entry is added after the server has
confirmed the content, and removed before other content is sent to its key. A file is sent only if its sha256 is not
there yet. Nothing is ever deleted on the server. Links and hidden files are not uploaded.

An upload sends a copy of a file, so that a file that grows meanwhile has one consistent content. Checkpoints are read
first and sent last. So the logs on the server are never older than the checkpoint that a resumed run cuts them back to.

Faults of the server or the network never end a training. They are reported once, and uploads are retried until all
files are there. A missing bucket or refused credentials end it before it begins, because waiting does not help.
boto3 finds the credentials (environment, ~/.aws, the machine's role). They need s3:ListBucket, s3:GetObject and
s3:PutObject. A killed process can leave parts of a large file on the server. A lifecycle rule with
AbortIncompleteMultipartUpload removes them.
"""

import contextlib
import hashlib
import mimetypes
import os
import re
import shlex
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import tyro

from npp_rl.commands import ArgumentError, CheckpointError, command
from npp_rl.files import open_file, read_json, write_json

MANIFEST = "s3_manifest.json"
FORMAT = "npp-rl s3 manifest 1"
ENTRY = {"key": str, "size": int, "sha256": str, "time": str}  # manifest entry of a file
MULTIPART_BYTES = 16 << 20  # files of at least this size are sent and fetched in parts of this size
SPOOL_BYTES = 8 << 20  # smaller files are copied to memory, others to an unnamed file in the folder
FIRST_PAUSE, LONGEST_PAUSE, LAST_PAUSE = 1.0, 60.0, 5.0  # seconds between tries: first, longest, longest while ending
ATTEMPTS = 5  # tries of the commands; a training tries as long as it runs


class Sync:
    """Uploads `folder` to s3://bucket/prefix. `start` runs it in a thread, `upload` in the foreground."""

    def __init__(self, client, folder: Path, bucket: str, prefix: str, endpoint_url: str | None, message):
        self.client, self.bucket, self.prefix = client, bucket, prefix  # no client: a dry run
        self.path, self.folder = folder, folder if folder.is_dir() else folder.parent
        self.url, self.endpoint_url, self.message = f"s3://{bucket}/{prefix}", endpoint_url, message
        self.files = self._load_manifest()  # relative path: {"key", "size", "sha256", "time"}
        self.remote = {} if client is None else None  # key: size of the objects when this process began
        self.seen = {}  # relative path: inode, size and time stamps of files whose content is in the manifest
        self.sent_files = self.sent_bytes = 0
        self.fault = None  # why the last pass failed
        self.outage = False  # whether it failed because the server gave no answer
        self.wanted, self.closing = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="s3", daemon=True)

    def request(self) -> None:
        """Ask for an upload of the changes. Returns at once, even while an upload is running."""
        self.wanted.set()

    def finish(self, timeout: float) -> bool:
        """Upload what is left, for at most `timeout` seconds -> whether all files are on the server.

        Call it when all files are complete and closed. If files are missing, it prints how to send them.
        """
        self.message = print  # the run's log is closed and must not change any more
        self.closing.set()
        self.wanted.set()
        self.thread.join(timeout)
        if not self.thread.is_alive() and not self.fault:
            return True
        self.message = lambda text: None
        missing = self.missing()
        if missing:
            count, megabytes = len(missing), sum(missing.values()) / 1e6
            endpoint = f" --endpoint-url {shlex.quote(self.endpoint_url)}" if self.endpoint_url else ""
            print(
                f"S3: {count} files ({megabytes:.1f} MB) are not at {self.url} ({self.fault or 'out of time'}); later: "
                f"python -m npp_rl.training.s3 upload {shlex.quote(str(self.path))} {shlex.quote(self.url)}{endpoint}",
                flush=True,
            )
        return not missing

    def missing(self) -> dict[str, int]:
        """Relative path -> bytes of each file whose content is not in the manifest."""
        files = self.files  # the thread replaces this dict and never changes it
        missing = {}
        for path in self._paths():
            relative = path.relative_to(self.folder).as_posix()
            try:
                with open_file(path) as stream:
                    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                if files.get(relative, {}).get("sha256") != sha256:
                    missing[relative] = path.stat().st_size
            except FileNotFoundError:
                continue  # removed meanwhile
            except OSError:
                missing[relative] = 0
        return missing

    def upload_changes(self) -> dict[str, str]:
        """Make one pass over the folder -> reasons of failed uploads by relative path, empty if all files are there.

        The pass goes on after a file that is refused or cannot be read, and ends when the server fails.
        """
        failures = {}
        self.outage = False
        try:
            if self.remote is None:
                self._list_remote()
            paths = sorted(self._paths())
            with contextlib.ExitStack() as stack:
                streams = {}
                for path in sorted(paths, key=_reading_order):
                    if path.suffix == ".pt":  # an open file keeps its content when another is renamed over it
                        with contextlib.suppress(OSError):  # raised again below
                            streams[path] = stack.enter_context(open_file(path))
                for path in sorted(paths, key=_reading_order, reverse=True):
                    relative = path.relative_to(self.folder).as_posix()
                    if path.suffix == ".pt" and any(name.endswith(".jsonl") for name in failures):
                        failures[relative] = "waits for the logs"
                        continue
                    try:
                        with streams.get(path) or open_file(path) as stream:
                            self._upload(relative, stream)
                    except FileNotFoundError:
                        continue  # removed since the folder was listed
                    except Exception as error:  # nothing here may end a training
                        failures[relative] = describe(error)
                        self.outage = _kind(error) == "outage"
                        if self.outage:
                            break
        except Exception as error:
            failures[""] = describe(error)
            self.outage = _kind(error) == "outage"
        return failures

    def _run(self):
        pause = 0.0
        while True:
            if pause and self.closing.is_set():
                time.sleep(min(pause, LAST_PAUSE))
            elif pause:
                self.closing.wait(pause)
            else:
                self.wanted.wait()
            closing = self.closing.is_set()  # read first: the pass then includes all that was written before `finish`
            self.wanted.clear()
            failures = self.upload_changes()
            fault = None
            if failures:
                relative, reason = next(iter(failures.items()))
                fault = f"{relative}: {reason}" if relative else reason
                if not self.fault and (self.outage or not closing):  # `finish` reports a refusal at the end
                    what = "uploads" if closing else "training goes on, uploads"
                    self._say(f"S3: {self.url}: {fault}; {what} are tried again until all is there")
            elif self.fault:
                self._say(f"S3: {self.url}: uploads work again, nothing is missing")
            self.fault = fault
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE) if failures else 0.0
            if closing and not self.outage:
                return

    def _say(self, text):
        try:
            self.message(text)
        except (OSError, ValueError):  # a full disk, or a log that is closed
            print(text, flush=True)

    def _paths(self):
        """All files of the folder except links, hidden files and manifests."""
        if self.path != self.folder:
            return [self.path]
        paths = []
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(place, name)
                if not name.startswith(".") and name != MANIFEST and path.is_file() and not path.is_symlink():
                    paths.append(path)
        return paths

    def _load_manifest(self):
        """Entries of the folder's manifest. None if it is about another place."""
        try:
            manifest = read_json(self.folder / MANIFEST)
            about = (manifest["format"], manifest["url"], manifest["endpoint_url"])
            files = {
                relative: {name: kind(entry[name]) for name, kind in ENTRY.items()}
                for relative, entry in manifest["files"].items()
            }
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return files if about == (FORMAT, self.url, self.endpoint_url) else {}

    def _save_manifest(self, files):
        """Make `files` the manifest. It is written to disk first: if that fails, the one in memory stays as it was."""
        if self.client is not None:
            write_manifest(self.folder, self.url, self.endpoint_url, files)
        self.files = files

    def _list_remote(self):
        """List the objects on the server, and drop manifest entries whose object is gone or has another size."""
        remote = list_objects(self.client, self.bucket, self.prefix)
        true = {relative: entry for relative, entry in self.files.items() if remote.get(entry["key"]) == entry["size"]}
        if true != self.files:
            self._save_manifest(true)
        self.remote = remote

    def _upload(self, relative, stream):
        """Send one open file unless its content is on the server already."""
        if not _is_plain(relative):
            raise ArgumentError("its name cannot be a key (expected printable characters, no backslash)")
        before = os.fstat(stream.fileno())
        state = (before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        if self.seen.get(relative) == state:
            return
        settled = time.time_ns() - before.st_mtime_ns > 2e9  # a later change gets another time stamp, even a coarse one
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=self.folder) as copy:
            digest, size = hashlib.sha256(), 0
            while block := stream.read(min(1 << 20, before.st_size - size)):  # a file that grows is cut here
                digest.update(block)
                copy.write(block)
                size += len(block)
            copy.seek(0)
            sha256 = digest.hexdigest()
            if self.files.get(relative, {}).get("sha256") != sha256:
                self._send(relative, copy, size, sha256, before.st_mtime)
        if settled:
            self.seen[relative] = state

    def _send(self, relative, content, size, sha256, modified):
        key = f"{self.prefix}/{relative}"
        if self.client is None:
            self._say(f"S3 dry run: would upload {relative} ({size:,} bytes) to s3://{self.bucket}/{key}")
        else:
            there = False
            if relative in self.files:
                self._save_manifest({name: entry for name, entry in self.files.items() if name != relative})
            elif self.remote.get(key) == size:  # sent by a process that died, or from elsewhere
                there = self.client.head_object(Bucket=self.bucket, Key=key)["Metadata"].get("sha256") == sha256
            if not there:
                metadata = {"sha256": sha256, "modified": _utc(modified), "program": "npp-rl"}
                kind = mimetypes.guess_type(relative)[0] or "application/octet-stream"
                self.client.upload_fileobj(
                    content,
                    self.bucket,
                    key,
                    ExtraArgs={"Metadata": metadata, "ContentType": kind},
                    Config=_transfer_config(),
                )
                self.sent_files, self.sent_bytes = self.sent_files + 1, self.sent_bytes + size
        entry = {"key": key, "size": size, "sha256": sha256, "time": _utc(time.time())}
        self._save_manifest({**self.files, relative: entry})


def start(
    run_dir: str | Path,
    bucket: str,
    prefix: str = "",
    endpoint_url: str | None = None,
    dry_run: bool = False,
    message: Callable[[str], None] = print,
) -> Sync | None:
    """Start a thread that uploads `run_dir` to s3://bucket/prefix/<name of run_dir> and reports faults to `message`.

    It makes the folder if needed. Call it at the very start of a run, so that a wrong name costs no time, and set the
    result's `message` when the run has its log.

    Raises ArgumentError if the server refuses (no such bucket, wrong credentials) or an argument is bad. A server that
    does not answer within 20 s does not stop the run. Returns None and says so if boto3 is not installed. A dry run
    reports each file to `message`, needs neither boto3 nor credentials, and sends and writes nothing.
    """
    run_dir = Path(run_dir)
    bucket, prefix = split_url(f"s3://{bucket}/{prefix.strip('/')}/{run_dir.resolve().name}")
    try:
        client, fault = (None, None) if dry_run else _connect_and_check(bucket, prefix, endpoint_url)
    except ModuleNotFoundError:
        message("boto3 is not installed: nothing is uploaded to S3 (python -m npp_rl.training.s3 upload does it later)")
        return None
    run_dir.mkdir(parents=True, exist_ok=True)
    sync = Sync(client, run_dir, bucket, prefix, endpoint_url, message)
    sync.fault = fault
    if fault:
        message(f"S3: {sync.url}: {fault}; training goes on, uploads are tried again until all is there")
    else:
        message(f"S3: {run_dir} is kept at {sync.url}{' (dry run: nothing is sent)' if dry_run else ''}")
    sync.request()
    sync.thread.start()
    return sync


def upload(
    path: str | Path,
    url: str,
    endpoint_url: str | None = None,
    dry_run: bool = False,
    message: Callable[[str], None] = print,
) -> dict[str, str]:
    """Upload a folder's files, or one file, to `url` (s3://bucket/prefix) and wait for it.

    It retries while the server fails, until ATTEMPTS tries in a row sent nothing. Returns the reasons of failed uploads
    by relative path. Raises ArgumentError as `start` does, and ModuleNotFoundError without boto3.
    """
    path = Path(path)
    if not path.exists():
        raise ArgumentError(f"{path}: no such file or folder")
    bucket, prefix = split_url(url)
    client = None if dry_run else _connect_and_check(bucket, prefix, endpoint_url)[0]
    sync = Sync(client, path, bucket, prefix, endpoint_url, message)
    pause, idle, sent = FIRST_PAUSE, 0, 0
    while (failures := sync.upload_changes()) and sync.outage:
        idle, sent = idle + 1 if sync.sent_files == sent else 0, sync.sent_files
        if idle == ATTEMPTS:
            break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    if not dry_run:
        message(f"S3: {sync.sent_files} files ({sync.sent_bytes:,} bytes) sent, {len(sync.files)} are at {sync.url}")
    return failures


def download(
    url: str, folder: str | Path, endpoint_url: str | None = None, message: Callable[[str], None] = print
) -> Path:
    """Download all objects under `url` (s3://bucket/prefix/run) into the new or empty `folder`, with a manifest.

    The folder appears when all files are there and each has the sha256 of its object's metadata. Returns `folder`.
    Raises CheckpointError if that fails, ArgumentError for a bad URL, ModuleNotFoundError without boto3, OSError.
    """
    bucket, prefix = split_url(url)
    folder = Path(folder)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise CheckpointError(f"{folder}: is there already (expected a new folder for {url})")
    client = connect(endpoint_url)
    try:
        remote = list_objects(client, bucket, prefix)
    except Exception as error:
        raise CheckpointError(f"{url}: {describe(error)}") from error
    names = {key: key[len(prefix) + 1 :] for key in remote if not key.endswith("/")}  # consoles make them for folders
    for key, relative in names.items():
        if not _is_plain(relative) or relative.rpartition("/")[2] == MANIFEST:
            raise CheckpointError(f"{url}: refused the object {key!r} (expected a plain relative path)")
    if not names:
        raise CheckpointError(f"{url}: nothing is there")
    message(f"S3: fetching {len(names)} files ({sum(remote[key] for key in names) / 1e6:.1f} MB) from {url}")
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.resolve().name}.", dir=parent) as place:
        complete = Path(place, "complete")
        complete.mkdir()
        files = {}
        # Checkpoints first, as in an upload: the logs of a run that is still training are then never older.
        for key, relative in sorted(names.items(), key=lambda name: _reading_order(Path(name[1]))):
            target = complete / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            files[relative] = _fetch(client, bucket, key, target)
        write_manifest(complete, f"s3://{bucket}/{prefix}", endpoint_url, files)
        complete.rename(folder)
    return folder


def download_for_resume(url: str, folder: str | Path, endpoint_url: str | None = None) -> Path:
    """`download` for `--resume s3://...`. Under torchrun one process per machine downloads and the others wait.

    Raises CheckpointError and ArgumentError only. Machines with a common file system must download beforehand.
    """
    folder = Path(folder)
    if os.environ.get("LOCAL_RANK", "0") != "0":
        while not (folder / MANIFEST).exists():  # torchrun ends this process if the other one fails
            time.sleep(0.2)
        return folder
    try:
        return download(url, folder, endpoint_url)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"--resume {url}: boto3 is not installed") from error


def split_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix, the prefix without slashes at its ends. Raises ArgumentError."""
    match = re.fullmatch(r"s3://([A-Za-z0-9._-]{3,255})/+(.*?)/*", url)
    prefix = "/".join(part for part in match[2].split("/") if part) if match else ""
    if not prefix or {".", ".."} & set(prefix.split("/")) or not prefix.isprintable():
        raise ArgumentError(f"{url!r}: expected s3://BUCKET/PREFIX")
    return match[1], prefix


def connect(endpoint_url: str | None, connect_timeout: float = 10, read_timeout: float = 60, attempts: int = 5):
    """An S3 client with time limits in seconds. Raises ArgumentError, and ModuleNotFoundError without boto3."""
    import boto3
    from botocore.config import Config

    if endpoint_url:
        try:
            parts = urlsplit(endpoint_url)
            fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            fine = False
        if not fine or parts.query or parts.fragment:  # the message does not repeat it: it may hold a password
            raise ArgumentError(
                "the S3 endpoint URL is not usable: expected http://HOST:PORT or https://HOST without user or password"
            )
    try:
        session = boto3.session.Session()
        config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        client = session.client("s3", endpoint_url=endpoint_url, config=config)
        aws = session.client("s3", config=Config(ignore_configured_endpoint_urls=True)).meta.endpoint_url
        if client.meta.endpoint_url == aws:
            return client
        # The endpoint is the argument's, or one of the environment or of ~/.aws/config. Not every server knows boto3's
        # own checksums. Without them the SHA-256 of each body is signed and checked.
        own = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
        return session.client("s3", endpoint_url=endpoint_url, config=config.merge(own))
    except Exception as error:  # a profile that does not exist, an unreadable ~/.aws/config
        raise ArgumentError(f"boto3 cannot be set up: {describe(error)}") from error


def _connect_and_check(bucket, prefix, endpoint_url):
    """Client, and why the server does not answer, or None if it does. Raises ArgumentError if the server refuses."""
    try:
        connect(endpoint_url, 5, 5, 2).list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1)
        fault = None
    except Exception as error:
        if isinstance(error, (ArgumentError, ModuleNotFoundError)):
            raise
        fault = describe(error)
        if _kind(error) == "refusal":
            place = f" at {endpoint_url}" if endpoint_url else ""
            raise ArgumentError(f"s3://{bucket}/{prefix}{place}: {fault}") from error
    return connect(endpoint_url), fault


def list_objects(client, bucket: str, prefix: str) -> dict[str, int]:
    """Key -> size in bytes of every object under prefix/."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def write_manifest(folder: Path, url: str, endpoint_url: str | None, files: dict[str, dict]) -> None:
    """Write the folder's s3_manifest.json atomically. files: key, size, sha256 and time by relative path."""
    manifest = {"format": FORMAT, "url": url, "endpoint_url": endpoint_url, "files": dict(sorted(files.items()))}
    write_json(folder / MANIFEST, manifest)


def describe(error: Exception) -> str:
    """Describe an error in a few words, without text that a server sent or that could hold a secret."""
    kind, name = _kind(error), type(error).__name__
    if isinstance(error, ArgumentError):
        return str(error)
    if kind == "own" and getattr(error, "strerror", None):
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    if isinstance(response := getattr(error, "response", None), dict):
        code = str(response.get("Error", {}).get("Code", ""))
        code = code if re.fullmatch(r"[A-Za-z]{1,40}", code) else "no code"
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        what = "no such bucket" if code == "NoSuchBucket" else "refused" if kind == "refusal" else "the server fails"
        return f"{what} ({code}, HTTP {status})"
    if name == "NoCredentialsError":
        return "no credentials (boto3 looks in the environment, in ~/.aws and asks the machine's role)"
    return f"no answer ({name})" if kind == "outage" else name


def _kind(error):
    """`own`: a local file causes the error. `refusal`: waiting does not help. `outage`: server or network fail."""
    if isinstance(error, (OSError, ValueError)) and not type(error).__module__.startswith("botocore"):
        return "own"
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, IncompleteReadError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        slow = error.response.get("Error", {}).get("Code") in ("RequestTimeout", "SlowDown", "Throttling")
        return "outage" if status >= 500 or status in (408, 429) or slow else "refusal"
    if isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError)):
        return "outage"
    return "refusal" if isinstance(error, BotoCoreError) else "outage"  # such as no credentials


def _fetch(client, bucket, key, target):
    """Download one object and return its manifest entry. Raises CheckpointError."""
    problem = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
        try:
            about = client.head_object(Bucket=bucket, Key=key)
            sha256 = about["Metadata"].get("sha256")
            if not sha256:
                raise CheckpointError(f"s3://{bucket}/{key}: no sha256 in its metadata to check it with")
            with target.open("w+b") as stream:
                client.download_fileobj(bucket, key, stream, Config=_transfer_config())
                stream.flush()
                os.fsync(stream.fileno())
                stream.seek(0)
                found = hashlib.file_digest(stream, "sha256").hexdigest()
                size = stream.seek(0, os.SEEK_END)
        except Exception as error:
            if _kind(error) == "own":
                raise
            problem = describe(error)
            continue
        if found == sha256:
            return {"key": key, "size": size, "sha256": sha256, "time": _utc(about["LastModified"].timestamp())}
        problem = f"the content's sha256 {found[:12]}... is not the {sha256[:12]!a}... of its metadata"
    raise CheckpointError(f"s3://{bucket}/{key}: {problem}")


def _is_plain(relative):
    """Whether a relative path stays in its folder and can be printed. A server may send any path."""
    return relative.isprintable() and "\\" not in relative and not {"", ".", ".."} & set(relative.split("/"))


def _transfer_config():
    from boto3.s3.transfer import TransferConfig

    # boto3's own threads would keep the process alive at its end, and take cores from the training.
    return TransferConfig(multipart_threshold=MULTIPART_BYTES, multipart_chunksize=MULTIPART_BYTES, use_threads=False)


def _reading_order(path):
    """Sort key: latest.pt, other checkpoints, the rest. Files are read in this order and sent in the opposite one."""
    return 0 if path.name == "latest.pt" else 1 if path.suffix == ".pt" else 2


def _utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@dataclass
class Upload:
    """Upload the new and changed files of a folder."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """folder to upload, or one file"""
    url: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URL")]
    """s3://bucket/prefix/run"""
    endpoint_url: str | None = None
    """S3 server other than AWS, such as http://127.0.0.1:9000"""
    dry_run: bool = False
    """print what would be uploaded, and send nothing"""


@dataclass
class Download:
    """Download a folder and check every file's sha256."""

    url: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URL")]
    """s3://bucket/prefix/run"""
    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """new folder for the download"""
    endpoint_url: str | None = None
    """S3 server other than AWS, such as http://127.0.0.1:9000"""


@dataclass
class Args:
    command: Annotated[Upload | Download, tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes]
    """command to run"""


def main(args: Args) -> None:
    """Upload or download. Raises ArgumentError, CheckpointError, ModuleNotFoundError, OSError."""
    command = args.command
    if isinstance(command, Download):
        print(f"S3: {command.url} is in {download(command.url, command.folder, command.endpoint_url)}")
        return
    failures = upload(command.path, command.url, command.endpoint_url, command.dry_run)
    if failures:
        relative, reason = next(iter(failures.items()))
        name = f"{command.url}/{relative}" if relative else command.url
        raise CheckpointError(f"{name}: {reason}; not everything is uploaded")


if __name__ == "__main__":
    command(main, Args)
