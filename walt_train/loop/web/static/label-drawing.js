// What is drawn on a frame, with its past: every change can be undone. Nothing here knows of the page.
export const LABELS = ["person", "vehicle", "static"];
const PAST_MOST = 200;

/** Things nearest first: {label, track, amodal: [[x, y], ...], visible: null or [[[x, y], ...], ...]}. */
export class Drawing {
  #past = [];
  #future = [];
  #label = "person";

  constructor(size, things = []) {
    this.size = size;
    this.things = things;
    this.chosen = things.length ? 0 : -1;
    this.onchange = () => {};
  }

  get thing() {
    return this.things[this.chosen];
  }

  get json() {
    const round = (ring) => ring.map(([x, y]) => [Math.round(x * 10) / 10, Math.round(y * 10) / 10]);
    const things = this.things.map(({ label, track, amodal, visible }) => ({
      label, track, amodal: round(amodal), visible: visible ? visible.map(round) : null,
    }));
    return JSON.stringify({ size_wh: this.size, things });
  }

  /** Keeps what is there now, so that the next change can be undone. */
  remember() {
    this.#past.push(this.#state());
    if (this.#past.length > PAST_MOST) this.#past.shift();
    this.#future = [];
  }

  /** A change that can be undone. */
  change(how) {
    this.remember();
    how();
    this.chosen = Math.min(this.chosen, this.things.length - 1);
    this.onchange();
  }

  undo() {
    this.#travel(this.#past, this.#future);
  }

  redo() {
    this.#travel(this.#future, this.#past);
  }

  choose(place) {
    this.chosen = this.things.length ? Math.max(0, Math.min(this.things.length - 1, place)) : -1;
    this.onchange(false);
  }

  /** A new thing, of the class chosen last, goes before all others: who is drawn last is most often nearer. */
  add(ring) {
    this.change(() => {
      this.things.unshift({ label: this.#label, track: newTrack(), amodal: ring, visible: null });
      this.chosen = 0;
    });
  }

  addSeen(ring) {
    this.change(() => (this.thing.visible = [...(this.thing.visible ?? []), ring]));
  }

  forgetSeen() {
    this.change(() => (this.thing.visible = null));
  }

  remove(place = this.chosen) {
    if (this.things[place]) this.change(() => this.things.splice(place, 1));
  }

  /** Moves the chosen one nearer (-1) or farther (1). */
  reorder(by) {
    const to = this.chosen + by;
    if (!this.thing || to < 0 || to >= this.things.length) return;
    this.change(() => {
      const [one] = this.things.splice(this.chosen, 1);
      this.things.splice(to, 0, one);
      this.chosen = to;
    });
  }

  relabel(label, place = this.chosen) {
    if (!this.things[place]) return;
    this.#label = label;
    this.change(() => (this.things[place].label = label));
  }

  /** Moves the chosen thing as a whole. */
  move(dx, dy) {
    if (!this.thing) return;
    this.change(() => ringsOf(this.thing).flat().forEach((point) => { point[0] += dx; point[1] += dy; }));
  }

  /** Takes over outlines of objects that are not drawn yet; returns how many. */
  copy(things) {
    const known = new Set(this.things.map((thing) => thing.track));
    const fresh = things.filter((thing) => !known.has(thing.track));
    if (fresh.length) this.change(() => this.things.push(...fresh));
    return fresh.length;
  }

  #state() {
    return JSON.stringify([this.things, this.chosen]);
  }

  #travel(from, to) {
    if (!from.length) return;
    to.push(this.#state());
    [this.things, this.chosen] = JSON.parse(from.pop());
    this.onchange();
  }
}

export function ringsOf(thing) {
  return [thing.amodal, ...(thing.visible ?? [])];
}

/** The box around a ring: x, y, width, height. */
export function boxOf(ring) {
  const xs = ring.map((point) => point[0]), ys = ring.map((point) => point[1]);
  const x = Math.min(...xs), y = Math.min(...ys);
  return [x, y, Math.max(...xs) - x, Math.max(...ys) - y];
}

function newTrack() {
  return 1 + (crypto.getRandomValues(new Uint32Array(1))[0] % (2 ** 31 - 2));
}
