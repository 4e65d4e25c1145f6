"""Evaluation: known figures, and results that depend on neither the number of environments nor the neighbours."""

import dataclasses
import json
import types
from collections import Counter

import numpy as np
import pytest
import torch
from hand_made import corridor, here

from npp_rl import ppo_vision_free
from npp_rl.commands import ArgumentError, CheckpointError, LevelError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.graph import GRAPH_OBSERVATIONS
from npp_rl.evaluation import __main__ as evaluation_command
from npp_rl.evaluation import intervals, players, suite, summary
from npp_rl.evaluation.intervals import difference, wilson
from npp_rl.evaluation.suite import BATCH, evaluate
from npp_rl.evaluation.summary import summarise
from npp_rl.levels import copies, datasets
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES, TIERS
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import encode_map, mirrored
from npp_rl.ppo_mlp_baseline import Agent, Args
from npp_rl.training import checkpoints

OBSERVATIONS = Agent.observations


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.490162, 0.943318),  # Newcombe 1998 and R's prop.test(correct = FALSE)
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (81, 263, 0.255289, 0.366210),  # Newcombe 1998, Statistics in Medicine 17:857, table I: 0.2553, 0.3662
        (1, 29, 0.006113, 0.171755),  # the same: 0.0061, 0.1718
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "low", "high"),  # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 10), 0.6075, 1.0)],
)
def test_interval_of_a_difference(counts, low, high):
    assert difference(*counts) == pytest.approx((low, high), abs=1e-4)


def outcome(success, cause, steps, efficiency=None):
    return {
        "success": success,
        "cause": cause,
        "steps": steps,
        "frames": 4 * steps,
        "return": float(success),
        "gold": 0,
        "efficiency": efficiency,
        "failure": None if success else "stuck" if cause == "none" else "died",
        "near_misses": 0,
    }


def test_summary_by_hand():
    entries = [
        {"success_rate": 0.5, "tries": [outcome(True, "none", 10, 0.5), outcome(False, "mine", 3)]},
        {"success_rate": 1.0, "tries": [outcome(True, "none", 20, 1.0), outcome(True, "none", 30, 0.9)]},
        {"success_rate": 0.0, "tries": [outcome(False, "floor_impact", 7), outcome(False, "none", 100)]},
    ]
    entries = [entry | {"par": None} for entry in entries]
    summary = summarise(entries)
    assert summary["levels"] == 3 and summary["episodes"] == 6
    assert summary["success_rate"] == 0.5
    assert (summary["success_low"], summary["success_high"]) == wilson(1.5, 3)  # the level is the unit
    assert summary["steps"] == 20 and summary["frames"] == 80
    assert summary["efficiency"] == pytest.approx(0.8)
    assert summary["deaths"] == {"floor_impact": 1, "mine": 1}
    assert summary["death_rate"] == pytest.approx(2 / 6) and summary["safety"] == pytest.approx(4 / 6)
    assert summary["timeout_rate"] == pytest.approx(1 / 6)
    assert summarise(entries[2:])["steps"] is None


@pytest.fixture(scope="module")
def levels():
    names = ("simplest", "simplest_with_mines", "mine_heavy")
    return [generate(names[seed % 3], seed) for seed in range(11)]


@pytest.fixture(scope="module")
def agent():
    """Untrained, with an actor wide enough that greedy play depends on what is seen."""
    torch.manual_seed(3)
    shapes = {"game_state": (34,), "reachability": (128,), "arcs": (9, 9), "local_tiles": (3, 15, 15)}
    agent = Agent(shapes, Args(**SIZES))
    with torch.no_grad():
        agent.actor.weight.mul_(300)
    return agent


SIZES = {"hidden": 8, "tiles_hidden": 8, "features": 8}


@pytest.fixture(scope="module")
def graph_agent():
    torch.manual_seed(3)
    shapes = {"game_state": (34,), "reachability": (128,), "arcs": (9, 9)}
    shapes |= {key: shape for key, (shape, _) in GRAPH_OBSERVATIONS.items()}
    agent = ppo_vision_free.Agent(shapes, ppo_vision_free.Args(hidden=8, graph_hidden=16, features=8))
    with torch.no_grad():
        agent.actor.weight.mul_(300)
    return agent


def test_a_levels_logits_do_not_depend_on_the_other_rows(levels, graph_agent):
    """To the last bit, however few of the batch's rows hold a game."""
    policy = players.agent_policy(graph_agent, torch.device("cpu"))
    envs = NppVectorEnv(num_envs=11, levels=levels, observations=graph_agent.observations)
    rows, _ = envs.reset(options={"levels": np.arange(11)})
    full = {key: np.resize(value, (BATCH, *value.shape[1:])) for key, value in rows.items()}
    logits = policy(full)[:11]
    assert len(np.unique(logits, axis=0)) > 5
    for filled in (1, 2, 3, 5, 8):
        few = {
            key: np.where((np.arange(BATCH) < filled).reshape(-1, *[1] * (v.ndim - 1)), v, 0) for key, v in full.items()
        }
        np.testing.assert_array_equal(policy(few)[:filled], logits[:filled])
    assert graph_agent.training


def rounding_by_size(policy):
    """The policy as on machines where products round by the number of rows and, within them, by the place."""

    def rounded(rows):
        logits = policy(rows)
        return logits + np.float32(1e-3) * (len(logits) + np.arange(len(logits), dtype=np.float32)[:, None] % 3)

    return rounded


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("kind", ["agent", "graph_agent", "rounds by size"])
def test_results_do_not_depend_on_the_levels_beside(levels, kind, deterministic, request, monkeypatch):
    """Where a policy rounds by the size of a call, another suite has to have the same levels in the same rows."""
    monkeypatch.setattr(suite, "BATCH", 4)  # of fewer rows, which cost a graph agent less
    agent = request.getfixturevalue("agent" if kind == "rounds by size" else kind)
    levels = levels[:6]
    policy = players.agent_policy(agent, torch.device("cpu"))
    policy = rounding_by_size(policy) if kind == "rounds by size" else policy
    settings = {"observations": agent.observations, "deterministic": deterministic, "tries": 2, "seed": 5}
    settings["frame_skip"] = 24  # an untrained agent plays long
    whole = evaluate(policy, levels, **settings)
    assert len({entry["tries"][0]["steps"] for entry in whole["levels"]}) > 1  # games do differ
    json.dumps(whole, allow_nan=False)
    for others in ([3, 2, 1, 0, 4, 5], [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 2], [2, 5, 2, 3]):
        beside = evaluate(policy, [levels[i] for i in others], **settings)["levels"]
        alike = [(row, i) for row, i in enumerate(others) if row % 4 == i % 4 or kind != "rounds by size"]
        assert len(alike) >= 2
        for row, i in alike:
            same = beside[row] == whole["levels"][i]
            assert same  # a difference of whole results takes pytest minutes to print
    monkeypatch.setattr(suite._Calls, "_try_sizes", lambda self, observations: ())
    same = evaluate(policy, levels, **settings) == whole
    assert same  # calls of a fixed size give what calls of any size gave
    if not deterministic:
        assert evaluate(policy, levels, **{**settings, "seed": 6}) != whole
        assert any(entry["tries"][0] != entry["tries"][1] for entry in whole["levels"])


def test_large_suites_are_played_in_parts_with_the_same_results(levels, agent, monkeypatch):
    monkeypatch.setattr(suite, "BATCH", 2)
    policy = players.agent_policy(agent, torch.device("cpu"))
    settings = {"observations": agent.observations, "frame_skip": 24, "seed": 5, "tries": 2}
    counts = []
    make = suite.NppVectorEnv

    def counted_envs(*, levels, **more):
        counts.append(len(levels))
        return make(levels=levels, **more)

    monkeypatch.setattr(suite, "NppVectorEnv", counted_envs)
    for deterministic in (True, False):
        whole = evaluate(policy, levels[:7], deterministic=deterministic, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(suite, "AT_ONCE", 4)
            same = evaluate(policy, levels[:7], deterministic=deterministic, **settings) == whole
        assert same
    assert counts == [7, 4, 3] * 2


@pytest.mark.parametrize("rounds", [False, True])
def test_calls_hold_the_games_that_still_run(levels, rounds, monkeypatch):
    """As few rows as there are games; or always BATCH rows, level i in row i % BATCH, where rows depend on the size."""
    monkeypatch.setattr(suite, "BATCH", 4)
    monkeypatch.setattr(suite, "SIZES", (2, 4, 6))
    many = (levels * 2)[:11]
    envs = NppVectorEnv(num_envs=len(many), levels=many, observations=("game_state", "reachability"))
    firsts = envs.reset(options={"levels": np.arange(len(many))})[0]["reachability"]
    seen = []

    def policy(rows):
        seen.append(rows["reachability"].copy())
        return np.tile(np.float32([0, 0, 0, 0, 0, 1]), (len(seen[-1]), 1))

    results = evaluate(rounding_by_size(policy) if rounds else policy, many, observations=("reachability",))["levels"]
    steps = np.array([entry["tries"][0]["steps"] for entry in results])
    assert len(set(steps)) > 2
    for entry, count in zip(results, steps, strict=True):
        assert entry["tries"][0]["actions"] == "5" * count
    expected = []  # sizes of calls
    for k in range(steps.max()):
        running = np.flatnonzero(steps > k)
        if rounds:
            expected += [4] * np.bincount(running % 4).max()
        else:
            rest = len(running) % 6
            expected += [6] * (len(running) // 6) + ([rest + rest % 2] if rest else [])
    tried = len(seen) - len(expected)
    assert [len(rows) for rows in seen[tried:]] == expected and 1 < tried <= 4
    rows = [(0, r) for r in range(4)] + [(1, r) for r in range(4)] + [(2, r) for r in range(3)]
    rows = rows if rounds else [(0, r) for r in range(6)] + [(1, r) for r in range(5)]
    for (call, row), first in zip(rows, firsts, strict=True):
        np.testing.assert_array_equal(seen[tried + call][row], first)


def test_bad_policy_and_empty_suite(levels):
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(lambda _: np.full((BATCH, 6), np.nan, np.float32), levels[:2], observations=("game_state",))
    with pytest.raises(LevelError, match="no level"):
        evaluate(lambda _: None, [], observations=("game_state",))


def test_split_shares_no_tiles():
    train, validation, test = datasets.load_split("builtin", "builtin", 0.2, 0.05)
    sets = [{level.tiles_digest for level in part} for part in (train, validation, test)]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert len(train) + len(validation) <= len(load_levels("builtin", "train"))
    assert [level.id for level in test] == [level.id for level in load_levels("builtin", "test")]
    assert 0.02 < len(validation) / (len(train) + len(validation)) < 0.09
    assert datasets.load_split("builtin", "builtin", 0.2, 0.0)[1] == []


def test_training_levels_change_and_stay_apart_from_the_suites():
    train, validation, test = datasets.load_split("builtin", "builtin", 0.2, 0.2)
    held_out = validation + test
    one, again, other = (datasets.training_levels(train, held_out, True, 90, 0.2, seed) for seed in (5, 5, 6))
    assert [level.digest for level in one] == [level.digest for level in again]
    assert len(train) + 50 < len(one) <= len(train) + 90  # a fifth of the generated ones are left out
    assert not datasets.tiles_and_mirrored_tiles(held_out) & {level.tiles_digest for level in one + other}
    own, fresh = one[: len(train)], one[len(train) :]
    turned = sum(level.id.endswith("mirrored") for level in own)
    assert 0.4 * len(own) < turned < 0.6 * len(own)
    assert not {level.digest for level in fresh} & {level.digest for level in other + train}
    assert {level.category for level in fresh} == {*CATEGORIES, *DRAWN_CATEGORIES}
    assert datasets.training_levels(train, held_out, False, 0, 0.2, 5) == train


def test_same_folder_is_divided(shared):
    folder = shared / "datasets/nclone/train"
    train, validation, test = datasets.load_split(str(folder), f"{folder}/../train", 0.2, 0.05)
    sets = [{level.tiles_digest for level in part} for part in (train, validation, test)]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert train and validation and 0.1 < len(test) / 560 < 0.3


@pytest.fixture
def run_dir(tmp_path, agent):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    args = {"exp_name": "ppo_mlp_baseline", "train_dataset": "builtin", "test_dataset": "builtin", "frame_skip": 4}
    checkpoint = {
        "architecture": "mlp_baseline",
        "args": {**args, "gamma": 0.99, "holdout_fraction": 0.2, **SIZES},
        "observation_shapes": {"game_state": [34], "reachability": [128], "arcs": [9, 9], "local_tiles": [3, 15, 15]},
        "agent": agent.state_dict(),
    }
    checkpoints.save(tmp_path / "run/checkpoints/best.pt", checkpoint)
    (tmp_path / "run/config.json").write_text("{}")
    (tmp_path / "run/report.md").touch()  # it has ended
    return tmp_path / "run"


def make_args(*files, **more):
    return evaluation_command.Args(checkpoint=tuple(str(file) for file in files), **more)


def test_command(run_dir, tmp_path, levels, monkeypatch, capsys):
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: levels)
    monkeypatch.setattr(evaluation_command, "load_split", lambda *_: ([generate("complex", 1)], [], []))
    best = run_dir / "checkpoints/best.pt"
    (results,) = evaluation_command.main(make_args(best))
    assert json.loads((run_dir / "eval_results.json").read_text()) == results
    assert set(results) == {"overall", "by_category", "by_tier", "by_group", "levels", "settings", "trained_on"}
    assert list(results["by_category"]) == ["simplest", "simplest_with_mines", "mine_heavy"]
    assert list(results["by_tier"]) == ["easy", "hard"]
    for parts in (results["by_category"], results["by_tier"]):
        assert sum(part["levels"] for part in parts.values()) == results["overall"]["levels"] == 11
    for entry in results["levels"]:
        assert entry["tier"] == TIERS[entry["category"]] and entry["par"] is None
        (one,) = entry["tries"]
        assert (one["failure"] is None) == one["success"] and one["closest"] <= one["way_left"]
    assert (run_dir / "report.md").read_text() in capsys.readouterr().out

    output = tmp_path / "elsewhere"
    arguments = {"sampled": True, "tries": 2, "categories": ("simplest",), "output": str(output), "pictures": 1}
    (part,) = evaluation_command.main(make_args(best, **arguments))
    assert part["overall"]["levels"] == 4 and part["overall"]["episodes"] == 8
    for name, path in part["pictures"].items():
        assert (output / path).is_file() and f"[{name}]({path})" in (output / "report.md").read_text()
    assert part["pictures"] or part["overall"]["failures"] == {}
    (tmp_path / "empty").mkdir()
    for arguments, named in (
        ({"categories": ("hardest",)}, "--categories hardest"),
        ({"tries": 3}, "--tries 3"),
        ({"pictures": -1}, "--pictures -1"),
        ({"sampled": True, "seed": -1}, "--seed -1"),
    ):
        with pytest.raises(ArgumentError, match=named):
            evaluation_command.main(make_args(best, **arguments))
    with pytest.raises(LevelError, match=r"empty/planner\.json"):
        evaluation_command.main(make_args(best, pars=str(tmp_path / "empty")))
    with pytest.raises(CheckpointError, match=r"missing\.pt: no such checkpoint"):
        evaluation_command.main(make_args(best, tmp_path / "missing.pt", output=str(output)))


def knowing(best, place, trained):
    """A copy of a checkpoint whose agent was trained on these levels."""
    place.parent.mkdir(parents=True)
    checkpoints.save(place, {**checkpoints.load(best), "trained_on": checkpoints.keys_of(trained)})
    return place


def test_levels_that_the_agent_was_trained_on_do_not_count(run_dir, tmp_path, levels, monkeypatch, capsys):
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: levels)
    best = run_dir / "checkpoints/best.pt"
    content = checkpoints.load(best)
    content["args"]["frame_skip"] = 24  # an untrained agent plays long
    checkpoints.save(best, content)
    (old,) = evaluation_command.main(make_args(best))
    assert old["trained_on"] is None and "- trained or chosen on: not known" in capsys.readouterr().out

    def played(name, trained, **more):
        file = knowing(best, tmp_path / name / "checkpoints/best.pt", trained)
        (results,) = evaluation_command.main(make_args(file, output=str(tmp_path / f"of_{name}"), **more))
        said = capsys.readouterr()
        assert (tmp_path / f"of_{name}/report.md").read_text() in said.out
        assert json.loads((tmp_path / f"of_{name}/eval_results.json").read_text()) == results
        return results, said

    # One of them in the mirror, one with other entities.
    moved = encode_map(levels[7].tiles, [[0, 20, 20, 0, 0], [3, 30, 20, 0, 0], [4, 30, 30, 0, 0]])
    seen = [levels[1], mirrored(levels[4]), dataclasses.replace(levels[7], map_data=moved)]
    some, said = played("some", [*seen, generate("simple", 99)])
    assert [k for k, entry in enumerate(some["levels"]) if entry.pop("trained_on", None)] == [1, 4, 7]
    assert some["levels"] == old["levels"]
    known = [old["levels"][k] for k in (1, 4, 7)]
    others = [entry for k, entry in enumerate(old["levels"]) if k not in (1, 4, 7)]
    assert some["trained_on"] == {"levels": 3, "success_rate": sum(entry["success_rate"] for entry in known) / 3}
    assert some["overall"] == summarise(others) and some["overall"]["levels"] == 8
    assert some["by_category"]["simplest"] == summarise([e for e in others if e["category"] == "simplest"])
    assert some["by_tier"]["easy"]["levels"] + some["by_tier"]["hard"]["levels"] == 8
    line = "- trained or chosen on: 3 of these 11 levels, which count in nothing below; success on them is "
    assert f"{line}{some['trained_on']['success_rate']:.1%}" in said.out

    none, said = played("none", [generate("simple", 99)])
    assert {name: none[name] for name in old} == {**old, "trained_on": {"levels": 0, "success_rate": None}}
    assert "- trained or chosen on: none of these levels" in said.out

    monkeypatch.setattr(evaluation_command, "load_split", lambda *_: (levels, [], []))
    every, said = played("every", levels, train_levels=True)
    assert every["overall"]["levels"] == 0 and every["overall"]["success_rate"] is None
    assert every["overall"]["death_rate"] is None
    assert every["by_category"] == every["by_tier"] == every["by_group"] == {}
    assert every["trained_on"] == {"levels": 11, "success_rate": old["overall"]["success_rate"]}
    assert (
        "- trained or chosen on: all of these levels, so there is no result on levels" in said.out
        and "| " not in said.out
    )
    assert "--train-levels: no gap" in said.err and "generalisation" not in every
    assert summary.scalars(every, "test") == {}
    table = summary.comparison({"a": old, "b": every})
    assert "| b | 0 | - |" in table


def test_levels_with_what_is_not_simulated_count_in_a_row_of_their_own(levels, capsys):
    turret, drone, both = [23, 40, 40, 0, 0], [14, 50, 50, 0, 0], [[23, 40, 40, 0, 0], [14, 50, 50, 0, 0]]
    own = [
        dataclasses.replace(level, map_data=encode_map(level.tiles, [*level.entities.tolist(), *more]))
        for level, more in zip(levels[:5], ([turret], [drone], both, [], [[27, 30, 30, 0, 0]]), strict=True)
    ]
    assert [level.group for level in own] == ["not simulated", "moving", "not simulated", "static", "not simulated"]

    def policy(observations):  # always to the right
        return np.eye(6, dtype=np.float32)[np.full(len(observations["game_state"]), 2)]

    results = suite.evaluate(policy, own, observations=("game_state",))
    entries = results["levels"]
    assert [entry["group"] for entry in entries] == [level.group for level in own]
    assert results["overall"] == summarise([entries[1], entries[3]])
    assert sum(part["levels"] for part in results["by_category"].values()) == 2
    assert {name: part["levels"] for name, part in results["by_group"].items()} == {
        "static": 1,
        "moving": 1,
        "not simulated": 3,
    }
    assert results["by_group"]["not simulated"] == summarise([entries[0], entries[2], entries[4]])
    text = summary.report(results, "title", {})
    assert "- not simulated: 3 of these 5 levels hold entities that are not simulated, and count only" in text
    assert "| *not simulated* | 3 |" in text and "| **overall** | 2 |" in text
    none = suite.evaluate(policy, [own[0]], observations=("game_state",))
    assert none["overall"]["levels"] == 0 and summary.scalars(none, "eval") == {}
    assert "- not simulated: 1 of these 1 levels" in summary.report(none, "title", {})


def test_near_copies_of_training_levels_are_named(run_dir, tmp_path, levels, monkeypatch, capsys):
    """They count; success without them is said too."""
    tiles = levels[2].tiles.copy()
    tiles[tuple(np.argwhere(copies.playable_part(levels[2]) & (tiles == 1))[0])] = 2
    nearly = dataclasses.replace(levels[2], map_data=encode_map(tiles, levels[2].entities))
    suite_levels = [levels[0], nearly, levels[5]]
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: suite_levels)
    monkeypatch.setattr(evaluation_command, "load_split", lambda *_: ([levels[0], levels[2]], [], []))
    file = knowing(run_dir / "checkpoints/best.pt", tmp_path / "a/checkpoints/best.pt", [levels[0], levels[2]])
    (results,) = evaluation_command.main(make_args(file, output=str(tmp_path / "out")))
    other = results["levels"][2]["success_rate"]
    assert results["near_copies"] == {"ids": [nearly.id], "success_rate_without": other}
    assert results["overall"]["levels"] == 2 and results["trained_on"]["levels"] == 1
    line = f"- near-copies of training levels: 1 ({nearly.id}), which count; without them {other:.1%}\n"
    assert line in capsys.readouterr().out

    def gone(*_):
        raise LevelError("sets/a: no such folder")

    monkeypatch.setattr(evaluation_command, "load_split", gone)
    (results,) = evaluation_command.main(make_args(file, output=str(tmp_path / "later")))
    said = capsys.readouterr()
    assert "near-copies of training levels were not looked for: sets/a: no such folder" in said.err
    assert "near_copies" not in results and "near-copies" not in said.out
    with pytest.raises(LevelError, match="sets/a"):
        evaluation_command.main(make_args(file, output=str(tmp_path / "out"), train_levels=True))


def test_only_what_a_run_divided_is_divided_again(levels, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        for index, level in enumerate(levels):
            (tmp_path / name / f"{name}{index}").write_bytes(level.map_data)
    a, b, c = (str(tmp_path / name) for name in "abc")
    share = len(datasets.split_by_tiles(levels, 0.5)[1])
    assert 0 < share < 11
    run = {"holdout_fraction": 0.5}
    for train, test, played, expected in (
        (a, b, a, 11),  # trained on as a whole: trained_on says so
        (a, b, b, 11),
        (a, a, f"{tmp_path}/b/../a", share),
        (a, a, c, 11),
        (f"{a},{b}", b, f"{a},{b}", 11 + share),
        ("builtin", a, "builtin", 270),
    ):
        args = make_args("x.pt", test_dataset=played, output=str(tmp_path / "out"))
        own = run | {"train_dataset": train, "test_dataset": test}
        assert len(evaluation_command._prepare(args, ["x.pt"], None, own).levels) == expected, (train, test, played)


def test_an_ensemble_was_trained_on_the_levels_of_all_its_agents(levels):
    def together(*seen):
        args = dict.fromkeys(("frame_skip", "train_dataset", "test_dataset", "holdout_fraction"), "x")
        run = args | {"validation_fraction": 0.1}
        loaded = [(str(k), torch.nn.Module(), run | {"trained_on": one}) for k, one in enumerate(seen)]
        for _, agent, _ in loaded:
            agent.observations = ("game_state",)
        return players.together(loaded)[1]["trained_on"]

    one, two = (frozenset(level.tiles_key for level in part) for part in (levels[:3], levels[2:5]))
    assert together(one, two) == {level.tiles_key for level in levels[:5]}
    assert together(one, None) is None


def test_places_of_results(run_dir, tmp_path, levels, monkeypatch):
    """Refused before anything is played: a checkpoint that is in no run, and an output that cannot be written."""
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: levels)
    monkeypatch.setattr(evaluation_command, "evaluate", lambda *_, **__: pytest.fail("played"))
    best = run_dir / "checkpoints/best.pt"
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match="a file"):
        evaluation_command.main(make_args(best, output=str(tmp_path / "a file")))
    (tmp_path / "alone.pt").write_bytes(best.read_bytes())
    with pytest.raises(ArgumentError, match="in no run directory, so --output is needed"):
        evaluation_command.main(make_args(tmp_path / "alone.pt"))
    with pytest.raises(ArgumentError, match="belongs to no run directory"):
        evaluation_command.main(make_args(best, ensemble=True))
    with pytest.raises(ArgumentError, match=r"best\.pt: another one's results belong to"):
        evaluation_command.main(make_args(best, best))


def test_a_runs_own_results_are_those_of_its_best_agent(run_dir, levels, monkeypatch):
    """Those of others, and of runs that may go on, stand beside; what is known of the same games stays."""
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: levels[:4])
    monkeypatch.setattr(evaluation_command, "load_split", lambda *_: (levels[4:8], [], levels[:4]))
    best = run_dir / "checkpoints/best.pt"
    (run_dir / "report.md").unlink()
    evaluation_command.main(make_args(best))
    assert (run_dir / "eval_builtin/eval_results.json").is_file() and not (run_dir / "eval_results.json").exists()
    (run_dir / "report.md").touch()
    (whole,) = evaluation_command.main(make_args(best, train_levels=True))
    (again,) = evaluation_command.main(make_args(best, pictures=1))
    assert again["generalisation"] == whole["generalisation"] and "pictures" in again
    assert json.loads((run_dir / "eval_results.json").read_text()) == again
    latest = other_checkpoint(best, run_dir.parent / "copy/latest.pt")
    latest.rename(run_dir / "checkpoints/latest.pt")
    (other,) = evaluation_command.main(make_args(run_dir / "checkpoints/latest.pt"))
    assert json.loads((run_dir / "eval_builtin_latest/eval_results.json").read_text()) == other != again
    assert json.loads((run_dir / "eval_results.json").read_text()) == again


def test_the_gap_compares_like_with_like(levels):
    """Categories weigh as in the test, however few training levels there are of one."""
    won = {"simplest": (1.0, 0.5), "complex": (0.5, 0.25)}  # success on training and on test levels

    def part(train, name, count):
        return {"success_rate": won[name][not train], "levels": count}

    def played(train, counts):
        parts = {name: part(train, name, count) for name, count in counts.items()}
        total = sum(counts.values())
        rate = sum(one["success_rate"] * one["levels"] for one in parts.values()) / total
        entries = [{"category": name} for name, count in counts.items() for _ in range(count)]
        return {"overall": {"success_rate": rate, "levels": total}, "by_category": parts, "levels": entries}

    names = ["simplest"] * 40 + ["complex"] * 2
    train_levels = [dataclasses.replace(levels[0], category=name) for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "evaluate", lambda _, suite, **__: played(True, Counter(x.category for x in suite)))
        found = suite.generalisation(None, train_levels, played(False, {"simplest": 20, "complex": 20}))
    assert found["train"]["levels"] == 22 and found["gap"] == pytest.approx(0.5 * 0.5 + 0.5 * 0.25)
    # The mean over both categories is as unsure as 1 / (0.25 / 20 + 0.25 / 2) levels: two tell little.
    low, high = difference(0.75 * (n := 80 / 11), n, 0.375 * 40, 40)
    assert (found["gap_low"], found["gap_high"]) == pytest.approx((low, high))


def other_checkpoint(best, place, **changed):
    """A copy of a checkpoint whose run had other arguments and whose agent prefers other actions."""
    checkpoint = checkpoints.load(best)
    checkpoint["args"] |= changed
    checkpoint["agent"]["actor.weight"] = checkpoint["agent"]["actor.weight"].flip(0)
    place.parent.mkdir(parents=True)
    checkpoints.save(place, checkpoint)
    return place


def test_several_checkpoints(run_dir, tmp_path, levels, monkeypatch, capsys):
    """Each has its own folder and the results it has alone; then they are compared."""
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: levels[:5])
    best = run_dir / "checkpoints/best.pt"
    other = other_checkpoint(best, tmp_path / "other/checkpoints/best.pt", frame_skip=2)
    both = evaluation_command.main(make_args(best, other, output=str(tmp_path / "both")))
    printed = capsys.readouterr().out
    assert [result["settings"]["frame_skip"] for result in both] == [4, 2]
    for file, folder, result in zip((best, other), ("run__best", "other__best"), both, strict=True):
        assert json.loads((tmp_path / "both" / folder / "eval_results.json").read_text()) == result
        assert evaluation_command.main(make_args(file, output=str(tmp_path / "alone"))) == [result]
        assert f"| {folder.replace('__', '/')} | 5 | {result['overall']['success_rate']:.1%} |" in printed
    with pytest.raises(ArgumentError, match=r"--checkpoint: .* has frame_skip 4, .* has 2"):
        evaluation_command.main(make_args(best, other, ensemble=True, output=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_an_ensemble_of_one_is_that_agent(run_dir, tmp_path, levels, monkeypatch):
    monkeypatch.setattr(evaluation_command, "load_suite", lambda *_: levels)
    best = run_dir / "checkpoints/best.pt"
    (alone,) = evaluation_command.main(make_args(best))
    (ensemble,) = evaluation_command.main(make_args(best, ensemble=True, output=str(tmp_path / "one")))
    assert ensemble == alone
    other = other_checkpoint(best, tmp_path / "other/checkpoints/best.pt")
    (mixed,) = evaluation_command.main(make_args(best, other, ensemble=True, output=str(tmp_path / "two")))
    assert mixed["levels"] != alone["levels"]


def test_an_ensemble_is_the_mean_of_log_probabilities(levels):
    """Of agents that see different things, and stacks of pictures of different length."""

    class Sums(torch.nn.Module):
        def __init__(self, *observations):
            super().__init__()
            self.observations = observations

        def get_logits(self, x):
            rows = torch.cat([x[name].flatten(1).double() for name in self.observations], 1)
            self.seen = {name: x[name].clone() for name in self.observations}
            return torch.stack([rows.sum(1) * k / 1e4 + rows[:, k] for k in range(6)], 1).float()

    one, two, three = Sums("game_state", "player_frames"), Sums("reachability"), Sums("player_frames")
    ensemble = players.Ensemble([one, two, three], [2, 1, 4])
    assert ensemble.observations == ("game_state", "player_frames", "reachability")
    rows = {}
    for stack in (2, 4):
        envs = NppVectorEnv(11, levels, ensemble.observations, frame_stack=stack)
        envs.reset(options={"levels": np.arange(11)})
        for action in (2, 5):
            rows[stack] = envs.step(np.full(11, action))[0]
    x = {name: torch.from_numpy(value) for name, value in rows[4].items()}
    logits = ensemble.get_logits(x)
    assert one.seen["player_frames"].shape[1] == 2 and three.seen["player_frames"].shape[1] == 4
    np.testing.assert_array_equal(one.seen["player_frames"], rows[2]["player_frames"])
    own = [one.get_logits({**x, "player_frames": x["player_frames"][:, 2:]}), two.get_logits(x), three.get_logits(x)]
    own = [row.double().numpy() for row in own]
    expected = np.mean([row - np.log(np.exp(row - row.max(1, keepdims=True)).sum(1, keepdims=True))
                        - row.max(1, keepdims=True) for row in own], 0)  # fmt: skip
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_generalisation_compares_like_with_like(levels):
    """Training levels of the same categories in the same numbers, always the same ones."""

    def policy(_):
        return np.tile(np.float32([0, 0, 1, 0, 0, 0]), (BATCH, 1))

    rules = {"observations": ("game_state",)}
    train = [generate(name, seed) for seed in range(100, 108) for name in ("simplest", "mine_heavy", "simpler")]
    results = evaluate(policy, [level for level in levels if level.category != "simplest_with_mines"], **rules)
    part = suite.generalisation(policy, train, results, **rules)
    assert part == suite.generalisation(policy, train[::-1], results, **rules)
    assert part["train"]["levels"] == 4 + 3 and part["train"]["episodes"] == 7
    gap = part["train"]["success_rate"] - results["overall"]["success_rate"]
    assert part["gap"] == gap and part["gap_low"] <= gap <= part["gap_high"]
    foreign = [level for level in train if level.category == "simpler"]
    assert suite.generalisation(policy, foreign, results, **rules)["train"]["levels"] == 8


def test_par_times_and_levels_that_nobody_has_solved(tmp_path):
    """Only the first level can be won by running; the planner has won the second."""
    levels = [corridor(5, 12, 20), corridor(5, 12, 20, mines=[here(8)]), corridor(5, 12, 20, mines=[here(9)])]
    planned = [{"digest": level.digest, "solved": True, "frames": 100} for level in levels[:2]]
    (tmp_path / "planner.json").write_text(json.dumps({"levels": planned}))

    def policy(_):
        return np.tile(np.float32([0, 0, 1, 0, 0, 0]), (BATCH, 1))

    results = evaluate(policy, levels, observations=("game_state",), pars=tmp_path)
    overall = results["overall"]
    assert [entry["par"] for entry in results["levels"]] == [100, 100, None]
    assert overall["par_efficiency"] == 100 / results["levels"][0]["tries"][0]["frames"]
    assert overall["solvable"]["levels"] == 2 and overall["solvable"]["success_rate"] == 0.5
    assert overall["never_solved"] == 1 and overall["failures"] == {"died": 2}
    assert list(results["by_tier"]) == ["other"]
    plain = evaluate(policy, levels, observations=("game_state",), examined=False)
    assert plain["overall"]["failures"] == {} and plain["overall"]["near_misses"] is None
    assert "failure" not in plain["levels"][1]["tries"][0] and "not examined" in summary.report(plain, "title", {})
    assert plain["overall"]["success_rate"] == overall["success_rate"]
    text = summary.report(results, "title", {})
    assert "1 of 3 levels have no known solution" in text and "- 2 (100%) died: mine 2" in text


def test_missing_dataset(run_dir, tmp_path):
    with pytest.raises((LevelError, OSError), match="nowhere"):
        evaluation_command.main(make_args(run_dir / "checkpoints/best.pt", test_dataset=str(tmp_path / "nowhere")))
    assert sorted(path.name for path in run_dir.iterdir()) == ["checkpoints", "config.json", "report.md"]
    assert (run_dir / "report.md").read_text() == ""


def test_worse_beyond_chance_by_hand():
    """Exact binomial shares: 0 of 4 decided levels is 1/16, 0 of 5 is 1/32; 2 of 10 is 56/1024, 2 of 11 is 67/2048."""

    def pair(gained, lost, both=20, neither=5):
        won = [1.0] * both + [0.0] * neither + [1.0] * gained + [0.0] * lost
        best = [1.0] * both + [0.0] * neither + [0.0] * gained + [1.0] * lost
        return won, best

    for (gained, lost), expected in {(0, 4): False, (0, 5): True, (2, 8): False, (2, 9): True, (0, 0): False}.items():
        assert intervals.worse(*pair(gained, lost)) == expected, (gained, lost)
        assert intervals.worse(*pair(gained, lost, both=0, neither=0)) == expected  # the others say nothing
    assert not intervals.worse(*pair(9, 2))
    assert intervals.worse(*pair(9, 2)[::-1])


def test_which_agent_is_kept():
    all_won, none_won = [1.0] * 6, [0.0] * 6
    assert intervals.keep_newer(none_won, []) == (True, none_won)
    assert intervals.keep_newer(all_won, none_won) == (True, all_won)
    assert intervals.keep_newer(none_won, all_won) == (False, all_won)
    nearly = [0.0, *all_won[1:]]
    assert intervals.keep_newer(nearly, all_won) == (True, all_won)  # kept, but the comparison stays with the best


def test_losses_do_not_add_up():
    """Each agent loses four more of 40 levels than the one before: the second is not worse than the best, later are."""
    best, kept = [], []
    for lost in (0, 4, 8, 12):
        won = [0.0] * lost + [1.0] * (40 - lost)
        improved, best = intervals.keep_newer(won, best)
        kept.append(improved)
    assert kept == [True, True, False, False]


def test_a_signal_stops_an_evaluation(levels):
    calls = []

    def policy(observations):
        calls.append(1)
        stop.number = 15 if len(calls) == 7 else 0
        return np.zeros((BATCH, 6), np.float32)

    stop = types.SimpleNamespace(number=0)
    assert evaluate(policy, levels, observations=("game_state",), stop=stop) is None
    assert len(calls) == 7
