// Making a key; its text is shown this once.
import { $, api, attempt } from "./core.js";

$("#new-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { owner: $("#owner").value, scopes: $("#scopes").value.split(",") };
  if ($("#days").value) body.expires_in = 86400 * Number($("#days").value);
  const made = await attempt(event.submitter, () => api("/v1/keys", { method: "POST", body }));
  if (!made) return;
  $("#made-key").textContent = made.key;
  $("#made").hidden = false;
});
