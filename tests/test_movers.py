"""Where deadly things will be: their places in the simulator's own frames, and arcs that run into them."""

import numpy as np
import pytest
from hand_made import ROW, ground, level, middle
from test_arcs import CLEAR, DIES, HOP, RUN_RIGHT, STAY, TIME, UP, hold
from test_observations import NONE, RIGHT, patch_points

from npp_rl.environment.arcs import ARCS, FRAMES
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import LOOK
from npp_rl.environment.graph import MINE_NODES, MINES
from npp_rl.environment.movers import MOVERS, SOON
from npp_rl.levels.datasets import load_levels
from npp_rl.simulator import DEAD
from npp_rl.simulator.layout import BOUNCE_BLOCK, DEATH_BALL, FLOOR_GUARD, MINI_DRONE, SHOVE_THWUMP, THWUMP, ZAP_DRONE

KINDS = (ZAP_DRONE, FLOOR_GUARD, THWUMP, DEATH_BALL, MINI_DRONE, SHOVE_THWUMP)
ROOM = ground((4, 8, 20, ROW))
EXIT = [(middle(40, 20), middle(41, 20))]


def room(*others, spawn=(8, ROW), tiles=ROOM, **more):
    return level(tiles, middle(*spawn), EXIT, others=others, **more)


def played(made, actions=(NONE,) * 4):
    """An environment of one game with arcs, after some actions."""
    envs = NppVectorEnv(1, [made], ("reachability", "arcs"), frame_skip=4, autoreset=False, max_frames=9999)
    envs.reset(seed=0)
    for action in actions:
        envs.step([action])
    return envs


def over(envs):
    """Whether the only game has ended."""
    return envs._state.ninja["state"][0] >= DEAD


def foretold(envs, i=0):
    """For each arc: the frame in which it dies (0: it does not), and the simulator's, with the arc's end."""
    said, saved = envs._obs["arcs"][i].copy(), envs._rows.copy()
    out = np.zeros((FRAMES, 2))
    rows = []
    for k in range(ARCS):
        ended = hold(envs._bank, envs._state, i, (0, -1, 1)[k % 3], (0, FRAMES, 4)[k // 3], out)
        ninja = envs._state.ninja[i]
        died = ended if ninja["state"] == DEAD else 0
        cause = int(ninja["cause"]) if died else 0
        envs._rows[:] = saved
        says = round(float(1 - said[k, DIES]) * FRAMES) if said[k, DIES] > 0 else 0
        rows.append((says, died, round(float(said[k, TIME]) * FRAMES), cause))
    return rows


def check(envs, off=1):
    """Arcs that die do so when the simulator says -> deaths. off: frames by which an arc may be wrong."""
    rows = foretold(envs)
    assert not [row for row in rows if amiss(row, off)]
    return sum(row[0] > 0 for row in rows)


def amiss(row, off):
    """Whether an arc is wrong about its death; a row of `foretold`."""
    says, died, end, _ = row
    return abs(says - died) > off if says else 0 < died <= min(end, FRAMES - 1)


def places(envs, frames):
    """Places of the movers in the next frames, without input, f8 [movers, frames + 1, 2]; the game stays as it is."""
    saved = envs._rows.copy()
    state = envs._state
    found = [np.stack((state.mover["x"][0], state.mover["y"][0]), 1)]
    for _ in range(frames):
        hold(envs._bank, state, 0, 0, 0, np.zeros((1, 2)))
        found.append(np.stack((state.mover["x"][0], state.mover["y"][0]), 1))
    envs._rows[:] = saved
    return np.stack(found, 1)


def listed(envs):
    """The movers that are listed for the only game."""
    envs._advance(LOOK)
    around = envs._views.around[0]
    return around["movers"][: around["count"]]


@pytest.mark.parametrize("kind", [ZAP_DRONE, MINI_DRONE])
@pytest.mark.parametrize("seed", range(3))
def test_drones_are_where_the_simulator_moves_them(kind, seed):
    """All modes and directions, among random walls and closed doors, for as many frames as are looked ahead."""
    random = np.random.default_rng(seed)
    tiles = random.choice(38, (23, 42), p=[0.7] + [0.3 / 37] * 37).astype(np.uint8)
    tiles[9:13, 15:22] = 0
    cells = random.permutation([(column, row) for column in range(8, 30) for row in range(4, 20)])[:16]
    drones = [(kind, middle(*cell.tolist()), 2 * (k // 4), k % 4) for k, cell in enumerate(cells)]
    door = [((24 * 12, 24 * 12 + 12), 0, middle(40, 3))]
    envs = played(room(*drones, spawn=(18, 12), tiles=tiles, locked=door), [RIGHT, NONE])
    found = listed(envs)
    before = envs._rows.copy()
    there = places(envs, FRAMES)
    assert len(found) == 16 and np.abs(there[:, 0] - there[:, -1]).max() > 30
    at = {(x, y): slot for slot, (x, y) in enumerate(there[:, 0].tolist())}
    for o in found:
        assert o["path"] == pytest.approx(there[at[o["x"], o["y"]]], abs=1e-3)
        inside = there[at[o["x"], o["y"]]]
        assert o["left"] <= inside[:, 0].min() + 1e-6 and inside[:, 0].max() <= o["right"] + 1e-6
        assert o["top"] <= inside[:, 1].min() + 1e-6 and inside[:, 1].max() <= o["bottom"] + 1e-6
    assert (envs._rows == before).all()


@pytest.mark.parametrize("kind", [ZAP_DRONE, MINI_DRONE])
@pytest.mark.parametrize("mode", range(4))
def test_an_arc_dies_when_a_drone_comes(kind, mode):
    """The ninja stands, runs and jumps in a room in which a drone flies, and dies in the simulator's frame.

    A few pass less than a px beside the drone, and differ, since arcs are not exact.
    """
    deaths = exact = wrong = 0
    for orientation in (0, 2, 4, 6):
        for column, row in ((12, ROW), (11, 9), (5, ROW), (7, 8), (13, 10)):
            envs = played(room((kind, middle(column, row), orientation, mode)))
            while envs._state.ninja["frame"][0] < 40 and not over(envs):
                rows = foretold(envs)
                deaths += sum(row[0] > 0 for row in rows)
                exact += sum(row[0] == row[1] > 0 for row in rows)
                wrong += sum(amiss(row, 1) for row in rows)
                envs.step([NONE])
    assert deaths > 60 and exact > 0.85 * deaths and wrong <= 0.1 * deaths, (deaths, exact, wrong)


def test_a_drone_that_comes_is_deadly_in_the_very_frame_and_one_that_leaves_is_not():
    corridor = ground((4, ROW, 30, ROW))
    envs = played(room((ZAP_DRONE, middle(10, ROW), 4, 0), spawn=(6, ROW), tiles=corridor))
    rows = foretold(envs)
    for arc in (STAY, RUN_RIGHT):
        assert rows[arc][0] == rows[arc][1] > 10 and rows[arc][3] == ZAP_DRONE
    envs = played(room((ZAP_DRONE, middle(8, ROW), 0, 0), spawn=(6, ROW), tiles=corridor))
    rows = foretold(envs)
    assert rows[STAY][:2] == (0, 0) and rows[RUN_RIGHT][0] == rows[RUN_RIGHT][1] > 0


def test_a_guard_wakes_in_its_row_and_runs():
    """It comes as soon as the ninja is in its row; a step in the floor and a wall stop it."""
    tiles = ground((4, 6, 30, ROW))
    guard = (middle(20, ROW)[0], middle(20, ROW)[1] + 6)
    envs = played(room((FLOOR_GUARD, guard, 0, 0), tiles=tiles))
    rows = foretold(envs)
    assert rows[STAY][0] == rows[STAY][1] > 20 and check(envs) >= 3
    # From above it is still until the ninja comes down.
    tiles = ground((4, 6, 30, ROW))
    tiles[9, 3:12] = 1
    envs = played(room((FLOOR_GUARD, guard, 0, 0), spawn=(12, 9), tiles=tiles), [NONE] * 2)
    seen = 0
    while not over(envs):
        seen += check(envs, off=2)
        envs.step([RIGHT])
    assert seen > 3
    # Behind a wall, and beyond a gap in the floor.
    walled = ground((4, 6, 12, ROW), (14, 6, 30, ROW))
    assert check(played(room((FLOOR_GUARD, guard, 0, 0), tiles=walled))) == 0
    gap = ground((4, 6, 30, ROW), (14, ROW, 15, ROW + 3))
    envs = played(room((FLOOR_GUARD, guard, 0, 0), tiles=gap))
    (o,) = listed(envs)
    there = places(envs, 60)[:, :, 0]
    assert o["low"] == pytest.approx(there.min(), abs=1e-6) and foretold(envs)[STAY][:2] == (0, 0)
    assert o["left"] <= 24 * 4 and o["go_x"] == 0  # the ninja has woken it


@pytest.mark.parametrize("orientation", [0, 2, 4, 6])
def test_a_thwump_kills_with_its_face_when_the_ninja_is_in_its_lane(orientation):
    tiles = ground((4, 4, 30, ROW))
    place = {0: (5, ROW), 2: (10, 5), 4: (20, ROW), 6: (10, ROW)}[orientation]
    spawn = {0: (12, ROW), 2: (10, ROW), 4: (12, ROW), 6: (10, 6)}[orientation]
    envs = played(room((THWUMP, middle(*place), orientation, 0), spawn=spawn, tiles=tiles), [NONE])
    found = [foretold(envs)]
    for _ in range(8):
        envs.step([NONE])
        if over(envs):
            break
        found.append(foretold(envs))
    rows = [row for rows in found for row in rows[: 1 if orientation == 6 else 3]]
    crushed = [row for row in rows if row[0] or (row[3] == THWUMP and row[1] <= row[2])]
    assert len(crushed) > 2
    for says, died, _, _ in crushed:
        assert abs(says - died) <= 1


def test_a_thwump_goes_forth_and_back_as_the_simulator_moves_it():
    tiles = ground((4, 4, 30, ROW))
    for orientation, place in ((2, (15, 5)), (6, (15, ROW)), (0, (6, 8)), (4, (28, 8))):
        made = room((THWUMP, middle(*place), orientation, 0), spawn=(16, ROW), tiles=tiles)
        envs = played(made, [NONE] * 2)
        moved = 0
        for _ in range(40):
            (o,) = listed(envs)
            there = places(envs, SOON[-1])
            slot = int(np.flatnonzero(envs._state.mover["kind"][0] == THWUMP)[0])
            assert o["path"][list(SOON)] == pytest.approx(there[slot, list(SOON)], abs=1e-3)
            moved += o["state"] != 0
            envs.step([NONE])
        assert moved > 20 or orientation in (0, 4)


def test_beside_a_thwump_that_falls_the_ninja_lives():
    tiles = ground((4, 4, 30, ROW))
    x = middle(10, ROW)[0]
    envs = played(room((THWUMP, (x + 30, 24 * 5 + 12), 2, 0), spawn=(10, ROW), tiles=tiles))
    for _ in range(25):
        assert foretold(envs)[STAY][:2] == (0, 0)
        envs.step([NONE])


def test_a_ball_flies_towards_the_ninja_of_each_arc():
    """Within a few frames of the simulator's, since walls and far flights are approximate."""
    tiles = ground((4, 4, 30, ROW))
    envs = played(room((DEATH_BALL, middle(11, ROW), 0, 0), tiles=tiles), [NONE] * 4)
    seen = 0
    while not over(envs):
        seen += check(envs, off=3)
        envs.step([NONE])
    assert seen > 10


def test_a_shove_thwump_that_rests_is_no_hazard_and_one_that_flies_is():
    made = room((SHOVE_THWUMP, middle(10, ROW), 0, 0), spawn=(9, ROW), tiles=ground((4, 8, 16, ROW)))
    envs = played(made)
    assert len(listed(envs)) == 0 and envs._obs["arcs"][0, STAY, CLEAR] == 1
    slot = int(np.flatnonzero(envs._state.mover["kind"][0] == SHOVE_THWUMP)[0])
    flew = 0
    for action in [RIGHT] * 4 + [4] * 30:  # against it, then away
        envs.step([action])
        if over(envs):
            break
        found = listed(envs)
        if len(found):
            there = places(envs, FRAMES)[slot]
            assert found[0]["path"] == pytest.approx(there, abs=1e-3)
            flew += 1
            check(envs, off=2)
    assert flew > 5


def test_of_more_movers_than_are_listed_the_near_ones_count():
    tiles = ground((1, ROW, 42, ROW))
    far = [
        (ZAP_DRONE, (middle(15, ROW)[0] + 6 * (k % 6), middle(15, 3)[1] + 6 * (k // 6)), 0, 0)
        for k in range(MOVERS + 4)
    ]
    made = room(*far, (ZAP_DRONE, middle(11, ROW), 4, 0), spawn=(6, ROW), tiles=tiles)
    envs = played(made)
    assert len(listed(envs)) == MOVERS and foretold(envs)[RUN_RIGHT][0] == foretold(envs)[RUN_RIGHT][1] > 0


def test_a_ninja_that_stands_sees_what_comes():
    """An arc that stands still goes on for FRAMES frames where something moves."""
    corridor = ground((4, ROW, 30, ROW))
    envs = played(room((MINI_DRONE, middle(10, ROW), 4, 0), spawn=(6, ROW), tiles=corridor), [NONE] * 8)
    rows = foretold(envs)
    assert rows[STAY][0] == rows[STAY][1] > 30
    assert [row[:2] for row in rows[UP : UP + 1]] == [rows[UP][:2]] and rows[HOP][0] == rows[HOP][1]


def test_arcs_foretell_deaths_by_movers_on_levels_that_people_made(shared):
    """Random play, each arc held in the simulator; with hazards held in place under half of these were foretold."""
    file = shared / "levels" / "community" / "ape_SI.txt"
    if not file.is_file():
        pytest.skip("no levels that people made")
    made = [one for one in load_levels(file, "all") if np.isin(one.entities[:, 0], KINDS).any()][:40]
    assert len(made) > 15
    envs = NppVectorEnv(len(made), made, ("arcs",), seed=0, copy=False)
    envs.reset(seed=0, options={"levels": np.arange(len(made))})
    random = np.random.default_rng(0)
    actions = random.integers(0, 6, len(made))
    right = wrong = late = missed = 0
    for step in range(160):
        actions = np.where(random.random(len(made)) < 0.25, random.integers(0, 6, len(made)), actions)
        envs.step(actions)
        if step % 10 != 9:
            continue
        saved = envs._rows.copy()
        said = envs._obs["arcs"].copy()
        envs._state.mover["x"][np.isin(envs._state.mover["kind"], KINDS)] = -1e6
        envs._advance(LOOK)
        without = envs._obs["arcs"].copy()  # what the arcs say if nothing moves
        envs._obs["arcs"][:] = said
        envs._rows[:] = saved
        for i in range(len(made)):
            for k, (says, died, end, cause) in enumerate(foretold(envs, i)):
                if says and said[i, k, DIES] > without[i, k, DIES] + 1e-4:
                    right += cause in KINDS and abs(died - says) <= 3
                    late += cause in KINDS and 3 < abs(died - says) <= 12
                    wrong += cause not in KINDS or abs(died - says) > 12
                elif not says:
                    missed += cause in KINDS and died <= end
    assert right > 100
    assert right / (right + late + wrong) > 0.65
    assert (right + late) / (right + late + missed) > 0.85


def stamped(points, places):
    """The hazards' layer u1 [15, 15] of a patch: places are (x, y, radius, value)."""
    x, y = points
    layer = np.zeros(x.shape, int)
    for px, py, radius, value in places:
        inside = np.clip((radius + 12 - np.hypot(x - px, y - py)) / 12, 0, 1)
        layer = np.maximum(layer, (value * inside).astype(int))
    return layer


def test_a_patch_shows_where_movers_will_be_and_where_they_would_go():
    corridor = ground((4, ROW, 30, ROW))
    made = room((ZAP_DRONE, middle(11, ROW), 4, 0), spawn=(8, ROW), tiles=corridor)
    obs = NppVectorEnv(1, [made], ("local_tiles",)).reset(seed=0)[0]["local_tiles"][0]
    x, y = middle(11, ROW)
    fading = zip((0, *SOON), (255, 208, 176, 144, 112), strict=True)
    drone = [(x - 8 / 7 * t, y, 19.5, value) for t, value in fading]
    expected = stamped(patch_points(*middle(8, ROW)), drone)
    assert np.abs(obs[1].astype(int) - expected).max() <= 1 and set(np.unique(expected)) >= {255, 208}


def test_a_patch_shows_the_lane_and_the_body_of_a_thwump_that_waits():
    tiles = ground((4, 4, 20, ROW))
    x, y = middle(10, 8)
    made = room((THWUMP, (x, y), 0, 0), (BOUNCE_BLOCK, (x - 48, y), 0, 0), spawn=(9, 11), tiles=tiles)
    envs = NppVectorEnv(1, [made], ("local_tiles",))
    obs = envs.reset(seed=0)[0]["local_tiles"][0]
    points = patch_points(*middle(9, 11))
    (o,) = envs._views.around[0]["movers"][:1]
    assert not o["awake"] and o["go_x"] == 24 * 21 - 11 - x and o["go_y"] == 0
    steps = int(o["go_x"] / 12)
    lane = [(x + 11 + min(12 * k, o["go_x"]), y + end, 14, 64) for k in range(steps + 1) for end in (-7, 7)]
    now = [(x + 11, y + end, 14, 255) for end in (-7, 7)]
    assert np.abs(obs[1].astype(int) - stamped(points, lane + now)).max() <= 1
    distance = np.full(points[0].shape, 24.0)
    for px in (x, x - 48):
        dx, dy = np.maximum(np.abs(points[0] - px) - 9, 0), np.maximum(np.abs(points[1] - y) - 9, 0)
        distance = np.minimum(distance, np.hypot(dx, dy))
    assert (distance < 9).sum() > 3
    inside = (points[0] > 24 * 5) & (points[1] > 24 * 5) & (points[1] < 24 * 12)  # away from the room's walls
    assert np.abs(obs[0].astype(int) - (255 * distance / 24).astype(int))[inside].max() <= 1


def test_a_graph_describes_movers_as_the_vectors_do():
    made = room((MINI_DRONE, middle(12, ROW), 4, 0), (FLOOR_GUARD, (middle(16, ROW)[0], 306), 0, 0))
    obs = NppVectorEnv(1, [made], ("reachability", "graph_nodes", "graph_node_mask")).reset(seed=0)[0]
    seen, nodes = obs["reachability"][0, 68:].reshape(4, 15), obs["graph_nodes"][0, MINES : MINES + MINE_NODES]
    assert obs["graph_node_mask"][0, MINES : MINES + MINE_NODES].tolist() == [1, 1] + [0] * 10
    assert seen[:2, 8:10].tolist() == [[1, 0], [0, 1]] or seen[:2, 8:10].tolist() == [[0, 1], [1, 0]]
    assert nodes[:2, 9:20] == pytest.approx(seen[:2, 4:]) and (nodes[:2, 6] == 1).all()
    assert nodes[:2, :2] * 96 == pytest.approx(seen[:2, :2] * 80, abs=1e-4)
    assert nodes[:2, 7] == pytest.approx(seen[:2, 3])
