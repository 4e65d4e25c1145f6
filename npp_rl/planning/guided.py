"""A search on one level that a policy guides, for more computing at test time.

Two ways to find a run that wins take turns, on one tree of exact snapshots. The first is the search of search.py: A*
and novelty, the six actions held, no network. The second are GAMES games that the policy plays, with sampled actions
but for the first game, which plays greedily. All states that these games pass, if they are new, are nodes of the tree,
so the search goes on from them. A game that has ended goes on from a node that the search would expand next, so the
policy plays from places that are hard to reach ("First return, then explore", Ecoffet et al. 2021, Nature 590:580).

A policy that is good leads the search along, past what A* does not foresee, such as mines near the way. The search
leads a policy that is not good past the places where it dies. A state costs the search about 3 us and the policy about
25 us (`ppo_mlp_baseline.py`, a core), so the search takes as many more.

A win is a run of the level from its start, within the time limit of the environment's episodes.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import inputs_of
from npp_rl.levels.maps import Level
from npp_rl.planning import planner, search
from npp_rl.planning.search import EXHAUSTED, FIRST, FOUND, FULL, KNOWN, Settings
from npp_rl.simulator import WON, reset_game, simulate
from npp_rl.simulator.layout import EXIT_DOOR

GAMES = 64  # that the policy plays, with one call a step for all of them
EXPANSIONS = 300  # of the search for each step of all games; about as much time for an MLP
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

    def note(self, words, actions, playing) -> np.ndarray | None:
        """Note a step of the games (bool [games] `playing`: those that go on), and search -> actions that win."""
        self.steps[np.arange(len(self.steps)), self.lengths] = actions
        self.lengths += 1
        if not self.grows:
            return None
        status, games = FULL, np.flatnonzero(playing)
        told = self.settings, words, games, actions, self.nodes, self.goals, self.totals
        if search.graft(self.bank, self.pools, *told):
            status = search.search(self.bank, self.pools, self.settings, EXPANSIONS)
        if status == FOUND:
            return self.way(int(self.pools.counts[search.BEST]))
        if status in (FULL, EXHAUSTED):
            self.grows = self.next_search()
        return None


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
) -> Found:
    """Search for a run that wins a level, in at most `seconds` of CPU time of this process, all included.

    policy: as in `evaluate`; each call has GAMES rows. rounds: most steps of all games, None for any number. What is
    found depends on the level, the policy, the seed and the number of rounds. The seconds only limit that number.
    Raises FloatingPointError if a logit is not finite.
    """
    began = time.process_time()
    random = np.random.default_rng([seed, int(level.digest[:32], 16)])
    rules = {"observations": observations, "frame_skip": frame_skip, "gamma": gamma, "frame_stack": frame_stack}
    envs = NppVectorEnv(num_envs=GAMES, levels=[level], **rules, seed=0, copy=False, autoreset=False)
    seen, _ = envs.reset(options={"levels": np.zeros(GAMES, np.int64)})
    start = envs.bank.level["type_start"][0]
    tree = _Tree(envs.bank, frame_skip, int(envs.limits[0]), GAMES)
    words = envs.rows.view(np.uint64)
    played, greedy, found, by_policy = 0, True, None, False
    if start[EXIT_DOOR] == start[EXIT_DOOR + 1]:  # no exit
        rounds = 0
    while found is None and played != rounds and time.process_time() - began < seconds:
        logits = policy(seen)
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"{level.id}: the policy gives {logits[~np.isfinite(logits)][0]}")
        weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True)).cumsum(1)
        actions = (weights < random.random(GAMES)[:, None] * weights[:, -1:]).sum(1)
        if greedy:
            actions[0] = logits[0].argmax()
        seen, _, terminated, truncated, infos = envs.step(actions)
        played += 1
        over = terminated | truncated
        found = tree.note(words, actions, ~over)
        won = np.flatnonzero(infos["outcome"]["success"] & over) if over.any() else ()
        if found is None and len(won):
            found, by_policy = tree.steps[won[0], : tree.lengths[won[0]]].copy(), True
        elif found is None and over.any():
            ended = np.flatnonzero(over)
            greedy &= not over[0]
            rows = np.stack([tree.draw(random, game) for game in ended])
            seen = envs.place(ended, rows, tree.totals[ended])
    envs.close()
    frames = 0
    if found is not None:
        _, states = simulate(level.map_data, inputs_of(found, frame_skip))
        if states[-1] != WON or len(states) > tree.limit:
            raise AssertionError(f"{level.id}: the run that was found does not win in the simulator")
        frames = len(states)
        found = found[: -(-frames // frame_skip)]
    return Found(found, frames, time.process_time() - began, played, by_policy)
