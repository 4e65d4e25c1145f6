"""Checkpoints and run directories: atomic files, logs, arguments that survive a resume, agents loaded as plain data.

A checkpoint is one dict of tensors, numbers, strings, lists and dicts, which `torch.load(weights_only=True)` admits, so
that nothing in a file is ever executed. Files are written beside their final name and renamed: a crash leaves either
the old file or the new one.
"""

import atexit
import contextlib
import dataclasses
import fcntl
import importlib
import io
import json
import math
import os
import platform
import re
import secrets
import signal
import subprocess
import sys
import time
import typing
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import tyro
from torch.utils.tensorboard import SummaryWriter

from npp_rl.levels import LevelError, write_atomically

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

# Arguments that a resumed run may change: where it lives, who watches it, how many threads it has, on which the last
# bits of its weights depend.
FREE_ARGUMENTS = ("resume", "run_dir", "track", "wandb_project_name", "wandb_entity", "wandb_group", "wandb_tags")
FREE_ARGUMENTS += ("capture_video", "s3_bucket", "s3_prefix", "s3_endpoint_url", "s3_sync_freq", "s3_dry_run")
FREE_ARGUMENTS += ("threads", "inference_threads")


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
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch's advice, to load it anyway, comes before what is in the file.
        named = [line for line in said if "unsupported" in line.lower()]
        reason = (named or said or [type(error).__name__])[0].split(". ")[0][:120]
        raise CheckpointError(f"{path}: not a whole checkpoint of plain tensors and numbers ({reason})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (expected format {FORMAT!r})")
    return checkpoint


def load_weights(path: str | Path, architecture: str, agent: torch.nn.Module) -> None:
    """Give an agent the weights in a checkpoint of the same architecture and sizes; raises CheckpointError."""
    checkpoint = load(path)
    if checkpoint.get("architecture") != architecture:
        raise CheckpointError(f"{path}: is of architecture {checkpoint.get('architecture')!r}, expected {architecture}")
    with restoring(path, f"{architecture} of these sizes"):
        agent.load_state_dict(checkpoint["agent"])


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
    from npp_rl.games import OBSERVATIONS  # here: it compiles, which saving does not need

    with restoring(path, f"the architecture {architecture}"):
        args = args_from(script.Args, checkpoint["args"], str(path))
        for key, shape in checkpoint["observation_shapes"].items():
            expected = OBSERVATIONS[key][0]
            stacked = key == "player_frames" and list(shape[1:]) == list(expected[1:])
            if list(shape) != list(expected) and not stacked:
                raise CheckpointError(f"{path}: {key} had the shape {list(shape)}, in this version {list(expected)}")
        try:
            check_args(args, tuple(next(iter(script.SIZES.values()))))
        except ArgumentError as error:
            raise CheckpointError(f"{path}: {error}") from error
        shapes = {key: tuple(shape) for key, shape in checkpoint["observation_shapes"].items()}
        agent = script.Agent(shapes, args).to(device)
        agent.load_state_dict(checkpoint["agent"])
    return agent.eval(), dataclasses.asdict(args)


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


def gather_ranks(arrays: dict[str, np.ndarray], device: torch.device) -> list[dict] | None:
    """What a resumed run needs of each rank, in rank 0: environments (arrays of `get_state`), random generators."""
    own = {"envs": pack(arrays), "torch_rng": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda_rng"] = torch.cuda.get_rng_state()
    if not dist.is_initialized():
        return [own]
    ranks = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(own, ranks)
    return ranks


def restore_rank(own: dict, device: torch.device) -> dict[str, np.ndarray]:
    """Set the random generators of `gather_ranks` for this rank -> arrays of its environments."""
    torch.set_rng_state(own["torch_rng"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda_rng"].cpu())
    return unpack(own["envs"])


def plain_args(args) -> dict:
    """Arguments as a dict that a checkpoint may hold: tuples are lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(args).items()}


def parse_args(args_type, argv: list[str] | None = None, default=None):
    """`tyro.cli(args_type)` that knows resumed runs: with `--resume RUN_DIR` every argument defaults to that run's.

    Others default to those of `default`, an `args_type`, where it is given.

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
            if stop.code:  # tyro draws a box around its message, with a title, rules and a hint at --help
                words = [line.strip("\u2500\u2502\u256d\u256e\u2570\u256f ") for line in caught.getvalue().splitlines()]
                text = " ".join(word for word in words[1:] if word.strip("-"))
                fail(text.partition(" For full helptext")[0])
            raise

    args = parse(default)
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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{config_path}: not a run's configuration") from error
    default = args_from(args_type, saved, str(config_path))
    asked = parse(default)
    asked.resume = args.resume
    differences = [f"{name} is in only one of them" for name in sorted(set(vars(default)) ^ set(saved))]
    differences += _differences(default, asked)
    if differences:
        raise CheckpointError(f"--resume {args.resume}: the run has another configuration: {'; '.join(differences)}")
    return asked


def _differences(old, new) -> list[str]:
    """What differs between two runs' arguments, those aside that a resumed run may change."""
    names = [field.name for field in dataclasses.fields(old) if field.name not in FREE_ARGUMENTS]
    values = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return [f"{name} was {before!r}, now {now!r}" for name, before, now in values if before != now]


def load_latest(path: Path, args, levels_digest: str, processes: int) -> dict | None:
    """The checkpoint that a resumed run continues from; None where the run ended before it had saved one.

    Raises CheckpointError for a checkpoint that cannot be read or is of other arguments, levels or processes.
    """
    if not path.exists():
        return None
    checkpoint = load(path)
    with restoring(path):
        differences = _differences(args_from(type(args), checkpoint["args"], str(path)), args)
        for what, old, new in (
            ("the levels' digest", checkpoint["levels_digest"], levels_digest),
            ("the number of processes", len(checkpoint["ranks"]), processes),
        ):
            differences += [f"{what} was {old!r}, now {new!r}"] if old != new else []
    if differences:
        raise CheckpointError(f"{path}: is of another configuration: {'; '.join(differences)}")
    return checkpoint


@contextlib.contextmanager
def restoring(path: str | Path, what: str = "this run"):
    """Raise CheckpointError where what happens inside fails because the content of `path` does not fit."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointError(f"{path}: does not fit {what} ({reason})") from error


def claim(run_dir: Path, resumed: bool):
    """Make the run's folder and lock its log.jsonl, for as long as the file that is returned stays open.

    Raises CheckpointError where it holds a run already (unless resumed), other things, or a process works in it.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise CheckpointError(f"{run_dir}: is a file (expected a folder for the run)")
    if not resumed and (run_dir / "config.json").exists():
        raise CheckpointError(f"{run_dir}: holds a run already (--resume {run_dir} continues it)")
    ours = ("log.jsonl", "checkpoints", "bc")  # of a start that failed; of the pretraining before it
    others = [path for path in run_dir.iterdir() if path.name not in ours] if run_dir.exists() else []
    if not resumed and any(path.suffix != ".log" for path in others):
        raise CheckpointError(f"{run_dir}: is not empty (expected a new folder for the run)")
    if not run_dir.exists():
        atexit.register(_leave_nothing, run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = (run_dir / "log.jsonl").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CheckpointError(f"{run_dir}: another process works in this run") from None
    except OSError:  # a file system without locks
        pass
    return lock


def _leave_nothing(run_dir):
    """Remove the folder of a run that failed before it wrote anything (a data set that is not there, say)."""
    with contextlib.suppress(OSError):
        if [path.name for path in run_dir.iterdir()] == ["log.jsonl"] and not (run_dir / "log.jsonl").stat().st_size:
            (run_dir / "log.jsonl").unlink()
            run_dir.rmdir()


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


# Least and greatest value of arguments by name; ">" excludes the least. Of the others, floats have to be finite.
BOUNDS = {
    "seed": (0, 2**63 - 1),
    "threads": (0, 4 * (os.cpu_count() or 1)),
    "inference_threads": (0, 4 * (os.cpu_count() or 1)),
    "holdout_fraction": (0, 1),
    "validation_fraction": (0, 0.9),
    "frame_skip": (1, 1000),
    "eval_freq": (0, 10**15),
    "save_freq": (0, 10**15),
    "s3_sync_freq": (0, 10**15),
    "total_timesteps": (1, 10**15),
    "max_minutes": (">", 0, 10**6),
    "bc_max_minutes": (">", 0, 10**6),
    "learning_rate": (">", 0, 10),
    "num_envs": (1, 10**6),
    "num_steps": (1, 10**5),
    "gamma": (">", 0, 1),
    "gae_lambda": (0, 1),
    "num_minibatches": (1, 10**6),
    "update_epochs": (1, 1000),
    "clip_coef": (">", 0, 10),
    "ent_coef": (0, 10**3),
    "vf_coef": (0, 10**3),
    "max_grad_norm": (">", 0, 10**9),
    "target_kl": (">", 0, 10**3),
    "tries": (1, 10**6),
    "frame_stack": (1, 64),
    "fresh_levels": (0, 10**5),
    "renew_freq": (0, 10**15),
    "value_warmup_steps": (0, 10**15),
    "kl_coef": (0, 10**3),
    "kl_steps": (1, 10**15),
    "demo_coef": (0, 10**3),
    "pictures": (0, 1000),
    "epochs": (1, 10**6),
    "patience": (0, 10**6),
    "batch_size": (1, 10**6),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.99),
    "value_coef": (0, 10**3),
}
WIDTHS = (1, 16384)  # of layers, and other counts in the sizes of an architecture


def check_args(args, sizes: tuple[str, ...] = ()) -> None:
    """Raise ArgumentError for the first argument outside of BOUNDS; `sizes` are an architecture's own counts."""
    for field in dataclasses.fields(args):
        name, value = field.name, getattr(args, field.name)
        *above, low, high = BOUNDS.get(name, WIDTHS if name in sizes else (-math.inf, math.inf))
        flag = f"--{name.replace('_', '-')} {value}"
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            if not math.isfinite(number):
                raise ArgumentError(f"{flag}: expected a finite number")
            if not low <= number <= high or (above and number == low):
                raise ArgumentError(f"{flag}: expected {f'more than {low}' if above else f'{low}'} to {high}")


def _fits(value, hint) -> bool:
    """Whether a value from a file is of the type of an argument: numbers, strings, Literal, unions, tuples of them."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(item, inner[0]) for item in value)
    if inner:
        return any(_fits(value, one) for one in inner)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def args_from(args_type, saved: dict, place: str):
    """`args_type` of values read from a file; raises CheckpointError for one of a wrong type. Others are defaults."""
    hints = typing.get_type_hints(args_type)
    for name, hint in hints.items():
        if name in saved and not _fits(saved[name], hint):
            raise CheckpointError(f"{place}: {name} is {saved[name]!r:.60}, not of its type")
    return args_type(**{name: _plain(saved[name]) for name in hints if name in saved})


def say(text: str, end: str = "\n") -> None:
    """Print, and go on without a console once it is gone (a closed pipe, a full disk behind it)."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command(main, args_type) -> None:
    """Run `main` with the command line's arguments; what a user can cause ends with one line and status 2."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # names of levels may be in any script
    try:
        main(parse_args(args_type))
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except MemoryError as error:
        fail(f"not enough memory ({error})")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except (ArgumentError, CheckpointError, LevelError, FloatingPointError, ModuleNotFoundError) as error:
        fail(str(error))
    except RuntimeError as error:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            raise
        print(f"error: process {os.environ.get('RANK')}: {str(error).splitlines()[0]}", file=sys.stderr)
        raise  # of the other processes; torchrun shows what they said


def fail(message: str, status: int = 2):
    """End the process with one line on stderr."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(status)


class StopSignals:
    """Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (a Slurm warning) noted in `number`, so that a run can save first.

    The second signal of a kind acts at once, as all do after `restore`.
    """

    def __init__(self):
        self.number = 0
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
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
