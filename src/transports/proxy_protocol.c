/*
 * envoy.transport_sockets.upstream_proxy_protocol (U8): an upstream learns whose connection it is. The header is the first
 * thing on the wire, before the handshake of an inner TLS; the connection stands when it is written.
 */
#include <errno.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "net/addr.h"
#include "proto/mapper.h"
#include "transports/transports.h"
#include "transports/wrap.h"

#define TLVS_MAX (65535 - 36) /* behind the addresses of IPv6 */

enum { STAT_TLVS_CUT };
static const struct mz_stat_def stat_defs[] = {
    [STAT_TLVS_CUT] = { "v2_tlvs_exceed_max_length", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "upstream_proxy_protocol", stat_defs,
                                           MZ_COUNT(stat_defs) };

struct proxy_factory {
    struct mz_transport_factory base;
    struct mz_arena *arena;
    struct mz_scope *scope;
    unsigned version;
    bool pass_all, pass[256]; /* types of TLVs that came */
    bool added_type[256];
    struct mz_str added; /* TLVs as on the wire */
};
struct proxy_transport {
    struct wrap w;
    struct proxy_factory *f;     /* reference */
    struct mz_transport_opts *o; /* copy; NULL: no client stands behind */
    char *head;
    size_t at, n;
    bool built, sent;
};

static struct proxy_transport *of(const struct mz_transport *t)
{
    return (struct proxy_transport *)(void *)wrap_of(t);
}

/* ---- the header ---- */

static void tlv_append(struct mz_buf *b, uint8_t type, struct mz_str value)
{
    const char head[3] = { (char)type, (char)(value.n >> 8), (char)value.n };
    mz_buf_append(b, head, sizeof(head));
    mz_buf_append_str(b, value);
}

/* Those of the configuration first; of the client's what may pass and is not among them. What does not fit is left out. */
static void tlvs_gather(const struct proxy_transport *p, struct mz_buf *b)
{
    struct mz_str rest = p->o->tlvs;
    bool cut = false;
    mz_buf_append_str(b, p->f->added);
    while (rest.n >= 3) {
        size_t n = (size_t)(unsigned char)rest.p[1] << 8 | (unsigned char)rest.p[2];
        uint8_t type = (uint8_t)rest.p[0];
        if (n > rest.n - 3)
            break;
        bool passes = (p->f->pass_all || p->f->pass[type]) && !p->f->added_type[type];
        bool fits = mz_buf_len(b) + 3 + n <= TLVS_MAX;
        if (passes && fits)
            tlv_append(b, type, (struct mz_str){ rest.p + 3, n });
        cut |= passes && !fits;
        rest = mz_str_skip(rest, 3 + n);
    }
    if (cut) {
        mz_count(p->f->scope, STAT_TLVS_CUT, 1);
        MZ_LOG(WARN, upstream, "PROXY protocol: not all TLVs fit into the header");
    }
}

static void build(struct proxy_transport *p)
{
    const struct mz_conn *c = p->w.base.conn;
    struct mz_proxy_emit e = { .version = p->f->version };
    struct mz_buf tlvs;
    bool cut;
    mz_buf_init(&tlvs);
    if (p->o) {
        e.source = p->o->source;
        e.destination = p->o->destination;
        if (e.version == 2)
            tlvs_gather(p, &tlvs);
        e.tlvs = mz_buf_linearize(&tlvs, mz_buf_len(&tlvs));
    } else if (e.version == 1) { /* nobody's but ours: a health check */
        e.source = &c->local;
        e.destination = &c->remote;
    }
    p->head = mz_alloc(MZ_MEM_CONN, 256 + e.tlvs.n);
    p->n = mz_proxy_emit(&e, p->head, &cut);
    p->built = true;
    mz_buf_fini(&tlvs);
}

static enum mz_io_status flush_head(struct proxy_transport *p)
{
    struct mz_conn *c = p->w.base.conn;
    while (p->at < p->n) {
        const struct iovec v = { p->head + p->at, p->n - p->at };
        ssize_t sent = mz_conn_writev(c, &v, 1);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? MZ_IO_AGAIN : MZ_IO_FAIL;
        p->at += (size_t)sent;
        c->tx_bytes += (uint64_t)sent;
        if (c->stats.scope && c->stats.tx_total != MZ_STAT_NONE)
            mz_count(c->stats.scope, c->stats.tx_total, (uint64_t)sent);
    }
    mz_free(MZ_MEM_CONN, p->head);
    p->head = NULL;
    p->sent = true;
    return MZ_IO_OK;
}

/* ---- the transport ---- */

static void connected(struct mz_transport *t)
{
    struct proxy_transport *p = of(t);
    build(p);
    if (flush_head(p) == MZ_IO_OK)
        wrap_connected(t);
    else
        mz_conn_write_blocked(
            t->conn); /* an error shows itself at the next write, which a reset wakes */
}

static enum mz_io_status proxy_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    struct proxy_transport *p = of(t);
    if (!p->sent) {
        enum mz_io_status st = flush_head(p);
        if (st != MZ_IO_OK)
            return st;
        wrap_connected(t);
    }
    return wrap_write(t, out, end);
}

static enum mz_io_status proxy_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    return of(t)->sent ? wrap_read(t, in, max) : MZ_IO_AGAIN;
}

static bool ready(const struct mz_transport *t)
{
    return of(t)->sent && wrap_ready(t);
}

static bool pending(const struct mz_transport *t)
{
    return (of(t)->built && !of(t)->sent) || wrap_pending(t);
}

static bool raw(const struct mz_transport *t)
{
    return of(t)->sent && wrap_raw(t);
}

static void proxy_close(struct mz_transport *t, bool reset)
{
    if (of(t)->sent)
        wrap_close(t, reset);
}

static void transport_destroy(struct mz_transport *t)
{
    struct proxy_transport *p = of(t);
    wrap_fini(&p->w);
    mz_free(MZ_MEM_CONN, p->head);
    mz_transport_opts_destroy(p->o);
    mz_transport_factory_unref(&p->f->base);
    mz_free(MZ_MEM_CONN, p);
}

static const struct mz_transport_ops ops = {
    .name = "upstream_proxy_protocol",
    .read = proxy_read,
    .write = proxy_write,
    .connected = connected,
    .ready = ready,
    .failure = wrap_failure,
    .protocol = wrap_protocol,
    .tls = wrap_tls,
    .pending = pending,
    .raw = raw,
    .pass = wrap_pass,
    .close = proxy_close,
    .destroy = transport_destroy,
};

static struct mz_transport *transport_create(const struct mz_transport_factory *base,
                                             const struct mz_transport_opts *o)
{
    struct proxy_transport *p = mz_new0(MZ_MEM_CONN, struct proxy_transport);
    p->f = (struct proxy_factory *)(void *)mz_transport_factory_ref(base);
    p->o = mz_transport_opts_copy(o, MZ_TRANSPORT_USES_CLIENT);
    wrap_init(&p->w, &ops, base->inner->create(base->inner, o));
    return &p->w.base;
}

/* ---- the factory ---- */

static void factory_destroy(struct mz_transport_factory *base)
{
    struct proxy_factory *f = (struct proxy_factory *)(void *)base;
    mz_transport_factory_unref(base->inner);
    mz_scope_unref(f->scope);
    mz_arena_destroy(f->arena);
}

static bool added_build(const pb_ProxyProtocolConfig *m, struct proxy_factory *f,
                        struct mz_err *err)
{
    struct mz_buf b;
    bool ok = true;
    mz_buf_init(&b);
    for (size_t i = 0; ok && i < m->n_added_tlvs; i++) {
        const pb_TlvEntry *e = m->added_tlvs[i];
        if (e->format_string || !e->value.len) {
            ok = mz_err_set(err, e->format_string ? "format_string is not taken here"
                                                  : "a value is required") ||
                 mz_err_at(err, "added_tlvs[%zu]", i);
        } else {
            f->added_type[e->type] = true;
            tlv_append(&b, (uint8_t)e->type,
                       (struct mz_str){ (const char *)e->value.data, e->value.len });
        }
    }
    if (ok && mz_buf_len(&b) > TLVS_MAX)
        ok = mz_err_set(err, "must have at most %d bytes together", TLVS_MAX) ||
             mz_err_at(err, "added_tlvs");
    f->added = mz_arena_dup(f->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return ok;
}

static bool config_build(const pb_ProxyProtocolConfig *m, struct proxy_factory *f,
                         struct mz_err *err)
{
    f->version = m && m->version == pb_ProxyProtocolConfig_Version_V2 ? 2 : 1;
    const pb_ProxyProtocolPassThroughTLVs *pass = m ? m->pass_through_tlvs : NULL;
    f->pass_all =
        pass && pass->match_type == pb_ProxyProtocolPassThroughTLVs_PassTLVsMatchType_INCLUDE_ALL;
    for (size_t i = 0; pass && i < pass->n_tlv_type; i++)
        f->pass[pass->tlv_type[i] & 0xff] = true;
    return !m || added_build(m, f, err) || mz_err_at(err, "config");
}

struct mz_transport_factory *
mz_transport_proxy_create(const pb_ProxyProtocolUpstreamTransport *m,
                          const struct mz_transport_factory *take_inner, struct mz_stats *st,
                          struct mz_str prefix, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct proxy_factory *f = mz_arena_new0(a, struct proxy_factory);
    wrap_factory_init(&f->base, "upstream_proxy_protocol", take_inner);
    f->base.uses |= MZ_TRANSPORT_USES_CLIENT;
    f->base.create = transport_create;
    f->base.destroy = factory_destroy;
    f->arena = a;
    f->scope = mz_scope_create(
        st, &stats,
        mz_arena_cat(a, 2, (struct mz_str[]){ prefix, MZ_STR("upstream.proxyprotocol.") }));
    if (config_build(m->config, f, err))
        return &f->base;
    mz_transport_factory_unref(&f->base);
    return NULL;
}
