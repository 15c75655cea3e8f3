/* Snapshots: what the request path asks. */
#include "runtime/runtime_priv.h"

static const struct mz_runtime_value *find(const struct mz_runtime *r, struct mz_str key)
{
    return r->values.n && key.n ? mz_map_get(&r->values, key) : NULL;
}

bool mz_runtime_empty(const struct mz_runtime *r)
{
    return r->values.n == 0;
}

bool mz_runtime_str(const struct mz_runtime *r, struct mz_str key, struct mz_str *out_value)
{
    const struct mz_runtime_value *v = find(r, key);
    if (!v)
        return false;
    *out_value = v->text;
    return true;
}

uint64_t mz_runtime_u64(const struct mz_runtime *r, struct mz_str key, uint64_t def)
{
    const struct mz_runtime_value *v = find(r, key);
    return v && (v->has & MZ_RT_U64) ? v->u64 : def;
}

double mz_runtime_double(const struct mz_runtime *r, struct mz_str key, double def)
{
    const struct mz_runtime_value *v = find(r, key);
    return v && (v->has & MZ_RT_DOUBLE) ? v->number : def;
}

bool mz_runtime_bool(const struct mz_runtime *r, struct mz_str key, bool def)
{
    const struct mz_runtime_value *v = find(r, key);
    return v && (v->has & MZ_RT_BOOL) ? v->boolean : def;
}

bool mz_runtime_fraction(const struct mz_runtime *r, const struct mz_fraction *f, uint64_t random)
{
    uint64_t numerator = f->numerator, denominator = f->denominator ? f->denominator : 100;
    const struct mz_runtime_value *v = find(r, f->key);
    if (v && (v->has & MZ_RT_FRACTION)) {
        numerator = v->numerator;
        denominator = v->denominator;
    } else if (v && (v->has & MZ_RT_U64)) { /* a plain number is a percentage, as in Envoy */
        numerator = v->u64;
        denominator = 100;
    }
    return random % denominator < numerator;
}
