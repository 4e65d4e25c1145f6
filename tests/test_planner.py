import json
import math
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
from calls import call
from hand_made import CORRIDOR, corridor, ground, here, level, middle

from npp_rl.commands import LevelError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import inputs_of
from npp_rl.levels.builtin import par_of
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.replays import read_replays, write_replay
from npp_rl.planning import planner, search
from npp_rl.planning.search import Settings
from npp_rl.simulator import WON, build_bank, reset_game, simulate

NODES = 20_000


@pytest.fixture(autouse=True)
def lean(monkeypatch):
    """Small searches, which is what these levels need."""
    monkeypatch.setattr(planner, "NODES", NODES)
    monkeypatch.setattr(planner, "PLAYED", 20_000)
    monkeypatch.setattr(planner, "SEARCHES", planner.SEARCHES[:8])
    monkeypatch.setattr(planner, "SHORTENINGS", ((6.0, 0.5, 0.0, 2_000), (8.0, 0.6, 16.0, 2_000)))


def solve(of, **more):
    found, reason = planner.plan_level(of, **{"budget": 60.0, **more})
    assert found is not None, reason
    frame_skip = more.get("frame_skip", 4)
    trajectory, states = simulate(of.map_data, found.inputs)
    assert len(states) == found.frames == len(found.inputs) and states[-1] == WON
    assert found.actions.dtype == np.uint8 and len(found.actions) == -(-found.frames // frame_skip)
    assert inputs_of(found.actions, frame_skip, found.frames) == found.inputs
    return found, trajectory


def frames_of(of, key, most=2000):
    """Frames until the win with one input held, None without a win."""
    _, states = simulate(of.map_data, bytes([key]) * most)
    return len(states) if states[-1] == WON else None


def shaft():
    """Nothing but gravity decides how fast the ninja falls past the switch and into the exit."""
    return level(ground((10, 5, 10, 12)), middle(10, 5), [(middle(10, 12), middle(10, 8))], name="shaft")


def walled():
    return level(ground((5, 12, 10, 12), (15, 12, 20, 12)), here(6), [(here(18), here(8))], name="walled")


def test_a_fall_takes_as_long_as_gravity_says():
    found, _ = solve(shaft())
    assert found.frames == frames_of(shaft(), 0) is not None


def test_a_straight_corridor_is_run_at_least_as_fast_as_by_holding_right():
    found, _ = solve(corridor())
    assert found.frames <= frames_of(corridor(), 2)
    back, trajectory = solve(corridor(spawn=20, switch=30, door=5, name="there and back"))
    assert trajectory[:, 0].max() > 30 * 24 - 24 and back.frames > found.frames


@pytest.mark.parametrize("frame_skip", [1, 3, 8])
def test_plans_lie_on_the_grid_of_other_frame_skips(frame_skip):
    found, _ = solve(corridor(spawn=5, switch=8, door=11), frame_skip=frame_skip)
    assert found.frames <= 2 * frames_of(corridor(spawn=5, switch=8, door=11), 2)


def test_mines_and_pits_are_jumped_over():
    room = ground((5, 8, 30, 12), (14, 13, 16, 14))
    mines = [middle(c, 14) for c in (14, 15, 16)] + [(24 * 22 + 12, 24 * 12 + 18)]
    of = level(room, middle(6, 12), [(middle(29, 12), middle(25, 12))], mines, name="jumps")
    _, trajectory = solve(of)
    assert np.hypot(*(trajectory[:-1, None, :2] - np.array(mines)).T).min() >= 14


def test_a_locked_door_s_switch_comes_first():
    room = ground((5, 12, 30, 12))
    door = (24 * 20, 24 * 12 + 12)
    of = level(room, here(12), [(here(28), here(24))], locked=[(door, 0, here(6))], name="locked")
    _, trajectory = solve(of)
    left, right = np.argmin(trajectory[:, 0]), np.flatnonzero(trajectory[:, 0] > door[0])[0]
    assert trajectory[left, 0] < 24 * 7 + 12 and left < right


def test_toggled_mines_are_told_apart(monkeypatch):
    # The mine that lies in the corridor turns deadly behind the ninja: the way back to the exit is barred.
    monkeypatch.setattr(planner, "SEARCHES", planner.SEARCHES[1:2])
    of = level(ground((4, 12, 13, 12)), here(7), [(here(4), here(13))], toggle_mines=[here(10)])
    found, reason = planner.plan_level(of, 60.0, 4, 0)
    assert found is None and reason.startswith("no way left after")


def test_levels_that_cannot_be_won_say_why():
    mined = corridor(mines=[here(5)])
    for of in (walled(), mined):
        found, reason = planner.plan_level(of, 60.0, 4, 0)
        assert found is None and reason.startswith("no way left after")
    found, reason = planner.plan_level(level(ground((5, 12, 10, 12)), here(6)), 1.0, 4, 0)
    assert found is None and reason == "unsolvable: the level has no exit"
    found, reason = planner.plan_level(corridor(), 1e-9, 4, 0)
    assert found is None and "within the budget" in reason


def test_the_same_seed_gives_the_same_plan():
    of = level(ground((5, 8, 20, 12)), middle(6, 12), [(middle(19, 9), middle(12, 9))])
    first, again = solve(of, seed=3)[0], solve(of, seed=3)[0]
    assert first.inputs == again.inputs


def test_plans_from_the_middle_of_a_game_win_in_the_environment():
    levels = [corridor(name="a"), corridor(spawn=20, switch=30, door=5, mines=[here(40)], name="b")]
    envs = NppVectorEnv(2, levels, ("game_state",), autoreset=False)
    envs.reset(options={"levels": [0, 1]})
    for _ in range(12):
        envs.step(np.array([2, 5]))
    rows = envs.get_state()["rows"]
    bank = build_bank([each.map_data for each in levels])
    pools = planner.make_pools(bank, NODES)
    for game in range(2):
        found = planner.plan_from(bank, rows[game], budget=60.0, pools=pools)
        actions = np.zeros(2, np.int64)
        for step, action in enumerate(found.actions):
            actions[game] = action
            _, _, terminated, _, infos = envs.step(actions)
            assert terminated[game] == (step == len(found.actions) - 1)
        assert infos["outcome"]["success"][game] and infos["outcome"]["frames"][game] == 48 + found.frames
        assert planner.plan_from(bank, envs.get_state()["rows"][game], pools=pools) is None
        envs.reset(options={"levels": [0, 1]})
        for _ in range(12):
            envs.step(np.array([2, 5]))


def test_rows_that_do_not_fit_are_refused():
    bank = build_bank([corridor().map_data])
    pools = planner.make_pools(bank, NODES)
    with pytest.raises(ValueError, match="row of uint8"):
        planner.plan_from(bank, np.zeros(8, np.uint8), pools=pools)
    row = pools.state.ninja[:1].copy()
    row["level"] = 1
    bytes_ = np.zeros(pools.words.shape[1] * 8, np.uint8)
    bytes_[: row.nbytes] = row.view(np.uint8)
    with pytest.raises(ValueError, match="row of level 1"):
        planner.plan_from(bank, bytes_, pools=pools)
    for bad in ({"budget": 0}, {"frame_skip": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(bad)).replace("_", "-")):
            planner.plan_from(bank, bytes_, pools=pools, **bad)


def test_long_rows_get_fewer_nodes():
    bank = build_bank([corridor().map_data])
    assert len(planner.make_pools(bank, NODES).parent) == NODES
    assert len(planner.make_pools(bank, NODES).free) == NODES
    for of in (corridor(), level(CORRIDOR, here(5), [(here(20), here(12))], others=[(17, here(9), 0, 0)] * 400)):
        bank = build_bank([of.map_data])
        pools = planner.make_pools(bank, 1 << 30)
        arrays = [pools.words, pools.state.near, pools.goal, pools.total, pools.free, pools.parent, pools.action]
        arrays += [pools.held, pools.row, pools.priority, pools.queue, pools.key, pools.reached]
        assert planner.MEMORY // 2 < sum(array.nbytes for array in arrays) <= planner.MEMORY


def explore(of, settings, nodes=60_000, rows=60_000, steps=4096):
    """One search, with settings as in a row of SEARCHES -> (status, pools)."""
    bank = build_bank([of.map_data])
    pools = search.make_pools(bank, nodes, rows, steps)
    reset_game(bank, pools.state, 0, 0)
    settings = Settings(4, *settings[1:-3], 0.0, *settings[-3:])
    return planner._run(bank, pools, settings, 1 << 30, math.inf, nodes), pools


def test_small_cells_where_few_states_are_known_find_narrow_ways():
    # Between these mines the way is so narrow that large cells take the one run that gets through for another one.
    mines = [(240, 306), (222, 288), (222, 264), (186, 228), (228, 240), (156, 312), (204, 318)]
    of = level(ground((4, 8, 17, 13)), middle(4, 13), [(middle(16, 13), middle(16, 9))], mines, name="mined")
    large, small = planner.SEARCHES[:2]
    assert explore(of, large)[0] == search.EXHAUSTED and explore(of, small)[0] == search.FOUND


def test_many_doors_are_opened_one_after_the_other(monkeypatch):
    # Twelve switches in a room, in any order, open twelve doors in a corridor: 4,096 combinations.
    # The searches before this one do not win within NODES.
    monkeypatch.setattr(planner, "SEARCHES", planner.SEARCHES[5:6])
    monkeypatch.setattr(planner, "SHORTENINGS", ())
    doors = [(24 * (18 + k), 24 * 12 + 12) for k in range(12)]
    switches = [middle(2 + 5 * k % 12, 12 - k % 3) for k in range(12)]
    locked = [(door, 0, switch) for door, switch in zip(doors, switches, strict=True)]
    room = ground((2, 8, 13, 12), (14, 12, 40, 12))
    of = level(room, middle(7, 12), [(here(39), here(36))], locked=locked, name="keys")
    solve(of)


def test_stages_that_end_in_lost_states_are_played_again_to_other_ends(monkeypatch):
    # A stage has ends 1 to 20, in this order, of which only those from 6 on win. No search goes on here.
    pools = SimpleNamespace(
        words=np.arange(30)[:, None].copy(), row=np.arange(30), counts=np.zeros(11, np.int64), state=None
    )
    started = []

    def go_on(*arguments):
        pools.counts[search.BEST] += 1
        return search.STAGE if pools.counts[search.BEST] <= 20 else search.EXHAUSTED

    def begin(*arguments):
        started.append(int(pools.words[0, 0]))
        pools.counts[search.BEST] = 0
        if started[-1] == 0:
            return go_on()
        return search.FOUND if started[-1] >= 6 else search.EXHAUSTED

    monkeypatch.setattr(planner, "_run", begin)
    monkeypatch.setattr(planner, "_go_on", go_on)
    monkeypatch.setattr(planner, "_path", lambda pools: np.array([pools.counts[search.BEST]], np.uint8))
    settings = Settings(4, *planner.SEARCHES[5][1:-3], 0.0, *planner.SEARCHES[5][-3:])
    status, actions = planner._find(None, pools, settings, 1 << 30, math.inf, 100)
    assert settings.stages and status == search.FOUND and started == [0, 1, 0, 9]
    assert actions.tolist() == [9, 0] and pools.words[0, 0] == 0


def big_room():
    return level(ground((2, 2, 41, 22)), middle(3, 22), [(middle(40, 3), middle(40, 22))], name="room")


def test_a_large_room_takes_little_memory(monkeypatch):
    monkeypatch.setattr(planner, "NODES", 1 << 30)
    monkeypatch.setattr(planner, "MEMORY", 16 << 20)
    solve(big_room())


def test_rows_of_expanded_nodes_are_used_again():
    # From corner to corner of a room: over 30,000 states, of which at most 5,000 wait at a time.
    room = big_room()
    status, pools = explore(room, planner.SEARCHES[0], 200_000, 5_000, 500)
    assert status == search.FOUND and pools.counts[search.COUNT] > 30_000
    assert len(pools.free) == 5_000 == len(pools.words)
    path = planner._path(pools)
    _, states = simulate(room.map_data, inputs_of(path, 4))
    assert WON in states


def test_a_search_that_runs_out_of_rows_does_not_claim_that_there_is_no_way():
    shut_in = level(ground((3, 9, 9, 12), (24, 12, 30, 12)), middle(4, 12), [(here(28), here(26))], name="shut in")
    whole, pools = explore(shut_in, planner.SEARCHES[0])
    assert whole == search.EXHAUSTED and not pools.counts[search.THINNED]
    thinned, pools = explore(shut_in, planner.SEARCHES[0], 60_000, 150, 100)
    assert thinned == search.FULL and pools.counts[search.THINNED]


def test_movers_that_are_far_away_make_no_states():
    drones = [(14, middle(32, 8), 0, 0), (14, middle(36, 8), 0, 0)]
    of = level(ground((5, 12, 10, 12), (30, 5, 40, 12)), here(6), [(here(35), here(33))], others=drones)
    settings = list(planner.SEARCHES[0])
    states = {}
    for reach in (0.0, 72.0, 2000.0):
        settings[7] = reach
        status, pools = explore(of, settings)
        assert status == search.EXHAUSTED
        states[reach] = int(pools.counts[search.STATES])
    assert states[0.0] == states[72.0] < states[2000.0] // 5


def test_a_busy_machine_takes_nothing_from_the_budget(monkeypatch):
    real = search.search

    def slow(*arguments):
        time.sleep(0.05)
        return real(*arguments)

    planner.compile_ahead()
    monkeypatch.setattr(search, "search", slow)
    monkeypatch.setattr(planner, "CHUNK", 10)
    monkeypatch.setattr(planner, "SHORTENINGS", ())
    found, reason = planner.plan_level(corridor(), 0.1)
    assert found is not None, reason
    assert 0.0 < found.won_after < 0.1


def test_figures_are_by_group_where_there_are_several():
    entry = {"category": "SI", "group": "static", "solved": True, "frames": 100, "won_after": 1.0, "seconds": 2.0}
    late = entry | {"frames": 300, "won_after": 11.0}
    lost = entry | {"group": "moving", "solved": False, "frames": None, "won_after": None, "seconds": 60.0}
    kept = entry | {"group": "moving", "frames": 50, "won_after": None, "seconds": None}
    figures = planner.summarise([entry, late, lost, kept])
    assert list(figures) == ["SI moving", "SI static", "overall"]
    assert [figures["SI static"][k] for k in ("levels", "solved", "solved_soon", "median_frames")] == [2, 2, 1, 200]
    assert [figures["SI moving"][k] for k in ("levels", "solved", "solved_soon", "median_frames")] == [2, 1, 0, 50]
    assert [figures["overall"][k] for k in ("levels", "frames", "seconds")] == [4, 150, pytest.approx(64 / 3)]
    assert list(planner.summarise([entry, late])) == ["SI", "overall"]


def test_groups_of_levels_are_chosen(tmp_path, capsys):
    drone = level(CORRIDOR, here(5), [(here(20), here(12))], others=[(14, here(40), 0, 0)], name="drone")
    (tmp_path / "set").mkdir()
    for of in (corridor(name="still"), drone):
        (tmp_path / "set" / of.id).write_bytes(of.map_data)
    run(tmp_path, "--groups", "moving")
    index = json.loads((tmp_path / "out" / "planner.json").read_text())["levels"]
    assert [(entry["id"], entry["group"]) for entry in index] == [("drone", "moving")]
    assert 0 < index[0]["won_after"] <= index[0]["seconds"]
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--groups", "not simulated")
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "--groups not simulated: " in said and "has no such level" in said


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("0.5s", 0.5), (".5s", 0.5), ("2m", 120), (" 1.5m", 90)])
def test_budgets(text, seconds):
    assert planner.parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 h", "-1s", "0s", "1e3s", "nans", "99999999m"])
def test_budgets_that_are_not_understood(text):
    with pytest.raises(ValueError, match=r"--budget .*5s, 0.5s or 2m"):
        planner.parse_budget(text)


@pytest.fixture
def folder(tmp_path):
    """A data set of two levels that can be won, and one that cannot."""
    for name, of in {"a": corridor(), "b": shaft(), "walled": walled()}.items():
        (tmp_path / "set" / "simplest").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "simplest" / name).write_bytes(of.map_data)
    return tmp_path


def run(folder, *more, dataset=None, out=None):
    call(planner, "--dataset", dataset or folder / "set", "--out", out or folder / "out", "--budget", "60s", *more)


def test_the_command_solves_writes_and_goes_on(folder, capsys):
    out = folder / "out"
    run(folder, "--json", folder / "summary.json")
    said = capsys.readouterr().out
    assert "not solved (1):" in said and "simplest/walled (simplest): no way left" in said
    entries = json.loads((out / "planner.json").read_text())["levels"]
    levels = load_levels(folder / "set")
    assert [entry["id"] for entry in entries] == [each.id for each in levels]
    assert [entry["solved"] for entry in entries] == [True, True, False]
    summary = json.loads((folder / "summary.json").read_text())["summary"]["overall"]
    assert (summary["levels"], summary["solved"]) == (3, 2)
    assert par_of(levels, out) == [entries[0]["frames"], entries[1]["frames"], None]
    files = {path.name for path in out.iterdir()}
    assert files == {"planner.json", entries[0]["file"], entries[1]["file"]}
    for entry, each in zip(entries[:2], levels, strict=False):
        (replay,) = read_replays(out / entry["file"])
        assert replay.format == "compact 1" and replay.recorded_success and not replay.problem
        assert replay.map_data == each.map_data and len(replay.inputs) == entry["frames"]

    # Again: what wins stays as it is, what is damaged, of another level or off the grid is replaced.
    kept, damaged = out / entries[0]["file"], out / entries[1]["file"]
    os.utime(kept, (1, 1))
    damaged.write_bytes(damaged.read_bytes()[:-7])
    run(folder)
    assert f"{damaged}: replaced (" in capsys.readouterr().err.replace("\n", "")
    assert kept.stat().st_mtime == 1 and json.loads((out / "planner.json").read_text())["levels"] != []
    assert len(read_replays(damaged)[0].inputs) == entries[1]["frames"]


@pytest.mark.parametrize("what", ["of another level", "does not win", "are not held for 4 frames"])
def test_replays_that_are_no_plans_are_seen(tmp_path, what):
    of, path = corridor(), tmp_path / "a.replay"
    frames = frames_of(of, 2)
    inputs = b"\2" * (9 if what == "does not win" else frames)
    if what == "are not held for 4 frames":
        inputs = b"\0\2\2" + b"\2" * frames
    write_replay(path, (shaft() if what == "of another level" else of).map_data, inputs, True)
    if what == "are not held for 4 frames":
        length = len(simulate(of.map_data, inputs)[1])
        write_replay(path, of.map_data, inputs[:length], True)
    with pytest.raises(ValueError, match=what):
        planner.known_frames(path, of, 4)
    write_replay(path, of.map_data, b"\2" * frames, True)
    assert planner.known_frames(path, of, 4) == frames


def test_a_run_that_is_stopped_leaves_whole_files(tmp_path):
    levels = [corridor(name="a"), shaft(), corridor(spawn=6, name="c")]
    running = planner.plan_levels(levels, tmp_path, 60.0, workers=1)
    first = next(running)
    running.close()
    done = {entry["id"] for entry in json.loads((tmp_path / "planner.json").read_text())["levels"]}
    assert first["id"] in done
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    assert {entry["id"] for entry in planner.plan_levels(levels, tmp_path, 60.0)} == {"a", "shaft", "c"}
    assert None not in par_of(levels, tmp_path)


def test_names_of_files_are_safe_and_differ():
    names = [planner.replay_name(corridor(name=name)) for name in ("a/b", "../x", "ü", "a" * 300)]
    names.append(planner.replay_name(corridor(spawn=6, name="a/b")))
    assert len(set(names)) == 5 and all("/" not in name and len(name) < 120 for name in names)
    assert all(not name.startswith(".") for name in names)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--budget", "5"], "--budget '5': expected seconds or minutes"),
        (["--frame-skip", "0"], "--frame-skip 0: expected"),
        (["--workers", "0"], "--workers 0: expected"),
        (["--split", "validation"], "--split"),
    ],
)
def test_bad_arguments_are_one_line(folder, capsys, more, words):
    with pytest.raises(SystemExit) as stop:
        run(folder, *more)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and words in said and said.count("\n") == 1 and not (folder / "out").exists()


def test_bad_places_are_one_line(folder, capsys):
    (folder / "file").write_text("")
    for places, words in (
        ({"dataset": folder / "nothing"}, "nothing: no such folder or file"),
        ({"out": folder / "file"}, "file: cannot be written"),
        ({"out": folder / "file" / "below"}, "cannot be written"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(folder, **places)
        said = capsys.readouterr().err
        assert stop.value.code == 2 and words in said, said
        assert said.startswith("error: ") and said.count("\n") == 1  # no progress before it


def test_levels_of_a_data_set_are_kept_apart_by_what_they_are(tmp_path):
    levels = [corridor(name="x"), corridor(spawn=6, name="x")]
    entries = list(planner.plan_levels(levels, tmp_path, 60.0))
    assert len({entry["file"] for entry in entries}) == 2 and all(entry["solved"] for entry in entries)
    with pytest.raises(LevelError, match=r"elsewhere: cannot be read"):
        par_of(levels, tmp_path / "elsewhere")
