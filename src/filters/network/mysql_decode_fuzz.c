/* Bytes of both directions in pieces: the same counts as in one piece, and no more of any than the bytes could hold. */
#include "filters/network/mysql_decode.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *arg, enum mysql_stat s)
{
    ((unsigned *)arg)[s]++;
}

/* First byte of a record: direction and length (0..127); @piece 0: whole. */
static void play(const uint8_t *d, size_t n, size_t piece, unsigned counts[MYSQL__COUNT])
{
    struct mysql m = { .count = count, .arg = counts };
    while (n) {
        size_t len = d[0] >> 1, part = len < n - 1 ? len : n - 1;
        for (size_t at = 0; at < part;) {
            size_t step = piece && piece < part - at ? piece : part - at;
            mysql_feed(&m, d[0] & 1, (const char *)d + 1 + at, step);
            at += step;
        }
        d += 1 + part;
        n -= 1 + part;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned whole[MYSQL__COUNT] = { 0 }, bytes[MYSQL__COUNT] = { 0 };
    play(data, size, 0, whole);
    play(data, size, 1, bytes);
    if (memcmp(whole, bytes, sizeof(whole)) != 0 || whole[MYSQL_LOGIN_ATTEMPTS] > 1 ||
        whole[MYSQL_PROTOCOL_ERRORS] > size / 4)
        abort();
    return 0;
}
