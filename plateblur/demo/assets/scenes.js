// Buttons with a small picture each; a click sends the button's number to Python.
const row = element.querySelector(".pb-scenes");
for (const [number, scene] of (props.value ?? []).entries()) {
  const button = document.createElement("button");
  button.type = "button";
  const picture = document.createElement("img");
  picture.src = scene.picture;
  picture.alt = "";
  const name = document.createElement("span");
  name.textContent = scene.name;
  button.append(picture, name);
  button.addEventListener("click", () => trigger("scene_picked", { number }));
  row.append(button);
}
