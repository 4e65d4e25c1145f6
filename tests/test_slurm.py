"""Runs as jobs: with submitit's local executor, and on a real Slurm of two nodes that the test starts on this machine.

The Slurm tests need the Debian packages slurm-wlm and munge, root's rights, and `-m slow`.
"""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runner_calls import ROOT, carry_out, stand_ins, steps, wait_for

from benchmark import train_and_compare
from benchmark.runner import arguments, cluster, processes, runs
from benchmark.runner.runs import Run, Settings, Slot
from npp_rl import make_levels
from npp_rl.commands import ArgumentError
from npp_rl.training import checkpoints


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the jobs


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    return stand_ins(tmp_path / "scripts", ("gcn", "gat"), monkeypatch)


def words(tmp_path, launcher, *more, architectures=("gcn",), seeds=(1, 2), name="exp"):
    line = ["--experiment-name", name, "--output-dir", str(tmp_path), "--architectures", *architectures]
    line += [
        "--seeds",
        *map(str, seeds),
        "--total-timesteps",
        "20",
        "--no-checks",
        "--no-report",
        "--launcher",
        launcher,
    ]
    return [*line, "--num-gpus", "0", "--slurm-cpus", "1", "--slurm-mem-gb", "1", "--slurm-minutes", "60", *more]


def entries(folder):
    content = json.loads((folder / "all_results.json").read_text())
    return {(run["architecture"], run["seed"]): run for run in content["runs"]}


def begun(run_dir, count=1):
    return lambda: (run_dir / "trace.txt").exists() and len(steps(run_dir)) >= count


def jobs_fail_alone(tmp_path, launcher):
    """One of two runs is refused, the other dies once."""
    assert carry_out(words(tmp_path, launcher, "--", "--refuse-seed", "1", "--die-at", "7")) == 1
    found = entries(tmp_path / "exp")
    assert (found["gcn", 1]["status"], found["gcn", 1]["exit_status"]) == ("failed", 2)
    assert found["gcn", 1]["reason"] == "--refuse-seed: this seed is refused"
    assert (found["gcn", 2]["status"], found["gcn", 2]["attempts"]) == ("done", 2)
    assert found["gcn", 2]["overall"]["success_rate"] == 0.52
    assert steps(tmp_path / "exp/gcn/no_pretrain/seed_2") == [*range(1, 8), *range(6, 21)]


def job_is_requeued(tmp_path, launcher, interrupt, *more):
    """A job is told of its end midway, goes back into the queue, and its run resumes; the run's directory."""
    run_dir = tmp_path / "exp/gcn/no_pretrain/seed_1"
    line = words(tmp_path, launcher, "--", "--pause", "0.2", *more, seeds=[1])
    process = multiprocessing.get_context("fork").Process(target=train_and_compare.program, args=(line,))
    process.start()
    wait_for(begun(run_dir, 3), 120)
    interrupt(json.loads((tmp_path / "exp/slurm/gcn__no_pretrain__seed_1.json").read_text())["job"])
    process.join(120)
    assert process.exitcode == 0
    assert entries(tmp_path / "exp")["gcn", 1]["status"] == "done"
    assert f"--resume {run_dir}" in (run_dir / "console.log").read_text()
    return run_dir


def lost_nothing(run_dir):
    return steps(run_dir) == list(range(1, 21)) and "stopped at step" in (run_dir / "console.log").read_text()


def warn_local_job(number):
    (task,) = processes.children(int(number))
    os.kill(task, signal.SIGUSR2)


def test_jobs_of_the_local_executor_fail_alone(scripts, tmp_path):
    jobs_fail_alone(tmp_path, "local-submitit")


def test_a_job_of_the_local_executor_is_requeued(scripts, tmp_path):
    assert lost_nothing(job_is_requeued(tmp_path, "local-submitit", warn_local_job))


def test_a_run_that_does_not_stop_is_killed_before_its_job_is_over(scripts, tmp_path, monkeypatch):
    """The warning leaves it a second: it is killed then, and resumes from its last save in the job put back."""
    monkeypatch.setattr(cluster, "REQUEUE_SECONDS", 119)
    run_dir = job_is_requeued(tmp_path, "local-submitit", warn_local_job, "--stubborn")
    taken = steps(run_dir)
    assert taken[-1] == 20 and len(taken) > 20 and "stopped at step" not in (run_dir / "console.log").read_text()
    killed = next(k for k in range(1, len(taken)) if taken[k] <= taken[k - 1])
    assert taken == [*range(1, killed + 1), *range(killed // 5 * 5 + 1, 21)] and killed < 15
    (log,) = (tmp_path / "exp/slurm").glob("*_log.out")
    assert "gcn/no_pretrain/seed_1: has not stopped within 1 s and is killed" in log.read_text()


def test_a_run_has_stopped_before_its_job_is_over(tmp_path):
    args = arguments.Args(experiment_name="exp", launcher="local-submitit", slurm_signal_seconds=200)
    assert cluster.grace(args) == 200 - arguments.REQUEUE_SECONDS
    assert cluster.grace(arguments.Args(slurm_signal_seconds=arguments.LEAST_WARNING)) >= 30
    assert cluster.executor(args, tmp_path).parameters["signal_delay_s"] == 200


def test_slurm_is_asked_for_what_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    args = arguments.Args(experiment_name="exp", launcher="slurm", gpus_per_run=4, nodes_per_run=2)
    args.slurm_partition, args.slurm_account, args.slurm_args = "big", "us", ("qos=high",)
    made = cluster.executor(args, tmp_path)._executor
    text = made._make_submission_file_text("command", "1")
    for flag in ("partition=big", "account=us", "qos=high", "gpus-per-node=4", "nodes=2", "ntasks-per-node=1"):
        assert f"#SBATCH --{flag}\n" in text
    for flag in ("requeue", "mem=32768M", "time=1440", "cpus-per-task=8", "signal=USR2@120"):
        assert f"#SBATCH --{flag}\n" in text
    assert "--cpus-per-task=8" in text.splitlines()[-1]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match="squeue does not answer here"):
        cluster.check(args)


def test_machines_of_a_run_meet_where_the_first_one_says(tmp_path):
    place = tmp_path / "run.1.0.master"
    with pytest.raises(TimeoutError, match=r"run\.1\.0\.master"):
        cluster.meeting_place(place, 1, seconds=0.1)
    first = cluster.meeting_place(place, 0)
    assert first == cluster.meeting_place(place, 1) and first.startswith(socket.gethostname() + ":")
    settings = Settings(str(tmp_path), [], [], processes=4, nodes=2)
    slot = Slot("", 1, node=1, master=first)
    line = " ".join(runs.commands(settings, Run("gcn", "no_pretrain", 1), slot)["ppo"])
    assert f"--nproc-per-node 4 --nnodes 2 --node-rank 1 --master-addr {socket.gethostname()} --master-port" in line


CONFIGURATION = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool_%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd_%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm of two nodes, both this machine, on ports of its own; SLURM_CONF leads to it."""
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"no {program} (Debian packages slurm-wlm and munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root's rights")
    place = tmp_path_factory.mktemp("slurm")
    sockets = [socket.socket() for _ in range(3)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    for name in ("munge", "state"):
        (place / name).mkdir()
    (place / "munge/key").write_bytes(os.urandom(128))
    (place / "munge/key").chmod(0o400)
    (place / "slurm.conf").write_text(CONFIGURATION.format(host=socket.gethostname(), place=place, ports=ports))
    env = os.environ | {"SLURM_CONF": str(place / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    files = {"key": "key", "socket": "socket", "pid": "pid-file", "log": "log-file", "seed": "seed-file"}
    munge = ["munged", "--foreground", "--force", *(f"--{flag}={place}/munge/{name}" for name, flag in files.items())]
    daemons = []
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", env["SLURM_CONF"])

    def sinfo():
        words = ["sinfo", "--noheader", "--format=%T %D"]
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60).stdout.split()

    try:
        with (place / "daemons.log").open("w") as log:
            for command in (
                munge,
                ["slurmctld", "-D", "-c"],
                ["slurmd", "-D", "-N", "one"],
                ["slurmd", "-D", "-N", "two"],
            ):
                daemons.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))
                time.sleep(0.5)
        wait_for(lambda: sinfo() == ["idle", "2"], 120)
        yield
    finally:
        subprocess.run(["scancel", "--user", "root"], env=env, capture_output=True)
        time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        patch.undo()


@pytest.mark.slow
def test_jobs_of_slurm_fail_alone(slurm, scripts, tmp_path):
    jobs_fail_alone(tmp_path, "slurm")
    run = entries(tmp_path / "exp")["gcn", 2]
    assert run["job"].endswith("_1")  # the second of an array


@pytest.mark.slow
def test_a_job_of_slurm_is_requeued(slurm, scripts, tmp_path):
    def interrupt(number):
        subprocess.run(["scancel", "--signal=USR2", number], check=True)

        def pending():
            words = ["squeue", "--noheader", "--format=%T", "--jobs", number]
            return subprocess.run(words, capture_output=True, text=True).stdout.strip() == "PENDING"

        wait_for(pending, 120)  # Slurm lets a requeued job wait for two minutes
        subprocess.run(["scontrol", "update", f"job={number}", "StartTime=now"], check=True)

    assert lost_nothing(job_is_requeued(tmp_path, "slurm", interrupt))


@pytest.mark.slow
def test_a_runner_finds_the_jobs_of_an_earlier_one(slurm, scripts, tmp_path, capsys, monkeypatch):
    """The first one is stopped, its jobs go on, one of them is cancelled."""
    line = words(tmp_path, "slurm", "--", "--pause", "0.3", architectures=["gcn", "gat"], seeds=[1])
    process = multiprocessing.get_context("fork").Process(target=train_and_compare.program, args=(line,))
    process.start()
    run_dirs = [tmp_path / f"exp/{name}/no_pretrain/seed_1" for name in ("gcn", "gat")]
    wait_for(lambda: all(begun(run_dir)() for run_dir in run_dirs), 120)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert "2 jobs stay with the cluster" in (tmp_path / "exp/runner.log").read_text()
    jobs = {name: entries(tmp_path / "exp")[name, 1]["job"] for name in ("gcn", "gat")}
    subprocess.run(["scancel", jobs["gat"]], check=True)
    assert carry_out(["--resume-from", str(tmp_path / "exp")]) == 1
    assert "jobs of an earlier runner are still there" in capsys.readouterr().out
    found = entries(tmp_path / "exp")
    assert found["gcn", 1]["status"] == "done" and found["gcn", 1]["job"] == jobs["gcn"]
    assert found["gat", 1]["status"] == "stopped" and "was cancelled" in found["gat", 1]["reason"]
    assert carry_out(["--resume-from", str(tmp_path / "exp")]) == 0
    assert [steps(run_dir) for run_dir in run_dirs] == [list(range(1, 21))] * 2


@pytest.mark.slow
def test_one_run_trains_on_two_nodes(slurm, tmp_path):
    """The real script, one process on each node; one of them is killed, the job is requeued and resumes."""
    levels = tmp_path / "levels"
    make_levels.main(make_levels.Args(out=levels, categories=("simplest",), split="train", count=12))
    line = words(
        tmp_path, "slurm", "--nodes-per-run", "2", "--num-envs", "16", "--evaluations", "0", "--save-freq", "512"
    )
    line += ["--train-dataset", str(levels), "--test-dataset", str(levels), "--slurm-mem-gb", "2"]
    line += ["--architectures", "mlp_baseline", "--seeds", "1", "--total-timesteps", "16384"]
    line += ["--", "--num-steps", "32", "--num-minibatches", "4", "--validation-fraction", "0", "--fresh-levels", "0"]
    command = [sys.executable, "-m", "benchmark.train_and_compare", *line]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run_dir = tmp_path / "exp/mlp_baseline/no_pretrain/seed_1"
    wait_for((run_dir / "checkpoints/latest.pt").exists, 400)
    trained = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
        and str(run_dir).encode() in path.read_bytes()
        and b"torch.distributed" not in path.read_bytes()
    ]
    os.kill(trained[-1], signal.SIGKILL)
    number = json.loads((tmp_path / "exp/slurm/mlp_baseline__no_pretrain__seed_1.json").read_text())["job"]

    def restarts():
        shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True).stdout
        return "Restarts=1" in shown and "JobState=PENDING" in shown

    wait_for(restarts, 200)
    subprocess.run(["scontrol", "update", f"job={number}", "StartTime=now"], check=True)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0 and "1 done of 1 runs" in out, out
    checkpoint = checkpoints.load(run_dir / "checkpoints/latest.pt")
    assert len(checkpoint["ranks"]) == 2 and checkpoint["counters"]["global_step"] == 16384
