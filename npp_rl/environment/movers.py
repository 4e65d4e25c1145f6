"""Deadly things that move: where each will be in the next frames, and which of them the ninja has set in motion.

Zap drones, mini drones and shove thwumps that fly move by rules that do not depend on the ninja. The simulator's own
kernels move them ahead of time (PHYSICS.md 5.10, 5.12, 5.16), with doors as they are now.

Floor guards, thwumps and death balls depend on the ninja, and so each arc follows them anew (`begin_arc`,
`pass_movers`). A guard or a thwump runs along a line at a constant speed from where it was woken to where it stops, so
its place needs no steps (PHYSICS.md 5.13, 5.15). Both are exact as long as no door changes and the thwump does not
push the ninja. A ball is approximate: it flies towards the ninja of the arc (PHYSICS.md 5.19), walls are those of the
6 px lattice, and balls do not push each other. While the ninja is far from it, several frames are taken at once.

A shove thwump that rests or is held does not kill (PHYSICS.md 5.16), so it is not listed.
"""

import math

import numpy as np

from npp_rl.environment.lattice import FAR, room, way_out
from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.contacts import deadly_radius, thwump_axis
from npp_rl.simulator.entities import GUARD_SPEED, line_open, move_drone, think_shove
from npp_rl.simulator.geometry import clamp, column_open, floor_div
from npp_rl.simulator.layout import DEATH_BALL, FLOOR_GUARD, MINI_DRONE, SHOVE_THWUMP, THWUMP, ZAP_DRONE

FRAMES = 90  # most that are looked ahead
SOON = (4, 8, 16, 24)  # frames after now for which the place of every mover is known, if the ninja stays
NOW_AND_SOON = (0, *SOON)
MOVERS = 32  # most that are listed, near ones first
NEAR = 200.0  # px, horizontally and vertically, to those that are listed first
REACH = 300.0  # px, likewise, to the farthest, which a ninja at full speed meets after 60 frames or more
SCAN = 40  # most half-cells (12 px) along which a guard or a thwump is followed
FORWARD, BACKWARD = 20.0 / 7.0, 8.0 / 7.0  # px per frame of a thwump
SIDE = 19.0  # px between the centres of a thwump and of a ninja beside it
FACE = 15.94  # px from a thwump's axis within which its face kills a ninja in front of it
MOVER_FEATURES = 11  # numbers of `describe_mover`
BALL_REACH = 90.0  # px that a ball gets in FRAMES frames

LISTED = np.dtype(
    [
        ("x", "f8"),  # now
        ("y", "f8"),
        ("a", "f8"),  # velocity of a ball
        ("b", "f8"),
        ("radius", "f8"),  # px between the centres at which it kills; of a thwump, from its face
        ("left", "f8"),  # box in which its centre will be, or in which the ninja wakes it
        ("top", "f8"),
        ("right", "f8"),
        ("bottom", "f8"),
        ("low", "f8"),  # guards: least and greatest x that they can run to
        ("high", "f8"),
        ("origin", "f8"),  # thwumps, along their axis: where they rest, and the line that they stop before
        ("stop", "f8"),
        ("go_x", "f8"),  # px that what sleeps would move if the ninja woke it, (0, 0) for what is awake
        ("go_y", "f8"),
        ("near", "f8"),  # least px to the ninja now and in SOON, if the ninja stays
        ("wake_low", "i4"),  # half-cells of the ninja that wake it, first and last
        ("wake_high", "i4"),
        ("until", "i4"),  # last frame in which it kills
        ("kind", "i4"),  # record type
        ("awake", "i4"),  # 0: a guard or a thwump that waits for the ninja
        ("state", "i4"),  # guards -1, 0, 1: to the left, asleep, to the right; thwumps 1, 0, -1 (PHYSICS.md 5.15)
        ("horizontal", "i4"),  # thwumps: whether they move along x, and in which sense
        ("sense", "i4"),
        # Along an arc: place and velocity at the frame `since`, the state from then on, and where the ninja was last.
        ("now", "i4"),
        ("since", "i4"),
        ("at_x", "f8"),  # of guards and thwumps the place along their axis
        ("at_y", "f8"),
        ("now_a", "f8"),
        ("now_b", "f8"),
        ("seen_x", "f8"),
        ("seen_y", "f8"),
        ("path", "f4", (FRAMES + 1, 2)),  # px, places by frame; of guards, thwumps and balls those in SOON
    ],
    align=True,
)


@kernel
def _fly(bank, state, i, level, m, mode, speed, width, radius, frames, o):
    """Move a drone ahead of time into the path of o, and leave its own record as it was.

    Straight ahead the arithmetic is that of `move_drone`, without cells.
    """
    n = state.ninja[i]
    path = o.path
    x = m.x
    y = m.y
    a = m.a
    b = m.b
    direction = m.dir
    t = 0
    while t < frames:
        sx = speed * (1.0 - m.dir) if m.dir == 0 or m.dir == 2 else 0.0
        sy = speed * (2.0 - m.dir) if m.dir == 1 or m.dir == 3 else 0.0
        px = m.x
        py = m.y
        ta = m.a
        tb = m.b
        while t < frames:
            dx = ta - px
            dy = tb - py
            if dx * dx + dy * dy < 1e-12 or dx * (ta - (px + sx)) + dy * (tb - (py + sy)) < 0.0:
                break
            px += sx
            py += sy
            t += 1
            path[t, 0] = px
            path[t, 1] = py
        m.x = px
        m.y = py
        if t < frames:  # it arrives
            move_drone(n, level, bank.edge, state.edge, i, m, mode, speed, width, radius)
            t += 1
            path[t, 0] = m.x
            path[t, 1] = m.y
            o.left = min(o.left, m.x, ta)
            o.right = max(o.right, m.x, ta)
            o.top = min(o.top, m.y, tb)
            o.bottom = max(o.bottom, m.y, tb)
            if m.x == px and m.y == py and m.a == ta and m.b == tb:  # no way is open
                while t < frames:
                    t += 1
                    path[t, 0] = m.x
                    path[t, 1] = m.y
    o.left = min(o.left, m.x)
    o.right = max(o.right, m.x)
    o.top = min(o.top, m.y)
    o.bottom = max(o.bottom, m.y)
    m.x = x
    m.y = y
    m.a = a
    m.b = b
    m.dir = direction


@kernel
def _fly_shove(bank, state, i, level, m, k, frames, o):
    """Move a shove thwump that flies ahead of time, until it is home, and leave its record as it was."""
    n = state.ninja[i]
    at = k - level.entity_start
    x = m.x
    y = m.y
    cell = m.cell
    stamp = m.stamp
    next_stamp = n.stamp
    status = state.state[i, at]
    o.until = 0
    for t in range(1, frames + 1):
        if state.state[i, at] > 1:
            think_shove(n, level, bank.edge, state.edge, i, m, bank.entity[k], state.state, at)
            if state.state[i, at] > 1:
                o.until = t
        o.path[t, 0] = m.x
        o.path[t, 1] = m.y
        o.left = min(o.left, m.x)
        o.right = max(o.right, m.x)
        o.top = min(o.top, m.y)
        o.bottom = max(o.bottom, m.y)
    m.x = x
    m.y = y
    m.cell = cell
    m.stamp = stamp
    n.stamp = next_stamp
    state.state[i, at] = status


@kernel
def _note_guard(bank, state, i, level, m, o):
    """Find how far a guard can run, and the half-cells from which the ninja wakes it (PHYSICS.md 5.13)."""
    row = floor_div(m.y, 12.0)
    under = clamp(row + 1, 0, 50)
    for s in (-1, 1):
        c = floor_div(m.x + 6.0 * s, 12.0)
        for _ in range(SCAN):
            ahead = clamp(c + s, 0, 88)
            if ahead == 88 or level.edge_h[ahead * 51 + under] != 2:
                break
            if not column_open(level, bank.edge, state.edge, i, c, row, row, s):
                break
            c += s
        if s < 0:
            o.low = 12.0 * c + 6.01
        else:
            o.high = 12.0 * (c + 1) - 6.01
        c = floor_div(m.x, 12.0)
        for _ in range(SCAN):
            if not column_open(level, bank.edge, state.edge, i, c, row, row, s):
                break
            c += s
        if s < 0:
            o.wake_low = c
        else:
            o.wake_high = c
    o.left = min(o.low, 12.0 * o.wake_low)
    o.right = max(o.high, 12.0 * (o.wake_high + 1))


@kernel
def _first_shut(bank, state, i, level, horizontal, sense, k, m1, m2):
    """First half-cell from k on along a thwump's way whose far edge is shut."""
    for _ in range(SCAN):
        if not line_open(level, bank.edge, state.edge, i, horizontal, k, m1, m2, sense):
            break
        k += sense
    return k


@kernel
def _note_thwump(bank, state, i, level, m, e, o):
    """Find where a thwump stops, and the half-cells in which the ninja wakes it (PHYSICS.md 5.15)."""
    horizontal, sense = thwump_axis(e)
    o.horizontal = horizontal
    o.sense = sense
    o.origin = e.x if horizontal else e.y
    p = m.x if horizontal else m.y
    across = m.y if horizontal else m.x
    m1 = floor_div(across - 11.0, 12.0)
    m2 = floor_div(across + 11.0, 12.0)
    back = floor_div(o.origin - sense * 11.0, 12.0)
    front = floor_div(p + sense * 11.0, 12.0)
    shut = _first_shut(bank, state, i, level, horizontal, sense, back, m1, m2)
    o.wake_low = min(back, shut)
    o.wake_high = max(back, shut)
    if shut == back:  # it cannot be woken
        o.wake_low = 1
        o.wake_high = 0
    if (shut - front) * sense < 0:
        shut = _first_shut(bank, state, i, level, horizontal, sense, front, m1, m2)
    o.stop = 12.0 * (shut + 1) - 11.0 if sense > 0 else 12.0 * shut + 11.0
    low = min(o.origin, p, o.stop) - SIDE
    high = max(o.origin, p, o.stop) + SIDE
    if horizontal:
        o.left = low
        o.right = high
        o.top = across - 2.0 * SIDE
        o.bottom = across + 2.0 * SIDE
    else:
        o.left = across - 2.0 * SIDE
        o.right = across + 2.0 * SIDE
        o.top = low
        o.bottom = high


@kernel
def _guard_at(o, t):
    """x of a guard at frame t of an arc; it falls asleep where it stops."""
    if o.now == 0:
        return o.at_x
    x = o.at_x + o.now * (GUARD_SPEED * (t - o.since))
    if o.now > 0 and x >= o.high + 0.01:
        x = o.high
    elif o.now < 0 and x < o.low - 0.01:
        x = o.low
    else:
        return x
    o.at_x = x
    o.now = 0
    return x


@kernel
def _wake_guard(o, x, y, t):
    """Wake a guard that the ninja at (x, y) at frame t sets in motion: it begins to move in frame t + 2."""
    if o.now == 0 and o.y - 18.0 <= y <= o.y + 6.0 and o.wake_low <= floor_div(x, 12.0) <= o.wake_high:
        o.now = -1 if x < o.at_x else (1 if x > o.at_x else 0)
        o.since = t + 1


@kernel
def _thwump_at(o, t):
    """Place of a thwump along its axis at frame t of an arc."""
    if o.now > 0:
        if o.sense > 0:
            most = max(math.ceil((o.stop - o.at_x) / FORWARD) - 1, 0)
        else:
            most = max(math.floor((o.at_x - o.stop) / FORWARD), 0)
        if t - o.since <= most:
            return o.at_x + o.sense * FORWARD * (t - o.since)
        o.at_x += o.sense * FORWARD * most
        o.since += most + 1  # in this frame it turns
        o.now = -1
    if o.now < 0:
        frames = math.floor((o.at_x - o.origin) * o.sense / BACKWARD) + 1
        if t - o.since < frames:
            return o.at_x - o.sense * BACKWARD * (t - o.since)
        o.at_x = o.origin
        o.now = 0
    return o.at_x


@kernel
def _wake_thwump(o, x, y, t):
    """Wake a thwump that the ninja at (x, y) at frame t sets in motion: it begins to move in frame t + 2."""
    if o.now == 0:
        aside = y - o.y if o.horizontal else x - o.x
        along = x if o.horizontal else y
        if abs(aside) < 2.0 * SIDE and o.wake_low <= floor_div(along, 12.0) <= o.wake_high:
            o.now = 1
            o.since = t + 1


@kernel
def _face(o, p, x, y):
    """Px between the ninja at (x, y) and being killed by the face of a thwump at place p along its axis.

    A thwump pushes the ninja out to the nearer side. In front of its face that kills, and beside it it does not.
    """
    along = ((x if o.horizontal else y) - p) * o.sense
    aside = abs((y - o.y) if o.horizontal else (x - o.x))
    if along < SIDE + 0.1 and aside < FACE and along >= aside:
        return -1.0
    beside = max(aside - 7.0, 0.0)
    return max(math.sqrt((along - 11.0) * (along - 11.0) + beside * beside) - o.radius, 0.01)


@kernel
def _chase(o, x, y, t, clearance):
    """Let a ball fly until frame t of an arc, at which the ninja is at (x, y) (PHYSICS.md 5.19).

    clearance u1 [NODES]: distance to solid ground, as in `local_tiles`.
    """
    while o.since < t:
        step = min(t - o.since, 4)
        near = t - o.since == 1  # then the ninja was seen in the frame before
        dx = (o.seen_x if near else x) - o.at_x
        dy = (o.seen_y if near else y) - o.at_y
        r = math.sqrt(dx * dx + dy * dy)
        if r > 0.0:
            dx /= r
            dy /= r
        a = o.now_a + dx * 0.04 * step
        b = o.now_b + dy * 0.04 * step
        speed = math.sqrt(a * a + b * b)
        if speed > 0.85:
            over = speed - 0.85
            for _ in range(step):
                over *= 0.9
            slowed = 0.85 + (over if over > 0.01 else 0.0)
            a *= slowed / speed
            b *= slowed / speed
        if step == 1:
            o.at_x += a
            o.at_y += b
        else:
            o.at_x += step * 0.5 * (a + o.now_a)
            o.at_y += step * 0.5 * (b + o.now_b)
        px = room(clearance, o.at_x, o.at_y)
        if px < 8.0:
            dx, dy = way_out(clearance, o.at_x, o.at_y)
            o.at_x += dx * (8.0 - px)
            o.at_y += dy * (8.0 - px)
            into = min(a * dx + b * dy, 0.0)
            a -= into * dx
            b -= into * dy
        o.now_a = a
        o.now_b = b
        o.since += step
    o.seen_x = x
    o.seen_y = y


@kernel
def _begin(o, x, y):
    """Put a mover that depends on the ninja to where it is now; the ninja is at (x, y)."""
    o.now = o.state
    o.since = 0
    o.at_x = o.y if o.kind == THWUMP and not o.horizontal else o.x
    o.at_y = o.y
    o.now_a = o.a
    o.now_b = o.b
    o.seen_x = x
    o.seen_y = y
    if o.kind == FLOOR_GUARD:
        _wake_guard(o, x, y, 0)
    elif o.kind == THWUMP:
        _wake_thwump(o, x, y, 0)


@kernel
def begin_arc(around, x, y):
    """Prepare movers that depend on the ninja for an arc that begins at (x, y)."""
    for k in range(around.count):
        _begin(around.movers[k], x, y)


@kernel
def pass_movers(x, y, t, mark, around, clearance, least):
    """Look at movers near the ninja at (x, y) at frame t of an arc -> least px to being killed by one so far.

    mark: bits of the movers that may be near. An arc comes here for each frame in which a mover's bit is set, with
    later frames in later calls.
    """
    k = 0
    while mark:
        if mark & np.uint64(1):
            o = around.movers[k]
            if o.kind == THWUMP:
                least = min(least, _face(o, _thwump_at(o, t), x, y))
                _wake_thwump(o, x, y, t)
            else:
                if o.kind == FLOOR_GUARD:
                    hx = x - _guard_at(o, t)
                    hy = y - o.y
                    _wake_guard(o, x, y, t)
                elif o.kind == DEATH_BALL:
                    _chase(o, x, y, t, clearance)
                    hx = x - o.at_x
                    hy = y - o.at_y
                else:
                    hx = x - o.path[t, 0]
                    hy = y - o.path[t, 1]
                if abs(hx) < o.radius + FAR and abs(hy) < o.radius + FAR and t <= o.until:
                    least = min(least, math.sqrt(hx * hx + hy * hy) - o.radius)
        mark >>= np.uint64(1)
        k += 1
    return least


@kernel
def _follow_soon(o, x, y, clearance):
    """Write the places of a guard, thwump or ball in SOON, if the ninja stays at (x, y)."""
    path = o.path
    _begin(o, x, y)
    if o.kind != DEATH_BALL and o.now == 0:
        o.awake = 0
    for t in range(1, SOON[-1] + 1):
        if o.kind == DEATH_BALL:
            _chase(o, x, y, t, clearance)
            path[t, 0] = o.at_x
            path[t, 1] = o.at_y
        elif t & 3 == 0:
            path[t, 0] = o.x
            path[t, 1] = o.y
            if o.kind == FLOOR_GUARD:
                path[t, 0] = _guard_at(o, t)
            elif o.horizontal:
                path[t, 0] = _thwump_at(o, t)
            else:
                path[t, 1] = _thwump_at(o, t)


@kernel
def _note_mover(bank, state, i, k, frames, clearance, o):
    """Write what is to be known of entity k into o."""
    n = state.ninja[i]
    level = bank.level[n.level]
    e = bank.entity[k]
    m = state.mover[i, e.slot]
    o.x = m.x
    o.y = m.y
    o.a = m.a
    o.b = m.b
    o.kind = e.type
    o.radius = deadly_radius(e.type)
    o.left = m.x
    o.right = m.x
    o.top = m.y
    o.bottom = m.y
    o.until = FRAMES
    o.state = state.state[i, k - level.entity_start]
    o.awake = 1
    o.go_x = 0.0
    o.go_y = 0.0
    o.path[0, 0] = m.x
    o.path[0, 1] = m.y
    if e.type == ZAP_DRONE:
        _fly(bank, state, i, level, m, e.mode, 8.0 / 7.0, 24.0, 7.5, frames, o)
    elif e.type == MINI_DRONE:
        _fly(bank, state, i, level, m, e.mode, 1.3, 12.0, 4.0, frames, o)
    elif e.type == SHOVE_THWUMP:
        _fly_shove(bank, state, i, level, m, k, frames, o)
    else:
        if e.type == FLOOR_GUARD:
            _note_guard(bank, state, i, level, m, o)
            o.go_x = (o.low if n.x < m.x else o.high) - m.x
        elif e.type == THWUMP:
            _note_thwump(bank, state, i, level, m, e, o)
            o.radius = 12.0
            if o.wake_low <= o.wake_high:
                if o.horizontal:
                    o.go_x = o.stop - m.x
                else:
                    o.go_y = o.stop - m.y
        else:
            o.left -= BALL_REACH
            o.right += BALL_REACH
            o.top -= BALL_REACH
            o.bottom += BALL_REACH
        _follow_soon(o, n.x, n.y, clearance)
        if o.awake:
            o.go_x = 0.0
            o.go_y = 0.0
    o.near = 1e9
    for t in NOW_AND_SOON:
        dx = o.path[t, 0] - n.x
        dy = o.path[t, 1] - n.y
        o.near = min(o.near, math.sqrt(dx * dx + dy * dy))


@kernel(forceinline=True)
def any_movers(level):
    """Whether a level has deadly things that move; neighbours in the order of types are counted at once."""
    start = level.type_start
    drones = start[FLOOR_GUARD + 1] - start[ZAP_DRONE] + start[MINI_DRONE + 1] - start[DEATH_BALL]
    return drones + start[THWUMP + 1] - start[THWUMP] + start[SHOVE_THWUMP + 1] - start[SHOVE_THWUMP] > 0


@kernel
def note_movers(bank, state, i, frames, clearance, around):
    """List what is deadly and moves within REACH of the ninja of game i, near ones first.

    frames: how many to look ahead, SOON[-1] to FRAMES. clearance u1 [NODES]: as in `local_tiles`. around: a record
    whose `movers`, LISTED [MOVERS], get what is found, and whose `count` gets their number.
    """
    n = state.ninja[i]
    level = bank.level[n.level]
    base = level.entity_start
    count = 0
    for far in range(2):
        for kind in (ZAP_DRONE, FLOOR_GUARD, THWUMP, DEATH_BALL, MINI_DRONE, SHOVE_THWUMP):
            for k in range(level.type_start[kind], level.type_start[kind + 1]):
                m = state.mover[i, bank.entity[k].slot]
                away = max(abs(m.x - n.x), abs(m.y - n.y))
                if away >= REACH or (away >= NEAR) != (far == 1) or count == MOVERS:
                    continue
                if kind == SHOVE_THWUMP and state.state[i, k - base] < 2:
                    continue
                _note_mover(bank, state, i, k, frames, clearance, around.movers[count])
                count += 1
    around.count = count


@kernel
def describe_mover(o, row, at):
    """Write MOVER_FEATURES numbers about a mover into row from index `at` on.

    Where it will be in 8 and in 24 frames from where it is now / 24 px, clipped to -2..2 (4); whether it is a drone, a
    guard, a ball, a thwump or a shove thwump (4); whether it is awake; where it would go from here if the ninja woke it
    / 100 px, clipped to -3..3 (2).
    """
    for k in range(2):
        t = 8 if k == 0 else 24
        row[at + 2 * k] = min(max((o.path[t, 0] - o.x) / 24.0, -2.0), 2.0)
        row[at + 2 * k + 1] = min(max((o.path[t, 1] - o.y) / 24.0, -2.0), 2.0)
    for k in range(4):
        row[at + 4 + k] = 0.0
    kind = 0
    if o.kind == FLOOR_GUARD:
        kind = 1
    elif o.kind == DEATH_BALL:
        kind = 2
    elif o.kind == THWUMP or o.kind == SHOVE_THWUMP:
        kind = 3
    row[at + 4 + kind] = 1.0
    row[at + 8] = o.awake
    row[at + 9] = min(max(o.go_x / 100.0, -3.0), 3.0)
    row[at + 10] = min(max(o.go_y / 100.0, -3.0), 3.0)
