#include "proto/tree.h"
#include "base/map.h"
#include <stdio.h>

static bool duplicate(struct mz_err *err, const struct mz_pair *p)
{
    return mz_err_set(err, "key \"%.*s\" appears twice (line %u, column %u)", MZ_STR_ARG(p->key),
                      p->line, p->col);
}

static bool check_few(const struct mz_pair *v, size_t n, struct mz_err *err)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (mz_str_eq(v[i].key, v[j].key))
                return duplicate(err, &v[i]);
    return true;
}

bool mz_tree_check_pairs(const struct mz_pair *v, size_t n, struct mz_err *err)
{
    if (n <= 16)
        return check_few(v, n, err);
    struct mz_map seen;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++)
        if (mz_map_put(&seen, v[i].key, &seen))
            ok = duplicate(err, &v[i]);
    mz_map_fini(&seen);
    return ok;
}

/* Length of the valid sequence at p, or 0. */
static size_t utf8_step(const unsigned char *p, size_t n)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t len = p[0] < 0x80   ? 1
                 : p[0] < 0xc2 ? 0
                 : p[0] < 0xe0 ? 2
                 : p[0] < 0xf0 ? 3
                 : p[0] < 0xf5 ? 4
                               : 0;
    if (len < 2 || len > n)
        return len > n ? 0 : len;
    uint32_t c = p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    return c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : len;
}

bool mz_utf8_valid(struct mz_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t step = utf8_step(p + i, s.n - i);
        if (!step)
            return false;
        i += step;
    }
    return true;
}

const struct mz_node *mz_tree_read(struct mz_arena *a, struct mz_str text, enum mz_text_form form,
                                   struct mz_err *err)
{
    if (text.n > MZ_TREE_MAX_BYTES) {
        mz_err_set(err, "the document has %zu bytes, more than %u", text.n, MZ_TREE_MAX_BYTES);
        return NULL;
    }
    return form == MZ_TEXT_JSON ? mz_tree_read_json(a, text, err)
                                : mz_tree_read_yaml(a, text, 0, err);
}

const char *mz_node_what(const struct mz_node *n, char out_text[64])
{
    static const char *const plain[] = {
        [MZ_NODE_NULL] = "null", [MZ_NODE_LIST] = "a list", [MZ_NODE_MAP] = "an object"
    };
    int shown = n->kind == MZ_NODE_NUM || n->kind == MZ_NODE_STR
                    ? (int)(n->text.n > 40 ? 40 : n->text.n)
                    : 0;
    if (n->kind == MZ_NODE_BOOL)
        return n->b ? "boolean true" : "boolean false";
    if (n->kind == MZ_NODE_NUM)
        snprintf(out_text, 64, "number %.*s", shown, n->text.p);
    else if (n->kind == MZ_NODE_STR)
        snprintf(out_text, 64, "string \"%.*s%s\"", shown, n->text.p, n->text.n > 40 ? "..." : "");
    else
        return plain[n->kind];
    return out_text;
}
