/* Workloads to pods: what a Deployment's, StatefulSet's, Job's controllers and a kubelet's begin do. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "mesh/json.h"
#include "mesh/network.h"
#include "mesh/supervisor_priv.h"

enum { RETRY_MS = 500, RETRY_MAX_MS = 10000, LAST_IP = 0x0af4fffe };
#define NODE "node"

static struct mz_mesh_pod *pod_at(struct mz_list *it)
{
    return MZ_CONTAINER(it, struct mz_mesh_pod, link);
}

static bool is_finished(const struct mz_mesh_pod *p)
{
    return p->phase == MZ_MESH_SUCCEEDED || p->phase == MZ_MESH_FAILED;
}

/* ---- names and addresses ---- */

static const char *key_of(const struct mz_mesh_workload *w, char out[256])
{
    (void)snprintf(out, 256, "%s/%s/%s", w->ns, w->kind_name, w->name);
    return out;
}

static bool name_used(struct supervisor *s, const char *ns, const char *name)
{
    mz_list_foreach (it, &s->pods) {
        const struct mz_mesh_pod *p = pod_at(it);
        if (strcmp(p->spec->ns, ns) == 0 && strcmp(p->spec->name, name) == 0)
            return true;
    }
    return false;
}

static void random_end(struct supervisor *s, char out[6])
{
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789"; /* no words come out of these */
    for (int i = 0; i < 5; i++)
        out[i] = letters[mz_rand_below(s->rand, sizeof(letters) - 1)];
    out[5] = 0;
}

/* "web-0a1b2c3d-x7k2p", "web-0", "web-x7k2p", "web". False: a name that is given is still in use. */
static bool name_pod(struct supervisor *s, const struct mz_mesh_workload *w, char out[64])
{
    char end[6];
    if (w->kind == MZ_MESH_POD) {
        (void)snprintf(out, 64, "%s", w->name);
        return !name_used(s, w->ns, out);
    }
    for (unsigned i = 0; w->kind == MZ_MESH_STATEFUL_SET && i < w->replicas; i++) {
        (void)snprintf(out, 64, "%.50s-%u", w->name, i);
        if (!name_used(s, w->ns, out))
            return true;
    }
    if (w->kind == MZ_MESH_STATEFUL_SET)
        return false;
    do {
        random_end(s, end);
        if (w->kind == MZ_MESH_DEPLOYMENT)
            (void)snprintf(out, 64, "%.48s-%08x-%s", w->name, (unsigned)w->hash, end);
        else
            (void)snprintf(out, 64, "%.57s-%s", w->name, end);
    } while (name_used(s, w->ns, out));
    return true;
}

static uint32_t take_ip(struct supervisor *s)
{
    for (;;) {
        const uint32_t ip = s->next_ip;
        bool used = (ip & 255) == 0 || (ip & 255) == 255;
        s->next_ip = ip >= LAST_IP ? MZ_MESH_NODE_IP + 1 : ip + 1;
        mz_list_foreach (it, &s->pods)
            used = used || pod_at(it)->ip == ip;
        if (!used)
            return ip;
    }
}

/* ---- one pod ---- */

/* A Deployment's pods are a ReplicaSet's, by whose name others find the Deployment. */
static void add_replica_set(struct mz_mesh_pod_spec *spec, const struct mz_mesh_workload *w)
{
    json_t *meta = json_object_get(spec->object, "metadata"),
           *labels = json_object_get(meta, "labels");
    const unsigned hash = (unsigned)w->hash;
    if (w->kind != MZ_MESH_DEPLOYMENT || !labels)
        return;
    (void)json_object_set_new(labels, "pod-template-hash", json_sprintf("%08x", hash));
    (void)json_object_set_new(meta, "generateName", json_sprintf("%s-%08x-", w->name, hash));
    (void)json_object_set_new(meta, "ownerReferences",
                              json_pack("[{s:s, s:s, s:o, s:b}]", "apiVersion", "apps/v1", "kind",
                                        "ReplicaSet", "name",
                                        json_sprintf("%s-%08x", w->name, hash), "controller", 1));
}

static struct mz_mesh_pod_spec *expand(const struct mz_mesh_folder *f,
                                       const struct mz_mesh_workload *w, const char *name,
                                       const char *bin, const char *state, uint32_t ip, bool six,
                                       char *const *env, struct mz_err *err)
{
    char work[1024], ip_text[16], ip6_text[40] = "", host[16];
    mz_mesh_ip_text(ip, ip_text);
    if (six)
        mz_mesh_ip6_text(ip, ip6_text);
    mz_mesh_ip_text(MZ_MESH_NODE_IP, host);
    (void)snprintf(work, sizeof(work), "%s/work/%s_%s", state, w->ns, name);
    const struct mz_mesh_place place = { .folder = f,
                                         .bin = bin,
                                         .work = work,
                                         .host_ip = host,
                                         .node = NODE,
                                         .ip = ip_text,
                                         .ip6 = ip6_text,
                                         .name = name,
                                         .env = env };
    struct mz_mesh_pod_spec *spec = mz_mesh_pod_spec(w, &place, err);
    if (spec)
        add_replica_set(spec, w);
    return spec;
}

bool rollout_check(const struct mz_mesh_folder *f, const struct mz_mesh_workloads *w,
                   const char *bin, const char *state, char *const *env, struct mz_err *err)
{
    for (size_t i = 0; i < w->n; i++) {
        struct mz_mesh_pod_spec *spec =
            expand(f, &w->v[i], w->v[i].name, bin, state, MZ_MESH_NODE_IP + 1, true, env, err);
        if (!spec)
            return false;
        mz_mesh_pod_spec_destroy(spec);
    }
    return true;
}

static bool start_pod(struct supervisor *s, const struct mz_mesh_workload *w, const char *name,
                      struct mz_err *err)
{
    char key[256];
    struct mz_mesh_mounts mounts = { 0 };
    const uint32_t ip = take_ip(s);
    struct mz_mesh_pod_spec *spec =
        expand(s->folder, w, name, s->node.bin, s->node.state, ip, s->node.six, s->node.env, err);
    if (!spec)
        return false;
    const char *workload = mz_arena_dup(spec->arena, mz_str_c(key_of(w, key))).p;
    bool ok = mz_mesh_files_write(&s->files, spec, &mounts, err);
    struct mz_mesh_pod *p = mz_mesh_pod_create(&s->node, spec, ip, s->next_number++, &s->pod_ops);
    p->workload = workload;
    p->hash = w->hash;
    mz_list_add_tail(&s->pods, &p->link);
    ok = ok && mz_mesh_pod_start(p, mounts.v.v, mounts.v.n, err);
    mz_vec_free(&mounts.v, MZ_MEM_MISC);
    if (ok)
        s->pod_ops.changed(s, p);
    else
        mz_mesh_pod_destroy(p);
    return ok;
}

/* False: not now. */
static bool start_one(struct supervisor *s, const struct mz_mesh_workload *w)
{
    struct mz_err err = { .path = "", .msg = "" };
    char name[64], text[sizeof(err)];
    if (mz_timer_armed(&s->retry) || !name_pod(s, w, name))
        return false;
    if (start_pod(s, w, name, &err)) {
        s->failures = 0;
        return true;
    }
    MZ_LOG(ERROR, main, "%s", mz_err_text(&err, text, sizeof(text)));
    const uint64_t pause = (uint64_t)RETRY_MS << (s->failures < 5 ? s->failures : 5);
    s->failures++;
    mz_timer_start_ms(&s->retry, pause < RETRY_MAX_MS ? pause : RETRY_MAX_MS);
    return false;
}

/* ---- workloads ---- */

struct tally {
    unsigned fresh, ready, stale, done, failed;
};

static struct tally tally(struct supervisor *s, const struct mz_mesh_workload *w)
{
    char key[256];
    struct tally t = { 0 };
    key_of(w, key);
    mz_list_foreach (it, &s->pods) {
        const struct mz_mesh_pod *p = pod_at(it);
        if (p->leaving || strcmp(p->workload, key) != 0)
            continue;
        t.done += p->phase == MZ_MESH_SUCCEEDED;
        t.failed += p->phase == MZ_MESH_FAILED;
        if (p->hash != w->hash)
            t.stale++;
        else if (w->kind != MZ_MESH_JOB || !is_finished(p))
            t.fresh++;
        t.ready += p->hash == w->hash && p->ready;
    }
    return t;
}

/* Of a workload's pods, @n: those of another template, or of this one, the newest first. */
static void stop_some(struct supervisor *s, const struct mz_mesh_workload *w, bool stale,
                      unsigned n)
{
    char key[256];
    key_of(w, key);
    for (struct mz_list *it = s->pods.prev; it != &s->pods && n; it = it->prev) {
        struct mz_mesh_pod *p = pod_at(it);
        if (p->leaving || strcmp(p->workload, key) != 0 || (p->hash != w->hash) != stale)
            continue;
        mz_mesh_pod_stop(p, false);
        n--;
    }
}

static void run_job(struct supervisor *s, const struct mz_mesh_workload *w, struct tally t)
{
    if (t.failed > w->backoff_limit)
        return;
    for (; t.fresh < w->parallelism && t.done + t.fresh < w->replicas; t.fresh++)
        if (!start_one(s, w))
            return;
}

/* A Deployment keeps what there is until the new ones are ready; names that are given must be free first. */
static void run_workload(struct supervisor *s, const struct mz_mesh_workload *w)
{
    struct tally t = tally(s, w);
    const bool rolls = w->kind == MZ_MESH_DEPLOYMENT;
    if (w->kind == MZ_MESH_JOB) {
        run_job(s, w, t);
        return;
    }
    if (t.fresh > w->replicas)
        stop_some(s, w, false, t.fresh - w->replicas);
    if (t.stale && (!rolls || t.ready >= w->replicas))
        stop_some(s, w, true, t.stale);
    for (; t.fresh < w->replicas; t.fresh++)
        if (!start_one(s, w))
            return;
}

static bool is_wanted(const struct supervisor *s, const struct mz_mesh_pod *p)
{
    char key[256];
    for (size_t i = 0; i < s->workloads.n; i++)
        if (strcmp(p->workload, key_of(&s->workloads.v[i], key)) == 0)
            return true;
    return false;
}

void rollout(struct supervisor *s)
{
    if (s->stopping)
        return;
    mz_list_foreach (it, &s->pods)
        if (!pod_at(it)->leaving && !is_wanted(s, pod_at(it)))
            mz_mesh_pod_stop(pod_at(it), false);
    for (size_t i = 0; i < s->workloads.n; i++)
        run_workload(s, &s->workloads.v[i]);
}

bool is_settled(const struct supervisor *s)
{
    for (size_t i = 0; i < s->workloads.n; i++) {
        const struct mz_mesh_workload *w = &s->workloads.v[i];
        struct tally t = tally((struct supervisor *)(uintptr_t)s, w); /* only read */
        if (w->kind != MZ_MESH_JOB && t.ready < w->replicas && !(w->kind == MZ_MESH_POD && t.done))
            return false;
    }
    return true;
}

static void on_retry(struct mz_timer *t)
{
    rollout(MZ_CONTAINER(t, struct supervisor, retry));
}

void rollout_init(struct supervisor *s)
{
    s->next_ip = MZ_MESH_NODE_IP + 1;
    s->rand = mz_loop_rand(s->node.loop);
    mz_timer_init(s->node.loop, &s->retry, on_retry);
}
