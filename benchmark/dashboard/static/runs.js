// The view Runs: a live table, and curves, categories and differences of configuration of the selected runs.

import { Chart, swatch } from "./charts.js";
import { api, complain, duration, element, go, missing, percent, setParams, short } from "./common.js";
import { about, listen, load, nameOf, rows } from "./live.js";

const SIGNS = { running: "●", finished: "✓", dead: "✕", stopped: "‖", queued: "…" };
const MOST_ROWS = 400; // shown in the table at first
const MOST_SELECTED = 200;
const AGAIN = 2500; // ms between two looks at growing curves
const COLUMNS = [
  // key, title, text, whether it is a word
  ["state", "state", null, true],
  ["progress", "progress", null, false],
  ["steps", "steps", (row) => short(row.steps ?? NaN), false],
  ["sps", "steps/s", (row) => short(row.sps ?? NaN), false],
  ["train", "training", (row) => percent(row.train ?? NaN), false],
  ["validation", "validation", (row) => percent(row.validation ?? NaN), false],
  ["test", "test", (row) => percent(row.test ?? NaN), false],
  ["minutes", "time", (row) => duration(row.minutes ?? NaN), false],
  ["left", "left", (row) => duration(row.left ?? NaN), false],
  ["error", "last error", null, true],
];
const TITLES = { train: "success in the last training episodes", validation: "success on validation levels",
  test: "success on the test suite", left: "time left at this speed", sps: "environment steps per second" };
const GROUPS = ["experiment", "architecture", "condition", "label", "seed", "state"];
const CONDITIONS = { no_pretrain: "from scratch", with_pretrain: "pretrained", pretraining: "pretraining" };
const SECTIONS = [
  ["success", "Success", (key) => /^(eval|charts)\/(success_rate|episodic_return|episodic_length)$/.test(key)],
  ["categories", "Categories, in training", (key) => key.startsWith("success/")],
  ["losses", "Losses", (key) => key.startsWith("losses/")],
  ["system", "Speed and system", (key) => key === "charts/SPS" || /^(system|time)\//.test(key)],
  ["rewards", "Rewards and deaths", (key) => /^(reward|deaths)\//.test(key)],
  ["validation", "Validation in detail", (key) => key.startsWith("eval/")],
  ["other", "Others", () => true],
];
const NAMES = { "eval/success_rate": "Success on validation levels", "charts/success_rate": "Success in training episodes",
  "charts/SPS": "Steps per second", "charts/episodic_return": "Return of training episodes",
  "charts/episodic_length": "Length of training episodes, steps", "losses/approx_kl": "Approximate KL, nats",
  "losses/entropy": "Entropy, nats", "system/memory_mib": "Memory, MiB" };

export const keys = [["/", "filter the table"], ["a", "select all that are shown"], ["n", "select none"],
  ["↑ ↓", "from run to run; space selects"], ["← →", "in a chart: values; with shift in larger steps"],
  ["Esc", "in a chart: the whole width again"]];

let root, state, parts, stop, timer, drawing, known, wanted;

export async function show(place, params) {
  root = place;
  const ids = params.getAll("run");
  state = {
    q: params.get("q") || "",
    only: params.get("only") || "",
    by: params.get("by") || "",
    sort: params.get("sort") || "",
    down: params.get("down") === "1",
    selected: new Set(ids),
    x: params.get("x") === "minutes" ? "minutes" : "steps",
    smooth: Math.min(0.99, Math.max(0, Number(params.get("smooth")) || 0)),
    mean: params.get("mean") === "1",
    logx: params.get("logx") === "1",
    logy: params.get("logy") === "1",
    zoom: params.has("from") && params.has("to") ? [Number(params.get("from")), Number(params.get("to"))] : null,
    open: new Set((params.get("open") || "success").split(",")),
    all: false,
  };
  wanted = [];
  known = { keys: [], charts: new Map(), serial: 0, asked: "" };
  build();
  document.addEventListener("keydown", onKey);
  addEventListener("theme", redraw);
  parts.table.append(element("p", { class: "note" }, "Reading the runs …"));
  await load();
  if (root !== place) return;
  stop = listen(onNews);
  table();
  await selection();
}

export function hide() {
  stop?.();
  stop = null;
  clearTimeout(timer);
  timer = null;
  document.removeEventListener("keydown", onKey);
  removeEventListener("theme", redraw);
  known?.abort?.abort();
  for (const chart of known?.charts.values() || []) chart.destroy();
  root = null;
}

function remember() {
  const params = new URLSearchParams();
  const put = (name, value) => value && params.append(name, value === true ? "1" : value);
  for (const name of ["q", "only", "by", "sort", "down", "mean", "logx", "logy"]) put(name, state[name]);
  if (state.x !== "steps") put("x", state.x);
  put("smooth", state.smooth && `${state.smooth}`);
  if (state.zoom) {
    params.append("from", `${Number(state.zoom[0].toPrecision(6))}`);
    params.append("to", `${Number(state.zoom[1].toPrecision(6))}`);
  }
  const open = [...state.open].join(",");
  if (open !== "success") params.append("open", open || "none");
  for (const id of state.selected) params.append("run", id);
  setParams("runs", params);
}

function build() {
  const option = (value, text, now) => element("option", { value, selected: value === now }, text);
  const search = element("input", { type: "search", placeholder: "Filter: words, seed 1, gat ...  ( / )", value: state.q,
    "aria-label": "Filter runs", id: "filter", oninput: () => change({ q: search.value }) });
  const only = element("select", { "aria-label": "State", onchange: () => change({ only: only.value }) },
    ["", ...Object.keys(SIGNS)].map((name) => option(name, name || "all states", state.only)));
  const by = element("select", { "aria-label": "Group the table", onchange: () => change({ by: by.value }) },
    ["", ...GROUPS].map((name) => option(name, name ? `grouped by ${name}` : "not grouped", state.by)));
  const all = element("button", { onclick: () => selectAll(true), title: "Select all that are shown (a)" }, "Select all");
  const none = element("button", { onclick: () => selectAll(false), title: "Select none (n)" }, "None");
  const compare = element("button", { onclick: toCompare, title: "Put the selected runs beside each other" }, "Compare");
  parts = {
    count: element("span", { class: "note", role: "status" }),
    problems: element("div"),
    hint: element("p", { class: "note", hidden: true }, "Select runs to see their curves."),
    table: element("div", { class: "scroll runs-table", tabindex: 0, role: "region", "aria-label": "Runs" }),
    selection: element("div", { class: "selected", hidden: true }),
    legend: element("div", { class: "legend" }),
    sections: element("div"),
    categories: element("div"),
    differences: element("div"),
    search,
  };
  const x = element("select", { "aria-label": "Horizontal axis", onchange: () => axes({ x: x.value, zoom: null }) },
    option("steps", "over steps", state.x), option("minutes", "over wall-clock time", state.x));
  const smooth = element("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: state.smooth, class: "smooth",
    oninput: () => axes({ smooth: Number(smooth.value) }) });
  const check = (name, text) => {
    const box = element("input", { type: "checkbox", checked: state[name],
      onchange: () => axes(name === "logx" ? { logx: box.checked, zoom: null } : { [name]: box.checked }) });
    return element("label", {}, box, text);
  };
  parts.unzoom = element("button", { onclick: () => axes({ zoom: null }), title: "Double click, or Escape" }, "Whole width");
  parts.selection.append(
    element("div", { class: "bar charts-bar" }, x, element("label", {}, "smoothing", smooth),
      check("mean", "mean over seeds"), check("logx", "log x"), check("logy", "log y"), parts.unzoom),
    parts.legend, parts.sections, parts.categories, parts.differences);
  root.append(
    element("div", { class: "bar" }, search, only, by, all, none, compare, parts.count),
    parts.problems, parts.table, parts.hint, parts.selection);
}

function change(values) {
  Object.assign(state, values);
  remember();
  table();
}

function axes(values) {
  Object.assign(state, values);
  remember();
  curves();
}

const words = (row) => [row.architecture, row.label, row.experiment, row.place, row.state, `seed ${row.seed}`,
  CONDITIONS[row.condition], row.suite].join(" ").toLowerCase();

function matching() {
  const terms = state.q.toLowerCase().match(/seed \d+|\S+/g) || [];
  const good = (text, term) => (/^seed \d+$/.test(term) ? `${text} `.includes(`${term} `) : text.includes(term));
  const found = [...rows.values()].filter((row) => (!state.only || row.state === state.only) &&
    terms.every((term) => good(words(row), term)));
  const order = (row) => {
    if (!state.sort) return `${row.state === "running" ? 0 : row.state === "queued" ? 2 : 1}${row.id}`;
    if (state.sort === "run") return `${row.architecture} ${row.label} ${row.experiment} ${String(row.seed).padStart(9)}`;
    return row[state.sort];
  };
  const sign = state.down ? -1 : 1;
  const last = (value) => value === null || value === undefined || value === "";
  found.sort((one, other) => {
    const [a, b] = [order(one), order(other)];
    if (last(a) || last(b)) return last(a) - last(b) || (one.id < other.id ? -1 : 1);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true })) ||
      (one.id < other.id ? -1 : 1);
  });
  return found;
}

function header(key, title, word) {
  const now = state.sort === key;
  const button = element("button", { class: "head", title: TITLES[key], onclick: () =>
    // Numbers begin with the highest, words with the first; the third click gives the usual order again.
    change(now && state.down === word ? { sort: "", down: false } : { sort: key, down: now ? word : !word }) },
    title, now ? (state.down ? " ▾" : " ▴") : "");
  return element("th", { class: word ? "w" : "", scope: "col",
    "aria-sort": now ? (state.down ? "descending" : "ascending") : null }, button);
}

function table() {
  const found = matching();
  const shown = state.all ? found : found.slice(0, MOST_ROWS);
  const focused = document.activeElement?.closest?.("tr")?.dataset.id;
  const top = parts.table.scrollTop;
  const head = element("thead", {}, element("tr", {}, element("th", { class: "w" }), header("run", "run", true),
    COLUMNS.map(([key, title, , word]) => header(key, title, word))));
  const body = element("tbody");
  const groups = new Map();
  for (const row of shown) {
    const name = state.by ? `${state.by === "condition" ? CONDITIONS[row.condition] : row[state.by] || missing}` : "";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  for (const [name, own] of groups) {
    if (state.by) {
      const tested = own.map((row) => row.test).filter((value) => value !== null);
      const mean = tested.length ? `, test ${percent(tested.reduce((a, b) => a + b) / tested.length)} on average` : "";
      const pick = element("button", { class: "link", onclick: () => pickGroup(own) }, "select");
      body.append(element("tr", { class: "group" }, element("th", { class: "w", colspan: COLUMNS.length + 2,
        scope: "rowgroup" }, `${state.by} ${name}`, element("span", { class: "note" }, ` ${own.length} run${own.length === 1 ? "" : "s"}${mean} `), pick)));
    }
    for (const row of own) body.append(line(row));
  }
  parts.table.replaceChildren(element("table", {}, head, body));
  parts.table.scrollTop = top;
  if (found.length > shown.length)
    parts.table.append(element("button", { class: "more", onclick: () => change({ all: true }) },
      `Show all ${found.length} runs`));
  if (focused) body.querySelector(`tr[data-id="${CSS.escape(focused)}"] input`)?.focus({ preventScroll: true });
  const running = found.filter((row) => row.state === "running").length;
  parts.count.textContent = `${found.length} of ${rows.size} runs, ${running} running, ${state.selected.size} selected`;
  if (!rows.size) parts.table.replaceChildren(empty());
  else if (!found.length) parts.table.append(element("p", {}, "No run fits the filter."));
  parts.hint.hidden = !found.length || state.selected.size > 0;
  parts.table.classList.toggle("alone", !state.selected.size);
  parts.problems.replaceChildren(...about.problems.slice(0, 5).map((text) => element("p", { class: "warn" }, text)));
}

function empty() {
  const where = about.folders.length ? `There is no run in ${about.folders.join(", ")} yet. ` : "No folder was given. ";
  return element("p", {}, where, "A run appears here as soon as it starts: ",
    element("code", {}, "python npp_rl/ppo_mlp_baseline.py --max-minutes 10"));
}

// Where a run lies. What its name says already is left out.
function where(row) {
  if (row.place === row.id) return row.place;
  return /^[^/]+\/(no|with)_pretrain\/seed_\d+$/.test(row.place) ? row.experiment : `${row.experiment} · ${row.place}`;
}

function line(row) {
  const box = element("input", { type: "checkbox", checked: state.selected.has(row.id),
    "aria-label": `Select ${row.id}`, onchange: () => pick(row.id, box.checked) });
  const about = [row.label, row.condition === "no_pretrain" ? "" : CONDITIONS[row.condition]].filter(Boolean).join(", ");
  const name = element("th", { class: "w", scope: "row" },
    element("button", { class: "link name", title: row.id, onclick: () => pick(row.id, !state.selected.has(row.id)) },
      `${row.architecture}${about ? ` (${about})` : ""} seed ${row.seed}`),
    row.tested ? [" ", element("button", { class: "link watch", title: "Watch its episodes",
      onclick: () => go("episodes", { run: row.id }) }, "episodes")] : null,
    element("small", {}, where(row)));
  const cells = COLUMNS.map(([key, , text, word]) => {
    const cell = element("td", { class: word ? `w ${key}` : key });
    if (key === "state") cell.append(element("span", { class: `state ${row.state}` }, `${SIGNS[row.state] || ""} ${row.state}`));
    else if (key === "progress") {
      if (row.progress !== null)
        cell.append(element("progress", { max: 1, value: row.progress, "aria-label": "progress" }), percent(row.progress, 0));
    } else if (key === "error") {
      const said = [row.error, ...row.notes].filter(Boolean).join("; ");
      cell.append(element("span", { title: said }, said));
    } else cell.append(text(row));
    return cell;
  });
  return element("tr", { data: { id: row.id }, class: state.selected.has(row.id) ? "on" : "" },
    element("td", { class: "w" }, box), name, cells);
}

function pick(id, on) {
  if (on && state.selected.size >= MOST_SELECTED) return;
  if (on) state.selected.add(id);
  else state.selected.delete(id);
  picked();
}

function pickGroup(own) {
  const all = own.every((row) => state.selected.has(row.id));
  for (const row of own) {
    if (all) state.selected.delete(row.id);
    else if (state.selected.size < MOST_SELECTED) state.selected.add(row.id);
  }
  picked();
}

function selectAll(on) {
  state.selected = new Set(on ? matching().slice(0, MOST_SELECTED).map((row) => row.id) : []);
  picked();
}

function picked() {
  state.zoom = null;
  remember();
  table();
  selection().catch(complain);
}

function toCompare() {
  const params = new URLSearchParams();
  for (const id of state.selected) params.append("run", id);
  go("compare", params);
}

const chosen = () => [...state.selected].map((id) => rows.get(id)).filter(Boolean);

// All that is shown of the selected runs.
async function selection() {
  const own = chosen().filter((row) => row.state !== "queued");
  parts.selection.hidden = !own.length;
  if (!own.length) {
    known.keys = [];
    for (const chart of known.charts.values()) chart.destroy();
    known.charts.clear();
    parts.sections.replaceChildren();
    return;
  }
  const serial = ++known.serial;
  const runs = own.map((row) => row.id);
  const { keys } = await api("keys", {}, { body: { runs: runs.slice(0, 60) } });
  if (serial !== known.serial || !root) return;
  known.keys = keys.filter((key) => !key.startsWith("test/")); // a single point each: they are in the tables
  sections();
  await Promise.all([curves(), categories(own, serial), differences(own, serial)]);
}

function sections() {
  let left = [...known.keys];
  const kept = new Set();
  const blocks = SECTIONS.map(([id, title, holds]) => {
    const keys = left.filter(holds);
    left = left.filter((key) => !keys.includes(key));
    if (!keys.length) return null;
    const grid = element("div", { class: "charts" });
    if (id === "success") keys.sort((a, b) => order(a) - order(b));
    if (state.open.has(id))
      for (const key of keys) {
        kept.add(key);
        if (!known.charts.has(key)) known.charts.set(key, new Chart(NAMES[key] || key));
        grid.append(known.charts.get(key).root);
      }
    const details = element("details", { open: state.open.has(id), class: "section" },
      element("summary", {}, `${title} `, element("span", { class: "note" }, `${keys.length}`)), grid);
    details.addEventListener("toggle", () => {
      if (details.open === state.open.has(id)) return;
      if (details.open) state.open.add(id);
      else state.open.delete(id);
      remember();
      sections();
      curves();
    });
    return details;
  });
  for (const [key, chart] of known.charts)
    if (!kept.has(key)) {
      chart.destroy();
      known.charts.delete(key);
    }
  parts.sections.replaceChildren(...blocks.filter(Boolean));
}

const order = (key) => ["eval/success_rate", "charts/success_rate"].indexOf(key) + 1 || 9;

// Asks for the curves that are open, and draws them.
async function curves() {
  clearTimeout(timer);
  timer = null;
  const keys = [...known.charts.keys()];
  const own = chosen();
  if (!root || !keys.length || !own.length) return;
  known.abort?.abort();
  known.abort = new AbortController();
  const body = { runs: own.map((row) => row.id), x: state.x, smooth: state.smooth,
    group: state.mean ? ["architecture", "condition", "label", "experiment"] : [] };
  if (state.zoom) Object.assign(body, { from: state.zoom[0], to: state.zoom[1] });
  try {
    const answers = [];
    for (let k = 0; k < keys.length; k += 12)
      answers.push(await api("curves", {}, { body: { ...body, keys: keys.slice(k, k + 12) }, signal: known.abort.signal }));
    if (!root) return;
    drawing = Object.assign({}, ...answers.map((answer) => answer.curves));
    redraw();
  } catch (error) {
    complain(error);
  }
}

function redraw() {
  if (!drawing || !root) return;
  const own = chosen();
  const named = new Map(own.map((row) => [row.id, nameOf(row, own)]));
  const groups = new Map();
  const label = (entry) => {
    if (!entry.group) return named.get(entry.runs[0]) || entry.runs[0];
    const { architecture, condition, label: words, experiment } = entry.group;
    const several = new Set(own.map((row) => row.experiment)).size > 1;
    return [architecture, words, condition === "with_pretrain" ? "+ BC" : condition === "pretraining" ? condition : "",
      several ? experiment : ""].filter(Boolean).join(" ");
  };
  // A run or a group has one look in all charts, whichever of them it is in.
  for (const row of own) {
    const entry = state.mean ? { group: row, runs: [row.id] } : { runs: [row.id] };
    const name = label(entry);
    if (!groups.has(name)) groups.set(name, { k: groups.size, count: 0 });
    groups.get(name).count += 1;
  }
  for (const [key, chart] of known.charts) {
    const curves = (drawing[key] || []).map((entry) => {
      const name = label(entry);
      return { ...entry, name, k: groups.get(name)?.k ?? 0 };
    });
    chart.set(curves, {
      xlabel: state.x === "minutes" ? "minutes" : "steps", minutes: state.x === "minutes", logx: state.logx,
      logy: state.logy, zoom: state.zoom,
      onzoom: (low, high) => axes({ zoom: low === null ? null : [low, high] }),
    });
  }
  parts.unzoom.hidden = !state.zoom;
  const focus = (name) => {
    for (const chart of known.charts.values()) chart.focus(name);
  };
  parts.legend.replaceChildren(...[...groups].map(([name, { k, count }]) =>
    element("button", { class: "entry", onmouseenter: () => focus(name), onmouseleave: () => focus(null),
      onfocus: () => focus(name), onblur: () => focus(null) },
      swatch(k), state.mean && count > 1 ? `${name} (${count})` : name)));
  if (state.mean) parts.legend.append(element("span", { class: "note" }, "bands: 95% intervals over seeds"));
}

async function categories(own, serial) {
  const tested = own.filter((row) => row.tested);
  parts.categories.replaceChildren();
  if (!tested.length) return;
  const found = await api("categories", {}, { body: { runs: tested.map((row) => row.id) } });
  if (serial !== known.serial || !root) return;
  const head = element("tr", {}, element("th", { class: "w" }), found.categories.map((name) => element("th", {}, name)));
  const lines = tested.slice(0, 60).map((row) => element("tr", {},
    element("th", { class: "w", scope: "row" }, nameOf(row, own)),
    found.categories.map((name) => {
      const [share, levels] = found.runs[row.id]?.[name] || [NaN, null];
      const cell = element("td", { class: "v", title: levels ? `${levels} levels` : null }, percent(share, 0));
      if (Number.isFinite(share)) cell.style.setProperty("--share", share);
      return cell;
    })));
  const more = tested.length > 60 ? element("p", { class: "note" }, `and ${tested.length - 60} more runs`) : null;
  parts.categories.append(element("h2", {}, "Success on the test suite by category"),
    element("div", { class: "scroll", tabindex: 0 },
      element("table", { class: "heat" }, element("thead", {}, head), element("tbody", {}, lines))), more ?? "");
}

async function differences(own, serial) {
  parts.differences.replaceChildren();
  const some = own.filter((row) => row.state !== "queued").slice(0, 24);
  if (some.length < 2) return;
  const found = await api("configurations", {}, { body: { runs: some.map((row) => row.id) } });
  if (serial !== known.serial || !root) return;
  const names = found.runs.map((id) => nameOf(rows.get(id) || { id, architecture: id, seed: "" }, own));
  const lines = found.rows.map(([name, ...values]) => element("tr", {},
    element("th", { class: "w", scope: "row" }, name),
    values.map((value) => element("td", { class: "w" }, value ?? missing))));
  const note = `${found.same} others are the same${own.length > some.length ? `; of ${own.length} runs the first ${some.length}` : ""}`;
  parts.differences.append(element("h2", {}, "Differences of configuration"), element("p", { class: "note" }, note));
  if (!lines.length) return;
  parts.differences.append(element("div", { class: "scroll", tabindex: 0 }, element("table", {},
    element("thead", {}, element("tr", {}, element("th", { class: "w" }), names.map((n) => element("th", { class: "w" }, n)))),
    element("tbody", {}, lines))));
}

let painting = null;
function onNews(changed) {
  if (!root) return;
  if (!painting)
    painting = requestAnimationFrame(() => {
      painting = null;
      if (root) table();
    });
  wanted.push(...[...changed].filter((id) => state.selected.has(id)));
  if (wanted.length && !timer)
    timer = setTimeout(() => {
      timer = null;
      wanted = [];
      if (known.keys.length) curves();
      else selection().catch(complain);
    }, AGAIN);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input[type=search], input[type=text], select, textarea");
  if (event.key === "Escape" && typing) typing.blur();
  if (typing) return;
  if (event.key === "/") {
    parts.search.focus();
    event.preventDefault();
  } else if (event.key === "a") selectAll(true);
  else if (event.key === "n") selectAll(false);
  else if (["ArrowDown", "ArrowUp", "j", "k"].includes(event.key) && event.target.matches?.("tbody input, tbody button, body, main")) {
    const boxes = [...parts.table.querySelectorAll("tbody input")];
    const now = boxes.indexOf(event.target.closest?.("tr")?.querySelector("input"));
    const next = boxes[Math.min(boxes.length - 1, Math.max(0, now + (["ArrowDown", "j"].includes(event.key) ? 1 : -1)))];
    if (next) {
      next.focus();
      event.preventDefault();
    }
  }
}
