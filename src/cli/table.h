#ifndef MZ_CLI_TABLE_H
#define MZ_CLI_TABLE_H
/* Rows of cells, printed in columns as wide as their widest cell; the last column is not padded. Owns its texts. */
#include <stdio.h>

#include "base/arena.h"
#include "base/vec.h"

#define TABLE_MAX_COLUMNS 16
struct table {
    struct mz_arena *arena;
    unsigned padding; /* blanks between columns */
    unsigned columns; /* of the row that is being filled */
    MZ_VEC(struct mz_str) cells;
    MZ_VEC(unsigned) rows; /* cells of each */
};
void table_init(struct table *t, unsigned padding);
void table_fini(struct table *t);
void table_head(struct table *t, const char *names); /* separated by '|' */
void table_cell(struct table *t, struct mz_str s);   /* copied */
__attribute__((format(printf, 2, 3))) void table_cellf(struct table *t, const char *fmt, ...);
void table_end_row(struct table *t);
void table_print(const struct table *t, FILE *to);
#endif
