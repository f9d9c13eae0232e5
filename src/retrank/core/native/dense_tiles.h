// Products of a few rows and columns, summed in registers: what dense layers are made of, forward and backward.
#pragma once
#include <algorithm>

#include "scores.h"

static inline int64_t padded(int64_t width) { return (width + LANES - 1) / LANES * LANES; }

// Rows of an odd number of cache lines: those that begin in the same few sets of a cache would evict one another.
static inline int64_t spread(int64_t width) { return 16 * ((width + 15) / 16 | 1); }

// (ROWS, depth) x (depth, HALVES * LANES): the rows lie `stride` apart, the panel is packed.
template <int HALVES>
static inline __attribute__((always_inline)) void product_tile(const float *__restrict rows, int64_t stride,
                                                               const float *__restrict panel, int64_t depth,
                                                               Vec sums[ROWS][HALVES]) {
    for (int row = 0; row < ROWS; row++)
        for (int half = 0; half < HALVES; half++) sums[row][half] = Vec{};
    const float *thirds[(ROWS + 2) / 3];  // every third row: the others are one stride and two behind, within an address
    for (int third = 0; third < (ROWS + 2) / 3; third++) thirds[third] = rows + 3 * third * stride;
    for (int64_t k = 0; k < depth; k++, panel += HALVES * LANES) {
        Vec column[HALVES];
        for (int half = 0; half < HALVES; half++) column[half] = load(panel + half * LANES);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++)
            for (int half = 0; half < HALVES; half++) sums[row][half] += thirds[row / 3][row % 3 * stride] * column[half];
#pragma GCC unroll 8
        for (int third = 0; third < (ROWS + 2) / 3; third++) thirds[third]++;
    }
}

// Write a tile, what lies within (count, columns) of it.
template <int HALVES>
static inline void write_tile(const Vec tile[ROWS][HALVES], float *to, int64_t stride, int64_t count, int64_t columns) {
    for (int64_t row = 0; row < std::min<int64_t>(count, ROWS); row++)
        if (columns >= HALVES * LANES)
            for (int half = 0; half < HALVES; half++) store(to + row * stride + half * LANES, tile[row][half]);
        else
            memcpy(to + row * stride, tile[row], columns * 4);
}

// sums (COUNT, columns) += gradient (rows, COUNT)' x input (rows, columns)
template <int COUNT, int HALVES>
static inline __attribute__((always_inline)) void outer_tile(const float *__restrict gradient, int64_t stride,
                                                             const float *__restrict input, int64_t input_stride, int64_t rows,
                                                             float *to, int64_t to_stride, int64_t columns) {
    Vec sums[COUNT][HALVES] = {};
    for (int i = 0; i < COUNT; i++)
        for (int half = 0; half < HALVES; half++) __builtin_prefetch(to + i * to_stride + half * LANES, 1);
    for (int64_t row = 0; row < rows; row++, gradient += stride, input += input_stride) {
        Vec column[HALVES];
        for (int half = 0; half < HALVES; half++) column[half] = load(input + half * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < COUNT; i++)
            for (int half = 0; half < HALVES; half++) sums[i][half] += gradient[i] * column[half];
    }
    for (int i = 0; i < COUNT; i++, to += to_stride)
        if (columns >= HALVES * LANES)
            for (int half = 0; half < HALVES; half++) store(to + half * LANES, load(to + half * LANES) + sums[i][half]);
        else
            for (int64_t k = 0; k < columns; k++) to[k] += ((const float *)sums[i])[k];
}
