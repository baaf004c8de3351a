// Charts of all trials: parameters, importance, learning curves, cost, and audits.

const colorOf = (trial) => groupOf.get(trial)?.color ?? "var(--muted)";

/** Return trials from the least to the most important, so that the front is drawn last. */
const backToFront = (numbers) => [...numbers].sort((one, other) => (groupOf.get(one)?.layer ?? 0) - (groupOf.get(other)?.layer ?? 0));

/** Return the parallel coordinates of the searched parameters and the objectives. */
function parallel(width) {
  const places = new Map(data.groups.flatMap((group) => group.marks.map((each) => [each.trial, each.place])));
  const offset = data.axes.length - data.objectives.length; // a single objective has the trials' numbers beside it
  const axes = [
    ...data.parameters.map((axis) => ({ ...axis, at: (trial) => axis.places[trial] })),
    ...data.axes.slice(offset).map((axis, index) => ({ ...axis, objective: true, at: (trial) => places.get(trial)?.[index + offset] })),
  ];
  const [height, top, bottom, side] = [310, 46, 296, 64];
  const x = scale([0, axes.length - 1], [side, width - side]);
  const ups = axes.map(({ limits, better }) => scale(limits, better < 0 ? [top, bottom] : [bottom, top]));
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Parallel coordinates of parameters and objectives" });
  for (const trial of backToFront(trials.keys())) {
    const points = axes.map((axis, index) => [axis.at(trial), index]).filter(([place]) => Number.isFinite(place))
      .map(([place, index]) => [x(index), Math.max(top - 6, Math.min(bottom + 6, ups[index](place)))]);
    if (groupOf.has(trial) && points.length) svg.append(trialLine(trial, path(points), colorOf(trial)));
  }
  axes.forEach((axis, index) => {
    const ticks = ticksOf(axis, ups[index], 22);
    svg.append(shape("g", { class: `upright${axis.objective ? " objective" : ""}`, "aria-hidden": true },
      shape("line", { x1: x(index), x2: x(index), y1: top, y2: bottom }),
      ticks.map(([place, label]) => shape("text", { x: x(index) + 5, y: ups[index](place) + (ups[index](place) > bottom - 8 ? -2 : ups[index](place) < top + 8 ? 10 : 4) }, label)),
      broken(axis.name, 15).map((line, row, lines) => shape("text", { class: "title", x: x(index), y: top - 12 - 13 * (lines.length - 1 - row), "text-anchor": "middle" }, line))));
  });
  return svg;
}

/** Return horizontal bars with a name and a text for each. */
function barList(rows) {
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  return element("table", { class: "bars" }, element("tbody", {}, rows.map((row) =>
    element("tr", { class: row.isPart ? "part" : null }, element("th", { scope: "row" }, row.name), element("td", { class: "bar" }, element("span", { style: `width: ${(100 * row.value) / most}%` })), element("td", { class: "value" }, row.text)))));
}

function drawImportance() {
  byId("importance-note").textContent = sentence(data.importance.basis);
  for (const [metric, shares] of Object.entries(data.importance.shares)) {
    const rows = Object.entries(shares).sort((one, other) => other[1] - one[1]).map(([name, value]) => ({ name, value, text: percent(value) }));
    const content = rows.length ? barList(rows) : element("p", { class: "muted" }, `Needs ${data.importance.fewest} complete trials that differ.`);
    byId("importance").append(element("figure", {}, element("figcaption", {}, metric), content));
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** Return a plot over steps with a line for each trial. */
function learning(width, curves) {
  const lines = Object.entries(curves.lines).map(([trial, points]) => [Number(trial), points]);
  const across = { name: "step", limits: [0, data.steps * 1.03], ticks: [], better: 0 };
  const drawn = plot(width, 260, across, curves.axis);
  for (const trial of backToFront(lines.map(([trial]) => trial))) {
    const points = curves.lines[trial].map(([step, place]) => [drawn.x(step), drawn.y(place)]);
    const line = trialLine(trial, path(points), colorOf(trial));
    line.append(...points.map(([cx, cy]) => shape("circle", { class: "dot", cx, cy, r: 2.5 })));
    drawn.marks.append(line);
  }
  return drawn.svg;
}

function drawCurves() {
  for (const curves of data.curves) {
    if (Object.keys(curves.lines).length) chart(byId("curves").appendChild(element("div")), (width) => learning(width, curves));
  }
  if (!byId("curves").children.length) byId("curves").append(element("p", { class: "muted" }, "No trial has been evaluated yet."));
}

/** Return the hypervolume as steps over slot time, with a mark at each trial that raised it. */
function volume(width) {
  const { points, final } = data.hypervolume;
  const unit = points.at(-1)[0] > 7200 ? { name: "slot time, hours", seconds: 3600 } : { name: "slot time, minutes", seconds: 60 };
  const highest = Math.max(...points.map(([, value]) => value), final ?? 0, 1e-9);
  const drawn = plot(width, 280, { name: unit.name, limits: [0, (1.03 * points.at(-1)[0]) / unit.seconds], ticks: [], better: 0 }, { name: "hypervolume", limits: [0, 1.06 * highest], ticks: [], better: 1 });
  const spots = [[0, 0], ...points].map(([seconds, value]) => [drawn.x(seconds / unit.seconds), drawn.y(value)]);
  drawn.marks.append(shape("path", { class: "border", d: path(spots, true) }));
  points.forEach(([, value, trial], index) => {
    if (value > (points[index - 1]?.[1] ?? 0)) {
      const [cx, cy] = spots[index + 1];
      drawn.marks.append(shape("g", { class: "mark", "data-trial": trial, transform: `translate(${cx} ${cy})` }, shape("circle", { class: "hit", r: 10 }), shape("circle", { class: "halo", r: 9 }), shape("circle", { class: "raised", r: 4 }), shape("title", {}, `trial ${trial}: ${figure(value)}`)));
    }
  });
  if (final !== null) drawn.marks.append(shape("path", { class: "final", transform: `translate(${spots.at(-1)[0]} ${drawn.y(final)})`, d: "M0 -6L6 0L0 6L-6 0Z" }));
  return drawn.svg;
}

function drawCost() {
  const { points, final } = data.hypervolume;
  const text = points.length ? `Of the search’s front as trials ended: ${figure(points.at(-1)[1])}${final === null ? "" : `; ${figure(final)} by the final figures (diamond)`}.` : "No trial has ended yet.";
  byId("hypervolume-note").textContent = text;
  if (points.length) chart(byId("hypervolume"), volume);
  const total = data.seconds.reduce((sum, { seconds }) => sum + seconds, 0);
  byId("seconds-note").textContent = total ? `${clock(total)} of all slots together, without their start.` : "No slot has worked yet.";
  const row = (name, seconds, isPart) => ({ name, value: seconds, text: `${clock(seconds)}  ${percent(seconds / total)}`, isPart });
  const rows = data.seconds.flatMap(({ name, seconds, parts }) => [row(name, seconds, false), ...Object.entries(parts).map(([part, spent]) => row(part, spent, true))]);
  if (total) byId("seconds").append(barList(rows));
}

const DASHES = { "never knew": "6 3", swap: "2 3", start: "8 3 2 3" };

/** Return the rates of an attack over its budget. */
function attack(width, { unit, lines }) {
  const budgets = lines.flatMap(({ points }) => points.map(([budget]) => budget));
  const [least, most] = [Math.min(...budgets), Math.max(...budgets)];
  const single = least === most;
  const across = { name: unit, limits: single ? [most - 1, most + 1] : [least, most], ticks: single ? [[most, String(most)]] : [], better: 0 };
  const drawn = plot(width, 240, across, { name: "share", limits: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1].map((share) => [share, percent(share)]), better: -1 }, { top: 12, right: 66, bottom: 44, left: 56 });
  const labels = [];
  lines.forEach(({ trial, subject, points }, index) => {
    const shift = single ? (index - (lines.length - 1) / 2) * 9 : 0;
    const spots = points.map(([budget, value, low, high]) => [drawn.x(budget) + shift, drawn.y(value), drawn.y(low), drawn.y(high)]);
    const color = trial === null ? "var(--muted)" : colorOf(trial);
    const line = trial === null ? shape("g", { class: "line control", style: `--color: ${color}; --dash: ${DASHES[subject]}` }, shape("path", { class: "ink", d: path(spots) }), shape("title", {}, subject)) : trialLine(trial, path(spots), color);
    line.append(...spots.map(([cx, cy, low, high]) => [shape("path", { class: "bars", d: `M${cx} ${low}V${high}` }), shape("circle", { class: "dot", cx, cy, r: 3 })]).flat());
    drawn.marks.append(line);
    labels.push({ text: trial === null ? subject : `trial ${trial}`, trial, y: spots.at(-1)[1] });
  });
  labels.sort((one, other) => one.y - other.y);
  labels.forEach((label, index) => { label.at = Math.max(label.y, (labels[index - 1]?.at ?? -99) + 12); });
  const excess = Math.max(0, (labels.at(-1)?.at ?? 0) - drawn.inside.y - drawn.inside.height - 4);
  for (let index = labels.length - 1, most = Infinity; index >= 0; index -= 1) {
    labels[index].at = Math.min(labels[index].at, excess ? most : labels[index].at, drawn.inside.y + drawn.inside.height + 4);
    most = labels[index].at - 12;
  }
  drawn.svg.append(...labels.map(({ text, trial, at }) => shape("text", { class: "direct", "data-trial": trial, x: width - 60, y: at + 4 }, text)));
  return drawn.svg;
}

function drawAudits() {
  byId("audits-section").hidden = !data.audits.length;
  for (const each of data.audits) {
    const host = element("div");
    byId("audits").append(element("figure", {}, element("figcaption", {}, each.name), host));
    chart(host, (width) => attack(width, each));
  }
}

function drawCharts() {
  chart(byId("parallel"), parallel);
  drawImportance();
  drawCurves();
  drawCost();
  drawAudits();
}
