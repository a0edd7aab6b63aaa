// Updates the figures of the overview; without it the page shows them as loaded.
"use strict";

const figures = document.getElementById("figures");

function show(usage) {
  if (usage.kind !== figures.dataset.kind) {
    location.reload(); // a plan started or ended, so the page looks different
    return;
  }
  for (const place of figures.querySelectorAll("[data-live]")) {
    const value = usage[place.dataset.live];
    if (place instanceof HTMLProgressElement) {
      place.value = value;
    } else if (place.textContent !== String(value)) {
      place.textContent = value;
    }
  }
  const note = document.getElementById("live");
  if (note) note.hidden = false;
}

const events = new EventSource("/console/events"); // reconnects automatically
events.addEventListener("figures", (event) => show(JSON.parse(event.data)));
