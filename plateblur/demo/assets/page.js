() => {
  // A photo pasted anywhere is handled like a dropped one.
  document.addEventListener("paste", (event) => {
    const input = document.querySelector("#photos input[type=file]");
    const files = [...(event.clipboardData?.files ?? [])];
    if (!input || files.length === 0) return;
    const pasted = new DataTransfer();
    for (const file of files) pasted.items.add(file);
    input.files = pasted.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    document.querySelector("[role=tab]")?.click(); // the first tab, where it is shown
    event.preventDefault();
  });

  // Gradio gives each radio button a name of its own, so that arrows would not go from one to the
  // next and Tab would stop at each. It does so each time it draws them.
  let groups = 0;
  function joinRadios() {
    for (const radio of document.querySelectorAll("fieldset input[type=radio]")) {
      const group = radio.closest("fieldset").dataset;
      group.pbRadios ??= `pb-radios-${(groups += 1)}`;
      if (radio.name !== group.pbRadios) radio.name = group.pbRadios;
    }
  }
  new MutationObserver(joinRadios).observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["name"],
  });
  joinRadios();

  // Corrections that were not downloaded, and a clip that is in work or was not downloaded.
  const photos = new Set();
  let clip = false;
  document.addEventListener("pb-corrected", (event) => photos.add(event.detail));
  document.addEventListener("pb-saved", () => photos.clear());
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("#photos input[type=file]")) photos.clear();
    if (event.target.matches?.("#clip input[type=file]")) clip = true;
  }, true);
  document.addEventListener("click", (event) => {
    const name = document.querySelector("#viewer .pb-work")?.dataset.name;
    if (event.target.closest?.("#download")) photos.delete(name);
    if (event.target.closest?.("#clip-download")) clip = false;
  }, true);
  window.addEventListener("beforeunload", (event) => {
    const hasFailed = document.querySelector("#clip-outcome [role=alert]");
    if (photos.size > 0 || (clip && !hasFailed)) event.preventDefault();
  });
}
