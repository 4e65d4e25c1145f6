"""The zoo: agents by name, and listing, checking and fetching them from folders, web servers and S3."""

import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest
import torch
from made_agents import KNOWN, made_run
from moto.server import ThreadedMotoServer

from npp_rl import export
from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError, UserError
from npp_rl.files import read_json, write_json
from npp_rl.training import checkpoints, exported, s3
from npp_rl.zoo import __main__ as zoo

TINY = {"hidden": 8, "tiles_hidden": 8, "features": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with two exported agents and their index."""
    place = tmp_path_factory.mktemp("source")
    for k, name in enumerate(("first", "second")):
        best = made_run(tmp_path_factory.mktemp("runs") / "run", seed=k, **TINY)
        export.main(export.Args(str(best), str(place / name), onnx=False))
    zoo.main(zoo.Args(source=str(place), index=True))
    return place


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("NPP_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(exported, "CARRIED", tmp_path / "carried")


@pytest.fixture(scope="module")
def server(source):
    """http://127.0.0.1:PORT of a server of the folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/cut/"):  # ends before what it promised
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"format"')
            elif self.path.startswith("/away/"):
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
            else:
                super().do_GET()

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(source)))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()


@pytest.fixture
def bucket(source, monkeypatch):
    """(s3 URL, endpoint) of the folder in a bucket."""
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    client = s3.connect(endpoint)
    client.create_bucket(Bucket="agents")
    for path in source.rglob("*"):
        if path.is_file():
            client.put_object(Bucket="agents", Key=f"zoo/{path.relative_to(source)}", Body=path.read_bytes())
    yield "s3://agents/zoo", endpoint
    moto.stop()


def test_agents_by_name(source, tmp_path, capsys):
    """The carried agent comes first, and a name never leaves the zoo."""
    for place, name in ((tmp_path / "carried/mine", "first"), (tmp_path / "zoo/mine", "second")):
        place.mkdir(parents=True)
        for path in (source / name).iterdir():
            (place / path.name).write_bytes(path.read_bytes())
    expected = checkpoints.load(source / "first")["agent"]
    assert torch.equal(checkpoints.load("zoo:mine")["agent"]["actor.weight"], expected["actor.weight"])
    assert load_agent("zoo:mine")[1]["hidden"] == 8
    for name in ("zoo:", "zoo:none", "zoo:../mine", "zoo:mine/", "zoo:.", "zoo:\0", "zoo:\x1b[31m"):
        with pytest.raises(CheckpointError, match="no such agent") as said:
            load_agent(name)
        assert str(said.value).isprintable()
    zoo.main(zoo.Args())
    assert capsys.readouterr().out.count("mine  ") == 2


def test_the_list(source, server, capsys):
    zoo.main(zoo.Args(source=str(source)))
    lines = capsys.readouterr().out
    assert [line.split()[:3] for line in lines.splitlines()] == [
        [name, "mlp_baseline", params(source)] for name in ("first", "second")
    ]
    assert "75.0% of 4 test levels" in lines
    zoo.main(zoo.Args(source=server))
    assert capsys.readouterr().out == lines
    zoo.main(zoo.Args())
    assert capsys.readouterr().out == "no agents\n"


def params(source):
    return f"{read_json(source / 'first/config.json')['parameters']:,}"


def fetched(where, tmp_path, source, **more):
    zoo.main(zoo.Args(source=where, fetch=("second",), **more))
    folder = tmp_path / "zoo/second"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (source / "second").iterdir()}
    assert all((source / "second" / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())
    assert load_agent("zoo:second")[1]["trained_on"] == {level.tiles_key for level in KNOWN}
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["second"]


def test_fetching_from_a_folder(source, tmp_path):
    fetched(str(source), tmp_path, source)
    with pytest.raises(ArgumentError, match=r"--fetch .*second: is there already"):
        zoo.main(zoo.Args(source=str(source), fetch=("second",)))


def test_fetching_from_a_server(server, source, tmp_path, capsys):
    fetched(server + "/", tmp_path, source)
    zoo.main(zoo.Args(source=server, check=True))
    assert capsys.readouterr().out.count("4 files, ") == 2


def test_fetching_from_a_bucket(bucket, source, tmp_path, capsys):
    url, endpoint = bucket
    fetched(url, tmp_path, source, endpoint_url=endpoint)
    zoo.main(zoo.Args(source=url, endpoint_url=endpoint))
    assert "first" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"s3://agents/none/index.json: refused \(NoSuchKey"):
        zoo.main(zoo.Args(source="s3://agents/none", endpoint_url=endpoint))


def damaged(source, tmp_path, file, change):
    folder = tmp_path / "damaged"
    for path in source.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(source)).write_bytes(path.read_bytes())
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    return folder


@pytest.mark.parametrize("file", ["second/model.safetensors", "second/README.md", "second/trained_on.txt"])
def test_a_changed_file_is_found_and_not_fetched(source, tmp_path, file):
    folder = damaged(source, tmp_path, file, lambda data: data + b"\n")
    for args in (
        zoo.Args(str(folder), check=True),
        zoo.Args(str(folder), ("second",)),
        zoo.Args(str(folder), index=True),
    ):
        with pytest.raises(
            CheckpointError, match=rf"{file}: its sha256 is \w{{12}}\.\.\., but config.json has"
        ) as said:
            zoo.main(args)
        assert "\n" not in str(said.value)
    assert not (tmp_path / "zoo").exists() or not list((tmp_path / "zoo").iterdir())


def test_a_changed_configuration_is_not_that_of_the_index(source, tmp_path):
    folder = damaged(source, tmp_path, "first/config.json", lambda data: data + b" ")
    read = zoo.reader_of(str(folder))
    agents = read_json(folder / "index.json")["agents"]
    with pytest.raises(CheckpointError, match=r"first/config.json: its sha256 is not the one in index.json"):
        zoo.config_of("first", agents["first"], read)
    zoo.config_of("second", agents["second"], read)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_sources_that_do_not_answer(server, tmp_path, source):
    write_json(source / "bad.json", {})
    for where, message in (
        (f"http://127.0.0.1:{free_port()}/zoo", r"index.json: no answer \(Connection refused\)"),
        (f"{server}/nowhere", "nowhere/index.json: the server answers HTTP 404"),
        (f"{server}/cut", "cut/index.json: "),
        (f"{server}/away", "away/index.json: the server answers HTTP 302"),
        ("http://[", "no answer|expected"),
        ("ftp://127.0.0.1/zoo", "--source ftp://127.0.0.1/zoo: expected a folder, or a URL"),
        ("file:///etc", "expected a folder, or a URL"),
        ("s3://", "expected s3://BUCKET/PREFIX"),
        (str(tmp_path / "nowhere"), "nowhere: no such folder"),
    ):
        for more in ({}, {"fetch": ("first",)}):
            with pytest.raises(UserError, match=message) as said:
                zoo.main(zoo.Args(source=where, **more))
            assert "\n" not in str(said.value)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"format": "npp-rl zoo 1"}', '{"format": "x", "agents": {}}'])
def test_an_index_that_is_none(source, content):
    with pytest.raises(UserError, match=r"https://h/z/index.json: (not the index of a zoo|expected a JSON object)"):
        zoo.index_of("https://h/z", lambda *_: content.encode())


@pytest.mark.parametrize("agents", [{"../x": "0" * 64}, {"x": "0"}, {"x": None}, {"\x1b[0m": "0" * 64}])
def test_an_index_that_lists_what_is_no_agent(agents):
    content = json.dumps({"format": "npp-rl zoo 1", "agents": agents}).encode()
    with pytest.raises(CheckpointError, match="without a plain name and a sha256") as said:
        zoo.index_of("https://h/z", lambda *_: content)
    assert str(said.value).isprintable()


def test_what_cannot_be_asked_for(source, tmp_path):
    for args, message in (
        (zoo.Args(fetch=("first",)), "--fetch: needs --source"),
        (zoo.Args(index=True), "--index: needs --source FOLDER"),
        (zoo.Args(source="https://h/z", index=True), "--index: needs --source FOLDER"),
        (zoo.Args(source=str(source), fetch=("third",)), r"--fetch third: not in .* \(there: first, second\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            zoo.main(args)
    (tmp_path / "carried/first").mkdir(parents=True)
    with pytest.raises(ArgumentError, match="that the package carries"):
        zoo.main(zoo.Args(source=str(source), fetch=("first",)))


def test_the_command_in_its_own_process(source, tmp_path):
    """A zoo that is down: one line, status 2. And cost takes zoo:NAME, in a process that inherits NPP_ZOO."""
    zoo.main(zoo.Args(source=str(source), fetch=("first",)))
    words = [sys.executable, "-m", "npp_rl.zoo", "--source", f"http://127.0.0.1:{free_port()}", "--fetch", "first"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: http://127.0.0.1:")
    done = subprocess.run([sys.executable, "-m", "npp_rl.zoo"], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "") and "first" in done.stdout
