#ifndef MZ_AGENT_PROXY_H
#define MZ_AGENT_PROXY_H
int mz_agent_proxy_main(int argc, char **argv); /* `proxy`: runs a proxy and what it needs; the exit code */
#endif
