// The page that one draws on: buttons, keys, the list of objects, and saving as one goes.
import { Board } from "./label-board.js";
import { Drawing, LABELS } from "./label-drawing.js";

const SAVE_MS = 800, ALIVE_MS = 240_000;
const WORDS = { person: "person", vehicle: "vehicle", static: "only hides" };
const page = document.getElementById("label");
const list = document.getElementById("things");
const saved = document.getElementById("saved");
const hint = document.getElementById("hint");
const { frame, csrf } = page.dataset;
const isMine = page.dataset.mine === "yes";

const drawing = new Drawing([Number(page.dataset.width), Number(page.dataset.height)], page.dataset.drawing ? JSON.parse(page.dataset.drawing).things : []);
const board = new Board(document.getElementById("board"), drawing, showPen);

let timer = 0;
let waits = false;
let isOver = false;
drawing.onchange = (isNew = true) => {
  board.show();
  showList();
  if (isNew) later();
};

// -- saving

function later() {
  waits = true;
  saved.textContent = "…";
  clearTimeout(timer);
  timer = setTimeout(save, SAVE_MS);
}

async function post(path) {
  const headers = { "content-type": "application/octet-stream", accept: "application/json", "x-csrf-token": csrf };
  const answer = await fetch(`/label/${frame}/${path}`, { method: "POST", body: drawing.json, headers });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.said ?? (answer.status === 403 ? "your session ended: sign in again in another tab" : `the answer was ${answer.status}`));
  return told;
}

async function save() {
  if (!isMine || isOver) return;
  waits = false;
  try {
    await post("draft");
    say("saved");
  } catch (error) {
    waits = true;
    say(`not saved: ${error.message}`, true);
  }
}

async function finish() {
  if (board.pen || !isMine) return say("finish the outline first", true);
  clearTimeout(timer);
  try {
    const told = await post("done");
    isOver = true;
    location.assign(told.next);
  } catch (error) {
    say(`not saved: ${error.message}`, true);
  }
}

async function copy() {
  const found = await (await fetch(`/label/${frame}/before`)).json();
  const count = found ? drawing.copy(found.things) : 0;
  say(count ? `${count} copied: delete what is gone, move what moved` : "nothing to copy");
}

function say(words, isBad = false) {
  saved.textContent = words;
  saved.classList.toggle("wrong", isBad);
}

// -- what is shown

function showPen() {
  const { pen } = board;
  page.classList.toggle("drawing", pen !== null);
  for (const name of ["draw", "seen"]) button(name).setAttribute("aria-pressed", String(pen !== null && pen.seen === (name === "seen")));
  showHint();
}

function showHint() {
  const { pen } = board;
  if (pen) hint.textContent = `${pen.seen ? "What is seen of it" : "Its whole outline, also where something hides it"}: click corners, then the first one again or Enter. Esc gives up.`;
  else if (drawing.thing) hint.textContent = "Drag corners; small dots between them make new ones.";
  else hint.textContent = "Outline (n) begins. A frame that shows nothing is done as it is.";
}

function showList() {
  list.replaceChildren(...drawing.things.map(entry));
  list.querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  showHint();
}

function entry(thing, place) {
  const item = document.createElement("li");
  item.className = place === drawing.chosen ? "chosen" : "";
  const pick = element("button", { type: "button", className: `pick ${thing.label}`, textContent: `${place + 1}` }, () => drawing.choose(place));
  pick.setAttribute("aria-label", `Choose ${WORDS[thing.label]} ${place + 1}`);
  pick.setAttribute("aria-pressed", String(place === drawing.chosen));
  const select = element("select", {}, () => {});
  select.setAttribute("aria-label", "Class");
  select.append(...LABELS.map((label) => new Option(WORDS[label], label, false, label === thing.label)));
  select.addEventListener("change", () => drawing.relabel(select.value, place));
  item.append(pick, select, mover(place, -1, "↑", "Nearer"), mover(place, 1, "↓", "Farther"), element("button", { type: "button", className: "quiet", textContent: "✕", title: "Delete", ariaLabel: "Delete" }, () => drawing.remove(place)));
  if (thing.visible) item.append(element("button", { type: "button", className: "quiet seen", textContent: "seen part drawn: forget it" }, () => { drawing.choose(place); drawing.forgetSeen(); }));
  return item;
}

function mover(place, by, sign, word) {
  const isEnd = place + by < 0 || place + by >= drawing.things.length;
  return element("button", { type: "button", className: "quiet", textContent: sign, title: word, ariaLabel: word, disabled: isEnd }, () => { drawing.choose(place); drawing.reorder(by); });
}

function element(name, values, onclick) {
  const made = Object.assign(document.createElement(name), values);
  made.addEventListener("click", onclick);
  return made;
}

// -- what can be done

function button(name) {
  return page.querySelector(`[data-do=${name}]`);
}

const ACTS = {
  draw: () => (board.pen ? board.stop() : board.begin(false)),
  seen: () => (board.pen ? board.stop() : drawing.thing ? board.begin(true) : say("choose what it is seen of first", true)),
  undo: () => (board.pen ? board.back() : drawing.undo()),
  redo: () => drawing.redo(),
  out: () => board.zoom(1 / 1.4),
  in: () => board.zoom(1.4),
  fit: () => board.fit(),
  copy,
  done: finish,
};
const KEYS = { n: "draw", v: "seen", c: "copy", d: "done", "+": "in", "=": "in", "-": "out", 0: "fit" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const OTHERS = {
  Escape: () => board.pen && board.stop(),
  Enter: () => board.pen && board.close(),
  " ": () => board.pen?.cross && board.put(board.pen.cross),
  Backspace: () => board.pen && board.back(),
  Delete: () => !board.pen && drawing.remove(),
  j: () => drawing.choose(drawing.chosen + 1),
  k: () => drawing.choose(drawing.chosen - 1),
  "[": () => drawing.reorder(-1),
  "]": () => drawing.reorder(1),
};
LABELS.forEach((label, place) => (OTHERS[place + 1] = () => drawing.relabel(label)));

for (const one of page.querySelectorAll("[data-do]")) one.addEventListener("click", () => ACTS[one.dataset.do]());

document.addEventListener("keydown", (event) => {
  if (event.target.closest?.("input, select, textarea, a, summary")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    ACTS[event.shiftKey ? "redo" : "undo"]();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // A button that has the focus is pressed by these.
  if (event.target.closest?.("button") && (event.key === " " || event.key === "Enter") && !board.pen) return;
  const arrow = ARROWS[event.key];
  if (!arrow && !(event.key in KEYS) && !(event.key in OTHERS)) return;
  event.preventDefault();
  if (arrow) {
    const [dx, dy] = arrow.map((step) => step * (event.shiftKey ? 10 : 1));
    if (board.pen) board.cross(dx, dy);
    else drawing.move(dx, dy);
  } else if (event.key in KEYS) ACTS[KEYS[event.key]]();
  else OTHERS[event.key]();
});

window.addEventListener("beforeunload", (event) => {
  if (waits && isMine && !isOver) event.preventDefault();
});
if (isMine) setInterval(() => document.visibilityState === "visible" && save(), ALIVE_MS);
showList();
showPen();
