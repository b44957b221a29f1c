// Cards, workers, queue and diary: what fits in words and bars.

import { $, bytes, clock, duration, el, share } from "./util.js";

const recent = [];
const RECENT = 500;

const number = (id, value, small) => $(id).replaceChildren(`${value} `, el("small", { textContent: small }));

export function cards(moment) {
  const { savings: s, health } = moment;
  const interval = s.interval_s;
  const known = s.per_demand_s != null;
  number("saved", duration(s.hidden_s), "of data wait, by the ledger");
  $("saved-by").textContent = known
    ? `control group: ${s.verdict}`
    : interval ? `not yet known; 95 %: ${duration(interval[0])} to ${duration(interval[1])} a demand` : "not yet known: too few controls";

  recent.push(...moment.played);
  recent.splice(0, Math.max(0, recent.length - RECENT));
  const waits = recent.map((a) => a.transfer_s + a.wait_s).sort((a, b) => a - b);
  if (waits.length) {
    number("wait", duration(waits.reduce((a, b) => a + b) / waits.length), "mean");
    $("wait-by").textContent = `p99 ${duration(waits[Math.floor(0.99 * (waits.length - 1))])}, last ${waits.length} attempts`;
  }
  const settled = s.useful + s.late + s.wasted;
  if (settled) {
    number("staged", `${s.useful}`, `of ${settled} staged objects`);
    const wasted = s.staged_bytes ? `${bytes(s.wasted_bytes)} of ${bytes(s.staged_bytes)} wasted` : "";
    $("staged-by").textContent = `late ${s.late} · unused ${s.wasted} · ${wasted}`;
  }
  const { queued = 0, delayed = 0, blocked = 0, running = 0 } = health.tasks;
  number("waiting", queued + delayed + blocked, "tasks");
  $("waiting-by").textContent = `${queued} ready · ${delayed} delayed · ${blocked} blocked · ${running} running`;

  pill("staging", `staging ${s.staging}`, s.staging === "on" ? "on" : "");
  pill("status", health.damage.length ? health.damage[0] : health.status, health.damage.length ? "bad" : "");
  const cost = moment.sampler[0] > moment.sampler[1] ? ` · sampling slowed: ${share(moment.sampler[0])} of a core` : "";
  $("up").textContent = `up ${duration(health.up_s)}${cost}`;
}

function pill(id, text, kind) {
  $(id).textContent = text;
  $(id).className = `pill ${kind}`;
}

function bar(parts, label) {
  const box = el("div", { className: "bar" });
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", label);
  for (const [width, fill] of parts) {
    box.append(Object.assign(el("i"), { style: `width:${(100 * Math.min(1, width)).toFixed(1)}%;background:var(--${fill})` }));
  }
  return box;
}

const WORKERS = 60;

export function workers(moment) {
  const wanted = $("filter").value.trim().toLowerCase();
  const caches = new Map(moment.caches.map((c) => [c.name, c]));
  const matching = moment.workers.filter((w) => w.name.toLowerCase().includes(wanted));
  const cards = matching.slice(0, WORKERS).map((w) => worker(w, caches.get(w.cache)));
  if (matching.length > WORKERS) {
    cards.push(el("p", { className: "soft", textContent: `${matching.length - WORKERS} more: filter by name` }));
  }
  if (!matching.length) cards.push(el("p", { className: "soft", textContent: "no worker has that name" }));
  $("workers").replaceChildren(...cards);
}

function worker(w, cache) {
  const card = el("article", { className: "worker" });
  card.append(el("header", {}, el("b", { textContent: w.name }),
    el("span", { className: "soft", textContent: `${w.running.length} of ${w.slots} slots${w.outside ? ", outside" : ""}` })));
  if (w.running.length) {
    const names = w.running.slice(0, 4).map((t) => `${t.type} ${t.entity ?? t.id}`).join(", ");
    card.append(el("div", { className: "runs soft", textContent: names }));
  }
  if (cache) {
    const used = cache.used_bytes / cache.capacity_bytes, pinned = cache.pinned_bytes / cache.capacity_bytes;
    card.append(bar([[used - pinned, "h3"], [pinned, "h7"]],
      `cache ${cache.name}: ${bytes(cache.used_bytes)} of ${bytes(cache.capacity_bytes)}, ${bytes(cache.pinned_bytes)} in use`));
  }
  const next = el("div", { className: "next" });
  for (const t of w.next) {
    next.append(el("span", { textContent: t.type, title: t.type }), bar([[t.p, "run"]], `${t.type} with p ${share(t.p)}`),
      el("span", { textContent: share(t.p) }));
  }
  card.append(next);
  if (w.best_at) {
    card.append(el("div", { className: "soft runs", textContent: `best at ${w.best_at.type}, ${w.best_at.speed.toFixed(1)}×` }));
  }
  return card;
}

export function queue(moment) {
  const most = Math.max(1, ...moment.queue.map((q) => q.count));
  const lines = moment.queue.flatMap((q) => [
    el("span", { textContent: q.type, title: q.type }),
    bar([[q.count / most, "h5"]], `${q.count} tasks`),
    el("span", { textContent: q.count }),
    el("span", { className: "why soft", textContent: `waiting for: ${q.waiting_for}` }),
  ]);
  const t = moment.transfers;
  const moving = el("span", { className: "why soft", textContent:
    `transfers: ${t.demand} demanded, ${t.staging} staging, ${t.waiting} waiting` });
  if (!lines.length) lines.push(el("span", { className: "why soft", textContent: "nothing is ready and waiting" }));
  $("queue").replaceChildren(...lines, moving);
}

const DIARY = 200;

/** The newest decision comes first. */
export function entry(event) {
  const time = clock(event.at_s, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const box = $("diary"), line = `${time}  ${event.decided.padEnd(10)} ${event.text}\n`;
  box.prepend(line);
  while (box.childNodes.length > DIARY) box.lastChild.remove();
}
