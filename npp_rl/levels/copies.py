"""Near-copies: levels that the ninja can hardly tell from another level.

The distance of two levels is the number of tiles that differ, among the 966 tiles those that the ninja can get to in
either level and their neighbours. What lies beyond the walls does not count, nor do entities: levels with equal tiles
are at distance 0, wherever their mines and goals are. A mirror image is as good as the level itself, because agents
train on mirrored levels. So a level's distance to others is the least to one of them or to its mirror image.
"""

from collections.abc import Sequence

import numpy as np

from npp_rl.levels import fields
from npp_rl.levels.maps import COLUMNS, MIRRORED, ROWS, Level
from npp_rl.simulator.compiled import njit

# Levels at this distance or less are near-copies: 1% of the tiles. So few changed tiles, a ledge or a pit, leave most
# ways through a level as they were. In the smallest levels, corridors of a dozen tiles, they can change everything;
# there the limit is strict, and the generator has many more such corridors.
NEAR = 10
WORDS = -(-ROWS * COLUMNS // 8)  # of 8 tiles


@njit
def _reach(tiles, node, free, stack, near):
    """Mark the tiles that the ninja's centre can get to from a node through free space, and their neighbours.

    tiles: uint8 [25, 44]. near: bool [25, 44], all False. Scratch: free uint8 [NODES], stack int32 [NODES].
    """
    fields.level_free(tiles, free)
    if not free[node]:
        return
    size = 1
    stack[0] = node
    free[node] = 0
    while size:
        size -= 1
        node = stack[size]
        row, column = node // fields.COLS // 4, node % fields.COLS // 4
        near[row - 1 : row + 2, column - 1 : column + 2] = True
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                m = node + dy * fields.COLS + dx
                if free[m]:
                    free[m] = 0
                    stack[size] = m
                    size += 1


_ONES, _SEVENS = np.uint64(0x0101010101010101), np.uint64(0x7F7F7F7F7F7F7F7F)


@njit
def _nearest(tiles, near, other_tiles, other_near, nearest):
    """Lower `nearest` (int64 [n]) to the least distance of levels to others.

    tiles, near: uint64 [n, WORDS], a byte for each tile; bytes of `near` are 255 or 0.
    """
    for i in range(len(tiles)):
        for j in range(len(other_tiles)):
            count = 0
            for k in range(WORDS):
                differ = (tiles[i, k] ^ other_tiles[j, k]) & (near[i, k] | other_near[j, k])
                if differ:  # count the bytes that are not 0: one bit for each, added up in the uppermost byte
                    bits = (((differ & _SEVENS) + _SEVENS) | differ) >> np.uint64(7) & _ONES
                    count += np.int64((bits * _ONES) >> np.uint64(56))
                    if count >= nearest[i]:
                        break
            nearest[i] = min(nearest[i], count)


_free, _stack = np.empty(fields.NODES, np.uint8), np.empty(fields.NODES, np.int32)


def playable_part(level: Level) -> np.ndarray:
    """bool [23, 42]: tiles that the ninja can get to, through all doors and mines, and their neighbours.

    All tiles where the ninja starts inside solid ground or outside the field.
    """
    tiles = np.ones((ROWS + 2, COLUMNS + 2), np.uint8)
    tiles[1:-1, 1:-1] = level.tiles
    near = np.zeros(tiles.shape, bool)
    column, row = (int(at // fields.SPACING) for at in level.spawn)
    if column < fields.COLS and row < fields.ROWS:
        _reach(tiles, row * fields.COLS + column, _free, _stack, near)
    return near[1:-1, 1:-1] if near.any() else np.ones((ROWS, COLUMNS), bool)


def distance_to_nearest(levels: Sequence[Level], others: Sequence[Level], most: int = ROWS * COLUMNS) -> np.ndarray:
    """Distance (tiles) of each level to the nearest of the others and their mirror images; `most` where it is more.

    Returns int64 [len(levels)]. The smaller `most` is, the less time it takes.
    """
    nearest = np.full(len(levels), most)
    if len(levels) and len(others):
        tiles, near = _tables(levels)
        other_tiles, other_near = _tables(others)
        own = _words(tiles), _words(near)
        _nearest(*own, _words(other_tiles), _words(other_near), nearest)
        _nearest(*own, _words(MIRRORED[other_tiles[:, :, ::-1]]), _words(other_near[:, :, ::-1]), nearest)
    return nearest


def _tables(levels):
    """uint8 [n, 23, 42]: tiles, and 255 in the part of each level that can be played, 0 elsewhere."""
    parts = [playable_part(level) for level in levels]
    return np.stack([level.tiles for level in levels]), np.where(parts, 255, 0).astype(np.uint8)


def _words(table):
    """uint64 [n, WORDS] of bytes [n, 23, 42]."""
    words = np.zeros((len(table), 8 * WORDS), np.uint8)
    words[:, : ROWS * COLUMNS] = table.reshape(len(table), -1)
    return words.view(np.uint64)


def near_copies(levels: Sequence[Level], others: Sequence[Level]) -> list[Level]:
    """Those of the levels that are near-copies of one of the others or of its mirror image."""
    nearest = distance_to_nearest(levels, others, NEAR + 1)
    return [level for level, distance in zip(levels, nearest.tolist(), strict=True) if distance <= NEAR]
