/* explain: the way of a request through the mesh, hop by hop, of one that is imagined or of one that was. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/explain.h"

enum { MAX_HOPS = 8 };
struct explain_options {
    struct pods_options pods;
    const char *output, *method, *request_id, *address;
    struct arg_list headers;
    bool http2;
};
#define AT(member) offsetof(struct explain_options, member)
static const struct arg_flag explain_flags[] = {
    PODS_FLAGS(explain_options),
    { "header", 'H', ARG_LIST, AT(headers), "NAME:VALUE that the request has; may be repeated" },
    { "request", 'X', ARG_TEXT, AT(method), "Method of the request (GET)" },
    { "http2", 0, ARG_SWITCH, AT(http2), "The application speaks HTTP/2, as gRPC does" },
    { "address", 0, ARG_TEXT, AT(address), "IP address that the URL's host means" },
    { "request-id", 0, ARG_TEXT, AT(request_id),
      "Explains the request that had this x-request-id, as far as proxies kept it" },
    { "output", 'o', ARG_TEXT, AT(output), "Output format: one of text|json" },
};
#undef AT

/* ---- the question ---- */

static bool port_of(struct mz_str text, uint16_t *out, struct mz_err *err)
{
    uint64_t n;
    if (!mz_str_u64(text, &n) || !n || n > UINT16_MAX)
        return mz_err_set(err, "\"%.*s\" is no port", MZ_STR_ARG(text));
    *out = (uint16_t)n;
    return true;
}

/* "details:9080/details/0", with or without "http://". */
static bool read_url(struct request *r, const char *url, struct mz_arena *a, struct mz_err *err)
{
    static const struct {
        const char *scheme;
        uint16_t port;
        bool http;
    } schemes[] = { { "http", 80, true }, { "https", 443, true }, { "tcp", 0, false } };
    struct mz_str u = mz_str_c(url);
    const ptrdiff_t mark = mz_str_find(u, MZ_STR("://"));
    r->scheme = mark < 0 ? MZ_STR("http") : (struct mz_str){ u.p, (size_t)mark };
    u = mark < 0 ? u : mz_str_skip(u, (size_t)mark + 3);
    size_t i = 0;
    while (i < MZ_COUNT(schemes) && !mz_str_eq(r->scheme, mz_str_c(schemes[i].scheme)))
        i++;
    if (i == MZ_COUNT(schemes))
        return mz_err_set(err, "\"%s\": the scheme is none of http, https, tcp", url);
    size_t end = 0;
    while (end < u.n && !strchr("/?#", u.p[end]))
        end++;
    const struct mz_str rest = mz_str_skip(u, end), host = { u.p, end };
    const ptrdiff_t hash = mz_str_chr(rest, '#');
    const struct mz_str path = { rest.p, hash < 0 ? rest.n : (size_t)hash };
    r->path = path.n && path.p[0] == '/' ? path : mz_arena_printf(a, "/%.*s", MZ_STR_ARG(path));
    r->http = schemes[i].http;
    r->port = schemes[i].port;
    r->authority = host;
    const bool v6 = host.n && host.p[0] == '[';
    const ptrdiff_t colon = mz_str_rchr(host, ':'), close = mz_str_chr(host, ']');
    r->host = host;
    if (colon > close) {
        if (!port_of(mz_str_skip(host, (size_t)colon + 1), &r->port, err))
            return mz_err_at(err, "%s", url);
        r->host.n = (size_t)colon;
    }
    if (v6 && r->host.n > 2)
        r->host = (struct mz_str){ r->host.p + 1, r->host.n - 2 };
    if (!r->host.n || !r->port)
        return mz_err_set(err, "\"%s\" has no %s", url, r->host.n ? "port" : "host");
    return true;
}

static bool read_headers(struct request *r, const struct arg_list *list, struct mz_err *err)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct mz_str line = mz_str_c(list->v[i]);
        const ptrdiff_t colon = mz_str_chr(line, ':');
        if (colon <= 0)
            return mz_err_set(err, "\"%s\" is no header (NAME:VALUE)", list->v[i]);
        const struct header_line h = { { line.p, (size_t)colon },
                                       mz_str_trim(mz_str_skip(line, (size_t)colon + 1)) };
        if (mz_str_ieq(h.name, MZ_STR("host")))
            r->authority = h.value;
        else
            *mz_vec_push(&r->headers, MZ_MEM_MISC) = h;
    }
    return true;
}

static bool is_method(const char *s)
{
    return *s && !s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

/* [FROM-POD] [METHOD] URL */
static bool read_words(struct explain *x, const struct arg_list *words, const char *method,
                       const char **out_from, struct mz_err *err)
{
    *out_from = NULL;
    for (size_t i = 0; i + 1 < words->n; i++) {
        if (is_method(words->v[i]) && !method)
            method = words->v[i];
        else if (!*out_from)
            *out_from = words->v[i];
        else
            return mz_err_set(err, "\"%s\": one pod, one method and one URL are expected",
                              words->v[i]);
    }
    x->request.method = mz_str_c(method ? method : "GET");
    return read_url(&x->request, words->v[words->n - 1], x->arena, err);
}

/* ---- from outside: by a gateway ---- */

static const struct pod *the_gateway(const struct pods *p, struct mz_err *err)
{
    const struct pod *found = NULL;
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].gateway && p->v[i].ready && !found)
            found = &p->v[i];
    if (!found)
        mz_err_set(err, "from which pod? (mizzenctl explain POD URL; without one the request comes "
                        "by a gateway, and none runs)");
    return found;
}

/* The gateway's own port behind the one of the URL: as published, by its Service. */
static uint16_t gateway_port(struct explain *x, const struct pod *gateway)
{
    uint16_t port = x->request.port;
    struct mz_err err;
    struct dump d;
    for (size_t i = 0; i < x->pods.published_n; i++)
        if (address_port(x->pods.published[i].host) == x->request.port)
            port = x->pods.published[i].port;
    if (plane_load(&x->pods, "/debug/instancesz", &d, &err)) {
        char id[300];
        (void)snprintf(id, sizeof(id), "%.*s", MZ_STR_ARG(gateway->id));
        const struct mz_node *list = mz_node_get(d.root, id);
        for (size_t i = 0; i < mz_node_count(list); i++)
            if (mz_node_number(list->list[i], "Port.ServicePort.port") == port &&
                mz_node_number(list->list[i], "Port.TargetPort")) {
                port = (uint16_t)mz_node_number(list->list[i], "Port.TargetPort");
                break;
            }
    }
    dump_fini(&d);
    return port;
}

/* ---- from hop to hop ---- */

static struct mz_str refusal(const struct explain *x)
{
    const struct chapter *c = &x->story.chapters.v[x->story.chapters.n - 1];
    for (size_t i = c->steps.n; i-- > 0;)
        if (c->steps.v[i].bad)
            return c->steps.v[i].text;
    return MZ_STR("");
}

static void ends_here(struct explain *x, const struct pod *at)
{
    const struct mz_str why = refusal(x);
    x->story.outcome = mz_arena_printf(x->arena,
                                       why.n ? "It ends at the proxy of %.*s: %.*s."
                                             : "The proxy of %.*s answers itself%.*s.",
                                       MZ_STR_ARG(at->id), MZ_STR_ARG(why));
    x->story.arrives = !why.n;
}

static void arrived(struct explain *x, const char *fmt, struct mz_str a, struct mz_str b)
{
    x->story.outcome = mz_arena_printf(x->arena, "%s%.*s%s%.*s", fmt, MZ_STR_ARG(a),
                                       b.n ? " at " : "", MZ_STR_ARG(b));
    x->story.arrives = true;
}

static bool follow(struct explain *x, const struct pod *pod, bool inbound, struct arrival at,
                   struct mz_err *err)
{
    for (unsigned i = 0; i < MAX_HOPS; i++) {
        struct arrival next;
        if (!explain_hop(x, pod, inbound, &at, &next, err))
            return false;
        if (!next.address.n) {
            ends_here(x, pod);
            return true;
        }
        if (inbound && !pod->gateway) {
            arrived(x, "It reaches the application of ", pod->id, next.address);
            return true;
        }
        const struct pod *to = pods_by_ip(&x->pods, address_ip(next.address));
        if (!to) {
            arrived(x, "It leaves for ", next.address, MZ_STR(""));
            return true;
        }
        if (!to->has_proxy) {
            arrived(x, "It reaches the application of ", to->id, next.address);
            return true;
        }
        if (!to->ours && !to->admin) {
            arrived(x, "It comes to an Envoy, which does not tell what it would do: that of ",
                    to->id, next.address);
            return true;
        }
        at = next;
        if (to->gateway) {
            at.listener_port = address_port(next.address);
            at.address = MZ_STR("");
        }
        pod = to;
        inbound = true;
    }
    return mz_err_set(err, "the way has more than %d hops: it goes in circles", MAX_HOPS);
}

/* An application without a proxy connects by itself: kernels choose one of a Service's pods. */
static bool follow_plain(struct explain *x, struct mz_str ip, struct mz_err *err)
{
    const struct mz_str pod_ip = first_endpoint_of(x), to = pod_ip.n ? pod_ip : ip;
    const struct pod *pod = pods_by_ip(&x->pods, to);
    (void)story_say(&x->story, "", "%.*s has no proxy: its application connects by itself, to %.*s",
                    MZ_STR_ARG(x->from->id), MZ_STR_ARG(to));
    const struct mz_str address =
        mz_arena_printf(x->arena, "%.*s:%u", MZ_STR_ARG(to), x->request.port);
    if (pod && pod->has_proxy)
        return follow(x, pod, true, (struct arrival){ .address = address, .source = x->from->ip },
                      err);
    arrived(x, "It goes to ", address, MZ_STR(""));
    return true;
}

static bool imagine(struct explain *x, struct mz_err *err)
{
    if (x->from && x->from->has_proxy && !x->from->ours && !x->from->admin)
        return mz_err_set(err,
                          "the proxy of %.*s is an Envoy, which does not tell what it would do",
                          MZ_STR_ARG(x->from->id));
    const bool v6 = mz_str_chr(x->request.host, ':') >= 0,
               tls = mz_str_eq(x->request.scheme, MZ_STR("https"));
    struct arrival at = { .tls = tls,
                          .sni = tls && !v6 ? x->request.host : MZ_STR(""),
                          .alpn = tls ? MZ_STR("h2,http/1.1") : MZ_STR("") };
    struct mz_str ip;
    if (!x->from || x->from->gateway) {
        const struct pod *g = x->from ? x->from : the_gateway(&x->pods, err);
        if (!g)
            return false;
        at.listener_port = gateway_port(x, g);
        at.source = MZ_STR("192.0.2.1"); /* nobody's (RFC 5737) */
        return follow(x, g, true, at, err);
    }
    if (!explain_name(x, &ip, err))
        return false;
    if (!x->from->has_proxy)
        return follow_plain(x, ip, err);
    at.address = mz_arena_printf(x->arena, mz_str_chr(ip, ':') >= 0 ? "[%.*s]:%u" : "%.*s:%u",
                                 MZ_STR_ARG(ip), x->request.port);
    at.source = x->from->ip;
    return follow(x, x->from, false, at, err);
}

/* ---- the command ---- */

static bool explain(struct explain *x, const struct explain_options *o,
                    const struct arg_list *words, struct mz_str *out_title, struct mz_err *err)
{
    const char *from = NULL;
    if (!o->request_id && (!read_words(x, words, o->method, &from, err) ||
                           !read_headers(&x->request, &o->headers, err)))
        return false;
    if (!pods_open(&x->pods, &o->pods, err))
        return false;
    if (from && !(x->from = pods_find(&x->pods, from, err)))
        return false;
    if (!from && o->pods.admin.n == 1)
        x->from = &x->pods.v[0];
    objects_load(&x->objects, &x->pods);
    if (o->request_id) {
        *out_title = mz_arena_printf(x->arena, "x-request-id %s", o->request_id);
        return explain_past(x, o->request_id, err);
    }
    struct mz_err none;
    if (!plane_load(&x->pods, "/debug/registryz", &x->registry, &none))
        x->registry.root = NULL; /* names are looked for in the proxy */
    *out_title =
        mz_arena_printf(x->arena, "%.*s %.*s://%.*s%.*s%s%.*s", MZ_STR_ARG(x->request.method),
                        MZ_STR_ARG(x->request.scheme), MZ_STR_ARG(x->request.authority),
                        MZ_STR_ARG(x->request.path), x->from ? " from " : "",
                        MZ_STR_ARG(x->from ? x->from->id : MZ_STR("")));
    return imagine(x, err);
}

static int run_explain(const struct command *c, int argc, char **argv)
{
    struct explain_options o = { .output = "text" };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    const bool json = strcmp(o.output, "json") == 0;
    if (!json && strcmp(o.output, "text") != 0)
        return command_usage_error(c, "--output must be text or json");
    if (!o.request_id == !r.others.n)
        return command_usage_error(c, "explain requires a URL, or --request-id");
    struct explain x = { .arena = mz_arena_create(MZ_MEM_MISC) };
    struct mz_str title = MZ_STR("");
    x.story.arena = x.arena;
    x.address = mz_str_c(o.address);
    x.request.http2 = o.http2;
    const bool ok = explain(&x, &o, &r.others, &title, &err);
    if (x.story.chapters.n) /* also what was found before it failed */
        (json ? story_json : story_text)(&x.story, title, stdout);
    mz_vec_free(&x.request.headers, MZ_MEM_MISC);
    story_fini(&x.story);
    objects_fini(&x.objects);
    dump_fini(&x.registry);
    if (x.pods.arena)
        pods_close(&x.pods);
    mz_arena_destroy(x.arena);
    return ok ? EXIT_OK : command_fail(&err);
}

const struct command command_explain = {
    .name = "explain",
    .aliases = "",
    .arguments = "[FROM-POD] [METHOD] URL",
    .run = run_explain,
    .flags = explain_flags,
    .flags_n = MZ_COUNT(explain_flags),
    .help = "Tells the way of a request through the mesh, and which object decided what",
};
