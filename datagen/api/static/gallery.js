// A gallery without an end: pages of tiles, of which only those near to what is seen are there.
import { $, api, attempt, make, number, picture } from "./core.js";

const NEAR = "1200px";
const place = $("#gallery");
const filter = $("#filter");
if (place) start();

function start() {
  let run = 0;
  let observer = null;

  const address = (cursor) => {
    const query = new URLSearchParams({ sort: $("#sort").value });
    if ($("#only").value) query.set("label", $("#only").value);
    if (Number($("#least").value) > 0) query.set("min_score", $("#least").value);
    if (cursor) query.set("cursor", cursor);
    return `/jobs/${place.dataset.job}/gallery?${query}`;
  };

  const begin = () => {
    run += 1;
    observer?.disconnect();
    // A page that leaves the neighbourhood gives its tiles up and keeps its height.
    observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) fill(entry.target);
        else empty(entry.target);
      }
    }, { root: place, rootMargin: NEAR });
    place.replaceChildren();
    add(null);
  };

  const add = (cursor) => {
    const page = make("div", { className: "page" });
    page.cursor = cursor;
    page.run = run;
    page.style.minHeight = "12rem";
    place.append(page);
    observer.observe(page);
  };

  const fill = async (page) => {
    if (page.filled || page.loading) return;
    page.loading = true;
    const told = await attempt(null, () => api(address(page.cursor)));
    page.loading = false;
    if (page.run !== run || !told) return;
    page.filled = true;
    if (!told.items.length && !page.cursor) {
      page.append(make("p", { className: "soft", textContent: "No image is stored that passes." }));
    }
    const tiles = make("div", { className: "tiles" });
    tiles.append(...told.items.map(tile));
    page.replaceChildren(...(told.items.length ? [tiles] : page.childNodes));
    page.style.minHeight = "";
    if (told.next_cursor && !page.next) {
      page.next = true;
      add(told.next_cursor);
    }
  };

  const empty = (page) => {
    if (!page.filled || page === place.lastChild) return;
    page.style.minHeight = `${page.offsetHeight}px`;
    page.replaceChildren();
    page.filled = false;
  };

  const tile = (item) => {
    const doubtful = item.judged_label !== item.label;
    const told = `${item.label}, image ${item.index}, score ${item.score.toFixed(2)}${doubtful ? `, judged ${item.judged_label}` : ""}`;
    const link = make("a", {
      className: doubtful ? "tile doubtful" : "tile", title: told,
      href: `/jobs/${place.dataset.job}/samples/${item.index}`,
    });
    link.append(item.png
      ? make("img", { src: picture(item.png), alt: told })
      : make("small", { textContent: "missing" }));
    return link;
  };

  filter.addEventListener("change", begin);
  filter.addEventListener("submit", (event) => event.preventDefault());
  // More were made: what was the last page may go on, and nothing else moves.
  document.addEventListener("datagen:images", () => {
    const last = place.lastElementChild;
    if (!last?.classList.contains("page")) begin();
    else if (last.filled && !last.next) { last.filled = false; fill(last); }
  });
  if (Number(place.dataset.total) > 0) begin();
  else place.append(make("p", { className: "soft", textContent: `${number(0)} images yet; they appear here.` }));
}
