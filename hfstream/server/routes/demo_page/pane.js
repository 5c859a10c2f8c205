// A pane: the clocks and the text of one answer.

class Pane {
  constructor(id) {
    this.root = $(id);
    for (const name of ["first", "whole", "pace", "busy", "fault", "answer", "note"]) {
      this[name] = this.root.querySelector(`.${name}`);
    }
    this.asking = false;
  }

  begin(started) {
    Object.assign(this, { started, asking: true, firstAt: null, wholeAt: null, tokens: 0, rate: 0, text: "", away: 0 });
    this.root.classList.add("asking");
    this.root.setAttribute("aria-busy", "true");
    this.busy.hidden = this.fault.hidden = true;
    this.answer.dataset.waiting = "waiting …";
    this.answer.replaceChildren();
    this.pace.textContent = "–";
    this.note.textContent = "";
    this.tick();
  }

  get now() {
    return (performance.now() - this.started) / 1000;
  }

  tick() {
    for (const [shown, at] of [[this.first, this.firstAt], [this.whole, this.wholeAt]]) {
      if (at === null && !this.asking) shown.textContent = "–";
      else shown.textContent = at === null ? `${this.now.toFixed(1)} s` : seconds(at);
      shown.classList.toggle("running", at === null);
      shown.classList.toggle("known", at !== null);
    }
  }

  async sentAway(words, length, signal) {
    const left = make("b");
    this.busy.replaceChildren(`${words.replace(/\.$/, "")}. Asking again in `, left);
    this.busy.hidden = false;
    this.answer.dataset.waiting = "not answered yet …";
    const since = performance.now();
    await countdown(length, signal, (rest) => { left.textContent = `${rest.toFixed(1)} s`; });
    this.away += (performance.now() - since) / 1000;
    left.textContent = "now …";
  }

  spoke() {
    this.busy.hidden = true;
    this.firstAt ??= this.now;
  }

  ended(note) {
    this.asking = false;
    this.busy.hidden = true;
    this.answer.dataset.waiting = "";
    this.root.classList.remove("asking");
    this.root.removeAttribute("aria-busy");
    this.note.textContent = note + (this.away ? ` ${seconds(this.away)} of it was waiting for a place.` : "");
    this.tick();
  }

  failed(error) {
    this.fault.textContent = error.message;
    this.fault.hidden = false;
  }

  paced(value) {
    if (!Number.isFinite(value) || value <= 0) return;
    this.rate = value;
    this.pace.textContent = value.toFixed(1);
  }
}
