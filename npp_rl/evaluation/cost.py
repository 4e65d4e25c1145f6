"""Measure what an agent costs: parameters, operations and time of a forward pass, memory."""

import copy
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.levels import generator
from npp_rl.levels.categories import CATEGORIES
from npp_rl.training.compiled_layers import padded_graphs

BATCHES = (1, 256)
WARM_UP = 10  # calls before the timed ones
CALLS = (50, 1000)  # fewest and most timed calls
SECONDS = 10.0  # stop timing after this, once the fewest calls are done


def observation_shapes(observations: Sequence[str], frame_stack: int = 4) -> dict[str, tuple[int, ...]]:
    """Shapes of one row of the environment's observations."""
    shapes = {name: OBSERVATIONS[name][0] for name in observations}
    if "player_frames" in shapes:
        shapes["player_frames"] = (frame_stack, *shapes["player_frames"][1:])
    return shapes


def _rows(shapes):
    """Observations of the largest batch of games, some steps into levels of all categories."""
    levels = [generator.generate(category, 0) for category in CATEGORIES]
    stack = shapes["player_frames"][0] if "player_frames" in shapes else 1
    envs = NppVectorEnv(max(BATCHES), levels, tuple(shapes), frame_stack=stack, seed=0)
    rows, _ = envs.reset()
    random = np.random.default_rng(0)
    for _ in range(16):
        rows = envs.step(random.integers(0, 6, max(BATCHES)))[0]
    envs.close()
    return rows


def count_flops(agent: torch.nn.Module, shapes: dict[str, tuple[int, ...]]) -> int:
    """Floating point operations of `agent.get_logits` for one row.

    Only matrix products and convolutions count, with two operations for each multiplication and its addition. Graph
    layers run as on GPUs (pack_graphs(padded=True)): all node slots count, even empty ones, and all pairs of slots. The
    compiled kernels on CPUs skip pairs without an edge.
    """
    agent = copy.deepcopy(agent).cpu().eval()
    x = {name: torch.from_numpy(np.zeros((1, *shape), OBSERVATIONS[name][1])) for name, shape in shapes.items()}
    # Gradients are on because the counter does not count torch's fused inference kernels.
    with torch.enable_grad(), padded_graphs(), FlopCounterMode(display=False) as counter:
        agent.get_logits(x)
    return counter.get_total_flops()


def _latency(agent, rows, device):
    """Milliseconds from observations to logits, both in NumPy arrays: 50th and 99th percentile over `calls`."""

    def call():
        x = {name: torch.from_numpy(value).to(device) for name, value in rows.items()}
        agent.get_logits(x).float().cpu().numpy()  # waits for a GPU

    with torch.no_grad():
        for _ in range(WARM_UP):
            call()
        fewest, most = CALLS
        times, end = [], time.perf_counter() + SECONDS
        while len(times) < fewest or (len(times) < most and time.perf_counter() < end):
            began = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times, [50, 99]).round(4).tolist()
    return {"p50": p50, "p99": p99, "calls": len(times)}


def cost(agent: torch.nn.Module, shapes: dict[str, tuple[int, ...]], device: torch.device) -> dict:
    """Measure an agent on `device`. shapes: the shape of one row of each observation that it reads.

    Returns `parameters`, `flops` (see `count_flops`), `latency_ms` by batch size ("1", "256"), each with `p50`, `p99`
    and the number of timed `calls`, `peak_memory_mb` (of this process, including torch and the environment),
    `peak_gpu_memory_mb` (of torch's tensors, on GPUs only), `device` and `threads`.
    """
    training, threads = agent.training, torch.get_num_threads()
    agent.eval()
    rows = _rows(shapes)
    torch.set_num_threads(threads)  # Numba's first parallel call may have changed it
    result = {
        "parameters": sum(parameter.numel() for parameter in agent.parameters()),
        "latency_ms": {
            str(batch): _latency(agent, {name: value[:batch] for name, value in rows.items()}, device)
            for batch in BATCHES
        },
        "peak_memory_mb": round(_peak_memory(), 1),
    }
    device_name = device.type
    if device.type == "cuda":
        result["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
        device_name = torch.cuda.get_device_name(device)
    result["flops"] = count_flops(agent, shapes)  # last, because padded graphs take memory that playing does not
    agent.train(training)
    return {**result, "device": device_name, "threads": threads}


def _peak_memory():
    """Peak memory in MiB. Linux's getrusage is unfit: a new process inherits the peak of the one that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
