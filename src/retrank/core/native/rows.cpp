// Updates of the rows of a table that a gradient names: entries of the same row are added up, in the order in which they
// stand, and go straight into the update.
#include <algorithm>
#include <cmath>
#include <vector>

#include "scores.h"

namespace {
constexpr int DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS;
constexpr int64_t AHEAD = 8;  // entries between asking memory for a row and needing it

struct Rows {  // an array with a row of floats for each row of the table
    const float *start;
    int64_t dim;
    void fetch(int64_t row) const {
        for (int64_t k = 0; k < dim; k += 16) __builtin_prefetch(start + row * dim + k, 1);
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

// Call update(row, sum of its gradients) for every row that is named; the update touches that row of `touched`.
template <typename Update>
void for_each_row(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                  int64_t num_rows, int64_t dim, std::initializer_list<Rows> touched, Update update) {
    std::vector<uint64_t> sorted;
    sort_by_row(rows, count, num_rows, sorted);
#pragma omp parallel for num_threads(threads)
    for (int64_t part = 0; part < threads; part++) {
        auto boundary = [&](int64_t at) {  // the first entry at or behind `at` that begins a row
            while (at > 0 && at < count && sorted[at] >> 32 == sorted[at - 1] >> 32) at++;
            return at;
        };
        std::vector<float> sum(dim);
        const int64_t end = boundary(count * (part + 1) / threads);
        for (int64_t at = boundary(count * part / threads); at < end;) {
            const uint64_t row = sorted[at] >> 32;
            if (at + AHEAD < end) {
                const uint64_t later = sorted[at + AHEAD];
                for (const Rows &array : touched) array.fetch(later >> 32);
                __builtin_prefetch(gradients + (later & 0xffffffff) * stride);
            }
            const float *first = gradients + (sorted[at] & 0xffffffff) * stride;
            std::copy_n(first, dim, sum.data());
            for (at++; at < end && sorted[at] >> 32 == row; at++) {
                const float *more = gradients + (sorted[at] & 0xffffffff) * stride;
                for (int64_t k = 0; k < dim; k++) sum[k] += more[k];
            }
            update(int64_t(row), sum.data());
        }
    }
}
}  // namespace

extern "C" {

// a += g^2, w -= lr g / (sqrt(a) + eps)
void adagrad_rows(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                  int64_t num_rows, int64_t dim, float lr, float eps, float weight_decay, float *accumulator,
                  float *weight) {
    const auto touched = {Rows{accumulator, dim}, Rows{weight, dim}};
    for_each_row(threads, rows, gradients, stride, count, num_rows, dim, touched, [=](int64_t row, float *__restrict g) {
        float *__restrict a = accumulator + row * dim, *__restrict w = weight + row * dim;
        for (int64_t k = 0; k < dim; k++) {
            const float gradient = g[k] + weight_decay * w[k];
            a[k] += gradient * gradient;
            w[k] -= lr * gradient / (sqrtf(a[k]) + eps);
        }
    });
}

// One accumulator a row: a += mean(g^2), w -= lr g / (sqrt(a) + eps)
void rowwise_adagrad_rows(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                          int64_t num_rows, int64_t dim, float lr, float eps, float *accumulator, float *weight) {
    const auto touched = {Rows{accumulator, 1}, Rows{weight, dim}};
    for_each_row(threads, rows, gradients, stride, count, num_rows, dim, touched, [=](int64_t row, float *__restrict g) {
        float squares = 0;
        for (int64_t k = 0; k < dim; k++) squares += g[k] * g[k];
        accumulator[row] += squares / float(dim);
        const float rate = lr / (sqrtf(accumulator[row]) + eps);
        float *__restrict w = weight + row * dim;
        for (int64_t k = 0; k < dim; k++) w[k] -= rate * g[k];
    });
}

// m += (1 - beta1) (g - m), v += (1 - beta2) (g^2 - v), w = keep w - rate m / (sqrt(v) + eps)
void lazy_adam_rows(int64_t threads, const int64_t *rows, const float *gradients, int64_t stride, int64_t count,
                    int64_t num_rows, int64_t dim, float rate, float beta1, float beta2, float eps, float keep,
                    float *mean, float *square, float *weight) {
    const auto touched = {Rows{mean, dim}, Rows{square, dim}, Rows{weight, dim}};
    for_each_row(threads, rows, gradients, stride, count, num_rows, dim, touched, [=](int64_t row, float *__restrict g) {
        float *__restrict m = mean + row * dim, *__restrict v = square + row * dim, *__restrict w = weight + row * dim;
        for (int64_t k = 0; k < dim; k++) {
            m[k] += (1 - beta1) * (g[k] - m[k]);
            v[k] += (1 - beta2) * (g[k] * g[k] - v[k]);
            w[k] = keep * w[k] - rate * m[k] / (sqrtf(v[k]) + eps);
        }
    });
}
}
