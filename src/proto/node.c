#include "proto/node.h"

/* Equal, or @key is the lowerCamel form of @snake. */
static bool same_name(struct mz_str key, struct mz_str snake)
{
    size_t k = 0;
    if (mz_str_eq(key, snake))
        return true;
    for (size_t i = 0; i < snake.n; i++) {
        const bool up = snake.p[i] == '_' && i + 1 < snake.n;
        const char c = up ? snake.p[++i] : snake.p[i];
        if (k == key.n || mz_lower(key.p[k]) != c || (up && c >= 'a' && c <= 'z' && key.p[k] == c))
            return false;
        k++;
    }
    return k == key.n;
}

static const struct mz_node *member(const struct mz_node *n, struct mz_str name)
{
    if (!n || n->kind != MZ_NODE_MAP)
        return NULL;
    for (uint32_t i = 0; i < n->n; i++)
        if (same_name(n->pairs[i].key, name))
            return n->pairs[i].value;
    return NULL;
}

const struct mz_node *mz_node_get(const struct mz_node *n, const char *name)
{
    return member(n, mz_str_c(name));
}

const struct mz_node *mz_node_at(const struct mz_node *n, const char *path)
{
    struct mz_str rest = mz_str_c(path);
    for (struct mz_str step; n && mz_str_split(&rest, '.', &step);)
        n = member(n, step);
    return n;
}

struct mz_str mz_node_text(const struct mz_node *n, const char *path)
{
    const struct mz_node *v = mz_node_at(n, path);
    return v && v->kind == MZ_NODE_STR ? v->text : MZ_STR("");
}

uint64_t mz_node_number(const struct mz_node *n, const char *path)
{
    const struct mz_node *v = mz_node_at(n, path);
    uint64_t out = 0;
    if (v && (v->kind == MZ_NODE_NUM || v->kind == MZ_NODE_STR))
        (void)mz_str_u64(v->text, &out); /* else 0 */
    return out;
}

bool mz_node_is(const struct mz_node *n, const char *path)
{
    const struct mz_node *v = mz_node_at(n, path);
    return v && v->kind == MZ_NODE_BOOL && v->b;
}

size_t mz_node_count(const struct mz_node *n)
{
    return n && n->kind == MZ_NODE_LIST ? n->n : 0;
}

struct mz_str mz_node_camel(struct mz_str snake, struct mz_arena *a)
{
    char *out = mz_arena_alloc(a, snake.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < snake.n; i++) {
        if (snake.p[i] != '_' || i + 1 == snake.n)
            out[n++] = snake.p[i];
        else {
            const char c = snake.p[++i];
            out[n++] = c >= 'a' && c <= 'z' ? (char)(c & ~0x20) : c;
        }
    }
    return (struct mz_str){ out, n };
}
