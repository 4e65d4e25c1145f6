// The level editor: draw tiles and entities, see at once what can be reached, let the planner and agents play, play it
// yourself, open and save map files and the game's text files.
//
// Address: level=DIGEST opens a level of the data sets, saved=NAME one of the folder of --save-to. Without them the
// level that was drawn last in this browser is there again.

import { api, complain, download, element, fill, percent, say, setParams } from "./common.js";
import { CELL, COLUMNS, drawEnd, drawFar, drawPieces, drawTiles, HEIGHT, loadTables, prepare, ROWS, tables, WIDTH } from "./field.js";
import { Document, mirroredPart, SWITCHED, SYMMETRIES, UNIT } from "./level.js";
import { LiveGame } from "./live_game.js";
import { endOf, LIGHT, Player, seconds, unfolded } from "./player.js";

const DRAFT = "editor draft";
const SNAPS = { 4: "whole tiles", 2: "half tiles", 1: "quarter tiles" };
const SHORT = 3, LONG = 30; // seconds of the planner
const LARGEST_TEXT = 64 << 20; // bytes of a text file, of which only one line is sent

export const keys = [["t, e, v, x", "tiles, entities, select, erase"], ["0 to 8", "a family of tiles"], ["r", "turn the tile or the entity"],
  ["m", "change how what is selected moves"], ["h, j", "mirror left and right, top and bottom"], ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
  ["Ctrl+C, Ctrl+X, Ctrl+V", "copy or cut the marked area, paste"], ["Delete", "remove what is selected"],
  ["↑ ↓ ← →", "in the level: move the cursor; with shift: mark an area (select)"],
  ["Space", "in the level: draw, place, select, move what is selected, paste or erase at the cursor"], ["right button", "erase"],
  ["Enter", "play it; R begins again, Escape goes back"]];

let root, doc, parts, state, abort, jobs, timers, known, file, player, game;

export async function show(place, params) {
  root = place;
  abort = new AbortController();
  jobs = {};
  timers = {};
  file = null;
  state = { tool: "tile", tile: 1, kind: 3, orientation: 0, mode: 0, snap: 2, selected: null, area: null, part: null, pending: null,
    cursor: null, drawing: false, moved: null, check: null, plan: null, tries: null, far: true };
  const signal = abort.signal;
  root.append(element("h1", {}, "Level editor"));
  await loadTables();
  if (signal.aborted) return;
  doc = new Document(draft());
  build();
  api("editor/levels", {}, { signal }).then((found) => {
    known = found;
    fillFiles();
  }).catch(complain);
  api("checkpoints", {}, { signal }).then(({ checkpoints }) => {
    parts.checkpoint.replaceChildren(...checkpoints.map(({ id, name }) => element("option", { value: id }, name)));
    const last = localStorage.getItem("editor checkpoint");
    if (checkpoints.some(({ id }) => id === last)) parts.checkpoint.value = last;
  }).catch(complain);
  if (params.get("level") || params.get("saved"))
    await open(params.get("level") ? { level: params.get("level") } : { saved: params.get("saved") });
  changed();
}

export function hide() {
  abort?.abort();
  for (const job of Object.values(jobs || {})) job.abort();
  for (const timer of Object.values(timers || {})) clearTimeout(timer);
  removeEventListener("keydown", onKey);
  removeEventListener("theme", draw);
  parts?.resize?.disconnect();
  player?.end();
  game?.end();
  [player, game, parts] = [null, null, null];
}

function draft() {
  try {
    const found = JSON.parse(localStorage.getItem(DRAFT));
    if (found.tiles.length === 2 * COLUMNS * ROWS && Array.isArray(found.entities) && found.entities.length) return found;
  } catch {
    // none, or damaged
  }
  return Document.empty();
}

// ---- The page ----

function build() {
  const tool = (name, text, title) => element("button", { title, data: { tool: name }, onclick: () => choose(name) }, text);
  const select = (options, value, onchange, label) => {
    const found = element("select", { "aria-label": label, title: label, onchange: () => onchange(found.value) },
      Object.entries(options).map(([key, text]) => element("option", { value: key }, text)));
    found.value = value;
    return found;
  };
  parts = { canvas: element("canvas", { class: "field drawing", tabindex: 0, role: "application", "aria-roledescription": "drawing", "aria-label": "The level: arrow keys move the cursor, space draws" }) };
  parts.tools = element("div", { class: "bar tools", role: "toolbar", "aria-label": "Tools" },
    tool("tile", "tiles", "Paint tiles (t)"), tool("entity", "entities", "Place entities (e)"),
    tool("select", "select", "Select and move entities, or mark an area (v)"), tool("erase", "erase", "Erase tiles and entities (x)"),
    element("span", { class: "gap-left" }),
    element("button", { title: "Undo (Ctrl+Z)", onclick: () => undo(-1), data: { act: "undo" } }, "undo"),
    element("button", { title: "Redo (Ctrl+Shift+Z)", onclick: () => undo(1), data: { act: "redo" } }, "redo"),
    element("button", { title: "Mirror left and right: the area that is marked or copied, or the whole level (h)", onclick: () => mirror("h") }, "⇋ mirror"),
    element("button", { title: "Mirror top and bottom (j)", onclick: () => mirror("v") }, "⇵ mirror"),
    element("button", { title: "Copy the marked area (Ctrl+C)", onclick: () => copy(false) }, "copy"),
    element("button", { title: "Paste (Ctrl+V)", onclick: paste }, "paste"),
    select(SYMMETRIES, "none", (value) => (doc.symmetry = value), "Symmetry"),
    element("label", { title: "What the ninja cannot get near to, if all doors are open" }, element("input", { type: "checkbox", checked: state.far, onchange: (event) => {
      state.far = event.target.checked;
      draw();
    } }), "dim what is out of reach"),
    select(SNAPS, state.snap, (value) => (state.snap = Number(value)), "Where entities are put"));
  parts.palette = element("div", { class: "palette" });
  parts.title = element("input", { type: "text", maxlength: 128, placeholder: "title", "aria-label": "Title", value: doc.title, onchange: () => {
    doc.title = parts.title.value;
    changed();
  } });
  parts.state = element("ul", { class: "checks", "aria-live": "polite" });
  parts.plan = element("div", { class: "result" });
  parts.auto = element("input", { type: "checkbox", checked: localStorage.getItem("editor plan") !== "off", onchange: () => {
    localStorage.setItem("editor plan", parts.auto.checked ? "on" : "off");
    if (parts.auto.checked) plan(SHORT).catch(complain);
  } });
  parts.checkpoint = element("select", { "aria-label": "Agent", onchange: () => localStorage.setItem("editor checkpoint", parts.checkpoint.value) });
  parts.agentAuto = element("input", { type: "checkbox", onchange: () => parts.agentAuto.checked && tryAgent().catch(complain) });
  parts.tries = element("div", { class: "result" });
  parts.over = element("div", { class: "over" });
  parts.files = element("div");
  parts.where = element("p", { class: "note where", "aria-live": "polite" });
  parts.note = element("p", { class: "note" });
  const side = element("div", { class: "right" },
    element("div", { class: "bar" }, parts.title),
    element("div", { class: "bar" }, element("button", { class: "go", title: "Play it yourself (Enter)", onclick: () => play().catch(complain) }, "▶ play it"),
      element("button", { title: "An empty level", onclick: () => fresh() }, "new")),
    parts.state,
    element("h3", {}, "Planner"), element("label", {}, parts.auto, " plans as you draw"), parts.plan,
    element("h3", {}, "Agent"), parts.checkpoint,
    element("div", { class: "bar" }, element("button", { onclick: () => tryAgent().catch(complain) }, "try it"), element("label", {}, parts.agentAuto, " with every change")), parts.tries,
    element("h3", {}, "Open and save"), parts.files, parts.note);
  const left = element("div", { class: "left" }, parts.tools, parts.palette, parts.canvas, parts.where, parts.over);
  root.append(element("div", { class: "stage" }, left, side));
  parts.left = left;
  fillFiles();
  choose("tile");
  parts.canvas.addEventListener("pointerdown", down);
  parts.canvas.addEventListener("pointermove", move);
  parts.canvas.addEventListener("pointerup", up);
  parts.canvas.addEventListener("pointercancel", up);
  parts.canvas.addEventListener("pointerleave", () => {
    if (!state.drawing) state.cursor = null;
    draw();
  });
  parts.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  for (const name of ["dragover", "drop"])
    left.addEventListener(name, (event) => {
      event.preventDefault();
      if (name === "drop" && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]).catch(complain);
    });
  addEventListener("keydown", onKey);
  addEventListener("theme", draw);
  parts.resize = new ResizeObserver(draw);
  parts.resize.observe(parts.canvas);
}

function choose(name) {
  state.tool = name;
  state.pending = state.selected = null;
  if (name !== "select") state.area = null;
  for (const button of parts.tools.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === name);
  fillPalette();
  draw();
}

function fillPalette() {
  const place = parts.palette;
  if (state.tool === "tile") {
    fill(place, ...tables.families.map(([name, tiles]) => element("span", { class: "family", role: "group", "aria-label": name, title: name },
      tiles.map((tile) => {
        const canvas = element("canvas", { width: 28, height: 28, "aria-hidden": "true" });
        const button = element("button", { class: "shape", title: `${name} (tile ${tile})`, "aria-label": `${name}, tile ${tile}`, "aria-pressed": String(state.tile === tile), data: { tile },
          onclick: () => {
            state.tile = tile;
            fillPalette();
          } }, canvas);
        drawTile(canvas, tile);
        return button;
      }))));
  } else if (state.tool === "entity") {
    const entry = entryOf(state.kind);
    const turns = Object.keys(entry.looks);
    fill(place, ...tables.entities.map(({ kind, name, looks }) => {
      const canvas = element("canvas", { width: 32, height: 32, "aria-hidden": "true" });
      drawLook(canvas, looks[kind === state.kind ? state.orientation : 0] || Object.values(looks)[0]);
      return element("button", { class: "shape", title: name, "aria-label": name, "aria-pressed": String(state.kind === kind), data: { kind }, onclick: () => {
        state.kind = kind;
        state.orientation = state.mode = 0;
        state.pending = null;
        fillPalette();
      } }, canvas);
    }), turns.length > 1 && element("span", { class: "family" }, element("button", { title: "Turn (r)", onclick: turn }, "↻ turn")),
    Object.keys(entry.modes).length > 0 && element("select", { "aria-label": "How it moves", onchange: (event) => (state.mode = Number(event.target.value)) },
      Object.entries(entry.modes).map(([mode, text]) => element("option", { value: mode }, text))),
    element("small", { class: "note" }, state.pending ? "now click where its switch is (Escape: no)" : entry.name));
  } else if (state.tool === "select")
    fill(place, element("small", { class: "note" }, "Click an entity to select it: drag moves it, R turns it, M changes how it moves, Delete removes it. Drag over free ground to mark an area, then copy, cut (Ctrl+X), mirror or delete it."));
  else if (state.tool === "paste") fill(place, element("small", { class: "note" }, "Click where it goes; H and J mirror it; Escape ends."));
  else fill(place, element("small", { class: "note" }, "Drag: tiles become empty, entities go."));
}

const entryOf = (kind) => tables.entities.find((entry) => entry.kind === kind);

function drawTile(canvas, tile) {
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = tables.colours.background;
  ctx.fillRect(0, 0, 28, 28);
  const points = tables.tiles[tile][0];
  ctx.fillStyle = tables.colours.tile;
  ctx.beginPath();
  for (let k = 0; k < points.length; k += 2) ctx.lineTo(2 + points[k], 2 + points[k + 1]);
  ctx.fill();
}

function drawLook(canvas, pieces) {
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = tables.colours.background;
  ctx.fillRect(0, 0, 32, 32);
  ctx.translate(16, 16);
  drawPieces(ctx, pieces);
}

// ---- Drawing ----

let requested = 0;

function draw() {
  cancelAnimationFrame(requested);
  requested = requestAnimationFrame(drawNow);
}

function lookOf(entity, exits) {
  const entry = entryOf(entity[0]);
  if (!entry) return null;
  if (entry.exits && entity[5]) return entry.exits[exits % entry.exits.length];
  return [entry.looks[entity[3]] || entry.looks[entity[3] & 6] || Object.values(entry.looks)[0], entry.switch];
}

function drawEntity(ctx, entity, exits) {
  const found = lookOf(entity, exits);
  const [x, y] = [UNIT * entity[1], UNIT * entity[2]];
  if (!found) {
    ctx.fillStyle = "#2c2e3a";
    ctx.fillRect(x - 7, y - 7, 14, 14);
    ctx.fillStyle = "#f5f6f8";
    ctx.font = "9px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.fillText(String(entity[0]), x, y + 3);
    return;
  }
  if (entity[5]) {
    const [sx, sy] = [UNIT * entity[5][0], UNIT * entity[5][1]];
    ctx.beginPath();
    ctx.setLineDash([5, 5]);
    ctx.moveTo(x, y);
    ctx.lineTo(sx, sy);
    ctx.strokeStyle = "#222430a0";
    ctx.lineWidth = 1.2;
    ctx.stroke();
    ctx.setLineDash([]);
    drawPieces(ctx, found[1], sx, sy);
  }
  drawPieces(ctx, found[0], x, y);
}

function drawNow() {
  if (!parts || !parts.canvas.isConnected || !parts.canvas.clientWidth) return;
  const ctx = prepare(parts.canvas);
  drawTiles(ctx, doc.tiles);
  let exits = 0;
  const rest = [];
  for (const entity of doc.entities.slice(1)) {
    const k = entity[0] === 3 && entity[5] ? exits++ : 0;
    if ([5, 6, 8].includes(entity[0])) drawEntity(ctx, entity, k);
    else rest.push([entity, k]);
  }
  for (const [entity, k] of rest) drawEntity(ctx, entity, k);
  drawPieces(ctx, entryOf(0).looks[0], UNIT * doc.entities[0][1], UNIT * doc.entities[0][2]);
  if (state.far && state.check && !state.check.problem) drawFar(ctx, state.check.n);
  if (state.tries) for (const [kind, outcome, , , way] of state.tries.runs) drawWay(ctx, way, tables.outcomes[outcome], kind === "greedy" ? 2 : 1.1, kind === "greedy" ? 1 : 0.55, outcome);
  if (state.plan?.way) drawWay(ctx, state.plan.way, LIGHT[1], 2, 0.9, "won");
  drawMarks(ctx);
}

function drawWay(ctx, way, color, width, alpha, outcome) {
  ctx.beginPath();
  for (let k = 0; k < way.length; k += 2) ctx.lineTo(way[k], way[k + 1]);
  ctx.strokeStyle = color;
  ctx.lineWidth = width;
  ctx.lineJoin = "round";
  ctx.globalAlpha = alpha;
  ctx.stroke();
  ctx.globalAlpha = 1;
  if (outcome !== "won") drawEnd(ctx, way.at(-2), way.at(-1), outcome, "");
}

function drawMarks(ctx) {
  const ring = (x, y, color) => {
    ctx.beginPath();
    ctx.arc(x, y, 15, 0, 7);
    ctx.strokeStyle = color;
    ctx.lineWidth = 2;
    ctx.stroke();
  };
  if (state.check && !state.check.problem) {
    for (const k of state.check.far) if (doc.entities[k]) ring(UNIT * doc.entities[k][1], UNIT * doc.entities[k][2], tables.outcomes.died);
    for (const k of state.check.far_switches) if (doc.entities[k]?.[5]) ring(UNIT * doc.entities[k][5][0], UNIT * doc.entities[k][5][1], tables.outcomes.died);
    if (!state.check.free) ring(UNIT * doc.entities[0][1], UNIT * doc.entities[0][2], tables.outcomes.died);
  }
  const box = ([c0, r0], [c1, r1], color) => {
    ctx.strokeStyle = color;
    ctx.lineWidth = 1.6;
    ctx.setLineDash([6, 4]);
    ctx.strokeRect(CELL * (Math.min(c0, c1) + 1), CELL * (Math.min(r0, r1) + 1), CELL * (Math.abs(c1 - c0) + 1), CELL * (Math.abs(r1 - r0) + 1));
    ctx.setLineDash([]);
  };
  if (state.area) box(...state.area, "#1b1f24");
  if (state.selected) {
    const [k, isSwitch] = state.selected;
    const at = isSwitch ? doc.entities[k]?.[5] : doc.entities[k]?.slice(1, 3);
    if (at) ring(UNIT * at[0], UNIT * at[1], LIGHT[1]);
  }
  const cursor = state.cursor;
  if (!cursor) return;
  if (state.tool === "tile" || state.tool === "erase") box(cursor.cell, cursor.cell, "#1b1f24b0");
  if (state.tool === "paste" && state.part) {
    const { tiles } = state.part;
    box(cursor.cell, [cursor.cell[0] + tiles[0].length - 1, cursor.cell[1] + tiles.length - 1], LIGHT[1]);
  }
  if (state.tool === "entity") {
    ctx.globalAlpha = 0.55;
    if (state.pending) {
      const found = lookOf(state.pending, doc.entities.filter((entity) => entity[0] === 3 && entity[5]).length);
      drawPieces(ctx, found[0], UNIT * state.pending[1], UNIT * state.pending[2]);
      drawPieces(ctx, found[1], UNIT * cursor.at[0], UNIT * cursor.at[1]);
    } else drawPieces(ctx, lookOf([state.kind, 0, 0, state.orientation], 0)[0], UNIT * cursor.at[0], UNIT * cursor.at[1]);
    ctx.globalAlpha = 1;
  }
}

// ---- The pointer ----

function cursorOf(event) {
  const bounds = parts.canvas.getBoundingClientRect();
  return cursorAt(((event.clientX - bounds.left) / bounds.width) * WIDTH, ((event.clientY - bounds.top) / bounds.height) * HEIGHT);
}

// x, y: px of the field.
function cursorAt(x, y) {
  const cell = [Math.max(0, Math.min(COLUMNS - 1, Math.floor(x / CELL) - 1)), Math.max(0, Math.min(ROWS - 1, Math.floor(y / CELL) - 1))];
  // Whole tiles: their middle; half and quarter tiles: the nearest point.
  const snap = (value, most) => {
    const units = value / UNIT;
    const at = state.snap === 4 ? 4 * Math.floor(units / 4) + 2 : state.snap * Math.round(units / state.snap);
    return Math.max(0, Math.min(most, at));
  };
  return { x, y, cell, at: [snap(x, WIDTH / UNIT), snap(y, HEIGHT / UNIT)] };
}

function down(event) {
  if (event.button > 2) return;
  parts.canvas.focus({ preventScroll: true });
  try {
    parts.canvas.setPointerCapture(event.pointerId);
  } catch {
    // the pointer has gone
  }
  press(cursorOf(event), event.button === 2);
}

// What a press at a place begins; `up` ends it.
function press(cursor, right) {
  state.cursor = cursor;
  const erase = right || state.tool === "erase";
  state.drawing = erase ? "erase" : state.tool;
  if (erase) eraseAt(cursor);
  else if (state.tool === "tile") paint(null, cursor.cell);
  else if (state.tool === "entity") put(cursor.at);
  else if (state.tool === "paste" && state.part) {
    doc.paste(state.part, ...cursor.cell);
    changed();
  } else if (state.tool === "select") {
    state.selected = doc.find(cursor.x, cursor.y);
    state.area = state.selected ? null : [cursor.cell, cursor.cell];
    state.drawing = state.selected ? "move" : "area";
  }
  state.last = cursor.cell;
  draw();
}

function move(event) {
  const cursor = (state.cursor = cursorOf(event));
  if (state.drawing === "tile") paint(state.last, cursor.cell);
  else if (state.drawing === "erase") eraseAt(cursor);
  else if (state.drawing === "area") state.area[1] = cursor.cell;
  else if (state.drawing === "move" && state.selected) moveSelected(cursor);
  state.last = cursor.cell;
  tellPlace();
  draw();
}

// Where the cursor is and, for a keyboard's, what is there.
function tellPlace(there = "") {
  const { cursor } = state;
  parts.where.textContent = `column ${cursor.cell[0] + 1}, row ${cursor.cell[1] + 1} · ${UNIT * cursor.at[0]}, ${UNIT * cursor.at[1]} px${there}`;
}

// Arrow keys move the cursor by what the tool draws in: a tile, or the steps in which entities are put.
function moveByKeys(dx, dy, mark) {
  const step = state.tool === "entity" || (state.tool === "select" && state.selected) ? UNIT * state.snap : CELL;
  const { cursor } = state;
  const from = cursor?.at && cursor.keyed ? cursor : cursorAt(WIDTH / 2 + 1, HEIGHT / 2 + 1);
  const before = from.cell;
  // Steps by tiles go from middle to middle.
  const [x, y] = step === CELL ? [CELL * (before[0] + 1.5), CELL * (before[1] + 1.5)] : [UNIT * from.at[0], UNIT * from.at[1]];
  const within = (value, most) => Math.max(CELL, Math.min(most - CELL, value));
  const now = cursor?.keyed ? cursorAt(within(x + dx * step, WIDTH), within(y + dy * step, HEIGHT)) : from;
  state.cursor = { ...now, keyed: true };
  if (mark && state.tool === "select") state.area = [state.area?.[0] || before, now.cell];
  else if (state.tool === "select" && !state.selected) state.area = null;
  tellAtCursor();
  draw();
}

function tellAtCursor() {
  const { cursor } = state, tile = doc.tiles[cursor.cell[1] * COLUMNS + cursor.cell[0]];
  const found = doc.find(cursor.x, cursor.y);
  const name = found && (entryOf(doc.entities[found[0]][0])?.name ?? `entity ${doc.entities[found[0]][0]}`);
  tellPlace(` · ${tile ? `tile ${tile}` : "empty"}${found ? ` · ${name}${found[1] ? "'s switch" : ""}` : ""}`);
}

// The space bar does at the cursor what a click does. What is selected moves there.
function drawByKeys() {
  if (!state.cursor?.keyed) return moveByKeys(0, 0, false);
  const { cursor } = state;
  if (state.tool === "select" && state.selected) {
    moveSelected(cursor);
    state.selected = null;
    changed();
  } else {
    press(cursor, false);
    up();
  }
  state.cursor = cursor;
  tellAtCursor();
  draw();
}

function moveSelected(cursor) {
  const [k, isSwitch] = state.selected;
  const entity = doc.entities[k];
  if (isSwitch) entity[5] = [...cursor.at, ...entity[5].slice(2)];
  else doc.entities[k] = [entity[0], ...cursor.at, ...entity.slice(3)];
}

function up() {
  if (!state.drawing) return;
  const was = state.drawing;
  state.drawing = false;
  if (was === "area" && state.area && state.area[0].join() === state.area[1].join()) state.area = null;
  if (was !== "area") changed();
  draw();
}

// Paints the cells on the way from one to another.
function paint(from, to) {
  const [c0, r0] = from || to, steps = Math.max(Math.abs(to[0] - c0), Math.abs(to[1] - r0), 1);
  for (let k = 0; k <= steps; k++)
    doc.setTile(Math.round(c0 + ((to[0] - c0) * k) / steps), Math.round(r0 + ((to[1] - r0) * k) / steps), state.tile);
}

function eraseAt(cursor) {
  const found = doc.find(cursor.x, cursor.y, 9);
  if (found && found[0] > 0) doc.remove(found[0]);
  else doc.setTile(...cursor.cell, 0);
}

function put(at) {
  if (state.pending) {
    const entity = state.pending;
    state.pending = null;
    doc.place([...entity.slice(0, 5), [...at, 0, 0]]);
    changed();
    return fillPalette();
  }
  const entity = [state.kind, ...at, state.orientation, state.mode];
  if (SWITCHED.has(state.kind)) {
    state.pending = entity;
    return fillPalette();
  }
  doc.place(entity);
  changed();
}

// ---- Changes ----

function turn() {
  if (state.tool === "select" && state.selected) {
    const entity = doc.entities[state.selected[0]];
    const turns = Object.keys(entryOf(entity[0])?.looks || { 0: 0 }).map(Number);
    entity[3] = turns[(turns.indexOf(entity[3]) + 1) % turns.length];
    changed();
  } else if (state.tool === "entity") {
    const turns = Object.keys(entryOf(state.kind).looks).map(Number);
    state.orientation = turns[(turns.indexOf(state.orientation) + 1) % turns.length];
    fillPalette();
  } else if (state.tool === "tile") {
    const family = tables.families.find(([, tiles]) => tiles.includes(state.tile))[1];
    state.tile = family[(family.indexOf(state.tile) + 1) % family.length];
    fillPalette();
  }
  draw();
}

function changeMode() {
  if (state.tool !== "select" || !state.selected) return;
  const entity = doc.entities[state.selected[0]];
  const modes = Object.keys(entryOf(entity[0])?.modes || {}).length;
  if (!modes) return;
  entity[4] = (entity[4] + 1) % modes;
  say(entryOf(entity[0]).modes[entity[4]]);
  changed();
}

function mirror(how) {
  if (state.tool === "paste" && state.part) state.part = mirroredPart(state.part, how);
  else if (state.area) {
    const part = doc.copy(...state.area);
    const symmetry = doc.symmetry;
    doc.symmetry = "none";
    doc.clear(part);
    doc.paste(mirroredPart(part, how), ...part.from);
    doc.symmetry = symmetry;
    changed();
  } else {
    doc.mirror(how);
    changed();
  }
  draw();
}

function copy(cut) {
  if (!state.area) return say("Mark an area first: choose “select” and drag over it.");
  state.part = doc.copy(...state.area);
  if (cut) {
    doc.clear(state.part);
    changed();
  }
  say(`${state.part.tiles[0].length} × ${state.part.tiles.length} tiles ${cut ? "cut" : "copied"}.`, 3);
}

function paste() {
  if (!state.part) return say("Nothing has been copied.");
  choose("paste");
}

function removeSelected() {
  if (state.selected) doc.remove(state.selected[0]);
  else if (state.area) doc.clear(doc.copy(...state.area));
  state.selected = null;
  changed();
}

function undo(by) {
  const { source } = doc;
  if (!doc.undo(by)) return;
  if (doc.source !== source) { // the level from before another one was opened: it has no file any more
    file = null;
    setParams("editor", {});
    parts.name.value = nameOf();
    parts.note.textContent = "";
    fillFiles();
  }
  parts.title.value = doc.title;
  state.selected = state.pending = null;
  after();
}

// A change has ended.
function changed() {
  if (doc.commit() || !state.check) after();
}

function after() {
  const button = (act) => parts.tools.querySelector(`[data-act=${act}]`);
  button("undo").disabled = doc.now === 0;
  button("redo").disabled = doc.now === doc.past.length - 1;
  localStorage.setItem(DRAFT, JSON.stringify(doc.sent()));
  for (const name of ["plan", "tries"]) {
    jobs[name]?.abort();
    state[name] = null;
    parts[name].replaceChildren();
  }
  state.stale = true;
  later("check", 120, check);
  draw();
}

function later(name, wait, task) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(() => task().catch(complain), wait);
}

// A request of which only the last one counts; it is cancelled by the next one and by leaving.
async function job(name, path, body) {
  jobs[name]?.abort();
  const control = (jobs[name] = new AbortController());
  const found = await api(path, {}, { body, signal: control.signal });
  if (control.signal.aborted) throw new DOMException("left", "AbortError");
  return found;
}

// What is known of the level as it is now; false where it is none.
async function ready() {
  if (!state.check || state.stale) {
    clearTimeout(timers.check);
    await check();
  }
  if (state.check.problem) say(state.check.problem);
  return !state.check.problem;
}

async function check() {
  const content = doc.content();
  const found = await job("check", "editor/check", { document: doc.sent() });
  state.check = found;
  state.stale = content !== doc.content();
  const line = (good, text) => element("li", { class: good ? "good" : "bad" }, text);
  const lines = [];
  if (found.problem) lines.push(line(false, found.problem));
  else {
    lines.push(line(found.free, found.free ? "The ninja's start is free." : "The ninja starts in solid ground."));
    const far = (kind) => found.far.filter((k) => doc.entities[k]?.[0] === kind).length;
    if (!found.exit) lines.push(line(false, "There is no exit."));
    else {
      lines.push(line(!far(3), far(3) ? "An exit is out of reach." : "The exit is in reach."));
      const switches = found.far_switches.length;
      lines.push(line(!switches, switches ? `${switches === 1 ? "A switch is" : `${switches} switches are`} out of reach.` : "All switches are in reach."));
    }
    if (far(2)) lines.push(line(false, `${far(2)} gold out of reach.`));
    const not = doc.entities.filter((entity) => tables.other[entity[0]]);
    if (not.length) lines.push(line(false, `Not simulated here: ${[...new Set(not.map((entity) => tables.other[entity[0]]))].join(", ")}.`));
  }
  parts.state.replaceChildren(...lines);
  draw();
  if (!found.problem && found.exit && parts.auto.checked) later("plan", 350, () => plan(SHORT));
  if (!found.problem && parts.agentAuto.checked) later("tries", 350, tryAgent);
}

async function plan(budget) {
  if (!(await ready())) return;
  const map = state.check.map;
  const cancel = element("button", { onclick: () => {
    jobs.plan?.abort();
    fill(parts.plan, element("span", { class: "note" }, "stopped"));
  } }, "stop");
  fill(parts.plan, element("span", { class: "note" }, `searching, up to ${budget} s (the first time takes up to a minute) … `), cancel);
  try {
    const found = await job("plan", "editor/plan", { map, budget });
    const more = element("button", { title: `Search for ${LONG} s`, onclick: () => plan(LONG).catch(complain) }, "search longer");
    if (found.frames === null) {
      fill(parts.plan, element("span", { class: "bad" }, `Not won in ${budget} s. `), element("small", { class: "note" }, found.reason), " ", budget < LONG && more);
      return;
    }
    const track = unfolded(await job("plan", "game", { map, inputs: found.inputs }));
    const way = track.x.flatMap((x, k) => [x, track.y[k]]);
    state.plan = { ...found, track, way };
    fill(parts.plan, element("strong", { class: "good" }, `won in ${seconds(found.frames)}`), " ",
      element("button", { onclick: () => watch([{ name: "planner", color: 1, track }]) }, "watch"), " ", budget < LONG && more);
    draw();
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(parts.plan, element("span", { class: "bad" }, error.message));
  }
}

async function tryAgent() {
  if (!parts.checkpoint.value || !(await ready())) return;
  const body = { map: state.check.map, checkpoint: parts.checkpoint.value };
  parts.tries.replaceChildren(element("span", { class: "note" }, "playing (the first time takes up to a minute) …"));
  try {
    const greedy = await job("tries", "editor/tries", { ...body, sampled: 0 });
    const [, outcome, frames, inputs] = greedy.runs[0];
    state.tries = greedy;
    const said = element("div", {}, element("strong", { class: outcome === "won" ? "good" : "bad" },
      outcome === "won" ? `won in ${seconds(frames)}` : `${outcome === "died" ? "died" : "out of time"} after ${seconds(frames)}`), " ",
    element("button", { onclick: () => watchInputs(parts.checkpoint.value, inputs).catch(complain) }, "watch"));
    parts.tries.replaceChildren(said, element("span", { class: "note" }, "16 sampled tries …"));
    draw();
    const sampled = await job("tries", "editor/tries", { ...body, sampled: 16, seed: Math.floor(Math.random() * 2 ** 32) });
    state.tries = { runs: [...sampled.runs, ...greedy.runs] };
    const won = sampled.runs.filter((run) => run[1] === "won").length;
    parts.tries.replaceChildren(said, element("span", {}, `${won} of ${sampled.runs.length} sampled tries win (${percent(won / sampled.runs.length, 0)})`));
    draw();
  } catch (error) {
    if (error.name === "AbortError") return;
    parts.tries.replaceChildren(element("span", { class: "bad" }, error.message));
  }
}

// ---- Watching and playing ----

async function watchInputs(name, inputs) {
  const track = unfolded(await job("watch", "game", { map: state.check.map, inputs }));
  const runs = [{ name, color: 0, track }];
  if (state.plan) runs.push({ name: "planner", color: 1, track: state.plan.track });
  watch(runs);
}

function cover() {
  player?.end();
  game?.end();
  [player, game] = [null, null];
  for (const part of [parts.canvas, parts.tools, parts.palette, parts.where]) part.hidden = true;
  parts.over.replaceChildren();
}

function uncover() {
  player?.end();
  [player, game] = [null, null];
  parts.over.replaceChildren();
  for (const part of [parts.canvas, parts.tools, parts.palette, parts.where]) part.hidden = false;
  draw();
}

function watch(runs) {
  cover();
  player = new Player(parts.over);
  const list = runs.map((run) => `${run.name}: ${endOf(run.track)}`).join(" · ");
  parts.over.append(element("p", { class: "note" }, list), element("div", { class: "bar" },
    element("button", { title: "Escape", onclick: uncover }, "back to drawing"),
    element("button", { onclick: () => saveReplay(runs[0].track.inputs).catch(complain) }, "save the run as a replay")));
  player.show(runs).then(() => player?.toggle()).catch(complain);
}

async function play() {
  if (!(await ready())) return;
  cover();
  const place = element("div"), end = element("div", { class: "bar" });
  parts.over.append(place, end);
  const map = state.check.map;
  game = new LiveGame(place, { map, t: state.check.t, n: state.check.n }, (inputs) => {
    if (!inputs) return uncover();
    end.replaceChildren(element("button", { onclick: () => saveReplay(inputs).catch(complain) }, "save the run as a replay"),
      element("button", { onclick: async () => {
        const track = unfolded(await job("watch", "game", { map, inputs }));
        watch([{ name: "you", color: 0, track }, ...(state.plan ? [{ name: "planner", color: 1, track: state.plan.track }] : [])]);
      } }, "watch it"));
  });
}

async function saveReplay(inputs) {
  const bytes = await api("editor/replay", {}, { body: { map: state.check.map, runs: [inputs] }, kind: "bytes", signal: abort.signal });
  download(`${nameOf()}.replay`, bytes);
}

// ---- Files ----

const nameOf = () => (doc.title || "level").replace(/[^A-Za-z0-9_-]+/g, "_").slice(0, 60) || "level";

function fillFiles() {
  if (!parts) return;
  const chooser = element("input", { type: "file", "aria-label": "Open a map file or a text file", onchange: () => {
    if (chooser.files.length) openFile(chooser.files[0]).catch(complain);
    chooser.value = "";
  } });
  parts.name = element("input", { type: "text", value: parts.name?.value || nameOf(), "aria-label": "Name of the file", size: 16 });
  const rows = [element("div", { class: "bar" }, element("label", { class: "file" }, "a file ", chooser))];
  if (file)
    rows.push(element("div", { class: "bar" }, lineSelect(), element("button", { title: "The whole file, with this level in its place", onclick: () => downloadWhole().catch(complain) }, "download the file")));
  if (known) {
    const list = element("div", { class: "found" });
    const search = element("input", { type: "search", placeholder: `search ${known.levels.length} levels`, "aria-label": "Search levels", oninput: () => {
      const word = search.value.trim().toLowerCase();
      const hits = word ? known.levels.filter(([, id, , title]) => `${id} ${title}`.toLowerCase().includes(word)).slice(0, 30) : [];
      list.replaceChildren(...hits.map(([digest, id, , title]) => element("button", { class: "link", onclick: () => open({ level: digest }).catch(complain) }, `${id}${title ? ` · ${title}` : ""}`)));
    } });
    rows.push(element("div", { class: "bar" }, search), list);
    if (known.saved.length) {
      const saved = element("select", { "aria-label": "Saved levels", onchange: () => saved.value && open({ saved: saved.value }).catch(complain) },
        element("option", { value: "" }, "open a saved level …"), known.saved.map((name) => element("option", { value: name }, name)));
      rows.push(element("div", { class: "bar" }, saved));
    }
  }
  rows.push(element("div", { class: "bar" }, element("button", { onclick: () => downloadAs("map").catch(complain) }, "download map"),
    element("button", { onclick: () => downloadAs("text").catch(complain) }, "download text")));
  if (known?.can_save)
    rows.push(element("div", { class: "bar" }, parts.name, element("button", { data: { save: "map" }, onclick: () => save("map").catch(complain) }, "save map"),
      element("button", { data: { save: "text" }, onclick: () => save("text").catch(complain) }, "save text")));
  else if (known) rows.push(element("p", { class: "note" }, "Started with --save-to FOLDER, the dashboard saves into that folder."));
  parts.files.replaceChildren(...rows);
}

function take(found) {
  doc.open(found); // undo leads back to the level that was there
  state.selected = state.area = state.pending = state.check = null;
  parts.title.value = doc.title;
  parts.name.value = nameOf();
  parts.note.textContent = found.note || "";
  if (player || game) uncover();
  after();
}

function fresh() {
  file = null;
  setParams("editor", {});
  take(Document.empty());
  fillFiles();
}

// where: {level: digest} or {saved: name}.
async function open(where) {
  const found = await api("editor/open", where, { body: new Uint8Array(0), signal: abort.signal });
  file = null;
  setParams("editor", where);
  take(found);
  if (where.saved) parts.name.value = where.saved.replace(/\.txt$/, "");
  fillFiles();
}

async function openFile(given) {
  if (given.size > LARGEST_TEXT) return say(`${given.name} is larger than 64 MB.`);
  const bytes = new Uint8Array(await given.arrayBuffer());
  const text = bytes[0] === 36 || (bytes[0] === 239 && bytes[3] === 36); // "$", or after a byte order mark
  file = null;
  if (text) {
    file = { name: given.name, bytes, lines: linesOf(bytes), at: 0 };
    if (!file.lines.length) return say(`${given.name} has no level.`);
    await openLine(0);
  } else take(await api("editor/open", {}, { body: bytes, signal: abort.signal }));
  setParams("editor", {});
  fillFiles();
}

// Beginning and end of each line that is not empty, without its end.
function linesOf(bytes) {
  const lines = [];
  let begin = bytes[0] === 239 ? 3 : 0;
  for (let k = begin; k <= bytes.length; k++)
    if (k === bytes.length || bytes[k] === 10) {
      const end = k > begin && bytes[k - 1] === 13 ? k - 1 : k;
      if (end > begin) lines.push([begin, end]);
      begin = k + 1;
    }
  return lines;
}

const latin = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");

function lineSelect() {
  const select = element("select", { "aria-label": "Level of the file", onchange: () => openLine(Number(select.value)).catch(complain) },
    file.lines.map(([begin, end], k) => {
      const title = latin(file.bytes.slice(begin + 1, Math.min(end, begin + 140))).split("#")[0];
      return element("option", { value: k }, `${k} ${title}`);
    }));
  select.value = file.at;
  return select;
}

async function openLine(k) {
  const [begin, end] = file.lines[k];
  take(await api("editor/open", {}, { body: file.bytes.slice(begin, end), signal: abort.signal }));
  file.at = k;
}

async function encoded(format) {
  return new Uint8Array(await api("editor/file", {}, { body: { document: doc.sent(), format }, kind: "bytes", signal: abort.signal }));
}

async function downloadAs(format) {
  download(format === "text" ? `${nameOf()}.txt` : nameOf(), await encoded(format));
}

// The text file that was opened, with the level in the place of its line; all other bytes are as they were.
async function downloadWhole() {
  const line = await encoded("text");
  const [begin, end] = file.lines[file.at];
  download(file.name, new Blob([file.bytes.slice(0, begin), line.slice(0, -1), file.bytes.slice(end)]));
}

async function save(format, replace = false) {
  const body = { document: doc.sent(), name: parts.name.value, format, replace };
  try {
    const found = await api("editor/save", {}, { body, signal: abort.signal });
    say(`Saved as ${found.saved}.`);
    parts.note.textContent = found.note;
    if (!known.saved.includes(found.saved)) known.saved.push(found.saved);
    setParams("editor", { saved: found.saved });
    fillFiles();
  } catch (error) {
    if (error.status !== 409) throw error;
    parts.note.replaceChildren(`${error.message} `, element("button", { onclick: () => save(format, true).catch(complain) }, "replace it"));
  }
}

// ---- Keys ----

function onKey(event) {
  if (!parts || event.defaultPrevented) return;
  if (event.target.closest?.("input:not([type=checkbox],[type=range]), select, textarea")) return;
  const pressed = event.key.toLowerCase();
  if (game) return;
  if (player) {
    if (event.key === "Escape") uncover();
    else if (!(event.target.closest?.("button") && event.key === " ")) player.press(event);
    return;
  }
  if (event.ctrlKey || event.metaKey) {
    const own = { z: () => undo(event.shiftKey ? 1 : -1), y: () => undo(1), c: () => copy(false), x: () => copy(true), v: paste }[pressed];
    if (!own || (pressed === "c" && String(getSelection()))) return;
    own();
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.target === parts.canvas && (way || event.key === " ")) {
    if (way) moveByKeys(...way, event.shiftKey);
    else drawByKeys();
    event.preventDefault();
    return;
  }
  const own = { t: () => choose("tile"), e: () => choose("entity"), v: () => choose("select"), x: () => choose("erase"), r: turn, m: changeMode,
    h: () => mirror("h"), j: () => mirror("v"), delete: removeSelected, backspace: removeSelected,
    enter: () => !event.target.closest?.("button, a") && play().catch(complain), escape: () => choose(state.tool === "paste" ? "select" : state.tool) }[pressed];
  if (own) {
    own();
    if (pressed !== "enter") event.preventDefault();
  } else if (/^[0-8]$/.test(event.key) && state.tool === "tile") {
    state.tile = tables.families[Number(event.key)][1][event.key === "0" ? 1 : 0];
    fillPalette();
  }
}
