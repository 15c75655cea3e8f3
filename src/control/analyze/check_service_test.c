/* What Istio's webhook refuses of ServiceEntry, WorkloadEntry and Sidecar: path and reason. */
#include "base/test.h"

#include <stdio.h>

#include "control/discovery/peer_double.h"

static char told[1000];

static void hear(void *arg, enum mz_level level, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    (void)line;
    (void)key;
    if (level == MZ_LEVEL_ERROR)
        (void)snprintf(told, sizeof(told), "%s", text);
}

static void drop(void *arg, struct mz_doc *d)
{
    (void)arg;
    mz_doc_unref(d);
}

#define PORTS ", ports: [{number: 80, name: http, protocol: HTTP}]}"
#define EGRESS_SOCKET(number, bind, more)                                                          \
    "{egress: [{port: {number: " number ", protocol: HTTP, name: p}, bind: '" bind                 \
    "', hosts: ['./*']" more "}]}"
static const struct {
    const char *kind, *spec, *error; /* "" none */
} cases[] = {
    { "ServiceEntry", "{hosts: [a.example.com], resolution: DNS" PORTS, "" },
    { "ServiceEntry", "{hosts: ['*.example.com']" PORTS, "" },
    { "ServiceEntry", "{ports: [{number: 80, name: http, protocol: HTTP}]}",
      "spec.hosts: needs at least one" },
    { "ServiceEntry", "{hosts: ['*']" PORTS, "spec.hosts[0]: \"*\" is not a host" },
    { "ServiceEntry", "{hosts: ['*.example.com'], resolution: DNS" PORTS,
      "spec.hosts[0]: \"*.example.com\" cannot be looked up, and there are no endpoints" },
    { "ServiceEntry", "{hosts: [a.b], addresses: [10.0.0.0/33]" PORTS,
      "spec.addresses[0]: \"10.0.0.0/33\" is neither an address nor a range" },
    { "ServiceEntry", "{hosts: [a.b], addresses: [10.0.0.0/8], resolution: DNS" PORTS,
      "spec.addresses[0]: ranges need resolution NONE or STATIC" },
    { "ServiceEntry", "{hosts: [a.b], ports: [{number: 0, name: p}]}",
      "spec.ports[0].number: must be in 1..65535, is 0" },
    { "ServiceEntry", "{hosts: [a.b], ports: [{number: 1, name: p}, {number: 1, name: q}]}",
      "spec.ports[1].number: 1 is already defined" },
    { "ServiceEntry", "{hosts: [a.b], endpoints: [{address: 1.1.1.1}]" PORTS,
      "spec.endpoints: resolution NONE has none" },
    { "ServiceEntry", "{hosts: [a.b], resolution: STATIC, endpoints: [{address: a.b}]" PORTS,
      "spec.endpoints[0].address: \"a.b\" is not a valid IP address" },
    { "ServiceEntry",
      "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 'unix:///x', ports: {http: "
      "1}}]" PORTS,
      "spec.endpoints[0].ports: a UNIX socket has none" },
    { "ServiceEntry",
      "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 1.1.1.1, ports: {other: 1}}]" PORTS,
      "spec.endpoints[0].ports: the service entry has no port \"other\"" },
    { "ServiceEntry",
      "{hosts: [a.b, c.d], resolution: STATIC, ports: [{number: 1, name: p, protocol: TCP}]}",
      "spec.ports[0].protocol: several hosts need a protocol that names them" },
    { "WorkloadEntry", "{address: 1.1.1.1, ports: {http: 70000}}",
      "spec.ports: must be in 1..65535, is 70000" },
    { "WorkloadEntry", "{network: net1}", "" },
    { "WorkloadEntry", "{}", "spec.address: is required" },
    { "Sidecar", "{}", "spec: says nothing" },
    { "Sidecar", "{egress: [{hosts: ['./*']}]}", "" },
    { "Sidecar", "{egress: [{hosts: [a.b]}]}",
      "spec.egress[0].hosts[0]: \"a.b\" is not namespace/host" },
    { "Sidecar", "{egress: [{hosts: ['./*']}, {hosts: ['*/*']}]}",
      "spec.egress[0].port: only the last one may have none" },
    { "Sidecar",
      "{ingress: [{port: {number: 1, protocol: HTTP, name: p}, defaultEndpoint: 'other:1'}]}",
      "spec.ingress[0].default_endpoint: \"other:1\" is none of 127.0.0.1:port, 0.0.0.0:port, "
      "[::1]:port, [::]:port, unix:///path" },
    { "Sidecar", "{ingress: [{port: {number: 1, protocol: HTTP, name: p}, tls: {mode: SIMPLE}}]}",
      "spec.ingress[0].tls: needs a port of HTTPS or TLS" },
    { "Sidecar",
      "{ingress: [{port: {number: 1, protocol: HTTPS, name: p}, tls: {mode: SIMPLE, "
      "credentialName: c}}]}",
      "spec.ingress[0].tls.credential_name: cannot be had at a sidecar" },
    { "Sidecar", EGRESS_SOCKET("0", "unix:///a", ""), "" },
    { "Sidecar", EGRESS_SOCKET("0", "unix://@a", ", captureMode: NONE"), "" },
    { "Sidecar", EGRESS_SOCKET("0", "unix://a", ""),
      "spec.egress[0].bind: \"unix://a\" is not an absolute path of a file" },
    { "Sidecar", EGRESS_SOCKET("0", "unix:///a/", ""),
      "spec.egress[0].bind: \"unix:///a/\" is not an absolute path of a file" },
    { "Sidecar", EGRESS_SOCKET("7", "unix:///a", ""),
      "spec.egress[0].port.number: has to be 0 for a UNIX socket" },
    { "Sidecar", EGRESS_SOCKET("0", "unix:///a", ", captureMode: IPTABLES"),
      "spec.egress[0].capture_mode: nothing is caught for a UNIX socket" },
    { "Sidecar",
      "{egress: [{port: {number: 0, protocol: HTTP, name: p}, bind: 'unix:///a', hosts: ['./*']}, "
      "{port: {number: 0, protocol: HTTP, name: p}, bind: 'unix:///a', hosts: ['./*']}]}",
      "spec.egress[1].bind: \"unix:///a\" is already defined" },
    { "Sidecar", "{egress: [{port: {number: 7, protocol: WHAT, name: p}, hosts: ['./*']}]}",
      "spec.egress[0].port.protocol: \"WHAT\" is not known" },
    { "Sidecar", "{ingress: [{port: {number: 7, protocol: WHAT, name: p}}]}",
      "spec.ingress[0].port.protocol: \"WHAT\" is not known" },
    { "Sidecar", "{inboundConnectionPool: {tcp: {maxConnections: -1}}}",
      "spec.inbound_connection_pool.tcp.max_connections: must not be negative, is -1" },
};

static void test_rules(void **state)
{
    (void)state;
    const struct mz_doc_reader r = { MZ_STR("f"), drop, hear, NULL };
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        char text[700];
        (void)snprintf(text, sizeof(text),
                       "apiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {name: x, "
                       "namespace: demo}\nspec: %s\n",
                       cases[i].kind, cases[i].spec);
        told[0] = 0;
        mz_doc_read_text(&r, mz_str_c(text), MZ_TEXT_YAML);
        if (strcmp(told, cases[i].error) != 0)
            fail_msg("%s %s: \"%s\"", cases[i].kind, cases[i].spec, told);
    }
}

int main(void)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rules) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
