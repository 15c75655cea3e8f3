/* proxy-config secret: certificates and authorities that a proxy holds. */
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/base64.h"
#include "cli/proxy_config.h"

struct secret {
    struct mz_str name, state;
    struct mz_str type, serial, from, until, trust_domain;
    bool valid;
};

static struct mz_str time_text(const ASN1_TIME *t, struct mz_arena *a)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm)
               ? mz_arena_printf(a, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec)
               : MZ_STR("");
}

static struct mz_str serial_text(const X509 *x, struct mz_arena *a)
{
    BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *hex = n ? BN_bn2hex(n) : NULL;
    char out[128];
    size_t len = hex ? strlen(hex) : 0;
    if (len >= sizeof(out))
        len = sizeof(out) - 1;
    for (size_t i = 0; i < len; i++)
        out[i] = mz_lower(hex[i]);
    out[len] = 0;
    struct mz_str s = mz_str_c(out);
    while (s.n > 1 && s.p[0] == '0')
        s = mz_str_skip(s, 1);
    s = s.n < 32 ? mz_arena_printf(a, "%0*d%.*s", (int)(32 - s.n), 0, MZ_STR_ARG(s))
                 : mz_arena_dup(a, s);
    OPENSSL_free(hex);
    BN_free(n);
    return s;
}

/* The host of its spiffe:// name; "" none. */
static struct mz_str trust_domain(X509 *x, struct mz_arena *a)
{
    struct mz_str out = MZ_STR("");
    GENERAL_NAMES *v = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(v); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(v, i);
        if (g->type != GEN_URI)
            continue;
        const struct mz_str uri = { (const char *)ASN1_STRING_get0_data(
                                        g->d.uniformResourceIdentifier),
                                    (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier) };
        if (mz_str_starts(uri, MZ_STR("spiffe://"))) {
            struct mz_str rest = mz_str_skip(uri, 9), host;
            if (mz_str_split(&rest, '/', &host))
                out = mz_arena_dup(a, host);
        }
    }
    GENERAL_NAMES_free(v);
    return out;
}

/* The first certificate of @pem. */
static void look(struct secret *s, struct mz_str pem, struct mz_arena *a)
{
    BIO *b = pem.n <= INT_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    if (x) {
        s->type = X509_check_ca(x) == 1 ? MZ_STR("CA") : MZ_STR("Cert Chain");
        s->serial = serial_text(x, a);
        s->from = time_text(X509_get0_notBefore(x), a);
        s->until = time_text(X509_get0_notAfter(x), a);
        s->valid = X509_cmp_time(X509_get0_notBefore(x), NULL) < 0 &&
                   X509_cmp_time(X509_get0_notAfter(x), NULL) > 0;
        if (!s->trust_domain.n)
            s->trust_domain = trust_domain(x, a);
    }
    X509_free(x);
    BIO_free(b);
}

struct secrets {
    struct mz_arena *arena;
    MZ_VEC(struct secret) v;
};

static bool has_text(const struct mz_node *holder)
{
    return mz_node_text(holder, "inline_string").n || mz_node_text(holder, "inline_bytes").n;
}

static void add(struct secrets *out, struct secret s, const struct mz_node *holder)
{
    struct mz_str pem = mz_node_text(holder, "inline_string");
    const struct mz_str coded = mz_node_text(holder, "inline_bytes");
    if (!pem.n && coded.n && !mz_base64_decode(coded, out->arena, &pem))
        pem = MZ_STR("");
    if (pem.n)
        look(&s, pem, out->arena);
    *mz_vec_push(&out->v, MZ_MEM_MISC) = s;
}

/* One per trust domain where a secret has several. */
static void add_secret(struct secrets *out, const struct mz_node *n, struct mz_str state)
{
    const struct mz_node *secret = mz_node_get(n, "secret"),
                         *chain = mz_node_at(secret, "tls_certificate.certificate_chain"),
                         *ca = mz_node_at(secret, "validation_context.trusted_ca"),
                         *domains = mz_node_at(secret, "validation_context.custom_validator_config."
                                                       "typed_config.trust_domains");
    const bool own = has_text(chain) || has_text(ca);
    struct secret s = { .name = mz_node_text(n, "name"), .state = state };
    for (size_t i = 0; !own && i < mz_node_count(domains); i++) {
        s.trust_domain = mz_node_text(domains->list[i], "name");
        add(out, s, mz_node_get(domains->list[i], "trust_bundle"));
    }
    if (own || !mz_node_count(domains))
        add(out, s, has_text(chain) ? chain : ca);
}

static void add_list(struct secrets *out, const struct mz_node *list, struct mz_str state)
{
    for (size_t i = 0; i < mz_node_count(list); i++)
        add_secret(out, list->list[i], state);
}

static void print(const struct pc *p, struct secrets *s)
{
    struct table t;
    bool all_known = true;
    mz_vec_foreach (it, &s->v)
        all_known &= it->trust_domain.n > 0;
    table_init(&t, 5);
    table_head(&t, all_known ? "RESOURCE NAME|TYPE|STATUS|VALID CERT|SERIAL NUMBER|NOT AFTER|NOT "
                               "BEFORE|TRUST DOMAIN"
                             : "RESOURCE NAME|TYPE|STATUS|VALID CERT|SERIAL NUMBER|NOT AFTER|NOT "
                               "BEFORE");
    mz_vec_foreach (it, &s->v) {
        table_cellf(&t, "%s%.*s", p->kinds ? "secret/" : "", MZ_STR_ARG(it->name));
        table_cell(&t, it->type);
        table_cell(&t, it->state);
        table_cell(&t, it->valid ? MZ_STR("true") : MZ_STR("false"));
        table_cell(&t, it->serial);
        table_cell(&t, it->until);
        table_cell(&t, it->from);
        if (all_known)
            table_cell(&t, it->trust_domain);
        table_end_row(&t);
    }
    table_print(&t, p->out);
    table_fini(&t);
}

bool pc_secrets(const struct pc *p, struct mz_err *err)
{
    const struct mz_node *part = dump_part(p->dump, "SecretsConfigDump", err);
    struct resources one = { &part, 1 };
    if (!part)
        return false;
    if (p->form != SHOW_TABLE) {
        show_print(resources_list(&one, p->dump->arena)->list[0], p->form, true, p->out);
        return true;
    }
    struct secrets s = { .arena = p->dump->arena };
    add_list(&s, mz_node_get(part, "dynamic_warming_secrets"), MZ_STR("WARMING"));
    add_list(&s, mz_node_get(part, "dynamic_active_secrets"), MZ_STR("ACTIVE"));
    if (s.v.n)
        print(p, &s);
    else
        fprintf(p->out, "No active or warming secrets found.\n");
    mz_vec_free(&s.v, MZ_MEM_MISC);
    return true;
}
