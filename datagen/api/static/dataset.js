// The images of a dataset, some at a time.
import { $, api, attempt, make, picture } from "./core.js";

const id = $("#dataset").dataset.id;
let next = 0;

async function load(fresh) {
  if (fresh) { next = 0; $("#grid").replaceChildren(); }
  const query = new URLSearchParams({ split: $("#split").value, start: next });
  if ($("#only").value) query.set("label", $("#only").value);
  const told = await attempt($("#more"), () => api(`/datasets/${id}/images?${query}`));
  if (!told) return;
  $("#grid").append(...told.items.map((item) => {
    const words = `${item.label}, row ${item.row}${item.name ? `, ${item.name}` : ""}`;
    return make("span", { className: "tile", title: words },
      make("img", { src: picture(item.png), alt: words }));
  }));
  next = told.next_start;
  $("#more").hidden = next == null;
}

$("#which").addEventListener("change", () => load(true));
$("#more").addEventListener("click", () => load(false));
load(true);
