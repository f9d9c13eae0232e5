// Ranks and best candidates over a whole corpus: scores never leave the registers they were computed in.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "scores.h"

namespace {
constexpr int64_t BLOCK = ROWS * 12;  // queries that share a pass over the panels: they stay in the cache

int64_t block_size(int64_t num_queries, int64_t threads) {
    const int64_t share = (num_queries + threads - 1) / threads;
    return std::min(BLOCK, (share + ROWS - 1) / ROWS * ROWS);
}

int64_t key_of(float score, int64_t row) {  // orders by score, then by row; the layout is that of index/top_k.py
    score += 0.0f;
    int32_t bits;
    memcpy(&bits, &score, sizeof bits);
    if (bits < 0) bits ^= 0x7fffffff;
    return int64_t(uint64_t(uint32_t(bits)) << 32 | uint64_t(0xffffffff - row));
}

float score_of(int64_t key) {
    int32_t bits = int32_t(key >> 32);
    if (bits < 0) bits ^= 0x7fffffff;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

// The excluded rows of one query, each once, in order.
void distinct(const int64_t *first, const int64_t *last, std::vector<int64_t> &rows) {
    rows.assign(first, last);
    if (!std::is_sorted(rows.begin(), rows.end())) std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}
}  // namespace

extern "C" {

// The rows and columns of a tile, and the lanes of a register, to which other layouts are filled up.
void tile_shape(int64_t, int64_t *shape) { shape[0] = ROWS, shape[1] = WIDTH, shape[2] = LANES; }

// How many ways to cut the candidates so that all threads have work.
void num_segments(int64_t threads, int64_t num_queries, int64_t *segments) {
    const int64_t size = block_size(num_queries, threads);
    *segments = std::max<int64_t>(1, threads * size / (num_queries + size - 1));
}

// Lay out candidates (count, dim), in an order or as they come, as panels (dim, WIDTH) filled up with zeros.
void pack_panels(int64_t threads, const float *candidates, const int64_t *order, int64_t count, int64_t dim,
                 float *panels) {
    const int64_t num_panels = (count + WIDTH - 1) / WIDTH;
#pragma omp parallel for num_threads(threads)
    for (int64_t panel = 0; panel < num_panels; panel++) {
        float *to = panels + panel * dim * WIDTH;
        for (int64_t lane = 0; lane < WIDTH; lane++) {
            const int64_t place = panel * WIDTH + lane;
            const float *from = place < count ? candidates + (order ? order[place] : place) * dim : nullptr;
            for (int64_t k = 0; k < dim; k++) to[k * WIDTH + lane] = from ? from[k] : 0;
        }
    }
}

// Count the candidates that come before each query's positive: those with a higher score, and those with an equal one
// at an earlier place. Excluded candidates do not count; theirs and the positives' numbers are rows of `candidates`.
void count_better(int64_t threads, const float *queries, int64_t num_queries, int64_t dim, const float *candidates,
                  int64_t num_candidates, const float *panels, const int64_t *place_of, const int64_t *positives,
                  const int64_t *excluded, const int64_t *offsets, int64_t *better) {
    const int64_t size = block_size(num_queries, threads), num_panels = (num_candidates + WIDTH - 1) / WIDTH;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t first = 0; first < num_queries; first += size) {
        const int64_t count = std::min(size, num_queries - first), tiles = (count + ROWS - 1) / ROWS;
        std::vector<float> packed(tiles * ROWS * dim), positive(count);
        std::vector<float> bound(tiles * ROWS, INFINITY);  // what a score must exceed to count
        std::vector<int64_t> turn(tiles * ROWS, -1);       // the panel of the positive, behind which ties do not count
        std::vector<int32_t> counts(tiles * ROWS * LANES);
        pack_queries(queries + first * dim, count, dim, packed.data());
        for (int64_t row = 0; row < count; row++) {
            const int64_t candidate = positives[first + row];
            positive[row] = dot(queries + (first + row) * dim, candidates + candidate * dim, dim);
            bound[row] = nextafterf(positive[row], -INFINITY);
            if (!(positive[row] > bound[row])) bound[row] = -FLT_MIN;  // where the processor takes tiny numbers for 0
            turn[row] = place_of[candidate] / WIDTH;
        }
        for (int64_t panel = 0; panel < num_panels; panel++) {
            const int lanes = int(std::min<int64_t>(WIDTH, num_candidates - panel * WIDTH));
            for (int64_t tile = 0; tile < tiles; tile++) {
                Vec scores[ROWS][2];
                score_tile(packed.data() + tile * ROWS * dim, panels + panel * dim * WIDTH, dim, scores);
                const float *bounds = bound.data() + tile * ROWS;
                IntVec *into = reinterpret_cast<IntVec *>(counts.data()) + tile * ROWS;
                if (lanes == WIDTH)
#pragma GCC unroll 16
                    for (int row = 0; row < ROWS; row++)
                        into[row] -= (scores[row][0] > bounds[row]) + (scores[row][1] > bounds[row]);
                else
                    for (int row = 0; row < ROWS; row++)
                        for (int lane = 0; lane < lanes; lane++)
                            into[row][0] += scores[row][lane / LANES][lane % LANES] > bounds[row];
                for (int row = 0; row < ROWS; row++) {
                    const int64_t query = tile * ROWS + row;
                    if (__builtin_expect(turn[query] != panel, 1)) continue;
                    const int at = int(place_of[positives[first + query]] % WIDTH);
                    for (int lane = at; lane < lanes; lane++)
                        into[row][0] -= scores[row][lane / LANES][lane % LANES] == positive[query];
                    bound[query] = positive[query];
                }
            }
        }
        std::vector<int64_t> rows;
        std::vector<float> scores_of;
        for (int64_t row = 0; row < count; row++) {
            int64_t total = std::accumulate(&counts[row * LANES], &counts[(row + 1) * LANES], int64_t(0));
            if (excluded) {
                const float *query = queries + (first + row) * dim;
                const int64_t place = place_of[positives[first + row]];
                distinct(excluded + offsets[first + row], excluded + offsets[first + row + 1], rows);
                scores_of.resize(rows.size());
                dots(query, candidates, rows.data(), rows.size(), dim, scores_of.data());
                for (size_t i = 0; i < rows.size(); i++)
                    total -= scores_of[i] > positive[row] ||
                             (scores_of[i] == positive[row] && place_of[rows[i]] < place);
            }
            better[first + row] = total;
        }
    }
}

// Add a block of candidates to the best found so far. Each (segment, query) has `capacity` places for keys, more than
// k; the first sizes[...] of them are in use, and bounds[...] is what a score must exceed to enter.
void best_candidates(int64_t threads, const float *queries, int64_t num_queries, int64_t dim, const float *panels,
                     int64_t num_candidates, int64_t first_row, int64_t k, int64_t capacity, int64_t segments,
                     const int64_t *excluded, const int64_t *offsets, int64_t *keys, int64_t *sizes, float *bounds) {
    const int64_t size = block_size(num_queries, threads), num_panels = (num_candidates + WIDTH - 1) / WIDTH;
    const int64_t blocks = (num_queries + size - 1) / size;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t task = 0; task < blocks * segments; task++) {
        const int64_t first = task % blocks * size, segment = task / blocks;
        const int64_t count = std::min(size, num_queries - first), tiles = (count + ROWS - 1) / ROWS;
        std::vector<float> packed(tiles * ROWS * dim), bound(tiles * ROWS, INFINITY);
        pack_queries(queries + first * dim, count, dim, packed.data());
        const int64_t state = segment * num_queries + first;
        std::vector<std::vector<int64_t>> barred(excluded ? count : 0);
        for (size_t row = 0; row < barred.size(); row++)
            distinct(excluded + offsets[first + row], excluded + offsets[first + row + 1], barred[row]);
        std::copy_n(bounds + state, count, bound.data());
        for (int64_t panel = num_panels * segment / segments; panel < num_panels * (segment + 1) / segments; panel++) {
            const int lanes = int(std::min<int64_t>(WIDTH, num_candidates - panel * WIDTH));
            for (int64_t tile = 0; tile < tiles; tile++) {
                Vec scores[ROWS][2];
                score_tile(packed.data() + tile * ROWS * dim, panels + panel * dim * WIDTH, dim, scores);
                IntVec enters[ROWS], some = {};
#pragma GCC unroll 16
                for (int row = 0; row < ROWS; row++) {
                    const float limit = bound[tile * ROWS + row];
                    some |= enters[row] = (scores[row][0] > limit) | (scores[row][1] > limit);
                }
                if (__builtin_expect(!any(some), 1)) continue;
                for (int row = 0; row < ROWS; row++) {
                    const int64_t query = tile * ROWS + row;
                    if (!any(enters[row])) continue;
                    int64_t *mine = keys + (state + query) * capacity, &used = sizes[state + query];
                    for (int lane = 0; lane < lanes; lane++) {
                        const float score = scores[row][lane / LANES][lane % LANES];
                        if (!(score > bound[query])) continue;
                        const int64_t candidate = first_row + panel * WIDTH + lane;
                        if (excluded && std::binary_search(barred[query].begin(), barred[query].end(), candidate))
                            continue;
                        mine[used++] = key_of(score, candidate);
                        if (used == capacity) {
                            std::nth_element(mine, mine + k - 1, mine + used, std::greater<int64_t>());
                            used = k;
                            bound[query] = score_of(mine[k - 1]);
                        }
                    }
                }
            }
        }
        std::copy_n(bound.data(), count, bounds + state);
    }
}
// Sort what best_candidates found: the k best keys of each query, behind them `missing`.
void take_best(int64_t threads, const int64_t *keys, const int64_t *sizes, int64_t num_queries, int64_t capacity,
               int64_t segments, int64_t k, int64_t missing, int64_t *best) {
#pragma omp parallel for num_threads(threads)
    for (int64_t query = 0; query < num_queries; query++) {
        std::vector<int64_t> all;
        for (int64_t segment = 0; segment < segments; segment++) {
            const int64_t state = segment * num_queries + query;
            all.insert(all.end(), keys + state * capacity, keys + state * capacity + sizes[state]);
        }
        if (int64_t(all.size()) < k) all.resize(k, missing);
        std::partial_sort_copy(all.begin(), all.end(), best + query * k, best + (query + 1) * k,
                               std::greater<int64_t>());
    }
}
}
