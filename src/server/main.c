/* mizzen-proxy. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/buf.h"
#include "base/log.h"
#include "net/addr.h"
#include "server/server.h"

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

static bool logging_start(const struct mz_options *o, struct mz_err *err)
{
    enum mz_log_level level;
    if (mz_log_level_parse(mz_str_c(o->log_level), &level))
        mz_log_set_all(level);
    if (o->log_format && !mz_log_set_format(o->log_format, err))
        return false;
    if (o->component_log_level && !component_levels(mz_str_c(o->component_log_level), err))
        return false;
    return !o->log_path || mz_log_open(o->log_path, err);
}

static void block_signals(void)
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

static int serve(struct mz_server *s, const struct mz_options *o)
{
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    const char *file = o->config_path ? o->config_path : "";
    MZ_LOG(INFO, main, "initializing epoch 0 (base id=%u, hot restart version=disabled)",
           o->base_id);
    if (!mz_server_build(s, o, &err)) {
        mz_err_text(&err, text, sizeof(text));
        MZ_LOG(CRITICAL, main, "error initializing configuration '%s': %s", file, text);
        return 1;
    }
    if (!o->validate)
        return mz_server_run(s);
    printf("configuration '%s' OK\n", file);
    return 0;
}

/*
 * Everything is destroyed: what is still counted was forgotten. Builds with assertions say so and fail; a release need not
 * look, its memory goes with the process.
 */
static int forgotten(void)
{
#ifdef NDEBUG
    return 0;
#else
    struct mz_mem_count left[MZ_MEM__COUNT];
    int rc = 0;
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    mz_addr_paths_free();
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

int main(int argc, char **argv)
{
    static struct mz_server server;
    struct mz_options o;
    struct mz_err err;
    int rc = mz_options_parse(argc, argv, &o);
    if (rc >= 0)
        return rc;
    if (!logging_start(&o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    block_signals();
    rc = serve(&server, &o);
    mz_server_destroy(&server);
    int lost = forgotten();
    return rc ? rc : lost;
}
