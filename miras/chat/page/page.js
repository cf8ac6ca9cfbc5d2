// The chat page. What people and models write is put into the page as text only, never as HTML.

import { colourOf, covers, decodeMask, draw, keyOf } from "./layers.js";
import { openEditor } from "./editor.js";

const find = (name) => document.getElementById(name);

const state = {
  about: null,
  rooms: [], // {id, title, turns}
  room: null,
  names: [], // of all things that are marked, in order
  masks: new Map(), // key of a target -> decoded mask
  hidden: new Set(), // keys of targets that are not shown
  hovered: null,
  chosen: [], // targets that the next question is about
  asking: null, // {controller, question, texts, note}
  models: "0", // of the next new dialogue
};

// ---- small things

function make(tag, options = {}, ...children) {
  const { classes, on, data, ...rest } = options;
  const element = Object.assign(document.createElement(tag), rest);
  if (classes) element.className = classes;
  for (const [name, handler] of Object.entries(on ?? {})) element.addEventListener(name, handler);
  for (const [name, value] of Object.entries(data ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function tell(words) {
  find("message").firstElementChild.textContent = words;
  find("message").hidden = !words;
}

let toastTimer;
function toast(words) {
  const box = find("toast");
  box.textContent = words;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, 7000);
}

const GONE = "The server cannot be reached. Is it still running? What was asked is kept in the question box.";

/** The JSON answer of the server; its refusals come as errors with its message. */
async function call(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error(GONE);
  }
  let content;
  try {
    content = await response.json();
  } catch {
    throw new Error(`The server answered with ${response.status} and no message.`);
  }
  if (!response.ok) throw new Error(content.message ?? `The server answered with ${response.status}.`);
  return content;
}

const post = (address, body) => call(address, { method: "POST", body: body === undefined ? undefined : JSON.stringify(body) });

/** Runs something a person asked for; what goes wrong is said on the page. */
async function attempt(action) {
  tell("");
  try {
    return await action();
  } catch (error) {
    tell(error.message);
    return undefined;
  }
}

const at = (path) => `/api/dialogues/${state.room.id}${path}`;

// ---- beginning

async function uploadPicture(file) {
  const most = state.about.limits.upload_mb;
  if (file.size > most * 1e6) { tell(`“${file.name}” has ${Math.ceil(file.size / 1e6)} MB; at most ${most} MB are taken.`); return; }
  await attempt(async () => {
    document.body.classList.add("loading");
    try {
      const headers = { "x-file-name": encodeURIComponent(file.name || "pasted picture") };
      openRoom(await call(`/api/dialogues?models=${state.models}`, { method: "POST", headers, body: file }));
    } finally {
      document.body.classList.remove("loading");
    }
  });
}

async function uploadSaved(file) {
  await attempt(async () => {
    const headers = { "x-file-name": encodeURIComponent(file.name.replace(/(\.miras)?\.json$/, "")) };
    openRoom(await call(`/api/saved?models=${state.models.split(",")[0]}`, { method: "POST", headers, body: file }));
  });
}

function showSamples() {
  find("samples").replaceChildren(...Array.from({ length: state.about.samples }, (_, number) => {
    const address = `/api/samples/${number}.png`;
    const image = make("img", { src: address, alt: `Sample picture ${number + 1}`, width: 160, height: 160, loading: "lazy" });
    const begin = async () => {
      const content = await (await fetch(address)).blob();
      await uploadPicture(new File([content], `sample ${number + 1}`, { type: "image/png" }));
    };
    return make("button", { type: "button", classes: "sample", on: { click: () => attempt(begin) } }, image);
  }));
}

function showStart() {
  state.room = null;
  find("start").hidden = false;
  find("work").hidden = true;
  find("take").hidden = true;
  find("new-button").hidden = true;
  history.replaceState(null, "", location.pathname);
  showRooms();
}

// ---- dialogues

async function openRoom(room) {
  state.room = room;
  state.masks.clear();
  state.hidden.clear();
  state.chosen = [];
  state.hovered = null;
  state.models = room.models.join(",");
  find("mode").value = state.models;
  find("start").hidden = true;
  find("work").hidden = false;
  find("take").hidden = false;
  find("new-button").hidden = false;
  find("work").classList.toggle("pair", room.models.length > 1);
  history.replaceState(null, "", `#${room.id}`);
  const known = state.rooms.find((item) => item.id === room.id);
  if (!known) state.rooms.push({ id: room.id, title: room.title, turns: room.turns.length });
  makeStages();
  await decodeRoom();
  showLast();
  showAll();
  if (matchMedia("(min-width: 760px)").matches) find("question").focus();
}

function showRooms() {
  const tabs = state.rooms.map((item) => {
    const isOpen = item.id === state.room?.id;
    const open = make("button", { type: "button", classes: "tab", on: { click: () => attempt(async () => openRoom(await call(`/api/dialogues/${item.id}`))) } }, item.title, make("small", {}, ` ${item.turns}`));
    if (isOpen) open.setAttribute("aria-current", "true");
    const close = make("button", { type: "button", classes: "plain", data: { "aria-label": `End the dialogue ${item.title}` }, on: { click: () => endRoom(item.id) } }, "✕");
    return make("span", { classes: isOpen ? "tab-box open" : "tab-box" }, open, close);
  });
  find("rooms").replaceChildren(...tabs);
  find("rooms").hidden = !state.rooms.length;
}

async function endRoom(id) {
  await attempt(async () => {
    await call(`/api/dialogues/${id}`, { method: "DELETE" });
    state.rooms = state.rooms.filter((item) => item.id !== id);
    if (state.room?.id === id) showStart(); else showRooms();
  });
}

/** Every target of the dialogue: {model, turn, target, phrase, score, area, ...}, in order. */
function targetsOf(room) {
  return room.turns.flatMap((turn, number) => Object.entries(turn.answers).flatMap(([model, answer]) =>
    answer.targets.map((target, index) => ({ ...target, model: Number(model), turn: number, target: index, is_corrected: answer.is_corrected }))));
}

/** A thing keeps its colour through the dialogue: what is called the same has the same. */
function colourFor({ model, turn, target, phrase }) {
  return colourOf(Math.max(0, state.names.indexOf(phrase || (turn === undefined ? "" : keyOf({ model, turn, target })))));
}

async function decodeRoom() {
  const room = state.room;
  state.names = [...new Set(targetsOf(room).map((item) => item.phrase || keyOf(item)))];
  const wanted = targetsOf(room).filter((target) => !state.masks.has(keyOf(target)));
  await Promise.all(wanted.map(async (target) => {
    const mask = await decodeMask(target, colourFor(target));
    if (state.room === room) state.masks.set(keyOf(target), mask);
  }));
}

// ---- the picture

function makeStages() {
  const { room } = state;
  find("stages").replaceChildren(...room.models.map((model) => {
    const image = make("img", { src: at("/picture"), alt: room.title, draggable: false });
    const canvas = make("canvas", { tabIndex: -1, data: { "data-model": String(model) } });
    const caption = make("figcaption", {}, state.about.models[model].name);
    const frame = make("div", { classes: "frame" }, image, canvas, make("span", { classes: "tip", hidden: true }));
    frame.style.setProperty("--ratio", String(room.view.width / room.view.height));
    frame.style.setProperty("--width", String(room.view.width));
    canvas.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") hover(under(event, canvas, model), event, frame); });
    canvas.addEventListener("pointerleave", () => hover(null, null, frame));
    canvas.addEventListener("click", (event) => { const found = under(event, canvas, model); if (found) choose(found); });
    image.addEventListener("load", paint);
    return make("figure", {}, frame, ...(room.models.length > 1 ? [caption] : []));
  }));
}

function under(event, canvas, model) {
  const frame = canvas.getBoundingClientRect();
  const x = ((event.clientX - frame.left) / frame.width) * state.room.view.width;
  const y = ((event.clientY - frame.top) / frame.height) * state.room.view.height;
  const hits = targetsOf(state.room).filter((target) => {
    const mask = state.masks.get(keyOf(target));
    return target.model === model && mask && !state.hidden.has(keyOf(target)) && covers(mask, x, y);
  });
  return hits.sort((one, other) => one.area - other.area || other.turn - one.turn)[0] ?? null;
}

function hover(target, event, frame) {
  const key = target ? keyOf(target) : null;
  if (frame) {
    const tip = frame.querySelector(".tip");
    tip.hidden = !target;
    frame.querySelector("canvas").style.cursor = target ? "pointer" : "default";
    if (target && event) {
      tip.textContent = target.phrase || "unnamed";
      const box = frame.getBoundingClientRect();
      tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 6)}px`;
      tip.style.top = `${Math.max(4, event.clientY - box.top - 34)}px`;
    }
  }
  if (key === state.hovered) return;
  state.hovered = key;
  for (const element of document.querySelectorAll("[data-key]")) element.classList.toggle("hovered", element.dataset.key === key);
  paint();
}

function paint() {
  if (!state.room) return;
  const targets = targetsOf(state.room);
  for (const canvas of find("stages").querySelectorAll("canvas")) {
    const layers = targets.filter((target) => String(target.model) === canvas.dataset.model).flatMap((target) => {
      const key = keyOf(target), mask = state.masks.get(key);
      const isHovered = key === state.hovered, isChosen = state.chosen.some((item) => keyOf(item) === key);
      if (!mask || (state.hidden.has(key) && !isHovered && !isChosen)) return [];
      return [{ mask, colour: colourFor(target), isHovered, isChosen }];
    });
    draw(canvas, state.room.view, layers, Number(find("opacity").value) / 100);
  }
}

// ---- layers

function showLayers() {
  const targets = targetsOf(state.room);
  const groups = state.room.turns.map((turn, number) => {
    const rows = targets.filter((target) => target.turn === number).map(layerRow);
    return rows.length ? make("div", { classes: "layer-group" }, make("p", { title: turn.question }, `${number + 1}. ${turn.question}`), ...rows) : null;
  });
  const shown = groups.filter(Boolean).reverse();
  find("layers").replaceChildren(...shown);
  find("stage-bar").hidden = !shown.length;
}

function layerRow(target) {
  const key = keyOf(target);
  const isPair = state.room.models.length > 1;
  const name = target.phrase || "unnamed";
  const box = make("input", { type: "checkbox", checked: !state.hidden.has(key), data: { "aria-label": `Show ${name}` } });
  box.style.setProperty("--layer", colourFor(target));
  box.addEventListener("change", () => { if (box.checked) state.hidden.delete(key); else state.hidden.add(key); paint(); });
  const pick = make("button", { type: "button", classes: "layer-name", title: "Ask about this", on: { click: () => choose(target) } }, name);
  const facts = [isPair ? state.about.models[target.model].name : "", target.is_corrected ? "corrected" : target.score === null ? "" : `${Math.round(target.score * 100)} %`, target.box ? "" : "nothing marked"];
  const save = make("a", { href: at(`/masks/${target.model}/${target.turn}/${target.target}.png`), download: "", title: "Mask as PNG", data: { "aria-label": `Download the mask of ${name}` } }, "⤓");
  const row = make("div", { classes: "layer", data: { "data-key": key } }, box, pick, make("small", {}, facts.filter(Boolean).join(" · ")), save);
  row.addEventListener("pointerenter", () => hover(target));
  row.addEventListener("pointerleave", () => hover(null));
  row.addEventListener("focusin", () => hover(target));
  row.addEventListener("focusout", () => hover(null));
  return row;
}

function showOnly(isShown) {
  state.hidden = new Set(targetsOf(state.room).filter((target) => !isShown(target)).map(keyOf));
  showLayers();
  paint();
}

/** Shows the masks of the last answer that has any. */
function showLast() {
  const last = Math.max(-1, ...targetsOf(state.room).filter((target) => target.box).map((target) => target.turn));
  showOnly((target) => target.turn === last);
}

/** The next question is about a mask, or no longer. */
function choose(target) {
  const key = keyOf(target);
  if (state.chosen.some((item) => keyOf(item) === key)) state.chosen = state.chosen.filter((item) => keyOf(item) !== key);
  else if (!target.box) { toast("Nothing was marked there, so a question cannot be about it."); return; }
  else if (!state.room.models.every((model) => state.about.models[model].can_refer)) { toast("This model was trained without memory of masks: ask about it in words."); return; }
  else state.chosen.push(target);
  showChosen();
  paint();
  find("question").focus();
}

function showChosen() {
  find("about-chips").replaceChildren(...state.chosen.map((target) => chip(target, make("button", { type: "button", classes: "plain", data: { "aria-label": `Not about ${target.phrase}` }, on: { click: () => choose(target) } }, "✕"))));
  find("hint").textContent = state.chosen.length ? "Asks about what is chosen" : targetsOf(state.room).some((target) => target.box) ? "Click a mask to ask about it" : "";
  for (const element of document.querySelectorAll("[data-key]")) element.classList.toggle("chosen", state.chosen.some((item) => keyOf(item) === element.dataset.key));
}

function chip(target, ...more) {
  const element = make("span", { classes: "chip" }, make("i", {}), target.phrase || "this", ...more);
  element.style.setProperty("--layer", colourFor(target));
  return element;
}

// ---- turns

function showAll() {
  showRooms();
  showTurns();
  showLayers();
  showChosen();
  showTools();
  showDownloads();
  paint();
}

function showTurns() {
  const items = state.room.turns.map(turnItem);
  if (state.asking) items.push(askingItem());
  find("turns").replaceChildren(...(items.length ? items : [emptyItem()]));
  find("turns").scrollTop = find("turns").scrollHeight;
}

function emptyItem() {
  const ideas = ["What is there in this picture?", "Which one is the smallest? Mark it.", "Please segment the thing on the left."];
  const buttons = ideas.map((idea) => make("button", { type: "button", classes: "idea", on: { click: () => { find("question").value = idea; ask(); } } }, idea));
  return make("li", { classes: "empty" }, make("p", {}, "Ask in your own words, or begin with"), ...buttons);
}

function turnItem(turn, number) {
  const about = turn.about.map((item) => chip(item));
  const question = make("div", { classes: "question" }, ...about, make("span", {}, turn.question));
  const answers = Object.entries(turn.answers).map(([model, answer]) => answerBox(Number(model), number, answer));
  return make("li", {}, question, make("div", { classes: "answers" }, ...answers));
}

function answerBox(model, turn, answer) {
  const words = answer.pieces.map((piece) => {
    if (piece.target === null) return piece.text;
    const target = { ...answer.targets[piece.target], model, turn, target: piece.target };
    const name = make("button", { type: "button", classes: "phrase", title: "Ask about this", data: { "data-key": keyOf(target) } }, piece.text || "▣");
    name.style.setProperty("--layer", colourFor(target));
    name.addEventListener("click", () => choose(target));
    name.addEventListener("pointerenter", () => hover(target));
    name.addEventListener("pointerleave", () => hover(null));
    name.addEventListener("focus", () => hover(target));
    name.addEventListener("blur", () => hover(null));
    return name;
  });
  const notes = [`${answer.seconds.toFixed(1)} s`];
  if (answer.is_cut) notes.push("cut off: the longest answer allowed");
  if (answer.is_corrected) notes.push("corrected");
  const edit = make("button", { type: "button", classes: "plain", title: "Put this answer right", data: { "aria-label": `Put answer ${turn + 1} right` }, on: { click: () => correct(model, turn, answer) } }, "✎");
  const box = make("div", { classes: "answer" }, make("p", {}, ...(words.length ? words : ["(no words)"])), make("div", { classes: "answer-end" }, make("small", {}, notes.join(" · ")), edit));
  if (state.room.models.length > 1) box.prepend(make("b", { classes: "who" }, state.about.models[model].name));
  return box;
}

function askingItem() {
  const { question, chosen, texts, note } = state.asking;
  const boxes = state.room.models.map((model) => {
    const waits = make("span", { classes: "dots", data: { "aria-label": "The model is working" } });
    const box = make("div", { classes: "answer" }, make("p", { data: { "data-streaming": String(model) } }, texts[model] ?? "", waits));
    if (state.room.models.length > 1) box.prepend(make("b", { classes: "who" }, state.about.models[model].name));
    return box;
  });
  const line = make("p", { classes: "note", hidden: !note }, note);
  return make("li", { classes: "asking" }, make("div", { classes: "question" }, ...chosen.map((target) => chip(target)), make("span", {}, question)), make("div", { classes: "answers" }, ...boxes), line);
}

function showTools() {
  const isAsking = Boolean(state.asking);
  find("send").hidden = isAsking;
  find("stop").hidden = !isAsking;
  find("undo").disabled = find("branch").disabled = isAsking || !state.room.turns.length;
}

// ---- asking

async function ask() {
  const question = find("question").value.trim();
  if (state.asking || !state.room) return;
  if (!question) { tell("The question is empty. Ask something about the picture."); return; }
  tell("");
  const room = state.room, chosen = state.chosen;
  const asking = { controller: new AbortController(), question, chosen, texts: {}, note: "" };
  state.asking = asking;
  find("question").value = "";
  fit();
  showTurns();
  showTools();
  try {
    const about = chosen.map(({ model, turn, target }) => ({ model, turn, target }));
    const turn = await listen(at("/ask"), { question, about }, asking);
    room.turns.push(turn);
    const listed = state.rooms.find((item) => item.id === room.id);
    if (listed) listed.turns = room.turns.length;
    if (state.room === room) {
      state.chosen = [];
      state.asking = null;
      await decodeRoom();
      if (Object.values(turn.answers).some((answer) => answer.targets.some((target) => target.box))) showLast();
    }
  } catch (error) {
    find("question").value = question;
    fit();
    if (error.name === "AbortError") toast("Stopped. The dialogue is as it was before the question.");
    else tell(error.message);
  } finally {
    state.asking = null;
    if (state.room) showAll();
  }
}

/** Reads the events of an answer; resolves with the finished turn. */
async function listen(address, body, asking) {
  let response;
  try {
    response = await fetch(address, { method: "POST", body: JSON.stringify(body), signal: asking.controller.signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(GONE);
  }
  if (!response.ok) throw new Error((await response.json()).message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let step;
    try {
      step = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new Error(GONE);
    }
    if (step.done) throw new Error("The answer broke off. The dialogue is as it was before the question; ask again.");
    const lines = (rest + step.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.kind === "done") return event.turn;
      if (event.kind === "error") throw new Error(event.message);
      if (event.kind === "waiting") asking.note = `${event.before} ${event.before === 1 ? "question is" : "questions are"} answered first`;
      if (event.kind === "text") { asking.note = ""; asking.texts[event.model] = event.text; }
      if (state.asking === asking) stream(asking);
    }
  }
}

function stream(asking) {
  for (const [model, text] of Object.entries(asking.texts)) {
    const place = document.querySelector(`[data-streaming="${model}"]`);
    if (place) place.firstChild.nodeType === Node.TEXT_NODE ? (place.firstChild.data = text) : place.prepend(text);
  }
  const note = document.querySelector(".asking > .note");
  if (note) { note.textContent = asking.note; note.hidden = !asking.note; }
  find("turns").scrollTop = find("turns").scrollHeight;
}

async function undo() {
  if (state.asking || !state.room?.turns.length) return;
  await attempt(async () => {
    const asked = state.room.turns.at(-1).question;
    const room = await post(at("/undo"));
    const listed = state.rooms.find((item) => item.id === room.id);
    if (listed) listed.turns = room.turns.length;
    await openRoom(room);
    if (!find("question").value) { find("question").value = asked; fit(); }
  });
}

async function branch() {
  if (state.asking || !state.room?.turns.length) return;
  await attempt(async () => {
    const room = await post(at("/branch"));
    await openRoom(room);
    toast("A branch: both dialogues go on by themselves. The tabs above switch between them.");
  });
}

function correct(model, turn, answer) {
  const room = state.room;
  openEditor({
    room, model, turn, answer, folder: state.about.corrections,
    picture: find("stages").querySelector("img"),
    masks: answer.targets.map((_, target) => state.masks.get(keyOf({ model, turn, target })) ?? null),
    onSave: async (correction) => {
      const { turn: changed, path } = await post(at("/corrections"), correction);
      room.turns[turn] = changed;
      state.masks.clear(); // other names, other colours
      state.chosen = [];
      await decodeRoom();
      showOnly((target) => target.turn === turn);
      showAll();
      toast(`Saved as a training sample: ${path}`);
    },
  });
}

// ---- taking along

function showDownloads() {
  const kinds = [["png", "Masks as PNG (zip)"], ["coco", "Masks as COCO run lengths (JSON)"], ["labelme", "Masks for Labelme (zip)"], ["dialogue", "The dialogue, to load again"]];
  const isPair = state.room.models.length > 1;
  find("take-list").replaceChildren(...state.room.models.flatMap((model) => [
    ...(isPair ? [make("p", {}, state.about.models[model].name)] : []),
    ...kinds.map(([kind, words]) => make("a", { href: at(`/download/${kind}?model=${model}`), download: "", data: { "data-kind": kind }, on: { click: () => { find("take").open = false; } } }, words)),
  ]));
}

// ---- who answers

function showModels() {
  const { models } = state.about;
  find("about-button").replaceChildren(...models.map((model, number) => make("span", {}, `${number ? " · " : ""}${model.name}`, make("small", {}, ` ${model.notice.version ? `v${model.notice.version}` : model.notice.weights ?? ""}`))));
  find("about-button").title = "Which model and data version answers";
  find("about-facts").replaceChildren(...models.map((model) => make("dl", { classes: "facts" }, ...Object.entries(model.notice).flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, fact)]))));
  const choices = models.map((model, number) => [String(number), model.name]);
  if (models.length > 1) choices.push(["0,1", "both, side by side"]);
  find("mode").replaceChildren(...choices.map(([value, words]) => make("option", { value }, words)));
  find("mode-label").hidden = models.length < 2;
}

async function changeModels() {
  state.models = find("mode").value;
  if (!state.room) return;
  if (state.room.turns.length) toast("A new dialogue about the same picture. The one before stays in its tab.");
  const empty = state.room.turns.length ? null : state.room.id;
  await attempt(async () => {
    await openRoom(await post(at(`/again?models=${state.models}`)));
    if (empty) { await call(`/api/dialogues/${empty}`, { method: "DELETE" }); state.rooms = state.rooms.filter((item) => item.id !== empty); showRooms(); }
  });
}

// ---- wiring

function fit() {
  const box = find("question");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 140)}px`;
}

function escape() {
  if (state.asking) state.asking.controller.abort();
  else if (state.chosen.length) { state.chosen = []; showChosen(); paint(); }
}

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  const isTyping = event.target.matches("textarea, input:not([type=checkbox], [type=range]), select");
  if (event.key === "Escape") { escape(); return; }
  if (event.altKey && event.code === "KeyZ") { event.preventDefault(); undo(); return; }
  if (event.altKey && event.code === "KeyB") { event.preventDefault(); branch(); return; }
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const last = state.room && targetsOf(state.room).filter((target) => target.turn === state.room.turns.length - 1);
  const actions = {
    "/": () => find("question").focus(), "?": () => find("keys").showModal(), n: showStart,
    l: () => state.room && showLast(), a: () => state.room && showOnly(() => true), h: () => state.room && showOnly(() => false),
  };
  if (/^[1-9]$/.test(event.key) && last?.[event.key - 1]) choose(last[event.key - 1]);
  else if (actions[event.key.toLowerCase()]) actions[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
}

function wire() {
  find("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  find("question").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); } });
  find("question").addEventListener("input", fit);
  find("stop").addEventListener("click", escape);
  find("undo").addEventListener("click", undo);
  find("branch").addEventListener("click", branch);
  find("new-button").addEventListener("click", showStart);
  find("show-last").addEventListener("click", showLast);
  find("show-all").addEventListener("click", () => showOnly(() => true));
  find("show-none").addEventListener("click", () => showOnly(() => false));
  find("opacity").addEventListener("input", () => { find("opacity-value").textContent = `${find("opacity").value} %`; paint(); });
  find("mode").addEventListener("change", changeModels);
  find("about-button").addEventListener("click", () => find("about").showModal());
  find("keys-button").addEventListener("click", () => find("keys").showModal());
  find("message").lastElementChild.addEventListener("click", () => tell(""));
  for (const [name, take] of [["file", uploadPicture], ["saved", uploadSaved]]) {
    const input = find(name);
    input.addEventListener("change", () => { const [file] = input.files; input.value = ""; if (file) take(file); });
    input.parentElement.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); input.click(); } });
  }
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const [file] = event.dataTransfer.files;
    if (file) (file.name.endsWith(".json") ? uploadSaved : uploadPicture)(file);
  });
  addEventListener("paste", (event) => { const [file] = event.clipboardData.files; if (file && !document.querySelector("dialog[open]")) { event.preventDefault(); uploadPicture(file); } });
  addEventListener("keydown", onKey);
  addEventListener("click", (event) => { if (!find("take").contains(event.target)) find("take").open = false; });
  new ResizeObserver(paint).observe(find("stages"));
}

async function begin() {
  wire();
  await attempt(async () => {
    state.about = await call("/api/about");
    showModels();
    showSamples();
    find("drop-hint").textContent = `or drop it anywhere, or paste it; up to ${state.about.limits.upload_mb} MB`;
    state.rooms = await call("/api/dialogues");
    const wanted = state.rooms.find((item) => `#${item.id}` === location.hash);
    if (wanted) await openRoom(await call(`/api/dialogues/${wanted.id}`));
    else showStart();
  });
}

begin();
