"""A longer budget of a resumed run: what is refused, and what config.json says of it, also if the process dies."""

import json
from types import SimpleNamespace

import pytest

from npp_rl.commands import ArgumentError, UserError
from npp_rl.ppo_mlp_baseline import Args
from npp_rl.training import budget
from npp_rl.training.checkpoints import Counters

COUNTERS = {"global_step": 1000, "minutes": 2.0}


def test_a_killed_process_notes_a_budget_once(tmp_path):
    """It may die after config.json is written and before latest.pt is: the checkpoint still has the old budget."""
    old = {"total_timesteps": 1000, "max_minutes": None}
    (tmp_path / "config.json").write_text(json.dumps({"args": {**old, "gamma": 0.9}, "parameters": 3}))
    (tmp_path / "report.md").write_text("first")
    args = Args(total_timesteps=4000)
    said = budget.note(tmp_path, old, args, COUNTERS)
    assert said.startswith("total_timesteps was 1000, is now 4000: 25% of the run is over")
    assert budget.note(tmp_path, old, args, COUNTERS) == said
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["args"] == {"total_timesteps": 4000, "max_minutes": None, "gamma": 0.9} and config["parameters"] == 3
    assert config["budgets"] == [{**old, "ended_at_step": 1000, "ended_at_minute": 2.0}]
    assert (tmp_path / "report_of_step_1000.md").read_text() == "first" and not (tmp_path / "report.md").exists()
    assert budget.note(tmp_path, old | {"total_timesteps": 4000}, args, COUNTERS) == ""

    later = budget.note(tmp_path, vars(args), Args(max_minutes=8.0), {"global_step": 4000, "minutes": 4.0})
    assert "max_minutes was None, is now 8.0" in later and "50% of the run is over" in later
    budgets = json.loads((tmp_path / "config.json").read_text())["budgets"]
    assert [entry["total_timesteps"] for entry in budgets] == [1000, 4000]


@pytest.mark.parametrize("obstacle", ["folder", "budgets", "nan"])
def test_what_cannot_be_noted_changes_nothing(tmp_path, obstacle):
    content = {"args": {"total_timesteps": 1000, "max_minutes": None}}
    text = json.dumps(content | ({"budgets": 5} if obstacle == "budgets" else {}))
    text = text if obstacle != "nan" else text[:-1] + ', "versions": {"numba": NaN}}'
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "report.md").write_text("first")
    if obstacle == "folder":
        (tmp_path / "report_of_step_1000.md").mkdir()
    named = "report_of_step_1000.md: expected no such folder" if obstacle == "folder" else "config.json: "
    with pytest.raises(UserError, match=named):
        budget.note(tmp_path, content["args"], Args(total_timesteps=4000), COUNTERS)
    assert (tmp_path / "config.json").read_text() == text and (tmp_path / "report.md").read_text() == "first"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({}, {"total_timesteps": 900}, r"--total-timesteps 900: the run has done 1,000 already"),
        ({}, {"total_timesteps": 1000}, r"--total-timesteps 1000: the run has done 1,000 already"),
        ({}, {"max_minutes": 2.0}, r"--max-minutes 2\.0: the run has done 2 already"),
        ({"max_minutes": 5.0}, {"max_minutes": 5.0, "total_timesteps": 9000}, r"ends by --max-minutes 5\.0"),
    ],
)
def test_a_budget_that_is_used_up_or_has_no_effect_is_refused(old, new, message):
    before = {"total_timesteps": 500, "max_minutes": None} | old
    with pytest.raises(ArgumentError, match=message):
        budget.check(before, Args(**{"resume": "run", "total_timesteps": 500, **new}), Counters(**COUNTERS))


def test_evaluations_begin_again_where_the_longer_run_is():
    counters = Counters(**COUNTERS, evaluated_share=1.0, evaluated_at=1000)
    budget.check({"total_timesteps": 1000, "max_minutes": None}, Args(total_timesteps=4000), counters)
    assert counters.evaluated_share == 0.25
    unchanged = Counters(**COUNTERS, evaluated_share=1.0)
    budget.check({"total_timesteps": 1000, "max_minutes": None}, Args(total_timesteps=1000), unchanged)
    assert unchanged.evaluated_share == 1.0
    assert budget.share(SimpleNamespace(epochs=8, max_minutes=None), SimpleNamespace(epoch=2)) == 0.25
