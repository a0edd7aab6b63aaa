// What every page can do: the picture that is compared under the pointer, and buttons that copy.
"use strict";

function compare(figure) {
  const slider = figure.querySelector("input");
  const show = (share) => figure.style.setProperty("--at", `${(100 * share).toFixed(1)}%`);
  const follow = (event) => {
    const { left, width } = figure.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    slider.value = String(Math.round(100 * share));
    show(share);
  };
  slider.hidden = false;
  slider.addEventListener("input", () => show(Number(slider.value) / 100));
  figure.addEventListener("pointermove", follow);
  figure.addEventListener("pointerdown", follow);
}

async function copy(button) {
  const place = document.getElementById(button.dataset.copy);
  const label = button.firstChild;
  const before = label.textContent;
  try {
    await navigator.clipboard.writeText(place.textContent);
    label.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(place); // the browser refused; one key press copies it
    label.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { label.textContent = before; }, 2000);
}

for (const figure of document.querySelectorAll(".compare")) compare(figure);
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
