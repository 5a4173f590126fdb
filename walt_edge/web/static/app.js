// Asks the agent for figures and live frames, and shows them. Nothing is asked while nobody looks at the page.

import { draw, unpack } from "./draw.js";
import { showFigures } from "./figures.js";

const FIGURES_MS = 2000;
const LIVE_MS = 200;
const AGAIN_MS = 3000;
const OLD_S = 5;

const layers = {};
const cards = new Map();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(8000) });
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

/** Waits until the page is looked at. */
async function looked() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

async function keepFigures() {
  for (;;) {
    await looked();
    try {
      const told = await (await ask("/api/figures")).json();
      for (const lane of told.figures.lanes) if (!cards.has(lane.camera)) addCard(lane.camera);
      arrange();
      showFigures(told, cards);
      await pause(FIGURES_MS);
    } catch {
      showFigures(null, cards);
      await pause(AGAIN_MS);
    }
  }
}

function addCard(camera) {
  const root = document.getElementById("camera").content.cloneNode(true).firstElementChild;
  root.querySelector("h2").textContent = camera;
  document.getElementById("cameras").append(root);
  const card = { root, camera, canvas: root.querySelector("canvas"), isInView: true, number: 0, shot: null };
  new IntersectionObserver(([entry]) => (card.isInView = entry.isIntersecting)).observe(root);
  new ResizeObserver(() => redraw(card)).observe(root);
  cards.set(camera, card);
  keepLive(card);
}

/** One camera has room for its figures beside the picture. */
function arrange() {
  const root = document.getElementById("cameras");
  if (cards.size === 1 && !root.classList.contains("one"))
    root.querySelectorAll("details").forEach((details) => (details.open = true));
  root.classList.toggle("one", cards.size === 1);
}

async function keepLive(card) {
  for (;;) {
    await looked();
    if (card.isInView) {
      try {
        await takeFrame(card);
      } catch {
        await pause(AGAIN_MS);
      }
      showAge(card);
    }
    await pause(LIVE_MS * Math.max(1, cards.size / 2));
  }
}

async function takeFrame(card) {
  const answer = await ask(`/live/${encodeURIComponent(card.camera)}?after=${card.number}`);
  if (answer.status === 204) return;
  const { overlay, jpeg } = unpack(await answer.arrayBuffer());
  const bitmap = await createImageBitmap(jpeg);
  card.shot?.bitmap.close();
  card.shot = { bitmap, overlay, capturedMs: performance.now() - 1000 * overlay.age_s };
  card.number = overlay.number;
  card.root.querySelector(".picture").classList.add("shown");
  redraw(card);
}

function redraw(card) {
  if (card.shot) draw(card.canvas, card.shot.bitmap, card.shot.overlay, layers);
}

function showAge(card) {
  if (!card.shot) return;
  const age_s = (performance.now() - card.shot.capturedMs) / 1000;
  const label = card.root.querySelector(".age");
  label.textContent = age_s < OLD_S ? `${age_s.toFixed(1)} s old` : `no frame for ${Math.round(age_s)} s`;
  label.classList.toggle("old", age_s >= OLD_S);
}

function keepLayers() {
  for (const input of document.querySelectorAll(".layers input")) {
    const kept = localStorage.getItem(`layer.${input.name}`);
    if (kept !== null) input.checked = kept === "true";
    layers[input.name] = input.checked;
    input.addEventListener("change", () => {
      layers[input.name] = input.checked;
      localStorage.setItem(`layer.${input.name}`, input.checked);
      cards.forEach(redraw);
    });
  }
}

keepLayers();
keepFigures();
