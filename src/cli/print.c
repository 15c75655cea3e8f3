#include "cli/print.h"

void show_write(const struct mz_buf *b, FILE *to)
{
    for (uint32_t i = 0; i < b->n; i++)
        (void)fwrite(mz_buf_frag(b, i)->p, 1, mz_buf_frag(b, i)->n, to); /* a closed pipe ends us */
}

void show_print(const struct mz_node *n, enum show_form form, bool camel, FILE *to)
{
    struct mz_buf b;
    mz_buf_init(&b);
    if (form == SHOW_YAML)
        mz_show_yaml(&b, n, camel);
    else
        mz_show_json(&b, n, camel);
    if (form != SHOW_YAML)
        mz_buf_append(&b, "\n", 1);
    show_write(&b, to);
    mz_buf_fini(&b);
}

void show_text(struct mz_str s, FILE *to)
{
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f)
            fprintf(to, "\\x%02x", c);
        else
            fputc(c, to);
    }
}
