"""Search over snapshots of a running game, in compiled code: the kernels of planner.py.

A node is a game's row of bytes. It is expanded by the six actions, each held for one step, or for more while the ninja
stays in its cell. After that nobody needs its row, which a new node takes: a search holds millions of nodes, and rows
for those that wait only. When all rows wait, the worse half of them is given up.

Two states are the same where position and speed (both by cells) and everything switched are equal, and toggle mines and
moving entities near the ninja; the one that was reached first stays. The cells may depend on how many nodes lie in the
tile: small where few do, so that a narrow way is not taken for another one, and large where many do, so that an open
room does not use up the memory.

Two queues take turns. The first is ordered by the frames so far plus an estimate for the way that is left (A*). The
second is ordered by how many nodes lie in the same tile already, which leads out of dead ends of the first (novelty,
as the cells of Ecoffet et al. 2021, "First return, then explore").

Once a solution is known, it gives the estimate: the frames that it had left when it was last as far away. Nodes that
would not win in fewer frames than the solution, plus some slack, are then left out, and a state that is reached in
fewer frames than before is tried again.
"""

import math
from typing import NamedTuple

import numpy as np

from npp_rl.environment.games import ACTION_BYTES
from npp_rl.environment.goals import GOAL, GOAL_NONE, Fields, empty_fields, plan, signature
from npp_rl.levels.fields import distance_at
from npp_rl.simulator import DEAD, WON, frame, new_state, row_bytes
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.layout import CELLS, DYING, EXIT_DOOR, TOGGLE_MINE, Bank, State

GOALS = 512  # fields kept in one search, by the state of switches, doors and, where they bar the way, mines
BINS, BIN = 2048, 8.0  # number and width (px) of the bins of the table of frames left
SPEED = 3.0  # px per frame assumed for ways longer than the solution's
AGAIN = 24  # frames by which a state has to be reached earlier to be tried again, until a solution is known
LOST = 400.0  # px added where no way leads to the goal
# Where a search starts: row, goal. Numba would compile the kernels once more for literals.
_START, _NO_GOAL = np.int64(0), np.int64(-1)

# Results of `search`: stopped in between, a solution better than `bound` was found (the search can go on), no node is
# left, no memory is left, a stage is done.
MORE, FOUND, EXHAUSTED, FULL, STAGE = 0, 1, 2, 3, 4
# Entries of `counts`: nodes, sizes of the two queues, the node that won, expansions, known goals, the frame that a win
# has to come before, known states, free rows, most nodes of this search, how many times rows ran out.
COUNT, FIRST, SECOND, BEST, EXPANDED, KNOWN, BOUND, STATES, FREE, ROOM, THINNED = range(11)


class Settings(NamedTuple):
    """Parameters of one search."""

    frame_skip: int
    cell: float  # px
    speed_cell: float  # px per frame
    weight: float  # estimated frames per px of way; 0: the table of frames left gives the estimate
    turns: int  # one of so many expansions is the second queue's; 0: none
    hold: int  # most steps that an action is held
    mines: float  # px: states that differ in toggle mines nearer than this are different
    movers: float  # px: states that differ in the places of moving entities nearer than this are different
    slack: float  # frames
    doors: int  # whether states that differ in doors are different; 0: those that differ in the way that is left
    stages: int  # whether the search ends where the next goal is reached, such as a door's switch, to go on from there
    crowded: int  # nodes of a tile from which on its cells are twice as large, and again at 4 times as many; 0: never


class Pools(NamedTuple):
    """All memory of a search.

    Only a node that waits in a queue has a row. The row of an expanded node is used again, so there are fewer rows than
    nodes.
    """

    words: np.ndarray  # u8 [rows, row bytes / 8]: the rows
    state: State  # views on the rows
    goal: np.ndarray  # i2 [rows]: index into goals
    total: np.ndarray  # f4 [rows], px to the exit
    free: np.ndarray  # i4 [rows]: rows that no node has
    parent: np.ndarray  # i4 [nodes]
    action: np.ndarray  # u1 [nodes]
    held: np.ndarray  # u1 [nodes], steps
    row: np.ndarray  # i4 [nodes], -1 where the node was expanded
    priority: np.ndarray  # f4 [2, nodes]
    queue: np.ndarray  # i4 [2, nodes]
    key: np.ndarray  # u8 [slots]: hashes of known states, 0 for an empty slot
    reached: np.ndarray  # i4 [slots]: frame in which each was reached
    crowd: np.ndarray  # i4 [GOALS, CELLS]: nodes by tile
    left: np.ndarray  # f4 [BINS]: frames left by distance
    goals: np.ndarray  # GOAL [GOALS]
    fields: Fields
    counts: np.ndarray  # i8 [11]
    tail: np.ndarray  # u1 [most steps]: scratch


def make_pools(bank: Bank, nodes: int, rows: int, steps: int = 4096) -> Pools:
    """Memory for searches of up to `nodes` nodes on the levels of a bank, and solutions of up to `steps` steps.

    rows: most nodes that wait at once. Memory that a search does not reach is not touched.
    """
    nodes = max(nodes, steps + 2)
    rows = max(min(rows, nodes), steps + 2)
    bytes_, state = new_state(bank, rows)
    slots = _slots(nodes)
    return Pools(
        words=bytes_.view(np.uint64),
        state=state,
        goal=np.zeros(rows, np.int16),
        total=np.zeros(rows, np.float32),
        free=np.zeros(rows, np.int32),
        parent=np.zeros(nodes, np.int32),
        action=np.zeros(nodes, np.uint8),
        held=np.zeros(nodes, np.uint8),
        row=np.zeros(nodes, np.int32),
        priority=np.zeros((2, nodes), np.float32),
        queue=np.zeros((2, nodes), np.int32),
        key=np.zeros(slots, np.uint64),
        reached=np.zeros(slots, np.int32),
        crowd=np.zeros((GOALS, CELLS), np.int32),
        left=np.zeros(BINS, np.float32),
        goals=np.zeros(GOALS, GOAL),
        fields=empty_fields(0, GOALS, GOALS),
        counts=np.zeros(11, np.int64),
        tail=np.zeros(steps, np.uint8),
    )


def _slots(nodes):
    """Size of a table of states, at least 4/3 of the nodes."""
    return 1 << (4 * nodes // 3).bit_length()


def row_memory(bank: Bank) -> int:
    """Bytes that a row takes in all arrays of the pools together."""
    return row_bytes(bank) + 8 * max(int(bank.level["movers"].max()), 1) // 2 + 10


NODE_MEMORY = 26 + 12 * 8 // 3  # bytes, at most, that a node takes in all arrays together, its row aside


@kernel
def _push(pools, which, priority, node):
    size = pools.counts[FIRST + which]
    keys, heap = pools.priority[which], pools.queue[which]
    pools.counts[FIRST + which] = size + 1
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if keys[up] <= priority:
            break
        keys[at] = keys[up]
        heap[at] = heap[up]
        at = up
    keys[at] = priority
    heap[at] = node


@kernel
def _pop(pools, which):
    keys, heap = pools.priority[which], pools.queue[which]
    top = heap[0]
    size = pools.counts[FIRST + which] - 1
    pools.counts[FIRST + which] = size
    key, node = keys[size], heap[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and keys[down + 1] < keys[down]:
            down += 1
        if keys[down] >= key:
            break
        keys[at] = keys[down]
        heap[at] = heap[down]
        at = down
    keys[at] = key
    heap[at] = node
    return np.int64(top)


@kernel
def _goal_of(bank, pools, i, before):
    """Index of the goal of row i, planned anew if anything that it depends on has changed; -1 if there is no room."""
    state, goals = pools.state, pools.goals
    if before >= 0 and signature(bank, state, i, goals[before].mines) == goals[before].signature:
        return before
    known = pools.counts[KNOWN]
    without, with_mines = signature(bank, state, i, False), signature(bank, state, i, True)
    for k in range(known):
        if (with_mines if goals[k].mines else without) == goals[k].signature:
            return k
    if known == GOALS:
        return -1
    plan(bank, state, i, pools.fields, known, goals[known])
    pools.counts[KNOWN] = known + 1
    return known


@kernel
def _tile(n):
    """Index into a row of `crowd` for the ninja."""
    return min(max(int(n.x / 24.0), 0), 43) * 25 + min(max(int(n.y / 24.0), 0), 24)


@kernel
def _key(bank, pools, i, settings, goal):
    """Hash of everything in which states differ, in cells for a tile as crowded as it is now; never 0."""
    state = pools.state
    n = state.ninja[i]
    prime = np.uint64(1099511628211)
    cell, speed_cell = settings.cell, settings.speed_cell
    if settings.crowded:
        nodes = pools.crowd[goal, _tile(n)]
        most = settings.crowded
        while nodes >= most and cell < 24.0:
            cell *= 2.0
            speed_cell *= 2.0
            most *= 4
    if settings.doors:
        code = signature(bank, state, i, False)
    else:
        now = _goal_of(bank, pools, i, goal)
        goal = now if now >= 0 else goal
        code = (np.uint64(14695981039346656037) ^ np.uint64(pools.goals[goal].remaining / 12.0)) * prime
        code = (code ^ np.uint64(pools.goals[goal].kind)) * prime
    code = (code ^ np.uint64(int(n.x / cell) << 8 | int(cell))) * prime
    code = (code ^ np.uint64(int(n.y / cell))) * prime
    code = (code ^ np.uint64(math.floor(n.u / speed_cell) + 1000)) * prime
    code = (code ^ np.uint64(math.floor(n.v / speed_cell) + 1000)) * prime
    flags = n.state | n.jump_before << 3 | n.air << 4 | (n.jump_buffer >= 0) << 5 | n.walled << 6
    code = (code ^ np.uint64(flags)) * prime
    level = bank.level[n.level]
    if settings.mines > 0.0:
        for k in range(level.type_start[TOGGLE_MINE], level.type_start[TOGGLE_MINE + 1]):
            dx, dy = bank.entity[k].x - n.x, bank.entity[k].y - n.y
            if dx * dx + dy * dy < settings.mines * settings.mines:
                toggled = state.state[i, k - level.entity_start]
                code = (code ^ np.uint64(4 * (k - level.entity_start) + toggled + 1)) * prime
    if settings.movers > 0.0:
        for slot in range(level.movers):
            m = state.mover[i, slot]
            dx, dy = m.x - n.x, m.y - n.y
            if m.kind != EXIT_DOOR and dx * dx + dy * dy < settings.movers * settings.movers:
                code = (code ^ np.uint64(slot << 40 | int(m.x / 6.0) << 20 | int(m.y / 6.0) << 4 | m.dir)) * prime
    code ^= code >> np.uint64(29)
    code *= np.uint64(0xBF58476D1CE4E5B9)
    code ^= code >> np.uint64(32)
    return code | np.uint64(1)


@kernel
def _thin(pools):
    """Give back the rows of about half of the waiting nodes, those that the first queue would take last."""
    counts = pools.counts
    keys, heap = pools.priority[0], pools.queue[0]
    least, most = np.float32(np.inf), np.float32(-np.inf)
    waiting = 0
    for at in range(counts[FIRST]):
        if pools.row[heap[at]] >= 0:
            least, most = min(least, keys[at]), max(most, keys[at])
            waiting += 1
    # The median, by bisection.
    for _ in range(20):
        middle = (least + most) / np.float32(2.0)
        below = 0
        for at in range(counts[FIRST]):
            below += pools.row[heap[at]] >= 0 and keys[at] <= middle
        if 2 * below > waiting:
            most = middle
        else:
            least = middle
    size = counts[FIRST]
    counts[FIRST] = 0
    for at in range(size):  # no entry is written beyond the one that is read
        node, priority = np.int64(heap[at]), keys[at]
        row = np.int64(pools.row[node])
        if row < 0:
            continue
        if priority <= most and 4 * counts[FIRST] < 3 * waiting:
            _push(pools, 0, priority, node)
            continue
        pools.row[node] = -1
        if row > 0:
            pools.free[counts[FREE]] = row
            counts[FREE] += 1
    counts[THINNED] += 1


@kernel
def _copy(words, source, target):
    for k in range(words.shape[1]):
        words[target, k] = words[source, k]


@kernel
def _way(pools, i, goal, before):
    """Px from the ninja of row i to the exit, through all goals before it."""
    n = pools.state.ninja[i]
    g = pools.goals[goal]
    if g.kind == GOAL_NONE:
        return before
    way = distance_at(pools.fields.dist[g.field], n.x, n.y)
    if way >= 0.0:
        return way + g.remaining + (0.0 if g.reached else LOST)
    if g.reached:
        return before
    return np.sqrt((g.x - n.x) * (g.x - n.x) + (g.y - n.y) * (g.y - n.y)) + g.remaining + LOST


@kernel
def _measure(bank, pools, i, before_goal, before):
    """(goal, px to the exit) of row i, whose parent has the goal `before_goal` and the way `before`."""
    goal = _goal_of(bank, pools, i, before_goal)
    if goal < 0:
        return before_goal, before
    return goal, _way(pools, i, goal, before)


@kernel
def _play(bank, state, i, action, frame_skip):
    n = state.ninja[i]
    keys = np.int64(ACTION_BYTES[action])
    h = -1 if keys & 4 else (1 if keys & 2 else 0)
    for _ in range(frame_skip):
        frame(bank, state, i, h, keys & 1)
        if n.state == DEAD or n.state == WON:
            break


@kernel
def _frames_left(pools, total):
    at = total / BIN
    k = int(at)
    if k >= BINS - 1:
        return pools.left[BINS - 1] + (total - BIN * (BINS - 1)) / SPEED
    return pools.left[k] + (at - k) * (pools.left[k + 1] - pools.left[k])


@kernel
def _add(bank, pools, settings, node, row):
    """Queue a node, whose parent, action and goal are set -> whether it may lead to a better solution."""
    n = pools.state.ninja[row]
    total = pools.total[row]
    if settings.weight > 0.0:
        estimate = n.frame + settings.weight * total
        if n.frame + total / 8.0 >= pools.counts[BOUND]:
            return False
    else:
        estimate = n.frame + _frames_left(pools, total)
        if estimate >= pools.counts[BOUND] + settings.slack or n.frame >= pools.counts[BOUND]:
            return False
    pools.row[node] = row
    _push(pools, 0, estimate, node)
    if settings.turns:
        goal = pools.goal[row]
        tile = _tile(n)
        _push(pools, 1, pools.crowd[goal, tile] + 1e-5 * estimate, node)
        pools.crowd[goal, tile] += 1
    return True


@kernel
def _table_mask(pools):
    """Last slot of the part of the table of states that this search uses: a small search clears little memory."""
    slots = 1024
    while slots < len(pools.key) and 3 * slots < 4 * pools.counts[ROOM]:
        slots *= 2
    return min(slots, len(pools.key)) - 1


@kernel
def _is_new(pools, settings, mask, key, at_frame):
    """Note a state -> False where it is known from this frame, an earlier one or, in a first search, one soon after."""
    later = at_frame + (AGAIN if settings.weight > 0.0 else 0)
    slot = int(key >> np.uint64(1)) & mask
    while pools.key[slot] != 0:
        if pools.key[slot] == key:
            if pools.reached[slot] <= later:
                return False
            pools.reached[slot] = at_frame
            return True
        slot = (slot + 1) & mask
    pools.counts[STATES] += 1
    pools.key[slot] = key
    pools.reached[slot] = at_frame
    return True


@njit(nogil=True)
def begin(bank, pools, settings, bound, nodes):
    """Start a search of up to `nodes` nodes from row 0, for solutions that end before frame `bound` of the game."""
    counts = pools.counts
    counts[ROOM] = min(nodes, len(pools.parent))
    mask = _table_mask(pools)
    pools.key[: mask + 1] = 0
    pools.crowd[:] = 0
    counts[COUNT] = 1
    counts[FIRST] = 0
    counts[SECOND] = 0
    counts[BEST] = -1
    counts[EXPANDED] = 0
    counts[STATES] = 0
    counts[THINNED] = 0
    counts[BOUND] = bound
    counts[FREE] = min(len(pools.free), counts[ROOM]) - 1  # row 0 stays as it is: solutions are played from there
    for k in range(1, counts[FREE] + 1):
        pools.free[counts[FREE] - k] = k
    pools.parent[0] = -1
    pools.goal[0], pools.total[0] = _measure(bank, pools, _START, _NO_GOAL, 1000.0)
    _is_new(pools, settings, mask, _key(bank, pools, _START, settings, np.int64(pools.goal[0])), 0)
    _add(bank, pools, settings, _START, _START)


@njit(nogil=True)
def search(bank, pools, settings, expansions):
    """Expand up to so many nodes -> MORE, FOUND, EXHAUSTED or FULL."""
    state, counts = pools.state, pools.counts
    mask = _table_mask(pools)
    for _ in range(expansions):
        if counts[FREE] < 6:
            _thin(pools)
        which = 1 if settings.turns and counts[EXPANDED] % settings.turns == settings.turns - 1 else 0
        if counts[FIRST + which] == 0:
            which = 0
            if counts[FIRST] == 0:
                return FULL if counts[THINNED] else EXHAUSTED
        node = _pop(pools, which)
        row = np.int64(pools.row[node])
        if row < 0:
            continue
        before = np.int64(pools.goal[row])
        own = _key(bank, pools, row, settings, before)
        counts[EXPANDED] += 1
        for action in range(6):
            child = counts[COUNT]
            if child >= counts[ROOM] or counts[FREE] == 0 or 4 * counts[STATES] > 3 * mask:
                return FULL
            there = np.int64(pools.free[counts[FREE] - 1])
            _copy(pools.words, row, there)
            n = state.ninja[there]
            key = own
            held = 0
            while held < settings.hold and key == own:
                _play(bank, state, there, action, settings.frame_skip)
                held += 1
                if n.state == DEAD or n.state == DYING or n.state == WON:
                    break
                key = _key(bank, pools, there, settings, before)
            pools.parent[child] = node
            pools.action[child] = action
            pools.held[child] = held
            if n.state == WON:
                if n.frame < counts[BOUND]:
                    counts[BEST] = child
                    counts[BOUND] = n.frame
                    counts[COUNT] += 1
                    pools.row[child] = -1
                    _push(pools, 0, np.float32(n.frame), node)  # if the search goes on, its actions are tried again
                    return FOUND
                continue
            if n.state == DEAD or n.state == DYING or key == own or not _is_new(pools, settings, mask, key, n.frame):
                continue
            pools.goal[there], pools.total[there] = _measure(bank, pools, there, before, np.float64(pools.total[row]))
            if _add(bank, pools, settings, child, there):
                counts[COUNT] += 1
                counts[FREE] -= 1
                if settings.stages and pools.goal[there] != pools.goal[0] and pools.total[there] < pools.total[0]:
                    counts[BEST] = child
                    _push(pools, 0, np.float32(n.frame), node)
                    return STAGE
        pools.row[node] = -1
        if row > 0:
            pools.free[counts[FREE]] = row
            counts[FREE] += 1
    return MORE


@njit(nogil=True)
def graft(bank, pools, settings, words, playing, actions, nodes, goals, totals):
    """Add the last step of some games that a policy plays to the nodes -> False where no memory is left.

    words: u8 [games, row bytes / 8], the games after the step. playing: i8 [k], those that count. actions: i8 [games].
    nodes, goals i8 [games], totals f8 [games]: the node that each game was at before the step, its goal, and the px to
    the exit; they are renewed. A state that is known gets a node that waits in no queue.
    """
    counts = pools.counts
    mask = _table_mask(pools)
    for k in range(len(playing)):
        i = playing[k]
        child = counts[COUNT]
        if counts[FREE] < 6:
            _thin(pools)
        if child >= counts[ROOM] or counts[FREE] == 0 or 4 * counts[STATES] > 3 * mask:
            return False
        pools.parent[child] = nodes[i]
        pools.action[child] = actions[i]
        pools.held[child] = 1
        pools.row[child] = -1
        counts[COUNT] += 1
        nodes[i] = child
        there = np.int64(pools.free[counts[FREE] - 1])
        for word in range(words.shape[1]):
            pools.words[there, word] = words[i, word]
        n = pools.state.ninja[there]
        if n.state == DEAD or n.state == DYING or n.state == WON:
            continue
        before = goals[i]
        key = _key(bank, pools, there, settings, before)
        goals[i], totals[i] = _measure(bank, pools, there, before, totals[i])
        if _is_new(pools, settings, mask, key, n.frame):
            pools.goal[there], pools.total[there] = goals[i], totals[i]
            if _add(bank, pools, settings, child, there):
                counts[FREE] -= 1
    return True


@njit(nogil=True)
def replay(bank, pools, actions, frame_skip):
    """Play actions from row 0, with the state after each step in the rows after it -> (steps played, won, frame)."""
    state = pools.state
    for step in range(len(actions)):
        _copy(pools.words, step, step + 1)
        _play(bank, state, step + 1, np.int64(actions[step]), frame_skip)
        n = state.ninja[step + 1]
        if n.state == DEAD or n.state == DYING or n.state == WON:
            return step + 1, n.state == WON, n.frame
    return len(actions), False, state.ninja[len(actions)].frame


@njit(nogil=True)
def calibrate(bank, pools, steps):
    """Fill the table of frames left from a won run in rows 0 to `steps`."""
    state = pools.state
    goal, total = _measure(bank, pools, _START, _NO_GOAL, 1000.0)
    end = state.ninja[steps].frame
    pools.left[:] = -1.0
    for step in range(steps):
        if step:
            goal, total = _measure(bank, pools, step, goal, total)
        k = min(max(int(total / BIN), 0), BINS - 1)
        pools.left[k] = end - state.ninja[step].frame  # the last time at this distance counts
    # A distance that the run skipped, or left before a larger one, takes as long as the larger one.
    last = np.float32(-1.0)
    for k in range(BINS - 1, -1, -1):
        if pools.left[k] >= 0.0 and (last < 0.0 or pools.left[k] < last):
            last = pools.left[k]
        pools.left[k] = last
    farthest = 0
    for k in range(BINS):
        if pools.left[k] >= 0.0:
            farthest = k
    for k in range(farthest + 1, BINS):
        pools.left[k] = pools.left[farthest] + (k - farthest) * BIN / SPEED


@kernel
def _draw(seed):
    """Next state of a generator (xorshift64)."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


@njit(nogil=True)
def tweak(bank, pools, actions, steps, frame_skip, frames, seed):
    """Try small changes of a won run: spans are cut out, replaced by another held action, or stretched.

    frames: to be played in all. actions: u1 [most steps], of which `steps` count; changed in place where a change wins
    in fewer frames. Rows 0 to `steps` hold the run's states. -> (steps, number of changes kept, seed).
    """
    state = pools.state
    scratch = len(pools.free) - 1
    kept = 0
    while frames > 0:
        frames -= frame_skip
        seed = _draw(seed)
        at = int(seed >> np.uint64(33)) % steps
        seed = _draw(seed)
        cut = int(seed >> np.uint64(33)) % 9
        seed = _draw(seed)
        put = int(seed >> np.uint64(33)) % 9
        seed = _draw(seed)
        action = int(seed >> np.uint64(33)) % 8
        if action >= 6:  # the span before or after it is stretched
            action = actions[at - 1] if action == 6 and at else actions[min(at + cut, steps - 1)]
        if cut == 0 and put == 0:
            continue
        cut = min(cut, steps - at)
        best = state.ninja[steps].frame
        _copy(pools.words, at, scratch)
        n = state.ninja[scratch]
        length = steps - cut + put
        played = 0
        while at + played < length and n.frame < best:
            now = np.int64(action if played < put else actions[at + cut + played - put])
            _play(bank, state, scratch, now, frame_skip)
            pools.tail[played] = now
            played += 1
            if n.state == DEAD or n.state == DYING or n.state == WON or played == len(pools.tail):
                break
        frames -= played * frame_skip
        if n.state != WON or n.frame >= best or at + played > len(actions):
            continue
        kept += 1
        steps = at + played
        for k in range(played):
            actions[at + k] = pools.tail[k]
        for step in range(at, steps):
            _copy(pools.words, step, step + 1)
            _play(bank, state, step + 1, np.int64(actions[step]), frame_skip)
    return steps, kept, seed
