import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A JSON reader, so that no package is needed: objects become maps, arrays lists, numbers doubles.
 *
 * <p>Whatever is wrong with a text or a value is one sentence in an {@link IllegalArgumentException}.
 */
final class Json {
    private static final int MAX_DEPTH = 64;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        if (json.next() != 0) throw json.unexpected();
        return value;
    }

    // ── typed access ──

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object value, String name) {
        if (value instanceof Map) return (Map<String, Object>) value;
        throw wrong(name, value, "an object");
    }

    static List<?> list(Object value, String name) {
        if (value instanceof List) return (List<?>) value;
        throw wrong(name, value, "a list");
    }

    static String string(Object value, String name) {
        if (value instanceof String) return (String) value;
        throw wrong(name, value, "a text");
    }

    static double number(Object value, String name) {
        if (value instanceof Double && !((Double) value).isInfinite()) return (Double) value;
        throw wrong(name, value, "a number");
    }

    static int whole(Object value, String name, int low, int high) {
        if (value instanceof Double && (Double) value >= low && (Double) value <= high && (Double) value % 1 == 0) {
            return ((Double) value).intValue();
        }
        throw wrong(name, value, "a whole number from " + low + " to " + high);
    }

    static IllegalArgumentException wrong(String name, Object value, String expected) {
        String shown = String.valueOf(value).replaceAll("\\s+", " ");
        shown = shown.length() > 40 ? shown.substring(0, 40) + "…" : shown;
        return new IllegalArgumentException(name + " is " + shown + ", expected " + expected);
    }

    // ── grammar ──

    private Object value(int depth) {
        if (depth > MAX_DEPTH) throw new IllegalArgumentException("the JSON is nested more than 64 deep");
        switch (next()) {
            case '{': return members(depth + 1);
            case '[': return items(depth + 1);
            case '"': return characters();
            case 't': return word("true", true);
            case 'f': return word("false", false);
            case 'n': return word("null", null);
            default: return number();
        }
    }

    private Map<String, Object> members(int depth) {
        Map<String, Object> found = new LinkedHashMap<>();
        for (at++; next() != '}'; separate('}')) {
            if (next() != '"') throw unexpected();
            String name = characters();
            if (next() != ':') throw unexpected();
            at++;
            found.put(name, value(depth));
        }
        at++;
        return found;
    }

    private List<Object> items(int depth) {
        List<Object> found = new ArrayList<>();
        for (at++; next() != ']'; separate(']')) found.add(value(depth));
        at++;
        return found;
    }

    private void separate(char end) {
        char found = next();
        if (found == ',') at++;
        if (found != ',' && found != end || found == ',' && next() == end) throw unexpected();
    }

    private String characters() {
        StringBuilder found = new StringBuilder();
        for (at++; ; at++) {
            char c = peek();
            if (c == '"') break;
            if (c < ' ') throw unexpected();
            found.append(c == '\\' ? escaped() : c);
        }
        at++;
        return found.toString();
    }

    private char escaped() {
        at++;
        int simple = "\"\\/bfnrt".indexOf(peek());
        if (simple >= 0) return "\"\\/\b\f\n\r\t".charAt(simple);
        int code = 0;
        if (peek() != 'u') throw unexpected();
        for (int i = 0; i < 4; i++) {
            at++;
            int digit = Character.digit(peek(), 16);
            if (digit < 0) throw unexpected();
            code = code << 4 | digit;
        }
        return (char) code;
    }

    private Object number() {
        int start = at;
        while ("+-.0123456789eE".indexOf(peek()) >= 0) at++;
        try {
            return Double.valueOf(text.substring(start, at));
        } catch (NumberFormatException error) {
            throw unexpected();
        }
    }

    private Object word(String word, Object meaning) {
        if (!text.startsWith(word, at)) throw unexpected();
        at += word.length();
        return meaning;
    }

    /** The next character that is no white space, at which the reader then stands; 0 at the end. */
    private char next() {
        while (peek() != 0 && " \t\n\r".indexOf(peek()) >= 0) at++;
        return peek();
    }

    private char peek() {
        return at < text.length() ? text.charAt(at) : 0;
    }

    private IllegalArgumentException unexpected() {
        return new IllegalArgumentException("the JSON is not valid near character " + at);
    }
}
