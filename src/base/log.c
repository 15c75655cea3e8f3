#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"

uint8_t mz_log_levels[MZ_LOG_C__COUNT] = { [0 ... MZ_LOG_C__COUNT - 1] = MZ_LOG_INFO };

static const char *const component_names[] = {
#define X(name) #name,
    MZ_LOG_COMPONENTS(X)
#undef X
};
static const char *const level_names[] = { "trace", "debug",    "info", "warning",
                                           "error", "critical", "off" };
static const char default_format[] = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static int log_fd = STDERR_FILENO;
static char *log_path;
static char *format;
static bool json;
static uint64_t bugs;

struct line {
    char *p;
    size_t n, cap;
};

static void put(struct line *l, const char *p, size_t n)
{
    size_t k = n < l->cap - l->n ? n : l->cap - l->n;
    memcpy(l->p + l->n, p, k);
    l->n += k;
}

static void put_c(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Control bytes never reach a log raw (B18). */
static void put_escaped(struct line *l, const char *p, size_t n, bool quotes)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        char esc[8];
        if (c == '\n' || c == '\r' || c == '\t')
            put(l, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", 2);
        else if (quotes && (c == '"' || c == '\\'))
            put(l, (char[]){ '\\', (char)c }, 2);
        else if (c < 0x20 || c == 0x7f) {
            int len = snprintf(esc, sizeof(esc), quotes ? "\\u%04x" : "\\x%02x", c);
            put(l, esc, (size_t)len);
        } else
            put(l, p + i, 1);
    }
}

struct event {
    enum mz_log_component comp;
    enum mz_log_level level;
    const char *file, *text;
    size_t text_n;
    int line;
    struct tm tm;
    unsigned usec;
    long tid;
};

static void put_flag(struct line *l, char flag, const struct event *e)
{
    char t[64];
    static const char sec_flags[] = "YmdHMSTDyjabcIpFz";
    switch (flag) {
    case 'e':
        put(l, t, (size_t)snprintf(t, sizeof(t), "%03u", e->usec / 1000));
        return;
    case 'f':
        put(l, t, (size_t)snprintf(t, sizeof(t), "%06u", e->usec));
        return;
    case 't':
        put(l, t, (size_t)snprintf(t, sizeof(t), "%ld", e->tid));
        return;
    case 'P':
        put(l, t, (size_t)snprintf(t, sizeof(t), "%d", (int)getpid()));
        return;
    case 'l':
        put_c(l, level_names[e->level]);
        return;
    case 'L':
        put(l, (char[]){ (char)(level_names[e->level][0] - 32) }, 1);
        return;
    case 'n':
        put_c(l, component_names[e->comp]);
        return;
    case 'g':
        put_c(l, e->file);
        return;
    case 's':
        put_c(l, strrchr(e->file, '/') ? strrchr(e->file, '/') + 1 : e->file);
        return;
    case '#':
        put(l, t, (size_t)snprintf(t, sizeof(t), "%d", e->line));
        return;
    case 'v':
    case '_':
        put_escaped(l, e->text, e->text_n, false);
        return;
    case '%':
        put(l, "%", 1);
        return;
    default:
        break;
    }
    if (strchr(sec_flags, flag)) {
        const char spec[3] = { '%', flag == 'D' ? 'x' : flag, '\0' };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        put(l, t, strftime(t, sizeof(t), spec, &e->tm));
#pragma GCC diagnostic pop
    }
}

static void put_json(struct line *l, const struct event *e)
{
    char t[48];
    size_t n = strftime(t, sizeof(t), "%Y-%m-%dT%H:%M:%S", &e->tm);
    put_c(l, "{\"time\":\"");
    put(l, t, n);
    put(l, t, (size_t)snprintf(t, sizeof(t), ".%06uZ", e->usec));
    put_c(l, "\",\"level\":\"");
    put_c(l, level_names[e->level]);
    put_c(l, "\",\"logger\":\"");
    put_c(l, component_names[e->comp]);
    put_c(l, "\",\"message\":\"");
    put_escaped(l, e->text, e->text_n, true);
    put_c(l, "\"}");
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return; /* a full disk or a closed pipe must not stop the proxy */
        p += k;
        n -= (size_t)k;
    }
}

static void emit(const struct event *e)
{
    char buf[8192];
    struct line l = { buf, 0, sizeof(buf) - 1 };
    pthread_mutex_lock(&lock);
    if (json) {
        put_json(&l, e);
    } else {
        for (const char *f = format ? format : default_format; *f; f++) {
            if (*f != '%')
                put(&l, f, 1);
            else if (*++f)
                put_flag(&l, *f, e);
            else
                break;
        }
    }
    buf[l.n++] = '\n';
    write_all(log_fd, buf, l.n);
    pthread_mutex_unlock(&lock);
}

void mz_log_write(enum mz_log_component c, enum mz_log_level level, uint64_t conn_id,
                  uint64_t stream_id, const char *file, int line, const char *fmt, ...)
{
    char text[6144];
    size_t n = 0;
    if (conn_id && stream_id)
        n = (size_t)snprintf(text, sizeof(text),
                             "[Tags: \"ConnectionId\":\"%llu\",\"StreamId\":\"%llu\"] ",
                             (unsigned long long)conn_id, (unsigned long long)stream_id);
    else if (conn_id || stream_id)
        n = (size_t)snprintf(text, sizeof(text), "[Tags: \"%s\":\"%llu\"] ",
                             conn_id ? "ConnectionId" : "StreamId",
                             (unsigned long long)(conn_id ? conn_id : stream_id));
    va_list ap;
    va_start(ap, fmt);
    int k = vsnprintf(text + n, sizeof(text) - n, fmt, ap);
    va_end(ap);
    size_t room = sizeof(text) - n - 1;
    n += k < 0 ? 0 : (size_t)k < room ? (size_t)k : room;
    uint64_t now = mz_clock->wall_us();
    time_t sec = (time_t)(now / 1000000);
    const char *shown = strstr(file, "src/");
    struct event e = { .comp = c,
                       .level = level,
                       .file = shown ? shown : file,
                       .text = text,
                       .text_n = n,
                       .line = line,
                       .usec = (unsigned)(now % 1000000),
                       .tid = syscall(SYS_gettid) };
    gmtime_r(&sec, &e.tm);
    emit(&e);
}

bool mz_log_level_parse(struct mz_str s, enum mz_log_level *out_level)
{
    static const struct {
        struct mz_str word;
        enum mz_log_level level;
    } more[] = { { MZ_STR_INIT("warn"), MZ_LOG_WARN }, { MZ_STR_INIT("err"), MZ_LOG_ERROR } };
    for (int i = MZ_LOG_TRACE; i <= MZ_LOG_OFF; i++)
        if (mz_str_ieq(s, mz_str_c(level_names[i]))) {
            *out_level = (enum mz_log_level)i;
            return true;
        }
    for (size_t i = 0; i < MZ_COUNT(more); i++)
        if (mz_str_ieq(s, more[i].word)) {
            *out_level = more[i].level;
            return true;
        }
    return false;
}

const char *mz_log_level_name(enum mz_log_level l)
{
    return level_names[l];
}

const char *mz_log_component_name(enum mz_log_component c)
{
    return component_names[c];
}

bool mz_log_component_find(struct mz_str name, enum mz_log_component *out_component)
{
    for (int i = 0; i < MZ_LOG_C__COUNT; i++)
        if (mz_str_eq(name, mz_str_c(component_names[i]))) {
            *out_component = (enum mz_log_component)i;
            return true;
        }
    return false;
}

void mz_log_set_level(enum mz_log_component c, enum mz_log_level l)
{
    __atomic_store_n(&mz_log_levels[c], (uint8_t)l, __ATOMIC_RELAXED);
}

void mz_log_set_all(enum mz_log_level l)
{
    for (int i = 0; i < MZ_LOG_C__COUNT; i++)
        mz_log_set_level((enum mz_log_component)i, l);
}

bool mz_log_set_format(const char *fmt, struct mz_err *err)
{
    static const char known[] = "YmdHMSTDyjabcIpFzeftPlLngs#v_%";
    for (const char *f = fmt; f && *f; f++)
        if (*f == '%' && (!f[1] || !strchr(known, *++f)))
            return mz_err_set(err, "unknown flag \"%%%c\" in the log format \"%s\"", *f, fmt);
    pthread_mutex_lock(&lock);
    mz_free(MZ_MEM_LOG, format);
    format = fmt ? mz_strndup(MZ_MEM_LOG, fmt, strlen(fmt)) : NULL;
    pthread_mutex_unlock(&lock);
    return true;
}

bool mz_log_set_json(bool on)
{
    pthread_mutex_lock(&lock);
    bool old = json;
    json = on;
    pthread_mutex_unlock(&lock);
    return old;
}

bool mz_log_open(const char *path, struct mz_err *err)
{
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : STDERR_FILENO;
    if (fd < 0)
        return mz_err_set(err, "cannot open the log file \"%s\": %m", path);
    pthread_mutex_lock(&lock);
    if (log_fd != STDERR_FILENO)
        close(log_fd);
    log_fd = fd;
    mz_free(MZ_MEM_LOG, log_path);
    log_path = path ? mz_strndup(MZ_MEM_LOG, path, strlen(path)) : NULL;
    pthread_mutex_unlock(&lock);
    return true;
}

bool mz_log_reopen(void)
{
    pthread_mutex_lock(&lock);
    int fd = log_path ? open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        close(log_fd);
        log_fd = fd;
    }
    bool ok = !log_path || fd >= 0;
    pthread_mutex_unlock(&lock);
    return ok;
}

_Noreturn void mz_assert_failed(const char *cond, const char *file, int line)
{
    mz_log_write(MZ_LOG_C_assert, MZ_LOG_CRITICAL, 0, 0, file, line, "assert failure: %s", cond);
    abort();
}

void mz_bug(const char *cond, const char *file, int line)
{
    __atomic_add_fetch(&bugs, 1, __ATOMIC_RELAXED);
    mz_log_write(MZ_LOG_C_assert, MZ_LOG_ERROR, 0, 0, file, line, "bug: %s", cond);
#ifndef NDEBUG
    abort();
#endif
}

uint64_t mz_bug_count(void)
{
    return __atomic_load_n(&bugs, __ATOMIC_RELAXED);
}
