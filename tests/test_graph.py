"""The level graph: hand-made levels whose nodes and edges are known, and a slow search over many levels."""

import numpy as np
import pytest
from free_space import level_free_space

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.graph import (
    GRAPH_OBSERVATIONS,
    GRAPH_SLOTS,
    MINE_EDGES,
    MINE_NODES,
    RANGE,
    TILE_NODES,
    WAY_EDGES,
)
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.fields import COLS, DX, DY, UNREACHED
from npp_rl.levels.maps import Level, encode_map

FIRST = {name: first for name, first, _ in GRAPH_SLOTS}
NINJA, MINE, SWITCH, EXIT, DOOR = (FIRST[n] for n in ("ninja", "mine", "exit_switch", "exit_door", "locked_door"))
NONE, LEFT, RIGHT, JUMP = range(4)


def level(cells, entities, spawn=(5, 10)) -> Level:
    """A level that is solid but for `cells` (column, row); entities: (type, x, y), in px; the ninja in cell `spawn`."""
    tiles = np.ones((23, 42), np.uint8)
    for column, row in cells:
        tiles[row - 1, column - 1] = 0
    records = [(0, 24 * spawn[0] + 12, 24 * spawn[1] + 12), *entities]
    return Level(encode_map(tiles, [(kind, x // 6, y // 6, 0, 0) for kind, x, y in records]), "made", "made")


def middle(column, row):
    return 24 * column + 12, 24 * row + 12


def start(*levels):
    """Environment with one game on each level, and its graphs."""
    envs = NppVectorEnv(len(levels), levels=list(levels), observations=tuple(GRAPH_OBSERVATIONS))
    obs, _ = envs.reset(seed=0, options={"levels": np.arange(len(levels))})
    return envs, obs


def sources(lists, node):
    return [int(source) for source in lists[node] if source >= 0]


def cells_of(nodes, mask, x, y):
    """(column, row) of the tile nodes that are there, from the offsets to the ninja at (x, y) px."""
    offsets = nodes[:TILE_NODES][mask[:TILE_NODES] > 0, :2] * 96 + (x, y) - 12
    assert np.allclose(offsets / 24, np.round(offsets / 24), atol=1e-3)
    return [tuple(cell) for cell in np.round(offsets / 24).astype(int).tolist()]


# A corridor to the right, then up a shaft: the switch in it, the exit at its end.
CORRIDOR = [(column, 10) for column in range(5, 13)] + [(12, 9), (12, 8)]
EXITS = [(3, *middle(12, 8)), (4, *middle(9, 10))]


def test_corridor():
    _, obs = start(level(CORRIDOR, EXITS))
    nodes, mask, adjacent, reachable = (obs[name][0] for name in GRAPH_OBSERVATIONS)
    assert mask.sum() == len(CORRIDOR) + 3  # and the ninja, the switch, the exit
    assert cells_of(nodes, mask, *middle(5, 10)) == CORRIDOR
    last = len(CORRIDOR) - 1
    for t in range(len(CORRIDOR)):
        entities = {0: [NINJA], 4: [SWITCH], last: [EXIT]}.get(t, [])
        neighbours = [n for n in (t - 1, t + 1) if 0 <= n <= last]
        assert sorted(sources(adjacent, t)) == neighbours + entities
        # The way leads to the switch in the fifth cell, which the ninja touches from places in the sixth, too.
        assert sources(reachable, t) == ([t + 1] if t < 4 else [t - 1] if t > 5 else [])
        assert nodes[t, 2] * 8 == t
        assert nodes[t, 4] == 1
        assert nodes[t, 16] == (t == 4)
    assert nodes[0, 7:11].tolist() == [1, 0, 0, 0]
    assert nodes[1, 7:11].tolist() == [1, 0, 1, 0]
    assert nodes[7, 7:11].tolist() == [0, 0, 1, 1]
    assert np.allclose(nodes[:3, 5:7], [(1, 0)] * 3)
    assert np.allclose(nodes[4:9, 5:7], [(0, 0), (0, 0), (-1, 0), (-1, 0), (0, 1)])
    assert sources(adjacent, NINJA) == [0]
    assert sources(adjacent, SWITCH) == [4]
    assert sources(adjacent, EXIT) == [last]
    assert sources(reachable, NINJA) == [SWITCH, EXIT, 1, 2, 3, 4]
    assert sources(reachable, SWITCH) == sources(reachable, EXIT) == [NINJA]
    # Ways are 24 px from cell to cell, counted from the place in a cell that is nearest to the goal.
    assert np.allclose(np.diff(nodes[:4, 3]), -0.25, atol=0.05)
    assert nodes[SWITCH, :5].tolist() == pytest.approx([96 / 96, 0, 1, 1, 96 / 500])
    assert nodes[SWITCH, 5] * 500 == pytest.approx(96 - 16, abs=6)
    assert nodes[EXIT, :6].tolist() == pytest.approx([168 / 96, -48 / 96, 0, 0, np.hypot(168, 48) / 500, 0])
    # A cell of the corridor: the ninja's centre fits into its middle; solid ground is 6 px from the four points.
    assert np.allclose(nodes[1, 11:15], 6 / 24, atol=0.01)
    assert 0 < nodes[1, 15] < 1


def test_goal_moves_on_once_the_switch_is_hit():
    envs, obs = start(level(CORRIDOR, EXITS))
    assert obs["graph_nodes"][0, SWITCH, 2] == 1
    for _ in range(40):
        obs, *_ = envs.step([RIGHT])
        if obs["graph_nodes"][0, SWITCH, 2] == 0:
            break
    nodes, reachable = obs["graph_nodes"][0], obs["graph_reachable"][0]
    assert nodes[SWITCH, [2, 3, 5]].tolist() == [0, 0, 0]
    assert nodes[EXIT, 2:4].tolist() == [1, 1]
    assert nodes[EXIT, 5] > 0
    assert sources(reachable, NINJA)[:2] == [SWITCH, EXIT]
    assert nodes[NINJA, 2] > 0  # running to the right
    assert nodes[NINJA, 2] == nodes[NINJA, 4] > nodes[NINJA, 3] == 0


def test_closed_door_shuts_its_border_until_it_opens():
    door = [(6, 24 * 8, 24 * 10 + 12), (7, *middle(6, 10))]
    envs, obs = start(level(CORRIDOR, EXITS + door))
    nodes, mask, adjacent, reachable = (obs[name][0] for name in GRAPH_OBSERVATIONS)
    assert cells_of(nodes, mask, *middle(5, 10)) == CORRIDOR[:3]
    assert sources(adjacent, 2) == [1]
    assert nodes[2, 7:11].tolist() == [0, 0, 1, 0]
    assert nodes[DOOR, :9].tolist() == pytest.approx([60 / 96, 0, 24 / 96, 0, 1, 1, 0, 1, 24 / 500])
    assert sources(adjacent, DOOR) == [1]
    assert sources(reachable, NINJA)[:3] == [SWITCH, EXIT, DOOR]
    assert mask[[SWITCH, EXIT, DOOR]].tolist() == [1, 1, 1]
    assert sources(adjacent, SWITCH) == []
    for _ in range(40):
        obs, *_ = envs.step([RIGHT])
        if obs["graph_nodes"][0, DOOR, 4] == 0:
            break
    assert obs["graph_nodes"][0, DOOR, 4:6].tolist() == [0, 0]
    assert obs["graph_node_mask"][0, :TILE_NODES].sum() == len(CORRIDOR)
    assert sources(obs["graph_reachable"][0], NINJA)[:2] == [SWITCH, EXIT]
    assert DOOR not in sources(obs["graph_reachable"][0], NINJA)


def test_trap_door_is_a_door_that_stands_open():
    trap = [(8, 24 * 8, 24 * 10 + 12), (9, *middle(6, 10))]
    _, obs = start(level(CORRIDOR, EXITS + trap))
    assert obs["graph_nodes"][0, DOOR, 4:8].tolist() == [0, 0, 1, 1]
    assert obs["graph_node_mask"][0, :TILE_NODES].sum() == len(CORRIDOR)
    assert DOOR not in sources(obs["graph_reachable"][0], NINJA)


ROOM = [(column, row) for column in range(3, 35) for row in range(4, 20)]
ROOM_EXITS = [(3, *middle(30, 19)), (4, *middle(20, 19))]


def test_mines_are_ordered_by_distance():
    x, y = middle(10, 19)
    mines = [(1, x + 96, y), (21, x - 48, y), (1, x, y - 66), (1, x + int(RANGE) + 6, y), (21, x, y - 120)]
    _, obs = start(level(ROOM, [*ROOM_EXITS, *mines], spawn=(10, 19)))
    nodes, mask, adjacent, reachable = (obs[name][0] for name in GRAPH_OBSERVATIONS)
    assert mask[MINE : MINE + MINE_NODES].tolist() == [1, 1, 1, 1] + [0] * (MINE_NODES - 4)
    assert np.allclose(nodes[MINE : MINE + 4, :2] * 96, [(-48, 0), (0, -66), (96, 0), (0, -120)])
    assert np.allclose(nodes[MINE : MINE + 4, 2], 1 - np.array([48, 66, 96, 120]) / RANGE)
    assert nodes[MINE : MINE + 4, 3].tolist() == [0, 1, 1, 0]  # deadly
    assert nodes[MINE : MINE + 4, 4].tolist() == [1, 0, 0, 1]  # untoggled
    assert np.allclose(nodes[MINE : MINE + 4, 7] * 24, [13.5, 14, 14, 13.5])
    for m in range(MINE, MINE + 4):
        cell = tuple(((nodes[m, :2] * 96 + (x, y)) // 24).astype(int).tolist())
        tiles = cells_of(nodes, mask, x, y)
        assert sources(adjacent, m) == ([tiles.index(cell)] if cell in tiles else [])
        assert sources(reachable, m) == [NINJA]
        assert m in sources(reachable, NINJA)


def test_many_mines():
    x, y = middle(18, 12)
    mines = [(1, x + 24 * i, y + 24 * j) for i in range(-4, 5) for j in range(-4, 5) if abs(i) + abs(j) > 2]
    _, obs = start(level(ROOM, [*ROOM_EXITS, *mines], spawn=(18, 12)))
    nodes, mask, reachable = obs["graph_nodes"][0], obs["graph_node_mask"][0], obs["graph_reachable"][0]
    assert mask[MINE : MINE + MINE_NODES].all()
    distances = np.hypot(*nodes[MINE : MINE + MINE_NODES, :2].T) * 96
    expected = np.sort([np.hypot(i - x, j - y) for _, i, j in mines])[:MINE_NODES]
    assert np.allclose(distances, expected, atol=1e-3)
    linked = [n for n in sources(reachable, NINJA) if MINE <= n < MINE + MINE_NODES]
    assert linked == list(range(MINE, MINE + MINE_EDGES))
    assert all(sources(reachable, n) == ([NINJA] if n in linked else []) for n in range(MINE, MINE + MINE_NODES))


def test_level_without_an_exit():
    _, obs = start(level(CORRIDOR, []))
    assert obs["graph_node_mask"][0].sum() == len(CORRIDOR) + 1
    assert (obs["graph_reachable"] == -1).all()


def borders_of(free, cell):
    """Neighbouring cells (column, row), east, south, west, north, that free lattice nodes lead to across the border."""
    column, row = cell
    at = free.reshape(-1, COLS)
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        i, j = 4 * column + (3 if dx > 0 else 0), 4 * row + (3 if dy > 0 else 0)
        here = at[j : j + 1 + 3 * (dx != 0), i : i + 1 + 3 * (dy != 0)]
        there = at[j + dy : j + dy + 1 + 3 * (dx != 0), i + dx : i + dx + 1 + 3 * (dy != 0)]
        if ((here != 0) & (there != 0)).any():
            yield column + dx, row + dy


@pytest.fixture(scope="module")
def played():
    """Environment on levels of all categories after 60 random steps, and the observation."""
    levels = load_levels("builtin", "test")[::5]
    envs = NppVectorEnv(len(levels), levels=levels, observations=tuple(GRAPH_OBSERVATIONS))
    envs.reset(seed=0, options={"levels": np.arange(len(levels))})
    rng = np.random.default_rng(0)
    for _ in range(60):
        obs, *_ = envs.step(rng.integers(0, 6, len(levels)))
    return envs, obs


def test_tiles_are_found_breadth_first(played):
    envs, obs = played
    compared = 0
    for i in range(envs.num_envs):
        ninja = envs._state.ninja[i]
        nodes, mask, adjacent, reachable = (obs[name][i] for name in GRAPH_OBSERVATIONS)
        if mask[DOOR:].any():
            continue
        free = level_free_space(envs.levels[ninja["level"]].tiles)
        cells = cells_of(nodes, mask, ninja["x"], ninja["y"])
        near = [(int(ninja["x"] // 6) + di, int(ninja["y"] // 6) + dj) for dj in (0, 1) for di in (0, 1)]
        near = [
            (np.hypot(6 * a - ninja["x"], 6 * b - ninja["y"]), a // 4, b // 4) for a, b in near if free[b * COLS + a]
        ]
        assert cells[0] == min(near)[1:]
        queue = [cells[0]]
        for cell in queue:
            for next_cell in borders_of(free, cell):
                if next_cell not in queue and len(queue) < TILE_NODES:
                    queue.append(next_cell)
        assert cells == queue
        goal = envs._goals[i]
        dist, ahead = envs._fields.dist[goal["field"]], envs._fields.ahead[goal["field"]]
        for t, cell in enumerate(cells):
            expected = [cells.index(c) for c in borders_of(free, cell) if c in cells]
            assert [s for s in sources(adjacent, t) if s < TILE_NODES] == expected
            places = [(4 * cell[1] + k // 4) * COLS + 4 * cell[0] + k % 4 for k in range(16)]
            best = min(places, key=lambda place: dist[place])
            if dist[best] == UNREACHED or ahead[best] >= 16:
                assert sources(reachable, t) == []
            else:
                following = (best % COLS + DX[ahead[best]]) // 4, (best // COLS + DY[ahead[best]]) // 4
                assert sources(reachable, t) == ([cells.index(following)] if following in cells else [])
        compared += 1
    assert compared > 30


def test_padding_holds_nothing(played):
    _, obs = played
    nodes, mask, adjacent, reachable = (obs[name] for name in GRAPH_OBSERVATIONS)
    assert set(np.unique(mask)) == {0, 1}
    assert (nodes[mask == 0] == 0).all()
    assert np.isfinite(nodes).all()
    assert np.abs(nodes).max() < 5
    assert mask[:, NINJA].all()
    assert mask[:, 0].all()
    for name, first, count in GRAPH_SLOTS:  # slots of a type are filled from the first
        assert (np.diff(mask[:, first : first + count].astype(int)) <= 0).all(), name
    for lists in (adjacent, reachable):
        assert (lists[mask == 0] == -1).all()
        assert ((lists[..., 1:] < 0) | (lists[..., :-1] >= 0)).all()  # no edge after the last
        game, target, slot = (lists >= 0).nonzero()
        source = lists[game, target, slot]
        assert len(source) > 20 * len(mask)
        assert mask[game, source].all()
        assert (source != target).all()
        assert len(np.unique(np.stack([game, target, source]), axis=1).T) == len(source)


def test_adjacency_is_symmetric(played):
    _, obs = played
    for lists in obs["graph_adjacent"]:
        edges = {(target, source) for target in range(len(lists)) for source in sources(lists, target)}
        assert edges == {(source, target) for target, source in edges}
    for lists in obs["graph_reachable"]:  # with the ninja, but for the tiles on its way
        linked = [s for s in sources(lists, NINJA) if s >= TILE_NODES]
        assert linked == [t for t in (*range(SWITCH, len(lists)), *range(MINE, SWITCH)) if NINJA in sources(lists, t)]
        on_the_way = [s for s in sources(lists, NINJA) if s < TILE_NODES]
        walked, t = [], 0
        while len(walked) < WAY_EDGES and sources(lists, t):
            t = sources(lists, t)[0]
            walked.append(t)
        assert on_the_way == walked


def test_graph_depends_on_the_game_alone(played):
    """Scratch memory keeps nothing: another environment that takes over the games sees the same graphs."""
    envs, obs = played
    other = NppVectorEnv(envs.num_envs, levels=envs.levels, observations=("graph_adjacent", *GRAPH_OBSERVATIONS))
    other.reset(seed=1)
    for _ in range(3):
        other.step(np.full(envs.num_envs, LEFT))
    restored = other.set_state(envs.get_state())
    for name in GRAPH_OBSERVATIONS:
        assert np.array_equal(restored[name], obs[name]), name
