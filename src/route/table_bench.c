/* Instructions a match costs: perf stat -e instructions:u build/src/route/table_bench KIND [ROUNDS]; divide by the rounds.
 * KIND: ten (the last of ten routes), hosts (5,000 virtual hosts), many (the last of 3,000 routes). */
#include "base/test.h"

#include "route/route_test.h"
#include <stdio.h>
#include <stdlib.h>

static void routes(struct mz_buf *out, unsigned n)
{
    mz_buf_printf(out, "virtual_hosts:\n- name: a\n  domains: ['*']\n  routes:\n");
    for (unsigned i = 0; i < n; i++)
        mz_buf_printf(out, "  - {match: {prefix: /service%u/}, route: {cluster: c%u}}\n", i, i);
}

static void hosts(struct mz_buf *out, unsigned n)
{
    mz_buf_printf(out, "virtual_hosts:\n");
    for (unsigned i = 0; i < n; i++)
        mz_buf_printf(
            out,
            "- {name: s%u, domains: [s%u.default.svc.cluster.local], routes: [{match: {prefix: /}, "
            "route: {cluster: c%u}}]}\n",
            i, i, i);
}

static const struct {
    const char *kind, *host, *path;
    void (*yaml)(struct mz_buf *out, unsigned n);
    unsigned n;
} kinds[] = {
    { "ten", "example.test", "/service9/list?a=b", routes, 10 },
    { "hosts", "s4321.default.svc.cluster.local", "/list?a=b", hosts, 5000 },
    { "many", "example.test", "/service2999/list?a=b", routes, 3000 },
};

static void run(size_t kind, long rounds)
{
    struct fixture f;
    struct mz_buf yaml;
    fixture_init(&f);
    mz_buf_init(&yaml);
    kinds[kind].yaml(&yaml, kinds[kind].n);
    mz_buf_append(&yaml, "", 1);
    if (!fixture_build(&f, mz_buf_linearize(&yaml, mz_buf_len(&yaml)).p) ||
        !fixture_get(&f, kinds[kind].host, kinds[kind].path, NULL))
        abort();
    uintptr_t sum = 0;
    for (long i = 0; i < rounds; i++)
        sum += (uintptr_t)mz_route_table_match(f.t, &f.q);
    printf("%s: %ld matches (%zx)\n", kinds[kind].kind, rounds, (size_t)sum);
    mz_buf_fini(&yaml);
    fixture_fini(&f);
}

int main(int argc, char **argv)
{
    long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 1000;
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (argc < 2 || strcmp(argv[1], kinds[i].kind) == 0)
            run(i, rounds);
    return 0;
}
