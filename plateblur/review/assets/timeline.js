// A clip's frames and plates over time: which frame is shown, and from when to when each plate is.

import { boxNear, endingAt, isKey, isThere, startingAt, tenths, withKey, withoutKey } from "./keys.js";

const NEW_US = 2_000_000; // how long a plate that was drawn stays at first
const DRAG_PX = 3;

export class Timeline extends EventTarget {
  #photo = null;
  #times = [];
  #index = 0; // of the frame that is wanted
  #shown = -1; // of the one that is in the window
  #isLoading = false;
  #isStale = false;
  #isPlaying = false;
  #rows = [];
  #chosen = -1;
  #places = new Map(); // where each clip was left

  constructor(root, viewer, { choose, change }) {
    super();
    const part = (id) => root.querySelector(`#${id}`);
    this.root = root;
    this.viewer = viewer;
    this.choose = choose;
    this.change = change;
    this.parts = Object.fromEntries(["play", "scrub", "clock", "starts", "key", "ends", "tracks", "rows", "head"].map((id) => [id, part(id)]));
    this.parts.scrub.addEventListener("input", () => { this.pause(); this.seek(Number(this.parts.scrub.value)); });
    this.parts.play.addEventListener("click", () => this.play());
    part("frame-back").addEventListener("click", () => this.step(-1));
    part("frame-next").addEventListener("click", () => this.step(1));
    for (const act of ["starts", "key", "ends"]) this.parts[act].addEventListener("click", () => this[act]());
    this.parts.rows.addEventListener("click", (event) => {
      if (!event.target.closest(".span")) this.seek(this.#indexAt(event.clientX));
    });
    new ResizeObserver(() => this.#place()).observe(this.parts.rows);
  }

  get isOpen() { return Boolean(this.#photo); }

  // The time of the frame that is shown, microseconds on the clip's own clock.
  get time() { return this.#times[Math.max(0, this.#shown)]; }

  get times() { return this.#times; }

  open(photo, times) {
    const isNew = this.#photo?.id !== photo.id;
    this.#photo = photo;
    this.#times = times;
    this.root.hidden = false;
    if (isNew) {
      this.pause();
      this.#shown = -1;
      this.#index = Math.min(this.#places.get(photo.id) ?? 0, times.length - 1);
      this.parts.scrub.max = times.length - 1;
    }
    this.reload();
  }

  close() {
    this.pause();
    this.#photo = null;
    this.root.hidden = true;
  }

  seek(index) {
    if (!this.#photo) return;
    this.#index = Math.min(this.#times.length - 1, Math.max(0, index));
    this.#places.set(this.#photo.id, this.#index);
    this.#say();
    this.#load();
  }

  step(by) { this.pause(); this.seek(this.#index + by); }

  // Goes to the selected plate's key frame before or after.
  jump(by) {
    const keys = this.#photo?.plates[this.#chosen]?.keys.map(([time]) => time) ?? [];
    const time = this.#times[this.#index];
    const next = by > 0 ? keys.find((key) => key > time) : keys.findLast((key) => key < time);
    if (next !== undefined) { this.pause(); this.seek(this.#row(next)); }
  }

  // Shows the frame again, as its plates or the side in the window have changed.
  reload() {
    this.#isStale = true;
    this.#say();
    this.#load();
  }

  play() {
    if (this.#isPlaying || !this.#photo) return this.pause();
    if (this.#index === this.#times.length - 1) this.#index = 0;
    this.#isPlaying = true;
    this.#showPlaying();
    this.#run();
  }

  pause() {
    this.#isPlaying = false;
    this.#showPlaying();
  }

  // The selected plate begins with this frame, ends with it, or has a key frame here or none.
  starts() { this.#turn((keys) => startingAt(keys, this.time)); }
  ends() { this.#turn((keys) => endingAt(keys, this.time)); }
  key() { this.#turn((keys) => (isKey(keys, this.time) ? withoutKey(keys, this.time) : withKey(keys, this.time, boxNear(keys, this.time)))); }

  // Plates with their boxes in the frame that is shown; `away` are those that aren't in it.
  placed(plates) {
    const { time } = this;
    return plates.map((plate) => ({
      ...plate,
      xyxy: boxNear(plate.keys, time).map(tenths),
      away: !isThere(plate.keys, time) || Boolean(plate.video_track),
      elsewhere: Boolean(plate.video_track),
    }));
  }

  // Plates with a key frame here where a box was moved, and with new ones from here on.
  taken(plates) {
    const { time } = this;
    const last = this.#times[this.#row(time + NEW_US)];
    return this.placed(plates.map((plate) => {
      if (!plate.keys) return { ...plate, keys: last > time ? [[time, ...plate.xyxy], [last, ...plate.xyxy]] : [[time, ...plate.xyxy]] };
      const isMoved = String(plate.xyxy) !== String(boxNear(plate.keys, time).map(tenths));
      return isMoved ? { ...plate, keys: withKey(plate.keys, time, plate.xyxy) } : plate;
    }));
  }

  // Draws the bars of the plates, and marks the one that is selected.
  show(chosen, label) {
    this.#chosen = chosen;
    const plates = this.#photo?.plates ?? [];
    while (this.#rows.length > plates.length) this.#rows.pop().remove();
    while (this.#rows.length < plates.length) this.#add(this.#rows.length);
    plates.forEach((plate, row) => {
      const span = this.#rows[row].firstChild;
      span.className = ["span", plate.hide ? "" : "off", plate.found ? "" : "hand", row === chosen ? "chosen" : ""].filter(Boolean).join(" ");
      span.setAttribute("aria-label", label(plate, row));
      span.setAttribute("aria-pressed", row === chosen);
      span.querySelector(".number").textContent = row + 1;
      for (const end of span.querySelectorAll(".end-of")) end.hidden = row !== chosen;
    });
    this.#place();
    this.#offer();
  }

  // When a plate is there, for people: "0:01.20 to 0:03.40".
  spanOf(plate) {
    return `${this.#clock(plate.keys[0][0])} to ${this.#clock(plate.keys.at(-1)[0])}`;
  }

  // Goes to a plate, if it isn't in the frame that is shown.
  find(row) {
    const plate = this.#photo.plates[row];
    if (plate.elsewhere || isThere(plate.keys, this.time)) return;
    this.pause();
    this.seek(this.#row(plate.keys[0][0]));
    this.#rows[row].scrollIntoView({ block: "nearest" });
  }

  #turn(make) {
    if (this.#photo && this.#shown !== this.#index) { // the frame that is meant is on its way
      this.addEventListener("frame", () => this.#turn(make), { once: true });
      return;
    }
    const row = this.#chosen;
    if (!this.#photo || row < 0 || this.#photo.plates[row].elsewhere) return;
    const keys = make(this.#photo.plates[row].keys);
    if (String(keys) === String(this.#photo.plates[row].keys)) return;
    this.#set(row, keys);
  }

  #set(row, keys) {
    this.change((plates) => { plates[row] = { ...plates[row], keys, xyxy: boxNear(keys, this.time).map(tenths) }; });
  }

  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    while (this.#photo && (this.#shown !== this.#index || this.#isStale)) {
      const photo = this.#photo, index = this.#index;
      this.#isStale = false;
      const isThere = await this.viewer.showFrame(photo.id, this.#times[index]);
      if (this.#photo?.id !== photo.id) { this.#isStale = true; continue; }
      if (!isThere && this.#index !== index) continue;
      this.#shown = index;
      this.root.dataset.shown = index;
      this.#offer();
      this.dispatchEvent(new Event("frame"));
    }
    this.#isLoading = false;
  }

  async #run() {
    const photo = this.#photo, first = this.#index;
    const begun = performance.now();
    while (this.#isPlaying && this.#photo === photo) {
      await new Promise(requestAnimationFrame);
      if (this.#isLoading || !this.#isPlaying) continue; // a slow machine leaves frames out
      const passed = (performance.now() - begun) * 1000;
      const next = this.#row(this.#times[first] + passed);
      if (next !== this.#index) this.seek(next);
      if (next === this.#times.length - 1) this.pause();
    }
  }

  #showPlaying() {
    this.parts.play.setAttribute("aria-pressed", this.#isPlaying);
    this.parts.play.querySelector("use").setAttribute("href", this.#isPlaying ? "#i-pause" : "#i-play");
  }

  // Says where in the clip we are.
  #say() {
    const time = this.#times[this.#index], last = this.#times.at(-1);
    const frame = `frame ${(this.#index + 1).toLocaleString("en")} of ${this.#times.length.toLocaleString("en")}`;
    this.parts.scrub.value = this.#index;
    this.parts.scrub.setAttribute("aria-valuetext", `${this.#clock(time)}, ${frame}`);
    this.parts.clock.textContent = `${this.#clock(time)} / ${this.#clock(last)}`;
    this.parts.clock.title = frame;
    this.parts.head.style.left = `${this.#share(this.#index) * 100}%`;
  }

  // What can be done with the selected plate in this frame.
  #offer() {
    const keys = this.#photo?.plates[this.#chosen]?.keys;
    const isOff = !keys || this.#photo.plates[this.#chosen].elsewhere;
    for (const act of ["starts", "key", "ends"]) this.parts[act].disabled = isOff;
    this.parts.key.setAttribute("aria-pressed", Boolean(keys) && isKey(keys, this.time));
  }

  #add(row) {
    const line = document.createElement("div");
    line.className = "row";
    const span = document.createElement("button");
    span.type = "button";
    span.append(Object.assign(document.createElement("span"), { className: "number" }), Object.assign(document.createElement("span"), { className: "ticks" }));
    for (const way of ["start", "end"]) {
      const end = Object.assign(document.createElement("span"), { className: "end-of" });
      end.dataset.way = way;
      span.append(end);
    }
    span.addEventListener("click", () => { this.choose(row); this.find(row); });
    span.addEventListener("pointerdown", (event) => { if (event.target.dataset.way) this.#drag(event, row, span); });
    line.append(span);
    this.#rows.push(line);
    this.parts.rows.append(line);
  }

  // Draws an end of a plate to another frame; the frame under the pointer is shown meanwhile.
  #drag(event, row, span) {
    if (event.button > 0) return;
    event.preventDefault();
    event.stopPropagation();
    span.setPointerCapture(event.pointerId);
    const turn = event.target.dataset.way === "start" ? startingAt : endingAt;
    const plate = this.#photo.plates[row], before = plate.keys, start = event.clientX;
    let isMoved = false;
    this.pause();
    const move = (now) => {
      if (!isMoved && Math.abs(now.clientX - start) < DRAG_PX) return;
      isMoved = true;
      const index = this.#indexAt(now.clientX);
      plate.keys = turn(before, this.#times[index]);
      this.seek(index);
      this.#place();
    };
    const end = (last) => {
      for (const type of ["pointermove", "pointerup", "pointercancel"]) span.removeEventListener(type, type === "pointermove" ? move : end);
      const { keys } = plate;
      plate.keys = before;
      if (isMoved && last.type === "pointerup") this.#set(row, keys);
      else this.#place();
    };
    span.addEventListener("pointermove", move);
    span.addEventListener("pointerup", end);
    span.addEventListener("pointercancel", end);
  }

  #place() {
    const plates = this.#photo?.plates ?? [];
    plates.forEach((plate, row) => {
      if (!this.#rows[row]) return;
      const span = this.#rows[row].firstChild;
      const [first, last] = [plate.keys[0][0], plate.keys.at(-1)[0]].map((time) => this.#share(this.#row(time)));
      span.style.left = `${first * 100}%`;
      span.style.width = `${(last - first) * 100}%`;
      const wanted = plate.keys.length > 200 ? [] : plate.keys; // more are a bar of their own
      const ticks = span.querySelector(".ticks");
      while (ticks.childElementCount > wanted.length) ticks.lastChild.remove();
      while (ticks.childElementCount < wanted.length) ticks.append(document.createElement("i"));
      wanted.forEach(([time], at) => {
        const share = this.#share(this.#row(time));
        ticks.children[at].style.left = `${last > first ? ((share - first) / (last - first)) * 100 : 50}%`;
      });
    });
  }

  #share(index) { return this.#times.length > 1 ? index / (this.#times.length - 1) : 0; }

  #indexAt(x) {
    const { left, width } = this.parts.rows.getBoundingClientRect();
    return Math.round(Math.min(1, Math.max(0, (x - left) / width)) * (this.#times.length - 1));
  }

  // The last frame that is shown at a time or earlier.
  #row(time) {
    let low = 0, high = this.#times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  #clock(time) { return clockOf((time - this.#times[0]) / 1e6, 2); }
}

// Seconds for people: "1:02:03", "0:03.40".
export function clockOf(seconds, digits = 0) {
  const whole = Math.round(seconds * 10 ** digits) / 10 ** digits;
  const minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
