#include "cli/dump.h"

#include <errno.h>
#include <stdio.h>

#include "cli/fetch.h"

bool read_file(const char *path, struct mz_buf *out, struct mz_err *err)
{
    const bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "re");
    char text[16384];
    size_t n;
    if (!f)
        return mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
    while ((n = fread(text, 1, sizeof(text), f)) > 0)
        mz_buf_append(out, text, n);
    const int e = ferror(f) ? errno : 0;
    if (!standard)
        (void)fclose(f); /* only read */
    return e == 0 || mz_err_set(err, "%s: %s", path, strerrordesc_np(e));
}

void dump_init(struct dump *d)
{
    *d = (struct dump){ .arena = mz_arena_create(MZ_MEM_MISC) };
    mz_buf_init(&d->text);
}

bool dump_load(struct dump *d, const char *where, uint16_t port, const char *path, const char *file,
               struct mz_err *err)
{
    dump_init(d);
    if (where ? !fetch(where, port, "GET", path, &d->text, err) : !read_file(file, &d->text, err))
        return false;
    const struct mz_str text = mz_buf_linearize(&d->text, mz_buf_len(&d->text));
    d->root = mz_tree_read(d->arena, text, MZ_TEXT_JSON, err);
    return d->root != NULL || mz_err_at(err, "%s", where ? where : file);
}

void dump_fini(struct dump *d)
{
    if (!d->arena)
        return;
    mz_arena_destroy(d->arena);
    mz_buf_fini(&d->text);
}

static bool is_part(const struct mz_node *n, struct mz_str want)
{
    const struct mz_str t = mz_node_text(n, "@type");
    return mz_str_ends(t, want) && t.n > want.n && t.p[t.n - want.n - 1] == '.';
}

static const struct mz_node *lists_joined(const struct mz_node *x, const struct mz_node *y,
                                          struct mz_arena *a)
{
    struct mz_node *out = mz_arena_alloc0(a, sizeof(*out));
    *out = *x;
    out->n = x->n + y->n;
    out->list = mz_arena_alloc0(a, ((size_t)out->n + 1) * sizeof(const struct mz_node *));
    for (uint32_t i = 0; i < out->n; i++)
        out->list[i] = i < x->n ? x->list[i] : y->list[i - x->n];
    return out;
}

/* @x with what @y has behind it: lists of the same name are one. */
static const struct mz_node *parts_joined(const struct mz_node *x, const struct mz_node *y,
                                          struct mz_arena *a)
{
    struct mz_node *out = mz_arena_alloc0(a, sizeof(*out));
    struct mz_pair *pairs = mz_arena_alloc0(a, ((size_t)x->n + y->n + 1) * sizeof(*pairs));
    uint32_t n = x->n;
    for (uint32_t i = 0; i < x->n; i++)
        pairs[i] = x->pairs[i];
    for (uint32_t j = 0; j < y->n; j++) {
        uint32_t i = 0;
        while (i < x->n && !mz_str_eq(pairs[i].key, y->pairs[j].key))
            i++;
        if (i == x->n)
            pairs[n++] = y->pairs[j];
        else if (pairs[i].value->kind == MZ_NODE_LIST && y->pairs[j].value->kind == MZ_NODE_LIST)
            pairs[i].value = lists_joined(pairs[i].value, y->pairs[j].value, a);
    }
    *out = *x;
    out->n = n;
    out->pairs = pairs;
    return out;
}

const struct mz_node *dump_part(const struct dump *d, const char *type, struct mz_err *err)
{
    const struct mz_node *list = mz_node_get(d->root, "configs"), *found = NULL;
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (is_part(list->list[i], mz_str_c(type)))
            found = found ? parts_joined(found, list->list[i], d->arena) : list->list[i];
    if (found)
        return found;
    mz_err_set(err, "config dump has no configuration type type.googleapis.com/envoy.admin.v3.%s",
               type);
    return NULL;
}

void resources_add(struct resources *r, const struct mz_node *part, const char *list,
                   const char *path, struct mz_arena *a)
{
    const struct mz_node *l = mz_node_get(part, list);
    const size_t more = mz_node_count(l);
    const struct mz_node **v =
        mz_arena_alloc0(a, (r->n + more + 1) * sizeof(const struct mz_node *));
    for (size_t i = 0; i < r->n; i++)
        v[i] = r->v[i];
    for (size_t i = 0; i < more; i++) {
        const struct mz_node *one = mz_node_at(l->list[i], path);
        if (one)
            v[r->n++] = one;
    }
    r->v = v;
}

static const struct mz_node *untyped(const struct mz_node *n, struct mz_arena *a)
{
    struct mz_node *out = mz_arena_alloc0(a, sizeof(*out));
    *out = *n;
    if (n->kind == MZ_NODE_MAP && n->n && mz_str_eq(n->pairs[0].key, MZ_STR("@type"))) {
        out->pairs = n->pairs + 1;
        out->n--;
    }
    return out;
}

const struct mz_node *resources_list(const struct resources *r, struct mz_arena *a)
{
    struct mz_node *out = mz_arena_alloc0(a, sizeof(*out));
    out->kind = MZ_NODE_LIST;
    out->n = (uint32_t)r->n;
    out->list = mz_arena_alloc0(a, (r->n + 1) * sizeof(const struct mz_node *));
    for (size_t i = 0; i < r->n; i++)
        out->list[i] = untyped(r->v[i], a);
    return out;
}
