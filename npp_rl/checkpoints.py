"""Checkpoints and run directories: atomic files, logs, arguments that survive a resume, agents loaded as plain data.

A checkpoint is one dict of tensors, numbers, strings, lists and dicts, which `torch.load(weights_only=True)` admits, so
that nothing in a file is ever executed. Files are written beside their final name and renamed: a crash leaves either
the old file or the new one.
"""

import contextlib
import dataclasses
import importlib
import io
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.utils.tensorboard import SummaryWriter

from npp_rl.levels import write_atomically

FORMAT = "npp-rl checkpoint 1"

# `npp_rl/ppo_<name>.py` holds the architecture `name`; a checkpoint can name no other module.
ARCHITECTURES = (
    "full_hgt",
    "simplified_hgt",
    "gat",
    "gcn",
    "vision_free",
    "local_frames_only",
    "mlp_cnn",
    "mlp_baseline",
)

# Arguments that a resumed run may change: where it lives and who watches it.
FREE_ARGUMENTS = ("resume", "run_dir", "track", "wandb_project_name", "wandb_entity", "wandb_group", "wandb_tags")
FREE_ARGUMENTS += ("capture_video", "s3_bucket", "s3_prefix", "s3_endpoint_url", "s3_sync_freq", "s3_dry_run")


class CheckpointError(ValueError):
    """A checkpoint or run directory that cannot be used; the message is one line that names it."""


class ArgumentError(ValueError):
    """An argument that cannot be used; the message is one line that names the flag and what was expected."""


def write_json(path: str | Path, content) -> None:
    """Write `content` as indented JSON, atomically. NaN and infinity are refused (ValueError): they are not JSON."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def save(path: str | Path, checkpoint: dict) -> None:
    """Write a checkpoint atomically.

    Serialised in memory first: a full disk is then an OSError with the path in it, and nothing of the file appears.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **checkpoint}, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """Read a checkpoint of `save` with its tensors on `device`.

    Raises CheckpointError for a file that is missing, cut, not a checkpoint, or holds anything but plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    data = io.BytesIO(path.read_bytes())  # read first: the zip reader reports a cut file as an OSError too
    try:
        with warnings.catch_warnings(action="ignore"):  # about old pickles, which are refused anyway
            checkpoint = torch.load(data, map_location=device, weights_only=True)
    except Exception as error:  # garbage can fail anywhere in the zip reader and the unpickler
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(f"{path}: not a whole checkpoint of plain tensors and numbers ({reason})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (expected format {FORMAT!r})")
    return checkpoint


def load_agent(path: str | Path, device: str | torch.device = "cpu") -> tuple[torch.nn.Module, dict]:
    """The agent of a checkpoint, in evaluation mode on `device`, and the arguments of its run as a dict.

    The architecture's script is imported by its name from the fixed list ARCHITECTURES. Raises CheckpointError.
    """
    checkpoint = load(path, device)
    architecture = checkpoint.get("architecture")
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: unknown architecture {architecture!r} (expected one of {', '.join(ARCHITECTURES)})"
        )
    try:
        script = importlib.import_module(f"npp_rl.ppo_{architecture}")
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path}: architecture {architecture} is not in this version ({error})") from error
    try:
        known = {field.name for field in dataclasses.fields(script.Args)}
        args = script.Args(**{name: value for name, value in checkpoint["args"].items() if name in known})
        shapes = {key: tuple(shape) for key, shape in checkpoint["observation_shapes"].items()}
        agent = script.Agent(shapes, args).to(device)
        agent.load_state_dict(checkpoint["agent"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit the architecture {architecture} ({reason})") from error
    return agent.eval(), dict(checkpoint["args"])


def pack(arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    """NumPy arrays of any plain dtype as uint8 tensors with dtype and shape beside them (see `unpack`)."""
    packed = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        flat = np.frombuffer(array.tobytes(), np.uint8)
        packed[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": torch.tensor(flat)}
    return packed


def unpack(packed: dict[str, dict]) -> dict[str, np.ndarray]:
    """The arrays that went into `pack`, as writable copies."""
    return {
        name: np.frombuffer(entry["bytes"].cpu().numpy().tobytes(), np.dtype(entry["dtype"]))
        .reshape(entry["shape"])
        .copy()
        for name, entry in packed.items()
    }


def parse_args(args_type, argv: list[str] | None = None):
    """`tyro.cli(args_type)` that knows resumed runs: with `--resume RUN_DIR` every argument defaults to that run's.

    Unknown arguments and bad values end the process with one line on stderr and status 2. Raises CheckpointError where
    the run directory is unusable or an argument given beside `--resume` differs from the run's.
    """
    argv = sys.argv[1:] if argv is None else argv

    def parse(default=None):
        caught = io.StringIO()
        try:
            with contextlib.redirect_stderr(caught):
                return tyro.cli(args_type, args=argv, default=default)
        except SystemExit as stop:
            if stop.code:  # tyro draws a box of several lines around its message
                words = [line.strip("\u2500\u2502\u256d\u256e\u2570\u256f ") for line in caught.getvalue().splitlines()]
                print("error:", " ".join(word for word in words if word), file=sys.stderr)
                raise SystemExit(2) from None
            raise

    args = parse()
    if not getattr(args, "resume", None):
        return args
    if args.resume.startswith("s3://"):
        from npp_rl import s3  # here, since it uses this module

        folder = args.run_dir or f"runs/{args.resume.rstrip('/').rpartition('/')[2]}"
        args.resume = str(s3.download_for_resume(args.resume, folder, args.s3_endpoint_url))
    config_path = Path(args.resume) / "config.json"
    try:
        config = json.loads(config_path.read_text())
        saved = dict(config["args"])
    except OSError as error:
        raise CheckpointError(f"--resume {args.resume}: no run directory ({config_path}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config_path}: not a run's configuration") from error
    names = [field.name for field in dataclasses.fields(args_type)]
    differences = [f"{name} is in only one of them" for name in sorted(set(names) ^ set(saved))]
    asked = default = None
    if not differences:
        default = args_type(**{name: _plain(saved[name]) for name in names})
        asked = parse(default)
        differences = [
            f"{name} was {_plain(saved[name])!r}, now {_plain(getattr(asked, name))!r}"
            for name in names
            if name not in FREE_ARGUMENTS and _plain(getattr(asked, name)) != _plain(saved[name])
        ]
    if asked:
        asked.resume = args.resume
    if differences:
        raise CheckpointError(f"--resume {args.resume}: the run has another configuration: {'; '.join(differences)}")
    return asked


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


def expect_positive(args, *names: str) -> None:
    """Raise ArgumentError for the first of these fields of `args` that is below 1."""
    for name in names:
        if getattr(args, name) < 1:
            raise ArgumentError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected 1 or more")


class StopSignals:
    """Ctrl-C, SIGTERM and SIGUSR1 (a Slurm warning) noted in `number`, so that a run can save first.

    The second signal of a kind acts at once, as all do after `restore`.
    """

    def __init__(self):
        self.number = 0
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        self.handlers = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, number, _):
        self.number = number
        signal.signal(number, self.handlers[number])

    def name(self) -> str:
        return signal.Signals(int(self.number)).name

    def restore(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


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
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


class RunLog:
    """Logs of one run: metrics.jsonl is the truth, TensorBoard and wandb mirror it, log.jsonl holds the messages.

    A new run's `config` goes to config.json. `resumed` is the `sizes()` that the checkpoint was saved with: what was
    logged after it is cut off.
    """

    def __init__(self, run_dir: Path, config: dict, resumed: dict[str, int] | None = None, global_step: int = 0):
        self.run_dir, self.config = run_dir, config
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        if not resumed:
            write_json(run_dir / "config.json", config)
        self.files = {name: (run_dir / name).open("a") for name in ("metrics.jsonl", "log.jsonl")}
        for name, size in (resumed or {}).items():
            self.files[name].truncate(size)
        self.writer = SummaryWriter(run_dir / "tensorboard", purge_step=global_step + 1 if resumed else None)
        self.wandb = None
        self.terminal = sys.stdout.isatty()
        self.shown, self.shown_at = {}, -math.inf

    def track(self) -> None:
        """Mirror the metrics to wandb from here on, as the run's arguments say. Without wandb it says so once."""
        try:
            import wandb
        except ImportError:
            self.message("wandb is not installed: --track has no effect, all metrics are in metrics.jsonl")
            return
        args, name = self.config["args"], self.run_dir.resolve().name
        self.wandb = wandb.init(
            project=args["wandb_project_name"],
            entity=args["wandb_entity"],
            group=args["wandb_group"] or self.config["architecture"],
            tags=args["wandb_tags"],
            config=self.config,
            name=name,
            id=name,
            resume="allow",
            dir=self.run_dir,
        )

    def message(self, text: str, **fields) -> None:
        """Print `text` for people and add it with `fields` to log.jsonl for programs."""
        print(f"\r\033[K{text}" if self.terminal else text, flush=True)
        self._append("log.jsonl", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "message": text, **fields})

    def metrics(self, kind: str, global_step: int, minutes: float, values: dict[str, float]) -> None:
        """Add one line of finite `values` to metrics.jsonl, and to its mirrors."""
        values = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        self._append("metrics.jsonl", {"kind": kind, "global_step": global_step, "minutes": minutes, **values})
        for key, value in values.items():
            self.writer.add_scalar(key, value, global_step)
        if self.wandb:
            self.wandb.log(values, step=global_step)

    def progress(self, global_step: int, minutes_left: float, metrics: dict[str, float]) -> None:
        """Show how far the run is: one line that is rewritten on a terminal, a line every ten seconds elsewhere."""
        self.shown |= metrics  # an iteration in which no episode ended keeps the last figures
        text = (
            f"step {global_step:,}  {self.shown['charts/SPS']:,.0f} steps/s"
            f"  return {self.shown.get('charts/episodic_return', math.nan):.2f}"
            f"  success {self.shown.get('charts/success_rate', math.nan):.1%}  {max(minutes_left, 0):.1f} min left"
        )
        if self.terminal:
            print(f"\r\033[K{text}", end="", flush=True)
        elif time.monotonic() - self.shown_at > 10:
            self.shown_at = time.monotonic()
            print(text, flush=True)

    def sizes(self) -> dict[str, int]:
        """Bytes of each log so far, for the checkpoint."""
        return {name: (self.run_dir / name).stat().st_size for name in self.files}

    def close(self) -> None:
        self.writer.close()
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
