/* http_inspector (L2): which version of HTTP do the first bytes of a plain connection speak? Nothing is consumed. */
#include "filters/listener/listener_filters.h"
#include "http/validate.h"
#include "proto/mapper.h"
#include "stats/stats.h"

#include <string.h>

#define LINE_BYTES 8192 /* bytes of a request line */

enum { S_HTTP10, S_HTTP11, S_HTTP2, S_NONE, S_READ_ERROR };
static const struct mz_stat_def defs[] = { { "http10_found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                           { "http11_found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                           { "http2_found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                           { "http_not_found", MZ_COUNTER, MZ_UNIT_NONE, 0 },
                                           { "read_error", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_kind kind = { "http_inspector", defs, MZ_COUNT(defs) };

struct inspector_cfg {
    struct mz_scope *scope;
};

static void *build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)msg;
    (void)err;
    struct inspector_cfg *c = mz_new0(MZ_MEM_CONFIG, struct inspector_cfg);
    c->scope = mz_scope_create(f->stats, &kind, MZ_STR("http_inspector."));
    return c;
}

static void destroy(void *cfg)
{
    struct inspector_cfg *c = cfg;
    mz_scope_unref(c->scope);
    mz_free(MZ_MEM_CONFIG, c);
}

static enum mz_lfilter_flow on_accept(struct mz_lfilter *f)
{
    return mz_str_eq(f->in->transport, MZ_STR("raw_buffer"))
               ? MZ_LF_STOP
               : MZ_LF_CONTINUE; /* sealed: nothing to see */
}

static enum mz_lfilter_flow done(struct mz_lfilter *f, unsigned stat, struct mz_str protocol)
{
    const struct inspector_cfg *c = f->cfg;
    mz_count(c->scope, stat, 1);
    if (protocol.n) {
        f->in->protocols = mz_arena_alloc(f->in->arena, sizeof(struct mz_str));
        f->in->protocols[0] = protocol;
        f->in->n_protocols = 1;
    }
    return MZ_LF_CONTINUE;
}

/* Of the line's words the first must be a method, the last tells the version. */
static enum mz_lfilter_flow line(struct mz_lfilter *f, struct mz_str l)
{
    if (l.n && l.p[l.n - 1] == '\r')
        l.n--;
    const char *space = memchr(l.p, ' ', l.n), *last = memrchr(l.p, ' ', l.n);
    if (!space || space == last || !mz_method_known((struct mz_str){ l.p, (size_t)(space - l.p) }))
        return done(f, S_NONE, MZ_STR(""));
    struct mz_str version = { last + 1, l.n - (size_t)(last + 1 - l.p) };
    if (mz_str_eq(version, MZ_STR("HTTP/1.0")))
        return done(f, S_HTTP10, MZ_STR("http/1.0"));
    if (mz_str_eq(version, MZ_STR("HTTP/1.1")))
        return done(f, S_HTTP11, MZ_STR("http/1.1"));
    return done(f, S_NONE, MZ_STR(""));
}

static enum mz_lfilter_flow on_data(struct mz_lfilter *f, struct mz_str bytes, bool end)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t n = bytes.n < sizeof(preface) - 1 ? bytes.n : sizeof(preface) - 1;
    if (bytes.n && memcmp(bytes.p, preface, n) == 0) {
        if (n == sizeof(preface) - 1)
            return done(f, S_HTTP2, MZ_STR("h2c"));
        return end ? done(f, S_NONE, MZ_STR("")) : MZ_LF_STOP;
    }
    const char *eol = bytes.n ? memchr(bytes.p, '\n', bytes.n) : NULL;
    if (eol)
        return line(f, (struct mz_str){ bytes.p, (size_t)(eol - bytes.p) });
    /* No method begins like this: no need to wait for the line's end. */
    const char *space = bytes.n ? memchr(bytes.p, ' ', bytes.n) : NULL;
    struct mz_str word = { bytes.p, space ? (size_t)(space - bytes.p) : bytes.n };
    if (bytes.n && !(space ? mz_method_known(word) : mz_method_prefix(word)))
        return done(f, S_NONE, MZ_STR(""));
    return end || bytes.n >= LINE_BYTES ? done(f, S_NONE, MZ_STR("")) : MZ_LF_STOP;
}

static size_t want(const struct mz_lfilter *f)
{
    (void)f;
    return LINE_BYTES;
}

const struct mz_lfilter_type mz_lfilter_http_inspector = {
    .name = "envoy.filters.listener.http_inspector",
    .config_type = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    .size = sizeof(struct mz_lfilter),
    .config_build = build,
    .config_destroy = destroy,
    .on_accept = on_accept,
    .on_data = on_data,
    .want = want,
};
