/*
 * Why (design.md 6): /mizzen/requests tells what became of the last failed and slow requests, /mizzen/explain what would
 * become of a given one. Both read the decision record that the data path writes; explain sends nothing.
 */
#include "http/query.h"
#include "http/validate.h"
#include "observe/decision.h"
#include "server/explain.h"

static struct mz_str lower(struct mz_arena *a, struct mz_str name)
{
    char *text = mz_arena_alloc(a, name.n);
    for (size_t i = 0; i < name.n; i++)
        text[i] = mz_lower(name.p[i]);
    return (struct mz_str){ text, name.n };
}

static void requests(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    struct mz_recorder_ask ask = { .request_id = MZ_STR("") };
    struct mz_str since;
    (void)mz_admin_param(rq, "request_id", &ask.request_id); /* else all */
    if (mz_admin_param(rq, "since", &since) && since.n && !mz_str_u64(since, &ask.since)) {
        page_text(out, 400, MZ_STR("since must be a number: the \"next\" of an earlier answer\n"));
        return;
    }
    if (page_word(rq, "format", "json")) {
        out->content_type = PAGE_JSON;
        mz_recorder_json(p->env.recorder, &ask, &out->body);
    } else {
        mz_recorder_text(p->env.recorder, &ask, &out->body);
    }
}

static void watch(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    struct mz_watch w = { .path_prefix = MZ_STR("") };
    struct mz_str seconds = MZ_STR(""), header = MZ_STR("");
    uint64_t n;
    (void)mz_admin_param(rq, "path", &w.path_prefix); /* else any */
    (void)mz_admin_param(rq, "header", &header);
    if (!mz_admin_param(rq, "seconds", &seconds) || !mz_str_u64(seconds, &n) ||
        n > MZ_WATCH_MAX_S) {
        page_text(out, 400, MZ_STR("seconds must be 0 to 600\n"));
        return;
    }
    const ptrdiff_t colon = mz_str_chr(header, ':');
    w.seconds = (uint32_t)n;
    w.header = lower(
        rq->arena, mz_str_trim((struct mz_str){ header.p, colon < 0 ? header.n : (size_t)colon }));
    w.value = colon < 0 ? MZ_STR("") : mz_str_trim(mz_str_skip(header, (size_t)colon + 1));
    if (w.path_prefix.n > MZ_WATCH_TEXT || w.header.n > MZ_WATCH_TEXT ||
        w.value.n > MZ_WATCH_TEXT || (header.n && !mz_header_name_valid(w.header))) {
        page_text(out, 400, MZ_STR("a path or <name>:<value> of at most 255 bytes each\n"));
        return;
    }
    mz_recorder_watch(p->env.recorder, &w);
    page_text(out, 200, MZ_STR("OK\n"));
}

/* ---- the question ---- */

enum field {
    METHOD,
    AUTHORITY,
    PATH,
    LISTENER,
    PORT,
    SOURCE,
    DESTINATION,
    TLS,
    SNI,
    ALPN,
    PRINCIPAL,
    PROTOCOL
};
static const struct {
    struct mz_str name;
    enum field field;
} fields[] = {
    { MZ_STR_INIT("method"), METHOD },
    { MZ_STR_INIT("authority"), AUTHORITY },
    { MZ_STR_INIT("path"), PATH },
    { MZ_STR_INIT("listener"), LISTENER },
    { MZ_STR_INIT("port"), PORT },
    { MZ_STR_INIT("source"), SOURCE },
    { MZ_STR_INIT("destination"), DESTINATION },
    { MZ_STR_INIT("tls"), TLS },
    { MZ_STR_INIT("sni"), SNI },
    { MZ_STR_INIT("alpn"), ALPN },
    { MZ_STR_INIT("principal"), PRINCIPAL },
    { MZ_STR_INIT("protocol"), PROTOCOL },
};

static bool set_pseudo(struct question *q, enum mz_header_id id, bool valid, struct mz_str v,
                       struct mz_err *err)
{
    mz_headers_set_id(q->headers, id, v);
    return valid || mz_err_set(err, "\"%.*s\" cannot be %s", (int)(v.n < 100 ? v.n : 100), v.p,
                               mz_header_name(id).p);
}

static bool set_flag(struct mz_str v, bool *out, struct mz_err *err)
{
    *out = mz_str_eq(v, MZ_STR("true"));
    return *out || mz_str_eq(v, MZ_STR("false")) || mz_err_set(err, "tls must be true or false");
}

static bool set_alpn(struct question *q, struct mz_str v, struct mz_err *err)
{
    struct mz_str rest = v, one;
    size_t n = 1;
    for (size_t i = 0; i < v.n; i++)
        n += v.p[i] == ',';
    q->conn.alpn = mz_arena_alloc(q->arena, n * sizeof(*q->conn.alpn));
    for (q->conn.n_alpn = 0; mz_str_split(&rest, ',', &one);) {
        if (!one.n || one.n > 255)
            return mz_err_set(err, "alpn must be names with commas between");
        q->conn.alpn[q->conn.n_alpn++] = one;
    }
    return true;
}

static bool set_protocol(struct question *q, struct mz_str v, struct mz_err *err)
{
    static const char *const words[] = { "http/1.0", "http/1.1", "h2c" };
    const bool tcp = mz_str_eq(v, MZ_STR("tcp"));
    size_t i = 0;
    while (i < MZ_COUNT(words) && !mz_str_eq(v, mz_str_c(words[i])))
        i++;
    q->conn.protocol = tcp ? MZ_STR("") : v;
    return tcp || i < MZ_COUNT(words) ||
           mz_err_set(err, "protocol must be one of http/1.0, http/1.1, h2c, tcp");
}

static bool set_field(struct question *q, struct mz_str name, struct mz_str v, struct mz_err *err)
{
    size_t i = 0;
    while (i < MZ_COUNT(fields) && !mz_str_eq(name, fields[i].name))
        i++;
    if (i == MZ_COUNT(fields))
        return mz_err_set(err, "unknown parameter \"" MZ_STR_FMT "\"", MZ_STR_ARG(name));
    switch (fields[i].field) {
    case METHOD:
        return set_pseudo(q, MZ_H_METHOD, mz_header_name_valid(v), v, err);
    case AUTHORITY:
        return set_pseudo(q, MZ_H_AUTHORITY, mz_authority_valid(v), v, err);
    case PATH:
        return set_pseudo(q, MZ_H_PATH, mz_target_valid(v), v, err);
    case LISTENER:
        q->listener = v;
        return true;
    case PORT:
        return (mz_str_u64(v, &q->port) && q->port && q->port <= 65535) ||
               mz_err_set(err, "port must be 1 to 65535");
    case DESTINATION:
        return mz_addr_parse(v, &q->conn.destination) ||
               mz_err_set(err, "destination must be an IP address with a port");
    case TLS:
        return set_flag(v, &q->conn.tls, err);
    case SNI:
        q->conn.sni = v;
        return mz_authority_valid(v) || mz_err_set(err, "sni must be a host name");
    case ALPN:
        return set_alpn(q, v, err);
    case PRINCIPAL:
        q->principal = v;
        return true;
    case PROTOCOL:
        return set_protocol(q, v, err);
    case SOURCE:
        break;
    }
    return mz_addr_parse_ip(v, 0, &q->conn.remote) ||
           mz_err_set(err, "source must be an IP address");
}

static bool add_header(struct question *q, struct mz_str name, struct mz_str value,
                       struct mz_err *err)
{
    if (!mz_header_name_valid(name) || !mz_header_value_valid(value))
        return mz_err_set(err, "a header is <name>:<value>");
    mz_headers_add(q->headers, lower(q->arena, name), value);
    return true;
}

static bool add_header_line(struct question *q, struct mz_str line, struct mz_err *err)
{
    ptrdiff_t colon = mz_str_chr(line, ':');
    struct mz_str name = { line.p, colon < 0 ? line.n : (size_t)colon };
    return add_header(q, mz_str_trim(name),
                      colon < 0 ? MZ_STR("") : mz_str_trim(mz_str_skip(line, (size_t)colon + 1)),
                      err);
}

static bool from_query(struct question *q, struct mz_str query, struct mz_err *err)
{
    struct mz_str k, v;
    while (mz_query_next(&query, &k, &v)) {
        k = mz_percent_decode(q->arena, k);
        v = mz_percent_decode(q->arena, v);
        bool ok = mz_str_eq(k, MZ_STR("format")) ||
                  (mz_str_eq(k, MZ_STR("header")) ? !v.n || add_header_line(q, v, err)
                                                  : !v.n || set_field(q, k, v, err));
        if (!ok)
            return false;
    }
    return true;
}

static bool json_headers(struct question *q, const struct mz_node *n, struct mz_err *err)
{
    if (n->kind != MZ_NODE_MAP)
        return mz_err_set(err, "headers must be an object of texts or lists of texts");
    for (uint32_t i = 0; i < n->n; i++) {
        const struct mz_node *v = n->pairs[i].value;
        uint32_t count = v->kind == MZ_NODE_LIST ? v->n : 1;
        for (uint32_t k = 0; k < count; k++) {
            const struct mz_node *one = v->kind == MZ_NODE_LIST ? v->list[k] : v;
            if (one->kind != MZ_NODE_STR)
                return mz_err_set(err, "headers must be an object of texts or lists of texts");
            if (!add_header(q, n->pairs[i].key, one->text, err))
                return false;
        }
    }
    return true;
}

static bool from_json(struct question *q, struct mz_str body, struct mz_err *err)
{
    const struct mz_node *n = mz_tree_read(q->arena, body, MZ_TEXT_JSON, err);
    if (!n)
        return false;
    if (n->kind != MZ_NODE_MAP)
        return mz_err_set(err, "the body must be a JSON object");
    for (uint32_t i = 0; i < n->n; i++) {
        const struct mz_pair *p = &n->pairs[i];
        bool text = p->value->kind == MZ_NODE_STR || p->value->kind == MZ_NODE_NUM;
        if (mz_str_eq(p->key, MZ_STR("headers"))) {
            if (!json_headers(q, p->value, err))
                return false;
        } else if (!text) {
            return mz_err_set(err, "\"" MZ_STR_FMT "\" must be a text", MZ_STR_ARG(p->key));
        } else if (!set_field(q, p->key, p->value->text, err)) {
            return false;
        }
    }
    return true;
}

static bool question_read(struct question *q, const struct mz_admin_request *rq, struct mz_err *err)
{
    struct mz_str body = mz_str_trim(rq->body);
    q->arena = rq->arena;
    q->headers = mz_headers_create(rq->arena);
    mz_headers_add_id(q->headers, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(q->headers, MZ_H_SCHEME, MZ_STR("http"));
    mz_headers_add_id(q->headers, MZ_H_AUTHORITY, MZ_STR("localhost"));
    mz_headers_add_id(q->headers, MZ_H_PATH, MZ_STR("/"));
    q->conn.protocol = MZ_STR("http/1.1");
    (void)mz_addr_parse_ip(MZ_STR("127.0.0.1"), 0, &q->conn.remote);
    return from_query(q, rq->query, err) &&
           (!body.n || body.p[0] != '{' || from_json(q, body, err));
}

static void explain_page(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    struct question q = { 0 };
    struct explained e = { 0 };
    struct mz_err err;
    if (!question_read(&q, rq, &err) || !explain_ask(p, &q, &e, &err)) {
        page_text(out, 400, mz_arena_dup(rq->arena, mz_str_c(err.msg)));
        mz_buf_append(&out->body, "\n", 1);
        explained_fini(&e);
        return;
    }
    const pb_Clusters *all = e.n_clusters ? page_clusters(p, rq->arena) : NULL;
    if (page_word(rq, "format", "json")) {
        out->content_type = PAGE_JSON;
        explain_json(&q, &e, all, &out->body);
    } else {
        explain_text(&q, &e, all, &out->body);
    }
    explained_fini(&e);
}

static const struct mz_admin_page pages[] = {
    { .path = "/mizzen/explain",
      .help = "tell what would become of a request, and why; nothing is sent. Parameters or a JSON "
              "object of the same names "
              "(headers: an object)",
      .mutates = true,
      .params = { { "method", "GET when it is not given" },
                  { "authority", "the host that is asked for" },
                  { "path", "with its query" },
                  { "header", "<name>:<value>; may be given several times" },
                  { "listener",
                    "name of the listener; the first when neither it nor port is given" },
                  { "port", "port of the listener" },
                  { "source", "IP address that the request comes from" },
                  { "destination", "<IP address>:<port> where the client wanted to go, had it been "
                                   "caught on its way" },
                  { "tls", "true: the client begins with a TLS handshake" },
                  { "sni", "the name in it" },
                  { "alpn", "the protocols in it, with commas between" },
                  { "principal", "the URI in the client's certificate, a SPIFFE ID" },
                  { "protocol",
                    "One of (http/1.1, http/1.0, h2c, tcp): what a plain client speaks" },
                  { "format", "One of (text, json)" } },
      .handle = explain_page },
    { .path = "/mizzen/requests",
      .help = "the last failed, refused, slow and watched requests, each with its story",
      .params = { { "format", "One of (text, json)" },
                  { "request_id", "only those with this x-request-id" },
                  { "since", "only those kept since: the \"next\" of an earlier answer as JSON" } },
      .handle = requests },
    { .path = "/mizzen/watch",
      .help = "for a while keep every request that these fit, for /mizzen/requests",
      .mutates = true,
      .params = { { "seconds", "for how long, at most 600; 0: no longer" },
                  { "path", "what its path begins with" },
                  { "header", "<name>:<value>, or <name>, that it must have" } },
      .handle = watch },
};
const struct page_list pages_explain = { pages, MZ_COUNT(pages) };
