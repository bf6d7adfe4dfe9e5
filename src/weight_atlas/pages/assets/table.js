// Tables: sorted by a click on a heading, filtered by words, copied as CSV. Cells are texts, whatever they hold.
"use strict";

const FEW = 8; // columns up to which a row says all by itself

class DataTable {
  // data: {columns: [{name, title, metric, format, more, links}], cells: a list a column}; caption: what the rows are;
  // opened: is called with the name of a row whose card is opened.
  constructor(data, caption, { rows = 50, opened = () => {} } = {}) {
    this.opened = opened;
    this.columns = data.columns.map((column, number) => ({ ...column, values: data.cells[number] }));
    this.count = data.cells[0]?.length ?? 0;
    this.page = rows;
    this.limit = rows;
    this.all = !this.columns.some((column) => column.more);
    this.order = Array.from({ length: this.count }, (_, number) => number);
    this.sorted = null;
    this.caption = caption;
    this.body = atlas.make("tbody");
    this.head = atlas.make("tr");
    this.said = atlas.make("span", { class: "count", "aria-live": "polite" });
    this.more = atlas.make("button", { type: "button", class: "more", onclick: () => this.longer() });
    this.element = this.framed();
    this.fill();
  }

  framed() {
    const search = atlas.make("input", { type: "search", placeholder: "Filter", "aria-label": `Filter ${this.caption}`, oninput: () => this.filter(search.value) });
    const copy = atlas.make("button", { type: "button", onclick: () => this.copy(copy) }, "Copy as CSV");
    const columns = atlas.make("button", { type: "button", "aria-pressed": "false", onclick: () => {
      this.all = !this.all;
      columns.setAttribute("aria-pressed", String(this.all));
      this.fill();
    } }, "All columns");
    const bar = atlas.make("div", { class: "bar" }, this.count > 5 ? search : "", this.said, atlas.make("span", { class: "gap" }), this.all ? "" : columns, copy);
    const table = atlas.make("table", {}, atlas.make("caption", { class: "hidden" }, this.caption), atlas.make("thead", {}, this.head), this.body);
    const wrap = atlas.make("div", { class: "tablewrap", tabindex: "0", role: "region", "aria-label": this.caption }, table);
    return atlas.make("div", { class: "datatable" }, bar, wrap, this.more);
  }

  shown() {
    return this.columns.filter((column) => this.all || !column.more);
  }

  fill() {
    const columns = this.shown();
    this.head.replaceChildren(...columns.map((column) => this.heading(column)));
    this.rows();
  }

  heading(column) {
    const sort = this.sorted?.column === column ? (this.sorted.down ? "descending" : "ascending") : "none";
    const title = column.title && column.title !== column.name ? column.title : undefined;
    const button = atlas.make("button", { type: "button", title, onclick: () => this.sort(column) }, column.name.replaceAll("_", " "));
    const about = column.metric ? atlas.definition(column.metric, "?") : "";
    if (about) about.setAttribute("aria-label", `What ${column.name} is`);
    return atlas.make("th", { scope: "col", class: numeric(column) ? "number" : undefined, "aria-sort": sort }, button, about);
  }

  rows() {
    const columns = this.shown();
    const fragment = document.createDocumentFragment();
    for (const row of this.order.slice(0, this.limit)) {
      const line = atlas.make("tr", { "data-row": row }, ...columns.map((column) => cell(column, column.values[row])));
      if (this.columns.length > FEW) line.firstChild.prepend(this.opener(row, line));
      fragment.append(line);
    }
    this.body.replaceChildren(fragment);
    const left = this.order.length - Math.min(this.limit, this.order.length);
    this.more.hidden = left <= 0;
    this.more.textContent = `Show more rows (${left.toLocaleString("en")} left)`;
    this.said.textContent = this.order.length < this.count ? `${this.order.length.toLocaleString("en")} of ${this.count.toLocaleString("en")} rows` : "";
  }

  // A button before a row that opens its card below it: all that the table says of the row.
  opener(row, line) {
    const button = atlas.make("button", { type: "button", class: "opener", "aria-expanded": "false", "aria-label": "All of this row", onclick: () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      if (open) {
        line.after(atlas.make("tr", { class: "rowcard" }, atlas.make("td", { colspan: this.shown().length }, this.rowCard(row))));
        this.opened(this.names[row]);
      } else line.nextSibling.remove();
    } });
    return button;
  }

  // What each row is called in an address: its values in the fewest first columns that tell all rows apart.
  get names() {
    for (let n = 1; !this.named && n <= this.columns.length; n++) {
      const names = Array.from({ length: this.count }, (_, row) => this.columns.slice(0, n).map(({ values }) => values[row] ?? "").join("~"));
      if (n === this.columns.length || new Set(names).size === this.count) this.named = names;
    }
    return this.named;
  }

  // Opens the card of the row of a name; one that would lie far down comes first.
  show(name) {
    const row = this.names.indexOf(name);
    if (row < 0) return;
    const place = this.order.indexOf(row);
    if (place < 0 || place >= this.limit) {
      this.order = [row, ...this.order.filter((other) => other !== row)];
      this.rows();
    }
    const line = this.body.querySelector(`tr[data-row="${row}"]`);
    const opener = line.querySelector(".opener");
    if (opener?.getAttribute("aria-expanded") === "false") opener.click();
    line.scrollIntoView({ block: "center" });
  }

  rowCard(row) {
    const known = this.columns.filter((column) => column.values[row] !== null && column.values[row] !== "");
    return atlas.make("dl", { class: "facts" }, ...known.map((column) => {
      const value = column.values[row];
      const listed = listOf(value);
      const said = listed ? [atlas.make("ul", { class: "chips" }, ...listed.map((each) => atlas.make("li", {}, ...visible(each))))] : [...cell(column, value).childNodes];
      const name = column.name.replaceAll("_", " ");
      return atlas.make("div", { class: listed ? "wide" : undefined }, atlas.make("dt", { title: column.title }, column.metric ? atlas.definition(column.metric, column.title) : name), atlas.make("dd", {}, ...said));
    }));
  }

  longer() {
    this.limit += 10 * this.page;
    this.rows();
  }

  sort(column) {
    const down = this.sorted?.column === column ? !this.sorted.down : numeric(column);
    this.sorted = { column, down };
    const sign = down ? -1 : 1;
    this.order.sort((a, b) => sign * compared(column.values[a], column.values[b], sign) || a - b);
    this.limit = this.page;
    this.fill();
    [...this.head.children].find((th) => th.getAttribute("aria-sort") !== "none")?.querySelector("button").focus();
  }

  filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.texts ??= Array.from({ length: this.count }, (_, row) => this.columns.map((column) => column.values[row] ?? "").join("\u0000").toLowerCase());
    this.order = Array.from({ length: this.count }, (_, row) => row).filter((row) => words.every((word) => this.texts[row].includes(word)));
    if (this.sorted) {
      const { column, down } = this.sorted;
      const sign = down ? -1 : 1;
      this.order.sort((a, b) => sign * compared(column.values[a], column.values[b], sign) || a - b);
    }
    this.limit = this.page;
    this.rows();
  }

  csv() {
    const quoted = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const columns = this.shown();
    const lines = [columns.map((column) => quoted(column.name)), ...this.order.map((row) => columns.map((column) => quoted(column.values[row])))];
    return lines.map((line) => line.join(",")).join("\n") + "\n";
  }

  async copy(button) {
    const text = this.csv();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = atlas.make("textarea", { "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy as CSV"), 1500);
  }
}

function numeric(column) {
  column.numeric ??= column.values.every((value) => value === null || typeof value === "number" || value === "inf" || value === "-inf") && column.values.some((value) => value !== null);
  return column.numeric;
}

function cell(column, value) {
  if (value === null || value === undefined) return atlas.make("td");
  if (typeof value === "boolean") return atlas.make("td", {}, value ? "yes" : "no");
  if (numeric(column)) return atlas.make("td", { class: "number", title: typeof value === "number" ? String(value) : undefined }, atlas.said(value, column.format ?? (Number.isInteger(value) ? "," : ".4g")));
  const items = listOf(value);
  const text = items ? items.flatMap((item, place) => [place ? " · " : "", ...visible(item)]) : visible(value);
  const link = column.links?.[value];
  return atlas.make("td", { class: String(value).length > 44 ? "long" : undefined }, ...(link ? [atlas.make("a", { href: link }, ...text)] : text));
}

// The items of a list that a cell holds as JSON; null for any other text.
function listOf(value) {
  if (typeof value !== "string" || !value.startsWith("[") || !value.endsWith("]")) return null;
  try {
    return JSON.parse(value).flat();
  } catch {
    return null;
  }
}

// Texts of others, whole: control and direction characters are shown by their numbers, and nothing turns the line round.
function visible(value) {
  const parts = String(value).split(/([\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff])/);
  return parts.map((part, number) => {
    if (!part) return "";
    if (number % 2) return atlas.make("span", { class: "control" }, `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
    return atlas.make("bdi", {}, part);
  });
}

// Missing ones last, whichever way round.
function compared(a, b, sign) {
  const [noA, noB] = [a === null || a === undefined, b === null || b === undefined];
  if (noA || noB) return noA === noB ? 0 : noA ? sign : -sign;
  const [x, y] = [limit(a), limit(b)];
  if (typeof x === "number" && typeof y === "number") return x - y;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function limit(value) {
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;
}
