// ViLT's image processor in plain JavaScript: the pixels of `tfvl.lite.Runner`, to the bit, from the same levels.

const CHANNELS = 3, LEVELS = 256;
const LONGEST_TO_SHORTEST = 1333 / 800; // of the training set's pictures
const WEIGHT_BITS = 22; // fixed point, in which 255 times all weights stays below 2**31
const LARGEST_SIDE = 2 ** 14;

const bicubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0);
const bilinear = (x) => (x < 1 ? 1 - x : 0);
// Pillow's filters by the number that stands in `resample`: of a distance, and how far they reach.
const FILTERS = { 2: [bilinear, 1], 3: [bicubic, 2] };

/**
 * Prepares pictures for a model.
 *
 * @param {Object} options `image_processor` of the file's description.
 * @param {[number, number]} size height and width of the file's input, in pixels.
 * @param {boolean} padded whether smaller pictures are padded with zeros (and marked in a mask).
 * @throws {Error} of one sentence, where the options cannot be used.
 */
export class Pixels {
  constructor(options, [height, width], padded) {
    Object.assign(this, { options, height, width, padded });
    const { do_rescale, do_normalize, do_resize, rescale_factor, resample, size_divisor } = options;
    if (do_resize && !FILTERS[resample]) {
      throw new Error(`resample is ${resample}, expected 2 (bilinear) or 3 (bicubic); this page has no other filter`);
    }
    const edge = options.size.shortest_edge;
    if (!(size_divisor >= 1 && size_divisor <= edge && edge <= LARGEST_SIDE)) {
      throw new Error(`size ${edge} and size_divisor ${size_divisor} are no sizes of pictures`);
    }
    const each = (values, channel) => Math.fround(Array.isArray(values) ? values[channel] : values);
    const normalized = (level, channel) => {
      const pixel = Math.fround(do_rescale ? level * rescale_factor : level);
      if (!do_normalize) return pixel;
      return Math.fround(Math.fround(pixel - each(options.image_mean, channel)) / each(options.image_std, channel));
    };
    // (channels, levels): what becomes of a level
    this.values = Array.from({ length: CHANNELS }, (_, channel) => {
      return Float32Array.from({ length: LEVELS }, (_, level) => normalized(level, channel));
    });
  }

  /**
   * The inputs that a picture becomes.
   *
   * @param {{data: Uint8ClampedArray, width: number, height: number}} picture its red, green, blue and alpha, row by row;
   *     alpha is not looked at.
   * @returns {{pixel_values: Float32Array, pixel_mask: Int32Array, height: number, width: number, rows: number,
   *     columns: number}} the file's whole input; the picture itself takes its first `rows` and `columns` of pixels.
   * @throws {Error} of one sentence, where it cannot be brought to the file's size.
   */
  write(picture) {
    const [rows, columns] = this.#target(picture.height, picture.width);
    const levels = resized(picture, rows, columns, FILTERS[this.options.resample]);
    const { height, width, values } = this, step = levels.length / (rows * columns);
    const pixel_values = new Float32Array(height * width * CHANNELS), pixel_mask = new Int32Array(height * width);
    for (let y = 0; y < rows; y++) {
      pixel_mask.fill(1, y * width, y * width + columns);
      for (let x = 0; x < columns; x++) {
        const from = (y * columns + x) * step, to = (y * width + x) * CHANNELS;
        for (let channel = 0; channel < CHANNELS; channel++) pixel_values[to + channel] = values[channel][levels[from + channel]];
      }
    }
    return { pixel_values, pixel_mask, height, width, rows, columns };
  }

  /** Height and width after resizing: the processor's, or what a smaller shortest edge gives that fits the file. */
  #target(height, width) {
    const { max_pixels, do_resize, size_divisor } = this.options;
    if (height * width > max_pixels) throw new Error(`${height} x ${width} pixels are more than the ${max_pixels} that are taken`);
    let target = [height, width];
    for (let edge = this.options.size.shortest_edge; do_resize && edge >= size_divisor; edge--) {
      target = targetSize(height, width, edge, size_divisor);
      if (this.#fits(target) || !this.padded) break;
    }
    if (Math.min(...target) < 1) throw new Error(`${height} x ${width} pixels is too long and thin to resize`);
    if (this.#fits(target)) return target;
    const most = this.padded ? "at most " : "";
    throw new Error(`${target.join(" x ")} pixels after resizing, but the file takes ${most}${this.height} x ${this.width}`);
  }

  #fits([rows, columns]) {
    return this.padded ? rows <= this.height && columns <= this.width : rows === this.height && columns === this.width;
  }
}

/** Lays what is transparent on white, in place. */
export function layOnWhite({ data }) {
  for (let at = 0; at < data.length; at += 4) {
    const alpha = data[at + 3];
    if (alpha === 255) continue;
    for (let channel = at; channel < at + CHANNELS; channel++) {
      data[channel] = Math.trunc((data[channel] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
    data[at + 3] = 255;
  }
}

function targetSize(height, width, edge, divisor) {
  const longest = Math.trunc(LONGEST_TO_SHORTEST * edge);
  let scale = edge / Math.min(height, width);
  let size = height < width ? [edge, scale * width] : [scale * height, edge];
  if (Math.max(...size) > longest) {
    scale = longest / Math.max(...size);
    size = size.map((side) => scale * side);
  }
  return size.map((side) => Math.floor(Math.floor(side + 0.5) / divisor) * divisor);
}

/** Levels of so many rows and columns. The side goes first that makes the less work, as in Pillow: each pass rounds. */
function resized({ data, height, width }, rows, columns, filter) {
  const down = (levels, across) => resampled(levels, across, height, rows, true, filter);
  const along = (levels, lines) => resampled(levels, lines, width, columns, false, filter);
  if (height > rows && height - rows > 2 * (width - columns)) return along(down(data, width), rows);
  return down(along(data, height), columns);
}

/** So many lines of `length` pixels, from left to right or `down`, as lines of `newLength`, of three channels. */
function resampled(levels, lines, length, newLength, down, [filter, support]) {
  if (length === newLength) return levels;
  const step = levels.length / (lines * length), half = 1 << (WEIGHT_BITS - 1);
  const found = new Uint8ClampedArray(lines * newLength * CHANNELS); // which clips to 0 and 255
  const scale = length / newLength, stretch = Math.max(scale, 1), reach = support * stretch;
  const along = (down ? lines : 1) * step;
  for (let x = 0; x < newLength; x++) {
    const centre = (x + 0.5) * scale, first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const count = Math.min(Math.trunc(centre + reach + 0.5), length) - first;
    const weights = weightsOf(filter, first, count, centre, stretch);
    for (let line = 0; line < lines; line++) {
      let red = half, green = half, blue = half; // for rounding
      let at = (down ? first * lines + line : line * length + first) * step;
      for (let i = 0; i < count; i++, at += along) {
        red += weights[i] * levels[at];
        green += weights[i] * levels[at + 1];
        blue += weights[i] * levels[at + 2];
      }
      const to = (down ? x * lines + line : line * newLength + x) * CHANNELS;
      found[to] = red >> WEIGHT_BITS;
      found[to + 1] = green >> WEIGHT_BITS;
      found[to + 2] = blue >> WEIGHT_BITS;
    }
  }
  return found;
}

function weightsOf(filter, first, count, centre, stretch) {
  const shares = Float64Array.from({ length: count }, (_, i) => filter(Math.abs((first + i - centre + 0.5) * (1 / stretch))));
  const sum = shares.reduce((one, other) => one + other, 0);
  return Int32Array.from(shares, (share) => (share / sum) * (1 << WEIGHT_BITS) + 0.5 * Math.sign(share));
}
