"""The browser of levels: thumbnails on a grid, a list of categories, a filter to type."""

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pygame
from PIL import Image, ImageDraw

from npp_rl.levels.maps import Level
from npp_rl.viewing.player import DIM, FAINT, PANEL
from npp_rl.viewing.render import thumbnail, write_text
from npp_rl.viewing.shapes import GOLD_SHINE, HEIGHT, INK, PAPER, TILE, WIDTH
from npp_rl.viewing.window import Window

CELL_WIDTH, CELL_HEIGHT, COLUMNS, ROWS = 212, 142, 4, 4  # px, of the browser's grid
THUMBNAIL = 200


def browse(window: Window, levels: Sequence[Level], scale: int, at: int = 0) -> int | None:
    """Let the user choose a level -> its index, None if the user leaves. Raises Closed."""
    counts = Counter(level.category for level in levels)
    categories = ["all levels", *counts]
    counts["all levels"] = len(levels)
    names = [f"{level.id} {level.title} {level.category}".lower() for level in levels]
    query, category, in_categories = "", 0, False
    found, place = list(range(len(levels))), at
    thumbnails, board = {}, None
    while True:
        first = max(0, min(place // COLUMNS - 1, -(-len(found) // COLUMNS) - ROWS)) * COLUMNS
        page = found[first : first + COLUMNS * ROWS]
        missing = [k for k in page if k not in thumbnails]
        if missing:  # one in each picture, so that keys never have to wait
            thumbnails[missing[0]] = thumbnail(levels[missing[0]], THUMBNAIL * scale)
        if missing or board is None:
            listed = [(name, counts[name]) for name in categories]
            cells = [(levels[k].id, thumbnails.get(k), first + j == place) for j, k in enumerate(page)]
            board = _draw_browser(scale, listed, category, in_categories, cells, query, len(found))
        window.show(board)
        for event in window.events:
            if event.type != pygame.KEYDOWN:
                continue
            board, key, before = None, event.key, (query, category)
            step = {pygame.K_LEFT: -1, pygame.K_RIGHT: 1, pygame.K_UP: -COLUMNS, pygame.K_DOWN: COLUMNS}
            step |= {pygame.K_PAGEUP: -COLUMNS * ROWS, pygame.K_PAGEDOWN: COLUMNS * ROWS}
            if key == pygame.K_ESCAPE:
                if not query:
                    return None
                query = ""
            elif key in (pygame.K_RETURN, pygame.K_KP_ENTER):
                if found and not in_categories:
                    return found[place]
                in_categories = False
            elif key == pygame.K_TAB:
                in_categories = not in_categories
            elif in_categories and key in (pygame.K_UP, pygame.K_DOWN):
                category = (category + (1 if key == pygame.K_DOWN else -1)) % len(categories)
            elif in_categories and key == pygame.K_RIGHT:
                in_categories = False
            elif key == pygame.K_LEFT and place % COLUMNS == 0:
                in_categories = True
            elif key in step and not in_categories:
                if 0 <= place + step[key] < len(found):
                    place += step[key]
                elif abs(step[key]) > 1 and found:
                    place = 0 if step[key] < 0 else len(found) - 1
            elif key == pygame.K_BACKSPACE:
                query = query[:-1]
            elif getattr(event, "unicode", "").isprintable():
                query += getattr(event, "unicode", "").lower()
            if (query, category) != before:
                chosen = categories[category] if category else None
                words = query.split()
                found = [
                    k
                    for k, level in enumerate(levels)
                    if chosen in (None, level.category) and all(word in names[k] for word in words)
                ]
                place = 0


def _draw_browser(scale, listed, category, in_categories, cells, query, count) -> np.ndarray:
    """The browser's screen; cells: (name, thumbnail or None, whether chosen) of the levels in view."""
    image = Image.new("RGB", (WIDTH * scale, (HEIGHT + PANEL) * scale), INK)
    draw = ImageDraw.Draw(image)
    text = functools.partial(write_text, draw, scale)

    def box(x0, y0, x1, y1, fill):
        draw.rounded_rectangle([v * scale for v in (x0, y0, x1, y1)], 4 * scale, fill)

    text(16, 28, "NPP-RL", 22, GOLD_SHINE)
    for k, (name, number) in enumerate(listed):
        y = 74 + 26 * k
        if k == category:
            box(8, y - 12, 188, y + 12, TILE if in_categories else FAINT)
        text(16, y, name.replace("_", " "), 13, PAPER if k == category else DIM)
        text(180, y, str(number), 12, DIM, "rm")
    filtered = f"filter: {query}_" if query else "type to filter"
    text(208, 28, filtered, 16, PAPER if query else DIM)
    text(WIDTH - 12, 28, f"{count} level{'' if count == 1 else 's'}", 14, DIM, "rm")
    for k, (name, picture, chosen) in enumerate(cells):
        x, y = 204 + CELL_WIDTH * (k % COLUMNS), 56 + CELL_HEIGHT * (k // COLUMNS)
        if chosen:
            box(x, y, x + THUMBNAIL + 8, y + CELL_HEIGHT - 3, TILE if in_categories else GOLD_SHINE)
        height = round(THUMBNAIL * HEIGHT / WIDTH)
        if picture is None:
            box(x + 4, y + 4, x + 4 + THUMBNAIL, y + 4 + height, FAINT)
        else:
            image.paste(Image.fromarray(picture), ((x + 4) * scale, (y + 4) * scale))
        color = INK if chosen and not in_categories else PAPER if chosen else DIM
        text(x + 6, y + height + 14, name[-30:], 12, color)
    if not cells:
        text(220, 80, "no level fits the filter", 14, DIM)
    keys = "arrows: move   Enter: choose   left edge or Tab: categories   Page up, Page down   Esc: clear filter, leave"
    text(16, HEIGHT + PANEL - 22, keys, 12, DIM)
    return np.asarray(image)
