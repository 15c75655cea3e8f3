#ifndef MZ_CLI_INPUTS_H
#define MZ_CLI_INPUTS_H
/* Files of documents as command lines name them: a file, '-', or a directory with all *.yaml, *.yml and *.json below it. */
#include "base/args.h"
#include "control/analyze/documents.h"

struct inputs {
    struct mz_arena *arena;
    MZ_VEC(struct mz_str) files; /* in the order of the command line; those of a directory by name */
    MZ_VEC(const char *) meshes; /* which of them are the MeshConfig: `mesh.yaml` of a directory, as `up` and mizzend take it */
    bool folder; /* a directory is among what was named */
};
void inputs_init(struct inputs *in);
void inputs_fini(struct inputs *in);
void inputs_add_mesh(struct inputs *in, const char *path); /* a MeshConfig of another name */
bool inputs_add(struct inputs *in, const char *path, struct mz_err *err);
bool inputs_read(const struct inputs *in, struct mz_documents *d, struct mz_str ns, struct mz_err *err);
enum mz_text_form input_form(struct mz_str file);
#endif
