/* URLs, authorities, queries: views stay within the text, what is accepted is valid. */
#include "http/query.h"
#include "http/url.h"
#include "http/validate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_inside(struct mz_str part, struct mz_str text)
{
    if (part.n && (part.p < text.p || part.p + part.n > text.p + text.n))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char *copy = malloc(n + 1);
    memcpy(copy, p, n);
    struct mz_str text = { copy, n }, k, v, rest = mz_query_of(text);
    struct mz_url u;
    struct mz_host_port hp;
    if (mz_url_parse(text, &u)) {
        check_inside(u.scheme, text);
        check_inside(u.path, text);
        if (!u.authority.n || !mz_authority_valid(u.authority) ||
            !mz_host_port_parse(u.authority, &hp))
            abort();
    }
    if (mz_host_port_parse(text, &hp))
        check_inside(hp.host, text);
    check_inside(mz_authority_host(text), text);
    while (mz_query_next(&rest, &k, &v)) {
        check_inside(k, text);
        check_inside(v, text);
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str enc = mz_percent_encode(a, text, "");
    if (!mz_str_eq(mz_percent_decode(a, enc), text))
        abort();
    mz_arena_destroy(a);
    free(copy);
    return 0;
}
