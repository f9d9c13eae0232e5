// The cross network of rank 1, all layers of a row at once: x <- x + x0 * ((down . x) * kernel + bias), from x = x0 on.
// Parameters are (layers, stride), rows of the batch (batch, dim); stride is dim filled up with zeros to whole registers.
#include <algorithm>
#include <vector>

#include "scores.h"

namespace {
inline float total(Vec lanes) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

inline float product(const float *left, const float *right, int64_t length) {
    Vec sum = {};
    for (int64_t i = 0; i < length; i += LANES) sum += load(left + i) * load(right + i);
    return total(sum);
}
}  // namespace

extern "C" {

void rank_one_crosses(int64_t threads, int64_t batch, int64_t dim, int64_t layers, int64_t stride,
                      const float *inputs /* (batch, dim) */, const float *down /* (layers, stride) */,
                      const float *kernel /* (layers, stride) */, const float *bias /* (layers, stride) */,
                      float *outputs /* (batch, dim) */) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> x0(stride), x(stride);
#pragma omp for
        for (int64_t row = 0; row < batch; row++) {
            memcpy(x0.data(), inputs + row * dim, dim * sizeof(float));
            memcpy(x.data(), inputs + row * dim, dim * sizeof(float));
            for (int64_t layer = 0; layer < layers; layer++) {
                const int64_t at = layer * stride;
                const float scale = product(down + at, x.data(), stride);
                for (int64_t i = 0; i < stride; i += LANES) {
                    const Vec crossed = scale * load(kernel + at + i) + load(bias + at + i);
                    store(&x[i], load(&x[i]) + load(&x0[i]) * crossed);
                }
            }
            memcpy(outputs + row * dim, x.data(), dim * sizeof(float));
        }
    }
}

// Gradients of the inputs, and those of down, kernel and bias, which come as zeros, one copy for each thread. What the
// layers saw is computed again: cheaper than writing and reading it.
void rank_one_crosses_backward(int64_t threads, int64_t batch, int64_t dim, int64_t layers, int64_t stride,
                               const float *inputs /* (batch, dim) */, const float *gradients /* (batch, dim) */,
                               const float *down /* (layers, stride) */, const float *kernel /* (layers, stride) */,
                               const float *bias /* (layers, stride) */, float *input_gradients /* (batch, dim) */,
                               float *parameter_gradients /* (threads, 3, layers, stride) */) {
#pragma omp parallel for num_threads(threads)
    for (int64_t part = 0; part < threads; part++) {
        float *of_down = parameter_gradients + part * 3 * layers * stride;
        float *of_kernel = of_down + layers * stride, *of_bias = of_kernel + layers * stride;
        std::vector<float> seen((layers + 1) * stride), scales(layers), gradient(stride), of_x0(stride);
        const float *x0 = seen.data();
        for (int64_t row = batch * part / threads; row < batch * (part + 1) / threads; row++) {
            memcpy(seen.data(), inputs + row * dim, dim * sizeof(float));
            memcpy(gradient.data(), gradients + row * dim, dim * sizeof(float));
            for (int64_t layer = 0; layer < layers; layer++) {
                const int64_t at = layer * stride;
                const float *x = &seen[at];
                scales[layer] = product(down + at, x, stride);
                for (int64_t i = 0; i < stride; i += LANES) {
                    const Vec crossed = scales[layer] * load(kernel + at + i) + load(bias + at + i);
                    store(&seen[at + stride + i], load(x + i) + load(x0 + i) * crossed);
                }
            }
            std::fill(of_x0.begin(), of_x0.end(), 0.0f);
            for (int64_t layer = layers - 1; layer >= 0; layer--) {
                const int64_t at = layer * stride;
                Vec sum = {};
                for (int64_t i = 0; i < stride; i += LANES) {
                    const Vec g = load(&gradient[i]), weight = load(kernel + at + i), pull = g * load(x0 + i);
                    const Vec crossed = scales[layer] * weight + load(bias + at + i);
                    sum += pull * weight;
                    store(&of_x0[i], load(&of_x0[i]) + g * crossed);
                    store(of_kernel + at + i, load(of_kernel + at + i) + scales[layer] * pull);
                    store(of_bias + at + i, load(of_bias + at + i) + pull);
                }
                const float of_scale = total(sum);
                for (int64_t i = 0; i < stride; i += LANES) {
                    store(of_down + at + i, load(of_down + at + i) + of_scale * load(&seen[at + i]));
                    store(&gradient[i], load(&gradient[i]) + of_scale * load(down + at + i));
                }
            }
            for (int64_t i = 0; i < dim; i++) input_gradients[row * dim + i] = of_x0[i] + gradient[i];
        }
    }
}
}
