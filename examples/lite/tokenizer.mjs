// The token ids of texts, by the tokenizer of a .tflite file that tfvl wrote. Nothing to install.
//
//     node tokenizer.mjs vilt_vqa.tflite "How many cats?"
//
// With `-`, each line of standard input is a JSON string and each line of output its ids. What goes into the model is
// [CLS] ids [SEP], padded to the length of the file's input `input_ids`, where `padding_side` says, else behind.

import { readFileSync } from "node:fs";
import { read } from "../../tfvl/web/page/archive.js";
import { tokenizer } from "../../tfvl/web/page/tokenizer.js";

const [path, text] = process.argv.slice(2);
if (text === undefined) {
  console.error('usage: node tokenizer.mjs FILE.tflite "text" (or - for lines of JSON strings)');
  process.exit(2);
}
const { description, vocabulary, characters } = await read(readFileSync(path));
const { ids } = tokenizer(description.tokenizer, vocabulary, characters);
const texts = text === "-" ? readFileSync(0, "utf8").trim().split("\n").map(JSON.parse) : [text];
console.log(texts.map((each) => JSON.stringify(ids(each))).join("\n"));
