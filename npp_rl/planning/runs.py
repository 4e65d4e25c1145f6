"""Runs to learn from: which runs in replay files win in the environment, as actions that an agent can take.

Runs of people change their inputs in any frame; held_actions.py turns them into held actions. Nothing is assumed: every
run that is used has been played in the environment with its actions, and has won.
"""

import dataclasses
import hashlib
import io
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npp_rl.commands import LevelError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import ACTIONS
from npp_rl.files import open_file, read_json, write_atomically
from npp_rl.levels.categories import CATEGORIES, UNCATEGORIZED
from npp_rl.levels.datasets import tiles_and_mirrored_tiles
from npp_rl.levels.maps import TILES_AT, Level, map_title, mirrored
from npp_rl.levels.replays import ReplayError, validate_files
from npp_rl.planning.held_actions import fit, on_grid
from npp_rl.simulator import stamps

RELABELLED = "relabelled.json"  # in a folder of relabel.py: number of steps of each replay that are not to be learned
VERDICTS = ("used", "broken", "died", "unfinished", "duplicate", "held out", "not executable")
FAILURES = ("", "no held actions were found that win", "lost or out of time in the environment")
MIRRORED_ACTIONS = np.array([0, 2, 1, 3, 5, 4], np.uint8)  # left and right exchanged
UNKNOWN_BITS = 0xF0  # of an input byte (PHYSICS.md 7)
GAMES = 256  # most games that are played at once


class DemonstrationError(LevelError):
    """Replays of which none can be used; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that wins its level in the environment."""

    level: Level
    actions: np.ndarray  # u1 [steps], held for frame_skip frames each
    origin: str  # digest of the tiles of the level that it was recorded on, which its mirror image shares
    source: str  # file, and number of the run in it
    fitted: bool = False  # whether its actions had to be searched for
    agreement: float = 1.0  # share of the frames with the recorded action
    begin: int = 0  # number of the first steps that are not to be learned (relabel.py)


def find_runs(
    folders: Iterable[str | Path],
    held_out: Sequence[Level] = (),
    frame_skip: int = 4,
    mirror: bool = False,
    cache: str | Path | None = None,
) -> tuple[list[Run], list[dict]]:
    """Runs to train on, and a verdict (see VERDICTS) on each run in the files: file, verdict, reason, steps.

    held_out: levels, such as those of the test suite; no run may be on one of them, or on its mirror image. mirror: add
    the mirror images of the runs that win too. cache: folder that keeps the results. Raises DemonstrationError where
    there is nothing to read.
    """
    folders = list(folders)
    try:
        judged = validate_files(folders)
    except ReplayError as error:
        raise DemonstrationError(str(error)) from None
    relabelled = {path: begin for folder in folders for path, begin in _relabelled(Path(folder), frame_skip)}
    verdicts, candidates = _candidates(judged, tiles_and_mirrored_tiles(held_out), relabelled)
    contents = hashlib.sha256(f"{source_stamp()} {frame_skip} {mirror}".encode())
    for one in candidates:
        contents.update(bytes.fromhex(one.level.digest) + hashlib.sha256(one.inputs).digest())
    found = kept(cache, f"runs-{contents.hexdigest()[:32]}", lambda: _fit_all(candidates, frame_skip, mirror))
    starts = np.cumsum(found["lengths"]) - found["lengths"]
    runs = []
    for k, (at, level, inputs, begin) in enumerate(candidates):
        for turned in range(1 + mirror):
            entry = 2 * k + turned
            actions = found["actions"][starts[entry] : starts[entry] + found["lengths"][entry]]
            if not turned:
                used = {"verdict": "used", "steps": len(actions)}
                lost = {"verdict": "not executable", "reason": FAILURES[found["failures"][entry]]}
                verdicts[at] |= used if len(actions) else lost
            if not len(actions):
                continue
            held = np.repeat(MIRRORED_ACTIONS[actions] if turned else actions, frame_skip)[: len(inputs)]
            agreement = float((held == on_grid(inputs, 1)[: len(held)]).mean())
            own = mirrored(level) if turned else level
            fitted = on_grid(inputs, frame_skip) is None
            source = verdicts[at]["file"]
            runs.append(Run(own, actions, level.tiles_digest, source, fitted, agreement, min(begin, len(actions))))
    return runs, verdicts


class _Candidate(NamedTuple):
    """A run that wins in the simulator, with an input byte for each frame."""

    verdict: int  # index of its verdict
    level: Level
    inputs: bytes
    begin: int  # see Run


def _candidates(judged, refused, relabelled) -> tuple[list[dict], list[_Candidate]]:
    """A verdict on each judged replay, and the replays that win on levels with other tiles than those refused."""
    verdicts, candidates, seen = [], [], {}
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
            if level.tiles_digest in refused:
                verdict, reason = "held out", "its level is in the test suite"
            elif key in seen:
                verdict, reason = "duplicate", f"the same run again: {seen[key]}"
            else:
                seen[key] = source
                begin = relabelled.get(replay.path.resolve(), 0)
                candidates.append(_Candidate(len(verdicts), level, replay.inputs, begin))
        verdicts.append({"file": source, "verdict": verdict, "reason": reason, "steps": 0})
    return verdicts, candidates


def _relabelled(folder, frame_skip):
    """(file, steps not to be learned) of the replays in a folder of relabel.py; nothing for another folder."""
    path = folder / RELABELLED
    try:
        index = read_json(path)
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
    """Actions of all candidates and of their mirror images, none where they do not win, as arrays for `kept`."""
    tried = []
    for _, level, inputs, _ in candidates:
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
    """Play actions u1 [steps] on their levels in the environment, many at once.

    Yields for each run, in order, whether it wins with its last action, the observations [steps, ...] before each
    action (of `player_frames` the newest picture) and the rewards float32 [steps].
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
            over = (terminated | truncated) & (ended == 0)  # the first end counts; the game goes on
            if over.any():
                ended[over] = step + 1
                won[over] = infos["outcome"]["success"][over]
        envs.close()
        for game in range(len(group)):
            rows = {k: v[:, 0] if k == "player_frames" else v for k, v in seen[game].items()}
            yield bool(won[game] and ended[game] == steps[game]), rows, rewards[game]
            seen[game] = None


def report_of(runs: Sequence[Run], verdicts: Sequence[dict], frame_skip: int) -> dict:
    """Counts of verdicts and reasons, figures of the runs, shares of the actions, as plain values for JSON."""
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
    """A reason without what differs between runs: numbers, and what follows a colon."""
    return re.sub(r"\d+", "N", re.split("[:;]", reason)[0])


def summary(report: dict) -> str:
    """One line: how many runs, and what became of them."""
    counts = {name: count for name, count in report["counts"].items() if count}
    reasons = [f"{entry['count']} {entry['verdict']}" + (f" ({entry['reason']})" if entry["reason"] else "")
               for entry in report["reasons"]]  # fmt: skip
    used = [f"{counts['used']} used"] if counts.get("used") else []
    return f"{sum(counts.values())} runs: {', '.join(used + reasons)}"


def table(report: dict) -> str:
    """Text for people: verdicts with reasons, figures, shares of the actions."""
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


def source_stamp() -> str:
    """Hash of the code that the results depend on."""
    own = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in ("runs", "held_actions", "demonstrations")]
    return stamps.source_stamp() + hashlib.sha256(b"".join(own)).hexdigest()


def kept(cache: str | Path | None, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name: from CACHE/<name>.npz if it is there, else made and written; a damaged file is reported."""
    if cache is None:
        return make()
    path = Path(cache) / f"{name}.npz"
    try:
        with open_file(path) as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        if arrays.pop("digest").item() != _digest(arrays):
            raise ValueError("its content was changed")
        return arrays
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        print(f"{path}: damaged ({' '.join(str(error).split())[:100]}), made anew", file=sys.stderr)
        if path.is_symlink() or path.is_fifo():  # `write_atomically` replaces files only
            path.unlink()
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
