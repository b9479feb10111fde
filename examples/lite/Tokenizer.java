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
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * The tokenizer of a .tflite file that tfvl wrote: text in, token ids out, the same as upstream's.
 *
 * <pre>
 * javac -d classes Tokenizer.java
 * java -cp classes Tokenizer vilt_vqa.tflite "How many cats?"
 * </pre>
 *
 * <p>With {@code -}, each line of standard input is a JSON string and each line of output its ids. All that Unicode
 * asks for is in the file's table {@code characters.bin}, so the device's own version of Unicode makes no difference.
 */
final class Tokenizer {
    private static final int PAGES = 4352, PAGE = 256, WIDTH = 3;
    private static final int CODE_POINT = (1 << 21) - 1, ISOLATED = 1 << 21, CLASS_SHIFT = 22, BARRIER = -(1 << 29);
    private static final int FIRST_MARKER = 0xf0000, LAST_MARKER = 0xffffd;
    private static final int MAX_WORD_CHARACTERS = 100;
    private static final List<String> NAMED =
            Arrays.asList("unk_token", "sep_token", "pad_token", "cls_token", "mask_token");

    final int unknown, separator, padding, classifier;
    private final Map<String, Integer> pieces = new HashMap<>();
    private final Map<String, String> markers = new HashMap<>(); // a private-use character for each special token
    private final Set<String> unsplit;
    private final Pattern special;
    private final List<IntBuffer> tables = new ArrayList<>();

    /** @throws IllegalArgumentException if a part is missing, damaged, or does not fit the others. */
    Tokenizer(Archive archive) {
        Map<String, Object> description = Json.object(Json.parse(archive.text("tfvl.json")), "tfvl.json");
        Map<String, Object> options = Json.object(description.get("tokenizer"), "tokenizer");
        Map<String, Object> vocabulary = Json.object(Json.parse(archive.text("vocab.json")), "vocab.json");
        vocabulary.forEach((token, id) -> {
            int checked = Json.whole(id, "an id in vocab.json", 0, Integer.MAX_VALUE);
            if (!token.isEmpty() && !token.equals("##") && token.codePoints().noneMatch(Tokenizer::isMarker)) {
                pieces.put(token, checked);
            }
        });
        List<String> tokens = new ArrayList<>();
        for (String name : NAMED) tokens.add(Json.string(options.get(name), name));
        tokens.addAll(strings(options, "additional_special_tokens"));
        for (String token : tokens) {
            if (!vocabulary.containsKey(token)) throw Json.wrong("a special token", token, "a word of the vocabulary");
        }
        int[] ids = tokens.stream().mapToInt(token -> ((Double) vocabulary.get(token)).intValue()).toArray();
        unknown = ids[0];
        separator = ids[1];
        padding = ids[2];
        classifier = ids[3];

        // Where one token begins with another, the longer one is meant.
        tokens.sort(Comparator.comparing(String::length).reversed());
        special = Pattern.compile(tokens.stream().map(Pattern::quote).collect(Collectors.joining("|")));
        unsplit = new LinkedHashSet<>(strings(options, "never_split"));
        unsplit.removeAll(tokens);
        Set<String> marked = new LinkedHashSet<>(tokens);
        marked.addAll(unsplit);
        if (marked.size() > LAST_MARKER - FIRST_MARKER) {
            throw new IllegalArgumentException(marked.size() + " special tokens, at most 65,533 are read");
        }
        for (String token : marked) {
            String marker = new String(Character.toChars(FIRST_MARKER + markers.size()));
            markers.put(token, marker);
            Object id = vocabulary.get(token);
            pieces.put(marker, id == null ? unknown : ((Double) id).intValue());
        }
        readTables(archive.member("characters.bin"));
    }

    /** The ids of a text, without [CLS] and [SEP]. */
    List<Integer> ids(String text) {
        int[] wellFormed = text.codePoints().map(c -> isMarker(c) || c >= 0xd800 && c < 0xe000 ? 0xfffd : c).toArray();
        Matcher matcher = special.matcher(new String(wellFormed, 0, wellFormed.length));
        StringBuffer buffer = new StringBuffer();
        while (matcher.find()) matcher.appendReplacement(buffer, markers.get(matcher.group()));
        String marked = matcher.appendTail(buffer).toString();
        if (!unsplit.isEmpty()) {
            List<String> words = words(marked, tables.get(1));
            words.replaceAll(word -> unsplit.contains(word) ? markers.get(word) : word);
            marked = String.join(" ", words);
        }
        List<Integer> found = new ArrayList<>();
        for (String word : words(marked, tables.get(0))) found.addAll(wordIds(word));
        return found;
    }

    /** [CLS] text [SEP], cut at the end to at most {@code length} ids. */
    List<Integer> encode(String text, int length) {
        List<Integer> ids = ids(text), row = new ArrayList<>();
        row.add(classifier);
        row.addAll(ids.subList(0, Math.min(ids.size(), length - 2)));
        row.add(separator);
        return row;
    }

    /** Normalised words. Of each code point the table makes up to three entries, negative where there is none. */
    private static List<String> words(String text, IntBuffer table) {
        List<Integer> entries = new ArrayList<>();
        text.codePoints().forEach(c -> {
            int row = 1 + PAGES + (table.get(1 + c / PAGE) * PAGE + c % PAGE) * WIDTH;
            for (int i = 0; i < WIDTH; i++) {
                int entry = table.get(row + i) + (i == 0 ? c : 0);
                if (entry >= BARRIER) entries.add(entry);
            }
        });
        orderMarks(entries);
        List<String> found = new ArrayList<>();
        StringBuilder word = new StringBuilder();
        for (int entry : entries) {
            int c = entry & CODE_POINT;
            boolean isolated = (entry & ISOLATED) != 0;
            if (entry < 0) continue;
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

    /** One table, or two: the second is for the words of {@code never_split}. */
    private void readTables(byte[] bytes) {
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
        if (!sound || tables.size() < (unsplit.isEmpty() ? 1 : 2)) {
            throw new IllegalArgumentException("characters.bin is damaged, or not for the tokenizer's options");
        }
    }

    private static boolean isMarker(int c) {
        return c >= FIRST_MARKER && c <= LAST_MARKER;
    }

    private static List<String> strings(Map<String, Object> options, String name) {
        List<String> found = new ArrayList<>();
        if (options.get(name) == null) return found;
        for (Object item : Json.list(options.get(name), name)) found.add(Json.string(item, name));
        return found;
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
