#include "cli/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/dump.h"
#include "proto/node.h"

enum { MAX_DEPTH = 32 };

void inputs_init(struct inputs *in)
{
    *in = (struct inputs){ .arena = mz_arena_create(MZ_MEM_MISC) };
}

void inputs_fini(struct inputs *in)
{
    mz_vec_free(&in->files, MZ_MEM_MISC);
    mz_vec_free(&in->meshes, MZ_MEM_MISC);
    mz_arena_destroy(in->arena);
}

enum mz_text_form input_form(struct mz_str file)
{
    return mz_str_ends(file, MZ_STR(".json")) ? MZ_TEXT_JSON : MZ_TEXT_YAML;
}

static bool has_ending(struct mz_str file)
{
    return mz_str_ends(file, MZ_STR(".yaml")) || mz_str_ends(file, MZ_STR(".yml")) ||
           mz_str_ends(file, MZ_STR(".json"));
}

static bool add(struct inputs *in, struct mz_str path, bool named, unsigned depth,
                struct mz_err *err);

static bool add_directory(struct inputs *in, struct mz_str path, unsigned depth, struct mz_err *err)
{
    struct dirent **list = NULL;
    const int n = depth < MAX_DEPTH ? scandir(path.p, &list, NULL, alphasort) : 0;
    bool ok = n >= 0 || mz_err_set(err, "%s: %s", path.p, strerrordesc_np(errno));
    for (int i = 0; i < n; i++) {
        if (ok && list[i]->d_name[0] != '.')
            ok = add(in, mz_arena_printf(in->arena, "%s/%s", path.p, list[i]->d_name), false,
                     depth + 1, err);
        free(list[i]);
    }
    free(list);
    return ok;
}

static bool add(struct inputs *in, struct mz_str path, bool named, unsigned depth,
                struct mz_err *err)
{
    struct stat st;
    if (!mz_str_eq(path, MZ_STR("-"))) {
        if (stat(path.p, &st) != 0)
            return mz_err_set(err, "%s: %s", path.p, strerrordesc_np(errno));
        in->folder |= S_ISDIR(st.st_mode);
        if (S_ISDIR(st.st_mode))
            return add_directory(in, path, depth, err);
        if (!named && !has_ending(path))
            return true;
    }
    if (depth == 1 && mz_str_ends(path, MZ_STR("/mesh.yaml")))
        *mz_vec_push(&in->meshes, MZ_MEM_MISC) = path.p;
    *mz_vec_push(&in->files, MZ_MEM_MISC) = path;
    return true;
}

void inputs_add_mesh(struct inputs *in, const char *path)
{
    const struct mz_str file = mz_arena_dup(in->arena, mz_str_c(path));
    *mz_vec_push(&in->meshes, MZ_MEM_MISC) = file.p;
    *mz_vec_push(&in->files, MZ_MEM_MISC) = file;
}

/* A file that was named by itself is one when it is called so and has no kind. */
static bool is_mesh(const struct inputs *in, struct mz_str file, struct mz_str text)
{
    for (size_t i = 0; i < in->meshes.n; i++)
        if (in->meshes.v[i] == file.p)
            return true;
    if (!mz_str_eq(file, MZ_STR("mesh.yaml")) && !mz_str_ends(file, MZ_STR("/mesh.yaml")))
        return false;
    struct mz_err ignored;
    const struct mz_node *n = mz_tree_read_yaml(in->arena, text, 0, &ignored);
    return n && n->kind == MZ_NODE_MAP && !mz_node_get(n, "kind");
}

bool inputs_add(struct inputs *in, const char *path, struct mz_err *err)
{
    return add(in, mz_arena_dup(in->arena, mz_str_c(path)), true, 0, err);
}

bool inputs_read(const struct inputs *in, struct mz_documents *d, struct mz_str ns,
                 struct mz_err *err)
{
    bool ok = true;
    d->injects = in->folder;
    for (size_t i = 0; ok && i < in->files.n; i++) {
        const struct mz_str file = in->files.v[i];
        struct mz_buf b;
        mz_buf_init(&b);
        ok = read_file(file.p, &b, err);
        const struct mz_str text = ok ? mz_buf_linearize(&b, mz_buf_len(&b)) : (struct mz_str){ 0 };
        if (ok && is_mesh(in, file, text))
            mz_documents_add_mesh(d, file, text);
        else if (ok)
            mz_documents_add(d, file, text, input_form(file), ns);
        mz_buf_fini(&b);
    }
    return ok;
}
