"""The report's figures as SVG text: small, sharp at any width, light or dark by the page's colours.

They are hand-made because a page with a dark side has its colours in CSS variables, which the figures use. STYLE holds
these variables and the look of text. `standalone` puts them into a figure that lies beside report.md as a file.
Colours are those of Okabe and Ito (2008, "Color Universal Design"), darkened or lightened where contrast needs it.
A dash, a marker's shape or a name always says the same as the colour.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np

LIGHT = {
    "ink": "#1b1f24", "soft": "#5a6470", "line": "#d5dae0", "paper": "#ffffff", "good": "#0072b2", "bad": "#d55e00",
    "c0": "#d55e00", "c1": "#0072b2", "c2": "#009e73", "c3": "#b87b00", "c4": "#b9589a", "c5": "#2f8fc9",
    "c6": "#000000", "c7": "#8a7f00",
}  # fmt: skip
DARK = {
    "ink": "#e6e9ed", "soft": "#a3adb8", "line": "#3a424b", "paper": "#14181d", "good": "#4aa8e0", "bad": "#f08a3c",
    "c0": "#f0772a", "c1": "#3f9fe0", "c2": "#1fc497", "c3": "#f0a818", "c4": "#dd8fbd", "c5": "#8ed0f5",
    "c6": "#f2f2f2", "c7": "#f0e442",
}  # fmt: skip
COLOURS = 8


def variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


STYLE = (
    "svg text{font:11.5px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--ink)}"
    "svg .t{fill:var(--soft)}svg .e{text-anchor:end}svg .m{text-anchor:middle}"
    "svg .g{stroke:var(--line);stroke-width:1;fill:none}svg .a{stroke:var(--soft);stroke-width:1;fill:none}"
    "svg .l{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}svg .b{fill:var(--c);opacity:.13}"
    "svg .d{stroke-dasharray:6 4}svg .p{fill:var(--c);stroke:var(--c);stroke-width:1.6}svg .h{fill:var(--paper)}"
    "svg .z{stroke:var(--c);stroke-width:1.6}"
    + "".join(f"svg .c{k}{{--c:var(--c{k})}}" for k in range(COLOURS))
    + "svg .cg{--c:var(--good)}svg .cb{--c:var(--bad)}svg .cn{--c:var(--soft)}"
)


def standalone(svg: str) -> str:
    """A figure as a file of its own, with its colours, on its own paper."""
    style = (
        f"svg{{{variables(LIGHT)}background:var(--paper)}}"
        f"@media(prefers-color-scheme:dark){{svg{{{variables(DARK)}}}}}{STYLE}"
    )
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


@dataclass
class Curve:
    name: str
    colour: int
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    steps: bool = False  # drawn as stairs


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within low ... high, about so many."""
    span = max(high - low, 1e-12)
    unit = 10 ** math.floor(math.log10(span / count))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if span / (unit * m) <= count)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low ... high, fewer where there would be many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in powers for m in parts if low <= m * 10.0**k <= high]
        if len(found) <= 6:
            return found
    return found[:: -(-len(found) // 6)]


def reach(marks: Iterable[tuple]) -> tuple[float, float]:
    """Round limits of an axis of shares that holds 0 and all marks (colour, hollow, estimate, low, high, note)."""
    ends = [v for m in marks for v in m[2:5] if math.isfinite(v)]
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    room = max(0.05, high - low)
    return math.floor((low - 0.02 * room) * 20) / 20, math.ceil((high + 0.02 * room) * 20) / 20


def short(value: float) -> str:
    """A number of an axis: 1.5M, 20k, 300, 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _share(value):
    return f"{round(100 * value, 1):g}%"


def svg(width: float, height: float, parts: list[str], label: str) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">{inside}</svg>'


def text(x: float, y: float, words: str, kind: str = "", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{more}>{escape(words)}</text>'


def path(x, y, kind: str, close: str = "") -> str:
    points = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<path d="M{points}{close}" class="{kind}"/>'


def rect(x, y, width, height, kind: str, more: str = "", title: str = "") -> str:
    inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"{more}{inside}'


def marker(x: float, y: float, colour: int, shape: int, hollow: bool = False, size: float = 4.5) -> str:
    kind = f"p c{colour % COLOURS}" + (" h" if hollow else "")
    s = size
    if shape % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s}" class="{kind}"/>'
    corners = [
        [(-s, -s), (s, -s), (s, s), (-s, s)],
        [(0, -s * 1.3), (s * 1.2, s), (-s * 1.2, s)],
        [(0, -s * 1.4), (s * 1.4, 0), (0, s * 1.4), (-s * 1.4, 0)],
    ][shape % 4 - 1]
    return path([x + a for a, _ in corners], [y + b for _, b in corners], kind, "Z")


def axes(width, height, x, y, xlabel, ylabel, log=False, left=48, top=14, right=20, bottom=44,
         percent=True, xpercent=False):  # fmt: skip
    """Grid, ticks and labels of a panel -> (parts, X, Y), the last two functions from values to px."""
    inner_w, inner_h = width - left - right, height - top - bottom
    scale = math.log10 if log else float
    low, high = scale(x[0]), scale(x[1])

    def to_x(value):
        return left + inner_w * (np.log10(value) if log else np.asarray(value, float)).__sub__(low) / (high - low)

    def to_y(value):
        return top + inner_h * (1 - (np.asarray(value, float) - y[0]) / (y[1] - y[0]))

    parts = []
    for value in ticks(*y):
        at = float(to_y(value))
        parts.append(f'<path d="M{left} {at:.1f}H{width - right}" class="g"/>')
        parts.append(text(left - 6, at + 4, _share(value) if percent else short(value), "t e"))
    for value in log_ticks(*x) if log else ticks(*x):
        at = float(to_x(value))
        parts.append(f'<path d="M{at:.1f} {height - bottom}v4" class="a"/>')
        parts.append(text(at, height - bottom + 17, _share(value) if xpercent else short(value), "t m"))
    parts.append(f'<path d="M{left} {height - bottom}H{width - right}" class="a"/>')
    parts.append(text(left + inner_w / 2, height - bottom + 35, xlabel, "m"))
    turned = f' transform="rotate(-90 12 {top + inner_h / 2:.1f})"'
    parts.append(text(12, top + inner_h / 2, ylabel, "m", turned))
    return parts, to_x, to_y


def legend(names: list[tuple[str, int, bool]], width: float, top: float, left: float = 10) -> tuple[list[str], float]:
    """Line samples with (name, colour, dashed), in rows -> (parts, height)."""
    parts, x, y = [], left, top + 12
    for name, colour, dashed in names:
        size = 34 + 6.4 * len(name)
        if x + size > width and x > left:
            x, y = left, y + 18
        line = f'<path d="M{x:.1f} {y - 4:.1f}h20" class="l{" d" if dashed else ""}"/>'
        words = text(x + 25, y, name)
        parts.append(f'<g class="c{colour % COLOURS} leg" data-s="{escape(name)}">{line}{words}</g>')
        x += size + 6
    return parts, y - top + 8


def span(curves: list[Curve]) -> tuple[tuple[float, float], bool]:
    """Range of x of some curves, and whether the axis has to be logarithmic so that the shortest curve can be seen.

    A logarithmic axis begins at half the smallest x above 0, and 0 stands at its edge.
    """
    ends = [float(c.x[-1]) for c in curves]
    if max(ends) <= 8 * min(ends):
        return (0.0, max(ends) or 1.0), False
    first = min(float(x) for c in curves for x in c.x if x > 0)
    return (max(first / 2, max(ends) / 1e4), max(ends)), True


def lines(
    curves: list[Curve], xlabel: str, ylabel: str, x: tuple[float, float], log=False, dashed=False, xpercent=False
) -> str:
    """Curves with bands and a legend under them."""
    width, height, y = 420, 280, (0, 1)
    parts, to_x, to_y = axes(width, height, x, y, xlabel, ylabel, log, xpercent=xpercent)
    for c in curves:
        drawn = _drawn(c, x, to_x, to_y, dashed)
        parts.append(f'<g class="c{c.colour % COLOURS}" data-s="{escape(c.name)}">{drawn}</g>')
    marks, more = legend([(c.name, c.colour, dashed) for c in curves], width, height)
    return svg(width, height + more, parts + marks, f"{ylabel} over {xlabel}")


def _drawn(c, x, to_x, to_y, dashed, band=True):
    """Paths of a curve, its band first."""
    xs, ys, low, high = np.maximum(c.x, x[0]), c.y, c.low, c.high
    if c.steps:
        xs = np.repeat(xs, 2)[1:]
        ys, low, high = (None if v is None else np.repeat(v, 2)[:-1] for v in (ys, low, high))
    group = ""
    if band and low is not None and np.isfinite(low).all():
        edge = np.concatenate([xs, xs[::-1]]), np.concatenate([high, low[::-1]])
        group = path(to_x(edge[0]), to_y(np.clip(edge[1], 0, 1)), "b", "Z")
    return group + path(to_x(xs), to_y(np.clip(ys, 0, 1)), "l d" if dashed else "l")


def small_lines(
    own: list[tuple[Curve, bool]], others: list[Curve], title: str, xlabel: str, x: tuple[float, float], log=False,
    xpercent=False,
) -> str:  # fmt: skip
    """One architecture's curves (curve, dashed) with bands, before those of the others in grey."""
    width, height = 270, 190
    parts, to_x, to_y = axes(width, height, x, (0, 1), xlabel, "", log, left=38, top=26, xpercent=xpercent)
    parts.append(text(38, 14, title, "", ' font-weight="600"'))
    for c in others:
        parts.append(f'<g class="cn" opacity=".28">{_drawn(c, x, to_x, to_y, False, band=False)}</g>')
    for c, dashed in own:
        parts.append(f'<g class="c{c.colour % COLOURS}">{_drawn(c, x, to_x, to_y, dashed)}</g>')
    return svg(width, height, parts, f"learning curve of {title}")


def dots(rows: list[tuple[str, list[tuple]]], xlabel: str, x: tuple[float, float], zero=False) -> str:
    """Estimates with intervals: rows of (label, [(colour, hollow, estimate, low, high, note)])."""
    width, left = 420, 20 + 6.4 * max(len(label) for label, _ in rows)
    lane, gap = 17, 8
    height = 16 + sum(lane * len(marks) + gap for _, marks in rows) + 44
    parts, to_x, _ = axes(width, height, x, (0, 1), xlabel, "", left=left, right=52, xpercent=True)
    parts = [p for p in parts if 'class="t e"' not in p and 'class="g"' not in p]
    parts += [f'<path d="M{float(to_x(v)):.1f} 14V{height - 44}" class="g"/>' for v in ticks(*x)]
    if zero:
        parts.append(f'<path d="M{float(to_x(0)):.1f} 10V{height - 44}" class="a"/>')
    y = 16.0
    for label, marks in rows:
        parts.append(text(left - 8, y + lane * len(marks) / 2 + 4, label, "e"))
        for colour, hollow, estimate, low, high, note in marks:
            middle = y + lane / 2
            ends = [float(to_x(v)) for v in np.clip([low, high], *x)] if math.isfinite(low) else None
            if ends:
                dash = ' stroke-dasharray="5 3"' if hollow else ""
                line = f'<path d="M{ends[0]:.1f} {middle:.1f}H{ends[1]:.1f}" class="z c{colour % COLOURS}"{dash}/>'
                parts.append(line)
            parts.append(marker(float(to_x(np.clip(estimate, *x))), middle, colour, colour, hollow))
            parts.append(text(width - 4, middle + 4, note, "t e"))
            y += lane
        y += gap
    return svg(width, height, parts, xlabel)


def scatter(points: list[tuple], xlabel: str, ylabel: str, front: list[int], log: bool = True) -> str:
    """Points (name, colour, hollow, x, y), with labels that do not cover each other; those of `front` are joined."""
    width, height = 420, 300
    xs, ys = [p[3] for p in points], [p[4] for p in points]
    x = (min(xs) / 1.6, max(xs) * 1.6) if log else (0, max(xs) * 1.1 or 1)
    room = max(0.05, 0.25 * (max(ys) - min(ys)))
    y = (max(0.0, min(ys) - room), min(1.0, max(ys) + room))
    parts, to_x, to_y = axes(width, height, x, y, xlabel, ylabel, log=log)
    order = sorted(front, key=lambda k: xs[k])
    if len(order) > 1:
        stairs_x = [float(to_x(xs[k])) for k in order for _ in (0, 1)][1:]
        stairs_y = [float(to_y(ys[k])) for k in order for _ in (0, 1)][:-1]
        parts.append(f'<g class="cn">{path(stairs_x, stairs_y, "l d")}</g>')
    taken = [(float(to_x(p[3])) - 6, float(to_y(p[4])) - 6, 12, 12) for p in points]
    for name, colour, hollow, px, py in points:
        at_x, at_y = float(to_x(px)), float(to_y(py))
        title = f"<title>{escape(name)}: {short(px)}, {_share(py)}</title>"
        parts.append(f"<g>{title}{marker(at_x, at_y, colour, colour, hollow)}</g>")
        size = 6.3 * len(name)
        places = [(dx, dy) for dy in (4, -8, 16, -20, 28, -32, 40, -44, 52) for dx in (8, -8 - size)]
        places += [(-size / 2, dy) for dy in (-10, 20)]
        for dx, dy in places:
            box = (at_x + dx, at_y + dy - 9, size, 11)
            inside = box[0] >= 48 and box[0] + size <= width and box[1] >= 4 and box[1] + 11 <= height - 46
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                parts.append(text(box[0], box[1] + 9, name, "t"))
                if abs(dy - 4) > 14:
                    edge = box[0] if dx > 0 else box[0] + size
                    parts.append(f'<path d="M{at_x:.1f} {at_y:.1f}L{edge:.1f} {box[1] + 6:.1f}" class="g"/>')
                break
    return svg(width, height, parts, f"{ylabel} against {xlabel}")


def _meet(one, other):
    return all(one[k] < other[k] + other[k + 2] and other[k] < one[k] + one[k + 2] for k in (0, 1))


def bars(rows: list[tuple[str, list[float]]], names: list[str], xlabel: str) -> str:
    """Stacked shares, rows of (label, shares), each shade named in the legend."""
    width, left, lane = 420, 20 + 6.4 * max(len(label) for label, _ in rows), 20
    height = 16 + lane * len(rows) + 44
    top = max((sum(shares) for _, shares in rows), default=1) or 1
    parts, to_x, _ = axes(width, height, (0, top), (0, 1), xlabel, "", left=left, right=24, xpercent=True)
    parts = [p for p in parts if 'class="t e"' not in p and 'class="g"' not in p]
    for k, (label, shares) in enumerate(rows):
        y, done = 16 + lane * k, 0.0
        parts.append(text(left - 8, y + 13, label, "e"))
        for n, share in enumerate(shares):
            start, end = float(to_x(done)), float(to_x(done + share))
            fill = ' style="fill:var(--c)" stroke="var(--paper)"'
            if share > 0:
                parts.append(rect(start, y, end - start, lane - 5, f"c{n % COLOURS}", fill, f"{names[n]}: {share:.1%}"))
            done += share
    chips, x, y = [], 10.0, height + 12.0
    for n, name in enumerate(names):
        size = 24 + 6.4 * len(name)
        if x + size > width and x > 10:
            x, y = 10.0, y + 18
        chips.append(rect(x, y - 10, 12, 12, f"c{n % COLOURS}", ' style="fill:var(--c)"') + text(x + 17, y, name))
        x += size + 6
    return svg(width, y + 8, parts + chips, xlabel)


def heat_map(shares: np.ndarray, rows: list[str], groups: list[tuple[str, int]], label: str) -> str:
    """Success [rows, levels] (NaN: not played), levels in groups of (name, count); blue is won, orange lost."""
    left, lane = 20 + 6.4 * max(len(name) for name in rows), 17
    cell = max(2.0, min(12.0, 900 / shares.shape[1]))
    width = left + cell * shares.shape[1] + 60
    names, ends, starts = [], [], left
    for name, count in groups:  # a name goes to the first line in which it does not run into another
        line = next((k for k, end in enumerate(ends) if end < starts), len(ends))
        ends[line:] = [starts + 6.4 * len(name) + 10, *ends[line + 1 :]]
        names.append((name, line, starts))
        starts += cell * count
    top = 14 * len(ends) + 8
    parts = []
    for name, line, x in names:
        parts.append(text(x + 3, 14 * line + 11, name, "t"))
        parts.append(f'<path d="M{x:.1f} {14 * line + 2}V{top + lane * len(rows)}" class="g"/>')
    steps = np.round(shares * 10)
    for k, name in enumerate(rows):
        parts.append(text(left - 8, top + lane * k + 12, name, "e"))
    for step in range(11):
        squares = "".join(
            f"M{left + cell * j:.1f} {top + lane * i + 1}h{cell * 0.94:.2f}v{lane - 3}h-{cell * 0.94:.2f}z"
            for i, j in zip(*np.nonzero(steps == step), strict=True)
        )
        if squares:
            kind, strength = ("good", step / 5 - 1) if step >= 5 else ("bad", 1 - step / 5)
            parts.append(f'<path d="{squares}" fill="var(--{kind})" opacity="{0.12 + 0.88 * strength:.2f}"/>')
    return svg(width, top + lane * len(rows) + 6, parts, label)
