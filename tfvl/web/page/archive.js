// A `.tflite` file of tfvl: the model, and behind it a ZIP archive with all that it takes to ask it (`tfvl.lite.file`).

const FORMAT = 1; // of the archive; a reader refuses what it does not know
const MEMBERS = ["tfvl.json", "vocab.json", "labels.txt", "characters.bin"];
const END = 0x06054b50, ENTRY = 0x02014b50, END_BYTES = 22, LONGEST_COMMENT = 0xffff;
const CUT = "the model file has no description of tfvl behind its model, or is cut short";

/**
 * What stands behind the model.
 *
 * @param {Uint8Array} bytes of the file.
 * @returns {Promise<{description: Object, vocabulary: Object, labels: string[], characters: Uint8Array}>} the
 *     description's `model_bytes` says how many bytes of the file are the model.
 * @throws {Error} of one sentence, where it is no file of tfvl, or cut short.
 */
export async function read(bytes) {
  const found = await members(bytes).catch((error) => {
    throw new Error(`${CUT} (${error.message})`);
  });
  const missing = MEMBERS.find((name) => !found.has(name));
  if (missing) throw new Error(`${CUT} (${missing} is missing)`);
  const text = (name) => new TextDecoder().decode(found.get(name));
  const description = JSON.parse(text("tfvl.json"));
  if (description.format !== FORMAT) {
    throw new Error(`the model file's description has format ${description.format}; this page reads ${FORMAT}`);
  }
  return {
    description,
    vocabulary: JSON.parse(text("vocab.json")),
    labels: text("labels.txt").split("\n"),
    characters: found.get("characters.bin"),
  };
}

// Of each byte, the CRC32C (Castagnoli) of it alone.
const CHECKSUMS = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte;
});

/** The checksum that a description's `model_crc32c` is of the model's bytes. */
export function checksum(bytes) {
  let sum = -1;
  for (let at = 0; at < bytes.length; at++) sum = CHECKSUMS[(sum ^ bytes[at]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** The archive's members by name. */
async function members(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = endOf(view), found = new Map();
  for (let left = view.getUint16(end + 10, true), at = view.getUint32(end + 16, true); left > 0; left--) {
    if (view.getUint32(at, true) !== ENTRY) throw new Error("a member is missing");
    const size = view.getUint32(at + 20, true), local = view.getUint32(at + 42, true);
    const [name, extra, comment] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    found.set(new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + name)), await inflated(bytes.slice(start, start + size)));
    at += 46 + name + extra + comment;
  }
  return found;
}

/** Where the archive's last record begins. */
function endOf(view) {
  const first = Math.max(view.byteLength - END_BYTES - LONGEST_COMMENT, 0);
  for (let at = view.byteLength - END_BYTES; at >= first; at--) if (view.getUint32(at, true) === END) return at;
  throw new Error("its end is missing");
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
