"""Where each action leads: nine arcs that the ninja would fly or run, which let an agent see ahead.

An arc is what becomes of the ninja if it holds one input from now on: nothing, left or right, each without a jump, with
the jump key held all the time, and with it held for TAP frames. The flight uses the simulator's own arithmetic
(PHYSICS.md 4.5, 4.10, 4.11). Contacts are approximate: the ninja is a disc that slides along the distances to solid
ground of the 6 px lattice. Hazards that move are where they will be in each frame (movers.py). Launch pads, doors and
blocks that move are left out.

The ninja jumps in the first frame, or in one of the four after it as soon as it touches ground or a wall. An arc ends
where the ninja lands after a flight or dies, and at the latest after FRAMES frames. Hazards that it slides into in the
SETTLE frames after the landing count too. A toggle mine on the way kills once it was touched and left (PHYSICS.md 5.3).

`arcs` float32 [ARCS, ARC], rows by jump (none, held, tapped) and within by direction (none, left, right):

| index | what |
| --- | --- |
| 0 | 1 - frames until it kills (a hazard is touched, or an impact is too hard) / FRAMES, 0 if it does not |
| 1 | least distance to a hazard / 24 px, at most 1 |
| 2 | it ends with a landing |
| 3 | frames until its end / FRAMES |
| 4, 5 | offset of its end from the ninja / 100 px |
| 6 | px that its end is nearer to the goal along the way / 100, clipped to -2..2; -1 where no way leads |
| 7 | hardest impact on ground, wall or ceiling; more than 1 kills (PHYSICS.md 4.9); at most 2 |
| 8 | most px that it comes nearer to the goal anywhere / 100, at most 2 |
"""

import math

import numpy as np

from npp_rl.environment.lattice import CLEARANCE, FAR, ROWS, cell_at, room, solid
from npp_rl.environment.movers import FRAMES, LISTED, MOVERS, begin_arc, pass_movers
from npp_rl.levels.fields import COLS, RADIUS, SPACING, UNIT, UNREACHED
from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.contacts import G_FALL, MINE_RADIUS, TOGGLE_IN, TOGGLE_OUT
from npp_rl.simulator.layout import JUMPING, MINE, TOGGLE_MINE, WALL_SLIDING
from npp_rl.simulator.ninja import A_AIR, A_GROUND, DRAG, F_GROUND, F_WALL, G_JUMP, JUMP_FRAMES, V_MAX

ARCS, ARC = 9, 9
TAP = 4  # frames, a step of the usual length
SETTLE = 4  # frames after a landing in which hazards still count, since the step goes on
BESIDE = 10.1  # px from which a wall may be jumped off and slid down (PHYSICS.md 4.9)
MINE_REACH = MINE_RADIUS - 0.25  # px; arcs are not exact, and a very close pass would look like a hit
HAZARDS = 64  # most hazards that count, one bit each in a mark
SIGHT = 330.0  # px, horizontally and vertically, to the farthest hazards that count: no arc leads farther
NEAR = 160.0  # px to the hazards that are listed first
OPEN_CELLS = 2 * COLS  # words for a level: each column of lattice cells has two, with a bit for each cell
_OPEN = int(np.argmax(CLEARANCE > BESIDE + 0.01))
CELL = 24.0  # px
MARKS_X, MARKS_Y = 45, 26  # columns and rows of cells, each with a mark: the bits of the hazards near it
UNTOUCHED, TOUCHED = MARKS_X + MARKS_Y, MARKS_X + MARKS_Y + 1  # marks of toggle mines that are not deadly yet
FAR_MINES = MARKS_X + MARKS_Y + 2  # not marks: mines beyond NEAR, until it is known whether there is room for them
MARKS = FAR_MINES + HAZARDS
AROUND = np.dtype(  # what is deadly around a ninja, noted anew for each row of observations
    [
        ("hazards", "f8", (HAZARDS, 3)),  # x, y, px at which it is touched; of movers nothing
        ("marks", "u8", (MARKS,)),
        ("moving", "u8"),  # bits of the movers, which come first
        ("count", "i8"),  # of movers
        ("movers", LISTED, (MOVERS,)),
    ],
    align=True,
)


def level_open_cells(clearance, cells):
    """Find the lattice cells in which no ground is within BESIDE px: bits of cells, u8 [levels, OPEN_CELLS].

    clearance u1 [levels, NODES]: distance to solid ground, as in `local_tiles`. An arc spends most of its frames in
    such cells. The bits of a column lie together, since a flight crosses few of them.
    """
    bits = np.zeros((COLS, 128), np.bool_)
    for nodes, words in zip(clearance.reshape(-1, ROWS, COLS), cells, strict=True):
        least = np.minimum(nodes[:, :-1], nodes[:, 1:])
        least = np.minimum(least[:-1], least[1:])
        bits[:-1, : ROWS - 1] = (least >= _OPEN).T
        words[:] = np.packbits(bits, axis=1, bitorder="little").view("<u8").ravel()


@kernel
def _mark(left, top, right, bottom, marks, count):
    """Add the bit of hazard number `count` to the marks of the columns and rows of a box (px)."""
    bit = np.uint64(1) << np.uint64(count)
    for c in range(max(int(left / CELL), 0), min(int(right / CELL), MARKS_X - 1) + 1):
        marks[c] |= bit
    for r in range(max(int(top / CELL), 0), min(int(bottom / CELL), MARKS_Y - 1) + 1):
        marks[MARKS_X + r] |= bit


@kernel
def _note_mine(bank, state, i, k, around, count):
    """Add mine k as hazard number `count`."""
    x = bank.entity[k].x
    y = bank.entity[k].y
    around.hazards[count, 0] = x
    around.hazards[count, 1] = y
    around.hazards[count, 2] = MINE_REACH
    reach = MINE_REACH + FAR
    _mark(x - reach, y - reach, x + reach, y + reach, around.marks, count)
    status = state.state[i, k - bank.level[state.ninja[i].level].entity_start]
    if status > 0:
        around.marks[UNTOUCHED if status == 1 else TOUCHED] |= np.uint64(1) << np.uint64(count)


@kernel
def _note_hazards(bank, state, i, around):
    """List mines within SIGHT, near ones first, in `around`, after the movers that it has."""
    n = state.ninja[i]
    level = bank.level[n.level]
    marks = around.marks
    count = around.count
    far = 0
    for c in range(FAR_MINES):
        marks[c] = 0
    for k in range(count):
        o = around.movers[k]
        reach = o.radius + FAR
        _mark(o.left - reach, o.top - reach, o.right + reach, o.bottom + reach, marks, k)
    around.moving = (np.uint64(1) << np.uint64(count)) - np.uint64(1)
    for kind in (MINE, TOGGLE_MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            away = max(abs(bank.entity[k].x - n.x), abs(bank.entity[k].y - n.y))
            if away < NEAR:
                if count < HAZARDS:
                    _note_mine(bank, state, i, k, around, count)
                    count += 1
            elif away < SIGHT and far < HAZARDS:
                marks[FAR_MINES + far] = k
                far += 1
    for c in range(min(far, HAZARDS - count)):
        _note_mine(bank, state, i, np.int64(marks[FAR_MINES + c]), around, count)
        count += 1


@kernel
def _jump(u, h, ground, nx, ny, sliding, wn):
    """Velocity that a jump from ground or a wall adds, with horizontal input h (PHYSICS.md 4.11.1, 4.11.2)."""
    if ground:
        if nx == 0.0:
            return 0.0, -2.0
        if u * nx >= 0.0 and u * h >= 0.0:
            return nx * (2.0 / 3.0), 2.0 * ny
        return 0.0, -1.4
    if h * wn < 0.0 and sliding:
        return wn * (2.0 / 3.0), -1.0
    return wn, -1.4


@kernel
def _wall_and_flat(clearance, node, fx, fy, side, up):
    """Px to the wall, and to the ground or ceiling, of a corner; side, up: 1 or -1, the directions away.

    (fx, fy): place in the lattice cell below and to the right of `node`. The nodes hold the smaller of the two
    distances, and interpolating that gives too little. Here each distance is taken from the one node that is nearest to
    its plane alone.
    """
    near_x, far_x = (0, 1) if side > 0.0 else (1, 0)
    near_y, far_y = (0, COLS) if up > 0.0 else (COLS, 0)
    wall = CLEARANCE[clearance[node + far_y + near_x]] + SPACING * (fx if side > 0.0 else 1.0 - fx)
    flat = CLEARANCE[clearance[node + near_y + far_x]] + SPACING * (fy if up > 0.0 else 1.0 - fy)
    return wall, flat


@kernel(forceinline=True)
def _way_at(dist, x, y):
    """Length of the way to the goal from the node nearest to (x, y), as the field holds it."""
    i = min(max(int(x * (1.0 / SPACING) + 0.5), 0), COLS - 1)
    j = min(max(int(y * (1.0 / SPACING) + 0.5), 0), ROWS - 1)
    return np.int64(dist[j * COLS + i])


@kernel(forceinline=True)
def _ground_near(clearance, i, j, x, y, u, wn):
    """Find the solid ground beside the ninja; in a corner, push the ninja out of the wall first.

    i, j: lattice cell of (x, y). wn: normal of the last wall. -> (inside, px, dx, dy, x, u, walled, wn, impact):
    whether (x, y) is inside of solid ground; px to the ground that is left, and its normal; the ninja's new x and u;
    whether a wall is beside it, and the normal of the last one; impact on the corner's wall, in units of the deadly
    speed.
    """
    node = j * COLS + i
    fx = x * (1.0 / SPACING) - i
    fy = y * (1.0 / SPACING) - j
    a = clearance[node]
    b = clearance[node + 1]
    c = clearance[node + COLS]
    d = clearance[node + COLS + 1]
    c00 = CLEARANCE[a]
    c10 = CLEARANCE[b]
    c01 = CLEARANCE[c]
    c11 = CLEARANCE[d]
    px = solid(c00, c10, c01, c11, fx, fy)
    if px >= BESIDE:
        return False, px, 0.0, 0.0, x, u, False, wn, 0.0
    # Along level ground, a ceiling or a wall, the normal needs no arithmetic.
    if a == b and c == d:
        return a == c, px, 0.0, 1.0 if c > a else -1.0, x, u, False, wn, 0.0
    if a == c and b == d:
        side = 1.0 if b > a else -1.0
        return False, px, side, 0.0, x, u, True, side, 0.0
    dx = (c10 - c00) * (1.0 - fy) + (c11 - c01) * fy
    dy = (c01 - c00) * (1.0 - fx) + (c11 - c10) * fx
    bend = c00 - c10 - c01 + c11  # how much the slope along x changes over a cell along y
    slope = math.sqrt(dx * dx + dy * dy)  # px over a cell
    if slope == 0.0:
        return True, px, dx, dy, x, u, False, wn, 0.0
    dx /= slope
    dy /= slope
    # The distance is flat along a wall or a slope, bent one way around an edge, and the other way in a corner.
    if (bend if dx * dy > 0.0 else -bend) > 2.0:  # a corner: the wall first, then the ground or the ceiling
        side = 1.0 if dx > 0.0 else -1.0
        up = 1.0 if dy > 0.0 else -1.0
        wall, px = _wall_and_flat(clearance, node, fx, fy, side, up)
        impact = 0.0
        if wall < RADIUS:
            x += side * (RADIUS - wall)
            into = max(-u * side, 0.0)
            u += into * side
            impact = into / 6.0
        return False, px, 0.0, up, x, u, wall < BESIDE, side if wall < BESIDE else wn, impact
    if abs(dy) < 0.1:
        return False, px, dx, dy, x, u, True, 1.0 if dx > 0.0 else -1.0, 0.0
    return False, px, dx, dy, x, u, False, wn, 0.0


@kernel(forceinline=True)
def _push_out(x, y, u, v, px, dx, dy):
    """Put the ninja beside ground that it overlaps, and take its speed into the ground away -> (x, y, u, v, into).

    into: that speed, px per frame.
    """
    into = max(-(u * dx + v * dy), 0.0)
    return x + dx * (RADIUS - px), y + dy * (RADIUS - px), u + into * dx, v + into * dy, into


@kernel(forceinline=True)
def _steer(u, h, ground):
    """Horizontal speed after a frame's input and friction (PHYSICS.md 4.10.1, 4.10.2)."""
    z = u + h * (A_GROUND if ground else A_AIR)
    if abs(z) < V_MAX:
        u = z
    if ground and h * u <= 0.0:
        u *= F_GROUND
    return u


@kernel(forceinline=True)
def _fall(x, y, u, v, rising):
    """Move by a frame's speed -> (x, y, u, v) (PHYSICS.md 4.5)."""
    u *= DRAG
    v = v * DRAG + (G_JUMP if rising else G_FALL)
    return x + u, y + v, u, v


@kernel(forceinline=True)
def _slide(v, sliding, rising, h, wn):
    """Slide along a wall with the normal wn -> (v, sliding, rising) (PHYSICS.md 4.10.2)."""
    if sliding:
        sliding = h * wn <= 0.0
        if sliding:
            v *= F_WALL
    elif v > 0.0 and h * wn < 0.0:
        sliding = True
        rising = False
    return v, sliding, rising


@kernel(forceinline=True)
def _leap(x, y, u, v, h, at_wall, nx, ny, sliding, wn):
    """A jump from a wall, or from ground with the normal (nx, ny) -> (x, y, u, v)."""
    if at_wall and u * wn < 0.0:
        u = 0.0
    v = min(v, 0.0)
    du, dv = _jump(u, h, not at_wall, nx, ny, sliding, wn)
    u += du
    v += dv
    return x + du, y + dv, u, v


@kernel
def _pass_hazards(x, y, mark, around, toggles, untouched, touched, least):
    """Look at the hazards near (x, y) -> (least px to a deadly one so far, bits of toggle mines untouched, touched).

    mark: bits of the hazards that may be near. toggles: bits of all toggle mines that are not deadly when the arc
    begins. One that was touched and left becomes so.
    """
    bit = np.uint64(1)
    k = 0
    while mark:
        if mark & np.uint64(1):
            hx = x - around.hazards[k, 0]
            hy = y - around.hazards[k, 1]
            reach = around.hazards[k, 2]
            if abs(hx) < reach + FAR and abs(hy) < reach + FAR:
                away = math.sqrt(hx * hx + hy * hy)
                if untouched & bit:
                    if away < TOGGLE_IN:
                        untouched ^= bit
                        touched |= bit
                elif touched & bit:
                    if away > TOGGLE_OUT:
                        touched ^= bit
                elif away < reach or not toggles & bit:
                    least = min(least, away - reach)
        mark >>= np.uint64(1)
        bit <<= np.uint64(1)
        k += 1
    return least, untouched, touched


@kernel(forceinline=True)
def _hazards_at(i, j, x, y, t, around, clearance, toggles, untouched, touched, least):
    """`pass_movers` and `_pass_hazards` where marks say that some may be near.

    i, j: lattice cell of (x, y). t: frame of the arc.
    """
    mark = around.marks[i >> 2] & around.marks[MARKS_X + (j >> 2)]  # a mark's cell is four lattice cells wide
    if mark:
        moving = mark & around.moving
        if moving:
            least = pass_movers(x, y, t, moving, around, clearance, least)
            mark ^= moving
        return _pass_hazards(x, y, mark, around, toggles, untouched, touched, least)
    return least, untouched, touched


@kernel
def _stand(x, y, t, around, clearance, least):
    """Stand at (x, y) from frame t on -> (least px to a deadly hazard so far, the frame in which it ends)."""
    i, j = cell_at(x, y)
    mark = around.marks[i >> 2] & around.marks[MARKS_X + (j >> 2)] & around.moving
    if mark and least > 0.0:
        while t < FRAMES:
            t += 1
            least = pass_movers(x, y, t, mark, around, clearance, least)
            if least <= 0.0:
                return least, t
    return least, FRAMES


@kernel
def _write_arc(row, n, x, y, t, died, least, landed, impact, way, nearest, dist):
    """Describe an arc that ends at (x, y) after t frames, as the module's table says.

    nearest: the shortest way that the field holds anywhere on the arc.
    """
    row[0] = 1.0 - died / FRAMES if died > 0 else 0.0
    row[1] = max(least, 0.0) / FAR
    row[2] = landed
    row[3] = t / FRAMES
    row[4] = (x - n.x) / 100.0
    row[5] = (y - n.y) / 100.0
    here = _way_at(dist, x, y)
    row[6] = min(max((way - UNIT * here) / 100.0, -2.0), 2.0) if here != UNREACHED else -1.0
    row[7] = min(impact, 2.0)
    row[8] = min((way - min(way, UNIT * nearest)) / 100.0, 2.0) if nearest != UNREACHED else 0.0


@kernel
def _follow(n, h, jump, clearance, open_cells, dist, way, around, row):
    """Follow one arc: horizontal input h, the jump key held for `jump` frames -> whether it was written.

    It is not where the press has had no effect: then it is the arc without the jump key.
    """
    x = n.x
    y = n.y
    u = n.u
    v = n.v
    ground = not n.air
    rising = n.state == JUMPING
    sliding = n.state == WALL_SLIDING
    wn = n.wn
    nx = n.nx
    ny = n.ny
    pressed = jump > 0 and n.jump_before == 0
    rises = min(JUMP_FRAMES - n.jump_frames, jump)  # the last frame in which a jump may go on
    flight = 4 if n.air else 0  # frames in the air
    died = 0
    least = FAR
    impact = 0.0
    nearest = np.int64(UNREACHED)
    untouched = around.marks[UNTOUCHED]
    touched = around.marks[TOUCHED]
    toggles = untouched | touched
    landed = False
    land_x = land_y = last_x = last_y = -1.0
    t = land_t = 0
    end = FRAMES
    i, j = cell_at(x, y)
    walled = False
    while t < end and died == 0:
        t += 1
        x, y, u, v = _fall(x, y, u, v, rising)

        # Along level ground the row of cells stays the same, and along a wall the column. Loops of their own, in which
        # it is not computed from a place that depends on it, take half the time.
        if ground and not (pressed and t <= 5):
            follows = True
            while follows:
                fx = x * (1.0 / SPACING)
                fy = y * (1.0 / SPACING) - j
                i = int(fx)
                if not (0 <= i < COLS - 1 and 0.0 <= fy < 1.0):
                    break
                node = j * COLS + i
                a = clearance[node]
                c = clearance[node + COLS]
                if a <= c or a != clearance[node + 1] or c != clearance[node + COLS + 1]:
                    break
                px = solid(CLEARANCE[a], CLEARANCE[a], CLEARANCE[c], CLEARANCE[c], fx - i, fy)
                if px >= RADIUS:
                    break
                y -= RADIUS - px
                v -= max(v, 0.0)
                rising = False
                sliding = False
                u = _steer(u, h, True)
                line = int(y * (1.0 / SPACING))
                least, untouched, touched = _hazards_at(
                    i, line, x, y, t, around, clearance, toggles, untouched, touched, least
                )
                if least <= 0.0:
                    died = t
                if t & 1 == 0 or landed:
                    nearest = min(nearest, _way_at(dist, x, y))
                    if abs(x - last_x) + abs(y - last_y) < 0.001:  # it stands, and will
                        least, t = _stand(x, y, t, around, clearance, least)
                        if least <= 0.0 and died == 0:
                            died = t
                    last_x = x
                    last_y = y
                follows = t < end and died == 0
                if follows:
                    t += 1
                    x, y, u, v = _fall(x, y, u, v, False)
            if not follows:
                break
        elif walled and not (pressed and t <= 5):
            follows = True
            while follows:
                fx = x * (1.0 / SPACING) - i
                fy = y * (1.0 / SPACING)
                j = int(fy)
                if not (0 <= j < ROWS - 1 and 0.0 <= fx < 1.0):
                    break
                node = j * COLS + i
                a = clearance[node]
                b = clearance[node + 1]
                if a == b or a != clearance[node + COLS] or b != clearance[node + COLS + 1]:
                    break
                px = solid(CLEARANCE[a], CLEARANCE[b], CLEARANCE[a], CLEARANCE[b], fx, fy - j)
                if px >= BESIDE:
                    break
                wn = 1.0 if b > a else -1.0
                if px < RADIUS:
                    x += wn * (RADIUS - px)
                    into = max(-u * wn, 0.0)
                    u += into * wn
                    impact = max(impact, into / 6.0)
                    if impact > 1.0:
                        died = t
                flight += 1
                u = _steer(u, h, False)
                rising = rising and t <= rises
                v, sliding, rising = _slide(v, sliding, rising, h, wn)
                column = int(x * (1.0 / SPACING))
                least, untouched, touched = _hazards_at(
                    column, j, x, y, t, around, clearance, toggles, untouched, touched, least
                )
                if least <= 0.0 and died == 0:
                    died = t
                if t & 1 == 0 or landed:
                    nearest = min(nearest, _way_at(dist, x, y))
                    last_x = x
                    last_y = y
                follows = t < end and died == 0
                if follows:
                    t += 1
                    x, y, u, v = _fall(x, y, u, v, rising)
            if not follows:
                break

        i, j = cell_at(x, y)
        is_open = (open_cells[2 * i + (j >> 6)] >> np.uint64(j & 63)) & np.uint64(1)
        if is_open and not ground and not (pressed and t <= 5):  # most frames: a flight with nothing near
            flight += 1
            u = _steer(u, h, False)
            rising = rising and t <= rises
            sliding = False
            walled = False
        else:
            inside, px, dx, dy, x, u, walled, wn, hit = _ground_near(clearance, i, j, x, y, u, wn)
            if inside:
                break
            impact = max(impact, hit)
            if px < RADIUS:
                x, y, u, v, into = _push_out(x, y, u, v, px, dx, dy)
                floor = dy < -0.4  # or else a wall or a ceiling
                if not floor or flight > 3:  # on ground it counts after a flight only
                    impact = max(impact, into / (6.0 - (4.0 / 3.0) * abs(dy)))
                if floor:
                    if flight > 3:
                        landed = True
                        land_t = t
                        end = min(t + SETTLE, FRAMES)
                        nx = dx if abs(dx) > 0.1 else 0.0
                        ny = dy
                    ground = True
                    flight = 0
                    rising = False
                if impact > 1.0:
                    died = t
            elif px > RADIUS + 2.0:
                ground = False
            if not ground:
                flight += 1

            u = _steer(u, h, ground)
            rising = rising and t <= rises
            # A press counts for five frames, and ground or a wall for as many after it was left (PHYSICS.md 4.10).
            at_wall = not ground and (walled or (t == 1 and 0 <= n.wall_buffer < 4))
            if pressed and t <= 5 and (ground or at_wall or (t == 1 and 0 <= n.floor_buffer < 4)):
                x, y, u, v = _leap(x, y, u, v, h, at_wall, nx, ny, sliding, wn)
                pressed = False
                rising = True
                rises = min(t + JUMP_FRAMES, jump)
                sliding = False
                landed = False
                end = FRAMES
                ground = False
            elif pressed and t == 5 and n.state != JUMPING:
                return False
            elif walled and not ground:
                v, sliding, rising = _slide(v, sliding, rising, h, wn)
            else:
                sliding = False
            if landed and land_t == t:
                land_x = x
                land_y = y
            i, j = cell_at(x, y)

        least, untouched, touched = _hazards_at(i, j, x, y, t, around, clearance, toggles, untouched, touched, least)
        if least <= 0.0 and died == 0:
            died = t
        if t & 1 == 0 or landed:  # few px at a time
            nearest = min(nearest, _way_at(dist, x, y))
            if ground and abs(x - last_x) + abs(y - last_y) < 0.001:  # it stands, and will
                least, t = _stand(x, y, t, around, clearance, least)
                if least <= 0.0 and died == 0:
                    died = t
            last_x = x
            last_y = y
    if landed and died == 0:
        t = land_t
        x = land_x
        y = land_y
    _write_arc(row, n, x, y, t, died, least, landed, impact, way, nearest, dist)
    return True


@kernel
def write_arcs(bank, state, i, clearance, open_cells, dist, way, around, out):
    """Write `arcs` of game i into out, f4 [ARCS, ARC].

    clearance u1 [NODES]: distance to solid ground, as in `local_tiles`. open_cells u8 [OPEN_CELLS]: see
    `level_open_cells`. dist: the goal's field. way: px to the goal.
    around: an AROUND record with what `note_movers` found; the rest of it is scratch. A mark has one bit for each
    hazard. There is one for each column and each row of cells, with the hazards that come within FAR of it, so that
    most places of an arc cost no search; and two of toggle mines that are not deadly yet.
    """
    n = state.ninja[i]
    _note_hazards(bank, state, i, around)
    far = n.air and n.wall_buffer < 0 and n.floor_buffer < 0
    far = far and room(clearance, n.x, n.y) > RADIUS + 1.0 + math.sqrt(n.u * n.u + n.v * n.v)
    keys = n.state == JUMPING or (n.jump_before == 0 and not far)  # whether the jump key can change anything
    for k in range(ARCS):
        jump = (0, FRAMES, TAP)[k // 3]
        h = (0, -1, 1)[k % 3]
        if jump > 0 and not keys:
            written = False
        else:
            if around.count > 0:
                begin_arc(around, n.x, n.y)
            written = _follow(n, h, jump, clearance, open_cells, dist, way, around, out[k])
        if not written:
            for c in range(ARC):
                out[k, c] = out[k % 3, c]
