// Draws levels on canvases from the geometry that the server sends: tiles in their real shapes, and symbols, which are
// lists of operations (drawing.py says which). Lengths are px of the field, 1056 x 600.

import { api } from "./common.js";

export const WIDTH = 1056, HEIGHT = 600, CELL = 24, COLUMNS = 42, ROWS = 23;
export let tables = null; // what the server says of tiles and entities
const symbols = new Map(); // name -> operations

export async function loadTables() {
  if (!tables) {
    const found = await api("drawing");
    learn(found.symbols);
    tables = found;
  }
  return tables;
}

export function learn(found) {
  for (const [name, operations] of Object.entries(found || {})) symbols.set(name, operations);
}

function outline(ctx, points) {
  ctx.beginPath();
  for (let k = 0; k < points.length; k += 2) ctx.lineTo(points[k], points[k + 1]);
}

const OPERATIONS = {
  p(ctx, color, points) {
    outline(ctx, points);
    ctx.closePath();
    ctx.fillStyle = color;
    ctx.fill();
  },
  d(ctx, color, x, y, radius) {
    ctx.beginPath();
    ctx.arc(x, y, Math.max(0, radius), 0, 7);
    ctx.fillStyle = color;
    ctx.fill();
  },
  r(ctx, color, x, y, radius, width) {
    ctx.beginPath();
    ctx.arc(x, y, Math.max(0, radius), 0, 7);
    ctx.strokeStyle = color;
    ctx.lineWidth = width;
    ctx.stroke();
  },
  b(ctx, color, x, y, half, corner) {
    ctx.beginPath();
    ctx.roundRect(x - half, y - half, 2 * half, 2 * half, corner);
    ctx.fillStyle = color;
    ctx.fill();
  },
  l(ctx, color, width, round, points) {
    outline(ctx, points);
    ctx.strokeStyle = color;
    ctx.lineWidth = width;
    ctx.lineJoin = "round";
    ctx.lineCap = round ? "round" : "butt";
    ctx.stroke();
  },
};

export function drawSymbol(ctx, name, x, y) {
  const operations = symbols.get(name);
  if (!operations) return;
  ctx.translate(x, y);
  for (const [kind, ...more] of operations) OPERATIONS[kind](ctx, ...more);
  ctx.translate(-x, -y);
}

export const drawPieces = (ctx, pieces, x = 0, y = 0) => {
  for (const [, name, dx, dy] of pieces) drawSymbol(ctx, name, x + dx, y + dy);
};

// Tiles from hexadecimal digits.
export function tilesOf(text) {
  const tiles = new Uint8Array(COLUMNS * ROWS);
  for (let k = 0; k < tiles.length; k++) tiles[k] = parseInt(text.slice(2 * k, 2 * k + 2), 16);
  return tiles;
}

// The background, tiles, and an outline where a face stops the ninja (viewing/shapes.py draws the same).
export function drawTiles(ctx, tiles) {
  const { colours } = tables;
  ctx.fillStyle = colours.background;
  ctx.fillRect(0, 0, WIDTH, HEIGHT);
  const horizontal = new Int8Array(51 * 88), vertical = new Int8Array(50 * 89), slanted = [];
  const solid = new Path2D();
  for (let row = 0; row < 25; row++) {
    for (let column = 0; column < 44; column++) {
      const inner = row > 0 && row < 24 && column > 0 && column < 43;
      const tile = inner ? tiles[(row - 1) * COLUMNS + column - 1] : 1;
      if (!tile || tile >= tables.tiles.length) continue;
      const x = CELL * column, y = CELL * row;
      const [points, h, v, slant] = tables.tiles[tile];
      for (let k = 0; k < points.length; k += 2) solid[k ? "lineTo" : "moveTo"](x + points[k], y + points[k + 1]);
      if (points.length) solid.closePath();
      for (let r = 0; r < 3; r++)
        for (let c = 0; c < 2; c++) horizontal[(2 * row + r) * 88 + 2 * column + c] += h[r][c];
      for (let r = 0; r < 2; r++)
        for (let c = 0; c < 3; c++) vertical[(2 * row + r) * 89 + 2 * column + c] += v[r][c];
      if (slant.length) slanted.push([x, y, slant]);
    }
  }
  ctx.fillStyle = ctx.strokeStyle = colours.tile;
  ctx.fill(solid);
  ctx.lineWidth = 0.6 / ctx.getTransform().a; // hides the seams between tiles
  ctx.stroke(solid);
  ctx.fillStyle = ctx.strokeStyle = colours.edge;
  for (let j = 1; j < 50; j++)
    for (let i = 0; i < 88; i++) if (horizontal[j * 88 + i]) ctx.fillRect(12 * i - 0.75, 12 * j - 0.75, 13.5, 1.5);
  for (let j = 0; j < 50; j++)
    for (let i = 1; i < 88; i++) if (vertical[j * 89 + i]) ctx.fillRect(12 * i - 0.75, 12 * j - 0.75, 1.5, 13.5);
  ctx.lineWidth = 1.5;
  ctx.lineCap = "round";
  for (const [x, y, points] of slanted) {
    ctx.translate(x, y);
    outline(ctx, points);
    ctx.stroke();
    ctx.translate(-x, -y);
  }
}

// Fades what the ninja cannot get near to. near: base64 of bits at the corners of squares of 6 px, or "".
export function drawFar(ctx, near) {
  if (!near) return;
  const bits = atob(near), wide = 177, high = 101;
  const image = new ImageData(wide, high);
  const tone = [1, 3, 5].map((k) => parseInt(tables.colours.tile.slice(k, k + 2), 16));
  for (let k = 0; k < wide * high; k++)
    if (!((bits.charCodeAt(k >> 3) >> (7 - (k & 7))) & 1)) image.data.set([...tone, 190], 4 * k);
    else image.data.set(tone, 4 * k);
  const mask = document.createElement("canvas");
  [mask.width, mask.height] = [wide, high];
  mask.getContext("2d").putImageData(image, 0, 0);
  ctx.imageSmoothingEnabled = true;
  ctx.drawImage(mask, -3, -3, 6 * wide, 6 * high);
}

// Gives a canvas as many pixels as it covers, and a context in px of the field. least: of its width.
export function prepare(canvas, least = 1) {
  const wide = Math.max(least, canvas.clientWidth || canvas.width);
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(wide * ratio), height = Math.round((wide * ratio * HEIGHT) / WIDTH);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const ctx = canvas.getContext("2d");
  ctx.setTransform(width / WIDTH, 0, 0, height / HEIGHT, 0, 0);
  return ctx;
}

// A small picture of a level at its start, with what is small drawn larger.
export function thumbnail(canvas, level) {
  const ctx = prepare(canvas);
  drawTiles(ctx, tilesOf(level.t));
  const more = Math.min(2, Math.max(1, (0.66 * WIDTH) / canvas.clientWidth || 1));
  for (const [layer, name, x, y] of level.e) {
    if (layer === 0) drawSymbol(ctx, name, x, y);
    else {
      ctx.translate(x, y);
      ctx.scale(more, more);
      drawSymbol(ctx, name, 0, 0);
      ctx.scale(1 / more, 1 / more);
      ctx.translate(-x, -y);
    }
  }
  drawFar(ctx, level.n);
}

// The mark of a run's end: a ring for a win, the mark of the cause of a death, a disc where it goes on.
export function drawEnd(ctx, x, y, outcome, cause) {
  const mark = outcome === "died" && tables.marks[cause];
  ctx.lineJoin = "round";
  if (mark) {
    ctx.translate(x, y);
    outline(ctx, mark[0].map((value) => 5 * value));
    ctx.closePath();
    ctx.strokeStyle = "#f5f6f8";
    ctx.lineWidth = 2.6;
    ctx.stroke();
    ctx.fillStyle = mark[1];
    ctx.fill();
    ctx.translate(-x, -y);
    return;
  }
  const color = tables.outcomes[outcome || "unfinished"];
  OPERATIONS.d(ctx, "#f5f6f8", x, y, outcome === "won" ? 5.4 : 4.4);
  if (outcome === "won") OPERATIONS.r(ctx, color, x, y, 3.9, 2.2);
  else OPERATIONS.d(ctx, color, x, y, 3);
}
