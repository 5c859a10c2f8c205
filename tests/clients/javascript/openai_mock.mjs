// What OpenAI's client reads of `hfstream mock`. node openai_mock.mjs URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "-", maxRetries: 0 });
const ask = (content, options = {}) =>
  client.chat.completions.create({ model: "m", messages: [{ role: "user", content }], ...options });
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];
const read = { text: "", half: "", calls: [] };

for await (const chunk of await ask("cheese", { stream: true })) read.text += chunk.choices[0]?.delta?.content ?? "";
read.whole = (await ask("cheese")).choices[0].message.content;
read.response = (await client.responses.create({ model: "m", input: "cheese" })).output_text;
for await (const chunk of await ask("weather", { stream: true, tools })) {
  for (const call of chunk.choices[0]?.delta?.tool_calls ?? []) {
    read.calls[call.index] ??= { name: call.function.name, arguments: "" };
    read.calls[call.index].arguments += call.function.arguments;
  }
}
try {
  for await (const chunk of await ask("half", { stream: true })) read.half += chunk.choices[0]?.delta?.content ?? "";
} catch (error) {
  read.error = String(error);
}
console.log(JSON.stringify(read));
