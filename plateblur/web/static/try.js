// The form on the front page: shows the request, sends it, shows the response.
"use strict";

const ENDPOINT = "/plateblurer.aspx";
const GUESTS = "/try"; // takes and answers the same, from visitors without an account
const SAMPLE = "/static/street.jpg";
const SHOWN_CHARS = 24; // of a base64 string in the panes; the whole of it would fill the page
const QUOTA = ["1002", "1004"];

const part = (id) => document.getElementById(`try-${id}`);
const shorten = (text) =>
  text.length > 3 * SHOWN_CHARS
    ? `${text.slice(0, SHOWN_CHARS)}... ${text.length} characters ...${text.slice(-SHOWN_CHARS)}`
    : text;
const shown = (value) =>
  JSON.stringify(value, (_, item) => (typeof item === "string" ? shorten(item) : item), 2);

let shownUrls = []; // object URLs of the photos on the page
let sample = null;

function say(text, kind) {
  part("status").textContent = text;
  part("status").className = kind;
}

function readAsBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

async function chosen() {
  if (part("own").checked) return part("file").files[0] ?? null;
  sample ??= (await fetch(SAMPLE)).blob();
  return new File([await sample], "street.jpg");
}

const hasAccount = () => part("account").open && part("user").value !== "";
const givenUrl = () => (part("account").open ? (part("url")?.value.trim() ?? "") : "");

async function request() {
  const url = givenUrl();
  const file = url ? null : await chosen();
  const body = {
    base64_Photo_String: file ? await readAsBase64(file) : "NO",
    photo_url: url || "NO",
    boundingBoxCrop: part("crops").checked ? "YES" : "NO",
  };
  if (file && /\.hei[cf]$/i.test(file.name)) body.preview = "YES";
  return { name: file?.name ?? "photo", body };
}

// Colours the JSON: names, strings and the rest each have a class.
function paint(pane, head, json) {
  const words = json.split(/("(?:[^"\\]|\\.)*"(?:\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*)/);
  pane.replaceChildren(head, ...words.map((word, number) => {
    if (number % 2 === 0) return word;
    const span = document.createElement("span");
    span.className = word.endsWith(":") ? "t-nt" : word.startsWith('"') ? "t-s2" : "t-mi";
    span.textContent = word;
    return span;
  }));
}

async function showRequest() {
  const { body } = await request();
  const account = hasAccount();
  const head = [
    `POST ${location.origin}${account || part("form").dataset.guest === "0" ? ENDPOINT : GUESTS}`,
    ...(account ? ["Authorization: Basic ••••••"] : []),
    "Content-Type: application/json",
  ];
  paint(part("request").firstChild, `${head.join("\n")}\n\n`, shown(body));
}

function basic(user, secret) {
  const bytes = new TextEncoder().encode(`${user}:${secret}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

function blobOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const start = String.fromCharCode(...bytes.slice(0, 16));
  const [type, suffix] =
    start.startsWith("\xff\xd8") ? ["image/jpeg", "jpg"]
    : start.startsWith("\x89PNG") ? ["image/png", "png"]
    : start.startsWith("RIFF") ? ["image/webp", "webp"]
    : start.slice(4, 12) === "ftypavif" ? ["image/avif", "avif"]
    : start.slice(4, 8) === "ftyp" ? ["image/heic", "heic"]
    : ["application/octet-stream", "bin"];
  return { blob: new Blob([bytes], { type }), suffix };
}

function urlOf(blob) {
  const url = URL.createObjectURL(blob);
  shownUrls.push(url);
  return url;
}

function showPhotos(answer, name) {
  shownUrls.forEach((url) => URL.revokeObjectURL(url));
  shownUrls = [];
  const { blob, suffix } = blobOf(answer.final_photo);
  part("save").href = urlOf(blob);
  part("save").download = `${name.replace(/\.[^.]*$/, "")}-blurred.${suffix}`;
  part("saved-as").textContent = answer.preview
    ? `as ${part("save").download}; a smaller JPEG of it is shown here`
    : `as ${part("save").download}`;
  part("final").src = answer.preview ? urlOf(blobOf(answer.preview).blob) : part("save").href;
  const cuts = answer.predictions.filter((one) => one.boundingBoxPhoto);
  part("cuts").replaceChildren(
    ...cuts.map((one) => {
      const image = document.createElement("img");
      image.src = urlOf(blobOf(one.boundingBoxPhoto).blob);
      image.alt = `Blurred plate, probability ${one.probability.toFixed(2)}`;
      return image;
    }),
  );
  part("photos").hidden = false;
}

async function send(event) {
  event.preventDefault();
  part("photos").hidden = true;
  const account = hasAccount();
  if (part("own").checked && !part("file").files[0] && !givenUrl()) {
    say("Choose a photo first.", "bad");
    part("file").focus();
    return;
  }
  if (!account && (givenUrl() || part("form").dataset.guest === "0")) {
    say("Enter your account's user name and password.", "bad");
    part("user").focus();
    return;
  }
  part("send").disabled = true;
  say("Sending...", "");
  const started = performance.now();
  try {
    const { name, body } = await request();
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    if (account) headers.Authorization = basic(part("user").value, part("secret").value);
    const response = await fetch(account ? ENDPOINT : GUESTS, {
      method: "POST",
      credentials: "omit", // the form's account alone: no cookie, and no login window on a 401
      headers,
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    paint(part("answer").firstChild, "", shown(answer));
    if (answer.predictions) {
      const count = answer.predictions.length;
      say(`${count} ${count === 1 ? "plate" : "plates"} in ${seconds} s`, "good");
      showPhotos(answer, name);
    } else {
      const error = Array.isArray(answer) ? answer[0] : { cd: answer.status, description: answer.detail };
      say(
        !account && QUOTA.includes(error.cd)
          ? "Today's photos without an account are used up. Sign up for the free trial to go on."
          : `${error.cd}: ${error.description}`,
        "bad",
      );
    }
  } catch (error) {
    say(`No response: ${error.message}`, "bad");
  } finally {
    part("send").disabled = false;
  }
}

part("file").addEventListener("change", () => {
  if (part("file").files[0]) part("own").checked = true;
});
part("form").addEventListener("submit", send);
part("form").addEventListener("input", showRequest);
part("form").addEventListener("change", showRequest);
part("account").addEventListener("toggle", showRequest);
showRequest();
