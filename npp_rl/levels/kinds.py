"""The kinds of level of each category: weight, the function that draws the kind, and its arguments."""

from npp_rl.levels import courses, rooms

_WIDE_GAP = {"width": (20, 34), "pit": (5, 9), "depth": (4, 9), "height": (6, 9), "mined": 100}
_SHAFT = {"height": (14, 23), "both_sides": True}
_SNAKE = {"run": (5, 12), "rise": (4, 8), "width": (1, 3), "snake": 60}

_CROWDED = {"width": (12, 30), "height": (4, 11), "groups": (2, 6), "longest": 1, "floating": (3, 9), "crowded": True}

_MINED_BANKS = {"width": (14, 26), "pit": (2, 6), "depth": (2, 6), "height": (4, 9), "mined": 80, "edge_rows": 80}

LEAST_MINES = {"simplest_few_mines": 1, "simplest_with_mines": 2, "mine_heavy": 5}  # in the part that is played

# Percent of the fresh training levels in which mines stand next to the goals and the start.
BESET = {
    "simplest_few_mines": 30,
    "simplest_with_mines": 40,
    "simpler": 25,
    "simple": 30,
    "medium": 30,
    "complex": 30,
    "mine_heavy": 60,
}

KINDS = {
    "simplest": (
        (4, rooms.horizontal_corridor, {}),
        (3, rooms.vertical_corridor, {"width": (1, 4), "height": (3, 7)}),
        (3, rooms.corridors, {"segments": (2, 2), "run": (3, 7), "rise": (2, 4), "width": (1, 2)}),
    ),
    "simplest_few_mines": (
        (4, rooms.horizontal_corridor, {"length": (6, 12), "height": (2, 4), "mines": (1, 2)}),
        (3, rooms.vertical_corridor, {"width": (2, 4), "height": (5, 9), "mines": (1, 2)}),
        (3, rooms.corridors, {"segments": (2, 2), "run": (4, 9), "rise": (3, 6), "width": (2, 2), "mines": (1, 2)}),
    ),
    "simplest_with_mines": (
        (4, rooms.horizontal_corridor, {"length": (8, 16), "height": (2, 4), "mines": (2, 5)}),
        (3, rooms.vertical_corridor, {"width": (2, 4), "height": (6, 12), "mines": (2, 6)}),
        (3, rooms.corridors, {"segments": (2, 3), "run": (5, 9), "rise": (3, 6), "width": (2, 2), "mines": (2, 4)}),
    ),
    "simpler": (
        (3, rooms.horizontal_corridor, {"length": (8, 18), "height": (1, 5)}),
        (2, rooms.vertical_corridor, {"width": (1, 4), "height": (6, 12)}),
        (2, rooms.vertical_corridor, {"width": (2, 4), "height": (6, 12), "mines": (1, 4)}),
        (3, rooms.corridors, {"segments": (3, 3), "run": (3, 8), "rise": (2, 5), "width": (1, 3)}),
        (1, rooms.obstacles, {"width": (7, 11), "height": (4, 6), "count": (1, 1)}),
        (1, rooms.hills, {"width": (10, 14), "height": (4, 6), "rise": (0, 3), "steepest": 1}),
    ),
    "simple": (
        (2, rooms.maze, {"size": (3, 4, 2, 3), "passage": (1, 2), "loops": (0, 1)}),
        (2, rooms.hills, {"width": (12, 20), "height": (5, 8), "rise": (0, 5), "flats": 35, "steepest": 2}),
        (1, rooms.vertical_corridor, {"width": (1, 4), "height": (8, 16)}),
        (2, rooms.vertical_corridor, {"width": (4, 7), "height": (8, 16), "ledges": 100}),
        (1, rooms.gap, {"width": (9, 16), "pit": (2, 4), "depth": (1, 3)}),
        (2, rooms.gap, {"width": (10, 16), "pit": (2, 4), "depth": (2, 4), "mined": 100}),
        (2, rooms.obstacles, {"width": (9, 18), "height": (5, 9), "count": (1, 3)}),
        (2, rooms.corridors, {"segments": (3, 4), "run": (3, 9), "rise": (2, 6), "width": (1, 3)}),
        (1, courses.slalom, {"width": (11, 16), "height": (4, 6)}),
        (2, courses.chambers, {"rooms": (2, 2), "height": (3, 5), "furnished": 40}),
    ),
    "medium": (
        (2, rooms.maze, {"size": (4, 7, 3, 5), "passage": (1, 3), "wall": (1, 2), "loops": (0, 3)}),
        (3, courses.chambers, {"rooms": (2, 4), "grid": (3, 2), "furnished": 70, "mines": (0, 1)}),
        (2, rooms.gap, {"width": (13, 24), "pit": (3, 7), "depth": (3, 7), "height": (5, 8), "mined": 100}),
        (2, courses.mine_field, {"width": (12, 22), "height": (3, 6), "groups": (1, 3), "floating": (0, 2)}),
        (2, rooms.hills, {"width": (16, 28), "height": (6, 10), "rise": (0, 8), "mines": (0, 1)}),
        (1, rooms.vertical_corridor, {"width": (3, 6), "height": (12, 20), "ledges": 90}),
        (1, rooms.vertical_corridor, {"width": (3, 4), "height": (9, 16), "mines": (3, 7), "both_sides": True}),
        (2, courses.islands, {"width": (14, 24), "height": (8, 11)}),
        (2, courses.platforms, {"width": (14, 24), "count": (3, 3), "wide": (2, 4), "gaps": (2, 3)}),
        (2, rooms.corridors, {"segments": (4, 6), "run": (4, 10), "rise": (3, 7), "width": (1, 3), "snake": 50}),
        (2, rooms.obstacles, {"width": (14, 24), "height": (6, 9), "count": (2, 4), "mines": (1, 2)}),
        (1, courses.slalom, {"width": (14, 24), "mines": (0, 2)}),
        (1, courses.cave, {"width": (14, 20), "height": (7, 10)}),
        (1, courses.vaults, {"rooms": (2, 2)}),
    ),
    "complex": (
        (2, rooms.maze, {"size": (7, 12, 4, 7), "passage": (1, 3), "wall": (1, 3), "loops": (0, 5), "mines": (0, 3)}),
        (3, courses.chambers, {"rooms": (4, 6), "grid": (3, 3), "height": (3, 5), "furnished": 90, "mines": (0, 3)}),
        (1, rooms.gap, _WIDE_GAP | {"edge_mines": (1, 3)}),
        (2, courses.mine_field, {"width": (18, 32), "height": (4, 8), "longest": 3, "floating": (1, 5)}),
        (2, rooms.hills, {"width": (24, 40), "height": (8, 13), "rise": (0, 12), "flats": 15, "mines": (0, 3)}),
        (1, rooms.vertical_corridor, _SHAFT | {"width": (3, 5), "mines": (2, 6), "ledges": 60}),
        (2, courses.islands, {"width": (22, 38), "height": (10, 16), "mines": (0, 3)}),
        (2, courses.platforms, {"width": (24, 40), "count": (4, 6), "wide": (1, 4), "gaps": (2, 4)}),
        (2, rooms.corridors, _SNAKE | {"segments": (6, 9), "mines": (0, 4)}),
        (2, courses.vaults, {"rooms": (2, 4), "mines": (0, 2)}),
        (1, courses.ladder, {}),
        (1, courses.launch, {"mines": (0, 2)}),
        (1, courses.slalom, {"width": (20, 36), "mines": (2, 4)}),
        (2, courses.cave, {"width": (18, 32), "height": (9, 15), "mines": (0, 3)}),
    ),
    "mine_heavy": (
        (
            4,
            courses.mine_field,
            {"width": (16, 34), "height": (4, 8), "groups": (3, 6), "longest": 3, "floating": (3, 9)},
        ),
        (3, rooms.gap, _WIDE_GAP | {"width": (18, 30), "edge_mines": (2, 5)}),
        (2, rooms.vertical_corridor, _SHAFT | {"width": (3, 4), "mines": (5, 12)}),
        (2, rooms.corridors, _SNAKE | {"segments": (3, 6), "width": (2, 3), "mines": (9, 16)}),
        (2, courses.chambers, {"rooms": (4, 6), "grid": (3, 2), "height": (4, 6), "furnished": 50, "mines": (9, 15)}),
        (1, courses.islands, {"width": (18, 32), "height": (8, 12), "mines": (6, 10)}),
        (1, rooms.maze, {"size": (5, 9, 3, 5), "passage": (3, 3), "loops": (1, 5), "mines": (9, 15)}),
        (1, rooms.obstacles, {"width": (26, 40), "height": (6, 9), "count": (2, 4), "mines": (7, 12)}),
        (1, courses.slalom, {"width": (26, 42), "mines": (7, 12)}),
    ),
    "exploration": (
        (4, rooms.maze, {"size": (8, 21, 5, 12), "passage": (1, 3), "wall": (1, 2), "loops": (0, 6)}),
        (4, courses.chambers, {"rooms": (5, 9), "grid": (4, 3), "height": (3, 5), "furnished": 90, "branching": 50}),
        (1, rooms.corridors, _SNAKE | {"segments": (9, 14), "run": (6, 16)}),
        (1, courses.vaults, {"rooms": (3, 5), "width": (5, 9)}),
        (2, courses.cave, {"width": (24, 40), "height": (10, 16), "rock": (38, 44)}),
    ),
}

# More kinds, for fresh training levels only: the built-in levels, whose solutions are known, stay what they are.
MORE_KINDS = {
    "simplest_few_mines": (
        (6, rooms.lined_corridor, {"barred": 25, "alcove": 40}),
        (4, rooms.lined_shaft, {"height": (4, 9), "pitch": (3, 5), "elbow": 30}),
        (3, rooms.lined_shaft, {"width": (2, 2), "height": (4, 12), "pitch": (2, 5)}),
    ),
    "simplest_with_mines": (
        (6, rooms.lined_corridor, {"length": (6, 18), "barred": 25, "alcove": 40}),
        (4, rooms.lined_shaft, {"height": (5, 12), "elbow": 30}),
        (3, rooms.lined_shaft, {"width": (2, 2), "height": (5, 16), "pitch": (2, 5)}),
    ),
    "simpler": ((4, rooms.lined_corridor, {"barred": 50}), (2, rooms.lined_shaft, {"height": (4, 12), "elbow": 50})),
    "simple": (
        (5, rooms.lined_shaft, {"width": (1, 4), "height": (6, 18)}),
        (3, rooms.lined_corridor, {"length": (8, 20), "barred": 30}),
        (5, rooms.gap, _MINED_BANKS),
    ),
    "medium": (
        (5, rooms.lined_shaft, {"width": (1, 4), "height": (8, 22), "elbow": 30}),
        (10, courses.stepping_stones, {}),
        (4, courses.mine_field, _CROWDED | {"groups": (1, 4), "floating": (2, 6)}),
        (5, rooms.gap, _MINED_BANKS | {"width": (16, 34), "depth": (4, 12)}),
        (5, courses.rubble, {"width": (18, 30), "height": (8, 14)}),
    ),
    "complex": (
        (10, courses.stepping_stones, {"width": (26, 42), "count": (3, 5)}),
        (4, courses.mine_field, _CROWDED | {"width": (18, 38)}),
        (5, courses.rubble, {}),
    ),
    "mine_heavy": (
        (6, courses.mine_field, _CROWDED | {"width": (16, 38), "floating": (4, 12)}),
        (5, rooms.gap, _MINED_BANKS | {"width": (18, 38), "depth": (4, 12), "edge_mines": (1, 3)}),
    ),
}
