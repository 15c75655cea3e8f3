#include "cli/table.h"

void table_init(struct table *t, unsigned padding)
{
    *t = (struct table){ .arena = mz_arena_create(MZ_MEM_MISC), .padding = padding };
}

void table_fini(struct table *t)
{
    mz_vec_free(&t->cells, MZ_MEM_MISC);
    mz_vec_free(&t->rows, MZ_MEM_MISC);
    mz_arena_destroy(t->arena);
}

static void put(struct table *t, struct mz_str s)
{
    if (t->columns == TABLE_MAX_COLUMNS)
        return;
    *mz_vec_push(&t->cells, MZ_MEM_MISC) = s;
    t->columns++;
}

void table_cell(struct table *t, struct mz_str s)
{
    put(t, mz_arena_dup(t->arena, s));
}

void table_cellf(struct table *t, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* longer ones are numbers' neighbours: cut */
    va_end(ap);
    put(t, mz_arena_dup(t->arena, mz_str_c(text)));
}

void table_end_row(struct table *t)
{
    *mz_vec_push(&t->rows, MZ_MEM_MISC) = t->columns;
    t->columns = 0;
}

void table_head(struct table *t, const char *names)
{
    struct mz_str rest = mz_str_c(names);
    for (struct mz_str name; mz_str_split(&rest, '|', &name);)
        put(t, name);
    table_end_row(t);
}

/* Characters, not bytes. */
static size_t width(struct mz_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

void table_print(const struct table *t, FILE *to)
{
    size_t widths[TABLE_MAX_COLUMNS] = { 0 };
    const struct mz_str *cell = t->cells.v;
    for (const unsigned *row = t->rows.v, *end = row + t->rows.n; row != end; row++)
        for (unsigned i = 0; i < *row; i++, cell++)
            if (i + 1 < *row && width(*cell) > widths[i])
                widths[i] = width(*cell);
    cell = t->cells.v;
    for (const unsigned *row = t->rows.v, *end = row + t->rows.n; row != end; row++) {
        for (unsigned i = 0; i < *row; i++, cell++) {
            fprintf(to, MZ_STR_FMT, MZ_STR_ARG(*cell));
            if (i + 1 < *row)
                fprintf(to, "%*s", (int)(widths[i] + t->padding - width(*cell)), "");
        }
        fputc('\n', to);
    }
}
