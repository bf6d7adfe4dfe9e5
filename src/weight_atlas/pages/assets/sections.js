// What all pages with sections do: names of numbers lead to their definitions, tables are drawn when they come into view.
"use strict";

// folder: of the page's data, relative to it.
atlas.sections = (folder) => {
  for (const link of document.querySelectorAll("a.def[data-metric]")) link.href = `${atlas.base}metrics.html#${encodeURIComponent(link.dataset.metric)}`;
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting && target.open) draw(target);
  }, { rootMargin: "200px" });
  for (const details of document.querySelectorAll("details.table")) {
    watch.observe(details);
    details.addEventListener("toggle", () => details.open && draw(details));
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details.caption").forEach((details) => (details.open = true)));

  async function draw(details) {
    if (details.drawn) return;
    details.drawn = true;
    const data = await atlas.chunk(folder, details.dataset.key);
    const table = new DataTable(data, details.querySelector("summary span").textContent);
    details.querySelector(".holder").replaceChildren(table.element);
  }
};
