// What the page knows of the run, and how changes get to the server without being lost: each is
// kept by the browser until the server has said that it is on its disk.

const WAIT_MS = 350;
const RETRY_MS = 2000;
const POLL_MS = 4000;

export class Store extends EventTarget {
  photos = new Map();
  details = new Map();
  pending = new Map();
  run = null;
  by = "";
  state = "saved";
  #changes = 0;
  #size = 0;
  #timers = new Map();
  #sending = new Set();

  async open() {
    [this.run] = await Promise.all([get("/api/run"), this.#read()]);
    this.by = localStorage.getItem("plateblur-by") || "";
    const numbers = new Map([...this.photos.values()].map((photo) => [photo.name, photo.id]));
    for (let row = 0; row < localStorage.length; row++) {
      const key = localStorage.key(row);
      if (!key.startsWith(this.#prefix)) continue;
      const id = numbers.get(key.slice(this.#prefix.length));
      if (id === undefined) continue;
      this.pending.set(id, JSON.parse(localStorage.getItem(key)));
      this.#later(id, 0);
    }
    setInterval(() => this.#poll(), POLL_MS);
  }

  get #prefix() { return `plateblur-review:${this.run.manifest}:`; }

  async #read() {
    const data = await get("/api/photos");
    this.#changes = data.changes;
    this.#size = data.size;
    this.photos = new Map(data.photos.map((photo) => [photo.id, photo]));
  }

  setName(name) {
    this.by = name;
    localStorage.setItem("plateblur-by", name);
    for (const id of this.pending.keys()) this.#later(id, 0);
  }

  // A photo with its boxes, as they are here: saved, or about to be.
  async load(id) {
    if (!this.details.has(id) || !this.pending.has(id)) {
      const data = await get(`/api/photos/${id}`);
      data.undo = this.details.get(id)?.undo ?? [];
      data.redo = this.details.get(id)?.redo ?? [];
      const mine = this.pending.get(id);
      data.plates = asKept(data.plates);
      if (mine) Object.assign(data, { plates: asKnown(mine.plates, data.plates), looked_at: mine.looked_at, readable: mine.readable });
      this.details.set(id, data);
      if (this.details.size > 60) {
        for (const old of this.details.keys()) {
          if (old !== id && !this.pending.has(old)) { this.details.delete(old); break; }
        }
      }
    }
    return this.details.get(id);
  }

  // When each frame of a clip is shown, microseconds on its own clock.
  async times(id) {
    const { times_us } = await get(`/api/photos/${id}/times`);
    return times_us;
  }

  // Takes in what a person has changed of a photo.
  change(photo) {
    const before = this.pending.get(photo.id);
    const mine = {
      base: before?.base ?? photo.revision,
      plates: photo.plates.map(asSent),
      looked_at: photo.looked_at,
      readable: photo.readable ?? null,
      by: this.by,
      conflict: before?.conflict ?? null,
    };
    this.pending.set(photo.id, mine);
    try {
      localStorage.setItem(this.#prefix + photo.name, JSON.stringify({ ...mine, conflict: null }));
    } catch { /* A long clip may not fit: until it is saved, this page alone has the change. */ }
    const summary = this.photos.get(photo.id);
    Object.assign(summary, {
      plates: photo.plates.filter((plate) => plate.hide).length,
      looked_at: photo.looked_at,
      readable: mine.readable,
      corrected: photo.plates.some((plate) => !plate.hide || !isAsFound(plate)),
    });
    this.#tell("photo", photo.id);
    this.#later(photo.id, WAIT_MS);
  }

  // Ends a conflict: "mine", "theirs" or the boxes of "both".
  resolve(id, choice) {
    const photo = this.details.get(id);
    const mine = this.pending.get(id);
    const theirs = mine?.conflict;
    if (!theirs) return;
    photo.undo.push(photo.plates);
    photo.redo = [];
    if (choice === "theirs") photo.plates = asKept(theirs.plates);
    if (choice === "both") photo.plates = joined(photo.plates, asKept(theirs.plates));
    photo.looked_at = photo.looked_at || theirs.looked_at;
    photo.revision = theirs.revision;
    this.pending.delete(id);
    this.change(photo);
  }

  #later(id, wait) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => this.#send(id), wait));
    this.#say(this.state === "closed" || this.state === "offline" ? this.state : "saving");
  }

  async #send(id) {
    const mine = this.pending.get(id);
    if (!mine || mine.conflict || this.#sending.has(id)) return;
    if (!mine.by) mine.by = this.by;
    if (!mine.by) return; // sent once there is a name
    this.#sending.add(id);
    let again = null;
    try {
      const response = await fetch(`/api/photos/${id}`, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(mine),
      });
      if (response.ok) {
        this.#saved(id, mine, await response.json());
        this.#say(this.pending.size ? "saving" : "saved");
        if (this.pending.has(id)) again = 0;
      } else if (response.status === 409) {
        // On what there is now: more may have been changed while this was on its way.
        this.pending.get(id).conflict = await response.json();
        this.#tell("conflict", id);
        this.#say("conflict");
      } else if (response.status === 403) {
        this.#say("closed");
        again = RETRY_MS;
      } else {
        const data = await response.json().catch(() => ({}));
        this.#say("refused", data.error || `The server answered with status ${response.status}.`);
        if (this.pending.get(id) !== mine) again = 0;
      }
    } catch {
      this.#say("offline");
      again = RETRY_MS;
    }
    this.#sending.delete(id);
    if (again !== null) this.#later(id, again);
  }

  #saved(id, sent, data) {
    const photo = this.details.get(id);
    const now = this.pending.get(id);
    if (now === sent) {
      this.pending.delete(id);
      localStorage.removeItem(this.#prefix + data.name);
      this.photos.set(id, data.summary);
      if (photo) Object.assign(photo, { plates: keptOrder(photo.plates, asKept(data.plates)), is_written: data.is_written });
    } else {
      now.base = data.revision;
    }
    if (photo) Object.assign(photo, { revision: data.revision, by: data.by, at: data.at });
    this.#tell("photo", id);
    this.#tell("written", id);
  }

  async #poll() {
    try {
      const data = await get(`/api/changes?since=${this.#changes}&size=${this.#size}`);
      if (data.is_new) {
        await this.#read();
        this.#tell("run");
      } else {
        this.#changes = data.changes;
        for (const summary of data.photos) {
          if (this.pending.has(summary.id)) continue;
          const known = this.photos.get(summary.id);
          this.photos.set(summary.id, summary);
          if (known?.revision !== summary.revision) this.#tell("other", summary.id);
          this.#tell("photo", summary.id);
        }
      }
      if (this.state === "offline" || this.state === "closed") {
        this.#say(this.pending.size ? "saving" : "saved");
        for (const id of this.pending.keys()) this.#later(id, 0);
      }
    } catch (error) {
      this.#say(error.status === 403 ? "closed" : "offline");
    }
  }

  #say(state, text = "") {
    this.state = state;
    this.#tell("state", null, text);
  }

  #tell(type, id = null, text = "") {
    this.dispatchEvent(Object.assign(new Event(type), { id, text }));
  }
}

export async function get(path) {
  const response = await fetch(path);
  if (!response.ok) {
    const data = await response.json().catch(() => ({}));
    throw Object.assign(new Error(data.error || `status ${response.status}`), { status: response.status });
  }
  return response.json();
}

// Where a plate is: its box in a photo, its key frames in a clip.
function placeOf(plate) { return String(plate.keys ?? plate.xyxy); }

export function isAsFound(plate) {
  return Boolean(plate.found) && (plate.found === plate.keys || String(plate.found) === placeOf(plate));
}

function asSent(plate) {
  const { xyxy, hide, found = null, corners = null, keys } = plate;
  return keys ? { keys, hide, found: isAsFound(plate) || found } : { xyxy, hide, found, corners };
}

// Plates that were kept here until they are saved, with what the run knows of those that it found.
function asKnown(mine, theirs) {
  const known = new Map(theirs.map((plate) => [String(plate.found), plate]));
  return asKept(mine).map((plate) => {
    const { confidence, video_track } = (plate.found && known.get(String(plate.found))) || {};
    return { ...plate, confidence, video_track };
  });
}

// Key frames that are as they were found aren't sent twice.
function asKept(plates) {
  return plates.map((plate) => (plate.found === true ? { ...plate, found: plate.keys } : plate));
}

// The server rounds and clips; what is shown takes that over without a jump of the selection.
function keptOrder(mine, theirs) {
  return mine.length === theirs.length ? theirs.map((plate, row) => ({ ...mine[row], ...plate })) : theirs;
}

// Everything that either side hides is hidden; a box that both moved is there twice.
function joined(mine, theirs) {
  const plates = theirs.map((plate) => ({ ...plate }));
  for (const plate of mine) {
    const same = plates.find((one) => placeOf(one) === placeOf(plate) && String(one.found) === String(plate.found));
    if (same) same.hide = same.hide || plate.hide;
    else if (plate.hide) plates.push({ ...plate });
  }
  return plates;
}
