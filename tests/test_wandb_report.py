"""The report on Weights and Biases, against a stand-in for its API on loopback: what is saved, and errors."""

import json
import os
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmark import wandb_report
from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, parse
from npp_rl.levels.categories import CATEGORIES

ROOT = Path(__file__).parents[1]


def run_of(architecture, seed, success, tags=("night",)):
    """A run as the API gives it."""
    config = {"architecture": {"value": architecture}, "parameters": {"value": 1000}, "args": {"value": {"seed": seed}}}
    summary = {"charts/SPS": 100.0 * seed} | ({} if success is None else {"test/success_rate": success})
    name = f"{architecture}-{seed}"
    return {
        **dict.fromkeys(("sweepName", "jobType", "commit", "description", "notes", "systemMetrics"), None),
        **{"id": f"id-{name}", "name": name, "displayName": name, "state": "finished", "group": architecture},
        **{"tags": list(tags), "readOnly": False, "createdAt": "2026-01-01T00:00:00", "projectId": "7"},
        **{"heartbeatAt": "2026-01-01T00:00:00", "historyLineCount": 9, "historyKeys": None},
        **{"user": {"name": "u", "username": "u"}, "config": json.dumps(config), "summaryMetrics": json.dumps(summary)},
    }


RUNS = [
    run_of("gcn", 1, 0.5),
    run_of("gat", 1, 0.75),
    run_of("gat", 2, 0.25),
    run_of("gat", 3, None, tags=()),
    run_of("mlp_baseline", 1, 0.875),
    run_of("something_else", 1, 1.0),
]


def test_own_architectures_are_compared_where_they_are_named():
    runs = [types.SimpleNamespace(name=n, config={"architecture": n}, summary={}) for n in ("own", "gcn", "gat")]
    runs.append(types.SimpleNamespace(name="odd", config={"architecture": ["gat"]}, summary={}))
    api = types.SimpleNamespace(runs=lambda *_, **__: runs)
    assert list(wandb_report.tracked_runs(api, "e", "p", ())) == ["gat", "gcn"]
    assert list(wandb_report.tracked_runs(api, "e", "p", (), ("own", "gat"))) == ["gat", "gcn", "own"]
    for name in ("a'b", "x|y", "", "../x"):
        with pytest.raises(ArgumentError, match=r"--architectures .*expected names such as"):
            wandb_report.main(wandb_report.Args(architectures=(name,), dry_run=True))


@pytest.fixture(scope="module")
def api():
    """(environment for a command, GraphQL requests that came) of a stand-in for wandb's API."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = None
            if self.path == "/graphql":
                asked.append(json.loads(body))
                data = answer(asked[-1])
            content = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    outer = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    address = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "a" * 40}
    yield outer | address, asked
    server.shutdown()
    server.server_close()


def answer(request):
    query, given = request["query"], request.get("variables") or {}
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    if "viewer" in query:
        viewer = {"id": "1", "entity": "team", "username": "u", "email": "u@example.org", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}, "admin": False}}
    if "upsertView" in query:
        project = {"id": "1", "name": given["projectName"], "entityName": given["entityName"]}
        view = {key: given[key] for key in ("type", "name", "displayName", "description", "spec")}
        view |= {"id": "VmlldzoxMjM0", "project": project, "updatedAt": "2026-01-01T00:00:00Z"}
        return {"upsertView": {"view": view, "inserted": True}}
    if "models(" in query:
        names = {"__typename": "Project", "id": "1", "name": "mazes", "entityName": "team"}
        node = {**names, "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}
        return {"models": {"pageInfo": page, "edges": [{"node": node}]}}
    if given.get("project", given.get("projectName", given.get("name"))) not in ("mazes", None):
        return {"project": None}
    wanted = json.loads(given.get("filters") or "{}").get("tags", {}).get("$in")
    runs = [run for run in RUNS if wanted is None or set(wanted) & set(run["tags"])]
    edges = [{"node": run, "cursor": str(k)} for k, run in enumerate(runs)]
    project = {"id": "1", "internalId": "7", "name": "mazes", "runCount": len(runs), "readOnly": False}
    return {"project": {**project, "runs": {"edges": edges, "pageInfo": page}}}


CASES = """
import contextlib, io, json, sys
from benchmark import wandb_report
from npp_rl import commands

for words in json.loads(sys.argv[1]):
    sys.argv[1:], status = words, 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            commands.command(wandb_report.main, wandb_report.Args)
        except SystemExit as stop:
            status = stop.code
    print(json.dumps([status, out.getvalue(), error.getvalue()]))
"""


def make(environment, *cases):
    """Status, stdout and stderr of the command with the words of each case; one process, as wandb starts slowly."""
    done = subprocess.run(
        [sys.executable, "-c", CASES, json.dumps(cases)], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def made(api):
    """Requests that came, then what the command said: saving, a dry run, errors."""
    environment, asked = api
    cases = [["--title", "Which one?", "--tags", "night"], ["--architectures", "gcn", "--dry-run"]]
    cases += [["--architectures", "full_hgt"], ["--tags", "day"], ["--project", "none"], ["--title", ""]]
    return asked, *make(environment, *(["--project", "mazes", *words] for words in cases))


MESSAGES = (
    "--architectures full_hgt: no tracked run",
    "--project mazes: team has no tracked run in it with a tag of day",
    "--project none: ",
    "--title: expected 1 to 128 characters",
)


def saved(asked):
    (request,) = (request for request in asked if "upsertView" in request["query"])
    return request["variables"], json.loads(request["variables"]["spec"])


def test_the_report_that_is_saved(made):
    asked, (status, output, error), *_ = made
    assert status == 0, error
    assert output.startswith("runs: gat 2, gcn 1, mlp_baseline 1\n")  # neither without the tag nor of others
    assert output.splitlines()[-1].endswith("/team/mazes/reports/Which-one?--VmlldzoxMjM0")
    variables, spec = saved(asked)
    assert (variables["entityName"], variables["projectName"], variables["type"]) == ("team", "mazes", "runs")
    assert variables["displayName"] == "Which one?"

    text = [block["children"][0]["text"] for block in spec["blocks"] if block["type"] == "heading"]
    assert text[:3] == ["Result", "Learning curves", "Success per category"] and text[-1] == "All runs"
    tables = [block["content"] for block in spec["blocks"] if "| architecture |" in block.get("content", "")]
    rows = [line for line in tables[0].splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| mlp_baseline | 1 | 1 | 87.5% | 87.5% to 87.5% | 100 | 1,000 |",
        "| gat | 2 | 2 | 50.0% | 25.0% to 75.0% | 150 | 1,000 |",
        "| gcn | 1 | 1 | 50.0% | 50.0% to 50.0% | 100 | 1,000 |",
    ]
    assert "too few for a conclusion" in tables[0]

    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    panels = [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]
    for grid in grids:
        sets = grid["runSets"]
        assert [one["name"] for one in sets] == ["gat", "gcn", "mlp_baseline"]
        for one in sets:
            filters = json.dumps(one["filters"])
            assert "architecture" in filters and f'"{one["name"]}"' in filters and '"night"' in filters
            if grid is not grids[-1]:
                assert [key["name"] for key in one["grouping"]] == ["architecture.value"]
    drawn = {"Run History Line Plot": set(), "Bar Chart": set()}
    for panel in panels:
        if panel["viewType"] in drawn:
            config = panel["config"]
            drawn[panel["viewType"]] |= {(config.get("xAxis"), metric) for metric in config["metrics"]}
            assert config["groupBy"] == "architecture.value" and config["aggregate"] is True
    for metric in ("eval/success_rate", "charts/success_rate"):
        assert {("minutes", metric), ("global_step", metric)} <= drawn["Run History Line Plot"]
    assert ("minutes", "charts/SPS") in drawn["Run History Line Plot"]
    bars = {metric.partition(":")[2] or metric for _, metric in drawn["Bar Chart"]}
    assert {"test/success_rate", "charts/SPS", *(f"test/{name}" for name in CATEGORIES)} <= bars
    videos = [panel["config"]["mediaKeys"] for panel in panels if panel["viewType"] == "Media Browser"]
    assert videos == [["videos/won", "videos/lost"]]
    for grid in grids:  # no panel lies over another
        places = [panel["layout"] for panel in grid["panelBankSectionConfig"]["panels"]]
        cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
        assert len(cells) == len(set(cells)) and all(p["x"] + p["w"] <= 24 for p in places)


def test_a_dry_run_prints_and_saves_nothing(made):
    asked, _, (status, output, error), *_ = made
    assert status == 0, error
    grids = [block["metadata"] for block in json.loads(output)["blocks"] if block["type"] == "panel-grid"]
    assert {one["name"] for grid in grids for one in grid["runSets"]} == {"gcn"}
    assert sum("upsertView" in request["query"] for request in asked) == 1  # of the case before


def test_labels_in_one_group_are_said():
    def run(label):
        return {"name": "a", "config": {"args": {"label": label}}, "summary": {"test/success_rate": 0.5}}

    assert "labels" not in wandb_report.table({"gat": [run("wide"), run("wide")]})
    said = wandb_report.table({"gat": [run("wide"), run("")], "gcn": [{**run(""), "config": {"args": None}}]})
    assert "several labels (none, wide)" in said and "--tags LABEL" in said


def test_errors_are_one_line(made):
    for (status, output, error), message in zip(made[3:], MESSAGES, strict=True):
        assert (status, output) == (2, "") and error.startswith(f"error: {message}") and error.count("\n") == 1


@pytest.mark.filterwarnings("ignore")  # of pydantic, about the library
def test_without_a_login(tmp_path, monkeypatch, capsys):
    for name, value in {"BASE_URL": "http://127.0.0.1:9", "CONFIG_DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb_report.main(wandb_report.Args(dry_run=True))  # asks nobody
    spec = json.loads(capsys.readouterr().out)
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    assert {one["name"] for grid in grids for one in grid["runSets"]} == set(ARCHITECTURES)
    assert "A dry run reads no runs" in json.dumps(spec)
    with pytest.raises(ArgumentError, match=r"^Weights and Biases: No API key") as caught:
        wandb_report.main(wandb_report.Args())
    assert "python -m benchmark.report makes the same panels" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["wandb", "wandb_workspaces.reports.v2"])
def test_without_what_it_needs(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(ArgumentError, match=r"python -m benchmark\.report makes the same") as caught:
        wandb_report.main(wandb_report.Args())
    assert str(caught.value).startswith(wandb_report.NEEDS) and "\n" not in str(caught.value)


def test_help_names_the_local_report(capsys):
    with pytest.raises(SystemExit):
        parse(wandb_report.Args, ["--help"])
    assert "python -m benchmark.report" in " ".join(capsys.readouterr().out.split())
