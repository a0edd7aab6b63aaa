// Shows before and after, and lets people add and remove boxes. It only sends requests; all results,
// and every pixel, come from Python. `element`, `props`, `trigger` and `watch` are Gradio's.
const $ = (selector) => element.querySelector(selector);
const SMALLEST = 0.004; // of the photo's side: less is a slip of the finger
let mode = "compare";
let drawing = null; // [x, y] in shares of the photo where the pointer went down
let shown = ""; // name of the photo on show
let focused = -1; // number of the box whose removal had the focus
let fresh = null; // [left, top, right, bottom] in shares, of the box being made

function setMode(next) {
  mode = next;
  $(".pb-stage").dataset.mode = mode;
  $(".pb-correct").hidden = mode !== "correct";
  for (const button of element.querySelectorAll(".pb-modes button")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }
  dropFresh();
}

function place(node, [left, top, right, bottom]) {
  node.style.left = `${left * 100}%`;
  node.style.top = `${top * 100}%`;
  node.style.width = `${(right - left) * 100}%`;
  node.style.height = `${(bottom - top) * 100}%`;
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function ask(event, xyxy) {
  $(".pb-stage").dataset.busy = "";
  if (!props.value.is_example) {
    document.dispatchEvent(new CustomEvent("pb-corrected", { detail: shown }));
  }
  trigger(event, { xyxy, name: props.value.name });
}

function dropFresh() {
  drawing = fresh = null;
  $(".pb-new-box")?.remove();
}

function showFresh() {
  let node = $(".pb-new-box");
  if (!node) {
    node = make("div", "pb-new-box");
    node.tabIndex = 0;
    node.setAttribute("role", "group");
    node.setAttribute(
      "aria-label",
      "New box: use arrow keys to move, shift and arrow keys to resize, enter to add, escape to cancel",
    );
    $(".pb-boxes").append(node);
  }
  place(node, fresh);
  return node;
}

function addFresh() {
  const { width, height } = props.value;
  const [left, top, right, bottom] = fresh;
  dropFresh();
  if (right - left < SMALLEST || bottom - top < SMALLEST) return;
  if (document.activeElement === document.body) $(".pb-new").focus(); // it was in the box
  ask("plate_added", [left * width, top * height, right * width, bottom * height]);
}

function plateItem(plate, number) {
  const item = make("li");
  const image = make("img");
  image.src = plate.crop;
  image.alt = `Plate ${number + 1}, hidden`;
  const text = make("div");
  const sure = plate.by_hand ? "added by hand" : `confidence ${plate.confidence}`;
  text.append(make("strong", "", `Plate ${number + 1}`), make("span", "", sure), make("br"));
  const advice = make("span", "pb-advice", plate.advice);
  if (plate.within) advice.dataset.within = "";
  text.append(advice);
  item.append(image, text);
  return item;
}

function boxNode(plate, number) {
  const { width, height } = props.value;
  const [x1, y1, x2, y2] = plate.xyxy;
  const node = make("div", "pb-box");
  place(node, [x1 / width, y1 / height, x2 / width, y2 / height]);
  const remove = make("button", "", "\u00d7");
  remove.type = "button";
  remove.style.setProperty("--right", `${(x2 / width) * 100}%`);
  remove.style.setProperty("--top", `${(y1 / height) * 100}%`);
  remove.setAttribute("aria-label", `Remove the box of plate ${number + 1}`);
  remove.addEventListener("click", () => {
    focused = number;
    ask("plate_removed", plate.xyxy);
  });
  return [node, remove];
}

// What the page showed while its scripts were loading (first.html).
function dropFirstPaint() {
  document.getElementById("first")?.remove();
}

function show() {
  const value = props.value;
  delete $(".pb-stage").dataset.busy;
  $(".pb-empty").hidden = Boolean(value);
  $(".pb-failure").hidden = !value?.failure;
  $(".pb-work").hidden = !value || Boolean(value.failure);
  if (!value) return dropFirstPaint();
  const isNew = value.name !== shown && !(value.is_example && shown === "");
  if (isNew && element.getBoundingClientRect().top > window.innerHeight / 2) {
    element.scrollIntoView({ behavior: "smooth" }); // on a phone it is below the fold
  }
  shown = $(".pb-work").dataset.name = value.name;
  if (value.failure) {
    dropFirstPaint();
    $(".pb-failure strong").textContent = value.name;
    $(".pb-failure p").textContent = value.failure;
    return;
  }
  dropFresh();
  $(".pb-before").src = value.before;
  $(".pb-after").src = value.after;
  $(".pb-after").decode().catch(() => {}).then(dropFirstPaint);
  const count = value.plates.length;
  const hidden = count === 1 ? "1 plate hidden." : `${count} plates hidden.`;
  const said = count === 0 ? "No plate found." : hidden;
  $(".pb-summary").textContent = value.is_example ? `A drawn example. ${said}` : said;
  $(".pb-none-found").hidden = count > 0;
  $(".pb-boxes").replaceChildren(...value.plates.flatMap(boxNode));
  keepFocus();
  $(".pb-plates").replaceChildren(...value.plates.map(plateItem));
  $(".pb-reset").hidden = !value.corrected;
}

// The button that was pressed is gone: the focus goes to the next one, so that Tab goes on there.
function keepFocus() {
  if (focused < 0) return;
  const buttons = element.querySelectorAll(".pb-boxes button");
  (buttons[Math.min(focused, buttons.length - 1)] ?? $(".pb-new")).focus();
  focused = -1;
}

function share(event) {
  const at = $(".pb-boxes").getBoundingClientRect();
  const clip = (x) => Math.min(1, Math.max(0, x));
  return [clip((event.clientX - at.left) / at.width), clip((event.clientY - at.top) / at.height)];
}

for (const button of element.querySelectorAll(".pb-modes button")) {
  button.addEventListener("click", () => setMode(button.dataset.mode));
}
function moveLine(percent) {
  $(".pb-range").value = percent;
  $(".pb-stage").style.setProperty("--at", `${percent}%`);
}
$(".pb-range").addEventListener("input", (event) => moveLine(event.target.value));
$(".pb-range").addEventListener("pointermove", (event) => {
  if (event.pointerType !== "mouse") return; // a finger drags it
  const at = event.target.getBoundingClientRect();
  moveLine(Math.min(100, Math.max(0, ((event.clientX - at.left) / at.width) * 100)));
});
const surface = $(".pb-boxes");
surface.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button") || event.button !== 0) return;
  dropFresh();
  surface.setPointerCapture(event.pointerId);
  drawing = share(event);
});
surface.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  const [x, y] = share(event);
  const [fromX, fromY] = drawing;
  fresh = [Math.min(x, fromX), Math.min(y, fromY), Math.max(x, fromX), Math.max(y, fromY)];
  showFresh();
});
surface.addEventListener("pointerup", () => (drawing && fresh ? addFresh() : dropFresh()));
surface.addEventListener("pointercancel", dropFresh);
surface.addEventListener("keydown", (event) => {
  if (!fresh || !event.target.classList.contains("pb-new-box")) return;
  const step = event.altKey ? 0.002 : 0.01;
  const [dx, dy] = {
    ArrowLeft: [-step, 0],
    ArrowRight: [step, 0],
    ArrowUp: [0, -step],
    ArrowDown: [0, step],
  }[event.key] ?? [0, 0];
  const [left, top, right, bottom] = fresh;
  if (event.key === "Enter") addFresh();
  else if (event.key === "Escape") dropFresh();
  else if (!dx && !dy) return;
  else if (event.shiftKey) {
    fresh = [left, top, Math.max(left + step, right + dx), Math.max(top + step, bottom + dy)];
  } else fresh = [left + dx, top + dy, right + dx, bottom + dy];
  event.preventDefault();
  if (fresh) showFresh();
});
$(".pb-new").addEventListener("click", () => {
  fresh = [0.42, 0.47, 0.58, 0.53];
  showFresh().focus();
});
$(".pb-reset").addEventListener("click", () => ask("plates_reset", []));
$(".pb-to-correct").addEventListener("click", () => {
  setMode("correct");
  $(".pb-new").focus();
});
watch("value", show);
show();
