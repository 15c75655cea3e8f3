#include "admin/admin.h"

#include "base/arena.h"
#include "base/vec.h"

struct mz_admin {
    MZ_VEC(const struct mz_admin_page *) pages; /* sorted by path */
};

struct mz_admin *mz_admin_create(void)
{
    return mz_new0(MZ_MEM_ADMIN, struct mz_admin);
}

void mz_admin_destroy(struct mz_admin *a)
{
    if (!a)
        return;
    mz_vec_free(&a->pages, MZ_MEM_ADMIN);
    mz_free(MZ_MEM_ADMIN, a);
}

void mz_admin_add(struct mz_admin *a, const struct mz_admin_page *page)
{
    *mz_vec_push(&a->pages, MZ_MEM_ADMIN) = page;
    struct mz_str path = mz_str_c(page->path);
    for (size_t i = a->pages.n - 1;
         i > 0 && mz_str_cmp(path, mz_str_c(a->pages.v[i - 1]->path)) < 0; i--) {
        a->pages.v[i] = a->pages.v[i - 1];
        a->pages.v[i - 1] = page;
    }
}

static void help(struct mz_admin *a, struct mz_buf *out)
{
    mz_buf_printf(out, "admin commands are:\n");
    mz_vec_foreach (it, &a->pages) {
        const struct mz_admin_page *p = *it;
        mz_buf_printf(out, "  %s%s: %s\n", p->path, p->mutates ? " (POST)" : "", p->help);
        for (size_t i = 0; i < MZ_COUNT(p->params) && p->params[i].name; i++)
            mz_buf_printf(out, "      %s: %s\n", p->params[i].name, p->params[i].help);
    }
}

void mz_admin_handle(struct mz_admin *a, const struct mz_admin_request *rq,
                     struct mz_admin_reply *out)
{
    mz_vec_foreach (it, &a->pages) {
        const struct mz_admin_page *p = *it;
        if (!mz_str_eq(rq->path, mz_str_c(p->path)))
            continue;
        if (p->mutates && !mz_str_eq(rq->method, MZ_STR("POST"))) {
            out->status = 405;
            mz_buf_printf(&out->body, "Method Not Allowed");
            return;
        }
        p->handle(p->arg, rq, out);
        return;
    }
    bool asked = mz_str_eq(rq->path, MZ_STR("/help"));
    if (!asked) {
        out->status = 404;
        mz_buf_printf(&out->body, "invalid path. ");
    }
    help(a, &out->body);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = mz_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct mz_str decode(struct mz_arena *a, struct mz_str s)
{
    char *p = mz_arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        int hi = s.p[i] == '%' && i + 2 < s.n ? hex(s.p[i + 1]) : -1;
        int lo = hi >= 0 ? hex(s.p[i + 2]) : -1;
        if (lo >= 0)
            i += 2;
        p[n++] = lo >= 0 ? (char)(hi * 16 + lo) : s.p[i];
    }
    p[n] = '\0';
    return (struct mz_str){ p, n };
}

bool mz_admin_param(const struct mz_admin_request *rq, const char *name, struct mz_str *out_value)
{
    struct mz_str rest = rq->query;
    for (struct mz_str part; mz_str_split(&rest, '&', &part);) {
        ptrdiff_t eq = mz_str_chr(part, '=');
        struct mz_str key = { part.p, eq < 0 ? part.n : (size_t)eq };
        if (!mz_str_eq(decode(rq->arena, key), mz_str_c(name)))
            continue;
        *out_value = eq < 0 ? MZ_STR("") : decode(rq->arena, mz_str_skip(part, (size_t)eq + 1));
        return true;
    }
    return false;
}

void mz_admin_html_escape(struct mz_buf *out, struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&':
            mz_buf_append_str(out, MZ_STR("&amp;"));
            break;
        case '<':
            mz_buf_append_str(out, MZ_STR("&lt;"));
            break;
        case '>':
            mz_buf_append_str(out, MZ_STR("&gt;"));
            break;
        case '"':
            mz_buf_append_str(out, MZ_STR("&quot;"));
            break;
        case '\'':
            mz_buf_append_str(out, MZ_STR("&#39;"));
            break;
        default:
            mz_buf_append(out, &s.p[i], 1);
        }
    }
}
