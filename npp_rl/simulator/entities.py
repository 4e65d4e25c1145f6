"""Moves and thoughts of the entities (PHYSICS.md 5).

Arguments are those of contacts.py; `e` is an entity's index counted from the level's first.
"""

import math

from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.contacts import TOGGLE_IN, TOGGLE_OUT, regrid, set_door, thwump_axis, valid_target
from npp_rl.simulator.geometry import (
    cell_of,
    clamp,
    column_open,
    floor_div,
    nearest,
    overlap,
    row_open,
    sweep_time,
)
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CHASER_DRONE,
    DEAD,
    DEATH_BALL,
    FLOOR_GUARD,
    LASER,
    MINE,
    MINI_DRONE,
    REGULAR_DOOR,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
    ZAP_DRONE,
)
from npp_rl.simulator.unfinished import move_chasing, think_chaser, think_laser

GUARD_SPEED = 3.428571428571428
STIFFNESS = 0.02222222222222222

# The k-th preferred turn of each drone mode (PHYSICS.md 5.10), packed by 2 bits.
TURNS = (
    1 | 0 << 2 | 3 << 4 | 2 << 6,
    3 | 0 << 2 | 1 << 4 | 2 << 6,
    0 | 1 << 2 | 3 << 4 | 2 << 6,
    0 | 3 << 2 | 1 << 4 | 2 << 6,
)


@kernel
def _drone_free(level, edges, counts, i, m, direction, width, radius):
    """Free(n) of PHYSICS.md 5.10: sets the target if the way is open."""
    if direction == 0 or direction == 2:
        ix = 1 - direction
        qx = m.x + width * ix
        c1 = floor_div(m.x + ix * radius, 12.0)
        c2 = floor_div(qx + ix * radius, 12.0)
        y1 = floor_div(m.y - radius, 12.0)
        y2 = floor_div(m.y + radius, 12.0)
        while c1 != c2:
            if not column_open(level, edges, counts, i, c1, y1, y2, ix):
                return False
            c1 += ix
        m.a = qx
        m.b = m.y
    else:
        iy = 2 - direction
        qy = m.y + width * iy
        c1 = floor_div(m.y + iy * radius, 12.0)
        c2 = floor_div(qy + iy * radius, 12.0)
        x1 = floor_div(m.x - radius, 12.0)
        x2 = floor_div(m.x + radius, 12.0)
        while c1 != c2:
            if not row_open(level, edges, counts, i, x1, x2, c1, iy):
                return False
            c1 += iy
        m.a = m.x
        m.b = qy
    return True


@kernel
def move_drone(n, level, edges, counts, i, m, mode, speed, width, radius):
    """PHYSICS.md 5.10."""
    ix = (1.0 - m.dir) if m.dir == 0 or m.dir == 2 else 0.0
    iy = (2.0 - m.dir) if m.dir == 1 or m.dir == 3 else 0.0
    sx = speed * ix
    sy = speed * iy
    dx = m.a - m.x
    dy = m.b - m.y
    r = math.sqrt(dx * dx + dy * dy)
    if r < 0.000001 or dx * (m.a - (m.x + sx)) + dy * (m.b - (m.y + sy)) < 0.0:
        m.x = m.a
        m.y = m.b
        turns = TURNS[mode]
        for k in range(4):
            direction = (m.dir + ((turns >> (2 * k)) & 3)) & 3
            if _drone_free(level, edges, counts, i, m, direction, width, radius):
                m.dir = direction
                rest = speed - r
                if direction == 0 or direction == 2:
                    m.x = m.x + rest * (1.0 - direction)
                else:
                    m.y = m.y + rest * (2.0 - direction)
                break
    else:
        m.x = m.x + sx
        m.y = m.y + sy
        regrid(n, m)


@kernel
def _move_guard(n, level, edges, counts, i, m, states, e):
    """PHYSICS.md 5.13."""
    s = states[i, e]
    if s == 0:
        return
    q = m.x + s * GUARD_SPEED
    c = floor_div(m.x + s * 6.0, 12.0)
    c1 = floor_div(q + s * 6.0, 12.0)
    if c != c1:
        row = floor_div(m.y, 12.0)
        hx = clamp(c1, 0, 88)
        hy = clamp(row + 1, 0, 50)
        floor_ahead = hx < 88 and level.edge_h[hx * 51 + hy] == 2
        if not column_open(level, edges, counts, i, c, row, row, s) or not floor_ahead:
            if s == 1:
                c += 1
            q = 12.0 * c - (6.0 + 0.01) * s
            states[i, e] = 0
    m.x = q
    regrid(n, m)


@kernel
def _think_guard(n, level, edges, counts, i, m, states, e):
    """PHYSICS.md 5.13."""
    if states[i, e] != 0 or not valid_target(n) or not (m.y + 6.0) - 24.0 <= n.y <= m.y + 6.0:
        return
    target = floor_div(n.x, 12.0)
    c = floor_div(m.x, 12.0)
    row = floor_div(m.y, 12.0)
    direction = -1 if n.x < m.x else (1 if n.x > m.x else 0)
    while c != target:
        if not column_open(level, edges, counts, i, c, row, row, direction):
            return
        c += direction
    states[i, e] = direction


@kernel
def _move_bounce_block(n, m, origin):
    """PHYSICS.md 5.14."""
    m.a = m.a * 0.98
    m.b = m.b * 0.98
    m.x = m.x + m.a
    m.y = m.y + m.b
    fx = STIFFNESS * (origin.x - m.x)
    fy = STIFFNESS * (origin.y - m.y)
    m.x = m.x + fx
    m.y = m.y + fy
    m.a = m.a + fx
    m.b = m.b + fy
    regrid(n, m)


@kernel
def line_open(level, edges, counts, i, horizontal, c, r1, r2, direction):
    if horizontal:
        return column_open(level, edges, counts, i, c, r1, r2, direction)
    return row_open(level, edges, counts, i, r1, r2, c, direction)


@kernel
def _move_thwump(n, level, edges, counts, i, m, origin, states, e):
    """PHYSICS.md 5.15."""
    s = states[i, e]
    if s == 0:
        return
    horizontal, sense = thwump_axis(origin)
    p = m.x if horizontal else m.y
    o = origin.x if horizontal else origin.y
    across = m.y if horizontal else m.x
    speed = 20.0 / 7.0 if s == 1 else 8.0 / 7.0
    direction = sense * s
    p1 = p + speed * direction
    if s == -1 and (p1 - o) * (p - o) < 0.0:
        if horizontal:
            m.x = o
        else:
            m.y = o
        states[i, e] = 0
        return
    k = floor_div(p + direction * 11.0, 12.0)
    k1 = floor_div(p1 + direction * 11.0, 12.0)
    if k != k1:
        m1 = floor_div(across - 11.0, 12.0)
        m2 = floor_div(across + 11.0, 12.0)
        if not line_open(level, edges, counts, i, horizontal, k, m1, m2, direction):
            states[i, e] = -1
            return
    if horizontal:
        m.x = p1
    else:
        m.y = p1
    regrid(n, m)


@kernel
def _think_thwump(n, level, edges, counts, i, m, origin, states, e):
    """PHYSICS.md 5.15."""
    if states[i, e] != 0 or not valid_target(n):
        return
    horizontal, sense = thwump_axis(origin)
    distance = abs(m.y - n.y) if horizontal else abs(m.x - n.x)
    if not distance < 38.0:
        return
    p = m.x if horizontal else m.y
    across = m.y if horizontal else m.x
    a = floor_div(n.x if horizontal else n.y, 12.0)
    k = floor_div(p - sense * 11.0, 12.0)
    m1 = floor_div(across - 11.0, 12.0)
    m2 = floor_div(across + 11.0, 12.0)
    delta = a - k
    if delta * sense >= 0:
        last = 99
        for step in range(100):
            if not line_open(level, edges, counts, i, horizontal, k, m1, m2, sense):
                delta = a - k
                last = step
                break
            k += sense
        if last > 0 and delta * sense <= 0:
            states[i, e] = 1


@kernel
def _step_shove(n, level, edges, counts, i, m, states, e, dx, dy, speed):
    """Step of PHYSICS.md 5.16."""
    if m.b == 0.0:
        x1 = m.x + dx * speed
        k = floor_div(m.x, 12.0)
        if k != floor_div(x1, 12.0):
            m1 = floor_div(m.y - 8.0, 12.0)
            m2 = floor_div(m.y + 8.0, 12.0)
            if not column_open(level, edges, counts, i, k, m1, m2, int(dx)):
                states[i, e] = 3
                return
        m.x = x1
    else:
        y1 = m.y + dy * speed
        k = floor_div(m.y, 12.0)
        if k != floor_div(y1, 12.0):
            m1 = floor_div(m.x - 8.0, 12.0)
            m2 = floor_div(m.x + 8.0, 12.0)
            if not row_open(level, edges, counts, i, m1, m2, k, int(dy)):
                states[i, e] = 3
                return
        m.y = y1
    regrid(n, m)


@kernel
def think_shove(n, level, edges, counts, i, m, origin, states, e):
    """PHYSICS.md 5.16."""
    if states[i, e] == 1:
        if m.dir != 0:
            m.dir = 0
            return
        states[i, e] = 2
    if states[i, e] == 3:
        if abs(m.x - origin.x) + abs(m.y - origin.y) >= 1.0:
            _step_shove(n, level, edges, counts, i, m, states, e, m.a, m.b, 1.0)
        else:
            m.x = origin.x
            m.y = origin.y
            states[i, e] = 0
    elif states[i, e] == 2:
        _step_shove(n, level, edges, counts, i, m, states, e, -m.a, -m.b, 4.0)


@kernel
def _think_ball(n, level, segments, closed, movers, i, slot, balls, index):
    """PHYSICS.md 5.19. Balls are adjacent among the movers; `balls` is one past the last of them."""
    m = movers[i, slot]
    if not valid_target(n):
        m.a = m.a * 0.95
        m.b = m.b * 0.95
    else:
        dx = n.x - m.x
        dy = n.y - m.y
        r = math.sqrt(dx * dx + dy * dy)
        if r > 0.0:
            dx = dx / r
            dy = dy / r
        m.a = m.a + dx * 0.04
        m.b = m.b + dy * 0.04
        speed = math.sqrt(m.a * m.a + m.b * m.b)
        if speed > 0.85:
            slowed = (speed - 0.85) * 0.9
            if slowed <= 0.01:
                slowed = 0.0
            slowed = slowed + 0.85
            m.a = (m.a / speed) * slowed
            m.b = (m.b / speed) * slowed
    qx = m.x
    qy = m.y
    t = sweep_time(level, segments, closed, i, qx, qy, m.a, m.b, 8.0 * 0.5)
    m.x = qx + t * m.a
    m.y = qy + t * m.b
    sx = 0.0
    sy = 0.0
    for _ in range(16):
        side, alpha, beta = nearest(level, segments, closed, i, m.x, m.y, 8.0)
        if side == 0:
            break
        dx = m.x - alpha
        dy = m.y - beta
        r = math.sqrt(dx * dx + dy * dy)
        length = 8.0 - r * side
        if length < 0.0000001:
            break
        if r == 0.0:
            return
        nx = dx / r
        ny = dy / r
        m.x = m.x + nx * length
        m.y = m.y + ny * length
        sx = sx + nx
        sy = sy + ny
    total = math.sqrt(sx * sx + sy * sy)
    if total > 0.0:
        dx = sx / total
        dy = sy / total
        p = m.a * dx + m.b * dy
        if p < 0.0:
            bounce = 1.0 if math.sqrt(m.a * m.a + m.b * m.b) <= 1.35 else 2.0
            m.a = m.a - (dx * p) * bounce
            m.b = m.b - (dy * p) * bounce
    if index + 1 < level.ball_count:
        for other_slot in range(slot + 1, balls):
            other = movers[i, other_slot]
            dx = m.x - other.x
            dy = m.y - other.y
            # Beyond 16 px on one axis the distance is not below 16.
            if abs(dx) < 16.0 and abs(dy) < 16.0:
                r = math.sqrt(dx * dx + dy * dy)
                if r < 16.0 and r > 0.0:
                    dx = (dx / r) * 4.0
                    dy = (dy / r) * 4.0
                    m.a = m.a + dx
                    m.b = m.b + dy
                    other.a = other.a - dx
                    other.b = other.b - dy
    regrid(n, m)


@kernel
def _move_boost_pad(n, entity, states, i, e):
    """PHYSICS.md 5.18. State 1 is "touching"."""
    if not valid_target(n) or not overlap(entity.x, entity.y, n.x, n.y, 16.0):
        states[i, e] = 0
        return
    if states[i, e] == 0:
        speed = math.sqrt(n.u * n.u + n.v * n.v)
        if speed > 0.0:
            a = (2.0 * n.u) / speed
            b = (2.0 * n.v) / speed
            n.u = n.u + a
            n.v = n.v + b
        states[i, e] = 1


@kernel(forceinline=True)
def move_entities(bank, state, i, level, n):
    """All moves of a frame, by type and in order of creation (PHYSICS.md 4.4 step 2, 5.1)."""
    entities = bank.entity
    base = level.entity_start
    start = level.type_start
    for k in range(start[ZAP_DRONE], start[ZAP_DRONE + 1]):
        e = entities[k]
        m = state.mover[i, e.slot]
        move_drone(n, level, bank.edge, state.edge, i, m, e.mode, 8.0 / 7.0, 24.0, 7.5)
    for k in range(start[CHASER_DRONE], start[CHASER_DRONE + 1]):
        m = state.mover[i, entities[k].slot]
        if state.state[i, k - base] != 0:
            move_chasing(n, level, bank.edge, state.edge, i, m, state.state, k - base)
        else:
            move_drone(n, level, bank.edge, state.edge, i, m, entities[k].mode, 8.0 / 7.0, 24.0, 7.5)
    for k in range(start[FLOOR_GUARD], start[FLOOR_GUARD + 1]):
        _move_guard(n, level, bank.edge, state.edge, i, state.mover[i, entities[k].slot], state.state, k - base)
    for k in range(start[BOUNCE_BLOCK], start[BOUNCE_BLOCK + 1]):
        _move_bounce_block(n, state.mover[i, entities[k].slot], entities[k])
    for k in range(start[THWUMP], start[THWUMP + 1]):
        m = state.mover[i, entities[k].slot]
        _move_thwump(n, level, bank.edge, state.edge, i, m, entities[k], state.state, k - base)
    for k in range(start[BOOST_PAD], start[BOOST_PAD + 1]):
        _move_boost_pad(n, entities[k], state.state, i, k - base)
    for k in range(start[MINI_DRONE], start[MINI_DRONE + 1]):
        e = entities[k]
        m = state.mover[i, e.slot]
        move_drone(n, level, bank.edge, state.edge, i, m, e.mode, 1.3, 12.0, 4.0)


@kernel
def _think_mines(bank, state, i, level, n):
    """PHYSICS.md 5.3, both types at once, since no other thought changes what they depend on.

    Only mines near the ninja can be hit, and only toggling ones change without a hit.
    """
    base = level.entity_start
    entities = bank.entity
    target = valid_target(n)
    if n.toggling > 0:
        for k in range(base, base + level.entities):
            if state.state[i, k - base] == 2 and entities[k].type in (MINE, TOGGLE_MINE):
                hit = target and overlap(entities[k].x, entities[k].y, n.x, n.y, TOGGLE_OUT)
                if not hit:
                    state.state[i, k - base] = 1 if n.state == DEAD else 0
                    n.toggling -= 1
    if target:
        cell = cell_of(n.x, n.y)
        for s in range(level.near_start[cell], level.near_start[cell + 1]):
            k = bank.near[s]
            e = entities[k]
            untoggled = e.type in (MINE, TOGGLE_MINE) and state.state[i, k - base] == 1
            if untoggled and overlap(e.x, e.y, n.x, n.y, TOGGLE_IN):
                state.state[i, k - base] = 2
                n.toggling += 1


@kernel(forceinline=True)
def think_entities(bank, state, i, level, n):
    """All thoughts of a frame, by type and in order of creation (PHYSICS.md 4.4 step 3, 5.1)."""
    entities = bank.entity
    base = level.entity_start
    start = level.type_start
    if start[TOGGLE_MINE + 1] > start[TOGGLE_MINE] or n.sprung:
        _think_mines(bank, state, i, level, n)
    for k in range(start[REGULAR_DOOR], start[REGULAR_DOOR + 1]):
        slot = entities[k].slot
        if not state.closed[i, slot]:
            state.timer[i, slot] += 1
            if state.timer[i, slot] > 5:
                set_door(bank.door, state, i, level, slot, 1)
    for k in range(start[CHASER_DRONE], start[CHASER_DRONE + 1]):
        m = state.mover[i, entities[k].slot]
        think_chaser(n, level, bank.edge, state.edge, i, m, state.state, k - base)
    for k in range(start[FLOOR_GUARD], start[FLOOR_GUARD + 1]):
        _think_guard(n, level, bank.edge, state.edge, i, state.mover[i, entities[k].slot], state.state, k - base)
    for k in range(start[THWUMP], start[THWUMP + 1]):
        m = state.mover[i, entities[k].slot]
        _think_thwump(n, level, bank.edge, state.edge, i, m, entities[k], state.state, k - base)
    for k in range(start[LASER], start[LASER + 1]):
        m = state.mover[i, entities[k].slot]
        think_laser(n, level, bank.segment, state.closed, i, m, entities[k], state.state, k - base)
    first = start[DEATH_BALL]
    last = start[DEATH_BALL + 1]
    if last > first:
        slot = entities[first].slot
        for k in range(first, last):
            index = k - first
            _think_ball(n, level, bank.segment, state.closed, state.mover, i, slot + index, slot + last - first, index)
    for k in range(start[SHOVE_THWUMP], start[SHOVE_THWUMP + 1]):
        m = state.mover[i, entities[k].slot]
        think_shove(n, level, bank.edge, state.edge, i, m, entities[k], state.state, k - base)
