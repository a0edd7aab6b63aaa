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
}
