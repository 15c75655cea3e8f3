#include "agent/bootstrap/bootstrap_priv.h"
#include "base/log.h"

static const struct variable *find(const struct variable *v, size_t n, struct mz_str name)
{
    for (size_t i = 0; i < n; i++)
        if (mz_str_eq(mz_str_c(v[i].name), name))
            return &v[i];
    return NULL;
}

typedef MZ_VEC(struct mz_str) texts;

static void line_fill(struct mz_str line, const struct variable *v, size_t n, texts *out)
{
    ptrdiff_t at;
    while ((at = mz_str_find(line, MZ_STR("${"))) >= 0) {
        *mz_vec_push(out, MZ_MEM_CONFIG) = (struct mz_str){ line.p, (size_t)at };
        line = mz_str_skip(line, (size_t)at + 2);
        const ptrdiff_t end = mz_str_chr(line, '}');
        const struct variable *found =
            end < 0 ? NULL : find(v, n, (struct mz_str){ line.p, (size_t)end });
        MZ_ASSERT(found != NULL); /* templates are ours */
        if (!found)
            return;
        *mz_vec_push(out, MZ_MEM_CONFIG) = found->value;
        line = mz_str_skip(line, (size_t)end + 1);
    }
    *mz_vec_push(out, MZ_MEM_CONFIG) = line;
    *mz_vec_push(out, MZ_MEM_CONFIG) = MZ_STR("\n");
}

struct mz_str template_fill(struct mz_arena *a, struct mz_str text, const struct variable *v,
                            size_t n)
{
    texts out = { 0 };
    struct mz_str line;
    unsigned depth = 0, hidden = 0; /* open conditions; the outermost that does not hold, 0 none */
    while (mz_str_split(&text, '\n', &line)) {
        if (mz_str_starts(line, MZ_STR("#if "))) {
            const struct variable *x = find(v, n, mz_str_skip(line, 4));
            depth++;
            if (!hidden && !(x && x->value.n))
                hidden = depth;
        } else if (mz_str_eq(line, MZ_STR("#end"))) {
            if (hidden == depth)
                hidden = 0;
            depth--;
        } else if (!hidden && !mz_str_starts(line, MZ_STR("#"))) {
            line_fill(line, v, n, &out);
        }
    }
    struct mz_str all = out.n ? mz_arena_cat(a, out.n, out.v) : (struct mz_str){ 0 };
    mz_vec_free(&out, MZ_MEM_CONFIG);
    return all;
}
