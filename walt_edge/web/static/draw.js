// Draws one live frame: the anonymised picture, and over it the outlines that came with it.

const COLOURS = { person: "#ff9d42", vehicle: "#4aa8ff", "": "#d5dbe1" };
const HATCH_PX = 6;

/** Splits a body as `/live/{camera}` sends it: length of the JSON, the JSON, the JPEG. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const overlay = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { overlay, jpeg: new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }) };
}

/** Draws the picture and the chosen layers; the canvas takes as many pixels as the screen shows of it. */
export function draw(canvas, bitmap, overlay, layers) {
  const [width, height] = overlay.frame_wh;
  const shown = canvas.clientWidth || width;
  const scale = Math.min(Math.max((shown * devicePixelRatio) / width, 0.25), 3);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d", { alpha: false });
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  pen.scale(scale, scale);
  pen.translate(0.5, 0.5); // Outlines go through the centres of pixels.
  pen.lineJoin = "round";
  const unit = devicePixelRatio / scale;
  if (layers.seen || (layers.outlines && !overlay.amodal)) for (const one of overlay.seen) drawSeen(pen, one, unit);
  const objects = [...(overlay.amodal ?? [])].reverse(); // The surest come first and are drawn last.
  if (layers.behind) for (const one of objects) hatch(pen, one, unit);
  if (layers.outlines) for (const one of objects) outline(pen, one, unit);
  if (layers.outlines) for (const one of overlay.carried) expected(pen, one, unit);
  if (!layers.names) return;
  for (const one of overlay.amodal ? objects : overlay.seen) name(pen, one, box(one), unit, width);
  for (const one of overlay.carried) name(pen, one, one.box, unit, width);
}

const colour = (one) => COLOURS[one.label ?? ""] ?? COLOURS[""];

function path(polygons) {
  const path = new Path2D();
  for (const polygon of polygons ?? []) {
    polygon.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  return path;
}

function outline(pen, one, unit) {
  const line = path(one.whole);
  pen.setLineDash([]);
  pen.strokeStyle = "rgb(11 14 17 / 0.55)";
  pen.lineWidth = 3.2 * unit;
  pen.stroke(line);
  pen.strokeStyle = colour(one);
  pen.lineWidth = 1.8 * unit;
  pen.stroke(line);
}

function hatch(pen, one, unit) {
  if (!one.behind?.length) return;
  const area = path(one.behind);
  const [x0, y0, x1, y1] = bounds(one.behind);
  pen.save();
  pen.clip(area, "evenodd");
  pen.globalAlpha = 0.22;
  pen.fillStyle = colour(one);
  pen.fillRect(x0, y0, x1 - x0, y1 - y0);
  pen.globalAlpha = 0.9;
  pen.strokeStyle = colour(one);
  pen.lineWidth = 1.2 * unit;
  pen.setLineDash([]);
  pen.beginPath();
  for (let along = x0 - (y1 - y0); along < x1; along += HATCH_PX * unit) {
    pen.moveTo(along, y1);
    pen.lineTo(along + (y1 - y0), y0);
  }
  pen.stroke();
  pen.restore();
}

function drawSeen(pen, one, unit) {
  const line = path(one.whole);
  const isWhole = !one.reasons?.length;
  pen.setLineDash([]);
  pen.strokeStyle = "rgb(11 14 17 / 0.5)";
  pen.lineWidth = 2.6 * unit;
  pen.stroke(line);
  pen.strokeStyle = isWhole ? "#57c98a" : "#e6eaee";
  pen.lineWidth = 1.3 * unit;
  pen.setLineDash(isWhole ? [] : [3 * unit, 3 * unit]);
  pen.stroke(line);
}

function expected(pen, one, unit) {
  const [x0, y0, x1, y1] = one.box;
  pen.strokeStyle = colour(one);
  pen.lineWidth = 1.4 * unit;
  pen.setLineDash([5 * unit, 4 * unit]);
  pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  if (!one.spread) return;
  pen.setLineDash([1.5 * unit, 4 * unit]);
  pen.strokeRect(x0 - one.spread, y0 - one.spread, x1 - x0 + 2 * one.spread, y1 - y0 + 2 * one.spread);
}

function name(pen, one, [x0, y0], unit, width) {
  const words = [one.id >= 0 ? `${one.id}` : "", one.hidden >= 0.05 ? `${Math.round(100 * one.hidden)}% hidden` : ""];
  if (one.spread !== undefined) words.push("hidden");
  const text = words.filter(Boolean).join(" · ");
  if (!text) return;
  pen.font = `${11 * unit}px system-ui, sans-serif`;
  const wide = pen.measureText(text).width + 8 * unit;
  const left = Math.max(0, Math.min(x0, width - wide));
  const top = Math.max(0, y0 - 17 * unit);
  pen.fillStyle = "rgb(11 14 17 / 0.72)";
  pen.beginPath();
  pen.roundRect(left, top, wide, 15 * unit, 3 * unit);
  pen.fill();
  pen.fillStyle = colour(one);
  pen.fillText(text, left + 4 * unit, top + 11.2 * unit);
}

const box = (one) => (one.whole?.length ? bounds(one.whole) : [0, 0, 0, 0]);

function bounds(polygons) {
  const xs = polygons.flat().map((point) => point[0]);
  const ys = polygons.flat().map((point) => point[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}
