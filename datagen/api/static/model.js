// A model: its training as it goes on, its curves, and the pictures of what it has learnt.
import { $, api, attempt, make } from "./core.js";

const place = $("#model");
const id = place.dataset.id;
const FIGURES = ["latent-grid", "samples", "reconstructions", "same-z", "latent-strips", "kl-per-dimension", "interpolation"];
const ENDED = ["succeeded", "failed", "cancelled"];
const charts = {};

function drawn(history) {
  const rows = history.filter((one) => one.total != null && ["fit", "refine"].includes(one.stage));
  $("#no-curves").hidden = rows.length > 0;
  if (!rows.length || !window.uPlot) return;
  const epochs = rows.map((_, place) => place + 1);
  const column = (name) => rows.map((one) => one[name] ?? null);
  plot("curve-total", "nats an image", [epochs, column("total"), column("validation_total"), column("reconstruction"), column("validation_reconstruction")],
    ["total", "total, held out", "reconstruction", "reconstruction, held out"]);
  plot("curve-kl", "KL, nats an image", [epochs, column("kl"), column("validation_kl")], ["KL", "KL, held out"]);
}

function plot(name, title, data, labels) {
  const there = $(`#${name}`);
  if (charts[name]) { charts[name].setData(data); return; }
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--soft").trim();
  const line = style.getPropertyValue("--line").trim();
  const colours = ["#2a9d8f", "#e07a5f", "#5b8def", "#c98bdb"];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
  const size = () => ({ width: Math.max(220, there.clientWidth), height: 260 });
  charts[name] = new window.uPlot({
    title, ...size(),
    scales: { x: { time: false } },
    series: [{ label: "epoch" }, ...labels.map((label, place) => ({ label, stroke: colours[place], width: 2, spanGaps: true }))],
    axes: [axis, { ...axis, size: 60 }],
  }, data, there);
  new ResizeObserver(() => charts[name].setSize(size())).observe(there);
}

// What its user should know; it may change while it trains.
function noted(notes) {
  const place = $("#notes");
  place.hidden = notes.length === 0;
  if (notes.join("\n") === [...place.children].map((one) => one.textContent).join("\n")) return;
  place.replaceChildren(...notes.map((note) => make("p", { className: "notice wait", textContent: note })));
}

async function follow() {
  const model = await attempt(null, () => api(`/v1/models/${id}`));
  if (model) {
    if (ENDED.includes(model.state)) { location.reload(); return; }
    const told = model.progress;
    noted(told.notes ?? []);
    $("#whole").max = told.steps ?? 1;
    $("#whole").value = told.step ?? 0;
    const left = told.seconds_left == null ? "" : `, about ${Math.round(told.seconds_left / 6) / 10} min left`;
    $("#stage").textContent = told.stage == null ? "It waits for a worker."
      : `${told.stage}, epoch ${told.epoch} of ${told.epochs}${left}`;
    // The epochs that have ended, and the one that goes on.
    drawn([...(told.history ?? []), told]);
  }
  setTimeout(follow, 1500);
}

// A picture is drawn when it is first asked for; until then the server says that it is on its way.
async function figure(name) {
  const box = make("figure", { className: "stack" });
  const told = make("p", { className: "soft", textContent: "Being drawn…" });
  box.append(make("h3", { textContent: name.replaceAll("-", " ") }), told);
  $("#figures").append(box);
  for (let tries = 0; tries < 150; tries += 1) {
    const answer = await fetch(`/v1/models/${id}/figures/${name}.png`).catch(() => null);
    if (answer?.status === 200) {
      const image = make("img", { alt: name.replaceAll("-", " "), src: URL.createObjectURL(await answer.blob()) });
      image.style.maxWidth = "100%";
      told.replaceWith(image);
      return;
    }
    if (answer && answer.status !== 202) {
      // Not every model has every picture.
      if (answer.status === 404) { box.remove(); return; }
      const problem = await answer.json().catch(() => null);
      told.textContent = problem?.detail ?? `The server answered ${answer.status}.`;
      return;
    }
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
  told.textContent = "It takes long; look again later.";
}

window.addEventListener("load", async () => {
  if (ENDED.includes(place.dataset.state)) {
    const model = await attempt(null, () => api(`/v1/models/${id}`));
    drawn(model?.metrics?.history ?? []);
  } else {
    follow();
  }
  if (place.dataset.state === "succeeded") FIGURES.forEach(figure);
});
