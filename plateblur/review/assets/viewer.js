// The photo, or the frame of a clip: zoom, pan, before and after. A picture is as fine as the window needs: first the whole
// photo at the size of a screen, then, looked at closely, the part that is in sight at full size.

const SCREEN_PX = 2048; // longest side of what the server sends
const SETTLED_MS = 160;
const MOST_ZOOM = 16; // pixels of the screen for one of the photo

export class Viewer extends EventTarget {
  scale = 1;
  x = 0;
  y = 0;
  side = "slider";
  #photo = null;
  #version = "";
  #pointers = new Map();
  #timer = 0;
  #draw = null;

  constructor(root) {
    super();
    this.root = root;
    this.stage = root.querySelector("#stage");
    this.sides = { before: root.querySelector("#before"), after: root.querySelector("#after") };
    this.divider = root.querySelector("#divider");
    this.line = root.querySelector("#line");
    this.state = root.querySelector("#state");
    this.divider.addEventListener("input", () => this.#place());
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel"]) root.addEventListener(type, (event) => this.#up(event));
    root.addEventListener("dblclick", (event) => {
      if (event.target.closest(".plate, .conflict")) return;
      this.isFitted ? this.zoom(1 / this.scale, this.#at(event)) : this.fit();
    });
    new ResizeObserver(() => { if (this.#photo) this.#wasFitted ? this.fit() : this.#place(); }).observe(root);
  }

  #wasFitted = true;

  get size() { return { width: this.root.clientWidth, height: this.root.clientHeight }; }

  get #fitScale() {
    const { width, height } = this.size;
    return Math.min((width - 16) / this.#photo.width, (height - 16) / this.#photo.height, 4);
  }

  get isFitted() { return Math.abs(this.scale / this.#fitScale - 1) < 0.01; }

  // Shows a photo; the same one again only takes over its new pictures.
  show(photo) {
    const isNew = this.#photo?.id !== photo.id;
    this.#photo = photo;
    this.stage.style.width = `${photo.width}px`;
    this.stage.style.height = `${photo.height}px`;
    if (isNew) {
      for (const side of Object.values(this.sides)) {
        for (const image of side.children) image.removeAttribute("src");
        side.lastChild.hidden = true;
      }
      this.say("");
      this.#time = null;
      this.fit();
      if (!photo.is_clip) this.#load("before", this.#address("before"));
    }
    this.#version = `${photo.id}-${photo.written}-${photo.revision}`;
    if (!photo.is_clip) this.#load("after", this.#address("after"));
    if (!isNew) this.#closely();
  }

  // Shows the frame of a clip at a time; the one before stays until it is there. Returns whether
  // it is there.
  async showFrame(id, time) {
    const most = this.#fitScale * Math.max(this.#photo.width, this.#photo.height) * (devicePixelRatio || 1);
    const longest = Math.min(SCREEN_PX, 256 * Math.ceil(most / 256));
    const sides = this.side === "slider" ? ["before", "after"] : [this.side];
    const ready = await Promise.all(sides.map(async (side) => {
      const next = Object.assign(new Image(), { className: "whole", alt: "", src: this.#address(side, time, `longest=${longest}`) });
      return next.decode().then(() => next, () => null);
    }));
    if (this.#photo?.id !== id) return false;
    const broken = ready.indexOf(null);
    this.#time = time;
    this.#sent = longest;
    if (broken >= 0) {
      for (const side of Object.values(this.sides)) {
        side.firstChild.removeAttribute("src");
        side.lastChild.hidden = true;
      }
      await this.#explain(sides[broken], this.#address(sides[broken], time));
      return false;
    }
    this.say("");
    ready.forEach((next, row) => {
      const side = this.sides[sides[row]];
      side.firstChild.replaceWith(next);
      side.lastChild.hidden = true;
    });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#closely(), SETTLED_MS);
    return true;
  }

  #time = null; // of the frame that is shown, where it is a clip
  #sent = SCREEN_PX; // longest side of the pictures of a clip

  #address(side, time = this.#time, more = "") {
    const parts = [time === null ? "" : `at=${time}`, side === "after" ? `v=${this.#version}` : "", more].filter(Boolean);
    return `/photos/${this.#photo.id}/${side}${parts.length ? `?${parts.join("&")}` : ""}`;
  }

  async #explain(side, address) {
    const data = await fetch(address).then((answer) => answer.json()).catch(() => ({}));
    const what = side === "before" ? "The original" : "The preview";
    this.say(data.error ? `${what} can’t be shown: ${data.error}` : "The server doesn’t answer.");
  }

  blank(text) {
    this.#photo = null;
    for (const side of Object.values(this.sides)) {
      for (const image of side.children) image.removeAttribute("src");
      side.lastChild.hidden = true;
    }
    this.say(text);
  }

  say(text) {
    this.state.textContent = text;
    this.state.hidden = !text;
  }

  showSide(side) {
    this.side = side;
    this.root.dataset.side = side;
    this.#place();
  }

  fit() {
    if (!this.#photo) return;
    const { width, height } = this.size;
    this.scale = this.#fitScale;
    this.x = (width - this.#photo.width * this.scale) / 2;
    this.y = (height - this.#photo.height * this.scale) / 2;
    this.#place();
  }

  zoom(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    if (!this.#photo) return;
    const scale = Math.min(MOST_ZOOM, Math.max(this.#fitScale, this.scale * factor));
    this.x = at.x - (at.x - this.x) * (scale / this.scale);
    this.y = at.y - (at.y - this.y) * (scale / this.scale);
    this.scale = scale;
    this.#place();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.#place();
  }

  // Shows a box as large as a third of the window.
  zoomTo([left, top, right, bottom]) {
    const { width, height } = this.size;
    const scale = Math.min(MOST_ZOOM, Math.max(this.#fitScale, Math.min(width / (right - left), height / (bottom - top)) / 3));
    this.scale = scale;
    this.x = width / 2 - ((left + right) / 2) * scale;
    this.y = height / 2 - ((top + bottom) / 2) * scale;
    this.#place();
  }

  toPhoto({ x, y }) { return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale }; }

  // The next drag on the photo draws a box; `done` gets its corners in pixels of the photo.
  draw(done) {
    this.#draw = done;
    this.root.classList.toggle("drawing", Boolean(done));
  }

  #place() {
    if (!this.#photo) return;
    const { width, height } = this.size;
    const across = this.#photo.width * this.scale;
    const down = this.#photo.height * this.scale;
    const held = (offset, room, length) => (length <= room ? (room - length) / 2 : Math.min(room / 3, Math.max(room * 2 / 3 - length, offset)));
    this.x = held(this.x, width, across);
    this.y = held(this.y, height, down);
    this.#wasFitted = this.isFitted;
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.#slide();
    this.dispatchEvent(new Event("view"));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#closely(), SETTLED_MS);
  }

  #slide() {
    const at = (Number(this.divider.value) / 100) * this.size.width;
    this.line.style.left = `${at}px`;
    const share = Math.min(1, Math.max(0, (at - this.x) / this.scale / this.#photo.width));
    this.sides.after.style.clipPath = this.side === "slider" ? `inset(0 0 0 ${share * 100}%)` : "none";
    this.sides.before.style.clipPath = this.side === "slider" ? `inset(0 ${(1 - share) * 100}% 0 0)` : "none";
  }

  #load(side, address) {
    const image = this.sides[side].firstChild;
    if (image.getAttribute("src") === address) return;
    const id = this.#photo.id;
    const next = new Image();
    next.fetchPriority = "high"; // before the pictures of the strip
    next.src = address;
    next.decode().then(() => {
      if (this.#photo?.id === id) image.src = address;
    }).catch(async () => {
      if (this.#photo?.id === id) await this.#explain(side, address);
    });
  }

  #closely() {
    const photo = this.#photo;
    if (!photo) return;
    const ratio = devicePixelRatio || 1;
    if (photo.is_clip && this.#time === null) return;
    const sent = Math.min(1, (photo.is_clip ? this.#sent : SCREEN_PX) / Math.max(photo.width, photo.height));
    const wanted = this.scale * ratio > sent * 1.05 && sent < 1;
    const { width, height } = this.size;
    const from = this.toPhoto({ x: 0, y: 0 });
    const to = this.toPhoto({ x: width, y: height });
    const left = Math.max(0, Math.floor(from.x)), top = Math.max(0, Math.floor(from.y));
    const right = Math.min(photo.width, Math.ceil(to.x)), bottom = Math.min(photo.height, Math.ceil(to.y));
    for (const [side, element] of Object.entries(this.sides)) {
      const image = element.lastChild;
      if (!wanted || right <= left || bottom <= top) { image.hidden = true; continue; }
      if (this.side !== "slider" && this.side !== side) continue;
      const longest = Math.min(SCREEN_PX, Math.ceil(Math.max(right - left, bottom - top) * Math.min(1, this.scale * ratio)));
      const address = this.#address(side, this.#time, `part=${left},${top},${right},${bottom}&longest=${longest}`);
      if (image.dataset.address === address) { image.hidden = image.getAttribute("src") !== address; continue; }
      const next = new Image();
      next.src = address;
      image.dataset.address = address;
      next.decode().then(() => {
        if (this.#photo?.id !== photo.id || image.dataset.address !== address) return;
        if (address !== this.#address(side, this.#time, address.slice(address.indexOf("part=")))) return;
        Object.assign(image.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
        image.src = address;
        image.hidden = false;
      }).catch(() => { image.hidden = true; });
    }
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), this.#at(event));
  }

  #at(event) {
    const box = this.root.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.target.closest(".plate, .handle, .conflict, input, button") || event.button > 0 || !this.#photo) return;
    this.root.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    if (this.#draw && this.#pointers.size === 1) this.#start = this.toPhoto(this.#at(event));
    else { this.#start = null; this.root.classList.add("panning"); }
    this.dispatchEvent(new Event("press"));
  }

  #start = null;

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    if (this.#start && this.#pointers.size === 1) {
      this.dispatchEvent(Object.assign(new Event("drawing"), { box: boxOf(this.#start, this.toPhoto(now)) }));
    } else if (this.#pointers.size === 1) {
      this.pan(now.x - before.x, now.y - before.y);
    } else {
      const [other] = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      this.zoom(distance(now, other) / Math.max(1, distance(before, other)), middle);
      this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    }
    this.#pointers.set(event.pointerId, now);
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    if (this.#start) {
      const done = this.#draw;
      const box = boxOf(this.#start, this.toPhoto(this.#at(event)));
      this.#start = null;
      this.dispatchEvent(Object.assign(new Event("drawing"), { box: null }));
      if (event.type === "pointerup" && (box[2] - box[0]) * this.scale > 4 && (box[3] - box[1]) * this.scale > 4) done?.(box);
    }
    if (!this.#pointers.size) this.root.classList.remove("panning");
  }
}

function boxOf(one, other) {
  return [Math.min(one.x, other.x), Math.min(one.y, other.y), Math.max(one.x, other.x), Math.max(one.y, other.y)];
}

function distance(one, other) { return Math.hypot(one.x - other.x, one.y - other.y); }
