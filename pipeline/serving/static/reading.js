// One case after another, each answered once; the time runs from the picture to the answer.

import { draw, shape } from "./screen.js";
import { change } from "./server.js";
import { Slices } from "./slices.js";
import { Window, probed } from "./window.js";

const find = (selector) => document.querySelector(selector);
const { address, done, total } = find("#reading").dataset;
const stage = find("#stage");
const buttons = [...find("#levels").children];
const count = Number(total);
let here = Number(done) + 1;
let shownAt = null;
let sending = false;

const cases = new Slices(`${address}/cases`, count, (number) => number === here && show(), 2);
const view = new Window(stage, find("#presets"), find("#window"), () => paint());

function paint() {
  const slice = cases.at(here);
  if (slice?.pixels) draw(find("#picture"), slice, view.width, view.level);
}

function show() {
  const slice = cases.at(here);
  find("#case").textContent = `Case ${here} of ${count}`;
  find("#loading").hidden = Boolean(slice?.pixels);
  find("#loading").textContent = slice?.failure ?? "loading";
  find("#picture").hidden = !slice?.pixels;
  for (const button of buttons) button.disabled = !slice?.pixels || sending;
  if (!slice?.pixels) return;
  view.setUnit(slice.unit, false);
  stage.style.aspectRatio = String(shape(slice));
  paint();
  find("#reading").dataset.shown = here;
  shownAt ??= performance.now();
}

function go(number) {
  here = number;
  shownAt = null;
  if (here > count) {
    location.assign(`${address}/result`);
    return;
  }
  cases.moveTo(here);
  show();
}

async function answer(level) {
  if (sending || shownAt === null) return;
  sending = true;
  const seconds = (performance.now() - shownAt) / 1000;
  try {
    const kept = await change(`${address}/answers`, JSON.stringify({ case: here, level, seconds }));
    const { done } = await kept.json();
    find("#status").textContent = `case ${here}: ${buttons[level - 1].firstChild.textContent.trim()}`;
    sending = false;
    go(done + 1);
  } catch (error) {
    sending = false;
    find("#status").textContent = error.message;
  }
}

for (const button of buttons) button.addEventListener("click", () => answer(Number(button.dataset.level)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const level = Number(event.key);
  if (level >= 1 && level <= buttons.length) answer(level);
});
stage.addEventListener("pointermove", (event) => {
  const slice = cases.at(here);
  if (slice?.pixels) find("#probe").textContent = probed(event, stage.getBoundingClientRect(), slice);
});
go(here);
