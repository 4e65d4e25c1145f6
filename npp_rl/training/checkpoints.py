"""Checkpoints: best.pt, which holds the agent, and latest.pt, from which a run resumes.

A checkpoint is one dict of tensors, numbers, strings, lists and dicts. `torch.load(weights_only=True)` reads it and
never executes anything in the file. Files are written under a temporary name and then renamed, so that a crash leaves
either the old file or the new one.
"""

import contextlib
import dataclasses
import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from npp_rl.commands import CheckpointError, UserError
from npp_rl.files import LOG_BYTES, read_bytes, write_atomically
from npp_rl.levels.maps import Level
from npp_rl.training import budget, exported
from npp_rl.training.arguments import FREE_ARGUMENTS, MOVABLE, args_from, differences_of, make_paths_absolute

FORMAT = "npp-rl checkpoint 1"
LARGEST = 16 << 30  # most bytes of a checkpoint
BEST, LATEST = "checkpoints/best.pt", "checkpoints/latest.pt"  # in a run's folder
SCRIPTS: dict[str, dict] = {}  # of this process's runs, by architecture (source.describe); `start_log` fills it


def save(path: str | Path, checkpoint: dict) -> None:
    """Write a checkpoint atomically, with the script of its run as `script` if the run is this process's.

    It is serialised in memory first, so that a full disk raises an OSError with the path and leaves no part of a file.
    """
    buffer = io.BytesIO()
    script = SCRIPTS.get(str(checkpoint.get("architecture")))
    script = {"script": dict(script)} if script else {}
    torch.save({"format": FORMAT, **script, **checkpoint}, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """Read a checkpoint of `save`, or an exported agent (see exported.py), with its tensors on `device`.

    Raises CheckpointError if the file is missing, cut, not a checkpoint, or holds anything but plain data.
    """
    if exported.is_exported(path):
        return exported.read(path, device)
    try:  # read whole, because the zip reader raises OSError for a cut file too
        data = io.BytesIO(read_bytes(path, LARGEST))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint file") from None
    except UserError as error:
        raise CheckpointError(f"{error}, a checkpoint") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # about old pickles, which torch refuses anyway
            checkpoint = torch.load(data, map_location=device, weights_only=True)
    except Exception as error:  # garbage can fail anywhere in the zip reader and the unpickler
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The reason comes after torch's advice to load the file anyway.
        named = [line for line in said if "unsupported" in line.lower()]
        reason = (named or said or [type(error).__name__])[0].split(". ")[0][:120]
        raise CheckpointError(f"{path}: not a whole checkpoint of plain tensors and numbers ({reason})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (expected format {FORMAT!r})")
    return checkpoint


def load_weights(path: str | Path, agent: torch.nn.Module) -> tuple[dict, list[str]]:
    """Load those weights of a checkpoint into an agent that fit by name and shape -> (the checkpoint, the others).

    The checkpoint may be of another architecture or size. The others are one line for each of the agent's weights that
    keeps its initial value, which begins with its name, and why. Raises CheckpointError if no weight fits.
    """
    checkpoint = load(path)
    others = []
    with restoring(path, "an agent"):
        saved, own, fitting = checkpoint["agent"], agent.state_dict(), {}
        for name, weight in own.items():
            if name not in saved:
                others.append(f"{name}: not there")
            elif saved[name].shape != weight.shape:
                others.append(f"{name}: {list(saved[name].shape)} there, {list(weight.shape)} here")
            else:
                fitting[name] = saved[name]
        agent.load_state_dict({**own, **fitting})
    if not fitting:
        raise CheckpointError(
            f"{path}: is of architecture {checkpoint.get('architecture')!r:.60}, and no weight in it has the name and "
            "the shape of one of this agent"
        )
    return checkpoint, others


def keys_of(levels: Iterable[Level], more: Iterable[str] | None = ()) -> torch.Tensor | None:
    """`trained_on` of a checkpoint: the levels' `tiles_key` and `more` of them, uint8 [n, 32] without repeats.

    These are the run's training levels, and its validation levels, by which the agent was chosen. Levels that are
    generated while a run trains are not among them: they differ at each renewal, and are kept away from the run's
    validation and test levels when they are made. None if `more` is, which means unknown.
    """
    if more is None:
        return None
    keys = sorted({level.tiles_key for level in levels}.union(more))
    return torch.tensor(np.frombuffer(bytes.fromhex("".join(keys)), np.uint8)).view(-1, 32)


def trained_on(checkpoint: dict) -> frozenset[str] | None:
    """The `tiles_key` of each level that an agent was trained or chosen on. None for a checkpoint that does not say.

    Raises TypeError if the entry is damaged.
    """
    keys = checkpoint.get("trained_on")
    if keys is None:
        return None
    if not isinstance(keys, torch.Tensor) or keys.dtype != torch.uint8 or keys.shape[1:] != (32,):
        raise TypeError("trained_on holds no digests")
    return frozenset(bytes(row).hex() for row in keys.cpu().numpy())


def digest_of(*parts: list[Level]) -> str:
    """SHA-256 (hex) of a run's levels in order. A resumed run must have the same levels."""
    return hashlib.sha256("".join(level.digest for part in parts for level in part).encode()).hexdigest()


def pack(arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    """Store NumPy arrays of any plain dtype as uint8 tensors, each with its dtype and shape."""
    packed = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        flat = np.frombuffer(array.tobytes(), np.uint8)
        packed[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": torch.tensor(flat)}
    return packed


def unpack(packed: dict[str, dict]) -> dict[str, np.ndarray]:
    """The arrays that `pack` stored, as writable copies. Raises KeyError, TypeError or ValueError for anything else."""
    arrays = {}
    for name, entry in packed.items():
        if not re.fullmatch(r"[<>|][biufcV]\d{1,9}", entry["dtype"]):  # NumPy parses other words in many ways
            raise TypeError(f"{name} is not of a plain dtype")
        data = entry["bytes"].cpu().numpy().tobytes()
        arrays[name] = np.frombuffer(data, np.dtype(entry["dtype"])).reshape(entry["shape"]).copy()
    return arrays


@dataclasses.dataclass
class Counters:
    """Counters of a PPO run, which its checkpoints save."""

    global_step: int = 0  # environment steps of all ranks
    renewal: int = 0  # renewals of the training levels
    evaluated_at: int = -1  # step of the newest evaluation
    saved_at: int = -1  # step of the newest latest.pt
    evaluated_share: float = -1.0  # share of the run that was over then
    most_won: list = dataclasses.field(default_factory=list)  # success per validation level, of who won most so far
    minutes: float = 0.0  # the clock's, as are the next two
    ready_minutes: float = 0.0
    evaluation_minutes: float = 0.0

    def evaluation_due(self, args, progress: float) -> bool:
        """Whether the agent is to be evaluated on the validation levels. progress: share of the run that is over.

        This is so at the start, after each of `args.evaluations` equal shares of the run, when the step passes a
        multiple of `args.eval_freq`, and at the end. Runs of one budget are thus compared at the same points. With
        both 0 there are no evaluations. Those of graph networks take as long as a minute of training, so they are few.
        """
        if not (args.evaluations or args.eval_freq) or self.evaluated_at == self.global_step:
            return False
        now, then = (math.floor(args.evaluations * min(max(x, -1), 1) + 1e-9) for x in (progress, self.evaluated_share))
        return progress >= 1 or now > then or self.due(args.eval_freq, self.evaluated_at)

    def due(self, frequency: int, last: int) -> bool:
        """Whether the run reached a multiple of `frequency` steps after step `last`. A frequency of 0 means never."""
        return frequency > 0 and self.global_step // frequency > last // frequency


def counters_from(saved: dict, counters_type=Counters):
    """Counters of a checkpoint. Raises KeyError or TypeError if one is missing, has another type or is out of range."""
    values = {}
    for name, default in vars(counters_type()).items():
        values[name] = value = saved[name]
        numbers = value if isinstance(default, list) else [value]
        kinds = (int, float) if isinstance(default, (float, list)) else type(default)
        if type(value) is list and not isinstance(default, list):
            raise TypeError(f"{name} is a list")
        for number in numbers:
            if not isinstance(number, kinds) or isinstance(number, bool) != isinstance(default, bool):
                raise TypeError(f"{name} holds {number!r:.40}")
            if not abs(number) <= (math.inf if default == math.inf else 2**62):  # not for NaN either
                raise TypeError(f"{name} is out of range")
    return counters_type(**values)


def load_latest(run_dir: Path, args, levels_digest: str, world_size: int, counters_type=Counters) -> tuple:
    """The checkpoint latest.pt and its counters for a resumed run. None and new counters for a run to begin.

    A run that was killed before it trained has no latest.pt, and begins again. Raises CheckpointError if the file of a
    run that has trained is missing, if it cannot be read, or if arguments, levels or number of processes differ, and
    ArgumentError for a changed budget that is used up.
    """
    path = run_dir / LATEST
    if not args.resume:
        return None, counters_type()
    if not path.exists():
        if has_trained(run_dir):
            why = "" if args.save_freq else "--save-freq 0 writes it only at the end; "
            raise CheckpointError(
                f"{path}: is missing, and the run has trained ({why}expected the file to go on, or a new --run-dir)"
            )
        return None, counters_type()
    checkpoint = load(path)
    with restoring(path):
        before = args_from(type(args), checkpoint["args"], str(path))
        make_paths_absolute(before)
        moved = MOVABLE if checkpoint["levels_digest"] == levels_digest else ()
        differences = differences_of(before, args, (*FREE_ARGUMENTS, *budget.BUDGET, *moved))
        for what, old, new in (
            ("the levels' digest", checkpoint["levels_digest"], levels_digest),
            ("the number of processes", len(checkpoint["ranks"]), world_size),
        ):
            differences += [f"{what} was {old!r}, now {new!r}"] if old != new else []
    if differences:
        raise CheckpointError(f"{path}: is of another configuration: {'; '.join(differences)}")
    with restoring(path):
        sizes = checkpoint["log_bytes"]
        if not isinstance(sizes, dict) or not all(type(sizes[name]) is int for name in ("metrics.jsonl", "log.jsonl")):
            raise TypeError("log_bytes is damaged")
        counters = counters_from(checkpoint["counters"], counters_type)
    budget.check(vars(before), args, counters)
    return checkpoint, counters


def has_trained(run_dir: Path) -> bool:
    """Whether a run's folder holds something of a training: metrics, an agent or results. Raises CheckpointError."""
    if (run_dir / "eval_results.json").exists():
        return True
    if (run_dir / BEST).exists():
        best = load(run_dir / BEST)
        with restoring(run_dir / BEST):
            if best["global_step"] > 0:
                return True
    try:
        return b'{"kind": "train"' in read_bytes(run_dir / "metrics.jsonl", LOG_BYTES)
    except FileNotFoundError:
        return False


def restore(checkpoint: dict, run_dir: Path, agent, optimizer, scaler, process, envs=None):
    """Restore weights, optimizer, loss scale, environments and this rank's random generators from a checkpoint.

    Returns the environments' observations or, without environments, the arrays that this rank saved.
    """
    with restoring(run_dir / LATEST):
        agent.load_state_dict(checkpoint["agent"])
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(checkpoint["optimizer"])
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            if isinstance(rate, torch.Tensor):  # which the script fills
                group["lr"] = rate.fill_(float(group["lr"]))
        scaler.load_state_dict(checkpoint["scaler"])
        own = checkpoint["ranks"][process.rank]
        torch.set_rng_state(own["torch_rng"].cpu())
        if process.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda_rng"].cpu())
        arrays = unpack(own["arrays"])
        return arrays if envs is None else envs.set_state(arrays)


def save_latest(run_dir: Path, state: dict, counters, arrays: dict[str, np.ndarray], process, run_log) -> None:
    """Write latest.pt, everything that a resumed run needs. All ranks call it, and only rank 0 has a `run_log`.

    state: what all ranks have in common. arrays: what this rank has of its own, besides its random generators.
    """
    own = {"arrays": pack(arrays), "torch_rng": torch.get_rng_state()}
    if process.device.type == "cuda":
        own["cuda_rng"] = torch.cuda.get_rng_state()
    ranks = [own] * process.world_size
    if process.world_size > 1:
        dist.gather_object(own, ranks if process.rank == 0 else None)
    if run_log is not None:
        more = {"ranks": ranks, "log_bytes": run_log.sizes(), "counters": dataclasses.asdict(counters)}
        save(run_dir / LATEST, {**state, **more})


def load_best(run_dir: Path, agent: torch.nn.Module, device: torch.device) -> dict:
    """Load best.pt on rank 0 and share its weights with all ranks. Rank 0 returns the checkpoint, others {}."""
    best = {}
    if not dist.is_initialized() or dist.get_rank() == 0:
        best = load(run_dir / BEST, device)
        with restoring(run_dir / BEST):
            agent.load_state_dict(best["agent"])
    if dist.is_initialized():
        for tensor in agent.state_dict().values():
            dist.broadcast(tensor, 0)
    return best


@contextlib.contextmanager
def restoring(path: str | Path, what: str = "this run"):
    """Context that raises CheckpointError if its body fails because the content of `path` does not fit."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointError(f"{path}: does not fit {what} ({reason})") from error
