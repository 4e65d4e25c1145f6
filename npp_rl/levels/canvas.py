"""Figures on a canvas that become tiles: discs, rings, polygons, tubes, profiles of ground.

A figure is a set of points in integer half pixels: a tile is 48 wide, the field 2016 x 1104. It is looked at just
inside the middles of the half edges (12 px) of all tiles. A tile is chosen by its eight half edges, each solid or open.
Neighbours agree about those between them, so a figure's border runs through slopes of all kinds without a step. Four
points around the tile's middle decide between a 1:1 slope and the two curves with the same half edges.
"""

import numpy as np

from npp_rl.levels.fields import distance_to_tile
from npp_rl.levels.maps import COLUMNS, ROWS

TILE = 48
WIDTH, HEIGHT = TILE * COLUMNS, TILE * ROWS


# Points of a tile, half px: just inside its half edges (upper left and right, right, lower left and right, left), and
# four around its middle.
_EDGES = ((12, 1), (36, 1), (47, 12), (47, 36), (12, 47), (36, 47), (1, 12), (1, 36))
_MIDDLE = ((19, 19), (29, 19), (19, 29), (29, 29))
_AT = np.array((*_EDGES, *_MIDDLE))
Y, X = (
    (TILE * np.arange(n).reshape(shape) + _AT[:, axis] + np.zeros((ROWS, COLUMNS, 12), np.int64)).ravel()
    for n, shape, axis in ((ROWS, (-1, 1, 1), 1), (COLUMNS, (-1, 1), 0))
)


def _tile_table():
    """uint8 [256]: the tile for each set of solid half edges (bits in the order of _EDGES), or the most similar one."""
    x, y = np.array(_EDGES).T / 2
    numbers = np.array((0, *range(1, 10), *range(18, 34)))
    edges = np.array([distance_to_tile(tile, x, y) == 0 if tile else np.zeros(8, bool) for tile in numbers])
    wanted = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)
    table = numbers[(wanted[:, None] != edges[None]).sum(2).argmin(1)].astype(np.uint8)
    # No tile has a 45-degree line half a tile from its corners. Such a line is moved to the corners, so that it has no
    # teeth.
    for tile, corner in ((6, (3, 5)), (7, (4, 7)), (8, (0, 6)), (9, (1, 2))):
        quarter = sum(1 << k for k in corner)
        table[quarter], table[255 - quarter] = 0, tile
    return table


_TILES = _tile_table()
_CORNER = np.array((0, 1, 3, 2))  # of tiles 6..9: the point of four that lies on their solid side


class Canvas:
    """Which points are solid, bool [p]; all are at first. x, y: int64 [p], the points, maybe folded (`fold`)."""

    def __init__(self):
        self.x, self.y = X, Y
        self.solid = np.ones(len(X), bool)

    def fold(self, kind: str) -> None:
        """Draw from now on the same on both sides of the middle: mirrored, turned by half a circle, or upside down."""
        if kind == "mirrored":
            self.x = np.minimum(self.x, WIDTH - self.x)
        elif kind == "turned":
            right = self.x > WIDTH // 2
            self.x, self.y = np.where(right, WIDTH - self.x, self.x), np.where(right, HEIGHT - self.y, self.y)
        elif kind == "upside down":
            self.y = np.minimum(self.y, HEIGHT - self.y)

    def carve(self, inside: np.ndarray) -> None:
        self.solid[inside] = False

    def fill(self, inside: np.ndarray) -> None:
        self.solid[inside] = True

    def box(self, left, top, right, bottom, edge: int = 0) -> np.ndarray:
        """Points inside a box; edge=1 includes its border (solid blocks), edge=0 does not (rooms)."""
        x, y = self.x, self.y
        return (x > left - edge) & (x < right + edge) & (y > top - edge) & (y < bottom + edge)

    def disc(self, x, y, radius) -> np.ndarray:
        dx, dy = self.x - x, self.y - y
        return dx * dx + dy * dy < radius * radius

    def diamond(self, x, y, width, height) -> np.ndarray:
        """Points of a diamond that is 2 * width wide and 2 * height high."""
        return np.abs(self.x - x) * height + np.abs(self.y - y) * width <= width * height

    def octagon(self, x, y, width, height, cut) -> np.ndarray:
        """Points inside of a box of 2 * width by 2 * height whose corners are cut off by slopes 1:1, `cut` wide."""
        dx, dy = np.abs(self.x - x), np.abs(self.y - y)
        return (dx < width) & (dy < height) & (dx + dy < width + height - cut)

    def triangle(self, x, y, width, height, up: bool) -> np.ndarray:
        """Points of a triangle 2 * width wide, with its tip at (x, y) and its base `height` below it, or above it."""
        dy = self.y - y if up else y - self.y
        return (dy >= 0) & (dy <= height) & (np.abs(self.x - x) * height <= width * dy)

    def stroke(self, x0, y0, x1, y1, radius) -> np.ndarray:
        """Points nearer than radius to a straight line between two points."""
        dx, dy = x1 - x0, y1 - y0
        length = dx * dx + dy * dy
        if not length:
            return self.disc(x0, y0, radius)
        px, py = self.x - x0, self.y - y0
        if abs(dx) == abs(dy):  # walls through the corners of tiles
            wide = TILE * max(round(radius * 1.4 / TILE), 1)
            side = np.abs(px * dy - py * dx) < wide * abs(dx)
            along = px * dx + py * dy
            return (side & (along > 0) & (along < length)) | self.disc(x0, y0, radius) | self.disc(x1, y1, radius)
        along, across = px * dx + py * dy, px * dy - py * dx
        beside = (along > 0) & (along < length) & (across * across < radius * radius * length)
        return beside | self.disc(x0, y0, radius) | self.disc(x1, y1, radius)

    def below(self, heights: list[int], left: int, pitch: int) -> np.ndarray:
        """Points at or below a line through (left + k * pitch, heights[k]), level beyond its ends."""
        heights = np.array([*heights, heights[-1]])
        at = np.clip(self.x - left, 0, pitch * (len(heights) - 2))
        k, rest = at // pitch, at % pitch
        return self.y * pitch >= heights[k] * (pitch - rest) + heights[k + 1] * rest

    def beside(self, widths: list[int], top: int, pitch: int) -> np.ndarray:
        """Points at or left of a line through (widths[k], top + k * pitch)."""
        widths = np.array([*widths, widths[-1]])
        at = np.clip(self.y - top, 0, pitch * (len(widths) - 2))
        k, rest = at // pitch, at % pitch
        return self.x * pitch <= widths[k] * (pitch - rest) + widths[k + 1] * rest

    def noise(self, values: np.ndarray, pitch: int) -> np.ndarray:
        """Values int64 of a lattice [rows, columns] with this pitch, between them by area; times pitch * pitch."""
        i, a = self.x // pitch, self.x % pitch
        j, b = self.y // pitch, self.y % pitch
        upper = values[j, i] * (pitch - a) + values[j, i + 1] * a
        return upper * (pitch - b) + (values[j + 1, i] * (pitch - a) + values[j + 1, i + 1] * a) * b

    def tiles(self) -> np.ndarray:
        """uint8 [23, 42]."""
        solid = self.solid.reshape(ROWS, COLUMNS, 12)
        middle = solid[:, :, 8:]
        tiles = _TILES[(solid[:, :, :8] << np.arange(8)).sum(2)]
        sloped = np.argwhere((tiles >= 6) & (tiles < 10))
        for row, column in sloped.tolist():
            tile = tiles[row, column]
            corner = _CORNER[tile - 6]
            if middle[row, column, 3 - corner]:
                tiles[row, column] = tile + 4  # convex
            elif not middle[row, column, corner]:
                tiles[row, column] = tile + 8  # concave
        return tiles
