"""A report's blocks as one self-contained HTML page, and as Markdown with its figures beside it.

The page loads nothing: style, script and pictures are in it, and its content security policy forbids the rest. All
text is escaped, since names in an experiment's files may be anything.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from benchmark.reporting.plots import DARK, LIGHT, STYLE, standalone, variables
from npp_rl.files import plain_name


@dataclass
class Heading:
    text: str
    level: int = 2


@dataclass
class Text:
    """A paragraph, with **bold** and `code`. kind: "", "lead" (large), "note" (small) or "warn" (set apart)."""

    text: str
    kind: str = ""


@dataclass
class Bullets:
    items: list[str]
    kind: str = ""


@dataclass
class Cell:
    text: str
    detail: str = ""  # small, on a line of its own
    tint: float | None = None  # 0 ... 1, orange to blue


@dataclass
class Table:
    header: list[str]
    rows: list[list[str | Cell]]
    note: str = ""
    left: int = 1  # so many columns hold words and are aligned to the left
    folded: str = ""  # a title under which the table is folded away

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.header)} columns: {row[0]}")


@dataclass
class Code:
    """Lines of a program or a difference, shown as they are."""

    text: str
    folded: str = ""  # a title under which it is folded away


@dataclass
class Figure:
    name: str  # of the file beside report.md
    svg: str
    caption: str = ""
    wide: bool = False  # scrolls in its own box instead of shrinking


@dataclass
class Figures:
    figures: list[Figure]
    small: bool = False
    folded: str = ""  # a title under which they can be folded away
    open: bool = False  # not folded at first
    page_only: bool = False  # left out of report.md


@dataclass
class Picture:
    title: str
    caption: str
    png: bytes


@dataclass
class Gallery:
    pictures: list[Picture]


@dataclass
class LevelViews:
    """Levels that the page's script draws when one is opened, with the run of every contender (see level_views.py)."""

    contenders: list[tuple[str, int, bool]]  # name, colour, pretrained
    outcomes: list[str]
    stride: int  # frames between two points of a path
    tiles: list[str]  # path of the solid part of each tile
    symbols: list[str]  # SVG of entities
    names: list[str]  # of the levels
    data: list[str]  # of each level


@dataclass
class Weights:
    """The decision matrix with a slider for each weight; in report.md it is a table."""

    names: list[str]  # of the criteria
    weights: list[float]
    contenders: list[str]
    raw: list[list[str]]  # [contenders][criteria], as text
    scores: list[list[float]]
    more: list[list[str]] = field(default_factory=list)  # further columns
    more_names: list[str] = field(default_factory=list)


STYLE_OF_PAGE, SCRIPT = (Path(__file__).with_name(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(title: str, blocks: list) -> str:
    """The blocks as one HTML file."""
    parts, links = [], []
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            links.append(f'<a href="#s{len(links) + 1}">{escape(block.text)}</a>')
            parts.append(f'<h2 id="s{len(links)}">{_inline(block.text)}</h2>')
        else:
            parts.append(_html(block))
    body = "\n".join(parts).replace("<!--nav-->", f"<nav>{' '.join(links)}</nav>")
    return _printable(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<style>:root{{{variables(LIGHT)}}}\n@media(prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}\n"
        f"{STYLE}.field,.runs svg{{{variables(LIGHT)}}}\n{STYLE_OF_PAGE}</style></head>\n"
        f"<body><main>\n{body}\n</main>\n<script>{SCRIPT}</script></body></html>\n"
    )


def _inline(words: str) -> str:
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", marked)


def _html(block) -> str:
    match block:
        case Heading():
            mark = "<!--nav-->" if block.level == 0 else ""
            level = block.level or 1
            return mark or f"<h{level}>{_inline(block.text)}</h{level}>"
        case Text():
            return (
                f'<p class="{block.kind}">{_inline(block.text)}</p>' if block.kind else f"<p>{_inline(block.text)}</p>"
            )
        case Bullets():
            return f'<ul class="{block.kind}">' + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
        case Table():
            return _html_table(block)
        case Code():
            return _folded(f"<pre>{escape(block.text)}</pre>", block.folded)
        case Figure():
            return _html_figure(block)
        case Figures():
            inside = "".join(_html_figure(figure) for figure in block.figures)
            inside = f'<div class="figs{" small" if block.small else ""}">{inside}</div>'
            return _folded(inside, block.folded, " open" if block.open else "")
        case LevelViews():
            return _html_levels(block)
        case Gallery():
            return f'<div class="gallery">{"".join(_html_picture(picture) for picture in block.pictures)}</div>'
        case Weights():
            return _html_weights(block)
    raise TypeError(f"no block: {block!r}")


def _html_cell(cell, k, left):
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    kind, style = ("w" + (" long" if len(cell.text) > 48 else "") if k < left else ""), ""
    if cell.tint is not None:
        strength = abs(cell.tint - 0.5) * 2
        kind = "v"
        style = f' style="--k:var(--{"good" if cell.tint >= 0.5 else "bad"});--a:{4 + 26 * strength:.0f}%"'
    detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
    return f'<td class="{kind}"{style}>{_inline(cell.text)}{detail}</td>'


def _html_table(table):
    head = "".join(
        f'<th class="{"w" if k < table.left else ""}" scope="col">{_inline(name)}</th>'
        for k, name in enumerate(table.header)
    )
    rows = "".join(
        "<tr>" + "".join(_html_cell(cell, k, table.left) for k, cell in enumerate(row)) + "</tr>\n"
        for row in table.rows
    )
    inside = _scrolling(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>")
    if table.note:
        inside += f'<p class="note">{_inline(table.note)}</p>'
    return _folded(inside, table.folded)


def _scrolling(inside):
    return (
        f'<div class="box"><div class="scroll" tabindex="0">{inside}</div></div>'
        '<p class="more">goes on to the right →</p>'
    )


def _folded(inside, title, state=""):
    return f"<details{state}><summary>{escape(title)}</summary>{inside}</details>" if title else inside


def _html_figure(figure):
    caption = f"<figcaption>{_inline(figure.caption)}</figcaption>" if figure.caption else ""
    if figure.wide:
        width = int(re.search(r'viewBox="0 0 (\d+)', figure.svg)[1])
        drawn = figure.svg.replace("<svg ", f'<svg style="--min:{width}px" ', 1)
        return f'<figure class="wide">{_scrolling(drawn)}{caption}</figure>'
    return f"<figure>{figure.svg}{caption}</figure>"


def _html_picture(picture):
    kind = "png" if picture.png.startswith(b"\x89PNG") else "webp"
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img alt="{escape(picture.title)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption><strong>{escape(picture.title)}</strong><br>{escape(picture.caption)}</figcaption></figure>"
    )


def _html_levels(block):
    """The levels' data, and a list to open one; a click in the figure opens one too."""
    names = ("contenders", "outcomes", "stride", "tiles", "symbols", "names", "data")
    data = json.dumps({name: getattr(block, name) for name in names}, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<div class="open" hidden><label>Open a level with every run on it: '
        '<select><option value="">choose one ...</option></select></label>'
        f'<script type="application/json">{data}</script></div>'
    )


def _html_weights(block):
    sliders = "".join(
        f'<label>{escape(name)} <output>{weight:g}</output><input type="range" min="0" max="{max(5, weight):g}" '
        f'step="0.5" value="{weight:g}"></label>'
        for name, weight in zip(block.names, block.weights, strict=True)
    )
    rows = _weight_rows(block)
    body = "".join(
        f'<tr data-scores="{escape(json.dumps([round(s, 4) for s in block.scores[k]]))}" data-total="{row[1]}"'
        f"{' class=best' if row[2] == '1' else ''}>"
        + "".join(_html_cell(cell, n, 1) for n, cell in enumerate(row))
        + "</tr>\n"
        for k, row in rows
    )
    head = "".join(
        f'<th scope="col"{" class=w" if k == 0 else ""}>{escape(name)}</th>'
        for k, name in enumerate(_weight_head(block))
    )
    return (
        f'<div class="decision"><div class="weights">{sliders}</div>'
        + _scrolling(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>")
        + "</div>"
    )


def _weight_head(block):
    return ["", "score", "rank", *block.more_names, *block.names]


def _weight_rows(block):
    """(index, row of cells) of the contenders, the highest score first."""
    total = [sum(s * w for s, w in zip(own, block.weights, strict=True)) / sum(block.weights) for own in block.scores]
    rows = []
    for k in sorted(range(len(total)), key=lambda k: -total[k]):
        rank = 1 + sum(other > total[k] + 1e-12 for other in total)
        cells = [Cell(raw, f"{score:.2f}", score) for raw, score in zip(block.raw[k], block.scores[k], strict=True)]
        rows.append((k, [block.contenders[k], f"{total[k]:.2f}", str(rank), *block.more[k], *cells]))
    return rows


def markdown(blocks: list, pictures: str) -> tuple[str, dict[str, bytes]]:
    """The blocks as Markdown -> text, files (name -> content) of the folder `pictures` beside it."""
    lines, files = [], {}
    for block in blocks:
        match block:
            case Heading():
                lines += ["#" * block.level + " " + _plain(block.text), ""] if block.level else []
            case Text():
                lines += [("> " if block.kind == "warn" else "") + _plain(block.text), ""]
            case Bullets():
                lines += [f"- {_plain(item)}" for item in block.items] + [""]
            case Table():
                lines += ([f"{_plain(block.folded)}:", ""] if block.folded else []) + _md_table(block)
            case Code():
                fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
                lines += ([f"{_plain(block.folded)}:", ""] if block.folded else []) + [fence, block.text, fence, ""]
            case Weights():
                weights = ", ".join(f"{n} {w:g}" for n, w in zip(block.names, block.weights, strict=True))
                rows = [row for _, row in _weight_rows(block)]
                lines += _md_table(Table(_weight_head(block), rows, f"Weights: {weights}."))
            case Figures(page_only=True):
                pass
            case Figure() | Figures():
                if folded := getattr(block, "folded", ""):
                    lines += [f"{_plain(folded)}:", ""]
                for figure in [block] if isinstance(block, Figure) else block.figures:
                    name = _file_name(figure.name, "svg", files)
                    files[name] = _printable(standalone(figure.svg)).encode(errors="backslashreplace")
                    lines += [f"![{_plain(figure.caption)}]({pictures}/{name})", ""]
                    if figure.caption:
                        lines += [_plain(figure.caption), ""]
            case Gallery():
                for picture in block.pictures:
                    kind = "png" if picture.png.startswith(b"\x89PNG") else "webp"
                    name = f"failure_{sum(n.startswith('failure_') for n in files) + 1}.{kind}"
                    files[name] = picture.png
                    lines += [f"![{_plain(picture.title)}]({pictures}/{name})", ""]
                    lines += [f"{_plain(picture.title)}: {_plain(picture.caption)}", ""]
    return _printable(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"), files


def _printable(text: str) -> str:
    """The text with a mark in place of control characters, of which some steer terminals or turn writing around."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\N{REPLACEMENT CHARACTER}", text)


def _file_name(name: str, ending: str, taken) -> str:
    """A plain name that is not taken yet; letters count as equal in both cases, as on some file systems."""
    plain, used = plain_name(name)[:100], {other.lower() for other in taken}
    names = (f"{plain}{more}.{ending}" for more in ("", *(f"_{k}" for k in range(2, len(used) + 3))))
    return next(found for found in names if found.lower() not in used)


def _plain(words: str) -> str:
    """Text for Markdown; characters that HTML or a table would take for markup are escaped."""
    return " ".join(re.sub(r"([\\<>|\[\]])", r"\\\1", words).split())


def _md_table(table):
    def cell(value):
        value = value if isinstance(value, Cell) else Cell(value)
        return _plain(f"{value.text} ({value.detail})" if value.detail else value.text)

    marks = ["---" if k < table.left else "---:" for k in range(len(table.header))]
    lines = ["| " + " | ".join(row) + " |" for row in ([_plain(name) for name in table.header], marks)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in table.rows]
    return [*lines, "", *([_plain(table.note), ""] if table.note else [])]
