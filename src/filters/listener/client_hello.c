#include "filters/listener/client_hello.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define RECORD_HEAD    5
#define RECORD_MAX     16384
#define HANDSHAKE_HEAD 4
#define HELLO_MAX      65536

enum {
    EXT_SNI = 0,
    EXT_GROUPS = 10,
    EXT_POINT_FORMATS = 11,
    EXT_SIGNATURE_ALGORITHMS = 13,
    EXT_ALPN = 16,
    EXT_VERSIONS = 43
};

static unsigned byte_at(struct mz_str s, size_t i)
{
    return (unsigned char)s.p[i];
}

static unsigned u16_at(struct mz_str s, size_t i)
{
    return byte_at(s, i) << 8 | byte_at(s, i + 1);
}

/* Takes @n bytes off the front; false: there are fewer. */
static bool cut(struct mz_str *s, size_t n, struct mz_str *out)
{
    if (s->n < n)
        return false;
    *out = (struct mz_str){ s->p, n };
    *s = mz_str_skip(*s, n);
    return true;
}

/* A vector with a length of one or two bytes in front. */
static bool vector(struct mz_str *s, unsigned length_bytes, struct mz_str *out)
{
    struct mz_str head;
    if (!cut(s, length_bytes, &head))
        return false;
    return cut(s, length_bytes == 1 ? byte_at(head, 0) : u16_at(head, 0), out);
}

/* ---- records ---- */

/* The handshake message out of one or more records. MORE, NOT_TLS, or DONE with *out. */
static enum client_hello_result join(struct mz_str in, struct mz_arena *a, struct mz_str *out,
                                     size_t *out_used)
{
    char *joined = NULL;
    size_t have = 0, need = 0, used = 0;
    while (!need || have < need) {
        if (in.n && byte_at(in, 0) != 22)
            return HELLO_NOT_TLS;
        if (in.n > 1 && byte_at(in, 1) != 3)
            return HELLO_NOT_TLS;
        if (in.n < RECORD_HEAD)
            return HELLO_MORE;
        size_t len = u16_at(in, 3);
        if (len == 0 || len > RECORD_MAX)
            return HELLO_NOT_TLS;
        struct mz_str body = mz_str_skip(in, RECORD_HEAD);
        bool whole = body.n >= len;
        body.n = whole ? len : body.n;
        if (have == 0) {
            if (body.n && byte_at(body, 0) != 1) /* a ClientHello */
                return HELLO_NOT_TLS;
            if (body.n >= HANDSHAKE_HEAD) {
                need = (size_t)byte_at(body, 1) << 16 | u16_at(body, 2);
                need += HANDSHAKE_HEAD;
                if (need > HELLO_MAX)
                    return HELLO_NOT_TLS;
            }
            if (whole && len < HANDSHAKE_HEAD) /* nobody splits the head of a message */
                return HELLO_NOT_TLS;
        }
        if (!whole)
            return HELLO_MORE;
        used += RECORD_HEAD + len;
        if (have == 0 && len >= need) { /* the usual case: one record, nothing is copied */
            *out = (struct mz_str){ body.p, need };
            *out_used = used;
            return HELLO_DONE;
        }
        if (!joined)
            joined = mz_arena_alloc(a, need);
        size_t n = len < need - have ? len : need - have;
        memcpy(joined + have, body.p, n);
        have += n;
        in = mz_str_skip(in, RECORD_HEAD + len);
    }
    *out = (struct mz_str){ joined, need };
    *out_used = used;
    return HELLO_DONE;
}

/* ---- the message ---- */

static bool read_sni(struct mz_str body, struct client_hello *h)
{
    struct mz_str list, name, kind;
    h->has_sni = true;
    if (!vector(&body, 2, &list) || body.n)
        return false;
    if (!cut(&list, 1, &kind) || !vector(&list, 2, &name) || name.n == 0)
        return false;
    if (byte_at(kind, 0) == 0 && name.n <= 255 && !memchr(name.p, 0, name.n)) /* G18 */
        h->sni = name;
    return true;
}

static bool read_alpn(struct mz_str body, struct client_hello *h)
{
    struct mz_str list, name;
    if (!vector(&body, 2, &list) || body.n || list.n < 2)
        return true; /* TLS itself will say what is wrong */
    for (struct mz_str rest = list; rest.n;)
        if (!vector(&rest, 1, &name) || name.n == 0)
            return true;
    h->has_alpn = true;
    h->alpn = list;
    return true;
}

static bool extension(unsigned type, struct mz_str body, struct client_hello *h)
{
    struct mz_str list = { NULL, 0 };
    switch (type) {
    case EXT_SNI:
        return read_sni(body, h);
    case EXT_ALPN:
        return read_alpn(body, h);
    case EXT_GROUPS:
        return !vector(&body, 2, &list) || (h->groups = list, true);
    case EXT_POINT_FORMATS:
        return !vector(&body, 1, &list) || (h->point_formats = list, true);
    case EXT_SIGNATURE_ALGORITHMS:
        return !vector(&body, 2, &list) || (h->signature_algorithms = list, true);
    case EXT_VERSIONS:
        return !vector(&body, 1, &list) || (h->versions = list, true);
    default:
        return true;
    }
}

static bool read_message(struct mz_str m, struct client_hello *h)
{
    struct mz_str random, session, compression, head, body;
    m = mz_str_skip(m, HANDSHAKE_HEAD);
    if (!cut(&m, 2, &head) || !cut(&m, 32, &random))
        return false;
    h->version = (uint16_t)u16_at(head, 0);
    if (!vector(&m, 1, &session) || session.n > 32 || !vector(&m, 2, &h->ciphers) ||
        h->ciphers.n < 2 || h->ciphers.n % 2 || !vector(&m, 1, &compression) || compression.n == 0)
        return false;
    if (m.n == 0)
        return true;
    if (!vector(&m, 2, &h->extensions) || m.n)
        return false;
    for (struct mz_str rest = h->extensions; rest.n;)
        if (!cut(&rest, 2, &head) || !vector(&rest, 2, &body) ||
            !extension(u16_at(head, 0), body, h))
            return false;
    return true;
}

enum client_hello_result client_hello_read(struct mz_str bytes, struct mz_arena *a,
                                           struct client_hello *out, size_t *out_used)
{
    struct mz_str m;
    enum client_hello_result r = join(bytes, a, &m, out_used);
    if (r != HELLO_DONE)
        return r;
    *out = (struct client_hello){ 0 };
    return read_message(m, out) ? HELLO_DONE : HELLO_NOT_TLS;
}

/* ---- fingerprints ---- */

static bool grease(unsigned v) /* RFC 8701 */
{
    return (v & 0x0f0f) == 0x0a0a && v >> 8 == (v & 0xff);
}

static void numbers(struct mz_buf *b, struct mz_str list, unsigned width, bool skip_grease)
{
    bool first = true;
    for (size_t i = 0; i + width <= list.n; i += width) {
        unsigned v = width == 2 ? u16_at(list, i) : byte_at(list, i);
        if (width == 2 && skip_grease && grease(v))
            continue;
        mz_buf_printf(b, "%s%u", first ? "" : "-", v);
        first = false;
    }
}

static void extension_types(struct mz_buf *b, const struct client_hello *h)
{
    bool first = true;
    struct mz_str rest = h->extensions, head, body;
    while (cut(&rest, 2, &head) && vector(&rest, 2, &body)) {
        if (grease(u16_at(head, 0)))
            continue;
        mz_buf_printf(b, "%s%u", first ? "" : "-", u16_at(head, 0));
        first = false;
    }
}

static struct mz_str digest(struct mz_buf *b, const EVP_MD *md, size_t hex_digits,
                            struct mz_arena *a)
{
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct mz_str text = mz_buf_linearize(b, mz_buf_len(b));
    (void)EVP_Digest(text.p ? text.p : "", text.n, d, &n, md, NULL);
    char *out = mz_arena_alloc(a, hex_digits + 1);
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < hex_digits; i++)
        out[i] = digits[i % 2 ? d[i / 2] & 15 : d[i / 2] >> 4];
    out[hex_digits] = 0;
    mz_buf_fini(b);
    return (struct mz_str){ out, hex_digits };
}

struct mz_str client_hello_ja3(const struct client_hello *h, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_printf(&b, "%u,", h->version);
    numbers(&b, h->ciphers, 2, true);
    mz_buf_append(&b, ",", 1);
    extension_types(&b, h);
    mz_buf_append(&b, ",", 1);
    numbers(&b, h->groups, 2, false);
    mz_buf_append(&b, ",", 1);
    numbers(&b, h->point_formats, 1, false);
    return digest(&b, EVP_md5(), 32, a);
}

static int ascending(const void *x, const void *y)
{
    return (int)*(const uint16_t *)x - (int)*(const uint16_t *)y;
}

struct list16 {
    uint16_t *v;
    size_t n;
};

static struct list16 cipher_list(const struct client_hello *h, struct mz_arena *a)
{
    struct list16 l = { mz_arena_alloc(a, h->ciphers.n + 2), 0 };
    for (size_t i = 0; i + 2 <= h->ciphers.n; i += 2)
        if (!grease(u16_at(h->ciphers, i)))
            l.v[l.n++] = (uint16_t)u16_at(h->ciphers, i);
    return l;
}

static struct list16 extension_list(const struct client_hello *h, struct mz_arena *a)
{
    struct list16 l = { mz_arena_alloc(a, h->extensions.n + 2), 0 };
    struct mz_str rest = h->extensions, head, body;
    while (cut(&rest, 2, &head) && vector(&rest, 2, &body))
        if (!grease(u16_at(head, 0)))
            l.v[l.n++] = (uint16_t)u16_at(head, 0);
    return l;
}

static const char *version_text(const struct client_hello *h)
{
    unsigned best = 0;
    for (size_t i = 0; i + 2 <= h->versions.n; i += 2)
        if (!grease(u16_at(h->versions, i)) && u16_at(h->versions, i) > best)
            best = u16_at(h->versions, i);
    switch (best ? best : h->version) {
    case 0x0304:
        return "13";
    case 0x0303:
        return "12";
    case 0x0302:
        return "11";
    case 0x0301:
        return "10";
    case 0x0300:
        return "s3";
    default:
        return "00";
    }
}

static void hex_list(struct mz_buf *b, const struct list16 *l)
{
    for (size_t i = 0; i < l->n; i++)
        mz_buf_printf(b, "%s%04x", i ? "," : "", l->v[i]);
}

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* First and last character of the first protocol; their hexadecimal digits where one is no letter or digit. */
static void alpn_text(const struct client_hello *h, char out[3])
{
    struct mz_str rest = h->alpn, name;
    memcpy(out, "00", 3);
    if (!h->has_alpn || !vector(&rest, 1, &name))
        return;
    char first = name.p[0], last = name.p[name.n - 1];
    static const char digits[] = "0123456789abcdef";
    bool plain = alnum(first) && alnum(last);
    out[0] = plain ? first : digits[(unsigned char)first >> 4];
    out[1] = plain ? last : digits[(unsigned char)last & 15];
}

struct mz_str client_hello_ja4(const struct client_hello *h, struct mz_arena *a)
{
    struct list16 ciphers = cipher_list(h, a), all = extension_list(h, a),
                  kept = { mz_arena_alloc(a, all.n * 2 + 2), 0 };
    char alpn[3];
    struct mz_buf b;
    alpn_text(h, alpn);
    struct mz_str head =
        mz_arena_printf(a, "t%s%c%02zu%02zu%s", version_text(h), h->has_sni ? 'd' : 'i',
                        ciphers.n < 99 ? ciphers.n : 99, all.n < 99 ? all.n : 99, alpn);
    qsort(ciphers.v, ciphers.n, sizeof(*ciphers.v), ascending);
    mz_buf_init(&b);
    hex_list(&b, &ciphers);
    struct mz_str second = ciphers.n ? digest(&b, EVP_sha256(), 12, a) : MZ_STR("000000000000");
    for (size_t i = 0; i < all.n; i++)
        if (all.v[i] != EXT_SNI && all.v[i] != EXT_ALPN)
            kept.v[kept.n++] = all.v[i];
    qsort(kept.v, kept.n, sizeof(*kept.v), ascending);
    mz_buf_init(&b);
    hex_list(&b, &kept);
    struct list16 sig = { mz_arena_alloc(a, h->signature_algorithms.n + 2), 0 };
    for (size_t i = 0; i + 2 <= h->signature_algorithms.n; i += 2)
        sig.v[sig.n++] = (uint16_t)u16_at(h->signature_algorithms, i);
    if (sig.n) {
        mz_buf_append(&b, "_", 1);
        hex_list(&b, &sig);
    }
    struct mz_str third = kept.n ? digest(&b, EVP_sha256(), 12, a) : MZ_STR("000000000000");
    mz_buf_fini(&b);
    return mz_arena_printf(a, MZ_STR_FMT "_" MZ_STR_FMT "_" MZ_STR_FMT, MZ_STR_ARG(head),
                           MZ_STR_ARG(second), MZ_STR_ARG(third));
}
