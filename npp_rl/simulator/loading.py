"""The static arrays of a bank, made from map bytes, and the first state of a game (PHYSICS.md 2, 3, 5.2, 5.7)."""

import numpy as np

from npp_rl.simulator.compiled import njit
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CELLS,
    CHASER_DRONE,
    COLUMNS,
    CONCAVE_ARC,
    CONVEX_ARC,
    DEATH_BALL,
    DOOR,
    DOOR_LINE,
    ENTITY,
    ENTITY_TYPES,
    EXIT_DOOR,
    EXIT_SWITCH,
    FLOOR_GUARD,
    H_EDGES,
    LASER,
    LAUNCH_PAD,
    LEVEL,
    LINE,
    LOCKED_DOOR,
    MINI_DRONE,
    MOVER,
    NINJA,
    ONE_WAY,
    ORIENTATION_X,
    ORIENTATION_Y,
    REGULAR_DOOR,
    ROWS,
    SEGMENT,
    SHOVE_THWUMP,
    THWUMP,
    TILE_ARC,
    TILE_COUNT,
    TILE_EDGE_H,
    TILE_EDGE_V,
    TILE_EXTRA,
    TILE_SIGN_H,
    TILE_SIGN_V,
    TILE_SLANT,
    TOGGLE_MINE,
    TRAP_DOOR,
    V_EDGES,
    ZAP_DRONE,
    Bank,
    State,
)
from npp_rl.simulator.ninja import DRAG, G_FALL

TILES_AT, RECORDS_AT, RECORD = 184, 1230, 5
EXIT_COUNT_AT, BALL_COUNT_AT = 1156, 1200

_ORIENTED = {LAUNCH_PAD: "launch pad", ONE_WAY: "one-way platform", REGULAR_DOOR: "regular door"}
_ORIENTED |= {LOCKED_DOOR: "locked door", TRAP_DOOR: "trap door", ZAP_DRONE: "zap drone", MINI_DRONE: "mini drone"}
_ORIENTED |= {CHASER_DRONE: "chaser drone", LASER: "laser"}


def _among(*kinds):
    """Whether each record type is one of `kinds`: bool [256]."""
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return table


_KNOWN = _among(*ENTITY_TYPES)
_KNOWN_UNFINISHED = _among(*ENTITY_TYPES, CHASER_DRONE, LASER)
_HAS_ORIENTATION = _among(*_ORIENTED)
_MOST_ORIENTATION = np.where(_HAS_ORIENTATION, 7, 255)
_MOST_MODE = np.where(_among(ZAP_DRONE, MINI_DRONE, CHASER_DRONE), 3, 255)
MOVING = (EXIT_DOOR, ZAP_DRONE, CHASER_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP, LASER)
MOVING += (DEATH_BALL, MINI_DRONE, SHOVE_THWUMP)
_MOVES = _among(*MOVING)
_STANDS = ~_MOVES & ~_among(BOOST_PAD)
_DOORS, _SWITCHED_DOORS = _among(REGULAR_DOOR, LOCKED_DOOR, TRAP_DOOR), _among(LOCKED_DOOR, TRAP_DOOR)
# Counted for each level (PHYSICS.md 5.1).
_COUNTED = {
    "physical": _among(ONE_WAY, BOUNCE_BLOCK, THWUMP, SHOVE_THWUMP),
    "moving": _among(ZAP_DRONE, CHASER_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP, BOOST_PAD, MINI_DRONE),
    "thinking": _among(REGULAR_DOOR, CHASER_DRONE, FLOOR_GUARD, THWUMP, TOGGLE_MINE, LASER, DEATH_BALL, SHOVE_THWUMP),
    "movers": _MOVES,
}
EDGES = H_EDGES + V_EDGES


def check_map(map_data: bytes, unfinished: bool = False) -> None:
    """Raise ValueError, with one line that names the record and the value, for a map that PHYSICS.md 8.5 rejects.

    unfinished: whether orientations and modes of chaser drones and lasers are checked too.
    """
    if len(map_data) < 1233:
        raise ValueError(f"map of {len(map_data)} bytes: expected at least 1233")
    records = _records(map_data)
    kinds = records[:, 0]
    bad = (records[:, 3] > _MOST_ORIENTATION[kinds]) | (records[:, 4] > _MOST_MODE[kinds])
    bad = np.flatnonzero(bad & (_KNOWN[kinds] | unfinished))
    if len(bad):
        k = int(bad[0])
        kind, _, _, orientation, mode = (int(v) for v in records[k])
        what = f"orientation {orientation}: expected 0 to 7" if orientation > 7 else f"mode {mode}: expected 0 to 3"
        raise ValueError(f"record {k} at byte {RECORDS_AT + RECORD * k} ({_ORIENTED[kind]}) has {what}")


def _records(map_data):
    """Records uint8 [k, 5], the last one padded with zero bytes (PHYSICS.md 2)."""
    data = np.frombuffer(map_data, np.uint8)[RECORDS_AT:]
    records = np.zeros((-(-len(data) // RECORD), RECORD), np.uint8)
    records.reshape(-1)[: len(data)] = data
    return records


def _lines(ends):
    """SEGMENT [n] of kind LINE from ends f8 [n, 4] (x1, y1, x2, y2)."""
    s = np.zeros(len(ends), SEGMENT)
    x1, y1, x2, y2 = ends.T
    s["x1"], s["y1"], s["x2"], s["y2"] = x1, y1, x2, y2
    s["x_low"], s["x_high"] = np.minimum(x1, x2), np.maximum(x1, x2)
    s["y_low"], s["y_high"] = np.minimum(y1, y2), np.maximum(y1, y2)
    lx, ly = x2 - x1, y2 - y1
    s["length"] = np.sqrt(lx * lx + ly * ly)
    s["ix"], s["iy"] = lx / s["length"], ly / s["length"]
    s["kind"], s["door"] = LINE, -1
    return s


def _words(records):
    """Aligned records as words u8 [n, k], which NumPy takes and joins much faster."""
    return records.view("u8").reshape(len(records), records.itemsize // 8)


def _by_tile(table):
    """A table [tile numbers, k] as [k, 256]. Higher tile numbers do nothing, like number 0 (PHYSICS.md 3.2)."""
    whole = np.zeros((256, table.shape[1]), table.dtype)
    whole[:TILE_COUNT] = table
    return np.ascontiguousarray(whole.T)


_EDGE = np.concatenate([_by_tile(TILE_EDGE_H), _by_tile(TILE_EDGE_V)])  # u1 [12, 256]
_SIGN = np.concatenate([_by_tile(TILE_SIGN_H), _by_tile(TILE_SIGN_V)])  # i1 [12, 256]
_EXTRA = _by_tile(TILE_EXTRA[:, None])[0]  # u1 [256]


@njit(_nrt=False)
def _joint(one, two):
    """An edge on the border of two tiles: the only value that is not zero; two such values make 0 (PHYSICS.md 3.7)."""
    return one + two if one == 0 or two == 0 else 0


@njit(_nrt=False)
def _sum_signs(tiles, signs):
    """Write the sums of the orthogonal segments' signs (PHYSICS.md 3.3 steps 1 and 2) to signs i1 [EDGES].

    Horizontal ones come first. They are 0 on the field's outline. tiles: u1 [CELLS].
    """
    for edge in range(EDGES):
        signs[edge] = 0
    for cell in range(CELLS):
        column, row, tile = cell // ROWS, cell % ROWS, tiles[cell]
        for k in range(2):
            h = (2 * column + k) * 51 + 2 * row
            v = H_EDGES + 2 * column * 50 + 2 * row + k
            for part in range(3):
                signs[h + part] += _SIGN[2 * part + k, tile]
                signs[v + 50 * part] += _SIGN[6 + 2 * part + k, tile]
    for i in range(88):
        signs[51 * i] = 0
        signs[51 * i + 50] = 0
    for j in range(50):
        signs[H_EDGES + j] = 0
        signs[H_EDGES + 88 * 50 + j] = 0


@njit(_nrt=False)
def _measure_tiles(level, behind, door_cell, signs):
    """Write the half-cell edges of each level's tiles, and where the segments of its cells lie in the pool.

    An edge is 0 on the field's outline, between its start value 1 and the full border ring (PHYSICS.md 3.7). level:
    LEVEL [n], with tiles and doors. behind: `_ORTHOGONAL_CELL`. door_cell: int64 [doors of all levels]. Scratch: signs
    i1 [EDGES].
    """
    total = 0
    for number in range(len(level)):
        one = level[number]
        tiles, h_edge, v_edge, start = one.tiles, one.edge_h, one.edge_v, one.segment_start
        _sum_signs(tiles, signs)
        for cell in range(CELLS):
            tile = tiles[cell]
            start[cell] = _EXTRA[tile] != 0
            column, row = cell // ROWS, cell % ROWS
            for k in range(2):
                h, v = (2 * column + k) * 51 + 2 * row, 2 * column * 50 + 2 * row + k
                h_edge[h] = _joint(h_edge[h], _EDGE[k, tile])
                h_edge[h + 1] = _EDGE[2 + k, tile]
                h_edge[h + 2] = _EDGE[4 + k, tile]
                v_edge[v] = _joint(v_edge[v], _EDGE[6 + k, tile])
                v_edge[v + 50] = _EDGE[8 + k, tile]
                v_edge[v + 100] = _EDGE[10 + k, tile]
        for i in range(88):
            h_edge[51 * i] = 0
            h_edge[51 * i + 50] = 0
        for j in range(50):
            v_edge[j] = 0
            v_edge[88 * 50 + j] = 0
        for edge in range(EDGES):
            if signs[edge] != 0:
                start[behind[edge + EDGES * (signs[edge] < 0)]] += 1
        for door in range(one.door_start, one.door_start + one.doors):
            start[door_cell[door]] += 1
        for cell in range(CELLS):
            count = start[cell]
            start[cell] = total
            total += count
        start[CELLS] = total


@njit(_nrt=False)
def _write_segments(level, inner, orthogonal, behind, door_cell, doors, signs, place, segments):
    """Write the segments of all cells to the pool. In a cell they are in the order of PHYSICS.md 3.6, doors' last.

    level: LEVEL [n], as `_measure_tiles` leaves it. inner, orthogonal, behind: `_INNER`, `_ORTHOGONAL`,
    `_ORTHOGONAL_CELL`. door_cell, doors: int64 and SEGMENT [doors of all levels]. Scratch: signs i1 [EDGES], place i4
    [CELLS].
    """
    for number in range(len(level)):
        one = level[number]
        tiles = one.tiles
        _sum_signs(tiles, signs)
        for cell in range(CELLS):
            at = place[cell] = one.segment_start[cell]
            if _EXTRA[tiles[cell]] == 0:
                continue
            segments[at] = inner[tiles[cell]]
            place[cell] += 1
            s = segments[at]
            x, y = 24.0 * (cell // ROWS), 24.0 * (cell % ROWS)
            s.x_low += x
            s.x_high += x
            s.x1 += x
            s.y_low += y
            s.y_high += y
            s.y1 += y
            if s.kind == LINE:  # arcs hold no second point
                s.x2 += x
                s.y2 += y
        for edge in range(EDGES):
            if signs[edge] != 0:
                at = edge + EDGES * (signs[edge] < 0)
                cell = behind[at]
                segments[place[cell]] = orthogonal[at]
                place[cell] += 1
        for door in range(one.door_start, one.door_start + one.doors):
            cell = door_cell[door]
            segments[place[cell]] = doors[door]
            place[cell] += 1


@njit(_nrt=False)
def _write_near(level, cell, order, start, pool):
    """Write for each cell the entities of the 3 x 3 cells around it.

    level: int64 [n], of each entity, rising. cell: of each entity. order: int64 [k], the chosen entities, level by
    level. start: i4 [levels, CELLS + 1] of zeros, where each cell's part of the pool begins. pool: i4 [at least 9 k].
    """
    for at in order:
        column, row = cell[at] // ROWS, cell[at] % ROWS
        for x in range(max(column - 1, 0), min(column + 2, COLUMNS)):
            for y in range(max(row - 1, 0), min(row + 2, ROWS)):
                start[level[at], x * ROWS + y] += 1
    total = 0
    for number in range(len(start)):
        for place in range(CELLS):
            count = start[number, place]
            start[number, place] = total
            total += count
        start[number, CELLS] = total
    for at in order:
        column, row = cell[at] // ROWS, cell[at] % ROWS
        for x in range(max(column - 1, 0), min(column + 2, COLUMNS)):
            for y in range(max(row - 1, 0), min(row + 2, ROWS)):
                place = start[level[at], x * ROWS + y]
                pool[place] = at
                start[level[at], x * ROWS + y] += 1
    first = 0
    for number in range(len(start)):  # each start has moved to its end, which is the start of the next
        for place in range(CELLS):
            end = start[number, place]
            start[number, place] = first
            first = end


def _orthogonal_segments():
    """Segments and cells of all edges with a positive sign, then of all with a negative one -> SEGMENT, cell [2 EDGES].

    The cell is the one whose tile is solid behind the segment (PHYSICS.md 3.3).
    """

    def behind(j, sign):
        return np.where(j % 2 == 1, (j - 1) // 2, np.where(sign < 0, j // 2, j // 2 - 1))

    cells, ends = [], []
    for sign in (1, -1):
        i, j = np.indices((88, 51)).reshape(2, -1)
        cells.append(i // 2 * ROWS + behind(j, sign))
        ends.append(np.stack([i + (sign < 0), j, i + (sign > 0), j], 1))
        i, j = np.indices((89, 50)).reshape(2, -1)
        cells.append(behind(i, sign) * ROWS + j // 2)
        ends.append(np.stack([i, j + (sign > 0), i, j + (sign < 0)], 1))
    return _lines(12.0 * np.concatenate(ends)), np.concatenate(cells)


def _inner_segments():
    """The slanted segment or arc of each tile number, in a cell at the origin -> SEGMENT [256]. Other tiles: zeros."""
    made = np.zeros(256, SEGMENT)
    is_slant, is_arc = np.flatnonzero(TILE_EXTRA == 1), np.flatnonzero(TILE_EXTRA == 2)
    made[is_slant] = _lines(TILE_SLANT[is_slant])
    arc = TILE_ARC[is_arc]
    arcs = _lines(np.concatenate([arc[:, :2], arc[:, :2] + 24.0 * arc[:, 2:4]], 1))
    arcs["kind"] = np.where(arc[:, 4] == 1.0, CONVEX_ARC, CONCAVE_ARC)
    arcs["x2"], arcs["y2"] = arc[:, 2], arc[:, 3]
    made[is_arc] = arcs
    return made


_ORTHOGONAL, _ORTHOGONAL_CELL = _orthogonal_segments()
_INNER = _inner_segments()


def _cell(x, y):
    """Cells of positions, clamped to the field (PHYSICS.md 1)."""
    column = np.minimum(np.maximum(np.floor(x / 24.0), 0), COLUMNS - 1)
    return (column * ROWS + np.minimum(np.maximum(np.floor(y / 24.0), 0), ROWS - 1)).astype(np.int64)


def _starts(of, count):
    """Start of each of `count` runs in sorted numbers `of`, and the end of the last one: int [count + 1]."""
    return np.searchsorted(of, np.arange(count + 1))


def _rank(of):
    """How many equal numbers precede each one in sorted numbers `of`."""
    return np.arange(len(of)) - np.searchsorted(of, of)


def _entities(maps, unfinished):
    """Entities of all maps in the order of PHYSICS.md 5.1 -> level [n], ENTITY [n] with `slot` -1, records u1 [n, 5].

    A record is the one that the entity was made from. A door's record has the door's coordinates, its ENTITY those of
    the switch.
    """
    width = max(len(m) for m in maps) + 2000  # zeros behind the end, where a switch may lie (PHYSICS.md 8.5)
    data = np.zeros((len(maps), width), np.uint8)
    for row, m in zip(data, maps, strict=True):
        row[: len(m)] = np.frombuffer(m, np.uint8)
    counts = [-(-(len(m) - RECORDS_AT) // RECORD) for m in maps]
    level = np.repeat(np.arange(len(maps)), counts)
    at = RECORDS_AT + RECORD * _rank(level)
    known = (_KNOWN_UNFINISHED if unfinished else _KNOWN)[data[level, at]]
    level, at = level[known], at[known]
    copies = np.where(data[level, at] == EXIT_DOOR, 2, 1)
    level, at = np.repeat(level, copies), np.repeat(at, copies)
    record = data[level[:, None], at[:, None] + np.arange(RECORD)]
    kind = record[:, 0].copy()
    switch = np.zeros(len(kind), bool)
    switch[1:] = (kind[1:] == EXIT_DOOR) & (at[1:] == at[:-1]) & (level[1:] == level[:-1])
    kind[switch] = EXIT_SWITCH
    place = np.where(switch, at + 5 * data[level, EXIT_COUNT_AT].astype(int) + 1, at + 1)
    place[_SWITCHED_DOORS[kind]] += 5
    made = np.zeros(len(kind), ENTITY)
    made["type"], made["orientation"], made["mode"] = kind, record[:, 3], record[:, 4]
    made["orientation"][switch] = made["mode"][switch] = 0
    made["x"], made["y"] = 6.0 * data[level, place], 6.0 * data[level, place + 1]
    oriented = _HAS_ORIENTATION[kind]
    made["a"][oriented] = ORIENTATION_X[record[oriented, 3]]
    made["b"][oriented] = ORIENTATION_Y[record[oriented, 3]]
    made["cell"] = _cell(made["x"], made["y"])
    made["key"] = (made["cell"].astype(np.int64) << 32) + _rank(level)
    made["slot"] = -1
    order = np.argsort(level * 32 + np.where(switch, EXIT_DOOR, kind), kind="stable")
    level, made, record = level[order], made[order], record[order]
    by_type = np.argsort(level * 32 + made["type"], kind="stable")
    made["index"][by_type] = _rank((level * 32 + made["type"])[by_type])
    return level, made, record


def _doors(level, entities, record, level_count):
    """Doors in order of creation (PHYSICS.md 5.7) -> level [n], DOOR [n], cell [n], pool of edges, its starts."""
    of = np.flatnonzero(_DOORS[entities["type"]])
    if not len(of):
        return of, np.zeros(0, DOOR), of, np.zeros(0, np.int32), np.zeros(level_count + 1, np.int64)
    created = entities["key"][of] & 0xFFFFFFFF
    of = of[np.lexsort((created, level[of]))]
    door_level = level[of]
    entities["slot"][of] = _rank(door_level)
    o = record[of, 3]
    x, y = 6.0 * record[of, 1], 6.0 * record[of, 2]
    vertical = (o == 0) | (o == 4)
    doors = np.zeros(len(of), DOOR)
    doors["x1"], doors["x2"] = np.where(vertical, x, x - 12), np.where(vertical, x, x + 12)
    doors["y1"], doors["y2"] = np.where(vertical, y - 12, y), np.where(vertical, y + 12, y)
    cell = _cell(x - 12 * ORIENTATION_X[o], y - 12 * ORIENTATION_Y[o])
    kx, ky = cell // ROWS, cell % ROWS
    first = np.where(vertical, H_EDGES + (2 * kx + 2) * 50 + 2 * ky, 2 * kx * 51 + 2 * ky + 2)
    second = first + np.where(vertical, 1, 51)
    edges, slots = np.unique(np.stack([first, second]) + door_level * EDGES, return_inverse=True)
    edge_start = _starts(edges // EDGES, level_count)
    slots = slots.reshape(2, -1) - edge_start[door_level]
    doors["slot0"], doors["slot1"] = slots
    doors["entity"] = of - _starts(level, level_count)[door_level]
    return door_level, doors, cell, (edges % EDGES).astype(np.int32), edge_start


def _near(level, entities, chosen, start):
    """For each cell the chosen entities of the 3 x 3 cells around it -> pool i4.

    They are in the order of PHYSICS.md 5.2. start: i4 [levels, CELLS + 1] of zeros, to which starts are written.
    """
    at = np.flatnonzero(chosen)
    if not len(at):
        return np.zeros(1, np.int32)
    pool = np.zeros(9 * len(at) + 1, np.int32)
    _write_near(level, entities["cell"], at[np.lexsort((entities["key"][at], level[at]))], start, pool)
    return pool[: start[-1, -1] + 1]


def build_bank(maps, unfinished: bool = False) -> Bank:
    """Bank of the levels in `maps` (a sequence of map bytes). Raises ValueError as `check_map` does.

    unfinished: adds chaser drones and lasers, which the reference leaves out, by this project's own rules (see
    unfinished.py). Without it, and in all golden data, their records do nothing.
    """
    maps = [bytes(m) for m in maps]
    for m in maps:
        check_map(m, unfinished)
    count = len(maps)
    bank_level = np.zeros(count, LEVEL)
    for tiles, m in zip(bank_level["tiles"], maps, strict=True):
        tiles[:] = 1
        tiles.reshape(COLUMNS, ROWS)[1:43, 1:24] = np.frombuffer(m, np.uint8, 966, TILES_AT).reshape(23, 42).T
    bank_level["spawn_x"], bank_level["spawn_y"] = [6.0 * m[1231] for m in maps], [6.0 * m[1232] for m in maps]
    bank_level["ball_count"] = [m[BALL_COUNT_AT] for m in maps]

    level, entities, record = _entities(maps, unfinished)
    kind = entities["type"]
    bank_level["entity_start"] = _starts(level, count)[:-1]
    bank_level["entities"] = np.bincount(level, minlength=count)
    lists = np.where(kind == EXIT_SWITCH, EXIT_DOOR, kind)
    keys = np.arange(count)[:, None] * 32 + np.arange(30)
    bank_level["type_start"] = np.searchsorted(level * 32 + lists, keys)
    for name, counted in _COUNTED.items():
        bank_level[name] = np.bincount(level[counted[kind]], minlength=count)

    movers = np.flatnonzero(_MOVES[kind])
    bank_level["mover_start"] = _starts(level[movers], count)[:-1]
    entities["slot"][movers] = _rank(level[movers])
    switches = np.flatnonzero(kind == EXIT_SWITCH)
    entities["slot"][switches] = entities["slot"][switches - 1]  # its door is the entity before it

    door_level, doors, door_cell, edges, edge_start = _doors(level, entities, record, count)
    bank_level["door_start"] = _starts(door_level, count)[:-1]
    bank_level["doors"] = np.bincount(door_level, minlength=count)
    bank_level["edge_start"], bank_level["edges"] = edge_start[:-1], np.diff(edge_start)

    lines = np.zeros(0, SEGMENT)
    if len(doors):
        lines = _lines(np.stack([doors["x1"], doors["y1"], doors["x2"], doors["y2"]], 1))
        lines["kind"], lines["door"] = DOOR_LINE, _rank(door_level)
    signs, place = np.empty(EDGES, np.int8), np.empty(CELLS, np.int32)
    _measure_tiles(bank_level, _ORTHOGONAL_CELL, door_cell, signs)
    segments = np.zeros(bank_level["segment_start"][-1, -1] + 1, SEGMENT)
    _write_segments(bank_level, _INNER, _ORTHOGONAL, _ORTHOGONAL_CELL, door_cell, lines, signs, place, segments)
    near = _near(level, entities, _STANDS[kind], bank_level["near_start"])
    platform = _near(level, entities, kind == ONE_WAY, bank_level["platform_start"])
    # Each pool has one more item, of zeros, so that it is never empty and a kernel's pointer into it is always valid.
    return Bank(
        level=bank_level,
        segment=segments,
        entity=_pool(entities),
        near=near,
        platform=platform,
        mover=_pool(movers.astype(np.int32)),
        door=_pool(doors),
        edge=_pool(edges),
    )


def _pool(items):
    """The items and one of zeros."""
    if items.dtype.names:
        return np.concatenate([_words(items), np.zeros((1, items.itemsize // 8), "u8")]).view(items.dtype).reshape(-1)
    return np.append(items, items.dtype.type(0))


def row_bytes(bank: Bank) -> int:
    """Bytes of one game's row for the levels of a bank."""
    return _offsets(bank)[-1]


def _offsets(bank):
    def most(name):
        return max(int(bank.level[name].max()), 1)

    sizes = (NINJA.itemsize, most("entities"), most("entities"), MOVER.itemsize * most("movers"))
    sizes += (most("doors"), most("doors"), 4 * most("edges"))
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + -(-size // 8) * 8)
    return offsets


def new_state(bank: Bank, games: int):
    """Rows uint8 [games, bytes] of zeros, and the `State` of typed views on them.

    The views of a single game have a second row, which nobody uses. Without it they would be contiguous, and Numba
    compiles everything once more for contiguous arrays.
    """
    offsets = _offsets(bank)
    rows = np.zeros((max(games, 2), offsets[-1]), np.uint8)

    def view(k, dtype, name=None):
        dtype = np.dtype(dtype)
        most = max(int(bank.level[name].max()), 1) if name else 1
        part = rows[:, offsets[k] : offsets[k] + dtype.itemsize * most].view(dtype)
        return part if name else part[:, 0]

    state = State(
        ninja=view(0, NINJA),
        active=view(1, np.uint8, "entities"),
        state=view(2, np.int8, "entities"),
        mover=view(3, MOVER, "movers"),
        closed=view(4, np.uint8, "doors"),
        timer=view(5, np.uint8, "doors"),
        edge=view(6, np.int32, "edges"),
        near=np.zeros((games, max(int(bank.level["movers"].max()), 1)), np.int32),
    )
    return rows[:games], state


@njit(_nrt=False)
def reset_game(bank, state, i, level_index):
    """Put game i at the start of a level (PHYSICS.md 4.3, 5)."""
    level = bank.level[level_index]
    n = state.ninja[i]
    n.level = level_index
    n.x = level.spawn_x
    n.y = level.spawn_y
    n.x0 = n.x
    n.y0 = n.y
    n.u = 0.0
    n.v = 0.0
    n.u1 = 0.0
    n.v1 = 0.0
    n.g = G_FALL
    n.d = DRAG
    n.wn = 0.0
    n.nx = 0.0
    n.ny = -1.0
    n.pad_x = 0.0
    n.pad_y = 0.0
    n.frac = 0.0
    n.fx = 0.0
    n.fy = 0.0
    n.kx = 0.0
    n.ky = 0.0
    n.crush_x = 0.0
    n.crush_y = 0.0
    n.crush_length = 0.0
    n.floors = 0
    n.ceilings = 0
    n.jump_frames = 0
    n.gold = 0
    n.frame = 0
    n.stamp = level.entities
    n.toggling = 0
    n.state = 0
    n.air = 0
    n.walled = 0
    n.jump_before = 0
    n.jump_buffer = -1
    n.floor_buffer = -1
    n.wall_buffer = -1
    n.pad_buffer = -1
    n.crushable = 0
    n.h = 0
    n.j = 0
    n.cause = 0
    n.sprung = 0
    base = level.entity_start
    for k in range(level.entities):
        state.active[i, k] = 1
        state.state[i, k] = 1 if bank.entity[base + k].type == TOGGLE_MINE else 0
    for slot in range(level.movers):
        e = bank.entity[bank.mover[level.mover_start + slot]]
        m = state.mover[i, slot]
        m.x = e.x
        m.y = e.y
        drone = e.type in (ZAP_DRONE, CHASER_DRONE, MINI_DRONE)
        m.a = e.x if drone else 0.0
        m.b = e.y if drone else 0.0
        m.stamp = e.key & 0xFFFFFFFF
        m.cell = -1 if e.type in (EXIT_DOOR, LASER) else e.cell
        m.dir = e.orientation // 2 if drone else 0
        m.kind = e.type
    for slot in range(level.edges):
        state.edge[i, slot] = 0
    for slot in range(level.doors):
        door = bank.door[level.door_start + slot]
        trap = bank.entity[base + door.entity].type == TRAP_DOOR
        state.closed[i, slot] = 0 if trap else 1
        state.timer[i, slot] = 0
        # A trap door is closed and at once opened, which leaves its counters where they were.
        if not trap:
            state.edge[i, door.slot0] += 1
            state.edge[i, door.slot1] += 1
