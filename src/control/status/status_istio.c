/*
 * Istio's documents: whether the one that stands in the directory is used, and what analyzers find in it beside all the others.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/analyze/documents.h"
#include "control/status/status_priv.h"

struct refused { /* a document that is not used as it stands */
    struct mz_str key, text;
};
struct told { /* findings of one object, in their order */
    const struct mz_finding *finding;
    struct told *next, *last; /* of the first: the last */
};
struct istio {
    struct status_making *m;
    struct mz_map refused; /* by key: the first word of each */
    MZ_VEC(struct refused *) in_order;
    struct mz_documents documents;
    struct mz_map told; /* "group/kind/ns/name" to struct told */
};

static bool is_istio(const char *group)
{
    static const char *const groups[] = { "networking.istio.io", "security.istio.io",
                                          "telemetry.istio.io", "extensions.istio.io" };
    for (size_t i = 0; i < MZ_COUNT(groups); i++)
        if (strcmp(group, groups[i]) == 0)
            return true;
    return false;
}

/* ---- what is refused ---- */

static void hear(void *arg, const struct mz_problem *p)
{
    struct istio *s = arg;
    if (p->level != MZ_LEVEL_ERROR || !p->key.n)
        return;
    if (mz_map_get(&s->refused, p->key))
        return;
    struct refused *r = mz_arena_new0(s->m->a, struct refused);
    *r = (struct refused){ p->key, p->text };
    (void)mz_map_put(&s->refused, r->key, r);
    *mz_vec_push(&s->in_order, MZ_MEM_CONFIG) = r;
}

/* ---- what analyzers say ---- */

static void add_file(struct istio *s, struct mz_str file, bool mesh)
{
    struct mz_buf b;
    char text[16384];
    ssize_t n;
    const int fd = open(mz_arena_dup(s->m->a, file).p, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* it went meanwhile: the next round knows */
    mz_buf_init(&b);
    while ((n = read(fd, text, sizeof(text))) > 0)
        mz_buf_append(&b, text, (size_t)n);
    (void)close(fd); /* only read */
    const struct mz_str all = mz_buf_linearize(&b, mz_buf_len(&b));
    const enum mz_text_form form = mz_str_ends(file, MZ_STR(".json")) ? MZ_TEXT_JSON : MZ_TEXT_YAML;
    if (mesh)
        mz_documents_add_mesh(&s->documents, file, all);
    else
        mz_documents_add(&s->documents, file, all, form, MZ_STR("default"));
    mz_buf_fini(&b);
}

static int compare_texts(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

static void read_files(struct istio *s)
{
    size_t room = 0, n = 0;
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        size_t some;
        (void)mz_store_list(s->m->f->store, (enum mz_kind)k, &some);
        room += some;
    }
    struct mz_str *v = mz_arena_alloc(s->m->a, room * sizeof(*v));
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        size_t some;
        const struct mz_doc *const *docs = mz_store_list(s->m->f->store, (enum mz_kind)k, &some);
        for (size_t i = 0; i < some && k != MZ_KIND_MESH_CONFIG; i++)
            if (docs[i]->file.n)
                v[n++] = docs[i]->file;
    }
    if (n)
        qsort(v, n, sizeof(*v), compare_texts);
    for (size_t i = 0; i < n; i++)
        if (!i || !mz_str_eq(v[i - 1], v[i]))
            add_file(s, v[i], false);
    size_t meshes;
    const struct mz_doc *const *mesh = mz_store_list(s->m->f->store, MZ_KIND_MESH_CONFIG, &meshes);
    if (meshes && mesh[0]->file.n)
        add_file(s, mesh[0]->file, true);
    mz_documents_analyze(&s->documents);
}

static const char *level_of(enum mz_level l)
{
    return l == MZ_LEVEL_ERROR ? "ERROR" : l == MZ_LEVEL_WARNING ? "WARNING" : "INFO";
}

static void message(struct status_making *m, const struct mz_finding *f)
{
    json_open(&m->j, '{');
    json_member(&m->j, "detail", f->text);
    json_member(&m->j, "documentationUrl",
                mz_arena_printf(m->a,
                                "https://istio.io/latest/docs/reference/config/analysis/ist%04u/",
                                f->code));
    json_member(&m->j, "level", mz_str_c(level_of(f->level)));
    json_key(&m->j, "type");
    json_open(&m->j, '{');
    json_member(&m->j, "code", mz_arena_printf(m->a, "IST%04u", f->code));
    json_close(&m->j, '}');
    json_close(&m->j, '}');
}

static struct mz_str object_key(struct istio *s, struct mz_str group, struct mz_str kind,
                                struct mz_str ns, struct mz_str name)
{
    return mz_arena_printf(s->m->a, "%.*s/%.*s/%.*s/%.*s", MZ_STR_ARG(group), MZ_STR_ARG(kind),
                           MZ_STR_ARG(ns), MZ_STR_ARG(name));
}

static void sort_findings(struct istio *s)
{
    mz_vec_foreach (f, &s->documents.findings) {
        const struct mz_object *o = f->of;
        struct told *t = mz_arena_new0(s->m->a, struct told);
        *t = (struct told){ f, NULL, t };
        if (!o)
            continue;
        const struct mz_str key = object_key(s, o->group, o->kind, o->ns, o->name);
        struct told *first = mz_map_get(&s->told, key);
        if (!first) {
            (void)mz_map_put(&s->told, key, t);
            continue;
        }
        first->last->next = t;
        first->last = t;
    }
}

/* ---- documents ---- */

static void one(struct istio *s, enum mz_kind k, struct mz_str ns, struct mz_str name,
                struct mz_str key, bool used)
{
    struct status_making *m = s->m;
    const struct mz_kind_info *info = mz_kind_info(k);
    const struct refused *bad = mz_map_get(&s->refused, key);
    const struct told *first =
        mz_map_get(&s->told, object_key(s, mz_str_c(info->group), mz_str_c(info->name), ns, name));
    struct mz_str versions = mz_str_c(info->versions), version = MZ_STR("v1");
    (void)mz_str_split(&versions, ' ', &version);
    status_begin(m, info->group, mz_arena_dup(m->a, version).p, info->name, ns, name, key);
    json_key(&m->j, "conditions");
    json_open(&m->j, '[');
    status_condition(m, "Reconciled", !bad,
                     bad ? (used ? "LastGoodVersionUsed" : "Refused") : "Used",
                     bad ? bad->text : MZ_STR("The document is part of the mesh"));
    json_close(&m->j, ']');
    if (first) {
        json_key(&m->j, "validationMessages");
        json_open(&m->j, '[');
        for (const struct told *t = first; t; t = t->next)
            message(m, t->finding);
        json_close(&m->j, ']');
    }
    status_end(m, info->name, ns, name);
}

static bool find_kind(struct mz_str name, enum mz_kind *out)
{
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++)
        if (is_istio(mz_kind_info((enum mz_kind)k)->group) &&
            mz_str_eq(mz_str_c(mz_kind_key((enum mz_kind)k)), name)) {
            *out = (enum mz_kind)k;
            return true;
        }
    return false;
}

/* Those of which there never was a good version. */
static void add_refused(struct istio *s)
{
    mz_vec_foreach (r, &s->in_order) {
        struct mz_str name = (*r)->key, kind, ns;
        enum mz_kind k;
        if (mz_store_get(s->m->f->store, name) || !mz_str_split(&name, '/', &kind) ||
            !find_kind(kind, &k) || !mz_str_split(&name, '/', &ns))
            continue;
        one(s, k, ns, name, (*r)->key, false);
    }
}

void status_istio(struct status_making *m)
{
    struct istio s = { .m = m };
    mz_documents_init(&s.documents);
    mz_map_init(&s.refused, MZ_MEM_CONFIG);
    mz_map_init(&s.told, MZ_MEM_CONFIG);
    s.documents.injects = true; /* pods come by the webhook */
    m->f->source->ops->problems(m->f->source, hear, &s);
    read_files(&s);
    sort_findings(&s);
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        size_t n;
        if (!is_istio(mz_kind_info((enum mz_kind)k)->group))
            continue;
        const struct mz_doc *const *docs = mz_store_list(m->f->store, (enum mz_kind)k, &n);
        for (size_t i = 0; i < n; i++)
            one(&s, (enum mz_kind)k, docs[i]->ns, docs[i]->name, docs[i]->key, true);
    }
    add_refused(&s);
    mz_map_fini(&s.refused);
    mz_map_fini(&s.told);
    mz_vec_free(&s.in_order, MZ_MEM_CONFIG);
    mz_documents_fini(&s.documents);
}
