// Asking: the question goes out, the answer comes in word by word.

import { find, fit, tell, toast } from "./elements.js";
import { showLast } from "./layer_list.js";
import { showAll } from "./rooms.js";
import { listen } from "./server.js";
import { at, decodeRoom, state } from "./state.js";
import { showTools, showTurns, stream } from "./turns.js";

/** Asks what stands in the question box. */
export async function ask() {
  const question = find("question").value.trim();
  if (state.asking || !state.room) return;
  if (!question) { tell("The question is empty. Ask something about the picture."); return; }
  tell("");
  const { room, chosen } = state;
  const asking = { controller: new AbortController(), roomId: room.id, question, chosen, texts: {}, note: "" };
  state.asking = asking;
  find("question").value = "";
  fit();
  showTurns();
  showTools();
  try {
    const about = chosen.map(({ model, turn, target }) => ({ model, turn, target }));
    const turn = await listen(at("/ask"), { question, about }, asking.controller.signal, (event) => take(event, asking));
    await finish(turn, room.id, room.turns.length);
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

function take(event, asking) {
  if (event.kind === "waiting") asking.note = `${event.before} ${event.before === 1 ? "question is" : "questions are"} answered first`;
  if (event.kind === "text") { asking.note = ""; asking.texts[event.model] = event.text; }
  if (state.asking === asking && state.room?.id === asking.roomId) stream();
}

/** Takes up the finished turn, the dialogue's `number`th; another dialogue may be open by now. */
async function finish(turn, roomId, number) {
  const listed = state.rooms.find((item) => item.id === roomId);
  if (listed) listed.turns = number + 1;
  state.asking = null;
  if (state.room?.id !== roomId) return;
  if (state.room.turns.length === number) state.room.turns.push(turn); // else it was opened anew, with the turn
  state.chosen = [];
  await decodeRoom();
  if (Object.values(turn.answers).some((answer) => answer.targets.some((target) => target.box))) showLast();
}
