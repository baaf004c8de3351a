// The page as a whole: its heading, and what pointer and keyboard do to anything that belongs to a trial.

/** Return the trial that an event's target belongs to; null without one. */
function trialOf(event) {
  const part = event.target.closest?.("[data-trial]");
  return part ? Number(part.dataset.trial) : null;
}

function drawHeading() {
  byId("name").textContent = data.name;
  const bounds = [...data.constraints, data.selection && `counts as forgotten with ${data.selection}`].filter(Boolean);
  const goals = data.objectives.map(({ metric, goal }) => `${goal} ${metric}`).join(", ");
  byId("task").textContent = `${data.task}: ${goals}${bounds.length ? `; ${bounds.join("; ")}` : ""}.`;
  byId("subtitle").textContent = `${data.state}${data.reason ? `, ${data.reason}` : ""}  ·  ${data.subtitle}`;
}

document.addEventListener("focustrial", drawCard);
document.addEventListener("picktrial", () => {
  drawCompared();
  drawCard();
  for (const box of byId("table").querySelectorAll("tbody input")) box.checked = state.picked.includes(trialOf({ target: box }));
});
document.addEventListener("pointerover", (event) => { if (!event.buttons) focusTrial(trialOf(event)); });
document.addEventListener("focusin", (event) => focusTrial(trialOf(event)));
document.addEventListener("click", (event) => {
  const isControl = event.target.closest("button, input, code, #compare");
  if (event.pointerType === "touch") focusTrial(trialOf(event)); // a finger has no way to point without a click
  else if (!isControl) pickTrial(trialOf(event));
});
document.addEventListener("keydown", (event) => {
  const isMark = event.target.matches("svg [data-trial][role=button]");
  if (isMark && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    pickTrial(trialOf(event));
  }
});

drawHeading();
drawFront();
drawFilters();
drawTable();
drawCharts();
drawCompared();
const first = data.trials.find(({ roles }) => roles?.includes("knee")) ?? data.trials.find(({ last }) => last) ?? data.trials[0];
focusTrial(first?.number);
drawCard();
