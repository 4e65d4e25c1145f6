"""A script of one's own: named by its path everywhere, read before it is run, and never run because a file names it."""

import dataclasses
import itertools
import json
import math
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from calls import call
from runner_calls import carry_out, entries, words
from test_scripts import FIRST, common_lines

from benchmark import curves, throughput, train_and_compare
from benchmark.runner import arguments, launch
from benchmark.runner.runs import Run, Settings, Slot, commands
from npp_rl import ARCHITECTURES, agents, bc_pretrain, cost, play, relabel, scripts
from npp_rl.commands import ArgumentError, CheckpointError, parse
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.environment.graph import GRAPH_NODES, GRAPH_SLOTS
from npp_rl.evaluation import __main__ as evaluation
from npp_rl.training import checkpoints, processes, source

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "benchmark/examples/ppo_entity_set.py"
TINY = ["--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--evaluations", "0", "--fresh-levels", "0"]
TINY += ["--frame-skip", "24", "--threads", "1", "--size", "small"]
PLAIN = (ROOT / "npp_rl" / FIRST).read_text()


def own_text(name="mine", more="", **changed) -> str:
    """A copy of ppo_mlp_baseline.py with a name of its own, other lines, and `more` between the markers."""
    text = PLAIN.replace('ARCHITECTURE = "mlp_baseline"', f'ARCHITECTURE = "{name}"\n{more}')
    text = text.replace('exp_name: str = "ppo_mlp_baseline"', f'exp_name: str = "ppo_{name}"')
    for old, new in changed.values():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.fixture
def own(tmp_path) -> Path:
    path = tmp_path / "anywhere/ppo_mine.py"
    path.parent.mkdir()
    path.write_text(own_text())
    return path


def saved(folder: Path, script: Path, **changed) -> Path:
    """A checkpoint of an untrained agent of a script, as its run would save it."""
    module = scripts.load(scripts.find(str(script), "--script"), "--script")
    args = module.Args(size="small", **module.SIZES["small"], **changed)
    shapes = {name: list(OBSERVATIONS[name][0]) for name in module.Agent.observations}
    content = {"architecture": module.ARCHITECTURE, "args": dataclasses.asdict(args), "observation_shapes": shapes}
    content["args"] |= {"wandb_tags": []}
    folder.mkdir(parents=True, exist_ok=True)
    agent = module.Agent(shapes, args).state_dict()
    checkpoints.save(folder / "best.pt", {**content, "agent": agent, "script": source.describe(script)})
    return folder / "best.pt"


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    place = tmp_path_factory.mktemp("levels")
    words = ["--categories", "simplest", "--seed", "1"]
    for split, count in (("train", 8), ("test", 2)):
        line = [sys.executable, "-m", "npp_rl.make_levels", "--out", str(place / split), "--split", split]
        subprocess.run([*line, "--count", str(count), *words], check=True, capture_output=True, cwd=ROOT)
    return place


# Reading a script


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", r"has no ARCHITECTURE \(expected a copy of a script such as npp_rl/ppo_mlp_baseline\.py\)"),
        ("def x(:\n", r"no Python script \(invalid syntax in line 1\)"),
        (b"ARCHITECTURE = '\xff'\n", "no Python script"),
        (b"a = 1\0\n", "no Python script"),
        ("(" * 100_000, "no Python script"),
        ('ARCHITECTURE = "mine"\nSIZES = {}\nclass Args: pass\nclass Agent: pass\n', "has no main"),
        (PLAIN, r"its ARCHITECTURE 'mlp_baseline' belongs to npp_rl/ppo_mlp_baseline\.py \(expected a name of its own"),
        (own_text("../../mine"), r"ARCHITECTURE is '\.\./\.\./mine' \(expected at most 40 letters"),
        (own_text("report"), "none of report, levels"),
        (own_text("label_x"), "none of report, levels"),
        (own_text(""), "expected at most 40 letters"),
        (own_text("m" * 41), "expected at most 40 letters"),
        (own_text(more="ARCHITECTURE = 'a' + 'b'"), r'expected a line such as ARCHITECTURE = "own"'),
        (own_text(more="ARCHITECTURE = 7"), r'expected a line such as ARCHITECTURE = "own"'),
    ],
)
def test_a_script_is_read_and_refused_before_it_is_run(tmp_path, text, expected):
    path = tmp_path / "ppo_other.py"
    text = text.encode() if isinstance(text, str) else text
    text = text + b"\n# an own text\nopen('ran', 'w')\n"
    path.write_bytes(text)
    with pytest.raises(ArgumentError, match=rf"--script .*ppo_other\.py: .*{expected}") as caught:
        scripts.find(str(path), "--script")
    assert "\n" not in str(caught.value) and not Path("ran").exists()


def test_what_is_no_script(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "large.py").write_bytes(b"#" * (source.SCRIPT_BYTES + 1))
    cases = {"pipe": "expected a regular file", "folder": "expected a regular file", "large": "expected at most"}
    for name, expected in {**cases, "missing": "no such file"}.items():
        with pytest.raises(ArgumentError, match=expected):
            scripts.find(str(tmp_path / f"{name}.py"), "--script")
    for word in ("gta", "", "npp_rl.ppo_gat", str(tmp_path)):
        with pytest.raises(ArgumentError, match=r"unknown \(expected full_hgt, .*or a script's path, NAME\.py\)"):
            scripts.find(word, "--arch")


def test_the_eight_are_found_by_name_and_by_path(tmp_path):
    for name in ARCHITECTURES:
        found = scripts.find(name, "--arch")
        assert (found.architecture, found.word, found.ours) == (name, name, True)
        assert scripts.find(f"{found.path}", "--arch") == found
        assert scripts.load(found, "--arch") is sys.modules[f"npp_rl.ppo_{name}"]
    copy = tmp_path / "whatever.py"
    copy.write_text(PLAIN)  # the same text is the same script
    assert scripts.find(str(copy), "--arch") == scripts.find("mlp_baseline", "--arch")


def test_a_script_shadows_nothing(own, tmp_path):
    """Whatever its file is called, no other module's name is taken; an edited text is another module."""
    before = sys.modules["json"]
    path = own.rename(own.with_name("json.py"))
    module = scripts.load(scripts.find(str(path), "--script"), "--script")
    assert sys.modules["json"] is before and module.ARCHITECTURE == "mine" and module.Args().exp_name == "ppo_mine"
    assert scripts.load(scripts.find(str(path), "--script"), "--script") is module
    path.write_text(own_text(gamma=("gamma: float = 0.99", "gamma: float = 0.9")))
    again = scripts.load(scripts.find(str(path), "--script"), "--script")
    assert again is not module and (again.Args().gamma, module.Args().gamma) == (0.9, 0.99)


@pytest.mark.parametrize(
    "more, expected",
    [
        ("1 / 0", r"importing it failed in line \d+: ZeroDivisionError: division by zero"),
        ("import not_there", r"No module named 'not_there' \(a script imports npp_rl and installed libraries only\)"),
        ("raise SystemExit(3)", r"importing it failed in line \d+: SystemExit: 3"),
        ("def layer_init(*_): raise KeyError", None),
    ],
)
def test_a_script_that_cannot_be_imported(tmp_path, more, expected):
    path = tmp_path / "ppo_mine.py"
    path.write_text(own_text(more=more))
    known = set(sys.modules)
    found = scripts.find(str(path), "--script")
    if expected is None:
        scripts.load(found, "--script")
        return
    with pytest.raises(ArgumentError, match=expected) as caught:
        scripts.load(found, "--script")
    assert "\n" not in str(caught.value) and not {n for n in set(sys.modules) - known if "npp_rl_script" in n}


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ('"small": {"hidden": 128', '"small": {"hiden": 128', "SIZES has 'hiden', which is no field of Args"),
        ('    "full": {', '    "huge": {', "SIZES has not both presets, small and full"),
        ("    observations = (", "    seen = (", "Agent has no tuple `observations`"),
    ],
)
def test_a_script_without_what_commands_need(tmp_path, old, new, expected):
    path = tmp_path / "ppo_mine.py"
    path.write_text(own_text(change=(old, new)))
    with pytest.raises(ArgumentError, match=expected):
        scripts.load(scripts.find(str(path), "--script"), "--script")


def test_two_scripts_of_one_name(own, tmp_path):
    other = tmp_path / "ppo_other.py"
    other.write_text(own_text())
    with pytest.raises(ArgumentError, match=r"ARCHITECTURE 'mine' is that of .*ppo_mine\.py too \(expected names"):
        scripts.find_all((str(own), "gat", str(other)), "--architectures")
    assert list(scripts.find_all((str(own), "gat", str(own)), "--architectures")) == ["mine", "gat"]


def test_a_copy_that_kept_its_name_does_not_train(tmp_path, monkeypatch):
    """Its results would be taken for those of the script that it was copied from."""
    path = tmp_path / "ppo_mine.py"
    for text, expected in (
        (PLAIN, r"ppo_mine\.py: its ARCHITECTURE 'mlp_baseline' belongs to npp_rl/ppo_mlp_baseline\.py"),
        (own_text("a/b"), r"ppo_mine\.py: ARCHITECTURE is 'a/b'"),
    ):
        path.write_text(text)
        monkeypatch.setattr(sys, "argv", [str(path), "--run-dir", str(tmp_path / "run")])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(path), run_name="__main__")
        assert stop.value.code == 2 and not (tmp_path / "run").exists()
        with pytest.raises(ArgumentError, match=expected):
            space = runpy.run_path(str(path), run_name="own_script_module")
            monkeypatch.setitem(sys.modules, "own_script_module", type(sys)("own_script_module"))
            vars(sys.modules["own_script_module"]).update(space)
            processes.begin(space["Args"](), space["SIZES"])


# Checkpoints


def test_a_checkpoint_needs_its_script_to_be_named(own, tmp_path, monkeypatch):
    """It names and carries its script, which is not executed; nor is a path in its arguments."""
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "run", own)
    kept = checkpoints.load(path)["script"]
    assert kept["name"] == "ppo_mine.py" and kept["text"] == own.read_text() and len(kept["sha256"]) == 64
    evil = own_text(more=f"open({str(tmp_path / 'ran')!r}, 'w')")
    content = checkpoints.load(path)
    content["script"] |= {"name": "evil.py", "text": evil}
    content["args"] |= {"script": str(tmp_path / "evil.py")}
    (tmp_path / "evil.py").write_text(evil)
    checkpoints.save(path, content)
    said = (
        r"best\.pt: this agent's script is .*evil\.py \(sha256 [0-9a-f]{12}\), architecture 'mine': name it by --script"
    )
    with pytest.raises(CheckpointError, match=said):
        agents.load_agent(path)
    with pytest.raises(CheckpointError, match="name it by --script; --script gat is of gat"):
        agents.load_agent(path, named=["gat"])
    assert not (tmp_path / "ran").exists()
    agent, _ = agents.load_agent(path, named=[str(own)])
    assert type(agent).__module__.endswith(".ppo_mine") and not (tmp_path / "ran").exists()
    content["script"] = {"name": "\x1b[2Jx\n.py", "sha256": "\n", "text": ""}
    checkpoints.save(path, content)
    with pytest.raises(CheckpointError, match=r"script is \\x1b\[2Jx\\n\.py") as caught:
        agents.load_agent(path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    for damaged in (3, {"name": 7}, {}):
        content["script"] = damaged
        checkpoints.save(path, content)
        with pytest.raises(CheckpointError, match=r"unknown architecture 'mine' .*or its script by --script"):
            agents.load_agent(path)


def test_a_changed_script_is_said(own, tmp_path, capsys):
    path = saved(tmp_path / "run", own)
    agents.load_agent(path, named=[str(own)])
    assert capsys.readouterr().err == ""
    own.write_text(own.read_text() + "# a remark\n")
    agents.load_agent(path, named=[str(own)])
    said = capsys.readouterr().err
    assert re.fullmatch(
        r".*best\.pt: ppo_mine\.py \(sha256 \w{12}\) is not the text that trained this agent, ppo_mine\.py "
        r"\(sha256 \w{12}\); its Args are the same\n",
        said,
    )
    change = {"gamma": ("gamma: float = 0.99  #", "gamma: float = 0.98  #")}
    change |= {"new": ("    features: int", "    depth: int = 2  # d\n    features: int")}
    change |= {"gone": (next(line for line in PLAIN.splitlines(True) if "    kl_steps:" in line), "")}
    own.write_text(own_text(**change))
    _, run = agents.load_agent(path, named=[str(own)])
    said = "in Args kl_steps is gone; depth is new; gamma was `float = 0.99`, now `float = 0.98`\n"
    assert capsys.readouterr().err.endswith(said)
    assert run["gamma"] == 0.99 and run["depth"] == 2  # as it was trained
    own.write_text(own_text(width=("nn.Linear(args.features, 6)", "nn.Linear(args.features + 1, 6)")))
    with pytest.raises(CheckpointError, match=r"does not fit the architecture mine .*is not the text.*size mismatch"):
        agents.load_agent(path, named=[str(own)])
    assert capsys.readouterr().err == ""  # one line, the error


def test_a_changed_script_of_the_eight_is_said_too(tmp_path, capsys):
    path = saved(tmp_path, ROOT / "npp_rl" / FIRST)
    agents.load_agent(path)
    assert capsys.readouterr().err == ""
    content = checkpoints.load(path)
    text = PLAIN.replace("gamma: float = 0.99", "gamma: float = 0.5")
    content["script"] |= {"sha256": "0" * 64, "text": text}
    checkpoints.save(path, content)
    agents.load_agent(path)
    assert "in Args gamma was `float = 0.5`, now `float = 0.99`" in capsys.readouterr().err


def test_what_a_checkpoint_tells_of_its_script_cannot_reach_a_terminal_raw():
    text = "class Args:\n    x: '\u202e' = '\x1b[2J" + "y" * 500 + "'\n"
    told = scripts.differences_of_fields(text, PLAIN)
    assert told.isprintable() and "x is gone" in told
    told = scripts.differences_of_fields(text, "class Args:\n    x: int = 3\n")
    assert told.isprintable() and "\\x1b[2J" in told and len(told) < 150


@pytest.mark.parametrize("text", ["", "(", "class Args:\n    x = 3\n", "class Args: y: int\n", "Args = 3", "\0"])
def test_texts_of_checkpoints_are_only_read(text):
    assert set(scripts.fields_of(text)) <= {"y"}
    assert isinstance(scripts.differences_of_fields(text, PLAIN), str)


# Commands


def test_commands_take_scripts(own, tmp_path, levels, capsys, monkeypatch):
    """Without --script one line, with it the agent; a script of another agent is refused."""
    best = saved(tmp_path / "run/checkpoints", own, frame_skip=24, train_dataset=str(levels / "train"))
    other = saved(tmp_path / "other/checkpoints", EXAMPLE, frame_skip=24, train_dataset=str(levels / "train"))
    for module, more in (
        (evaluation, ["--output", tmp_path / "out"]),
        (cost, []),
        (relabel, ["--out", tmp_path / "o"]),
    ):
        for named, expected in (([], "name it by --script"), (["--script", EXAMPLE], "--script .*of entity_set")):
            with pytest.raises(SystemExit) as stop:
                call(module, "--checkpoint", best, *named, *more)
            assert stop.value.code == 2 and re.search(expected, capsys.readouterr().err)
    with pytest.raises(SystemExit):
        call(evaluation, "--checkpoint", best, "--script", own, EXAMPLE, "--output", tmp_path / "out")
    assert "is of architecture entity_set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "o").exists()

    test = ["--test-dataset", levels / "test", "--output", tmp_path / "out"]
    call(evaluation, "--checkpoint", best, other, "--script", own, EXAMPLE, *test, "--ensemble", "--vote")
    results = json.loads((tmp_path / "out/eval_results.json").read_text())
    assert [member["overall"]["levels"] for member in results["members"]] == [2, 2]
    text = (tmp_path / "out/report.md").read_text()
    assert "the agents vote" in text and "| 1: run/best | 2 |" in text and "| 2: other/best | 2 |" in text

    asked = []
    done = subprocess.CompletedProcess([], 0, json.dumps({"parameters": 1}), "")
    monkeypatch.setattr(subprocess, "run", lambda words, **_: asked.append(words) or done)
    evaluation.cost_apart([str(best)], "cpu", [str(own)])
    assert asked[0][-2:] == ["--script", str(own)]


def test_playing_an_ensemble(own, tmp_path, levels):
    pytest.importorskip("pygame")
    best = saved(tmp_path / "run", own, frame_skip=24)
    shots = {}
    for name, files in (("one", [best]), ("two", [best, saved(tmp_path / "other", EXAMPLE, frame_skip=24)])):
        named = ["--script", own, EXAMPLE][: 1 + len(files)]
        level = next((levels / "test").rglob("*0000*"))
        words = ["--checkpoint", *files, *named, "--dataset", level.parent, "--frames", 3]
        call(play, *words, "--screenshot", tmp_path / f"{name}.png", "--level", _only(level.parent))
        shots[name] = (tmp_path / f"{name}.png").read_bytes()
    assert shots["one"] != shots["two"]


def _only(folder):
    from npp_rl.levels.datasets import load_levels

    return load_levels(str(folder))[0].id


def test_cloning_does_not_run_what_a_configuration_names(tmp_path):
    """`script` of a run's config.json is not taken over: it is named again to resume."""
    from npp_rl.training.arguments import parse_args

    evil = tmp_path / "evil.py"
    evil.write_text(own_text(more=f"open({str(tmp_path / 'ran')!r}, 'w')"))
    given = bc_pretrain.Args(arch="mine", script=str(evil), exp_name="bc_mine", replay_data_dir=("plans",))
    (tmp_path / "run").mkdir()
    config = {"args": dataclasses.asdict(given) | {"replay_data_dir": ["/plans"]}}
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    args = parse_args(bc_pretrain.Args, ["--resume", str(tmp_path / "run")])
    assert args.script is None
    with pytest.raises(ArgumentError, match=r"--resume .*: 'mine' is none of the eight: --script is missing"):
        scripts.of_run(args)
    for arch in (str(evil), "evil.py"):
        config["args"]["arch"] = arch
        (tmp_path / "run/config.json").write_text(json.dumps(config))
        with pytest.raises(ArgumentError, match="--script is missing"):
            scripts.of_run(parse_args(bc_pretrain.Args, ["--resume", str(tmp_path / "run")]))
    assert not (tmp_path / "ran").exists()
    args.script = str(EXAMPLE)
    with pytest.raises(ArgumentError, match="is of entity_set, the run of mine"):
        scripts.of_run(args)
    args.script = str(evil)
    assert scripts.of_run(args).ARCHITECTURE == args.arch == "mine" and (tmp_path / "ran").exists()


# Experiments


def test_command_lines_of_a_run(own):
    """Also under torchrun and, with the same settings, in a job of a cluster."""
    settings = Settings("/e", [], ["--replay-data-dir", "p"], own={"mine": str(own)})
    lines = commands(settings, Run("mine", "with_pretrain", 1), Slot("", 1))
    assert lines["ppo"][1] == str(own) and lines["bc"][2:4] == ["--run-dir", "/e/mine/with_pretrain/seed_1/bc"]
    assert lines["bc"][4:6] == ["--script", str(own)] and "--arch" not in lines["bc"]
    settings = dataclasses.replace(settings, processes=2)
    words = commands(settings, Run("mine", "no_pretrain", 1), Slot("", 1))["ppo"]
    assert words[1:6] == ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    assert words[6] == str(own)


def test_a_resumed_pretraining_names_its_script(own, tmp_path):
    settings = Settings(str(tmp_path), [], [], own={"mine": str(own)})
    run = Run("mine", "with_pretrain", 1)
    place = tmp_path / run.path / "bc"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    assert commands(settings, run, Slot("", 1))["bc"][2:] == ["--resume", str(place), "--script", str(own)]


STAND_IN = Path(__file__).with_name("stand_in.py").read_text()
STUBS = '\nARCHITECTURE = "mine"\nSIZES = {}\nclass Args: pass\nclass Agent: pass\ndef main(): pass\n'


def test_an_experiment_with_an_own_script(tmp_path, capsys, monkeypatch):
    """Its runs are called by its name; to go on, the user names the script again, and a changed text is said."""
    script = tmp_path / "ppo_mine.py"
    script.write_text(STAND_IN.replace("import argparse", "import argparse" + STUBS, 1))
    compiled = []
    monkeypatch.setattr(launch, "compile_ahead", lambda settings, *_: compiled.append(settings.own))
    monkeypatch.chdir(tmp_path)
    line = words(tmp_path, architectures=("ppo_mine.py",), seeds=(1,))
    assert carry_out([*line, "--dry-run"]) == 0
    assert f"{script} --run-dir" in capsys.readouterr().out and not (tmp_path / "exp").exists()
    assert carry_out(line) == 0
    assert compiled == [{"mine": str(script)}]
    assert entries(tmp_path / "exp")["mine", "no_pretrain", 1]["status"] == "done"
    config = json.loads((tmp_path / "exp/config.json").read_text())
    assert config["args"]["architectures"] == [str(script)]
    assert config["scripts"] == {"mine": scripts.find(str(script), "").sha256}

    goes_on = ["--resume-from", str(tmp_path / "exp")]
    with pytest.raises(
        CheckpointError, match=r"ppo_mine\.py is none of the eight, and is run only if you name it: add"
    ):
        carry_out(goes_on)
    capsys.readouterr()
    assert carry_out([*goes_on, "--architectures", str(script)]) == 0
    assert "changed" not in capsys.readouterr().out
    script.write_text(script.read_text() + "# a remark\n")
    assert carry_out([*goes_on, "--architectures", str(script)]) == 0
    assert "since the experiment began the script of mine changed" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="the experiment is another: architectures was"):
        carry_out([*goes_on, "--architectures", str(script), "gat"])


def test_architectures_that_an_experiment_refuses(own, tmp_path):
    other = tmp_path / "ppo_other.py"
    other.write_text(own_text())
    for names, expected in (
        ((own, other), "is that of .* too"),
        ((own, own), "given twice"),
        (("gat", own, f"{own.parent}/../anywhere/ppo_mine.py"), "a script is given twice"),
        (("gat", ROOT / "npp_rl/ppo_gat.py"), "a script is given twice"),
        ((tmp_path / "none.py",), "no such file"),
        (("gta",), "unknown"),
    ):
        with pytest.raises(ArgumentError, match=f"--architectures.*{expected}"):
            train_and_compare.main(*arguments.read(words(tmp_path, "--dry-run", architectures=map(str, names))))


def test_tuning_an_own_script(own, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    from benchmark import tune
    from benchmark.tuning import study, trials

    args = tune.Args(arch=str(own), max_minutes=1.0)
    script, space, _, settings = tune.prepare(args, [])
    assert script.ARCHITECTURE == args.study_name == settings["arch"] == "mine"
    assert settings["script"] == scripts.find(str(own), "").sha256 and "hidden" in space
    assert trials.script_path(args.arch) == own
    best = {"number": 0, "params": {}, "validation_levels": 4, "value": 0.5, "success_by_seed": [], "parameters": 9}
    monkeypatch.setattr(study, "in_words", lambda _: "good")
    study.write_best(best, {}, tmp_path, args, settings)
    assert f'"${{PYTHON:-python}}" {own} --seed' in (tmp_path / "best.sh").read_text()
    assert json.loads((tmp_path / "best.json").read_text())["architecture"] == "mine"
    with pytest.raises(ArgumentError, match="--arch gta: unknown"):
        tune.prepare(tune.Args(arch="gta", max_minutes=1.0), [])


def test_throughput_of_an_own_script(own, monkeypatch):
    asked = []
    row = {"charts/SPS": 1.0, **{f"time/{part}": 0.25 for part in ("env", "inference", "update", "rest")}}
    config = {"parameters": 1, "world_size": 1}
    monkeypatch.setattr(throughput, "trained", lambda *a: asked.append(a[0]) or ([row], config))
    monkeypatch.setattr(throughput, "write_data_sets", lambda *_: None)
    names = [what for what, _, _ in throughput.training((str(own), "gat"), 1)]
    assert {"training, mine", "training, gat"} <= set(names) and asked == [own, ROOT / "npp_rl/ppo_gat.py"]
    with pytest.raises(ArgumentError, match="--scripts gta: unknown"):
        throughput.check(throughput.Args(scripts=("gta",)))


def test_jobs_of_a_cluster_run_an_own_script(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    script = tmp_path / "ppo_mine.py"
    script.write_text(STAND_IN.replace("import argparse", "import argparse" + STUBS, 1))
    line = words(tmp_path, "--launcher", "local-submitit", architectures=(str(script),), seeds=(1,))
    assert carry_out(line) == 0
    assert entries(tmp_path / "exp")["mine", "no_pretrain", 1]["status"] == "done"
    assert f"{script} --run-dir" in (tmp_path / "exp/mine/no_pretrain/seed_1/console.log").read_text()


def test_a_signal_to_an_own_script_is_answered_while_it_is_imported(tmp_path):
    script = tmp_path / "ppo_mine.py"
    script.write_text(own_text(more="import signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)"))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, "error: stopped by SIGTERM\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ppo_mine.py"]


def test_tries_of_an_own_script(own, tmp_path):
    best = saved(tmp_path / "run", own, frame_skip=24)
    line = ["tries", str(best), "--level", "simplest/test_0000", "--out", str(tmp_path / "tries.png")]
    with pytest.raises(CheckpointError, match="name it by --script"):
        curves.main(parse(curves.Args, line))
    curves.main(parse(curves.Args, [*line, "--script", str(own)]))
    assert (tmp_path / "tries.png").stat().st_size > 1000


# The example


def test_the_example_is_a_copy_with_other_parts_between_the_markers():
    for (here, line), (there, expected) in itertools.zip_longest(
        common_lines(str(EXAMPLE)), common_lines(FIRST), fillvalue=("end", "")
    ):
        assert line == expected, f"{EXAMPLE.name}:{here}: {line}\n{FIRST}:{there}: {expected}"
    assert EXAMPLE.read_text().count("\n") <= 550


def test_the_example_sees_a_set():
    """The order of mines carries nothing, an empty slot nothing, and what a slot holds is told apart by its type."""
    module = scripts.load(scripts.find(str(EXAMPLE), "--script"), "--script")
    torch.manual_seed(0)
    shapes = {name: OBSERVATIONS[name][0] for name in module.Agent.observations}
    agent = module.Agent(shapes, module.Args(**module.SIZES["small"])).eval()
    random = np.random.default_rng(0)
    x = {name: torch.from_numpy(random.normal(size=(3, *shape)).astype(np.float32)) for name, shape in shapes.items()}
    x["graph_node_mask"] = torch.ones(3, GRAPH_NODES, dtype=torch.uint8)
    first, count = next((first, count) for name, first, count in GRAPH_SLOTS if name == "mine")
    order = torch.arange(GRAPH_NODES)
    order[first : first + count] = order[first : first + count].flip(0)
    mixed = x | {"graph_nodes": x["graph_nodes"][:, order]}
    assert torch.equal(agent.get_logits(mixed), agent.get_logits(x))
    hidden = x | {"graph_node_mask": torch.zeros_like(x["graph_node_mask"])}
    emptied = hidden | {"graph_nodes": x["graph_nodes"] + 1}
    assert torch.equal(agent.get_logits(hidden), agent.get_logits(emptied))
    assert not torch.equal(agent.get_logits(hidden), agent.get_logits(x))
    tiles = x | {"graph_nodes": x["graph_nodes"].clone()}
    tiles["graph_nodes"][:, :first] += 1  # tiles and the ninja
    moved = agent.encode_entities(tiles) != agent.encode_entities(x)
    assert moved.any()  # the ninja is one of the points
    types = {"graph_nodes": torch.zeros_like(x["graph_nodes"]), "graph_node_mask": hidden["graph_node_mask"].clone()}
    seen = []
    for name, first, _ in GRAPH_SLOTS[1:]:
        types["graph_node_mask"].zero_()[:, first] = 1
        seen.append((name, agent.encode_entities(types)[0]))
    assert all(not torch.equal(a, b) for (_, a), (_, b) in itertools.combinations(seen, 2))


# What the README says


def section(title: str) -> list[list[str]]:
    """The command lines in a section of the README, as words without remarks."""
    text = (ROOT / "README.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    block = text.split("```bash\n")[1].split("```")[0]
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def started(line: list[str], more=(), **places) -> None:
    """Carry out a command line of the README in this process, with its places put in."""
    before = sys.argv
    program, *line = [re.sub("|".join(places), lambda m: str(places[m[0]]), word) for word in line]
    assert program == "python"
    sys.argv = [*line, *map(str, more)]
    try:
        if line[0] == "-m":
            sys.argv = sys.argv[1:]
            runpy.run_module(line[1], run_name="__main__")
        else:
            runpy.run_path(line[0], run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, line
    finally:
        sys.argv = before


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import")  # runpy of imported modules
def test_the_readme_is_true(levels, tmp_path, monkeypatch, capfd):
    """Its section on own networks, line by line, with tiny budgets, from the copy to the report."""
    pytest.importorskip("pygame")
    copy, train, resume, evaluate, watch, clone, compare = section("Bring your own network")
    script, run_dir, plans = tmp_path / "anywhere/ppo_mine.py", tmp_path / "run", tmp_path / "plans"
    script.parent.mkdir()
    places = {"anywhere": script.parent, "RUN_DIR": run_dir, "PLANS": plans, "npp_rl/": f"{ROOT}/npp_rl/"}
    data = ["--train-dataset", levels / "train", "--test-dataset", levels / "test"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)

    assert copy == ["cp", "npp_rl/ppo_mlp_baseline.py", "anywhere/ppo_mine.py"]
    text = (ROOT / copy[1]).read_text()
    own_parts = EXAMPLE.read_text()  # the example's parts between the markers, with the user's names
    for begin, end in (("# Args:", "# End of Args."), ("# Agent:", "# End of Agent.")):
        part = re.compile(f"^{begin}.*?^{re.escape(end)}", re.MULTILINE | re.DOTALL)
        text = part.sub(lambda _, part=part: part.search(own_parts)[0], text)
    text = text.replace("entity_set", "mine").replace(
        "from npp_rl.evaluation import analysis",
        "from npp_rl.environment.graph import GRAPH_SLOTS\nfrom npp_rl.evaluation import analysis",
    )
    script.write_text(text)

    tiny = [*TINY, *data, "--run-dir", run_dir, "--no-cuda"]
    budget = train.index("--max-minutes")
    started(train[:budget], [*tiny, "--total-timesteps", 32, "--save-freq", 32], **places)
    started(resume, ["--total-timesteps", 64], **places)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [row["global_step"] for row in rows if row["kind"] == "train"]
    assert steps == [32, 64] and rows[-1]["kind"] == "test" and math.isfinite(rows[0]["losses/policy_loss"])
    assert json.loads((run_dir / "config.json").read_text())["architecture"] == "mine"
    assert (run_dir / "source/ppo_mine.py").read_text() == text
    assert checkpoints.load(run_dir / "checkpoints/best.pt")["script"] == source.describe(script)
    before = json.loads((run_dir / "eval_results.json").read_text())["levels"]
    started(evaluate, **places)
    assert json.loads((run_dir / "eval_results.json").read_text())["levels"] == before
    shot = ["--dataset", levels / "test", "--frames", 3, "--screenshot", tmp_path / "shot.png"]
    started(watch, shot, **places)
    assert (tmp_path / "shot.png").stat().st_size > 1000

    words = ["--dataset", levels / "train", "--out", plans, "--budget", "5s", "--workers", 1]
    started(["python", "-m", "npp_rl.planning.planner"], words, **places)
    words = ["--run-dir", tmp_path / "bc", *data, "--epochs", 1, "--validation-fraction", 0.3, "--cache-dir", ""]
    started(clone, [*words, "--frame-skip", 24, "--threads", 1, "--no-cuda", "--size", "small"], **places)
    pretrained = ["--pretrained-checkpoint", tmp_path / "bc/checkpoints/best.pt"]
    started(
        train[:2],
        [*tiny, "--run-dir", tmp_path / "pretrained", "--total-timesteps", 32, *pretrained],
        **places,
    )
    assert (tmp_path / "pretrained/report.md").exists()

    words = [*data, "--seeds", 1, "--total-timesteps", 32, "--evaluations", 0, "--num-envs", 4, "--num-gpus", 0]
    words += ["--jobs", 1, "--no-checks", "--threads", 1]
    rest = ["--", *TINY[2:6], *TINY[8:12], "--size", "small", "--no-cuda"]
    started(compare, ["--dry-run", *words, *rest], **places)
    assert not (tmp_path / "experiments").exists()
    started(compare, [*words, *rest], **places)
    report = (tmp_path / "experiments/mine/report/report.md").read_text()
    assert "mlp_baseline" in report and re.search(r"\| mine\b", report)
