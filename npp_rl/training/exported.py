"""Exported agents: folders that `python -m npp_rl.export` writes, to be given to other people and programs.

An exported agent is a folder with

- `config.json`: architecture, arguments and shapes, and under `files` the sha256 of each other file;
- `model.safetensors`: the weights;
- `trained_on.txt`: the `tiles_key` of each level that the agent was trained or chosen on, one a line, if known;
- `README.md`: the model card;
- `policy.onnx`: the policy for other programs, if it was asked for.

`zoo:NAME` stands for the agent NAME that this package carries (`npp_rl/zoo/NAME`), else for a fetched one in the folder
that the environment variable NPP_ZOO names (default: `zoo` here).
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from npp_rl.commands import ArgumentError, CheckpointError, UserError, at_end
from npp_rl.files import plain_name, read_bytes, read_json, shown_name, write_atomically

FORMAT = "npp-rl agent 1"
CONFIG, WEIGHTS, SEEN, CARD, POLICY = "config.json", "model.safetensors", "trained_on.txt", "README.md", "policy.onnx"
FILES = (WEIGHTS, SEEN, CARD, POLICY)  # all that a config.json may list
NEEDED = (WEIGHTS, CARD)
LARGEST = 4 << 30  # most bytes of a file
PREFIX = "zoo:"
CARRIED = Path(__file__).parents[1] / "zoo"  # folder of the agents that the package carries
NAME = r"[A-Za-z0-9_-]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-])?"  # of an agent in a zoo: it becomes a folder's name


def zoo_folder() -> Path:
    """Folder of the fetched agents."""
    return Path(os.environ.get("NPP_ZOO") or "zoo")


def is_exported(path: str | Path) -> bool:
    """Whether a path names an exported agent rather than a checkpoint file: a folder or `zoo:NAME`."""
    return str(path).startswith(PREFIX) or os.path.isdir(path)  # noqa: PTH112  (False for a null character)


def folder_of(path: str | Path) -> Path:
    """The folder of an exported agent, of `zoo:NAME` too. Raises CheckpointError for an unknown NAME."""
    text = str(path)
    if not text.startswith(PREFIX):
        return Path(path)
    name = text.removeprefix(PREFIX)
    if re.fullmatch(NAME, name):
        for place in (CARRIED, zoo_folder()):
            if (place / name / CONFIG).is_file():
                return place / name
    raise CheckpointError(f"{shown_name(text)}: no such agent (python -m npp_rl.zoo lists them, and fetches others)")


def read_config(folder: Path) -> dict:
    """The config.json of an exported agent. Raises CheckpointError if it is none; its files are not looked at."""
    try:
        config = read_json(folder / CONFIG)
    except OSError:
        raise CheckpointError(
            f"{folder}: no exported agent (expected a folder with {CONFIG} and {WEIGHTS}, or a checkpoint file)"
        ) from None
    except UserError as error:
        raise CheckpointError(f"{error}, of an exported agent") from None
    check_config(config, str(folder / CONFIG))
    return config


def check_config(config: dict, place: str) -> None:
    """Raise CheckpointError, which names `place`, if a config.json is not an exported agent's or lacks a hash."""
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{place}: not an exported agent's (expected format {FORMAT!r}, or a file such as "
            "RUN_DIR/checkpoints/best.pt)"
        )
    files = config.get("files")
    for name in NEEDED:
        if not isinstance(files, dict) or name not in files:
            raise CheckpointError(f"{place}: expected the sha256 of {name} in `files`")
    for name, sha256 in files.items():
        if name not in FILES:
            raise CheckpointError(f"{place}: lists {name!r:.60}, expected only {', '.join(FILES)}")
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise CheckpointError(f"{place}: the sha256 of {name} is {sha256!r:.60}, expected 64 hexadecimal digits")


def read_file(folder: Path, config: dict, name: str) -> bytes:
    """The content of a file of an exported agent. Raises CheckpointError if it is missing or its sha256 differs."""
    path = folder / name
    try:
        data = read_bytes(path, LARGEST)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror} ({folder / CONFIG} lists it)") from None
    except UserError as error:
        raise CheckpointError(str(error)) from None
    check_content(data, config["files"][name], str(path))
    return data


def check_content(data: bytes, sha256: str, place: str) -> None:
    """Raise CheckpointError if `data` has another sha256."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{place}: its sha256 is {found[:12]}..., but {CONFIG} has {sha256[:12]}... (expected an unchanged file)"
        )


def check(folder: Path) -> dict:
    """Check the hashes of all files of an exported agent -> its config.json. Raises CheckpointError."""
    config = read_config(folder)
    for name in config["files"]:
        read_file(folder, config, name)
    return config


def check_new(folder: Path, flag: str = "") -> None:
    """Raise ArgumentError, which begins with `flag`, if something is at the place of a new folder."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise ArgumentError(f"{flag}{shown_name(str(folder))}: is there already (expected a new folder)")


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files as the new folder `folder`, which appears when all are there. Raises ArgumentError, OSError."""
    check_new(folder)
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{plain_name(folder.name)}.", suffix=".tmp", dir=parent))
    at_end(shutil.rmtree, place, True)
    try:
        for name, data in files.items():
            write_atomically(place / name, data)
        place.chmod(0o755)  # mkdtemp makes it private
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def read(path: str | Path, device: str | torch.device = "cpu") -> dict:
    """An exported agent as a checkpoint (see checkpoints.py), with its tensors on `device`. Raises CheckpointError.

    It has all that a best.pt has. Nothing in the folder is executed.
    """
    folder = folder_of(path)
    config = read_config(folder)
    data = read_file(folder, config, WEIGHTS)
    try:
        weights = safetensors.torch.load(data)
    except Exception as error:  # it has no common type for damaged headers
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise CheckpointError(f"{folder / WEIGHTS}: not a whole safetensors file ({reason})") from error
    seen = None
    if SEEN in config["files"]:
        lines = read_file(folder, config, SEEN).decode(errors="replace").split()
        if not all(re.fullmatch("[0-9a-f]{64}", line) for line in lines):
            raise CheckpointError(f"{folder / SEEN}: expected 64 hexadecimal digits a line")
        seen = torch.tensor(np.frombuffer(bytes.fromhex("".join(lines)), np.uint8)).view(-1, 32)
    return {**config, "agent": {name: tensor.to(device) for name, tensor in weights.items()}, "trained_on": seen}
