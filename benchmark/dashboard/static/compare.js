// The view Compare: two sides (an experiment, or one of its contenders) beside each other, by the report's own figures.

import { api, complain, element, go, missing, percent, setParams, short } from "./common.js";
import { about, load, rows } from "./live.js";

let root, state, parts, abort, timer, found;

export async function show(place, params) {
  root = place;
  found = null;
  state = { a: params.get("a") || "", b: params.get("b") || "", runs: params.getAll("run"), weights: {},
    levels: params.get("levels") || "" };
  for (const [name, value] of params)
    if (name.startsWith("w.")) state.weights[name.slice(2)] = Math.max(0, Number(value) || 0);
  parts = { bar: element("div", { class: "bar" }), result: element("div") };
  root.append(parts.bar, parts.result);
  await load();
  if (root !== place) return;
  if (!state.a && state.runs.length) fromRuns();
  bar();
  await compare();
}

export function hide() {
  abort?.abort();
  clearTimeout(timer);
  root = null;
}

// All that can be a side: key -> {name, runs, experiment}. A contender is an architecture with a label, from scratch or
// pretrained, in an experiment; an experiment is a side too.
function sides() {
  const all = new Map();
  const put = (key, name, experiment, row) => {
    if (!all.has(key)) all.set(key, { key, name, experiment, runs: [], tested: 0 });
    all.get(key).runs.push(row.id);
    all.get(key).tested += row.tested;
  };
  for (const row of [...rows.values()].sort((x, y) => (x.id < y.id ? -1 : 1))) {
    if (row.condition === "pretraining" || row.state === "queued") continue;
    const title = [row.architecture, row.label, row.condition === "with_pretrain" ? "+ BC" : ""].filter(Boolean).join(" ");
    put(`${row.experiment} : ${title}`, title, row.experiment, row);
    put(row.experiment, row.experiment, row.experiment, row);
  }
  const contenders = new Map();
  for (const side of all.values())
    if (side.key !== side.experiment) contenders.set(side.experiment, (contenders.get(side.experiment) || 0) + 1);
  // An experiment with one contender is that contender: one entry is enough.
  return new Map([...all].filter(([key, side]) => side.tested && (key !== side.experiment || contenders.get(key) > 1)));
}

// Sides from runs that were selected in the view Runs: the first two contenders among them.
function fromRuns() {
  const keys = [];
  for (const [key, side] of sides())
    if (key !== side.experiment && side.runs.some((id) => state.runs.includes(id))) keys.push(key);
  [state.a, state.b] = [keys[0] || "", keys[1] || ""];
  state.runs = [];
  remember();
}

function remember() {
  const params = new URLSearchParams();
  if (state.a) params.append("a", state.a);
  if (state.b) params.append("b", state.b);
  if (state.levels) params.append("levels", state.levels);
  for (const [name, value] of Object.entries(state.weights)) params.append(`w.${name}`, `${value}`);
  setParams("compare", params);
}

function bar() {
  const known = sides();
  const pick = (which) => {
    const groups = new Map();
    for (const side of known.values()) {
      if (!groups.has(side.experiment)) groups.set(side.experiment, []);
      groups.get(side.experiment).push(side);
    }
    const select = element("select", { "aria-label": `Side ${which.toUpperCase()}`, class: "side",
      onchange: () => choose({ [which]: select.value }) },
      element("option", { value: "" }, `choose ${which.toUpperCase()}`),
      [...groups].map(([experiment, own]) => element("optgroup", { label: experiment },
        own.map((side) => element("option", { value: side.key, selected: side.key === state[which] },
          `${side.key === experiment ? experiment : `${experiment}: ${side.name}`} (${side.tested} tested)`)))));
    return element("label", {}, which.toUpperCase(), select);
  };
  const swap = element("button", { onclick: () => choose({ a: state.b, b: state.a }), title: "Exchange A and B" }, "⇄");
  const curves = element("button", { onclick: toCurves, disabled: !(known.has(state.a) && known.has(state.b)) }, "Curves of both");
  parts.bar.replaceChildren(pick("a"), swap, pick("b"), curves);
}

function choose(values) {
  Object.assign(state, values);
  remember();
  bar();
  compare().catch(complain);
}

function toCurves() {
  const known = sides();
  const params = new URLSearchParams({ mean: "1" });
  for (const which of ["a", "b"]) for (const id of known.get(state[which]).runs) params.append("run", id);
  go("runs", params);
}

async function compare() {
  const known = sides();
  const [a, b] = [known.get(state.a), known.get(state.b)];
  abort?.abort();
  if (!a || !b || state.a === state.b) {
    const why = known.size < 2 ? "Two contenders with results on a test suite are needed; so far there " +
      `${known.size === 1 ? "is one" : "is none"}${about.folders.length ? "" : ", since no folder was given"}.`
      : state.a && state.a === state.b ? "Choose two different sides." : "Choose two sides to put beside each other.";
    parts.result.replaceChildren(element("p", { class: "note" }, why));
    return;
  }
  abort = new AbortController();
  const title = (side, other) =>
    (side.experiment !== other.experiment && side.key !== side.experiment ? `${side.name} (${side.experiment})` : side.name);
  parts.result.setAttribute("aria-busy", "true");
  if (!found) parts.result.replaceChildren(element("p", { class: "note" }, "Comparing ..."));
  try {
    const body = { a: { name: title(a, b), runs: a.runs.slice(0, 64) }, b: { name: title(b, a), runs: b.runs.slice(0, 64) },
      weights: state.weights };
    found = await api("compare", {}, { body, signal: abort.signal });
    if (root) draw();
  } catch (error) {
    if (error.name === "AbortError") return;
    parts.result.replaceChildren(element("p", { class: "warn" }, error.message));
  } finally {
    parts.result.removeAttribute("aria-busy");
  }
}

// **bold** and `code` of the report's text as elements.
function spoken(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((part) =>
    part.startsWith("**") && part.length > 4 ? element("strong", {}, part.slice(2, -2))
      : part.startsWith("`") && part.length > 2 ? element("code", {}, part.slice(1, -1)) : part);
}

function draw() {
  const [a, b] = found.sides;
  const focused = document.activeElement?.dataset?.criterion;
  parts.text = element("section", { class: "said" });
  parts.matrix = element("section");
  parts.levels = element("section");
  const cards = element("div", { class: "cards" }, [a, b].map((side, k) => element("div", { class: `card side${k}` },
    element("strong", {}, `${"AB"[k]} · ${side.name}`), element("div", { class: "big" }, percent(side.success)),
    element("div", { class: "note" }, `of the test levels, ${side.tested} tested of ${side.runs} runs, seeds ${[...new Set(side.seeds)].join(", ")}`))));
  parts.result.replaceChildren(cards, parts.text, element("h2", {}, "Difference by category"), categories(), parts.matrix,
    parts.levels);
  text();
  matrix();
  levels();
  if (focused) parts.matrix.querySelector(`[data-criterion="${CSS.escape(focused)}"]`)?.focus();
}

function text() {
  parts.text.replaceChildren(element("h2", {}, "What the report says"),
    ...found.text.map((block) => block.kind === "list"
      ? element("ul", {}, block.items.map((item) => element("li", {}, spoken(item))))
      : element("p", { class: block.kind }, spoken(block.text))),
    ...found.warnings.map((line) => element("p", { class: "warn" }, spoken(line))));
  if (found.problems.length)
    parts.text.append(element("details", {}, element("summary", {}, "What is missing or damaged"),
      element("ul", {}, found.problems.map((line) => element("li", {}, line)))));
}

// A's success less B's, with its interval as a bar about 0.
function categories() {
  const [a, b] = found.sides;
  const reach = Math.max(0.05, ...found.categories.flatMap((row) => [row.gap, row.low, row.high].map((v) => Math.abs(v ?? 0))));
  const place = (value) => `${50 + (50 * value) / reach}%`;
  const lines = found.categories.map((row) => {
    const mark = element("div", { class: "gap", role: "img",
      "aria-label": `${points(row.gap)}${row.low === null ? "" : `, ${points(row.low)} to ${points(row.high)}`}` });
    const better = row.low > 0 ? "side0" : row.high < 0 ? "side1" : "open";
    if (row.low !== null) {
      const span = element("i", { class: `span ${better}` });
      span.style.left = place(row.low);
      span.style.right = `calc(100% - ${place(row.high)})`;
      mark.append(span);
    }
    const dot = element("b", { class: `dot ${better}` });
    dot.style.left = place(row.gap);
    mark.append(dot);
    const inside = row.low === null ? missing : `${points(row.low)} to ${points(row.high)}`;
    return element("tr", {}, element("th", { class: "w", scope: "row" }, row.name), element("td", { class: "more" }, `${row.levels}`),
      element("td", {}, percent(row.a)), element("td", {}, percent(row.b)), element("td", {}, points(row.gap)),
      element("td", { class: "more", title: `over ${row.over}` }, inside), element("td", { class: "wide" }, mark));
  });
  const over = new Set(found.categories.map((row) => row.over));
  const note = over.has("levels")
    ? "95% intervals. Where a side has one seed they are over levels, and say nothing of other seeds."
    : "95% intervals over seeds, each category alone. Where the interval holds 0 neither side is ahead beyond chance.";
  return element("div", {}, element("div", { class: "scroll", tabindex: 0 }, element("table", { class: "gaps" },
    element("thead", {}, element("tr", {}, element("th", { class: "w" }), element("th", { class: "more" }, "levels"),
      element("th", { title: a.name }, "A"), element("th", { title: b.name }, "B"), element("th", {}, "A less B, points"),
      element("th", { class: "more" }, "95%"), element("th", { class: "wide" }, "← B · A →"))),
    element("tbody", {}, lines))), element("p", { class: "note" }, note));
}

const points = (value) => (Number.isFinite(value) ? `${value >= 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}` : missing);

function matrix() {
  const { matrix: own, sides: [a, b] } = found;
  parts.matrix.replaceChildren(element("h2", {}, "Decision matrix"));
  if (!own) {
    parts.matrix.append(element("p", { class: "note" }, "No criterion with a weight above 0 is known of both sides."));
    return;
  }
  const given = own.criteria.map((c) => state.weights[c.name] ?? c.weight);
  const raw = (c, value) => (c.unit === "%" ? percent(value) : `${short(value)} ${c.unit}`.trim());
  const totals = [element("td", { class: "total" }), element("td", { class: "total" })];
  const count = () => {
    const sum = given.reduce((x, y) => x + y, 0);
    const scores = own.scores.map((row) => row.reduce((total, score, k) => total + score * given[k], 0) / (sum || 1));
    scores.forEach((score, k) => {
      totals[k].textContent = sum ? score.toFixed(2) : missing;
      totals[k].classList.toggle("best", sum > 0 && score >= Math.max(...scores) - 1e-12);
    });
  };
  const lines = own.criteria.map((c, k) => {
    const output = element("output", {}, `${given[k]}`);
    const slider = element("input", { type: "range", min: 0, max: 5, step: 0.5, value: given[k], "aria-label": `Weight of ${c.name}`,
      data: { criterion: c.name }, oninput: () => {
        given[k] = Number(slider.value);
        output.textContent = slider.value;
        state.weights[c.name] = given[k];
        count();
        remember();
        clearTimeout(timer);
        timer = setTimeout(() => compare(), 500);
      } });
    return element("tr", {}, element("th", { class: "w", scope: "row", title: c.what }, c.name,
      element("small", {}, `${c.what}; ${c.higher ? "more" : "less"} is better`)),
      element("td", {}, slider, output),
      [0, 1].map((s) => element("td", {}, raw(c, own.raw[s][k]), element("small", {}, own.scores[s][k].toFixed(2)))));
  });
  const shares = (title, values) => values && element("tr", {}, element("th", { class: "w", scope: "row" }, title),
    element("td"), values.map((value) => element("td", {}, percent(value, 0))));
  parts.matrix.append(element("div", { class: "scroll", tabindex: 0 }, element("table", { class: "matrix" },
    element("thead", {}, element("tr", {}, element("th", { class: "w" }), element("th", { class: "w" }, "weight"),
      element("th", {}, `A · ${a.name}`), element("th", {}, `B · ${b.name}`))),
    element("tbody", {}, lines, element("tr", {}, element("th", { class: "w", scope: "row" }, "score"), element("td"), totals),
      shares("first, any weights", own.first_by_weights), shares("first, seeds drawn", own.first_by_seeds)))),
  element("p", { class: "note" }, "Small: the score from 0 (worst) to 1 (best). A weight says how much it matters to go " +
    "from the worst to the best in a criterion. The text above follows the weights."));
  if (Object.keys(state.weights).length)
    parts.matrix.append(element("button", { onclick: () => {
      state.weights = {};
      remember();
      compare();
    } }, "First weights"));
  if (own.notes.length) parts.matrix.append(element("p", { class: "note" }, `Missing: ${own.notes.join("; ")}.`));
  count();
}

function levels() {
  const { levels: own, sides: [a, b] } = found;
  parts.levels.replaceChildren(element("h2", {}, "Levels that one wins and the other does not"));
  if (!own.total) {
    parts.levels.append(element("p", { class: "note" }, "The runs have no levels in common, by their results."));
    return;
  }
  const kinds = { "": `all (${own.a_more + own.b_more})`, a: `A more often (${own.a_more})`, b: `B more often (${own.b_more})` };
  parts.levels.append(element("div", { class: "bar" }, Object.entries(kinds).map(([kind, title]) =>
    element("button", { "aria-pressed": `${state.levels === kind}`, onclick: () => {
      state.levels = kind;
      remember();
      levels();
    } }, title)), element("span", { class: "note" },
    `of ${own.total}; both always ${own.both_always}, both never ${own.both_never}`)));
  const some = own.rows.filter((row) => !state.levels || (state.levels === "a" ? row.a > row.b : row.a < row.b));
  const known = sides();
  const watch = (row) => {
    const params = new URLSearchParams();
    for (const which of ["a", "b"]) {
      const first = known.get(state[which])?.runs.find((id) => rows.get(id)?.tested);
      if (first) params.append("run", first);
    }
    params.append("level", row.id);
    go("episodes", params);
  };
  const lines = (rowsOf) => rowsOf.map((row) => element("tr", {},
    element("th", { class: "w", scope: "row" }, element("button", { class: "link", onclick: () => watch(row) }, row.id)),
    element("td", { class: "w" }, row.category), element("td", {}, percent(row.a, 0)), element("td", {}, percent(row.b, 0))));
  const body = element("tbody", {}, lines(some.slice(0, 100)));
  parts.levels.append(element("div", { class: "scroll tall", tabindex: 0 }, element("table", {},
    element("thead", {}, element("tr", {}, element("th", { class: "w" }, "level"), element("th", { class: "w" }, "category"),
      element("th", {}, `A · ${a.name}`), element("th", {}, `B · ${b.name}`))), body)));
  if (some.length > 100) {
    const more = element("button", { onclick: () => {
      body.append(...lines(some.slice(100)));
      more.remove();
    } }, `Show all ${some.length}`);
    parts.levels.append(more);
  }
}
