/* mizzen-agent: what stands beside each proxy. It is the proxy's program under another name (server/main.c). */
#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/capture/capture.h"
#include "agent/run/ask.h"
#include "agent/run/proxy.h"
#include "agent/settings.h"

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "wait", "waits until the proxy is ready", mz_agent_wait_main },
    { "request", "asks the proxy's admin pages", mz_agent_request_main },
    { "bootstrap", "prints what a proxy would be started with", mz_agent_bootstrap_main },
    { "proxy", "runs a proxy and what it needs", mz_agent_proxy_main },
    { "iptables", "leads this pod's connections to its proxy", mz_capture_main },
};

int mz_agent_main(int argc, char **argv)
{
    const size_t n = sizeof(commands) / sizeof(commands[0]);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        printf("Stands beside a proxy of a Mizzen service mesh.\n\nUsage:\n  mizzen-agent COMMAND "
               "[flags]\n\nCommands:\n");
        for (size_t i = 0; i < n; i++)
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
        printf("\nUse \"mizzen-agent COMMAND --help\" for more information about a command.\n");
        return argc < 2;
    }
    for (size_t i = 0; i < n; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    fprintf(stderr,
            "Error: unknown command \"%s\" for \"mizzen-agent\"\nRun 'mizzen-agent --help' for "
            "usage.\n",
            argv[1]);
    return 1;
}
