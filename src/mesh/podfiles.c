#include "mesh/podfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "control/ca/token.h"
#include "control/model/model.h"
#include "mesh/json.h"
#include "mesh/network.h"
#include "mesh/podenv.h"

enum { TOKEN_TTL_S = 43200 };

/* ---- files ---- */

static bool make_parents(const char *path)
{
    char part[4096];
    if (strlen(path) >= sizeof(part))
        return false;
    memcpy(part, path, strlen(path) + 1);
    for (char *p = part + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return false;
    }
    return true;
}

bool mz_mesh_write_file(const char *path, struct mz_str text, struct mz_err *err)
{
    char beside[4096];
    const char *slash = strrchr(path, '/');
    (void)snprintf(beside, sizeof(beside), "%.*s/.%s.new", (int)(slash - path), path, slash + 1);
    const int fd = make_parents(path)
                       ? open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640)
                       : -1;
    bool ok = fd >= 0;
    for (size_t at = 0; ok && at < text.n;) {
        const ssize_t n = write(fd, text.p + at, text.n - at);
        ok = n > 0;
        at += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    if (ok && rename(beside, path) == 0)
        return true;
    return mz_err_set(err, "cannot write %s: %s", path, strerrordesc_np(errno));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)at;
    if (type == FTW_DNR) /* the kernel's own of a layer: nobody may look into it */
        (void)chmod(path, 0700);
    (void)remove(path);
    return 0;
}

bool mz_mesh_remove_all(const char *path)
{
    for (int turn = 0; turn < 2 && access(path, F_OK) == 0; turn++)
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
        (void)nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
    return access(path, F_OK) != 0;
}

/* As a kubelet does it for writers that keep their descriptor: what is written meanwhile may be lost. */
void mz_mesh_log_cut(const char *path)
{
    char before[4096];
    struct stat st;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > MZ_MESH_LOG_MAX) {
        (void)snprintf(before, sizeof(before), "%s.1", path);
        const int to = open(before, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        off_t from = st.st_size - MZ_MESH_LOG_MAX;
        if (to >= 0) {
            while (sendfile(to, fd, &from, MZ_MESH_LOG_MAX) > 0) {
            }
            (void)close(to);
        }
        (void)!ftruncate(fd, 0); /* else it is tried again */
    }
    if (fd >= 0)
        (void)close(fd);
}

/* ---- what the injected volumes hold ---- */

static int by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static void quote(struct mz_buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '\n')
            mz_buf_printf(b, "\\n");
        else
            mz_buf_printf(b, "%s%c", *s == '"' || *s == '\\' ? "\\" : "", *s);
    }
}

char *mz_mesh_downward(json_t *map)
{
    const size_t most = json_object_size(map);
    const char **keys = mz_newn0(MZ_MEM_MISC, const char *, most + 1), *key;
    size_t n = 0;
    json_t *value;
    struct mz_buf b;
    mz_buf_init(&b);
    json_object_foreach(map, key, value) keys[n++] = key;
    qsort(keys, n, sizeof(*keys), by_text);
    for (size_t i = 0; i < n; i++) {
        mz_buf_printf(&b, "%s=\"", keys[i]);
        quote(&b, mz_json_text(map, keys[i], ""));
        mz_buf_printf(&b, "\"\n");
    }
    const struct mz_str all = mz_buf_linearize(&b, mz_buf_len(&b));
    char *text = strndup(all.p ? all.p : "", all.n);
    mz_buf_fini(&b);
    mz_free(MZ_MEM_MISC, keys);
    return text;
}

static bool write_map(struct mz_mesh_pod_spec *s, const char *map, struct mz_err *err)
{
    char *text = mz_mesh_downward(mz_json_at(s->object, "metadata", map, NULL));
    const char *path = mz_arena_printf(s->arena, "%s/etc/istio/pod/%s", s->work, map).p;
    const bool ok = mz_mesh_write_file(path, mz_str_c(text), err);
    free(text);
    return ok;
}

bool mz_mesh_files_token(const struct mz_mesh_files *f, const struct mz_mesh_pod_spec *s,
                         struct mz_err *err)
{
    const struct mz_account who = { mz_str_c(s->ns), mz_str_c(s->account) };
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    const bool ok =
        mz_account_ok(who)
            ? mz_mesh_write_file(
                  mz_arena_printf(a, "%s/var/run/secrets/tokens/istio-token", s->work).p,
                  mz_tokens_make(f->tokens, who, TOKEN_TTL_S, a), err)
            : mz_err_set(err, "serviceAccountName: \"%.80s\" is no name", s->account);
    mz_arena_destroy(a);
    return ok;
}

static bool read_text(const char *path, struct mz_arena *a, struct mz_str *out, struct mz_err *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size < 1 << 20) {
        char *text = mz_arena_alloc(a, (size_t)st.st_size + 1);
        n = read(fd, text, (size_t)st.st_size);
        *out = (struct mz_str){ text, n > 0 ? (size_t)n : 0 };
    }
    if (fd >= 0)
        (void)close(fd);
    return n >= 0 ? true : mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
}

static bool write_proxy_files(const struct mz_mesh_files *f, struct mz_mesh_pod_spec *s,
                              struct mz_err *err)
{
    struct mz_str root = { 0 };
    return write_map(s, "labels", err) && write_map(s, "annotations", err) &&
           mz_mesh_files_token(f, s, err) &&
           read_text(mz_arena_printf(s->arena, "%s/root-cert.pem", f->ca).p, s->arena, &root,
                     err) &&
           mz_mesh_write_file(
               mz_arena_printf(s->arena, "%s/var/run/secrets/istio/root-cert.pem", s->work).p, root,
               err);
}

/* ---- names ---- */

static void add_mount(struct mz_mesh_mounts *m, const char *from, const char *to)
{
    *mz_vec_push(&m->v, MZ_MEM_MISC) = (struct mz_mesh_mount){ from, to };
}

void mz_mesh_files_hosts(const struct mz_mesh_files *f, const struct mz_mesh_pod_spec *s,
                         struct mz_buf *out)
{
    const struct mz_str root = f->folder->model->mesh.root_ns;
    char node[16];
    mz_mesh_ip_text(MZ_MESH_NODE_IP, node);
    mz_buf_printf(out, "127.0.0.1 localhost\n::1 localhost\n%s %s\n", s->ip, s->name);
    if (s->ip6[0])
        mz_buf_printf(out, "%s %s\n", s->ip6, s->name);
    mz_buf_printf(out, "%s istiod.%.*s.svc istiod.%.*s.svc.cluster.local istiod.%.*s\n", node,
                  MZ_STR_ARG(root), MZ_STR_ARG(root), MZ_STR_ARG(root));
}

static bool write_names(const struct mz_mesh_files *f, struct mz_mesh_pod_spec *s,
                        struct mz_mesh_mounts *out, struct mz_err *err)
{
    char node[16];
    struct mz_buf b;
    mz_mesh_ip_text(MZ_MESH_NODE_IP, node);
    const struct mz_str resolv = mz_arena_printf(
        s->arena,
        "search %s.svc.cluster.local svc.cluster.local cluster.local\nnameserver %s\noptions "
        "ndots:5\n",
        s->ns, node);
    const char *resolv_path = mz_arena_printf(s->arena, "%s/resolv.conf", s->work).p,
               *hosts_path = mz_arena_printf(s->arena, "%s/hosts", s->work).p;
    add_mount(out, resolv_path, "/etc/resolv.conf");
    add_mount(out, hosts_path, "/etc/hosts");
    mz_buf_init(&b);
    mz_mesh_files_hosts(f, s, &b);
    const bool ok = mz_mesh_write_file(resolv_path, resolv, err) &&
                    mz_mesh_write_file(hosts_path, mz_buf_linearize(&b, mz_buf_len(&b)), err) &&
                    chmod(resolv_path, 0644) == 0 && chmod(hosts_path, 0644) == 0;
    mz_buf_fini(&b);
    return ok;
}

/* ---- volumes ---- */

static bool safe_name(const char *s) /* of a file in a volume */
{
    return s[0] && s[0] != '/' && !strstr(s, "..");
}

static bool write_key(struct mz_mesh_pod_spec *s, const struct mz_mesh_doc *d, const char *dir,
                      const char *key, const char *name, struct mz_err *err)
{
    const struct mz_str text = mz_mesh_key_of(d, key, s->arena);
    if (!text.p || !safe_name(name))
        return mz_err_set(err,
                          "%s \"%s\": there is no key \"%.100s\", or \"%.100s\" is no file name",
                          d->kind, d->name, key, name);
    return mz_mesh_write_file(mz_arena_printf(s->arena, "%s/%s", dir, name).p, text, err);
}

static bool write_keys(struct mz_mesh_pod_spec *s, const struct mz_mesh_doc *d, json_t *items,
                       const char *dir, struct mz_err *err)
{
    static const char *const maps[] = { "data", "stringData" };
    size_t at;
    const char *key;
    json_t *one;
    json_array_foreach(items, at,
                       one) if (!write_key(s, d, dir, mz_json_text(one, "key", ""),
                                           mz_json_text(one, "path", ""), err)) return false;
    for (size_t i = 0; i < 2 && !json_array_size(items); i++)
        json_object_foreach(json_object_get(d->object, maps[i]), key,
                            one) if (!write_key(s, d, dir, key, key, err)) return false;
    return true;
}

/* NULL: no such volume, or one that is nothing here. */
static json_t *volume_of(struct mz_mesh_pod_spec *s, const char *name)
{
    size_t at;
    json_t *v;
    json_array_foreach(mz_json_at(s->object, "spec", "volumes", NULL), at,
                       v) if (strcmp(mz_json_text(v, "name", ""), name) == 0) return v;
    return NULL;
}

static bool write_volume(const struct mz_mesh_files *f, struct mz_mesh_pod_spec *s,
                         const char *name, const char **out_dir, struct mz_err *err)
{
    json_t *v = volume_of(s, name), *config = json_object_get(v, "configMap"),
           *secret = json_object_get(v, "secret"), *host = json_object_get(v, "hostPath"),
           *from = config ? config : secret;
    const char *dir = mz_arena_printf(s->arena, "%s/volumes/%s", s->work, name).p;
    if (!safe_name(name) || !v)
        return mz_err_set(err, "volumeMounts: there is no volume \"%.80s\"", name);
    *out_dir = host ? mz_json_text(host, "path", "") : dir;
    if (host)
        return true;
    if (!from && json_object_size(v) > 1 && !json_object_get(v, "emptyDir"))
        return mz_err_set(
            err, "volume \"%.80s\": configMap, secret, emptyDir and hostPath are there", name);
    if (!make_parents(mz_arena_printf(s->arena, "%s/x", dir).p))
        return mz_err_set(err, "cannot make %s: %s", dir, strerrordesc_np(errno));
    if (!from)
        return true;
    const char *of = mz_json_text(from, config ? "name" : "secretName", "");
    const struct mz_mesh_doc *d =
        mz_mesh_folder_find(f->folder, config ? "ConfigMap" : "Secret", s->ns, of);
    if (!d)
        return json_is_true(json_object_get(from, "optional")) ||
               mz_err_set(err, "volume \"%.80s\": there is no %s \"%.100s\"", name,
                          config ? "ConfigMap" : "Secret", of);
    return write_keys(s, d, json_object_get(from, "items"), dir, err);
}

/* What the injector mounts lies in the pod's folder, from where its agent reads. */
static bool is_injected(const struct mz_mesh_pod_spec *s, const char *container, const char *path)
{
    static const char *const own[] = { "/etc/istio", "/var/run/secrets/", "/var/lib/istio" };
    if (!s->injected || strcmp(container, "istio-proxy") != 0)
        return false;
    for (size_t i = 0; i < MZ_COUNT(own); i++)
        if (mz_str_starts(mz_str_c(path), mz_str_c(own[i])))
            return true;
    return false;
}

static bool add_volumes(const struct mz_mesh_files *f, struct mz_mesh_pod_spec *s,
                        struct mz_mesh_mounts *out, struct mz_err *err)
{
    static const char *const lists[] = { "initContainers", "containers" };
    size_t at, k;
    json_t *c, *m;
    for (size_t i = 0; i < 2; i++)
        json_array_foreach(mz_json_at(s->object, "spec", lists[i], NULL), at, c)
            json_array_foreach(json_object_get(c, "volumeMounts"), k, m)
        {
            const char *to = mz_json_text(m, "mountPath", ""), *dir = NULL,
                       *sub = mz_json_text(m, "subPath", "");
            if (is_injected(s, mz_json_text(c, "name", ""), to))
                continue;
            if (to[0] != '/' || strstr(to, "..") || !to[1] || strstr(sub, ".."))
                return mz_err_set(err, "volumeMounts: \"%.200s\" is no absolute path", to);
            if (!write_volume(f, s, mz_json_text(m, "name", ""), &dir, err))
                return false;
            add_mount(out, sub[0] ? mz_arena_printf(s->arena, "%s/%s", dir, sub).p : dir, to);
        }
    return true;
}

bool mz_mesh_files_write(const struct mz_mesh_files *f, struct mz_mesh_pod_spec *s,
                         struct mz_mesh_mounts *out, struct mz_err *err)
{
    return (write_names(f, s, out, err) && add_volumes(f, s, out, err) &&
            (!s->injected || write_proxy_files(f, s, err))) ||
           mz_err_at(err, "pod %s/%s", s->ns, s->name);
}
