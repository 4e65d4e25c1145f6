"""Where a run came from: the scripts' texts and the difference from the revision, kept in its folder."""

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npp_rl.training import source, system

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]


def run_git(folder, *words):
    done = subprocess.run([*GIT, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def package(tmp_path):
    """A checkout with one revision: tmp/repo/package."""
    package = tmp_path / "repo/package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one\ntwo\n")
    (package / "picture.bin").write_bytes(bytes(range(256)))
    (package.parent / ".gitignore").write_text("ignored/\n")
    run_git(package.parent, "init")
    run_git(package.parent, "add", "-A")
    run_git(package.parent, "commit", "-m", "first")
    return package


def state_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_untracked_files_change_a_checkout(package):
    clean = source.revision(package)
    assert len(clean["git_revision"]) == 40 and clean["git_changed"] is False
    (package.parent / "ignored").mkdir()
    (package.parent / "ignored/run.txt").write_text("x")
    assert source.revision(package) == clean and source.changes(package.parent) == ""
    (package / "ppo_new.py").write_text("print()\n")
    assert source.revision(package) == clean | {"git_changed": True}
    run_git(package, "config", "status.showUntrackedFiles", "no")
    assert source.revision(package)["git_changed"] is True


def test_the_difference_makes_the_checkout_again(package, tmp_path):
    """Tracked changes, staged ones and new text files, whatever their names; binary files are named only."""
    root = package.parent
    (package / "__init__.py").write_text("one\nthree")
    (package / "picture.bin").write_bytes(bytes(300))
    texts = {
        "new.py": "a = 1\n",
        "without end": "x\ny",
        "empty.txt": "",
        'Ünï\t"c".md': "ü\n",
        "crlf.txt": "a\r\nb\r\n",
    }
    for name, text in texts.items():
        (root / name).write_bytes(text.encode())
    (root / "more").mkdir()
    (root / "more/staged.py").write_text("b = 2\n")
    run_git(root, "add", "more/staged.py")
    (root / "data.bin").write_bytes(b"\0\1\2")
    (root / "link").symlink_to("/etc/hostname")
    (root / ".env").write_text("PASSWORD=secret\n")
    os.mkfifo(root / "pipe")
    difference = source.changes(root)
    assert "# untracked, not shown (binary, hidden or too large): 'data.bin'\n" in difference
    assert (
        "'link'" in difference and "Binary files a/package/picture.bin and b/package/picture.bin differ" in difference
    )
    other = tmp_path / "other"
    run_git(tmp_path, "clone", "-q", str(root), str(other))
    text_only = "".join(
        f"diff --git{part}" for part in difference.split("diff --git")[1:] if "Binary files" not in part
    )
    (tmp_path / "changes.diff").write_text(text_only, newline="")
    run_git(other, "apply", str(tmp_path / "changes.diff"))
    expected = {
        path: data
        for path, data in state_of(root).items()
        if path.suffix != ".bin" and path.name not in ("link", ".env")
    }
    assert {path: data for path, data in state_of(other).items() if path.suffix != ".bin"} == expected


def test_a_difference_has_a_limit(package, monkeypatch):
    root = package.parent
    (root / "a_large.txt").write_text("x\n" * 600)
    (root / "b_small.txt").write_text("small\n")
    (package / "__init__.py").write_text("y\n" * 600)
    difference = source.changes(root, 1000)
    assert len(difference) < 1000 and "+small" in difference
    assert "# changed, not shown (binary, hidden or too large): 'package/__init__.py'\n" in difference
    assert "'a_large.txt'" in difference
    monkeypatch.setattr(source, "LOOK_SECONDS", -1.0)
    assert source.changes(root).count("not shown") == 3 and "+" not in source.changes(root)


def test_a_run_keeps_its_scripts_and_the_difference(package, tmp_path):
    run_dir, script = tmp_path / "run", tmp_path / "ppo_own.py"
    run_dir.mkdir()
    script.write_text("first = 1\n")
    source.keep(run_dir, [script], package)
    assert [path.name for path in (run_dir / "source").iterdir()] == ["ppo_own.py"]
    assert source.others(run_dir, [script]) == []
    (package / "ppo_new.py").write_text("second = 2\n")
    source.keep(run_dir, [script, tmp_path / "missing.py"], package)
    assert "+second = 2\n" in (run_dir / "source/changes.diff").read_text()
    script.write_text("first = 3\n")
    assert source.others(run_dir, [script]) == ["ppo_own.py"]
    assert source.others(tmp_path / "older", [script]) == []
    assert (run_dir / "source/ppo_own.py").read_text() == "first = 1\n"


def test_the_scripts_are_those_of_arguments_and_agent(tmp_path):
    names = {}
    for name in ("ppo_one", "bc_two"):
        path = tmp_path / f"{name}.py"
        path.write_text("class Thing: pass\n")
        spec = importlib.util.spec_from_file_location(name, path)
        names[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(names[name])
    one, two = (module.Thing() for module in names.values())
    assert source.scripts_of(one, one) == [tmp_path / "ppo_one.py"]
    assert source.scripts_of(two, one) == [tmp_path / "bc_two.py", tmp_path / "ppo_one.py"]
    assert source.scripts_of(3) == []


def test_without_git_or_a_checkout_of_its_own_there_is_no_revision(package, tmp_path, monkeypatch):
    """Installed packages may lie in a checkout of something else, which ignores them or has never seen them."""
    nothing = {"git_revision": None, "git_changed": None}
    installed = package.parent / "ignored/site-packages/npp_rl"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert source.revision(installed) == source.revision(tmp_path) == nothing
    assert source.checkout(installed) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source.revision(package) == nothing
    source.keep(tmp_path, [], package)
    assert list((tmp_path / "source").iterdir()) == []
    assert set(nothing) < set(system.describe_system())


def test_a_git_that_hangs_or_leads_elsewhere_stops_no_run(package, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert source.revision(package)["git_changed"] is False
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(source, "SECONDS", 0.1)
    began = time.monotonic()
    assert source.revision(package) == {"git_revision": None, "git_changed": None}
    assert time.monotonic() - began < 5


def test_the_processor_has_a_name(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\n"
        "processor\t: 1\nmodel name\t: another\n"
    )
    assert system.processor(tmp_path / "cpuinfo") == "AMD EPYC (family 25, model 1)"
    assert system.processor(tmp_path / "missing") == (platform.processor() or platform.machine())
    assert system.describe_system()["processor"] == system.processor()


def test_it_is_quick_here():
    began = time.monotonic()
    source.revision()
    if root := source.checkout():
        source.changes(root)
        assert json.dumps(str(root)) and Path(root, "npp_rl").is_dir()
    assert time.monotonic() - began < 10
