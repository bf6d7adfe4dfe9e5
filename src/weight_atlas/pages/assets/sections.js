// What all pages with sections do: names of numbers lead to their definitions, and tables and charts are drawn when they
// come into view.
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
  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) plot(target);
  }, { rootMargin: "300px" });
  document.querySelectorAll("figure.plot").forEach((figure) => near.observe(figure));
  addEventListener("beforeprint", () => document.querySelectorAll("details.caption, details.lesser").forEach((details) => (details.open = true)));

  // A place that the address names is shown, also where it is folded away.
  function reveal() {
    const place = document.getElementById(location.hash.slice(1));
    const folded = place?.closest("details:not([open])");
    if (!folded) return;
    folded.open = true;
    place.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();

  function plot(figure) {
    near.unobserve(figure);
    figure.plotted ??= plotted(figure);
    return figure.plotted;
  }

  async function plotted(figure) {
    const about = JSON.parse(figure.dataset.chart);
    await new Plot(figure, about, await atlas.chunk(folder, about.key)).draw();
    figure.classList.add("ready");
  }

  // A browser that prints waits for nothing: all charts are drawn before it is told to.
  const printer = atlas.make("button", { type: "button", class: "quiet printer", title: "Draw all charts, then print", onclick: async () => {
    await Promise.all([...document.querySelectorAll("figure.plot")].map(plot));
    print();
  } }, "Print");
  document.querySelector(".top .gap").after(printer);

  const steps = document.querySelector("details.steps");
  steps?.addEventListener("toggle", () => steps.open && took(steps), { once: true });

  // Time and memory of the steps that are of the page's model; on the index, of all.
  async function took({ dataset: { folder: above, of }, lastElementChild: holder }) {
    try {
      const { columns, cells } = await atlas.chunk(above, "steps");
      const kept = cells[0].flatMap((_, row) => (!of || cells[1][row].split("/")[0] === of ? [row] : []));
      const own = cells.map((values) => kept.map((row) => values[row]));
      const sum = (number) => own[number].reduce((all, value) => all + (value ?? 0), 0);
      const said = `${kept.length} steps took ${atlas.written(sum(2), ".3g")} s one after the other, ${atlas.written(sum(3), ".3g")} s of CPU, and at most ${atlas.written(own[4].reduce((most, value) => Math.max(most, value ?? 0), 0), ".4g")} MB of memory.`;
      holder.replaceChildren(atlas.make("p", {}, said), new DataTable({ columns, cells: own }, "Time and memory of every step").element);
    } catch {
      holder.replaceChildren(atlas.make("p", { class: "reason" }, "This is not recorded here: a run of the workflow writes it beside the pages, as steps.js, when it ends."));
    }
  }

  // The DataTable of an element, made once.
  function draw(details) {
    details.drawn ??= drawn(details);
    return details.drawn;
  }

  async function drawn(details) {
    const { key } = details.dataset;
    const opened = (row) => atlas.remember({ table: key, row }, { step: true });
    const table = new DataTable(await atlas.chunk(folder, key), details.querySelector("summary span").textContent, { opened });
    details.querySelector(".holder").replaceChildren(table.element);
    return table;
  }

  // The row that the address names: a neuron's, for instance, sent by somebody else.
  async function restore() {
    const { table, row } = atlas.state();
    const details = [...document.querySelectorAll("details.table")].find((each) => each.dataset.key === table);
    if (!details) return;
    details.open = true;
    (await draw(details)).show(row);
  }
  addEventListener("hashchange", () => atlas.ownHash() || restore());
  restore();
};
