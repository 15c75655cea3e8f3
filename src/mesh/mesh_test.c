/* What is computed of documents before anything runs: environments, quantities, workloads, ports, files; and answers to probes. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/names.h"
#include "mesh/ask.h"
#include "mesh/json.h"
#include "mesh/podenv.h"
#include "mesh/podfiles.h"
#include "mesh/publish.h"
#include "mesh/workload.h"
#include "proto/mapper.h"

extern const ProtobufCMessageDescriptor *const mz_control_types[];
extern const size_t mz_control_types_n;

static void test_expand(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "plain", "plain" },
        { "$(A)", "one" },
        { "x$(A)y$(B)", "xoney" },
        { "$(NOBODY)", "$(NOBODY)" },
        { "$$(A)", "$(A)" },
        { "$(A", "$(A" },
        { "$", "$" },
        { "$$", "$" },
        { "", "" },
        { "$()", "$()" },
        { "$(A)$(A)", "oneone" },
        { "$$$(A)", "$one" },
    };
    struct mz_mesh_env e = { .arena = mz_arena_create(MZ_MEM_MISC) };
    mz_mesh_env_set(&e, "A", "zero");
    mz_mesh_env_set(&e, "AB", "other");
    mz_mesh_env_set(&e, "A", "one");
    mz_mesh_env_set(&e, "B", "");
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        assert_string_equal(mz_mesh_env_expand(&e, cases[i].text), cases[i].want);
    assert_int_equal(e.v.n, 3);
    assert_string_equal(mz_mesh_env_get(&e, "AB"), "other");
    assert_null(mz_mesh_env_get(&e, "C"));
    mz_vec_free(&e.v, MZ_MEM_CONFIG);
    mz_arena_destroy(e.arena);
}

static void test_quantity(void **state)
{
    (void)state;
    static const struct {
        const char *text, *divisor;
        bool ok;
        uint64_t value;
    } cases[] = {
        { "2", "1", true, 2 },
        { "500m", "1", true, 1 },
        { "100m", "1m", true, 100 },
        { "1Gi", "1", true, 1 << 30 },
        { "1Gi", "1Mi", true, 1024 },
        { "1.5", "1", true, 2 },
        { "128M", "1", true, 128000000 },
        { "0", "1", true, 0 },
        { "", "1", false, 0 },
        { "x", "1", false, 0 },
        { "1X", "1", false, 0 },
        { "1.2.3", "1", false, 0 },
        { "-1", "1", false, 0 },
        { "9999999999999999999", "1", false, 0 },
        { "999999999999Ti", "1", false, 0 },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        uint64_t v = 0;
        assert_int_equal(mz_mesh_quantity(cases[i].text, cases[i].divisor, &v), cases[i].ok);
        assert_int_equal(v, cases[i].value);
    }
}

static void test_field(void **state)
{
    (void)state;
    static const struct {
        const char *path, *want;
    } cases[] = {
        { "metadata.name", "web-1" },      { "metadata.labels['a.b/c']", "x" },
        { "metadata.labels['none']", "" }, { "metadata.annotations['n']", "y" },
        { "status.podIP", "10.1.1.1" },    { "status.podIPs", "10.1.1.1,fd00::1" },
        { "metadata.nothing", NULL },      { "metadata", NULL },
        { "metadata.labels[", NULL },      { "", NULL },
    };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    json_t *pod =
        json_pack("{s:{s:s, s:{s:s}, s:{s:s}}, s:{s:s, s:[{s:s}, {s:s}]}}", "metadata", "name",
                  "web-1", "labels", "a.b/c", "x", "annotations", "n", "y", "status", "podIP",
                  "10.1.1.1", "podIPs", "ip", "10.1.1.1", "ip", "fd00::1");
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        const char *got = mz_mesh_field(pod, cases[i].path, a);
        if (cases[i].want)
            assert_string_equal(got, cases[i].want);
        else
            assert_null(got);
    }
    json_decref(pod);
    mz_arena_destroy(a);
}

static void test_status(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        int status;
    } cases[] = { { "", 0 },
                  { "HTTP", 0 },
                  { "HTTP/1.1 20", 0 },
                  { "HTTP/1.1 200 OK", 200 },
                  { "HTTP/1.0 503\r\n", 503 },
                  { "HTTP/1.1 2x0 ", -1 },
                  { "HTTP/1.1 099 ", -1 },
                  { "HTTP/2.0 200", -1 },
                  { "SSH-2.0-x\r\n", -1 },
                  { "HTTP/1.1\t200", -1 } };
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        assert_int_equal(mz_mesh_status_of(cases[i].head, strlen(cases[i].head)), cases[i].status);
}

static void test_downward(void **state)
{
    (void)state;
    json_t *map = json_pack("{s:s, s:s, s:s}", "b", "2\n\"x\"\\", "a", "1", "a-b", "");
    char *text = mz_mesh_downward(map), *none = mz_mesh_downward(NULL);
    assert_string_equal(text, "a=\"1\"\na-b=\"\"\nb=\"2\\n\\\"x\\\"\\\\\"\n");
    assert_string_equal(none, "");
    free(text);
    free(none);
    json_decref(map);
}

/* ---- folders and files ---- */

static char dir[] = "/tmp/mesh-test.XXXXXX";

static void put(const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/a.yaml", dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

#define NS(labels) "kind: Namespace\nmetadata: {name: demo, labels: {" labels "}}\n---\n"
#define POD(labels)                                                                                \
    "kind: Pod\nmetadata: {name: p, namespace: demo, labels: {" labels "}}\nspec: {a: b}\n"

static void test_who_is_injected(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool inject;
    } cases[] = {
        { NS("") POD(""), false },
        { POD(""), false },
        { POD("sidecar.istio.io/inject: 'true'"), true },
        { NS("istio-injection: enabled") POD(""), true },
        { NS("istio-injection: enabled") POD("sidecar.istio.io/inject: 'false'"), false },
        { NS("istio-injection: disabled") POD("sidecar.istio.io/inject: 'true'"), false },
        { NS("istio.io/rev: default") POD(""), true },
        { NS("") POD("istio.io/rev: default"), true },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_err err = { .path = "", .msg = "" };
        struct mz_mesh_workloads w;
        put(cases[i].text);
        struct mz_mesh_folder *f = mz_mesh_folder_read(dir, &err);
        assert_non_null(f);
        assert_true(mz_mesh_workloads(f, &w, &err));
        assert_int_equal(w.n, 1);
        assert_int_equal(w.v[0].inject, cases[i].inject);
        mz_mesh_folder_destroy(f);
    }
}

#define SVC(more) "kind: Service\nmetadata: {name: s, namespace: demo" more

static void test_ports(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why; /* NULL: fine */
        unsigned n, host, port;
    } cases[] = {
        { SVC("}\nspec: {ports: [{port: 80}]}\n"), NULL, 0, 0, 0 },
        { SVC("}\nspec: {type: LoadBalancer, ports: [{port: 80}, {port: 53, protocol: UDP}]}\n"),
          NULL, 1, 80, 80 },
        { SVC("}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}\n"), NULL, 1, 30080,
          80 },
        { SVC(", annotations: {mizzen.io/publish: '8080:80'}}\nspec: {type: LoadBalancer, ports: "
              "[{port: 80}]}\n"),
          NULL, 1, 8080, 80 },
        { SVC(", annotations: {mizzen.io/publish: '8443:443, 8080:80'}}\nspec: {ports: [{port: "
              "80}, {port: 443}]}\n"),
          NULL, 2, 8080, 80 },
        { SVC(", annotations: {mizzen.io/publish: '8080:81'}}\nspec: {ports: [{port: 80}]}\n"),
          "there is no port 81", 0, 0, 0 },
        { SVC(", annotations: {mizzen.io/publish: '8080'}}\nspec: {ports: [{port: 80}]}\n"),
          "is not HOSTPORT:PORT", 0, 0, 0 },
        { SVC(", annotations: {mizzen.io/publish: '80800:80'}}\nspec: {ports: [{port: 80}]}\n"),
          "is not HOSTPORT:PORT", 0, 0, 0 },
        { SVC(", annotations: {mizzen.io/publish: '1:80,:80'}}\nspec: {ports: [{port: 80}]}\n"),
          "is not HOSTPORT:PORT", 0, 0, 0 },
    };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct mz_err err = { .path = "", .msg = "" };
        struct mz_mesh_ports p = { 0 };
        put(cases[i].text);
        struct mz_mesh_folder *f = mz_mesh_folder_read(dir, &err);
        assert_non_null(f);
        assert_int_equal(mz_mesh_ports_wanted(f, false, &p, &err), cases[i].why == NULL);
        if (cases[i].why) {
            assert_non_null(strstr(err.msg, cases[i].why));
            assert_non_null(strstr(err.msg, "a.yaml:1: Service demo/s"));
        } else {
            assert_int_equal(p.v.n, cases[i].n);
        }
        if (!cases[i].why && cases[i].n) {
            assert_int_equal(p.v.v[p.v.n - 1].host_port, cases[i].host);
            assert_int_equal(p.v.v[p.v.n - 1].port, cases[i].port);
        }
        mz_vec_free(&p.v, MZ_MEM_CONFIG);
        mz_mesh_folder_destroy(f);
    }
}

static void test_log_is_cut(void **state)
{
    (void)state;
    char path[64], before[64];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/x.log", dir);
    (void)snprintf(before, sizeof(before), "%s/x.log.1", dir);
    FILE *f = fopen(path, "ae");
    for (int i = 0; i < MZ_MESH_LOG_MAX / 16; i++)
        assert_true(fprintf(f, "%015d\n", i) > 0);
    assert_int_equal(fflush(f), 0);
    mz_mesh_log_cut(path);
    assert_int_equal(access(before, F_OK), -1); /* not yet */
    assert_true(fputs("more\n", f) >= 0);
    assert_int_equal(fflush(f), 0);
    mz_mesh_log_cut(path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(stat(before, &st), 0);
    assert_int_equal(st.st_size, MZ_MESH_LOG_MAX);
    assert_true(fputs("new\n", f) >= 0); /* at the new end */
    assert_int_equal(fclose(f), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);
    mz_mesh_log_cut("/no/such/log");
}

static int setup(void **state)
{
    (void)state;
    mz_type_add_table(mz_control_types, mz_control_types_n);
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return mz_mesh_remove_all(dir) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expand),   cmocka_unit_test(test_quantity),
        cmocka_unit_test(test_field),    cmocka_unit_test(test_status),
        cmocka_unit_test(test_downward), cmocka_unit_test(test_who_is_injected),
        cmocka_unit_test(test_ports),    cmocka_unit_test(test_log_is_cut),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
