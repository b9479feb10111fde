package org.tensorflow.lite;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.Map;
import java.util.TreeMap;

/**
 * In place of LiteRT's class, of which the tests have none: hands the inputs to the process that started this one, by
 * standard output, and takes the outputs from standard input, all of them big-endian in the order of their names.
 */
public final class Interpreter implements AutoCloseable {
    public static final class Options {
        public Options setNumThreads(int threads) {
            return this;
        }
    }

    public Interpreter(ByteBuffer file, Options options) {
        // LiteRT takes no others.
        if (!file.isDirect()) throw new IllegalArgumentException("the file is neither mapped nor a direct buffer");
    }

    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
        if (!signature.equals("tensors")) throw new IllegalArgumentException("there is no signature " + signature);
        try {
            DataOutputStream asked = new DataOutputStream(System.out);
            for (Object input : new TreeMap<>(inputs).values()) asked.write(bytes(input));
            asked.flush();
            DataInputStream answered = new DataInputStream(System.in);
            for (Object output : new TreeMap<>(outputs).values()) {
                FloatBuffer buffer = (FloatBuffer) output;
                while (buffer.hasRemaining()) buffer.put(answered.readFloat());
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static byte[] bytes(Object input) {
        ByteBuffer bytes = ByteBuffer.allocate(((Buffer) input).capacity() * Float.BYTES);
        if (input instanceof FloatBuffer) bytes.asFloatBuffer().put((FloatBuffer) input);
        else bytes.asIntBuffer().put((IntBuffer) input);
        return bytes.array();
    }

    @Override
    public void close() {}
}
