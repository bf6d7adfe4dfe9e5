// The page of a model: map, picker, card and tables put together, and the address that restores them.
"use strict";

(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  atlas.sections(page.data);
  if (!page.grids.length) {
    document.documentElement.dataset.ready = "yes";
    return;
  }

  const metrics = new Metrics(page);
  const card = new Card(document.getElementById("card"), page, metrics);
  const said = document.getElementById("said");
  const tip = document.getElementById("tip");
  let metric = null;
  let kind = null;

  const map = new GridMap(document.getElementById("canvas"), { chosen, over });
  const options = page.metrics.map((each) => {
    const group = `${each.grid === "tensor" ? "" : `${each.grid}s: `}${each.step.replaceAll("_", " ")}`;
    return { id: `${each.grid}/${each.id}`, title: each.grid === "tensor" ? each.title : `${each.title} (${each.grid}s)`, group, words: `${each.title} ${group} ${each.id}`.toLowerCase() };
  });
  const picker = new Picker(document.getElementById("metric"), document.getElementById("metrics"), options, (id) => {
    colour(metrics.byId.get(id)).then(() => remember());
  });
  card.closed = () => {
    remember();
    map.canvas.focus();
  };

  async function colour(next) {
    metric = next;
    const grid = metrics.grids.get(metric.grid);
    if (kind !== metric.grid) {
      kind = metric.grid;
      map.show(grid, kind === "tensor" ? page.marks : [], kind === "tensor" ? page.stars : []);
      if (!card.element.hidden) card.close();
    }
    picker.set(`${metric.grid}/${metric.id}`);
    const scores = await metrics.scores(metric);
    if (metric !== next) return;
    map.paint(scores.score);
    legend(scores);
    if (map.cell >= 0) tell(map.cell);
    document.documentElement.dataset.painted = `${metric.grid}/${metric.id}`;
    await depth();
  }

  function legend({ from, full, score }) {
    const element = document.getElementById("legend");
    const bar = atlas.make("span", { class: "ramp", "aria-hidden": "true" });
    const middle = from === "null" ? "the null, what a random matrix or no effect would give" : "the median of the role, as there is no null";
    const unusual = { higher: "high is unusual", lower: "low is unusual", both: "both ends are unusual" }[metric.direction] ?? "";
    const few = from === "role" && score.some(Number.isNaN) ? "; without colour: fewer than four of the role" : "";
    element.replaceChildren(atlas.make("span", {}, "below"), bar, atlas.make("span", {}, "above"), atlas.make("span", { class: "quietly" }, `middle: ${middle}; full colour: ${full}${few}${unusual ? `; ${unusual}` : ""}`), atlas.definition(metric.metric, "definition"));
  }

  async function words(cell) {
    const grid = metrics.grids.get(kind);
    const { values, nulls } = await metrics.of(metric);
    const { rank, of } = await metrics.rank(metric, cell);
    const value = Number.isNaN(values[cell]) ? "no value" : atlas.said(values[cell], metric.format);
    const base = nulls && !Number.isNaN(nulls[cell]) ? atlas.said(nulls[cell], metric.format) : "";
    return { id: grid.cells.id[cell], value, base, rank: Number.isNaN(values[cell]) || of < 2 ? "" : `${ordinal(rank)} largest of ${of} of its role` };
  }

  async function tell(cell) {
    const { id, value, base, rank } = await words(cell);
    said.replaceChildren(atlas.make("b", {}, ...visible(id)), ` ${metric.title} `, atlas.make("b", { class: "value" }, value), [base && `, null ${base}`, rank && `, ${rank}`].filter(Boolean).join(""));
  }

  function chosen(cell, open) {
    if (cell < 0) return;
    tell(cell);
    if (open || !card.element.hidden) card.show(kind, cell, metric);
    remember(open);
  }

  let hovered = -1;
  async function over(cell, event) {
    hovered = cell;
    if (cell < 0) {
      tip.hidden = true;
      return;
    }
    const [x, y] = [event.clientX, event.clientY];
    const { id, value, base, rank } = await words(cell);
    if (hovered !== cell) return;
    const mark = kind === "tensor" && page.marks.find((each) => each.cell === cell);
    tip.replaceChildren(atlas.make("div", { class: "id" }, ...visible(id)), atlas.make("div", {}, `${metric.title} `, atlas.make("b", {}, value), base ? ` · null ${base}` : ""), rank ? atlas.make("div", { class: "quietly" }, rank) : "", mark ? atlas.make("div", { class: mark.grade }, `${mark.findings.length} finding${mark.findings.length > 1 ? "s" : ""}, ${mark.grade}`) : "");
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.min(y + 16, innerHeight - tip.offsetHeight - 8)}px`;
  }

  // The metric by layer, a line a role, under the map; of strips the medians.
  async function depth() {
    const holder = document.getElementById("depth");
    const grid = metrics.grids.get(kind);
    const { values, nulls } = await metrics.of(metric);
    const { row, column } = grid.cells;
    const found = new Map();
    for (let i = 0; i < values.length; i++) {
      const layer = Number(grid.columns[column[i]]);
      if (!Number.isInteger(layer) || !Number.isFinite(values[i]) || (kind === "tensor" && !grid.rows[row[i]].tall)) continue;
      const key = kind === "tensor" ? `${row[i]} ${layer}` : String(layer);
      if (!found.has(key)) found.set(key, { role: kind === "tensor" ? grid.rows[row[i]].label : `all ${kind}s, median`, row: row[i], layer, values: [], nulls: [] });
      found.get(key).values.push(values[i]);
      if (nulls && Number.isFinite(nulls[i])) found.get(key).nulls.push(nulls[i]);
    }
    const middle = (list) => atlas.median(list.slice().sort((a, b) => a - b));
    const points = [...found.values()].map((each) => ({ role: each.role, row: each.row, layer: each.layer, value: middle(each.values), null: each.nulls.length ? middle(each.nulls) : null }));
    const layers = new Set(points.map((point) => point.layer));
    holder.hidden = layers.size < 2;
    if (holder.hidden) return;
    points.sort((a, b) => a.row - b.row || a.layer - b.layer);
    holder.dataset.label = `${metric.title} by layer`;
    const bases = points.filter((point) => point.null !== null).map((point) => ({ ...point, value: point.null }));
    const drawn = bases.every((base) => metric.scale !== "log" || base.value > 0) ? bases : [];
    await atlas.chart(holder, atlas.depthChart(points, drawn, metric));
  }

  function remember(step = false) {
    const cell = map.cell >= 0 ? metrics.grids.get(kind).cells.id[map.cell] : "";
    const first = metrics.find(page.first);
    atlas.remember({ metric: metric === first && !cell ? "" : `${kind === "tensor" ? "" : `${kind}/`}${metric.id}`, cell: card.element.hidden && !step ? "" : cell }, { step });
  }

  async function restore() {
    const { metric: id, cell } = atlas.state();
    const wanted = id && (metrics.byId.get(id) ?? metrics.byId.get(`tensor/${id}`));
    if (wanted && wanted !== metric) await colour(wanted);
    else if (!metric) await colour(metrics.find(page.first) ?? metrics.all[0]);
    if (!cell) return;
    const number = metrics.grids.get(kind).cells.id.indexOf(cell);
    if (number < 0 || (number === map.cell && !card.element.hidden)) return;
    map.select(number, true);
    document.getElementById("map").scrollIntoView();
  }

  // From a mark of a chart to the cell that it is of: metric of the registry, which of its several rows, names of cells.
  atlas.follow = (grid, id, of, names) => {
    const cell = names.find((name) => metrics.grids.get(grid)?.cells.id.includes(name));
    if (!cell) return;
    const own = [`${id}:${of}`, id].find((each) => metrics.byId.has(`${grid}/${each}`)) ?? metrics.all.find((each) => each.grid === grid)?.id;
    location.hash = `#${new URLSearchParams({ metric: grid === "tensor" ? own : `${grid}/${own}`, cell })}`;
    document.getElementById("map").scrollIntoView();
  };

  for (const link of document.querySelectorAll("a.tocell")) {
    const chart = link.closest(".finding").querySelector("a.def[data-metric]");
    const id = chart && metrics.byId.has(`tensor/${chart.dataset.metric}`) ? chart.dataset.metric : page.first;
    link.href = `#${new URLSearchParams({ metric: id, cell: link.dataset.cell })}`;
  }
  addEventListener("hashchange", () => atlas.ownHash() || restore());
  restore().then(() => (document.documentElement.dataset.ready = "yes"));
})();
