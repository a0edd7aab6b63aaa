// Keeps an open page up to date; without it the page shows what was there when it was loaded.
"use strict";

const figures = document.getElementById("figures");
const WAIT_MS = 300; // several changes in a row load the page once
let loading = 0;

function show(usage) {
  if (!figures) return;
  if (usage.kind !== figures.dataset.kind) {
    location.reload(); // a plan started or ended, so the page looks different
    return;
  }
  for (const place of figures.querySelectorAll("[data-live]")) {
    const value = usage[place.dataset.live];
    if (place instanceof HTMLProgressElement) {
      place.value = value;
      continue;
    }
    const text = typeof value === "number" ? value.toLocaleString("en") : value;
    if (place.textContent !== text) place.textContent = text;
  }
  const note = document.getElementById("live");
  if (note) note.hidden = false;
}

// Replaces the parts of the page that changed, except where somebody is typing.
async function renew() {
  const response = await fetch(location.href, { headers: { "PlateBlur-Live": "1" } });
  if (!response.ok || response.redirected) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh || part.contains(document.activeElement)) continue;
    for (const open of part.querySelectorAll("details[open]")) {
      fresh.querySelector(`#${open.id}`)?.setAttribute("open", "");
    }
    if (fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
  }
}

// The arrow keys move between the days of the chart, which take one stop of the Tab key together.
document.addEventListener("keydown", (event) => {
  const here = event.target.closest?.("[data-keys] > *");
  if (!here) return;
  const next = {
    ArrowLeft: here.previousElementSibling,
    ArrowRight: here.nextElementSibling,
    Home: here.parentElement.firstElementChild,
    End: here.parentElement.lastElementChild,
  }[event.key];
  if (!next) return;
  event.preventDefault();
  here.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

function renewSoon() {
  clearTimeout(loading);
  loading = setTimeout(() => renew().catch(() => {}), WAIT_MS);
}

if (document.querySelector("[data-part], #figures")) {
  const events = new EventSource("/console/events"); // reconnects automatically
  let first = true;
  events.addEventListener("figures", (event) => {
    show(JSON.parse(event.data));
    if (!first) renewSoon();
    first = false;
  });
  events.addEventListener("changed", renewSoon);
}
