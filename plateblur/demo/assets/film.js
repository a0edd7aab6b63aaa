// A small picture of each photo; the one that is chosen is asked of Python.
const strip = element.querySelector(".pb-film");

function part(className, text) {
  const node = document.createElement("span");
  node.className = className;
  node.textContent = text;
  return node;
}

function frame(photo, number) {
  const node = document.createElement("div");
  node.className = "pb-frame";
  node.id = `pb-frame-${number}`;
  node.setAttribute("role", "option");
  const picture = document.createElement(photo.failed ? "div" : "img");
  const foot = document.createElement("div");
  foot.className = "pb-foot";
  const words = [`${number + 1}. ${photo.name}`];
  if (photo.failed) {
    picture.className = "pb-none";
    foot.append(part("pb-failed", "not blurred"));
    words.push("not blurred");
  } else {
    picture.src = photo.thumb;
    picture.alt = "";
    foot.append(part("pb-count", photo.plates));
    if (photo.marks.length) foot.append(part("pb-mark", photo.marks.join(", ")));
    if (photo.corrected) foot.append(part("pb-changed", "\u2022"));
    words.push(`${photo.plates} ${photo.plates === 1 ? "plate" : "plates"}`, ...photo.marks);
    if (photo.corrected) words.push("corrected");
  }
  node.append(picture, foot);
  node.title = words.join(", ");
  node.setAttribute("aria-label", node.title);
  node.addEventListener("click", () => choose(number));
  return node;
}

function mark(number) {
  for (const [index, node] of [...strip.children].entries()) {
    node.setAttribute("aria-selected", String(index === number));
  }
  strip.setAttribute("aria-activedescendant", `pb-frame-${number}`);
  const { offsetLeft: left, offsetWidth: width } = strip.children[number];
  const middle = left - strip.offsetLeft - (strip.clientWidth - width) / 2;
  strip.scrollTo({ left: middle });
}

const PATIENCE_MS = 10000; // an answer that has not come by then does not come
let chosen = 0;
let askedAt = null; // one is asked for at a time; the last choice is asked for when it is there

function ask() {
  askedAt = performance.now();
  trigger("photo_picked", { number: chosen });
}

function choose(number) {
  if (number === chosen || number < 0 || number >= strip.children.length) return;
  chosen = number;
  mark(number);
  if (askedAt === null || performance.now() - askedAt > PATIENCE_MS) ask();
}

function show() {
  const film = props.value;
  strip.hidden = !film;
  if (!film) {
    askedAt = null;
    return;
  }
  strip.replaceChildren(...film.frames.map(frame));
  const isBehind = askedAt !== null && chosen !== film.shown && chosen < film.frames.length;
  if (!isBehind) chosen = film.shown;
  mark(chosen);
  if (isBehind) ask();
  else askedAt = null;
}

strip.addEventListener("keydown", (event) => {
  const last = strip.children.length - 1;
  const next = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: last }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  choose(next);
});
watch("value", show);
show();
