#ifndef MZ_CONTROL_MODEL_PEER_AUTH_H
#define MZ_CONTROL_MODEL_PEER_AUTH_H
/* PeerAuthentication (C10): which ports take mutual TLS, plain connections, or both. */
#include "control/model/model.h"

enum mz_mtls { MZ_MTLS_DISABLE, MZ_MTLS_PERMISSIVE, MZ_MTLS_STRICT };
/* Of a workload's port (its own number; 0: one that no document names). Mesh, then namespace, then workload, then port: the most
 * specific document that says anything; of two of a kind the oldest. Nothing said: permissive. */
enum mz_mtls mz_model_mtls(const struct mz_model *m, struct mz_str ns, struct mz_labels labels, uint16_t port);
/* The same, and the key of the document that decided; "" none does. */
enum mz_mtls mz_model_mtls_by(const struct mz_model *m, struct mz_str ns, struct mz_labels labels, uint16_t port,
                              struct mz_str *out_key);
/* Ports that the workload's own document names, in its order; @i from 0. 0: no more. */
uint16_t mz_model_mtls_port(const struct mz_model *m, struct mz_str ns, struct mz_labels labels, size_t i);
/* What clients assume of a whole namespace: documents with a selector do not count. */
enum mz_mtls mz_model_mtls_of_namespace(const struct mz_model *m, struct mz_str ns);
#endif
