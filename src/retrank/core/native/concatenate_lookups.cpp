// Rows of several parts side by side: rows of tables by id, lists of them pooled, and rows that are there already. A row
// of the result is written once, and a row of its gradient read once, for all parts.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {
constexpr int64_t AHEAD = 8;  // rows between asking memory for a vector and needing it
constexpr int64_t OUT_OF_RANGE = 1, HAS_PADDING = 2;
enum Combiner : int64_t { SUM, MEAN, SQRTN };

struct Part {  // as it comes, a row of int64
    const float *values;
    int64_t stride, height, width;
    const int64_t *ids, *offsets;  // null: row r of the values is row r of the result; null: one id a row
    int64_t num_ids;
    const float *weights;  // of the ids of lists, or null
    int64_t combiner;
    float *factors;   // (num_ids), of each id in the sum of its list: written forward, read backward
    float *gradient;  // backward: (batch or num_ids, width), or null
    int64_t found;    // OUT_OF_RANGE, HAS_PADDING
};
static_assert(sizeof(Part) == 12 * 8);

inline void fetch(const Part &part, int64_t row) {
    if (!part.ids || part.offsets || row >= part.num_ids) return;
    const int64_t id = part.ids[row];
    if (id >= 0 && id < part.height)
        for (int64_t k = 0; k < part.width; k += 16) __builtin_prefetch(part.values + id * part.stride + k);
}

// Returns what was found.
int64_t pool(const Part &part, int64_t row, float *__restrict to) {
    const int64_t start = part.offsets[row], end = part.offsets[row + 1];
    std::fill(to, to + part.width, 0.f);
    if (start < 0 || end < start || end > part.num_ids) return OUT_OF_RANGE;
    double norm = 0;
    for (int64_t i = start; i < end; i++) {
        const float factor = part.ids[i] == 0 ? 0 : part.weights ? part.weights[i] : 1;
        part.factors[i] = factor;
        norm += part.combiner == SQRTN ? double(factor) * factor : double(factor);
    }
    const float scale = part.combiner == SQRTN ? std::sqrt(float(norm)) : float(norm);
    for (int64_t i = start; i < end; i++) {
        const int64_t id = part.ids[i];
        if (id < 0 || id >= part.height) return OUT_OF_RANGE;
        if (part.combiner != SUM) part.factors[i] = scale == 0 ? 0 : part.factors[i] / scale;
        if (id == 0) continue;
        const float factor = part.factors[i], *__restrict from = part.values + id * part.stride;
        for (int64_t k = 0; k < part.width; k++) to[k] += factor * from[k];
    }
    return 0;
}
}  // namespace

extern "C" {

void concatenate_lookups(int64_t threads, int64_t *table, int64_t num_parts, int64_t batch, int64_t width, float *rows) {
    Part *parts = (Part *)table;
    for (Part *part = parts; part < parts + num_parts; part++)
        if (part->offsets && (part->offsets[0] != 0 || part->offsets[batch] != part->num_ids)) part->found = OUT_OF_RANGE;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < batch; row++) {
        float *to = rows + row * width;
        for (Part *part = parts; part < parts + num_parts; to += part++->width) {
            int64_t found = 0;
            if (part->offsets)
                found = pool(*part, row, to);
            else {
                const int64_t at = part->ids ? part->ids[row] : row;
                fetch(*part, row + AHEAD);
                if (part->ids) found = at < 0 || at >= part->height ? OUT_OF_RANGE : at == 0 ? HAS_PADDING : 0;
                if (found != OUT_OF_RANGE) memcpy(to, part->values + at * part->stride, part->width * 4);
            }
            if (found) {
#pragma omp atomic
                part->found |= found;
            }
        }
    }
}

// The gradient of each part in memory of its own: of a table, a row for each id, zeros for padding.
void concatenate_lookups_backward(int64_t threads, const int64_t *table, int64_t num_parts, int64_t batch, const float *rows,
                           int64_t stride) {
    const Part *parts = (const Part *)table;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < batch; row++) {
        const float *from = rows + row * stride;
        for (const Part *part = parts; part < parts + num_parts; from += part++->width) {
            const int64_t width = part->width;
            if (!part->gradient) continue;
            if (part->offsets)
                for (int64_t i = part->offsets[row]; i < part->offsets[row + 1]; i++) {
                    float *__restrict to = part->gradient + i * width;
                    for (int64_t k = 0; k < width; k++) to[k] = part->factors[i] * from[k];
                }
            else if (part->ids && part->ids[row] == 0)
                std::fill(part->gradient + row * width, part->gradient + (row + 1) * width, 0.f);
            else
                memcpy(part->gradient + row * width, from, width * 4);
        }
    }
}
}
