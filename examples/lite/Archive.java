import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * The ZIP archive that stands behind the model in a .tflite file of tfvl.
 *
 * <p>It is read from the file's bytes, since ZIP readers differ in whether they accept anything before an archive. A
 * mapped file ({@code FileChannel.map}) brings only the archive's pages into memory, not the model's.
 */
final class Archive {
    private static final int MODEL = 0x334c4654, END = 0x06054b50, ENTRY = 0x02014b50, LOCAL = 0x04034b50; // as ints
    private static final int END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30, LONGEST_COMMENT = 0xffff;
    private static final int MAX_MEMBERS = 64, MAX_MEMBER_BYTES = 16 << 20, STORED = 0, DEFLATED = 8;
    private static final String ADVICE = "; write the file again with `tfvl export SRC FILE.tflite --format tflite`";

    private final ByteBuffer file;
    private final Map<String, Integer> entries = new HashMap<>();

    /** @throws IllegalArgumentException if this is no .tflite file, has no archive behind it, or is cut short. */
    Archive(ByteBuffer bytes) {
        file = bytes.slice().order(ByteOrder.LITTLE_ENDIAN);
        if (file.limit() < END_BYTES || file.getInt(4) != MODEL) throw damaged("this is no .tflite file");
        int end = endRecord(), count = unsignedShort(end + 10);
        if (count > MAX_MEMBERS) throw damaged("the archive behind the model claims " + count + " members");
        long at = unsignedInt(end + 16);
        for (int i = 0; i < count; i++) {
            int entry = header(at, ENTRY_BYTES, ENTRY), length = unsignedShort(entry + 28);
            byte[] name = bytes(entry + ENTRY_BYTES, length);
            entries.put(new String(name, StandardCharsets.UTF_8), entry);
            at += ENTRY_BYTES + length + unsignedShort(entry + 30) + unsignedShort(entry + 32);
        }
    }

    String text(String name) {
        return new String(member(name), StandardCharsets.UTF_8);
    }

    /** @throws IllegalArgumentException if there is no such member, or it is damaged. */
    byte[] member(String name) {
        if (!entries.containsKey(name)) throw damaged("there is no " + name + " behind the model");
        int entry = entries.get(name), method = unsignedShort(entry + 10);
        long packedSize = unsignedInt(entry + 20), size = unsignedInt(entry + 24);
        if (size > MAX_MEMBER_BYTES) throw damaged(name + " claims " + size + " bytes, at most 16 MiB are read");
        if (method != DEFLATED && method != STORED) throw damaged(name + " is packed by the unknown method " + method);
        int local = header(unsignedInt(entry + 42), LOCAL_BYTES, LOCAL);
        long start = (long) local + LOCAL_BYTES + unsignedShort(local + 26) + unsignedShort(local + 28);
        byte[] packed = bytes(start, packedSize);
        byte[] content = method == STORED ? packed : inflated(packed, (int) size);
        CRC32 sum = new CRC32();
        sum.update(content);
        if (content.length != size || sum.getValue() != unsignedInt(entry + 16)) throw damaged(name + " is damaged");
        return content;
    }

    /** Bytes that end early, or are none of zlib's, leave the rest at zero: the checksum tells. */
    private static byte[] inflated(byte[] packed, int size) {
        byte[] content = new byte[size];
        Inflater inflater = new Inflater(true);
        try {
            inflater.setInput(Arrays.copyOf(packed, packed.length + 1)); // zlib without header wants one more
            for (int done = 0, count = 1; done < size && count > 0; done += count) {
                count = inflater.inflate(content, done, size - done);
            }
        } catch (DataFormatException error) {
            return new byte[0];
        } finally {
            inflater.end();
        }
        return content;
    }

    /** Where the archive's last record begins, which only a comment may follow. */
    private int endRecord() {
        int last = file.limit() - END_BYTES;
        for (int at = last; at >= Math.max(last - LONGEST_COMMENT, 0); at--) {
            if (file.getInt(at) == END && at + unsignedShort(at + 20) == last) return at;
        }
        throw damaged("there is no description of tfvl behind the model, or the file is cut short");
    }

    private int header(long at, int size, int signature) {
        if (at + size > file.limit() || file.getInt((int) at) != signature) {
            throw damaged("the archive behind the model is damaged");
        }
        return (int) at;
    }

    private byte[] bytes(long at, long size) {
        if (at + size > file.limit()) throw damaged("the archive behind the model is damaged");
        byte[] found = new byte[(int) size];
        ByteBuffer view = file.duplicate();
        view.position((int) at);
        view.get(found);
        return found;
    }

    private int unsignedShort(int at) {
        return file.getShort(at) & 0xffff;
    }

    private long unsignedInt(int at) {
        return file.getInt(at) & 0xffffffffL;
    }

    private static IllegalArgumentException damaged(String what) {
        return new IllegalArgumentException(what + ADVICE);
    }
}
