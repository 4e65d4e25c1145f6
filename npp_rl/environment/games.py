"""One step of a batch of games: play each game, reward it, begin it anew, and write its observations.

`advance_all` does all of that in one compiled call. Graphs and pictures have calls of their own, `graph_all` and
`draw_all`, which are compiled only where they are asked for. An `EPISODE` record holds what a game remembers beside the
simulator's state. env.py says what the rewards mean.

The last argument of these calls, `serial`, is `compiled.serial(games)`: whether the loop runs without threads.
"""

from typing import NamedTuple

import numpy as np
from numba import get_thread_id, prange

from npp_rl.environment.arcs import ARC, ARCS, AROUND, write_arcs
from npp_rl.environment.goals import GOAL, GOAL_NONE, signature
from npp_rl.environment.graph import GRAPH_OBSERVATIONS, write_graph
from npp_rl.environment.movers import FRAMES, SOON, any_movers, note_movers
from npp_rl.environment.observations import (
    GAME_STATE,
    PATCH,
    REACHABILITY,
    any_blocks,
    stamp_movers,
    write_game_state,
    write_local_tiles,
    write_movers,
    write_reachability,
)
from npp_rl.environment.pictures import (
    GLOBAL_COLUMNS,
    GLOBAL_ROWS,
    PLAYER_SIDE,
    begin_player_frames,
    push_player_frame,
    write_global_view,
)
from npp_rl.levels.fields import distance_at
from npp_rl.simulator import DEAD, WON, frame, reset_game
from npp_rl.simulator.compiled import kernel, njit, serial
from npp_rl.simulator.layout import CAUSE_NAMES, EXIT_DOOR, EXIT_SWITCH

ACTIONS = ("none", "left", "right", "jump", "left + jump", "right + jump")
ACTION_BYTES = np.array([0, 4, 2, 1, 5, 3], np.uint8)  # input byte of each action (PHYSICS.md 7)
MOST = 10**7  # most games, and most frames, of an environment
MAX_FRAMES, FRAMES_AT_LEAST, FRAMES_PER_PX = 5000, 600, 1.5  # time limit by the length of the level's shortest way
PROGRESS = 2.0  # px that the ninja has to come nearer to the exit than ever before
PATIENCE = 8  # steps without progress that cost nothing

CAUSES = tuple(dict.fromkeys(CAUSE_NAMES.values()))  # of death, of all that the simulator can give; "none" first
_CAUSE = np.zeros(256, np.int8)  # index in CAUSES
for _number, _name in CAUSE_NAMES.items():
    _CAUSE[_number] = CAUSES.index(_name)

REWARD_KEYS = ("completion", "death", "switch", "time", "distance", "shaping", "idle")  # parts of the reward
COMPLETION, DEATH, SWITCH, TIME, DISTANCE, SHAPING, IDLE = range(len(REWARD_KEYS))

EPISODE = np.dtype(
    [
        ("parts", "f8", len(REWARD_KEYS)),  # of the return, in the order of REWARD_KEYS
        ("phi", "f8"),  # potential of the present state
        ("way", "f8"),  # px to the present goal
        ("total", "f8"),  # px to the exit through what comes before it, and the detour
        ("detour", "f8"),  # px by which the way was longer than the straight line when no way was left
        ("closest", "f8"),  # `total` at the last progress
        ("planned", "u8"),  # signature of the goal that `way` leads to
        ("shortest", "f8"),  # px of the level's shortest way
        ("travelled", "f8"),  # px
        ("share", "f8"),  # share of the level from which the goal can be reached
        ("steps", "i4"),
        ("idle_steps", "i4"),  # since the last progress
        ("limit", "i4"),  # frames
        ("switches", "i4"),
    ],
    align=True,
)
EPISODE_KEYS = ("r", "l", "frames", "success", "cause", "level", "gold", "shortest", "travelled")
PARTS_AT = len(EPISODE_KEYS)
EPISODE_KEYS += tuple(f"r_{name}" for name in REWARD_KEYS)


class Rules(NamedTuple):
    """The environment's arguments that the kernels read (env.NppVectorEnv)."""

    frame_skip: int
    gamma: float
    completion: float
    death: float
    switch: float
    time: float
    distance: float
    idle: float
    shaping_distance: float
    max_frames: int  # 0: by the level's size
    time_ends: bool  # whether an episode that runs out of time is terminated, not truncated


# What `advance_all` does with a game before it writes the game's observations.
PLAY = 0  # hold the action and reward the step; but a game whose goal has to be planned anew is left for REWARD
REWARD = 1  # reward the step that was played
BEGIN = 2  # begin an episode
LOOK = 3  # nothing
SKIP = 4  # nothing, and write no observations
MOVE = 5  # hold the action, and write neither rewards nor observations


class Orders(NamedTuple):
    """What is to be done with each game."""

    task: np.ndarray  # i1 [games]: PLAY, REWARD, BEGIN, LOOK, SKIP or MOVE
    actions: np.ndarray  # i8 [games]: read by PLAY and MOVE
    starts: np.ndarray  # i4 [games]: index of the level, read by BEGIN


class Outcomes(NamedTuple):
    """What became of each game."""

    stale: np.ndarray  # bool [games]: played and not yet rewarded, since the goal has to be planned anew
    reward: np.ndarray  # f8 [games]
    terminated: np.ndarray  # bool [games]
    truncated: np.ndarray  # bool [games]
    figures: np.ndarray  # f8 [len(EPISODE_KEYS), games]: of episodes that have ended


class Observed(NamedTuple):
    """Arrays [games, ...] that observations are written to; those that are not asked for have no rows."""

    game_state: np.ndarray
    reachability: np.ndarray
    local_tiles: np.ndarray
    arcs: np.ndarray


OBSERVATIONS = {
    "game_state": ((GAME_STATE,), np.float32),
    "reachability": ((REACHABILITY,), np.float32),
    "local_tiles": ((3, PATCH, PATCH), np.uint8),
    "arcs": ((ARCS, ARC), np.float32),
    **GRAPH_OBSERVATIONS,
    "player_frames": ((4, PLAYER_SIDE, PLAYER_SIDE), np.uint8),  # the first side is `frame_stack`
    "global_view": ((1, GLOBAL_ROWS, GLOBAL_COLUMNS), np.uint8),
}


class Views(NamedTuple):
    """What observations are made from beside the games: fields, static data of levels, scratch memory by thread."""

    dist: np.ndarray  # u2 [rows, NODES]
    ahead: np.ndarray  # u1 [rows, NODES]
    share: np.ndarray  # f8 [rows]
    stage: np.ndarray  # GOAL [2 * levels]
    clearance: np.ndarray  # u1 [levels, NODES]
    nearest: np.ndarray  # f8 [threads, HAZARDS]
    points: np.ndarray  # f4 [threads, 6, 2]
    open_cells: np.ndarray  # u8 [levels, arcs.OPEN_CELLS]
    around: np.ndarray  # arcs.AROUND [threads]


def inputs_of(actions: np.ndarray | str, frame_skip: int, frames: int | None = None) -> bytes:
    """Input bytes, one a frame, of actions held for `frame_skip` frames each; the first `frames` of them, if given.

    actions: integers [steps] from 0 to 5, or a text of as many digits.
    """
    if isinstance(actions, str):
        actions = np.frombuffer(actions.encode("ascii"), np.uint8) - ord("0")
    return np.repeat(ACTION_BYTES[np.asarray(actions)], frame_skip)[:frames].tobytes()


@kernel
def _way(state, i, views, goal, before):
    """Px from the ninja to its goal along the field; `before` where no node of the field is near the ninja."""
    if goal.kind == GOAL_NONE:
        return 0.0
    n = state.ninja[i]
    way = distance_at(views.dist[goal.field], n.x, n.y)
    if way >= 0.0:
        return way
    if not goal.reached:  # no way is known: the straight line
        return np.sqrt((goal.x - n.x) * (goal.x - n.x) + (goal.y - n.y) * (goal.y - n.y))
    return before


@kernel
def begin_game(bank, state, i, views, goals, episodes, rules, level_index):
    """Put game i at the start of a level."""
    reset_game(bank, state, i, level_index)
    goals[i] = views.stage[2 * level_index]
    e = episodes[i]
    e.parts[:] = 0.0
    e.steps = 0
    e.switches = 0
    e.travelled = 0.0
    e.way = _way(state, i, views, goals[i], 0.0)
    e.total = e.way + goals[i].remaining
    e.detour = 0.0
    e.closest = e.total
    e.idle_steps = 0
    e.planned = goals[i].signature
    e.shortest = e.total
    e.phi = -e.total / rules.shaping_distance
    e.share = views.share[2 * level_index]
    e.limit = rules.max_frames
    if rules.max_frames == 0:
        e.limit = min(FRAMES_AT_LEAST + int(FRAMES_PER_PX * e.shortest), MAX_FRAMES)


@kernel
def _observe(bank, state, i, views, goals, episodes, thread, observed):
    """Write the observations of game i into row i."""
    n = state.ninja[i]
    goal = goals[i]
    e = episodes[i]
    dist = views.dist[goal.field]
    around = views.around[thread]
    around.count = 0
    if len(views.clearance) and any_movers(bank.level[n.level]):
        frames = FRAMES if len(observed.arcs) else SOON[-1]
        note_movers(bank, state, i, frames, views.clearance[n.level], around)
    if len(observed.game_state):
        left = 1.0 - min(n.frame / e.limit, 1.0)
        write_game_state(bank, state, i, left, observed.game_state[i])
    if len(observed.reachability):
        ahead = views.ahead[goal.field]
        nearest = views.nearest[thread]
        points = views.points[thread]
        row = observed.reachability[i]
        write_reachability(bank, state, i, goal, dist, ahead, e.way, e.share, e.idle_steps, nearest, points, row)
        if around.count > 0:
            write_movers(n, around, row)
    if len(observed.local_tiles):
        write_local_tiles(bank, state, i, views.clearance[n.level], dist, e.way, observed.local_tiles[i])
        if around.count > 0 or any_blocks(bank.level[n.level]):
            stamp_movers(bank, state, i, around, observed.local_tiles[i])
    if len(observed.arcs):
        clearance, open_cells = views.clearance[n.level], views.open_cells[n.level]
        out = observed.arcs[i]
        write_arcs(bank, state, i, clearance, open_cells, dist, e.way, around, out)


@kernel
def _switches_hit(bank, state, i):
    level = bank.level[state.ninja[i].level]
    hit = 0
    for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
        if bank.entity[k].type == EXIT_SWITCH and not state.active[i, k - level.entity_start]:
            hit += 1
    return hit


@kernel
def _play(bank, state, i, goals, episodes, rules, action):
    """Hold an action for one step of game i -> whether its goal has to be planned anew."""
    n = state.ninja[i]
    e = episodes[i]
    keys = ACTION_BYTES[action]
    h = -1 if keys & 4 else (1 if keys & 2 else 0)
    for _ in range(rules.frame_skip):
        frame(bank, state, i, h, keys & 1)
        e.travelled += np.sqrt((n.x - n.x0) * (n.x - n.x0) + (n.y - n.y0) * (n.y - n.y0))
        if n.state == DEAD or n.state == WON or n.frame >= e.limit:
            break
    alive = n.state != DEAD and n.state != WON
    return alive and signature(bank, state, i, goals[i].mines) != goals[i].signature


@kernel
def follow_way(state, i, views, goal, e):
    """Measure the way from the ninja of game i to its goal, and on to the exit, into the EPISODE record e."""
    n = state.ninja[i]
    if goal.signature != e.planned:
        e.planned = goal.signature
        straight = np.sqrt((goal.x - n.x) * (goal.x - n.x) + (goal.y - n.y) * (goal.y - n.y))
        e.way = _way(state, i, views, goal, straight)
        # Without a way the straight line is taken, which is shorter: to shut off the last way must not be rewarded.
        e.detour = 0.0 if goal.reached else max(e.total - e.way - goal.remaining, 0.0)
    else:
        e.way = _way(state, i, views, goal, e.way)
    e.total = e.way + e.detour + goal.remaining


@njit(_nrt=False)
def begin_at(bank, state, goals, episodes, views, rules, games, stale):
    """Begin the episodes of games (i8 [k]) in the states that they are in, which are not the start of their levels.

    Sets `stale` (bool [games]) where the goal has to be planned before `measure_at`, which has to follow.
    """
    for k in range(len(games)):
        i = games[k]
        n = state.ninja[i]
        e = episodes[i]
        index = np.int64(n.level)
        goals[i] = views.stage[2 * index]
        e.parts[:] = 0.0
        e.steps = (n.frame + rules.frame_skip - 1) // rules.frame_skip
        e.travelled = 0.0
        x, y = n.x, n.y
        n.x = bank.level[index].spawn_x
        n.y = bank.level[index].spawn_y
        e.way = _way(state, i, views, goals[i], 0.0)
        n.x, n.y = x, y
        e.detour = 0.0
        e.shortest = e.way + goals[i].remaining
        e.planned = goals[i].signature
        e.share = views.share[2 * index]
        e.limit = rules.max_frames
        if rules.max_frames == 0:
            e.limit = min(FRAMES_AT_LEAST + int(FRAMES_PER_PX * e.shortest), MAX_FRAMES)
        stale[i] = signature(bank, state, i, goals[i].mines) != goals[i].signature


@njit(_nrt=False)
def measure_at(bank, state, goals, episodes, views, rules, games, totals):
    """Measure the ways of games (i8 [k]) that `begin_at` has begun, whose goals are planned.

    totals: f8 [k], px to the exit where no node of the field is near the ninja.
    """
    for k in range(len(games)):
        i = games[k]
        e = episodes[i]
        e.planned = goals[i].signature
        e.way = _way(state, i, views, goals[i], max(totals[k] - goals[i].remaining, 0.0))
        e.total = e.way + goals[i].remaining
        e.closest = e.total
        e.idle_steps = 0
        e.switches = _switches_hit(bank, state, i)
        e.phi = -e.total / rules.shaping_distance


@kernel
def _reward(bank, state, i, views, goals, episodes, rules):
    """Reward the step that game i has played -> (reward, terminated, truncated)."""
    n = state.ninja[i]
    e = episodes[i]
    parts = e.parts
    e.steps += 1
    parts[TIME] += rules.time
    reward = rules.time
    hit = _switches_hit(bank, state, i)
    if hit > e.switches:
        reward += rules.switch * (hit - e.switches)
        parts[SWITCH] += rules.switch * (hit - e.switches)
        e.switches = hit
    terminated = n.state == DEAD or n.state == WON
    phi = 0.0
    distance = 0.0
    if n.state == WON:
        reward += rules.completion
        parts[COMPLETION] += rules.completion
    elif n.state == DEAD:
        reward += rules.death
        parts[DEATH] += rules.death
        distance = rules.distance * e.phi
    else:
        planned = e.planned
        follow_way(state, i, views, goals[i], e)
        e.idle_steps += 1
        if e.total < e.closest - PROGRESS or e.planned != planned or goals[i].kind == GOAL_NONE:
            e.closest = e.total
            e.idle_steps = 0
        if e.idle_steps > PATIENCE:
            reward += rules.idle
            parts[IDLE] += rules.idle
        if n.frame >= e.limit and rules.time_ends:
            terminated = True
            distance = rules.distance * e.phi  # as on death
        else:
            phi = -e.total / rules.shaping_distance
            distance = rules.distance * (1.0 - rules.gamma) * phi
    shaping = rules.gamma * phi - e.phi
    parts[DISTANCE] += distance
    parts[SHAPING] += shaping
    e.phi = phi
    return reward + distance + shaping, terminated, not terminated and n.frame >= e.limit


@kernel
def _note_figures(state, i, episodes, figures):
    """Write the figures of an episode that has ended, in the order of EPISODE_KEYS."""
    n = state.ninja[i]
    e = episodes[i]
    parts = e.parts
    figures[0, i] = 0.0
    for k in range(len(parts)):
        figures[0, i] += parts[k]
        figures[PARTS_AT + k, i] = parts[k]
    figures[1, i] = e.steps
    figures[2, i] = n.frame
    figures[3, i] = n.state == WON
    figures[4, i] = _CAUSE[n.cause] if n.state == DEAD else 0
    figures[5, i] = n.level
    figures[6, i] = n.gold
    figures[7, i] = e.shortest
    figures[8, i] = e.travelled


@njit(inline="always", _nrt=False)  # as a call of its own it takes a tenth of a step
def _advance(i, thread, bank, state, goals, episodes, views, rules, orders, observed, outcomes):
    """Do with game i what its task says, and write its observations while the game is in a core's cache."""
    task, actions, starts = orders
    stale, reward, terminated, truncated, figures = outcomes
    todo = task[i]
    if todo == SKIP:
        return
    if todo in (PLAY, MOVE):
        stale[i] = _play(bank, state, i, goals, episodes, rules, actions[i])
        if stale[i] or todo == MOVE:
            return
    if todo == BEGIN:
        begin_game(bank, state, i, views, goals, episodes, rules, starts[i])
    elif todo != LOOK:
        reward[i], terminated[i], truncated[i] = _reward(bank, state, i, views, goals, episodes, rules)
        if terminated[i] or truncated[i]:
            _note_figures(state, i, episodes, figures)
    _observe(bank, state, i, views, goals, episodes, thread, observed)


@njit(parallel=True, _nrt=False)
def advance_all(bank, state, goals, episodes, views, rules, orders, observed, outcomes, serial):
    """Do with each game what its task says, and write its observations."""
    games = len(orders.task)  # Numba takes the length of an attribute inside `prange` for 0
    if serial:
        for i in range(games):
            _advance(i, 0, bank, state, goals, episodes, views, rules, orders, observed, outcomes)
    else:
        for index in prange(games):
            game = np.int64(index)  # prange counts in unsigned integers, for which kernels would be compiled once more
            thread = get_thread_id()
            _advance(game, thread, bank, state, goals, episodes, views, rules, orders, observed, outcomes)


@njit(inline="always", _nrt=False)
def _graph(i, thread, bank, state, goals, episodes, views, graphs, task, rows):
    """Write the graph of game i, unless it is to be skipped."""
    if task[i] == SKIP:
        return
    goal = goals[i]
    dist = views.dist[goal.field]
    ahead = views.ahead[goal.field]
    clearance = views.clearance[state.ninja[i].level]
    around = views.around[thread]
    write_graph(bank, state, i, goal, dist, ahead, episodes[i].way, clearance, graphs, around, thread, rows)


@njit(parallel=True, _nrt=False)
def graph_all(bank, state, goals, episodes, views, graphs, task, rows, serial):
    """Write the graphs of all games but those to skip into `rows` (graph.GraphRows)."""
    if serial:
        for i in range(len(task)):
            _graph(i, 0, bank, state, goals, episodes, views, graphs, task, rows)
    else:
        for index in prange(len(task)):
            _graph(np.int64(index), get_thread_id(), bank, state, goals, episodes, views, graphs, task, rows)


@kernel
def _draw(i, bank, state, player, whole, task, frames, view):
    """Draw the pictures of game i, unless it is to be skipped."""
    if len(frames) and task[i] == PLAY:
        push_player_frame(bank, state, i, player, frames[i])
    elif len(frames) and task[i] == BEGIN:
        begin_player_frames(bank, state, i, player, frames[i])
    if len(view) and task[i] != SKIP:
        write_global_view(bank, state, i, whole, view[i, 0])


@njit(parallel=True, _nrt=False)
def draw_all(bank, state, player, whole, task, frames, view, serial):
    """Draw the pictures of all games but those to skip.

    player, whole: the pictures.Pictures of each scale. frames u1 [games, k, 84, 84], view u1 [games, 1, 100, 176]: with
    no rows if not asked for.
    """
    if serial:
        for i in range(len(task)):
            _draw(i, bank, state, player, whole, task, frames, view)
    else:
        for index in prange(len(task)):
            _draw(np.int64(index), bank, state, player, whole, task, frames, view)


# Stand for the views and observations of games that only move.
NOTHING = Views(
    dist=np.zeros((0, 1), np.uint16),
    ahead=np.zeros((0, 1), np.uint8),
    share=np.zeros(0),
    stage=np.zeros(0, GOAL),
    clearance=np.zeros((0, 1), np.uint8),
    nearest=np.zeros((0, 1)),
    points=np.zeros((0, 1, 1), np.float32),
    open_cells=np.zeros((0, 1), np.uint64),
    around=np.zeros(0, AROUND),
)
_UNSEEN = Observed(*(np.zeros((0, *shape), dtype) for shape, dtype in map(OBSERVATIONS.get, Observed._fields)))


def play_all(bank, state, goals, episodes, rules, actions, stale):
    """Hold each game's action for one step; sets `stale` (bool [games]) where a goal has to be planned anew.

    It is `advance_all` with the task MOVE, because that is compiled anyway.
    """
    games = len(actions)
    orders = Orders(np.full(games, MOVE, np.int8), np.asarray(actions, np.int64), np.zeros(games, np.int32))
    unused = np.zeros(games), np.zeros(games, np.bool_), np.zeros(games, np.bool_), np.zeros((1, games))
    outcomes = Outcomes(stale, *unused)
    advance_all(bank, state, goals, episodes, NOTHING, rules, orders, _UNSEEN, outcomes, serial(games))
