// The mode Tools: the model calls functions of this page, gets their results, and answers.

const tools = new Pane("calls");

const MOST_ROUNDS = 4;
/** Answers of the model to one prompt. In the last one it may not call anything, so that there is an end. */

const CITIES = ["Nuremberg", "Berlin", "Paris", "London", "Rome", "New York", "Tokyo", "Sydney"];

const FUNCTIONS = {
  get_weather: {
    description: "The weather in a city today.",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: CITIES } },
      required: ["city"],
    },
    run: weather,
  },
  calculator: {
    description: "The value of an arithmetic expression.",
    parameters: {
      type: "object",
      properties: { expression: { type: "string", pattern: "^[0-9+*/(). -]{1,40}$", description: "Such as 17 * 23" } },
      required: ["expression"],
    },
    run: ({ expression }) => ({ result: calculate(String(expression)) }),
  },
};

/** Made up, but always the same for a city. */
function weather({ city }) {
  const number = CITIES.indexOf(city);
  if (number < 0) throw new Error(`there is no weather for ${city}, only for ${CITIES.join(", ")}`);
  return { city, temperature_celsius: 11 + 5 * number % 14, conditions: ["sunny", "cloudy", "light rain", "windy"][number % 4] };
}

/** The value of an expression of numbers, + - * / and parentheses. */
function calculate(expression) {
  const parts = expression.match(/\d+\.?\d*|\.\d+|\S/g) ?? [];
  const factor = () => {
    const part = parts.shift();
    if (part === "-") return -factor();
    if (part === "(") {
      const value = sum();
      if (parts.shift() !== ")") throw new Error("a closing parenthesis is missing");
      return value;
    }
    if (!/\d/.test(part ?? "")) throw new Error(`expected a number, not ${part ?? "the end"}`);
    return Number(part);
  };
  const product = () => {
    let value = factor();
    while (parts[0] === "*" || parts[0] === "/") value = parts.shift() === "*" ? value * factor() : value / factor();
    return value;
  };
  const sum = () => {
    let value = product();
    while (parts[0] === "+" || parts[0] === "-") value = parts.shift() === "+" ? value + product() : value - product();
    return value;
  };
  const value = sum();
  if (parts.length) throw new Error(`expected an operator, not ${parts[0]}`);
  if (!Number.isFinite(value)) throw new Error("the value is not a finite number");
  return value;
}

/** The result of a call as the text that is sent back; an error is one too, since the model can answer to it. */
function call({ name, arguments: text }) {
  try {
    if (!Object.hasOwn(FUNCTIONS, name)) throw new Error(`there is no function ${name}`);
    return JSON.stringify(FUNCTIONS[name].run(JSON.parse(text)));
  } catch (error) {
    return JSON.stringify({ error: error.message });
  }
}

async function askTools({ choice, messages, ...fields }, signal) {
  tools.calls = 0;
  for (let round = 1; ; round += 1) {
    const shown = new ShownAnswer();
    fields.tool_choice = round === 1 ? choice : round < MOST_ROUNDS ? "auto" : "none";
    const answer = await streamChat({ messages, ...fields }, tools, signal, (so_far) => shown.show(so_far));
    shown.finish();
    if (answer.reason === "length") throw tooLong();
    if (!answer.calls.length) break;
    messages.push({
      role: "assistant", content: answer.content || null,
      tool_calls: answer.calls.map(({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } })),
    });
    for (const each of answer.calls) {
      const result = call(each);
      following(tools.answer, () => addStep(`Result of ${each.name}, sent back`, "pre").textContent = result);
      messages.push({ role: "tool", tool_call_id: each.id, content: result });
      tools.calls += 1;
    }
    say(`${answer.calls.at(-1).name} was called; its result is sent back to the model.`);
  }
  tools.wholeAt = tools.now;
  return tools.calls ? `${plural(tools.calls, "call")}. The weather is made up; whether the call makes sense depends on the model.` :
    "The model answered without a call. With tool_choice \"required\" it has to make one.";
}

/** One answer of the model in the pane: its text, and its calls as they grow. */
class ShownAnswer {
  #text = null;
  #calls = [];

  show({ content, calls }) {
    following(tools.answer, () => {
      if (content) (this.#text ??= addStep("The model writes", "p")).textContent = content.trim();
      calls.forEach(({ name, arguments: text }, index) => {
        if (!this.#calls[index]) say(`The model calls ${name}.`);
        (this.#calls[index] ??= addStep(`The model calls ${name}`, "pre")).textContent = text;
      });
      this.finish();
      (this.#calls.at(-1) ?? this.#text)?.classList.add("growing");
    });
  }

  finish() {
    for (const each of [this.#text, ...this.#calls]) each?.classList.remove("growing");
  }
}

/** A part of the conversation under a title; returns the element for its text. */
function addStep(title, element) {
  const step = make("div", "", "step"), text = make(element);
  step.append(make("h3", title), text);
  tools.answer.append(step);
  return text;
}

for (const [name, { description, parameters: schema }] of Object.entries(FUNCTIONS)) {
  const details = make("details");
  details.append(make("summary", `${name}(${Object.keys(schema.properties).join(", ")})`), make("pre", pretty(schema)));
  $("functions").append(details, make("p", description, "soft"));
}

const TOOLS = {
  intro: "The model calls functions of this page. The call's arguments are streamed, its result is sent back, the answer follows.",
  temperature: "0",
  examples: [
    { prompt: "What is the weather in Nuremberg?" },
    { prompt: "What is 17 * 23?" },
    { prompt: "Is it warmer in Paris or in Tokyo?" },
  ],
  body: () => ({
    choice: $("choice").value,
    messages: [{ role: "user", content: $("prompt").value }],
    tools: Object.entries(FUNCTIONS).map(([name, { description, parameters: schema }]) => (
      { type: "function", function: { name, description, parameters: schema } })),
    parallel_tool_calls: false,
    temperature: 0,  // unless the form says otherwise
    ...parameters("max_tokens"),
  }),
  asked: [[tools, askTools]],
  summary: () => `The answer is whole, after ${plural(tools.calls, "call")} and ${seconds(tools.wholeAt)}.`,
};
