// A level as the editor changes it: tiles, entities and title, with undo, symmetry, mirror images, copy and paste.
//
// An entity is [type, x, y, orientation, mode] in units of 6 px, with [x, y, orientation, mode] of its switch as a sixth
// entry where it has one. The first entity is the ninja.

import { COLUMNS, ROWS, tables, tilesOf } from "./field.js";

export const UNIT = 6, ACROSS = 176, DOWN = 100; // units of the whole field
export const SWITCHED = new Set([3, 6, 8]);
const TURNING = new Set([14, 15, 23, 26]); // bit 0 of the mode is the direction in which they turn
const MOST_UNDO = 200;

export const SYMMETRIES = { none: "no symmetry", h: "left and right alike", v: "top and bottom alike", hv: "all four quarters alike", r: "turned by half" };
const IMAGES = { none: [], h: ["h"], v: ["v"], hv: ["h", "v", "r"], r: ["r"] };

export const mirroredTile = (tile, how) => {
  const turn = (name, value) => tables.mirrors[name][value] ?? value;
  return how === "r" ? turn("v", turn("h", tile)) : turn(how, tile);
};
const place = (x, y, how) => [how === "v" ? x : ACROSS - x, how === "h" ? y : DOWN - y];
const turned = (orientation, how) => {
  if (orientation > 7) return orientation;
  return how === "h" ? (12 - orientation) % 8 : how === "v" ? (8 - orientation) % 8 : (orientation + 4) % 8;
};

export function mirroredEntity(entity, how) {
  const [kind, x, y, orientation, mode, other] = entity;
  const found = [kind, ...place(x, y, how), turned(orientation, how), TURNING.has(kind) && how !== "r" ? mode ^ 1 : mode];
  if (other) found.push([...place(other[0], other[1], how), ...other.slice(2)]);
  return found;
}

export class Document {
  constructor(found) {
    this.symmetry = "none";
    this.past = [];
    this.now = -1;
    this.source = 0; // grows with each level that is opened
    this.open(found);
  }

  // found: a document of the server. The level that was open before is a step of undo.
  open(found) {
    this.tiles = tilesOf(found.tiles);
    this.entities = found.entities;
    this.title = found.title;
    this.original = found.original ?? null;
    this.line = found.line ?? null;
    this.source = 1 + Math.max(0, ...this.past.map((step) => step.source));
    this.keep();
  }

  static empty() {
    const tiles = "00".repeat(COLUMNS * ROWS);
    return { tiles, entities: [[0, 22, 94, 0, 0]], title: "", original: null, line: null };
  }

  content() {
    const tiles = Array.from(this.tiles, (tile) => tile.toString(16).padStart(2, "0")).join("");
    return JSON.stringify({ tiles, entities: this.entities, title: this.title });
  }

  // What the server takes.
  sent() {
    return { ...JSON.parse(this.content()), original: this.original, line: this.line };
  }

  // Ends a change: it can be undone. Returns whether anything is different.
  commit() {
    if (this.content() === this.past[this.now].content) return false;
    this.keep();
    return true;
  }

  keep() {
    const { original, line, source } = this;
    this.past.splice(this.now + 1, Infinity, { content: this.content(), original, line, source });
    if (this.past.length > MOST_UNDO) this.past.shift();
    this.now = this.past.length - 1;
  }

  undo(by) {
    const now = this.now + by;
    if (now < 0 || now >= this.past.length) return false;
    this.now = now;
    const step = this.past[now], content = JSON.parse(step.content);
    [this.original, this.line, this.source] = [step.original, step.line, step.source];
    this.tiles = tilesOf(content.tiles);
    this.entities = content.entities;
    this.title = content.title;
    return true;
  }

  inside(column, row) {
    return column >= 0 && column < COLUMNS && row >= 0 && row < ROWS;
  }

  setTile(column, row, tile) {
    if (!this.inside(column, row)) return;
    this.tiles[row * COLUMNS + column] = tile;
    for (const how of IMAGES[this.symmetry]) {
      const c = how === "v" ? column : COLUMNS - 1 - column, r = how === "h" ? row : ROWS - 1 - row;
      this.tiles[r * COLUMNS + c] = mirroredTile(tile, how);
    }
  }

  // Places an entity, and its images where symmetry asks for them. The ninja only moves.
  place(entity) {
    if (entity[0] === 0) {
      this.entities[0] = [this.entities[0][0], entity[1], entity[2], ...this.entities[0].slice(3)];
      return;
    }
    const all = [entity, ...IMAGES[this.symmetry].map((how) => mirroredEntity(entity, how))];
    for (const one of all) {
      const same = this.entities.findIndex((other, k) => k && other[0] === one[0] && other[1] === one[1] && other[2] === one[2]);
      if (same > 0) this.entities.splice(same, 1); // never two of a kind at one place
      this.entities.push(one);
    }
  }

  // The entity or switch nearest to a point (px): [index, whether it is the switch], or null.
  find(x, y, reach = 13) {
    let best = null, least = reach;
    this.entities.forEach((entity, k) => {
      for (const [at, isSwitch] of [[entity.slice(1, 3), false], [entity[5], true]]) {
        if (!at) continue;
        const distance = Math.hypot(UNIT * at[0] - x, UNIT * at[1] - y);
        if (distance <= least) [best, least] = [[k, isSwitch], distance];
      }
    });
    return best;
  }

  remove(index) {
    if (index > 0) this.entities.splice(index, 1);
  }

  // What lies in a rectangle of cells, both ends included: tiles by row, and entities with places from its corner.
  copy(from, to) {
    const [left, right] = [from[0], to[0]].sort((a, b) => a - b), [top, bottom] = [from[1], to[1]].sort((a, b) => a - b);
    const tiles = [];
    for (let row = top; row <= bottom; row++) tiles.push(Array.from(this.tiles.slice(row * COLUMNS + left, row * COLUMNS + right + 1)));
    const [x, y] = [4 * (left + 1), 4 * (top + 1)], wide = 4 * (right - left + 1), high = 4 * (bottom - top + 1);
    const within = ([a, b]) => a >= x && a <= x + wide && b >= y && b <= y + high;
    const entities = this.entities.slice(1).filter((entity) => within(entity.slice(1, 3))).map((entity) => {
      const found = [entity[0], entity[1] - x, entity[2] - y, entity[3], entity[4]];
      if (entity[5]) found.push([entity[5][0] - x, entity[5][1] - y, ...entity[5].slice(2)]);
      return found;
    });
    return { tiles, entities, from: [left, top], to: [right, bottom] };
  }

  clear(part) {
    const cut = this.copy(part.from, part.to);
    for (let row = part.from[1]; row <= part.to[1]; row++)
      for (let column = part.from[0]; column <= part.to[0]; column++) this.tiles[row * COLUMNS + column] = 0;
    const [x, y] = [4 * (part.from[0] + 1), 4 * (part.from[1] + 1)];
    for (const one of cut.entities)
      this.entities = this.entities.filter((other, k) => !k || other[0] !== one[0] || other[1] !== one[1] + x || other[2] !== one[2] + y);
  }

  paste(part, column, row) {
    part.tiles.forEach((line, r) => line.forEach((tile, c) => this.setTile(column + c, row + r, tile)));
    const [x, y] = [4 * (column + 1), 4 * (row + 1)];
    const limit = (value, most) => Math.max(0, Math.min(most, value));
    for (const entity of part.entities) {
      const found = [entity[0], limit(entity[1] + x, ACROSS), limit(entity[2] + y, DOWN), entity[3], entity[4]];
      if (entity[5]) found.push([limit(entity[5][0] + x, ACROSS), limit(entity[5][1] + y, DOWN), ...entity[5].slice(2)]);
      this.place(found);
    }
  }

  // The mirror image of the whole level.
  mirror(how) {
    const before = this.tiles.slice();
    for (let row = 0; row < ROWS; row++)
      for (let column = 0; column < COLUMNS; column++) {
        const c = how === "h" ? COLUMNS - 1 - column : column, r = how === "v" ? ROWS - 1 - row : row;
        this.tiles[row * COLUMNS + column] = mirroredTile(before[r * COLUMNS + c], how);
      }
    this.entities = this.entities.map((entity) => mirroredEntity(entity, how));
  }
}

// The mirror image of a part that was copied.
export function mirroredPart(part, how) {
  const high = part.tiles.length, wide = part.tiles[0].length;
  const tiles = part.tiles.map((line, r) => line.map((_, c) =>
    mirroredTile(part.tiles[how === "v" ? high - 1 - r : r][how === "h" ? wide - 1 - c : c], how)));
  const move = ([x, y]) => [how === "h" ? 4 * wide - x : x, how === "v" ? 4 * high - y : y];
  const entities = part.entities.map((entity) => {
    const [kind, x, y, orientation, mode, other] = entity;
    const found = [kind, ...move([x, y]), turned(orientation, how), TURNING.has(kind) ? mode ^ 1 : mode];
    if (other) found.push([...move(other), ...other.slice(2)]);
    return found;
  });
  return { ...part, tiles, entities };
}
