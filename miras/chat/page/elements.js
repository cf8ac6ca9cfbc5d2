// Elements of the page, and what it says. What people and models write goes in as text only, never as HTML.

const TOAST_MS = 7000;

export const find = (name) => document.getElementById(name);

/** A new element. `options`: properties, and `classes`, `on` (event -> handler), `data` (attribute -> value). */
export function make(tag, options = {}, ...children) {
  const { classes, on, data, ...rest } = options;
  const element = Object.assign(document.createElement(tag), rest);
  if (classes) element.className = classes;
  for (const [name, handler] of Object.entries(on ?? {})) element.addEventListener(name, handler);
  for (const [name, value] of Object.entries(data ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Says what went wrong, until the next action. */
export function tell(words) {
  find("message").firstElementChild.textContent = words;
  find("message").hidden = !words;
}

let toastTimer;

/** Says something in passing. */
export function toast(words) {
  const box = find("toast");
  box.textContent = words;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, TOAST_MS);
}

/** Runs something a person asked for; what goes wrong is said on the page. */
export async function attempt(action) {
  tell("");
  try {
    return await action();
  } catch (error) {
    tell(error.message);
    return undefined;
  }
}

/** Gives the question box the height of its text. */
export function fit() {
  const box = find("question");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 140)}px`;
}
