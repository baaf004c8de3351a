// What all parts of the page share: the data, elements, figures, and which trial is looked at or compared.

const data = JSON.parse(document.getElementById("data").textContent);
const trials = new Map(data.trials.map((trial) => [trial.number, trial]));
const byId = (id) => document.getElementById(id);

const PICK_COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"]; // Okabe and Ito's, for thin lines
const state = { focused: null, picked: [], visible: new Set(trials.keys()) };

/** Return an element with attributes (functions become listeners) and children. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return an element of a drawing. */
function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return a value as the command line prints it: a number with four significant digits. */
function figure(value) {
  if (typeof value !== "number" || value === 0) return String(value ?? "");
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value < 0 ? "-inf" : "inf";
  const exponent = Number(value.toExponential(3).split("e")[1]);
  if (exponent >= -4 && exponent < 4) return String(Number(value.toPrecision(4)));
  const [digits, power] = value.toExponential(3).split("e");
  return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}

const percent = (share) => `${Math.round(100 * share)}%`;

/** Return seconds as `1:05`, or `2:01:05`. */
function clock(seconds) {
  const whole = Math.round(seconds);
  const pad = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

/** Return a number that may have been written as text, because JSON has no infinities. */
const number = (value) => ({ inf: Infinity, "-inf": -Infinity, nan: NaN })[value] ?? value;

/** Return the color of a trial that is compared; null for others. */
function pickColor(trial) {
  const place = state.picked.indexOf(trial);
  return place < 0 ? null : PICK_COLORS[place];
}

function focusTrial(trial) {
  if (state.focused === trial || !trials.has(trial)) return;
  state.focused = trial;
  document.dispatchEvent(new Event("focustrial"));
  mark();
}

function pickTrial(trial) {
  if (!trials.has(trial)) return;
  if (state.picked.includes(trial)) state.picked = state.picked.filter((other) => other !== trial);
  else state.picked = [...state.picked, trial].slice(-PICK_COLORS.length);
  document.dispatchEvent(new Event("picktrial"));
  mark();
}

/** Mark everything that belongs to the trial in focus, to compared ones, and to those that the filters leave out. */
function mark() {
  for (const part of document.querySelectorAll("[data-trial]")) {
    const trial = Number(part.dataset.trial);
    const color = pickColor(trial);
    part.classList.toggle("focused", trial === state.focused);
    part.classList.toggle("picked", color !== null);
    part.classList.toggle("out", trials.has(trial) && !state.visible.has(trial));
    part.style.setProperty("--pick", color ?? "");
    if (part.hasAttribute("aria-pressed")) part.setAttribute("aria-pressed", String(color !== null));
  }
}

/** Return a function from coordinates to pixels. */
function scale([low, high], [first, last]) {
  return (value) => first + ((value - low) / (high - low || 1)) * (last - first);
}

/** Return round values between two limits. */
function roundValues([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const values = [];
  for (let index = first; index * step <= high + 1e-9 * step; index += 1) values.push(Number((index * step).toPrecision(10)));
  return values;
}

/** Return ticks of an axis as [coordinate, label], without those that are nearer than `gap` to the one before. */
function ticksOf(axis, toPixels, gap) {
  const count = Math.max(2, Math.floor(Math.abs(toPixels(axis.limits[1]) - toPixels(axis.limits[0])) / (1.6 * gap)));
  const all = axis.ticks.length ? [...axis.ticks].sort((a, b) => a[0] - b[0]) : roundValues(axis.limits, count).map((value) => [value, figure(value)]);
  const kept = [];
  for (const tick of all.reverse()) { // from the top, where nines tell most
    const near = kept.length && Math.abs(toPixels(kept.at(-1)[0]) - toPixels(tick[0])) < gap;
    if (!near) kept.push(tick);
  }
  return kept;
}

/** Return the lines of a name that is broken at its underscores. */
function broken(name, most = 14) {
  const lines = [""];
  for (const part of name.split(/(?<=_)/)) {
    if (lines.at(-1) && lines.at(-1).length + part.length > most) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines;
}

/** Return an axis title with an arrow to the better end. */
function titled(axis) {
  if (!axis.better) return axis.name;
  return axis.better > 0 ? `${axis.name}   better →` : `${axis.name}   ← better`;
}

/** Return an empty plot with axes: its drawing, a layer for marks, and functions to pixels. */
function plot(width, height, across, up, margin = { top: 12, right: 12, bottom: 44, left: 56 }) {
  const x = scale(across.limits, [margin.left, width - margin.right]);
  const y = scale(up.limits, [height - margin.bottom, margin.top]);
  const clip = `clip-${(plot.count = (plot.count ?? 0) + 1)}`;
  const inside = { x: margin.left, y: margin.top, width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const marks = shape("g", { "clip-path": `url(#${clip})` });
  const axes = shape("g", { class: "axes", "aria-hidden": true },
    ticksOf(across, x, 40).map(([place, label]) => [
      shape("line", { x1: x(place), x2: x(place), y1: margin.top, y2: height - margin.bottom }),
      shape("text", { x: x(place), y: height - margin.bottom + 16, "text-anchor": "middle" }, label),
    ]),
    ticksOf(up, y, 18).map(([place, label]) => [
      shape("line", { x1: margin.left, x2: width - margin.right, y1: y(place), y2: y(place) }),
      shape("text", { x: margin.left - 7, y: y(place) + 4, "text-anchor": "end" }, label),
    ]),
    shape("text", { class: "title", x: (margin.left + width - margin.right) / 2, y: height - 8, "text-anchor": "middle" }, titled(across)),
    shape("text", { class: "title", transform: `translate(13 ${(margin.top + height - margin.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, titled(up)));
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}` },
    shape("clipPath", { id: clip }, shape("rect", { ...inside, x: inside.x - 8, y: inside.y - 8, width: inside.width + 16, height: inside.height + 16 })),
    axes, marks);
  return { svg, marks, x, y, inside };
}

/** Return a path through points of pixels; as steps, each holds its height until the next. */
function path(points, steps = false) {
  return points.map(([x, y], index) => (index === 0 ? `M${x.toFixed(1)} ${y.toFixed(1)}` : steps ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `L${x.toFixed(1)} ${y.toFixed(1)}`)).join("");
}

/** Return the line of a trial, with a wider one to point at. */
function trialLine(trial, outline, color) {
  return shape("g", { class: "line", "data-trial": trial, style: `--color: ${color}` },
    shape("path", { class: "hit", d: outline }), shape("path", { class: "ink", d: outline }),
    shape("title", {}, `trial ${trial}`));
}

/** Draw a chart into an element, now and whenever the element gets another width. */
function chart(host, draw) {
  let drawn = 0;
  const redraw = () => {
    const width = Math.floor(host.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    host.replaceChildren(draw(width));
    mark();
  };
  new ResizeObserver(redraw).observe(host);
  redraw();
}
