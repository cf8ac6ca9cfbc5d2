// The masks of the dialogue as a list: shown or hidden, named, to be asked about or downloaded.

import { choose } from "./choosing.js";
import { find, make } from "./elements.js";
import { keyOf } from "./layers.js";
import { hoverOn, paint } from "./picture.js";
import { at, colourFor, isPair, nameOf, state, targets } from "./state.js";

export function showLayers() {
  const all = targets();
  const groups = state.room.turns.map((turn, number) => {
    const rows = all.filter((target) => target.turn === number).map(layerRow);
    return rows.length ? make("div", { classes: "layer-group" }, make("p", { title: turn.question }, `${number + 1}. ${turn.question}`), ...rows) : null;
  });
  const shown = groups.filter(Boolean).reverse();
  find("layers").replaceChildren(...shown);
  find("stage-bar").hidden = !shown.length;
}

function layerRow(target) {
  const key = keyOf(target), name = target.phrase || "unnamed";
  const box = make("input", { type: "checkbox", checked: !state.hidden.has(key), data: { "aria-label": `Show ${name}` } });
  box.style.setProperty("--layer", colourFor(target));
  box.addEventListener("change", () => { if (box.checked) state.hidden.delete(key); else state.hidden.add(key); paint(); });
  const pick = make("button", { type: "button", classes: "layer-name", title: "Ask about this", on: { click: () => choose(target) } }, name);
  const save = make("a", { href: at(`/masks/${target.model}/${target.turn}/${target.target}.png`), download: "", title: "Mask as PNG", data: { "aria-label": `Download the mask of ${name}` } }, "⤓");
  const row = make("div", { classes: "layer", data: { "data-key": key } }, box, pick, make("small", {}, factsOf(target)), save);
  hoverOn(row, target);
  return row;
}

function factsOf(target) {
  const sure = target.is_corrected ? "corrected" : target.score === null ? "" : `${Math.round(target.score * 100)} %`;
  return [isPair() ? nameOf(target.model) : "", sure, target.box ? "" : "nothing marked"].filter(Boolean).join(" · ");
}

export function showOnly(isShown) {
  state.hidden = new Set(targets().filter((target) => !isShown(target)).map(keyOf));
  showLayers();
  paint();
}

/** Shows the masks of the last answer that has any. */
export function showLast() {
  const last = Math.max(-1, ...targets().filter((target) => target.box).map((target) => target.turn));
  showOnly((target) => target.turn === last);
}
