// The softmax cross-entropy of each query's positive among all candidates, and its gradients. The scores of a few
// queries are kept until their gradients are made, or else computed again: all of them are never in memory. Candidates
// with the id of the query's positive take no part, apart from that positive.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "exponential.h"

namespace {
constexpr int64_t FORWARD_ROWS = ROWS * 12, BACKWARD_ROWS = ROWS * 8;  // queries that meet a panel while it is in the cache
constexpr float HEADROOM = 60;  // how far scores may exceed the reference before it moves: exp(60) is still harmless
constexpr int64_t FLUSH = 64;   // panels whose sums are float, before they go to a double

// One tile of scores plus the bias of each column; -inf where a column has the id of the row's positive.
inline __attribute__((always_inline)) void biased_tile(const float *queries, const float *panel, const float *bias,
                                                       const int32_t *ids, const int32_t *row_ids, int64_t dim,
                                                       Vec scores[ROWS][2]) {
    score_tile(queries, panel, dim, scores);
    const Vec infinite = Vec{} - INFINITY;
    for (int half = 0; half < 2; half++) {
        const Vec add = load(bias + half * LANES);
        const IntVec id = *reinterpret_cast<const IntVec *>(ids + half * LANES);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++)
            scores[row][half] = id == row_ids[row] ? infinite : scores[row][half] + add;
    }
}

template <int HALVES>  // gradient (ROWS, stride) += weights (ROWS, WIDTH) x candidates (WIDTH, stride), some columns of it
inline __attribute__((always_inline)) void add_query_gradient(const float *weights, const float *candidates,
                                                              int64_t stride, float *gradient) {
    Vec sums[ROWS][HALVES];
    for (int row = 0; row < ROWS; row++)
        for (int half = 0; half < HALVES; half++) sums[row][half] = load(gradient + row * stride + half * LANES);
    for (int lane = 0; lane < WIDTH; lane++) {
        Vec candidate[HALVES];
        for (int half = 0; half < HALVES; half++) candidate[half] = load(candidates + lane * stride + half * LANES);
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++)
            for (int half = 0; half < HALVES; half++) sums[row][half] += weights[row * WIDTH + lane] * candidate[half];
    }
    for (int row = 0; row < ROWS; row++)
        for (int half = 0; half < HALVES; half++) store(gradient + row * stride + half * LANES, sums[row][half]);
}

constexpr int DEPTH = ROWS > 8 ? 8 : 4;  // dimensions at a time: a power of 2, as most vectors are long

template <int COUNT>  // gradient (COUNT, WIDTH) += queries (COUNT of dim, ROWS) x weights (ROWS, WIDTH), tile after tile
inline __attribute__((always_inline)) void add_panel_gradient(const float *queries, const float *weights, int64_t dim,
                                                              int64_t tiles, float *gradient) {
    Vec sums[COUNT][2];
    for (int k = 0; k < COUNT; k++)
        for (int half = 0; half < 2; half++) sums[k][half] = load(gradient + k * WIDTH + half * LANES);
    for (int64_t tile = 0; tile < tiles; tile++, queries += dim * ROWS)
        for (int row = 0; row < ROWS; row++, weights += WIDTH) {
            const Vec left = load(weights), right = load(weights + LANES);
#pragma GCC unroll 16
            for (int k = 0; k < COUNT; k++) {
                sums[k][0] += queries[k * ROWS + row] * left;
                sums[k][1] += queries[k * ROWS + row] * right;
            }
        }
    for (int k = 0; k < COUNT; k++)
        for (int half = 0; half < 2; half++) store(gradient + k * WIDTH + half * LANES, sums[k][half]);
}

// What a few queries know of themselves while they meet all candidates.
struct Queries {
    int64_t count, tiles;
    std::vector<float> packed, base, sums;
    std::vector<int32_t> ids;
    std::vector<double> total;

    Queries(const float *queries, int64_t count, int64_t dim, const float *reference, const int32_t *positive_ids)
        : count(count), tiles((count + ROWS - 1) / ROWS), packed(tiles * ROWS * dim), base(tiles * ROWS, INFINITY),  // so that rows that fill up a tile weigh nothing
          sums(tiles * ROWS * LANES), ids(tiles * ROWS, -1), total(count) {
        pack_queries(queries, count, dim, packed.data());
        std::copy_n(reference, count, base.data());
        std::copy_n(positive_ids, count, ids.data());
    }
    void flush(int64_t row) {
        for (int lane = 0; lane < LANES; lane++) total[row] += sums[row * LANES + lane];
        std::fill_n(&sums[row * LANES], LANES, 0.0f);
    }
    void flush() {
        for (int64_t row = 0; row < count; row++) flush(row);
    }
    // Raise the base of rows of a tile that have scores far above it.
    void raise(int64_t tile, const Vec scores[ROWS][2]) {
        for (int64_t row = tile * ROWS; row < std::min(count, (tile + 1) * ROWS); row++) {
            float best = base[row];
            for (int lane = 0; lane < WIDTH; lane++)
                best = std::max(best, scores[row - tile * ROWS][lane / LANES][lane % LANES]);
            if (!(best > base[row] + HEADROOM)) continue;
            flush(row);
            total[row] *= exp(double(base[row]) - best);
            base[row] = best;
        }
    }
};

// Add up exp(score - base) over all candidates, and with KEEP write each to `kept`, (panels, tiles, ROWS, WIDTH). Returns
// whether a base was raised, after which what was kept before is too large.
template <bool KEEP>
bool sum_exponentials(Queries &queries, int64_t dim, const float *panels, int64_t num_panels, const float *bias,
                      const int32_t *ids, float *kept) {
    bool raised = false;
    for (int64_t panel = 0; panel < num_panels; panel++) {
        for (int64_t tile = 0; tile < queries.tiles; tile++) {
            Vec scores[ROWS][2];
            biased_tile(queries.packed.data() + tile * ROWS * dim, panels + panel * dim * WIDTH, bias + panel * WIDTH,
                        ids + panel * WIDTH, queries.ids.data() + tile * ROWS, dim, scores);
            const float *bases = queries.base.data() + tile * ROWS;
            IntVec high = {};
#pragma GCC unroll 16
            for (int row = 0; row < ROWS; row++)
                high |= (scores[row][0] > bases[row] + HEADROOM) | (scores[row][1] > bases[row] + HEADROOM);
            if (__builtin_expect(any(high), 0)) {
                queries.raise(tile, scores);
                raised = true;
            }
            float *into = queries.sums.data() + tile * ROWS * LANES;
#pragma GCC unroll 16
            for (int row = 0; row < ROWS; row++) {
                const Vec left = exponential(scores[row][0] - bases[row]);
                const Vec right = exponential(scores[row][1] - bases[row]);
                store(into + row * LANES, load(into + row * LANES) + left + right);
                if (KEEP) {
                    store(kept + row * WIDTH, left);
                    store(kept + row * WIDTH + LANES, right);
                }
            }
            if (KEEP) kept += ROWS * WIDTH;
        }
        if (panel % FLUSH == FLUSH - 1) queries.flush();
    }
    queries.flush();
    return raised;
}

// gradients of queries and of a panel += what weights (tiles, ROWS, WIDTH) make of the other side
inline void add_gradients(const float *packed, const float *weights, int64_t tiles, int64_t dim, const float *candidates,
                          int64_t stride, float *query_gradients, float *panel_gradient) {
    for (int64_t tile = 0; tile < tiles; tile++) {
        const float *mine = weights + tile * ROWS * WIDTH;
        float *gradients = query_gradients + tile * ROWS * stride;
        int64_t column = 0;
        for (; column + WIDTH <= stride; column += WIDTH)
            add_query_gradient<2>(mine, candidates + column, stride, gradients + column);
        if (column < stride) add_query_gradient<1>(mine, candidates + column, stride, gradients + column);
    }
    int64_t k = 0;
    for (; k + DEPTH <= dim; k += DEPTH)
        add_panel_gradient<DEPTH>(packed + k * ROWS, weights, dim, tiles, panel_gradient + k * WIDTH);
    for (; k < dim; k++) add_panel_gradient<1>(packed + k * ROWS, weights, dim, tiles, panel_gradient + k * WIDTH);
}
}  // namespace

extern "C" {

// others[i] = the sum over the other candidates of exp(score - reference[i]). reference comes as the score of the
// positive, and is raised where others are far above it. bias and ids have an entry for every lane of every panel.
void softmax_forward(int64_t threads, int64_t num_queries, int64_t dim, int64_t num_panels,
                     const float *queries /* (num_queries, dim) */, const float *panels /* (num_panels, dim, WIDTH) */,
                     const float *bias /* (num_panels, WIDTH) */, const int32_t *ids /* (num_panels, WIDTH) */,
                     const int32_t *positive_ids /* (num_queries) */, float *reference /* (num_queries) */,
                     float *others /* (num_queries) */) {
    const int64_t share = (num_queries + threads - 1) / threads;
    const int64_t size = std::min(FORWARD_ROWS, (share + ROWS - 1) / ROWS * ROWS);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t first = 0; first < num_queries; first += size) {
        const int64_t count = std::min(size, num_queries - first);
        Queries some(queries + first * dim, count, dim, reference + first, positive_ids + first);
        sum_exponentials<false>(some, dim, panels, num_panels, bias, ids, nullptr);
        std::copy_n(some.base.data(), count, reference + first);
        for (int64_t row = 0; row < count; row++) others[first + row] = float(some.total[row]);
    }
}

// Both at once, where the exponentials of `tiles` tiles of queries stay in the cache: what softmax_forward does, and the
// gradients of sum_i weight[i] * log(others[i] + exp(own[i] - reference[i])) but for the positives, as softmax_backward
// gives them, with a copy of the panels' for each thread. num_queries need not be a multiple of anything; padded_queries
// is the next multiple of the rows of `tiles` tiles.
void softmax_both(int64_t threads, int64_t num_queries, int64_t dim, int64_t num_panels, int64_t stride, int64_t tiles,
                  int64_t padded_queries, const float *queries /* (num_queries, dim) */,
                  const float *panels /* (num_panels, dim, WIDTH) */,
                  const float *candidates /* (num_panels, WIDTH, stride) */, const float *bias /* (num_panels, WIDTH) */,
                  const int32_t *ids /* (num_panels, WIDTH) */, const int32_t *positive_ids /* (num_queries) */,
                  const float *own /* (num_queries) */, const float *weight /* (num_queries) */,
                  float *reference /* (num_queries) */, float *others /* (num_queries) */,
                  float *query_gradients /* (padded_queries, stride) */,
                  float *panel_gradients /* (threads, num_panels, dim, WIDTH) */) {
    const int64_t size = tiles * ROWS, blocks = (num_queries + size - 1) / size;
#pragma omp parallel for num_threads(threads)
    for (int64_t copy = 0; copy < threads; copy++) {
        const std::unique_ptr<float[]> kept(new float[num_panels * size * WIDTH]);
        float *gradients = panel_gradients + copy * num_panels * dim * WIDTH;
        for (int64_t block = blocks * copy / threads; block < blocks * (copy + 1) / threads; block++) {
            const int64_t first = block * size, count = std::min(size, num_queries - first);
            Queries some(queries + first * dim, count, dim, reference + first, positive_ids + first);
            while (sum_exponentials<true>(some, dim, panels, num_panels, bias, ids, kept.get()))
                std::fill(some.total.begin(), some.total.end(), 0.0);  // again, with the bases that fit
            std::vector<float> factor(some.tiles * ROWS);
            for (int64_t row = 0; row < count; row++) {
                reference[first + row] = some.base[row];
                others[first + row] = float(some.total[row]);
                const float mass = others[first + row] + expf(own[first + row] - some.base[row]);
                factor[row] = weight[first + row] == 0 ? 0 : weight[first + row] / mass;
            }
            for (int64_t panel = 0; panel < num_panels; panel++) {
                float *weights = kept.get() + panel * some.tiles * ROWS * WIDTH;
                for (int64_t row = 0; row < some.tiles * ROWS; row++)
                    for (int half = 0; half < 2; half++) {
                        float *at = weights + row * WIDTH + half * LANES;
                        store(at, load(at) * factor[row]);
                    }
                add_gradients(some.packed.data(), weights, some.tiles, dim, candidates + panel * WIDTH * stride, stride,
                              query_gradients + first * stride, gradients + panel * dim * WIDTH);
            }
        }
    }
}

// Gradients of sum_ij factor[i] * exp(score_ij - reference[i]) but for the positives. Candidates come as panels and as rows
// of `stride` floats, a multiple of the lanes; one gradient comes out as panels, the other as `copies` (one a thread) of
// rows of queries, to be added up. Both must be zeros; num_queries is a multiple of the rows of a tile.
void softmax_backward(int64_t threads, int64_t num_queries, int64_t dim, int64_t num_panels, int64_t stride,
                      const float *queries /* (num_queries, dim) */,
                      const float *panels /* (num_panels, dim, WIDTH) */,
                      const float *candidates /* (num_panels, WIDTH, stride) */,
                      const float *bias /* (num_panels, WIDTH) */, const int32_t *ids /* (num_panels, WIDTH) */,
                      const int32_t *positive_ids /* (num_queries) */, const float *reference /* (num_queries) */,
                      const float *factor /* (num_queries) */, float *query_gradients /* (threads, num_queries, stride) */,
                      float *panel_gradients /* (num_panels, dim, WIDTH) */) {
    std::vector<float> packed(num_queries * dim);
    pack_queries(queries, num_queries, dim, packed.data());
#pragma omp parallel for num_threads(threads)
    for (int64_t copy = 0; copy < threads; copy++) {
        float *gradients = query_gradients + copy * num_queries * stride;
        std::vector<float> weights(BACKWARD_ROWS * WIDTH);
        for (int64_t panel = num_panels * copy / threads; panel < num_panels * (copy + 1) / threads; panel++)
            for (int64_t first = 0; first < num_queries; first += BACKWARD_ROWS) {
                const int64_t tiles = std::min(BACKWARD_ROWS, num_queries - first) / ROWS;
                for (int64_t tile = 0; tile < tiles; tile++) {
                    const int64_t start = first + tile * ROWS;
                    Vec scores[ROWS][2];
                    biased_tile(packed.data() + start * dim, panels + panel * dim * WIDTH, bias + panel * WIDTH,
                                ids + panel * WIDTH, positive_ids + start, dim, scores);
                    float *mine = weights.data() + tile * ROWS * WIDTH;
#pragma GCC unroll 16
                    for (int row = 0; row < ROWS; row++)
                        for (int half = 0; half < 2; half++)
                            store(mine + row * WIDTH + half * LANES,
                                  exponential(scores[row][half] - reference[start + row]) * factor[start + row]);
                }
                add_gradients(packed.data() + first * dim, weights.data(), tiles, dim, candidates + panel * WIDTH * stride,
                              stride, gradients + first * stride, panel_gradients + panel * dim * WIDTH);
            }
    }
}
}
