// Training a model by a form.
import { $, api, attempt } from "./core.js";

const form = $("#train-form");
if (form) {
  $("#dataset").addEventListener("change", (event) => {
    $("#name").value = event.target.selectedOptions[0].dataset.name;
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const options = $("#budget").value ? { time_budget: 60 * Number($("#budget").value) } : {};
    const body = { name: $("#name").value, dataset: $("#dataset").value, options };
    const made = await attempt(event.submitter, () => api("/v1/models", { method: "POST", body }));
    if (made) location.assign(`/models/${made.id}`);
  });
}
