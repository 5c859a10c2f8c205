// Tokens in the pane, and the tooltip about each.

const facts = new WeakMap();  // of each token's element, its event

function addToken(event) {
  const { text, special, logprob } = event.token;
  const box = streaming.answer;
  const shown = make("span", special ? "" : text, "token");
  if (special) shown.dataset.mark = text;
  else if (text === "") shown.dataset.mark = "·";
  else if (text.includes("\n")) {
    shown.dataset.mark = "↵";
    shown.classList.add("break");
  }
  if (logprob !== null && logprob < Math.log(0.9)) shown.classList.add(logprob < Math.log(0.5) ? "doubtful" : "unsure");
  shown.tabIndex = box.childElementCount ? -1 : 0;  // the tokens are one stop for Tab; arrows lead from one to the next
  facts.set(shown, event);
  following(box, () => box.append(shown));
}

const visible = (text) => text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥") || "(no text)";

function percent(logprob) {
  if (logprob === null) return "unknown";
  const share = 100 * Math.exp(logprob);
  if (share > 99.995) return "100 %";
  return share < 0.01 ? "< 0.01 %" : `${share.toFixed(share < 10 ? 2 : 1)} %`;
}

function showAbout(shown) {
  told = shown;
  const { token, top_tokens: top } = facts.get(shown);
  const rows = (top ?? []).some(({ id }) => id === token.id) ? top : [token, ...(top ?? [])];
  const table = make("table");
  for (const row of rows) {
    const line = table.insertRow();
    const bar = make("i");
    bar.style.width = `${100 * Math.exp(row.logprob ?? -99)}%`;
    line.className = row.id === token.id ? "chosen" : "";
    const share = make("td", "", "bar");
    share.append(bar);
    line.append(Object.assign(make("th", visible(row.text)), { scope: "row" }), share, make("td", percent(row.logprob)));
  }
  const part = token.text === "" && !token.special ? "A part of a character: its text comes with the next token." : "";
  const logprob = token.logprob === null ? "unknown" : (token.logprob > -0.00005 ? 0 : token.logprob).toFixed(4);
  const numbers = `probability ${percent(token.logprob)}, logprob ${logprob}, id ${token.id}`;
  $("about").replaceChildren(make("div", numbers), part && make("div", part, "soft"), table);
  $("about").hidden = false;
  place($("about"), shown.getClientRects()[0] ?? shown.getBoundingClientRect());
  return `${visible(token.text)}: ${numbers}`;
}

/** Below what it tells about where there is room, else above; never beyond the window. */
function place(box, { left, top, bottom }) {
  const room = document.documentElement.clientHeight - bottom > box.offsetHeight + 8;
  box.style.top = `${room ? bottom + 4 : Math.max(4, top - box.offsetHeight - 4)}px`;
  box.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - box.offsetWidth - 8))}px`;
}

let leaving = 0;
let told = null;  // the token that it tells about

function hideAbout() {
  clearTimeout(leaving);
  $("about").hidden = true;
}

function hideSoon() {
  clearTimeout(leaving);
  leaving = setTimeout(hideAbout, 250);  // time enough to move the pointer onto it
}

function walk(event) {
  const here = event.target.closest(".token");
  const box = streaming.answer;
  const there = {
    ArrowRight: here?.nextElementSibling, ArrowLeft: here?.previousElementSibling,
    Home: box.firstElementChild, End: box.lastElementChild,
  }[event.key];
  if (!here || !there) return;
  event.preventDefault();
  there.focus();
}

streaming.answer.addEventListener("pointermove", (event) => {
  if (!event.target.matches(".token")) return;
  clearTimeout(leaving);
  if ($("about").hidden || told !== event.target) showAbout(event.target);
});
streaming.answer.addEventListener("pointerleave", hideSoon);
$("about").addEventListener("pointerenter", () => clearTimeout(leaving));
$("about").addEventListener("pointerleave", hideSoon);
streaming.answer.addEventListener("keydown", walk);
streaming.answer.addEventListener("focusin", (event) => {
  if (!event.target.matches(".token")) return;
  for (const old of streaming.answer.querySelectorAll('[tabindex="0"]')) old.tabIndex = -1;
  event.target.tabIndex = 0;
  clearTimeout(leaving);
  $("said").textContent = showAbout(event.target);
});
streaming.answer.addEventListener("focusout", hideAbout);
for (const [what, kind] of [[streaming.answer, "scroll"], [window, "scroll"], [window, "resize"]]) {
  what.addEventListener(kind, () => {
    const walking = document.activeElement?.closest(".token");  // whose focus may be what scrolled
    if (walking && !$("about").hidden) showAbout(walking);
    else hideAbout();
  });
}
