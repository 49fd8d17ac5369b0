// What the scripts of all pages share. It does nothing by itself, since it is loaded under one name
// alone; what a page does is in the files that import it.

export const number = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en-US"));

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const picture = (png) => `data:image/png;base64,${png}`;

let hiding = 0;
export function toast(text, bad = false) {
  const place = $(".toast");
  place.textContent = text;
  place.classList.toggle("bad", bad);
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { place.hidden = true; }, bad ? 12000 : 4000);
}

export class Problem extends Error {
  constructor(detail, status, field) {
    super(detail);
    this.status = status;
    this.field = field;
  }
}

// Ask the API; what it refuses is thrown with the sentence that it gave.
export async function api(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer; it may be restarting. Try again.", 0);
  }
  if (answer.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  if (answer.status === 204) return null;
  const told = await answer.json().catch(() => null);
  if (!answer.ok) {
    throw new Problem(told?.detail ?? `The server answered ${answer.status}.`, answer.status, told?.field);
  }
  return told;
}

// Run something that may be refused, with its button out of reach meanwhile.
export async function attempt(button, work) {
  if (button) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, true);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

const shown = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
  second: undefined,
});
export function times(root = document) {
  for (const one of $$("time[datetime]:not([data-told])", root)) {
    const moment = new Date(one.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    one.textContent = shown.format(moment);
    one.title = moment.toString();
    one.dataset.told = "";
  }
}
