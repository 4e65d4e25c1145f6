"""What enters a report: files with any values and shapes, and things that are no files."""

import copy
import json
import math
import os
from pathlib import Path

import pytest
from made_runs import make

from benchmark import report
from benchmark.reporting import decision, experiments, page
from npp_rl.levels.datasets import load_levels

WEIGHTS = decision.parse_weights(None)
DEEP = json.loads("[" * 300 + "]" * 300)
NASTY = [None, True, -1, 0, 0.5, 10**19, 10**400, 1e308, float("nan"), float("inf"), -0.0, "", "x" * 3000, "\x1b[1m<b>"]
NASTY += ["\ud800", "NaN", [], [[1]], {}, {"id": [1]}, DEEP, {"\x00<i>": 10**400}]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The files of a run with two levels and three lines of metrics: name -> content, lines as lists."""
    folder = make(tmp_path_factory.mktemp("small"), ("gat",), [1], ["no_pretrain"], levels=1)
    run = folder / "gat/no_pretrain/seed_1"
    (run / "source").mkdir()
    config, results = (json.loads((run / name).read_text()) for name in ("config.json", "eval_results.json"))
    config |= {"levels": {"train": 867, "test": 270}, "observation_shapes": {"game_state": [34]}, "world_size": 1}
    results["by_category"] = dict(list(results["by_category"].items())[:2])
    results["by_tier"] = {"easy": results["by_tier"]["easy"]}
    results["levels"] = results["levels"][:2]
    for entry, level in zip(
        results["levels"], load_levels("builtin", "test"), strict=False
    ):  # played again for the page
        entry |= {"id": level.id, "category": level.category, "digest": level.digest}
        entry["tries"][0]["actions"] = "012345"
    results["pictures"] = {results["levels"][0]["id"]: "failures/x.png"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [rows[0], {"kind": "eval", "global_step": 5, "minutes": 1.0, "eval/success_rate": 0.5}, rows[-1]]
    planned = {"runs": [{"name": "gat/no_pretrain/seed_9", "status": "failed", "reason": "exit status 1", "seed": 9}]}
    return {"config.json": config, "eval_results.json": results, "metrics.jsonl": rows, "all_results.json": planned}


def write_run(run, files):
    run.mkdir(parents=True)
    for name, content in files.items():
        lines = content if isinstance(content, list) and name == "metrics.jsonl" else [content]
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def places_in(content, path=()):
    """Paths of all that stands in some JSON content, the whole first."""
    yield path
    if isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places_in(value, (*path, key))


def replaced(content, path, value):
    if not path:
        return value
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return content


FILES = ("config.json", "eval_results.json", "metrics.jsonl")


@pytest.mark.parametrize("number", range(len(NASTY)))
def test_any_value_in_any_place(tmp_path, small, number):
    """Each place in each file of a run holds the value once, each in a run of its own; and the others go on."""
    whole = {name: small[name] for name in FILES}
    for seed, path in enumerate(list(places_in(whole))[1:], 10):
        files = replaced(whole, ("config.json", "args", "seed"), seed)
        write_run(tmp_path / f"gat/no_pretrain/seed_{seed}", replaced(files, path, NASTY[number]))
    for architecture in ("gat", "mlp_cnn"):
        for seed in (1, 2):
            files = replaced(whole, ("config.json", "args", "seed"), seed)
            files = replaced(files, ("config.json", "architecture"), architecture)
            write_run(tmp_path / f"{architecture}/no_pretrain/seed_{seed}", files)
    title, blocks = report.report([tmp_path], WEIGHTS)
    html = page.page(title, blocks).encode(errors="backslashreplace").decode()
    text, _ = page.markdown(blocks, "figures")
    assert not set("\x00\x1b") & set(html + text) and "<b>" not in html and "<i>" not in html
    found = [run for experiment in experiments.read_experiments([tmp_path]) for run in experiment.runs]
    tested = {(run.architecture, run.seed) for run in found if math.isfinite(run.success)}
    assert tested >= {(name, seed) for name in ("gat", "mlp_cnn") for seed in (1, 2)}


def test_any_value_in_the_list_of_planned_runs(tmp_path, small):
    write_run(tmp_path / "run", {name: small[name] for name in FILES})
    for path in places_in(small["all_results.json"]):
        for value in NASTY:
            (tmp_path / "all_results.json").write_text(json.dumps(replaced(small["all_results.json"], path, value)))
            (found,) = experiments.read_experiments([tmp_path])
            assert len(found.runs) == 1


@pytest.mark.parametrize("text", ["", "[", "5", "[" * 100_000, '{"architecture": ' + "9" * 5000 + "}", '{"a": NaN'])
def test_what_is_not_json(tmp_path, small, text):
    whole = {name: small[name] for name in FILES}
    for seed, name in enumerate((*FILES, "nothing"), 1):
        run = tmp_path / f"seed_{seed}"
        write_run(run, replaced(whole, ("config.json", "args", "seed"), seed))
        if name in FILES:
            (run / name).write_text(text)
    (tmp_path / "all_results.json").write_text(text)
    (found,) = experiments.read_experiments([tmp_path])
    assert [run.seed for run in found.runs] == [2, 3, 4] and [bool(run.results) for run in found.runs] == [0, 1, 1]
    assert any(line.startswith("left out: seed_1/config.json: expected") for line in found.problems)
    assert any(line.startswith("left out: seed_2/eval_results.json: expected") for line in found.problems)


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (5, "Expected `array | null`, got `int` - at `$.levels`"),
        (True, "Expected `array | null`, got `bool` - at `$.levels`"),
        ([{"id": [1]}], "Expected `str`, got `array` - at `$.levels[0].id`"),
    ],
)
def test_a_shape_that_nobody_writes_is_named(tmp_path, small, levels, reason):
    write_run(tmp_path / "seed_1", {name: small[name] for name in FILES})
    files = {name: small[name] for name in FILES} | {
        "eval_results.json": {**small["eval_results.json"], "levels": levels}
    }
    write_run(tmp_path / "seed_2", replaced(files, ("config.json", "args", "seed"), 2))
    (found,) = experiments.read_experiments([tmp_path])
    assert f"left out: seed_2/eval_results.json: {reason}" in found.problems
    assert [bool(run.results) for run in found.runs] == [True, False]


NO_FILES = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", [*FILES, "all_results.json", "tensorboard/events.out.tfevents.1", "failures/x.png",
                                  "wandb-history.jsonl", "wandb/run-1-x/run-x.wandb", "source/ppo_gat.py"])  # fmt: skip
def test_what_is_no_file_does_not_hold_up_the_report(tmp_path, small, name, kind):
    run, other = tmp_path / "seed_1", tmp_path / "seed_2"
    for seed, folder in enumerate((run, other), 1):
        write_run(folder, replaced({name: small[name] for name in FILES}, ("config.json", "args", "seed"), seed))
        (folder / "source").mkdir()
        (folder / "source/ppo_gat.py").write_text(f"print({seed})\n")
    if ("/" in name and not name.startswith(("failures", "source"))) or name == "wandb-history.jsonl":
        (run / "metrics.jsonl").unlink()
    place = (tmp_path if name == "all_results.json" else run) / name
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    NO_FILES[kind](place)
    title, blocks = report.report([tmp_path], WEIGHTS)
    html = page.page(title, blocks)
    assert place.name in html
    assert any(reason in html for reason in ("expected a regular file", "Is a directory", "inside the run directory"))
