"""Contacts of the ninja with entities, and their effects on it, on doors and on the cell lists (PHYSICS.md 4, 5).

The kernels take static arrays of a bank, arrays of a `State`, and the index i of the game. `level` is the game's LEVEL
record, `n` its NINJA record, and k an entity's index in the bank's pool.
"""

import math

from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.geometry import (
    cell_of,
    closest_on_line,
    overlap,
    square_push,
    time_circle_circle,
)
from npp_rl.simulator.layout import (
    BOUNCE_BLOCK,
    CAUSE_NONE,
    CHASER_DRONE,
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
MINE_RADIUS = 14.0  # px between the centres of ninja and mine at which a deadly mine kills (PHYSICS.md 5.3)
TOGGLE_IN, TOGGLE_OUT = 13.5, 14.5  # px within which a toggle mine is touched, and beyond which it is left


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
def deadly_radius(kind):
    """Distance (px) of centres at which an entity kills, 0 if it does not.

    A thwump kills with its face only, which reaches as far (PHYSICS.md 5.15). A shove thwump kills only while it flies
    (PHYSICS.md 5.16). Chaser drones and lasers, which the reference does not have, count as harmless.
    """
    if kind in (MINE, TOGGLE_MINE, MINI_DRONE):
        return 14.0
    if kind == ZAP_DRONE:
        return 17.5
    if kind == FLOOR_GUARD:
        return 16.0
    if kind == DEATH_BALL:
        return 15.0
    if kind == THWUMP:
        return 22.0
    if kind == SHOVE_THWUMP:
        return 18.0
    return 0.0


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


@kernel(forceinline=True)
def thwump_axis(entity):
    """Whether a thwump moves along x, and the sense of its axis (PHYSICS.md 5.15)."""
    horizontal = entity.orientation == 0 or entity.orientation == 4
    sense = 1 if entity.orientation == 0 or entity.orientation == 2 else -1
    return horizontal, sense


@kernel
def _collide_thwump(n, m, e):
    """PHYSICS.md 5.15 -> wall normal."""
    if not valid_target(n):
        return 0.0
    found, ex, _, _, _ = square_push(m.x, m.y, n.x, n.y, 19.1)
    if not found:
        return 0.0
    horizontal, sense = thwump_axis(e)
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
        if state.state[i, at] == 0 and valid_target(n) and overlap(e.x, e.y, n.x, n.y, MINE_RADIUS):
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
        if kind in (ZAP_DRONE, CHASER_DRONE, MINI_DRONE, FLOOR_GUARD):
            radius = 4.0 if kind == MINI_DRONE else (6.0 if kind == FLOOR_GUARD else 7.5)
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
