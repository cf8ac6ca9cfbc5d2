// Questions and answers, the one in progress included. Clicks on ideas and pencils are taken where they are wired.

import { chip, choose } from "./choosing.js";
import { find, make } from "./elements.js";
import { keyOf } from "./layers.js";
import { hoverOn } from "./picture.js";
import { colourFor, isPair, nameOf, state } from "./state.js";

const IDEAS = ["What is there in this picture?", "Which one is the smallest? Mark it.", "Please segment the thing on the left."];

export function showTurns() {
  const items = state.room.turns.map(turnItem);
  if (state.asking?.roomId === state.room.id) items.push(askingItem());
  find("turns").replaceChildren(...(items.length ? items : [emptyItem()]));
  find("turns").scrollTop = find("turns").scrollHeight;
}

function emptyItem() {
  const buttons = IDEAS.map((idea) => make("button", { type: "button", classes: "idea" }, idea));
  return make("li", { classes: "empty" }, make("p", {}, "Ask in your own words, or begin with"), ...buttons);
}

const questionBox = (about, question) => make("div", { classes: "question" }, ...about.map((target) => chip(target)), make("span", {}, question));

function turnItem(turn, number) {
  const answers = Object.entries(turn.answers).map(([model, answer]) => answerBox(Number(model), number, answer));
  return make("li", {}, questionBox(turn.about, turn.question), make("div", { classes: "answers" }, ...answers));
}

function answerBox(model, turn, answer) {
  const words = answer.pieces.map((piece) => (piece.target === null ? piece.text : phraseButton(piece, { ...answer.targets[piece.target], model, turn, target: piece.target })));
  const notes = [`${answer.seconds.toFixed(1)} s`];
  if (answer.is_cut) notes.push("cut off: the longest answer allowed");
  if (answer.is_corrected) notes.push("corrected");
  const place = { "aria-label": `Put answer ${turn + 1} right`, "data-model": String(model), "data-turn": String(turn) };
  const pencil = make("button", { type: "button", classes: "plain pencil", title: "Put this answer right", data: place }, "✎");
  const end = make("div", { classes: "answer-end" }, make("small", {}, notes.join(" · ")), pencil);
  return named(model, make("div", { classes: "answer" }, make("p", {}, ...(words.length ? words : ["(no words)"])), end));
}

function phraseButton(piece, target) {
  const button = make("button", { type: "button", classes: "phrase", title: "Ask about this", data: { "data-key": keyOf(target) }, on: { click: () => choose(target) } }, piece.text || "▣");
  button.style.setProperty("--layer", colourFor(target));
  hoverOn(button, target);
  return button;
}

function named(model, box) {
  if (isPair()) box.prepend(make("b", { classes: "who" }, nameOf(model)));
  return box;
}

function askingItem() {
  const { question, chosen, texts, note } = state.asking;
  const boxes = state.room.models.map((model) => {
    const waits = make("span", { classes: "dots", data: { "aria-label": "The model is working" } });
    return named(model, make("div", { classes: "answer" }, make("p", { data: { "data-streaming": String(model) } }, texts[model] ?? "", waits)));
  });
  const line = make("p", { classes: "note", hidden: !note }, note);
  return make("li", { classes: "asking" }, questionBox(chosen, question), make("div", { classes: "answers" }, ...boxes), line);
}

/** Shows what has come of the answer in progress. */
export function stream() {
  for (const [model, text] of Object.entries(state.asking.texts)) {
    const place = document.querySelector(`[data-streaming="${model}"]`);
    if (place?.firstChild.nodeType === Node.TEXT_NODE) place.firstChild.data = text;
    else place?.prepend(text);
  }
  const note = document.querySelector(".asking > .note");
  if (note) { note.textContent = state.asking.note; note.hidden = !state.asking.note; }
  find("turns").scrollTop = find("turns").scrollHeight;
}

/** What can be done now. */
export function showTools() {
  const isAsking = Boolean(state.asking);
  find("send").hidden = isAsking;
  find("stop").hidden = !isAsking;
  find("undo").disabled = find("branch").disabled = isAsking || !state.room.turns.length;
}
