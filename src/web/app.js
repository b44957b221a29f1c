// The dashboard: server-sent events say that something happened, one request a second at most asks what it is now.

import { $, ask, clock } from "./util.js";
import * as heatmap from "./heatmap.js";
import * as stream from "./stream.js";
import * as charts from "./charts.js";
import * as panels from "./panels.js";

/** Pauses in ms: after an event, without one, between two heatmaps, between two charts. */
const AFTER_EVENT = 1000, IDLE = 10_000, HEAT = 5000, CHART = 60_000;
const state = { since: 0, last: null, due: 0, asked: 0, heat: 0, chart: 0, busy: false };

async function refresh() {
  if (state.busy) return;
  state.busy = true;
  const started = Date.now();
  try {
    const all = [ask(`/v1/now?since=${state.since}`).then(show)];
    if (started - state.heat > HEAT) { state.heat = started; all.push(heatmap.refresh()); }
    if (started - state.chart > CHART) { state.chart = started; all.push(charts.saving()); }
    await Promise.all(all);
  } catch (error) {
    $("live").textContent = `not reached: ${error.message}`;
  }
  state.asked = Date.now();
  state.due = state.asked + IDLE;
  state.busy = false;
}

function show(moment) {
  state.since = moment.next;
  state.last = moment;
  panels.cards(moment);
  panels.workers(moment);
  panels.queue(moment);
  stream.take(moment);
  charts.calibration(moment.calibration);
  $("live").textContent = `live · ${clock(moment.at_s, { hour: "2-digit", minute: "2-digit", second: "2-digit" })}`;
}

/** Decisions as they are made. The browser reconnects by itself and goes on behind the last one it saw. */
function follow() {
  const events = new EventSource("/v1/events?follow=1");
  const kinds = ["accepted", "placed", "ended", "staged", "called_off", "evicted", "governed"];
  const heard = (message) => {
    panels.entry(JSON.parse(message.data));
    state.due = Math.min(state.due, state.asked + AFTER_EVENT);
  };
  for (const kind of kinds) events.addEventListener(kind, heard);
  events.onerror = () => { $("live").textContent = "the daemon does not answer; trying again"; };
}

function tick() {
  // A page that nobody sees asks for nothing.
  if (!document.hidden && Date.now() >= state.due) refresh();
}

heatmap.begin();
stream.begin();
refresh();
follow();
setInterval(tick, 250);
$("filter").oninput = () => state.last && panels.workers(state.last);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT)$/.test(event.target.tagName)) {
    event.preventDefault();
    $("filter").focus();
  }
});
const redraw = () => { heatmap.draw(); stream.draw(); };
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
