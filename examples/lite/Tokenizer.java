import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.IntBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The tokenizer of a .tflite file that tfvl wrote: text in, token ids out, the same as upstream's.
 *
 * <pre>
 * javac -d classes Tokenizer.java AddedTokens.java
 * java -cp classes Tokenizer vilt_vqa.tflite "How many cats?"
 * </pre>
 *
 * <p>With {@code -}, each line of standard input is a JSON string and each line of output its ids. All that Unicode
 * asks for is in the file's table {@code characters.bin}, so the device's own version of Unicode makes no difference.
 */
final class Tokenizer {
    private static final int PAGES = 4352, PAGE = 256, WIDTH = 3;
    private static final int CODE_POINT = (1 << 21) - 1, ISOLATED = 1 << 21, CLASS_SHIFT = 22, BARRIER = -(1 << 29);
    private static final int MAX_WORD_CHARACTERS = 100;

    final int unknown, separator, padding, classifier;
    /** Whether a row's padding stands before it, and whether what is too long is cut at its beginning. */
    final boolean padsLeft, cutsLeft;
    private final Map<String, Integer> pieces = new HashMap<>();
    private final Map<String, String> markers = new HashMap<>(); // a private-use character for each token kept whole
    private final AddedTokens added;
    private final Set<String> unsplit;
    private final List<IntBuffer> tables = new ArrayList<>();

    /** @throws IllegalArgumentException if a part is missing, damaged, or does not fit the others. */
    Tokenizer(Archive archive) {
        Map<String, Object> description = Json.object(Json.parse(archive.text("tfvl.json")), "tfvl.json");
        Map<String, Object> options = Json.object(description.get("tokenizer"), "tokenizer");
        Map<String, Object> vocabulary = Json.object(Json.parse(archive.text("vocab.json")), "vocab.json");
        vocabulary.forEach((token, id) -> {
            int checked = Json.whole(id, "an id in vocab.json", 0, Integer.MAX_VALUE);
            if (!token.isEmpty() && !token.equals("##") && token.codePoints().noneMatch(AddedTokens::isMarker)) {
                pieces.put(token, checked);
            }
        });
        added = new AddedTokens(options, vocabulary);
        int[] ids = AddedTokens.NAMED.stream().mapToInt(name -> added.ids.get(options.get(name))).toArray();
        unknown = ids[0];
        separator = ids[1];
        padding = ids[2];
        classifier = ids[3];
        padsLeft = "left".equals(options.get("padding_side"));
        cutsLeft = "left".equals(options.get("truncation_side"));

        unsplit = new LinkedHashSet<>(AddedTokens.strings(options, "never_split"));
        boolean whiteSpace = !unsplit.isEmpty();
        unsplit.removeAll(added.ids.keySet());
        Set<String> marked = new LinkedHashSet<>(added.ids.keySet());
        marked.addAll(unsplit);
        for (String token : marked) {
            String marker = new String(Character.toChars(AddedTokens.FIRST_MARKER + markers.size()));
            markers.put(token, marker);
            Object id = vocabulary.get(token);
            pieces.put(marker, added.ids.getOrDefault(token, id == null ? unknown : ((Double) id).intValue()));
        }
        readTables(archive.member("characters.bin"), 1 + (whiteSpace ? 1 : 0) + (added.normalize() ? 1 : 0));
        added.prepare(markers, this::normalized, Boolean.TRUE.equals(options.get("split_special_tokens")));
    }

    /** The ids of a text, without [CLS] and [SEP]. */
    List<Integer> ids(String text) {
        int[] wellFormed = text.codePoints()
                .map(c -> AddedTokens.isMarker(c) || c >= 0xd800 && c < 0xe000 ? 0xfffd : c).toArray();
        String marked = added.mark(new String(wellFormed, 0, wellFormed.length));
        if (!unsplit.isEmpty()) {
            List<String> words = words(marked, tables.get(1));
            words.replaceAll(word -> unsplit.contains(word) ? markers.get(word) : word);
            marked = String.join(" ", words);
        }
        if (added.normalize()) marked = added.markNormalized(normalized(added.strip(marked)));
        List<Integer> found = new ArrayList<>();
        for (String word : words(marked, tables.get(0))) found.addAll(wordIds(word));
        return found;
    }

    /** [CLS] text [SEP], cut to at most {@code length} ids. */
    List<Integer> encode(String text, int length) {
        List<Integer> ids = ids(text), row = new ArrayList<>();
        int kept = Math.min(ids.size(), length - 2);
        row.add(classifier);
        row.addAll(cutsLeft ? ids.subList(ids.size() - kept, ids.size()) : ids.subList(0, kept));
        row.add(separator);
        return row;
    }

    /** What a table makes of a text: of each code point up to three entries, of which negative ones are left out. */
    private static List<Integer> lookedUp(String text, IntBuffer table) {
        List<Integer> entries = new ArrayList<>();
        text.codePoints().forEach(c -> {
            int row = 1 + PAGES + (table.get(1 + c / PAGE) * PAGE + c % PAGE) * WIDTH;
            for (int i = 0; i < WIDTH; i++) {
                int entry = table.get(row + i) + (i == 0 ? c : 0);
                if (entry >= BARRIER) entries.add(entry);
            }
        });
        orderMarks(entries);
        entries.removeIf(entry -> entry < 0);
        return entries;
    }

    /** As the last table says; Chinese characters, which are flagged, get spaces around them. */
    private String normalized(String text) {
        StringBuilder found = new StringBuilder();
        for (int entry : lookedUp(text, tables.get(tables.size() - 1))) {
            int c = entry & CODE_POINT;
            boolean spaced = (entry & ISOLATED) != 0 && !AddedTokens.isMarker(c);
            if (spaced) found.append(' ');
            found.appendCodePoint(c);
            if (spaced) found.append(' ');
        }
        return found.toString();
    }

    /** Normalised words. */
    private static List<String> words(String text, IntBuffer table) {
        List<String> found = new ArrayList<>();
        StringBuilder word = new StringBuilder();
        for (int entry : lookedUp(text, table)) {
            int c = entry & CODE_POINT;
            boolean isolated = (entry & ISOLATED) != 0;
            if (!isolated && c != ' ') {
                word.appendCodePoint(c);
                continue;
            }
            if (word.length() > 0) found.add(word.toString());
            word.setLength(0);
            if (isolated) found.add(new String(Character.toChars(c)));
        }
        if (word.length() > 0) found.add(word.toString());
        return found;
    }

    /** Sorts each run of combining marks by combining class, stably, as Unicode's NFD asks. */
    private static void orderMarks(List<Integer> entries) {
        for (int start = 0, end; start < entries.size(); start = end) {
            for (end = start + 1; end < entries.size() && combiningClass(entries.get(end)) > 0; ) end++;
            if (end > start + 1) entries.subList(start, end).sort(Comparator.comparing(Tokenizer::combiningClass));
        }
    }

    private static int combiningClass(int entry) {
        return Math.max(entry, 0) >> CLASS_SHIFT;
    }

    /** The longest pieces from left to right; the unknown token where the vocabulary cannot spell the word. */
    private List<Integer> wordIds(String word) {
        List<Integer> ids = new ArrayList<>();
        if (word.codePointCount(0, word.length()) > MAX_WORD_CHARACTERS) return Arrays.asList(unknown);
        for (int start = 0, end; start < word.length(); start = end) {
            Integer id = null;
            for (end = word.length(); end > start; end = word.offsetByCodePoints(end, -1)) {
                id = pieces.get((start > 0 ? "##" : "") + word.substring(start, end));
                if (id != null) break;
            }
            if (id == null) return Arrays.asList(unknown);
            ids.add(id);
        }
        return ids;
    }

    /** Tables behind one another: for words, for the words of {@code never_split}, and to normalise. */
    private void readTables(byte[] bytes, int expected) {
        IntBuffer rest = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer();
        boolean sound = bytes.length % Integer.BYTES == 0;
        while (sound && rest.hasRemaining()) {
            IntBuffer table = rest.slice();
            int count = table.get(0);
            long size = 1 + PAGES + (long) count * PAGE * WIDTH;
            sound = count > 0 && size <= table.limit();
            for (int i = 1; sound && i <= PAGES; i++) sound = table.get(i) >= 0 && table.get(i) < count;
            if (sound) rest.position(rest.position() + (int) size);
            tables.add(table);
        }
        if (!sound || tables.size() < expected) {
            throw new IllegalArgumentException("characters.bin is damaged, or not for the tokenizer's options");
        }
    }

    public static void main(String[] arguments) throws IOException {
        Tokenizer tokenizer;
        try (FileChannel file = FileChannel.open(Paths.get(arguments[0]))) {
            tokenizer = new Tokenizer(new Archive(file.map(FileChannel.MapMode.READ_ONLY, 0, file.size())));
        }
        if (!arguments[1].equals("-")) {
            System.out.println(tokenizer.ids(arguments[1]));
            return;
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(tokenizer.ids(Json.string(Json.parse(line), "the line")));
        }
    }
}
