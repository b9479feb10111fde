import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.Collections;
import java.util.Map;
import org.tensorflow.lite.Interpreter;

/**
 * The model by LiteRT's interpreter, of the package {@code com.google.ai.edge.litert:litert}.
 *
 * <p>Not run on Android, nor with the real library: tfvl's tests compile and run it with a class of their own in place
 * of {@code Interpreter} (tests/java). All else that {@link Ask} takes runs on a JDK as it stands.
 */
final class LiteRtModel implements Ask.Model, AutoCloseable {
    private final Interpreter interpreter;
    private final int labels;

    /** @param file a mapped file: the interpreter reads the weights where they are. */
    LiteRtModel(ByteBuffer file, int labels, int threads) {
        Interpreter.Options options = new Interpreter.Options();
        options.setNumThreads(threads);
        this.interpreter = new Interpreter(file, options);
        this.labels = labels;
    }

    @Override
    public float[] run(Map<String, Object> inputs) {
        FloatBuffer logits = FloatBuffer.allocate(labels);
        interpreter.runSignature(inputs, Collections.singletonMap(Ask.OUTPUT, logits), Ask.SIGNATURE);
        return logits.array();
    }

    @Override
    public void close() {
        interpreter.close();
    }
}
