"""Uploads and downloads against a real HTTP server of S3's protocol, behind a proxy that fails as networks do."""

import contextlib
import hashlib
import json
import logging
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import boto3
import botocore.loaders
import botocore.session
import pytest
from moto.server import ThreadedMotoServer
from s3_proxy import KEY_ID, SECRET, Proxy

from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.files import write_atomically
from npp_rl.training import s3
from npp_rl.training.arguments import parse_args

LOADER = botocore.loaders.create_loader()


@pytest.fixture(scope="module")
def server():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Credentials from the environment alone, and short pauses."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, seconds in {"FIRST_PAUSE": 0.05, "LONGEST_PAUSE": 0.2, "LAST_PAUSE": 0.1}.items():
        monkeypatch.setattr(s3, name, seconds)
    monkeypatch.setattr(botocore.session, "create_loader", lambda *_: LOADER)  # a tenth of a second for each client


@pytest.fixture
def proxy(server):
    proxy = Proxy(server)
    yield proxy
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture
def remote(server):
    """A client that goes to the server directly, with an empty bucket `runs-...` of this test."""
    client = boto3.session.Session().client("s3", endpoint_url="http://{}:{}".format(*server))
    client.bucket = f"runs-{random.getrandbits(64):x}"
    client.create_bucket(Bucket=client.bucket)
    return client


@pytest.fixture
def run_dir(tmp_path):
    run_dir = tmp_path / "runs" / "run one"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "tensorboard" / "eval").mkdir(parents=True)
    (run_dir / "config.json").write_text("{}\n")
    (run_dir / "metrics.jsonl").write_text('{"step": 1}\n' * 100)
    (run_dir / "checkpoints" / "latest.pt").write_bytes(os.urandom(200_000))
    (run_dir / "checkpoints" / "best.pt").write_bytes(os.urandom(100_000))
    (run_dir / "tensorboard" / "eval" / "events.1").write_bytes(b"")
    (run_dir / "pläne + 100%.txt").write_text("a name that has to be quoted")
    return run_dir


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file but manifests."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != s3.MANIFEST
    }


def objects(remote, prefix: str) -> dict[str, bytes]:
    """Relative key -> content of every object under prefix/."""
    keys = s3.list_objects(remote, remote.bucket, prefix)
    get = remote.get_object
    return {key[len(prefix) + 1 :]: get(Bucket=remote.bucket, Key=key)["Body"].read() for key in keys}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(folder: Path) -> dict[str, dict]:
    return json.loads((folder / s3.MANIFEST).read_text())["files"]


def assert_manifest_is_true(remote, folder: Path) -> int:
    """Every entry's object is on the server with the entry's content; returns their number."""
    files = manifest(folder) if (folder / s3.MANIFEST).exists() else {}
    for relative, entry in files.items():
        answer = remote.get_object(Bucket=remote.bucket, Key=entry["key"])
        content = answer["Body"].read()
        assert (len(content), sha256(content)) == (entry["size"], entry["sha256"]), relative
        assert answer["Metadata"]["sha256"] == entry["sha256"], relative
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"])
    return len(files)


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_run_comes_back_as_it_went(proxy, remote, run_dir, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("not of the run")
    sent = contents(run_dir)
    (run_dir / "link").symlink_to(outside)
    (run_dir / ".latest.pt.123.tmp").write_text("half a checkpoint")
    (run_dir / ".hidden").mkdir()
    (run_dir / ".hidden" / "file").write_text("hidden")
    messages = []
    sync = s3.start(run_dir, remote.bucket, "/exp/full_hgt/", proxy.url, message=messages.append)
    began = time.monotonic()
    assert sync.finish(60)
    assert time.monotonic() - began < 20  # it waits no longer than it must
    assert messages == [f"S3: {run_dir} is kept at s3://{remote.bucket}/exp/full_hgt/run one"]
    assert objects(remote, "exp/full_hgt/run one") == sent
    about = json.loads((run_dir / s3.MANIFEST).read_text())
    assert about["url"] == f"s3://{remote.bucket}/exp/full_hgt/run one"
    assert {name: entry["key"] for name, entry in about["files"].items()} == {
        name: f"exp/full_hgt/run one/{name}" for name in sent
    }
    assert assert_manifest_is_true(remote, run_dir) == len(sent) == 6
    head = remote.head_object(Bucket=remote.bucket, Key="exp/full_hgt/run one/config.json")
    assert head["ContentType"] == "application/json"
    assert set(head["Metadata"]) == {"sha256", "modified", "program"}

    proxy.moved.clear()
    there = s3.download(about["url"], tmp_path / "elsewhere" / "run one", proxy.url)
    assert there == tmp_path / "elsewhere" / "run one"
    assert contents(there) == sent
    assert list(there.parent.iterdir()) == [there]
    assert {k: v["sha256"] for k, v in manifest(there).items()} == {k: sha256(v) for k, v in sent.items()}
    # The resumed run goes on there and has nothing to send.
    assert s3.start(there, remote.bucket, "exp/full_hgt", proxy.url).finish(20)
    assert proxy.puts() == []


def test_only_what_changed_is_sent(proxy, remote, run_dir):
    url = f"s3://{remote.bucket}/a/run"
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert len(proxy.puts()) == 6
    proxy.moved.clear()
    os.utime(run_dir / "config.json")
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert proxy.puts() == []
    # Same size, same time stamps: by content alone.
    path = run_dir / "checkpoints" / "best.pt"
    old = path.stat()
    path.write_bytes(os.urandom(old.st_size))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert [Path(put).name for put in proxy.puts()] == ["best.pt"]
    assert objects(remote, "a/run") == contents(run_dir)

    # A lost manifest, or one of another place: found again by the objects' metadata.
    proxy.moved.clear()
    kept = manifest(run_dir)
    (run_dir / s3.MANIFEST).unlink()
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert s3.upload(run_dir, f"s3://{remote.bucket}/b/run", proxy.url) == {}
    assert len(proxy.puts()) == 6
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert len(proxy.puts()) == 6
    assert {k: v["sha256"] for k, v in manifest(run_dir).items()} == {k: v["sha256"] for k, v in kept.items()}

    # What somebody removed or overwrote on the server goes there again.
    remote.delete_object(Bucket=remote.bucket, Key="a/run/config.json")
    remote.put_object(Bucket=remote.bucket, Key="a/run/metrics.jsonl", Body=b"other")
    proxy.moved.clear()
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert sorted(Path(put).name for put in proxy.puts()) == ["config.json", "metrics.jsonl"]
    assert objects(remote, "a/run") == contents(run_dir)


def test_unchanged_files_are_read_once(proxy, remote, run_dir, monkeypatch):
    """But for those so new that a further change may have left their time stamps as they are."""
    for path in run_dir.rglob("*"):
        os.utime(path, (1e9, 1e9))
    os.utime(run_dir / "config.json")
    sync = s3.Sync(s3.connect(proxy.url), run_dir, remote.bucket, "run", proxy.url, print)
    assert sync.upload_changes() == {}
    sent, copied = sync.sent_files, []
    copy = s3.tempfile.SpooledTemporaryFile
    monkeypatch.setattr(s3.tempfile, "SpooledTemporaryFile", lambda *args, **kwargs: copied.append(1) or copy())
    assert sync.upload_changes() == {}
    assert (sync.sent_files, len(copied)) == (sent, 1)


@pytest.mark.parametrize("damaged", ["", "[]", '{"format": 1}', '{"files": 3}', None])
def test_a_damaged_manifest_costs_nothing(proxy, remote, run_dir, damaged):
    url = f"s3://{remote.bucket}/run"
    assert s3.upload(run_dir, url, proxy.url) == {}
    path = run_dir / s3.MANIFEST
    about = json.loads(path.read_text())
    about["files"]["config.json"]["key"] = ["a list"]
    path.write_text(json.dumps(about) if damaged is None else damaged)
    proxy.moved.clear()
    assert s3.upload(run_dir, url, proxy.url) == {}
    assert proxy.puts() == []
    assert assert_manifest_is_true(remote, run_dir) == 6


def test_a_manifest_that_cannot_be_written(proxy, remote, run_dir, monkeypatch):
    """A full disk: what the manifest does not say is sent again, and stands in it in the end."""
    sync = s3.Sync(s3.connect(proxy.url), run_dir, remote.bucket, "run", proxy.url, print)
    with monkeypatch.context() as full:

        def write(*_):
            raise OSError(28, "No space left on device", "manifest")

        full.setattr(s3, "write_manifest", write)
        assert set(sync.upload_changes().values()) == {"No space left on device (manifest)", "waits for the logs"}
    assert not (run_dir / s3.MANIFEST).exists()
    assert sync.upload_changes() == {}
    assert assert_manifest_is_true(remote, run_dir) == 6


def test_single_file(proxy, remote, run_dir):
    assert s3.upload(run_dir / "checkpoints" / "best.pt", f"s3://{remote.bucket}/models", proxy.url) == {}
    assert objects(remote, "models") == {"best.pt": (run_dir / "checkpoints" / "best.pt").read_bytes()}


def test_nothing_is_missing_where_requests_fail(proxy, remote, run_dir):
    for i in range(20):
        (run_dir / f"video{i}.mp4").write_bytes(os.urandom(20_000))
    rng = random.Random(4)
    failed = []

    def fault(method, path):
        if rng.random() < 0.3:
            failed.append(path)
            return rng.choice([500, 503, "reset"])

    proxy.fault = fault
    messages = []
    sync = s3.start(run_dir, remote.bucket, "", proxy.url, message=messages.append)
    for i in range(10):
        with (run_dir / "metrics.jsonl").open("a") as stream:
            stream.write(f'{{"step": {i}}}\n')
        sync.request()
        time.sleep(0.02)
    assert sync.finish(30)
    assert len(failed) > 10
    assert objects(remote, "run one") == contents(run_dir)
    assert assert_manifest_is_true(remote, run_dir) == 26
    there = s3.download(f"s3://{remote.bucket}/run one", run_dir.parent / "again", proxy.url)
    assert contents(there) == contents(run_dir)


def test_a_slow_server_never_blocks_the_training(proxy, remote, run_dir, capsys):
    proxy.fault = lambda method, path: 0.5
    sync = s3.start(run_dir, remote.bucket, "", proxy.url)
    longest = 0.0
    for _ in range(300):
        began = time.perf_counter()
        sync.request()
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.002)
    assert longest < 0.1  # requests alone take half a second
    capsys.readouterr()
    began = time.monotonic()
    assert not sync.finish(0.2)
    assert time.monotonic() - began < 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    match = re.fullmatch(
        rf"S3: (\d) files \([\d.]+ MB\) are not at s3://{remote.bucket}/run one \(out of time\); later: python (.*)",
        lines[0],
    )
    assert int(match[1]) == len(sync.missing()) > 0
    proxy.fault = lambda method, path: None
    again = subprocess.run([sys.executable, *shlex.split(match[2])], capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert objects(remote, "run one") == contents(run_dir)
    assert assert_manifest_is_true(remote, run_dir) == 6


@pytest.mark.parametrize("fault", ["reset", 500])
def test_server_gone_and_back(proxy, remote, run_dir, fault):
    messages = []
    sync = s3.start(run_dir, remote.bucket, "", proxy.url, message=messages.append)
    wait_for(lambda: len(manifest(run_dir)) == 6 if (run_dir / s3.MANIFEST).exists() else False)
    del messages[:]
    proxy.fault = lambda method, path: fault
    (run_dir / "metrics.jsonl").write_text("more\n")
    write_atomically(run_dir / "checkpoints" / "latest.pt", b"newer")
    proxy.moved.clear()
    for _ in range(5):
        sync.request()
        time.sleep(0.1)
    wait_for(lambda: len(proxy.puts()) >= 15)  # three passes of five tries
    assert len(messages) == 1
    assert "training goes on" in messages[0]
    assert_manifest_is_true(remote, run_dir)
    assert "metrics.jsonl" not in manifest(run_dir)  # nobody knows what is there
    assert (run_dir / "metrics.jsonl").read_text() == "more\n"
    proxy.fault = lambda method, path: None
    wait_for(lambda: len(messages) == 2)
    assert messages[1] == f"S3: s3://{remote.bucket}/run one: uploads work again, nothing is missing"
    assert sync.finish(10)
    assert objects(remote, "run one") == contents(run_dir)
    assert_manifest_is_true(remote, run_dir)


def test_server_away_at_the_start(server, remote, run_dir):
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    messages = []
    sync = s3.start(run_dir, remote.bucket, "", f"http://127.0.0.1:{port}", message=messages.append)
    time.sleep(0.3)
    assert len(messages) == 1
    assert "no answer (EndpointConnectionError); training goes on" in messages[0]
    proxy = Proxy(server, port)
    assert sync.finish(20)
    proxy.shutdown()
    proxy.server_close()
    assert objects(remote, "run one") == contents(run_dir)


def reset_auth(server, count: str):
    """After `count` further requests the server checks credentials (it knows none)."""
    url = "http://{}:{}/moto-api/reset-auth".format(*server)
    urllib.request.urlopen(urllib.request.Request(url, count.encode(), {"Content-Type": "text/plain"})).close()


def test_what_no_waiting_mends_is_said_at_the_start(server, proxy, remote, run_dir, monkeypatch, tmp_path):
    where = rf"s3://{remote.bucket}/run one at {proxy.url}"
    reset_auth(server, "0")
    try:
        with pytest.raises(ArgumentError, match=rf"^{where}: refused \(InvalidAccessKeyId, HTTP 403\)$"):
            s3.start(run_dir, remote.bucket, "", proxy.url)
        with pytest.raises(CheckpointError, match=r"refused \(InvalidAccessKeyId, HTTP 403\)$"):
            s3.download(f"s3://{remote.bucket}/run one", tmp_path / "new", proxy.url)
    finally:
        reset_auth(server, "inf")
    with pytest.raises(ArgumentError, match=r"^s3://nobodys/run one at .*: no such bucket \(.*404\)$"):
        s3.start(run_dir, "nobodys", "", proxy.url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ArgumentError, match=rf"^{where}: no credentials"):
        s3.start(run_dir, remote.bucket, "", proxy.url)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ArgumentError, match=r"^boto3 cannot be set up: ProfileNotFound$"):
        s3.start(run_dir, remote.bucket, "", proxy.url)
    with pytest.raises(ArgumentError):
        s3.start(tmp_path / "new", remote.bucket, "", proxy.url)
    assert not (run_dir / s3.MANIFEST).exists()
    assert not (tmp_path / "new").exists()


def test_refused_while_training(proxy, remote, run_dir, capsys):
    """Credentials that may list but not write, or that run out: said once, the end does not wait for them."""
    proxy.fault = lambda method, path: 403 if method == "PUT" else None
    messages = []
    sync = s3.start(run_dir, remote.bucket, "", proxy.url, message=messages.append)
    wait_for(lambda: len(proxy.puts()) > 12)
    assert len(messages) == 2
    assert re.search(r"refused \(AccessDenied, HTTP 403\); training goes on", messages[1])
    began = time.monotonic()
    assert not sync.finish(60)
    assert time.monotonic() - began < 10
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "6 files" in said
    for text in (*messages, said):
        assert KEY_ID not in text
        assert SECRET not in text
    assert not (run_dir / s3.MANIFEST).exists()


def test_one_refused_file_keeps_no_other_back(proxy, remote, run_dir):
    (run_dir / "back\\slash").write_text("no key")
    proxy.fault = lambda method, path: 403 if method == "PUT" and "config" in path else None
    failures = s3.upload(run_dir, f"s3://{remote.bucket}/run", proxy.url)
    assert set(failures) == {"config.json", "back\\slash"}
    assert set(objects(remote, "run")) == set(contents(run_dir)) - set(failures)


def test_secrets_stay_at_home(proxy, remote, run_dir, capsys):
    sync = s3.start(run_dir, remote.bucket, "", proxy.url)
    assert sync.finish(20)
    written = (run_dir / s3.MANIFEST).read_text() + "".join(capsys.readouterr())
    assert KEY_ID not in written
    assert SECRET not in written
    with pytest.raises(ArgumentError) as caught:
        s3.start(run_dir, remote.bucket, "", f"http://{KEY_ID}:{SECRET}@127.0.0.1:9000")
    assert SECRET not in str(caught.value)


TRAINING = """
import os, sys, time
from npp_rl.files import write_atomically
from npp_rl.training import s3
import boto3
run_dir, bucket, url = sys.argv[1:]
s3.FIRST_PAUSE = 0.01
for line in sys.stdin:
    if pid := os.fork():
        print(pid, flush=True)
        continue
    sync = s3.start(run_dir, bucket, "", url, message=lambda text: None)
    while True:
        with open(run_dir + "/metrics.jsonl", "a") as stream:
            stream.write("x" * 1000 + "\\n")
        write_atomically(run_dir + "/checkpoints/latest.pt", os.urandom(50_000))
        sync.request()
        time.sleep(0.003)
"""


def test_killed_at_any_moment(proxy, remote, run_dir):
    rng = random.Random(1)
    proxy.fault = lambda method, path: rng.choice([None, 0.02, 0.02, 500])  # time to die between deed and answer
    command = [sys.executable, "-c", TRAINING, str(run_dir), remote.bucket, proxy.url]
    held = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        for _ in range(8):
            proxy.moved.clear()
            parent.stdin.write("\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            wait_for(proxy.puts)
            time.sleep(0.3 * rng.random())
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)  # what it had sent may still be on its way
            held.append(assert_manifest_is_true(remote, run_dir))
        parent.stdin.close()
    assert max(held) >= 4
    proxy.fault = lambda method, path: None
    assert s3.upload(run_dir, f"s3://{remote.bucket}/run one", proxy.url) == {}
    assert assert_manifest_is_true(remote, run_dir) == 6
    sent = {name: content for name, content in contents(run_dir).items() if not Path(name).name.startswith(".")}
    assert objects(remote, "run one") == sent


def test_large_files_go_and_come_in_parts(proxy, remote, run_dir, monkeypatch):
    monkeypatch.setattr(s3, "MULTIPART_BYTES", 5 << 20)  # the least that the protocol allows
    large = run_dir / "checkpoints" / "latest.pt"
    large.write_bytes(os.urandom(12_000_000))
    failed = set()

    def fault(method, path):  # each part fails once
        part = re.search(r"partNumber=\d", path)
        if method == "PUT" and part and part[0] not in failed:
            failed.add(part[0])
            return "reset"

    proxy.fault = fault
    assert s3.upload(run_dir, f"s3://{remote.bucket}/run", proxy.url) == {}
    assert len(failed) == 3
    assert remote.head_object(Bucket=remote.bucket, Key="run/checkpoints/latest.pt")["ETag"].endswith('-3"')
    assert assert_manifest_is_true(remote, run_dir) == 6
    proxy.moved.clear()
    there = s3.download(f"s3://{remote.bucket}/run", run_dir.parent / "there", proxy.url)
    assert contents(there) == contents(run_dir)
    assert sum(path.endswith("latest.pt") and method == "GET" for method, path in proxy.moved) == 3


def test_a_file_that_changes_while_it_is_sent(proxy, remote, run_dir):
    """What arrives is one content, the manifest's; the change follows with the next pass."""
    log, other = run_dir / "metrics.jsonl", run_dir / "config.json"
    log.write_bytes(b"x" * 3_000_000)
    first = {"metrics.jsonl": log.read_bytes(), "config.json": other.read_bytes()}

    def fault(method, path):
        if method == "PUT" and path.endswith("metrics.jsonl"):
            with log.open("ab") as stream:
                stream.write(b"y" * 100_000)
        if method == "PUT" and path.endswith("config.json"):
            other.write_bytes(b"[]\n")  # in place, same size
        return 500 if proxy.puts().count(path) == 1 else None  # the second try reads the content again

    proxy.fault = fault
    sync = s3.Sync(s3.connect(proxy.url), run_dir, remote.bucket, "run", proxy.url, print)
    assert sync.upload_changes() == {}
    there = objects(remote, "run")
    assert {name: there[name] for name in first} == first
    assert assert_manifest_is_true(remote, run_dir) == 6
    assert set(sync.missing()) == {"metrics.jsonl", "config.json"}
    proxy.fault = lambda method, path: None
    assert sync.upload_changes() == {}
    assert objects(remote, "run") == contents(run_dir)


def test_logs_are_never_older_than_the_checkpoint(proxy, remote, run_dir):
    """A checkpoint cuts the logs back to what they were when it was written: they must reach that far."""
    log, latest = run_dir / "metrics.jsonl", run_dir / "checkpoints" / "latest.pt"

    def train():
        with log.open("a") as stream:
            stream.write("a line\n")
        write_atomically(latest, str(log.stat().st_size).encode())

    def sizes():
        there = objects(remote, "run")
        return int(there.get("checkpoints/latest.pt", b"0")), len(there.get("metrics.jsonl", b""))

    def fault(method, path):
        if method == "PUT":
            needed, size = sizes()
            assert needed <= size
            train()
            return 403 if refused in path else None

    train()
    proxy.fault = fault
    sync = s3.Sync(s3.connect(proxy.url), run_dir, remote.bucket, "run", proxy.url, print)
    for refused in ("nothing", "metrics", "nothing", "metrics", "nothing"):
        before = sizes()
        failures = sync.upload_changes()
        needed, size = sizes()
        assert needed <= size
        if refused == "metrics":
            assert failures == {
                "metrics.jsonl": "refused (AccessDenied, HTTP 403)",
                "checkpoints/best.pt": "waits for the logs",
                "checkpoints/latest.pt": "waits for the logs",
            }
            assert (needed, size) == before
        else:
            assert failures == {}
            assert needed > before[0]


def test_download_refuses_what_is_not_as_it_was_sent(proxy, remote, run_dir, tmp_path, monkeypatch):
    url, target = f"s3://{remote.bucket}/run", tmp_path / "new" / "run"
    assert s3.upload(run_dir, url, proxy.url) == {}

    def refused(match):
        with pytest.raises(CheckpointError, match=match):
            s3.download(url, target, proxy.url)
        assert not target.exists()
        assert not target.parent.exists() or list(target.parent.iterdir()) == []

    key, metadata = "run/config.json", {"sha256": sha256(b"{}\n")}
    remote.put_object(Bucket=remote.bucket, Key=key, Body=b"[]\n", Metadata=metadata)
    refused(r"config.json: the content's sha256 .* is not the 'ca3d163bab05'... of its metadata$")
    remote.put_object(Bucket=remote.bucket, Key=key, Body=b"{}\n")
    refused("config.json: no sha256 in its metadata")
    remote.put_object(Bucket=remote.bucket, Key=key, Body=b"{}\n", Metadata=metadata)
    for name in ("../evil", "a/../../evil", "/evil", "a//evil", "a\\..\\evil", "a\x1bb", "./evil", s3.MANIFEST):
        evil = f"run/{name}"
        remote.put_object(Bucket=remote.bucket, Key=evil, Body=b"{}\n", Metadata=metadata)
        assert evil in s3.list_objects(remote, remote.bucket, "run")
        refused(r"refused the object .* \(expected a plain relative path\)$")
        remote.delete_object(Bucket=remote.bucket, Key=evil)
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.fault = lambda method, path: 500 if method == "GET" and path.endswith("latest.pt") else None
    refused(r"latest.pt: the server fails \(InternalError, HTTP 500\)$")
    proxy.fault = lambda method, path: None
    remote.put_object(Bucket=remote.bucket, Key="run/folder/", Body=b"")  # as consoles make them
    assert contents(s3.download(url, target, proxy.url)) == contents(run_dir)
    with pytest.raises(CheckpointError, match="is there already"):
        s3.download(url, target, proxy.url)
    with pytest.raises(CheckpointError, match="nothing is there"):
        s3.download(f"s3://{remote.bucket}/ru", tmp_path / "other", proxy.url)


def test_an_object_replaced_while_it_is_fetched(proxy, remote, run_dir, tmp_path):
    url = f"s3://{remote.bucket}/run"
    assert s3.upload(run_dir, url, proxy.url) == {}
    newer = b"newer"

    def fault(method, path):
        if method == "GET" and path.endswith("config.json"):
            remote.put_object(
                Bucket=remote.bucket, Key="run/config.json", Body=newer, Metadata={"sha256": sha256(newer)}
            )

    proxy.fault = fault
    assert (s3.download(url, tmp_path / "there", proxy.url) / "config.json").read_bytes() == newer


def test_dry_run_sends_and_writes_nothing(proxy, run_dir, monkeypatch):
    for name in ("boto3", "botocore", "boto3.session"):
        monkeypatch.setitem(sys.modules, name, None)  # not even needed
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    before = contents(run_dir)
    messages = []
    sync = s3.start(run_dir, "nobodys", "exp", proxy.url, dry_run=True, message=messages.append)
    wait_for(lambda: len(messages) == 7)
    assert "S3 dry run: would upload config.json (3 bytes) to s3://nobodys/exp/run one/config.json" in messages
    (run_dir / "metrics.jsonl").write_text("more\n")
    sync.request()
    wait_for(lambda: len(messages) == 8)
    assert "metrics.jsonl (5 bytes)" in messages[-1]
    assert sync.finish(10)
    before["metrics.jsonl"] = b"more\n"
    assert contents(run_dir) == before
    assert not (run_dir / s3.MANIFEST).exists()
    assert proxy.moved == []


def test_without_boto3(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    messages = []
    assert s3.start(run_dir, "bucket", message=messages.append) is None
    assert len(messages) == 1
    assert messages[0].startswith("boto3 is not installed: nothing is uploaded")
    with pytest.raises(ArgumentError, match="boto3 is not installed"):
        s3.download_for_resume("s3://bucket/run", run_dir.parent / "new")


def test_messages_outlive_the_runs_log(proxy, remote, run_dir, capsys):
    log = (run_dir / "log.jsonl").open("w")
    new = run_dir.parent / "not there yet"
    proxy.fault = lambda method, path: "reset"
    sync = s3.start(new, remote.bucket, "", proxy.url)
    assert "training goes on" in capsys.readouterr().out
    sync.message = log.write
    log.close()
    (new / "config.json").write_text("{}")
    proxy.fault = lambda method, path: None
    wait_for(lambda: not sync.fault)
    assert "uploads work again" in capsys.readouterr().out
    assert sync.finish(20)
    assert objects(remote, "not there yet") == contents(new)


def test_ranks_of_one_machine_fetch_once(proxy, remote, run_dir, tmp_path, monkeypatch):
    url, target = f"s3://{remote.bucket}/run", tmp_path / "there"
    assert s3.upload(run_dir, url, proxy.url) == {}
    monkeypatch.setenv("LOCAL_RANK", "1")
    got = []
    other = threading.Thread(target=lambda: got.append(s3.download_for_resume(url, target, proxy.url)))
    other.start()
    time.sleep(0.3)
    assert not got
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert s3.download_for_resume(url, target, proxy.url) == target
    other.join(10)
    assert got == [target]


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "bucket/run", "s3://b/run", "s3://a b c/run", "s3://bucket/../run"]
)
def test_bad_urls(url, run_dir):
    with pytest.raises(ArgumentError, match="expected s3://BUCKET/PREFIX"):
        s3.upload(run_dir, url, dry_run=True)


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://host", "http://", "http://[x", "http://host:port", "http://h/?a=b"]
)
def test_bad_endpoints(endpoint, run_dir):
    with pytest.raises(ArgumentError, match="endpoint URL is not usable"):
        s3.upload(run_dir, "s3://bucket/run", endpoint)


@pytest.mark.parametrize("how", ["argument", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "config file"])
def test_a_server_other_than_aws_gets_no_checksums_that_it_may_not_know(
    proxy, remote, run_dir, tmp_path, monkeypatch, how
):
    if how == "config file":
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {proxy.url}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    elif how != "argument":
        monkeypatch.setenv(how, proxy.url)
    endpoint = proxy.url if how == "argument" else None
    url = f"s3://{remote.bucket}/run"
    assert s3.upload(run_dir, url, endpoint) == {}
    s3.download(url, tmp_path / "back", endpoint)
    assert len(proxy.puts()) > 3 and "x-amz-content-sha256" in proxy.headers
    assert not {name for name in proxy.headers if "checksum" in name or "crc" in name or name == "x-amz-trailer"}


def test_aws_gets_its_checksums():
    client = s3.connect(None)
    assert client.meta.endpoint_url.endswith("amazonaws.com")
    assert client.meta.config.request_checksum_calculation == "when_supported"


def test_command(proxy, remote, run_dir, tmp_path, capsys):
    def command(*arguments):
        s3.main(parse_args(s3.Args, [*map(str, arguments), "--endpoint-url", proxy.url]))
        return capsys.readouterr().out

    url = f"s3://{remote.bucket}/run"
    assert command("upload", run_dir, url, "--dry-run").count("would upload") == 6
    assert proxy.moved == []
    assert f"S3: 6 files ({sum(map(len, contents(run_dir).values())):,} bytes) sent, 6 are at {url}" in command(
        "upload", run_dir, url
    )
    assert f"S3: {url} is in {tmp_path / 'there'}" in command("download", url, tmp_path / "there")
    proxy.fault = lambda method, path: 403 if method == "PUT" else None
    (run_dir / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=rf"^{url}/config.json: refused .*; not everything is up"):
        command("upload", run_dir, url)
    arguments = ["download", url.replace("runs-", "typo-"), str(tmp_path / "new"), "--endpoint-url", proxy.url]
    done = subprocess.run([sys.executable, "-m", "npp_rl.training.s3", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: s3://typo-\w+/run: no such bucket \(NoSuchBucket, HTTP 404\)\n", done.stderr)
