// The card of a cell: what its tensor, head or expert is like, drawn and in numbers, each beside its null.
"use strict";

class Card {
  constructor(element, page, metrics) {
    Object.assign(this, { element, page, metrics, cell: -1 });
  }

  async show(kind, cell, metric) {
    const grid = this.metrics.grids.get(kind);
    const { cells } = grid;
    this.kind = kind;
    this.cell = cell;
    const id = cells.id[cell];
    const close = atlas.make("button", { type: "button", class: "close", "aria-label": "Close the card", onclick: () => this.close() }, "×");
    const content = atlas.make("div", { class: "content" });
    this.element.replaceChildren(close, atlas.make("h3", {}, ...visible(id)), this.what(grid, cell), content);
    this.element.hidden = false;
    this.element.dataset.cell = id;
    const mine = () => this.cell === cell && this.kind === kind;
    if (metric) await this.current(content, metric, cell);
    if (!mine()) return;
    this.marks(content, kind, cell);
    if (kind === "tensor") await this.tensor(content, cell, mine);
    if (kind === "head") await this.head(content, cell);
    if (mine()) this.numbers(content, kind, cell);
    if (mine() && kind === "tensor") this.tables(content, id);
    dispatchEvent(new Event("resize")); // charts beside the card fit the room that it left
  }

  close() {
    this.element.hidden = true;
    this.cell = -1;
    dispatchEvent(new Event("resize"));
    this.closed?.();
  }

  what(grid, cell) {
    const { row, column, shape, expert } = grid.cells;
    const layer = grid.columns[column[cell]];
    const words = [grid.rows[row[cell]].label, Number.isInteger(Number(layer)) ? `layer ${layer}` : layer === "in" ? "before the layers" : "after the layers"];
    if (expert[cell] !== null && expert[cell] !== undefined) words.push(`expert ${expert[cell]}`);
    if (shape[cell]) words.push(shape[cell]);
    return atlas.make("p", { class: "quietly" }, words.join(" · "));
  }

  async current(content, metric, cell) {
    const { values, nulls } = await this.metrics.of(metric);
    const { rank, of } = await this.metrics.rank(metric, cell);
    if (Number.isNaN(values[cell])) return;
    const line = atlas.make("p", { class: "big" }, atlas.make("b", {}, atlas.said(values[cell], metric.format)), " ", atlas.definition(metric.metric, metric.title));
    const beside = [nulls && !Number.isNaN(nulls[cell]) ? `null ${atlas.said(nulls[cell], metric.format)}` : null, of > 1 ? `${ordinal(rank)} largest of ${of} of its role` : null].filter(Boolean);
    content.append(line, atlas.make("p", { class: "quietly" }, beside.join(" · ")));
  }

  marks(content, kind, cell) {
    if (kind !== "tensor") return;
    const mark = this.page.marks.find((each) => each.cell === cell);
    const stars = this.page.stars.filter((each) => each.cell === cell);
    for (const { row, column, weight } of stars)
      content.append(atlas.make("p", { class: "starred" }, `★ super weight [${row}, ${column}] = ${atlas.written(weight)}`));
    const items = (mark?.findings ?? []).map((number) => {
      const said = document.querySelector(`#finding-${number} .text p:nth-of-type(1)`)?.textContent ?? "";
      const grade = document.querySelector(`#finding-${number} .grade`)?.textContent ?? "";
      return atlas.make("li", {}, atlas.make("a", { class: grade, href: `#finding-${number}` }, grade), ": ", said);
    });
    if (!items.length) return;
    const summary = atlas.make("summary", {}, `${items.length} finding${items.length > 1 ? "s" : ""} here, `, atlas.make("span", { class: mark.grade }, mark.grade));
    content.append(atlas.make("details", { class: "marks" }, summary, atlas.make("ul", {}, ...items)));
  }

  async tensor(content, cell, mine) {
    const chunk = this.page.cards.chunk[cell];
    const id = this.metrics.grids.get("tensor").cells.id[cell];
    if (chunk >= 0) {
      const drawn = (await atlas.chunk(this.page.data, `cards/${chunk}`))[id];
      if (!mine()) return;
      if (drawn.values) await this.chart(content, "Values, with the normal of the same spread", atlas.valuesChart(drawn.values), beyond(drawn.values));
      if (drawn.spectrum) await this.chart(content, "Singular values, with the edges of a random matrix", atlas.spectrumChart(drawn.spectrum));
      if (drawn.picture) {
        const figure = picture(drawn.picture, this.page.stars.filter((star) => star.cell === cell));
        content.append(figure);
        if (atlas.elements.served()) await this.elements(figure, cell, drawn, mine);
      }
    } else if (this.page.cards.experts_left_out) {
      content.append(atlas.make("p", { class: "reason" }, "Values and spectrum of single experts are not drawn on the page of a model with so many tensors; the files have them."));
    }
    await this.schemes(content, cell, mine);
  }

  // Where the page is served: the elements at the place of a click on the picture, or at the first super weight.
  async elements(figure, cell, drawn, mine) {
    const { cells, columns } = this.metrics.grids.get("tensor");
    const beside = (step) => cells.id.findIndex((_, other) => cells.row[other] === cells.row[cell] && cells.column[other] === cells.column[cell] + step && (cells.expert[other] ?? null) === (cells.expert[cell] ?? null));
    const matrices = [-1, 0, 1].map((step) => (step ? beside(step) : cell)).filter((other) => other >= 0).map((other) => ({ id: cells.id[other], label: `layer ${columns[cells.column[other]]}`, own: other === cell }));
    const stars = this.page.stars.map((star) => ({ ...star, id: cells.id[star.cell] }));
    const channels = await this.channels(cells.id[cell]);
    if (!mine()) return;
    const view = new ElementView(this.page.model, matrices, { stars, channels, spread: drawn.values?.std ?? 1 });
    figure.after(view.element);
    const { rows, columns: across } = atlas.elements;
    const first = stars.find((star) => star.cell === cell);
    figure.querySelectorAll("canvas").forEach((canvas) =>
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        const y = ((event.clientY - box.top) / box.height) * drawn.picture.height * drawn.picture.rows;
        const x = ((event.clientX - box.left) / box.width) * drawn.picture.width * drawn.picture.cols;
        view.show(y - rows / 2, x - across / 2);
      }),
    );
    await view.show((first?.row ?? rows / 2) - rows / 2, (first?.column ?? across / 2) - across / 2);
  }

  // The channels of a matrix that stand out, from the table of channels.
  async channels(id) {
    const known = this.page.card_tables.find((each) => each.key.includes("channels"));
    if (!known) return [];
    const { columns, cells } = await atlas.chunk(this.page.data, known.key);
    const at = (name) => cells[columns.findIndex((column) => column.name === name)];
    const [ids, axes, channels] = [at(known.column), at("axis"), at("channel")];
    return (axes && channels ? ids : []).flatMap((value, row) => (value === id ? [{ axis: axes[row], channel: channels[row] }] : []));
  }

  async schemes(content, cell, mine) {
    const found = this.metrics.all.filter((metric) => metric.metric === "quantization_sensitivity.sqnr_db" && metric.grid === "tensor");
    const rows = [];
    for (const metric of found) {
      const { values, nulls } = await this.metrics.of(metric);
      if (Number.isFinite(values[cell])) rows.push({ scheme: metric.id.split(":").slice(1).join(":"), value: values[cell], null: nulls?.[cell] });
    }
    if (rows.length && mine()) await this.chart(content, "Rounded to fewer bits; the tick is a Gaussian matrix", atlas.schemesChart(rows, found[0]));
  }

  async head(content, cell) {
    const chunk = this.page.heads.chunk?.[cell] ?? -1;
    if (chunk < 0) return;
    const kernels = (await atlas.chunk(this.page.data, `heads/${chunk}`))[String(cell)];
    for (const [circuit, kernel] of Object.entries(kernels)) {
      const pair = atlas.make("div", { class: "pair" });
      content.append(pair);
      if (kernel.real.length) await this.chart(pair, `${circuit}: eigenvalues`, atlas.eigenvaluesChart(kernel), "", true);
      if (kernel.sigma.length) await this.chart(pair, `${circuit}: energy`, atlas.energyChart(kernel), "", true);
    }
  }

  async chart(content, title, specification, note = "", fixed = false) {
    const holder = atlas.make("div", { class: "drawing", "data-label": title });
    content.append(atlas.make("figure", {}, atlas.make("figcaption", {}, title), holder, note ? atlas.make("p", { class: "quietly" }, note) : ""));
    await atlas.chart(holder, specification, fixed ? { width: 170 } : {});
  }

  // All numbers, loaded when they are asked for.
  numbers(content, kind, cell) {
    const holder = atlas.make("div");
    const details = atlas.make("details", { class: "numbers" }, atlas.make("summary", {}, "All numbers"), holder);
    details.addEventListener("toggle", async () => {
      if (!details.open || holder.children.length) return;
      let group = null;
      let body = null;
      for (const metric of this.metrics.all.filter((each) => each.grid === kind)) {
        const { values, nulls } = await this.metrics.of(metric);
        if (Number.isNaN(values[cell])) continue;
        if (metric.step !== group) {
          group = metric.step;
          body = atlas.make("tbody");
          holder.append(atlas.make("h4", {}, group.replaceAll("_", " ")), atlas.make("table", {}, atlas.make("thead", { class: "hidden" }, atlas.make("tr", {}, atlas.make("th", { scope: "col" }, "metric"), atlas.make("th", { scope: "col" }, "value"), atlas.make("th", { scope: "col" }, "null"))), body));
        }
        const null_ = nulls && !Number.isNaN(nulls[cell]) ? atlas.said(nulls[cell], metric.format) : "";
        body.append(atlas.make("tr", { "data-metric": metric.id, "data-value": String(values[cell]) }, atlas.make("th", { scope: "row" }, atlas.definition(metric.metric, metric.title)), atlas.make("td", { class: "number" }, atlas.said(values[cell], metric.format)), atlas.make("td", { class: "number quietly" }, null_)));
      }
    });
    content.append(details);
  }

  // Rows of other tables that are about this tensor.
  tables(content, id) {
    for (const { key, title, column } of this.page.card_tables) {
      const details = atlas.make("details", { class: "numbers" }, atlas.make("summary", {}, title));
      let asked = false;
      details.addEventListener("toggle", async () => {
        if (!details.open || asked) return;
        asked = true;
        const data = await atlas.chunk(this.page.data, key);
        const ids = data.cells[data.columns.findIndex((each) => each.name === column)];
        const rows = ids.flatMap((value, row) => (value === id ? [row] : []));
        const part = { columns: data.columns, cells: data.cells.map((cells) => rows.map((row) => cells[row])) };
        details.append(rows.length ? new DataTable(part, title).element : atlas.make("p", { class: "reason" }, "None in this tensor."));
      });
      content.append(details);
    }
  }
}

function ordinal(number) {
  const teen = number % 100 > 10 && number % 100 < 14;
  return number === 1 ? "the" : `${number}${teen ? "th" : ["th", "st", "nd", "rd"][number % 10] ?? "th"}`; // codespell:ignore
}

function beyond({ below, above, mean, std, min, max }) {
  const parts = [];
  if (below) parts.push(`${below.toLocaleString("en")} below, down to ${atlas.written(min)} (${atlas.written((min - mean) / std, ".3g")} standard deviations)`);
  if (above) parts.push(`${above.toLocaleString("en")} above, up to ${atlas.written(max)} (${atlas.written((max - mean) / std, ".3g")} standard deviations)`);
  return parts.length ? `Beyond the drawing: ${parts.join("; ")}.` : "";
}

// The two pictures of a matrix: mean and largest magnitude of its cells.
function picture(drawn, stars) {
  const figure = atlas.make("figure", {}, atlas.make("figcaption", {}, `The matrix in cells of ${drawn.rows} × ${drawn.cols}: largest magnitude, mean`));
  const pair = atlas.make("div", { class: "pair" });
  const marks = stars.map((star) => [star.column / drawn.cols, star.row / drawn.rows]);
  const draw = () => pair.replaceChildren(
    image(drawn, bytes(drawn.largest), sequential(), marks, `Largest magnitude, from ${atlas.written(drawn.largest_range[0], ".2g")} to ${atlas.written(drawn.largest_range[1], ".3g")}, on a log scale`),
    image(drawn, bytes(drawn.mean), colours(), marks, `Mean, to ±${atlas.written(drawn.mean_scale, ".2g")}`),
  );
  draw();
  atlas.onTheme(() => figure.isConnected && draw());
  figure.append(pair);
  return figure;
}

function bytes(data) {
  return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
}

function image({ width, height }, values, palette, marks, label) {
  const canvas = atlas.make("canvas", { width, height, role: "img", "aria-label": label, title: label, class: "thumbnail" });
  canvas.style.aspectRatio = `${Math.max(width, height / 2.5)} / ${Math.max(height, width / 2.5)}`;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, i) => pixels.data.set([...palette[value].match(/\d+/g).map(Number), 255], 4 * i));
  context.putImageData(pixels, 0, 0);
  const framed = atlas.make("div", { class: "framed" }, canvas);
  for (const [x, y] of marks) {
    const mark = atlas.make("span", { class: "star", title: "super weight" }, "★");
    mark.style.left = `${(100 * (x + 0.5)) / width}%`;
    mark.style.top = `${(100 * (y + 0.5)) / height}%`;
    framed.append(mark);
  }
  return atlas.make("div", {}, framed, atlas.make("p", { class: "quietly" }, label));
}

// From the paper to the ink of the theme, through its accent.
function sequential() {
  const ends = ["paper", "accent", "ink"].map((name) => rgb(atlas.colour(name)));
  return Array.from({ length: 256 }, (_, number) => {
    const place = (number / 255) * 2;
    const part = Math.min(1, Math.floor(place));
    return `rgb(${ends[part].map((from, i) => Math.round(from + (ends[part + 1][i] - from) * (place - part)))})`;
  });
}
