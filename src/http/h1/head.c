#include "http/h1/h1_priv.h"
#include "http/url.h"
#include "http/validate.h"

/* A head being parsed: its bytes lie in the stream's arena, writable, with MZ_H1_PAD bytes of zeros behind them. */
struct text {
    char *base, *p;
    const char *raw; /* the bytes as received, for preserve_case; NULL otherwise */
};

static struct text take(struct h1 *c, struct mz_buf *in, size_t n)
{
    struct text t = { .raw = NULL };
    t.base = t.p = mz_arena_alloc(c->in.arena, n + MZ_H1_PAD);
    struct mz_str first = mz_buf_first(in);
    if (MZ_LIKELY(first.n >= n))
        memcpy(t.base, first.p, n);
    else
        mz_buf_copyout(in, 0, t.base, n);
    memset(t.base + n, 0, MZ_H1_PAD);
    mz_buf_drain(in, n);
    c->enc.wire_in += n;
    if (c->o->header_case == MZ_CASE_PRESERVE)
        t.raw = mz_arena_dup(c->in.arena, (struct mz_str){ t.base, n }).p;
    return t;
}

/* Envoy's header bytes: without the first line, behind which @from stands, and the blank one. NULL: it is looked for. */
static void count_fields(struct h1 *c, const struct text *t, const char *from, size_t n)
{
    if (!from) {
        const char *line = memchr(t->base, '\n', n);
        from = line ? line + 1 : t->base + n;
    }
    size_t first = (size_t)(from - t->base);
    c->enc.header_in += first + 2 <= n ? n - first - 2 : 0;
}

/* A line ends at @e by CRLF, or by LF alone where that is tolerated (B01). NULL: neither. */
static inline char *line_end(char *e, bool bare_lf)
{
    if (memcmp(e, "\r\n", 2) == 0)
        return e + 2;
    return e[0] == '\n' && bare_lf ? e + 1 : NULL;
}

static inline bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Lines at *next that begin with a blank continue the value that ends at @e: joined with one blank (B04, A06). */
static char *unfold(char *e, char **next, bool bare_lf)
{
    char *at = *next;
    while (blank(*at)) {
        while (blank(*at))
            at++;
        char *stop = h1_value_end(at), *behind = line_end(stop, bare_lf);
        if (!behind)
            return NULL;
        *e++ = ' ';
        memmove(e, at, (size_t)(stop - at));
        e += stop - at;
        at = behind;
    }
    *next = at;
    return e;
}

static void connection_words(struct h1_head *hd, struct mz_str list)
{
    for (struct mz_str e; mz_list_next(&list, &e);) {
        hd->close |= mz_str_ieq(e, MZ_STR("close"));
        hd->keep_alive |= mz_str_ieq(e, MZ_STR("keep-alive"));
        hd->upgrade |= mz_str_ieq(e, MZ_STR("upgrade"));
    }
}

/* What framing needs of a known field. False: invalid. *out_keep: whether the field goes into the map. */
static bool note_field(struct h1_head *hd, enum mz_header_id id, struct mz_str value,
                       bool *out_keep)
{
    switch (id) {
    case MZ_H_CONTENT_LENGTH: /* digits only; a second one, even an equal one, is refused (A09-A11) */
        return hd->n_length++ == 0 && mz_str_u64(value, &hd->length) && hd->length < INT64_MAX;
    case MZ_H_TRANSFER_ENCODING: /* the encoder chooses its own */
        hd->te_chunked = hd->n_te == 0 && mz_str_ieq(value, MZ_STR("chunked"));
        hd->n_te = 1;
        *out_keep = false;
        return true;
    case MZ_H_CONNECTION:
        hd->n_connection = 1;
        if (mz_str_eq(value, MZ_STR("keep-alive"))) /* as most peers write it */
            hd->keep_alive = true;
        else
            connection_words(hd, value);
        return true;
    case MZ_H_PROXY_CONNECTION:
        hd->close |= mz_str_ieq(value, MZ_STR("close"));
        return true;
    default:
        return true;
    }
}

static bool underscore(struct h1 *c, struct mz_str name, bool *out_keep)
{
    if (mz_str_chr(name, '_') < 0)
        return true;
    bool reject = c->o->underscores == MZ_UNDERSCORE_REJECT;
    unsigned counter = reject ? c->stats.requests_rejected_with_underscores
                              : c->stats.dropped_headers_with_underscores;
    if (c->stats.scope && counter != MZ_STAT_NONE)
        mz_count(c->stats.scope, counter, 1);
    *out_keep = false;
    return !reject || h1_fail(c, 400, "http1.unexpected_underscore");
}

/* Request: the first Host becomes :authority, whose place is reserved; a second one is refused (B06). */
static bool host_field(struct h1 *c, struct mz_str value, const char *raw)
{
    struct mz_header *a = mz_headers_get_id(c->headers, MZ_H_AUTHORITY);
    if (c->head.n_host++)
        return h1_fail(c, 400, "http1.duplicate_host");
    a->value = value;
    a->raw = raw;
    return true;
}

/* The ids that are more than a place in the map. */
static const bool noted[MZ_H__COUNT] = { [MZ_H_HOST] = true,
                                         [MZ_H_CONTENT_LENGTH] = true,
                                         [MZ_H_TRANSFER_ENCODING] = true,
                                         [MZ_H_CONNECTION] = true,
                                         [MZ_H_PROXY_CONNECTION] = true };

static inline bool checks_underscores(const struct h1 *c)
{
    return c->o->underscores != MZ_UNDERSCORE_ALLOW;
}

/* What the loop over a head's fields keeps in registers: of the codec itself each byte that is written might change it. */
struct reading {
    struct h1 *c;
    struct mz_headers *h;
    uint32_t n, max; /* fields */
    bool underscores;
};
/* What becomes of a field that was read: of a head, or of trailers. */
typedef bool add_fn(const struct reading *r, enum mz_header_id id, struct mz_str name,
                    struct mz_str value, const char *raw);

static inline __attribute__((always_inline)) bool add_field(const struct reading *r,
                                                            enum mz_header_id id,
                                                            struct mz_str name, struct mz_str value,
                                                            const char *raw)
{
    bool keep = true;
    if (noted[id]) {
        if (id == MZ_H_HOST && !r->c->client)
            return host_field(r->c, value, raw);
        if (!note_field(&r->c->head, id, value, &keep))
            return h1_fail(r->c, 400, "http1.codec_error");
    }
    if (keep) {
        struct mz_header *e = mz_headers_add_raw(r->h, name, value, (uint8_t)id);
        if (MZ_UNLIKELY(raw != NULL))
            e->raw = raw;
    }
    return true;
}

/* Why the byte at which a line stopped is wrong, in Envoy's words. */
static const char *bad_byte(char at)
{
    return at ? "http1.codec_error" : "http1.invalid_characters";
}

/* One field line: name, colon, value, its continuations. */
static inline __attribute__((always_inline)) bool field(struct reading *r, struct text *t,
                                                        bool bare_lf, add_fn *add)
{
    char *p = t->p, *q = h1_name_end(p), *next;
    if (*q != ':' || q == p)
        return h1_fail(r->c, 400, bad_byte(*q));
    char *v = q + 1;
    if (MZ_LIKELY(v[0] == ' ' && v[1] > ' '))
        v++;
    else
        while (blank(*v))
            v++;
    char *e = h1_value_end(v);
    next = line_end(e, bare_lf);
    if (next && MZ_UNLIKELY(blank(*next))) {
        e = unfold(e, &next, bare_lf);
        while (e && v < e && blank(*v)) /* of a first line without a value */
            v++;
    }
    if (!next || !e)
        return h1_fail(r->c, 400, "http1.invalid_characters");
    while (e > v && (unsigned char)e[-1] <= ' ') /* a value holds no other byte below */
        e--;
    t->p = next;
    struct mz_str name = { p, (size_t)(q - p) }, value = { v, (size_t)(e - v) };
    bool keep = true;
    if (++r->n > r->max)
        return h1_fail(r->c, 431, "http1.too_many_headers");
    if (MZ_UNLIKELY(r->underscores)) {
        bool ok = underscore(r->c, name, &keep);
        if (!ok || !keep)
            return ok; /* refused, or dropped: no known name has one */
    }
    const char *raw = MZ_UNLIKELY(t->raw != NULL) ? t->raw + (p - t->base) : NULL;
    return add(r, mz_header_id(name), name, value, raw);
}

/* Inlined with the function given, so that the loop over a head's fields has no indirect call. */
static inline __attribute__((always_inline)) bool fields(struct h1 *c, struct text *t, bool bare_lf,
                                                         add_fn *add)
{
    struct reading r = { c, c->headers, c->head.n_fields, c->o->max_headers_count,
                         checks_underscores(c) };
    bool ok = true;
    while (ok && !line_end(t->p, bare_lf))
        ok = field(&r, t, bare_lf, add);
    c->head.n_fields = r.n;
    mz_headers_join_repeated(c->headers);
    return ok;
}

/* ---- requests ---- */

struct request_line {
    struct mz_str method, target, version; /* version is empty in HTTP/0.9 form */
};

static bool method_ok(const struct h1 *c, struct mz_str m)
{
    if (mz_str_eq(m, MZ_STR("GET")) || mz_str_eq(m, MZ_STR("POST")))
        return true;
    return c->o->allow_custom_methods ? mz_header_name_valid(m) : mz_method_known(m);
}

/* RFC 9112 3; several blanks between the parts are tolerated (B11), everything else is exact. */
static bool request_line(struct text *t, struct request_line *out)
{
    char *p = t->p, *part[3] = { p, p, p };
    size_t len[3] = { 0, 0, 0 };
    for (int i = 0; i < 3; i++) {
        part[i] = p;
        p = h1_word_end(p);
        len[i] = (size_t)(p - part[i]);
        if (i < 2 && len[i])
            while (*p == ' ')
                p++;
    }
    t->p = line_end(p, true);
    out->method = (struct mz_str){ part[0], len[0] };
    out->target = (struct mz_str){ part[1], len[1] };
    out->version = (struct mz_str){ part[2], len[2] };
    return t->p && len[0] && len[1];
}

/* "HTTP/d.d", or empty for HTTP/0.9. *out_minor is 1 for HTTP/1.1, 0 for HTTP/1.0 and 0.9, -1 for the others. */
static bool version_parse(struct mz_str v, int *out_minor)
{
    *out_minor = -1;
    if (v.n == 0) {
        *out_minor = 0;
        return true;
    }
    bool digits = v.n == 8 && v.p[5] >= '0' && v.p[5] <= '9' && v.p[7] >= '0' && v.p[7] <= '9';
    if (!digits || memcmp(v.p, "HTTP/", 5) != 0 || v.p[6] != '.')
        return false;
    if (v.p[5] == '1' && v.p[7] <= '1')
        *out_minor = v.p[7] - '0';
    return true;
}

/* Puts :path, and what an absolute form says, in front (RFC 9112 3.2). */
static bool target_set(struct h1 *c, struct mz_str target, struct mz_header *authority)
{
    struct mz_url url;
    bool path = target.p[0] == '/' || (mz_str_eq(target, MZ_STR("*")) &&
                                       mz_str_eq(mz_headers_method(c->headers), MZ_STR("OPTIONS")));
    if (c->is_connect) {
        struct mz_host_port hp;
        if (!mz_authority_valid(target) || !mz_host_port_parse(target, &hp) || hp.port == 0)
            return h1_fail(c, 400, "http1.invalid_url");
        authority->value = target;
        c->head.n_host = 1;
        return true;
    }
    if (path || !c->o->allow_absolute_url)
        return true;
    if (!mz_url_parse(target, &url))
        return h1_fail(c, 400, "http1.invalid_url");
    if (!mz_str_ieq(url.scheme, MZ_STR("http")) && !mz_str_ieq(url.scheme, MZ_STR("https")))
        return h1_fail(c, 400, "http1.invalid_scheme");
    authority->value = url.authority; /* wins over Host (B07) */
    c->head.n_host = 1;
    bool https = url.scheme.n == 5;
    if (https && c->o->refuse_https_on_plain && !c->sink.secure)
        return h1_fail(c, 403, "http1.https_url_on_plaintext_connection");
    mz_headers_set_id(c->headers, MZ_H_SCHEME, https ? MZ_STR("https") : MZ_STR("http"));
    struct mz_str parts[2] = { MZ_STR("/"), url.path };
    struct mz_str full = url.path;
    if (url.path.n == 0)
        full = parts[0];
    else if (url.path.p[0] != '/')
        full = mz_arena_cat(c->in.arena, 2, parts);
    mz_headers_set_id(c->headers, MZ_H_PATH, full);
    return true;
}

/* Envoy's parser refuses what is neither a path, "*", nor scheme://..., before anything else looks at it (B10). */
static bool target_form(const struct h1 *c, struct mz_str target)
{
    if (c->is_connect || target.p[0] == '/' || target.p[0] == '*')
        return true;
    return mz_str_find(target, MZ_STR("://")) > 0;
}

/* "Upgrade: h2c" is not offered: taken out, the request is an ordinary one (A24). */
static void strip_h2c(struct h1 *c)
{
    struct mz_headers *h = c->headers;
    struct mz_str all = MZ_STR(""), keep = MZ_STR("");
    (void)mz_headers_joined(h, MZ_STR("connection"), &all);
    for (struct mz_str e; mz_list_next(&all, &e);) {
        if (mz_str_ieq(e, MZ_STR("upgrade")) || mz_str_ieq(e, MZ_STR("http2-settings")))
            continue;
        struct mz_str parts[3] = { keep, MZ_STR(","), e };
        keep = keep.n ? mz_arena_cat(c->in.arena, 3, parts) : e;
    }
    if (keep.n)
        mz_headers_set_id(h, MZ_H_CONNECTION, keep);
    else
        mz_headers_remove_id(h, MZ_H_CONNECTION);
    mz_headers_remove_id(h, MZ_H_UPGRADE);
    mz_headers_remove_id(h, MZ_H_HTTP2_SETTINGS);
    c->head.upgrade = false;
}

enum nominated { PLAIN, STAY, REFUSE };
/* What a client nominates in Connection is removed, except what the proxy and its policies rely on (B17, A08). */
static enum nominated nominated(struct mz_str name)
{
    static const struct {
        struct mz_str name;
        enum nominated what;
    } table[] = {
        { MZ_STR_INIT("close"), STAY },
        { MZ_STR_INIT("keep-alive"), STAY },
        { MZ_STR_INIT("upgrade"), STAY },
        { MZ_STR_INIT("http2-settings"), STAY },
        { MZ_STR_INIT("connection"), STAY },
        { MZ_STR_INIT("te"), STAY },
        { MZ_STR_INIT("transfer-encoding"), STAY },
        { MZ_STR_INIT("content-length"), STAY },
        { MZ_STR_INIT("cookie"), STAY },
        { MZ_STR_INIT("authorization"), STAY },
        { MZ_STR_INIT("x-request-id"), STAY },
        { MZ_STR_INIT("host"), REFUSE },
        { MZ_STR_INIT("forwarded"), REFUSE },
    };
    for (size_t i = 0; i < MZ_COUNT(table); i++)
        if (mz_str_eq(name, table[i].name))
            return table[i].what;
    if (name.p[0] == ':' || mz_str_starts(name, MZ_STR("x-forwarded-")))
        return REFUSE;
    return mz_str_starts(name, MZ_STR("x-envoy-")) ? STAY : PLAIN;
}

static bool connection_sanitize(struct h1 *c)
{
    struct mz_str list = MZ_STR("");
    unsigned n = 0;
    (void)mz_headers_joined(c->headers, MZ_STR("connection"), &list);
    for (struct mz_str e; mz_list_next(&list, &e);) {
        char *low = mz_arena_alloc(c->in.arena, e.n);
        for (size_t i = 0; i < e.n; i++)
            low[i] = mz_lower(e.p[i]);
        struct mz_str name = { low, e.n };
        enum nominated what = nominated(name);
        if (++n >= H1_NOMINATED_MAX || what == REFUSE)
            return h1_fail(c, 400, "http1.connection_header_rejected");
        if (what == PLAIN)
            mz_headers_remove(c->headers, name);
    }
    return true;
}

/* Only "trailers" of TE goes further (RFC 9110 10.1.4). */
static void te_sanitize(struct h1 *c)
{
    struct mz_str te;
    if (!mz_headers_get_id(c->headers, MZ_H_TE) ||
        !mz_headers_joined(c->headers, MZ_STR("te"), &te))
        return;
    if (mz_list_has(te, MZ_STR("trailers")))
        mz_headers_set_id(c->headers, MZ_H_TE, MZ_STR("trailers"));
    else
        mz_headers_remove_id(c->headers, MZ_H_TE);
}

/* RFC 9112 6.1: ambiguous framing is refused (A01-A07). */
static bool framing_ok(struct h1 *c)
{
    struct h1_head *hd = &c->head;
    if (hd->n_te && c->base.protocol == MZ_HTTP10 && !c->client)
        return h1_fail(c, 400, "http1.transfer_encoding_not_allowed");
    if (hd->n_te && hd->n_length) {
        if (!hd->te_chunked || !c->o->allow_chunked_length)
            return h1_fail(c, 400, "http1.content_length_and_chunked_not_allowed");
        mz_headers_remove_id(c->headers, MZ_H_CONTENT_LENGTH);
        hd->n_length = 0;
        hd->close = true;
    }
    if (hd->n_te && (!hd->te_chunked || c->is_connect))
        return h1_fail(c, 501, "http1.invalid_transfer_encoding");
    return true;
}

static bool connect_length(struct h1 *c)
{
    if (c->is_connect && c->head.n_length) {
        if (c->head.length)
            return h1_fail(c, 400, "http1.body_disallowed");
        mz_headers_remove_id(c->headers, MZ_H_CONTENT_LENGTH);
        c->head.n_length = 0;
    }
    return true;
}

static bool is_upgrade(const struct h1 *c)
{
    return c->head.upgrade && c->base.protocol == MZ_HTTP11 &&
           mz_headers_value_id(c->headers, MZ_H_UPGRADE).n > 0;
}

/* HTTP/1.0 and 0.9 only where configured; there a default host may stand in. */
static bool version_ok(struct h1 *c, int minor)
{
    if (minor != 1 && (minor < 0 || !c->o->accept_http10))
        return h1_fail(c, 426, "low_version");
    if (minor == 0 && c->head.n_host == 0 && c->o->default_host_http10.n) {
        mz_headers_set_id(c->headers, MZ_H_AUTHORITY, c->o->default_host_http10);
        c->head.n_host = 1;
    }
    return true;
}

static bool host_ok(const struct h1 *c, struct mz_str host)
{
    bool received =
        host.p !=
        c->o->default_host_http10.p; /* lies in the head, with what is readable behind it */
    return received ? h1_host_valid(host.p, host.n) : mz_authority_valid(host);
}

static bool request_finish(struct h1 *c, struct mz_str target, int minor)
{
    struct mz_header *authority = mz_headers_get_id(c->headers, MZ_H_AUTHORITY);
    if (is_upgrade(c)) {
        struct mz_str to = mz_headers_value_id(c->headers, MZ_H_UPGRADE);
        if (c->o->ignore_upgrade_h2c && mz_str_ieq(to, MZ_STR("h2c")))
            strip_h2c(c);
        else
            c->is_upgrade = true;
    }
    if (!connect_length(c) || !framing_ok(c))
        return false;
    if (c->head.n_connection && !c->is_upgrade && !connection_sanitize(c))
        return false;
    te_sanitize(c);
    if (!target_set(c, target, authority) || !version_ok(c, minor))
        return false;
    if (!host_ok(c, authority->value))
        return h1_fail(c, 400, "http.invalid_authority");
    if (c->head.n_host == 0)
        mz_headers_remove_id(c->headers, MZ_H_AUTHORITY);
    return true;
}

bool h1_request_head(struct h1 *c, struct mz_buf *in, size_t n)
{
    struct text t = take(c, in, n);
    struct request_line line = { .method = { NULL, 0 } };
    int minor;
    const struct mz_str start = { t.p, n < H1_START_LOOK ? n : H1_START_LOOK };
    bool whole = request_line(&t, &line);
    count_fields(c, &t, t.p, n);
    if (!whole || !method_ok(c, line.method) || !version_parse(line.version, &minor)) {
        const char *error = h1_request_start_error(c, start); /* as if it had come in pieces */
        return h1_fail(c, 400, error ? error : "http1.codec_error");
    }
    c->is_connect = mz_str_eq(line.method, MZ_STR("CONNECT"));
    c->is_head = mz_str_eq(line.method, MZ_STR("HEAD"));
    if (!target_form(c, line.target))
        return h1_fail(c, 400, "http1.codec_error");
    /* Until the version is accepted the answer is written as HTTP/1.1. */
    c->base.protocol = minor == 0 && c->o->accept_http10 ? MZ_HTTP10 : MZ_HTTP11;
    c->headers = mz_headers_create(c->in.arena);
    c->headers->keeps_case = c->o->header_case == MZ_CASE_PRESERVE;
    mz_headers_add_id(c->headers, MZ_H_METHOD, line.method);
    mz_headers_add_id(c->headers, MZ_H_AUTHORITY, MZ_STR(""));
    if (!c->is_connect)
        mz_headers_add_id(c->headers, MZ_H_PATH, line.target);
    if (!fields(c, &t, true, add_field))
        return false;
    c->enc.header_in -= c->head.n_fields; /* Envoy counts one byte less for each field it reads */
    c->head.read = true;
    return request_finish(c, line.target, minor);
}

const char *h1_request_start_error(const struct h1 *c, struct mz_str start)
{
    size_t n = 0;
    while (n < start.n && start.p[n] > ' ')
        n++;
    struct mz_str method = { start.p, n };
    bool part = n == start.n, ok;
    if (part)
        ok = c->o->allow_custom_methods ? mz_header_name_valid(method) : mz_method_prefix(method);
    else
        ok = method_ok(c, method);
    if (!ok)
        return "http1.codec_error";
    if (!part && start.p[n] != ' ')
        return bad_byte(start.p[n]);
    for (; n < start.n && start.p[n] != '\r' && start.p[n] != '\n'; n++)
        if (start.p[n] < 0x20 || start.p[n] == 0x7f) /* a char above 0x7f is negative */
            return bad_byte(start.p[n]);
    return NULL;
}

/* ---- responses ---- */

static bool status_line(struct h1 *c, struct text *t)
{
    char *p = t->p, *e = h1_value_end(p);
    struct mz_str line = { p, (size_t)(e - p) };
    t->p = line_end(e, true);
    bool version = line.n >= 12 && memcmp(p, "HTTP/1.", 7) == 0 && (p[7] == '0' || p[7] == '1');
    if (!t->p || !version || p[8] != ' ' || (line.n > 12 && p[12] != ' '))
        return false;
    unsigned status = 0;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        status = status * 10 + (unsigned)(p[i] - '0');
    }
    c->status = status;
    c->base.protocol = p[7] == '1' ? MZ_HTTP11 : MZ_HTTP10;
    c->headers = mz_headers_create(c->in.arena);
    c->headers->keeps_case = c->o->header_case == MZ_CASE_PRESERVE;
    mz_headers_add_id(c->headers, MZ_H_STATUS, (struct mz_str){ p + 9, 3 });
    if (c->o->forward_reason_phrase && line.n > 13)
        c->headers->reason = (struct mz_str){ p + 13, line.n - 13 };
    return status >= 100;
}

/* RFC 9110 8.6, RFC 9112 6.1: 1xx and 204 have no framing fields; a zero length is papered over. */
static bool bodiless_ok(struct h1 *c)
{
    struct h1_head *hd = &c->head;
    if (c->status >= 200 && c->status != 204)
        return true;
    if (hd->n_te)
        return h1_fail(c, 502, "http1.transfer_encoding_not_allowed");
    if (hd->n_length && hd->length)
        return h1_fail(c, 502, "http1.content_length_not_allowed");
    mz_headers_remove_id(c->headers, MZ_H_CONTENT_LENGTH);
    hd->n_length = 0;
    return true;
}

bool h1_response_head(struct h1 *c, struct mz_buf *in, size_t n)
{
    struct text t = take(c, in, n);
    bool valid = status_line(c, &t);
    count_fields(c, &t, t.p, n);
    if (!valid)
        return h1_fail(c, 502, "http1.codec_error");
    if (!fields(c, &t, true, add_field) || !framing_ok(c) || !bodiless_ok(c))
        return false;
    c->enc.header_in -= c->head.n_fields;                       /* as in requests */
    if (c->status == 101 && (!c->is_upgrade || !is_upgrade(c))) /* nobody asked for it (F07) */
        return h1_fail(c, 502, "http1.unexpected_upgrade");
    return true;
}

const char *h1_response_start_error(struct mz_str start)
{
    struct mz_str known = { "HTTP/1.", start.n < 7 ? start.n : 7 };
    return mz_str_starts(start, known) ? NULL : "http1.codec_error";
}

/* ---- trailers ---- */

/* Fields that frame or route a message are dropped, whoever allows trailers (A17). */
static bool trailer_forbidden(enum mz_header_id id)
{
    static const uint8_t ids[] = {
        MZ_H_CONTENT_LENGTH,
        MZ_H_TRANSFER_ENCODING,
        MZ_H_HOST,
        MZ_H_CONNECTION,
        MZ_H_TE,
        MZ_H_TRAILER,
        MZ_H_UPGRADE,
        MZ_H_KEEP_ALIVE,
        MZ_H_PROXY_CONNECTION,
        MZ_H_AUTHORIZATION,
        MZ_H_EXPECT,
        MZ_H_CONTENT_ENCODING,
        MZ_H_CONTENT_TYPE,
        MZ_H_SET_COOKIE,
        MZ_H_COOKIE,
    };
    return id && memchr(ids, id, sizeof(ids));
}

static bool add_trailer(const struct reading *r, enum mz_header_id id, struct mz_str name,
                        struct mz_str value, const char *raw)
{
    if (!trailer_forbidden(id))
        mz_headers_add_raw(r->h, name, value, (uint8_t)id)->raw = raw;
    return true;
}

struct mz_headers *h1_trailers(struct h1 *c, struct mz_buf *in, size_t n)
{
    struct text t = take(c, in, n);
    count_fields(c, &t, NULL, n);
    c->head.n_fields = 0;
    c->headers = mz_headers_create(c->in.arena);
    c->headers->keeps_case = c->o->header_case == MZ_CASE_PRESERVE;
    return fields(c, &t, false, add_trailer) ? c->headers : NULL;
}
