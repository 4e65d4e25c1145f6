"""The processes of a run, with their devices, threads, precision and seeds.

A run on a CPU starts its processes itself, where possible one per core (see ranks.py). torchrun starts those of several
GPUs or machines.
"""

import atexit
import contextlib
import datetime
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # now: its default arguments are the group of that moment, which they would keep alive

from npp_rl.commands import ArgumentError, CheckpointError, end_on_signals, say
from npp_rl.environment import ahead
from npp_rl.files import read_json
from npp_rl.training import ranks
from npp_rl.training.arguments import check_args
from npp_rl.training.source import check_architecture

TIMEOUT = datetime.timedelta(hours=1)  # how long ranks wait for each other: rank 0 may write videos


class Process(NamedTuple):
    """One process of a run. Only the process of rank 0 writes files."""

    rank: int
    world_size: int
    device: torch.device
    team: ranks.Team | None  # the processes that this run started on the cores of a CPU
    threads: int  # CPU threads of this process
    amp_dtype: torch.dtype  # dtype of forward passes in mixed precision
    weights_seed: int  # the same in all processes
    env_seed: int  # this process's own, as are the next two
    torch_seed: int
    levels_seed: int


def world() -> tuple[int, int, int, int]:
    """Rank and number of processes, and both on this machine, as torchrun sets them. Without it 0, 1, 0, 1."""
    numbers = []
    for name, alone in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)):
        text = os.environ.get(name, str(alone))
        if not text.isdecimal() or (name.endswith("SIZE") and text == "0"):
            raise ArgumentError(f"{name}={text} in the environment: expected the number that torchrun sets")
        numbers.append(int(text))
    return tuple(numbers)


def begin(args, sizes: dict[str, dict]) -> Process:
    """Check a script's arguments, fill in the sizes of the preset `--size`, and set up the processes of the run.

    On a CPU a script that runs as a program starts a process for each of `--threads` cores, as far as its environments
    and minibatches can be divided; a resumed run starts as many as before. Arguments that a script does not have are
    skipped (bc_pretrain.py has no environments and no sizes of its own).

    sizes: an architecture's widths by the name of the preset. Raises ArgumentError, one line that names the flag.
    """
    rank, world_size, local_rank, local_world_size = world()
    check_architecture(args)
    on_gpu = args.cuda and torch.cuda.is_available()
    fill_in_sizes(args, sizes, on_gpu)
    check(args, sizes, world_size, on_gpu)
    team = ranks.joined()
    if world_size == 1 and not on_gpu and ranks.is_program(args):
        world_size = local_world_size = number_of_ranks(args)
        if world_size > 1:
            check(args, sizes, world_size, on_gpu)
            team = ranks.start(world_size)
            rank = local_rank = team.rank
    # Ranks of this machine share its cores. Under torchrun an explicit --threads is for each process.
    threads = set_threads(args.threads or processors(), local_world_size if team or not args.threads else 1)
    device = join(team, world_size, local_rank, on_gpu)
    set_precision(args)
    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    amp_dtype = torch.bfloat16 if has_bf16 else torch.float16
    if getattr(args, "cudagraphs", False) and args.mixed_precision and not has_bf16:
        raise ArgumentError("--cudagraphs: not with --mixed-precision on a GPU without bfloat16, which scales its loss")
    end_on_signals(" before the training began, so nothing was saved")
    if local_rank == 0:
        text = ahead.begin()
        if rank == 0:
            say(text or "preparing levels and the simulator")
    elif ahead.is_cold():  # wait here for rank 0's `analysis.compile_ahead`, and not only there
        dist.barrier()
        ahead.waited = True
    return Process(rank, world_size, device, team, threads, amp_dtype, *seeds(args.seed, rank, world_size))


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_of_ranks(args) -> int:
    """How many processes a run on a CPU has. Raises CheckpointError for a damaged configuration of a resumed run."""

    def divides(count):
        if not hasattr(args, "num_envs"):  # bc_pretrain.py
            return args.batch_size % count == 0 and args.batch_size // count >= ranks.LEAST_ROWS
        rows, left = divmod(args.num_envs // count * args.num_steps, args.num_minibatches)
        return args.num_envs % count == 0 and not left and rows >= ranks.LEAST_ROWS

    if args.resume:
        config = Path(args.resume, "config.json")
        before = read_json(config).get("world_size")
        if type(before) is not int or not 1 <= before <= 4096:
            raise CheckpointError(f"{config}: world_size is {before!r:.40}, expected the number of the run's processes")
        return before
    return ranks.most_ranks(args.threads or processors(), divides)


def fill_in_sizes(args, sizes: dict[str, dict], on_gpu: bool) -> None:
    """Give `args` the widths of the preset `--size` where the user gave none."""
    if args.size == "auto":
        args.size = "full" if on_gpu else "small"
    for name, value in sizes[args.size].items():
        if getattr(args, name, 0) is None:
            setattr(args, name, value)


def check(args, sizes: dict[str, dict], world_size: int, on_gpu: bool) -> None:
    """Raise ArgumentError for the first argument that cannot be used."""
    check_args(args, tuple(sizes[args.size]))
    if hasattr(args, "num_envs") and (
        args.num_envs % world_size or args.num_envs // world_size * args.num_steps % args.num_minibatches
    ):
        raise ArgumentError(
            f"--num-envs {args.num_envs} --num-steps {args.num_steps}: expected a multiple of {world_size} "
            f"environments, and {args.num_minibatches} minibatches of equal size in each of {world_size} processes"
        )
    if getattr(args, "cudagraphs", False) and not on_gpu:
        raise ArgumentError("--cudagraphs: needs a GPU")
    if getattr(args, "compile", False):
        check_compiler(on_gpu)


def check_compiler(on_gpu: bool) -> None:
    """Raise ArgumentError if torch.compile would not find a compiler. It looks for the same ones as torch.

    On a CPU this is `CXX`, else g++ (clang++ on macOS), as in torch/_inductor/config.py; on a GPU `CC`, else gcc or
    clang, as in Triton's runtime/build.py.
    """
    variable, usual = ("CC", ("gcc", "clang")) if on_gpu else ("CXX", ("g++",))
    usual = ("clang++",) if sys.platform == "darwin" and not on_gpu else usual
    names = (os.environ[variable],) if variable in os.environ else usual
    for name in names:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run([name, "--version"], capture_output=True, check=True, timeout=60)
            return
    language = "C" if on_gpu else "C++"
    found = f"{variable}={names[0]} does not run" if variable in os.environ else f"there is no {' or '.join(usual)}"
    raise ArgumentError(f"--compile: needs a {language} compiler, {found} (install one or set {variable})")


def join(team: ranks.Team | None, world_size: int, local_rank: int, on_gpu: bool) -> torch.device:
    """Join the other processes of the run -> this process's device."""
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if world_size > 1:
        if team is not None:
            team.join(TIMEOUT)
        else:
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
        _group.append(dist.group.WORLD)
        atexit.register(_end_group)
    return device


def set_threads(threads: int, sharing: int) -> int:
    """Set the threads of torch and the simulator to this process's share of `threads` -> their number."""
    threads = max(1, threads // sharing)
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return threads


def set_precision(args) -> None:
    """Choose torch's kernels: deterministic ones if asked for, and TF32 on GPUs that have it."""
    if getattr(args, "compile", False):  # torch's compiler is to know it too, whose import takes a second
        torch.use_deterministic_algorithms(args.torch_deterministic, warn_only=True)
    else:
        torch.set_deterministic_debug_mode("warn" if args.torch_deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that writes to every new tensor
    torch.backends.cudnn.deterministic = args.torch_deterministic
    torch.backends.cudnn.benchmark = not args.torch_deterministic
    torch.set_float32_matmul_precision("high")  # TF32; no effect on CPUs


def seeds(seed: int, rank: int, world_size: int) -> list[int]:
    """Seeds of the weights (the same on all ranks), and of this rank's environments, torch generator and levels."""
    weights_seed, *rank_seeds = np.random.SeedSequence(seed).spawn(1 + world_size)
    return [int(s.generate_state(1)[0]) for s in (weights_seed, *rank_seeds[rank].spawn(3))]


def agree(progress: float, stop, process: Process) -> tuple[float, bool]:
    """Rank 0's progress, and whether any rank got a signal: the same on all ranks. `stop.number` is then set on all.

    A signal that arrives at a rank while it waits here counts in the next round.
    """
    if process.world_size == 1:
        return progress, stop.number > 0
    own = [0.0 if process.rank else progress, stop.number]
    control = torch.tensor(own, dtype=torch.float64, device=process.device)
    dist.all_reduce(control, dist.ReduceOp.MAX)
    progress, number = control.tolist()
    stop.number = int(max(stop.number, number))
    return progress, number > 0


def from_rank_0(value: float, process: Process) -> float:
    """Rank 0's value, on all ranks. Different machines may round differently, and ranks must decide alike."""
    if process.world_size == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=process.device)
    dist.broadcast(shared, 0)
    return shared.item()


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


_group = []  # the process group, kept until the process ends


def _end_group():
    """End the group's threads, by dropping the last reference to it, before Python ends.

    A thread of gloo may still have to free a tensor of Python. It aborts the process ("terminate called without an
    active exception") if Python has ended by then. The group's own object waits for this
    thread without letting go of Python's lock.
    """
    leave()
    _group.clear()


def pin(arrays: dict[str, np.ndarray], device: torch.device) -> None:
    """Page-lock arrays that are often copied to a GPU, so that the copies overlap with other work.

    Small arrays share pages with other data and are left out. Arrays are unlocked when Python frees them.
    """
    for array in arrays.values():
        if device.type == "cuda" and array.nbytes >= 2**18:
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(array.ctypes.data, array.nbytes, 0))
            weakref.finalize(array, torch.cuda.cudart().cudaHostUnregister, array.ctypes.data).atexit = False
