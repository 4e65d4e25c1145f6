"""A search on one level that a policy guides, for more computing at test time.

Two ways to find a run that wins take turns, on one tree of exact snapshots. The first is the search of search.py: A*
and novelty, the six actions held, no network. The second are games that the policy plays, with sampled actions but for
the first game, which begins greedily. All states that these games pass, if they are new, are nodes of the tree, so the
search goes on from them. A game that has ended goes on from a node that the search would expand soon, so the policy
plays from places that are hard to reach ("First return, then explore", Ecoffet et al. 2021, Nature 590:580).

A good policy leads the search along, past what A* does not foresee, such as mines near the way. The search leads a
policy that is not good past the places where it dies. In the first rounds there are few games, so that these get to the
end of the level soon.

A win is a run of the level from its start, within the time limit of the environment's episodes.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numba
import numpy as np

from npp_rl.commands import Progress
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import ACTIONS, CAUSES, inputs_of
from npp_rl.evaluation.search_report import search_results
from npp_rl.levels.maps import COLUMNS, ROWS, Level, encode_map
from npp_rl.planning import planner, search
from npp_rl.planning.search import EXHAUSTED, FIRST, FOUND, FULL, KNOWN, Settings
from npp_rl.simulator import WON, reset_game, simulate
from npp_rl.simulator.layout import EXIT_DOOR

# Games that the policy plays, with one call a step for all of them, and expansions of the search for each such step, in
# the first ROUNDS steps and in those after them. With an MLP about half of the time goes to each; for slower networks
# there are more expansions (`pace_of`).
GAMES, EXPANSIONS, ROUNDS = (16, 64), (90, 500), 400
FRONT = 64  # nodes at the front of a queue of which one is drawn for a game that has ended


class Found(NamedTuple):
    """What a search has found."""

    actions: np.ndarray | None  # u1 [steps] that win from the level's start, None if no run was found that wins
    frames: int  # until the win
    seconds: float  # CPU time of the process
    rounds: int  # steps of all games
    by_policy: bool  # whether the last step of the win is one of the policy's


class _Tree:
    """The tree of one level: the nodes of a search, and where the policy's games are in it."""

    def __init__(self, bank, frame_skip, limit, games):
        self.bank, self.frame_skip, self.limit = bank, frame_skip, limit
        self.pools = planner.make_pools(bank)
        reset_game(bank, self.pools.state, 0, 0)
        self.pools.counts[KNOWN] = 0
        self.searches = [one for one in planner.SEARCHES if not one[-2]]  # without those in stages
        self.steps = np.zeros((games, limit // frame_skip + 2), np.uint8)  # of each game, from the level's start
        self.lengths = np.zeros(games, np.int64)
        self.nodes, self.goals, self.totals = np.zeros(games, np.int64), np.zeros(games, np.int64), np.zeros(games)
        self.grows = self.next_search()

    def next_search(self) -> bool:
        """Begin the next search, with nothing in its tree but the games' own ways -> False after the last one."""
        if not self.searches:
            return False
        nodes, cell, speed_cell, *more = self.searches.pop(0)
        self.settings = Settings(self.frame_skip, cell, speed_cell, *more[:-3], 0.0, *more[-3:])
        search.begin(self.bank, self.pools, self.settings, self.limit + 1, nodes)
        # Node -1 - k stands for the place that game k - 1 has come to.
        self.ways = [steps[:length].copy() for steps, length in zip(self.steps, self.lengths, strict=True)]
        self.nodes[:] = -2 - np.arange(len(self.nodes))
        self.goals[:], self.totals[:] = self.pools.goal[0], self.pools.total[0]
        return True

    def way(self, node) -> np.ndarray:
        """Actions u1 [steps] from the level's start to a node."""
        parts, pools = [], self.pools
        while node > 0:
            parts.append(np.full(pools.held[node], pools.action[node], np.uint8))
            node = int(pools.parent[node])
        parts.append(self.ways[-2 - node] if node < -1 else np.zeros(0, np.uint8))
        return np.concatenate(parts[::-1])

    def draw(self, random, game) -> np.ndarray:
        """Let an ended game begin at a node at the front of a queue, or at the start -> its row u1 [row bytes]."""
        pools, node = self.pools, 0
        which = game % 2 if self.settings.turns else 0
        front = min(int(pools.counts[FIRST + which]), FRONT) if self.grows else 0
        drawn = int(pools.queue[which, random.integers(front)]) if front else 0
        way = self.way(drawn) if drawn and pools.row[drawn] >= 0 else ()
        if 0 < len(way) < self.limit // self.frame_skip:
            node = drawn
            self.steps[game, : len(way)] = way
        self.lengths[game] = len(way) if node else 0
        row = int(pools.row[node]) if node else 0
        self.nodes[game], self.goals[game], self.totals[game] = node, pools.goal[row], pools.total[row]
        return pools.words[row].view(np.uint8)

    def note(self, words, actions, games, expansions) -> np.ndarray | None:
        """Note a step of the first games, i8 [k] `actions`, and search -> actions that win.

        games: i8, those of them that go on. words: as `graft` takes them.
        """
        first = np.arange(len(actions))
        self.steps[first, self.lengths[first]] = actions
        self.lengths[first] += 1
        if not self.grows:
            return None
        status = FULL
        told = self.settings, words, games, actions, self.nodes, self.goals, self.totals
        if search.graft(self.bank, self.pools, *told):
            status = search.search(self.bank, self.pools, self.settings, expansions)
        if status == FOUND:
            return self.way(int(self.pools.counts[search.BEST]))
        if status in (FULL, EXHAUSTED):
            self.grows = self.next_search()
        return None


def _place(envs, tree, random, games):
    """Let games begin at nodes of the tree -> observations of all games."""
    rows = np.stack([tree.draw(random, game) for game in games])
    return envs.place(games, rows, tree.totals[games])


def search_level(
    policy: Callable[[dict[str, np.ndarray]], np.ndarray],
    level: Level,
    *,
    observations: tuple[str, ...],
    seconds: float,
    rounds: int | None = None,
    frame_skip: int = 4,
    gamma: float = 0.99,
    frame_stack: int = 4,
    seed: int = 0,
    pace: int = 1,
) -> Found:
    """Search for a run that wins a level, in at most `seconds` of CPU time of this process, all included.

    policy: as in `evaluate`; a call has as many rows as one of GAMES says. rounds: most steps of all games, None for
    any number. pace: a factor on EXPANSIONS, see `pace_of`. What is found depends on the level, the policy, the seed,
    the pace and the number of rounds. The seconds only limit that number. Raises FloatingPointError if a logit is not
    finite.
    """
    began = time.process_time()
    random = np.random.default_rng([seed, int(level.digest[:32], 16)])
    rules = {"observations": observations, "frame_skip": frame_skip, "gamma": gamma, "frame_stack": frame_stack}
    few, many = GAMES
    envs = NppVectorEnv(num_envs=many, levels=[level], **rules, seed=0, copy=False, autoreset=False)
    seen, _ = envs.reset(options={"levels": np.zeros(many, np.int64)})
    envs.pause(np.arange(many) >= few)
    tree = _Tree(envs.bank, frame_skip, int(envs.limits[0]), many)
    words = envs.rows.view(np.uint64)
    played, greedy, found, by_policy = 0, True, None, False
    start = envs.bank.level["type_start"][0]
    if start[EXIT_DOOR] == start[EXIT_DOOR + 1]:  # no exit
        rounds = 0
    while found is None and played != rounds and time.process_time() - began < seconds:
        count = few if played < ROUNDS else many
        if played == ROUNDS:
            envs.pause(np.zeros(many, np.bool_))
            seen = _place(envs, tree, random, np.arange(few, many))
        logits = policy({name: array[:count] for name, array in seen.items()})
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"{level.id}: the policy gives {logits[~np.isfinite(logits)][0]}")
        weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True)).cumsum(1)
        actions = np.zeros(many, np.int64)
        actions[:count] = (weights < random.random(count)[:, None] * weights[:, -1:]).sum(1)
        if greedy:
            actions[0] = logits[0].argmax()
        seen, _, terminated, truncated, infos = envs.step(actions)
        over = terminated | truncated
        going_on = np.flatnonzero(~over[:count])
        found = tree.note(words, actions[:count], going_on, pace * EXPANSIONS[int(played >= ROUNDS)])
        played += 1
        ended = np.flatnonzero(over)
        won = ended[infos["outcome"]["success"][ended]] if len(ended) else ()
        if found is None and len(won):
            found, by_policy = tree.steps[won[0], : tree.lengths[won[0]]].copy(), True
        elif found is None and len(ended):
            greedy &= not over[0]
            seen = _place(envs, tree, random, ended)
    envs.close()
    frames = 0
    if found is not None:
        _, states = simulate(level.map_data, inputs_of(found, frame_skip))
        if states[-1] != WON or len(states) > tree.limit:
            raise AssertionError(f"{level.id}: the run that was found does not win in the simulator")
        frames = len(states)
        found = found[: -(-frames // frame_skip)]
    return Found(found, frames, time.process_time() - began, played, by_policy)


def pace_of(policy, observations, frame_skip: int = 4, gamma: float = 0.99, frame_stack: int = 4) -> int:
    """How many times as many expansions a policy needs as an MLP, so that both have about as much time: 1, 2, 4 ...

    A step of the first games is measured against so many expansions as go with it, in CPU time, in an empty room, where
    these take about a quarter of the step of an MLP. Up to eight times as long counts as an MLP, so that no small
    difference of speed changes what is found.
    """
    tiles = np.ones((ROWS, COLUMNS), np.uint8)
    tiles[4:20, 2:34] = tiles[4:20, 38:40] = 0  # a room, and beside it one that the ninja cannot get to, with the exit
    level = Level(encode_map(tiles, [[0, 22, 80, 0, 0], [3, 160, 80, 0, 0], [4, 160, 60, 0, 0]]), "", "")
    rules = {"observations": observations, "frame_skip": frame_skip, "gamma": gamma, "frame_stack": frame_stack}
    envs = NppVectorEnv(num_envs=GAMES[0], levels=[level], **rules, seed=0, copy=False, autoreset=False)
    seen, _ = envs.reset()
    tree = _Tree(envs.bank, frame_skip, int(envs.limits[0]), GAMES[0])
    steps, expansions = [], []
    for _ in range(5):
        began = time.process_time()
        policy(seen)
        seen, *_ = envs.step(np.zeros(GAMES[0], np.int64))
        between = time.process_time()
        search.search(tree.bank, tree.pools, tree.settings, 10 * EXPANSIONS[0])
        steps.append(between - began)
        expansions.append((time.process_time() - between) / 10)
    envs.close()
    slower = min(steps) / max(min(expansions), 1e-6)
    return 2 ** int(math.log2(slower / 4)) if slower >= 8 else 1


def search_suite(
    policy: Callable[[dict[str, np.ndarray]], np.ndarray],
    levels: Sequence[Level],
    results: dict,
    played: float,
    seconds: float,
    rules: dict,
) -> dict:
    """Search on the levels that greedy play has lost -> content of search_results.json (`search_results`).

    results: those of `evaluate`, greedy, on these levels, with these rules. played: CPU seconds that it took. Each
    level pays for a part of them in proportion to its steps, and has at most `seconds` in all. Levels are searched on
    one core.
    """
    entries, progress = [], Progress("levels searched", len(levels))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    rules = {name: rules[name] for name in ("observations", "frame_skip", "gamma", "frame_stack", "seed")}
    pace = pace_of(policy, **{name: rules[name] for name in rules if name != "seed"})
    each = played / max(sum(entry["tries"][0]["steps"] for entry in results["levels"]), 1)
    try:
        for level, entry in zip(levels, results["levels"], strict=True):
            greedy = entry["tries"][0]
            spent = each * greedy["steps"]
            own = {"success_rate": float(greedy["success"]), "tries": [greedy] if greedy["success"] else []}
            own |= {"seconds": spent, "rounds": 0, "won_by": "greedy play" if greedy["success"] else None}
            if not greedy["success"] and spent < seconds:
                found = search_level(policy, level, seconds=seconds - spent, pace=pace, **rules)
                own |= {"seconds": spent + found.seconds, "rounds": found.rounds}
                if found.actions is not None:
                    own |= {"success_rate": 1.0, "won_by": "policy" if found.by_policy else "search"}
                    outcome = {"success": True, "cause": CAUSES[0], "steps": len(found.actions)}
                    outcome |= {"frames": found.frames, "failure": None}
                    own["tries"] = [outcome | {"actions": "".join(map(str, found.actions))}]
            entries.append({**entry, **own, "seconds": round(own["seconds"], 4)})
            progress.note(len(entries))
    finally:
        numba.set_num_threads(threads)
    settings = {"seconds": seconds, "pace": pace, **{name: rules[name] for name in ("seed", "frame_skip", "gamma")}}
    return search_results(entries, settings)


@functools.cache
def compile_ahead(observations: tuple[str, ...]) -> None:
    """Compile all that a search needs for these observations, or load it from the cache."""
    planner.compile_ahead()
    tiles = np.ones((ROWS, COLUMNS), np.uint8)
    tiles[11, 4:10] = 0
    level = Level(encode_map(tiles, [[0, 22, 50, 0, 0], [3, 38, 50, 0, 0], [4, 30, 50, 0, 0]]), "", "")
    random = np.random.default_rng(0)

    def policy(seen):
        return np.zeros((len(next(iter(seen.values()))), len(ACTIONS)), np.float32)

    search_level(policy, level, observations=observations, seconds=math.inf, rounds=2)
    envs = NppVectorEnv(num_envs=2, levels=[level], observations=observations, seed=0)
    envs.reset()
    tree = _Tree(envs.bank, envs.frame_skip, int(envs.limits[0]), 2)
    _place(envs, tree, random, np.arange(2))
    envs.close()
