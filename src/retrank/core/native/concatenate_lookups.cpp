// Rows of several parts side by side: rows of tables by id, lists of them pooled, and rows that are there already. A row
// of the result is written once, and a row of its gradient read once, for all parts.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {
constexpr int64_t AHEAD = 8;  // rows between asking memory for a vector and needing it
constexpr int64_t OUT_OF_RANGE = 1;
enum Combiner : int64_t { SUM, MEAN, SQRTN };

struct Part {
    int64_t height, width, stride;
    const float *values;          // (height, width), rows `stride` apart; not read backward
    const int64_t *ids;           // (num_ids), or null: row r of the values is row r of the result
    const int64_t *offsets;       // where the list of each row begins in the ids, or null: one id per row
    int64_t num_ids, combiner;
    const float *weights;         // of the ids of lists, or null
    float *factors;               // (num_ids), of each id in the sum of its list: written forward, read backward
    float *gradient;              // backward: (batch or num_ids, width), or null
};

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

// Ids and offsets are not trusted: `found` says of each part whether one is out of range, and if so, the rows are
// not to be used. No memory outside of what is declared is touched.
void concatenate_lookups(int64_t threads, int64_t num_parts, int64_t batch, int64_t width,
                         const int64_t *heights /* (num_parts) */, const int64_t *widths /* (num_parts) */,
                         const int64_t *strides /* (num_parts) */, const int64_t *num_ids /* (num_parts) */,
                         const int64_t *combiners /* (num_parts) */,
                         const float *const *values /* num_parts x (heights[]: strides, widths[]) */,
                         const int64_t *const *ids /* num_parts x (num_ids[]) or null */,
                         const int64_t *const *offsets /* num_parts x (batch + 1) or null */,
                         const float *const *weights /* num_parts x (num_ids[]) or null */,
                         float *const *factors /* num_parts x (num_ids[]) or null */,
                         int64_t *found /* (num_parts) */, float *rows /* (batch, width) */) {
    std::vector<Part> parts;
    int64_t left = width;
    for (int64_t i = 0; i < num_parts; i++) {
        parts.push_back({heights[i], widths[i], strides[i], values[i], ids[i], offsets[i], num_ids[i], combiners[i],
                         weights[i], factors[i], nullptr});
        const bool has_all = offsets[i] ? offsets[i][0] == 0 && offsets[i][batch] == num_ids[i]
                                        : (ids[i] ? num_ids[i] : heights[i]) == batch;
        if (!has_all) found[i] = OUT_OF_RANGE;
        left -= widths[i];
        if (!has_all || left < 0) return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < batch; row++) {
        float *to = rows + row * width;
        for (int64_t i = 0; i < num_parts; to += parts[i++].width) {
            const Part &part = parts[i];
            int64_t here = 0;
            if (part.offsets)
                here = pool(part, row, to);
            else {
                const int64_t at = part.ids ? part.ids[row] : row;
                fetch(part, row + AHEAD);
                if (at < 0 || at >= part.height)
                    here = OUT_OF_RANGE;
                else if (part.width)
                    memcpy(to, part.values + at * part.stride, part.width * 4);
            }
            if (here) {
#pragma omp atomic
                found[i] |= here;
            }
        }
    }
}

// The gradient of each part in memory of its own: of a table, a row for each id, zeros for padding. Ids and offsets are
// those of the forward pass; what has changed since is caught by autograd, and at worst leaves gradients unwritten.
void concatenate_lookups_backward(int64_t threads, int64_t num_parts, int64_t batch, int64_t width,
                                  const int64_t *widths /* (num_parts) */, const int64_t *num_ids /* (num_parts) */,
                                  const int64_t *num_rows /* (num_parts) */,
                                  const int64_t *const *ids /* num_parts x (num_ids[]) or null */,
                                  const int64_t *const *offsets /* num_parts x (batch + 1) or null */,
                                  const float *const *factors /* num_parts x (num_ids[]) or null */, int64_t stride,
                                  const float *rows /* (batch: stride, width) */,
                                  float *const *gradients /* num_parts x (num_rows[], widths[]) or null */) {
    std::vector<Part> parts;
    for (int64_t i = 0; i < num_parts; i++)
        parts.push_back({0, widths[i], 0, nullptr, ids[i], offsets[i], num_ids[i], SUM, nullptr,
                         const_cast<float *>(factors[i]), gradients[i]});  // which is only read here
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < batch; row++) {
        const float *from = rows + row * stride;
        for (int64_t i = 0; i < num_parts; from += parts[i++].width) {
            const Part &part = parts[i];
            const int64_t width = part.width;
            if (!part.gradient || !width) continue;
            if (part.offsets)
                for (int64_t at = std::max<int64_t>(part.offsets[row], 0);
                     at < std::min(part.offsets[row + 1], part.num_ids); at++) {
                    float *__restrict to = part.gradient + at * width;
                    for (int64_t k = 0; k < width; k++) to[k] = part.factors[at] * from[k];
                }
            else if (part.ids && part.ids[row] == 0)
                std::fill(part.gradient + row * width, part.gradient + (row + 1) * width, 0.f);
            else
                memcpy(part.gradient + row * width, from, width * 4);
        }
    }
}
}
