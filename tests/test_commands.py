"""Commands: their help, unknown flags, and signals at any time, each in one line."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calls import call

from npp_rl import export, make_levels, play, relabel
from npp_rl.commands import Progress, StopSignals
from npp_rl.evaluation import __main__ as evaluation
from npp_rl.levels import replays
from npp_rl.planning import certify, demonstrations, planner
from npp_rl.zoo import __main__ as zoo

ROOT = Path(__file__).parents[1]

# What a command needs to get to work, and the first thing that it then calls.
COMMANDS = {
    make_levels: (["--out", "levels"], "data_set"),
    play: ([], "load_levels"),
    relabel: (["--checkpoint", "a.pt", "--out", "runs"], "load_agents"),
    replays: (["runs"], "validate_files"),
    certify: ([], "certify"),
    demonstrations: (["runs", "--test-dataset", "none"], "find_runs"),
    planner: (["--dataset", "builtin", "--out", "plans"], "load_levels"),
    export: (["runs", "--out", "agent"], "source_of"),
    zoo: ([], "sources_of"),
}
every_command = pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__.rpartition(".")[2])


@every_command
def test_help_tells_what_each_argument_is(module, capsys):
    with pytest.raises(SystemExit) as end:
        call(module, "--help")
    shown, said = capsys.readouterr()
    assert not end.value.code and said == ""
    words = " ".join(shown.replace("│", " ").split())
    assert module.Args.__doc__ in words
    for field in dataclasses.fields(module.Args):
        name = field.name.replace("_", "-")
        flag = {"folders": "FOLDER ...", "paths": "FOLDER_OR_FILE ...", "run": "RUN_DIR"}.get(name, f"--{name}")
        told = [text.partition(" (")[0].split() for text in words.split(f" {flag} ")[1:]]
        told += [text.partition(" (")[0].split() for text in words.split(f" --no-{name} ")[1:]]
        assert any(len([word for word in text if word.islower()]) >= 2 for text in told), (flag, shown)
    assert not re.search(r"default: (None|\)|'')|\(default[^)]*\) \(default", words)


@every_command
def test_an_unknown_flag_is_one_line(module, capsys):
    with pytest.raises(SystemExit) as end:
        call(module, *COMMANDS[module][0], "--colour", "blue")
    shown, said = capsys.readouterr()
    assert end.value.code == 2 and shown == ""
    assert said.startswith("error: ") and "--colour" in said and said.count("\n") == 1


def test_an_unknown_flag_is_named_where_another_is_missing(capsys):
    unknown, none = (["--colour", "blue"], "unrecognized option --colour\n"), ([], "missing --checkpoint, --out (")
    for words, said in (unknown, none):
        with pytest.raises(SystemExit) as end:
            call(relabel, *words)
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.startswith(f"error: {said}") and str(ROOT) not in error


HUGE = ("9" * 20, "9" * 400, "-1")
NUMBERS = [
    *((relabel, f"--{name}", value) for name in ("states", "workers", "seed") for value in HUGE),
    *((relabel, "--budget", value) for value in ("inf", "nan", "1e308", "-0.0")),
    *((play, f"--{name}", value) for name in ("scale", "frames", "seed") for value in HUGE),
    *((make_levels, f"--{name}", value) for name in ("count", "seed") for value in HUGE),
    *((planner, f"--{name}", value) for name in ("workers", "seed", "frame-skip") for value in HUGE),
    *((planner, "--budget", value) for value in ("9" * 400 + "s", "nan", "-1s")),
    (certify, "--budget", "9" * 400 + "s"),
    *((demonstrations, "--frame-skip", value) for value in HUGE),
    *((demonstrations, "--holdout-fraction", value) for value in ("nan", "inf", "-1", "1e308")),
    *((evaluation, f"--{name}", value) for name in ("seed", "tries", "pictures") for value in HUGE),
]


@pytest.mark.parametrize(("module", "flag", "value"), NUMBERS)
def test_a_number_out_of_range_is_one_line(module, flag, value, capsys):
    with pytest.raises(SystemExit) as end:
        call(module, *COMMANDS.get(module, (["--checkpoint", "a.pt"],))[0], flag, value)
    shown, said = capsys.readouterr()
    assert end.value.code == 2 and shown == "" and said.count("\n") == 1
    assert re.match(rf"error: {flag} '?{re.escape(value[:2])}.*: expected ", said), said


@pytest.mark.parametrize("words", [["-m", "npp_rl.relabel", "--help"], ["-m", "npp_rl.cost", "--help"]])
def test_help_that_cannot_be_written_names_the_output(words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, *words], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "error: standard output: No space left on device\n")


# A module in place of NumPy, which all commands import: it works for a minute, in Python or without giving it a turn.
SLOW = """
import hashlib, sys, time
print("importing", flush=True)
time.sleep(60) if {} else hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10**9)
"""
PROGRAMS = [
    ["-m", "npp_rl.levels.replays"],
    ["-m", "npp_rl.evaluation"],
    ["-m", "benchmark.report"],
    ["npp_rl/ppo_mlp_baseline.py"],
    ["npp_rl/bc_pretrain.py"],
    ["npp_rl/distill.py"],
]


@pytest.mark.parametrize(
    ("number", "said", "python"),
    [
        (signal.SIGINT, "interrupted", True),
        (signal.SIGINT, "interrupted", False),
        (signal.SIGTERM, "stopped by SIGTERM", 1),
    ],
)
@pytest.mark.parametrize("words", PROGRAMS, ids=lambda words: words[-1])
def test_a_signal_while_a_command_is_loaded_ends_it_in_one_line(tmp_path, words, number, said, python):
    (tmp_path / "numpy.py").write_text(SLOW.format(python))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, **pipes) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (128 + number, f"error: {said}\n")


def test_a_terminal_that_cannot_show_a_name_shows_an_escape(tmp_path):
    words = [
        "-m",
        "npp_rl.make_levels",
        "--out",
        tmp_path / "\N{GRINNING FACE}",
        "--count",
        "1",
        "--categories",
        "simple",
    ]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(rf"{tmp_path}/\U0001f600: 2 levels")


def test_a_run_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopSignals()
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.number == 0
        stop.restore()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_of_a_program_that_imports_the_package_are_its_own(tmp_path):
    (tmp_path / "own.py").write_text(
        "import signal, threading\nimport npp_rl\nassert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
        "assert signal.getsignal(signal.SIGINT) == signal.default_int_handler and threading.active_count() == 1\n"
    )
    for words in (["own.py"], ["-m", "own"], ["-c", "import own"]):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_a_signal_while_a_training_compiles_ends_it_in_one_line(tmp_path, number):
    words = ["npp_rl/ppo_mlp_baseline.py", "--run-dir", tmp_path / "run", "--threads", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, **pipes) as process:
        assert "simulator" in process.stdout.readline()
        time.sleep(1)  # it reads levels, and compiles for a minute or two
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    said = "interrupted" if number == signal.SIGINT else "stopped by SIGUSR1"
    assert error == f"error: {said} before the training began, so nothing was saved\n"
    assert process.returncode == 128 + number and not (tmp_path / "run").exists()


@every_command
def test_an_interrupt_is_one_line(module, capsys, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    words, first = COMMANDS[module]
    monkeypatch.setattr(module, first, interrupted)
    with pytest.raises(SystemExit) as end:
        call(module, *words)
    said = capsys.readouterr().err
    assert end.value.code == 130 and said.startswith("error: interrupted") and said.count("\n") == 1
    assert not list(Path(tmp_path).iterdir())


def test_long_work_says_how_far_it_is(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("levels played", 270)
    for done, seconds in ((1, 9.0), (2, 11.0), (3, 12.0), (40, 30.0)):
        now[0] = seconds
        progress.note(done)
    assert capsys.readouterr().out == "levels played: 2 of 270 after 11 s\nlevels played: 40 of 270 after 30 s\n"
    monkeypatch.setenv("RANK", "1")
    now[0] = 100.0
    progress.note(50)
    assert capsys.readouterr().out == ""


SLEEPER = """
import dataclasses, pathlib, sys, time
from npp_rl import commands

@dataclasses.dataclass
class Args:
    pass

def main(args):
    try:
        print("began", flush=True)
        time.sleep(60)
    finally:
        pathlib.Path("tidied").touch()

commands.command(main, Args)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_one_line_and_lets_it_tidy_up(tmp_path, number):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "began\n"
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert error == f"error: stopped by {signal.Signals(number).name}\n" and process.returncode == 128 + number
    assert (tmp_path / "tidied").exists()
