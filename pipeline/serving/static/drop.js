// Files from a drop or a dialog, with the folders they are in, sent to the server one by one.

import { change } from "./server.js";

const AT_ONCE = 4;

export function dropped(take) {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const files = [];
    for (const entry of entries) await walk(entry, files);
    take(files);
  });
}

export function picked(button, input, take) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
    input.value = "";
  });
}

async function walk(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    files.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await walk(one, files);
  }
}

// What the server makes of the files: {studies, failures}; `tell` is given how far it is.
export async function upload(files, tell) {
  const { upload } = await (await change("/uploads")).json();
  let next = 0;
  let done = 0;
  const send = async () => {
    while (next < files.length) {
      const { file, name } = files[next++];
      await change(`/uploads/${upload}/files`, file, { "x-name": encodeURIComponent(name) });
      tell(`received ${++done} of ${files.length}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  tell("sorting into studies");
  return (await change(`/uploads/${upload}/studies`)).json();
}
