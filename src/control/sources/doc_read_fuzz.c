/* Any text as documents and as a MeshConfig: what is read opens again, and its model can be built. */
#include "control/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void take(void *arg, struct mz_doc *d)
{
    mz_store_put(arg, d);
}

static void hear(void *arg, enum mz_level level, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    (void)level;
    (void)line;
    (void)key;
    if (!text[0])
        __builtin_trap();
}

static void nothing(void *arg)
{
    (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct mz_str text = { (const char *)data, n };
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *store = mz_store_create(nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f.yaml"), take, hear, store };
    mz_doc_read_text(&r, text, MZ_TEXT_YAML);
    mz_doc_read_text(&r, text, MZ_TEXT_JSON);
    mz_doc_read_mesh(&r, text);
    mz_store_commit(store);
    struct mz_model *m = mz_model_build(store, &o, NULL);
    for (size_t i = 0; i < m->services_n; i++)
        if (mz_model_service(m, m->services[i]->host) == NULL)
            __builtin_trap();
    mz_model_unref(m);
    mz_store_destroy(store);
    return 0;
}
