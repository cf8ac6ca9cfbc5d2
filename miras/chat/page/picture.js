// The picture with its masks: one stage for each model of the dialogue.

import { find, make } from "./elements.js";
import { covers, draw, keyOf } from "./layers.js";
import { at, colourFor, isChosen, isPair, nameOf, state, targets } from "./state.js";

const TIP_ASIDE_PX = 14, TIP_ABOVE_PX = 34;

/** Makes the stages. `onPick(target)`: a mask was clicked. */
export function makeStages(onPick) {
  const { room } = state;
  find("stages").replaceChildren(...room.models.map((model) => {
    const image = make("img", { src: at("/picture"), alt: room.title, draggable: false });
    const canvas = make("canvas", { tabIndex: -1, data: { "data-model": String(model) } });
    const frame = make("div", { classes: "frame" }, image, canvas, make("span", { classes: "tip", hidden: true }));
    frame.style.setProperty("--ratio", String(room.view.width / room.view.height));
    frame.style.setProperty("--width", String(room.view.width));
    canvas.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") point(under(event, canvas, model), event, frame); });
    canvas.addEventListener("pointerleave", () => point(null, null, frame));
    canvas.addEventListener("click", (event) => { const found = under(event, canvas, model); if (found) onPick(found); });
    image.addEventListener("load", paint);
    return make("figure", {}, frame, ...(isPair() ? [make("figcaption", {}, nameOf(model))] : []));
  }));
}

/** The smallest shown mask under the pointer. */
function under(event, canvas, model) {
  const frame = canvas.getBoundingClientRect();
  const x = ((event.clientX - frame.left) / frame.width) * state.room.view.width;
  const y = ((event.clientY - frame.top) / frame.height) * state.room.view.height;
  const hits = targets().filter((target) => {
    const mask = state.masks.get(keyOf(target));
    return target.model === model && mask && !state.hidden.has(keyOf(target)) && covers(mask, x, y);
  });
  return hits.sort((one, other) => one.area - other.area || other.turn - one.turn)[0] ?? null;
}

/** The pointer is on a target in a stage, or on none. */
function point(target, event, frame) {
  const tip = frame.querySelector(".tip");
  tip.hidden = !target;
  frame.querySelector("canvas").style.cursor = target ? "pointer" : "default";
  if (target && event) {
    tip.textContent = target.phrase || "unnamed";
    const box = frame.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX - box.left + TIP_ASIDE_PX, box.width - tip.offsetWidth - 6)}px`;
    tip.style.top = `${Math.max(4, event.clientY - box.top - TIP_ABOVE_PX)}px`;
  }
  hover(target);
}

/** Brings a target out wherever it is shown; null: none. */
export function hover(target) {
  const key = target ? keyOf(target) : null;
  if (key === state.hovered) return;
  state.hovered = key;
  for (const element of document.querySelectorAll("[data-key]")) element.classList.toggle("hovered", element.dataset.key === key);
  paint();
}

/** Lets an element that names a target bring it out. */
export function hoverOn(element, target) {
  for (const name of ["pointerenter", "focusin"]) element.addEventListener(name, () => hover(target));
  for (const name of ["pointerleave", "focusout"]) element.addEventListener(name, () => hover(null));
}

export function paint() {
  if (!state.room) return;
  const all = targets();
  for (const canvas of find("stages").querySelectorAll("canvas")) {
    const layers = all.filter((target) => String(target.model) === canvas.dataset.model).flatMap((target) => {
      const key = keyOf(target), mask = state.masks.get(key);
      const layer = { mask, colour: colourFor(target), isHovered: key === state.hovered, isChosen: isChosen(key) };
      return !mask || (state.hidden.has(key) && !layer.isHovered && !layer.isChosen) ? [] : [layer];
    });
    draw(canvas, state.room.view, layers, Number(find("opacity").value) / 100);
  }
}
