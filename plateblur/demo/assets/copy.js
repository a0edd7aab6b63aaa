async (text) => {
  const button = document.activeElement;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers allow this only on HTTPS and localhost; the older way works everywhere.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button?.focus();
  }
}
