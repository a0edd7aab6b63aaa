// The form on the front page: shows the request, sends it, shows the response.
"use strict";

const ENDPOINT = "/plateblurer.aspx";
const SHOWN_CHARS = 24; // of a base64 string in the panes; the whole of it would fill the page

const part = (id) => document.getElementById(`try-${id}`);
const shorten = (text) =>
  text.length > 3 * SHOWN_CHARS
    ? `${text.slice(0, SHOWN_CHARS)}... ${text.length} characters ...${text.slice(-SHOWN_CHARS)}`
    : text;
const shown = (value) =>
  JSON.stringify(value, (_, item) => (typeof item === "string" ? shorten(item) : item), 2);

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

async function request() {
  const file = part("file").files[0];
  const url = part("url")?.value.trim();
  return {
    base64_Photo_String: file ? await readAsBase64(file) : "NO",
    photo_url: url || "NO",
    boundingBoxCrop: part("crops").checked ? "YES" : "NO",
  };
}

async function showRequest() {
  part("request").firstChild.textContent = shown(await request());
}

function basic(user, secret) {
  const bytes = new TextEncoder().encode(`${user}:${secret}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

function imageUrl(base64) {
  // The first characters of the base64 say what it is: iVBOR is PNG, UklGR is RIFF, so WebP.
  const kinds = { iVBOR: "image/png", UklGR: "image/webp", "/9j/": "image/jpeg" };
  const start = Object.keys(kinds).find((one) => base64.startsWith(one));
  return `data:${start ? kinds[start] : "image/avif"};base64,${base64}`;
}

function showPhotos(answer) {
  part("final").src = imageUrl(answer.final_photo);
  part("save").href = part("final").src;
  const cuts = answer.predictions.filter((one) => one.boundingBoxPhoto);
  part("cuts").replaceChildren(
    ...cuts.map((one) => {
      const image = document.createElement("img");
      image.src = imageUrl(one.boundingBoxPhoto);
      image.alt = `Blurred plate, probability ${one.probability.toFixed(2)}`;
      return image;
    }),
  );
  part("photos").hidden = false;
}

async function send(event) {
  event.preventDefault();
  part("photos").hidden = true;
  part("send").disabled = true;
  say("Sending...", "");
  const started = performance.now();
  try {
    const response = await fetch(ENDPOINT, {
      method: "POST",
      credentials: "omit", // the form's account alone: no cookie, and no login window on a 401
      headers: {
        Authorization: basic(part("user").value, part("secret").value),
        "Content-Type": "application/json",
        Accept: "application/json",
      },
      body: JSON.stringify(await request()),
    });
    const answer = await response.json();
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    part("answer").firstChild.textContent = shown(answer);
    if (answer.predictions) {
      const count = answer.predictions.length;
      say(`${count} ${count === 1 ? "plate" : "plates"} in ${seconds} s`, "good");
      showPhotos(answer);
    } else {
      const error = Array.isArray(answer) ? answer[0] : { cd: answer.status, description: answer.detail };
      say(`${error.cd}: ${error.description}`, "bad");
    }
  } catch (error) {
    say(`No response: ${error.message}`, "bad");
  } finally {
    part("send").disabled = false;
  }
}

part("form").addEventListener("submit", send);
part("form").addEventListener("input", showRequest);
showRequest();
