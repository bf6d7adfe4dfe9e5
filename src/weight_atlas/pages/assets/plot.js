// A chart of a section: the rows of one of its tables, of which number and parts can be chosen.
"use strict";

class Plot {
  // about: what charts.py says of it; data: the table's {columns, cells}.
  constructor(figure, about, data) {
    Object.assign(this, { figure, about });
    this.columns = new Map(data.columns.map((column, number) => [column.name, { ...column, values: data.cells[number] }]));
    this.count = data.cells[0]?.length ?? 0;
    this.role = about.value ? "value" : "y";
    this.drawn = { x: about.x, y: about.y, value: about.value };
    this.parts = {};
    this.controls = atlas.make("div", { class: "bar" });
    this.caption = atlas.make("figcaption");
    this.legend = atlas.make("p", { class: "legend" });
    this.note = atlas.make("p", { class: "quietly" });
    this.holder = atlas.make("div", { class: "drawing" });
    figure.replaceChildren(this.caption, this.controls, this.legend, this.holder, this.note);
  }

  async draw() {
    const rows = this.split();
    this.choices();
    const made = plots[this.about.kind](this, rows);
    const title = this.title();
    this.caption.replaceChildren(...title);
    this.holder.dataset.label = this.caption.textContent;
    this.legend.replaceChildren(...(made?.legend ?? []));
    this.note.textContent = made ? [made.note, ...this.said()].filter(Boolean).join(" ") : "There is no number to draw.";
    this.note.hidden = !this.note.textContent;
    this.holder.hidden = !made;
    if (made) await atlas.chart(this.holder, made.specification, { marks: made.marks });
    this.figure.dataset.drawn = [this.number.name, ...Object.values(this.parts)].join(" ");
    if (!made) return;
    this.holder.view.addEventListener("click", (_, item) => item?.datum?.row !== undefined && this.follow(item.datum.row));
  }

  column(name) {
    return this.columns.get(name);
  }

  get number() {
    return this.column(this.drawn[this.role] ?? this.about.several?.[0]);
  }

  // What is drawn, for an axis: where the rows are of several metrics, such as a task's, also which.
  measured() {
    const { label, title, name } = this.number;
    const { metric } = this.parts;
    return `${label ?? title ?? name.replaceAll("_", " ")}${typeof metric === "string" ? `: ${shown(metric)}` : ""}`;
  }

  // The rows of the chosen parts; a select for each column that has several values among those before it.
  split() {
    let rows = Array.from({ length: this.count }, (_, row) => row);
    for (const name of this.about.split ?? []) {
      const { values } = this.column(name);
      const there = [...new Set(rows.map((row) => values[row]))];
      if (!(name in this.parts) || !there.includes(this.parts[name])) this.parts[name] = this.first(name, there, rows);
      this.select(name, name.replaceAll("_", " "), there.map((value) => (value === null ? "none" : typeof value === "boolean" ? (value ? "yes" : "no") : String(value))), there.indexOf(this.parts[name]), (place) => (this.parts[name] = there[place]));
      rows = rows.filter((row) => values[row] === this.parts[name]);
    }
    return rows;
  }

  // The part to begin with: the chart's own, or one in which the number moves within a line, or one that has numbers.
  first(name, there, rows) {
    const { values } = this.column(name);
    const lines = this.column(this.about.by)?.values;
    const moves = (part) => {
      const before = new Map();
      return rows.some((row) => {
        const value = finite(this.number?.values[row]);
        if (values[row] !== part || Number.isNaN(value)) return false;
        if (!before.has(lines?.[row])) before.set(lines?.[row], value);
        return before.get(lines?.[row]) !== value;
      });
    };
    const has = (part) => rows.some((row) => values[row] === part && !Number.isNaN(finite(this.number?.values[row])));
    for (const wanted of [(part) => part === this.about.first?.[name], moves, has]) {
      const place = there.findIndex(wanted); // a part may be null, of rows that have none
      if (place >= 0) return there[place];
    }
    return there[0];
  }

  choices() {
    const found = this.about.choose ?? [];
    const axes = this.about.kind === "points" && found.includes(this.about.x) ? ["x", "y"] : [this.role];
    for (const axis of axes) this.select(`the ${axis}`, axes.length > 1 ? { x: "across", y: "up" }[axis] : "number", found.map((name) => this.column(name).title ?? name), found.indexOf(this.drawn[axis]), (place) => (this.drawn[axis] = found[place]));
  }

  select(key, label, texts, chosen, take) {
    this.selects ??= new Map();
    if (!this.selects.has(key)) {
      const element = atlas.make("select");
      this.selects.set(key, { element, label: atlas.make("label", {}, `${label} `, element) });
      this.controls.append(this.selects.get(key).label);
    }
    const { element, label: whole } = this.selects.get(key);
    whole.hidden = texts.length < 2;
    if (element.texts?.join("\n") !== texts.join("\n")) element.replaceChildren(...texts.map((text, place) => atlas.make("option", { value: place }, text)));
    element.texts = texts;
    element.value = String(chosen);
    element.onchange = () => {
      take(Number(element.value));
      this.draw();
    };
    this.controls.hidden = ![...this.controls.children].some((each) => !each.hidden);
  }

  title() {
    const named = (column) => (column.metric ? atlas.definition(column.metric, column.title) : (column.title ?? column.name).replaceAll("_", " "));
    const { kind, x, y, several } = this.about;
    if (several) return ["Number by ", x];
    if (kind === "tree") return ["Tree of ", named(this.number)];
    if (kind === "heat") return [named(this.number), ` by ${y.replaceAll("_", " ")} and ${x.replaceAll("_", " ")}`];
    if (kind === "histogram") return ["Distribution of ", named(this.number)];
    if (kind === "bars") return [named(this.number), ` by ${(this.about.label ?? []).map((name) => (/^id(_[ab])?$/.test(name) ? "tensor" : name.replaceAll("_", " "))).join(", ")}`];
    return [named(this.number), kind === "points" ? " against " : " by ", named(this.column(this.drawn.x))];
  }

  said() {
    return this.about.rows < this.about.of ? [`Drawn from the ${this.about.rows.toLocaleString("en")} rows of ${this.about.of.toLocaleString("en")} that tell most.`] : [];
  }

  // What a row is called: "layer 1 · mlp.down_proj · row 7".
  named(row, columns = this.about.label) {
    const words = (columns ?? []).map((name) => [name, this.column(name).values[row]]).filter(([, value]) => value !== null && value !== "");
    return words.map(([name, value]) => shown(typeof value === "number" || typeof value === "boolean" ? `${name.replaceAll("_", " ")} ${value}` : value, 120)).join(" · ");
  }

  // The null of a row's number, or what the chart names beside it.
  base(row) {
    const { null: null_, name } = this.number;
    const beside = name === (this.about.value ?? this.about.y) && this.about.beside ? this.about.beside : null_;
    return typeof beside === "number" ? beside : finite(this.column(beside)?.values[row]);
  }

  // A click on a mark leads to its cell of the map, where there is one.
  follow(row) {
    const { cell } = this.about;
    const at = (name) => this.column(name)?.values[row] ?? "";
    const where = [at("stack"), at("component")].filter(Boolean).join(" ");
    const named = cell ? [`layer ${at("layer")} ${cell} ${at(cell)}`] : [at("id") || at("id_a") || at("tensor")];
    if (cell && where) named.push(`${where} ${named[0]}`);
    atlas.follow?.(cell || "tensor", this.number.metric, at("circuit") || at("scheme"), named);
  }
}

function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : NaN;
}

// Texts of others in a drawing: what turns the line round or cannot be seen, by its number.
function shown(value, most = 60) {
  const text = String(value).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/g, (each) => `U+${each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
  return text.length > most ? `${text.slice(0, most - 2)}…` : text;
}
