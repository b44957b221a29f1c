// The heatmap: the daemon's model drawn on a canvas that holds just the rows in view, so 500 rows cost as much as 20.

import { $, ask, bytes, clock, colour, duration, el, fit, share, shorten } from "./util.js";

const LEVELS = 10, ROW_LEAST = 20, ROW_MOST = 32, TALL = 420, AXIS = 18, GAP = 3, TITLES = 96, LEAST_COLUMN = 7;
const ROWS = [["shard", "cells × shards"], ["cell", "cells"], ["worker", "workers"], ["source", "sources"]];
const METRICS = {
  worker: ["heat", "cpu", "memory", "io", "net"],
  cell: ["heat", "cpu", "memory", "io", "net", "latency", "queued", "transfers"],
  shard: ["heat", "cpu", "memory", "io", "net", "queued", "transfers"],
  source: ["latency", "latency_p99"],
};
const state = { by: "worker", metric: "heat", map: null, at: null };

/** Height of a row: a few rows fill the box, many scroll. */
const rowHeight = () => Math.max(ROW_LEAST, Math.min(ROW_MOST, Math.floor((TALL - AXIS) / state.map.rows.length)));
const step = () => state.map.columns.step / 1e6;
const start = () => state.map.columns.start / 1e6;
const measured = () => state.map.forecast_from ?? state.map.columns.count;

export function valueText(unit, v) {
  if (v == null) return "not measured";
  if (unit === "share") return share(v);
  if (unit === "seconds") return duration(v);
  if (unit === "bytes") return bytes(v);
  if (unit === "bytes_per_s") return `${bytes(v)}/s`;
  return v.toFixed(v < 10 ? 1 : 0);
}

function tabs(box, items, chosen, choose) {
  box.replaceChildren(...items.map(([value, words]) => {
    const button = el("button", { type: "button", textContent: words, onclick: () => choose(value) });
    button.setAttribute("role", "tab");
    button.setAttribute("aria-selected", value === chosen);
    button.tabIndex = value === chosen ? 0 : -1;
    button.onkeydown = (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const all = [...box.children], next = all[(all.indexOf(button) + by + all.length) % all.length];
      choose(items[all.indexOf(next)][0]);
      box.querySelector("[aria-selected=true]").focus();
    };
    return button;
  }));
}

function showTabs() {
  tabs($("by"), ROWS, state.by, (by) => {
    state.by = by;
    if (!METRICS[by].includes(state.metric)) state.metric = METRICS[by][0];
    changed();
  });
  tabs($("metric"), METRICS[state.by].map((m) => [m, m.replace("_", " ")]), state.metric, (metric) => {
    state.metric = metric;
    changed();
  });
}

function changed() {
  state.at = null;
  $("factors").hidden = true;
  showTabs();
  refresh();
}

/** Asks for as many columns as fit and draws them. */
export async function refresh() {
  const columns = Math.max(10, Math.min(120, Math.floor((box().clientWidth - TITLES) / LEAST_COLUMN / 1.12)));
  const query = `by=${state.by}&metric=${state.metric}&last_s=${$("last").value}&columns=${columns}`;
  try {
    state.map = await ask(`/v1/heatmap?${query}`);
    draw();
  } catch (error) {
    state.map = null;
    fit($("map-canvas"), box().clientWidth, 40);
    $("map-at").textContent = error.message;
  }
}

const box = () => $("map");
const level = (v) => Math.min(LEVELS - 1, Math.max(0, Math.floor((v / state.map.max) * LEVELS + 1e-9)));

function geometry() {
  const width = box().clientWidth, count = state.map.columns.count;
  const gap = measured() < count ? GAP : 0;
  return { width, gap, column: (width - TITLES - gap) / count };
}

const x = (g, c) => TITLES + c * g.column + (c >= measured() ? g.gap : 0);

export function draw() {
  const map = state.map;
  if (!map) return;
  const g = geometry(), tall = rowHeight(), height = Math.min(map.rows.length * tall + AXIS, TALL);
  $("map-height").style.height = `${Math.max(0, map.rows.length * tall + AXIS - height)}px`;
  const context = fit($("map-canvas"), g.width, height);
  const ramp = Array.from({ length: LEVELS }, (_, i) => colour(`h${i}`));
  const hatch = hatching(context), soft = colour("soft"), top = box().scrollTop;
  const first = Math.floor(top / tall), shown = Math.ceil((height - AXIS) / tall) + 1;
  context.textBaseline = "middle";
  for (const [i, row] of map.rows.slice(first, first + shown).entries()) {
    const y = (first + i) * tall - top;
    if (y > height - AXIS - tall / 2) break;
    context.fillStyle = soft;
    context.textAlign = "right";
    context.fillText(shorten(context, row.label, TITLES - 10), TITLES - 7, y + tall / 2);
    row.values.forEach((v, c) => {
      if (v == null) return;
      context.fillStyle = ramp[level(v)];
      context.fillRect(x(g, c), y + 1, Math.max(1, g.column - 1), tall - 2);
      if (c >= measured()) {
        context.fillStyle = hatch;
        context.fillRect(x(g, c), y + 1, Math.max(1, g.column - 1), tall - 2);
      }
    });
    if (state.at?.row === first + i) {
      context.strokeStyle = colour("bad");
      context.lineWidth = 2;
      context.strokeRect(x(g, state.at.column), y + 1, Math.max(2, g.column - 1), tall - 2);
    }
  }
  axis(context, g, height, soft);
  legend(ramp);
}

/** Lines from corner to corner: what is forecast is told apart without colour. */
function hatching(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const t = tile.getContext("2d");
  t.strokeStyle = colour("card");
  t.lineWidth = 1.4;
  t.beginPath();
  for (const d of [-6, 0, 6]) { t.moveTo(d, 6); t.lineTo(d + 6, 0); }
  t.stroke();
  return context.createPattern(tile, "repeat");
}

function axis(context, g, height, soft) {
  const y = height - AXIS / 2;
  context.clearRect(0, height - AXIS, g.width, AXIS);
  context.fillStyle = soft;
  context.textAlign = "left";
  context.fillText(clock(start()), TITLES, y);
  const middle = Math.floor(measured() / 2);
  if (g.width > 420) context.fillText(clock(start() + middle * step()), x(g, middle), y);
  context.textAlign = "right";
  context.fillText("now", x(g, measured()) - g.gap, y);
  if (measured() < state.map.columns.count) context.fillText("forecast", g.width, y);
}

function legend(ramp) {
  const map = state.map, unit = map.unit;
  const scale = el("span", { className: "ramp" }, `${valueText(unit, 0)} `,
    ...ramp.map((c) => Object.assign(el("i"), { style: `background:${c}` })), ` ${valueText(unit, map.max)}`);
  const spans = [scale];
  if (measured() < map.columns.count) spans.push(el("span", { textContent: "hatched: forecast" }));
  const extremes = extremesOf(map);
  if (extremes) {
    spans.push(el("span", {}, "hottest: ", el("b", { textContent: extremes.hot[0] }),
      ` ${valueText(unit, extremes.hot[1])} · coolest: ${extremes.cool[0]} ${valueText(unit, extremes.cool[1])}`));
  }
  if (map.note) spans.push(el("span", { textContent: map.note }));
  $("map-legend").replaceChildren(...spans);
  box().setAttribute("aria-label",
    `${map.title}, ${map.rows.length} rows; arrow keys move, Enter shows what a cell is made of`);
}

/** The rows whose latest tenth is highest and lowest. */
function extremesOf(map) {
  const last = Math.max(1, Math.round(measured() / 10));
  const means = map.rows.map((row) => {
    const values = row.values.slice(measured() - last, measured()).filter((v) => v != null);
    return [row.label, values.length ? values.reduce((a, b) => a + b) / values.length : null];
  }).filter(([, mean]) => mean != null).sort((a, b) => b[1] - a[1]);
  return means.length ? { hot: means[0], cool: means[means.length - 1] } : null;
}

function cellAt(event) {
  const g = geometry(), bounds = $("map-canvas").getBoundingClientRect();
  const row = Math.floor((event.clientY - bounds.top + box().scrollTop) / rowHeight());
  let column = Math.floor((event.clientX - bounds.left - TITLES) / g.column);
  if (column >= measured()) column = Math.floor((event.clientX - bounds.left - TITLES - g.gap) / g.column);
  const inside = row >= 0 && row < state.map.rows.length && column >= 0 && column < state.map.columns.count;
  return inside ? { row, column } : null;
}

function tell(at) {
  const row = state.map.rows[at.row], when = start() + at.column * step();
  const kind = at.column >= measured() ? ", forecast" : "";
  $("map-at").textContent = `${row.label}, ${clock(when)}: ${valueText(state.map.unit, row.values[at.column])}${kind}`;
}

/** What a cell is made of: its four resources at that time, what waits and moves, and why (for workers). */
async function drill(at) {
  const { label } = state.map.rows[at.row], when = start() + at.column * step();
  const panel = $("factors"), unitWidth = step();
  panel.hidden = false;
  panel.replaceChildren(el("p", { textContent: `${label} at ${clock(when)} …` }));
  if (at.column >= measured()) {
    panel.replaceChildren(close(), el("p", { textContent:
      `${label} at ${clock(when)}: expected load of what is predicted and queued` }));
    return;
  }
  const age = Date.now() / 1000 - when + 2 * unitWidth + 5;
  const metrics = METRICS[state.by].filter((m) => m !== "heat");
  const name = encodeURIComponent(label);
  const read = (m) => ask(`/v1/series?by=${state.by}&name=${name}&metric=${m}&last_s=${Math.max(60, age)}&step_s=${unitWidth}`)
    .then(([series]) => [m, series, series.points[Math.round((when - series.start_s) / series.step_s)]])
    .catch(() => [m, null, null]);
  const why = state.by === "worker" ? ask(`/v1/why?worker=${name}`).catch(() => null) : null;
  const factors = await Promise.all(metrics.map(read));
  const explained = await why;
  const grid = el("div", { className: "grid" });
  for (const [metric, series, point] of factors) {
    const mean = point?.[1];
    const bar = el("div", { className: "bar" });
    if (series?.unit === "share" && mean != null) {
      bar.append(Object.assign(el("i"), { style: `width:${mean * 100}%;background:var(--h6)` }));
    }
    const range = point ? ` (${valueText(series.unit, point[0])} to ${valueText(series.unit, point[2])})` : "";
    grid.append(el("span", { textContent: metric.replace("_", " ") }), bar,
      el("span", { textContent: `${valueText(series?.unit, mean)}${range}` }));
  }
  const lines = el("dl");
  for (const line of explained?.lines ?? []) {
    lines.append(el("dt", { className: "soft", textContent: line.name }), el("dd", { textContent: line.text }));
  }
  panel.replaceChildren(close(), el("p", {}, el("b", { textContent: label }), ` at ${clock(when)}`), grid, lines);
}

function close() {
  const button = el("button", { type: "button", textContent: "close", onclick: () => {
    $("factors").hidden = true;
    box().focus();
  } });
  return button;
}

function key(event) {
  const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!state.map?.rows.length) return;
  if (event.key === "Enter" && state.at) { drill(state.at); return; }
  if (event.key === "Escape") { $("factors").hidden = true; return; }
  if (!by) return;
  event.preventDefault();
  const at = state.at ?? { row: 0, column: measured() - 1 - by[1] };
  const clamp = (v, most) => Math.max(0, Math.min(most, v));
  state.at = { row: clamp(at.row + by[0], state.map.rows.length - 1),
    column: clamp(at.column + by[1], state.map.columns.count - 1) };
  const tall = rowHeight(), y = state.at.row * tall, b = box();
  if (y < b.scrollTop) b.scrollTop = y;
  if (y + tall > b.scrollTop + b.clientHeight - AXIS) b.scrollTop = y + tall - b.clientHeight + AXIS;
  draw();
  tell(state.at);
}

export function begin(rows) {
  if (rows) state.by = rows;
  showTabs();
  $("last").onchange = refresh;
  box().addEventListener("scroll", draw);
  box().addEventListener("keydown", key);
  box().addEventListener("mousemove", (event) => {
    const at = state.map && cellAt(event);
    if (at) tell(at);
  });
  box().addEventListener("click", (event) => {
    const at = state.map && cellAt(event);
    if (!at) return;
    state.at = at;
    draw();
    tell(at);
    drill(at);
  });
}
