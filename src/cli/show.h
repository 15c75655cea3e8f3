#ifndef MZ_CLI_SHOW_H
#define MZ_CLI_SHOW_H
/* Documents as text: JSON with four blanks a level, YAML with sorted keys. */
#include <stdio.h>

#include "base/buf.h"
#include "proto/tree.h"

enum show_form { SHOW_TABLE, SHOW_JSON, SHOW_YAML };
/* @camel: names of fields in lowerCamel, as the field's tools print messages; keys of maps and of free-form structs stay. */
void show_json(struct mz_buf *out, const struct mz_node *n, bool camel);
void show_yaml(struct mz_buf *out, const struct mz_node *n, bool camel);
/* Either of them, and a line's end. */
void show_print(const struct mz_node *n, enum show_form form, bool camel, FILE *to);
void show_write(const struct mz_buf *b, FILE *to);
#endif
