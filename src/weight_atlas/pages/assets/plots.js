// The kinds of charts that sections have, each as a specification of Vega-Lite from the rows of a table.
"use strict";

const MOST_POINTS = 3000;
const FAR = 50; // largest over least, from which on a log scale shows more
const MOST_LETTERS = 50; // of a name beside a bar
const ROOM = 6; // pixels between an axis and the marks at its end

const plots = (() => {
  // On a log scale what the registry says to, and what else would lie in one corner.
  const isLog = (column, values) => values.length > 0 && values.every((value) => value > 0) && (column.scale === "log" || Math.max(...values) > FAR * Math.min(...values));
  const quantitative = (column, values, more = {}) => ({
    type: "quantitative",
    title: column.label ?? column.title ?? column.name.replaceAll("_", " "),
    scale: isLog(column, values) ? { type: "log", nice: false, padding: ROOM } : { zero: false, padding: ROOM },
    axis: isLog(column, values) ? { tickCount: 5, format: "~g" } : { tickCount: 5 },
    ...more,
  });
  const across = (column, values) => (values.every(Number.isInteger) && !isLog(column, values) ? { axis: { values: atlas.wholeTicks(values), format: "d" } } : {});
  const narrow = () => innerWidth < 720;
  const isYesNo = ({ values = [] }) => values.some((value) => value !== null) && values.every((value) => value === null || typeof value === "boolean");
  const coloured = (column, values) => {
    const kinds = new Set(values).size;
    const ordered = values.every((value) => typeof value === "number") && kinds > 8;
    const legend = narrow() ? { orient: "bottom", columns: 3, symbolLimit: 24 } : { symbolLimit: 24 };
    const title = ordered || typeof values[0] !== "string" || isYesNo(column) ? column.name.replaceAll("_", " ") : null;
    const scale = isYesNo(column) ? { domain: ["yes", "no"], range: ["accent", "info"].map(atlas.colour) } : atlas.roleColours(values);
    if (scale) return { field: "by", type: "nominal", title, sort: null, scale, legend: kinds > 1 ? legend : null };
    return ordered
      ? { field: "by", type: "quantitative", title, scale: { range: ["below", "accent", "above-2"].map(atlas.colour) }, legend: { ...legend, gradientLength: 120 } }
      : { field: "by", type: "nominal", title, sort: null, legend: kinds > 1 ? legend : null };
  };
  const middle = (values) => atlas.median(Float64Array.from(values.filter(Number.isFinite)).sort());

  function lines(plot, rows, curve = false) {
    const [x, y, by] = [plot.column(plot.about.x), plot.number, plot.column(plot.about.by)];
    const groups = new Map();
    for (const row of rows) {
      const [place, value] = [x.values[row], finite(y.values[row])];
      if (place === null || Number.isNaN(value)) continue;
      const kind = by ? said(by.values[row]) : "";
      const key = `${kind}\n${place}`;
      if (!groups.has(key)) groups.set(key, { place, kind, rows: [] });
      groups.get(key).rows.push(row);
    }
    const points = [...groups.values()].map(({ place, kind, rows: own }) => {
      const [low, high] = (y.interval ?? []).map((name) => (own.length === 1 ? finite(plot.column(name)?.values[own[0]]) : NaN));
      return { x: place, by: kind, value: middle(own.map((row) => finite(y.values[row]))), null: middle(own.map((row) => plot.base(row))), low, high, rows: own.length, row: own[0] };
    });
    if (!points.length) return null;
    const numeric = points.every((point) => typeof point.x === "number");
    const places = new Set(points.map((point) => point.x)).size;
    const values = points.map((point) => point.value);
    const at = numeric ? { field: "x", ...quantitative(x, curve ? points.map((point) => point.x) : [], curve ? {} : across(x, points.map((point) => point.x))) } : { field: "x", type: "ordinal", sort: null, title: x.name.replaceAll("_", " ") };
    const up = quantitative({ ...y, label: plot.measured() }, values);
    const colour = by ? coloured(by, points.map((point) => point.by)) : { value: atlas.colour("accent") };
    const detail = by ? { detail: { field: "by" } } : {};
    const nulls = points.filter((point) => Number.isFinite(point.null) && (up.scale.type !== "log" || point.null > 0)).map((point) => ({ ...point, value: point.null }));
    const bands = points.filter((point) => Number.isFinite(point.low) && Number.isFinite(point.high));
    const line = { type: "line", strokeWidth: 1.6, tooltip: true, ...(places <= 60 && !curve ? { point: { filled: true, size: 26 } } : {}) };
    const tooltip = [{ field: "by", title: by?.name ?? "number" }, { field: "x", title: x.name }, { field: "value", format: ".4g" }, ...(nulls.length ? [{ field: "null", format: ".4g" }] : []), { field: "rows", title: "rows (their median)" }];
    const layer = [{ data: { values: points }, mark: line, encoding: { x: at, y: { field: "value", ...up }, color: colour, ...detail, tooltip } }];
    if (nulls.length) layer.unshift({ data: { values: nulls }, mark: { type: "line", strokeDash: [4, 3], strokeWidth: 1, opacity: 0.8 }, encoding: { x: at, y: { field: "value", ...up }, ...detail, color: colour } });
    if (bands.length && up.scale.type !== "log") layer.unshift({ data: { values: bands }, mark: { type: "errorband", opacity: 0.18 }, encoding: { x: at, y: { field: "low", ...up }, y2: { field: "high" }, ...detail, color: colour } });
    const dashed = nulls.length ? `Dashed: ${nullOf(plot)}.` : "";
    return { specification: () => ({ height: 230, layer }), note: dashed };
  }

  function said(value) {
    if (typeof value === "boolean") return value ? "yes" : "no";
    return value === null ? "none" : typeof value === "string" ? shown(value) : value;
  }

  // What the null of a number is, in words: a column of its table, or nothing, no effect, or what the registry says.
  function nullOf(plot) {
    const { null: null_, name } = plot.number;
    if (name === (plot.about.value ?? plot.about.y) && plot.about.beside) return plot.column(plot.about.beside)?.title ?? plot.about.beside;
    const title = plot.column(null_)?.title;
    return title ? `the null (${title})` : typeof null_ === "number" ? `the null (${atlas.written(null_)})` : "the null";
  }

  function heat(plot, rows) {
    const [x, y, column] = [plot.column(plot.about.x), plot.column(plot.about.y), plot.number];
    const cells = new Map();
    for (const row of rows) {
      if (x.values[row] === null || y.values[row] === null || Number.isNaN(finite(column.values[row]))) continue;
      const key = `${x.values[row]}\n${y.values[row]}`;
      if (!cells.has(key)) cells.set(key, []);
      cells.get(key).push(row);
    }
    if (!cells.size) return null;
    // What stands on an axis: the place, and what a column says of it, so that equal words keep places of their own.
    const at = (axis, column, row) => {
      const words = plot.column(plot.about.words?.[axis])?.values[row] ?? null;
      return words === null ? said(column.values[row]) : `${said(column.values[row])}  ${shown(words)}`;
    };
    const points = [...cells.values()].map((own) => ({ x: at("x", x, own[0]), y: at("y", y, own[0]), value: middle(own.map((row) => finite(column.values[row]))), null: middle(own.map((row) => plot.base(row))), name: plot.named(own[0]), row: own[0] }));
    const values = points.map((point) => point.value);
    const scores = points.every((point) => Number.isFinite(point.null)) ? againstNull(column, values, points.map((point) => point.null)) : null;
    const logarithmic = isLog(column, values);
    const of = (value) => (logarithmic ? Math.log(value) : value);
    const ranked = Float64Array.from(values).sort();
    // On a log scale a few numbers near nothing would take most of the colours.
    const [least, high] = [ranked[0], ranked.at(-1)];
    const low = logarithmic ? ranked[Math.floor(0.05 * ranked.length)] : least;
    points.forEach((point, i) => (point.score = scores ? scores.score[i] : Math.max(0, (of(point.value) - of(low)) / (of(high) - of(low) || 1))));
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : 0);
    const sorted = (name) => [...new Set(points.map((point) => point[name]))].sort((a, b) => (plot.about.words?.[name] ? parseFloat(a) - parseFloat(b) || 0 : order(a, b)));
    const tall = sorted("y");
    const axis = { labelOverlap: true, labelLimit: 150, labelAngle: 0, ticks: false, domain: false };
    const tooltip = [...(plot.about.label ? [{ field: "name", title: "of" }] : []), { field: "y", title: y.name }, { field: "x", title: x.name }, { field: "value", format: ".4g" }, ...(scores ? [{ field: "null", format: ".4g" }] : [])];
    const specification = () => ({
      // Words need the height of a line each, where there are not too many.
      height: Math.max(60, Math.min(26, Math.max(plot.about.words?.y && tall.length <= 60 ? 13 : 5, 420 / tall.length)) * tall.length),
      data: { values: points },
      mark: { type: "rect", tooltip: true, cursor: plot.about.cell ? "pointer" : undefined },
      encoding: {
        x: { field: "x", type: "ordinal", title: x.name.replaceAll("_", " "), sort: sorted("x"), axis },
        y: { field: "y", type: "ordinal", title: y.name.replaceAll("_", " "), sort: tall, axis },
        color: { field: "score", type: "quantitative", legend: null, scale: scores ? { interpolate: "rgb", domain: [-1, -0.5, 0, 0.5, 1], range: ["below-2", "below", "middle", "above", "above-2"].map(atlas.colour) } : { interpolate: "rgb", domain: [0, 0.5, 1], range: ["cell-empty", "accent", "ink"].map(atlas.colour) } },
        tooltip,
      },
    });
    const ends = scores
      ? [atlas.make("span", {}, "below"), atlas.make("span", { class: "ramp", "aria-hidden": "true" }), atlas.make("span", {}, "above"), atlas.make("span", { class: "quietly" }, `middle: ${nullOf(plot)}; full colour: ${scores.full}`)]
      : [atlas.make("span", {}, `${low > least ? "≤ " : ""}${atlas.said(low, column.format)}`), atlas.make("span", { class: "ramp plain", "aria-hidden": "true" }), atlas.make("span", {}, atlas.said(high, column.format)), atlas.make("span", { class: "quietly" }, logarithmic ? "log scale" : "")];
    return { specification, marks: points.length, legend: ends, note: plot.about.cell && atlas.follow ? "A click on a cell opens its card on the map." : "" };
  }

  function bars(plot, rows) {
    const column = plot.number;
    const by = plot.column(plot.about.by);
    const [lower, upper] = column.interval ?? [];
    let points = rows.map((row) => ({ name: plot.named(row) || `row ${row}`, value: finite(column.values[row]), null: plot.base(row), low: finite(plot.column(lower)?.values[row]), high: finite(plot.column(upper)?.values[row]), by: by ? said(by.values[row]) : "", row })).filter((point) => Number.isFinite(point.value));
    if (!points.length) return null;
    const counted = points.length;
    if (plot.about.one) points = largestOfEach(points, (point) => plot.about.one.map((name) => plot.column(name).values[point.row]).join("\n"));
    const all = points.length;
    if (plot.about.most && all > plot.about.most) points = points.sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, plot.about.most);
    const lead = /^[^:]+: /.exec(points[0].name)?.[0] ?? "";
    const cut = lead && points.length > 1 && points.every((point) => point.name.startsWith(lead)) ? lead.length : 0;
    const seen = new Map();
    for (const point of points) {
      point.name = point.name.slice(cut);
      if (narrow()) point.name = brief(point.name);
      else if (point.name.length > MOST_LETTERS) point.name = `${point.name.slice(0, MOST_LETTERS - 30)}…${point.name.slice(-29)}`;
      seen.set(point.name, (seen.get(point.name) ?? 0) + 1);
      if (seen.get(point.name) > 1) point.name += ` (${seen.get(point.name)})`;
    }
    const up = quantitative({ ...column, label: plot.measured() }, points.map((point) => point.value));
    const logarithmic = up.scale.type === "log";
    if (!logarithmic) up.scale = { zero: true };
    const least = logarithmic ? 0 : -Infinity;
    const bounds = points.filter((point) => point.low > least && Number.isFinite(point.high));
    const nulls = points.filter((point) => Number.isFinite(point.null) && point.null > least);
    const colour = by ? coloured(by, points.map((point) => point.by)) : { value: atlas.colour("accent") };
    const y = { field: "name", type: "nominal", sort: null, title: null, axis: { labelLimit: narrow() ? 160 : 340 } };
    const tooltip = [{ field: "name", title: "of" }, { field: "value", format: ".4g" }, ...(bounds.length ? [{ field: "low", format: ".4g" }, { field: "high", format: ".4g" }] : []), ...(nulls.length ? [{ field: "null", title: plot.about.beside ? "beside" : "null", format: ".4g" }] : [])];
    const layer = [{ data: { values: points }, mark: logarithmic ? { type: "point", filled: true, size: 55, opacity: 1 } : { type: "bar", height: { band: 0.7 }, opacity: 0.85 }, encoding: { y, x: { field: "value", ...up }, color: colour, tooltip } }];
    if (bounds.length) layer.push({ data: { values: bounds }, mark: { type: "rule", color: atlas.colour("ink"), strokeWidth: 1.2 }, encoding: { y, x: { field: "low", ...up }, x2: { field: "high" } } });
    if (nulls.length) layer.push({ data: { values: nulls }, mark: { type: "tick", color: atlas.colour("ink"), thickness: 1.5, size: 12 }, encoding: { y, x: { field: "null", ...up } } });
    const each = all < counted ? `, the largest of each ${plot.about.one.map((name) => (/^id(_[ab])?$/.test(name) ? "tensor" : name.replaceAll("_", " "))).join(" and ")}` : "";
    const parts = [points.length < all ? `The ${points.length} largest of ${all.toLocaleString("en")}${each}.` : each && `Of ${counted.toLocaleString("en")}${each}.`, nulls.length ? `Tick: ${nullOf(plot)}.` : "", bounds.length ? "Line: 95 % interval." : ""];
    return { specification: () => ({ height: 16 * points.length, layer }), note: parts.filter(Boolean).join(" ") };
  }

  // A name for a phone: of a tensor without what all of a model's layers begin with, then both ends, which tell it.
  function brief(name) {
    const short = name.replace(/\.weight\b/g, "").replace(/^([a-z_]+\.)*(layers?|h|blocks?)\.(?=\d)/, "");
    return short.length > 26 ? `${short.slice(0, 9)}…${short.slice(-16)}` : short;
  }

  // Of marks that are alike, the one farthest from nothing, in their order.
  function largestOfEach(points, of) {
    const best = new Map();
    for (const point of points) if (!(Math.abs(point.value) <= Math.abs(best.get(of(point))?.value))) best.set(of(point), point);
    return points.filter((point) => best.get(of(point)) === point);
  }

  function points(plot, rows) {
    const [x, y, by] = [plot.column(plot.drawn.x), plot.number, plot.column(plot.about.by)];
    let found = rows.map((row) => ({ x: finite(x.values[row]), y: finite(y.values[row]), null: plot.base(row), by: by ? said(by.values[row]) : "", name: plot.named(row), row })).filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
    if (!found.length) return null;
    const all = found.length;
    const step = Math.ceil(all / MOST_POINTS);
    if (step > 1) {
      const order = found.slice().sort((a, b) => Math.abs(b.y) - Math.abs(a.y));
      const most = new Set(order.slice(0, 200));
      found = found.filter((point, i) => i % step === 0 || most.has(point));
    }
    const up = quantitative(y, found.map((point) => point.y));
    const bases = found.filter((point) => Number.isFinite(point.null) && (up.scale.type !== "log" || point.null > 0));
    const nulls = [...new Map(bases.map((point) => [`${point.x}\n${point.null}`, { x: point.x, base: point.null }])).values()];
    const at = { field: "x", ...quantitative(x, found.map((point) => point.x), across(x, found.map((point) => point.x))) };
    const tooltip = [{ field: "name", title: "of" }, { field: "x", title: x.title ?? x.name, format: ".4g" }, { field: "y", title: y.title ?? y.name, format: ".4g" }, ...(nulls.length ? [{ field: "null", format: ".4g" }] : []), ...(by ? [{ field: "by", title: by.name }] : [])];
    const layer = [{ data: { values: found }, mark: { type: "point", filled: true, size: all > 300 ? 16 : 40, opacity: all > 300 ? 0.55 : 0.8, tooltip: true }, encoding: { x: at, y: { field: "y", ...up }, color: by ? coloured(by, found.map((point) => point.by)) : { value: atlas.colour("accent") }, tooltip } }];
    // One line for a null that all share, else a tick at each place.
    const shared = new Set(nulls.map((each) => each.base)).size === 1;
    if (shared) layer.unshift({ data: { values: nulls.slice(0, 1) }, mark: { type: "rule", color: atlas.colour("ink"), strokeDash: [4, 3], strokeWidth: 1 }, encoding: { y: { field: "base", ...up } } });
    else if (nulls.length) layer.unshift({ data: { values: nulls }, mark: { type: "tick", orient: "horizontal", color: atlas.colour("ink-2"), thickness: 1.5, size: 14 }, encoding: { x: at, y: { field: "base", ...up } } });
    const base = nulls.length ? `${shared ? "Dashed" : "Ticks"}: ${nullOf(plot)}.` : "";
    const specification = () => ({ height: 260, layer });
    return { specification, marks: found.length, note: [base, step > 1 ? `${found.length.toLocaleString("en")} of ${all.toLocaleString("en")} points are drawn, the extreme ones among them.` : ""].filter(Boolean).join(" ") };
  }

  function stack(plot, rows) {
    const { x: column, several, by } = plot.about;
    const x = plot.column(column);
    const sums = new Map();
    for (const row of rows)
      for (const name of several ?? [plot.about.y]) {
        const kind = several ? name : said(plot.column(by).values[row]);
        const at = x.values[row] === null ? `no ${column}` : x.values[row];
        const key = `${at}\n${kind}`;
        if (!sums.has(key)) sums.set(key, { x: at, by: kind, value: 0 });
        sums.get(key).value += finite(plot.column(name).values[row]) || 0;
      }
    if (!sums.size) return null;
    const found = [...sums.values()];
    const places = [...new Set(found.map((each) => each.x))].sort((a, b) => (typeof a === "number") - (typeof b === "number") || (typeof a === "number" ? a - b : 0)).reverse();
    const order = [...places.filter((each) => typeof each === "number").reverse(), ...places.filter((each) => typeof each !== "number")];
    const title = several ? "number" : plot.number.label ?? plot.number.title;
    return { specification: () => ({ height: 220, data: { values: found }, mark: { type: "bar", tooltip: true }, encoding: { x: { field: "x", type: "ordinal", sort: order, title: column, axis: { labelOverlap: true, labelAngle: 0 } }, y: { field: "value", type: "quantitative", title, axis: { tickCount: 5, format: "~s" } }, color: { ...coloured(plot.column(by) ?? { name: "kind" }, found.map((each) => each.by)) }, tooltip: [{ field: "x", title: column }, { field: "by", title: "of" }, { field: "value", format: "," }] } }) };
  }

  function histogram(plot, rows) {
    const [column, by] = [plot.number, plot.column(plot.about.by)];
    const values = rows.map((row) => [finite(column.values[row]), by ? said(by.values[row]) : ""]).filter(([value]) => Number.isFinite(value));
    if (!values.length) return null;
    const low = values.reduce((least, [value]) => Math.min(least, value), Infinity);
    const high = values.reduce((most, [value]) => Math.max(most, value), -Infinity);
    const wide = (high - low) / 80 || 1;
    const bins = new Map();
    for (const [value, kind] of values) {
      const place = Math.min(79, Math.floor((value - low) / wide));
      const key = `${place}\n${kind}`;
      if (!bins.has(key)) bins.set(key, { from: low + place * wide, to: low + (place + 1) * wide, by: kind, count: 0 });
      bins.get(key).count++;
    }
    const found = [...bins.values()];
    return { specification: () => ({ height: 200, data: { values: found.map((bin) => ({ ...bin, floor: 0.5 })) }, mark: { type: "bar", opacity: 0.7, tooltip: true }, encoding: { x: { field: "from", ...quantitative({ ...column, scale: "linear" }, []) }, x2: { field: "to" }, y: { field: "count", type: "quantitative", stack: null, title: "rows", scale: { type: "log", domainMin: 0.5, nice: false }, axis: { tickCount: 4, format: "~s" } }, y2: { field: "floor" }, color: by ? coloured(by, found.map((each) => each.by)) : { value: atlas.colour("accent") }, tooltip: [{ field: "from", format: ".4g" }, { field: "to", format: ".4g" }, { field: "count", format: "," }] } }) };
  }

  // Average linkage of the things that pairs of rows have distances of: nearest first, joined at their mean distance.
  function tree(plot, rows) {
    const [a, b, column] = [plot.column(plot.about.x), plot.column(plot.about.y), plot.number];
    const names = [...new Set(rows.flatMap((row) => [a.values[row], b.values[row]]))];
    const apart = new Map(rows.flatMap((row) => [[`${a.values[row]}\n${b.values[row]}`, finite(column.values[row])], [`${b.values[row]}\n${a.values[row]}`, finite(column.values[row])]]));
    let open = names.map((name) => ({ leaves: [name], at: 0 }));
    const distance = (one, other) => {
      const all = one.leaves.flatMap((first) => other.leaves.map((second) => apart.get(`${first}\n${second}`))).filter(Number.isFinite);
      return all.length ? all.reduce((sum, each) => sum + each, 0) / all.length : Infinity;
    };
    while (open.length > 1) {
      let best = [0, 1, Infinity];
      open.forEach((one, i) => open.slice(i + 1).forEach((other, j) => {
        const far = distance(one, other);
        if (far < best[2]) best = [i, i + 1 + j, far];
      }));
      if (!Number.isFinite(best[2])) break;
      const [i, j, at] = best;
      const joined = { leaves: [...open[i].leaves, ...open[j].leaves], parts: [open[i], open[j]], at };
      open = [...open.filter((_, place) => place !== i && place !== j), joined];
    }
    const leaves = open.flatMap((each) => each.leaves);
    const segments = [];
    const place = (node) => {
      if (!node.parts) return leaves.indexOf(node.leaves[0]);
      const [one, other] = node.parts.map(place);
      for (const [part, y] of [[node.parts[0], one], [node.parts[1], other]]) segments.push({ x: part.at, x2: node.at, y, y2: y, at: node.at });
      segments.push({ x: node.at, x2: node.at, y: one, y2: other, at: node.at });
      return (one + other) / 2;
    };
    open.forEach(place);
    if (!segments.length) return null;
    // Names as a value that an axis looks up: as part of its expression they would be code.
    const params = [{ name: "leaves", value: leaves.map((name) => shown(name)) }];
    const y = { field: "y", type: "quantitative", title: null, axis: { values: leaves.map((_, place) => place), labelExpr: "leaves[datum.value]", labelLimit: narrow() ? 110 : 220, labelFontSize: 12, grid: false, ticks: false, domain: false }, scale: { domain: [-0.5, leaves.length - 0.5], reverse: true } };
    const title = column.label ?? column.title;
    return { specification: () => ({ height: Math.max(70, 30 * leaves.length), params, layer: [
      { data: { values: segments }, mark: { type: "rule", strokeWidth: 1.6, color: atlas.colour("accent") }, encoding: { x: { field: "x", type: "quantitative", title, scale: { zero: true, nice: false } }, x2: { field: "x2" }, y, y2: { field: "y2" }, tooltip: [{ field: "at", title, format: ".4g" }] } },
    ] }), note: "Joined where they are alike: at the mean of the distances between the models of both sides." };
  }

  return { lines, curve: (plot, rows) => lines(plot, rows, true), heat, bars, points, stack, histogram, tree };
})();
