"""PPO on N++ with a Heterogeneous Graph Transformer over the level graph, and MLPs over the ninja's state; no pictures.

python npp_rl/ppo_vision_free.py                                      # built-in levels
python npp_rl/ppo_vision_free.py --train-dataset DIR --test-dataset DIR --max-minutes 10
python npp_rl/ppo_vision_free.py --resume runs/ppo_vision_free__1__...
torchrun --nproc-per-node 2 npp_rl/ppo_vision_free.py --num-envs 512
"""

import copy
import dataclasses
import hashlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

os.environ.setdefault("GOMP_SPINCOUNT", "100000")  # read when torch loads: threads that wait leave the cores to others
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic kernels on GPUs ask for

import numpy as np
import torch
import torch.distributed as dist
from gymnasium.vector import AutoresetMode
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel

from npp_rl.commands import ArgumentError, StopSignals, command, say
from npp_rl.environment.env import GRAPH_OBSERVATIONS, GRAPH_SLOTS, NppVectorEnv
from npp_rl.evaluation import analysis, players, result_files, suite, summary
from npp_rl.levels import datasets
from npp_rl.planning import demonstrations
from npp_rl.training import checkpoints, processes, s3
from npp_rl.training.arguments import parse_args, plain_args
from npp_rl.training.episodes import episode_metrics
from npp_rl.training.graph_attention import attention, pack_graphs
from npp_rl.training.run_log import RunLog, describe_system


# Args: this part differs between the scripts.
@dataclass
class Args:
    exp_name: str = "ppo_vision_free"  # name of the run, first part of its folder
    seed: int = 1  # seed of everything: weights, levels, actions, minibatches
    torch_deterministic: bool = True  # ask torch for deterministic kernels
    cuda: bool = True  # use the GPU where there is one
    threads: int = 0  # CPU threads for updates and the simulator (0: this process's share of the processors)
    inference_threads: int = 0  # CPU threads of the policy in rollouts and evaluations (0: as many as in updates)
    track: bool = False  # mirror the metrics to Weights and Biases (WANDB_MODE=offline keeps them on disk)
    wandb_project_name: str = "npp-rl"  # project on Weights and Biases
    wandb_entity: str | None = None  # team on Weights and Biases
    wandb_group: str | None = None  # group on Weights and Biases (default: the architecture)
    wandb_tags: tuple[str, ...] = ()  # tags on Weights and Biases
    capture_video: bool = False  # film won and lost test episodes of each category, in the run's folder `videos`
    run_dir: str | None = None  # folder of the run (default: runs/<exp_name>__<seed>__<time>)
    resume: str | None = None  # continue the run in this folder, or at this s3:// URL, with its arguments
    s3_bucket: str | None = None  # keep the run directory in this S3 bucket, at <s3_prefix>/<its name>
    s3_prefix: str = ""  # first part of the keys
    s3_endpoint_url: str | None = None  # server other than AWS, such as http://127.0.0.1:9000
    s3_sync_freq: int = 1_000_000  # environment steps between uploads of what is new (0: only at the ends)
    s3_dry_run: bool = False  # say what would be uploaded, send nothing

    train_dataset: str = "builtin"  # `builtin`, a folder of N++ map files, or a folder of category folders
    test_dataset: str = "builtin"  # the same; one data set for both is divided by a hash of the tiles
    holdout_fraction: float = 0.2  # share of levels kept for the test where one folder is both data sets
    validation_fraction: float = 0.05  # share of the training levels kept to choose the best checkpoint
    fresh_levels: int = 900  # training levels generated anew at each renewal, beside the data set's own
    mirror: bool = True  # show each own training level as it is or, as chance has it, mirrored
    renew_freq: int = 500_000  # environment steps between renewals of the training levels (0: never)
    frame_skip: int = 4  # frames (1/60 s) that an action is held
    eval_freq: int = 200_000  # environment steps between evaluations on the validation levels (0: never)
    save_freq: int = 200_000  # environment steps between checkpoints (0: only at the end)

    total_timesteps: int = 2_000_000  # environment steps of the run
    max_minutes: float | None = None  # minutes from start to report; instead of total_timesteps it ends the run
    learning_rate: float = 1.5e-3  # Adam's learning rate at the start
    num_envs: int = 64  # environments, over all processes
    num_steps: int = 64  # steps of each environment per iteration
    anneal_lr: bool = True  # bring the learning rate to zero linearly
    gamma: float = 0.99  # discount per step
    gae_lambda: float = 0.95  # lambda of generalised advantage estimation
    num_minibatches: int = 32  # minibatches per epoch
    update_epochs: int = 1  # passes over a rollout
    norm_adv: bool = True  # normalise advantages in each minibatch
    clip_coef: float = 0.2  # clipping range of the probability ratio
    clip_vloss: bool = False  # clip the value loss too
    ent_coef: float = 0.01  # weight of the entropy bonus at the start
    anneal_ent: bool = True  # bring the entropy bonus to zero linearly
    vf_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # largest norm of the gradient
    target_kl: float | None = None  # end an update early at this divergence from the old policy
    mixed_precision: bool = False  # bfloat16 in forward passes (float16 with loss scaling on GPUs without it)
    compile: bool = False  # torch.compile of the network
    cudagraphs: bool = False  # with --compile on a GPU: CUDA graphs of it
    pretrained_checkpoint: str | None = None  # begin with the weights in this file, such as bc_pretrain.py's best.pt
    value_warmup_steps: int = 0  # environment steps after pretraining in which only the critic's head learns
    kl_coef: float = 0.0  # weight of the divergence from the pretrained policy, at the start
    kl_steps: int = 1_000_000  # environment steps in which that weight falls to zero
    replay_data_dir: tuple[str, ...] = ()  # folders of replays that are imitated beside the update (see --demo-coef)
    demo_coef: float = 0.0  # weight of the demonstrations' loss; a fourth as many rows of them join each minibatch

    size: Literal["auto", "small", "full"] = "auto"  # preset of the sizes below (auto: full on a GPU, small without)
    hidden: int | None = None  # width of the two vector encoders (default: by size)
    graph_hidden: int | None = None  # width of the graph layers (default: by size)
    graph_layers: int = 3  # graph layers
    graph_heads: int = 8  # attention heads of a graph layer
    features: int | None = None  # width of the fused features (default: by size)


# End of Args.


# Agent: this part differs between the scripts.
ARCHITECTURE = "vision_free"
SIZES = {
    "small": {"graph_hidden": 64, "hidden": 64, "features": 128},
    "full": {"graph_hidden": 256, "hidden": 128, "features": 384},
}


def layer_init(layer, std=2**0.5, bias=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias)
    return layer


def mlp(inputs, hidden, outputs):
    return nn.Sequential(
        layer_init(nn.Linear(inputs, hidden)), nn.ReLU(), layer_init(nn.Linear(hidden, outputs)), nn.ReLU()
    )


def typed_linear(x, counts, weight):
    """Map rows [M, in], sorted by type, with their type's weight [types, in + 1, out], bias last -> [M, out]."""
    return torch.cat([torch.addmm(w[-1], part, w[:-1]) for part, w in zip(x.split(counts), weight, strict=True)])


class HGTLayer(nn.Module):
    """Layer of the Heterogeneous Graph Transformer (Hu et al. 2020, section 3) for two edge types."""

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
        k_and_v = torch.einsum("atchd,rahde->tcrahe", self.qkv[1:], self.w_edge)  # with equations 3 and 4 in one
        maps = torch.cat([self.qkv[0].flatten(2), k_and_v.flatten(2)], 2)  # (types, width + 1, 5 * width)
        h = attention(typed_linear(x, graphs.counts, maps), self.mu, graphs)
        share = torch.sigmoid(self.skip)[:, None]
        h = typed_linear(nn.functional.gelu(h), graphs.counts, share[:, None] * self.w_out)  # equation 5
        kept = torch.cat([part.expand(count, 1) for part, count in zip(1 - share, graphs.counts, strict=True)])
        return torch.addcmul(h, x, kept)


class Agent(nn.Module):
    """HGT over the level graph, MLPs over state and reachability; their concatenation fused; actor and critic head.

    Observations: `game_state` float32 [B, S], `reachability` float32 [B, R], `arcs` float32 [B, A, F], `graph_nodes`
    float32 [B, N, F], `graph_node_mask` uint8 [B, N], `graph_adjacent` and `graph_reachable` int16 [B, N, slots] (-1 =
    no edge).
    """

    observations = ("game_state", "reachability", "arcs", *GRAPH_OBSERVATIONS)

    def __init__(self, shapes: dict[str, tuple[int, ...]], args: Args):
        super().__init__()
        self.state = mlp(math.prod(shapes["game_state"]), args.hidden, args.hidden)
        ahead = math.prod(shapes["reachability"]) + math.prod(shapes["arcs"])
        self.ahead = mlp(ahead, args.hidden, args.hidden)
        types, width, inputs = len(GRAPH_SLOTS), args.graph_hidden, shapes["graph_nodes"][1]
        self.embed = nn.ModuleList(layer_init(nn.Linear(inputs, width)) for _ in GRAPH_SLOTS)
        self.layers = nn.ModuleList(HGTLayer(types, width, args.graph_heads) for _ in range(args.graph_layers))
        self.fuse = layer_init(nn.Linear(2 * args.hidden + 7 * width, args.features))
        self.actor = layer_init(nn.Linear(args.features, 6), std=0.01)
        self.critic = layer_init(nn.Linear(args.features, 1), std=1.0)

    def encode_graph(self, x):
        """Mean of the features over tiles, and their largest values over each type of nodes: (B, 7 * graph_hidden)."""
        slots = [count for _, _, count in GRAPH_SLOTS]
        graphs = pack_graphs(x["graph_node_mask"], x["graph_adjacent"], x["graph_reachable"], slots, not self.training)
        parts = x["graph_nodes"].flatten(0, 1)[graphs.slots].split(graphs.counts)  # (rows of the type, F) each
        h = torch.relu(torch.cat([embed(part) for embed, part in zip(self.embed, parts, strict=True)]))
        for layer in self.layers:
            h = layer(h, graphs)
        table = h.new_zeros(graphs.row.numel(), h.shape[1]).index_copy(0, graphs.slots, torch.relu(h))
        table = table.view(*graphs.row.shape, -1).masked_fill(graphs.row.unsqueeze(2) < 0, 0)  # (B, N, graph_hidden)
        tiles = graphs.row[:, : slots[0]].ge(0).sum(1, keepdim=True).clamp(min=1)
        return torch.cat([table[:, : slots[0]].sum(1) / tiles, *(part.amax(1) for part in table.split(slots, 1))], 1)

    def encode(self, x):
        ahead = torch.cat((x["reachability"], x["arcs"].flatten(1)), 1)
        parts = (self.state(x["game_state"]), self.ahead(ahead), self.encode_graph(x))
        return torch.relu(self.fuse(torch.cat(parts, 1)))  # (B, features)

    def heads(self, x):
        """Logits float32 [B, 6] and value float32 [B], computed in float32 under autocast too."""
        features = self.encode(x)
        with torch.autocast(features.device.type, enabled=False):
            return self.actor(features.float()), self.critic(features.float()).squeeze(1)

    def get_logits(self, x):
        return self.heads(x)[0]

    def get_value(self, x):
        return self.heads(x)[1]

    def get_action_and_value(self, x):
        """Action int64 [B], sampled; its log-probability and the value, float32 [B]."""
        logits, value = self.heads(x)
        logprobs = torch.log_softmax(logits, 1)
        probs = logprobs.exp()  # the action: the first arrival of six exponential clocks with these rates
        action = (probs / torch.empty_like(probs).exponential_()).argmax(1)
        return action, logprobs.gather(1, action[:, None]).squeeze(1), value

    def forward(self, x):  # the loss must pass here for DistributedDataParallel to average its gradients
        return self.heads(x)


# End of Agent. From here on all scripts are the same.
def gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    """Generalised advantage estimates (arXiv 1506.02438), float32 [T, N], of NumPy arrays [T, N].

    `next_values` is the value of the observation that each step led to, the last one of its episode where one ended. A
    truncated step bootstraps from it, a terminated one does not, and no estimate reaches over either.
    """
    delta = rewards + gamma * ~terminated * next_values - values
    decay = np.float32(gamma * gae_lambda) * ~(terminated | truncated)
    advantages = np.zeros_like(values)
    lastgaelam = np.zeros_like(values[0])
    for t in reversed(range(len(values))):
        advantages[t] = lastgaelam = delta[t] + decay[t] * lastgaelam
    return advantages


def main(args: Args) -> Path:
    """Train, evaluate, report; return the run directory. Raises ArgumentError, CheckpointError, LevelError, OSError."""
    start_time = time.monotonic()

    # Under torchrun each rank has its share of the environments; rank 0 alone writes.
    process = processes.begin(args, SIZES)
    rank, world_size, device = process.rank, process.world_size, process.device
    num_envs = args.num_envs // world_size  # of this rank
    batch_size = num_envs * args.num_steps
    minibatch_size = batch_size // args.num_minibatches

    name = f"{args.exp_name}__{args.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = Path(args.resume or args.run_dir or f"runs/{name}")
    result_files.check_video(args.capture_video)
    sync = None
    if rank == 0:
        lock = checkpoints.claim(run_dir, bool(args.resume))  # noqa: F841  (held until the end)
        if args.s3_bucket:
            sync = s3.start(run_dir, args.s3_bucket, args.s3_prefix, args.s3_endpoint_url, args.s3_dry_run)
        say("waiting for levels and the simulator (the first start compiles it, for a minute or so)")
    own_levels, validation_levels, test_levels = datasets.load_split(
        args.train_dataset, args.test_dataset, args.holdout_fraction, args.validation_fraction
    )
    analysis.compile_ahead()  # the first evaluation is timed: it decides when the training has to end
    held_out = validation_levels + test_levels
    used = "".join(level.digest for level in own_levels + held_out)
    levels_digest = hashlib.sha256(used.encode()).hexdigest()
    latest_path = run_dir / "checkpoints/latest.pt"
    checkpoint = checkpoints.load_latest(latest_path, args, levels_digest, world_size) if args.resume else None
    rules = {"observations": Agent.observations, "frame_skip": args.frame_skip, "gamma": args.gamma}
    rules["frame_stack"] = getattr(args, "frame_stack", 1)  # of scripts that see frames

    def begin_envs(renewal):
        """Environments on the training levels of a time, of which each renewal has others."""
        levels_seed, reset_seed = (
            int(np.random.SeedSequence((seed, renewal)).generate_state(1)[0])
            for seed in (process.weights_seed, process.env_seed)
        )
        levels = datasets.training_levels(
            own_levels, held_out, args.mirror, args.fresh_levels, args.validation_fraction, levels_seed
        )
        # With copy=False its buffers are rewritten in every step; the rollout below copies them into its own.
        envs = NppVectorEnv(num_envs=num_envs, levels=levels, **rules, copy=False)
        assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        envs.reset(seed=reset_seed)
        if not renewal:
            envs.step(np.zeros(num_envs, np.int64))  # compiles the step, so that no later clock counts it
        next_obs, _ = envs.reset(seed=reset_seed)
        processes.pin(next_obs, device)
        return envs, next_obs

    renewal = int(checkpoint["counters"]["renewal"]) if checkpoint else 0
    envs, next_obs = begin_envs(renewal)
    torch.set_num_threads(process.inference_threads)  # Numba's first parallel call sets OpenMP's number for all
    torch.manual_seed(process.weights_seed)
    shapes = {key: space.shape for key, space in envs.single_observation_space.items()}
    agent = Agent(shapes, args).to(device)
    teacher, demos = None, None
    pretrained = args.pretrained_checkpoint is not None
    if pretrained:
        checkpoints.load_weights(args.pretrained_checkpoint, ARCHITECTURE, agent)
        if args.kl_coef:
            teacher = copy.deepcopy(agent).requires_grad_(False)
    if args.replay_data_dir and args.demo_coef:
        demos = demonstrations.load_demonstrations(args.replay_data_dir, held_out, **rules)
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.mixed_precision and process.amp_dtype == torch.float16)
    autocast = {"device_type": device.type, "dtype": process.amp_dtype, "enabled": args.mixed_precision}
    if args.compile:
        agent.heads = torch.compile(agent.heads, mode="reduce-overhead" if args.cudagraphs else None)
    model = DistributedDataParallel(agent) if world_size > 1 else agent
    policy = players.agent_policy(agent, device)
    torch.manual_seed(process.torch_seed)

    # Rollout storage. `obs` keeps the environment's dtypes (the agent converts); the environment's side is NumPy.
    obs = {k: torch.from_numpy(v).to(device).new_zeros((args.num_steps, *v.shape)) for k, v in next_obs.items()}
    actions = torch.zeros((args.num_steps, num_envs), dtype=torch.int64, device=device)
    logprobs = torch.zeros((args.num_steps, num_envs), device=device)
    values = torch.zeros((args.num_steps, num_envs), device=device)
    rewards, next_values = np.zeros((2, args.num_steps, num_envs), np.float32)
    terminated, truncated = np.zeros((2, args.num_steps, num_envs), bool)
    last_obs = {key: np.zeros_like(value) for key, value in next_obs.items()}

    # Everything that a resumed run continues from. At the head of the loop below nothing else is remembered.
    global_step, evaluated_at, saved_at, halved = 0, -1, -1, False
    best_success, evaluation_minutes, ready_minutes = 0.0, 0.0, None
    if checkpoint:
        with checkpoints.restoring(latest_path):
            agent.load_state_dict(checkpoint["agent"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            scaler.load_state_dict(checkpoint["scaler"])
            counters = checkpoint["counters"]
            global_step, evaluated_at = int(counters["global_step"]), int(counters["evaluated_at"])
            best_success, evaluation_minutes = float(counters["best_success"]), float(counters["evaluation_minutes"])
            ready_minutes, saved_at, halved = float(counters["ready_minutes"]), global_step, bool(counters["halved"])
            start_time -= 60 * counters["minutes"]
            next_obs = envs.set_state(checkpoints.restore_rank(checkpoint["ranks"][rank], device))

    if rank == 0:
        config = {
            "architecture": ARCHITECTURE,
            "args": dataclasses.asdict(args),
            "observation_shapes": shapes,
            "parameters": sum(p.numel() for p in agent.parameters()),
            "levels": {"train": len(own_levels), "validation": len(validation_levels), "test": len(test_levels)},
            "world_size": world_size,
            "threads": process.threads,
            **describe_system(device),
        }
        run_log = RunLog(run_dir, config, checkpoint and checkpoint["log_bytes"], global_step)
        if args.track:
            run_log.track()
        if sync:
            sync.message = run_log.message
        counts = ", ".join(f"{count} {use}" for use, count in config["levels"].items())
        ready = f"levels: {counts}; ready after {time.monotonic() - start_time:.1f} s"
        run_log.message(f"{run_dir}: {config['parameters']:,} parameters; {ready}")
    stop = StopSignals()  # they save and end the run at the head of the loop

    def due(frequency, last):
        return frequency > 0 and global_step // frequency > last // frequency

    def evaluate(levels, examined=True):
        return suite.evaluate(policy, levels, **rules, examined=examined)

    def policy_calls(levels):  # the length of an evaluation in a unit that fits every suite
        return math.ceil(len(levels) / suite.BATCH)

    def minutes():
        return (time.monotonic() - start_time) / 60

    progress = iteration_seconds = logging_seconds = 0.0
    first_step, first_minutes = global_step, minutes()
    ready_minutes = first_minutes if ready_minutes is None else ready_minutes
    while True:
        # With --max-minutes the schedules run to the moment at which the last evaluations must begin; their length is
        # known from the newest one (without any: a twentieth of all), and 4 s go into files and the report.
        before, progress = progress, global_step / args.total_timesteps
        if args.max_minutes is not None:
            calls = policy_calls(validation_levels) + policy_calls(test_levels)
            end = args.max_minutes - (evaluation_minutes * calls or args.max_minutes / 20) - 4 / 60
            left = end - minutes()
            progress = max(before, 1 - left / (end - ready_minutes) if left > iteration_seconds / 60 else 1.0)
        if world_size > 1:
            control = torch.tensor([progress, stop.number], dtype=torch.float64, device=device)
            dist.all_reduce(control, dist.ReduceOp.MAX)
            progress, stop.number = control.tolist()
        finished, stopped = progress >= 1, stop.number > 0

        # Validation, before the first update too (games last longest: counted half), and halfway through --max-minutes.
        improved = finished and not (validation_levels and args.eval_freq)
        asked = finished or (args.max_minutes is not None and progress >= 0.5 and not halved)
        if validation_levels and not stopped and (due(args.eval_freq, evaluated_at) or (asked and args.eval_freq)):
            if rank == 0 and evaluated_at != global_step:
                began = minutes()
                results = evaluate(validation_levels, examined=False)
                lasted = minutes() - began
                evaluation_minutes = (lasted if global_step else lasted / 2) / policy_calls(validation_levels)
                success = results["overall"]["success_rate"]
                metrics = summary.scalars(results, "eval") | {"time/evaluation": 60 * lasted}
                run_log.metrics("eval", global_step, minutes(), metrics)
                run_log.message(f"step {global_step:,}: success on validation levels {success:.1%}")
                # The later agent is kept unless it is worse than the best by two standard errors of that few levels.
                variance = (success + best_success) * (2 - success - best_success) / 2 / len(validation_levels)
                improved = success >= best_success - 2 * variance**0.5
                best_success = max(best_success, success)
            evaluated_at, halved = global_step, progress >= 0.5

        # Checkpoints: best.pt holds the agent, latest.pt all that a resumed run needs (of every rank).
        agent_state = {
            "architecture": ARCHITECTURE,
            "args": plain_args(args),
            "observation_shapes": {key: list(shape) for key, shape in shapes.items()},
            "agent": agent.state_dict(),
        }
        if rank == 0 and improved:
            checkpoints.save(run_dir / "checkpoints/best.pt", {**agent_state, "global_step": global_step})
        if finished or stopped or due(args.save_freq, saved_at):
            saved_at = global_step
            ranks = checkpoints.gather_ranks(envs.get_state(), device)
            if rank == 0:
                latest = {
                    **agent_state,
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "ranks": ranks,
                    "levels_digest": levels_digest,
                    "log_bytes": run_log.sizes(),
                    "counters": {
                        "global_step": global_step,
                        "renewal": renewal,
                        "evaluated_at": evaluated_at,
                        "halved": halved,
                        "best_success": best_success,
                        "evaluation_minutes": evaluation_minutes,
                        "ready_minutes": ready_minutes,
                        "minutes": minutes(),
                    },
                }
                checkpoints.save(latest_path, latest)
        if finished or stopped:
            break
        iteration_start = time.perf_counter()
        env_seconds = inference_seconds = 0.0
        if args.anneal_lr:
            optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - progress)
        ent_coef = args.ent_coef * (1 - progress) if args.anneal_ent else args.ent_coef
        if args.renew_freq and global_step // args.renew_freq > renewal:
            renewal = global_step // args.renew_freq
            envs.close()
            envs, next_obs = begin_envs(renewal)

        # Rollout.
        episodes = []  # figures of those that ended
        cut_at, cut_obs = [], {key: [] for key in obs}  # where episodes were truncated, and their last observations
        for step in range(args.num_steps):
            for key, storage in obs.items():
                storage[step].copy_(torch.from_numpy(next_obs[key]), non_blocking=True)
            began = time.perf_counter()
            with torch.no_grad(), torch.autocast(**autocast):
                action, logprobs[step], values[step] = agent.get_action_and_value(
                    {key: storage[step] for key, storage in obs.items()}
                )
            actions[step] = action
            action = action.cpu().numpy()  # waits for the GPU
            acted = time.perf_counter()
            next_obs, rewards[step], terminated[step], truncated[step], infos = envs.step(action)
            env_seconds += time.perf_counter() - acted
            inference_seconds += acted - began
            if "_episode" in infos:
                done = np.flatnonzero(infos["_episode"])
                episodes.append({key: column[done] for key, column in infos["episode"].items()})
                cut = done[truncated[step, done]]
                if len(cut):
                    cut_at.append(step * num_envs + cut)
                    for key, rows in cut_obs.items():
                        rows.append(infos["final_obs"][key][cut])
        global_step += args.num_envs * args.num_steps

        # Values of the observations that followed, in passes of the rollout's shape; then advantages and returns.
        began = time.perf_counter()
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
        inference_seconds += time.perf_counter() - began
        old_values = values.cpu().numpy()
        advantages = gae(rewards, old_values, next_values, terminated, truncated, args.gamma, args.gae_lambda)
        returns = advantages + old_values

        # Update.
        began = time.perf_counter()
        torch.set_num_threads(process.threads)
        b_obs = {key: value.flatten(0, 1) for key, value in obs.items()}
        b_actions, b_logprobs, b_values = actions.flatten(), logprobs.flatten(), values.flatten()
        b_advantages, b_returns = (torch.from_numpy(array).flatten().to(device) for array in (advantages, returns))
        kl_coef = args.kl_coef * max(0.0, 1 - global_step / args.kl_steps)
        losses = torch.zeros(9, device=device)  # sums over minibatches, read once per iteration
        minibatches = 0
        demo_random = np.random.default_rng((process.torch_seed, global_step))
        for _ in range(args.update_epochs):
            b_inds = torch.randperm(batch_size, device=device)
            for mb_inds in b_inds.split(minibatch_size):
                mb_obs = {key: value.index_select(0, mb_inds) for key, value in b_obs.items()}
                if demos:
                    demo_obs, demo_actions, _, _ = demos.minibatch(demo_random, minibatch_size // 4)
                    demo_obs = {key: torch.from_numpy(value).to(device) for key, value in demo_obs.items()}
                    mb_obs = {key: torch.cat((value, demo_obs[key])) for key, value in mb_obs.items()}
                with torch.autocast(**autocast):
                    logits, newvalue = model(mb_obs)
                newlogprobs = torch.log_softmax(logits, 1)
                demo_loss = kl_loss = torch.zeros((), device=device)
                if demos:
                    demo_actions = torch.from_numpy(demo_actions).to(device)
                    demo_loss = nn.functional.nll_loss(newlogprobs[minibatch_size:], demo_actions)
                    newlogprobs, newvalue = newlogprobs[:minibatch_size], newvalue[:minibatch_size]
                if teacher and kl_coef:
                    with torch.no_grad(), torch.autocast(**autocast):
                        logits = teacher.get_logits({key: value[:minibatch_size] for key, value in mb_obs.items()})
                    kl_loss = nn.functional.kl_div(
                        newlogprobs, torch.log_softmax(logits, 1), log_target=True, reduction="batchmean"
                    )
                newlogprob = newlogprobs.gather(1, b_actions[mb_inds, None]).squeeze(1)
                entropy = -(newlogprobs.exp() * newlogprobs).sum(1)
                logratio = newlogprob - b_logprobs[mb_inds]
                ratio = logratio.exp()

                mb_advantages = b_advantages[mb_inds]
                if args.norm_adv and minibatch_size * world_size > 1:  # one row has no deviation
                    moments = torch.stack((mb_advantages.double().sum(), mb_advantages.double().square().sum()))
                    if world_size > 1:
                        dist.all_reduce(moments)
                    rows = minibatch_size * world_size
                    mean = moments[0] / rows
                    std = ((moments[1] - rows * mean.square()).clamp_min(0) / (rows - 1)).sqrt()
                    mb_advantages = (mb_advantages - mean.float()) / (std.float() + 1e-8)

                pg_loss1 = -mb_advantages * ratio
                pg_loss2 = -mb_advantages * ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                v_loss = (newvalue - b_returns[mb_inds]).square()
                if args.clip_vloss:
                    change = (newvalue - b_values[mb_inds]).clamp(-args.clip_coef, args.clip_coef)
                    v_loss = torch.max(v_loss, (b_values[mb_inds] + change - b_returns[mb_inds]).square())
                v_loss = 0.5 * v_loss.mean()
                entropy_loss = entropy.mean()
                loss = pg_loss - ent_coef * entropy_loss + args.vf_coef * v_loss
                loss = loss + kl_coef * kl_loss + args.demo_coef * demo_loss

                optimizer.zero_grad()
                scaler.scale(loss).backward()
                if pretrained and global_step <= args.value_warmup_steps:  # the policy and what it reads from stay
                    for name, parameter in agent.named_parameters():
                        if not name.startswith("critic"):
                            parameter.grad = None
                scaler.unscale_(optimizer)
                grad_norm = nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                scaler.step(optimizer)
                scaler.update()

                with torch.no_grad():  # http://joschu.net/blog/kl-approx.html
                    approx_kl = ((ratio - 1) - logratio).mean()
                    clipfrac = ((ratio - 1).abs() > args.clip_coef).float().mean()
                    old_approx_kl = -logratio.mean()
                    sums = (pg_loss, v_loss, entropy_loss, old_approx_kl, approx_kl, clipfrac, kl_loss, demo_loss)
                    losses += torch.stack((*sums, grad_norm))
                minibatches += 1
            if args.target_kl is not None:
                if world_size > 1:
                    dist.all_reduce(approx_kl)
                if approx_kl / world_size > args.target_kl:
                    break
        if world_size > 1:
            dist.all_reduce(losses)
        losses = (losses / (minibatches * world_size)).tolist()  # waits for the GPU
        torch.set_num_threads(process.inference_threads)
        update_seconds = time.perf_counter() - began

        metrics = episode_metrics(episodes, envs.levels, device)  # of all ranks
        if rank == 0:
            seconds = iteration_seconds = time.perf_counter() - iteration_start + logging_seconds
            names = ("policy_loss", "value_loss", "entropy", "old_approx_kl", "approx_kl", "clipfrac")
            names += ("pretrained_kl", "demonstrations", "grad_norm")
            metrics |= {
                "charts/SPS": args.num_envs * args.num_steps / seconds,
                "charts/learning_rate": optimizer.param_groups[0]["lr"],
                **{f"losses/{name}": value for name, value in zip(names, losses, strict=True)},
                "losses/explained_variance": 1 - np.var(returns - old_values) / max(np.var(returns), 1e-12),
                "time/env": env_seconds / seconds,
                "time/inference": inference_seconds / seconds,
                "time/update": update_seconds / seconds,
                "time/rest": (seconds - env_seconds - inference_seconds - update_seconds) / seconds,
            }
            if not math.isfinite(sum(losses[:-1] if scaler.is_enabled() else losses)):  # fp16's gradients may overflow
                raise FloatingPointError(
                    f"step {global_step}: the loss is not finite; latest.pt is from step {saved_at}"
                )
            began = time.perf_counter()
            run_log.metrics("train", global_step, minutes(), metrics)
            logging_seconds = time.perf_counter() - began

            left = (minutes() - first_minutes) * (args.total_timesteps - global_step) / (global_step - first_step)
            left = left if args.max_minutes is None else args.max_minutes - minutes()
            run_log.progress(global_step, left, metrics)
            if sync and due(args.s3_sync_freq, global_step - args.num_envs * args.num_steps):
                sync.request()

    # The test suite is played once, by the agent that did best on the validation levels.
    stop.restore()
    if rank == 0 and stopped:
        run_log.message(f"stopped by {stop.name()} at step {global_step:,}; --resume {run_dir} continues")
    elif rank == 0:
        best = checkpoints.load(run_dir / "checkpoints/best.pt", device)
        agent.load_state_dict(best["agent"])
        results = evaluate(test_levels)
        run_log.metrics("test", global_step, minutes(), summary.scalars(results, "test"))
        title = f"{run_dir.name} on {args.test_dataset}"
        sizes = ", ".join(f"{name} {getattr(args, name)}" for name in SIZES[args.size])
        about = {
            "architecture": f"{ARCHITECTURE}, {args.size} ({sizes}; {config['parameters']:,} parameters)",
            "training": f"{global_step:,} steps in {minutes():.1f} minutes on {args.train_dataset}, seed {args.seed}",
            "checkpoint": f"best.pt of step {best['global_step']:,}, chosen on {len(validation_levels)} others",
        }
        result_files.write_results(results, run_dir, title, about, test_levels if args.capture_video else ())
        run_log.message(summary.report(results, title, about))
        run_log.message(f"{run_dir}: done in {minutes():.1f} minutes")
    if rank == 0:
        run_log.close()
    if sync:
        sync.finish(timeout=20 if stopped else 300)
    envs.close()
    if world_size > 1:
        dist.destroy_process_group()
    return run_dir


if __name__ == "__main__":
    command(main, Args, parse_args)
