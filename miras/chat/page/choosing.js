// What the next question is about: masks that were clicked, as chips before it.

import { find, make, toast } from "./elements.js";
import { keyOf } from "./layers.js";
import { paint } from "./picture.js";
import { colourFor, isChosen, state, targets } from "./state.js";

/** The next question is about a mask, or no longer. */
export function choose(target) {
  const key = keyOf(target);
  if (isChosen(key)) state.chosen = state.chosen.filter((item) => keyOf(item) !== key);
  else if (!target.box) { toast("Nothing was marked there, so a question cannot be about it."); return; }
  else if (!canRefer()) { toast("This model was trained without memory of masks: ask about it in words."); return; }
  else state.chosen.push(target);
  showChosen();
  paint();
  find("question").focus();
}

const canRefer = () => state.room.models.every((model) => state.about.models[model].can_refer);

function hint() {
  if (state.chosen.length) return "Asks about what is chosen";
  return canRefer() && targets().some((target) => target.box) ? "Click a mask to ask about it" : "";
}

/** Lets go of all. */
export function chooseNone() {
  state.chosen = [];
  showChosen();
  paint();
}

export function showChosen() {
  find("about-chips").replaceChildren(...state.chosen.map((target) => {
    const remove = { type: "button", classes: "plain", data: { "aria-label": `Not about ${target.phrase}` }, on: { click: () => choose(target) } };
    return chip(target, make("button", remove, "✕"));
  }));
  find("hint").textContent = hint();
  for (const element of document.querySelectorAll("[data-key]")) element.classList.toggle("chosen", isChosen(element.dataset.key));
}

/** The name of a target in its colour. */
export function chip(target, ...more) {
  const element = make("span", { classes: "chip" }, make("i", {}), target.phrase || "this", ...more);
  element.style.setProperty("--layer", colourFor(target));
  return element;
}
