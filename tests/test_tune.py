"""Tuning: spaces and their errors, studies over a stand-in for the scripts, killed and continued, and a real one."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats
from torch import nn

from benchmark import tune
from benchmark.tuning import spaces, standing, trials
from npp_rl import ARCHITECTURES, ppo_mlp_baseline
from npp_rl.commands import ArgumentError, UserError
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.make_levels import main as write_levels
from npp_rl.training.arguments import parse_args

ROOT = Path(__file__).parents[1]
SPACE = ("learning_rate=log:1e-4:1e-2", "hidden=choice:16,32", "anneal_lr=choice:true,false")

# Behaves like a script: ten validations that rise to a success that its parameters determine, then the test. `slow`
# waits in the middle, `behind` in all trials but the first; `fail` ends with an error where hidden is 16; `ignore`
# records another learning rate; `helpless` never wins.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

args = json.loads(os.environ["STAND_IN_ARGS"])
words = sys.argv[1:]
while words:
    name = words.pop(0).removeprefix("--").replace("-", "_")
    if name.startswith("no_") and name[3:] in args:
        args[name[3:]] = False
        continue
    if not words or words[0].startswith("--"):
        args[name] = True
        continue
    text = words.pop(0)
    try:
        args[name] = None if text == "None" else json.loads(text)
    except ValueError:
        args[name] = text
args["run_dir"] = sys.argv[sys.argv.index("--run-dir") + 1]
run = Path(args["run_dir"])
(run / "checkpoints").mkdir(parents=True)
(run / "checkpoints/latest.pt").touch()
(run / "pid").write_text(str(os.getpid()))

def stop(*_):
    (run / "saved").touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
mode = os.environ.get("STAND_IN_MODE", "")
if mode == "fail" and args["hidden"] == 16:
    sys.exit("error: --hidden 16: too narrow")
bad = mode == "slow" or (mode == "behind" and "trial_0000" not in args["run_dir"])
recorded = args | ({"learning_rate": 1e-3} if mode == "ignore" else {}) | {"tiles_hidden": 128, "features": 128}
about = {"parameters": 1000 * args["hidden"], "levels": {"train": 675, "validation": 225, "test": 270}}
(run / "config.json").write_text(json.dumps({"args": recorded, **about}))
best = 0.5 + 0.1 * (args["hidden"] == 32) + 0.1 * args["anneal_lr"] + 0.01 * args["seed"] + args["learning_rate"]
best *= mode != "helpless"
with (run / "metrics.jsonl").open("w") as log:
    for k in range(11):
        step = args["total_timesteps"] * k // 10
        success = 0.0 if bad else best * k / 10
        log.write(json.dumps({"kind": "eval", "global_step": step, "minutes": k, "eval/success_rate": success}) + "\\n")
        log.flush()
        if bad and k == 5:
            time.sleep(60)
    log.write(json.dumps({"kind": "test", "global_step": step, "minutes": 11, "test/success_rate": 0.125}) + "\\n")
"""
DRIVER = """
import sys
from pathlib import Path
from benchmark import tune
from benchmark.tuning import trials
trials.script_path = lambda arch: Path(sys.argv[1])
tune.program(sys.argv[2:])
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Path of the stand-in, which `tune` starts from here on."""
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    monkeypatch.setattr(trials, "script_path", lambda arch: path)
    monkeypatch.setattr(tune, "POLL", 0.02)
    defaults = dataclasses.asdict(ppo_mlp_baseline.Args())
    defaults["wandb_tags"] = []
    monkeypatch.setenv("STAND_IN_ARGS", json.dumps(defaults))
    return path


def arguments(folder, **changes):
    usual = {"arch": "mlp_baseline", "output_dir": str(folder), "total_timesteps": 1000, "space": SPACE, "trials": 6}
    return tune.Args(**usual | {"seeds": (1, 2), "prune": False, "size": "small"} | changes)


def study_of(folder):
    return json.loads((folder / "study.json").read_text())


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_spaces():
    script = importlib.import_module("npp_rl.ppo_full_hgt")
    words = ("learning-rate=log:1e-4:3e-3", "update_epochs=uniform:1:4", "gamma=uniform:0.9:0.99:0.01")
    words += ("cnn_channels=choice:8x16x32,16x32x64", "target_kl=choice:none,0.02", "hidden=log:8:64")
    space = spaces.read_space(words)
    assert spaces.distributions(space, script, "small") == {
        "learning_rate": FloatDistribution(1e-4, 3e-3, log=True),
        "update_epochs": IntDistribution(1, 4),
        "gamma": FloatDistribution(0.9, 0.99, step=0.01),
        "cnn_channels": CategoricalDistribution(["8x16x32", "16x32x64"]),
        "target_kl": CategoricalDistribution(["none", "0.02"]),
        "hidden": IntDistribution(8, 64, log=True),
    }
    values = spaces.values_of({"cnn_channels": "8x16x32", "target_kl": "none", "anneal_lr": "false", "hidden": 9})
    assert values == {"cnn_channels": (8, 16, 32), "target_kl": None, "anneal_lr": False, "hidden": 9}
    args = parse_args(script.Args, spaces.flags(values))
    assert {name: getattr(args, name) for name in values} == values


def test_space_files(tmp_path):
    expected = {"learning_rate": "log:1e-4:3e-3", "hidden": "choice:16,32", "cnn_channels": "choice:4x8x16,8x16x32"}
    (tmp_path / "space.json").write_text(
        json.dumps({"learning_rate": "log:1e-4:3e-3", "hidden": [16, 32], "cnn_channels": [[4, 8, 16], [8, 16, 32]]})
    )
    (tmp_path / "space.toml").write_text(
        'learning_rate = "log:1e-4:3e-3"\nhidden = [16, 32]\ncnn_channels = [[4, 8, 16], "8x16x32"]\n'
    )
    for name in ("space.json", "space.toml"):
        assert spaces.read_space((str(tmp_path / name),)) == expected
    for name, text in (("bad.toml", "hidden = "), ("bad.json", "[1, 2]"), ("number.json", '{"hidden": 3}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ArgumentError, match=rf"--space .*{name}: ") as caught:
            spaces.read_space((str(tmp_path / name),))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("learning_rate", "expected NAME=SPEC"),
        ("learning_speed=log:1:2", r"ppo_mlp_baseline has no such argument \(expected one of anneal_ent, anneal_lr, "),
        ("cnn_channels=choice:1x2x3", "has no such argument"),
        ("test_dataset=choice:a,b", "is not tuned"),
        ("seed=choice:1,2", "is not tuned"),
        ("hidden=16,32", "expected log:LOW:HIGH, uniform:LOW:HIGH"),
        ("hidden=choice:", "expected log:LOW:HIGH"),
        ("hidden=choice:16,16", "a choice is there twice"),
        ("hidden=choice:16,wide", r"hidden is 'wide', not of its type"),
        ("hidden=uniform:1.5:8", "expected whole numbers"),
        ("hidden=uniform:0:8", "--hidden 0: expected 1 to"),
        ("learning_rate=log:0:1", "above 0 for log"),
        ("learning_rate=log:1e-2:1e-3", "LOW below HIGH"),
        ("learning_rate=log:1e-2:many", "expected numbers"),
        ("learning_rate=uniform:1:99", "--learning-rate 99: expected"),
        ("gamma=uniform:0.9:0.95:0.1", "a STEP that fits"),
    ],
)
def test_bad_spaces(item, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        spaces.distributions(spaces.read_space((item,)), ppo_mlp_baseline, "small")
    assert str(caught.value).startswith(f"--space {item}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_default_spaces(architecture, monkeypatch):
    """The smallest and the largest layers can be built, with as many heads as there may be."""
    monkeypatch.setattr(nn.init, "orthogonal_", lambda weight, gain: weight)  # slow
    script = importlib.import_module(f"npp_rl.ppo_{architecture}")
    space = spaces.default_space(script, "small")
    assert set(script.SIZES["small"]) < set(space) and set(spaces.default_space(script, "full")) == set(space)
    chosen = spaces.distributions(space, script, "small")
    layers = {name for name in chosen if name in script.SIZES["small"] or name.startswith("graph")}
    sizes = []
    for end in (0, -1):
        corner = {name: space[name].partition(":")[2].replace(":", ",").split(",")[end] for name in layers}
        values = spaces.values_of(corner) | ({"graph_heads": 8} if "graph_heads" in layers else {})
        args = script.Args(size="small", **values)
        shapes = {name: OBSERVATIONS[name][0] for name in script.Agent.observations}
        if "player_frames" in shapes:
            shapes["player_frames"] = (args.frame_stack, *shapes["player_frames"][1:])
        sizes.append(sum(p.numel() for p in script.Agent(shapes, args).parameters()))
    assert sizes[0] < sizes[1]


def test_a_study_finds_the_best_and_writes_it(stand_in, tmp_path, capsys):
    folder = tmp_path / "study"
    found = tune.main(arguments(folder, trials=6, jobs=2), ["--gamma", "0.95"])
    study = study_of(folder)
    assert [trial["state"] for trial in study["trials"]] == ["complete"] * 6 and study["best"] == found["best"]
    for trial in study["trials"]:
        params, by_seed = trial["params"], []
        for seed in (1, 2):
            run = folder / f"trial_{trial['number']:04d}/seed_{seed}"
            recorded = json.loads((run / "config.json").read_text())["args"]
            assert {name: recorded[name] for name in params} == params and recorded["gamma"] == 0.95
            expected = {"seed": seed, "eval_freq": 200, "threads": max(1, os.cpu_count() // 2)}
            expected["validation_fraction"] = 0.25
            assert {name: recorded[name] for name in expected} == expected
            assert not (run / "checkpoints/latest.pt").exists()
            success = 0.5 + 0.1 * (params["hidden"] == 32) + 0.1 * params["anneal_lr"] + 0.01 * seed
            by_seed.append(0.9 * (success + params["learning_rate"]))  # of 0.8, 0.9 and 1.0 of it
        assert trial["success_by_seed"] == pytest.approx(by_seed) and trial["parameters"] == 1000 * params["hidden"]
        assert trial["value"] == pytest.approx(sum(by_seed) / 2)
        assert len(trial["intermediate"]) == 20 and trial["intermediate"]["5"] == pytest.approx(by_seed[0] / 0.9 * 0.4)
        assert trial["validation_levels"] == 225
    best = study["trials"][study["best"]]
    assert best["value"] == max(trial["value"] for trial in study["trials"]) == found["value"]
    tukey = stats.tukey_hsd(*[trial["success_by_seed"] for trial in study["trials"]]).pvalue[best["number"]]
    assert found["tied"] == [k for k in range(6) if tukey[k] > 0.05 and k != best["number"]]
    assert found["others"] == 5 and found["over"] == "seeds" and study["standing"] == found
    assert f"best: trial {best['number']}, {best['value']:.1%} (95%: " in capsys.readouterr().out
    assert set(study["importance"]) == set(best["params"])
    assert sum(study["importance"].values()) == pytest.approx(1)
    for name in ("history", "importance", "slices", "parallel"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"

    # The best configuration as a command: printed, it is the script's command line for three new seeds.
    done = subprocess.run(
        [folder / "best.sh", "--num-envs", "8"], env={**os.environ, "DRY_RUN": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    commands = [line.split() for line in done.stdout.splitlines()]
    assert [words[words.index("--seed") + 1] for words in commands] == ["3", "4", "5"]
    args = parse_args(ppo_mlp_baseline.Args, commands[0][commands[0].index("--seed") :])
    assert {name: getattr(args, name) for name in best["params"]} == best["params"]
    assert (args.gamma, args.num_envs, args.total_timesteps, args.size) == (0.95, 8, 1000, "small")
    kept = json.loads((folder / "best.json").read_text())
    assert kept["params"] == best["params"] and kept["value"] == best["value"] and kept["standing"] == found

    # With the same settings and more trials the study goes on; with others it is refused.
    tune.main(arguments(folder, trials=7), ["--gamma", "0.95"])
    assert len(study_of(folder)["trials"]) == 7
    other = ("learning_rate=log:1e-4:1e-2", "hidden=choice:16,64", "features=choice:8,16")
    with pytest.raises(ArgumentError, match="the study has other settings") as caught:
        tune.main(arguments(folder, trials=7, space=other, seeds=(1,)), ["--gamma", "0.95"])
    for words in ("hidden was 'choice:16,32', now 'choice:16,64'", "features was None", "seeds was [1, 2], now [1]"):
        assert words in str(caught.value)
    capsys.readouterr()


def study_with(*by_seed, levels=225):
    """Whole trials with these successes of their seeds."""
    return [
        {"number": k, "value": sum(own) / len(own), "success_by_seed": list(own), "validation_levels": levels}
        for k, own in enumerate(by_seed)
    ]


def test_how_sure_the_best_is():
    """Of three trials with two seeds each that lie 0.01 apart the deviation is 0.00707; Tukey's range is 5.91."""
    found = standing.standing(study_with((0.50, 0.51), (0.70, 0.71), (0.72, 0.73)))
    assert (found["best"], found["tied"], found["others"], found["over"]) == (2, [1], 2, "seeds")  # within 0.0295
    half = 3.1824 * 0.00707107 / 2**0.5  # Student's t of three degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((0.725 - half, 0.725 + half), abs=1e-4)
    words = "best: trial 2, 72.5% (95%: 70.9 to 74.1, over seeds); 1 of the other 2 whole trials cannot be told from it"
    assert standing.in_words(found) == words
    found = standing.standing(study_with((0.50, 0.51), (0.69, 0.70), (0.72, 0.73)))
    assert found["tied"] == [] and "each of the other 2 whole trials is worse beyond chance" in standing.in_words(found)
    found = standing.standing(study_with((0.4, 0.8), (0.7, 0.5), (0.9, 0.5)))
    assert found["tied"] == [0, 1] and standing.in_words(found).startswith("no clear best: trial 2, 70.0% ")


def test_one_seed_is_judged_by_its_levels():
    found = standing.standing(study_with((0.5,), (0.80,), (0.84,)))
    assert (found["best"], found["tied"], found["over"]) == (2, [1], "levels")
    assert (found["low"], found["high"]) == pytest.approx((0.7864, 0.8822), abs=1e-3)  # Wilson, 189 of 225
    assert standing.standing(study_with((0.5,), (0.84,), levels=None))["tied"] == [0]  # nothing is known of them
    assert standing.in_words(standing.standing(study_with((0.5,)))).endswith("over levels), the only whole trial")


def test_of_equal_trials_none_is_called_the_best():
    """Forty that win half of 33 levels, with two seeds: the highest value is luck, and is said to be."""
    rng = np.random.default_rng(0)
    told_apart = 0
    for _ in range(200):
        found = standing.standing(study_with(*rng.binomial(33, 0.5, (40, 2)) / 33, levels=33))
        told_apart += len(found["tied"]) < 39
    assert told_apart / 200 < 0.08
    assert standing.standing(study_with(*[(0.0, 0.0)] * 5)) is None
    found = standing.standing(study_with((0.2, 0.3), (0.3, 0.3), (0.3, 0.3), (0.2, 0.2)))
    assert found["tied"] == [0, 2, 3] and found["equal"] == [2]
    words = standing.in_words(found)
    assert words.startswith("no clear best: trials 1 and 2 have the highest success, 30.0% (95%: ")
    assert words.endswith("over seeds of each); 2 others cannot be told from them")


def test_nothing_learned_is_no_best_trial():
    """One whole trial among pruned ones, and trials that are no better than before training."""
    assert standing.standing(study_with((0.0, 0.0))) is None
    assert standing.why_none(study_with((0.0, 0.0))) == "the only whole trial has a success of 0.0%"
    same = study_with((0.25, 0.25), (0.25, 0.25))
    assert standing.standing(same) is None
    assert standing.why_none(same) == "all 2 whole trials have a success of 25.0%"
    idle = study_with((0.02, 0.04), (0.03, 0.05))
    assert standing.standing(idle)["best"] == 1
    idle = [trial | {"untrained": 0.05} for trial in idle]
    assert standing.standing(idle) is None
    words = "all 2 whole trials have a success of 4.0% or less, and untrained agents one of 5.0%"
    assert standing.why_none(idle) == words


def test_a_study_that_learned_nothing_has_no_best(stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STAND_IN_MODE", "helpless")
    folder = tmp_path / "study"
    with pytest.raises(SystemExit) as stop:
        tune.main(arguments(folder, trials=3), [])
    assert stop.value.code == 1 and study_of(folder)["best"] is None and not (folder / "best.sh").exists()
    said = capsys.readouterr()
    assert "error: " in said.err and "nothing was learned: all 3 whole trials have a success of 0.0%" in said.err
    assert "no best yet" in said.out and (folder / "history.png").exists()


def test_many_levels_judge_a_trial():
    """Unless told otherwise: a quarter of the training levels, or a tenth where a network is slow."""
    for architecture, share in (("mlp_baseline", 0.25), ("gcn", 0.1)):
        args = tune.Args(arch=architecture, max_minutes=5)
        settings = tune.prepare(args, [])[-1]
        assert (settings["validation_fraction"], settings["eval_freq"]) == (share, 0)
        assert trials.budget_of([]) == ["max_minutes", "total_timesteps", "eval_freq", "validation_fraction"]
    own = ["--validation-fraction", "0.5", "--eval-freq", "7"]
    settings = tune.prepare(tune.Args(arch="mlp_baseline", total_timesteps=100), own)[-1]
    assert (settings["validation_fraction"], settings["eval_freq"], settings["script_arguments"]) == (0.5, None, own)
    assert trials.budget_of(own) == ["max_minutes", "total_timesteps"]


def test_the_last_evaluations_of_a_run_are_averaged():
    assert trials.recent([(0.0, 0.1), (0.5, 0.2)]) == 0.2
    assert trials.recent([(0.7, 0.1), (0.8, 0.5), (0.9, 0.6), (1.0, 1.0)]) == pytest.approx(0.7)


def test_failures_are_recorded_and_the_study_goes_on(stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STAND_IN_MODE", "fail")
    tune.main(arguments(tmp_path / "a", trials=6, seeds=(1,)), [])
    trials = study_of(tmp_path / "a")["trials"]
    failed = [trial for trial in trials if trial["params"]["hidden"] == 16]
    assert len(trials) == 6 and 0 < len(failed) < 6
    for trial in trials:
        expected = ("fail", "seed 1: --hidden 16: too narrow") if trial in failed else ("complete", None)
        assert (trial["state"], trial["reason"]) == expected

    monkeypatch.setenv("STAND_IN_MODE", "ignore")
    with pytest.raises(SystemExit) as stop:
        tune.main(arguments(tmp_path / "b", trials=2, seeds=(1,)), [])
    assert stop.value.code == 1
    for trial in study_of(tmp_path / "b")["trials"]:
        assert trial["state"] == "fail" and not (tmp_path / "b/best.sh").exists()
        assert trial["reason"].endswith(
            f"config.json: learning_rate is 0.001, the trial's {trial['params']['learning_rate']!r}"
        )
    assert "no trial succeeded" in capsys.readouterr().err


def test_a_pruned_run_is_ended(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_MODE", "behind")
    folder = tmp_path / "study"
    tune.main(arguments(folder, trials=3, jobs=1, prune=True, prune_after=1), [])
    first, *pruned = study_of(folder)["trials"]
    assert first["state"] == "complete" and len(first["intermediate"]) == 20
    for trial in pruned:
        assert trial["state"] == "pruned" and list(trial["intermediate"]) == ["1", "2", "3"]
        run = folder / f"trial_{trial['number']:04d}/seed_1"
        assert (run / "saved").exists() and gone(int((run / "pid").read_text()))
        assert not (run.parent / "seed_2").exists()


def await_run(folder, known=()):
    """Process id of the run that starts under `folder`, once it has logged something."""
    deadline = time.monotonic() + 120
    while not (new := set(folder.glob("trial_*/seed_1/metrics.jsonl")) - set(known)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(new.pop().with_name("pid").read_text())


def test_a_tuner_that_is_stopped_or_killed_leaves_nothing_and_continues(stand_in, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "study"
    monkeypatch.setenv("STAND_IN_MODE", "slow")
    space = ("anneal_lr=choice:false", "hidden=choice:16,32")
    args = {"trials": 4, "seeds": (1,), "space": space}
    pids = []

    def interrupt():
        pids.append(await_run(folder))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    tune.main(arguments(folder, **args), [])
    thread.join()
    assert gone(pids[0]) and "stopped by SIGINT; the same command continues" in capsys.readouterr().out
    assert [trial["state"] for trial in study_of(folder)["trials"]] == ["restarted", "waiting"]

    words = ["--arch", "mlp_baseline", "--output-dir", str(folder), "--total-timesteps", "1000", "--trials", "4"]
    words += ["--seeds", "1", "--no-prune", "--size", "small", "--space", *space]
    known = list(folder.glob("trial_*/seed_1/metrics.jsonl"))
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(stand_in), *words], cwd=ROOT)
    pid = await_run(folder, known)
    with pytest.raises(ArgumentError, match="another process works in this study"):
        tune.main(arguments(folder, **args), [])
    process.kill()
    process.wait()
    if sys.platform == "linux":  # there a run is told when its tuner dies
        deadline = time.monotonic() + 30
        while not gone(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert gone(pid)

    monkeypatch.setenv("STAND_IN_MODE", "")
    tune.main(arguments(folder, **args), [])
    trials = study_of(folder)["trials"]
    assert [trial["state"] for trial in trials] == ["restarted", "restarted", *["complete"] * 4]
    assert trials[0]["params"] == trials[1]["params"] == trials[2]["params"]
    assert trials[0]["reason"] == "ended with its tuner; trial 1 is the same"


def test_several_machines_share_a_study(stand_in, tmp_path):
    shared = {"storage": f"sqlite:///{tmp_path}/shared.db", "study_name": "shared", "seeds": (1,)}
    tune.main(arguments(tmp_path / "a", trials=2, **shared), [])
    elsewhere = optuna.load_study(study_name="shared", storage=shared["storage"]).ask()
    elsewhere.set_user_attr("place", "another:/machine")
    tune.main(arguments(tmp_path / "b", trials=4, **shared), [])
    trials = study_of(tmp_path / "b")["trials"]
    assert [trial["state"] for trial in trials] == ["complete", "complete", "running", "complete"]
    assert [trial["place"].rpartition("/")[2] for trial in trials] == ["a", "a", "machine", "b"]
    assert not (tmp_path / "a/study.db").exists() and (tmp_path / "b/trial_0003/seed_1/config.json").exists()
    with pytest.raises(ArgumentError, match=r"^--storage postgres://\.\.\.@host/db: ") as caught:
        tune.main(arguments(tmp_path / "c", storage="postgres://me:secret@host/db"), [])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: expected either --max-minutes or --total-timesteps"),
        (["--max-minutes", "1", "--", "--seed", "3"], "error: -- --seed 3: --seed is set by the tuner"),
        (["--max-minutes", "1", "--", "--colour", "3"], "error: "),
        (["--max-minutes", "1", "--seeds", "1", "1"], "error: --seeds 1 1: expected different seeds"),
        (["--max-minutes", "1", "--trials", "0"], "error: --trials 0: expected 1 or more"),
        (["--max-minutes", "1", "--validation-fraction", "0"], "error: --validation-fraction 0: expected more"),
        (["--max-minutes", "1", "--storage", "nowhere://"], "error: --storage nowhere://: "),
    ],
)
def test_bad_arguments_are_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        tune.program(["--arch", "mlp_baseline", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(message) and error.count("\n") == 1
    assert not list(tmp_path.rglob("study.json"))


def test_one_whole_trial_that_won_nothing_writes_no_best(stand_in, tmp_path, monkeypatch, capsys):
    """The other trials were pruned, so there is nothing to compare the one whole trial with."""
    monkeypatch.setenv("STAND_IN_MODE", "helpless")
    folder = tmp_path / "study"
    with pytest.raises(SystemExit) as stop:
        tune.main(arguments(folder, trials=1, seeds=(1,)), [])
    assert stop.value.code == 1 and not (folder / "best.sh").exists() and not (folder / "best.json").exists()
    assert "nothing was learned: the only whole trial has a success of 0.0%" in capsys.readouterr().err
    assert study_of(folder)["trials"][0]["untrained"] == 0.0


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_space_from_no_text_file_is_one_line(content, tmp_path):
    place = tmp_path / "space.toml"
    os.mkfifo(place) if content is None else place.write_bytes(content)
    with pytest.raises(UserError, match="expected"):
        spaces.read_space((str(place),))


@pytest.mark.slow
def test_a_real_study(tmp_path):
    """Two trials of the real script, as the command."""
    levels = tmp_path / "levels"
    write_levels(["--out", str(levels), "--categories", "simplest", "--split", "train", "--count", "12"])
    words = ["--arch", "mlp_baseline", "--output-dir", str(tmp_path / "study"), "--trials", "2", "--seeds", "1"]
    words += ["--jobs", "2", "--total-timesteps", "512", "--space", "learning_rate=log:1e-4:1e-2", "hidden=choice:8,16"]
    words += ["--", "--train-dataset", str(levels), "--test-dataset", str(levels), "--num-envs", "16"]
    words += ["--num-steps", "16", "--num-minibatches", "2", "--validation-fraction", "0.3"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.tune", *words], capture_output=True, text=True, cwd=ROOT, timeout=400
    )
    assert done.returncode == 0 or "nothing was learned" in done.stderr, done.stderr
    whole = study_of(tmp_path / "study")["trials"]
    assert [trial["state"] for trial in whole] == ["complete"] * 2
    for trial in whole:
        run = tmp_path / f"study/trial_{trial['number']:04d}/seed_1"
        config = json.loads((run / "config.json").read_text())
        assert {name: config["args"][name] for name in trial["params"]} == trial["params"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").open()]
        evaluations = [row for row in rows if row["kind"] == "eval"]
        last = [row["eval/success_rate"] for row in evaluations if row["global_step"] >= 0.8 * 512]
        assert trial["value"] == pytest.approx(sum(last) / len(last)) and config["args"]["validation_fraction"] == 0.3
        assert trial["validation_levels"] == config["levels"]["validation"]
        assert trial["parameters"] == config["parameters"] and len(trial["intermediate"]) == 10
