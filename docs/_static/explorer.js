// An explorer shows pictures that were drawn earlier, one for each choice of its controls.
addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.explorer")) {
    const { folder, values, pictures } = JSON.parse(figure.querySelector("script").textContent);
    const [image, caption] = [figure.querySelector("img"), figure.querySelector("figcaption")];
    const controls = [...figure.querySelectorAll("input, select")];
    const show = () => {
      // pictures lie in the order of all choices, those of the last control beside each other
      const picture = pictures[controls.reduce((place, control, i) => place * values[i].length + +control.value, 0)];
      controls.forEach((control, i) => {
        const value = values[i][+control.value];
        if (control.type === "range") control.setAttribute("aria-valuetext", (control.nextElementSibling.value = value));
      });
      image.hidden = !picture.file; // what cannot be drawn says why in the caption
      if (picture.file) image.src = `${folder}/${picture.file}`;
      image.alt = caption.textContent = picture.alt;
    };
    const fetchAll = () => pictures.forEach(({ file }) => file && (new Image().src = `${folder}/${file}`));
    for (const event of ["pointerenter", "focusin"]) figure.addEventListener(event, fetchAll, { once: true });
    controls.forEach((control) => control.addEventListener("input", show));
    show(); // a browser keeps the controls of a page that is loaded again
  }
});
