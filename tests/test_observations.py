"""What an agent sees: known entries on hand-made levels, patches against naive ones, mirrored levels."""

import time

import numpy as np
import pytest
from free_space import way_length
from hand_made import CORRIDOR, ROW, corridor, ground, here, level, middle

from npp_rl.environment.env import NppEnv, NppVectorEnv
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.environment.goals import level_fields
from npp_rl.environment.observations import PATCH, level_clearances
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.fields import NODES, TOUCH_SWITCH
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level
from npp_rl.simulator import build_bank

NONE, LEFT, RIGHT, JUMP, JUMP_LEFT, JUMP_RIGHT = range(6)
STANDING, RUNNING, SLIDING, JUMPING, FALLING, WALL_SLIDING = range(3, 9)  # entries of game_state
HALL = ground((1, 4, 42, ROW))


def watch(made, actions, **arguments):
    """Observations from the reset on, and the game's internal record of the ninja after each."""
    env = NppEnv(levels=[made], **arguments)
    observations, ninjas = [env.reset()[0]], [env._envs._state.ninja[0].copy()]
    for action in actions:
        observations.append(env.step(action)[0])
        ninjas.append(env._envs._state.ninja[0].copy())
    return observations, ninjas


def test_at_the_start():
    (obs, *_), _ = watch(corridor(5), [])
    expected = np.zeros(34)
    expected[STANDING] = 1
    expected[13] = -1  # floor normal
    expected[[25, 26]] = 0.5  # place in the tile
    expected[29] = 1
    assert obs["game_state"] == pytest.approx(expected, abs=1e-6)


def test_velocity_position_and_time():
    observations, ninjas = watch(level(HALL, middle(5, 11), [(here(30), here(20))]), [RIGHT] * 12 + [JUMP_RIGHT] * 6)
    limit = NppEnv(levels=[level(HALL, middle(5, 11), [(here(30), here(20))])], max_frames=200)
    limit.reset()
    for k, (obs, n) in enumerate(zip(observations, ninjas, strict=True)):
        g = obs["game_state"]
        assert g[:3] == pytest.approx([0.3 * n["u"], 0.3 * n["v"], 0.3 * np.hypot(n["u"], n["v"])], abs=1e-6)
        assert g[25:27] == pytest.approx([n["x"] / 24 % 1, n["y"] / 24 % 1], abs=1e-5)
        off = np.array([n["x"], n["y"]]) / 6
        assert g[27:29] == pytest.approx(off - np.round(off), abs=1e-5) and np.abs(g[27:29]).max() <= 0.5
        assert g[22] == (0 if k == 0 else 1) and g[21] == (k > 12)
        assert g[3:9].sum() == 1 and g[3 + n["state"]] == 1
        if k:
            assert limit.step(NONE)[0]["game_state"][29] == pytest.approx(1 - 4 * k / 200, abs=1e-6)
    assert np.abs(observations[12]["game_state"][0]) > 0.3  # it ran


def test_states_contacts_and_buffers_of_a_jump():
    """Frame by frame: on the floor, a jump held, its end, and a jump pressed in the air (PHYSICS.md 4.10)."""
    made = level(HALL, (middle(5, 11)[0], 24 * 13 - 12), [(here(30), here(20))])
    actions = [NONE] * 12 + [JUMP] * 5 + [NONE] * 2 + [JUMP] + [NONE] * 6
    observations, ninjas = watch(made, actions, frame_skip=1)
    g = np.array([obs["game_state"] for obs in observations])
    assert ninjas[12]["y"] == 24 * 13 - 10  # on the floor
    assert g[12, STANDING] == 1 and g[12, 9] == 0 and g[12, 32] == 0.5 and g[12, 15] == pytest.approx(1 / 6)
    assert g[12, [12, 13]].tolist() == [0, -1]
    assert g[12, 19] == 0
    # The jump starts in the first frame that it is pressed; reduced gravity acts while it is held.
    assert (g[13:18, JUMPING] == 1).all() and (g[13:18, 19] == 1).all()
    assert g[13:18, 18] == pytest.approx(np.arange(5) / 45, abs=1e-6)
    assert (g[14:18, 9] == 1).all() and (g[14:18, 32] == 0).all()
    assert g[18, FALLING] == 1 and g[18, 19] == 0 and g[18, 18] == 0
    assert (g[13:18, 21] == 1).all() and g[18, 21] == 0
    # Pressed in the air: the buffer runs from 0 to 5, then is off.
    assert g[20:27, 14] == pytest.approx(np.array([1, 2, 3, 4, 5, 6, 0]) / 6, abs=1e-6)
    assert (g[:20, 14] == 0).all()
    assert (g[:, [10, 11, 16, 17, 20, 23, 24]] == 0).all()


def test_walls():
    shaft = ground((5, 2, 6, 20))
    left = level(shaft, (middle(5, 3)[0], middle(5, 3)[1]), [(middle(6, 20), middle(5, 20))])
    observations, ninjas = watch(left, [LEFT] * 20, frame_skip=1)
    g = observations[-1]["game_state"]
    assert ninjas[-1]["walled"] and ninjas[-1]["x"] == 130.0
    assert g[10] == g[11] == 1.0 and g[16] == pytest.approx(1 / 6)
    assert g[WALL_SLIDING] == 1 and g[22] == -1
    # Away from it the normal stays, the contact does not, and the buffer runs.
    observations, ninjas = watch(left, [LEFT] * 20 + [RIGHT] * 8, frame_skip=1)
    g = np.array([obs["game_state"] for obs in observations[21:]])
    off = int(np.flatnonzero(g[:, 10] == 0)[0])
    assert (g[off:, 10] == 0).all() and (g[:, 11] == 1).all()
    assert g[off, 16] == pytest.approx(2 / 6) and g[off + 1, 16] == pytest.approx(3 / 6)
    right = level(shaft, (middle(6, 3)[0], middle(6, 3)[1]), [(middle(6, 20), middle(5, 20))])
    g = watch(right, [RIGHT] * 20, frame_skip=1)[0][-1]["game_state"]
    assert g[10] == g[11] == -1.0


def test_launch_pad_and_its_buffer():
    made = level(HALL, (middle(5, ROW)[0], middle(5, ROW)[1]), [(here(30), here(20))], others=[(10, here(8), 6, 0)])
    observations, _ = watch(made, [RIGHT] * 60, frame_skip=1)
    g = np.array([obs["game_state"] for obs in observations])
    hit = int(np.flatnonzero(g[:, 17] > 0)[0])
    assert g[hit : hit + 4, 17] == pytest.approx(np.array([2, 3, 4, 0]) / 6, abs=1e-6)
    assert g[hit, 23:25] == pytest.approx([0, -1], abs=1e-6) and g[hit, 1] < -1
    assert (g[hit + 3 :, 23:25] == 0).all() and g[hit, FALLING] == 1


def test_switches_and_doors_in_game_state():
    """Two exits, a locked, a trap and a regular door: hit and closed shares step by step."""
    made = level(
        CORRIDOR, here(5), [(here(38), here(8)), (here(40), here(26))],
        locked=[((720, 300), 0, here(14))], trap=[((120, 300), 0, here(20))], others=[(5, (264, 300), 0, 0)],
    )  # fmt: skip
    observations, ninjas = watch(made, [RIGHT] * 60)
    g = np.array([obs["game_state"] for obs in observations])
    x = np.array([n["x"] for n in ninjas])
    hit, closed = g[:, 30], g[:, 31]

    def after(column, reach):
        return x > here(column)[0] - reach

    assert hit == pytest.approx(0.5 * after(8, 16) + 0.5 * after(26, 16))
    assert closed == pytest.approx(0.5 - 0.5 * after(14, 15) + 0.5 * after(20, 15))
    assert x[-1] > here(27)[0]


def test_look_ahead_in_a_straight_corridor():
    (obs, *_), _ = watch(corridor(spawn=5, switch=30, door=38), [])
    points = obs["reachability"][8:26].reshape(6, 3)
    assert points == pytest.approx(np.tile([1.0, 0.0, 1.0], (6, 1)), abs=1e-6)
    # A way that ends at 12 px before the switch, the first node that touches it.
    (obs, *_), _ = watch(corridor(spawn=5, switch=9, door=38), [])
    points = obs["reachability"][8:26].reshape(6, 3)
    lengths = np.minimum([24, 48, 96, 144, 240, 400], 4 * 24 - 12)
    assert points[:, :2] == pytest.approx(np.tile([1.0, 0.0], (6, 1)), abs=1e-6)
    assert points[:, 2] == pytest.approx(lengths / [24, 48, 96, 144, 240, 400], abs=1e-6)


def test_look_ahead_round_a_corner_and_velocity_along_the_way():
    tiles = ground((5, 5, 15, 5), (15, 5, 15, 22))
    made = level(tiles, middle(11, 5), [(middle(15, 22), middle(15, 20))])
    observations, ninjas = watch(made, [RIGHT] * 3)
    points = observations[0]["reachability"][8:26].reshape(6, 3) * [[1, 1, d] for d in (24, 48, 96, 144, 240, 400)]
    offsets = points[:, :2] * points[:, 2:]
    assert offsets[:2] == pytest.approx(np.array([[24, 0], [48, 0]]), abs=1e-4)
    # 96 px to the corner, where steps across it save up to 9 px; then straight down, to 12 px before the switch.
    assert offsets[3:, 0] == pytest.approx(96, abs=1e-4)
    assert offsets[3:, 1] == pytest.approx([144 - 96, 240 - 96, 400 - 96], abs=9)
    assert (offsets[3:, 1] >= [144 - 96, 240 - 96, 400 - 96]).all()
    assert offsets[2, 0] > 85 and -1 < offsets[2, 1] < 15
    r, n = observations[-1]["reachability"], ninjas[-1]
    assert n["u"] > 0.3
    assert r[26] == pytest.approx(0.3 * (n["u"] * r[8] + n["v"] * r[9]), abs=1e-6)
    assert r[27] == pytest.approx(0.3 * (n["v"] * r[8] - n["u"] * r[9]), abs=1e-6)
    assert r[26] > 0.1 and abs(r[27]) < 0.1


def test_hazards_nearest_first():
    at = middle(20, 8)
    offsets = ((90, 0), (-60, 30), (0, -48), (150, 0), (0, 162), (120, 108))  # the last two are out of sight
    offsets += ((78, 6), (-84, 6), (-66, 48), (-96, 0), (102, 12), (-108, 0))
    places = [(at[0] + dx, at[1] + dy) for dx, dy in offsets]
    exits = [(here(30), here(25))]
    deadly = level(HALL, at, exits, mines=places[::2], toggle_mines=places[1::2])
    (obs, *_), _ = watch(deadly, [])
    hazards = obs["reachability"][34:66].reshape(8, 4)
    expected = []
    near = sorted(enumerate(offsets), key=lambda item: np.hypot(*item[1]))[:8]
    assert [k for k, _ in near] == [2, 1, 6, 8, 7, 0, 9, 10]
    for k, (dx, dy) in near:
        expected.append([dx / 80, dy / 80, 1 - np.hypot(dx, dy) / 160, 0.5 if k % 2 else 1.0])
    assert hazards == pytest.approx(np.array(expected), abs=1e-6)
    # Nothing beyond 160 px, and zeros where there are fewer than eight.
    (obs, *_), _ = watch(level(HALL, at, exits, mines=places[3:5]), [])
    hazards = obs["reachability"][34:66].reshape(8, 4)
    assert hazards[0] == pytest.approx([150 / 80, 0, 1 - 150 / 160, 1.0], abs=1e-6) and not hazards[1:].any()
    assert not obs["reachability"][68:].any()


def test_movers_have_slots_of_their_own_with_where_they_will_be():
    """A floor guard that the ninja wakes runs at 24/7 px a frame, from the second frame on (PHYSICS.md 5.13)."""
    mines = [(here(20)[0] + 6 * k, here(20)[1] - 12) for k in range(3, 15)]
    guard = (16, (here(23)[0], here(23)[1] + 6), 0, 0)
    made = level(CORRIDOR, here(20), [(here(30), here(25))], others=[guard], mines=mines)
    env = NppEnv(levels=[made])
    obs = env.reset()[0]
    ran = 24 / 7
    nearest = np.hypot(72 - 23 * ran, 6)  # at frame 24
    expected = [72 / 80, 6 / 80, 1 - nearest / 250, 16 / 24, -7 * ran / 24, 0, -2, 0, 0, 1, 0, 0, 1, 0, 0]
    assert obs["reachability"][68:83] == pytest.approx(expected, abs=1e-4)
    assert not obs["reachability"][83:].any() and (obs["reachability"][37:66:4] == 1).all()
    obs = env.step(NONE)[0]
    n, m = env._envs._state.ninja[0], env._envs._state.mover[0]
    guard_x = next(x for x in m["x"] if x != here(30)[0])
    assert guard_x < here(23)[0]
    assert obs["reachability"][68] == pytest.approx((guard_x - n["x"]) / 80, abs=1e-5)


def test_of_movers_what_comes_counts_before_what_leaves():
    """Six drones: the four with the least distance over the next 24 frames, and their kinds and velocities."""
    drones = [(14, here(24), 0, 0), (14, here(25), 4, 0), (26, here(15), 0, 0), (26, here(16), 4, 0)]
    drones += [(14, here(13), 0, 0), (14, here(31), 4, 0)]
    made = level(CORRIDOR, here(20), [(here(38), here(36))], others=drones)
    found = NppEnv(levels=[made]).reset()[0]["reachability"][68:].reshape(4, 15)
    speed = np.array([8 / 7, 1.3])
    away = {24: 4 * 24, 25: 5 * 24 - 24 * speed[0], 15: 5 * 24 - 24 * speed[1], 16: 4 * 24, 13: 7 * 24 - 24 * speed[0]}
    order = sorted(away, key=away.get)[:4]
    assert set(order) == {15, 25, 24, 16}
    assert sorted((80 * found[:, 0]).round()) == sorted(24.0 * (k - 20) for k in order)
    for row in found:
        k = 20 + round(80 * row[0] / 24)
        mini, side = k in (15, 16), 1 if k in (24, 15) else -1
        assert row[2] == pytest.approx(1 - away[k] / 250, abs=1e-4) and row[3] == pytest.approx(
            (14 if mini else 17.5) / 24
        )
        ahead = np.array([8, 24]) * side * speed[int(mini)] / 24
        assert row[[4, 6]] == pytest.approx(ahead, abs=1e-4) and not row[[5, 7]].any()
        assert row[8:].tolist() == [1, 0, 0, 0, 1, 0, 0]


def test_what_would_wake_a_thwump_and_a_guard_is_seen():
    tiles = ground((4, 4, 30, ROW))
    others = [(20, middle(20, 5), 2, 0), (16, (middle(18, ROW)[0], middle(18, ROW)[1] + 6), 0, 0)]
    made = level(tiles, middle(12, 6), [(here(28), here(26))], others=others)
    found = NppEnv(levels=[made]).reset()[0]["reachability"][68:].reshape(4, 15)
    thwump = found[found[:, 11] == 1][0]
    fall = 24 * (ROW + 1) - 11 - middle(20, 5)[1]  # its front, 11 px from its centre, stops before the floor
    assert thwump[4:8].tolist() == [0, 0, 0, 0] and thwump[12] == 0
    assert thwump[13:] == pytest.approx([0, fall / 100], abs=1e-5) and thwump[3] == 0.5
    guard = found[found[:, 9] == 1][0]
    assert guard[12] == 0 and guard[4:8].tolist() == [0, 0, 0, 0]
    assert guard[13:] == pytest.approx([max((24 * 4 + 6.01 - middle(18, ROW)[0]) / 100, -3), 0], abs=1e-5)


def test_share_of_the_level_that_reaches_the_goal():
    halves = ground((1, 3, 10, 3), (21, 3, 30, 3))
    (obs, *_), _ = watch(level(halves, middle(3, 3), [(middle(9, 3), middle(6, 3))]), [])
    assert obs["reachability"][32] == pytest.approx(0.5, abs=1e-6)
    (obs, *_), _ = watch(corridor(), [])
    assert obs["reachability"][32] == 1.0


def patch_points(x, y):
    """Places (px) of the patch's points [15, 15], centred on the lattice node nearest to the ninja."""
    offsets = 12 * (np.arange(PATCH) - PATCH // 2)
    left, top = 6 * np.floor(x / 6 + 0.5), 6 * np.floor(y / 6 + 0.5)
    return left + offsets[None, :] + np.zeros((PATCH, 1)), top + offsets[:, None] + np.zeros((1, PATCH))


BOXES = {1: (0, 0, 24, 24), 2: (0, 0, 24, 12), 3: (12, 0, 24, 24), 4: (0, 12, 24, 24), 5: (0, 0, 12, 24)}


def box_ground(seed):
    """Tiles 0 to 5, whose solid parts are boxes; open around the middle."""
    tiles = np.random.default_rng(seed).choice(6, (23, 42), p=[0.7, 0.1, 0.05, 0.05, 0.05, 0.05]).astype(np.uint8)
    tiles[9:12, 17:24] = 0
    return tiles


def naive_occupancy(tiles, x, y):
    """255 * distance to the nearest box / 24 px; what is outside the lattice counts as solid."""
    bordered = np.ones((25, 44), int)
    bordered[1:24, 1:43] = tiles
    nearest = np.full(x.shape, 24.0)
    for row, column in np.argwhere(bordered):
        x1, y1, x2, y2 = np.array(BOXES[bordered[row, column]]) + [24 * column, 24 * row] * 2
        dx, dy = np.maximum(0, np.maximum(x1 - x, x - x2)), np.maximum(0, np.maximum(y1 - y, y - y2))
        nearest = np.minimum(nearest, np.hypot(dx, dy))
    outside = (x < 0) | (y < 0) | (x > 1056) | (y > 600)
    return np.where(outside, 0, (255 * nearest / 24).astype(int))


@pytest.mark.parametrize("seed", range(4))
def test_occupancy_and_way_against_naive_ones(seed):
    tiles = box_ground(seed)
    spawn = [middle(20, 11), middle(23, 10), (middle(20, 11)[0] + 6, middle(20, 11)[1]), middle(21, 11)][seed]
    switch, door = middle(18, 11), middle(19, 10)
    mines = [(spawn[0] - 60, spawn[1] + 60), (spawn[0] + 42, spawn[1] - 54)]
    made = level(tiles, spawn, [(door, switch)], mines=mines[:1], toggle_mines=mines[1:])
    env = NppEnv(levels=[made])
    obs = env.reset()[0]
    for step in range(8):
        n = env._envs._state.ninja[0]
        x, y = patch_points(n["x"], n["y"])
        patch = obs["local_tiles"]
        assert np.array_equal(patch[0], naive_occupancy(tiles, x, y)), step
        status = env._envs._state.state[0, [k for k, e in enumerate(env._envs._bank.entity["type"]) if e in (1, 21)]]
        hazards = np.zeros((PATCH, PATCH), int)
        for (mx, my), state in zip(mines, status, strict=True):
            stamp = {0: 255, 1: 96, 2: 160}[int(state)]
            hazards = np.maximum(hazards, (stamp * np.clip((27 - np.hypot(x - mx, y - my)) / 12, 0, 1)).astype(int))
        assert np.array_equal(patch[1], hazards) and hazards.any()
        if obs["reachability"][0] and step == 0:
            here = way_length(tiles, mines, [], (n["x"], n["y"]), switch, TOUCH_SWITCH)
            assert here == pytest.approx(500 * obs["reachability"][3], abs=1e-3)
            points = np.random.default_rng(seed).integers(0, PATCH, (30, 2))
            node_free = patch[2] < 255
            for r, c in points:
                if node_free[r, c]:
                    away = way_length(tiles, mines, [], (x[r, c], y[r, c]), switch, TOUCH_SWITCH)
                    assert patch[2, r, c] == np.clip(int(128 + (away - here) / 1.5), 0, 254)
            # Where the circle does not fit no way leads; 9.9 of 24 px are 105 of 255.
            assert not node_free[patch[0] < 105].any() and node_free.mean() > 0.2
        obs, _, terminated, *_ = env.step([LEFT, RIGHT, JUMP_RIGHT, JUMP_LEFT][seed])
        if terminated:
            break
    assert step > 1


def test_closed_doors_and_the_centre_in_local_tiles():
    made = corridor(spawn=10, switch=14, door=24, locked=[((288, 300), 0, here(5))], mines=[])
    env = NppEnv(levels=[made])
    obs = env.reset()[0]
    patch, centre = obs["local_tiles"], PATCH // 2
    assert patch[2, centre, centre] == 128
    x = patch_points(*here(10))[0][0]
    door = int(np.flatnonzero(x == 288)[0])
    free = patch[0, centre] > 0
    assert not free[door] and free[np.arange(PATCH) != door].all()  # 12 px beside the walls above and below
    assert (np.diff(patch[2, centre].astype(int))[: PATCH - 1] == 8).all()  # 12 px are 8 steps of 1.5 px; goal left


def test_a_patch_beyond_the_fields_corner():
    made = level(ground((1, 1, 3, 3)), middle(1, 1), [(middle(3, 3), middle(3, 1))])
    (obs, *_), _ = watch(made, [])
    x, y = patch_points(*middle(1, 1))
    outside = (x < 0) | (y < 0)
    assert outside.any() and not obs["local_tiles"][0][outside].any() and (obs["local_tiles"][2][outside] == 255).all()
    tiles = made.tiles
    assert np.array_equal(obs["local_tiles"][0], naive_occupancy(tiles, x, y))


def mirrored(made):
    """The level with left and right exchanged, for tiles 0 and 1 and entities without orientation."""
    tiles, records = made.tiles, made.entities.astype(int)
    places = 6 * records[:, 1:3]
    places[:, 0] = 1056 - places[:, 0]
    assert set(np.unique(tiles)) <= {0, 1} and not records[:, 3:].any()
    kinds = records[:, 0]

    def of(kind):
        return [tuple(place) for place in places[kinds == kind]]

    exits = list(zip(of(3), of(4), strict=True))
    return level(tiles[:, ::-1], of(0)[0], exits, mines=of(1), toggle_mines=of(21))


def test_a_mirrored_level_gives_the_mirrored_observation():
    """As far as the way has no choice: between equally short ones the directions' order decides."""
    tiles = ground((5, 5, 15, 5), (15, 5, 15, 12), (15, 12, 30, 12))
    mines = [(middle(7, 5)[0], middle(7, 5)[1] - 6), middle(17, 10)]
    made = level(tiles, middle(11, 5), [(middle(28, 12), middle(24, 12))], mines=mines, toggle_mines=[middle(15, 11)])
    other = mirrored(made)
    actions = [RIGHT] * 5 + [JUMP_RIGHT] * 4 + [NONE] * 3 + [LEFT] * 4
    across = np.array([NONE, RIGHT, LEFT, JUMP, JUMP_RIGHT, JUMP_LEFT])
    one, _ = watch(made, actions)
    two, _ = watch(other, across[actions])
    flip = np.ones(34)
    flip[[0, 10, 11, 12, 22, 23, 27]] = -1
    turn = np.ones(128)
    turn[[6, *range(8, 26, 3), 27, 28, 30, *range(34, 66, 4)]] = -1
    for a, b in zip(one, two, strict=True):
        g, h = a["game_state"].copy(), b["game_state"].copy()
        h[25] = 1 - h[25]  # place in the tile
        assert abs(((g - flip * h)[25] + 0.5) % 1 - 0.5) < 1e-5
        g[25] = h[25] = 0
        assert g == pytest.approx(flip * h, abs=1e-5)
        assert a["reachability"] == pytest.approx(turn * b["reachability"], abs=1e-4)
    for channel in range(3):  # at the spawn, a node; elsewhere the nearest node may be another one
        assert np.array_equal(one[0]["local_tiles"][channel], two[0]["local_tiles"][channel][:, ::-1])


def test_no_nan_and_nothing_out_of_its_space(shared):
    """50,000 random steps on maps with every tile and entity, spawns in solid ground among them."""
    made = []
    for name in ("fuzz", "fuzz_wide"):
        golden = np.load(shared / "golden" / f"{name}.npz")
        maps = np.split(golden["maps"], golden["map_offsets"][1:-1])
        made += [Level(m.tobytes(), f"{name} {k}", "fuzz") for k, m in enumerate(maps)]
    games = len(made)
    assert games == 600
    envs = NppVectorEnv(games, made, OBSERVATIONS, copy=False, max_frames=250)
    obs, _ = envs.reset(seed=0, options={"levels": np.arange(games)})
    random = np.random.default_rng(0)
    ends = 0
    for t in range(85):
        if t % 4 == 0:
            actions = random.integers(0, 6, games)
        obs, reward, terminated, truncated, infos = envs.step(actions)
        assert np.isfinite(reward).all()
        for batch in (obs, infos.get("final_obs", {})):
            for name, array in batch.items():
                space = envs.observation_space[name]
                assert array.dtype == space.dtype and array.shape == space.shape, name
                if array.dtype == np.float32:
                    assert np.isfinite(array).all(), (t, name)
                    assert np.abs(array).max() < 1e3, (t, name)
                else:
                    assert (array >= space.low.min()).all() and (array <= space.high.max()).all(), (t, name)
        ends += (terminated | truncated).sum()
    assert ends > 600


def test_time_for_a_levels_fields():
    """Two fields of distances and the clearances of one level, in 2 ms; the median of nine levels is about 0.4 ms.

    The best of several tries each, and a bound far above it, since tests run on machines that others use as well.
    """
    banks = [build_bank([generate(category, 77).map_data]) for category in CATEGORIES]
    clearance = np.zeros((1, NODES), np.uint8)

    def once(bank):
        start = time.perf_counter()
        level_fields(bank, 1)
        level_clearances(bank, clearance)
        return time.perf_counter() - start

    once(banks[0])  # compiles, or loads what was compiled
    times = [min(once(bank) for _ in range(7)) for bank in banks]
    assert np.median(times) < 2e-3, times
