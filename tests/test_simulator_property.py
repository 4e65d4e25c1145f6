"""Random maps and inputs: nothing breaks, nothing reads out of bounds, and the short cuts change no bit.

Run as a script it plays random games and prints how many frames; the tests do so in a process with bounds checks.
"""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from plain_geometry import closest
from plain_simulator import Game, simulate_plainly

from npp_rl.simulator import build_bank, frame, new_state, reset_game, simulate_final
from npp_rl.simulator.compiled import njit
from npp_rl.simulator.geometry import nearest, sweep_time, wall_normal
from npp_rl.simulator.layout import ENTITY_TYPES

STILL = (1, 2, 3, 5, 6, 8, 10, 11, 21)  # types that never move, nor move the ninja faster than launch pads do


def random_map(rng, tile_numbers, types, most_entities=40, spawn=None):
    """Map u1: tiles drawn from `tile_numbers`, half of the cells empty or full, and entities of `types` anywhere."""
    tiles = rng.choice(tile_numbers, 966)
    plain = rng.random(966)
    tiles[plain < 0.4] = 0
    tiles[plain > 0.9] = 1
    records = rng.integers(0, 256, (rng.integers(0, most_entities + 1), 5))
    records[:, 0] = rng.choice(types, len(records))
    inside = rng.random(len(records)) < 0.9
    records[inside, 1] = rng.integers(4, 173, inside.sum())
    records[inside, 2] = rng.integers(4, 97, inside.sum())
    records[:, 3] %= 8
    records[:, 4] %= 4
    data = np.zeros(1235 + records.size, np.uint8)
    data[184:1150] = tiles
    data[1156], data[1200] = rng.integers(0, 4), rng.integers(0, 20)
    data[1231:1233] = (rng.integers(4, 173), rng.integers(4, 97)) if spawn is None else spawn
    data[1235:] = records.ravel()
    return data, tiles.reshape(23, 42)


@njit
def _play_games(bank, state, inputs, outside):
    """Play every level with random inputs u1 [levels, frames], also past death and victory.

    Returns the first level with a number that is not finite, or -1; counts in outside [levels] the frames that the
    ninja is out of the field.
    """
    for i in range(len(inputs)):
        reset_game(bank, state, i, i)
        n = state.ninja[i]
        for t in range(inputs.shape[1]):
            b = inputs[i, t]
            frame(bank, state, i, -1 if b & 4 else (1 if b & 2 else 0), b & 1)
            if not (math.isfinite(n.x) and math.isfinite(n.y) and math.isfinite(n.u) and math.isfinite(n.v)):
                return i
            if n.x < 0.0 or n.x > 1056.0 or n.y < 0.0 or n.y > 600.0:
                outside[i] += 1
        for slot in range(bank.level[i].movers):
            m = state.mover[i, slot]
            if not (math.isfinite(m.x) and math.isfinite(m.y) and math.isfinite(m.a) and math.isfinite(m.b)):
                return i
    return -1


def random_inputs(rng, games, frames):
    """Input bytes u1 [games, frames] that are held for some frames, as a player's are."""
    keys = rng.integers(0, 256, (games, frames), np.uint8)
    held = rng.random((games, frames)) < 0.9
    held[:, 0] = False
    at = np.maximum.accumulate(np.where(held, 0, np.arange(frames)), 1)
    return np.take_along_axis(keys, at, 1)


def play_random_games(seed, frames, games=125, length=400):
    """Plays at least `frames` frames on random maps of all tile bytes and entity types; raises on what must not be.

    Chaser drones and lasers are alive in half of the games.
    """
    rng = np.random.default_rng(seed)
    done = 0
    while done < frames:
        maps = [random_map(rng, np.arange(256), (*ENTITY_TYPES, 0, 4, 15, 23, 99))[0].tobytes() for _ in range(games)]
        bank = build_bank(maps, unfinished=done // (games * length) % 2 == 1)
        _, state = new_state(bank, games)
        broken = _play_games(bank, state, random_inputs(rng, games, length), np.zeros(games, np.int64))
        assert broken < 0, f"seed {seed}, after {done} frames: {maps[broken].hex()}"
        done += games * length
    return done


def test_two_million_random_frames():
    assert play_random_games(1, 2_000_000) >= 2_000_000


@pytest.mark.slow
def test_twenty_million_random_frames():
    assert play_random_games(2, 20_000_000) >= 20_000_000


@njit
def _read_edge(bank, k):
    return bank.level[0].edge_h[k]


@njit
def _read_pool(bank, k):
    return bank.near[k]


def test_random_frames_with_bounds_checks(tmp_path):
    # A warm cache would ignore the setting, so the process compiles into an empty folder of its own. It takes less time
    # with few optimizations, which bounds do not depend on.
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, __file__, "100000"], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["100000 frames", "IndexError", "IndexError"]
    assert list(tmp_path.rglob("*.nbc"))


def main():
    print(play_random_games(3, int(sys.argv[1])), "frames")
    bank = build_bank([random_map(np.random.default_rng(0), np.arange(38), ENTITY_TYPES)[0].tobytes()])
    for read, size in ((_read_edge, bank.level["edge_h"].shape[1]), (_read_pool, len(bank.near))):
        read(bank, size - 1)
        try:
            read(bank, size)
        except IndexError:
            print("IndexError")


def test_a_ninja_in_free_space_stays_in_the_field():
    """Tiles 0..33 leave no hole (34..37 may, PHYSICS.md 3.3), so who starts with free cells around stays inside.

    The maps hold every type that stands still, launch pads, one-way platforms and doors included. What moves can push
    the ninja through a wall (the push of a bounce block or a thwump is not swept), and boost pads add speed.
    """
    rng = np.random.default_rng(4)
    maps = []
    while len(maps) < 500:
        data, tiles = random_map(rng, np.arange(34), STILL)
        row, column = rng.integers(1, 22), rng.integers(1, 41)
        tiles[row - 1 : row + 2, column - 1 : column + 2] = 0
        data[184:1150] = tiles.ravel()
        data[1231:1233] = 4 * (column + 1) + 2, 4 * (row + 1) + 2
        maps.append(data.tobytes())
    bank = build_bank(maps)
    _, state = new_state(bank, len(maps))
    outside = np.zeros(len(maps), np.int64)
    assert _play_games(bank, state, random_inputs(rng, len(maps), 1000), outside) == -1
    assert not outside.any(), maps[int(outside.argmax())].hex()


@njit
def _compiled(bank, state, queries, found):
    """The three queries over segments at the places queries f8 [n, 4] (x, y, wx, wy) -> found f8 [n, 5]."""
    level = bank.level[0]
    for k in range(len(queries)):
        x, y, wx, wy = queries[k]
        side, a, b = nearest(level, bank.segment, state.closed, 0, x, y, 10.0)
        found[k, 0] = side
        found[k, 1] = a
        found[k, 2] = b
        found[k, 3] = sweep_time(level, bank.segment, state.closed, 0, x, y, wx, wy, 5.0)
        found[k, 4] = wall_normal(level, bank.segment, state.closed, 0, x, y)


def plain_wall(game, x, y):
    """PHYSICS.md 4.9 step 3."""
    for s in game.region(x - 10.1, y - 10.1, x + 10.1, y + 10.1):
        _, a, b = closest(s, x, y)
        dx, dy = x - a, y - b
        r = math.sqrt(dx * dx + dy * dy)
        if abs(dy) < 0.00001 and 0 < r <= 10.1 and dx / r != 0:
            return dx / r
    return 0.0


def test_queries_equal_plain_loops_over_whole_regions():
    rng = np.random.default_rng(5)
    count = 300
    for _ in range(12):
        data, _ = random_map(rng, np.arange(38), (5, 6, 8))
        bank = build_bank([data.tobytes()])
        _, state = new_state(bank, 1)
        reset_game(bank, state, 0, 0)
        q = np.stack([*rng.uniform((10, 10), (1046, 590), (count, 2)).T, *rng.normal(0, 3, (2, count))], 1)
        # Places where distances tie and where cells end: on the lattice, and next to it.
        lattice = rng.random((count, 2)) < 0.5
        q[:, :2][lattice] = np.round(q[:, :2][lattice] / 2) * 2
        q[:, :2] += rng.choice([0, 0, 1e-13, -1e-13, 1e-9, 1e-6], (count, 2))
        q[:, 2:][rng.random((count, 2)) < 0.2] = 0
        q[: count // 20, :2] = rng.uniform((-500, -500), (2000, 1500), (count // 20, 2))
        found = np.zeros((count, 5))
        _compiled(bank, state, q, found)
        game = Game(data.tobytes())
        for (x, y, wx, wy), got in zip(q.tolist(), found.tolist(), strict=True):
            plain = [*game.nearest(x, y, 10.0), game.sweep(x, y, wx, wy, 5.0), plain_wall(game, x, y)]
            assert got == plain, (x, y, wx, wy)


def crowded_map(rng):
    """A hall with 200 death balls and 1,000 mines, and the ninja in a closed chamber of it."""
    tiles = np.zeros((23, 42), np.uint8)
    tiles[:5, :5] = 1
    tiles[:4, :4] = 0
    tiles[rng.random((23, 42)) < 0.03] = 8
    tiles[:4, :4] = 0
    balls = [(int(x), int(y)) for x, y in rng.integers((30, 30), (170, 94), (200, 2))]
    mines = [(int(x), int(y)) for x, y in rng.integers((30, 6), (170, 94), (1000, 2))]
    data = bytearray(1230)
    data[184:1150], data[1200] = tiles.tobytes(), 200
    data += bytes([0, 8, 8, 0, 0])
    data += b"".join(bytes([25, x, y, 0, 0]) for x, y in balls)
    data += b"".join(bytes([int(rng.choice([1, 21])), x, y, 0, 0]) for x, y in mines)
    return bytes(data), balls


def assert_equal_to_plain(data, inputs, name):
    trajectory, states, gold, final = simulate_final(data, inputs)
    plain = simulate_plainly(data, inputs)
    assert states.tolist() == plain[1], name
    wrong = np.flatnonzero((trajectory != np.reshape(plain[0], (-1, 4))).any(1))
    assert not len(wrong), f"{name}: frame {wrong[0] + 1}"
    assert gold == plain[2], name
    assert np.array_equal(final, np.reshape(plain[3], (-1, 5))), name
    return trajectory, final


@pytest.mark.parametrize("maps", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_games_equal_those_of_a_plain_simulator(maps):
    """Maps crowded around the spawn, so that the ninja meets most of what there is."""
    rng = np.random.default_rng(7)
    frames, ends = 0, set()
    for k in range(maps):
        data, tiles = random_map(rng, np.arange(41), (*ENTITY_TYPES, 0, 7, 15, 99))
        x, y = (int(v) for v in data[1231:1233])
        tiles[max(y // 4 - 3, 0) : y // 4 + 1, max(x // 4 - 4, 0) : x // 4 + 3] = 0
        data[184:1150] = tiles.ravel()
        close = rng.random(len(data[1235::5])) < 0.5
        for at, around in ((1236, x), (1237, y)):
            data[at::5][close] = np.clip(around + rng.integers(-12, 13, close.sum()), 0, 255)
        inputs = random_inputs(rng, 1, 60)[0].tobytes()
        trajectory, final = assert_equal_to_plain(data.tobytes(), inputs, f"map {k}")
        frames += len(trajectory)
        ends |= {(int(kind), int(state)) for kind, _, _, _, state in final}
    assert frames > 20 * maps
    assert {kind for kind, _ in ends} == {*ENTITY_TYPES, 4}
    assert ends >= {(1, 1), (20, 1), (21, 0)}  # a mine that went off, a thwump under way, an armed toggle mine


def test_a_crowded_map_equals_plain_loops_and_runs_fast():
    data, balls = crowded_map(np.random.default_rng(6))
    inputs = bytes([2] * 12 + [5] * 12 + [0] * 6)
    trajectory, final = assert_equal_to_plain(data, inputs, "crowded")
    assert len(trajectory) == len(inputs)
    moved = (final[final[:, 0] == 25][:, 1:3] != 6 * np.array(balls)).any(1)
    assert moved.sum() > 150
    bank = build_bank([data])
    _, state = new_state(bank, 1)
    outside = np.zeros(1, np.int64)
    _play_games(bank, state, np.zeros((1, 1), np.uint8), outside)  # compiles
    start = time.process_time()
    assert _play_games(bank, state, np.zeros((1, 1000), np.uint8), outside) == -1
    speed = 1000 / (time.process_time() - start)
    assert speed >= 5000, f"{speed:.0f} frames/s"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
