"""Checkpoints and the folders of runs.

A checkpoint is one dict of tensors, numbers, strings, lists and dicts, which `torch.load(weights_only=True)` admits, so
that nothing in a file is ever executed. Files are written beside their final name and renamed: a crash leaves either
the old file or the new one.
"""

import atexit
import contextlib
import fcntl
import io
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from npp_rl.commands import CheckpointError
from npp_rl.files import write_atomically
from npp_rl.training.arguments import args_from, differences_of

FORMAT = "npp-rl checkpoint 1"


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


def load_latest(path: Path, args, levels_digest: str, processes: int) -> dict | None:
    """The checkpoint that a resumed run continues from; None where the run ended before it had saved one.

    Raises CheckpointError for a checkpoint that cannot be read or is of other arguments, levels or processes.
    """
    if not path.exists():
        return None
    checkpoint = load(path)
    with restoring(path):
        differences = differences_of(args_from(type(args), checkpoint["args"], str(path)), args)
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
