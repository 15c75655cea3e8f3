/* DestinationRules: servers that are not verified, hosts and subsets that nobody has. */
#include "control/analyze/finders.h"

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
              "caCertificates are set to validate server identity for host: %.*s",
              MZ_STR_ARG(rule->ns), MZ_STR_ARG(rule->name), MZ_STR_ARG(rule->ns),
              MZ_STR_ARG(mz_node_text(tls, "mode")), MZ_STR_ARG(host));
    for (size_t i = 0; i < mz_node_count(ports); i++)
        if (is_unverified(rule, mz_node_get(ports->list[i], "tls")))
            found(d, MZ_LEVEL_WARNING, 129, rule, 0,
                  "DestinationRule %.*s/%.*s in namespace %.*s has TLS mode set to %.*s but no "
                  "caCertificates are set to validate server identity for host: %.*s at port "
                  "number:%u",
                  MZ_STR_ARG(rule->ns), MZ_STR_ARG(rule->name), MZ_STR_ARG(rule->ns),
                  MZ_STR_ARG(mz_node_text(ports->list[i], "tls.mode")), MZ_STR_ARG(host),
                  (unsigned)mz_node_number(ports->list[i], "port.number"));
}

/* ---- subsets ---- */

/* Labels of places are those of the pod's node. */
static bool has_label(const struct mz_documents *d, const struct mz_object *pod, struct mz_str key,
                      struct mz_str value)
{
    static const char *const places[] = { "topology.kubernetes.io/region",
                                          "topology.kubernetes.io/zone",
                                          "topology.istio.io/subzone" };
    const struct mz_node *own = map_get(object_labels(pod), key);
    const struct mz_str name = mz_node_text(pod->tree, "spec.nodeName");
    const struct mz_object *node = name.n ? object_find(d, "Node", MZ_STR(""), name) : NULL;
    if (name.n && mz_str_eq(key, MZ_STR("kubernetes.io/hostname")))
        return mz_str_eq(name, value);
    for (size_t i = 0; node && i < MZ_COUNT(places); i++)
        if (mz_str_eq(key, mz_str_c(places[i])) && object_label(node, places[i]).n)
            return mz_str_eq(object_label(node, places[i]), value);
    return own && mz_str_eq(scalar_text(own), value);
}

/* Those that stand on pods themselves. */
static const struct mz_node *own_labels(const struct mz_documents *d, const struct mz_node *labels)
{
    struct mz_node *out = mz_arena_new0(d->arena, struct mz_node);
    if (!labels || labels->kind != MZ_NODE_MAP || !labels->n)
        return NULL;
    out->kind = MZ_NODE_MAP;
    out->pairs = mz_arena_alloc(d->arena, labels->n * sizeof(*out->pairs));
    for (uint32_t i = 0; i < labels->n; i++)
        if (!mz_str_starts(labels->pairs[i].key, MZ_STR("topology.")) &&
            !mz_str_eq(labels->pairs[i].key, MZ_STR("kubernetes.io/hostname")))
            out->pairs[out->n++] = labels->pairs[i];
    return out;
}

static bool has_labels(const struct mz_documents *d, const struct mz_object *pod,
                       const struct mz_node *labels)
{
    for (uint32_t i = 0; labels && labels->kind == MZ_NODE_MAP && i < labels->n; i++)
        if (!has_label(d, pod, labels->pairs[i].key, scalar_text(labels->pairs[i].value)))
            return false;
    return true;
}

static void subsets(struct mz_documents *d, const struct hosts *h, const struct mz_object *rule)
{
    const struct mz_node *list = mz_node_at(rule->tree, "spec.subsets");
    const struct mz_object *of = hosts_find(h, rule, mz_node_text(rule->tree, "spec.host"));
    const struct mz_node *of_entry =
        of ? mz_node_at(of->tree, "spec.workload_selector.labels") : NULL;
    if (!of && h->any)
        found(d, MZ_LEVEL_WARNING, 174, rule, 0,
              "The host %.*s defined in the DestinationRule does not match any services in the "
              "mesh.",
              MZ_STR_ARG(mz_node_text(rule->tree, "spec.host")));
    for (size_t i = 0; of && i < mz_node_count(list); i++) {
        bool any = false;
        const struct mz_node *labels = mz_node_get(list->list[i], "labels");
        for (struct mz_object *const *pod = pods_near(d, MZ_STR("*"), own_labels(d, labels));
             *pod && !any; pod++)
            any = has_labels(d, *pod, labels) && has_labels(d, *pod, of_entry);
        if (!any)
            found(d, MZ_LEVEL_ERROR, 173, rule, 0,
                  "The Subset %.*s defined in the DestinationRule does not select any pods. Which "
                  "may lead to 503 UH (NoHealthyUpstream).",
                  MZ_STR_ARG(mz_node_text(list->list[i], "name")));
    }
}

void find_in_rules(struct mz_documents *d, const struct hosts *h)
{
    objects_foreach(it, d, "DestinationRule")
    {
        unverified(d, *it);
        subsets(d, h, *it);
    }
}
