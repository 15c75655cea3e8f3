/*
 * dashboard: one page about the mesh on this machine, until Ctrl-C. It listens on loopback only; its address has a secret part, so
 * that neither other users of the machine nor other sites' pages read it; a Host header that is not ours is refused (DNS rebinding).
 * Nothing can be changed through it: pages of proxies are asked with GET, and shown as text.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "base/rand.h"
#include "cli/command.h"
#include "cli/numbers.h"
#include "control/debug/json.h"
#include "event/loop.h"
#include "http/query.h"
#include "net/addr.h"
#include "web/server.h"

extern const char dashboard_page[], dashboard_css[], dashboard_js[]; /* of dashboard/ */

enum { SECRET_BYTES = 16, PATHS = 5, TIMEOUT_MS = 30000, MAX_CLIENTS = 64 };
struct dashboard_options {
    const char *mesh;
    uint32_t port;
};
#define AT(member) offsetof(struct dashboard_options, member)
static const struct arg_flag dashboard_flags[] = {
    { "mesh", 0, ARG_TEXT, AT(mesh), "Name or folder of the running mesh (the only one)" },
    { "port", 'p', ARG_NUMBER, AT(port), "Port on 127.0.0.1 (0: any that is free)" },
};
#undef AT

struct dashboard {
    const char *mesh;
    struct mz_loop *loop;
    struct mz_admin *pages;
    struct mz_web *web;
    uint16_t port;
    char prefix[2 + 2 * SECRET_BYTES + 1]; /* "/0123.../" */
    char paths[PATHS][2 + 2 * SECRET_BYTES + 20];
    struct mz_admin_page table[PATHS];
};

/* ---- who may ask ---- */

/* "127.0.0.1:PORT", "localhost:PORT": whoever comes by another name came by another site's. */
static bool is_ours(const struct dashboard *d, struct mz_str host)
{
    char text[40];
    static const char *const names[] = { "127.0.0.1", "localhost", "[::1]" };
    for (size_t i = 0; i < MZ_COUNT(names); i++) {
        (void)snprintf(text, sizeof(text), "%s:%u", names[i], d->port);
        if (mz_str_ieq(host, mz_str_c(text)))
            return true;
    }
    return false;
}

static void refuse(struct mz_web_ask *ask, unsigned status, const char *why)
{
    struct mz_admin_reply r = { .status = status, .content_type = "text/plain; charset=UTF-8" };
    mz_buf_init(&r.body);
    mz_buf_printf(&r.body, "%s\n", why);
    mz_web_answer(ask, &r);
    mz_buf_fini(&r.body);
}

static bool guard(void *arg, const struct mz_admin_request *rq, struct mz_web_ask *ask)
{
    const struct dashboard *d = arg;
    if (!is_ours(d, mz_headers_value_id(rq->headers, MZ_H_AUTHORITY)))
        refuse(ask, 403, "Refused: this is not the name of the dashboard.");
    else if (!mz_str_eq(rq->method, MZ_STR("GET")) && !mz_str_eq(rq->method, MZ_STR("HEAD")))
        refuse(ask, 405, "Nothing can be changed here.");
    else if (!mz_str_starts(rq->path, mz_str_c(d->prefix)))
        refuse(ask, 404, "Not found: mizzenctl dashboard printed the address.");
    else
        return false;
    return true;
}

/* What is shown loads nothing from elsewhere, is shown in no other page, and is what its type says. */
static void protect(const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    static const char *const headers[][2] = {
        { "content-security-policy",
          "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr "
          "'unsafe-inline'; "
          "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'" },
        { "x-content-type-options", "nosniff" },
        { "referrer-policy", "no-referrer" },
        { "cache-control", "no-store" },
    };
    out->headers = mz_headers_create(rq->arena);
    for (size_t i = 0; i < MZ_COUNT(headers); i++)
        mz_headers_add(out->headers, mz_str_c(headers[i][0]), mz_str_c(headers[i][1]));
}

/* ---- pages ---- */

static void fixed(const struct mz_admin_request *rq, struct mz_admin_reply *out, const char *type,
                  const char *text)
{
    protect(rq, out);
    out->content_type = type;
    mz_buf_append_str(&out->body, mz_str_c(text));
}

static void page_home(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg;
    fixed(rq, out, "text/html; charset=UTF-8", dashboard_page);
}

static void page_css(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg;
    fixed(rq, out, "text/css; charset=UTF-8", dashboard_css);
}

static void page_js(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg;
    fixed(rq, out, "text/javascript; charset=UTF-8", dashboard_js);
}

static void fail(struct mz_admin_reply *out, unsigned status, const struct mz_err *err)
{
    char text[sizeof(*err)];
    out->status = status;
    out->content_type = "text/plain; charset=UTF-8";
    mz_buf_printf(&out->body, "%s\n", mz_err_text(err, text, sizeof(text)));
}

static void number(struct json_out *j, const char *key, double v)
{
    json_key(j, key);
    json_u64(j, v > 0 ? (uint64_t)v : 0);
}

static void pod_json(struct json_out *j, const struct pod *p, const struct numbers *n)
{
    json_open(j, '{');
    json_member(j, "pod", p->id);
    json_key(j, "ip");
    json_str(j, p->ip);
    json_key(j, "ready");
    json_bool(j, p->ready);
    json_key(j, "proxy");
    json_bool(j, p->has_proxy);
    number(j, "in", n->requests[SIDE_IN]);
    number(j, "out", n->requests[SIDE_OUT]);
    number(j, "connections", n->connections);
    number(j, "proxy_kb", p->proxy_pss_kb ? (double)p->proxy_pss_kb : n->memory_bytes / 1024);
    number(j, "pod_kb", (double)p->pss_kb);
    json_close(j, '}');
}

static void calls_json(struct json_out *j, const struct numbers *n)
{
    for (size_t i = 0; i < n->calls.n; i++) {
        const struct call *c = &n->calls.v[i];
        json_open(j, '{');
        json_key(j, "from");
        json_str(j, c->from);
        json_key(j, "to");
        json_str(j, c->to);
        json_key(j, "security");
        json_str(j, c->security);
        number(j, "requests", c->requests);
        number(j, "errors", c->errors);
        number(j, "connections", c->connections);
        json_close(j, '}');
    }
}

static void data(const struct pods *p, const char *mesh, struct mz_admin_reply *out)
{
    struct numbers *v = mz_newn0(MZ_MEM_MISC, struct numbers, p->n + 1);
    struct json_out j = { .b = &out->body };
    uint64_t kb = p->plane_pss_kb;
    for (size_t i = 0; i < p->n; i++) {
        numbers_load(&v[i], p, &p->v[i], p->arena);
        kb += p->v[i].pss_kb;
    }
    json_open(&j, '{');
    json_key(&j, "mesh");
    json_str(&j, mz_str_c(mesh));
    number(&j, "time_ms", (double)(mz_clock->mono_us() / 1000));
    number(&j, "memory_kb", (double)kb);
    number(&j, "plane_kb", (double)p->plane_pss_kb);
    json_key(&j, "pods");
    json_open(&j, '[');
    for (size_t i = 0; i < p->n; i++)
        pod_json(&j, &p->v[i], &v[i]);
    json_close(&j, ']');
    json_key(&j, "calls");
    json_open(&j, '[');
    for (size_t i = 0; i < p->n; i++)
        calls_json(&j, &v[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    for (size_t i = 0; i < p->n; i++)
        numbers_fini(&v[i]);
    mz_free(MZ_MEM_MISC, v);
}

static void page_data(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct dashboard *d = arg;
    struct pods p;
    struct mz_err err;
    protect(rq, out);
    if (pods_open(&p, &(struct pods_options){ .mesh = d->mesh }, &err)) {
        out->content_type = "application/json";
        data(&p, pods_mesh(&p), out);
    } else {
        fail(out, 502, &err);
    }
    pods_close(&p);
}

/* ?pod=NAME&path=/clusters of a proxy, or of mizzend. Never as HTML: what others wrote is text here. */
static void page_of(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct dashboard *d = arg;
    struct mz_str name = MZ_STR(""), path = MZ_STR("");
    struct mz_err err = { .path = "", .msg = "" };
    struct pods p;
    protect(rq, out);
    out->content_type = "text/plain; charset=UTF-8";
    (void)mz_admin_param(rq, "pod", &name);
    (void)mz_admin_param(rq, "path", &path);
    bool safe = path.n && path.n < 1000 && path.p[0] == '/';
    for (size_t i = 0; i < path.n; i++)
        safe &= path.p[i] > 0x20 && path.p[i] < 0x7f; /* it becomes a line of a request */
    if (!safe) {
        mz_err_set(&err, "path must be one of a page");
        fail(out, 400, &err);
        return;
    }
    const char *page = mz_arena_dup(rq->arena, path).p, *word = mz_arena_dup(rq->arena, name).p;
    bool ok = pods_open(&p, &(struct pods_options){ .mesh = d->mesh }, &err);
    if (ok && mz_str_eq(name, MZ_STR("mizzend"))) {
        ok = plane_fetch(&p, page, &out->body, &err);
    } else if (ok) {
        const struct pod *pod = pods_find(&p, word, &err);
        ok = pod && pod_fetch(&p, pod, "GET", page, &out->body, &err);
    }
    if (!ok) {
        mz_buf_drain(&out->body, mz_buf_len(&out->body));
        fail(out, 502, &err);
    }
    pods_close(&p);
}

/* ---- the process ---- */

static void on_signal(void *arg, int signo)
{
    (void)signo;
    mz_loop_stop(arg);
}

static void secret_make(struct dashboard *d)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[SECRET_BYTES];
    char *to = d->prefix;
    mz_rand_system(bytes, sizeof(bytes));
    *to++ = '/';
    for (size_t i = 0; i < sizeof(bytes); i++) {
        *to++ = hex[bytes[i] >> 4];
        *to++ = hex[bytes[i] & 15];
    }
    *to++ = '/';
    *to = 0;
}

static void pages_add(struct dashboard *d)
{
    static const struct {
        const char *name;
        void (*handle)(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out);
    } pages[PATHS] = { { "", page_home },
                       { "app.css", page_css },
                       { "app.js", page_js },
                       { "data.json", page_data },
                       { "page", page_of } };
    for (size_t i = 0; i < PATHS; i++) {
        (void)snprintf(d->paths[i], sizeof(d->paths[i]), "%s%s", d->prefix, pages[i].name);
        d->table[i] = (struct mz_admin_page){
            .path = d->paths[i], .help = "", .handle = pages[i].handle, .arg = d
        };
        mz_admin_add(d->pages, &d->table[i]);
    }
}

static bool serve(struct dashboard *d, uint16_t port, struct mz_err *err)
{
    const struct mz_web_opts o = { .name = "dashboard",
                                   .max_body = 0,
                                   .max_connections = MAX_CLIENTS,
                                   .timeout_ms = TIMEOUT_MS,
                                   .later = guard,
                                   .later_arg = d };
    struct mz_addr a, bound;
    (void)mz_addr_parse_ip(MZ_STR("127.0.0.1"), port, &a);
    d->loop = mz_loop_create("main_thread");
    d->pages = mz_admin_create();
    secret_make(d);
    pages_add(d);
    d->web = mz_web_create(d->loop, d->pages, &o);
    bool ok = mz_web_listen(d->web, &a, NULL, &bound, err);
    if (ok) {
        d->port = mz_addr_port(&bound);
        (void)mz_loop_on_signal(d->loop, SIGINT, on_signal, d->loop);
        (void)mz_loop_on_signal(d->loop, SIGTERM, on_signal, d->loop);
        printf("http://127.0.0.1:%u%s\n", d->port, d->prefix);
        (void)fflush(stdout);
        mz_loop_run(d->loop);
    }
    mz_web_destroy(d->web);
    mz_loop_destroy(d->loop);
    mz_admin_destroy(d->pages);
    return ok;
}

static int run_dashboard(const struct command *c, int argc, char **argv)
{
    struct dashboard_options o = { .mesh = NULL };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    struct pods p;
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (r.others.n || o.port > UINT16_MAX)
        return command_usage_error(c, r.others.n ? "dashboard takes no arguments"
                                                 : "--port is not in 0..65535");
    const bool there = pods_open(&p, &(struct pods_options){ .mesh = o.mesh }, &err);
    pods_close(&p);
    struct dashboard d = { .mesh = o.mesh };
    (void)signal(SIGPIPE, SIG_IGN); /* a browser that goes away */
    return there && serve(&d, (uint16_t)o.port, &err) ? EXIT_OK : command_fail(&err);
}

const struct command command_dashboard = {
    .name = "dashboard",
    .aliases = "",
    .arguments = "",
    .run = run_dashboard,
    .flags = dashboard_flags,
    .flags_n = MZ_COUNT(dashboard_flags),
    .help = "Serves a page about the running mesh on this machine, until Ctrl-C",
};
