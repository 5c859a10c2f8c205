// The mode Text: one prompt, asked twice at once, with streaming and without.

const waiting = new Pane("waiting");
const streaming = new Pane("streaming");

async function askWaiting(body, signal) {
  const response = await answerTo("generate", body, waiting, signal);
  const answer = await received(response.json());
  waiting.spoke();
  waiting.wholeAt = waiting.firstAt;
  waiting.text = answer.generated_text;
  waiting.answer.textContent = answer.generated_text.trimStart();  // the bundled model begins with a line feed
  waiting.tokens = answer.details.generated_tokens;
  waiting.paced(waiting.tokens / waiting.wholeAt);
  return describe(waiting.tokens, answer.details);
}

async function askStreaming(body, signal) {
  const response = await answerTo("generate_stream", body, streaming, signal);
  let last = null;
  await readEvents(response, streaming, (event) => {
    streaming.spoke();
    if (streaming.tokens === 0) say(`The first token came after ${seconds(streaming.firstAt)}.`);
    streaming.tokens += 1;
    if (!event.token.special) streaming.text += event.token.text;
    streaming.paced((streaming.tokens - 1) / (streaming.now - streaming.firstAt));
    addToken(event);
    if (event.generated_text !== null) last = event;
  });
  if (!last) throw new Refusal("The stream ended before its answer did. Send again.");
  streaming.wholeAt = streaming.now;
  return describe(streaming.tokens, last.details);
}

function describe(tokens, details) {
  const ends = { length: "It is as long as was allowed.", stop_sequence: "A stop sequence ended it." };
  const seed = details.seed === null ? "Greedy." : `Seed ${details.seed}.`;
  return `${tokens} tokens. ${seed} ${ends[details.finish_reason] ?? ""}`.trim();
}

function compare() {
  const gained = waiting.firstAt - streaming.firstAt;
  const gain = waiting.away || streaming.away ? "There was no place for both at once: the times say little." :
    gained > 0 ? `Reading could begin ${seconds(gained)} earlier.` : "";
  if (streaming.tokens > 9 && streaming.rate > 100) {
    $("hint").replaceChildren(
      `At ${Math.round(streaming.rate)} tokens a second there is little to see. For a speed that can be read: `,
      make("code", "hfstream serve --tokens-per-second 30"));
    $("hint").hidden = false;
  }
  return `${gain} ${waiting.text === streaming.text ? "Both texts are the same." : "The two texts differ."}`;
}

const TEXT = {
  intro: "One prompt, sent twice at once: its tokens as they come, and the whole answer once it is whole.",
  temperature: "0.8",
  examples: [
    { prompt: "How do you make cheese?" },
    { prompt: "What is Deep Learning?" },
    { prompt: "What can you do in Nuremberg, Germany? Give me 3 Tips" },
    { prompt: "Wie macht man Käse?", lang: "de" },
  ],
  body: () => ({ inputs: $("prompt").value, parameters: { details: true, top_n_tokens: 4, ...parameters("max_new_tokens") } }),
  asked: [[streaming, askStreaming], [waiting, askWaiting]],
  summary: compare,
};
