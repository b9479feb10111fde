// BERT's tokenizer as a `.tflite` file of tfvl describes it, in plain JavaScript: the ids of `tfvl.BertTokenizer`, and so
// upstream's. For the page and for Node.js alike (`examples/lite/tokenizer.mjs`). Clients in other languages can follow it
// line by line: all that Unicode asks for is in the file's tables `characters.bin`.

const PAGES = 4352, WIDTH = 3;
const CODE_POINT = (1 << 21) - 1, ISOLATED = 1 << 21, CLASS_UNIT = 1 << 22, BARRIER = -(1 << 29), SPACE = 0x20;
const FIRST_MARKER = 0xf0000; // private-use characters, which cleaning removes, stand for special tokens
const ANY_MARKER = /[\u{F0000}-\u{FFFFD}]/gu;
const MAX_WORD_CHARACTERS = 100;
const NAMED = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
const WHITE_SPACE = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";

// The tables behind one another: of each, where the entries of a page of 256 code points are, and the entries.
function tablesOf(bytes) {
  let rest = new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const found = [];
  for (let size; rest.length; rest = rest.subarray(size)) {
    size = 1 + PAGES + rest[0] * 256 * WIDTH;
    found.push({ pages: rest.subarray(1, 1 + PAGES), entries: rest.subarray(1 + PAGES, size) });
  }
  return found;
}

// The tokens that are kept whole, with their ids. Where the file does not list them, they are words of the vocabulary.
function addedTokens(options, vocabulary) {
  if (options.added_tokens_decoder) {
    return Object.entries(options.added_tokens_decoder).map(([id, token]) => ({ ...token, id: Number(id) }));
  }
  const contents = new Set([...NAMED.map((name) => options[name]), ...options.additional_special_tokens]);
  return [...contents].map((content) => ({ ...PLAIN, content, id: vocabulary.get(content) }));
}

const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
const lastCharacter = (text) => [...text.slice(-2)].pop();

/**
 * The tokenizer of a file.
 *
 * @param {Object} options `tokenizer` of the file's description.
 * @param {Object} words token to id, of what words are made of.
 * @param {Uint8Array} characters the bytes of `characters.bin`.
 * @returns {{ids: function(string): number[], encode: function(string, number): Object, tokens: Map<number, string>,
 *     maskId: number}} `ids` gives the ids of a text, without [CLS] and [SEP]; `encode` the model's inputs.
 */
export function tokenizer(options, words, characters) {
  const vocabulary = new Map(Object.entries(words));
  const added = addedTokens(options, vocabulary), normalizes = added.some((token) => token.normalized);
  const tables = tablesOf(characters);
  const ids = new Map(added.map((token) => [token.content, token.id]));
  const [unknown, sep, pad, cls, maskId] = NAMED.map((name) => ids.get(options[name]));
  const unsplit = new Set((options.never_split ?? []).filter((word) => !ids.has(word)));
  const markers = new Map([...ids.keys(), ...unsplit].map((token, i) => [token, String.fromCodePoint(FIRST_MARKER + i)]));
  const pieces = new Map([...vocabulary].filter(([token]) => token.replace(/^##/, "") && token.search(ANY_MARKER) < 0));
  for (const [token, marker] of markers) pieces.set(marker, ids.get(token) ?? vocabulary.get(token) ?? unknown);
  const searches = [false, true].map((stage) => search(added.filter((token) => token.normalized === stage)));

  // A function that puts a marker in place of each of these tokens; where several match, the longest is meant.
  function search(tokens) {
    const found = new Map();
    for (const token of tokens) {
      const text = token.normalized ? normalized(token.content) : token.content;
      const left = options.split_special_tokens && token.special;
      if (!found.has(text)) found.set(text, { ...token, marker: left ? text : markers.get(token.content) });
    }
    if (!found.size) return (text) => text;
    const longestFirst = [...found.keys()].sort((a, b) => b.length - a.length);
    const any = new RegExp(longestFirst.map(escaped).join("|"), "gu");
    return (text) =>
      text.replace(any, (match, at) => {
        const token = found.get(match), before = lastCharacter(text.slice(0, at));
        const after = text.slice(at + match.length);
        return token.single_word && [before, after].some(beginsWord) ? match : token.marker;
      });
  }

  // Whether the text begins with a character of which words are made.
  function beginsWord(text) {
    const c = text ? text.codePointAt(0) : -1;
    return options.word_characters.some(([first, last]) => first <= c && c <= last);
  }

  // White space that goes with the token beside it is left out.
  function stripped(text) {
    for (const { content, lstrip, rstrip, special } of added.filter((token) => !token.normalized)) {
      const marker = options.split_special_tokens && special ? null : markers.get(content);
      if (marker && lstrip) text = text.replace(new RegExp(`${WHITE_SPACE}+${marker}`, "gu"), marker);
      if (marker && rstrip) text = text.replace(new RegExp(`${marker}${WHITE_SPACE}+`, "gu"), marker);
    }
    return text;
  }

  // What a table makes of a text: code points with flags.
  function lookedUp(text, { pages, entries }) {
    let characters = [];
    for (const character of text) {
      const c = character.codePointAt(0);
      const row = (pages[c >> 8] * 256 + (c & 255)) * WIDTH;
      for (let i = 0; i < WIDTH; i++) characters.push(entries[row + i] + (i ? 0 : c));
    }
    if (characters.some((entry) => entry >= CLASS_UNIT)) characters = canonicalOrder(characters);
    return characters.filter((entry) => entry >= 0);
  }

  // As the last table says; Chinese characters, which are flagged, get spaces around them.
  function normalized(text) {
    return lookedUp(text, tables.at(-1)).map((entry) => {
      const character = String.fromCodePoint(entry & CODE_POINT);
      return entry & ISOLATED && character.search(ANY_MARKER) < 0 ? ` ${character} ` : character;
    }).join("");
  }

  function split(text, table) {
    const found = [];
    let word = "";
    for (const entry of lookedUp(text, table)) {
      const c = entry & CODE_POINT, isolated = entry & ISOLATED;
      if (!isolated && c !== SPACE) word += String.fromCodePoint(c);
      else {
        if (word) found.push(word);
        word = "";
        if (isolated) found.push(String.fromCodePoint(c));
      }
    }
    return word ? [...found, word] : found;
  }

  function wordIds(word) {
    const letters = [...word], ids = [];
    if (letters.length > MAX_WORD_CHARACTERS) return [unknown];
    for (let start = 0, end; start < letters.length; start = end) {
      const prefix = start ? "##" : "";
      for (end = letters.length; end > start; end--) if (pieces.has(prefix + letters.slice(start, end).join(""))) break;
      if (end === start) return [unknown];
      ids.push(pieces.get(prefix + letters.slice(start, end).join("")));
    }
    return ids;
  }

  function idsOf(text) {
    text = searches[0](text.toWellFormed().replace(ANY_MARKER, "\ufffd"));
    if (unsplit.size) text = split(text, tables[1]).map((word) => (unsplit.has(word) ? markers.get(word) : word)).join(" ");
    if (normalizes) text = searches[1](normalized(stripped(text)));
    return split(text, tables[0]).flatMap(wordIds);
  }

  // [CLS] ids [SEP], cut and padded to `length` on the sides that the options say; `whole` ids there were.
  function encode(text, length) {
    const all = idsOf(text), room = Math.max(length - 2, 0), cut = Math.max(all.length - room, 0);
    const kept = options.truncation_side === "left" ? all.slice(cut) : all.slice(0, room);
    const row = [cls, ...kept, sep];
    const start = options.padding_side === "left" ? length - row.length : 0;
    const [input_ids, token_type_ids, attention_mask] = [pad, 0, 0].map((blank) => new Int32Array(length).fill(blank));
    input_ids.set(row, start);
    attention_mask.fill(1, start, start + row.length);
    return { input_ids, token_type_ids, attention_mask, start, count: row.length, whole: all.length + 2 };
  }

  const tokens = new Map([...vocabulary, ...ids].map(([token, id]) => [id, token]));
  return { ids: idsOf, encode, tokens, maskId };
}

// Each run of combining marks sorted by combining class, stably, as Unicode's NFD asks.
function canonicalOrder(characters) {
  const kept = characters.filter((entry) => entry >= BARRIER);
  const classOf = (entry) => Math.floor(Math.max(entry, 0) / CLASS_UNIT);
  for (let start = 0, end; start < kept.length; start = end) {
    for (end = start + 1; end < kept.length && classOf(kept[end]); ) end++;
    const run = kept.slice(start, end).sort((a, b) => classOf(a) - classOf(b));
    run.forEach((entry, i) => (kept[start + i] = entry));
  }
  return kept;
}
