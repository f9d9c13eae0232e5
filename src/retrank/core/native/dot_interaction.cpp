// The dot products of all pairs of features of a row, and their gradients, in the first-level cache.
#include <algorithm>
#include <vector>

#include "scores.h"

namespace {
constexpr int SIDE = 4;  // sums are kept in registers in squares of SIDE x SIDE

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Lay out `lanes` rows of all features as (count, dim, LANES), one row of the batch in each lane; rows that are missing stay as they are.
void spread(const float *const *inputs, const int64_t *strides, int64_t first, int64_t lanes, int64_t count, int64_t dim,
            float *features) {
    for (int64_t f = 0; f < count; f++)
        for (int64_t lane = 0; lane < lanes; lane++) {
            const float *from = inputs[f] + (first + lane) * strides[f];
            float *to = features + f * dim * LANES + lane;
            for (int64_t k = 0; k < dim; k++) to[k * LANES] = from[k];
        }
}

// sums[i][j] = the sum over `length` steps of left[i] * right[j], each of which moves on by its step.
inline __attribute__((always_inline)) void square(const float *left, int64_t left_apart, int64_t left_step,
                                                  const float *right, int64_t right_apart, int64_t right_step,
                                                  int64_t length, Vec sums[SIDE][SIDE]) {
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) sums[i][j] = Vec{};
    for (int64_t step = 0; step < length; step++, left += left_step, right += right_step) {
        Vec column[SIDE];
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++) column[j] = load(right + j * right_apart);
#pragma GCC unroll 4
        for (int i = 0; i < SIDE; i++) {
            const Vec line = load(left + i * left_apart);
#pragma GCC unroll 4
            for (int j = 0; j < SIDE; j++) sums[i][j] += line * column[j];
        }
    }
}

// sums (ROWS, WIDTH) of weights (ROWS, count) times features (count, WIDTH), all with their own steps from row to row.
inline __attribute__((always_inline)) void weighted_sums(const float *__restrict weights, int64_t weights_step,
                                                         const float *__restrict features, int64_t features_step,
                                                         int64_t count, Vec sums[ROWS][2]) {
    for (int row = 0; row < ROWS; row++) sums[row][0] = sums[row][1] = Vec{};
    for (int64_t other = 0; other < count; other++) {
        const Vec left = load(features + other * features_step), right = load(features + other * features_step + LANES);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++) {
            sums[row][0] += weights[row * weights_step + other] * left;
            sums[row][1] += weights[row * weights_step + other] * right;
        }
    }
}
}  // namespace

extern "C" {

// The pairs of `count` features, the lower triangle row by row. `diagonal` is 1 if the pair of a feature with itself
// counts, else 0.
void dot_interaction(int64_t threads, int64_t batch, int64_t count, int64_t dim, int64_t diagonal, int64_t pairs,
                     const int64_t *strides /* (count) */,
                     const float *const *inputs /* count x (batch: strides, dim) */,
                     float *products /* (batch, pairs) */) {
    const int64_t padded = round_up(count, SIDE);
    const int64_t apart = dim * LANES;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> features(padded * apart), results(pairs * LANES);
#pragma omp for
        for (int64_t first = 0; first < batch; first += LANES) {
            const int64_t lanes = std::min<int64_t>(LANES, batch - first);
            spread(inputs, strides, first, lanes, count, dim, features.data());
            for (int64_t i = 0; i < count; i += SIDE)
                for (int64_t j = 0; j <= i; j += SIDE) {
                    Vec sums[SIDE][SIDE];
                    square(&features[i * apart], apart, LANES, &features[j * apart], apart, LANES, dim, sums);
                    for (int64_t row = i; row < std::min(i + SIDE, count); row++)
                        for (int64_t column = j; column < std::min(j + SIDE, row + diagonal); column++)
                            store(&results[(row * (row - 1) / 2 + diagonal * row + column) * LANES],
                                  sums[row - i][column - j]);
                }
            for (int64_t lane = 0; lane < lanes; lane++)
                for (int64_t pair = 0; pair < pairs; pair++)
                    products[(first + lane) * pairs + pair] = results[pair * LANES + lane];
        }
    }
}

// The gradients of the features from those of the products.
void dot_interaction_backward(int64_t threads, int64_t batch, int64_t count, int64_t dim, int64_t diagonal, int64_t pairs,
                              const int64_t *strides /* (count) */,
                              const float *const *inputs /* count x (batch: strides, dim) */, int64_t stride,
                              const float *products /* (batch: stride, pairs) */,
                              float *gradients /* (count, batch, dim) */) {
    constexpr int64_t BLOCK = 16;  // rows that are read and written together, feature by feature
    const int64_t padded = round_up(count, ROWS), width = round_up(dim, WIDTH), apart = count * width;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> features(BLOCK * apart), weights(padded * padded), results(BLOCK * padded * width);
#pragma omp for
        for (int64_t start = 0; start < batch; start += BLOCK) {
            const int64_t rows = std::min(BLOCK, batch - start);
            for (int64_t f = 0; f < count; f++)
                for (int64_t row = 0; row < rows; row++)
                    memcpy(&features[row * apart + f * width],
                           inputs[f] + (start + row) * strides[f], dim * sizeof(float));
            for (int64_t row = 0; row < rows; row++) {
                const float *from = products + (start + row) * stride;
                for (int64_t f = 0; f < count; f++) {
                    for (int64_t other = 0; other < f; other++)
                        weights[f * padded + other] = weights[other * padded + f] = *from++;
                    if (diagonal) weights[f * padded + f] = 2 * *from++;
                }
                for (int64_t first = 0; first < count; first += ROWS)
                    for (int64_t column = 0; column < dim; column += WIDTH) {
                        Vec sums[ROWS][2];
                        weighted_sums(&weights[first * padded], padded, &features[row * apart + column], width, count, sums);
                        for (int i = 0; i < ROWS; i++) {
                            float *to = &results[(row * padded + first + i) * width + column];
                            store(to, sums[i][0]);
                            store(to + LANES, sums[i][1]);
                        }
                    }
            }
            for (int64_t f = 0; f < count; f++)
                for (int64_t row = 0; row < rows; row++)
                    memcpy(gradients + (f * batch + start + row) * dim, &results[(row * padded + f) * width],
                           dim * sizeof(float));
        }
    }
}
}
