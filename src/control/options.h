#ifndef MZ_CONTROL_OPTIONS_H
#define MZ_CONTROL_OPTIONS_H
/* The command line of mizzend (options.c, one table). */
#include <stdbool.h>
#include <stdint.h>

struct mz_control_options {
    const char *config_dir, *mesh_config, *domain;
    const char *mode; /* "serve", "validate", "dump" */
    const char *node, *output; /* of dump */
    const char *grpc_addr, *monitoring_addr; /* of serve */
    bool log_as_json;
    const char *log_level, *component_log_level, *log_format, *log_path;
};
/* -1: go on; otherwise the process shall end with this exit code (what there was to say is printed). Borrows argv. */
int mz_control_options_parse(int argc, char **argv, struct mz_control_options *out_options);
#endif
