/* Texts to documents: what is read, what is told and where. */
#include "base/test.h"

#include <stdio.h>

#include "base/vec.h"
#include "control/sources/doc.h"

static struct {
    MZ_VEC(struct mz_doc *) docs;
    char told[4096];
} got;

static void take(void *arg, struct mz_doc *d)
{
    assert_ptr_equal(arg, &got);
    *mz_vec_push(&got.docs, MZ_MEM_CONFIG) = d;
}

static void hear(void *arg, enum mz_level level, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    const size_t n = strlen(got.told);
    (void)snprintf(got.told + n, sizeof(got.told) - n, "%d:%u:%.*s:%s\n", level, line,
                   MZ_STR_ARG(key), text);
}

static void read_as(const char *text, enum mz_text_form form)
{
    const struct mz_doc_reader r = { MZ_STR("f.yaml"), take, hear, &got };
    mz_vec_foreach (d, &got.docs)
        mz_doc_unref(*d);
    got.docs.n = 0;
    got.told[0] = 0;
    mz_doc_read_text(&r, mz_str_c(text), form);
}

static int forget(void **state)
{
    (void)state;
    read_as("", MZ_TEXT_YAML);
    mz_vec_free(&got.docs, MZ_MEM_CONFIG);
    return 0;
}

#define NS(name) "apiVersion: v1\nkind: Namespace\nmetadata: {name: " name "}\n"

static void test_several(void **state)
{
    (void)state;
    read_as("# none\n---\n" NS("a") "--- # comment\n" NS("b") "---\n---\n", MZ_TEXT_YAML);
    assert_string_equal(got.told, "");
    assert_int_equal(got.docs.n, 2);
    assert_true(mz_str_eq(got.docs.v[0]->key, MZ_STR("Namespace/a")));
    assert_int_equal(got.docs.v[0]->line, 3);
    assert_int_equal(got.docs.v[1]->line, 7);
    assert_true(got.docs.v[0]->version != got.docs.v[1]->version);
}

static void test_content(void **state)
{
    (void)state;
    read_as("apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels: {a: b}\nspec:\n"
            "  clusterIP: 10.0.0.1\n  unknownHere: [1]\n  ports: [{port: 80, targetPort: http}]\n",
            MZ_TEXT_YAML);
    assert_string_equal(got.told, "");
    assert_int_equal(got.docs.n, 1);
    assert_true(mz_str_eq(got.docs.v[0]->key, MZ_STR("Service/default/web")));
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const k8s_Service *s = (const k8s_Service *)mz_doc_body(got.docs.v[0], a);
    assert_string_equal(s->spec->clusterip, "10.0.0.1");
    assert_int_equal(s->spec->ports[0]->port, 80);
    assert_string_equal(s->spec->ports[0]->targetport->string_value, "http");
    assert_string_equal(mz_doc_meta(got.docs.v[0], a)->labels[0]->value, "b");
    mz_arena_destroy(a);
}

/* Whatever YAML takes a name for. */
static void test_names(void **state)
{
    (void)state;
    read_as(NS("off") "---\n" NS("7"), MZ_TEXT_YAML);
    assert_string_equal(got.told, "");
    assert_int_equal(got.docs.n, 2);
    assert_true(mz_str_eq(got.docs.v[0]->name, MZ_STR("false")));
    assert_true(mz_str_eq(got.docs.v[1]->name, MZ_STR("7")));
}

/* One that is broken does not hide the others; where it can be named, it is. */
static void test_broken(void **state)
{
    (void)state;
    read_as(NS("a") "---\nkind: [\n---\napiVersion: v1\nkind: Service\nmetadata: {name: w, "
                    "namespace: ns1}\n"
                    "spec:\n  ports: [{port: x}]\n---\n" NS("b"),
            MZ_TEXT_YAML);
    assert_int_equal(got.docs.n, 2);
    const char *second = strchr(got.told, '\n') + 1;
    assert_non_null(strstr(got.told, "2:4::not YAML"));
    assert_memory_equal(second, "2:7:Service/ns1/w:spec.ports[0].port: ", 38);
    assert_non_null(strstr(second, "(line 11, column 18)"));
}

static const struct {
    const char *text, *told;
} refusals[] = {
    { "a: b", "2:1::not a document of Kubernetes: it has no apiVersion and kind\n" },
    { "- 1", "2:1::not a document of Kubernetes: it has no apiVersion and kind\n" },
    { "apiVersion: v1\nkind: Pod\n", "2:1::metadata is missing\n" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: ../x}",
      "2:1::metadata.name: \"../x\" is not a name\n" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: a/b}",
      "2:1::metadata.namespace: \"a/b\" is not a name\n" },
    { "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}", "" },
    { "apiVersion: security.istio.io/v7\nkind: Frob\nmetadata: {name: x}",
      "1:1::this version does not read Frob of security.istio.io/v7: it has no effect\n" },
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(refusals); i++) {
        read_as(refusals[i].text, MZ_TEXT_YAML);
        assert_string_equal(got.told, refusals[i].told);
        assert_int_equal(got.docs.n, 0);
    }
}

static void test_lists_and_json(void **state)
{
    (void)state;
    read_as("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":"
            "\"Namespace\","
            "\"metadata\":{\"name\":\"a\"}},{\"kind\":3}]}",
            MZ_TEXT_JSON);
    assert_int_equal(got.docs.n, 1);
    assert_non_null(strstr(got.told, "it has no apiVersion and kind"));
}

static void test_keys_of_the_mesh(void **state)
{
    (void)state;
    const struct mz_doc_reader r = { MZ_STR("mesh.yaml"), take, hear, &got };
    read_as("", MZ_TEXT_YAML);
    mz_doc_read_mesh(&r, MZ_STR("defaultConfig: {proxyMetadata: {y: '1'}}\n"));
    assert_int_equal(got.docs.n, 1);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const ist_MeshConfig *m = (const ist_MeshConfig *)mz_doc_body(got.docs.v[0], a);
    assert_string_equal(m->default_config->proxy_metadata[0]->key, "true");
    mz_arena_destroy(a);
}

static void test_mesh(void **state)
{
    (void)state;
    const struct mz_doc_reader r = { MZ_STR("mesh.yaml"), take, hear, &got };
    read_as("", MZ_TEXT_YAML);
    mz_doc_read_mesh(&r, MZ_STR("trustDomain: a.b\nnoSuchField: 1\n"));
    assert_int_equal(got.docs.n, 1);
    assert_true(mz_str_eq(got.docs.v[0]->key, MZ_STR("MeshConfig/mesh")));
    assert_string_equal(
        got.told,
        "1:1:MeshConfig/mesh:1 fields are not read by this version, noSuchField is the first\n");
    read_as("", MZ_TEXT_YAML);
    mz_doc_read_mesh(&r, MZ_STR("connectTimeout: -1s\n"));
    assert_int_equal(got.docs.n, 0);
    assert_non_null(strstr(got.told, "connect_timeout"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_mesh),
        cmocka_unit_test(test_keys_of_the_mesh),
        cmocka_unit_test(test_lists_and_json),
    };
    return cmocka_run_group_tests(tests, NULL, forget);
}
