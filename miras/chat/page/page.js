// The chat page: what a click, a key, a dropped file does.

import { ask } from "./asking.js";
import { choose, chooseNone } from "./choosing.js";
import { correct } from "./correcting.js";
import { attempt, find, fit, tell } from "./elements.js";
import { showLast, showOnly } from "./layer_list.js";
import { changeModels, showModels } from "./models.js";
import { paint } from "./picture.js";
import { branch, openRoom, showStart, undo } from "./rooms.js";
import { call } from "./server.js";
import { showSamples, uploadPicture, uploadSaved } from "./start.js";
import { state, targets } from "./state.js";

const on = (name, event, handler) => find(name).addEventListener(event, handler);

/** Stops the answer, or lets go of what the question is about. */
function escape() {
  if (state.asking) state.asking.controller.abort();
  else if (state.chosen.length) chooseNone();
}

const KEYS = {
  "/": () => find("question").focus(),
  "?": () => find("keys").showModal(),
  n: showStart,
  l: () => state.room && showLast(),
  a: () => state.room && showOnly(() => true),
  h: () => state.room && showOnly(() => false),
};

/** What a key does where nobody types; undefined: nothing. */
function actionOf(key) {
  if (!/^[1-9]$/.test(key)) return KEYS[key.toLowerCase()];
  const last = state.room && targets().filter((target) => target.turn === state.room.turns.length - 1);
  return last?.[key - 1] && (() => choose(last[key - 1]));
}

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") { escape(); return; }
  const isTyping = event.target.matches("textarea, input:not([type=checkbox], [type=range]), select");
  const withAlt = event.altKey ? { KeyZ: undo, KeyB: branch }[event.code] : undefined;
  const action = withAlt ?? (isTyping || event.ctrlKey || event.metaKey || event.altKey ? undefined : actionOf(event.key));
  if (!action) return;
  event.preventDefault();
  action();
}

function wireQuestion() {
  on("ask", "submit", (event) => { event.preventDefault(); ask(); });
  on("question", "keydown", (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); } });
  on("question", "input", fit);
  on("stop", "click", escape);
  on("undo", "click", undo);
  on("branch", "click", branch);
  on("turns", "click", (event) => {
    const idea = event.target.closest(".idea"), pencil = event.target.closest(".pencil");
    if (idea) { find("question").value = idea.textContent; ask(); }
    if (pencil) correct(Number(pencil.dataset.model), Number(pencil.dataset.turn));
  });
}

function wirePicture() {
  on("show-last", "click", showLast);
  on("show-all", "click", () => showOnly(() => true));
  on("show-none", "click", () => showOnly(() => false));
  on("opacity", "input", () => { find("opacity-value").textContent = `${find("opacity").value} %`; paint(); });
  new ResizeObserver(paint).observe(find("stages"));
}

function wireHead() {
  on("new-button", "click", showStart);
  on("mode", "change", changeModels);
  on("about-button", "click", () => find("about").showModal());
  on("keys-button", "click", () => find("keys").showModal());
  find("message").lastElementChild.addEventListener("click", () => tell(""));
  addEventListener("click", (event) => { if (!find("take").contains(event.target)) find("take").open = false; });
  addEventListener("keydown", onKey);
}

function wireFiles() {
  for (const [name, upload] of [["file", uploadPicture], ["saved", uploadSaved]]) {
    const input = find(name);
    input.addEventListener("change", () => { const [file] = input.files; if (file) upload(file); input.value = ""; });
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
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    uploadPicture(file);
  });
}

async function begin() {
  wireQuestion();
  wirePicture();
  wireHead();
  wireFiles();
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
