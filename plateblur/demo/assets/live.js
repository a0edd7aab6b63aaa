// One frame is in work at a time; only what comes back blurred is drawn where it can be seen.
const $ = (selector) => element.querySelector(selector);
const video = $(".pb-live-seen");
const shown = $(".pb-live-shown");
const address = new URL("live", location.origin + location.pathname.replace(/\/?$/, "/"));
const LONGEST = 1280; // pixels of the longer side that are sent
const BUSY_MS = 1000, PATIENCE_MS = 20000, FAILURES = 5;
let stream = null;

function stop(reason = "") {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = video.srcObject = null;
  $(".pb-live-stop").hidden = shown.hidden = $(".pb-live-told").hidden = true;
  $(".pb-live-start").hidden = false;
  $(".pb-live-failure").textContent = reason;
  $(".pb-live-failure").hidden = !reason;
}

function still() {
  const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas"); // never in the page
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

async function show(answer) {
  const picture = await createImageBitmap(await answer.blob());
  if (!stream) return;
  shown.width = picture.width;
  shown.height = picture.height;
  shown.getContext("2d").drawImage(picture, 0, 0);
  shown.hidden = false;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function run(mine) {
  let failures = 0;
  const times = [];
  while (stream === mine) {
    if (document.hidden || element.offsetParent === null) {
      stop("The camera was stopped because this tab was left.");
      return;
    }
    const begun = performance.now();
    try {
      const frame = await still();
      address.search = new URLSearchParams({ method: $(".pb-live-method").value });
      const answer = await fetch(address, {
        method: "POST",
        body: frame,
        headers: { "Content-Type": "image/jpeg" },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (answer.status === 503) {
        $(".pb-live-told").textContent = await answer.text();
        $(".pb-live-told").hidden = false;
        await pause(BUSY_MS);
        continue;
      }
      if (!answer.ok) throw new Error(await answer.text());
      await show(answer);
      if (stream !== mine) return;
      failures = 0;
      const now = performance.now();
      times.push(now);
      while (times.length > 2 && now - times[0] > 3000) times.shift();
      const rate = ((times.length - 1) * 1000) / (now - times[0]);
      const plates = Number(answer.headers.get("X-Plates"));
      $(".pb-live-told").textContent =
        `${plates} ${plates === 1 ? "plate" : "plates"} hidden, ` +
        (times.length > 1 ? `${rate.toFixed(1)} frames a second, ` : "") +
        `${Math.round(now - begun)} ms behind.`;
      $(".pb-live-told").hidden = false;
    } catch (error) {
      failures += 1;
      if (failures >= FAILURES && stream === mine) {
        stop(`The live view ended: ${error.message}`);
        return;
      }
      await pause(BUSY_MS);
    }
  }
}

async function start() {
  stop();
  try {
    if (!navigator.mediaDevices) throw new Error("the page must be opened over HTTPS");
    const wanted = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stop(`The camera can't be used: ${error.message}.`);
    return;
  }
  $(".pb-live-start").hidden = true;
  $(".pb-live-stop").hidden = false;
  $(".pb-live-stop").focus();
  run(stream);
}

$(".pb-live-start").addEventListener("click", start);
$(".pb-live-stop").addEventListener("click", () => stop());
