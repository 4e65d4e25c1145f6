"""Behavioural cloning on N++: an agent of any of the eight architectures learns to act as demonstrations do.

python npp_rl/bc_pretrain.py --arch mlp_baseline --replay-data-dir REPLAYS
python npp_rl/bc_pretrain.py --arch full_hgt --replay-data-dir HUMAN PLANNER --mirror --max-minutes 10
python npp_rl/bc_pretrain.py --resume runs/bc_mlp_baseline__1__...
torchrun --nproc-per-node 2 npp_rl/bc_pretrain.py --arch vision_free --replay-data-dir REPLAYS

The script of the same architecture goes on from the result: ppo_<arch>.py --pretrained-checkpoint
RUN_DIR/checkpoints/best.pt. Which runs are used demonstrations.py decides, and the results tell why others are not.
"""

import dataclasses
import hashlib
import importlib
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
from PIL import Image, ImageDraw
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel

from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, StopSignals, command, say
from npp_rl.environment.games import ACTIONS
from npp_rl.evaluation import analysis, players, result_files, suite, summary
from npp_rl.levels import datasets
from npp_rl.planning import demonstrations
from npp_rl.training import checkpoints, processes, s3
from npp_rl.training.arguments import parse_args, plain_args
from npp_rl.training.run_log import RunLog, describe_system
from npp_rl.viewing.render import text_font

BINS = 10  # of confidence, for the calibration
MEASURED_ROWS = 512  # of a pass over held-out steps
HELD_INPUTS = slice(21, 23)  # of `game_state`: what was held in the last frame
LEAST_GAIN = 1e-4  # nats by which the loss on held-out levels has to fall for patience to begin anew


@dataclass
class Args:
    arch: Literal[ARCHITECTURES] = "mlp_baseline"  # architecture: ppo_<arch>.py holds its layers
    exp_name: str | None = None  # name of the run, first part of its folder (default: bc_<arch>)
    seed: int = 1  # seed of everything: weights, order of the steps
    torch_deterministic: bool = True  # ask torch for deterministic kernels
    cuda: bool = True  # use the GPU where there is one
    threads: int = 0  # CPU threads for updates and the simulator (0: this process's share of the processors)
    inference_threads: int = 1  # CPU threads of the policy in evaluations (0: as many as in updates)
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
    s3_sync_freq: int = 1_000_000  # demonstrated steps between uploads of what is new (0: only at the ends)
    s3_dry_run: bool = False  # say what would be uploaded, send nothing

    replay_data_dir: tuple[str, ...] = ()  # folders of replays: of people, of the planner, recorded play
    mirror: bool = False  # add the mirror images of the runs to train on, as far as they win too
    keep_idle: bool = False  # train on steps too in which nothing is done: the agent learns to wait
    cache_dir: str = "runs/demonstrations"  # folder that keeps what was made of replays ("": nothing is kept)
    train_dataset: str = "builtin"  # levels on which success is measured: its validation part
    test_dataset: str = "builtin"  # test suite; runs on its levels are refused
    holdout_fraction: float = 0.2  # share of levels kept for the test where one folder is both data sets
    validation_fraction: float = 0.1  # share of levels, and of the runs' levels, that are not trained on
    frame_skip: int = 4  # frames (1/60 s) that an action is held (1: replays of people as they are)
    gamma: float = 0.99  # discount per step, of the returns that the value learns
    eval_freq: int = 5  # epochs between evaluations of success on the validation levels (0: never)
    save_freq: int = 5  # epochs between checkpoints (0: only at the end)

    epochs: int = 50  # passes over the steps to train on
    max_minutes: float | None = None  # minutes from start to report; ends the run before its last epoch
    patience: int = 10  # end after as many epochs without a better loss on held-out levels (0: never)
    batch_size: int = 256  # steps of a batch, over all processes
    learning_rate: float = 1e-3  # AdamW's learning rate at the start
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # course of the learning rate, to zero at the end
    weight_decay: float = 0.01  # AdamW's weight decay
    label_smoothing: float = 0.0  # share of a label that is spread over all actions
    hide_inputs: bool = False  # show inputs held in other steps: the agent cannot learn to repeat its last action
    class_weights: Literal["none", "balanced"] = "none"  # weigh a step by how rare its action is
    value_coef: float = 0.25  # weight of the value loss (0: the value is not trained)
    max_grad_norm: float = 1.0  # largest norm of the gradient
    mixed_precision: bool = False  # bfloat16 in forward passes (float16 with loss scaling on GPUs without it)
    size: Literal["auto", "small", "full"] = "auto"  # preset of the layers' sizes (auto: full on a GPU, small without)


class Heads(nn.Module):
    """Logits and value of an agent as a forward pass, where DistributedDataParallel averages the gradients."""

    def __init__(self, agent):
        super().__init__()
        self.agent = agent

    def forward(self, x):
        return self.agent.heads(x)


def agent_args(args: Args, script):
    """Arguments of the architecture's script: its sizes of this run, what both have in common, else its defaults."""
    own = {field.name for field in dataclasses.fields(script.Args)}
    common = {name: value for name, value in vars(args).items() if name in own}
    return script.Args(**{**common, **script.SIZES[args.size]})


def class_weights(actions: np.ndarray) -> np.ndarray:
    """Weights float32 [6], inverse to how often an action occurs in int64 [n]; 1 on average over the steps."""
    counts = np.bincount(actions, minlength=len(ACTIONS))
    return np.where(counts > 0, len(actions) / (np.maximum(counts, 1) * (counts > 0).sum()), 0).astype(np.float32)


def measures(logits: np.ndarray, values: np.ndarray, actions: np.ndarray, returns: np.ndarray):
    """Figures on steps: logits float [n, 6], values, actions and returns [n] -> metrics, confusion, bins.

    metrics: loss (nats), accuracy, recall and F1 per action (F1 of actions that occur or are predicted) and their mean,
    expected calibration error (Guo et al. 2017, BINS bins of equal width), explained variance of the returns.
    confusion: int [6, 6], rows are the demonstrated actions. bins: float [BINS, 3], steps, mean confidence, accuracy.
    """
    logits = logits.astype(np.float64)
    logp = logits - logits.max(1, keepdims=True)
    logp -= np.log(np.exp(logp).sum(1, keepdims=True))
    chosen, confidence = logits.argmax(1), np.exp(logp.max(1))
    confusion = np.zeros((len(ACTIONS), len(ACTIONS)), int)
    np.add.at(confusion, (actions, chosen), 1)
    right, shown, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    names = [name.replace(" + ", "_") for name in ACTIONS]
    f1 = {names[k]: 2 * right[k] / (shown[k] + said[k]) for k in range(len(names)) if shown[k] + said[k]}
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights, BINS) for weights in (confidence, chosen == actions)]
    bins = np.stack([count, *(part / np.maximum(count, 1) for part in sums)], 1)
    metrics = {
        "loss": -logp[np.arange(len(actions)), actions].mean(),
        "accuracy": right.sum() / len(actions),
        "f1": sum(f1.values()) / len(f1),
        "calibration_error": (count * np.abs(bins[:, 1] - bins[:, 2])).sum() / len(actions),
        "explained_variance": 1 - np.var(returns - values) / max(np.var(returns), 1e-12),
        **{f"f1_{name}": value for name, value in f1.items()},
        **{f"accuracy_{names[k]}": right[k] / shown[k] for k in range(len(names)) if shown[k]},
    }
    return {name: float(value) for name, value in metrics.items()}, confusion, bins


INK, PAPER, BLUE = (30, 34, 40), (255, 255, 255), (38, 92, 170)


def draw_confusion(confusion: np.ndarray) -> Image.Image:
    """Picture of a confusion matrix: each row's shares, and its number of steps."""
    cell, left, top = 92, 190, 110
    picture = Image.new("RGB", (left + cell * 6 + 110, top + cell * 6 + 20), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((left, 26), "predicted action", INK, text_font(18), anchor="lm")
    draw.text((20, top - 26), "demonstrated", INK, text_font(18), anchor="lm")
    draw.text((left + cell * 6 + 18, top - 26), "steps", INK, text_font(16), anchor="lm")
    for k, name in enumerate(ACTIONS):
        draw.text((left + cell * k + cell / 2, top - 26), name.replace(" + ", " +\n"), INK, text_font(15), anchor="mm")
        draw.text((20, top + cell * k + cell / 2), name, INK, text_font(17), anchor="lm")
        steps = int(confusion[k].sum())
        draw.text((left + cell * 6 + 18, top + cell * k + cell / 2), f"{steps:,}", INK, text_font(16), anchor="lm")
        for j in range(6):
            share = confusion[k, j] / max(steps, 1)
            color = tuple(round(p + (b - p) * share) for p, b in zip(PAPER, BLUE, strict=True))
            x, y = left + cell * j, top + cell * k
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), color, (210, 214, 220))
            words = f"{share:.0%}" if steps else "-"
            draw.text((x + cell / 2, y + cell / 2), words, PAPER if share > 0.5 else INK, text_font(17), anchor="mm")
    return picture


def draw_reliability(bins: np.ndarray, error: float) -> Image.Image:
    """Picture of the calibration: accuracy over confidence, and the share of steps in each bin below."""
    side, left, top, low = 480, 80, 60, 110
    picture = Image.new("RGB", (left + side + 30, top + side + low + 60), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((left, 30), f"accuracy over confidence, calibration error {error:.3f}", INK, text_font(18), anchor="lm")
    total, wide = max(bins[:, 0].sum(), 1), side / len(bins)
    base = top + side + 10 + low
    for k, (count, confidence, accuracy) in enumerate(bins):
        x = left + wide * k
        if count:
            draw.rectangle((x + 1, top + side * (1 - accuracy), x + wide - 2, top + side), BLUE)
            place = top + side * (1 - confidence)
            draw.line((x + 1, place, x + wide - 2, place), (206, 40, 56), 3)
            draw.rectangle((x + 1, base - (low - 10) * count / total, x + wide - 2, base), (150, 156, 166))
    draw.line((left, top + side, left + side, top), INK, 1)
    draw.rectangle((left, top, left + side, top + side), None, INK)
    draw.line((left, base, left + side, base), INK, 1)
    for tick in (0, 0.5, 1):
        draw.text((left - 10, top + side * (1 - tick)), f"{tick:g}", INK, text_font(15), anchor="rm")
        draw.text((left + side * tick, base + 16), f"{tick:g}", INK, text_font(15), anchor="mm")
    draw.text((left - 10, base - low / 2), "steps", INK, text_font(15), anchor="rm")
    draw.text((left + side / 2, base + 38), "confidence (red: its mean in the bin)", INK, text_font(15), anchor="mm")
    return picture


def main(args: Args) -> Path:
    """Train, evaluate, report; return the run directory. Raises ArgumentError, CheckpointError, LevelError, OSError."""
    start_time = time.monotonic()

    # Under torchrun each rank has its share of every batch; rank 0 alone writes.
    script = importlib.import_module(f"npp_rl.ppo_{args.arch}")  # Literal: one of checkpoints.ARCHITECTURES
    args.exp_name = args.exp_name or f"bc_{args.arch}"
    if not args.replay_data_dir:
        raise ArgumentError("--replay-data-dir: expected one or more folders of replays")
    process = processes.begin(args, script.SIZES)
    rank, world_size, device = process.rank, process.world_size, process.device
    if args.batch_size % world_size:
        raise ArgumentError(f"--batch-size {args.batch_size}: expected a multiple of {world_size} processes")
    own_args = agent_args(args, script)
    threads, inference_threads, amp_dtype = process.threads, process.inference_threads, process.amp_dtype
    torch.set_num_threads(threads)
    order_seed = np.random.SeedSequence(args.seed).spawn(2)[1]  # of all ranks

    # Levels and demonstrations come before the run's folder: without usable ones nothing is left behind.
    result_files.check_video(args.capture_video)
    if rank == 0:
        say("waiting for levels and demonstrations (the first start compiles the simulator)")
    _, validation_levels, test_levels = datasets.load_split(
        args.train_dataset, args.test_dataset, args.holdout_fraction, args.validation_fraction
    )
    analysis.compile_ahead()  # the first evaluation is timed: it decides when the training has to end
    rules = {"observations": script.Agent.observations, "frame_skip": args.frame_skip, "gamma": args.gamma}
    rules["frame_stack"] = getattr(own_args, "frame_stack", 1)  # of scripts that see frames
    if rank:
        dist.barrier()  # rank 0 fills the cache
    demos = demonstrations.load_demonstrations(
        args.replay_data_dir,
        test_levels,
        **rules,
        cache=args.cache_dir or None,
        mirror=args.mirror,
        keep_idle=args.keep_idle,
    )
    if world_size > 1 and rank == 0:
        dist.barrier()
    train_rows, held_rows = demos.split(args.validation_fraction, validation_levels)
    train_rows = train_rows[: len(train_rows) // world_size * world_size]
    if not len(train_rows):
        raise demonstrations.DemonstrationError(
            f"{', '.join(args.replay_data_dir)}: all {len(demos.levels)} levels of the demonstrations are held out, "
            f"expected some to train on (--validation-fraction {args.validation_fraction})"
        )
    actions, returns = torch.from_numpy(demos.actions).to(device), torch.from_numpy(demos.returns).to(device)
    weights = torch.ones(len(ACTIONS), device=device)
    if args.class_weights == "balanced":
        weights = torch.from_numpy(class_weights(demos.actions[train_rows])).to(device)
    batches = math.ceil(len(train_rows) / args.batch_size)

    name = f"{args.exp_name}__{args.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = Path(args.resume or args.run_dir or f"runs/{name}")
    sync = None
    if rank == 0:
        lock = checkpoints.claim(run_dir, bool(args.resume))  # noqa: F841  (held until the end)
        if args.s3_bucket:
            sync = s3.start(run_dir, args.s3_bucket, args.s3_prefix, args.s3_endpoint_url, args.s3_dry_run)
    used = "".join(level.digest for level in demos.levels + validation_levels + test_levels)
    levels_digest = hashlib.sha256(used.encode() + demos.actions.tobytes()).hexdigest()
    latest_path = run_dir / "checkpoints/latest.pt"
    checkpoint = checkpoints.load_latest(latest_path, args, levels_digest, world_size) if args.resume else None

    torch.manual_seed(process.weights_seed)
    shapes = {key: array.shape[1:] for key, array in demos.rows(train_rows[:1]).items()}
    agent = script.Agent(shapes, own_args).to(device)
    optimizer = optim.AdamW(agent.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.mixed_precision and amp_dtype == torch.float16)
    model = Heads(agent)
    if world_size > 1:  # without the value loss the critic's weights have no gradient
        model = DistributedDataParallel(model, find_unused_parameters=args.value_coef == 0)
    policy = players.agent_policy(agent, device)

    # Everything that a resumed run continues from. At the head of the loop below nothing else is remembered.
    epoch, batch, measured_at, evaluated_at, stale = 0, 0, -1, -1, 0
    best_success, best_loss, least_loss = -1.0, math.inf, math.inf  # of best.pt, and over all epochs
    evaluation_minutes, ready_minutes = 0.0, None
    sums = torch.zeros(4, dtype=torch.float64, device=device)  # of this epoch: losses, gradient, correct steps
    if checkpoint:
        with checkpoints.restoring(latest_path):
            agent.load_state_dict(checkpoint["agent"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            scaler.load_state_dict(checkpoint["scaler"])
            counters, own = checkpoint["counters"], checkpoint["ranks"][rank]
            epoch, batch, stale = int(counters["epoch"]), int(counters["batch"]), int(counters["stale"])
            measured_at, evaluated_at = int(counters["measured_at"]), int(counters["evaluated_at"])
            best_success, best_loss = float(counters["best_success"]), float(counters["best_loss"])
            least_loss, evaluation_minutes = float(counters["least_loss"]), float(counters["evaluation_minutes"])
            ready_minutes = float(counters["ready_minutes"])
            start_time -= 60 * counters["minutes"]
            sums.copy_(own["sums"])
            torch.set_rng_state(own["torch_rng"].cpu())
            if device.type == "cuda":
                torch.cuda.set_rng_state(own["cuda_rng"].cpu())

    def seen():  # demonstrated steps, over all epochs and ranks
        return epoch * len(train_rows) + min(batch * args.batch_size, len(train_rows))

    if rank == 0:
        config = {
            "architecture": args.arch,
            "args": dataclasses.asdict(args),
            "sizes": script.SIZES[args.size],
            "observation_shapes": shapes,
            "parameters": sum(p.numel() for p in agent.parameters()),
            "levels": {
                "train": len(np.unique(demos.level[train_rows])),
                "validation": len(validation_levels),
                "test": len(test_levels),
            },
            "demonstrations": demos.report,
            "world_size": world_size,
            "threads": threads,
            **describe_system(device),
        }
        run_log = RunLog(run_dir, config, checkpoint and checkpoint["log_bytes"], seen())
        if args.track:
            run_log.track()
        if sync:
            sync.message = run_log.message
        run_log.message(demonstrations.table(demos.report))
        run_log.message(
            f"{run_dir}: {config['parameters']:,} parameters; {len(train_rows):,} steps to train on, "
            f"{len(held_rows):,} on {len(np.unique(demos.level[held_rows]))} held-out levels, {demos.idle.sum():,} idle"
            + ("" if len(held_rows) else ", so that no loss ends the run early")
        )
    stop = StopSignals()  # they save and end the run at the head of the loop

    def minutes():
        return (time.monotonic() - start_time) / 60

    def calls(levels):  # the length of an evaluation in a unit that fits every suite
        return math.ceil(len(levels) / suite.BATCH)

    def evaluate(levels):
        torch.set_num_threads(inference_threads)
        results = suite.evaluate(policy, levels, **rules)
        torch.set_num_threads(threads)
        return results

    def outputs(rows):  # logits [n, 6] and values [n] of many steps, as NumPy arrays
        parts = []
        agent.eval()
        with torch.no_grad():
            for first in range(0, len(rows), MEASURED_ROWS):
                x = demos.rows(rows[first : first + MEASURED_ROWS])
                x = {key: torch.from_numpy(array).to(device) for key, array in x.items()}
                parts.append([part.float().cpu().numpy() for part in agent.heads(x)])
        agent.train()
        return (np.concatenate(part) for part in zip(*parts, strict=True))

    def agent_state():
        return {
            "architecture": args.arch,
            # The script's arguments, for its agent, and those of this run.
            "args": {**plain_args(own_args), **plain_args(args)},
            "observation_shapes": {key: list(shape) for key, shape in shapes.items()},
            "agent": agent.state_dict(),
        }

    agent.train()
    ready_minutes = minutes() if ready_minutes is None else ready_minutes
    order, epoch_start, shown_at = None, 0.0, -math.inf
    best_path = run_dir / "checkpoints/best.pt"
    while True:
        # With --max-minutes the schedule ends with the epochs or with the time, whichever is sooner; the length of the
        # last evaluations is known from those before (without any: a twentieth), and 4 s go into files and the report.
        progress = seen() / (args.epochs * len(train_rows))
        if args.max_minutes is not None:
            last = 1.25 * evaluation_minutes * (calls(validation_levels) + calls(test_levels))
            end = args.max_minutes - (last or args.max_minutes / 20) - 4 / 60
            left = end - minutes()
            progress = max(progress, 1 - left / (end - ready_minutes) if left > 0 else 1.0)
        if world_size > 1:
            control = torch.tensor([progress, stop.number, stale], dtype=torch.float64, device=device)
            dist.all_reduce(control, dist.ReduceOp.MAX)
            progress, stop.number, stale = control.tolist()
        stopped = stop.number > 0
        finished = progress >= 1 or (args.patience > 0 and stale >= args.patience)

        # After each epoch: the loss on held-out levels, and now and then success in the environment.
        improved = False
        if not stopped and (batch == 0 or finished) and measured_at != seen():
            measured_at = seen()
            if rank == 0:
                metrics, loss = {}, math.nan
                if len(held_rows):
                    figures, confusion, bins = measures(
                        *outputs(held_rows), demos.actions[held_rows], demos.returns[held_rows]
                    )
                    loss = figures["loss"]
                    metrics |= {f"eval/{key}": value for key, value in figures.items()}
                    pictures = {
                        "confusion": draw_confusion(confusion),
                        "reliability": draw_reliability(bins, figures["calibration_error"]),
                    }
                    for key, picture in pictures.items():
                        run_log.writers["eval"].add_image(f"eval/{key}", np.asarray(picture), seen(), dataformats="HWC")
                    better = loss < least_loss - LEAST_GAIN
                    stale = 0 if better else stale + 1
                    least_loss = loss if better else least_loss
                ending = finished or (args.patience > 0 and stale >= args.patience)
                playing = bool(validation_levels and args.eval_freq)
                success = None
                if playing and (ending or evaluated_at < 0 or epoch // args.eval_freq > evaluated_at // args.eval_freq):
                    evaluated_at, began = epoch, minutes()
                    results = evaluate(validation_levels)
                    evaluation_minutes = max(evaluation_minutes, (minutes() - began) / calls(validation_levels))
                    success = results["overall"]["success_rate"]
                    metrics |= summary.scalars(results, "eval")
                    improved = success > best_success or (success == best_success and not loss >= best_loss)
                elif not playing:
                    improved = loss < best_loss if len(held_rows) else ending
                if improved:
                    best_success = best_success if success is None else success
                    best_loss = loss if len(held_rows) else math.inf
                    if len(held_rows):
                        for key, picture in pictures.items():
                            picture.save(run_dir / f"{key}.png")
                if metrics:
                    run_log.metrics("eval", seen(), minutes(), {"charts/epoch": epoch, **metrics})
                words = f"epoch {epoch}"
                words += (
                    f": held-out loss {loss:.3f}, accuracy {metrics['eval/accuracy']:.1%}" if len(held_rows) else ""
                )
                words += "" if success is None else f", success on validation levels {success:.1%}"
                if success is not None or ending or time.monotonic() - shown_at > 10:
                    shown_at = time.monotonic()
                    run_log.message(words)
            if world_size > 1:
                shared = torch.tensor([stale], dtype=torch.float64, device=device)
                dist.broadcast(shared, 0)
                stale = shared.item()
            finished = finished or (args.patience > 0 and stale >= args.patience)

        # Checkpoints: best.pt holds the agent, latest.pt all that a resumed run needs (of every rank).
        if rank == 0 and improved:
            checkpoints.save(best_path, {**agent_state(), "global_step": seen(), "epoch": epoch})
        if finished or stopped or (args.save_freq and batch == 0 and epoch and epoch % args.save_freq == 0):
            own = {"sums": sums, "torch_rng": torch.get_rng_state()}
            if device.type == "cuda":
                own["cuda_rng"] = torch.cuda.get_rng_state()
            ranks = [own] * world_size
            if world_size > 1:
                dist.gather_object(own, ranks if rank == 0 else None)
            if rank == 0:
                latest = {
                    **agent_state(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "ranks": ranks,
                    "levels_digest": levels_digest,
                    "log_bytes": run_log.sizes(),
                    "counters": {
                        "global_step": seen(),
                        "epoch": epoch,
                        "batch": batch,
                        "stale": int(stale),
                        "measured_at": measured_at,
                        "evaluated_at": evaluated_at,
                        "best_success": best_success,
                        "best_loss": best_loss,
                        "least_loss": least_loss,
                        "evaluation_minutes": evaluation_minutes,
                        "ready_minutes": ready_minutes,
                        "minutes": minutes(),
                    },
                }
                checkpoints.save(latest_path, latest)
        if finished or stopped:
            break

        # One batch. All ranks draw the same order of an epoch's steps, and take every world_size-th of a batch.
        factor = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
        optimizer.param_groups[0]["lr"] = args.learning_rate * factor[args.schedule]
        if order is None or batch == 0:
            epoch_start = time.perf_counter()
            order_of = np.random.SeedSequence(order_seed.entropy, spawn_key=(*order_seed.spawn_key, epoch))
            order = train_rows[np.random.default_rng(order_of).permutation(len(train_rows))]
        rows = order[batch * args.batch_size : (batch + 1) * args.batch_size][rank::world_size]
        mb_obs = demos.rows(rows)
        if args.hide_inputs:  # who acts as before is mostly right, and stands still for ever (arXiv 2010.14876)
            others = np.random.default_rng([args.seed, epoch, batch, rank]).permutation(len(rows))
            mb_obs["game_state"][:, HELD_INPUTS] = mb_obs["game_state"][others, HELD_INPUTS]
        mb_obs = {key: torch.from_numpy(array).to(device) for key, array in mb_obs.items()}
        mb_rows = torch.from_numpy(rows).to(device)
        mb_actions, mb_returns = actions[mb_rows], returns[mb_rows]
        with torch.autocast(device.type, amp_dtype, enabled=args.mixed_precision):
            logits, value = model(mb_obs)
        logp = torch.log_softmax(logits, 1)
        label_loss = -logp.gather(1, mb_actions[:, None]).squeeze(1)
        label_loss = (1 - args.label_smoothing) * label_loss - args.label_smoothing * logp.mean(1)
        action_loss = (weights[mb_actions] * label_loss).mean()
        value_loss = 0.5 * (value - mb_returns).square().mean()
        loss = action_loss + args.value_coef * value_loss if args.value_coef else action_loss

        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            correct = (logits.argmax(1) == mb_actions).sum()
            sums += torch.stack((action_loss * len(rows), value_loss * len(rows), grad_norm, correct))
        batch += 1

        # An epoch's figures, over all ranks.
        if batch == batches:
            epoch, batch = epoch + 1, 0
            totals = sums.clone()
            sums.zero_()
            if world_size > 1:
                dist.all_reduce(totals)
            action_loss, value_loss, grad_norm, correct = totals.tolist()
            if rank == 0:
                metrics = {
                    "charts/epoch": epoch,
                    "charts/SPS": len(train_rows) / (time.perf_counter() - epoch_start),
                    "charts/learning_rate": optimizer.param_groups[0]["lr"],
                    "losses/action_loss": action_loss / len(train_rows),
                    "losses/value_loss": value_loss / len(train_rows),
                    "losses/grad_norm": grad_norm / (batches * world_size),
                    "charts/accuracy": correct / len(train_rows),
                }
                if not math.isfinite(action_loss + value_loss):
                    raise FloatingPointError(f"epoch {epoch}: the loss is not finite")
                run_log.metrics("train", seen(), minutes(), metrics)
                before = seen() - len(train_rows)
                if sync and args.s3_sync_freq and seen() // args.s3_sync_freq > before // args.s3_sync_freq:
                    sync.request()

    # The test suite is played once, by the best agent.
    stop.restore()
    if rank == 0 and stopped:
        run_log.message(f"stopped by {stop.name()} in epoch {epoch}; --resume {run_dir} continues")
    elif rank == 0:
        best = checkpoints.load(best_path, device)
        agent.load_state_dict(best["agent"])
        results = evaluate(test_levels)
        run_log.metrics("test", seen(), minutes(), summary.scalars(results, "test"))
        results["demonstrations"] = demos.report
        if len(held_rows):
            held = measures(*outputs(held_rows), demos.actions[held_rows], demos.returns[held_rows])
            results["held_out"] = {"steps": len(held_rows), **held[0], "confusion": held[1].tolist()}
        title = f"{run_dir.name} on {args.test_dataset}"
        sizes = ", ".join(f"{name} {value}" for name, value in script.SIZES[args.size].items())
        early = f", ended by the loss on held-out levels (patience {args.patience})" if progress < 1 else ""
        about = {
            "architecture": f"{args.arch}, {args.size} ({sizes}; {config['parameters']:,} parameters)",
            "training": f"behavioural cloning, {epoch} epochs of {len(train_rows):,} demonstrated steps in "
            f"{minutes():.1f} minutes, seed {args.seed}{early}",
            "demonstrations": f"{', '.join(args.replay_data_dir)}; {demonstrations.summary(demos.report)}",
            "checkpoint": f"best.pt of epoch {best['epoch']}, chosen on {len(validation_levels)} other levels",
        }
        result_files.write_results(results, run_dir, title, about, test_levels if args.capture_video else ())
        run_log.message(summary.report(results, title, about))
        run_log.message(f"{run_dir}: done in {minutes():.1f} minutes")
    if rank == 0:
        run_log.close()
    if sync:
        sync.finish(timeout=20 if stopped else 300)
    if world_size > 1:
        dist.destroy_process_group()
    return run_dir


if __name__ == "__main__":
    command(main, Args, parse_args)
