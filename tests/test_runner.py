"""The runner: plans, refusals, retries, stops, resumed experiments and full disks, with stand-ins.

The stand-in (tests/stand_in.py) makes the same files, locks and exit statuses as the training scripts in a moment.
"""

import fcntl
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
import types
from pathlib import Path

import pytest
from runner_calls import ARCHITECTURES, ROOT, carry_out, entries, stand_ins, steps, wait_for, words

from benchmark import train_and_compare
from benchmark.runner import arguments, cluster, launch, machine, plan, processes, runs
from benchmark.runner.runs import Run, Settings, Slot
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.training import s3


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    return stand_ins(tmp_path / "scripts", ARCHITECTURES, monkeypatch)


def weights(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.glob("*/*/*/checkpoints/best.pt")}


def start(argv):
    """The runner as a process of its own, forked: what the fixture `scripts` has set holds there too."""
    process = multiprocessing.get_context("fork").Process(target=train_and_compare.program, args=(argv,))
    process.start()
    return process


def ended(process):
    process.join(60)
    assert process.exitcode is not None, "it has not ended"
    return process.exitcode


def test_an_experiment_leaves_its_files(scripts, tmp_path, capsys):
    folder = tmp_path / "exp"
    assert carry_out(words(tmp_path, "--jobs", "2", "--", "--gamma", "0.9")) == 0
    found = entries(folder)
    assert list(found) == [(a, "no_pretrain", s) for s in (1, 2) for a in ARCHITECTURES]
    for (architecture, condition, seed), run in found.items():
        assert run["status"] == "done" and run["attempts"] == 1 and run["exit_status"] == 0
        assert run["run_dir"] == f"{architecture}/{condition}/seed_{seed}" and run["pretraining"] == "none"
        assert run["overall"]["success_rate"] == 0.5 + 0.01 * seed and run["minutes"] == pytest.approx(
            20 / 60, abs=1e-3
        )
        assert run["by_category"]["simplest"] == run["overall"]
        config = json.loads((folder / run["run_dir"] / "config.json").read_text())
        assert config["args"]["seed"] == seed and "--gamma" in config["unknown"]
        console = (folder / run["run_dir"] / "console.log").read_text()
        assert console.startswith("$ ") and "training  " in console  # no GPU is visible
    assert json.loads((folder / "config.json").read_text())["script_args"] == ["--gamma", "0.9"]
    assert "4 done of 4 runs" in capsys.readouterr().out
    assert "training starts" in (folder / "runner.log").read_text()


def test_cores_are_divided_and_runs_stay_on_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "find_gpus", list)
    args = arguments.Args(jobs=4)
    made = machine.slots(args)
    assert [slot.cpus for slot in made] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert {slot.threads for slot in made} == {2} and {slot.gpus for slot in made} == {None}
    (alone,) = machine.slots(arguments.Args())
    assert alone.threads == 8 and alone.cpus == ()


def test_gpus_are_divided(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nfor k in 0 1 2 3 4; do echo $k, GPU-$k$k, 81000; done\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    one_each = machine.slots(arguments.Args(num_gpus=3))
    assert [slot.gpus for slot in one_each] == [("0",), ("1",), ("2",)]
    pairs = machine.slots(arguments.Args(gpus_per_run=2))
    assert [slot.gpus for slot in pairs] == [("0", "1"), ("2", "3")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-1")
    assert [slot.gpus for slot in machine.slots(arguments.Args())] == [("4",), ("GPU-1",)]
    with pytest.raises(ArgumentError, match="--num-gpus 3: there are 2"):
        machine.slots(arguments.Args(num_gpus=3))
    settings = Settings(str(tmp_path), [], [], processes=2)
    line = runs.commands(settings, Run("gcn", "no_pretrain", 1), pairs[0])["ppo"]
    assert line[1:6] == ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    assert processes.environment(1, pairs[1].gpus)["CUDA_VISIBLE_DEVICES"] == "2,3"


REFUSALS = [
    (["--architectures", "gcn", "nothing"], "--architectures nothing: unknown"),
    (["--seeds", "1", "2", "1"], "--seeds: 1 is given twice"),
    (["--architectures", "gcn", "gcn"], "--architectures: gcn is given twice"),
    (["--test-pretraining", "--no-pretraining"], "contradict each other"),
    (["--test-pretraining"], "--test-pretraining: --replay-data-dir is missing"),
    (["--require-pretraining"], "--require-pretraining: --replay-data-dir is missing"),
    (["--bc-max-minutes", "-1"], "--bc-max-minutes -1.0: expected more than 0"),
    (["--max-minutes", "5"], "--total-timesteps and --max-minutes"),
    (["--train-dataset", "/nowhere/levels"], "--train-dataset: /nowhere/levels: no such"),
    (["--replay-data-dir", "/nowhere/replays"], "--replay-data-dir /nowhere/replays: no such"),
    (["--num-envs", "0"], "--num-envs 0: expected 1"),
    (["--retries", "-1"], "--retries -1: expected at least 0"),
    (["--jobs", "0"], "--jobs 0: expected 1 to 1024"),
    (["--jobs", "9" * 12], "--jobs 999999999999: expected 1 to 1024"),
    (["--nodes-per-run", "2"], "--nodes-per-run: expected --launcher slurm"),
    (["--s3-prefix", "x"], "--s3-bucket is missing"),
    (["--experiment-name", "../up"], "--experiment-name '../up'"),
    (["--gpus-per-run", "2"], "--gpus-per-run 2: there are 0 GPUs"),
    (["--slurm-signal-seconds", "59"], "--slurm-signal-seconds 59: expected at least 60"),
    (
        ["--launcher", "local-submitit", "--slurm-minutes", "2"],
        "--slurm-signal-seconds 120: expected less than a job's time, --slurm-minutes 2",
    ),
    (["--slurm-args", "qos"], "--slurm-args qos: expected NAME=VALUE"),
    (["--label", "a/b"], "--label 'a/b': expected at most 40 letters, digits, '_', '-' and inner dots"),
    (["--", "--label", "wide"], "-- --label: the runner sets this flag"),
    (["--", "--seed", "3"], "-- --seed: the runner sets this flag"),
    (["--", "--run_dir=x"], "-- --run_dir=x: the runner sets"),
    (["--", "--no-mixed-precision"], "-- --no-mixed-precision: the runner sets"),
]


@pytest.mark.parametrize(("more", "message"), REFUSALS, ids=[" ".join(more) for more, _ in REFUSALS])
def test_what_cannot_be_meant_is_refused_before_the_start(scripts, tmp_path, more, message):
    with pytest.raises(ArgumentError) as refusal:
        carry_out(words(tmp_path, *more))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "exp").exists()


def test_too_little_disk_or_memory_is_refused(scripts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "available_memory", lambda: 0.5)
    with pytest.raises(ArgumentError, match=r"0\.5 GB of memory are free, 1 runs at a time may take 2\.0"):
        carry_out(words(tmp_path))
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArgumentError, match=r"0\.0 GB are free, 4 runs may take 1\.2 GB"):
        carry_out(words(tmp_path))
    assert carry_out(words(tmp_path, "--no-checks", "--dry-run")) == 0
    assert "nothing was started" in capsys.readouterr().out


def test_dry_run_says_everything_and_writes_nothing(scripts, tmp_path, capsys):
    replays = tmp_path / "replays"
    replays.mkdir()
    line = words(tmp_path, "--replay-data-dir", str(replays), "--s3-bucket", "bucket", "--s3-prefix", "a/", "--dry-run")
    assert carry_out([*line, "--", "--learning-rate", "1e-3"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("  training: ") == 8 and shown.count("  pretraining: ") == 4
    assert f"--pretrained-checkpoint {tmp_path}/exp/gcn/with_pretrain/seed_2/bc/checkpoints/best.pt" in shown
    assert "--s3-bucket bucket --learning-rate 1e-3 --s3-prefix a/exp/gcn/with_pretrain" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replays", "scripts"]


def test_an_experiment_goes_on_with_the_flags_that_began_it(scripts, tmp_path, monkeypatch):
    """Relative paths too; and a resumed run has the threads of its new place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite").mkdir()
    line = words(tmp_path, "--test-dataset", "suite", seeds=[1])
    assert carry_out(line) == 0
    assert carry_out([*line, "--resume-from", "exp"]) == 0
    settings = Settings(str(tmp_path / "exp"), [], [])
    resumed = runs.commands(settings, Run("gcn", "no_pretrain", 1), Slot("", 3))["ppo"]
    assert resumed[2:] == ["--resume", str(tmp_path / "exp/gcn/no_pretrain/seed_1"), "--threads", "3"]


def test_an_experiment_is_not_started_twice_nor_mixed_with_another(scripts, tmp_path):
    assert carry_out(words(tmp_path, seeds=[1])) == 0
    with pytest.raises(CheckpointError, match=r"holds an experiment already, with this configuration \(--resume-from"):
        carry_out(words(tmp_path, seeds=[1]))
    with pytest.raises(CheckpointError, match=r"of another configuration: seeds was \(1,\), now \(1, 2\)"):
        carry_out(words(tmp_path))
    with pytest.raises(CheckpointError, match="total_timesteps was 20, now 30"):
        carry_out(["--resume-from", str(tmp_path / "exp"), "--total-timesteps", "30"])
    with pytest.raises(CheckpointError, match="no experiment"):
        carry_out(["--resume-from", str(tmp_path / "scripts")])
    (tmp_path / "exp/config.json").write_text('{"args": {"seeds": "many"}, "script_args": []}')
    with pytest.raises(CheckpointError, match="seeds is 'many', not of its type"):
        carry_out(["--resume-from", str(tmp_path / "exp")])


def test_labelled_configurations_lie_in_one_experiment(scripts, tmp_path, monkeypatch, capsys):
    """Each in a folder of its own, from which it goes on; the report is about all of them."""
    reported, folder = [], tmp_path / "exp"
    monkeypatch.setattr(train_and_compare, "make_report", lambda place, say: not reported.append(place))
    assert carry_out(words(tmp_path, seeds=[1])) == 0
    wide = words(tmp_path, "--report", "--label", "wide", "--", "--hidden", "512", seeds=[1])
    assert carry_out([*wide[:-3], "--dry-run", *wide[-3:]]) == 0
    assert not (folder / "label_wide").exists() and "--label wide" in capsys.readouterr().out
    assert carry_out(wide) == 0
    assert reported == [folder] and len(entries(folder)) == len(entries(folder / "label_wide")) == 2
    for name in ARCHITECTURES:
        plain, labelled = (
            json.loads((folder / place / name / "no_pretrain/seed_1/config.json").read_text())["unknown"]
            for place in ("", "label_wide")
        )
        assert "--label" not in plain
        assert {("--label", "wide"), ("--hidden", "512")} <= set(itertools.pairwise(labelled))
    with pytest.raises(CheckpointError, match=r"label_wide: holds an experiment already.*--resume-from .*/label_wide"):
        carry_out(wide)
    assert carry_out(["--resume-from", str(folder / "label_wide"), "--report"]) == 0
    assert reported == [folder, folder]
    args = arguments.Args(label="wide", s3_prefix="a/", s3_bucket="bucket")
    assert plan.s3_prefix_of(args, folder / "label_wide") == "a/exp/label_wide"
    assert arguments.home(args, tmp_path / "moved") == tmp_path / "moved"


def test_a_run_that_dies_is_resumed_to_the_same_weights(scripts, tmp_path):
    assert carry_out(words(tmp_path, name="whole")) == 0
    assert carry_out(words(tmp_path, "--", "--die-at", "13", name="killed")) == 0
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert len(whole) == 4 and whole == killed
    for run in entries(tmp_path / "killed").values():
        assert run["attempts"] == 2 and run["status"] == "done" and run["exit_status"] == 0
        assert steps(tmp_path / "killed" / run["run_dir"]) == [*range(1, 14), *range(11, 21)]  # since the last save


def test_a_run_that_fails_fails_alone(scripts, tmp_path, capsys):
    assert carry_out(words(tmp_path, "--", "--refuse-seed", "1")) == 1
    found = entries(tmp_path / "exp")
    for architecture in ARCHITECTURES:
        refused, fine = found[architecture, "no_pretrain", 1], found[architecture, "no_pretrain", 2]
        assert (refused["status"], refused["attempts"], refused["exit_status"]) == ("failed", 1, 2)
        assert refused["reason"] == "--refuse-seed: this seed is refused" and refused["overall"] is None
        assert fine["status"] == "done"
    assert "gcn/no_pretrain/seed_1: failed: --refuse-seed" in capsys.readouterr().out


def test_an_experiment_is_evaluated_in_full_once_asked(scripts, tmp_path, monkeypatch, capsys):
    """What lacks its gap and cost is evaluated, once, also of an experiment that is done; a failure is said."""
    evaluation = tmp_path / "evaluation.py"
    evaluation.write_text(
        "import json, sys\nfrom pathlib import Path\n"
        "assert sys.argv[1] == '--checkpoint' and sys.argv[3:] == ['--train-levels', '--cost', '--device', 'cpu']\n"
        "place = Path(sys.argv[2]).parents[1] / 'eval_results.json'\n"
        "if 'gcn' in str(place) and not Path(__file__).with_name('mended').exists():\n"
        "    sys.exit('error: no room')\n"
        "assert 'cost' not in (found := json.loads(place.read_text()))\n"
        "place.write_text(json.dumps(found | {'generalisation': {}, 'cost': {}}))\n"
    )
    monkeypatch.setattr(train_and_compare, "EVALUATION", (str(evaluation),))
    assert carry_out(words(tmp_path, seeds=[1])) == 0
    asked = ["--resume-from", str(tmp_path / "exp"), "--evaluate-fully"]
    assert carry_out(asked) == 1
    assert "gcn/no_pretrain/seed_1: error: no room" in capsys.readouterr().out
    (tmp_path / "mended").touch()
    assert carry_out(asked) == carry_out(asked) == 0
    for name in ARCHITECTURES:
        assert "cost" in json.loads((tmp_path / f"exp/{name}/no_pretrain/seed_1/eval_results.json").read_text())


def test_retries_end(scripts, tmp_path):
    assert carry_out(words(tmp_path, "--retries", "1", "--", "--die-always", seeds=[1])) == 1
    for run in entries(tmp_path / "exp").values():
        assert (run["status"], run["attempts"], run["exit_status"]) == ("failed", 2, -9)
        assert run["reason"] == "ended by SIGKILL"


def test_pretraining_is_done_once_and_handed_over(scripts, tmp_path):
    replays = tmp_path / "replays"
    replays.mkdir()
    (replays / "one").write_text("a replay")
    line = words(tmp_path, "--test-pretraining", "--replay-data-dir", str(replays), seeds=[1], architectures=["gcn"])
    assert carry_out(line) == 0
    found = entries(tmp_path / "exp")
    assert [run["pretraining"] for run in found.values()] == ["none", "bc/checkpoints/best.pt"]
    run_dir = tmp_path / "exp/gcn/with_pretrain/seed_1"
    args = json.loads((run_dir / "config.json").read_text())["args"]
    assert args["pretrained_checkpoint"] == str(run_dir / "bc/checkpoints/best.pt")
    assert steps(run_dir / "bc") == list(range(1, 21))
    assert len({path.read_text() for path in (tmp_path / "exp").glob("gcn/*/seed_1/checkpoints/best.pt")}) == 2


def test_the_minutes_of_a_pretraining_are_the_runs_own(tmp_path):
    bc = tmp_path / "gcn/with_pretrain/seed_1/bc"
    bc.mkdir(parents=True)
    flags = ["--max-minutes", "10", "--num-envs", "8"]
    settings = Settings(str(tmp_path), flags, [])
    slot = Slot("cores", 1)

    def minutes(condition, pretraining=runs.BC_CHECKPOINT):
        line = runs.commands(settings, Run("gcn", condition, 1, pretraining=pretraining), slot)["ppo"]
        return float(line[line.index("--max-minutes") + 1])

    assert minutes("with_pretrain") == 10  # nothing is known of it
    (bc / "metrics.jsonl").write_text('{"kind": "train", "minutes": 1.5}\n{"kind": "test", "minutes": 2.25}\n')
    assert minutes("with_pretrain") == 7.75 and flags[1] == "10"
    assert minutes("with_pretrain", "none, because of a reason") == 10 and minutes("no_pretrain", "none") == 10
    (bc / "metrics.jsonl").write_text('{"kind": "test", "minutes": 12}\n')
    assert minutes("with_pretrain") == runs.LEAST_MINUTES


def test_a_pretraining_that_was_stopped_goes_on(scripts, tmp_path, monkeypatch):
    replays, folder = tmp_path / "replays", tmp_path / "exp"
    replays.mkdir()
    (replays / "one").write_text("a replay")
    line = words(tmp_path, "--replay-data-dir", str(replays), seeds=[1], architectures=["gcn"])
    with monkeypatch.context() as patch:
        patch.setenv("STAND_IN_PAUSE", "0.1")
        process = start([*line, "--", "--pause", "0.01"])
        bc = folder / "gcn/with_pretrain/seed_1/bc"
        wait_for(lambda: (bc / "trace.txt").exists() and len(steps(bc)) > 2)
        process.terminate()
        assert ended(process) == 143
    run = entries(folder)["gcn", "with_pretrain", 1]
    assert (run["status"], run["reason"], run["attempts"]) == ("stopped", "in its pretraining", 0)
    assert carry_out(["--resume-from", str(folder)]) == 0
    assert steps(bc) == list(range(1, 21)) and steps(bc.parent) == list(range(1, 21))
    assert entries(folder)["gcn", "with_pretrain", 1]["pretraining"] == "bc/checkpoints/best.pt"


def test_nothing_of_a_run_is_left_behind(scripts, tmp_path):
    line = words(tmp_path, "--", "--leave-behind", seeds=[1], architectures=["gcn"])
    assert carry_out(line) == 0
    child = int((tmp_path / "exp/gcn/no_pretrain/seed_1/child").read_text())
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "(sleep) Z" in Path(f"/proc/{child}/stat").read_text())


def test_pretraining_gets_what_has_to_fit(tmp_path):
    replays = tmp_path / "replays"
    replays.mkdir()
    line = words(tmp_path, "--replay-data-dir", str(replays), "--bc-epochs", "3", "--mixed-precision")
    args, extra, folder = arguments.read([*line, "--", "--size", "full", "--gamma", "0.9"])
    arguments.check(args, extra)
    settings = plan.plan(args, extra, folder, False).settings
    assert settings.bc_flags[2:] == [
        *("--train-dataset", "builtin", "--test-dataset", "builtin", "--epochs", "3", "--mixed-precision"),
        *("--size", "full"),
    ]
    assert settings.flags[-4:] == ["--size", "full", "--gamma", "0.9"]
    settings = plan.plan(args, ["--size=full", "--holdout-fraction", "0.4"], folder, False).settings
    assert settings.bc_flags[-4:] == ["--size", "full", "--holdout-fraction", "0.4"]
    with pytest.raises(ArgumentError, match="-- --hidden: pretrained weights have the sizes of a --size only"):
        plan.plan(args, ["--hidden", "256"], folder, False)


def test_without_usable_replays_training_goes_on_without(scripts, tmp_path, capsys):
    replays = tmp_path / "replays"
    replays.mkdir()
    line = ["--replay-data-dir", str(replays)]
    assert carry_out(words(tmp_path, *line, seeds=[1], architectures=["gcn"])) == 0
    run = entries(tmp_path / "exp")["gcn", "with_pretrain", 1]
    assert run["status"] == "done" and run["pretraining"] == f"none, because {replays}: no usable replays"
    assert capsys.readouterr().out.count("trains WITHOUT pretraining") == 1
    # What has not begun tries its pretraining again.
    args, extra, folder = arguments.read(["--resume-from", str(tmp_path / "exp")])
    experiment = plan.plan(args, extra, folder, False)
    plan.restore(experiment)
    assert [run.pretraining for run in experiment.runs] == ["none", run["pretraining"]]
    (tmp_path / "exp/gcn/with_pretrain/seed_1/config.json").unlink()
    experiment = plan.plan(args, extra, folder, False)
    plan.restore(experiment)
    assert [run.pretraining for run in experiment.runs] == ["none", ""]
    line = words(tmp_path, *line, "--require-pretraining", name="strict", seeds=[1], architectures=["gcn"])
    assert carry_out(line) == 1
    run = entries(tmp_path / "strict")["gcn", "with_pretrain", 1]
    assert run["status"] == "failed" and run["reason"] == f"no pretraining: {replays}: no usable replays"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_experiment_goes_on(scripts, tmp_path, number, status):
    folder = tmp_path / "exp"
    process = start(words(tmp_path, "--jobs", "2", "--", "--pause", "0.1"))
    wait_for(lambda: all((folder / a / "no_pretrain/seed_1/trace.txt").exists() for a in ARCHITECTURES))
    os.kill(process.pid, number)
    assert ended(process) == status
    found = entries(folder)
    assert [found[a, "no_pretrain", 1]["status"] for a in ARCHITECTURES] == ["stopped", "stopped"]
    assert found["gcn", "no_pretrain", 2]["status"] == "queued"
    assert f"stopped by {number.name}" in (folder / "runner.log").read_text()
    saved = {a: len(steps(folder / a / "no_pretrain/seed_1")) for a in ARCHITECTURES}
    assert carry_out(["--resume-from", str(folder)]) == 0
    for (_, _, seed), run in entries(folder).items():
        assert run["status"] == "done" and run["attempts"] == (2 if seed == 1 else 1)
        assert steps(folder / run["run_dir"]) == list(range(1, 21))  # the stopped runs saved: no step is taken twice
    assert all(0 < count < 20 for count in saved.values())


def test_a_killed_runner_takes_its_runs_with_it_and_its_experiment_goes_on(scripts, tmp_path):
    folder = tmp_path / "exp"
    process = start(words(tmp_path, "--jobs", "2", "--", "--pause", "0.05"))
    wait_for(lambda: (folder / "gcn/no_pretrain/seed_2/trace.txt").exists())  # the first ones are done by then
    process.kill()
    assert ended(process) == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/seed_1/report.md")}
    assert len(done) >= 1
    assert carry_out(["--resume-from", str(folder)]) == 0  # waits for runs that are still saving
    for run in entries(folder).values():
        assert run["status"] == "done" and run["attempts"] <= 2
        assert steps(folder / run["run_dir"]) == list(range(1, 21))
    assert done == {path: path.stat().st_mtime_ns for path in done}
    assert carry_out(words(tmp_path, name="whole")) == 0
    assert weights(folder) == weights(tmp_path / "whole")
    assert carry_out(["--resume-from", str(folder)]) == 0  # nothing is left to do
    assert all(len(steps(folder / run["run_dir"])) == 20 for run in entries(folder).values())


def test_a_process_of_an_earlier_runner_is_waited_for(scripts, tmp_path, capsys):
    folder = tmp_path / "exp"
    line = words(tmp_path, "--", "--pause", "0.1", "--stubborn", seeds=[1], architectures=["gcn"])
    process = start(line)
    trace = folder / "gcn/no_pretrain/seed_1/trace.txt"
    wait_for(trace.exists)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    assert carry_out(["--resume-from", str(folder)]) == 0
    assert "waits for a process of an earlier runner" in capsys.readouterr().out
    assert steps(trace.parent) == list(range(1, 21))
    assert entries(folder)["gcn", "no_pretrain", 1]["status"] == "done"


def test_two_runners_do_not_share_an_experiment(scripts, tmp_path):
    assert carry_out(words(tmp_path, seeds=[1], architectures=["gcn"])) == 0
    with (tmp_path / "exp/runner.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another runner works in this experiment"):
            carry_out(["--resume-from", str(tmp_path / "exp")])


def test_remains_of_a_start_that_failed_are_cleared(scripts, tmp_path):
    run_dir = tmp_path / "exp/gcn/no_pretrain/seed_1"
    (run_dir / "tensorboard").mkdir(parents=True)
    (run_dir / ".config.json.1.tmp").write_text("{")
    (run_dir / "console.log").write_text("earlier\n")
    assert carry_out(words(tmp_path, seeds=[1], architectures=["gcn"])) == 0
    assert (run_dir / "console.log").read_text().startswith("earlier\n$ ")
    assert (
        not (run_dir / "tensorboard").exists()
        and entries(tmp_path / "exp")["gcn", "no_pretrain", 1]["status"] == "done"
    )


def test_manifests_are_merged(scripts, tmp_path):
    line = words(tmp_path, "--s3-bucket", "bucket", "--s3-prefix", "p", seeds=[1], architectures=["gcn"])
    args, extra, folder = arguments.read(line)
    experiment = plan.plan(args, extra, folder, False)
    settings, (run,) = experiment.settings, experiment.runs
    assert settings.s3_prefix == "p/exp"
    entry = {"key": "p/exp/gcn/no_pretrain/seed_1/report.md", "size": 1, "sha256": "0" * 64, "time": "now"}
    (folder / run.path).mkdir(parents=True)
    url = "s3://bucket/p/exp/gcn/no_pretrain/seed_1"
    s3.write_manifest(folder / run.path, url, None, {"report.md": entry})
    plan.merge_manifests(experiment)
    merged = json.loads((folder / "s3_manifest.json").read_text())
    assert merged["url"] == "s3://bucket/p/exp" and merged["files"] == {f"{run.path}/report.md": entry}


def test_the_table_shows_all_runs(tmp_path):
    from rich.console import Console

    from benchmark.runner.board import Board

    several = [Run("gcn", "no_pretrain", seed) for seed in range(1, 5)]
    settings = Settings(str(tmp_path), [], [])
    run_dir = tmp_path / several[0].path
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text('{"args": {"total_timesteps": 200, "max_minutes": null}}')
    row = {"kind": "train", "global_step": 50, "minutes": 2.0, "charts/SPS": 1234.0, "charts/success_rate": 0.5}
    (run_dir / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"kind": "tr')  # the last line is half-written
    several[0].status = "running"
    several[1].status, several[1].reason = "failed", "the disk is full"
    board = Board(settings, several, (tmp_path / "log").open("w"))
    console = Console(width=140, record=True, file=(tmp_path / "shown").open("w"))
    console.print(board.table())
    shown = console.export_text()
    assert "25% (50 steps)" in shown and "1,234 steps/s" in shown and "train 50.0%" in shown and "6.0 min left" in shown
    assert "the disk is full" in shown and "1 running, 1 failed, 2 queued of 4 runs" in shown
    assert runs.progress(settings, several[2]) == runs.Progress()  # nothing is there yet


def test_sweeps_can_be_planned(tmp_path, monkeypatch, capsys):
    """Each script passes its own and further arguments to the runner, which accepts them."""
    stand_in = tmp_path / "bin/python"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word" >> "$WORDS"; done\n')
    stand_in.chmod(0o755)
    replays = tmp_path / "replays"
    replays.mkdir()
    sweeps = sorted((ROOT / "benchmark/sweeps").glob("*.sh"))
    assert len(sweeps) >= 9
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "check", lambda args: None)  # of a Slurm that is not here
    for sweep in sweeps:
        listed = tmp_path / sweep.stem
        env = os.environ | {"PATH": f"{stand_in.parent}:{os.environ['PATH']}", "WORDS": str(listed)}
        given = {"pretraining": [str(replays)], "drawn_levels": [str(replays)], "single": ["gcn"]}
        given = (given | {"with_s3": ["bucket"], "campaign": [f"builtin,{replays}", str(replays)]}).get(sweep.stem, [])
        done = subprocess.run(["bash", str(sweep), *given, "--dry-run"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, (sweep.name, done.stderr)
        assert "npp_rl.make_levels" not in listed.read_text().splitlines()  # quick.sh says that it would
        lines = listed.read_text().split("-m\nbenchmark.train_and_compare\n")[1:]
        assert len(lines) == {"learning": 3, "drawn_levels": 2, "campaign": 2}.get(sweep.stem, 1)
        gpus = [(str(k), 80.0) for k in range(8)] if sweep.stem == "full_size_gpus" else []
        monkeypatch.setattr(machine, "find_gpus", lambda gpus=gpus: gpus)
        for line in lines:
            assert "--dry-run" in line.splitlines()
            assert carry_out(["--no-checks", *line.splitlines()]) == 0
            shown = capsys.readouterr().out
            assert "nothing was started" in shown
            assert (sweep.stem == "quick") == (f"{tmp_path}/experiments/quick_levels: is not there yet" in shown)
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize("sweep", ["single", "with_s3", "pretraining", "drawn_levels", "campaign"])
def test_a_sweep_says_what_it_lacks(sweep):
    done = subprocess.run(["bash", str(ROOT / f"benchmark/sweeps/{sweep}.sh")], capture_output=True, text=True)
    assert done.returncode != 0 and "missing" in done.stderr and done.stderr.count("\n") == 1


def test_compiling_ahead_ends_when_the_runner_has_to(tmp_path):
    settings = Settings(folder=str(tmp_path), flags=[], bc_flags=[])
    run = Run(architecture="mlp_baseline", seed=1, condition="no_pretrain")
    began = time.monotonic()
    launch.compile_ahead(settings, [run], types.SimpleNamespace(number=signal.SIGTERM), lambda text: None)
    assert time.monotonic() - began < 5
    launch.compile_ahead(settings, [], None, None)  # nothing is left to run


def test_a_full_disk_is_said_and_the_others_go_on(scripts, small_disk, tmp_path):
    """The run of seed 1 has room for its logs, not for what it saves."""
    run_dir = tmp_path / "exp/gcn/no_pretrain/seed_1"
    small_disk(run_dir, "64k")
    assert carry_out(words(tmp_path)) == 1
    found = entries(tmp_path / "exp")
    full = found.pop(("gcn", "no_pretrain", 1))
    assert full["status"] == "failed" and full["attempts"] == 1
    assert f"{run_dir}/state.json: No space left on device" in full["reason"]
    assert [run["status"] for run in found.values()] == ["done"] * 3


def test_the_experiments_own_disk_may_fill_up(scripts, small_disk, tmp_path, capsys):
    """all_results.json cannot be written any more; the runs that can go on do, and a later runner knows of them."""
    small_disk(tmp_path / "disk", "1m")
    real_changed = launch.judge

    def fill(settings, one, *more):
        filler = tmp_path / "disk/filler"
        if not filler.exists():
            with pytest.raises(OSError), filler.open("wb") as stream:
                while stream.write(bytes(4096)):
                    stream.flush()
        return real_changed(settings, one, *more)

    line = words(tmp_path / "disk", "--no-checks", seeds=[1, 2], architectures=["gcn"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "judge", fill)
        assert carry_out(line) == 1
    shown = capsys.readouterr().out
    assert "warning: " in shown and "No space left on device" in shown
    (tmp_path / "disk/filler").unlink()
    assert carry_out(["--resume-from", str(tmp_path / "disk/exp")]) == 0
    found = entries(tmp_path / "disk/exp")
    assert [run["status"] for run in found.values()] == ["done", "done"]
    assert steps(tmp_path / "disk/exp/gcn/no_pretrain/seed_1") == list(range(1, 21))


def test_what_is_no_file_does_not_hold_up_the_runner(tmp_path):
    run, settings = Run("gat", "no_pretrain", 1), Settings(str(tmp_path), [], [])
    folder = runs.directory(settings, run)
    folder.mkdir(parents=True)
    for name in ("eval_results.json", "metrics.jsonl", "config.json"):
        os.mkfifo(folder / name)
    os.mkfifo(tmp_path / "config.json")
    assert runs.results(folder) is None and runs.minutes_of(folder) == 0 and runs.progress(settings, run).step == 0
    with pytest.raises(CheckpointError, match="not an experiment's configuration"):
        arguments.read_config(tmp_path)
    assert cluster.read_note(tmp_path / "config.json") == {}
