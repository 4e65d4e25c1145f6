"""The level around the ninja as a graph: a compiled kernel that writes one game's graph into rows of batch arrays.

Nodes have fixed slots by type (GRAPH_SLOTS). `graph_node_mask` uint8 [N] is 1 where a slot holds a node; all numbers of
an empty slot are 0. Tile nodes are the cells (24 px) nearest to the ninja along free space: the ninja's own cell first,
then breadth first over the borders that its circle can cross. Mine nodes are the nearest mines and moving hazards, the
nearest first. Locked door nodes are the locked doors and trap doors with the nearest switches, the goal's first. With
several exits the goal's pair is shown.

`graph_nodes` float32 [N, NODE_FEATURES]; offsets are from the ninja, x to the right, y down, those of switches and
doors clipped to -4..4; ways and straight distances are in 500 px, velocities in 10/3 px per frame:

| column | tile |
| --- | --- |
| 0, 1 | offset of its centre / 96 px |
| 2 | borders crossed on the way there / 8 |
| 3, 4 | way to the goal from its best place minus the ninja's, / 96 px, clipped to -4..4; 1 if there is a way |
| 5, 6 | direction of that way |
| 7..10 | border open to the east, south, west, north |
| 11..14 | distance to solid ground at its points (6, 6), (18, 6), (6, 18), (18, 18) px, / 24 px, at most 1 |
| 15 | share of it that the ninja's centre can be in |
| 16 | the goal is in it |

| column | ninja |
| --- | --- |
| 0, 1 | offset from the middle of the cell that it is in / 12 px |
| 2..4 | velocity, speed |
| 5..14 | movement state, airborne, wall contact, floor normal: as `game_state` 3..10, 12, 13 |
| 15..18 | jump, floor and wall buffer, frames of the held jump: as `game_state` 14..16, 18 |
| 19 | way to the goal |

| column | mine |
| --- | --- |
| 0, 1 | offset / 96 px |
| 2 | 1 - distance / RANGE; of a moving one the least distance over the next 24 frames |
| 3..6 | deadly now; untoggled; toggling; a moving hazard |
| 7 | distance at which it kills or toggles / 24 px |
| 8 | velocity towards it |
| 9..19 | of a moving one: as `reachability` says from +4 on (observations.py) |

| column | exit switch, exit door |
| --- | --- |
| 0, 1 | offset / 96 px |
| 2 | switch: not yet hit; door: open |
| 3 | it is the goal |
| 4, 5 | straight distance; way, 0 unless it is the goal |

| column | locked door |
| --- | --- |
| 0..3 | offsets of the door's middle and of its switch / 96 px |
| 4..7 | closed; its switch is the goal; trap door; it stands upright |
| 8 | straight distance to the switch |

Edges: `graph_adjacent` int16 [N, ADJACENT] and `graph_reachable` int16 [N, REACHABLE] list for each node the nodes that
its incoming edges come from, -1 after the last.

Adjacent edges go both ways. They join tiles that share an open border, and the ninja, mines, switches and doors with
the tile that they are in (a locked door with the tile of its switch). A closed door shuts the border that it stands on;
a door inside a cell shuts nothing here.

Reachable edges join the ninja with the switch, the exit, closed doors and the nearest mines, both ways. They also lead
from the next tile on the way to the goal to each tile, and from the next few tiles on the way to the ninja.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import config, get_thread_id, prange

from npp_rl.environment.goals import GOAL_DOOR, GOAL_EXIT, GOAL_NONE, GOAL_SWITCH
from npp_rl.environment.movers import SOON, any_movers, describe_mover, note_movers
from npp_rl.levels.fields import COLS, DX, DY, NODES, UNIT, UNREACHED, level_free
from npp_rl.simulator.compiled import kernel, njit
from npp_rl.simulator.contacts import MINE_RADIUS, TOGGLE_IN, TOGGLE_OUT
from npp_rl.simulator.layout import (
    CELLS,
    EXIT_DOOR,
    EXIT_SWITCH,
    JUMPING,
    LOCKED_DOOR,
    MINE,
    ROWS,
    TOGGLE_MINE,
    TRAP_DOOR,
)

TILE_NODES, MINE_NODES, DOOR_NODES = 32, 12, 4
NODE_FEATURES, ADJACENT, REACHABLE = 20, 8, 16
RANGE = 240.0  # px at which mines become nodes
MINE_EDGES, WAY_EDGES = 6, 6  # most edges to the ninja from mines, and from tiles on the way

# First node of each type.
NINJA = TILE_NODES
MINES = NINJA + 1
SWITCH = MINES + MINE_NODES
EXIT = SWITCH + 1
DOORS = EXIT + 1
GRAPH_SLOTS = (  # type, first node, number of nodes
    ("tile", 0, TILE_NODES),
    ("ninja", NINJA, 1),
    ("mine", MINES, MINE_NODES),
    ("exit_switch", SWITCH, 1),
    ("exit_door", EXIT, 1),
    ("locked_door", DOORS, DOOR_NODES),
)
GRAPH_NODES = sum(count for _, _, count in GRAPH_SLOTS)
GRAPH_OBSERVATIONS = {
    "graph_nodes": ((GRAPH_NODES, NODE_FEATURES), np.float32),
    "graph_node_mask": ((GRAPH_NODES,), np.uint8),
    "graph_adjacent": ((GRAPH_NODES, ADJACENT), np.int16),
    "graph_reachable": ((GRAPH_NODES, REACHABLE), np.int16),
}

EAST, SOUTH, WEST, NORTH = 1, 2, 4, 8  # bits of an open border
_STEP = np.array([ROWS, 1, -ROWS, -1])  # to the neighbouring cells, in this order
_UNIT_X, _UNIT_Y = DX / np.hypot(DX, DY), DY / np.hypot(DX, DY)  # unit vectors of a way's 16 directions


class GraphRows(NamedTuple):
    """Arrays of all games that graphs are written to, in the order of GRAPH_OBSERVATIONS; N is GRAPH_NODES."""

    nodes: np.ndarray  # f4 [games, N, NODE_FEATURES]
    mask: np.ndarray  # u1 [games, N]
    adjacent: np.ndarray  # i2 [games, N, ADJACENT]
    reachable: np.ndarray  # i2 [games, N, REACHABLE]


class Graphs(NamedTuple):
    """Static data of a bank's levels that the kernels read, and scratch memory by thread. Cells are by column."""

    borders: np.ndarray  # u1 [levels, CELLS]: open borders
    places: np.ndarray  # u2 [levels, CELLS]: free lattice nodes of a cell, bit 4 * row + column
    node: np.ndarray  # i2 [threads, CELLS]: node of a cell, -1 between two calls
    shut: np.ndarray  # u1 [threads, CELLS]: borders that doors shut, 0 between two calls
    cell: np.ndarray  # i2 [threads, TILE_NODES]
    hops: np.ndarray  # i2 [threads, TILE_NODES]: borders crossed
    following: np.ndarray  # i2 [threads, TILE_NODES]: next cell on the way to the goal, -1 none
    nearest: np.ndarray  # f8 [threads, max(MINE_NODES, DOOR_NODES)]: px
    chosen: np.ndarray  # i4 [threads, max(MINE_NODES, DOOR_NODES)]: entities


@kernel
def _cell_borders(free, borders, places):
    """Open borders (u1 [CELLS]) and free places (u2 [CELLS]) of a level's cells from its free space (level_free)."""
    borders[:] = 0
    places[:] = 0
    for column in range(1, 43):
        for row in range(1, 24):
            cell = column * ROWS + row
            corner = 4 * row * COLS + 4 * column
            for k in range(16):
                if free[corner + k // 4 * COLS + k % 4]:
                    places[cell] |= 1 << k
            for k in range(4):
                if free[corner + k * COLS + 3] and free[corner + k * COLS + 4]:
                    borders[cell] |= EAST
                    borders[cell + ROWS] |= WEST
                if free[corner + 3 * COLS + k] and free[corner + 4 * COLS + k]:
                    borders[cell] |= SOUTH
                    borders[cell + 1] |= NORTH


@kernel
def _level_borders(bank, index, tiles, free, borders, places):
    for cell in range(CELLS):
        tiles[cell % ROWS, cell // ROWS] = bank.level[index].tiles[cell]
    level_free(tiles, free)
    _cell_borders(free, borders[index], places[index])


@njit(parallel=True, _nrt=False)
def _all_borders(bank, borders, places, free, tiles, serial):
    if serial:
        for index in range(len(borders)):
            _level_borders(bank, index, tiles[0], free[0], borders, places)
    else:
        for index in prange(len(borders)):
            thread = get_thread_id()
            _level_borders(bank, np.int64(index), tiles[thread], free[thread], borders, places)


def level_graphs(bank, serial: bool = False) -> Graphs:
    """`Graphs` of a bank's levels. serial: without threads."""
    levels, threads = len(bank.level), config.NUMBA_NUM_THREADS  # the most that may be set later
    most = max(MINE_NODES, DOOR_NODES)
    graphs = Graphs(
        borders=np.zeros((levels, CELLS), np.uint8),
        places=np.zeros((levels, CELLS), np.uint16),
        node=np.full((threads, CELLS), -1, np.int16),
        shut=np.zeros((threads, CELLS), np.uint8),
        cell=np.zeros((threads, TILE_NODES), np.int16),
        hops=np.zeros((threads, TILE_NODES), np.int16),
        following=np.zeros((threads, TILE_NODES), np.int16),
        nearest=np.zeros((threads, most)),
        chosen=np.zeros((threads, most), np.int32),
    )
    _all_borders(
        bank,
        graphs.borders,
        graphs.places,
        np.zeros((threads, NODES), np.uint8),
        np.zeros((threads, 25, 44), np.uint8),
        serial,
    )
    return graphs


@kernel
def _cell_of(x, y):
    """Cell of a position (px), the nearest one for a position outside of the field."""
    return min(max(math.floor(x / 24.0), 0), 43) * ROWS + min(max(math.floor(y / 24.0), 0), ROWS - 1)


@kernel
def _ninja_cell(x, y, places):
    """Cell of the nearest free lattice node of the four around the ninja; without one, the cell that it is in."""
    best, cell = 1e9, _cell_of(x, y)
    for k in range(4):
        i = min(max(math.floor(x / 6.0) + k % 2, 0), COLS - 1)
        j = min(max(math.floor(y / 6.0) + k // 2, 0), 4 * ROWS)
        there = i // 4 * ROWS + min(j // 4, ROWS - 1)
        r = (6.0 * i - x) * (6.0 * i - x) + (6.0 * j - y) * (6.0 * j - y)
        if r < best and places[there] >> (4 * (j % 4) + i % 4) & 1:
            best = r
            cell = there
    return cell


@kernel
def _add_edge(lists, target, source):
    """Append an edge to the target's list, if there is room."""
    row = lists[target]
    for slot in range(len(row)):
        if row[slot] < 0:
            row[slot] = source
            return


@kernel
def _place(node, tile, mask, adjacent):
    """Mark an entity's node as present, with edges from and to the tile that it is in (-1: none), if that has room."""
    mask[node] = 1
    if tile >= 0 and adjacent[tile, ADJACENT - 1] < 0:
        _add_edge(adjacent, tile, node)
        _add_edge(adjacent, node, tile)


@kernel
def _note(r, entity, nearest, chosen, count):
    """Insert an entity at distance r into the list of the nearest -> new length of the list."""
    if r >= nearest[len(nearest) - 1]:
        return count
    at = min(count, len(nearest) - 1)
    while at > 0 and r < nearest[at - 1]:
        nearest[at] = nearest[at - 1]
        chosen[at] = chosen[at - 1]
        at -= 1
    nearest[at] = r
    chosen[at] = entity
    return min(count + 1, len(nearest))


@kernel
def _shut_borders(bank, state, i, shut):
    """Mark in `shut` the borders that closed locked and trap doors stand on -> whether there is such a door."""
    level = bank.level[state.ninja[i].level]
    found = False
    for kind in (LOCKED_DOOR, TRAP_DOOR):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            slot = bank.entity[k].slot
            if not state.closed[i, slot]:
                continue
            door = bank.door[level.door_start + slot]
            upright = door.x1 == door.x2
            across = door.x1 if upright else door.y1
            low = min(door.y1, door.y2) if upright else min(door.x1, door.x2)
            high = max(door.y1, door.y2) if upright else max(door.x1, door.x2)
            line = int(across / 24.0)
            if across != 24.0 * line or line < 1 or line > (43 if upright else ROWS - 1):
                continue
            found = True
            last = min(int((high - 1.0) / 24.0), 24 if upright else 43)
            for along in range(max(int((low + 1.0) / 24.0), 0), last + 1):
                if upright:
                    shut[line * ROWS + along] |= WEST
                    shut[(line - 1) * ROWS + along] |= EAST
                else:
                    shut[along * ROWS + line] |= NORTH
                    shut[along * ROWS + line - 1] |= SOUTH
    return found


@kernel(forceinline=True)
def _write_way(corner, places, way, dist, ahead, features):
    """Write the way to the goal from a cell's best place, and its share of free places -> next cell on it, -1: none.

    corner: the cell's first lattice node. places: bits of the free ones.
    """
    best = UNREACHED
    best_node = -1
    free = 0
    for k in range(16):
        if places >> k & 1:
            free += 1
            d = dist[corner + k // 4 * COLS + k % 4]
            if d < best:
                best = d
                best_node = corner + k // 4 * COLS + k % 4
    features[15] = free / 16.0
    if best_node < 0:
        return -1
    features[3] = min(max((UNIT * best - way) / 96.0, -4.0), 4.0)
    features[4] = 1.0
    direction = ahead[best_node]
    if direction >= 16:
        return -1
    features[5] = _UNIT_X[direction]
    features[6] = _UNIT_Y[direction]
    return (best_node % COLS + DX[direction]) // 4 * ROWS + (best_node // COLS + DY[direction]) // 4


@kernel(forceinline=True)
def _write_tiles(n, way, dist, ahead, clearance, graphs, thread, nodes, mask, adjacent):
    """Write the tile nodes, breadth first from the ninja's cell, and the edges among them -> number of tile nodes."""
    borders = graphs.borders[n.level]
    places = graphs.places[n.level]
    node = graphs.node[thread]
    shut = graphs.shut[thread]
    cell = graphs.cell[thread]
    hops = graphs.hops[thread]
    following = graphs.following[thread]
    cell[0] = _ninja_cell(n.x, n.y, places)
    hops[0] = 0
    node[cell[0]] = 0
    count = 1
    t = 0
    while t < count:
        here = cell[t]
        open_borders = borders[here] & (15 ^ shut[here])
        slot = 0
        for side in range(4):
            if open_borders >> side & 1:
                there = here + _STEP[side]
                if node[there] < 0 and count < TILE_NODES:
                    cell[count] = there
                    hops[count] = hops[t] + 1
                    node[there] = count
                    count += 1
                if node[there] >= 0:
                    adjacent[t, slot] = node[there]
                    slot += 1
        column = here // ROWS
        row = here % ROWS
        features = nodes[t]
        features[0] = (24.0 * column + 12.0 - n.x) / 96.0
        features[1] = (24.0 * row + 12.0 - n.y) / 96.0
        features[2] = hops[t] / 8.0
        corner = 4 * row * COLS + 4 * column
        following[t] = _write_way(corner, places[here], way, dist, ahead, features)
        for side in range(4):
            features[7 + side] = open_borders >> side & 1
        for k in range(4):
            features[11 + k] = clearance[corner + (1 + 2 * (k // 2)) * COLS + 1 + 2 * (k % 2)] / 255.0
        mask[t] = 1
        t += 1
    return count


@kernel
def _write_ninja(n, way, features):
    features[0] = n.x / 12.0 - 2.0 * math.floor(n.x / 24.0) - 1.0
    features[1] = n.y / 12.0 - 2.0 * math.floor(n.y / 24.0) - 1.0
    features[2] = 0.3 * n.u
    features[3] = 0.3 * n.v
    features[4] = 0.3 * math.sqrt(n.u * n.u + n.v * n.v)
    if n.state < 6:
        features[5 + n.state] = 1.0
    features[11] = n.air
    features[12] = n.walled * n.wn
    features[13] = n.nx
    features[14] = n.ny
    features[15] = (n.jump_buffer + 1) / 6.0
    features[16] = (n.floor_buffer + 1) / 6.0
    features[17] = (n.wall_buffer + 1) / 6.0
    if n.state == JUMPING:
        features[18] = n.jump_frames / 45.0
    features[19] = way / 500.0


@kernel
def _write_mines(bank, state, i, node, nearest, chosen, around, nodes, mask, adjacent):
    """Write the nodes of the nearest mines and of moving hazards, by `near` -> number of nodes."""
    n = state.ninja[i]
    level = bank.level[n.level]
    nearest = nearest[:MINE_NODES]
    nearest[:] = RANGE
    found = 0
    for kind in (MINE, TOGGLE_MINE):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            dx = bank.entity[k].x - n.x
            dy = bank.entity[k].y - n.y
            r = dx * dx + dy * dy
            if r < RANGE * RANGE:
                found = _note(math.sqrt(r), k, nearest, chosen, found)
    for k in range(around.count):
        found = _note(around.movers[k].near, -1 - k, nearest, chosen, found)
    for place in range(found):
        k = chosen[place]
        features = nodes[MINES + place]
        if k >= 0:
            x = bank.entity[k].x
            y = bank.entity[k].y
            status = state.state[i, k - level.entity_start]  # 0 deadly, 1 untoggled, 2 toggling (PHYSICS.md 5.3)
            features[3 + status] = 1.0
            features[7] = (MINE_RADIUS if status == 0 else TOGGLE_IN if status == 1 else TOGGLE_OUT) / 24.0
        else:
            o = around.movers[-1 - k]
            x = o.x
            y = o.y
            features[3] = 1.0
            features[6] = 1.0
            features[7] = o.radius / 24.0
            describe_mover(o, features, 9)
        r = math.sqrt((x - n.x) * (x - n.x) + (y - n.y) * (y - n.y))
        features[0] = (x - n.x) / 96.0
        features[1] = (y - n.y) / 96.0
        features[2] = 1.0 - nearest[place] / RANGE
        if r > 0.0:
            features[8] = 0.3 * (n.u * (x - n.x) + n.v * (y - n.y)) / r
        _place(MINES + place, node[_cell_of(x, y)], mask, adjacent)
    return found


@kernel
def _clip(offset):
    return min(max(offset / 96.0, -4.0), 4.0)


@kernel
def _write_exit(bank, state, i, goal, way, node, nodes, mask, adjacent):
    """Write the nodes of an exit pair, switch and door: the goal's pair, else the level's first."""
    n = state.ninja[i]
    level = bank.level[n.level]
    switch = -1
    for k in range(level.type_start[EXIT_DOOR], level.type_start[EXIT_DOOR + 1]):
        if bank.entity[k].type == EXIT_SWITCH:
            aim = k if goal.kind == GOAL_SWITCH else k - 1
            meant = goal.kind <= GOAL_EXIT and bank.entity[aim].x == goal.x and bank.entity[aim].y == goal.y
            if switch < 0 or meant:
                switch = k
            if meant:
                break
    if switch < 0:
        return
    closed = state.active[i, switch - level.entity_start]
    for place in range(2):
        e = bank.entity[switch - place]
        features = nodes[SWITCH + place]
        features[0] = _clip(e.x - n.x)
        features[1] = _clip(e.y - n.y)
        features[2] = closed if place == 0 else 1 - closed
        features[4] = math.sqrt((e.x - n.x) * (e.x - n.x) + (e.y - n.y) * (e.y - n.y)) / 500.0
        if goal.kind == place:
            features[3] = 1.0
            features[5] = way / 500.0
        _place(SWITCH + place, node[_cell_of(e.x, e.y)], mask, adjacent)


@kernel
def _write_doors(bank, state, i, goal, node, nearest, chosen, nodes, mask, adjacent):
    """Write the nodes of the locked and trap doors with the nearest switches, the goal's first."""
    n = state.ninja[i]
    level = bank.level[n.level]
    nearest = nearest[:DOOR_NODES]
    nearest[:] = 1e9
    found = 0
    for kind in (LOCKED_DOOR, TRAP_DOOR):
        for k in range(level.type_start[kind], level.type_start[kind + 1]):
            e = bank.entity[k]
            r = math.sqrt((e.x - n.x) * (e.x - n.x) + (e.y - n.y) * (e.y - n.y))
            if kind == LOCKED_DOOR and goal.kind == GOAL_DOOR and e.x == goal.x and e.y == goal.y:
                r = -1.0
            found = _note(r, k, nearest, chosen, found)
    for place in range(found):
        e = bank.entity[chosen[place]]
        door = bank.door[level.door_start + e.slot]
        features = nodes[DOORS + place]
        features[0] = _clip((door.x1 + door.x2) / 2.0 - n.x)
        features[1] = _clip((door.y1 + door.y2) / 2.0 - n.y)
        features[2] = _clip(e.x - n.x)
        features[3] = _clip(e.y - n.y)
        features[4] = state.closed[i, e.slot]
        features[5] = 1.0 if nearest[place] < 0.0 else 0.0
        features[6] = 1.0 if e.type == TRAP_DOOR else 0.0
        features[7] = 1.0 if door.x1 == door.x2 else 0.0
        features[8] = math.sqrt((e.x - n.x) * (e.x - n.x) + (e.y - n.y) * (e.y - n.y)) / 500.0
        _place(DOORS + place, node[_cell_of(e.x, e.y)], mask, adjacent)


@kernel
def write_graph(bank, state, i, goal, dist, ahead, way, clearance, graphs, around, thread, rows):
    """Write the graph of game i into row i of `rows` (GraphRows), as the module's docstring says.

    dist, ahead: the goal's field; way: px to the goal; clearance: the level's (observations.level_clearance).
    around: scratch (arcs.AROUND).
    """
    n = state.ninja[i]
    around.count = 0
    if any_movers(bank.level[n.level]):
        note_movers(bank, state, i, SOON[-1], clearance, around)
    nodes = rows.nodes[i]
    mask = rows.mask[i]
    adjacent = rows.adjacent[i]
    reachable = rows.reachable[i]
    nodes[:] = 0.0
    mask[:] = 0
    adjacent[:] = -1
    reachable[:] = -1
    node = graphs.node[thread]
    cell = graphs.cell[thread]
    following = graphs.following[thread]
    nearest = graphs.nearest[thread]
    chosen = graphs.chosen[thread]
    shut = graphs.shut[thread]
    any_shut = _shut_borders(bank, state, i, shut)
    tiles = _write_tiles(n, way, dist, ahead, clearance, graphs, thread, nodes, mask, adjacent)
    _write_ninja(n, way, nodes[NINJA])
    _place(NINJA, 0, mask, adjacent)
    _write_exit(bank, state, i, goal, way, node, nodes, mask, adjacent)
    _write_doors(bank, state, i, goal, node, nearest, chosen, nodes, mask, adjacent)
    mines = _write_mines(bank, state, i, node, nearest, chosen, around, nodes, mask, adjacent)
    if goal.kind != GOAL_NONE and node[_cell_of(goal.x, goal.y)] >= 0:
        nodes[node[_cell_of(goal.x, goal.y)], 16] = 1.0

    for target in range(SWITCH, GRAPH_NODES):
        if mask[target] and (target < DOORS or nodes[target, 4]):
            _add_edge(reachable, NINJA, target)
            _add_edge(reachable, target, NINJA)
    for target in range(MINES, MINES + min(mines, MINE_EDGES)):
        _add_edge(reachable, NINJA, target)
        _add_edge(reachable, target, NINJA)
    for t in range(tiles):
        if following[t] >= 0 and node[following[t]] >= 0:
            _add_edge(reachable, t, node[following[t]])
    t = 0
    for _ in range(WAY_EDGES):
        t = reachable[t, 0]
        if t < 0:
            break
        _add_edge(reachable, NINJA, t)

    for t in range(tiles):
        node[cell[t]] = -1
    if any_shut:
        shut[:] = 0
