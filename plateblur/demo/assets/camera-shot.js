// A camera photo is handled like a dropped one.
const $ = (selector) => element.querySelector(selector);
const video = $("video");
let stream = null;

function close() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = video.srcObject = null;
  $(".pb-shot-live").hidden = true;
  $(".pb-shot-open").hidden = false;
}

async function open() {
  $(".pb-shot-failure").hidden = true;
  try {
    if (!navigator.mediaDevices) throw new Error("the page must be opened over HTTPS");
    const wanted = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    close();
    $(".pb-shot-failure").textContent = `The camera can't be used: ${error.message}.`;
    $(".pb-shot-failure").hidden = false;
    return;
  }
  $(".pb-shot-open").hidden = true;
  $(".pb-shot-live").hidden = false;
  $(".pb-shot-take").focus();
}

function take() {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    close();
    const input = document.querySelector("#photos input[type=file]");
    if (!blob || !input) return;
    const taken = new DataTransfer();
    taken.items.add(new File([blob], "camera.jpg", { type: "image/jpeg" }));
    input.files = taken.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, "image/jpeg", 0.95);
}

$(".pb-shot-open").addEventListener("click", open);
$(".pb-shot-take").addEventListener("click", take);
$(".pb-shot-close").addEventListener("click", close);
