#include "admin/admin.h"
#include "base/alloc.h"
#include "base/vec.h"

struct mz_admin {
    MZ_VEC(const struct mz_admin_page *) pages; /* sorted by path */
    struct mz_admin_page help, home;            /* ours: they show the table itself */
};

static int page_cmp(const struct mz_admin_page *page, struct mz_str path)
{
    return mz_str_cmp(mz_str_c(page->path), path);
}

static const struct mz_admin_page *page_find(const struct mz_admin *a, struct mz_str path)
{
    for (size_t i = 0; i < a->pages.n; i++)
        if (page_cmp(a->pages.v[i], path) == 0)
            return a->pages.v[i];
    return NULL;
}

void mz_admin_add(struct mz_admin *a, const struct mz_admin_page *page)
{
    size_t at = 0;
    while (at < a->pages.n && page_cmp(a->pages.v[at], mz_str_c(page->path)) < 0)
        at++;
    if (at < a->pages.n && page_cmp(a->pages.v[at], mz_str_c(page->path)) == 0) {
        a->pages.v[at] = page; /* a later page replaces */
        return;
    }
    (void)mz_vec_push(&a->pages, MZ_MEM_ADMIN);
    memmove(&a->pages.v[at + 1], &a->pages.v[at], (a->pages.n - 1 - at) * sizeof(a->pages.v[0]));
    a->pages.v[at] = page;
}

/* ---- the pages about pages ---- */

static void help_write(const struct mz_admin *a, struct mz_buf *out)
{
    mz_buf_append_str(out, MZ_STR("admin commands are:\n"));
    for (size_t k = 0; k < a->pages.n; k++) {
        const struct mz_admin_page *p = a->pages.v[k];
        mz_buf_printf(out, "  %s%s: %s\n", p->path, p->mutates ? " (POST)" : "", p->help);
        for (size_t i = 0; i < MZ_COUNT(p->params) && p->params[i].name; i++)
            mz_buf_printf(out, "      %s: %s\n", p->params[i].name, p->params[i].help);
    }
}

static void page_help(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    help_write(arg, &out->body);
}

static void home_row(const struct mz_admin_page *p, struct mz_buf *out)
{
    struct mz_str path =
        mz_str_skip(mz_str_c(p->path), 1); /* relative, so that it works behind a prefix */
    mz_buf_append_str(out, MZ_STR("<tr><td>"));
    if (p->mutates)
        mz_buf_printf(out, "<form method=\"post\" action=\"" MZ_STR_FMT "\"><button>",
                      MZ_STR_ARG(path));
    else
        mz_buf_printf(out, "<a href=\"" MZ_STR_FMT "\">", MZ_STR_ARG(path));
    mz_admin_html_escape(out, path);
    mz_buf_append_str(out, p->mutates ? MZ_STR("</button></form>") : MZ_STR("</a>"));
    mz_buf_append_str(out, MZ_STR("</td><td>"));
    mz_admin_html_escape(out, mz_str_c(p->help));
    for (size_t i = 0; i < MZ_COUNT(p->params) && p->params[i].name; i++) {
        mz_buf_append_str(out, MZ_STR("<br><code>"));
        mz_admin_html_escape(out, mz_str_c(p->params[i].name));
        mz_buf_append_str(out, MZ_STR("</code> "));
        mz_admin_html_escape(out, mz_str_c(p->params[i].help));
    }
    mz_buf_append_str(out, MZ_STR("</td></tr>\n"));
}

static void page_home(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)rq;
    const struct mz_admin *a = arg;
    out->content_type = "text/html; charset=UTF-8";
    mz_buf_append_str(&out->body,
                      MZ_STR("<!doctype html>\n<html lang=\"en\"><head><meta "
                             "charset=\"utf-8\"><title>Mizzen admin</title><style>\n"
                             "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em "
                             "auto;padding:0 1em;color:#223}\n"
                             "td{padding:.35em .8em;vertical-align:top;border-top:1px solid "
                             "#dde}td:first-child{white-space:nowrap}\n"
                             "form{margin:0}code{background:#eef;padding:0 .3em}\n"
                             "</style></head><body>\n<h1>Mizzen admin</h1>\n<table>\n"));
    for (size_t i = 0; i < a->pages.n; i++)
        if (a->pages.v[i]->path[1])
            home_row(a->pages.v[i], &out->body);
    mz_buf_append_str(&out->body, MZ_STR("</table>\n</body></html>\n"));
}

struct mz_admin *mz_admin_create(void)
{
    struct mz_admin *a = mz_new0(MZ_MEM_ADMIN, struct mz_admin);
    a->help = (struct mz_admin_page){
        .path = "/help", .help = "print out list of admin commands", .handle = page_help, .arg = a
    };
    a->home = (struct mz_admin_page){
        .path = "/", .help = "Admin home page", .handle = page_home, .arg = a
    };
    mz_admin_add(a, &a->help);
    mz_admin_add(a, &a->home);
    return a;
}

void mz_admin_destroy(struct mz_admin *a)
{
    if (!a)
        return;
    mz_vec_free(&a->pages, MZ_MEM_ADMIN);
    mz_free(MZ_MEM_ADMIN, a);
}

/* ---- requests ---- */

void mz_admin_handle(struct mz_admin *a, const struct mz_admin_request *rq,
                     struct mz_admin_reply *out)
{
    const struct mz_admin_page *page = page_find(a, rq->path);
    out->status = 200;
    out->content_type = "text/plain; charset=UTF-8";
    if (!page) {
        out->status = 404;
        mz_buf_append_str(&out->body, MZ_STR("invalid path. "));
        help_write(a, &out->body);
    } else if (page->mutates && !mz_str_eq(rq->method, MZ_STR("POST"))) {
        out->status = 405;
        mz_buf_printf(&out->body, "Method " MZ_STR_FMT " not allowed, POST required.",
                      MZ_STR_ARG(rq->method));
    } else {
        page->handle(page->arg, rq, out);
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                     ? c - '0'
           : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                    : -1;
}

/* Percent-decoded once; a '%' without two digits stands for itself. In forms '+' is a blank. */
static struct mz_str decode(struct mz_str s, bool form, struct mz_arena *a)
{
    char *text = mz_arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        int high = s.p[i] == '%' && i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;
        text[n++] = low >= 0 ? (char)(high * 16 + low) : form && s.p[i] == '+' ? ' ' : s.p[i];
        i += low >= 0 ? 2 : 0;
    }
    text[n] = 0;
    return (struct mz_str){ text, n };
}

static bool param_find(struct mz_str pairs, bool form, struct mz_str name, struct mz_arena *a,
                       struct mz_str *out_value)
{
    struct mz_str pair;
    while (mz_str_split(&pairs, '&', &pair)) {
        ptrdiff_t eq = mz_str_chr(pair, '=');
        struct mz_str key = { pair.p, eq < 0 ? pair.n : (size_t)eq };
        if (!mz_str_eq(decode(key, form, a), name))
            continue;
        *out_value =
            decode(eq < 0 ? (struct mz_str){ "", 0 } : mz_str_skip(pair, (size_t)eq + 1), form, a);
        return true;
    }
    return false;
}

bool mz_admin_param(const struct mz_admin_request *rq, const char *name, struct mz_str *out_value)
{
    if (param_find(rq->query, false, mz_str_c(name), rq->arena, out_value))
        return true;
    struct mz_str type = rq->headers ? mz_headers_value_id(rq->headers, MZ_H_CONTENT_TYPE)
                                     : (struct mz_str){ "", 0 };
    bool form = mz_str_eq(rq->method, MZ_STR("POST")) &&
                mz_str_istarts(type, MZ_STR("application/x-www-form-urlencoded"));
    return form && param_find(rq->body, true, mz_str_c(name), rq->arena, out_value);
}

void mz_admin_html_escape(struct mz_buf *out, struct mz_str s)
{
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        const char *entity = s.p[i] == '<'    ? "&lt;"
                             : s.p[i] == '>'  ? "&gt;"
                             : s.p[i] == '&'  ? "&amp;"
                             : s.p[i] == '"'  ? "&quot;"
                             : s.p[i] == '\'' ? "&#39;"
                                              : NULL;
        if (!entity)
            continue;
        mz_buf_append(out, s.p + from, i - from);
        mz_buf_append_str(out, mz_str_c(entity));
        from = i + 1;
    }
    mz_buf_append(out, s.p + from, s.n - from);
}
