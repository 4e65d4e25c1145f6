"""The report's figures as SVG text: small, sharp at any width, light or dark by the page's colours.

They are hand-made because a page with a dark side has its colours in CSS variables, which the figures use. STYLE holds
these variables and the look of text. `standalone` puts them into a figure that lies beside report.md as a file.

The eight colours of each side were searched for: any two differ by at least 10 (CIEDE2000; Sharma et al. 2005), also as
seen without red or green cones (Machado et al. 2009), and each has a contrast of at least 3 with the paper. Contender k
has a dash and a marker's shape besides its colour. All three together repeat after 32 contenders.
"""

import itertools
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np

LIGHT = {
    "ink": "#1b1f24", "soft": "#5a6470", "line": "#d5dae0", "paper": "#ffffff", "good": "#0072b2", "bad": "#d55e00",
    "c0": "#e2630c", "c1": "#4644ef", "c2": "#3da18c", "c3": "#95765a", "c4": "#8e4c79", "c5": "#6682fa",
    "c6": "#022837", "c7": "#615401",
}  # fmt: skip
DARK = {
    "ink": "#e6e9ed", "soft": "#a3adb8", "line": "#3a424b", "paper": "#14181d", "good": "#4aa8e0", "bad": "#f08a3c",
    "c0": "#f47103", "c1": "#6c96f4", "c2": "#5bbe84", "c3": "#8c7146", "c4": "#c674a3", "c5": "#2bdbfc",
    "c6": "#cdcbcb", "c7": "#fbeb79",
}  # fmt: skip
COLOURS, DASHES, SHAPES = 8, 4, 8
CHARACTER = 7.3  # px of a figure for one character of a label, at most
FEW = 12  # points of a line, up to which each has a dot
FAR = 60.0  # px between two measured points from which on the line between them is faint


def variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colours.items())


STYLE = (
    "svg text{font:11.5px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--ink)}"
    "svg .t{fill:var(--soft)}svg .e{text-anchor:end}svg .m{text-anchor:middle}"
    "svg .g{stroke:var(--line);stroke-width:1;fill:none}svg .a{stroke:var(--soft);stroke-width:1;fill:none}"
    "svg .l{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}svg .b{fill:var(--c);opacity:.13}"
    "svg .o{opacity:.28}"
    "svg .d1{stroke-dasharray:7 3}svg .d2{stroke-dasharray:2 2.5}svg .d3{stroke-dasharray:9 2.5 2 2.5}"
    "svg .f{stroke-width:1.3;opacity:.4}svg .b.f{opacity:.05}svg .thin{stroke-width:1.4;opacity:.85}"
    "svg .p{fill:var(--c);stroke:var(--c);stroke-width:1.6}svg .h{fill:var(--paper)}"
    "svg .n{paint-order:stroke;stroke:var(--paper);stroke-width:3.5px}"
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
    head = re.sub(' data-heat="[^"]*"', "", head)  # only the page's script reads it
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
    measured: np.ndarray | None = None  # values of x at which something was measured, ascending; None: everywhere
    thin: bool = False


def dash(k: int) -> str:
    """Class of the dash of contender k."""
    return f" d{n}" if (n := (k + k // COLOURS) % DASHES) else ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within low ... high, about so many."""
    span = max(high - low, 1e-12)
    unit = 10 ** math.floor(math.log10(span / count))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if span / (unit * m) <= count)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low ... high, fewer where there would be many; at least three ticks."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**k for k in powers for m in parts if low <= m * 10.0**k <= high]
        if len(found) <= 6:
            return found if len(found) > 2 else ticks(low, high, 4)
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


def svg(width: float, height: float, parts: list[str], label: str, more: str = "") -> str:
    inside = "".join(parts)
    role = "group" if 'role="button"' in inside else "img"
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="{role}" aria-label="{escape(label)}"{more}>{inside}</svg>'
    )


def titled(inside: str, title: str, kind: str = "") -> str:
    """A group that is named when it is pointed at."""
    return f'<g class="{kind}"><title>{escape(title)}</title>{inside}</g>'


def apart(places: list[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places, moved as little as needed (least squares) to be `gap` apart, within low ... high.

    Where there is no room for that, they stand evenly from low to high.
    """
    count = len(places)
    if count < 2 or (count - 1) * gap >= high - low:
        return list(np.linspace(low, high, count)) if count > 1 else [min(max(p, low), high) for p in places]
    groups = []  # [mean of place - gap * rank, number]: neighbours that meet move together
    for k, place in enumerate(places):
        groups.append([place - gap * k, 1])
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            mean, number = groups.pop()
            groups[-1] = [(groups[-1][0] * groups[-1][1] + mean * number) / (groups[-1][1] + number),
                          groups[-1][1] + number]  # fmt: skip
    flat = [mean for mean, number in groups for _ in range(number)]
    return [min(max(mean, low), high - gap * (count - 1)) + gap * k for k, mean in enumerate(flat)]


def text(x: float, y: float, words: str, kind: str = "", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{more}>{escape(words)}</text>'


def fit(words: str, most: int) -> str:
    """The words, cut off where they are longer than so many characters."""
    return words if len(words) <= most else words[: most - 1] + "…"


def path(x, y, kind: str, close: str = "") -> str:
    points = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<path d="M{points}{close}" class="{kind}"/>'


def rect(x, y, width, height, kind: str, more: str = "", title: str = "") -> str:
    inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"{more}{inside}'


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    turns = [(k * math.pi / points, 1.0 if k % 2 == 0 else inner) for k in range(2 * points)]
    return [(r * math.sin(t), -r * math.cos(t)) for t, r in turns]


_PLUS = [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)]
_PLUS += [(-x, -y) for x, y in _PLUS]
_OUTLINES = (  # in units of the marker's size, SHAPES of them; the first is a circle
    [],
    [(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)],
    [(0, -1.3), (1.2, 0.95), (-1.2, 0.95)],
    [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    [(0, 1.3), (1.2, -0.95), (-1.2, -0.95)],
    _PLUS,
    [(0.75 * (x - y), 0.75 * (x + y)) for x, y in _PLUS],
    [(1.45 * x, 1.45 * y) for x, y in _star(5, 0.45)],
)


def marker(x: float, y: float, k: int, hollow: bool = False, size: float = 4.5) -> str:
    """The marker of contender k."""
    kind = f"p c{k % COLOURS}" + (" h" if hollow else "")
    if not (outline := _OUTLINES[(k + k // COLOURS) % SHAPES]):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="{kind}"/>'
    return path([x + size * a for a, _ in outline], [y + size * b for _, b in outline], kind, "Z")


def axes(width, height, x, y, xlabel, ylabel, log=False, left=56, top=14, right=20, bottom=44,
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
    half = min(CHARACTER * len(xlabel), width) / 2
    parts.append(text(min(max(left + inner_w / 2, half), width - half), height - bottom + 35, xlabel, "m"))
    turned = f' transform="rotate(-90 12 {top + inner_h / 2:.1f})"'
    parts.append(text(12, top + inner_h / 2, ylabel, "m", turned))
    return parts, to_x, to_y


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
    curves: list[Curve], xlabel: str, ylabel: str, x: tuple[float, float], log=False, hollow=False, xpercent=False
) -> str:
    """Curves with their names at their ends, the highest first; hollow: markers of contenders that were pretrained."""
    ranked = sorted(curves, key=lambda c: (-c.y[-1], -c.y.mean()))
    longest = min(22, max(len(c.name) for c in ranked))
    width, top, bottom, right = 420, 14, 44, 30 + CHARACTER * longest
    height = max(280, top + bottom + 16 * len(ranked))
    parts, to_x, to_y = axes(width, height, x, (0, 1), xlabel, ylabel, log, right=right, xpercent=xpercent)
    unit = xlabel.split(",")[0]
    for c in ranked[::-1]:
        drawn = _drawn(c, x, to_x, to_y, dash(c.colour)) + _marks(c, x, to_x, to_y, hollow, unit)
        group = titled(drawn, c.name, f"c{c.colour % COLOURS}")
        parts.append(group.replace("<g ", f'<g data-s="{escape(c.name)}" ', 1))
    ends = [float(to_y(np.clip(c.y[-1], 0, 1))) for c in ranked]
    places = apart(ends, 16, top, height - bottom)
    for c, end, place in zip(ranked, ends, places, strict=True):
        edge, own = width - right + 8, float(to_x(max(c.x[-1], x[0])))
        inside = f'<path d="M{own + 3:.1f} {end:.1f}L{edge} {place:.1f}" class="g"/>'
        if c.measured is None:
            inside += f'<path d="M{edge} {place:.1f}h14" class="l{dash(c.colour)}"/>'
        else:
            inside += marker(edge + 7, place, c.colour, hollow, 4)
        inside += text(edge + 18, place + 4, fit(c.name, longest))
        said = f'<g class="c{c.colour % COLOURS} leg" data-s="{escape(c.name)}" tabindex="0" role="button">'
        parts.append(f"{said}<title>{escape(c.name)}: {_share(c.y[-1])} at the end</title>{inside}</g>")
    return svg(width, height, parts, f"{ylabel} over {xlabel}")


def _drawn(c, x, to_x, to_y, kind="", band=True):
    """Paths of a curve, its band first; faint between measured points that are far apart."""
    xs, ys, low, high = np.maximum(c.x, x[0]), c.y, c.low, c.high
    if c.steps:
        xs = np.repeat(xs, 2)[1:]
        ys, low, high = (None if v is None else np.repeat(v, 2)[:-1] for v in (ys, low, high))
    kind = f"l{kind}" + (" thin" if c.thin else "")
    px, py = np.atleast_1d(to_x(xs)), np.atleast_1d(to_y(np.clip(ys, 0, 1)))
    known = px if c.measured is None else np.atleast_1d(to_x(np.maximum(c.measured, x[0])))
    bands, lines = [], []
    for piece, faint in _pieces(px, known):
        lines.append(path(px[piece], py[piece], kind + faint))
        if band and low is not None and np.isfinite(low).all():
            edge = np.concatenate([high[piece], low[piece][::-1]])
            around = np.concatenate([px[piece], px[piece][::-1]])
            bands.append(path(around, to_y(np.clip(edge, 0, 1)), "b" + faint, "Z"))
    return "".join(bands + lines)


def _pieces(px, known):
    """Slices of a line's points (px, ascending) with the class of each: faint between far `known` points."""
    far = np.zeros(max(len(px) - 1, 1), bool)  # of each piece between two points
    middle = (px[1:] + px[:-1]) / 2
    for one, other in itertools.pairwise(known):
        if other - one > FAR:
            far |= (one < middle) & (middle < other)
    for one, other in itertools.pairwise([0, *(np.flatnonzero(np.diff(far)) + 1).tolist(), len(far)]):
        yield slice(one, other + 1), " f" if far[one] else ""


def _marks(c, x, to_x, to_y, hollow, unit):
    """Markers of a curve where it was measured; of markers that would cover each other the first."""
    parts, last = [], -math.inf
    for value in [] if c.measured is None else c.measured.tolist():
        at, share = float(to_x(max(value, x[0]))), float(np.interp(value, c.x, c.y))
        if at - last > 9:
            last = at
            said = f"{c.name}: {_share(share)} at {short(value)} {unit}"
            parts.append(titled(marker(at, float(to_y(min(max(share, 0), 1))), c.colour, hollow, 3.6), said))
    return "".join(parts)


def small_lines(
    own: list[tuple[Curve, bool]], others: list[Curve], title: str, xlabel: str, x: tuple[float, float], log=False,
    xpercent=False,
) -> str:  # fmt: skip
    """One architecture's curves (curve, pretrained) with bands, before those of the others in grey."""
    width, height = 270, 190
    parts, to_x, to_y = axes(
        width, height, x, (0, 1), xlabel.split(", 0 ")[0], "", log, left=44, top=26, xpercent=xpercent
    )
    parts.append(text(10, 14, fit(title, 34), "", ' font-weight="600"'))
    for c in others:
        parts.append(titled(_drawn(c, x, to_x, to_y, band=False), c.name, "cn o"))
    for c, pretrained in own:
        drawn = _drawn(c, x, to_x, to_y, " d1" if pretrained else "")
        drawn += _marks(c, x, to_x, to_y, pretrained, xlabel.split(",")[0])
        parts.append(titled(drawn, c.name, f"c{c.colour % COLOURS}"))
    return svg(width, height, parts, f"learning curve of {title}")


def series(curves: list[tuple[str, np.ndarray, np.ndarray]], colour: int, title: str, xlabel: str) -> str:
    """Thin lines (name, x, y) of the seeds of one contender, on an axis of any unit."""
    width, height = 270, 170
    ends = [f(y) for _, _, y in curves for f in (np.min, np.max)]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    y, x = (low - room, high + room), (0.0, max(float(x[-1]) for _, x, _ in curves) or 1.0)
    parts, to_x, to_y = axes(width, height, x, y, xlabel, "", left=48, top=26, percent=False)
    parts.append(text(10, 14, title, "", ' font-weight="600"'))
    for n, (name, at, values) in enumerate(curves):
        said = f"{name}: {values[-1]:.4g} at the end, {values.min():.4g} to {values.max():.4g}"
        px, py = to_x(at), to_y(values)
        drawn = "".join(path(px[k], py[k], f"l{dash(n)} thin{faint}") for k, faint in _pieces(px, px))
        if len(px) <= FEW:
            drawn += "".join(marker(*place, colour, False, 2) for place in zip(px, py, strict=True))
        parts.append(titled(drawn, said, f"c{colour % COLOURS}"))
    return svg(width, height, parts, title)


def dots(rows: list[tuple[str, list[tuple]]], xlabel: str, x: tuple[float, float], zero=False) -> str:
    """Estimates with intervals: rows of (label, [(colour, hollow, estimate, low, high, note)]), the highest first."""
    rows = sorted(rows, key=lambda row: -max(mark[2] for mark in row[1]))
    width, left = 420, min(200, 16 + CHARACTER * max(len(label) for label, _ in rows))
    lane, gap = 17, 8
    height = 16 + sum(lane * len(marks) + gap for _, marks in rows) + 44
    parts, to_x, _ = axes(width, height, x, (0, 1), xlabel, "", left=left, right=52, xpercent=True)
    parts = [p for p in parts if 'class="t e"' not in p and 'class="g"' not in p]
    parts += [f'<path d="M{float(to_x(v)):.1f} 14V{height - 44}" class="g"/>' for v in ticks(*x)]
    if zero:
        parts.append(f'<path d="M{float(to_x(0)):.1f} 10V{height - 44}" class="a"/>')
    y = 16.0
    for label, marks in rows:
        parts.append(text(left - 8, y + lane * len(marks) / 2 + 4, fit(label, 25), "e"))
        for colour, hollow, estimate, low, high, note in marks:
            middle = y + lane / 2
            ends = [float(to_x(v)) for v in np.clip([low, high], *x)] if math.isfinite(low) else None
            said, drawn = f"{label}: {_share(estimate)}", ""
            if ends:
                broken = ' stroke-dasharray="5 3"' if hollow else ""
                drawn = f'<path d="M{ends[0]:.1f} {middle:.1f}H{ends[1]:.1f}" class="z c{colour % COLOURS}"{broken}/>'
                said += f" ({_share(low)} to {_share(high)})"
            drawn += marker(float(to_x(np.clip(estimate, *x))), middle, colour, hollow)
            parts.append(titled(drawn, f"{said}, {note}"))
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
        parts.append(f'<g class="cn">{path(stairs_x, stairs_y, "l d1")}</g>')
    taken = [(float(to_x(p[3])) - 6, float(to_y(p[4])) - 6, 12, 12) for p in points]
    for name, colour, hollow, px, py in points:
        at_x, at_y = float(to_x(px)), float(to_y(py))
        parts.append(titled(marker(at_x, at_y, colour, hollow), f"{name}: {short(px)}, {_share(py)}"))
        shown = fit(name, 22)
        size = CHARACTER * len(shown)
        places = [(dx, dy) for dy in (4, -8, 16, -20, 28, -32, 40, -44, 52) for dx in (8, -8 - size)]
        places += [(-size / 2, dy) for dy in (-10, 20)]
        for dx, dy in places:
            box = (at_x + dx, at_y + dy - 9, size, 11)
            inside = box[0] >= 56 and box[0] + size <= width and box[1] >= 4 and box[1] + 11 <= height - 46
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                parts.append(text(box[0], box[1] + 9, shown, "t n"))
                if abs(dy - 4) > 14:
                    edge = box[0] if dx > 0 else box[0] + size
                    parts.append(f'<path d="M{at_x:.1f} {at_y:.1f}L{edge:.1f} {box[1] + 6:.1f}" class="g"/>')
                break
    return svg(width, height, parts, f"{ylabel} against {xlabel}")


def _meet(one, other):
    return all(one[k] < other[k] + other[k + 2] and other[k] < one[k] + one[k + 2] for k in (0, 1))


def _shade(n):
    """Shade n of bars, the darkest first: no colour of a contender."""
    return f' fill="var(--ink)" opacity="{0.9 * 0.72**n:.2f}"'


def bars(rows: list[tuple[str, list[float]]], names: list[str], xlabel: str) -> str:
    """Stacked shares, rows of (label, shares), each shade named in the legend."""
    width, left, lane = 420, min(200, 16 + CHARACTER * max(len(label) for label, _ in rows)), 20
    height = 16 + lane * len(rows) + 44
    top = max((sum(shares) for _, shares in rows), default=1) or 1
    parts, to_x, _ = axes(width, height, (0, top), (0, 1), xlabel, "", left=left, right=24, xpercent=True)
    parts = [p for p in parts if 'class="t e"' not in p and 'class="g"' not in p]
    for k, (label, shares) in enumerate(rows):
        y, done = 16 + lane * k, 0.0
        parts.append(text(left - 8, y + 13, fit(label, 25), "e"))
        for n, share in enumerate(shares):
            start, end = float(to_x(done)), float(to_x(done + share))
            if share > 0:
                said = f"{label}, {names[n]}: {share:.1%}"
                parts.append(rect(start, y, end - start, lane - 5, "", _shade(n) + ' stroke="var(--paper)"', said))
            done += share
    chips, x, y = [], 10.0, height + 12.0
    for n, name in enumerate(names):
        size = 24 + CHARACTER * len(name)
        if x + size > width and x > 10:
            x, y = 10.0, y + 18
        chips.append(rect(x, y - 10, 12, 12, "", _shade(n)) + text(x + 17, y, name))
        x += size + 6
    return svg(width, y + 8, parts + chips, xlabel)


def heat_map(
    shares: np.ndarray, rows: list[str], groups: list[tuple[str, int]], label: str, columns: list[str] = ()
) -> str:
    """Success [rows, levels] (NaN: not played), levels in groups of (name, count); blue is won, orange lost.

    columns: names of the levels, which the page's script says of the square that is pointed at.
    """
    left, lane = 20 + 6.4 * max(len(name) for name in rows), 17
    cell = max(2.0, min(12.0, 820 / shares.shape[1]))
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
    known = [[None if math.isnan(v) else round(100 * v) for v in row] for row in shares.tolist()]
    facts = {"left": left, "top": top, "cell": cell, "lane": lane, "rows": rows, "columns": list(columns)}
    parts.append('<rect class="ring" width="0" height="0"/>')
    more = f' data-heat="{escape(json.dumps({**facts, "shares": known}))}"' if columns else ""
    return svg(width, top + lane * len(rows) + 6, parts, label, more)
