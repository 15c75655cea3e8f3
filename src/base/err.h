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
__attribute__((format(printf, 2, 3))) void mz_err_note(struct mz_err *e, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void mz_err_prefix(struct mz_err *e, const char *fmt, ...);
static inline bool mz_err_false(void)
{
    return false;
}
/* bool mz_err_set(e, format, ...) sets the message and clears the path; bool mz_err_at(e, format, ...) prefixes it. Both
 * are false, and macros so that compilers and checkers see that they are. */
#define mz_err_set(e, ...) (mz_err_note((e), __VA_ARGS__), mz_err_false())
#define mz_err_at(e, ...)  (mz_err_prefix((e), __VA_ARGS__), mz_err_false())
const char *mz_err_text(const struct mz_err *e, char *out, unsigned long n); /* "path: msg" */
#endif
