"""The dashboard's level editor: documents and files byte for byte, validity, planner, play, and the one folder."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from serving import serving
from test_dashboard_episodes import EVIL, RIGHT, WINS, answered, result, room, text_of

from benchmark.dashboard import editing, helpers, worker
from npp_rl.environment.env import NppVectorEnv
from npp_rl.levels import texts
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import RECORDS_AT, TILES_AT, Level, encode_map, map_title
from npp_rl.levels.replays import parse_replays, validate
from npp_rl.simulator import WON, simulate, simulate_final

ROOT = Path(__file__).parents[1]
MIXED = [[6, 20, 40, 0, 0], [7, 22, 46, 0, 0], [1, 90, 46, 0, 0], [3, 30, 46, 0, 0], [3, 34, 46, 0, 0],
         [4, 24, 46, 0, 0], [4, 26, 46, 0, 0], [23, 60, 30, 1, 0], [2, 40, 46, 0, 0]]  # fmt: skip


def document(data: bytes) -> dict:
    return result("document", data=text_of(data))


def file_of(found: dict, form: str = "map") -> bytes:
    return base64.b64decode(result("encode", document=found, format=form)["data"])


@pytest.mark.parametrize("name", ["simplest", "medium", "complex", "mine_heavy", "exploration"])
def test_maps_come_back_byte_for_byte(name):
    data = generate(name, 5).map_data
    found = document(data)
    assert file_of(found) == data
    again = file_of({**found, "original": None})
    assert again[TILES_AT:] == data[TILES_AT:] and map_title(again) == map_title(data)


def test_odd_files_come_back_byte_for_byte_unless_changed():
    """A header of zeros, counts of zeros but for those that the simulator reads, an author, records in odd order."""
    data = bytearray(room(*MIXED, title="odd"))
    data[:24] = bytes(24)
    data[167:175] = b"somebody"
    data[1150:RECORDS_AT] = bytes(80)
    data[1156] = 2
    data += bytes([0, 20, 20, 0, 0])  # a second ninja
    data = bytes(data)
    found = document(data)
    assert file_of(found) == data
    changed = file_of({**found, "title": "other"})
    assert changed[167:175] == b"somebody" and map_title(changed) == "other" and changed[TILES_AT:] == data[TILES_AT:]
    assert len(found["entities"]) == 1 + 6 + 1, "doors and their switches are one entity"
    more = file_of({**found, "entities": [*found["entities"], [1, 50, 46, 0, 0]]})
    assert more[RECORDS_AT:] == data[RECORDS_AT:] + bytes([1, 50, 46, 0, 0]) and more[:24] == bytes(24)
    assert more[1152] == 2, "two mines"


def test_doors_keep_their_switches_when_entities_come_and_go():
    found = document(room(*MIXED))
    exits = [entity for entity in found["entities"] if entity[0] == 3]
    assert [entity[5][:2] for entity in exits] == [[24, 46], [26, 46]]
    found["entities"].remove(exits[0])
    found["entities"].insert(1, [8, 50, 40, 2, 0, [52, 46, 0, 0]])
    data = file_of(found)
    records = Level(data, "", "").entities[:, :3].tolist()
    assert records[1:4] == [[8, 50, 40], [9, 52, 46], [6, 20, 40]]
    assert [3, 34, 46] in records and [4, 26, 46] in records and [4, 24, 46] not in records
    entities = simulate_final(data, b"\0")[3][:, :3].tolist()
    assert [3, 204.0, 276.0] in entities and [4, 156.0, 276.0] in entities


def test_text_files_come_back_byte_for_byte():
    for name in ("simplest", "medium", "complex"):
        line = texts.line_from_map(texts.in_order(generate(name, 3).map_data))
        title, digits, _ = line.split(b"#")
        for one in (line, b"#".join([title, digits.upper(), b""])):  # digits in capitals stay so
            found = document(one)
            assert file_of(found, "text") == one + b"\n" and file_of(found) == texts.map_from_line(line)


def test_text_has_its_own_order_of_records():
    found = document(room(*MIXED))
    made = result("encode", document=found, format="text")
    assert "order" in made["note"]
    data = texts.map_from_line(base64.b64decode(made["data"])[:-1])
    assert sorted(Level(data, "", "").entities.tolist()) == sorted(Level(room(*MIXED), "", "").entities.tolist())


def test_the_games_own_levels_come_back_byte_for_byte(shared):
    lines = (shared / "levels/campaign/SI.txt").read_bytes().split(b"\n")
    for line in [line.rstrip(b"\r") for line in lines if line.strip()][::9]:
        found = document(line)
        assert file_of(found, "text") == line + b"\n" and file_of(found) == texts.map_from_line(line)


@pytest.mark.parametrize(
    "data",
    [b"", b"nothing", b"$title#zz#", WINS[:-2], WINS[:1233] + bytes(3), bytes(300_000), b"$" + b"a" * 200 + b"#00#"],
)
def test_files_that_hold_no_level_are_refused_in_a_line(data):
    found = answered("document", data=text_of(data))
    assert found["status"] == 400 and "\n" not in found["error"]


@pytest.mark.parametrize(
    "change",
    [
        {"tiles": "00"},
        {"tiles": "zz" * 966},
        {"entities": []},
        {"entities": [[0, 1, 2, 0]]},
        {"entities": [[0, 1, 256, 0, 0]]},
        {"entities": [[0, 1, 2, 0, 0], [1, 1, 2, 0, 0, [1, 2, 0, 0]]]},
        {"entities": [[0, 1, 2, 0, 0], [10, 9, 9, 9, 0]]},
        {"entities": [[0, 1, 2, 0, 0], "x"]},
        {"entities": [[0, 1, True, 0, 0]]},
        {"title": None, "entities": None},
        {"original": "no base64!"},
        {"original": "AAAA", "title": "other"},
    ],
)
def test_documents_that_are_no_level_have_a_problem(change):
    problem = result("check", document={**document(WINS), **change})["problem"]
    assert problem and "\n" not in problem


def test_a_level_with_too_many_things_is_told_how_many_it_may_have():
    many = [[0, 22, 50, 0, 0], *([1, 40, 50, 0, 0] for _ in range(20_000))]
    problem = result("check", document={**document(WINS), "entities": many})["problem"]
    assert problem == "20,001 things in the level, expected at most 20,000"


def test_what_can_be_reached_is_said():
    good = result("check", document=document(WINS))
    assert (good["problem"], good["free"], good["exit"], good["far"], good["far_switches"]) == ("", True, True, [], [])
    assert base64.b64decode(good["map"]) == WINS and good["t"] == WINS[TILES_AT:1150].hex()
    walled = room([3, 150, 46, 0, 0], [4, 24, 46, 0, 0], [2, 20, 46, 0, 0], [2, 160, 90, 0, 0])
    found = result("check", document=document(walled))
    assert (found["far"], found["far_switches"]) == ([1, 3], []), "an exit and gold in solid ground"
    switch = result("check", document=document(room([3, 30, 46, 0, 0], [4, 150, 46, 0, 0])))
    assert (switch["far"], switch["far_switches"]) == ([], [1])
    solid = document(WINS)
    solid["entities"][0] = [0, 100, 90, 0, 0]
    assert result("check", document=solid)["free"] is False
    assert result("check", document=document(room([2, 20, 46, 0, 0])))["exit"] is False


def test_the_planner_wins_what_can_be_won():
    found = result("plan", map=text_of(WINS), budget=1.0)
    _, states = simulate(WINS, bytes(int(key, 16) for key in found["inputs"]))
    assert states[-1] == WON and found["frames"] == len(states) == len(found["inputs"])
    lost = result("plan", map=text_of(room([3, 150, 46, 0, 0], [4, 24, 46, 0, 0])), budget=0.5)
    assert lost["frames"] is None and lost["reason"]
    assert answered("plan", map=text_of(WINS), budget=1e9)["status"] == 400


def test_a_game_that_is_played_is_the_simulators():
    begun = result("begin", map=text_of(WINS))
    frame, places, still = 0, [], 0
    for part in ("222", "2", "", "2" * 80):
        found = result("advance", game=begun["game"], frame=frame, inputs=part)
        places += list(zip(found["x"], found["y"], strict=True))
        still += len(found["still"])
        assert found["frames"] == frame + len(found["x"]) and (not found["x"] or found["first"] == frame + 1)
        frame = found["frames"]
    exact, _ = simulate(WINS, RIGHT * 2)
    assert places == [tuple(place) for place in exact[:, :2].tolist()] and found["outcome"] == "won"
    assert still >= 2
    assert answered("advance", game=begun["game"], frame=frame - 1, inputs="0")["status"] == 400
    assert answered("advance", game=10**6, frame=0, inputs="0")["status"] == 404


def test_only_some_games_are_kept():
    first = result("begin", map=text_of(WINS))["game"]
    for _ in range(8):
        last = result("begin", map=text_of(WINS))["game"]
    assert answered("advance", game=first, frame=0, inputs="0")["status"] == 404
    assert "result" in answered("advance", game=last, frame=0, inputs="0")


def test_a_run_is_saved_as_a_replay_that_wins(tmp_path):
    made = base64.b64decode(result("replay", map=text_of(WINS), inputs="2" * 80)["data"])
    (replay,) = parse_replays(tmp_path / "x", made)
    assert validate(replay).verdict == "won" and replay.map_data == WINS


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    place = tmp_path_factory.mktemp("editor")
    (place / "saved").mkdir()
    (place / "outside").write_bytes(b"secret")
    with serving([], save_to=place / "saved") as found:
        found.saved = place / "saved"
        yield found


def save(served, name, form="map", data=WINS, **more):
    body = {"document": document(data), "name": name, "format": form, **more}
    return served.post("/api/editor/save", body)


def test_what_is_saved_loads_everywhere(served):
    assert save(served, "one")[2]["saved"] == "one"
    assert save(served, "two.txt", "text")[2]["saved"] == "two.txt"
    levels = {level.id: level for level in load_levels(served.saved)}
    assert levels["one"].map_data == WINS and levels["two/000"].map_data[TILES_AT:1150] == WINS[TILES_AT:1150]
    envs = NppVectorEnv(2, list(levels.values()), ("game_state",), copy=False)
    envs.reset(seed=0)
    envs.close()
    words = [sys.executable, "-m", "npp_rl.play", "--dataset", str(served.saved), "--level", "one", "--frames", "2"]
    assert (
        subprocess.run([*words, "--screenshot", str(served.saved / ".shot.png")], capture_output=True).returncode == 0
    )
    status, _, found = served.ask("POST", "/api/editor/open?saved=one", body=b"")
    assert status == 200 and file_of(found) == WINS
    assert served.get("/api/editor/levels")[2]["saved"] == ["one", "two.txt"]


def test_an_existing_file_is_replaced_only_when_told_so(served):
    save(served, "again")
    status, _, said = save(served, "again", data=room(*MIXED))
    assert status == 409 and "exists" in said["error"] and (served.saved / "again").read_bytes() == WINS
    assert save(served, "again", data=room(*MIXED), replace=True)[0] == 200
    assert (served.saved / "again").read_bytes() == room(*MIXED)


@pytest.mark.parametrize(
    "name", ["../outside", "..", "/etc/passwd", "a/../../outside", "%2e%2e%2foutside", ".hidden", "a\0b", "~", ""]
)
def test_saving_never_leaves_the_folder(served, name):
    before = {path for path in served.saved.parent.rglob("*") if path.parent != served.saved}
    status, _, said = save(served, name, replace=True)
    assert status in (200, 400), said
    assert {path for path in served.saved.parent.rglob("*") if path.parent != served.saved} == before
    assert (served.saved.parent / "outside").read_bytes() == b"secret"
    if status == 200:
        assert (served.saved / said["saved"]).read_bytes() == WINS and not said["saved"].startswith(".")
        (served.saved / said["saved"]).unlink()


@pytest.mark.parametrize("name", ["../outside", "..%2foutside", "%2e%2e/outside", "/etc/passwd", "link", ".shot.png"])
def test_opening_never_leaves_the_folder(served, name):
    if not (served.saved / "link").is_symlink():
        (served.saved / "link").symlink_to(served.saved.parent / "outside")
    status, _, said = served.ask("POST", f"/api/editor/open?saved={name}", body=b"")
    assert status == 404 and "secret" not in str(said)


def test_a_link_is_never_written_through(served):
    (served.saved / "to_outside").symlink_to(served.saved.parent / "outside")
    assert save(served, "to_outside", replace=True)[0] == 400
    assert (served.saved.parent / "outside").read_bytes() == b"secret"


def test_without_a_folder_nothing_is_saved():
    with serving([]) as other:
        status, _, said = save(other, "x")
        assert status == 403 and "--save-to" in said["error"]
        assert other.get("/api/editor/levels")[2]["can_save"] is False


def test_sizes_of_uploads_are_limited(served):
    assert served.ask("POST", "/api/editor/open", body=bytes(200_001))[0] == 413
    assert served.ask("POST", "/api/editor/open", body=bytes(1_100_000))[0] == 413
    assert served.post("/api/editor/check", {"document": []})[0] == 400
    assert served.ask("POST", "/api/editor/check", body=b"{")[0] == 400


def test_a_title_is_text(served):
    status, _, found = served.ask("POST", "/api/editor/open", body=room(title=EVIL))
    assert status == 200 and found["title"] == EVIL
    assert file_of({**found, "title": found["title"] + "!"})[TILES_AT:] == room(title=EVIL)[TILES_AT:]


def slow_map() -> bytes:
    """A level that the planner searches for long: the exit's switch is in a room that has no way in."""
    tiles = np.zeros((23, 42), np.uint8)
    tiles[10, 20:23] = tiles[12, 20:23] = tiles[11, 20] = tiles[11, 22] = 1
    return encode_map(tiles, np.array([[0, 20, 94, 0, 0], [3, 30, 94, 0, 0], [4, 88, 50, 0, 0]]))


def test_a_task_is_stopped_when_the_browser_leaves():
    helper, left = helpers.Helper("planner"), threading.Event()
    try:
        helper.ask("plan", {"map": text_of(WINS), "budget": 0.5}, left)  # it is there, and has compiled
        process = helper.process
        timer = threading.Timer(0.7, left.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Exception, match="stopped"):
            helper.ask("plan", {"map": text_of(slow_map()), "budget": 50.0}, left)
        assert time.monotonic() - began < 20
        assert helper.process is process and process.poll() is None, "it goes on with the next task"
        assert helper.ask("plan", {"map": text_of(WINS), "budget": 0.5}, threading.Event())["frames"]
    finally:
        helper.end()
    assert process.poll() is not None


def test_nobody_plans_for_a_page_that_has_gone(served):
    helper = served.app.state.dashboard.helpers["planner"]
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    connection.request("POST", "/api/editor/plan", json.dumps({"map": text_of(slow_map()), "budget": 50}))
    end = time.monotonic() + 60
    while not helper.waiting and time.monotonic() < end:
        time.sleep(0.02)
    assert helper.waiting == 1
    connection.close()
    while helper.waiting and time.monotonic() < end:
        time.sleep(0.05)
    assert helper.waiting == 0 and time.monotonic() < end


def test_what_is_no_json_is_an_error(monkeypatch):
    monkeypatch.setattr(editing, "plan", lambda **_: {"frames": float("nan")})
    assert answered("plan")["status"] == 400


def test_helpers_have_the_least_priority_one_thread_and_a_limited_queue():
    helper = helpers.Helper("show")
    try:
        helper.ask("listed", {"datasets": []}, threading.Event())
        assert os.getpriority(os.PRIO_PROCESS, helper.process.pid) == 19
        environment = Path(f"/proc/{helper.process.pid}/environ").read_bytes().split(b"\0")
        assert b"NUMBA_NUM_THREADS=1" in environment and b"OMP_NUM_THREADS=1" in environment
        helper.waiting = helpers.MOST_WAITING
        with pytest.raises(Exception, match="busy"):
            helper.ask("listed", {"datasets": []}, threading.Event())
        helper.waiting = 0
        helper.process.send_signal(signal.SIGKILL)
        helper.process.wait()
        assert helper.ask("listed", {"datasets": []}, threading.Event()) == {"levels": []}, "a new process"
    finally:
        helper.end()


def test_the_server_imports_neither_the_simulator_nor_torch():
    code = (
        "import sys, benchmark.dashboard.server; "
        "print([name for name in ('numba', 'torch', 'npp_rl.simulator') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_those_who_wait_for_one_helper_keep_nobody_from_another(served, monkeypatch):
    own, released = served.app.state.dashboard.helpers, threading.Event()
    monkeypatch.setattr(own["planner"], "_ask", lambda line, left: released.wait(20) and {"frames": None})
    monkeypatch.setattr(own["show"], "_ask", lambda line, left: {"answered": True})
    found = []
    body = {"map": text_of(WINS), "budget": 20.0}
    many = [threading.Thread(target=lambda: found.append(served.post("/api/editor/plan", body)[0])) for _ in range(20)]
    for one in many:
        one.start()
    try:
        end = time.monotonic() + 15
        while len(found) < 20 - helpers.MOST_WAITING and time.monotonic() < end:
            time.sleep(0.02)
        assert found == [503] * (20 - helpers.MOST_WAITING), "the others wait"
        assert served.post("/api/editor/check", {"document": {}})[2] == {"answered": True}
    finally:
        released.set()
        for one in many:
            one.join(20)
    assert sorted(found) == [200] * helpers.MOST_WAITING + [503] * (20 - helpers.MOST_WAITING)


def test_a_helper_that_has_ended_leaves_no_dead_process():
    helper = helpers.Helper("show")
    helper._start()
    process = helper.process
    process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while Path(f"/proc/{process.pid}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    gone = not Path(f"/proc/{process.pid}").exists()
    helper.end()
    assert gone


def test_errors_do_not_tell_where_the_files_lie(monkeypatch, tmp_path):
    path = str(tmp_path / "best.pt")

    def fail(*_):
        raise ValueError(f"{path}: expected a checkpoint")

    monkeypatch.setattr(worker, "done", fail)
    asked = {"task": "tries", "arguments": {"checkpoint": path}}
    assert json.loads(worker.answer(asked))["error"] == "best.pt: expected a checkpoint"
