// The latent explorer: what is under the pointer is decoded, one request at a time.
import { $, $$, api, attempt, make, picture } from "./core.js";

const place = $("#model");
const id = place.dataset.id;
const labels = JSON.parse(place.dataset.labels);
// A class without training images is refused, and one refused label refuses all of a request.
const learnt = JSON.parse(place.dataset.learnt);
const dims = Number(place.dataset.latents);
const REACH = 3;
// Directions in which latents differ most; beyond these few a change is hardly seen.
const DIRECTIONS = 12;
const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];

const decode = (places, names) => api(`/v1/models/${id}/decode`, {
  method: "POST", body: { ...places, labels: names },
});

if ($("#pad") && dims > 0) explore();
if ($("#scatter")) scatter();

function explore() {
  // In standard deviations from the label's mean, along each direction.
  const z = new Array(dims).fill(0);
  const shown = z.slice(0, DIRECTIONS);
  const called = (dim) => (dims <= 2 ? `z${dim}` : `Direction ${dim + 1}`);
  let label = learnt[0];
  let busy = false;
  let again = false;
  let idle = 0;
  const pad = $("#pad");

  for (const [name, chosen] of [["across", 0], ["up", Math.min(1, dims - 1)]]) {
    $(`#${name}`).append(...shown.map((_, dim) => make("option", { value: dim, textContent: called(dim), selected: dim === chosen })));
    $(`#${name}`).addEventListener("change", () => { draw(); });
  }
  const axes = () => [Number($("#across").value), Number($("#up").value)];

  $("#labels").append(...learnt.map((name) => {
    const button = make("button", { type: "button", textContent: name });
    button.setAttribute("aria-pressed", String(name === label));
    button.addEventListener("click", () => {
      label = name;
      $$("#labels button").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
      show();
    });
    return button;
  }));
  $("#sliders").append(...shown.map((_, dim) => {
    const slider = make("input", { type: "range", min: -REACH, max: REACH, step: 0.05, value: 0 });
    slider.setAttribute("aria-label", called(dim));
    slider.addEventListener("input", () => { z[dim] = Number(slider.value); draw(); show(); });
    return make("label", {}, make("span", { textContent: dims <= 2 ? called(dim) : `${dim + 1}` }), slider);
  }));
  const sliders = $$("#sliders input");
  const told = () => sliders.forEach((slider, dim) => { slider.value = z[dim]; });

  // While one image is on its way, only the latest wish is kept.
  async function show() {
    if (busy) { again = true; return; }
    busy = true;
    const began = performance.now();
    const made = await attempt(null, () => decode({ coordinates: [z.slice()] }, [label]));
    busy = false;
    if (made) {
      const [image] = made.images;
      $("#decoded").src = picture(image.png);
      $("#decoded").alt = `Decoded as ${label}`;
      $("#judged").textContent = `judged ${image.judged_label}, ${image.score.toFixed(2)} for ${label}`;
      $("#took").textContent = `${Math.round(performance.now() - began)} ms`;
      pad.dataset.frames = String(Number(pad.dataset.frames ?? 0) + 1);
    }
    if (again) { again = false; show(); return; }
    clearTimeout(idle);
    idle = setTimeout(everyLabel, 150);
  }
  async function everyLabel() {
    const some = learnt.slice(0, 16);
    const made = await attempt(null, () => decode({ coordinates: some.map(() => z.slice()) }, some));
    if (!made) return;
    $("#same-z").replaceChildren(...made.images.map((image, at) => make("img", {
      src: picture(image.png), alt: some[at], title: some[at], className: "pixels", width: 40, height: 40,
    })));
  }
  function draw() {
    const context = pad.getContext("2d");
    const { width, height } = pad;
    const style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, width, height);
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = 1;
    for (let step = 0; step <= 6; step += 1) {
      const at = (step / 6) * width;
      context.beginPath();
      context.moveTo(at, 0); context.lineTo(at, height);
      context.moveTo(0, at); context.lineTo(width, at);
      context.stroke();
    }
    const [across, up] = axes();
    const x = ((z[across] + REACH) / (2 * REACH)) * width;
    const y = ((REACH - z[up]) / (2 * REACH)) * height;
    context.fillStyle = style.getPropertyValue("--accent");
    context.beginPath();
    context.arc(x, y, 9, 0, 2 * Math.PI);
    context.fill();
  }
  const move = (event) => {
    const box = pad.getBoundingClientRect();
    const [across, up] = axes();
    const inside = (value) => Math.max(-REACH, Math.min(REACH, value));
    z[across] = inside((2 * (event.clientX - box.left) / box.width - 1) * REACH);
    if (up !== across) z[up] = inside((1 - 2 * (event.clientY - box.top) / box.height) * REACH);
    told(); draw(); show();
  };
  pad.addEventListener("pointermove", move);
  pad.addEventListener("pointerdown", move);
  pad.addEventListener("keydown", (event) => {
    const [across, up] = axes();
    const steps = { ArrowLeft: [across, -0.15], ArrowRight: [across, 0.15], ArrowUp: [up, 0.15], ArrowDown: [up, -0.15] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    z[step[0]] = Math.max(-REACH, Math.min(REACH, z[step[0]] + step[1]));
    told(); draw(); show();
  });
  $("#zero").addEventListener("click", () => { z.fill(0); told(); draw(); show(); });
  $("#chance").addEventListener("click", () => {
    for (let dim = 0; dim < dims; dim += 1) {
      z[dim] = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    }
    told(); draw(); show();
  });
  // The pad is drawn in the theme's colours.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  draw();
  show();
}

async function scatter() {
  const canvas = $("#scatter");
  const told = $("#hovered-told");
  let found = null;
  for (let tries = 0; tries < 150 && !found; tries += 1) {
    const answer = await fetch(`/v1/models/${id}/figures/latent-scatter.json`).catch(() => null);
    if (answer?.status === 200) found = await answer.json();
    else if (answer && answer.status !== 202) {
      told.textContent = "There are no images here to show where they lie.";
      return;
    } else await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
  if (!found) return;
  const { points, labels: own, latents } = found;
  const names = found.class_names ?? labels;
  const reach = Math.max(...points.flat().map(Math.abs)) * 1.05 || 1;
  const at = ([x, y]) => [((x + reach) / (2 * reach)) * canvas.width, ((reach - y) / (2 * reach)) * canvas.height];
  const chosen = [];
  const draw = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    points.forEach((point, row) => {
      const [x, y] = at(point);
      context.fillStyle = COLOURS[own[row] % COLOURS.length];
      context.globalAlpha = chosen.includes(row) ? 1 : 0.65;
      context.beginPath();
      context.arc(x, y, chosen.includes(row) ? 7 : 2.4, 0, 2 * Math.PI);
      context.fill();
    });
    context.globalAlpha = 1;
  };
  draw();
  $("#legend").append(...[...new Set(own)].sort((a, b) => a - b).slice(0, 20).map((label) => {
    const dot = make("span", { textContent: "\u25cf", ariaHidden: "true" });
    dot.style.color = COLOURS[label % COLOURS.length];
    return make("small", {}, dot, ` ${names[label]}`);
  }));
  // Figures of an earlier version name dimensions.
  const axes = found.axes ?? found.dimensions.map((dim) => `z${dim}`);
  told.textContent = `${points.length.toLocaleString("en-US")} images by ${axes[0]} and ${axes[1]}.`;
  const near = (event) => {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * canvas.width;
    const y = ((event.clientY - box.top) / box.height) * canvas.height;
    let best = -1;
    let least = 14 ** 2;
    points.forEach((point, row) => {
      const [px, py] = at(point);
      const away = (px - x) ** 2 + (py - y) ** 2;
      if (away < least) { least = away; best = row; }
    });
    return best;
  };
  let last = -1;
  let going = false;
  const known = (row) => learnt.includes(names[own[row]]);
  const see = async (row) => {
    if (row < 0 || row === last || going || !latents) return;
    last = row;
    if (!known(row)) {
      $("#hovered").hidden = true;
      told.textContent = `The model had no training images of ${names[own[row]]}, and decodes none.`;
      return;
    }
    going = true;
    const made = await attempt(null, () => decode({ latents: [latents[row]] }, [names[own[row]]]));
    going = false;
    if (!made) return;
    $("#hovered").src = picture(made.images[0].png);
    $("#hovered").hidden = false;
    told.textContent = `An image of ${names[own[row]]}, as the model decodes it.`;
  };
  const choose = async (row) => {
    if (row < 0 || !latents) return;
    if (!known(row)) { await see(row); return; }
    chosen.push(row);
    if (chosen.length > 2) chosen.splice(0, chosen.length - 1);
    draw();
    await see(row);
    if (chosen.length < 2) { $("#way").replaceChildren(); return; }
    const [from, to] = chosen;
    const shares = Array.from({ length: 12 }, (_, step) => step / 11);
    const mixed = shares.map((share) => latents[from].map((value, dim) => (1 - share) * value + share * latents[to][dim]));
    const along = shares.map((share) => names[own[share < 0.5 ? from : to]]);
    const made = await attempt(null, () => decode({ latents: mixed }, along));
    if (!made) return;
    $("#way").replaceChildren(...made.images.map((image, step) => make("img", {
      src: picture(image.png), alt: `${Math.round(100 * shares[step])}% of the way`, className: "pixels", width: 56, height: 56,
    })));
  };
  canvas.addEventListener("pointermove", (event) => see(near(event)));
  canvas.addEventListener("click", (event) => choose(near(event)));
  // By keyboard from dot to dot, in the order from left to right.
  const order = points.map((_, row) => row).sort((a, b) => points[a][0] - points[b][0]);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const place = order.indexOf(last);
      see(order[(place + step + order.length) % order.length]);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(last);
    }
  });
}
