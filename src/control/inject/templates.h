#ifndef MZ_CONTROL_INJECT_TEMPLATES_H
#define MZ_CONTROL_INJECT_TEMPLATES_H
/*
 * Templates of one's own, as Istio's installation has them in its ConfigMap `istio-sidecar-injector`: `config` (templates by name,
 * defaultTemplates, aliases, injectedAnnotations, policy) and `values`. Pods choose by the annotation inject.istio.io/templates. Names
 * that are not in it mean what is built in: `sidecar`, `gateway`. Immutable; main thread.
 */
#include <jansson.h>

#include "base/err.h"
#include "base/str.h"

struct mz_inject_templates;
/* @config YAML, @values JSON or YAML; "" is nothing. NULL: @err says what is wrong, with the template's name and line. */
struct mz_inject_templates *mz_inject_templates_read(struct mz_str config, struct mz_str values, struct mz_err *err);
void mz_inject_templates_destroy(struct mz_inject_templates *t); /* NULL is fine */
#endif
