"""Where actions lead: known arcs on hand-made levels, mirrored levels, and the simulator's own frames."""

import hashlib

import numpy as np
import pytest
from hand_made import ROW, corridor, ground, here, level, middle
from test_observations import JUMP, JUMP_RIGHT, LEFT, NONE, RIGHT, mirrored

from npp_rl.environment.arcs import ARC, ARCS, FRAMES, HAZARDS, OPEN_CELLS, level_open_cells
from npp_rl.environment.env import NppEnv, NppVectorEnv
from npp_rl.environment.games import ACTION_BYTES
from npp_rl.environment.observations import level_clearances
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.fields import COLS, NODES
from npp_rl.levels.generator import generate
from npp_rl.simulator import DEAD, WON, build_bank, frame, simulate
from npp_rl.simulator.compiled import njit

STAY, RUN_LEFT, RUN_RIGHT, UP, UP_LEFT, UP_RIGHT, HOP, HOP_LEFT, HOP_RIGHT = range(ARCS)
DIES, CLEAR, LANDS, TIME, X, Y, NEARER, SPEED, NEAREST = range(ARC)
HALL = ground((1, 4, 42, ROW))


def arcs(made, actions=()):
    """`arcs` after some actions."""
    env = NppEnv(levels=[made], observations=("arcs",))
    obs, _ = env.reset()
    for action in actions:
        obs = env.step(action)[0]
    return obs["arcs"]


def standing(made):
    """`arcs` of a ninja that has fallen to the floor below its spawn, and what the simulator makes of inputs then."""

    def run(action, held=FRAMES):
        inputs = np.full(FRAMES, ACTION_BYTES[action], np.uint8)
        inputs[held:] &= 6
        trajectory, states = simulate(made.map_data, np.concatenate((np.zeros(16, np.uint8), inputs)))
        return trajectory[16:, :2] - trajectory[15, :2], states[16:]

    return arcs(made, [NONE] * 4), run


def hall(**more):
    return level(HALL, middle(8, ROW), [(middle(34, ROW), middle(24, ROW))], **more)


def test_running_in_an_empty_hall():
    found, run = standing(hall())
    assert found.shape == (ARCS, ARC) and found.dtype == np.float32
    assert (found[:, DIES] == 0).all() and (found[:, CLEAR] == 1).all()
    assert found[STAY] == pytest.approx([0, 1, 0, 1, 0, 0, 0, 0, 0], abs=0.005)
    ran = run(RIGHT)[0][-1, 0] / 100
    assert found[RUN_RIGHT] == pytest.approx([0, 1, 0, 1, ran, 0, ran, 0, ran], abs=0.02)
    assert found[RUN_LEFT, [NEARER, NEAREST]] == pytest.approx([-1.7, 0], abs=0.05)  # up to the wall


@pytest.mark.parametrize(
    ("arc", "action", "held"),
    [(UP, JUMP, FRAMES), (UP_RIGHT, JUMP_RIGHT, FRAMES), (HOP, JUMP, 4), (HOP_RIGHT, JUMP_RIGHT, 4)],
)
def test_a_jump_flies_as_in_the_simulator(arc, action, held):
    """Where it lands, or is after FRAMES frames: within a px and a frame."""
    found, run = standing(hall())
    moved, states = run(action, held)
    assert states[1] == 3  # it jumps
    down = np.flatnonzero(states[5:] < 3)
    end = down[0] + 5 if len(down) else FRAMES - 1
    row = found[arc]
    assert row[LANDS] == bool(len(down))
    assert row[TIME] * FRAMES == pytest.approx(end + 1, abs=1)
    assert 100 * row[[X, Y]] == pytest.approx(moved[end], abs=1)
    assert (row[SPEED] > 0.2) == bool(len(down))
    assert row[DIES] == 0


def test_a_mine_on_the_way_is_touched_when_the_simulator_says_so():
    found, run = standing(hall(mines=[middle(12, ROW)]))
    died = np.flatnonzero(run(RIGHT)[1] == DEAD)[0] + 1
    assert (1 - found[RUN_RIGHT, DIES]) * FRAMES == pytest.approx(died, abs=2)
    assert found[RUN_RIGHT, TIME] == pytest.approx(1 - found[RUN_RIGHT, DIES])
    assert found[RUN_RIGHT, CLEAR] == 0
    assert (found[[STAY, RUN_LEFT, UP, UP_LEFT, HOP, HOP_LEFT], DIES] == 0).all()
    assert 0 < found[UP_RIGHT, CLEAR] <= 1 and found[UP_RIGHT, DIES] == 0  # over it


def test_a_mine_far_off_that_a_jump_at_full_speed_comes_to_is_seen_from_where_it_begins():
    begin = [NONE] * 4 + [RIGHT] * 16

    def run(**more):
        made = hall(**more)
        keys = np.repeat(ACTION_BYTES[begin + [JUMP_RIGHT] * 23], 4)
        places, states = simulate(made.map_data, keys)
        at = 4 * len(begin)
        return arcs(made, begin)[UP_RIGHT], places[at - 1 :, :2], states[at:]

    found, places, _ = run()
    assert places[80, 0] - places[0, 0] > 200 and found[DIES] == 0
    found, _, states = run(mines=[places[80].astype(int)])
    died = np.flatnonzero(states == DEAD)[0] + 1
    assert 60 < died < 80 and (1 - found[DIES]) * FRAMES == pytest.approx(died, abs=2)


def test_of_more_mines_than_are_looked_at_the_near_ones_count():
    x, y = middle(12, ROW)
    far = [(x + 6 * k, y - 230) for k in range(HAZARDS + 1)]
    found = arcs(hall(mines=[*far, (x, y)]), [NONE] * 4)
    assert found[RUN_RIGHT, DIES] > 0 and found[UP_RIGHT, DIES] == 0


@pytest.mark.parametrize(("top", "dies"), [(17, False), (9, True), (1, True)])
def test_a_fall_that_kills_is_told_from_one_that_does_not(top, dies):
    """Off a ledge, nothing held any more: from when the floor is near enough on, and as it is in the simulator."""
    tiles = ground((5, top, 9, top), (10, top, 14, 23))
    made = level(tiles, middle(6, top), [(middle(12, 23), middle(14, 22))])
    actions = [NONE] * 4 + [RIGHT] * 17 + [NONE] * 40
    _, states = simulate(made.map_data, np.repeat(ACTION_BYTES[actions], 4))
    fell = 4 * 21
    end = fell + np.flatnonzero((states[fell:] < 3) | (states[fell:] == DEAD))[0]
    assert states[fell] == 4 and (states[end] == DEAD) == dies
    env = NppEnv(levels=[made], observations=("arcs",), max_frames=5000)
    env.reset()
    seen = 0
    for step, action in enumerate(actions[: end // 4]):
        obs, *_ = env.step(action)
        left = end - 4 * (step + 1)
        if step >= 21 and left < FRAMES - 5:
            row = obs["arcs"][STAY]
            assert (row[DIES] > 0) == dies == (row[SPEED] > 1)
            assert row[TIME] * FRAMES == pytest.approx(left + 1, abs=2)
            seen += 1
    assert seen > 5


def test_a_corridor_as_high_as_the_ninja_may_have_mines_on_its_ceiling():
    """They are 14 px above its centre, where they do not reach it (PHYSICS.md 5.3): it runs below, and lives."""
    x, y = here(10)
    made = corridor(5, switch=20, door=30, mines=[(x, y - 12)])
    found, run = standing(made)
    assert not (run(RIGHT)[1] == DEAD).any()
    assert found[RUN_RIGHT, DIES] == 0 and found[RUN_RIGHT, CLEAR] < 0.05


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_a_corner_below_a_mine_on_the_ceiling_is_as_safe_as_in_the_simulator(side):
    """At the end of such a corridor wall and floor hold the ninja where the mine does not reach it; a jump does."""
    left, right = here(5)[0] - 12, here(12)[0] + 12
    mines = [(left + 12, here(5)[1] - 12), (right - 12, here(5)[1] - 12)]
    made = level(ground((5, ROW, 12, ROW)), here(8), [(here(9), here(7))], mines=mines)
    found = arcs(made, [NONE] * 4 + [side] * 20)
    assert (found[[STAY, RUN_LEFT, RUN_RIGHT], DIES] == 0).all()
    assert (found[[UP, UP_LEFT, UP_RIGHT], DIES] > 0.9).all()
    keys = np.repeat(ACTION_BYTES[[NONE] * 4 + [side] * 40], 4)
    assert not (simulate(made.map_data, keys)[1] == DEAD).any()


def shaft(width, height=12):
    """A shaft open to above, its floor at row 18."""
    tiles = ground((10, 18 - height, 9 + width, 18))
    return level(tiles, middle(10, 18), [(middle(9 + width, 18 - height), middle(9 + width, 18))])


@pytest.mark.parametrize(("arc", "action"), [(STAY, NONE), (RUN_LEFT, LEFT), (UP, JUMP), (UP_RIGHT, JUMP_RIGHT)])
def test_along_a_wall_an_arc_slides_as_the_simulator_does(arc, action):
    """Up the left wall, then down along it: sliding begins with a push towards the wall, and goes on without."""
    begin = [NONE] * 4 + [4] * 12 + [LEFT] * 9
    made = shaft(4)
    found = arcs(made, begin)
    keys = np.repeat(ACTION_BYTES[begin + [action] * 30], 4)
    places = simulate(made.map_data, keys)[0][:, :2]
    at = 4 * len(begin)
    frames = round(found[arc, TIME] * FRAMES)
    assert frames > 10
    there = places[at + frames - 1] - places[at - 1]
    assert 100 * found[arc, [X, Y]] == pytest.approx(there, abs=1.5)


def test_a_held_jump_below_a_ceiling_falls_as_slowly_as_in_the_simulator():
    made = level(ground((5, 11, 20, 12)), middle(8, 12), [(middle(18, 12), middle(14, 12))])
    found, run = standing(made)
    moved = run(JUMP)[0]
    frames = round(found[UP, TIME] * FRAMES)
    assert 100 * found[UP, [X, Y]] == pytest.approx(moved[frames - 1], abs=1.0)
    assert frames == pytest.approx(np.flatnonzero((moved[:, 1] > -0.2) & (np.arange(FRAMES) > 5))[0] + 1, abs=2)


def test_a_toggle_mine_harms_once_it_was_touched_and_left():
    """PHYSICS.md 5.3: an arc over it and back dies, and one that stays inside does not."""
    made = level(HALL, middle(8, ROW), [(middle(34, ROW), middle(30, ROW))], toggle_mines=[middle(10, ROW)])
    assert arcs(made)[RUN_RIGHT, DIES] == 0
    behind = arcs(made, [RIGHT] * 12 + [LEFT] * 2)
    assert behind[RUN_LEFT, DIES] > 0
    made = level(HALL, middle(8, ROW), [(middle(34, ROW), middle(30, ROW))], toggle_mines=[middle(8, ROW)])
    found, run = standing(made)
    assert (found[[STAY, RUN_LEFT, RUN_RIGHT, UP_RIGHT, HOP_RIGHT], DIES] == 0).all()
    assert (found[[STAY, RUN_LEFT, RUN_RIGHT, UP_RIGHT, HOP_RIGHT], CLEAR] == 1).all()
    died = np.flatnonzero(run(JUMP, 4)[1] == DEAD)[0] + 1
    assert (1 - found[HOP, DIES]) * FRAMES == pytest.approx(died, abs=2)


def test_walls_stop_an_arc_and_where_no_way_leads_it_says_so():
    found = arcs(corridor(5, switch=12, door=20))
    assert found[RUN_LEFT, X] == pytest.approx(-0.96, abs=0.05)  # four cells to the wall
    assert np.abs(found[[STAY, UP, HOP], Y]).max() < 0.05  # a corridor as high as the ninja
    tiles = ground((5, 8, 10, 8), (20, 8, 30, 8))
    apart = arcs(level(tiles, middle(7, 8), [(middle(28, 8), middle(24, 8))]))
    assert (apart[:, NEARER] == -1).all()


def test_mirrored():
    tiles = ground((5, 5, 25, 12))
    mines = [middle(10, 12), middle(17, 10)]
    made = level(tiles, middle(13, 12), [(middle(22, 12), middle(20, 8))], mines=mines)
    other = mirrored(made)
    across = np.array([NONE, RIGHT, LEFT, JUMP, 5, 4])
    rows = [STAY, RUN_RIGHT, RUN_LEFT, UP, UP_RIGHT, UP_LEFT, HOP, HOP_RIGHT, HOP_LEFT]
    turn = np.ones(ARC)
    turn[X] = -1
    for actions in ([], [RIGHT] * 3, [RIGHT] * 2 + [JUMP_RIGHT] * 5, [LEFT] * 4 + [JUMP] * 3):
        one, two = arcs(made, actions), arcs(other, across[actions] if actions else ())
        assert one == pytest.approx(turn * two[rows], abs=0.04), actions


@njit
def hold(bank, state, i, h, jump, out):
    """Frames until game i ends, at most len(out); out f8 [frames, 2] gets the places. The jump key is held `jump`."""
    n = state.ninja[i]
    for t in range(len(out)):
        frame(bank, state, i, h, 1 if t < jump else 0)
        out[t, 0] = n.x
        out[t, 1] = n.y
        if n.state == DEAD or n.state == WON:
            return t + 1
    return len(out)


def test_arcs_tell_what_the_simulator_does():
    """Random play on generated levels, each arc held in the simulator: deaths by mines are foretold, and places."""
    made = [generate(category, seed) for category in CATEGORIES for seed in range(6)]
    games = len(made)
    envs = NppVectorEnv(games, made, ("arcs",), seed=0, copy=False)
    envs.reset(seed=0, options={"levels": np.arange(games)})
    random = np.random.default_rng(0)
    foretold = np.zeros((2, 2), int)  # by what happens, and by what is said
    off = []
    out = np.zeros((FRAMES, 2))
    actions = random.integers(0, 6, games)
    for step in range(120):
        actions = np.where(random.random(games) < 0.25, random.integers(0, 6, games), actions)
        obs, *_ = envs.step(actions)
        if step % 20 != 19:
            continue
        said, saved, places = obs["arcs"].copy(), envs._rows.copy(), envs._state.ninja[["x", "y"]].copy()
        for k in range(ARCS):
            for i in range(games):
                frames = round(said[i, k, TIME] * FRAMES)
                ended = hold(envs._bank, envs._state, i, (0, -1, 1)[k % 3], (0, FRAMES, 4)[k // 3], out)
                ninja = envs._state.ninja[i]
                died = ninja["state"] == DEAD and ended <= frames + 2
                if ninja["state"] == WON and ended <= frames:
                    continue
                foretold[int(died), int(said[i, k, DIES] > 0)] += 1
                if ended >= frames:
                    off.append(np.hypot(*(out[frames - 1] - tuple(places[i]) - 100 * said[i, k, [X, Y]])))
            envs._rows[:] = saved
    assert foretold[1].sum() > 50
    assert foretold[1, 1] / foretold[1].sum() > 0.75  # of the deaths
    assert foretold[1, 1] / foretold[:, 1].sum() > 0.9  # of the warnings
    assert foretold[0, 0] / foretold[0].sum() > 0.99
    assert (np.quantile(off, [0.5, 0.8, 0.9]) < [0.3, 1, 3]).all()


def test_a_cell_is_open_where_no_ground_is_near():
    """A shaft of four cells, 96 px: cells of 6 px from 12 px beside its walls and floor on, and no others."""
    bank = build_bank([shaft(4).map_data])
    clearance = np.zeros((1, NODES), np.uint8)
    cells = np.full((1, OPEN_CELLS), 7, np.uint64)
    level_clearances(bank, clearance)
    level_open_cells(clearance, cells)
    bits = np.array(
        [[cells[0, 2 * i + j // 64] >> np.uint64(j % 64) & np.uint64(1) for i in range(COLS)] for j in range(101)]
    )
    rows, columns = np.nonzero(bits)
    x, y = middle(10, 18)
    assert set(columns) == set(range((x - 12) // 6 + 2, (x - 12 + 96) // 6 - 2))
    assert set(rows) == set(range((y - 12 * 24 - 12) // 6 + 2, (y + 12) // 6 - 2))
    assert len(rows) == len(set(columns)) * len(set(rows))


def test_values_are_the_same_to_the_last_bit_on_every_machine():
    """A faster way to follow arcs must not change them: agents have learned to read these numbers."""
    tiles = ground((3, 3, 40, 6), (3, 7, 8, 20), (12, 7, 14, 20), (20, 7, 40, 9), (24, 10, 26, 20), (9, 18, 23, 20))
    tiles[18, 10], tiles[18, 11], tiles[9, 28], tiles[20, 18], tiles[6, 30] = 6, 7, 12, 15, 20
    mines = [middle(30, 9), middle(13, 19), middle(25, 15)]
    exits = [(middle(38, 4), middle(25, 19))]
    made = level(tiles, middle(5, 8), exits, mines=mines, toggle_mines=[middle(17, 5), middle(7, 12)])
    envs = NppVectorEnv(32, [made, hall(mines=mines), shaft(4)], ("arcs",), seed=0, copy=False)
    envs.reset(seed=0)
    random = np.random.default_rng(0)
    actions = random.integers(0, 6, 32)
    digest = hashlib.sha256()
    for _ in range(200):
        actions = np.where(random.random(32) < 0.2, random.integers(0, 6, 32), actions)
        digest.update(envs.step(actions)[0]["arcs"].tobytes())
    assert digest.hexdigest()[:16] == "0c2b207f0cd074ac"
