"""The log of a run: metrics.jsonl is the truth, TensorBoard and wandb mirror it."""

import contextlib
import importlib
import json
import math
import os
import platform
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from npp_rl.commands import CheckpointError, say
from npp_rl.files import write_atomically, write_json


def describe_system(device: torch.device) -> dict:
    """What else a run depends on: versions, git revision (None outside a checkout), processor and device."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    for name in ("npp_rl", "numba", "gymnasium"):
        versions[name] = importlib.import_module(name).__version__
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        revision, changed = None, ""
    return {
        "versions": versions,
        "git_revision": revision,
        "git_changed": bool(changed),
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


class RunLog:
    """Logs of one run: metrics.jsonl is the truth, TensorBoard and wandb mirror it, log.jsonl holds the messages.

    TensorBoard has three parts in the folder `tensorboard`: `train`, `eval` (validation and test) and `system` (speed,
    time, memory, processor). A new run's `config` goes to config.json. `resumed` is the `sizes()` that the checkpoint
    was saved with: what was logged after it is cut off.
    """

    def __init__(self, run_dir: Path, config: dict, resumed: dict[str, int] | None = None, global_step: int = 0):
        self.run_dir, self.config = run_dir, config
        names = ("metrics.jsonl", "log.jsonl")
        for name in names if resumed else ():
            size = (run_dir / name).stat().st_size if (run_dir / name).is_file() else 0
            if not 0 <= resumed[name] <= size:
                raise CheckpointError(f"{run_dir / name}: has {size} bytes, {resumed[name]} when the run was saved")
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not resumed:
            write_json(run_dir / "config.json", config)
        purge = global_step + 1 if resumed else None
        folder = run_dir / "tensorboard"
        self.writers = {part: SummaryWriter(folder / part, purge_step=purge) for part in ("train", "eval", "system")}
        self.files = {name: (run_dir / name).open("a") for name in names}
        for name in names:  # last of all: from here on the run goes on
            self.files[name].truncate(resumed[name] if resumed else 0)
        self.wandb = None
        self.last_step, self.clocks = global_step, (time.monotonic(), time.process_time())
        self.terminal = sys.stdout.isatty()
        self.shown, self.shown_at = {}, -math.inf
        if config["args"].get("cuda") and config.get("device") == "cpu":
            size, threads = config["args"]["size"], config["threads"]
            self.message(f"no GPU that torch can use: training on the CPU, {threads} threads, size {size}")

    def track(self) -> None:
        """Mirror the metrics to wandb from here on, as the run's arguments say.

        Without wandb, without a login or where wandb cannot start, it says so once and the run goes on without it.
        """
        here = "--track has no effect, all metrics are in metrics.jsonl"
        try:
            import wandb
        except ImportError:
            self.message(f"wandb is not installed; {here}")
            return
        args, name = self.config["args"], self.run_dir.resolve().name
        if args["exp_name"] not in name:  # such as experiment/mlp_baseline/seed_1
            name = f"{args['exp_name']}__{args['seed']}__{name}"
        id_path = self.run_dir / "wandb_id.txt"  # a resumed run continues, another of the same name does not
        if not id_path.is_file():
            write_atomically(id_path, f"{args['exp_name']}-{args['seed']}-{secrets.token_hex(4)}\n".encode())
        try:
            self.wandb = wandb.init(
                project=args["wandb_project_name"],
                entity=args["wandb_entity"],
                group=args["wandb_group"] or self.config["architecture"],
                tags=args["wandb_tags"],
                config=self.config,
                name=name,
                id=re.sub(r"[^A-Za-z0-9_.-]+", "_", id_path.read_text().strip())[:64],
                resume="allow",
                dir=self.run_dir,
            )
        except wandb.errors.Error as error:
            self.message(f"wandb: {' '.join(str(error).split())[:300].rstrip('.')}; {here}")

    def mirror_results(self) -> None:
        """Give wandb what the run's end wrote: videos, and an artifact of best.pt, eval_results.json and report.md.

        Nothing is done for a run that is not tracked or has no results yet. `close` calls it.
        """
        if not self.wandb or not (self.run_dir / "eval_results.json").is_file():
            return
        import wandb

        try:
            media = {"videos/won": [], "videos/lost": []}
            for path in sorted((self.run_dir / "videos").glob("*.mp4")):
                key = "videos/won" if path.stem.endswith("__won") else "videos/lost"
                media[key].append(wandb.Video(path, caption=path.stem.replace("__", ": ")))
            media = {key: videos for key, videos in media.items() if videos}
            if media:
                self.wandb.log(media, step=self.last_step)
            about = {"architecture": self.config["architecture"], "global_step": self.last_step}
            artifact = wandb.Artifact(f"{self.wandb.id}-results", "results", metadata=about)
            for name in ("checkpoints/best.pt", "eval_results.json", "report.md", "config.json"):
                if (self.run_dir / name).is_file():
                    artifact.add_file(str(self.run_dir / name), name=Path(name).name)
            self.wandb.log_artifact(artifact)
        except (wandb.errors.Error, OSError, ValueError) as error:  # all of it lies in the run's folder
            self.message(f"wandb: the results were not added: {' '.join(str(error).split())[:300]}")

    def message(self, text: str, **fields) -> None:
        """Print `text` for people and add it with `fields` to log.jsonl for programs."""
        say(f"\r\033[K{text}" if self.terminal else text)
        self._append("log.jsonl", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "message": text, **fields})

    def metrics(self, kind: str, global_step: int, minutes: float, values: dict[str, float]) -> None:
        """Add one line of finite `values` to metrics.jsonl, and to its mirrors.

        A line of kind "train" gets `system/...` of this process besides: MiB in memory (on the GPU too), how many
        processors it kept busy since the line before, and the machine's load over a minute.
        """
        if kind == "train":
            values = values | self._system()
        values = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        place = {"global_step": global_step, "minutes": minutes}
        self._append("metrics.jsonl", {"kind": kind, **place, **values})
        for key, value in values.items():
            part = "train" if kind == "train" else "eval"
            part = "system" if key.startswith(("time/", "system/")) or key == "charts/SPS" else part
            self.writers[part].add_scalar(key, value, global_step)
        self.last_step = global_step
        if self.wandb:
            self.wandb.log({**place, **values}, step=global_step)

    def _system(self) -> dict[str, float]:
        before, self.clocks = self.clocks, (time.monotonic(), time.process_time())
        wall, busy = (now - then for now, then in zip(self.clocks, before, strict=True))
        values = {"system/processors_busy": busy / max(wall, 1e-9), "system/load": os.getloadavg()[0]}
        with contextlib.suppress(OSError, ValueError, IndexError):  # Linux tells; elsewhere it is left out
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            values["system/memory_mib"] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            values["system/gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return values

    def progress(self, global_step: int, minutes_left: float, metrics: dict[str, float]) -> None:
        """Show how far the run is: one line that is rewritten on a terminal, a line every ten seconds elsewhere."""
        self.shown |= metrics  # an iteration in which no episode ended keeps the last figures
        text = (
            f"step {global_step:,}  {self.shown['charts/SPS']:,.0f} steps/s"
            f"  return {self.shown.get('charts/episodic_return', math.nan):.2f}"
            f"  success {self.shown.get('charts/success_rate', math.nan):.1%}  {max(minutes_left, 0):.1f} min left"
        )
        if self.terminal:
            say(f"\r\033[K{text}", end="")
        elif time.monotonic() - self.shown_at > 10:
            self.shown_at = time.monotonic()
            say(text)

    def sizes(self) -> dict[str, int]:
        """Bytes of each log so far, for the checkpoint."""
        return {name: (self.run_dir / name).stat().st_size for name in self.files}

    def close(self) -> None:
        """Close the logs; a tracked run's results and videos go to wandb first."""
        self.mirror_results()
        for writer in self.writers.values():
            writer.close()
        for file in self.files.values():
            file.close()
        if self.wandb:
            self.wandb.finish()

    def _append(self, name, record):
        try:
            self.files[name].write(json.dumps(record, allow_nan=False) + "\n")
            self.files[name].flush()
        except OSError as error:
            error.filename = str(self.run_dir / name)
            raise
