// How a dialogue begins: a picture of one's own, a sample, a saved dialogue.

import { attempt, find, make, tell } from "./elements.js";
import { openRoom } from "./rooms.js";
import { call } from "./server.js";
import { state } from "./state.js";

export async function uploadPicture(file) {
  const most = state.about.limits.upload_mb;
  if (file.size > most * 1e6) { tell(`“${file.name}” has ${Math.ceil(file.size / 1e6)} MB; at most ${most} MB are taken.`); return; }
  await attempt(async () => {
    document.body.classList.add("loading");
    try {
      await send(`/api/dialogues?models=${state.models}`, file, file.name || "pasted picture");
    } finally {
      document.body.classList.remove("loading");
    }
  });
}

export async function uploadSaved(file) {
  const title = file.name.replace(/(\.miras)?\.json$/, "");
  await attempt(() => send(`/api/saved?models=${state.models.split(",")[0]}`, file, title));
}

async function send(address, file, title) {
  const headers = { "x-file-name": encodeURIComponent(title) };
  await openRoom(await call(address, { method: "POST", headers, body: file }));
}

export function showSamples() {
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
