// Putting an answer right: opens the editor, and takes up what the server makes of it.

import { openEditor } from "./editor.js";
import { find, toast } from "./elements.js";
import { keyOf } from "./layers.js";
import { showOnly } from "./layer_list.js";
import { showAll } from "./rooms.js";
import { post } from "./server.js";
import { at, decodeRoom, state, takeUp } from "./state.js";

export function correct(model, turn) {
  const { room } = state, address = at("/corrections"), answer = room.turns[turn].answers[model];
  openEditor({
    room, model, turn, answer, folder: state.about.corrections,
    picture: find("stages").querySelector("img"),
    masks: answer.targets.map((_, target) => state.masks.get(keyOf({ model, turn, target })) ?? null),
    onSave: async (correction) => {
      const { room: changed, path } = await post(address, correction);
      if (state.room?.id !== changed.id) return;
      takeUp(changed);
      await decodeRoom();
      showOnly((target) => target.turn === turn);
      showAll();
      toast(`The dialogue goes on from what you said. Saved as a training sample: ${path}`);
    },
  });
}
