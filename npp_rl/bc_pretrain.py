"""Behavioural cloning on N++: an agent of any architecture learns to imitate demonstrations.

python npp_rl/bc_pretrain.py --arch mlp_baseline --replay-data-dir REPLAYS
python npp_rl/bc_pretrain.py --arch full_hgt --replay-data-dir HUMAN PLANNER --mirror --max-minutes 10
python npp_rl/bc_pretrain.py --script anywhere/ppo_mine.py --replay-data-dir REPLAYS
python npp_rl/bc_pretrain.py --resume runs/bc_mlp_baseline__1__...

PPO continues from the result: ppo_<arch>.py --pretrained-checkpoint RUN_DIR/checkpoints/best.pt.
planning/demonstrations.py decides which replays are used. The results say why the others are not.
"""

import dataclasses
import hashlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from npp_rl.commands import ArgumentError, StopSignals, command  # first: it answers signals

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic GPU kernels need this

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image, ImageDraw
from torch import nn

from npp_rl import scripts
from npp_rl.environment.games import ACTIONS
from npp_rl.evaluation import analysis, intervals, players, result_files, suite, summary
from npp_rl.levels import datasets
from npp_rl.planning import demonstrations
from npp_rl.training import checkpoints, processes, run_folder
from npp_rl.training.arguments import parse_args, plain_args
from npp_rl.training.clock import Clock
from npp_rl.training.episodes import rules_of
from npp_rl.training.run_log import start_log
from npp_rl.training.weights import AdamW, Weights
from npp_rl.viewing.render import text_font

BINS = 10  # confidence bins of the calibration
MEASURED_ROWS = 512  # batch size on held-out steps
HELD_INPUTS = slice(21, 23)  # columns of `game_state` with the inputs held in the last frame
LEAST_GAIN = 1e-4  # nats; a smaller fall of the loss on held-out levels does not reset the patience


@dataclass
class Args:
    arch: str = "mlp_baseline"  # architecture, one of the eight; its layers are in ppo_<arch>.py
    script: str | None = None  # script of an architecture of your own, a path that ends in .py (instead of --arch)
    exp_name: str | None = None  # name of the run, and first part of its folder's name (default: bc_<arch>)
    seed: int = 1  # seed of everything: weights, order of the steps
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
    s3_sync_freq: int = 1_000_000  # demonstrated steps between uploads of new files (0: only at the start and the end)
    s3_dry_run: bool = False  # print what would be uploaded, and send nothing

    replay_data_dir: tuple[str, ...] = ()  # folders of replays, by people or the planner or recorded in play
    mirror: bool = False  # also train on mirror images of the replays, if they win too
    keep_idle: bool = False  # also train on idle steps, so that the agent learns to wait
    cache_dir: str = "runs/demonstrations"  # folder of the cache of demonstrations made from replays ("": no cache)
    train_dataset: str = "builtin"  # data set whose validation levels measure success during training
    test_dataset: str = "builtin"  # test suite; replays of its levels are refused
    holdout_fraction: float = 0.2  # share of the levels kept for the test if one folder is both data sets
    validation_fraction: float = 0.1  # share of the data set's and of the replays' levels held out from training
    frame_skip: int = 4  # frames (1/60 s) for which an action is held (1: human replays stay exact)
    gamma: float = 0.99  # discount factor per step of the returns that the value learns
    eval_freq: int = 5  # epochs between evaluations of success on the validation levels (0: never)
    save_freq: int = 5  # epochs between checkpoints (0: only at the end)

    epochs: int = 50  # passes over the training steps
    max_minutes: float | None = None  # minutes until the report once the simulator is ready; may end it in any epoch
    patience: int = 10  # end after this many epochs without a better loss on held-out levels (0: never)
    batch_size: int = 256  # steps in a batch over all processes
    learning_rate: float = 1e-3  # initial learning rate of AdamW
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # schedule of the learning rate
    weight_decay: float = 0.01  # weight decay of AdamW
    label_smoothing: float = 0.0  # share of a label spread over all actions
    hide_inputs: bool = False  # show the held inputs of other steps: the agent cannot learn to repeat its last action
    class_weights: Literal["none", "balanced"] = "none"  # weigh steps alike, or by how rare their actions are
    value_coef: float = 0.25  # weight of the value loss (0: do not train the value)
    max_grad_norm: float = 1.0  # maximum norm of the gradient
    mixed_precision: bool = False  # forward passes in bfloat16 (on GPUs without it, float16 with loss scaling)
    size: Literal["auto", "small", "full"] = "auto"  # preset of the layers' sizes (auto: full on a GPU, else small)


@dataclass
class Counters:
    """Counters of a run, which its checkpoints save."""

    global_step: int = 0  # demonstrated steps over all epochs and ranks
    epoch: int = 0
    batch: int = 0  # within the epoch
    stale: int = 0  # epochs without a better loss on held-out levels
    measured_at: int = -1  # step of the newest measurement on held-out levels
    evaluated_at: int = -1  # epoch of the newest evaluation
    most_won: list = dataclasses.field(default_factory=list)  # the best agent's success on each validation level
    best_loss: float = math.inf  # loss of best.pt on held-out levels
    least_loss: float = math.inf  # least loss on held-out levels over all epochs
    minutes: float = 0.0  # the clock's, as are the next two
    ready_minutes: float = 0.0
    evaluation_minutes: float = 0.0


def class_weights(actions: np.ndarray) -> np.ndarray:
    """Weights float32 [6], inverse to the frequencies of actions in int64 [n]; their mean over the steps is 1."""
    counts = np.bincount(actions, minlength=len(ACTIONS))
    return np.where(counts > 0, len(actions) / (np.maximum(counts, 1) * (counts > 0).sum()), 0).astype(np.float32)


def measures(logits: np.ndarray, values: np.ndarray, actions: np.ndarray, returns: np.ndarray):
    """Measure predictions: logits float [n, 6], values, actions and returns [n] -> metrics, confusion, bins.

    metrics: loss (nats), accuracy, recall and F1 per action (F1 of actions that occur or are predicted), mean F1,
    expected calibration error (Guo et al. 2017, BINS bins of equal width), explained variance of the returns.
    confusion: int [6, 6], one row per demonstrated action. bins: float [BINS, 3]: steps, mean confidence, accuracy.
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
    """Picture of a confusion matrix: the shares in each row, and its number of steps."""
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
    """Picture of the calibration: accuracy over confidence, and below it the share of steps in each bin."""
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
    """Train, evaluate, report -> the run directory. Raises ArgumentError, CheckpointError, LevelError, OSError."""
    # Each process ("rank") has its share of every batch. Only rank 0 writes files.
    script = scripts.of_run(args)
    args.exp_name = args.exp_name or f"bc_{args.arch}"
    if not args.replay_data_dir:
        raise ArgumentError("--replay-data-dir: expected one or more folders of replays")
    process = processes.begin(args, script.SIZES)
    rank, world_size, device = process.rank, process.world_size, process.device
    if args.batch_size % world_size:
        raise ArgumentError(f"--batch-size {args.batch_size}: expected a multiple of {world_size} processes")
    own_args = scripts.agent_args(args, script)
    result_files.check_video(args.capture_video)

    # Levels and demonstrations. The run's folder comes later, so that a run without usable ones leaves nothing behind.
    _, validation_levels, test_levels = datasets.load_split(
        args.train_dataset, args.test_dataset, args.holdout_fraction, args.validation_fraction
    )
    analysis.compile_ahead(script.Agent.observations)  # now, so that the simulator is not compiled while the clock runs
    clock = Clock(args.max_minutes, args.capture_video)
    rules = rules_of(own_args, script.Agent.observations)
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
    train_rows, held_rows = demos.split(args.validation_fraction)
    train_rows = train_rows[: len(train_rows) // world_size * world_size]
    if not len(train_rows):
        raise demonstrations.DemonstrationError(
            f"{', '.join(args.replay_data_dir)}: all {len(demos.levels)} levels of the demonstrations are held out, "
            f"expected some to train on (--validation-fraction {args.validation_fraction})"
        )
    actions, returns = torch.from_numpy(demos.actions).to(device), torch.from_numpy(demos.returns).to(device)
    action_weights = torch.ones(len(ACTIONS), device=device)
    if args.class_weights == "balanced":
        action_weights = torch.from_numpy(class_weights(demos.actions[train_rows])).to(device)
    batches = math.ceil(len(train_rows) / args.batch_size)
    total_steps = args.epochs * len(train_rows)

    # Run directory and checkpoint
    run_dir = run_folder.path_of(args)
    lock, sync = run_folder.begin(run_dir, args) if rank == 0 else (None, None)  # noqa: RUF059  (held until the end)
    trained_on = checkpoints.keys_of([*demos.levels, *validation_levels])
    levels_digest = checkpoints.digest_of(demos.levels, validation_levels, test_levels)
    levels_digest = hashlib.sha256(levels_digest.encode() + demos.actions.tobytes()).hexdigest()
    checkpoint, counters = checkpoints.load_latest(run_dir, args, levels_digest, world_size, Counters)

    # Agent and optimizer
    torch.set_num_threads(process.threads)
    torch.manual_seed(process.weights_seed)
    shapes = {key: list(array.shape[1:]) for key, array in demos.rows(train_rows[:1]).items()}
    agent = script.Agent(shapes, own_args).to(device)
    weights = Weights(agent, process)
    optimizer = AdamW(weights.flat, lr=args.learning_rate, weight_decay=args.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.mixed_precision and process.amp_dtype == torch.float16)
    policy = players.agent_policy(agent, device, demos.rows(train_rows[:1]))
    order_seed = np.random.SeedSequence(args.seed).spawn(2)[1]  # the same on all ranks
    sums = torch.zeros(4, dtype=torch.float64, device=device)  # over this epoch: losses, gradient, correct steps

    if checkpoint:  # a resumed run continues from this and `counters`
        own = checkpoints.restore(checkpoint, run_dir, agent, optimizer, scaler, process)
        sums.copy_(torch.from_numpy(own["sums"]))
    if rank == 0:
        train_levels = len(np.unique(demos.level[train_rows]))
        about = {
            "architecture": args.arch,
            "sizes": script.SIZES[args.size],
            "observation_shapes": shapes,
            "levels": {"train": train_levels, "validation": len(validation_levels), "test": len(test_levels)},
            "demonstrations": demos.report,
        }
        run_log = start_log(run_dir, about, args, agent, process, checkpoint, counters.global_step, sync)
        run_log.message(demonstrations.table(demos.report))
        run_log.message(
            f"{len(train_rows):,} training steps, {len(held_rows):,} on {len(np.unique(demos.level[held_rows]))} "
            f"held-out levels, {demos.idle.sum():,} idle" + ("" if len(held_rows) else "; --patience has no effect")
        )
    stop = StopSignals()  # after a signal the loop saves and ends
    lengths = suite.levels_per_row(validation_levels), suite.levels_per_row(test_levels)
    clock.begin(counters, checkpoint is not None, counters.global_step / total_steps, *lengths)

    def evaluate(levels, examined):
        return suite.evaluate(policy, levels, **rules, examined=examined, stop=stop)

    def outputs(rows):  # logits [n, 6] and values [n] as NumPy arrays
        parts = []
        agent.eval()
        with torch.no_grad():
            for first in range(0, len(rows), MEASURED_ROWS):
                x = demos.rows(rows[first : first + MEASURED_ROWS])
                x = {key: torch.from_numpy(array).to(device) for key, array in x.items()}
                parts.append([part.float().cpu().numpy() for part in agent.heads(x)])
        agent.train()
        return (np.concatenate(part) for part in zip(*parts, strict=True))

    agent.train()
    order, epoch_start, shown_at = None, 0.0, -math.inf
    while True:
        # The schedule ends with the last epoch or with --max-minutes, whichever comes first.
        done = counters.global_step / total_steps
        progress, stopped = processes.agree(max(done, clock.progress(done)), stop, process)
        tired = args.patience > 0 and counters.stale >= args.patience
        finished = progress >= 1 or tired

        # Validation: the loss on held-out levels after each epoch, and success in the environment every --eval-freq
        improved = False
        if not stopped and (counters.batch == 0 or finished) and counters.measured_at != counters.global_step:
            metrics, loss, pictures = {}, math.nan, {}
            if len(held_rows):
                truth = demos.actions[held_rows], demos.returns[held_rows]
                figures, confusion, bins = measures(*outputs(held_rows), *truth)
                loss = processes.from_rank_0(figures["loss"], process)  # so that all ranks decide alike
                metrics |= {f"eval/{key}": value for key, value in figures.items()}
                pictures = {
                    "confusion": draw_confusion(confusion),
                    "reliability": draw_reliability(bins, figures["calibration_error"]),
                }
                better = loss < counters.least_loss - LEAST_GAIN
                counters.stale = 0 if better else counters.stale + 1
                counters.least_loss = loss if better else counters.least_loss
            finished = finished or (args.patience > 0 and counters.stale >= args.patience)
            playing = bool(validation_levels and args.eval_freq)
            asked = playing and (finished or counters.evaluated_at < 0)
            asked = asked or (playing and counters.epoch // args.eval_freq > counters.evaluated_at // args.eval_freq)
            results = None
            if asked:
                began = clock.minutes()
                results = evaluate(validation_levels, examined=False)
                stopped = results is None
            if not stopped:
                counters.measured_at = counters.global_step
            if results:
                # Cloning overfits in the end. Among agents that win as much, the one with less loss becomes best.pt.
                counters.evaluated_at = counters.epoch
                clock.note_evaluation(began, untrained=False)
                metrics |= summary.scalars(results, "eval")
                won = [entry["success_rate"] for entry in results["levels"]]
                clearly = bool(counters.most_won) and intervals.worse(counters.most_won, won)
                kept, counters.most_won = intervals.keep_newer(won, counters.most_won)
                improved = clearly or (kept and not loss >= counters.best_loss)
            elif not playing:
                improved = loss < counters.best_loss if len(held_rows) else finished
            if improved:
                counters.best_loss = loss if len(held_rows) else math.inf
            if rank == 0 and not stopped:
                for key, picture in pictures.items():
                    pixels = np.asarray(picture)
                    run_log.writers["eval"].add_image(f"eval/{key}", pixels, counters.global_step, dataformats="HWC")
                    if improved:
                        picture.save(run_dir / f"{key}.png")
                if metrics:
                    metrics["charts/epoch"] = counters.epoch
                    run_log.metrics("eval", counters.global_step, clock.minutes(), metrics)
                words = [f"epoch {counters.epoch}"]
                if len(held_rows):
                    words.append(f"held-out loss {loss:.3f}, accuracy {metrics['eval/accuracy']:.1%}")
                if results:
                    words.append(f"success on validation levels {metrics['eval/success_rate']:.1%}")
                if results or finished or time.monotonic() - shown_at > 10:
                    shown_at = time.monotonic()
                    run_log.message(", ".join(words))

        # Checkpoints: best.pt holds the agent, latest.pt everything that a resumed run needs
        state = {
            "architecture": args.arch,
            "args": {**plain_args(own_args), **plain_args(args)},  # the agent needs the former
            "observation_shapes": shapes,
            "agent": agent.state_dict(),
            "trained_on": trained_on,
        }
        if rank == 0 and improved:
            about_best = {"global_step": counters.global_step, "epoch": counters.epoch}
            checkpoints.save(run_dir / checkpoints.BEST, {**state, **about_best})
        saving = args.save_freq and counters.batch == 0 and counters.epoch % args.save_freq == 0
        if finished or stopped or saving:
            clock.save(counters)
            state |= {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
            state["levels_digest"] = levels_digest
            own = {"sums": sums.cpu().numpy()}
            checkpoints.save_latest(run_dir, state, counters, own, process, run_log if rank == 0 else None)
        if finished or stopped:
            break

        # One batch. All ranks draw the same order of steps, and each takes every world_size-th step of a batch.
        factor = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}
        optimizer.param_groups[0]["lr"] = args.learning_rate * factor[args.schedule]
        if order is None or counters.batch == 0:
            epoch_start = time.perf_counter()
            key = (*order_seed.spawn_key, counters.epoch)
            order_of = np.random.SeedSequence(order_seed.entropy, spawn_key=key)
            order = train_rows[np.random.default_rng(order_of).permutation(len(train_rows))]
        first = counters.batch * args.batch_size
        rows = order[first : first + args.batch_size][rank::world_size]
        mb_obs = demos.rows(rows)
        if args.hide_inputs:  # repeating the last action is mostly right, but stays still for ever (arXiv 2010.14876)
            random = np.random.default_rng([args.seed, counters.epoch, counters.batch, rank])
            others = random.permutation(len(rows))
            mb_obs["game_state"][:, HELD_INPUTS] = mb_obs["game_state"][others, HELD_INPUTS]
        mb_obs = {key: torch.from_numpy(array).to(device) for key, array in mb_obs.items()}
        mb_rows = torch.from_numpy(rows).to(device)
        mb_actions, mb_returns = actions[mb_rows], returns[mb_rows]
        with torch.autocast(device.type, process.amp_dtype, enabled=args.mixed_precision):
            logits, value = agent.heads(mb_obs)
        logp = torch.log_softmax(logits, 1)
        label_loss = -logp.gather(1, mb_actions[:, None]).squeeze(1)
        label_loss = (1 - args.label_smoothing) * label_loss - args.label_smoothing * logp.mean(1)
        action_loss = (action_weights[mb_actions] * label_loss).mean()
        value_loss = 0.5 * (value - mb_returns).square().mean()
        loss = action_loss + args.value_coef * value_loss if args.value_coef else action_loss

        scaler.scale(loss).backward()
        weights.gather_gradients()
        scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(weights.flat, args.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            correct = (logits.argmax(1) == mb_actions).sum()
            sums += torch.stack((action_loss * len(rows), value_loss * len(rows), grad_norm, correct))
        counters.batch += 1
        counters.global_step = counters.epoch * len(train_rows) + min(first + args.batch_size, len(train_rows))

        # Metrics of an epoch, over all ranks
        if counters.batch == batches:
            counters.epoch, counters.batch = counters.epoch + 1, 0
            totals = sums.clone()
            sums.zero_()
            if world_size > 1:
                dist.all_reduce(totals)
            action_loss, value_loss, grad_norm, correct = totals.tolist()
            if not math.isfinite(action_loss + value_loss):
                raise FloatingPointError(f"epoch {counters.epoch}: the loss is not finite")
            if rank == 0:
                metrics = {
                    "charts/epoch": counters.epoch,
                    "charts/SPS": len(train_rows) / (time.perf_counter() - epoch_start),
                    "charts/learning_rate": optimizer.param_groups[0]["lr"],
                    "losses/action_loss": action_loss / len(train_rows),
                    "losses/value_loss": value_loss / len(train_rows),
                    "losses/grad_norm": grad_norm / (batches * world_size),
                    "charts/accuracy": correct / len(train_rows),
                }
                run_log.metrics("train", counters.global_step, clock.minutes(), metrics)
                before = counters.global_step - len(train_rows)
                frequency = args.s3_sync_freq
                if sync and frequency and counters.global_step // frequency > before // frequency:
                    sync.request()

    # Test: the agent in best.pt plays the test suite once
    best = {} if stopped else checkpoints.load_best(run_dir, agent, device)
    results = None if stopped else evaluate(test_levels, examined=True)
    stop.restore()
    if rank == 0 and results is None:
        run_log.message(f"stopped by {stop.name()} in epoch {counters.epoch}; --resume {run_dir} continues")
    elif rank == 0:
        results["demonstrations"] = demos.report
        if len(held_rows):
            held = measures(*outputs(held_rows), demos.actions[held_rows], demos.returns[held_rows])
            results["held_out"] = {"steps": len(held_rows), **held[0], "confusion": held[1].tolist()}
        sizes = ", ".join(f"{name} {value}" for name, value in script.SIZES[args.size].items())
        early = f", ended by the loss on held-out levels (patience {args.patience})" if progress < 1 else ""
        about = {
            "architecture": f"{args.arch}, {args.size} ({sizes}; {run_log.config['parameters']:,} parameters)",
            "training": f"behavioural cloning, {counters.epoch} epochs of {len(train_rows):,} demonstrated steps in "
            f"{clock.minutes():.1f} minutes, seed {args.seed}{early}",
            "demonstrations": f"{', '.join(args.replay_data_dir)}; {demonstrations.summary(demos.report)}",
            "checkpoint": f"best.pt of epoch {best['epoch']}, chosen on {len(validation_levels)} validation levels",
        }
        result_files.finish_with(run_log, clock, results, best, about, test_levels)
    if rank == 0:
        run_log.close()
    if sync:
        sync.finish(timeout=20 if results is None else 300)
    processes.leave()
    return run_dir


if __name__ == "__main__":
    command(main, Args, parse_args)
