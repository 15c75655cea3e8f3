/* What is added to a pod: the proxy's container, the one that prepares the network, volumes. In today's shape of the field. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "control/inject/inject_priv.h"

#define HAS(i, name) (annotation(i, name, NULL) != NULL)
#define SIDECAR      "sidecar.istio.io/"
#define TRAFFIC      "traffic.sidecar.istio.io/"
#define READINESS    "readiness.status.sidecar.istio.io/"

/* ---- small pieces ---- */

static void env(json_t *list, const char *name, const char *value)
{
    (void)json_array_append_new(list, value[0]
                                          ? json_pack("{s:s, s:s}", "name", name, "value", value)
                                          : json_pack("{s:s}", "name", name));
}

static void env_field(json_t *list, const char *name, const char *path)
{
    (void)json_array_append_new(list, json_pack("{s:s, s:{s:{s:s}}}", "name", name, "valueFrom",
                                                "fieldRef", "fieldPath", path));
}

static void env_resource(json_t *list, const char *name, const char *resource)
{
    (void)json_array_append_new(list, json_pack("{s:s, s:{s:{s:s, s:s}}}", "name", name,
                                                "valueFrom", "resourceFieldRef", "divisor", "1",
                                                "resource", resource));
}

__attribute__((format(printf, 2, 3))) static void argument(json_t *list, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) >= 0)
        (void)json_array_append_new(list, json_string(text));
    va_end(ap);
    free(text);
}

static void option(json_t *list, const char *letter, const char *value)
{
    argument(list, "%s", letter);
    argument(list, "%s", value);
}

static json_int_t number_of(const struct injection *i, const char *name, json_int_t otherwise)
{
    uint64_t v;
    return mz_str_u64(mz_str_c(annotation(i, name, "")), &v) && v <= INT32_MAX ? (json_int_t)v
                                                                               : otherwise;
}

const char *template_mode(const struct injection *i)
{
    return annotation(i, SIDECAR "interceptionMode",
                      config_text(i, "interceptionMode", "REDIRECT"));
}

/* ---- environment ---- */

/* All ports of the pod, as text: "[\n    {...}\n    ,{...}\n]". */
/* Ends it. */
static char *owned(struct mz_buf *b)
{
    const struct mz_str s = mz_buf_linearize(b, mz_buf_len(b));
    char *out = strndup(s.n ? s.p : "", s.n);
    mz_buf_fini(b);
    return out;
}

static char *pod_ports(const struct injection *i)
{
    static const char *const order[] = { "name", "hostPort", "containerPort", "protocol",
                                         "hostIP" };
    size_t at, k, n = 0;
    json_t *c, *p;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append(&b, "[", 1);
    json_array_foreach(json_object_get(i->spec, "containers"), at, c)
        json_array_foreach(json_object_get(c, "ports"), k, p)
    {
        json_t *one = json_object();
        for (size_t f = 0; f < 5; f++)
            if (json_object_get(p, order[f]))
                (void)json_object_set(one, order[f], json_object_get(p, order[f]));
        char *text = json_dumps(one, JSON_COMPACT);
        mz_buf_append(&b, n ? "\n    ," : "\n    ", n ? 6 : 5);
        mz_buf_append(&b, text ? text : "", text ? strlen(text) : 0);
        n++;
        free(text);
        json_decref(one);
    }
    mz_buf_append(&b, "\n]", 2);
    char *all = owned(&b);
    return all;
}

static char *app_containers(const struct injection *i)
{
    size_t at;
    json_t *c;
    struct mz_buf b;
    mz_buf_init(&b);
    json_array_foreach(json_object_get(i->spec, "containers"), at, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (!name || strcmp(name, INJECT_PROXY) == 0)
            continue;
        mz_buf_append(&b, ",", mz_buf_len(&b) ? 1 : 0);
        mz_buf_append(&b, name, strlen(name));
    }
    return owned(&b);
}

/* "kubernetes://apis/apps/v1/namespaces/demo/deployments/shop" */
static void env_owner(const struct injection *i, json_t *list)
{
    const struct mz_inject_owner *w = i->owner;
    char text[900], kind[80];
    size_t n = 0;
    for (; w->kind[n] && n + 1 < sizeof(kind); n++)
        kind[n] = mz_lower(w->kind[n]);
    kind[n] = 0;
    if (!w->name[0])
        return;
    const char *name = json_string_value(
        json_object_get(json_object_get(json_object_get(i->pod, "metadata"), "labels"),
                        "service.istio.io/workload-name"));
    env(list, "ISTIO_META_WORKLOAD_NAME", name ? name : w->name);
    (void)snprintf(text, sizeof(text), "kubernetes://apis/%s/namespaces/%s/%ss/%s", w->api, w->ns,
                   kind, w->name);
    env(list, "ISTIO_META_OWNER", text);
}

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static void env_metadata(const struct injection *i, json_t *list)
{
    json_t *map = json_object_get(i->config, "proxyMetadata"), *value;
    const char *names[256], *key;
    size_t n = 0;
    json_object_foreach(map, key, value) if (n < 256 && json_is_string(value)) names[n++] = key;
    qsort(names, n, sizeof(*names), by_text);
    for (size_t k = 0; k < n; k++)
        env(list, names[k], json_string_value(json_object_get(map, names[k])));
}

static void env_config(const struct injection *i, json_t *list)
{
    json_t *config = i->config ? proxy_config_unusual(i->config) : json_object();
    char *text = json_dumps(config, JSON_COMPACT), *line = NULL;
    json_decref(config);
    if (text && asprintf(&line, "%s\n", text) >= 0)
        env(list, "PROXY_CONFIG", line);
    free(text);
    free(line);
}

/* Proxies hand inbound traffic to the loopback address, as those of old did. */
static bool is_for_localhost(const struct injection *i)
{
    const char *mode = json_string_value(
        json_object_get(json_object_get(i->mesh, "inboundTrafficPolicy"), "mode"));
    return mode && strcmp(mode, "LOCALHOST") == 0;
}

static json_t *environment(const struct injection *i)
{
    json_t *list = json_array();
    char *ports = pod_ports(i), *apps = app_containers(i);
    if (!i->gateway && is_for_localhost(i))
        env(list, "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true");
    env(list, "PILOT_CERT_PROVIDER", "istiod");
    env(list, "CA_ADDR", i->o->ca_address);
    env_field(list, "POD_NAME", "metadata.name");
    env_field(list, "POD_NAMESPACE", "metadata.namespace");
    env_field(list, "INSTANCE_IP", "status.podIP");
    env_field(list, "SERVICE_ACCOUNT", "spec.serviceAccountName");
    env_field(list, "HOST_IP", "status.hostIP");
    env_resource(list, "ISTIO_CPU_LIMIT", "limits.cpu");
    env_config(i, list);
    env(list, "ISTIO_META_POD_PORTS", ports ? ports : "[\n]");
    if (!i->gateway)
        env(list, "ISTIO_META_APP_CONTAINERS", apps ? apps : "");
    env_resource(list, "GOMEMLIMIT", "limits.memory");
    if (i->gateway)
        env(list, "ISTIO_META_APP_CONTAINERS", apps ? apps : "");
    env(list, "ISTIO_META_CLUSTER_ID", i->o->cluster_id);
    env_field(list, "ISTIO_META_NODE_NAME", "spec.nodeName");
    env(list, "ISTIO_META_INTERCEPTION_MODE", template_mode(i));
    env_owner(i, list);
    if (HAS(i, SIDECAR "bootstrapOverride"))
        env(list, "ISTIO_BOOTSTRAP_OVERRIDE", "/etc/istio/custom-bootstrap/custom_bootstrap.json");
    env(list, "ISTIO_META_MESH_ID", i->o->mesh_id);
    env(list, "TRUST_DOMAIN", i->o->trust_domain);
    env_metadata(i, list);
    free(ports);
    free(apps);
    return list;
}

/* ---- resources, probes, rights ---- */

static void resource(const struct injection *i, json_t *out, const char *group, const char *cpu,
                     const char *memory)
{
    json_t *map = json_object();
    if (HAS(i, cpu))
        (void)json_object_set_new(map, "cpu", json_string(annotation(i, cpu, "")));
    if (HAS(i, memory))
        (void)json_object_set_new(map, "memory", json_string(annotation(i, memory, "")));
    if (json_object_size(map))
        (void)json_object_set(out, group, map);
    json_decref(map);
}

static json_t *resources(const struct injection *i)
{
    json_t *out = json_object();
    resource(i, out, "requests", SIDECAR "proxyCPU", SIDECAR "proxyMemory");
    resource(i, out, "limits", SIDECAR "proxyCPULimit", SIDECAR "proxyMemoryLimit");
    if (json_object_size(out))
        return out;
    json_decref(out);
    return json_pack("{s:{s:s, s:s}, s:{s:s, s:s}}", "limits", "cpu", "2", "memory", "1Gi",
                     "requests", "cpu", "100m", "memory", "128Mi");
}

static json_t *ready_probe(void)
{
    return json_pack("{s:{s:s, s:i}, s:i}", "httpGet", "path", "/healthz/ready", "port", 15021,
                     "timeoutSeconds", 3);
}

static void probes(const struct injection *i, json_t *c)
{
    json_t *ready = ready_probe(), *start = ready_probe();
    const json_int_t delay = number_of(i, READINESS "initialDelaySeconds", 0);
    (void)json_object_set_new(ready, "failureThreshold",
                              json_integer(number_of(i, READINESS "failureThreshold", 4)));
    (void)json_object_set_new(ready, "periodSeconds",
                              json_integer(number_of(i, READINESS "periodSeconds", 15)));
    if (delay)
        (void)json_object_set_new(ready, "initialDelaySeconds", json_integer(delay));
    (void)json_object_set_new(start, "failureThreshold", json_integer(600));
    (void)json_object_set_new(start, "periodSeconds", json_integer(1));
    if (strcmp(annotation(i, "status.sidecar.istio.io/port", "1"), "0") != 0)
        (void)json_object_set(c, "readinessProbe", ready);
    if (!i->gateway && json_object_get(c, "readinessProbe"))
        (void)json_object_set(c, "startupProbe", start);
    json_decref(ready);
    json_decref(start);
}

static json_t *rights(const struct injection *i)
{
    const bool tproxy = strcmp(template_mode(i), "TPROXY") == 0;
    if (i->gateway)
        return json_pack("{s:i, s:i}", "runAsGroup", 1337, "runAsUser", 1337);
    json_t *caps = json_pack("{s:[s]}", "drop", "ALL");
    if (tproxy)
        (void)json_object_set_new(caps, "add", json_pack("[s]", "NET_ADMIN"));
    return json_pack("{s:b, s:o, s:b, s:b, s:i, s:b, s:i}", "allowPrivilegeEscalation", 0,
                     "capabilities", caps, "privileged", 0, "readOnlyRootFilesystem", 1,
                     "runAsGroup", 1337, "runAsNonRoot", !tproxy, "runAsUser", tproxy ? 0 : 1337);
}

/* ---- volumes ---- */

static void mount(json_t *list, const char *name, const char *path)
{
    (void)json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "mountPath", path));
}

/* A list of them, or by name. A new reference. */
static json_t *named_list(json_t *said)
{
    const char *name;
    json_t *one, *list;
    if (!json_is_object(said))
        return json_incref(said);
    list = json_array();
    json_object_foreach(said, name, one)
    {
        json_t *copy = json_pack("{s:s}", "name", name);
        (void)json_object_update(copy, one);
        (void)json_array_append_new(list, copy);
        if (!json_is_object(one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static bool add_user(const struct injection *i, json_t *list, const char *name)
{
    const char *text = annotation(i, name, NULL);
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err why = { .path = "", .msg = "" };
    const struct mz_node *n = text ? mz_tree_read(a, mz_str_c(text), MZ_TEXT_JSON, &why) : NULL;
    json_t *said = n ? mz_json_from_tree(n) : NULL, *more = named_list(said);
    const bool ok = !text || (json_is_array(more) && json_array_extend(list, more) == 0);
    json_decref(more);
    json_decref(said);
    mz_arena_destroy(a);
    return ok || mz_err_set(i->err, "annotation %s: not a list as JSON: %s", name, why.msg);
}

static json_t *volume(const struct injection *i, const char *name, bool memory)
{
    (void)i;
    json_t *dir = json_object();
    if (memory)
        (void)json_object_set_new(dir, "medium", json_string("Memory"));
    return json_pack("{s:s, s:o}", "name", name, "emptyDir", dir);
}

static json_t *podinfo(void)
{
    return json_pack("{s:s, s:{s:[{s:s, s:{s:s}}, {s:s, s:{s:s}}]}}", "name", "istio-podinfo",
                     "downwardAPI", "items", "path", "labels", "fieldRef", "fieldPath",
                     "metadata.labels", "path", "annotations", "fieldRef", "fieldPath",
                     "metadata.annotations");
}

static json_t *volumes(const struct injection *i)
{
    json_t *list = json_array();
    (void)json_array_append_new(list, json_pack("{s:s}", "name", "workload-socket"));
    (void)json_array_append_new(list, i->gateway ? volume(i, "credential-socket", false)
                                                 : json_pack("{s:s}", "name", "credential-socket"));
    (void)json_array_append_new(list, i->gateway ? volume(i, "workload-certs", false)
                                                 : json_pack("{s:s}", "name", "workload-certs"));
    if (HAS(i, SIDECAR "bootstrapOverride"))
        (void)json_array_append_new(
            list, json_pack("{s:s, s:{s:s}}", "name", "custom-bootstrap-volume", "configMap",
                            "name", annotation(i, SIDECAR "bootstrapOverride", "")));
    (void)json_array_append_new(list, volume(i, "istio-envoy", true));
    (void)json_array_append_new(list, volume(i, "istio-data", false));
    (void)json_array_append_new(list, podinfo());
    (void)json_array_append_new(list, json_pack("{s:s, s:{s:[{s:{s:s, s:i, s:s}}]}}", "name",
                                                "istio-token", "projected", "sources",
                                                "serviceAccountToken", "audience", "istio-ca",
                                                "expirationSeconds", 43200, "path", "istio-token"));
    (void)json_array_append_new(list, json_pack("{s:s, s:{s:s}}", "name", "istiod-ca-cert",
                                                "configMap", "name", "istio-ca-root-cert"));
    if (!i->gateway)
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:{s:s, s:b}}", "name", "istio-ca-crl",
                                              "configMap", "name", "istio-ca-crl", "optional", 1));
    return list;
}

static json_t *mounts(const struct injection *i)
{
    json_t *list = json_array();
    mount(list, "workload-socket", "/var/run/secrets/workload-spiffe-uds");
    mount(list, "credential-socket", "/var/run/secrets/credential-uds");
    mount(list, "workload-certs", "/var/run/secrets/workload-spiffe-credentials");
    mount(list, "istiod-ca-cert", "/var/run/secrets/istio");
    if (!i->gateway)
        mount(list, "istio-ca-crl", "/var/run/secrets/istio/crl");
    mount(list, "istio-data", "/var/lib/istio/data");
    if (HAS(i, SIDECAR "bootstrapOverride"))
        mount(list, "custom-bootstrap-volume", "/etc/istio/custom-bootstrap");
    mount(list, "istio-envoy", "/etc/istio/proxy");
    mount(list, "istio-token", "/var/run/secrets/tokens");
    mount(list, "istio-podinfo", "/etc/istio/pod");
    return list;
}

json_t *template_volumes(const struct injection *i, const char *which)
{
    const bool m = strcmp(which, "volumeMounts") == 0;
    json_t *list = m ? mounts(i) : volumes(i);
    if (add_user(i, list, m ? SIDECAR "userVolumeMount" : SIDECAR "userVolume"))
        return list;
    json_decref(list);
    return NULL;
}

/* ---- containers ---- */

/* Applications that wait for the proxy; a proxy that drains before it is told to go, which is after applications went. */
static void lifecycle(const struct injection *i, json_t *c)
{
    char port[40];
    if (i->native) {
        char status[16];
        (void)snprintf(status, sizeof(status), "%u", status_port(i));
        (void)snprintf(port, sizeof(port), "--debug-port=%.20s",
                       annotation(i, "status.sidecar.istio.io/port", status));
        (void)json_object_set_new(c, "restartPolicy", json_string("Always"));
        (void)json_object_set_new(c, "lifecycle",
                                  json_pack("{s:{s:{s:[s, s, s, s, s]}}}", "preStop", "exec",
                                            "command", "pilot-agent", "request", port, "POST",
                                            "drain"));
    } else if (applications_wait(i) && !i->gateway) {
        (void)json_object_set_new(
            c, "lifecycle",
            json_pack("{s:{s:{s:[s, s]}}}", "postStart", "exec", "command", "pilot-agent", "wait"));
    }
}

/* "example/proxyv2:1.32" of another type: "example/proxyv2:1.32-debug". A new text. */
static json_t *image_of_type(const char *image, const char *type)
{
    static const char *const known[] = { "-distroless", "-debug" };
    struct mz_str s = mz_str_c(image);
    for (size_t k = 0; k < MZ_COUNT(known); k++)
        if (mz_str_ends(s, mz_str_c(known[k])))
            s.n -= strlen(known[k]);
    return strcmp(type, "default") == 0 ? json_stringn(s.p, s.n)
                                        : json_sprintf("%.*s-%s", MZ_STR_ARG(s), type);
}

static const char *value_text(const struct injection *i, const char *path, const char *otherwise)
{
    const char *s = json_string_value(templates_value(i, path));
    return s && s[0] ? s : otherwise;
}

/* Of the injector's values; Istio's where they say none. A new text, to be freed. */
static char *image_by_values(const struct injection *i, const char *name)
{
    const char *hub = value_text(i, "global.hub", "docker.io/istio");
    const json_t *tag = templates_value(i, "global.tag"); /* YAML may take it for a number */
    char *number = json_is_string(tag) ? NULL : json_dumps(tag, JSON_ENCODE_ANY), *out = NULL;
    if (strchr(name, '/'))
        out = strdup(name);
    else if (asprintf(&out, "%s/%s:%s", hub, name,
                      number ? number : value_text(i, "global.tag", "latest")) < 0)
        out = NULL;
    free(number);
    return out;
}

json_t *template_image(const struct injection *i, bool init)
{
    const char *own = annotation(i, SIDECAR "proxyImage", "");
    const json_t *config = init ? NULL : json_object_get(i->config, "image");
    const char *type = json_string_value(json_object_get(config, "imageType"));
    if (strchr(own, '/'))
        return json_string(own);
    type = annotation(i, SIDECAR "proxyImageType",
                      type && type[0] ? type : value_text(i, "global.variant", ""));
    char *made = i->o->image
                     ? NULL
                     : image_by_values(
                           i, value_text(i, init ? "global.proxy_init.image" : "global.proxy.image",
                                         "proxyv2"));
    const char *image = i->o->image ? i->o->image : made;
    json_t *out = type[0] ? image_of_type(image, type) : json_string(image);
    free(made);
    return out;
}

json_t *template_proxy(const struct injection *i)
{
    json_t *mount_list = template_volumes(i, "volumeMounts"), *args = json_array();
    if (!mount_list) {
        json_decref(args);
        return NULL;
    }
    argument(args, "proxy");
    argument(args, "%s", i->gateway ? "router" : "sidecar");
    argument(args, "--domain");
    argument(args, "$(POD_NAMESPACE).svc.%s", i->o->domain);
    argument(args, "--proxyLogLevel=%s", annotation(i, SIDECAR "logLevel", "warning"));
    argument(args, "--proxyComponentLogLevel=%s",
             annotation(i, SIDECAR "componentLogLevel", "misc:error"));
    argument(args, "--log_output_level=%s", annotation(i, SIDECAR "agentLogLevel", "default:info"));
    json_t *c =
        json_pack("{s:s, s:o, s:o, s:o, s:[{s:s, s:i, s:s}], s:o, s:o}", "name", INJECT_PROXY,
                  "image", template_image(i, false), "args", args, "env", environment(i), "ports",
                  "name", "http-envoy-prom", "containerPort", 15090, "protocol", "TCP",
                  "securityContext", rights(i), "volumeMounts", mount_list);
    if (!i->gateway)
        (void)json_object_set_new(c, "resources", resources(i));
    lifecycle(i, c);
    probes(i, c);
    return c;
}

static const char *mesh_port(const struct injection *i, const char *name, int otherwise,
                             char out[16])
{
    const json_int_t said = json_integer_value(json_object_get(i->mesh, name));
    (void)snprintf(out, 16, "%d", said ? (int)said : otherwise);
    return out;
}

static void init_arguments(const struct injection *i, json_t *args)
{
    char ports[400];
    const char *more = annotation(i, TRAFFIC "excludeInboundPorts", "");
    char status[16];
    (void)snprintf(status, sizeof(status), "%u", status_port(i));
    const char *agent = annotation(i, "status.sidecar.istio.io/port", status);
    const bool none = strcmp(agent, "0") == 0; /* the agent serves nothing */
    (void)snprintf(ports, sizeof(ports), "15090,15021%s%.300s%s%s", more[0] ? "," : "", more,
                   none ? "" : ",", none ? "" : agent);
    argument(args, "istio-iptables");
    option(args, "-p", mesh_port(i, "proxyListenPort", 15001, status));
    option(args, "-z", mesh_port(i, "proxyInboundListenPort", 15006, status));
    option(args, "-u", "1337");
    option(args, "-m", template_mode(i));
    option(args, "-i", annotation(i, TRAFFIC "includeOutboundIPRanges", "*"));
    option(args, "-x", annotation(i, TRAFFIC "excludeOutboundIPRanges", ""));
    option(args, "-b", annotation(i, TRAFFIC "includeInboundPorts", "*"));
    option(args, "-d", ports);
    if (HAS(i, TRAFFIC "includeOutboundPorts"))
        option(args, "-q", annotation(i, TRAFFIC "includeOutboundPorts", ""));
    if (HAS(i, TRAFFIC "excludeOutboundPorts"))
        option(args, "-o", annotation(i, TRAFFIC "excludeOutboundPorts", ""));
    if (HAS(i, "istio.io/reroute-virtual-interfaces"))
        option(args, "-k", annotation(i, "istio.io/reroute-virtual-interfaces", ""));
    else if (HAS(i, TRAFFIC "kubevirtInterfaces"))
        option(args, "-k", annotation(i, TRAFFIC "kubevirtInterfaces", ""));
    if (HAS(i, TRAFFIC "excludeInterfaces"))
        option(args, "-c", annotation(i, TRAFFIC "excludeInterfaces", ""));
    argument(args, "--log_output_level=%s", annotation(i, SIDECAR "agentLogLevel", "default:info"));
}

json_t *template_init(const struct injection *i)
{
    json_t *args = json_array(), *list = json_array();
    init_arguments(i, args);
    env_metadata(i, list);
    json_t *c =
        json_pack("{s:s, s:o, s:o, s:o, s:{s:b, s:{s:[s, s], s:[s]}, s:b, s:b, s:i, s:b, s:i}}",
                  "name", INJECT_INIT, "image", template_image(i, true), "args", args, "resources",
                  resources(i), "securityContext", "allowPrivilegeEscalation", 0, "capabilities",
                  "add", "NET_ADMIN", "NET_RAW", "drop", "ALL", "privileged", 0,
                  "readOnlyRootFilesystem", 0, "runAsGroup", 0, "runAsNonRoot", 0, "runAsUser", 0);
    if (json_array_size(list))
        (void)json_object_set(c, "env", list);
    json_decref(list);
    return c;
}
