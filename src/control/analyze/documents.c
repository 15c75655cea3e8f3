#include "control/analyze/documents.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/analyze/finders.h"

const unsigned mz_finding_codes[] = { 2,   101, 102, 103, 106, 107, 108, 109, 110, 111, 112, 116,
                                      118, 123, 125, 127, 128, 129, 130, 131, 132, 133, 134, 135,
                                      137, 138, 139, 140, 144, 145, 146, 147, 148, 149, 150, 151,
                                      152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 164,
                                      165, 166, 167, 171, 173, 174, 175, 176, 177, 0 };

const char *mz_finding_level(enum mz_level l)
{
    return l == MZ_LEVEL_ERROR ? "Error" : l == MZ_LEVEL_WARNING ? "Warning" : "Info";
}

void mz_documents_init(struct mz_documents *d)
{
    *d = (struct mz_documents){ .arena = mz_arena_create(MZ_MEM_CONFIG) };
}

void mz_documents_fini(struct mz_documents *d)
{
    documents_unindex(d);
    mz_vec_free(&d->v, MZ_MEM_CONFIG);
    mz_vec_free(&d->faults, MZ_MEM_CONFIG);
    mz_vec_free(&d->findings, MZ_MEM_CONFIG);
    mz_store_destroy(d->store);
    mz_arena_destroy(d->arena);
}

/* ---- reading ---- */

struct adding {
    struct mz_documents *d;
    struct mz_str file, ns;
};

static void fault(struct adding *a, bool warning, bool unreadable, uint32_t line, struct mz_str key,
                  struct mz_str text)
{
    *mz_vec_push(&a->d->faults, MZ_MEM_CONFIG) =
        (struct mz_fault){ warning, unreadable,
                           a->file, mz_arena_dup(a->d->arena, key),
                           line,    mz_arena_dup(a->d->arena, text) };
}

static bool is_of_cluster(struct mz_str kind)
{
    static const char *const kinds[] = { "Namespace",
                                         "Node",
                                         "GatewayClass",
                                         "IngressClass",
                                         "CustomResourceDefinition",
                                         "MutatingWebhookConfiguration",
                                         "ValidatingWebhookConfiguration" };
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (mz_str_eq(kind, mz_str_c(kinds[i])))
            return true;
    return false;
}

static void add_object(struct adding *a, const struct mz_node *n, uint32_t line)
{
    const struct mz_node *meta = mz_node_get(n, "metadata"), *items = mz_node_get(n, "items");
    const struct mz_str api = mz_node_text(n, "apiVersion"), kind = mz_node_text(n, "kind"),
                        ns = mz_node_text(meta, "namespace");
    const ptrdiff_t slash = mz_str_chr(api, '/');
    if (mz_str_ends(kind, MZ_STR("List")) && items) {
        for (size_t i = 0; i < mz_node_count(items); i++)
            add_object(a, items->list[i], items->list[i]->line);
        return;
    }
    if (!api.n || !kind.n)
        return; /* the reader has told */
    struct mz_object *o = mz_arena_new0(a->d->arena, struct mz_object);
    *o = (struct mz_object){ .group = { api.p, slash < 0 ? 0 : (size_t)slash },
                             .kind = kind,
                             .ns = ns.n ? ns : a->ns,
                             .name = mz_node_text(meta, "name"),
                             .file = a->file,
                             .tree = n,
                             .line = line };
    if (is_of_cluster(kind))
        o->ns = MZ_STR("");
    *mz_vec_push(&a->d->v, MZ_MEM_CONFIG) = o;
}

static void add_part(void *arg, struct mz_str part, uint32_t line0)
{
    struct adding *a = arg;
    struct mz_err err;
    const struct mz_node *n = mz_tree_read_yaml(a->d->arena, part, line0, &err);
    if (n && n->kind == MZ_NODE_MAP)
        add_object(a, n, n->line);
}

static void add_doc(void *arg, struct mz_doc *doc)
{
    documents_keep(((struct adding *)arg)->d, doc);
}

static void add_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                        const char *text)
{
    fault(arg, level != MZ_LEVEL_ERROR, level == MZ_LEVEL_ERROR && !key.n, line, key,
          mz_str_c(text));
}

void mz_documents_add(struct mz_documents *d, struct mz_str file, struct mz_str text,
                      enum mz_text_form form, struct mz_str ns)
{
    struct adding a = { d, mz_arena_dup(d->arena, file), mz_arena_dup(d->arena, ns) };
    const struct mz_doc_reader r = { a.file, add_doc, add_problem, &a };
    struct mz_err err;
    mz_doc_read_text_in(&r, a.ns, text, form);
    if (form == MZ_TEXT_YAML) {
        mz_doc_parts(text, add_part, &a);
        return;
    }
    const struct mz_node *n = mz_tree_read(d->arena, text, form, &err);
    if (n && n->kind == MZ_NODE_MAP)
        add_object(&a, n, n->line);
}

static void add_mesh_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                             const char *text)
{
    const bool error = level == MZ_LEVEL_ERROR;
    (void)key; /* it is no object of any API */
    fault(arg, !error, error, line, MZ_STR(""), mz_str_c(text));
}

void mz_documents_add_mesh(struct mz_documents *d, struct mz_str file, struct mz_str text)
{
    struct adding a = { d, mz_arena_dup(d->arena, file), MZ_STR("") };
    const struct mz_doc_reader r = { a.file, add_doc, add_mesh_problem, &a };
    struct mz_err err;
    mz_doc_read_mesh(&r, text);
    const struct mz_node *n = mz_tree_read_yaml(d->arena, mz_arena_dup(d->arena, text), 0, &err);
    if (n && n->kind == MZ_NODE_MAP)
        d->mesh = n; /* what is wrong with it was told */
}

/* ---- findings ---- */

uint32_t name_line(const struct mz_object *o)
{
    const struct mz_node *n = mz_node_at(o->tree, "metadata.name");
    return n && n->line ? n->line : o->line;
}

bool found_enough(const struct mz_documents *d, const struct mz_object *of)
{
    return of->findings > MAX_FINDINGS || d->findings.n >= MAX_FINDINGS_ALL;
}

void found(struct mz_documents *d, enum mz_level level, unsigned code, const struct mz_object *of,
           uint32_t line, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    if (found_enough(d, of))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* very long lists are cut */
    va_end(ap);
    if (((struct mz_object *)(uintptr_t)of)->findings++ == MAX_FINDINGS)
        (void)snprintf(text, sizeof(text),
                       "There are more findings than the %d of one object that are told.",
                       MAX_FINDINGS);
    *mz_vec_push(&d->findings, MZ_MEM_CONFIG) =
        (struct mz_finding){ level, code, of, line ? line : of->line,
                             mz_arena_dup(d->arena, mz_str_c(text)) };
}

/* Both APIs have a Gateway. */
static struct mz_str kind_in_keys(const struct mz_object *o)
{
    return mz_str_eq(o->kind, MZ_STR("Gateway")) && !object_is(o, "Gateway")
               ? MZ_STR("KubernetesGateway")
               : o->kind;
}

/* "VirtualService/demo/v" in one file; objects without a namespace have no second part. */
static struct mz_str place_of(const struct mz_documents *d, struct mz_str kind, struct mz_str ns,
                              struct mz_str name, struct mz_str file)
{
    return mz_arena_printf(d->arena, "%.*s/%.*s%s%.*s|%.*s", MZ_STR_ARG(kind), MZ_STR_ARG(ns),
                           ns.n ? "/" : "", MZ_STR_ARG(name), MZ_STR_ARG(file));
}

static const struct mz_object *by_fault(const struct mz_documents *d, const struct mz_map *places,
                                        const struct mz_fault *f)
{
    const struct objects *l = mz_map_get(
        places, mz_arena_printf(d->arena, "%.*s|%.*s", MZ_STR_ARG(f->key), MZ_STR_ARG(f->file)));
    const struct mz_object *near = NULL;
    for (size_t i = 0; l && i < l->v.n; i++)
        if (!near || l->v.v[i]->line <= f->line)
            near = l->v.v[i];
    return near;
}

static void find_faults(struct mz_documents *d)
{
    struct mz_map places;
    mz_map_init(&places, MZ_MEM_CONFIG);
    for (size_t i = 0; d->faults.n && i < d->v.n; i++) {
        struct mz_object *o = d->v.v[i];
        objects_push(objects_listed(d->arena, &places,
                                    place_of(d, kind_in_keys(o), o->ns, o->name, o->file)),
                     o);
    }
    for (size_t i = 0; i < d->faults.n; i++) {
        const struct mz_fault *f = &d->faults.v[i];
        const struct mz_object *of =
            f->unreadable || f->warning || !f->key.n ? NULL : by_fault(d, &places, f);
        if (of)
            found(d, MZ_LEVEL_ERROR, 106, of, of->line, "Schema validation error: %.*s",
                  MZ_STR_ARG(f->text));
    }
    objects_free(&places);
}

static int compare(const void *a, const void *b)
{
    const struct mz_finding *x = a, *y = b;
    int c = (int)y->level - (int)x->level;
    if (c == 0)
        c = (int)x->code - (int)y->code;
    if (c == 0)
        c = mz_str_cmp(x->of->kind, y->of->kind);
    if (c == 0)
        c = mz_str_cmp(x->of->ns, y->of->ns);
    if (c == 0)
        c = mz_str_cmp(x->of->name, y->of->name);
    if (c == 0)
        c = (x->line > y->line) - (x->line < y->line);
    return c ? c : mz_str_cmp(x->text, y->text);
}

/* The field's tool says a thing once. */
static void drop_twins(struct mz_documents *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->findings.n; i++)
        if (!n || compare(&d->findings.v[n - 1], &d->findings.v[i]) != 0)
            d->findings.v[n++] = d->findings.v[i];
    d->findings.n = n;
}

void mz_documents_analyze(struct mz_documents *d)
{
    workloads_expand(d);
    documents_index(d, false);
    find_faults(d);
    find_in_routes(d);
    find_in_gateways(d);
    find_in_services(d);
    find_in_policies(d);
    find_in_gateway_api(d);
    find_in_workloads(d);
    find_in_namespaces(d);
    find_in_webhooks(d);
    find_in_annotations(d);
    find_in_selectors(d);
    if (d->findings.n)
        qsort(d->findings.v, d->findings.n, sizeof(*d->findings.v), compare);
    drop_twins(d);
}
