// What every page can do: the picture that is compared under the pointer, tabs, and buttons that copy.
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

// Shows one section of a set at a time. Source: "Tabs with automatic activation", ARIA APG.
function tabs(set) {
  const panels = [...set.children];
  const list = document.createElement("div");
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Language");
  const buttons = panels.map((panel) => {
    const heading = panel.querySelector("h3");
    const button = document.createElement("button");
    button.type = "button";
    button.id = `${panel.id}-tab`;
    button.textContent = heading.textContent;
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", button.id);
    heading.remove();
    return button;
  });
  const choose = (chosen) => {
    buttons.forEach((button, number) => {
      button.setAttribute("aria-selected", String(button === chosen));
      button.tabIndex = button === chosen ? 0 : -1;
      panels[number].hidden = button !== chosen;
    });
  };
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(button);
  });
  list.addEventListener("keydown", (event) => {
    const last = buttons.length - 1;
    const here = buttons.indexOf(document.activeElement);
    const next =
      event.key === "Home" ? 0
      : event.key === "End" ? last
      : event.key in steps ? (here + steps[event.key] + buttons.length) % buttons.length
      : -1;
    if (next < 0) return;
    event.preventDefault();
    choose(buttons[next]);
    buttons[next].focus();
  });
  list.append(...buttons);
  set.prepend(list);
  choose(buttons[0]);
}

// Errors of /v1 and old bookmarks name parts of this page that are in the reference now.
if (location.pathname === "/" && /^#(cd-\d{4}|errors|request|response|v1|photos)$/.test(location.hash)) {
  location.replace(`/docs${location.hash}`);
}
for (const figure of document.querySelectorAll(".compare")) compare(figure);
for (const set of document.querySelectorAll(".tabset")) tabs(set);
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
