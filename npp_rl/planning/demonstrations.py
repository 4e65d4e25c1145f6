"""Demonstrations: the data set of runs that win their level, with what the agent saw, for behavioural cloning.

    python -m npp_rl.planning.demonstrations FOLDER... [--frame-skip 4] [--convert OUT] [--json FILE]

reports of every run in the replay files whether it can be used to train on, and if not why:

- used            it wins in the environment, with actions held for `frame_skip` frames
- broken          the file, its map or an input byte is not what PHYSICS.md 7 and 9 say
- died, unfinished  it does not win
- duplicate       the same inputs on the same level were there before
- held out        its level is one of the test suite or a mirror image of one: training on it would be a leak
- not executable  no held actions were found that win, or the environment's time limit ends the run before

runs.py finds the runs. `load_demonstrations` makes the data set: observations, actions and returns of all steps.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from npp_rl.commands import ArgumentError, command
from npp_rl.environment.games import inputs_of
from npp_rl.files import plain_name, write_json
from npp_rl.levels.datasets import held_share, load_levels, split_by_tiles, tiles_and_mirrored_tiles
from npp_rl.levels.maps import Level
from npp_rl.levels.replays import write_replay
from npp_rl.planning.runs import (
    DemonstrationError,
    Run,
    find_runs,
    kept,
    play_runs,
    report_of,
    source_stamp,
    summary,
    table,
)
from npp_rl.simulator import simulate
from npp_rl.simulator.layout import DEATH_BALL, FLOOR_GUARD, MINI_DRONE, THWUMP, ZAP_DRONE
from npp_rl.training.arguments import check_args

MOVE_ALONE = (ZAP_DRONE, FLOOR_GUARD, THWUMP, DEATH_BALL, MINI_DRONE)
STILL = 0.25  # px in a step: less is no movement


@dataclasses.dataclass
class Demonstrations:
    """The steps of all runs, one run after the other; a run's rows are in order.

    obs: arrays [N, ...] by observation; of `player_frames` only the newest picture, uint8 [N, 84, 84], so read rows by
    `rows`, which stacks them. actions int64 [N]. returns float32 [N]: the discounted return from each step on, under
    the environment's own reward. level int32 [N]: index into `levels`. first int64 [N]: first row of the run. idle bool
    [N]: rows that `split` leaves out, because nothing happens in the step (see `idle_steps`), or because it leads to
    the state from which the planner played on (relabel.py).
    """

    obs: dict[str, np.ndarray]
    actions: np.ndarray
    returns: np.ndarray
    level: np.ndarray
    first: np.ndarray
    idle: np.ndarray
    levels: list[Level]
    origins: list[str]  # of each level, see Run
    frame_stack: int
    report: dict  # see `report_of`

    def __len__(self) -> int:
        return len(self.actions)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Observations [len(indices), ...] as the environment gives them."""
        rows = {}
        for name, array in self.obs.items():
            if name == "player_frames":  # oldest first; a run begins with copies of its first picture
                back = np.arange(1 - self.frame_stack, 1)
                rows[name] = array[np.maximum(indices[:, None] + back, self.first[indices, None])]
            else:
                rows[name] = array[indices]
        return rows

    def split(self, fraction: float, held_out: Sequence[Level] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Rows (training, validation), int64: about `fraction` of the levels are held out, never single steps.

        The same levels are taken as in `datasets.load_split`, and a mirror image goes with its original. No row of a
        mirror image is in the validation part, and no training row is of a level that has the tiles of a validation
        level or of one in `held_out`, or their mirror image.
        """
        held = np.array([held_share(origin) < fraction for origin in self.origins], bool)
        refused = [level for level, out in zip(self.levels, held, strict=True) if out]
        refused = tiles_and_mirrored_tiles([*refused, *held_out])
        out = np.array([level.tiles_digest in refused for level in self.levels], bool)
        own = np.array([level.tiles_digest == o for level, o in zip(self.levels, self.origins, strict=True)], bool)
        held, out, own = held[self.level], out[self.level], own[self.level]
        return np.flatnonzero(~out & ~self.idle), np.flatnonzero(held & own & ~self.idle)


def load_demonstrations(
    folders: Iterable[str | Path],
    held_out: Sequence[Level],
    observations: Sequence[str],
    frame_skip: int = 4,
    gamma: float = 0.99,
    frame_stack: int = 1,
    cache: str | Path | None = None,
    mirror: bool = False,
    keep_idle: bool = False,
) -> Demonstrations:
    """The data set of all usable runs in the folders; arguments as those of `find_runs` and of the environment.

    keep_idle: no step counts as idle. Raises DemonstrationError, with counts and reasons, where no run can be used.
    """
    folders = [str(folder) for folder in folders]
    runs, verdicts = find_runs(folders, held_out, frame_skip, mirror, cache)
    report = report_of(runs, verdicts, frame_skip)
    if not runs:
        raise DemonstrationError(f"{', '.join(folders)}: no usable demonstration among {summary(report)}")
    contents = hashlib.sha256(f"{source_stamp()} {frame_skip} {gamma} {sorted(observations)}".encode())
    for run in runs:
        contents.update(bytes.fromhex(run.level.digest) + hashlib.sha256(run.actions.tobytes()).digest())
    name = f"data-{contents.hexdigest()[:32]}"
    arrays = kept(cache, name, lambda: _observe_all(runs, observations, frame_skip, gamma))
    lengths = np.array([len(run.actions) for run in runs])
    digests = list(dict.fromkeys(run.level.digest for run in runs))
    by_digest = {run.level.digest: run for run in reversed(runs)}
    index = {digest: k for k, digest in enumerate(digests)}
    return Demonstrations(
        obs={name: arrays[f"obs_{name}"] for name in observations},
        actions=np.concatenate([run.actions for run in runs]).astype(np.int64),
        returns=arrays["returns"],
        level=np.repeat([index[run.level.digest] for run in runs], lengths).astype(np.int32),
        first=np.repeat(np.cumsum(lengths) - lengths, lengths),
        idle=arrays["idle"] & (not keep_idle)
        | np.concatenate([np.arange(n) < run.begin for n, run in zip(lengths, runs, strict=True)]),
        levels=[by_digest[digest].level for digest in digests],
        origins=[by_digest[digest].origin for digest in digests],
        frame_stack=frame_stack,
        report=report,
    )


def _observe_all(runs, observations, frame_skip, gamma):
    """Observations and returns of all steps. The arrays are filled run by run, so that memory holds nothing twice."""
    total = sum(len(run.actions) for run in runs)
    arrays = {"returns": np.zeros(total, np.float32)}
    arrays["idle"] = np.concatenate([idle_steps(run.level, run.actions, frame_skip) for run in runs])
    pairs = [(run.level, run.actions) for run in runs]
    at = 0
    for won, rows, rewards in play_runs(pairs, observations, frame_skip, gamma):
        assert won, "a run that has won before"
        for name, values in rows.items():
            if f"obs_{name}" not in arrays:
                arrays[f"obs_{name}"] = np.zeros((total, *values.shape[1:]), values.dtype)
            arrays[f"obs_{name}"][at : at + len(values)] = values
        arrays["returns"][at : at + len(rewards)] = discounted(rewards, gamma)
        at += len(rewards)
    return arrays


def idle_steps(level: Level, actions: np.ndarray, frame_skip: int) -> np.ndarray:
    """Steps, bool [len(actions)], in which no key is held and the ninja is at rest or has not been moved yet.

    In such a step a person thinks. An agent that learns it would wait for ever, since its observation does not change.
    In a level with things that move by themselves no step is idle: waiting for them may be right.
    """
    if set(level.entities[1:, 0].tolist()) & set(MOVE_ALONE):
        return np.zeros(len(actions), bool)
    path, _ = simulate(level.map_data, inputs_of(actions, frame_skip))
    ends = path[np.minimum(np.arange(1, len(actions) + 1) * frame_skip, len(path)) - 1, :2]
    starts = np.concatenate([[level.spawn], ends[:-1]])
    still = np.abs(ends - starts).max(1) < STILL
    return (actions == 0) & (still | (np.cumsum(actions != 0) == 0))


def discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted sums float32 [n] of the rewards from each step to the end of the run."""
    returns = np.zeros(len(rewards))
    after = 0.0
    for t in reversed(range(len(rewards))):
        returns[t] = after = rewards[t] + gamma * after
    return returns.astype(np.float32)


def convert(runs: Sequence[Run], folder: Path, frame_skip: int) -> None:
    """Write each run as a compact replay, version 1, into a new folder. Raises DemonstrationError, OSError."""
    if folder.exists() and any(folder.iterdir()):
        raise DemonstrationError(f"{folder}: is not empty, expected a new folder for the replays")
    for number, run in enumerate(runs):
        place = folder / run.level.category
        place.mkdir(parents=True, exist_ok=True)
        inputs = inputs_of(run.actions, frame_skip)
        frames = len(simulate(run.level.map_data, inputs)[1])
        name = f"{number:05}_{plain_name(Path(run.source).stem)[:80]}.replay"
        write_replay(place / name, run.level.map_data, inputs[:frames], True)


@dataclasses.dataclass
class Args:
    """Report which runs can be used to train on."""

    folders: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER ...", help_behavior_hint="(at least one)"),
    ]
    """folders of replay files, or files"""
    frame_skip: int = 4
    """frames that an action is held (1: as recorded)"""
    test_dataset: str = "builtin"
    """levels that no run may be on: builtin, a folder, or none"""
    holdout_fraction: float | None = None
    """share of the folder of --test-dataset that is the test suite (default: all of it)"""
    mirror: bool = False
    """add the mirror images of the runs"""
    cache: Path | None = None
    """folder that keeps the results"""
    convert: Path | None = None
    """new folder that the used runs are written to as replays"""
    json: Path | None = None
    """JSON file that the verdicts are written to as well"""


def main(args: Args) -> None:
    """Report on runs. Raises ArgumentError, DemonstrationError, LevelError, OSError."""
    if not args.folders:
        raise ArgumentError("FOLDER: expected folders of replay files, or files")
    check_args(args)
    held_out = []
    if args.test_dataset == "builtin":
        held_out = load_levels("builtin", "test")
    elif args.test_dataset != "none":
        held_out = load_levels(args.test_dataset)
        if args.holdout_fraction is not None:
            held_out = split_by_tiles(held_out, args.holdout_fraction)[1]
    runs, verdicts = find_runs(args.folders, held_out, args.frame_skip, args.mirror, args.cache)
    report = report_of(runs, verdicts, args.frame_skip)
    print(table(report))
    if args.convert:
        convert(runs, args.convert, args.frame_skip)
    if args.json:
        write_json(args.json, {**report, "verdicts": verdicts})


if __name__ == "__main__":
    command(main, Args)
