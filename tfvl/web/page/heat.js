// Where a model attends, of a file whose outputs hold the attentions: the method "attention" of `tfvl.explain`, which is
// the last layer's row of the position that the head reads, the mean over its heads.

import { masksOf } from "./answers.js";

const NAME = /^attention_(\d+)_(\d+)_all_all$/; // of an output: the pass (one for each picture) and the layer

/**
 * The scores of words and patches.
 *
 * @param {Object<string, Float32Array>} outputs of the model.
 * @param {Object} asked as in `answers.js`; `patch`: height and width of a patch, in pixels.
 * @param {Object[]} pictures what `Pixels.write` gave.
 * @returns {{words: Object[], pictures: Object[]}|undefined} undefined where the file puts out no attentions.
 */
export function heat(outputs, asked, pictures) {
  const last = [];
  for (const name of Object.keys(outputs).sort()) {
    const found = NAME.exec(name);
    if (found) last[Number(found[1])] = outputs[name]; // later layers come later
  }
  if (!last.length) return undefined;
  const { encoded, tokens, patch } = asked, length = encoded.input_ids.length;
  const position = masksOf(asked)[0] ?? (asked.head.kind === "tokens" ? 1 : 0) /* the first word, or [CLS] */;
  const rows = last.map((maps, number) => {
    const { height, width } = pictures[number];
    return rowOf(maps, position, length + 1 + (height / patch[0]) * (width / patch[1]));
  });
  const words = Array.from({ length: encoded.count }, (_, i) => {
    const place = encoded.start + i;
    return { text: tokens.get(encoded.input_ids[place]) ?? "", score: rows.reduce((sum, row) => sum + row[place], 0) };
  });
  // behind the words comes the place of the whole picture, then patch by patch, those of padding too
  return { words, pictures: rows.map((row, number) => ownPatches(row.subarray(length + 1), pictures[number], patch)) };
}

/** The row of a position in maps (heads, positions, positions), the mean over the heads. */
function rowOf(maps, position, positions) {
  const heads = maps.length / positions ** 2, row = new Float32Array(positions);
  for (let head = 0; head < heads; head++) {
    const start = (head * positions + position) * positions;
    for (let i = 0; i < positions; i++) row[i] += maps[start + i] / heads;
  }
  return row;
}

/** The patches of the picture itself, row by row. */
function ownPatches(scores, picture, patch) {
  const across = picture.width / patch[1];
  const rows = Math.ceil(picture.rows / patch[0]), columns = Math.ceil(picture.columns / patch[1]);
  const values = [];
  for (let row = 0; row < rows; row++) values.push(...scores.subarray(row * across, row * across + columns));
  return { rows, columns, values };
}
