"""Memory layout of levels and of running games: dtypes, constants, tile tables as arrays.

A level is one `LEVEL` record, plus spans in pools that all levels of a bank share (segments, entities, doors, near
lists). A running game is one row of bytes: a `NINJA` record, one byte of activity and one of state for each entity, a
`MOVER` record for each entity that changes its cell, doors, and counters of the half-cell edges that doors touch.
Snapshots and checkpoints copy whole rows.
"""

from typing import NamedTuple

import numpy as np

from npp_rl.simulator.tiles import TILE_COUNT, TILES

WIDTH, HEIGHT = 1056, 600  # px
COLUMNS, ROWS = 44, 25  # cells of 24 px; cell index = column * ROWS + row
CELLS = COLUMNS * ROWS
H_EDGES = 88 * 51  # horizontal half-cell edge (i, j) at i * 51 + j
V_EDGES = 89 * 50  # vertical half-cell edge (i, j) at i * 50 + j

# Record types (PHYSICS.md 2.1). The exit switch has its own number but is in the list of type 3.
MINE, GOLD, EXIT_DOOR, EXIT_SWITCH, REGULAR_DOOR, LOCKED_DOOR, TRAP_DOOR = 1, 2, 3, 4, 5, 6, 8
LAUNCH_PAD, ONE_WAY, ZAP_DRONE, FLOOR_GUARD, BOUNCE_BLOCK, THWUMP = 10, 11, 14, 16, 17, 20
TOGGLE_MINE, BOOST_PAD, DEATH_BALL, MINI_DRONE, SHOVE_THWUMP = 21, 24, 25, 26, 28
CHASER_DRONE, LASER = 15, 23  # only in banks with unfinished entities
ENTITY_TYPES = (1, 2, 3, 5, 6, 8, 10, 11, 14, 16, 17, 20, 21, 24, 25, 26, 28)

# Ninja states (PHYSICS.md 4.2)
STANDING, RUNNING, SLIDING, JUMPING, FALLING, WALL_SLIDING, DEAD, DYING, WON = 0, 1, 2, 3, 4, 5, 6, 7, 8

# Causes of death: the type of the entity that killed, or one of these.
CAUSE_NONE, CAUSE_FLOOR, CAUSE_CEILING, CAUSE_CRUSH = 0, 100, 101, 102
CAUSE_NAMES = {
    CAUSE_NONE: "none",
    MINE: "mine",
    TOGGLE_MINE: "mine",
    ZAP_DRONE: "zap_drone",
    CHASER_DRONE: "chaser_drone",
    FLOOR_GUARD: "floor_guard",
    THWUMP: "thwump",
    LASER: "laser",
    DEATH_BALL: "death_ball",
    MINI_DRONE: "mini_drone",
    SHOVE_THWUMP: "shove_thwump",
    CAUSE_FLOOR: "floor_impact",
    CAUSE_CEILING: "ceiling_impact",
    CAUSE_CRUSH: "crush",
}

NINJA = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("u", "f8"),  # velocity, px per frame
        ("v", "f8"),
        ("x0", "f8"),  # position at the start of the frame
        ("y0", "f8"),
        ("u1", "f8"),  # velocity after integration, before collisions
        ("v1", "f8"),
        ("g", "f8"),  # gravity and drag in force
        ("d", "f8"),
        ("wn", "f8"),  # normal of the last wall
        ("nx", "f8"),  # normal of the last floor
        ("ny", "f8"),
        ("pad_x", "f8"),  # direction of the last launch pad boost
        ("pad_y", "f8"),
        ("frac", "f8"),  # when the exit was touched, as a share of the winning frame
        ("fx", "f8"),  # sums of the floor normals and of the ceiling and wall normals of this frame
        ("fy", "f8"),
        ("kx", "f8"),
        ("ky", "f8"),
        ("crush_x", "f8"),  # sums of the pushes of this frame, without those of bounce blocks, and of their lengths
        ("crush_y", "f8"),
        ("crush_length", "f8"),
        ("floors", "i4"),  # contacts of this frame
        ("ceilings", "i4"),
        ("jump_frames", "i4"),
        ("gold", "i4"),
        ("frame", "i4"),
        ("stamp", "i4"),  # next stamp of an entry into a cell's list
        ("toggling", "i4"),  # mines in state 2
        ("level", "i4"),  # index into the bank
        ("state", "i1"),
        ("air", "i1"),  # whether no floor was touched in this frame
        ("walled", "i1"),  # whether it was beside a wall in this frame
        ("jump_before", "i1"),
        ("jump_buffer", "i1"),  # -1 is off
        ("floor_buffer", "i1"),
        ("wall_buffer", "i1"),
        ("pad_buffer", "i1"),
        ("crushable", "i1"),  # whether a thwump pushed in this frame
        ("h", "i1"),  # inputs of this frame
        ("j", "i1"),
        ("cause", "u1"),
        ("sprung", "i1"),  # whether a mine has gone off, which may turn it into a toggle mine (PHYSICS.md 5.3)
    ],
    align=True,
)

# An entity whose place in the cell lists changes: moving ones, and exit doors, which enter when their switch is hit.
MOVER = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("a", "f8"),  # drones: target; bounce blocks, death balls: velocity; shove thwumps: direction
        ("b", "f8"),
        ("stamp", "i4"),
        ("cell", "i2"),  # -1: in no list
        ("dir", "i1"),  # drones: direction 0..3; shove thwumps: flag "held"
        ("kind", "u1"),  # record type
    ],
    align=True,
)

SEGMENT = np.dtype(
    [
        ("x_low", "f8"),  # bounding box
        ("x_high", "f8"),
        ("y_low", "f8"),
        ("y_high", "f8"),
        ("x1", "f8"),
        ("y1", "f8"),
        ("x2", "f8"),
        ("y2", "f8"),
        ("kind", "i4"),
        ("door", "i4"),
        ("length", "f8"),  # of linear ones, and their unit vector, as PHYSICS.md 6.2 computes them
        ("ix", "f8"),
        ("iy", "f8"),
    ],
    align=True,
)
# Linear kinds come first. Arcs hold their centre in (x1, y1) and their quadrant's signs in (x2, y2).
LINE, DOOR_LINE, CONVEX_ARC, CONCAVE_ARC = 0, 1, 2, 3

ENTITY = np.dtype(
    [
        ("x", "f8"),  # start position; of doors, that of their switch
        ("y", "f8"),
        ("a", "f8"),  # vector of the orientation
        ("b", "f8"),
        ("key", "i8"),  # cell * 2^32 + stamp: the order of PHYSICS.md 5.2 as one number
        ("cell", "i2"),
        ("slot", "i4"),  # index of the mover or door; of an exit switch, the mover of its door
        ("type", "u1"),
        ("orientation", "u1"),
        ("mode", "u1"),
        ("index", "i4"),  # number of earlier entities of the same type
    ],
    align=True,
)

# A door's segment, and the slots of the two half-cell edges that it counts.
DOOR = np.dtype(
    [("x1", "f8"), ("y1", "f8"), ("x2", "f8"), ("y2", "f8"), ("slot0", "i4"), ("slot1", "i4"), ("entity", "i4")],
    align=True,
)

LEVEL = np.dtype(
    [
        ("spawn_x", "f8"),
        ("spawn_y", "f8"),
        ("segment_start", "i4", (CELLS + 1,)),  # by cell, into the segment pool
        ("near_start", "i4", (CELLS + 1,)),  # by the ninja's cell: entities that collide logically and never move
        ("platform_start", "i4", (CELLS + 1,)),  # by the ninja's cell: one-way platforms, which collide physically
        ("edge_h", "u1", (H_EDGES,)),
        ("edge_v", "u1", (V_EDGES,)),
        ("tiles", "u1", (CELLS,)),
        ("type_start", "i4", (30,)),  # absolute index into the entity pool of each type's first entity
        ("entity_start", "i4"),
        ("entities", "i4"),
        ("mover_start", "i4"),
        ("movers", "i4"),
        ("door_start", "i4"),
        ("doors", "i4"),
        ("edge_start", "i4"),
        ("edges", "i4"),
        # Numbers of entities that collide physically, that move, and that think (without plain mines).
        ("physical", "i4"),
        ("moving", "i4"),
        ("thinking", "i4"),
        ("ball_count", "i4"),  # D of PHYSICS.md 5.19
    ],
    align=True,
)


class Bank(NamedTuple):
    """Static data of a list of levels, for the kernels."""

    level: np.ndarray  # LEVEL [levels]
    segment: np.ndarray  # SEGMENT pool
    entity: np.ndarray  # ENTITY pool
    near: np.ndarray  # i4 pool: indices into the entity pool
    platform: np.ndarray  # i4 pool: indices into the entity pool
    mover: np.ndarray  # i4 pool: index into the entity pool of each mover
    door: np.ndarray  # DOOR pool
    edge: np.ndarray  # i4 pool: half-cell edge of each slot; vertical ones after the H_EDGES horizontal ones


class State(NamedTuple):
    """Running games: typed views on one uint8 array [games, bytes], and scratch memory."""

    ninja: np.ndarray  # NINJA [games]
    active: np.ndarray  # u1 [games, entities]
    state: np.ndarray  # i1 [games, entities]
    mover: np.ndarray  # MOVER [games, movers]
    closed: np.ndarray  # u1 [games, doors]
    timer: np.ndarray  # u1 [games, doors]
    edge: np.ndarray  # i4 [games, edge slots]
    near: np.ndarray  # i4 [games, movers]: scratch, not part of a game


Q = 0.7071067811865476
ORIENTATION_X = np.array([1.0, Q, 0.0, -Q, -1.0, -Q, 0.0, Q])
ORIENTATION_Y = np.array([0.0, Q, 1.0, Q, 0.0, -Q, -1.0, -Q])


def _signs(text):
    return [{"0": 0, "-": -1, "+": 1}[c] for c in text.replace(" ", "")]


def _digits(text):
    return [int(c) for c in text.replace(" ", "")]


TILE_EDGE_H = np.array([_digits(t[0]) for t in TILES], np.uint8)
TILE_EDGE_V = np.array([_digits(t[1]) for t in TILES], np.uint8)
TILE_SIGN_H = np.array([_signs(t[2]) for t in TILES], np.int8)
TILE_SIGN_V = np.array([_signs(t[3]) for t in TILES], np.int8)
TILE_SLANT = np.array([t[4] or (0, 0, 0, 0) for t in TILES], np.float64)
TILE_ARC = np.array([t[5] or (0, 0, 0, 0, 0) for t in TILES], np.float64)
TILE_EXTRA = np.array([1 if t[4] else 2 if t[5] else 0 for t in TILES], np.uint8)  # 1: slanted segment, 2: arc
assert len(TILES) == TILE_COUNT
