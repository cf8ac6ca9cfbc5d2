// The dialogues of this browser: opened, shown, undone, branched, ended.

import { choose, showChosen } from "./choosing.js";
import { showDownloads } from "./downloads.js";
import { attempt, find, fit, make, toast } from "./elements.js";
import { showLast, showLayers } from "./layer_list.js";
import { makeStages, paint } from "./picture.js";
import { call, post } from "./server.js";
import { at, decodeRoom, state, takeUp } from "./state.js";
import { showTools, showTurns } from "./turns.js";

const ONLY_IN_A_ROOM = ["work", "take", "new-button"];

export async function openRoom(room) {
  takeUp(room);
  state.models = room.models.join(",");
  find("mode").value = state.models;
  find("start").hidden = true;
  for (const name of ONLY_IN_A_ROOM) find(name).hidden = false;
  find("work").classList.toggle("pair", room.models.length > 1);
  history.replaceState(null, "", `#${room.id}`);
  makeStages(choose);
  await decodeRoom();
  showLast();
  showAll();
  if (matchMedia("(min-width: 760px)").matches) find("question").focus();
}

/** The page for a new picture. */
export function showStart() {
  state.room = null;
  find("start").hidden = false;
  for (const name of ONLY_IN_A_ROOM) find(name).hidden = true;
  history.replaceState(null, "", location.pathname);
  showRooms();
}

export function showAll() {
  showRooms();
  showTurns();
  showLayers();
  showChosen();
  showTools();
  showDownloads();
  paint();
}

export function showRooms() {
  find("rooms").replaceChildren(...state.rooms.map(tab));
  find("rooms").hidden = !state.rooms.length;
}

function tab(item) {
  const isOpen = item.id === state.room?.id;
  const show = async () => openRoom(await call(`/api/dialogues/${item.id}`));
  const open = make("button", { type: "button", classes: "tab", on: { click: () => attempt(show) } }, item.title, make("small", {}, ` ${item.turns}`));
  if (isOpen) open.setAttribute("aria-current", "true");
  const close = make("button", { type: "button", classes: "plain", data: { "aria-label": `End the dialogue ${item.title}` }, on: { click: () => attempt(() => endRoom(item.id)) } }, "✕");
  return make("span", { classes: isOpen ? "tab-box open" : "tab-box" }, open, close);
}

export async function endRoom(id) {
  await call(`/api/dialogues/${id}`, { method: "DELETE" });
  state.rooms = state.rooms.filter((item) => item.id !== id);
  if (state.room?.id === id) showStart();
  else showRooms();
}

const canGoBack = () => !state.asking && state.room?.turns.length;

export async function undo() {
  if (!canGoBack()) return;
  await attempt(async () => {
    const asked = state.room.turns.at(-1).question;
    await openRoom(await post(at("/undo")));
    if (!find("question").value) { find("question").value = asked; fit(); }
  });
}

export async function branch() {
  if (!canGoBack()) return;
  await attempt(async () => {
    await openRoom(await post(at("/branch")));
    toast("A branch: both dialogues go on by themselves. The tabs above switch between them.");
  });
}
