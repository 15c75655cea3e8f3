#include "control/program_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "control/analyze/report.h"
#include "control/ca/token.h"
#include "control/debug/dump.h"
#include "control/model/model.h"
#include "control/model/service_ips.h"
#include "control/status/status.h"

/* Generated: what stands in proto/istio and proto/k8s. */
extern const ProtobufCMessageDescriptor *const mz_control_types[];
extern const size_t mz_control_types_n;

static void nobody(void *arg)
{
    (void)arg; /* the directory is read once */
}

/* A directory that is read once. */
struct still {
    struct mz_store *store;
    struct mz_source *source;
    struct mz_service_ips *addresses;
    struct mz_model *model;
};

static bool still_read(struct still *s, const struct mz_control_options *o)
{
    const struct mz_directory_opts d = { .dirs = o->config_dirs.v,
                                         .dirs_n = o->config_dirs.n,
                                         .mesh_file = o->mesh_config };
    struct mz_model_opts mo = { .domain = o->domain, .installed = true };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    s->store = mz_store_create(nobody, NULL);
    s->source = mz_directory_create(NULL, s->store, &d);
    s->addresses = mz_service_ips_create(o->service_cidr, &err);
    if (!s->addresses)
        (void)mz_err_at(&err, "--service-cidr");
    if (!s->addresses || !s->source->ops->start(s->source, &err)) {
        fprintf(stderr, "%s\n", mz_err_text(&err, text, sizeof(text)));
        return false;
    }
    mo.addresses = s->addresses;
    s->model = mz_model_build(s->store, &mo, NULL);
    return true;
}

static void still_fini(struct still *s)
{
    mz_model_unref(s->model);
    s->source->ops->destroy(s->source);
    mz_service_ips_destroy(s->addresses);
    mz_store_destroy(s->store);
}

static int validate(const struct mz_control_options *o)
{
    struct still s = { 0 };
    int rc = 1;
    if (still_read(&s, o)) {
        struct mz_report_counts c = mz_report_print(s.source, stdout);
        for (size_t i = 0; i < o->config_dirs.n; i++)
            printf("%s%s", i ? ", " : "", o->config_dirs.v[i]);
        printf(": %zu services, %u errors, %u warnings\n", s.model->services_n, c.errors,
               c.warnings);
        rc = c.errors != 0;
    }
    still_fini(&s);
    return rc;
}

static bool dump_proxy(const struct still *s, const struct mz_control_options *o,
                       struct mz_err *err)
{
    struct mz_proxy *p = mz_dump_read_node(o->node, err);
    if (!p)
        return false;
    const struct mz_features f = mz_features_from_env();
    struct mz_translator *t = mz_translator_create(&f);
    mz_translator_set_model(t, s->model);
    struct mz_view *v = mz_view_create(t, p);
    const bool ok = mz_dump_write(v, o->output, err);
    mz_view_destroy(v);
    mz_translator_destroy(t);
    mz_proxy_destroy(p);
    return ok;
}

static int dump(const struct mz_control_options *o)
{
    struct still s = { 0 };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    bool ok = still_read(&s, o);
    if (ok) {
        (void)mz_report_print(s.source,
                              stderr); /* what is broken is not in the answers: say so, go on */
        ok = dump_proxy(&s, o, &err);
        if (!ok)
            fprintf(stderr, "%s\n", mz_err_text(&err, text, sizeof(text)));
    }
    still_fini(&s);
    return !ok;
}

static int status(const struct mz_control_options *o)
{
    struct still s = { 0 };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    bool ok = still_read(&s, o);
    if (ok) {
        const struct mz_status_from f = { .model = s.model, .store = s.store, .source = s.source };
        (void)mz_report_print(s.source, stderr); /* it stands in what is written, too */
        ok = mz_status_dir_ok(o->status_dir, o->config_dirs.v, o->config_dirs.n, &err) &&
             mz_status_write(&f, o->status_dir, &err);
        if (!ok)
            fprintf(stderr, "%s\n", mz_err_text(&err, text, sizeof(text)));
    }
    still_fini(&s);
    return !ok;
}

/* Prints it and nothing else. */
static int token(const struct mz_control_options *o)
{
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    struct mz_str rest = mz_str_c(o->account);
    struct mz_account who = { MZ_STR(""), MZ_STR("") };
    const struct mz_tokens_opts to = { .dir = o->ca_dir };
    struct mz_tokens *t = NULL;
    (void)mz_str_split(&rest, '/', &who.ns); /* what is left is the name */
    who.name = rest;
    if (!mz_account_ok(who))
        mz_err_set(&err, "--account: \"%s\" is not NAMESPACE/NAME", o->account);
    else if (!o->token_ttl_s || o->token_ttl_s > TOKEN_MAX_TTL_S)
        mz_err_set(&err, "--token-ttl: must be in 1..%d", TOKEN_MAX_TTL_S);
    else
        t = mz_tokens_create(&to, &err);
    if (t) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
        printf("%s\n", mz_tokens_make(t, who, o->token_ttl_s, a).p);
        mz_arena_destroy(a);
    } else {
        fprintf(stderr, "%s\n", mz_err_text(&err, text, sizeof(text)));
    }
    mz_tokens_destroy(t);
    return !t;
}

int mz_control_run(const struct mz_control_options *o)
{
    mz_type_add_table(mz_control_types, mz_control_types_n);
    if (strcmp(o->mode, "serve") == 0)
        return program_serve(o);
    if (strcmp(o->mode, "token") == 0)
        return token(o);
    if (strcmp(o->mode, "status") == 0)
        return status(o);
    return strcmp(o->mode, "dump") == 0 ? dump(o) : validate(o);
}
