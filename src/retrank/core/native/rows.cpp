// Updates of the rows of a table that a gradient names: entries of the same row are added up, in the order in which they
// stand, and go straight into the update. Weights are float32, or bfloat16 that is rounded at random.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "scores.h"

namespace {
constexpr int DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS;
constexpr int64_t AHEAD = 8;  // entries between asking memory for a row and needing it

struct Rows {  // an array with a row for each row of the table
    const void *start;
    int64_t bytes;
    void fetch(int64_t row) const {
        for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch((const char *)start + row * bytes + k, 1);
    }
};

struct Float32 {
    float *start;
    int64_t dim;
    Rows rows() const { return {start, dim * 4}; }
    template <typename Change>
    void change(int64_t row, float *, Change change) const { change(start + row * dim); }
};

struct Bfloat16 {
    uint16_t *start;
    int64_t dim;
    uint64_t seed;
    Rows rows() const { return {start, dim * 2}; }

    template <typename Change>
    void change(int64_t row, float *__restrict unpacked, Change change) const {
        uint16_t *__restrict packed = start + row * dim;
        for (int64_t k = 0; k < dim; k++) {
            const uint32_t bits = uint32_t(packed[k]) << 16;
            std::memcpy(unpacked + k, &bits, 4);
        }
        change(unpacked);
        const uint32_t key = key_of(row);
        for (int64_t k = 0; k < dim; k++) {
            uint32_t bits;
            std::memcpy(&bits, unpacked + k, 4);
            const bool is_finite = (bits & 0x7f800000) != 0x7f800000;
            const uint32_t odd = bits | ((bits & 0x7fffff) ? 0x400000 : 0);  // NaN must not become infinite
            packed[k] = uint16_t((is_finite ? bits + (noise(key, uint32_t(k)) & 0xffff) : odd) >> 16);
        }
    }

    // The random bits of retrank.optim.rounding: those of a row from SplitMix64, of a number in it from lowbias32.
    uint32_t key_of(int64_t row) const {
        uint64_t z = seed + uint64_t(row) * 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return uint32_t(z ^ (z >> 31));
    }
    static uint32_t noise(uint32_t key, uint32_t k) {
        uint32_t x = key + k * 0x9e3779b9;
        x = (x ^ (x >> 16)) * 0x7feb352d;
        x = (x ^ (x >> 15)) * 0x846ca68b;
        return x ^ (x >> 16);
    }
};

// Positions of the entries in the order of their rows, equal rows in the order of their positions.
void sort_by_row(const int64_t *rows, int64_t count, int64_t num_rows, std::vector<uint64_t> &sorted) {
    std::vector<uint64_t> other(count);
    sorted.resize(count);
    for (int64_t i = 0; i < count; i++) sorted[i] = uint64_t(rows[i]) << 32 | uint64_t(i);
    for (int shift = 0; (num_rows - 1) >> shift; shift += DIGIT_BITS) {
        int64_t starts[DIGITS + 1] = {};
        for (const uint64_t entry : sorted) starts[(entry >> (32 + shift)) % DIGITS + 1]++;
        for (int digit = 0; digit < DIGITS; digit++) starts[digit + 1] += starts[digit];
        for (const uint64_t entry : sorted) other[starts[(entry >> (32 + shift)) % DIGITS]++] = entry;
        sorted.swap(other);
    }
}

// Call update(row, sum of its gradients, its weights) for every row that is named; it may change that row of `touched`.
template <typename Weights, typename Update>
void for_each_row(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                  int64_t num_rows, int64_t dim, std::initializer_list<Rows> touched, Weights weights, Update update) {
    std::vector<uint64_t> sorted;
    sort_by_row(rows, count, num_rows, sorted);
#pragma omp parallel for num_threads(threads)
    for (int64_t part = 0; part < threads; part++) {
        auto boundary = [&](int64_t at) {  // the first entry at or behind `at` that begins a row
            while (at > 0 && at < count && sorted[at] >> 32 == sorted[at - 1] >> 32) at++;
            return at;
        };
        std::vector<float> sum(dim), unpacked(dim);
        const int64_t end = boundary(count * (part + 1) / threads);
        for (int64_t at = boundary(count * part / threads); at < end;) {
            const uint64_t row = sorted[at] >> 32;
            if (at + AHEAD < end) {
                const uint64_t later = sorted[at + AHEAD];
                weights.rows().fetch(later >> 32);
                for (const Rows &array : touched) array.fetch(later >> 32);
                __builtin_prefetch(gradients + (later & 0xffffffff) * stride);
            }
            const float *first = gradients + (sorted[at] & 0xffffffff) * stride;
            std::copy_n(first, dim, sum.data());
            for (at++; at < end && sorted[at] >> 32 == row; at++) {
                const float *more = gradients + (sorted[at] & 0xffffffff) * stride;
                for (int64_t k = 0; k < dim; k++) sum[k] += more[k];
            }
            weights.change(row, unpacked.data(), [&](float *w) { update(int64_t(row), sum.data(), w); });
        }
    }
}

// a += g^2, w -= lr g / (sqrt(a) + eps)
template <typename Weights>
void adagrad(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
             int64_t num_rows, int64_t dim, float lr, float eps, float weight_decay, float *accumulator,
             Weights weights) {
    for_each_row(threads, rows, gradients, stride, count, num_rows, dim, {Rows{accumulator, dim * 4}}, weights,
                 [=](int64_t row, float *__restrict g, float *__restrict w) {
        float *__restrict a = accumulator + row * dim;
        for (int64_t k = 0; k < dim; k++) {
            const float gradient = g[k] + weight_decay * w[k];
            a[k] += gradient * gradient;
            w[k] -= lr * gradient / (sqrtf(a[k]) + eps);
        }
    });
}

// One accumulator a row: a += mean(g^2), w -= lr g / (sqrt(a) + eps)
template <typename Weights>
void rowwise_adagrad(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                     int64_t num_rows, int64_t dim, float lr, float eps, float *accumulator, Weights weights) {
    for_each_row(threads, rows, gradients, stride, count, num_rows, dim, {Rows{accumulator, 4}}, weights,
                 [=](int64_t row, float *__restrict g, float *__restrict w) {
        float squares = 0;
        for (int64_t k = 0; k < dim; k++) squares += g[k] * g[k];
        accumulator[row] += squares / float(dim);
        const float rate = lr / (sqrtf(accumulator[row]) + eps);
        for (int64_t k = 0; k < dim; k++) w[k] -= rate * g[k];
    });
}

// m += (1 - beta1) (g - m), v += (1 - beta2) (g^2 - v), w = keep w - rate m / (sqrt(v) + eps)
template <typename Weights>
void lazy_adam(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
               int64_t num_rows, int64_t dim, float rate, float beta1, float beta2, float eps, float keep, float *mean,
               float *square, Weights weights) {
    const auto touched = {Rows{mean, dim * 4}, Rows{square, dim * 4}};
    for_each_row(threads, rows, gradients, stride, count, num_rows, dim, touched, weights,
                 [=](int64_t row, float *__restrict g, float *__restrict w) {
        float *__restrict m = mean + row * dim, *__restrict v = square + row * dim;
        for (int64_t k = 0; k < dim; k++) {
            m[k] += (1 - beta1) * (g[k] - m[k]);
            v[k] += (1 - beta2) * (g[k] * g[k] - v[k]);
            w[k] = keep * w[k] - rate * m[k] / (sqrtf(v[k]) + eps);
        }
    });
}
}  // namespace

extern "C" {

void adagrad_rows(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                  int64_t num_rows, int64_t dim, float lr, float eps, float weight_decay, float *accumulator,
                  float *weight) {
    adagrad(threads, rows, gradients, stride, count, num_rows, dim, lr, eps, weight_decay, accumulator,
            Float32{weight, dim});
}

void adagrad_rows_bfloat16(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                           int64_t num_rows, int64_t dim, float lr, float eps, float weight_decay, float *accumulator,
                           uint16_t *weight, int64_t seed) {
    adagrad(threads, rows, gradients, stride, count, num_rows, dim, lr, eps, weight_decay, accumulator,
            Bfloat16{weight, dim, uint64_t(seed)});
}

void rowwise_adagrad_rows(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                          int64_t num_rows, int64_t dim, float lr, float eps, float *accumulator, float *weight) {
    rowwise_adagrad(threads, rows, gradients, stride, count, num_rows, dim, lr, eps, accumulator, Float32{weight, dim});
}

void rowwise_adagrad_rows_bfloat16(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride,
                                   int64_t count, int64_t num_rows, int64_t dim, float lr, float eps,
                                   float *accumulator, uint16_t *weight, int64_t seed) {
    rowwise_adagrad(threads, rows, gradients, stride, count, num_rows, dim, lr, eps, accumulator,
                    Bfloat16{weight, dim, uint64_t(seed)});
}

void lazy_adam_rows(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                    int64_t num_rows, int64_t dim, float rate, float beta1, float beta2, float eps, float keep,
                    float *mean, float *square, float *weight) {
    lazy_adam(threads, rows, gradients, stride, count, num_rows, dim, rate, beta1, beta2, eps, keep, mean, square,
              Float32{weight, dim});
}

void lazy_adam_rows_bfloat16(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride,
                             int64_t count, int64_t num_rows, int64_t dim, float rate, float beta1, float beta2,
                             float eps, float keep, float *mean, float *square, uint16_t *weight, int64_t seed) {
    lazy_adam(threads, rows, gradients, stride, count, num_rows, dim, rate, beta1, beta2, eps, keep, mean, square,
              Bfloat16{weight, dim, uint64_t(seed)});
}
}
