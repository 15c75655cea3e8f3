#ifndef MZ_CLI_FETCH_H
#define MZ_CLI_FETCH_H
/* One HTTP request to an admin or debug address, and waiting for the answer. */
#include "base/buf.h"
#include "base/err.h"

/**
 * @where  "127.0.0.1:15000", "host", "[::1]:15000", "http://host:port", or the path of a UNIX socket ("/run/x", "@x"). A port
 *         that is not given is @port.
 * @path   with its query. The body of a 200 goes to @out; any other answer is an error that holds its first line.
 * 30 s without a byte is an error. Blocks.
 */
bool fetch(const char *where, uint16_t port, const char *method, const char *path, struct mz_buf *out,
           struct mz_err *err);
/* The same over a connection that stands: @fd is closed. @who: for errors. @limit_s: of a silence. */
bool fetch_on(int take_fd, const char *who, unsigned limit_s, const char *method, const char *path, struct mz_buf *out,
              struct mz_err *err);
#endif
