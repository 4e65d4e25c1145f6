"""The dashboard's views Runs and Compare in Chromium: curves that grow, links, keys, names that stay text, 390 px."""

import json
import shutil
import socket
import subprocess
import sys
import time
from urllib.parse import urlencode

import browser
import pytest
from made_runs import make
from serving import serving
from test_dashboard import append, locked, train, write_run

from benchmark.dashboard import runs, views

pytestmark = pytest.mark.skipif(not browser.find(), reason="no Chromium (apt-get install chromium)")

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    found = browser.Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield found
    found.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two architectures with three seeds each, and one whose every name would be markup."""
    top = make(tmp_path_factory.mktemp("served") / "first", ("gat", "mlp_cnn"), (1, 2, 3), ["no_pretrain"], levels=4)
    evil = write_run(top / EVIL.replace("/", "") / "seed_1", [train(k, 0.1) for k in (100, 200)], seed=1,
                     architecture=EVIL, label=EVIL)  # fmt: skip
    (evil / "console.log").write_text(f"error: {EVIL}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "EVENT_SECONDS", 0.1)
        patch.setattr(runs, "LOOK_SECONDS", 0.05)
        patch.setattr(runs, "WALK_SECONDS", 0.1)
        with serving([top]) as found:
            found.top = top
            yield found


@pytest.fixture
def opened(chromium, served):
    """A function that opens a view; at last nothing was complained, and nothing was asked for elsewhere."""

    def open_view(hash_="#/runs", width=1280, dark=False):
        chromium.open("about:blank", width)
        chromium.open(f"{served.address}/{hash_}", width, dark=dark)
        chromium.wait("document.querySelector('#view > .view') !== null")
        if hash_.startswith("#/runs"):
            chromium.wait("document.querySelectorAll('.runs-table tbody tr').length")
        return chromium

    yield open_view
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith(("about:", served.address + "/"))] == []
    chromium.open("about:blank", 1280)


def link(**params) -> str:
    return f"#/runs?{urlencode(params, doseq=True)}"


def ids(served, *words) -> list[str]:
    rows = served.get("/api/runs")[2]["rows"]
    return sorted(row["id"] for row in rows if all(word in row["id"] for word in words))


POINTS = "Number(document.querySelector('[data-key=\"Success in training episodes\"] .plot').dataset.points || 0)"


@pytest.mark.parametrize("view", ["runs", "compare", "episodes", "editor"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_views_load_and_fit(opened, view, width, dark):
    page = opened(f"#/{view}", width, dark)
    page.wait(f"document.querySelector('nav a[data-view={view}]').getAttribute('aria-current') === 'page'")
    page.wait("document.querySelector('#view > .view').childElementCount")
    time.sleep(0.3)
    assert page.run("document.documentElement.scrollWidth") == width
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")


def test_a_live_run_s_curve_grows_and_new_runs_appear(opened, served):
    folder = write_run(served.top / "live/gat/no_pretrain/seed_1", [train(100 * k, k / 50) for k in range(1, 11)])
    name = "first/live/gat/no_pretrain/seed_1"
    with locked(folder):
        page = opened(link(run=name))
        assert page.wait(POINTS) == 10
        state = f"document.querySelector('tr[data-id=\"{name}\"] .state').textContent"
        assert "running" in page.wait(state)
        append(folder, [train(100 * k, k / 50) for k in range(11, 31)])
        page.wait(f"{POINTS} === 30")
        write_run(served.top / "live/gcn/no_pretrain/seed_2", [train(100, 0.5)], seed=2, architecture="gcn")
        page.wait("document.querySelector('tr[data-id=\"first/live/gcn/no_pretrain/seed_2\"]') !== null")
    page.wait(f"{state}.includes('dead')")


def test_selecting_draws_curves_and_the_link_restores_them(opened, served):
    page = opened()
    page.run("document.querySelector('tr[data-id*=\"gat\"] input').click()")
    page.wait(POINTS)
    page.run("document.querySelector('tr[data-id*=\"mlp_cnn\"] input').click()")
    page.wait("document.querySelectorAll('.legend .entry').length === 2")
    page.run("[...document.querySelectorAll('.charts-bar input[type=checkbox]')].forEach(box => box.click())")
    page.run("(() => { const s = document.querySelector('.charts-bar select'); s.value = 'minutes';"
             "s.dispatchEvent(new Event('change')) })()")  # fmt: skip
    page.wait("location.hash.includes('x=minutes') && location.hash.includes('mean=1')")
    page.run("document.querySelectorAll('details.section')[1].querySelector('summary').click()")
    charts = page.wait(
        "document.querySelectorAll('.chart canvas').length > 2 && document.querySelectorAll('.chart').length"
    )
    kept = page.run("location.hash")
    again = opened(kept)
    again.wait(f"document.querySelectorAll('.chart canvas').length === {charts}")
    assert again.run("document.querySelectorAll('tr.on').length") == 2
    assert again.run("[...document.querySelectorAll('.charts-bar input:checked')].length") == 3
    assert again.run("document.querySelector('.charts-bar select').value") == "minutes"


def middle(page, script):
    return page.run(
        f"(() => {{ const e = {script}; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2] })()"
    )


TIP = "document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').textContent"
PLOT = "document.querySelector('[data-key=\"Success in training episodes\"] .plot')"


def test_values_under_the_mouse_and_by_keys(opened, served):
    page = opened(link(run=ids(served, "gat")[:2]))
    page.wait(POINTS)
    page.move(*middle(page, f"{PLOT}.querySelector('.u-over')"))
    said = page.wait(TIP)
    assert "steps" in said and said.count("gat seed") == 2
    page.move(1, 1)
    page.wait(f"!({TIP})")
    page.run(f"{PLOT}.focus()")
    page.press("ArrowRight")
    first = page.wait(TIP)
    page.press("ArrowRight")
    page.wait(f"({TIP}) !== {json.dumps(first)}")
    page.press("Escape")
    page.wait(f"!({TIP})")


def test_dragging_zooms_all_charts_and_escape_ends_it(opened, served):
    page = opened(link(run=ids(served, "gat")[:1]))
    whole = page.wait(POINTS)
    left, top, width = page.run(
        f"(() => {{ const e = {PLOT}.querySelector('.u-over'); e.scrollIntoView({{block: 'center'}});"
        "const b = e.getBoundingClientRect(); return [b.left, b.top + 40, b.width] })()"
    )
    for kind, share in (("mouseMoved", 0.25), ("mousePressed", 0.25), ("mouseMoved", 0.4), ("mouseMoved", 0.5),
                        ("mouseReleased", 0.5)):  # fmt: skip
        page.send(
            "Input.dispatchMouseEvent", type=kind, x=left + share * width, y=top, button="left", buttons=1, clickCount=1
        )
    page.wait("location.hash.includes('from=')")
    page.wait(f"{POINTS} < {whole / 2} && {POINTS} > 2")
    assert (
        page.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Whole width').hidden") is False
    )
    page.run(f"{PLOT}.focus()")
    page.press("Escape")
    page.wait(f"{POINTS} === {whole}")


def test_filter_group_sort_and_keys(opened, served):
    page = opened()
    total = page.run("document.querySelectorAll('.runs-table tbody tr').length")
    page.press("/")
    assert page.run("document.activeElement.id") == "filter"
    page.send("Input.insertText", text="mlp_cnn seed 2")
    page.wait("document.querySelectorAll('.runs-table tbody tr').length === 1")
    page.press("Escape")
    page.press("a")
    page.wait("document.querySelectorAll('tr.on').length === 1")
    page.press("n")
    page.wait("document.querySelectorAll('tr.on').length === 0")
    page.run(
        "(() => { const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input')) })()"
    )
    page.wait(f"document.querySelectorAll('.runs-table tbody tr').length === {total}")
    page.run("[...document.querySelectorAll('button.head')].find(b => b.textContent.startsWith('test')).click()")
    tests = "[...document.querySelectorAll('td.test')].map(c => parseFloat(c.textContent)).filter(v => v === v)"
    values = page.run(tests)
    assert values == sorted(values, reverse=True) and len(values) == 6
    page.run("(() => { const s = document.querySelectorAll('.bar select')[1]; s.value = 'architecture';"
             "s.dispatchEvent(new Event('change')) })()")  # fmt: skip
    groups = page.run("[...document.querySelectorAll('tr.group th')].map(t => t.textContent)")
    assert any(text.startswith("architecture gat") for text in groups) and len(groups) >= 3
    page.press("?")
    assert "filter the table" in page.wait("document.querySelector('dialog[open]').textContent")
    page.press("Escape")
    page.wait("document.querySelector('dialog') === null")
    page.press("2")
    page.wait("location.hash === '#/compare'")
    page.press("d")
    assert page.run("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.press("d")


def test_keys_are_the_dialog_s_while_it_is_open(opened, served):
    page = opened()
    page.press("?")
    page.wait("document.querySelector('dialog[open]') !== null")
    page.press("a")
    page.press("2")
    assert page.run("document.querySelectorAll('tr.on').length") == 0
    assert page.run("location.hash").startswith("#/runs")
    page.press("Escape")
    page.wait("document.querySelector('dialog') === null")
    # What nobody can see is said: no run that fits, and values that a logarithmic axis has no place for.
    page.press("/")
    page.send("Input.insertText", text="nothing_has_this_name")
    page.wait("document.querySelector('.runs-table').textContent.includes('No run fits')")
    assert "Select runs" not in page.run("document.querySelector('.view').innerText")
    write_run(served.top / "under/gat/no_pretrain/seed_1", [train(100 * k, -0.5) for k in range(1, 4)])
    page = opened(link(run="first/under/gat/no_pretrain/seed_1", logy=1))
    page.wait("[...document.querySelectorAll('.plot')].some(p => p.textContent.includes('no value above 0'))")


def test_numbers_are_seen_on_a_telephone(opened, served):
    chosen = [*ids(served, "first/gat"), *ids(served, "first/mlp_cnn"), *ids(served, "onerror")]
    page = opened(link(run=chosen), 390)
    page.wait(
        "document.querySelectorAll('.heat td.v').length && document.querySelectorAll('.selected table').length > 1"
    )
    page.wait("document.querySelectorAll('.legend .entry').length > 3")
    seen = """(() => { const box = %s.closest('.scroll').getBoundingClientRect(), cell = %s.getBoundingClientRect();
        return cell.left >= box.left && cell.right <= box.right + 1 })()"""
    for cell in ("document.querySelector('.heat td.v')",
                 "document.querySelectorAll('.selected .scroll')[1].querySelectorAll('tbody td')[1]"):  # fmt: skip
        assert page.run(seen % (cell, cell)), cell
    entry = "[...document.querySelectorAll('.legend .entry')].slice(0, 4).at(-1)"
    assert page.run(f"{entry}.getBoundingClientRect().bottom <= document.querySelector('.legend')"
                    ".getBoundingClientRect().bottom + 1")  # fmt: skip
    sides = {key: f"first : {name}" for key, name in (("a", "gat"), ("b", "mlp_cnn"))}
    page = opened(f"#/compare?{urlencode(sides)}", 390)
    page.wait("document.querySelectorAll('.matrix td').length")
    cell = "document.querySelector('.matrix tbody tr').lastElementChild"
    assert page.run(seen % (cell, cell))


def test_names_stay_text(opened, served):
    name = next(row["id"] for row in served.get("/api/runs")[2]["rows"] if row["architecture"] == EVIL)
    page = opened(link(run=[name, *ids(served, "gat")[:1]], by="architecture"))
    page.wait(POINTS)
    page.wait("document.querySelectorAll('.view table').length > 1")
    page.move(*middle(page, f"{PLOT}.querySelector('.u-over')"))
    page.wait(TIP)
    assert EVIL in page.run("document.body.textContent")
    assert page.run("document.querySelectorAll('#view img, .tip img').length") == 0
    assert page.run("document.querySelector('tr[data-id*=\"onerror\"] td.error').textContent") == f"error: {EVIL}"


def test_two_sides_are_compared_and_the_text_follows_the_sliders(opened, served):
    page = opened("#/compare")
    page.wait("document.querySelectorAll('select.side option').length > 2")
    for k, name in ((0, "gat"), (1, "mlp_cnn")):
        page.run(f"(() => {{ const s = document.querySelectorAll('select.side')[{k}];"
                 f"s.value = [...s.options].find(o => o.value.endsWith(': {name}')).value;"
                 "s.dispatchEvent(new Event('change')) })()")  # fmt: skip
    said = page.wait("document.querySelector('.said .lead') && document.querySelector('.said').textContent")
    assert "success 30%" in said
    assert page.run("document.querySelectorAll('.gaps tbody tr').length") == 10
    before = page.run("[...document.querySelectorAll('.matrix .total')].map(c => c.textContent)")
    page.run("(() => { const s = document.querySelector('[data-criterion=size]'); s.value = 5;"
             "s.dispatchEvent(new Event('input')) })()")  # fmt: skip
    after = page.run("[...document.querySelectorAll('.matrix .total')].map(c => c.textContent)")
    assert after != before, "at once"
    page.wait("document.querySelector('.said').textContent.includes('size 36%')")
    assert page.run("[...document.querySelectorAll('.matrix .total')].map(c => c.textContent)") == after
    kept = page.run("location.hash")
    assert "w.size=5" in kept
    again = opened(kept)
    again.wait("document.querySelector('.said')?.textContent.includes('size 36%')")
    again.run("document.querySelector('.view section:last-child tbody .link').click()")
    again.wait("location.hash.startsWith('#/episodes?run=') && location.hash.includes('level=')")


def test_intervals_are_seen_on_a_telephone(opened, served):
    sides = {key: f"first : {name}" for key, name in (("a", "gat"), ("b", "mlp_cnn"))}
    page = opened(f"#/compare?{urlencode(sides)}", 390)
    page.wait("document.querySelectorAll('.gap').length === 10")
    assert page.run("[...document.querySelectorAll('.gap')].every(g => g.getBoundingClientRect().right <= 390)")
    assert page.run("document.documentElement.scrollWidth") == 390


def test_a_side_is_named_with_its_experiment(opened, served):
    page = opened("#/compare")
    page.wait("document.querySelectorAll('select.side option').length > 2")
    shown = page.run("[...document.querySelector('select.side').options].slice(1).map(o => o.textContent)")
    assert shown and all(text.startswith("first") for text in shown), "a closed list shows no heading"


def test_a_run_s_folder_goes_while_it_is_looked_at(opened, served):
    folder = write_run(served.top / "away/gin/no_pretrain/seed_1", [train(100 * k, 0.5) for k in range(1, 5)])
    page = opened(link(run="first/away/gin/no_pretrain/seed_1"))
    page.wait(POINTS)
    shutil.rmtree(folder)
    page.wait("document.querySelector('tr[data-id=\"first/away/gin/no_pretrain/seed_1\"]') === null")
    page.press("n")
    assert page.run("document.getElementById('message').hidden")


def test_a_page_finds_a_server_that_was_killed_and_started_anew(chromium, tmp_path):
    write_run(tmp_path / "one", [train(100, 0.5)])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "benchmark.dashboard", tmp_path, "--port", str(port)]

    def start():
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout.readline().startswith(b"http://127.0.0.1")
        return process

    first = start()
    second = None
    try:
        chromium.open(f"http://127.0.0.1:{port}/#/runs", 1280)
        status = "document.getElementById('live').textContent"
        chromium.wait(f"{status} === 'live'")
        first.kill()
        first.wait()
        chromium.wait(f"{status} === 'not connected'")
        write_run(tmp_path / "two", [train(100, 0.5)])
        second = start()
        chromium.wait(f"{status} === 'live'", 20)
        chromium.wait("document.querySelectorAll('.runs-table tbody tr').length === 2")
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()
        chromium.open("about:blank", 1280)


@pytest.mark.parametrize("width", [390, 1280])
def test_text_is_large_enough_and_nothing_sticks_out(opened, served, width):
    page = opened(link(run=ids(served, "first/gat") + ids(served, "first/mlp_cnn"), mean=1), width)
    page.wait(POINTS)
    page.wait("document.querySelectorAll('.heat').length")
    small = """[...document.querySelectorAll('body *')].filter(e => e.getClientRects().length &&
        [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) &&
        parseFloat(getComputedStyle(e).fontSize) < 11).map(e => e.textContent.slice(0, 40))"""
    assert page.run(small) == []
    assert page.run("document.documentElement.scrollWidth") == width
    canvas = "[...document.querySelectorAll('.chart canvas')].every(c => c.getBoundingClientRect().right <= innerWidth)"
    assert page.run(canvas)
