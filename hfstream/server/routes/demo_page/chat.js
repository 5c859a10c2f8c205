// Streamed chat completions, as the modes Tools and JSON read them.

/**
 * Streams one answer of a chat into `pane`, and returns it: `content`, `calls` and the finish reason.
 * `show` is called with the answer so far after each event that adds to it.
 */
async function streamChat(fields, pane, signal, show) {
  const body = { stream: true, ...fields };
  const response = await answerTo("v1/chat/completions", body, pane, signal);
  const answer = { content: "", calls: [], reason: null };
  let began = null, count = 0;
  await readEvents(response, pane, (event) => {
    const choice = event?.choices?.[0];
    if (!choice) return;
    answer.reason = choice.finish_reason ?? answer.reason;
    if (!addDelta(answer, choice.delta ?? {})) return;
    pane.spoke();
    pane.tokens += 1;
    began ??= pane.now;
    count += 1;
    pane.paced((count - 1) / (pane.now - began));
    show(answer);
  });
  if (!answer.reason) throw new Refusal("The stream ended before its answer did. Send again.");
  return answer;
}

/** Whether the delta had anything to add. */
function addDelta(answer, { content, tool_calls: calls }) {
  answer.content += content ?? "";
  for (const { index = 0, id, function: { name, arguments: part } = {} } of calls ?? []) {
    const call = answer.calls[index] ??= { id: "", name: "", arguments: "" };
    call.id ||= id ?? "";
    call.name ||= name ?? "";
    call.arguments += part ?? "";
  }
  return Boolean(content || calls?.length);
}

function tooLong() {
  return new Refusal(`The answer is cut off after ${$("most").value} tokens: allow more of them under Parameters, then send again.`);
}
