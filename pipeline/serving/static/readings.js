// Beginning a reading.

import { change } from "./server.js";

for (const form of document.querySelectorAll("form.begin")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { reader, cases, seed } = Object.fromEntries(new FormData(form));
    try {
      const asked = JSON.stringify({ reader, cases: Number(cases), seed: Number(seed) });
      location.assign((await (await change(`/reading/${form.dataset.run}`, asked)).json()).address);
    } catch (error) {
      document.querySelector("#status").textContent = error.message;
    }
  });
}
