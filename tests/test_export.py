"""Exported agents: what the folder holds, that all commands take it, and what is refused."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from made_agents import KNOWN, made_run

from npp_rl import ARCHITECTURES, cost, export, ppo_mlp_baseline
from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError, UserError
from npp_rl.evaluation import __main__ as evaluation
from npp_rl.files import read_json, write_json
from npp_rl.training import checkpoints, exported

NO_HASH = "0" * 64
FEW = 64  # observations; the command compares 10,000


def exporting(run, out, **more):
    export.main(export.Args(str(run), str(out), **{"observations": FEW, **more}))
    return out


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "run", hidden=16, tiles_hidden=16, features=16, seed=5)


@pytest.fixture(scope="module")
def agent_dir(best, tmp_path_factory):
    return exporting(best.parents[1], tmp_path_factory.mktemp("exported") / "little")


@pytest.fixture
def copied(agent_dir, tmp_path):
    """A copy of the exported agent, to be damaged."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in agent_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_an_exported_folder_is_the_checkpoint(best, agent_dir):
    names = {"README.md", "config.json", "model.safetensors", "policy.onnx", "trained_on.txt"}
    assert {path.name for path in agent_dir.iterdir()} == names
    one, two = checkpoints.load(best), checkpoints.load(agent_dir)
    assert list(one["agent"]) and one["agent"].keys() == two["agent"].keys()
    assert all(torch.equal(weight, two["agent"][name]) for name, weight in one["agent"].items())
    assert torch.equal(one["trained_on"], two["trained_on"])
    for name in ("architecture", "observation_shapes", "global_step"):
        assert one[name] == two[name]
    (agent, run), (_, expected) = load_agent(agent_dir), load_agent(best)
    free = {"run_dir", "track"}
    assert {k: v for k, v in run.items() if k not in free} == {k: v for k, v in expected.items() if k not in free}
    assert run["trained_on"] == {level.tiles_key for level in KNOWN} and not agent.training


def test_other_programs_read_the_weights_and_the_hashes(best, agent_dir):
    weights = safetensors.torch.load_file(agent_dir / "model.safetensors")
    assert torch.equal(weights["actor.weight"], checkpoints.load(best)["agent"]["actor.weight"])
    config = read_json(agent_dir / "config.json")
    for name, sha256 in config["files"].items():
        assert hashlib.sha256((agent_dir / name).read_bytes()).hexdigest() == sha256
    assert set(config["files"]) == {"README.md", "model.safetensors", "policy.onnx", "trained_on.txt"}
    assert config["onnx"]["observations"] == FEW and config["onnx"]["largest_difference"] < 1e-4
    assert config["sizes"] == {"hidden": 16, "tiles_hidden": 16, "features": 16}


def test_the_card_says_what_one_wants_to_know(agent_dir):
    card = (agent_dir / "README.md").read_text()
    assert "mlp\\_baseline" in card and "hidden 16" in card and "`game_state` [" in card
    assert "| simplest | 4 | 75.0% | 30% to 95% |" in card  # Wilson's interval of 3 of 4
    assert "my\\|own \\<b\\>" in card  # a category is a folder's name, which may hold anything
    assert "2 levels and their mirror images" in card and "4096" in card and "seed: 1" in card
    command = re.search(r"made by: `(.*)`", card)[1]
    assert command == "python npp_rl/ppo_mlp_baseline.py --size small --hidden 16 --tiles-hidden 16 --features 16"
    assert ppo_mlp_baseline.__file__.endswith(command.split()[1])


def test_the_cards_example_plays_without_torch(agent_dir):
    """It is the code of the card, as it stands there, in the exported folder."""
    code = re.search(r"```python\n(.*?)```", (agent_dir / "README.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    imported = set(re.findall(r"^import (\w+)", code, re.MULTILINE))
    assert imported <= {"gymnasium", "numpy", "onnxruntime"}
    code += 'import sys\nprint("torch" in sys.modules, info["outcome"]["l"] > 0)'
    done = subprocess.run([sys.executable, "-c", code], cwd=agent_dir, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False True", done.stderr


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_onnx_policy_of_every_architecture_chooses_as_the_agent(name, tmp_path):
    agent, run = load_agent(made_run(tmp_path / "run", name, results=False))
    rows, logits = next(export.play(agent, run, 16, seed=1))
    session = export.session_of(export.to_onnx(agent, rows, 17), "it")
    assert [entry.name for entry in session.get_inputs()] == list(agent.observations)
    for count in (1, 3, 16):  # any number of rows
        part = {key: value[:count] for key, value in rows.items()}
        (found,) = session.run(["logits"], part)
        assert found.shape == (count, 6) and found.dtype == np.float32
        np.testing.assert_allclose(found, logits[:count], rtol=1e-3, atol=1e-5)
        assert (found.argmax(1) == logits[:count].argmax(1)).all()
    assert np.abs(logits).max() > 0.05


def test_a_policy_that_chooses_otherwise_is_not_exported(best, tmp_path, monkeypatch):
    whole = export.to_onnx

    def other(agent, rows, opset):
        with torch.no_grad():
            agent.actor.bias[2] = 5
            model = whole(agent, rows, opset)
            agent.actor.bias[2] = 0
        return model

    monkeypatch.setattr(export, "to_onnx", other)
    with pytest.raises(UserError, match=r"policy.onnx: chooses another action than the agent at \d+ of 64 obs") as said:
        exporting(best, tmp_path / "out")
    assert "\n" not in str(said.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [99, 12])
def test_an_opset_that_nobody_knows(best, tmp_path, opset):
    with pytest.raises(ArgumentError, match=f"--opset {opset}: expected 13 to 20"):
        exporting(best, tmp_path / "out", opset=opset)
    agent, run = load_agent(best)
    with pytest.raises(ArgumentError, match=r"--opset 99: torch .* cannot write it") as said:
        export.to_onnx(agent, next(export.play(agent, run, 16, 0))[0], 99)
    assert "\n" not in str(said.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [13, 20])
def test_opsets_at_both_ends(tmp_path, opset):
    agent, run = load_agent(made_run(tmp_path / "run", "gat", results=False))
    rows, logits = next(export.play(agent, run, 16, seed=1))
    found = export.session_of(export.to_onnx(agent, rows, opset), "it").run(["logits"], rows)[0]
    np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-5)


def test_a_comparison_with_nothing(best, tmp_path):
    with pytest.raises(ArgumentError, match="--observations 0: expected 1 to"):
        exporting(best, tmp_path / "out", observations=0)


def test_an_opset_that_the_runtime_does_not_know(agent_dir):
    import onnx

    model = onnx.load(agent_dir / "policy.onnx")
    model.opset_import[0].version = 1_000
    with pytest.raises(
        UserError, match=r"mine: ONNX Runtime [\d.]+ does not run it \(ONNX Runtime only .*[Oo]pset 1000 "
    ) as said:
        export.session_of(model.SerializeToString(), "mine")
    assert "\n" not in str(said.value)
    with pytest.raises(UserError, match="does not run it"):
        export.session_of(b"no model", "mine")


def test_an_export_cut_short_leaves_nothing(best, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(exported, "write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        exporting(best, tmp_path / "out", onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_and_where_not_to(best, tmp_path):
    for run, message in (
        ("nowhere", "nowhere: no such run directory or checkpoint file"),
        (str(tmp_path), "expected checkpoints/best.pt or an exported agent in it"),
        ("zoo:nobody", "zoo:nobody: no such agent"),
        ("zoo:../../etc", "no such agent"),
    ):
        with pytest.raises(CheckpointError, match=message):
            exporting(run, tmp_path / "out")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("mine")
    with pytest.raises(ArgumentError, match=r"--out .*there: is there already \(expected a new folder\)"):
        exporting(best, tmp_path / "there")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "file"]


def test_an_exported_agent_is_exported_again_with_its_results(agent_dir, tmp_path):
    again = exporting(agent_dir, tmp_path / "little", onnx=False)
    assert not (again / "policy.onnx").exists()
    one, two = read_json(agent_dir / "config.json"), read_json(again / "config.json")
    assert two["onnx"] is None and "policy.onnx" not in two["files"]
    same = one.keys() - {"onnx", "files"}
    assert {key: one[key] for key in same} == {key: two[key] for key in same}
    assert one["files"]["model.safetensors"] == two["files"]["model.safetensors"]


def damage(folder, name, change):
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def flip(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def test_tampered_weights_are_refused(copied):
    damage(copied, "model.safetensors", flip)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: its sha256 is \w{12}\.\.\., but config.json has"
    ) as e:
        load_agent(copied)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x10" + bytes(7) + b"[" * 16, b"x" * 999])
def test_a_damaged_safetensors_file_with_its_hash(copied, content):
    (copied / "model.safetensors").write_bytes(content)
    config = read_json(copied / "config.json")
    config["files"]["model.safetensors"] = hashlib.sha256(content).hexdigest()
    write_json(copied / "config.json", config)
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a whole safetensors file") as said:
        load_agent(copied)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not an exported agent's"),
        ({"files": {}}, "expected the sha256 of model.safetensors in `files`"),
        ({"files": None}, "expected the sha256 of model.safetensors in `files`"),
        ({"files": {"model.safetensors": NO_HASH}}, "expected the sha256 of README.md in `files`"),
        ({"files": {"model.safetensors": NO_HASH, "README.md": 5}}, "the sha256 of README.md is 5, expected 64"),
        (
            {"files": {"model.safetensors": NO_HASH, "README.md": NO_HASH, "../x": NO_HASH}},
            r"lists '../x', expected",
        ),
        ({"architecture": "os"}, "architecture 'os'"),
        ({"args": {"hidden": 8}}, "does not fit the architecture"),
        ({"args": [1]}, "does not fit the architecture"),
        ({"observation_shapes": {"game_state": [5]}}, "game_state had the shape"),
        ({"observation_shapes": {}}, "does not fit the architecture"),
    ],
)
def test_a_config_of_something_else(copied, change, message):
    write_json(copied / "config.json", {**read_json(copied / "config.json"), **change})
    with pytest.raises(CheckpointError, match=message) as said:
        load_agent(copied)
    assert "\n" not in str(said.value)


def test_folders_that_are_no_export(copied, best, tmp_path):
    for folder, message in (
        (
            tmp_path,
            "no exported agent (expected a folder with config.json and model.safetensors, or a checkpoint file)",
        ),
        (best.parents[1], "or a file such as RUN_DIR/checkpoints/best.pt"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(message)):
            load_agent(folder)
    (copied / "trained_on.txt").unlink()
    with pytest.raises(CheckpointError, match=r"trained_on.txt: No such file or directory \(.*config.json lists it\)"):
        load_agent(copied)
    (copied / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"config.json: expected a JSON object"):
        load_agent(copied)


def test_commands_take_the_folder(agent_dir, tmp_path, monkeypatch, capsys):
    """Evaluation, its results beside; cost; a run that starts from it. play: tests/test_play.py has its window."""
    levels = tmp_path / "levels/simplest"
    levels.mkdir(parents=True)
    for k, level in enumerate(KNOWN):
        (levels / f"{k}").write_bytes(level.map_data)
    monkeypatch.chdir(tmp_path)
    args = evaluation.Args((str(agent_dir),), test_dataset=str(levels.parent))
    (results,) = evaluation.main(args)
    assert results["trained_on"]["levels"] == 2 and (tmp_path / "runs/little__eval_levels/report.md").is_file()
    cost.main(cost.Args((str(agent_dir),)))
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["parameters"] == read_json(agent_dir / "config.json")["parameters"]
    words = ["--pretrained-checkpoint", "zoo:little", "--hidden", "16", "--tiles-hidden", "16", "--features", "16"]
    assert ppo_mlp_baseline.parse_args(ppo_mlp_baseline.Args, words).pretrained_checkpoint == "zoo:little"


def test_the_runtime_is_what_users_have():
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()
