// Plays games that the server has simulated: the level with everything that moves, at 60 frames a second, ghosts of
// other runs on it, a time slider, speeds, single steps, and the inputs as a ribbon.

import { colour, element } from "./common.js";
import { drawEnd, drawFar, drawPieces, drawSymbol, drawTiles, HEIGHT, learn, loadTables, prepare, tilesOf, WIDTH } from "./field.js";

const SPEEDS = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8];
const LANES = [[4, "left"], [2, "right"], [1, "jump"]];
export const seconds = (frames) => `${(frames / 60).toFixed(2)} s`;

export function endOf(track) {
  if (track.outcome === "won") return `won in ${seconds(track.frames)}`;
  if (track.outcome === "died") return `died after ${seconds(track.frames)}${track.cause ? `: ${track.cause.replaceAll("_", " ")}` : ""}`;
  return `not over after ${seconds(track.frames)}`;
}

// The value that holds at a frame in a list of changes [frame, value].
export function at(changes, frame) {
  let low = 0, high = changes.length;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (changes[middle][0] <= frame) low = middle;
    else high = middle;
  }
  return low;
}

// Places of what moves, from differences.
function unfold(mover) {
  const places = new Float32Array(mover.at.length);
  let x = 0, y = 0;
  for (let k = 0; k < mover.at.length; k += 2) {
    places[k] = (x += mover.at[k]) / 8;
    places[k + 1] = (y += mover.at[k + 1]) / 8;
  }
  return { look: mover.look, places };
}

// A game that grows (the person plays it) or is whole: the answer of the server, unfolded.
export function unfolded(track) {
  learn(track.symbols);
  return { ...track, movers: track.movers.map(unfold) };
}

// Draws a moment of a game's entities and its ninja.
export function drawGame(ctx, track, frame, still = true) {
  if (still && track.still.length) drawPieces(ctx, track.still[at(track.still, frame)][1]);
  for (const { look, places } of track.movers) {
    const k = Math.min(2 * (frame - (track.first || 0)), places.length - 2);
    drawPieces(ctx, look[at(look, frame)][1], places[k], places[k + 1]);
  }
  drawNinja(ctx, track, frame);
}

export function drawNinja(ctx, track, frame) {
  const k = Math.min(frame - (track.first || 0), track.x.length - 1);
  drawSymbol(ctx, track.pose[at(track.pose, frame)][1], track.x[k], track.y[k]);
}

export class Player {
  // runs: list of {name, color (k of c0..c7), track}; the first is the one whose doors, mines and gold are shown.
  constructor(place) {
    this.canvas = element("canvas", { class: "field", tabindex: 0, role: "img", "aria-label": "The level and the runs on it" });
    this.ribbon = element("canvas", { class: "ribbon", role: "img", "aria-label": "Keys that are held over time" });
    this.slider = element("input", { type: "range", min: 0, max: 1, value: 0, class: "time", "aria-label": "Time", title: "Time" });
    this.button = element("button", { class: "play", title: "Play or pause (space)", onclick: () => this.toggle() }, "▶");
    this.clock = element("output", { class: "clock" });
    this.speedSelect = element("select", { "aria-label": "Speed", title: "Speed (up, down)", onchange: () => this.setSpeed(Number(this.speedSelect.value)) },
      SPEEDS.map((speed) => element("option", { value: speed }, speed < 1 ? `1/${1 / speed} speed` : `${speed} × speed`)));
    this.ways = element("input", { type: "checkbox", checked: true, onchange: () => this.draw() });
    this.controls = element("div", { class: "bar player-bar" },
      element("button", { title: "To the start (Home)", "aria-label": "To the start", onclick: () => this.seek(0) }, "|◀"),
      element("button", { title: "One frame back (left)", "aria-label": "One frame back", onclick: () => this.step(-1) }, "‹"),
      this.button,
      element("button", { title: "One frame on (right)", "aria-label": "One frame on", onclick: () => this.step(1) }, "›"),
      this.speedSelect, element("label", {}, this.ways, "ways"), this.clock);
    const lanes = element("small", { class: "note" }, "keys: left, right, jump from top to bottom");
    place.append(this.canvas, this.controls, this.slider, this.ribbon, lanes);
    this.runs = [];
    this.frame = 0;
    this.frames = 1;
    this.playing = false;
    this.listeners = [];
    this.ground = document.createElement("canvas");
    this.still = document.createElement("canvas");
    this.setSpeed(1);
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    const point = (event) => {
      if (event.type !== "pointerdown" && !(event.buttons & 1)) return;
      const box = this.ribbon.getBoundingClientRect();
      this.seek(Math.round(((event.clientX - box.left) / box.width) * this.frames));
    };
    this.ribbon.addEventListener("pointerdown", point);
    this.ribbon.addEventListener("pointermove", point);
    this.canvas.addEventListener("click", () => this.toggle());
    this.resize = new ResizeObserver(() => this.renew());
    this.resize.observe(this.canvas);
    this.renewed = () => this.renew();
    addEventListener("theme", this.renewed);
  }

  async show(runs, frame = 0) {
    await loadTables();
    this.runs = runs;
    this.tiles = runs.length ? tilesOf(runs[0].track.t) : null;
    this.frames = Math.max(1, ...runs.map((run) => run.track.frames));
    this.slider.max = this.frames;
    this.renew();
    this.seek(Math.min(frame, this.frames));
  }

  // Draw again what is kept between pictures.
  renew() {
    if (!this.runs.length) return;
    prepare(this.canvas);
    this.ground.width = 0;
    this.drawn = -1;
    this.draw();
    this.drawRibbon();
  }

  setSpeed(speed) {
    this.speed = speed;
    this.speedSelect.value = speed;
    this.began = performance.now() - (this.frame / 60 / speed) * 1000;
  }

  toggle() {
    if (this.playing) return this.pause();
    if (this.frame >= this.frames) this.frame = 0;
    this.playing = true;
    this.button.textContent = "❚❚";
    this.setSpeed(this.speed);
    const tick = () => {
      if (!this.playing) return;
      const frame = Math.floor(((performance.now() - this.began) / 1000) * 60 * this.speed);
      this.go(Math.min(frame, this.frames));
      if (frame >= this.frames) this.pause();
      else this.request = requestAnimationFrame(tick);
    };
    this.request = requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    this.button.textContent = "▶";
    cancelAnimationFrame(this.request);
  }

  step(count) {
    this.pause();
    this.go(Math.max(0, Math.min(this.frames, this.frame + count)));
  }

  seek(frame) {
    this.go(Math.max(0, Math.min(this.frames, frame)));
    this.setSpeed(this.speed);
  }

  go(frame) {
    this.frame = frame;
    this.slider.value = frame;
    this.clock.textContent = `${(frame / 60).toFixed(2)} of ${seconds(this.frames)} · frame ${frame}`;
    this.draw();
    this.drawRibbon();
    for (const listener of this.listeners) listener(frame);
  }

  // Where the ninja of a run is now.
  placeOf(run) {
    const k = Math.min(this.frame, run.track.frames);
    return [run.track.x[k], run.track.y[k]];
  }

  draw() {
    if (!this.runs.length || !this.canvas.clientWidth) return;
    const { width, height } = this.canvas;
    const ctx = this.canvas.getContext("2d");
    const set = (context) => context.setTransform(width / WIDTH, 0, 0, height / HEIGHT, 0, 0);
    if (this.ground.width !== width) {
      [this.ground.width, this.ground.height] = [width, height];
      const ground = this.ground.getContext("2d");
      set(ground);
      drawTiles(ground, this.tiles);
      this.drawn = -1;
    }
    const main = this.runs[0].track;
    const now = at(main.still, this.frame);
    if (this.drawn !== now) {
      [this.still.width, this.still.height] = [width, height];
      const still = this.still.getContext("2d");
      still.drawImage(this.ground, 0, 0);
      set(still);
      drawPieces(still, main.still[now][1]);
      drawFar(still, main.n);
      this.drawn = now;
    }
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(this.still, 0, 0);
    set(ctx);
    if (this.ways.checked) for (const run of [...this.runs].reverse()) this.drawWay(ctx, run);
    for (const run of this.runs.slice(1).reverse()) {
      const [x, y] = this.placeOf(run);
      ctx.globalAlpha = 0.28;
      ctx.fillStyle = this.inkOf(run);
      ctx.beginPath();
      ctx.arc(x, y, 11, 0, 7);
      ctx.fill();
      ctx.globalAlpha = 0.8;
      drawNinja(ctx, run.track, Math.min(this.frame, run.track.frames));
      ctx.globalAlpha = 1;
    }
    drawGame(ctx, main, Math.min(this.frame, main.frames), false);
    for (const run of [...this.runs].reverse())
      if (this.frame >= run.track.frames && (run !== this.runs[0] || run.track.outcome !== "won")) {
        const [x, y] = this.placeOf(run);
        drawEnd(ctx, x, y, run.track.outcome, run.track.cause);
      }
  }

  // Fields are light in both themes, so the lines on them have the colours of the light one.
  inkOf(run) {
    return LIGHT[run.color % LIGHT.length];
  }

  drawWay(ctx, run) {
    const { x, y } = run.track;
    const last = Math.min(this.frame, run.track.frames);
    ctx.beginPath();
    for (let k = 0; k <= last; k++) ctx.lineTo(x[k], y[k]);
    ctx.strokeStyle = this.inkOf(run);
    ctx.lineWidth = run === this.runs[0] ? 1.8 : 1.3;
    ctx.lineJoin = "round";
    ctx.globalAlpha = run === this.runs[0] ? 0.9 : 0.65;
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  drawRibbon() {
    const canvas = this.ribbon;
    const ratio = window.devicePixelRatio || 1;
    const lane = 7, gap = 6, height = this.runs.length * (3 * lane + gap) + 2;
    canvas.style.height = `${height}px`;
    const width = Math.round(canvas.clientWidth * ratio);
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height * ratio) [canvas.width, canvas.height] = [width, Math.round(height * ratio)];
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    const wide = canvas.clientWidth / this.frames;
    this.runs.forEach((run, r) => {
      const top = r * (3 * lane + gap);
      ctx.fillStyle = colour("line");
      ctx.globalAlpha = 0.5;
      ctx.fillRect(0, top, run.track.inputs.length * wide, 3 * lane);
      ctx.globalAlpha = 1;
      ctx.fillStyle = colour(`c${run.color % 8}`);
      LANES.forEach(([bit], k) => {
        let from = -1;
        for (let f = 0; f <= run.track.inputs.length; f++) {
          const held = f < run.track.inputs.length && parseInt(run.track.inputs[f], 16) & bit;
          if (held && from < 0) from = f;
          if (!held && from >= 0) {
            ctx.fillRect(from * wide, top + k * lane + 1, Math.max(1, (f - from) * wide), lane - 2);
            from = -1;
          }
        }
      });
    });
    ctx.fillStyle = colour("ink");
    ctx.fillRect(this.frame * wide - 0.75, 0, 1.5, height);
  }

  // Keys of the player; true where one was its own.
  press(event) {
    const own = {
      " ": () => this.toggle(), ArrowLeft: () => this.step(event.shiftKey ? -10 : -1), ArrowRight: () => this.step(event.shiftKey ? 10 : 1),
      Home: () => this.seek(0), End: () => this.seek(this.frames), ArrowUp: () => this.faster(1), ArrowDown: () => this.faster(-1),
    }[event.key];
    if (!own) return false;
    own();
    event.preventDefault();
    return true;
  }

  faster(change) {
    this.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(this.speed) + change))]);
  }

  end() {
    this.pause();
    this.resize.disconnect();
    removeEventListener("theme", this.renewed);
    this.runs = [];
  }
}

export const LIGHT = ["#e2630c", "#4644ef", "#3da18c", "#95765a", "#8e4c79", "#6682fa", "#022837", "#615401"];
