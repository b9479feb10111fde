// The page: pictures and texts in, answers out. Which engine answers stands in description.json; nothing here knows one.

import { byId, element, sentence } from "./dom.js";
import { Pictures, image } from "./pictures.js";
import { durations, shown } from "./results.js";

const ENGINES = {
  device: ["./tfvl.js", "load", "the model runs in this browser, and nothing leaves the device"],
  server: ["./remote.js", "connect", "a server answers"],
};
const HINTS = {
  labels: "For example: how many circles are there?",
  masks: "Write [MASK] for each word that the model shall guess.",
  pretraining: "Write [MASK] for each word that the model shall guess.",
  match: "Write one text on each line; they are ranked by how well they fit the picture.",
  tokens: "Each word of the text is labelled.",
  phrases: "A sentence about the picture, which holds the phrases.",
};
const LISTS = { choices: "Choices, one on each line", phrases: "Phrases, one on each line" };
const KEPT = 20; // rows of the history

const lines = (text) => text.split("\n").map((each) => each.trim()).filter(Boolean);
// In the name of a button a mask is a gap.
const caption = (text) => text.replaceAll("[MASK]", "…");

let description, pictures, loading, cache;

/** Says what went wrong; null takes it back. */
function tell(error) {
  byId("error").textContent = error ? sentence(error) : "";
}

/** The engine, which is loaded at most once, and anew after a failure. */
function engine() {
  loading ??= start().catch((error) => {
    loading = undefined;
    cache = "reload"; // what the browser keeps may be what failed
    throw error;
  }).finally(() => (byId("loading").hidden = true));
  return loading;
}

async function start() {
  const [module, name] = ENGINES[description.engine];
  const made = (await import(module))[name];
  return made(new URL(description.address ?? ".", document.baseURI).href, { onProgress, description, cache });
}

function onProgress({ part, loaded, total }) {
  byId("loading").hidden = false;
  byId("part").textContent = `Loading the ${part}`;
  const progress = byId("progress");
  if (total) progress.value = loaded / total;
  else progress.removeAttribute("value");
}

/** The fields of the form: the question, and what else goes with it. */
function fields() {
  const several = description.kind === "match";
  const question = several
    ? element("textarea", { id: "question", rows: 4 })
    : element("input", { type: "text", id: "question", autocomplete: "off" });
  const hint = element("p", { id: "question-hint", className: "hint", textContent: HINTS[description.kind] ?? "" });
  question.setAttribute("aria-describedby", hint.id);
  byId("fields").append(element("label", { htmlFor: "question", textContent: "Question" }), question, hint);
  for (const name of description.reads.filter((each) => each in LISTS)) {
    byId("fields").append(
      element("label", { htmlFor: name, textContent: LISTS[name] }),
      element("textarea", { id: name, rows: 3 }),
    );
  }
}

/** What the form asks. Throws an Error of one sentence where something is missing. */
function request() {
  const given = pictures.files.filter(Boolean), text = byId("question").value.trim();
  if (given.length < description.images) {
    throw new Error(description.images > 1 ? "Give both pictures first" : "Give a picture first: choose, drop, paste or take one");
  }
  if (!text) throw new Error("Write a question first");
  const asked = { image: given.length > 1 ? given : given[0], text };
  for (const name of description.reads.filter((each) => each in LISTS)) {
    asked[name] = lines(byId(name).value);
    if (!asked[name].length) throw new Error(`Write ${name} first, one on each line`);
  }
  return asked;
}

/** The reply to a request; of several texts, one ranking. */
async function replied(asked) {
  const model = await engine();
  if (description.kind !== "match") return model.reply(asked);
  const replies = await model.replies(asked, lines(asked.text));
  const answers = replies.flatMap((reply) => reply.answers).sort((one, other) => other.score - one.score);
  return { ...replies[0], answers, milliseconds: summed(replies.map((reply) => reply.milliseconds)) };
}

function summed(durations) {
  const sums = {};
  for (const [part, ms] of durations.flatMap(Object.entries)) sums[part] = (sums[part] ?? 0) + ms;
  return sums;
}

async function ask() {
  const button = byId("ask");
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  try {
    const asked = request();
    const reply = await replied(asked);
    show(asked, reply);
    remember(asked, reply);
    tell(reply.cut ? new Error(reply.cut) : null);
  } catch (error) {
    tell(error);
  } finally {
    button.ariaBusy = "false";
  }
}

function show(asked, reply) {
  byId("results").replaceChildren(...shown(description.kind, reply, [asked.image].flat()));
  byId("durations").textContent = durations(reply.milliseconds);
  byId("answers").hidden = false;
}

/** Puts a question back into the form. */
async function fill(asked) {
  byId("question").value = asked.text;
  for (const name of Object.keys(LISTS)) if (byId(name)) byId(name).value = (asked[name] ?? []).join("\n");
  await pictures.putAll([asked.image].flat());
}

/** A button with pictures and a text below them. */
function card(files, text, react) {
  const button = element("button", { type: "button" });
  button.append(element("span", { className: "thumbs" }, ...files.map((file) => image(file, ""))), element("span", { textContent: caption(text) }));
  button.addEventListener("click", react);
  return element("li", {}, button);
}

function remember(asked, reply) {
  const best = reply.filled ?? reply.answers[0]?.answer ?? "";
  const rows = byId("history").querySelector("ol");
  rows.prepend(card([asked.image].flat(), `${asked.text} ${best && best !== asked.text ? `— ${best}` : ""}`, async () => {
    await fill(asked);
    show(asked, reply);
  }));
  while (rows.children.length > KEPT) rows.lastChild.remove();
  byId("history").hidden = false;
}

/** A file of the page's own. */
async function fetched(name) {
  const response = await fetch(name, { cache: "no-cache" }); // one that the browser keeps may be of an older model
  if (!response.ok) throw new Error(`${name} cannot be read (status ${response.status})`);
  return response;
}

async function examples() {
  for (const example of description.examples ?? []) {
    const files = await Promise.all(example.images.map(async (name) => {
      return new File([await (await fetched(name)).blob()], name.split("/").pop(), { type: "image/png" });
    }));
    const asked = { ...example, image: files };
    const one = card(files, example.text, async () => {
      await fill(asked);
      await ask();
    });
    byId("examples").querySelector("ul").append(one);
    byId("examples").hidden = false;
  }
}

async function open() {
  description = await (await fetched("description.json")).json();
  document.title = `Ask a picture: ${description.title}`;
  byId("about").textContent = `${description.title}: ${ENGINES[description.engine][2]}.`;
  pictures = new Pictures(description.images, tell);
  fields();
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  await Promise.all([examples(), engine()]);
}

open().catch(tell);
