/* What authorization policies decided, in words: which rule of which document, and the conditions that held or did not. */
#include <stdio.h>

#include "cli/explain.h"

/* "policy ns[demo]-policy[viewer]-rule[0] matched: ..." to the document, and what stands behind its name. */
static bool policy_of(const struct telling *t, struct mz_str text, struct object_ref *out,
                      struct mz_str *out_rest, unsigned *out_number)
{
    const ptrdiff_t ns = mz_str_find(text, MZ_STR("ns[")),
                    policy = mz_str_find(text, MZ_STR("]-policy[")),
                    rule = mz_str_find(text, MZ_STR("]-rule["));
    char path[80];
    if (ns < 0 || policy < ns || rule < policy)
        return false;
    struct mz_str number = mz_str_skip(text, (size_t)rule + 7);
    const ptrdiff_t end = mz_str_chr(number, ']');
    if (end < 0)
        return false;
    *out_rest = mz_str_skip(number, (size_t)end + 1);
    number.n = (size_t)end;
    uint64_t n;
    if (!mz_str_u64(number, &n))
        return false;
    *out_number = (unsigned)n;
    (void)snprintf(path, sizeof(path), "spec.rules[%u]", *out_number);
    *out = object_ref(
        &t->x->objects, "AuthorizationPolicy",
        mz_arena_dup(t->x->arena, (struct mz_str){ text.p + ns + 3, (size_t)(policy - ns - 3) }),
        mz_arena_dup(t->x->arena,
                     (struct mz_str){ text.p + policy + 9, (size_t)(rule - policy - 9) }),
        path, t->x->arena);
    return true;
}

bool is_authorization(struct mz_str filter)
{
    return mz_str_find(filter, MZ_STR("rbac")) >= 0;
}

/* ---- conditions ---- */

static const struct {
    const char *field, *begins, *words; /* @begins: of the value; it is left out */
} conditions[] = {
    { "header", "header :method exact ", "method " },
    { "header", "header :authority ", "host " },
    { "header", "header ", "header " },
    { "url_path", "", "path " },
    { "principal_name", "exact ", "client " },
    { "principal_name", "", "client " },
    { "san_matcher", "", "client " },
    { "filter_state", "", "client's state " },
    { "destination_port_range", "", "port " },
    { "destination_port", "", "port " },
    { "destination_ip", "", "destination " },
    { "source_ip", "", "client's address " },
    { "direct_remote_ip", "", "client's address " },
    { "remote_ip", "", "client's address " },
    { "requested_server_name", "", "server name " },
};

/* "principals[0].and_ids.ids[0].authenticated.principal_name: exact X" to "client X"; what is not known stays as it is. */
static struct mz_str words(struct mz_str raw, struct mz_arena *a)
{
    const ptrdiff_t colon = mz_str_find(raw, MZ_STR(": "));
    const struct mz_str path = { raw.p, colon < 0 ? raw.n : (size_t)colon },
                        value = colon < 0 ? MZ_STR("") : mz_str_skip(raw, (size_t)colon + 2),
                        field = mz_str_skip(path, (size_t)(mz_str_rchr(path, '.') + 1));
    const bool negated =
        mz_str_find(path, MZ_STR(".not_rule.")) >= 0 || mz_str_find(path, MZ_STR(".not_id.")) >= 0;
    for (size_t i = 0; colon >= 0 && i < MZ_COUNT(conditions); i++)
        if (mz_str_eq(field, mz_str_c(conditions[i].field)) &&
            mz_str_starts(value, mz_str_c(conditions[i].begins)))
            return mz_arena_printf(a, "%s%s%.*s", negated ? "not " : "", conditions[i].words,
                                   MZ_STR_ARG(mz_str_skip(value, strlen(conditions[i].begins))));
    if (mz_str_eq(field, MZ_STR("any")) && !negated)
        return MZ_STR("");
    return raw;
}

/* ": a; b" */
static struct mz_str all_words(struct mz_str list, struct mz_arena *a)
{
    struct mz_str out = MZ_STR("");
    list = mz_str_starts(list, MZ_STR(": ")) ? mz_str_skip(list, 2) : list;
    while (list.n) {
        const ptrdiff_t end = mz_str_find(list, MZ_STR("; "));
        const struct mz_str one =
            words((struct mz_str){ list.p, end < 0 ? list.n : (size_t)end }, a);
        if (one.n)
            out = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(out), out.n ? ", " : "",
                                  MZ_STR_ARG(one));
        list = end < 0 ? MZ_STR("") : mz_str_skip(list, (size_t)end + 2);
    }
    return out;
}

/* ---- steps ---- */

/* @with: what the conditions are, to the one who reads. */
static void by_policy(struct telling *t, const struct mz_node *s, const char *fits,
                      const char *with)
{
    struct object_ref by = { .kind = MZ_STR(""), .name = MZ_STR("") };
    struct mz_str rest = step_b(s);
    unsigned number;
    if (!policy_of(t, step_b(s), &by, &rest, &number)) {
        (void)SAY(t, is_authorization(step_a(s)) ? "authorization" : "filter", "%s %.*s", fits,
                  MZ_STR_ARG(rest));
        return;
    }
    if (mz_str_starts(rest, MZ_STR(" matched")))
        rest = mz_str_skip(rest, 8);
    struct said *d;
    if (mz_str_ends(rest, MZ_STR("permissions[0].not_rule.any"))) {
        d = SAY(t, "authorization", "AuthorizationPolicy %.*s/%.*s by itself allows nothing",
                MZ_STR_ARG(by.ns), MZ_STR_ARG(by.name));
    } else {
        const struct mz_str why = all_words(rest, t->x->arena);
        d = SAY(t, "authorization", "%s rule %u of AuthorizationPolicy %.*s/%.*s%s%.*s", fits,
                number + 1, MZ_STR_ARG(by.ns), MZ_STR_ARG(by.name), why.n ? with : "",
                MZ_STR_ARG(why));
    }
    said_by(d, by);
}

void tell_rule(struct telling *t, const struct mz_node *s)
{
    by_policy(t, s, "fits", ": ");
}

void tell_not_rule(struct telling *t, const struct mz_node *s)
{
    by_policy(t, s, "does not fit", ", which is for: ");
}
