#ifndef MZ_CONTROL_INJECT_GOTPL_H
#define MZ_CONTROL_INJECT_GOTPL_H
/*
 * Text templates as Istio's injector takes them: Go's text/template with the functions that Istio and (of sprig) its users write. A
 * template that asks for anything else does not parse, or fails by name: nothing is guessed. Values are JSON.
 *
 * Bounded whatever is written: a text of 1 MiB, a nesting of 64 (of actions, and of lists and maps that are made), a million steps, 4 MiB of
 * output and of any text, 64 MiB of all that is made and looked through on the way. Who goes beyond fails, and is told which it was.
 * Pure functions; any thread.
 */
#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"

struct mz_gotpl; /* immutable */
/* @text is copied. NULL: @err says what is wrong, with its line. */
struct mz_gotpl *mz_gotpl_parse(struct mz_str text, struct mz_err *err);
void mz_gotpl_destroy(struct mz_gotpl *t); /* NULL is fine */
/*
 * The text that it makes of @data (an object; its members are `.Name`), into @a. Members are found by their name, else by what
 * Kubernetes and protobuf call a field of that name in JSON ("HostIP": "hostIP"). "": false, @err says why, with the line.
 */
bool mz_gotpl_run(const struct mz_gotpl *t, json_t *data, struct mz_arena *a, struct mz_str *out, struct mz_err *err);
#endif
