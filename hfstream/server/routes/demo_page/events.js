"use strict";

// Server-Sent Events from bytes, and small helpers that every part of the page uses.

const $ = (id) => document.getElementById(id);
const make = (name, text = "", className = "") => Object.assign(document.createElement(name), { textContent: text, className });
const seconds = (value) => `${value.toFixed(value < 1 ? 3 : 2)} s`;
const plural = (count, singular) => `${count} ${singular}${count === 1 ? "" : "s"}`;

/** JSON on several lines, with what has no further objects in it on one. */
const pretty = (value) => JSON.stringify(value, null, 2).replace(/\{[^{}]*\}|\[[^[\]{}]*\]/g, (part) => part.replace(/\s+/g, " "));

/** Changes the content of a box, and keeps its end in view if it was, and nothing in it has the focus. */
function following(box, change) {
  const follows = box.scrollTop + box.clientHeight > box.scrollHeight - 40 && !box.querySelector(":focus");
  change();
  if (follows) box.scrollTop = box.scrollHeight;
}

/** Lines and events from bytes that are cut anywhere, in a character or between CR and LF too. */
class EventReader {
  #decoder = new TextDecoder();
  #rest = "";
  #data = [];

  constructor({ line, event }) {
    this.line = line;
    this.event = event;
  }

  feed(bytes) {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);  // a CR at the very end may be half of a CRLF
    this.#rest = lines.pop();
    for (const line of lines) this.#read(line);
  }

  #read(line) {
    this.line(line);
    if (line === "") {
      const data = this.#data.splice(0);
      if (data.length) this.event(data.join("\n"));
    } else if (line.startsWith("data")) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") this.#data.push(value);
    }
  }
}
