// What of the dialogue can be taken along.

import { find, make } from "./elements.js";
import { at, isPair, nameOf, state } from "./state.js";

const KINDS = [["png", "Masks as PNG (zip)"], ["coco", "Masks as COCO run lengths (JSON)"], ["labelme", "Masks for Labelme (zip)"], ["dialogue", "The dialogue, to load again"]];

export function showDownloads() {
  const link = (model) => ([kind, words]) => make("a", { href: at(`/download/${kind}?model=${model}`), download: "", data: { "data-kind": kind }, on: { click: () => { find("take").open = false; } } }, words);
  find("take-list").replaceChildren(...state.room.models.flatMap((model) => [...(isPair() ? [make("p", {}, nameOf(model))] : []), ...KINDS.map(link(model))]));
}
