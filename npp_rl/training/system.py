"""The system that a run uses: versions and devices, and its use of processors and memory."""

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import npp_rl
from npp_rl.training.source import revision


def describe_system(device: str = "cpu") -> dict:
    """Versions, git revision and whether the checkout differs from it, processors, the device's name."""
    versions = {"python": platform.python_version(), "npp_rl": npp_rl.__version__}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "numpy", "numba", "gymnasium")}
    return {
        "versions": versions,
        **revision(),
        "machine": platform.machine(),
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name; on x86 with its family and model, as one name is given to several generations."""
    words = {}
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            words[key.strip()] = value.strip()
    name = words.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {words[long]}" for key, long in (("family", "cpu family"), ("model", "model")) if long in words]
    return f"{name} ({', '.join(numbers)})" if numbers else name


class Usage:
    """Processors and memory that this process and `others` (process numbers) use from one `look` to the next."""

    def __init__(self, others: Sequence[int] = ()):
        self.others = others
        self.clocks = time.monotonic(), self._busy()

    def look(self) -> dict[str, float]:
        """`system/...` metrics: memory in MiB, processors busy since the last look, and load over one minute."""
        before, self.clocks = self.clocks, (time.monotonic(), self._busy())
        wall, busy = (now - then for now, then in zip(self.clocks, before, strict=True))
        values = {"system/processors_busy": busy / max(wall, 1e-9), "system/load": os.getloadavg()[0]}
        with contextlib.suppress(OSError, ValueError, IndexError):  # only Linux has it
            pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ("self", *self.others))
            values["system/memory_mib"] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        return values

    def _busy(self):
        """Processor time of all of them, s."""
        seconds = time.process_time()
        for pid in self.others:
            with contextlib.suppress(OSError, ValueError, IndexError):
                words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")  # user and system
        return seconds
