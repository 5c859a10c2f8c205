// The page: modes, the form, and what is running.

const MODES = { text: TEXT, tools: TOOLS, json: JSON_MODE };
let mode = null;  // the name of the one that is shown
let running = null;  // the AbortController of the requests that are being answered

/** Shows a mode, with the prompt that was last written in it. */
function choose(name) {
  stop();
  if (mode) Object.assign(MODES[mode], { prompt: $("prompt").value, temperature: $("temperature").value });
  mode = name;
  const { intro, prompt, temperature, examples } = MODES[mode];
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  for (const each of Object.keys(MODES)) $(`${each}-panes`).hidden = each !== mode;
  $("walk").hidden = mode !== "text";
  $("hint").hidden = true;
  $("intro").textContent = intro;
  $("prompt").value = prompt ?? examples[0].prompt;
  $("temperature").value = temperature;
  $("examples").replaceChildren(...examples.map((example) => {
    const button = Object.assign(make("button", example.prompt), { type: "button", lang: example.lang ?? "en" });
    button.addEventListener("click", () => {
      $("prompt").value = example.prompt;
      if (example.schema) $("schema").value = pretty(example.schema);
      $("ask").requestSubmit();
    });
    return button;
  }));
  say("");
}

async function send() {
  stop();
  const mine = running = new AbortController();
  const { body, asked, summary } = MODES[mode];
  const sent = body();
  const panes = asked.map(([pane]) => pane);
  const started = performance.now();
  $("stop").removeAttribute("aria-disabled");
  $("hint").hidden = true;
  hideAbout();
  clearLines();
  say("Sent.");
  for (const pane of panes) pane.begin(started);
  const ticking = setInterval(() => {
    for (const pane of panes) if (pane.asking) pane.tick();
  }, 100);
  await Promise.all(asked.map(([pane, ask]) => answer(pane, () => ask(sent, mine.signal), mine.signal)));
  clearInterval(ticking);
  if (running !== mine) return;  // sent anew in the meantime
  running = null;
  $("stop").setAttribute("aria-disabled", "true");
  const fault = panes.find((pane) => !pane.fault.hidden)?.fault;
  if (fault) {
    say("That did not work.");
    $("said").textContent = fault.textContent;
  } else say(panes.every((pane) => pane.wholeAt) ? summary() : "Stopped.");
}

async function answer(pane, ask, signal) {
  try {
    const note = await ask();
    if (!signal.aborted) pane.ended(note);
  } catch (error) {
    if (!signal.aborted) {
      pane.failed(error);
      pane.ended(pane.tokens ? `${plural(pane.tokens, "token")} had come.` : "");
    }
  }
  if (signal.aborted && running?.signal === signal) {
    pane.ended(pane.tokens ? `Stopped after ${plural(pane.tokens, "token")}.` : "Stopped. Nothing had come.");
  }
}

function stop() {
  running?.abort();
}

function chooseByAddress() {
  const name = location.hash.slice(1);
  choose(Object.hasOwn(MODES, name) ? name : "text");
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("modes").addEventListener("change", (event) => {
  choose(event.target.value);
  history.replaceState(null, "", `#${mode}`);
});
$("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if ($("about").hidden) stop();
  hideAbout();
});
window.addEventListener("hashchange", chooseByAddress);

$("schema").value = pretty(MESSAGE);
chooseByAddress();

/** Names the model, once it is loaded. It is a line of decoration: a failure is not shown. */
async function nameModel() {
  const response = await fetch("info");
  if (!response.ok) return setTimeout(() => nameModel().catch(() => {}), 2000);
  const { model_id: model, version } = await response.json();
  $("served").textContent = `hfstream ${version}, model ${model}.`;
}

nameModel().catch(() => {});
