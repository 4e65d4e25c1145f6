"""The scripts repeat one training loop: outside of their own, marked parts they are the same, line by line."""

import itertools
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "npp_rl"
SCRIPTS = sorted(path.name for path in FOLDER.glob("ppo_*.py"))
FIRST = "ppo_mlp_baseline.py"
# A script's own: its docstring, Args, Agent, and what it imports from this package.
OWN = r'\A""".*?"""\n|^# Args:.*?^# End of Args\.\n|^# Agent:.*?^# End of Agent\.|^from npp_rl[^\n]*\n'


def common_lines(script: str) -> list[tuple[int, str]]:
    """(line number, line) of all that a script shares with the others."""
    text = (FOLDER / script).read_text()
    for mark in ("# Args:", "# End of Args.", "# Agent:", "# End of Agent."):
        assert len(re.findall(f"^{re.escape(mark)}", text, re.MULTILINE)) == 1, f"{script}: expected one line {mark}"
    text = re.sub(OWN, lambda part: "\0\n" * part.group().count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line != "\0"]


def test_most_of_a_script_is_common():
    lines = [line for _, line in common_lines(FIRST)]
    assert "def main(args: Args) -> Path:" in lines
    assert "import torch" in lines
    assert len(lines) > 300


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != FIRST])
def test_training_loops_are_the_same(script):
    pairs = itertools.zip_longest(common_lines(script), common_lines(FIRST), fillvalue=("end", ""))
    for (here, line), (there, expected) in pairs:
        assert line == expected, f"first difference:\n{script}:{here}: {line}\n{FIRST}:{there}: {expected}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_know_few_modules(script):
    """Of this package a script imports the environment, evaluation, checkpoints, and what its own layers run on."""
    modules = set(
        re.findall(r"^(?:from npp_rl import (.*)|from npp_rl\.(\w+) import .*)$", (FOLDER / script).read_text(), re.M)
    )
    names = {name.strip() for several, single in modules for name in (several or single).split(",")}
    assert names >= {"checkpoints", "env", "evaluation"}
    assert names <= {"checkpoints", "env", "evaluation", "graph_attention", "levels", "replays", "s3"}
