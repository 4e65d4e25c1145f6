"""Ways through a level made by hand, for comparison: fields.py's kernels called for one level at a time."""

import numpy as np

from npp_rl.levels import fields


def level_free_space(tiles) -> np.ndarray:
    """`free` (uint8 [NODES]) of the ground alone. tiles: [23, 42] tile numbers, without the border ring."""
    bordered = np.ones((25, 44), np.uint8)
    bordered[1:24, 1:43] = tiles
    free = np.empty(fields.NODES, np.uint8)
    fields.level_free(bordered, free)
    return free


def way_length(tiles, mines, doors, start, goal, touch=fields.TOUCH_SWITCH) -> float:
    """Length (px) of the shortest way of the ninja from start until it touches the goal; inf if there is none.

    tiles: [23, 42]. mines: [m, 2] centres of deadly mines, px. doors: [d, 4] segments of closed doors (x1, y1, x2, y2).
    start, goal: (x, y) px. touch: distance of centres that touches. An empty list stands for no mines or no doors.
    """
    free = level_free_space(tiles)
    for x, y in np.asarray(mines, np.float64).reshape(-1, 2):
        fields.block_circle(free, x, y, fields.BLOCK_MINE)
    for x1, y1, x2, y2 in np.asarray(doors, np.float64).reshape(-1, 4):
        fields.block_segment(free, x1, y1, x2, y2)
    dist, ahead = np.empty(fields.NODES, np.uint16), np.empty(fields.NODES, np.uint8)
    fields.distances(free, np.array([goal], np.float64), float(touch), dist, ahead, np.empty(fields.QUEUE, np.int32))
    length = fields.distance_at(dist, float(start[0]), float(start[1]))
    return length if length >= 0 else np.inf


def reachable(tiles, mines, doors, start, goal, touch=fields.TOUCH_SWITCH) -> bool:
    """Whether the ninja's circle can get from start to touching the goal; arguments as in `way_length`."""
    return np.isfinite(way_length(tiles, mines, doors, start, goal, touch))


def door_segment(x, y, orientation) -> tuple[float, float, float, float]:
    """Segment (x1, y1, x2, y2) px of a door at (x, y) px: vertical for orientations 0 and 4 (PHYSICS.md 5.7)."""
    if orientation in (0, 4):
        return x, y - 12.0, x, y + 12.0
    return x - 12.0, y, x + 12.0, y
