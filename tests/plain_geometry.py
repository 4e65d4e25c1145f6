"""Geometry of PHYSICS.md 6 in plain Python, for plain_simulator.py.

A segment is a dict: kind "line", "door" or "arc"; lines have x1, y1, x2, y2, arcs a, b, h, w, convex.
"""

import math


def clamp(value, low, high):
    return min(max(value, low), high)


def cell_of(x, y):
    return clamp(math.floor(x / 24), 0, 43), clamp(math.floor(y / 24), 0, 24)


def length(a, b):
    return math.sqrt(a * a + b * b)


def overlap(x1, y1, r1, x2, y2, r2):
    return length(x1 - x2, y1 - y2) < r1 + r2


def time_circle(p, q, wx, wy, a, b, rho):
    dx, dy = p - a, q - b
    d, w, k = dx * dx + dy * dy, wx * wx + wy * wy, dx * wx + dy * wy
    if d - rho * rho > 0:
        root = k * k - w * (d - rho * rho)
        if w > 0.0001 and k < 0 and root >= 0:
            return (-k - math.sqrt(root)) / w
        return 1
    return 0


def time_line(p, q, wx, wy, s, rho):
    lx, ly = s["x2"] - s["x1"], s["y2"] - s["y1"]
    size = length(lx, ly)
    ix, iy = lx / size, ly / size
    n = (p - s["x1"]) * iy - (q - s["y1"]) * ix
    along = (p - s["x1"]) * ix + (q - s["y1"]) * iy
    if abs(n) >= rho:
        c = wx * iy - wy * ix
        if c * n < 0:
            t = min((abs(n) - rho) / abs(c), 1)
            if 0 <= along + t * (wx * ix + wy * iy) <= size:
                return t
    elif 0 <= along <= size:
        return 0
    return 1


def time_arc(p, q, wx, wy, s, rho):
    dx, dy = p - s["a"], q - s["b"]
    d, w, k = dx * dx + dy * dy, wx * wx + wy * wy, dx * wx + dy * wy
    outer, inner, t = 24 + rho, 24 - rho, 1
    if d > outer * outer:
        root = k * k - w * (d - outer * outer)
        if w > 0.0001 and k < 0 and root >= 0:
            t = (-k - math.sqrt(root)) / w
    elif d < inner * inner:
        root = k * k - w * (d - inner * inner)
        if w > 0.0001:
            t = min((-k + math.sqrt(root)) / w, 1)
    else:
        t = 0
    return t if (dx + t * wx) * s["h"] > 0 and (dy + t * wy) * s["w"] > 0 else 1


def ends_of(s):
    if s["kind"] == "arc":
        return (s["a"] + 24 * s["h"], s["b"]), (s["a"], s["b"] + 24 * s["w"])
    return (s["x1"], s["y1"]), (s["x2"], s["y2"])


def closest(s, x, y):
    """6.5 -> back, a, b."""
    if s["kind"] == "arc":
        dx, dy, h, w = x - s["a"], y - s["b"], s["h"], s["w"]
        if dx * h > 0 and dy * w > 0:
            r = length(dx, dy)
            return (r < 24 if s["convex"] else r > 24), s["a"] + (24 * dx) / r, s["b"] + (24 * dy) / r
        horizontal, vertical = ends_of(s)
        return False, *(horizontal if dx * h > dy * w else vertical)
    lx, ly = s["x2"] - s["x1"], s["y2"] - s["y1"]
    dx, dy = x - s["x1"], y - s["y1"]
    t = min(max((dx * lx + dy * ly) / (lx * lx + ly * ly), 0), 1)
    return s["kind"] == "line" and dy * lx - dx * ly < 0, s["x1"] + t * lx, s["y1"] + t * ly


def square_push(sx, sy, x, y, half):
    """6.8 -> (ex, ey, depth, other depth), or None."""
    dx, dy = x - sx, y - sy
    ex, ey = half - abs(dx), half - abs(dy)
    if not (ex > 0 and ey > 0):
        return None
    if ey <= ex:
        return 0, (-1 if dy < 0 else 1), ey, ex
    return (-1 if dx < 0 else 1), 0, ex, ey
