"""One frame of a game (PHYSICS.md 4)."""

import math

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import (
    G_FALL,
    collide_logically,
    collide_physically,
    gather_movers,
    kill,
    mover_key,
)
from npp_rl.simulator.entities import move_entities, think_entities
from npp_rl.simulator.geometry import cell_of, nearest, sweep_time, wall_normal
from npp_rl.simulator.layout import (
    BOUNCE_BLOCK,
    CAUSE_CEILING,
    CAUSE_CRUSH,
    CAUSE_FLOOR,
    DEAD,
    DYING,
    FALLING,
    JUMPING,
    ONE_WAY,
    RUNNING,
    SHOVE_THWUMP,
    SLIDING,
    STANDING,
    THWUMP,
    WALL_SLIDING,
    WON,
)

G_JUMP = 0.01111111111111111
A_GROUND = 0.06666666666666665
A_AIR = 0.04444444444444444
DRAG = 0.9933221725495059
DRAG_WON = 0.8617738760127536
F_GROUND = 0.9459290248857720
F_STAND = 0.8617738760127536
F_WALL = 0.9113380468927672
V_MAX = 3.333333333333333
JUMP_FRAMES = 45
TINY = 2.0**-47


@njit(_nrt=False, forceinline=True)
def frame(bank, state, i, h, j):
    """Advance game i by one frame with horizontal input h (-1, 0, 1) and jump input j (0, 1) (PHYSICS.md 4.4).

    It is inlined into its callers. They should be a `kernel`, or else every frame counts references of all arrays.
    """
    n = state.ninja[i]
    level = bank.level[n.level]
    n.frame += 1
    n.h = h
    n.j = j
    if level.moving > 0:
        move_entities(bank, state, i, level, n)
    if level.thinking > 0 or n.sprung:
        think_entities(bank, state, i, level, n)
    if n.state != DEAD:
        n.u = n.u * n.d
        n.v = n.v * n.d
        n.v = n.v + n.g
        n.x0 = n.x
        n.y0 = n.y
        n.x = n.x + n.u
        n.y = n.y + n.v
        n.u1 = n.u
        n.v1 = n.v
        n.floors = 0
        n.ceilings = 0
        n.fx = 0.0
        n.fy = 0.0
        n.kx = 0.0
        n.ky = 0.0
        n.crushable = 0
        n.crush_x = 0.0
        n.crush_y = 0.0
        n.crush_length = 0.0
        _collide(bank, state, i, level, n)
        _post_collision(bank, state, i, level, n)
    _think(n)


@kernel(forceinline=True)
def _collide(bank, state, i, level, n):
    """The four rounds of object pass and tile pass (PHYSICS.md 4.4 step 4).

    Segments do not change between the rounds, so a place where the tile pass found nothing to push out of is `settled`
    and is not tested again.
    """
    settled_x = math.nan
    settled_y = math.nan
    for _ in range(4):
        x = n.x
        y = n.y
        touched = level.physical > 0 and _object_pass(bank, state, i, level, n)
        dx = n.x - n.x0
        dy = n.y - n.y0
        t = sweep_time(level, bank.segment, state.closed, i, n.x0, n.y0, dx, dy, 5.0)
        n.x = n.x0 + t * dx
        n.y = n.y0 + t * dy
        if n.x == settled_x and n.y == settled_y:
            pushed = 0
        else:
            pushed = _push_out(level, bank.segment, state.closed, i, n)
            if pushed < 32:
                settled_x = n.x
                settled_y = n.y
        if pushed == 0 and not touched and n.x == x and n.y == y:
            # Nothing was touched and nothing moved: the remaining rounds would repeat this one.
            break


@kernel
def _object_contact(n, kind, px, py, length):
    """PHYSICS.md 4.7 steps 1 to 6."""
    ex = px * length
    ey = py * length
    n.x = n.x + ex
    n.y = n.y + ey
    if kind != BOUNCE_BLOCK:
        n.crush_x = n.crush_x + ex
        n.crush_y = n.crush_y + ey
        n.crush_length = n.crush_length + length
    if kind == THWUMP:
        n.crushable = 1
    if kind in (BOUNCE_BLOCK, THWUMP, SHOVE_THWUMP):
        n.u = n.u + ex
        n.v = n.v + ey
    if kind == ONE_WAY:
        c = n.u * py - n.v * px
        n.u = c * py
        n.v = c * (-px)
    if py >= -0.0001:
        n.ceilings += 1
        n.kx = n.kx + px
        n.ky = n.ky + py
    else:
        n.floors += 1
        n.fx = n.fx + px
        n.fy = n.fy + py


@kernel(forceinline=True)
def _object_pass(bank, state, i, level, n):
    """PHYSICS.md 4.7 -> whether anything was touched."""
    cell = cell_of(n.x, n.y)
    at = level.platform_start[cell]
    end = level.platform_start[cell + 1]
    movers = gather_movers(level, state.mover, state.near, i, cell, 1)
    index = 0
    touched = False
    while at < end or index < movers:
        if index == movers or (
            at < end and bank.entity[bank.platform[at]].key < mover_key(state.mover[i, state.near[i, index]])
        ):
            k = bank.platform[at]
            at += 1
        else:
            k = bank.mover[level.mover_start + state.near[i, index]]
            index += 1
        found, px, py, length = collide_physically(bank.entity, state, i, level, n, k)
        if found:
            _object_contact(n, bank.entity[k].type, px, py, length)
            touched = True
    return touched


@kernel
def _push_out(level, segments, closed, i, n):
    """PHYSICS.md 4.8 after the sweep -> number of pushes."""
    x = n.x
    y = n.y
    pushes = 0
    while pushes < 32:
        side, a, b = nearest(level, segments, closed, i, x, y, 10.0)
        if side == 0:
            break
        dx = x - a
        dy = y - b
        if abs(dx) <= 0.0000001:
            dx = 0.0
            if x in (50.51197510492316, 49.23232124849253):
                dx = -TINY
            elif x == 49.153536108584795:
                dx = TINY
        r = math.sqrt(dx * dx + dy * dy)
        length = 10.0 - r * side
        if r == 0.0 or length < 0.0000001:
            break
        pushes += 1
        ex = (dx / r) * length
        ey = (dy / r) * length
        x = x + ex
        y = y + ey
        n.crush_x = n.crush_x + ex
        n.crush_y = n.crush_y + ey
        n.crush_length = n.crush_length + length
        if n.u * dx + n.v * dy < 0.0:
            c = n.u * dy - n.v * dx
            q = r * r
            n.u = (c / q) * dy
            n.v = (c / q) * (-dx)
        if dy >= -0.0001:
            n.ceilings += 1
            n.kx = n.kx + dx / r
            n.ky = n.ky + dy / r
        else:
            n.floors += 1
            n.fx = n.fx + dx / r
            n.fy = n.fy + dy / r
    n.x = x
    n.y = y
    return pushes


@kernel(forceinline=True)
def _touch_entities(bank, state, i, level, n):
    """Logical collisions in the order of PHYSICS.md 5.2 -> the first wall normal that is set, or 0.

    None of them reaches 24 px on either axis, so an entity farther away is skipped.
    """
    cell = cell_of(n.x, n.y)
    at = level.near_start[cell]
    end = level.near_start[cell + 1]
    movers = 0
    if level.movers > 0:
        movers = gather_movers(level, state.mover, state.near, i, cell, 0)
    index = 0
    wall = 0.0
    while at < end or index < movers:
        if index == movers or (
            at < end and bank.entity[bank.near[at]].key < mover_key(state.mover[i, state.near[i, index]])
        ):
            k = bank.near[at]
            at += 1
            x = bank.entity[k].x
            y = bank.entity[k].y
        else:
            m = state.mover[i, state.near[i, index]]
            k = bank.mover[level.mover_start + state.near[i, index]]
            index += 1
            x = m.x
            y = m.y
        if abs(x - n.x) < 24.0 and abs(y - n.y) < 24.0 and state.active[i, k - level.entity_start]:
            normal = collide_logically(bank, state, i, level, n, k)
            if wall == 0.0:
                wall = normal
    return wall


@kernel(forceinline=True)
def _post_collision(bank, state, i, level, n):
    """PHYSICS.md 4.9."""
    wall = 0.0
    if level.entities > 0:
        wall = _touch_entities(bank, state, i, level, n)
    if wall == 0.0:
        wall = wall_normal(level, bank.segment, state.closed, i, n.x, n.y)
    air_before = n.air
    n.air = 1
    n.walled = 0
    if wall != 0.0:
        n.walled = 1
        n.wn = wall
    if n.floors > 0:
        n.air = 0
        m = math.sqrt(n.fx * n.fx + n.fy * n.fy)
        if m == 0.0:
            n.nx = 0.0
            n.ny = -1.0
        else:
            n.nx = n.fx / m
            n.ny = n.fy / m
        if n.state != WON and air_before:
            impact = -(n.nx * n.u1 + n.ny * n.v1)
            if impact > 6.0 - (4.0 / 3.0) * abs(n.ny):
                n.u = n.u1
                n.v = n.v1
                kill(n, CAUSE_FLOOR)
    if n.ceilings > 0:
        m = math.sqrt(n.kx * n.kx + n.ky * n.ky)
        if m == 0.0:
            mx = 0.0
            my = 1.0
        else:
            mx = n.kx / m
            my = n.ky / m
        if n.state != WON:
            impact = -(mx * n.u1 + my * n.v1)
            if impact > 6.0 - (4.0 / 3.0) * abs(my):
                n.u = n.u1
                n.v = n.v1
                kill(n, CAUSE_CEILING)
    if n.crushable and n.crush_length > 0.0:
        total = math.sqrt(n.crush_x * n.crush_x + n.crush_y * n.crush_y)
        if total / n.crush_length < 0.05:
            kill(n, CAUSE_CRUSH)


@kernel(forceinline=True)
def _count(buffer, limit):
    """PHYSICS.md 4.10 step 2."""
    return buffer + 1 if -1 < buffer < limit else -1


@kernel
def _think(n):
    """PHYSICS.md 4.10."""
    pressed = n.j != 0 and n.jump_before == 0
    n.jump_before = n.j
    n.pad_buffer = _count(n.pad_buffer, 3)
    n.jump_buffer = _count(n.jump_buffer, 5)
    n.wall_buffer = _count(n.wall_buffer, 5)
    n.floor_buffer = _count(n.floor_buffer, 5)
    in_pad = -1 < n.pad_buffer < 4
    in_jump = -1 < n.jump_buffer < 5
    in_wall = -1 < n.wall_buffer < 5
    in_floor = -1 < n.floor_buffer < 5
    if pressed and n.air:
        n.jump_buffer = 0
    if n.walled:
        n.wall_buffer = 0
    if not n.air:
        n.floor_buffer = 0
    if n.state == DEAD:
        return
    if n.state == DYING:
        n.state = DEAD
    elif n.state == WON:
        n.d = DRAG if n.air else DRAG_WON
    elif n.air:
        _think_in_air(n, pressed, in_jump, in_wall, in_floor, in_pad)
    else:
        _think_on_floor(n, pressed, in_jump)


@kernel
def _think_on_floor(n, pressed, in_jump):
    """PHYSICS.md 4.10.1."""
    z = n.u + A_GROUND * n.h
    if abs(z) < V_MAX:
        n.u = z
    if n.state > SLIDING:
        if n.state == JUMPING:
            n.g = G_FALL
        n.state = SLIDING if n.u * n.h <= 0.0 else RUNNING
    if in_jump or pressed:
        _floor_jump(n)
        return
    speed = abs(n.v * n.nx - n.u * n.ny)
    if n.state == SLIDING:
        if (n.h * speed) * n.u > 0.0:
            n.state = RUNNING
        elif speed < 0.1 and n.nx == 0.0:
            n.state = STANDING
        elif n.v < 0.0 and n.nx != 0.0:
            m = math.sqrt(n.u * n.u + n.v * n.v)
            f = abs((n.u * (1.0 - F_GROUND)) * n.ny)
            k = m - f * (n.ny * n.ny)
            n.u = (n.u / m) * k
            n.v = (n.v / m) * k
        else:
            n.u = n.u * F_GROUND
    elif n.state == RUNNING:
        if (n.h * speed) * n.u > 0.0:
            if n.h * n.nx < 0.0 and abs(z) < V_MAX:
                e = (A_GROUND / 2.0) * n.h
                n.u = n.u + (e * n.ny) * n.ny
                n.v = n.v + (e * n.ny) * (-n.nx)
        else:
            n.state = SLIDING
    elif n.h != 0:
        n.state = RUNNING
    elif speed < 0.1:
        n.u = n.u * F_STAND
    else:
        n.state = SLIDING


@kernel
def _think_in_air(n, pressed, in_jump, in_wall, in_floor, in_pad):
    """PHYSICS.md 4.10.2."""
    z = n.u + A_AIR * n.h
    if abs(z) < V_MAX:
        n.u = z
    if n.state < JUMPING:
        n.state = FALLING
        return
    if n.state == JUMPING:
        n.jump_frames += 1
        if n.j == 0 or n.jump_frames > JUMP_FRAMES:
            n.g = G_FALL
            n.state = FALLING
            return
    if in_jump or pressed:
        if n.walled or in_wall:
            _wall_jump(n)
            return
        if in_floor:
            _floor_jump(n)
            return
        if in_pad and pressed:
            _pad_jump(n)
            return
    if not n.walled:
        if n.state == WALL_SLIDING:
            n.state = FALLING
    elif n.state == WALL_SLIDING:
        if n.h * n.wn <= 0.0:
            n.v = n.v * F_WALL
        else:
            n.state = FALLING
    elif n.v > 0.0 and n.h * n.wn < 0.0:
        if n.state == JUMPING:
            n.g = G_FALL
        n.state = WALL_SLIDING


@kernel
def _floor_jump(n):
    """PHYSICS.md 4.11.1."""
    n.jump_buffer = -1
    n.floor_buffer = -1
    n.pad_buffer = -1
    n.state = JUMPING
    n.g = G_JUMP
    a = 0.0
    b = -2.0
    if n.nx != 0.0:
        if n.u * n.nx >= 0.0:
            steep = n.u * n.h >= 0.0
        else:
            steep = n.u * n.h <= 0.0
            if steep:
                n.u = 0.0
        if steep:
            a = (2.0 / 3.0) * n.nx
            b = 2.0 * n.ny
        else:
            b = -1.4
    if n.v > 0.0:
        n.v = 0.0
    n.u = n.u + a
    n.v = n.v + b
    n.x = n.x + a
    n.y = n.y + b
    n.jump_frames = 0


@kernel
def _wall_jump(n):
    """PHYSICS.md 4.11.2."""
    if n.h * n.wn < 0.0 and n.state == WALL_SLIDING:
        a = 2.0 / 3.0
        b = -1.0
    else:
        a = 1.0
        b = -1.4
    n.state = JUMPING
    n.g = G_JUMP
    if n.u * n.wn < 0.0:
        n.u = 0.0
    if n.v > 0.0:
        n.v = 0.0
    n.u = n.u + a * n.wn
    n.v = n.v + b
    n.x = n.x + a * n.wn
    n.y = n.y + b
    n.jump_buffer = -1
    n.wall_buffer = -1
    n.pad_buffer = -1
    n.jump_frames = 0


@kernel
def _pad_jump(n):
    """PHYSICS.md 4.11.3."""
    n.floor_buffer = -1
    n.wall_buffer = -1
    n.jump_buffer = -1
    n.pad_buffer = -1
    k = 2.0 * abs(n.pad_x) + 2.0
    if k == 2.0:
        k = 1.7
    n.u = n.u + ((n.pad_x * k) * 2.0) / 3.0
    n.v = n.v + ((n.pad_y * k) * 2.0) / 3.0
