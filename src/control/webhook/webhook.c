#include "control/webhook/webhook.h"

#include <stdlib.h>

#include "base/base64.h"
#include "base/log.h"
#include "control/analyze/written.h"
#include "control/monitor/metrics.h"
#include "proto/show.h"

enum {
    MAX_BODY = 3 << 20 /* an API server's own limit */,
    MAX_CONNECTIONS = 256,
    TIMEOUT_MS = 30000
};

struct mz_webhook {
    struct mz_inject_opts o;
    struct mz_admin *pages;
    struct mz_web *web;
    struct mz_admin_page inject, validate;
    struct mz_webhook_counts counts;
};

/* ---- reviews ---- */

struct review {
    const struct mz_node *root, *request, *object;
    json_t *response; /* owned until it is sent */
};

static void refuse(struct mz_admin_reply *out, unsigned status, const char *why)
{
    out->status = status;
    mz_buf_append_str(&out->body, mz_str_c(why));
}

static const char *dup_text(struct mz_str s, struct mz_arena *a)
{
    return mz_arena_dup(a, s).p;
}

/* False: it was answered, it is no review. */
static bool review_open(const struct mz_admin_request *rq, struct mz_admin_reply *out,
                        struct review *r)
{
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    const struct mz_str type = mz_headers_value_id(rq->headers, MZ_H_CONTENT_TYPE);
    if (!mz_str_eq(rq->method, MZ_STR("POST")))
        refuse(out, 405, "Method not allowed, POST required\n");
    else if (!mz_str_istarts(type, MZ_STR("application/json")))
        refuse(out, 415, "invalid Content-Type, want `application/json`\n");
    else if (!rq->body.n)
        refuse(out, 400, "no body found\n");
    else if (!(r->root = mz_tree_read(rq->arena, rq->body, MZ_TEXT_JSON, &err)))
        refuse(out, 400, dup_text(mz_str_c(mz_err_text(&err, text, sizeof(text))), rq->arena));
    else if (!(r->request = mz_node_get(r->root, "request")) ||
             !mz_node_text(r->root, "apiVersion").n)
        refuse(out, 400, "not an AdmissionReview\n");
    else
        r->object = mz_node_get(r->request, "object");
    if (out->status != 200)
        return false;
    r->response = json_pack("{s:s, s:b}", "uid",
                            dup_text(mz_node_text(r->request, "uid"), rq->arena), "allowed", 1);
    return true;
}

static void review_send(struct review *r, const struct mz_admin_request *rq,
                        struct mz_admin_reply *out)
{
    json_t *all = json_pack("{s:s, s:s, s:o}", "apiVersion",
                            dup_text(mz_node_text(r->root, "apiVersion"), rq->arena), "kind",
                            "AdmissionReview", "response", r->response);
    char *text = json_dumps(all, JSON_COMPACT);
    out->content_type = "application/json";
    mz_buf_append_str(&out->body, mz_str_c(text));
    free(text);
    json_decref(all);
}

static void review_deny(struct review *r, const char *why)
{
    (void)json_object_set_new(r->response, "allowed", json_false()); /* only without memory */
    (void)json_object_set_new(r->response, "status",
                              json_pack("{s:s, s:i}", "message", why, "code", 400));
}

/* ---- /inject ---- */

static void set_patch(struct review *r, json_t *before, json_t *after, struct mz_arena *a)
{
    json_t *patch = mz_inject_patch(before, after);
    char *text = json_dumps(patch, JSON_COMPACT);
    const struct mz_str coded = mz_base64_encode(mz_str_c(text), a);
    (void)json_object_set_new(r->response, "patchType",
                              json_string("JSONPatch")); /* only without memory */
    (void)json_object_set_new(r->response, "patch", json_stringn(coded.p, coded.n));
    free(text);
    json_decref(patch);
}

static void page_inject(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_webhook *w = arg;
    struct review r = { .root = NULL };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    w->counts.requests++;
    if (!review_open(rq, out, &r)) {
        w->counts.failed++;
        return;
    }
    json_t *before = r.object && r.object->kind == MZ_NODE_MAP ? mz_json_from_tree(r.object) : NULL;
    json_t *pod = json_deep_copy(before);
    const struct mz_str ns = mz_node_text(r.request, "namespace");
    struct mz_inject_owner owner;
    char name[MZ_INJECT_NAME];
    mz_inject_owner_of_pod(pod, dup_text(ns.n ? ns : MZ_STR("default"), rq->arena), name, &owner);
    const enum mz_injected st = pod ? mz_inject_pod(pod, &w->o, &owner, &err) : MZ_INJECT_SKIPPED;
    w->counts.injected += st == MZ_INJECT_DONE;
    w->counts.skipped += st == MZ_INJECT_SKIPPED;
    w->counts.failed += st == MZ_INJECT_FAILED;
    if (st == MZ_INJECT_DONE)
        set_patch(&r, before, pod, rq->arena);
    if (st == MZ_INJECT_FAILED) {
        review_deny(&r, mz_err_text(&err, text, sizeof(text)));
        MZ_LOG(WARN, http, "injection of %s/%s failed: %s", owner.ns, owner.name, text);
    }
    json_decref(pod);
    json_decref(before);
    review_send(&r, rq, out);
}

/* ---- /validate ---- */

static void page_validate(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_webhook *w = arg;
    struct review r = { .root = NULL };
    struct mz_documents d;
    struct mz_buf text;
    json_t *warnings = json_array();
    const char *why = NULL;
    if (!review_open(rq, out, &r)) {
        json_decref(warnings);
        return;
    }
    mz_documents_init(&d);
    mz_buf_init(&text);
    if (r.object && r.object->kind == MZ_NODE_MAP) { /* a deletion has none */
        mz_show_json(&text, r.object, false);
        mz_documents_add(&d, MZ_STR("request"), mz_buf_linearize(&text, mz_buf_len(&text)),
                         MZ_TEXT_JSON, MZ_STR("default"));
        mz_documents_check_written(&d);
    }
    for (size_t i = 0; i < d.faults.n; i++) {
        const struct mz_fault *f = &d.faults.v[i];
        if (f->warning)
            (void)json_array_append_new(
                warnings, json_stringn(f->text.p, f->text.n)); /* only without memory */
        else if (!why)
            why = dup_text(f->text, rq->arena);
    }
    if (why)
        review_deny(&r, why);
    if (json_array_size(warnings))
        (void)json_object_set(r.response, "warnings", warnings);
    w->counts.refused += why != NULL;
    w->counts.passed += why == NULL;
    json_decref(warnings);
    mz_buf_fini(&text);
    mz_documents_fini(&d);
    review_send(&r, rq, out);
}

/* ---- owner ---- */

struct mz_webhook *mz_webhook_create(struct mz_loop *l, const struct mz_inject_opts *o)
{
    const struct mz_web_opts wo = { .name = "webhook",
                                    .max_body = MAX_BODY,
                                    .max_connections = MAX_CONNECTIONS,
                                    .timeout_ms = TIMEOUT_MS };
    struct mz_webhook *w = mz_new0(MZ_MEM_ADMIN, struct mz_webhook);
    w->o = *o;
    w->inject = (struct mz_admin_page){
        .path = "/inject", .help = "a proxy into pods", .handle = page_inject, .arg = w
    };
    w->validate = (struct mz_admin_page){ .path = "/validate",
                                          .help = "what is wrong with a document",
                                          .handle = page_validate,
                                          .arg = w };
    w->pages = mz_admin_create();
    mz_admin_add(w->pages, &w->inject);
    mz_admin_add(w->pages, &w->validate);
    w->web = mz_web_create(l, w->pages, &wo);
    return w;
}

void mz_webhook_destroy(struct mz_webhook *w)
{
    if (!w)
        return;
    mz_web_destroy(w->web);
    mz_admin_destroy(w->pages);
    mz_free(MZ_MEM_ADMIN, w);
}

bool mz_webhook_listen(struct mz_webhook *w, const struct mz_addr *a,
                       const struct mz_transport_factory *f, struct mz_addr *out_addr,
                       struct mz_err *err)
{
    return mz_web_listen(w->web, a, f, out_addr, err);
}

void mz_webhook_metrics(const struct mz_webhook *w, struct mz_buf *out)
{
    const struct {
        const char *name, *help;
        uint64_t value;
    } counters[] = {
        { "sidecar_injection_requests_total", "Total number of sidecar injection requests.",
          w->counts.requests },
        { "sidecar_injection_success_total",
          "Total number of successful sidecar injection requests.", w->counts.injected },
        { "sidecar_injection_skip_total", "Total number of skipped sidecar injection requests.",
          w->counts.skipped },
        { "sidecar_injection_failure_total", "Total number of failed sidecar injection requests.",
          w->counts.failed },
        { "galley_validation_passed", "Resource is valid", w->counts.passed },
        { "galley_validation_failed", "Resource validation failed", w->counts.refused },
    };
    for (size_t i = 0; i < MZ_COUNT(counters); i++) {
        mz_metric_head(out, counters[i].name, MZ_METRIC_COUNTER, counters[i].help);
        mz_metric_value(out, counters[i].name, NULL, MZ_STR(""), (double)counters[i].value);
    }
}
