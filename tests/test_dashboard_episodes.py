"""The dashboard's episodes: games played again frame by frame, pictures of them, what agents thought, their suites."""

import base64
import io
import json
import os
import pickle
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import played
from PIL import Image
from serving import serving

from benchmark.dashboard import drawing, episodes, playback, worker
from benchmark.dashboard.run_files import Run
from npp_rl.commands import UserError
from npp_rl.environment.games import ACTION_BYTES, inputs_of
from npp_rl.levels import builtin
from npp_rl.levels.builtin import table
from npp_rl.levels.maps import TILES_AT, Level, encode_map, mirrored
from npp_rl.levels.replays import write_replay
from npp_rl.simulator import DEAD, WON, simulate, simulate_final
from npp_rl.simulator.tiles import SOLID

EVIL = "<img src=x onerror=alert(1)>"


def answered(task: str, **arguments) -> dict:
    """What worker.py answers, as JSON would give it."""
    return json.loads(worker.answer({"task": task, "arguments": arguments}))


def result(task: str, **arguments) -> dict:
    found = answered(task, **arguments)
    assert "result" in found, found
    return found["result"]


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def room(*entities, title="") -> bytes:
    """A map with a free row of 30 tiles above full ground: the ninja stands in it."""
    tiles = np.ones((23, 42), np.uint8)
    tiles[5:11, 2:32] = 0
    # The floor's upper edge is at row 12 of the field, 288 px: the ninja stands at y = 278, in 46.3 units.
    return encode_map(tiles, np.array([[0, 16, 46, 0, 0], *entities]), title)


WINS = room([3, 30, 46, 0, 0], [4, 24, 46, 0, 0], [2, 20, 46, 0, 0], [14, 60, 30, 0, 0])
RIGHT = b"\x02" * 60


def test_a_game_ends_where_the_simulator_ends():
    found = result("game", map=text_of(WINS), inputs="2" * 60)
    places, states, gold, entities = simulate_final(WINS, RIGHT)
    assert states[-1] == WON and found["outcome"] == "won"
    assert found["frames"] == len(places) == len(found["inputs"]) == len(found["x"]) - 1
    assert (found["x"][1:], found["y"][1:]) == (places[:, 0].tolist(), places[:, 1].tolist())
    assert found["gold"][-1][1] == gold == 1
    drone = entities[entities[:, 0] == 14][0]
    way = np.array(found["movers"][0]["at"]).reshape(-1, 2)
    assert len(way) == len(found["x"]), "a place for every frame, the start included"
    assert np.abs(way.sum(0) / 8 - drone[1:3]).max() <= 1 / 16


def test_what_stands_changes_in_the_frame_in_which_it_is_touched():
    found = result("game", map=text_of(WINS), inputs="2" * 60)
    active = [simulate_final(WINS, RIGHT[:k])[3][:, 3].tolist() for k in range(found["frames"] + 1)]
    changed = [k for k in range(1, len(active)) if active[k] != active[k - 1]]
    assert len(changed) >= 2, "gold is taken and the switch is hit"
    assert [frame for frame, _ in found["still"]] == [0, *changed]
    symbols = found["symbols"]
    assert all(name in symbols for _, pieces in found["still"] for _, name, _, _ in pieces)
    assert all(name in symbols for _, name in found["pose"])


@pytest.mark.parametrize("name", ["zap drone", "death ball", "floor guard", "thwump"])
def test_all_that_moves_is_where_the_simulator_has_it_in_every_frame(name):
    kind = next(kind for kind, own, _, _ in drawing.PLACED if own == name)
    data = room([kind, 40, 46, 0, 0], [3, 100, 46, 0, 0], [4, 110, 46, 0, 0])
    found = result("game", map=text_of(data), inputs="2" * 90)
    way = np.array(found["movers"][0]["at"]).reshape(-1, 2).cumsum(0) / 8
    for frame in range(1, found["frames"] + 1, 7):
        entities = simulate_final(data, RIGHT[:1] * frame)[3]
        assert np.abs(way[frame] - entities[entities[:, 0] == kind][0][1:3]).max() <= 1 / 16


def test_deaths_have_their_cause_and_frame():
    found = result("game", map=text_of(room([1, 20, 46, 0, 0], [3, 30, 46, 0, 0], [4, 24, 46, 0, 0])), inputs="2" * 90)
    assert (found["outcome"], found["cause"]) == ("died", "mine")
    assert len(found["inputs"]) == found["frames"] < 90


def test_the_page_draws_the_tiles_and_symbols_of_the_pictures():
    tables = result("tables")
    shown = [tables["tiles"][tile][0] for tile in range(34)]
    assert shown == [[pytest.approx(v, abs=1e-3) for point in SOLID[tile] for v in point] for tile in range(34)]
    assert sorted(tile for _, tiles in tables["families"] for tile in tiles) == list(range(34))
    looks = [pieces for entity in tables["entities"] for pieces in entity["looks"].values()]
    assert all(piece[1] in tables["symbols"] for pieces in looks for piece in pieces) and min(map(len, looks)) > 0
    assert all(entity.get("switch") for entity in tables["entities"] if entity["kind"] in (3, 6, 8))


def test_mirror_images_of_tiles_have_the_mirrored_outline():
    turns = {"h": lambda x, y: (24 - x, y), "v": lambda x, y: (x, 24 - y)}
    for name, images in result("tables")["mirrors"].items():
        for tile in range(1, 34):
            turned = {tuple(np.round(turns[name](*point), 5)) for point in SOLID[tile]}
            assert turned == {tuple(np.round(point, 5)) for point in SOLID[images[tile]]}


def test_levels_by_digest_are_the_built_in_ones_and_nothing_is_invented():
    row = table()[37]
    found = result("geometry", digests=[row["sha256"], "0" * 64], datasets=["builtin"])["levels"]
    assert list(found) == [row["sha256"]] and found[row["sha256"]]["category"] == row["category"]
    level = playback.level_of(row["sha256"], ["builtin"])
    assert level.digest == row["sha256"] and base64.b64decode(found[row["sha256"]]["map"]) == level.map_data
    ids = {one.digest: one.id for one in builtin.data_set(row["split"], [row["category"]], 38)}
    assert found[row["sha256"]]["id"] == ids[row["sha256"]]
    assert result("geometry", digests=[row["sha256"]], datasets=[])["levels"] == {}


def test_par_and_peoples_runs_are_ghosts(tmp_path):
    row = table()[0]
    level = playback.level_of(row["sha256"], ["builtin"])
    other_header = bytes([9]) + level.map_data[1:]  # the same level to play, from another file
    inputs = inputs_of(row["actions"], 4, row["par"])
    write_replay(tmp_path / "mine.replay", other_header, inputs, True)
    write_replay(tmp_path / "other.replay", WINS, RIGHT, True)
    assert other_header[TILES_AT:] == level.map_data[TILES_AT:]
    runs = result("ghosts", map=text_of(level.map_data), replays=[str(tmp_path)])["runs"]
    assert [run[:3] for run in runs] == [["par of the planner", "won", row["par"]], ["mine.replay", "won", row["par"]]]
    again = result("game", map=text_of(level.map_data), inputs=runs[0][3])
    assert (again["outcome"], again["frames"]) == ("won", row["par"])


def test_new_replays_and_levels_in_sub_folders_are_seen(tmp_path):
    folder = tmp_path / "people/first"
    folder.mkdir(parents=True)
    write_replay(folder / "one.replay", WINS, RIGHT, True)

    def ghosts():
        return [run[0] for run in result("ghosts", map=text_of(WINS), replays=[str(tmp_path / "people")])["runs"]]

    assert ghosts() == ["one.replay"]
    write_replay(folder / "two.replay", WINS, RIGHT[:9], False)
    assert ghosts() == ["one.replay", "two.replay"]
    (folder / "one.replay").unlink()
    assert ghosts() == ["two.replay"]

    category = tmp_path / "levels/simple"
    category.mkdir(parents=True)
    datasets = [str(tmp_path / "levels")]
    (category / "a").write_bytes(WINS)
    digests = [Level(data, "", "").digest for data in (WINS, room(title="other"))]
    assert [row[0] for row in result("listed", datasets=datasets)["levels"]] == digests[:1]
    (category / "b").write_bytes(room(title="other"))
    assert [row[0] for row in result("listed", datasets=datasets)["levels"]] == digests
    assert list(result("geometry", digests=digests, datasets=datasets)["levels"]) == digests


def test_traces_and_films():
    data, keys = text_of(WINS), "2" * 60
    png = Image.open(io.BytesIO(base64.b64decode(result("trace", map=data, runs=[keys], kind="png")["data"])))
    assert png.size == (2112, 1200)
    svg = ElementTree.fromstring(base64.b64decode(result("trace", map=data, runs=[keys, "1" * 9], kind="svg")["data"]))
    assert svg.attrib["viewBox"] == "0 0 1056 600" and len(svg) > 100
    frames = len(simulate(WINS, RIGHT)[0])
    gif = Image.open(
        io.BytesIO(base64.b64decode(result("film", map=data, inputs=keys, title=EVIL, kind="gif")["data"]))
    )
    assert (gif.size, gif.info["duration"]) == ((528, 300), 50)
    # Each third of the start, the frames, and the last picture's repetitions; equal pictures are merged into one.
    total = 0
    for k in range(gif.n_frames):
        gif.seek(k)
        total += gif.info["duration"]
    assert total == 50 * -(-(frames + 1 + 45) // 3)
    assert answered("film", map=data, inputs="0" * 2000, title="", kind="gif")["status"] == 400


def test_a_video_has_all_frames():
    av = pytest.importorskip("av")
    made = result("film", map=text_of(WINS), inputs="2" * 60, title="", kind="mp4")["data"]
    with av.open(io.BytesIO(base64.b64decode(made))) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(simulate(WINS, RIGHT)[0]) + 1 + 45


@pytest.mark.parametrize(
    ("task", "arguments", "status"),
    [
        ("game", {"map": "AAAA", "inputs": ""}, 400),
        ("game", {"map": text_of(WINS), "inputs": "z"}, 400),
        ("game", {"map": text_of(WINS), "inputs": "0" * 20_001}, 400),
        ("game", {"map": text_of(WINS), "actions": "7", "frame_skip": 4, "frames": 4}, 400),
        ("game", {"map": text_of(WINS), "actions": "1", "frame_skip": 10**9, "frames": 4}, 400),
        ("trace", {"map": text_of(WINS), "runs": ["2"], "kind": "exe"}, 400),
    ],
)
def test_bad_requests_are_lines(task, arguments, status):
    found = answered(task, **arguments)
    assert found["status"] == status and "\n" not in found["error"] and "Traceback" not in found["error"]


@pytest.fixture(scope="module")
def won_by_an_agent():
    """A built-in level and the episode of the packaged agent on it."""
    level = playback.level_of(table()[900]["sha256"], ["builtin"])
    run = result("tries", checkpoint="zoo:mlp_baseline", map=text_of(level.map_data), scripts=[], sampled=0)["runs"][0]
    of_byte = {int(byte): str(action) for action, byte in enumerate(ACTION_BYTES)}
    return level, run, "".join(of_byte[int(key, 16)] for key in run[3][::4])


def test_the_thoughts_of_an_agent_agree_with_what_it_did(won_by_an_agent):
    level, run, actions = won_by_an_agent
    about = {"map": text_of(level.map_data), "frame_skip": 4, "scripts": [], "checkpoint": "zoo:mlp_baseline"}
    found = result("decisions", actions=actions, frames=run[2], **about)
    assert found["agrees"] == 1.0
    assert len(found["values"]) == len(found["rewards"]) == len(found["probabilities"]) == len(actions)
    assert all(abs(sum(row) - 10_000) <= 3 for row in found["probabilities"])
    assert sum(found["rewards"]) == pytest.approx(sum(found["parts"].values()), abs=1e-2)
    assert found["parts"]["completion"] == (5.0 if run[1] == "won" else 0.0)
    other = result("decisions", actions="0" * len(actions), frames=run[2], **about)
    assert other["agrees"] < 0.9


def test_sampled_tries_end_where_their_ways_end(won_by_an_agent):
    level, *_ = won_by_an_agent
    about = {"map": text_of(level.map_data), "scripts": [], "checkpoint": "zoo:mlp_baseline"}
    found = result("tries", sampled=16, seed=3, **about)["runs"]
    assert len(found) == 16 and len({run[3] for run in found}) > 1
    assert found == result("tries", sampled=16, seed=3, **about)["runs"]
    for _, outcome, frames, inputs, way in found:
        places, states = simulate(level.map_data, bytes(int(key, 16) for key in inputs))
        assert outcome == {WON: "won", DEAD: "died"}.get(int(states[-1]), "unfinished") and frames == len(states)
        assert way[-2:] == pytest.approx(places[-1, :2].tolist(), abs=0.06)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    top = tmp_path_factory.mktemp("episodes") / "exp"
    played(top)
    results = next(top.rglob("mlp_cnn/**/seed_2/eval_results.json"))
    (results.parent / "eval_other").mkdir()
    (results.parent / "eval_other/eval_results.json").write_bytes(results.read_bytes())
    with serving([top], levels=(f"{top}_levels",)) as found:
        found.top = top
        yield found


def runs_of(served) -> list[str]:
    """Ids of the runs' own evaluations."""
    return [one["id"] for one in served.get("/api/evaluations")[2]["evaluations"] if not one["folder"]]


def test_the_suite_of_two_evaluations(served):
    listed = served.get("/api/evaluations")[2]["evaluations"]
    assert len(listed) == 5 and [one["folder"] for one in listed].count("eval_other") == 1
    names = runs_of(served)[:2]
    status, _, found = served.post("/api/suite", {"evaluations": names})
    assert status == 200 and len(found["levels"]) == 6
    for name, about in zip(names, found["evaluations"], strict=True):
        own = json.loads((served.runs.run(name).folder / "eval_results.json").read_text())
        at = found["evaluations"].index(about)
        for entry, row in zip(own["levels"], found["levels"], strict=True):
            first = entry["tries"][0]
            how = "won" if first["success"] else first["cause"] if first["cause"] != "none" else first["failure"]
            assert row[:2] == [entry["digest"], entry["id"]]
            assert row[5][at] == [entry["success_rate"], how, first["frames"], 1, True, False]


def requested(top, **contents):
    """A request to a dashboard with runs whose eval_results.json have some contents."""
    runs = {}
    for name, content in contents.items():
        (top / name).mkdir()
        (top / name / "eval_results.json").write_text(content)
        runs[name] = Run(name, top / name, top)
    dashboard = SimpleNamespace(runs=SimpleNamespace(run=runs.__getitem__))
    return SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(dashboard=dashboard)))


def test_requests_at_once_for_more_evaluations_than_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(episodes, "READ", 1)
    request = requested(tmp_path.resolve(), **{f"r{k}": json.dumps({"levels": [{"id": f"{k}"}]}) for k in range(3)})
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            names = [f"r{k % 3}" for k in range(1500)]
            found = list(pool.map(lambda name: episodes.results_of(request, name).levels[0].id, names))
    finally:
        sys.setswitchinterval(before)
    assert found == [name[1:] for name in names]


def test_a_deeply_nested_evaluation_is_said_to_be_damaged(tmp_path):
    request = requested(tmp_path.resolve(), deep='{"x": ' + "[" * 100_000)
    with pytest.raises(UserError, match=r"deep: eval_results\.json is damaged"):
        episodes.results_of(request, "deep")


def test_an_episode_of_an_evaluation_is_played_again(served):
    name = runs_of(served)[0]
    level = json.loads((served.runs.run(name).folder / "eval_results.json").read_text())["levels"][3]
    status, _, found = served.post("/api/episode", {"evaluation": name, "level": level["id"]})
    first = level["tries"][0]
    assert status == 200 and found["same"] and found["frames"] == first["frames"]
    data = playback.level_of(level["digest"], [f"{served.top}_levels"]).map_data
    places, _ = simulate(data, inputs_of(first["actions"], 4, first["frames"]))
    assert [found["x"][-1], found["y"][-1]] == places[-1, :2].tolist()
    assert served.post("/api/episode", {"evaluation": name, "level": level["id"], "try": 1})[0] == 404
    assert served.post("/api/episode", {"evaluation": name, "level": "elsewhere"})[0] == 404


def test_the_wins_of_a_search_are_an_evaluation_of_their_own(served):
    name = runs_of(served)[0]
    folder = served.runs.run(name).folder
    content = json.loads((folder / "eval_results.json").read_text())
    lost = content["levels"][0]
    lost["tries"], lost["success_rate"] = [], 0.0  # no run that wins was found
    (folder / "search_results.json").write_text(json.dumps(content))
    (folder / "eval_half").mkdir(exist_ok=True)
    (folder / "eval_half/search_results.json").write_text("{")
    listed = {one["id"] for one in served.get("/api/evaluations")[2]["evaluations"]}
    assert {name, f"{name}//(search)", f"{name}//eval_half (search)"} <= listed
    names = [name, f"{name}//(search)", f"{name}//eval_half (search)"]
    found = served.post("/api/suite", {"evaluations": names})[2]
    assert "search_results.json is damaged" in found["evaluations"][2]["problem"]
    assert found["levels"][0][5][1][:4:3] == [0.0, 0] and found["levels"][3][5][0] == found["levels"][3][5][1]
    body = {"evaluation": names[1], "level": content["levels"][3]["id"]}
    status, _, shown = served.post("/api/episode", body)
    assert status == 200 and shown["same"]
    assert served.post("/api/episode", body | {"level": lost["id"]})[0] == 404


@pytest.mark.parametrize("name", ["exp/nothing", "../exp", "exp/../exp", "/etc", "%2e%2e/exp", ""])
def test_evaluations_and_checkpoints_are_known_by_id_only(served, name):
    assert served.post("/api/episode", {"evaluation": name, "level": "x"})[0] == 404
    found = served.post("/api/suite", {"evaluations": [name]})[2]
    assert found["levels"] == [] and found["evaluations"][0]["problem"]
    body = {"evaluation": name, "level": "x", "checkpoint": name}
    assert served.post("/api/decisions", body)[0] == 404
    body = {"checkpoint": f"{name}//best.pt", "map": text_of(WINS)}
    assert served.post("/api/editor/tries", body)[0] == 404


def test_links_out_of_the_folders_are_not_followed(served, tmp_path):
    """An evaluation and a checkpoint that are links to files elsewhere."""
    name = runs_of(served)[0]
    folder = served.runs.run(name).folder
    elsewhere = tmp_path / "eval_results.json"
    elsewhere.write_bytes((folder / "eval_results.json").read_bytes())
    (folder / "eval_link").mkdir()
    (folder / "eval_link/eval_results.json").symlink_to(elsewhere)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/best.pt").symlink_to(elsewhere)
    found = served.post("/api/suite", {"evaluations": [f"{name}//eval_link"]})[2]
    assert "link out of the folder" in found["evaluations"][0]["problem"] and found["levels"] == []
    status, _, said = served.post("/api/editor/tries", {"checkpoint": f"{name}//best.pt", "map": text_of(WINS)})
    assert status == 400 and "link out of the folder" in said["error"]


def test_a_half_written_evaluation_is_said_to_be_one(served):
    name = runs_of(served)[1]
    folder = served.runs.run(name).folder / "eval_half"
    folder.mkdir()
    (folder / "eval_results.json").write_text('{"levels": [{"id": "a", "tries": [')
    found = served.post("/api/suite", {"evaluations": [name, f"{name}//eval_half"]})[2]
    assert len(found["levels"]) == 6 and "half-written" in found["evaluations"][1]["problem"]


def test_a_checkpoint_that_would_run_something_is_refused(served, tmp_path):
    name = runs_of(served)[2]
    folder = served.runs.run(name).folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    (folder / "best.pt").write_bytes(pickle.dumps(Bomb()))
    status, _, said = served.post("/api/editor/tries", {"checkpoint": f"{name}//best.pt", "map": text_of(WINS)})
    assert status == 400 and "\n" not in said["error"] and not mark.exists()


def test_levels_outside_the_data_sets_have_no_picture(served):
    row = table()[0]
    assert served.post("/api/levels", {"digests": [row["sha256"]]})[2]["levels"] == {}
    status, _, said = served.post("/api/game", {"level": row["sha256"], "inputs": ""})
    assert status == 404 and "--levels" in said["error"]


def test_two_thousand_levels_are_listed_and_shown_in_time(served):
    """A suite of 2,000 levels: the grid's data, and the first pictures."""
    name = runs_of(served)[3]
    folder = served.runs.run(name).folder / "eval_large"
    folder.mkdir()
    rows = [row for row in table() for _ in range(2)][:2000]
    tries = [{"success": True, "cause": "none", "frames": 200, "actions": "1" * 50, "failure": None}]
    about = {"success_rate": 1.0, "tries": tries}
    levels = [{"id": f"{k}", "digest": row["sha256"][:-4] + f"{k:04d}", **about} for k, row in enumerate(rows)]
    (folder / "eval_results.json").write_text(json.dumps({"levels": levels, "settings": {"frame_skip": 4}}))
    began = time.perf_counter()
    found = served.post("/api/suite", {"evaluations": [f"{name}//eval_large"]})[2]
    assert len(found["levels"]) == 2000 and time.perf_counter() - began < 2.0


def test_mirrored_levels_are_other_levels():
    level = playback.level_of(table()[0]["sha256"], ["builtin"])
    assert playback.level_of(mirrored(level).digest, ["builtin"]) is None
