// Each kind of answer that a model in the browser gives, from its outputs: what `tfvl.answers.arrays` is in Python.

/**
 * @typedef {Object} Asked what is known of a request when its outputs are read.
 * @property {string} text as it was asked.
 * @property {{input_ids: Int32Array, start: number, count: number}} encoded of the tokenizer.
 * @property {Object} head `kind`, `logits`, `activation`, `match`: a row of `tfvl.answers.rows.HEADS`.
 * @property {string[]} labels by class.
 * @property {Map<number, string>} tokens by id.
 * @property {string} maskToken
 * @property {number} maskId
 * @property {number} topK at most so many answers.
 */

const BY_KIND = { labels, masks, pretraining, match, tokens };

/**
 * The parts of a `Reply` that the outputs give.
 *
 * @param {Object<string, Float32Array>} outputs of the model, for one request.
 * @param {Asked} asked
 * @throws {Error} of one sentence, where there is no answer.
 */
export function answer(outputs, asked) {
  return BY_KIND[asked.head.kind](outputs, asked);
}

/** Whether there is an answer of this kind. */
export const isAnswered = (kind) => kind in BY_KIND;

/** The places of the masks among the model's inputs. */
export function masksOf({ encoded: { input_ids, start, count }, maskId }) {
  const places = [];
  for (let place = start; place < start + count; place++) if (input_ids[place] === maskId) places.push(place);
  return places;
}

export function softmax(logits) {
  const most = logits.reduce((one, other) => Math.max(one, other), -Infinity);
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

const ACTIVATIONS = { softmax, sigmoid: (logits) => Float64Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit))) };

/** The best answers, by the name of each place; of equal scores the first comes first. */
function best(scores, count, name) {
  const places = Array.from(scores.keys()).sort((one, other) => scores[other] - scores[one] || one - other);
  return places.slice(0, count).map((place) => ({ answer: name(place), score: scores[place] }));
}

function labels(outputs, { head, labels, topK }) {
  return { answers: best(ACTIVATIONS[head.activation](outputs[head.logits]), topK, (place) => labels[place]) };
}

function masks(outputs, asked) {
  if (!masksOf(asked).length) {
    throw new Error(`there is no ${asked.maskToken} in the text, or none within the ${asked.encoded.input_ids.length} tokens that are read`);
  }
  return filledIn(outputs, asked);
}

function filledIn(outputs, asked) {
  const { head, encoded, tokens, maskToken, topK, text } = asked;
  const logits = outputs[head.logits], width = logits.length / encoded.input_ids.length;
  const known = 1 + Math.max(...tokens.keys()); // of the ids, which may be fewer than the model has
  const found = masksOf(asked).map((place) => {
    const scores = softmax(logits.subarray(place * width, (place + 1) * width)).subarray(0, known);
    return best(scores, topK, (id) => tokens.get(id) ?? "");
  });
  const [first, ...rest] = text.split(maskToken);
  const filled = rest.reduce((done, piece, number) => {
    const token = found[number]?.[0].answer ?? maskToken;
    const continues = token.startsWith("##") && token.length > 2; // a piece of the word before it
    return (continues ? done.trimEnd() + token.slice(2) : done + token) + piece;
  }, first);
  return { answers: found[0] ?? [], filled, masks: found };
}

function pretraining(outputs, asked) {
  const [output, place] = asked.head.match;
  return { ...filledIn(outputs, asked), match: softmax(outputs[output])[place] };
}

function match(outputs, { head, text }) {
  return { answers: [{ answer: text, score: outputs[head.logits][0] }] };
}

function tokens(outputs, { head, encoded: { input_ids, start, count }, labels, tokens }) {
  const logits = outputs[head.logits], width = logits.length / input_ids.length;
  const found = Array.from({ length: count }, (_, i) => {
    const place = start + i;
    const [{ answer, score }] = best(softmax(logits.subarray(place * width, (place + 1) * width)), 1, (id) => labels[id]);
    return { token: tokens.get(input_ids[place]) ?? "", answer, score };
  });
  return { answers: found.map(({ answer, score }) => ({ answer, score })), tokens: found };
}
