"""Demonstrations: which runs are used and why others are not, held actions, the data set against the environment."""

import json
from pathlib import Path

import numpy as np
import pytest
from calls import call
from hand_made import CORRIDOR, corridor, ground, here, level, middle

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import inputs_of
from npp_rl.levels.maps import mirrored
from npp_rl.levels.replays import encode_replay, read_replays, validate, write_replay
from npp_rl.planning import demonstrations, runs
from npp_rl.planning.demonstrations import Args, discounted, load_demonstrations, main
from npp_rl.planning.held_actions import ACTION_OF_BYTE, fit, on_grid
from npp_rl.planning.runs import DemonstrationError, find_runs, report_of
from npp_rl.simulator import WON, simulate

RIGHT, LEFT, JUMP_RIGHT = b"\2", b"\4", b"\3"


def cut_at_win(map_data, inputs):
    _, states = simulate(map_data, inputs)
    assert states[-1] == WON
    return inputs[: len(states)]


def run_right(one):
    return cut_at_win(one.map_data, RIGHT * 400)


# A room with a step of 24 px in the way, which only a jump takes.
STEP = level(
    ground((1, 9, 14, 12), (15, 9, 15, 11), (16, 9, 42, 12)), middle(5, 12), [(middle(24, 12), middle(19, 12))]
)
JUMPED = cut_at_win(STEP.map_data, RIGHT * 41 + JUMP_RIGHT * 13 + RIGHT * 300)


def write(folder, name, one, inputs, success=True):
    folder.mkdir(parents=True, exist_ok=True)
    write_replay(folder / name, one.map_data, inputs, success)


def test_actions_of_input_bytes():
    """none 0, left 1, right 2, jump 3, left + jump 4, right + jump 5; left beats right."""
    assert ACTION_OF_BYTE.tolist() == [0, 3, 2, 5, 1, 4, 1, 4]
    assert on_grid(bytes([2, 2, 2, 2, 3, 3, 3, 3, 4]), 4).tolist() == [2, 5, 1]
    assert on_grid(bytes([6, 4, 12, 4]), 4).tolist() == [1]  # the same to the ninja
    assert on_grid(bytes([2, 2, 2, 3]), 4) is None and on_grid(bytes([2, 2, 2, 3]), 1).tolist() == [2, 2, 2, 5]
    assert inputs_of(np.array([2, 5], np.uint8), 2) == inputs_of("25", 2) == bytes([2, 2, 3, 3])
    assert inputs_of("012345", 2, 9) == bytes([0, 0, 4, 4, 2, 2, 1, 1, 5])


def test_a_run_is_brought_to_held_actions():
    assert on_grid(JUMPED, 4) is None
    actions = fit(STEP.map_data, JUMPED, 4)
    inputs = inputs_of(actions, 4)
    assert on_grid(inputs, 4) is not None
    trajectory, states = simulate(STEP.map_data, inputs)
    assert states[-1] == WON and abs(len(states) - len(JUMPED)) <= 12
    recorded, _ = simulate(STEP.map_data, JUMPED)
    frames = min(len(recorded), len(trajectory))
    assert np.abs(recorded[:frames, :2] - trajectory[:frames, :2]).max() < 24
    assert fit(STEP.map_data, JUMPED, 1).tobytes() == ACTION_OF_BYTE[list(JUMPED)].tobytes()
    assert fit(STEP.map_data, JUMPED, 200) is None  # one jump at the start does not take the step


def test_mixed_folder(tmp_path):
    """Every way in which a run can be of no use, counted, beside two that can be used."""
    folder, inputs = tmp_path / "mixed", run_right(corridor())
    write(folder, "a_won.replay", corridor(), inputs)
    write(folder, "b_again.replay", corridor(), bytes(b | 8 for b in inputs))
    write(folder, "c_person.replay", STEP, JUMPED)
    write(folder, "d_unfinished.replay", corridor(), inputs[:-1], False)
    write(folder, "e_died.replay", corridor(mines=[here(9)]), inputs, False)
    write(folder, "f_other_map.replay", corridor(30, 5, 2), inputs)
    write(folder, "g_unknown.replay", corridor(7), bytes([200]) + inputs[1:])
    write(folder, "h_no_inputs.replay", corridor(), b"")
    (folder / "i_cut.replay").write_bytes(encode_replay(corridor().map_data, inputs, True)[:-7])
    held = level(ground((1, 12, 41, 12)), here(5), [(here(20), here(12))])
    write(folder, "j_suite.replay", held, run_right(held))
    write(folder, "k_left_over.replay", corridor(8), run_right(corridor(8)) + b"\0")
    write(folder, "l_slow.replay", corridor(9), bytes(1600) + run_right(corridor(9)))
    (folder / "notes.txt").write_text("not a replay")
    (folder / "m_text").write_text("neither is this, whatever it says")

    used, verdicts = find_runs([folder], [held])
    found = {Path(v["file"]).name[0]: v for v in verdicts}
    assert {key: v["verdict"] for key, v in found.items()} == {
        "a": "used", "b": "duplicate", "c": "used", "d": "unfinished", "e": "died", "f": "unfinished", "g": "broken",
        "h": "broken", "i": "broken", "j": "held out", "k": "used", "l": "not executable", "m": "broken",
    }  # fmt: skip
    assert found["g"]["reason"] == "input byte 200 in frame 1: expected 0 to 15"
    assert found["h"]["reason"] == "no inputs"
    assert found["b"]["reason"].endswith("a_won.replay")
    assert found["l"]["reason"] == "lost or out of time in the environment"
    assert [(Path(run.source).name[0], run.fitted) for run in used] == [("a", False), ("c", True), ("k", False)]
    assert used[0].actions.tolist() == [2] * -(-len(inputs) // 4) and used[0].agreement == 1
    report = report_of(used, verdicts, 4)
    assert report["counts"] == {
        "used": 3, "broken": 4, "died": 1, "unfinished": 2, "duplicate": 1, "held out": 1, "not executable": 1,
    }  # fmt: skip
    assert {"verdict": "held out", "reason": "its level is in the test suite", "count": 1} in report["reasons"]
    assert report["steps"] == sum(len(run.actions) for run in used) and sum(report["actions"].values()) == 1
    json.dumps([report, verdicts])

    mirror = mirrored(held)
    assert find_runs([folder / "j_suite.replay"], [mirror])[1][0]["verdict"] == "held out"
    with pytest.raises(DemonstrationError, match=r"no usable demonstration among 1 runs: 1 held out \(its level"):
        load_demonstrations([folder / "j_suite.replay"], [held], ("game_state",))


def test_data_is_what_the_environment_shows(tmp_path):
    """Observations, actions and returns of two runs beside the environment's own, stacks of pictures included."""
    write(tmp_path, "a.replay", corridor(), run_right(corridor()))
    write(tmp_path, "b.replay", STEP, JUMPED)
    names = ("game_state", "local_tiles", "player_frames")
    demos = load_demonstrations([tmp_path], [], names, gamma=0.9, frame_stack=3)
    assert [demos.actions.dtype, demos.returns.dtype, demos.level.dtype] == [np.int64, np.float32, np.int32]
    at = 0
    for index, one in enumerate((corridor(), STEP)):
        assert demos.levels[index].digest == one.digest
        actions = demos.actions[demos.level == index]
        rows = demos.rows(np.arange(at, at + len(actions)))
        envs = NppVectorEnv(1, [one], names, gamma=0.9, frame_stack=3, autoreset=False)
        obs, _ = envs.reset()
        rewards = []
        for step, action in enumerate(actions):
            for name in names:
                np.testing.assert_array_equal(rows[name][step], obs[name][0], f"{name}, step {step}")
            obs, reward, terminated, truncated, infos = envs.step([action])
            rewards.append(reward[0])
            assert (terminated[0] or truncated[0]) == (step == len(actions) - 1)
        assert infos["outcome"]["success"][0]
        powers = 0.9 ** np.arange(len(rewards))
        assert demos.returns[at] == pytest.approx((powers * rewards).sum(), rel=1e-5)
        at += len(actions)
    assert at == len(demos)
    assert discounted(np.array([1, 2, 4], np.float32), 0.5).tolist() == [3, 4, 4]


def test_idle_steps_are_left_out(tmp_path):
    """Two steps of waiting before the run and one of standing still within it; not where things move by themselves."""
    wait = corridor_run(corridor())
    write(tmp_path / "a", "a.replay", corridor(), wait)
    demos = load_demonstrations([tmp_path / "a"], [], ("game_state",))
    stood = np.flatnonzero(demos.idle)
    assert stood[:2].tolist() == [0, 1] and len(stood) > 2 and (demos.actions[stood] == 0).all()
    assert not demos.idle[np.flatnonzero(demos.actions)].any()
    assert not set(np.concatenate(demos.split(0.5))) & set(stood)
    assert not load_demonstrations([tmp_path / "a"], [], ("game_state",), keep_idle=True).idle.any()
    drone = corridor(others=[(14, here(35), 0, 0)])
    write(tmp_path / "b", "b.replay", drone, corridor_run(drone))
    assert not load_demonstrations([tmp_path / "b"], [], ("game_state",)).idle.any()


def corridor_run(one):
    return cut_at_win(one.map_data, bytes(8) + RIGHT * 20 + bytes(80) + RIGHT * 400)


def test_levels_are_split_whole_and_with_their_mirror_images(tmp_path):
    for column in range(10):
        tiles = CORRIDOR.copy()
        tiles[0, column] = 0  # other tiles, so another hash
        one = level(tiles, here(5), [(here(20), here(12))])
        write(tmp_path, f"{column}.replay", one, run_right(one))
    demos = load_demonstrations([tmp_path], [], ("game_state",), mirror=True)
    assert demos.report["mirrored"] == 10 and len(demos.levels) == 20
    assert demos.report["actions"]["left"] == demos.report["actions"]["right"] == 0.5
    train, held = demos.split(0.5)
    origins = np.array(demos.origins)
    sides = set(origins[demos.level[train]]), set(origins[demos.level[held]])
    assert sides[0] and sides[1] and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 10
    assert len(set(demos.level[train].tolist())) == 2 * len(sides[0])
    assert (demos.actions[held] == 2).all()  # no mirror images among them


def test_no_training_step_is_of_a_held_out_level_in_the_mirror(tmp_path):
    """Ten levels and their mirror images, each with a run of its own: their hashes would divide them separately."""
    ones = []
    for column in range(10):
        tiles = CORRIDOR.copy()
        tiles[0, column] = 0
        ones.append(level(tiles, here(5), [(here(20), here(12))]))
        write(tmp_path, f"{column}.replay", ones[-1], run_right(ones[-1]))
        image = mirrored(ones[-1])
        write(tmp_path, f"{column}_turned.replay", image, cut_at_win(image.map_data, LEFT * 400))
    demos = load_demonstrations([tmp_path], [], ("game_state",))
    pair = {one.tiles_digest: k for k, both in enumerate(ones) for one in (both, mirrored(both))}
    train, held = ({pair[demos.levels[k].tiles_digest] for k in demos.level[rows]} for rows in demos.split(0.2))
    assert train and held and not train & held
    left = min(train)
    again = demos.split(0.2, [mirrored(ones[left])])[0]
    assert {pair[demos.levels[k].tiles_digest] for k in demos.level[again]} == train - {left}


def test_cache(tmp_path, monkeypatch, capsys):
    write(tmp_path / "runs", "a.replay", STEP, JUMPED)

    def load(**changes):
        settings = {"observations": ("game_state",), "cache": tmp_path / "cache", **changes}
        return load_demonstrations([tmp_path / "runs"], [], **settings)

    first = load()
    files = sorted((tmp_path / "cache").iterdir())
    assert [path.name.split("-")[0] for path in files] == ["data", "runs"]
    with monkeypatch.context() as patch:
        patch.setattr(demonstrations, "play_runs", None)
        patch.setattr(runs, "play_runs", None)
        patch.setattr(runs, "fit", None)
        again = load()
    np.testing.assert_array_equal(first.obs["game_state"], again.obs["game_state"])
    np.testing.assert_array_equal(first.returns, again.returns)
    np.testing.assert_array_equal(first.actions, again.actions)
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 255
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:100])
    rebuilt = load()
    assert capsys.readouterr().err.count("damaged") == 2
    np.testing.assert_array_equal(first.obs["game_state"], rebuilt.obs["game_state"])
    load(gamma=0.5)
    assert len(list((tmp_path / "cache").iterdir())) == 3  # other returns, the same runs


def test_command(tmp_path, capsys):
    write(tmp_path / "in/simplest", "a.replay", corridor(), run_right(corridor()))
    write(tmp_path / "in/simplest", "b.replay", STEP, JUMPED)
    verdicts, out = tmp_path / "v.json", tmp_path / "out"
    main(Args((str(tmp_path / "in"),), test_dataset="none", json=verdicts, convert=out))
    shown = capsys.readouterr().out
    assert "2 runs (0 of them mirror images) on 2 levels" in shown and "actions: none" in shown
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["counts"]["used"] == 2 and len(report["verdicts"]) == 2
    files = sorted((tmp_path / "out").rglob("*.replay"))
    assert [path.parent.name for path in files] == ["simplest", "simplest"]
    for path in files:
        (replay,) = read_replays(path)
        assert validate(replay).verdict == "won" and replay.format == "compact 1"
        assert on_grid(replay.inputs, 4) is not None
    words = [tmp_path / "in", "--test-dataset", "none"]
    for bad, message in (
        ([tmp_path / "missing"], "missing: no such file or folder"),
        ([], "FOLDER: expected"),
        ([*words, "--frame-skip", "0"], "--frame-skip 0: expected 1 to 1000"),
        ([*words, "--convert", tmp_path / "in"], "is not empty"),
        ([*words, "--nonsense"], "--nonsense"),
    ):
        with pytest.raises(SystemExit) as stop:
            call(demonstrations, *bad)
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
        assert message in error, error


@pytest.mark.slow
def test_runs_of_people_survive(shared):
    used, verdicts = find_runs([shared / "replays/human"])
    report = report_of(used, verdicts, 4)
    # 85 that win as they are and 4 once they are repaired, of which one is the same as another.
    assert {name: count for name, count in report["counts"].items() if count} == {"used": 88, "duplicate": 1, "died": 1}
    assert report["fitted"] > 70 and report["agreement"] > 0.8
