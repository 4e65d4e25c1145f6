"""What drawn levels hold beside the way: mines, gold, pads, platforms, blocks, doors, and what moves."""

import numpy as np

from npp_rl.levels import climbing, fields
from npp_rl.levels.drafts import COLUMNS, GOLD, LAUNCH_PAD, MINE, ONE_WAY, ROWS, TOGGLE_MINE, TRAP_DOOR, TRAP_SWITCH, UP
from npp_rl.levels.scene import COLS, NODES, Scene, doors_at, place_of, weighted

REGULAR_DOOR, ZAP_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP = 5, 14, 16, 17, 20  # record types (PHYSICS.md 2.1)
BOOST_PAD, DEATH_BALL, MINI_DRONE, SHOVE_THWUMP = 24, 25, 26, 28


def _put(s: Scene, nodes, kind: int) -> None:
    for node in nodes:
        if not s.kept[node]:
            s.mines[int(node)] = kind


def _surface(s: Scene) -> np.ndarray:
    """bool [NODES]: nodes that are not free for the ninja, but lie beside a free one; about 6 px above the ground."""
    free = s.ground.reshape(fields.ROWS, COLS) != 0
    near = np.zeros_like(free)
    near[1:] |= free[:-1]
    near[:-1] |= free[1:]
    near[:, 1:] |= free[:, :-1]
    near[:, :-1] |= free[:, 1:]
    return (near & ~free).ravel()


def _coat(s: Scene, kind: int) -> None:
    """Mines along the surface: all of it, or floors, ceilings, walls, in places or everywhere."""
    dice = s.dice
    surface = _surface(s)
    free = s.ground != 0
    side = dice.below(6)
    if side == 1:  # floors
        surface[COLS:] &= free[:-COLS]
    elif side == 2:  # ceilings
        surface[:-COLS] &= free[COLS:]
    elif side == 3:  # walls
        surface[1:-1] &= free[:-2] | free[2:]
    rows, columns = np.divmod(np.flatnonzero(surface), COLS)
    pitch = dice.pick((1, 2, 2, 2, 2, 4))
    chosen = (rows + columns) % pitch == 0
    if dice.chance(70):  # in places
        size = dice.between(8, 40)
        share = dice.pick((15, 30, 50, 75))
        patches = dice.array(400, 100).reshape(20, 20) < share
        chosen &= patches[rows // size % 20, columns // size % 20]
    _put(s, (rows * COLS + columns)[chosen].tolist(), kind)


def _runs(s: Scene, kind: int) -> None:
    """A few rows of mines along the surface."""
    dice = s.dice
    surface = np.flatnonzero(_surface(s)).tolist()
    if not surface:
        return
    known = set(surface)
    pitch = dice.pick((1, 2, 2, 2, 3, 4))
    for _ in range(dice.between(1, 9)):
        node, seen, row = dice.pick(surface), set(), []
        for _ in range(dice.between(4, 60)):
            seen.add(node)
            row.append(node)
            for step in (1, -1, COLS, -COLS, COLS + 1, COLS - 1, -COLS + 1, -COLS - 1):
                if node + step in known and node + step not in seen:
                    node += step
                    break
            else:
                break
        _put(s, row[::pitch], kind)


def _lines(s: Scene, kind: int) -> None:
    """Straight rows of mines through the air."""
    dice = s.dice
    air = np.flatnonzero(s.ground).tolist()
    pitch = dice.pick((1, 2, 2, 3, 4, 6))
    across, down, slanted = (1, 0), (0, 1), ((1, 1), (-1, 1))
    directions = dice.pick(((across,), (down,), (across, down), slanted, (across, down, (1, 1), (2, 1))))
    for _ in range(dice.between(1, 8)):
        node = dice.pick(air)
        dx, dy = dice.pick(directions)
        row = []
        for _ in range(dice.between(2, 40)):
            if not s.ground[node]:
                break
            row.append(node)
            node += pitch * (dx + dy * COLS)
            if not 0 <= node < NODES:
                break
        _put(s, row, kind)


def _circles(s: Scene, kind: int) -> None:
    """Rings and heaps of mines in the air."""
    dice = s.dice
    air = np.flatnonzero(s.ground).tolist()
    rows, columns = np.divmod(np.arange(NODES), COLS)
    for _ in range(dice.between(1, 5)):
        i, j = place_of(dice.pick(air))
        r = dice.between(1, 14)
        away = (rows - j) ** 2 + (columns - i) ** 2
        ring = (away < (r + 1) ** 2) & (s.ground != 0) & ((rows + columns) % 2 == 0)
        if dice.chance(65):
            ring &= away >= r * r
        _put(s, np.flatnonzero(ring).tolist(), kind)


def _rim(s: Scene, kind: int) -> None:
    """Mines on both sides of the way, all along it or in places."""
    dice = s.dice
    kept = s.kept.reshape(fields.ROWS, COLS) != 0
    rim = np.zeros_like(kept)
    rim[1:-1, 1:-1] = kept[:-2, 1:-1] | kept[2:, 1:-1] | kept[1:-1, :-2] | kept[1:-1, 2:]
    rim &= ~kept & (s.ground.reshape(fields.ROWS, COLS) != 0)
    nodes = np.flatnonzero(rim.ravel())
    rows, columns = np.divmod(nodes, COLS)
    pitch = dice.pick((1, 2, 2, 3, 4))
    chosen = (rows + columns) % pitch == 0
    if dice.chance(70):
        size = dice.between(6, 30)
        patches = dice.array(400, 100).reshape(20, 20) < dice.pick((20, 40, 70))
        chosen &= patches[rows // size % 20, columns // size % 20]
    _put(s, nodes[chosen].tolist(), kind)


def _single(s: Scene, kind: int) -> None:
    """Single mines anywhere."""
    dice = s.dice
    air = np.flatnonzero(s.ground).tolist()
    _put(s, dice.sample(air, dice.pick((3, 6, 12, 25, 50))), kind)


def _grid(s: Scene, kind: int) -> None:
    """A lattice of mines over a part of the field, or all of it."""
    dice = s.dice
    rows, columns = np.divmod(np.flatnonzero(s.ground), COLS)
    wide, high = dice.between(4, 14), dice.between(4, 14)
    shift = dice.below(2) * (wide // 2)
    chosen = ((columns + rows // high * shift) % wide == 0) & (rows % high == 0)
    left, top = dice.below(COLS), dice.below(fields.ROWS)
    chosen &= (abs(columns - left) < dice.between(10, 90)) & (abs(rows - top) < dice.between(10, 60))
    _put(s, (rows * COLS + columns)[chosen].tolist(), kind)


_MINES = ((6, _coat), (4, _runs), (3, _lines), (2, _circles), (6, _rim), (2, _single), (1, _grid))


def put_mines(s: Scene) -> None:
    dice = s.dice
    for _ in range(dice.pick((1, 1, 2, 2, 3, 4, 5))):
        weighted(dice, _MINES)(s, TOGGLE_MINE if dice.chance(10) else MINE)


def put_gold(s: Scene) -> None:
    """Gold: in rows and blocks, on the ground, in the air, on the way."""
    dice = s.dice
    air = np.flatnonzero(s.ground)
    floor = np.flatnonzero(s.lift == climbing.FLOOR)
    spots = {}
    for _ in range(dice.pick((1, 2, 3, 4, 6, 8, 12, 16))):
        kind = dice.below(5)
        if kind == 0 and s.legs:
            leg = dice.pick(s.legs)
            at = dice.below(len(leg))
            nodes = leg[at : at + dice.between(4, 60) : 4]
        else:
            base = floor if kind < 3 and len(floor) else air
            node = int(base[dice.below(len(base))])
            if kind in (1, 3):  # a block
                pitch = dice.pick((2, 2, 4))
                wide, high = dice.between(1, 4), dice.between(1, 3)
                nodes = [node + pitch * (a - b * COLS) for a in range(wide) for b in range(high)]
            else:
                step = dice.pick((1, 1, COLS, COLS + 1, COLS - 1)) * dice.pick((2, 3, 4, 4, 8))
                nodes = [node + step * k for k in range(dice.between(2, 12))]
        for node in nodes:
            if 0 <= node < NODES and s.ground[node] and node not in s.mines:
                spots[node] = True
    s.records += [(GOLD, *place_of(node), 0, 0) for node in list(spots)[:160]]


def pads(s: Scene, kind: int, count: int) -> None:
    """Launch pads on floors and walls, boost pads in the air."""
    dice = s.dice
    base = np.flatnonzero(s.lift == climbing.FLOOR if kind == LAUNCH_PAD else s.ground != 0)
    for _ in range(count):
        if not len(base):
            return
        node = int(base[dice.below(len(base))])
        i, j = place_of(node)
        if kind == LAUNCH_PAD:
            if s.kept[node] and not dice.chance(30):
                continue
            s.records.append((LAUNCH_PAD, i, j + 2, dice.pick((UP, UP, UP, 5, 7)), 0))
        elif dice.chance(50):
            s.records.append((BOOST_PAD, i, j, 0, 0))
        else:
            step = dice.pick(((4, 0), (0, 4), (3, 3), (3, -3)))
            for k in range(dice.between(2, 8)):
                x, y = i + step[0] * k, j + step[1] * k
                if 0 <= x < COLS and 0 <= y < fields.ROWS and s.ground[y * COLS + x]:
                    s.records.append((BOOST_PAD, x, y, 0, 0))


def platforms(s: Scene) -> None:
    """One-way platforms to stand on, in the air: a step for climbs that the estimate then counts on."""
    dice = s.dice
    air = np.flatnonzero(s.ground & 1)
    if not len(air):
        return
    for _ in range(dice.between(1, 10)):
        i, j = place_of(int(air[dice.below(len(air))]))
        i, j = i // 4 * 4 + 2, j // 4 * 4
        for k in range(dice.between(1, 5)):
            x = i + 4 * k
            node = j * COLS + x
            if not (x < COLS - 4 and j > 6 and all(s.ground[node + d] for d in (-2, 0, 2, -2 * COLS, COLS))):
                break
            s.records.append((ONE_WAY, x, j, UP, 0))
            for row in (0, 1):  # in the estimate it blocks from both sides, in the game only from above
                s.free[node - row * COLS - 2 : node - row * COLS + 3] = 0
            above = slice(node - 2 * COLS - 2, node - 2 * COLS + 3)
            s.lift[above][s.ground[above] != 0] = climbing.FLOOR


def bounce_blocks(s: Scene) -> None:
    """Bounce blocks: single ones, rows, and heaps, to stand on and to push through."""
    dice = s.dice
    empty = np.argwhere(s.tiles == 0)
    if not len(empty):
        return
    for _ in range(dice.between(1, 8)):
        row, column = empty[dice.below(len(empty))].tolist()
        wide, high = dice.pick(((1, 1), (1, 1), (2, 1), (4, 1), (1, 3), (2, 2)))
        for r in range(row, min(row + high, ROWS)):
            for c in range(column, min(column + wide, COLUMNS)):
                if s.tiles[r, c] == 0 and (r, c) not in s.taken:
                    s.taken.add((r, c))
                    x, y = 4 * c + 6, 4 * r + 6
                    s.records.append((BOUNCE_BLOCK, x, y, 0, 0))
                    for dy in range(-3, 4):
                        node = (y + dy) * COLS + x
                        s.free[node - 3 : node + 4] = 0
                    above = slice((y - 4) * COLS + x - 3, (y - 4) * COLS + x + 4)
                    s.lift[above][s.ground[above] != 0] = climbing.FLOOR


def more_doors(s: Scene) -> None:
    """Regular doors, trap doors that shut behind the ninja, and locked doors beside the way."""
    dice = s.dice
    way = [node for leg in s.legs for node in leg]
    for _ in range(dice.between(2, 8)):
        at = dice.below(len(way))
        doors = doors_at(s, way[at])
        if doors is None:
            continue
        if dice.chance(50):
            s.records += [(REGULAR_DOOR, *door, 0) for door in doors]
            continue
        # A trap door: its switch lies farther on, and from there the way does not lead back through it.
        if at + 12 >= len(way):
            continue
        key = dice.between(at + 10, len(way) - 1)
        x, y = place_of(way[key])
        clear = all(max(abs(x1 - x), abs(y1 - y)) > 5 for x1, y1 in map(place_of, way[:at]))  # not touched too early
        after = [place_of(node) for node in way[key:]]
        clear &= all(max(abs(x1 - door[0]), abs(y1 - door[1])) > 5 for x1, y1 in after for door in doors)
        if clear:
            for door in doors:
                s.records += [(TRAP_DOOR, *door, 0), (TRAP_SWITCH, x, y, 0, 0)]


def _far_from_start(s: Scene, x: int, y: int, least: int) -> bool:
    i, j = place_of(s.ninja)
    return (x - i) ** 2 + (y - j) ** 2 >= least * least


def _open_cells(s: Scene, on_ground: bool) -> list:
    """(row, column) of empty tiles that the ninja reaches; on_ground: with a full tile above, below or beside."""
    reached = np.zeros((ROWS + 3, COLUMNS + 3), bool)
    rows, columns = np.divmod(np.flatnonzero(s.seen), COLS)
    reached[rows // 4, columns // 4] = True
    open_cells = (s.tiles == 0) & reached[1 : ROWS + 1, 1 : COLUMNS + 1]
    if on_ground:
        full = s.bordered == 1
        open_cells &= full[:-2, 1:-1] | full[2:, 1:-1] | full[1:-1, :-2] | full[1:-1, 2:]
    return np.argwhere(open_cells).tolist()


def _drones(s: Scene) -> None:
    dice = s.dice
    cells = _open_cells(s, dice.chance(50))
    mini, mode = dice.chance(35), dice.pick((0, 1, 2, 3, None))
    spots = dice.sample(cells, dice.pick((1, 2, 4, 8, 12, 20)))
    if dice.chance(30) and spots:  # in a row, as close as people put them
        row, column = spots[0]
        dx, dy = dice.pick(((1, 0), (0, 1), (2, 0), (0, 2)))
        spots = [[row + dy * k, column + dx * k] for k in range(dice.between(2, 8))]
        spots = [spot for spot in spots if spot in cells]
    for row, column in spots:
        x, y = 4 * column + 6, 4 * row + 6
        if mini:
            x, y = x + dice.pick((-1, 1)), y + dice.pick((-1, 1))
        if _far_from_start(s, x, y, 18):
            turn = dice.below(4) if mode is None else mode
            s.records.append((MINI_DRONE if mini else ZAP_DRONE, x, y, 2 * dice.below(4), turn))


def _thwumps(s: Scene) -> None:
    dice = s.dice
    kind = SHOVE_THWUMP if dice.chance(30) else THWUMP
    cells = dice.sample(_open_cells(s, kind == THWUMP or dice.chance(50)), 40)
    left = dice.pick((1, 1, 2, 3, 5, 8))
    for row, column in cells:
        if not left:
            return
        x, y = 4 * column + 6, 4 * row + 6
        walls = [
            o
            for o, (dy, dx) in ((0, (0, -1)), (2, (-1, 0)), (4, (0, 1)), (6, (1, 0)))
            if s.bordered[row + 1 + dy, column + 1 + dx] == 1 and s.bordered[row + 1 - dy, column + 1 - dx] == 0
        ]
        if kind == THWUMP and not walls:
            continue
        node = y * COLS + x
        if (s.kept[node] and not dice.chance(40)) or not _far_from_start(s, x, y, 14) or (row, column) in s.taken:
            continue
        s.taken.add((row, column))
        s.records.append((kind, x, y, dice.pick(walls) if kind == THWUMP else 0, 0))
        left -= 1


def _guards(s: Scene) -> None:
    dice = s.dice
    floor = s.bordered[2:, 1:-1] == 1
    cells = [(row, column) for row, column in _open_cells(s, True) if floor[row, column]]
    for row, column in dice.sample(cells, dice.pick((1, 1, 2, 3, 5))):
        x, y = 4 * column + 6, 4 * row + 7
        if _far_from_start(s, x, y, 30) or abs(y - s.ninja // COLS) > 6:
            s.records.append((FLOOR_GUARD, x, y, 0, 0))


def _balls(s: Scene) -> None:
    dice = s.dice
    air = np.flatnonzero(s.seen)
    for _ in range(dice.pick((1, 1, 1, 2, 3))):
        x, y = place_of(int(air[dice.below(len(air))]))
        if _far_from_start(s, x, y, 35):
            s.records.append((DEATH_BALL, x, y, 0, 0))


MOVERS = ((5, _drones), (2, _thwumps), (2, _guards), (2, _balls))
