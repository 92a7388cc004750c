// How the page speaks to its server: everything that changes something carries the secret of the session.

const csrf = document.querySelector('meta[name="csrf"]').content;

export async function ask(address) {
  return answered(await fetch(address));
}

export async function change(address, body = "", headers = {}) {
  return answered(await fetch(address, { method: "POST", body, headers: { "x-haemo-csrf": csrf, ...headers } }));
}

async function answered(response) {
  if (!response.ok) throw new Error((await response.text()).trim() || `the server says ${response.status}`);
  return response;
}

// An element with text, which stays text whatever is in it.
export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  if (text !== "") made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function later(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
