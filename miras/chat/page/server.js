// Requests to the page's server. Its refusals come as errors with its message.

const GONE = "The server cannot be reached. Is it still running? What was asked is kept in the question box.";
const BROKEN_OFF = "The answer broke off. The dialogue is as it was before the question; ask again.";

/** The JSON answer of the server. */
export async function call(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error(GONE);
  }
  const content = await contentOf(response);
  if (!response.ok) throw refusal(response, content);
  return content;
}

export const post = (address, body) => call(address, { method: "POST", body: body === undefined ? undefined : JSON.stringify(body) });

async function contentOf(response) {
  try {
    return await response.json();
  } catch {
    throw new Error(`The server answered with ${response.status} and no message.`);
  }
}

const refusal = (response, content) => new Error(content.message ?? `The server answered with ${response.status}.`);

const orAborted = (error) => (error.name === "AbortError" ? error : new Error(GONE));

/** Asks and reads the events of the answer, each told to `onEvent`; resolves with the finished turn. */
export async function listen(address, body, signal, onEvent) {
  let response;
  try {
    response = await fetch(address, { method: "POST", body: JSON.stringify(body), signal });
  } catch (error) {
    throw orAborted(error);
  }
  if (!response.ok) throw refusal(response, await contentOf(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let step;
    try {
      step = await reader.read();
    } catch (error) {
      throw orAborted(error);
    }
    if (step.done) throw new Error(BROKEN_OFF);
    const lines = (rest + step.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.kind === "done") return event.turn;
      if (event.kind === "error") throw new Error(event.message);
      onEvent(event);
    }
  }
}
