"""Evaluation of a policy on a suite of levels: success, steps, efficiency, safety, failures, per tier and category.

All levels are played side by side, and each step calls the policy for the games that still run. A level's results do
not depend on the levels evaluated with it. Games are chaotic: matrix products may round differently at another batch
size, and one flipped arg max changes a whole game. So calls grow and shrink with the number of games only if that does
not change a bit, which is tried at the start. Otherwise each call has BATCH rows, and level i is in row i % BATCH.
Random numbers are drawn per level and try.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch.distributed as dist

from npp_rl.commands import LevelError, Progress
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import CAUSES
from npp_rl.evaluation import analysis
from npp_rl.evaluation.intervals import difference
from npp_rl.evaluation.summary import counted, summaries
from npp_rl.levels import builtin
from npp_rl.levels.categories import TIERS
from npp_rl.levels.maps import Level

BATCH = 16  # rows of each policy call where they depend on their number
SIZES = (8, 16, 24, 32, 48, 64, 96, 128)  # rows of policy calls elsewhere; more are hardly faster per row on CPUs

AT_ONCE = 32 * BATCH  # levels played side by side; each takes up to 300 kB of memory

TRAINING_SAMPLE = 270  # most training levels played for the generalisation gap, as many as test levels


def evaluate(
    policy: Callable[[dict[str, np.ndarray]], np.ndarray],
    levels: list[Level],
    *,
    observations: tuple[str, ...],
    frame_skip: int = 4,
    gamma: float = 0.99,
    frame_stack: int = 4,
    deterministic: bool = True,
    seed: int = 0,
    tries: int = 1,
    pars: str | Path | None = None,
    examined: bool = True,
    stop=None,
) -> dict | None:
    """Play every level from its start, `tries` times or greedily once, and summarise -> content of eval_results.json.

    policy: maps observations, a dict of arrays [B, ...], to logits float32 [B, 6]; B is BATCH or one of SIZES. Greedy
    actions are the first arg max. Sampled actions invert the cumulative distribution at a uniform number that depends
    only on `seed`, the level's content, the try and the step. pars: a planner's output folder with par times of levels
    that are not built in. examined: find out how episodes failed and their near misses, which takes time (see
    analysis.py). stop: StopSignals; evaluate returns None after a signal to any rank. Of several processes each plays
    its share of the levels, and all ranks return the same results.

    Returns a dict with `overall`, `by_category.<name>` and more (see `summaries`), `settings` and `levels`: one entry
    per level with the outcome of each try, including its actions (one digit per step) and the findings of analysis.py.
    Raises FloatingPointError if a logit is not finite, LevelError if there are no levels or `pars` is bad.
    """
    if not levels:
        raise LevelError("evaluation: the suite has no level")
    par = builtin.par_of(levels, pars)
    tries = 1 if deterministic else tries
    world_size, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    # Ranks share whole groups of BATCH levels, so that a level is in the same row as in one process.
    own = [index for index in range(len(levels)) if index // BATCH % world_size == rank]
    rules = {"observations": observations, "frame_skip": frame_skip, "gamma": gamma, "frame_stack": frame_stack}
    draws = [None if deterministic else _uniforms(levels, own, seed, attempt) for attempt in range(tries)]
    episodes = _play_all(policy, [levels[index] for index in own], rules, draws, stop) if own else []
    if examined and episodes:
        analysis.examine([levels[index] for index in own], episodes, frame_skip)
    if world_size > 1:
        parts = [None] * world_size
        own_part = None if episodes is None else [(own[at], outcome) for at, outcome in episodes]
        dist.all_gather_object(parts, (own_part, stop.number if stop is not None else 0))
        parts, signals = zip(*parts, strict=True)
        if None in parts:
            stop.number = max(signals)
        episodes = None if None in parts else sorted(itertools.chain.from_iterable(parts), key=lambda entry: entry[0])
    if episodes is None:
        return None

    entries, tried = [], [[] for _ in levels]
    for index, outcome in episodes:
        tried[index].append(outcome)
    for index, (level, outcomes) in enumerate(zip(levels, tried, strict=True)):
        rate = sum(outcome["success"] for outcome in outcomes) / tries
        entry = {"id": level.id, "category": level.category, "tier": TIERS.get(level.category, "other")}
        entry |= {"group": level.group, "title": level.title, "digest": level.digest, "par": par[index]}
        entries.append({**entry, "success_rate": rate, "tries": outcomes})
    return {
        **summaries(entries),
        "levels": entries,
        "settings": {
            "deterministic": deterministic,
            "seed": seed,
            "tries": tries,
            "frame_skip": frame_skip,
            "gamma": gamma,
        },
    }


def levels_per_row(levels: Sequence[Level]) -> int:
    """Levels of this process for each row of a call with BATCH rows. At most, an evaluation's time grows with it."""
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return math.ceil(len(levels) / BATCH / world_size)


def _uniforms(levels, own, seed, attempt):
    """Function (level, step) -> the step's number in the level's own stream of uniform numbers. Steps start at 0."""

    @functools.cache
    def stream(level):
        return np.random.default_rng(np.random.SeedSequence([seed, attempt, int(levels[own[level]].digest[:32], 16)]))

    drawn = {}  # level: 256 numbers

    def draw(level, step):
        if step % 256 == 0:
            drawn[level] = stream(level).random(256)
        return drawn[level][step % 256]

    return draw


class _Calls:
    """Calls of a policy for the games that still run."""

    def __init__(self, policy):
        self._policy = policy
        self._buffers = {}  # observations of a call, by their number of rows
        self._sizes = None  # of calls; () if each has BATCH rows

    def __call__(self, observations, games):
        """Logits float32 [n, 6] of games, int [n] in rising order: rows of the observations."""
        if self._sizes is None:
            self._sizes = self._try_sizes(observations)
        if self._sizes:
            most = self._sizes[-1]
            parts = [games[first : first + most] for first in range(0, len(games), most)]
            return np.concatenate([self._call(observations, part, self._size_for(len(part))) for part in parts])
        logits = np.zeros((len(games), 6), np.float32)
        row = games % BATCH
        before = np.tril(row == row[:, None], -1).sum(1)  # games that need the same row, in earlier calls
        for k in range(before.max() + 1):
            at = np.flatnonzero(before == k)
            logits[at] = self._call(observations, games[at], BATCH, row[at])
        return logits

    def _size_for(self, count):
        return next(size for size in self._sizes if size >= count)

    def _call(self, observations, games, size, rows=None):
        """One call with `size` rows, of which the games are in `rows`, by default the first ones."""
        rows = slice(len(games)) if rows is None else rows
        if size not in self._buffers:
            self._buffers[size] = {k: np.zeros((size, *v.shape[1:]), v.dtype) for k, v in observations.items()}
        for key, value in observations.items():
            self._buffers[size][key][rows] = value[games]
        return self._policy(self._buffers[size])[rows]

    def _try_sizes(self, observations):
        """The SIZES up to the number of games, if a row's logits are the same, to the last bit, in calls of these sizes
        and of BATCH rows, and in another row; else ().

        Products round by the order of their additions, which a library chooses by the size. If it chose another one, it
        would show among so many rows.
        """
        count = len(next(iter(observations.values())))
        sizes = [size for k, size in enumerate(SIZES) if k == 0 or SIZES[k - 1] < count]
        games = np.resize(np.arange(count), max(sizes[-1], BATCH))
        logits = self._call(observations, games, len(games))
        for size in {BATCH, *sizes}:
            turned = self._call(observations, games[:size][::-1], size)
            if len(logits) != len(games) or not np.array_equal(turned, logits[:size][::-1]):
                return ()
        return tuple(sizes)


def _play_all(policy, levels, rules, draws, stop):
    """Play an episode on each level for each of `draws` -> [(index of the level, outcome)], None after a signal."""
    episodes, calls = [], _Calls(policy)
    for first in range(0, len(levels), AT_ONCE):
        part = levels[first : first + AT_ONCE]
        envs = NppVectorEnv(num_envs=len(part), levels=part, **rules, seed=0, copy=False, autoreset=False)
        for draw in draws:
            outcomes = _play(calls, envs, draw, first, stop)
            if outcomes is None:
                return None
            episodes += enumerate(outcomes, first)
        envs.close()
    return episodes


def _play(calls, envs, draw, first, stop):
    """Play an episode on each level of `envs`, one game each -> outcomes, None after a signal.

    draw: see `_uniforms`, whose level `first` is the first one of `envs`.
    """
    count = envs.num_envs
    running = np.arange(count)  # games whose episodes have not ended
    observations, _ = envs.reset(options={"levels": running})
    outcomes, log, progress = [None] * count, [], Progress("levels played", count)
    while len(running):
        if stop is not None and stop.number:
            return None
        logits = calls(observations, running)
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"evaluation: the policy gave a logit that is not finite at step {len(log)}")
        if draw is None:
            chosen = logits.argmax(1)
        else:
            uniform = np.array([draw(first + game, len(log)) for game in running])
            weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
            cumulative = weights.cumsum(1)
            chosen = (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(1)
        actions = np.zeros(count, np.uint8)
        actions[running] = chosen
        log.append(actions)
        observations, _, _, _, infos = envs.step(actions)
        if "_outcome" not in infos:
            continue
        ended = infos["_outcome"]
        for game in np.flatnonzero(ended):
            episode = {key: values[game].item() for key, values in infos["outcome"].items()}
            efficiency = episode["shortest"] / max(episode["travelled"], 1e-9)
            outcomes[game] = {
                "success": bool(episode["success"]),
                "cause": CAUSES[episode["cause"]],
                "steps": int(episode["l"]),
                "frames": int(episode["frames"]),
                "return": round(float(episode["r"]), 6),
                "gold": int(episode["gold"]),
                "efficiency": round(min(1.0, efficiency), 6) if episode["success"] else None,
                "actions": "".join(str(row[game]) for row in log),
            }
        running = running[~ended[running]]
        envs.pause(~np.isin(np.arange(count), running))
        progress.note(count - len(running))
    return outcomes


def generalisation(policy: Callable, train_levels: Sequence[Level], results: dict, **rules) -> dict:
    """Play a sample of training levels, and compare with `results` on the test levels.

    Returns `train` (see `summarise`), `gap` (success on training levels minus success on test levels) and its 95%
    interval `gap_low`, `gap_high`. The sample is fixed: the levels with the least digests, TRAINING_SAMPLE at most, in
    the test levels' proportions of categories as far as there are enough. The gap is a mean over common categories,
    weighted by their test levels. Without common categories any levels are compared. Test levels that the agent was
    trained on do not count (see `summary.leave_out`); some have to be left. rules: arguments of `evaluate`.
    """
    here = Counter(entry["category"] for entry in counted(results["levels"]))
    share = min(1.0, TRAINING_SAMPLE / here.total())
    ordered = sorted(train_levels, key=lambda level: level.digest)
    sample = []
    for name, count in here.items():
        sample += [level for level in ordered if level.category == name][: max(1, int(share * count))]
    played = evaluate(policy, sample or ordered[:TRAINING_SAMPLE], **rules)
    train, test = played["by_category"], results["by_category"]
    if not (common := [name for name in train if name in test]):
        train, test, common = {"": played["overall"]}, {"": results["overall"]}, [""]
    weight = {name: test[name]["levels"] / sum(test[k]["levels"] for k in common) for name in common}
    rate, other = (sum(weight[name] * part[name]["success_rate"] for name in common) for part in (train, test))
    # Effective numbers of levels: plain rates over them have the same variance.
    n, m = (1 / sum(weight[name] ** 2 / part[name]["levels"] for name in common) for part in (train, test))
    low, high = difference(rate * n, n, other * m, m)
    return {"train": played["overall"], "gap": rate - other, "gap_low": low, "gap_high": high}
