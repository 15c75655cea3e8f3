#ifndef MZ_BASE_ERR_H
#define MZ_BASE_ERR_H
#include <stdbool.h>
/*
 * An error of configuration or control plane: where and what. The leaf sets the message, each caller on the way out
 * prefixes its step of the path, so that the user reads `static_resources.clusters[2].connect_timeout: must be ...`.
 */
struct mz_err {
    char path[512]; /* dotted, may be empty */
    char msg[1024];
};
__attribute__((format(printf, 2, 3))) bool mz_err_set(struct mz_err *e, const char *fmt, ...); /* clears the path; false */
__attribute__((format(printf, 2, 3))) bool mz_err_at(struct mz_err *e, const char *fmt, ...);  /* prefixes; false */
const char *mz_err_text(const struct mz_err *e, char *out, unsigned long n); /* "path: msg" */
#endif
