"""Where a ninja can get to by running, jumping, wall jumps and falling: a fast estimate, in compiled code.

The ninja's centre moves over the lattice of fields.py with a reserve of height, in units of 1 px. A floor renews it to
FLOOR and a wall to WALL; a step up takes 6, diagonally up 7, to the side 2, and without a reserve the ninja can only
fall. So a jump rises 72 px or leads 216 px far at one height, about what a real one does (PHYSICS.md 4). A step down
takes 3, diagonally down 4, and either takes 6 from 0 on. No floor is entered with DEADLY or less, after a fall of
228 px from an edge: one of 240 px onto flat ground kills. The estimate knows no speed, so ways with tight timing can be
worse than it says.
"""

import numpy as np

from npp_rl.levels import fields
from npp_rl.simulator.compiled import njit

FLOOR, WALL, DEADLY = 72, 42, -84
UNREACHED = -1000
LEAST_GAIN = 6  # a node enters the queue again only if its reserve is that much higher
MOST_ENTRIES = 6 * fields.NODES  # of the queue

# Steps to the eight neighbours, and the reserve that each takes.
_DX = np.array([0, 0, 1, -1, 1, -1, 1, -1])
_DY = np.array([1, -1, 0, 0, 1, 1, -1, -1])
_COST = np.array([3, 6, 2, 2, 4, 4, 7, 7])


@njit
def supports(ground, lift):
    """Write the reserve that each node renews, uint8 [NODES]. ground: `free` of the tiles alone, uint8 [NODES]."""
    lift[:] = 0
    last = fields.NODES - fields.COLS
    for node in range(fields.COLS, last):
        if not ground[node]:
            continue
        if not ground[node + fields.COLS]:
            lift[node] = FLOOR
        else:  # a wall, and no corner: three nodes beside it are not free
            up, down = node - fields.COLS, node + fields.COLS
            if not (ground[up - 1] or ground[node - 1] or ground[down - 1]) or not (
                ground[up + 1] or ground[node + 1] or ground[down + 1]
            ):
                lift[node] = WALL


@njit
def spread(free, lift, start, best, first, entries):
    """Find the nodes that can be got to from a node -> number of entries of the queue.

    free: uint8 [NODES], where the ninja may be. lift: see `supports`. Written: best int16 [NODES], the reserve,
    UNREACHED where it cannot get to; first int32 [NODES], the node's first entry, -1 likewise. entries: int32
    [MOST_ENTRIES, 4] of node, reserve, entry before it (-1), steps from the start.
    """
    best[:] = UNREACHED
    first[:] = -1
    if not free[start]:
        return 0
    entries[0, 0], entries[0, 1], entries[0, 2], entries[0, 3] = start, lift[start], -1, 0
    best[start], first[start] = lift[start], 0
    count, at = 1, 0
    while at < count:
        node, reserve = entries[at, 0], entries[at, 1]
        if reserve == best[node]:
            for k in range(8):
                cost = _COST[k] if reserve > 0 or _DY[k] <= 0 else 6
                if reserve < cost and _DY[k] <= 0:
                    continue
                m = node + _DX[k] + _DY[k] * fields.COLS
                left = max(reserve - cost, UNREACHED + 1)
                if not free[m] or (lift[m] == FLOOR and left <= DEADLY):
                    continue
                if lift[m]:
                    left = max(left, np.int64(lift[m]))
                if (first[m] < 0 or left >= best[m] + LEAST_GAIN) and count < MOST_ENTRIES:
                    best[m] = left
                    if first[m] < 0:
                        first[m] = count
                    entries[count, 0], entries[count, 1] = m, left
                    entries[count, 2], entries[count, 3] = at, entries[at, 3] + 1
                    count += 1
        at += 1
    return count


@njit
def mark_way(entries, entry, lift, near, in_air, marked):
    """Set `marked` (uint8 [NODES]) to 1 around the way to an entry -> number of nodes of the way.

    near, in_air: px to keep from a node beside ground (lift > 0), and from one in the air, where a jump's curve differs
    from the estimate's.
    """
    count = 0
    while entry >= 0:
        radius = near if lift[entries[entry, 0]] else in_air
        r = int(radius / fields.SPACING)
        i, j = entries[entry, 0] % fields.COLS, entries[entry, 0] // fields.COLS
        for row in range(max(j - r, 0), min(j + r + 1, fields.ROWS)):
            for column in range(max(i - r, 0), min(i + r + 1, fields.COLS)):
                dx, dy = fields.SPACING * (column - i), fields.SPACING * (row - j)
                if dx * dx + dy * dy <= radius * radius:
                    marked[row * fields.COLS + column] = 1
        entry = entries[entry, 2]
        count += 1
    return count
