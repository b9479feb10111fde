import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Random;
import javax.imageio.ImageIO;

/** What the tests do with the example of `examples/lite` on a JDK. */
final class AskOnJdk {
    /**
     * {@code FILE PICTURE QUESTION}: asks, as an app would. {@code FILE…}: what is wrong with each, or "taken".
     * {@code --fuzz FILE N}: damages its last N bytes in a thousand ways; prints how many of them are taken.
     */
    public static void main(String[] arguments) throws IOException {
        if (arguments[0].equals("--fuzz")) {
            fuzz(Files.readAllBytes(Paths.get(arguments[1])), Integer.parseInt(arguments[2]));
        } else if (arguments.length == 3 && arguments[1].endsWith(".png")) {
            ask(arguments[0], arguments[1], arguments[2]);
        } else {
            for (String path : arguments) System.out.println(verdict(mapped(path)));
        }
    }

    private static void ask(String path, String picture, String question) throws IOException {
        ByteBuffer file = mapped(path);
        Ask ask = new Ask(file);
        BufferedImage image = ImageIO.read(new File(picture));
        int height = image.getHeight(), width = image.getWidth();
        int[] argb = image.getRGB(0, 0, width, height, null, 0, width);
        try (LiteRtModel model = new LiteRtModel(file, ask.labels.size(), 1)) {
            for (Ask.Answer answer : ask.answers(model.run(ask.inputs(argb, height, width, question)))) {
                System.out.println(answer.score + "\t" + answer.label);
            }
        }
    }

    private static ByteBuffer mapped(String path) throws IOException {
        try (FileChannel file = FileChannel.open(Paths.get(path))) {
            return file.map(FileChannel.MapMode.READ_ONLY, 0, file.size());
        }
    }

    private static String verdict(ByteBuffer file) {
        try {
            new Ask(file);
            return "taken";
        } catch (IllegalArgumentException error) {
            return error.getMessage();
        }
    }

    private static void fuzz(byte[] sound, int size) {
        Random random = new Random(6);
        int taken = 0;
        for (int round = 0; round < 1000; round++) {
            byte[] bytes = sound.clone();
            int length = round % 4 == 0 ? random.nextInt(bytes.length) : bytes.length;
            int last = bytes.length - 1;
            for (int i = 0; i < round % 7; i++) bytes[last - random.nextInt(size)] ^= 1 << random.nextInt(8);
            // Most of what a reader believes stands in the last few hundred bytes.
            for (int i = 0; i < round % 5; i++) bytes[last - random.nextInt(300)] = (byte) random.nextInt();
            String verdict = verdict(ByteBuffer.wrap(bytes, 0, length));
            if (verdict.equals("taken")) taken++;
            else if (verdict.contains("\n") || verdict.length() < 20) throw new AssertionError(verdict);
        }
        System.out.println(taken);
    }
}
