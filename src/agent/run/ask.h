#ifndef MZ_AGENT_ASK_H
#define MZ_AGENT_ASK_H
int mz_agent_wait_main(int argc, char **argv);    /* `wait`: until the proxy is ready; what an application's start waits for */
int mz_agent_request_main(int argc, char **argv); /* `request METHOD PATH`: of the proxy's admin pages */
#endif
