"""The commands of `npp_rl` that are not scripts: their help, unknown flags, and interrupts, each in one line."""

import dataclasses
from pathlib import Path

import pytest
from calls import call

from npp_rl import make_levels, play, relabel
from npp_rl.levels import replays
from npp_rl.planning import certify, demonstrations, planner

# What a command needs to get to work, and the first thing that it then calls.
COMMANDS = {
    make_levels: (["--out", "levels"], "data_set"),
    play: ([], "load_levels"),
    relabel: (["--checkpoint", "a.pt", "--out", "runs"], "load_agent"),
    replays: (["runs"], "validate_files"),
    certify: ([], "certify"),
    demonstrations: (["runs", "--test-dataset", "none"], "find_runs"),
    planner: (["--dataset", "builtin", "--out", "plans"], "load_levels"),
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
        flag = {"folders": "FOLDER ...", "paths": "FOLDER_OR_FILE ..."}.get(name, f"--{name}")
        told = [text.partition(" (")[0].split() for text in words.split(f" {flag} ")[1:]]
        told += [text.partition(" (")[0].split() for text in words.split(f" --no-{name} ")[1:]]
        assert any(len([word for word in text if word.islower()]) >= 2 for text in told), (flag, shown)


@every_command
def test_an_unknown_flag_is_one_line(module, capsys):
    with pytest.raises(SystemExit) as end:
        call(module, *COMMANDS[module][0], "--colour", "blue")
    shown, said = capsys.readouterr()
    assert end.value.code == 2 and shown == ""
    assert said.startswith("error: ") and "--colour" in said and said.count("\n") == 1


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
