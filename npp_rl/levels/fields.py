"""The ninja's free space in a level, and distances along it, in compiled code.

The centre of the ninja (a circle of radius 10 px) is placed on a lattice of nodes (6i, 6j) px, 0 <= i < COLS,
0 <= j < ROWS. Node (i, j) has the index j * COLS + i. An array over nodes is a field:

- `free` uint8: not 0 where the circle overlaps no solid ground (and no mine or closed door, once those are blocked).
  The bits of a free node are FREE, the sides where it has room, and SQUEEZED (see `block_circle`).
- `dist` uint16: length of the shortest path to the goal in units of 1.2 px (UNIT), UNREACHED where there is none.
- `ahead` uint8: direction (0..15) of the next node on that path, AT_GOAL where the goal is touched, NO_WAY elsewhere.

A path steps to 16 neighbours: 4 straight (5 units), 4 diagonal (7) and 8 by a chess knight's move (11). They are
numbered clockwise on the screen from east, about 22.5 degrees apart. Knight's moves make lengths more exact, and some
ways need them: between two parallel slopes 1:2, 24 px above each other, all free nodes are a knight's move apart.

A step is open when both its ends are free, and that cuts no corner. Corners of tiles, centres of curves, mines and ends
of doors all lie on the lattice, and no lattice point is nearer than 10 px (14 px for a mine, 34 px for a curve) to one
of the 16 steps without being that near to one of its ends; tests/test_fields.py checks all of them. Only squeezed
nodes, which are nearer to a mine, make no knight's moves, and no diagonal step where both ends give way to the mine.

Compiled functions allocate nothing; every array is passed in. The border ring of a level is always solid, so no free
node has a neighbour outside the lattice.
"""

import numpy as np

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import MINE_RADIUS
from npp_rl.simulator.tiles import SOLID, TILES

SPACING = 6.0  # px between nodes: a quarter of a tile, and the unit of map coordinates
COLS, ROWS = 177, 101
NODES = COLS * ROWS
UNIT = 1.2  # px in one unit of `dist`: 5, 7 and 11 units stand for 6, 8.49 and 13.42 px
UNREACHED = 65535
AT_GOAL, NO_WAY = 255, 254
QUEUE = 4 * NODES  # length of the scratch array of `distances`

RADIUS = 10.0  # px, of the ninja (PHYSICS.md 4.1)
# Distances (px) of the ninja's centre from others at which it touches them.
TOUCH_SWITCH = 16.0  # exit switch: 10 + 6 (PHYSICS.md 5.6)
TOUCH_EXIT = 22.0  # exit door: 10 + 12 (PHYSICS.md 5.5)
TOUCH_DOOR_SWITCH = 15.0  # switch of a locked or trap door: 10 + 5 (PHYSICS.md 5.7)
BLOCK_MINE = MINE_RADIUS  # deadly mine: 10 + 4 (PHYSICS.md 5.3)

# Bits of `free`: the node is free; the ninja also has room 2 px to the east, south, west, north of it; it needs that
# room, since at the node itself a mine would touch it.
FREE, ROOM_EAST, ROOM_SOUTH, ROOM_WEST, ROOM_NORTH, SQUEEZED = 1, 2, 4, 8, 16, 32
_ROOM = 2.0  # px: a node beside a straight wall lies 12 px from it, and the ninja's centre can get to 10 px

# A node is free from this distance (px) to solid ground on. No node lies at exactly 10 px. The only distance near it is
# 9.94 px, of the node on the diagonal of a convex curve: there the ninja gets through, pushed aside by 0.06 px
# (PHYSICS.md 4.8). The next distances below and above are 8.49 and 10.58 px.
_CLEARANCE = 9.9

# Steps to the 16 neighbours, clockwise from east; the opposite of direction d is d ^ 8.
DX = np.array([1, 2, 1, 1, 0, -1, -1, -2, -1, -2, -1, -1, 0, 1, 1, 2])
DY = np.array([0, 1, 1, 2, 1, 2, 1, 1, 0, -1, -1, -2, -1, -2, -1, -1])
_STEP = DX + COLS * DY
_WEIGHT = np.array([5, 11, 7, 11] * 4)
_LENGTH = SPACING * np.hypot(DX, DY)  # px
# Sides that a diagonal step leads to, as bits of `free`; only the entries 2, 6, 10 and 14 are used.
_TOWARD = (np.where(DX > 0, ROOM_EAST, ROOM_WEST) | np.where(DY > 0, ROOM_SOUTH, ROOM_NORTH)).astype(np.uint8)


def _distance_to_polygon(x, y, corners):
    """Distance (px) of points (arrays) to a filled convex polygon with corners clockwise on the screen."""
    outside = np.zeros(x.shape, bool)
    nearest = np.full(x.shape, np.inf)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        lx, ly = x2 - x1, y2 - y1
        t = np.clip(((x - x1) * lx + (y - y1) * ly) / (lx * lx + ly * ly), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x1 - t * lx, y - y1 - t * ly))
        outside |= lx * (y - y1) - ly * (x - x1) < 0
    return np.where(outside, nearest, 0.0)


def distance_to_tile(tile, x, y):
    """Exact distance (px) of points, given relative to the tile's upper left corner, to the tile's solid part."""
    if 34 <= tile <= 37:
        line = {34: ((0, 0), (24, 0)), 35: ((24, 0), (24, 24)), 36: ((0, 24), (24, 24)), 37: ((0, 0), (0, 24))}[tile]
        (x1, y1), (x2, y2) = line
        return np.hypot(x - np.clip(x, x1, x2), y - np.clip(y, y1, y2))
    if 10 <= tile <= 17:
        a, b, h, w, convex = TILES[tile][5]
        u, v = h * (x - a), w * (y - b)  # the solid part lies in 0 <= u <= 24, 0 <= v <= 24
        r = np.hypot(u, v)
        in_quadrant = (u >= 0) & (v >= 0)
        if convex:
            to_edges = np.minimum(np.hypot(u - np.clip(u, 0, 24), v), np.hypot(u, v - np.clip(v, 0, 24)))
            return np.where(in_quadrant, np.maximum(r - 24, 0), to_edges)
        # Outside the square, the nearest point of the square is solid unless it lies on an open edge or in the hollow.
        cu, cv = np.clip(u, 0, 24), np.clip(v, 0, 24)
        to_square = np.hypot(u - cu, v - cv)
        to_ends = np.minimum(np.hypot(u - 24, v), np.hypot(u, v - 24))
        in_hollow = np.hypot(cu, cv) < 24
        to_curve = np.where(in_quadrant, np.maximum(24 - r, 0), np.inf)
        return np.where(in_hollow, np.minimum(to_curve, to_ends), to_square)
    return _distance_to_polygon(x, y, SOLID[tile])


def _block_table():
    """uint64 [39, 9, 2]: what a tile takes away from the nodes of its own cell and of the 8 cells around it.

    Entry 3 (dy + 1) + dx + 1 is for the cell at (dx, dy) from the tile's own; no tile reaches farther. A cell owns its
    4 x 4 nodes from the upper left corner, one byte each: rows 0 and 1 in the first word, 2 and 3 in the second. A byte
    has the bits of `free` that the node loses. Row 38 is for tiles of higher numbers, which take nothing.
    """
    table = np.zeros((39, 9, 2), np.uint64)
    columns, rows = np.meshgrid(np.arange(-4, 8), np.arange(-4, 8))
    places = ((FREE, 0, 0), (ROOM_EAST, 1, 0), (ROOM_SOUTH, 0, 1), (ROOM_WEST, -1, 0), (ROOM_NORTH, 0, -1))
    for tile in range(1, 38):
        lost = np.zeros(rows.shape, np.uint64)
        for bit, dx, dy in places:
            away = distance_to_tile(tile, SPACING * columns + _ROOM * dx, SPACING * rows + _ROOM * dy)
            lost |= (away < _CLEARANCE).astype(np.uint64) * np.uint64(bit)
        for k in range(9):
            nodes = lost[k // 3 * 4 :, k % 3 * 4 :][:4, :4].reshape(2, 8)
            table[tile, k] = (nodes << (8 * np.arange(8, dtype=np.uint64))).sum(axis=1)
    return table


_BLOCK = _block_table()
_ALL_BLOCKED = np.uint64(0x0101010101010101)  # FREE lost in every byte


@kernel
def _tile_at(tiles, row, column):
    """Row of _BLOCK for a cell. Two one-sided lines on the same border cancel each other (PHYSICS.md 3.3)."""
    if row == 0 or row == 24 or column == 0 or column == 43:
        return 1
    tile = tiles[row, column]
    if tile < 34:
        return tile
    if (
        (tile == 34 and tiles[row - 1, column] == 36)
        or (tile == 36 and tiles[row + 1, column] == 34)
        or (tile == 35 and tiles[row, column + 1] == 37)
        or (tile == 37 and tiles[row, column - 1] == 35)
    ):
        return 0
    return min(tile, 38)


@njit
def level_free(tiles, free):
    """Write `free` (uint8 [NODES]) for the ground alone. tiles: uint8 [25, 44]; the border ring counts as solid.

    One-sided lines (tiles 34..37) block from both sides, since they stop a sweep from both (PHYSICS.md 6.4). Where such
    a line cancels the face of solid ground, the ground stays blocked here, although the ninja could slip into it.
    """
    free[:] = 0
    for row in range(1, 24):
        # A window of 3 x 3 tiles moves along the row, so that each tile is read three times only, once per row.
        a0, a1, a2 = 0, _tile_at(tiles, row - 1, 0), _tile_at(tiles, row - 1, 1)
        b0, b1, b2 = 0, _tile_at(tiles, row, 0), _tile_at(tiles, row, 1)
        c0, c1, c2 = 0, _tile_at(tiles, row + 1, 0), _tile_at(tiles, row + 1, 1)
        for column in range(1, 43):
            a0, a1, a2 = a1, a2, _tile_at(tiles, row - 1, column + 1)
            b0, b1, b2 = b1, b2, _tile_at(tiles, row, column + 1)
            c0, c1, c2 = c1, c2, _tile_at(tiles, row + 1, column + 1)
            if b1 == 1:
                continue
            for half in range(2):
                # For the tile to the upper left, this cell is the lower right neighbour (entry 8), and so on.
                lost = _BLOCK[a0, 8, half] | _BLOCK[a1, 7, half] | _BLOCK[a2, 6, half]
                lost |= _BLOCK[b0, 5, half] | _BLOCK[b1, 4, half] | _BLOCK[b2, 3, half]
                lost |= _BLOCK[c0, 2, half] | _BLOCK[c1, 1, half] | _BLOCK[c2, 0, half]
                if lost & _ALL_BLOCKED == _ALL_BLOCKED:
                    continue
                start = (4 * row + 2 * half) * COLS + 4 * column
                for k in range(8):
                    bits = (lost >> np.uint64(8 * k)) & np.uint64(31)
                    free[start + k // 4 * COLS + k % 4] = 0 if bits & np.uint64(FREE) else np.uint64(31) ^ bits


@njit
def block_circle(free, x, y, radius):
    """Take the nodes nearer than radius (px) to (x, y) out of `free`; a deadly mine has BLOCK_MINE.

    A node stays if the ninja has room 2 px farther away and is out of the radius there; it is marked as SQUEEZED. This
    keeps the floor under a mine 24 px above it open: the ninja runs by at exactly 14 px, which does not touch
    (PHYSICS.md 6.9), but the node is at 12 px. A node between two mines would have to give way to both sides, and is
    taken out.
    """
    for j in range(max(int((y - radius) / SPACING), 0), min(int((y + radius) / SPACING) + 1, ROWS - 1) + 1):
        dy = j * SPACING - y
        for i in range(max(int((x - radius) / SPACING), 0), min(int((x + radius) / SPACING) + 1, COLS - 1) + 1):
            dx = i * SPACING - x
            if dx * dx + dy * dy >= radius * radius:
                continue
            if abs(dx) > abs(dy):
                room, behind = (ROOM_EAST, ROOM_WEST) if dx > 0 else (ROOM_WEST, ROOM_EAST)
                farther = (abs(dx) + _ROOM) * (abs(dx) + _ROOM) + dy * dy
            else:
                room, behind = (ROOM_SOUTH, ROOM_NORTH) if dy > 0 else (ROOM_NORTH, ROOM_SOUTH)
                farther = dx * dx + (abs(dy) + _ROOM) * (abs(dy) + _ROOM)
            bits = free[j * COLS + i]
            if bits & room and farther >= radius * radius:
                free[j * COLS + i] = (bits | SQUEEZED) & (255 ^ behind)
            else:
                free[j * COLS + i] = 0


@kernel
def near_segment(x, y, x1, y1, x2, y2):
    """Whether the ninja at (x, y) would overlap the segment of a closed door, with the tolerance of `level_free`."""
    lx, ly = x2 - x1, y2 - y1
    length2 = lx * lx + ly * ly
    t = 0.0
    if length2 > 0.0:
        t = min(max(((x - x1) * lx + (y - y1) * ly) / length2, 0.0), 1.0)
    dx, dy = x - x1 - t * lx, y - y1 - t * ly
    return dx * dx + dy * dy < _CLEARANCE * _CLEARANCE


@njit
def block_segment(free, x1, y1, x2, y2):
    """Take the nodes where the ninja would overlap the segment (a closed door's, px) out of `free`."""
    left, right = min(x1, x2) - RADIUS, max(x1, x2) + RADIUS
    upper, lower = min(y1, y2) - RADIUS, max(y1, y2) + RADIUS
    for j in range(max(int(upper / SPACING), 0), min(int(lower / SPACING) + 1, ROWS - 1) + 1):
        for i in range(max(int(left / SPACING), 0), min(int(right / SPACING) + 1, COLS - 1) + 1):
            if near_segment(i * SPACING, j * SPACING, x1, y1, x2, y2):
                free[j * COLS + i] = 0


@kernel
def _barred(k, here, there):
    """Whether step k between two free nodes with these bits is closed, because it would lead between two mines."""
    if k & 1:
        return (here | there) & SQUEEZED != 0
    return here & there & SQUEEZED != 0 and k & 2 and not here & _TOWARD[k] and not there & _TOWARD[k ^ 8]


@kernel
def _relax(node, d, free, dist, ahead, queue, straight, diagonal, knight):
    """Offer the neighbours of `node`, which is at distance d, paths through it -> new ends of the three queues."""
    for k in range(0, 16, 4):
        m = node + _STEP[k]
        if d + 5 < dist[m]:
            dist[m] = d + 5
            ahead[m] = k ^ 8
            queue[straight] = (d + 5) << 15 | m
            straight += 1
    for k in range(2, 16, 4):
        m = node + _STEP[k]
        if d + 7 < dist[m] and not _barred(k, free[node], free[m]):
            dist[m] = d + 7
            ahead[m] = k ^ 8
            queue[diagonal] = (d + 7) << 15 | m
            diagonal += 1
    if free[node] & SQUEEZED:
        return straight, diagonal, knight
    for k in range(1, 16, 2):
        m = node + _STEP[k]
        if d + 11 < dist[m] and not free[m] & SQUEEZED:
            dist[m] = d + 11
            ahead[m] = k ^ 8
            queue[knight] = (d + 11) << 15 | m
            knight += 1
    return straight, diagonal, knight


@kernel(forceinline=True)
def _settle(d, head, end, free, dist, ahead, queue, straight, diagonal, knight):
    """Settle the nodes at distance d at the head of one queue -> (its new head, nodes settled, the other new ends)."""
    reached = 0
    while head < end and queue[head] >> 15 == d:
        node = queue[head] & 32767
        head += 1
        if dist[node] == d:
            reached += 1
            straight, diagonal, knight = _relax(node, d, free, dist, ahead, queue, straight, diagonal, knight)
    return head, reached, straight, diagonal, knight


_PENDING = 64  # added to `ahead` of a start node until it is in the queue


@kernel
def _window(x, y, reach):
    """Lattice range (first column, end, first row, end) that holds every node within reach px of (x, y)."""
    return (
        max(int((x - reach) / SPACING), 0),
        min(int((x + reach) / SPACING) + 2, COLS),
        max(int((y - reach) / SPACING), 0),
        min(int((y + reach) / SPACING) + 2, ROWS),
    )


@kernel
def _start(gx, gy, touch, free, dist, ahead):
    """Give the nodes at one goal their distances, as `distances` says -> whether there is such a node."""
    found = False
    nearest, best = -1, touch + 9.0
    i0, i1, j0, j1 = _window(gx, gy, touch + 9.0)
    for j in range(j0, j1):
        for i in range(i0, i1):
            node = j * COLS + i
            if dist[node] == 0 and ahead[node] == NO_WAY:
                continue  # not free
            dx, dy = i * SPACING - gx, j * SPACING - gy
            r = np.sqrt(dx * dx + dy * dy)
            if r < touch:
                dist[node] = 0
                ahead[node] = AT_GOAL - _PENDING
                found = True
            elif r < best:
                nearest, best = node, r
    if not found:
        if nearest >= 0:
            d = max(int((best - touch) / UNIT + 0.5), 1)
            if d < dist[nearest]:
                dist[nearest] = d
                ahead[nearest] = AT_GOAL - _PENDING
        return nearest >= 0
    # A node just outside the circle gets its length to the circle, less than a whole step, so the field falls evenly.
    for j in range(j0, j1):
        for i in range(i0, i1):
            node = j * COLS + i
            dx, dy = i * SPACING - gx, j * SPACING - gy
            if ahead[node] != AT_GOAL - _PENDING or dx * dx + dy * dy >= touch * touch:
                continue
            for k in range(16):
                m = node + _STEP[k]
                if _barred(k, free[node], free[m]):
                    continue
                dx, dy = (i + DX[k]) * SPACING - gx, (j + DY[k]) * SPACING - gy
                d = min(max(int((np.sqrt(dx * dx + dy * dy) - touch) / UNIT + 0.5), 1), _WEIGHT[k])
                if d < dist[m]:
                    dist[m] = d
                    ahead[m] = (k ^ 8) + _PENDING
    return True


@njit
def distances(free, goals, touch, dist, ahead, queue):
    """Find the shortest paths from every free node to the nearest of the goals -> number of nodes reached.

    free: uint8 [NODES]. goals: float64 [g, 2], centres in px. touch: distance (px) of the ninja's centre at which it
    touches a goal (TOUCH_SWITCH, TOUCH_EXIT ...). Written: dist uint16 [NODES], ahead uint8 [NODES]. queue: int32
    [QUEUE], scratch.

    dist is 0 at every free node within touch; one step outside it is the length left to the circle. A goal that no free
    node touches is taken to lie at the nearest free node, if one is within 9 px more; else nothing is reached.

    The algorithm is Dijkstra's. Nodes are settled in ascending distance and each kind of step adds a constant, so a
    first in, first out queue for each kind of step stays sorted, and no node enters the same queue twice.
    """
    # Meanwhile a node that is not free has distance 0: one comparison finds that a step is open and that it is better.
    for node in range(NODES):
        dist[node] = UNREACHED if free[node] else 0
        ahead[node] = NO_WAY
    found = False
    for g in range(goals.shape[0]):
        found |= _start(goals[g, 0], goals[g, 1], touch, free, dist, ahead)
    h0, h1, h2, h3 = 0, NODES, 2 * NODES, 3 * NODES
    t0, t1, t2, t3 = h0, h1, h2, h3
    if found:
        for d in range(12):
            for g in range(goals.shape[0]):
                i0, i1, j0, j1 = _window(goals[g, 0], goals[g, 1], touch + 2.5 * SPACING)
                for j in range(j0, j1):
                    for i in range(i0, i1):
                        node = j * COLS + i
                        if dist[node] == d and ahead[node] != NO_WAY:
                            if ahead[node] == AT_GOAL - _PENDING:
                                ahead[node] = AT_GOAL
                            elif _PENDING <= ahead[node] < _PENDING + 16:
                                ahead[node] -= _PENDING
                            else:
                                continue
                            queue[t0] = d << 15 | node
                            t0 += 1
    reached = 0
    d = 0
    while h0 < t0 or h1 < t1 or h2 < t2 or h3 < t3:
        h0, n0, t1, t2, t3 = _settle(d, h0, t0, free, dist, ahead, queue, t1, t2, t3)
        h1, n1, t1, t2, t3 = _settle(d, h1, t1, free, dist, ahead, queue, t1, t2, t3)
        h2, n2, t1, t2, t3 = _settle(d, h2, t2, free, dist, ahead, queue, t1, t2, t3)
        h3, n3, t1, t2, t3 = _settle(d, h3, t3, free, dist, ahead, queue, t1, t2, t3)
        reached += n0 + n1 + n2 + n3
        d += 1
    for node in range(NODES):
        if not free[node]:
            dist[node] = UNREACHED
    return reached


@kernel
def _best_reached(dist, x, y, reach):
    """Node near (x, y) with the shortest way to the goal through it -> (node, px), node -1 if there is none.

    The search begins in the window `reach` (0: the four nodes around) and widens it until a node is found, at most to
    2. The four nodes around are neighbours in free space. In a wider window, for a ninja that stands where no node is
    free, a thin wall may be between.
    """
    node, best = -1, np.inf
    while node < 0 and reach <= 2:
        i, j = int(x / SPACING) - reach, int(y / SPACING) - reach
        for jj in range(max(j, 0), min(j + 2 * reach + 2, ROWS)):
            for ii in range(max(i, 0), min(i + 2 * reach + 2, COLS)):
                d = dist[jj * COLS + ii]
                if d != UNREACHED:
                    dx, dy = ii * SPACING - x, jj * SPACING - y
                    r = np.sqrt(dx * dx + dy * dy) + UNIT * d
                    if r < best:
                        node, best = jj * COLS + ii, r
        reach += 1
    return node, best


@njit
def nearest_reached(dist, x, y):
    """Node within three nodes of (x, y) px through which the way to the goal is shortest; -1 if there is none."""
    return _best_reached(dist, x, y, 0)[0]


@njit
def distance_at(dist, x, y):
    """Length (px) of the way from any position (x, y) to the goal, almost continuous; -1.0 if no way is near.

    The way ends at the nearest node that touches the goal. So it is a few px, not 0, where the touch begins.
    """
    node, best = _best_reached(dist, x, y, 0)
    return best if node >= 0 else -1.0


@njit
def path_points(dist, ahead, x, y, lengths, out):
    """Write the points lengths[k] px ahead on the shortest path from (x, y) into out, float32 [k, 2] px.

    lengths: float64 [k], k > 0, ascending. The path ends at the first node that touches the goal, and points beyond lie
    there. Returns False, with (x, y) in every row, where no reached node is near.
    """
    node, _ = _best_reached(dist, x, y, 1)
    px, py = float(x), float(y)
    k = 0
    if node >= 0:
        # The first piece leads to a node. The others are steps, whose lengths and directions are known.
        wx, wy = (node % COLS) * SPACING - px, (node // COLS) * SPACING - py
        length = np.sqrt(wx * wx + wy * wy)
        walked = 0.0
        while True:
            end = walked + length
            while lengths[k] < end:
                t = (lengths[k] - walked) / length
                out[k, 0] = px + t * wx
                out[k, 1] = py + t * wy
                k += 1
                if k == lengths.shape[0]:
                    return True
            walked = end
            px += wx
            py += wy
            step = ahead[node]
            if step >= 16:
                break
            node += _STEP[step]
            wx, wy = SPACING * DX[step], SPACING * DY[step]
            length = _LENGTH[step]
    for r in range(k, lengths.shape[0]):
        out[r, 0] = px
        out[r, 1] = py
    return node >= 0


@njit
def first_closed_door(dist, ahead, x, y, doors, closed):
    """Index of the first closed door that bars the path from (x, y) px; -1 if none does, or there is no path.

    dist, ahead: a field computed with all doors open. doors: float64 [d, 4], segments (x1, y1, x2, y2) px. closed:
    uint8 [d]. A closed door bars three columns of nodes and a step skips at most one, so none is stepped over.
    """
    node = nearest_reached(dist, x, y)
    while node >= 0:
        nx, ny = (node % COLS) * SPACING, (node // COLS) * SPACING
        for k in range(doors.shape[0]):
            if closed[k] and near_segment(nx, ny, doors[k, 0], doors[k, 1], doors[k, 2], doors[k, 3]):
                return k
        if ahead[node] >= 16:
            return -1
        node += _STEP[ahead[node]]
    return -1


@njit
def reached_share(dist, free):
    """Share (0..1) of the free nodes from which the goal is reached."""
    reached, total = 0, 0
    for node in range(NODES):
        total += free[node] != 0
        reached += dist[node] != UNREACHED
    return reached / max(total, 1)
