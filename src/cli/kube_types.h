#ifndef MZ_CLI_KUBE_TYPES_H
#define MZ_CLI_KUBE_TYPES_H
/* Objects of Kubernetes as its own types would write them again: the field's tool reads and writes documents by them. */
#include <jansson.h>

#include "base/str.h"

void kube_complete(json_t *object); /* members that are always there, zeros that are not, quantities in one spelling */
/* "2000m" to "2", "1024Mi" to "1Gi". False: no quantity, or one with more digits than fit: it stays as it is. */
bool kube_quantity(struct mz_str text, char out[40]);
#endif
