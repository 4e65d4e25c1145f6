"""Reading files that somebody else may have made: nothing waits for ever, nothing is read without end."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from npp_rl.commands import UserError
from npp_rl.files import open_file, read_bytes, read_json, read_text, shown_name
from npp_rl.levels.builtin import par_of
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.replays import read_replays
from npp_rl.planning.runs import kept
from npp_rl.training.checkpoints import load


def test_a_file_is_read_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("\N{SNOWMAN}\r\n".encode())
    assert read_bytes(path, 5) == "\N{SNOWMAN}\r\n".encode() and read_text(path, 5) == "\N{SNOWMAN}\r\n"
    with open_file(path) as stream:
        assert stream.read() == path.read_bytes()


def test_a_missing_file_is_an_os_error_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing"):
        read_bytes(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["pipe", "zero", "folder", "socket", "terminal"])
def test_what_is_no_regular_file_is_refused_at_once(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    if kind == "pipe":
        os.mkfifo("it")
    elif kind == "folder":
        Path("it").mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind("it")
    else:
        Path("it").symlink_to({"zero": "/dev/zero", "terminal": os.ttyname(os.openpty()[1])}[kind])
    for read in (open_file, read_bytes, read_text, read_json):
        with pytest.raises(UserError, match=r"^it: expected a regular file$"):
            read("it")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "a"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # sparse: it takes no place
    with pytest.raises(UserError, match=r"a: expected at most 67,108,864 bytes$"):
        read_bytes(path)
    with pytest.raises(UserError, match=r"stat: expected at most 10 bytes$"):
        read_bytes("/proc/self/stat", 10)  # says that it has 0 bytes


def test_text_that_is_no_text_and_names_that_are_no_names(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"{\xff}")
    for read in (read_text, read_json):
        with pytest.raises(UserError, match=r"a: expected text in UTF-8$"):
            read(path)
    with pytest.raises(UserError, match=r"^'a\\x00b': expected the name of a file$"):
        read_bytes("a\0b")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("simple/a 1", "simple/a 1"),
        ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
        ("\udcf0\udc9f\udc98\udc80", "\N{GRINNING FACE}"),  # the same in a locale of ASCII
        ("a\udcffb\x1b[31m\n", r"a\xffb\x1b[31m\n"),
        ("\ud800\N{GRINNING FACE}", "\\ud800\N{GRINNING FACE}"),
        ("a\u202eb", r"a\u202eb"),
    ],
)
def test_names_can_be_shown_everywhere(name, shown):
    assert shown_name(name) == shown
    shown.encode()


def test_json_is_an_object(tmp_path):
    path = tmp_path / "a"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    for text in ("[]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"a: expected a JSON object$"):
            read_json(path)


@pytest.mark.parametrize("kind", ["pipe", "zero"])
def test_nothing_that_reads_a_file_waits_for_ever(tmp_path, kind, capsys):
    def put(place):
        os.mkfifo(place) if kind == "pipe" else place.symlink_to("/dev/zero")
        return place

    def made():
        return {"a": np.arange(3)}

    for read in (read_replays, load_levels, lambda path: par_of([], path), load):
        place = put(tmp_path / f"it{len(list(tmp_path.iterdir()))}")
        with pytest.raises(UserError) as caught:
            read(place)
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    put(tmp_path / "data.npz")
    assert kept(tmp_path, "data", made)["a"].tolist() == [0, 1, 2]  # and the cache is a file now
    assert (tmp_path / "data.npz").is_file() and not (tmp_path / "data.npz").is_symlink()
    put(tmp_path / "a_metadata.json")
    with pytest.raises(UserError, match=r"no usable level|no level"):
        load_levels(tmp_path)
    assert "data.npz: damaged" in capsys.readouterr().err
