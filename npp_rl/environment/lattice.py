"""Distances to solid ground between the nodes of the 6 px lattice."""

import math

import numpy as np

from npp_rl.levels.fields import COLS, NODES, SPACING
from npp_rl.simulator.compiled import kernel

FAR = 24.0  # px to solid ground; distances beyond are not told apart
ROWS = NODES // COLS
CLEARANCE = np.arange(256) * (FAR / 255.0)  # px, of the numbers that nodes hold


@kernel(forceinline=True)
def cell_at(x, y):
    """Column and row of the lattice cell around (x, y)."""
    return min(max(int(x * (1.0 / SPACING)), 0), COLS - 2), min(max(int(y * (1.0 / SPACING)), 0), ROWS - 2)


@kernel(forceinline=True)
def solid(c00, c10, c01, c11, fx, fy):
    """Interpolate px to solid ground from the nodes around, which are upper and lower ones (c00, c10; c01, c11)."""
    return (c00 * (1.0 - fx) + c10 * fx) * (1.0 - fy) + (c01 * (1.0 - fx) + c11 * fx) * fy


@kernel
def room(clearance, x, y):
    """Px from (x, y) to solid ground. clearance u1 [NODES]: as in `local_tiles`."""
    i, j = cell_at(x, y)
    node = j * COLS + i
    c00 = CLEARANCE[clearance[node]]
    c10 = CLEARANCE[clearance[node + 1]]
    c01 = CLEARANCE[clearance[node + COLS]]
    c11 = CLEARANCE[clearance[node + COLS + 1]]
    return solid(c00, c10, c01, c11, x * (1.0 / SPACING) - i, y * (1.0 / SPACING) - j)


@kernel
def way_out(clearance, x, y):
    """Unit vector from (x, y) away from solid ground; (0, 0) where none is near, and inside of it."""
    i, j = cell_at(x, y)
    node = j * COLS + i
    c00 = CLEARANCE[clearance[node]]
    c10 = CLEARANCE[clearance[node + 1]]
    c01 = CLEARANCE[clearance[node + COLS]]
    c11 = CLEARANCE[clearance[node + COLS + 1]]
    fx = x * (1.0 / SPACING) - i
    fy = y * (1.0 / SPACING) - j
    dx = (c10 - c00) * (1.0 - fy) + (c11 - c01) * fy
    dy = (c01 - c00) * (1.0 - fx) + (c11 - c10) * fx
    r = math.sqrt(dx * dx + dy * dy)
    if r == 0.0:
        return 0.0, 0.0
    return dx / r, dy / r
