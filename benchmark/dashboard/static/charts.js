// Charts of curves with uPlot: hover values, zoom by dragging, bands, logarithmic axes, keys.

import { colour, duration, element, short } from "./common.js";
import uPlot from "./vendor/uPlot.js";

const COLOURS = 8;
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
const LISTED = 14; // values in a tip

// The look of curve k: a colour, and a dash besides. All of them together repeat after 32 curves.
export const look = (k) => ({
  stroke: `c${k % COLOURS}`,
  dash: DASHES[(k + Math.floor(k / COLOURS)) % DASHES.length],
});

export function swatch(k) {
  const { stroke, dash } = look(k);
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  const line = document.createElementNS(ns, "line");
  for (const [name, value] of Object.entries({ width: 26, height: 10, "aria-hidden": "true" }))
    svg.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 2.5 }))
    line.setAttribute(name, value);
  line.setAttribute("stroke-dasharray", dash.join(" "));
  line.style.stroke = `var(--${stroke})`;
  svg.append(line);
  return svg;
}

const tip = element("div", { class: "tip", hidden: true, role: "tooltip" });
document.body.append(tip);

function nearest(values, at) {
  for (let gap = 0; gap < values.length; gap++) {
    if (values[at - gap] !== null && values[at - gap] !== undefined) return at - gap;
    if (values[at + gap] !== null && values[at + gap] !== undefined) return at + gap;
  }
  return null;
}

// A chart of one metric. curves: [{name, k, x, y, low?, high?}]; options: {xlabel, title, logx, logy, minutes, zoom,
// onzoom(min, max), sync}. Returns {root, set(curves, options), focus(name), destroy()}.
export class Chart {
  constructor(title) {
    this.title = title;
    this.place = element("div", { class: "plot", tabindex: 0, role: "img" });
    this.caption = element("figcaption", {}, title);
    this.root = element("figure", { class: "chart", data: { key: title } }, this.caption, this.place);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.place);
    this.place.addEventListener("keydown", (event) => this.key(event));
    this.place.addEventListener("mouseleave", () => (tip.hidden = true));
    this.place.addEventListener("blur", () => (tip.hidden = true));
  }

  set(curves, options) {
    this.curves = curves;
    this.options = options;
    for (const curve of curves) {
      curve.begins = curve.x[curve.y.findIndex((y) => y !== null)];
      curve.ends = curve.x[curve.y.findLastIndex((y) => y !== null)];
    }
    this.build();
  }

  build() {
    const { curves, options } = this;
    if (!options) return;
    this.plot?.destroy();
    this.plot = null;
    this.place.replaceChildren();
    if (!curves.length) {
      this.place.append(element("p", { class: "note" }, "nothing logged (yet)"));
      return;
    }
    const good = (values, log) => (log ? values.map((v) => (v > 0 ? v : null)) : values);
    const tables = [];
    const series = [{ label: options.xlabel }];
    const bands = [];
    this.own = []; // index of a series -> its curve
    for (const curve of curves) {
      const { stroke, dash } = look(curve.k);
      const columns = [curve.x, good(curve.y, options.logy)];
      const line = { label: curve.name, stroke: colour(stroke), width: 2, dash, spanGaps: true,
        points: { show: curve.y.length < 30, size: 5 } };
      this.own[series.length] = curve;
      series.push(line);
      if (curve.low) {
        columns.push(good(curve.low, options.logy), good(curve.high, options.logy));
        const edge = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: true };
        series.push({ ...edge, label: `${curve.name} low` }, { ...edge, label: `${curve.name} high` });
        const fill = `color-mix(in srgb, ${colour(stroke)} 16%, transparent)`;
        bands.push({ series: [series.length - 1, series.length - 2], fill });
      }
      tables.push(columns);
    }
    let data = uPlot.join(tables);
    if (options.logx) {
      const first = data[0].findIndex((x) => x > 0);
      data = data.map((column) => column.slice(first < 0 ? column.length : first));
    }
    const lines = Object.keys(this.own).map((s) => data[s]);
    if ((options.logx || options.logy) && !lines.some((line) => line.some((v) => v !== null && v !== undefined))) {
      this.place.append(element("p", { class: "note" }, "no value above 0: a logarithmic axis has no place for it"));
      return;
    }
    this.data = data;
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") },
      font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif" };
    const shown = (u, values) => {
      const own = values.filter((v) => v !== null);
      const most = Math.max(...own.map(Math.abs));
      const step = Math.min(...own.slice(1).map((v, k) => Math.abs(v - own[k])));
      const digits = step > 0 && most > 0 ? Math.min(8, Math.max(3, Math.ceil(Math.log10(most / step)) + 1)) : 3;
      return values.map((v) => (v === null ? "" : short(v, digits)));
    };
    this.zooming = false;
    this.plot = new uPlot({
      width: Math.max(200, this.place.clientWidth), height: this.height(), legend: { show: false }, series, bands,
      scales: {
        x: { time: false, distr: options.logx ? 3 : 1,
          range: options.zoom ? () => options.zoom : undefined },
        y: { distr: options.logy ? 3 : 1 },
      },
      axes: [
        { ...axis, values: shown, label: options.xlabel, labelSize: 18, size: 34 },
        { ...axis, values: shown, size: 60 },
      ],
      cursor: { drag: { x: true, y: false, setScale: false }, sync: { key: "runs", setSeries: false },
        points: { size: 7 }, focus: { prox: 16 } },
      focus: { alpha: 0.18 },
      hooks: {
        setCursor: [() => this.hover()],
        setSelect: [(u) => {
          if (u.select.width < 4) return;
          const ends = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          options.onzoom?.(...ends);
        }],
      },
    }, data, this.place);
    this.plot.over.addEventListener("dblclick", () => options.onzoom?.(null, null));
    const ends = curves.map((curve) => `${curve.name} ${short(curve.y.at(-1))}`).slice(0, 8).join(", ");
    this.place.setAttribute("aria-label", `${this.title} over ${options.xlabel}. Last values: ${ends}.`);
    this.place.dataset.points = curves.reduce((sum, curve) => sum + curve.y.length, 0);
  }

  height() {
    return innerWidth < 600 ? 200 : 230;
  }

  resize() {
    const width = this.place.clientWidth;
    if (this.plot && width > 50 && Math.abs(width - this.plot.width) > 1)
      this.plot.setSize({ width, height: this.height() });
  }

  hover() {
    const { left, top, idx } = this.plot.cursor;
    const here = this.place.matches(":hover") || document.activeElement === this.place;
    if (!here) return;
    if (idx === null || idx === undefined || left < 0) {
      tip.hidden = true;
      return;
    }
    const x = this.data[0][idx];
    const found = [];
    this.own.forEach((curve, s) => {
      const at = nearest(this.data[s], idx);
      // A curve that has ended, or has not begun, says nothing here.
      if (at === null || x < curve.begins || x > curve.ends) return;
      found.push([this.data[s][at], curve]);
    });
    found.sort((a, b) => b[0] - a[0]);
    const lines = found.slice(0, LISTED).map(([value, curve]) =>
      element("div", {}, swatch(curve.k), ` ${this.value(value)} `, curve.name));
    if (found.length > LISTED) lines.push(element("div", {}, `and ${found.length - LISTED} more`));
    const where = this.options.minutes ? duration(x) : `${short(x)} steps`;
    tip.replaceChildren(element("div", { class: "at" }, where), ...lines);
    tip.hidden = false;
    const box = this.plot.over.getBoundingClientRect();
    const right = box.left + left + 14;
    const width = tip.offsetWidth;
    tip.style.left = `${right + width > innerWidth - 8 ? Math.max(8, box.left + left - width - 14) : right}px`;
    tip.style.top = `${Math.max(8, Math.min(innerHeight - tip.offsetHeight - 8, box.top + Math.max(0, top) + 10))}px`;
  }

  value(value) {
    return Number(value.toPrecision(4)).toString();
  }

  key(event) {
    const plot = this.plot;
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      const last = this.data[0].length - 1;
      const at = Math.min(last, Math.max(0, (plot.cursor.idx ?? (step > 0 ? -1 : last + 1)) +
        step * Math.max(1, event.shiftKey ? Math.round(last / 20) : 1)));
      const left = plot.valToPos(this.data[0][at], "x");
      plot.setCursor({ left, top: plot.over.clientHeight / 3 });
    } else if (event.key === "Escape") {
      tip.hidden = true;
      this.options.onzoom?.(null, null);
    } else return;
    event.preventDefault();
  }

  focus(name) {
    if (!this.plot) return;
    const at = this.own.findIndex((curve) => curve && curve.name === name);
    this.plot.setSeries(at > 0 ? at : null, { focus: true }, false);
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
    tip.hidden = true;
  }
}
