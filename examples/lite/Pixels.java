import java.util.Collections;
import java.util.List;
import java.util.Map;

/**
 * The pictures of a ViLT model: resized, rescaled and normalised as {@code tfvl.ViltImageProcessor} does.
 *
 * <p>Resizing is bicubic over all pixels that a new one covers, in whole numbers, as Pillow does. Android's own scaling
 * is bilinear between four pixels and would show the model another picture than the ones it was trained on.
 */
final class Pixels {
    static final int MAX_SIDE = 2048;
    private static final int CHANNELS = 3, LEVELS = 256, BICUBIC = 3;
    private static final double LONGEST_TO_SHORTEST = 1333.0 / 800; // of the training set's pictures
    private static final int WEIGHT_BITS = 22; // fixed point, in which 255 times all weights stays below 2**31

    final int height, width;
    private final boolean padded, onWhite;
    private final int shortestEdge, divisor;
    private final float[][] normalised = new float[CHANNELS][LEVELS];

    /**
     * @param options {@code image_processor} of tfvl.json.
     * @param padded whether the file takes smaller pictures too, with zeros around them and a mask.
     */
    Pixels(Map<String, Object> options, int height, int width, boolean padded) {
        this.height = height;
        this.width = width;
        this.padded = padded;
        onWhite = Boolean.TRUE.equals(options.get("do_convert_rgb"));
        Map<String, Object> size = Json.object(options.get("size"), "size");
        shortestEdge = Json.whole(size.get("shortest_edge"), "shortest_edge", 1, MAX_SIDE);
        divisor = Json.whole(options.get("size_divisor"), "size_divisor", 1, shortestEdge);
        Json.whole(options.get("resample"), "resample", BICUBIC, BICUBIC);
        if (!flag(options, "do_resize")) throw Json.wrong("do_resize", false, "true");
        double factor = flag(options, "do_rescale") ? Json.number(options.get("rescale_factor"), "rescale_factor") : 1;
        for (int channel = 0; channel < CHANNELS; channel++) {
            float mean = flag(options, "do_normalize") ? channel(options, "image_mean", channel) : 0;
            float deviation = flag(options, "do_normalize") ? channel(options, "image_std", channel) : 1;
            if (deviation == 0) throw Json.wrong("image_std", deviation, "a number other than 0");
            for (int level = 0; level < LEVELS; level++) {
                normalised[channel][level] = ((float) (level * factor) - mean) / deviation;
            }
        }
    }

    /**
     * Resizes a picture and writes it to the top left of {@code values} (height, width, 3), and ones to {@code mask}.
     *
     * @param argb rows of 0xAARRGGBB, as {@code Bitmap.getPixels} gives them; alpha is looked at only where the
     *     file says {@code do_convert_rgb}, which lays the picture on white.
     * @throws IllegalArgumentException if the picture cannot be brought to the file's size.
     */
    void write(int[] argb, int givenHeight, int givenWidth, float[] values, int[] mask) {
        if (givenHeight < 1 || givenWidth < 1 || argb.length != (long) givenHeight * givenWidth) {
            throw new IllegalArgumentException(
                    "the picture has " + argb.length + " pixels, expected " + givenHeight + " x " + givenWidth);
        }
        int[] size = target(givenHeight, givenWidth);
        if (onWhite) argb = laidOnWhite(argb);
        int[] pixels = resized(argb, givenHeight, givenWidth, size[0], size[1]);
        for (int y = 0; y < size[0]; y++) {
            for (int x = 0; x < size[1]; x++) {
                int pixel = pixels[y * size[1] + x], place = y * width + x;
                mask[place] = 1;
                for (int channel = 0; channel < CHANNELS; channel++) {
                    values[place * CHANNELS + channel] = normalised[channel][pixel >> 16 - 8 * channel & 0xff];
                }
            }
        }
    }

    private static int[] laidOnWhite(int[] argb) {
        int[] opaque = new int[argb.length];
        for (int place = 0; place < argb.length; place++) {
            int alpha = argb[place] >>> 24, white = 255 * (255 - alpha) + 127; // 127 rounds
            for (int shift = 0; shift < 24; shift += 8) {
                opaque[place] |= ((argb[place] >> shift & 0xff) * alpha + white) / 255 << shift;
            }
        }
        return opaque;
    }

    /** (height, width) after resizing: the processor's, or what a smaller shortest edge gives that fits the file. */
    private int[] target(int givenHeight, int givenWidth) {
        int[] size = null;
        for (int edge = shortestEdge; edge >= divisor; edge--) {
            size = target(givenHeight, givenWidth, edge);
            if (fits(size) || !padded) break;
        }
        if (size[0] < 1 || size[1] < 1) {
            String given = givenHeight + " x " + givenWidth;
            throw new IllegalArgumentException(given + " pixels is too long and thin to resize");
        }
        if (fits(size)) return size;
        throw new IllegalArgumentException("the picture has " + size[0] + " x " + size[1] + " pixels after resizing, "
                + "but the file takes " + (padded ? "at most " : "") + height + " x " + width);
    }

    private int[] target(int givenHeight, int givenWidth, int edge) {
        int longest = (int) (LONGEST_TO_SHORTEST * edge);
        double scale = (double) edge / Math.min(givenHeight, givenWidth);
        double high = givenHeight < givenWidth ? edge : scale * givenHeight;
        double wide = givenHeight < givenWidth ? scale * givenWidth : edge;
        if (Math.max(high, wide) > longest) {
            scale = longest / Math.max(high, wide);
            high *= scale;
            wide *= scale;
        }
        return new int[] {(int) (high + 0.5) / divisor * divisor, (int) (wide + 0.5) / divisor * divisor};
    }

    private boolean fits(int[] size) {
        return padded ? size[0] <= height && size[1] <= width : size[0] == height && size[1] == width;
    }

    /** The side goes first that makes the less work, as in Pillow: levels are rounded after each. */
    private static int[] resized(int[] pixels, int height, int width, int newHeight, int newWidth) {
        boolean heightFirst = height > newHeight && height - newHeight > 2 * (width - newWidth);
        if (heightFirst) pixels = resampled(pixels, width, height, newHeight, true);
        pixels = resampled(pixels, heightFirst ? newHeight : height, width, newWidth, false);
        return heightFirst ? pixels : resampled(pixels, newWidth, height, newHeight, true);
    }

    /** So many lines of {@code length} pixels, from left to right or {@code down}, resized to {@code newLength}. */
    private static int[] resampled(int[] pixels, int lines, int length, int newLength, boolean down) {
        int[] found = new int[lines * newLength];
        double scale = (double) length / newLength, stretch = Math.max(scale, 1), reach = 2 * stretch;
        for (int x = 0; x < newLength; x++) {
            double centre = (x + 0.5) * scale;
            int first = Math.max((int) (centre - reach + 0.5), 0);
            int[] weights = weights(first, Math.min((int) (centre + reach + 0.5), length) - first, centre, stretch);
            for (int line = 0; line < lines; line++) {
                int red = 1 << WEIGHT_BITS - 1, green = red, blue = red; // a half, for rounding
                int at = down ? first * lines + line : line * length + first;
                for (int weight : weights) {
                    red += weight * (pixels[at] >> 16 & 0xff);
                    green += weight * (pixels[at] >> 8 & 0xff);
                    blue += weight * (pixels[at] & 0xff);
                    at += down ? lines : 1;
                }
                int place = down ? x * lines + line : line * newLength + x;
                found[place] = level(red) << 16 | level(green) << 8 | level(blue);
            }
        }
        return found;
    }

    private static int[] weights(int first, int count, double centre, double stretch) {
        double[] shares = new double[count];
        double sum = 0;
        for (int i = 0; i < count; i++) sum += shares[i] = cubic((first + i - centre + 0.5) * (1 / stretch));
        int[] weights = new int[count];
        for (int i = 0; i < count; i++) {
            double share = shares[i] / sum;
            weights[i] = (int) (share * (1 << WEIGHT_BITS) + Math.copySign(0.5, share));
        }
        return weights;
    }

    /** Keys' kernel with a = -1/2. */
    private static double cubic(double x) {
        double a = -0.5, t = Math.abs(x);
        if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
        return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    }

    private static int level(int sum) {
        return Math.max(0, Math.min(255, sum >> WEIGHT_BITS));
    }

    private static boolean flag(Map<String, Object> options, String name) {
        if (options.get(name) instanceof Boolean) return (Boolean) options.get(name);
        throw Json.wrong(name, options.get(name), "true or false");
    }

    /** An option that is one number, or one for each channel. */
    private static float channel(Map<String, Object> options, String name, int channel) {
        Object value = options.get(name);
        List<?> values = value instanceof Double ? Collections.nCopies(CHANNELS, value) : Json.list(value, name);
        if (values.size() != CHANNELS) throw Json.wrong(name, value, "one number, or one for each of three channels");
        return (float) Json.number(values.get(channel), name);
    }
}
