"""The PPO loop: advantages by hand, the agent's distribution, a run that resumes to the last bit, arguments."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.environment.observations import REACHABILITY
from npp_rl.evaluation import suite
from npp_rl.levels import datasets
from npp_rl.levels.generator import generate
from npp_rl.ppo_mlp_baseline import Agent, Args, gae, main
from npp_rl.training import checkpoints, processes
from npp_rl.training.arguments import parse_args

SHAPES = {"game_state": (34,), "reachability": (REACHABILITY,), "arcs": (9, 9), "local_tiles": (3, 15, 15)}


def random_observations(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "game_state": torch.from_numpy(rng.normal(size=(rows, 34)).astype(np.float32)),
        "reachability": torch.from_numpy(rng.normal(size=(rows, REACHABILITY)).astype(np.float32)),
        "arcs": torch.from_numpy(rng.normal(size=(rows, 9, 9)).astype(np.float32)),
        "local_tiles": torch.from_numpy(rng.integers(0, 256, (rows, 3, 15, 15), dtype=np.uint8)),
    }


def test_gae_by_hand():
    """gamma = 0.5, lambda = 0.5. Columns: no end, terminated, truncated, both at once (counts as terminated)."""
    rewards = np.array([[1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]], np.float32)
    values = np.array([[10, 10, 10, 10], [20, 20, 20, 20], [30, 30, 30, 30]], np.float32)
    next_values = np.array([[20, 20, 20, 20], [30, 30, 8, 8], [40, 40, 40, 40]], np.float32)
    terminated = np.zeros((3, 4), bool)
    truncated = np.zeros((3, 4), bool)
    terminated[1, [1, 3]] = True
    truncated[1, [2, 3]] = True
    # Last row: 3 + 0.5 * 40 - 30 = -7 everywhere. Row 1: 2 + 15 - 20 = -3, plus 0.25 * -7; terminated 2 - 20 = -18;
    # truncated 2 + 0.5 * 8 - 20 = -14; both -18. Row 0: 1 + 10 - 10 = 1, plus a quarter of row 1.
    expected = np.array(
        [[1 - 4.75 / 4, 1 - 18 / 4, 1 - 14 / 4, 1 - 18 / 4], [-4.75, -18, -14, -18], [-7, -7, -7, -7]], np.float32
    )
    result = gae(rewards, values, next_values, terminated, truncated, 0.5, 0.5)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_agent_distribution_is_categorical():
    torch.manual_seed(0)
    agent = Agent(SHAPES, Args(hidden=16, tiles_hidden=16, features=16))
    with torch.no_grad():
        agent.actor.weight.mul_(200)  # orthogonal init with gain 0.01 is nearly uniform
        x = random_observations(4)
        action, logprob, value = agent.get_action_and_value(x)
        reference = torch.distributions.Categorical(logits=agent.get_logits(x))
        torch.testing.assert_close(logprob, reference.log_prob(action))
        torch.testing.assert_close(value, agent.get_value(x))
        torch.testing.assert_close(agent.heads(x), (agent.get_logits(x), value))
        # 4,000 draws per row: every frequency within 5 standard deviations of its probability.
        many = {key: rows.repeat_interleave(4000, 0) for key, rows in x.items()}
        drawn = agent.get_action_and_value(many)[0].reshape(4, 4000)
        frequencies = torch.stack([torch.bincount(row, minlength=6) for row in drawn]) / 4000
        error = (frequencies - reference.probs).abs()
        assert (error < 5 * (reference.probs * (1 - reference.probs) / 4000).sqrt() + 1e-3).all()
    assert reference.entropy().max() - reference.entropy().min() > 0.01  # the rows do differ


@pytest.fixture
def few_levels(monkeypatch):
    """Runs on six training, two validation and two test levels."""
    levels = [generate("simplest", seed) for seed in range(10)]
    monkeypatch.setattr(datasets, "load_split", lambda *_: (levels[:6], levels[6:8], levels[8:]))


def small_args(run_dir, **changes):
    sizes = {"hidden": 16, "tiles_hidden": 16, "features": 16, "num_envs": 8, "num_steps": 32, "num_minibatches": 2}
    settings = {
        "total_timesteps": 1536,
        "evaluations": 0,
        "eval_freq": 512,
        "save_freq": 256,
        "threads": 1,
        "cuda": False,
        "fresh_levels": 0,
    }
    return Args(run_dir=str(run_dir), **{**sizes, **settings, **changes})


def interrupted_save_at(step):
    """`checkpoints.save` that ends the process, as Ctrl-C twice does, after latest.pt of this step."""
    save = checkpoints.save

    def interrupted(path, checkpoint):
        save(path, checkpoint)
        if path.name == "latest.pt" and checkpoint["counters"]["global_step"] == step:
            raise KeyboardInterrupt

    return interrupted


# Evaluations at shares, every so many steps, and the steps of the evaluations of a run of 1,000 steps, 70 an iteration.
EVALUATED = [
    (4, 0, [0, 280, 560, 770, 1050]),
    (1, 0, [0, 1050]),
    (0, 0, []),
    (0, 300, [0, 350, 630, 910, 1050]),
    (2, 400, [0, 420, 560, 840, 1050]),
    (1000, 0, list(range(0, 1051, 70))),
]


def decisive(path):
    """Lines of metrics.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    timed = ("minutes", "charts/SPS")
    return [
        {k: v for k, v in line.items() if k not in timed and not k.startswith(("time/", "system/"))} for line in lines
    ]


def weights(path):
    return checkpoints.load(path / "checkpoints/latest.pt")["agent"]


@pytest.mark.parametrize("end", ["crash", "signal"])
def test_resumed_run_equals_uninterrupted_run(tmp_path, few_levels, monkeypatch, end):
    straight = main(small_args(tmp_path / "straight"))
    save = checkpoints.save

    def interrupted_save(path, checkpoint):
        save(path, checkpoint)
        if path.name == "latest.pt" and checkpoint["counters"]["global_step"] == 768:
            if end == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                with (path.parent.parent / "metrics.jsonl").open("a") as file:
                    file.write('{"kind": "train", "global_step": 1024, "half a li')
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted_save)
        if end == "crash":
            with pytest.raises(KeyboardInterrupt):
                main(small_args(tmp_path / "broken"))
        else:
            main(small_args(tmp_path / "broken"))
    broken = tmp_path / "broken"
    assert not (broken / "eval_results.json").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL or end == "crash"
    before = weights(broken)
    assert not all(torch.equal(before[key], value) for key, value in weights(straight).items())

    main(parse_args(Args, ["--resume", str(broken)]))
    after = weights(broken)
    assert all(torch.equal(after[key], value) for key, value in weights(straight).items())
    assert decisive(broken) == decisive(straight)
    results = [json.loads((path / "eval_results.json").read_text()) for path in (straight, broken)]
    assert results[0] == results[1]


@pytest.fixture(autouse=True)
def signals_as_before():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_run_directory(tmp_path, few_levels, capsys):
    """What a run leaves behind; another configuration may not take it over."""
    run_dir = main(small_args(tmp_path / "run", total_timesteps=512, clip_vloss=True, target_kl=1e-9))
    config = json.loads((run_dir / "config.json").read_text())
    assert config["architecture"] == "mlp_baseline" and config["args"]["hidden"] == 16
    assert config["parameters"] == sum(value.numel() for value in weights(run_dir).values())
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["global_step"]) for line in lines] == [
        ("eval", 0),
        ("train", 256),
        ("train", 512),
        ("eval", 512),
        ("test", 512),
    ]
    train = lines[1]
    assert {"charts/SPS", "losses/approx_kl", "losses/clipfrac", "losses/explained_variance"} <= set(train)
    shares = sum(train[f"time/{part}"] for part in ("env", "inference", "update", "rest"))
    assert shares == pytest.approx(1)
    assert {path.parent.name for path in run_dir.glob("tensorboard/*/events.out*")} == {"train", "eval", "system"}
    assert "| simplest | 2 |" in (run_dir / "report.md").read_text()
    pictures = json.loads((run_dir / "eval_results.json").read_text())["pictures"]  # without asking
    assert pictures and all((run_dir / place).is_file() for place in pictures.values())
    script = Path(sys.modules[Args.__module__].__file__)
    assert (run_dir / f"source/{script.name}").read_bytes() == script.read_bytes()
    assert all(json.loads(line)["message"] for line in (run_dir / "log.jsonl").read_text().splitlines())
    agent, run = load_agent(run_dir / "checkpoints/best.pt")
    assert run["gamma"] == 0.99 and not agent.training
    own = {generate("simplest", seed).tiles_key for seed in range(8)}  # validation levels included
    assert run["trained_on"] == own == load_agent(run_dir / "checkpoints/latest.pt")[1]["trained_on"]
    assert "- trained or chosen on: none of these levels" in (run_dir / "report.md").read_text()

    with pytest.raises(CheckpointError, match="holds a run already"):
        main(small_args(run_dir))
    with pytest.raises(CheckpointError, match=r"gamma was 0\.99, now 0\.9; .*|.*gamma was 0\.99, now 0\.9"):
        parse_args(Args, ["--resume", str(run_dir), "--gamma", "0.9"])
    (run_dir / "checkpoints/latest.pt").unlink()
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"checkpoints/latest\.pt: is missing, and the run has trained"):
        main(parse_args(Args, ["--resume", str(run_dir)]))
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    for left in ("checkpoints/best.pt", "metrics.jsonl", "log.jsonl", "eval_results.json", "report.md"):
        (run_dir / left).unlink()
    main(parse_args(Args, ["--resume", str(run_dir)]))  # as if it had been killed before it trained
    assert "stopped before it trained, so it begins again at step 0" in (run_dir / "log.jsonl").read_text()
    again = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["global_step"] for line in again] == [line["global_step"] for line in lines]
    best = checkpoints.load(run_dir / "checkpoints/best.pt")
    checkpoints.save(run_dir / "checkpoints/latest.pt", best)
    with pytest.raises(CheckpointError, match=r"latest\.pt: does not fit this run \(KeyError"):
        main(parse_args(Args, ["--resume", str(run_dir)]))


def won_levels(results, won):
    """An evaluation's results in which the levels of these numbers are won."""
    for at, entry in enumerate(results["levels"]):
        entry["success_rate"] = float(at in won)
    results["overall"]["success_rate"] = len(won) / len(results["levels"])
    return results


def test_the_best_agent_is_the_latest_that_is_not_worse_on_the_same_levels(tmp_path, monkeypatch):
    """Of 30 levels 15, then the same less three (by chance: 1 of 8), then the same less ten (1 of 1,024)."""
    levels = [generate("simplest", seed) for seed in range(32)]
    monkeypatch.setattr(datasets, "load_split", lambda *_: (levels[:1], levels[1:31], levels[31:]))
    evaluate, wins = suite.evaluate, iter([{0, 1}, set(range(15)), set(range(12)), set(range(5))])

    def told(policy, suite_of, **options):
        results = evaluate(policy, suite_of, **options)
        return won_levels(results, next(wins)) if len(suite_of) == 30 else results

    monkeypatch.setattr(suite, "evaluate", told)
    run_dir = main(small_args(tmp_path / "run"))
    assert checkpoints.load(run_dir / "checkpoints/best.pt")["global_step"] == 1024
    assert checkpoints.load(run_dir / "checkpoints/latest.pt")["counters"]["most_won"] == [1.0] * 15 + [0.0] * 15
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["global_step"] for line in lines if line["kind"] == "eval"] == [0, 512, 1024, 1536]


def test_a_divergence_above_target_kl_ends_an_update(tmp_path, few_levels):
    """Within the epoch: after the first optimizer step the policies differ, so the second minibatch is the last."""
    steps = []
    for target_kl in (None, 1e-12):
        run_dir = main(small_args(tmp_path / f"kl{target_kl}", num_minibatches=8, target_kl=target_kl, eval_freq=0))
        optimizer = checkpoints.load(run_dir / "checkpoints/latest.pt")["optimizer"]
        steps.append(int(optimizer["state"][0]["step"]))
    assert steps == [6 * 8, 6 * 2]  # six iterations


def test_a_signal_during_an_evaluation_stops_it_and_loses_nothing(tmp_path, few_levels, monkeypatch):
    straight = main(small_args(tmp_path / "straight"))
    evaluate, calls = suite.evaluate, []

    def signalling(policy, levels, **options):
        calls.append(len(levels))
        if len(calls) == 2:  # the evaluation after 512 steps
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(policy, levels, **options)

    with monkeypatch.context() as patch:
        patch.setattr(suite, "evaluate", signalling)
        broken = main(small_args(tmp_path / "broken"))
    counters = checkpoints.load(broken / "checkpoints/latest.pt")["counters"]
    assert (counters["global_step"], counters["evaluated_at"], len(calls)) == (512, 0, 2)
    main(parse_args(Args, ["--resume", str(broken)]))
    assert decisive(broken) == decisive(straight)
    after = weights(broken)
    assert all(torch.equal(after[key], value) for key, value in weights(straight).items())


def test_evaluations_lie_at_equal_shares_of_the_run(tmp_path, few_levels, monkeypatch):
    """At the start, at thirds of the run and at its end, however large its budget; a resumed run goes on with them."""
    shares = {"evaluations": 3, "eval_freq": 0}
    straight = main(small_args(tmp_path / "straight", **shares))
    evaluated = [line["global_step"] for line in decisive(straight) if line["kind"] == "eval"]
    assert evaluated == [0, 512, 1024, 1536]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted_save_at(768))
        with pytest.raises(KeyboardInterrupt):
            main(small_args(tmp_path / "broken", **shares))
    main(parse_args(Args, ["--resume", str(tmp_path / "broken")]))
    assert decisive(tmp_path / "broken") == decisive(straight)


@pytest.mark.parametrize(("evaluations", "eval_freq", "expected"), EVALUATED)
def test_when_an_evaluation_is_due(evaluations, eval_freq, expected):
    counters, steps = checkpoints.Counters(), []
    while True:
        progress = counters.global_step / 1000
        if counters.evaluation_due(Args(evaluations=evaluations, eval_freq=eval_freq), progress):
            steps.append(counters.global_step)
            counters.evaluated_at, counters.evaluated_share = counters.global_step, progress
            assert not counters.evaluation_due(Args(evaluations=evaluations, eval_freq=eval_freq), progress)
        if progress >= 1:
            break
        counters.global_step += 70
    assert steps == expected


def test_a_finished_run_is_trained_on_with_a_longer_budget(tmp_path, few_levels, capsys):
    """Of 768 steps, then 1,536: schedules fall back to half, evaluations go on, and config.json knows of both."""
    sizes = {"total_timesteps": 768, "evaluations": 2, "eval_freq": 0}
    run_dir = main(small_args(tmp_path / "run", **sizes))
    before = weights(run_dir)
    results = (run_dir / "eval_results.json").read_text()
    too_few = r"--total-timesteps 700: the run has done 768 already, .* --pretrained-checkpoint .*/checkpoints/best\.pt"
    with pytest.raises(ArgumentError, match=too_few):
        main(parse_args(Args, ["--resume", str(run_dir), "--total-timesteps", "700"]))
    with pytest.raises(CheckpointError, match=r"gamma was 0\.99, now 0\.9$"):
        parse_args(Args, ["--resume", str(run_dir), "--total-timesteps", "1536", "--gamma", "0.9"])
    assert json.loads((run_dir / "config.json").read_text())["args"]["total_timesteps"] == 768
    assert all(torch.equal(weights(run_dir)[name], value) for name, value in before.items())

    capsys.readouterr()
    main(parse_args(Args, ["--resume", str(run_dir), "--total-timesteps", "1536"]))
    assert "total_timesteps was 768, is now 1536: 50% of the run is over" in capsys.readouterr().out
    assert checkpoints.load(run_dir / "checkpoints/latest.pt")["counters"]["global_step"] == 1536
    lines = decisive(run_dir)
    assert [line["global_step"] for line in lines if line["kind"] == "eval"] == [0, 512, 768, 1536]
    rates = [line["charts/learning_rate"] for line in lines if line["kind"] == "train"]
    assert rates == pytest.approx([1e-3, 1e-3 * 2 / 3, 1e-3 / 3, 1e-3 / 2, 1e-3 / 3, 1e-3 / 6])
    config = json.loads((run_dir / "config.json").read_text())
    assert config["args"]["total_timesteps"] == 1536
    (first,) = config["budgets"]
    assert (first["total_timesteps"], first["max_minutes"], first["ended_at_step"]) == (768, None, 768)
    assert (run_dir / "eval_results_of_step_768.json").read_text() == results
    assert json.loads((run_dir / "eval_results.json").read_text())["overall"]

    (run_dir / "source/ppo_mlp_baseline.py").write_text("another text")
    main(parse_args(Args, ["--resume", str(run_dir)]))  # nothing but the script changed: the same end again
    assert "ppo_mlp_baseline.py: another text than in" in (run_dir / "log.jsonl").read_text()
    assert (run_dir / "source/ppo_mlp_baseline.py").read_text() == "another text"
    assert decisive(run_dir) == lines and json.loads((run_dir / "config.json").read_text()) == config


def test_a_run_of_steps_goes_on_by_minutes_but_steps_do_not_extend_minutes(tmp_path, few_levels):
    run_dir = main(small_args(tmp_path / "run", total_timesteps=256, eval_freq=0))
    main(parse_args(Args, ["--resume", str(run_dir), "--max-minutes", "0.15"]))
    assert checkpoints.load(run_dir / "checkpoints/latest.pt")["counters"]["global_step"] > 256
    with pytest.raises(ArgumentError, match=r"--max-minutes 0\.01: the run has done 0\.\d+ already, expected more"):
        main(parse_args(Args, ["--resume", str(run_dir), "--max-minutes", "0.01"]))
    with pytest.raises(ArgumentError, match=r"--total-timesteps 512: this run ends by --max-minutes 0\.15"):
        main(parse_args(Args, ["--resume", str(run_dir), "--total-timesteps", "512"]))


def test_wall_clock_budget(tmp_path, few_levels):
    """--max-minutes ends the run, the last evaluation included, and anneals to the end; there are evaluations in it."""
    began = time.monotonic()
    main(small_args(tmp_path / "first", total_timesteps=256, evaluations=3, eval_freq=0))
    budget = max(0.15, 3 * (time.monotonic() - began) / 60)  # minutes, enough on a machine that is busy otherwise
    run_dir = main(small_args(tmp_path / "run", max_minutes=budget, evaluations=3, eval_freq=0))
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "test" and lines[-1]["minutes"] < 1.4 * budget
    rates = [line["charts/learning_rate"] for line in lines if line["kind"] == "train"]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.3 * rates[0]
    evaluated = [line["global_step"] for line in lines if line["kind"] == "eval"]
    assert len(evaluated) == len(set(evaluated)) == 4 and evaluated == sorted(evaluated)
    assert evaluated[0] == 0 and evaluated[-1] == lines[-1]["global_step"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_envs": 0}, "--num-envs 0"),
        ({"num_minibatches": 3}, "3 minibatches"),
        ({"update_epochs": -1}, "-epochs -1"),
        ({"label": "a/b"}, "--label 'a/b': expected at most 40 letters, digits"),
        ({"label": ".hidden"}, "--label '.hidden'"),
        ({"exp_name": "../up"}, "--exp-name '../up': expected at most 100 letters, digits"),
        ({"exp_name": "a\x1b[31m"}, "--exp-name"),
        ({"label": "x" * 41}, "--label 'xxx"),
        ({"label": "two\nlines"}, "--label"),
        ({"evaluations": -1}, "--evaluations -1"),
    ],
)
def test_bad_arguments(tmp_path, few_levels, changes, named):
    with pytest.raises(ArgumentError, match=named):
        main(small_args(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_compiling_the_network_without_a_compiler_is_refused_at_the_start(tmp_path, few_levels, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match=r"^--compile: needs a C\+\+ compiler, there is no g\+\+ \(install one or "):
        main(small_args(tmp_path / "run", compile=True))
    monkeypatch.setenv("CXX", "cxx-of-mine")
    with pytest.raises(ArgumentError, match="CXX=cxx-of-mine does not run"):
        main(small_args(tmp_path / "run", compile=True))
    assert not (tmp_path / "run").exists()
    (tmp_path / "cxx-of-mine").write_text("#!/bin/sh\n")
    (tmp_path / "cxx-of-mine").chmod(0o755)
    processes.check_compiler(on_gpu=False)
    with pytest.raises(ArgumentError, match=r"--compile: needs a C compiler, "):
        processes.check_compiler(on_gpu=True)


def test_pretrained_weights_are_where_a_run_begins(tmp_path, few_levels):
    """Warming up the critic leaves the policy as it was; a strong KL term keeps it near the pretrained one."""
    sizes = {"num_minibatches": 8, "eval_freq": 0, "anneal_lr": False}
    first = main(small_args(tmp_path / "first", **sizes))
    given = {"pretrained_checkpoint": str(first / "checkpoints/best.pt"), "seed": 2, **sizes}
    before = checkpoints.load(first / "checkpoints/best.pt")["agent"]
    after = weights(main(small_args(tmp_path / "warm", **given, value_warmup_steps=1536)))
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == {
        "critic.weight",
        "critic.bias",
    }
    moved = []
    for kl_coef in (0.0, 100.0):
        run_dir = main(small_args(tmp_path / f"kl{kl_coef}", **given, kl_coef=kl_coef))
        agents = [load_agent(place / "checkpoints/best.pt")[0] for place in (first, run_dir)]
        with torch.no_grad():
            one, two = (torch.log_softmax(agent.get_logits(random_observations(64)), 1) for agent in agents)
        moved.append((one.exp() * (one - two)).sum(1).mean())
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        assert (lines[-2]["losses/pretrained_kl"] > 0) == (kl_coef > 0)
    assert moved[1] < moved[0] / 3

    # The pretrained agent knows one of the two test levels: the runs know it too, and it does not count.
    known = {generate("simplest", seed).tiles_key for seed in (*range(8), 8, 99)}
    more = checkpoints.keys_of([generate("simplest", 8), generate("simplest", 99)])
    pretrained = first / "checkpoints/best.pt"
    checkpoints.save(pretrained, {**checkpoints.load(pretrained), "trained_on": more})
    run_dir = main(small_args(tmp_path / "knows", **given))
    results = json.loads((run_dir / "eval_results.json").read_text())
    assert load_agent(run_dir / "checkpoints/latest.pt")[1]["trained_on"] == known
    assert [entry.get("trained_on") for entry in results["levels"]] == [True, None]
    assert results["overall"]["levels"] == results["trained_on"]["levels"] == 1

    with pytest.raises(CheckpointError, match="no such checkpoint"):
        main(small_args(tmp_path / "none", **{**given, "pretrained_checkpoint": str(tmp_path / "none.pt")}))


def test_frozen_parts_of_a_wider_pretrained_agent_stay_in_a_run_that_is_resumed(tmp_path, few_levels, monkeypatch):
    first = main(small_args(tmp_path / "first", eval_freq=0, tiles_hidden=8))
    before = checkpoints.load(first / "checkpoints/best.pt")["agent"]
    given = {"pretrained_checkpoint": str(first / "checkpoints/best.pt"), "freeze": ("state", "ahead.0"), "seed": 2}
    straight = main(small_args(tmp_path / "straight", **given))
    after = weights(straight)
    kept = {name for name, weight in after.items() if weight.shape == before[name].shape}
    kept = {name for name in kept if torch.equal(after[name], before[name])}
    assert kept == {f"{name}.{part}" for name in ("state.0", "state.2", "ahead.0") for part in ("weight", "bias")}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted_save_at(768))
        with pytest.raises(KeyboardInterrupt):
            main(small_args(tmp_path / "broken", **given))
    main(parse_args(Args, ["--resume", str(tmp_path / "broken")]))
    assert all(torch.equal(weights(tmp_path / "broken")[key], value) for key, value in after.items())


def test_a_resumed_run_does_not_need_the_pretrained_file(tmp_path, few_levels, monkeypatch):
    """Neither its weights nor those of the policy that it is kept near."""
    first = main(small_args(tmp_path / "first", eval_freq=0))
    given = {"pretrained_checkpoint": str(first / "checkpoints/best.pt"), "kl_coef": 1.0, "value_warmup_steps": 512}
    straight = main(small_args(tmp_path / "straight", **given))
    save = checkpoints.save

    def interrupted_save(path, checkpoint):
        save(path, checkpoint)
        if path.name == "latest.pt" and checkpoint["counters"]["global_step"] == 768:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted_save)
        with pytest.raises(KeyboardInterrupt):
            main(small_args(tmp_path / "broken", **given))
    shutil.rmtree(first)
    main(parse_args(Args, ["--resume", str(tmp_path / "broken")]))
    after = weights(tmp_path / "broken")
    assert all(torch.equal(after[key], value) for key, value in weights(straight).items())


def test_training_levels_are_renewed(tmp_path, few_levels, monkeypatch):
    """At each multiple of renew_freq; a run that is resumed between two goes on with the levels it had."""
    shown = []

    def training_levels(own, held_out, mirror, generated, fraction, seed, drawn_share):
        shown.append(seed)
        return own[: 1 + seed % 5]

    monkeypatch.setattr(datasets, "training_levels", training_levels)
    straight = main(small_args(tmp_path / "straight", renew_freq=512, total_timesteps=1536))
    assert len(shown) == len(set(shown)) == 3
    save = checkpoints.save

    def interrupted_save(path, checkpoint):
        save(path, checkpoint)
        if path.name == "latest.pt" and checkpoint["counters"]["global_step"] == 768:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", interrupted_save)
        with pytest.raises(KeyboardInterrupt):
            main(small_args(tmp_path / "broken", renew_freq=512, total_timesteps=1536))
    main(parse_args(Args, ["--resume", str(tmp_path / "broken")]))
    assert shown[3:] == [*shown[:2], shown[1], shown[2]]
    assert all(torch.equal(weights(tmp_path / "broken")[key], value) for key, value in weights(straight).items())
