// The last lines of the stream, as they came.

const MOST_LINES = 200;
let pending = [];

function clearLines() {
  pending = [];
  $("lines").replaceChildren();
}

function addLine(at, line) {
  pending.push([at, line]);
  if (pending.length > MOST_LINES) pending.shift();
  if (pending.length === 1) requestAnimationFrame(showLines);
}

function showLines() {
  if (!$("raw").open) return;
  const box = $("lines");
  following(box, () => {
    for (const [at, line] of pending.splice(0)) {
      const shown = make("div");
      if (line) shown.append(make("time", `${at.toFixed(3).padStart(7)} s  `), line);
      box.append(shown);
    }
    while (box.childElementCount > MOST_LINES) box.firstElementChild.remove();
  });
}

$("raw").addEventListener("toggle", showLines);
