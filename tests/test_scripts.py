"""The scripts repeat one training loop: outside of their own, marked parts they are the same, line by line."""

import ast
import dataclasses
import importlib
import itertools
import re
import typing
from pathlib import Path

import pytest

from npp_rl.commands import ArgumentError
from npp_rl.training.arguments import BOUNDS, check_args, parse_args

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
    assert len(lines) > 260


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != FIRST])
def test_training_loops_are_the_same(script):
    pairs = itertools.zip_longest(common_lines(script), common_lines(FIRST), fillvalue=("end", ""))
    for (here, line), (there, expected) in pairs:
        assert line == expected, f"first difference:\n{script}:{here}: {line}\n{FIRST}:{there}: {expected}"


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
    methods = ("__init__", "encode", "heads", "get_logits", "get_value", "get_action_and_value")
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


ARGS = {
    module: importlib.import_module(f"npp_rl.{module}").Args
    for module in (*(script.removesuffix(".py") for script in SCRIPTS), "bc_pretrain", "distill")
}
TRAINING = ("arguments", "checkpoints", "clock", "episodes", "pretraining", "processes", "run_folder", "run_log")


def read_arguments(text: str) -> set[str]:
    """Names that some code reads as an attribute or a key of `args`: args.x, own_args.x, args["x"]."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id.endswith("args"):
            found.add(node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "args":
            found.add(getattr(node.slice, "value", None))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and len(node.args) > 1:
            found.add(getattr(node.args[1], "value", None))
    return found


@pytest.mark.parametrize("module", ARGS)
def test_every_argument_is_read_and_explained(module):
    """By the script or by what it hands its arguments to; the bounds of an argument do not read it."""
    places = [FOLDER / f"{module}.py", FOLDER / "evaluation/result_files.py", FOLDER / "training/wandb_mirror.py"]
    places += [FOLDER / f"training/{name}.py" for name in TRAINING]
    read = set().union(*(read_arguments(path.read_text()) for path in places))
    if module in ("bc_pretrain", "distill"):
        read |= {field.name for field in dataclasses.fields(ARGS[FIRST[:-3]])} & {"size"}  # of the script's agent
    lines = (FOLDER / f"{module}.py").read_text()
    for field in dataclasses.fields(ARGS[module]):
        assert field.name in read, f"{module}: --{field.name.replace('_', '-')} is read nowhere"
        assert re.search(rf"^    {field.name}: .+ = .+  # .+$", lines, re.MULTILINE), f"{field.name}: no line of help"


def test_the_reader_of_arguments_is_not_fooled():
    assert read_arguments('BOUNDS = {"unread": (0, 1)}\nargs.read\nargs["key"]\nother.thing') == {"read", "key"}


@pytest.mark.parametrize("module", ARGS)
def test_numbers_have_bounds(module):
    """Every whole or real number of a script is refused below and above some value."""
    script = importlib.import_module(f"npp_rl.{module}")
    sizes = tuple(script.SIZES["small"]) if hasattr(script, "SIZES") else ()
    given = script.SIZES["small"] if sizes else {}
    plain = ARGS[module](**given)
    check_args(plain, sizes)
    for field in dataclasses.fields(plain):
        hint = typing.get_type_hints(ARGS[module])[field.name]
        kinds = {hint, *typing.get_args(hint)}
        if not kinds & {int, float} or bool in kinds:
            continue
        for wrong in (-1, 10**19):
            value = (wrong,) * 3 if tuple[int, int, int] in kinds else wrong
            with pytest.raises(ArgumentError, match=f"--{field.name.replace('_', '-')} "):
                check_args(dataclasses.replace(plain, **{field.name: value}), sizes)


def test_bounds_belong_to_arguments():
    programs = (*ARGS, "evaluation.__main__", "relabel", "make_levels", "play", "export")
    names = {field.name for p in programs for field in dataclasses.fields(importlib.import_module(f"npp_rl.{p}").Args)}
    runner = {field.name for field in dataclasses.fields(importlib.import_module("benchmark.train_and_compare").Args)}
    assert set(BOUNDS) <= names | runner


@pytest.mark.parametrize("module", ARGS)
def test_help_shows_all_arguments_in_groups(module, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(ARGS[module], ["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    titles = re.findall(r"\b(\w+) options\b", shown)
    assert titles == ["network", "training", "levels", "run", "speed", "tracking"]
    assert not re.search(r"default:\s*(│\s*)*(None|\)|'')", shown)
    assert not re.search(r"\(default[^)]*\)\s*(│\s*)*\(default", shown)
    flags = set(re.findall(r"--([a-z0-9-]+)", shown))
    missing = {field.name.replace("_", "-") for field in dataclasses.fields(ARGS[module])} - flags
    assert not missing
    own = re.findall(r"^\W --([a-z-]+)", shown.partition(" network ")[2].partition(" training ")[0], re.MULTILINE)
    script = importlib.import_module(f"npp_rl.{module}")
    others = set(script.SIZES["small"]) if hasattr(script, "SIZES") else {"arch"}
    assert {name.replace("_", "-") for name in others} | {"size"} <= set(own)
    common = {field.name for field in dataclasses.fields(ARGS["ppo_mlp_baseline"])}
    assert {name.replace("-", "_") for name in own} & common <= {"size", *others}


def test_arguments_have_one_help_text():
    """An argument that several scripts have is the same but for its default."""
    pattern = re.compile(r"^    (\w+): (.+?) = .+?  # (.+)$", re.MULTILINE)
    helps = {}
    for script in SCRIPTS:
        own = (FOLDER / script).read_text().split("# End of Args.")[0].split("class Args:")[1]
        described = {name: (kind, text) for name, kind, text in pattern.findall(own)}
        assert list(described) == re.findall(r"^    (\w+): ", own, re.MULTILINE)
        for name, text in described.items():
            assert helps.setdefault(name, text) == text, f"{script}: {name}"


def test_scripts_fit_in_one_sitting():
    lengths = {script: (FOLDER / script).read_text().count("\n") for script in SCRIPTS}
    assert lengths[FIRST] <= 480 and max(lengths.values()) <= 550, lengths


@pytest.mark.parametrize("flag", ["--demo-coef", "--replay-data-dir"])
def test_demonstrations_are_not_mixed_into_an_update(flag, capsys):
    """That was measured as harm. Replays are for bc_pretrain.py, whose best.pt is a --pretrained-checkpoint."""
    with pytest.raises(SystemExit) as stop:
        parse_args(ARGS["ppo_mlp_baseline"], [flag, "0.1"])
    assert stop.value.code == 2 and flag in capsys.readouterr().err
