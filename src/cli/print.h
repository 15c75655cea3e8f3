#ifndef MZ_CLI_PRINT_H
#define MZ_CLI_PRINT_H
/* Documents to standard output. */
#include <stdio.h>

#include "proto/show.h"

enum show_form { SHOW_TABLE, SHOW_JSON, SHOW_YAML };
/* JSON or YAML, and a line's end. */
void show_print(const struct mz_node *n, enum show_form form, bool camel, FILE *to);
/* What proxies and documents name may hold anything: control bytes become \xNN, nothing moves the cursor. */
void show_text(struct mz_str s, FILE *to);
void show_write(const struct mz_buf *b, FILE *to);
#endif
