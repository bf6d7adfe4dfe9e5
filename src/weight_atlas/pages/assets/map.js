// The map: cells on a canvas, coloured by scores, with marks; it is walked by pointer and by arrow keys.
"use strict";

class GridMap {
  // chosen(cell, open): a cell is looked at, or its card is asked for; over(cell, event): the pointer is on it, or none.
  constructor(canvas, { chosen, over }) {
    this.canvas = canvas;
    this.tell = { chosen, over };
    this.cell = -1;
    this.scores = null;
    this.marks = new Map();
    this.stars = new Set();
    canvas.addEventListener("pointermove", (event) => this.tell.over(this.at(event), event));
    canvas.addEventListener("pointerleave", (event) => this.tell.over(-1, event));
    canvas.addEventListener("click", (event) => {
      const cell = this.at(event);
      if (cell >= 0) this.select(cell, true);
    });
    canvas.addEventListener("keydown", (event) => this.walk(event));
    canvas.addEventListener("focus", () => this.cell < 0 && this.grid && this.select(0, false));
    this.frame = canvas.closest(".mapview");
    new ResizeObserver(() => this.grid && this.room() !== this.laid && this.layout()).observe(this.frame);
    atlas.onTheme(() => this.draw());
  }

  show(grid, marks = [], stars = []) {
    this.grid = grid;
    this.marks = new Map(marks.map((mark) => [mark.cell, mark]));
    this.stars = new Set(stars.map((star) => star.cell));
    this.cell = -1;
    this.scores = null;
    this.places();
    this.layout();
  }

  // Which cells lie where: by row and column, and a cell's place among those at the same one.
  places() {
    const { row, column } = this.grid.cells;
    this.at_ = new Map();
    this.most = new Array(this.grid.rows.length).fill(1);
    this.part = new Int32Array(row.length);
    for (let i = 0; i < row.length; i++) {
      const key = row[i] * this.grid.columns.length + column[i];
      if (!this.at_.has(key)) this.at_.set(key, []);
      const here = this.at_.get(key);
      this.part[i] = here.length;
      here.push(i);
      this.most[row[i]] = Math.max(this.most[row[i]], here.length);
    }
  }

  room() {
    const style = getComputedStyle(this.frame);
    return this.frame.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  }

  layout() {
    const room = this.room();
    this.laid = room;
    const columns = this.grid.columns.length;
    const narrow = room < 600;
    const longest = Math.max(...this.grid.rows.map((row) => row.label.length));
    this.left = Math.min(narrow ? 92 : 190, 18 + longest * (narrow ? 5.6 : 6.6));
    this.wide = Math.max(5, Math.min(64, Math.floor((room - this.left - 2) / columns)));
    this.top = 20;
    let y = this.top;
    let group = null;
    this.rows = this.grid.rows.map((row, number) => {
      if (row.group !== group) {
        y += group === null ? 0 : 12;
        group = row.group;
      }
      const experts = this.most[number];
      const across = experts > 1 ? Math.max(1, Math.min(Math.floor(this.wide / 4), Math.ceil(experts / 48))) : 1;
      const down = Math.ceil(experts / across);
      const high = experts > 1 ? Math.max(3, Math.min(12, Math.floor(240 / down))) : row.tall ? this.tall() : 12;
      const place = { y, across, down, high, height: down * high };
      y += place.height + (experts > 1 ? 4 : 0);
      return place;
    });
    this.boxes = new Float32Array(4 * this.grid.cells.row.length); // placed once: recolouring only fills them
    for (let i = 0; i < this.grid.cells.row.length; i++) this.boxes.set(this.placed(i), 4 * i);
    this.width = this.left + columns * this.wide + 2;
    this.height = y + 4;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    this.draw();
  }

  tall() {
    const rows = this.grid.rows.filter((row) => row.tall).length;
    return Math.max(9, Math.min(26, Math.floor(520 / rows)));
  }

  box(cell) {
    return this.boxes.subarray(4 * cell, 4 * cell + 4);
  }

  // x, y, width, height of a cell; without the gap to the next one.
  placed(cell) {
    const { row, column } = this.grid.cells;
    const place = this.rows[row[cell]];
    const part = this.part[cell];
    const wide = this.wide / place.across;
    const x = this.left + column[cell] * this.wide + Math.floor(part / place.down) * wide;
    const y = place.y + (part % place.down) * place.high;
    return [x, y, wide - (wide > 6 ? 1.5 : wide > 3 ? 0.5 : 0), place.high - (place.high > 7 ? 1.5 : place.high > 3 ? 0.5 : 0)];
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - this.left, event.clientY - box.top];
    const column = Math.floor(x / this.wide);
    const row = this.rows.findIndex((place) => y >= place.y && y < place.y + place.height);
    if (x < 0 || row < 0 || column >= this.grid.columns.length) return -1;
    const here = this.at_.get(row * this.grid.columns.length + column);
    if (!here) return -1;
    const place = this.rows[row];
    const across = Math.min(place.across - 1, Math.floor((x - column * this.wide) / (this.wide / place.across)));
    return here[across * place.down + Math.floor((y - place.y) / place.high)] ?? -1;
  }

  paint(scores) {
    this.scores = scores;
    this.draw();
  }

  draw() {
    if (!this.grid) return;
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.labels(context);
    const palette = colours();
    const empty = atlas.colour("cell-empty");
    const byColour = palette.map(() => []).concat([[]]);
    for (let i = 0; i < this.grid.cells.row.length; i++) {
      const score = this.scores ? this.scores[i] : NaN;
      byColour[Number.isNaN(score) ? palette.length : Math.round((score + 1) * 127.5)].push(4 * i);
    }
    // A colour after the other: to change it costs more than a cell.
    byColour.forEach((cells, number) => {
      context.fillStyle = palette[number] ?? empty;
      for (const at of cells) context.fillRect(this.boxes[at], this.boxes[at + 1], this.boxes[at + 2], this.boxes[at + 3]);
    });
    this.drawMarks(context);
    if (this.cell >= 0) this.ring(context, this.cell);
  }

  labels(context) {
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    context.fillStyle = atlas.colour("ink-2");
    context.textAlign = "right";
    let free = 0;
    this.grid.rows.forEach((row, number) => {
      const { y, height } = this.rows[number];
      const middle = y + Math.min(height, 40) / 2;
      if (middle < free) return;
      free = middle + 10.5;
      context.fillText(fitted(context, row.label, this.left - 8), this.left - 6, middle);
    });
    context.textAlign = "center";
    const every = Math.ceil(22 / this.wide);
    this.grid.columns.forEach((name, number) => {
      const layer = Number(name);
      if (Number.isInteger(layer) && layer % every) return;
      if (!Number.isInteger(layer) && this.wide < 14) return;
      context.fillText(name, this.left + (number + 0.5) * this.wide, 9);
    });
  }

  drawMarks(context) {
    for (const [cell, mark] of this.marks) {
      if (mark.grade === "info") continue; // most cells have one; tip and card say it
      const [x, y, width, height] = this.box(cell);
      context.beginPath();
      context.arc(x + width - 4, y + 4, Math.min(3.4, width / 3, height / 3), 0, 7);
      context.fillStyle = atlas.colour(mark.grade);
      context.fill();
      context.lineWidth = 1;
      context.strokeStyle = atlas.colour("paper");
      context.stroke();
    }
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.font = "12px sans-serif";
    for (const cell of this.stars) {
      const [x, y, width, height] = this.box(cell);
      context.lineWidth = 3;
      context.strokeStyle = atlas.colour("paper");
      context.strokeText("★", x + 2, y + height / 2);
      context.fillStyle = atlas.colour("ink");
      context.fillText("★", x + 2, y + height / 2);
    }
  }

  ring(context, cell) {
    const [x, y, width, height] = this.box(cell);
    context.lineWidth = 2;
    context.strokeStyle = atlas.colour("paper");
    context.strokeRect(x - 2.5, y - 2.5, width + 5, height + 5);
    context.strokeStyle = atlas.colour("ink");
    context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  }

  select(cell, open) {
    this.cell = cell;
    this.draw();
    if (cell >= 0) {
      const [x, , width] = this.box(cell);
      const scroller = this.canvas.parentElement;
      if (x < scroller.scrollLeft || x + width > scroller.scrollLeft + scroller.clientWidth)
        scroller.scrollLeft = x - scroller.clientWidth / 2;
    }
    this.tell.chosen(cell, open);
  }

  walk(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (this.cell >= 0) this.select(this.cell, true);
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      this.select(event.key === "Home" ? 0 : this.grid.cells.row.length - 1, false);
    } else if (steps[event.key]) {
      event.preventDefault();
      this.select(this.cell < 0 ? 0 : this.next(...steps[event.key]), false);
    }
  }

  // The nearest cell in a direction; along a strip of experts one after the other.
  next(down, right) {
    const { row, column } = this.grid.cells;
    const columns = this.grid.columns.length;
    const cell = this.cell;
    const here = this.at_.get(row[cell] * columns + column[cell]);
    if (down && here[this.part[cell] + down] !== undefined) return here[this.part[cell] + down];
    if (right) {
      for (let to = column[cell] + right; to >= 0 && to < columns; to += right) {
        const there = this.at_.get(row[cell] * columns + to);
        if (there) return there[Math.min(this.part[cell], there.length - 1)];
      }
      return cell;
    }
    for (let to = row[cell] + down; to >= 0 && to < this.grid.rows.length; to += down) {
      // The column's own cell, or the nearest of that row.
      for (let apart = 0; apart < columns; apart++) {
        for (const other of [column[cell] + apart, column[cell] - apart]) {
          const there = other >= 0 && other < columns && this.at_.get(to * columns + other);
          if (there) return down > 0 ? there[0] : there[there.length - 1];
        }
      }
    }
    return cell;
  }
}

function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  while (text.length > 3 && context.measureText(`${text}…`).width > room) text = text.slice(0, -1);
  return `${text}…`;
}

// 256 colours from below over the middle to above, of the theme.
function colours() {
  const ends = ["below-2", "below", "middle", "above", "above-2"].map((name) => rgb(atlas.colour(name)));
  return Array.from({ length: 256 }, (_, number) => {
    const place = (number / 255) * 4;
    const part = Math.min(3, Math.floor(place));
    const mixed = ends[part].map((from, i) => Math.round(from + (ends[part + 1][i] - from) * (place - part)));
    return `rgb(${mixed})`;
  });
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
