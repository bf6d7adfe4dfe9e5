// From a matrix's picture to its elements, where the page is served beside the weights: this layer's between its neighbours'.
"use strict";

atlas.elements = {
  served: () => document.cookie.split("; ").includes("weight_atlas_elements=1"),
  rows: 24,
  columns: 88,
};

class ElementView {
  // matrices: [{id, label}], one below the other; centre: in the middle one. stars: super weights by id; spread: of values.
  constructor(model, matrices, { stars, channels, spread }) {
    Object.assign(this, { model, matrices, stars, channels, spread });
    this.said = atlas.make("p", { class: "quietly", "aria-live": "polite" }, "Point at an element.");
    this.holder = atlas.make("div", { class: "elements" });
    const step = (rows, columns) => () => this.show(this.row + rows, this.column + columns);
    const { rows, columns } = atlas.elements;
    const moves = [["←", 0, -columns / 2, "left"], ["→", 0, columns / 2, "right"], ["↑", -rows / 2, 0, "up"], ["↓", rows / 2, 0, "down"]];
    const bar = atlas.make("div", { class: "bar" }, ...moves.map(([text, down, right, name]) => atlas.make("button", { type: "button", "aria-label": `Move ${name}`, onclick: step(down, right) }, text)));
    this.element = atlas.make("figure", {}, atlas.make("figcaption", {}, "Elements, beside those of the layers before and after"), bar, this.holder, this.said);
  }

  async show(row, column) {
    this.row = Math.max(0, Math.round(row));
    this.column = Math.max(0, Math.round(column));
    const windows = await Promise.all(this.matrices.map((matrix) => this.window(matrix)));
    const [own] = windows.filter(({ matrix }) => matrix.own);
    this.row = own.part.row;
    this.column = own.part.column;
    this.holder.replaceChildren(...windows.filter(({ part }) => part).map((each) => this.drawn(each)));
  }

  async window(matrix) {
    const { rows, columns } = atlas.elements;
    const query = new URLSearchParams({ model: this.model, id: matrix.id, row: this.row, column: this.column, rows, columns });
    const answer = await fetch(`/elements?${query}`);
    return { matrix, part: answer.ok ? await answer.json() : null };
  }

  drawn({ matrix, part }) {
    const values = atlas.unpack({ type: "f4", data: part.values });
    const scale = 4;
    const canvas = atlas.make("canvas", { width: part.columns, height: part.rows, role: "img", "aria-label": `${matrix.label}: elements from row ${part.row}, column ${part.column}`, "data-id": matrix.id });
    canvas.style.width = `${part.columns * scale}px`;
    const context = canvas.getContext("2d");
    const palette = colours().map((colour) => colour.match(/\d+/g).map(Number));
    const pixels = context.createImageData(part.columns, part.rows);
    values.forEach((value, i) => {
      const score = Number.isNaN(value) ? 0 : Math.max(-1, Math.min(1, value / (4 * this.spread || 1)));
      pixels.data.set([...palette[Math.round((score + 1) * 127.5)], 255], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * part.columns);
      const y = Math.floor(((event.clientY - box.top) / box.height) * part.rows);
      if (x < 0 || y < 0 || x >= part.columns || y >= part.rows) return;
      this.said.replaceChildren(...visible(matrix.id), ` [${part.row + y}, ${part.column + x}] = `, atlas.make("b", {}, atlas.written(values[y * part.columns + x])));
    });
    const framed = atlas.make("div", { class: "framed" }, canvas);
    for (const star of this.stars.filter((each) => each.id === matrix.id)) this.mark(framed, part, star.column - part.column, star.row - part.row, "★", "super weight");
    for (const { axis, channel } of this.channels) {
      if (!matrix.own) continue;
      if (axis === "col") this.mark(framed, part, channel - part.column, -0.9, "▾", `column ${channel} stands out`);
      else this.mark(framed, part, -0.9, channel - part.row, "▸", `row ${channel} stands out`);
    }
    return atlas.make("div", { class: matrix.own ? "own" : undefined }, atlas.make("p", { class: "quietly" }, matrix.label), framed);
  }

  mark(framed, part, x, y, text, title) {
    if (x < -1 || y < -1 || x >= part.columns || y >= part.rows) return;
    const mark = atlas.make("span", { class: "star", title }, text);
    mark.style.left = `${(100 * (x + 0.5)) / part.columns}%`;
    mark.style.top = `${(100 * (y + 0.5)) / part.rows}%`;
    framed.append(mark);
  }
}
