"""The report: a made experiment's page and Markdown, its decision, its words, bad input, and the page in a browser."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import browser
import numpy as np
import pytest
from made_runs import make
from torch.utils.tensorboard import SummaryWriter

from benchmark import report
from benchmark.reporting import decision, details, differences, experiments, page, plots, sections, significance
from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, command
from npp_rl.levels.maps import GROUPS

ROOT = Path(__file__).parents[1]
WEIGHTS = decision.parse_weights(None)


def words(blocks):
    return "\n".join(block.text for block in blocks if isinstance(block, page.Text))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Eight architectures, both conditions, three seeds; pictures, tiers, cost: (its folder, its report's)."""
    folder = tmp_path_factory.mktemp("whole")
    make(folder / "all", pictures=True)
    out = folder / "out"
    title, blocks = report.report([folder / "all"], WEIGHTS)
    report.write(out, title, blocks)
    return folder / "all", out


def test_the_page_is_whole_and_loads_nothing(whole):
    _, out = whole
    html = (out / "report.html").read_text()
    assert "default-src 'none'" in html and html.count("<svg") > 30
    assert not re.search(r"(?:src|href)=(?![\"']?(?:data:image/|#))", html)
    assert not re.search(r"@import|url\(|https?://|<link|<iframe|fetch\(", html)
    for section in ("Success", "Learning curves", "Decision matrix", "Profiles", "Categories", "Pretraining", "Cost",
                    "Failures", "Levels", "Runs", "Method"):  # fmt: skip
        assert f">{section}</h2>" in html
    for name in ARCHITECTURES:
        assert html.count(name) > 20
    assert html.count("data:image/webp;base64,") == details.PICTURES
    assert "n=3" in html and "Probability of improvement" in html and "Difficulty tiers" in html


def test_markdown_has_its_pictures_beside_it(whole):
    _, out = whole
    text = (out / "report.md").read_text()
    named = re.findall(r"!\[[^\]]*\]\((figures/[^)]+)\)", text)
    assert len(named) > 30 and len(set(named)) == len(named)
    assert all((out / name).is_file() for name in named)
    assert {path.name for path in (out / "figures").iterdir()} == {Path(name).name for name in named}
    assert (out / "figures/iqm.svg").read_text().startswith("<svg viewBox=") and "| mlp_baseline + BC | 3 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_what_levels_hold_is_shown_by_category_beside_the_planner(tmp_path):
    """Of 12 levels in SI and S: 4 static and 2 moving ones of each, but one of SI's static ones is not simulated."""
    make(tmp_path / "all", ("gat", "mlp_cnn"), (1, 2), ["no_pretrain"])
    places = [(f"{tab}/{k:03d}", tab, GROUPS[0] if k < 4 else GROUPS[1]) for tab in ("SI", "S") for k in range(6)]
    places[3] = ("SI/003", "SI", GROUPS[2])
    won = {"gat": {"SI/000", "SI/001", "S/004", "SI/003"}, "mlp_cnn": {"SI/000"}}
    for place in (tmp_path / "all").rglob("eval_results.json"):
        results = json.loads(place.read_text())
        architecture = next(name for name in won if name in str(place))
        results["levels"] = [
            {
                "id": name,
                "category": tab,
                "group": group,
                "digest": name,
                "success_rate": float(name in won[architecture]),
            }
            for name, tab, group in places
        ]
        place.write_text(json.dumps(results))
    index = [{"digest": name, "solved": name != "S/000", "frames": 100} for name, *_ in places if name != "S/005"]
    (tmp_path / "planner.json").write_text(json.dumps({"levels": index}))
    report.main(report.Args((tmp_path / "all",), tmp_path / "out", pars=tmp_path / "planner.json"))
    text = (tmp_path / "out/report.md").read_text()
    text = text[text.index("What the levels hold") :]
    rows = [[cell.split(" (")[0].strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if "|" in row]
    names = text[text.index("|") :].splitlines()[0]
    for name in ("S, static (4)", "SI, static (3)", "static (7)", "SI, moving (2)", "moving (4)", "not simulated (1)"):
        assert f"| {name} |" in names
    # By S and SI and together: static, then moving; then what is not simulated.
    assert rows[2] == ["gat", "0%", "67%", "29%", "50%", "0%", "25%", "100%"]
    assert rows[3] == ["mlp_cnn", "0%", "33%", "14%", "0%", "0%", "0%", "0%"]
    assert rows[4] == ["planner", "75%", "100%", "86%", "100%", "100%", "100%", "100%"]
    assert "of 3" in text  # moving levels that the planner has tried


def test_the_same_runs_give_the_same_report(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    once, again = (page.page(*report.report([tmp_path], WEIGHTS)) for _ in range(2))
    assert once == again


def test_a_clear_winner_is_named(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), range(5), ["no_pretrain"], levels=20, luck=0.02)
    for run in tmp_path.glob("mlp_cnn/*/*/eval_results.json"):
        results = json.loads(run.read_text())
        results["overall"]["success_rate"] -= 0.3
        run.write_text(json.dumps(results))
    _, blocks = report.report([tmp_path], WEIGHTS)
    assert "**Take gat** for success" in words(blocks) and "beyond chance" in words(blocks)


def test_equals_are_not_told_apart(tmp_path):
    make(tmp_path, ("gat", "vision_free"), range(4), ["no_pretrain"])
    assert "**No clear winner in success.**" in words(report.report([tmp_path], WEIGHTS)[1])


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_are_said_to_be_too_few(tmp_path, seeds):
    make(tmp_path, ("gat", "mlp_cnn"), range(seeds), ["no_pretrain"])
    title, blocks = report.report([tmp_path], WEIGHTS)
    assert "**Too few seeds to conclude:** all contenders have fewer than 3" in words(blocks)
    assert "**Take" not in words(blocks)
    html = page.page(title, blocks)
    assert "nan" not in re.sub(r"<[^>]+>", " ", html).lower().replace("finance", "") and ">nan" not in html


def test_one_run_alone(tmp_path):
    make(tmp_path, ("gat",), [1], ["no_pretrain"], full=False)
    said = words(report.report([tmp_path], WEIGHTS)[1])
    assert "**Nothing to compare:** gat is the only contender" in said and "One seed says nothing" in said
    line = [sys.executable, "-m", "benchmark.report", str(tmp_path), "--out", str(tmp_path / "report")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and (tmp_path / "report/report.html").is_file(), done.stderr
    assert "Nothing to compare" in done.stdout


def test_kept_results_of_real_runs():
    """The figures of benchmark/RESULTS.md come from these."""
    folder = ROOT / "benchmark/results/eight_architectures_6_minutes"
    (found,) = experiments.read_experiments([folder])
    assert {run.architecture for run in found.runs} >= {"mlp_baseline", "mlp_cnn"} and found.problems == []
    assert all(run.architecture in ARCHITECTURES and math.isfinite(run.success) for run in found.runs)
    assert min(Counter(run.architecture for run in found.runs).values()) >= significance.MIN_SEEDS
    _, blocks = report.report([folder], WEIGHTS)
    assert "**Take mlp_baseline** for success: it won 98.4% of the test levels (3 seeds)" in words(blocks)
    assert "over mlp_cnn, the next, it is ahead by +32.3 points (+23.3 to +41.4)" in words(blocks)


def test_suites_are_experiments_of_their_own(tmp_path):
    """One folder, two test suites: their levels have nothing in common, so neither have their figures."""
    make(tmp_path, ("gat",), [1, 2], ["no_pretrain"])
    place = tmp_path / "gat/no_pretrain/seed_2/config.json"
    config = json.loads(place.read_text())
    config["args"]["test_dataset"] = "/somewhere/nclone"
    place.write_text(json.dumps(config))
    found = experiments.read_experiments([tmp_path])
    assert [e.name.removeprefix(tmp_path.name) for e in found] == [" on nclone", " on builtin"]
    title, blocks = report.report([tmp_path], WEIGHTS)
    assert "Between experiments" not in page.page(title, blocks)


def test_a_console_that_is_gone_ends_nothing(tmp_path):
    """A full disk behind it, and a reader that has left: the report is written, and there is one line at most."""
    make(tmp_path, ("gat",), [1], ["no_pretrain"], full=False)
    line = f"{sys.executable} -m benchmark.report {tmp_path} --out {tmp_path}"
    for end, status in (("/out > /dev/full", 2), ("/out > /dev/null", 0), ("/out | true", None)):
        words = ["bash", "-o", "pipefail", "-c", line + end]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == status if status is not None else done.returncode in (0, 2, 141)
        assert done.stderr.count("\n") == (status == 2) and ("No space left" in done.stderr) == (status == 2)
        assert (tmp_path / "out/report.md").is_file()
        shutil.rmtree(tmp_path / "out")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m benchmark.report --help > /dev/full"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_report_leaves_nothing_new_in_a_folder_that_git_tracks(tmp_path, monkeypatch, capsys):
    make(tmp_path / "kept", ("gat",), [1], ["no_pretrain"], full=False)
    make(tmp_path / "new", ("gat",), [1], ["no_pretrain"], full=False)
    monkeypatch.chdir(tmp_path)
    for words in (["init", "-q"], ["add", "kept"]):
        subprocess.run(["git", *words], check=True)

    def written(*words):
        monkeypatch.setattr(sys, "argv", ["report", *words])
        command(report.main, report.Args)
        return capsys.readouterr().out

    assert "written to reports/kept/report.html" in written("kept") and (tmp_path / "reports/kept/report.md").is_file()
    assert not (tmp_path / "kept/report").exists()
    assert "written to new/report/report.html" in written("new")
    assert "written to kept/told/report.html" in written("kept", "--out", "kept/told")
    monkeypatch.chdir(tmp_path / "kept/gat")
    with pytest.raises(SystemExit):
        written("..")
    assert capsys.readouterr().err.startswith("error: --out: expected a folder for the report, since git tracks files")


def test_an_interrupted_report_says_so(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "read_experiments", interrupt)
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        command(report.main, report.Args)
    assert end.value.code == 130 and capsys.readouterr().err == "error: interrupted\n"


def test_weights():
    assert decision.parse_weights("success=0,size=2.5") == {**WEIGHTS, "success": 0.0, "size": 2.5}
    for bad in (
        "succes=1",
        "success",
        "success=-1",
        "success=nan",
        "success=inf",
        "success=1e308",
        ",".join(f"{n}=0" for n in WEIGHTS),
    ):
        with pytest.raises(ArgumentError, match="--weights"):
            decision.parse_weights(bad)


def test_scores_fall_from_the_best_to_the_worst():
    share = decision.CRITERIA[0]
    assert decision.normalised(share, np.array([0.9, 0.7, 0.5])).tolist() == pytest.approx([1, 0.5, 0])
    assert decision.normalised(share, np.array([0.90, 0.89])).tolist() == pytest.approx([1, 0.8])  # not blown up
    size = next(c for c in decision.CRITERIA if c.name == "size")
    assert decision.normalised(size, np.array([1e3, 1e4, 1e5])).tolist() == pytest.approx([1, 0.5, 0])
    assert decision.pareto([1, 2, 3, 3], [0.5, 0.4, 0.9, 0.8]) == [0, 2]


def test_decision_matrix_follows_weights_and_says_how_far_it_holds(tmp_path):
    make(tmp_path, ("full_hgt", "mlp_cnn", "mlp_baseline"), [1, 2, 3], ["no_pretrain"])
    comparison = sections.compare(experiments.read_experiments([tmp_path])[0])
    names = [c.name for c in comparison.able]
    runs = [c.tested for c in comparison.able]
    matrix = decision.matrix(runs, dict.fromkeys(WEIGHTS, 0.0) | {"size": 1.0}, np.random.default_rng(0))
    assert names[int(np.argmin(matrix.ranks))] == "mlp_baseline" and matrix.total.max() == 1
    assert matrix.first_by_seeds[names.index("mlp_baseline")] == 1  # parameters do not depend on the seed
    assert 0 < matrix.first_by_weights[names.index("full_hgt")] < 1
    assert matrix.first_by_weights.sum() == pytest.approx(1) and matrix.first_by_seeds.sum() == pytest.approx(1)
    assert [c.name for c in matrix.criteria] == list(decision.NAMES) and matrix.notes == []
    by_success = decision.matrix(runs, dict.fromkeys(WEIGHTS, 0.0) | {"success": 1.0}, np.random.default_rng(0))
    assert by_success.ranks.tolist() == [1 + sum(b > a for b in by_success.raw[:, 0]) for a in by_success.raw[:, 0]]


def test_what_is_not_known_of_all_is_left_out_of_the_matrix(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2], ["no_pretrain"], full=False)
    title, blocks = report.report([tmp_path], WEIGHTS)
    assert "generalisation is left out" in words(blocks)
    html = page.page(title, blocks)
    assert "Difficulty tiers: missing" in html and "one decision, ms" in html and "No pictures of failures" in html
    assert "training steps per second" in html  # in the place of latency


def test_a_figure_that_one_seed_has_alone_stays_as_it_is_in_the_draws(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    for seed in (1, 2):
        place = tmp_path / f"gat/no_pretrain/seed_{seed}/eval_results.json"
        results = json.loads(place.read_text())
        del results["generalisation"]
        place.write_text(json.dumps(results))
    runs = [c.tested for c in sections.compare(experiments.read_experiments([tmp_path])[0]).able]
    matrix = decision.matrix(runs, WEIGHTS, np.random.default_rng(0))
    assert "generalisation" in [c.name for c in matrix.criteria]
    assert matrix.first_by_seeds.sum() == pytest.approx(1) and matrix.notes == []


def test_a_run_planned_with_pretraining_that_had_none_is_left_out(tmp_path):
    make(tmp_path, ("gat",), [1, 2])
    place = tmp_path / "gat/with_pretrain/seed_2/config.json"
    config = json.loads(place.read_text())
    config["args"]["pretrained_checkpoint"] = None
    place.write_text(json.dumps(config))
    experiment = experiments.read_experiment(tmp_path)
    assert [(run.condition, run.seed) for run in experiment.runs].count(("with_pretrain", 2)) == 0
    assert len(experiment.runs) == 3
    assert any("seed_2: planned with pretraining, but trained without" in text for text in experiment.problems)


def test_pairs_of_seeds_show_what_pretraining_does(whole):
    html = (whole[1] / "report.html").read_text()
    assert re.search(r"Over all architectures pretraining (helps|harms|shows no effect)", html)
    assert "Pretrained minus from scratch in pairs" in html


def change(place, **values):
    """Write other values into a JSON file."""
    place.write_text(json.dumps(json.loads(place.read_text()) | values))


def change_args(place, **values):
    change(place, args=json.loads(place.read_text())["args"] | values)


def leads(blocks):
    return [block.text for block in blocks if isinstance(block, page.Text) and block.kind == "lead"]


def test_experiments_are_compared(tmp_path):
    for name, shift in (("old", 0.0), ("new", 1.5)):
        make(tmp_path / name, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"], shift=shift)
    title, blocks = report.report([tmp_path / "old", tmp_path / "new"], WEIGHTS)
    assert title == "old and new" and len(leads(blocks)) == 1
    table = next(b for b in blocks if isinstance(b, page.Table) and b.header[1:3] == ["old", "new"])
    assert [row[0] for row in table.rows] == ["gat", "mlp_cnn"] and all(row[3].startswith("+") for row in table.rows)
    table = next(b for b in blocks if isinstance(b, page.Table) and "IQM" in b.header)
    assert sorted(row[0] for row in table.rows) == ["gat (new)", "gat (old)", "mlp_cnn (new)", "mlp_cnn (old)"]
    _, files = page.markdown(blocks, "figures")
    assert {"iqm.svg", "experiments.svg"} <= set(files) and "iqm_2.svg" not in files  # they share their axes
    for place in (tmp_path / "new").glob("*/*/*/eval_results.json"):  # other levels of the same names
        results = json.loads(place.read_text())
        for entry in results["levels"][:30]:
            entry["digest"] = "f" * 64
        place.write_text(json.dumps(results))
    comparison = sections.compare(experiments.read_experiments([tmp_path / "old", tmp_path / "new"])[0])
    assert len(comparison.levels) == 60 and "the 60 levels that all of them played" in comparison.notes[0]
    for c in comparison.able:
        assert c.success[:, 0] == pytest.approx(c.levels.mean(1))  # of these levels, not of the whole suites


def test_two_experiments_of_one_contender_each_are_compared(tmp_path):
    for name, shift in (("before", 0.0), ("after", 2.5)):
        make(tmp_path / name, ("gat",), range(5), ["no_pretrain"], levels=20, luck=0.02, shift=shift)
    _, blocks = report.report([tmp_path / "before", tmp_path / "after"], WEIGHTS)
    assert len(leads(blocks)) == 1 and leads(blocks)[0].startswith("**Take gat (after)** for success")
    with pytest.raises(ArgumentError, match="shares its runs with"):
        report.report([tmp_path / "after", tmp_path], WEIGHTS)


def test_a_label_makes_a_contender(tmp_path):
    """Two configurations of one script in one experiment, with the same seeds."""
    for name, shift in (("narrow", 0.0), ("wide", 2.5)):
        make(tmp_path / name, ("gat",), range(5), ["no_pretrain"], levels=20, luck=0.02, shift=shift)
    for place in (tmp_path / "wide").glob("*/*/*/config.json"):
        change_args(place, label="w<i>de\x1b" + "x" * 100)
    for place in tmp_path.glob("*/*/*/*/config.json"):
        (place.parent / "source").mkdir()
        (place.parent / "source/ppo_gat.py").write_text("wide = " + str("wide" in place.parts) + "\n")
    _, blocks = report.report([tmp_path], WEIGHTS)
    comparison = sections.compare(experiments.read_experiments([tmp_path])[0])
    mark = "w<i>de\N{REPLACEMENT CHARACTER}" + "x" * 30 + "..."
    assert [c.name for c in comparison.able] == ["gat", f"gat ({mark})"]
    assert len({c.colour for c in comparison.able}) == 2
    assert leads(blocks)[0].startswith(f"**Take gat ({mark})** for success")
    (code,) = [block for block in blocks if isinstance(block, page.Code)]
    assert code.folded == f"gat: from gat to gat ({mark})" and "-wide = False\n+wide = True" in code.text


def test_levels_that_an_agent_trained_on_do_not_count(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    place = tmp_path / "gat/no_pretrain/seed_2/eval_results.json"
    results = json.loads(place.read_text())
    for entry in results["levels"][:10]:
        entry |= {"trained_on": True, "success_rate": 1.0}
    place.write_text(json.dumps(results))
    comparison = sections.compare(experiments.read_experiments([tmp_path])[0])
    assert len(comparison.levels) == 80 and not set(comparison.levels) & {e["id"] for e in results["levels"][:10]}
    won = [entry["success_rate"] for entry in results["levels"][10:]]
    assert comparison.able[0].success[1, 0] == pytest.approx(sum(won) / 80)
    assert "1 runs were tested on levels that their agents saw in training (10 of the levels)" in comparison.notes[0]
    for entry in results["levels"][10:15]:
        entry["group"] = GROUPS[2]  # with something that is not simulated
    place.write_text(json.dumps(results))
    comparison = sections.compare(experiments.read_experiments([tmp_path])[0])
    assert len(comparison.levels) == 75 and comparison.notes[1].startswith("5 of the test levels hold entities")
    assert comparison.able[0].success[1, 0] == pytest.approx(sum(won[5:]) / 75)
    for entry in results["levels"]:
        entry["trained_on"] = True
    place.write_text(json.dumps(results))
    comparison = sections.compare(experiments.read_experiments([tmp_path])[0])
    assert len(comparison.able[0].tested) == 2 and "(90 of the levels)" in comparison.notes[0]


def warned(blocks):
    return [
        item for block in blocks if isinstance(block, page.Bullets) and block.kind == "warn" for item in block.items
    ]


def test_differences_between_runs_are_warned_of(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    place = tmp_path / "gat/no_pretrain/seed_2/config.json"
    change_args(place, max_minutes=20.0)
    change(place, git_revision="f" * 40, cpus=64)
    place = place.with_name("eval_results.json")
    change(place, levels=json.loads(place.read_text())["levels"][:-5])
    _, blocks = report.report([tmp_path], WEIGHTS)
    lines = "\n".join(warned(blocks))
    for what in ("Runs of gat differ from one another: `max_minutes` 10 (2 runs) and 20 (1 run); `revision` ",
                 "`CPU cores` 2 (2 runs) and 64 (1 run)", "Not all runs were tested on the same levels"):  # fmt: skip
        assert what in lines
    for what in ("revision (167dd26aa0 or ffffffffff)", "CPU cores (2 or 64)",
                 "The runs of gat do not repeat one another: they differ in `max_minutes`."):  # fmt: skip
        assert what in leads(blocks)[0]


def test_one_seed_with_other_arguments_shows(tmp_path):
    """The same network with another learning rate, discount and width and without fresh levels is no replication."""
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    for place in tmp_path.glob("*/*/*/config.json"):
        change_args(place, learning_rate=1.5e-3, gamma=0.99, fresh_levels=900, hidden=64, run_dir=str(place.parent))
    place = tmp_path / "gat/no_pretrain/seed_3/config.json"
    before, _ = page.markdown(report.report([tmp_path], WEIGHTS)[1], "figures")
    change_args(place, learning_rate=0.1, gamma=0.5, fresh_levels=0, hidden=128)
    _, blocks = report.report([tmp_path], WEIGHTS)
    text, _ = page.markdown(blocks, "figures")
    for name, usual, other in (("learning_rate", "0.0015", "0.1"), ("gamma", "0.99", "0.5"), ("hidden", "64", "128"),
                               ("fresh_levels", "900", "0")):  # fmt: skip
        assert f"`{name}` {usual} (2 runs) and {other} (1 run)" in warned(blocks)[0] and f"| {name} |" not in before
        assert f"| {name} | {other} | gat (1 of 3 runs) |" in text
    assert "do not repeat one another: they differ in `learning_rate`, `gamma`, `fresh_levels` and `hidden`" in text
    assert "No argument differs" in before and "\n| run_dir |" not in text and "\n| seed |" not in text


def test_a_verdict_names_what_else_the_winner_had(tmp_path):
    """Sizes are each network's own. Environments and learning rates are not."""
    make(tmp_path, ("gat", "mlp_cnn", "mlp_baseline"), range(5), ["no_pretrain"], levels=20, luck=0.02)
    for place in tmp_path.glob("*/*/*/config.json"):
        change_args(place, learning_rate=1.5e-3, num_envs=64, hidden=64, graph_heads=8)
        change(place, processor="Zen 3", versions={"torch": "2.13.0", "numba": "0.68.1"})
    for place in tmp_path.glob("mlp_baseline/*/*/config.json"):
        change_args(place, learning_rate=1e-3, num_envs=512, hidden=128, max_minutes=20.0)
        config = json.loads(place.read_text())
        del config["args"]["graph_heads"]
        place.write_text(json.dumps(config | {"processor": "Zen 5", "observation_shapes": {"arcs": [9, 9]}}))
        change(place, versions={"torch": "2.13.0", "numba": "0.67.0"})
        change(place.with_name("eval_results.json"), overall={"success_rate": 1.0, "episodes": 180})
    _, blocks = report.report([tmp_path], WEIGHTS)
    (lead,) = leads(blocks)
    assert lead.startswith("**Take mlp_baseline**")
    assert (
        "But besides its network mlp_baseline had other arguments than the others (theirs in brackets): `max_minutes` "
        "20 (10), `learning_rate` 0.001 (0.0015) and `num_envs` 512 (64). The runs also differ in steps (498k to "
        "31.2M), version of numba (0.68.1 or 0.67.0), processor (Zen 3 or Zen 5) and observations."
    ) in lead
    tables = {b.folded: b for b in blocks if isinstance(b, page.Table) and b.header[-1] == "contenders"}
    rows = {tuple(row) for row in tables[""].rows}
    assert {("num_envs", "64", "gat and mlp_cnn"), ("num_envs", "512", "mlp_baseline")} <= rows
    own = {tuple(row) for row in tables["What each network has of its own"].rows}
    assert ("hidden", "128", "mlp_baseline") in own and ("graph_heads", "not recorded", "mlp_baseline") in own
    assert not {row[0] for row in own} & {row[0] for row in rows} and "hidden" not in {row[0] for row in rows}


def test_what_a_network_has_of_its_own_is_read_from_the_scripts():
    own = differences.own_names()
    assert {"hidden", "features", "graph_heads", "graph_layers", "cnn_channels", "frame_stack"} <= own
    assert not own & {"learning_rate", "num_envs", "num_minibatches", "update_epochs", "gamma", "size", "label", "seed"}


def test_runs_of_a_contender_with_other_steps_are_warned_of(tmp_path):
    make(tmp_path, ("gat",), [1, 2], ["no_pretrain"])
    for seed, steps in ((1, 61_000), (2, 3_600_000)):
        place = tmp_path / f"gat/no_pretrain/seed_{seed}/metrics.jsonl"
        place.write_text(json.dumps({"kind": "train", "global_step": steps, "minutes": 10.0}) + "\n")
    _, blocks = report.report([tmp_path], WEIGHTS)
    assert "Runs of gat differ from one another: steps 61k to 3.6M." in warned(blocks)
    assert "61k to 3.6M steps" in next(block.text for block in blocks if isinstance(block, page.Text))


def set_success(folder, *success):
    """Give all runs of a folder these shares of levels, on the whole and in each level."""
    for place, share in zip(sorted(folder.glob("*/*/*/eval_results.json")), success, strict=True):
        results = json.loads(place.read_text())
        results["overall"]["success_rate"] = share
        for part in results["by_category"].values():
            part["success_rate"] = share
        place.write_text(json.dumps(results))


def test_ties_are_no_wins(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn", "gcn"), [1, 2, 3], ["no_pretrain"])
    set_success(tmp_path, *[0.25] * 9)
    said = words(report.report([tmp_path], WEIGHTS)[1])
    assert "**Nothing can be told apart:** each contender won 25.0% of the test levels." in said
    assert "won the most" not in said and "**Take" not in said
    set_success(tmp_path, *[0.25] * 6, 0.2, 0.25, 0.3)
    assert "gat, gcn and mlp_cnn won the most test levels, 25.0% each" in words(report.report([tmp_path], WEIGHTS)[1])
    set_success(tmp_path, *[0.25] * 6, 0.2, 0.2, 0.2)
    title, blocks = report.report([tmp_path], WEIGHTS)
    assert "gat and gcn won the most test levels, 25.0% each" in words(blocks)
    assert "which won most" not in page.page(title, blocks)


def test_where_nothing_was_learned_that_is_said(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    set_success(tmp_path, *[0.0] * 6)
    (lead,) = leads(report.report([tmp_path], WEIGHTS)[1])
    assert lead == "**Nothing was learned:** none of the contenders won a test level."
    (lead,) = leads(report.report([tmp_path / "gat"], WEIGHTS)[1])
    assert lead == "**Nothing was learned:** gat won no test level."
    # Untrained agents win 2 of 20 validation levels; 10 of 90 is no more, 80 of 90 is.
    set_success(tmp_path, *[10 / 90] * 5, 9 / 90)
    for run in tmp_path.glob("*/*/*"):
        change(run / "config.json", levels={"train": 380, "validation": 20, "test": 90})
        row = {"kind": "eval", "global_step": 0, "minutes": 0.1, "eval/success_rate": 0.1}
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n" + (run / "metrics.jsonl").read_text())
    (lead,) = leads(report.report([tmp_path], WEIGHTS)[1])
    assert (
        "Nothing was learned:** the 11.1% of the test levels that the best contender won cannot be told from the"
        in lead
    )
    set_success(tmp_path, *[80 / 90] * 3, *[10 / 90] * 3)
    _, blocks = report.report([tmp_path], WEIGHTS)
    assert leads(blocks)[0].startswith("**Take gat**") and "Cannot be told from untrained agents: mlp_cnn." in words(
        blocks
    )


def test_scripts_that_differ_are_shown(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    for run in tmp_path.glob("*/*/*"):
        (run / "source").mkdir()
        (run / f"source/ppo_{run.parts[-3]}.py").write_text("import this\n\nrate = 1\n")
    run = tmp_path / "gat/no_pretrain/seed_2"
    title, blocks = report.report([tmp_path], WEIGHTS)
    assert not any(isinstance(block, page.Code) for block in blocks)
    (run / "source/ppo_gat.py").write_text("import this\n\nrate = 2  # </pre><script>`````\n" + "x" * 300 + "\n" * 1000)
    (run / "source/changes.diff").write_text("+evil <b>\n")
    title, blocks = report.report([tmp_path], WEIGHTS)
    one, other = [block for block in blocks if isinstance(block, page.Code)]
    assert one.folded == "gat: from gat seeds 1 and 3 to gat seed 2" and "\n-rate = 1\n+rate = 2" in one.text
    assert one.text.endswith(" more lines") and max(map(len, one.text.splitlines())) <= 200
    assert other.folded.startswith("Changes ") and other.folded.endswith(" in the checkout of gat seed 2")
    lines = warned(blocks)
    assert any("gat was trained by 2 different scripts: gat seeds 1 and 3 and gat seed 2." in line for line in lines)
    assert any("`revision` 167dd26aa0 (2 runs) and 167dd26aa0 with changes " in line for line in lines)
    html, (text, _) = page.page(title, blocks), page.markdown(blocks, "figures")
    assert "&lt;/pre&gt;&lt;script&gt;" in html and html.count("<script>") == 1 and "``````\n--- gat seeds" in text
    (run / "source/mine.py").write_text("rate = 3\n")  # another file of the script's
    code = [block for block in report.report([tmp_path], WEIGHTS)[1] if isinstance(block, page.Code)]
    assert "\n+# mine.py\n+rate = 3" in code[0].text
    (run / "source/ppo_gat.py").unlink()
    (run / "source/ppo_gat.py").symlink_to("/etc/hostname")
    _, blocks = report.report([tmp_path], WEIGHTS)
    assert any(
        "expected a file inside the run directory" in i for b in blocks if isinstance(b, page.Bullets) for i in b.items
    )


def test_names_of_figures_are_plain_and_do_not_collide():
    figures = [page.Figure(name, "<svg></svg>") for name in ("a/b", "a<b", "A_B", "../x\x1b", "y" * 300, "y" * 301)]
    text, files = page.markdown([page.Figures(figures)], "figures")
    assert list(files) == ["a_b.svg", "a_b_2.svg", "A_B_3.svg", "__x_.svg", "y" * 100 + ".svg", "y" * 100 + "_2.svg"]
    assert all(f"(figures/{name})" in text for name in files)


def test_an_architecture_of_any_name_is_reported(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2], ["no_pretrain"])
    for name, place in zip(
        ("../a<b", "../a/b", "\x1b[2J|", "x" * 100), sorted(tmp_path.glob("*/*/*/config.json")), strict=True
    ):
        change(place, architecture=name)
    out = tmp_path / "out"
    report.write(out, *report.report([tmp_path], WEIGHTS))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "gat", "mlp_cnn", "out"}
    assert {path.name for path in out.iterdir()} == {"figures", "report.html", "report.md"}
    assert "\x1b" not in (out / "report.md").read_text() + (out / "report.html").read_text()


def test_rows_of_a_table_fit_its_header():
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        page.Table(["", "value"], [["x"]])


def test_minutes_of_pretraining_count(tmp_path):
    """A run's own clock begins after its pretraining, its curve and its budget do not."""
    make(tmp_path, ("gat",), [1], ["with_pretrain"])
    run_dir = tmp_path / "gat/with_pretrain/seed_1"
    alone = experiments.read_experiment(tmp_path).runs[0]
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "bc").mkdir(exist_ok=True)
    (run_dir / "bc/config.json").write_text(json.dumps(config))
    (run_dir / "bc/metrics.jsonl").write_text('{"kind": "train", "global_step": 5, "minutes": 1.5}\n')
    (run,) = experiments.read_experiment(tmp_path).runs
    assert run.minutes == pytest.approx(alone.minutes + 1.5) and run.budget == alone.budget + 1.5 == 11.5
    assert run.steps == alone.steps and run.series("train", "charts/SPS")[0][1] == run.rows[0]["minutes"]


def test_damage_is_listed_and_the_rest_goes_on(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    runs = tmp_path / "gat/no_pretrain"
    (runs / "seed_1/config.json").write_text("{broken")
    (runs / "seed_2/eval_results.json").write_text('{"overall": NaN')
    with (runs / "seed_3/metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "global_step": NaN, "minutes": 3}\n{"kind": "tra')
    listed = [{"name": "mlp_cnn/no_pretrain/seed_4", "status": "failed", "reason": "exit status 1"}]
    (tmp_path / "label_wide").mkdir()
    for folder in (tmp_path, tmp_path / "label_wide"):
        (folder / "all_results.json").write_text(json.dumps({"runs": listed}))
    title, blocks = report.report([tmp_path], WEIGHTS)
    html = page.page(title, blocks)
    for line in ("left out: gat/no_pretrain/seed_1/config.json: expected a JSON object",
                 "gat/no_pretrain/seed_2/eval_results.json: expected a JSON object",
                 "gat/no_pretrain/seed_3/metrics.jsonl: 2 damaged lines left out (62, 63)",
                 ">mlp_cnn/no_pretrain/seed_4: failed (exit status 1)",
                 ">label_wide/mlp_cnn/no_pretrain/seed_4: failed (exit status 1)"):  # fmt: skip
        assert line in html
    assert "gat has fewer than 3 tested seeds" in words(blocks)


def test_a_seed_that_was_run_twice_counts_once(tmp_path):
    make(tmp_path, ("gat",), [1, 2], ["no_pretrain"])
    shutil.copytree(tmp_path / "gat/no_pretrain/seed_2", tmp_path / "again")
    found = experiments.read_experiments([tmp_path])[0]
    assert len(found.runs) == 2 and any("same architecture and seed" in line for line in found.problems)


@pytest.mark.parametrize("what", ["nowhere", "empty", "file", "broken", "weights"])
def test_bad_input_is_one_line(tmp_path, what, monkeypatch, capsys):
    folder = tmp_path / what
    if what != "nowhere":
        folder.mkdir()
    if what == "file":
        folder = folder / "x"
        folder.write_text("x")
    if what == "broken":
        (folder / "config.json").write_text("[")
    words = ["--weights", "beauty=1"] if what == "weights" else []
    monkeypatch.setattr(sys, "argv", ["report", str(folder), *words])
    with pytest.raises(SystemExit) as end:
        command(report.main, report.Args)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert ("--weights" if what == "weights" else str(folder)) in said
    assert not list(tmp_path.rglob("report*"))


def test_names_from_files_are_text(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2, 3], ["no_pretrain"])
    evil = "<script>alert(1)</script>|`x`](javascript:0)"
    for run in tmp_path.glob("*/*/*"):
        text = (run / "eval_results.json").read_text()
        (run / "eval_results.json").write_text(text.replace('"mine_heavy', json.dumps(evil)[:-1]))
        config = json.loads((run / "config.json").read_text())
        config["device"] = evil
        (run / "config.json").write_text(json.dumps(config))
    title, blocks = report.report([tmp_path], WEIGHTS)
    html = page.page(title, blocks)
    text, _ = page.markdown(blocks, "figures")
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html and html.count("<script>") == 1
    assert "<script>" not in text.replace("\\<script\\>", "") and "](javascript" not in text.replace("\\]", "")


def test_pictures_stay_inside_the_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    for file in ("../secret.png", "/etc/passwd", 3):
        with pytest.raises(ValueError, match="expected a path inside"):
            details.picture(tmp_path / "run", file)
    (tmp_path / "run/no.png").write_text("no picture")
    with pytest.raises(OSError):
        details.picture(tmp_path / "run", "no.png")


def only_run(folder):
    return experiments.read_experiments([folder])[0].runs[0]


def test_tensorboard_is_read_where_metrics_are_missing(tmp_path):
    make(tmp_path, ("gat",), [1], ["no_pretrain"])
    run = tmp_path / "gat/no_pretrain/seed_1"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    writer = SummaryWriter(run / "tensorboard")
    for row in rows:
        for key, value in row.items():
            if "/" in key:
                writer.add_scalar(key, value, row["global_step"], walltime=1e9 + 60 * row["minutes"])
    writer.close()
    (run / "metrics.jsonl").unlink()
    (run / "eval_results.json").unlink()
    found = only_run(tmp_path)
    assert found.source == "TensorBoard" and found.steps == rows[-1]["global_step"]
    curve = found.series("eval", "eval/success_rate")
    assert [v for *_, v in curve] == pytest.approx([r["eval/success_rate"] for r in rows if r["kind"] == "eval"])
    assert found.minutes == pytest.approx(rows[-1]["minutes"] - rows[0]["minutes"], abs=0.01)
    test = {"kind": "test", "global_step": 9, "minutes": 9.0, "test/simplest": 0.5, "test/near_misses": 1.5}
    found.rows.append(test | {"test/tier_easy": 0.5, "test/par_efficiency": 0.9, "test/success_rate": 0.5})
    assert {k: v for k, v in found.categories.items() if not k.startswith("success")} == {"simplest": 0.5}
    (run / "config.json").unlink()  # then the folder's names say what it is
    found = only_run(tmp_path)
    assert (found.architecture, found.seed, found.condition) == ("gat", 1, "no_pretrain")
    assert "metrics from" in page.page(*report.report([tmp_path], WEIGHTS))


def test_wandb_history_is_read(tmp_path):
    make(tmp_path, ("gat",), [1], ["no_pretrain"])
    run = tmp_path / "gat/no_pretrain/seed_1"
    lines = [{"_step": 10 * k, "_runtime": 60.0 * k, "eval/success_rate": k / 10} for k in range(5)]
    (run / "wandb-history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "metrics.jsonl").unlink()
    found = only_run(tmp_path)
    assert found.source == "wandb"
    assert found.series("eval", "eval/success_rate") == [(10.0 * k, float(k), k / 10) for k in range(5)]


def test_an_offline_file_of_wandb_is_read(tmp_path):
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    make(tmp_path, ("gat",), [1], ["no_pretrain"])
    run = tmp_path / "gat/no_pretrain/seed_1"
    (run / "metrics.jsonl").unlink()
    data = b":W&B\xe1\xbe\x00"
    for k in range(60):  # as in LevelDB's logs; the long text leads over the ends of blocks
        record = messages.Record()
        record.history.step.num = 100 * k
        for key, value in (("_runtime", 60.0 * k), ("charts/success_rate", k / 60), ("text", "x" * 3000)):
            record.history.item.add(key=key, value_json=json.dumps(value))
        left, first = record.SerializeToString(), True
        while left:
            room = 32768 - len(data) % 32768
            if room < 7:
                data += bytes(room)
                continue
            piece, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            data += bytes(4) + len(piece).to_bytes(2, "little") + bytes([kind]) + piece
            first = False
    (run / "wandb/offline-run-1-x").mkdir(parents=True)
    file = run / "wandb/offline-run-1-x/run-x.wandb"
    file.write_bytes(data)
    found = only_run(tmp_path)
    assert found.source == "wandb"
    assert found.series("train", "charts/success_rate") == [(100.0 * k, float(k), k / 60) for k in range(60)]
    file.write_bytes(data[:-50])  # the run was cut off: all but its last record
    assert len(only_run(tmp_path).series("train", "charts/success_rate")) == 59
    file.write_bytes(b"other" + data)
    assert "is no file of wandb" in " ".join(experiments.read_experiments([tmp_path])[0].problems)


TRACKED = """
import sys, wandb
tracked = wandb.init(project="x", mode="offline", dir=sys.argv[1])
for k in range(4):
    tracked.log({"charts/success_rate": k / 4, "charts/SPS": 100.0}, step=100 * k)
tracked.finish()
"""


@pytest.mark.slow
def test_an_offline_run_of_wandb_is_read(tmp_path):
    """Tracked by a process of its own: wandb writes its last records when that ends."""
    pytest.importorskip("wandb")
    make(tmp_path, ("gat",), [1], ["no_pretrain"])
    run = tmp_path / "gat/no_pretrain/seed_1"
    subprocess.run([sys.executable, "-c", TRACKED, str(run)], check=True, capture_output=True, timeout=120)
    (run / "metrics.jsonl").unlink()
    found = only_run(tmp_path)
    assert found.source == "wandb", experiments.read_experiments([tmp_path])[0].problems
    points = found.series("train", "charts/success_rate")
    assert [(step, value) for step, _, value in points] == [(100.0 * k, k / 4) for k in range(4)]


def test_ticks_are_round_and_inside():
    assert plots.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert plots.ticks(0, 7.9) == pytest.approx([0, 2, 4, 6])
    assert plots.log_ticks(80, 3000) == [100, 200, 500, 1000, 2000]
    assert [plots.short(v) for v in (1_500_000, 20_000, 300, 0.25)] == ["1.5M", "20k", "300", "0.25"]


def test_an_axis_becomes_logarithmic_where_curves_differ_much_in_length():
    def curve(*x):
        return plots.Curve("", 0, np.array(x, float), np.zeros(len(x)))

    assert plots.span([curve(0, 50), curve(0, 100, 400)]) == ((0, 400), False)
    assert plots.span([curve(0, 50), curve(0, 100, 401)]) == ((25, 401), True)
    assert plots.span([curve(0, 1), curve(0, 1e6)]) == ((100, 1e6), True)  # four powers of ten at most


def test_the_page_in_a_browser(whole, tmp_path):
    if not browser.find():
        pytest.skip("no Chromium (apt-get install chromium)")
    chromium = browser.Browser(tmp_path / "profile")
    try:
        for width, dark in ((1280, False), (390, True)):
            chromium.open((whole[1] / "report.html").as_uri(), width, dark=dark)
            assert chromium.run("document.documentElement.scrollWidth") == width  # nothing sticks out sideways
            assert [url for url in chromium.requests() if not url.startswith("file:")] == []
            assert len(chromium.requests()) == 1 and chromium.complaints() == []
        overlapping = """(() => { const bad = []; for (const s of document.querySelectorAll('svg')) {
            const b = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            for (let i = 0; i < b.length; i++) for (let j = i + 1; j < b.length; j++) {
              const [p, q] = [b[i][1], b[j][1]];
              if (p.width && q.width && Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2
                  && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4) bad.push(b[i][0] + ' / ' + b[j][0]); } }
            return bad })()"""
        assert chromium.run(overlapping) == []
        rows = "[...document.querySelectorAll('.decision tbody tr')]"
        ranks = f"{rows}.map(r => r.cells[0].textContent + r.cells[2].textContent)"
        before = chromium.run(ranks)
        chromium.run(
            "document.querySelectorAll('.decision input').forEach((e, k) => { e.value = k == 5 ? 5 : 0;"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')) })"
        )
        after = chromium.run(ranks)
        assert before != after and after[0].startswith("vision_free") and after[0].endswith("1")  # the smallest
        assert chromium.complaints() == []
    finally:
        chromium.close()
