/* One proxy on the way: what it is asked, what it answers, how the request leaves it. */
#include <stdio.h>

#include "cli/explain.h"
#include "cli/fetch.h"
#include "http/query.h"

struct mz_str address_ip(struct mz_str address)
{
    const ptrdiff_t colon = mz_str_rchr(address, ':');
    struct mz_str ip = { address.p, colon < 0 ? address.n : (size_t)colon };
    if (ip.n > 1 && ip.p[0] == '[')
        ip = (struct mz_str){ ip.p + 1, ip.n - 2 };
    return ip;
}

uint16_t address_port(struct mz_str address)
{
    const ptrdiff_t colon = mz_str_rchr(address, ':');
    uint64_t port = 0;
    if (colon >= 0)
        (void)mz_str_u64(mz_str_skip(address, (size_t)colon + 1), &port); /* else 0 */
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void param(struct mz_buf *b, struct mz_arena *a, const char *name, struct mz_str v)
{
    if (!v.n)
        return;
    mz_buf_printf(b, "&%s=", name);
    mz_buf_append_str(b, mz_percent_encode(a, v, "&+#=?/ "));
}

static struct mz_str question(struct explain *x, const struct arrival *how, const char *listener)
{
    struct request *r = &x->request;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append_str(&b, MZ_STR("/mizzen/explain?format=json"));
    param(&b, x->arena, "listener", mz_str_c(listener));
    if (how->listener_port)
        mz_buf_printf(&b, "&port=%u", how->listener_port);
    param(&b, x->arena, "destination", how->address);
    param(&b, x->arena, "source", how->source);
    if (how->tls)
        param(&b, x->arena, "tls", MZ_STR("true"));
    param(&b, x->arena, "sni", how->sni);
    param(&b, x->arena, "alpn", how->alpn);
    param(&b, x->arena, "principal", how->principal);
    if (!r->http || r->http2)
        param(&b, x->arena, "protocol", r->http ? MZ_STR("h2c") : MZ_STR("tcp"));
    if (r->http) {
        param(&b, x->arena, "method", r->method);
        param(&b, x->arena, "authority", r->authority);
        param(&b, x->arena, "path", r->path);
        mz_vec_foreach (h, &r->headers)
            param(
                &b, x->arena, "header",
                mz_arena_printf(x->arena, "%.*s: %.*s", MZ_STR_ARG(h->name), MZ_STR_ARG(h->value)));
    }
    const struct mz_str text = mz_arena_dup(x->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return text;
}

/* The listener that captured connections come to; "" the proxy has none, as where nothing is captured. */
static const char *capturing(const struct explain *x, const struct pod *pod, bool inbound)
{
    const char *name = inbound ? "virtualInbound" : "virtualOutbound", *found = "";
    struct mz_err err;
    struct dump d;
    if (pod_load(&x->pods, pod, "GET", "/listeners?format=json", &d, &err)) {
        const struct mz_node *list = mz_node_get(d.root, "listener_statuses");
        for (size_t i = 0; i < mz_node_count(list); i++)
            if (mz_str_eq(mz_node_text(list->list[i], "name"), mz_str_c(name)))
                found = name;
    }
    dump_fini(&d);
    return found;
}

/* ---- how it leaves ---- */

/* The one that most requests go to, of several. */
static const struct mz_node *chosen_cluster(const struct telling *t)
{
    const struct mz_node *list = mz_node_get(t->answer, "clusters"), *most = NULL;
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (!most || mz_node_number(list->list[i], "weight") > mz_node_number(most, "weight"))
            most = list->list[i];
    return most;
}

static struct mz_str offered(const struct telling *t, const struct mz_node *tls)
{
    const struct mz_str by_filter = mz_node_text(t->answer, "alpn");
    const struct mz_node *list = mz_node_at(tls, "common_tls_context.alpn_protocols");
    struct mz_str all = MZ_STR("");
    if (by_filter.n)
        return mz_arena_dup(t->x->arena, by_filter);
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (list->list[i]->kind == MZ_NODE_STR)
            all = mz_arena_printf(t->x->arena, "%.*s%s%.*s", MZ_STR_ARG(all), i ? "," : "",
                                  MZ_STR_ARG(list->list[i]->text));
    return all;
}

static struct mz_str wanted_names(const struct mz_node *tls, struct mz_arena *a)
{
    static const char *const at[] = {
        "common_tls_context.combined_validation_context.default_validation_context."
        "match_subject_alt_names",
        "common_tls_context.combined_validation_context.default_validation_context."
        "match_typed_subject_alt_names"
    };
    struct mz_str all = MZ_STR("");
    for (size_t k = 0; k < MZ_COUNT(at); k++) {
        const struct mz_node *list = mz_node_at(tls, at[k]);
        for (size_t i = 0; i < mz_node_count(list); i++) {
            const struct mz_str own = mz_node_text(list->list[i], "exact"),
                                typed = mz_node_text(list->list[i], "matcher.exact");
            const struct mz_str one = own.n ? own : typed;
            if (one.n)
                all = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(all), all.n ? " or " : "",
                                      MZ_STR_ARG(one));
        }
    }
    return all;
}

/* A proxy gets its certificate when it is first needed: until then, the name that it will have in the peer's domain. */
static struct mz_str own_name(const struct pod *pod, struct mz_str peer, struct mz_arena *a)
{
    const struct mz_str scheme = MZ_STR("spiffe://");
    struct mz_str domain = MZ_STR("cluster.local");
    if (mz_str_starts(peer, scheme)) {
        struct mz_str rest = mz_str_skip(peer, scheme.n);
        (void)mz_str_split(&rest, '/', &domain);
    }
    return pod->account.n ? mz_arena_printf(a, "spiffe://%.*s/ns/%.*s/sa/%.*s", MZ_STR_ARG(domain),
                                            MZ_STR_ARG(pod->ns), MZ_STR_ARG(pod->account))
                          : MZ_STR("");
}

static void tell_tls(struct telling *t, const struct mz_node *chosen, struct arrival *next)
{
    struct mz_arena *a = t->x->arena;
    const uint64_t match = mz_node_number(chosen, "socket_match");
    const struct mz_node *at = mz_node_at(chosen, "socket_match");
    const bool none = !at || (at->kind == MZ_NODE_NUM && at->text.n && at->text.p[0] == '-');
    const struct mz_node *tls = view_socket(t->cluster_node, none ? -1 : (int)match);
    struct mz_str until;
    next->tls = true;
    next->sni = mz_arena_dup(a, mz_node_text(tls, "sni"));
    next->alpn = offered(t, tls);
    next->principal = view_own_uri(&t->x->pods, t->view->pod, a, &until);
    const struct mz_str want = wanted_names(tls, a);
    if (!next->principal.n)
        next->principal = own_name(t->view->pod, want, a);
    const bool mutual = mz_node_at(tls, "common_tls_context.tls_certificate_sds_secret_configs") ||
                        mz_node_at(tls, "common_tls_context.tls_certificates");
    (void)story_say(&t->x->story, "TLS", "%s; server name %.*s; protocols offered: %.*s",
                    mutual ? "mutual" : "of the server only", MZ_STR_ARG(next->sni),
                    MZ_STR_ARG(next->alpn));
    if (mutual && next->principal.n)
        (void)story_say(&t->x->story, "", "shows the certificate of %.*s%s%.*s",
                        MZ_STR_ARG(next->principal), until.n ? ", valid until " : "",
                        MZ_STR_ARG(until));
    if (want.n)
        (void)story_say(&t->x->story, "", "talks only to %.*s", MZ_STR_ARG(want));
    if (!mutual)
        next->principal = MZ_STR("");
}

static void take_sent(struct explain *x, const struct mz_node *sent)
{
    struct request *r = &x->request;
    if (!mz_node_count(sent))
        return;
    r->headers.n = 0;
    for (size_t i = 0; i < mz_node_count(sent); i++) {
        const struct mz_node *h = sent->list[i];
        if (mz_node_count(h) != 2)
            continue;
        const struct mz_str name = mz_arena_dup(x->arena, h->list[0]->text),
                            value = mz_arena_dup(x->arena, h->list[1]->text);
        if (mz_str_eq(name, MZ_STR(":path")))
            r->path = value;
        else if (mz_str_eq(name, MZ_STR(":authority")))
            r->authority = value;
        else if (name.n && name.p[0] != ':')
            *mz_vec_push(&r->headers, MZ_MEM_MISC) = (struct header_line){ name, value };
    }
}

static void leave(struct telling *t, const struct arrival *how, struct arrival *next)
{
    const struct mz_node *c = chosen_cluster(t), *chosen = mz_node_get(c, "chosen");
    struct explain *x = t->x;
    *next = (struct arrival){ .source = t->view->pod->ip };
    next->address = mz_arena_dup(x->arena, mz_node_text(chosen, "address"));
    take_sent(x, mz_node_get(t->answer, "sent"));
    if (!next->address.n || t->inbound)
        return;
    t->cluster_node = view_cluster(t->view, mz_node_text(c, "name"));
    if (mz_node_count(mz_node_get(t->answer, "clusters")) > 1)
        (void)story_say(&x->story, "", "one of those that go to %.*s is followed here",
                        MZ_STR_ARG(mz_node_text(c, "name")));
    if (mz_node_is(chosen, "secure"))
        tell_tls(t, chosen, next);
    else
        (void)story_say(&x->story, "TLS",
                        how->tls && !mz_node_is(t->answer, "tls")
                            ? "the application's own, which passes through as it is"
                            : "none: it leaves the proxy as it came");
}

/* Filters that could end the request and cannot be asked beforehand. */
static void tell_unasked(const struct telling *t)
{
    static const struct {
        const char *type, *what;
    } words[] = {
        { "envoy.filters.http.jwt_authn", "checks the token, if there is one" },
        { "envoy.filters.http.ext_authz", "asks a service whether the request may pass" },
        { "envoy.filters.http.local_ratelimit", "refuses what is more than its limit" },
        { "envoy.filters.http.ratelimit", "asks a service whether it is too much" },
        { "envoy.filters.http.lua", "runs a script" },
        { "envoy.filters.http.wasm", "runs a module" },
        { "envoy.filters.http.csrf", "refuses what another site sends" },
    };
    const struct mz_node *list = mz_node_get(t->answer, "filters");
    for (size_t i = 0; i < mz_node_count(list); i++)
        for (size_t k = 0; k < MZ_COUNT(words); k++)
            if (mz_str_eq(mz_node_text(list->list[i], "type"), mz_str_c(words[k].type)))
                (void)story_say(&t->x->story, "filter",
                                "%.*s %s; what comes of it is not known "
                                "beforehand",
                                MZ_STR_ARG(mz_node_text(list->list[i], "name")), words[k].what);
}

static void tell_answer(struct telling *t)
{
    const struct mz_node *story = mz_node_get(t->answer, "story");
    const struct mz_str why = mz_node_text(t->answer, "no_route");
    const bool bytes = mz_str_find(why, MZ_STR("as they come")) >= 0;
    for (size_t i = 0; i < mz_node_count(story); i++)
        tell_step(t, story->list[i]);
    if (why.n && !bytes) {
        struct said *d = story_say(&t->x->story, "filter chain", "%.*s", MZ_STR_ARG(why));
        d->bad = t->ended = true;
    }
    tell_unasked(t);
    if (mz_node_is(t->answer, "refused") || mz_node_number(t->answer, "status"))
        t->ended = true;
}

/* What the port takes, and who said so. */
static void tell_mtls(const struct telling *t, const struct arrival *how)
{
    struct explain *x = t->x;
    struct mz_err err;
    struct dump d;
    const struct mz_str path =
        mz_arena_printf(x->arena, "/debug/mizzen/mtls?proxyID=%.*s&port=%u",
                        MZ_STR_ARG(t->view->pod->id), address_port(how->address));
    if (plane_load(&x->pods, path.p, &d, &err) && mz_node_text(d.root, "mode").n) {
        const struct mz_node *o = mz_node_get(d.root, "object");
        struct said *s =
            story_say(&x->story, "mutual TLS", "%.*s%s", MZ_STR_ARG(mz_node_text(d.root, "mode")),
                      o ? "" : ", as no PeerAuthentication says anything else");
        if (o)
            said_by(s, object_ref(&x->objects, "PeerAuthentication",
                                  mz_arena_dup(x->arena, mz_node_text(o, "namespace")),
                                  mz_arena_dup(x->arena, mz_node_text(o, "name")), "spec.mtls",
                                  x->arena));
    }
    dump_fini(&d);
    (void)story_say(&x->story, "", "the connection comes %s%s%.*s",
                    how->tls ? "with TLS" : "in plain text", how->principal.n ? ", from " : "",
                    MZ_STR_ARG(how->principal));
}

bool explain_hop(struct explain *x, const struct pod *pod, bool inbound, const struct arrival *how,
                 struct arrival *next, struct mz_err *err)
{
    const char *listener = how->listener_port ? "" : capturing(x, pod, inbound);
    const struct mz_str ask = question(x, how, listener);
    struct view view;
    struct dump d;
    (void)story_chapter(
        &x->story, inbound ? "inbound" : "outbound", pod->id,
        mz_arena_printf(x->arena, inbound ? "Into %.*s" : "Out of %.*s", MZ_STR_ARG(pod->id)));
    *next = (struct arrival){ .address = MZ_STR("") };
    view_open(&view, &x->pods, pod);
    const bool ok = pod_load(&x->pods, pod, "POST", ask.p, &d, err);
    if (!ok && how->listener_port && strstr(err->msg, "no listener has this name or port")) {
        *err = (struct mz_err){ .path = "", .msg = "" };
        mz_err_set(err, "%.*s has no listener for port %u (mizzenctl proxy-config listeners %.*s)",
                   MZ_STR_ARG(pod->id), how->listener_port, MZ_STR_ARG(pod->id));
    }
    if (ok) {
        struct telling t = { .x = x,
                             .view = &view,
                             .answer = d.root,
                             .inbound = inbound && !pod->gateway,
                             .rule = { .kind = MZ_STR(""), .name = MZ_STR("") } };
        if (t.inbound)
            tell_mtls(&t, how);
        tell_answer(&t);
        if (!t.ended)
            leave(&t, how, next);
        /* the story outlives what it was read from: texts were copied when they were said */
    }
    dump_fini(&d);
    view_close(&view);
    return ok;
}
