"""Moves, thoughts and collisions of the entities (PHYSICS.md 5).

All kernels take the static arrays of a bank and the arrays of a `State`, and the index i of the game. `level` is the
game's LEVEL record, `n` its NINJA record. Entities are addressed by k, their index in the bank's pool; `base` is the
level's first.
"""

import math

from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.geometry import (
    cell_of,
    clamp,
    closest_on_line,
    column_open,
    floor_div,
    nearest,
    overlap,
    row_open,
    square_push,
    sweep_time,
    time_circle_circle,
)
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CAUSE_NONE,
    DEAD,
    DEATH_BALL,
    DYING,
    EXIT_DOOR,
    EXIT_SWITCH,
    FALLING,
    FLOOR_GUARD,
    GOLD,
    JUMPING,
    LAUNCH_PAD,
    LOCKED_DOOR,
    MINE,
    MINI_DRONE,
    ONE_WAY,
    REGULAR_DOOR,
    ROWS,
    SHOVE_THWUMP,
    THWUMP,
    TOGGLE_MINE,
    TRAP_DOOR,
    WON,
    ZAP_DRONE,
)

G_FALL = 0.06666666666666665
PAD_POWER = 36.0 / 7.0
GUARD_SPEED = 3.428571428571428
STIFFNESS = 0.02222222222222222

# The k-th preferred turn of each drone mode (PHYSICS.md 5.10), packed by 2 bits.
TURNS = (
    1 | 0 << 2 | 3 << 4 | 2 << 6,
    3 | 0 << 2 | 1 << 4 | 2 << 6,
    0 | 1 << 2 | 3 << 4 | 2 << 6,
    0 | 3 << 2 | 1 << 4 | 2 << 6,
)


@kernel(forceinline=True)
def valid_target(n):
    """PHYSICS.md 4.2."""
    return n.state != DEAD and n.state != WON


@kernel
def kill(n, cause):
    """PHYSICS.md 4.12."""
    if n.state < DEAD:
        if n.state == JUMPING:
            n.g = G_FALL
        n.state = DYING
        n.cause = cause


@kernel
def win(n):
    """PHYSICS.md 4.12."""
    if n.state < DEAD:
        if n.state == JUMPING:
            n.g = G_FALL
        n.state = WON
        n.cause = CAUSE_NONE


@kernel
def regrid(n, m):
    """Move an entity to the end of its new cell's list, if its cell changed (PHYSICS.md 5.2)."""
    cell = cell_of(m.x, m.y)
    if cell != m.cell:
        m.cell = cell
        m.stamp = n.stamp
        n.stamp += 1


@kernel
def set_door(doors, state, i, level, slot, closed):
    """PHYSICS.md 5.7: the counters change without regard to what the door was before."""
    state.closed[i, slot] = closed
    step = 1 if closed else -1
    door = doors[level.door_start + slot]
    state.edge[i, door.slot0] += step
    state.edge[i, door.slot1] += step


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
def _move_drone(n, level, edges, counts, i, m, mode, speed, width, radius):
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


@kernel(forceinline=True)
def _thwump_axis(entity):
    """Whether a thwump moves along x, and the sense of its axis (PHYSICS.md 5.15)."""
    horizontal = entity.orientation == 0 or entity.orientation == 4
    sense = 1 if entity.orientation == 0 or entity.orientation == 2 else -1
    return horizontal, sense


@kernel
def _line_open(level, edges, counts, i, horizontal, c, r1, r2, direction):
    if horizontal:
        return column_open(level, edges, counts, i, c, r1, r2, direction)
    return row_open(level, edges, counts, i, r1, r2, c, direction)


@kernel
def _move_thwump(n, level, edges, counts, i, m, origin, states, e):
    """PHYSICS.md 5.15."""
    s = states[i, e]
    if s == 0:
        return
    horizontal, sense = _thwump_axis(origin)
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
        if not _line_open(level, edges, counts, i, horizontal, k, m1, m2, direction):
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
    horizontal, sense = _thwump_axis(origin)
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
            if not _line_open(level, edges, counts, i, horizontal, k, m1, m2, sense):
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
def _think_shove(n, level, edges, counts, i, m, origin, states, e):
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
        _move_drone(n, level, bank.edge, state.edge, i, m, e.mode, 8.0 / 7.0, 24.0, 7.5)
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
        _move_drone(n, level, bank.edge, state.edge, i, m, e.mode, 1.3, 12.0, 4.0)


@kernel
def _think_mines(bank, state, i, level, n):
    """PHYSICS.md 5.3, both types at once: no other thought changes what they look at.

    Only mines near the ninja can be hit, and only toggling ones change without a hit.
    """
    base = level.entity_start
    entities = bank.entity
    target = valid_target(n)
    if n.toggling > 0:
        for k in range(base, base + level.entities):
            if state.state[i, k - base] == 2 and entities[k].type in (MINE, TOGGLE_MINE):
                hit = target and overlap(entities[k].x, entities[k].y, n.x, n.y, 14.5)
                if not hit:
                    state.state[i, k - base] = 1 if n.state == DEAD else 0
                    n.toggling -= 1
    if target:
        cell = cell_of(n.x, n.y)
        for s in range(level.near_start[cell], level.near_start[cell + 1]):
            k = bank.near[s]
            e = entities[k]
            untoggled = e.type in (MINE, TOGGLE_MINE) and state.state[i, k - base] == 1
            if untoggled and overlap(e.x, e.y, n.x, n.y, 13.5):
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
    for k in range(start[FLOOR_GUARD], start[FLOOR_GUARD + 1]):
        _think_guard(n, level, bank.edge, state.edge, i, state.mover[i, entities[k].slot], state.state, k - base)
    for k in range(start[THWUMP], start[THWUMP + 1]):
        m = state.mover[i, entities[k].slot]
        _think_thwump(n, level, bank.edge, state.edge, i, m, entities[k], state.state, k - base)
    first = start[DEATH_BALL]
    last = start[DEATH_BALL + 1]
    if last > first:
        slot = entities[first].slot
        for k in range(first, last):
            index = k - first
            _think_ball(n, level, bank.segment, state.closed, state.mover, i, slot + index, slot + last - first, index)
    for k in range(start[SHOVE_THWUMP], start[SHOVE_THWUMP + 1]):
        m = state.mover[i, entities[k].slot]
        _think_shove(n, level, bank.edge, state.edge, i, m, entities[k], state.state, k - base)


@kernel
def gather_movers(level, movers, near, i, cell, physical):
    """Movers in the 3 x 3 cells around a cell, by cell and time of entry, into near[i] -> count (PHYSICS.md 5.2)."""
    column = cell // ROWS
    row = cell % ROWS
    count = 0
    for slot in range(level.movers):
        m = movers[i, slot]
        if m.cell < 0 or abs(m.cell // ROWS - column) > 1 or abs(m.cell % ROWS - row) > 1:
            continue
        if physical and m.kind not in (BOUNCE_BLOCK, THWUMP, SHOVE_THWUMP):
            continue
        key = mover_key(m)
        at = count
        while at > 0 and mover_key(movers[i, near[i, at - 1]]) > key:
            near[i, at] = near[i, at - 1]
            at -= 1
        near[i, at] = slot
        count += 1
    return count


@kernel(forceinline=True)
def mover_key(m):
    return (m.cell << 32) + m.stamp


@kernel
def _one_way_push(n, e):
    """PHYSICS.md 5.9 -> (found, length)."""
    dx = n.x - e.x
    dy = n.y - e.y
    lateral = dy * e.a - dx * e.b
    sense = (n.v * e.a - n.u * e.b) * lateral
    k = 0.90 if sense < 0.0 else 0.51
    if not abs(lateral) < k * 10.0 + 12.0:
        return False, 0.0
    along = dx * e.a + dy * e.b
    if not 0.0 < along <= 10.0:
        return False, 0.0
    if not n.u * e.a + n.v * e.b <= 0.0:
        return False, 0.0
    before = (n.x0 - e.x) * e.a + (n.y0 - e.y) * e.b
    if not 10.0 - before <= 1.1:
        return False, 0.0
    return True, 10.0 - along


@kernel
def collide_physically(entities, state, i, level, n, k):
    """Physical collision of entity k -> (found, px, py, length) (PHYSICS.md 5.9, 5.14 to 5.16)."""
    e = entities[k]
    if e.type == ONE_WAY:
        found, length = _one_way_push(n, e)
        return found, e.a, e.b, length
    m = state.mover[i, e.slot]
    if e.type == SHOVE_THWUMP:
        status = state.state[i, k - level.entity_start]
        if status > 1:
            return False, 0.0, 0.0, 0.0
        found, ex, ey, depth, _ = square_push(m.x, m.y, n.x, n.y, 22.0)
        if found and not (status == 0 or m.a * ex + m.b * ey >= 0.01):
            found = False
        return found, ex, ey, depth
    found, ex, ey, depth, _ = square_push(m.x, m.y, n.x, n.y, 19.0)
    if found and e.type == BOUNCE_BLOCK:
        keep = 1.0 - 0.2
        m.x = m.x - (ex * depth) * keep
        m.y = m.y - (ey * depth) * keep
        m.a = m.a - (ex * depth) * keep
        m.b = m.b - (ey * depth) * keep
        return True, ex, ey, depth * 0.2
    return found, ex, ey, depth


@kernel
def _touch_launch_pad(n, e):
    """PHYSICS.md 5.8 and its effect in 4.9 step 2."""
    if not valid_target(n) or not overlap(e.x, e.y, n.x, n.y, 16.0):
        return
    if not (e.x - (n.x - 10.0 * e.a)) * e.a + (e.y - (n.y - 10.0 * e.b)) * e.b >= -0.1:
        return
    s = 1.0 - e.b if e.b < 0.0 else 1.0
    sx = (e.a * PAD_POWER * 2.0) / 3.0
    sy = (e.b * PAD_POWER * s * 2.0) / 3.0
    n.x = n.x + sx
    n.y = n.y + sy
    n.u = sx
    n.v = sy
    n.floors = 0
    n.floor_buffer = -1
    m = math.sqrt(sx * sx + sy * sy)
    n.pad_x = sx / m
    n.pad_y = sy / m
    n.pad_buffer = 0
    if n.state == JUMPING:
        n.g = G_FALL
    n.state = FALLING
    n.cause = CAUSE_NONE


@kernel
def _collide_thwump(n, m, e):
    """PHYSICS.md 5.15 -> wall normal."""
    if not valid_target(n):
        return 0.0
    found, ex, _, _, _ = square_push(m.x, m.y, n.x, n.y, 19.1)
    if not found:
        return 0.0
    horizontal, sense = _thwump_axis(e)
    if horizontal:
        face = m.x + 11.0 * sense
        _, a, b = closest_on_line(n.x, n.y, face, m.y - 7.0, face, m.y + 7.0)
    else:
        face = m.y + 11.0 * sense
        _, a, b = closest_on_line(n.x, n.y, m.x - 7.0, face, m.x + 7.0, face)
    dx = n.x - a
    dy = n.y - b
    if dx * dx + dy * dy < 144.0:
        kill(n, THWUMP)
    return ex


@kernel
def _collide_shove(n, m, states, i, e):
    """PHYSICS.md 5.16 -> wall normal."""
    found, ex, ey, _, other = square_push(m.x, m.y, n.x, n.y, 22.0 + 0.1)
    if found and states[i, e] <= 1:
        if states[i, e] == 0:
            m.dir = 1
            if other > 0.2:
                m.a = ex
                m.b = ey
                states[i, e] = 1
            return ex
        if m.a * ex + m.b * ey >= 0.01:
            m.dir = 1
            return ex
        return 0.0
    if overlap(n.x, n.y, m.x, m.y, 18.0):
        kill(n, SHOVE_THWUMP)
    return 0.0


@kernel
def collide_logically(bank, state, i, level, n, k):
    """Logical collision of entity k -> wall normal, 0 if not set (PHYSICS.md 5.3 to 5.19)."""
    e = bank.entity[k]
    kind = e.type
    at = k - level.entity_start
    if kind in (MINE, TOGGLE_MINE):
        if state.state[i, at] == 0 and valid_target(n) and overlap(e.x, e.y, n.x, n.y, 14.0):
            state.state[i, at] = 1
            n.sprung = 1
            kill(n, kind)
    elif kind == GOLD:
        if n.state != WON and overlap(e.x, e.y, n.x, n.y, 16.0):
            n.gold += 1
            state.active[i, at] = 0
    elif kind == EXIT_DOOR:
        if overlap(e.x, e.y, n.x, n.y, 22.0):
            win(n)
            n.frac = time_circle_circle(n.x0, n.y0, n.x - n.x0, n.y - n.y0, e.x, e.y, 22.0)
    elif kind == EXIT_SWITCH:
        if overlap(e.x, e.y, n.x, n.y, 16.0):
            state.active[i, at] = 0
            door = state.mover[i, e.slot]
            door.cell = cell_of(door.x, door.y)
            door.stamp = n.stamp
            n.stamp += 1
    elif kind == REGULAR_DOOR:
        if overlap(e.x, e.y, n.x, n.y, 20.0):
            set_door(bank.door, state, i, level, e.slot, 0)
            state.timer[i, e.slot] = 0
    elif kind == LOCKED_DOOR:
        if overlap(e.x, e.y, n.x, n.y, 15.0):
            set_door(bank.door, state, i, level, e.slot, 0)
            state.active[i, at] = 0
    elif kind == TRAP_DOOR:
        if overlap(e.x, e.y, n.x, n.y, 15.0):
            set_door(bank.door, state, i, level, e.slot, 1)
            state.active[i, at] = 0
    elif kind == LAUNCH_PAD:
        _touch_launch_pad(n, e)
    elif kind == ONE_WAY:
        if abs(e.a) == 1.0:
            found, _ = _one_way_push(n, e)
            if found:
                return e.a
    else:
        m = state.mover[i, e.slot]
        if kind in (ZAP_DRONE, MINI_DRONE, FLOOR_GUARD):
            radius = 7.5 if kind == ZAP_DRONE else (4.0 if kind == MINI_DRONE else 6.0)
            if valid_target(n) and overlap(m.x, m.y, n.x, n.y, radius + 10.0):
                kill(n, kind)
        elif kind == BOUNCE_BLOCK:
            found, ex, _, _, _ = square_push(m.x, m.y, n.x, n.y, 19.0 + 0.1)
            if found:
                return ex
        elif kind == THWUMP:
            return _collide_thwump(n, m, e)
        elif kind == SHOVE_THWUMP:
            return _collide_shove(n, m, state.state, i, at)
        elif kind == DEATH_BALL and valid_target(n) and overlap(m.x, m.y, n.x, n.y, 15.0):
            dx = m.x - n.x
            dy = m.y - n.y
            r = math.sqrt(dx * dx + dy * dy)
            if r > 0.0:
                m.a = m.a + (dx / r) * 10.0
                m.b = m.b + (dy / r) * 10.0
            kill(n, kind)
    return 0.0
