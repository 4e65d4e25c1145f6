"""Behavioural cloning: figures by hand, a run that learns its demonstrations and wins, resumed runs, bad input."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import ground, here, level

from npp_rl import ARCHITECTURES, bc_pretrain
from npp_rl.agents import load_agent
from npp_rl.bc_pretrain import Args, class_weights, draw_confusion, draw_reliability, main, measures
from npp_rl.commands import ArgumentError, command
from npp_rl.evaluation import players, suite
from npp_rl.levels import datasets
from npp_rl.levels.replays import write_replay
from npp_rl.planning.demonstrations import DemonstrationError
from npp_rl.simulator import WON, simulate
from npp_rl.training import checkpoints
from npp_rl.training.arguments import parse_args

SCRIPT = Path(bc_pretrain.__file__)


def test_measures_by_hand():
    """Four steps: two right with 0.8, one right with 0.6, one wrong with 0.6."""
    chosen = [0, 2, 5, 5]
    confidence = np.array([0.8, 0.8, 0.6, 0.6])
    probabilities = np.repeat((1 - confidence[:, None]) / 5, 6, 1)
    probabilities[range(4), chosen] = confidence
    actions = np.array([0, 2, 5, 2])
    returns = np.array([1.0, 2, 3, 4])
    metrics, confusion, bins = measures(np.log(probabilities) + 7, returns + 1, actions, returns)
    assert confusion.sum() == 4 and confusion[2].tolist() == [0, 0, 1, 0, 0, 1] and confusion[5, 5] == 1
    assert metrics["accuracy"] == 0.75 and metrics["explained_variance"] == 1
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.8, 0.6, 0.08]).mean())
    assert metrics["f1_none"] == 1 and metrics["f1_right"] == pytest.approx(2 / 3)
    assert metrics["f1_right_jump"] == pytest.approx(2 / 3) and "f1_left" not in metrics
    assert metrics["accuracy_right"] == 0.5 and "accuracy_jump" not in metrics
    # Half of the steps at 0.8 are right always, half at 0.6 in one of two.
    assert metrics["calibration_error"] == pytest.approx(0.5 * 0.2 + 0.5 * 0.1)
    assert bins[:, 0].sum() == 4
    for picture in (draw_confusion(confusion), draw_reliability(bins, 0.15)):
        assert len(picture.getcolors(1 << 20)) > 3


def test_class_weights_by_hand():
    weights = class_weights(np.array([0, 0, 0, 2]))
    assert weights.tolist() == [pytest.approx(2 / 3), 0, 2, 0, 0, 0]
    assert weights[[0, 0, 0, 2]].mean() == 1


def demonstration(folder, name, one, inputs):
    _, states = simulate(one.map_data, inputs)
    assert states[-1] == WON
    folder.mkdir(parents=True, exist_ok=True)
    write_replay(folder / f"{name}.replay", one.map_data, inputs[: len(states)], True)


def corridor_levels(count):
    """Corridors of two kinds: the way leads to the right, or to the left, from tiles that differ each time."""
    levels = []
    for k in range(count):
        tiles = ground((1, 12, 42, 12), (1 + k, 2, 1 + k, 2))
        ways = (5 + k % 3, 12, 20 + k % 4) if k % 2 else (30 - k % 3, 22, 14 - k % 4)
        levels.append(level(tiles, here(ways[0]), [(here(ways[2]), here(ways[1]))], name=f"corridor {k}"))
    return levels


@pytest.fixture
def replays(tmp_path):
    for k, one in enumerate(corridor_levels(10)):
        demonstration(tmp_path / "replays", f"{k}", one, (b"\2" if k % 2 else b"\4") * 400)
    return tmp_path / "replays"


@pytest.fixture
def few_levels(monkeypatch):
    """Success is measured on two demonstrated levels, and the test suite is a corridor of its own."""
    own = corridor_levels(2)
    suite = [level(ground((1, 12, 41, 12)), here(6), [(here(24), here(14))], name="suite")]
    monkeypatch.setattr(datasets, "load_split", lambda *_: ([], own, suite))


@pytest.fixture(autouse=True)
def signals_as_before():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def small_args(run_dir, replays, **changes):
    settings = {"epochs": 6, "batch_size": 64, "threads": 1, "cuda": False, "eval_freq": 3, "save_freq": 1}
    settings |= {"learning_rate": 3e-3, "validation_fraction": 0.3, "cache_dir": str(replays.parent / "cache")}
    return Args(run_dir=str(run_dir), replay_data_dir=(str(replays),), **{**settings, **changes})


def decisive(path):
    """Lines of metrics.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    timed = ("minutes", "charts/SPS")
    return [{k: v for k, v in line.items() if k not in timed and not k.startswith("system/")} for line in lines]


def weights(path, name="latest"):
    return checkpoints.load(path / f"checkpoints/{name}.pt")["agent"]


def test_a_run_learns_its_demonstrations(tmp_path, replays, few_levels):
    run_dir = main(small_args(tmp_path / "run", replays, label_smoothing=0.05, class_weights="balanced", mirror=True))
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds == ["eval", *["train", "eval"] * 6, "test"]
    evals = [line for line in lines if line["kind"] == "eval"]
    assert [line["charts/epoch"] for line in evals if "eval/success_rate" in line] == [0, 3, 6]
    assert evals[0]["eval/accuracy"] < 0.9 < evals[-1]["eval/accuracy"] and evals[-1]["eval/success_rate"] == 1
    assert {"eval/f1_left", "eval/f1_right", "eval/calibration_error", "eval/explained_variance"} <= set(evals[-1])
    assert evals[-1]["eval/explained_variance"] > evals[0]["eval/explained_variance"]
    rates = [line["charts/learning_rate"] for line in lines if line["kind"] == "train"]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.1 * rates[0]
    results = json.loads((run_dir / "eval_results.json").read_text())
    assert results["demonstrations"]["counts"]["used"] == 10 and results["demonstrations"]["mirrored"] == 10
    assert results["overall"]["success_rate"] == 1 and results["held_out"]["accuracy"] > 0.9
    assert "behavioural cloning, 6 epochs" in (run_dir / "report.md").read_text()
    assert (run_dir / "confusion.png").is_file() and (run_dir / "reliability.png").is_file()

    agent, run = load_agent(run_dir / "checkpoints/best.pt")  # as the PPO script of its name does
    assert type(agent).__module__ == "npp_rl.ppo_mlp_baseline" and run["hidden"] == 128 and run["frame_skip"] == 4
    assert run["trained_on"] <= {one.tiles_key for one in corridor_levels(10)} and len(run["trained_on"]) > 5
    policy = players.agent_policy(agent, torch.device("cpu"))
    played = suite.evaluate(policy, corridor_levels(10), observations=agent.observations)
    assert played["overall"]["success_rate"] == 1


def test_a_finished_run_goes_on_for_more_epochs(tmp_path, replays, few_levels):
    run_dir = main(small_args(tmp_path / "run", replays, epochs=2))
    kept = sorted(path.name for path in (run_dir / "source").iterdir() if path.suffix == ".py")
    assert kept == ["bc_pretrain.py", "ppo_mlp_baseline.py"]
    with pytest.raises(ArgumentError, match=r"--epochs 1: the run has done 2 already, expected more"):
        main(parse_args(Args, ["--resume", str(run_dir), "--epochs", "1"]))
    main(parse_args(Args, ["--resume", str(run_dir), "--epochs", "4"]))
    lines = decisive(run_dir)
    assert [line["charts/epoch"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4]
    assert "epochs was 2, is now 4: 50% of the run is over" in (run_dir / "log.jsonl").read_text()
    config = json.loads((run_dir / "config.json").read_text())
    assert config["args"]["epochs"] == 4 and config["budgets"][0]["epochs"] == 2


@pytest.mark.parametrize("end", ["crash", "signal"])
def test_resumed_run_equals_uninterrupted_run(tmp_path, replays, few_levels, monkeypatch, end):
    more = {"mixed_precision": True, "hide_inputs": True} if end == "crash" else {}
    straight = main(small_args(tmp_path / "straight", replays, **more))
    save, draw = checkpoints.save, bc_pretrain.np.random.default_rng
    orders = []

    def interrupted_save(path, checkpoint):
        save(path, checkpoint)
        if path.name == "latest.pt" and checkpoint["counters"]["epoch"] == 2:
            with (path.parent.parent / "metrics.jsonl").open("a") as file:
                file.write('{"kind": "train", "global_step": 1024, "half a li')
            raise KeyboardInterrupt

    def signalling(seed):  # in the third epoch, whose second batch it does not see
        orders.append(seed)
        if len(orders) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(seed)

    broken = tmp_path / "broken"
    arguments = small_args(broken, replays, **more)
    with monkeypatch.context() as patch:
        if end == "crash":
            patch.setattr(checkpoints, "save", interrupted_save)
            with pytest.raises(KeyboardInterrupt):
                main(arguments)
        else:
            patch.setattr(bc_pretrain.np.random, "default_rng", signalling)
            main(arguments)
    assert not (broken / "eval_results.json").exists()
    if end == "signal":
        counters = checkpoints.load(broken / "checkpoints/latest.pt")["counters"]
        assert (counters["epoch"], counters["batch"]) == (2, 1)
    before = weights(broken)
    assert not all(torch.equal(before[key], value) for key, value in weights(straight).items())

    main(parse_args(Args, ["--resume", str(broken)]))
    for name in ("latest", "best"):
        after = weights(broken, name)
        assert all(torch.equal(after[key], value) for key, value in weights(straight, name).items())
    assert decisive(broken) == decisive(straight)


def test_loss_on_held_out_levels_ends_a_run(tmp_path, replays, few_levels):
    """A learning rate that nothing can be learned with: the held-out loss does not fall."""
    args = small_args(tmp_path / "run", replays, epochs=40, patience=2, learning_rate=1e-12, eval_freq=0, save_freq=0)
    run_dir = main(args)
    epochs = [line["charts/epoch"] for line in decisive(run_dir) if line["kind"] == "train"]
    assert epochs[-1] < 10
    assert "ended by the loss on held-out levels" in (run_dir / "report.md").read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"replay_data_dir": ()}, "--replay-data-dir"),
        ({"epochs": 0}, "--epochs 0"),
        ({"label_smoothing": 1.5}, "--label-smoothing"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_bad_arguments(tmp_path, replays, few_levels, changes, named):
    with pytest.raises(ArgumentError, match=named):
        main(dataclasses.replace(small_args(tmp_path / "run", replays), **changes))
    assert not (tmp_path / "run").exists()


def test_without_usable_replays_the_command_ends_with_the_reason(tmp_path, few_levels, monkeypatch, capsys):
    folder = tmp_path / "replays"
    folder.mkdir()
    words = ["bc_pretrain.py", "--replay-data-dir", str(folder), "--run-dir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", words)
    suite = datasets.load_split()[2][0]
    demonstration(tmp_path / "suite", "a", suite, b"\2" * 400)
    for content, reason in ((None, "no replay in this folder"), (b"no replay at all, just text", "1 broken"),
                            ((tmp_path / "suite/a.replay").read_bytes(), "1 held out (its level is in")):  # fmt: skip
        if content:
            (folder / "a.replay").write_bytes(content)
        with pytest.raises(SystemExit) as stop:
            command(main, Args)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and reason in error
        assert not (tmp_path / "run").exists()
    one = next(one for one in corridor_levels(10)[1::2] if int(one.tiles_digest[-8:], 16) / 2**32 < 0.8)
    demonstration(folder, "b", one, b"\2" * 400)
    with pytest.raises(DemonstrationError, match="all 1 levels of the demonstrations are held out"):
        main(small_args(tmp_path / "run", folder, validation_fraction=0.8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture(tmp_path, replays, few_levels, name):
    run_dir = main(small_args(tmp_path / "run", replays, arch=name, size="small", epochs=1, save_freq=0))
    agent, _ = load_agent(run_dir / "checkpoints/best.pt")
    assert type(agent).__module__ == f"npp_rl.ppo_{name}"
    losses = [line["eval/loss"] for line in decisive(run_dir) if line["kind"] == "eval"]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_two_ranks_train_one_agent(tmp_path, replays):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    words += ["--replay-data-dir", str(replays), "--run-dir", str(tmp_path / "run"), "--epochs", "4", "--threads", "1"]
    words += ["--batch-size", "64", "--eval-freq", "0", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(words, env=os.environ, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    checkpoint = checkpoints.load(tmp_path / "run/checkpoints/latest.pt")
    assert len(checkpoint["ranks"]) == 2 and checkpoint["counters"]["epoch"] == 4
    assert (tmp_path / "run/report.md").is_file()
