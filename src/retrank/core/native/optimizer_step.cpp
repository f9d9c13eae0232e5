// The step of an optimizer, all parameters at once. Of a table, the rows that a gradient names: entries of the same row are
// added up, in the order in which they stand, and go straight into the update. Weights are float32, or bfloat16 that is
// rounded at random.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "scores.h"

namespace {
constexpr int DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS;
constexpr int64_t MOST = int64_t(1) << 32;  // rows and positions that fit into half a word each, to be sorted
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

    // The random bits of retrank.ops.rounding: those of a row from SplitMix64, of a number in it from lowbias32.
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

enum Rule : int64_t { ADAGRAD, ROWWISE_ADAGRAD, ADAM };

struct Update {  // as it comes, a row of int64
    int64_t rule;
    const int64_t *rows;  // null: the gradient has all numbers of the weight, (1, dim)
    const float *gradients;
    int64_t stride, count, num_rows, dim;
    float *first, *second;  // the state
    void *weights;
    int64_t is_bfloat16, seed;
    int64_t refused;  // for the caller: 1 if something does not fit, and then nothing has changed anywhere

    int64_t parts(int64_t threads) const { return count * dim < 1 << 13 ? 1 : threads; }

    // The caller has checked all but the rows. The rest is looked at again because it costs nothing beside the step, and
    // because whoever is wrong here writes into memory of others.
    bool fits() const {
        if (rule < ADAGRAD || rule > ADAM || !gradients || !first || !weights || (rule == ADAM && !second)) return false;
        if (stride < 0 || count < 1 || num_rows < 1 || dim < 1 || count > MOST || num_rows > MOST) return false;
        if (!rows) return count == 1 && num_rows == 1 && !is_bfloat16 && rule != ROWWISE_ADAGRAD;
        uint64_t largest = 0;  // negative rows are the largest of all
        for (int64_t i = 0; i < count; i++) largest = std::max(largest, uint64_t(rows[i]));
        return largest < uint64_t(num_rows);
    }
    // Where the step writes: the weights and the state.
    void regions(std::vector<std::pair<uintptr_t, uintptr_t>> &found) const {
        auto add = [&](const void *start, int64_t bytes) {
            if (start) found.emplace_back(uintptr_t(start), uintptr_t(start) + uintptr_t(bytes));
        };
        add(weights, num_rows * dim * (is_bfloat16 ? 2 : 4));
        add(first, num_rows * (rule == ROWWISE_ADAGRAD ? 1 : dim) * 4);
        add(second, num_rows * dim * 4);
    }
};
static_assert(sizeof(Update) == 13 * 8);
constexpr int SETTINGS = 5;

// a += g^2, w -= lr g / (sqrt(a) + eps)
struct Adagrad {
    float lr, eps, weight_decay;
    float *accumulator;
    int64_t dim;
    Rows touched() const { return {accumulator, dim * 4}; }
    Rows touched_too() const { return {nullptr, 0}; }
    void operator()(int64_t at, int64_t length, const float *__restrict g, float *__restrict w) const {
        float *__restrict a = accumulator + at;
        for (int64_t k = 0; k < length; k++) {
            const float gradient = g[k] + weight_decay * w[k];
            a[k] += gradient * gradient;
            w[k] -= lr * gradient / (sqrtf(a[k]) + eps);
        }
    }
};

// One accumulator a row: a += mean(g^2), w -= lr g / (sqrt(a) + eps)
struct RowwiseAdagrad {
    float lr, eps;
    float *accumulator;
    int64_t dim;
    Rows touched() const { return {accumulator, 4}; }
    Rows touched_too() const { return {nullptr, 0}; }
    void operator()(int64_t at, int64_t length, const float *__restrict g, float *__restrict w) const {
        float squares = 0;
        for (int64_t k = 0; k < length; k++) squares += g[k] * g[k];
        float &a = accumulator[at / dim];
        a += squares / float(std::max<int64_t>(length, 1));
        const float rate = lr / (sqrtf(a) + eps);
        for (int64_t k = 0; k < length; k++) w[k] -= rate * g[k];
    }
};

// m += new1 (g - m), v += new2 (g^2 - v), w = keep w - rate m / (sqrt(v) + eps)
struct Adam {
    float rate, new1, new2, eps, keep;
    float *mean, *square;
    int64_t dim;
    Rows touched() const { return {mean, dim * 4}; }
    Rows touched_too() const { return {square, dim * 4}; }
    void operator()(int64_t at, int64_t length, const float *__restrict g, float *__restrict w) const {
        float *__restrict m = mean + at, *__restrict v = square + at;
        for (int64_t k = 0; k < length; k++) {
            m[k] += new1 * (g[k] - m[k]);
            v[k] += new2 * (g[k] * g[k] - v[k]);
            w[k] = keep * w[k] - rate * m[k] / (sqrtf(v[k]) + eps);
        }
    }
};

// A part of the rows that are named.
template <typename Weights, typename Step>
void update_rows(const Update &update, const std::vector<uint64_t> &sorted, int64_t part, int64_t parts, Weights weights,
                 Step step) {
    const int64_t count = update.count, dim = update.dim;
    auto boundary = [&](int64_t at) {  // the first entry at or behind `at` that begins a row
        while (at > 0 && at < count && sorted[at] >> 32 == sorted[at - 1] >> 32) at++;
        return at;
    };
    std::vector<float> sum(dim), unpacked(dim);
    const int64_t end = boundary(count * (part + 1) / parts);
    for (int64_t at = boundary(count * part / parts); at < end;) {
        const uint64_t row = sorted[at] >> 32;
        if (at + AHEAD < end) {
            const uint64_t later = sorted[at + AHEAD];
            weights.rows().fetch(later >> 32);
            step.touched().fetch(later >> 32);
            step.touched_too().fetch(later >> 32);
            __builtin_prefetch(update.gradients + (later & 0xffffffff) * update.stride);
        }
        const float *first = update.gradients + (sorted[at] & 0xffffffff) * update.stride;
        std::copy_n(first, dim, sum.data());
        for (at++; at < end && sorted[at] >> 32 == row; at++) {
            const float *more = update.gradients + (sorted[at] & 0xffffffff) * update.stride;
            for (int64_t k = 0; k < dim; k++) sum[k] += more[k];
        }
        weights.change(row, unpacked.data(), [&](float *w) { step(int64_t(row) * dim, dim, sum.data(), w); });
    }
}

template <typename Step>
void update_part(const Update &update, const std::vector<uint64_t> &sorted, int64_t part, int64_t parts, Step step) {
    if (!update.rows) {
        const int64_t start = update.dim * part / parts, end = update.dim * (part + 1) / parts;
        step(start, end - start, update.gradients + start, (float *)update.weights + start);
    } else if (update.is_bfloat16)
        update_rows(update, sorted, part, parts, Bfloat16{(uint16_t *)update.weights, update.dim, uint64_t(update.seed)},
                    step);
    else
        update_rows(update, sorted, part, parts, Float32{(float *)update.weights, update.dim}, step);
}

// Whether two regions share memory, as the weights of two parameters do that are views of one tensor.
bool overlap(const Update *updates, int64_t num_updates) {
    std::vector<std::pair<uintptr_t, uintptr_t>> regions;
    for (int64_t i = 0; i < num_updates; i++) updates[i].regions(regions);
    std::sort(regions.begin(), regions.end());
    for (size_t i = 1; i < regions.size(); i++)
        if (regions[i].first < regions[i - 1].second) return true;
    return false;
}

void step(const Update *updates, int64_t num_updates, const float *settings, int64_t threads) {
    std::vector<std::vector<uint64_t>> sorted(num_updates);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < num_updates; i++)
            if (updates[i].rows) sort_by_row(updates[i].rows, updates[i].count, updates[i].num_rows, sorted[i]);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < num_updates * threads; task++) {
            const int64_t i = task / threads, part = task % threads;
            const Update &update = updates[i];
            const int64_t parts = update.parts(threads), dim = update.dim;
            const float *s = settings + i * SETTINGS;
            if (part >= parts) continue;
            if (update.rule == ADAGRAD)
                update_part(update, sorted[i], part, parts, Adagrad{s[0], s[1], s[2], update.first, dim});
            else if (update.rule == ROWWISE_ADAGRAD)
                update_part(update, sorted[i], part, parts, RowwiseAdagrad{s[0], s[1], update.first, dim});
            else
                update_part(update, sorted[i], part, parts,
                            Adam{s[0], s[1], s[2], s[3], s[4], update.first, update.second, dim});
        }
    }
}
}  // namespace

extern "C" {

void optimizer_step(int64_t threads, int64_t *table, int64_t num_updates, const float *settings) {
    Update *updates = (Update *)table;
    // All updates are looked at before the first one is done: a step is taken by all parameters or by none.
    bool fit = true;
    for (int64_t i = 0; i < num_updates; i++) {
        updates[i].refused = !updates[i].fits();
        fit = fit && !updates[i].refused;
    }
    if (!fit) return;
    if (!overlap(updates, num_updates)) return step(updates, num_updates, settings, threads);
    // Threads would race for what parameters share. One after another, as torch does it.
    for (int64_t i = 0; i < num_updates; i++) step(updates + i, 1, settings + i * SETTINGS, threads);
}
}
