// The filmstrip: only the photos in sight are in the page, however many there are.

import { clockOf } from "./timeline.js";

const MARKS = { unsure: "unsure", small: "small", edge: "edge" };
const SETTLED_MS = 80; // a strip that is still flying past asks for no pictures
const AROUND = 3;

export class Strip {
  #ids = [];
  #items = new Map();
  chosen = null;
  #timer = 0;

  constructor(strip, spacer, photos, choose) {
    this.strip = strip;
    this.spacer = spacer;
    this.photos = photos;
    strip.addEventListener("scroll", () => this.#draw(), { passive: true });
    strip.addEventListener("wheel", (event) => {
      if (Math.abs(event.deltaY) > Math.abs(event.deltaX)) strip.scrollLeft += event.deltaY;
    }, { passive: true });
    strip.addEventListener("click", (event) => {
      const item = event.target.closest(".item");
      if (item) choose(Number(item.dataset.id));
    });
    new ResizeObserver(() => this.#draw()).observe(strip);
  }

  get #step() { return matchMedia("(max-width: 44rem)").matches ? 112 : 140; }

  show(ids) {
    this.#ids = ids;
    for (const item of this.#items.values()) item.remove();
    this.#items.clear();
    this.#draw();
  }

  choose(id) {
    this.chosen = id;
    const at = this.#ids.indexOf(id);
    if (at < 0) return this.#draw();
    const step = this.#step;
    const left = at * step;
    const { scrollLeft, clientWidth } = this.strip;
    if (left < scrollLeft + step || left > scrollLeft + clientWidth - 2 * step) {
      this.strip.scrollLeft = left - clientWidth / 2 + step / 2;
    }
    this.#draw();
    this.strip.setAttribute("aria-activedescendant", `photo-${id}`);
  }

  refresh(id) {
    const item = this.#items.get(id);
    if (item) this.#fill(item, id);
  }

  #draw() {
    const step = this.#step;
    this.spacer.style.width = `${this.#ids.length * step + 8}px`;
    const first = Math.max(0, Math.floor(this.strip.scrollLeft / step) - AROUND);
    const last = Math.min(this.#ids.length, Math.ceil((this.strip.scrollLeft + this.strip.clientWidth) / step) + AROUND);
    const inSight = new Set(this.#ids.slice(first, last));
    if (this.#ids.includes(this.chosen)) inSight.add(this.chosen);
    for (const [id, item] of this.#items) {
      if (!inSight.has(id)) { item.remove(); this.#items.delete(id); }
    }
    for (const id of inSight) {
      let item = this.#items.get(id);
      if (!item) {
        item = document.createElement("div");
        item.className = "item";
        item.id = `photo-${id}`;
        item.dataset.id = id;
        item.setAttribute("role", "option");
        item.innerHTML = '<img alt="" width="132" height="74"><span class="length" hidden></span><span class="foot"></span>';
        this.#items.set(id, item);
        this.#fill(item, id);
        this.spacer.append(item);
      }
      const at = this.#ids.indexOf(id);
      item.style.left = `${at * step + 6}px`;
      item.setAttribute("aria-setsize", this.#ids.length);
      item.setAttribute("aria-posinset", at + 1);
      item.setAttribute("aria-selected", id === this.chosen);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), SETTLED_MS);
  }

  #load() {
    for (const [id, item] of this.#items) {
      const photo = this.photos().get(id);
      const image = item.firstChild;
      const address = photo?.written && `/photos/${id}/thumb?v=${photo.written}`;
      if (address && image.getAttribute("src") !== address) image.src = address;
    }
  }

  #fill(item, id) {
    const photo = this.photos().get(id);
    if (!photo) return;
    const foot = item.lastChild;
    foot.replaceChildren();
    const say = (name, text) => {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      foot.append(part);
    };
    const length = item.querySelector(".length");
    length.hidden = photo.length_s === undefined;
    length.textContent = photo.length_s === undefined ? "" : clockOf(photo.length_s);
    if (photo.error) {
      const why = photo.is_blurred ? "not recorded" : "not blurred";
      say("failed", why);
      item.setAttribute("aria-label", `${photo.name}, ${why}`);
      return;
    }
    const marks = photo.marks.map((mark) => MARKS[mark]);
    say("count", `${photo.plates}`);
    if (marks.length) say("mark", marks.join(", "));
    if (photo.looked_at || photo.corrected) say(photo.corrected ? "check changed" : "check", photo.looked_at ? "✓" : "•");
    const clip = photo.length_s === undefined ? [] : [`clip of ${clockOf(photo.length_s)}`];
    const parts = [photo.name, ...clip, `${photo.plates} ${photo.plates === 1 ? "plate" : "plates"}`, ...marks];
    if (photo.corrected) parts.push("corrected");
    if (photo.looked_at) parts.push("looked at");
    item.setAttribute("aria-label", parts.join(", "));
    item.title = parts.join(", ");
  }
}
