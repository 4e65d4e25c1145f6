"""`evaluation --search`: wins of a search are reported apart, and plain play stays as it is."""

import json

import numpy as np
import pytest
from hand_made import corridor, here, middle
from made_agents import made_run

from npp_rl.commands import ArgumentError
from npp_rl.environment.games import inputs_of
from npp_rl.evaluation import __main__ as evaluation
from npp_rl.evaluation.search_report import search_results, search_section
from npp_rl.levels.generator import generate
from npp_rl.planning import guided, planner
from npp_rl.simulator import WON, simulate

EASY = corridor(spawn=5, switch=12, door=20, name="easy")
# A drone that is not simulated stands beside the way.
NOT_WHOLE = corridor(spawn=5, switch=12, door=20, others=[(12, middle(30, 12))], name="not whole")
SHUT = corridor(spawn=5, switch=12, door=20, mines=[here(8)], name="shut")


@pytest.fixture(autouse=True)
def lean(monkeypatch):
    monkeypatch.setattr(planner, "NODES", 20_000)
    guided.compile_ahead(("game_state", "reachability", "arcs", "local_tiles"))


@pytest.fixture
def best(tmp_path):
    return str(made_run(tmp_path / "run", results=False))


def run(best, levels, monkeypatch, **more):
    monkeypatch.setattr(evaluation, "load_suite", lambda *_: levels)
    monkeypatch.setattr(evaluation, "_train_levels", lambda *_: [])
    return evaluation.main(evaluation.Args(checkpoint=(best,), **more))[0]


def test_wins_are_apart_and_plain_play_stays(best, tmp_path, monkeypatch, capsys):
    levels = [EASY, SHUT, NOT_WHOLE, generate("simplest", 8)]
    plain = run(best, levels, monkeypatch, output=str(tmp_path / "plain"))
    capsys.readouterr()
    out = tmp_path / "out"
    both = run(best, levels, monkeypatch, output=str(out), search=0.3)
    assert both == plain  # what benchmark/report.py and comparisons read
    assert (out / "eval_results.json").read_bytes() == (tmp_path / "plain/eval_results.json").read_bytes()
    assert not (tmp_path / "plain/search_results.json").exists()
    found = json.loads((out / "search_results.json").read_text())
    assert set(found) == {"overall", "by_category", "by_group", "levels", "settings"}
    assert found["settings"] | {"seconds": 0.3, "checkpoint": best, "seed": 0, "frame_skip": 4} == found["settings"]
    for level, entry, greedy in zip(levels, found["levels"], plain["levels"], strict=True):
        assert entry["digest"] == level.digest and 0 < entry["seconds"] < 1.0
        assert (entry["won_by"] == "greedy play") == bool(greedy["success_rate"])
        assert len(entry["tries"]) == entry["success_rate"]
        for outcome in entry["tries"]:
            _, states = simulate(level.map_data, inputs_of(outcome["actions"], 4, outcome["frames"]))
            assert states[-1] == WON and len(states) == outcome["frames"]
    won = [entry["success_rate"] for entry in found["levels"]]
    assert won[0] == won[2] == won[3] == 1 and won[1] == 0
    overall = found["overall"]
    assert overall["levels"] == 3 and overall["success_rate"] == pytest.approx(2 / 3)  # not the one not simulated
    assert overall["within"] == {"0.3": 2} and overall["seconds"]["most"] >= 0.3
    assert overall["greedy"] == plain["overall"]["success_rate"]
    text = (out / "report.md").read_text()
    assert text == capsys.readouterr().out.rsplit("written to", 1)[0].rstrip("\n") + "\n"
    before, _, section = text.partition("\n## Search at test time\n")
    assert before.rstrip() == (tmp_path / "plain/report.md").read_text().rstrip() and "| **overall** | 3 |" in section


@pytest.mark.parametrize(
    "bad", [{"search": 0.0}, {"search": -1.0}, {"search": np.inf}, {"search": 1.0, "sampled": True}]
)
def test_bad_arguments(best, tmp_path, monkeypatch, bad):
    with pytest.raises(ArgumentError, match=r"^--search.*expected|^--search: .*--sampled$"):
        run(best, [EASY], monkeypatch, output=str(tmp_path / "out"), **bad)
    assert not (tmp_path / "out").exists()


def test_an_ensemble_guides_a_search(best, tmp_path, monkeypatch):
    other = str(made_run(tmp_path / "other", results=False, seed=1))
    monkeypatch.setattr(evaluation, "load_suite", lambda *_: [EASY])
    monkeypatch.setattr(evaluation, "_train_levels", lambda *_: [])
    out = tmp_path / "out"
    args = evaluation.Args(checkpoint=(best, other), ensemble=True, members=False, output=str(out), search=20.0)
    evaluation.main(args)
    assert json.loads((out / "search_results.json").read_text())["overall"]["success_rate"] == 1


def entry(seconds, by=None, **more):
    won = {"success_rate": float(by is not None), "seconds": seconds, "won_by": by, "rounds": 1, "tries": []}
    return {"id": "a|b", "category": "my|own", "group": "static", **won, **more}


def test_figures_by_hand():
    entries = [entry(0.2, "greedy play"), entry(0.6, "search"), entry(4.0), entry(1.5, "policy", group="moving")]
    entries += [entry(0.1, "search", trained_on=True), entry(0.1, "search", group="not simulated")]
    found = search_results(entries, {"seconds": 4.0, "seed": 3})
    part = found["overall"]
    assert (part["levels"], part["success_rate"], part["greedy"]) == (4, 0.75, 0.25)
    assert part["within"] == {"0.5": 1, "1": 2, "2": 3, "4": 3}
    assert part["seconds"] == pytest.approx({"mean": 1.575, "median": 1.05, "most": 4.0})
    assert {name: one["levels"] for name, one in found["by_group"].items()} == {
        "static": 3,
        "moving": 1,
        "not simulated": 1,
    }
    rows = [line for line in search_section(found) if line.startswith("|")]
    assert rows[-1].startswith("| **overall** | 4 | 25.0% | 75.0% |") and rows[-1].endswith("| 1.57 | 1.05 | 4.00 |")
    assert rows[2].startswith("| my\\|own | 4 |")
    none = search_results([entry(0.1, "search", trained_on=True)], {"seconds": 1.0, "seed": 0})
    assert none["overall"] is None and search_section(none)[-1] == "No level counts."
