// The metrics of a page: their numbers, and how unusual each is, which is what colours mean.
"use strict";

class Metrics {
  constructor(page) {
    this.page = page;
    this.all = page.metrics;
    this.byId = new Map(page.metrics.map((metric) => [`${metric.grid}/${metric.id}`, metric]));
    this.grids = new Map(page.grids.map((grid) => [grid.kind, grid]));
    this.numbers = new Map();
  }

  find(id) {
    return this.all.find((metric) => metric.id === id);
  }

  // {values, nulls}: one a cell; nulls is null for a metric without.
  async of(metric) {
    const key = `${metric.grid}/${metric.id}`;
    if (!this.numbers.has(key)) {
      const chunk = await atlas.chunk(this.page.data, `metrics/${metric.chunk}`);
      const { v, n } = chunk[key];
      const values = atlas.unpack(v);
      let nulls = null;
      if (n !== undefined) {
        const one = n === "inf" ? Infinity : n === "-inf" ? -Infinity : n;
        nulls = typeof one === "number" ? new Float64Array(values.length).fill(one) : atlas.unpack(n);
      }
      this.numbers.set(key, { values, nulls });
    }
    return this.numbers.get(key);
  }

  // {score: from -1 to 1 a cell (NaN for none), from: "null" or "role", full: what the ends of the colours mean}.
  async scores(metric) {
    const { values, nulls } = await this.of(metric);
    return againstNull(metric, values, nulls) ?? withinRoles(metric, values, this.grids.get(metric.grid).cells.row);
  }

  // Place of each cell among those of its row, the largest first: {rank, of}.
  async rank(metric, cell) {
    const { values } = await this.of(metric);
    const rows = this.grids.get(metric.grid).cells.row;
    let rank = 1;
    let of = 0;
    for (let i = 0; i < values.length; i++) {
      if (rows[i] !== rows[cell] || Number.isNaN(values[i])) continue;
      of++;
      if (values[i] > values[cell]) rank++;
    }
    return { rank, of };
  }
}

// Distances from the null: as factors where the metric is on a log scale. Colours are full at the 98th percentile of
// all distances, but never for less than a tenth of the null: noise stays pale.
function againstNull(metric, values, nulls) {
  if (nulls === null) return null;
  const factors = metric.scale === "log";
  const distance = new Float64Array(values.length);
  const sizes = [];
  const bases = [];
  for (let i = 0; i < values.length; i++) {
    const [value, base] = [values[i], nulls[i]];
    distance[i] = factors ? Math.log(value / base) : value - base;
    if (base === Infinity) distance[i] = value === Infinity ? 0 : -Math.log1p(1000 / value);
    if (Number.isFinite(distance[i])) sizes.push(Math.abs(distance[i]));
    if (Number.isFinite(base)) bases.push(Math.abs(base));
  }
  if (!sizes.length) return null;
  const sorted = Float64Array.from(sizes).sort();
  const least = factors ? Math.log(1.1) : atlas.median(Float64Array.from(bases).sort()) / 10 || 0;
  const most = Math.max(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.98))], least) || sorted.at(-1) || 1;
  const score = distance.map((each) => (Number.isNaN(each) ? NaN : Math.max(-1, Math.min(1, each / most))));
  const full = bases.length
    ? factors ? `×${atlas.written(Math.exp(most), ".3g")} the null` : `${atlas.written(most, ".3g")} from the null`
    : "far from the null";
  return { score, from: "null", full };
}

// Robust z within the role: distance from the median in 1.4826 median absolute deviations, full at 6.
function withinRoles(metric, values, rows) {
  const logarithmic = metric.scale === "log";
  const of = (value) => (logarithmic ? Math.log(value) : value);
  const byRow = new Map();
  for (let i = 0; i < values.length; i++) {
    const value = of(values[i]);
    if (!Number.isFinite(value)) continue;
    if (!byRow.has(rows[i])) byRow.set(rows[i], []);
    byRow.get(rows[i]).push(value);
  }
  const scale = new Map();
  for (const [row, found] of byRow) {
    if (found.length < 4) continue;
    const middle = atlas.median(Float64Array.from(found).sort()); // typed arrays sort numbers as numbers, and fast
    const apart = Float64Array.from(found, (value) => Math.abs(value - middle)).sort();
    scale.set(row, [middle, 1.4826 * atlas.median(apart) || 1.2533 * (apart.reduce((a, b) => a + b, 0) / apart.length)]);
  }
  const score = new Float64Array(values.length).fill(NaN);
  for (let i = 0; i < values.length; i++) {
    const value = of(values[i]);
    if (!scale.has(rows[i]) || !Number.isFinite(value)) continue;
    const [middle, spread] = scale.get(rows[i]);
    score[i] = spread ? Math.max(-1, Math.min(1, (value - middle) / spread / 6)) : 0;
  }
  return { score, from: "role", full: "6 robust standard deviations" };
}
