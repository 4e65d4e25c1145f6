"""A stand-in for the training scripts that keeps their promises about files, locks, signals and exit statuses.

It needs no torch and starts in a moment. Its "weights" are a hash over all steps, saved every fifth step; each step
that is taken goes to trace.txt. Flags of its own let it die, refuse, or work on when it is told to stop.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--run-dir", type=Path)
parser.add_argument("--resume", type=Path)
parser.add_argument("--seed", type=int)
parser.add_argument("--arch")
parser.add_argument("--replay-data-dir", nargs="*")
parser.add_argument("--total-timesteps", type=int, default=20)
parser.add_argument("--pretrained-checkpoint")
parser.add_argument("--pause", type=float, default=float(os.environ.get("STAND_IN_PAUSE", 0.01)))
parser.add_argument("--die-at", type=int)  # by SIGKILL, in a process that has not resumed
parser.add_argument("--die-always", action="store_true")
parser.add_argument("--refuse-seed", type=int)
parser.add_argument("--leave-behind", action="store_true")  # a process of another group
parser.add_argument("--stubborn", action="store_true")  # works on when its runner is gone
args, unknown = parser.parse_known_args()
run_dir = args.resume or args.run_dir
if args.resume:
    config = json.loads((run_dir / "config.json").read_text())
    for name, value in config["args"].items():
        setattr(args, name, value)
if args.seed == args.refuse_seed:
    print("error: --refuse-seed: this seed is refused", file=sys.stderr)
    sys.exit(2)
if args.arch and not list(Path(args.replay_data_dir[0]).iterdir()):
    print(f"error: {args.replay_data_dir[0]}: no usable replays", file=sys.stderr)
    sys.exit(2)
if not args.resume and run_dir.exists():
    assert not [p for p in run_dir.iterdir() if p.suffix != ".log" and p.name not in ("bc", "log.jsonl", "checkpoints")]
(run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
lock = (run_dir / "log.jsonl").open("a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("error: another process works in this run", file=sys.stderr)
    sys.exit(2)

stop = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, _: None if args.stubborn else stop.append(number))


def write(name, content):
    try:
        (run_dir / f".{name}.tmp").write_text(json.dumps(content))
        (run_dir / f".{name}.tmp").replace(run_dir / name)
    except OSError as error:
        (run_dir / f".{name}.tmp").unlink(missing_ok=True)
        print(f"error: {run_dir / name}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


state = {
    "step": 0,
    "weights": f"seed {args.seed} from {args.pretrained_checkpoint and Path(args.pretrained_checkpoint).name}",
}
if args.resume and (run_dir / "state.json").exists():
    state = json.loads((run_dir / "state.json").read_text())
if not args.resume:
    names = ("seed", "total_timesteps", "die_always", "pretrained_checkpoint", "stubborn")
    config = {name: getattr(args, name) for name in names}
    write(
        "config.json",
        {"args": {**config, "max_minutes": None}, "unknown": unknown, "cpus": len(os.sched_getaffinity(0))},
    )
trace, metrics = (run_dir / "trace.txt").open("a"), (run_dir / "metrics.jsonl").open("a")
if args.leave_behind:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (run_dir / "child").write_text(str(child.pid))
print("training", os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS"), flush=True)
while state["step"] < args.total_timesteps and not stop:
    time.sleep(args.pause)
    state = {
        "step": state["step"] + 1,
        "weights": hashlib.sha256(f"{state['weights']} {state['step']}".encode()).hexdigest(),
    }
    print(state["step"], file=trace, flush=True)
    row = {"kind": "train", "global_step": state["step"], "minutes": state["step"] / 60, "charts/SPS": 1 / args.pause}
    print(json.dumps({**row, "charts/success_rate": 0.25}), file=metrics, flush=True)
    if args.die_always or (state["step"] == args.die_at and not args.resume):
        os.kill(os.getpid(), signal.SIGKILL)
    if state["step"] % 5 == 0:
        write("state.json", {**state, "ballast": "0" * 100_000})
write("state.json", state)
if stop:
    print(f"stopped at step {state['step']}", flush=True)
else:
    (run_dir / "checkpoints/best.pt").write_text(state["weights"])
    part = {"success_rate": 0.5 + 0.01 * (args.seed or 0), "levels": 4}
    write("eval_results.json", {"overall": part, "by_category": {"simplest": part}, "levels": []})
    (run_dir / "report.md").write_text("# done\n")
