/* Services, namespaces, DestinationRules. */
#include "control/analyze/finders.h"
#include "control/model/model.h"

static void port_names(struct mz_documents *d, const struct mz_object *service)
{
    const struct mz_node *ports = mz_node_at(service->tree, "spec.ports");
    for (size_t i = 0; i < mz_node_count(ports); i++) {
        const struct mz_node *p = ports->list[i], *name = mz_node_get(p, "name");
        const struct mz_str word = mz_node_text(p, "name"), protocol = mz_node_text(p, "protocol");
        const ptrdiff_t dash = mz_str_chr(word, '-');
        const struct mz_str first = { word.p, dash < 0 ? word.n : (size_t)dash };
        if (mz_node_text(p, "appProtocol").n || mz_str_eq(protocol, MZ_STR("UDP")) ||
            mz_protocol_parse(first) != MZ_PROTOCOL_UNKNOWN)
            continue;
        found(d, MZ_LEVEL_INFO, 118, service, name ? name->line : 0,
              "Port name %.*s (port: %u, targetPort: %u) doesn't follow the naming convention of "
              "Istio port.",
              MZ_STR_ARG(word), (unsigned)mz_node_number(p, "port"),
              (unsigned)mz_node_number(p, "targetPort"));
    }
}

static void injection(struct mz_documents *d, const struct mz_object *ns)
{
    const struct mz_node *labels = object_labels(ns);
    if (mz_str_starts(ns->name, MZ_STR("kube-")) || mz_str_eq(ns->name, MZ_STR("istio-system")))
        return;
    for (uint32_t i = 0; labels && labels->kind == MZ_NODE_MAP && i < labels->n; i++)
        if (mz_str_eq(labels->pairs[i].key, MZ_STR("istio-injection")) ||
            mz_str_eq(labels->pairs[i].key, MZ_STR("istio.io/rev")) ||
            mz_str_eq(labels->pairs[i].key, MZ_STR("istio.io/dataplane-mode")))
            return;
    found(d, MZ_LEVEL_INFO, 102, ns, name_line(ns),
          "The namespace is not enabled for Istio injection. Run 'kubectl label namespace %.*s "
          "istio-injection=enabled' to enable it, or 'kubectl label namespace %.*s "
          "istio-injection=disabled' to explicitly mark it as not needing injection.",
          MZ_STR_ARG(ns->name), MZ_STR_ARG(ns->name));
}

/* ---- DestinationRules ---- */

static bool is_unverified(const struct mz_object *rule, const struct mz_node *tls)
{
    const struct mz_str mode = mz_node_text(tls, "mode");
    return (mz_str_eq(mode, MZ_STR("SIMPLE")) || mz_str_eq(mode, MZ_STR("MUTUAL"))) &&
           !mz_node_text(tls, "ca_certificates").n &&
           !(mz_node_text(tls, "credential_name").n &&
             mz_node_at(rule->tree, "spec.workload_selector"));
}

static void unverified(struct mz_documents *d, const struct mz_object *rule)
{
    const struct mz_node *policy = mz_node_at(rule->tree, "spec.traffic_policy"),
                         *tls = mz_node_get(policy, "tls"),
                         *ports = mz_node_get(policy, "port_level_settings");
    const struct mz_str host = mz_node_text(rule->tree, "spec.host");
    if (is_unverified(rule, tls))
        found(d, MZ_LEVEL_WARNING, 128, rule, 0,
              "DestinationRule %.*s/%.*s in namespace %.*s has TLS mode set to %.*s but no "
              "caCertificates are set "
              "to validate server identity for host: %.*s",
              MZ_STR_ARG(rule->ns), MZ_STR_ARG(rule->name), MZ_STR_ARG(rule->ns),
              MZ_STR_ARG(mz_node_text(tls, "mode")), MZ_STR_ARG(host));
    for (size_t i = 0; i < mz_node_count(ports); i++)
        if (is_unverified(rule, mz_node_get(ports->list[i], "tls")))
            found(d, MZ_LEVEL_WARNING, 129, rule, ports->list[i]->line,
                  "DestinationRule %.*s/%.*s in namespace %.*s has TLS mode set to %.*s but no "
                  "caCertificates are "
                  "set to validate server identity for host: %.*s at port number:%u",
                  MZ_STR_ARG(rule->ns), MZ_STR_ARG(rule->name), MZ_STR_ARG(rule->ns),
                  MZ_STR_ARG(mz_node_text(ports->list[i], "tls.mode")), MZ_STR_ARG(host),
                  (unsigned)mz_node_number(ports->list[i], "port.number"));
}

/* Pods of the services of @host, with the labels of @subset besides. */
static bool has_pods(const struct mz_documents *d, struct mz_str host, const struct mz_node *labels,
                     bool *out_service)
{
    bool pods = false;
    objects_foreach(it, d, "Service")
    {
        const struct mz_node *selector = mz_node_at((*it)->tree, "spec.selector");
        if (!mz_str_eq(host_fqdn((*it)->name, (*it)->ns, d->arena), host) || !selector)
            continue;
        *out_service = true;
        objects_foreach(pod, d, "Pod") pods |=
            mz_str_eq((*pod)->ns, (*it)->ns) && selector_matches(selector, object_labels(*pod)) &&
            (!labels || selector_matches(labels, object_labels(*pod)));
    }
    return pods;
}

static void subsets(struct mz_documents *d, const struct mz_object *rule)
{
    const struct mz_node *list = mz_node_at(rule->tree, "spec.subsets");
    const struct mz_str host = host_fqdn(mz_node_text(rule->tree, "spec.host"), rule->ns, d->arena);
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *labels = mz_node_get(list->list[i], "labels");
        bool service = false;
        if (!labels || has_pods(d, host, labels, &service) || !service)
            continue;
        found(d, MZ_LEVEL_ERROR, 173, rule, 0,
              "The Subset %.*s defined in the DestinationRule does not select any pods. Which may "
              "lead to 503 UH "
              "(NoHealthyUpstream).",
              MZ_STR_ARG(mz_node_text(list->list[i], "name")));
    }
}

void find_in_services(struct mz_documents *d)
{
    objects_foreach(it, d, "Service") port_names(d, *it);
    objects_foreach(it, d, "Namespace") injection(d, *it);
    objects_foreach(it, d, "DestinationRule")
    {
        unverified(d, *it);
        subsets(d, *it);
    }
}
