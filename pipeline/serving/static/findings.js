// What is known of a study, in words beside the picture.

import { element } from "./server.js";
import { positive } from "./strip.js";

const MOST_JUMPS = 6;
const find = (selector) => document.querySelector(selector);

export function showFindings(found, go) {
  showAnswer(found);
  showOutside(found.slices);
  showMeasures(found);
  showJumps(found.slices, go);
  const failures = [
    ...found.failures,
    ...found.slices.filter((one) => one.failure).map((one) => ({ name: one.name, reason: one.failure })),
  ];
  find("#dicom").hidden = !found.dicom;
  find("#no-dicom").textContent = found.no_dicom ? `no DICOM results: ${found.no_dicom}` : "";
  find("#unusable").hidden = !failures.length;
  find("#failures").replaceChildren(
    ...failures.map((one) => {
      const line = element("li");
      line.append(element("bdi", one.name), `: ${one.reason}`);
      return line;
    }),
  );
}

function showAnswer(found) {
  const place = find("#answer");
  const { answer } = found;
  let text = "";
  if (answer) {
    const limit = answer.threshold === null ? "" : `, a bleed from ${answer.threshold.toFixed(2)}`;
    text = `${answer.called ? `${answer.called}, ` : ""}suspicion ${answer.suspicion.toFixed(2)}${limit}`;
  }
  const missing = answer ? "not outlined" : "not scored";
  if (found.stage === "failed") text = [text, `${missing}: ${found.reason}`].filter(Boolean).join("; ");
  else if (found.stage === "waiting") text = [text, "waiting to be scored"].filter(Boolean).join("; ");
  else if (found.stage === "scoring") {
    const what = found.step === "segment" ? "outlining" : "scoring";
    const far = found.total ? `${what}, slice ${found.done} of ${found.total}` : "loading the model";
    text = [text, far].filter(Boolean).join("; ");
  }
  if (place.textContent !== text) place.textContent = text || "no answer";
  place.classList.toggle("positive", Boolean(answer && answer.threshold !== null && answer.suspicion >= answer.threshold));
  find("#caveat").textContent = found.caveat;
  find("#by").textContent = `by ${found.model}`;
  const labels = [...new Set(found.slices.map((one) => one.label).filter(Boolean))];
  const notes = [...found.notes];
  if (labels.length) notes.unshift(`labelled in the data: ${labels.join(", ")}`);
  if (found.slices.some((one) => one.part === "train")) notes.push("a study the model was trained on; scores are out of fold");
  find("#notes").replaceChildren(...notes.map((one) => element("li", one)));
}

function showOutside(slices) {
  const place = find("#outside");
  const outside = slices.filter((one) => one.outside);
  place.hidden = !outside.length;
  if (!outside.length) return;
  const reasons = [...new Set(outside.map((one) => one.outside.split(" (")[0].split(":")[0]))];
  const are = outside.length === 1 ? "slice is" : "slices are";
  const text = `${outside.length} of ${slices.length} ${are} outside what the model knows (${reasons.join("; ")}): `
    + "do not rely on such scores.";
  if (place.textContent !== text) place.textContent = text;
}

function showMeasures(found) {
  const { measures } = found;
  const rows = [];
  if (!measures) rows.push(["", found.stage === "scored" ? "no measures" : "not yet outlined"]);
  else if (!measures.slices_with_blood) rows.push(["Outlines", "none"]);
  else {
    const ml = (value) => (value === null ? "not known: no spacing or place" : `${value.toFixed(1)} ml`);
    rows.push(["Volume", ml(measures.volume_ml)]);
    if (measures.abc2_ml !== null) rows.push(["ABC/2", ml(measures.abc2_ml)]);
    if (measures.diameter_mm !== null) rows.push(["Diameter", `${measures.diameter_mm.toFixed(0)} mm`]);
    if (measures.side) rows.push(["Side", measures.side === "both" ? "both" : `${measures.side} of the picture`]);
    rows.push(["Slices", `${measures.slices_with_blood}, from ${measures.first} to ${measures.last}`]);
  }
  if (measures && found.outlined_by) rows.push(["By", found.outlined_by]);
  find("#measures").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function showJumps(slices, go) {
  const order = slices.map((slice, place) => ({ slice, number: place + 1 })).filter((one) => one.slice.probability !== null);
  order.sort((a, b) => b.slice.probability - a.slice.probability);
  const shown = order.slice(0, MOST_JUMPS).map((one) => one.number).join();
  const place = find("#suspicious");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.replaceChildren(
    ...order.slice(0, MOST_JUMPS).map(({ slice, number }) => {
      const button = element("button", `${number}: ${slice.probability.toFixed(2)}`, positive(slice) ? "positive" : "");
      button.type = "button";
      button.setAttribute("aria-label", `Slice ${number}, probability ${slice.probability.toFixed(2)}`);
      button.addEventListener("click", () => go(number));
      const line = element("li");
      line.append(button);
      return line;
    }),
  );
}
