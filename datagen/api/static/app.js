// What every page does: times in the viewer's zone, the theme, copying, and buttons that act.
import { $, api, attempt, times, toast } from "./core.js";

const THEMES = [["", "Theme: system"], ["light", "Theme: light"], ["dark", "Theme: dark"]];
function themes() {
  const button = $("[data-theme-switch]");
  if (!button) return;
  const told = () => {
    const now = document.documentElement.dataset.theme ?? "";
    button.textContent = THEMES.find(([name]) => name === now)[1];
  };
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "";
    const [next] = THEMES[(THEMES.findIndex(([name]) => name === now) + 1) % THEMES.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    try { localStorage.setItem("datagen-theme", next); } catch { /* as in theme.js */ }
    told();
  });
  told();
}

// Buttons that do one thing: data-do="POST /v1/…", data-sure="a question", data-then="/where".
document.addEventListener("click", async (event) => {
  const copied = event.target.closest("[data-copy]");
  if (copied) {
    await attempt(null, () => navigator.clipboard.writeText(copied.dataset.copy));
    toast("Copied.");
    return;
  }
  const button = event.target.closest("[data-do]");
  if (!button) return;
  if (button.dataset.sure && !window.confirm(button.dataset.sure)) return;
  const [method, path] = button.dataset.do.split(" ");
  const body = button.dataset.body ? JSON.parse(button.dataset.body) : undefined;
  const done = await attempt(button, async () => ({ got: await api(path, { method, body }) }));
  if (!done) return;
  const then = button.dataset.then?.replace("{id}", done.got?.id ?? "");
  if (then) location.assign(then);
  else location.reload();
});

document.addEventListener("htmx:after:swap", () => times());
document.addEventListener("htmx:afterSwap", () => times());
new MutationObserver(() => times()).observe(document.body, { childList: true, subtree: true });
themes();
times();
