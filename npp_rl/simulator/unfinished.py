"""Chaser drones and lasers, which the reference leaves unfinished and this project completes by its own rules.

They exist only in banks built with `unfinished=True`.

A chaser drone (PHYSICS.md 5.11) behaves as a zap drone until it sees the ninja in a thought. It looks as that section
says, in its present direction first, then to the left and to the right, and sees the ninja if no half-cell edge in
between is blocked over the drone's width. It then flies in that direction at 16/7 px a frame until an edge ahead is
blocked. There it becomes a zap drone again, with its own place for its target. State 1 is chasing.

A laser is the spinner of PHYSICS.md 5.17. Its beam kills a ninja whose centre is less than 10 px from it; nothing else
is tested. A laser that is less than 7 px from a segment, or behind the nearest one, is a surface laser, which does not
move and harms nobody. Its first thought decides that. State 1 is a spinner, 2 a surface laser.
"""

import math

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import kill, regrid, valid_target
from npp_rl.simulator.geometry import (
    clamp,
    closest_on_line,
    column_open,
    floor_div,
    nearest,
    overlap,
    row_open,
    time_segment,
)
from npp_rl.simulator.layout import COLUMNS, LASER, ROWS

CHASE_SPEED = 16.0 / 7.0
SPIN = 0.010471975


@kernel
def _way_open(level, edges, counts, i, m, direction, first, last):
    """Whether the half-cells from `first` to `last` along a direction are open over a chaser's width."""
    if direction in (0, 2):
        low = floor_div(m.y - 7.5, 12.0)
        high = floor_div(m.y + 7.5, 12.0)
        step = 1 - direction
    else:
        low = floor_div(m.x - 7.5, 12.0)
        high = floor_div(m.x + 7.5, 12.0)
        step = 2 - direction
    while first != last:
        if direction in (0, 2):
            free = column_open(level, edges, counts, i, first, low, high, step)
        else:
            free = row_open(level, edges, counts, i, low, high, first, step)
        if not free:
            return False
        first += step
    return True


@kernel
def think_chaser(n, level, edges, counts, i, m, states, e):
    """Look for the ninja ahead, to the left and to the right."""
    if states[i, e] != 0 or not valid_target(n):
        return
    for turn in range(3):
        direction = (m.dir + (0, 3, 1)[turn]) & 3
        ix = 1 - direction if direction in (0, 2) else 0
        iy = 2 - direction if direction in (1, 3) else 0
        dx = n.x - m.x
        dy = n.y - m.y
        if ix * dx + iy * dy > 0.0 and abs(iy * dx - ix * dy) <= 12.0:
            place = m.x if ix != 0 else m.y
            target = n.x if ix != 0 else n.y
            if _way_open(level, edges, counts, i, m, direction, floor_div(place, 12.0), floor_div(target, 12.0)):
                m.dir = direction
                states[i, e] = 1
                return


@kernel
def move_chasing(n, level, edges, counts, i, m, states, e):
    """One step of a chase, or its end."""
    horizontal = m.dir in (0, 2)
    step = 1 - m.dir if horizontal else 2 - m.dir
    place = m.x if horizontal else m.y
    after = place + CHASE_SPEED * step
    first = floor_div(place + 7.5 * step, 12.0)
    last = floor_div(after + 7.5 * step, 12.0)
    if not _way_open(level, edges, counts, i, m, m.dir, first, last):
        states[i, e] = 0
        m.a = m.x
        m.b = m.y
        return
    if horizontal:
        m.x = after
    else:
        m.y = after
    regrid(n, m)


@kernel
def ray_length(level, segments, x, y, dx, dy):
    """Length px of a ray with unit direction to the first segment, 0 if it leaves the field (PHYSICS.md 6.11)."""
    column = floor_div(x, 24.0)
    row = floor_div(y, 24.0)
    next_x = 999999.0
    next_y = 999999.0
    if dx > 0.0:
        next_x = ((column + 1) * 24.0 - x) / dx
    elif dx < 0.0:
        next_x = (column * 24.0 - x) / dx
    if dy > 0.0:
        next_y = ((row + 1) * 24.0 - y) / dy
    elif dy < 0.0:
        next_y = (row * 24.0 - y) / dy
    while True:
        cell = clamp(column, 0, COLUMNS - 1) * ROWS + clamp(row, 0, ROWS - 1)
        t = 1.0
        for k in range(level.segment_start[cell], level.segment_start[cell + 1]):
            t = min(t, time_segment(segments[k], x, y, 2000.0 * dx, 2000.0 * dy, 0.0))
        if t < 1.0:
            return 2000.0 * t
        if next_x < next_y:
            column += 1 if dx > 0.0 else -1
            next_x += abs(24.0 / dx)
        else:
            row += 1 if dy > 0.0 else -1
            next_y += abs(24.0 / dy)
        if column < 0 or column >= COLUMNS or row < 0 or row >= ROWS:
            return 0.0


@kernel
def think_laser(n, level, segments, closed, i, m, entity, states, e):
    """Turn a spinner's beam by one frame; the beam acts at the old angle, which is m.a."""
    if states[i, e] == 0:
        side, a, b = nearest(level, segments, closed, i, m.x, m.y, 12.0)
        dx = m.x - a
        dy = m.y - b
        near = side < 0 or (side > 0 and math.sqrt(dx * dx + dy * dy) < 7.0)
        states[i, e] = 2 if near else 1
        m.a = math.atan2(entity.b, entity.a)
    if states[i, e] == 2:
        return
    dx = math.cos(m.a)
    dy = math.sin(m.a)
    length = ray_length(level, segments, m.x, m.y, dx, dy)
    if length > 0.0 and valid_target(n):
        _, a, b = closest_on_line(n.x, n.y, m.x, m.y, m.x + length * dx, m.y + length * dy)
        if overlap(n.x, n.y, a, b, 10.0):
            kill(n, LASER)
    m.a = (m.a + (-SPIN if entity.mode == 1 else SPIN)) % (2.0 * math.pi)


@njit(_nrt=False)
def beam_length(bank, level_index, movers, i, slot):
    """Length (px) of the present beam of the laser that is mover `slot` of game i, 0 if it leaves the field.

    movers: MOVER [games, movers] of a `State`.
    """
    m = movers[i, slot]
    return ray_length(bank.level[level_index], bank.segment, m.x, m.y, math.cos(m.a), math.sin(m.a))
