/* kube-inject: the proxy into the pods of documents, as the webhook does it when they are written. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/dump.h"
#include "cli/inputs.h"
#include "cli/kube_types.h"
#include "cli/print.h"
#include "control/inject/inject.h"
#include "control/inject/layers.h"
#include "control/inject/templates.h"

struct inject_options {
    const char *templates, *values, *mesh;
    const char *file, *output, *image, *revision, *ca_address, *cluster_id, *mesh_id, *trust_domain;
};
#define AT(member) offsetof(struct inject_options, member)
static const struct arg_flag inject_flags[] = {
    { "filename", 'f', ARG_TEXT, AT(file), "File of documents; '-' is standard input" },
    { "output", 'o', ARG_TEXT, AT(output), "File to write to instead of standard output" },
    { "injectConfigFile", 0, ARG_TEXT, AT(templates),
      "Templates of one's own: what `config` of the ConfigMap istio-sidecar-injector holds" },
    { "valuesFile", 0, ARG_TEXT, AT(values), "What `values` of it holds, for templates" },
    { "meshConfigFile", 0, ARG_TEXT, AT(mesh), "File of the MeshConfig" },
    { "image", 0, ARG_TEXT, AT(image), "Image of the proxy" },
    { "revision", 'r', ARG_TEXT, AT(revision), "Control plane revision (default)" },
    { "ca-address", 0, ARG_TEXT, AT(ca_address),
      "Where proxies ask for certificates (istiod.istio-system.svc:15012)" },
    { "cluster-id", 0, ARG_TEXT, AT(cluster_id), "(Kubernetes)" },
    { "mesh-id", 0, ARG_TEXT, AT(mesh_id), "(cluster.local)" },
    { "trust-domain", 0, ARG_TEXT, AT(trust_domain), "(cluster.local)" },
};
#undef AT

struct run {
    struct mz_inject_opts o;
    FILE *to;
    const struct mz_inject_templates *templates;
    struct mz_store *store; /* of the MeshConfig; NULL: none was given */
    struct mz_model *model; /* of it */
    struct mz_err err;
    const char *file;
    bool failed;
};

static void write_yaml(struct run *r, json_t *object)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    char *text = json_dumps(object, JSON_COMPACT);
    const struct mz_node *n = text ? mz_tree_read(a, mz_str_c(text), MZ_TEXT_JSON, &r->err) : NULL;
    if (n) {
        show_print(n, SHOW_YAML, false, r->to);
        fprintf(r->to, "---\n");
    }
    free(text);
    mz_arena_destroy(a);
}

static void part(void *arg, struct mz_str text, uint32_t line0)
{
    struct run *r = arg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_node *n = r->failed ? NULL : mz_tree_read_yaml(a, text, line0, &r->err);
    json_t *object = n && n->kind == MZ_NODE_MAP ? mz_json_from_tree(n) : NULL;
    if (!r->failed && !n)
        r->failed = true;
    if (object && mz_inject_object(object, &r->o, &r->err) == MZ_INJECT_FAILED)
        r->failed = true;
    if (object && !r->failed) {
        kube_complete(object);
        write_yaml(r, object);
    }
    json_decref(object);
    mz_arena_destroy(a);
}

static const char *or_default(const char *given, const char *otherwise)
{
    return given ? given : otherwise;
}

/* "" where @file is NULL. */
static bool read_text(const char *file, struct mz_buf *b, struct mz_str *out, struct mz_err *err)
{
    if (file && !read_file(file, b, err))
        return false;
    *out = mz_buf_linearize(b, mz_buf_len(b));
    return true;
}

static bool read_templates(struct run *r, const struct inject_options *o,
                           struct mz_inject_templates **out)
{
    struct mz_buf config, values;
    struct mz_str c, v;
    bool ok = true;
    mz_buf_init(&config);
    mz_buf_init(&values);
    if (o->templates || o->values) {
        ok = read_text(o->templates, &config, &c, &r->err) &&
             read_text(o->values, &values, &v, &r->err);
        *out = ok ? mz_inject_templates_read(c, v, &r->err) : NULL;
        ok = *out || mz_err_at(&r->err, "%s", o->templates ? o->templates : o->values);
    }
    mz_buf_fini(&config);
    mz_buf_fini(&values);
    return ok;
}

/* ---- the MeshConfig ---- */

static void layers(void *arg, const char *ns, const json_t *labels, json_t **out_under,
                   json_t **out_over)
{
    mz_inject_layers(((const struct run *)arg)->model, ns, labels, out_under, out_over);
}

static json_t *mesh(void *arg)
{
    return mz_inject_mesh(((const struct run *)arg)->model);
}

static void nobody(void *arg)
{
    (void)arg; /* it is read once */
}

static void mesh_doc(void *arg, struct mz_doc *d)
{
    mz_store_put(((struct run *)arg)->store, d);
}

static void mesh_problem(void *arg, enum mz_level level, uint32_t line, struct mz_str key,
                         const char *text)
{
    struct run *r = arg;
    (void)key; /* there is one document */
    if (level != MZ_LEVEL_ERROR)
        fprintf(stderr, "%s:%u: %s\n", r->file, line, text);
    else if (!r->failed)
        r->failed = !mz_err_set(&r->err, "%s:%u: %s", r->file, line, text);
}

static bool read_mesh(struct run *r, const char *file)
{
    const struct mz_doc_reader reader = { mz_str_c(file), mesh_doc, mesh_problem, r };
    const struct mz_model_opts opts = { .domain = "cluster.local" };
    struct mz_buf b;
    mz_buf_init(&b);
    r->file = file;
    r->failed = !read_file(file, &b, &r->err);
    if (!r->failed) {
        r->store = mz_store_create(nobody, NULL);
        mz_doc_read_mesh(&reader, mz_buf_linearize(&b, mz_buf_len(&b)));
    }
    mz_buf_fini(&b);
    if (r->failed)
        return false;
    r->model = mz_model_build(r->store, &opts, NULL);
    r->o.config = layers;
    r->o.config_arg = r;
    r->o.mesh = mesh;
    return true;
}

static bool inject(struct run *r, const struct inject_options *o)
{
    struct mz_inject_templates *own = NULL;
    struct mz_buf b;
    mz_buf_init(&b);
    bool ok = read_templates(r, o, &own);
    r->templates = own;
    r->o.templates = &r->templates;
    ok = ok && (!o->mesh || read_mesh(r, o->mesh)) && read_file(o->file, &b, &r->err);
    if (ok)
        mz_doc_parts(mz_buf_linearize(&b, mz_buf_len(&b)), part, r);
    if (ok && r->failed)
        ok = mz_err_at(&r->err, "%s", o->file);
    mz_buf_fini(&b);
    mz_inject_templates_destroy(own);
    if (r->model)
        mz_model_unref(r->model);
    mz_store_destroy(r->store);
    return ok;
}

static int run_kube_inject(const struct command *c, int argc, char **argv)
{
    struct inject_options o = { .file = NULL };
    struct arg_result r;
    struct run run = { .to = stdout, .err = { .path = "", .msg = "" } };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (!o.file || r.others.n)
        return command_usage_error(c, "filename not specified (see --filename or -f)");
    mz_inject_opts_init(&run.o);
    run.o.native = mz_inject_native_from_env();
    run.o.image = o.image;
    run.o.revision = or_default(o.revision, run.o.revision);
    run.o.ca_address = or_default(o.ca_address, run.o.ca_address);
    run.o.cluster_id = or_default(o.cluster_id, run.o.cluster_id);
    run.o.mesh_id = or_default(o.mesh_id, run.o.mesh_id);
    run.o.trust_domain = or_default(o.trust_domain, run.o.trust_domain);
    if (o.output && !(run.to = fopen(o.output, "we"))) {
        mz_err_set(&run.err, "%s: cannot be written", o.output);
        return command_fail(&run.err);
    }
    const bool ok = inject(&run, &o);
    if (o.output && fclose(run.to) != 0 && ok) {
        mz_err_set(&run.err, "%s: cannot be written", o.output);
        return command_fail(&run.err);
    }
    return ok ? EXIT_OK : command_fail(&run.err);
}

const struct command command_kube_inject = {
    .name = "kube-inject",
    .aliases = "",
    .arguments = "-f FILE",
    .run = run_kube_inject,
    .flags = inject_flags,
    .flags_n = MZ_COUNT(inject_flags),
    .help = "Inject a proxy into the pods of Kubernetes documents",
};
