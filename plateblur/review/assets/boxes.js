// The boxes over the photo: buttons, so that Tab reaches each and a screen reader names it.

const EDGES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const SMALL_PX = 44; // smaller boxes on the screen have handles at their corners alone
const SVG = "http://www.w3.org/2000/svg";

export class Boxes {
  chosen = -1;
  #buttons = [];
  #photo = null;
  #sketch = null;

  constructor(root, outlines, viewer, { change, choose, label }) {
    this.root = root;
    this.outlines = outlines;
    this.viewer = viewer;
    this.change = change;
    this.chooses = choose;
    this.label = label;
    viewer.addEventListener("view", () => this.place());
    viewer.addEventListener("drawing", (event) => { this.#sketch = event.box; this.place(); });
  }

  show(photo) {
    if (this.#photo?.id !== photo?.id) this.chosen = -1;
    this.#photo = photo;
    const plates = photo?.plates ?? [];
    while (this.#buttons.length > plates.length) this.#buttons.pop().remove();
    while (this.#buttons.length < plates.length) this.#add(this.#buttons.length);
    if (this.chosen >= plates.length) this.chosen = -1;
    plates.forEach((plate, row) => {
      const button = this.#buttons[row];
      button.className = ["plate", plate.hide ? "" : "off", plate.found ? "" : "hand", plate.corners ? "outlined" : "", plate.away ? "away" : "", row === this.chosen ? "chosen" : ""].filter(Boolean).join(" ");
      button.hidden = Boolean(plate.elsewhere || (plate.away && row !== this.chosen));
      button.setAttribute("aria-label", this.label(plate, row));
      button.setAttribute("aria-pressed", plate.hide);
      const tag = button.querySelector(".tag");
      tag.textContent = `${row + 1}${plate.away ? " · not in this frame" : ""}${plate.hide ? "" : " · not hidden"}`;
      tag.hidden = row !== this.chosen;
      for (const handle of button.querySelectorAll(".handle")) handle.hidden = row !== this.chosen;
    });
    this.place();
  }

  place() {
    const { x, y, scale } = this.viewer;
    const plates = this.#photo?.plates ?? [];
    plates.forEach((plate, row) => {
      const [left, top, right, bottom] = plate.xyxy;
      const { style } = this.#buttons[row];
      style.left = `${left * scale + x - 2}px`;
      style.top = `${top * scale + y - 2}px`;
      style.width = `${(right - left) * scale + 4}px`;
      style.height = `${(bottom - top) * scale + 4}px`;
      const isSmall = Math.min((right - left) * scale, (bottom - top) * scale) < SMALL_PX;
      for (const handle of this.#buttons[row].querySelectorAll(".handle")) {
        handle.style.visibility = isSmall && handle.dataset.edge.length === 1 ? "hidden" : "";
      }
    });
    this.outlines.replaceChildren();
    for (const plate of plates) if (plate.corners) this.#outline(plate.corners, plate.hide);
    if (this.#sketch) {
      const [left, top, right, bottom] = this.#sketch;
      this.#outline([[left, top], [right, top], [right, bottom], [left, bottom]], true);
    }
  }

  choose(row, { focus = false } = {}) {
    this.chosen = row;
    this.show(this.#photo);
    if (focus && row >= 0) this.#buttons[row].focus({ preventScroll: true });
    this.chooses(row);
  }

  #outline(corners, hide) {
    const { x, y, scale } = this.viewer;
    const polygon = document.createElementNS(SVG, "polygon");
    polygon.setAttribute("points", corners.map(([across, down]) => `${across * scale + x},${down * scale + y}`).join(" "));
    if (!hide) polygon.classList.add("off");
    this.outlines.append(polygon);
  }

  #add(row) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(Object.assign(document.createElement("span"), { className: "tag" }));
    for (const edge of EDGES) {
      const handle = document.createElement("span");
      handle.className = "handle";
      handle.dataset.edge = edge;
      button.append(handle);
    }
    button.addEventListener("focus", () => { if (this.chosen !== row) this.choose(row); });
    button.addEventListener("pointerdown", (event) => this.#press(event, row, button));
    this.#buttons.push(button);
    this.root.append(button);
  }

  // A drag on a box moves it, one on a handle moves that edge; what is done is one step to undo.
  #press(event, row, button) {
    if (event.button > 0) return;
    event.preventDefault();
    button.focus({ preventScroll: true });
    if (this.chosen !== row) this.choose(row);
    const edge = event.target.dataset.edge ?? "";
    const photo = this.#photo;
    const before = photo.plates[row];
    const start = { x: event.clientX, y: event.clientY };
    let isMoved = false;
    button.setPointerCapture(event.pointerId);
    const move = (now) => {
      const across = (now.clientX - start.x) / this.viewer.scale;
      const down = (now.clientY - start.y) / this.viewer.scale;
      if (!isMoved && Math.hypot(now.clientX - start.x, now.clientY - start.y) < 3) return;
      isMoved = true;
      photo.plates[row] = edge ? resized(before, edge, across, down, photo) : moved(before, across, down, photo);
      this.place();
    };
    const end = (last) => {
      button.removeEventListener("pointermove", move);
      button.removeEventListener("pointerup", end);
      button.removeEventListener("pointercancel", end);
      const after = photo.plates[row];
      photo.plates[row] = before;
      if (isMoved && last.type === "pointerup") this.change((plates) => { plates[row] = after; });
      else this.place();
    };
    button.addEventListener("pointermove", move);
    button.addEventListener("pointerup", end);
    button.addEventListener("pointercancel", end);
  }
}

export function moved(plate, across, down, photo) {
  const [left, top, right, bottom] = plate.xyxy;
  const x = Math.min(photo.width - right, Math.max(-left, across));
  const y = Math.min(photo.height - bottom, Math.max(-top, down));
  return placed(plate, [left + x, top + y, right + x, bottom + y], photo);
}

export function resized(plate, edge, across, down, photo) {
  let [left, top, right, bottom] = plate.xyxy;
  const least = 2;
  if (edge.includes("w")) left = Math.min(right - least, Math.max(0, left + across));
  if (edge.includes("e")) right = Math.max(left + least, Math.min(photo.width, right + across));
  if (edge.includes("n")) top = Math.min(bottom - least, Math.max(0, top + down));
  if (edge.includes("s")) bottom = Math.max(top + least, Math.min(photo.height, bottom + down));
  return placed(plate, [left, top, right, bottom], photo);
}

// A plate at another place; its outline goes along. In a panorama edges are no straight lines, so
// there all around the outline is hidden instead.
function placed(plate, sides, photo) {
  const xyxy = sides.map((side) => Math.round(side * 10) / 10);
  const next = { ...plate, xyxy };
  if (!plate.corners) return next;
  if (photo.is_panorama) { delete next.corners; return next; }
  const [left, top, right, bottom] = plate.xyxy;
  const wide = (xyxy[2] - xyxy[0]) / (right - left);
  const high = (xyxy[3] - xyxy[1]) / (bottom - top);
  next.corners = plate.corners.map(([x, y]) => [
    Math.round((xyxy[0] + (x - left) * wide) * 10) / 10,
    Math.round((xyxy[1] + (y - top) * high) * 10) / 10,
  ]);
  return next;
}
