// Trials in figures: the card of the one in focus, the ones that are compared, and the table with its filters.

const roleOf = (trial) => (trial.rank === null ? trial.group ?? trial.state : trial.roles.length ? `front, ${trial.roles.join(", ")}` : "front");
const verdict = (forgotten) => (forgotten === null || forgotten === undefined ? "" : forgotten ? "yes" : "no");

function auditText(audit) {
  if (!audit) return "";
  const [value, low, high] = [audit.value, audit.low, audit.high].map((each) => each.toFixed(2));
  return `${audit.is_excess ? "excess" : "rate"} ${value} (${low} to ${high}), ${audit.level}${audit.broken ? ", broken" : ""}`;
}

/** Return the sample grid of a trial, or why there is none. */
function samplesOf(trial) {
  if (trial.grid) return element("img", { src: trial.grid, alt: `Samples of trial ${trial.number}` });
  return element("p", { class: "missing" }, trial.last ? "Its sample grid is missing in the storage, is broken, or does not fit into this page." : "It has not been evaluated.");
}

/** Return a table of names and values. */
function pairs(rows, columns = []) {
  const head = columns.length ? [element("thead", {}, element("tr", {}, element("td", {}), columns.map((name) => element("th", { scope: "col" }, name))))] : [];
  return element("table", { class: "pairs" }, head, element("tbody", {}, rows.map(([name, ...values]) =>
    element("tr", {}, element("th", { scope: "row" }, name), values.map((value) => element("td", {}, value))))));
}

function figuresOf(trial) {
  if (!trial.last) return null;
  const names = [...data.watched, ...Object.keys(trial.final?.metrics ?? trial.last.metrics).filter((name) => !data.watched.includes(name))];
  const reports = trial.final ? [trial.final, trial.last] : [trial.last];
  const rows = names.map((name) => [name, ...reports.map((report) => figure(report.metrics[name]))]);
  const [first, rest] = [rows.slice(0, data.watched.length), rows.slice(data.watched.length)];
  const columns = trial.final ? ["final", `step ${trial.last.step}`] : [`step ${trial.last.step}`];
  return [pairs(first, columns),
    rest.length ? element("details", {}, element("summary", {}, "All metrics"), pairs(rest, columns)) : null,
    element("p", { class: "muted" }, `On ${trial.final ? `${trial.final.samples}; in the search on ${trial.last.samples}` : trial.last.samples}.`)];
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page in a frame may not have the clipboard
    const field = element("textarea", {}, text);
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/** Return how to export a trial. */
function exporting(trial) {
  if (!trial.command) return element("p", { class: "muted" }, trial.last ? "Not on the front, so its generator is not kept." : null);
  const button = element("button", { type: "button", "aria-label": "Copy the command", click: () => copy(trial.command, button) }, "Copy");
  return element("div", { class: "command" }, element("code", {}, trial.command), button);
}

function compareButton(trial) {
  const isPicked = state.picked.includes(trial.number);
  return element("button", { type: "button", class: "pick", "aria-pressed": String(isPicked), click: () => pickTrial(trial.number) }, isPicked ? "Remove" : "Compare");
}

function badges(trial) {
  const texts = [roleOf(trial)];
  if (trial.forgotten !== null && trial.forgotten !== undefined) texts.push(trial.forgotten ? "counts as forgotten" : "does not count as forgotten");
  if (trial.last && !trial.feasible) texts.push("violates a constraint");
  return element("p", { class: "badges" }, [...new Set(texts)].map((text) => element("span", {}, text)));
}

function drawCard() {
  const trial = trials.get(state.focused);
  if (!trial) {
    byId("card").replaceChildren(element("p", { class: "muted" }, "No trial has begun yet."));
    return;
  }
  const details = [
    ["score", figure(trial.score)],
    ["on front within errors", trial.probability === null || trial.probability === undefined ? "" : percent(trial.probability)],
    ["as good as", trial.as_good_as?.join(", ")],
    ["audit", auditText(trial.audit)],
    ["slot time", clock(trial.seconds)],
    ["reason", trial.reason],
  ].filter(([, value]) => value);
  byId("card").replaceChildren(...[
    element("div", { class: "head" }, element("h3", {}, `Trial ${trial.number}`), compareButton(trial)),
    badges(trial), samplesOf(trial), figuresOf(trial), pairs(details),
    element("h4", {}, "Searched parameters"), pairs(data.searched.map((name) => [name, trial.searched[name] ?? "-"])),
    exporting(trial),
  ].flat().filter(Boolean));
}

function drawCompared() {
  const shown = state.picked.map((number) => trials.get(number));
  byId("compare").hidden = !shown.length;
  const values = (metrics) => pairs(data.watched.map((name) => [name, figure(metrics?.[name])]));
  const start = element("figure", {}, element("figcaption", {}, element("h3", {}, "Start")),
    data.start ? element("img", { src: data.start, alt: "Samples of the start" }) : element("p", { class: "missing" }, "The storage has no samples of the start."));
  byId("compared").replaceChildren(start, ...shown.map((trial) =>
    element("figure", { "data-trial": trial.number },
      element("figcaption", {}, element("h3", {}, `Trial ${trial.number}`), compareButton(trial)),
      samplesOf(trial), trial.last ? values(trial.figures) : null, exporting(trial))));
}

const columns = [
  { name: "trial", value: (trial) => trial.number },
  { name: "front", value: (trial) => trial.rank, text: (trial) => (trial.rank === null ? "" : trial.roles.join(", ") || "yes"), words: true },
  ...(data.selection ? [{ name: "forgotten", value: (trial) => verdict(trial.forgotten), words: true }] : []),
  { name: "state", value: (trial) => trial.state, words: true },
  { name: "step", value: (trial) => trial.last?.step },
  ...data.watched.map((name) => ({ name, value: (trial) => number(trial.figures?.[name]), better: better(name) })),
  { name: "score", value: (trial) => number(trial.score) },
  ...(data.has_errors ? [{ name: "on front", value: (trial) => trial.probability, text: (trial) => (trial.probability === null || trial.probability === undefined ? "" : percent(trial.probability)) }] : []),
  ...data.searched.map((name) => ({ name, value: (trial) => numeric(trial.searched[name]), text: (trial) => trial.searched[name] ?? "-" })),
  ...(data.trials.some(({ audit }) => audit) ? [{ name: "audit", value: (trial) => trial.audit?.value, text: (trial) => auditText(trial.audit), words: true }] : []),
];
const sorting = { name: "front", descending: false };

function better(name) {
  return data.objectives.find(({ metric }) => metric === name)?.goal === "maximize" ? 1 : -1;
}

function numeric(text) {
  return text === undefined || text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

/** Return the order of two values: missing ones last in both directions. */
function order(one, other) {
  const isMissing = (value) => value === undefined || value === null || value === "" || Number.isNaN(value);
  if (isMissing(one) || isMissing(other)) return isMissing(one) - isMissing(other);
  const sign = sorting.descending ? -1 : 1;
  if (typeof one === "number" && typeof other === "number") return sign * (one - other || 0);
  return sign * String(one).localeCompare(String(other));
}

function sortBy(column) {
  if (sorting.name === column.name) sorting.descending = !sorting.descending;
  else Object.assign(sorting, { name: column.name, descending: column.better > 0 });
  drawTable();
}

function drawTable() {
  const column = columns.find(({ name }) => name === sorting.name);
  const rows = [...trials.values()].filter(({ number }) => state.visible.has(number));
  rows.sort((one, other) => order(column.value(one), column.value(other)) || (number(one.score) ?? Infinity) - (number(other.score) ?? Infinity) || one.number - other.number);
  const head = columns.map((each) => {
    const direction = each.name === sorting.name ? (sorting.descending ? "descending" : "ascending") : null;
    return element("th", { scope: "col", class: each.words ? "words" : null, "aria-sort": direction },
      element("button", { type: "button", "data-sort": each.name, click: () => sortBy(each) }, broken(each.name, 13).flatMap((line, index) => (index ? [element("wbr"), line] : [line]))));
  });
  byId("table").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "compare"), head)),
    element("tbody", {}, rows.map(row)));
  byId("table-note").textContent = `${rows.length} of ${trials.size} trials. ${noteOnFigures()}`;
  mark();
}

function row(trial) {
  const box = element("input", { type: "checkbox", "aria-label": `Compare trial ${trial.number}`, click: (event) => { event.stopPropagation(); pickTrial(trial.number); } });
  box.checked = state.picked.includes(trial.number);
  const cells = columns.map((each) => element("td", { class: each.words ? "words" : null }, each.text ? each.text(trial) : figure(each.value(trial))));
  return element("tr", { "data-trial": trial.number, class: trial.rank === null ? null : "member" }, element("td", {}, box), cells);
}

function noteOnFigures() {
  return data.judged ? "Figures of trials that the final evaluation judged are the final ones; others are the last of the search." : "Figures are the last of the search.";
}

const filters = { front: false, forgotten: false, text: "" };

/** Return a test of a word such as `fd_classifier<0.5` or `state=complete`. */
function test(word) {
  const found = word.match(/^(.+?)(<=|>=|<|>|=)(.+)$/);
  const column = found && columns.find(({ name }) => name === found[1]);
  if (!column) throw new Error(found ? `no column ${found[1]}` : `${word}: write a column, <, >, or =, and a value`);
  const [sign, wanted] = [found[2], found[3]];
  if (sign === "=") return (trial) => [String(column.value(trial) ?? ""), column.text?.(trial) ?? figure(column.value(trial))].includes(wanted);
  if (Number.isNaN(Number(wanted))) throw new Error(`${wanted} is no number`);
  const holds = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b }[sign];
  return (trial) => typeof column.value(trial) === "number" && holds(column.value(trial), Number(wanted));
}

function applyFilters() {
  const field = byId("filter-text");
  let tests;
  try {
    tests = filters.text.split(/[\s,]+/).filter(Boolean).map(test);
    byId("filter-error").textContent = "";
    field.setAttribute("aria-invalid", "false");
  } catch (error) {
    byId("filter-error").textContent = error.message;
    field.setAttribute("aria-invalid", "true");
    return;
  }
  if (filters.front) tests.push((trial) => trial.rank !== null);
  if (filters.forgotten) tests.push((trial) => trial.forgotten === true);
  state.visible = new Set([...trials.values()].filter((trial) => tests.every((passes) => passes(trial))).map(({ number }) => number));
  drawTable();
}

function drawFilters() {
  const toggle = (name, label) => element("label", {}, element("input", { type: "checkbox", id: `filter-${name}`, change: (event) => { filters[name] = event.target.checked; applyFilters(); } }), label);
  byId("filters").append(
    toggle("front", "on the front"), ...(data.selection ? [toggle("forgotten", "count as forgotten")] : []),
    element("label", { class: "grow" }, "filter ", element("input", { type: "text", id: "filter-text", spellcheck: "false", placeholder: `${data.watched[0]}<1 state=complete`, "aria-describedby": "filter-error", input: (event) => { filters.text = event.target.value; applyFilters(); } })),
    element("output", { id: "filter-error" }));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}
