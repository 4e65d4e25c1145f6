"""A run of an experiment: what it is, which command lines it needs, and how far it is by the files that it leaves.

A run is one directory, `<architecture>/<condition>/seed_<k>`, of an experiment's folder. What happened to it stands on
disk: it is done when its report.md and eval_results.json are there, and it is resumed when it has a config.json. So it
does not matter which process of which day looks at it.
"""

import contextlib
import functools
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from npp_rl.files import LOG_BYTES, open_file, read_json, read_text, take_lock

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "npp_rl"
LEAST_MINUTES = 0.05  # that a training has, even where its pretraining has taken all the time
BC_CHECKPOINT = "bc/checkpoints/best.pt"  # where a run's directory has the result of its pretraining


@dataclass
class Run:
    """One training. `status`: queued, running, done, stopped (resumable, nothing was wrong) or failed."""

    architecture: str
    condition: str  # no_pretrain or with_pretrain
    seed: int
    status: str = "queued"
    attempts: int = 0  # starts of the script
    exit_status: int | None = None  # of the last process; minus the signal that ended it
    minutes: float = 0.0  # as the run itself counts them, over its resumes
    reason: str = ""  # why it failed, stopped or waits
    pretraining: str = ""  # the checkpoint that it began from, or "none, because ..."
    job: str = ""  # of a cluster

    @property
    def path(self) -> str:
        """Its directory, relative to the experiment's folder."""
        return f"{self.architecture}/{self.condition}/seed_{self.seed}"


@dataclass
class Settings:
    """What all runs of an experiment have in common. Plain values, so that a job can carry them to its machine."""

    folder: str  # of the experiment, absolute
    flags: list[str]  # of every training
    bc_flags: list[str]  # of every pretraining
    s3_prefix: str | None = None  # of the experiment, where its runs go to S3
    processes: int = 1  # of one training on each machine; more than one go through torchrun
    nodes: int = 1  # machines of one training
    retries: int = 2
    require_pretraining: bool = False
    scripts: str = str(SCRIPTS)
    own: dict[str, str] = field(default_factory=dict)  # paths of scripts elsewhere, by architecture


@dataclass
class Slot:
    """A share of the machine that holds one run at a time."""

    name: str
    threads: int  # CPU threads of each process
    gpus: tuple[str, ...] | None = None  # CUDA_VISIBLE_DEVICES; None leaves it as it is
    cpus: tuple[int, ...] = ()  # processors that the run is kept on; none: any
    node: int = 0  # which of the machines of one training it is
    master: str = ""  # HOST:PORT of that training's first process, where there are several machines


@dataclass
class Progress:
    """How far a run is by its metrics.jsonl; None for what is not known yet."""

    step: int = 0
    minutes: float = 0.0
    share: float | None = None
    steps_per_second: float | None = None
    success: float | None = None
    minutes_left: float | None = None
    stage: str = ""


def directory(settings: Settings, run: Run) -> Path:
    return Path(settings.folder, run.path)


def finished(run_dir: Path) -> bool:
    """Whether a run has left all its results; report.md is the last of them."""
    return (run_dir / "report.md").is_file() and results(run_dir) is not None


def results(run_dir: Path) -> dict | None:
    """`overall` and `by_category` of a run's eval_results.json; None where it has none that can be read."""
    try:
        content = read_json(run_dir / "eval_results.json")
        return {name: dict(content[name]) for name in ("overall", "by_category")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@functools.lru_cache(maxsize=4096)
def finished_results(run_dir: Path) -> dict | None:
    """`results` of a run that is done: they do not change any more."""
    return results(run_dir)


def success(run_dir: Path) -> float | None:
    """Success on test levels of a run that is done."""
    rate = ((finished_results(run_dir) or {}).get("overall") or {}).get("success_rate")
    return rate if isinstance(rate, (int, float)) else None


def commands(settings: Settings, run: Run, slot: Slot) -> dict[str, list[str]]:
    """The command lines that a run still needs: `bc`, where its pretraining is still to be done, and `ppo`."""
    run_dir = directory(settings, run)
    own = settings.own.get(run.architecture)
    script = [*python(settings, slot), own or str(Path(settings.scripts, f"ppo_{run.architecture}.py"))]
    if (run_dir / "config.json").is_file():
        return {"ppo": [*script, "--resume", str(run_dir), "--threads", str(slot.threads)]}
    lines = {}
    flags = ["--run-dir", str(run_dir), "--seed", str(run.seed), "--threads", str(slot.threads), *settings.flags]
    if settings.s3_prefix is not None:  # the script adds the name of the run's directory
        flags += ["--s3-prefix", "/".join(part for part in (settings.s3_prefix, str(Path(run.path).parent)) if part)]
    if run.condition == "with_pretrain":
        if not run.pretraining:
            bc = [sys.executable, str(Path(settings.scripts, "bc_pretrain.py"))]
            if (run_dir / "bc/config.json").is_file():
                lines["bc"] = [*bc, "--resume", str(run_dir / "bc"), *(["--script", own] if own else [])]
            else:
                about = ["--script", own] if own else ["--arch", run.architecture]
                about += ["--seed", str(run.seed), "--threads", str(slot.threads)]
                lines["bc"] = [*bc, "--run-dir", str(run_dir / "bc"), *about, *settings.bc_flags]
        if not run.pretraining.startswith("none"):
            flags += ["--pretrained-checkpoint", str(run_dir / BC_CHECKPOINT)]
            if "--max-minutes" in settings.flags:  # the minutes of its pretraining count
                at = flags.index("--max-minutes") + 1
                flags[at] = f"{max(float(flags[at]) - minutes_of(run_dir / 'bc'), LEAST_MINUTES):.3f}"
    return lines | {"ppo": [*script, *flags]}


def minutes_of(run_dir: Path) -> float:
    """Minutes that a run has taken by its metrics.jsonl, 0 where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        rows = (json.loads(line) for line in read_text(run_dir / "metrics.jsonl", LOG_BYTES).splitlines())
        return max(float(row["minutes"]) for row in rows)
    return 0.0


def python(settings: Settings, slot: Slot) -> list[str]:
    """The beginning of a training's command line: Python, or torchrun for several processes."""
    if settings.processes * settings.nodes == 1:
        return [sys.executable]
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(settings.processes)]
    if settings.nodes == 1:
        return [*words, "--standalone"]
    host, _, port = slot.master.rpartition(":")
    words += ["--nnodes", str(settings.nodes), "--node-rank", str(slot.node)]
    return [*words, "--master-addr", host or "HOST", "--master-port", port or "PORT"]


def locked(run_dir: Path) -> bool:
    """Whether a process works in a run's directory or in its pretraining's: it holds the lock of its log.jsonl."""
    for path in (run_dir / "log.jsonl", run_dir / "bc/log.jsonl"):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as stream:
            if not take_lock(stream):
                return True
    return False


@functools.lru_cache(maxsize=1024)
def _goal(config: Path) -> tuple[int, float | None]:
    """Steps and minutes at which a run ends, by its configuration."""
    args = read_json(config)["args"]
    return int(args["total_timesteps"]), args.get("max_minutes")


def progress(settings: Settings, run: Run) -> Progress:
    """How far a run is. Where files are missing or half-written less is known; nothing is raised."""
    run_dir, now = directory(settings, run), Progress()
    if run.condition == "with_pretrain" and not (run_dir / "config.json").is_file() and (run_dir / "bc").is_dir():
        run_dir, now.stage = run_dir / "bc", "pretraining"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        with open_file(run_dir / "metrics.jsonl") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 16384))
            rows = [json.loads(line) for line in stream.read().split(b"\n")[:-1] if line.startswith(b'{"kind"')]
        now.step, now.minutes = int(rows[-1].get("global_step", 0)), float(rows[-1]["minutes"])
        for row in rows:
            now.steps_per_second = row.get("charts/SPS", now.steps_per_second)
            now.success = row.get("charts/success_rate", now.success)
        if now.stage:
            return now
        steps, minutes = _goal(run_dir / "config.json")
        now.share = min(1.0, now.step / steps if minutes is None else now.minutes / minutes)
        if now.share > 0:
            now.minutes_left = now.minutes * (1 - now.share) / now.share
    return now
