// Elements of the page. Whatever comes from a model or a person is put in as text, never as HTML.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element.
 *
 * @param {string} name of the element.
 * @param {Object} properties that are set on it, `textContent`, `className`, ….
 * @param {...(Node|string)} children strings become text.
 */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** An error as one sentence. */
export function sentence(error) {
  const text = String(error?.message ?? error).replace(/\s+/g, " ").trim() || "Something went wrong";
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
