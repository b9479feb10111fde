// The tokenizer of a .tflite file that tfvl wrote, in plain JavaScript: text in, token ids out. Nothing to install.
//
//     node tokenizer.mjs vilt_vqa.tflite "How many cats?"
//
// With `-`, each line of standard input is a JSON string and each line of output its ids. Clients in other languages
// can follow it line by line: all that Unicode asks for is in the file's table `characters.bin`. (`never_split` is not
// done here.) What goes into the model is [CLS] ids [SEP], padded to the length of the file's input `input_ids`.

import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";

const PAGES = 4352, WIDTH = 3;
const CODE_POINT = (1 << 21) - 1, ISOLATED = 1 << 21, CLASS_UNIT = 1 << 22, BARRIER = -(1 << 29), SPACE = 0x20;
const FIRST_MARKER = 0xf0000; // private-use characters, which cleaning removes, stand for special tokens
const ANY_MARKER = /[\u{F0000}-\u{FFFFD}]/gu;
const MAX_WORD_CHARACTERS = 100;

// The ZIP archive behind the model: name to contents.
function members(file) {
  const end = file.lastIndexOf(Buffer.from([0x50, 0x4b, 5, 6]));
  if (end < 0) throw new Error("no description of tfvl behind the model, or cut short");
  const found = {};
  for (let i = 0, at = file.readUInt32LE(end + 16); i < file.readUInt16LE(end + 10); i++) {
    const [size, name, extra, comment] = [file.readUInt32LE(at + 20), ...[28, 30, 32].map((k) => file.readUInt16LE(at + k))];
    const local = file.readUInt32LE(at + 42);
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28);
    found[file.toString("utf8", at + 46, at + 46 + name)] = inflateRawSync(file.subarray(start, start + size));
    at += 46 + name + extra + comment;
  }
  return found;
}

export function tokenizer(path) {
  const parts = members(readFileSync(path));
  const { tokenizer: options } = JSON.parse(parts["tfvl.json"]);
  const vocabulary = new Map(Object.entries(JSON.parse(parts["vocab.json"])));
  const bytes = parts["characters.bin"];
  const table = new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const pages = table.subarray(1, 1 + PAGES), entries = table.subarray(1 + PAGES);

  const named = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"].map((name) => options[name]);
  const special = [...new Set([...named, ...options.additional_special_tokens])].sort((a, b) => b.length - a.length);
  const markers = new Map(special.map((token, i) => [token, String.fromCodePoint(FIRST_MARKER + i)]));
  const anySpecial = new RegExp(special.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "gu");
  const pieces = new Map([...vocabulary].filter(([token]) => token.replace(/^##/, "") && token.search(ANY_MARKER) < 0));
  for (const [token, marker] of markers) pieces.set(marker, vocabulary.get(token));
  const unknown = vocabulary.get(options.unk_token);

  function words(text) {
    let characters = [];
    for (const character of text) {
      const c = character.codePointAt(0);
      const row = (pages[c >> 8] * 256 + (c & 255)) * WIDTH;
      for (let i = 0; i < WIDTH; i++) characters.push(entries[row + i] + (i ? 0 : c));
    }
    if (characters.some((entry) => entry >= CLASS_UNIT)) characters = canonicalOrder(characters);
    const found = [];
    let word = "";
    for (const entry of characters.filter((entry) => entry >= 0)) {
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

  return (text) => {
    const marked = text.toWellFormed().replace(ANY_MARKER, "\ufffd").replace(anySpecial, (token) => markers.get(token));
    return words(marked).flatMap(wordIds);
  };
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

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [path, text] = process.argv.slice(2);
  if (text === undefined) {
    console.error('usage: node tokenizer.mjs FILE.tflite "text" (or - for lines of JSON strings)');
    process.exit(2);
  }
  const encode = tokenizer(path);
  const texts = text === "-" ? readFileSync(0, "utf8").trim().split("\n").map(JSON.parse) : [text];
  console.log(texts.map((each) => JSON.stringify(encode(each))).join("\n"));
}
