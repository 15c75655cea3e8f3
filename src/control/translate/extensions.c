#include "control/translate/extensions.h"

#include <stdlib.h>

#include "base/buf.h"
#include "control/model/attached.h"
#include "control/translate/tell.h"

#define PREFIX     "extensions.istio.io/trafficextension/"
#define TRANSLATED "~istio-translated-wasmplugin" /* no name of an object has a tilde */

struct part { /* of the traffic */
    ist_type_WorkloadMode mode;
    ist_type_PortSelector **ports;
    size_t ports_n;
};
struct extension {
    const struct mz_attached *doc;
    struct mz_str name, own; /* of the resource; of the document as the resource calls it */
    ist_TrafficExtension_ExecutionPhase phase;
    int64_t priority;
    const struct part *parts; /* none: all */
    size_t parts_n;
    const ist_WasmConfig *wasm; /* one of the two */
    const ist_LuaConfig *lua;
};
struct tr_extensions {
    size_t n_v;
    struct extension *v; /* as they stand in a phase */
    uint64_t hash;
};

/* ---- two kinds of documents, one form ---- */

static int64_t priority_of(const pb_Int32Value *v)
{
    return v ? v->value : INT32_MIN;
}

#define PARTS(a, m, out)                                                                           \
    do {                                                                                           \
        struct part *parts_ = mz_arena_alloc((a), (m)->n_match * sizeof(*parts_));                 \
        for (size_t i_ = 0; i_ < (m)->n_match; i_++)                                               \
            parts_[i_] = (struct part){ (m)->match[i_]->mode, (m)->match[i_]->ports,               \
                                        (m)->match[i_]->n_ports };                                 \
        (out)->parts = parts_;                                                                     \
        (out)->parts_n = (m)->n_match;                                                             \
    } while (0)

static ist_WasmConfig *config_of(struct mz_arena *a, const ist_WasmPlugin *m)
{
    ist_WasmConfig *c = (ist_WasmConfig *)tr_new(a, &ist_WasmConfig__descriptor);
    c->url = m->url;
    c->sha256 = m->sha256;
    c->image_pull_policy = m->image_pull_policy;
    c->image_pull_secret = m->image_pull_secret;
    c->verification_key = m->verification_key;
    c->plugin_config = m->plugin_config;
    c->plugin_name = m->plugin_name;
    c->fail_strategy = m->fail_strategy;
    c->vm_config = m->vm_config;
    c->type = m->type;
    return c;
}

static void take_plugin(struct mz_arena *a, const ist_WasmPlugin *m, struct extension *out)
{
    out->phase = (ist_TrafficExtension_ExecutionPhase)m->phase; /* the same numbers */
    out->priority = priority_of(m->priority);
    out->wasm = config_of(a, m);
    PARTS(a, m, out);
}

static void take_extension(struct mz_arena *a, const ist_TrafficExtension *m, struct extension *out)
{
    out->phase = m->phase;
    out->priority = priority_of(m->priority);
    if (m->filter_config_case == ist_TrafficExtension_FILTER_CONFIG_WASM)
        out->wasm = m->wasm;
    else
        out->lua = m->lua;
    PARTS(a, m, out);
}

static struct extension take(struct mz_arena *a, const struct mz_attached *d)
{
    const bool is_plugin = d->m->descriptor == &ist_WasmPlugin__descriptor;
    struct extension e = { .doc = d };
    e.own = mz_arena_printf(a, "%.*s.%.*s%s", MZ_STR_ARG(d->ns), MZ_STR_ARG(d->name),
                            is_plugin ? TRANSLATED : "");
    e.name = mz_arena_printf(a, PREFIX "%.*s", MZ_STR_ARG(e.own));
    if (is_plugin)
        take_plugin(a, (const ist_WasmPlugin *)d->m, &e);
    else
        take_extension(a, (const ist_TrafficExtension *)d->m, &e);
    return e;
}

/* ---- those of one proxy ---- */

static bool is_network(const struct extension *e)
{
    return e->wasm && e->wasm->type == ist_PluginType_NETWORK;
}

/* A proxy that has the filter, or does not tell what it has. */
static bool has_filter(struct mz_view *v, const struct extension *e)
{
    const bool has = e->lua ? !v->proxy->lacks_lua : !v->proxy->lacks_wasm;
    if (!has)
        tr_tell(v, e->doc->key,
                "some proxies that it is for have no %s, Mizzen's among them: they go without it",
                e->lua ? "Lua" : "WebAssembly");
    return has;
}

static int oldest_first(const void *a, const void *b)
{
    const struct extension *x = a, *y = b;
    int c = mz_str_cmp(x->doc->created, y->doc->created);
    return c ? c : mz_str_cmp(x->own, y->own);
}

/* The highest priority first; of one, those of the proxy's namespace, then the oldest. */
static void insert(struct mz_view *v, struct tr_extensions *to, const struct extension *e)
{
    TR_ADD(v->arena, to, v) = *e;
    for (size_t i = to->n_v - 1; i && to->v[i - 1].priority < to->v[i].priority; i--) {
        const struct extension other = to->v[i - 1];
        to->v[i - 1] = to->v[i];
        to->v[i] = other;
    }
}

static void add_namespace(struct mz_view *v, struct mz_str ns, struct tr_extensions *to)
{
    const struct mz_attach_to whom = { v->proxy->ns,
                                       v->workload ? v->workload->labels : v->proxy->labels };
    struct mz_attached_refs all = { 0 };
    mz_model_attached(v->model, MZ_KIND_WASM_PLUGIN, ns, &whom, &all);
    mz_model_attached(v->model, MZ_KIND_TRAFFIC_EXTENSION, ns, &whom, &all);
    struct extension *list = mz_arena_alloc(v->arena, all.v.n * sizeof(*list));
    for (size_t i = 0; i < all.v.n; i++)
        list[i] = take(v->arena, all.v.v[i]);
    if (all.v.n)
        qsort(list, all.v.n, sizeof(*list), oldest_first);
    for (size_t i = 0; i < all.v.n; i++)
        if (has_filter(v, &list[i]))
            insert(v, to, &list[i]);
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
}

static const struct tr_extensions *extensions_of(struct mz_view *v)
{
    if (v->extensions)
        return v->extensions;
    struct tr_extensions *x = mz_arena_new0(v->arena, struct tr_extensions);
    add_namespace(v, v->proxy->ns, x);
    if (!mz_str_eq(v->proxy->ns, v->model->mesh.root_ns))
        add_namespace(v, v->model->mesh.root_ns, x);
    for (size_t i = 0; i < x->n_v; i++)
        x->hash = mz_xxh64(&x->v[i].doc->version, sizeof(uint64_t),
                           mz_xxh64(x->v[i].name.p, x->v[i].name.n, x->hash));
    return v->extensions = x;
}

uint64_t tr_extensions_hash(struct mz_view *v)
{
    return extensions_of(v)->hash;
}

/* ---- filters ---- */

static bool is_of_class(ist_type_WorkloadMode mode, enum tr_class class)
{
    return mode == ist_type_WorkloadMode_UNDEFINED ||
           mode == ist_type_WorkloadMode_CLIENT_AND_SERVER ||
           mode ==
               (class == TR_INBOUND ? ist_type_WorkloadMode_SERVER : ist_type_WorkloadMode_CLIENT);
}

static bool has_port(const struct part *p, uint16_t port)
{
    for (size_t i = 0; i < p->ports_n; i++)
        if (p->ports[i]->number == port)
            return true;
    return !p->ports_n;
}

static bool is_at(const struct extension *e, struct tr_at at)
{
    for (size_t i = 0; i < e->parts_n; i++)
        if (is_of_class(e->parts[i].mode, at.class) && has_port(&e->parts[i], at.port))
            return true;
    return !e->parts_n;
}

static pb_ExtensionConfigSource *discovery(struct mz_arena *a, bool network)
{
    pb_ExtensionConfigSource *s = TR_NEW(a, ExtensionConfigSource);
    s->config_source = tr_ads(a);
    /* The agent answers with RBAC that denies everything where a module cannot be had. */
    TR_ADD(a, s, type_urls) =
        TR_PRINTF(a, "type.googleapis.com/envoy.extensions.filters.%s.wasm.v3.Wasm",
                  network ? "network" : "http");
    TR_ADD(a, s, type_urls) =
        TR_PRINTF(a, "type.googleapis.com/envoy.extensions.filters.%s.rbac.v3.RBAC",
                  network ? "network" : "http");
    return s;
}

static pb_HttpFilter *http_filter(struct mz_arena *a, const struct extension *e)
{
    if (e->lua) {
        pb_Lua *lua = TR_NEW(a, Lua);
        lua->default_source_code = TR_NEW(a, DataSource);
        lua->default_source_code->specifier_case = pb_DataSource_SPECIFIER_INLINE_STRING;
        lua->default_source_code->inline_string = e->lua->inline_code;
        return tr_named_http_filter(a, e->name.p, lua);
    }
    pb_HttpFilter *f = TR_NEW(a, HttpFilter);
    f->name = TR_CONST(e->name.p);
    f->config_type_case = pb_HttpFilter_CONFIG_TYPE_CONFIG_DISCOVERY;
    f->config_discovery = discovery(a, false);
    return f;
}

void tr_extensions_http(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m,
                        struct tr_at at, ist_TrafficExtension_ExecutionPhase phase)
{
    const struct tr_extensions *x = extensions_of(v);
    for (size_t i = 0; i < x->n_v; i++)
        if (x->v[i].phase == phase && !is_network(&x->v[i]) && is_at(&x->v[i], at))
            TR_ADD(a, m, http_filters) = http_filter(a, &x->v[i]);
}

void tr_extensions_tcp(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, struct tr_at at,
                       ist_TrafficExtension_ExecutionPhase phase)
{
    const struct tr_extensions *x = extensions_of(v);
    for (size_t i = 0; i < x->n_v; i++) {
        if (x->v[i].phase != phase || !is_network(&x->v[i]) || !is_at(&x->v[i], at))
            continue;
        pb_Filter *f = TR_NEW(a, Filter);
        f->name = TR_CONST(x->v[i].name.p);
        f->config_type_case = pb_Filter_CONFIG_TYPE_CONFIG_DISCOVERY;
        f->config_discovery = discovery(a, true);
        TR_ADD(a, c, filters) = f;
    }
}

/* ---- ECDS ---- */

static pb_AsyncDataSource *code(struct mz_arena *a, const ist_WasmConfig *w)
{
    pb_AsyncDataSource *s = TR_NEW(a, AsyncDataSource);
    const struct mz_str url = mz_str_c(w->url), file = MZ_STR("file://");
    if (mz_str_starts(url, file)) {
        s->specifier_case = pb_AsyncDataSource_SPECIFIER_LOCAL;
        s->local = TR_NEW(a, DataSource);
        s->local->specifier_case = pb_DataSource_SPECIFIER_FILENAME;
        s->local->filename = w->url + file.n;
        return s;
    }
    s->specifier_case = pb_AsyncDataSource_SPECIFIER_REMOTE;
    s->remote = TR_NEW(a, RemoteDataSource);
    s->remote->sha256 = w->sha256;
    pb_HttpUri *to = s->remote->http_uri = TR_NEW(a, HttpUri);
    to->uri = mz_str_find(url, MZ_STR("://")) < 0 ? TR_PRINTF(a, "oci://%s", w->url) : w->url;
    to->timeout = tr_duration_us(a, 30000000);
    to->http_upstream_type_case = pb_HttpUri_HTTP_UPSTREAM_TYPE_CLUSTER;
    to->cluster = TR_CONST("_"); /* the agent fetches it */
    return s;
}

static void set_variable(struct mz_arena *a, pb_EnvironmentVariables *to, const char *key,
                         const char *value)
{
    for (size_t i = 0; i < to->n_key_values; i++)
        if (strcmp(to->key_values[i]->key, key) == 0) {
            to->key_values[i]->value = TR_CONST(value);
            return;
        }
    pb_EnvironmentVariables_KeyValuesEntry *e = TR_NEW(a, EnvironmentVariables_KeyValuesEntry);
    e->key = TR_CONST(key);
    e->value = TR_CONST(value);
    TR_ADD(a, to, key_values) = e;
}

static pb_EnvironmentVariables *variables(struct mz_view *v, struct mz_arena *a,
                                          const struct extension *e)
{
    pb_EnvironmentVariables *m = TR_NEW(a, EnvironmentVariables);
    const ist_WasmConfig *w = e->wasm;
    if (w->image_pull_secret[0]) {
        tr_tell(v, e->doc->key, "the secret \"%.100s\" is not sent: modules are pulled without",
                w->image_pull_secret);
        set_variable(a, m, "ISTIO_META_WASM_IMAGE_PULL_SECRET", "");
    }
    if (w->image_pull_policy != ist_PullPolicy_UNSPECIFIED_POLICY)
        set_variable(a, m, "ISTIO_META_WASM_IMAGE_PULL_POLICY",
                     w->image_pull_policy == ist_PullPolicy_Always ? "Always" : "IfNotPresent");
    set_variable(a, m, "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION",
                 TR_PRINTF(a, "%llu", (unsigned long long)e->doc->version));
    for (size_t i = 0; w->vm_config && i < w->vm_config->n_env; i++) {
        const ist_EnvVar *one = w->vm_config->env[i];
        if (one->value_from == ist_EnvValueSource_HOST)
            TR_ADD(a, m, host_env_keys) = one->name;
        else
            set_variable(a, m, one->name, one->value);
    }
    return m;
}

static int by_key(const void *a, const void *b)
{
    const pb_Struct_FieldsEntry *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static pb_Struct *sorted(struct mz_arena *a, const pb_Struct *s);

static pb_Value *sorted_value(struct mz_arena *a, const pb_Value *v)
{
    pb_Value *own = TR_NEW(a, Value);
    *own = *v; /* texts are shared */
    if (v->kind_case == pb_Value_KIND_STRUCT_VALUE)
        own->struct_value = sorted(a, v->struct_value);
    if (v->kind_case == pb_Value_KIND_LIST_VALUE) {
        own->list_value = TR_NEW(a, ListValue);
        for (size_t i = 0; i < v->list_value->n_values; i++)
            TR_ADD(a, own->list_value, values) = sorted_value(a, v->list_value->values[i]);
    }
    return own;
}

/* Members by name, as the field's own text has them. */
static pb_Struct *sorted(struct mz_arena *a, const pb_Struct *s)
{
    pb_Struct *own = TR_NEW(a, Struct);
    for (size_t i = 0; i < s->n_fields; i++) {
        pb_Struct_FieldsEntry *e = TR_NEW(a, Struct_FieldsEntry);
        e->key = s->fields[i]->key;
        e->value = sorted_value(a, s->fields[i]->value);
        TR_ADD(a, own, fields) = e;
    }
    if (own->n_fields)
        qsort(own->fields, own->n_fields, sizeof(*own->fields), by_key);
    return own;
}

/* The plugin's settings reach it as the text of their JSON. */
static pb_Any *settings(struct mz_arena *a, const pb_Struct *s)
{
    struct mz_buf b;
    if (!s || !s->n_fields)
        return TR_NEW(a, Any);
    pb_StringValue *text = TR_NEW(a, StringValue);
    mz_buf_init(&b);
    mz_msg_to_json(&sorted(a, s)->base, &b, 0);
    text->value = mz_arena_alloc0(a, mz_buf_len(&b) + 1);
    (void)mz_buf_copyout(&b, 0, text->value, mz_buf_len(&b));
    mz_buf_fini(&b);
    return tr_any(a, text);
}

static pb_wasm_PluginConfig *plugin(struct mz_view *v, struct mz_arena *a,
                                    const struct extension *e)
{
    pb_wasm_PluginConfig *p = TR_NEW(a, wasm_PluginConfig);
    p->name = TR_CONST(e->own.p);
    p->root_id = e->wasm->plugin_name;
    p->configuration = settings(a, e->wasm->plugin_config);
    p->vm_case = pb_wasm_PluginConfig_VM_VM_CONFIG;
    p->vm_config = TR_NEW(a, VmConfig);
    p->vm_config->runtime = TR_CONST("envoy.wasm.runtime.v8");
    p->vm_config->code = code(a, e->wasm);
    p->vm_config->environment_variables = variables(v, a, e);
    p->failure_policy =
        e->wasm->fail_strategy == ist_FailStrategy_FAIL_OPEN     ? pb_FailurePolicy_FAIL_OPEN
        : e->wasm->fail_strategy == ist_FailStrategy_FAIL_RELOAD ? pb_FailurePolicy_FAIL_RELOAD
                                                                 : pb_FailurePolicy_FAIL_CLOSED;
    if (e->wasm->verification_key[0])
        tr_tell(v, e->doc->key, "verificationKey is not used: nobody checks signatures of modules");
    return p;
}

static struct mz_out *build(struct mz_view *v, const struct extension *e)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    pb_TypedExtensionConfig *m = TR_NEW(a, TypedExtensionConfig);
    m->name = TR_CONST(e->name.p);
    if (is_network(e)) {
        pb_network_wasm_Wasm *w = TR_NEW(a, network_wasm_Wasm);
        w->config = plugin(v, a, e);
        m->typed_config = tr_any(a, w);
    } else {
        pb_http_wasm_Wasm *w = TR_NEW(a, http_wasm_Wasm);
        w->config = plugin(v, a, e);
        m->typed_config = tr_any(a, w);
    }
    struct mz_out *o = mz_out_create(e->name, &m->base);
    mz_arena_destroy(a);
    return o;
}

struct mz_out *tr_extension(struct mz_view *v, struct mz_str name)
{
    const struct tr_extensions *x = extensions_of(v);
    for (size_t i = 0; i < x->n_v; i++)
        if (x->v[i].wasm && mz_str_eq(x->v[i].name, name))
            return build(v, &x->v[i]);
    return NULL;
}
