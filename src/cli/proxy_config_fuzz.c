/* What a proxy answers may be anything: each kind prints something of it or says why not. */
#include "cli/proxy_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static bool (*const kinds[])(const struct pc *p, struct mz_err *err) = {
        pc_bootstrap, pc_clusters,  pc_listeners, pc_routes,
        pc_hosts,     pc_endpoints, pc_secrets,   pc_extensions,
    };
    static FILE *nowhere;
    const struct pc_options o = { .fqdn = "",
                                  .direction = "",
                                  .subset = "",
                                  .address = "",
                                  .type = "",
                                  .name = "",
                                  .cluster = "",
                                  .status = "",
                                  .verbose = true };
    struct mz_err err = { .path = "", .msg = "" };
    struct dump d = { .arena = mz_arena_create(MZ_MEM_MISC) };
    if (!nowhere)
        nowhere = fopen("/dev/null", "we");
    d.root = mz_tree_read(d.arena, (struct mz_str){ (const char *)data, n }, MZ_TEXT_JSON, &err);
    for (size_t i = 0; d.root && nowhere && i < MZ_COUNT(kinds); i++)
        for (int form = SHOW_TABLE; form <= SHOW_YAML; form++) {
            const struct pc p = { &o, (enum show_form)form, &d, i % 2, nowhere };
            if (!kinds[i](&p, &err) && !err.msg[0])
                __builtin_trap();
        }
    mz_arena_destroy(d.arena);
    return 0;
}
