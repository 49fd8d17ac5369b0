// Form and YAML side by side; the server reads both, so that there is one idea of what is right.
import { $, $$, api, attempt, make } from "./core.js";

const yaml = $("#yaml");
let recipe = {};
let waiting = 0;
let going = null;
const ZONES = Intl.supportedValuesOf?.("timeZone") ?? ["UTC", "Europe/Berlin", "America/New_York"];
$("#zones").append(...ZONES.map((value) => make("option", { value })));

async function check(body, typed) {
  going?.abort();
  going = new AbortController();
  let told;
  try {
    const answer = await fetch("/pipelines/check", { method: "POST", body, signal: going.signal });
    told = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") return;
    told = { problem: "The server does not answer; try again." };
  }
  if (told.recipe) {
    recipe = told.recipe;
    if (typed === "form") yaml.value = told.yaml;
    else fill();
  }
  $("#problem").hidden = !told.problem;
  $("#problem").textContent = told.problem ?? told.detail ?? "";
  $("#fine").hidden = Boolean(told.problem);
  const save = $("#save");
  if (save) save.disabled = Boolean(told.problem);
  if (told.problem) return;
  const shown = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short", timeZone: told.timezone });
  $("#next").replaceChildren(...(told.next.length
    ? told.next.map((moment) => make("li", { textContent: `${shown.format(new Date(moment))}, ${told.timezone}` }))
    : [make("li", { textContent: "none: it runs by hand, or when its dataset changes" })]));
  $("#warnings").replaceChildren(...told.warnings.map((text) => make("p", { className: "notice wait", textContent: text })));
}

const later = (work) => { clearTimeout(waiting); waiting = setTimeout(work, 250); };

function fill() {
  const put = (id, value) => { if (document.activeElement !== $(id)) $(id).value = value ?? ""; };
  put("#p-name", recipe.name);
  put("#p-dataset", recipe.source?.dataset);
  put("#p-model", typeof recipe.model === "string" ? recipe.model : "");
  const plan = recipe.plan ?? {};
  const kind = ["fill", "add", "balance"].find((name) => plan[name] != null) ?? "balance";
  put("#p-plan", kind);
  if (typeof plan[kind] === "number") put("#p-count", plan[kind]);
  const [first] = Array.isArray(recipe.deliver) ? recipe.deliver : [];
  if (first) put("#p-format", first.format);
  $("#p-merge").checked = Boolean(first?.merge);
  const schedule = recipe.schedule;
  put("#p-when", !schedule ? "hand" : schedule.on_dataset ? "on_dataset" : schedule.every != null ? "every" : "cron");
  if (schedule?.cron) put("#p-cron", schedule.cron);
  if (schedule?.timezone) put("#p-zone", schedule.timezone);
  if (schedule?.every != null) put("#p-every", schedule.every);
  put("#p-overlap", recipe.on_overlap ?? "skip");
  show();
}

function show() {
  $("#p-count-field").hidden = $("#p-plan").value === "balance";
  $$("[data-when]").forEach((part) => { part.hidden = part.dataset.when !== $("#p-when").value; });
}

function read() {
  const next = structuredClone(recipe);
  next.name = $("#p-name").value;
  next.source = { ...next.source, dataset: $("#p-dataset").value };
  if ($("#p-model").value || typeof next.model === "string") next.model = $("#p-model").value;
  const kept = Object.fromEntries(Object.entries(next.plan ?? {}).filter(([name]) => name.startsWith("max_")));
  const kind = $("#p-plan").value;
  next.plan = { [kind]: kind === "balance" ? true : Number($("#p-count").value), ...kept };
  const [first, ...rest] = Array.isArray(next.deliver) ? next.deliver : [];
  next.deliver = [{ ...first, format: $("#p-format").value, merge: $("#p-merge").checked }, ...rest];
  const around = Object.fromEntries(Object.entries(next.schedule ?? {})
    .filter(([name]) => ["start", "end", "jitter"].includes(name)));
  const when = $("#p-when").value;
  if (when === "hand") delete next.schedule;
  else if (when === "cron") next.schedule = { cron: $("#p-cron").value, timezone: $("#p-zone").value, ...around };
  else if (when === "every") next.schedule = { every: $("#p-every").value, ...around };
  else next.schedule = { on_dataset: true };
  if ($("#p-overlap").value !== "skip" || next.on_overlap) next.on_overlap = $("#p-overlap").value;
  return next;
}

yaml.addEventListener("input", () => later(() => check(yaml.value, "yaml")));
for (const field of $$("section[aria-labelledby=form] input, section[aria-labelledby=form] select")) {
  field.addEventListener("input", () => { show(); later(() => check(JSON.stringify(read()), "form")); });
}
$("#editor").addEventListener("submit", async (event) => {
  event.preventDefault();
  await check(yaml.value, "yaml");
  if ($("#save")?.disabled) return;
  const made = await attempt($("#save"), () => api("/v1/pipelines", { method: "POST", body: recipe }));
  if (made) location.assign(`/pipelines/${made.name}`);
});
check(yaml.value, "yaml");
