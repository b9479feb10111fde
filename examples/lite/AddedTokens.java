import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * The tokens that are kept whole. A text is searched for those that are not "normalized" as it stands, and for the others
 * once it is normalised; what is found becomes its marker, a private-use character, so that no later step splits it.
 */
final class AddedTokens {
    static final List<String> NAMED = Arrays.asList("unk_token", "sep_token", "pad_token", "cls_token", "mask_token");
    static final int FIRST_MARKER = 0xf0000, LAST_MARKER = 0xffffd;
    private static final String WHITE_SPACE =
            "[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]";

    private static final class Token {
        String content, text, marker; // what is looked for, and what stands in its place then
        boolean singleWord, lstrip, rstrip, normalized, special;
    }

    /** Token to id. */
    final Map<String, Integer> ids = new LinkedHashMap<>();

    private final List<Token> tokens = new ArrayList<>();
    private final List<int[]> wordCharacters = new ArrayList<>();
    private Search raw, later;

    /** @throws IllegalArgumentException if what the file says of its tokens is not sound. */
    AddedTokens(Map<String, Object> options, Map<String, Object> vocabulary) {
        Object listed = options.get("added_tokens_decoder");
        if (listed != null) {
            Json.object(listed, "added_tokens_decoder").forEach((id, value) -> listed(id, Json.object(value, "a token")));
        }
        Set<String> special = new LinkedHashSet<>();
        for (String name : NAMED) special.add(Json.string(options.get(name), name));
        if (listed == null) special.addAll(strings(options, "additional_special_tokens"));
        for (String content : special) {
            if (listed == null) plain(content, vocabulary.get(content));
            if (!ids.containsKey(content)) throw Json.wrong("a special token", content, "a word of the vocabulary");
        }
        if (options.containsKey("word_characters")) {
            for (Object range : Json.list(options.get("word_characters"), "word_characters")) {
                List<?> ends = Json.list(range, "a range of characters");
                if (ends.size() != 2) throw Json.wrong("a range of characters", range, "two of them");
                wordCharacters.add(new int[] {codePoint(ends.get(0)), codePoint(ends.get(1))});
            }
        }
        if (ids.size() > LAST_MARKER - FIRST_MARKER - 1) {
            throw new IllegalArgumentException(ids.size() + " special tokens, at most 65,532 are read");
        }
    }

    private static int codePoint(Object value) {
        return Json.whole(value, "a character", 0, Character.MAX_CODE_POINT);
    }

    private void listed(String id, Map<String, Object> fields) {
        Token token = new Token();
        token.content = Json.string(fields.get("content"), "the content of a token");
        token.singleWord = Boolean.TRUE.equals(fields.get("single_word"));
        token.lstrip = Boolean.TRUE.equals(fields.get("lstrip"));
        token.rstrip = Boolean.TRUE.equals(fields.get("rstrip"));
        token.normalized = Boolean.TRUE.equals(fields.get("normalized"));
        token.special = Boolean.TRUE.equals(fields.get("special"));
        tokens.add(token);
        ids.put(token.content, Json.whole(Json.parse(id), "the id of a token", 0, Integer.MAX_VALUE));
    }

    private void plain(String content, Object id) {
        if (id == null) return;
        Token token = new Token();
        token.content = content;
        token.special = true;
        tokens.add(token);
        ids.put(content, Json.whole(id, "an id in vocab.json", 0, Integer.MAX_VALUE));
    }

    /** Whether a token is looked for in the normalised text. */
    boolean normalize() {
        return tokens.stream().anyMatch(token -> token.normalized);
    }

    /**
     * What has to be known before a search.
     *
     * @param markers by token.
     * @param normalizer of texts.
     * @param splitSpecial whether special tokens are left in a text as they are.
     */
    void prepare(Map<String, String> markers, UnaryOperator<String> normalizer, boolean splitSpecial) {
        for (Token token : tokens) {
            token.text = token.normalized ? normalizer.apply(token.content) : token.content;
            if (token.text.isEmpty()) throw Json.wrong("a token", token.content, "one of which something is left");
            token.marker = splitSpecial && token.special ? token.text : markers.get(token.content);
        }
        raw = new Search(false);
        later = new Search(true);
    }

    /** Of a text as it stands. */
    String mark(String text) {
        return raw.mark(text);
    }

    /** Of a normalised text. */
    String markNormalized(String text) {
        return later.mark(text);
    }

    /** Without the white space that goes with a token beside it. */
    String strip(String text) {
        for (Token token : raw.byText.values()) {
            if (token.marker.equals(token.text)) continue;
            if (token.lstrip) text = text.replaceAll(WHITE_SPACE + "+" + token.marker, token.marker);
            if (token.rstrip) text = text.replaceAll(token.marker + WHITE_SPACE + "+", token.marker);
        }
        return text;
    }

    /** Puts markers in place of tokens; where several match, the longest is meant. */
    private final class Search {
        final Map<String, Token> byText = new LinkedHashMap<>();
        private final Pattern any;

        Search(boolean normalized) {
            for (Token token : tokens) if (token.normalized == normalized) byText.putIfAbsent(token.text, token);
            any = Pattern.compile(byText.keySet().stream()
                    .sorted(Comparator.comparing(String::length).reversed())
                    .map(Pattern::quote).collect(Collectors.joining("|")));
        }

        String mark(String text) {
            if (byText.isEmpty()) return text;
            Matcher matcher = any.matcher(text);
            StringBuilder marked = new StringBuilder();
            int done = 0;
            while (matcher.find()) {
                Token token = byText.get(matcher.group());
                boolean before = matcher.start() > 0 && isOfWord(text.codePointBefore(matcher.start()));
                boolean after = matcher.end() < text.length() && isOfWord(text.codePointAt(matcher.end()));
                if (token.singleWord && (before || after)) continue;
                marked.append(text, done, matcher.start()).append(token.marker);
                done = matcher.end();
            }
            return marked.append(text, done, text.length()).toString();
        }
    }

    private boolean isOfWord(int c) {
        return wordCharacters.stream().anyMatch(range -> range[0] <= c && c <= range[1]);
    }

    static boolean isMarker(int c) {
        return c >= FIRST_MARKER && c <= LAST_MARKER;
    }

    static List<String> strings(Map<String, Object> options, String name) {
        List<String> found = new ArrayList<>();
        if (options.get(name) == null) return found;
        for (Object item : Json.list(options.get(name), name)) found.add(Json.string(item, name));
        return found;
    }
}
