#ifndef MZ_CONTROL_OPTIONS_H
#define MZ_CONTROL_OPTIONS_H
/* The command line of mizzend (options.c, one table). */
#include <stdbool.h>
#include <stdint.h>

#include "base/flags.h"

struct mz_control_options {
    struct mz_flag_texts config_dirs; /* at least one, but for token */
    const char *mesh_config, *domain;
    const char *service_cidr; /* "": services without an address get none */
    const char *mode; /* "serve", "validate", "dump", "status", "token" */
    const char *status_dir; /* of serve and status; NULL: no status is written */
    const char *node, *output; /* of dump */
    const char *grpc_addr, *monitoring_addr, *secure_grpc_addr, *webhook_addr; /* of serve */
    const char *inject_image;
    const char *ca_dir, *token_issuer, *token_jwks;
    uint32_t workload_ttl_s, max_workload_ttl_s, root_ttl_s, refresh_ms; /* of the authority; 0: its defaults */
    const char *keys_dir; /* where keys of JWT rules that were fetched are kept; NULL: nowhere */
    const char *account; /* of token: "demo/web" */
    uint32_t token_ttl_s;
    bool log_as_json;
    const char *log_level, *component_log_level, *log_format, *log_path;
};
/* -1: go on; otherwise the process shall end with this exit code (what there was to say is printed). Borrows argv. */
int mz_control_options_parse(int argc, char **argv, struct mz_control_options *out_options);
#endif
