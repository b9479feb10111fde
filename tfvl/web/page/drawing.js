// Pictures with something drawn over them: where a model attends, and the boxes of phrases.

import { element } from "./dom.js";

const COLORS = ["#e6194b", "#0a84ff", "#1a9850", "#b15928", "#984ea3", "#d9a400"];
const SIDE = 640; // pixels of the longer side of what is drawn
const STRONGEST = 0.75; // of the layer of heat over the picture

/** A figure whose canvas holds the picture, and what `draw(context, width, height)` puts over it. */
function over(picture, caption, draw) {
  const canvas = element("canvas", { role: "img", ariaLabel: caption });
  const drawn = async () => {
    const bitmap = await createImageBitmap(picture);
    const scale = SIDE / Math.max(bitmap.width, bitmap.height);
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    draw(context, canvas.width, canvas.height);
  };
  drawn().catch(() => canvas.remove()); // a picture that was answered about is readable, unless its file has gone
  return element("figure", { className: "view" }, canvas, element("figcaption", { className: "hint", textContent: caption }));
}

/** The picture with the scores of its patches: `values`, row by row. */
export function heatOn(picture, { rows, columns, values }) {
  return over(picture, "Where the model attends", (context, width, height) => {
    const most = Math.max(...values) || 1;
    const tall = height / rows, broad = width / columns;
    values.forEach((value, place) => {
      context.fillStyle = `rgb(230 60 20 / ${(STRONGEST * value) / most})`;
      context.fillRect((place % columns) * broad, Math.floor(place / columns) * tall, broad, tall);
    });
  });
}

/** The picture with a numbered box for each region. */
export function boxesOn(picture, regions) {
  return over(picture, "The phrases' regions", (context, width, height) => {
    context.lineWidth = 4;
    context.font = "bold 24px sans-serif";
    regions.forEach(({ box: [x1, y1, x2, y2] }, place) => {
      context.strokeStyle = context.fillStyle = COLORS[place % COLORS.length];
      context.strokeRect(x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height);
      context.fillText(String(place + 1), x1 * width + 6, y1 * height + 26);
    });
  });
}
