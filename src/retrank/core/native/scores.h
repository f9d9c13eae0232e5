// Dot products of many queries with many candidates, computed in registers and consumed there.
//
// Every score is summed over the dimensions in order, one fused multiply-add each, whatever else is computed beside it:
// the same pair has the same score, to the bit, in a tile of one row or of many, and in `dots`.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

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

// `sum + a * b`, rounded once where the processor can. Written out, because a compiler left to itself fuses the two in one
// loop and not in another, and a score would depend on how many queries it is computed beside.
static inline Vec multiply_add(Vec a, Vec b, Vec sum) {
#if defined(__AVX512F__)
    return Vec(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(sum)));
#elif defined(__AVX2__) && defined(__FMA__)
    return Vec(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(sum)));
#elif defined(__ARM_FEATURE_FMA) && defined(__ARM_NEON)
    return Vec(vfmaq_f32(float32x4_t(sum), float32x4_t(a), float32x4_t(b)));
#else
    return sum + a * b;
#endif
}

static inline float multiply_add(float a, float b, float sum) {
#if defined(__AVX512F__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, sum);
#else
    return sum + a * b;
#endif
}

// Scores of a few packed queries (dim, COUNT) with a panel (dim, WIDTH) of candidates.
template <int COUNT = ROWS>
static inline __attribute__((always_inline)) void score_tile(
    const float *__restrict queries, const float *__restrict panel, int64_t dim, Vec scores[COUNT][2]) {
    Vec sums[COUNT][2] = {};  // not `scores` itself: whoever looks that up by a variable row keeps it in memory
    for (int64_t k = 0; k < dim; k++, queries += COUNT, panel += WIDTH) {
        const Vec left = load(panel), right = load(panel + LANES);
#pragma GCC unroll 16
        for (int row = 0; row < COUNT; row++) {
            const Vec query = queries[row] - Vec{};  // in every lane
            sums[row][0] = multiply_add(query, left, sums[row][0]);
            sums[row][1] = multiply_add(query, right, sums[row][1]);
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < COUNT; row++) scores[row][0] = sums[row][0], scores[row][1] = sums[row][1];
}

// The same scores of one query with candidates whose numbers lie `step` apart, eight at a time, since one waits for its
// own last addition. `start(i)` is where candidate i begins.
template <typename Start>
static inline void dots(const float *__restrict query, Start start, int64_t step, int64_t count, int64_t dim,
                        float *__restrict scores) {
    int64_t first = 0;
    for (; first + 8 <= count; first += 8) {
        float sums[8] = {};
        const float *from[8];
        for (int i = 0; i < 8; i++) from[i] = start(first + i);
        for (int64_t k = 0; k < dim; k++)
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) sums[i] = multiply_add(query[k], from[i][k * step], sums[i]);
        memcpy(scores + first, sums, sizeof sums);
    }
    for (; first < count; first++) {
        const float *from = start(first);
        float score = 0;
        for (int64_t k = 0; k < dim; k++) score = multiply_add(query[k], from[k * step], score);
        scores[first] = score;
    }
}

// Lay out `count` queries (count, dim) as tiles (dim, ROWS), one after another, filled up with zeros.
static inline void pack_queries(const float *queries, int64_t count, int64_t dim, float *tiles) {
    memset(tiles, 0, (count + ROWS - 1) / ROWS * ROWS * dim * sizeof(float));
    for (int64_t row = 0; row < count; row++)
        for (int64_t k = 0; k < dim; k++) tiles[(row / ROWS * dim + k) * ROWS + row % ROWS] = queries[row * dim + k];
}
