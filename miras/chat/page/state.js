// What the page knows: the dialogues of this browser ("rooms": each has the dialogue of one model, or of two), the open
// one, and what of it is shown.

import { colourOf, decodeMask, keyOf } from "./layers.js";

export const state = {
  about: null, // what the server says of its models and limits
  rooms: [], // {id, title, turns}
  room: null,
  names: [], // of all things that are marked, in order
  masks: new Map(), // key of a target -> decoded mask
  hidden: new Set(), // keys of targets that are not shown
  hovered: null,
  chosen: [], // targets that the next question is about
  asking: null, // {controller, roomId, question, chosen, texts, note}
  models: "0", // of the next new dialogue
};

/** Address of something of the open dialogue. */
export const at = (path) => `/api/dialogues/${state.room.id}${path}`;

export const isChosen = (key) => state.chosen.some((item) => keyOf(item) === key);

export const isPair = () => state.room.models.length > 1;

export const nameOf = (model) => state.about.models[model].name;

/** Every target of the open dialogue: {model, turn, target, phrase, score, area, ...}, in order. */
export function targets() {
  return state.room.turns.flatMap((turn, number) => Object.entries(turn.answers).flatMap(([model, answer]) =>
    answer.targets.map((target, index) => ({ ...target, model: Number(model), turn: number, target: index, is_corrected: answer.is_corrected }))));
}

/** A thing keeps its colour through the dialogue: what is called the same has the same. */
export function colourFor({ model, turn, target, phrase }) {
  return colourOf(Math.max(0, state.names.indexOf(phrase || (turn === undefined ? "" : keyOf({ model, turn, target })))));
}

/** Takes up a dialogue as the server gives it; its masks are decoded by `decodeRoom`. */
export function takeUp(room) {
  state.room = room;
  state.masks.clear();
  state.hidden.clear();
  state.chosen = [];
  state.hovered = null;
  const known = state.rooms.find((item) => item.id === room.id);
  if (known) known.turns = room.turns.length;
  else state.rooms.push({ id: room.id, title: room.title, turns: room.turns.length });
}

/** Decodes the masks that are not decoded yet. */
export async function decodeRoom() {
  const { room } = state, all = targets();
  state.names = [...new Set(all.map((item) => item.phrase || keyOf(item)))];
  await Promise.all(all.filter((target) => !state.masks.has(keyOf(target))).map(async (target) => {
    const mask = await decodeMask(target, colourFor(target));
    if (state.room === room) state.masks.set(keyOf(target), mask);
  }));
}
