"""What a report's figures look like: colours, dashes, markers, labels, axes; pictures of levels; training health."""

import base64
import itertools
import json
import re
import zlib

import numpy as np
import pytest
from colour_vision import SEEN, contrast, difference, lab, linear
from made_runs import make, played

from benchmark import report
from benchmark.reporting import decision, details, experiments, learning, level_views, page, plots, sections
from npp_rl.environment.games import inputs_of
from npp_rl.simulator import simulate

WEIGHTS = decision.parse_weights(None)


def comparison_of(folder):
    return sections.compare(experiments.read_experiments([folder])[0])


def curve(name, x, y, colour=0, measured=None):
    x = np.array(x, float)
    return plots.Curve(name, colour, x, np.array(y, float), measured=None if measured is None else np.array(measured))


def test_the_difference_of_colours_is_that_of_its_authors():
    for one, other, expected in (  # Sharma et al. 2005, table 1, pairs 1, 7, 17, 25
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ):
        assert difference(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("side", [plots.LIGHT, plots.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("cones", SEEN)
def test_all_colours_are_told_apart(side, cones):
    seen = [lab(SEEN[cones] @ linear(side[f"c{k}"])) for k in range(plots.COLOURS)]
    assert min(difference(a, b) for a, b in itertools.combinations(seen, 2)) >= 10
    assert min(contrast(side[f"c{k}"], side["paper"]) for k in range(plots.COLOURS)) >= 3


def test_contenders_differ_in_more_than_colour():
    looks = [(plots.dash(k), re.sub(r"[-\d.]+", "", plots.marker(0, 0, k)), k % plots.COLOURS) for k in range(32)]
    assert len(set(looks)) == 32
    first = [look[:2] for look in looks[: plots.COLOURS]]
    assert len(set(first)) == plots.COLOURS and len({dash for dash, _ in first}) == plots.DASHES
    shapes = {re.sub(r' class="[^"]*"', "", plots.marker(0, 0, k)) for k in range(plots.COLOURS)}
    assert len(shapes) == plots.SHAPES


def test_markers_stand_where_something_was_measured_and_far_pieces_are_faint():
    measured = [0, 200_000, 1_000_000]
    drawn = plots.lines([curve("a", measured, [0, 0.5, 0.9], measured=measured)], "steps", "won", (5e4, 1e6), log=True)
    body = drawn.split("leg")[0]
    assert body.count('class="p c0"') == 3 and len(re.findall(r'class="l f"', body)) == 1
    assert "<title>a: 50% at 200k steps</title>" in drawn
    near = [0, 1, 2, 3]
    drawn = plots.lines([curve("a", near, near, measured=near)], "minutes", "won", (0, 12))
    assert 'class="l f"' not in drawn.split("leg")[0]
    paused = plots.Curve("a", 0, np.array([0.0, 1, 2, 9, 10]), np.zeros(5), thin=True)
    drawn = plots.lines([paused], "minutes", "won", (0, 10)).split("leg")[0]
    assert re.findall(r'class="(l[^"]*)"', drawn) == ["l thin", "l thin f", "l thin"]
    drawn = plots.series([("seed 1", paused.x, paused.y)], 0, "loss", "minutes")
    assert drawn.count("thin f") == 1 and drawn.count("<circle") == 5


def labels(drawn):
    """(y, name) of the labels at the ends of lines, from the top."""
    found = re.findall(r'class="c\d leg".*?<text x="[\d.]+" y="([\d.]+)" class="">([^<]*)</text>', drawn)
    return sorted((float(y), name) for y, name in found)


@pytest.mark.parametrize("count", [8, 12, 30])
def test_equal_ends_have_labels_that_do_not_overlap(count):
    drawn = plots.lines([curve(f"name {k}", [0, 1], [0, 0.8], k) for k in range(count)], "x", "y", (0, 1))
    places = [y for y, _ in labels(drawn)]
    height = int(re.search(r'viewBox="0 0 420 (\d+)"', drawn)[1])
    assert len(places) == count and min(np.diff(places)) >= 13 and max(places) < height - 40


def test_labels_stand_in_the_order_of_the_ends():
    ends = [0.2, 0.9, 0.21, 0.5]
    drawn = plots.lines([curve(f"n{k}", [0, 1], [0, end], k) for k, end in enumerate(ends)], "x", "y", (0, 1))
    assert [name for _, name in labels(drawn)] == ["n1", "n3", "n2", "n0"]


def test_places_move_as_little_as_needed():
    assert plots.apart([10, 50], 15, 0, 100) == [10, 50]
    assert plots.apart([50.0] * 3, 10, 0, 100) == pytest.approx([40, 50, 60])
    assert plots.apart([1, 2, 90], 10, 0, 100) == pytest.approx([0, 10, 90])
    assert plots.apart([99, 100], 10, 0, 100) == pytest.approx([90, 100])
    assert plots.apart([5] * 4, 50, 0, 90) == pytest.approx([0, 30, 60, 90])


@pytest.mark.parametrize("low, high", [(6.25, 16), (10, 11), (900, 1100), (3e4, 5e7), (80, 3000)])
def test_no_axis_has_a_single_tick(low, high):
    found = plots.log_ticks(low, high)
    assert 3 <= len(found) <= 8 and low <= found[0] and found[-1] <= high


def test_rows_of_estimates_stand_in_rank_order():
    rows = [("low", [(0, False, 0.2, 0.1, 0.3, "n=3")]), ("high", [(1, False, 0.7, 0.6, 0.8, "n=3")])]
    drawn = plots.dots(rows, "won", (0, 1))
    assert drawn.index(">high<") < drawn.index(">low<")
    assert "<title>high: 70% (60% to 80%), n=3</title>" in drawn


def test_training_episodes_are_beside_the_validation(tmp_path):
    make(tmp_path, ("gat", "mlp_cnn"), [1, 2], ["no_pretrain"])
    blocks = learning.learning(comparison_of(tmp_path), np.random.default_rng(0))
    overview, small, _ = (block.figures for block in blocks if isinstance(block, page.Figures))
    assert [figure.name for figure in overview] == [
        f"{kind}_{axis}_no_pretrain" for axis in ("minutes", "steps") for kind in ("learning", "training")
    ]
    assert 'class="l thin"' in small[0].svg and "gat in training" in small[0].svg


def test_health_of_the_training_is_shown(tmp_path):
    make(tmp_path, ("gat",), [1, 2], ["no_pretrain"])
    for place in tmp_path.rglob("metrics.jsonl"):
        rows = [json.loads(line) for line in place.read_text().splitlines()]
        for k, row in enumerate(rows):
            if row["kind"] == "train":
                row |= {"losses/entropy": 1.7 - k / 100, "losses/explained_variance": k / 100}
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    blocks = learning.health(comparison_of(tmp_path))
    (figures,) = (block for block in blocks if isinstance(block, page.Figures))
    assert figures.folded == "gat" and [figure.svg.count("<title>seed") for figure in figures.figures] == [2, 2, 2]
    titles = [re.search(r'aria-label="([^"]*)"', figure.svg)[1] for figure in figures.figures]
    assert titles == ["entropy, nats", "explained variance", "steps/s"]
    assert "Not logged by any run: policy loss, value loss" in blocks[0].text
    text, files = page.markdown(blocks, "figures")
    assert files == {} and "Not logged" in text


@pytest.fixture(scope="module")
def levels_played(tmp_path_factory):
    """Two architectures, two seeds, six real levels with actions."""
    return played(tmp_path_factory.mktemp("played") / "experiment")


def unpacked(views, name):
    return json.loads(zlib.decompress(base64.b64decode(views.data[views.names.index(name)])))


def test_paths_come_from_the_stored_actions(levels_played):
    views, problems = level_views.level_views(comparison_of(levels_played))
    assert problems == [] and len(views.names) == 6 and views.stride == 4
    run = experiments.read_experiments([levels_played])[0].runs[0]
    for entry in run.entries:
        level = unpacked(views, entry["id"])
        assert len(level["r"]) == 4 and len(level["t"]) == 2 * 23 * 42
        _, seed, how, frames, way = level["r"][0]
        tried = entry["tries"][0]
        assert (seed, frames) == (str(run.seed), tried["frames"])
        assert (views.outcomes[how] == "won") == tried["success"]
        found = level_views.find_levels([run], {entry["digest"]}, [])[entry["digest"]]
        places, _ = simulate(found.map_data, inputs_of(tried["actions"], 4, frames))
        path = np.cumsum(np.array(way).reshape(-1, 2), axis=0)
        assert path[0].tolist() == list(found.spawn)
        assert len(path) == 1 + -(-frames // 4)
        assert np.abs(path[1 : 1 + frames // 4] - places[3::4, :2]).max() <= 0.5
        assert np.abs(path[-1] - places[-1, :2]).max() <= 0.5
        left, top, right, bottom = level["b"]
        assert (path >= (left, top)).all() and (path <= (right, bottom)).all()
        assert all(0 <= symbol < len(views.symbols) for symbol, _, _ in level["e"])


def test_levels_without_actions_or_map_are_said(levels_played, tmp_path):
    def problems(change):
        runs = experiments.read_experiments([levels_played])
        for run in runs[0].runs:
            change(run)
        views, found = level_views.level_views(sections.compare(runs[0]))
        return views, " ".join(found)

    def without(run):
        for entry in run.results["levels"]:
            for tried in entry["tries"]:
                tried.pop("actions")

    def bad(run):
        run.results["levels"][0]["tries"][0]["actions"] = "9x"

    def other(run):
        run.results["levels"][0]["tries"][0]["success"] ^= True

    def nowhere(run):
        run.args["test_dataset"] = str(tmp_path / "nowhere")

    views, said = problems(without)
    assert "24 of 24 episodes have no actions in eval_results.json" in said
    assert all(run[4] == [] for run in unpacked(views, views.names[0])["r"])
    assert "4 episodes have actions that cannot be played" in problems(bad)[1]
    assert "4 episodes end differently than recorded" in problems(other)[1]
    views, said = problems(nowhere)
    assert views is None and "no such folder here" in said and "6 of 6 levels are not where the runs found them" in said


def test_paths_become_coarser_where_they_are_too_many(levels_played, monkeypatch):
    monkeypatch.setattr(level_views, "BYTES", 1)
    views, problems = level_views.level_views(comparison_of(levels_played))
    assert views.stride == 32 and "a point every 32 frames" in problems[0]
    assert "6 levels on which contenders differ least have no paths" in problems[1]
    assert all(run[4] == [] for run in unpacked(views, views.names[0])["r"])


def test_of_many_seeds_the_first_are_drawn(levels_played, monkeypatch):
    monkeypatch.setattr(level_views, "MOST_RUNS", 3)
    views, problems = level_views.level_views(comparison_of(levels_played))
    assert problems == ["Levels are opened with the first 1 seed of each contender, without 2 runs."]
    assert [run[:2] for run in unpacked(views, views.names[0])["r"]] == [[0, "1"], [1, "1"]]


def test_the_page_has_the_levels_as_data(levels_played):
    title, blocks = report.report([levels_played], WEIGHTS)
    html = page.page(title, blocks)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert len(json.loads(data)["names"]) == 6 and html.count('data-heat="') == 1
    text, files = page.markdown(blocks, "figures")
    assert "6 levels can be opened in report.html" in text and b"data-heat" not in files["levels.svg"]


def test_pictures_in_the_folder_of_a_run_are_shown(tmp_path):
    make(tmp_path, ("gat",), [1], ["no_pretrain"], pictures=True)
    run = tmp_path / "gat/no_pretrain/seed_1"
    results = json.loads((run / "eval_results.json").read_text())
    named = results.pop("pictures")
    (run / "eval_results.json").write_text(json.dumps(results))
    assert details.gallery(comparison_of(tmp_path))[0] == []
    for file in named.values():
        (run / file).rename((run / file).with_name((run / file).stem + "__stuck.png"))
    shown, problems = details.gallery(comparison_of(tmp_path))
    assert {picture.title for picture in shown} == set(named) and problems == []


def test_shades_of_failures_are_no_contenders_colours():
    drawn = plots.bars([("gat", [0.3, 0.2, 0.1])], ["stuck", "died", "wandering"], "lost")
    assert not re.search(r'class="c\d', drawn) and "<title>gat, died: 20.0%</title>" in drawn
    shades = [float(value) for value in re.findall(r'opacity="([\d.]+)"', drawn)]
    assert shades[:3] == sorted(shades[:3], reverse=True) and min(-np.diff(shades[:3])) > 0.1


def test_tables_are_in_rank_order(tmp_path):
    make(tmp_path, ("full_hgt", "mlp_cnn", "gat"), [1, 2], ["no_pretrain"])
    comparison = comparison_of(tmp_path)
    won = {c.name: -c.success.mean() for c in comparison.able}
    _, blocks = report.report([tmp_path], WEIGHTS)
    tables = [b for b in blocks if isinstance(b, page.Table) and sorted(row[0] for row in b.rows) == sorted(won)]
    assert len(tables) >= 4
    assert all([row[0] for row in table.rows] == sorted(won, key=won.get) for table in tables)
