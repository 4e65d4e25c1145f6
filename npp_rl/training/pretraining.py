"""Start a run from pretrained weights, and keep its policy near the pretrained one for a while."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from npp_rl.commands import ArgumentError, say
from npp_rl.levels.maps import Level
from npp_rl.training import checkpoints
from npp_rl.training.processes import world


class Pretraining:
    """The pretrained policy of a run. It does nothing for a run without `pretrained_checkpoint`.

    The pretrained agent may be of another size or architecture: its weights are loaded where name and shape fit, and
    the others are listed. The parts in `freeze` keep their pretrained weights.

    Only the critic's head learns in the first `value_warmup_steps`, so that its first errors do not spoil the policy. A
    loss term keeps the policy near the pretrained one. Its weight falls from `kl_coef` to zero over `kl_steps`, as in
    Kickstarting (Schmitt et al. 2018, arXiv 1803.03835).

    Raises CheckpointError if no weight of `pretrained_checkpoint` fits, ArgumentError if `freeze` names what cannot be
    kept. A resumed run does not need that file, because its own checkpoint has its weights and the teacher's.
    """

    def __init__(self, args, architecture: str, agent: nn.Module, checkpoint: dict | None):
        self.given = args.pretrained_checkpoint is not None
        self.warmup_steps = args.value_warmup_steps if self.given else 0
        self.kl_coef = args.kl_coef if self.given else 0.0
        self.kl_steps = args.kl_steps
        self.teacher = None
        self.warming = self.near = None  # of the updates that `begin_updates` has begun
        self.coef = torch.zeros((), device=next(agent.parameters()).device)  # weight of the loss that keeps it near
        self.others = []  # names of the agent's weights that are not pretrained
        self.earlier = frozenset()  # keys of the levels that the pretrained agent was trained on, None if unknown
        if self.given:
            place = "latest.pt" if checkpoint else args.pretrained_checkpoint
            before, others = (checkpoint, []) if checkpoint else checkpoints.load_weights(place, agent)
            if others and world()[0] == 0:
                fitting = len(agent.state_dict()) - len(others)
                say(f"{place}: {fitting} weights of {architecture} are loaded; these keep their initial values:")
                say("\n".join(f"  {line}" for line in others))
            self.others = [line.partition(":")[0] for line in others]
            if self.kl_coef and any(not name.startswith("critic.") for name in self.others):
                raise ArgumentError(
                    f"--kl-coef {args.kl_coef}: {place} does not fit whole, so there is no policy of it"
                )
            with checkpoints.restoring(place):
                self.earlier = checkpoints.trained_on(before)
        self._freeze(args.freeze, agent)
        if self.kl_coef:
            self.teacher = copy.deepcopy(agent).requires_grad_(False)
            if checkpoint is not None:
                self.teacher.load_state_dict(checkpoint["teacher"])

    def _freeze(self, parts, agent):
        if parts and not self.given:
            raise ArgumentError(f"--freeze {parts[0]}: needs --pretrained-checkpoint")
        parameters = dict(agent.named_parameters())
        for part in parts:
            own = [name for name in parameters if f"{name}.".startswith(f"{part}.")]
            if not own:
                known = ", ".join(name for name, _ in agent.named_children())
                raise ArgumentError(f"--freeze {part!r:.60}: no such part of the agent (expected some of {known})")
            if new := [name for name in own if name in self.others]:
                raise ArgumentError(f"--freeze {part}: {new[0]} is not pretrained, so it has to learn")
            for name in own:
                parameters[name].requires_grad_(False)
        learning = [name for name, parameter in parameters.items() if parameter.requires_grad]
        if self.warmup_steps:
            learning = [name for name in learning if name.startswith("critic.")]
        if not learning:
            warmup = " in the first --value-warmup-steps" if self.warmup_steps else ""
            raise ArgumentError(f"--freeze {' '.join(parts)}: nothing is left that could learn{warmup}")

    def trained_on(self, levels: Sequence[Level]) -> torch.Tensor | None:
        """For a checkpoint: keys of the run's levels and of those of the pretrained agent's run (see `keys_of`)."""
        return checkpoints.keys_of(levels, self.earlier)

    def state(self) -> dict:
        """State for a checkpoint: the teacher's weights, if there is a teacher."""
        return {"teacher": self.teacher.state_dict()} if self.teacher else {}

    def begin_updates(self, global_step: int) -> bool:
        """Note that updates begin -> whether they are other operations than before, or the first ones.

        What they are depends on whether only the critic's head learns, and on whether the policy is kept near the
        pretrained one, which both end after some steps.
        """
        before = self.warming, self.near
        coef = self.kl_coef * max(0.0, 1 - global_step / self.kl_steps)
        self.warming, self.near = global_step <= self.warmup_steps, self.teacher is not None and coef > 0
        self.coef.fill_(coef)
        return before != (self.warming, self.near)

    def kl_loss(self, mb_obs: dict, newlogprobs: torch.Tensor, autocast: dict):
        """KL(pretrained || new) for the new policy's log-probabilities [B, 6], and the same times its weight now."""
        if not self.near:
            zero = torch.zeros((), device=newlogprobs.device)
            return zero, zero
        with torch.no_grad(), torch.autocast(**autocast):
            logits = self.teacher.get_logits(mb_obs)
        target = torch.log_softmax(logits, 1)
        kl_loss = nn.functional.kl_div(newlogprobs, target, log_target=True, reduction="batchmean")
        return kl_loss, self.coef * kl_loss

    def drop_gradients(self, agent: nn.Module) -> None:
        """Drop all gradients except those of the critic's head while the critic warms up."""
        if self.warming:
            for name, parameter in agent.named_parameters():
                if not name.startswith("critic."):
                    parameter.grad = None
