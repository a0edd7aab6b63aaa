// Keeps the figures of the overview as they are on the server; without it the page shows them as loaded.
"use strict";

const figures = document.getElementById("figures");

function show(told) {
  if (told.kind !== figures.dataset.kind) {
    location.reload(); // a plan began or ended: the page has other parts then
    return;
  }
  for (const place of figures.querySelectorAll("[data-live]")) {
    const value = told[place.dataset.live];
    if (place instanceof HTMLProgressElement) {
      place.value = value;
    } else if (place.textContent !== String(value)) {
      place.textContent = value;
    }
  }
  const note = document.getElementById("live");
  if (note) note.hidden = false;
}

const events = new EventSource("/console/events"); // connects anew by itself
events.addEventListener("figures", (event) => show(JSON.parse(event.data)));
