// The worklist: rows that follow the scoring, and the place where studies are dropped.

import { ask, change, element, later } from "./server.js";
import { dropped, picked, upload } from "./drop.js";

const table = document.querySelector("#studies");
const body = table.tBodies[0];
const status = document.querySelector("#status");
const failures = document.querySelector("#failures");
const query = table.dataset.model ? `?model=${encodeURIComponent(table.dataset.model)}` : "";
let watching = false;

function cells(row) {
  const name = element("th");
  name.scope = "row";
  const link = element("a");
  link.href = `/studies/${row.key}${query}`;
  link.append(element("bdi", row.name));
  name.append(link);
  const suspicion = element("td", "", "number");
  if (row.suspicion !== null) {
    const gauge = element("span", "", row.positive ? "gauge positive" : "gauge");
    const filled = element("i");
    filled.style.width = `${100 * row.suspicion}%`;
    gauge.append(filled);
    suspicion.append(gauge, row.suspicion.toFixed(2));
  }
  const doubts = [
    row.outside ? `${row.outside} outside what the model knows` : "",
    row.failures ? `${row.failures} unusable` : "",
    row.reason,
  ];
  const label = row.part ? `${row.label} (${row.part})` : row.label;
  const origin = element("td");
  origin.append(element("bdi", row.origin));
  return [
    name,
    suspicion,
    element("td", row.called || stage(row), row.positive ? "positive" : ""),
    element("td", row.volume_ml === null ? "" : `${row.volume_ml.toFixed(1)} ml`, "number"),
    element("td", String(row.slices)),
    element("td", doubts.filter(Boolean).join("; ")),
    origin,
    element("td", label),
  ];
}

function stage(row) {
  if (row.stage === "scoring" && row.total) return `scoring, ${row.done} of ${row.total}`;
  return { waiting: "waiting", scoring: "scoring", failed: "not scored", scored: "" }[row.stage];
}

async function refresh() {
  const rows = await (await ask(`/worklist${query}`)).json();
  const held = document.activeElement?.closest("tr")?.dataset.key;
  body.replaceChildren(
    ...rows.map((row) => {
      const line = element("tr");
      line.dataset.key = row.key;
      line.append(...cells(row));
      return line;
    }),
  );
  if (held) body.querySelector(`tr[data-key="${CSS.escape(held)}"] a`)?.focus();
  document.querySelector("#nothing").hidden = rows.length > 0;
  return rows.some((row) => row.stage === "waiting" || row.stage === "scoring");
}

async function watch() {
  if (watching) return;
  watching = true;
  try {
    while (await refresh()) await later(1000);
  } catch (error) {
    status.textContent = error.message;
  }
  watching = false;
}

async function take(files) {
  failures.replaceChildren();
  try {
    const found = await upload(files, (text) => (status.textContent = text));
    if (found.studies.length === 1) {
      location.assign(`/studies/${found.studies[0].key}`);
      return;
    }
    status.textContent = `${found.studies.length} studies, ${found.failures.length} files cannot be used`;
    failures.replaceChildren(
      ...found.failures.map((one) => {
        const line = element("li");
        line.append(element("bdi", one.name), `: ${one.reason}`);
        return line;
      }),
    );
    watch();
  } catch (error) {
    status.textContent = error.message;
  }
}

picked(document.querySelector("#choose-files"), document.querySelector("#files"), take);
picked(document.querySelector("#choose-folder"), document.querySelector("#folder"), take);
dropped(take);
document.querySelector("#end").addEventListener("click", async () => {
  status.textContent = await (await change("/session/end")).text();
  body.replaceChildren();
});
watch();
