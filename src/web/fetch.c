#include "web/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "http/codec.h"
#include "http/url.h"
#include "net/conn.h"
#include "net/dns.h"
#include "proto/names.h"
#include "tls/tls.h"

enum { MAX_REDIRECTS = 3, MAX_ADDRESSES = 8, MAX_URL = 2048, WHY = 300 };

struct mz_fetcher {
    struct mz_loop *loop;
    struct mz_dns *dns; /* made when the first name is asked for */
    struct mz_stats *stats;
    struct mz_transport_factory
        *tls; /* the same, of the first https; NULL: there are no authorities */
    struct mz_fetcher_opts o;
    struct mz_list all;
    bool tls_tried;
};
struct attempt {         /* a connection: outlives the fetch by the end of a turn */
    struct mz_fetch *of; /* NULL: nobody waits for it any more */
    struct mz_loop *loop;
    struct mz_conn *conn;
    struct mz_codec *codec;
    struct mz_stream_enc *enc;
    struct mz_arena *arena;
};
struct mz_fetch {
    struct mz_list link;
    struct mz_fetcher *f;
    struct mz_arena *arena; /* of the URL that is asked now */
    struct mz_url url;
    struct mz_host_port at;
    bool secure;
    unsigned redirects;
    struct mz_addr addresses[MAX_ADDRESSES];
    size_t addresses_n, next;
    struct mz_dns_query *query;
    struct attempt *attempt;
    struct mz_timer deadline, turn; /* turn: a failure that was found at once is told later */
    unsigned status;
    struct mz_buf body;
    char why[WHY];
    mz_fetch_done *done;
    void *arg;
};

static void ask(struct mz_fetch *r, struct mz_str url);
static void try_next(struct mz_fetch *r);

/* ---- ends ---- */

static void attempt_free(void *arg)
{
    struct attempt *t = arg;
    if (t->codec)
        t->codec->ops->destroy(t->codec);
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_CONN, t);
}

static void attempt_drop(struct mz_fetch *r)
{
    struct attempt *t = r->attempt;
    r->attempt = NULL;
    if (!t)
        return;
    t->of = NULL;
    t->enc = NULL;
    if (t->conn)
        mz_conn_close(t->conn, MZ_CLOSE_NOW, "fetch_done", 0);
}

static void fetch_free(void *arg)
{
    struct mz_fetch *r = arg;
    mz_buf_fini(&r->body);
    mz_arena_destroy(r->arena);
    mz_free(MZ_MEM_CONN, r);
}

static void fetch_end(struct mz_fetch *r)
{
    attempt_drop(r);
    if (r->query)
        mz_dns_cancel(r->query);
    r->query = NULL;
    mz_timer_stop(&r->deadline);
    mz_timer_stop(&r->turn);
    mz_list_del(&r->link);
    mz_loop_free_later(r->f->loop, r, fetch_free);
}

void mz_fetch_cancel(struct mz_fetch *r)
{
    if (r)
        fetch_end(r);
}

static void finish(struct mz_fetch *r, const char *why)
{
    mz_fetch_done *done = r->done;
    void *arg = r->arg;
    const struct mz_str body = why ? MZ_STR("") : mz_buf_linearize(&r->body, mz_buf_len(&r->body));
    fetch_end(r);
    done(arg, why, body); /* what it is given lives to the end of the turn */
}

__attribute__((format(printf, 2, 3))) static void fail(struct mz_fetch *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(r->why, sizeof(r->why), fmt, ap);
    va_end(ap);
    finish(r, r->why);
}

/* ---- where nobody may be sent ---- */

/* Link-local addresses, and those where clouds tell a machine its secrets. */
static bool is_blocked(const struct mz_fetcher *f, const struct mz_addr *a)
{
    struct mz_str rest = mz_str_c(f->o.blocked ? f->o.blocked : "");
    for (struct mz_str one; mz_str_split(&rest, ',', &one);) {
        const ptrdiff_t slash = mz_str_chr(one, '/');
        uint64_t bits = 0;
        struct mz_cidr c;
        struct mz_err err;
        if (slash > 0 && mz_str_u64(mz_str_skip(one, (size_t)slash + 1), &bits) && bits <= 128 &&
            mz_cidr_make(mz_str_trim((struct mz_str){ one.p, (size_t)slash }), (unsigned)bits, &c,
                         &err) &&
            mz_cidr_match(&c, a))
            return true;
    }
    return false;
}

static bool is_forbidden(const struct mz_fetcher *f, struct mz_addr a)
{
    static const struct {
        const char *prefix;
        unsigned bits;
    } ranges[] = { { "169.254.0.0", 16 }, { "fe80::", 10 },         { "100.100.100.200", 32 },
                   { "192.0.0.192", 32 }, { "fd00:ec2::254", 128 }, { "168.63.129.16", 32 } };
    mz_addr_unmap(&a);
    for (size_t i = 0; i < MZ_COUNT(ranges); i++) {
        struct mz_cidr c;
        struct mz_err err;
        if (mz_cidr_make(mz_str_c(ranges[i].prefix), ranges[i].bits, &c, &err) &&
            mz_cidr_match(&c, &a))
            return true;
    }
    return is_blocked(f, &a);
}

/* ---- the answer ---- */

static void redirect(struct mz_fetch *r, const struct mz_headers *h)
{
    struct mz_str to = mz_headers_value_id(h, MZ_H_LOCATION);
    if (!to.n || r->redirects++ == MAX_REDIRECTS) {
        fail(r, "status %u, %s", r->status, to.n ? "too many redirects" : "without a location");
        return;
    }
    if (to.p[0] == '/' && (to.n == 1 || to.p[1] != '/'))
        to = mz_arena_printf(r->arena, "%.*s://%.*s%.*s", MZ_STR_ARG(r->url.scheme),
                             MZ_STR_ARG(r->url.authority), MZ_STR_ARG(to));
    if (r->secure && !mz_str_starts(to, MZ_STR("https://"))) {
        fail(r, "a redirect from https to something else");
        return;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONN);
    const struct mz_str own = mz_arena_dup(a, to);
    attempt_drop(r);
    mz_arena_destroy(r->arena);
    r->arena = a;
    ask(r, own);
}

static void complete(struct mz_fetch *r)
{
    if (r->status >= 200 && r->status < 300)
        finish(r, NULL);
    else
        fail(r, "status %u", r->status);
}

static void in_headers(void *arg, struct mz_headers *h, bool end)
{
    struct attempt *t = arg;
    struct mz_fetch *r = t->of;
    if (!r)
        return;
    r->status = mz_headers_status(h);
    const bool moved = r->status == 301 || r->status == 302 || r->status == 303 ||
                       r->status == 307 || r->status == 308;
    if (moved)
        redirect(r, h);
    else if (end)
        complete(r);
}

static void in_data(void *arg, struct mz_buf *data, bool end)
{
    struct attempt *t = arg;
    struct mz_fetch *r = t->of;
    if (r && mz_buf_len(&r->body) + mz_buf_len(data) > r->f->o.max_bytes) {
        fail(r, "the answer has more than %zu bytes", r->f->o.max_bytes);
        r = NULL;
    }
    if (r)
        mz_buf_move(&r->body, data, mz_buf_len(data));
    mz_buf_drain(data, mz_buf_len(data));
    if (r && end)
        complete(r);
}

static void in_trailers(void *arg, struct mz_headers *h)
{
    struct attempt *t = arg;
    (void)h;
    if (t->of)
        complete(t->of);
}

static void in_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h;
}

static void in_reset(void *arg, enum mz_reset_reason reason, const char *details)
{
    struct attempt *t = arg;
    t->enc = NULL;
    if (t->of)
        fail(t->of, "%s", details ? details : mz_reset_reason_text(reason));
}

static void ignore(void *arg) /* the request fits the connection's buffer */
{
    (void)arg;
}
static const struct mz_stream_in_ops in_ops = { in_1xx,   in_headers, in_data, in_trailers,
                                                in_reset, ignore,     ignore };

/* ---- the connection ---- */

static void written(void *arg)
{
    struct attempt *t = arg;
    if (t->conn)
        mz_conn_written(t->conn, false);
}

static void read_disable(void *arg, bool disable)
{
    struct attempt *t = arg;
    if (t->conn)
        mz_conn_read_disable(t->conn, disable);
}

static void send_request(struct attempt *t)
{
    static const struct mz_http1_opts opts = { .enable_trailers = true,
                                               .accept_http10 = true,
                                               .max_headers_kb = 60,
                                               .max_headers_count = 100 };
    static const struct mz_http1_stats uncounted = { NULL, MZ_STAT_NONE, MZ_STAT_NONE, MZ_STAT_NONE,
                                                     MZ_STAT_NONE };
    const struct mz_codec_sink sink = {
        .out = mz_conn_out(t->conn), .written = written, .read_disable = read_disable, .arg = t
    };
    const struct mz_stream_in in = { &in_ops, t, t->arena };
    const struct mz_url *u = &t->of->url;
    struct mz_headers *h = mz_headers_create(t->arena);
    struct mz_str path = mz_arena_dup(t->arena, u->path.n ? u->path : MZ_STR("/"));
    const ptrdiff_t hash = mz_str_chr(path, '#');
    path.n = hash < 0 ? path.n : (size_t)hash;
    if (path.p[0] != '/')
        path = mz_arena_printf(t->arena, "/%.*s", MZ_STR_ARG(path));
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, mz_arena_dup(t->arena, u->authority));
    mz_headers_add_id(h, MZ_H_PATH, path);
    mz_headers_add_id(h, MZ_H_SCHEME, t->of->secure ? MZ_STR("https") : MZ_STR("http"));
    mz_headers_add_id(h, MZ_H_USER_AGENT, MZ_STR("mizzend"));
    mz_headers_add(h, MZ_STR("accept"), MZ_STR("application/json"));
    mz_headers_add_id(h, MZ_H_CONNECTION, MZ_STR("close"));
    t->codec = mz_http1_client_create(&opts, &uncounted, &sink);
    t->enc = mz_http1_client_request(t->codec, &in);
    t->enc->ops->encode_headers(t->enc, h, true);
}

static void conn_data(struct mz_conn *conn, void *arg, bool end)
{
    struct attempt *t = arg;
    struct mz_buf *in = mz_conn_in(conn);
    if (!t->codec || !t->of) {
        mz_buf_drain(in, mz_buf_len(in));
        return;
    }
    const enum mz_codec_status st = t->codec->ops->dispatch(t->codec, in, end);
    if (t->of && st != MZ_CODEC_OK)
        fail(t->of, "no answer of HTTP: %s",
             t->codec->error.details ? t->codec->error.details : "protocol error");
}

static void lost(struct mz_fetch *r, const struct mz_conn *c)
{
    char to[MZ_ADDR_TEXT];
    const struct mz_str tls = c->transport && c->transport->ops->failure
                                  ? c->transport->ops->failure(c->transport)
                                  : MZ_STR("");
    mz_addr_text(&r->addresses[r->next - 1], to);
    if (tls.n)
        (void)snprintf(r->why, sizeof(r->why), "%s: %.*s", to, (int)(tls.n > 200 ? 200 : tls.n),
                       tls.p);
    else
        (void)snprintf(r->why, sizeof(r->why), "%s: %s", to,
                       c->error ? strerrordesc_np(c->error) : "closed");
    try_next(r);
}

static void conn_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct attempt *t = arg;
    struct mz_fetch *r = t->of;
    if (ev == MZ_CONN_CONNECTED) {
        if (r)
            send_request(t);
        return;
    }
    t->conn = NULL;
    if (r && t->enc)
        t->codec->ops->conn_closed(
            t->codec, MZ_RESET_CONN_TERMINATED); /* tells, if the answer is not whole */
    else if (r && !t->codec) {
        r->attempt = NULL;
        t->of = NULL;
        lost(r, conn);
    }
    mz_loop_free_later(t->loop, t, attempt_free);
}
static const struct mz_conn_ops conn_ops = { .data = conn_data, .event = conn_event };

/* ---- TLS ---- */

static const char *authorities(const struct mz_fetcher *f)
{
    static const char *const known[] = { "/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem" };
    const char *said = f->o.authorities ? f->o.authorities : getenv("SSL_CERT_FILE");
    for (size_t i = 0; !said && i < MZ_COUNT(known); i++)
        if (access(known[i], R_OK) == 0)
            return known[i];
    return said;
}

static struct mz_transport_factory *tls_of(struct mz_fetcher *f)
{
    const char *file = f->tls_tried ? NULL : authorities(f);
    f->tls_tried = true;
    if (f->tls || !file)
        return f->tls;
    pb_DataSource roots = pb_DataSource__INIT;
    pb_CertificateValidationContext validation = pb_CertificateValidationContext__INIT;
    pb_CommonTlsContext common = pb_CommonTlsContext__INIT;
    pb_UpstreamTlsContext m = pb_UpstreamTlsContext__INIT;
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    roots.specifier_case = pb_DataSource_SPECIFIER_FILENAME;
    roots.filename = (char *)(uintptr_t)file;
    validation.trusted_ca = &roots;
    common.validation_context_type_case =
        pb_CommonTlsContext_VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
    common.validation_context = &validation;
    m.common_tls_context = &common;
    f->stats = mz_stats_create(1);
    const struct mz_tls_env env = { .stats = f->stats, .prefix = MZ_STR("cluster.fetch.") };
    f->tls = mz_tls_upstream_create(&m, &env, &err);
    if (!f->tls)
        MZ_LOG(WARN, config, "nothing can be fetched by https: %s",
               mz_err_text(&err, text, sizeof(text)));
    return f->tls;
}

static struct mz_transport *transport(struct mz_fetch *r)
{
    if (!r->secure)
        return mz_transport_raw();
    struct mz_transport_opts o = { .sni = r->at.host };
    o.sans.v = &r->at.host;
    o.sans.n = 1;
    struct mz_transport_factory *f = tls_of(r->f);
    return f ? f->create(f, &o) : NULL;
}

/* ---- addresses ---- */

static void try_next(struct mz_fetch *r)
{
    while (r->next < r->addresses_n && is_forbidden(r->f, r->addresses[r->next])) {
        char to[MZ_ADDR_TEXT];
        mz_addr_text(&r->addresses[r->next++], to);
        (void)snprintf(r->why, sizeof(r->why), "%s may not be dialled", to);
    }
    if (r->next == r->addresses_n) {
        finish(r, r->why);
        return;
    }
    struct mz_transport *with = transport(r);
    if (!with) {
        fail(r, "https needs authorities, and this system has none");
        return;
    }
    struct attempt *t = mz_new0(MZ_MEM_CONN, struct attempt);
    const struct mz_conn_connect_opts o = { .to = &r->addresses[r->next++] };
    t->of = r;
    t->loop = r->f->loop;
    t->arena = mz_arena_create(MZ_MEM_CONN);
    r->attempt = t;
    t->conn = mz_conn_connect(t->loop, &o, with, &conn_ops, t);
}

static void on_addresses(void *arg, bool ok, const char *why, const struct mz_dns_result *v,
                         size_t n)
{
    struct mz_fetch *r = arg;
    r->query = NULL;
    const uint16_t port = r->at.port ? r->at.port : r->secure ? 443 : 80;
    for (size_t i = 0; i < n && r->addresses_n < MAX_ADDRESSES; i++) {
        r->addresses[r->addresses_n] = v[i].addr;
        mz_addr_set_port(&r->addresses[r->addresses_n++], port);
    }
    (void)snprintf(r->why, sizeof(r->why), "%.*s: %s",
                   (int)(r->at.host.n > 200 ? 200 : r->at.host.n), r->at.host.p,
                   ok ? "has no address" : why);
    try_next(r);
}

static struct mz_dns *dns_of(struct mz_fetcher *f)
{
    const struct mz_dns_opts o = { .timeout_ms = 0 };
    struct mz_err err = { .path = "", .msg = "" };
    if (!f->dns && !(f->dns = mz_dns_create(f->loop, &o, &err)))
        MZ_LOG(WARN, config, "nothing can be fetched by name: %s", err.msg);
    return f->dns;
}

/* ---- asking ---- */

static bool take_url(struct mz_fetch *r, struct mz_str url)
{
    if (url.n > MAX_URL || !mz_url_parse(url, &r->url) ||
        !mz_host_port_parse(r->url.authority, &r->at))
        return false;
    r->secure = mz_str_ieq(r->url.scheme, MZ_STR("https"));
    return r->secure || mz_str_ieq(r->url.scheme, MZ_STR("http"));
}

/* @url lies in the fetch's arena. */
static void ask(struct mz_fetch *r, struct mz_str url)
{
    struct mz_dns_result literal = { 0 };
    r->addresses_n = r->next = 0;
    mz_buf_drain(&r->body, mz_buf_len(&r->body));
    if (!take_url(r, url)) {
        (void)snprintf(r->why, sizeof(r->why), "not a URL of http or https");
        mz_timer_start_ms(&r->turn, 0);
    } else if (mz_addr_parse_ip(r->at.host, 0, &literal.addr)) {
        const uint16_t port = r->at.port ? r->at.port : r->secure ? 443 : 80;
        r->addresses[r->addresses_n] = literal.addr;
        mz_addr_set_port(&r->addresses[r->addresses_n++], port);
        mz_timer_start_ms(&r->turn, 0);
    } else if (dns_of(r->f)) {
        r->query = mz_dns_resolve(r->f->dns, r->at.host, MZ_DNS_ALL, on_addresses, r);
    } else {
        (void)snprintf(r->why, sizeof(r->why), "names cannot be looked up");
        mz_timer_start_ms(&r->turn, 0);
    }
}

static void on_turn(struct mz_timer *t)
{
    try_next(MZ_CONTAINER(t, struct mz_fetch, turn));
}

static void on_deadline(struct mz_timer *t)
{
    fail(MZ_CONTAINER(t, struct mz_fetch, deadline), "no answer in time");
}

struct mz_fetch *mz_fetch_start(struct mz_fetcher *f, struct mz_str url, uint64_t timeout_ms,
                                mz_fetch_done *done, void *arg)
{
    struct mz_fetch *r = mz_new0(MZ_MEM_CONN, struct mz_fetch);
    r->f = f;
    r->arena = mz_arena_create(MZ_MEM_CONN);
    r->done = done;
    r->arg = arg;
    mz_buf_init(&r->body);
    mz_timer_init(f->loop, &r->deadline, on_deadline);
    mz_timer_init(f->loop, &r->turn, on_turn);
    mz_list_add_tail(&f->all, &r->link);
    mz_timer_start_ms(&r->deadline, timeout_ms);
    ask(r, mz_arena_dup(r->arena, url));
    return r;
}

struct mz_fetcher *mz_fetcher_create(struct mz_loop *l, const struct mz_fetcher_opts *o)
{
    struct mz_fetcher *f = mz_new0(MZ_MEM_CONN, struct mz_fetcher);
    f->loop = l;
    f->o = *o;
    mz_list_init(&f->all);
    return f;
}

void mz_fetcher_stop(struct mz_fetcher *f)
{
    if (!f)
        return;
    while (!mz_list_empty(&f->all))
        mz_fetch_cancel(MZ_CONTAINER(f->all.next, struct mz_fetch, link));
    if (f->dns)
        mz_dns_destroy(f->dns);
    f->dns = NULL;
}

void mz_fetcher_destroy(struct mz_fetcher *f)
{
    if (!f)
        return;
    if (f->tls)
        mz_transport_factory_unref(f->tls);
    if (f->stats)
        mz_stats_destroy(f->stats);
    mz_free(MZ_MEM_CONN, f);
}
