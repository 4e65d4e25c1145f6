"""The report in Chromium: readable at 390 px, tips, levels on a click, CSV, and names that stay text."""

import json
import time

import browser
import pytest
from made_runs import played
from PIL import Image

from benchmark import report
from benchmark.reporting import decision, plots
from npp_rl import ARCHITECTURES

pytestmark = pytest.mark.skipif(not browser.find(), reason="no Chromium (apt-get install chromium)")

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    found = browser.Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Eight architectures, one of them and one level of them with names that would be markup."""
    folder = played(tmp_path_factory.mktemp("browser") / "all", ARCHITECTURES, (1, 2))
    for place in folder.rglob("*.json"):
        content = json.loads(place.read_text())
        if content.get("architecture") == "gat":
            content["architecture"] = EVIL
        for entry in content["levels"] if place.name == "eval_results.json" else []:
            entry["id"] = EVIL if entry["id"] == "medium/1" else entry["id"]
        if place.name == "eval_results.json":
            lost = [entry["id"] for entry in content["levels"] if not entry["success_rate"]]
            (place.parent / "failures").mkdir()
            Image.new("RGB", (64, 36), "grey").save(place.parent / "failures/one.png")
            content["pictures"] = dict.fromkeys(lost[:2], "failures/one.png")
        place.write_text(json.dumps(content))
    report.write(folder / "out", *report.report([folder], decision.parse_weights(None)))
    return (folder / "out/report.html").as_uri()


@pytest.fixture
def opened(chromium, address):
    """A function that opens the report at a width, with all that is folded unfolded; at last nothing was complained."""

    def open_page(width, dark=False):
        chromium.open(address, width, dark=dark)
        chromium.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
        return chromium

    yield open_page
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith("file:")] == []


SMALL = """(() => { const found = [];
for (const e of document.querySelectorAll('main *')) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || e.closest('script')) continue;
  const svg = e.closest('svg'), size = parseFloat(getComputedStyle(e).fontSize) * (svg ? svg.getScreenCTM().a : 1);
  if (size < 11) found.push(e.textContent.slice(0, 40) + ' ' + size.toFixed(1)); }
return found })()"""


@pytest.mark.parametrize("width", [390, 1280])
def test_all_text_is_large_enough(opened, width):
    page = opened(width)
    assert page.run(SMALL) == []
    assert page.run("document.documentElement.scrollWidth") == width


def test_what_goes_on_at_the_right_says_so(opened):
    page = opened(390)
    page.wait("document.querySelectorAll('.box.on').length")
    going_on = """[...document.querySelectorAll('.scroll')].map(s => { const b = s.parentElement,
        after = getComputedStyle(b, '::after'), wide = s.scrollWidth > s.clientWidth + 3;
        return [wide, b.classList.contains('on') && after.content !== 'none' && parseFloat(after.width) >= 30
            && after.backgroundImage.includes('gradient')
            && getComputedStyle(b.nextElementSibling).display !== 'none'] })"""
    found = page.run(going_on)
    assert all(wide == said for wide, said in found) and sum(wide for wide, _ in found) > 5
    page.run("document.querySelectorAll('.scroll').forEach(s => { s.scrollLeft = 1e6 })")
    page.wait("!document.querySelectorAll('.box.on').length")
    assert page.run("document.querySelectorAll('.box.before').length") == sum(wide for wide, _ in found)


TIP = "document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').textContent"


def middle(page, script):
    """Middle of an element in the window, scrolled to."""
    return page.run(
        f"(() => {{ const e = {script}; e.scrollIntoView({{block: 'center', inline: 'center'}});"
        "const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2] })()"
    )


def test_a_mark_says_its_name_and_share_when_pointed_at_and_on_the_keyboard(opened):
    page = opened(1280)
    figure = "[...document.querySelectorAll('figure svg')].find(s => s.querySelector('[data-t]'))"
    page.move(*middle(page, f"{figure}.querySelector('[data-t] .p')"))
    said = page.wait(TIP)
    assert "%" in said and said.split(":")[0] in [*ARCHITECTURES, EVIL]
    page.move(1, 1)
    page.wait(f"!({TIP})")
    page.run(f"{figure}.focus()")
    heard = []
    for _ in range(3):
        page.press("ArrowRight")
        heard.append(page.wait(TIP))
    assert len(set(heard)) == 3 and all("%" in words for words in heard)
    page.press("Escape")
    assert page.run(TIP) == ""


HEAT = "document.querySelector('svg[data-heat]')"


def test_a_click_on_a_level_draws_every_run_on_it(opened):
    page = opened(1280)
    facts = json.loads(page.run(f"{HEAT}.dataset.heat"))
    assert page.run("document.querySelectorAll('dialog, .field').length") == 0, "nothing is drawn before"
    x, y = page.run(
        f"(() => {{ {HEAT}.scrollIntoView({{block: 'center'}}); const b = {HEAT}.getBoundingClientRect(),"
        f"k = b.width / {HEAT}.viewBox.baseVal.width; return [b.left + k * {facts['left'] + 1.5 * facts['cell']},"
        f"b.top + k * {facts['top'] + 0.5 * facts['lane']}] }})()"
    )
    page.move(x, y)
    assert page.wait(TIP).startswith(f"{facts['columns'][1]}, {facts['rows'][0]}: ")
    page.move(x, y, click=True)
    assert (
        page.wait("document.querySelector('dialog .field') && document.querySelector('dialog h3').textContent")
        == (facts["columns"][1])
    )
    runs = page.wait("document.querySelectorAll('.runs button').length")
    assert runs == 16 and page.run("document.querySelectorAll('.field .k').length") == 16
    names = page.run("[...document.querySelectorAll('.runs button')].map(b => b.textContent)")
    assert all(any(name.startswith(f"{a}, seed ") for a in [*ARCHITECTURES, EVIL]) for name in names)
    assert any("after" in name for name in names)
    page.press("Escape")
    page.wait("!document.querySelector('dialog').open")


def test_a_picture_of_a_failure_opens_its_level(opened):
    page = opened(1280)
    assert page.run("document.querySelectorAll('.gallery figure').length") > 1
    name = page.run(
        "(() => { const f = document.querySelector('.gallery figure'); f.querySelector('button').click();"
        "return f.querySelector('strong').textContent })()"
    )
    page.wait("document.querySelectorAll('.runs button').length === 16")
    assert page.run("document.querySelector('dialog h3').textContent") == name
    assert page.run("document.activeElement.closest('dialog') !== null")
    page.run(
        "document.querySelectorAll('.gallery .visit')[1].click(); document.querySelector('.gallery .visit').click()"
    )
    page.wait("document.querySelectorAll('.runs button').length === 16")
    assert page.run("document.querySelectorAll('.field').length") == 1, "opened twice, drawn once"
    page.move(*middle(page, "document.querySelector('.field .p')"))
    assert ", seed " in page.wait(TIP), "over the dialog too"
    page.press("Escape")


def test_levels_open_by_keyboard_and_from_the_list_and_names_stay_text(opened):
    page = opened(390, dark=True)
    page.move(1, 1)
    page.run(f"{HEAT}.focus()")
    page.press("ArrowRight")
    said = page.wait(TIP)
    page.press("Enter")
    first = page.wait("document.querySelector('dialog .field') && document.querySelector('dialog h3').textContent")
    assert said.startswith(f"{first}, ")
    page.press("Escape")
    page.wait("!document.querySelector('dialog').open")
    page.run(
        f"(() => {{ const s = document.querySelector('.open select'); s.value = {json.dumps(EVIL)};"
        "s.dispatchEvent(new Event('change')) })()"
    )
    page.wait(f"document.querySelector('dialog').open && document.querySelector('dialog h3').textContent === '{EVIL}'")
    page.wait("document.querySelectorAll('.runs button').length === 16")
    assert page.run("[...document.querySelectorAll('img')].filter(i => !i.src.startsWith('data:')).length") == 0
    assert page.run("document.documentElement.scrollWidth") == 390
    page.press("Escape")


def test_a_table_is_saved_as_it_is_seen(opened, tmp_path):
    page = opened(1280)
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tables = page.run("document.querySelectorAll('.scroll > table').length")
    assert page.run("document.querySelectorAll('button.csv').length") == tables > 5
    seen = page.run("[...document.querySelectorAll('.scroll > table')[1].rows[0].cells].map(c => c.textContent)")
    page.run("document.querySelectorAll('button.csv')[1].click()")
    place = tmp_path / "table_2.csv"
    end = time.monotonic() + 10
    while not (place.exists() and place.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    lines = place.read_bytes().decode("utf-8-sig").split("\r\n")
    assert lines[0] == ",".join(f'"{name}"' for name in seen) and len(lines) > 8
    assert any(line.startswith(f'"{EVIL}","2","') for line in lines)
    made_up = """(() => { const t = document.createElement('table');
        t.innerHTML = '<tr><td></td><td></td><td></td></tr>';
        ['=1+1', '+3.2 points', 'a "b"'].forEach((w, k) => { t.rows[0].cells[k].textContent = w });
        return csv(t) })()"""
    assert page.run(made_up) == '"\'=1+1","+3.2 points","a ""b"""\r\n'


def test_no_labels_overlap(opened):
    page = opened(390)
    overlapping = """(() => { const bad = []; for (const s of document.querySelectorAll('svg')) {
        const b = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        for (let i = 0; i < b.length; i++) for (let j = i + 1; j < b.length; j++) {
          const [p, q] = [b[i][1], b[j][1]];
          if (p.width && q.width && Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2
              && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4) bad.push(b[i][0] + ' / ' + b[j][0]); } }
        return bad })()"""
    assert page.run(overlapping) == []
    outside = """[...document.querySelectorAll('figure svg')].flatMap(s => { const a = s.getBoundingClientRect();
        return [...s.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();
            return b.width && (b.left < a.left - 1 || b.right > a.right + 1) }).map(t => t.textContent) })"""
    assert page.run(outside) == []
    assert plots.CHARACTER > 7
