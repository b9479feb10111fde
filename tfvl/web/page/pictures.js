// The pictures that are asked about: chosen, dropped, pasted, or taken with the camera.

import { byId, element } from "./dom.js";

const NAMES = { 1: ["Picture"], 2: ["Left picture", "Right picture"] };
const NO_CAMERA = "the camera cannot be used";

/** The places for pictures in the form. */
export class Pictures {
  /**
   * @param {number} count pictures of a question, 1 or 2.
   * @param {(error: Error|null) => void} told of a picture that cannot be used, or of null where it can.
   */
  constructor(count, told) {
    this.files = Array(count).fill(null);
    this.told = told;
    this.last = -1; // the place that was filled last
    this.frames = NAMES[count].map((name, place) => {
      const frame = element("div", { className: "frame" });
      const input = element("input", { type: "file", accept: "image/*", id: `picture-${place}` });
      input.addEventListener("change", () => {
        if (input.files.length) this.put(input.files[0], place);
        input.value = ""; // the same file can be chosen again
      });
      const label = element("label", { htmlFor: input.id, textContent: name });
      byId("pictures").append(element("fieldset", {}, label, frame, input));
      return frame;
    });
    this.frames.forEach((_, place) => this.#show(place));
    listen(this);
  }

  /** Takes a file, in the next place unless told which; an unreadable one empties the place. */
  async put(file, place = (this.last + 1) % this.files.length) {
    this.last = place;
    this.files[place] = file;
    const turn = file;
    try {
      await this.#show(place);
      if (this.files[place] === turn) this.told(null);
    } catch {
      if (this.files[place] !== turn) return; // another one has come since
      this.files[place] = null;
      this.#show(place);
      this.told(new Error(`${file.name || "what was given"} cannot be read as a picture by this browser, or is too large`));
    }
  }

  /** Takes as many files as a question has pictures. */
  async putAll(files) {
    await Promise.all(files.slice(0, this.files.length).map((file, place) => {
      return this.put(file, files.length < this.files.length ? undefined : place);
    }));
  }

  async #show(place) {
    const file = this.files[place], frame = this.frames[place];
    if (!file) {
      frame.replaceChildren("No picture yet");
      return;
    }
    const picture = image(file, "The picture that is asked about");
    await picture.decode();
    if (this.files[place] === file) frame.replaceChildren(picture);
  }
}

/** An `<img>` of a file. */
export function image(file, alt) {
  const picture = element("img", { src: URL.createObjectURL(file), alt });
  const free = () => URL.revokeObjectURL(picture.src);
  picture.addEventListener("load", free);
  picture.addEventListener("error", free);
  return picture;
}

/** Pictures that are dropped or pasted anywhere on the page, and the camera's. */
function listen(pictures) {
  const given = (event, data) => {
    const files = [...(data?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      pictures.putAll(files);
    }
  };
  const dropping = (on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    event.preventDefault(); // else the browser would open what is dropped
    dropping(true);
  });
  addEventListener("dragleave", () => dropping(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    given(event, event.dataTransfer);
  });
  addEventListener("paste", (event) => given(event, event.clipboardData));
  byId("camera").addEventListener("click", () => film(pictures).catch((error) => pictures.told(error)));
}

/** Opens the camera's picture in the dialog, which gives one picture or none. */
async function film(pictures) {
  const dialog = byId("viewfinder"), video = dialog.querySelector("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "this page may not use it" : "there is none, or the page is not served over https";
    throw new Error(`${NO_CAMERA}: ${why}`);
  }
  const end = new AbortController();
  const on = (target, name, react) => target.addEventListener(name, react, { signal: end.signal });
  byId("shoot").disabled = true; // until there is a picture to take
  on(video, "loadeddata", () => (byId("shoot").disabled = false));
  on(byId("leave"), "click", () => dialog.close());
  on(byId("shoot"), "click", () => {
    const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => (blob ? pictures.put(new File([blob], "camera.png")) : pictures.told(new Error(NO_CAMERA))));
    dialog.close();
  });
  on(dialog, "close", () => {
    end.abort();
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  });
  video.srcObject = stream;
  dialog.showModal();
}
