import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault(
    "GOMP_SPINCOUNT", "1000"
)  # threads that wait leave the cores to others, of which tests start many
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # windows of tests are not shown


def pytest_configure(config):
    """Compile before the workers of `-n 2` start, which would otherwise compile the same things at the same time."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        code = "from npp_rl.evaluation import analysis; analysis.compile_ahead()"
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data, replays and data sets, not carried by the project; skips where it is missing."""
    folder = Path(os.environ.get("NPP_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "golden").is_dir():
        pytest.skip(f"no shared data at {folder} (set NPP_SHARED)")
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """Mounts file systems of few bytes; skips where that is not permitted."""
    mounted = []

    def mount(place, size):
        place.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
        if done.returncode:
            pytest.skip("mounting a small tmpfs is not permitted here")
        mounted.append(place)

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
