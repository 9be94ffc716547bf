// Elements and texts. What comes from the data only ever becomes a text node or an attribute that
// cannot run: nothing here parses HTML.
"use strict";

const SVG = document.getElementById("histogram").namespaceURI;
const HTML = document.documentElement.namespaceURI;
const words = JSON.parse(document.getElementById("words").textContent);

function element(namespace, tag, attributes, children) {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}
const html = (tag, attributes = {}, ...children) => element(HTML, tag, attributes, children);
const svg = (tag, attributes = {}, ...children) => element(SVG, tag, attributes, children);

// Numbers and names as text

const known = (value) => value !== null && value !== undefined;
const plain = (name) => name.replaceAll("_", " ");
const whole = (count) => count.toLocaleString("en");
const several = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
const digits = (value, places) => (known(value) ? value.toFixed(places) : "");

function score(value) {
  if (!known(value)) return "";
  if (value > 0 && value < 0.001) return "<0.001";
  return value > 0.999 && value < 1 ? ">0.999" : value.toFixed(3);
}

function bytes(value) {
  if (value < 1000) return several(value, "byte");
  const power = value < 1e6 ? 1 : value < 1e9 ? 2 : 3;
  return `${(value / 1000 ** power).toPrecision(3)} ${["kB", "MB", "GB"][power - 1]}`;
}

// 7.25 s, 3:07.25 or 1:03:07.25, with as many decimals as are wanted.
function clock(value, places = 2) {
  const rounded = Number(value.toFixed(places));
  if (rounded < 60) return `${rounded.toFixed(places)} s`;
  const rest = (rounded % 60).toFixed(places).padStart(places ? places + 3 : 2, "0");
  const minutes = Math.floor(rounded / 60);
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

// Control characters and marks that turn the direction of text are shown, not obeyed.
const visible = (text) =>
  text.replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\u{e0000}-\u{e007f}]/gu,
    (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
