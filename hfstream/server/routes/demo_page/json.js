// The mode JSON: an answer that fits a schema, and the object that it makes while it is written.

const json = new Pane("object");

/** The value of JSON that has come in part, with what has come of its last text or number; undefined if it is no JSON. */
function partialValue(text) {
  let at = 0;
  const skip = () => match(/\s*/y);
  const match = (pattern) => {
    pattern.lastIndex = Math.min(at, text.length);
    const [found] = pattern.exec(text);
    at = pattern.lastIndex;
    return found;
  };
  const string = () => {
    const found = match(/"(?:[^"\\]|\\u[\da-f]{4}|\\[^u])*/iy);
    at = text[at] === '"' ? at + 1 : text.length;  // half an escape at the end is left out
    return JSON.parse(found + '"');
  };
  const list = (end, item) => {
    at += 1;
    for (skip(); at < text.length && text[at] !== end; skip()) {
      item();
      skip();
      if (text[at] === ",") at += 1;
    }
    at += 1;
  };
  const value = () => {
    skip();
    if (text[at] === '"') return string();
    if (text[at] === "[") {
      const items = [];
      list("]", () => { const item = value(); if (item !== undefined) items.push(item); });
      return items;
    }
    if (text[at] === "{") {
      const members = {};
      list("}", () => {
        const name = string();
        skip();
        if (text[at] !== ":") return;
        at += 1;
        const member = value();
        if (member !== undefined) members[name] = member;
      });
      return members;
    }
    const found = match(/[^\s,\]}]*/y);
    at += found ? 0 : 1;
    try {
      return JSON.parse(found);
    } catch {
      return undefined;  // such as "tru"
    }
  };
  try {
    return value();
  } catch {
    return undefined;
  }
}

/** A value as elements; what the schema names and has not come is shown as missing. */
function element(value, schema) {
  if (Array.isArray(value)) {
    const list = make("ul");
    for (const item of value) {
      const line = make("li");
      line.append(element(item, schema?.items));
      list.append(line);
    }
    return list;
  }
  if (value === null || typeof value !== "object") return make("span", String(value));
  const table = make("dl", "", "members");
  for (const name of new Set([...Object.keys(schema?.properties ?? {}), ...Object.keys(value)])) {
    const shown = make("dd");
    shown.append(Object.hasOwn(value, name) ? element(value[name], schema?.properties?.[name]) : make("span", "…", "soft"));
    table.append(make("dt", name), shown);
  }
  return table;
}

async function askJson({ schema: given, ...fields }, signal) {
  $("written").textContent = "";
  let schema;
  try {
    schema = JSON.parse(given);
  } catch (error) {
    throw new Refusal(`The schema is not JSON: correct it, then send again. ${error.message}`);
  }
  fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  let drawn = false;
  const draw = (text) => {
    drawn = false;
    const value = partialValue(text);
    following(json.answer, () => json.answer.replaceChildren(...value === undefined ? [] : [element(value, schema)]));
    following($("written"), () => { $("written").textContent = text; });
  };
  const answer = await streamChat(fields, json, signal, ({ content }) => {
    if (json.tokens === 1) say(`The first token came after ${seconds(json.firstAt)}.`);
    json.text = content;
    if (drawn) return;
    drawn = true;
    requestAnimationFrame(() => draw(json.text));
  });
  draw(answer.content);
  if (answer.reason === "length") throw tooLong();
  try {
    JSON.parse(answer.content);
  } catch {
    throw new Refusal("The answer is not JSON: this server does not guide answers by a schema.");
  }
  json.wholeAt = json.now;
  return `${answer.content.length} characters. It fits the schema; whether it is true depends on the model.`;
}

// Of words to choose from, numbers and truth values: a very small model can fill them in too.

const MESSAGE = {
  type: "object",
  properties: {
    language: { enum: ["English", "German", "French"] },
    topic: { enum: ["order", "delivery", "payment", "other"] },
    mood: { enum: ["happy", "neutral", "annoyed"] },
    urgent: { type: "boolean" },
    priority: { type: "integer", minimum: 1, maximum: 5 },
    reply: {
      type: "object",
      properties: { apologise: { type: "boolean" }, replace: { type: "boolean" }, refund: { type: "boolean" } },
      required: ["apologise", "replace", "refund"],
    },
  },
  required: ["language", "topic", "mood", "urgent", "priority", "reply"],
};

const DAY = {
  type: "object",
  properties: {
    city: { enum: ["Nuremberg", "Paris", "Tokyo"] },
    stops: {
      type: "array", minItems: 3, maxItems: 3,
      items: {
        type: "object",
        properties: {
          place: { enum: ["castle", "old town", "museum", "market", "river"] },
          hours: { type: "integer", minimum: 1, maximum: 4 },
          indoors: { type: "boolean" },
        },
        required: ["place", "hours", "indoors"],
      },
    },
  },
  required: ["city", "stops"],
};

const JSON_MODE = {
  intro: "The answer has to fit a schema. The object can be used field by field while it is written.",
  temperature: "0",
  examples: [
    { prompt: "Sort this message: The cheese came broken. Please send me a new one!", schema: MESSAGE },
    { prompt: "Plan a day in Nuremberg with three stops.", schema: DAY },
  ],
  body: () => ({
    schema: $("schema").value,
    messages: [{ role: "user", content: $("prompt").value }],
    temperature: 0,  // unless the form says otherwise
    ...parameters("max_tokens"),
  }),
  asked: [[json, askJson]],
  summary: () => `The object is whole and valid JSON, after ${seconds(json.wholeAt)}. Its first part came after ${seconds(json.firstAt)}.`,
};
