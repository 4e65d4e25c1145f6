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

# Arguments that say where a run lives and who watches it; all others decide the run itself.
FREE_ARGUMENTS = (
    "resume",
    "run_dir",
    "capture_video",
    "track",
    "wandb_project_name",
    "wandb_entity",
    "wandb_group",
    "wandb_tags",
)


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
    if differences:
        raise CheckpointError(f"--resume {args.resume}: the run has another configuration: {'; '.join(differences)}")
    return asked


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


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

    `resumed` is the `sizes()` that the checkpoint was saved with: what was logged after it is cut off.
    """

    def __init__(self, run_dir: Path, resumed: dict[str, int] | None = None, global_step: int = 0):
        self.run_dir = run_dir
        self.files = {name: (run_dir / name).open("a") for name in ("metrics.jsonl", "log.jsonl")}
        for name, size in (resumed or {}).items():
            self.files[name].truncate(size)
        self.writer = SummaryWriter(run_dir / "tensorboard", purge_step=global_step + 1 if resumed else None)
        self.wandb = None
        self.terminal = sys.stdout.isatty()
        self.shown_at = -math.inf

    def track(self, **settings) -> None:
        """Mirror the metrics to wandb from here on; `settings` go to `wandb.init`. Without wandb it says so once."""
        try:
            import wandb
        except ImportError:
            self.message("wandb is not installed: --track has no effect, all metrics are in metrics.jsonl")
            return
        name = self.run_dir.resolve().name
        self.wandb = wandb.init(name=name, id=name, resume="allow", dir=self.run_dir, **settings)

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

    def progress(self, text: str) -> None:
        """Show how far the run is: one line that is rewritten on a terminal, a line every ten seconds elsewhere."""
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
