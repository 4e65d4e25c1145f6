"""Free space and distances against slow references: exact geometry, a grid of 1 px, SciPy's Dijkstra, human replays."""

import functools

import numpy as np
import pytest
from free_space import door_segment, level_free_space, reachable, way_length
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from npp_rl.levels import fields
from npp_rl.levels.fields import COLS, DX, DY, NODES, ROWS, UNIT, UNREACHED
from npp_rl.simulator import simulate
from npp_rl.simulator.tiles import SOLID, TILES

WEIGHTS = [5, 11, 7, 11] * 4
COLUMN_OF, ROW_OF = np.arange(NODES) % COLS, np.arange(NODES) // COLS


def fine_polygon(tile):
    """Corners of a tile's solid part, curves cut into 400 pieces (off by less than 1e-4 px)."""
    if not 10 <= tile <= 17:
        return np.array(SOLID[tile], float)
    a, b, h, w, convex = TILES[tile][5]
    t = np.linspace(0, np.pi / 2, 401)
    arc = np.stack([a + 24 * h * np.cos(t), b + 24 * w * np.sin(t)], 1)
    corner = (a, b) if convex else (a + 24 * h, b + 24 * w)
    return np.concatenate([[corner], arc])


def distance_to_polygon(points, corners):
    """Distance of points [n, 2] to a filled polygon, convex or not; inside by the even-odd rule."""
    best = np.full(len(points), np.inf)
    inside = np.zeros(len(points), bool)
    x, y = points.T
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        lx, ly = x2 - x1, y2 - y1
        t = np.clip(((x - x1) * lx + (y - y1) * ly) / (lx * lx + ly * ly), 0, 1)
        best = np.minimum(best, np.hypot(x - x1 - t * lx, y - y1 - t * ly))
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * lx / ly)
    return np.where(inside, 0.0, best)


@functools.cache
def distances_around(tile, step, shift):
    """Distances to one tile from the points up to 24 px around it, float [72 / step + 1, 72 / step + 1]."""
    around = np.arange(-24, 49, step)
    x, y = np.meshgrid(around + shift[0], around + shift[1])
    points = np.stack([x.ravel(), y.ravel()], 1).astype(float)
    return distance_to_polygon(points, fine_polygon(tile)).reshape(x.shape)


def distance_to_ground(tiles, step, shift=(0, 0)):
    """Distance (up to 24 px) to solid ground at step * (column, row) + shift px, over the whole field."""
    n = 24 // step
    nearest = np.full((27 * n + 1, 46 * n + 1), 24.0)
    bordered = np.pad(tiles, 1, constant_values=1)
    for tile in np.unique(bordered[(bordered > 0) & (bordered < 34)]):
        away = distances_around(int(tile), step, shift)
        for row, column in np.argwhere(bordered == tile):
            part = nearest[row * n : (row + 3) * n + 1, column * n : (column + 3) * n + 1]
            np.minimum(part, away, out=part)
    return nearest[n : 26 * n + 1, n : 45 * n + 1]


def random_tiles(rng, empty):
    return np.where(rng.random((23, 42)) < empty, rng.choice([0, 38, 255], (23, 42)), rng.integers(1, 34, (23, 42)))


def step_graph(free):
    """Sparse matrix of all open steps, weights in units."""
    starts, ends, weights = [], [], []
    squeezed = free & fields.SQUEEZED > 0
    for k in range(16):
        inside = (COLUMN_OF + DX[k] >= 0) & (COLUMN_OF + DX[k] < COLS) & (ROW_OF + DY[k] >= 0) & (ROW_OF + DY[k] < ROWS)
        a = np.flatnonzero(inside & (free > 0))
        b = a + DX[k] + COLS * DY[k]
        is_open = free[b] > 0
        if WEIGHTS[k] == 11:
            is_open &= ~squeezed[a] & ~squeezed[b]
        if WEIGHTS[k] == 7:
            sides = (
                fields.ROOM_EAST if DX[k] > 0 else fields.ROOM_WEST,
                fields.ROOM_SOUTH if DY[k] > 0 else fields.ROOM_NORTH,
            )
            back = (
                fields.ROOM_WEST if DX[k] > 0 else fields.ROOM_EAST,
                fields.ROOM_NORTH if DY[k] > 0 else fields.ROOM_SOUTH,
            )
            is_open &= ~(squeezed[a] & squeezed[b] & (free[a] & sum(sides) == 0) & (free[b] & sum(back) == 0))
        starts.append(a[is_open])
        ends.append(b[is_open])
        weights.append(np.full(is_open.sum(), WEIGHTS[k]))
    entries = np.concatenate(weights), (np.concatenate(starts), np.concatenate(ends))
    return sparse.csr_matrix(entries, (NODES, NODES))


def field_to(free, goals, touch):
    dist, ahead, queue = np.empty(NODES, np.uint16), np.empty(NODES, np.uint8), np.empty(fields.QUEUE, np.int32)
    reached = fields.distances(free, np.array(goals, float).reshape(-1, 2), touch, dist, ahead, queue)
    assert reached == (dist != UNREACHED).sum()
    return dist, ahead


def corridor(height=1):
    """Tiles with one free strip, rows 10 to 9 + height, columns 2 to 30 of the level; its upper left corner in px."""
    tiles = np.ones((23, 42), np.uint8)
    tiles[10 : 10 + height, 2:31] = 0
    return tiles, (3 * 24.0, 11 * 24.0)


@pytest.mark.parametrize("empty", [0.0, 0.5, 0.85])
def test_free_nodes_and_their_room_are_exact(empty):
    tiles = random_tiles(np.random.default_rng(int(100 * empty)), empty)
    free = level_free_space(tiles)
    expected = distance_to_ground(tiles, 6).ravel() >= 9.9
    assert 0 < expected.sum() < NODES
    assert np.array_equal(free > 0, expected)
    shifts = {
        fields.ROOM_EAST: (2, 0),
        fields.ROOM_SOUTH: (0, 2),
        fields.ROOM_WEST: (-2, 0),
        fields.ROOM_NORTH: (0, -2),
    }
    for bit, shift in shifts.items():
        room = distance_to_ground(tiles, 6, shift).ravel() >= 9.9
        assert np.array_equal(free & bit > 0, expected & room)
    assert not (free & fields.SQUEEZED).any()


def test_every_tile_alone_is_exact():
    for tile in range(34):
        tiles = np.zeros((23, 42), int)
        tiles[11, 20] = tile
        assert np.array_equal(level_free_space(tiles) > 0, distance_to_ground(tiles, 6).ravel() >= 9.9), tile


def test_one_sided_lines_bar_from_both_sides_and_cancel_in_pairs():
    for tile, (row, column) in {34: (12, 21), 35: (12, 22), 36: (13, 21), 37: (12, 21)}.items():
        tiles = np.zeros((23, 42), int)
        tiles[11, 20] = tile
        free = level_free_space(tiles).reshape(ROWS, COLS) > 0
        i, j = 4 * column, 4 * row
        if tile in (34, 36):
            assert not free[j - 1 : j + 2, i : i + 5].any()
            assert free[j - 2, i : i + 5].all() and free[j + 2, i : i + 5].all()
        else:
            assert not free[j : j + 5, i - 1 : i + 2].any()
            assert free[j : j + 5, i - 2].all() and free[j : j + 5, i + 2].all()
    empty = level_free_space(np.zeros((23, 42), int))
    for first, second, place in ((36, 34, (12, 20)), (35, 37, (11, 21))):
        tiles = np.zeros((23, 42), int)
        tiles[11, 20], tiles[place] = first, second
        assert np.array_equal(level_free_space(tiles), empty)


def test_no_step_cuts_a_corner():
    """What lies on the lattice and is too near to a step is too near to one of its ends: corners, mines, curves."""
    x, y = 6.0 * np.stack(np.meshgrid(np.arange(-9, 10), np.arange(-9, 10))).reshape(2, -1)
    for dx, dy in zip(6.0 * DX, 6.0 * DY, strict=True):
        t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
        to_step = np.hypot(x - t * dx, y - t * dy)
        to_ends = np.minimum(np.hypot(x, y), np.hypot(x - dx, y - dy))
        for limit in (9.9, 14.0, 33.9):
            assert np.array_equal(to_step < limit, to_ends < limit)


@pytest.mark.parametrize("empty", [0.5, 0.7])
def test_parts_of_a_level_are_those_of_a_grid_of_1_px(empty):
    tiles = random_tiles(np.random.default_rng(int(10 * empty)), empty)
    free = level_free_space(tiles)
    fine, _ = ndimage.label(distance_to_ground(tiles, 1) >= 9.9, np.ones((3, 3)))
    coarse = csgraph.connected_components(step_graph(free), directed=False)[1]
    nodes = np.flatnonzero(free)
    pairs = set(zip(coarse[nodes], fine[6 * ROW_OF[nodes], 6 * COLUMN_OF[nodes]], strict=True))
    assert len(pairs) == len({c for c, _ in pairs}) == len({f for _, f in pairs}) > 1


def test_mines_join_nothing_that_is_apart():
    rng = np.random.default_rng(3)
    for _ in range(2):
        tiles = random_tiles(rng, 0.7)
        mines = 6.0 * np.stack([rng.integers(4, 172, 300), rng.integers(4, 96, 300)], 1)
        free = level_free_space(tiles)
        for x, y in mines:
            fields.block_circle(free, x, y, fields.BLOCK_MINE)
        y, x = np.mgrid[:601, :1057]
        to_mine = cKDTree(mines).query(np.stack([x.ravel(), y.ravel()], 1))[0].reshape(x.shape)
        open_space = (distance_to_ground(tiles, 1) >= 9.9) & (to_mine >= 13.99)
        fine, _ = ndimage.label(open_space, np.ones((3, 3)))
        at = np.argwhere(open_space)
        nodes = np.flatnonzero(free)
        away, nearest = cKDTree(at).query(np.stack([6 * ROW_OF[nodes], 6 * COLUMN_OF[nodes]], 1))
        assert (away > 3).sum() <= 2  # a squeezed node stands for a place beside it
        coarse = csgraph.connected_components(step_graph(free), directed=False)[1]
        parts = set(zip(coarse[nodes[away <= 3]], fine[tuple(at[nearest[away <= 3]].T)], strict=True))
        assert len(parts) == len({c for c, _ in parts})
        assert len(parts) <= 1.1 * len({f for _, f in parts})  # some narrow ways between mines are not seen


def reference_distances(free, goal, touch):
    """Dijkstra by SciPy from an extra node, joined to the nodes in the circle and to those one step outside."""
    graph = step_graph(free)
    away = np.hypot(6.0 * COLUMN_OF - goal[0], 6.0 * ROW_OF - goal[1])
    inside = (away < touch) & (free > 0)
    first = np.full(NODES, np.inf)
    edges = graph[inside].tocoo()
    outside = away[edges.col] >= touch
    steps = np.maximum(np.floor((away[edges.col] - touch) / 1.2 + 0.5), 1)
    np.minimum.at(first, edges.col[outside], np.minimum(steps, edges.data)[outside])
    first[inside] = 0
    starts = np.flatnonzero(np.isfinite(first))
    source = sparse.csr_matrix((first[starts] + 1, (np.zeros(len(starts), int), starts)), (1, NODES))  # no edge has 0
    column = sparse.csr_matrix((NODES + 1, 1))
    joined = sparse.hstack([sparse.vstack([graph, source]), column], "csr")
    return csgraph.dijkstra(joined, indices=NODES)[:NODES] - 1


def check_field(free, goal, touch):
    dist, ahead = field_to(free, [goal], touch)
    expected = reference_distances(free, goal, touch)
    assert np.array_equal(np.where(dist == UNREACHED, np.inf, dist), expected)
    assert np.array_equal(ahead == fields.AT_GOAL, dist == 0)
    assert np.array_equal(ahead == fields.NO_WAY, dist == UNREACHED)
    on_way = np.flatnonzero(ahead < 16)
    k = ahead[on_way]
    following = on_way + DX[k] + COLS * DY[k]
    drop = dist[on_way].astype(int) - dist[following]
    assert (drop > 0).all() and (drop <= np.array(WEIGHTS)[k]).all()
    far = dist[following] > 11
    assert (drop[far] == np.array(WEIGHTS)[k[far]]).all()
    return len(on_way)


@pytest.mark.parametrize("touch", [fields.TOUCH_SWITCH, fields.TOUCH_EXIT])
def test_distances_are_dijkstras(touch):
    rng = np.random.default_rng(5)
    longest = 0
    for empty in (0.75, 0.9, 1.0):
        free = level_free_space(random_tiles(rng, empty))
        for x, y in 6.0 * rng.integers([6, 6], [170, 94], (60, 2)):
            fields.block_circle(free, x, y, fields.BLOCK_MINE)
        node = rng.choice(np.flatnonzero(free))
        longest = max(longest, check_field(free, (6.0 * COLUMN_OF[node] + 6, 6.0 * ROW_OF[node]), touch))
    assert longest > 5000


def test_distances_of_real_levels(shared):
    with np.load(shared / "golden" / "attract.npz") as golden:
        maps = np.split(golden["maps"], golden["map_offsets"][1:-1])
    for level in maps[:4]:
        free = level_free_space(level[184:1150].reshape(23, 42))
        check_field(free, (6.0 * level[1231], 6.0 * level[1232]), fields.TOUCH_EXIT)


def test_players_stay_beside_nodes_that_their_spawn_reaches(shared):
    frames = 0
    for name in ("human", "attract", "fuzz"):
        with np.load(shared / "golden" / f"{name}.npz") as golden:
            maps = np.split(golden["maps"], golden["map_offsets"][1:-1])
            tracks = np.split(golden["trajectory"], golden["trajectory_offsets"][1:-1])
        for level, track in zip(maps, tracks, strict=True):
            free = level_free_space(level[184:1150].reshape(23, 42))
            spawn = 6.0 * level[1231], 6.0 * level[1232]
            if not free[int(level[1232]) * COLS + int(level[1231])]:
                continue  # two human replays start outside the field
            dist, _ = field_to(free, [spawn], 1.0)
            reached = np.flatnonzero(dist != UNREACHED)
            nodes = np.stack([6.0 * COLUMN_OF[reached], 6.0 * ROW_OF[reached]], 1)
            assert cKDTree(nodes).query(track[:, :2])[0].max() <= 9.0
            assert all(fields.distance_at(dist, x, y) >= 0 for x, y in track[::50, :2])
            frames += len(track)
    assert frames > 150_000


def test_field_in_an_open_room_is_nearly_straight_distance():
    free = level_free_space(np.zeros((23, 42), int))
    goal = np.array([504.0, 300.0])
    dist, ahead = field_to(free, goal, 16.0)
    rng = np.random.default_rng(0)
    for x, y in rng.uniform([36, 36], [1020, 560], (500, 2)):
        straight = np.hypot(x - goal[0], y - goal[1]) - 16
        length = fields.distance_at(dist, x, y)
        assert abs(length - max(straight, 0)) <= max(0.03 * straight, 6.0)
        nearby = fields.distance_at(dist, x + 0.01, y)
        assert abs(nearby - length) < 0.7
    lengths = np.array([0.0, 30.0, 60.0, 150.0, 400.0, 5000.0])
    out = np.empty((6, 2), np.float32)
    assert fields.path_points(dist, ahead, 101.0, 300.0, lengths, out)
    assert np.allclose(out[0], (101, 300))
    assert np.allclose(out[1:4], [(131, 300), (161, 300), (251, 300)], atol=0.2)
    assert np.array_equal(out[4], out[5]) and np.hypot(*(out[5] - goal)) < 16
    assert fields.reached_share(dist, free) == 1.0


def test_a_slope_under_a_slope_is_passable():
    tiles = np.ones((23, 42), np.uint8)
    tiles[5, 2:8] = 0
    for pair in range(4):  # floor and ceiling fall by 12 px a tile, 24 px apart
        row, column = 5 + pair, 8 + 2 * pair
        tiles[row, column : column + 2] = 19, 23
        tiles[row + 1, column : column + 2] = 25, 21
    tiles[9, 16:22] = 0
    start, goal = (84.0, 156.0), (500.0, 252.0)
    length = way_length(tiles, [], [], start, goal)
    assert np.hypot(416, 96) - 16 <= length <= 1.03 * np.hypot(416, 96)


def test_ninja_runs_under_mines_24_px_above_the_floor():
    tiles, (left, top) = corridor()
    start, switch = (left + 12, top + 12), (left + 240, top + 12)
    above = [(left + 100.0 // 6 * 6, top), (left + 120, top), (left + 144, top)]
    assert reachable(tiles, above, [], start, switch)
    assert not reachable(tiles, [*above, (left + 120, top + 24)], [], start, switch)
    assert not reachable(tiles, [(left + 120, top + 6)], [], start, switch)
    records = [(0, *start), *((1, *mine) for mine in above), (3, left + 300, top + 12), (4, *switch)]
    level = bytearray(1230)
    level[184:1150] = tiles.tobytes()
    level[1156] = 1
    for kind, x, y in records:
        level += bytes([kind, int(x / 6), int(y / 6), 0, 0])
    _, states = simulate(bytes(level), bytes([2] * 300))
    assert states[-1] == 8


def test_mines_24_px_apart_bar_the_way_and_28_do_not():
    tiles, (left, top) = corridor(height=4)
    start, goal = (left + 12, top + 48), (left + 300, top + 48)
    for step, closed in ((24, True), (30, False)):
        wall = [(left + 150, y) for y in np.arange(top, top + 97, step)]
        assert reachable(tiles, wall, [], start, goal) != closed


def test_doors_close_and_the_first_one_is_named():
    tiles, (left, top) = corridor()
    start, goal = (left + 12, top + 12), (left + 400, top + 12)
    doors = np.array([door_segment(left + x, top + 12, 0) for x in (300, 120, 204)])
    assert reachable(tiles, [], [], start, goal)
    for door in doors:
        assert not reachable(tiles, [], [door], start, goal)
    assert not reachable(tiles, [], [door_segment(left + 120, top + 12, 2)], start, goal)
    dist, ahead = field_to(level_free_space(tiles), goal, 16.0)

    def first(closed, x=start[0]):
        return fields.first_closed_door(dist, ahead, x, start[1], doors, np.array(closed, np.uint8))

    assert first([1, 1, 1]) == 1
    assert first([1, 0, 1]) == 2
    assert first([1, 1, 1], x=left + 204 + 12) == 0
    assert first([0, 0, 0]) == first([1, 1, 1], x=left + 330) == -1


def test_goals_beyond_reach_and_goals_in_walls():
    tiles, (left, top) = corridor()
    start = (left + 12, top + 12)
    assert way_length(tiles, [], [], start, (left + 300, top + 200)) == np.inf
    assert np.isfinite(way_length(tiles, [], [], start, (left + 300, top + 24 + 6)))  # 18 px below the nodes
    free = level_free_space(tiles)
    dist, ahead = field_to(free, (left + 300, top + 200), 16.0)
    assert (dist == UNREACHED).all() and (ahead == fields.NO_WAY).all()
    assert fields.distance_at(dist, *start) == -1.0 and fields.nearest_reached(dist, *start) == -1
    out = np.zeros((2, 2), np.float32)
    assert not fields.path_points(dist, ahead, *start, np.array([5.0, 10.0]), out)
    assert np.allclose(out, start)
    near, far = (left + 60, top + 12), (left + 500, top + 12)
    both, _ = field_to(free, [far, near], 16.0)
    assert np.array_equal(both, np.minimum(field_to(free, near, 16.0)[0], field_to(free, far, 16.0)[0]))


def test_odd_positions():
    tiles, (left, top) = corridor()
    free = level_free_space(tiles)
    dist, _ = field_to(free, (left + 100, top + 12), 16.0)
    for x, y in ((-1e9, 50.0), (1e9, 1e9), (-5.0, -5.0), (1060.0, 610.0), (np.nan, np.nan)):
        assert fields.nearest_reached(dist, x, y) == -1
        assert fields.distance_at(dist, x, y) == -1.0
    assert fields.reached_share(dist, free) == 1.0


def test_units_stand_for_lengths():
    assert np.allclose(UNIT * np.array([5, 7, 11]), [6, 6 * 2**0.5, 6 * 5**0.5], rtol=0.02)
