"""A report's blocks as one self-contained HTML page, and as Markdown with its figures beside it.

The page loads nothing: style, script and pictures are in it, and its content security policy forbids the rest. All
text is escaped, since names in an experiment's files may be anything.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from html import escape

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


@dataclass
class Picture:
    title: str
    caption: str
    png: bytes


@dataclass
class Gallery:
    pictures: list[Picture]


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


STYLE_OF_PAGE = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 96px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:22px;line-height:1.3;margin:64px 0 12px;padding-top:20px;border-top:1px solid var(--line);
overflow-wrap:anywhere}
h3{font-size:17px;margin:36px 0 8px}
h4{font-size:15px;margin:28px 0 6px}
p,ul{max-width:76ch;margin:0 0 14px;overflow-wrap:anywhere}
ul{padding-left:22px}
li{margin:4px 0}
code{font:.9em ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
a{color:var(--good)}
nav{font-size:14px;margin:20px 0 0;line-height:2}
nav a{margin-right:18px;text-decoration:none;white-space:nowrap}
nav a:hover{text-decoration:underline}
.lead{font-size:20px;line-height:1.5;max-width:66ch}
.note,figcaption{color:var(--soft);font-size:14px;line-height:1.5}
.warn{border-left:4px solid var(--bad);padding:8px 16px;background:color-mix(in srgb,var(--bad) 8%,transparent)}
ul.warn{padding-left:34px}
pre{overflow-x:auto;max-height:70vh;font:13px/1.45 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;
border-left:2px solid var(--line);padding:4px 12px}
.scroll{overflow-x:auto;margin:16px 0 8px}
table{border-collapse:collapse;font-size:14px;line-height:1.35;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
th{font-weight:600;white-space:normal;min-width:4.6em;border-bottom:1.5px solid var(--soft);vertical-align:bottom}
.w{text-align:left}
td.w:first-child,th.w:first-child{padding-left:0;position:sticky;left:0;background:var(--paper);z-index:1}
td.long{white-space:normal;min-width:220px;max-width:560px;overflow-wrap:anywhere}
td small{display:block;color:var(--soft);font-size:11.5px}
td.v{background:color-mix(in srgb,var(--k) var(--a),transparent)}
td.v small{color:inherit;opacity:.8}
figure{margin:0;min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:540px}
figure.wide svg{max-width:none;min-width:var(--min)}
.figs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:28px 32px;margin:20px 0}
.figs.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));gap:20px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:24px;margin:20px 0}
.gallery img{width:100%;height:auto;display:block;border:1px solid var(--line)}
.leg{cursor:pointer}
figure.on [data-s]:not(.hot){opacity:.12}
.weights{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,210px),1fr));gap:12px 28px;margin:20px 0}
.weights label{font-size:14px;display:grid;grid-template-columns:1fr auto;gap:0 8px}
.weights input{grid-column:1/-1;width:100%;accent-color:var(--good)}
.weights output{font-variant-numeric:tabular-nums}
tr.best td{font-weight:600}
summary{cursor:pointer;color:var(--good);margin:16px 0 0}
@media(max-width:600px){main{padding:24px 16px 64px}h1{font-size:25px}h2{font-size:20px;margin-top:44px}
.lead{font-size:18px}th,td{padding:6px 9px}}
@media print{.scroll{overflow:visible}nav,.weights{display:none}}
"""

SCRIPT = """
for(const f of document.querySelectorAll('figure')){
  let kept=null;
  const show=s=>{f.classList.toggle('on',s!==null);
    for(const g of f.querySelectorAll('[data-s]'))g.classList.toggle('hot',g.dataset.s===s)};
  for(const l of f.querySelectorAll('.leg')){
    l.addEventListener('mouseenter',()=>show(l.dataset.s));
    l.addEventListener('mouseleave',()=>show(kept));
    l.addEventListener('click',()=>{kept=kept===l.dataset.s?null:l.dataset.s;show(kept)});
  }
}
for(const box of document.querySelectorAll('.decision')){
  const inputs=[...box.querySelectorAll('input')],rows=[...box.querySelectorAll('tbody tr')];
  const update=()=>{
    const w=inputs.map(i=>+i.value),sum=w.reduce((a,b)=>a+b,0);
    inputs.forEach((i,k)=>i.previousElementSibling.textContent=w[k]);
    const totals=rows.map(r=>{const s=JSON.parse(r.dataset.scores);
      return sum?s.reduce((a,v,k)=>a+v*w[k],0)/sum:0});
    rows.forEach((r,k)=>{
      const rank=1+totals.filter(t=>t>totals[k]+1e-12).length;
      r.cells[1].textContent=totals[k].toFixed(2);r.cells[2].textContent=rank;
      r.classList.toggle('best',rank===1);r.dataset.total=totals[k]});
  };
  const sort=()=>{rows.slice().sort((a,b)=>b.dataset.total-a.dataset.total).forEach(r=>r.parentNode.append(r))};
  inputs.forEach(i=>{i.addEventListener('input',update);i.addEventListener('change',sort)});
}
"""

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
        f"{STYLE}{STYLE_OF_PAGE}</style></head>\n<body><main>\n{body}\n</main>\n<script>{SCRIPT}</script></body></html>\n"
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
    inside = (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
    )
    if table.note:
        inside += f'<p class="note">{_inline(table.note)}</p>'
    return _folded(inside, table.folded)


def _folded(inside, title, state=""):
    return f"<details{state}><summary>{escape(title)}</summary>{inside}</details>" if title else inside


def _html_figure(figure):
    caption = f"<figcaption>{_inline(figure.caption)}</figcaption>" if figure.caption else ""
    if figure.wide:
        width = int(re.search(r'viewBox="0 0 (\d+)', figure.svg)[1])
        drawn = figure.svg.replace("<svg ", f'<svg style="--min:{width}px" ', 1)
        return f'<figure class="wide"><div class="scroll" tabindex="0">{drawn}</div>{caption}</figure>'
    return f"<figure>{figure.svg}{caption}</figure>"


def _html_picture(picture):
    kind = "png" if picture.png.startswith(b"\x89PNG") else "webp"
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img alt="{escape(picture.title)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption><strong>{escape(picture.title)}</strong><br>{escape(picture.caption)}</figcaption></figure>"
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
        f'<div class="decision"><div class="weights">{sliders}</div><div class="scroll" tabindex="0"><table><thead>'
        f"<tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></div>"
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
