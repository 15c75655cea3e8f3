#include "cli/fetch.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/codec.h"
#include "net/addr.h"

enum { TIMEOUT_S = 30, MAX_BODY = 1 << 30 };

struct target {
    struct mz_str host;
    uint16_t port;
};

static bool split(const char *where, uint16_t port, struct target *out, struct mz_err *err)
{
    struct mz_str t = mz_str_c(where);
    uint64_t number = port;
    if (mz_str_starts(t, MZ_STR("http://")))
        t = mz_str_skip(t, 7);
    if (t.n && t.p[t.n - 1] == '/')
        t.n--;
    const ptrdiff_t colon = mz_str_rchr(t, ':');
    const bool bracket = t.n && t.p[0] == '[';
    const bool has_port =
        colon >= 0 && (bracket ? t.p[colon - 1] == ']' : mz_str_chr(t, ':') == colon);
    if (has_port) {
        if (!mz_str_u64(mz_str_skip(t, (size_t)colon + 1), &number) || number > UINT16_MAX)
            return mz_err_set(err, "\"%s\" is not address:port", where);
        t.n = (size_t)colon;
    }
    if (bracket && t.n > 1 && t.p[t.n - 1] == ']')
        t = (struct mz_str){ t.p + 1, t.n - 2 };
    *out = (struct target){ t, (uint16_t)number };
    return t.n ? true : mz_err_set(err, "\"%s\" is not address:port", where);
}

static int connect_to(int family, const struct sockaddr *sa, socklen_t n)
{
    const struct timeval limit = { .tv_sec = TIMEOUT_S };
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit,
                     sizeof(limit)); /* else it waits for ever */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, sa, n) == 0)
        return fd;
    const int e = errno;
    (void)close(fd);
    errno = e;
    return -1;
}

static int open_unix(const char *path, struct mz_err *err)
{
    struct mz_addr a;
    struct sockaddr_storage sa;
    if (!mz_addr_unix(mz_str_c(path), &a, err))
        return -1;
    const socklen_t n = mz_addr_sockaddr(&a, &sa);
    const int fd = connect_to(AF_UNIX, (const struct sockaddr *)&sa, n);
    if (fd < 0)
        mz_err_set(err, "%s: %s", path, strerrordesc_np(errno));
    return fd;
}

static int open_ip(const char *where, uint16_t port, struct mz_err *err)
{
    struct target t;
    char host[256], service[8];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    if (!split(where, port, &t, err))
        return -1;
    (void)snprintf(host, sizeof(host), MZ_STR_FMT, MZ_STR_ARG(t.host));
    (void)snprintf(service, sizeof(service), "%u", t.port);
    const int rc = getaddrinfo(host, service, &hints, &list);
    if (rc) {
        mz_err_set(err, "%s: %s", host, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = connect_to(a->ai_family, a->ai_addr, a->ai_addrlen);
    if (fd < 0)
        mz_err_set(err, "%s:%s: %s", host, service, strerrordesc_np(errno));
    freeaddrinfo(list);
    return fd;
}

/* ---- the exchange ---- */

struct exchange {
    int fd;
    struct mz_buf wire_out, wire_in, *body;
    struct mz_codec *codec;
    uint64_t status;
    bool done, failed;
    const char *details;
};

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct exchange *x = arg;
    (void)mz_str_u64(mz_headers_value_id(h, MZ_H_STATUS),
                     &x->status); /* the codec has checked it */
    x->done = end;
}

static void on_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h; /* the answer follows */
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct exchange *x = arg;
    mz_buf_move_all(x->body, data);
    x->done = end;
    if (mz_buf_len(x->body) > MAX_BODY) {
        x->failed = true;
        x->details = "the answer is too large";
    }
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct exchange *x = arg;
    (void)h; /* nobody asks for them */
    x->done = true;
}

static void on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct exchange *x = arg;
    x->failed = true;
    x->details = details ? details : mz_reset_reason_text(r);
}

static void on_flow(void *arg)
{
    (void)arg; /* requests are small */
}
static const struct mz_stream_in_ops in_ops = { on_1xx,   on_headers, on_data, on_trailers,
                                                on_reset, on_flow,    on_flow };

static void written(void *arg)
{
    (void)arg; /* sent below */
}

static void read_disable(void *arg, bool disable)
{
    (void)arg;
    (void)disable; /* one answer, no more is read */
}

static bool send_all(struct exchange *x, struct mz_err *err)
{
    const struct mz_str all = mz_buf_linearize(&x->wire_out, mz_buf_len(&x->wire_out));
    for (size_t at = 0; at < all.n;) {
        const ssize_t n = send(x->fd, all.p + at, all.n - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mz_err_set(err, "%s", strerrordesc_np(errno));
        at += (size_t)n;
    }
    return true;
}

static bool receive(struct exchange *x, struct mz_err *err)
{
    char text[16384];
    while (!x->done && !x->failed) {
        const ssize_t n = recv(x->fd, text, sizeof(text), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mz_err_set(err, "%s", errno == EAGAIN ? "no answer" : strerrordesc_np(errno));
        mz_buf_append(&x->wire_in, text, (size_t)n);
        if (x->codec->ops->dispatch(x->codec, &x->wire_in, n == 0) != MZ_CODEC_OK)
            return mz_err_set(err, "not HTTP: %s",
                              x->codec->error.details ? x->codec->error.details : "");
        if (n == 0 && !x->done)
            return mz_err_set(err, "the answer was cut");
    }
    return x->failed ? mz_err_set(err, "%s", x->details) : true;
}

static bool exchange(struct exchange *x, const char *host, const char *method, const char *path,
                     struct mz_arena *a, struct mz_err *err)
{
    const struct mz_stream_in in = { &in_ops, x, a };
    struct mz_stream_enc *enc = mz_http1_client_request(x->codec, &in);
    struct mz_headers h;
    mz_headers_init(&h, a);
    mz_headers_add_id(&h, MZ_H_METHOD, mz_str_c(method));
    mz_headers_add_id(&h, MZ_H_AUTHORITY,
                      mz_str_c(host[0] == '/' || host[0] == '@' ? "localhost" : host));
    mz_headers_add_id(&h, MZ_H_PATH, mz_str_c(path));
    mz_headers_add_id(&h, MZ_H_CONNECTION, MZ_STR("close"));
    if (strcmp(method, "GET") != 0)
        mz_headers_add_id(&h, MZ_H_CONTENT_LENGTH, MZ_STR("0"));
    enc->ops->encode_headers(enc, &h, true);
    return send_all(x, err) && receive(x, err);
}

static bool judge(struct exchange *x, const char *path, struct mz_err *err)
{
    if (x->status == 200)
        return true;
    struct mz_str text = mz_buf_linearize(x->body, mz_buf_len(x->body));
    const ptrdiff_t line = mz_str_chr(text, '\n');
    if (line >= 0)
        text.n = (size_t)line;
    return mz_err_set(err, "%s answered %u %.*s", path, (unsigned)x->status,
                      (int)(text.n > 300 ? 300 : text.n), text.p ? text.p : "");
}

static bool fetch_over(int fd, const char *where, const char *method, const char *path,
                       struct mz_buf *out, struct mz_err *err)
{
    static const struct mz_http1_opts opts = { .max_headers_kb = 60, .max_headers_count = 100 };
    static const struct mz_http1_stats none = { .scope = NULL };
    struct exchange x = { .body = out, .fd = fd };
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_codec_sink sink = { &x.wire_out, written, read_disable, &x, 0, false };
    mz_buf_init(&x.wire_out);
    mz_buf_init(&x.wire_in);
    x.codec = mz_http1_client_create(&opts, &none, &sink);
    const bool ok = exchange(&x, where, method, path, a, err) && judge(&x, path, err);
    x.codec->ops->destroy(x.codec);
    mz_buf_fini(&x.wire_out);
    mz_buf_fini(&x.wire_in);
    mz_arena_destroy(a);
    (void)close(fd);
    return ok;
}

bool fetch(const char *where, uint16_t port, const char *method, const char *path,
           struct mz_buf *out, struct mz_err *err)
{
    const int fd =
        where[0] == '/' || where[0] == '@' ? open_unix(where, err) : open_ip(where, port, err);
    return fd >= 0 &&
           (fetch_over(fd, where, method, path, out, err) || mz_err_at(err, "%s", where));
}

bool fetch_on(int take_fd, const char *who, unsigned limit_s, const char *method, const char *path,
              struct mz_buf *out, struct mz_err *err)
{
    const struct timeval limit = { .tv_sec = limit_s };
    (void)setsockopt(take_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* else it waits */
    (void)setsockopt(take_fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return fetch_over(take_fd, "localhost", method, path, out, err) || mz_err_at(err, "%s", who);
}
