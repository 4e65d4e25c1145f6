import os
from pathlib import Path

import pytest

os.environ.setdefault(
    "GOMP_SPINCOUNT", "1000"
)  # threads that wait leave the cores to others, of which tests start many
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # windows of tests are not shown


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data, replays and data sets, not carried by the project; skips where it is missing."""
    folder = Path(os.environ.get("NPP_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "golden").is_dir():
        pytest.skip(f"no shared data at {folder} (set NPP_SHARED)")
    return folder
