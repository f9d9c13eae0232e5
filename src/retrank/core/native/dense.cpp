// A stack of dense layers, a block of rows at a time: what one layer makes of a block is still in the cache when the
// next one reads it, and biases, ReLU and its gradient are applied in the registers where a product was summed.
#include <algorithm>
#include <vector>

#include "dense_tiles.h"
#include "memory.h"

namespace {
constexpr int64_t BLOCK = ROWS * 12;  // rows

struct Layer {
    int64_t in, out, relu;
    const float *weight, *bias;  // (out, in); (out) or null
    float *output;               // (rows, stride), or null to forget the values when the next layer has read them
    int64_t stride;
    float *weight_gradient = nullptr, *bias_gradient = nullptr;  // where they go, if they are wanted
};

// Between layers, whole tiles of rows are written, and panels of columns up to `stride`; the last output is exact.
std::vector<Layer> layers_of(int64_t num_layers, const int64_t *in, const int64_t *out, const int64_t *relu,
                             const int64_t *strides, const float *const *weights, const float *const *biases,
                             const float *const *hidden, const float *outputs) {
    std::vector<Layer> layers;
    for (int64_t i = 0; i < num_layers; i++) {
        const bool is_last = i + 1 == num_layers;
        float *output = const_cast<float *>(is_last ? outputs : hidden[i]);  // written in the forward pass alone
        layers.push_back({in[i], out[i], relu[i], weights[i], biases[i], output, is_last ? out[i] : strides[i]});
    }
    return layers;
}

// Call `panel(start, first column, halves)` for each panel of a packed matrix.
template <typename Panel>
inline void for_panels(const float *packed, int64_t depth, int64_t columns, Panel panel) {
    for (int64_t first = 0; first < columns; first += WIDTH) panel(packed + first * depth, first, columns - first);
}

template <int HALVES>
inline void forward_panel(const Layer &layer, const float *rows, int64_t stride, int64_t count, const float *panel,
                          int64_t first, float *to, int64_t to_stride, bool whole) {
    Vec bias[HALVES] = {};
    if (layer.bias) memcpy(bias, layer.bias + first, std::min<int64_t>(HALVES * LANES, layer.out - first) * 4);
    for (int64_t row = 0; row < count; row += ROWS) {
        Vec sums[ROWS][HALVES];
        product_tile<HALVES>(rows + row * stride, stride, panel, layer.in, sums);
        for (int i = 0; i < ROWS; i++)
            for (int half = 0; half < HALVES; half++) {
                const Vec sum = sums[i][half] + bias[half];
                sums[i][half] = layer.relu ? (sum < 0.f ? Vec{} : sum) : sum;  // NaN stays
            }
        write_tile<HALVES>(sums, to + row * to_stride + first, to_stride, whole ? ROWS : count - row,
                           whole ? WIDTH : layer.out - first);
    }
}

// The gradient of a layer's input: of a block, or of a part of it that is `masked` by where the input was above 0.
template <int HALVES>
inline void backward_panel(const Layer &layer, const float *gradient, int64_t stride, int64_t count, const float *panel,
                           int64_t first, const float *input, int64_t input_stride, float *to, int64_t to_stride,
                           bool whole) {
    for (int64_t row = 0; row < count; row += ROWS) {
        Vec sums[ROWS][HALVES];
        product_tile<HALVES>(gradient + row * stride, stride, panel, layer.out, sums);
        if (input)
            for (int i = 0; i < ROWS; i++)
                for (int half = 0; half < HALVES; half++) {
                    const Vec value = load(input + (row + i) * input_stride + first + half * LANES);
                    sums[i][half] = value <= 0.f ? Vec{} : sums[i][half];
                }
        write_tile<HALVES>(sums, to + row * to_stride + first, to_stride, whole ? ROWS : count - row,
                           whole ? WIDTH : layer.in - first);
    }
}

template <int HALVES>
void weight_gradient(const Layer &layer, const float *gradient, int64_t stride, const float *input,
                     int64_t input_stride, int64_t rows, int64_t first, float *to) {
    int64_t i = 0;
    const int64_t columns = layer.in - first;
    if (layer.out >= 8 * ROWS && columns > WIDTH)  // the next panel, while there is much to do with this one
        for (int64_t row = 0; row < rows; row++) {
            __builtin_prefetch(input + row * input_stride + first + WIDTH);
            __builtin_prefetch(input + row * input_stride + first + WIDTH + LANES);
        }
    for (; i + ROWS <= layer.out; i += ROWS)
        outer_tile<ROWS, HALVES>(gradient + i, stride, input + first, input_stride, rows, to + i * layer.in + first,
                                 layer.in, columns);
    for (; i + 4 <= layer.out; i += 4)
        outer_tile<4, HALVES>(gradient + i, stride, input + first, input_stride, rows, to + i * layer.in + first,
                              layer.in, columns);
    for (; i < layer.out; i++)
        outer_tile<1, HALVES>(gradient + i, stride, input + first, input_stride, rows, to + i * layer.in + first,
                              layer.in, columns);
}

// Copy rows into rows that are wider, and add rows of zeros up to a whole tile.
void copy_rows(const float *from, int64_t from_stride, int64_t count, int64_t width, float *to, int64_t stride) {
    for (int64_t row = 0; row < count; row++) {
        memcpy(to + row * stride, from + row * from_stride, width * 4);
        memset(to + row * stride + width, 0, (stride - width) * 4);
    }
    memset(to + count * stride, 0, ((count + ROWS - 1) / ROWS * ROWS - count) * stride * 4);
}

// Lay out weights (out, in) as panels of columns: of the outputs, or with `transposed` of the inputs.
void pack_panel(const Layer &layer, bool transposed, int64_t first, float *packed) {
    const int64_t depth = transposed ? layer.out : layer.in, columns = transposed ? layer.in : layer.out;
    const int64_t width = std::min<int64_t>(WIDTH, padded(columns - first)), count = std::min(width, columns - first);
    float *panel = packed + first * depth;
    if (transposed)
        for (int64_t k = 0; k < depth; k++) {
            memcpy(panel + k * width, layer.weight + k * layer.in + first, count * 4);
            memset(panel + k * width + count, 0, (width - count) * 4);
        }
    else
        for (int64_t start = 0; start < depth; start += 16)  // a cache line of each of the panel's rows of weights
            for (int64_t k = start; k < std::min(start + 16, depth); k++)
                for (int64_t i = 0; i < width; i++)
                    panel[k * width + i] = i < count ? layer.weight[(first + i) * layer.in + k] : 0;
}

struct Stack {
    const std::vector<Layer> layers;
    int64_t count, widest = 0, num_panels = 0, num_weights = 0, packed_size = 0;

    Stack(std::vector<Layer> given, bool transposed) : layers(std::move(given)), count(layers.size()) {
        for (int64_t i = 0; i < count; i++) {
            widest = std::max({widest, layers[i].in, layers[i].out});
            num_panels += (columns(i, transposed) + WIDTH - 1) / WIDTH;
            packed_size += size(i, transposed);
            num_weights += layers[i].out * (layers[i].in + 1);
        }
    }
    int64_t columns(int64_t i, bool transposed) const { return transposed ? layers[i].in : layers[i].out; }
    int64_t size(int64_t i, bool transposed) const {
        return padded(columns(i, transposed)) * (transposed ? layers[i].out : layers[i].in);
    }
    int64_t scratch() const { return (BLOCK + 1) * spread(widest); }  // and a little that is read and not used

    void pack(int64_t panel, bool transposed, float *packed) const {
        for (int64_t i = 0; i < count; packed += size(i++, transposed)) {
            const int64_t panels = (columns(i, transposed) + WIDTH - 1) / WIDTH;
            if (panel < panels) return pack_panel(layers[i], transposed, panel * WIDTH, packed);
            panel -= panels;
        }
    }
};

inline int64_t share_of(int64_t rows, int64_t threads) { return ((rows + threads - 1) / threads + ROWS - 1) / ROWS * ROWS; }
}  // namespace

extern "C" {

// inputs, in[0] wide, through all layers. hidden[i] is where the output of layer i is kept, in `padded_rows` rows that are
// `strides[i]` apart: room for a last whole tile and a last whole panel. Null where it is not needed again; the last
// entry, which stands for `outputs`, is null, too.
void dense_forward(int64_t threads, int64_t num_layers, const int64_t *in /* (num_layers) */,
                   const int64_t *out /* (num_layers) */, const int64_t *relu /* (num_layers) */,
                   const int64_t *strides /* (num_layers) */,
                   const float *const *weights /* num_layers x (out[], in[]) */,
                   const float *const *biases /* num_layers x (out[]) or null */, int64_t padded_rows,
                   float *const *hidden /* num_layers x (padded_rows, strides[]) or null */, int64_t num_rows,
                   int64_t input_stride, const float *inputs /* (num_rows: input_stride, in[0]) */,
                   float *outputs /* (num_rows, out[-1]) */) {
    const Stack stack(layers_of(num_layers, in, out, relu, strides, weights, biases, hidden, outputs), false);
    float *memory = scratch_memory(stack.packed_size + threads * 2 * stack.scratch()), *blocks = memory + stack.packed_size;
    const int64_t share = share_of(num_rows, threads);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t panel = 0; panel < stack.num_panels; panel++) stack.pack(panel, false, memory);
#pragma omp for schedule(static, 1)
        for (int64_t part = 0; part < threads; part++) {
            float *spare[2] = {blocks + 2 * part * stack.scratch(), blocks + (2 * part + 1) * stack.scratch()};
            const int64_t end = std::min(num_rows, (part + 1) * share);
            for (int64_t start = part * share; start < end; start += BLOCK) {
                const int64_t count = std::min(BLOCK, end - start);
                const float *rows = spare[0], *packed = memory;
                int64_t stride = spread(stack.layers[0].in);
                copy_rows(inputs + start * input_stride, input_stride, count, stack.layers[0].in, spare[0], stride);
                for (int64_t i = 0; i < stack.count; packed += stack.size(i++, false)) {
                    const Layer &layer = stack.layers[i];
                    const bool last = i + 1 == stack.count;
                    const int64_t to_stride = layer.output ? layer.stride : spread(layer.out);
                    float *to = layer.output ? layer.output + start * to_stride : spare[rows == spare[0]];
                    for_panels(packed, layer.in, layer.out, [&](const float *panel, int64_t first, int64_t left) {
                        if (left > LANES)
                            forward_panel<2>(layer, rows, stride, count, panel, first, to, to_stride, !last);
                        else
                            forward_panel<1>(layer, rows, stride, count, panel, first, to, to_stride, !last);
                    });
                    rows = to, stride = to_stride;
                }
            }
        }
    }
}

// The gradients that are wanted, from those of the outputs. What the layers made comes as it was kept; `outputs` only
// if the last layer is rectified.
void dense_backward(int64_t threads, int64_t num_layers, const int64_t *in /* (num_layers) */,
                    const int64_t *out /* (num_layers) */, const int64_t *relu /* (num_layers) */,
                    const int64_t *strides /* (num_layers) */,
                    const float *const *weights /* num_layers x (out[], in[]) */,
                    const float *const *biases /* num_layers x (out[]) or null */, int64_t padded_rows,
                    const float *const *hidden /* num_layers x (padded_rows, strides[]) or null */, int64_t num_rows,
                    int64_t input_stride, const float *inputs /* (num_rows: input_stride, in[0]) */,
                    const float *outputs /* (num_rows, out[-1]) or null */, int64_t gradient_stride,
                    const float *gradient /* (num_rows: gradient_stride, out[-1]) */,
                    float *const *weight_gradients /* num_layers x (out[], in[]) or null */,
                    float *const *bias_gradients /* num_layers x (out[]) or null */,
                    float *input_gradient /* (num_rows, in[0]) or null */) {
    std::vector<Layer> layers = layers_of(num_layers, in, out, relu, strides, weights, biases, hidden, outputs);
    for (int64_t i = 0; i < num_layers; i++)
        layers[i].weight_gradient = weight_gradients[i], layers[i].bias_gradient = bias_gradients[i];
    const Stack stack(std::move(layers), true);
    const int64_t own = 3 * stack.scratch() + stack.num_weights;
    float *memory = scratch_memory(stack.packed_size + threads * own), *parts = memory + stack.packed_size;
    const int64_t share = share_of(num_rows, threads);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t panel = 0; panel < stack.num_panels; panel++) stack.pack(panel, true, memory);
#pragma omp for schedule(static, 1)
        for (int64_t part = 0; part < threads; part++) {
            float *mine = parts + part * own, *sums = mine + 3 * stack.scratch();
            memset(sums, 0, stack.num_weights * 4);
            float *spare[2] = {mine + stack.scratch(), mine + 2 * stack.scratch()};
            const int64_t end = std::min(num_rows, (part + 1) * share);
            for (int64_t start = part * share; start < end; start += BLOCK) {
                const int64_t count = std::min(BLOCK, end - start), first_stride = spread(stack.layers[0].in);
                copy_rows(inputs + start * input_stride, input_stride, count, stack.layers[0].in, mine, first_stride);
                float *rows = spare[0], *sum = sums + stack.num_weights;
                const float *packed = memory + stack.packed_size;
                {
                    const Layer &layer = stack.layers[stack.count - 1];
                    const int64_t stride = spread(layer.out);
                    copy_rows(gradient + start * gradient_stride, gradient_stride, count, layer.out, rows, stride);
                    if (layer.relu)
                        for (int64_t row = 0; row < count; row++)
                            for (int64_t k = 0; k < layer.out; k++)
                                if (layer.output[(start + row) * layer.stride + k] <= 0) rows[row * stride + k] = 0;
                }
                for (int64_t i = stack.count - 1; i >= 0; i--) {
                    const Layer &layer = stack.layers[i], *before = i ? &stack.layers[i - 1] : nullptr;
                    const float *input = before ? before->output + start * before->stride : mine;
                    const int64_t read_stride = before ? before->stride : first_stride, stride = spread(layer.out);
                    sum -= layer.out * (layer.in + 1);
                    packed -= stack.size(i, true);
                    if (layer.weight_gradient) {
                        for (int64_t first = 0; first < layer.in; first += WIDTH)
                            if (layer.in - first > LANES)
                                weight_gradient<2>(layer, rows, stride, input, read_stride, count, first, sum);
                            else
                                weight_gradient<1>(layer, rows, stride, input, read_stride, count, first, sum);
                    }
                    if (layer.bias_gradient)
                        for (int64_t row = 0; row < count; row++)
                            for (int64_t k = 0; k < layer.out; k++) sum[layer.out * layer.in + k] += rows[row * stride + k];
                    if (!before && !input_gradient) continue;
                    float *to = before ? spare[rows == spare[0]] : input_gradient + start * layer.in;
                    const int64_t to_stride = before ? spread(layer.in) : layer.in;
                    const float *mask = before && before->relu ? input : nullptr;
                    for_panels(packed, layer.out, layer.in, [&](const float *panel, int64_t first, int64_t left) {
                        if (left > LANES)
                            backward_panel<2>(layer, rows, stride, count, panel, first, mask, read_stride, to, to_stride,
                                              before);
                        else
                            backward_panel<1>(layer, rows, stride, count, panel, first, mask, read_stride, to, to_stride,
                                              before);
                    });
                    rows = to;
                }
            }
        }
        const float *sum = parts + 3 * stack.scratch();
        for (int64_t i = 0; i < stack.count; sum += stack.layers[i].out * (stack.layers[i].in + 1), i++) {
            const Layer &layer = stack.layers[i];
            const int64_t weights = layer.out * layer.in, all = weights + layer.out;
#pragma omp for schedule(static) nowait
            for (int64_t k = 0; k < all; k++) {
                float total = sum[k];
                for (int64_t part = 1; part < threads; part++) total += sum[part * own + k];
                float *to = k < weights ? layer.weight_gradient : layer.bias_gradient;
                if (to) to[k < weights ? k : k - weights] = total;
            }
        }
    }
}
}
