// The frame with its outlines: shows a drawing, and turns mouse, touch and keys on it into changes.
import { boxOf, ringsOf } from "./label-drawing.js";

const SVG = "http://www.w3.org/2000/svg";
const HANDLE_PX = 7, LEAST_PX = 3.5, CLOSE_PX = 14;
const BEYOND = 0.25;

function made(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

const text = (ring) => ring.map((point) => point.join(",")).join(" ");

export class Board {
  /** What is being outlined: null, or {ring, seen}. */
  pen = null;
  #view;
  #drag = null;
  #touches = new Map();

  constructor(svg, drawing, onpen) {
    this.svg = svg;
    this.drawing = drawing;
    this.onpen = onpen;
    this.layer = made("g", {}, svg);
    svg.style.aspectRatio = drawing.size.join("/");
    this.fit();
    svg.addEventListener("pointerdown", (event) => this.#down(event));
    svg.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, (event) => this.#up(event));
    svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.at(event));
    }, { passive: false });
    new ResizeObserver(() => this.show()).observe(svg);
  }

  // -- where one looks

  fit() {
    const [width, height] = this.drawing.size;
    this.#view = [-width * 0.02, -height * 0.02, width * 1.04, height * 1.04];
    this.show();
  }

  zoom(by, around = this.#middle()) {
    const [width] = this.drawing.size, [x, y, w, h] = this.#view;
    const to = Math.min(width * (1 + 2 * BEYOND), Math.max(24, w / by)), scale = to / w;
    this.#view = [around[0] - (around[0] - x) * scale, around[1] - (around[1] - y) * scale, to, h * scale];
    this.show();
  }

  pan(dx, dy) {
    const [width, height] = this.drawing.size, [x, y, w, h] = this.#view;
    const within = (value, low, high) => (low > high ? (low + high) / 2 : Math.min(high, Math.max(low, value)));
    this.#view[0] = within(x + dx, -width * BEYOND, width * (1 + BEYOND) - w);
    this.#view[1] = within(y + dy, -height * BEYOND, height * (1 + BEYOND) - h);
    this.show();
  }

  /** Where an event is, pixels of the frame. */
  at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  /** How many pixels of the frame one of the screen is. */
  get #unit() {
    return 1 / (this.svg.getScreenCTM()?.a || 1);
  }

  #middle() {
    const [x, y, w, h] = this.#view;
    return [x + w / 2, y + h / 2];
  }

  // -- what one sees

  show() {
    this.svg.setAttribute("viewBox", this.#view.join(" "));
    this.layer.replaceChildren();
    const { things, chosen } = this.drawing;
    // The farthest first, so that what is nearer lies upon it.
    for (let place = things.length - 1; place >= 0; place--) if (place !== chosen) this.#thing(place, false);
    if (things[chosen]) this.#thing(chosen, !this.pen);
    if (this.pen) this.#showPen();
  }

  #thing(place, isOpen) {
    const thing = this.drawing.things[place], isChosen = place === this.drawing.chosen;
    const group = made("g", { class: `thing ${thing.label}${isChosen ? " chosen" : ""}`, "data-place": place }, this.layer);
    made("polygon", { points: text(thing.amodal), class: "amodal" }, group);
    for (const ring of thing.visible ?? []) made("polygon", { points: text(ring), class: "seen" }, group);
    if (!isOpen) return;
    const [x, y, width, height] = boxOf(thing.amodal);
    made("rect", { x, y, width, height, class: "box" }, group);
    // Handles of something small do not cover it.
    const r = Math.max(LEAST_PX * this.#unit, Math.min(HANDLE_PX * this.#unit, Math.max(width, height) / 16));
    ringsOf(thing).forEach((ring, which) => this.#handles(group, ring, which, r));
  }

  #handles(group, ring, which, r) {
    ring.forEach(([x, y], corner) => {
      const [nx, ny] = ring[(corner + 1) % ring.length];
      if (Math.hypot(nx - x, ny - y) > 5 * r) {
        made("circle", { cx: (x + nx) / 2, cy: (y + ny) / 2, r: r * 0.6, class: "between", "data-ring": which, "data-corner": corner }, group);
      }
      made("circle", { cx: x, cy: y, r, class: "corner", "data-ring": which, "data-corner": corner }, group);
    });
  }

  #showPen() {
    const { ring, cross } = this.pen, r = HANDLE_PX * this.#unit;
    const line = cross ? [...ring, cross] : ring;
    made("polyline", { points: text(line), class: "pen" }, this.layer);
    ring.forEach(([cx, cy], place) => made("circle", { cx, cy, r: place ? r * 0.6 : r, class: place ? "dot" : "dot first" }, this.layer));
    if (cross) {
      const [x, y] = cross;
      made("path", { d: `M${x - 3 * r} ${y}h${6 * r}M${x} ${y - 3 * r}v${6 * r}`, class: "cross" }, this.layer);
    }
  }

  // -- the pen

  begin(seen) {
    this.pen = { ring: [], seen, cross: null };
    this.onpen();
    this.show();
  }

  stop() {
    this.pen = null;
    this.onpen();
    this.show();
  }

  put(point) {
    const { ring } = this.pen, first = ring[0];
    if (ring.length > 2 && Math.hypot(point[0] - first[0], point[1] - first[1]) < CLOSE_PX * this.#unit) return this.close();
    ring.push(this.#within(point));
    this.show();
  }

  /** Takes the last corner back. */
  back() {
    this.pen.ring.pop();
    this.show();
  }

  close() {
    const { ring, seen } = this.pen;
    if (ring.length < 3) return;
    this.pen = null;
    this.onpen();
    if (seen) this.drawing.addSeen(ring);
    else this.drawing.add(ring);
  }

  /** Moves the cross of who draws by keys. */
  cross(dx, dy) {
    const from = this.pen.cross ?? this.pen.ring.at(-1) ?? this.#middle();
    this.pen.cross = this.#within([Math.round(from[0]) + dx, Math.round(from[1]) + dy]);
    this.show();
  }

  #within([x, y]) {
    const [width, height] = this.drawing.size;
    const near = (value, side) => Math.min(side * (1 + BEYOND), Math.max(-side * BEYOND, value));
    return [near(x, width), near(y, height)];
  }

  // -- mouse and touch

  #down(event) {
    if (event.button > 1) return;
    this.svg.focus({ preventScroll: true });
    this.svg.setPointerCapture(event.pointerId);
    this.#touches.set(event.pointerId, [event.clientX, event.clientY]);
    const start = this.at(event), moved = [event.clientX, event.clientY];
    if (this.#touches.size === 2) this.#drag = { pinch: this.#spread() };
    else if (event.button === 1 || this.pen) this.#drag = { start, moved, puts: event.button === 0 };
    else this.#drag = this.#grabbed(event, start, moved);
  }

  #grabbed(event, start, moved) {
    const { ring, corner } = event.target.dataset;
    const place = event.target.closest?.("[data-place]")?.dataset.place;
    if (ring !== undefined) {
      this.drawing.remember();
      const points = ringsOf(this.drawing.thing)[ring], at = Number(corner);
      if (event.target.classList.contains("between")) points.splice(at + 1, 0, [...start]);
      const point = points[event.target.classList.contains("between") ? at + 1 : at];
      return { point, points, start, moved };
    }
    if (place !== undefined) this.drawing.choose(Number(place));
    return { start, moved };
  }

  #move(event) {
    if (this.#touches.has(event.pointerId)) this.#touches.set(event.pointerId, [event.clientX, event.clientY]);
    const drag = this.#drag;
    if (!drag) {
      if (this.pen && event.pointerType === "mouse") {
        this.pen.cross = this.at(event);
        this.show();
      }
    } else if (drag.pinch) {
      this.#pinched(drag);
    } else if (drag.point) {
      [drag.point[0], drag.point[1]] = this.#within(this.at(event));
      this.show();
    } else {
      const now = this.at(event);
      drag.far ||= Math.hypot(event.clientX - drag.moved[0], event.clientY - drag.moved[1]) > 6;
      if (drag.far) this.pan(drag.start[0] - now[0], drag.start[1] - now[1]);
    }
  }

  #pinched(drag) {
    const now = this.#spread();
    this.zoom(now.far / drag.pinch.far, this.at({ clientX: now.x, clientY: now.y }));
    this.pan((drag.pinch.x - now.x) * this.#unit, (drag.pinch.y - now.y) * this.#unit);
    drag.pinch = now;
  }

  #spread() {
    const [[ax, ay], [bx, by]] = this.#touches.values();
    return { x: (ax + bx) / 2, y: (ay + by) / 2, far: Math.max(1, Math.hypot(ax - bx, ay - by)) };
  }

  #up(event) {
    this.#touches.delete(event.pointerId);
    const drag = this.#drag;
    if (this.#touches.size) return;
    this.#drag = null;
    if (drag?.point) this.drawing.onchange();
    else if (drag?.puts && !drag.far && this.pen && event.type === "pointerup") this.put(this.at(event));
  }
}
