// Reading one study: the picture, what moves through it, and what the model says beside it.

import { dropped, upload } from "./drop.js";
import { draw, drawOutlines, drawSmall, shape } from "./screen.js";
import { ask, later } from "./server.js";
import { showFindings } from "./findings.js";
import { Slices } from "./slices.js";
import { Strip, positive } from "./strip.js";
import { Window, probed } from "./window.js";

const find = (selector) => document.querySelector(selector);
const viewer = find("#viewer");
const stage = find("#stage");
const picture = find("#picture");
const slider = find("#slider");
const { key, model } = viewer.dataset;
const count = Number(viewer.dataset.slices);
const query = model ? `?model=${encodeURIComponent(model)}` : "";
const spare = document.createElement("canvas");
const empty = { probability: null, threshold: null, called: "", outside: "", failure: "", outlines: [], name: "" };

let here = Math.max(1, Math.min(count, Number(new URLSearchParams(location.search).get("slice")) || 1));
let found = { slices: Array.from({ length: count }, () => empty) };
let outlined = true;
let drawing = false;

const slices = new Slices(`/studies/${key}/slices`, count, (number) => {
  if (Math.abs(number - here) <= 1) redraw();
});
const strip = new Strip(find("#strip"), count, go);
const view = new Window(stage, find("#presets"), find("#window"), redraw);

function go(number) {
  here = Math.max(1, Math.min(count, number));
  slices.moveTo(here);
  redraw();
}

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    show();
  });
}

function show() {
  const slice = slices.at(here);
  const said = found.slices[here - 1];
  slider.value = here;
  strip.moveTo(here);
  const place = `slice ${here} of ${count}`;
  find("#where").textContent = said.z_mm == null ? place : `${place}, ${said.z_mm.toFixed(1)} mm`;
  const chance = said.probability === null ? "" : `bleed ${said.probability.toFixed(2)}`;
  const corner = find("#said");
  corner.textContent = said.outside ? `${chance} outside: ${said.outside}` : chance;
  corner.className = `corner bottom-right${said.outside ? " doubt" : positive(said) ? " positive" : ""}`;
  const words = [place, chance, positive(said) ? "suspicious" : "", said.outlines.length ? "outlined" : "",
    said.outside ? `outside what the model knows: ${said.outside}` : ""];
  const spoken = words.filter(Boolean).join(", ");
  slider.setAttribute("aria-valuetext", spoken);
  stage.setAttribute("aria-label", spoken);
  const loading = find("#loading");
  loading.hidden = Boolean(slice?.pixels);
  loading.textContent = slice?.failure ?? "loading";
  picture.hidden = !slice?.pixels;
  for (const mark of viewer.querySelectorAll(".side-mark")) mark.hidden = !(slice?.pixels && slice.sides);
  find("#outlines").hidden = !slice?.pixels;
  if (slice?.pixels) {
    view.setUnit(slice.unit, true);
    stage.style.aspectRatio = String(shape(slice));
    draw(picture, slice, view.width, view.level);
    drawOutlines(find("#outlines"), slice, outlined ? said.outlines : []);
    viewer.dataset.shown = here;
  }
  beside();
}

let besideSoon = 0;
function beside() {
  clearTimeout(besideSoon);
  besideSoon = setTimeout(() => {
    for (const [selector, number] of [["#before", here - 1], ["#after", here + 1]]) {
      const button = find(selector);
      button.disabled = number < 1 || number > count;
      if (view.unit) drawSmall(button.querySelector("canvas"), slices.at(number), view.width, view.level, spare);
    }
  }, 60);
}

function nextSuspicious(step) {
  for (let number = here + step; number >= 1 && number <= count; number += step) {
    const slice = found.slices[number - 1];
    if (positive(slice) || slice.outlines.length) return go(number);
  }
}

function toggle() {
  outlined = !outlined;
  find("#toggle").setAttribute("aria-pressed", String(outlined));
  redraw();
}

// Closer at the place under the pointer, which stays where it is; at 1 the whole slice.
let zoom = { scale: 1, x: 0, y: 0 };
let pointer = null;
function magnify(factor) {
  const box = stage.getBoundingClientRect();
  const [x, y] = pointer ?? [box.width / 2, box.height / 2];
  const scale = Math.max(1, Math.min(6, zoom.scale * factor));
  const edge = (place, before, length) =>
    Math.min(0, Math.max(length * (1 - scale), place - ((place - before) * scale) / zoom.scale));
  zoom = { scale, x: edge(x, zoom.x, box.width), y: edge(y, zoom.y, box.height) };
  find("#sheet").style.transform = `translate(${zoom.x}px, ${zoom.y}px) scale(${zoom.scale})`;
}

// Wheel and touch pads: one slice a notch, or for every so much of a finger's way.
let turned = 0;
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const pixels = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * 40;
  turned += Math.abs(pixels) >= 60 ? Math.sign(pixels) * 40 : pixels;
  const steps = Math.trunc(turned / 40);
  if (steps) {
    turned -= steps * 40;
    go(here + steps);
  }
}, { passive: false });

// A finger scrolls; the mouse drags the window.
let finger = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "touch") finger = { y: event.clientY, here };
});
stage.addEventListener("pointermove", (event) => {
  const slice = slices.at(here);
  const box = stage.getBoundingClientRect();
  pointer = [event.clientX - box.left, event.clientY - box.top];
  if (slice?.pixels) find("#probe").textContent = probed(event, picture.getBoundingClientRect(), slice);
  if (finger) go(finger.here + Math.round((event.clientY - finger.y) / 12));
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (finger = null));
stage.addEventListener("pointerleave", () => {
  pointer = null;
  find("#probe").textContent = "";
});

const KEYS = {
  ArrowDown: () => go(here + 1), ArrowRight: () => go(here + 1),
  ArrowUp: () => go(here - 1), ArrowLeft: () => go(here - 1),
  PageDown: () => go(here + 5), PageUp: () => go(here - 5), Home: () => go(1), End: () => go(count),
  "+": () => magnify(1.25), "=": () => magnify(1.25), "-": () => magnify(0.8),
  o: toggle, n: () => nextSuspicious(1), p: () => nextSuspicious(-1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === slider) return;
  if (event.key >= "1" && event.key <= "9") {
    view.preset(Number(event.key));
    return;
  }
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
slider.addEventListener("input", () => go(Number(slider.value)));
find("#toggle").addEventListener("click", toggle);
find("#next").addEventListener("click", () => nextSuspicious(1));
find("#before").addEventListener("click", () => go(here - 1));
find("#after").addEventListener("click", () => go(here + 1));
dropped(async (files) => {
  const tell = (text) => (find("#answer").textContent = text);
  try {
    const { studies } = await upload(files, tell);
    location.assign(studies.length === 1 ? `/studies/${studies[0].key}` : "/");
  } catch (error) {
    tell(error.message);
  }
});

async function follow() {
  try {
    for (;;) {
      found = await (await ask(`/studies/${key}/findings${query}`)).json();
      strip.fill(found.slices);
      showFindings(found, go);
      redraw();
      if (found.stage === "scored" || found.stage === "failed") break;
      await later(600);
    }
  } catch (error) {
    find("#answer").textContent = error.message;
  }
  viewer.dataset.stage = found.stage ?? "failed";
}

go(here);
follow();
