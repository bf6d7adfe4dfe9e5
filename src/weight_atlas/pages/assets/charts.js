// Charts as specifications of Vega-Lite, in the colours of the page.
"use strict";

// Draws a chart, anew when the theme changes; specification: a function, since colours are the theme's. Of many marks as
// pixels, since elements of the page would be slow.
atlas.chart = async (holder, specification, { width, marks = 0 } = {}) => {
  holder.classList.add("drawn");
  holder.specification = specification;
  holder.draw = async () => {
    await atlas.charts();
    holder.view?.finalize();
    const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: null, autosize: { type: "fit-x", contains: "padding" }, width: width ?? "container", ...holder.specification(), config: config() };
    const { view } = await vegaEmbed(holder, spec, { actions: false, renderer: marks > 2000 ? "canvas" : "svg", ast: true, logLevel: 1, tooltip: { theme: atlas.dark() ? "dark" : "light" } });
    holder.view = view;
    if (width === undefined) holders.observe(holder);
    const drawing = holder.querySelector("svg, canvas");
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", holder.dataset.label ?? "chart");
  };
  await holder.draw();
};

// Charts fit their holders, also where these change without the window.
const holders = new ResizeObserver((entries) => {
  const other = entries.filter(({ target, contentRect }) => Math.abs((target.fittedTo ?? contentRect.width) - contentRect.width) > 2);
  for (const { target, contentRect } of entries) target.fittedTo = contentRect.width;
  if (other.length) requestAnimationFrame(() => dispatchEvent(new Event("resize")));
});

atlas.onTheme(() => document.querySelectorAll(".drawn").forEach((holder) => holder.draw()));

function config() {
  const [ink, quiet, line] = ["ink", "ink-2", "line"].map(atlas.colour);
  return {
    font: getComputedStyle(document.body).fontFamily,
    axis: { labelColor: quiet, titleColor: quiet, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11, gridOpacity: 0.6 },
    legend: { labelColor: quiet, titleColor: quiet, labelFontSize: 11, titleFontSize: 11, symbolSize: 60 },
    title: { color: ink, fontSize: 12, anchor: "start", fontWeight: 600 },
    view: { stroke: null },
    range: { category: ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", atlas.dark() ? "#c9c9c9" : "#777777", "#ee8866", "#44bb99", "#9988dd"] },
  };
}

// The same colour for a role in every chart, in the order in which a forward pass meets them; null where words are no roles.
const ROLE_COLOURS = {
  W_E: "#44bb99", W_pos: "#999933", W_Q: "#4477aa", W_K: "#ee6677", W_V: "#228833", W_O: "#ccbb44", W_router: "#bb5588",
  W_gate: "#66ccee", W_up: "#aa3377", W_down: "#ee7733", W_U: "#9988dd", norm: "#777777", bias: "#aaaaaa",
};
const OTHERS = ["#777777", "#882255", "#117733", "#88ccee", "#ddaa33", "#332288"]; // of what is none of them
atlas.roleColours = (values) => {
  const there = new Set(values);
  const roles = Object.keys(ROLE_COLOURS).filter((role) => there.has(role));
  if (roles.length < there.size / 2) return null;
  const others = [...there].filter((word) => !(word in ROLE_COLOURS));
  return { domain: [...roles, ...others], range: [...roles.map((role) => ROLE_COLOURS[role]), ...others.map((_, place) => (place ? OTHERS[place % OTHERS.length] : atlas.colour("ink")))] };
};

// Ticks at whole numbers, few enough to read: at the numbers themselves where these are few.
atlas.wholeTicks = (values) => {
  const own = [...new Set(values)].sort((a, b) => a - b);
  if (own.length <= 8) return own;
  const [low, high] = [own[0], own.at(-1)];
  const size = 10 ** Math.max(0, Math.floor(Math.log10((high - low) / 10)));
  const step = [1, 2, 5, 10].map((each) => each * size).find((each) => (high - low) / each <= 10);
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, number) => first + number * step);
};

// A metric by layer, a line a role, with the null dashed.
atlas.depthChart = (points, nulls, metric) => () => {
  const y = { field: "value", type: "quantitative", title: metric.label, scale: metric.scale === "log" && points.every((p) => p.value > 0) ? { type: "log", nice: false } : { zero: false }, axis: { tickCount: 5 } };
  const x = { field: "layer", type: "quantitative", title: "layer", axis: { values: atlas.wholeTicks(points.map((point) => point.layer)), format: "d" } };
  const scale = atlas.roleColours(points.map((point) => point.role)) ?? undefined;
  const layers = [
    { data: { values: points }, mark: { type: "line", point: { filled: true, size: 28 }, strokeWidth: 1.6, tooltip: true }, encoding: { x, y, color: { field: "role", type: "nominal", title: null, sort: null, scale }, tooltip: [{ field: "role" }, { field: "layer" }, { field: "value", format: ".4g" }, { field: "null", format: ".4g" }] } },
  ];
  if (nulls.length) layers.unshift({ data: { values: nulls }, mark: { type: "line", strokeDash: [4, 3], strokeWidth: 1, opacity: 0.8 }, encoding: { x, y, detail: { field: "role" }, color: { field: "role", type: "nominal", sort: null, scale } } });
  return { height: 230, layer: layers };
};

// The values of a tensor, with the normal density of the same mean and spread.
atlas.valuesChart = ({ low, width, counts, n, mean, std }) => () => {
  const bars = counts.map((count, i) => ({ from: low + i * width, to: low + (i + 1) * width, count, floor: 0.5 })).filter((bar) => bar.count > 0);
  const normal = [];
  for (let i = 0; i <= 128; i++) {
    const x = low + (i / 128) * width * counts.length;
    const expected = ((n * width) / (std * Math.sqrt(2 * Math.PI))) * Math.exp(-(((x - mean) / std) ** 2) / 2);
    if (expected >= 0.5) normal.push({ x, expected });
  }
  const y = { type: "quantitative", scale: { type: "log", domainMin: 0.5, nice: false }, title: "elements", axis: { tickCount: 4, format: "~s" } };
  return {
    height: 130,
    layer: [
      { data: { values: bars }, mark: { type: "bar", color: atlas.colour("accent"), opacity: 0.75 }, encoding: { x: { field: "from", type: "quantitative", title: "value", scale: { zero: false, nice: false }, axis: { tickCount: 5 } }, x2: { field: "to" }, y: { field: "count", ...y }, y2: { field: "floor" }, tooltip: [{ field: "from", format: ".3g" }, { field: "to", format: ".3g" }, { field: "count", format: "," }] } },
      { data: { values: normal }, mark: { type: "line", color: atlas.colour("ink"), strokeDash: [4, 3], strokeWidth: 1.3 }, encoding: { x: { field: "x", type: "quantitative" }, y: { field: "expected", ...y } } },
    ],
  };
};

// Singular values by their place, with the edges of the Marchenko-Pastur law for a Gaussian matrix of the same energy.
atlas.spectrumChart = ({ place, sigma, rows, cols, frobenius, count }) => () => {
  const points = place.map((k, i) => ({ k, sigma: sigma[i] })).filter((point) => point.sigma > 0);
  const spread = frobenius / Math.sqrt(rows * cols);
  const edges = [
    { edge: spread * (Math.sqrt(rows) + Math.sqrt(cols)), what: "upper edge of a random matrix" },
    { edge: spread * Math.abs(Math.sqrt(rows) - Math.sqrt(cols)), what: "lower edge of a random matrix" },
  ].filter((each) => each.edge > Math.min(...points.map((point) => point.sigma)) / 2);
  const y = { type: "quantitative", title: "singular value", scale: { type: "log", nice: false }, axis: { tickCount: 4, format: "~g" } };
  return {
    height: 130,
    layer: [
      { data: { values: points }, mark: { type: "line", point: { size: 14, filled: true }, color: atlas.colour("accent"), strokeWidth: 1.4 }, encoding: { x: { field: "k", type: "quantitative", title: `place among ${count.toLocaleString("en")}`, scale: { type: "log", nice: false }, axis: { tickCount: 4, format: "~s" } }, y: { field: "sigma", ...y }, tooltip: [{ field: "k" }, { field: "sigma", format: ".4g" }] } },
      { data: { values: edges }, mark: { type: "rule", strokeDash: [4, 3], color: atlas.colour("ink") }, encoding: { y: { field: "edge", ...y }, tooltip: [{ field: "what" }, { field: "edge", format: ".4g" }] } },
    ],
  };
};

// A number of each scheme of rounding beside its null.
atlas.schemesChart = (rows, metric) => () => ({
  // A number, since Vega warns of a height by steps beside a width that fits.
  height: 15 * rows.length,
  data: { values: rows },
  encoding: { y: { field: "scheme", type: "nominal", sort: null, title: null, axis: { labelLimit: 150 } }, x: { type: "quantitative", title: metric.label } },
  layer: [
    { mark: { type: "bar", color: atlas.colour("accent"), opacity: 0.75, height: 9 }, encoding: { x: { field: "value", type: "quantitative" }, tooltip: [{ field: "scheme" }, { field: "value", format: ".4g" }, { field: "null", format: ".4g" }] } },
    { mark: { type: "tick", color: atlas.colour("ink"), thickness: 1.5, size: 13 }, encoding: { x: { field: "null", type: "quantitative" } } },
  ],
});

// The eigenvalues of a head's kernel in the complex plane.
atlas.eigenvaluesChart = ({ real, imaginary }) => () => {
  const most = Math.max(...real.map(Math.abs), ...imaginary.map(Math.abs)) || 1;
  const scale = { domain: [-most, most], nice: false };
  const points = real.map((x, i) => ({ x, y: imaginary[i], size: Math.hypot(x, imaginary[i]) }));
  return {
    width: 170,
    height: 170,
    autosize: "pad",
    data: { values: points },
    mark: { type: "point", filled: true, size: 26, opacity: 0.75, color: atlas.colour("accent") },
    encoding: { x: { field: "x", type: "quantitative", title: "real part", scale, axis: { tickCount: 3, format: "~g" } }, y: { field: "y", type: "quantitative", title: "imaginary part", scale, axis: { tickCount: 3, format: "~g" } }, tooltip: [{ field: "x", format: ".3g" }, { field: "y", format: ".3g" }] },
  };
};

// Share of the energy in the largest singular values of a head's kernel.
atlas.energyChart = ({ place, sigma }) => () => {
  const total = sigma.reduce((sum, value) => sum + value * value, 0) || 1;
  let sum = 0;
  const points = place.map((k, i) => ({ k, share: (sum += sigma[i] * sigma[i]) / total }));
  return {
    width: 170,
    height: 170,
    autosize: "pad",
    data: { values: points },
    mark: { type: "line", point: { size: 14, filled: true }, color: atlas.colour("accent") },
    encoding: { x: { field: "k", type: "quantitative", title: "singular values", axis: { tickCount: 4 } }, y: { field: "share", type: "quantitative", title: "share of the energy", scale: { domain: [0, 1] } } },
  };
};
