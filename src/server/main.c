/* mizzen-proxy; called mizzen-agent it is the agent: one program less to build, to ship and to keep in memory. */
#include <stdio.h>

#include "agent/agent.h"
#include "base/log.h"
#include "base/program.h"
#include "net/addr.h"
#include "server/server.h"

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

int main(int argc, char **argv)
{
    static struct mz_server server;
    struct mz_options o;
    struct mz_err err;
    if (mz_program_called(argv[0], "mizzen-agent"))
        return mz_agent_main(argc, argv);
    int rc = mz_options_parse(argc, argv, &o);
    if (rc >= 0)
        return rc;
    const struct mz_log_options log = { o.log_level, o.component_log_level, o.log_format,
                                        o.log_path };
    if (!mz_log_start(&log, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    mz_signals_block();
    rc = serve(&server, &o);
    mz_server_destroy(&server);
    mz_addr_paths_free();
    int lost = mz_mem_forgotten();
    return rc ? rc : lost;
}
