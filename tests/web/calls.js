// What the tests call on a page that has a `model` of `tfvl.js`.

const blobOf = async (png) => (await fetch(`data:image/png;base64,${png}`)).blob();

function base64(array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

async function levelsOf(png) {
  const bitmap = await createImageBitmap(await blobOf(png));
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return [bitmap, context.getImageData(0, 0, bitmap.width, bitmap.height)];
}

/** The answers to pairs [png, text]. */
window.askAll = async (asked) => {
  const rows = [];
  for (const [png, text] of asked) rows.push(await model.ask({ image: await blobOf(png), text, topK: 5 }));
  return rows;
};

/** The ids, types and mask of each text. */
window.tokenizeAll = (texts) => texts.map((text) => Object.values(model.tokenize(text)).map((each) => [...each]));

/** Of each PNG what the browser decodes it to, and what the model is fed. */
window.pixelsAll = async (pictures) => {
  const rows = [];
  for (const png of pictures) {
    const [, seen] = await levelsOf(png), made = model.pixels(seen);
    rows.push([seen.height, seen.width, base64(seen.data), base64(made.pixel_values), base64(made.pixel_mask)]);
  }
  return rows;
};

/** The best answer to each kind of picture, and whether what was given is as it was. */
window.askEachKind = async ([png, text]) => {
  const blob = await blobOf(png), [bitmap, data] = await levelsOf(png), before = data.data.slice(), rows = [];
  for (const image of [blob, new File([blob], "x.png"), bitmap, data, [data]]) rows.push(await model.ask({ image, text, topK: 1 }));
  return [rows, before.every((level, place) => level === data.data[place]) && bitmap.width === data.width];
};

/** Whether a call is rejected with an Error, and its message. */
window.refusal = async (call) => {
  const image = new ImageData(8, 8), thin = new ImageData(1000, 30), text = "what color is the circle?";
  const calls = {
    nothing: () => model.ask(),
    "no picture": () => model.ask({ text }),
    "an address": () => model.ask({ image: "x.png", text }),
    "no image file": () => model.ask({ image: new Blob(["text"]), text }),
    two: () => model.ask({ image: [image, image], text }),
    "no text": () => model.ask({ image }),
    "empty text": () => model.ask({ image, text: "  " }),
    "no answers": () => model.ask({ image, text, topK: 0 }),
    "half an answer": () => model.ask({ image, text, topK: 1.5 }),
    "too thin": () => model.ask({ image: thin, text }),
    "thin pixels": async () => model.pixels(thin),
    "pixels of nothing": async () => model.pixels(null),
  };
  return calls[call]().then(() => "answered", (error) => [error instanceof Error, error.message]);
};

/** What is said of a question that runs while the model is closed, and of one after that. */
window.refusalsOfClosed = async () => {
  const asked = { image: new ImageData(8, 8), text: "what?" }, running = model.ask(asked);
  model.close();
  return Promise.all([running, model.ask(asked)].map((each) => each.then(() => "answered", (error) => error.message)));
};

/** What is said of a folder that cannot be loaded. */
window.loadRefusal = (address) => load(address).then(() => "loaded", (error) => error.message);

/** All that is known of an answer about pictures. */
window.replyTo = async ([pngs, text]) => (await model.replies({ image: await Promise.all(pngs.map(blobOf)) }, [text]))[0];
