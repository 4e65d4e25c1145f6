"""Videos of games: mp4 files (H.264, yuv420p) that browsers play, one picture a frame. Needs PyAV (extra `video`)."""

import contextlib
import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from npp_rl.simulator import DEAD, WON, new_state, play, reset_game
from npp_rl.viewing.render import Scene, add_caption, outcome_text

FPS = 60
LAST_PICTURE = 45  # times that the last picture of a game is shown
NEEDS = 'videos need PyAV: pip install "npp-rl[video]"'
BT709, LIMITED = 1, 1  # colour properties of the codec, as players expect of files that do not state them


def available() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def write_video(path: str | Path, pictures: Iterable[np.ndarray], fps: int = FPS) -> int:
    """Write pictures, uint8 [height, width, 3] of one size with even sides, as an mp4 file -> number of pictures.

    The file is written beside its place and renamed, so that nobody finds half of it. Raises ImportError without PyAV,
    OSError where writing fails, ValueError if there is no picture or a side is odd.
    """
    import av

    path, pictures = Path(path), iter(pictures)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"{path}: no pictures for a video")
    height, width, _ = first.shape
    if height % 2 or width % 2:
        raise ValueError(f"{path}: pictures of {width} x {height}, expected even sides")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with beside.open("wb"):  # a plain OSError where nothing can be written
            pass
        # With the index in front, a browser can begin before it has the whole file.
        with av.open(str(beside), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "20"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
            for picture in itertools.chain([first], pictures):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
                count += 1
            container.mux(stream.encode())
        beside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    return count


def game_pictures(map_data: bytes, inputs: bytes, title: str = "", scale: int = 1) -> Iterator[np.ndarray]:
    """Play a map with input bytes (PHYSICS.md 7) until its end -> a picture of the start, and one after each frame.

    Pictures are uint8 [600 * scale, 1056 * scale, 3], with title, time and outcome on the upper border. The last one is
    repeated LAST_PICTURE times.
    """
    scene = Scene(map_data, scale)
    _, state = new_state(scene.bank, 1)
    reset_game(scene.bank, state, 0, 0)
    keys = np.frombuffer(inputs, np.uint8)
    trajectory, states = np.zeros((1, 4)), np.zeros(1, np.uint8)
    ninja = state.ninja[0]
    for frame in range(len(keys) + 1):
        if frame:
            play(scene.bank, state, 0, keys[frame - 1 : frame], trajectory, states)
        picture = scene.picture(state, 0)
        add_caption(picture, f"{title}    {frame / 60:.2f} s    {outcome_text(ninja)}")
        yield picture
        if ninja["state"] in (DEAD, WON):
            break
    for _ in range(LAST_PICTURE):
        yield picture
