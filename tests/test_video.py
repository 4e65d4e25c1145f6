"""Videos: what is written can be decoded to what was drawn; evaluations film won and lost episodes."""

import dataclasses
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hand_made import corridor, here

from npp_rl.commands import ArgumentError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.evaluation import __main__ as evaluation_command
from npp_rl.evaluation import result_files, suite
from npp_rl.simulator import new_state, reset_game, simulate
from npp_rl.training.checkpoints import Counters
from npp_rl.training.clock import Clock
from npp_rl.viewing import video
from npp_rl.viewing.render import Scene

ROOT = Path(__file__).parents[1]


def decoded(path):
    """All pictures of a video, uint8 [n, height, width, 3], and its stream's properties."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        about = (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate)
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    return pictures, about


def test_a_video_holds_the_pictures(tmp_path):
    made = corridor(spawn=5, switch=12, door=20, name="a corridor")
    inputs = bytes([2]) * 40
    drawn = list(video.game_pictures(made.map_data, inputs, made.id))
    assert len(drawn) == 41 + video.LAST_PICTURE
    assert video.write_video(tmp_path / "one.mp4", drawn) == len(drawn)
    pictures, about = decoded(tmp_path / "one.mp4")
    assert about == ("h264", "yuv420p", 60)
    assert pictures.shape == (len(drawn), 600, 1056, 3)
    for k in (0, 20, len(drawn) - 1):
        assert np.abs(pictures[k].astype(int) - drawn[k]).mean() < 4
        # The right picture, not a neighbour: the ninja runs by some px a frame.
    assert np.abs(pictures[40].astype(int) - drawn[40]).mean() < np.abs(pictures[40].astype(int) - drawn[25]).mean()
    assert [path.name for path in tmp_path.iterdir()] == ["one.mp4"]
    data = (tmp_path / "one.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat"), "a browser finds the index first"


def test_pictures_of_a_game_are_those_of_its_states():
    made = corridor(spawn=5, mines=[here(8)])
    inputs = bytes([2]) * 300
    drawn = list(video.game_pictures(made.map_data, inputs, "", 2))
    frames = len(simulate(made.map_data, inputs)[0])
    assert frames < 300 and len(drawn) == 1 + frames + video.LAST_PICTURE
    scene = Scene(made.map_data, 2)
    _, state = new_state(scene.bank, 1)
    reset_game(scene.bank, state, 0, 0)
    assert np.array_equal(drawn[0][48:], scene.picture(state, 0)[48:])  # below the caption
    assert all(np.array_equal(picture, drawn[-1]) for picture in drawn[-video.LAST_PICTURE :])
    assert not np.array_equal(drawn[-1][48:], drawn[frames - 1][48:])


def test_bad_videos_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        video.write_video(tmp_path / "a.mp4", [])
    with pytest.raises(ValueError, match="31 x 20, expected even sides"):
        video.write_video(tmp_path / "a.mp4", [np.zeros((20, 31, 3), np.uint8)])
    with pytest.raises(OSError, match=r"a\.mp4"):
        video.write_video(tmp_path / "missing" / "a.mp4", [np.zeros((20, 30, 3), np.uint8)])

    def broken():
        yield np.zeros((20, 30, 3), np.uint8)
        raise RuntimeError("the game broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        video.write_video(tmp_path / "a.mp4", broken())
    assert list(tmp_path.iterdir()) == []


def right_only(_):
    return np.tile(np.float32([0, 0, 1, 0, 0, 0]), (suite.BATCH, 1))


def test_an_evaluation_is_filmed(tmp_path, monkeypatch):
    monkeypatch.setattr(result_files, "FILMED_FRAMES", 150)
    levels = [
        corridor(spawn=5, switch=12, door=20, name="folder/won first"),
        corridor(spawn=5, switch=12, door=22, name="won second"),
        corridor(spawn=5, mines=[here(8)], name="mined"),
        corridor(spawn=15, switch=12, door=20, name="never"),
    ]
    results = suite.evaluate(right_only, levels, observations=("game_state",), frame_skip=3)
    for entry in results["levels"]:
        (outcome,) = entry["tries"]
        assert re.fullmatch("2+", outcome["actions"]) and len(outcome["actions"]) == outcome["steps"]
    result_files.write_results(results, tmp_path, "title", {}, levels)
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["folder_won_first__won.mp4", "mined__died_mine.mp4", "never__out_of_time.mp4"]
    for name, index in zip(names, (0, 2, 3), strict=True):
        with av.open(str(tmp_path / "videos" / name)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        expected = results["levels"][index]["tries"][0]["frames"] if index != 3 else 150
        assert frames == expected + 1 + video.LAST_PICTURE
    assert results["levels"][3]["tries"][0]["frames"] > 150
    assert json.loads((tmp_path / "eval_results.json").read_text()) == results
    result_files.write_results(results, tmp_path / "plain", "title", {})
    assert not (tmp_path / "plain/videos").exists()


def test_videos_end_in_time_and_show_how_far_they_are(tmp_path, monkeypatch, capsys):
    """The first games of each category and kind of end come first; none is begun that would end too late."""
    levels = [corridor(spawn=5, switch=12, door=20, name=f"{category}/{k}") for category in "ab" for k in range(2)]
    levels = [dataclasses.replace(level, category=level.id[0]) for level in levels]
    lost = {"success": False, "cause": "none", "failure": "stuck", "frames": 600, "actions": "0" * 150}
    entries = [{"tries": [lost]} for _ in levels]
    results = {"levels": entries, "settings": {"frame_skip": 4}}
    now = [0.0]

    def write_video(path, pictures):
        now[0] += 40
        return 600

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(video, "write_video", write_video)
    names = [path.name for path in result_files.film(results, levels, tmp_path, minutes=math.inf)]
    assert names == ["a_0__out_of_time.mp4", "b_0__out_of_time.mp4", "a_1__out_of_time.mp4", "b_1__out_of_time.mp4"]
    assert "videos: 1 of 4 after 40 s" in capsys.readouterr().out
    assert len(result_files.film(results, levels, tmp_path, minutes=1.9)) == 2  # a third would end after 120 s
    assert "videos: 2 of 4 were made in the time of the run" in capsys.readouterr().out
    assert len(result_files.film(results, levels, tmp_path, minutes=0)) == 1


def test_a_run_with_a_time_keeps_some_of_it_for_videos():
    plain, filming = Clock(10.0), Clock(10.0, videos=True)
    for clock in (plain, filming):
        clock.started -= 9 * 60
        clock.begin(Counters(), False, 0.0, 0, 0)
        clock.started, clock.ready_minutes = clock.started - 3, 0.0
    assert plain.progress(0) < 1 and filming.progress(0) == 1
    assert filming.filming_minutes() == pytest.approx(0.95, abs=0.01)
    assert Clock(100.0, videos=True).video_minutes == 5 and Clock(None, videos=True).filming_minutes() == math.inf
    assert Clock(None, videos=True).progress(0.5) == 0.5


def test_sampled_tries_are_what_is_filmed(tmp_path):
    """The recorded actions lead to the recorded end, also where several tries differ."""
    levels = [corridor(spawn=5, switch=8, door=11, mines=[here(14)], name="short")]

    def likes_right(_):
        return np.tile(np.float32([1, 0, 2, 0, 0, 1]), (suite.BATCH, 1))

    results = suite.evaluate(likes_right, levels, observations=("game_state",), deterministic=False, tries=3, seed=4)
    tries = results["levels"][0]["tries"]
    assert len({outcome["actions"] for outcome in tries}) == 3
    (path,) = result_files.film(results, levels, tmp_path)
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == tries[0]["frames"] + 1 + video.LAST_PICTURE
    envs = NppVectorEnv(1, levels, ("game_state",), autoreset=False)
    envs.reset()
    for digit in tries[2]["actions"]:
        _, _, terminated, _, infos = envs.step(np.array([int(digit)]))
    assert terminated[0] == (tries[2]["success"] or tries[2]["cause"] != "none")
    assert infos["outcome"]["frames"][0] == tries[2]["frames"]


def test_without_pyav_it_says_so_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(video, "available", lambda: False)
    result_files.check_video(False)
    with pytest.raises(ArgumentError, match=r'--capture-video: videos need PyAV: pip install "npp-rl\[vid'):
        evaluation_command.main(evaluation_command.Args(checkpoint="nowhere.pt", capture_video=True))


def test_pyav_is_imported_for_videos_only():
    words = [sys.executable, "-c", "import npp_rl.evaluation.result_files, sys; print('av' in sys.modules)"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n", done.stderr
