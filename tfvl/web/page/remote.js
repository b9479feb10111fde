/**
 * Asks a model behind TensorFlow Serving, or behind `tfvl serve`, over its REST API: the engine of the page whose
 * answers come from a server, with the interface of `tfvl.js`.
 *
 *     import { connect } from "./remote.js";
 *     const model = await connect("http://localhost:8501/v1/models/vilt_vqa");
 *     await model.ask({ image, text: "how many cats?", topK: 3 });   // [{ answer, score }, …]
 */

const SIGNATURE = "serving_default";
const SECONDS = 60; // within which a server has to answer
const TOP_K = 5; // where the signature does not say how many answers there are
// Of a request with several texts, each with the picture: as many rows as serving/batching.config allows, and half of the
// 32 MB that `tfvl serve` takes.
const ROWS = 8, CHARACTERS = 2 ** 24;
// What an exported graph decodes, by the first bytes: JPEG, PNG, GIF, BMP. Anything else goes as PNG.
const SENT_AS_THEY_ARE = [[0xff, 0xd8, 0xff], [0x89, 0x50, 0x4e, 0x47], [0x47, 0x49, 0x46, 0x38], [0x42, 0x4d]];
// Outputs that only one kind of answer has, as in `tfvl.answers.signatures`.
const TELLING = { region_ids: "phrases", tokens: "tokens", match: "pretraining", filled: "masks" };

/**
 * Connects to a model.
 *
 * @param {string} address of the model, e.g. "http://localhost:8501/v1/models/vilt_vqa", or relative to the page; a
 *     version or label may follow, "/versions/2". A server of another origin has to allow this page's: `tfvl serve
 *     --allow-origin`, or TensorFlow Serving's `--rest_api_enable_cors_support`.
 * @param {{ description?: Object, seconds?: number }} [options] what `description` is to say, as description.json does;
 *     without it the server is asked. And the time that an answer may take.
 * @returns {Promise<Remote>} Rejects with an Error of one sentence.
 */
export async function connect(address, { description, seconds = SECONDS } = {}) {
  const url = new URL(URL.canParse(address, document.baseURI) ? address : "", document.baseURI);
  url.pathname = url.pathname.replace(/\/+$/, "");
  const name = /\/v1\/models\/([^/:]+)(\/(versions|labels)\/[^/:]+)?$/.exec(url.pathname)?.[1];
  if (!name) throw new Error(`${address} names no model; expected e.g. http://localhost:8501/v1/models/NAME`);
  const server = new Server(url, seconds);
  const described = description ?? describe(decodeURIComponent(name), await server.signatures());
  const { title, kind, reads } = described;
  if (reads.includes("regions")) {
    throw new Error(
      `The model ${title} reads features of regions, which no page can send; give the server one that has a detector ` +
        "inside, as `tfvl export SRC DIR --detector DETECTOR` writes it",
    );
  }
  if (!reads.includes("image") || !(kind in REPLIES)) {
    throw new Error(`The model ${title} does not answer to a picture and a text; give the server one with a head that answers`);
  }
  return new Remote(server, described);
}

/** A model behind a server. */
class Remote {
  #server;

  constructor(server, description) {
    this.#server = server;
    /** What the model reads and answers, see the README of `tfvl.web`. */
    this.description = description;
  }

  /**
   * The answers to a request, best first.
   *
   * @param {Object} request as `reply` takes it.
   * @returns {Promise<{ answer: string, score: number }[]>}
   */
  async ask(request) {
    return (await this.reply(request)).answers;
  }

  /**
   * All that the model says to a request, see the README of `tfvl.web`. Encoded pictures go to the server as they are,
   * in the formats that it decodes.
   *
   * @param {{ image: Blob | ImageBitmap | ImageData | Array, text: string, choices?: string[], phrases?: string[],
   *     topK?: number }} request
   * @returns {Promise<Object>} a Reply. Rejects with an Error of one sentence: no picture or one that the browser cannot
   *     read, an empty text, `topK` below 1, a server that is gone, refuses or takes too long, and after `close()`.
   */
  async reply(request = {}) {
    return (await this.replies(request, [request.text]))[0];
  }

  /**
   * What the model says to several texts about one picture, which are sent together.
   *
   * @param {Object} request as `reply` takes it, but for `text`.
   * @param {string[]} texts
   * @returns {Promise<Object[]>} a Reply for each text. Rejects as `reply` does.
   */
  async replies(request, texts) {
    const { kind, images, top_k } = this.description;
    const { image, choices, phrases, topK = top_k } = request; // of these JSON leaves out what is undefined
    for (const text of texts) check({ ...request, text, topK }, this.description);
    const start = performance.now();
    const files = await Promise.all([image].flat().map(async (each) => ({ b64: await base64(await encoded(each)) })));
    const asked = performance.now();
    const length = files.reduce((sum, { b64 }) => sum + b64.length, 0);
    const rows = texts.map((text) => ({ text, image: images > 1 ? files : files[0], choices, phrases }));
    const found = await this.#server.predict(rows, Math.max(1, Math.min(ROWS, Math.floor(CHARACTERS / length))));
    const refused = found.find(({ status }) => status);
    if (refused) throw new Error(sentence(refused.status));
    const count = texts.length; // of which each has its share of the time
    const milliseconds = { picture: (asked - start) / count, server: (performance.now() - asked) / count };
    return found.map((row) => ({ ...REPLIES[kind](row, topK, request), milliseconds }));
  }

  /** Ends what is under way; nothing can be asked after it. */
  close() {
    this.#server.close();
  }
}

/** Throws an Error of one sentence for what cannot be asked. */
function check({ image, text, topK, ...lists }, { images, reads }) {
  const pictures = [image].flat().filter(Boolean);
  if (pictures.length !== images) {
    throw new Error(images > 1 ? `The model compares ${images} pictures; give as many` : "There is no picture; give one");
  }
  if (typeof text !== "string" || !text.trim()) throw new Error("There is no text; give one");
  if (!Number.isInteger(topK) || topK < 1) throw new Error(`topK is ${topK}, expected a whole number, at least 1`);
  for (const name of ["choices", "phrases"].filter((each) => reads.includes(each))) {
    if (!lists[name]?.some((each) => each.trim())) throw new Error(`There are no ${name}; give at least one`);
  }
}

/** One model's address, and requests to it. */
class Server {
  #address; #seconds; #closed = new AbortController();

  constructor(address, seconds) {
    this.#address = address;
    this.#seconds = seconds;
  }

  close() {
    this.#closed.abort();
  }

  /** The signatures of the model, by name. */
  async signatures() {
    return (await this.#call("/metadata")).metadata?.signature_def?.signature_def ?? {};
  }

  /** The outputs for each row of inputs, by name; a request has at most so many rows. */
  async predict(rows, most) {
    const found = [];
    while (found.length < rows.length) {
      const instances = rows.slice(found.length, found.length + most);
      const { predictions } = await this.#call(":predict", { signature_name: SIGNATURE, instances });
      if (predictions?.length !== instances.length) this.#misunderstood();
      found.push(...predictions);
    }
    return found;
  }

  async #call(path, body) {
    const late = AbortSignal.timeout(1000 * this.#seconds), closed = this.#closed.signal;
    const posted = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    let response, answer;
    try {
      response = await fetch(this.#address.href + path, { ...(body && posted), signal: AbortSignal.any([late, closed]) });
      answer = parsed(await response.text());
    } catch {
      const { host } = this.#address;
      if (closed.aborted) throw new Error("The connection to the server is closed");
      if (late.aborted) throw new Error(`The server ${host} gave no answer within ${this.#seconds} seconds; try again`);
      throw new Error(`The server ${host} cannot be reached; see that it runs, and that it allows this page to ask`);
    }
    if (response.ok && answer !== null && typeof answer === "object") return answer;
    if (response.ok) this.#misunderstood();
    const said = typeof answer?.error === "string" ? answer.error : "it says nothing more";
    throw new Error(sentence(`The server refused the request (${response.status}): ${said}`));
  }

  #misunderstood() {
    throw new Error(`What ${this.#address.host} answered is no model server's answer`);
  }
}

/** What a model reads and answers, which its signatures tell: as `tfvl serve --page` says it in description.json. */
function describe(title, signatures) {
  const { inputs = {}, outputs = {} } = signatures[SIGNATURE] ?? {};
  const kind = kindOf(inputs, outputs, signatures.tensors?.outputs ?? {});
  const count = sizes(outputs.answers).at(-1);
  return {
    engine: "server",
    title,
    kind,
    reads: Object.keys(inputs).filter((name) => name !== "text"),
    images: sizes(inputs.image)[1] ?? 1,
    top_k: kind !== "match" && count > 0 ? count : TOP_K,
  };
}

/** As `tfvl.answers.signatures` has it. */
function kindOf(inputs, outputs, tensors) {
  const telling = Object.keys(TELLING).find((name) => outputs[name]);
  if (telling) return TELLING[telling];
  if (!outputs.answers) return "pooled";
  if (inputs.choices) return "choices";
  return sizes(tensors.logits ?? outputs.answers).at(-1) === 1 ? "match" : "labels"; // a label alone would be no choice
}

function sizes(info) {
  return (info?.tensor_shape?.dim ?? []).map(({ size }) => Number(size));
}

// --- from the outputs for a row to a Reply, by the kind of the answer: (row, topK, request) ---

const REPLIES = { labels: best, choices: best, match: best, masks, pretraining, tokens, phrases };

/** Answers with their scores; what is empty pads. */
function pairs(answers = [], scores = [], topK) {
  return answers.map((answer, place) => ({ answer, score: scores[place] })).filter(({ answer }) => answer).slice(0, topK);
}

function best({ answers, scores }, topK) {
  return { answers: pairs(answers, scores, topK) };
}

function masks({ filled, candidates, candidate_scores, ...row }, topK) {
  const words = candidates.map((each, place) => pairs(each, candidate_scores[place], topK));
  return { ...best(row, topK), filled, masks: words.filter((each) => each.length) };
}

/** A text without a [MASK] is a question, for a model that answers such. */
function pretraining(row, topK) {
  const reply = { ...masks(row, topK), match: row.match };
  return reply.answers.length ? reply : { ...reply, answers: pairs(row.question_answers, row.question_scores, topK) };
}

function tokens({ tokens, answers, scores }) {
  const found = tokens.map((token, place) => ({ token, answer: answers[place], score: scores[place] }));
  const own = found.filter(({ token }) => token);
  return { answers: own, tokens: own };
}

function phrases({ region_ids, scores, boxes }, _, request) {
  const regions = request.phrases.flatMap((phrase, place) => {
    const answer = region_ids[place];
    return phrase.trim() ? [{ phrase, answer, score: scores[place][answer], box: boxes?.[place] }] : [];
  });
  return { answers: regions, regions };
}

// --- pictures ---

/** A picture as a file that the server decodes. */
async function encoded(image) {
  if (image instanceof Blob) {
    const start = new Uint8Array(await image.slice(0, 4).arrayBuffer().catch(unreadable));
    if (SENT_AS_THEY_ARE.some((first) => first.every((byte, place) => start[place] === byte))) return image;
  }
  const bitmap = image instanceof ImageBitmap ? image : await createImageBitmap(image).catch(unreadable);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return (await new Promise((done) => canvas.toBlob(done, "image/png"))) ?? unreadable();
}

function unreadable() {
  throw new Error("This is no picture that the browser can read; choose a JPEG, PNG, GIF, BMP or WebP file");
}

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Error("The picture can no longer be read; choose it again"));
    reader.readAsDataURL(file);
  });
}

// --- words ---

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Words of a server as a sentence: on one line, with a capital letter and a full stop. */
function sentence(words) {
  const line = words.replace(/\s+/g, " ").trim();
  return `${line.charAt(0).toUpperCase()}${line.slice(1)}${/[.!?…]$/.test(line) ? "" : "."}`;
}
