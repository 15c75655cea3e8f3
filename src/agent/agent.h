#ifndef MZ_AGENT_H
#define MZ_AGENT_H
/* What the commands of mizzen-agent share. */
#include <stdbool.h>
#include <stdint.h>

#include "base/args.h"
#include "base/err.h"

int mz_agent_main(int argc, char **argv); /* the exit code */
bool mz_agent_bool(const char *text, bool *out_value);           /* 1, t, true, 0, f, false, whatever the case */
bool mz_agent_duration(const char *text, uint64_t *out_ms);      /* "5s", "1m30s", "250ms"; not negative */
bool mz_agent_enter_namespace(const char *path, struct mz_err *err); /* the network namespace of this thread */
uint64_t mz_agent_anonymous_bytes(void); /* of this process, now; 0: the kernel does not tell */
void mz_agent_flags_help(const struct arg_flag *flags, size_t n); /* a line a flag */
#endif
