"""The simulator against golden trajectories, the values of PHYSICS.md, and its rules for odd maps.

tests/golden/ holds 125 of the 600 fuzz cases (66 of `fuzz`, 59 of `fuzz_wide`, where tile numbers, exits and
orientations are odd too), so that the project can be tested without the shared data. They were chosen greedily: first
cases, few frames before many, until each of 162 features occurs in at least three of them - every tile number 0..37
within a cell of the ninja, every state of the ninja, every entity type, each with every final state and every
orientation that occurs, moved away from its start if it can move, touched or used up if it can be - then further cases
by turns up to 475 kB.
"""

import hashlib
import math
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from npp_rl.simulator import (
    build_bank,
    check_map,
    contacts,
    entities,
    frame,
    new_state,
    ninja,
    play,
    reset_game,
    row_bytes,
    simulate,
    simulate_final,
)
from npp_rl.simulator.compiled import njit
from npp_rl.simulator.geometry import column_open, row_open
from npp_rl.simulator.layout import ENTITY_TYPES, EXIT_SWITCH

SAMPLE = Path(__file__).parent / "golden"

ALONE = {
    "level": "429da5cd36b279f6",
    "segment": "fdd737d02222f0e5",
    "entity": "d436ca45eb79145e",
    "near": "4245a0f5e17a2098",
    "platform": "a6de171063809997",
    "mover": "60dda77925292b5a",
    "door": "3335bdba50e7e5f7",
    "edge": "b6da5d5e2e8289b0",
}
TOGETHER = {
    "level": "ffffba2ce2638f65",
    "segment": "86ab2fb852784a87",
    "entity": "4ffa8c2cb82d7100",
    "near": "decb0d3341b52d47",
    "platform": "789073e01b2a247a",
    "mover": "08d2f69a686e8194",
    "door": "f6d263503a32e8a2",
    "edge": "fe9192667a0920da",
}


def make_map(records=(), tiles=None, spawn=(20, 20), exits=0, balls=0, tail=b""):
    """Map bytes: tiles u1 [23, 42] (empty by default), records of five bytes after the ninja's."""
    data = bytearray(1230)
    if tiles is not None:
        data[184:1150] = np.asarray(tiles, np.uint8).tobytes()
    data[1156], data[1200] = exits, balls
    data += bytes([0, *spawn, 0, 0])
    for record in records:
        data += bytes(record)
    return bytes(data) + tail


def golden(path):
    """The cases of a golden file: dicts of map, inputs, trajectory, state, gold, entities, name."""
    z = dict(np.load(path))
    for i, name in enumerate(z["names"]):
        m, n, t, e = (
            slice(*z[k][i : i + 2]) for k in ("map_offsets", "input_offsets", "trajectory_offsets", "entity_offsets")
        )
        yield {
            "name": str(name),
            "map": z["maps"][m].tobytes(),
            "inputs": z["inputs"][n].tobytes(),
            "trajectory": z["trajectory"][t],
            "state": z["state"][t],
            "gold": int(z["gold"][i]),
            "entities": z["entities"][e],
        }


def assert_exact(case):
    trajectory, states, gold, final = simulate_final(case["map"], case["inputs"])
    assert len(trajectory) == len(case["trajectory"]), f"{case['name']}: frames"
    wrong = np.flatnonzero((trajectory != case["trajectory"]).any(1) | (states != case["state"]))
    assert not len(wrong), f"{case['name']}: frame {wrong[0] + 1}: {trajectory[wrong[0]]} {states[wrong[0]]}"
    assert gold == case["gold"], case["name"]
    assert final.shape == case["entities"].shape, case["name"]
    wrong = np.flatnonzero((final != case["entities"]).any(1))
    assert not len(wrong), f"{case['name']}: {final[wrong[0]]}, not {case['entities'][wrong[0]]}"


def digests(banks):
    """Hashes of all numbers in each array of banks, by its name, without the padding of records."""
    found = {}
    for name in banks[0]._fields:
        digest = hashlib.sha256()
        for array in (getattr(bank, name) for bank in banks):
            for field in array.dtype.names or [""]:
                values = array[field] if field else array
                digest.update(f"{field} {values.dtype} {values.shape} ".encode() + values.tobytes())
        found[name] = digest.hexdigest()[:16]
    return found


def test_arrays_of_levels_are_pinned():
    """All arrays of 125 levels with every tile and entity, each alone, all in one bank, and with unfinished entities.

    The hashes are of arrays that played all golden cases exactly.
    """
    maps = [case["map"] for name in ("fuzz", "fuzz_wide") for case in golden(SAMPLE / f"{name}.npz")]
    assert digests([build_bank([one]) for one in maps]) == ALONE
    assert digests([build_bank(maps), build_bank(maps, True)]) == TOGETHER


@pytest.mark.parametrize("name, cases", [("fuzz", 66), ("fuzz_wide", 59)])
def test_sample_of_golden_cases_is_exact(name, cases):
    played = list(golden(SAMPLE / f"{name}.npz"))
    assert len(played) == cases
    for case in played:
        assert_exact(case)


def test_sample_holds_every_entity_type_and_tile():
    cases = [case for name in ("fuzz", "fuzz_wide") for case in golden(SAMPLE / f"{name}.npz")]
    types = {int(t) for case in cases for t in case["entities"][:, 0]}
    assert types == {*ENTITY_TYPES, EXIT_SWITCH}
    assert {t for case in cases for t in case["map"][184:1150]} >= set(range(38))
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 500_000


@pytest.mark.parametrize("name, cases", [("human", 90), ("attract", 15), ("fuzz", 400), ("fuzz_wide", 200)])
def test_all_golden_cases_are_exact(shared, name, cases):
    played = list(golden(shared / "golden" / f"{name}.npz"))
    assert len(played) == cases
    for case in played:
        assert_exact(case)


# PHYSICS.md Appendix C: file, frames, state, gold, x, y, u, v.
ATTRACT = [
    (0, 471, 6, 11, 486.76710500917926, 86.0, -3.2920948802294676, 0.0),
    (2, 724, 4, 34, 406.96097185514776, 356.62380370759877, -0.4336252327433056, 0.28029138252288327),
    (3, 124, 2, 9, 562.6855156325147, 407.17234874375436, -1.9560983261088052, 2.06791236408567),
    (5, 441, 2, 7, 480.73317130581705, 422.0, 1.0825758363748625, 0.0),
    (6, 407, 4, 4, 736.3312117925138, 332.38322172908966, 3.0274572164475133, 0.9632614797231069),
    (8, 210, 4, 18, 269.9972707285111, 406.1396532190239, -1.9415863595337364, 1.8456879593801188),
    (9, 861, 4, 23, 325.3288878401344, 415.35812586493756, -0.41125709416239875, -0.3191140554408601),
    (11, 72, 6, 0, 686.217763690322, 250.30417726997905, 1.4303937522235102, 1.046361579389918),
    (12, 1548, 6, 16, 512.2845006727666, 375.91086311294816, -1.432218813291293, -0.825354068646456),
    (14, 150, 6, 3, 492.05826998745175, 467.927041992918, 3.30697243842966, 2.861572976534738),
    (15, 166, 4, 7, 291.9395464174783, 288.46679458539893, -0.25146200437744637, -0.22236186856979218),
    (17, 237, 6, 0, 847.9468403802113, 413.5427878552058, 3.2877200357900094, 2.278087285076876),
    (18, 418, 4, 8, 489.9184334749339, 100.02170430272967, -0.45454259275159026, 1.7803135585077914),
    (25, 1322, 6, 6, 431.4196848887225, 398.0, 1.5898734023393222, 0.0),
    (625, 697, 6, 3, 633.3117363198007, 566.0, -1.4950852185347423, 0.0),
]


@pytest.mark.parametrize("expected", ATTRACT, ids=lambda e: f"file {e[0]}")
def test_demos_end_as_the_game_recorded_them(shared, expected):
    number, frames, state, gold, *rest = expected
    data = (shared / "replays" / "attract" / str(number)).read_bytes()
    map_end = 8 + struct.unpack_from("<I", data)[0]
    count = struct.unpack_from("<I", data, map_end + 9)[0]
    inputs = data[map_end + 30 :]
    assert len(inputs) == count
    trajectory, states, got, _ = simulate_final(data[:map_end], inputs)
    assert (len(states), states[-1], got) == (frames, state, gold)
    assert trajectory[-1].tolist() == rest


@pytest.mark.parametrize(
    "value, bits",
    [
        (contacts.G_FALL, "0x1.1111111111110p-4"),
        (ninja.G_JUMP, "0x1.6c16c16c16c16p-7"),
        (ninja.A_GROUND, "0x1.1111111111110p-4"),
        (ninja.A_AIR, "0x1.6c16c16c16c16p-5"),
        (ninja.DRAG, "0x1.fc94b94afbccdp-1"),
        (ninja.DRAG_WON, "0x1.b93a6cec0b3b2p-1"),
        (ninja.F_GROUND, "0x1.e450cf2471707p-1"),
        (ninja.F_STAND, "0x1.b93a6cec0b3b2p-1"),
        (ninja.F_WALL, "0x1.d29ae6860288cp-1"),
        (ninja.V_MAX, "0x1.aaaaaaaaaaaaap+1"),
        (1 - ninja.F_GROUND, "0x1.baf30db8e8f90p-5"),
        (ninja.TINY, "0x1.0000000000000p-47"),
        (contacts.PAD_POWER, "0x1.4924924924925p+2"),
        (entities.GUARD_SPEED, "0x1.b6db6db6db6dap+1"),
        (entities.STIFFNESS, "0x1.6c16c16c16c16p-6"),
    ],
)
def test_constants_have_the_bits_of_the_specification(value, bits):
    assert value.hex() == bits


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "map of 0 bytes: expected at least 1233"),
        (bytes(1232), "map of 1232 bytes: expected at least 1233"),
        (make_map([(10, 9, 9, 8, 0)]), r"record 1 at byte 1235 \(launch pad\) has orientation 8: expected 0 to 7"),
        (
            make_map([(2, 1, 1, 9, 9), (11, 9, 9, 255, 0)]),
            r"record 2 at byte 1240 \(one-way platform\) has orien.* 255",
        ),
        (make_map([(5, 9, 9, 8, 0)]), r"\(regular door\) has orientation 8"),
        (make_map([(6, 9, 9, 8, 0)]), r"\(locked door\) has orientation 8"),
        (make_map([(8, 9, 9, 8, 0)]), r"\(trap door\) has orientation 8"),
        (make_map([(14, 9, 9, 8, 0)]), r"\(zap drone\) has orientation 8"),
        (make_map([(26, 9, 9, 0, 4)]), r"record 1 at byte 1235 \(mini drone\) has mode 4: expected 0 to 3"),
    ],
)
def test_rejected_maps_are_named_in_one_line(data, message):
    for load in (check_map, lambda m: build_bank([m]), lambda m: simulate(m, b"\0")):
        with pytest.raises(ValueError, match=message) as caught:
            load(data)
        assert "\n" not in str(caught.value)


def test_types_that_do_not_read_a_byte_may_hold_anything_in_it():
    check_map(make_map([(t, 9, 9, 200, 200) for t in (0, 1, 2, 3, 4, 7, 9, 15, 16, 17, 21, 23, 24, 25, 28, 29, 255)]))
    check_map(make_map([(20, 9, 9, 200, 200), (10, 9, 9, 7, 255), (5, 9, 9, 7, 4)]))


def test_result_shapes_and_end_of_a_run():
    trajectory, states = simulate(make_map(), b"")
    assert trajectory.shape == (0, 4) and trajectory.dtype == np.float64
    assert states.shape == (0,) and states.dtype == np.uint8
    # A mine on the spawn kills in the first frame; the second input byte is not played.
    trajectory, states = simulate(make_map([(1, 20, 20, 0, 0)]), bytes(2))
    assert states.tolist() == [6]
    # The door stands on its switch, on the spawn: it is there from the second frame on.
    trajectory, states = simulate(make_map([(3, 20, 20, 0, 0)]), bytes(9))
    assert states.tolist() == [4, 8]


def test_first_frame_of_a_fall():
    trajectory, states = simulate(make_map(spawn=(20, 20)), bytes([2]))
    # 4.5: v = 0·d + g; 4.10.2: u = A_AIR after the move.
    assert trajectory[0].tolist() == [120.0, 120.0 + 0.06666666666666665, 0.04444444444444444, 0.06666666666666665]
    assert states.tolist() == [4]


def test_left_beats_right_and_high_bits_are_masked():
    m = make_map()
    left = simulate(m, bytes([4] * 30))[0]
    assert left[-1, 0] < 120
    for byte in (6, 12, 0xF4, 0xFE):
        assert np.array_equal(simulate(m, bytes([byte] * 30))[0], left)
    assert np.array_equal(simulate(m, bytes([7] * 30))[0], simulate(m, bytes([5] * 30))[0])


def test_unknown_entity_types_do_nothing():
    known = [(1, 30, 90, 0, 0), (2, 22, 95, 0, 0), (14, 60, 60, 0, 1)]
    unknown = [(t, 20, 22, 9, 9) for t in (0, 4, 7, 9, 12, 13, 15, 18, 19, 22, 23, 27, 29, 100, 255)]
    mixed = [*unknown[:5], known[0], *unknown[5:10], known[1], *unknown[10:], known[2]]
    inputs = bytes([2] * 80 + [3] * 40)
    for a, b in zip(simulate_final(make_map(known), inputs), simulate_final(make_map(mixed), inputs), strict=True):
        assert np.array_equal(a, b)


def test_incomplete_last_record_is_padded_with_zeros():
    inputs = bytes([2] * 60)
    padded = simulate_final(make_map([(1, 26, 0, 0, 0)]), inputs)
    cut = simulate_final(make_map(tail=bytes([1, 26])), inputs)
    assert cut[3][0].tolist() == [1, 156, 0, 1, 0]
    for a, b in zip(padded, cut, strict=True):
        assert np.array_equal(a, b)


def test_switches_beyond_the_end_of_the_data_lie_at_the_corner():
    *_, final = simulate_final(make_map([(6, 50, 50, 0, 0)]), b"")
    assert final.tolist() == [[6, 0, 0, 1, 0]]
    *_, final = simulate_final(make_map([(3, 50, 50, 0, 0)], exits=200), b"")
    assert final.tolist() == [[3, 300, 300, 1, 0], [4, 0, 0, 1, 0]]


def test_switch_records_are_read_where_the_counts_say():
    # Without a count the switch coincides with its door; with a wrong one other bytes are read (PHYSICS.md 2.2, 8.5).
    records = [(3, 50, 50, 0, 0), (4, 60, 70, 0, 0), (2, 80, 90, 0, 0)]
    for exits, place in ((0, (300, 300)), (1, (360, 420)), (2, (480, 540))):
        *_, final = simulate_final(make_map(records, exits=exits), b"")
        assert tuple(final[-1, 1:3]) == place
    *_, final = simulate_final(make_map([(8, 50, 50, 2, 0), (1, 11, 12, 0, 0)]), b"")
    assert final.tolist() == [[1, 66, 72, 1, 0], [8, 66, 72, 1, 0]]


def test_entities_outside_in_walls_and_on_one_another_are_defined():
    rng = np.random.default_rng(0)
    places = [(255, 255), (0, 0), (176, 100), (255, 0), (0, 255), (20, 24), (20, 24), (3, 3)]
    records = [(t, *p, o, 1) for t in ENTITY_TYPES for p in places for o in (0, 6)]
    inputs = rng.integers(0, 8, 600, np.uint8).tobytes()
    full = simulate_final(make_map(records, exits=8, balls=16), inputs)
    assert np.isfinite(full[0]).all() and np.isfinite(full[3]).all()
    solid = simulate_final(make_map(records, tiles=np.ones((23, 42)), exits=8, balls=16), inputs)
    assert np.isfinite(solid[0]).all() and np.isfinite(solid[3]).all()
    outside = simulate_final(make_map([(25, 250, 250, 0, 0), (17, 255, 255, 0, 0)], spawn=(255, 255)), inputs)
    assert np.isfinite(outside[0]).all() and len(outside[0]) == 600


def test_death_balls_at_one_point_and_at_the_ninjas_centre_get_no_impulse():
    bank = build_bank([make_map([(25, 20, 20, 0, 0), (25, 20, 20, 0, 0)], balls=2)])
    _, state = new_state(bank, 1)
    reset_game(bank, state, 0, 0)
    frame(bank, state, 0, 0, 0)
    # In their thoughts all three are at one point (PHYSICS.md 8.5); then the ninja falls a little, and both touch it.
    assert state.mover["x"][0].tolist() == [120, 120] and state.mover["y"][0].tolist() == [120, 120]
    assert state.mover["a"][0].tolist() == [0, 0] and state.mover["b"][0].tolist() == [-10, -10]
    assert state.ninja["state"][0] == 6


@njit
def _open(bank, state, vertical, at, first, last, direction):
    level = bank.level[0]
    if vertical:
        return column_open(level, bank.edge, state.edge, 0, at, first, last, direction)
    return row_open(level, bank.edge, state.edge, 0, first, last, at, direction)


def test_edges_outside_their_tables_are_blocked():
    bank = build_bank([make_map()])
    _, state = new_state(bank, 1)
    reset_game(bank, state, 0, 0)
    # PHYSICS.md 8.5: vertical look-ups with clamped row 50, horizontal ones with clamped column 88.
    assert _open(bank, state, True, 70, 49, 49, 1)
    assert not _open(bank, state, True, 70, 50, 50, 1)
    assert not _open(bank, state, True, 70, 49, 70, 1)
    assert _open(bank, state, False, 35, 87, 87, -1)
    assert not _open(bank, state, False, 35, 88, 88, -1)
    # Below 0 everything reads column or row 0, whose outline is open (3.7).
    assert _open(bank, state, True, -5, -9, -9, -1)
    assert not _open(bank, state, True, 1, 10, 10, 1)  # the inner face of the border ring
    assert _open(bank, state, True, 2, 10, 10, 1)


def test_door_counters_are_never_clamped():
    # A regular door is a wall on x = 240 for drones; each frame of contact takes one off its counters (PHYSICS.md 8.3).
    bank = build_bank([make_map([(5, 40, 40, 0, 0)], spawn=(40, 40))])
    _, state = new_state(bank, 1)
    reset_game(bank, state, 0, 0)
    assert state.edge[0].tolist() == [1, 1]
    assert not _open(bank, state, True, 19, 20, 20, 1)
    frame(bank, state, 0, 0, 0)
    assert state.edge[0].tolist() == [0, 0] and not state.closed[0, 0]
    assert _open(bank, state, True, 19, 20, 20, 1)
    frame(bank, state, 0, 0, 0)
    assert state.edge[0].tolist() == [-1, -1]
    assert not _open(bank, state, True, 19, 20, 20, 1)


def test_a_copied_row_continues_as_the_original():
    for case in list(golden(SAMPLE / "fuzz.npz"))[::6]:
        bank = build_bank([case["map"]])
        rows, state = new_state(bank, 2)
        assert rows.shape == (2, row_bytes(bank)) and rows.dtype == np.uint8
        keys = np.frombuffer(case["inputs"], np.uint8)
        half = len(case["trajectory"]) // 2
        trajectory, states = np.zeros((len(keys), 4)), np.zeros(len(keys), np.uint8)
        reset_game(bank, state, 0, 0)
        assert play(bank, state, 0, keys[:half], trajectory, states) == half
        snapshot = rows[0].copy()
        play(bank, state, 0, keys[half:], trajectory[half:], states[half:])
        end = rows[0].copy()
        rows[1] = snapshot
        again = np.zeros((len(keys) - half, 4))
        frames = play(bank, state, 1, keys[half:], again, states[half:])
        assert np.array_equal(again[:frames], case["trajectory"][half:])
        assert np.array_equal(rows[1], end)


def test_reset_leaves_nothing_of_the_game_before():
    cases = list(golden(SAMPLE / "fuzz.npz"))[:12]
    bank = build_bank([case["map"] for case in cases])
    rows, state = new_state(bank, 2)
    rng = np.random.default_rng(1)
    rows[0] = rng.integers(0, 255, rows.shape[1])
    for i, case in enumerate(cases):
        trajectory, states = np.zeros((len(case["inputs"]), 4)), np.zeros(len(case["inputs"]), np.uint8)
        reset_game(bank, state, 0, i)
        frames = play(bank, state, 0, np.frombuffer(case["inputs"], np.uint8), trajectory, states)
        assert np.array_equal(trajectory[:frames], case["trajectory"]), case["name"]


def test_a_bank_of_many_levels_is_built_fast():
    maps = [case["map"] for name in ("fuzz", "fuzz_wide") for case in golden(SAMPLE / f"{name}.npz")]
    maps = maps * 4
    times = []
    for _ in range(3):
        start = time.process_time()
        build_bank(maps)
        times.append(time.process_time() - start)
    assert min(times) < 0.001 * len(maps)  # 0.2 ms each on a quiet machine


# Chaser drones and lasers, which are this project's own completion (npp_rl/simulator/unfinished.py).


def final_of(records, inputs, **options):
    return simulate_final(make_map(records, **options), inputs, unfinished=True)


def test_unfinished_entities_are_off_by_default():
    records = [(15, 40, 20, 0, 0), (23, 24, 20, 0, 0), (15, 9, 9, 255, 255)]
    inputs = bytes(300)
    alone = simulate_final(make_map(), inputs)
    for a, b in zip(simulate_final(make_map(records), inputs), alone, strict=True):
        assert np.array_equal(a, b)
    check_map(make_map(records))
    with pytest.raises(
        ValueError, match=r"record 3 at byte 1245 \(chaser drone\) has orientation 255: expected 0 to 7"
    ):
        check_map(make_map(records), unfinished=True)
    for record, what in (
        ((15, 9, 9, 0, 4), r"\(chaser drone\) has mode 4"),
        ((23, 9, 9, 8, 9), r"\(laser\) has orien"),
    ):
        with pytest.raises(ValueError, match=what):
            build_bank([make_map([record])], unfinished=True)


def test_golden_cases_hold_with_the_option_where_no_such_entity_is():
    for case in list(golden(SAMPLE / "fuzz.npz"))[:20]:
        kinds = case["map"][1230::5]
        if 15 not in kinds and 23 not in kinds:
            assert np.array_equal(simulate(case["map"], case["inputs"], unfinished=True)[0], case["trajectory"])


def test_a_chaser_sees_the_ninja_and_flies_at_it_until_blocked():
    # On the floor of the field (y = 566 for the ninja), 300 px to the right of the ninja and facing away from the wall.
    floor = [(15, 90, 94, 4, 2)]
    *_, final = final_of(floor, bytes(1), spawn=(40, 94))
    assert final.tolist() == [[15, 540 - 8 / 7, 564, 1, 1]]
    *_, final = final_of(floor, bytes(3), spawn=(40, 94))
    assert final[0, 1] == 540 - 8 / 7 - 16 / 7 - 16 / 7
    _, states, _, final = final_of(floor, bytes(400), spawn=(40, 94))
    # Centres 300 px apart touch at 17.5 px.
    assert states[-1] == 6 and len(states) == 1 + math.ceil((300 - 8 / 7 - 17.5) / (16 / 7))
    # Facing up, it sees to its left; facing right, it looks ahead, down and up, but not back.
    assert final_of([(15, 90, 94, 6, 2)], bytes(2), spawn=(40, 94))[3][0, 4] == 1
    assert final_of([(15, 90, 94, 0, 2)], bytes(2), spawn=(40, 94))[3][0, 4] == 0
    # More than 12 px aside is out of sight.
    assert final_of([(15, 90, 91, 4, 2)], bytes(2), spawn=(40, 94))[3][0, 4] == 0
    # A wall between them hides the ninja.
    tiles = np.zeros((23, 42))
    tiles[22, 15] = 1
    assert final_of(floor, bytes(300), spawn=(40, 94), tiles=tiles)[1][-1] != 6
    # When the ninja has fallen out of sight the chase goes on to the wall; there the drone patrols again, at its own
    # speed: at x = 31.5 its edge touches the wall, and a turn to its right leads up.
    above = [(15, 60, 85, 4, 2)]
    seen, flown = (final_of(above, bytes(n), spawn=(40, 85)) for n in (1, 140))
    assert seen[3][0].tolist() == [15, 360 - 8 / 7, 510, 1, 1]
    assert flown[3][0, 4] == 1 and flown[3][0, 1] == pytest.approx(360 - 8 / 7 - 139 * 16 / 7)
    _, states, _, end = final_of(above, bytes(160), spawn=(40, 85))
    assert states[-1] < 6 and end[0, 4] == 0 and 31.5 <= end[0, 1] < 31.5 + 16 / 7
    assert 510 - 20 * 8 / 7 < end[0, 2] < 510


def test_a_spinning_laser_kills_with_its_beam_and_walls_stop_it():
    # It points right at first and turns by 0.010471975 a frame, clockwise on the screen unless its mode is 1.
    east = final_of([(23, 60, 90, 0, 0)], bytes(5), spawn=(90, 90))
    assert east[1].tolist() == [6] and east[3].tolist() == [[23, 360, 540, 1, 1]]
    # The ninja rests 26 px lower and 200 px away: the beam reaches its edge when 10 px are left.
    down = final_of([(23, 60, 90, 0, 0)], bytes(300), spawn=(90, 94))[1]
    up = final_of([(23, 60, 90, 0, 1)], bytes(300), spawn=(90, 94))[1]
    assert down[-1] == 6 and 5 < len(down) < 20
    assert len(up) == 300 and up[-1] == 0
    tiles = np.zeros((23, 42))
    tiles[:, 17] = 1
    assert len(final_of([(23, 60, 90, 0, 0)], bytes(300), spawn=(90, 94), tiles=tiles)[1]) == 300
    # After a turn of 600 frames a laser at rest on a wall has done nothing.
    surface = final_of([(23, 60, 95, 0, 0)], bytes(650), spawn=(90, 94))
    assert surface[1][-1] == 0 and surface[3][0, 4] == 2
