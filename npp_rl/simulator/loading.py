"""From map bytes to the static arrays of a bank, and the first state of a game (PHYSICS.md 2, 3, 5.2, 5.7)."""

import math

import numpy as np

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.geometry import cell_of, clamp
from npp_rl.simulator.layout import (
    BOOST_PAD,
    BOUNCE_BLOCK,
    CELLS,
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
    ZAP_DRONE,
    Bank,
    State,
)
from npp_rl.simulator.ninja import DRAG, G_FALL

TILES_AT, RECORDS_AT, RECORD = 184, 1230, 5
EXIT_COUNT_AT, BALL_COUNT_AT = 1156, 1200

_ORIENTED = {LAUNCH_PAD: "launch pad", ONE_WAY: "one-way platform", REGULAR_DOOR: "regular door"}
_ORIENTED |= {LOCKED_DOOR: "locked door", TRAP_DOOR: "trap door", ZAP_DRONE: "zap drone", MINI_DRONE: "mini drone"}
_KNOWN = np.zeros(256, np.bool_)
_KNOWN[list(ENTITY_TYPES)] = True
_MOVERS = np.zeros(256, np.bool_)
_MOVERS[[EXIT_DOOR, ZAP_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP, DEATH_BALL, MINI_DRONE, SHOVE_THWUMP]] = True


def check_map(map_data: bytes) -> None:
    """Raise ValueError, with one line that names the record and the value, for a map that PHYSICS.md 8.5 rejects."""
    if len(map_data) < 1233:
        raise ValueError(f"map of {len(map_data)} bytes: expected at least 1233")
    records = _records(map_data)
    limited = np.isin(records[:, 0], list(_ORIENTED))
    drones = (records[:, 0] == ZAP_DRONE) | (records[:, 0] == MINI_DRONE)
    bad = np.flatnonzero((limited & (records[:, 3] > 7)) | (drones & (records[:, 4] > 3)))
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


@njit
def _fill_edges(level):
    """Half-cell edges of the tiles, with the repaired merge (PHYSICS.md 3.7)."""
    level.edge_h[:] = 0
    level.edge_v[:] = 0
    for i in range(88):
        level.edge_h[i * 51] = 1
        level.edge_h[i * 51 + 50] = 1
    for j in range(50):
        level.edge_v[j] = 1
        level.edge_v[88 * 50 + j] = 1
    for cx in range(COLUMNS):
        for cy in range(ROWS):
            tile = level.tiles[cx * ROWS + cy]
            if tile >= TILE_COUNT:
                continue
            for k in range(6):
                at = (2 * cx + k % 2) * 51 + 2 * cy + k // 2
                level.edge_h[at] = _merge(level.edge_h[at], TILE_EDGE_H[tile, k])
                at = (2 * cx + k // 2) * 50 + 2 * cy + k % 2
                level.edge_v[at] = _merge(level.edge_v[at], TILE_EDGE_V[tile, k])


@njit(forceinline=True)
def _merge(a, b):
    if a == 0:
        return b
    if b == 0:
        return a
    return np.uint8(0)


@njit
def _sign_sums(level, sum_h, sum_v):
    """PHYSICS.md 3.3 steps 1 and 2."""
    sum_h[:] = 0
    sum_v[:] = 0
    sum_h[:, 0] = 1
    sum_h[:, 50] = -1
    sum_v[0, :] = 1
    sum_v[88, :] = -1
    for cx in range(COLUMNS):
        for cy in range(ROWS):
            tile = level.tiles[cx * ROWS + cy]
            if tile >= TILE_COUNT:
                continue
            for k in range(6):
                sum_h[2 * cx + k % 2, 2 * cy + k // 2] += TILE_SIGN_H[tile, k]
                sum_v[2 * cx + k // 2, 2 * cy + k % 2] += TILE_SIGN_V[tile, k]


@njit(forceinline=True)
def _behind(j, sign):
    """Cell, along one axis, whose tile is solid behind a segment on line j (PHYSICS.md 3.3)."""
    if j % 2 == 1:
        return (j - 1) // 2
    return j // 2 if sign < 0 else j // 2 - 1


@njit
def _place_segments(level, doors, sum_h, sum_v, segments, at):
    """Write all segments cell by cell in the order of PHYSICS.md 3.6; with an empty `segments` only count them in `at`."""
    count = len(segments) == 0
    for cell in range(CELLS):
        tile = level.tiles[cell]
        if tile >= TILE_COUNT or TILE_EXTRA[tile] == 0:
            continue
        if not count:
            s = segments[at[cell]]
            x = 24.0 * (cell // ROWS)
            y = 24.0 * (cell % ROWS)
            if TILE_EXTRA[tile] == 1:
                slant = TILE_SLANT[tile]
                _line(s, x + slant[0], y + slant[1], x + slant[2], y + slant[3])
            else:
                arc = TILE_ARC[tile]
                _line(s, x + arc[0], y + arc[1], x + arc[0] + 24.0 * arc[2], y + arc[1] + 24.0 * arc[3])
                s.kind = CONVEX_ARC if arc[4] == 1.0 else CONCAVE_ARC
                s.x2 = arc[2]
                s.y2 = arc[3]
        at[cell] += 1
    for i in range(88):
        for j in range(51):
            sign = sum_h[i, j]
            if sign != 0:
                cell = (i // 2) * ROWS + _behind(j, sign)
                if not count:
                    x1 = 12.0 * i if sign > 0 else 12.0 * i + 12.0
                    x2 = 12.0 * i + 12.0 if sign > 0 else 12.0 * i
                    _line(segments[at[cell]], x1, 12.0 * j, x2, 12.0 * j)
                at[cell] += 1
    for i in range(89):
        for j in range(50):
            sign = sum_v[i, j]
            if sign != 0:
                cell = _behind(i, sign) * ROWS + j // 2
                if not count:
                    y1 = 12.0 * j + 12.0 if sign > 0 else 12.0 * j
                    y2 = 12.0 * j if sign > 0 else 12.0 * j + 12.0
                    _line(segments[at[cell]], 12.0 * i, y1, 12.0 * i, y2)
                at[cell] += 1
    for d in range(len(doors)):
        cell = doors[d, 4]
        if not count:
            s = segments[at[cell]]
            _line(s, doors[d, 0], doors[d, 1], doors[d, 2], doors[d, 3])
            s.kind = DOOR_LINE
            s.door = d
        at[cell] += 1


@njit
def _line(s, x1, y1, x2, y2):
    s.x_low = min(x1, x2)
    s.x_high = max(x1, x2)
    s.y_low = min(y1, y2)
    s.y_high = max(y1, y2)
    s.x1 = x1
    s.y1 = y1
    s.x2 = x2
    s.y2 = y2
    lx = x2 - x1
    ly = y2 - y1
    s.length = math.sqrt(lx * lx + ly * ly)
    s.ix = lx / s.length
    s.iy = ly / s.length
    s.kind = LINE
    s.door = -1


@njit
def _build_segments(level, doors):
    """Fill level.segment_start and level.edge_* from level.tiles and doors i4 [d, 5] (px, px, px, px, cell) -> segments."""
    _fill_edges(level)
    sum_h = np.zeros((88, 51), np.int8)
    sum_v = np.zeros((89, 50), np.int8)
    _sign_sums(level, sum_h, sum_v)
    at = np.zeros(CELLS, np.int32)
    _place_segments(level, doors, sum_h, sum_v, np.zeros(0, SEGMENT), at)
    total = 0
    for cell in range(CELLS):
        level.segment_start[cell] = total
        total += at[cell]
        at[cell] = level.segment_start[cell]
    level.segment_start[CELLS] = total
    segments = np.zeros(total + 1, SEGMENT)
    _place_segments(level, doors, sum_h, sum_v, segments, at)
    return segments[:total]


@njit
def _build_near(cells, keys, chosen, start):
    """For each cell the chosen entities of the 3 x 3 cells around it, by key -> i4 pool; fills start i4 [CELLS + 1].

    cells i2 [k], keys i8 [k], chosen bool [k]; entities are visited in order of key, so every list comes out sorted.
    """
    order = np.argsort(keys)
    start[:] = 0
    for k in order:
        if chosen[k]:
            for cell in range(CELLS):
                if abs(cell // ROWS - cells[k] // ROWS) <= 1 and abs(cell % ROWS - cells[k] % ROWS) <= 1:
                    start[cell + 1] += 1
    for cell in range(CELLS):
        start[cell + 1] += start[cell]
    at = start[:CELLS].copy()
    near = np.zeros(start[CELLS], np.int32)
    for k in order:
        if chosen[k]:
            for cx in range(max(cells[k] // ROWS - 1, 0), min(cells[k] // ROWS + 1, COLUMNS - 1) + 1):
                for cy in range(max(cells[k] % ROWS - 1, 0), min(cells[k] % ROWS + 1, ROWS - 1) + 1):
                    near[at[cx * ROWS + cy]] = k
                    at[cx * ROWS + cy] += 1
    return near


def _entities(map_data, records):
    """Entities in order of creation: ENTITY [k] with `index` unset, and per door its segment, cell and edges."""
    padded = map_data + bytes(2000)
    exits, made, doors = map_data[EXIT_COUNT_AT], [], []
    for k in np.flatnonzero(_KNOWN[records[:, 0]]):
        kind, bx, by, orientation, mode = (int(v) for v in records[k])
        p = RECORDS_AT + RECORD * int(k)
        x, y = 6.0 * bx, 6.0 * by
        slot = -1
        if kind in (REGULAR_DOOR, LOCKED_DOOR, TRAP_DOOR):
            slot = len(doors)
            doors.append(_door(x, y, orientation))
            if kind != REGULAR_DOOR:
                x, y = 6.0 * padded[p + 6], 6.0 * padded[p + 7]
        oriented = kind in _ORIENTED
        a = ORIENTATION_X[orientation] if oriented else 0.0
        b = ORIENTATION_Y[orientation] if oriented else 0.0
        made.append((x, y, a, b, kind, orientation, mode, slot))
        if kind == EXIT_DOOR:
            switch = p + 5 * exits
            made.append((6.0 * padded[switch + 1], 6.0 * padded[switch + 2], 0.0, 0.0, EXIT_SWITCH, 0, 0, -1))
    return made, doors


def _door(x, y, orientation):
    """Segment px, cell, and the two half-cell edges of a door (PHYSICS.md 5.7)."""
    vertical = orientation in (0, 4)
    kx = min(max(math.floor((x - 12 * ORIENTATION_X[orientation]) / 24), 0), COLUMNS - 1)
    ky = min(max(math.floor((y - 12 * ORIENTATION_Y[orientation]) / 24), 0), ROWS - 1)
    if vertical:
        line = (x, y - 12, x, y + 12)
        edges = (H_EDGES + (2 * kx + 2) * 50 + 2 * ky, H_EDGES + (2 * kx + 2) * 50 + 2 * ky + 1)
    else:
        line = (x - 12, y, x + 12, y)
        edges = (2 * kx * 51 + 2 * ky + 2, (2 * kx + 1) * 51 + 2 * ky + 2)
    return line, kx * ROWS + ky, edges


def build_level(map_data: bytes):
    """Static arrays of one level, with indices counted from the level's own start; raises ValueError as `check_map`."""
    check_map(map_data)
    map_data = bytes(map_data)
    level = np.zeros(1, LEVEL)[0]
    level["spawn_x"], level["spawn_y"] = 6.0 * map_data[1231], 6.0 * map_data[1232]
    level["ball_count"] = map_data[BALL_COUNT_AT]
    grid = np.ones((ROWS, COLUMNS), np.uint8)
    grid[1:24, 1:43] = np.frombuffer(map_data, np.uint8)[TILES_AT : TILES_AT + 966].reshape(23, 42)
    level["tiles"] = grid.T.reshape(-1)

    made, door_shapes = _entities(map_data, _records(map_data))
    # The lists of PHYSICS.md 5.1, one after the other; exit switches share the list of their doors.
    order = sorted(range(len(made)), key=lambda k: EXIT_DOOR if made[k][4] == EXIT_SWITCH else made[k][4])
    entities = np.zeros(len(made), ENTITY)
    movers, counts = [], {}
    for at, k in enumerate(order):
        x, y, a, b, kind, orientation, mode, slot = made[k]
        cell = cell_of(x, y)
        if _MOVERS[kind]:
            slot = len(movers)
            movers.append(at)
        elif kind == EXIT_SWITCH:
            slot = len(movers) - 1  # its door is the entity before it
        index = counts.get(kind, 0)
        counts[kind] = index + 1
        entities[at] = (x, y, a, b, (cell << 32) + k, cell, slot, kind, orientation, mode, index)
    lists = np.where(entities["type"] == EXIT_SWITCH, EXIT_DOOR, entities["type"])
    level["type_start"] = np.searchsorted(lists, np.arange(30))

    edges = sorted({e for _, _, pair in door_shapes for e in pair})
    doors = np.zeros(len(door_shapes), DOOR)
    lines = np.zeros((len(door_shapes), 5), np.int32)
    for d, (line, cell, pair) in enumerate(door_shapes):
        entity = int(
            np.flatnonzero(np.isin(lists, (REGULAR_DOOR, LOCKED_DOOR, TRAP_DOOR)) & (entities["slot"] == d))[0]
        )
        doors[d] = (*line, edges.index(pair[0]), edges.index(pair[1]), entity)
        lines[d] = (*line, cell)
    record = np.zeros(1, LEVEL)
    record[0] = level
    segments = _build_segments(record[0], lines)
    still = ~_MOVERS[entities["type"]] & (entities["type"] != BOOST_PAD)
    cells, keys = entities["cell"].copy(), entities["key"].copy()
    near = _build_near(cells, keys, still, record["near_start"][0])
    platform = _build_near(cells, keys, entities["type"] == ONE_WAY, record["platform_start"][0])
    record["physical"] = np.isin(lists, (ONE_WAY, BOUNCE_BLOCK, THWUMP, SHOVE_THWUMP)).sum()
    record["moving"] = np.isin(lists, (ZAP_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP, BOOST_PAD, MINI_DRONE)).sum()
    thinkers = (REGULAR_DOOR, FLOOR_GUARD, THWUMP, TOGGLE_MINE, DEATH_BALL, SHOVE_THWUMP)
    record["thinking"] = np.isin(lists, thinkers).sum()
    return record, segments, entities, near, platform, np.array(movers, np.int32), doors, np.array(edges, np.int32)


def build_bank(maps) -> Bank:
    """Bank of the levels in `maps` (a sequence of map bytes); raises ValueError as `check_map`."""
    built = [build_level(m) for m in maps]
    levels, segments, entities, near, platform, movers, doors, edges = (
        list(column) for column in zip(*built, strict=True)
    )
    level = np.concatenate(levels)

    def starts(parts):
        return np.cumsum([0] + [len(p) for p in parts[:-1]])

    level["entity_start"], level["entities"] = starts(entities), [len(p) for p in entities]
    level["mover_start"], level["movers"] = starts(movers), [len(p) for p in movers]
    level["door_start"], level["doors"] = starts(doors), [len(p) for p in doors]
    level["edge_start"], level["edges"] = starts(edges), [len(p) for p in edges]
    base = level["entity_start"]
    level["segment_start"] += starts(segments)[:, None].astype(np.int32)
    level["near_start"] += starts(near)[:, None].astype(np.int32)
    level["platform_start"] += starts(platform)[:, None].astype(np.int32)
    level["type_start"] += base[:, None]
    return Bank(
        level=level,
        segment=_pool(segments),
        entity=_pool(entities),
        near=_pool([p + b for p, b in zip(near, base, strict=True)]),
        platform=_pool([p + b for p, b in zip(platform, base, strict=True)]),
        mover=_pool([p + b for p, b in zip(movers, base, strict=True)]),
        door=_pool(doors),
        edge=_pool(edges),
    )


def _pool(parts):
    """Concatenation that is never empty, so that a kernel's pointer into it is always valid."""
    return np.concatenate([*parts, np.zeros(1, parts[0].dtype)]).astype(parts[0].dtype)


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
    """Rows uint8 [games, bytes] of zeros, and the `State` of typed views on them."""
    offsets = _offsets(bank)
    rows = np.zeros((games, offsets[-1]), np.uint8)

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
        near=np.zeros((games, max(int(bank.level["movers"].max()), 1)), np.int16),
    )
    return rows, state


@kernel
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
        drone = e.type == ZAP_DRONE or e.type == MINI_DRONE
        m.a = e.x if drone else 0.0
        m.b = e.y if drone else 0.0
        m.stamp = e.key & 0xFFFFFFFF
        m.cell = -1 if e.type == EXIT_DOOR else e.cell
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
