"""PPO on N++ with a CNN over pictures around the ninja, a Heterogeneous Graph Transformer and MLPs; no global view.

python npp_rl/ppo_local_frames_only.py                                      # built-in levels
python npp_rl/ppo_local_frames_only.py --train-dataset DIR --test-dataset DIR --max-minutes 10
python npp_rl/ppo_local_frames_only.py --resume runs/ppo_local_frames_only__1__...
"""

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from npp_rl.commands import ArgumentError, StopSignals, command  # first: it answers signals

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic GPU kernels need this

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from npp_rl.environment.graph import GRAPH_OBSERVATIONS, GRAPH_SLOTS
from npp_rl.evaluation import analysis, intervals, players, result_files, suite, summary
from npp_rl.levels import datasets
from npp_rl.training import checkpoints, processes, run_folder
from npp_rl.training.arguments import parse_args, plain_args
from npp_rl.training.clock import Clock
from npp_rl.training.cuda_graph import Graphed
from npp_rl.training.episodes import begin_envs, episode_metrics, rules_of
from npp_rl.training.graph_attention import attention
from npp_rl.training.graph_tables import pack_graphs, readout, typed_linear
from npp_rl.training.picture_layers import convolution, first_convolution
from npp_rl.training.pretraining import Pretraining
from npp_rl.training.run_log import LOSSES, start_log
from npp_rl.training.weights import Adam, Weights


# Args: this part differs between the scripts.
@dataclass
class Args:
    exp_name: str = "ppo_local_frames_only"  # name of the run, and first part of its folder's name
    label: str = ""  # a name for this configuration, told apart in comparisons
    seed: int = 1  # seed of everything: weights, levels, actions, minibatches
    torch_deterministic: bool = True  # ask torch for deterministic kernels
    cuda: bool = True  # use a GPU if there is one
    threads: int = 0  # CPU threads (0: one per processor); without a GPU split over as many processes as can be
    track: bool = False  # mirror the metrics to Weights and Biases (WANDB_MODE=offline keeps them on disk)
    wandb_project_name: str = "npp-rl"  # project on Weights and Biases
    wandb_entity: str | None = None  # team on Weights and Biases
    wandb_group: str | None = None  # group on Weights and Biases (default: the architecture)
    wandb_tags: tuple[str, ...] = ()  # tags on Weights and Biases
    capture_video: bool = False  # record videos of won and lost test episodes of each category in RUN_DIR/videos
    run_dir: str | None = None  # folder of the run (default: runs/<exp_name>__<seed>__<time>)
    resume: str | None = None  # continue the run in this folder, or at this s3:// URL, with its arguments
    s3_bucket: str | None = None  # upload the run directory to this S3 bucket, as <s3_prefix>/<its name>
    s3_prefix: str = ""  # prefix of the S3 keys
    s3_endpoint_url: str | None = None  # S3 server other than AWS, such as http://127.0.0.1:9000
    s3_sync_freq: int = 1_000_000  # environment steps between uploads of new files (0: only at the start and the end)
    s3_dry_run: bool = False  # print what would be uploaded, and send nothing

    train_dataset: str = "builtin"  # `builtin`, a folder or file of levels, or several with commas between
    test_dataset: str = "builtin"  # the same; if both are one data set, a hash of the tiles splits it
    holdout_fraction: float = 0.2  # share of the levels kept for the test if one folder is both data sets
    validation_fraction: float = 0.05  # share of the training levels kept to choose the best checkpoint
    fresh_levels: int = 900  # training levels that each renewal generates, besides the data set's own
    drawn_share: float = 0.5  # share of the fresh levels that are drawn as people draw, with what moves
    mirror: bool = True  # at each renewal, mirror each of the data set's levels with probability 1/2
    renew_freq: int = 500_000  # environment steps between renewals of the training levels (0: never)
    learnability: float = 0.5  # share of the games on levels that are won sometimes
    frame_skip: int = 4  # frames (1/60 s) for which an action is held
    evaluations: int = 4  # evaluations on validation levels at equal shares of the run (0: none but --eval-freq's)
    eval_freq: int = 0  # environment steps between further evaluations on the validation levels (0: none)
    save_freq: int = 200_000  # environment steps between checkpoints (0: only at the end)

    total_timesteps: int = 2_000_000  # environment steps of the run
    max_minutes: float | None = None  # minutes until the report once the simulator is ready; instead of total_timesteps
    learning_rate: float = 1.5e-3  # initial learning rate of Adam
    num_envs: int = 64  # number of environments over all processes
    num_steps: int = 64  # steps in each environment per iteration
    anneal_lr: bool = True  # anneal the learning rate linearly to zero
    gamma: float = 0.99  # discount factor per step
    gae_lambda: float = 0.95  # lambda of generalised advantage estimation
    num_minibatches: int = 32  # minibatches per epoch
    update_epochs: int = 1  # epochs (passes over a rollout) per iteration
    norm_adv: bool = True  # normalise advantages in each minibatch
    clip_coef: float = 0.2  # clipping range of the probability ratio
    clip_vloss: bool = False  # clip the value loss too
    ent_coef: float = 0.01  # initial weight of the entropy bonus
    anneal_ent: bool = True  # anneal the entropy bonus linearly to zero
    vf_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # maximum norm of the gradient
    target_kl: float | None = None  # end an update early if a minibatch's KL divergence exceeds this
    mixed_precision: bool = False  # forward passes in bfloat16 (on GPUs without it, float16 with loss scaling)
    compile: bool = False  # compile the network with torch.compile
    cudagraphs: bool = False  # run whole updates and rollout steps of the network as CUDA graphs; needs a GPU
    pretrained_checkpoint: str | None = None  # start with the weights that fit of this file, folder or zoo:NAME
    freeze: tuple[str, ...] = ()  # parts of the pretrained agent that do not learn, such as `state` or `layers.0`
    value_warmup_steps: int = 0  # first environment steps of a pretrained run, in which only the critic's head learns
    kl_coef: float = 0.0  # initial weight of the KL divergence from the pretrained policy
    kl_steps: int = 1_000_000  # environment steps over which that weight falls to zero

    size: Literal["auto", "small", "full"] = "auto"  # preset of the sizes below (auto: full on a GPU, else small)
    frame_stack: int | None = None  # number of stacked pictures around the ninja (default: by size)
    cnn_channels: tuple[int, int, int] | None = None  # channels of the three convolutions (default: by size)
    hidden: int | None = None  # width of the encoders of the state, and of reachability with arcs (default: by size)
    graph_hidden: int | None = None  # width of the graph layers (default: by size)
    graph_layers: int = 3  # number of graph layers
    graph_heads: int = 8  # attention heads per graph layer
    fusion_heads: int = 8  # attention heads in the fusion
    features: int | None = None  # width of the fused features (default: by size)


# End of Args.


# Agent: this part differs between the scripts.
ARCHITECTURE = "local_frames_only"
SIZES = {
    "small": {"frame_stack": 4, "cnn_channels": (8, 16, 32), "graph_hidden": 64, "hidden": 128, "features": 128},
    "full": {"frame_stack": 12, "cnn_channels": (32, 64, 128), "graph_hidden": 256, "hidden": 128, "features": 512},
}


def layer_init(layer, std=2**0.5, bias=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias)
    return layer


def mlp(inputs, hidden, outputs):
    return nn.Sequential(
        layer_init(nn.Linear(inputs, hidden)), nn.ReLU(), layer_init(nn.Linear(hidden, outputs)), nn.ReLU()
    )


class CNN(nn.Module):
    """Three 3D convolutions and a linear layer: pictures uint8 [B, k, height, width] -> [B, outputs].

    The first convolution reads patches that do not overlap, which is cheap where the pictures are largest. Together
    the three reduce the depth k to 1. With k = 1 they are 2D convolutions.
    """

    def __init__(self, shape, channels, outputs):
        super().__init__()
        (k, height, width), (a, b, c) = shape, channels
        depth = min(k, 2), min(max(k // 2, 1), 2), max(k // 4, 1)
        if math.prod(depth) != k:
            raise ArgumentError(f"--frame-stack {k}: expected 1, 2 or a multiple of 4")
        conv1 = nn.Conv3d(1, a, (depth[0], 4, 4), (depth[0], 4, 4))
        conv2 = nn.Conv3d(a, b, (depth[1], 3, 3), (depth[1], 2, 2), (0, 1, 1))
        conv3 = nn.Conv3d(b, c, (depth[2], 3, 3), (depth[2], 2, 2), (0, 1, 1))
        convs = nn.ModuleList(layer_init(conv) for conv in (conv1, conv2, conv3))
        self.convs = convs.to(memory_format=torch.channels_last_3d)
        self.linear = layer_init(nn.Linear(c * math.ceil(height / 16) * math.ceil(width / 16), outputs))

    def forward(self, pictures):
        x = first_convolution(pictures, self.convs[0])
        for conv in self.convs[1:]:
            x = convolution(x, conv)
        return torch.relu(self.linear(x.flatten(1)))


class HGTLayer(nn.Module):
    """Heterogeneous Graph Transformer layer (Hu et al. 2020, section 3) for two edge types."""

    def __init__(self, types: int, width: int, heads: int):
        super().__init__()
        dim = width // heads
        if dim * heads != width:
            raise ArgumentError(f"--graph-heads {heads}: expected a divisor of --graph-hidden {width}")
        self.qkv = nn.Parameter(torch.zeros(3, types, width + 1, heads, dim))  # maps per node type, bias last
        self.w_edge = nn.Parameter(torch.empty(2, 2, heads, dim, dim))  # attention and message matrices per edge type
        self.mu = nn.Parameter(torch.ones(types, 2, types, heads))
        self.w_out = nn.Parameter(torch.zeros(types, width + 1, width))
        self.skip = nn.Parameter(torch.ones(types))
        for weight, size in ((self.qkv[:, :, :-1], width), (self.w_edge, dim), (self.w_out[:, :-1], width)):
            nn.init.uniform_(weight.data, -math.sqrt(3 / size), math.sqrt(3 / size))  # Glorot

    def forward(self, x, graphs):
        """x float32 [M, width] -> the same."""
        h = attention(x, self.qkv, self.w_edge, self.mu, graphs)  # equations 3 and 4
        share = torch.sigmoid(self.skip)
        weight = share[:, None, None] * self.w_out
        return typed_linear(nn.functional.gelu(h), graphs, weight, residual=x, kept=1 - share)  # equation 5


class CrossModalAttention(nn.Module):
    """Self-attention over tokens [B, modalities, width] (Vaswani et al. 2017, section 3.2), with a residual."""

    def __init__(self, width, heads):
        super().__init__()
        if width % heads:
            raise ArgumentError(f"--fusion-heads {heads}: expected a divisor of --features {width}")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)  # a bias of k has no effect under a softmax
        self.out = layer_init(nn.Linear(width, width), std=1.0)

    def forward(self, tokens):
        q, k, v = self.qkv(self.norm(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attn = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[3]), 3)  # (B, heads, modalities, modalities)
        return tokens + self.out((attn @ v).transpose(1, 2).flatten(2))


class Agent(nn.Module):
    """3D CNN over frames, HGT over the level graph, MLPs over vectors, fused by multi-head attention.

    Observations: `player_frames` uint8 [B, k, 84, 84], `game_state` float32 [B, S], `reachability` float32 [B, R],
    `arcs` float32 [B, A, F], `graph_nodes` float32 [B, N, F], `graph_node_mask` uint8 [B, N], `graph_adjacent` and
    `graph_reachable` int16 [B, N, slots] (-1 = no edge).
    """

    observations = ("player_frames", "game_state", "reachability", "arcs", *GRAPH_OBSERVATIONS)

    def __init__(self, shapes: dict[str, tuple[int, ...]], args: Args):
        super().__init__()
        self.frames = CNN(shapes["player_frames"], args.cnn_channels, args.features)
        self.state = mlp(math.prod(shapes["game_state"]), args.hidden, args.hidden)
        ahead = math.prod(shapes["reachability"]) + math.prod(shapes["arcs"])
        self.ahead = mlp(ahead, args.hidden, args.hidden)
        types, width, inputs = len(GRAPH_SLOTS), args.graph_hidden, shapes["graph_nodes"][1]
        self.embed = nn.ModuleList(layer_init(nn.Linear(inputs, width)) for _ in GRAPH_SLOTS)
        self.layers = nn.ModuleList(HGTLayer(types, width, args.graph_heads) for _ in range(args.graph_layers))
        widths = args.features, args.hidden, args.hidden, 7 * width
        self.tokens = nn.ModuleList(layer_init(nn.Linear(n, args.features)) for n in widths)
        self.attend = CrossModalAttention(args.features, args.fusion_heads)
        self.fuse = layer_init(nn.Linear(len(widths) * args.features, args.features))
        self.actor = layer_init(nn.Linear(args.features, 6), std=0.01)
        self.critic = layer_init(nn.Linear(args.features, 1), std=1.0)

    def encode_graph(self, x):
        """Mean of the features over tiles and maximum over the nodes of each type: [B, 7 * graph_hidden]."""
        slots = [count for _, _, count in GRAPH_SLOTS]
        graphs = pack_graphs(x["graph_node_mask"], x["graph_adjacent"], x["graph_reachable"], slots, not self.training)
        nodes = x["graph_nodes"].flatten(0, 1)[graphs.slots]  # (M, F)
        h = torch.relu(typed_linear(nodes, graphs, *self.embed.parameters()))
        for layer in self.layers:
            h = layer(h, graphs)
        return readout(h, graphs)

    def encode(self, x):
        frames = self.frames(x["player_frames"])
        ahead = torch.cat((x["reachability"], x["arcs"].flatten(1)), 1)
        vectors = self.state(x["game_state"]), self.ahead(ahead)
        parts = frames, *vectors, self.encode_graph(x)
        tokens = torch.stack([token(part) for token, part in zip(self.tokens, parts, strict=True)], 1)
        return torch.relu(self.fuse(self.attend(tokens).flatten(1)))  # (B, features)

    def heads(self, x):
        """Logits float32 [B, 6] and value float32 [B], computed in float32 even under autocast."""
        features = self.encode(x)
        with torch.autocast(features.device.type, enabled=False):
            return self.actor(features.float()), self.critic(features.float()).squeeze(1)

    def get_logits(self, x):
        return self.heads(x)[0]

    def get_value(self, x):
        return self.heads(x)[1]

    def get_action_and_value(self, x):
        """Sampled action int64 [B], its log-probability and the value, both float32 [B]."""
        logits, value = self.heads(x)
        logprobs = torch.log_softmax(logits, 1)
        probs = logprobs.exp()  # a sample: the arg max of p / Exponential(1) noise
        action = (probs / torch.empty_like(probs).exponential_()).argmax(1)
        return action, logprobs.gather(1, action[:, None]).squeeze(1), value


# End of Agent. From here on all scripts are the same.
def gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    """Generalised advantage estimation (arXiv 1506.02438): NumPy arrays [T, N] -> float32 [T, N].

    `next_values[t]` is the value of the observation after step t, or of the last one of an episode that ended there. A
    truncated step bootstraps from it, a terminated step does not. Estimates stop at the end of an episode.
    """
    delta = rewards + gamma * ~terminated * next_values - values
    decay = np.float32(gamma * gae_lambda) * ~(terminated | truncated)
    advantages = np.zeros_like(values)
    lastgaelam = np.zeros_like(values[0])
    for t in reversed(range(len(values))):
        advantages[t] = lastgaelam = delta[t] + decay[t] * lastgaelam
    return advantages


def minibatches_of(b_advantages, args, process):
    """The minibatches of an epoch, in random order: rows int64 [B], and their advantages float32 [B].

    Advantages are normalised in each minibatch, over the rows of all ranks.
    """
    b_inds = torch.randperm(len(b_advantages), device=b_advantages.device).view(args.num_minibatches, -1)
    mb_advantages = b_advantages[b_inds]
    rows = b_inds.shape[1] * process.world_size
    if args.norm_adv and rows > 1:  # one row has no standard deviation
        double = mb_advantages.double()
        moments = torch.stack((double.sum(1), double.square().sum(1)))
        if process.world_size > 1:
            dist.all_reduce(moments)
        mean = moments[0] / rows
        std = ((moments[1] - rows * mean.square()).clamp_min(0) / (rows - 1)).sqrt()
        mb_advantages = (mb_advantages - mean[:, None].float()) / (std[:, None].float() + 1e-8)
    return zip(b_inds, mb_advantages, strict=True)


def main(args: Args) -> Path:
    """Train, evaluate, report -> the run directory. Raises UserError, FloatingPointError, OSError."""
    # Each process ("rank") has its share of the environments. Only rank 0 writes files.
    process = processes.begin(args, SIZES)
    rank, world_size, device = process.rank, process.world_size, process.device
    num_envs = args.num_envs // world_size  # of this rank
    result_files.check_video(args.capture_video)
    run_dir = run_folder.path_of(args)
    lock, sync = run_folder.begin(run_dir, args) if rank == 0 else (None, None)  # noqa: RUF059  (held until the end)

    # Levels and environments
    own_levels, validation_levels, test_levels = datasets.load_split(
        args.train_dataset, args.test_dataset, args.holdout_fraction, args.validation_fraction
    )
    analysis.compile_ahead(Agent.observations)  # now, so that the simulator is not compiled while the clock runs
    clock = Clock(args.max_minutes, args.capture_video)
    levels_digest = checkpoints.digest_of(own_levels, validation_levels, test_levels)
    checkpoint, counters = checkpoints.load_latest(run_dir, args, levels_digest, world_size)
    rules = rules_of(args, Agent.observations)
    held_out = validation_levels + test_levels
    envs, next_obs = begin_envs(args, process, rules, own_levels, held_out, counters.renewal)

    # Agent and optimizer
    torch.manual_seed(process.weights_seed)
    shapes = {key: list(space.shape) for key, space in envs.single_observation_space.items()}
    agent = Agent(shapes, args).to(device)
    pretraining = Pretraining(args, ARCHITECTURE, agent, checkpoint)
    weights = Weights(agent, process)
    lr = torch.tensor(args.learning_rate, device=device)
    optimizer = Adam(weights.flat, lr=lr, eps=1e-5, fused=True, capturable=args.cudagraphs)
    scaler = torch.amp.GradScaler(device.type, enabled=args.mixed_precision and process.amp_dtype == torch.float16)
    autocast = {"device_type": device.type, "dtype": process.amp_dtype, "enabled": args.mixed_precision}
    if args.compile:
        agent.heads = torch.compile(agent.heads)
    policy = players.agent_policy(agent, device, next_obs)
    torch.manual_seed(process.torch_seed)

    # Rollout storage. `obs` keeps the environment's dtypes, and the agent converts them.
    obs = {k: torch.from_numpy(v).to(device).new_zeros((args.num_steps, *v.shape)) for k, v in next_obs.items()}
    actions = torch.zeros((args.num_steps, num_envs), dtype=torch.int64, device=device)
    logprobs = torch.zeros((args.num_steps, num_envs), device=device)
    values = torch.zeros((args.num_steps, num_envs), device=device)
    rewards, next_values = np.zeros((2, args.num_steps, num_envs), np.float32)
    terminated, truncated = np.zeros((2, args.num_steps, num_envs), bool)
    last_obs = {key: np.zeros_like(value) for key, value in next_obs.items()}
    b_obs = {key: value.flatten(0, 1) for key, value in obs.items()}  # views of the storage
    b_actions, b_logprobs, b_values = actions.flatten(), logprobs.flatten(), values.flatten()
    b_advantages, b_returns = torch.zeros((2, len(b_actions)), device=device)
    ent_coef = torch.zeros((), device=device)

    def act(x):
        with torch.no_grad(), torch.autocast(**autocast):
            return agent.get_action_and_value(x)

    def update(mb_inds, mb_advantages):
        """Train on a minibatch: rows int64 [B] of the batch, their advantages float32 [B] -> values of LOSSES."""
        mb_obs = {key: value.index_select(0, mb_inds) for key, value in b_obs.items()}
        with torch.autocast(**autocast):
            logits, newvalue = agent.heads(mb_obs)
        newlogprobs = torch.log_softmax(logits, 1)
        newlogprob = newlogprobs.gather(1, b_actions[mb_inds, None]).squeeze(1)
        logratio = newlogprob - b_logprobs[mb_inds]
        ratio = logratio.exp()

        # Policy loss
        pg_loss1 = -mb_advantages * ratio
        pg_loss2 = -mb_advantages * ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
        pg_loss = torch.max(pg_loss1, pg_loss2).mean()

        # Value loss
        v_loss = (newvalue - b_returns[mb_inds]).square()
        if args.clip_vloss:
            change = (newvalue - b_values[mb_inds]).clamp(-args.clip_coef, args.clip_coef)
            v_loss = torch.max(v_loss, (b_values[mb_inds] + change - b_returns[mb_inds]).square())
        v_loss = 0.5 * v_loss.mean()

        # Entropy, divergence from the pretrained policy, total loss
        entropy_loss = -(newlogprobs.exp() * newlogprobs).sum(1).mean()
        kl_loss, weighted_kl_loss = pretraining.kl_loss(mb_obs, newlogprobs, autocast)
        loss = pg_loss - ent_coef * entropy_loss + args.vf_coef * v_loss + weighted_kl_loss

        # Optimizer step
        scaler.scale(loss).backward()
        pretraining.drop_gradients(agent)
        weights.gather_gradients()
        scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(weights.flat, args.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()

        with torch.no_grad():  # http://joschu.net/blog/kl-approx.html
            approx_kl = ((ratio - 1) - logratio).mean()
            clipfrac = ((ratio - 1).abs() > args.clip_coef).float().mean()
            old_approx_kl = -logratio.mean()
            means = (pg_loss, v_loss, entropy_loss, old_approx_kl, approx_kl, clipfrac, kl_loss, grad_norm)
            return torch.stack(means)

    act_step, update_step = (Graphed(act), None) if args.cudagraphs else (act, update)

    if checkpoint:  # a resumed run continues from this and `counters`
        next_obs = checkpoints.restore(checkpoint, run_dir, agent, optimizer, scaler, process, envs)
    if rank == 0:
        counts = {"train": len(own_levels), "validation": len(validation_levels), "test": len(test_levels)}
        about = {"architecture": ARCHITECTURE, "observation_shapes": shapes, "levels": counts}
        run_log = start_log(run_dir, about, args, agent, process, checkpoint, counters.global_step, sync)
    stop = StopSignals()  # after a signal the loop saves and ends
    lengths = suite.levels_per_row(validation_levels), suite.levels_per_row(test_levels)
    clock.begin(counters, checkpoint is not None, counters.global_step / args.total_timesteps, *lengths)

    while True:
        # Rank 0's clock decides for all ranks. A signal to any rank stops all. Schedules follow `progress`.
        progress, stopped = processes.agree(clock.progress(counters.global_step / args.total_timesteps), stop, process)
        finished = progress >= 1

        # Validation: at the start, at equal shares of the run (--evaluations), every --eval-freq steps, and at the end
        improved = finished and not (validation_levels and args.evaluations + args.eval_freq)  # the last agent is best
        if counters.evaluation_due(args, progress) and validation_levels and not stopped:
            began = clock.minutes()
            results = suite.evaluate(policy, validation_levels, **rules, examined=False, stop=stop)
            stopped = results is None
            if not stopped:
                counters.evaluated_at, counters.evaluated_share = counters.global_step, progress
                lasted = clock.note_evaluation(began, untrained=counters.global_step == 0)
                # The newer agent becomes best.pt unless it is significantly worse on the same levels.
                won = [entry["success_rate"] for entry in results["levels"]]
                improved, counters.most_won = intervals.keep_newer(won, counters.most_won)
                if rank == 0:
                    metrics = summary.scalars(results, "eval") | {"time/evaluation": 60 * lasted}
                    run_log.evaluation(counters.global_step, clock.minutes(), metrics)

        # Checkpoints: best.pt holds the agent, latest.pt everything that a resumed run needs
        state = {"architecture": ARCHITECTURE, "args": plain_args(args), "observation_shapes": shapes}
        state |= {"agent": agent.state_dict(), "trained_on": pretraining.trained_on(own_levels + validation_levels)}
        if rank == 0 and improved:
            checkpoints.save(run_dir / "checkpoints/best.pt", {**state, "global_step": counters.global_step})
        if finished or stopped or counters.due(args.save_freq, counters.saved_at):
            counters.saved_at = counters.global_step
            clock.save(counters)
            state |= {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict(), **pretraining.state()}
            state["levels_digest"] = levels_digest
            checkpoints.save_latest(run_dir, state, counters, envs.get_state(), process, run_log if rank == 0 else None)
        if finished or stopped:
            break
        clock.begin_iteration()
        lr.fill_(args.learning_rate * (1 - progress * args.anneal_lr))
        ent_coef.fill_(args.ent_coef * (1 - progress * args.anneal_ent))
        if args.renew_freq and counters.global_step // args.renew_freq > counters.renewal:
            counters.renewal = counters.global_step // args.renew_freq
            envs.close()
            envs, next_obs = begin_envs(args, process, rules, own_levels, held_out, counters.renewal, envs)

        # Rollout
        episodes = []  # statistics of the episodes that ended
        cut_at, cut_obs = [], {key: [] for key in obs}  # truncated steps, and the last observations of their episodes
        for step in range(args.num_steps):
            for key, storage in obs.items():
                storage[step].copy_(torch.from_numpy(next_obs[key]), non_blocking=True)
            clock.lap("rest")
            action, logprobs[step], values[step] = act_step({key: storage[step] for key, storage in obs.items()})
            actions[step] = action
            action = action.cpu().numpy()  # waits for the GPU
            clock.lap("inference")
            next_obs, rewards[step], terminated[step], truncated[step], infos = envs.step(action)
            clock.lap("env")
            if "_outcome" in infos:
                done = np.flatnonzero(infos["_outcome"])
                episodes.append({key: column[done] for key, column in infos["outcome"].items()})
                cut = done[truncated[step, done]]
                if len(cut):
                    cut_at.append(step * num_envs + cut)
                    for key, rows in cut_obs.items():
                        rows.append(infos["final_obs"][key][cut])
        counters.global_step += args.num_envs * args.num_steps

        # Values of the next observations (in batches of one shape, for torch.compile), advantages, returns
        clock.lap("rest")
        with torch.no_grad(), torch.autocast(**autocast):
            next_value = agent.get_value({key: torch.from_numpy(next_obs[key]).to(device) for key in obs})
            next_values[:-1], next_values[-1] = values[1:].cpu().numpy(), next_value.cpu().numpy()
            if cut_at:
                cut_at = np.concatenate(cut_at)
                cut_obs = {key: np.concatenate(rows) for key, rows in cut_obs.items()}
                for first in range(0, len(cut_at), num_envs):
                    rows = cut_at[first : first + num_envs]
                    for key, value in last_obs.items():
                        value[: len(rows)] = cut_obs[key][first : first + num_envs]
                    last_value = agent.get_value({key: torch.from_numpy(v).to(device) for key, v in last_obs.items()})
                    next_values.reshape(-1)[rows] = last_value[: len(rows)].cpu().numpy()
        clock.lap("inference")
        old_values = values.cpu().numpy()
        advantages = gae(rewards, old_values, next_values, terminated, truncated, args.gamma, args.gae_lambda)
        returns = advantages + old_values
        clock.lap("rest")

        # Update
        b_advantages.copy_(torch.from_numpy(advantages).flatten())
        b_returns.copy_(torch.from_numpy(returns).flatten())
        if pretraining.begin_updates(counters.global_step) and args.cudagraphs:
            update_step = Graphed(update)  # updates are other operations now
        losses = torch.zeros(len(LOSSES), device=device)  # sums over minibatches, read once per iteration
        minibatches = 0
        epochs = (minibatches_of(b_advantages, args, process) for _ in range(args.update_epochs))
        for mb_inds, mb_advantages in itertools.chain.from_iterable(epochs):
            means = update_step(mb_inds, mb_advantages)
            losses += means
            minibatches += 1
            if args.target_kl is not None:
                approx_kl = means[LOSSES.index("losses/approx_kl")]
                if world_size > 1:
                    dist.all_reduce(approx_kl)
                if approx_kl / world_size > args.target_kl:  # waits for the GPU
                    break
        if world_size > 1:
            dist.all_reduce(losses)
        losses = (losses / (minibatches * world_size)).tolist()  # waits for the GPU
        clock.lap("update")

        metrics = episode_metrics(episodes, envs.levels, own_levels, device)  # of all ranks
        metrics |= dict(zip(LOSSES, losses, strict=True)) | clock.speed(args.num_envs * args.num_steps)
        if rank == 0:
            metrics["charts/learning_rate"] = lr.item()
            metrics["losses/explained_variance"] = 1 - np.var(returns - old_values) / max(np.var(returns), 1e-12)
            left = clock.minutes_left(counters.global_step / args.total_timesteps)
            run_log.iteration(counters, clock.minutes(), left, metrics)  # raises if a loss is not finite
            if sync and counters.due(args.s3_sync_freq, counters.global_step - args.num_envs * args.num_steps):
                sync.request()
            clock.lap("rest")  # counts for the next iteration

    # Test: the agent in best.pt plays the test suite once
    best = {} if stopped else checkpoints.load_best(run_dir, agent, device)
    results = None if stopped else suite.evaluate(policy, test_levels, **rules, stop=stop)
    stop.restore()
    if rank == 0:
        result_files.finish(run_log, clock, results, best, SIZES[args.size], test_levels, stop)
    if sync:
        sync.finish(timeout=20 if results is None else 300)
    envs.close()
    processes.leave()
    return run_dir


if __name__ == "__main__":
    command(main, Args, parse_args)
