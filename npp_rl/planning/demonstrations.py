"""Demonstrations: runs that win their level, as actions that the environment executes, with what the agent saw.

    python -m npp_rl.planning.demonstrations FOLDER... [--frame-skip 4] [--convert OUT] [--json FILE]

says of every run in the replay files whether it can be used to train on, and if not why:

- used            it wins in the environment, with actions held for `frame_skip` frames
- broken          the file, its map or an input byte is not what PHYSICS.md 7 and 9 say
- died, unfinished  it does not win
- duplicate       the same inputs on the same level were there before
- held out        its level has the tiles of a level of the test suite: training on it would be a leak
- not executable  no held actions were found that win, or the environment's time limit ends the run before

Runs of people change their inputs in any frame; held_actions.py brings them to the agent's grid. Nothing is believed:
every run that is used has been played in the environment with its actions, and has won.

`load_demonstrations` gives the data set for training: observations, actions and returns of all steps.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from npp_rl.commands import LevelError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import ACTIONS
from npp_rl.files import write_atomically
from npp_rl.levels.categories import CATEGORIES, UNCATEGORIZED
from npp_rl.levels.datasets import held_share, load_levels, split_by_tiles, tiles_and_mirrored_tiles
from npp_rl.levels.maps import TILES_AT, Level, map_title, mirrored
from npp_rl.levels.replays import ReplayError, encode_replay, validate_files
from npp_rl.planning import held_actions
from npp_rl.planning.held_actions import fit, held_inputs, on_grid
from npp_rl.simulator import compiled, simulate
from npp_rl.simulator.layout import DEATH_BALL, FLOOR_GUARD, MINI_DRONE, THWUMP, ZAP_DRONE

RELABELLED = "relabelled.json"  # in a folder of relabel.py: how many steps of each replay are not to be learned
VERDICTS = ("used", "broken", "died", "unfinished", "duplicate", "held out", "not executable")
FAILURES = ("", "no held actions were found that win", "lost or out of time in the environment")
MIRRORED_ACTIONS = np.array([0, 2, 1, 3, 5, 4], np.uint8)  # left and right exchanged
UNKNOWN_BITS = 0xF0  # of an input byte (PHYSICS.md 7)
GAMES = 256  # that are played at once
MOVE_ALONE = (ZAP_DRONE, FLOOR_GUARD, THWUMP, DEATH_BALL, MINI_DRONE)
STILL = 0.25  # px of a step: less is no movement


class DemonstrationError(LevelError):
    """Replays of which none can be used; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that wins its level in the environment."""

    level: Level
    actions: np.ndarray  # u1 [steps], held for frame_skip frames each
    origin: str  # digest of the tiles of the level that it was recorded on, which its mirror image shares
    source: str  # file, and part of it
    fitted: bool = False  # whether its actions had to be searched for
    agreement: float = 1.0  # share of the recorded frames with the recorded action
    begin: int = 0  # steps before the first that is to be learned (relabel.py)


@dataclasses.dataclass
class Demonstrations:
    """Steps of runs, one after the other; a run's rows are in order.

    obs: arrays [N, ...] by observation, but `player_frames` uint8 [N, 84, 84] holds the newest picture only: read rows
    by `rows`, which stacks them. actions int64 [N]. returns float32 [N]: the discounted return from each step on under
    the environment's own reward. level int32 [N]: index into `levels`. first int64 [N]: first row of the run. idle bool
    [N]: nothing happens in the step (see `idle_steps`), or it leads to a state from which the planner played on
    (relabel.py); `split` and `minibatch` leave such rows out.
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
            if name == "player_frames":  # oldest first; before a run's start its first picture stands
                back = np.arange(1 - self.frame_stack, 1)
                rows[name] = array[np.maximum(indices[:, None] + back, self.first[indices, None])]
            else:
                rows[name] = array[indices]
        return rows

    def minibatch(self, rng: np.random.Generator, size: int) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
        """Random steps, with replacement: observations, actions int64, returns float32, level int32, [size, ...]."""
        busy = np.flatnonzero(~self.idle)
        indices = busy[rng.integers(len(busy), size=size)]
        return self.rows(indices), self.actions[indices], self.returns[indices], self.level[indices]

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


def find_runs(
    folders: Iterable[str | Path],
    held_out: Sequence[Level] = (),
    frame_skip: int = 4,
    mirror: bool = False,
    cache: str | Path | None = None,
) -> tuple[list[Run], list[dict]]:
    """Runs to train on, and a verdict (see VERDICTS) on each run in the files: file, verdict, reason, steps.

    held_out: levels, such as those of the test suite, whose tiles no run may have. mirror: adds the mirror images, as
    far as they win too. cache: folder that keeps what was found. Raises DemonstrationError where nothing is to be read.
    """
    folders = list(folders)
    try:
        judged = validate_files(folders)
    except ReplayError as error:
        raise DemonstrationError(str(error)) from None
    relabelled = {path: begin for folder in folders for path, begin in _relabelled(Path(folder), frame_skip)}
    refused = {level.tiles_digest for level in held_out}
    verdicts, candidates, begins, seen = [], [], [], {}
    for judgement in judged:
        good = judgement.repaired or judgement
        if good.repaired and good.repaired.verdict == "won":  # two repairs
            good = good.repaired
        replay = good.replay
        source = str(replay.path) + (f" [{replay.part}]" if replay.part else "")
        verdict, reason = good.verdict, judgement.reason
        unknown = next((t for t, b in enumerate(replay.inputs) if b & UNKNOWN_BITS), None)
        if unknown is not None:
            verdict = "broken"
            reason = f"input byte {replay.inputs[unknown]} in frame {unknown + 1}: expected 0 to 15"
        if verdict == "won":
            level = _level_of(replay)
            key = hashlib.sha256(level.map_data[TILES_AT:] + bytes(b & 7 for b in replay.inputs)).digest()
            if refused & {level.tiles_digest, mirrored(level).tiles_digest}:
                verdict, reason = "held out", "its level is in the test suite"
            elif key in seen:
                verdict, reason = "duplicate", f"the same run again: {seen[key]}"
            else:
                seen[key] = source
                candidates.append((len(verdicts), level, replay.inputs))
                begins.append(relabelled.get(replay.path.resolve(), 0))
        verdicts.append({"file": source, "verdict": verdict, "reason": reason, "steps": 0})

    contents = hashlib.sha256(f"{_stamp()} {frame_skip} {mirror}".encode())
    for _, level, inputs in candidates:
        contents.update(bytes.fromhex(level.digest) + hashlib.sha256(inputs).digest())
    table = _kept(cache, f"runs-{contents.hexdigest()[:32]}", lambda: _fit_all(candidates, frame_skip, mirror))
    starts = np.cumsum(table["lengths"]) - table["lengths"]
    runs = []
    for k, (at, level, inputs) in enumerate(candidates):
        for turned in range(1 + mirror):
            entry = 2 * k + turned
            actions = table["actions"][starts[entry] : starts[entry] + table["lengths"][entry]]
            if not turned:
                verdicts[at]["steps"] = len(actions)
                if not len(actions):
                    verdicts[at] |= {"verdict": "not executable", "reason": FAILURES[table["failures"][entry]]}
                else:
                    verdicts[at]["verdict"] = "used"
            if not len(actions):
                continue
            held = np.repeat(MIRRORED_ACTIONS[actions] if turned else actions, frame_skip)[: len(inputs)]
            recorded = on_grid(inputs, 1)[: len(held)]
            own = mirrored(level) if turned else level
            agreement = float((held == recorded).mean())
            fitted = on_grid(inputs, frame_skip) is None
            begin = min(begins[k], len(actions))
            runs.append(Run(own, actions, level.tiles_digest, verdicts[at]["file"], fitted, agreement, begin))
    return runs, verdicts


def _relabelled(folder, frame_skip):
    """(file, steps that are not to be learned) of the replays in a folder of relabel.py; none of any other folder."""
    path = folder / RELABELLED
    try:
        index = json.loads(path.read_bytes())
        frames = {str(name): int(index["frame_skip"]) * int(steps) for name, steps in index["steps"].items()}
        if min(frames.values(), default=0) < 0:
            raise ValueError("steps below 0")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DemonstrationError(f"{path}: damaged ({error}), expected what relabel.py writes") from None
    return [((folder / name).resolve(), -(-frame // frame_skip)) for name, frame in frames.items()]


def _level_of(replay):
    category = replay.path.parent.name if replay.path.parent.name in CATEGORIES else UNCATEGORIZED
    return Level(replay.map_data, replay.path.stem + replay.part, category, map_title(replay.map_data))


def _fit_all(candidates, frame_skip, mirror):
    """Actions of all candidates and of their mirror images, none where they do not win: arrays to keep."""
    tried = []
    for _, level, inputs in candidates:
        actions = fit(level.map_data, inputs, frame_skip)
        tried.append((level, actions))
        tried.append((mirrored(level), MIRRORED_ACTIONS[actions]) if mirror and actions is not None else (level, None))
    failures = np.array([actions is None for _, actions in tried], np.uint8)
    at = np.flatnonzero(failures == 0)
    pairs = [tried[k] for k in at]
    for k, played in zip(at, play_runs(pairs, ("game_state",), frame_skip), strict=True):
        if not played[0]:
            tried[k], failures[k] = (tried[k][0], None), 2
    kept = [np.zeros(0, np.uint8) if actions is None else actions for _, actions in tried]
    return {
        "lengths": np.array([len(actions) for actions in kept], np.int64),
        "actions": np.concatenate([np.zeros(0, np.uint8), *kept]),
        "failures": failures,
    }


def play_runs(
    runs: Sequence[tuple[Level, np.ndarray]],
    observations: Sequence[str],
    frame_skip: int = 4,
    gamma: float = 0.99,
) -> Iterator[tuple[bool, dict[str, np.ndarray], np.ndarray]]:
    """Play actions u1 [steps] on their levels in the environment, many at once, in the order given.

    Yields whether the run wins with its last action, the observations [steps, ...] before each action (of
    `player_frames` the newest picture) and the rewards float32 [steps].
    """
    for start in range(0, len(runs), GAMES):
        group = runs[start : start + GAMES]
        envs = NppVectorEnv(
            num_envs=len(group),
            levels=[level for level, _ in group],
            observations=observations,
            frame_skip=frame_skip,
            frame_stack=1,
            gamma=gamma,
            autoreset=False,
            copy=False,
            seed=0,
        )
        steps = np.array([len(actions) for _, actions in group])
        table = np.zeros((steps.max(), len(group)), np.int64)
        for game, (_, actions) in enumerate(group):
            table[: steps[game], game] = actions
        spaces = envs.single_observation_space.spaces
        seen = [{k: np.zeros((n, *space.shape), space.dtype) for k, space in spaces.items()} for n in steps]
        rewards = [np.zeros(n, np.float32) for n in steps]
        ended, won = np.zeros(len(group), np.int64), np.zeros(len(group), bool)
        obs, _ = envs.reset(options={"levels": np.arange(len(group))})
        for step, actions in enumerate(table):
            playing = np.flatnonzero(step < steps)
            for game in playing:
                for name, rows in seen[game].items():
                    rows[step] = obs[name][game]
            obs, reward, terminated, truncated, infos = envs.step(actions)
            for game in playing:
                rewards[game][step] = reward[game]
            over = (terminated | truncated) & (ended == 0)  # a game goes on after its end, and is not looked at
            if over.any():
                ended[over] = step + 1
                won[over] = infos["episode"]["success"][over]
        envs.close()
        for game in range(len(group)):
            rows = {k: v[:, 0] if k == "player_frames" else v for k, v in seen[game].items()}
            yield bool(won[game] and ended[game] == steps[game]), rows, rewards[game]
            seen[game] = None


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
    """The data set of all usable runs in the folders; arguments as in `find_runs` and of the environment.

    keep_idle: no step counts as idle.

    Raises DemonstrationError, with the counts and reasons, where no run can be used.
    """
    folders = [str(folder) for folder in folders]
    runs, verdicts = find_runs(folders, held_out, frame_skip, mirror, cache)
    report = report_of(runs, verdicts, frame_skip)
    if not runs:
        raise DemonstrationError(f"{', '.join(folders)}: no usable demonstration among {summary(report)}")
    contents = hashlib.sha256(f"{_stamp()} {frame_skip} {gamma} {sorted(observations)}".encode())
    for run in runs:
        contents.update(bytes.fromhex(run.level.digest) + hashlib.sha256(run.actions.tobytes()).digest())
    name = f"data-{contents.hexdigest()[:32]}"
    arrays = _kept(cache, name, lambda: _observe_all(runs, observations, frame_skip, gamma))
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
    """Observations and returns of all steps; the arrays are filled run by run, so that nothing is held twice."""
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

    Somebody thinks about what to do, or wakes up. An agent whose observation does not change would wait for ever. No
    step is idle where things move by themselves, since it may be well to wait for them.
    """
    if set(level.entities[1:, 0].tolist()) & set(MOVE_ALONE):
        return np.zeros(len(actions), bool)
    path, _ = simulate(level.map_data, held_inputs(actions, frame_skip))
    ends = path[np.minimum(np.arange(1, len(actions) + 1) * frame_skip, len(path)) - 1, :2]
    starts = np.concatenate([[level.spawn], ends[:-1]])
    still = np.abs(ends - starts).max(1) < STILL
    return (actions == 0) & (still | (np.cumsum(actions != 0) == 0))


def discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted sums float32 [n] of the rewards from each step to the run's end."""
    returns = np.zeros(len(rewards))
    after = 0.0
    for t in reversed(range(len(rewards))):
        returns[t] = after = rewards[t] + gamma * after
    return returns.astype(np.float32)


def _stamp():
    """Changes with the code that what is kept depends on."""
    own = [Path(module).read_bytes() for module in (__file__, held_actions.__file__)]
    return compiled.source_stamp() + hashlib.sha256(b"".join(own)).hexdigest()


def _kept(cache, name, make):
    """Arrays that `make` gives, from CACHE/<name>.npz where it holds them; a damaged file is made anew, and said."""
    if cache is None:
        return make()
    path = Path(cache) / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        if arrays.pop("digest").item() != _digest(arrays):
            raise ValueError("its content was changed")
        return arrays
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        print(f"{path}: damaged ({' '.join(str(error).split())[:100]}), made anew", file=sys.stderr)
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for key, array in {**arrays, "digest": np.array(_digest(arrays))}.items():
            with file.open(f"{key}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    write_atomically(path, buffer.getvalue())
    return arrays


def _digest(arrays):
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data.cast("B") if arrays[key].size else b"")
    return digest.hexdigest()


def report_of(runs: Sequence[Run], verdicts: Sequence[dict], frame_skip: int) -> dict:
    """Plain values for JSON: counts of verdicts, reasons with counts, figures of the runs, steps of each action."""
    actions = np.concatenate([np.zeros(0, np.uint8), *(run.actions[run.begin :] for run in runs)])
    counts = Counter(v["verdict"] for v in verdicts)
    reasons = Counter((v["verdict"], _kind(v["reason"])) for v in verdicts if v["verdict"] != "used")
    fitted = [run for run in runs if run.fitted]
    balance = np.bincount(actions, minlength=len(ACTIONS)) / max(len(actions), 1)
    mirrored_runs = sum(run.level.tiles_digest != run.origin for run in runs)
    return {
        "counts": {name: counts[name] for name in VERDICTS},
        "reasons": [{"verdict": v, "reason": r, "count": n} for (v, r), n in reasons.most_common()],
        "runs": len(runs),
        "mirrored": mirrored_runs,
        "fitted": len(fitted),
        "agreement": float(np.mean([run.agreement for run in fitted])) if fitted else None,
        "levels": len({run.level.digest for run in runs}),
        "steps": len(actions),
        "frame_skip": frame_skip,
        "actions": {name: float(share) for name, share in zip(ACTIONS, balance, strict=True)},
    }


def _kind(reason):
    """A reason without what differs from run to run: what follows a colon, and numbers."""
    return re.sub(r"\d+", "N", re.split("[:;]", reason)[0])


def summary(report: dict) -> str:
    """One line: how many runs, and what became of them."""
    counts = {name: count for name, count in report["counts"].items() if count}
    reasons = [f"{entry['count']} {entry['verdict']}" + (f" ({entry['reason']})" if entry["reason"] else "")
               for entry in report["reasons"]]  # fmt: skip
    used = [f"{counts['used']} used"] if counts.get("used") else []
    return f"{sum(counts.values())} runs: {', '.join(used + reasons)}"


def table(report: dict) -> str:
    """Lines for people: verdicts with reasons, figures, balance of the actions."""
    lines = [f"{'verdict':14}  runs  reason", f"{'used':14}  {report['counts']['used']:4}"]
    lines += [f"{entry['verdict']:14}  {entry['count']:4}  {entry['reason']}".rstrip() for entry in report["reasons"]]
    agreement = "" if report["agreement"] is None else f" (same action in {report['agreement']:.0%} of the frames)"
    lines += [
        "",
        f"{report['runs']} runs ({report['mirrored']} of them mirror images) on {report['levels']} levels, "
        f"{report['steps']:,} steps of {report['frame_skip']} frames; {report['fitted']} brought to held actions"
        f"{agreement}",
        "actions: " + ", ".join(f"{name} {share:.1%}" for name, share in report["actions"].items()),
    ]
    return "\n".join(lines)


def convert(runs: Sequence[Run], folder: Path, frame_skip: int) -> None:
    """Write each run as a compact replay, version 1, into a new folder; OSError or DemonstrationError."""
    if folder.exists() and any(folder.iterdir()):
        raise DemonstrationError(f"{folder}: is not empty, expected a new folder for the replays")
    for number, run in enumerate(runs):
        place = folder / run.level.category
        place.mkdir(parents=True, exist_ok=True)
        inputs = held_inputs(run.actions, frame_skip)
        frames = len(simulate(run.level.map_data, inputs)[1])
        name = f"{number:05}_{Path(run.source).stem[:80]}.replay"
        write_atomically(place / name, encode_replay(run.level.map_data, inputs[:frames], True))


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when it could report, else 2 after one line on stderr."""

    def fail(message: str):
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    parser = argparse.ArgumentParser(
        prog="python -m npp_rl.planning.demonstrations", description="Say which runs can be used."
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders of replay files, or files")
    parser.add_argument("--frame-skip", type=int, default=4, help="frames that an action is held (1: as recorded)")
    parser.add_argument("--test-dataset", default="builtin", help="levels that no run may be of (none: refuse nothing)")
    parser.add_argument("--holdout-fraction", type=float, help="of a folder, only this share is the test suite")
    parser.add_argument("--mirror", action="store_true", help="add mirror images of the runs")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder that keeps what was found")
    parser.add_argument("--convert", type=Path, metavar="OUT", help="write the used runs as native replays")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts to this file too")
    parser.error = fail
    options = parser.parse_args(arguments)
    if not 1 <= options.frame_skip <= 1000:
        fail(f"--frame-skip {options.frame_skip}: expected 1 to 1000")
    try:
        held_out = []
        if options.test_dataset == "builtin":
            held_out = load_levels("builtin", "test")
        elif options.test_dataset != "none":
            held_out = load_levels(options.test_dataset)
            if options.holdout_fraction is not None:
                held_out = split_by_tiles(held_out, options.holdout_fraction)[1]
        runs, verdicts = find_runs(options.folders, held_out, options.frame_skip, options.mirror, options.cache)
        report = report_of(runs, verdicts, options.frame_skip)
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be in any script
        print(table(report), flush=True)
        if options.convert:
            convert(runs, options.convert, options.frame_skip)
        if options.json:
            content = {**report, "verdicts": verdicts}
            write_atomically(options.json, json.dumps(content, indent=1).encode() + b"\n")
    except LevelError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'standard output'}: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
