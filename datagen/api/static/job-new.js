// The form of a new job: previews that follow every choice, and the plan before anything is made.
import { $, $$, api, attempt, make, number, picture } from "./core.js";

const MOST_PREVIEWED = 64;
const SAMPLERS = {
  recommended: $("#sampler-help")?.textContent,
  neighbour: "Round a real image of the label: good to train with; for the model's owner alone.",
  density: "From a mixture fitted to the label's images: sharper labels.",
  prior: "From the model's own idea of the label: the most variety.",
  interpolate: "Between two real images of the label; for the model's owner alone.",
};
const form = $("#new-job");
if (form) start();

function start() {
  const model = form.dataset.model;
  const rows = $$(".label-row", form);
  const given = new URLSearchParams(location.search);
  const seed = $("#seed");
  // A seed is text from the field to the request: as a number it would be rounded above 2^53.
  const another = () => { seed.value = String(Math.floor(Math.random() * 2 ** 53)); };
  const seeded = () => /^[0-9]+$/.test(seed.value.trim());
  seed.value = given.get("seed") ?? "";
  if (!seed.value) another();
  for (const name of ["sampler", "temperature"]) {
    if (given.get(name)) $(`#${name}`).value = given.get(name);
  }
  const strength = $("#strength");
  if (given.get("strength")) { strength.value = given.get("strength"); strength.dataset.chosen = "yes"; }
  const near = () => {
    $("[data-strength]").hidden = $("#sampler").value !== "neighbour";
    $("#strength-told").textContent = strength.dataset.chosen ? Number(strength.value).toFixed(2) : "";
  };
  near();
  const counts = () => Object.fromEntries(rows
    .map((row) => [row.dataset.label, Math.floor(Number($("input[type=number]", row).value) || 0)])
    .filter(([, count]) => count > 0));
  const set = (row, count) => {
    $("input[type=number]", row).value = count;
    $("input[type=range]", row).value = Math.min(count, 5000);
  };
  for (const row of rows) {
    const asked = given.get(`label.${row.dataset.label}`) ?? given.get("all");
    if (asked) set(row, asked);
    $("input[type=range]", row).addEventListener("input", (event) => {
      $("input[type=number]", row).value = event.target.value;
      plan();
    });
    $("input[type=number]", row).addEventListener("input", (event) => {
      $("input[type=range]", row).value = Math.min(Number(event.target.value) || 0, 5000);
      plan();
    });
  }
  const gate = () => {
    const kind = $("#gate").value;
    if (kind === "recommended") return undefined;
    if (kind === "none") return null;
    return {
      min_score: Number($("#min-score").value),
      reject_copies: $("#reject-copies").checked,
      reject_duplicates: $("#reject-duplicates").checked,
      on_shortfall: $("#keep").checked ? "keep" : "fail",
    };
  };
  const gates = JSON.parse(form.dataset.gates);
  const drawn = () => {
    const told = {
      seed: seed.value.trim(),
      sampler: $("#sampler").value,
      temperature: Number($("#temperature").value),
    };
    if (told.sampler === "neighbour" && strength.dataset.chosen) told.strength = Number(strength.value);
    const own = gate();
    if (own !== undefined) told.gate = own;
    return told;
  };

  const preview = later(120, async (signal) => {
    if (!seeded()) return;
    const each = Math.max(1, Math.min(8, Math.floor(MOST_PREVIEWED / rows.length)));
    const some = rows.slice(0, MOST_PREVIEWED);
    const labels = Object.fromEntries(some.map((row) => [row.dataset.label, each]));
    const body = { labels, ...drawn() };
    // What a job would leave out is left out here as well; what it draws in its place is not made.
    const usual = (body.temperature > 0 ? gates.above : gates.zero)[body.sampler];
    if (body.gate === undefined && usual) body.gate = usual;
    if (body.gate) body.gate = { ...body.gate, reject_duplicates: false, max_attempts: 1 };
    const told = await api(`/v1/models/${model}/preview`, { method: "POST", body, signal });
    for (const row of some) {
      $(".strip", row).replaceChildren(...told.images
        .filter((image) => image.label === row.dataset.label)
        .map((image) => make("img", {
          src: picture(image.png), className: "pixels", width: 40, height: 40, alt: "",
          title: `score ${image.score.toFixed(2)}`,
        })));
    }
  });
  const plan = later(150, async (signal) => {
    const labels = counts();
    const total = Object.values(labels).reduce((sum, count) => sum + count, 0);
    $("#total").textContent = number(total);
    const button = $("#submit");
    if (button) button.disabled = total === 0;
    if (total === 0) {
      $("#plan").textContent = "Ask for some images of a label.";
      return;
    }
    if (!seeded()) {
      $("#plan").textContent = "Give the seed as a whole number, such as 7.";
      if (button) button.disabled = true;
      return;
    }
    try {
      const told = await api("/v1/jobs?dry_run=true", {
        method: "POST", signal, body: { model, labels, ...drawn() },
      });
      const seconds = told.seconds == null ? "no job of this model has told its pace yet"
        : `about ${told.seconds < 90 ? `${number(Math.max(1, told.seconds))} s` : `${number(told.seconds / 60)} min`}`;
      const bytes = told.bytes == null ? "" : `, about ${(told.bytes / 1e6).toFixed(1)} MB`;
      $("#plan").textContent = `${number(told.batches)} batches, ${seconds}${bytes}; ${number(told.images_left)} images of the quota would be left.`;
    } catch (error) {
      if (error.name === "AbortError") return;
      $("#plan").textContent = error.message;
      if (button) button.disabled = true;
    }
  });
  const everything = () => { preview(); plan(); };

  $("#model").addEventListener("change", (event) => location.assign(`/jobs/new?model=${event.target.value}`));
  $("#set-all").addEventListener("click", () => { rows.forEach((row) => set(row, $("#every").value || 0)); plan(); });
  const balance = () => {
    const chosen = $("#balance").selectedOptions[0];
    if (!chosen?.dataset.counts) return;
    const { names, counts: there } = JSON.parse(chosen.dataset.counts);
    const most = Number($("#balance-to").value) || Math.max(...there);
    for (const row of rows) {
      const place = names.indexOf(row.dataset.label);
      set(row, place < 0 ? 0 : Math.max(0, most - there[place]));
    }
    plan();
  };
  $("#balance").addEventListener("change", balance);
  $("#balance-to").addEventListener("input", balance);
  if (given.get("balance")) { $("#balance").value = given.get("balance"); balance(); }
  strength.addEventListener("input", () => { strength.dataset.chosen = "yes"; near(); everything(); });
  $("#dice").addEventListener("click", () => { another(); everything(); });
  seed.addEventListener("input", everything);
  $("#sampler").addEventListener("change", (event) => {
    $("#sampler-help").textContent = SAMPLERS[event.target.value];
    near();
    everything();
  });
  $("#temperature").addEventListener("input", (event) => {
    $("#temperature-told").textContent = Number(event.target.value).toFixed(2);
    everything();
  });
  $("#min-score").addEventListener("input", (event) => {
    $("#min-score-told").textContent = Number(event.target.value).toFixed(2);
    everything();
  });
  $("#gate").addEventListener("change", () => {
    $$(".field[data-gate]", form).forEach((part) => { part.hidden = $("#gate").value !== "own"; });
    everything();
  });
  for (const id of ["reject-copies", "reject-duplicates", "keep"]) $(`#${id}`).addEventListener("change", everything);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const made = await attempt($("#submit"), () => api("/v1/jobs", {
      method: "POST", body: { model, labels: counts(), ...drawn() },
    }));
    if (made) location.assign(`/jobs/${made.id}`);
  });
  everything();
}

// Once nothing has changed for some milliseconds; what is still under way is let go of.
function later(milliseconds, work) {
  let waiting = 0;
  let going = null;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      going?.abort();
      going = new AbortController();
      attempt(null, () => work(going.signal));
    }, milliseconds);
  };
}
