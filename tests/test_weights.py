"""The weights of an agent as long tensors: the same training as with the parameters one by one."""

import types

import pytest
import torch
from torch import nn

from npp_rl.training.weights import Weights

ALONE = types.SimpleNamespace(world_size=1, team=None)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
        self.actor, self.critic = nn.Linear(3, 6), nn.Linear(3, 1)

    def forward(self, x):
        features = self.encoder(x)
        return self.actor(features), self.critic(features)


@pytest.mark.parametrize("warmup", [0, 3])
def test_training_is_that_of_the_parameters_one_by_one(warmup):
    """Also while only the critic's head learns, after which the others begin with Adam's first step."""
    plain, agent = Agent(), Agent()
    weights = Weights(agent, ALONE)
    theirs = torch.optim.Adam(plain.parameters(), lr=1e-2, eps=1e-5)
    ours = torch.optim.Adam(weights.flat, lr=1e-2, eps=1e-5)
    for k in range(10):
        x = torch.randn(4, 7, generator=torch.Generator().manual_seed(k))
        for network in (plain, agent):
            logits, value = network(x)
            (logits.square().mean() + (value - 1).square().mean()).backward()
            for name, parameter in network.named_parameters():
                if k < warmup and not name.startswith("critic."):
                    parameter.grad = None
        expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        theirs.step()
        theirs.zero_grad()
        weights.gather_gradients()
        norm = nn.utils.clip_grad_norm_(weights.flat, 0.5)
        ours.step()
        torch.testing.assert_close(norm, expected)
        for (name, one), two in zip(plain.named_parameters(), agent.parameters(), strict=True):
            torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7, msg=f"{name} after step {k}")
    assert len(weights.flat) == 2 and sum(len(flat) % 16 for flat in weights.flat) == 0


def test_parts_that_do_not_learn_keep_their_weights_exactly():
    """Frozen parameters, and a critic that no loss reaches, which weight decay would change too."""
    agent = Agent()
    agent.encoder[0].requires_grad_(False)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    weights = Weights(agent, ALONE)
    optimizer = torch.optim.AdamW(weights.flat, lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        agent(torch.ones(2, 7))[0].square().mean().backward()
        weights.gather_gradients()
        optimizer.step()
    changed = {name for name, value in agent.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"encoder.2.weight", "encoder.2.bias", "actor.weight", "actor.bias"}


def test_only_the_part_named_critic_is_the_critic_s_head():
    agent = Agent()
    agent.critic_encoder = nn.Linear(7, 5)
    weights = Weights(agent, ALONE)
    assert [len(parts) for parts in weights.parts] == [8, 2]
    assert {id(parameter) for parameter, _, _ in weights.parts[1]} == {id(p) for p in agent.critic.parameters()}


def test_a_loaded_state_is_what_is_trained():
    agent, other = Agent(), Agent()
    weights = Weights(agent, ALONE)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    agent.load_state_dict(other.state_dict())
    flat = torch.cat([flat.detach() for flat in weights.flat])
    assert all(torch.isin(parameter, flat).all() for parameter in other.parameters())
    with torch.no_grad():
        weights.flat[0].zero_()
    assert not any(parameter.any() for name, parameter in agent.named_parameters() if "critic" not in name)
    assert torch.equal(agent.critic.weight, other.critic.weight)
