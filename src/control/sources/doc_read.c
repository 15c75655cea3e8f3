/* Texts to documents. */
#include "control/sources/doc.h"

#include <stdio.h>

#include "control/analyze/check.h"

/* Groups whose every kind matters to a mesh: one that is not read is told. */
static const char *const mesh_groups[] = { "networking.istio.io", "security.istio.io",
                                           "telemetry.istio.io", "extensions.istio.io",
                                           "gateway.networking.k8s.io" };

struct at { /* one document of a text */
    const struct mz_doc_reader *r;
    struct mz_arena *arena;
    uint32_t line;
    struct mz_str key; /* once it is known */
    struct mz_str ns;  /* of objects that name none */
};

static void tell(const struct at *at, enum mz_level level, uint32_t line, const char *text)
{
    at->r->problem(at->r->arg, level, line, at->key, text);
}

static void tell_err(const struct at *at, const struct mz_err *err)
{
    char text[sizeof(*err)];
    tell(at, MZ_LEVEL_ERROR, at->line, mz_err_text(err, text, sizeof(text)));
}

static const struct mz_pair *find(const struct mz_node *n, struct mz_str key)
{
    for (uint32_t i = 0; n->kind == MZ_NODE_MAP && i < n->n; i++)
        if (mz_str_eq(n->pairs[i].key, key))
            return &n->pairs[i];
    return NULL;
}

static struct mz_str text_of(const struct mz_node *n, struct mz_str key)
{
    const struct mz_pair *p = find(n, key);
    return p && p->value->kind == MZ_NODE_STR ? p->value->text : MZ_STR("");
}

static bool has_word(const char *words, struct mz_str w)
{
    struct mz_str rest = mz_str_c(words);
    for (struct mz_str one; mz_str_split(&rest, ' ', &one);)
        if (mz_str_eq(one, w))
            return true;
    return false;
}

static void split_version(struct mz_str api, struct mz_str *out_group, struct mz_str *out_version)
{
    ptrdiff_t slash = mz_str_chr(api, '/');
    *out_group = slash < 0 ? MZ_STR("") : (struct mz_str){ api.p, (size_t)slash };
    *out_version = mz_str_skip(api, (size_t)(slash + 1));
}

static bool find_kind(struct mz_str group, struct mz_str version, struct mz_str name,
                      enum mz_kind *out_kind)
{
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++) {
        const struct mz_kind_info *i = mz_kind_info((enum mz_kind)k);
        if (name.p[0] == i->name[0] && mz_str_eq(name, mz_str_c(i->name)) &&
            mz_str_eq(group, mz_str_c(i->group)) && has_word(i->versions, version)) {
            *out_kind = (enum mz_kind)k;
            return true;
        }
    }
    return false;
}

static void not_read(const struct at *at, struct mz_str group, struct mz_str version,
                     struct mz_str kind)
{
    for (size_t i = 0; i < sizeof(mesh_groups) / sizeof(*mesh_groups); i++) {
        if (!mz_str_eq(group, mz_str_c(mesh_groups[i])))
            continue;
        char text[300];
        snprintf(text, sizeof(text),
                 "this version does not read %.*s of %.*s/%.*s: it has no effect",
                 (int)(kind.n > 60 ? 60 : kind.n), kind.p, MZ_STR_ARG(group),
                 (int)(version.n > 60 ? 60 : version.n), version.p);
        tell(at, MZ_LEVEL_WARNING, at->line, text);
        return;
    }
}

/* RFC 1123 names, without their length: what keys, names of clusters and file names are made of. */
static bool name_ok(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        const char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == ':'))
            return false;
    }
    return s.n > 0 && s.n <= 253;
}

static bool read_meta(struct at *at, const struct mz_node *doc, enum mz_kind k,
                      k8s_ObjectMeta **out, struct mz_err *err)
{
    const struct mz_kind_info *info = mz_kind_info(k);
    const struct mz_pair *p = find(doc, MZ_STR("metadata"));
    struct mz_proto_ctx ctx = { .arena = at->arena, .unknown = MZ_UNKNOWN_COUNT, .texts = true };
    ProtobufCMessage *m = NULL;
    if (!p)
        return mz_err_set(err, "metadata is missing");
    if (!mz_msg_from_tree(&ctx, p->value, &k8s_ObjectMeta__descriptor, &m, err))
        return mz_err_at(err, "metadata");
    k8s_ObjectMeta *meta = (k8s_ObjectMeta *)m;
    if (!name_ok(mz_str_c(meta->name)))
        return mz_err_set(err, "metadata.name: \"%.200s\" is not a name", meta->name);
    if (info->cluster_scoped)
        meta->namespace_ = (char *)(uintptr_t) "";
    else if (!meta->namespace_[0])
        meta->namespace_ = (char *)(uintptr_t)mz_arena_dup(at->arena, at->ns).p;
    else if (!name_ok(mz_str_c(meta->namespace_)))
        return mz_err_set(err, "metadata.namespace: \"%.200s\" is not a name", meta->namespace_);
    at->key = mz_doc_key(k, mz_str_c(meta->namespace_), mz_str_c(meta->name), at->arena);
    *out = meta;
    return true;
}

static bool is_one_of(const char *const *v, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i], text) == 0)
            return true;
    return false;
}

static void tell_unknown(const struct at *at, const struct mz_proto_ctx *ctx, const char *where)
{
    char told[400];
    if (!ctx->unknown_n)
        return;
    snprintf(told, sizeof(told), "%u fields are not read by this version, %s%s is the first",
             ctx->unknown_n, where, ctx->unknown_path);
    tell(at, MZ_LEVEL_WARNING, at->line, told);
}

/* Whatever else Secrets and ConfigMaps hold is nobody's business here. */
static void keep_certificates(enum mz_kind k, struct mz_str name, ProtobufCMessage *m)
{
    const bool injector = mz_str_eq(name, MZ_STR("istio-sidecar-injector")); /* inject/cluster.h */
    static const char *const kept[] = { "tls.crt", "tls.key", "tls.ocsp-staple", "ca.crt", "ca.crl",
                                        "cert",    "key",     "cacert",          "crl" };
    k8s_Secret *s = (k8s_Secret *)m;
    k8s_ConfigMap *c = (k8s_ConfigMap *)m;
    size_t *const n[] = { k == MZ_KIND_SECRET ? &s->n_data : &c->n_data,
                          k == MZ_KIND_SECRET ? &s->n_stringdata : NULL };
    void *const v[] = { k == MZ_KIND_SECRET ? (void *)s->data : (void *)c->data,
                        k == MZ_KIND_SECRET ? (void *)s->stringdata : NULL };
    for (size_t i = 0; i < 2 && n[i]; i++) {
        k8s_ConfigMap_DataEntry **e = v[i]; /* maps of texts have one shape */
        const size_t all = *n[i];
        *n[i] = 0;
        for (size_t j = 0; j < all; j++)
            if (injector || is_one_of(kept, MZ_COUNT(kept), e[j]->key))
                e[(*n[i])++] = e[j];
    }
}

static struct mz_str name_in(const struct mz_node *doc)
{
    const struct mz_pair *m = find(doc, MZ_STR("metadata")),
                         *n = m && m->value->kind == MZ_NODE_MAP ? find(m->value, MZ_STR("name"))
                                                                 : NULL;
    return n && n->value->kind == MZ_NODE_STR ? n->value->text : MZ_STR("");
}

/* An API server keeps no more of one object: checks may compare its parts with each other. */
static bool is_small(struct mz_str packed, struct mz_err *err)
{
    enum { MAX = 1536 << 10 };
    return packed.n <= MAX ||
           mz_err_set(err, "is %zu bytes large, at most %d may be", packed.n, MAX);
}

/* What messages do not tell: a map that is written and empty. */
static bool is_said(enum mz_kind k, const struct mz_node *tree, struct mz_err *err)
{
    const struct mz_pair *p = NULL;
    if (k == MZ_KIND_PEER_AUTHENTICATION && tree->kind == MZ_NODE_MAP)
        p = find(tree, MZ_STR("portLevelMtls"));
    if (!p || p->value->kind != MZ_NODE_MAP || p->value->n)
        return true;
    (void)mz_err_set(err, "needs at least one");
    return mz_err_at(err, "port_level_mtls");
}

/* Packed, in the arena. */
static bool read_body(const struct at *at, const struct mz_node *doc, enum mz_kind k,
                      const k8s_ObjectMeta *meta, struct mz_str *out, struct mz_err *err)
{
    static const struct mz_node nothing = { .kind = MZ_NODE_MAP };
    const struct mz_kind_info *info = mz_kind_info(k);
    const struct mz_pair *spec = info->spec_only ? find(doc, MZ_STR("spec")) : NULL;
    const struct mz_node *tree = !info->spec_only ? doc : spec ? spec->value : &nothing;
    struct mz_proto_ctx ctx = { .arena = at->arena,
                                .unknown = info->strict ? MZ_UNKNOWN_REJECT : MZ_UNKNOWN_COUNT,
                                .texts = !info->strict,
                                .units = true,
                                .fractions = true };
    ProtobufCMessage *m = NULL;
    if (!mz_msg_from_tree(&ctx, tree, info->type, &m, err))
        return info->spec_only ? mz_err_at(err, "spec") : false;
    *out = mz_msg_pack_alloc(m, at->arena);
    if (!is_small(*out, err) || !mz_check_object(k, m, err) ||
        !mz_check_exports_from(k, mz_str_c(meta->namespace_), m, err) || !is_said(k, tree, err))
        return info->spec_only ? mz_err_at(err, "spec") : false;
    if (info->told)
        tell_unknown(at, &ctx, "spec.");
    if (k == MZ_KIND_SECRET || k == MZ_KIND_CONFIG_MAP) {
        keep_certificates(k, name_in(doc), m);
        *out = mz_msg_pack_alloc(m, at->arena);
    }
    return true;
}

/* Istio's: beside what it says of the mesh there is nothing else, and its name goes into names of other things. */
static bool check_around(const struct mz_node *doc, enum mz_kind k, const k8s_ObjectMeta *meta,
                         struct mz_err *err)
{
    static const char *const members[] = { "apiVersion", "kind", "metadata", "spec", "status" };
    if (!mz_kind_info(k)->strict)
        return true;
    for (uint32_t i = 0; i < doc->n; i++) {
        bool known = false;
        for (size_t j = 0; j < MZ_COUNT(members); j++)
            known |= mz_str_eq(doc->pairs[i].key, mz_str_c(members[j]));
        if (!known)
            return mz_err_set(err, "unknown field \"%.*s\"",
                              (int)(doc->pairs[i].key.n < 80 ? doc->pairs[i].key.n : 80),
                              doc->pairs[i].key.p);
    }
    return k != MZ_KIND_GATEWAY || !strchr(meta->name, '.') ||
           mz_err_set(err, "metadata.name: \"%.200s\" has a dot", meta->name);
}

static void read_object(struct at *at, const struct mz_node *doc)
{
    struct mz_str api = text_of(doc, MZ_STR("apiVersion")), kind = text_of(doc, MZ_STR("kind"));
    struct mz_str group, version;
    struct mz_err err = { .path = "", .msg = "" };
    enum mz_kind k;
    k8s_ObjectMeta *meta = NULL;
    struct mz_str body = { 0 };
    if (!api.n || !kind.n) {
        tell(at, MZ_LEVEL_ERROR, at->line,
             "not a document of Kubernetes: it has no apiVersion and kind");
        return;
    }
    split_version(api, &group, &version);
    if (!find_kind(group, version, kind, &k)) {
        not_read(at, group, version, kind);
        return;
    }
    if (read_meta(at, doc, k, &meta, &err) && check_around(doc, k, meta, &err) &&
        read_body(at, doc, k, meta, &body, &err))
        at->r->doc(at->r->arg, mz_doc_create_packed(k, meta, body, at->r->file, at->line));
    else
        tell_err(at, &err);
}

static void read_tree(struct at *at, const struct mz_node *doc)
{
    const struct mz_pair *items = find(doc, MZ_STR("items"));
    if (doc->kind == MZ_NODE_NULL)
        return; /* comments only */
    if (!mz_str_ends(text_of(doc, MZ_STR("kind")), MZ_STR("List")) || !items ||
        items->value->kind != MZ_NODE_LIST) {
        at->line = doc->line ? doc->line : at->line;
        read_object(at, doc);
        return;
    }
    for (uint32_t i = 0; i < items->value->n; i++) {
        const struct mz_node *one = items->value->list[i];
        struct at each = { at->r, at->arena, one->line ? one->line : at->line, MZ_STR(""), at->ns };
        read_object(&each, one);
    }
}

static void read_part(const struct mz_doc_reader *r, struct mz_str ns, struct mz_str text,
                      enum mz_text_form form, uint32_t line0)
{
    enum { FEW = 16384 }; /* bytes: what blocks of the thread's free list are for */
    const enum mz_mem mem = text.n <= FEW ? MZ_MEM_STREAM : MZ_MEM_CONFIG;
    struct at at = { r, mz_arena_create(mem), line0 + 1, MZ_STR(""), ns };
    struct mz_err err = { .path = "", .msg = "" };
    const struct mz_node *doc = form == MZ_TEXT_JSON
                                    ? mz_tree_read(at.arena, text, form, &err)
                                    : mz_tree_read_kubernetes(at.arena, text, line0, &err);
    if (doc)
        read_tree(&at, doc);
    else
        tell_err(&at, &err);
    mz_arena_destroy(at.arena);
}

void mz_doc_read_part(const struct mz_doc_reader *r, struct mz_str text, enum mz_text_form form,
                      uint32_t line0)
{
    read_part(r, MZ_STR("default"), text, form, line0);
}

/* `---` at the begin of a line is nothing else in YAML, wherever it stands. */
static bool is_divider(struct mz_str line)
{
    return mz_str_starts(line, MZ_STR("---")) &&
           (line.n == 3 || line.p[3] == ' ' || line.p[3] == '\t' || line.p[3] == '\r');
}

static struct mz_str first_line(struct mz_str text)
{
    ptrdiff_t end = mz_str_chr(text, '\n');
    return end < 0 ? text : (struct mz_str){ text.p, (size_t)end };
}

void mz_doc_parts(struct mz_str text, mz_doc_part *each, void *arg)
{
    uint32_t line = 0, line0 = 0;
    struct mz_str part = { text.p, 0 };
    while (text.n) {
        struct mz_str l = first_line(text);
        const size_t whole = l.n + (l.n < text.n);
        if (is_divider(l) && part.n) {
            each(arg, part, line0);
            part = (struct mz_str){ text.p, 0 };
            line0 = line;
        }
        part.n += whole;
        text = mz_str_skip(text, whole);
        line++;
    }
    if (part.n)
        each(arg, part, line0);
}

void mz_doc_divide(struct mz_str text, enum mz_text_form form, mz_doc_part *each, void *arg)
{
    if (text.n > MZ_TREE_MAX_BYTES || form == MZ_TEXT_JSON)
        each(arg, text, 0);
    else
        mz_doc_parts(text, each, arg);
}

struct whole {
    const struct mz_doc_reader *r;
    struct mz_str ns;
    enum mz_text_form form;
};

static void read_each(void *arg, struct mz_str part, uint32_t line0)
{
    const struct whole *w = arg;
    read_part(w->r, w->ns, part, w->form, line0);
}

void mz_doc_read_text_in(const struct mz_doc_reader *r, struct mz_str ns, struct mz_str text,
                         enum mz_text_form form)
{
    struct whole w = { r, ns, form };
    mz_doc_divide(text, form, read_each, &w);
}

void mz_doc_read_text(const struct mz_doc_reader *r, struct mz_str text, enum mz_text_form form)
{
    mz_doc_read_text_in(r, MZ_STR("default"), text, form);
}

void mz_doc_read_mesh(const struct mz_doc_reader *r, struct mz_str text)
{
    struct at at = { r, mz_arena_create(MZ_MEM_CONFIG), 1, MZ_STR("MeshConfig/mesh"), MZ_STR("") };
    struct mz_proto_ctx ctx = { .arena = at.arena, .unknown = MZ_UNKNOWN_COUNT, .units = true };
    struct mz_err err = { .path = "", .msg = "" };
    ProtobufCMessage *m = NULL;
    k8s_ObjectMeta meta = k8s_ObjectMeta__INIT;
    meta.name = (char *)(uintptr_t) "mesh";
    const struct mz_node *tree = mz_tree_read_kubernetes(at.arena, text, 0, &err);
    if (!tree || !mz_msg_from_tree(&ctx, tree, &ist_MeshConfig__descriptor, &m, &err) ||
        !mz_check_object(MZ_KIND_MESH_CONFIG, m, &err)) {
        tell_err(&at, &err);
    } else {
        tell_unknown(&at, &ctx, "");
        r->doc(r->arg, mz_doc_create(MZ_KIND_MESH_CONFIG, &meta, m, r->file, 1));
    }
    mz_arena_destroy(at.arena);
}
