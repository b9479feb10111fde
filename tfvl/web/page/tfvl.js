// A model of tfvl in the browser: `load` a folder that `tfvl export SRC DIR --format web` wrote, and ask it.
//
//     import { load } from "./tfvl.js";
//     const model = await load("./");
//     await model.ask({ image: file, text: "how many cats?" }); // [{ answer: "2", score: 0.9 }, …]

import { answer, isAnswered } from "./answers.js";
import { read } from "./archive.js";
import { heat } from "./heat.js";
import { Pixels } from "./pixels.js";
import { tokenizer } from "./tokenizer.js";

const CLOSED = "the model is closed; load it again";
const KINDS = [Blob, ImageBitmap, ImageData]; // a File is a Blob

/**
 * Loads the runtime and the model, in a worker.
 *
 * @param {string|URL} address of the folder, on the page's own host.
 * @param {{onProgress?: function({part: string, loaded: number, total: number}): void, cache?: RequestCache}} options
 *     `onProgress` is told what is being loaded, "model" or "runtime", and how many bytes have come; `total` is 0 where that
 *     is not known.
 *     `cache` is `fetch`'s, for the files of the folder: by default the browser asks whether those that it keeps are still
 *     the folder's, since a file of an older model fits no other; "reload" fetches all anew, as after a failure.
 * @returns {Promise<Model>}
 * @throws {Error} of one sentence.
 */
export async function load(address, { onProgress = () => {}, cache = "no-cache" } = {}) {
  if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly, which the model needs to run here");
  const folder = new URL(String(address).replace(/\/?$/, "/"), document.baseURI);
  const worker = new Calls(new URL("worker.js", folder));
  try {
    const started = worker.call("start", { modules: new URL("node_modules/", folder).href, threads: self.crossOriginIsolated === true });
    started.catch(() => {}); // it is awaited below, unless something else fails first
    const page = await (await fetched(new URL("description.json", folder), cache)).json().catch(() => {
      throw new Error("description.json is no valid JSON");
    });
    const bytes = await download(await fetched(new URL(page.model, folder), cache), onProgress);
    const file = await read(bytes);
    onProgress({ part: "runtime", loaded: 0, total: 0 });
    await started;
    return await open(worker, page, file, bytes);
  } catch (error) {
    worker.end(error);
    throw new Error(`the model cannot be loaded: ${error.message}`);
  }
}

async function open(worker, page, file, bytes) {
  const { inputs, image_processor: imageProcessor, tokenizer: options, config } = file.description;
  if (!isAnswered(page.kind)) throw new Error(`a page cannot show what a ${page.head} gives`);
  const [height, width] = inputs.pixel_values.shape.slice(-3);
  const parts = {
    description: { ...file.description, ...page },
    encoder: tokenizer(options, file.vocabulary, file.characters),
    maker: new Pixels(imageProcessor, [height, width], "pixel_mask" in inputs),
    labels: file.labels,
    patch: [config.patch_size].flat().length === 2 ? config.patch_size : [config.patch_size, config.patch_size],
  };
  const model = bytes.slice(0, file.description.model_bytes); // without what stands behind it
  await worker.call("open", { bytes: model, sum: file.description.model_crc32c, inputs, imageProcessor }, [model.buffer]);
  return new Model(worker, parts);
}

/** A loaded model. */
class Model {
  #worker;
  #parts;

  constructor(worker, parts) {
    this.#worker = worker;
    this.#parts = parts;
    /** What stands in description.json and behind the model. */
    this.description = parts.description;
  }

  /**
   * The best answers to a question about a picture.
   *
   * @param {{image: Blob|ImageBitmap|ImageData|Array, text: string, topK?: number}} request `image` is a list of two for a
   *     model that compares pictures; `topK` is the largest number of answers, the file's own where it is left out.
   * @returns {Promise<{answer: string, score: number}[]>} the best first.
   * @throws {Error} of one sentence.
   */
  async ask(request) {
    return (await this.reply(request)).answers;
  }

  /** The same with all that is known about the answer: a `Reply`, see tfvl/web/README.md. */
  async reply(request = {}) {
    const { text, topK = this.description.top_k } = request, { encoder, labels, patch } = this.#parts;
    const pictures = this.#pictures(request.image);
    if (typeof text !== "string" || !text.trim()) throw new Error("the text is empty; ask something");
    if (!Number.isInteger(topK) || topK < 1) throw new Error(`topK is ${topK}, expected a whole number from 1 on`);
    const begun = performance.now();
    const encoded = encoder.encode(text, this.#length);
    const question = performance.now() - begun;
    const { input_ids, token_type_ids, attention_mask } = encoded;
    const { outputs, milliseconds, pictures: seen } = await this.#worker.call("reply", {
      pictures,
      encoded: { input_ids, token_type_ids, attention_mask },
    });
    const { tokens, maskId } = encoder, maskToken = this.description.tokenizer.mask_token;
    const asked = { text, encoded, head: this.description, labels, tokens, maskId, maskToken, topK, patch };
    return {
      ...answer(outputs, asked),
      heat: heat(outputs, asked, seen),
      cut: encoded.whole > this.#length ? `Only the first ${this.#length} of the text's ${encoded.whole} tokens were read` : undefined,
      milliseconds: { question, ...milliseconds },
    };
  }

  /** A `Reply` to each of several texts about one picture; `request` is as `ask` takes it, but for `text`. */
  async replies(request, texts) {
    const replies = [];
    for (const text of texts) replies.push(await this.reply({ ...request, text }));
    return replies;
  }

  /**
   * The ids of a text, [CLS] and [SEP] around them, cut and padded to the length of the file.
   *
   * @param {string} text
   * @returns {{input_ids: Int32Array, token_type_ids: Int32Array, attention_mask: Int32Array}}
   */
  tokenize(text) {
    const { input_ids, token_type_ids, attention_mask } = this.#parts.encoder.encode(String(text), this.#length);
    return { input_ids, token_type_ids, attention_mask };
  }

  /**
   * A picture as the model's inputs. Alpha is not looked at.
   *
   * @param {ImageData} imageData
   * @returns {{pixel_values: Float32Array, pixel_mask: Int32Array, height: number, width: number}} of the file's size.
   * @throws {Error} of one sentence, where the picture cannot be brought to the file's size.
   */
  pixels(imageData) {
    if (!(imageData instanceof ImageData)) throw new Error("the picture is no ImageData; take it from a canvas's context");
    const { pixel_values, pixel_mask, height, width } = this.#parts.maker.write(imageData);
    return { pixel_values, pixel_mask, height, width };
  }

  /** Frees the memory; what is asked now or later is refused. */
  close() {
    this.#worker.end(new Error(CLOSED));
  }

  get #length() {
    return this.description.inputs.input_ids.shape.at(-1);
  }

  #pictures(image) {
    const pictures = [image].flat().filter((each) => each !== undefined && each !== null);
    const { images } = this.description;
    if (!pictures.length) throw new Error("there is no picture; give image");
    if (pictures.length !== images) throw new Error(`there are ${pictures.length} pictures, expected ${images}`);
    const strange = pictures.find((each) => !KINDS.some((kind) => each instanceof kind));
    if (strange !== undefined) throw new Error("image is no picture; give a File, Blob, ImageBitmap or ImageData");
    return pictures;
  }
}

/** Calls to the worker, which are answered by promises. */
class Calls {
  #worker;
  #open = new Map();
  #number = 0;
  #ended = null;

  constructor(address) {
    this.#worker = new Worker(address);
    this.#worker.onmessage = ({ data: [number, result, error] }) => {
      const { resolve, reject } = this.#open.get(number);
      this.#open.delete(number);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault(); // it is told to who called
      this.end(new Error(`the worker ended (${event.message ?? "its script cannot be loaded"})`));
    };
  }

  call(name, argument, transfer = []) {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const number = this.#number++;
      this.#open.set(number, { resolve, reject });
      this.#worker.postMessage([number, name, argument], transfer);
    });
  }

  /** Ends the worker; open calls, and later ones, are rejected. */
  end(error) {
    this.#ended ??= error;
    this.#worker.terminate();
    for (const { reject } of this.#open.values()) reject(this.#ended);
    this.#open.clear();
  }
}

async function fetched(address, cache) {
  const name = address.pathname.split("/").pop();
  let response;
  try {
    response = await fetch(address, { cache });
  } catch {
    throw new Error(`${name} cannot be reached`);
  }
  if (!response.ok) throw new Error(`${name} cannot be read (status ${response.status})`);
  return response;
}

/** The bytes of a response, told as they come. */
async function download(response, onProgress) {
  const total = response.headers.get("Content-Encoding") ? 0 : Number(response.headers.get("Content-Length"));
  const parts = [];
  let loaded = 0;
  onProgress({ part: "model", loaded, total });
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    onProgress({ part: "model", loaded, total });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
