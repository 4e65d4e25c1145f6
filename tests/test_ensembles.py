"""Ensembles: a vote, and what each agent wins beside it, in evaluation and in the window."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from npp_rl.commands import ArgumentError
from npp_rl.environment.games import ACTIONS, OBSERVATIONS
from npp_rl.evaluation import __main__ as evaluation
from npp_rl.evaluation import players
from npp_rl.levels.generator import generate
from npp_rl.ppo_mlp_baseline import SIZES, Agent, Args
from npp_rl.training import checkpoints


class Says(torch.nn.Module):
    """An agent that gives these logits and this value, whatever it sees."""

    observations = ("game_state",)

    def __init__(self, logits, value=0.0):
        super().__init__()
        self.logits, self.value = torch.tensor(logits), value

    def get_logits(self, x):
        return self.logits.expand(len(x["game_state"]), 6)

    def get_value(self, x):
        return torch.full((len(x["game_state"]),), self.value)


def chosen(*agents, vote):
    x = {"game_state": torch.zeros(2, 3)}
    logits = players.Ensemble([Says(logits) for logits in agents], [1] * len(agents), vote).get_logits(x)
    assert torch.isfinite(logits).all() and logits.dtype == torch.float32 and logits.shape == (2, 6)
    assert torch.allclose(logits.exp().sum(1), torch.ones(2)) or not vote
    return int(logits[0].argmax())


def test_a_vote_counts_heads():
    unsure, other = [0.0, 0.0, 0.0, 0.1, 0.0, 0.0], [0.0, 0.05, 0.0, 0.1, 0.0, 0.0]
    sure = [0.0, 9.0, 0.0, 0.0, 0.0, 0.0]
    assert chosen(unsure, other, sure, vote=False) == 1  # one agent that is sure outweighs two
    assert chosen(unsure, other, sure, vote=True) == 3


def test_the_mean_decides_ties_and_nothing_else():
    left, right = [0.0, 2.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 2.1]
    assert chosen(left, right, vote=True) == chosen(right, left, vote=True) == 5
    never = [-1e9, 0.0, 0.0, 0.0, 0.0, -1e9]
    assert chosen(never, never, vote=True) == 1
    random = np.random.default_rng(0)
    for _ in range(200):
        logits = random.normal(0, 3, (random.integers(2, 12), 6)).astype(np.float32)
        votes = np.bincount(logits.argmax(1), minlength=6)
        assert votes[chosen(*logits.tolist(), vote=True)] == votes.max()


def test_shares_of_a_vote_and_the_mean_value():
    agents = [Says([5.0, 0, 0, 0, 0, 0], 1.0), Says([5.0, 0, 0, 0, 0, 0], 2.0), Says([0, 0, 0, 0, 0, 5.0], 6.0)]
    ensemble = players.Ensemble(agents, [1, 1, 1], vote=True)
    x = {"game_state": torch.zeros(1, 3)}
    shares = ensemble.get_logits(x).exp()[0]
    mean = torch.softmax(ensemble.logprobs(x).mean(0), 1)[0]
    assert shares.numpy() == pytest.approx((np.array([2, 0, 0, 0, 0, 1]) + 0.5 * mean.numpy()) / 3.5, rel=1e-6)
    assert ensemble.get_value(x).tolist() == [3.0]


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """Checkpoints of three untrained agents: one that is sure of itself, and two of one mind that are not."""
    files, args = [], Args(frame_skip=24, size="small", **SIZES["small"])
    shapes = {name: list(OBSERVATIONS[name][0]) for name in Agent.observations}
    for seed in range(3):
        torch.manual_seed(min(seed, 1))
        agent = Agent(shapes, args)
        torch.nn.init.orthogonal_(agent.actor.weight, 100.0 if seed == 0 else 1.0)  # the first is the surest
        content = {"architecture": "mlp_baseline", "args": dataclasses.asdict(args) | {"wandb_tags": []}}
        files.append(str(tmp_path_factory.mktemp(f"agent{seed}") / "checkpoints/best.pt"))
        (tmp_path_factory.getbasetemp() / files[-1]).parent.mkdir()
        checkpoints.save(files[-1], {**content, "observation_shapes": shapes, "agent": agent.state_dict()})
    return files


def evaluated(files, monkeypatch, **more):
    levels = [generate("simplest", seed) for seed in range(5)]
    monkeypatch.setattr(evaluation, "load_suite", lambda *_: levels)
    return evaluation.main(evaluation.Args(checkpoint=tuple(files), **more))


def test_each_agent_stands_beside_the_ensemble(agents, tmp_path, monkeypatch, capsys):
    alone = evaluated(agents, monkeypatch, output=str(tmp_path / "alone"))
    found = {}
    for vote in (False, True):
        place = tmp_path / f"vote {vote}"
        capsys.readouterr()
        (found[vote],) = evaluated(agents, monkeypatch, ensemble=True, vote=vote, output=str(place))
        assert [member["checkpoint"] for member in found[vote]["members"]] == agents
        for member, one in zip(found[vote]["members"], alone, strict=True):
            for key in ("success_rate", "success_low", "levels", "frames", "deaths", "return"):
                assert member["overall"][key] == one["overall"][key]
            assert member["by_category"].keys() == one["by_category"].keys()
        assert json.loads((place / "eval_results.json").read_text())["members"] == found[vote]["members"]
        text = (place / "report.md").read_text()
        assert text in capsys.readouterr().out
        for number, (file, one) in enumerate(zip(agents, alone, strict=True), 1):
            name = file.split("/")[-3]
            assert f"| {number}: {name}/best | 5 | {one['overall']['success_rate']:.1%} |" in text
        assert ("the agents vote" in text) == vote and ("mean of the agents' log-probabilities" in text) != vote
    assert found[True]["levels"] != found[False]["levels"]
    (without,) = evaluated(agents, monkeypatch, ensemble=True, members=False, output=str(tmp_path / "without"))
    assert "members" not in without and without["levels"] == found[False]["levels"]
    with pytest.raises(ArgumentError, match="--vote: needs --ensemble"):
        evaluated(agents, monkeypatch, vote=True, output=str(tmp_path / "no"))
    assert not (tmp_path / "no").exists()


def test_the_panel_marks_what_each_agent_would_do():
    pytest.importorskip("pygame")
    from npp_rl.viewing.player import PANEL, Game, with_panel

    game = Game(generate("simplest", 0), 1)
    choice = (ACTIONS, [0.5, 0.1, 0.1, 0.1, 0.1, 0.1], 0, 1.5)
    one, none = (with_panel(game, "", "", "", "", c) for c in (choice, (*choice, [])))
    np.testing.assert_array_equal(one, none)
    members = [[0.9, 0.02, 0.02, 0.02, 0.02, 0.02], [0.6, 0.08, 0.08, 0.08, 0.08, 0.08], [0.1, 0.1, 0.1, 0.5, 0.1, 0.1]]
    shown = with_panel(game, "", "", "", "", (*choice, members))
    new = (shown != one).any(2)[-PANEL:]
    assert not (shown != one).any(2)[:-PANEL].any()
    dots = [new[53:56, 12 + 128 * k : 12 + 128 * k + 60].any(0) for k in range(6)]
    runs = [int((np.diff(row.astype(int), prepend=0) == 1).sum()) for row in dots]
    assert runs == [2, 0, 0, 1, 0, 0]  # two agents hold "none" for the likeliest, one "jump"
    for at in (12 + 114 * 0.9, 12 + 114 * 0.1, 12 + 3 * 128 + 114 * 0.5):
        assert new[42:51, int(at) - 1 : int(at) + 3].any()
