// The task stream, in the manner of Dask's: a line for each slot, what it did in fixed colours, paper where it idled.

import { $, colour, clock, duration, fit, shorten } from "./util.js";

const LINE = 16, AXIS = 16, TITLES = 96, KEPT = 4000;
const attempts = [];
let workers = [], running = [], seconds = 60, now = Date.now() / 1000;

/** Takes new attempts and who there is; draws. */
export function take(moment) {
  attempts.push(...moment.played);
  if (attempts.length > KEPT) attempts.splice(0, attempts.length - KEPT);
  workers = moment.workers;
  now = moment.at_s;
  running = workers.flatMap((w) => w.running.filter((t) => t.started_s != null).map((t) => ({
    task: t.id, type: t.type, entity: t.entity, worker: w.name, started_s: t.started_s, ended_s: now, transfer_s: 0,
    wait_s: 0, done: true, staged: 0, underWay: true })));
  draw();
}

/** Which slot each attempt ran in: slots of a worker are alike, so the first that was free then. */
function lanes() {
  const free = new Map(workers.map((w) => [w.name, Array(w.slots).fill(-Infinity)]));
  const out = [];
  const ended = [...attempts, ...running].filter((a) => a.ended_s > now - seconds).sort((a, b) => a.started_s - b.started_s);
  for (const a of ended) {
    const slots = free.get(a.worker);
    if (!slots) continue;
    let slot = slots.findIndex((until) => until <= a.started_s + 1e-3);
    if (slot < 0) slot = slots.indexOf(Math.min(...slots));
    slots[slot] = a.ended_s;
    out.push([`${a.worker} ${slot + 1}`, a]);
  }
  return out;
}

export function draw() {
  const box = $("stream"), width = box.clientWidth;
  seconds = width < 560 ? 30 : width < 1600 ? 60 : 120;
  $("stream-span").textContent = seconds;
  const names = workers.flatMap((w) => Array.from({ length: w.slots }, (_, i) => `${w.name} ${i + 1}`));
  const height = Math.min(names.length * LINE + AXIS, 420);
  $("stream-height").style.height = `${Math.max(0, names.length * LINE + AXIS - height)}px`;
  const context = fit($("stream-canvas"), width, height);
  const colours = { move: colour("move"), wait: colour("wait"), run: colour("run"), bad: colour("bad") };
  const soft = colour("soft"), line = colour("line"), top = box.scrollTop;
  const x = (t) => TITLES + Math.max(0, (t - now + seconds) / seconds) * (width - TITLES);
  const row = new Map(names.map((name, i) => [name, i]));
  context.textBaseline = "middle";
  context.textAlign = "right";
  names.forEach((name, i) => {
    const y = i * LINE - top;
    if (y < -LINE || y > height - AXIS) return;
    context.fillStyle = soft;
    context.fillText(shorten(context, name, TITLES - 10), TITLES - 7, y + LINE / 2);
    context.fillStyle = line;
    context.fillRect(TITLES, y + LINE - 1, width - TITLES, 1);
  });
  for (const [name, a] of lanes()) {
    const y = row.get(name) * LINE - top;
    if (y < -LINE || y > height - AXIS) continue;
    const moved = a.started_s + a.transfer_s, ready = moved + a.wait_s;
    const parts = [[a.started_s, moved, colours.move], [moved, ready, colours.wait],
      [ready, a.ended_s, a.done ? colours.run : colours.bad]];
    for (const [from, to, fill] of parts) {
      if (to <= from || to < now - seconds) continue;
      context.fillStyle = fill;
      // What has not ended is pale: whether it runs or waits for data is known when it ends.
      context.globalAlpha = a.underWay ? 0.4 : 1;
      context.fillRect(x(from), y + 3, Math.max(1, x(to) - x(from) - 0.5), LINE - 6);
    }
  }
  context.globalAlpha = 1;
  context.clearRect(0, height - AXIS, width, AXIS);
  context.fillStyle = soft;
  context.fillText("now", width, height - AXIS / 2);
  context.textAlign = "left";
  context.fillText(`−${seconds} s`, TITLES, height - AXIS / 2);
  box.setAttribute("aria-label", summary());
}

function summary() {
  const recent = attempts.filter((a) => a.ended_s > now - seconds);
  const sum = (of) => recent.reduce((total, a) => total + of(a), 0);
  return `Task stream: in the last ${seconds} s ${recent.length} attempts ended, after ${duration(sum((a) => a.transfer_s))} of ` +
    `transfer and ${duration(sum((a) => a.wait_s))} of waiting for data`;
}

export function begin() {
  const box = $("stream");
  box.addEventListener("scroll", draw);
  box.addEventListener("mousemove", (event) => {
    const bounds = $("stream-canvas").getBoundingClientRect();
    const at = now - seconds + ((event.clientX - bounds.left - TITLES) / (bounds.width - TITLES)) * seconds;
    const names = workers.flatMap((w) => Array.from({ length: w.slots }, (_, i) => `${w.name} ${i + 1}`));
    const name = names[Math.floor((event.clientY - bounds.top + box.scrollTop) / LINE)];
    const found = lanes().find(([lane, a]) => lane === name && a.started_s <= at && at <= a.ended_s);
    if (!found) return;
    const [, a] = found;
    const staged = a.staged ? `, ${a.staged} inputs staged ahead` : "";
    const what = `task ${a.task} ${a.type} ${a.entity ?? ""} at ${a.worker}, ${clock(a.started_s)}: `;
    if (a.underWay) { $("stream-at").textContent = `${what}under way for ${duration(a.ended_s - a.started_s)}`; return; }
    $("stream-at").textContent = `${what}transfer ${duration(a.transfer_s)}, wait ${duration(a.wait_s)}, run ` +
      `${duration(a.ended_s - a.started_s - a.transfer_s - a.wait_s)}${staged}${a.done ? "" : ", failed"}`;
  });
}
