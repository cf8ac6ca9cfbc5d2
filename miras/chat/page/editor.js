// Putting an answer right: its text, the names of its masks, and the masks themselves with brush and polygon.
// What is drawn is kept as strokes in pixels of the picture; the server applies them at full size.

import { colourOf } from "./layers.js";
import { find } from "./elements.js";
import { drawCursor, drawOpenPolygon, layerOf } from "./strokes.js";

const MANY = 6;
const dialog = find("editor"), canvas = find("editor-canvas"), pen = canvas.getContext("2d");
const text = find("editor-text"), list = find("editor-targets"), message = find("editor-message");
const radius = find("editor-radius");

let job = null; // {room, model, turn, picture, masks, targets: [{source, phrase, edits, start}], chosen, tool, adds, open, cursor}
let save = null;

/** Opens the editor. `masks`: decoded mask or null per target. `onSave(correction)` rejects with a message. */
export function openEditor({ room, model, turn, answer, picture, masks, folder, onSave }) {
  job = {
    room, model, turn, picture, tool: "brush", adds: true, open: null, cursor: { x: room.view.width / 2, y: room.view.height / 2 }, hasCursor: false,
    targets: answer.targets.map((target, number) => ({ source: number, phrase: target.phrase, edits: [], start: masks[number] })),
    chosen: 0,
  };
  save = onSave;
  text.value = answer.pieces.map((piece) => piece.text).join("").trim();
  find("editor-folder").textContent = folder;
  say("");
  canvas.width = room.view.width;
  canvas.height = room.view.height;
  canvas.style.setProperty("--ratio", String(room.view.width / room.view.height));
  radius.max = Math.max(20, Math.round(Math.max(room.width, room.height) / 8));
  radius.value = Math.max(2, Math.round(Math.max(room.width, room.height) / 40));
  chooseTool("brush", true);
  dialog.showModal();
  showTargets();
  paint();
}

const scale = () => job.room.width / job.room.view.width; // pixels of the picture per pixel of the view

function say(words) {
  message.textContent = words;
  message.hidden = !words;
}

function chooseTool(tool, adds) {
  closePolygon();
  job.tool = tool;
  job.adds = adds;
  for (const button of dialog.querySelectorAll("[data-tool]")) {
    const isOn = button.dataset.tool === tool && (button.dataset.adds === "1") === adds;
    button.setAttribute("aria-pressed", String(isOn));
  }
  find("editor-radius-value").textContent = `${radius.value} px`;
}

function showTargets() {
  list.replaceChildren(...job.targets.map((target, number) => {
    const row = document.createElement("div");
    row.className = "edit-target";
    const pick = document.createElement("input");
    pick.type = "radio";
    pick.name = "edit-target";
    pick.checked = number === job.chosen;
    pick.setAttribute("aria-label", `Draw on mask ${number + 1}`);
    pick.style.setProperty("--layer", colourOf(number));
    pick.addEventListener("change", () => { closePolygon(); job.chosen = number; paint(); });
    const name = document.createElement("input");
    name.type = "text";
    name.value = target.phrase;
    name.placeholder = "name, as the answer says it";
    name.setAttribute("aria-label", `Name of mask ${number + 1}`);
    name.addEventListener("input", () => { target.phrase = name.value; });
    name.addEventListener("change", () => nameInText(target.phrase));
    name.addEventListener("focus", () => { closePolygon(); job.chosen = number; pick.checked = true; paint(); });
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "plain";
    remove.textContent = "✕";
    remove.setAttribute("aria-label", `Remove mask ${number + 1}`);
    remove.addEventListener("click", () => {
      job.open = null;
      job.targets.splice(number, 1);
      job.chosen = Math.max(0, Math.min(job.chosen, job.targets.length - 1));
      showTargets();
      paint();
    });
    row.append(pick, name, remove);
    return row;
  }));
}

/** A mask needs its name in the text: it is put at the end where it is missing. */
function nameInText(phrase) {
  const name = phrase.trim();
  if (!name || text.value.includes(name)) return;
  const stop = /[.!?]\s*$/.exec(text.value);
  text.value = stop ? `${text.value.slice(0, stop.index)}, ${name}${stop[0]}` : `${text.value.trim()} ${name}`.trim();
}

// ---- drawing

function paint() {
  if (!job) return;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(job.picture, 0, 0, canvas.width, canvas.height);
  job.targets.forEach((target, number) => {
    const isChosen = number === job.chosen;
    if (!isChosen && job.targets.length > MANY) return; // more would hide the picture
    const shown = isChosen && job.open?.tool === "brush" ? { ...target, edits: [...target.edits, job.open] } : target;
    pen.globalAlpha = isChosen ? 0.6 : 0.2;
    pen.drawImage(layerOf(shown, canvas, { colour: colourOf(number), scale: scale() }), 0, 0);
  });
  pen.globalAlpha = 1;
  const pixel = canvas.width / Math.max(1, canvas.clientWidth);
  if (job.open?.tool === "polygon") drawOpenPolygon(pen, job.open.points.map(inView), job.cursor, pixel);
  if (job.hasCursor) drawCursor(pen, job.cursor, job.tool === "brush" ? radius.value / scale() : 4 * pixel, pixel);
}

const inView = ([x, y]) => [x / scale(), y / scale()];
const inPicture = ({ x, y }) => [Math.round(x * scale() * 10) / 10, Math.round(y * scale() * 10) / 10];

function place(event) {
  const frame = canvas.getBoundingClientRect();
  job.cursor = { x: ((event.clientX - frame.left) / frame.width) * canvas.width, y: ((event.clientY - frame.top) / frame.height) * canvas.height };
  job.hasCursor = true;
}

function addTarget() {
  job.targets.push({ source: null, phrase: "", edits: [], start: null });
  job.chosen = job.targets.length - 1;
  showTargets();
  paint();
}

function press() {
  if (!job.targets.length) addTarget();
  if (job.tool === "brush") {
    job.open = { tool: "brush", adds: job.adds, radius: Number(radius.value), points: [inPicture(job.cursor)] };
  } else if (!job.open) {
    job.open = { tool: "polygon", adds: job.adds, points: [inPicture(job.cursor)] };
  } else if (isAtStart()) {
    closePolygon();
  } else {
    job.open.points.push(inPicture(job.cursor));
  }
  paint();
}

function isAtStart() {
  const [x, y] = job.open.points[0];
  const near = (10 * canvas.width) / Math.max(1, canvas.clientWidth);
  return job.open.points.length > 2 && Math.hypot(x / scale() - job.cursor.x, y / scale() - job.cursor.y) < near;
}

function closePolygon() {
  if (job?.open?.tool === "polygon" && job.open.points.length > 2) job.targets[job.chosen].edits.push(job.open);
  if (job) job.open = null;
  paint();
}

function release() {
  if (job?.open?.tool !== "brush") return;
  job.targets[job.chosen].edits.push(job.open);
  job.open = null;
  paint();
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  place(event);
  press();
});
canvas.addEventListener("pointermove", (event) => {
  place(event);
  if (job.open?.tool === "brush") {
    for (const step of event.getCoalescedEvents?.() ?? [event]) { place(step); if (job.open.points.length < 4900) job.open.points.push(inPicture(job.cursor)); }
    place(event);
  }
  paint();
});
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", () => { if (job) { job.hasCursor = false; paint(); } });
canvas.addEventListener("dblclick", closePolygon);
canvas.addEventListener("keydown", (event) => {
  const far = event.shiftKey ? 20 : 3;
  const step = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
  if (step) {
    job.cursor = { x: Math.min(canvas.width, Math.max(0, job.cursor.x + step[0])), y: Math.min(canvas.height, Math.max(0, job.cursor.y + step[1])) };
    job.hasCursor = true;
  } else if (event.key === " ") { press(); release(); } else if (event.key === "Enter") closePolygon();
  else return;
  event.preventDefault();
  paint();
});

for (const button of dialog.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => chooseTool(button.dataset.tool, button.dataset.adds === "1"));
}
radius.addEventListener("input", () => { find("editor-radius-value").textContent = `${radius.value} px`; paint(); });
find("editor-add").addEventListener("click", () => { closePolygon(); addTarget(); list.querySelector(".edit-target:last-child input[type=text]").focus(); });
find("editor-undo").addEventListener("click", () => { if (job.open) job.open = null; else job.targets[job.chosen]?.edits.pop(); paint(); });
find("editor-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=text], textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const tool = { b: ["brush", true], e: ["brush", false], p: ["polygon", true], c: ["polygon", false] }[event.key.toLowerCase()];
  if (tool) { chooseTool(...tool); event.preventDefault(); }
});
dialog.addEventListener("cancel", (event) => { if (job?.open) { event.preventDefault(); job.open = null; paint(); } });
find("editor-save").addEventListener("click", async () => {
  closePolygon();
  const button = find("editor-save");
  button.disabled = true;
  try {
    await save({
      model: job.model, turn: job.turn, text: text.value,
      targets: job.targets.map(({ source, phrase, edits }) => ({ source, phrase, edits })),
    });
    dialog.close();
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
});
