#include "ref/tensor_list.h"
#include "ref/oneline.h"

void tensor_line(const Console *c, TensorSum *sum, const char *name, Dtype type, int rank, const uint64_t *size)
{
    uint64_t count = 1;
    for (int i = 0; i < rank; i++) count *= size[i];
    sum->tensors++;
    sum->numbers += count;
    sum->bytes += count * dtype_size(type);
    if (c->json) {
        JsonOut o = {0};
        console_event(&o, "tensor");
        json_text(&o, "name", name);
        json_text(&o, "dtype", dtype_name(type));
        json_open(&o, "shape", '[');
        for (int i = 0; i < rank; i++) json_integer(&o, NULL, (int64_t)size[i]);
        json_close(&o, ']');
        console_send(c, &o);
        return;
    }
    char shown[ONELINE], shape[200] = "";
    size_t n = 0;
    for (int i = 0; i < rank; i++) n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%llu", i ? "," : "", (unsigned long long)size[i]);
    printf("%-4s  [%s]%*s  %s\n", dtype_name(type), shape, n < 18 ? 18 - (int)n : 0, "", oneline(shown, sizeof shown, name));
}

void tensor_sum(const Console *c, const TensorSum *sum, const char *file)
{
    if (c->json) {
        JsonOut o = {0};
        console_event(&o, "sum");
        json_text(&o, "file", file);
        json_integer(&o, "tensors", sum->tensors);
        json_integer(&o, "numbers", (int64_t)sum->numbers);
        json_integer(&o, "bytes", (int64_t)sum->bytes);
        console_send(c, &o);
    } else printf("%d tensor%s, %llu numbers, %.1f MB\n", sum->tensors, sum->tensors == 1 ? "" : "s", (unsigned long long)sum->numbers, (double)sum->bytes / 1e6);
}

bool tensor_list(const Console *c, const char *path, Status *s)
{
    Arena a = {0};
    TensorSum sum = {0};
    bool ok;
    if (weights_is_torch(path)) {
        Torchfile f;
        ok = torchfile_open(&f, &a, path, s);
        for (int i = 0; ok && i < f.tensors; i++) tensor_line(c, &sum, f.tensor[i].name, f.tensor[i].type, f.tensor[i].rank, f.tensor[i].size);
        if (ok) torchfile_close(&f);
    } else {
        Safetensors f;
        ok = safetensors_open(&f, &a, path, s);
        for (int i = 0; ok && i < f.entries; i++) tensor_line(c, &sum, f.entry[i].name, f.entry[i].type, f.entry[i].rank, f.entry[i].size);
        if (ok) safetensors_close(&f);
    }
    if (ok) tensor_sum(c, &sum, path);
    arena_free(&a);
    return ok;
}
