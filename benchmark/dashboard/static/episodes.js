// The view Episodes: the levels of a suite by who wins them, and every episode on them, played again.
//
// Address: run=ID, one for each evaluation; sort, category, end: what the grid shows; level=ID or digest: the player,
// with try, off (runs that are hidden), ghosts (others that are shown), thought (the run whose thoughts are shown).

import { api, colour, complain, download, element, go, missing, percent, say, setParams } from "./common.js";
import { learn, loadTables, thumbnail } from "./field.js";
import { endOf, Player, seconds, unfolded } from "./player.js";

const MOST = 8, AGENTS = 4, AT_FIRST = 120, BATCH = 24;
const SORTS = {
  suite: "in the suite's order", difficulty: "hardest first", difference: "by difference of the first two",
  end: "by cause of death", par: "longest par first", name: "by name",
};

export const keys = [["space", "play or pause"], ["left, right", "one frame back or on, with shift ten"], ["Home, End", "to the start or the end"],
  ["up, down", "faster or slower"], ["n, p", "the next level or the one before"], ["Escape", "all levels"]];

let root, params, player, abort, seen, chosen, known = null, suite = null, shown;
const levels = new Map(); // digest -> how it looks
const words = (text) => text.replaceAll("_", " ");
const nameOf = (entry, all) => {
  const differ = (key) => all.some((other) => other[key] !== entry[key]);
  const parts = [entry.architecture];
  if (entry.label) parts.push(entry.label);
  if (differ("condition") && entry.condition === "with_pretrain") parts.push("+ BC");
  if (entry.condition === "pretraining") parts.push("pretraining");
  if (differ("experiment")) parts.push(entry.experiment);
  parts.push(`seed ${entry.seed}`);
  if (entry.folder) parts.push(entry.folder);
  const same = all.filter((o) => ["architecture", "label", "condition", "experiment", "seed", "folder"].every((k) => o[k] === entry[k]));
  return same.length > 1 ? `${parts.join(" ")} (${entry.place})` : parts.join(" ");
};

export async function show(place, given) {
  [root, params, abort] = [place, given, new AbortController()];
  const signal = abort.signal;
  root.append(element("h1", {}, "Episodes"));
  const waiting = element("p", { class: "note" }, "Reading the evaluations …");
  root.append(waiting);
  await Promise.all([loadTables(), api("evaluations", {}, { signal }).then((found) => (known = found.evaluations))]);
  if (signal.aborted) return;
  waiting.remove();
  chosen = params.getAll("run").filter((id) => known.some((entry) => entry.id === id)).slice(0, MOST);
  const gone = params.getAll("run").length - chosen.length;
  if (!known.length) {
    root.append(element("p", {}, "No run here has been evaluated yet: a run writes eval_results.json at its end."));
    return;
  }
  if (gone > 0) root.append(element("p", { class: "note" }, `${gone} of the runs in this address have no evaluation here (yet).`));
  if (!chosen.length) chosen = [[...known].sort((a, b) => (b.test ?? -1) - (a.test ?? -1))[0].id];
  suite = await api("suite", {}, { body: { evaluations: chosen }, signal });
  if (signal.aborted) return;
  for (const entry of suite.evaluations)
    if (entry.problem) root.append(element("p", { class: "warn" }, `${entry.id}: ${entry.problem}`));
  if (params.get("level")) await showPlayer(signal);
  else showGrid(signal);
}

export function hide() {
  abort?.abort();
  seen?.disconnect();
  player?.end();
  if (shown) removeEventListener("keydown", shown);
  [player, seen, shown] = [null, null, null];
}

// Writes the choices into the address, and shows the view anew where `again`.
function remember(changes, again = true) {
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== "") params.append(name, one);
  }
  if (!again) return setParams("episodes", params);
  go("episodes", params);
}

function marker(k) {
  const dot = element("span", { class: "dot", "aria-hidden": "true" });
  dot.style.background = `var(--c${k % 8})`;
  return dot;
}

function picker() {
  const all = suite.evaluations;
  const bar = element("div", { class: "bar" });
  chosen.forEach((id, k) => {
    const entry = known.find((one) => one.id === id);
    bar.append(element("span", { class: "chip" }, marker(k), nameOf(entry, known.filter((one) => chosen.includes(one.id))),
      element("small", {}, percent(entry.test)),
      chosen.length > 1 && element("button", { class: "link", title: "Take away", "aria-label": `Take ${nameOf(entry, known)} away`,
        onclick: () => remember({ run: chosen.filter((other) => other !== id) }) }, "×")));
  });
  if (chosen.length < MOST && known.length > chosen.length) {
    const select = element("select", { "aria-label": "Add an evaluation", onchange: () => remember({ run: [...chosen, select.value] }) },
      element("option", { value: "" }, "add an evaluation …"),
      known.filter((entry) => !chosen.includes(entry.id)).map((entry) =>
        element("option", { value: entry.id }, `${nameOf(entry, known)} · ${percent(entry.test)}`)));
    bar.append(select);
  }
  return all.length ? bar : null;
}

const shareOf = (row) => {
  const cells = row[5].filter(Boolean);
  return cells.length ? cells.reduce((sum, cell) => sum + cell[0], 0) / cells.length : 0;
};
const differenceOf = (row) => (row[5][0] && row[5][1] ? row[5][0][0] - row[5][1][0] : 0);

function sorted(rows, by) {
  const keys = {
    difficulty: (row) => [shareOf(row), -(row[4] || 0)],
    difference: (row) => [-Math.abs(differenceOf(row)), -differenceOf(row)],
    end: (row) => [row[5].map((cell) => (cell ? (cell[1] === "won" ? "~" : cell[1]) : "~~")).join(" ")],
    par: (row) => [-(row[4] || 0)],
    name: (row) => [row[1]],
  };
  if (!keys[by]) return rows;
  const withKeys = rows.map((row, k) => [...keys[by](row), k]);
  const compare = (a, b) => a.findIndex((v, i) => v !== b[i]) < 0 ? 0 : ((i) => (a[i] < b[i] ? -1 : 1))(a.findIndex((v, i) => v !== b[i]));
  return withKeys.sort(compare).map((key) => rows[key.at(-1)]);
}

function showGrid(signal) {
  const by = params.get("sort") || "suite", category = params.get("category") || "", end = params.get("end") || "";
  const categories = [...new Set(suite.levels.map((row) => row[2]))];
  const ends = [...new Set(suite.levels.flatMap((row) => row[5].filter(Boolean).map((cell) => cell[1])))].sort();
  const select = (name, value, options) => {
    const found = element("select", { "aria-label": name, onchange: () => remember({ [name]: found.value }) },
      options.map(([key, text]) => element("option", { value: key }, text)));
    found.value = value;
    return found;
  };
  root.append(picker());
  root.append(element("div", { class: "bar" },
    select("sort", by, Object.entries(SORTS).filter(([key]) => key !== "difference" || chosen.length > 1)),
    select("category", category, [["", "all categories"], ...categories.map((name) => [name, words(name)])]),
    select("end", end, [["", "any end"], ["lost", "lost by some"], ["never", "won by none"], ...ends.map((name) => [name, words(name)])])));
  let rows = suite.levels.filter((row) => !category || row[2] === category);
  if (end === "lost") rows = rows.filter((row) => row[5].some((cell) => cell && cell[0] < 1));
  else if (end === "never") rows = rows.filter((row) => shareOf(row) === 0);
  else if (end) rows = rows.filter((row) => row[5].some((cell) => cell && cell[1] === end));
  rows = sorted(rows, by);
  const won = chosen.map((_, k) => rows.filter((row) => row[5][k]).reduce((sum, row) => sum + row[5][k][0], 0));
  root.append(element("p", { class: "note" }, `${rows.length} of ${suite.levels.length} levels`,
    rows.length ? `; won: ${won.map((count) => Number(count.toFixed(1))).join(", ")}.` : ".",
    chosen.length > 1 ? " A tile has a corner for each evaluation: blue is won, orange is lost." : " A blue edge is a win, an orange one a loss."));
  const grid = element("div", { class: "grid", role: "list" });
  root.append(grid);
  const wanted = new Map();
  const fetchWanted = async () => {
    while (wanted.size && !signal.aborted) {
      const some = [...wanted].slice(0, BATCH);
      for (const [digest] of some) wanted.delete(digest);
      await look(some.map(([digest]) => digest), signal);
      for (const [digest, canvases] of some) for (const canvas of canvases) drawIn(canvas, digest);
    }
    busy = false;
  };
  let busy = false;
  seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      if (target === more) {
        append();
        continue;
      }
      const digest = target.dataset.digest;
      if (levels.has(digest)) drawIn(target, digest);
      else wanted.set(digest, [...(wanted.get(digest) || []), target]);
    }
    if (wanted.size && !busy) {
      busy = true;
      fetchWanted().catch(complain);
    }
  }, { rootMargin: "300px" });
  const more = element("p", { class: "note" }, "…");
  let count = 0;
  const append = () => {
    const part = rows.slice(count, count + AT_FIRST);
    grid.append(...part.map(card));
    for (const canvas of grid.querySelectorAll("canvas:not([data-seen])")) {
      canvas.dataset.seen = "";
      if (canvas.dataset.digest) seen.observe(canvas);
    }
    count += part.length;
    if (count < rows.length) {
      grid.after(more);
      seen.observe(more);
    } else more.remove();
  };
  append();
}

// How levels look, from the server; what it does not know stays unknown.
async function look(digests, signal) {
  const found = await api("levels", {}, { body: { digests }, signal });
  learn(found.symbols);
  for (const digest of digests) levels.set(digest, found.levels[digest] || null);
}

function drawIn(canvas, digest) {
  const level = levels.get(digest);
  if (level) thumbnail(canvas, level);
  else canvas.replaceWith(element("span", { class: "unknown" }, "no picture: its level is in none of the data sets of --levels"));
}

function card(row) {
  const [key, id, category, title, , cells] = row;
  const canvas = element("canvas", { width: 176, height: 100, "aria-hidden": "true", data: { digest: /^[0-9a-f]{64}$/.test(key) ? key : "" } });
  const ends = cells.map((cell, k) => cell && element("span", { class: `end ${cell[0] >= 1 ? "won" : cell[0] > 0 ? "some" : "lost"}` },
    chosen.length > 1 && marker(k), cell[3] > 1 ? `${percent(cell[0], 0)} of ${cell[3]}` : cell[1] === "won" ? `won ${cell[2] ? seconds(cell[2]) : ""}` : words(cell[1])));
  const corners = element("span", { class: "corners", "aria-hidden": "true" }, cells.map((cell) =>
    element("span", { class: cell ? (cell[0] >= 1 ? "won" : cell[0] > 0 ? "some" : "lost") : "none" })));
  const open = element("a", { class: "card-link", href: `#/episodes?${linkTo(id)}`, title: `${id}${title ? ` · ${title}` : ""}` },
    canvas, corners, element("span", { class: "level-name" }, id, title && element("small", {}, title)), element("span", { class: "ends" }, ends));
  return element("div", { class: `tile ${cells.length === 1 && cells[0] ? (cells[0][0] > 0 ? "won" : "lost") : ""}`, role: "listitem" }, open);
}

function linkTo(level) {
  const found = new URLSearchParams(params);
  for (const id of ["run", "level", "try", "frame"]) found.delete(id);
  for (const id of chosen) found.append("run", id);
  found.set("level", level);
  return found;
}

// ---- The player ----

async function showPlayer(signal) {
  const wanted = params.get("level");
  const order = sorted(suite.levels, params.get("sort") || "suite");
  const row = order.find((one) => one[0] === wanted || one[1] === wanted);
  const back = new URLSearchParams(params);
  for (const name of ["level", "try", "thought", "judge", "ghosts", "off"]) back.delete(name);
  if (!row) {
    root.append(element("p", { class: "warn" }, `${wanted}: none of these evaluations has this level.`),
      element("p", {}, element("a", { href: `#/episodes?${back}` }, "All levels")));
    return;
  }
  const [key, id, category, title, par, cells] = row;
  const place = order.indexOf(row);
  const step = (by) => {
    const next = order[(place + by + order.length) % order.length];
    const link = new URLSearchParams(params);
    link.set("level", next[1]);
    link.delete("try");
    location.hash = `#/episodes?${link}`;
  };
  root.querySelector("h1").textContent = id;
  root.append(element("div", { class: "bar" },
    element("a", { href: `#/episodes?${back}` }, "All levels"),
    element("button", { title: "The level before (p)", onclick: () => step(-1) }, "‹ before"),
    element("button", { title: "The next level (n)", onclick: () => step(1) }, "next ›"),
    element("span", { class: "note" }, [title, words(category), par ? `par ${seconds(par)}` : ""].filter(Boolean).join(" · "))));
  const stage = element("div", { class: "stage" });
  const left = element("div", { class: "left" }), right = element("div", { class: "right" });
  stage.append(left, right);
  root.append(stage);
  player = new Player(left);
  const problem = element("p", { class: "warn", hidden: true });
  left.append(problem);
  const thoughts = element("div", { class: "thoughts" });
  left.append(thoughts);

  // What may be shown: the evaluations' episodes, then par and replays.
  const number = Number(params.get("try") || 0);
  const off = new Set(params.getAll("off"));
  const entries = chosen.map((run, k) => ({
    id: run, k, name: nameOf(known.find((one) => one.id === run), known.filter((one) => chosen.includes(one.id))), cell: cells[k],
    on: false, track: null, kind: "agent",
  })).filter((entry) => entry.cell);
  entries.filter((entry) => !off.has(entry.id)).slice(0, AGENTS).forEach((entry) => (entry.on = true));
  const tries = Math.max(1, ...entries.map((entry) => entry.cell[3]));
  const list = element("div", { class: "run-list" });
  right.append(element("h3", {}, "Runs"), list);
  if (tries > 1) {
    const select = element("select", { "aria-label": "Try", onchange: () => remember({ try: select.value === "0" ? "" : select.value }) },
      Array.from({ length: tries }, (_, k) => element("option", { value: k }, `try ${k + 1} of ${tries}`)));
    select.value = number;
    right.append(select);
  }

  const refresh = async (autoplay = false) => {
    await Promise.all(entries.filter((entry) => entry.on && !entry.track && !entry.problem).map(async (entry) => {
      try {
        entry.track = unfolded(entry.kind === "agent"
          ? await api("episode", {}, { body: { evaluation: entry.id, level: key, try: Math.min(number, entry.cell[3] - 1) }, signal })
          : await api("game", {}, { body: { level: key, inputs: entry.inputs }, signal }));
      } catch (error) {
        if (error.name === "AbortError") throw error;
        entry.problem = error.message;
      }
    }));
    if (signal.aborted) return;
    const on = entries.filter((entry) => entry.on && entry.track);
    const playing = player.playing || autoplay;
    player.pause();
    problem.hidden = on.length > 0;
    if (!on.length) problem.textContent = entries.find((entry) => entry.problem)?.problem || "No run is shown: choose one.";
    await player.show(on.map((entry) => ({ name: entry.name, color: entry.k, track: entry.track })), player.frame);
    if (playing && on.length) player.toggle();
    fill();
  };
  const fill = () => {
    list.replaceChildren(...entries.map((entry) => {
      const box = element("input", { type: "checkbox", checked: entry.on, onchange: () => {
        entry.on = box.checked;
        if (entry.on && entry.kind === "agent" && entries.filter((one) => one.on && one.kind === "agent").length > AGENTS) {
          entry.on = box.checked = false;
          say(`At most ${AGENTS} agents are shown at once: take one away first.`);
          return;
        }
        remember({ off: entries.filter((one) => one.kind === "agent" && !one.on).map((one) => one.id),
          ghosts: entries.filter((one) => one.kind !== "agent" && one.on).map((one) => one.name) }, false);
        refresh().catch(complain);
      } });
      const said = entry.problem || (entry.track ? endOf(entry.track)
        : entry.kind === "agent" ? `${entry.cell[1] === "won" ? "won" : words(entry.cell[1])} ${entry.cell[2] ? seconds(entry.cell[2]) : ""}`
          : `${entry.verdict} ${seconds(entry.frames)}`);
      const note = entry.track && entry.track.recorded && !entry.track.same ? " · ends otherwise than the evaluation says" : "";
      return element("label", { class: "run" }, box, marker(entry.k), element("span", {}, entry.name,
        element("small", { class: entry.problem ? "bad" : "" }, said + note)));
    }));
    const agent = entries.find((entry) => entry.on && entry.kind === "agent" && entry.track);
    thoughtButton.disabled = !agent;
  };

  // Downloads of what is shown.
  const shownRuns = () => entries.filter((entry) => entry.on && entry.track);
  const plain = id.replace(/[^A-Za-z0-9_-]+/g, "_");
  const picture = (kind) => element("button", { onclick: async (event) => {
    const runs = shownRuns();
    if (!runs.length) return say("No run is shown.");
    event.target.disabled = true;
    try {
      const body = { level: key, kind, runs: runs.map((entry) => entry.track.inputs), title: `${id} ${runs[0].name}` };
      download(`${plain}.${kind}`, await api("picture", {}, { body, signal, kind: "bytes" }));
    } catch (error) {
      complain(error);
    }
    event.target.disabled = false;
  } }, kind.toUpperCase());
  // Checkpoints that may be asked: the best one of the run, its others, and agents that come with the package.
  const judge = element("select", { "aria-label": "Checkpoint that is asked" }, element("option", { value: "" }, "best.pt of its run"));
  api("checkpoints", {}, { signal }).then(({ checkpoints }) => {
    const own = new Set(entries.map((entry) => entry.id.split("//")[0]));
    judge.append(...checkpoints.filter(({ run }) => !run || own.has(run)).map(({ id, name }) => element("option", { value: id }, name)));
    if (params.get("judge")) judge.value = params.get("judge");
  }).catch(complain);
  const thoughtButton = element("button", { disabled: true, onclick: () => {
    const agent = entries.find((entry) => entry.on && entry.kind === "agent" && entry.track);
    remember({ thought: agent.id, judge: judge.value }, false);
    think(agent).catch(complain);
  } }, "What did it think?");
  right.append(element("h3", {}, "Agent"), element("p", { class: "note" },
    "Probabilities, value and rewards in the first agent's episode, by the checkpoint that is chosen."), judge, thoughtButton,
    element("h3", {}, "Save"), element("div", { class: "bar" }, ["png", "svg", "gif", "mp4"].map(picture)),
    element("p", { class: "note" }, "PNG and SVG have the ways of all runs that are shown, GIF and MP4 the first run."),
    element("div", { class: "bar" }, element("a", { href: `#/editor?level=${key}` }, "Open in the editor")));

  const think = async (entry) => {
    thoughts.replaceChildren(element("p", { class: "note" }, "The agent is loaded and asked again (the first time takes up to a minute) …"));
    const found = await api("decisions", {}, { body: { evaluation: entry.id, level: key, try: Math.min(number, entry.cell[3] - 1),
      checkpoint: params.get("judge") || undefined }, signal });
    if (!signal.aborted) drawThoughts(thoughts, found, entry);
  };

  shown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=checkbox],[type=range]), select, textarea")) return;
    if (event.target.closest?.("button, summary, a") && event.key === " ") return;
    if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else if (event.key === "Escape") location.hash = `#/episodes?${back}`;
    else if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    else player?.press(event);
  };
  addEventListener("keydown", shown);
  fill();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  await refresh(!calm);
  const agent = entries.find((entry) => entry.id === params.get("thought") && entry.track);
  if (agent) think(agent).catch(complain);
  const more = await api("ghosts", {}, { body: { level: key }, signal }).catch((error) => {
    if (error.name !== "AbortError") complain(error);
    return { runs: [] };
  });
  if (signal.aborted) return;
  const ghosts = params.getAll("ghosts");
  more.runs.forEach(([name, verdict, frames, inputs], g) => {
    entries.push({ id: `ghost ${g}`, k: 7 - (g % 4), name, verdict, frames, inputs, on: ghosts.includes(name), track: null, kind: "ghost" });
  });
  if (entries.some((entry) => entry.on && !entry.track && !entry.problem)) await refresh();
  else fill();
}

// Probabilities as areas, value as a line, rewards as bars, over the steps of the episode.
function drawThoughts(place, found, entry) {
  const now = element("p", { class: "now", "aria-live": "off" });
  const canvas = element("canvas", { class: "thought", role: "img", "aria-label": "Probabilities of the actions, value and rewards over time" });
  const total = found.rewards.reduce((sum, reward) => sum + reward, 0);
  const parts = Object.entries(found.parts).filter(([, value]) => value).map(([name, value]) => `${words(name)} ${value.toFixed(2)}`);
  place.replaceChildren(element("h3", {}, `What ${entry.name} thought`),
    element("p", { class: "note" }, `It would take the same action in ${percent(found.agrees)} of the steps. Return ${total.toFixed(2)}: ${parts.join(", ")}.${found.note ? ` ${found.note}` : ""}`),
    element("div", { class: "keys" }, found.actions.map((name, k) => element("span", {}, marker(k), name)),
      element("span", {}, "value: line"), element("span", {}, "reward: bars")), now, canvas);
  const steps = found.rewards.length, ratio = window.devicePixelRatio || 1;
  const draw = () => {
    const wide = canvas.clientWidth, height = 190, top = 96;
    if (!wide) return;
    [canvas.width, canvas.height] = [Math.round(wide * ratio), height * ratio];
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    // The same scale of time as the ribbon above.
    const w = (wide * found.frame_skip) / player.frames;
    for (let k = 0; k < steps; k++) {
      let y = 0;
      for (let a = 0; a < found.actions.length; a++) {
        const h = (found.probabilities[k][a] / 10000) * (top - 8);
        ctx.fillStyle = colour(`c${a}`);
        ctx.fillRect(k * w, y, w + 0.4, h);
        y += h;
      }
    }
    const low = Math.min(0, ...found.values, ...found.rewards), high = Math.max(0.1, ...found.values, ...found.rewards);
    const y = (value) => top + 6 + ((high - value) / (high - low || 1)) * (height - top - 14);
    ctx.fillStyle = colour("line");
    ctx.fillRect(0, y(0), steps * w, 1);
    ctx.fillStyle = colour("c2");
    found.rewards.forEach((reward, k) => ctx.fillRect(k * w, Math.min(y(0), y(reward)), Math.max(1, w - 0.5), Math.max(1, Math.abs(y(reward) - y(0)))));
    ctx.beginPath();
    found.values.forEach((value, k) => ctx.lineTo((k + 0.5) * w, y(value)));
    ctx.strokeStyle = colour("ink");
    ctx.lineWidth = 1.6;
    ctx.stroke();
    ctx.fillStyle = colour("soft");
    ctx.font = "11px system-ui, sans-serif";
    ctx.fillText(high.toFixed(1), 3, top + 14);
    ctx.fillText(low.toFixed(1), 3, height - 3);
    ctx.fillStyle = colour("ink");
    ctx.fillRect((player.frame / player.frames) * wide - 0.75, 0, 1.5, height);
  };
  const tell = () => {
    if (!player) return;
    const k = Math.min(Math.floor(player.frame / found.frame_skip), steps - 1);
    const likely = found.probabilities[k].map((p, a) => [p, a]).sort((a, b) => b[0] - a[0]).slice(0, 3).filter(([p]) => p > 0);
    now.textContent = `step ${k + 1} of ${steps}: ${likely.map(([p, a]) => `${found.actions[a]} ${(p / 100).toFixed(1)}%`).join(", ")} · value ${found.values[k]?.toFixed(2) ?? missing} · reward ${found.rewards[k].toFixed(3)}`;
    draw();
  };
  player.listeners.push(tell);
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    player.seek(Math.round(((event.clientX - box.left) / box.width) * player.frames));
  });
  tell();
}
