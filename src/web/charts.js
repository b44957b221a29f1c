// Two small charts: what a demand saves over time with its interval, and whether forecasts come true.

import { $, ask, clock, duration, svg } from "./util.js";

const WIDTH = 400, HEIGHT = 160, LEFT = 46, RIGHT = 390, TOP = 10, BOTTOM = 136;

/** Savings of a demand over the last day, as the daemon recorded them. */
export async function saving() {
  const read = (metric) => ask(`/v1/series?by=host&metric=${metric}&last_s=86400&step_s=120`).then(([s]) => s);
  const [mean, low, high] = await Promise.all(["saving", "saving_low", "saving_high"].map(read));
  const points = low.points.map((p, i) => [i, mean.points[i]?.[1], p?.[1], high.points[i]?.[1]])
    .filter(([, , l, h]) => l != null && h != null);
  if (points.length < 2) {
    $("saving").replaceChildren(Object.assign(document.createElement("p"), {
      className: "soft", textContent: "not yet known: the control group is too small" }));
    return;
  }
  const values = points.flatMap(([, m, l, h]) => [m ?? l, l, h]);
  const least = Math.min(0, ...values), most = Math.max(1e-3, ...values);
  const first = points[0][0], last = points[points.length - 1][0];
  const x = (i) => LEFT + ((i - first) / Math.max(1, last - first)) * (RIGHT - LEFT);
  const y = (v) => BOTTOM - ((v - least) / (most - least)) * (BOTTOM - TOP);
  const line = (values) => values.map(([i, v], n) => `${n ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const band = line(points.map(([i, , , h]) => [i, h])) +
    line(points.map(([i, , l]) => [i, l]).reverse()).replace("M", "L") + "Z";
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `A demand saves between ${duration(points.at(-1)[2])} and ${duration(points.at(-1)[3])}` },
  svg("path", { d: band, fill: "var(--h2)" }),
  svg("line", { x1: LEFT, x2: RIGHT, y1: y(0), y2: y(0), stroke: "var(--soft)", "stroke-dasharray": "3 3" }));
  const means = points.filter(([, m]) => m != null).map(([i, m]) => [i, m]);
  if (means.length > 1) {
    picture.append(svg("path", { d: line(means), fill: "none", stroke: "var(--run)", "stroke-width": 2 }));
  }
  const label = (tx, ty, text, anchor = "end") => picture.append(svg("text", { x: tx, y: ty, "text-anchor": anchor }, text));
  label(LEFT - 6, y(most) + 4, duration(most));
  label(LEFT - 6, y(0) + 4, "0");
  label(LEFT, HEIGHT - 8, clock(low.start_s + first * low.step_s), "start");
  label(RIGHT, HEIGHT - 8, "now");
  $("saving").replaceChildren(picture);
}

/** Stated probability against what came true; the area of a dot is how often it was stated. */
export function calibration(bins) {
  const total = bins.reduce((n, b) => n + b.count, 0);
  const error = bins.reduce((e, b) => e + b.count * Math.abs(b.confidence - b.came_true), 0) / Math.max(1, total);
  $("ece").textContent = total < 1 ? "no forecast yet" : `ECE ${error.toFixed(3).replace(/^0/, "")} over ${Math.round(total)}`;
  const x = (v) => LEFT + v * (RIGHT - LEFT), y = (v) => BOTTOM - v * (BOTTOM - TOP);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `Calibration: expected error ${error.toFixed(3)} over ${Math.round(total)} forecasts` },
  svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--soft)", "stroke-dasharray": "3 3" }),
  svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(0), stroke: "var(--line)" }));
  for (const bin of bins.filter((b) => b.count >= 1)) {
    const radius = 2.5 + 7 * Math.sqrt(bin.count / total);
    const dot = svg("circle", { cx: x(bin.confidence), cy: y(bin.came_true), r: radius.toFixed(1), fill: "var(--run)",
      "fill-opacity": 0.75 });
    dot.append(svg("title", {}, `said ${bin.confidence.toFixed(2)}, came true ${bin.came_true.toFixed(2)}, ${Math.round(bin.count)} times`));
    picture.append(dot);
  }
  for (const [tx, ty, text, anchor] of [[LEFT - 6, y(1) + 4, "came 1", "end"], [LEFT, HEIGHT - 8, "said 0", "start"],
    [RIGHT, HEIGHT - 8, "said 1", "end"]]) {
    picture.append(svg("text", { x: tx, y: ty, "text-anchor": anchor }, text));
  }
  $("calibration").replaceChildren(picture);
}
