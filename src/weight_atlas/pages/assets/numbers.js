// Numbers as the registry of metrics writes them: Python's formats ",", ".4g", ".3f", ",.2f".
"use strict";

atlas.written = (value, format = ".4g") => {
  if (value === null || value === undefined || Number.isNaN(value)) return "missing";
  if (value === "inf" || value === Infinity) return "∞";
  if (value === "-inf" || value === -Infinity) return "−∞";
  const [, comma, digits, kind] = /^(,?)(?:\.(\d+))?([gfe%]?)$/.exec(format) ?? [null, "", "4", "g"];
  let text;
  if (kind === "f") text = value.toFixed(Number(digits ?? 6));
  else if (kind === "g" || !Number.isInteger(value)) text = general(value, Number(digits ?? 4));
  else text = String(value);
  if (comma) text = text.replace(/^(-?\d+)/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","));
  return text.replace(/^-/, "−");

  function general(number, precision) {
    if (number === 0) return "0";
    const [mantissa, power] = number.toExponential(precision - 1).split("e");
    const exponent = Number(power);
    if (exponent < -4 || exponent >= precision) {
      const sign = exponent < 0 ? "-" : "+";
      return `${trimmed(mantissa)}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
    }
    return trimmed(number.toFixed(Math.max(precision - 1 - exponent, 0)));
  }

  function trimmed(text) {
    return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  }
};

// A number for a card or a tip: readable where the registry's format would be 1.313e+06.
atlas.said = (value, format) => {
  if (typeof value === "number" && Math.abs(value) >= 1e4 && Math.abs(value) < 1e9 && /g$/.test(format ?? ".4g"))
    return atlas.written(Math.round(value), ",");
  return atlas.written(value, format);
};

atlas.median = (sorted) => {
  const n = sorted.length;
  return n ? (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2 : NaN;
};
