// A dry run of a pipeline, shown where it was asked for.
import { $, api, attempt, make, number } from "./core.js";

const button = $("#dry");
button?.addEventListener("click", async () => {
  const told = await attempt(button, () => api(`/v1/pipelines/${button.dataset.name}/dry-run`, { method: "POST" }));
  if (!told) return;
  $("#dry-run").hidden = false;
  $("#dry-images").textContent = number(told.images);
  $("#dry-rows").replaceChildren(...told.classes.map((one) => make("tr", {},
    make("td", { textContent: one.label }),
    make("td", { className: "n", textContent: number(one.before) }),
    make("td", { className: "n", textContent: number(one.after) }))));
  $("#dry-warnings").replaceChildren(...told.warnings.map((text) => make("p", { className: "notice wait", textContent: text })));
  $("#dry-run").scrollIntoView({ block: "nearest" });
});
