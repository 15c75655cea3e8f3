#include "base/program.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"

static bool component_levels(struct mz_str list, struct mz_err *err)
{
    for (struct mz_str part; mz_str_split(&list, ',', &part);) {
        enum mz_log_component c;
        enum mz_log_level l;
        ptrdiff_t colon = mz_str_chr(part, ':');
        if (colon < 0 || !mz_log_component_find((struct mz_str){ part.p, (size_t)colon }, &c) ||
            !mz_log_level_parse(mz_str_skip(part, (size_t)colon + 1), &l))
            return mz_err_set(
                err, "error: component log level '" MZ_STR_FMT "' is not <component>:<level>",
                MZ_STR_ARG(part));
        mz_log_set_level(c, l);
    }
    return true;
}

bool mz_program_called(const char *argv0, const char *name)
{
    const char *slash = argv0 ? strrchr(argv0, '/') : NULL;
    return argv0 && strcmp(slash ? slash + 1 : argv0, name) == 0;
}

bool mz_log_start(const struct mz_log_options *o, struct mz_err *err)
{
    enum mz_log_level level;
    if (mz_log_level_parse(mz_str_c(o->level), &level))
        mz_log_set_all(level);
    if (o->format && !mz_log_set_format(o->format, err))
        return false;
    if (o->component_levels && !component_levels(mz_str_c(o->component_levels), err))
        return false;
    return !o->path || mz_log_open(o->path, err);
}

void mz_signals_block(void)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, SIGHUP };
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < MZ_COUNT(signals); i++)
        sigaddset(&set, signals[i]);
    (void)pthread_sigmask(SIG_BLOCK, &set,
                          NULL); /* every thread inherits it; the main loop takes them */
    (void)signal(SIGPIPE, SIG_IGN);
}

int mz_mem_forgotten(void)
{
#ifdef NDEBUG
    return 0;
#else
    struct mz_mem_count left[MZ_MEM__COUNT];
    int rc = 0;
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    mz_mem_counts(left);
    for (unsigned i = 0; i < MZ_MEM__COUNT; i++) {
        if (left[i].objects == 0 && left[i].bytes == 0)
            continue;
        MZ_LOG(CRITICAL, main, "memory left at exit: %s, %lld bytes, %lld objects",
               mz_mem_name((enum mz_mem)i), (long long)left[i].bytes, (long long)left[i].objects);
        rc = EX_SOFTWARE;
    }
    return rc;
#endif
}

static bool has_folder(const char *path, const char *folder)
{
    const size_t n = strlen(folder);
    for (const char *p = path; (p = strstr(p, folder)); p += n)
        if ((p == path || p[-1] == ':') && (!p[n] || p[n] == ':'))
            return true;
    return false;
}

void mz_program_path(void)
{
    static const char *const folders[] = { "/usr/local/sbin", "/usr/sbin", "/sbin" };
    char path[4096];
    const char *now = getenv("PATH");
    int n = snprintf(path, sizeof(path), "%s", now && *now ? now : "/usr/local/bin:/usr/bin:/bin");
    for (size_t i = 0; i < MZ_COUNT(folders) && n > 0 && (size_t)n < sizeof(path); i++)
        if (!has_folder(path, folders[i]))
            n += snprintf(path + n, sizeof(path) - (size_t)n, ":%s", folders[i]);
    if (n > 0 && (size_t)n < sizeof(path)) /* such a long one stays as it is */
        (void)setenv("PATH", path, 1);
}
