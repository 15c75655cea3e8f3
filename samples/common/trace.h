/* What a service passes on with the requests that it makes for a request. */
#pragma once
#include "server.h"

struct text;

/**
 * Appends the header lines of @r that tell a trace (x-request-id, B3, W3C, and those of the tracers that Istio's samples know),
 * and `end-user`, `user-agent`, `authorization`, `cookie`: by these routes can tell requests apart behind the first service, too.
 */
void trace_pass(const struct request *r, struct text *out);
