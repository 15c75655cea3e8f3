#ifndef MZ_FILTERS_RBAC_RBAC_PRIV_H
#define MZ_FILTERS_RBAC_RBAC_PRIV_H
/* The engine inside: rules (rule.c, rule_build.c), the index of their literals (index.c), policies (rbac.c). */
#include "filters/rbac/rbac.h"

#include "observe/attributes.h"
#include "observe/matcher.h"
#include "proto/names.h"
#include "route/uri_template.h"

enum rule_kind {
    RULE_ANY,
    RULE_NEVER,
    RULE_AND,
    RULE_OR,
    RULE_NOT,
    RULE_HEADER,
    RULE_PATH,
    RULE_TEMPLATE,
    RULE_LOCAL_IP,
    RULE_PORTS, /* of the local address, [from, to) */
    RULE_SNI,
    RULE_METADATA,
    RULE_ROUTE_METADATA,
    RULE_SOURCE_IP,
    RULE_DIRECT_IP,
    RULE_REMOTE_IP,
    RULE_STATE,
    RULE_AUTHENTICATED, /* TLS, and the certificate's name where there is text.string */
    RULE_VALIDATED,     /* a client certificate that was validated, with such a name where there is text.string */
};
enum san_kind { SAN_EMAIL, SAN_DNS, SAN_URI, SAN_IP };
struct rule {
    uint8_t kind;        /* enum rule_kind */
    const char *field;   /* its name in the configuration: "url_path" */
    const char *list;    /* of AND, OR: "rules" or "ids" */
    union {
        struct {
            const struct rule *v; /* AND, OR; NOT has one */
            size_t n;
        } of;
        struct mz_header_match *header;
        struct mz_uri_template *tpl;
        struct mz_cidr cidr;
        struct {
            uint32_t from, to;
        } ports;
        struct mz_metadata_match *metadata;
        struct {
            struct mz_string_match *string; /* PATH, SNI, STATE, AUTHENTICATED, VALIDATED */
            struct mz_str key;              /* STATE */
            uint8_t san;                    /* VALIDATED: enum san_kind */
        } text;
    };
};
struct ask { /* one request while it is compared */
    const struct mz_rbac_input *in;
    struct mz_str path; /* without query and fragment */
    bool has_path;
};
void ask_init(struct ask *q, const struct mz_rbac_input *in, bool path /* some rule looks at it */);
static inline const struct mz_addr *ask_peer(const struct ask *q)
{
    return q->in->peer ? q->in->peer : &q->in->info->direct_remote;
}
bool rule_matches(const struct rule *r, const struct ask *q);
/* Appends the way to the first condition that made @r what it is (@yes: match), and its text. */
void rule_why(const struct rule *r, const struct ask *q, bool yes, struct mz_buf *out);

struct rule_builder {
    struct mz_arena *arena; /* of the engine: objects of rules end with it */
    const struct mz_factory *f;
    struct mz_err *err;
    bool http; /* there are headers */
    bool logs; /* an action LOG was built */
    bool path; /* a rule for paths was built */
};
bool rule_build_permission(struct rule_builder *b, const pb_Permission *m, struct rule *out);
bool rule_build_principal(struct rule_builder *b, const pb_Principal *m, struct rule *out);

struct policy {
    struct mz_str name;
    const char *details;
    struct rule permissions, principals; /* ORs of the lists */
    bool any_permission, any_principal;  /* one of them is "any": they need not be looked at */
    struct mz_cel *condition;            /* NULL: none */
    const char *condition_field;
};

/* ---- the index: which policies can match at all ---- */
struct index;
struct index *index_create(const struct policy *v, size_t n);
void index_destroy(struct index *x); /* NULL is fine */
/* Sets a bit for each policy that may match. @out has (n + 63) / 64 words. */
void index_candidates(const struct index *x, const struct ask *q, uint64_t *out);
#endif
