// What `pixels.js` makes of the pictures that come as lines of JSON: lines of JSON with digests, or with the refusal.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { Pixels, layOnWhite } from "../../tfvl/web/page/pixels.js";

const digest = (array) => createHash("sha256").update(Buffer.from(array.buffer)).digest("hex");

for await (const line of createInterface({ input: process.stdin })) {
  const { options, size, padded, height, width, rgba, white } = JSON.parse(line);
  const picture = { data: new Uint8ClampedArray(Buffer.from(rgba, "base64")), height, width };
  try {
    if (white) layOnWhite(picture);
    const { pixel_values, pixel_mask } = new Pixels(options, size, padded).write(picture);
    console.log(JSON.stringify([digest(pixel_values), digest(pixel_mask)]));
  } catch (error) {
    console.log(JSON.stringify(error.message));
  }
}
