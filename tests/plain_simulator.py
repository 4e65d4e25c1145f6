"""A second simulator, in plain Python: PHYSICS.md step by step, without any of the compiled one's short cuts.

It is slow, about 1,000 frames a second, and shares nothing with the compiled one but the tile table. A test plays
random maps with both.
"""

import math

from plain_entities import LOGICAL, MOVES, THOUGHTS
from plain_geometry import (
    cell_of,
    clamp,
    closest,
    ends_of,
    length,
    overlap,
    square_push,
    time_arc,
    time_circle,
    time_line,
)

from npp_rl.simulator.tiles import TILES

R, V_MAX = 10, 3.333333333333333
G_FALL, G_JUMP, A_GROUND, A_AIR = 0.06666666666666665, 0.01111111111111111, 0.06666666666666665, 0.04444444444444444
DRAG, DRAG_WON, F_GROUND = 0.9933221725495059, 0.8617738760127536, 0.9459290248857720
F_STAND, F_WALL = 0.8617738760127536, 0.9113380468927672
Q = 0.7071067811865476
VECTORS = ((1, 0), (Q, Q), (0, 1), (-Q, Q), (-1, 0), (-Q, -Q), (0, -1), (Q, -Q))
TYPES = {1, 2, 3, 5, 6, 8, 10, 11, 14, 16, 17, 20, 21, 24, 25, 26, 28}
PHYSICAL = {11, 17, 20, 28}


class Entity:
    """An entity; `a`, `b` are the vector of its orientation, `u`, `v` its velocity or direction of movement."""

    def __init__(self, kind, x, y, orientation=0, mode=0):
        self.kind, self.list, self.x, self.y, self.mode = kind, 3 if kind == 4 else kind, float(x), float(y), mode
        self.orientation = orientation
        self.a, self.b = VECTORS[orientation] if orientation < 8 else (0, 0)
        self.home, self.target = (self.x, self.y), (self.x, self.y)
        self.active, self.cell = True, None
        self.state = 1 if kind == 21 else 0
        self.u = self.v = 0.0
        self.dir = orientation // 2
        self.held = self.touching = False
        self.timer, self.closed = 0, True


class Game:
    """A run: `frame(h, j)` plays one frame (4.4). The ninja's variables are those of 4.3."""

    def __init__(self, data):
        data = data + bytes(-(len(data) - 1230) % 5)
        self.tiles = {
            (cx, cy): data[184 + (cx - 1) + 42 * (cy - 1)] if 1 <= cx <= 42 and 1 <= cy <= 23 else 1
            for cx in range(44)
            for cy in range(25)
        }
        self._build_segments()
        self._build_edges()
        self.lists = {kind: [] for kind in range(1, 29)}
        self.grid = {cell: [] for cell in self.tiles}
        self.ball_count = data[1200]
        self._load(data)
        self.x, self.y = 6.0 * data[1231], 6.0 * data[1232]
        self.u = self.v = 0.0
        self.g, self.d, self.state = G_FALL, DRAG, 0
        self.air = self.walled = False
        self.wn, self.nx, self.ny = 0, 0, -1
        self.j_before = self.jump_frames = self.gold = 0
        self.b_jump = self.b_floor = self.b_wall = self.b_pad = -1

    # Loading (2, 3)

    def _build_segments(self):
        horizontal = {(i, j): (j == 0) - (j == 50) for i in range(88) for j in range(51)}
        vertical = {(i, j): (i == 0) - (i == 88) for i in range(89) for j in range(50)}
        self.segments = {cell: [] for cell in self.tiles}
        for (cx, cy), tile in self.tiles.items():
            if tile >= len(TILES):
                continue
            _, _, h, v, slant, arc = TILES[tile]
            for k, sign in enumerate(h.replace(" ", "")):
                horizontal[2 * cx + k % 2, 2 * cy + k // 2] += {"0": 0, "+": 1, "-": -1}[sign]
            for k, sign in enumerate(v.replace(" ", "")):
                vertical[2 * cx + k // 2, 2 * cy + k % 2] += {"0": 0, "+": 1, "-": -1}[sign]
            x, y = 24 * cx, 24 * cy
            if slant:
                x1, y1, x2, y2 = slant
                self._add((cx, cy), "line", x + x1, y + y1, x + x2, y + y2)
            if arc:
                a, b, h, w, convex = arc
                s = {"kind": "arc", "a": x + a, "b": y + b, "h": h, "w": w, "convex": convex}
                self.segments[cx, cy].append(s)
        for (i, j), s in sorted(horizontal.items()):
            if s > 0:
                cell = math.floor(i / 2), math.floor((j - 0.1) / 2)
                self._add(cell, "line", 12 * i, 12 * j, 12 * i + 12, 12 * j)
            elif s < 0:
                cell = math.floor(i / 2), math.floor((j + 0.1) / 2)
                self._add(cell, "line", 12 * i + 12, 12 * j, 12 * i, 12 * j)
        for (i, j), s in sorted(vertical.items()):
            if s > 0:
                cell = math.floor((i - 0.1) / 2), math.floor(j / 2)
                self._add(cell, "line", 12 * i, 12 * j + 12, 12 * i, 12 * j)
            elif s < 0:
                cell = math.floor((i + 0.1) / 2), math.floor(j / 2)
                self._add(cell, "line", 12 * i, 12 * j, 12 * i, 12 * j + 12)

    def _add(self, cell, kind, x1, y1, x2, y2):
        s = {"kind": kind, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "active": True}
        self.segments[cell].append(s)
        return s

    def _build_edges(self):
        self.edges_h = {(i, j): int(j in (0, 50)) for i in range(88) for j in range(51)}
        self.edges_v = {(i, j): int(i in (0, 88)) for i in range(89) for j in range(50)}
        self.doors_h, self.doors_v = dict.fromkeys(self.edges_h, 0), dict.fromkeys(self.edges_v, 0)

        def merge(table, key, b):
            a = table[key]
            table[key] = b if a == 0 else a if b == 0 else 0

        for (cx, cy), tile in sorted(self.tiles.items()):
            if tile < len(TILES):
                for k, digit in enumerate(TILES[tile][0].replace(" ", "")):
                    merge(self.edges_h, (2 * cx + k % 2, 2 * cy + k // 2), int(digit))
                for k, digit in enumerate(TILES[tile][1].replace(" ", "")):
                    merge(self.edges_v, (2 * cx + k // 2, 2 * cy + k % 2), int(digit))

    def _load(self, data):
        exits = data[1156]
        padded = data + bytes(2000)
        for p in range(1230, len(data), 5):
            kind, x, y, orientation, mode = padded[p : p + 5]
            if kind not in TYPES:
                continue
            e = Entity(kind, 6 * x, 6 * y, orientation, mode)
            e.index = len(self.lists[kind])
            self.lists[kind].append(e)
            if kind == 3:
                at = p + 5 * exits
                switch = Entity(4, 6 * padded[at + 1], 6 * padded[at + 2])
                switch.door = e
                self.lists[3].append(switch)
                self._enter(switch)
                continue
            if kind in (5, 6, 8):
                self._build_door(e)
                if kind != 5:
                    e.x, e.y = 6.0 * padded[p + 6], 6.0 * padded[p + 7]
                if kind == 8:
                    self._set_door(e, False)
            self._enter(e)

    def _build_door(self, e):
        vertical = e.orientation in (0, 4)
        kx, ky = cell_of(e.x - 12 * e.a, e.y - 12 * e.b)
        if vertical:
            e.segment = self._add((kx, ky), "door", e.x, e.y - 12, e.x, e.y + 12)
            e.edges = self.doors_v, ((2 * kx + 2, 2 * ky), (2 * kx + 2, 2 * ky + 1))
        else:
            e.segment = self._add((kx, ky), "door", e.x - 12, e.y, e.x + 12, e.y)
            e.edges = self.doors_h, ((2 * kx, 2 * ky + 2), (2 * kx + 1, 2 * ky + 2))
        for key in e.edges[1]:
            e.edges[0][key] += 1

    def _set_door(self, e, closed):
        e.closed = e.segment["active"] = closed
        for key in e.edges[1]:
            e.edges[0][key] += 1 if closed else -1

    def _enter(self, e):
        e.cell = cell_of(e.x, e.y)
        self.grid[e.cell].append(e)

    def regrid(self, e):
        if cell_of(e.x, e.y) != e.cell:
            self.grid[e.cell].remove(e)
            self._enter(e)

    def near(self):
        cx, cy = cell_of(self.x, self.y)
        found = []
        for i in range(max(cx - 1, 0), min(cx + 1, 43) + 1):
            for j in range(max(cy - 1, 0), min(cy + 1, 24) + 1):
                found += [e for e in self.grid[i, j] if e.active]
        return found

    # Queries (6)

    def region(self, x1, y1, x2, y2):
        (a1, b1), (a2, b2) = cell_of(x1, y1), cell_of(x2, y2)
        for cx in range(a1, a2 + 1):
            for cy in range(b1, b2 + 1):
                for s in self.segments[cx, cy]:
                    if s["kind"] != "door" or s["active"]:
                        yield s

    def nearest(self, x, y, rho):
        best, side, a, b = 9999999, 0, 0, 0
        for s in self.region(x - rho, y - rho, x + rho, y + rho):
            back, alpha, beta = closest(s, x, y)
            e = (x - alpha) * (x - alpha) + (y - beta) * (y - beta)
            if not back:
                e = e - 0.1
            if e < best:
                best, side, a, b = e, (-1 if back else 1), alpha, beta
        return side, a, b

    def sweep(self, p, q, wx, wy, rho):
        m = rho + 1
        p1, q1 = p + wx, q + wy
        best = 1
        for s in self.region(min(p, p1) - m, min(q, q1) - m, max(p, p1) + m, max(q, q1) + m):
            times = [time_circle(p, q, wx, wy, a, b, rho) for a, b in ends_of(s)]
            times.append((time_arc if s["kind"] == "arc" else time_line)(p, q, wx, wy, s, rho))
            best = min(best, *times)
        return best

    def column_open(self, c, r1, r2, direction):
        for r in range(r1, r2 + 1):
            key = clamp(c + 1 if direction == 1 else c, 0, 88), clamp(r, 0, 50)
            if self.edges_v.get(key, 1) != 0 or self.doors_v.get(key, 1) != 0:
                return False
        return True

    def row_open(self, c1, c2, r, direction):
        for c in range(c1, c2 + 1):
            key = clamp(c, 0, 88), clamp(r + 1 if direction == 1 else r, 0, 50)
            if self.edges_h.get(key, 1) != 0 or self.doors_h.get(key, 1) != 0:
                return False
        return True

    def valid(self):
        return self.state not in (6, 8)

    def touches(self, e, r):
        return overlap(e.x, e.y, r, self.x, self.y, R)

    # A frame (4)

    def frame(self, h, j):
        self.h, self.j = h, j
        for kind in (14, 16, 17, 20, 24, 26):
            for e in self.lists[kind]:
                if e.active:
                    MOVES[kind](self, e)
        for kind in (1, 5, 16, 20, 21, 25, 28):
            for e in self.lists[kind]:
                if e.active:
                    THOUGHTS[kind](self, e)
        if self.state != 6:
            self._integrate()
            for _ in range(4):
                self._object_pass()
                self._tile_pass()
            self._post_collision()
        self._think()

    def _integrate(self):
        self.u, self.v = self.u * self.d, self.v * self.d
        self.v = self.v + self.g
        self.x0, self.y0 = self.x, self.y
        self.x, self.y = self.x + self.u, self.y + self.v
        self.u1, self.v1 = self.u, self.v
        self.floors = self.ceilings = 0
        self.fx = self.fy = self.kx = self.ky = 0.0
        self.crushable, self.cx, self.cy, self.cl = False, 0.0, 0.0, 0.0

    def _contact(self, px, py):
        if py >= -0.0001:
            self.ceilings, self.kx, self.ky = self.ceilings + 1, self.kx + px, self.ky + py
        else:
            self.floors, self.fx, self.fy = self.floors + 1, self.fx + px, self.fy + py

    def _object_pass(self):
        for e in self.near():
            if e.kind not in PHYSICAL:
                continue
            hit = self._physical(e)
            if hit is None:
                continue
            px, py, size = hit
            ex, ey = px * size, py * size
            self.x, self.y = self.x + ex, self.y + ey
            if e.kind != 17:
                self.cx, self.cy, self.cl = self.cx + ex, self.cy + ey, self.cl + size
            if e.kind == 20:
                self.crushable = True
            if e.kind in (17, 20, 28):
                self.u, self.v = self.u + ex, self.v + ey
            if e.kind == 11:
                c = self.u * py - self.v * px
                self.u, self.v = c * py, c * (-px)
            self._contact(px, py)

    def _physical(self, e):
        if e.kind == 11:
            return self._one_way(e)
        if e.kind == 28:
            if e.state > 1:
                return None
            push = square_push(e.x, e.y, self.x, self.y, 22)
            if push and (e.state == 0 or e.u * push[0] + e.v * push[1] >= 0.01):
                return push[:3]
            return None
        push = square_push(e.x, e.y, self.x, self.y, 19)
        if push and e.kind == 17:
            ex, ey, depth, _ = push
            keep = 1 - 0.2
            e.x, e.y = e.x - (ex * depth) * keep, e.y - (ey * depth) * keep
            e.u, e.v = e.u - (ex * depth) * keep, e.v - (ey * depth) * keep
            return ex, ey, depth * 0.2
        return push and push[:3]

    def _one_way(self, e):
        a, b = e.a, e.b
        dx, dy = self.x - e.x, self.y - e.y
        lateral = dy * a - dx * b
        sense = (self.v * a - self.u * b) * lateral
        k = 0.90 if sense < 0 else 0.51
        if not abs(lateral) < k * R + 12:
            return None
        n = dx * a + dy * b
        if not 0 < n <= R or not self.u * a + self.v * b <= 0:
            return None
        before = (self.x0 - e.x) * a + (self.y0 - e.y) * b
        if not R - before <= 1.1:
            return None
        return a, b, R - n

    def _tile_pass(self):
        dx, dy = self.x - self.x0, self.y - self.y0
        t = self.sweep(self.x0, self.y0, dx, dy, 5)
        self.x, self.y = self.x0 + t * dx, self.y0 + t * dy
        for _ in range(32):
            side, a, b = self.nearest(self.x, self.y, R)
            if side == 0:
                return
            dx, dy = self.x - a, self.y - b
            if abs(dx) <= 0.0000001:
                dx = 0
                if self.x in (50.51197510492316, 49.23232124849253):
                    dx = -(2.0**-47)
                if self.x == 49.153536108584795:
                    dx = 2.0**-47
            r = length(dx, dy)
            size = R - r * side
            if r == 0 or size < 0.0000001:
                return
            ex, ey = (dx / r) * size, (dy / r) * size
            self.x, self.y = self.x + ex, self.y + ey
            self.cx, self.cy, self.cl = self.cx + ex, self.cy + ey, self.cl + size
            if self.u * dx + self.v * dy < 0:
                c, q = self.u * dy - self.v * dx, r * r
                self.u, self.v = (c / q) * dy, (c / q) * (-dx)
            if dy >= -0.0001:
                self.ceilings, self.kx, self.ky = self.ceilings + 1, self.kx + dx / r, self.ky + dy / r
            else:
                self.floors, self.fx, self.fy = self.floors + 1, self.fx + dx / r, self.fy + dy / r

    def _post_collision(self):
        wall = None
        for e in self.near():
            if e.kind == 10:
                self._launch_pad(e)
            elif e.kind != 24:
                number = LOGICAL[e.kind](self, e)
                if number and not wall:
                    wall = number
        rad = R + 0.1
        for s in self.region(self.x - rad, self.y - rad, self.x + rad, self.y + rad):
            _, a, b = closest(s, self.x, self.y)
            dx, dy = self.x - a, self.y - b
            r = length(dx, dy)
            if abs(dy) < 0.00001 and 0 < r <= rad and not wall:
                wall = dx / r
        before, self.air, self.walled = self.air, True, False
        if wall:
            self.walled, self.wn = True, wall
        if self.floors:
            self.air = False
            m = length(self.fx, self.fy)
            self.nx, self.ny = (self.fx / m, self.fy / m) if m else (0, -1)
            if self.state != 8 and before:
                self._impact(self.nx, self.ny)
        if self.ceilings:
            m = length(self.kx, self.ky)
            mx, my = (self.kx / m, self.ky / m) if m else (0, 1)
            if self.state != 8:
                self._impact(mx, my)
        if self.crushable and self.cl > 0 and length(self.cx, self.cy) / self.cl < 0.05:
            self.kill()

    def _impact(self, mx, my):
        if -(mx * self.u1 + my * self.v1) > 6 - (4 / 3) * abs(my):
            self.u, self.v = self.u1, self.v1
            self.kill()

    def _end(self, state):
        if self.state < 6:
            if self.state == 3:
                self.g = G_FALL
            self.state = state

    def kill(self):
        self._end(7)

    def _launch_pad(self, e):
        a, b = e.a, e.b
        if not (self.valid() and self.touches(e, 6)):
            return
        if not (e.x - (self.x - 10 * a)) * a + (e.y - (self.y - 10 * b)) * b >= -0.1:
            return
        s = 1 - b if b < 0 else 1
        rx, ry = a * (36 / 7), (b * (36 / 7)) * s
        sx, sy = (rx * 2) / 3, (ry * 2) / 3
        self.x, self.y, self.u, self.v = self.x + sx, self.y + sy, sx, sy
        self.floors, self.b_floor = 0, -1
        m = length(sx, sy)
        self.pad_x, self.pad_y, self.b_pad = sx / m, sy / m, 0
        if self.state == 3:
            self.g = G_FALL
        self.state = 4

    # The ninja's thought (4.10)

    def _think(self):
        pressed = self.j != 0 and self.j_before == 0
        self.j_before = self.j
        self.b_pad = self.b_pad + 1 if -1 < self.b_pad < 3 else -1
        self.b_jump = self.b_jump + 1 if -1 < self.b_jump < 5 else -1
        self.b_wall = self.b_wall + 1 if -1 < self.b_wall < 5 else -1
        self.b_floor = self.b_floor + 1 if -1 < self.b_floor < 5 else -1
        in_pad, in_jump = -1 < self.b_pad < 4, -1 < self.b_jump < 5
        in_wall, in_floor = -1 < self.b_wall < 5, -1 < self.b_floor < 5
        if pressed and self.air:
            self.b_jump = 0
        if self.walled:
            self.b_wall = 0
        if not self.air:
            self.b_floor = 0
        if self.state == 7:
            self.state = 6
        elif self.state == 8:
            self.d = DRAG if self.air else DRAG_WON
        elif self.state != 6:
            if self.air:
                self._in_air(pressed, in_jump, in_wall, in_floor, in_pad)
            else:
                self._on_floor(pressed, in_jump)

    def _on_floor(self, pressed, in_jump):
        h, nx, ny = self.h, self.nx, self.ny
        z = self.u + A_GROUND * h
        if abs(z) < V_MAX:
            self.u = z
        if self.state > 2:
            if self.state == 3:
                self.g = G_FALL
            self.state = 2 if self.u * h <= 0 else 1
        if in_jump or pressed:
            self._floor_jump()
            return
        s = abs(self.v * nx - self.u * ny)
        if self.state == 2:
            if (h * s) * self.u > 0:
                self.state = 1
            elif s < 0.1 and nx == 0:
                self.state = 0
            elif self.v < 0 and nx != 0:
                m = length(self.u, self.v)
                f = abs((self.u * (1 - F_GROUND)) * ny)
                k = m - f * (ny * ny)
                self.u, self.v = (self.u / m) * k, (self.v / m) * k
            else:
                self.u = self.u * F_GROUND
        elif self.state == 1:
            if (h * s) * self.u > 0:
                if h * nx < 0 and abs(z) < V_MAX:
                    e = (A_GROUND / 2) * h
                    self.u, self.v = self.u + (e * ny) * ny, self.v + (e * ny) * (-nx)
            else:
                self.state = 2
        elif h != 0:
            self.state = 1
        elif s < 0.1:
            self.u = self.u * F_STAND
        else:
            self.state = 2

    def _in_air(self, pressed, in_jump, in_wall, in_floor, in_pad):
        h = self.h
        z = self.u + A_AIR * h
        if abs(z) < V_MAX:
            self.u = z
        if self.state < 3:
            self.state = 4
            return
        if self.state == 3:
            self.jump_frames += 1
            if self.j == 0 or self.jump_frames > 45:
                self.g, self.state = G_FALL, 4
                return
        if in_jump or pressed:
            if self.walled or in_wall:
                self._wall_jump()
                return
            if in_floor:
                self._floor_jump()
                return
            if in_pad and pressed:
                self.b_floor = self.b_wall = self.b_jump = self.b_pad = -1
                k = 2 * abs(self.pad_x) + 2
                if k == 2:
                    k = 1.7
                self.u, self.v = self.u + ((self.pad_x * k) * 2) / 3, self.v + ((self.pad_y * k) * 2) / 3
                return
        if not self.walled:
            if self.state == 5:
                self.state = 4
        elif self.state == 5:
            if h * self.wn <= 0:
                self.v = self.v * F_WALL
            else:
                self.state = 4
        elif self.v > 0 and h * self.wn < 0:
            if self.state == 3:
                self.g = G_FALL
            self.state = 5

    def _floor_jump(self):
        self.b_jump = self.b_floor = self.b_pad = -1
        self.state, self.g = 3, G_JUMP
        steep = (2 / 3) * self.nx, 2 * self.ny
        if self.nx == 0:
            a, b = 0, -2
        elif self.u * self.nx >= 0:
            a, b = steep if self.u * self.h >= 0 else (0, -1.4)
        elif self.u * self.h > 0:
            a, b = 0, -1.4
        else:
            self.u = 0.0
            a, b = steep
        self._leap(a, b)

    def _wall_jump(self):
        a, b = (2 / 3, -1) if self.h * self.wn < 0 and self.state == 5 else (1, -1.4)
        self.state, self.g = 3, G_JUMP
        if self.u * self.wn < 0:
            self.u = 0.0
        self._leap(a * self.wn, b)
        self.b_jump = self.b_wall = self.b_pad = -1

    def _leap(self, a, b):
        if self.v > 0:
            self.v = 0.0
        self.u, self.v, self.x, self.y = self.u + a, self.v + b, self.x + a, self.y + b
        self.jump_frames = 0


def simulate_plainly(map_data, inputs):
    """As `simulate_final`: (trajectory, states, gold, entities) as lists."""
    game = Game(map_data)
    trajectory, states = [], []
    for b in inputs:
        game.frame(-1 if b & 4 else (1 if b & 2 else 0), b & 1)
        trajectory.append([game.x, game.y, game.u, game.v])
        states.append(game.state)
        if game.state in (6, 8):
            break
    entities = [
        [e.kind, e.x, e.y, e.active, 0 if e.kind == 24 else e.state] for kind in range(1, 29) for e in game.lists[kind]
    ]
    return trajectory, states, game.gold, entities
