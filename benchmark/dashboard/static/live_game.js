// A level that a person plays with the keyboard. Every frame is simulated on the server, with the keys that were held
// when it was due, so the run is exact. The page asks for the frames that are due as soon as the last answer is there.

import { api, element, say } from "./common.js";
import { drawEnd, drawFar, drawPieces, drawTiles, prepare, tilesOf } from "./field.js";
import { drawGame, endOf, seconds, unfolded } from "./player.js";

const KEYS = { ArrowLeft: 4, a: 4, A: 4, ArrowRight: 2, d: 2, D: 2, ArrowUp: 1, w: 1, W: 1, z: 1, Z: 1, x: 1, X: 1, " ": 1 };
const MOST_BEHIND = 12; // frames; what is later is not made up for

export class LiveGame {
  // level: {map, t, n}, as the server knows them. done: called with the input digits at the end, and with "" on leaving.
  constructor(place, level, done) {
    this.level = level;
    this.done = done;
    this.canvas = element("canvas", { class: "field", tabindex: 0, role: "img", "aria-label": "The game that you play" });
    this.clock = element("output", { class: "clock" });
    this.said = element("strong");
    const touch = (name, bit) => element("button", { class: "touch", "aria-label": name, onpointerdown: (event) => { event.preventDefault(); this.held.add(bit); },
      onpointerup: () => this.held.delete(bit), onpointerleave: () => this.held.delete(bit) }, { left: "◀", right: "▶", jump: "▲" }[name]);
    this.bar = element("div", { class: "bar player-bar" },
      element("button", { title: "Again (r)", onclick: () => this.begin() }, "again"),
      element("button", { title: "Back to drawing (Escape)", onclick: () => this.leave() }, "back to drawing"),
      touch("left", 4), touch("right", 2), touch("jump", 1), this.said, this.clock);
    this.help = element("p", { class: "note" }, "Arrows or A and D run; Z, X, W, up or space jump; R begins again; Escape goes back. The first key begins.");
    place.append(this.canvas, this.bar, this.help);
    this.held = new Set();
    this.ground = document.createElement("canvas");
    this.press = (event) => this.onKey(event, true);
    this.release = (event) => this.onKey(event, false);
    this.blur = () => this.held.clear();
    addEventListener("keydown", this.press, true);
    addEventListener("keyup", this.release, true);
    addEventListener("blur", this.blur);
    this.abort = new AbortController();
    this.canvas.focus();
    this.begin();
  }

  onKey(event, down) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=checkbox]), select, textarea")) return;
    if (KEYS[event.key]) {
      if (down) this.held.add(KEYS[event.key]);
      else this.held.delete(KEYS[event.key]);
    } else if (down && (event.key === "r" || event.key === "R")) this.begin();
    else if (down && event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  async begin() {
    cancelAnimationFrame(this.request);
    const turn = (this.turn = (this.turn || 0) + 1);
    this.held.clear();
    this.said.textContent = "";
    try {
      const found = await api("editor/begin", {}, { body: { map: this.level.map }, signal: this.abort.signal });
      if (turn !== this.turn) return;
      this.game = found.game;
      this.inputs = "";
      this.take(found.track);
      this.started = null;
      this.waiting = false;
      this.request = requestAnimationFrame((now) => this.tick(now, turn));
    } catch (error) {
      if (error.name !== "AbortError") say(error.message);
    }
  }

  take(track) {
    const found = unfolded(track);
    if (found.still.length) this.still = found.still[found.still.length - 1][1];
    this.track = found;
    this.draw();
    this.clock.textContent = seconds(found.frames);
  }

  tick(now, turn) {
    if (turn !== this.turn) return;
    this.request = requestAnimationFrame((then) => this.tick(then, turn));
    if (this.started === null) {
      if (!this.held.size) return;
      this.started = now - 1000 / 60;
    }
    if (this.waiting || this.track.outcome) return;
    let due = Math.floor(((now - this.started) / 1000) * 60) - this.inputs.length;
    if (due > MOST_BEHIND) {
      this.started += ((due - MOST_BEHIND) / 60) * 1000;
      due = MOST_BEHIND;
    }
    if (due > 0) this.send(due, turn);
  }

  async send(count, turn) {
    let key = 0;
    for (const bit of this.held) key |= bit;
    this.waiting = true;
    try {
      const body = { game: this.game, frame: this.track.frames, inputs: key.toString(16).repeat(count) };
      const track = await api("editor/advance", {}, { body, signal: this.abort.signal });
      if (turn !== this.turn) return;
      this.inputs += body.inputs.slice(0, track.frames - this.track.frames);
      if (track.x.length) this.take(track);
      else this.track.outcome = track.outcome;
      if (track.outcome) {
        this.said.textContent = endOf(track);
        this.done(this.inputs);
      }
    } catch (error) {
      if (error.name !== "AbortError" && turn === this.turn) {
        say(error.message);
        this.turn++;
      }
    }
    this.waiting = false;
  }

  draw() {
    const ctx = prepare(this.canvas);
    if (this.ground.width !== this.canvas.width) {
      [this.ground.width, this.ground.height] = [this.canvas.width, this.canvas.height];
      const ground = this.ground.getContext("2d");
      ground.setTransform(ctx.getTransform());
      drawTiles(ground, tilesOf(this.level.t));
      drawFar(ground, this.level.n);
    }
    ctx.save();
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(this.ground, 0, 0);
    ctx.restore();
    drawPieces(ctx, this.still);
    drawGame(ctx, this.track, this.track.frames, false);
    if (this.track.outcome === "died") drawEnd(ctx, this.track.x.at(-1), this.track.y.at(-1), "died", this.track.cause);
  }

  leave() {
    this.end();
    this.done("");
  }

  end() {
    this.turn = (this.turn || 0) + 1;
    cancelAnimationFrame(this.request);
    this.abort.abort();
    removeEventListener("keydown", this.press, true);
    removeEventListener("keyup", this.release, true);
    removeEventListener("blur", this.blur);
  }
}
