// The page over all models: their table, any metric by relative depth, and numbers against each other.
"use strict";

(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  atlas.sections(page.data);
  document.getElementById("table").append(new DataTable(page.table, "Models").element);
  const options = page.metrics.map((metric) => ({ ...metric, words: `${metric.title} ${metric.group} ${metric.id}`.toLowerCase() }));
  const state = atlas.state();
  const drawings = [];
  if (page.models.length) drawings.push(byDepth());
  if (page.models.length > 1) drawings.push(scatter());
  Promise.all(drawings).then(() => (document.documentElement.dataset.ready = "yes"));

  function picker(name, chosen) {
    return new Picker(document.getElementById(`${name}-metric`), document.getElementById(`${name}-metrics`), options, chosen);
  }

  function first(...names) {
    return names.find((name) => options.some((option) => option.id === name)) ?? options[0]?.id;
  }

  async function byDepth() {
    const role = document.getElementById("depth-role");
    const boxes = [...document.querySelectorAll("#chosen input")];
    if (state.models) for (const box of boxes) box.checked = state.models.split(",").includes(box.value);
    let metric = first(state.metric, "effective_rank.erank_relative", "weight_statistics.kurtosis");
    const list = picker("depth", (id) => {
      metric = id;
      draw(true);
    });
    list.set(metric);
    role.addEventListener("change", () => draw(true));
    for (const box of boxes) box.addEventListener("change", () => draw(true));
    await draw(false);

    async function draw(remember) {
      const chosen = page.models.filter((model) => !boxes.length || boxes.some((box) => box.checked && box.value === model.name));
      const profiles = await Promise.all(chosen.map(async (model) => ({ model, profile: await atlas.chunk(model.data, "profile").catch(() => ({})) })));
      const found = profiles.filter(({ profile }) => profile.values?.[metric]);
      const roles = [...new Set(found.flatMap(({ profile }) => withValues(profile, metric)))];
      const kept = role.value;
      role.replaceChildren(atlas.make("option", { value: "" }, "all roles, median"), ...roles.map((name) => atlas.make("option", { value: name }, name)));
      role.value = roles.includes(kept) ? kept : "";
      const points = found.flatMap(({ model, profile }) => line(model.name, profile, metric, role.value));
      const holder = document.getElementById("depth-chart");
      const title = options.find((option) => option.id === metric).title;
      holder.dataset.label = `${title} by relative depth`;
      await atlas.chart(holder, () => ({
        height: 260,
        data: { values: points },
        mark: { type: "line", point: { filled: true, size: 26 }, strokeWidth: 1.7 },
        encoding: {
          x: { field: "depth", type: "quantitative", title: "relative depth", scale: { domain: [0, 1] }, axis: { tickCount: 5 } },
          y: { field: "value", type: "quantitative", title, scale: { zero: false } },
          color: { field: "model", type: "nominal", title: null, sort: null },
          tooltip: [{ field: "model" }, { field: "layer" }, { field: "value", format: ".4g" }],
        },
      }));
      if (remember) atlas.remember({ metric, models: boxes.length ? chosen.map((model) => model.name).join(",") : "" });
    }
  }

  // The points whose names have room beside those of the points before; a legend names the others.
  function apart(points) {
    const [wide, high] = ["x", "y"].map((axis) => Math.max(...points.map((point) => point[axis])) - Math.min(...points.map((point) => point[axis])) || 1);
    return points.reduce((kept, point) => (kept.some((other) => Math.abs(other.x - point.x) < 0.12 * wide && Math.abs(other.y - point.y) < 0.07 * high) ? kept : [...kept, point]), []);
  }

  function layersOf(profile) {
    return profile.columns.flatMap((name, column) => (Number.isInteger(Number(name)) ? [{ layer: Number(name), column }] : []));
  }

  function withValues(profile, metric) {
    const values = atlas.unpack(profile.values[metric]);
    const layers = layersOf(profile);
    return profile.rows.filter((_, row) => layers.some(({ column }) => !Number.isNaN(values[row * profile.columns.length + column])));
  }

  function line(model, profile, metric, role) {
    const values = atlas.unpack(profile.values[metric]);
    const layers = layersOf(profile);
    const most = Math.max(...layers.map(({ layer }) => layer), 1);
    return layers.flatMap(({ layer, column }) => {
      const found = profile.rows.flatMap((name, row) => (!role || name === role ? [values[row * profile.columns.length + column]] : [])).filter(Number.isFinite);
      return found.length ? [{ model, layer, depth: layer / most, value: atlas.median(found.sort((a, b) => a - b)) }] : [];
    });
  }

  async function scatter() {
    const axes = { x: first(state.x, "effective_rank.erank_relative"), y: first(state.y, "weight_statistics.kurtosis") };
    for (const axis of ["x", "y"])
      picker(axis, (id) => {
        axes[axis] = id;
        draw(true);
      }).set(axes[axis]);
    await draw(false);

    async function draw(remember) {
      const points = page.models.map(({ name }) => ({ model: name, x: page.numbers[name][axes.x], y: page.numbers[name][axes.y] })).filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
      const title = (axis) => options.find((option) => option.id === axes[axis]).title;
      const holder = document.getElementById("scatter-chart");
      holder.dataset.label = `${title("y")} against ${title("x")}`;
      const along = (axis) => ({ field: axis, type: "quantitative", title: title(axis), scale: { zero: false, padding: 24 }, axis: { tickCount: 6 } });
      const encoding = { x: along("x"), y: along("y") };
      const named = apart(points);
      await atlas.chart(holder, () => ({
        height: 300,
        data: { values: points },
        encoding,
        layer: [
          { mark: { type: "point", filled: true, size: 70, opacity: 0.9 }, encoding: { color: { field: "model", type: "nominal", sort: null, legend: named.length < points.length ? { title: null, symbolLimit: 24 } : null }, tooltip: [{ field: "model" }, { field: "x", format: ".4g", title: title("x") }, { field: "y", format: ".4g", title: title("y") }] } },
          { data: { values: named }, mark: { type: "text", dy: -11, fontSize: 11, color: atlas.colour("ink-2") }, encoding: { text: { field: "model" } } },
        ],
      }));
      if (remember) atlas.remember(axes);
    }
  }
})();
