import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Questions about pictures, from a .tflite file of tfvl: one of ViltForQuestionAnswering, of fixed sizes and batch 1.
 *
 * <p>In an Android app, {@code file} being the mapped .tflite file and {@code bitmap} an upright picture:
 *
 * <pre>
 * Ask ask = new Ask(file);
 * try (LiteRtModel model = new LiteRtModel(file, ask.labels.size(), 2)) {
 *     int width = bitmap.getWidth(), height = bitmap.getHeight();
 *     int[] argb = new int[height * width];
 *     bitmap.getPixels(argb, 0, width, 0, 0, width, height);
 *     Ask.Answer best = ask.answers(model.run(ask.inputs(argb, height, width, "how many cats?"))).get(0);
 * }
 * </pre>
 */
final class Ask {
    static final String SIGNATURE = "tensors", OUTPUT = "logits";
    private static final String HEAD = "ViltForQuestionAnswering";
    private static final int FORMAT = 1, MAX_LENGTH = 1 << 16;

    /** All that the rest needs to know of a runtime. */
    interface Model {
        /** The signature's inputs by name, each an IntBuffer or a FloatBuffer, to one logit for each label. */
        float[] run(Map<String, Object> inputs);
    }

    static final class Answer {
        final String label;
        final float score;

        Answer(String label, float score) {
            this.label = label;
            this.score = score;
        }
    }

    final List<String> labels;
    private final Tokenizer tokenizer;
    private final Pixels pixels;
    private final int length, count;
    private final boolean masked;

    /** @throws IllegalArgumentException if this is another file, or a damaged one; says in one sentence why. */
    Ask(ByteBuffer file) {
        Archive archive = new Archive(file);
        Map<String, Object> description = Json.object(Json.parse(archive.text("tfvl.json")), "tfvl.json");
        Json.whole(description.get("format"), "format", FORMAT, FORMAT);
        if (!HEAD.equals(description.get("head"))) throw Json.wrong("head", description.get("head"), HEAD);
        if (!SIGNATURE.equals(description.get("signature"))) {
            throw Json.wrong("signature", description.get("signature"), SIGNATURE);
        }
        Map<String, Object> inputs = Json.object(description.get("inputs"), "inputs");
        masked = inputs.containsKey("pixel_mask");
        length = sizes(inputs, "input_ids", 2, 3, MAX_LENGTH)[1];
        int[] picture = sizes(inputs, "pixel_values", 4, 1, Pixels.MAX_SIDE);
        Map<String, Object> options = Json.object(description.get("image_processor"), "image_processor");
        pixels = new Pixels(options, picture[1], picture[2], masked);
        tokenizer = new Tokenizer(archive);
        labels = Arrays.asList(archive.text("labels.txt").split("\n", -1));
        count = Json.whole(description.get("top_k"), "top_k", 1, Integer.MAX_VALUE);
    }

    /** What the model takes, by name. @throws IllegalArgumentException if the picture or the question is of no use. */
    Map<String, Object> inputs(int[] argb, int height, int width, String question) {
        if (question.trim().isEmpty()) throw new IllegalArgumentException("the question is empty");
        List<Integer> row = tokenizer.encode(question, length);
        int[] ids = new int[length], attended = new int[length];
        Arrays.fill(ids, tokenizer.padding);
        int start = tokenizer.padsLeft ? length - row.size() : 0;
        Arrays.fill(attended, start, start + row.size(), 1);
        for (int i = 0; i < row.size(); i++) ids[start + i] = row.get(i);
        int[] mask = new int[pixels.height * pixels.width];
        float[] values = new float[3 * mask.length];
        pixels.write(argb, height, width, values, mask);

        Map<String, Object> inputs = new HashMap<>();
        inputs.put("input_ids", IntBuffer.wrap(ids));
        inputs.put("token_type_ids", IntBuffer.allocate(length)); // a question alone is all of type 0
        inputs.put("attention_mask", IntBuffer.wrap(attended));
        inputs.put("pixel_values", FloatBuffer.wrap(values));
        if (masked) inputs.put("pixel_mask", IntBuffer.wrap(mask));
        return inputs;
    }

    /** Best first, of equal ones the first. Each score is for itself: several answers can be right. */
    List<Answer> answers(float[] logits) {
        if (logits.length != labels.size()) {
            throw new IllegalArgumentException(
                    "the model gives " + logits.length + " logits, expected one for each label: " + labels.size());
        }
        List<Answer> found = new ArrayList<>();
        for (int i = 0; i < logits.length; i++) {
            found.add(new Answer(labels.get(i), 1 / (1 + (float) Math.exp(-logits[i]))));
        }
        found.sort(Comparator.comparing((Answer answer) -> answer.score).reversed());
        return found.subList(0, Math.min(count, found.size()));
    }

    /** The shape of an input, whose first size is the batch of 1. */
    private static int[] sizes(Map<String, Object> inputs, String name, int rank, int low, int high) {
        List<?> shape = Json.list(Json.object(inputs.get(name), name).get("shape"), "the shape of " + name);
        if (shape.size() != rank) throw Json.wrong("the shape of " + name, shape, rank + " sizes");
        int[] sizes = new int[rank];
        for (int i = 0; i < rank; i++) {
            sizes[i] = Json.whole(shape.get(i), "size " + i + " of " + name, i == 0 ? 1 : low, i == 0 ? 1 : high);
        }
        return sizes;
    }
}
