"""Distillation on N++: a student of any of the eight architectures learns to act as one or several teachers.

python npp_rl/distill.py --arch mlp_baseline --teacher RUN/checkpoints/best.pt
python npp_rl/distill.py --arch mlp_baseline --teacher A.pt B.pt C.pt --size small --max-minutes 10
python npp_rl/distill.py --resume runs/distill_mlp_baseline__1__...

Several teachers are one: the mean of their log-probabilities and of their values. At each state of a rollout the loss
is KL(teacher || student) at a temperature (Rusu et al. 2015, arXiv 1511.06295), and the squared error to the teachers'
value. In a share `beta` of the steps the teacher acts, else the student, so that the states are those that the student
visits (DAgger: Ross et al. 2011, arXiv 1011.0686). beta falls linearly to zero. Unlike DAgger's, the states of earlier
rollouts are not kept: environment steps are cheap here.

PPO continues from the result: ppo_<arch>.py --pretrained-checkpoint RUN_DIR/checkpoints/best.pt.
"""

import hashlib
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

from npp_rl import scripts
from npp_rl.agents import load_agent
from npp_rl.evaluation import analysis, intervals, players, result_files, suite, summary
from npp_rl.files import plain_name
from npp_rl.levels import datasets
from npp_rl.training import checkpoints, processes, run_folder
from npp_rl.training.arguments import parse_args, plain_args
from npp_rl.training.clock import Clock
from npp_rl.training.episodes import begin_envs, episode_metrics, rules_of
from npp_rl.training.run_log import start_log
from npp_rl.training.weights import Adam, Weights

LOSSES = ("losses/kl", "losses/value_loss", "losses/entropy", "charts/agreement", "losses/grad_norm")


@dataclass
class Args:
    arch: str = "mlp_baseline"  # architecture of the student, one of the eight; its layers are in ppo_<arch>.py
    script: str | None = None  # script of an architecture of your own, a path that ends in .py (instead of --arch)
    exp_name: str | None = None  # name of the run, and first part of its folder's name (default: distill_<arch>)
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

    teacher: tuple[str, ...] = ()  # checkpoint files, exported folders or zoo:NAME; several are an ensemble
    teacher_script: tuple[str, ...] = ()  # scripts of teachers whose architecture is none of the eight
    train_dataset: str = "builtin"  # `builtin`, a folder or file of levels, or several with commas between
    test_dataset: str = "builtin"  # the same; if both are one data set, a hash of the tiles splits it
    holdout_fraction: float = 0.2  # share of the levels kept for the test if one folder is both data sets
    validation_fraction: float = 0.05  # share of the training levels kept to choose the best checkpoint
    fresh_levels: int = 900  # training levels that each renewal generates, besides the data set's own
    drawn_share: float = 0.5  # share of the fresh levels that are drawn as people draw, with what moves
    mirror: bool = True  # at each renewal, mirror each of the data set's levels with probability 1/2
    renew_freq: int = 500_000  # environment steps between renewals of the training levels (0: never)
    learnability: float = 0.0  # share of the games on levels that are won sometimes
    frame_skip: int = 4  # frames (1/60 s) for which an action is held; the teachers' own
    gamma: float = 0.99  # discount factor per step; the teachers' own, if their values are learned
    evaluations: int = 4  # evaluations on validation levels at equal shares of the run (0: none but --eval-freq's)
    eval_freq: int = 0  # environment steps between further evaluations on the validation levels (0: none)
    save_freq: int = 500_000  # environment steps between checkpoints (0: only at the end)

    total_timesteps: int = 5_000_000  # environment steps of the run
    max_minutes: float | None = None  # minutes until the report once the simulator is ready; instead of total_timesteps
    num_envs: int = 128  # number of environments over all processes
    num_steps: int = 64  # steps in each environment per iteration
    num_minibatches: int = 32  # minibatches per epoch
    update_epochs: int = 1  # epochs (passes over a rollout) per iteration
    learning_rate: float = 1e-3  # initial learning rate of Adam
    anneal_lr: bool = True  # anneal the learning rate linearly to zero
    temperature: float = 1.0  # the teachers' logits are divided by it (below 1: sharper targets)
    beta: float = 0.5  # share of the steps in which the teacher acts, at the start
    beta_share: float = 0.5  # share of the run over which beta falls to zero
    value_coef: float = 0.25  # weight of the value loss (0: do not train the value)
    max_grad_norm: float = 0.5  # maximum norm of the gradient
    mixed_precision: bool = False  # forward passes in bfloat16 (on GPUs without it, float16 with loss scaling)
    size: Literal["auto", "small", "full"] = "auto"  # preset of the layers' sizes (auto: full on a GPU, else small)


class Teachers:
    """One or several agents as one. Each sees the newest of the stacked `player_frames`, as many as its own stack has.

    Raises ArgumentError for an agent whose steps are of another length or whose values are of another discount.
    """

    def __init__(self, args: Args, device: torch.device):
        if not args.teacher:
            raise ArgumentError("--teacher: expected one or more checkpoints or exported agents")
        named = (*args.teacher_script, *([args.script] if args.script else ()))
        loaded = [load_agent(path, device, named) for path in args.teacher]
        for path, (_, run) in zip(args.teacher, loaded, strict=True):
            for name in ("frame_skip", "gamma") if args.value_coef else ("frame_skip",):
                if run[name] != getattr(args, name):
                    flag = f"--{name.replace('_', '-')}"
                    raise ArgumentError(
                        f"--teacher {path}: has {name} {run[name]} (expected {getattr(args, name)}; {flag})"
                    )
        self.agents = [agent.requires_grad_(False) for agent, _ in loaded]
        self.stacks = [run.get("frame_stack", 1) for _, run in loaded]
        self.observations = tuple(dict.fromkeys(name for agent in self.agents for name in agent.observations))
        known = [run["trained_on"] for _, run in loaded]
        self.trained_on = None if None in known else frozenset().union(*known)
        names = sorted({plain_name(run["exp_name"] or "") for _, run in loaded})
        sizes = [sum(weight.numel() for weight in agent.parameters()) for agent in self.agents]
        self.about = f"{len(loaded)} ({', '.join(names)}; {sum(sizes):,} parameters)"
        digest = hashlib.sha256()
        for agent in self.agents:
            for name, weight in agent.state_dict().items():
                digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
        self.digest = digest.hexdigest()

    def heads(self, x: dict[str, torch.Tensor], temperature: float):
        """Log-probabilities float32 [B, 6] at a temperature, and values float32 [B], of observations [B, ...]."""
        logprobs, values = [], []
        for agent, stack in zip(self.agents, self.stacks, strict=True):
            logits, value = agent.heads(seen_by(agent, stack, x))
            logprobs.append(torch.log_softmax(logits / temperature, 1))
            values.append(value)
        return torch.log_softmax(torch.stack(logprobs).mean(0), 1), torch.stack(values).mean(0)


def seen_by(agent, stack: int, x: dict) -> dict:
    """The observations of an agent in those of an environment with as many stacked pictures or more."""
    return {name: x[name][:, -stack:] if name == "player_frames" else x[name] for name in agent.observations}


def beta_at(args: Args, progress: float) -> float:
    """Share of the steps in which the teacher acts. progress: share of the run that is over."""
    return args.beta * max(0.0, 1 - progress / args.beta_share)


def main(args: Args) -> Path:
    """Train, evaluate, report -> the run directory. Raises ArgumentError, CheckpointError, LevelError, OSError."""
    # Each process ("rank") has its share of the environments. Only rank 0 writes files.
    script = scripts.of_run(args)
    args.exp_name = args.exp_name or f"distill_{args.arch}"
    process = processes.begin(args, script.SIZES)
    rank, world_size, device = process.rank, process.world_size, process.device
    num_envs = args.num_envs // world_size  # of this rank
    batch_size = num_envs * args.num_steps
    minibatch_size = batch_size // args.num_minibatches
    own_args = scripts.agent_args(args, script)
    result_files.check_video(args.capture_video)
    teachers = Teachers(args, device)
    run_dir = run_folder.path_of(args)
    lock, sync = run_folder.begin(run_dir, args) if rank == 0 else (None, None)  # noqa: RUF059  (held until the end)

    # Levels and environments, which make what the student and the teachers see
    own_levels, validation_levels, test_levels = datasets.load_split(
        args.train_dataset, args.test_dataset, args.holdout_fraction, args.validation_fraction
    )
    both = tuple(dict.fromkeys((*script.Agent.observations, *teachers.observations)))
    analysis.compile_ahead(both)  # now, so that the simulator is not compiled while the clock runs
    clock = Clock(args.max_minutes, args.capture_video)
    trained_on = checkpoints.keys_of(own_levels + validation_levels, teachers.trained_on)
    levels_digest = checkpoints.digest_of(own_levels, validation_levels, test_levels)
    levels_digest = hashlib.sha256((levels_digest + teachers.digest).encode()).hexdigest()
    checkpoint, counters = checkpoints.load_latest(run_dir, args, levels_digest, world_size)
    rules = rules_of(own_args, script.Agent.observations)
    stack = rules["frame_stack"]
    game_rules = {**rules, "observations": both, "frame_stack": max(stack, *teachers.stacks)}
    held_out = validation_levels + test_levels
    envs, next_obs = begin_envs(args, process, game_rules, own_levels, held_out, counters.renewal)

    # Student and optimizer
    torch.manual_seed(process.weights_seed)
    spaces = envs.single_observation_space
    shapes = {key: list(spaces[key].shape) for key in script.Agent.observations}
    if "player_frames" in shapes:
        shapes["player_frames"][0] = stack
    agent = script.Agent(shapes, own_args).to(device)
    weights = Weights(agent, process)
    optimizer = Adam(weights.flat, lr=args.learning_rate, eps=1e-5, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.mixed_precision and process.amp_dtype == torch.float16)
    autocast = {"device_type": device.type, "dtype": process.amp_dtype, "enabled": args.mixed_precision}
    policy = players.agent_policy(agent, device, seen_by(agent, stack, next_obs))
    for one, pictures in zip(teachers.agents, teachers.stacks, strict=True):
        players.agent_policy(one, device, seen_by(one, pictures, next_obs))  # compiles too
    torch.manual_seed(process.torch_seed)

    # Rollout storage
    x = seen_by(agent, stack, {key: torch.from_numpy(value) for key, value in next_obs.items()})
    obs = {key: torch.zeros((args.num_steps, *v.shape), dtype=v.dtype, device=device) for key, v in x.items()}
    targets = torch.zeros((args.num_steps, num_envs, 6), device=device)  # the teachers' log-probabilities
    target_values = torch.zeros((args.num_steps, num_envs), device=device)

    if checkpoint:  # a resumed run continues from this and `counters`
        next_obs = checkpoints.restore(checkpoint, run_dir, agent, optimizer, scaler, process, envs)
    if rank == 0:
        counts = {"train": len(own_levels), "validation": len(validation_levels), "test": len(test_levels)}
        about = {"architecture": args.arch, "sizes": script.SIZES[args.size], "observation_shapes": shapes}
        about |= {"levels": counts, "teachers": teachers.about}
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
                clock.note_evaluation(began, untrained=counters.global_step == 0)
                # The newer agent becomes best.pt unless it is significantly worse on the same levels.
                won = [entry["success_rate"] for entry in results["levels"]]
                improved, counters.most_won = intervals.keep_newer(won, counters.most_won)
                if rank == 0:
                    run_log.evaluation(counters.global_step, clock.minutes(), summary.scalars(results, "eval"))

        # Checkpoints: best.pt holds the agent, latest.pt everything that a resumed run needs
        state = {
            "architecture": args.arch,
            "args": {**plain_args(own_args), **plain_args(args)},  # the agent needs the former
            "observation_shapes": shapes,
            "agent": agent.state_dict(),
            "trained_on": trained_on,
        }
        if rank == 0 and improved:
            checkpoints.save(run_dir / checkpoints.BEST, {**state, "global_step": counters.global_step})
        if finished or stopped or counters.due(args.save_freq, counters.saved_at):
            counters.saved_at = counters.global_step
            clock.save(counters)
            state |= {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
            state["levels_digest"] = levels_digest
            checkpoints.save_latest(run_dir, state, counters, envs.get_state(), process, run_log if rank == 0 else None)
        if finished or stopped:
            break
        clock.begin_iteration()
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - progress * args.anneal_lr)
        beta = beta_at(args, progress)
        if args.renew_freq and counters.global_step // args.renew_freq > counters.renewal:
            counters.renewal = counters.global_step // args.renew_freq
            envs.close()
            envs, next_obs = begin_envs(args, process, game_rules, own_levels, held_out, counters.renewal, envs)

        # Rollout: teachers judge every state; who acts is drawn for each game and step
        episodes = []  # statistics of the episodes that ended
        for step in range(args.num_steps):
            every = {key: torch.from_numpy(value).to(device) for key, value in next_obs.items()}
            for key, value in seen_by(agent, stack, every).items():
                obs[key][step].copy_(value)
            clock.lap("rest")
            with torch.no_grad(), torch.autocast(**autocast):
                targets[step], target_values[step] = teachers.heads(every, args.temperature)
                action = agent.get_action_and_value({key: storage[step] for key, storage in obs.items()})[0]
                taught = torch.multinomial(targets[step].exp(), 1).squeeze(1)
                action = torch.where(torch.rand(num_envs, device=device) < beta, taught, action)
            action = action.cpu().numpy()
            clock.lap("inference")
            next_obs, _, _, _, infos = envs.step(action)
            clock.lap("env")
            if "_outcome" in infos:
                done = np.flatnonzero(infos["_outcome"])
                episodes.append({key: column[done] for key, column in infos["outcome"].items()})
        counters.global_step += args.num_envs * args.num_steps
        clock.lap("rest")

        # Update
        b_obs = {key: value.flatten(0, 1) for key, value in obs.items()}
        b_targets, b_values = targets.flatten(0, 1), target_values.flatten()
        losses = torch.zeros(len(LOSSES), device=device)  # sums over minibatches, read once per iteration
        orders = (torch.randperm(batch_size, device=device) for _ in range(args.update_epochs))
        for mb_inds in itertools.chain.from_iterable(b_inds.split(minibatch_size) for b_inds in orders):
            with torch.autocast(**autocast):
                logits, value = agent.heads({key: rows.index_select(0, mb_inds) for key, rows in b_obs.items()})
            logp, target = torch.log_softmax(logits, 1), b_targets[mb_inds]
            kl = nn.functional.kl_div(logp, target, log_target=True, reduction="batchmean")
            v_loss = 0.5 * (value - b_values[mb_inds]).square().mean()
            loss = kl + args.value_coef * v_loss if args.value_coef else kl

            scaler.scale(loss).backward()
            weights.gather_gradients()
            scaler.unscale_(optimizer)
            grad_norm = nn.utils.clip_grad_norm_(weights.flat, args.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            with torch.no_grad():
                entropy = -(logp.exp() * logp).sum(1).mean()
                agreement = (logp.argmax(1) == target.argmax(1)).float().mean()
                losses += torch.stack((kl, v_loss, entropy, agreement, grad_norm))
        if world_size > 1:
            dist.all_reduce(losses)
        losses = (losses / (args.update_epochs * args.num_minibatches * world_size)).tolist()  # waits for the GPU
        clock.lap("update")

        metrics = episode_metrics(episodes, envs.levels, own_levels, device)  # of all ranks
        metrics |= dict(zip(LOSSES, losses, strict=True)) | clock.speed(args.num_envs * args.num_steps)
        if not math.isfinite(sum(losses[:2])):
            raise FloatingPointError(
                f"step {counters.global_step}: the loss is not finite; latest.pt is from step {counters.saved_at}"
            )
        if rank == 0:
            metrics |= {"charts/learning_rate": optimizer.param_groups[0]["lr"], "charts/beta": beta}
            run_log.metrics("train", counters.global_step, clock.minutes(), metrics)
            left = clock.minutes_left(counters.global_step / args.total_timesteps)
            run_log.progress(counters.global_step, left, metrics)
            if sync and counters.due(args.s3_sync_freq, counters.global_step - args.num_envs * args.num_steps):
                sync.request()
            clock.lap("rest")  # counts for the next iteration

    # Test: the agent in best.pt plays the test suite once
    best = {} if stopped else checkpoints.load_best(run_dir, agent, device)
    results = None if stopped else suite.evaluate(policy, test_levels, **rules, stop=stop)
    stop.restore()
    if rank == 0 and results is None:
        run_log.message(f"stopped by {stop.name()} at step {counters.global_step}; --resume {run_dir} continues")
    elif rank == 0:
        sizes = ", ".join(f"{name} {value}" for name, value in script.SIZES[args.size].items())
        parameters = run_log.config["parameters"]
        results["distillation"] = {"teachers": list(map(str, args.teacher)), "about": teachers.about}
        about = {
            "architecture": f"{args.arch}, {args.size} ({sizes}; {parameters:,} parameters)",
            "training": f"distillation, {counters.global_step:,} steps in {clock.minutes():.1f} minutes on "
            f"{args.train_dataset}, seed {args.seed}",
            "teachers": teachers.about,
            "checkpoint": f"best.pt of step {best['global_step']:,}, chosen on {len(validation_levels)} validation "
            "levels",
        }
        result_files.finish_with(run_log, clock, results, best, about, test_levels)
    if rank == 0:
        run_log.close()
    if sync:
        sync.finish(timeout=20 if results is None else 300)
    envs.close()
    processes.leave()
    return run_dir


if __name__ == "__main__":
    command(main, Args, parse_args)
