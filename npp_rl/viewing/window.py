"""A window: it shows pictures at a steady pace and reads keys. Needs pygame (extra `play`).

It also works without a screen (SDL_VIDEODRIVER=dummy), and then does not wait.
"""

import os
import time
from pathlib import Path

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import pygame

from npp_rl.viewing.render import save_picture

REPEAT_AFTER, REPEAT_EVERY = 350, 40  # ms, for keys that are held where single presses count


class Closed(Exception):
    """The window was closed."""


class Window:
    """A window of width x height pixels; after `frames` pictures it closes itself and saves the last as `screenshot`.

    `events` are those read after the last picture. `held` are the keys that were down then, and those that were pressed
    and released since the picture before, so that even a short press counts for one frame.
    """

    def __init__(
        self, width: int, height: int, title: str, frames: int | None = None, screenshot: str | Path | None = None
    ):
        pygame.display.init()
        self.screen = pygame.display.set_mode((width, height))
        pygame.display.set_caption(title)
        pygame.key.set_repeat(REPEAT_AFTER, REPEAT_EVERY)
        self.paced = pygame.display.get_driver() != "dummy"
        self.frames, self.screenshot = frames, screenshot
        self.events, self.held = [], frozenset()
        self._down = set()
        self._shown = 0
        self._due = time.perf_counter()

    def show(self, picture: np.ndarray, fps: float = 60.0) -> None:
        """Show a picture, uint8 [height, width, 3], 1 / fps seconds after the last one, and read the input.

        Raises Closed when the window is closed, OSError where the screenshot cannot be written.
        """
        height, width, _ = picture.shape
        picture = np.ascontiguousarray(picture)
        self.screen.blit(pygame.image.frombuffer(picture, (width, height), "RGB"), (0, 0))
        self._wait(1.0 / fps)
        pygame.display.flip()
        self._shown += 1
        if self._shown == self.frames:
            if self.screenshot:
                save_picture(self.screenshot, picture)
            raise Closed
        self.events = pygame.event.get()
        tapped = set()
        for event in self.events:
            if event.type == pygame.QUIT:
                raise Closed
            if event.type == pygame.KEYDOWN:
                self._down.add(event.key)
                tapped.add(event.key)
            elif event.type == pygame.KEYUP:
                self._down.discard(event.key)
            elif event.type == pygame.WINDOWFOCUSLOST:
                self._down.clear()
        self.held = frozenset(self._down | tapped)

    def _wait(self, seconds):
        """Wait for the next picture's time. After a hold-up the times start anew instead of catching up."""
        if not self.paced:
            return
        now = time.perf_counter()
        self._due = max(self._due + seconds, now - seconds)
        if self._due > now:
            time.sleep(self._due - now)

    def close(self) -> None:
        pygame.display.quit()
