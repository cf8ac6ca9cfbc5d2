// Who answers: which models, made from which data, one of them or two side by side.

import { attempt, find, make, toast } from "./elements.js";
import { endRoom, openRoom } from "./rooms.js";
import { post } from "./server.js";
import { at, state } from "./state.js";

/** One line for the page's head: version or weights, and the data that the model learned from. */
const versionsOf = ({ notice }) => `${notice.version ? `v${notice.version}` : short(notice.weights)} · data ${short(notice.data)}`;

const short = (hash) => hash.slice(0, 8);

export function showModels() {
  const { models } = state.about;
  find("about-button").replaceChildren(...models.map((model) => make("span", {}, `${model.name} `, make("small", {}, versionsOf(model)))));
  find("about-button").title = "Which model and data version answers";
  const facts = (model) => Object.entries(model.notice).flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, fact)]);
  find("about-facts").replaceChildren(...models.map((model) => make("dl", { classes: "facts" }, ...facts(model))));
  const choices = models.map((model, number) => [String(number), model.name]);
  if (models.length > 1) choices.push(["0,1", "both, side by side"]);
  find("mode").replaceChildren(...choices.map(([value, words]) => make("option", { value }, words)));
  find("mode-label").hidden = models.length < 2;
}

export async function changeModels() {
  state.models = find("mode").value;
  if (!state.room) return;
  const before = state.room;
  if (before.turns.length) toast("A new dialogue about the same picture. The one before stays in its tab.");
  await attempt(async () => {
    await openRoom(await post(at(`/again?models=${state.models}`)));
    if (!before.turns.length) await endRoom(before.id);
  });
}
