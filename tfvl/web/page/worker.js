// LiteRT in a worker, so that the page never freezes. A classic worker: in a module worker the runtime cannot start, since
// it calls importScripts. Each message is [number, name of a call, argument]; each answer [number, result, error].

"use strict";

const UTILS = '"@litertjs/wasm-utils"'; // a bare name, which a browser cannot resolve without an import map
const KINDS = { float32: Float32Array, int32: Int32Array };
let core, model, pixels, shapes;

const calls = {
  /** Loads the runtime from the directory of its npm packages. */
  async start({ modules, threads }) {
    const from = new URL("@litertjs/core/", modules), wasm = new URL("wasm/", from).href;
    const [source, helper] = await Promise.all(["dist/index.js", "../wasm-utils/dist/index.js"].map((name) => text(new URL(name, from))));
    const utils = blob(helper);
    const code = blob(source.replace(UTILS, JSON.stringify(utils)));
    // What the runtime says of itself (its INFO lines go through console.error) is not the page's to show.
    self.Module = {
      locateFile: (name) => wasm + name,
      mainScriptUrlOrBlob: `${wasm}litert_wasm_threaded_internal.js`,
      print: () => {},
      printErr: () => {},
    };
    console.warn = () => {}; // of a machine without WebGPU, which is not used
    core = await import(code);
    [utils, code].forEach(URL.revokeObjectURL);
    await core.loadLiteRt(wasm, { threads });
  },

  /** Takes the model, whose checksum is known, and what makes pictures its inputs. */
  async open({ bytes, sum, inputs, imageProcessor }) {
    const [{ checksum }, { Pixels, layOnWhite }] = await Promise.all([import("./archive.js"), import("./pixels.js")]);
    if (checksum(bytes) !== sum) throw new Error("the model is damaged (its checksum does not fit)");
    const [height, width] = inputs.pixel_values.shape.slice(-3);
    pixels = { maker: new Pixels(imageProcessor, [height, width], "pixel_mask" in inputs), layOnWhite };
    shapes = inputs;
    model = await core.loadAndCompile(bytes, { accelerator: "wasm" });
    const blank = Object.entries(inputs).map(([name, { shape, dtype }]) => [name, new KINDS[dtype](size(shape))]);
    await run(Object.fromEntries(blank)); // the first run prepares the weights
  },

  /** The outputs for pictures and the text's ids, the pictures' sizes, and how long it took. */
  async reply({ pictures, encoded }) {
    const begun = performance.now(), made = [];
    for (const picture of pictures) {
      const seen = await levels(picture);
      pixels.layOnWhite(seen);
      made.push(pixels.maker.write(seen));
    }
    const prepared = performance.now();
    const inputs = { ...encoded, pixel_values: joined(made, "pixel_values"), pixel_mask: joined(made, "pixel_mask") };
    const outputs = await run(inputs);
    const milliseconds = { picture: prepared - begun, model: performance.now() - prepared };
    return { outputs, milliseconds, pictures: made.map(({ rows, columns, height, width }) => ({ rows, columns, height, width })) };
  },
};

const size = (shape) => shape.reduce((one, other) => one * other, 1);
const blob = (source) => URL.createObjectURL(new Blob([source], { type: "text/javascript" }));

async function text(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname} is missing (status ${response.status}); run "npm install" in the folder`);
  return response.text();
}

function joined(made, name) {
  if (made.length === 1) return made[0][name];
  const all = new made[0][name].constructor(made.length * made[0][name].length);
  made.forEach((each, number) => all.set(each[name], number * each[name].length));
  return all;
}

/** A picture as levels of red, green, blue and alpha, without the colour management that models were not trained with. */
async function levels(picture) {
  if (picture instanceof ImageData) return picture;
  let bitmap;
  try {
    bitmap = await createImageBitmap(picture, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("the picture cannot be read: it is damaged, too large, or none that this browser knows");
  }
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

async function run(given) {
  const inputs = {}, outputs = {};
  for (const [name, { shape }] of Object.entries(shapes)) inputs[name] = new core.Tensor(given[name], shape);
  const found = await model.run(inputs);
  for (const [name, tensor] of Object.entries(found)) {
    outputs[name] = await tensor.data();
    tensor.delete();
  }
  for (const tensor of Object.values(inputs)) tensor.delete();
  return outputs;
}

let turn = Promise.resolve(); // one call after the other
self.onmessage = ({ data: [number, name, argument] }) => {
  turn = turn.then(async () => {
    try {
      self.postMessage([number, await calls[name](argument)]);
    } catch (error) {
      self.postMessage([number, undefined, String(error?.message ?? error)]);
    }
  });
};
