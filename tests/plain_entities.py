"""Entities of PHYSICS.md 5 in plain Python, for plain_simulator.py: moves, thoughts and logical collisions.

Each is a function of the game and the entity, found in MOVES, THOUGHTS and LOGICAL by the entity's type. Logical
collisions return a wall normal, or None.
"""

import math

from plain_geometry import clamp, closest, length, overlap, square_push

TURNS = ((1, 0, 3, 2), (3, 0, 1, 2), (0, 1, 3, 2), (0, 3, 1, 2))
DRONES = {14: (24, 7.5, 8 / 7), 26: (12, 4, 1.3)}  # step width, radius, speed
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def think_mine(game, e):
    if e.state == 0:
        return
    hit = game.valid() and game.touches(e, (4, 3.5, 4.5)[e.state])
    if e.state == 2 and not hit:
        e.state = 1 if game.state == 6 else 0
    elif e.state == 1 and hit:
        e.state = 2


def touch_mine(game, e):
    if game.valid() and e.state == 0 and game.touches(e, 4):
        e.state = 1
        game.kill()


def touch_gold(game, e):
    if game.state != 8 and game.touches(e, 6):
        game.gold += 1
        e.active = False


def touch_exit(game, e):
    if game.touches(e, 12):
        game._end(8)


def touch_exit_switch(game, e):
    if game.touches(e, 6):
        e.active = False
        game._enter(e.door)


def think_door(game, e):
    if not e.closed:
        e.timer += 1
        if e.timer > 5:
            game._set_door(e, True)


def touch_regular_door(game, e):
    if game.touches(e, 10):
        game._set_door(e, False)
        e.timer = 0


def touch_locked_door(game, e):
    if game.touches(e, 5):
        game._set_door(e, False)
        e.active = False


def touch_trap_door(game, e):
    if game.touches(e, 5):
        game._set_door(e, True)
        e.active = False


def touch_one_way(game, e):
    if game._one_way(e) and abs(e.a) == 1:
        return e.a


def drone_free(game, e, direction):
    width, rho, _ = DRONES[e.kind]
    ix, iy = STEPS[direction]
    qx, qy = e.x + width * ix, e.y + width * iy
    if iy == 0:
        c1, c2 = math.floor((e.x + ix * rho) / 12), math.floor((qx + ix * rho) / 12)
        low, high, step = math.floor((e.y - rho) / 12), math.floor((e.y + rho) / 12), ix
    else:
        c1, c2 = math.floor((e.y + iy * rho) / 12), math.floor((qy + iy * rho) / 12)
        low, high, step = math.floor((e.x - rho) / 12), math.floor((e.x + rho) / 12), iy
    while c1 != c2:
        if not (game.column_open(c1, low, high, step) if iy == 0 else game.row_open(low, high, c1, step)):
            return False
        c1 += step
    e.target = qx, qy
    return True


def move_drone(game, e):
    c = DRONES[e.kind][2]
    ix, iy = STEPS[e.dir]
    sx, sy = c * ix, c * iy
    tx, ty = e.target
    dx, dy = tx - e.x, ty - e.y
    r = length(dx, dy)
    if not (r < 0.000001 or dx * (tx - (e.x + sx)) + dy * (ty - (e.y + sy)) < 0):
        e.x, e.y = e.x + sx, e.y + sy
        game.regrid(e)
        return
    e.x, e.y = tx, ty
    for turn in TURNS[e.mode]:
        n = (e.dir + turn) % 4
        if drone_free(game, e, n):
            e.dir = n
            e.x, e.y = e.x + (c - r) * STEPS[n][0], e.y + (c - r) * STEPS[n][1]
            break


def touch_drone(game, e):
    if game.valid() and game.touches(e, 6 if e.kind == 16 else DRONES[e.kind][1]):
        game.kill()


def think_guard(game, e):
    if e.state == 0 and game.valid() and (e.y + 6) - 24 <= game.y <= e.y + 6:
        t, c, row = math.floor(game.x / 12), math.floor(e.x / 12), math.floor(e.y / 12)
        direction = (game.x > e.x) - (game.x < e.x)
        while t != c:
            if not game.column_open(c, row, row, direction):
                return
            c += direction
        e.state = direction


def move_guard(game, e):
    s = e.state
    if s == 0:
        return
    q = e.x + s * 3.428571428571428
    c, c1 = math.floor((e.x + s * 6) / 12), math.floor((q + s * 6) / 12)
    if c != c1:
        row = math.floor(e.y / 12)
        ahead = game.edges_h.get((clamp(c1, 0, 88), clamp(row + 1, 0, 50)), 1)
        if not game.column_open(c, row, row, s) or ahead != 2:
            if s == 1:
                c += 1
            q, e.state = 12 * c - (6 + 0.01) * s, 0
    e.x = q
    game.regrid(e)


def move_bounce_block(game, e):
    e.u, e.v = e.u * 0.98, e.v * 0.98
    e.x, e.y = e.x + e.u, e.y + e.v
    fx, fy = 0.02222222222222222 * (e.home[0] - e.x), 0.02222222222222222 * (e.home[1] - e.y)
    e.x, e.y, e.u, e.v = e.x + fx, e.y + fy, e.u + fx, e.v + fy
    game.regrid(e)


def touch_bounce_block(game, e):
    push = square_push(e.x, e.y, game.x, game.y, 19 + 0.1)
    return push and push[0]


def thwump_open(game, e, k, across, direction):
    m1, m2 = math.floor((across - 11) / 12), math.floor((across + 11) / 12)
    if e.orientation in (0, 4):
        return game.column_open(k, m1, m2, direction)
    return game.row_open(m1, m2, k, direction)


def move_thwump(game, e):
    if e.state == 0:
        return
    horizontal, sigma = e.orientation in (0, 4), 1 if e.orientation in (0, 2) else -1
    p, q, o = (e.x, e.y, e.home[0]) if horizontal else (e.y, e.x, e.home[1])
    c, direction = (20 / 7 if e.state == 1 else 8 / 7), sigma * e.state
    n = p + c * direction
    if e.state == -1 and (n - o) * (p - o) < 0:
        e.x, e.y = (o, e.y) if horizontal else (e.x, o)
        e.state = 0
        return
    k, k1 = math.floor((p + direction * 11) / 12), math.floor((n + direction * 11) / 12)
    if k != k1 and not thwump_open(game, e, k, q, direction):
        e.state = -1
        return
    e.x, e.y = (n, e.y) if horizontal else (e.x, n)
    game.regrid(e)


def think_thwump(game, e):
    horizontal, sigma = e.orientation in (0, 4), 1 if e.orientation in (0, 2) else -1
    p, q = (e.x, e.y) if horizontal else (e.y, e.x)
    ninja, across = (game.x, game.y) if horizontal else (game.y, game.x)
    if not (e.state == 0 and game.valid() and abs(q - across) < 2 * (9 + 10)):
        return
    a, k = math.floor(ninja / 12), math.floor((p - sigma * 11) / 12)
    delta = a - k
    if delta * sigma >= 0:
        for i in range(100):  # noqa: B007
            if not thwump_open(game, e, k, q, sigma):
                delta = a - k
                break
            k += sigma
        if i > 0 and delta * sigma <= 0:
            e.state = 1


def touch_thwump(game, e):
    push = game.valid() and square_push(e.x, e.y, game.x, game.y, 19 + 0.1)
    if not push:
        return None
    sigma = 1 if e.orientation in (0, 2) else -1
    if e.orientation in (0, 4):
        ends = e.x + 11 * sigma, e.y - 7, e.x + 11 * sigma, e.y + 7
    else:
        ends = e.x - 7, e.y + 11 * sigma, e.x + 7, e.y + 11 * sigma
    _, a, b = closest(dict(zip(("x1", "y1", "x2", "y2"), ends, strict=True), kind="line"), game.x, game.y)
    if (game.x - a) * (game.x - a) + (game.y - b) * (game.y - b) < 12 * 12:
        game.kill()
    return push[0]


def step_shove(game, e, dx, dy, c):
    if e.v == 0:
        n = e.x + dx * c
        k, m1, m2 = math.floor(e.x / 12), math.floor((e.y - 8) / 12), math.floor((e.y + 8) / 12)
        if k != math.floor(n / 12) and not game.column_open(k, m1, m2, dx):
            e.state = 3
            return
        e.x = n
    else:
        n = e.y + dy * c
        k, m1, m2 = math.floor(e.y / 12), math.floor((e.x - 8) / 12), math.floor((e.x + 8) / 12)
        if k != math.floor(n / 12) and not game.row_open(m1, m2, k, dy):
            e.state = 3
            return
        e.y = n
    game.regrid(e)


def think_shove(game, e):
    if e.state == 1:
        if e.held:
            e.held = False
            return
        e.state = 2
    if e.state == 3:
        if abs(e.x - e.home[0]) + abs(e.y - e.home[1]) >= 1:
            step_shove(game, e, e.u, e.v, 1)
        else:
            e.x, e.y = e.home
            e.state = 0
    elif e.state == 2:
        step_shove(game, e, -e.u, -e.v, 4)


def touch_shove(game, e):
    push = square_push(e.x, e.y, game.x, game.y, 22 + 0.1)
    if push and e.state <= 1:
        ex, ey, _, other = push
        if e.state == 0:
            e.held = True
            if other > 0.2:
                e.u, e.v, e.state = ex, ey, 1
            return ex
        if e.u * ex + e.v * ey >= 0.01:
            e.held = True
            return ex
        return None
    if overlap(game.x, game.y, 10, e.x, e.y, 8):
        game.kill()


def move_boost_pad(game, e):
    if not game.valid() or not game.touches(e, 6):
        e.touching = False
        return
    if not e.touching:
        m = length(game.u, game.v)
        if m > 0:
            a, b = (2 * game.u) / m, (2 * game.v) / m
            game.u, game.v = game.u + a, game.v + b
    e.touching = True


def think_ball(game, e):
    if not game.valid():
        e.u, e.v = e.u * 0.95, e.v * 0.95
    else:
        dx, dy = game.x - e.x, game.y - e.y
        r = length(dx, dy)
        if r > 0:
            dx, dy = dx / r, dy / r
        e.u, e.v = e.u + dx * 0.04, e.v + dy * 0.04
        m = length(e.u, e.v)
        if m > 0.85:
            n = (m - 0.85) * 0.9
            n = (0 if n <= 0.01 else n) + 0.85
            e.u, e.v = (e.u / m) * n, (e.v / m) * n
    t = game.sweep(e.x, e.y, e.u, e.v, 4)
    e.x, e.y = e.x + t * e.u, e.y + t * e.v
    sx = sy = 0.0
    for _ in range(16):
        side, a, b = game.nearest(e.x, e.y, 8)
        if side == 0:
            break
        dx, dy = e.x - a, e.y - b
        r = length(dx, dy)
        size = 8 - r * side
        if size < 0.0000001:
            break
        if r == 0:
            return
        nx, ny = dx / r, dy / r
        e.x, e.y, sx, sy = e.x + nx * size, e.y + ny * size, sx + nx, sy + ny
    m = length(sx, sy)
    if m > 0:
        dx, dy = sx / m, sy / m
        p = e.u * dx + e.v * dy
        if p < 0:
            k = 1 if length(e.u, e.v) <= 1.35 else 2
            e.u, e.v = e.u - (dx * p) * k, e.v - (dy * p) * k
    if e.index + 1 < game.ball_count:
        for other in game.lists[25][e.index + 1 :]:
            dx, dy = e.x - other.x, e.y - other.y
            r = length(dx, dy)
            if 0 < r < 16:
                dx, dy = (dx / r) * 4, (dy / r) * 4
                e.u, e.v, other.u, other.v = e.u + dx, e.v + dy, other.u - dx, other.v - dy
    game.regrid(e)


def touch_ball(game, e):
    if game.valid() and game.touches(e, 5):
        dx, dy = e.x - game.x, e.y - game.y
        r = length(dx, dy)
        if r > 0:
            e.u, e.v = e.u + (dx / r) * 10, e.v + (dy / r) * 10
        game.kill()


MOVES = {14: move_drone, 16: move_guard, 17: move_bounce_block, 20: move_thwump, 24: move_boost_pad, 26: move_drone}
THOUGHTS = {1: think_mine, 5: think_door, 16: think_guard, 20: think_thwump, 21: think_mine, 25: think_ball}
THOUGHTS[28] = think_shove
LOGICAL = {1: touch_mine, 21: touch_mine, 2: touch_gold, 3: touch_exit, 4: touch_exit_switch, 5: touch_regular_door}
LOGICAL |= {6: touch_locked_door, 8: touch_trap_door, 11: touch_one_way, 14: touch_drone, 16: touch_drone}
LOGICAL |= {17: touch_bounce_block, 20: touch_thwump, 25: touch_ball, 26: touch_drone, 28: touch_shove}
