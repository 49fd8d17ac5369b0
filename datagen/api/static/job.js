// A job as it goes on: told by the server, and caught up with after a restart.
import { $, $$, api, attempt, number } from "./core.js";

const place = $("#job");
const id = place.dataset.id;
const ENDED = ["succeeded", "failed", "cancelled"];
const WORTH = "section[aria-labelledby=worth]";
let state = place.dataset.state;
let lookedAt = 0;

if (!ENDED.includes(state)) follow();

function follow() {
  // The browser connects again by itself, and names the last event that it saw.
  const source = new EventSource(`/v1/jobs/${id}/events`);
  const heard = (event) => {
    const job = JSON.parse(event.data);
    show(job);
    if (ENDED.includes(job.state)) {
      source.close();
      renew(".head", "#exports", WORTH);
      document.dispatchEvent(new CustomEvent("datagen:images"));
    }
  };
  for (const kind of ["progress", "state"]) source.addEventListener(kind, heard);
  source.addEventListener("removed", () => { source.close(); location.assign("/jobs"); });
  source.onerror = () => {
    $("#pace").textContent = "The connection is away; it comes back by itself.";
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  };
}

function show(job) {
  state = job.state;
  const told = $("#state");
  told.textContent = job.state;
  told.className = `state ${job.state}`;
  $("#stored").textContent = number(job.images_stored);
  $("#whole").value = job.images_stored;
  const pace = job.images_per_second;
  $("#pace").textContent = pace == null ? job.stage ?? ""
    : `${number(pace)} images/s, about ${number(job.seconds_left)} s left`;
  for (const one of job.labels) {
    const row = $$("#by-label tr").find((candidate) => candidate.dataset.label === one.label);
    if (!row) continue;
    $("progress", row).value = one.stored;
    $("[data-part=stored]", row).textContent = number(one.stored);
    $("[data-part=short]", row).textContent = number(one.short);
    $("[data-part=agreement]", row).textContent = one.agreement == null ? "–" : `${(100 * one.agreement).toFixed(1)}%`;
  }
  // The first images at once, more of them now and then.
  const moment = performance.now();
  if (job.images_stored > 0 && (lookedAt === 0 || moment - lookedAt > 5000)) {
    lookedAt = moment;
    document.dispatchEvent(new CustomEvent("datagen:images"));
  }
}

// Take parts of the page as it is now from the server; nothing else moves.
async function renew(...selectors) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const selector of selectors) {
    const fresh = $(selector, next);
    if (fresh) $(selector)?.replaceWith(document.adoptNode(fresh));
  }
  $("#new-report")?.addEventListener("click", report);
}

const ask = (path, body) => (event) => {
  event.preventDefault();
  const button = event.submitter ?? event.currentTarget;
  attempt(button, async () => {
    await api(path, { method: "POST", body: body() });
    await renew("#exports", WORTH);
  });
};
const report = ask("/v1/reports", () => ({ job: id, quick: true }));
$("#new-export")?.addEventListener("submit", ask("/v1/exports", () => ({ job: id, format: $("#format").value })));
$("#new-report")?.addEventListener("click", report);

// What goes on beside the job: looked at while there is something.
async function refresh() {
  const busy = $$("#exports .running, #exports .queued, section .notice .running, section .notice .queued");
  if (busy.length && document.visibilityState === "visible") await renew("#exports", WORTH);
  setTimeout(refresh, 2000);
}
refresh();
