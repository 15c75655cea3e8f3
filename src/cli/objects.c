#include "cli/objects.h"

#include <stdio.h>

#include "control/sources/doc.h"

void objects_load(struct objects *o, const struct pods *p)
{
    struct mz_err err;
    o->dir = p->dir;
    if (!plane_load(p, "/debug/mizzen/objects", &o->list, &err))
        o->list.root = NULL;
}

void objects_fini(struct objects *o)
{
    dump_fini(&o->list);
}

static const struct mz_node *find(const struct objects *o, const char *kind, struct mz_str ns,
                                  struct mz_str name)
{
    for (size_t i = 0; i < mz_node_count(o->list.root); i++) {
        const struct mz_node *n = o->list.root->list[i];
        if (mz_str_eq(mz_node_text(n, "name"), name) &&
            mz_str_eq(mz_node_text(n, "namespace"), ns) &&
            mz_str_eq(mz_node_text(n, "kind"), mz_str_c(kind)))
            return n;
    }
    return NULL;
}

bool object_exists(const struct objects *o, const char *kind, struct mz_str ns, struct mz_str name)
{
    return find(o, kind, ns, name) != NULL;
}

bool object_of_config(struct mz_str config, struct mz_arena *a, struct object_ref *out)
{
    struct mz_str piece[8];
    size_t n = 0;
    for (struct mz_str rest = config, p; mz_str_split(&rest, '/', &p); n++)
        if (n < 8)
            piece[n] = p;
    if (n != 8 || !mz_str_eq(piece[1], MZ_STR("apis")))
        return false;
    char *kind = mz_arena_alloc(a, piece[6].n + 1); /* "virtual-service" to "VirtualService" */
    size_t k = 0;
    bool up = true;
    for (size_t i = 0; i < piece[6].n; i++) {
        const char c = piece[6].p[i];
        if (c != '-')
            kind[k++] = up && c >= 'a' && c <= 'z' ? (char)(c & ~0x20) : c;
        up = c == '-';
    }
    kind[k] = 0;
    *out = (struct object_ref){ .kind = { kind, k }, .ns = piece[5], .name = piece[7] };
    return true;
}

/* ---- inside of a document ---- */

/* "[2]", "[name=v1]", "[port|number=80]" */
static const struct mz_node *element(const struct mz_node *list, struct mz_str which)
{
    uint64_t at;
    const ptrdiff_t eq = mz_str_chr(which, '=');
    if (eq < 0)
        return mz_str_u64(which, &at) && at < mz_node_count(list) ? list->list[at] : NULL;
    struct mz_str keys = { which.p, (size_t)eq }, one;
    const struct mz_str want = mz_str_skip(which, (size_t)eq + 1);
    while (mz_str_split(&keys, '|', &one)) {
        char key[64];
        (void)snprintf(key, sizeof(key), "%.*s", MZ_STR_ARG(one));
        for (size_t i = 0; i < mz_node_count(list); i++) {
            const struct mz_node *v = mz_node_get(list->list[i], key);
            if (v && (v->kind == MZ_NODE_STR || v->kind == MZ_NODE_NUM) && mz_str_eq(v->text, want))
                return list->list[i];
        }
    }
    return NULL;
}

const struct mz_node *object_at(const struct mz_node *doc, const char *path)
{
    struct mz_str rest = mz_str_c(path);
    const struct mz_node *n = doc;
    for (struct mz_str step; n && mz_str_split(&rest, '.', &step);) {
        const ptrdiff_t bracket = mz_str_chr(step, '[');
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s", (int)(bracket < 0 ? (ptrdiff_t)step.n : bracket),
                       step.p);
        n = mz_node_get(n, name);
        if (n && bracket >= 0 && step.n > (size_t)bracket + 1) {
            struct mz_str which = mz_str_skip(step, (size_t)bracket + 1);
            which.n--; /* ']' */
            n = element(n, which);
        }
    }
    return n;
}

struct reading {
    const struct object_ref *want;
    struct mz_arena *arena;
    const struct mz_node *found;
};

static void read_part(void *arg, struct mz_str part, uint32_t line0)
{
    struct reading *r = arg;
    struct mz_err err;
    const struct mz_node *n = r->found ? NULL : mz_tree_read_yaml(r->arena, part, line0, &err);
    const struct mz_str ns = n ? mz_node_text(n, "metadata.namespace") : MZ_STR("");
    if (n && mz_str_eq(mz_node_text(n, "kind"), r->want->kind) &&
        mz_str_eq(mz_node_text(n, "metadata.name"), r->want->name) &&
        mz_str_eq(ns.n ? ns : MZ_STR("default"), r->want->ns))
        r->found = n;
}

const struct mz_node *object_document(const struct objects *o, const struct object_ref *ref,
                                      struct mz_arena *a)
{
    char kind[80];
    struct mz_err err;
    struct mz_buf text;
    struct reading r = { ref, a, NULL };
    (void)snprintf(kind, sizeof(kind), "%.*s", MZ_STR_ARG(ref->kind));
    const struct mz_node *n = find(o, kind, ref->ns, ref->name);
    const struct mz_str file = mz_node_text(n, "file");
    if (!file.n || mz_str_ends(file, MZ_STR(".json")))
        return NULL;
    mz_buf_init(&text);
    const struct mz_str here = mz_arena_dup(a, file),
                        there =
                            mz_arena_printf(a, "%.*s/%.*s", MZ_STR_ARG(o->dir), MZ_STR_ARG(file));
    if (read_file(here.p, &text, &err) ||
        (o->dir.n && file.p[0] != '/' && read_file(there.p, &text, &err))) {
        const struct mz_str all = mz_buf_linearize(&text, mz_buf_len(&text));
        if (all.n <= MZ_TREE_MAX_BYTES)
            mz_doc_parts(mz_arena_dup(a, all), read_part, &r);
    }
    mz_buf_fini(&text);
    return r.found;
}

/* As a person in the mesh's folder calls it. */
static struct mz_str within(struct mz_str file, struct mz_str dir)
{
    if (!dir.n || !mz_str_starts(file, dir) || file.n < dir.n + 2 || file.p[dir.n] != '/')
        return file;
    return mz_str_skip(file, dir.n + 1);
}

struct object_ref object_ref(const struct objects *o, const char *kind, struct mz_str ns,
                             struct mz_str name, const char *path, struct mz_arena *a)
{
    struct object_ref r = { .kind = mz_arena_dup(a, mz_str_c(kind)), .ns = ns, .name = name };
    const struct mz_node *n = find(o, kind, ns, name);
    const struct mz_str file = mz_node_text(n, "file");
    if (!file.n)
        return r;
    const struct mz_node *doc = path ? object_document(o, &r, a) : NULL,
                         *at = doc ? object_at(doc, path) : NULL;
    r.where = mz_arena_printf(a, "%.*s:%u", MZ_STR_ARG(within(file, o->dir)),
                              at && at->line ? at->line : (unsigned)mz_node_number(n, "line"));
    return r;
}

static bool lists_host(const struct mz_node *entry, struct mz_str host)
{
    const struct mz_node *hosts = mz_node_at(entry, "spec.hosts");
    for (size_t i = 0; i < mz_node_count(hosts); i++)
        if (hosts->list[i]->kind == MZ_NODE_STR && mz_str_ieq(hosts->list[i]->text, host))
            return true;
    return false;
}

struct object_ref object_of_service(const struct objects *o, struct mz_str ns, struct mz_str name,
                                    const char *path, struct mz_arena *a)
{
    static const char entry[] = "ServiceEntry";
    if (object_exists(o, "Service", ns, name))
        return object_ref(o, "Service", ns, name, path, a);
    for (size_t i = 0; i < mz_node_count(o->list.root); i++) {
        const struct mz_node *n = o->list.root->list[i];
        const struct object_ref one = { .kind = mz_str_c(entry),
                                        .ns = ns,
                                        .name = mz_node_text(n, "name") };
        if (!mz_str_eq(mz_node_text(n, "kind"), one.kind) ||
            !mz_str_eq(mz_node_text(n, "namespace"), ns))
            continue;
        if (mz_str_eq(one.name, name) || lists_host(object_document(o, &one, a), name))
            return object_ref(o, entry, ns, mz_arena_dup(a, one.name), path, a);
    }
    return object_ref(o, o->list.root ? entry : "Service", ns, name, NULL, a);
}
