// Dot products of many queries with many candidates, computed in registers and consumed there.
//
// Every score is summed over the dimensions in order, one fused multiply-add each, whatever else is computed beside it:
// the same pair has the same score, to the bit, in a batch of one or of a thousand, and in `dot`.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 8;
#endif
constexpr int WIDTH = 2 * LANES;  // candidates in a panel: two registers

typedef float Vec __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4), aligned(4)));

static inline Vec load(const float *at) { return *reinterpret_cast<const Vec *>(at); }
static inline void store(float *at, Vec value) { *reinterpret_cast<Vec *>(at) = value; }

static inline bool any(IntVec lanes) {
    uint64_t words[LANES / 2], found = 0;
    memcpy(words, &lanes, sizeof words);
    for (const uint64_t word : words) found |= word;
    return found;
}

// Scores of ROWS packed queries (dim, ROWS) with a panel (dim, WIDTH) of candidates.
static inline __attribute__((always_inline)) void score_tile(
    const float *__restrict queries, const float *__restrict panel, int64_t dim, Vec scores[ROWS][2]) {
    for (int row = 0; row < ROWS; row++) scores[row][0] = scores[row][1] = Vec{};
    for (int64_t k = 0; k < dim; k++, queries += ROWS, panel += WIDTH) {
        const Vec left = load(panel), right = load(panel + LANES);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++) {
            scores[row][0] += queries[row] * left;
            scores[row][1] += queries[row] * right;
        }
    }
}

// `sum + a * b`, rounded as in a tile: once where the processor can, which compilers otherwise do here and not there.
static inline float multiply_add(float a, float b, float sum) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, sum);
#else
    return sum + a * b;
#endif
}

// The same score of a single pair.
static inline float dot(const float *__restrict query, const float *__restrict candidate, int64_t dim) {
    float score = 0;
    for (int64_t k = 0; k < dim; k++) score = multiply_add(query[k], candidate[k], score);
    return score;
}

// The same scores of one query with several candidates, eight at a time, since one waits for its own last addition.
static inline void dots(const float *__restrict query, const float *__restrict candidates, const int64_t *rows,
                        int64_t count, int64_t dim, float *__restrict scores) {
    int64_t first = 0;
    for (; first + 8 <= count; first += 8) {
        float sums[8] = {};
        const float *from[8];
        for (int i = 0; i < 8; i++) from[i] = candidates + rows[first + i] * dim;
        for (int64_t k = 0; k < dim; k++)
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) sums[i] = multiply_add(query[k], from[i][k], sums[i]);
        memcpy(scores + first, sums, sizeof sums);
    }
    for (; first < count; first++) scores[first] = dot(query, candidates + rows[first] * dim, dim);
}

// Lay out `count` queries (count, dim) as tiles (dim, ROWS), one after another, filled up with zeros.
static inline void pack_queries(const float *queries, int64_t count, int64_t dim, float *tiles) {
    memset(tiles, 0, (count + ROWS - 1) / ROWS * ROWS * dim * sizeof(float));
    for (int64_t row = 0; row < count; row++)
        for (int64_t k = 0; k < dim; k++) tiles[(row / ROWS * dim + k) * ROWS + row % ROWS] = queries[row * dim + k];
}
