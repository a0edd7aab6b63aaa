// The blurred clip, and the original on its left side. A dropped original is played from the
// visitor's own disk, if the browser can play it; it never comes back from the server.
const $ = (selector) => element.querySelector(selector);
const after = $(".pb-clip-after");
const before = $(".pb-clip-before");
const base = location.origin + location.pathname.replace(/\/?$/, "/");
const APART_S = 0.08; // two frames of a clip with 25 a second
let dropped = ""; // address of the file that was dropped last

document.addEventListener("change", (event) => {
  if (!event.target.matches?.("#clip input[type=file]")) return;
  URL.revokeObjectURL(dropped);
  const [file] = event.target.files;
  dropped = file ? URL.createObjectURL(file) : "";
}, true);

function compare(isPossible) {
  for (const part of [before, $(".pb-clip-line"), $(".pb-clip-share")]) part.hidden = !isPossible;
}

function show() {
  const clip = props.value;
  $(".pb-clip").hidden = !clip;
  for (const video of [after, before]) {
    video.pause();
    video.removeAttribute("src");
    video.load();
  }
  if (!clip) return;
  const original = clip.before ?? dropped;
  compare(Boolean(original));
  if (original) before.src = original;
  after.src = `${base}gradio_api/file=${encodeURI(clip.after)}`;
}

function follow() {
  if (Math.abs(before.currentTime - after.currentTime) > APART_S) {
    before.currentTime = after.currentTime;
  }
}

function moveLine(percent) {
  $("input").value = percent;
  $(".pb-clip-stage").style.setProperty("--at", `${percent}%`);
}

before.addEventListener("error", () => compare(false));
before.addEventListener("loadedmetadata", follow);
for (const event of ["seeking", "timeupdate", "pause"]) after.addEventListener(event, follow);
after.addEventListener("play", () => before.play().catch(() => compare(false)));
after.addEventListener("pause", () => before.pause());
after.addEventListener("ratechange", () => { before.playbackRate = after.playbackRate; });
$("input").addEventListener("input", (event) => moveLine(event.target.value));
$(".pb-clip-stage").addEventListener("pointermove", (event) => {
  if (event.pointerType !== "mouse") return;
  const at = event.currentTarget.getBoundingClientRect();
  moveLine(Math.min(100, Math.max(0, ((event.clientX - at.left) / at.width) * 100)));
});
watch("value", show);
show();
