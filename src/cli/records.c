#include "cli/records.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/print.h"
#include "http/query.h"
#include "proto/show.h"

bool pod_records(const struct pod *p)
{
    return p->has_proxy && (p->ours || p->admin);
}

bool records_pods(const struct pods *p, const struct arg_list *names, const struct pod ***out,
                  size_t *out_n, struct mz_err *err)
{
    const size_t room = (names->n ? names->n : p->n) + 1;
    const struct pod **v = mz_arena_alloc0(p->arena, room * sizeof(const struct pod *));
    size_t n = 0;
    for (size_t i = 0; i < names->n; i++) {
        v[n] = pods_find(p, names->v[i], err);
        if (!v[n])
            return false;
        if (!pod_records(v[n]))
            return mz_err_set(err, "%.*s has no proxy of ours, which would keep requests",
                              MZ_STR_ARG(v[n]->id));
        n++;
    }
    for (size_t i = 0; !names->n && i < p->n; i++)
        if (pod_records(&p->v[i]))
            v[n++] = &p->v[i];
    *out = v;
    *out_n = n;
    return true;
}

static bool wanted(const struct records_ask *ask, const struct pod *pod)
{
    if (!ask->pods)
        return pod_records(pod);
    for (size_t i = 0; i < ask->n; i++)
        if (ask->pods[i] == pod)
            return true;
    return false;
}

static void load_one(struct records *r, const struct pods *p, size_t at,
                     const struct records_ask *ask,
                     void (*on_error)(const struct pod *pod, const struct mz_err *err))
{
    const struct pod *pod = &p->v[at];
    struct dump *d = &r->dumps[at];
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err = { .path = "", .msg = "" };
    const struct mz_str path =
        mz_arena_printf(a, "/mizzen/requests?format=json&since=%llu&request_id=%.*s",
                        (unsigned long long)(ask->since ? ask->since[at] : 0),
                        MZ_STR_ARG(mz_percent_encode(a, ask->request_id, "&+#=?/ ")));
    dump_fini(d); /* pod_load() begins anew */
    const bool ok = pod_load(p, pod, "GET", path.p, d, &err);
    mz_arena_destroy(a);
    if (!ok) {
        if (on_error)
            on_error(pod, &err);
        return;
    }
    if (ask->since)
        ask->since[at] = mz_node_number(d->root, "next");
    const struct mz_node *list = mz_node_get(d->root, "requests");
    for (size_t i = 0; i < mz_node_count(list); i++)
        *mz_vec_push(&r->v, MZ_MEM_MISC) = (struct record){ pod, list->list[i] };
}

void records_load(struct records *r, const struct pods *p, const struct records_ask *ask,
                  void (*on_error)(const struct pod *pod, const struct mz_err *err))
{
    *r = (struct records){ .dumps = mz_newn0(MZ_MEM_MISC, struct dump, p->n + 1), .dumps_n = p->n };
    for (size_t i = 0; i < p->n; i++) {
        dump_init(&r->dumps[i]);
        if (wanted(ask, &p->v[i]))
            load_one(r, p, i, ask, on_error);
    }
}

void records_fini(struct records *r)
{
    for (size_t i = 0; i < r->dumps_n; i++)
        dump_fini(&r->dumps[i]);
    mz_free(MZ_MEM_MISC, r->dumps);
    mz_vec_free(&r->v, MZ_MEM_MISC);
}

static int oldest_first(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    const int c = mz_str_cmp(mz_node_text(x->node, "time"), mz_node_text(y->node, "time"));
    return c ? c : mz_str_cmp(x->pod->id, y->pod->id);
}

static int newest(const void *a, const void *b)
{
    return oldest_first(b, a);
}

void records_sort(struct records *r, bool newest_first)
{
    if (r->v.n)
        qsort(r->v.v, r->v.n, sizeof(*r->v.v), newest_first ? newest : oldest_first);
}

/* ---- which ---- */

static bool status_read(struct record_filter *f, struct mz_str s, struct mz_err *err)
{
    const ptrdiff_t dash = mz_str_chr(s, '-');
    const bool class =
        s.n == 3 && s.p[0] >= '1' && s.p[0] <= '9' && mz_str_ieq(mz_str_skip(s, 1), MZ_STR("xx"));
    if (class) {
        f->status_from = (uint64_t)(s.p[0] - '0') * 100;
        f->status_to = f->status_from + 99;
        return true;
    }
    const struct mz_str from = { s.p, dash < 0 ? s.n : (size_t)dash },
                        to = dash < 0 ? s : mz_str_skip(s, (size_t)dash + 1);
    return (mz_str_u64(from, &f->status_from) && mz_str_u64(to, &f->status_to) &&
            f->status_from <= f->status_to && f->status_to <= 999) ||
           mz_err_set(err, "\"%.*s\" is no status: 503, 5xx or 400-499", MZ_STR_ARG(s));
}

static bool since_read(struct record_filter *f, struct mz_str s, struct mz_err *err)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    uint64_t n;
    size_t i = 0;
    while (s.n && i < MZ_COUNT(units) && units[i].unit != s.p[s.n - 1])
        i++;
    if (!s.n || i == MZ_COUNT(units) || !mz_str_u64((struct mz_str){ s.p, s.n - 1 }, &n) ||
        n > 1000000)
        return mz_err_set(err, "\"%.*s\" is no time: 30s, 5m, 2h or 1d", MZ_STR_ARG(s));
    const time_t t = time(NULL) - (time_t)(n * units[i].seconds);
    struct tm tm;
    gmtime_r(&t, &tm);
    f->after[strftime(f->after, sizeof(f->after), "%Y-%m-%dT%H:%M:%S", &tm)] = 0;
    return true;
}

bool record_filter_read(struct record_filter *f, const char *status, const char *flag,
                        const char *since, struct mz_err *err)
{
    *f = (struct record_filter){ .status_to = 999, .flag = mz_str_c(flag) };
    return (!status || status_read(f, mz_str_c(status), err)) &&
           (!since || since_read(f, mz_str_c(since), err));
}

static bool has_flag(struct mz_str list, struct mz_str flag)
{
    for (struct mz_str one; mz_str_split(&list, ',', &one);)
        if (mz_str_ieq(one, flag))
            return true;
    return false;
}

bool record_fits(const struct record_filter *f, const struct record *r)
{
    const uint64_t status = mz_node_number(r->node, "status");
    return status >= f->status_from && status <= f->status_to &&
           (!f->flag.n || has_flag(mz_node_text(r->node, "flags"), f->flag)) &&
           mz_str_cmp(mz_node_text(r->node, "time"), mz_str_c(f->after)) >= 0 &&
           (!f->watched || mz_node_is(r->node, "watched"));
}

/* ---- shown ---- */

void record_line(const struct record *r, FILE *to)
{
    const struct mz_node *n = r->node, *ms = mz_node_get(n, "duration_ms");
    const struct mz_str flags = mz_node_text(n, "flags"), details = mz_node_text(n, "details"),
                        direction = mz_node_text(n, "direction");
    show_text(mz_node_text(n, "time"), to);
    fputs("  ", to);
    show_text(r->pod->id, to);
    fprintf(to, "  %-8.*s  %3u  ", MZ_STR_ARG(direction), (unsigned)mz_node_number(n, "status"));
    show_text(flags, to);
    fputs("  ", to);
    show_text(ms && ms->kind == MZ_NODE_NUM ? ms->text : MZ_STR("?"), to);
    fputs(" ms  ", to);
    show_text(mz_node_text(n, "method"), to);
    fputc(' ', to);
    show_text(mz_node_text(n, "authority"), to);
    show_text(mz_node_text(n, "path"), to);
    if (details.n && !mz_str_eq(details, MZ_STR("via_upstream"))) {
        fputs("  (", to);
        show_text(details, to);
        fputc(')', to);
    }
    fputc('\n', to);
}

void record_story(const struct record *r, FILE *to)
{
    const struct mz_node *story = mz_node_get(r->node, "story");
    for (size_t i = 0; i < mz_node_count(story); i++) {
        const struct mz_node *at = mz_node_get(story->list[i], "at_ms");
        fprintf(to, "  %10.*s ms  ",
                MZ_STR_ARG(at && at->kind == MZ_NODE_NUM ? at->text : MZ_STR("")));
        show_text(mz_node_text(story->list[i], "text"), to);
        fputc('\n', to);
    }
}

void record_json_line(const struct record *r, FILE *to)
{
    struct mz_buf b;
    bool margin = false;
    mz_buf_init(&b);
    mz_show_json(&b, r->node, false);
    const struct mz_str all = mz_buf_linearize(&b, mz_buf_len(&b));
    fprintf(to,
            "{\"pod\":\"%.*s\",\"request\":", MZ_STR_ARG(r->pod->id)); /* a name, or an address */
    for (size_t i = 0; i < all.n;
         i++) { /* texts have their line ends escaped: these are the layout's */
        margin = all.p[i] == '\n' || (margin && all.p[i] == ' ');
        if (!margin)
            fputc(all.p[i], to);
    }
    fputs("}\n", to);
    mz_buf_fini(&b);
}
