"""The dashboard's episodes and level editor in Chromium.

Playback ends where the simulator ends; a level is drawn, won by the planner, saved and loaded back byte for byte; keys
play it.
"""

import json
import time

import browser
import numpy as np
import pytest
from made_runs import played
from serving import serving
from test_dashboard_episodes import EVIL, room

from benchmark.dashboard import playback
from npp_rl.environment.games import inputs_of
from npp_rl.levels.maps import Level
from npp_rl.simulator import WON, simulate

pytestmark = pytest.mark.skipif(not browser.find(), reason="no Chromium (apt-get install chromium)")

SECONDS = 120  # that a first answer of the simulator may take where it has to be compiled


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    found = browser.Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield found
    found.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Two agents on six levels, one with a title that would be markup; a folder to save to."""
    place = tmp_path_factory.mktemp("served")
    played(place / "exp")
    for path in (place / "exp").rglob("eval_results.json"):
        content = json.loads(path.read_text())
        content["levels"][0] |= {"id": EVIL, "title": EVIL}
        path.write_text(json.dumps(content))
    (place / "saved").mkdir()
    (place / "saved/evil").write_bytes(room([3, 30, 46, 0, 0], [4, 24, 46, 0, 0], title=EVIL))
    with serving([place / "exp"], levels=(f"{place / 'exp'}_levels",), save_to=place / "saved") as found:
        found.place = place
        found.post("/api/editor/check", {"document": {}})  # the processes are there
        yield found


@pytest.fixture
def opened(chromium, served):
    """A function that opens a view; at last nothing was complained, and nothing was asked for elsewhere."""

    def open_view(hash_, width=1280, dark=False):
        chromium.open("about:blank", width)
        chromium.open(f"{served.address}/{hash_}", width, dark=dark)
        return chromium

    yield open_view
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith(("about:", "blob:", served.address + "/"))] == []
    chromium.open("about:blank", 1280)


def click(page, script):
    """Click in the middle of an element."""
    x, y = page.run(
        f"(() => {{ const e = {script}; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2] })()"
    )
    page.move(x, y, click=True)


def button(words):
    return f"[...document.querySelectorAll('button')].find(b => b.textContent.includes({json.dumps(words)}))"


# Pixels are read from a copy: to read the page's own canvas often would be complained about.
READ = """const read = (c, ...box) => { const copy = document.createElement('canvas');
[copy.width, copy.height] = [c.width, c.height];
const ctx = copy.getContext('2d', {willReadFrequently: true}); ctx.drawImage(c, 0, 0);
return ctx.getImageData(...(box.length ? box : [0, 0, c.width, c.height])).data };"""
PIXELS = f"""(() => {{ {READ} const c = document.querySelector('canvas.field'); if (!c || !c.width) return 0;
const d = read(c); let sum = 0;
for (let k = 0; k < d.length; k += 4) sum = (sum * 31 + d[k] * 7 + d[k + 1] * 3 + d[k + 2]) % 1000003;
return sum }})()"""
CLOCK = "document.querySelector('.clock') && document.querySelector('.clock').textContent"


def test_two_clicks_lead_from_a_run_to_an_episode_that_ends_where_the_simulator_ends(opened, served):
    page = opened("#/runs")
    page.wait(f"!!({button('episodes')})", SECONDS)
    click(page, button("episodes"))
    page.wait("document.querySelectorAll('.tile').length === 6", SECONDS)
    drawn = f"""(() => {{ {READ} return [...document.querySelectorAll('.tile canvas')].filter(c => {{ const d = read(c);
        return d.some((v, k) => k % 4 < 3 && v !== d[k % 4]) }}).length }})()"""
    page.wait(f"{drawn} >= 4", SECONDS)
    assert page.run("document.querySelector('.tile .level-name').firstChild.textContent") == EVIL
    page.run("[...document.querySelectorAll('.tile a')][3].click()")
    page.wait(f"({CLOCK}) && document.querySelector('.clock').textContent.includes('frame')", SECONDS)
    name = page.run("new URLSearchParams(location.hash.split('?')[1]).get('run')")
    entry = json.loads((served.runs.run(name).folder / "eval_results.json").read_text())["levels"][3]
    first = entry["tries"][0]
    data = playback.level_of(entry["digest"], [f"{served.place / 'exp'}_levels"]).map_data
    places, _ = simulate(data, inputs_of(first["actions"], 4, first["frames"]))
    if page.run("document.querySelector('.play').textContent") != "▶":
        page.press(" ")  # it plays by itself
    page.wait("document.querySelector('.play').textContent === '▶'")
    page.press("Home")
    before = page.run(PIXELS)
    page.press(" ")
    page.wait(f"parseInt(document.querySelector('input.time').value) > 5 && {PIXELS} !== {before}", 20)
    page.press("End")
    page.wait(f"document.querySelector('input.time').value == {len(places)}")
    assert f"frame {len(places)}" in page.run(CLOCK)
    how = page.run("document.querySelector('.run small').textContent")
    assert f"{len(places) / 60:.2f} s" in how and "otherwise" not in how
    page.press("ArrowLeft")
    assert f"frame {len(places) - 1}" in page.run(CLOCK)
    # The ninja's figure is where the simulator has it: without it, no pixel there would be ink.
    page.press("End")
    x, y = places[-1, :2]
    ink = f"""(() => {{ {READ} document.querySelector('.player-bar input').click(); // without the ways
        const c = document.querySelector('canvas.field'), k = c.width / 1056, [x, y, w] = [{x} - 11, {y} - 11, 22];
        const d = read(c, ...[x * k, y * k, w * k, w * k].map(Math.round)); let dark = 0;
        for (let i = 0; i < d.length; i += 4) dark += d[i] < 60 && d[i + 1] < 60;
        return dark }})()"""
    assert page.run(ink) > 10
    page.press("Escape")
    page.wait("document.querySelectorAll('.tile').length === 6", SECONDS)


def test_two_agents_are_shown_at_once_and_the_link_restores_it(opened, served):
    names = [one["id"] for one in served.get("/api/evaluations")[2]["evaluations"]][:2]
    level = json.loads((served.runs.run(names[0]).folder / "eval_results.json").read_text())["levels"][2]["id"]
    page = opened(f"#/episodes?run={names[0]}&run={names[1]}&level={level}")
    page.wait(
        "document.querySelectorAll('.run input:checked').length === 2 && document.querySelector('.clock').textContent",
        SECONDS,
    )
    page.wait(
        "[...document.querySelectorAll('.run small')].every(e => /after|won/.test(e.textContent))",
        SECONDS,
    )
    click(page, "document.querySelectorAll('.run input')[1]")
    page.wait("location.hash.includes('off=')")
    page.wait("document.querySelectorAll('.run input:checked').length === 1")
    page.run("location.reload()")
    page.wait(
        "document.querySelectorAll('.run input').length >= 2"
        " && document.querySelectorAll('.run input:checked').length === 1",
        SECONDS,
    )


def place_of(column, row):
    """Script: middle of a tile of the editor's canvas, in the window."""
    return (
        "(() => { const c = document.querySelector('canvas.drawing'); c.scrollIntoView({block: 'center'});"
        f"const b = c.getBoundingClientRect(); return [b.left + b.width * {(column + 1.5) * 24 / 1056},"
        f"b.top + b.height * {(row + 1.5) * 24 / 600}] }})()"
    )


def drag(page, start, end):
    (x, y), (u, v) = page.run(place_of(*start)), page.run(place_of(*end))
    page.move(x, y)
    page.send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", buttons=1, clickCount=1)
    for k in range(1, 6):
        at = {"x": x + (u - x) * k / 5, "y": y + (v - y) * k / 5}
        page.send("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **at)
    page.send("Input.dispatchMouseEvent", type="mouseReleased", x=u, y=v, button="left", buttons=0, clickCount=1)


def put(page, kind, *places):
    page.run(f"document.querySelector('[data-kind=\"{kind}\"]').click()")
    for place in places:
        page.move(*page.run(place_of(*place)), click=True)


DRAFT = "JSON.parse(localStorage.getItem('editor draft'))"


def test_a_level_is_drawn_won_by_the_planner_saved_and_loaded_back(opened, served):
    page = opened("#/editor")
    page.wait(
        "document.querySelectorAll('.palette [data-tile]').length === 34 && !!document.querySelector('[data-save]')",
        SECONDS,
    )
    page.run(f"{button('new')}.click()")
    drag(page, (2, 15), (25, 15))  # a floor
    page.run("document.querySelector('[data-tool=entity]').click()")
    page.run("[...document.querySelectorAll('.tools select')].at(-1).value = '2'")
    put(page, 0, (4, 14))
    put(page, 3, (20, 14), (12, 14))
    put(page, 2, (8, 14), (9, 14))
    drawn = page.run(DRAFT)
    kinds = [entity[0] for entity in drawn["entities"]]
    assert kinds == [0, 3, 2, 2] and len(drawn["entities"][1]) == 6
    assert [drawn["tiles"][2 * k : 2 * k + 2] for k in range(15 * 42 + 2, 15 * 42 + 26)] == ["01"] * 24
    page.wait("document.querySelectorAll('.checks li.good').length === 3", SECONDS)
    page.wait("!!document.querySelector('.result strong')", SECONDS)
    said = page.run("document.querySelector('.result strong').textContent")
    assert said.startswith("won in ")
    # Undo and redo, and a mirror image and back.
    page.run("document.querySelector('[data-act=undo]').click()")
    assert len(page.run(DRAFT)["entities"]) == 3
    page.run("document.querySelector('[data-act=redo]').click()")
    page.run(f"{button('⇋')}.click()")
    assert page.run(DRAFT)["entities"] != drawn["entities"]
    page.run(f"{button('⇋')}.click()")
    assert page.run(DRAFT) == drawn
    # Its title, and the file.
    title = "document.querySelector('.right input[type=text]')"
    page.run(f"{title}.value = 'drawn here'")
    page.run(f"{title}.dispatchEvent(new Event('change'))")
    page.run("[...document.querySelectorAll('.right input[type=text]')].at(-1).value = 'drawn'")
    page.run("document.querySelector('[data-save=map]').click()")
    page.wait("location.hash.includes('saved=drawn')", SECONDS)
    data = (served.place / "saved/drawn").read_bytes()
    level = Level(data, "", "")
    assert level.tiles[15, 2:26].tolist() == [1] * 24 and level.tiles.sum() == 24
    assert level.entities[:, 0].tolist() == [0, 3, 4, 2, 2] and b"drawn here" in data[38:166]
    # Loaded back: the same bytes, and the planner's run wins.
    page = opened("#/editor?saved=drawn")
    page.wait("!!document.querySelector('.result strong')", SECONDS)
    page.run("[...document.querySelectorAll('.right input[type=text]')].at(-1).value = 'again'")
    page.run("document.querySelector('[data-save=map]').click()")
    page.wait("location.hash.includes('saved=again')", SECONDS)
    assert (served.place / "saved/again").read_bytes() == data
    page.run(f"{button('watch')}.click()")
    page.wait(
        "document.querySelector('.over input.time')"
        " && [...document.querySelectorAll('.over .note')].some(e => e.textContent.includes('won in'))",
        SECONDS,
    )
    page.press("End")
    frames = int(page.run("document.querySelector('.over input.time').value"))
    assert f"{frames / 60:.2f} s" in page.run("document.querySelector('.result strong').textContent")


def press(page, key, **more):
    """A key that types a character or has modifiers."""
    code = {" ": "Space", "z": "KeyZ"}.get(key, key)
    for kind in ("rawKeyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=key, code=code, **more)


def test_a_level_is_drawn_with_the_keyboard_alone(opened):
    page = opened("#/editor")
    page.wait("document.querySelectorAll('.palette [data-tile]').length === 34", SECONDS)
    page.run(f"{button('new')}.click()")
    page.run("document.querySelector('canvas.drawing').focus()")
    press(page, "ArrowRight")  # the cursor appears in the middle
    where = "document.querySelector('.where').textContent"
    begin = page.run(where)
    assert begin.startswith("column 22, row 12 ") and begin.endswith(" · empty")
    assert page.run("document.querySelector('.where').getAttribute('aria-live')") == "polite"
    for key in (" ", "ArrowLeft", " ", "ArrowDown", " "):
        press(page, key)
    tiles = tiles_of(page)
    assert np.argwhere(tiles).tolist() == [[11, 20], [11, 21], [12, 20]]
    assert page.run(where).startswith("column 21, row 13 ") and page.run(where).endswith(" · tile 1")
    # Entities, too; what is selected moves.
    press(page, "e")
    page.run("document.querySelector('[data-kind=\"2\"]').click()")
    assert "false" not in page.run("document.querySelector('.palette').innerText")
    page.run("document.querySelector('canvas.drawing').focus()")
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", " "):
        press(page, key)
    gold = page.run(f"{DRAFT}.entities.filter(e => e[0] === 2)")
    assert len(gold) == 1 and page.run(where).endswith(" · gold")
    press(page, "v")
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        press(page, key)
    assert page.run(f"{DRAFT}.entities.filter(e => e[0] === 2)") == [[2, gold[0][1] + 4, *gold[0][2:]]]
    assert page.run("document.querySelectorAll('canvas.drawing:focus').length") == 1


def test_undo_brings_back_the_level_that_another_one_replaced(opened, served):
    page = opened("#/editor")
    page.wait("document.querySelectorAll('.palette [data-tile]').length === 34", SECONDS)
    page.run(f"{button('new')}.click()")
    drag(page, (3, 5), (7, 5))
    drawn = page.run(DRAFT)
    page.run(f"{button('new')}.click()")
    assert not tiles_of(page).any()
    page.run(f"{button('undo')}.click()")
    assert page.run(DRAFT) == drawn
    # Keys behind the list of keys do nothing.
    press(page, "?", text="?")
    page.wait("document.querySelector('dialog[open]') !== null")
    press(page, "h", text="h")
    press(page, "z", modifiers=2)
    assert page.run(DRAFT) == drawn
    page.press("Escape")
    page.wait("document.querySelector('dialog') === null")
    # A saved file keeps its name, whatever its title is; undo leads to what was drawn before, which is no file.
    page.run("document.querySelector('select[aria-label=\"Saved levels\"]').value = 'evil'")
    page.run("document.querySelector('select[aria-label=\"Saved levels\"]').dispatchEvent(new Event('change'))")
    page.wait("location.hash.includes('saved=evil')", SECONDS)
    page.wait(f"{DRAFT}.title === {json.dumps(EVIL)}", SECONDS)
    name = "document.querySelector('.right input[aria-label=\"Name of the file\"]').value"
    assert page.run(name) == "evil"
    page.run(f"{button('undo')}.click()")
    assert page.run(DRAFT) == drawn and page.run("location.hash") == "#/editor"
    page.run(f"{button('redo')}.click()")
    assert page.run(DRAFT)["title"] == EVIL and page.run(DRAFT)["original"]


def test_the_ribbon_shows_the_keys_and_time_runs_as_in_the_game(opened, served):
    name = served.get("/api/evaluations")[2]["evaluations"][0]["id"]
    entry = json.loads((served.runs.run(name).folder / "eval_results.json").read_text())["levels"][3]
    first = entry["tries"][0]
    page = opened(f"#/episodes?run={name}&level={entry['id']}")
    page.wait(f"({CLOCK}) && document.querySelector('.clock').textContent.includes('frame')", SECONDS)
    if page.run("document.querySelector('.play').textContent") != "▶":
        page.press(" ")
    page.press("?")
    page.wait("document.querySelector('dialog[open]') !== null")
    page.press("Escape")
    page.wait("document.querySelector('dialog') === null")
    assert "level=" in page.run("location.hash"), "Escape closed the list of keys, not the episode"
    page.press("Home")
    held = np.frombuffer(bytes(inputs_of(first["actions"], 4, first["frames"])), np.uint8)
    width = page.run("document.querySelector('canvas.ribbon').width")
    # The middle of each frame in each lane: left, right, jump. Frames narrower than 3 px are not looked at.
    lit = page.run(f"""(() => {{ {READ} const c = document.querySelector('canvas.ribbon');
        const n = {len(held)}, d = read(c);
        return [3, 10, 17].map(y => Array.from({{length: n}}, (_, f) => {{
            const x = Math.floor((f + .5) * c.width / n);
            return d[4 * (y * c.width + x) + 3] > 200 ? 1 : 0 }})) }})()""")
    for lane, bit in zip(lit, (4, 2, 1), strict=True):
        wanted = (held & bit > 0).astype(int)
        inner = np.ones(len(held), bool)
        inner[:2] = False  # the line of the time lies there
        if width < 3 * len(held):
            change = np.flatnonzero(np.diff(wanted))
            inner[change] = inner[change + 1] = False
        assert (np.array(lane) == wanted)[inner].all(), bit
    # Frames follow the clock: a page that draws slowly leaves frames out, and the game never runs fast.
    began = page.run("""(() => { window.seen = []; const slider = document.querySelector('input.time');
        const look = () => { window.seen.push([performance.now(), Number(slider.value)]);
            if (window.seen.length < 400) requestAnimationFrame(look) };
        document.querySelector('.play').click(); requestAnimationFrame(look); return true })()""")
    assert began
    page.wait(
        "window.seen.at(-1)?.[1] >= Number(document.querySelector('input.time').max) || window.seen.length >= 400", 30
    )
    seen = np.array(page.run("window.seen"))
    seen = seen[(seen[:, 1] > 0) & (seen[:, 1] < len(held))]
    frames, milliseconds = seen[-1, 1] - seen[0, 1], seen[-1, 0] - seen[0, 0]
    assert len(seen) > 3 and milliseconds > 100
    assert frames == pytest.approx(60 * milliseconds / 1000, abs=12)


def tiles_of(page):
    """The draft's tiles uint8 [23, 42]."""
    return np.frombuffer(bytes.fromhex(page.run(DRAFT)["tiles"]), np.uint8).reshape(23, 42)


@pytest.mark.parametrize(
    ("symmetry", "images"),
    [
        ("h", [lambda c, r: (41 - c, r)]),
        ("v", [lambda c, r: (c, 22 - r)]),
        ("hv", [lambda c, r: (41 - c, r), lambda c, r: (c, 22 - r), lambda c, r: (41 - c, 22 - r)]),
        ("r", [lambda c, r: (41 - c, 22 - r)]),
    ],
)
def test_what_is_drawn_appears_in_its_images_too(opened, symmetry, images):
    page = opened("#/editor")
    page.wait("document.querySelectorAll('.palette [data-tile]').length === 34", SECONDS)
    page.run(f"{button('new')}.click()")
    before = tiles_of(page).copy()
    chosen = "document.querySelector('select[aria-label=Symmetry]')"
    page.run(f"{chosen}.value = '{symmetry}'; {chosen}.dispatchEvent(new Event('change'))")
    drag(page, (3, 5), (7, 5))
    expected = before.copy()
    for column in range(3, 8):
        for c, r in [(column, 5), *(image(column, 5) for image in images)]:
            expected[r, c] = 1
    assert tiles_of(page).tolist() == expected.tolist() and (expected != before).sum() >= 10
    page.run(f"{chosen}.value = 'none'; {chosen}.dispatchEvent(new Event('change'))")


def test_an_area_is_copied_cut_and_pasted(opened):
    page = opened("#/editor")
    page.wait("document.querySelectorAll('.palette [data-tile]').length === 34", SECONDS)
    page.run(f"{button('new')}.click()")
    drag(page, (3, 10), (7, 10))
    page.run("document.querySelector('[data-tool=entity]').click()")
    put(page, 2, (5, 9))
    drawn, gold = tiles_of(page).copy(), [e for e in page.run(DRAFT)["entities"] if e[0] == 2]
    page.run("document.querySelector('[data-tool=select]').click()")
    drag(page, (3, 8), (7, 10))
    page.run(f"{button('copy')}.click()")
    page.run(f"{button('paste')}.click()")
    page.move(*page.run(place_of(13, 3)), click=True)
    expected = drawn.copy()
    expected[3:6, 13:18] = drawn[8:11, 3:8]
    assert tiles_of(page).tolist() == expected.tolist()
    found = [e for e in page.run(DRAFT)["entities"] if e[0] == 2]
    assert found[0] == gold[0] and found[1] == [2, gold[0][1] + 40, gold[0][2] - 20, *gold[0][3:]]  # quarters of tiles
    # Cut by keys: what was there is gone.
    page.run("document.querySelector('[data-tool=select]').click()")
    drag(page, (13, 3), (17, 5))
    page.send("Input.dispatchKeyEvent", type="keyDown", key="x", code="KeyX", windowsVirtualKeyCode=88, modifiers=2)
    page.wait(f"{DRAFT}.entities.filter(e => e[0] === 2).length === 1")
    expected[3:6, 13:18] = 0
    assert tiles_of(page).tolist() == expected.tolist()


def test_levels_are_sorted(opened, served):
    names = [one["id"] for one in served.get("/api/evaluations")[2]["evaluations"]][:2]
    files = [served.runs.run(name).folder / "eval_results.json" for name in names]
    one, two = (json.loads(file.read_text())["levels"] for file in files)
    rows = []
    for first, second in zip(one, two, strict=True):
        rates = [sum(t["success"] for t in entry["tries"]) / len(entry["tries"]) for entry in (first, second)]
        rows.append((first["id"], rates, first["par"] or 0))
    orders = {
        "difficulty": lambda row: (sum(row[1]) / 2, -row[2]),
        "difference": lambda row: (-abs(row[1][0] - row[1][1]), row[1][1] - row[1][0]),
        "par": lambda row: -row[2],
        "name": lambda row: row[0],
    }
    shown = "[...document.querySelectorAll('.tile .level-name')].map(e => e.firstChild.textContent)"
    for name, key in {"suite": None, **orders}.items():
        page = opened(f"#/episodes?run={names[0]}&run={names[1]}&sort={name}")
        page.wait("document.querySelectorAll('.tile').length === 6", SECONDS)
        assert page.run(shown) == [row[0] for row in (sorted(rows, key=key) if key else rows)], name
    ends = {"end": "by cause of death"}
    page = opened(f"#/episodes?run={names[0]}&run={names[1]}&sort=end")
    page.wait("document.querySelectorAll('.tile').length === 6", SECONDS)
    assert ends["end"] in page.run("document.querySelector('select[aria-label=sort]').selectedOptions[0].textContent")
    causes = page.run("[...document.querySelectorAll('.tile')].map(e => e.querySelector('.end').textContent)")
    lost = [not cause.startswith(("won", "▲ won", "● won")) and "won" not in cause for cause in causes]
    assert lost == sorted(lost, reverse=True)  # those that were lost first


def test_it_is_played_by_keys_as_the_simulator_plays(opened, served):
    page = opened("#/editor?saved=evil")
    page.wait("document.querySelectorAll('.checks li.good').length === 3", SECONDS)
    assert page.run("document.querySelector('.right input[type=text]').value") == EVIL
    page.run(f"{button('play it')}.click()")
    page.wait("!!document.querySelector('.over canvas.field')")
    page.wait(f"({CLOCK}) === '0.00 s'", SECONDS)
    page.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    page.wait("document.querySelector('.over strong').textContent.startsWith('won in')", SECONDS)
    page.send("Input.dispatchKeyEvent", type="keyUp", key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    data = (served.place / "saved/evil").read_bytes()
    exact, states = simulate(data, bytes([2]) * 200)
    assert states[-1] == WON
    shown = page.run("document.querySelector('.over strong').textContent")
    assert shown == f"won in {len(exact) / 60:.2f} s", "the key was held from the first frame on"
    page.press("Escape")
    page.wait("!document.querySelector('canvas.drawing').hidden")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_nothing_is_wider_than_the_window(opened, served, width, dark):
    page = opened("#/editor?saved=evil", width, dark)
    page.wait("document.querySelectorAll('.checks li').length", SECONDS)
    assert page.run("document.documentElement.scrollWidth") == width
    name = served.get("/api/evaluations")[2]["evaluations"][0]["id"]
    page = opened(f"#/episodes?run={name}&level=simpler/0", width, dark)
    page.wait(CLOCK, SECONDS)
    time.sleep(0.2)
    assert page.run("document.documentElement.scrollWidth") == width
    assert np.isfinite(page.run(PIXELS))
