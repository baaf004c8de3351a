// The front: a panel for each pair of objectives, and a space of three that can be turned.

const groupOf = new Map(data.groups.flatMap((group) => group.marks.map((each) => [each.trial, group])).reverse());
const inLayers = [...data.groups].sort((one, other) => one.layer - other.layer);
const ringed = (group) => group.label === "knee" || group.label === "best score"; // drawn around a mark of another group

/** Return the mark of a group around the origin. */
function symbol(group, share = 1) {
  const r = (group.size / 2 + 1) * share;
  const open = group.symbol.includes("open");
  const look = open ? { fill: "none", stroke: group.color, "stroke-width": 1.6 } : { fill: group.color, stroke: "var(--paper)", "stroke-width": 1 };
  const kind = group.symbol.split("-")[0];
  if (kind === "x") return shape("path", { d: `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`, ...look });
  if (kind === "square") return shape("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r, ...look });
  if (kind === "diamond") return shape("path", { d: `M0 ${-1.4 * r}L${1.4 * r} 0L0 ${1.4 * r}L${-1.4 * r} 0Z`, ...look });
  return shape("circle", { r, ...look });
}

/** Return what a screen reader says of a mark. */
function spoken(trial) {
  if (trial < 0) return "swap, which forgets nothing";
  const found = trials.get(trial);
  const values = data.objectives.map(({ metric }) => `${metric} ${figure(found.figures[metric])}`);
  return [`trial ${trial}`, found.group, ...found.roles, ...values].join(", ");
}

/** Return a group's mark at a place, with a ring for focus and comparison around it. */
function placed(group, each, x, y, share = 1) {
  if (ringed(group)) return shape("g", { class: "mark ring", transform: `translate(${x} ${y})` }, symbol(group, share));
  const attributes = { class: "mark", transform: `translate(${x} ${y})`, "data-trial": each.trial, role: "button", tabindex: -1, "aria-pressed": each.trial >= 0 ? "false" : null, "aria-label": spoken(each.trial) };
  return shape("g", attributes, shape("circle", { class: "hit", r: 11 }), shape("circle", { class: "halo", r: group.size / 2 + 6 }), symbol(group, share), shape("title", {}, spoken(each.trial)));
}

/** Let arrow keys move between the marks of a drawing, which is one stop of the tab key. */
function walkable(svg) {
  const stops = [...svg.querySelectorAll("[role=button]")];
  stops.sort((one, other) => position(one) - position(other));
  if (stops.length) stops[0].setAttribute("tabindex", 0);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const here = stops.indexOf(document.activeElement);
    if (!step || here < 0) return;
    event.preventDefault();
    const next = stops[(here + step + stops.length) % stops.length];
    stops[here].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

const position = (stop) => Number(stop.getAttribute("transform").match(/[-\d.]+/)[0]);

/** Write numbers beside the marks of the front where there is room. */
function numbers(front, taken, [better, up]) {
  const boxes = taken.map(({ x, y, r }) => [x - r, y - r, x + r, y + r]);
  const overlaps = (a) => boxes.some((b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]);
  return front.map(({ trial, x, y }) => {
    const width = 7 * String(trial).length;
    for (const distance of [11, 18, 26]) {
      for (let turn = 0; turn < 12; turn += 1) {
        const angle = Math.atan2(-up, better) + (turn % 2 ? 1 : -1) * Math.ceil(turn / 2) * (Math.PI / 6);
        const [cx, cy] = [x + Math.cos(angle) * (distance + width / 2), y + Math.sin(angle) * (distance + 4)];
        const box = [cx - width / 2, cy - 5, cx + width / 2, cy + 5];
        if (!overlaps(box)) {
          boxes.push(box);
          return shape("text", { class: "number", x: cx, y: cy + 4, "text-anchor": "middle" }, trial);
        }
      }
    }
    return null;
  });
}

/** Return the panel of two axes. */
function panel(width, height, first, second) {
  const [across, up] = [data.axes[first], data.axes[second]];
  const drawn = plot(width, height, across, up);
  const at = (place) => [drawn.x(place[first]), drawn.y(place[second])];
  if (data.border.length) {
    drawn.marks.append(shape("path", { class: "border", d: path(data.border.map(at), true) }));
  }
  const [front, taken] = [[], []];
  for (const group of inLayers) {
    for (const each of group.marks) {
      const [x, y] = at(each.place);
      if (![x, y].every(Number.isFinite)) continue;
      if (each.reach) drawn.marks.append(bars(drawn, each, first, second));
      drawn.marks.append(placed(group, each, x, y));
      if (!ringed(group)) taken.push({ x, y, r: group.size / 2 + 1 });
      if (group.front) front.push({ trial: each.trial, x, y });
    }
  }
  drawn.marks.append(...numbers(front, taken, [across.better, up.better]).filter(Boolean));
  walkable(drawn.svg);
  drawn.svg.setAttribute("role", "group");
  drawn.svg.setAttribute("aria-label", `${up.name} over ${across.name}`);
  return drawn.svg;
}

/** Return the bars of the stated errors. */
function bars(drawn, each, first, second) {
  const [[left, right], [below, above]] = [each.reach[first], each.reach[second]];
  const [x, y] = [each.place[first], each.place[second]];
  const [cx, cy] = [drawn.x(x), drawn.y(y)];
  return shape("path", { class: "bars", d: `M${drawn.x(x - left)} ${cy}H${drawn.x(x + right)}M${cx} ${drawn.y(y - below)}V${drawn.y(y + above)}` });
}

const view = { turn: 35, tilt: 25 };

/** Return the projection of the first three axes at the present view: to x, y, and depth. */
function projection(width, height) {
  const [turn, tilt] = [(view.turn * Math.PI) / 180, (view.tilt * Math.PI) / 180];
  const size = 0.27 * Math.min(width, 1.15 * height);
  const units = data.axes.slice(0, 3).map((axis) => scale(axis.limits, [-1, 1]));
  return (place) => {
    const [a, b, c] = units.map((unit, index) => Math.max(-1, Math.min(1, unit(place[index]))));
    const [x, depth] = [a * Math.cos(turn) - b * Math.sin(turn), a * Math.sin(turn) + b * Math.cos(turn)];
    return [width / 2 + size * x, 0.47 * height - size * (c * Math.cos(tilt) - depth * Math.sin(tilt)), depth * Math.cos(tilt) + c * Math.sin(tilt)];
  };
}

/** Return the space of the first three axes. */
function space(width, height) {
  const project = projection(width, height);
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", class: "space", "aria-label": "Space of three objectives" });
  const [X, Y, Z] = data.axes.slice(0, 3).map((axis) => axis.limits);
  const edge = (from, to) => shape("path", { class: "edge", d: path([project(from), project(to)]) });
  const corner = (i, j, k) => [X[i], Y[j], Z[k]];
  for (const i of [0, 1]) for (const j of [0, 1]) svg.append(edge(corner(i, j, 0), corner(i, j, 1)), edge(corner(0, i, j), corner(1, i, j)), edge(corner(i, 0, j), corner(i, 1, j)));
  const middle = (limits) => (limits[0] + limits[1]) / 2;
  const nearer = (one, other) => (project(one)[2] > project(other)[2] ? one : other);
  const name = (index, [x, y], anchor, dy) => broken(data.axes[index].name, 18).map((line, row, lines) =>
    shape("text", { class: "title", x, y: y + dy + 13 * row, "text-anchor": anchor }, row === lines.length - 1 ? `${line} ${data.axes[index].better > 0 ? "(high)" : "(low)"}` : line));
  const low = project(nearer([middle(X), Y[0], Z[0]], [middle(X), Y[1], Z[0]]));
  const side = project(nearer([X[0], middle(Y), Z[0]], [X[1], middle(Y), Z[0]]));
  const upright = [corner(0, 0, 0), corner(0, 1, 0), corner(1, 0, 0), corner(1, 1, 0)].reduce((one, other) => (project(one)[0] < project(other)[0] ? one : other));
  const top = project([upright[0], upright[1], Z[1]]);
  svg.append(
    ...name(0, low, low[0] < side[0] ? "end" : "start", 22), ...name(1, side, low[0] < side[0] ? "start" : "end", 22),
    ...name(2, [Math.max(60, top[0]), Math.max(14, top[1] - 24)], "middle", 0));
  const found = inLayers.flatMap((group) => group.marks.map((each) => ({ group, each, spot: project(each.place) }))).filter(({ each }) => each.place.slice(0, 3).every(Number.isFinite));
  found.sort((one, other) => one.spot[2] - other.spot[2]); // the nearest last
  for (const { group, each, spot } of found) {
    if (group.front) svg.append(shape("path", { class: "stem", d: path([spot, project([each.place[0], each.place[1], Z[0]])]) }));
    svg.append(placed(group, each, spot[0], spot[1], 0.85));
  }
  walkable(svg);
  return svg;
}

/** Draw the space with controls to turn it, by pointer and by keyboard. */
function turnable(host, height) {
  const picture = element("div");
  const redraw = () => { picture.replaceChildren(space(picture.clientWidth, height)); mark(); };
  const slider = (name, key, least, most) => element("label", {}, name,
    element("input", { type: "range", min: least, max: most, value: view[key], input: (event) => { view[key] = Number(event.target.value); redraw(); } }));
  const sliders = element("div", { class: "sliders" }, slider("turn ", "turn", -180, 180), slider("tilt ", "tilt", 0, 90));
  host.append(picture, sliders);
  let held = null;
  picture.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, ...view }; });
  window.addEventListener("pointerup", () => { held = null; });
  window.addEventListener("pointermove", (event) => {
    if (!held || Math.abs(event.clientX - held.x) + Math.abs(event.clientY - held.y) < 4) return;
    view.turn = ((held.turn - (event.clientX - held.x) / 2 + 540) % 360) - 180;
    view.tilt = Math.max(0, Math.min(90, held.tilt + (event.clientY - held.y) / 2));
    [...sliders.querySelectorAll("input")].forEach((input, index) => { input.value = index ? view.tilt : view.turn; });
    redraw();
  });
  chart(picture, (width) => space(width, height));
}

function drawLegend() {
  const entries = data.groups.map((group) =>
    element("li", {}, shape("svg", { width: 22, height: 22, viewBox: "-11 -11 22 22", "aria-hidden": true }, symbol(group)),
      `${group.label}${ringed(group) || group.label.startsWith("swap") ? "" : ` (${group.marks.length})`}`));
  byId("legend").replaceChildren(...entries);
}

function drawFront() {
  if (!data.groups.length) {
    byId("panels").append(element("p", {}, "No trial has been evaluated yet."));
    return;
  }
  drawLegend();
  const last = data.axes.length - 1;
  byId("panels").classList.toggle("single", last === 1);
  for (let first = 0; first < last; first += 1) {
    for (let second = first + 1; second <= last; second += 1) {
      const host = byId("panels").appendChild(element("div"));
      chart(host, (width) => panel(width, last === 1 ? Math.min(480, 0.75 * width + 60) : 330, first, second));
    }
  }
  if (last >= 2) turnable(byId("panels").appendChild(element("div")), 306);
}
