// What came back from an engine (a `Reply`, see README.md of tfvl/web), as elements.

import { softmax } from "./answers.js";
import { element } from "./dom.js";
import { boxesOn, heatOn } from "./drawing.js";

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const number = (value) => value.toFixed(3);

/** By the kind of the answer: from a reply and the question's pictures to elements. */
const SHOWN = {
  labels: (reply) => [bars(reply.answers)],
  choices: (reply) => [bars(reply.answers)],
  masks: (reply) => masks(reply),
  pretraining: (reply) => [
    ...masks(reply),
    line(`Text and picture belong together: ${percent(reply.match)}`),
    ...(reply.answers.length && !reply.masks?.length ? [bars(reply.answers)] : []),
  ],
  match: (reply) => [ranking(reply.answers)],
  tokens: (reply) => [list(reply.tokens.map(({ token, answer, score }) => [`${token} → ${answer}`, percent(score), score]))],
  phrases: (reply, pictures) => [
    boxesOn(pictures[0], reply.regions.filter(({ box }) => box)),
    list(reply.regions.map(({ phrase, score }, place) => [`${place + 1}. ${phrase}`, percent(score), score])),
  ],
  pooled: (reply) => [list(reply.answers.map(({ answer, score }) => [answer, number(score), 0]))],
};

/**
 * The elements of a reply.
 *
 * @param {string} kind of the answer, as the description says.
 * @param {Object} reply of an engine.
 * @param {Blob[]} pictures of the question.
 */
export function shown(kind, reply, pictures) {
  const made = SHOWN[kind](reply, pictures);
  if (reply.heat) made.push(...pictures.map((picture, place) => heatOn(picture, reply.heat.pictures[place])), words(reply.heat.words));
  return made;
}

/** How long each part took, as one line. */
export function durations(milliseconds) {
  const parts = Object.entries(milliseconds).map(([part, ms]) => `${part} ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
  return parts.join(" · ");
}

const line = (text) => element("p", { textContent: text });

/** A list with a bar for each row [text, score as text, share from 0 to 1]. */
function list(rows) {
  return element("ol", { className: "answers" }, ...rows.map(([text, score, share]) => {
    const bar = element("span", { className: "bar", ariaHidden: "true" });
    bar.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
    const name = element("span", { className: "name", textContent: text });
    return element("li", {}, bar, name, element("span", { className: "score", textContent: score }));
  }));
}

const bars = (answers) => list(answers.map(({ answer, score }) => [answer, percent(score), score]));

/** Texts by how well they fit the picture; the bars are the shares of a softmax over them. */
function ranking(answers) {
  const shares = softmax(answers.map(({ score }) => score));
  return list(answers.map(({ answer, score }, place) => [answer, number(score), shares[place]]));
}

function masks({ filled, masks: found }) {
  const several = found.length > 1;
  const each = found.flatMap((answers, place) => [...(several ? [line(`Word ${place + 1}`)] : []), bars(answers)]);
  return [element("p", { className: "filled", textContent: filled }), ...each];
}

/** The words of the question, each the darker the more the model attends to it. */
function words(scored) {
  const most = Math.max(...scored.map(({ score }) => score)) || 1;
  return element("p", { className: "words" }, "Words: ", ...scored.map(({ text, score }) => {
    const span = element("span", { textContent: text, title: percent(score) });
    span.style.backgroundColor = `rgb(214 120 20 / ${0.6 * score / most})`;
    return span;
  }));
}
