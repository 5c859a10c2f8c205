// Sending requests, and reading their answers and errors.

/** An error whose message is written for the user of the page. */
class Refusal extends Error {}

/** Sends the request until it is answered: retries when the server is overloaded, until `signal` is aborted. */
async function answerTo(path, body, pane, signal) {
  for (let tries = 1; ; tries += 1) {
    const headers = { "content-type": "application/json" };
    if ($("key").value) headers.authorization = `Bearer ${$("key").value}`;
    const response = await received(fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
    if (response.ok) return response;
    const words = await complaint(response);
    if (response.status === 401) askForKey();
    if (response.status !== 429 && response.status !== 503) throw new Refusal(advised(words, response.status));
    say(response.status === 429 ? "The server is busy. It is asked again until it answers; Stop ends that." :
      "The server cannot answer yet. It is asked again until it does; Stop ends that.");
    await pane.sentAway(words, wait(response, tries), signal);
  }
}

/** Reads a stream of events to its end; `use` takes the data of each. */
async function readEvents(response, pane, use) {
  const events = new EventReader({
    line: (line) => addLine(pane.now, line),
    event: (data) => {
      const event = data === "[DONE]" ? null : JSON.parse(data);
      if (event?.error) throw new Refusal(advised(errorWords(event.error), 500));
      use(event);
    },
  });
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { value, done } = await received(reader.read());
      if (done) return;
      events.feed(value);
    }
  } finally {
    reader.cancel().catch(() => {});  // or the server would go on for a page that has failed to read an event
  }
}

/** What comes over the network; its failures in words, since those of fetch differ from browser to browser. */
async function received(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error instanceof TypeError ? new Refusal("The server cannot be reached, or the connection was lost. " +
      "Check that it is still running, then send again.") : error;
  }
}

async function complaint(response) {
  const body = await received(response.text());
  if (response.status === 401) return $("key").value ? "The server does not accept this API key." :
    "This server requires an API key. Enter it below the prompt, then send again.";
  try {
    return errorWords(JSON.parse(body).error) || body;
  } catch {
    return body.slice(0, 500) || `HTTP ${response.status}, without a message.`;
  }
}

/** The message of an error of TGI's routes, which is a text, or of OpenAI's, which is an object. */
const errorWords = (error) => error?.message ?? error;

/** An error's words, and what to do about it if they do not say so. */
function advised(words, status) {
  const advice = /template not found/.test(words) ? "Tools and JSON need a model with a chat template; Text works." :
    status === 404 ? "This server does not have this route; another mode may work." :
    status === 424 || status >= 500 ? "Send again. If it fails again, the server's log says why." : "";
  return advice ? `${words.replace(/[.\s]*$/, "")}. ${advice}` : words;
}

/** Seconds until the next try: never less than the server asks for, and more each time. */
function wait(response, tries) {
  const told = response.headers.get("retry-after") || "1";
  const date = (Date.parse(told) - Date.now()) / 1000;
  const asked = [Number(told), date, 1].find(Number.isFinite);  // seconds, or a date, or neither
  return Math.max(asked, Math.min(4, 2 ** (tries - 2)));
}

function countdown(length, signal, tell) {
  return new Promise((resolve, reject) => {
    const end = performance.now() + 1000 * length;
    const step = () => {
      const left = (end - performance.now()) / 1000;
      if (left > 0) return tell(left);
      clearInterval(timer);
      resolve();
    };
    const timer = setInterval(step, 100);
    signal.addEventListener("abort", () => { clearInterval(timer); reject(signal.reason); }, { once: true });
    step();
  });
}

function askForKey() {
  if ($("guarded").hidden || $("key").value) {
    $("guarded").hidden = false;
    $("key").focus();
  }
}

/** What the form says of temperature, seed and length, under the names that all routes have but for the last. */
function parameters(most) {
  const given = {}, temperature = Number($("temperature").value);
  if ($("most").value) given[most] = Number($("most").value);
  if (temperature) {
    given.temperature = temperature;
    given.seed = $("seed").value ? Number($("seed").value) : Math.floor(Math.random() * 2 ** 32);
  }
  return given;
}

function say(words) {
  if ($("status").textContent !== words) $("status").textContent = words;
}
