"""The scripts repeat one training loop: outside of their own, marked parts they are the same, line by line."""

import ast
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
    assert names <= {"checkpoints", "demonstrations", "env", "evaluation", "graph_attention", "processes", "s3"}


def own_part(script: str) -> str:
    return re.search(r"^# Agent:.*?^# End of Agent\.", (FOLDER / script).read_text(), re.MULTILINE | re.DOTALL).group()


def definitions(script: str) -> dict[str, str]:
    """Source of the functions and classes of a script's own part, and of the agent's methods, by name."""
    text = own_part(script)
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.get_source_segment(text, node)
        if isinstance(node, ast.ClassDef) and node.name == "Agent":
            del found["Agent"]
            found |= {f"Agent.{f.name}": ast.get_source_segment(text, f) for f in node.body if hasattr(f, "name")}
    return found


def test_a_layer_is_the_same_text_in_all_scripts_that_have_it():
    """All but what makes an architecture: which encoders it has, and how it fuses them.

    `encode_graph` has two texts: layers without types stand in residual connections, the HGT has its own.
    """
    methods = ("__init__", "encode", "heads", "get_logits", "get_value", "get_action_and_value", "forward")
    everywhere = {"layer_init", "mlp", *(f"Agent.{name}" for name in methods)}
    texts = {}
    for script in SCRIPTS:
        found = definitions(script)
        assert found.keys() >= everywhere, script
        for name, source in found.items():
            if name == "Agent.encode_graph" and "HGTLayer" not in found:
                name = "Agent.encode_graph without types"
            texts.setdefault(name, {})[script] = source
    for name, sources in texts.items():
        if name not in ("Agent.__init__", "Agent.encode"):
            first, *others = sources
            for script in others:
                assert sources[script] == sources[first], f"{name} of {script} differs from that of {first}"
    users = {name: len(sources) for name, sources in texts.items() if name[0].isupper() and "." not in name}
    assert users == {"CNN": 6, "CrossModalAttention": 4, "HGTLayer": 4, "GATv2Layer": 1, "GCNLayer": 1}


def test_arguments_have_one_help_text():
    """An argument that several scripts have is the same but for its default, and each one is read somewhere."""
    pattern = re.compile(r"^    (\w+): (.+?) = .+?  # (.+)$", re.MULTILINE)
    helps = {}
    for script in SCRIPTS:
        own, after = (FOLDER / script).read_text().split("# End of Args.")
        fields = re.findall(r"^    (\w+): ", own.split("class Args:")[1], re.MULTILINE)
        described = {name: (kind, text) for name, kind, text in pattern.findall(own)}
        assert list(described) == fields
        read = after + "".join(
            (FOLDER / f"training/{name}.py").read_text() for name in ("arguments", "processes", "run_log")
        )
        for name, text in described.items():
            assert f"args.{name}" in read or f'"{name}"' in read, f"{script}: {name} is read nowhere"
            assert helps.setdefault(name, text) == text, f"{script}: {name}"
