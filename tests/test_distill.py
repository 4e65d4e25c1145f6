"""Distillation: the teachers' mean by hand, who acts, a student that learns its teacher, resumed runs, bad input."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from made_agents import KNOWN, made_run

from npp_rl import distill, export
from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.distill import Args, Teachers, beta_at, main
from npp_rl.environment.env import NppVectorEnv
from npp_rl.levels import datasets
from npp_rl.levels.generator import generate
from npp_rl.training import checkpoints
from npp_rl.training.arguments import parse_args

TINY = {"hidden": 16, "tiles_hidden": 16, "features": 16}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return str(made_run(tmp_path_factory.mktemp("runs") / "teacher", **TINY))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return str(made_run(tmp_path_factory.mktemp("runs") / "other", seed=7, **TINY))


def decided(path, copy):
    """The file of an agent that prefers one action clearly; an untrained one takes all of them nearly as often."""
    checkpoint = checkpoints.load(path)
    checkpoint["agent"]["actor.weight"].mul_(50.0)
    checkpoints.save(copy, checkpoint)
    return str(copy)


@pytest.fixture(autouse=True)
def few_levels(monkeypatch):
    levels = [generate("simplest", seed) for seed in range(10, 18)]
    monkeypatch.setattr(datasets, "load_split", lambda *_: (levels[:4], levels[4:6], levels[6:]))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A student as small as the teachers, whose presets would take seconds."""
    from npp_rl import ppo_mlp_baseline

    monkeypatch.setitem(ppo_mlp_baseline.SIZES, "small", TINY)


def small_args(run_dir, *teachers, **changes):
    settings = {"total_timesteps": 1536, "num_envs": 8, "num_steps": 32, "num_minibatches": 4, "evaluations": 0}
    settings |= {"eval_freq": 768, "save_freq": 256, "threads": 1, "cuda": False, "fresh_levels": 0, "mirror": False}
    return Args(run_dir=str(run_dir), teacher=teachers, **{**settings, **changes})


def lines_of(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def decisive(run_dir):
    timed = ("minutes", "charts/SPS")
    return [
        {k: v for k, v in line.items() if k not in timed and not k.startswith(("time/", "system/"))}
        for line in lines_of(run_dir)
    ]


def weights(run_dir, name="latest"):
    return checkpoints.load(run_dir / f"checkpoints/{name}.pt")["agent"]


def test_teachers_are_the_mean_of_their_log_probabilities_and_values(teacher, other):
    rows = NppVectorEnv(8, KNOWN, seed=0).reset()[0]
    x = {key: torch.from_numpy(value) for key, value in rows.items()}
    agents = [load_agent(path)[0] for path in (teacher, other)]
    for temperature in (1.0, 0.5):
        logprobs, values = Teachers(Args(teacher=(teacher, other)), CPU).heads(x, temperature)
        one, two = (torch.softmax(agent.get_logits(x) / temperature, 1) for agent in agents)
        mean = (one * two).sqrt()  # normalised: the geometric mean
        torch.testing.assert_close(logprobs.exp(), mean / mean.sum(1, keepdim=True))
        torch.testing.assert_close(values, (agents[0].get_value(x) + agents[1].get_value(x)) / 2)


def test_beta_falls_to_zero():
    args = Args(beta=0.8, beta_share=0.5)
    assert [beta_at(args, progress) for progress in (0, 0.25, 0.5, 0.9, 1)] == [0.8, 0.4, 0, 0, 0]


def test_the_teacher_acts_in_a_share_of_the_steps(tmp_path, teacher, monkeypatch):
    """This one goes right whatever it sees, so that its steps can be counted; the student would take all actions."""
    checkpoint = checkpoints.load(teacher)
    checkpoint["agent"]["actor.weight"].zero_()
    checkpoint["agent"]["actor.bias"].copy_(torch.tensor([0, 0, 50.0, 0, 0, 0]))
    checkpoints.save(tmp_path / "right.pt", checkpoint)
    taken, step = [], NppVectorEnv.step

    def noting(envs, actions):
        taken.append(np.array(actions))
        return step(envs, actions)

    monkeypatch.setattr(NppVectorEnv, "step", noting)
    more = {"total_timesteps": 512, "eval_freq": 0, "learning_rate": 1e-9}
    for beta, (low, high) in ((1.0, (1, 1)), (0.4, (0.4, 0.6)), (0.0, (0.1, 0.25))):
        taken.clear()
        args = small_args(tmp_path / f"{beta}", str(tmp_path / "right.pt"), beta=beta, **more)
        main(dataclasses.replace(args, frame_skip=4))
        first = [actions for actions in taken if len(actions) == 8][1:33]  # after the step that compiles
        assert low <= np.mean(np.concatenate(first) == 2) <= high


def test_a_student_learns_its_teacher(tmp_path, teacher, other):
    teacher, other = decided(teacher, tmp_path / "teacher.pt"), decided(other, tmp_path / "other.pt")
    args = small_args(tmp_path / "run", teacher, other, total_timesteps=8192, num_minibatches=8, learning_rate=3e-3)
    run_dir = main(dataclasses.replace(args, update_epochs=3, eval_freq=4096))
    lines = lines_of(run_dir)
    train = [line for line in lines if line["kind"] == "train"]
    assert train[-1]["losses/kl"] < 0.3 * train[0]["losses/kl"]
    assert train[-1]["losses/value_loss"] < 0.5 * train[0]["losses/value_loss"]
    assert train[-1]["charts/agreement"] > 0.95
    assert [line["charts/beta"] for line in train][:2] == [0.5, 0.5 - 0.5 * 2 / 32]
    assert [line["kind"] for line in lines if line["kind"] != "train"] == ["eval", "eval", "eval", "test"]
    results = json.loads((run_dir / "eval_results.json").read_text())
    assert results["overall"]["levels"] == 2 and results["distillation"]["teachers"] == [teacher, other]
    assert "distillation, 8,192 steps" in (run_dir / "report.md").read_text()
    agent, run = load_agent(run_dir / "checkpoints/best.pt")
    assert type(agent).__module__ == "npp_rl.ppo_mlp_baseline" and run["hidden"] == 16
    # It knows its own levels, validation too, and those of its teachers.
    assert run["trained_on"] == {
        level.tiles_key for level in (*KNOWN, *(generate("simplest", k) for k in range(10, 16)))
    }

    export.main(export.Args(str(run_dir), str(tmp_path / "exported"), onnx=False))
    card = (tmp_path / "exported/README.md").read_text()
    assert "`python npp_rl/distill.py --no-cuda --teacher teacher.pt other.pt --" in card


@pytest.mark.parametrize("end", ["crash", "moved"])
def test_resumed_run_equals_uninterrupted_run(tmp_path, teacher, monkeypatch, end):
    """The teacher's file may have moved."""
    own = shutil.copy(teacher, tmp_path / "teacher.pt")
    straight = main(small_args(tmp_path / "straight", str(own), mixed_precision=end == "crash"))
    save = checkpoints.save

    def interrupted_save(path, checkpoint):
        save(path, checkpoint)
        if path.name == "latest.pt" and checkpoint["counters"]["global_step"] == 768:
            raise KeyboardInterrupt

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted_save)
        with pytest.raises(KeyboardInterrupt):
            main(small_args(broken, str(own), mixed_precision=end == "crash"))
    words = ["--resume", str(broken)]
    if end == "moved":
        own = own.rename(tmp_path / "moved.pt")
        words += ["--teacher", str(own)]
    main(parse_args(Args, words))
    for name in ("latest", "best"):
        after = weights(straight, name)
        assert all(torch.equal(weights(broken, name)[key], value) for key, value in after.items())
    assert decisive(broken) == decisive(straight)


def test_another_teacher_is_not_the_runs(tmp_path, teacher, other):
    run_dir = main(small_args(tmp_path / "run", teacher, eval_freq=0))
    words = ["--resume", str(run_dir), "--total-timesteps", "3000", "--teacher", other]
    with pytest.raises(CheckpointError, match="is of another configuration"):
        main(parse_args(Args, words))


def test_a_student_that_sees_other_things_than_its_teacher(tmp_path, teacher):
    """Pictures and a stack of them against a patch; the environment makes both."""
    args = small_args(
        tmp_path / "run", teacher, arch="mlp_cnn", total_timesteps=32, num_steps=8, num_envs=4, eval_freq=0
    )
    agent, run = load_agent(main(args) / "checkpoints/best.pt")
    assert agent.observations == ("player_frames", "global_view", "game_state", "reachability", "arcs")
    assert run["frame_stack"] == 4
    x = {"player_frames": torch.arange(6).view(1, 6), "global_view": 1, "game_state": 2, "reachability": 3, "arcs": 4}
    assert distill.seen_by(agent, 4, {**x, "more": 5})["player_frames"].tolist() == [[2, 3, 4, 5]]
    assert "more" not in distill.seen_by(agent, 4, {**x, "more": 5})


def test_an_exported_teacher_of_the_zoo(tmp_path, teacher, monkeypatch):
    export.main(export.Args(teacher, str(tmp_path / "zoo/mine"), onnx=False))
    monkeypatch.setenv("NPP_ZOO", str(tmp_path / "zoo"))
    args = parse_args(Args, ["--teacher", "zoo:mine", str(tmp_path / "zoo/mine")])
    assert args.teacher == ("zoo:mine", str(tmp_path / "zoo/mine"))
    assert Teachers(args, CPU).digest == Teachers(Args(teacher=(teacher, teacher)), CPU).digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": ()}, "--teacher: expected one or more checkpoints or exported agents"),
        ({"teacher": ("none.pt",)}, "none.pt: no such checkpoint file"),
        ({"teacher": ("zoo:none",)}, "zoo:none: no such agent"),
        ({"frame_skip": 6}, r"--teacher .*: has frame_skip 4 \(expected 6; --frame-skip\)"),
        ({"gamma": 0.9}, r"--teacher .*: has gamma 0.99 \(expected 0.9; --gamma\)"),
        ({"temperature": 0.0}, "--temperature 0.0"),
        ({"beta": 1.5}, "--beta 1.5"),
        ({"num_minibatches": 5}, "--num-envs 8 --num-steps 32: expected .* 5 minibatches"),
    ],
)
def test_bad_input(tmp_path, teacher, changes, message):
    with pytest.raises((ArgumentError, CheckpointError), match=message) as said:
        main(dataclasses.replace(small_args(tmp_path / "run", teacher), **changes))
    assert "\n" not in str(said.value) and not (tmp_path / "run").exists()


def test_a_teacher_of_another_discount_teaches_its_policy(teacher):
    assert Teachers(Args(teacher=(teacher,), gamma=0.9, value_coef=0.0), CPU).digest


def test_a_teacher_that_sees_what_no_environment_makes(tmp_path, teacher):
    checkpoint = checkpoints.load(teacher)
    checkpoint["observation_shapes"]["sound"] = [4]
    checkpoints.save(tmp_path / "odd.pt", checkpoint)
    with pytest.raises(
        CheckpointError, match=r"odd.pt: does not fit the architecture mlp_baseline \(KeyError: 'sound'"
    ):
        main(small_args(tmp_path / "run", str(tmp_path / "odd.pt")))


@pytest.mark.slow
def test_two_ranks_train_one_student(tmp_path, teacher):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", distill.__file__]
    words += ["--teacher", teacher, "--run-dir", str(tmp_path / "run"), "--total-timesteps", "2048", "--threads", "1"]
    words += ["--evaluations", "0", "--num-envs", "8", "--num-steps", "32", "--num-minibatches", "4", "--no-cuda"]
    done = subprocess.run([*words, "--fresh-levels", "0"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(checkpoints.load(tmp_path / "run/checkpoints/latest.pt")["ranks"]) == 2
    assert (tmp_path / "run/report.md").is_file()
