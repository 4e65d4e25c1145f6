"""The runner with the training scripts themselves: kills, full disks, torchrun, a server of S3's protocol."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from runner_calls import ROOT, entries, wait_for, words

from benchmark.runner import launch
from benchmark.runner.runs import Run, Settings, Slot, directory, results
from npp_rl import make_levels
from npp_rl.training import checkpoints, s3

SMALL = ["--num-steps", "32", "--num-minibatches", "4", "--validation-fraction", "0", "--fresh-levels", "0"]


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels") / "set"
    make_levels.main(make_levels.Args(out=folder, categories=("simplest",), split="train", count=12))
    return ["--train-dataset", str(folder), "--test-dataset", str(folder), "--num-envs", "16", "--evaluations", "0"]


def real(tmp_path, levels, *more, name, seeds=(1,), architectures=("mlp_baseline",), extra=()):
    line = words(tmp_path, *levels, *more, name=name, seeds=seeds, architectures=architectures)
    line += ["--save-freq", "512", "--total-timesteps", "8192"]
    return [*line, "--threads", "1", "--", *SMALL, *extra]


def agent(run_dir):
    return checkpoints.load(run_dir / "checkpoints/latest.pt")["agent"]


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def runner(argv, **more):
    line = [sys.executable, "-m", "benchmark.train_and_compare", *argv]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def processes(run_dir):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.exists() and str(run_dir).encode() in path.read_bytes() and b"npp_rl/ppo_" in path.read_bytes():
            found.append(int(path.parent.name))
    return found


def test_a_real_run_killed_midway_is_retried_and_ends_the_same(levels, tmp_path):
    """Beside it the same training, undisturbed and without a runner."""
    killed = runner(real(tmp_path, levels, name="exp"))
    run_dir = tmp_path / "exp/mlp_baseline/no_pretrain/seed_1"
    flags = [*levels, "--save-freq", "512", "--total-timesteps", "8192", "--threads", "1", "--seed", "1", *SMALL]
    line = [sys.executable, str(ROOT / "npp_rl/ppo_mlp_baseline.py"), *flags, "--run-dir", str(tmp_path / "whole")]
    whole = subprocess.Popen(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    wait_for((run_dir / "checkpoints/latest.pt").exists, 400)
    (pid,) = processes(run_dir)
    os.kill(pid, signal.SIGKILL)
    out, _ = killed.communicate(timeout=400)
    assert "1 done of 1 runs" in out, out
    assert whole.wait(timeout=400) == 0
    run = entries(tmp_path / "exp")["mlp_baseline", "no_pretrain", 1]
    assert (run["status"], run["attempts"]) == ("done", 2)
    assert run["overall"] == results(tmp_path / "whole")["overall"]
    assert same(agent(run_dir), agent(tmp_path / "whole"))


@pytest.mark.slow
def test_what_runs_need_is_compiled_before_the_first_one_starts(levels, tmp_path, monkeypatch):
    """With an empty cache: no run adds a file to it."""
    cache = tmp_path / "numba"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    said = []
    settings = Settings(folder=str(tmp_path), flags=[], bc_flags=[])
    run = Run(architecture="mlp_baseline", seed=1, condition="no_pretrain")
    launch.compile_ahead(settings, [run], types.SimpleNamespace(number=0), said.append)
    assert len(said) == 1, said
    compiled = {path.name for path in cache.rglob("*.nbc")}
    assert compiled
    argv = real(tmp_path, levels, name="exp")
    argv[argv.index("8192")] = "1024"
    out, _ = (process := runner(argv)).communicate(timeout=400)
    assert process.returncode == 0, out
    assert {path.name for path in cache.rglob("*.nbc")} == compiled


@pytest.mark.slow
def test_a_killed_runner_of_real_runs_loses_nothing(levels, tmp_path):
    out, _ = (whole := runner(real(tmp_path, levels, name="whole", seeds=[1, 2]))).communicate(timeout=600)
    assert "2 done of 2 runs" in out, out
    assert whole.returncode == 0
    process = runner(real(tmp_path, levels, name="killed", seeds=[1, 2]))
    folder = tmp_path / "killed"
    wait_for((folder / "mlp_baseline/no_pretrain/seed_2/checkpoints/latest.pt").exists, 400)
    report = folder / "mlp_baseline/no_pretrain/seed_1/report.md"
    written = report.stat().st_mtime_ns
    process.kill()
    process.communicate()
    again = runner(["--resume-from", str(folder)])
    out, _ = again.communicate(timeout=600)
    assert again.returncode == 0, out
    assert report.stat().st_mtime_ns == written
    for seed in (1, 2):
        place = f"mlp_baseline/no_pretrain/seed_{seed}"
        assert same(agent(folder / place), agent(tmp_path / "whole" / place))
        mine, other = (entries(tmp_path / name)["mlp_baseline", "no_pretrain", seed] for name in ("killed", "whole"))
        assert mine["overall"] == other["overall"] and mine["attempts"] == seed


@pytest.mark.slow
def test_a_flag_that_one_script_does_not_know_fails_it_alone(levels, tmp_path):
    argv = real(tmp_path, levels, name="exp", architectures=["mlp_baseline", "mlp_cnn"], extra=["--frame-stack", "2"])
    argv[argv.index("8192")] = "1024"
    out, _ = (process := runner(argv)).communicate(timeout=600)
    assert process.returncode == 1, out
    found = entries(tmp_path / "exp")
    refused = found["mlp_baseline", "no_pretrain", 1]
    assert refused["status"] == "failed" and "--frame-stack" in refused["reason"] and refused["attempts"] == 1
    assert found["mlp_cnn", "no_pretrain", 1]["status"] == "done"


@pytest.mark.slow
def test_a_full_disk_of_a_real_run_is_said_and_the_others_go_on(levels, small_disk, tmp_path):
    """The run of seed 1 has room for its logs, not for its checkpoint."""
    folder = tmp_path / "exp"
    small_disk(folder / "mlp_baseline/no_pretrain/seed_1", "1m")
    argv = real(tmp_path, levels, "--jobs", str(min(2, os.cpu_count())), name="exp", seeds=[1, 2])
    argv[argv.index("8192")] = "1024"
    out, _ = (process := runner(argv)).communicate(timeout=400)
    assert process.returncode == 1, out
    full, fine = (entries(folder)["mlp_baseline", "no_pretrain", seed] for seed in (1, 2))
    assert full["status"] == "failed" and "No space left on device" in full["reason"] and full["attempts"] == 1
    assert "checkpoints" in full["reason"]
    assert fine["status"] == "done" and fine["overall"]["episodes"] > 0


@pytest.mark.slow
def test_two_processes_of_a_run_stop_and_resume_and_die_together(levels, tmp_path):
    """Under torchrun: asked to stop they save; of a torchrun that is killed nothing is left; the end is the same."""

    def train(name, stop, tick=lambda started: None):
        flags = [*levels, *SMALL, "--save-freq", "512", "--total-timesteps", "8192", "--no-cuda"]
        settings = Settings(str(tmp_path / name), flags, [], processes=2)
        run, started = Run("mlp_baseline", "no_pretrain", 1), []
        slot = Slot("here", 1)
        launch.work(settings, [run], [slot], stop, print, lambda: None, lambda: tick(started), started)
        return run, directory(settings, run)

    class Stop:
        number = 0

    stop, saved = Stop(), tmp_path / "exp/mlp_baseline/no_pretrain/seed_1/checkpoints/latest.pt"

    def stop_when_saved(started):
        stop.number = signal.SIGTERM if saved.exists() else 0

    run, run_dir = train("exp", stop, stop_when_saved)
    assert run.status == "stopped" and "stopped by SIGTERM" in run.reason and not processes(run_dir)
    counted = checkpoints.load(saved)["counters"]["global_step"]
    assert 512 <= counted < 8192

    killed = []

    def kill_torchrun(started):
        if not killed and saved.stat().st_mtime_ns > at and started:
            killed.append(started[0].process.pid)
            os.kill(killed[0], signal.SIGKILL)

    at = saved.stat().st_mtime_ns
    run, _ = train("exp", Stop(), kill_torchrun)
    assert killed and (run.status, run.attempts) == ("done", 2) and not processes(run_dir)
    run, whole = train("whole", Stop())
    assert run.status == "done" and same(agent(run_dir), agent(whole))


@pytest.mark.slow
def test_an_experiment_is_kept_on_s3(levels, tmp_path, monkeypatch):
    """Against moto: the merged manifest tells the truth about all objects."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        client = s3.connect(endpoint)
        client.create_bucket(Bucket="bucket")
        more = ["--s3-bucket", "bucket", "--s3-prefix", "p", "--s3-endpoint-url", endpoint]
        argv = real(tmp_path, levels, *more, name="exp", seeds=[1, 2])
        argv[argv.index("8192")] = "1024"
        out, _ = (process := runner(argv)).communicate(timeout=600)
        assert process.returncode == 0, out
        objects = s3.list_objects(client, "bucket", "p/exp")
        manifest = json.loads((tmp_path / "exp/s3_manifest.json").read_text())
        assert {entry["key"]: entry["size"] for entry in manifest["files"].values()} == objects
        for name in ("all_results.json", "config.json", "mlp_baseline/no_pretrain/seed_2/checkpoints/best.pt"):
            assert manifest["files"][name]["key"] == f"p/exp/{name}"
    finally:
        server.stop()
