"""The log of a run: metrics in metrics.jsonl, mirrored to TensorBoard and wandb, and messages in log.jsonl."""

import dataclasses
import functools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from npp_rl.commands import CheckpointError, say
from npp_rl.files import open_file, write_json
from npp_rl.training import budget, checkpoints, source, wandb_mirror
from npp_rl.training.system import Usage, describe_system

FILES = ("metrics.jsonl", "log.jsonl")
LOSSES = (
    "policy_loss",
    "value_loss",
    "entropy",
    "old_approx_kl",
    "approx_kl",
    "clipfrac",
    "pretrained_kl",
    "grad_norm",
)
LOSSES = tuple(f"losses/{name}" for name in LOSSES)  # losses of a PPO update, in the order of the scripts' sums
PARTS = ("train", "eval", "system")  # subfolders of `tensorboard`; eval: validation and test; system: time and memory


class RunLog:
    """Logs of one run. A new run writes `config` to config.json.

    resumed: the `sizes()` in the checkpoint of a resumed run. Everything logged after them is cut off. others: numbers
    of the run's other processes, whose use of the system counts. Raises CheckpointError if a log is shorter.
    """

    def __init__(
        self,
        run_dir: Path,
        config: dict,
        resumed: dict[str, int] | None = None,
        global_step: int = 0,
        others: Sequence[int] = (),
    ):
        self.run_dir, self.config = run_dir, config
        for name in FILES if resumed else ():
            size = (run_dir / name).stat().st_size if (run_dir / name).is_file() else 0
            if not 0 <= resumed[name] <= size:
                raise CheckpointError(f"{run_dir / name}: has {size} bytes, {resumed[name]} when the run was saved")
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not resumed:
            write_json(run_dir / "config.json", config)
        self.purge_step = global_step + 1 if resumed else None
        self.files = {name: open_file(run_dir / name, "a") for name in FILES}
        for name in FILES:  # after all that can fail
            self.files[name].truncate(resumed[name] if resumed else 0)
        self.mixed_precision = config["args"].get("mixed_precision", False)
        self.wandb = None
        self.last_step, self.usage = global_step, Usage(others)
        self.terminal = sys.stdout.isatty()
        self.shown, self.shown_at = {}, -math.inf
        if config["args"].get("cuda") and config.get("device") == "cpu":
            count, threads, size = config.get("world_size", 1), config["threads"], config["args"]["size"]
            shared = f"{threads} thread{'s' * (threads > 1)}"
            shared = f"{count} processes with {shared} each" if count > 1 else shared
            self.message(f"no GPU that torch can use: training on the CPU, {shared}, size {size}")

    @functools.cached_property
    def writers(self) -> dict:
        """TensorBoard's writer of each of PARTS. It is imported with the first metrics, which takes half a second."""
        from torch.utils.tensorboard import SummaryWriter

        place = self.run_dir / "tensorboard"
        return {part: SummaryWriter(place / part, purge_step=self.purge_step) for part in PARTS}

    def track(self) -> None:
        """Mirror the metrics to wandb from now on, if wandb works."""
        self.wandb = wandb_mirror.begin(self.run_dir, self.config, self.message)

    def message(self, text: str, **fields) -> None:
        """Print `text`, and add it to log.jsonl together with `fields`."""
        say(f"\r\033[K{text}" if self.terminal else text)
        self._append("log.jsonl", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "message": text, **fields})

    def metrics(self, kind: str, global_step: int, minutes: float, values: dict[str, float]) -> None:
        """Add one line of the finite `values` to metrics.jsonl and its mirrors.

        Lines of kind "train" also get the `system/...` metrics of this process (see `Usage.look`) and its GPU memory.
        """
        if kind == "train":
            values = values | self.usage.look()
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                values["system/gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
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

    def evaluation(self, global_step: int, minutes: float, values: dict[str, float]) -> None:
        """Log and print the results of an evaluation on the validation levels."""
        self.metrics("eval", global_step, minutes, values)
        rate = values.get("eval/success_rate")  # missing if no level counts (see evaluation/summary.py)
        rate = "unknown, none of them counts" if rate is None else f"{rate:.1%}"
        self.message(f"step {global_step:,}: success on validation levels {rate}")

    def iteration(self, counters, minutes: float, minutes_left: float, values: dict[str, float]) -> None:
        """Log the metrics of an iteration and show the run's progress.

        Raises FloatingPointError if a loss is not finite. This includes the gradient's norm unless precision is mixed:
        a gradient may overflow in float16, and the loss scaling then skips the step.
        """
        if not all(math.isfinite(values[name]) for name in (LOSSES[:-1] if self.mixed_precision else LOSSES)):
            step, saved = counters.global_step, counters.saved_at
            raise FloatingPointError(f"step {step}: the loss is not finite; latest.pt is from step {saved}")
        self.metrics("train", counters.global_step, minutes, values)
        self.progress(counters.global_step, minutes_left, values)

    def progress(self, global_step: int, minutes_left: float, metrics: dict[str, float]) -> None:
        """Show the run's progress: a terminal rewrites one line, other outputs get a line every ten seconds."""
        self.shown |= metrics  # if no episode ended, the last values stay
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
        """Size of each log in bytes, for the checkpoint."""
        return {name: (self.run_dir / name).stat().st_size for name in self.files}

    def close(self) -> None:
        """Close the logs. A tracked run first sends its results and videos to wandb."""
        if self.wandb:
            architecture = self.config["architecture"]
            wandb_mirror.add_results(self.wandb, self.run_dir, architecture, self.last_step, self.message)
        for stream in (*self.writers.values(), *self.files.values()):
            stream.close()
        if self.wandb:
            self.wandb.finish()

    def _append(self, name, record):
        try:
            self.files[name].write(json.dumps(record, allow_nan=False) + "\n")
            self.files[name].flush()
        except OSError as error:
            error.filename = str(self.run_dir / name)
            raise


def start_log(
    run_dir: Path, about: dict, args, agent, process, checkpoint: dict | None, global_step: int, sync
) -> RunLog:
    """Start the log of a run: write its configuration, start wandb if asked for, and log the messages of S3.

    about: the part of the configuration that only the script knows (architecture, levels, shapes of observations ...).
    """
    device = process.device
    config = {
        **about,
        "args": dataclasses.asdict(args),
        "parameters": sum(p.numel() for p in agent.parameters()),
        "world_size": process.world_size,
        "threads": process.threads,
        **describe_system(torch.cuda.get_device_name(device) if device.type == "cuda" else device.type),
    }
    others = [child.pid for child in process.team.children] if process.team else []
    run_log = RunLog(run_dir, config, checkpoint and checkpoint["log_bytes"], global_step, others)
    scripts = source.scripts_of(args, agent)
    checkpoints.SCRIPTS[about["architecture"]] = source.describe(scripts[-1]) if scripts else {}
    if checkpoint is None:
        source.keep(run_dir, scripts)
    if args.track:
        run_log.track()
    if sync:
        sync.message = run_log.message
    if args.resume and not checkpoint:
        run_log.message(f"{run_dir}: was stopped before it trained, so it begins again at step 0")
    counts = ", ".join(f"{count} {use}" for use, count in config["levels"].items())
    run_log.message(f"{run_dir}: {config['parameters']:,} parameters; levels: {counts}")
    if checkpoint is not None:
        if names := source.others(run_dir, scripts):
            run_log.message(f"{', '.join(names)}: another text than in {run_dir / 'source'}, with which the run began")
        if text := budget.note(run_dir, checkpoint["args"], args, checkpoint["counters"]):
            run_log.message(text)
    return run_log
