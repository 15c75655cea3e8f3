#include "observe/plain_text.h"

void mz_plain_text(struct mz_buf *out, struct mz_str s)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x7f)
            continue;
        mz_buf_append(out, s.p + from, i - from);
        mz_buf_append(out, (char[]){ '\\', 'x', hex[c >> 4], hex[c & 15] }, 4);
        from = i + 1;
    }
    mz_buf_append(out, s.p + from, s.n - from);
}
