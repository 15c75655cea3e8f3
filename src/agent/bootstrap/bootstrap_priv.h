#ifndef MZ_AGENT_BOOTSTRAP_PRIV_H
#define MZ_AGENT_BOOTSTRAP_PRIV_H
#include "agent/bootstrap/bootstrap.h"
#include "agent/tree.h"

/* Kubernetes' downward API: lines of key="quoted value". Labels, annotations; an empty map where there is no file. */
const struct mz_node *pod_info(const struct mz_agent_settings *s, const char *file, struct mz_arena *a, struct mz_err *err);
/* Defaults, the mesh's file, PROXY_CONFIG, the annotation, flags: each over the one before. NULL on errors. */
const struct mz_node *proxy_config(const struct mz_agent_settings *s, const struct mz_node *annotations,
                                   struct mz_arena *a, struct mz_err *err);

struct node {
    struct mz_str id, cluster;
    const struct mz_node *metadata, *locality;
};
bool node_make(const struct mz_agent_settings *s, const struct mz_node *config, const struct mz_node *annotations,
               struct mz_arena *a, struct node *out, struct mz_err *err);

/* Fills a template: ${name}, and lines between "#if name" and "#end" (nested) where that name has a value. */
struct variable {
    const char *name;
    struct mz_str value; /* as it stands in the text: JSON */
};
struct mz_str template_fill(struct mz_arena *a, struct mz_str text, const struct variable *v, size_t n);
extern const char bootstrap_template[];

/* A bootstrap in the making: its sources, and the values of its template. */
struct render {
    const struct mz_agent_settings *s;
    struct mz_arena *a;
    const struct mz_node *config, *annotations;
    const struct node *node;
    struct mz_bootstrap *out;
    struct variable v[80];
    size_t n;
};
void render_set(struct render *r, const char *name, struct mz_str json); /* "": no value */
void render_text(struct render *r, const char *name, struct mz_str text);
void render_number(struct render *r, const char *name, uint64_t v);
/* Whom the proxy tells of its requests and numbers: tracers, sinks, access logs (services.c). */
bool render_services(struct render *r, struct mz_err *err);
void render_secure_metrics(struct render *r, const char *wildcard); /* metrics for clients of the mesh by mutual TLS */
#endif
