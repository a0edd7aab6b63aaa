async (text) => {
  const button = document.activeElement;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard to https and localhost alone; this way is older and works.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button?.focus();
  }
}
