// Small things that all parts use: elements, numbers as people read them, colours of the page.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; text is always text, never markup. */
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** `.71`, `1.0`: a share or probability. */
export const share = (x) => (x >= 0.995 ? "1.0" : x.toFixed(2).replace(/^0/, ""));

/** `26 ms`, `4.1 s`, `12 min`, `6 d 4 h`. */
export function duration(seconds) {
  const s = Math.abs(seconds), sign = seconds < 0 ? "−" : "";
  if (s < 1) return `${sign}${Math.round(s * 1000)} ms`;
  if (s < 60) return `${sign}${s.toFixed(1)} s`;
  if (s < 3600) return `${sign}${(s / 60).toFixed(s < 600 ? 1 : 0)} min`;
  if (s < 86400) return `${sign}${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${sign}${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i += 1; }
  return `${n >= 10 || i === 0 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

export const clock = (at_s, options = { hour: "2-digit", minute: "2-digit" }) =>
  new Date(at_s * 1000).toLocaleTimeString("en-GB", options);

/** A colour of the page as it is now: light and dark differ. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Asks the daemon. A refusal becomes an error with its sentence. */
export async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.message ?? `the daemon answered with ${answer.status}`);
  }
  return answer.json();
}

/** Fits a canvas to its scrolling box at the screen's own resolution; returns a cleared context in CSS pixels. */
export function fit(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '11px system-ui, "DejaVu Sans", sans-serif';
  return context;
}

/** Text cut to a width, so that a long name does not run into its neighbour. */
export function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text;
  while (cut.length > 1 && context.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}
