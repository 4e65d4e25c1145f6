"""Geometry primitives (PHYSICS.md 6): sweeps, closest points, pushes, half-cell edges.

Loops over a region's segments follow the order of PHYSICS.md 3.6: cells column by column, and each cell's span in its
stored order. The cells of a column are adjacent in memory, so their rows are one span.
"""

import math

from npp_rl.simulator.compiled import kernel
from npp_rl.simulator.layout import COLUMNS, CONVEX_ARC, DOOR_LINE, H_EDGES, ROWS


@kernel(forceinline=True)
def floor_div(value, size):
    return math.floor(value / size)


@kernel(forceinline=True)
def clamp(value, low, high):
    return min(max(value, low), high)


@kernel(forceinline=True)
def cell_of(x, y):
    """Index of the cell of a position, clamped to the field (PHYSICS.md 1)."""
    return clamp(floor_div(x, 24.0), 0, COLUMNS - 1) * ROWS + clamp(floor_div(y, 24.0), 0, ROWS - 1)


@kernel(forceinline=True)
def overlap(x1, y1, x2, y2, radius_sum):
    """Whether two circles overlap (PHYSICS.md 6.9)."""
    dx = x1 - x2
    dy = y1 - y2
    return math.sqrt(dx * dx + dy * dy) < radius_sum


@kernel(forceinline=True)
def time_circle_circle(p, q, wx, wy, a, b, rho):
    """PHYSICS.md 6.1."""
    dx = p - a
    dy = q - b
    dist2 = dx * dx + dy * dy
    if dist2 - rho * rho > 0.0:
        w2 = wx * wx + wy * wy
        k = dx * wx + dy * wy
        root = k * k - w2 * (dist2 - rho * rho)
        if w2 > 0.0001 and k < 0.0 and root >= 0.0:
            return (-k - math.sqrt(root)) / w2
        return 1.0
    return 0.0


@kernel(forceinline=True)
def time_circle_line(p, q, wx, wy, s, rho):
    """PHYSICS.md 6.2; the segment's length and unit vector were computed when the level was loaded."""
    n = (p - s.x1) * s.iy - (q - s.y1) * s.ix
    along = (p - s.x1) * s.ix + (q - s.y1) * s.iy
    if abs(n) >= rho:
        c = wx * s.iy - wy * s.ix
        if c * n < 0.0:
            t = min((abs(n) - rho) / abs(c), 1.0)
            along += t * (wx * s.ix + wy * s.iy)
            if 0.0 <= along <= s.length:
                return t
    elif 0.0 <= along <= s.length:
        return 0.0
    return 1.0


@kernel(forceinline=True)
def time_circle_arc(p, q, wx, wy, a, b, h, w, rho):
    """PHYSICS.md 6.3, arc radius 24."""
    dx = p - a
    dy = q - b
    dist2 = dx * dx + dy * dy
    w2 = wx * wx + wy * wy
    k = dx * wx + dy * wy
    outer = 24.0 + rho
    inner = 24.0 - rho
    t = 1.0
    if dist2 > outer * outer:
        root = k * k - w2 * (dist2 - outer * outer)
        if w2 > 0.0001 and k < 0.0 and root >= 0.0:
            t = (-k - math.sqrt(root)) / w2
    elif dist2 < inner * inner:
        root = k * k - w2 * (dist2 - inner * inner)
        if w2 > 0.0001:
            t = min((-k + math.sqrt(root)) / w2, 1.0)
    else:
        t = 0.0
    if (dx + t * wx) * h > 0.0 and (dy + t * wy) * w > 0.0:
        return t
    return 1.0


@kernel(forceinline=True)
def time_segment(s, p, q, wx, wy, rho):
    """Time of a moving circle against a segment (PHYSICS.md 6.4)."""
    if s.kind >= CONVEX_ARC:
        t = time_circle_circle(p, q, wx, wy, s.x1 + 24.0 * s.x2, s.y1, rho)
        t = min(t, time_circle_circle(p, q, wx, wy, s.x1, s.y1 + 24.0 * s.y2, rho))
        return min(t, time_circle_arc(p, q, wx, wy, s.x1, s.y1, s.x2, s.y2, rho))
    t = time_circle_circle(p, q, wx, wy, s.x1, s.y1, rho)
    t = min(t, time_circle_circle(p, q, wx, wy, s.x2, s.y2, rho))
    return min(t, time_circle_line(p, q, wx, wy, s, rho))


@kernel(forceinline=True)
def sweep_time(level, segments, closed, i, p, q, wx, wy, rho):
    """Part of the displacement (wx, wy) px that a circle at (p, q) of radius rho can make (PHYSICS.md 6.4, 6.7).

    A segment is skipped if its bounding box is more than 0.001 px away from the box of the swept circle: it cannot be
    touched on the way, so its times are all 1.
    """
    x_low = min(p, p + wx)
    y_low = min(q, q + wy)
    x_high = max(p, p + wx)
    y_high = max(q, q + wy)
    margin = rho + 1.0
    first_row = clamp(floor_div(y_low - margin, 24.0), 0, ROWS - 1)
    last_row = clamp(floor_div(y_high + margin, 24.0), 0, ROWS - 1)
    first_column = clamp(floor_div(x_low - margin, 24.0), 0, COLUMNS - 1)
    last_column = clamp(floor_div(x_high + margin, 24.0), 0, COLUMNS - 1)
    reach = rho + 0.001
    x_low -= reach
    y_low -= reach
    x_high += reach
    y_high += reach
    best = 1.0
    for column in range(first_column, last_column + 1):
        start = level.segment_start[column * ROWS + first_row]
        end = level.segment_start[column * ROWS + last_row + 1]
        for k in range(start, end):
            s = segments[k]
            if s.x_high < x_low or s.x_low > x_high or s.y_high < y_low or s.y_low > y_high:
                continue
            if s.kind != DOOR_LINE or closed[i, s.door]:
                best = min(best, time_segment(s, p, q, wx, wy, rho))
    return best


@kernel(forceinline=True)
def closest_on_line(x, y, x1, y1, x2, y2):
    """Closest point of a segment, and whether (x, y) is on its back (PHYSICS.md 6.5)."""
    lx = x2 - x1
    ly = y2 - y1
    dx = x - x1
    dy = y - y1
    t = (dx * lx + dy * ly) / (lx * lx + ly * ly)
    t = min(max(t, 0.0), 1.0)
    return dy * lx - dx * ly < 0.0, x1 + t * lx, y1 + t * ly


@kernel(forceinline=True)
def closest_on_arc(x, y, a, b, h, w, convex):
    """PHYSICS.md 6.5."""
    dx = x - a
    dy = y - b
    if dx * h > 0.0 and dy * w > 0.0:
        r = math.sqrt(dx * dx + dy * dy)
        back = r < 24.0 if convex else r > 24.0
        return back, a + (24.0 * dx) / r, b + (24.0 * dy) / r
    if dx * h > dy * w:
        return False, a + 24.0 * h, b
    return False, a, b + 24.0 * w


@kernel(forceinline=True)
def closest_on_segment(s, x, y):
    """Closest point of a stored segment to (x, y) -> (back, a, b)."""
    if s.kind >= CONVEX_ARC:
        return closest_on_arc(x, y, s.x1, s.y1, s.x2, s.y2, s.kind == CONVEX_ARC)
    back, a, b = closest_on_line(x, y, s.x1, s.y1, s.x2, s.y2)
    return back and s.kind != DOOR_LINE, a, b


@kernel(forceinline=True)
def nearest(level, segments, closed, i, x, y, rho):
    """Nearest point of the segments around (x, y) -> (side, a, b); side 0 if there is none (PHYSICS.md 6.6).

    A segment is no nearer than its bounding box. So it cannot be the nearest, even with the 0.1 of the front side, if
    the box's squared distance exceeds the best one by 0.2. The factor covers rounding far outside the field.
    """
    first_row = clamp(floor_div(y - rho, 24.0), 0, ROWS - 1)
    last_row = clamp(floor_div(y + rho, 24.0), 0, ROWS - 1)
    first_column = clamp(floor_div(x - rho, 24.0), 0, COLUMNS - 1)
    last_column = clamp(floor_div(x + rho, 24.0), 0, COLUMNS - 1)
    best = 9999999.0
    limit = math.inf
    side = 0
    best_a = 0.0
    best_b = 0.0
    for column in range(first_column, last_column + 1):
        start = level.segment_start[column * ROWS + first_row]
        end = level.segment_start[column * ROWS + last_row + 1]
        for k in range(start, end):
            s = segments[k]
            dx = max(s.x_low - x, x - s.x_high, 0.0)
            dy = max(s.y_low - y, y - s.y_high, 0.0)
            if dx * dx + dy * dy > limit or (s.kind == DOOR_LINE and not closed[i, s.door]):
                continue
            back, a, b = closest_on_segment(s, x, y)
            dx = x - a
            dy = y - b
            dist = dx * dx + dy * dy
            if not back:
                dist = dist - 0.1
            if dist < best:
                best = dist
                limit = best * 1.000001 + 0.2
                best_a = a
                best_b = b
                side = -1 if back else 1
    return side, best_a, best_b


@kernel
def wall_normal(level, segments, closed, i, x, y):
    """Normal of the first wall within 10.1 px of the ninja, or 0 (PHYSICS.md 4.9 step 3).

    The wall's point is at the ninja's height to within 0.00001 px, so a segment is skipped if its bounding box is not
    near enough.
    """
    rad = 10.1
    first_row = clamp(floor_div(y - rad, 24.0), 0, ROWS - 1)
    last_row = clamp(floor_div(y + rad, 24.0), 0, ROWS - 1)
    first_column = clamp(floor_div(x - rad, 24.0), 0, COLUMNS - 1)
    last_column = clamp(floor_div(x + rad, 24.0), 0, COLUMNS - 1)
    for column in range(first_column, last_column + 1):
        start = level.segment_start[column * ROWS + first_row]
        end = level.segment_start[column * ROWS + last_row + 1]
        for k in range(start, end):
            s = segments[k]
            if y < s.y_low - 0.001 or y > s.y_high + 0.001 or x < s.x_low - 10.2 or x > s.x_high + 10.2:
                continue
            if s.kind == DOOR_LINE and not closed[i, s.door]:
                continue
            _, a, b = closest_on_segment(s, x, y)
            dy = y - b
            if abs(dy) < 0.00001:
                dx = x - a
                r = math.sqrt(dx * dx + dy * dy)
                if 0.0 < r <= rad:
                    normal = dx / r
                    if normal != 0.0:
                        return normal
    return 0.0


@kernel(forceinline=True)
def square_push(sx, sy, x, y, half):
    """Push of a square on a point -> (found, ex, ey, depth, other depth) (PHYSICS.md 6.8)."""
    dx = x - sx
    dy = y - sy
    depth_x = half - abs(dx)
    depth_y = half - abs(dy)
    if not (depth_x > 0.0 and depth_y > 0.0):
        return False, 0.0, 0.0, 0.0, 0.0
    if depth_y <= depth_x:
        return True, 0.0, (-1.0 if dy < 0.0 else 1.0), depth_y, depth_x
    return True, (-1.0 if dx < 0.0 else 1.0), 0.0, depth_x, depth_y


@kernel
def _counted(level, edges, counts, i, edge):
    for slot in range(level.edges):
        if edges[level.edge_start + slot] == edge:
            return counts[i, slot] != 0
    return False


@kernel
def column_open(level, edges, counts, i, c, r1, r2, direction):
    """Whether the vertical half-cell edges on the way out of column c are open (PHYSICS.md 6.10, 8.5)."""
    hx = clamp(c + 1 if direction == 1 else c, 0, 88)
    for r in range(r1, r2 + 1):
        hy = clamp(r, 0, 50)
        if hy == 50 or level.edge_v[hx * 50 + hy] != 0:
            return False
        if level.edges > 0 and _counted(level, edges, counts, i, H_EDGES + hx * 50 + hy):
            return False
    return True


@kernel
def row_open(level, edges, counts, i, c1, c2, r, direction):
    """Whether the horizontal half-cell edges on the way out of row r are open (PHYSICS.md 6.10, 8.5)."""
    hy = clamp(r + 1 if direction == 1 else r, 0, 50)
    for c in range(c1, c2 + 1):
        hx = clamp(c, 0, 88)
        if hx == 88 or level.edge_h[hx * 51 + hy] != 0:
            return False
        if level.edges > 0 and _counted(level, edges, counts, i, hx * 51 + hy):
            return False
    return True
