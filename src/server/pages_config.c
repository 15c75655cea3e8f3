/* What is configured: /config_dump, /clusters, /listeners, /certs, /init_dump (O4). */
#include <stdarg.h>
#include <stdio.h>

#include "base/regex.h"
#include "base/vec.h"
#include "listener/listener.h"
#include "server/pages_priv.h"
#include "tls/inventory.h"
#include "upstream/cluster.h"
#include "xds/init.h"

/* In Envoy's order. */
static const struct part {
    ProtobufCMessage *(*build)(const struct dump *d); /* NULL: no such part today */
    bool with_eds;                                    /* only with ?include_eds */
} parts[] = {
    { dump_bootstrap, false },    { dump_clusters, false },      { dump_ecds_http, false },
    { dump_ecds_network, false }, { dump_ecds_listener, false }, { dump_endpoints, true },
    { dump_listeners, false },    { dump_scoped_routes, false }, { dump_routes, false },
    { dump_secrets, false },
};

/* Errors of this page are text/plain without a charset, as Envoy's. */
__attribute__((format(printf, 3, 4))) static void refuse(struct mz_admin_reply *out,
                                                         unsigned status, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a longer text is cut */
    va_end(ap);
    out->status = status;
    out->content_type = "text/plain";
    mz_buf_append(&out->body, text, strlen(text));
}

struct answer {
    struct dump dump;
    bool eds;
    struct mz_str resource, mask;
    pb_ConfigDump *all;
};

static void put(struct answer *w, ProtobufCMessage *m)
{
    w->all->configs[w->all->n_configs++] = mz_any_pack(m, w->dump.arena);
}

static void whole_parts(struct answer *w, struct mz_admin_reply *out)
{
    w->all->configs = mz_arena_alloc(w->dump.arena, MZ_COUNT(parts) * sizeof(*w->all->configs));
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        if (parts[i].with_eds && !w->eds)
            continue;
        ProtobufCMessage *m = parts[i].build(&w->dump);
        if (!m)
            continue;
        if (!w->mask.n || mask_apply(m, w->mask, w->dump.arena))
            put(w, m);
    }
    if (w->mask.n && !w->all->n_configs)
        refuse(out, 400,
               "FieldMask " MZ_STR_FMT " could not be successfully applied to any configs.",
               MZ_STR_ARG(w->mask));
}

static const ProtobufCFieldDescriptor *field_named(const ProtobufCMessageDescriptor *d,
                                                   struct mz_str name)
{
    for (unsigned i = 0; i < d->n_fields; i++)
        if (mz_str_eq(name, mz_str_c(d->fields[i].name)))
            return &d->fields[i];
    return NULL;
}

static void elements(struct answer *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                     struct mz_admin_reply *out)
{
    ProtobufCMessage *const *v =
        *(ProtobufCMessage *const *const *)(const void *)((const char *)m + f->offset);
    size_t n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
    w->all->configs = mz_arena_alloc(w->dump.arena, (n + 1) * sizeof(*w->all->configs));
    for (size_t i = 0; i < n; i++) {
        if (w->mask.n && !mask_apply(v[i], w->mask, w->dump.arena)) {
            refuse(out, 400,
                   "FieldMask paths: \"" MZ_STR_FMT "\"\n could not be successfully used.",
                   MZ_STR_ARG(w->mask));
            return;
        }
        put(w, v[i]);
    }
}

static void one_resource(struct answer *w, struct mz_admin_reply *out)
{
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        if (parts[i].with_eds && !w->eds)
            continue;
        ProtobufCMessage *m = parts[i].build(&w->dump);
        const ProtobufCFieldDescriptor *f = m ? field_named(m->descriptor, w->resource) : NULL;
        if (!f)
            continue;
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            elements(w, m, f, out);
        else
            refuse(out, 400,
                   MZ_STR_FMT " is not a repeated field. Use ?mask=" MZ_STR_FMT
                              " to get only this field",
                   MZ_STR_ARG(w->resource), MZ_STR_ARG(w->resource));
        return;
    }
    refuse(out, 404, MZ_STR_FMT " not found in config dump", MZ_STR_ARG(w->resource));
}

static void config_dump(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_str why, pattern = MZ_STR("");
    pb_ConfigDump all = pb_ConfigDump__INIT;
    struct answer w = { .dump = { .pages = arg }, .eds = page_has(rq, "include_eds"), .all = &all };
    if (!page_regex(rq, "name_regex", &w.dump.name, &why)) {
        (void)mz_admin_param(rq, "name_regex", &pattern);
        refuse(out, 400,
               "INVALID_ARGUMENT: Error while parsing name_regex from " MZ_STR_FMT ": " MZ_STR_FMT,
               MZ_STR_ARG(pattern), MZ_STR_ARG(why));
        return;
    }
    (void)mz_admin_param(rq, "resource", &w.resource);
    (void)mz_admin_param(rq, "mask", &w.mask);
    w.dump.arena = mz_arena_create(MZ_MEM_ADMIN);
    if (w.resource.n)
        one_resource(&w, out);
    else
        whole_parts(&w, out);
    if (out->status == 200) {
        page_message(out, &all.base, 0);
    } else {
        out->headers = mz_headers_create(rq->arena); /* once more, as Envoy does here */
        mz_headers_add(out->headers, MZ_STR("x-content-type-options"), MZ_STR("nosniff"));
    }
    mz_arena_destroy(w.dump.arena);
    mz_regex_destroy(w.dump.name);
}

/* ---- /clusters ---- */

/* A line is "<name>::..."; names may hold colons, so a line goes with the cluster whose first line came before. */
static void text_matching(struct mz_buf *all, const struct mz_regex *re, struct mz_buf *out)
{
    struct mz_str rest = mz_buf_linearize(all, mz_buf_len(all)), line,
                  mark = MZ_STR("::observability_name::");
    bool shown = false;
    while (mz_str_split(&rest, '\n', &line)) {
        ptrdiff_t at = mz_str_find(line, mark);
        if (at >= 0)
            shown = mz_regex_search(re, (struct mz_str){ line.p, (size_t)at });
        if (!shown || !line.n)
            continue;
        mz_buf_append_str(out, line);
        mz_buf_append(out, "\n", 1);
    }
}

static void clusters_text(struct mz_pages *p, const struct mz_regex *re, struct mz_admin_reply *out)
{
    struct mz_buf all;
    if (!re) {
        mz_cluster_manager_text(p->env.clusters, &out->body);
        return;
    }
    mz_buf_init(&all);
    mz_cluster_manager_text(p->env.clusters, &all);
    text_matching(&all, re, &out->body);
    mz_buf_fini(&all);
}

static void clusters_json(struct mz_pages *p, const struct mz_regex *re, struct mz_admin_reply *out)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    pb_Clusters *m = page_clusters(p, a);
    size_t n = 0;
    for (size_t i = 0; m && i < m->n_cluster_statuses; i++)
        if (!re || mz_regex_search(re, mz_str_c(m->cluster_statuses[i]->name)))
            m->cluster_statuses[n++] = m->cluster_statuses[i];
    if (m) {
        m->n_cluster_statuses = n;
        page_message(out, &m->base, 0);
    } else {
        page_text(out, 500, MZ_STR("the clusters do not fit their schema\n"));
    }
    mz_arena_destroy(a);
}

static void clusters(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_regex *re;
    struct mz_str why;
    if (!page_regex(rq, "filter", &re, &why)) {
        page_text(out, 400, MZ_STR("Invalid re2 regex: "));
        mz_buf_append_str(&out->body, why);
        return;
    }
    if (page_word(rq, "format", "json"))
        clusters_json(arg, re, out);
    else
        clusters_text(arg, re, out);
    mz_regex_destroy(re);
}

/* ---- /listeners, /certs, /init_dump ---- */

static void listeners(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_pages *p = arg;
    if (!page_word(rq, "format", "json")) {
        mz_listener_manager_text(p->env.listeners, &out->body);
        return;
    }
    struct mz_buf json;
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    mz_buf_init(&json);
    mz_listener_manager_json(p->env.listeners, &json);
    const ProtobufCMessage *m = page_parse(&json, &pb_Listeners__descriptor, a);
    if (m)
        page_message(out, m, 0);
    else
        page_text(out, 500, MZ_STR("the listeners do not fit their schema\n"));
    mz_buf_fini(&json);
    mz_arena_destroy(a);
}

static void certs(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg, (void)rq;
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    page_message(out, &mz_tls_certificates(a)->base, MZ_JSON_DEFAULTS);
    mz_arena_destroy(a);
}

/* ---- managers and what each waits for ---- */

#define INIT_NAMES_MAX 256

struct unready {
    struct mz_arena *arena;
    MZ_VEC(pb_UnreadyTargetsDumps_UnreadyTargetsDump *) dumps;
};

static void note_name(pb_UnreadyTargetsDumps_UnreadyTargetsDump *d, struct mz_str name,
                      struct mz_arena *a)
{
    if (name.n && d->n_target_names < INIT_NAMES_MAX)
        d->target_names[d->n_target_names++] =
            page_chars(mz_arena_printf(a, MZ_STR_FMT, MZ_STR_ARG(name)).p);
}

struct noting {
    struct unready *all;
    pb_UnreadyTargetsDumps_UnreadyTargetsDump *dump;
};

static void note_unready(void *arg, struct mz_str names)
{
    struct noting *n = arg;
    for (ptrdiff_t end; (end = mz_str_chr(names, '\n')) >= 0;) {
        note_name(n->dump, (struct mz_str){ names.p, (size_t)end }, n->all->arena);
        names = mz_str_skip(names, (size_t)end + 1);
    }
    note_name(n->dump, names, n->all->arena);
}

static void note_manager(struct unready *u, struct mz_str name, const struct mz_init *init)
{
    pb_UnreadyTargetsDumps_UnreadyTargetsDump *d =
        mz_arena_new0(u->arena, pb_UnreadyTargetsDumps_UnreadyTargetsDump);
    *d = (pb_UnreadyTargetsDumps_UnreadyTargetsDump)pb_UnreadyTargetsDumps_UnreadyTargetsDump__INIT;
    d->name = page_chars(name.p);
    d->target_names = mz_arena_alloc0(u->arena, INIT_NAMES_MAX * sizeof(*d->target_names));
    struct noting n = { u, d };
    mz_init_dump(init, note_unready, &n);
    if (d->n_target_names)
        *mz_vec_push(&u->dumps, MZ_MEM_ADMIN) = d;
}

static void note_listener(void *arg, const struct mz_listener_shown *l, const struct mz_init *init)
{
    struct unready *u = arg;
    struct mz_str bytes = l->warming.bytes;
    note_manager(
        u,
        mz_arena_printf(u->arena, "init manager Listener-local-init-manager " MZ_STR_FMT " %llu",
                        MZ_STR_ARG(l->name), (unsigned long long)mz_xxh64(bytes.p, bytes.n, 0)),
        init);
}

/* @mask "listener": only those of listeners, as in Envoy, which has no others. */
static void init_dump(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    const struct mz_pages *p = arg;
    struct unready u = { .arena = mz_arena_create(MZ_MEM_ADMIN) };
    struct mz_str mask = MZ_STR("");
    pb_UnreadyTargetsDumps m = pb_UnreadyTargetsDumps__INIT;
    bool masked = mz_admin_param(rq, "mask", &mask);
    if (!masked && p->env.dynamic && p->env.dynamic->init)
        note_manager(&u, MZ_STR("init manager Server"), p->env.dynamic->init);
    if ((!masked || mz_str_eq(mask, MZ_STR("listener"))) && p->env.listeners)
        mz_listener_manager_each_init(p->env.listeners, note_listener, &u);
    m.n_unready_targets_dumps = u.dumps.n;
    m.unready_targets_dumps = u.dumps.v;
    page_message(out, &m.base, 0);
    mz_vec_free(&u.dumps, MZ_MEM_ADMIN);
    mz_arena_destroy(u.arena);
}

static const struct mz_admin_page pages[] = {
    { .path = "/certs", .help = "print certs on machine", .handle = certs },
    { .path = "/clusters",
      .help = "upstream cluster status",
      .params = { { "filter", "Regular expression (Google re2) for filtering clusters by name" },
                  { "format", "File format to use; One of (text, json)" } },
      .handle = clusters },
    { .path = "/config_dump",
      .help = "dump current configs",
      .params = { { "resource", "The resource to dump" },
                  { "mask", "The mask to apply. When both resource and mask are specified, the "
                            "mask is applied to every "
                            "element in the desired repeated field so that only a subset of fields "
                            "are returned. The mask "
                            "is parsed as a Protobuf::FieldMask" },
                  { "name_regex", "Dump only the currently loaded configurations whose names match "
                                  "the specified regex. "
                                  "Can be used with both resource and mask query parameters." },
                  { "include_eds", "Dump currently loaded configuration including EDS." } },
      .handle = config_dump },
    { .path = "/init_dump",
      .help = "dump current Envoy init manager information (experimental)",
      .params = { { "mask", "The desired component to dump unready targets. The mask is parsed as "
                            "a Protobuf::FieldMask. For example, get the unready targets of all "
                            "listeners with /init_dump?mask=listener`" } },
      .handle = init_dump },
    { .path = "/listeners",
      .help = "print listener info",
      .params = { { "format", "File format to use; One of (text, json)" } },
      .handle = listeners },
};
const struct page_list pages_config = { pages, MZ_COUNT(pages) };
