/*
 * Lines: separator of elements, key, separator behind the key, then the value of the header. The element of the key and those
 * at the first places are parts of the value, in their order; nothing else happens.
 */
#include "base/log.h"
#include "hcm/scope_key.h"
#include "http/header_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of a key of one fragment: its text. */
static struct mz_str text_of(struct mz_str key)
{
    size_t at = 0;
    while (key.p[at] != ':')
        at++;
    return mz_str_skip(key, at + 1);
}

static bool fragment(const struct scope_fragment *f, const struct mz_headers *h,
                     struct mz_str value, struct mz_str *out)
{
    const struct scope_keys one = { (struct scope_fragment *)(uintptr_t)f, 1 };
    if (!scope_key_of(&one, h, h->arena, out))
        return false;
    *out = text_of(*out);
    MZ_ASSERT(!out->n || memmem(value.p, value.n, out->p, out->n));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_str rest = { (const char *)data, size },
                  line[3] = { { "", 0 }, { "", 0 }, { "", 0 } };
    for (size_t i = 0; i < MZ_COUNT(line); i++)
        (void)mz_str_split(&rest, '\n', &line[i]); /* what is missing is empty */
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    struct scope_fragment f = { .header = MZ_STR("x"), .separator = line[0] };
    struct mz_str part, value = mz_arena_dup(a, rest);
    mz_headers_add(h, f.header, value);
    size_t n = 0, bytes = 0;
    for (; n < 8; n++) {
        f.index = (uint32_t)n;
        if (!fragment(&f, h, value, &part))
            break;
        bytes += part.n;
    }
    MZ_ASSERT(n >= 1); /* the first one is always there */
    MZ_ASSERT(n == 8 || bytes + (n - 1) * line[0].n == value.n);
    if (line[1].n && line[2].n) {
        f.key = line[1];
        f.key_separator = line[2];
        (void)fragment(&f, h, value, &part);
    }
    mz_arena_destroy(a);
    return 0;
}
