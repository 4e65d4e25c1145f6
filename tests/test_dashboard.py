"""The dashboard's server: states and curves of runs as they grow, comparisons, who may ask, what it costs."""

import contextlib
import fcntl
import http.client
import json
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from made_runs import make
from serving import Served, serving

from benchmark import report
from benchmark.dashboard import curves, run_files, runs, server
from benchmark.reporting import decision, plots, significance
from benchmark.reporting.page import Text
from npp_rl.commands import UserError

ROOT = Path(__file__).parents[1]
EVIL = "<img src=x onerror=alert(1)>"


def write_run(folder: Path, rows=(), results=None, seed=1, architecture="gat", **args) -> Path:
    """A run directory with some lines of metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    args = {"seed": seed, "total_timesteps": 1000, "test_dataset": "suite", **args}
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "args": args, "parameters": 10}))
    append(folder, rows)
    if results is not None:
        (folder / "eval_results.json").write_text(json.dumps(results))
    return folder


def append(folder: Path, rows) -> None:
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def row(step: int, kind="train", **values) -> dict:
    return {"kind": kind, "global_step": step, "minutes": step / 100, **values}


def train(step: int, success: float) -> dict:
    return row(step, **{"charts/success_rate": success, "charts/SPS": 50.0})


def table(*folders) -> dict[str, dict]:
    found = runs.Runs([folder.resolve() for folder in folders])
    found.refresh()
    return {entry["id"]: entry for entry in found.rows()["rows"]}


@contextlib.contextmanager
def locked(folder: Path):
    with (folder / "log.jsonl").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


RESULTS = {
    "overall": {"success_rate": 0.75, "levels": 4},
    "by_category": {"simple": {"success_rate": 0.5, "levels": 2}},
}


def test_states_progress_and_last_errors(tmp_path):
    top = tmp_path / "runs"
    write_run(top / "works", [train(100, 0.2), train(250, 0.4)])
    write_run(top / "timed", [train(100, 0.2)], max_minutes=4.0)
    write_run(top / "done", [train(1000, 0.9), row(1000, "test")], RESULTS)
    write_run(top / "died", [train(500, 0.1)])
    (top / "died/console.log").write_text("step 500\nerror: step 500: the loss is not finite\nTraceback\n")
    write_run(top / "asked", [train(500, 0.1)])
    (top / "asked/log.jsonl").write_text(
        json.dumps({"message": "stopped by SIGTERM at step 500; --resume continues"}) + "\n"
    )
    write_run(top / "resumed", [train(600, 0.1)], RESULTS)
    os.utime(top / "resumed/eval_results.json", (1e9, 1e9))
    with locked(top / "works"), locked(top / "timed"):
        found = table(top)
    states = {name.partition("/")[2]: entry["state"] for name, entry in found.items()}
    assert states == {"works": "running", "timed": "running", "done": "finished", "died": "dead", "asked": "stopped",
                      "resumed": "dead"}  # fmt: skip
    works, timed, done = (found[f"runs/{name}"] for name in ("works", "timed", "done"))
    assert (works["progress"], works["steps"], works["sps"], works["train"]) == (0.25, 250, 50.0, 0.4)
    assert works["left"] == 7.5 and timed["progress"] == 0.25 and timed["left"] == 3.0
    assert (done["progress"], done["test"], done["tested"], done["left"]) == (1.0, 0.75, True, None)
    assert found["runs/died"]["error"] == "error: step 500: the loss is not finite"
    assert found["runs/asked"]["error"].startswith("stopped by SIGTERM")


def test_a_run_whose_lock_cannot_be_seen_works_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0)
    folder = write_run(tmp_path / "runs/far", [train(1, 0.1)])
    found = runs.Runs([tmp_path / "runs"])
    found.refresh()
    assert found.run("runs/far").row["state"] == "dead"
    append(folder, [train(2, 0.1)])
    found.refresh()
    assert found.run("runs/far").row["state"] == "running"
    monkeypatch.setattr(runs, "on_network", lambda _: True)
    assert table(tmp_path / "runs")["runs/far"]["state"] == "running", "written just now, on another machine maybe"


def test_experiments_places_pretraining_and_planned_runs(tmp_path):
    top = tmp_path / "experiments"
    write_run(top / "first/gat/no_pretrain/seed_1", [train(1, 0.1)])
    write_run(top / "first/label_wide/gcn/with_pretrain/seed_2", [train(1, 0.1)], seed=2, architecture="gcn",
              pretrained_checkpoint="bc", label="wide")  # fmt: skip
    write_run(top / "first/label_wide/gcn/with_pretrain/seed_2/bc", [train(1, 0.1)], exp_name="bc_gcn")
    entry = {"architecture": "gat", "condition": "no_pretrain"}
    planned = [
        entry | {"seed": 1, "status": "failed", "reason": "the disk is full"},
        entry | {"seed": 7, "status": "queued"},
    ]
    (top / "first/all_results.json").write_text(json.dumps({"runs": planned}))
    (top / "first/config.json").write_text(json.dumps({"experiment_name": "first", "args": {}}))
    found = table(top)
    assert {(e["experiment"], e["place"], e["condition"], e["state"]) for e in found.values()} == {
        ("experiments/first", "gat/no_pretrain/seed_1", "no_pretrain", "dead"),
        ("experiments/first", "label_wide/gcn/with_pretrain/seed_2", "with_pretrain", "dead"),
        ("experiments/first", "label_wide/gcn/with_pretrain/seed_2/bc", "pretraining", "dead"),
        ("experiments/first", "gat/no_pretrain/seed_7", "no_pretrain", "queued"),
    }
    assert found["experiments/first/gat/no_pretrain/seed_1"]["error"] == "the disk is full"
    assert found["experiments/first/label_wide/gcn/with_pretrain/seed_2"]["label"] == "wide"


def test_a_run_that_starts_is_shown_before_it_has_a_configuration(tmp_path):
    top = tmp_path / "runs"
    (top / "ppo_gat__1__20260101-000000").mkdir(parents=True)
    (top / "ppo_gat__2__20260101-000000").mkdir()
    (top / "ppo_gat__2__20260101-000000/log.jsonl").write_text("")
    with locked(top / "ppo_gat__1__20260101-000000"):
        found = sorted(table(top).values(), key=lambda entry: entry["id"])
    assert [(e["architecture"], e["state"]) for e in found] == [("gat", "running"), ("gat", "dead")]
    assert "starting" in found[0]["notes"][0]


def test_half_written_files_are_skipped_and_shown_as_such(tmp_path):
    top = tmp_path / "runs"
    write_run(top / "a", [train(100, 0.2)])
    with (top / "a/metrics.jsonl").open("a") as stream:
        stream.write('not JSON\n{"kind": "train", "global_step": 200, "minu')
    (top / "a/eval_results.json").write_text('{"overall": {"success_rate": 0.')
    (top / "b").mkdir()
    (top / "b/config.json").write_text('{"architecture": "ga')
    found = table(top)
    assert found["runs/a"]["steps"] == 100 and not found["runs/a"]["tested"]
    notes = " ".join(found["runs/a"]["notes"])
    assert "1 damaged lines" in notes and "cut off" in notes and "eval_results.json is not whole (yet)" in notes
    assert "config.json cannot be read (yet)" in " ".join(found["runs/b"]["notes"])
    write_run(top / "b", [train(5, 0.5)])
    assert table(top)["runs/b"]["architecture"] == "gat"


def test_only_new_whole_lines_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = run_files.Log(path, tmp_path.resolve())

    def new(data: bytes, mode="ab"):
        with path.open(mode) as stream:
            stream.write(data)
        return log.lines(path.stat())

    assert new(b"one\ntwo\nthr") == ([b"one", b"two"], False) and log.half == 3
    assert log.lines(path.stat()) == ([], False)
    assert new(b"ee\n") == ([b"three"], False)
    os.truncate(path, 4)  # as a resumed run does
    assert new(b"more\n") == ([b"one", b"more"], True)
    assert new(b"ONE\nMORE\nafter\n", "wb") == ([b"ONE", b"MORE", b"after"], True), "replaced by a longer one"
    tail = run_files.Log(path, tmp_path.resolve(), tail=8)
    assert tail.lines(path.stat()) == ([b"after"], False), "not the line in whose middle it began"


def test_curves_are_the_values_of_the_log_by_steps_or_minutes(tmp_path):
    top = tmp_path / "runs"
    rows = [train(100 * k, k / 10) for k in range(1, 4)] + [row(300, "eval", **{"eval/success_rate": 0.5})]
    write_run(top / "a", rows)
    with serving([top]) as served:
        ask = {"runs": ["runs/a"], "keys": ["charts/success_rate", "eval/success_rate", "none/such"]}
        status, _, content = served.post("/api/curves", ask)
        assert status == 200
        (own,) = content["curves"]["charts/success_rate"]
        assert (own["x"], own["y"], own["thinned"]) == ([100, 200, 300], [0.1, 0.2, 0.3], False)
        assert content["curves"]["eval/success_rate"][0]["x"] == [300] and content["curves"]["none/such"] == []
        more = served.post("/api/curves", ask | {"x": "minutes", "from": 1.5, "to": 3})[2]["curves"]
        assert more["charts/success_rate"][0]["x"] == [1.5, 2, 3]
        append(top / "a", [train(400, 0.4)])
        grown = served.post("/api/curves", ask)[2]["curves"]["charts/success_rate"][0]
        assert grown["x"] == [100, 200, 300, 400]
        assert served.post("/api/keys", ask)[2]["keys"] == ["charts/SPS", "charts/success_rate", "eval/success_rate"]
        os.truncate(top / "a/metrics.jsonl", len(json.dumps(rows[0])) + 1)
        cut = served.post("/api/curves", ask)[2]["curves"]["charts/success_rate"][0]
        assert cut["x"] == [100]


def test_a_key_that_is_asked_for_twice_is_one_key(tmp_path):
    write_run(tmp_path / "runs/a", [train(100 * k, k / 10) for k in range(1, 4)])
    with serving([tmp_path / "runs"]) as served:
        ask = {"runs": ["runs/a"], "keys": ["charts/success_rate"] * 2}
        (own,) = served.post("/api/curves", ask)[2]["curves"]["charts/success_rate"]
        assert own["x"] == [100, 200, 300]


def test_smoothing_and_thinning():
    y = np.array([1.0, 0.0, 0.0])
    assert curves.smoothed(y, 0.5).tolist() == pytest.approx([1, 1 / 3, 1 / 7])
    assert curves.smoothed(y, 0.0).tolist() == y.tolist()
    x = np.arange(1002.0)
    few, means = curves.thinned(x, 2 * x, 12)
    assert len(few) <= 12 and few[0] == 0 and few[-1] == 1001 and means == pytest.approx(2 * few)
    weighted = sum(few[1:-1] * np.diff(np.append(np.unique(np.linspace(1, 1001, 11).astype(int))[:-1], 1001)))
    assert weighted == pytest.approx(x[1:-1].sum()), "means of all points, none is left out"


def test_values_are_the_same_in_whatever_part_of_a_smoothed_curve_is_shown(tmp_path):
    rng = np.random.default_rng(0)
    write_run(tmp_path / "one", [train(100 * k, value) for k, value in enumerate(rng.random(3000), 1)])
    runs_ = runs.Runs([tmp_path.resolve()])
    found = runs_.some([f"{tmp_path.name}/one"])

    def points(low, high):
        asked = {"keys": ["charts/success_rate"], "x": "steps", "smooth": 0.9, "group": []}
        part = curves.drawn(curves.Curves(), found, limits=(low, high), **asked)["charts/success_rate"][0]
        return dict(zip(part["x"], part["y"], strict=True))

    part, further = points(150_050, 160_050), points(140_000, 170_000)
    for x in range(150_100, 160_000, 100):
        assert part[x] == further[x]
    assert min(part) == 150_050 and max(part) == 160_050, "the line goes on to the edge"
    assert part[150_050] == pytest.approx((further[150_000] + further[150_100]) / 2, rel=1e-4)


def test_a_line_with_one_point_within_limits_is_still_a_line():
    x, y = np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 0.0])
    assert [part.tolist() for part in curves.cut(x, y, (5, 15))] == [[5, 10, 15], [0.5, 1, 0.5]]
    assert [part.tolist() for part in curves.cut(x, y, (2, 4))] == [[2, 4], [0.2, 0.4]]
    assert [part.tolist() for part in curves.cut(x, y, (10, 30))] == [[10, 20], [1, 0]]
    assert curves.cut(x, y, (21, 30))[0].tolist() == [] == curves.cut(x, y, (15, 5))[0].tolist()


def test_a_client_that_leaves_while_it_sends_fills_no_terminal(tmp_path):
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    try:
        with serving([tmp_path]) as served:
            logging.getLogger("uvicorn.error").addHandler(handler)
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", served.port)) as client:
                    head = f"POST /api/curves HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\ncontent-length: 1000\r\n"
                    client.sendall(head.encode() + b"\r\n{")
                    time.sleep(0.05)
            time.sleep(0.3)
            assert served.get("/api/runs")[0] == 200
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)
    assert [record.getMessage() for record in said] == []


def test_a_note_says_a_file_s_name_once(tmp_path):
    folder = write_run(tmp_path / "one", [train(100, 0.5)])
    (folder / "eval_results.json").mkdir()
    (note,) = table(tmp_path)[f"{tmp_path.name}/one"]["notes"]
    assert note.count("eval_results.json") == 1


def test_bands_are_those_of_the_report(tmp_path):
    top, rng = tmp_path / "first", np.random.default_rng(3)
    values = rng.random((3, 5))
    for k in range(3):
        write_run(top / f"gat/no_pretrain/seed_{k}", [train(n, values[k, n]) for n in range(5)], seed=k)
    found = runs.Runs([top])
    found.refresh()
    chosen = found.some(list(found.runs))
    drawn = curves.drawn(curves.Curves(), chosen, ["charts/success_rate"], "steps", 0, ["architecture"], (-1e9, 1e9))
    (own,) = drawn["charts/success_rate"]
    assert own["group"] == {"architecture": "gat"} and len(own["runs"]) == 3
    assert own["y"] == pytest.approx(values.mean(0), rel=1e-5)
    draws = values[np.random.default_rng(significance.SEED).integers(3, size=(200, 3))].mean(1)
    low, high = significance.interval(values.mean(0), draws, 3, (0, 1))
    assert own["low"] == pytest.approx(low, rel=1e-4, abs=1e-6) and own["high"] == pytest.approx(high, rel=1e-4)
    many = curves.drawn(curves.Curves(), chosen * 9, ["charts/success_rate"], "steps", 0, [], (-1e9, 1e9))
    assert len({tuple(entry["x"]) for entry in many["charts/success_rate"]}) == 1, "many curves share their x"


def listen(served, seconds=20.0, until=lambda events: False, before=lambda: None):
    """The rows that arrive as events until something holds."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=seconds)
    found = []
    with contextlib.closing(connection):
        connection.request("GET", "/api/events", headers={"host": f"127.0.0.1:{served.port}"})
        answer = connection.getresponse()
        assert answer.getheader("content-type").startswith("text/event-stream")
        before()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until(found):
            line = answer.readline()
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
        return found


def test_new_runs_and_growth_arrive_as_events(tmp_path, monkeypatch):
    from benchmark.dashboard import views

    monkeypatch.setattr(views, "EVENT_SECONDS", 0.05)
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(runs, "WALK_SECONDS", 0.02)
    top = tmp_path / "runs"
    write_run(top / "a", [train(100, 0.2)])
    with serving([top]) as served:

        def steps(events, name):
            return [row["steps"] for event in events for row in event["rows"] if row["id"] == name]

        found = listen(served, until=lambda e: steps(e, "runs/a"))
        assert steps(found, "runs/a") == [100]
        found = listen(
            served,
            until=lambda e: 300 in steps(e, "runs/a") and steps(e, "runs/b"),
            before=lambda: (append(top / "a", [train(300, 0.3)]), write_run(top / "b", [train(7, 0.1)])),
        )
        assert 300 in steps(found, "runs/a") and 7 in steps(found, "runs/b")
        (top / "b/config.json").unlink()  # it has no log.jsonl, and so is no run any more
        gone = listen(served, until=lambda e: any("runs/b" in event["gone"] for event in e))
        assert any("runs/b" in event["gone"] for event in gone)
        time.sleep(0.3)
        looked = served.runs.looked
        time.sleep(0.3)
        assert served.runs.looked == looked, "nobody looks any more, so nothing is read"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    top = make(tmp_path_factory.mktemp("compared") / "first", ("gat", "mlp_cnn"), (1, 2, 3), ["no_pretrain"])
    with serving([top]) as served:
        ids = {a: [name for name in sorted(ids_of(served)) if f"/{a}/" in name] for a in ("gat", "mlp_cnn")}
        sides = {key: {"name": a, "runs": ids[a]} for key, a in (("a", "mlp_cnn"), ("b", "gat"))}
        yield served, sides, top


def ids_of(served: Served) -> list[str]:
    return [entry["id"] for entry in served.get("/api/runs")[2]["rows"]]


def test_a_comparison_says_what_the_report_says(compared):
    served, sides, top = compared
    status, _, content = served.post("/api/compare", sides)
    assert status == 200
    _, blocks = report.report([top], decision.parse_weights(None))
    said = [block.text for block in blocks if isinstance(block, Text)]
    lead = [block["text"] for block in content["text"] if block["kind"] == "lead"]
    assert lead and lead[0] in said
    assert all(block["text"] in said for block in content["text"][:3])


def test_a_comparison_s_differences_levels_and_matrix(compared):
    served, sides, top = compared
    content = served.post("/api/compare", sides)[2]
    won = {
        a: np.array([[e["success_rate"] for e in json.loads(place.read_text())["levels"]] for place in
                     sorted((top / a).rglob("eval_results.json"))]) for a in ("mlp_cnn", "gat")
    }  # fmt: skip
    whole, first = content["categories"][:2]
    gap = won["mlp_cnn"].mean() - won["gat"].mean()
    assert whole["gap"] == pytest.approx(gap, abs=1e-5) and whole["low"] < gap < whole["high"]
    assert (first["name"], first["levels"], whole["over"]) == ("simplest", 10, "seeds")
    assert first["gap"] == pytest.approx((won["mlp_cnn"][:, :10] - won["gat"][:, :10]).mean(), abs=1e-5)
    means = {a: values.mean(0) for a, values in won.items()}
    assert content["levels"]["a_more"] == (means["mlp_cnn"] > means["gat"]).sum()
    assert content["levels"]["b_more"] == (means["mlp_cnn"] < means["gat"]).sum()
    rows = content["levels"]["rows"]
    assert len(rows) == content["levels"]["a_more"] + content["levels"]["b_more"]
    assert abs(rows[0]["a"] - rows[0]["b"]) == pytest.approx(np.abs(means["mlp_cnn"] - means["gat"]).max(), abs=1e-5)
    matrix = content["matrix"]
    assert matrix["criteria"][0]["weight"] == 3 and len(matrix["scores"]) == 2
    swapped = served.post("/api/compare", {"a": sides["b"], "b": sides["a"]})[2]
    assert swapped["matrix"]["scores"] == matrix["scores"][::-1] and swapped["categories"][0]["gap"] == -whole["gap"]


def test_the_text_follows_the_weights(compared):
    served, sides, _ = compared
    ask = sides | {"weights": {"success": 0, "size": 5}}
    text = " ".join(block.get("text", "") for block in served.post("/api/compare", ask)[2]["text"])
    assert "success 0%" in text and "size 45%" in text, "5 of 11"
    for wrong in ({"success": -1}, {"nonsense": 1}, {"success": "much"}, 3):
        status, _, content = served.post("/api/compare", sides | {"weights": wrong})
        assert status == 400 and "weights" in content["error"]


def test_a_side_with_one_seed_gets_an_interval_over_levels(compared):
    served, sides, _ = compared
    one = {key: side | {"runs": side["runs"][:1]} for key, side in sides.items()}
    content = served.post("/api/compare", one)[2]
    whole = content["categories"][0]
    assert whole["over"] == "levels" and whole["low"] < whole["gap"] < whole["high"]
    assert "Too few seeds" in content["text"][0]["text"]


def test_configurations_differ_and_categories(compared):
    served, sides, _ = compared
    ids = [sides["a"]["runs"][0], sides["b"]["runs"][0]]
    found = served.post("/api/configurations", {"runs": ids})[2]
    rows = {name: values for name, *values in found["rows"]}
    assert "num_envs" not in rows and found["same"] > 5 and found["runs"] == ids
    own = served.post("/api/categories", {"runs": ids})[2]
    assert own["categories"][:2] == ["overall", "simplest"] and own["runs"][ids[0]]["simplest"][1] == 10


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/curves", {"runs": [], "keys": []}),
        ("/api/curves", {"runs": "all", "keys": ["a"]}),
        ("/api/curves", {"runs": [], "keys": ["a"], "x": "time"}),
        ("/api/curves", {"runs": [], "keys": ["a"], "smooth": 2}),
        ("/api/curves", {"runs": [], "keys": ["a"], "group": ["folder"]}),
        ("/api/curves", {"runs": [], "keys": ["global_step"]}),
        ("/api/curves", {"runs": [], "keys": ["a"], "from": "here"}),
        ("/api/compare", {"a": {"name": "a", "runs": ["none"]}, "b": {"name": "b", "runs": ["none"]}}),
        ("/api/compare", {"a": {"name": "a", "runs": []}}),
        ("/api/keys", b"[1]"),
        ("/api/keys", b"\xff"),
        ("/api/keys", b"[" * 100_000),
    ],
)
def test_bad_requests_get_one_line(compared, path, body):
    status, _, content = compared[0].post(path, body)
    assert status == 400 and content["error"] and "\n" not in content["error"]


def test_too_large_and_unknown_requests_are_refused(compared):
    served = compared[0]
    assert served.post("/api/keys", b" " * (server.LONGEST + 1))[0] == 413
    assert served.get("/api/nothing")[0] == 404
    assert served.ask("DELETE", "/api/runs")[0] == 405
    assert served.post("/api/runs", {})[0] == 405


# Who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1", None])
def test_another_host_is_refused(compared, host):
    served = compared[0]
    host = host and host.format(port=served.port)
    for path in ("/", "/api/runs", "/static/app.js"):
        status, _, content = served.get(path, host=host)
        assert status in (400, 421) and b"mlp_cnn" not in json.dumps(str(content)).encode()


def test_names_of_this_machine_are_accepted(compared):
    served = compared[0]
    for host in (f"127.0.0.1:{served.port}", f"localhost:{served.port}", f"[::1]:{served.port}"):
        assert served.get("/api/runs", host=host)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_another_origin_is_refused(compared, origin):
    served = compared[0]
    origin = origin.format(port=served.port)
    assert served.post("/api/keys", {"runs": []}, origin=origin)[0] == 403
    assert served.get("/api/runs", origin=origin)[0] == 403
    assert served.post("/api/keys", {"runs": []}, origin=served.address)[0] == 200


def test_pages_elsewhere_cannot_embed_the_api(compared):
    served = compared[0]
    for site in ("cross-site", "same-site"):
        assert served.get("/api/runs", sec_fetch_site=site)[0] == 403
        assert served.get("/", sec_fetch_site=site)[0] == 200, "a link may lead here"
    assert served.get("/api/runs", sec_fetch_site="same-origin")[0] == 200


def test_a_token_is_needed_where_one_is_set(tmp_path):
    token = "0123456789abcdef"
    with serving([tmp_path], host="0.0.0.0", token=token) as served:
        for path in ("/", "/api/runs", "/static/app.js", "/?token=wrong", f"/api/runs?token={token}"):
            assert served.get(path)[0] == 401, path
        status, headers, _ = served.get(f"/?token={token}&more=1")
        assert status == 303 and headers["location"] == "/?more=1"
        cookie = headers["set-cookie"]
        assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
        assert served.get("/api/runs", cookie=cookie.partition(";")[0])[0] == 200
        assert served.get("/api/runs", cookie=cookie.partition(";")[0][:-1] + "x")[0] == 401
        assert served.get("/api/runs", authorization=f"Bearer {token}")[0] == 200
        assert served.get("/api/runs", authorization="Bearer")[0] == 401
        assert served.get("/api/runs", authorization=f"Bearer {token}", host=f"192.168.1.2:{served.port}")[0] == 200
        assert served.get("/api/runs", authorization=f"Bearer {token}", host=f"evil.example:{served.port}")[0] == 421


def test_other_addresses_get_a_token_and_this_machine_s_none():
    from benchmark.dashboard.__main__ import Args, given

    assert given(Args(folders=(Path(),)))[1] is None
    assert given(Args(folders=(Path(),), host="::1"))[1] is None
    made = {given(Args(folders=(Path(),), host=host))[1] for host in ("0.0.0.0", "::", "10.0.0.1", "name")}
    assert len(made) == 4 and all(len(token) >= 32 for token in made)


HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-resource-policy")


def test_answers_forbid_everything_else(compared):
    served = compared[0]
    for path in ("/", "/static/app.js", "/api/runs", "/api/nothing"):
        headers = served.get(path)[1]
        assert all(name in headers for name in HEADERS), path
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert "frame-ancestors 'none'" in policy and "require-trusted-types-for 'script'" in policy
    page = served.get("/")[2].decode()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|<style|style=|https?:", page), (
        "nothing inline, nothing elsewhere"
    )


# What it gives out


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py", "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fpyproject.toml", "/static//etc/passwd", "/static/%00", "/static/",
        "/static/..\\server.py", "//etc/passwd", "/static/vendor", "/server.py", "/static/app.js%00.png",
    ],
)  # fmt: skip
def test_nothing_but_the_page_s_files_is_served(compared, path):
    assert compared[0].get(path)[0] in (400, 404)


@pytest.mark.parametrize("name", ["../outside", "runs/../../outside", "/etc", "runs/a/..", "runs/%2e%2e", "runs\0", ""])
def test_ids_are_no_paths(tmp_path, name):
    write_run(tmp_path / "runs/a", [train(1, 0.1)])
    write_run(tmp_path / "outside", [train(1, 0.9)])
    with serving([tmp_path / "runs"]) as served:
        ask = {"runs": [name], "keys": ["charts/success_rate"]}
        assert served.post("/api/curves", ask)[2]["curves"] == {"charts/success_rate": []}
        assert served.post("/api/keys", ask)[2]["keys"] == []


def test_links_out_of_the_folders_are_not_followed(tmp_path):
    secret = write_run(tmp_path / "outside/run", [train(1, 0.987)], {"overall": {"success_rate": 0.987}})
    (secret / "console.log").write_text("error: 0.987\n")
    top = tmp_path / "runs"
    write_run(top / "own", [train(1, 0.1)])
    (top / "linked").symlink_to(secret, target_is_directory=True)
    for name in ("config", "metrics", "results", "console"):
        write_run(top / name, [train(1, 0.1)])
    for name, file in (("config", "config.json"), ("metrics", "metrics.jsonl"), ("results", "eval_results.json"),
                       ("console", "console.log")):  # fmt: skip
        (top / name / file).unlink(missing_ok=True)
        (top / name / file).symlink_to(secret / file)
    (top / "inner").mkdir()
    (top / "inner/config.json").symlink_to(top / "own/config.json")
    with serving([top]) as served:
        content = served.get("/api/runs")[2]
        ids = [entry["id"] for entry in content["rows"]]
        assert "runs/linked" not in ids and "runs/own" in ids
        ask = {"runs": ids, "keys": ["charts/success_rate"]}
        answers = [content, *(served.post(f"/api/{path}", ask)[2] for path in ("curves", "keys", "categories"))]
        assert "987" not in json.dumps(answers)
        notes = {entry["id"]: " ".join(entry["notes"]) for entry in content["rows"]}
        assert "link out of the folder" in notes["runs/metrics"] and "link out of the folder" in notes["runs/results"]
        assert "link" not in notes["runs/inner"], "a link within the folder is none out of it"


def test_nothing_is_written_to_runs(tmp_path):
    top = make(tmp_path / "first", ("gat", "gcn"), (1, 2), ["no_pretrain"], levels=2)
    before = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in (top, *top.rglob("*"))}
    with serving([top]) as served:
        ids = ids_of(served)
        for path in ("curves", "keys", "categories", "configurations"):
            assert served.post(f"/api/{path}", {"runs": ids, "keys": ["eval/success_rate"]})[0] == 200
        sides = {"a": {"name": "a", "runs": ids[:2]}, "b": {"name": "b", "runs": ids[2:]}}
        assert served.post("/api/compare", sides)[0] == 200
    assert {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in (top, *top.rglob("*"))} == before


def test_damaged_and_hostile_files_break_nothing(tmp_path):
    top = tmp_path / "runs"
    deep = "[" * 100_000
    for name, config in {
        "a": {"architecture": EVIL, "args": {"seed": 1, "label": EVIL}}, "b": {"architecture": 3}, "c": [],
        "d": {"architecture": "gat", "args": {"seed": 1e400, "max_minutes": "soon"}},
        "e": {"architecture": "gat", "args": {"seed": 1, "nested": [[[[]]]], "x": math.nan}},
    }.items():  # fmt: skip
        (top / name).mkdir(parents=True)
        (top / name / "config.json").write_text(json.dumps(config))
        lines = [deep, "{}", '{"kind": 1}', '{"kind":"train","global_step":1e999,"minutes":0}', '"text"', ""]
        lines += ['{"kind":"train","global_step":-1e999,"minutes":0}', '{"kind":"train","global_step":1,"minutes":-1}']
        lines += [json.dumps(train(10, 0.5)), '{"kind":"train","global_step":20,"minutes":1,"charts/SPS":"fast"}']
        (top / name / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        (top / name / "eval_results.json").write_text(deep)
    os.mkfifo(top / "a/log.jsonl")
    os.mkfifo(top / "f")
    (top / os.fsdecode(b"\xff\xfe")).mkdir()
    write_run(top / os.fsdecode(b"\xff\xfe"), [train(1, 0.1)])
    with serving([top]) as served:
        status, _, content = served.get("/api/runs")
        ids = [entry["id"] for entry in content["rows"]]
        assert status == 200 and {"runs/a", "runs/e", "runs/\\xff\\xfe"} <= set(ids)
        assert next(e for e in content["rows"] if e["id"] == "runs/a")["steps"] == 20
        for path in ("curves", "keys", "categories", "configurations"):
            assert served.post(f"/api/{path}", {"runs": ids, "keys": ["charts/SPS"]})[0] == 200, path
        assert served.post("/api/keys", {"runs": ["runs/\\xff\\xfe"]})[2]["keys"], "its id names it"


def test_one_run_that_cannot_be_read_hides_no_other(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_run(tmp_path / "runs" / name, [train(1, 0.1)])
    row_of = runs.Runs._row
    monkeypatch.setattr(
        runs.Runs, "_row", lambda self, run, *rest: 1 // (run.id != "runs/a") and row_of(self, run, *rest)
    )
    found = table(tmp_path / "runs")
    assert found["runs/b"]["steps"] == 1 and found["runs/a"]["error"] == "cannot be read: ZeroDivisionError"


def test_page_files_have_types_digests_and_are_packed(compared):
    served = compared[0]
    status, headers, content = served.get("/static/app.js")
    assert status == 200 and headers["content-type"] == "text/javascript; charset=utf-8"
    assert served.get("/static/app.js", if_none_match=headers["etag"])[0] == 304
    packed = served.get("/static/app.js", accept_encoding="gzip")
    assert packed[1]["content-encoding"] == "gzip" and len(packed[2]) < len(content)
    assert served.get("/static/colours.css")[1]["content-type"].startswith("text/css")
    assert served.get("/api/runs", accept_encoding="gzip")[1].get("content-encoding") == "gzip"


def test_the_page_has_the_report_s_colours(compared):
    """tests/test_report_looks.py measures how far they are apart, for colour-blind eyes too."""
    style = compared[0].get("/static/colours.css")[2].decode()
    light, dark = style.split("[data-theme=dark]")
    assert all(f"--{name}:{value};" in light for name, value in plots.LIGHT.items())
    assert all(f"--{name}:{value};" in dark for name, value in plots.DARK.items())


def test_the_package_holds_all_files_of_the_page():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "benchmark/dashboard"
    held = {path for pattern in patterns["benchmark.dashboard"] for path in package.glob(pattern)}
    assert {path for path in (package / "static").rglob("*") if path.is_file()} <= held
    used = set(re.findall(r'(?:from|import) "\./([\w/.]+)"|(?:href|src)="static/([\w/.]+)"',
                          "".join(p.read_text() for p in held if p.suffix in (".js", ".html"))))  # fmt: skip
    assert {name for pair in used for name in pair if name} - {"colours.css"} <= {
        path.relative_to(package / "static").as_posix() for path in held if path.is_file()
    }


# The command, and what it costs


def command(*words, **options):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "benchmark.dashboard", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **options)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["no/such/folder"], "no/such/folder"),
        ([".", "--port", "70000"], "--port"),
        ([".", "--token", "short"], "--token"),
        ([".", "--save-to", "no/such"], "--save-to"),
        ([".", "--levels", "builtin", "no/such"], "--levels no/such: no such folder or file"),
        ([".", "--levels", "builtin,no/such"], "--levels no/such: no such folder or file"),
        ([".", "--script", "no/such.py"], "--script no/such.py"),
        ([".", "--script", "README.md"], "--script README.md"),
        ([".", "--host", "203.0.113.1", "--port", "0"], "--host"),
    ],
)
def test_bad_arguments_are_one_line(words, expected, monkeypatch):
    from benchmark.dashboard.__main__ import Args, main
    from npp_rl.commands import parse

    monkeypatch.setattr(os, "nice", lambda _: pytest.fail("it would serve"))
    with pytest.raises(UserError) as error:
        main(parse(Args, words))
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)


def test_a_signal_ends_it_in_one_line_while_pages_listen(tmp_path):
    process = command(tmp_path, "--port", "0")
    port = int(process.stdout.readline().rpartition(":")[2].strip("/\n"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/api/events")
        connection.getresponse().readline()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (143, "error: stopped by SIGTERM\n")


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def big(top: Path, count: int = 200, lines: int = 1000, levels: int = 2000) -> None:
    """Runs whose large files are links to the same ones: reading them takes as long as if they were different."""
    first = top / "exp/gat/no_pretrain/seed_0"
    more = {f"losses/loss_{k}": k / 7 for k in range(30)}
    tried = {"success": True, "cause": "none", "steps": 120, "frames": 480, "actions": "012345" * 30}
    results = {
        "overall": {"success_rate": 0.6, "levels": levels},
        "by_category": {"simple": {"success_rate": 0.6, "levels": levels}},
        "levels": [
            {"id": f"simple/{k}", "category": "simple", "digest": f"{k:064x}", "par": None,
             "success_rate": float(k % 5 < 3), "tries": [tried]} for k in range(levels)
        ],
    }  # fmt: skip
    write_run(first, [train(100 * k, k / lines) | more for k in range(lines)], results, seed=0, total_timesteps=10**6)
    for k in range(1, count):
        folder = top / f"exp/{('gat', 'gcn')[k % 2]}/no_pretrain/seed_{k}"
        write_run(folder, seed=k, architecture=("gat", "gcn")[k % 2], total_timesteps=10**6)
        for name in ("metrics.jsonl", "eval_results.json"):
            (folder / name).unlink(missing_ok=True)
            os.link(first / name, folder / name)


def test_200_runs_and_2000_levels_are_shown_at_once_and_in_little_memory(tmp_path):
    big(tmp_path / "runs")
    process = command(tmp_path / "runs", "--port", "0")
    try:
        address = process.stdout.readline().strip()
        port = int(address.rpartition(":")[2].strip("/"))
        spent = {}

        def ask(name, method, path, body=None):
            before = cpu_seconds(process.pid)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            with contextlib.closing(connection):
                connection.request(method, path, body and json.dumps(body))
                answer = connection.getresponse()
                content = json.loads(answer.read())
            assert answer.status == 200, content
            spent[name] = cpu_seconds(process.pid) - before
            return content

        rows = ask("runs", "GET", "/api/runs")["rows"]
        assert len(rows) == 200 and all(row["test"] == 0.6 for row in rows)
        ids = [row["id"] for row in rows]
        found = ask("curves", "POST", "/api/curves", {"runs": ids, "keys": ["charts/success_rate", "losses/loss_1"]})
        assert len(found["curves"]["losses/loss_1"]) == 200
        ask("categories", "POST", "/api/categories", {"runs": ids})
        sides = {key: {"name": key, "runs": ids[k::20][:5]} for k, key in enumerate("ab")}
        assert ask("compare", "POST", "/api/compare", sides)["levels"]["total"] == 2000
        assert spent["runs"] < 2 and max(spent.values()) < 5, spent
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
        assert peak < 300, f"{peak:.0f} MB"
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19, "a training beside it goes first"
        time.sleep(0.5)
        before = cpu_seconds(process.pid)
        time.sleep(2)
        assert cpu_seconds(process.pid) - before <= 0.03, "nobody looks: nothing is done"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
