import { Boxes, moved, resized } from "./boxes.js";
import { isAsFound, Store } from "./store.js";
import { Strip } from "./strip.js";
import { clockOf, Timeline } from "./timeline.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FILTERS = [
  ["all", "All", () => true],
  ["open", "Not looked at", (photo) => !photo.looked_at && !photo.error],
  ["marked", "Look closely", (photo) => photo.marks?.length > 0],
  ["none", "No plate found", (photo) => photo.plates === 0],
  ["corrected", "Corrected", (photo) => photo.corrected],
  ["unwritten", "Not written yet", (photo) => photo.corrected && !photo.is_written],
  ["clips", "Clips", (photo) => photo.length_s !== undefined],
  ["sample", "Sample", (photo) => photo.in_sample],
  ["failed", "Not blurred", (photo) => photo.error],
];
const MARKS = { unsure: "not sure", small: "small", edge: "at the photo’s edge" };

const store = new Store();
const viewer = new Viewer($("viewer"));
const boxes = new Boxes($("boxes"), $("outlines"), viewer, { change: edit, choose: showChosen, label });
const timeline = new Timeline($("timeline"), viewer, { choose: (row) => boxes.choose(row), change: edit });
const strip = new Strip($("strip"), $("spacer"), () => store.photos, (id) => open(id, { focus: true }));
let order = [];
let photo = null; // the photo or clip that is open, with its boxes
let opening = 0;
let filter = "all";

// --- Photos ---------------------------------------------------------------------------------

function isIn(name) { return FILTERS.find(([key]) => key === name)[2]; }

function list() {
  order = [...store.photos.values()].filter(isIn(filter));
  const byName = (one, other) => (one.name < other.name ? -1 : 1);
  order.sort($("sort").value === "worst" ? (one, other) => other.worry - one.worry || byName(one, other) : byName);
  order = order.map(({ id }) => id);
  strip.show(order);
  $("none").hidden = order.length > 0;
  count();
}

function count() {
  const all = [...store.photos.values()];
  const done = all.filter((one) => one.looked_at).length;
  const open = all.filter((one) => !one.error).length;
  $("bar").max = open || 1;
  $("bar").value = done;
  $("done").textContent = `${done.toLocaleString("en")} of ${open.toLocaleString("en")} looked at`;
  const select = $("filter");
  const shown = FILTERS.filter(([key, , test]) => ["all", "open"].includes(key) || key === filter || all.some(test));
  if (select.children.length !== shown.length) {
    select.replaceChildren(...shown.map(([key]) => Object.assign(document.createElement("option"), { value: key })));
  }
  shown.forEach(([, name, test], row) => {
    select.children[row].textContent = `${name} (${all.filter(test).length.toLocaleString("en")})`;
  });
  select.value = filter;
  const waiting = all.filter((one) => one.corrected && !one.is_written);
  const parts = [];
  if (waiting.length) parts.push(`${named(waiting)} ${waiting.length === 1 ? "isn’t" : "aren’t"} written yet. When you have finished, run: plateblur apply ${store.run.run}`);
  if (store.run.damaged) parts.push(`${store.run.damaged} damaged lines were passed over.`);
  $("notice").textContent = parts.join(" ");
  $("notice").hidden = !parts.length;
}

// "1 corrected photo", "2 corrected photos and clips".
function named(some) {
  const clips = some.filter((one) => one.length_s !== undefined).length;
  const s = some.length === 1 ? "" : "s";
  const what = clips === some.length ? `clip${s}` : clips ? "photos and clips" : `photo${s}`;
  return `${some.length.toLocaleString("en")} corrected ${what}`;
}

async function open(id, { focus = false } = {}) {
  const mine = ++opening;
  strip.choose(id);
  history.replaceState(null, "", `#${id}`);
  const summary = store.photos.get(id);
  if (summary.error) {
    const why = summary.is_blurred ? "This clip can’t be reviewed" : "This wasn’t blurred";
    return nothing(`${why}: ${summary.error}`, summary.name);
  }
  let times = null;
  try {
    if (summary.length_s !== undefined && photo?.id !== id) nothing("Reading the clip…", summary.name);
    const [loaded, read] = await Promise.all([store.load(id), summary.length_s === undefined ? null : store.times(id)]);
    if (mine !== opening) return;
    [photo, times] = [loaded, read];
  } catch (error) {
    if (mine === opening) nothing(`${summary.name} can’t be opened: ${error.message}`, summary.name);
    return;
  }
  show(times);
  showChosen();
  if (focus) $("viewer").focus({ preventScroll: true });
}

// Shows the photo or clip that is open, with its boxes as they are now.
function show(times = null) {
  viewer.show(photo);
  if (!photo.is_clip) timeline.close();
  else if (times) timeline.open(photo, times);
  else timeline.reload();
  place(photo.plates);
}

// Shows that there is nothing to be looked at, and why.
function nothing(why, name) {
  photo = null;
  timeline.close();
  boxes.show(null);
  viewer.blank(why);
  $("name").textContent = name;
  refresh();
}

// Puts boxes over the picture; in a clip, where they are in the frame that is shown.
function place(plates) {
  photo.plates = photo.is_clip ? timeline.placed(plates) : plates;
  boxes.show(photo);
  if (photo.is_clip) timeline.show(boxes.chosen, label);
}

function step(by) {
  const at = order.indexOf(strip.chosen);
  const next = order[Math.min(order.length - 1, Math.max(0, at + by))];
  if (next !== undefined && next !== strip.chosen) open(next, { focus: document.activeElement !== $("strip") });
}

// --- Boxes ----------------------------------------------------------------------------------

function edit(mutate) {
  if (!photo) return;
  const before = photo.plates;
  const plates = before.map((plate) => ({ ...plate }));
  mutate(plates);
  photo.undo.push(before);
  photo.redo = [];
  put(taken(plates));
}

function put(plates) {
  place(plates);
  store.change(photo);
  refresh();
}

// In a clip, a box that was moved has a key frame here.
function taken(plates) { return photo.is_clip ? timeline.taken(plates) : plates; }

function back(from, to) {
  if (!photo?.[from].length) return;
  photo[to].push(photo.plates);
  put(photo[from].pop());
}

function add(box) {
  const xyxy = [
    Math.max(0, box[0]), Math.max(0, box[1]), Math.min(photo.width, box[2]), Math.min(photo.height, box[3]),
  ].map((side) => Math.round(side * 10) / 10);
  if (xyxy[2] - xyxy[0] < 1 || xyxy[3] - xyxy[1] < 1) return;
  edit((plates) => plates.push({ xyxy, hide: true }));
  boxes.choose(photo.plates.length - 1, { focus: true });
}

function addInMiddle() {
  const { width, height } = viewer.size;
  const at = viewer.toPhoto({ x: width / 2, y: height / 2 });
  const x = Math.min(photo.width, Math.max(0, at.x)), y = Math.min(photo.height, Math.max(0, at.y));
  const wide = 60 / viewer.scale, high = 18 / viewer.scale;
  add([x - wide, y - high, x + wide, y + high]);
}

function draw(on) {
  timeline.pause();
  $("add").setAttribute("aria-pressed", on);
  viewer.draw(on ? (box) => { draw(false); add(box); } : null);
}

// A box that the run found stays in the record as "not hidden"; one by hand goes.
function remove() {
  const row = boxes.chosen;
  if (!photo || row < 0) return;
  if (photo.plates[row].found) {
    edit((plates) => { plates[row].hide = false; });
  } else {
    edit((plates) => plates.splice(row, 1));
    $("viewer").focus({ preventScroll: true });
  }
}

function toggleHide() {
  const row = boxes.chosen;
  if (photo && row >= 0) edit((plates) => { plates[row].hide = !plates[row].hide; });
}

function look({ readable = null, next = true } = {}) {
  if (!photo) return;
  photo.looked_at = true;
  if (store.photos.get(photo.id).in_sample) {
    const isAdded = photo.plates.some((plate) => plate.hide && !plate.found);
    photo.readable = readable ?? photo.readable ?? isAdded;
  }
  store.change(photo);
  refresh();
  if (next) step(1);
}

function label(plate, row) {
  const parts = [`${photo.is_clip ? "Plate" : "Box"} ${row + 1}`, ...about(plate)];
  parts.push(plate.hide ? "hidden" : "not hidden");
  return parts.join(", ");
}

function about(plate) {
  const parts = [plate.found ? `confidence ${Math.round(plate.confidence * 100)} %` : "by hand"];
  if (plate.found && !isAsFound(plate)) parts.push("moved");
  if (plate.keys) {
    parts.push(timeline.spanOf(plate), `${plate.keys.length} key ${plate.keys.length === 1 ? "frame" : "frames"}`);
    if (plate.elsewhere) parts.push("in another video track, not shown");
    if (plate.found && plate.confidence < 0.6) parts.push(MARKS.unsure);
    return parts;
  }
  const [left, top, right, bottom] = plate.xyxy;
  parts.push(`1:${(photo.height / (bottom - top)).toFixed(0)}`);
  if (plate.found && plate.confidence < 0.6) parts.push(MARKS.unsure);
  if (photo.height / (bottom - top) > 30) parts.push(MARKS.small);
  if (Math.min(left, top, photo.width - right, photo.height - bottom) < 2) parts.push(MARKS.edge);
  return parts;
}

// --- What is said ---------------------------------------------------------------------------

function refresh() {
  count();
  const row = boxes.chosen;
  for (const [id, off] of [
    ["hide", !photo || row < 0], ["remove", !photo || row < 0], ["add", !photo], ["looked", !photo],
    ["undo", !photo?.undo.length], ["redo", !photo?.redo.length],
  ]) $(id).disabled = off;
  const summary = photo && store.photos.get(photo.id);
  $("looked").setAttribute("aria-pressed", Boolean(photo?.looked_at));
  const inSample = Boolean(summary?.in_sample);
  $("readable").hidden = !inSample;
  $("readable").setAttribute("aria-pressed", photo?.readable === true);
  $("looked-label").textContent = inSample ? "Not readable" : "Looked at";
  if (inSample) $("looked").setAttribute("aria-pressed", Boolean(photo.looked_at && photo.readable === false));
  const conflict = photo && store.pending.get(photo.id)?.conflict;
  $("conflict").hidden = !conflict;
  if (conflict) $("conflict-text").textContent = `${conflict.by} changed the boxes of this ${photo.is_clip ? "clip" : "photo"} at ${clock(conflict.at)}. Yours aren’t saved yet.`;
  if (!photo) { $("plates").replaceChildren(); $("about").textContent = ""; $("empty").hidden = true; return; }
  $("name").textContent = photo.name;
  const parts = [`${photo.width} × ${photo.height}`];
  if (photo.is_clip) parts.push(clockOf(summary.length_s));
  if (photo.ignored) parts.push(`${photo.ignored} in ignored zones stayed visible`);
  if (photo.by) parts.push(`${photo.looked_at ? "looked at" : "changed"} by ${photo.by}, ${clock(photo.at)}`);
  $("about").textContent = parts.join(" · ");
  $("empty").textContent = photo.is_clip ? "No plate. If you see one, draw a box around it." : "No box. If you see a plate, draw one around it.";
  $("empty").hidden = photo.plates.length > 0;
  $("plates").replaceChildren(...photo.plates.map((plate, at) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = plate.hide ? "" : "off";
    if (at === row) button.setAttribute("aria-current", "true");
    const name = Object.assign(document.createElement("b"), { textContent: `${photo.is_clip ? "Plate" : "Box"} ${at + 1}` });
    const more = Object.assign(document.createElement("span"), { className: "soft", textContent: [...about(plate), ...(plate.hide ? [] : ["not hidden"])].join(" · ") });
    button.append(name, more);
    button.addEventListener("click", () => {
      boxes.choose(at, { focus: !photo.plates[at].elsewhere });
      if (photo.is_clip) timeline.find(at);
    });
    item.append(button);
    return item;
  }));
  $("plates").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

function showChosen() {
  const row = boxes.chosen;
  if (photo?.is_clip) timeline.show(row, label);
  $("hide").lastElementChild.textContent = row >= 0 && photo && !photo.plates[row]?.hide ? "Hide" : row >= 0 ? "Don’t hide" : "Hide";
  refresh();
}

function clock(at) {
  return new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function showState(text) {
  const said = {
    saved: "Saved", saving: "Saving…", offline: "Not saved: the server doesn’t answer. Your changes are kept here.",
    closed: "Not saved: open the address that plateblur review printed. Your changes are kept here.",
    conflict: "Someone else changed a photo", refused: `Not saved: ${text}`,
  }[store.state];
  $("saved").textContent = said;
  $("saved").className = { saved: "good", saving: "" }[store.state] ?? "bad";
}

function showSide(side) {
  viewer.showSide(side);
  if (timeline.isOpen) timeline.reload();
  for (const button of document.querySelectorAll("[data-side][role=radio]")) {
    const on = button.dataset.side === side;
    button.setAttribute("aria-checked", on);
    button.tabIndex = on ? 0 : -1;
  }
}

// --- Keys -----------------------------------------------------------------------------------

const KEYS = {
  h: toggleHide, a: () => photo && addInMiddle(), d: () => photo && draw($("add").getAttribute("aria-pressed") !== "true"),
  b: () => showSide(viewer.side === "before" ? "after" : "before"), s: () => showSide("slider"),
  "+": () => viewer.zoom(1.4), "=": () => viewer.zoom(1.4), "-": () => viewer.zoom(1 / 1.4), 0: () => viewer.fit(),
  z: () => boxes.chosen >= 0 && viewer.zoomTo(photo.plates[boxes.chosen].xyxy),
  r: () => photo && store.photos.get(photo.id).in_sample && look({ readable: true, next: false }),
  p: () => timeline.play(), k: () => timeline.key(), i: () => timeline.starts(), o: () => timeline.ends(),
  ",": () => timeline.jump(-1), ".": () => timeline.jump(1),
  PageUp: () => step(-1), PageDown: () => step(1),
  "?": () => $("keys").showModal(), Delete: remove, Backspace: remove,
  Escape: () => { draw(false); boxes.choose(-1); $("viewer").focus({ preventScroll: true }); },
};
let held = 0; // how often a key has come without being let go

document.addEventListener("keyup", () => { held = 0; });
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  const { target, key } = event;
  if (target.closest("select, input:not([type=range])")) return;
  const isPlate = target.classList.contains("plate");
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") {
    event.preventDefault();
    return event.shiftKey ? back("redo", "undo") : back("undo", "redo");
  }
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "y") { event.preventDefault(); return back("redo", "undo"); }
  if (ARROWS[key]) return arrow(event, ARROWS[key]);
  if (key === "Enter") {
    if (target.closest("button, a") && !isPlate) return;
    event.preventDefault();
    return look();
  }
  if (key === " " && isPlate) { event.preventDefault(); return toggleHide(); }
  if (key === " " && timeline.isOpen && !target.closest("button, a")) { event.preventDefault(); return timeline.play(); }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Home" || key === "End") {
    if (target === $("scrub") || (target !== $("strip") && !timeline.isOpen)) return;
    event.preventDefault();
    const by = key === "Home" ? -Infinity : Infinity;
    return target === $("strip") ? step(by) : timeline.step(by);
  }
  if (target === $("scrub") && key.startsWith("Page")) return;
  const act = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (act) { event.preventDefault(); act(); }
});

function arrow(event, [across, down]) {
  const { target } = event;
  if (target === $("divider")) return;
  if (target.getAttribute("role") === "radio") {
    event.preventDefault();
    const radios = [...document.querySelectorAll("[data-side][role=radio]")];
    const next = radios[(radios.indexOf(target) + across + down + radios.length) % radios.length];
    showSide(next.dataset.side);
    return next.focus();
  }
  event.preventDefault();
  const row = boxes.chosen;
  held += event.repeat ? 1 : 0;
  const length = Math.max(1, (held > 6 ? 8 : 2) / viewer.scale);
  if (event.shiftKey && row >= 0) return nudge((plate) => moved(plate, across * length, down * length, photo), event.repeat);
  if (event.altKey && row >= 0) return nudge((plate) => resized(plate, across ? "e" : "s", across * length, down * length, photo), event.repeat);
  if (event.shiftKey) return viewer.pan(-across * 60, -down * 60);
  if (event.altKey || !across) return;
  if (timeline.isOpen && target !== $("strip")) timeline.step(across);
  else step(across);
}

// Steps of a key that is held are one change.
function nudge(make, repeats) {
  const row = boxes.chosen;
  if (repeats && photo.undo.length) {
    const plates = photo.plates.map((plate) => ({ ...plate }));
    plates[row] = make(plates[row]);
    return put(taken(plates));
  }
  edit((plates) => { plates[row] = make(plates[row]); });
}

// --- Start ----------------------------------------------------------------------------------

function askName() {
  $("by").value = store.by;
  $("name-dialog").showModal();
}

$("name-dialog").addEventListener("close", () => {
  const name = $("by").value.trim();
  if (name) store.setName(name);
  $("who").textContent = store.by ? store.by : "Your name";
  $("who").setAttribute("aria-label", store.by ? `You are ${store.by}; change your name` : "Enter your name");
  if (!store.by) askName();
  else $("viewer").focus({ preventScroll: true });
});
$("name-dialog").addEventListener("cancel", (event) => { if (!store.by) event.preventDefault(); });
$("who").addEventListener("click", askName);
$("help").addEventListener("click", () => $("keys").showModal());
$("filter").addEventListener("change", () => { filter = $("filter").value; list(); if (order.length && !order.includes(photo?.id)) open(order[0]); else if (photo) strip.choose(photo.id); });
$("sort").addEventListener("change", () => { list(); if (photo) strip.choose(photo.id); });
$("back").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("add").addEventListener("click", () => draw($("add").getAttribute("aria-pressed") !== "true"));
$("hide").addEventListener("click", toggleHide);
$("remove").addEventListener("click", remove);
$("undo").addEventListener("click", () => back("undo", "redo"));
$("redo").addEventListener("click", () => back("redo", "undo"));
$("in").addEventListener("click", () => viewer.zoom(1.4));
$("out").addEventListener("click", () => viewer.zoom(1 / 1.4));
$("fit").addEventListener("click", () => viewer.fit());
$("looked").addEventListener("click", () => {
  const inSample = store.photos.get(photo.id).in_sample;
  if (photo.looked_at && !inSample) { photo.looked_at = false; store.change(photo); refresh(); } else look({ readable: inSample ? false : null });
});
$("readable").addEventListener("click", () => look({ readable: true, next: false }));
for (const button of document.querySelectorAll("[data-side][role=radio]")) button.addEventListener("click", () => showSide(button.dataset.side));
$("conflict").addEventListener("click", (event) => {
  const choice = event.target.dataset.choice;
  if (!choice) return;
  store.resolve(photo.id, choice);
  place(photo.plates);
  refresh();
  $("viewer").focus({ preventScroll: true });
});
viewer.addEventListener("press", () => { if (boxes.chosen >= 0) boxes.choose(-1); });
viewer.addEventListener("view", () => { $("zoom").textContent = viewer.isFitted ? "Fit" : `${Math.round(viewer.scale * 100)} %`; });
store.addEventListener("photo", (event) => { strip.refresh(event.id); if (event.id === photo?.id) refresh(); else count(); });
store.addEventListener("written", (event) => { if (event.id === photo?.id) { show(); refresh(); } });
timeline.addEventListener("frame", () => {
  if (!photo?.is_clip) return;
  photo.plates = timeline.placed(photo.plates);
  boxes.show(photo);
});
$("boxes").addEventListener("pointerdown", () => timeline.pause(), { capture: true });
store.addEventListener("conflict", (event) => { if (event.id === photo?.id) refresh(); else showState(); });
store.addEventListener("other", async (event) => {
  if (event.id !== photo?.id || store.pending.has(event.id)) return;
  const loaded = await store.load(event.id);
  if (event.id !== photo?.id) return;
  photo = loaded;
  show(photo.is_clip ? timeline.times : null);
  refresh();
});
store.addEventListener("run", () => { list(); if (photo) open(photo.id); });
store.addEventListener("state", (event) => showState(event.text));

await store.open().then(() => {
  $("run").textContent = store.run.run;
  document.title = `Review ${store.run.run}`;
  if (store.run.sample) filter = "sample";
  showSide("slider");
  list();
  showState();
  const asked = Number(location.hash.slice(1));
  const first = store.photos.has(asked) && location.hash ? asked : order[0];
  if (first !== undefined) open(first);
  if (store.by) $("name-dialog").dispatchEvent(new Event("close")); else { $("by").value = ""; askName(); }
}).catch((error) => {
  viewer.say(`The run can’t be opened: ${error.message}`);
});
document.documentElement.dataset.ready = "true";
