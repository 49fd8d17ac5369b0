// Training a model by a form.
import { $, api, attempt } from "./core.js";

const form = $("#train-form");
// A training starts from a model of images of the same shape, or from nothing.
function offerModels() {
  const { shape } = $("#dataset").selectedOptions[0].dataset;
  for (const option of $("#from-model").options) {
    option.hidden = option.disabled = option.value !== "" && option.dataset.shape !== shape;
  }
  if ($("#from-model").selectedOptions[0]?.disabled) $("#from-model").value = "";
}

if (form) {
  offerModels();
  $("#dataset").addEventListener("change", (event) => {
    $("#name").value = event.target.selectedOptions[0].dataset.name;
    offerModels();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const options = $("#budget").value ? { time_budget: 60 * Number($("#budget").value) } : {};
    const body = { name: $("#name").value, dataset: $("#dataset").value, options };
    if ($("#from-model").value) body.from_model = $("#from-model").value;
    const made = await attempt(event.submitter, () => api("/v1/models", { method: "POST", body }));
    if (made) location.assign(`/models/${made.id}`);
  });
}
