// What every page of the atlas begins with: the theme, data from chunks, elements of the page, and the address.
"use strict";

const atlas = (() => {
  const root = document.documentElement;
  const waiting = new Map();
  const base = document.currentScript.src.replace(/core\.js$/, "");

  // A theme that was chosen stays; else the system's is followed.
  function stored(value) {
    try {
      if (value === undefined) return localStorage.getItem("weight-atlas-theme");
      localStorage.setItem("weight-atlas-theme", value);
    } catch { /* pages from the disk may have no storage */ }
    return null;
  }

  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  const themed = [];

  function changed() {
    for (const draw of themed) draw();
  }

  const chosen = stored();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      stored(root.dataset.theme);
      changed();
    });
  });

  // Scripts are the only files that a page from the disk may load.
  function script(source) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = source;
      element.onload = resolve;
      element.onerror = () => reject(new Error(`cannot load ${source}`));
      document.head.append(element);
    });
  }

  // The value of a chunk, loaded once: folder is relative to the page, key as the chunk hands it over.
  function chunk(folder, key) {
    const name = `${folder}/${key}`;
    if (!waiting.has(name)) {
      const promise = script(`${folder.split("/").map(encodeURIComponent).join("/")}/${key}.js`).then(() => {
        const { value, deflated } = handed;
        return deflated ? inflated(value) : value;
      });
      waiting.set(name, promise);
    }
    return waiting.get(name);
  }

  let handed;

  // A script runs just before its load event: what it hands over is its own.
  function take(key, value, deflated = false) {
    handed = { value, deflated };
  }

  // The value of JSON that was compressed with zlib and written as base64.
  async function inflated(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  // Numbers that were packed as base64; see encoding.py.
  function unpack(packed) {
    const text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return packed.type === "f8" ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
  }

  // An element with attributes and children; texts stay texts.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  function definition(metric, text) {
    return make("a", { class: "def", href: `${base}metrics.html#${encodeURIComponent(metric)}` }, text);
  }

  let vega;

  // The library of charts, loaded when the first one is drawn.
  function charts() {
    vega ??= script(`${base}vega.js`);
    return vega;
  }

  // The part of the address behind #: {metric, cell} or {table, row}, or nothing where it names a place of the page.
  function state() {
    const text = location.hash.slice(1);
    return /^(metric|cell|models|x|y|table)=/.test(text) ? Object.fromEntries(new URLSearchParams(text)) : {};
  }

  let written = "";

  function remember(values, { step = false } = {}) {
    const text = `#${new URLSearchParams(Object.entries(values).filter(([, value]) => value))}`;
    written = text;
    if (text === location.hash) return;
    if (step) location.hash = text;
    else location.replace(text);
  }

  return {
    chunk, take, unpack, make, definition, charts, state, remember, dark, script, base,
    ownHash: () => location.hash === written,
    onTheme: (draw) => themed.push(draw),
    colour: (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim(),
  };
})();
