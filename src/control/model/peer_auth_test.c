/* PeerAuthentication: which document holds. */
#include "base/test.h"

#include <stdlib.h>

#include "control/discovery/peer_double.h"
#include "control/model/peer_auth.h"

#define AUTH(name, ns, rest)                                                                       \
    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name      \
    ", namespace: " ns "}\nspec: {" rest "}\n"

static enum mz_mtls mode(const struct mz_model *m, const char *ns, const char *app, uint16_t port)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_label one = { MZ_STR("app"), mz_str_c(app) };
    enum mz_mtls got = mz_model_mtls(m, mz_str_c(ns), mz_labels_make(a, &one, 1), port);
    mz_arena_destroy(a);
    return got;
}

static void test_levels(void **state)
{
    (void)state;
    struct mz_model *m = double_model(MZ_STR(
        AUTH("default", "istio-system", "mtls: {mode: STRICT}")
            AUTH("x", "a", "mtls: {mode: DISABLE}") AUTH("y", "b", "mtls: {}") AUTH(
                "w", "a",
                "selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, portLevelMtls: "
                "{80: {mode: STRICT}, 81: {}}")
                AUTH("v", "b",
                     "selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: DISABLE}}")));
    assert_int_equal(mode(m, "c", "web", 80), MZ_MTLS_STRICT);  /* the mesh's */
    assert_int_equal(mode(m, "a", "api", 80), MZ_MTLS_DISABLE); /* the namespace's */
    assert_int_equal(mode(m, "b", "api", 80), MZ_MTLS_STRICT);  /* which says nothing */
    assert_int_equal(mode(m, "a", "web", 80), MZ_MTLS_STRICT);  /* the port's */
    assert_int_equal(mode(m, "a", "web", 81), MZ_MTLS_PERMISSIVE);
    assert_int_equal(mode(m, "a", "web", 0), MZ_MTLS_PERMISSIVE); /* the workload's */
    assert_int_equal(mode(m, "b", "web", 80), MZ_MTLS_DISABLE);
    assert_int_equal(mode(m, "b", "web", 82), MZ_MTLS_STRICT);
    assert_int_equal(mz_model_mtls_of_namespace(m, MZ_STR("a")), MZ_MTLS_DISABLE);
    mz_model_unref(m);
    m = double_model(MZ_STR(""));
    assert_int_equal(mode(m, "a", "web", 80), MZ_MTLS_PERMISSIVE);
    mz_model_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_levels) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
